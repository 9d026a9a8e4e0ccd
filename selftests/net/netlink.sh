#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Addresses that move between machines: interfaces, addresses, neighbours, routes and their changes by
# netlink; an address that a machine has and does not tell; announcements. Machines a, b and c are
# namespaces on one bridge; c is the neighbour that must notice, or must not. The address has to answer at c
# before and after, and c's table of neighbours says which machine it is at.
# timeout: 120

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
need_cmd ip setpriv

C=$CMAN_TESTBIN/net/netlink_check
VIP4=10.0.0.100 VIP6=fd00::100
declare -A IP4=([a]=10.0.0.1 [b]=10.0.0.2 [c]=10.0.0.3) IP6=([a]=fd00::1 [b]=fd00::2 [c]=fd00::3) MAC

on() { # HOST VERB ARGUMENT…
	local h=$1
	shift
	host "$h" "$C" "$@"
}

# start NAME HOST VERB ARGUMENT…: in the background, with a pipe as its input; ready when it has said
# something. finish NAME: ends its input; it has to end well. send_line NAME TEXT
declare -A FD=()
start() {
	local name=$1 f fd
	mkfifo "$T/$name.in"
	: > "$T/$name.out"
	(
		# the pipes of the others would never end if this one had them open too
		for f in "${FD[@]}"; do
			exec {f}>&-
		done
		on "${@:2}"
	) < "$T/$name.in" > "$T/$name.out" 2>&1 &
	printf -v "${name}_PID" '%s' $!
	track $!
	exec {fd}> "$T/$name.in"
	FD[$name]=$fd
	wait_for 5 test -s "$T/$name.out" || bail "$name says nothing"
}
send_line() { printf '%s\n' "$2" >&"${FD[$1]}"; }
finish() {
	local p=${1}_PID fd=${FD[$1]} rc=0
	exec {fd}>&-
	unset "FD[$1]"
	wait "${!p}" || rc=$?
	rm -f "$T/$1.in"
	return $rc
}
said() { tail -n 1 "$T/$1.out"; }
# state HOST: everything that a test here may have changed
state() {
	host "$1" ip -o address show | sed 's/valid_lft.*//'
	host "$1" ip route show
	host "$1" ip -6 route show | sed 's/expires.*//'
	host "$1" sh -c 'cd /proc/sys/net/ipv4/conf && grep . */arp_ignore */arp_announce */rp_filter'
}
settled() { ! host "$1" ip -6 address show tentative | grep -q .; }

for h in a b c; do
	host_add $h
	host_join br0 $h "${IP4[$h]}/24" || bail "cannot join $h"
	is "$(on $h add eth0 "${IP6[$h]}/64")" added "$h: an IPv6 address without duplicate detection"
	MAC[$h]=$(host $h cat /sys/class/net/eth0/address)
done
for h in a b c; do
	wait_for 10 settled $h || bail "$h has tentative addresses"
done
for h in a b c; do
	state $h > "$T/state.$h"
done

# --- interfaces

host a ip tuntap add dev tun0 mode tun && host a ip link set tun0 up || bail "no tun device"
ok "by name, by index and from the list are the same" on a links
is "$(on a links | cut -d' ' -f1 | tr '\n' ' ')" "lo tun0 eth0 " "all are listed"
is "$(on a link eth0)" \
	"eth0 kind=veth type=1 mac=${MAC[a]} ethernet=1 neighbours=1 up=1 mtu=1500 master=-" "veth"
like "$(on a link lo)" 'kind= type=772 .* ethernet=0 neighbours=0 up=1 mtu=65536' "lo"
like "$(on a link tun0)" 'kind=tun type=65534 .* ethernet=0 neighbours=0' "tun has no link layer"
like "$("$C" link br0)" 'kind=bridge .* ethernet=1 neighbours=1' "bridge"
like "$("$C" link "$(bridge -o link | sed 's/^[0-9]*: //; s/[@:].*//; q')")" 'master=br0$' "its port"
like "$(on a link eth7)" 'ENODEV' "no such interface"
like "$(on a link a-name-that-is-too-long)" 'ENODEV' "nor one of a name that cannot be"
host a ip link set eth0 arp off
like "$(on a link eth0)" 'ethernet=1 neighbours=0' "without ARP it has no neighbours"
host a ip link set eth0 arp on
host a ip link del tun0

