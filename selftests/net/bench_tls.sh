#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
#
# cman-bench with TLS, as client and as server: against itself and against OpenSSL's own programs. What
# other tests conclude from its reports rests on what is shown here: bytes, counts, refusals, truncation.

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/../lib/certificates.sh"
need_cmd openssl tcpdump

C=$T/cert
make_certificates "$C" || bail "no certificates"
CIPHERS=(ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305
	TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256)
AS_SERVER=(--tls --tls-cert "$C/server.pem" --tls-key "$C/server.key" --json)
AS_CLIENT=(--tls --tls-ca "$C/ca.pem" --tls-name db.example)

version_of() { case $1 in TLS_*) echo TLSv1.3 ;; *) echo TLSv1.2 ;; esac; }
# s_option CIPHER: how openssl's programs are told
s_option() { case $1 in TLS_*) echo "-tls1_3 -ciphersuites $1" ;; *) echo "-tls1_2 -cipher $1" ;; esac; }

# run NAME VERB OPTION…: to its end, report in $T/NAME.json
run() {
	local name=$1
	shift
	"$BENCH" "$@" --json > "$T/$name.json" 2> "$T/$name.err"
}
# tls NAME FIELD…
tls() {
	local name=$1
	shift
	report "$name" "[.tls | $(printf '.%s,' "$@" | sed 's/,$//')] | map(tostring) | join(\" \")"
}
# serve_end NAME: ends a server when its clients have gone; its exit status, its report in $T/NAME.json
serve_end() {
	local v=${1}_PID rc=0
	alone() { ! ss -Htnp | grep -q "pid=${!v},"; }
	wait_for 5 alone || diag "$1 still has clients"
	kill -TERM "${!v}"
	wait "${!v}" || rc=$?
	sed -n '/^{/,/^}/p' "$T/$1.out" > "$T/$1.json"
	return $rc
}

# --- itself with itself

serve ECHO "${AS_SERVER[@]}" --listen 127.0.0.1:9001
serve HOLD "${AS_SERVER[@]}" --listen 127.0.0.1:9002 --mode hold --bytes 100k
serve SINK "${AS_SERVER[@]}" --listen 127.0.0.1:9003 --mode sink
serve SOURCE "${AS_SERVER[@]}" --listen 127.0.0.1:9004 --mode source
handshakes=0 resumed=0
for cipher in "${CIPHERS[@]}"; do
	run self stream -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --tls-cipher "$cipher" -d 0.4 -n 6 -s 20000 \
		--slow 1 --idle 1 --half-close 2 --hold-connect 127.0.0.1:9002
	is "$(report self '[.ok, .alive, .bytes_missing, .half_close.completed] | join(" ")') $(tls self \
		version cipher handshakes errors truncated)" \
		"true 9 0 2 $(version_of "$cipher") $cipher 9 0 0" "streams, also half-closed: $cipher"
	handshakes=$((handshakes + 7))
done
for v in 1.2 1.3; do
	run up bulk -c 127.0.0.1:9003 "${AS_CLIENT[@]}" --tls-version $v --direction up -n 2 -d 0.3 --warmup 0.1
	is "$(report up '.ok and .bytes_verified > 0')" true "bulk up, counted by the sink: TLS $v"
	run down bulk -c 127.0.0.1:9004 "${AS_CLIENT[@]}" --tls-version $v --verify -n 2 -d 0.3 --warmup 0.1
	is "$(report down '.ok and .bytes_verified > 0')" true "bulk down, every byte verified: TLS $v"
	run ping pingpong -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --tls-version $v -n 3 -d 0.3 --warmup 0
	is "$(report ping '.ok and .operations > 0')" true "pingpong: TLS $v"
	handshakes=$((handshakes + 3))
	run probe probe -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --tls-version $v -r 50 -d 0.4
	is "$(report probe '.ok and .verified > 0 and .verified == .tls.handshakes')" true "probe: TLS $v"
	handshakes=$((handshakes + $(tls probe handshakes)))
	for how in fin rst wait; do
		run rate connrate -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --tls-version $v --close $how -n 2 -d 0.3 \
			--warmup 0
		is "$(report rate '.ok and .connections > 0 and .tls.resumed == 0')" true \
			"connections closed by $how: TLS $v"
		handshakes=$((handshakes + $(tls rate handshakes)))
	done
	run resume connrate -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --tls-version $v --tls-resume --close wait \
		-d 0.4 --warmup 0
	is "$(report resume '.ok and .tls.handshakes > 1 and .tls.resumed == .tls.handshakes - 1')" true \
		"all but the first of one client's sessions are resumed: TLS $v"
	handshakes=$((handshakes + $(tls resume handshakes)))
	resumed=$((resumed + $(tls resume resumed)))
