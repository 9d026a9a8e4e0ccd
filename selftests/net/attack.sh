#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Whatever comes to its sockets and files, an instance goes on: broken frames to the control socket
# and to the keepers', broken configurations to check and to reload, all while verified streams run.
# No process may be replaced and no descriptor may stay behind.
# timeout: 120

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
need_cmd socat

FRAMES=$CMAN_TESTBIN/net/frames_attack
[ -x "$FRAMES" ] || bail "$FRAMES is not built"
good() {
	cat <<'END'
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = 500
    listener echo { address = "127.0.0.1:7001"  service = "echo" }
    service echo { targets = { "127.0.0.1:9001" } }
    rule all { source = "127.0.0.0/8"  action = "accept" }
}
END
}
good | conf
serve ECHO --listen 127.0.0.1:9001
up
bench S stream -c 127.0.0.1:7001 -n 50 -i 20
mapfile -t pids < <(all_pids)
before=$(nfds "${pids[@]}" | tr '\n' ' ')
same() { [ "$(all_pids | tr '\n' ' ')" = "${pids[*]} " ]; }
unchanged() { [ "$(nfds "${pids[@]}" | tr '\n' ' ')" = "$before" ]; }

# --- the control socket: that program speaks TAP itself

sock=$RUN/cman1.sock
"$FRAMES" "$sock" cman1 > "$T/frames.tap" 2>&1
rc=$?
while read -r line; do
	case $line in
	'ok '*) ok "control socket: ${line#ok * - }" ;;
	'not ok '*) not_ok "control socket: ${line#not ok * - }" ;;
	'#'*) printf '%s\n' "$line" ;;
	esac
done < "$T/frames.tap"
is $rc 0 "frames_attack ends well"
cmp_num "$(grep -c '^ok' "$T/frames.tap")" '>=' 30 "at least 30 attacks"
ok "the same processes serve" same
ok "with the same descriptors" wait_for 5 unchanged

# --- the keepers' sockets: whatever comes, they close the connection or answer an error, and go on

