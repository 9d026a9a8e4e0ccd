#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A move between two hosts, with the manager of the one or the other killed at each step of it, and with
# the channel cut. The manager that starts next adopts; the move is begun again and comes to its end.
# All sessions live, no byte is wrong, and the address is on exactly one side.
# timeout: 400

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
CMAN_BIN=$CMAN_CRASH_BIN
CMAN_TESTBIN=$CMAN_CRASH_TESTBIN
. "$(dirname "$0")/../net/lib_instance.sh"
. "$(dirname "$0")/../net/lib_hosts.sh"
TOOL=$CMAN_CRASH_TESTBIN/fault/handover_tool
[ -x "$TOOL" ] || bail "no crash-point build in $CMAN_CRASH_BIN"

two_hosts
ON=B
serve ECHO --listen 10.1.0.3:9001
serve HOLD --mode hold --listen 10.1.0.3:9002 --size 500 --interval-ms 20
ON=C
for n in h1 h2; do
	out=$(at $n startup 2>&1) || bail "startup on $n: $out"
done
bench S stream -c 10.1.0.100:7001 -n 40 -s 1024 -i 25 --half-close 4 --hold-connect 10.1.0.100:7002
bench G pingpong -c 10.1.0.100:7001 -n 10 -d 1000 --warmup 0

arm() { host "${1^^}" "$TOOL" arm cman1 "${@:2}"; }
# all sessions are relayed somewhere; nothing is on its way
quiet() {
	local h
	[ "$(for h in h1 h2; do at $h show sessions --json 2> /dev/null; done |
		jq -cs 'add | [length, (map(select(.state == "relaying")) | length)]')" = "[$SESSIONS,$SESSIONS]" ]
}
SESSIONS=$(at h1 show sessions --json | jq length)
here=h1 there=h2

# goes_on DESCRIPTION DEAD PID: the manager of DEAD ("": none) is started again; when the move (PID) has
# been broken off, it is begun again
goes_on() {
	local what=$1 dead=$2 why='' h=$here
	[ -z "${dead}" ] || at $dead startup -q > "$T/start.out" 2>&1 || why+=" startup on $dead: $(cat "$T/start.out")"
	wait $3
	wait_for 15 quiet || why+=" not all $SESSIONS sessions are there: $(for h in h1 h2; do
		at $h show sessions --json | jq -c '[group_by(.state)[] | {(.[0].state): length}] | add'; done | tr '\n' ' ')"
	h=$here
	if ! nowhere_else $there $here; then # both may have it for the moment
		at $here migrate --to $there -q > "$T/again.out" 2>&1 || why+=" again: $(tail -n 2 "$T/again.out")"
	fi
	wait_for 5 nowhere_else $there $here || why+=" the address is not on $there alone"
	wait_for 5 quiet || why+=" sessions are missing afterwards"
	here=$there there=$h
	is "$why" "" "$what"
}

# crash SIDE POINT [COUNT]
crash() {
	local side=$1 point=$2 count=${3:-1} victim pid move
	[ "$side" = source ] && victim=$here || victim=$there
	pid=$(at $victim status --json | jq .pid)
	arm $victim "$point" "$count"
	at $here migrate --to $there -q > "$T/first.out" 2>&1 & move=$!
	if ! wait_for 8 is_gone "$pid"; then
		arm $victim NONE
		wait $move
		not_ok "$side dies at $point" "the point was not reached: $(cat "$T/first.out")"
		return
	fi
	goes_on "$side dies at $point${3:+ ($3)}" $victim $move
	arm $here NONE 2> /dev/null
	arm $there NONE 2> /dev/null
}

for p in SOURCE_GIVE_NAME SOURCE_FREEZE SOURCE_FROZEN SOURCE_GIVEN REPAIR_CLOSED REPAIR_EXPORTED REPAIR_WRITTEN \
	REPAIR_GONE SOURCE_BATCH SOURCE_DECIDE SOURCE_DECIDED SOURCE_COMMIT REPAIR_OPEN SOURCE_RELEASE \
	SOURCE_RELEASED SOURCE_DONE; do
	crash source $p
done
crash source SOURCE_COMMIT 3
crash source REPAIR_GONE 7
for p in TARGET_IMPORT TARGET_RESERVED TARGET_TAKEN TARGET_FILLED TARGET_PREPARED TARGET_PREPARED_SENT REPAIR_IMPORTED \
	REPAIR_AWAKE TARGET_LIVE TARGET_ACTIVATE TARGET_ACTIVATED TARGET_COMMITTED FAR_ANNOUNCED TARGET_FINISHED; do
	crash target $p
done
crash target REPAIR_AWAKE 5

# cut SIDE POINT: this side stands still at the point while the channel breaks
cut() {
	local side=$1 point=$2 victim pid move
	[ "$side" = source ] && victim=$here || victim=$there
	pid=$(at $victim status --json | jq .pid)
	arm $victim "$point" 1 stop
	at $here migrate --to $there -q > "$T/first.out" 2>&1 & move=$!
	stands() { [ "$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat")" = T ]; }
	if ! wait_for 5 stands; then
		arm $victim NONE
		wait $move
		not_ok "channel cut while $side stands at $point" "the point was not reached"
		return
	fi
	for h in H1 H2; do host $h ss -K "sport = :7710 or dport = :7710" > /dev/null 2>&1; done
	kill -CONT "$pid"
	goes_on "channel cut while $side stands at $point" "" $move
}
if host H1 ss -K dst 192.0.2.1 > /dev/null 2>&1; then
	for p in SOURCE_BATCH SOURCE_DECIDED SOURCE_COMMIT SOURCE_RELEASED; do cut source $p; done
	for p in TARGET_PREPARED TARGET_PREPARED_SENT TARGET_LIVE TARGET_COMMITTED; do cut target $p; done
else
	skip "kernel cannot destroy sockets" 8
fi

bench_end G
bench_end S
is "$(report G '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" "ping-pong: every answer right"
is "$(report S '[.lost, .wrong_bytes, .bytes_missing, .half_close.server_wrong_bytes] | join(" ")')" "0 0 0 0" \
	"streams and half-closed sessions: nothing lost, nothing wrong"
diag "gap of a ping-pong session p50 $(report G .gap_session_us.p50) us, p99 $(report G .gap_session_us.p99) us"
frozen() { # entries that park, of all hosts
	local n=0 h
	for h in H1 H2; do
		n=$((n + $(host $h bpftool map dump pinned /sys/fs/bpf/cman/cman1/frozen 2> /dev/null | grep -c GUARD_PARK)))
	done
	echo $n
}
is "$(frozen)" 0 "nothing is frozen"
is "$(cat "$T"/run-h?/cman1.log | grep -c "too many at a time")" 0 "no question was turned away"
for h in h1 h2; do
	diag "log of $h: $(grep -v "hands services over\\|took .* sessions and their addresses\\|services move\\|crash point" \
		"$T/run-$h/cman1.log" | sort | uniq -c | sort -rn | head -n 12)"
done
at h1 shutdown --abort -q -y
at h2 shutdown --abort -q -y
