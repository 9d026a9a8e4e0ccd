#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sessions that the kernel relays (splice = "sockmap"): every byte once and in order, half-closes and
# resets passed on, a reader that stands still costs no more than the limit, and migrations under load. A
# start where the kernel does not deliver exactly once is refused.
# timeout: 420

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
need_cmd bpftool

conf <<'END'
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = 2000
    listener four { address = "127.0.0.1:7001"  service = "four" }
    listener six { address = "[::1]:7001"  service = "six" }
    listener echo { address = "127.0.0.1:7002"  service = "echo" }
    listener user { address = "127.0.0.1:7003"  service = "user" }
    listener source { address = "127.0.0.1:7004"  service = "source" }
    listener hold { address = "127.0.0.1:7005"  service = "hold" }
    listener idle { address = "127.0.0.1:7006"  service = "idle" }
    listener still { address = "127.0.0.1:7007"  service = "still" }
    service still { targets = { "127.0.0.1:9006" }  splice = "sockmap"  idle_timeout = 2 }
    service four { targets = { "127.0.0.1:9001" }  splice = "sockmap" }
    service six { targets = { "[::1]:9001" }  splice = "sockmap" }
    service echo { targets = { "127.0.0.1:9002" }  splice = "sockmap" }
    service user { targets = { "127.0.0.1:9002" } }
    service source { targets = { "127.0.0.1:9004" }  splice = "sockmap" }
    service hold { targets = { "127.0.0.1:9005" }  splice = "sockmap" }
    service idle { targets = { "127.0.0.1:9002" }  splice = "sockmap"  idle_timeout = 2 }
}
END
if ! out=$(ctl startup 2>&1); then
	case $out in
	*"does not take the program"*) skip_all "$out" ;;
	esac
	bail "startup: $out"
fi
LIMIT=$(sed -n 's/^#define CMAN_SPLICE_BACKLOG \([0-9]*\)u.*/\1/p' "$(dirname "$0")/../../bpf/cman_maps.h")

legs() { bpftool -j map dump pinned /sys/fs/bpf/cman/cman1/splice_legs | jq "[.[].formatted.value] | $1"; }
legs_are() { [ "$(legs length)" = "$1" ]; }
# so many short messages there and back make the gateway hand a session to the kernel
WARM_S=() WARM_C=()
for ((i = 0; i < 30; i++)); do
	WARM_S+=(recv=10 send=10)
	WARM_C+=(send=10 recv=10)
done

# spliced DESCRIPTION CONNECT LISTEN server-words... -- client-words...: from here on in the kernel
spliced() {
	local what=$1 connect=$2 listen=$3 server=() client=() now=server w
	shift 3
	for w in "$@"; do
		case $w in
		--) now=client ;;
		rcvbuf=* | sndbuf=*) if [ $now = server ]; then server=("$w" "${server[@]}"); else client=("$w" "${client[@]}"); fi ;;
		*) break ;;
		esac
		shift
	done
	server=("${WARM_S[@]}") client=("${WARM_C[@]}") now=server
	for w in "$@"; do
		if [ "$w" = -- ]; then now=client; elif [ $now = server ]; then server+=("$w"); else client+=("$w"); fi
	done
	ok "$what" "$PEER" pair "$connect" "$listen" "${server[@]}" -- "${client[@]}"
}

# --- it is the kernel that relays

"$PEER" pair 127.0.0.1:7001 127.0.0.1:9001 "${WARM_S[@]}" touch="$T/in" wait="$T/go" drip=2000 eof -- \
	"${WARM_C[@]}" recv=2000 shut eof &
pid=$!
track $pid
wait_for 5 test -e "$T/in"
ok "a session of short messages is handed to the kernel" wait_for 2 legs_are 2
before=$(legs 'map(.redirected) | add')
touch "$T/go"
wait $pid
is $? 0 "which relays it to its end"
ok "then nothing of it is left" wait_for 2 legs_are 0
cmp_num "$before" '>' 100 "redirected were $before bytes of the first 600"

# --- how connections end

for at in "127.0.0.1:7001 127.0.0.1:9001" "[::1]:7001 [::1]:9001"; do
	case $at in \[*) v=IPv6 ;; *) v=IPv4 ;; esac
	# shellcheck disable=SC2086	# two addresses
	set -- $at
	spliced "$v: the client half-closes and still reads" "$@" recv=100 eof send=3000000 -- send=100 shut recv=3000000 eof
	spliced "$v: the server half-closes and still reads" "$@" send=100 shut recv=3000000 eof -- recv=100 eof send=3000000 shut
	spliced "$v: both half-close" "$@" shut eof -- shut eof
	spliced "$v: the client resets" "$@" recv=10 tell reset -- send=10 hear rst
	spliced "$v: the server resets" "$@" send=10 hear rst -- recv=10 tell reset
	spliced "$v: the client resets after it has half-closed" "$@" recv=5 eof tell hear error -- send=5 shut hear rst tell
	spliced "$v: the server resets after the client has half-closed" "$@" recv=5 eof rst tell -- send=5 shut hear error
	spliced "$v: a reset by the client while the server sends to it" "$@" fill=40000000 tell error -- hear rst
	spliced "$v: the client closes at once after it has sent" "$@" recv=200000 eof -- send=200000 close
	spliced "$v: the server closes at once after it has sent" "$@" send=200000 close -- recv=200000 eof
	spliced "$v: 5000 writes of one byte each way" "$@" drip=5000 recv=5000 -- drip=5000 recv=5000 eof
	spliced "$v: 20 MB each way at once" "$@" duplex=20000000 -- duplex=20000000
done
ok "no session is left" wait_sessions 0
ok "nor an entry" wait_for 2 legs_are 0

# --- who does not read