magic=$(printf '%08x' "$(sed -n 's/^#define CMAN_FRAME_MAGIC *\(0x[0-9a-f]*\)u*.*/\1/p' "$CMAN_ROOT/usr/core/wire.h")")
[ "$magic" != 00000000 ] || bail "no magic in usr/core/wire.h"
send() { # SOCKET HEX: the answer's length; 124: neither an answer nor an end
	printf '%b' "$(sed 's/../\\x&/g' <<< "$2")" | timeout 3 socat -t 2 - "UNIX-CONNECT:$1" 2> /dev/null | wc -c
	return "${PIPESTATUS[1]}"
}
zeros() { printf "%0$((2 * $1))d" 0; }
while read -r hex what; do
	[ -n "$hex" ] || continue
	hex=${hex//M/$magic}
	hung=
	for s in "$RUN"/cman1/cell-*.sock; do
		send "$s" "$hex" > /dev/null
		[ $? != 124 ] || hung+=" $s"
	done
	is "$hung" "" "keepers: $what"
done <<END
00 one byte
deadbeef four bytes that are no magic
$(zeros 16) a header of zeros
474554202f20485454502f312e310d0a0d0a another protocol
M a magic and nothing else
M0101000000000000 half a header
M01010000ffffffff00000001 a frame of 4 GB
M01010000001000010000000100 a frame over the limit
Mff0100000000000000000001 another version
M0001000000000000000000010000 version 0
M01ff00000000000000000001 a type that does not exist
M010000000000000000000001 type 0
M01010001000000000000000100 a descriptor that was declared and not sent
M0101ffff0000000000000001 65535 descriptors
M010100000000000400000001 a body that does not come
M01010000000000040000000100000000 a body of zeros
M010100000000000300000001000000 a body that is no TLV
M01010000000000080000000180010004deadbeef an unknown tag that must be understood
M0101000000000008000000010001ffff00000000 a TLV longer than its frame
M0102000000000000000000010000000000000000 two headers run together
M0103000000000000000000010103 a frame and a piece of the next one
M010400000000000000000001 type 4 and no body
M010500000000000000000001 type 5 and no body
M010600000000000000000001 type 6 and no body
M010700000000000000000001 type 7 and no body
M010800000000000000000001 type 8 and no body
M010900000000000000000001 type 9 and no body
M010a00000000000000000001 type 10 and no body
M010b00000000000000000001 type 11 and no body
M010c00000000000000000001 type 12 and no body
M010d00000000000000000001 type 13 and no body
M010e00000000000000000001 type 14 and no body
M010f00000000000000000001 type 15 and no body
M011000000000000000000001 type 16 and no body
M011100000000000000000001 type 17 and no body
M011200000000000000000001 type 18 and no body
END
for s in "$RUN"/cman1/cell-*.sock; do
	for ((i = 0; i < 5; i++)); do
		head -c 3000 /dev/urandom | timeout 3 socat -u - "UNIX-CONNECT:$s" 2> /dev/null
	done
done
ok "keepers: random bytes; the same processes serve" same
ok "keepers: no descriptor stays behind" wait_for 5 unchanged
ok "a listener can still be given to them" bash -c "sed -i 's|listener echo|listener more { address = \"127.0.0.1:7009\"  service = \"echo\" }\n    &|' '$T/cman.conf' && '$CTL' -f '$T/cman.conf' reload -q"
ok "it serves" "$PEER" connect 127.0.0.1:7009 text=hi expect=hi
good | conf
ok "and is taken away" ctl reload -q
gone() { [ "$(nfds "${pids[@]}" | awk '{ n += $1 } END { print n }')" -le "$(awk '{ for (i = 1; i <= NF; i++) n += $i; print n }' <<< "$before")" ]; }
ok "with its descriptors" wait_for 5 gone

# --- broken configurations: check and reload say FILE:LINE, exit 2, and nothing changes

n=0 bad=0
while IFS= read -r edit; do
	[ -n "$edit" ] || continue
	n=$((n + 1))
	good | sed "$edit" | conf
	rc=0
	out=$(ctl check 2>&1) || rc=$?
	[ $rc = 2 ] && [[ $out =~ $T/cman.conf:[0-9]+:\ . ]] || {
		bad=$((bad + 1))
		diag "check of \"$edit\": exit $rc: $out"
	}
	rc=0
	out=$(ctl reload 2>&1) || rc=$?
	[ $rc = 2 ] && [[ $out =~ $T/cman.conf:[0-9]+:\ . ]] || {
		bad=$((bad + 1))
		diag "reload of \"$edit\": exit $rc: $out"
	}
done <<'END'
s/instance cman1 {/instance {/
s/instance cman1/instanc cman1/
s/instance cman1 {/instance cman1/
s/instance cman1/instance "a\/b"/
s/instance cman1/instance "cman1_old"/
s/instance cman1/instance "x.y"/
s/instance cman1/instance "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"/
$d
s/run_dir = .*/run_dir = "relative"/
s/run_dir = .*/run_dir = 7 7/
s/run_dir/run_dri/
s/gateways = 2/gateways = 0/
s/gateways = 2/gateways = 65/
s/gateways = 2/gateways = -1/
s/gateways = 2/gateways = two/
s/gateways = 2/gateways = 2 gateways = 3 gateways/
s/max_sessions = 500/max_sessions = 0/
s/max_sessions = 500/max_sessions = 99999999999999999999/
s/max_sessions = 500/max_sessions = 5e2/
s/max_sessions = 500/handover = "magic"/
s/max_sessions = 500/handover_timeout = 0/
s/max_sessions = 500/log_level = "loud"/
s/max_sessions = 500/standby = perhaps/
s/max_sessions = 500/user = "nosuchuser"/
s/max_sessions = 500/http = "nowhere"/
s/127.0.0.1:7001/127.0.0.1/
s/127.0.0.1:7001/127.0.0.1:0/
s/127.0.0.1:7001/127.0.0.1:65536/
s/127.0.0.1:7001/127.0.0.256:7001/
s/127.0.0.1:7001/[::1:7001/
s/127.0.0.1:7001/127.0.0.1:7002-7001/
s/127.0.0.1:7001/name.example:7001/
s/service = "echo"/service = "ecco"/
s/  service = "echo"//
s/address = "127.0.0.1:7001" //
s/listener echo.*/&\n&/
s/listener echo\(.*\)/&\nlistener two\1/
s/service echo .*/&\n&/
s/"127.0.0.1:9001"//
s/127.0.0.1:9001/127.0.0.1:9001-9002/
s/127.0.0.1:9001/:9001/
s/9001" }/9001" } balance = "random"/
s/9001" }/9001" } connect_timeout = 0/
s/9001" }/9001" } idle_timeout = -5/
s/9001" }/9001" } when_down = "panic"/
s/9001" }/9001" } splice = "yes"/
s/9001" }/9001" } source = "here"/
s/9001" }/9001" } group = "NOWHERE"/
s/9001" }/9001" } tls { ca = "\/nonexistent.pem" }/
s/127.0.0.0.8/127.0.0.0\/33/
s/127.0.0.0.8/127.0.0.1\/8/
s/127.0.0.0.8/everywhere/
s/"accept"/"allow"/
s/"accept"/"accept" service = "nosuch"/
s/"accept"/"accept" max_sessions = -1/
s/rule all\(.*\)/&\nrule again\1/
s/rule all.*/&\n&/
s/rule all/# \x01\nrull all/
s/rule all.*/rule all { source = "127.0.0.0\/8" action = "accept/
END
is $bad 0 "$n broken configurations: check and reload say where and why, exit 2"
cmp_num $n '>=' 40 "which is at least 40"
good | conf
for odd in /dev/null /nonexistent "$T" "$FRAMES"; do
	exits 2 "check of $odd" "$CTL" -f "$odd" check
done
ok "a good one is read again" ctl reload -q
ok "the same processes serve" same
ok "with the same descriptors as at the start" wait_for 5 gone
"$PEER" connect 127.0.0.1:7001 text=hi expect=hi
is $? 0 "and take new sessions"
bench_end S
is "$(report S '[.ok, .alive, .lost, .wrong_bytes] | join(" ")')" "true 50 0 0" \
	"50 verified streams ran through it all"
is "$(show gateways '[.[] | .lost, .recoveries, .replaced.gateway, .replaced.keepers] | add')" 0 \
	"nobody was replaced"
down
