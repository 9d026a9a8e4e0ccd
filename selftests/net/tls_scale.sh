#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Many sessions with TLS 1.3 on both legs, busy ones and idle ones, move ten times with the record engine
# in user space. All have to be alive and right; how long it took and what the sessions noticed is printed.
# timeout: 180

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/lib_tls.sh"

ALL=${CMAN_SCALE_TLS:-1000} BUSY=100
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
serve ECHO "${AS_SERVER[@]}" --listen 127.0.0.1:9001 --tls-update 100
up
bench I idle -c 127.0.0.1:7001 -n $((ALL - BUSY)) "${AS_CLIENT[@]}" --connect-timeout 30 --parallel-connects 32
bench S stream -c 127.0.0.1:7001 -n $BUSY -s 1024 -i 50 "${AS_CLIENT[@]}" --tls-update 50 --connect-timeout 30
ENGINES='map(select(.client_tls.version == "TLSv1.3" and .server_tls.version == "TLSv1.3" and
	.client_tls.engine == "user" and .server_tls.engine == "user")) | length'
is "$(show sessions "$ENGINES")" "$ALL" "$ALL sessions with TLS 1.3 on both legs"
for i in {1..10}; do
	move
	is "$wrong" "" "migration $i: all have moved"
	is "$(report move .moved)" "$ALL" "migration $i: $(report move .moved) moved"
	diag "migration $i: moved $(report move .moved) in $(report move .duration_ms) ms, gap p50 $(
		report move .blackout_us.p50) us, p99 $(report move .blackout_us.p99) us, max $(
		report move .blackout_us.max) us, $(report move .bytes_in_flight) bytes in between"
done
is "$(show sessions "[.[] | select(.handovers == 10)] | length")" "$ALL" "each has moved ten times"
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
