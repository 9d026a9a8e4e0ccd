#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Steering and its pinned maps: addresses, rules, flips, takeover between two releases, dead
# daemons, suspended services, the tc program that holds clients when no daemon does, renames of the
# folders of pins, what bpftool shows. Each call of steer_check is a process of its own.
# timeout: 180

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
need_cmd bpftool tc

C=$CMAN_TESTBIN/net/steer_check
PINS=/sys/fs/bpf/cman

# start NAME ARGUMENT…: a long-running steer_check in the background; its pid is $NAME_PID
start() {
	local name=$1
	shift
	: > "$T/$name.out"
	"$C" "$@" > "$T/$name.out" 2>&1 &
	printf -v "${name}_PID" '%s' $!
	track $!
	wait_for 5 test -s "$T/$name.out" || bail "$name says nothing"
}
# kill9 NAME: as a crash would
kill9() {
	local v=${1}_PID
	kill -KILL "${!v}"
	wait "${!v}" 2> /dev/null
	return 0
}
# load NAME ADDR PORT FROM, load_end NAME: the load's line "banner=N refused=N …"
load() { start "$1" load "$2" "$3" "$4"; }
load_end() {
	local v=${1}_PID
	kill -TERM "${!v}"
	wait_for 5 is_gone "${!v}" # not wait: this runs in a subshell, whose child it is not
	tail -n 1 "$T/$1.out"
}
client() { "$C" connect "$@"; } # ADDR PORT TIMEOUT_MS [FROM]
count() { "$C" counters "$1" "$2" | tr ' ' '\n' | sed -n "s/^$3=//p"; }
pins() { find "$PINS" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | tr '\n' ' '; }
filters() { tc filter show dev "$1" ingress | grep -c 'cman_hold'; }

# --- maps and pins

like "$("$C" open cman1)" '\(-2\)$' "no instance: ENOENT"
ok "the maps are made and pinned" "$C" create cman1 2 100
is "$("$C" open cman1)" "abi 2, cman1, 2 cells of 100 slots" \
	"another process opens what the dead one pinned"
like "$("$C" create cman1 2 100)" '\(-17\)$' "a second create: EEXIST"
is "$(pins)" "cman1 " "and it leaves nothing behind"
like "$("$C" create no.dot 1 1)" '\(-22\)$' "an alias that bpffs cannot hold: EINVAL"
mkdir "$PINS/cman9+new"
ok "a folder that a dead maker left half made is no obstacle" "$C" create cman9 1 1
is "$(pins)" "cman1 cman9 " "nor does it stay"
ok "the ABI of another release" "$C" abi cman9 99
like "$("$C" open cman9)" '\(-93\)$' "is not opened: EPROTONOSUPPORT"
rm "$PINS/cman1/../cman9/counters"
ok "unpin removes one instance" "$C" unpin cman9
is "$(pins)" "cman1 " "and no other"
ok "memory and map agree about the last element of each array" "$C" stride cman1
ok "a child without descriptors writes the shared memory" "$C" child cman1

# --- steering

start STRANGER serve - 0 stranger 0.0.0.0 7002
start A serve cman1 0 a
"$C" service cman1 0 open refuse > /dev/null
"$C" address cman1 127.0.0.5 7001 0 0 > /dev/null
is "$(client 127.0.0.5 7001 1000)" refused "before the link is attached nothing is steered"
ok "the link is attached and pinned" "$C" attach cman1
like "$("$C" attach cman1)" '\(-17\)$' "once"
is "$(client 127.0.0.5 7001 1000)" a "exact IPv4 address, by pins alone"
is "$(client 127.0.0.6 7001 1000)" refused "another address of the same port is not ours"
"$C" address cman1 127.0.0.5 7002 0 0 > /dev/null
is "$(client 127.0.0.5 7002 1000)" a "a configured address wins over a stranger's wildcard socket"
is "$(client 127.0.0.6 7002 1000)" stranger "who keeps the addresses that are not configured"

start B serve cman1 1 b
"$C" service cman1 1 open refuse > /dev/null
"$C" address cman1 0.0.0.0 7001 1 1 > /dev/null
is "$(client 127.0.0.6 7001 1000)" b "IPv4 wildcard"
is "$(client 127.0.0.5 7001 1000)" a "the exact address wins over it"
"$C" address cman1 127.0.0.5 7001 - > /dev/null
is "$(client 127.0.0.5 7001 1000)" b "and after it is removed the wildcard answers"
is "$(client ::1 7001 1000)" refused "the IPv4 wildcard is not for IPv6"

