#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Gateways die while sessions have TLS on either leg or on both, keys are updated and records come in
# pieces: by chance, with their keeper, at every point between two steps of the record engine, amid
# migrations on both sides, and in handshakes. No session that had begun may be lost, see a wrong byte
# or an alert; a handshake goes on unless its client had been answered, and then its end is counted.
# timeout: 450

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
# shellcheck disable=SC2034	# lib_instance.sh starts these
CMAN_BUILD=$CMAN_CRASH_BUILD CMAN_BIN=$CMAN_CRASH_BIN CMAN_TESTBIN=$CMAN_CRASH_TESTBIN
. "$(dirname "$0")/../net/lib_instance.sh"
. "$(dirname "$0")/../net/lib_tls.sh"
TOOL=$CMAN_CRASH_TESTBIN/fault/handover_tool
[ -x "$TOOL" ] || bail "no crash-point build in $CMAN_CRASH_BUILD"

conf <<END
instance cman1 {
    run_dir = "@RUN@"
    gateways = 1
    max_sessions = 1000
    log_level = "info"
    $(combinations)
    service sink { targets = { "127.0.0.1:9021" } tls { $BACK } }
    service source { targets = { "127.0.0.1:9022" } tls { $BACK } }
    service short { targets = { "127.0.0.1:9023" } tls { $BACK } }
    $(listener sink 7201 sink "$FRONT")
    $(listener source 7202 source "$FRONT")
    $(listener short 7203 short "$FRONT")
    $(service pg 9024 "$BACK")
    $(listener pg 7204 pg "$FRONT")
}
END
servers --tls-update 15
serve SINK "${AS_SERVER[@]}" --mode sink --listen 127.0.0.1:9021
serve SOURCE "${AS_SERVER[@]}" --mode source --listen 127.0.0.1:9022 --tls-update 50
serve SHORT "${AS_SERVER[@]}" --mode hold --listen 127.0.0.1:9023 --size 500 --bytes 20k --interval-ms 20
up

# --- sessions that relay

streams -n 2 --slow 1 --slow-rate 20k --half-close 1 -s 900 -i 15
bench UP bulk -c 127.0.0.1:7201 -d 0 --warmup 0 --direction up "${AS_CLIENT[@]}" --tls-split --tls-update 20
bench DOWN bulk -c 127.0.0.1:7202 -d 0 --warmup 0 --verify "${AS_CLIENT[@]}"
all=$(field .sessions)
by_chance 60
# while a gateway is being replaced it has no pid
arm ROLE_CLAIMED 1 stop
kill -KILL "$(gateway_pid)"
standing() { tail -n +$((LINE + 1)) "$RUN/cman1.log" | sed -n 's/.*stops at a crash point.*pid=\([0-9]*\).*/\1/p' | grep .; }
ok "its keeper stands where it is to make another one" wait_for 5 standing
is "$(show gateways '.[0].pid')" null "until then it is null, and not 0, which kill takes for all of us"
disarm
kill -CONT "$(standing)"
for point in TLS_READ TLS_SEALED TLS_COMMITTED TLS_SENT TLS_MOVED RECOVER_SLOT; do
	case $point in TLS_MOVED) counts="1 4" ;; RECOVER_SLOT) counts= ;; *) counts="1 8 40" ;; esac
	for count in $counts; do in_time $point "$count"; done
done
for count in 1 17; do
	arm RECOVER_SLOT "$count"
	kill_gateway
	ok "RECOVER_SLOT ($count) is reached: a recovery that dies as well" wait_for 10 reached RECOVER_SLOT
	disarm
done