# --- addresses

for vip in $VIP4/32 $VIP6/128; do
	for dev in lo eth0; do
		is "$(on a add $dev $vip)" added "$vip on $dev: added"
		like "$(on a add $dev $vip)" EEXIST "$vip on $dev: the second time it is not ours"
		is "$(on a addresses - ${vip%/*})" "$dev:$vip" "$vip on $dev: listed, not tentative"
		is "$(on a who ${vip%/*})" $dev "$vip on $dev: that is who has it"
		is "$(on a addresses "$([ $dev = lo ] && echo eth0 || echo lo)" ${vip%/*})" "" \
			"$vip on $dev: the other has not"
		is "$(on a remove $dev $vip)" removed "$vip on $dev: removed"
		like "$(on a remove $dev $vip)" EADDRNOTAVAIL "$vip on $dev: once"
		like "$(on a who ${vip%/*})" EADDRNOTAVAIL "$vip on $dev: nobody has it"
	done
done
on a add lo $VIP4/32 > /dev/null
like "$(on a remove lo $VIP4/24)" EADDRNOTAVAIL "another length is another IPv4 address"
is "$(on a addresses - $VIP4)" "lo:$VIP4/32" "which stays"
is "$(on a add eth0 $VIP4/32)" added "the same address on a second interface"
is "$(on a addresses - $VIP4)" "lo:$VIP4/32 eth0:$VIP4/32" "both are found"
on a remove lo $VIP4/32 > /dev/null && on a remove eth0 $VIP4/32 > /dev/null
on a add eth0 10.5.0.9/24 noprefixroute > /dev/null && on a add eth0 fd05::9/64 noprefixroute > /dev/null
is "$(host a ip route show 10.5.0.0/24)$(host a ip -6 route show fd05::/64)" "" "noprefixroute: no route"
on a remove eth0 10.5.0.9/24 > /dev/null && on a remove eth0 fd05::9/64 > /dev/null
on a add eth0 10.5.0.9/24 > /dev/null && on a add eth0 fd05::9/64 > /dev/null
like "$(host a ip route show 10.5.0.0/24)$(host a ip -6 route show fd05::/64)" 'eth0.*eth0' \
	"without it there is one"
# the trap that netlink.h tells of: a secondary goes with its primary, a single address does not
on a add eth0 10.5.0.10/24 > /dev/null && on a add eth0 10.5.0.11/32 > /dev/null
on a remove eth0 10.5.0.9/24 > /dev/null && on a remove eth0 fd05::9/64 > /dev/null
is "$(on a addresses - 10.5.0.10) $(on a addresses - 10.5.0.11)" " eth0:10.5.0.11/32" \
	"the first address of a network takes its secondaries along, but no /32"
on a remove eth0 10.5.0.11/32 > /dev/null
# fd00::101 is more like fd00::100 than like a's own address
on a add eth0 $VIP6/128 > /dev/null
like "$(on a route fd00::101)" "source=$VIP6 " "the kernel may choose a floating IPv6 address for itself"
on a remove eth0 $VIP6/128 > /dev/null && on a add eth0 $VIP6/128 deprecated > /dev/null
like "$(on a route fd00::101)" "source=${IP6[a]} " "but not a deprecated one"
like "$(on a route fd00::101 $VIP6)" "source=$VIP6 " "which can still be bound to"
on a remove eth0 $VIP6/128 > /dev/null
like "$(on a add '#9999' $VIP4/32)" ENODEV "no such interface"
like "$(on a add '#0' $VIP4/32)" ENODEV "nor the interface 0"
like "$(on a add lo $VIP4/33)" EINVAL "no such length"
like "$(host a setpriv --reuid 65534 --clear-groups "$C" add lo $VIP4/32)" EPERM "not without privilege"
like "$(host a setpriv --reuid 65534 --clear-groups "$C" addresses lo)" 'lo:127.0.0.1/8' \
	"questions need none"
