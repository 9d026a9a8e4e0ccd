#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# No nonce is used twice by two owners: sessions with TLS on both legs, every suite, keys updated by both
# peers, while gateways die at random and between any two steps of the record engine, sessions move to the
# next release and back, and both at once. All that was on the wire is captured, and opened record by record
# with the secrets that the peers logged: see tls_nonces.c. First the checker itself: it must find what is
# wrong in captures that were tampered with.
# timeout: 180

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/../lib/certificates.sh"
need_cmd tcpdump openssl
# shellcheck disable=SC2034	# of lib_instance.sh
CTL=$CMAN_CRASH_BIN/cmanctl # one of the releases has crash points
CHECKER=$CMAN_TESTBIN/net/tls_nonces
TOOL=$CMAN_CRASH_TESTBIN/fault/handover_tool
[ -x "$CHECKER" ] || bail "$CHECKER is not built"
[ -x "$TOOL" ] && [ -x "$CMAN_CRASH_BIN/cmand" ] || bail "no crash-point build in $CMAN_CRASH_BUILD"
[ -x "$CMAN_NEXT_BIN/cmand" ] || bail "$CMAN_NEXT_BIN/cmand is not built (make next)"
ulimit -c 0

C=$T/cert
make_certificates "$C" || bail "no certificates"
SUITES=(ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305
	TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256)
# each suite has a port; both legs of its sessions have it
{
	printf 'instance cman1 {\n run_dir = "@RUN@"\n gateways = 2\n max_sessions = 1000\n'
	for i in "${!SUITES[@]}"; do
		cat <<-END
		    listener l$i {
		        address = "127.0.0.1:700$i"  service = "s$i"
		        tls { certificate = "$C/server.pem"  key = "$C/server.key" }
		    }
		    service s$i {
		        targets = { "127.0.0.1:900$i" }
		        tls { ca = "$C/ca.pem"  server_name = "localhost" }
		    }
		END
	done
	echo '}'
} | conf
SERVER=(--tls --tls-cert "$C/server.pem" --tls-key "$C/server.key")
CLIENT=(--tls --tls-ca "$C/ca.pem" --tls-name localhost)
# updates SUITE N: keys are updated every N records, where there is such a thing
updates() { [[ $1 != TLS_* ]] || echo "--tls-update $2"; }

# capture NAME COMMAND…: all of it, and what the peers' secrets were, in $T/NAME.pcap and $T/NAME.keys
capture() {
	local name=$1 pid i v
	shift
	KEYS=$T/$name.keys
	: > "$KEYS"
	tcpdump -Z root -i lo -n -U -s 262144 -B 65536 -w "$T/$name.pcap" \
		'tcp and (portrange 7000-7005 or portrange 9000-9005)' 2> "$T/$name.err" & pid=$!
	track $pid
	wait_for 5 grep -q 'listening on' "$T/$name.err" || bail "tcpdump: $(cat "$T/$name.err")"
	for i in "${!SUITES[@]}"; do
		# shellcheck disable=SC2046	# an option and its value, or none
		serve "SERVER$i" --listen "127.0.0.1:900$i" "${SERVER[@]}" --tls-keylog "$KEYS" \
			--tls-cipher "${SUITES[i]}" $(updates "${SUITES[i]}" 50)
	done
	up
	"$@"
	down
	for i in "${!SUITES[@]}"; do
		v=SERVER${i}_PID
		stop "${!v}"
	done
	sleep 0.3 # what is in tcpdump's ring
	stop $pid
	like "$(cat "$T/$name.err")" "(^|[^0-9])0 packets dropped by kernel" "$name: the capture is complete"
}

# judge NAME: the checker over a capture; what it has found, and figures
judge() {
	local rc=0
	"$CHECKER" check "$T/$1.pcap" "$T/$1.keys" > "$T/$1.tap" || rc=$?
	[ $rc = 0 ] || diag "$(grep -v '^ok' "$T/$1.tap" | head -n 20)"
	is $rc 0 "$1: each number of each key has sealed one record"
	diag "$1: $(grep -c '^ok .* > ' "$T/$1.tap") connections; $(tail -n 1 "$T/$1.tap")"
}
# figure NAME FIELD: of the checker's last line
figure() { sed -n "\$s/.* $2=\\([0-9]*\\).*/\\1/p" "$T/$1.tap"; }

# --- the checker

