#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The demonstration (make demo): PostgreSQL and an echo server behind cman, under load, while cman is
# patched to the next release, loses a gateway and its manager, and is rolled back. Then a report of
# what the clients have noticed; exit status 1 when anything was not as promised.
#
# Everything happens in network, mount and process namespaces of its own and in one temporary folder;
# nothing is started on the machine itself, and everything goes when the script ends, also by ^C.
#
# Environment: CMAN_BUILD (build), MAKE, CMAN_DEMO_SECONDS: how long the load runs (40; 10 at least).
set -uo pipefail

seconds=${CMAN_DEMO_SECONDS:-40}
streams=200 pg_clients=20 probes=1000
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

die() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# ---- outside: programs, the two releases, the namespaces ----

find_postgres() {
	local p
	for p in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr) $(dirname "$(command -v initdb)"); do
		if [ -x "$p/initdb" ] && [ -x "$p/postgres" ] && [ -x "$p/pgbench" ]; then
			pgbin=$p
			return 0
		fi
	done 2>/dev/null
	return 1
}

outside() {
	local c missing='' root build b next_version status
	root=$(cd "$(dirname "$0")/.." && pwd)
	cd "$root" || exit 1
	build=${CMAN_BUILD:-build}
	[[ $seconds =~ ^[0-9]+$ ]] && [ "$seconds" -ge 10 ] ||
		die "CMAN_DEMO_SECONDS=$seconds: expected a number of seconds, 10 or more"
	[ "$(id -u)" = 0 ] || die "must be run by root: it makes namespaces and loads BPF programs"
	for c in unshare setpriv mount ip jq psql awk make; do
		command -v "$c" > /dev/null || missing+=" $c"
	done
	find_postgres || missing+=" postgres/initdb/pgbench"
	[ -z "$missing" ] ||
		die "missing:$missing; 'bash scripts/install-deps.sh test' installs what it needs"
	for b in cmand cmanctl cman-bench; do
		[ -x "$build/bin/$b" ] || die "$build/bin/$b is not built: run make first"
	done

	T=$(mktemp -d "${TMPDIR:-/tmp}/cman-demo.XXXXXX") || exit 1
	child=
	trap 'rm -rf "$T"' EXIT
	trap 'stop_inside; exit 130' INT TERM HUP
	chmod 755 "$T"
	next_version=$(awk -F. '{ print $1 "." $2 + 1 ".0" }' VERSION)
	echo "cman demonstration: about $((seconds + 10)) seconds"
	echo "  installing release $(cat VERSION) as home A"
	install_release "$build" "$(cat VERSION)" home-A
	echo "  building and installing release $next_version as home B"
	install_release "$build/next" "$next_version" home-B

	# A group of its own: ^C comes to this shell, which tells the others.
	set -m
	_DEMO_INSIDE=1 T=$T pgbin=$pgbin seconds=$seconds \
		unshare -n -m -p --fork --kill-child --mount-proc bash "$root/scripts/demo.sh" &
	child=$!
	set +m
	wait $child
	status=$?
	child=
	exit $status
}

stop_inside() {
	[ -n "$child" ] || return 0
	echo "demo: interrupted, cleaning up" >&2
	kill -TERM -- "-$child" 2>/dev/null
	wait "$child" 2>/dev/null
	child=
}

# install_release BUILD VERSION HOME: as a user does it; the first one has just been built by make
install_release() {
	${MAKE:-make} BUILD="$1" VERSION="$2" NODEPS=1 PREFIX="$T/$3" install > "$T/install.log" 2>&1 && return
	tail -n 20 "$T/install.log" >&2
	die "cannot install release $2"
}

# ---- inside: helpers ----