# the ends of directions: close_notify of a server that has sent all, of clients that end
for point in EOF_SHUTDOWN EOF_STORED; do
	bench E stream -c 127.0.0.1:7123 -n 0 --half-close 5 --hold-connect 127.0.0.1:7203 "${AS_CLIENT[@]}"
	in_time $point 2
	completed() { [ "$(ss -Htn 'dport = :7203' | wc -l)" = 0 ]; }
	ok "$point: those sessions end" wait_for 15 completed
	bench_end E
	is "$(report E '[.half_close.sessions, .half_close.completed, .lost, .half_close.server_wrong_bytes] |
		join(" ")') $(tls E alerts_received truncated)" "5 5 0 0 0 0" "$point: half-closed sessions end as they should"
	bench E stream -c 127.0.0.1:7123 -n 5 -i 10 "${AS_CLIENT[@]}"
	arm $point 3
	bench_end E
	ok "$point (3) is reached when clients close" wait_for 10 reached $point
	disarm
	is "$(report E '[.alive, .lost, .wrong_bytes, .bytes_missing] | join(" ")')" "5 0 0 0" "$point: no byte is missing"
done
is "$(sum lost) $(field .sessions)" "0 $all" "all sessions are still there"

# --- amid migrations

migration old FREEZE_EPOLL 3
migration old FREEZE_STATE 20
migration old TLS_COMMITTED 2
migration old RELEASE_CLIENT 5
migration old RELEASE_FREE 30
migration new RESERVE_SLOT 2
migration new ACTIVATE_STATE 7
migration new RECOVER_SLOT 40
migration new TLS_READ 1
migration new TLS_SEALED 3
migration new TLS_SENT 5
is "$(sum lost) $(field .sessions)" "0 $all" "all sessions are still there"

bench_end UP
bench_end DOWN
streams_end
is "$wrong" "" "every combination of legs and suites: nothing lost, nothing wrong, no alert"
is "$(report UP '[.ok, .lost, .wrong_bytes] | map(tostring) | join(" ")') $(tls UP alerts_received)" "true 0 0 0" \
	"bulk up in pieces: $(report UP '.bytes_verified / 1e6 | floor') MB, the sink's counts agree"
is "$(report DOWN '[.ok, .lost, .wrong_bytes] | map(tostring) | join(" ")') $(tls DOWN alerts_received)" \
	"true 0 0 0" "bulk down: $(report DOWN '.bytes_verified / 1e6 | floor') MB, every byte right"
cmp_num "$(report B4 .tls.key_updates_received)" '>' 2 "keys were updated"

# --- handshakes

# shake goes_on|ends POINT COUNT PORT OPTION…: the gateway dies in the handshakes of one session
shake() {
	local how=$1 point=$2 count=$3 port=$4 before want what
	shift 4
	before=$(cells tls_cut)
	arm "$point" "$count"
	run x pingpong -c "127.0.0.1:$port" -n 1 -d 0.3 --warmup 0 "$@"
	what="$point ($count), port $port"
	if [ "$how" = goes_on ]; then
		want="true true 0"
		what+=": the handshake begins anew, its client does not notice"
	else
		want="false false 1"
		what+=": its client has been answered, it ends and is counted"
	fi
	is "$(report x '[.ok, .operations > 0] | map(tostring) | join(" ")') $(($(cells tls_cut) - before))" "$want" "$what" ||
		diag "$(head -n 3 "$T/x.err")"
	ok "$point is reached" reached "$point"
	disarm
}
for v in 1.2 1.3; do
	tls=("${AS_CLIENT[@]}" --tls-version "$v")
	both=$([ $v = 1.2 ] && echo 7120 || echo 7123)
	for count in 1 2 3 5; do shake goes_on TLS_HELLO $count "$both" "${tls[@]}"; done
	shake goes_on TLS_CONNECTED 1 "$both" "${tls[@]}"
	shake goes_on TLS_SHAKEN 1 "$both" "${tls[@]}"
	shake goes_on TLS_ANSWERED 1 "$both" "${tls[@]}"
	shake ends TLS_SHAKEN 2 "$both" "${tls[@]}"
	shake ends TLS_STORED 1 "$both" "${tls[@]}"
	shake goes_on TLS_RELAYING 1 "$both" "${tls[@]}"
	shake ends TLS_STORED 1 7001 "${tls[@]}"
	shake goes_on TLS_RELAYING 1 7001 "${tls[@]}"
	up=${both/712/711}
	for point in TLS_HELLO TLS_CONNECTED TLS_SHAKEN TLS_STORED TLS_RELAYING; do
		shake goes_on $point 1 "$up"
	done
