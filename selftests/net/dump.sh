#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What can be looked at without an instance: the journal of one that has moved its sessions, and a file
# of images. A journal is read while it is locked and after the instance was killed; reading changes
# nothing. What is no journal, or no image, is an error that says what was expected.
# timeout: 90

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
need_cmd flock

# --- the journal

conf <<'END'
instance cman1 {
    run_dir = "@RUN@"
    gateways = 1
    max_sessions = 200
    listener echo { address = "127.0.0.1:7001"  service = "echo" }
    service echo { targets = { "127.0.0.1:9001" } }
}
END
exits 1 "no journal yet" ctl journal dump
like "$(ctl journal dump 2>&1)" "there is no journal $RUN/cman1/journal" "and why"
ok "nothing was made" test ! -e "$RUN/cman1"

serve ECHO --listen 127.0.0.1:9001
up
is "$(ctl journal dump --json | jq -c .)" "[]" "a fresh instance: an empty array"
like "$(ctl journal dump)" '^BATCH +EPOCH +NUMBER +VALUE +COUNT +TIME$' "as text only the heading"
bench S stream -c 127.0.0.1:7001 -n 100 -s 512 -i 25
ctl migrate --json > "$T/report.json" || not_ok "migrate" "$(cat "$T/report.json")"
is "$(report report .moved)" 100 "100 sessions have moved"

ctl journal dump --json > "$T/journal.json"
is "$(jq 'type == "array" and length > 0 and all(.[]; (keys | sort) ==
	["batch","count","epoch","number","time","value"] and (.batch | test("^[0-9a-f]{16}$")) and
	(.epoch | type == "number") and (.count | type == "number") and
	(.time | test("^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[.][0-9]{3}Z$")))' "$T/journal.json")" true \
	"journal dump --json: an array of records"
is "$(jq '[.[] | select(.number > 0) | .count] | add' "$T/journal.json")" 100 "its batches hold 100 sessions"
is "$(jq -r '[.[] | select(.number > 0) | .value] | unique | join(" ")' "$T/journal.json")" DONE "all are done"
is "$(jq '[.[].epoch] | unique | length' "$T/journal.json")" 1 "of one epoch"
while read -r batch epoch number; do
	[ "$batch" = "$(printf '%08x%08x' "$epoch" "$number")" ] || echo "$batch $epoch $number"
done < <(jq -r '.[] | "\(.batch) \(.epoch) \(.number)"' "$T/journal.json") > "$T/wrong"
is "$(cat "$T/wrong")" "" "batch is epoch and number"
age=$(($(date +%s) - $(date -d "$(jq -r '.[-1].time' "$T/journal.json")" +%s)))
ok "the time of the last record is now ($age s ago)" test "$age" -ge -1 -a "$age" -le 30
# the boot time is worked out anew each time: milliseconds may differ
is "$(ctl journal dump | awk 'NR > 1 { print $1, $2, $3, $4, $5 }')" \
	"$(jq -r '.[] | "\(.batch) \(.epoch) \(.number) \(.value) \(.count)"' "$T/journal.json")" "as text the same"
is "$("$CTL" journal dump "$RUN/cman1/journal" -j | jq -c 'map(del(.time))')" \
	"$(jq -c 'map(del(.time))' "$T/journal.json")" "the file can be named, without a configuration"

sum=$(sha256sum < "$RUN/cman1/journal")
is "$(flock -x "$RUN/cman1/journal" timeout 1 "$CTL" -f "$T/cman.conf" journal dump -j | jq length)" \
	"$(jq length "$T/journal.json")" "a journal that somebody has locked is read at once"
bench_end S
mapfile -t pids < <(all_pids)
kill -KILL "${pids[@]}"
exits 1 "the instance is dead" ctl status
is "$(ctl journal dump -j | jq -c 'map(del(.time))')" "$(jq -c 'map(del(.time))' "$T/journal.json")" \
	"the journal of a dead instance"
is "$(sha256sum < "$RUN/cman1/journal")" "$sum" "was not changed by reading it"

head -c 100 /dev/urandom > "$T/noise"
exits 1 "what is no journal" ctl journal dump "$T/noise"
like "$(ctl journal dump "$T/noise" 2>&1)" "$T/noise is not a journal.*expected a file RUN_DIR/ALIAS/journal" \
	"is an error that says what was expected"