is "$(on a churn 1200)" "1202 2 " "lists longer than one message" # with 127.0.0.1 and ::1
for h in a b c; do
	is "$(state $h)" "$(cat "$T/state.$h")" "$h: nothing is left"
done

# --- routes and neighbours

is "$(on b route "${IP4[c]}")" "dev=eth0 source=${IP4[b]} next=${IP4[c]} local=0" "route: a neighbour"
is "$(on b route "${IP6[c]}")" "dev=eth0 source=${IP6[b]} next=${IP6[c]} local=0" "route: IPv6"
is "$(on b route "${IP4[b]}")" "dev=lo source=${IP4[b]} next=${IP4[b]} local=1" "route: ourselves"
is "$(on b route "${IP6[b]}")" "dev=lo source=${IP6[b]} next=${IP6[b]} local=1" "route: ourselves, IPv6"
like "$(on b route 192.0.2.1)" ENETUNREACH "route: there is none"
like "$(on b route 2001:db8::1)" ENETUNREACH "route: there is none for IPv6"
host b ip route add 192.0.2.0/24 via "${IP4[a]}" && host b ip -6 route add 2001:db8::/64 via "${IP6[a]}" &&
	host b ip route add 198.51.100.0/24 via inet6 "${IP6[a]}" dev eth0 || bail "no routes"
is "$(on b route 192.0.2.1)" "dev=eth0 source=${IP4[b]} next=${IP4[a]} local=0" "route: a gateway"
is "$(on b route 2001:db8::1)" "dev=eth0 source=${IP6[b]} next=${IP6[a]} local=0" "route: IPv6 gateway"
is "$(on b route 198.51.100.1)" "dev=eth0 source=${IP4[b]} next=${IP6[a]} local=0" \
	"route: IPv6 gateway of an IPv4 network"
host b ip route add prohibit 203.0.113.0/24
like "$(on b route 203.0.113.1)" EACCES "route: prohibited"
on b add lo $VIP4/32 > /dev/null && on b add lo $VIP6/128 > /dev/null
is "$(on b route "${IP4[c]}" $VIP4)" "dev=eth0 source=$VIP4 next=${IP4[c]} local=0" "route: from a held address"
is "$(on b route "${IP6[c]}" $VIP6)" "dev=eth0 source=$VIP6 next=${IP6[c]} local=0" "route: IPv6 too"
like "$(on b route "${IP4[c]}" 10.9.9.9)" 'EINVAL|ENETUNREACH' "route: from an address that is not ours"
on b remove lo $VIP4/32 > /dev/null && on b remove lo $VIP6/128 > /dev/null
host b ip route del 192.0.2.0/24 && host b ip -6 route del 2001:db8::/64 &&
	host b ip route del 198.51.100.0/24 && host b ip route del prohibit 203.0.113.0/24

for ip in "${IP4[c]}" "${IP6[c]}"; do
	host b ip neighbour flush all
	like "$(on b neigh eth0 "$ip")" ENOENT "$ip: a neighbour that was never heard of"
	like "$(on b resolve eth0 "$ip" 10000)" "^${MAC[c]}" "$ip: resolved"
	is "$(on b neigh eth0 "$ip")" "${MAC[c]}" "$ip: and known from now on"
	is "$(on b resolve eth0 "$ip" 0 | cut -c-17)" "${MAC[c]}" "$ip: which needs no waiting"
done
for ip in 10.0.0.77 fd00::77; do
	[ $ip = fd00::77 ] && f=6 || f=4
	like "$(on b resolve eth0 $ip 1)" ETIMEDOUT "$ip: nobody, within the time"
	like "$(on b neigh eth0 $ip)" EAGAIN "$ip: the kernel goes on asking"
	host b sh -c "cd /proc/sys/net/ipv$f/neigh/eth0 && echo 20 > retrans_time_ms"
	host b ip neighbour flush all
	like "$(on b resolve eth0 $ip 10000)" EHOSTUNREACH "$ip: nobody has it"
	like "$(on b neigh eth0 $ip)" EHOSTUNREACH "$ip: as the kernel has noted"
	host b sh -c "cd /proc/sys/net/ipv$f/neigh/eth0 && echo 1000 > retrans_time_ms"
