#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The relay as the two ends of a connection see it: IPv4 and IPv6, who speaks first, half-closes and
# resets in both directions, back-pressure, small and large writes, port ranges, two services.
# timeout: 120

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"

conf <<'END'
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = 2000
    listener front { address = "127.0.0.1:7001"  service = "four" }
    listener six { address = "[::1]:7001"  service = "six" }
    listener to6 { address = "127.0.0.1:7002"  service = "six" }
    listener to4 { address = "[::]:7003"  service = "four" }
    listener range { address = "127.0.0.1:7100-7199"  service = "four" }
    listener any { address = "0.0.0.0:7300"  service = "four" }
    listener one { address = "127.0.0.9:7301"  service = "two" }
    listener bulk { address = "127.0.0.1:7400"  service = "echo" }
    service four { targets = { "127.0.0.1:9001" } }
    service six { targets = { "[::1]:9001" } }
    service two { targets = { "127.0.0.1:9002" } }
    service echo { targets = { "127.0.0.1:9003" } }
}
END
up
V4="127.0.0.1:7001 127.0.0.1:9001"
V6="[::1]:7001 [::1]:9001"

# --- both families, everything that ends a connection

for at in "$V4" "$V6"; do
	case $at in \[*) v=IPv6 ;; *) v=IPv4 ;; esac
	# shellcheck disable=SC2086	# two addresses
	set -- $at
	pair "$v: the server speaks first" "$@" text=hello expect=hi eof -- expect=hello text=hi
	pair "$v: the client speaks first" "$@" recv=3 send=4 eof -- send=3 recv=4
	pair "$v: the client half-closes and still reads" "$@" \
		recv=100 eof send=3000000 -- send=100 shut recv=3000000 eof
	pair "$v: the server half-closes first and still reads" "$@" \
		send=100 shut recv=3000000 eof -- recv=100 eof send=3000000 shut
	pair "$v: a half-close without a byte, then all from the server" "$@" \
		eof send=10 -- shut recv=10 eof
	pair "$v: both half-close, nothing else" "$@" shut eof -- shut eof
	pair "$v: the client resets, the server sees a reset and no end of file" "$@" \
		recv=10 tell reset -- send=10 hear rst
	pair "$v: the server resets, the client sees a reset" "$@" send=10 hear rst -- recv=10 tell reset
	pair "$v: the server resets at once" "$@" rst -- reset
	pair "$v: a reset by the client with data on its way to a server that reads on" "$@" \
		recv=1000 tell reset -- send=1000 hear send=300000 rst
	pair "$v: a reset by the server with data on its way to a client that reads on" "$@" \
		send=1000 hear send=300000 rst -- recv=1000 tell reset
	pair "$v: a reset by the client reaches a server that does not read" "$@" \
		rcvbuf=65536 hear error -- sndbuf=65536 fill=40000000 rst tell
	pair "$v: a reset by the server reaches a client that does not read" "$@" \
		sndbuf=65536 fill=40000000 rst tell -- rcvbuf=65536 hear error
	pair "$v: a reset by the client while the server sends to it" "$@" \
		sndbuf=65536 fill=40000000 tell error -- rcvbuf=65536 hear rst
	pair "$v: a reset by the client after it has half-closed" "$@" \
		recv=5 eof tell hear error -- send=5 shut hear rst tell
	pair "$v: a reset by the server after it has half-closed" "$@" \
		send=5 shut hear rst tell -- recv=5 eof tell hear error
	pair "$v: a reset by the client after the server has half-closed" "$@" \
		send=5 shut hear error -- recv=5 eof rst tell
	pair "$v: a reset by the server after the client has half-closed" "$@" \
		recv=5 eof rst tell -- send=5 shut hear error
	pair "$v: the client closes with unread data" "$@" \
		send=500000 tell hear error -- hear recv=10 close tell
	pair "$v: the server closes with unread data" "$@" \
		recv=10 hear close -- send=500000 tell error
	pair "$v: the client closes at once after it has sent" "$@" recv=200000 eof -- send=200000 close
	pair "$v: the server closes at once after it has sent" "$@" send=200000 close -- recv=200000 eof
done
pair "IPv4 clients, IPv6 target" 127.0.0.1:7002 "[::1]:9001" recv=5 send=500000 -- send=5 recv=500000 eof
pair "IPv6 clients, IPv4 target" "[::1]:7003" 127.0.0.1:9001 recv=5 send=500000 -- send=5 recv=500000 eof
ok "no session is left" wait_sessions 0

# --- sizes

for at in "$V4" "$V6"; do
	case $at in \[*) v=IPv6 ;; *) v=IPv4 ;; esac
	# shellcheck disable=SC2086	# two addresses
	set -- $at
	pair "$v: 5000 writes of one byte each way" "$@" drip=5000 recv=5000 -- drip=5000 recv=5000 eof
	pair "$v: 50 MB each way at once through small buffers" "$@" \
		rcvbuf=100000 sndbuf=100000 duplex=50000000 -- rcvbuf=100000 sndbuf=100000 duplex=50000000