began=$EPOCHREALTIME
elapsed() { awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

bold='' green='' red='' plain=''
if [ -t 1 ] && [ "${TERM-dumb}" != dumb ]; then
	bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

step() { printf '%s%6.1f s  %s%s\n' "$bold" "$(elapsed)" "$*" "$plain"; }
detail() { printf '          %s\n' "$*"; }

# wait_until SECONDS COMMAND…
wait_until() {
	local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
	shift
	until "$@" > /dev/null 2>&1; do
		[ "${EPOCHREALTIME/[.,]/}" -lt "$end" ] || return 1
		sleep 0.02
	done
}

# is_gone PID: no such process, or its zombie
is_gone() {
	local state
	state=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null)
	[ -z "$state" ] || [ "$state" = Z ] || [ "$state" = X ]
}

# pause N: until the Nth of $steps equal parts of the load's time has passed
load_began=0
pause() {
	local left
	left=$(awk -v b="$load_began" -v now="$EPOCHREALTIME" -v s="$seconds" -v n="$1" -v of="$steps" \
		'BEGIN { l = b + s * n / of - now; print (l > 0 ? l : 0) }')
	sleep "$left" &
	wait $!
}

ctl_a() { "$T/home-A/bin/cmanctl" "$@" -f "$T/cman.conf"; }
ctl_b() { "$T/home-B/bin/cmanctl" "$@" -f "$T/cman.conf"; }
field() { jq -r "$2" "$T/$1" 2>/dev/null || echo '?'; }

# What was promised, one line each; the report is printed when all is over.
verdicts=() broken=0
promise() {	# ok|not TEXT
	if [ "$1" = ok ]; then
		verdicts+=("  ${green}ok${plain}      $2")
	else
		verdicts+=("  ${red}BROKEN${plain}  $2")
		broken=$((broken + 1))
	fi
}
# promise_if CONDITION TOPIC TEXT: the condition is one of test(1)
promise_if() {
	local text
	printf -v text '%-16s %s' "$2" "$3"
	# shellcheck disable=SC2086	# it is words
	if test $1 2>/dev/null; then promise ok "$text"; else promise not "$text"; fi
}

failed() {
	printf 'demo: %s\n' "$1" >&2
	[ -z "${2-}" ] || tail -n 12 "$2" >&2
	exit 1
}

# ---- inside: the steps ----

start_servers() {
	local user=postgres
	id -u $user > /dev/null 2>&1 || user=nobody
	as_pg=(setpriv "--reuid=$user" "--regid=$(id -g $user)" --clear-groups --)
	install -d -o $user "$T/pg" "$T/socket" || exit 1
	"${as_pg[@]}" "$pgbin/initdb" -D "$T/pg" -A trust -U postgres --no-sync --locale=C -E UTF8 \
		> "$T/initdb.log" 2>&1 || failed "initdb failed:" "$T/initdb.log"
	"${as_pg[@]}" "$pgbin/postgres" -D "$T/pg" -h 127.0.0.1 -p 6432 -k "$T/socket" \
		-c fsync=off -c max_connections=60 > "$T/pg.log" 2>&1 &
	"$T/home-A/bin/cman-bench" serve --listen 127.0.0.1:6007 --json \
		--ready-file "$T/echo.ready" > "$T/echo.json" 2> "$T/echo.err" &
	echo_pid=$!
	export PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=10
	wait_until 20 "$pgbin/pg_isready" -q -h "$T/socket" -p 6432 ||
		failed "PostgreSQL does not start:" "$T/pg.log"
	"$pgbin/pgbench" -i -q -s 5 -h "$T/socket" -p 6432 > "$T/init.log" 2>&1 ||
		failed "pgbench cannot make its tables:" "$T/init.log"
	wait_until 5 test -e "$T/echo.ready" || failed "the echo server does not start:" "$T/echo.err"
}

configure() {
	cat > "$T/cman.conf" <<-END
	instance demo {
	    run_dir = "$T/run"
	    gateways = 2
	    listener sql  { address = "127.0.0.1:5432"  service = "postgres" }
	    listener echo { address = "127.0.0.1:7"     service = "echo" }
	    service postgres { targets = { "127.0.0.1:6432" } }
	    service echo     { targets = { "127.0.0.1:6007" } }
	}
	END
}

