#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Live migration on one machine under load: verified streams and a prober go through ten of them in a
# row; then to the next release and back; then slow readers, half-closed sessions and bulk transfers.
# Nothing may be lost, wrong, refused or reset, and nothing may be left behind.
# timeout: 180

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
[ -x "$CMAN_NEXT_BIN/cmand" ] || bail "$CMAN_NEXT_BIN/cmand is not built (make next)"

conf <<'END'
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = 5000
    listener echo { address = "127.0.0.1:7001"  service = "echo" }
    service echo { targets = { "127.0.0.1:9001" } }
    listener hold { address = "127.0.0.1:7002"  service = "hold" }
    service hold { targets = { "127.0.0.1:9002" } }
    listener source { address = "127.0.0.1:7003"  service = "source" }
    service source { targets = { "127.0.0.1:9003" } }
    listener sink { address = "127.0.0.1:7004"  service = "sink" }
    service sink { targets = { "127.0.0.1:9004" } }
    rule all { source = "127.0.0.0/8"  action = "accept"  max_sessions = 4000 }
}
END
serve ECHO --listen 127.0.0.1:9001
serve HOLD --mode hold --listen 127.0.0.1:9002 --size 500 --interval-ms 20
serve SOURCE --mode source --listen 127.0.0.1:9003
serve SINK --mode sink --listen 127.0.0.1:9004
up

REPORT='def n: type == "number" and . >= 0; def s: type == "string" and length > 0;
	(keys - ["instance","via","moved","left","failed","new_connections_refused","duration_ms","moving_ms",
	"blackout_us","bytes_in_flight","old","new"] | length) == 0 and
	.instance == "cman1" and .via == "fd" and (.moved | n) and (.left | type == "array" and
	all(.[]; (.id | s) and (.reason | s))) and (.failed | n) and (.new_connections_refused | n) and
	(.duration_ms | n) and (.moving_ms | n) and (.blackout_us | all(.p50, .p99, .max; n)) and (.bytes_in_flight | n) and
	(.old | (.pid | n) and (.version | s) and (.exited | type == "boolean")) and
	(.new | (.pid | n) and (.version | s))'

# move NAME COMMAND…: one migration; its report in $T/NAME.json, what was wrong in $wrong
move() {
	local name=$1 old rc=0 new
	shift
	old=$(field .pid)
	wrong=
	ctl "$@" --json > "$T/$name.json" 2> "$T/$name.err" || rc=$?
	[ $rc = 0 ] || wrong+=" exit $rc: $(head -n 3 "$T/$name.err")"
	[ "$(jq "$REPORT" "$T/$name.json")" = true ] || wrong+=" report: $(head -c 700 "$T/$name.json")"
	[ "$(report "$name" '[.failed, .new_connections_refused, (.left | length), .old.exited] | join(" ")')" = \
		"0 0 0 true" ] || wrong+=" left: $(jq -c '[.failed, .new_connections_refused, .left, .old]' "$T/$name.json")"
	new=$(field .pid)
	[ "$(report "$name" '[.old.pid, .new.pid] | join(" ")')" = "$old $new" ] || wrong+=" pids $old $new"
	is_gone "$old" || wrong+=" the old process $old is still there"
	[ -z "$(find "$RUN" /sys/fs/bpf/cman -mindepth 1 -maxdepth 1 -name 'cman1_*')" ] ||
		wrong+=" left behind: $(ls "$RUN" /sys/fs/bpf/cman)"
}
gaps() { # NAME: what the clients saw
	diag "$1: gap of a session p50 $(report "$1" .gap_session_ms.p50) ms, p99 $(
		report "$1" .gap_session_ms.p99) ms, max $(report "$1" .gap_session_ms.max) ms"
}
duration() {
	diag "$1: moved $(report "$1" .moved) in $(report "$1" .duration_ms) ms, gap p50 $(
		report "$1" .blackout_us.p50) us, p99 $(report "$1" .blackout_us.p99) us, max $(
		report "$1" .blackout_us.max) us, $(report "$1" .bytes_in_flight) bytes in between"
}

# --- ten in a row