done
host b ip neighbour flush all

# --- settings that can be put back

start CONF b conf 4 eth0 arp_announce 1
is "$(said CONF)" "old=0 changed=1" "a setting is changed"
is "$(host b cat /proc/sys/net/ipv4/conf/eth0/arp_announce)" 1 "in the kernel"
finish CONF
is "$(said CONF) $(host b cat /proc/sys/net/ipv4/conf/eth0/arp_announce)" "restored 0" "and put back"
start CONF b conf 4 eth0 arp_announce 1
host b sh -c 'echo 2 > /proc/sys/net/ipv4/conf/eth0/arp_announce'
finish CONF && not_ok "what somebody else has changed is no success"
like "$(said CONF) $(host b cat /proc/sys/net/ipv4/conf/eth0/arp_announce)" 'ESTALE 2' "is left alone"
host b sh -c 'echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_announce'
start CONF b conf 6 eth0 ndisc_notify 0
is "$(said CONF)" "old=0 changed=0" "what is so already is not changed"
finish CONF
like "$(on b conf 4 eth7 arp_ignore 1 < /dev/null)" ENODEV "no such interface"
like "$(on b conf 4 ../eth0 arp_ignore 1 < /dev/null)" ENODEV "a name is no path"
host b ip link add name gone0 type dummy 2> /dev/null || host b ip link add name gone0 type veth peer name gone1
start CONF b conf 4 gone0 arp_ignore 1
host b ip link del gone0
finish CONF
is "$? $(said CONF)" "0 restored" "an interface that went away needs nothing put back"
host b sh -c 'echo 3 > /proc/sys/net/ipv4/conf/all/arp_ignore; echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter'
like "$(on b quiet eth0 < /dev/null)" EBUSY "quiet: conf/all answers for lo, and wins"
host b sh -c 'echo 0 > /proc/sys/net/ipv4/conf/all/arp_ignore'
host b sh -c 'echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter'
values() { host b sh -c 'cd /proc/sys/net/ipv4/conf/eth0 && cat arp_ignore arp_announce rp_filter' | tr '\n' ' '; }
start QUIET b quiet eth0
is "$(values)" "1 2 2 " "quiet: where conf/all filters strictly, the interface does so loosely"
finish QUIET
is "$(values)" "0 0 1 " "quiet: put back"
host b sh -c 'echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter'
start QUIET b quiet eth0
is "$(values)" "1 2 0 " "quiet: else not at all"
finish QUIET
is "$(values)" "0 0 1 " "quiet: put back"
host b sh -c 'echo 0 > /proc/sys/net/ipv4/conf/eth0/rp_filter'
is "$(state b)" "$(cat "$T/state.b")" "b: nothing is left"

# --- an address that a machine has and does not tell

start ECHO_B b serve 7000 b
# ask VIP [MAC]: who answers c for it, b being suspected
ask() {
	local -n ips=IP4
	[ "$1" = $VIP4 ] || local -n ips=IP6
	on c ask eth0 "${ips[c]}" "$1" "${ips[b]}" "${@:2}"
}
on b add lo $VIP4/32 > /dev/null
on b add lo $VIP6/128 > /dev/null
is "$(ask $VIP4)" "${MAC[b]}" "an address of lo is answered for by ARP, if nothing is done"
is "$(ask $VIP6)" silent "but not by neighbour discovery"
is "$(ask $VIP6 "${MAC[b]}")" silent "nor when b alone is asked"
host b sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
is "$(ask $VIP6)$(ask $VIP6 "${MAC[b]}")" silentsilent "nor when it forwards"
host b sh -c 'echo 0 > /proc/sys/net/ipv6/conf/all/forwarding'