start V6 serve cman1 2 v6 ::1
"$C" service cman1 2 open refuse > /dev/null
"$C" address cman1 ::1 7003 2 2 > /dev/null
is "$(client ::1 7003 1000)" v6 "exact IPv6 address"
"$C" address cman1 :: 7001 2 2 > /dev/null
is "$(client ::1 7001 1000)" v6 "IPv6 wildcard"
is "$(client 127.0.0.6 7001 1000)" b "which is not for IPv4"
is "$("$C" counters cman1 2)" \
	"steered=2 rejected=0 dropped=0 held=0 no_listener=0 assign_failed=0" "counters"
like "$("$C" sockets 127.0.0.6 7001)" '^::ffff:127.* ::ffff:127.0.0.6 7001 state 1$' \
	"a connection is found by its cookie, IPv4 as v4-mapped"
like "$("$C" sockets ::1 7001)" '^::1 ::1 7001 state 1$' "and IPv6"

# --- rules

ip address add fd00::1/128 dev lo nodad
ip address add fd00::2/128 dev lo nodad
ok "rules" "$C" rules cman1 4 127.1.0.0/16 "*" accept 127.1.2.0/24 "*" reject \
	127.1.3.0/24 "*" reject 127.1.3.0/24 1 accept 127.2.0.0/16 1 drop fd00::1/128 2 accept
is "$(client 127.0.0.6 7001 1000 127.1.0.1)" b "accept"
is "$(client 127.0.0.6 7001 1000 127.1.2.1)" refused "the longer prefix rejects"
is "$(client 127.0.0.6 7001 1000 127.1.3.1)" b "of equal prefixes the named service wins"
is "$(client 127.0.0.5 7002 1000 127.1.3.1)" refused "and is no other service's"
is "$(client 127.0.0.6 7001 1000 127.9.0.1)" refused "no rule matches: reject"
is "$(client ::1 7001 1000 fd00::1)" v6 "IPv6 accept"
is "$(client ::1 7001 1000 fd00::2)" refused "IPv6 reject"
is "$(count cman1 1 rejected)" 2 "rejected is counted, by service"
is "$(client 127.0.0.6 7001 300 127.2.0.1)" refused "drop without hold sockets can only refuse"
start HOLD hold-sockets cman1
is "$(cat "$T/HOLD.out")" "inet inet6" "hold sockets"
is "$(client 127.0.0.6 7001 300 127.2.0.1)" timeout "drop is silent"
is "$(count cman1 1 dropped)" 1 "and counted"
ok "fewer rules" "$C" rules cman1 4 127.1.0.0/16 "*" accept
is "$(bpftool -j map dump pinned $PINS/cman1/rules | grep -o '"prefix_len"' | wc -l)" 4 \
	"what is not wanted any more is gone from the trie"
load TOGGLE 127.0.0.6 7001 127.1.0.1
"$C" toggle cman1 240 > "$T/toggle.out"
is "$(cat "$T/toggle.out")" ok "240 changes of the rules"
result=$(load_end TOGGLE)
like "$result" 'refused=0 timeout=0 reset=0 other=0' \
	"refuse nobody whom the rules before and after accept"
cmp_num "$(sed 's/banner=\([0-9]*\).*/\1/' <<< "$result")" '>' 100 "($result)"
ok "no rules" "$C" rules cman1 4
is "$(client 127.0.0.6 7001 1000 127.9.0.1)" b "accept everybody"

# --- flip

load LOAD1 127.0.0.6 7001 127.1.0.1
load LOAD2 127.0.0.6 7001 127.1.0.2
start FLIP flip cman1 1 300
wait_for 20 grep -q flipped "$T/FLIP.out"
for l in LOAD1 LOAD2; do
	result=$(load_end $l)
	like "$result" 'refused=0 timeout=0 reset=0 other=0' "300 flips refuse nobody ($result)"
done
diag "$(grep flipped "$T/FLIP.out")"

# --- a dead daemon

