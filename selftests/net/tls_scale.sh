#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Many sessions with TLS 1.3 on both legs, busy ones and idle ones, move ten times. All have to be alive and
# right; how long it took and what the sessions noticed is printed.
#
# Environment: CMAN_SCALE_TLS (1000 sessions), CMAN_SCALE_MOVES (10, by each carrier), CMAN_SCALE_ENGINE (user,
# or ktls), CMAN_SCALE_CARRIERS (fd; or with repair: then clients and servers are on hosts of their own).
# timeout: 180

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/lib_tls.sh"

ALL=${CMAN_SCALE_TLS:-1000} BUSY=100 MOVES=${CMAN_SCALE_MOVES:-10} ENGINE=${CMAN_SCALE_ENGINE:-user}
[ "$ENGINE" != ktls ] || need_ktls
read -ra CARRIERS <<< "${CMAN_SCALE_CARRIERS:-fd}"
CLIENTS='' SERVERS=''
[[ "${CARRIERS[*]}" != *repair* ]] || { two_hosts; CLIENTS=C SERVERS=B; }
tls_engine "$ENGINE"
PATIENT=(--connect-timeout $((30 * ${CMAN_SLOW:-1})) --drain-timeout $((10 * ${CMAN_SLOW:-1})))
# kernels before 6.14 cannot replace a key
updates() { [ "$ENGINE" = ktls ] || echo "--tls-update $1"; }
ulimit -n "$(ulimit -Hn)"
conf <<END
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = $((ALL + 200))
    $(service echo 9001 "$BACK min_version = \"1.3\"")
    $(listener both 7001 echo "$FRONT min_version = \"1.3\"")
}
END
ON=$SERVERS
# shellcheck disable=SC2046	# words
serve ECHO "${AS_SERVER[@]}" --listen "$BACK_AT:9001" $(updates 100)
ON=
up
# shellcheck disable=SC2034	# of lib_instance.sh
ON=$CLIENTS
bench I idle -c "$FRONT_AT:7001" -n $((ALL - BUSY)) "${AS_CLIENT[@]}" "${PATIENT[@]}" --parallel-connects 32
# shellcheck disable=SC2046
bench S stream -c "$FRONT_AT:7001" -n $BUSY -s 1024 -i $((50 * ${CMAN_SLOW:-1})) "${AS_CLIENT[@]}" "${PATIENT[@]}" $(updates 50)
ENGINES='map(select(.client_tls.version == "TLSv1.3" and .server_tls.version == "TLSv1.3" and
	.client_tls.engine == "'$ENGINE'" and .server_tls.engine == "'$ENGINE'")) | length'
is "$(show sessions "$ENGINES")" "$ALL" "$ALL sessions with TLS 1.3 on both legs, $ENGINE"
for ((i = 0; i < MOVES * ${#CARRIERS[@]}; i++)); do
	VIA=${CARRIERS[i / MOVES]}
	move
	is "$wrong" "" "migration $i by $VIA: all have moved"
	is "$(report move .moved)" "$ALL" "migration $i by $VIA: $(report move .moved) moved"
	diag "migration $i by $VIA: moved $(report move .moved) in $(report move .duration_ms) ms, gap p50 $(
		report move .blackout_us.p50) us, p99 $(report move .blackout_us.p99) us, max $(
		report move .blackout_us.max) us, $(report move .bytes_in_flight) bytes in between"
done
is "$(show sessions "[.[] | select(.handovers == $i)] | length")" "$ALL" "each has moved $i times"
bench_end S
bench_end I
is "$(report S '[.alive, .lost, .wrong_bytes, .bytes_missing, .tls.alerts_received] | join(" ")')" "$BUSY 0 0 0 0" \
	"$BUSY busy sessions: nothing lost, nothing wrong, no alert"
is "$(report I '[.alive, .lost, .wrong_bytes, .bytes_missing, .tls.alerts_received] | join(" ")')" \
	"$((ALL - BUSY)) 0 0 0 0" "$((ALL - BUSY)) idle ones: nothing lost, nothing wrong, no alert"
diag "busy sessions: longest gap p50 $(report S .gap_session_ms.p50) ms, p99 $(report S .gap_session_ms.p99) ms, max $(
	report S .gap_session_ms.max) ms; of a chunk p99 $(report S .gap_chunk_ms.p99) ms"
ok "no session is left" wait_sessions 0
serve_end ECHO
is "$? $(tls ECHO errors alerts_received truncated)" "0 0 0 0" "the server saw no alert, no truncation"
down
