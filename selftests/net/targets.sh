#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The choice of a target: the three ways to balance, targets that are down and come back, targets that
# do not answer at all, nobody left, the source address.
# timeout: 120

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
need_cmd ip

# 10.9.9.0/24 is there and nobody is: a SYN to it is never answered
ip link add dev hole type veth peer name bottom && ip link set bottom up && ip link set hole up &&
	ip address add 10.9.9.1/24 dev hole || bail "no veth device"
ip neighbour add 10.9.9.9 lladdr 02:00:00:00:00:09 dev hole

service() { # NAME PORT [LINE]: listener and service on targets 9001, 9002, 9003
	printf '    listener %s { address = "127.0.0.1:%s"  service = "%s" }\n' "$1" "$2" "$1"
	printf '    service %s { targets = { "127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003" }\n %s }\n' \
		"$1" "${3-}"
}
conf <<END
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = 500
$(service first 7001)
$(service rr 7002 'balance = "roundrobin"')
$(service least 7003 'balance = "leastconn"')
    listener hole { address = "127.0.0.1:7004"  service = "hole" }
    service hole { targets = { "10.9.9.9:9", "127.0.0.1:9001" }  connect_timeout = 1 }
    listener holes { address = "127.0.0.1:7005"  service = "holes" }
    service holes { targets = { "10.9.9.9:9", "10.9.9.9:10" }  connect_timeout = 1 }
    listener dead { address = "127.0.0.1:7006"  service = "dead" }
    service dead { targets = { "127.0.0.1:9111", "127.0.0.1:9112" } }
    listener src { address = "127.0.0.1:7007"  service = "src" }
    service src { targets = { "127.0.0.1:9007" }  source = "127.0.0.77" }
    listener src6 { address = "127.0.0.1:7008"  service = "src6" }
    service src6 { targets = { "[::1]:9007" } }
    listener slow { address = "127.0.0.1:7009"  service = "slow" }
    service slow { targets = { "127.0.0.1:9001" }  connect_timeout = 1 }
}
END
up
for n in 1 2 3; do serve "T$n" --listen "127.0.0.1:900$n"; done

target() { show services ".[] | select(.name == \"$1\") | .targets[$2].$3"; }
loads() { show services ".[] | select(.name == \"$1\") | [.targets[].sessions] | join(\" \")"; }
# hold NAME PORT N: N sessions that stay
hold() {
	bench "$1" idle -c "127.0.0.1:$2" -n "$3"
}

# --- balance

hold H1 7001 6
is "$(loads first)" "6 0 0" "first: all to the first target"
bench_end H1
is "$(report H1 .ok)" true "and all were right"
hold H2 7002 12
like "$(loads rr)" '^(4 4 4|[3-5] [3-5] [3-5])$' "roundrobin: shares are even ($(loads rr))"
bench_end H2
hold H3 7003 9
# two gateways may look in the same instant, and see the same
like "$(loads least)" '^[1-5] [1-5] [1-5]$' "leastconn: shares are equal ($(loads least))"
bench_end H3
wait_sessions 0
is "$(loads rr) $(loads least)" "0 0 0 0 0 0" "nothing is counted when all have ended"

# leastconn looks at what lives, not at whose turn it is
"$PEER" connect 127.0.0.1:7003 text=hi expect=hi touch="$T/c1" wait="$T/end" & track $!
wait_for 5 test -e "$T/c1"
hold H4 7003 1 # one after the other: both gateways see what the other one has
hold H4b 7003 1
is "$(loads least)" "1 1 1" "leastconn: new ones go where fewest are"
bench_end H4
bench_end H4b
touch "$T/end"

# --- a target that is down

stop "$T1_PID"
ok "first: the dead target is passed over" "$PEER" connect 127.0.0.1:7001 text=hi expect=hi
is "$(target first 0 state) $(target first 1 state)" "down up" "it is shown as down"
cmp_num "$(target first 0 failures)" '>=' 1 "and its failures are counted"
hold H5 7001 5
is "$(loads first)" "0 5 0" "while it is down all go to the next one"
bench_end H5
"$BENCH" connrate -c 127.0.0.1:7002 -n 4 -d 0.5 --warmup 0 --json > "$T/rr.json"
is "$(report rr '[.ok, .failures] | join(" ")')" "true 0" \
	"roundrobin: $(report rr .connections) clients, none notices the dead target"
serve T1 --listen 127.0.0.1:9001
is_up() { [ "$(target first 0 state)" = up ]; }
ok "it is tried again after a while" wait_for 8 is_up
hold H6 7001 4
is "$(loads first)" "4 0 0" "and has come back"
bench_end H6

# --- a target that never answers

start=$(now_ms)
ok "a target that does not answer: the next one serves after connect_timeout" \
	"$PEER" connect 127.0.0.1:7004 text=hi expect=hi
took=$(($(now_ms) - start))
cmp_num $took '>=' 1000 "not before connect_timeout = 1 ($took ms)"
cmp_num $took '<' 2600 "and not long after it"
start=$(now_ms)
ok "now it is known: no wait" "$PEER" connect 127.0.0.1:7004 text=hi expect=hi
cmp_num $(($(now_ms) - start)) '<' 300 "indeed"
refused=$(field .refused)
start=$(now_ms)
ok "no target answers: the client is reset" "$PEER" connect 127.0.0.1:7005 reset
took=$(($(now_ms) - start))
cmp_num $took '>=' 2000 "after both have been given their time ($took ms)"
cmp_num $took '<' 4600 "and not long after"
is $(($(field .refused) - refused)) 1 "counted as refused"

# a client that goes while its target is tried
"$PEER" connect 127.0.0.1:7005 rst
ok "a client that resets while connecting leaves nothing" wait_sessions 0 1

# --- nobody

refused=$(field .refused)
ok "all targets are dead: reset" "$PEER" connect 127.0.0.1:7006 reset
ok "again, although all are marked down" "$PEER" connect 127.0.0.1:7006 reset
is $(($(field .refused) - refused)) 2 "both counted as refused"
is "$(target dead 0 state) $(target dead 1 state)" "down down" "both targets are shown as down"
serve LATE --listen 127.0.0.1:9112
ok "one comes back: it is tried at once, since there is no other" \
	"$PEER" connect 127.0.0.1:7006 text=hi expect=hi
is "$(target dead 1 state)" up "and shown as up"
like "$(ctl show events --json | jq -r '.[].text'; cat "$RUN/cman1.log")" 'no target answers' \
	"the log says that sessions were refused"

# --- addresses

pair "source: the server leg comes from the configured address" 127.0.0.1:7007 127.0.0.1:9007 \
	peer=127.0.0.77 -- eof
pair "an IPv6 target behind an IPv4 listener" 127.0.0.1:7008 "[::1]:9007" peer=::1 recv=9 -- send=9 eof

# a healthy target is never given up early, wherever in a second the attempt begins
bad=$(target slow 0 failures)
tc qdisc add dev lo root netem delay 40ms 2> /dev/null && {
	"$BENCH" probe -c 127.0.0.1:7009 -r 25 -d 2 --timeout 3 --json > "$T/slow.json"
	is "$(report slow '[.failures, .wrong_bytes] | join(" ")') $(($(target slow 0 failures) - bad))" \
		"0 0 0" "connect_timeout = 1 and a target 80 ms away: it never fails"
	tc qdisc del dev lo root
} || skip "kernel has no netem"

ok "nothing is left" wait_sessions 0
is "$(show gateways '[.[].recoveries] | add')" 0 "no gateway was replaced"
down