kill9 FLIP
before=$(count cman1 1 no_listener)
is "$(client 127.0.0.6 7001 1000)" refused "the listener died: refused"
is "$(count cman1 1 no_listener)" $((before + 1)) "and counted"
"$C" address cman1 127.0.0.5 7002 1 1 > /dev/null
is "$(client 127.0.0.5 7002 1000)" refused "and never falls through to a stranger"
"$C" address cman1 127.0.0.5 7002 0 0 > /dev/null
"$C" service cman1 1 open wait > /dev/null
is "$(client 127.0.0.6 7001 300)" timeout "when_down = wait: held by the hold socket"
is "$(count cman1 1 held)" 1 "and counted"
"$C" connect 127.0.0.6 7001 5000 > "$T/waiter" &
waiter=$!
sleep 0.3
start B2 serve cman1 1 b2
wait "$waiter"
is "$(cat "$T/waiter")" b2 "who waited gets in when the daemon is back"

# --- suspend and resume

"$C" service cman1 1 suspended refuse > /dev/null
is "$(client 127.0.0.6 7001 300)" timeout "a suspended service holds"
"$C" connect 127.0.0.6 7001 5000 > "$T/waiter" &
waiter=$!
sleep 0.3
"$C" service cman1 1 open refuse > /dev/null
wait "$waiter"
is "$(cat "$T/waiter")" b2 "resume lets in who waited"
is "$(client 127.0.0.5 7002 1000)" a "another service was not touched"

# --- the tc program, without any daemon

is "$("$C" tc-apply cman1)" "not wanted" "no service says wait: no tc program"
is "$(filters lo)" 0 "nothing is attached"
"$C" service cman1 1 open wait > /dev/null
"$C" service cman1 2 open wait > /dev/null
is "$("$C" tc-apply cman1)" wanted "a service says wait"
is "$(filters lo)" 1 "lo has the program"
"$C" tc-apply cman1 > /dev/null
is "$(filters lo)" 1 "once, however often it is asked for"
is "$(client 127.0.0.6 7001 1000)" b2 "with a listener nobody is held"
kill9 HOLD
kill9 B2
kill9 V6
held=$(count cman1 1 held)
is "$(client 127.0.0.6 7001 300)" timeout "no daemon, no hold socket: held all the same"
is "$(count cman1 1 held)" $((held + 1)) "and counted, once"
is "$(client ::1 7001 300)" timeout "IPv6, too"
is "$(client 127.0.0.5 7002 1000)" a "a service that has its listener is not touched"
is "$(client 127.0.0.6 7009 1000)" refused "nor a port that is not configured"
"$C" connect 127.0.0.6 7001 5000 > "$T/waiter" &
waiter=$!
sleep 0.3
start B3 serve cman1 1 b3
wait "$waiter"
is "$(cat "$T/waiter")" b3 "the daemon comes and who waited gets in"
# classic BPF that matches everything, and does nothing
tc filter add dev lo ingress protocol all prio 7 bpf bytecode '1,6 0 0 4294967295'
ok "detach" "$C" tc-detach cman1 lo
is "$(filters lo)" 0 "our filter is gone"
like "$(tc filter show dev lo ingress)" bytecode "other people's stays"
ok "detach twice" "$C" tc-detach cman1 lo
kill9 B3
is "$(client 127.0.0.6 7001 300)" refused "without it a dead daemon can only refuse"

# on ethernet; and what a router passes on is not ours to hold
host_add client
host_add far
ip link add name veth0 type veth peer name peer0
ip link set peer0 netns "$(host_pid client)" name eth0
ip link add name veth1 type veth peer name peer1
ip link set peer1 netns "$(host_pid far)" name eth0
for d in veth0 veth1; do ip link set $d up; done
ip address add 10.99.0.1/24 dev veth0
ip address add 10.99.1.1/24 dev veth1
ip address add fd99::1/64 dev veth0 nodad
ip address add fd98::1/64 dev veth1 nodad
host client ip address add 10.99.0.2/24 dev eth0
host client ip address add fd99::2/64 dev eth0 nodad
host far ip address add 10.99.1.2/24 dev eth0
host far ip address add fd98::2/64 dev eth0 nodad
for h in client far; do host $h ip link set eth0 up; done
host client ip route add default via 10.99.0.1
host client ip route add default via fd99::1
host far ip route add default via 10.99.1.1
host far ip route add default via fd98::1
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
host far "$C" serve - 0 far 0.0.0.0 7001 > "$T/far4" &
track $!
host far "$C" serve - 0 far6 :: 7003 > "$T/far6" &
track $!
wait_for 5 test -s "$T/far4" -a -s "$T/far6"
"$C" address cman1 :: 7003 2 2 > /dev/null
for a in 10.99.1.2 10.99.0.1 fd98::2 fd99::1; do
	wait_for 10 host client ping -c 1 -W 1 $a || bail "client does not reach $a"
