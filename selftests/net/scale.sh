#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Many sessions: 9,000 idle ones and 200 busy ones move to the next release and back. All have to be
# alive and right; how long it took, what the busy ones noticed and what an idle one costs is printed.
# timeout: 120
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=selftests/lib/tap.sh
run_in_own_netns "$@"
need_cmd jq

IDLE=${CMAN_SCALE_IDLE:-9000} BUSY=${CMAN_SCALE_BUSY:-200}
CTL=$CMAN_BIN/cmanctl
for b in "$CMAN_BIN" "$CMAN_NEXT_BIN"; do
	[ -x "$b/cmand" ] || bail "$b/cmand is not built"
done

# two descriptors a session, in each of the gateways' processes half of them; the load generator needs one
ulimit -n "$(ulimit -Hn)"
limit=$(ulimit -n)
if [ "$limit" -lt $((IDLE + BUSY + 1000)) ]; then
	IDLE=$(((limit - 1000) * 9 / 10)) BUSY=$(((limit - 1000) / 50))
	diag "at most $limit open files: $IDLE idle and $BUSY busy sessions"
fi

cd "$T" || bail "no $T"
cat > cman.conf <<END
instance scale {
    run_dir = "$T/run"
    gateways = 2
    max_sessions = $((IDLE + BUSY + 100))
    listener idle { address = "127.0.0.1:8001"  service = "idle" }
    listener busy { address = "127.0.0.1:8002"  service = "busy" }
    service idle { targets = { "127.0.0.1:6001" } }
    service busy { targets = { "127.0.0.1:6002" } }
}
END
for n in 1 2; do
	"$CMAN_BIN/cman-bench" serve --listen 127.0.0.1:600$n --ready-file server$n --json > /dev/null &
	track $!
done
wait_for 5 test -e server1 && wait_for 5 test -e server2 || bail "no server"
"$CTL" startup -q -f cman.conf || bail "the instance does not start"
at_exit "$CTL" shutdown --abort -y -q -f "$T/cman.conf"

# every process of the instance
pids_of() {
	"$CTL" -f cman.conf show gateways --json | jq -r '.[] | .pid, .keepers[] | values'
	"$CTL" -f cman.conf status --json | jq .pid
}
# memory FIELD: kB over all processes
memory() {
	local p
	for p in $(pids_of); do
		sed -n "s/^$1: *\([0-9]*\) kB/\1/p" "/proc/$p/smaps_rollup"
	done | awk '{ n += $1 } END { print n + 0 }'
}

# tables: how many descriptors the gateways' tables have room for
tables() {
	local p
	for p in $("$CTL" -f cman.conf show gateways --json | jq -r '.[].pid'); do
		sed -n 's/^FDSize:[[:space:]]*//p' "/proc/$p/status"
	done | paste -sd ' '
}

room=$(tables)
rss=$(memory Rss) pss=$(memory Pss)
sources=()
for ((i = 1; i <= 8; i++)); do
	sources+=(--source "127.0.0.$((i + 1))")
done
"$CMAN_BIN/cman-bench" idle --connect 127.0.0.1:8001 --sessions "$IDLE" "${sources[@]}" --json \
	--ready-file idle.ready > idle.json 2> idle.err &
idle=$!
track $idle
wait_for 60 test -e idle.ready || bail "the idle sessions do not open: $(cat idle.err)"
diag "an idle session: RSS $((($(memory Rss) - rss) * 1024 / IDLE)) bytes," \
	"PSS $((($(memory Pss) - pss) * 1024 / IDLE)) bytes, over all processes"
"$CMAN_BIN/cman-bench" stream --connect 127.0.0.1:8002 --sessions "$BUSY" --size 1024 \
	--interval-ms 25 "${sources[@]}" --json --ready-file busy.ready > busy.json 2> busy.err &
busy=$!
track $busy
wait_for 20 test -e busy.ready || bail "the busy sessions do not open: $(cat busy.err)"

# a shared table that grows makes the kernel wait for RCU, and all sessions of the cell for the kernel
is "$(tables)" "$room" "no table of descriptors had to grow for them"

# what the busy ones see when nothing happens, for comparison
"$CMAN_BIN/cman-bench" stream --connect 127.0.0.1:8002 --sessions 20 --duration 1 --json > calm.json 2> calm.err
diag "a chunk there and back, nothing else going on: $(jq -r '.gap_chunk_ms |
	"p50 \(.p50) p99 \(.p99) max \(.max) ms"' calm.json)"

# --- there and back

n=0
for bin in "$CMAN_NEXT_BIN" "$CMAN_BIN"; do
	n=$((n + 1))
	"$bin/cmanctl" startup --migrate --json -f cman.conf > report$n.json 2> report$n.err
	is $? 0 "migration $n is done" || diag "$(cat report$n.err)"
	cmp_num "$(jq .moved report$n.json)" '>=' $((IDLE + BUSY)) "migration $n: all sessions have moved"
	is "$(jq -r '"\(.left | length) \(.failed) \(.new_connections_refused)"' report$n.json)" "0 0 0" \
		"migration $n: none stayed, none failed, nobody was refused"
	diag "migration $n: $(jq -r '"\(.moved) sessions in \(.duration_ms) ms (goal: 100), blackout " +
		(.blackout_us | "p50 \(.p50) p99 \(.p99) max \(.max) us (goal: p99 1000)")' report$n.json)"
	sleep 0.5
done
kill -TERM $busy
wait $busy
is $? 0 "the busy sessions have verified every byte"
is "$(jq -r '"\(.alive) \(.lost) \(.wrong_bytes) \(.bytes_missing)"' busy.json)" "$BUSY 0 0 0" \
	"all $BUSY busy sessions are alive"
diag "what the busy ones noticed: $(jq -r '"longest gap of a session " + (.gap_session_ms |
	"p50 \(.p50) p99 \(.p99) max \(.max) ms") + "; of a chunk " + (.gap_chunk_ms |
	"p50 \(.p50) p99 \(.p99) max \(.max) ms")' busy.json)"
kill -TERM $idle
wait $idle
is $? 0 "the idle sessions have verified every byte"
is "$(jq -r '"\(.alive) \(.lost) \(.wrong_bytes) \(.bytes_missing)"' idle.json)" "$IDLE 0 0 0" \
	"all $IDLE idle sessions are alive"
diag "an idle session: RSS $((($(memory Rss) - rss) * 1024 / IDLE)) bytes," \
	"PSS $((($(memory Pss) - pss) * 1024 / IDLE)) bytes after them"