# leak VIP FAMILY: b sends from VIP to c, whose MAC it does not know; does c then know b as VIP?
leak() {
	local -n ips=IP$2
	host b ip neighbour flush all
	host c ip neighbour flush all
	start TAKE c take "${ips[c]}" 7001
	on b datagram "$1" "${ips[c]}" 7001 > /dev/null
	finish TAKE
	is "$(said TAKE)" "$1" "$1: a datagram from it arrives"
	LEAK=$(on c neigh eth0 "$1")
}
leak $VIP4 4
is "$LEAK" "${MAC[b]}" "$VIP4: and c has noted b for it, if nothing is done"
leak $VIP6 6
like "$LEAK" ENOENT "$VIP6: IPv6 gives nothing away"

start QUIET b quiet eth0
is "$(ask $VIP4)" silent "quiet: no answer by ARP"
is "$(ask $VIP4 "${MAC[b]}")" silent "quiet: nor when b alone is asked"
is "$(ask $VIP6)$(ask $VIP6 "${MAC[b]}")" silentsilent "quiet: no answer to solicitations"
leak $VIP4 4
like "$LEAK" ENOENT "quiet: $VIP4: nothing is given away"
leak $VIP6 6
like "$LEAK" ENOENT "quiet: $VIP6: nothing is given away"
for vip in $VIP4 $VIP6; do
	host c ip neighbour replace $vip lladdr "${MAC[b]}" dev eth0 nud permanent
	is "$(on c talk $vip 7000 < /dev/null)" b "quiet: what is sent to b's MAC for $vip is taken"
	host c ip neighbour del $vip dev eth0
done

# --- the move: a has the addresses, b takes them over

