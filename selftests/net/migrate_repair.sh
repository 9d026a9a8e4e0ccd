#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Live migration by TCP_REPAIR on one machine: clients and targets are on hosts of their own, beyond a
# bridge, with plain kernel sockets. Every session is taken apart and put together again ten times in
# a row; no packet of one may be answered with a RST, and nothing of the guard may be left.
# timeout: 180

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"

clients_and_targets

conf <<'END'
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = 3000
    listener echo { address = "10.1.0.1:7001"  service = "echo" }
    service echo { targets = { "10.1.0.3:9001" } }
    listener hold { address = "10.1.0.1:7002"  service = "hold" }
    service hold { targets = { "10.1.0.3:9002" } }
    listener source { address = "10.1.0.1:7003"  service = "source" }
    service source { targets = { "10.1.0.3:9003" } }
    listener sink { address = "10.1.0.1:7004"  service = "sink" }
    service sink { targets = { "10.1.0.3:9004" } }
    listener probe { address = "10.1.0.1:7006"  service = "probe" }
    service probe { targets = { "10.1.0.3:9006" } }
    listener local { address = "127.0.0.1:7005"  service = "local" }
    service local { targets = { "127.0.0.1:9005" } }
}
END
ON=B
serve ECHO --listen 10.1.0.3:9001
serve PROBED --listen 10.1.0.3:9006
serve HOLD --mode hold --listen 10.1.0.3:9002 --size 500 --interval-ms 20
serve SOURCE --mode source --listen 10.1.0.3:9003
serve SINK --mode sink --listen 10.1.0.3:9004
ON=
serve LOCAL --listen 127.0.0.1:9005
up
ON=C

# Every RST on the bridge, but those of the short connections, whose two ends close at the same time: the
# prober says itself if one was reset
tcpdump -Z root -Uw "$T/rst.pcap" -ni br0 "tcp[tcpflags] & tcp-rst != 0 and not port 7006 and not port 9006" 2> "$T/tcpdump.log" &
track $!
dumping() { grep -q listening "$T/tcpdump.log"; }
wait_for 5 dumping || bail "tcpdump: $(cat "$T/tcpdump.log")"
rsts() {
	sleep 0.3 # nothing tells that tcpdump has written what it saw
	tcpdump -nr "$T/rst.pcap" 2> /dev/null | wc -l
}
rsts_seen() { diag "$(tcpdump -nr "$T/rst.pcap" 2> /dev/null | tail -n 12)"; }
# lost: what the hosts had to send again, but for probes (TLP): a sender makes them when nothing has come for two
# round trips, which is less than a session is silent; most of them find that all had arrived
lost() {
	# shellcheck disable=SC2046
	set -- $(everywhere TcpRetransSegs TcpExtTCPDSACKRecv TcpExtTCPLossProbes)
	awk -v again="$1" -v twice="$2" -v probes="$3" \
		'BEGIN { again -= (twice > probes ? twice : probes); print (again > 0 ? again : 0) }'
}
# everywhere COUNTER…: the sum of each over all hosts
everywhere() {
	local name
	for name; do
		{ for h in C B; do host $h nstat -asz "$name"; done; nstat -asz "$name"; } | awk '/^T/ { n += $2 } END { print n + 0 }'
	done
}
moved() { # NAME: what the report says
	diag "$1: moved $(report "$1" .moved) in $(report "$1" .duration_ms) ms, gap p50 $(
		report "$1" .blackout_us.p50) us, p99 $(report "$1" .blackout_us.p99) us, max $(
		report "$1" .blackout_us.max) us, $(report "$1" .bytes_in_flight) bytes in between"
}
# move NAME: one migration; what was wrong in $wrong
move() {
	local old rc=0
	old=$(field .pid)
	wrong=
	ctl migrate --via repair --json > "$T/$1.json" 2> "$T/$1.err" || rc=$?
	[ $rc = 0 ] || wrong+=" exit $rc: $(head -n 3 "$T/$1.err")"
	[ "$(report "$1" '[.via, .failed, .new_connections_refused, (.left | length), .old.exited] | join(" ")')" = \
		"repair 0 0 0 true" ] || wrong+=" report: $(head -c 600 "$T/$1.json")"
	is_gone "$old" || wrong+=" the old process $old is still there"
	[ -z "$(find "$RUN" /sys/fs/bpf/cman -mindepth 1 -maxdepth 1 -name 'cman1_*')" ] ||
		wrong+=" left behind: $(ls "$RUN" /sys/fs/bpf/cman)"
	[ -z "$(find "$RUN" -path '*images/*')" ] || wrong+=" images are left"
	[ -z "$(ip -o link show | grep -i park)" ] || wrong+=" a parking device is left"
	[ -z "$(tc filter show dev br0 ingress | grep -i guard)" ] || wrong+=" a filter is left"
}