done

# before TLS: PostgreSQL's requests, answered once each; see pg_peer.py
PG=$CMAN_ROOT/selftests/net/pg_peer.py
CERTS=$C python3 "$PG" server 9024 S > "$T/pg.out" 2>&1 &
track $!
listens() { ss -Htln 'sport = :9024' | grep -q .; }
wait_for 30 listens || bail "no server: $(cat "$T/pg.out")"
# opening goes_on|ends POINT COUNT
opening() {
	local before rc=0 want="0 0" what="it begins anew, its client does not notice"
	[ "$1" = goes_on ] || want="1 1" what="its client has been answered, it ends and is counted"
	before=$(cells tls_cut)
	arm "$2" "$3"
	CERTS=$C python3 "$PG" client 7204 send=GSS get=N bytes=SSL get=S tls echo=hello > "$T/pg.err" 2>&1 || rc=$?
	is "$rc $(($(cells tls_cut) - before))" "$want" "$2 ($3), with requests before TLS: $what" || diag "$(cat "$T/pg.err")"
	ok "$2 is reached" wait_for 5 reached "$2"
	disarm
}
for count in 1 2 4 7 9; do opening goes_on TLS_HELLO $count; done
for count in 1 2; do opening goes_on TLS_REPLIED $count; done
for point in TLS_CONNECTED TLS_ASKED TLS_SHAKEN TLS_ANSWERED TLS_RELAYING; do opening goes_on $point 1; done
opening ends TLS_SHAKEN 2
opening ends TLS_STORED 1
: > "$T/pg.out"
arm TLS_ASKED 1
ok "a CancelRequest whose gateway dies" env CERTS="$C" python3 "$PG" client 7204 send=CANCEL end
ok "TLS_ASKED is reached" wait_for 5 reached TLS_ASKED
disarm
sent_again() { [ "$(grep -c '^CANCEL' "$T/pg.out")" = 2 ]; }
ok "is sent again" wait_for 5 sent_again

# by chance: whoever is not counted as cut has been served
cut=$(cells tls_cut)
# one after the other: handshakes that all begin anew with each kill must not pile up
RATE=(connrate -n 3 -d 0 --warmup 0 --close wait --connect-timeout 60 --timeout 60 --drain-timeout 60)
bench P0 "${RATE[@]}" -c 127.0.0.1:7123 "${AS_CLIENT[@]}"
bench P1 "${RATE[@]}" -c 127.0.0.1:7001 "${AS_CLIENT[@]}"
bench P2 "${RATE[@]}" -c 127.0.0.1:7113
for ((i = 0; i < 40; i++)); do
	kill_gateway
	sleep "0.0$((RANDOM % 90 + 10))"
done
for p in P0 P1 P2; do bench_end $p; done
cut=$(($(cells tls_cut) - cut))
cmp_num "$(($(report P0 .failures) + $(report P1 .failures)))" '<=' $cut \
	"of $(report P0 .connections) + $(report P1 .connections) new sessions $(report P0 .failures) + $(
		report P1 .failures) failed; $cut are counted as cut"
is "$(report P2 '[.failures, .refused, .resets, .timeouts] | join(" ")')" "0 0 0 0" \
	"of $(report P2 .connections) whose client has no TLS none did"
is "$(jq -s '[.[] | .timeouts, .wrong_bytes] | add' "$T"/P[012].json)" 0 "and none had to wait in vain"

ok "no session is left" wait_sessions 0
for s in ECHO2 HOLD2 HOLD3 SHORT; do
	serve_end $s
	is "$(tls $s alerts_received)" 0 "the server $s saw no alert"
done
down
