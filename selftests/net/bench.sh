#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What cman-bench reports must be the fault of what it measures, never its own.

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"

queued() { [ "$(ss -Htn "dport = :9004" | awk '{ n += $3 > 0 } END { print n + 0 }')" = "$1" ]; }
at_rest() {
	local was
	was=$(ss -Htn "dport = :9004")
	sleep 0.1 # nothing reports that nothing moves
	queued 2 && [ "$was" = "$(ss -Htn "dport = :9004")" ]
}

# An upload ends while its thread has not seen yet that it may send again: both in one round of events.
serve SINK --mode sink --listen 127.0.0.1:9004
kill -STOP "$SINK_PID"
"$BENCH" bulk -c 127.0.0.1:9004 --direction up -t 2 -n 2 -d 60 --warmup 0 --json \
	> "$T/up.json" 2> "$T/up.err" & up=$!
track $up
ok "both uploads wait for the sink" wait_for 10 at_rest
second=$(find "/proc/$up/task" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -n | tail -n 1)
isnt "$second" "$up" "there is a second thread"
coproc HOLD { "$CMAN_TESTBIN/net/hold_thread" "$second"; }
read -r said <&"${HOLD[0]}"
is "$said" held "the second thread is held"
kill -TERM $up
first_ended() { [ -n "$(ss -Htn state fin-wait-1 "dport = :9004")" ]; }
ok "the first thread ends its upload" wait_for 10 first_ended
kill -CONT "$SINK_PID"
drained() { queued 0; }
ok "the sink reads on" wait_for 10 drained
eval "exec ${HOLD[1]}>&-"
wait $up
# .ok would want bytes within the run, and the sink may have stopped before it
is "$(jq -c '[.lost, .wrong_bytes, .resets, .incidents // [], .bytes_verified > 0]' "$T/up.json")" \
	'[0,0,0,[],true]' \
	"both uploads ended well"

# An exchange is under way when this machine stands still: what the server was not given is not taken from it.
serve SLOW --listen 127.0.0.1:9005
kill -STOP "$SLOW_PID"
"$BENCH" probe -c 127.0.0.1:9005 --rate 1 --timeout 2 -d 60 --json > "$T/probe.json" 2> "$T/probe.err" & probe=$!
track $probe
asked() { [ -n "$(ss -Htn state established "sport = :9005" | awk '$1 > 0')" ]; }
ok "a connection waits for its answer" wait_for 10 asked
kill -STOP $probe
sleep 5 # that long it stands: longer than it would wait
kill -CONT $probe
seen() { [ "$(ss -Htn state established "sport = :9005" | wc -l)" -gt 3 ]; }
ok "it goes on, with those that were due meanwhile" wait_for 10 seen
kill -CONT "$SLOW_PID"
kill -TERM $probe
wait $probe
is "$(jq -c '[.ok, .timeouts, .connections == .verified, .stood_ms > 2500]' "$T/probe.json")" '[true,0,true,true]' \
	"all are answered, and it says how long it stood still"