bench S stream -c 127.0.0.1:7001 -n 200 -s 1024 -i 25
bench P probe -c 127.0.0.1:7001 -r 1000
pid=$(field .pid)
like "$(ctl migrate --check 2>&1)" '[0-9]+ of [0-9]+ sessions can move' "migrate --check tells how many can move"
is "$(field .pid)" "$pid" "and changes nothing"
ids=$(show sessions 'map(select(.age_s >= 1) | .id) | sort | join(" ")')
for i in 1 2 3 4 5 6 7 8 9 10; do
	move m$i startup --migrate
	is "$wrong" "" "migration $i: moved $(report m$i .moved), the old process has gone"
	duration m$i
done
# a slow machine may have some of the prober's among them
cmp_num "$(show sessions '[.[] | select(.handovers == 10)] | length')" '>=' 200 "200 sessions have moved ten times"
now=" $(show sessions 'map(.id) | sort | join(" ")') "
gone=0
for id in $ids; do [[ $now == *" $id "* ]] || gone=$((gone + 1)); done
cmp_num "$gone" '<' 60 "ids are kept"
bench_end P
bench_end S
is "$(report S '[.alive, .lost, .wrong_bytes, .bytes_missing, .resets, .early_eofs] | join(" ")')" "200 0 0 0 0 0" \
	"200 of 200 streams are alive, no byte is wrong or missing"
is "$(report P '[.failures, .refused, .resets, .timeouts, .wrong_bytes, .other_errors] | join(" ")')" \
	"0 0 0 0 0 0" "of $(report P .connections) new connections none was refused, reset or timed out"
gaps S
diag "probe: latency p99 $(report P .latency_us.p99) us, max $(report P .latency_us.max) us"
ok "no session is left" wait_sessions 0
is "$(sum sessions) $(show rules '.[0].sessions') $(show services 'map(.sessions) | add') $(
	show services 'map(.targets[].sessions) | add')" "0 0 0 0" "nor does any count say so"

# --- another release, and back

bench S stream -c 127.0.0.1:7001 -n 100 -s 1024 -i 25
version=$(field .version)
next=$("$CMAN_NEXT_BIN/cmanctl" version --json 2> /dev/null | jq -r '.version // .release // empty')
move next migrate --home "$CMAN_NEXT_BUILD"
is "$wrong" "" "to the next release"
duration next
isnt "$(field .version)" "$version" "it is $(field .version) that runs now${next:+ (built: $next)}"
is "$(report next .old.version) $(report next .new.version)" "$version $(field .version)" "the report says so"
is "$(readlink "/proc/$(field .pid)/exe")" "$(readlink -f "$CMAN_NEXT_BIN/cmand")" "from its own folder"
move back migrate --home "$CMAN_BUILD"
is "$wrong" "" "and back"
is "$(field .version)" "$version" "to where we were"
bench_end S
is "$(report S '[.alive, .lost, .wrong_bytes, .bytes_missing] | join(" ")')" "100 0 0 0" "100 of 100 streams"
gaps S

# --- sessions that are busy, slow, or half over

bench S stream -c 127.0.0.1:7001 -n 40 -s 4096 -i 20 --slow 10 --slow-rate 20k --half-close 10 \
	--hold-connect 127.0.0.1:7002 --idle 50
bench D bulk -c 127.0.0.1:7003 -n 2 --verify -d 60 --warmup 0
bench U bulk -c 127.0.0.1:7004 -n 2 --direction up -d 60 --warmup 0
for i in 1 2 3 4 5; do
	move b$i migrate
	is "$wrong" "" "busy migration $i: moved $(report b$i .moved)"
	duration b$i
done
bench_end D
bench_end U
bench_end S
is "$(report S '[.lost, .wrong_bytes, .bytes_missing, .half_close.server_wrong_bytes] | join(" ")')" "0 0 0 0" \
	"streams, slow readers, half-closed and idle sessions: nothing lost, nothing wrong"
is "$(report S '[.half_close.sessions, .half_close.completed + .half_close.open_at_end] | join(" ")')" "10 10" \
	"half-closed ones still receive"
is "$(report D '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" \
	"down: $(report D '.bytes_verified / 1e6 | floor') MB, every byte right"
is "$(report U '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" \
	"up: $(report U '.bytes / 1e6 | floor') MB, the sink's counts agree"
ok "no session is left" wait_sessions 0
is "$(show gateways '[.[] | .lost, .recoveries] | add')" 0 "no gateway was replaced"
down
ok "nothing is left behind" test ! -e "$RUN/cman1.sock" -a ! -e /sys/fs/bpf/cman/cman1