exits 1 "nor is a folder" ctl journal dump "$T"

# --- images: the corpus of the fuzzer holds the vectors of the unit test

IMAGES=$CMAN_ROOT/selftests/fuzz/corpus/image
# dump FILE FILTER [OPTION…]
dump() {
	local file=$1 filter=$2
	shift 2
	"$CTL" image dump "$file" "$@" | jq -r "$filter"
}
is "$(dump "$IMAGES/ipv6" '[.version, .batch, (.images | length)] | join(" ")')" "1 0000000500000001 1" \
	"image dump: the stream"
is "$(dump "$IMAGES/ipv6" .length)" "$(stat -c %s "$IMAGES/ipv6")" "its length is that of the file"
is "$(dump "$IMAGES/ipv6" '.images[0] | keys | join(" ")')" "client server session" "an image is three objects"
is "$(dump "$IMAGES/ipv6" '.images[0].session | [.id, .listener, .client_addr, .client_port, .eof, .between_up] |
	join(" ")')" "0000000000000002 lü fd00::2 40001 3 2" "the session"
is "$(dump "$IMAGES/ipv6" '.images[0].client | [.family, .state, .peer_fin, .fin_acked, .window.max_window, .in,
	.out, .congestion] | join(" ")')" "IPv6 CLOSING true false 65536 7 8 " "the client's socket"
is "$(dump "$IMAGES/ipv6" '[.. | strings | select(test("data|756e73656e74"))] | length')" 0 "no byte of a queue"
is "$(dump "$IMAGES/ipv6" '.images[0] | [.session.between_down_hex, .client.in_hex, .server.out_hex] | join(" ")' \
	--bytes)" "$(echo "$(printf down | od -An -tx1) - $(printf 'in data' | od -An -tx1) - $(
	printf sent+unsent | od -An -tx1)" | tr -d ' \n' | tr - ' ')" "with --bytes it is there"
is "$(dump "$IMAGES/ipv4" '.images[0] | [.session.client_addr, .session.read_base[], .client.option.nodelay,
	.client.speed.snd_cwnd] | join(" ")')" "10.0.0.5 -1 1 1 10" "IPv4, signed numbers, options, speed"
is "$(dump "$IMAGES/all" '.images[0].client.option | length')" 53 "all socket options by name"
is "$(dump "$IMAGES/all" '.images[0].client.option.max_pacing_rate, .images[0].client.bytes_received > 1e19')" \
	$'-1\ntrue' "no limit is -1; the largest number is large"
is "$(dump "$IMAGES/states" '[.images[].client.state] | join(" ")')" "FIN_WAIT1 FIN_WAIT2 LAST_ACK" "three images"
is "$(dump "$IMAGES/empty" '.images | length')" 0 "none"
is "$("$CTL" image dump "$IMAGES/later" | jq '.images | length')" 1 "one of a later release"
is "$("$CTL" -j image dump "$IMAGES/ipv4")" "$("$CTL" image dump "$IMAGES/ipv4")" "--json is the same"
is "$("$CTL" image dump <(cat "$IMAGES/ipv4"))" "$("$CTL" image dump "$IMAGES/ipv4")" "it need not be a file"

for bad in "$T/none" "$T" "$T/noise" "$T/cman.conf" /dev/null; do
	exits 1 "image dump ${bad##*/}: fails" "$CTL" image dump "$bad"
done
like "$("$CTL" image dump "$T/noise" 2>&1)" "$T/noise is not an image: .*magic.*; expected a file of RUN_DIR" \
	"and says what was expected"
head -c 300 "$IMAGES/ipv6" > "$T/cut"
like "$("$CTL" image dump "$T/cut" 2>&1)" "$T/cut is not an image: it is shorter than its header says" "cut short"
is "$("$CTL" -j image dump "$T/cut" 2> /dev/null | jq -c '[.code, (.error | length > 0)]')" "[1,true]" \
	"--json: an error is a document"
exits 2 "no file" "$CTL" image dump
exits 2 "no word" "$CTL" image
exits 2 "another word" "$CTL" image show "$IMAGES/ipv4"
like "$("$CTL" image show x 2>&1)" 'unknown WHAT "show"; expected: dump' "says which"
exits 2 "--bytes is not for journals" "$CTL" journal dump --bytes
