# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What shell tests share: TAP output, waiting with a deadline, namespaces, and cleaning up whatever
# happens. A test sources this file, calls run_in_own_netns (or not), then tests, and simply ends:
#
#	. "$(dirname "$0")/../lib/tap.sh"
#	run_in_own_netns "$@"
#	"$CMAN_BIN/cmand" -f "$T/cman.conf" & track $!
#	wait_for 5 test -S "$T/cman1.sock"
#	is "$("$CMAN_BIN/cmanctl" …)" running "the instance runs"
#
# Without plan() the plan is printed at the end. The exit status is 1 when a test failed.
#
# For the caller: $CMAN_ROOT the source tree, $CMAN_BUILD the build folder (absolute), $CMAN_BIN its
# programs, $CMAN_TESTBIN its test helpers (net/NAME, fault/NAME), $CMAN_CRASH_BIN and
# $CMAN_CRASH_TESTBIN the variant with crash points, $CMAN_NEXT_BIN the next release, $T a private
# folder that is removed at the end. The runner reads a line "# timeout: SECONDS" of a test.

set -u

TAP_SELF=$(readlink -f "$0")
CMAN_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
_abs() { case $1 in /*) echo "$1" ;; *) echo "$CMAN_ROOT/$1" ;; esac; }
CMAN_BUILD=$(_abs "${CMAN_BUILD:-build}")
CMAN_CRASH_BUILD=$(_abs "${CMAN_CRASH_BUILD:-build/crash}")
CMAN_NEXT_BUILD=$(_abs "${CMAN_NEXT_BUILD:-build/next}")
CMAN_BIN=$CMAN_BUILD/bin
CMAN_TESTBIN=$CMAN_BUILD/tests
CMAN_CRASH_BIN=$CMAN_CRASH_BUILD/bin
CMAN_CRASH_TESTBIN=$CMAN_CRASH_BUILD/tests
CMAN_NEXT_BIN=$CMAN_NEXT_BUILD/bin
export CMAN_ROOT CMAN_BUILD CMAN_BIN CMAN_TESTBIN CMAN_CRASH_BUILD CMAN_CRASH_BIN
export CMAN_CRASH_TESTBIN CMAN_NEXT_BUILD CMAN_NEXT_BIN
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

_tap_n=0 _tap_failed=0 _tap_planned='' _tap_over=''
_tap_pids=() _tap_undo=() _tap_netns=()

# --- results

_tap_result() {	# ok|not ok, description
	_tap_n=$((_tap_n + 1))
	[ "$1" = ok ] || _tap_failed=$((_tap_failed + 1))
	# a '#' would start a directive
	printf '%s %d - %s\n' "$1" "$_tap_n" "${2//#/}"
}

# plan N: how many tests will follow
plan() {
	_tap_planned=$1
	printf '1..%s\n' "$1"
}

# diag TEXT…: a comment in the log
diag() {
	printf '%s\n' "$*" | sed 's/^/# /'
}

# ok DESCRIPTION [COMMAND…]: passes; with a command, passes when it succeeds (else its output is shown).
# The command runs in a subshell.
ok() {
	local what=$1 out rc=0
	shift
	if [ $# -gt 0 ]; then
		out=$("$@" 2>&1) || rc=$?
		if [ $rc != 0 ]; then
			_tap_result "not ok" "$what"
			diag "exit status $rc of: $*"
			[ -z "$out" ] || diag "$out"
			return 1
		fi
	fi
	_tap_result ok "$what"
}

# not_ok DESCRIPTION [DIAGNOSTIC…]: fails
not_ok() {
	_tap_result "not ok" "$1"
	shift
	[ $# = 0 ] || diag "$@"
	return 1
}

# fails DESCRIPTION COMMAND…: passes when the command does not succeed
fails() {
	local what=$1 out rc=0
	shift
	out=$("$@" 2>&1) || rc=$?
	[ $rc = 0 ] || { _tap_result ok "$what"; return; }
	not_ok "$what" "succeeded: $*${out:+
$out}"
}

# exits STATUS DESCRIPTION COMMAND…: passes when the command ends with this exit status
exits() {
	local want=$1 what=$2 out rc=0
	shift 2
	out=$("$@" 2>&1) || rc=$?
	[ "$rc" != "$want" ] || { _tap_result ok "$what"; return; }
	not_ok "$what" "exit status $rc, wanted $want, of: $*${out:+
$out}"
}

# is GOT WANTED DESCRIPTION
is() {
	[ "$1" != "$2" ] || { _tap_result ok "$3"; return; }
	not_ok "$3" "got:    $1
wanted: $2"
}

# isnt GOT UNWANTED DESCRIPTION
isnt() {
	[ "$1" = "$2" ] || { _tap_result ok "$3"; return; }
	not_ok "$3" "got what was not wanted: $1"
}

# like GOT REGEX DESCRIPTION
like() {
	[[ $1 =~ $2 ]] && { _tap_result ok "$3"; return; }
	not_ok "$3" "got:           $1
wanted a match: $2"
}

# cmp_num A OP B DESCRIPTION: OP is one of < <= > >= == !=; decimals are fine
cmp_num() {
	case $2 in '<' | '<=' | '>' | '>=' | '==' | '!=') ;; *) bail "cmp_num: operator $2?" ;; esac
	local num='^[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?$'
	if [[ $1 =~ $num && $3 =~ $num ]] && awk "BEGIN { exit !(($1) $2 ($3)) }"; then
		_tap_result ok "$4"
	else
		not_ok "$4" "wanted: $1 $2 $3"
	fi
}

# skip REASON [N]: N tests (1) are skipped; the reason must be in selftests/lib/known-skips
skip() {
	local i
	for ((i = 0; i < ${2:-1}; i++)); do
		_tap_n=$((_tap_n + 1))
		printf 'ok %d - # SKIP %s\n' "$_tap_n" "$1"
	done
}

# skip_all REASON: the whole file is skipped; ends the test
skip_all() {
	_tap_over=1
	printf '1..0 # SKIP %s\n' "$1"
	exit 0
}

# bail REASON: nothing more can be tested; ends the test as failed
bail() {
	_tap_over=1
	printf 'Bail out! %s\n' "$*"
	exit 1
}

# --- waiting

# wait_for SECONDS COMMAND…: until the command succeeds; fails at the deadline, which is CMAN_SLOW times
# later on a machine that is that much slower
wait_for() {
	local deadline=$((${EPOCHREALTIME/[.,]/} + ${CMAN_SLOW:-1} * $(_usec "$1"))) pause=0.005
	shift
	while ! "$@" > /dev/null 2>&1; do
		[ "${EPOCHREALTIME/[.,]/}" -lt "$deadline" ] || return 1
		sleep $pause
		case $pause in 0.005) pause=0.01 ;; 0.01) pause=0.02 ;; *) pause=0.05 ;; esac
	done
}
_usec() { awk -v s="$1" 'BEGIN { printf "%d", s * 1000000 }'; }

# now_ms: the monotonic time in milliseconds
now_ms() { awk '{ printf "%d\n", $1 * 1000 }' /proc/uptime; }

# is_gone PID: no such process, or only its zombie
is_gone() {
	local s
	[ -r "/proc/$1/stat" ] || return 0
	s=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) || return 0
	[ -z "$s" ] || [ "$s" = Z ] || [ "$s" = X ]
}

# listens PORT: somebody listens on this TCP port in this namespace
listens() { [ -n "$(ss -Hltn "sport = :$1")" ]; }

# --- cleaning up, also after a failure or a signal

# track PID…: killed by pid (TERM, then KILL) at the end
track() { _tap_pids+=("$@"); }

# at_exit COMMAND…: run at the end, the last one first
at_exit() {
	local c
	printf -v c '%q ' "$@"
	_tap_undo+=("$c")
}

# stop PID [SECONDS]: TERM, after SECONDS (5) KILL, and wait until it is gone
stop() {
	kill -TERM "$1" 2>/dev/null || return 0
	wait_for "${2:-5}" is_gone "$1" || kill -KILL "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	return 0
}

_tap_cleanup() {
	local rc=$? i p
	trap '' INT TERM HUP
	trap - EXIT
	for ((i = ${#_tap_undo[@]} - 1; i >= 0; i--)); do
		eval "${_tap_undo[i]}" > /dev/null 2>&1 < /dev/null
	done
	for p in ${_tap_pids[@]+"${_tap_pids[@]}"}; do
		kill -TERM "$p" 2>/dev/null
	done
	for p in ${_tap_pids[@]+"${_tap_pids[@]}"}; do
		wait_for 2 is_gone "$p" || kill -KILL "$p" 2>/dev/null
	done
	for p in ${_tap_netns[@]+"${_tap_netns[@]}"}; do
		ip netns del "$p" 2>/dev/null
	done
	[ -z "${T-}" ] || rm -rf "$T"
	if [ -z "$_tap_over" ]; then
		if [ -z "$_tap_planned" ]; then
			printf '1..%d\n' "$_tap_n"
		elif [ "$_tap_planned" != "$_tap_n" ]; then
			diag "planned $_tap_planned tests, ran $_tap_n"
			[ "$rc" != 0 ] || rc=1
		fi
		[ "$_tap_failed" = 0 ] || [ "$rc" != 0 ] || rc=1
	fi
	exit "$rc"
}

_tap_start() {
	T=$(mktemp -d "${TMPDIR:-/tmp}/cman-test.XXXXXX") || exit 1
	export T
	trap _tap_cleanup EXIT
	trap 'diag "interrupted by a signal"; _tap_over=1; exit 130' INT TERM HUP
}

# --- namespaces

# run_in_own_netns "$@": the rest of the test runs in its own network, mount and process namespaces:
# lo is up, /sys and /sys/fs/bpf are private (pins go with the test), /run/netns is private. When the
# test ends, or is killed, the kernel kills every process that it has left.
run_in_own_netns() {
	if [ -z "${_TAP_INSIDE-}" ]; then
		[ "$(id -u)" = 0 ] || { trap - EXIT; rm -rf "$T"; skip_all "needs root"; }
		trap - EXIT
		rm -rf "$T"
		_TAP_INSIDE=1 exec unshare -n -m -p --fork --kill-child --mount-proc \
			bash "$TAP_SELF" "$@"
	fi
	unset _TAP_INSIDE
	_tap_mounts || bail "cannot mount a private /sys/fs/bpf"
	mkdir -p /run/netns
	mount -t tmpfs tmpfs /run/netns || bail "cannot mount a private /run/netns"
	ip link set lo up || bail "cannot bring lo up"
}

# A fresh sysfs shows this network namespace's devices; it has no bpffs yet.
_tap_mounts() {
	mount --make-rprivate / && mount -t sysfs sysfs /sys &&
		mount -t bpf bpf /sys/fs/bpf || return 1
	[ ! -e /sys/fs/cgroup/cgroup.procs ] && mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
	return 0
}
export -f _tap_mounts

# host_add NAME: a "machine" of its own: one long-lived process that holds a network and a mount
# namespace with its own bpffs; also known to ip(8) as NAME
host_add() {
	local name=$1 pid ready
	ready=$T/.host-$name
	# shellcheck disable=SC2016	# $1 is that shell's
	unshare -n -m bash -c '_tap_mounts && ip link set lo up && touch "$1" && exec sleep infinity' \
		host "$ready" > /dev/null 2>&1 &
	pid=$!
	track $pid
	wait_for 5 test -e "$ready" || bail "cannot make host $name"
	printf -v "_host_$name" '%s' "$pid"
	ip netns attach "$name" "$pid" || bail "cannot name host $name"
	_tap_netns+=("$name")
}

# host_pid NAME: the process that holds the host
host_pid() {
	local v=_host_$1
	printf '%s\n' "${!v}"
}

# host NAME COMMAND…: run a command on that host (in its network and mount namespaces)
host() {
	local v=_host_$1
	[ -n "${!v-}" ] || bail "no host $1"
	shift
	nsenter -t "${!v}" -n -m -- "$@"
}

# host_link A B ADDRESS_A ADDRESS_B [DEVICE]: a veth pair, DEVICE (eth0) on both; addresses with
# prefix length, "-" for none
host_link() {
	local a=$1 b=$2 dev=${5:-eth0}
	ip link add name "v$$a" type veth peer name "v$$b" || return 1
	ip link set "v$$a" netns "$(host_pid "$a")" name "$dev"
	ip link set "v$$b" netns "$(host_pid "$b")" name "$dev"
	[ "$3" = - ] || host "$a" ip address add "$3" dev "$dev" nodad 2>/dev/null ||
		host "$a" ip address add "$3" dev "$dev"
	[ "$4" = - ] || host "$b" ip address add "$4" dev "$dev" nodad 2>/dev/null ||
		host "$b" ip address add "$4" dev "$dev"
	host "$a" ip link set "$dev" up && host "$b" ip link set "$dev" up
}

# host_join BRIDGE NAME ADDRESS [DEVICE]: connect a host to a bridge of the test's own namespace
# (made when it is not there)
host_join() {
	local br=$1 name=$2 dev=${4:-eth0} port
	port=p${name:0:10}$((RANDOM % 1000))
	[ -e "/sys/class/net/$br" ] || {
		ip link add name "$br" type bridge && ip link set "$br" up
	} || return 1
	ip link add name "$port" type veth peer name "q$port" || return 1
	ip link set "q$port" netns "$(host_pid "$name")" name "$dev"
	ip link set "$port" master "$br" up
	[ "$3" = - ] || host "$name" ip address add "$3" dev "$dev"
	host "$name" ip link set "$dev" up
}

# clients_and_targets: hosts C (10.1.0.2) and B (10.1.0.3) beyond the bridge br0, where this host is 10.1.0.1
clients_and_targets() {
	local h
	host_add C
	host_add B
	host_join br0 C 10.1.0.2/24 || bail "cannot join C"
	host_join br0 B 10.1.0.3/24 || bail "cannot join B"
	ip address add 10.1.0.1/24 dev br0
	for h in C B; do
		host $h sysctl -qw net.ipv4.ip_local_port_range="20000 60999" net.ipv4.tcp_tw_reuse=1
	done
}

# netns_pair A B [ADDRESS_A ADDRESS_B]: two hosts joined by a veth pair (eth0), 10.99.0.1/24 and .2
netns_pair() {
	host_add "$1"
	host_add "$2"
	host_link "$1" "$2" "${3:-10.99.0.1/24}" "${4:-10.99.0.2/24}" ||
		bail "cannot join $1 and $2"
}

# --- what a machine may lack

# need_cmd COMMAND…: bail out when a program of scripts/install-deps.sh is not there
need_cmd() {
	local c
	for c in "$@"; do
		command -v "$c" > /dev/null || bail "$c is not installed (scripts/install-deps.sh test)"
	done
}

# have_ktls: the kernel has the TLS protocol for TCP (tcp_available_ulp is not shown in a namespace)
have_ktls() { modprobe -q tls 2>/dev/null; [ -e /proc/net/tls_stat ]; }

# need_ktls: skip the whole file without it
need_ktls() { have_ktls || skip_all "kernel has no TLS"; }

_tap_start