# --- ping-pong alone: no RST, nothing is sent again

bench S pingpong -c 10.1.0.1:7001 -n 20 -d 120 --warmup 0
like "$(ctl migrate --check --via repair 2>&1)" '20 of 20 sessions can move \(via repair\)' "migrate --check says that all can move"
before="$(rsts) $(lost)"
for i in 1 2 3 4 5; do
	move p$i
	is "$wrong" "" "ping-pong, migration $i: moved $(report p$i .moved)"
	moved p$i
done
is "$(rsts) $(lost)" "$before" "no RST, and no segment was lost" || rsts_seen
diag "$(everywhere TcpExtTCPLossProbes) probes, of which $(everywhere TcpExtTCPLossProbeRecovery) found one to be missing"
is "$(show sessions '[.[] | select(.handovers == 5)] | length')" 20 "20 sessions have moved five times"
bench_end S
is "$(report S '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" "20 sessions, every answer right"

# --- all kinds of sessions, with new ones coming all the time

ok "no session is left" wait_sessions 0
bench S stream -c 10.1.0.1:7001 -n 60 -s 4096 -i 20 --slow 10 --slow-rate 20k --half-close 10 \
	--hold-connect 10.1.0.1:7002 --idle 50
bench D bulk -c 10.1.0.1:7003 -n 2 --verify -d 170 --warmup 0
bench U bulk -c 10.1.0.1:7004 -n 2 --direction up -d 170 --warmup 0
bench P probe -c 10.1.0.1:7006 -r 500
before=$(rsts)
for i in 1 2 3 4 5 6 7 8 9 10; do
	move m$i
	is "$wrong" "" "busy migration $i: moved $(report m$i .moved)"
	moved m$i
done
is "$(rsts)" "$before" "no RST in ten migrations" || rsts_seen
bench_end P
bench_end D
bench_end U
bench_end S
is "$(report P '[.failures, .refused, .resets, .timeouts, .wrong_bytes, .other_errors] | join(" ")')" \
	"0 0 0 0 0 0" "of $(report P .connections) new connections none was refused, reset or timed out"
is "$(report S '[.lost, .wrong_bytes, .bytes_missing, .half_close.server_wrong_bytes] | join(" ")')" "0 0 0 0" \
	"streams, slow readers, half-closed and idle sessions: nothing lost, nothing wrong"
is "$(report S '[.half_close.sessions, .half_close.completed + .half_close.open_at_end] | join(" ")')" "10 10" \
	"half-closed ones still receive"
is "$(report D '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" \
	"down: $(report D '.bytes_verified / 1e6 | floor') MB, every byte right"
is "$(report U '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" \
	"up: $(report U '.bytes / 1e6 | floor') MB, the sink's counts agree"
diag "gap of a session p50 $(report S .gap_session_ms.p50) ms, p99 $(report S .gap_session_ms.p99) ms"

# --- there by repair and on by fd: a restored socket is like any other

ok "no session is left" wait_sessions 0
bench S stream -c 10.1.0.1:7001 -n 50 -s 1024 -i 25
move r1
is "$wrong" "" "by repair"
ok "by fd" ctl migrate --via fd -q
move r2
is "$wrong" "" "and by repair again"
bench_end S
is "$(report S '[.alive, .lost, .wrong_bytes, .bytes_missing] | join(" ")')" "50 0 0 0" "50 of 50 streams"

# --- what cannot be guarded stays, with the reason

ON=
bench L stream -c 127.0.0.1:7005 -n 3 -s 100 -i 50
ON=C
bench S stream -c 10.1.0.1:7001 -n 5 -s 100 -i 50
out=$(ctl migrate --check --via repair 2>&1)
like "$out" '5 of 8 sessions can move' "migrate --check tells which can move"
like "$out" 'packets over lo cannot be parked' "and why not"
ctl startup --migrate --via repair --timeout 4 --json > "$T/left.json" 2> "$T/left.err"
is $? 3 "a migration that leaves some exits with 3"
is "$(report left '[.moved, (.left | length)] | join(" ")')" "5 3" "5 moved, 3 stay"
like "$(report left '.left[0].reason')" 'packets over lo cannot be parked' "the report says why"
bench_end S
is "$(report S '[.alive, .lost] | join(" ")')" "5 0" "those that moved live"
bench_end L
is "$(report L '.lost')" 0 "those that stay lived until they ended"
gone() { [ ! -e "$RUN/cman1_old.sock" ]; }
ok "then the old instance goes" wait_for 10 gone
is "$(show gateways '[.[] | .lost, .recoveries] | add')" 0 "no gateway was replaced"
down
ok "nothing is left behind" test ! -e "$RUN/cman1.sock" -a ! -e /sys/fs/bpf/cman/cman1