# held SQL: one line of answer from the session that is held open
held() {
	local answer=''
	echo "$1" >&"${HELD[1]}"
	IFS= read -r -t 20 answer <&"${HELD[0]}"
	printf '%s\n' "$answer"
}

start_load() {
	local bench=$T/home-A/bin/cman-bench
	coproc HELD { psql -XqAt -h 127.0.0.1 -p 5432 2>&1; }
	backend=$(held 'SELECT pg_backend_pid();')
	echo 'BEGIN; CREATE TEMP TABLE steps (n int) ON COMMIT DROP;' >&"${HELD[1]}"
	"$bench" stream --connect 127.0.0.1:7 --sessions $streams --size 1024 --interval-ms 25 \
		--json --ready-file "$T/stream.ready" > "$T/stream.json" 2> "$T/stream.err" &
	stream_pid=$!
	"$bench" probe --connect 127.0.0.1:7 --rate $probes --json --ready-file "$T/probe.ready" \
		> "$T/probe.json" 2> "$T/probe.err" &
	probe_pid=$!
	wait_until 15 test -e "$T/stream.ready" || failed "the streams do not start:" "$T/stream.err"
	wait_until 15 test -e "$T/probe.ready" || failed "the prober does not start:" "$T/probe.err"
	# a rate that leaves the processors some air: what is shown is cman, not a machine that is full
	"$pgbin/pgbench" -n -M simple -c $pg_clients -j 1 -R 400 -T "$seconds" -h 127.0.0.1 -p 5432 \
		> "$T/pgbench.out" 2> "$T/pgbench.err" &
	pgbench_pid=$!
	load_began=$EPOCHREALTIME
}

# insert N: the held transaction goes on
kept=0 inserts=0
insert() {
	inserts=$((inserts + 1))
	[ "$(held "INSERT INTO steps VALUES ($inserts); SELECT count(*) FROM steps;")" != $inserts ] ||
		kept=$((kept + 1))
}

# migrate WHICH REPORT: the operator's command
migrate() {
	local which=$1 rc=0 home ctl
	home=$T/home-${which^^} ctl=ctl_$which
	detail "\$ cmanctl migrate --home $home"
	$ctl migrate --json --home "$home" > "$T/$2" 2> "$T/$2.err" || rc=$?
	[ $rc = 0 ] || { detail "exit status $rc: $(head -n 3 "$T/$2.err")"; return; }
	detail "$(field "$2" '"\(.moved) sessions moved from \(.old.version) (pid \(.old.pid)) to " +
		"\(.new.version) (pid \(.new.pid)) in \(.duration_ms | round) ms"')"
	insert
}

kill_gateway() {
	local victim
	ctl_b show gateways --json > "$T/before.json" 2>/dev/null
	victim=$(field before.json 'max_by(.sessions) | .pid')
	detail "\$ kill -KILL $victim     ($(field before.json 'max_by(.sessions) |
		"gateway \(.gateway) with \(.sessions) sessions"'))"
	kill -KILL "$victim"
	wait_until 5 gateway_is_back || :
	detail "$(field gateways.json "[.[] | select(.recoveries > 0)] | max_by(.recoveries) |
		\"gateway \(.gateway) is pid \(.pid) now: \(.recovered) sessions recovered in\" +
		\" \(.last_recovery_us / 1000) ms, \(.lost) lost\"")"
	insert
}
gateway_is_back() {
	ctl_b show gateways --json > "$T/gateways.json" &&
		jq -e '[.[] | select(.recoveries > 0)] | length > 0' "$T/gateways.json"
}

