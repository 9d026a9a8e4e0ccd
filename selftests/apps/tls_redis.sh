#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Redis with TLS behind an instance with TLS on both legs, which is moved from release to release:
# redis-benchmark with pipelines and with large values, values of sizes around those of a record, and MONITOR,
# SUBSCRIBE, a blocking command and an ordinary session held open, which must see everything in order.
# timeout: 240
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=selftests/lib/tap.sh
run_in_own_netns "$@"
. "$(dirname "$TAP_SELF")/lib.sh"
# shellcheck source=selftests/apps/lib.sh
. "$(dirname "$TAP_SELF")/lib_tls.sh"
# shellcheck source=selftests/apps/lib_tls.sh
# the runner builds $CMAN_NEXT_BIN for tests that name it
need_cmd redis-server redis-cli redis-benchmark jq

cd "$T" || bail "no $T"
# 6001 for the benchmarks, 6002 for those who count; the test itself asks 6101 and 6102, without TLS
for n in 1 2; do
	redis-server --tls-port 600$n --port 610$n --bind 127.0.0.1 --save '' --appendonly no --daemonize no \
		--tls-cert-file "$CERTS/server.pem" --tls-key-file "$CERTS/server.key" --tls-ca-cert-file "$CA" \
		--tls-auth-clients no --dir "$T" --maxclients 1000 > server$n.log 2>&1 &
	track $!
done
for n in 1 2; do
	wait_for 10 redis-cli -p 610$n PING || bail "no answer: $(tail -n 3 server$n.log)"
done
tls_start "$(tls_pair 01 "$TLS_CLIENTS" "$TLS_SERVERS")" "$(tls_pair 02 "$TLS_CLIENTS" "$TLS_SERVERS")"
TLS=(--tls --cacert "$CA" --sni localhost)
is "$(redis-cli -p 8001 "${TLS[@]}" PING)" PONG "a command goes through"
like "$(redis-cli -p 8001 PING 2>&1)" 'rror' "a client without TLS is not served"

# --- what runs all the time

bench=() benches=()
# benchmark ARGUMENTS…
benchmark() {
	redis-benchmark -p 8001 "${TLS[@]}" -n 2000000000 -r 1000 -q "$@" > bench${#bench[@]}.out 2>&1 &
	bench+=($!) benches+=("$*")
}
benchmark -c 20 -d 100 -t set
benchmark -c 10 -P 16 -d 100 -t incr
benchmark -c 4 -d 40000 -t set
benchmark -c 4 -d 16384 -P 4 -t set
CLIENTS=38
redis-cli -p 8002 "${TLS[@]}" MONITOR > monitor.out 2>&1 &
monitor=$!
redis-cli -p 8002 "${TLS[@]}" SUBSCRIBE news > subscribe.out 2>&1 &
subscriber=$!
redis-cli -p 8002 "${TLS[@]}" -r -1 BLPOP queue 0 > block.out 2>&1 &
blocked=$!
coproc HELD { redis-cli -p 8002 "${TLS[@]}"; }
track "${bench[@]}" $monitor $subscriber $blocked "$HELD_PID"
ask() {
	local answer
	echo "$1" >&"${HELD[1]}"
	IFS= read -r -t 20 answer <&"${HELD[0]}" && printf '%s\n' "$answer"
}
wait_for 10 grep -q OK monitor.out || not_ok "MONITOR" "$(cat monitor.out)"
wait_for 10 grep -q '^1$' subscribe.out || not_ok "SUBSCRIBE" "$(cat subscribe.out)"
id=$(ask 'CLIENT ID')
stat_of() { redis-cli -p "$1" INFO "$2" | sed -n "s/^$3:\([0-9]*\).*/\1/p"; }
total() { stat_of 6101 stats total_commands_processed; }
wait_for 10 test "$(total)" -gt 1000
has_sessions() { [ "$(tls_sessions | grep -c 'TLS.* / TLS')" = $((CLIENTS + 4)) ]; }
wait_for 10 has_sessions
before=$(tls_sessions)
is "$(grep -c 'TLS\S* \S* / TLS' <<< "$before")" $((CLIENTS + 4)) "all sessions have TLS on both legs"
diag "$(cut -d' ' -f2- <<< "$before" | sort | uniq -c)"

# --- migrate

# a value for every migration: a byte, what a record holds and one more or less, many records
SIZES=(1 2 1000 16383 16384 16385 32768 65537 1000000)
step() {
	local i now size=${SIZES[during % ${#SIZES[@]}]}
	for i in 1 2 3; do
		answer=$(ask 'INCR counter')
		[ "$answer" = $(((during - 1) * 3 + i)) ] && good=$((good + 1))
	done
	redis-cli -p 6102 PUBLISH news "number $during" > /dev/null
	redis-cli -p 6102 RPUSH queue "item $during" > /dev/null
	head -c "$size" /dev/urandom | base64 -w0 | head -c "$size" > value
	timeout 20 redis-cli -p 8001 "${TLS[@]}" -x SET "value" < value > /dev/null
	[ "$(timeout 20 redis-cli -p 8001 "${TLS[@]}" GET value | head -c "$size" | sum_of)" = "$(sum_of < value)" ] &&
		[ "$(redis-cli -p 6101 STRLEN value)" = "$size" ] && equal=$((equal + 1))
	now=$(total)
	[ "$now" -gt "$((last + 50))" ] && works "${bench[0]}" && works "${bench[1]}" && works "${bench[2]}" &&
		works "${bench[3]}" && busy=$((busy + 1))
	last=$now
}
good=0 busy=0 equal=0 last=$(total)
N=$((MIGRATIONS + 5))
migrate_often $N step
is "$good" $((N * 3)) "a session counts on after each of $N migrations"
is "$(ask 'CLIENT ID')" "$id" "it still is the same connection"
is "$equal" $N "a value of each of ${#SIZES[@]} sizes comes back equal"
cmp_num "$busy" '>=' $MIGRATIONS "$MIGRATIONS migrations or more while the benchmarks work"

# a benchmark ends by itself, with status 1, at any error
for i in "${!bench[@]}"; do
	ok "redis-benchmark ${benches[i]} has met no error" works "${bench[i]}"
	is "$(tr '\r' '\n' < bench$i.out | grep -ci 'error\|closed')" 0 "it has printed none"
done
diag "$(total) commands"
wait_for 10 grep -q "item $N" block.out
is "$(tls_sessions)" "$before" "all connections are those of the beginning"
is "$(stat_of 6101 clients connected_clients)" $((CLIENTS + 1)) "Redis has no other ones"
for p in "${bench[@]}"; do
	stop "$p"
done

wait_for 10 grep -q "number $N" subscribe.out
is "$(grep -o 'number [0-9]*' subscribe.out)" "$(seq -f 'number %g' $N)" \
	"SUBSCRIBE: every message has come, in order"
is "$(grep -o 'item [0-9]*' block.out)" "$(seq -f 'item %g' $N)" "BLPOP: every item has come, in order"
ok "the subscriber's connection is there" works $subscriber
wait_for 10 test "$(grep -c '"INCR" "counter"' monitor.out)" = $((N * 3))
is "$(grep -c '"INCR" "counter"' monitor.out)" $((N * 3)) "MONITOR: every command has come"
is "$(grep -i 'error' server1.log server2.log)" '' "Redis has met no error of TLS"
tls_verdict
