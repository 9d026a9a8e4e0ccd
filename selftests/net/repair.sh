#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# libcman's TCP_REPAIR: see selftests/net/repair.c, which has both ends of every connection: one host, one
# peer, a veth pair. What it prints becomes this test's TAP.
# timeout: 300

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
	host H "$CMAN_TESTBIN/net/repair" "/proc/$(host_pid P)/ns/net" "$@" > "$out" 2>&1
	rc=$?
	while IFS= read -r line; do
		case $line in
		ok\ *) ok "${line#* - }" ;;
		not\ ok\ *) not_ok "${line#* - }" ;;
		1..*) ;;
		*) diag "${line#\# }" ;;
		esac
	done < "$out"
	case $rc in 0 | 1) ;; *) not_ok "repair $* ran to its end" "exit status $rc" ;; esac
	! grep -q '^Bail out' "$out" || not_ok "repair $* ran to its end"
}

for p in ${REPAIR_PARTS:-matrix rest}; do
	part "$p"
done
[ -z "${REPAIR_PARTS-}" ] || exit

# --- another program, with nothing but the header and the library

cat > "$T/alone.c" <<'END'
#include <cman/repair.h>
int main(void)
{
	struct cman_repair_image image = { 0 };
	cman_repair_free(&image);
	return cman_repair_option_name(CMAN_REPAIR_NODELAY) == 0;
}
END
CFLAGS=(-Wall -Wextra -Werror "-I$CMAN_ROOT/usr/include")
ok "the header is complete in itself" gcc -std=c99 -pedantic "${CFLAGS[@]}" -o "$T/alone" "$T/alone.c" \
	"$CMAN_BUILD/lib/libcman.a"
ok "and the library" "$T/alone"
ok "the example of the documentation builds" gcc -std=gnu11 "${CFLAGS[@]}" -o "$T/move" \
	"$CMAN_ROOT/Documentation/examples/move.c" "$CMAN_BUILD/lib/libcman.a"

mkfifo "$T/in1" "$T/in2"
# not host(): the signal is for the program itself
in_h=(nsenter -t "$(host_pid H)" -n -m --)
"${in_h[@]}" "$T/move" listen 7000 "$T/sock" < "$T/in1" > "$T/out1" & one=$!
track $one
exec 8> "$T/in1"
wait_for 5 host H bash -c '[ -n "$(ss -Hltn "sport = :7000")" ]'
# the peer: a shell that says what it is told and writes down what it hears
mkfifo "$T/say"
host P bash -c 'exec 3<> /dev/tcp/10.99.0.1/7000; cat <&3 > "$1" & cat >&3' peer "$T/heard" < "$T/say" &
track $!
exec 9> "$T/say"
echo "one" >&9
ok "the first process hears the peer" wait_for 5 grep -qx one "$T/out1"
echo "two" >&8
ok "and the peer hears it" wait_for 5 grep -qx two "$T/heard"
"${in_h[@]}" "$T/move" take "$T/sock" < "$T/in2" > "$T/out2" &
track $!
exec 7> "$T/in2"
wait_for 5 test -S "$T/sock"
kill -USR1 $one
ok "the first process gives the connection away and ends" wait_for 5 is_gone $one
echo "three" >&9
ok "the second process hears the same peer" wait_for 5 grep -qx three "$T/out2"
echo "four" >&7
ok "and the peer hears it, on the same connection" wait_for 5 grep -qx four "$T/heard"
is "$(tr '\n' ' ' < "$T/heard")" "two four " "nothing else was said"
exec 9>&-