kill_manager() {
	manager=$(ctl_b status --json 2>/dev/null | jq .pid)
	detail "\$ kill -KILL $manager"
	kill -KILL "$manager"
	wait_until 5 is_gone "$manager"
	sleep 1
	insert
	detail "nobody manages for a second; gateways relay and accept"
	detail "\$ cmanctl startup --home $T/home-B"
	ctl_b startup --json --home "$T/home-B" > "$T/adopted.json" 2> "$T/adopted.err" ||
		detail "failed: $(head -n 3 "$T/adopted.err")"
	detail "$(field adopted.json '"pid \(.pid), release \(.version), has adopted \(.sessions) sessions"')"
	insert
}

end_load() {
	wait $pgbench_pid
	pgbench_rc=$?
	insert
	kill -TERM $stream_pid $probe_pid 2>/dev/null
	wait $stream_pid
	wait $probe_pid
	same_backend=$(held 'SELECT pg_backend_pid();')
	echo 'COMMIT;' >&"${HELD[1]}"
	committed=$(held "SELECT 'committed';")
	ctl_a status --json > "$T/status.json" 2>/dev/null
	ctl_a shutdown --abort -y -q > /dev/null 2>&1
	kill -TERM $echo_pid
	wait $echo_pid
}

# ---- inside: the report ----

# spread FILE PATH FACTOR: "p50 1.2, p99 3.4, max 5.6 ms" of a histogram whose unit is 1/FACTOR ms
spread() {
	field "$1" "$2 | [.p50, .p99, .max] | map(. * 10 / $3 | round / 10) |
		\"p50 \\(.[0]), p99 \\(.[1]), max \\(.[2]) ms\""
}

judge_migration() {	# REPORT TOPIC FROM TO
	local moved left lost refused old_pid gone='still runs'
	moved=$(field "$1" .moved) left=$(field "$1" '.left | length') lost=$(field "$1" .failed)
	refused=$(field "$1" .new_connections_refused) old_pid=$(field "$1" .old.pid)
	promise_if "$(field "$1" '"\(.old.version)-\(.new.version)"') = $3-$4" "$2" \
		"release $(field "$1" .old.version) -> $(field "$1" .new.version)"
	promise_if "$moved -ge $((streams + pg_clients))" "$2" \
		"$moved live sessions moved in $(field "$1" '.duration_ms | round') ms"
	promise_if "$moved -gt 0" "$2" "each stood still for $(spread "$1" .blackout_us 1000)"
	promise_if "$left-$lost-$refused = 0-0-0" "$2" \
		"$left left behind, $lost lost, $refused new connections refused"
	[ "$(field "$1" .old.exited)" != true ] || ! is_gone "$old_pid" || gone='is gone'
	promise_if "${gone% *} = is" "$2" "the old process (pid $old_pid) $gone"
}