for dir in up down; do
	rm -f "$T/full" "$T/go"
	if [ $dir = up ]; then
		"$PEER" pair 127.0.0.1:7001 127.0.0.1:9001 "${WARM_S[@]}" wait="$T/go" drain hearsent -- \
			"${WARM_C[@]}" fill=40000000 touch="$T/full" wait="$T/go" shut tellsent eof &
	else
		"$PEER" pair 127.0.0.1:7001 127.0.0.1:9001 "${WARM_S[@]}" fill=40000000 touch="$T/full" \
			wait="$T/go" shut tellsent eof -- "${WARM_C[@]}" wait="$T/go" drain hearsent &
	fi
	pid=$!
	track $pid
	ok "$dir: a reader that stands still blocks the writer within 40 MB" wait_for 10 test -e "$T/full"
	is "$(legs 'map(.over) | add')" 1 "$dir: the kernel has left that direction to user space"
	# what the reader's and our sockets hold, and the limit; one buffer of 64 KB may go over it
	most=$((4194304 + 4194304 + LIMIT + 65536))
	cmp_num "$(legs 'map(.redirected) | max')" '<' $most "$dir: no more than sockets and limit hold was redirected"
	pair "$dir: others are served meanwhile" "[::1]:7001" "[::1]:9001" recv=9 send=9 -- send=9 recv=9 eof
	touch "$T/go"
	wait $pid
	is $? 0 "$dir: then everything arrives, every byte right"
done

# --- under load

serve ECHO --listen 127.0.0.1:9002
serve SOURCE --mode source --listen 127.0.0.1:9004
serve HOLD --mode hold --listen 127.0.0.1:9005 --size 500 --interval-ms 20
"$BENCH" stream -c 127.0.0.1:7002 -n 100 -s 700 -i 2 -d 3 --json > "$T/s.json"
is "$(report s '[.ok, .alive, .lost, .wrong_bytes, .bytes_missing] | join(" ")')" "true 100 0 0 0" "100 verified streams"
"$BENCH" bulk -c 127.0.0.1:7004 -n 3 --verify -d 2 --json > "$T/b.json"
is "$(report b '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" "3 bulk transfers, every byte right"
"$BENCH" pingpong -c 127.0.0.1:7006 -d 4 --json > "$T/p.json"
is "$(report p '[.ok, .lost] | join(" ")')" "true 0" "a busy session does not time out although the gateway does not see its bytes"
spliced "an idle one does" 127.0.0.1:7007 127.0.0.1:9006 eof -- eof

bench S stream -c 127.0.0.1:7002 -n 60 -s 512 -i 5 --slow 5 --slow-rate 20k --half-close 10 \
	--hold-connect 127.0.0.1:7005 --idle 20
bench D bulk -c 127.0.0.1:7004 -n 2 --verify -d 120 --warmup 0
for ((i = 1; i <= 20; i++)); do
	old=$(field .pid)
	out=$(ctl migrate --json 2> "$T/m.err") || not_ok "migration $i: $(head -n 3 "$T/m.err")"
	[ "$(jq '[.failed, .new_connections_refused] | add' <<< "$out")" = 0 ] || not_ok "migration $i: $out"
	[ "$(field .pid)" != "$old" ] || not_ok "migration $i changed nothing"
done
diag "last migration: $(jq -c '{moved, duration_ms, blackout_us, left: (.left | length)}' <<< "$out")"
cmp_num "$(legs length)" '>' 40 "after 20 migrations the kernel relays again ($(legs length) legs)"
up_bytes() { show sessions 'map(select(.service == "echo") | .bytes_up) | max'; }
ups=$(up_bytes)
grown() { [ "$(up_bytes)" -gt "$ups" ]; }
ok "show sessions counts what the kernel relays" wait_for 2 grown
bench_end D
bench_end S
is "$(report S '[.lost, .wrong_bytes, .bytes_missing, .half_close.server_wrong_bytes] | join(" ")')" "0 0 0 0" \
	"streams, slow readers, half-closed and idle sessions went through 20 migrations: nothing lost, nothing wrong"
is "$(report D '[.ok, .lost, .wrong_bytes] | join(" ")')" "true 0 0" "so did bulk: $(report D '.bytes_verified / 1e6 | floor') MB"
is "$(sum lost) $(sum recoveries)" "0 0" "no gateway was replaced"

# --- a hung instance

bench S stream -c 127.0.0.1:7002 -n 40 -s 512 -i 5 --slow 3 --slow-rate 20k
many_legs() { [ "$(legs length)" -ge 60 ]; }
ok "again the kernel relays" wait_for 5 many_legs
old=$(field .pid) hung=$(show gateways '.[].pid')
# shellcheck disable=SC2086	# several
kill -STOP "$old" $hung
ok "rescue" ctl rescue
isnt "$(field .pid)" "$old" "another instance runs"
is "$(field .sessions)" 40 "it has all 40 sessions"
ok "which the kernel relays there" wait_for 5 many_legs
bench_end S
is "$(report S '[.lost, .wrong_bytes, .bytes_missing] | join(" ")') $(sum lost)" "0 0 0 0" "nothing lost, nothing wrong"
down

# --- refused where it would not be exact

if [ -x "$CMAN_CRASH_BIN/cmanctl" ]; then
	CMAN_SPLICE_UNTRIMMED=1 "$CMAN_CRASH_BIN/cmanctl" -f "$T/cman.conf" startup > "$T/out" 2>&1 < /dev/null
	isnt $? 0 "a program that does not cut old bytes off fails the self-test: the instance does not start"
	like "$(cat "$T/out")" "cman.conf:[0-9]+: splice = \"sockmap\" in service '[a-z]+': .*fails its self-test" "and says why"
	ok "nothing is left of the attempt" test ! -e "$RUN/cman1"
fi
