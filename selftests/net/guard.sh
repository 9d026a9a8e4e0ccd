#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The packet guard: see selftests/net/guard.c, which has both ends of every connection. Three hosts on one
# bridge: H has the guard, P is the peer, N the machine that sessions go to. 10.99.0.100 and fd99::100 are
# on H and N; P is told that H has them. What the program prints becomes this test's TAP.
# timeout: 600

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
[ -c /dev/net/tun ] || skip_all "kernel has no /dev/net/tun"
need_cmd bpftool tc jq

PINS=/sys/fs/bpf/guard
n=0
for h in H P N; do
	n=$((n + 1))
	host_add $h
	host_join br0 $h 10.99.0.$n/24
	host $h ip address add fd99::$n/64 dev eth0 nodad
	host $h sysctl -qw net.ipv4.conf.all.arp_ignore=1
done
for h in H N; do
	host $h ip address add 10.99.0.100/32 dev lo
	host $h ip address add fd99::100/128 dev lo nodad
done
mac() { host "$1" cat /sys/class/net/eth0/address; }
neighbour() { # HOST ADDRESS OF
	host "$1" ip neighbour replace "$2" lladdr "$(mac "$3")" dev eth0 nud permanent
}
for a in 10.99.0.1 fd99::1 10.99.0.100 fd99::100; do neighbour P $a H; done
for h in H N; do
	neighbour $h 10.99.0.2 P
	neighbour $h fd99::2 P
done
host H mkdir $PINS

filters() { host H tc filter show dev eth0 ingress | grep -c cman_guard; }
devices() { host H ip -o link 2> /dev/null | grep -c cmanpark; }
pinned() { host H find $PINS -type f | wc -l; }
clean() { is "$(filters) $(devices) $(pinned)" "0 0 0" "$1: no filter, no device, no pin is left"; }

run=("$CMAN_TESTBIN/net/guard" "$PINS" "/proc/$(host_pid P)/ns/net" "/proc/$(host_pid N)/ns/net")

# part NAME…: one run of the program, its lines as ours
part() {
	local line rc out=$T/part
	host H "${run[@]}" "$@" > "$out" 2>&1
	rc=$?
	while IFS= read -r line; do
		case $line in
		ok\ *) ok "${line#* - }" ;;
		not\ ok\ *) not_ok "${line#* - }" ;;
		1..*) ;;
		*) diag "${line#\# }" ;;
		esac
	done < "$out"
	case $rc in 0 | 1) ;; *) not_ok "guard $* ran to its end" "exit status $rc" ;; esac
	! grep -q '^Bail out' "$out" || not_ok "guard $* ran to its end"
	clean "$*"
}

for p in ${GUARD_PARTS:-cost lease two overflow forward cycles}; do
	part "$p"
done

# --- what an operator sees
mkfifo "$T/go"
nsenter -t "$(host_pid H)" -n -m -- "${run[@]}" show < "$T/go" > "$T/show" & pid=$!
track $pid
exec 9> "$T/go"
wait_for 5 grep -q ready "$T/show" || bail "the guard does not start"
is "$(filters) $(devices)" "1 1" "one filter, one device"
entry=$(host H bpftool -j map dump pinned $PINS/show/frozen | jq -c '.[0].formatted')
is "$(jq -r '.value.action, .value.batch, .key.local_port > 0' <<< "$entry" | tr '\n' ' ')" \
	"CMAN_GUARD_PARK 4711 true " "bpftool shows the entry by name"
is "$(jq -r '.key.local_addr[10:] | map(tostring) | join(".")' <<< "$entry")" 255.255.10.99.0.1 \
	"and its address"
echo >&9
exec 9>&-
wait_for 5 is_gone $pid
clean "the end"
