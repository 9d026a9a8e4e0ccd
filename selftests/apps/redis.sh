#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Redis behind an instance that is moved from release to release: redis-benchmark without an error, and
# MONITOR, SUBSCRIBE and an ordinary session held open, which must see everything in order.
# timeout: 120
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=selftests/lib/tap.sh
run_in_own_netns "$@"
. "$(dirname "$TAP_SELF")/lib.sh"
# shellcheck source=selftests/apps/lib.sh
# the runner builds $CMAN_NEXT_BIN for tests that name it
need_cmd redis-server redis-cli redis-benchmark jq

cd "$T" || bail "no $T"
# 6001 for the benchmark, 6002 for those who count
for n in 1 2; do
	redis-server --port 600$n --bind 127.0.0.1 --save '' --appendonly no --daemonize no \
		--dir "$T" --maxclients 1000 > server$n.log 2>&1 &
	track $!
done
for n in 1 2; do
	wait_for 10 redis-cli -p 600$n PING || bail "no answer: $(tail -n 3 server$n.log)"
done
app_start 01 02
is "$(redis-cli -p 8001 PING)" PONG "a command goes through"

# --- what runs all the time

redis-benchmark -p 8001 -c 50 -n 2000000000 -d 100 -r 10000 -q -t set > bench.out 2>&1 &
bench=$!
redis-cli -p 8002 MONITOR > monitor.out 2>&1 &
monitor=$!
redis-cli -p 8002 SUBSCRIBE news > subscribe.out 2>&1 &
subscriber=$!
coproc HELD { redis-cli -p 8002; }
track $bench $monitor $subscriber "$HELD_PID"
ask() {
	local answer
	echo "$1" >&"${HELD[1]}"
	IFS= read -r -t 20 answer <&"${HELD[0]}" && printf '%s\n' "$answer"
}
wait_for 10 grep -q OK monitor.out || not_ok "MONITOR" "$(cat monitor.out)"
wait_for 10 grep -q '^1$' subscribe.out || not_ok "SUBSCRIBE" "$(cat subscribe.out)"
id=$(ask 'CLIENT ID')
total() { redis-cli -p 6001 INFO stats | sed -n 's/^total_commands_processed:\([0-9]*\).*/\1/p'; }
wait_for 10 test "$(total)" -gt 1000

# --- migrate

good=0 busy=0 last=$(total)
step() {
	local i now
	for i in 1 2 3; do
		answer=$(ask 'INCR counter')
		[ "$answer" = $(((during - 1) * 3 + i)) ] && good=$((good + 1))
	done
	redis-cli -p 6002 PUBLISH news "number $during" > /dev/null
	sleep 0.1
	now=$(total)
	[ "$now" -gt "$((last + 50))" ] && works $bench && busy=$((busy + 1))
	last=$now
}
N=$((MIGRATIONS + 5))
migrate_often $N step
is "$good" $((N * 3)) "a session counts on after each of $N migrations"
is "$(ask 'CLIENT ID')" "$id" "it still is the same connection"
cmp_num "$busy" '>=' $MIGRATIONS "$MIGRATIONS migrations or more while the benchmark works"

# the benchmark ends by itself, with status 1, at any error
ok "redis-benchmark has met no error in $(total) commands" works $bench
is "$(tr '\r' '\n' < bench.out | grep -ci 'error\|closed')" 0 "it has printed none"
is "$(redis-cli -p 6001 INFO clients | sed -n 's/^connected_clients:\([0-9]*\).*/\1/p')" 51 \
	"its 50 connections are those of the beginning"
stop $bench

wait_for 10 grep -q "number $N" subscribe.out
is "$(grep -o 'number [0-9]*' subscribe.out)" "$(seq -f 'number %g' $N)" \
	"SUBSCRIBE: every message has come, in order"
ok "the subscriber's connection is there" works $subscriber
wait_for 10 test "$(grep -c '"INCR" "counter"' monitor.out)" = $((N * 3))
is "$(grep -c '"INCR" "counter"' monitor.out)" $((N * 3)) "MONITOR: every command has come"
app_verdict