done
ok "attach to an interface" "$C" tc-attach cman1 veth0
is "$(host client "$C" connect 10.99.0.1 7001 300)" timeout "held on ethernet"
is "$(host client "$C" connect fd99::1 7001 300)" timeout "IPv6, too"
is "$(host client "$C" connect 10.99.1.2 7001 2000)" far "a SYN that is routed on is not held"
is "$(host client "$C" connect fd98::2 7003 2000)" far6 "IPv6, neither"
echo 0 > /proc/sys/net/ipv4/ip_forward
is "$(host client "$C" connect 10.99.0.1 7001 300)" timeout "held with forwarding off"

# --- two releases: take and give back

ok "the running release becomes cman1_old" "$C" rename cman1 cman1_old
is "$(pins)" "cman1_old " "its pins are renamed"
is "$(client 127.0.0.5 7002 1000)" a "and steer on"
ok "the new release makes its maps" "$C" create cman1 2 100
start NEW serve cman1 0 new
"$C" service cman1 0 open refuse > /dev/null
"$C" address cman1 127.0.0.5 7002 0 0 > /dev/null
like "$("$C" take cman1 nobody)" '\(-2\)$' "take from who has no link: ENOENT"
load LOAD1 127.0.0.5 7002 127.1.0.1
ok "take" "$C" take cman1 cman1_old
is "$(client 127.0.0.5 7002 1000)" new "the new release steers"
ok "give back" "$C" take cman1_old cman1
is "$(client 127.0.0.5 7002 1000)" a "the old one steers again"
for ((i = 0; i < 25; i++)); do
	"$C" take cman1 cman1_old > /dev/null
	"$C" take cman1_old cman1 > /dev/null
done
ok "take again" "$C" take cman1 cman1_old
like "$(load_end LOAD1)" 'refused=0 timeout=0 reset=0 other=0' "52 times, and refuse nobody"
ns=$(stat -Lc %i /proc/self/ns/net)
is "$(bpftool link show | grep -c "netns_ino $ns .*sk_lookup")" 1 "it is one link all the time"
ok "the new release's tc program takes the place of the old one's" "$C" tc-attach cman1 veth0
is "$(filters veth0)" 1 "in one step"
ok "the old release's detach" "$C" tc-detach cman1_old veth0
is "$(filters veth0)" 1 "leaves the new one's alone"
ok "exchange of the folders" "$C" rename cman1 cman1_old exchange
is "$(bpftool -j map show pinned $PINS/cman1/listeners | grep -c sockmap)" 1 "both are there"
is "$(bpftool map dump pinned $PINS/cman1_old/listeners | grep -c 'key: 00 00 00 00')" 1 "swapped"
ok "and back" "$C" rename cman1 cman1_old exchange
like "$("$C" rename cman1 cman1_old)" '\(-17\)$' "a plain rename replaces nothing"
ok "the old release is removed" "$C" unpin cman1_old
is "$(client 127.0.0.5 7002 1000)" new "the new one steers on"

# --- what an operator sees

like "$(bpftool map dump pinned $PINS/cman1/services | head -20)" '"when_down"' "services by name"
like "$(bpftool map dump pinned $PINS/cman1/sessions | head -60)" '"client_cookie"' "the ledger, too"
like "$(bpftool map dump pinned $PINS/cman1/counters | head -20)" '"no_listener"' "and counters"
like "$(bpftool map dump pinned $PINS/cman1/addresses)" '"port": 7002' "ports as people write them"
like "$(bpftool prog show)" 'sk_lookup .*name cman_steer' "programs have names"
start QUEUE backlog cman1 0 3
for ((i = 0; i < 3; i++)); do "$C" connect 127.0.0.5 7002 300 > /dev/null; done
wait_for 5 grep -q of "$T/QUEUE.out"
like "$(tail -n 1 "$T/QUEUE.out")" '^3 3 3 of [0-9]+$' "the accept queue, asked in three ways"
ok "unpin" "$C" unpin cman1
is "$(pins)" "" "nothing is left"
# the kernel ends the link a moment after its last pin
unsteered() { [ "$(client 127.0.0.5 7002 1000)" = stranger ]; }
ok "and nothing is steered" wait_for 5 unsteered
