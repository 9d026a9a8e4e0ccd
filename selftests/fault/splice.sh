#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Gateways die while the kernel relays for them: 100 times by chance, and at every point of entering,
# ending, going back to user space and being frozen; sometimes with their keeper. No session may be
# lost, no byte be wrong.
# timeout: 420

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
# shellcheck disable=SC2034	# lib_instance.sh starts these
CMAN_BIN=$CMAN_CRASH_BIN CMAN_TESTBIN=$CMAN_CRASH_TESTBIN
. "$(dirname "$0")/../net/lib_instance.sh"
TOOL=$CMAN_CRASH_TESTBIN/fault/handover_tool
[ -x "$TOOL" ] || bail "no crash-point build in $CMAN_CRASH_BUILD"
need_cmd bpftool

conf <<'END'
instance cman1 {
    run_dir = "@RUN@"
    gateways = 1
    max_sessions = 1000
    listener echo { address = "127.0.0.1:7002"  service = "echo" }
    listener source { address = "127.0.0.1:7004"  service = "source" }
    listener hold { address = "127.0.0.1:7005"  service = "hold" }
    service echo { targets = { "127.0.0.1:9002" }  splice = "sockmap" }
    service source { targets = { "127.0.0.1:9004" }  splice = "sockmap" }
    service hold { targets = { "127.0.0.1:9005" }  splice = "sockmap" }
}
END
if ! out=$(ctl startup 2>&1); then
	case $out in
	*"does not take the program"*) skip_all "$out" ;;
	esac
	bail "startup: $out"
fi
serve ECHO --listen 127.0.0.1:9002
serve SOURCE --mode source --listen 127.0.0.1:9004
serve HOLD --mode hold --listen 127.0.0.1:9005 --size 500 --interval-ms 20

legs() { bpftool -j map dump pinned /sys/fs/bpf/cman/cman1/splice_legs | jq "[.[].formatted.value] | $1"; }
SLOW="--slow 3 --slow-rate 20k"
begin() {
	# shellcheck disable=SC2086	# no option, or two
	bench S stream -c 127.0.0.1:7002 -n 30 -s 512 -i 4 $SLOW --half-close 5 --hold-connect 127.0.0.1:7005
	bench D bulk -c 127.0.0.1:7004 -n 2 --verify -d 300 --warmup 0
}
# all_right WHAT: the load ends, every byte was right
all_right() {
	bench_end D
	bench_end S
	is "$(report S '[.lost, .wrong_bytes, .bytes_missing, .half_close.server_wrong_bytes] | join(" ")') $(
		report D '[.ok, .lost, .wrong_bytes] | join(" ")') $(sum lost)" "0 0 0 0 true 0 0 0" "$1"
}

# --- by chance

begin
for ((i = 0; i < 100; i++)); do
	# every fourth time with a keeper, in the same instant
	victims=$(show gateways ".[0] | .pid$([ $((i % 4)) != 0 ] || echo ', .keepers[0]') | values")
	# shellcheck disable=SC2086	# one or two
	kill -KILL $victims 2> /dev/null
	sleep "0.0$((RANDOM % 90 + 10))"
done
cmp_num "$(sum recoveries)" '>=' 95 "a gateway was killed 100 times: $(sum recoveries) recoveries"
cmp_num "$(legs length)" '>=' 40 "the kernel relays ($(legs length) legs)"
all_right "streams and bulk: nothing lost, nothing wrong"

# --- at every point

SLOW=
LINE=0
from_here() { LINE=$(wc -l < "$RUN/cman1.log"); }
reached() { tail -n +$((LINE + 1)) "$RUN/cman1.log" | grep -q "dies at a crash point.*$1"; }
# die POINT COUNT COMMAND…: armed before the command runs; the gateway dies there, and a fresh load
# ends well
die() {
	local point=$1 count=$2
	shift 2
	from_here
	"$TOOL" arm cman1 "$point" "$count"
	"$@"
	ok "$point ($count) is reached" wait_for 8 reached "$point"
	"$TOOL" arm cman1 NONE 2> /dev/null
	all_right "$point ($count): nothing lost, nothing wrong"
}
fresh() { begin; }
many_legs() { [ "$(legs length)" -ge 40 ]; }
# a migration while all is in the kernel: the old instance's gateway dies in the FREEZE
move() {
	begin
	wait_for 5 many_legs
	from_here
	"$TOOL" arm cman1 "$point" "$count"
	ctl migrate --json > "$T/m.json" 2> "$T/m.err"
	[ "$(jq '[.failed, .new_connections_refused] | add' "$T/m.json")" = 0 ] || not_ok "migrate: $(cat "$T/m.json" "$T/m.err")"
}
for c in MARKED:1 LEG:1 LEG:2 HOLD:1 HOLD:2 RUN:1 RUN:2 ENTERED:1 ENTERED:20 OVER:1; do
	die "KERNEL_${c%:*}" "${c#*:}" fresh
done
for c in EOF:1 EOF_STORED:1; do
	point=KERNEL_${c%:*}
	begin
	wait_for 5 many_legs
	from_here
	"$TOOL" arm cman1 "$point" 1
	all_right "$point: nothing lost, nothing wrong"
	ok "$point was reached" reached "$point"
	"$TOOL" arm cman1 NONE 2> /dev/null
done
for c in END:1 END:5 ENDED:1 DRAINED:1 FORGET:1 FORGET:2 FORGET:3 FORGET:4 POSITION:1 LEFT:1 LEFT:9; do
	point=KERNEL_${c%:*} count=${c#*:}
	move
	ok "$point ($count) is reached in a migration" reached "$point"
	all_right "$point ($count) in a migration: nothing lost, nothing wrong"
done
down
