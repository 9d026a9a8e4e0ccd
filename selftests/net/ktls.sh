#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Kernel TLS and its move to other sockets: see selftests/net/ktls.c, which has both ends of every
# connection: one host, one peer, a veth pair. What it prints becomes this test's TAP.
# timeout: 900

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
[ -c /dev/net/tun ] || skip_all "kernel has no /dev/net/tun"

netns_pair H P
host H ip address add fd99::1/64 dev eth0 nodad
host P ip address add fd99::2/64 dev eth0 nodad
# neighbours are known: the guard would hold their discovery too
mac() { host "$1" cat /sys/class/net/eth0/address; }
for a in 10.99.0.1 fd99::1; do
	host P ip neighbour replace "$a" lladdr "$(mac H)" dev eth0 nud permanent
done
for a in 10.99.0.2 fd99::2; do
	host H ip neighbour replace "$a" lladdr "$(mac P)" dev eth0 nud permanent
done

# part NAME…: one run of the program, its lines as ours
part() {
	local line rc out=$T/part
	host H "$CMAN_TESTBIN/net/ktls" "/proc/$(host_pid P)/ns/net" "$@" > "$out" 2>&1
	rc=$?
	! grep -q '^1..0 # SKIP' "$out" || skip_all "kernel has no TLS"
	while IFS= read -r line; do
		case $line in
		ok\ *) ok "${line#* - }" ;;
		not\ ok\ *) not_ok "${line#* - }" ;;
		1..*) ;;
		*) diag "${line#\# }" ;;
		esac
	done < "$out"
	case $rc in 0 | 1) ;; *) not_ok "ktls $* ran to its end" "exit status $rc" ;; esac
	! grep -q '^Bail out' "$out" || not_ok "ktls $* ran to its end"
}

for p in ${KTLS_PARTS:-probe basic moves soak blind odd}; do
	part "$p"
done