quiet() {
	local i
	for i in 0 3; do
		"$BENCH" pingpong -c "127.0.0.1:700$i" "${CLIENT[@]}" --tls-cipher "${SUITES[i]}" \
			--tls-keylog "$KEYS" -n 2 -d 0.2 --warmup 0 > "$T/quiet.out" 2>&1 ||
			diag "$(cat "$T/quiet.out")"
	done
}
capture quiet quiet
judge quiet
# finds KIND VERSION PATTERN: the checker says so of a capture that was tampered with
finds() {
	"$CHECKER" tamper "$1" "$2" "$T/quiet.pcap" "$T/quiet.keys" "$T/$1.pcap" || bail "tamper $1"
	exits 1 "found: $1, TLS $2" "$CHECKER" check "$T/$1.pcap" "$T/quiet.keys"
	like "$("$CHECKER" check "$T/$1.pcap" "$T/quiet.keys")" "$3" "and named"
}
for v in 1.2 1.3; do
	"$CHECKER" tamper same $v "$T/quiet.pcap" "$T/quiet.keys" "$T/same.pcap" || bail "tamper same"
	ok "a capture written again, with nothing changed, passes: TLS $v" \
		"$CHECKER" check "$T/same.pcap" "$T/quiet.keys"
	finds reseal $v 'was sent twice, and differs'
	finds repeat $v 'was used again'
	finds skip $v 'was skipped'
	finds reuse $v 'was used again'
done
finds nonce 1.2 'explicit nonce .* seals two records'
head -n 1 "$T/quiet.keys" > "$T/few.keys"
exits 1 "found: secrets are missing" "$CHECKER" check "$T/quiet.pcap" "$T/few.keys"

# --- under fire

load_begin() {
	local i
	for i in "${!SUITES[@]}"; do
		# shellcheck disable=SC2046
		bench "S$i" stream -c "127.0.0.1:700$i" "${CLIENT[@]}" --tls-cipher "${SUITES[i]}" \
			--tls-keylog "$KEYS" $(updates "${SUITES[i]}" 40) -n 6 -s 600 -i 40 --slow 1 --slow-rate 20k
	done
}
load_end() {
	local i bad=
	for i in "${!SUITES[@]}"; do
		bench_end "S$i"
		[ "$(report "S$i" '[.ok, .alive, .lost, .wrong_bytes, .bytes_missing] | join(" ")')" = \
			"true 6 0 0 0" ] || bad+=" ${SUITES[i]}: $(tr -d ' \n' < "$T/S$i.json" | head -c 300)"
	done
	is "$bad" "" "all sessions live, every byte is right"
}
# a_gateway: one that relays; none, or 0, while a cell or the managers change places
a_gateway() { show gateways "[.[].pid | values][$((RANDOM % 2))] // empty" 2> /dev/null; }
kills() { # N
	local i pid
	for ((i = 0; i < $1; i++)); do
		pid=$(a_gateway)
		[ "${pid:-0}" -gt 1 ] && kill -KILL "$pid" 2> /dev/null && echo >> "$T/killed"
		sleep 0.1
	done
}
moves() { # N
	local i home out
	for ((i = 0; i < $1; i++)); do
		home=$CMAN_NEXT_BUILD
		[ $((i % 2)) = 0 ] || home=$CMAN_CRASH_BUILD
		out=$(ctl migrate --home "$home" --via fd --json 2>&1) &&
			[ "$(jq '.moved > 30 and .failed == 0 and .left == []' <<< "$out")" = true ] ||
			not_ok "migration $i" "$out" "$(tail -n 20 "$RUN/cman1.log")"
	done
}
# points COUNT…: a gateway dies at each step of the engine; COUNT: the how-manieth time somebody is there
points() {
	local point k before
	fired() { [ "$("$TOOL" hits cman1)" -gt "$before" ]; }
	for point in TLS_READ TLS_SEALED TLS_COMMITTED TLS_SENT; do
		for k in "$@"; do
			before=$("$TOOL" hits cman1)
			"$TOOL" arm cman1 $point "$k"
			wait_for 3 fired || not_ok "$point ($k) was not reached"
		done
	done
	"$TOOL" arm cman1 NONE 0
}

fire() {
	local killer
	load_begin
	points 1 7 40
	kills 10
	moves 2
	kills 30 & killer=$!
	moves 8
	wait $killer
	points 3
	load_end
	diag "$(wc -l < "$T/killed") gateways were killed at random, 16 at a step of the engine; 10 migrations"
}
capture fire fire
judge fire
for suite in "${SUITES[@]}"; do
	cmp_num "$(grep -c "^ok .* > .*, $suite: " "$T/fire.tap")" '>=' 12 "sessions on both legs: $suite"
done
cmp_num "$(figure fire records)" '>' 20000 "records were checked"
cmp_num "$(figure fire key_updates)" '>' 50 "and keys were updated"