start ECHO_A a serve 7000 a
start WATCH b watch
for vip in $VIP4/32 $VIP6/128; do
	on a add eth0 $vip > /dev/null
	ip=${vip%/*}
	is "$(on c talk $ip 7000 < /dev/null)" a "$ip: answers at a"
	is "$(on c await eth0 $ip "${MAC[a]}")" "${MAC[a]}" "$ip: c knows it there, while b has it too"
	# a connection to b, made while the address is quiet, shall not notice the rest
	host c ip neighbour replace $ip lladdr "${MAC[b]}" dev eth0 nud permanent
	start LIVE c talk $ip 7000
	is "$(said LIVE)" b "$ip: a connection to b beforehand"
	host c ip neighbour replace $ip lladdr "${MAC[a]}" dev eth0 nud reachable
	is "$(on c talk $ip 7000 < /dev/null)" a "$ip: everybody else goes to a"
	# a sends to b from the address that both have, then from its own; which comes first?
	declare -n ips=IP4
	[ $ip = $VIP4 ] || declare -n ips=IP6
	start TAKE b take "${ips[b]}" 7002
	on a datagram $ip "${ips[b]}" 7002 > /dev/null
	on a datagram "${ips[a]}" "${ips[b]}" 7002 > /dev/null
	finish TAKE
	if [ $ip = $VIP4 ]; then
		is "$(said TAKE)" "${ips[a]}" "$ip: b drops what a sends from the address of both"
	else
		is "$(said TAKE)" $ip "$ip: IPv6 does not"
	fi
	is "$(on b add eth0 $vip deprecated)" added "$ip: b adds it to the interface"
	is "$(on c neigh eth0 $ip)" "${MAC[a]}" "$ip: which alone changes nothing at c"
	start HEAR c hear eth0 $ip
	is "$(on b announce eth0 $ip)" sent "$ip: announced"
	is "$(on c await eth0 $ip "${MAC[b]}")" "${MAC[b]}" "$ip: c knows it at b"
	wait "$HEAR_PID"
	finish HEAR
	tail -n +2 "$T/HEAR.out" > "$T/heard.$ip"
	is "$(on c talk $ip 7000 < /dev/null)" b "$ip: answers at b, while a has it too"
	is "$(on a remove eth0 $vip)" removed "$ip: a gives it up"
	is "$(on b remove lo $vip)" removed "$ip: b no longer needs it on lo"
	is "$(on b who $ip)" eth0 "$ip: it is on one interface"
	is "$(ask $ip)" "${MAC[b]}" "$ip: b answers for it now"
	send_line LIVE "still there"
	wait_for 5 grep -q "still there" "$T/LIVE.out"
	is "$(said LIVE)" "still there" "$ip: the connection to b has not noticed"
	finish LIVE
	host c ip neighbour flush all
	is "$(on c talk $ip 7000 < /dev/null)" b "$ip: c finds b by asking"
done
finish QUIET
is "$(said QUIET)" over "quiet: over"
finish WATCH
ff=ff:ff:ff:ff:ff:ff
is "$(cat "$T/heard.$VIP4")" "arp op=1 to=$ff from=${MAC[b]} sender=${MAC[b]} target=00:00:00:00:00:00 size=42
arp op=2 to=$ff from=${MAC[b]} sender=${MAC[b]} target=${MAC[b]} size=42" "the two frames of gratuitous ARP"
is "$(cat "$T/heard.$VIP6")" "na to=33:33:00:00:00:01 ip=ff02::1 from=${MAC[b]} ip=$VIP6 hops=255 \
flags=20000000 mac=${MAC[b]} checksum=right size=86" "the neighbour advertisement"
is "$(grep -E "$VIP4|$VIP6" "$T/WATCH.out" | tr '\n' ';')" \
	"address $VIP4/32;removed $VIP4/32;address $VIP6/128;removed $VIP6/128;" "b's watch saw it all"
start HEAR c hear eth0 $VIP6
on b announce eth0 $VIP6 router > /dev/null
wait "$HEAR_PID"
finish HEAR
like "$(said HEAR)" 'flags=a0000000' "a router says that it is one"
# back again, c has b in its table
for vip in $VIP4/32 $VIP6/128; do
	ip=${vip%/*}
	is "$(on c talk $ip 7000 < /dev/null)" b "$ip: back: c talks to b"
	on a add eth0 $vip > /dev/null
	is "$(on c neigh eth0 $ip)" "${MAC[b]}" "$ip: back: and has its MAC"
	on a announce eth0 $ip > /dev/null
	is "$(on c await eth0 $ip "${MAC[a]}")" "${MAC[a]}" "$ip: back: c has a"
	on b remove eth0 $vip > /dev/null
	is "$(on c talk $ip 7000 < /dev/null)" a "$ip: back: answers at a"
	on a remove eth0 $vip > /dev/null
done

like "$(on a announce lo $VIP4)" EOPNOTSUPP "lo has nobody to tell"
host a ip link set eth0 down
like "$(on a announce eth0 $VIP4)" ENETDOWN "nor has an interface that is down"
# going down has cost it its IPv6 addresses
host a ip link set eth0 up && on a add eth0 "${IP6[a]}/64" > /dev/null
like "$(host a setpriv --reuid 65534 --clear-groups "$C" announce eth0 $VIP4)" EPERM "not without privilege"

# --- changes

start WATCH b watch
host b ip link add name new0 type veth peer name new1
host b ip link set new0 up
on b add new0 10.6.0.1/32 > /dev/null
host b ip link del new0
# a port that leaves a bridge is not gone, though the bridge says so in the same words
host b ip link add name br9 type bridge
host b ip link add name new2 type veth peer name new3
host b ip link set new2 master br9
host b ip link set new2 nomaster
host b ip link del new3
host b ip link del br9
wait_for 5 grep -q 'gone br9' "$T/WATCH.out"
finish WATCH
is "$(grep new0 "$T/WATCH.out" | sed -n '1p;$p' | tr '\n' ';')" "link new0 up=0;gone new0;" \
	"a new interface, from its birth to its end"
ok "that it came up" grep -q 'link new0 up=1' "$T/WATCH.out"
is "$(grep -F 10.6.0.1 "$T/WATCH.out" | tr '\n' ';')" "address 10.6.0.1/32;removed 10.6.0.1/32;" "its address"
is "$(grep -c 'gone new2' "$T/WATCH.out")" 1 "a port of a bridge is gone once, when it is"
is "$(on b overflow)" "lost=1 then=2" "events that were lost are told, and more follow"

# --- nothing is left

wait_for 10 settled a
for h in a b c; do
	is "$(state $h)" "$(cat "$T/state.$h")" "$h: nothing is left"
done