done
serve_end ECHO
is $? 0 "the server found no truncation"
is "$(tls ECHO version handshakes resumed errors truncated)" "mixed $handshakes $resumed 0 0" \
	"the server counted the same handshakes"
for s in HOLD SINK SOURCE; do
	serve_end $s
	is $? 0 "nor did $s"
done

# --- key updates, padding, records in pieces

serve ECHO "${AS_SERVER[@]}" --listen 127.0.0.1:9001 --tls-update 7 --tls-pad 256 --tls-split
run update pingpong -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --tls-update 3 --tls-split --tls-pad 500 -s 20000 \
	-n 2 -d 0.5 --warmup 0
run last connrate -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --close wait -d 0.3 --warmup 0
serve_end ECHO
is "$(report last .ok), $(report ECHO .resets)" "true, 0" "close_notify in pieces goes before the close"
is "$(report update .ok)" true "keys updated by both sides, records padded and sent in pieces"
cmp_num "$(tls update key_updates_sent)" '>' 3 "the client updated its keys"
is "$(tls update key_updates_sent key_updates_received)" \
	"$(tls ECHO key_updates_received key_updates_sent)" "each side received what the other sent"
cmp_num "$(tls update key_updates_sent)" '>=' \
	$(($(report update '.bytes_verified') * 2 / 60000 - 2)) "one for every three records, at least"

serve PLAIN --listen 127.0.0.1:9005
tcpdump -l --immediate-mode -i lo -nn 'tcp dst port 9005' > "$T/pieces" 2> "$T/pieces.err" & track $!
ok "tcpdump listens" wait_for 5 grep -q 'listening on' "$T/pieces.err"
run plain pingpong -c 127.0.0.1:9005 --tls --tls-split -d 0.1
piece() { grep -q 'length 3$' "$T/pieces"; }
ok "a piece ends within a record's header" wait_for 5 piece
is "$(report plain '[.ok, .connect_failures, .tls.errors, .tls.handshakes] | join(" ")')" "false 1 1 0" \
	"a server without TLS fails the handshake"
like "$(cat "$T/plain.err")" "TLS handshake with 127.0.0.1:9005: " "and stderr says so"

# --- OpenSSL's server: what it receives it sends back

mkfifo "$T/loop"
openssl s_server -quiet -accept 127.0.0.1:9100 -cert "$C/server.pem" -key "$C/server.key" \
	<> "$T/loop" > "$T/loop" 2> "$T/s_server.err" & track $!
ok "s_server listens" wait_for 5 listens 9100
for cipher in "${CIPHERS[@]}"; do
	run s pingpong -c 127.0.0.1:9100 "${AS_CLIENT[@]}" --tls-cipher "$cipher" -s 3000 -d 0.2 --warmup 0
	is "$(report s '.ok and .operations > 0') $(tls s version cipher errors truncated)" \
		"true $(version_of "$cipher") $cipher 0 0" "client of s_server: $cipher"
done
run s pingpong -c 127.0.0.1:9100 "${AS_CLIENT[@]}" --tls-update 2 --tls-split --tls-pad 333 -d 0.3 --warmup 0
is "$(report s '.ok and .tls.key_updates_sent > 1 and
	.tls.key_updates_received == .tls.key_updates_sent')" true "s_server follows key updates, pieces, padding"
for v in 1.2 1.3; do
	run s connrate -c 127.0.0.1:9100 "${AS_CLIENT[@]}" --tls-version $v --close wait -d 0.3 --warmup 0
	is "$(report s '.ok and .connections > 0 and .tls.truncated == 0')" true \
		"half-close and s_server's close_notify: TLS $v"
done

# --- OpenSSL's client

