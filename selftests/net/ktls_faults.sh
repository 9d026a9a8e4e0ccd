#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Gateways die while the kernel carries the records of sessions, on either leg and on both: by chance, with
# their keeper, at every point between two steps of a splice, at records that are no data, at the ends of
# directions, and amid migrations by both carriers. No session may be lost, see a wrong byte, an alert, or an
# end that its peer has not sent. Nonces are the kernel's here; of the record engine tls_nonces.sh has them.
# timeout: 420

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
need_ktls
# shellcheck disable=SC2034	# lib_instance.sh starts these
CMAN_BUILD=$CMAN_CRASH_BUILD CMAN_BIN=$CMAN_CRASH_BIN CMAN_TESTBIN=$CMAN_CRASH_TESTBIN
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/lib_tls.sh"
TOOL=$CMAN_CRASH_TESTBIN/fault/handover_tool
[ -x "$TOOL" ] || bail "no crash-point build in $CMAN_CRASH_BUILD"
SLOW=${CMAN_SLOW:-1}
PATIENT=(--connect-timeout $((5 * SLOW)) --drain-timeout $((10 * SLOW)))
PACE=(-i $((15 * SLOW)))

two_hosts
tls_engine ktls
conf <<END
instance cman1 {
    run_dir = "@RUN@"
    gateways = 1
    max_sessions = 500
    log_level = "info"
    $(combinations)
}
END
# shellcheck disable=SC2034	# of lib_tls.sh: kernels before 6.14 cannot replace a key
UPDATE=()
ON=B
servers
ON=
up
ON=C

# --- sessions that relay

streams -n 2 -s 900 "${PACE[@]}" "${PATIENT[@]}"
# several records at once, and a peer that stops reading
bench BIG stream -c "$FRONT_AT:7123" -n 2 -s 100000 -i $((200 * SLOW)) --slow 1 --slow-rate 20k "${AS_CLIENT[@]}" "${PATIENT[@]}"
all=$(field .sessions)
is "$(show sessions 'map([.client_tls, .server_tls] | map(values.engine) | unique) | unique | tojson') $all" '[["ktls"]] 38' \
	"$all sessions, all of the kernel's engine"
by_chance 16
for point in SPLICE_BOUND SPLICE_IN SPLICE_OUT SPLICE_POSITION SPLICE_UNBOUND; do
	for count in 1 8 40; do in_time $point "$count"; done
done
for count in 1 17; do
	arm RECOVER_SLOT "$count"
	kill_gateway
	ok "RECOVER_SLOT ($count) is reached: a recovery that dies as well" wait_for 10 reached RECOVER_SLOT
	disarm
done
is "$(sum lost) $(field .sessions)" "0 $all" "all sessions are still there"

# --- records that are no data

# tickets of a server with TLS 1.3
for count in 1 2; do
	arm KTLS_CONTROL "$count"
	bench E stream -c "$FRONT_AT:7113" -n 3 "${PACE[@]}" "${PATIENT[@]}"
	ok "KTLS_CONTROL ($count) is reached when a server sends tickets" wait_for 10 reached KTLS_CONTROL
	disarm
	bench_end E
	is "$(report E '[.alive, .lost, .wrong_bytes, .bytes_missing] | join(" ")')" "3 0 0 0" "and they are skipped"
done

# KeyUpdates that want an answer, where the kernel can replace keys
for point in KTLS_CONTROL KTLS_UPDATE_NOTED KTLS_UPDATE_SENT KTLS_KEY; do
	for count in 2 5; do
		can_rekey || break
		bench E stream -c "$FRONT_AT:7001" -n 5 "${PACE[@]}" "${PATIENT[@]}" "${AS_CLIENT[@]}" --tls-update 5
		arm $point "$count"
		ok "$point ($count) is reached when clients update their keys" wait_for 10 reached $point
		disarm
		bench_end E
		is "$(report E '[.alive, .lost, .wrong_bytes, .bytes_missing, .tls.alerts_received, .tls.errors,
			.tls.truncated] | join(" ")')" "5 0 0 0 0 0 0" "$point ($count): no session is lost" ||
			diag "$(report E '.incidents[:2] | tojson')"
	done
done

# closes POINT LEGS PORT [OPTION…]: the gateway dies there while clients close and their servers answer it
closes() {
	local what="$1, $2"
	bench E stream -c "$FRONT_AT:$3" -n 5 "${PACE[@]}" "${PATIENT[@]}" "${@:4}"
	arm "$1" 3
	bench_end E
	ok "$what: is reached when clients close" wait_for 10 reached "$1"
	disarm
	is "$(report E '[.alive, .lost, .wrong_bytes, .bytes_missing, .tls.alerts_received // 0, .tls.errors // 0,
		.tls.truncated // 0] | join(" ")')" "5 0 0 0 0 0 0" "$what: no byte is missing, no end is another" ||
		diag "$(report E '.incidents[:2] | tojson')"
}
for point in KTLS_CONTROL EOF_SHUTDOWN EOF_STORED; do
	closes $point "TLS on both legs" 7123 "${AS_CLIENT[@]}"
	closes $point "the client's leg" 7001 "${AS_CLIENT[@]}"
	closes $point "the server's leg" 7113
done
closes EOF_READ "the client's leg" 7001 "${AS_CLIENT[@]}"
closes EOF_READ "the server's leg" 7113
ok "only those of before are left" wait_sessions "$all"

# --- amid migrations

migration old FREEZE_EPOLL 3
migration old FREEZE_STATE 20
migration old SPLICE_IN 2
migration old RELEASE_CLIENT 5
migration old RELEASE_FREE 30
migration new RESERVE_SLOT 2
migration new ACTIVATE_STATE 7
migration new RECOVER_SLOT 30
migration new SPLICE_BOUND 1
migration new SPLICE_IN 3
migration new SPLICE_OUT 5
VIA=repair
migration old FREEZE_STATE 20
migration old RELEASE_FREE 30
migration new ACTIVATE_STATE 7
migration new SPLICE_IN 3
is "$(sum lost) $(field .sessions)" "0 $all" "all sessions are still there"

bench_end BIG
streams_end
is "$wrong" "" "every combination of legs and suites: nothing lost, nothing wrong, no alert"
is "$(report BIG '[.alive, .lost, .wrong_bytes, .bytes_missing] | join(" ")') $(tls BIG alerts_received)" "2 0 0 0 0" \
	"long messages: $(report BIG '.bytes_verified / 1e6 | floor') MB, every byte right"
ok "no session is left" wait_sessions 0
for s in ECHO2 ECHO3; do
	serve_end $s
	# errors: handshakes that were begun anew
	is "$(tls $s alerts_received truncated)" "0 0" "the server $s saw no alert, no truncation"
done
serve_end ECHO
is "$(report ECHO .resets)" 0 "the server without TLS saw no reset"
down
