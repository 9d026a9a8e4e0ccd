#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What moving costs a session, how long 9,000 take, and how fast a bulk flow goes on: figures as
# diagnostics, no time is tested. PARTS="cost many flow" selects.
# timeout: 300

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
[ -c /dev/net/tun ] || skip_all "kernel has no /dev/net/tun"

# from NAME COMMAND…: the lines of a program of this test as ours
from() {
	local line rc out=$T/out
	"${@:2}" > "$out" 2>&1
	rc=$?
	while IFS= read -r line; do
		case $line in
		ok\ *) ok "${line#* - }" ;;
		not\ ok\ *) not_ok "${line#* - }" ;;
		1..*) ;;
		*) diag "${line#\# }" ;;
		esac
	done < "$out"
	case $rc in 0 | 1) ;; *) not_ok "$1 ran to its end" "exit status $rc" ;; esac
	! grep -q '^Bail out' "$out" || not_ok "$1 ran to its end"
}

mac() { host "$1" cat /sys/class/net/eth0/address; }
netns_pair H P
# neighbours are known: the guard would hold their discovery too
host P ip neighbour replace 10.99.0.1 lladdr "$(mac H)" dev eth0 nud permanent
host H ip neighbour replace 10.99.0.2 lladdr "$(mac P)" dev eth0 nud permanent
host H ip address add fd99::1/64 dev eth0 nodad
host P ip address add fd99::2/64 dev eth0 nodad

parts=" ${PARTS:-cost many flow} "
ns() { echo "/proc/$(host_pid "$1")/ns/net"; }
for p in cost many; do
	[[ $parts != *" $p "* ]] || from "$p" host H "$CMAN_TESTBIN/net/repair_bench" "$(ns P)" $p
done

# --- a path of 20 ms and 200 Mbit/s between two other namespaces, made of two tun devices and a relay
[[ $parts == *" flow "* ]] || exit
host_add A
host_add B
for h in A:1:2 B:2:1; do
	IFS=: read -r h own peer <<< "$h"
	host "$h" ip tuntap add dev tun0 mode tun
	host "$h" ip address add "10.98.0.$own/32" dev tun0
	host "$h" ip link set tun0 up txqueuelen 5000
	host "$h" ip route add "10.98.0.$peer/32" dev tun0
	# what is learned in one run is not for the next
	host "$h" sysctl -qw net.ipv4.tcp_no_metrics_save=1
done
for control in cubic bbr; do
	grep -qw "$control" /proc/sys/net/ipv4/tcp_available_congestion_control || {
		diag "this kernel has no $control"
		continue
	}
	from "flow $control" "$CMAN_TESTBIN/net/repair_flow" "$(ns A)" "$(ns B)" $control
done
