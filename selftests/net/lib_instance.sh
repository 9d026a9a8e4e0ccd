# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What the functional tests share beside lib/tap.sh: one instance, cman1, of the file $T/cman.conf with
# run_dir $T/run; ports 7001… are listeners, 9001… targets. Sourced after run_in_own_netns.

CTL=$CMAN_BIN/cmanctl
BENCH=$CMAN_BIN/cman-bench
PEER=$CMAN_TESTBIN/net/peer
RUN=$T/run
need_cmd jq ss
[ -x "$CTL" ] && [ -x "$CMAN_BIN/cmand" ] && [ -x "$PEER" ] || bail "$CMAN_BUILD is not built"
# ports are used again and again: no TIME_WAIT may be in the way
sysctl -qw net.ipv4.ip_local_port_range="20000 60999" net.ipv4.tcp_tw_reuse=1
# how much a connection may buffer is the same everywhere
sysctl -qw net.ipv4.tcp_rmem="4096 131072 4194304" net.ipv4.tcp_wmem="4096 16384 4194304"

# ctl ARGUMENT…: cmanctl for cman.conf, without a terminal
ctl() { "$CTL" -f "$T/cman.conf" "$@" < /dev/null; }

# conf: standard input becomes cman.conf, @RUN@ is the run directory
conf() { sed "s|@RUN@|$RUN|g" > "$T/cman.conf"; }

# up: starts the instance, or ends the test
up() {
	local out
	out=$(ctl startup 2>&1) || bail "startup: $out"
}

# down: ends it, with what it has
down() { ctl shutdown --abort -q -y; }

# field FILTER [ALIAS]: of status
field() { ctl ${2:+-c "$2"} status --json | jq -r "$1"; }

# show WHAT FILTER [OPTION…]: jq over a table
show() {
	local what=$1 filter=$2
	shift 2
	ctl show "$what" --json "$@" | jq -r "$filter"
}

sessions_are() { [ "$(field .sessions)" = "$1" ]; }
# wait_sessions N [SECONDS]
wait_sessions() { wait_for "${2:-5}" sessions_are "$1"; }
# sum FIELD: of all gateways
sum() { show gateways "map(.$1) | add"; }

# pair DESCRIPTION CONNECT LISTEN server-words… -- client-words…: see peer.c
pair() {
	local what=$1
	shift
	ok "$what" "$PEER" pair "$@"
}

# cell_pids: gateways and keepers, but for one that is just being replaced; all_pids: the manager too
cell_pids() { show gateways '.[] | .pid, .keepers[] | values'; }
all_pids() { field .pid; cell_pids; }
# can_rekey: can the kernel replace keys of TLS? As the manager of a running instance has found out
can_rekey() {
	bpftool -j map dump pinned /sys/fs/bpf/cman/cman1/instance | jq -e '.[0].formatted.value.ktls_rekey == 1' > /dev/null
}
# gateway_pid: of the first gateway; waits while it is being replaced
gateway_pid() { wait_for 5 _gateway_pid && cat "$T/gateway.pid"; }
_gateway_pid() { show gateways '.[0].pid | values' > "$T/gateway.pid" && [ -s "$T/gateway.pid" ]; }
# nfds PID…: descriptors, one line a process
nfds() {
	local p
	for p in "$@"; do
		find "/proc/$p/fd" -mindepth 1 -maxdepth 1 2> /dev/null | wc -l
	done
}

# exec_on HOST COMMAND…: becomes the command, on that host (host_add), or here when it is empty. On a slow
# machine what makes the load yields to what is tested.
exec_on() {
	[ -z "${CMAN_SLOW-}" ] || set -- "$1" nice -n 15 "${@:2}"
	[ -z "$1" ] || exec nsenter -t "$(host_pid "$1")" -n -m -- "${@:2}"
	exec "${@:2}"
}

# serve NAME ARGUMENT…: cman-bench serve in the background, NAME_PID; waits until it is ready. On the
# host $ON, if that is set; so does bench.
serve() {
	local name=$1
	shift
	rm -f "$T/$name.ready"
	exec_on "${ON-}" "$BENCH" serve --ready-file "$T/$name.ready" "$@" > "$T/$name.out" 2>&1 &
	printf -v "${name}_PID" '%s' $!
	track $!
	wait_for 5 test -e "$T/$name.ready" || bail "serve $name is not ready: $(cat "$T/$name.out")"
}

# bench NAME VERB ARGUMENT…: in the background with a report in $T/NAME.json; waits until it is ready
bench() {
	local name=$1 verb=$2
	shift 2
	rm -f "$T/$name.ready"
	exec_on "${ON-}" "$BENCH" "$verb" --ready-file "$T/$name.ready" --json "$@" > "$T/$name.json" 2> "$T/$name.err" &
	printf -v "${name}_PID" '%s' $!
	track $!
	wait_for 15 test -e "$T/$name.ready" || bail "$verb $name is not ready: $(cat "$T/$name.err")"
}

# bench_end NAME: ends it and waits for its report
bench_end() {
	local v=${1}_PID
	kill -TERM "${!v}" 2> /dev/null
	wait "${!v}" 2> /dev/null
	return 0
}

# report NAME FILTER: jq over its report
report() { jq -r "$2" "$T/$1.json"; }