# through FILE OPTION…: what s_client gets back for it
through() {
	local data=$1 size
	shift
	size=$(wc -c < "$data")
	: > "$T/back"
	all_back() { [ "$(wc -c < "$T/back")" -ge "$size" ]; }
	{ cat "$data"; wait_for 10 all_back; } |
		timeout 20 openssl s_client -quiet -no_ign_eof -nocommands -connect 127.0.0.1:9001 \
			-CAfile "$C/ca.pem" -verify_return_error -verify_hostname db.example \
			"$@" > "$T/back" 2> "$T/s_client.err"
	cmp "$data" "$T/back"
}
serve ECHO "${AS_SERVER[@]}" --listen 127.0.0.1:9001
head -c 300000 /dev/urandom > "$T/data"
for cipher in "${CIPHERS[@]}"; do
	# shellcheck disable=SC2046	# two options and a value
	ok "server of s_client: $cipher" through "$T/data" $(s_option "$cipher")
done
serve_end ECHO
is "$(tls ECHO handshakes errors truncated alerts_received)" "${#CIPHERS[@]} 0 0 0" \
	"each of them was closed cleanly"

serve ECHO "${AS_SERVER[@]}" --listen 127.0.0.1:9001 --tls-pad 1000 --tls-split --tls-update 2
ok "s_client follows padding, pieces, key updates" through "$T/data" -msg -msgfile "$T/msg"
# type and padding included, without the tag; a full record has no room for padding
sizes=$(grep -A 1 '^<<<.*RecordHeader' "$T/msg" | sed -n 's/^ *17 03 03 \(..\) \(..\)$/\1\2/p')
odd=0 padded=0
for n in $sizes; do
	n=$((16#$n - 16))
	[ $n != 16385 ] || continue
	padded=$((padded + 1))
	[ $((n % 1000)) = 0 ] || odd=$((odd + 1))
done
cmp_num $padded '>' 5 "its records were seen"
is $odd 0 "their sizes are padded"
serve_end ECHO
cmp_num "$(tls ECHO key_updates_received)" '>' 1 "s_client answered key updates"
# OpenSSL answers with what it sends next; at the end that may be nothing
cmp_num "$(tls ECHO key_updates_received)" '>=' $(($(tls ECHO key_updates_sent) - 1)) "every one but the last"

# --- certificates and names: a refusal has its reason on stderr

# refused NAME PATTERN OPTION…: this client opens nothing, and says why
refused() {
	local what=$1 why=$2
	shift 2
	run refused pingpong -c 127.0.0.1:9001 --tls "$@" -d 0.3 --drain-timeout 1
	is "$?, $(report refused '[.ok, .operations] | join(" ")')" "1, false 0" "refused: $what"
	like "$(cat "$T/refused.err")" "$why" "and stderr says why"
}
serve ECHO "${AS_SERVER[@]}" --listen 127.0.0.1:9001
refused "a CA that has not signed it" 'certificate verify failed: unable to get local issuer certificate' \
	--tls-ca "$C/other-ca.pem"
is "$(tls refused handshakes errors)" "0 1" "counted as an error, not as a handshake"
refused "another name" 'certificate verify failed: hostname mismatch' --tls-ca "$C/ca.pem" \
	--tls-name second.example
refused "another address" 'certificate verify failed: IP address mismatch' --tls-ca "$C/ca.pem" \
	--tls-name 127.0.0.9
refused "no shared cipher" 'alert handshake failure' --tls-cipher ECDHE-RSA-AES128-GCM-SHA256
is "$(tls refused alerts_received)" 1 "the alert is counted"
run address pingpong -c 127.0.0.1:9001 --tls --tls-ca "$C/ca.pem" --tls-name 127.0.0.1 -d 0.1
is "$(report address .ok)" true "an address is verified as one"
run blind pingpong -c 127.0.0.1:9001 --tls -d 0.1
is "$(report blind .ok)" true "without --tls-ca nothing is verified"
run plain pingpong -c 127.0.0.1:9001 -s 3000 -d 0.1 --drain-timeout 1
is "$(report plain '[.ok, .operations] | join(" ")')" "false 0" "a client without TLS is refused"
serve_end ECHO
is "$(tls ECHO handshakes errors)" "2 5" "the server counted all of these"
like "$(cat "$T/ECHO.out")" "alert unknown ca" "and says why as well"

serve ECHO --tls --tls-cert "$C/expired.pem" --tls-key "$C/expired.key" --listen 127.0.0.1:9001
refused "an expired certificate" 'certificate verify failed: certificate has expired' --tls-ca "$C/ca.pem"
stop "$ECHO_PID"

serve ECHO --tls --tls-cert "$C/server-rsa.pem" --tls-key "$C/server-rsa.key" --listen 127.0.0.1:9001
for cipher in ECDHE-RSA-AES128-GCM-SHA256 TLS_AES_128_GCM_SHA256; do
	run rsa pingpong -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --tls-cipher $cipher -d 0.1
	is "$(report rsa .ok) $(tls rsa cipher)" "true $cipher" "an RSA certificate: $cipher"
done
stop "$ECHO_PID"

serve ECHO "${AS_SERVER[@]}" --listen 127.0.0.1:9001 --tls-ca "$C/ca.pem" --tls-alpn h2,redis
for v in 1.2 1.3; do
	run mutual pingpong -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --tls-version $v -d 0.1 \
		--tls-cert "$C/client.pem" --tls-key "$C/client.key" --tls-alpn other,redis
	is "$(report mutual .ok) $(tls mutual alpn)" "true redis" "client certificate and ALPN: TLS $v"
	refused "no client certificate" 'alert (handshake failure|certificate required)' --tls-version $v
	refused "a stranger's certificate" 'alert unknown ca' --tls-version $v \
		--tls-cert "$C/stranger.pem" --tls-key "$C/stranger.key"
	refused "no common protocol" 'alert no application protocol' --tls-version $v --tls-alpn other \
		--tls-cert "$C/client.pem" --tls-key "$C/client.key"
done
serve_end ECHO
like "$(cat "$T/ECHO.out")" "peer did not return a certificate" "the server says that it got no certificate"

# --- truncation

for v in 1.2 1.3; do
	serve ECHO "${AS_SERVER[@]}" --listen 127.0.0.1:9001
	bench IDLE idle -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --tls-version $v -n 5
	kill -KILL "$ECHO_PID"
	wait "$ECHO_PID" 2> /dev/null
	wait "$IDLE_PID"
	is $? 1 "a killed server is a failure: TLS $v"
	is "$(report IDLE '[.ok, .lost, .early_eofs] | join(" ")') $(tls IDLE truncated errors)" "false 5 0 5 0" \
		"each session was truncated"
	is "$(report IDLE '[.incidents[].reason] | unique | join(" ")')" truncated "and is listed as such"
	like "$(cat "$T/IDLE.err")" "truncated: the stream ended without close_notify" "and stderr says so"

	serve ECHO "${AS_SERVER[@]}" --listen 127.0.0.1:9001
	bench IDLE idle -c 127.0.0.1:9001 "${AS_CLIENT[@]}" --tls-version $v -n 5
	kill -KILL "$IDLE_PID"
	wait "$IDLE_PID" 2> /dev/null
	serve_end ECHO
	is $? 1 "a killed client's connections are a failure of the server: TLS $v"
	is "$(tls ECHO truncated errors) $(report ECHO .resets)" "5 0 0" "each one truncated"
done

# --- usage

usage() {
	local what=$1
	shift
	exits 2 "usage: $what" "$BENCH" "$@"
}
usage "--tls-... without --tls" pingpong -c 127.0.0.1:9001 --tls-name db.example
usage "serve without certificate" serve --tls
usage "certificate without key" pingpong -c 127.0.0.1:9001 --tls --tls-cert "$C/client.pem"
usage "key of another certificate" serve --tls --tls-cert "$C/server.pem" --tls-key "$C/client.key"
usage "no such file" pingpong -c 127.0.0.1:9001 --tls --tls-ca "$C/none.pem"
usage "no such cipher" pingpong -c 127.0.0.1:9001 --tls --tls-cipher TLS_NONE
usage "cipher of another version" pingpong -c 127.0.0.1:9001 --tls --tls-version 1.2 \
	--tls-cipher TLS_AES_128_GCM_SHA256
usage "key updates in TLS 1.2" pingpong -c 127.0.0.1:9001 --tls --tls-version 1.2 --tls-update 3
usage "an empty protocol" pingpong -c 127.0.0.1:9001 --tls --tls-alpn h2,,redis
usage "--zero-copy" bulk -c 127.0.0.1:9001 --tls --zero-copy