report() {
	local v a b failed_tx done_tx topic wrong missing
	a=$("$T/home-A/bin/cmand" --version | awk '{ print $NF }')
	b=$("$T/home-B/bin/cmand" --version | awk '{ print $NF }')

	judge_migration patch.json "patch" "$a" "$b"
	promise_if "$(field gateways.json '[.[].lost] | add') = 0" "killed gateway" \
		"no session lost"
	promise_if "$(field adopted.json .sessions) -ge $((streams + pg_clients))" "killed manager" \
		"pid $(field adopted.json .pid) has adopted $(field adopted.json .sessions) sessions"
	judge_migration rollback.json "rollback" "$b" "$a"
	promise_if "$(field status.json .version) = $a" "at the end" \
		"release $(field status.json .version) runs"

	topic=streams wrong=$(field stream.json .wrong_bytes) missing=$(field stream.json .bytes_missing)
	promise_if "$(field stream.json '"\(.alive)-\(.lost)"') = $streams-0" $topic \
		"$(field stream.json .alive) of $streams alive, $(field stream.json .lost) lost"
	promise_if "$(field stream.json .bytes_verified) -gt 0" $topic \
		"$(field stream.json .bytes_verified) bytes sent, echoed and compared"
	promise_if "$wrong-$missing = 0-0" $topic "$wrong wrong bytes, $missing missing"
	promise_if "$(field stream.json .ok) = true" $topic \
		"longest gap of a session: $(spread stream.json .gap_session_ms 1)"
	promise_if "$(field stream.json .chunks_verified) -gt 0" $topic \
		"any chunk, there and back:  $(spread stream.json .gap_chunk_ms 1)"

	topic="new connections"
	promise_if "$(field probe.json .verified) -eq $(field probe.json .connections)" "$topic" \
		"$(field probe.json .verified) of $(field probe.json .connections) answered, $probes a second"
	promise_if "$(field probe.json '"\(.refused)-\(.failures)"') = 0-0" "$topic" \
		"$(field probe.json .refused) refused, $(field probe.json .failures) failed in any way"
	promise_if "$(field probe.json .late) = 0" "$topic" \
		"$(field probe.json .late) answered later than 1 s; $(spread probe.json .latency_us 1000)"

	topic=PostgreSQL
	done_tx=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$T/pgbench.out")
	failed_tx=$(sed -n 's/^number of failed transactions: \([0-9]*\).*/\1/p' "$T/pgbench.out")
	promise_if "${done_tx:-0} -gt 0" $topic \
		"${done_tx:-no} transactions of pgbench's $pg_clients clients"
	promise_if "${failed_tx:-?}-$pgbench_rc = 0-0" $topic \
		"${failed_tx:-an unknown number of} failed; pgbench's exit status $pgbench_rc"
	promise_if "$kept-$committed-$same_backend = $inserts-committed-$backend" $topic \
		"one transaction open all the time: $kept of $inserts inserts done, $committed"
	promise_if "$in_time = yes" "the load" "ran through all of these steps: $in_time"

	printf '\n%sWhat was promised, and what was seen%s\n' "$bold" "$plain"
	for v in "${verdicts[@]}"; do
		printf '%s\n' "$v"
	done
	if [ $broken = 0 ]; then
		printf '\n%sEverything as promised.%s\n' "$bold$green" "$plain"
		return 0
	fi
	printf '\n%s%d of %d not as promised.%s What the programs said:\n' "$bold$red" $broken \
		"${#verdicts[@]}" "$plain"
	jq -c '.incidents[:5][]?' "$T/stream.json" "$T/probe.json" 2>/dev/null
	tail -n 5 "$T/pgbench.err" "$T/patch.json.err" "$T/rollback.json.err" "$T/adopted.err" 2>/dev/null
	tail -n 25 "$T/run/demo.log"
	return 1
}

inside() {
	unset _DEMO_INSIDE
	# outside removes it too; this one runs also when outside is killed
	trap 'rm -rf "$T"' EXIT
	trap 'exit 130' INT TERM HUP
	mount --make-rprivate / && mount -t sysfs sysfs /sys && mount -t bpf bpf /sys/fs/bpf ||
		failed "cannot mount a private /sys/fs/bpf"
	ip link set lo up || failed "cannot bring the loopback device up"
	cd "$T" || exit 1

	step "PostgreSQL (private cluster) and an echo server start"
	start_servers
	configure
	step "cman $("$T/home-A/bin/cmand" --version | awk '{ print $NF }') starts before them"
	ctl_a startup -q --home "$T/home-A" 2> "$T/startup.err" ||
		failed "cman does not start:" "$T/startup.err"
	step "load: $streams verified streams (1 KB every 25 ms each way), pgbench with $pg_clients clients," \
		"$probes new connections/s"
	start_load
	steps=5
	pause 1
	step "PATCH: the next release takes over"
	migrate b patch.json
	pause 2
	step "CRASH: a gateway is killed"
	kill_gateway
	pause 3
	step "CRASH: the manager is killed and started again"
	kill_manager
	pause 4
	step "ROLLBACK: the first release takes over again"
	migrate a rollback.json
	in_time=yes
	! is_gone $pgbench_pid || in_time=no
	pause 5
	step "end of the load; everything is counted"
	end_load
	report
}

if [ -n "${_DEMO_INSIDE-}" ]; then
	inside
else
	outside
fi