done
pair "1 MB each way through tiny buffers" 127.0.0.1:7001 127.0.0.1:9001 \
	rcvbuf=4096 sndbuf=4096 duplex=1000000 -- rcvbuf=4096 sndbuf=4096 duplex=1000000
head -c 50000000 /dev/urandom > "$T/big"
pair "a file of 50 MB up, and another one down after the half-close" 127.0.0.1:7001 127.0.0.1:9001 \
	recvfile="$T/up" sendfile="$T/up" -- sendfile="$T/big" shut recvfile="$T/down"
big=$(sha256sum < "$T/big")
is "$(sha256sum < "$T/up")" "$big" "sha256 of what the server got"
is "$(sha256sum < "$T/down")" "$big" "sha256 of what the client got"
rm -f "$T/big" "$T/up" "$T/down"

# --- back-pressure: who does not read stops who writes, and costs next to nothing

rss() {
	local p sum=0
	for p in $(show gateways '.[].pid'); do
		sum=$((sum + $(awk '/^Rss(Anon|Shmem)/ { n += $2 } END { print n + 0 }' "/proc/$p/status")))
	done
	echo "$sum"
}
before=$(rss)
for dir in up down; do
	rm -f "$T/full" "$T/go"
	if [ $dir = up ]; then
		"$PEER" pair 127.0.0.1:7001 127.0.0.1:9001 rcvbuf=65536 wait="$T/go" drain hearsent -- \
			sndbuf=65536 fill=16000000 touch="$T/full" wait="$T/go" shut tellsent eof &
	else
		"$PEER" pair 127.0.0.1:7001 127.0.0.1:9001 \
			sndbuf=65536 fill=16000000 touch="$T/full" wait="$T/go" shut tellsent eof -- \
			rcvbuf=65536 wait="$T/go" drain hearsent &
	fi
	pid=$!
	track $pid
	ok "$dir: a reader that stands still blocks the writer within 16 MB" wait_for 10 test -e "$T/full"
	now=$(rss)
	cmp_num $((now - before)) '<' 2048 "$dir: the gateways have grown by $((now - before)) KB meanwhile"
	pair "$dir: others are served meanwhile" 127.0.0.1:7100 127.0.0.1:9001 recv=9 send=9 -- send=9 recv=9 eof
	touch "$T/go"
	wait $pid
	is $? 0 "$dir: then everything arrives, every byte right"
done

# --- listeners

for port in 7100 7150 7199; do
	pair "port $port of a range" 127.0.0.1:$port 127.0.0.1:9001 recv=1 send=1 -- send=1 recv=1 eof
done
ok "the port before the range is nobody's" "$PEER" connect 127.0.0.1:7099 refused
ok "nor is the one behind" "$PEER" connect 127.0.0.1:7200 refused
for addr in 127.0.0.1 127.0.0.9; do
	pair "a wildcard listener on $addr" $addr:7300 127.0.0.1:9001 recv=1 send=1 -- send=1 recv=1 eof
done
pair "a specific address beside it, another service" 127.0.0.9:7301 127.0.0.1:9002 \
	recv=1 send=1 -- send=1 recv=1 eof
ok "no other address on that port" "$PEER" connect 127.0.0.1:7301 refused

# --- many

serve SINK --mode sink --listen 127.0.0.1:9002 --json
for ((i = 0; i < 100; i++)); do
	"$PEER" connect 127.0.0.9:7301 rst || not_ok "a client that resets at once"
done
wait_sessions 0
stop "$SINK_PID"
is "$(jq '.accepted == .resets' "$T/SINK.out")" true \
	"100 clients that reset at once: the target sees resets only ($(jq .resets "$T/SINK.out")), or nothing"

serve ECHO --listen 127.0.0.1:9003
mapfile -t cells < <(cell_pids)
fds=$(nfds "${cells[@]}" | sort -n | tail -n 1)
"$BENCH" connrate -c 127.0.0.1:7400 -n 32 --warmup 0 -d 2 --close wait --json > "$T/rate.json"
is "$(report rate '[.ok, .failures, .wrong_bytes, .resets] | join(" ")')" "true 0 0 0" \
	"short connections: $(report rate '.connections') of them, none fails"
ok "none is left" wait_sessions 0
now=$(nfds "${cells[@]}" | sort -n | tail -n 1)
cmp_num $((now - fds)) '<=' 40 "nor a descriptor beyond the pool of pipes"
"$BENCH" stream -c 127.0.0.1:7400 -n 300 -s 20000 -i 50 -d 2 --json > "$T/s.json"
is "$(report s '[.ok, .alive, .lost, .wrong_bytes, .bytes_missing] | join(" ")')" "true 300 0 0 0" \
	"300 verified streams at once"
is "$(sum lost) $(sum recoveries)" "0 0" "no gateway has been replaced in this test"

down
ok "the instance ends" wait_for 5 test ! -e "$RUN/cman1.sock"
