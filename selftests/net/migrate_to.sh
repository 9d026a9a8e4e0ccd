#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Services move from host to host, live, with their floating address: H1 and H2 run cman, C has the
# clients and B the targets, all on one bridge and with plain kernel sockets. No packet may be answered
# with a RST, no new connection be refused, and the address must be on exactly one side in the end.
# timeout: 280

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/lib_hosts.sh"
need_cmd tcpdump
MOVES=${MOVES:-20}

two_hosts
ON=B
serve ECHO --listen 10.1.0.3:9001
serve PROBED --listen 10.1.0.3:9006
serve HOLD --mode hold --listen 10.1.0.3:9002 --size 500 --interval-ms 20
serve SOURCE --mode source --listen 10.1.0.3:9003
serve SINK --mode sink --listen 10.1.0.3:9004
ON=C
for n in h1 h2; do
	out=$(at $n startup 2>&1) || bail "startup on $n: $out"
done

ok "h1 has the floating address, h2 stands by" nowhere_else h1 h2
# Every RST on the bridge, but those of the two managers' own channel, and of the short connections: the
# prober says itself if one was reset
tcpdump -Z root -Uw "$T/rst.pcap" -ni br0 "tcp[tcpflags] & tcp-rst != 0 and not port 7710 and not port 7006 and not port 9006" 2> "$T/tcpdump.log" &
DUMP=$!
track $DUMP
dumping() { grep -q listening "$T/tcpdump.log"; }
wait_for 5 dumping || bail "tcpdump: $(cat "$T/tcpdump.log")"
rsts() {
	sleep 0.3 # nothing tells that tcpdump has written what it saw
	tcpdump -nr "$T/rst.pcap" 2> /dev/null | wc -l
}
here=h1 there=h2
# move NAME: one move to the other side; what was wrong in $wrong
move() {
	local rc=0 h=$here
	wrong=
	at $here migrate --to $there --json > "$T/$1.json" 2> "$T/$1.err" || rc=$?
	[ $rc = 0 ] || wrong+=" exit $rc: $(head -n 3 "$T/$1.err") $(head -c 300 "$T/$1.json")"
	[ "$(report "$1" '[.via, .to, .failed, (.left | length)] | join(" ")')" = "repair $there 0 0" ] ||
		wrong+=" report: $(head -c 400 "$T/$1.json")"
	here=$there there=$h
	wait_for 5 nowhere_else $here $there || wrong+=" the address is not on $here alone"
	[ -z "$(find "$T/run-h1" "$T/run-h2" -path '*images/*')" ] || wrong+=" images are left"
}
moved() {
	diag "$1: moved $(report "$1" .moved) in $(report "$1" .moving_ms) ms, parked p50 $(
		report "$1" .blackout_us.p50) us, p99 $(report "$1" .blackout_us.p99) us, max $(
		report "$1" .blackout_us.max) us"
}

# --- ping-pong alone

bench S pingpong -c 10.1.0.100:7001 -n 20 -d 120 --warmup 0
before="$(rsts)"
move p1
is "$wrong" "" "20 ping-pong sessions to h2"
moved p1
move p2
is "$wrong" "" "and back"
moved p2
is "$(rsts)" "$before" "no RST"
bench_end S
is "$(report S '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" "every answer right"

# --- busy ones of all kinds, there and back, while new ones come

bench S stream -c 10.1.0.100:7001 -n 120 -s 2048 -i 25 --slow 10 --slow-rate 20k --half-close 10 \
	--hold-connect 10.1.0.100:7002 --idle 50
bench D bulk -c 10.1.0.100:7003 -n 2 --verify -d 200 --warmup 0
bench U bulk -c 10.1.0.100:7004 -n 2 --direction up -d 200 --warmup 0
bench P probe -c 10.1.0.100:7006 -r 200
bench G pingpong -c 10.1.0.100:7001 -n 10 -d 280 --warmup 0
before=$(rsts)
for ((i = 1; i <= MOVES; i++)); do
	move m$i
	is "$wrong" "" "move $i to $here: $(report m$i .moved) sessions"
	moved m$i
done
is "$(rsts)" "$before" "no RST in $MOVES moves" || diag "$(tcpdump -nr "$T/rst.pcap" 2> /dev/null | tail -n 20)"
for x in G P D U S; do bench_end $x; done
is "$(report P '[.failures, .refused, .resets, .timeouts, .wrong_bytes, .other_errors] | join(" ")')" \
	"0 0 0 0 0 0" "of $(report P .connections) new connections none was refused, reset or timed out"
is "$(report S '[.lost, .wrong_bytes, .bytes_missing, .half_close.server_wrong_bytes] | join(" ")')" "0 0 0 0" \
	"streams, slow readers, half-closed and idle sessions: nothing lost, nothing wrong"
is "$(report G '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" "ping-pong: every answer right"
is "$(report D '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" \
	"down: $(report D '.bytes_verified / 1e6 | floor') MB, every byte right"
is "$(report U '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" \
	"up: $(report U '.bytes / 1e6 | floor') MB, the sink's counts agree"
diag "gap of a ping-pong session p50 $(report G .gap_session_us.p50) us, p99 $(report G .gap_session_us.p99) us"

# --- what cannot be is refused before anything moves

exits 1 "to a peer that is not configured" at $here migrate --to nobody
like "$(at $here migrate --to nobody 2>&1)" 'no such peer' "and says so"
exits 1 "from where the address is not" at $there migrate --to $here
like "$(at $there migrate --to $here 2>&1)" 'not here' "and says so"
exits 1 "one service of an address that has more" at $here migrate --to $there --service echo
like "$(at $here migrate --to $there --service echo 2>&1)" 'another service has the same floating address' "and says why"

for h in h1 h2; do
	log=$(grep -v "hands services over\|took .* sessions and their addresses\|services move" "$T/run-$h/cman1.log")
	diag "log of $h: $log"
done
at h1 shutdown --abort -q -y
at h2 shutdown --abort -q -y
nothing_left() {
	! holds h1 && ! holds h2 && [ ! -e "$T/run-h1/cman1.sock" ] && [ ! -e "$T/run-h2/cman1.sock" ] &&
		[ -z "$(host H1 find /sys/fs/bpf/cman -mindepth 1 2> /dev/null)" ] &&
		[ -z "$(host H2 ip -o link show | grep -i park)" ]
}
ok "nothing is left behind" wait_for 5 nothing_left
