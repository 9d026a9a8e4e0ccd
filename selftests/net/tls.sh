#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# TLS on either leg and on both, with the record engine in user space: every combination of versions and
# suites through live migrations to the next release and back; the ends of connections, clean and cut;
# peers that are slow, odd or hostile; and what the tls blocks of the configuration promise. No session may
# see an alert, a wrong byte or a close that its peer has not sent.
# timeout: 400

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/lib_tls.sh"
[ -x "$CMAN_NEXT_BIN/cmand" ] || bail "$CMAN_NEXT_BIN/cmand is not built (make next)"
PATHWAY=$CMAN_TESTBIN/net/tls_peer
[ -x "$PATHWAY" ] || bail "$PATHWAY is not built"

for n in {1..30}; do cat "$C/server-rsa.pem"; done > "$C/many.pem"
cat "$C/client-rsa.pem" "$C/many.pem" > "$C/long.pem"
cat "$C/server.pem" "$C/many.pem" > "$C/long-server.pem"

# first_bad NAME PORT TLS: a service whose second target is good
first_bad() {
	echo "service $1 { targets = { \"127.0.0.1:$2\", \"127.0.0.1:9003\" } tls { $3 } }"
}
# configuration [FRONT-OF-LATE]: the tls block of the listener "late"; none: no TLS
configuration() {
	conf <<-END
	instance cman1 {
	    run_dir = "@RUN@"
	    gateways = 2
	    max_sessions = 2000
	    log_level = "info"
	    $(combinations)
	    service sink { targets = { "127.0.0.1:9021" } }
	    service source { targets = { "127.0.0.1:9022" } }
	    service sink3 { targets = { "127.0.0.1:9023" } tls { $BACK } }
	    service source3 { targets = { "127.0.0.1:9024" } tls { $BACK } }
	    service split { targets = { "127.0.0.1:9025" } tls { $BACK } }
	    service path { targets = { "127.0.0.1:9026" } tls { $BACK } }
	    service mutual { targets = { "127.0.0.1:9027" } tls { $BACK
	        certificate = "$C/long.pem" key = "$C/client-rsa.key" } }
	    $(listener plain 7000 echo)
	    $(listener sink 7201 sink "$FRONT")
	    $(listener source 7202 source "$FRONT")
	    $(listener sink3 7203 sink3)
	    $(listener source3 7204 source3)
	    $(listener sink_both 7205 sink3 "$FRONT")
	    $(listener source_both 7206 source3 "$FRONT")
	    $(listener split 7207 split "$FRONT")
	    $(listener path 7208 path "$FRONT")
	    $(listener mutual 7209 mutual "$FRONT alpn = { \"h2\" } client_ca = \"$C/ca.pem\"")
	    $(listener names 7210 echo "$FRONT alpn = { \"other\", \"h2\" }
	        sni \"second.example\" { certificate = \"$C/second.pem\" key = \"$C/second.key\" }")
	    $(listener late 7211 echo "${1-}")
	    $(first_bad expired 9031 "$BACK")
	    $(listener expired 7301 expired)
	    $(first_bad name 9032 "$BACK")
	    $(listener name 7302 name)
	    $(first_bad stranger 9033 "$BACK")
	    $(listener stranger 7303 stranger "$FRONT")
	    $(first_bad cipher 9034 "$BACK ciphers = { \"TLS_CHACHA20_POLY1305_SHA256\" }")
	    $(listener cipher 7304 cipher)
	    $(first_bad version 9002 "$BACK min_version = \"1.3\"")
	    $(listener version 7305 version)
	    $(first_bad none 9001 "$BACK")
	    $(listener none 7306 none)
	}
	END
}
configuration
servers --tls-update 20
up

# --- every combination

streams -n 3 --slow 1 --slow-rate 20k --half-close 1 -s 700 -i 10
bench P stream -c 127.0.0.1:7000 -n 3 -s 700 -i 10
bench SPLIT stream -c 127.0.0.1:7001 -n 3 -s 20000 -i 30 "${AS_CLIENT[@]}" --tls-split --tls-pad 512 --tls-update 9
want=$({ for s in P $STREAMS; do legs_of "$s"; done; } | sort)
EACH="$LEGS"'.[] | legs | select(test("^(700[01]|71[12].) "))'
is "$(show sessions "$EACH" | sort -u)" "$want" "show sessions tells version, suite and engine of each leg"
for n in 1 2 3; do
	case $n in 2) home=$CMAN_BUILD ;; *) home=$CMAN_NEXT_BUILD ;; esac
	move "$home"
	is "$wrong" "" "migration $n: $(report move .moved) sessions with and without TLS, in $(
		report move .duration_ms) ms"
	is "$(show sessions "$EACH" | sort -u)" "$want" "migration $n: and they are what they were"
done
streams_end
is "$wrong" "" "each combination: nothing lost, nothing wrong, no alert, half-closed ones still receive"
for s in P SPLIT; do
	bench_end $s
	is "$(report $s '[.alive, .lost, .wrong_bytes, .bytes_missing, .tls.alerts_received // 0] | join(" ")')" \
		"3 0 0 0 0" "$s: nothing lost, nothing wrong"
done
few=
for s in D3 D4 D5 B3 B4 B5 SPLIT; do
	[ "$(report $s '.tls.key_updates_sent > 2 and .tls.key_updates_received > 2')" = true ] || few+=" $s"
done
is "$few" "" "keys were updated on every leg of TLS 1.3 to a client"
ok "no session is left" wait_sessions 0
for s in ECHO2 ECHO3 HOLD2 HOLD3; do
	serve_end $s
	is "$? $(tls $s errors alerts_received truncated)" "0 0 0 0" "the server $s saw no alert, no truncation"
done
cmp_num "$(report ECHO3 .tls.key_updates_received)" '>=' 18 "and keys were updated on the servers' legs: $(
	tls ECHO3 key_updates_sent) asked for, $(tls ECHO3 key_updates_received) received"
servers_left() { [ "$(show gateways 'map(.lost + .recoveries) | add')" = 0 ]; }
ok "no gateway was replaced" servers_left

# --- bulk, and peers that stop reading

# what one read takes may be more than there is room for when it is sealed
serve ECHO2 "${AS_SERVER[@]}" --tls-version 1.2 --listen 127.0.0.1:9002
exec 5<> /dev/tcp/127.0.0.1/7110
head -c 3000000 /dev/zero >&5 & # its window opens
timeout 20 head -c 3000000 <&5 > /dev/null
gateways=$(show gateways '.[].pid')
for size in 65600 66000 66500; do
	all_there() { [ "$(ss -Htn 'sport = :7110' | awk '{ print $2 }')" = "$size" ]; }
	# shellcheck disable=SC2086	# several
	kill -STOP $gateways
	head -c "$size" /dev/zero >&5
	wait_for 5 all_there || not_ok "$size bytes wait in the socket"
	# shellcheck disable=SC2086
	kill -CONT $gateways
	is "$(timeout 10 head -c "$size" <&5 | wc -c)" "$size" "$size bytes at once: none stays behind"
done
exec 5>&-

serve ECHO3 "${AS_SERVER[@]}" --tls-version 1.3 --tls-alpn redis,h2 --listen 127.0.0.1:9003
serve SINK --json --mode sink --listen 127.0.0.1:9021
serve SOURCE --json --mode source --listen 127.0.0.1:9022
serve SINK3 "${AS_SERVER[@]}" --mode sink --listen 127.0.0.1:9023 --tls-update 50
serve SOURCE3 "${AS_SERVER[@]}" --mode source --listen 127.0.0.1:9024 --tls-update 50
bench BU0 bulk -c 127.0.0.1:7201 -d 0 --warmup 0 --direction up "${AS_CLIENT[@]}" --tls-version 1.2
bench BD0 bulk -c 127.0.0.1:7202 -d 0 --warmup 0 --verify "${AS_CLIENT[@]}" --tls-version 1.2
bench BU1 bulk -c 127.0.0.1:7203 -d 0 --warmup 0 --direction up
bench BD1 bulk -c 127.0.0.1:7204 -d 0 --warmup 0 --verify
bench BU2 bulk -c 127.0.0.1:7205 -d 0 --warmup 0 --direction up "${AS_CLIENT[@]}" --tls-update 40
bench BD2 bulk -c 127.0.0.1:7206 -d 0 --warmup 0 --verify "${AS_CLIENT[@]}"
move
is "$wrong" "" "a migration amid bulk transfers"
# three readers stand still until every buffer on the way is full
at_exit kill -CONT "$BD0_PID" "$BD1_PID" "$BD2_PID" "$SINK3_PID"
kill -STOP "$BD0_PID" "$BD1_PID" "$BD2_PID" "$SINK3_PID"
moved_bytes() { show sessions 'map(select(.service | test("source|sink3")) | .bytes_down + .bytes_up) | add'; }
stands_still() {
	local before
	before=$(moved_bytes)
	sleep 0.3
	[ "$(moved_bytes)" = "$before" ]
}
ok "closed windows stop the senders" wait_for 10 stands_still
move "$CMAN_NEXT_BUILD"
is "$wrong" "" "a migration of sessions that stand still"
kill -CONT "$BD0_PID" "$BD1_PID" "$BD2_PID" "$SINK3_PID"
move
is "$wrong" "" "and of the same when they go on"
for s in BU0 BU1 BU2 BD0 BD1 BD2; do
	bench_end $s
	is "$(report $s '[.ok, .lost, .wrong_bytes, .bytes_verified > 100000, .tls.alerts_received // 0] |
		map(tostring) | join(" ")')" "true 0 0 true 0" "bulk $s: $(
			report $s '.bytes_verified / 1e6 | floor') MB, every byte right"
done
for s in SINK SOURCE SINK3 SOURCE3; do stop "$(eval "echo \$${s}_PID")"; done

# --- cut connections

for v in 1.2 1.3; do
	k=$([ $v = 1.2 ] && echo 2 || echo 3)
	client=("${AS_CLIENT[@]}" --tls-version "$v")

	stop "$ECHO_PID"
	serve ECHO --json --listen 127.0.0.1:9001
	serve CUT "${AS_SERVER[@]}" --tls-version $v --listen "127.0.0.1:901$k"
	bench I0 idle -c 127.0.0.1:7001 -n 4 "${client[@]}"
	bench I1 idle -c "127.0.0.1:715$k" -n 4 "${client[@]}"
	truncated=$(cells tls_truncated)
	kill -KILL "$I0_PID" "$I1_PID"
	wait "$I0_PID" "$I1_PID" 2> /dev/null
	ok "killed clients: eight truncations are counted ($v)" wait_for 5 cells_are tls_truncated $((truncated + 8))
	serve_end ECHO
	is "$(report ECHO .resets)" 4 "killed clients: a reset for a server without TLS ($v)"
	serve_end CUT
	is "$(tls CUT truncated errors)" "4 0" "killed clients: a truncation for a server with TLS ($v)"

	serve ECHO --json --listen 127.0.0.1:9001
	serve CUT "${AS_SERVER[@]}" --tls-version $v --listen "127.0.0.1:901$k"
	bench I0 idle -c "127.0.0.1:714$k" -n 4
	bench I1 idle -c "127.0.0.1:715$k" -n 4 "${client[@]}"
	kill -KILL "$CUT_PID"
	wait "$I0_PID" "$I1_PID"
	is "$(report I0 '[.resets, .early_eofs] | join(" ")')" "4 0" \
		"a killed server: a reset for clients without TLS ($v)"
	is "$(tls I1 truncated errors) $(report I1 .lost)" "4 0 4" \
		"a killed server: a truncation for clients with TLS ($v)"
done

# --- odd peers. Others go on meanwhile

bench S stream -c 127.0.0.1:7123 -n 5 -i 10 "${AS_CLIENT[@]}"
serve BEHIND "${AS_SERVER[@]}" --listen 127.0.0.1:9025 --tls-split --tls-pad 700 --tls-update 3
# pathway NAME PORT TARGET WORD…: see tls_peer.c
pathway() {
	local name=$1
	shift
	"$PATHWAY" "$@" > "$T/$name.out" 2>&1 &
	printf -v "${name}_PID" '%s' $!
	track $!
	wait_for 5 listens "$1" || bail "tls_peer: $(cat "$T/$name.out")"
}
run x pingpong -c 127.0.0.1:7207 "${AS_CLIENT[@]}" -s 5000 -n 2 -d 0.5 --warmup 0 --tls-split --tls-pad 900 \
	--tls-update 4
is "$(report x '.ok and .operations > 3 and .tls.key_updates_sent > 1 and .tls.key_updates_received > 1')" true \
	"both sides split and pad their records and update their keys"

pathway FRONTWAY 9101 7123 trickle
pathway BACKWAY 9026 9003 trickle
for port in 9101 7208; do
	for v in 1.2 1.3; do
		[ "$port $v" != "7208 1.2" ] || continue
		run x pingpong -c 127.0.0.1:$port "${AS_CLIENT[@]}" --tls-version $v -s 100 -d 0.5 --warmup 0
		is "$(report x '[.ok, .operations > 0, .tls.handshakes] | map(tostring) | join(" ")')" \
			"true true 1" "one byte at a time, through $port, TLS $v"
	done
done
stop "$FRONTWAY_PID"
stop "$BACKWAY_PID"

pathway FRONTWAY 9101 7123 gather
pathway BACKWAY 9026 9003 gather
for v in 1.2 1.3; do
	run x probe -c 127.0.0.1:9101 "${AS_CLIENT[@]}" --tls-version $v -r 20 -d 0.5
	is "$(report x '[.ok, .verified > 0, .failures, .wrong_bytes] | map(tostring) | join(" ")')" "true true 0 0" \
		"data right behind Finished, TLS $v"
done
run x stream -c 127.0.0.1:7208 "${AS_CLIENT[@]}" -n 3 -i 2 -d 0.5
is "$(report x '[.ok, .lost, .wrong_bytes] | map(tostring) | join(" ")')" "true 0 0" "records of the backend in heaps"
stop "$FRONTWAY_PID"
stop "$BACKWAY_PID"

# a second client at the same listener is not harmed by what happens to the first
# tampered WHAT WHERE WORDS ALERTS WHY
tampered() {
	local what=$1 where=$2 alerts=$4 why=$5 v=$6 port broken
	if [ "$where" = front ]; then
		# shellcheck disable=SC2086	# words
		pathway WAY 9101 7123 $3 up
		port=9101
	else
		# shellcheck disable=SC2086
		pathway WAY 9026 9003 $3 down
		port=7208
	fi
	log_here
	broken=$(cells tls_broken)
	run x stream -c 127.0.0.1:$port "${AS_CLIENT[@]}" --tls-version "$v" -n 1 -i 10 -d 5 --drain-timeout 1
	is "$(report x '[.lost, .wrong_bytes] | join(" ")') $(tls x alerts_received) $(($(cells tls_broken) - broken))" \
		"1 0 $alerts 1" "$what ($v): the session ends, and is counted"
	ok "$what ($v): the log says why" wait_for 5 logged "cannot go on.* leg=${where/front/client}.*$why" ||
		diag "$(tail -n 3 "$RUN/cman1.log")"
	stop "$WAY_PID"
}
for v in 1.2 1.3; do
	tampered "a changed record" front "mac 5" 1 "a record was changed on its way.*alert=20" $v
	tampered "a header that is none" front "header 5" 1 "alert=22" $v
done

# clear TEXT: how many bytes a TLS listener answers
clear() {
	exec 5<> /dev/tcp/127.0.0.1/7123
	{ printf '%s\r\n\r\n' "$1" >&5; } 2> /dev/null
	timeout 10 cat <&5 2> /dev/null | wc -c
	exec 5>&-
}
for text in "SSH-2.0-peer" "GET / HTTP/1.0"; do
	log_here
	is "$(clear "$text")" 0 "clear text gets no answer"
	ok "and the log says what came: ${text:0:5}" wait_for 5 logged "leg=client.*TLS.*got .*${text:0:5}"
done

log_here
{ sleep 0.5; echo R; sleep 1; } | timeout 10 openssl s_client -connect 127.0.0.1:7122 -tls1_2 -CAfile "$C/ca.pem" \
	> "$T/renegotiation" 2>&1
like "$(cat "$T/renegotiation")" "no renegotiation" "a renegotiation is refused"

bench_end S
is "$(report S '[.alive, .lost, .wrong_bytes, .bytes_missing, .tls.alerts_received] | join(" ")')" "5 0 0 0 0" \
	"all this time the others went on"
stop "$BEHIND_PID"

# --- names, protocols, certificates

# subject PORT OPTION…: of the certificate that a client is shown
subject() {
	local port=$1
	shift
	timeout 10 openssl s_client -connect "127.0.0.1:$port" "$@" < /dev/null 2> /dev/null |
		sed -n 's/^subject=//p'
}
is "$(subject 7210 -servername second.example)" "CN = second" "SNI chooses the certificate"
is "$(subject 7210 -servername SECOND.example -tls1_2)" "CN = second" "in capitals, with TLS 1.2"
is "$(subject 7210 -servername unknown.example)" "CN = server" "an unknown name gets the listener's own"
is "$(subject 7210 -noservername)" "CN = server" "and so does none"

bench I0 idle -c 127.0.0.1:7210 -n 1 --tls --tls-ca "$C/ca.pem" --tls-name second.example --tls-alpn h2
bench I1 idle -c 127.0.0.1:7123 -n 1 "${AS_CLIENT[@]}" --tls-alpn none,redis
is "$(show sessions 'map(select(.sni) | "\(.sni) \(.alpn)") | sort | join(", ")')" "db.example redis, second.example h2" \
	"show sessions tells SNI and ALPN"
bench_end I0
bench_end I1
is "$(tls I0 alpn) $(tls I1 alpn)" "h2 redis" "ALPN as configured, and as the backend chose"
run x pingpong -c 127.0.0.1:7123 "${AS_CLIENT[@]}" -d 0.1 --warmup 0
is "$(report x .ok) $(tls x alpn)" "true null" "who offers none gets none"

serve MUTUAL "${AS_SERVER[@]}" --listen 127.0.0.1:9027 --tls-ca "$C/ca.pem"
for v in 1.2 1.3; do
	mutual=(pingpong -c 127.0.0.1:7209 "${AS_CLIENT[@]}" --tls-version "$v" -d 0.2 --warmup 0 --drain-timeout 1)
	run x "${mutual[@]}" --tls-cert "$C/long.pem" --tls-key "$C/client-rsa.key"
	is "$(report x .ok)" true "certificates of clients on both legs, longer than a record (TLS $v)"
	log_here
	run x "${mutual[@]}"
	is "$(report x '[.ok, .operations] | map(tostring) | join(" ")')" "false 0" "no certificate: refused (TLS $v)"
	ok "and the log says why" wait_for 5 logged 'leg=client.*showed no certificate'
	log_here
	run x "${mutual[@]}" --tls-cert "$C/stranger.pem" --tls-key "$C/stranger.key"
	is "$(report x '[.ok, .operations] | map(tostring) | join(" ")')" "false 0" "a stranger's: refused (TLS $v)"
	ok "and the log says why" wait_for 5 logged 'leg=client.*cman test other-ca.*client_ca'
	log_here
	run x "${mutual[@]}" --tls-cert "$C/expired.pem" --tls-key "$C/expired.key"
	is "$(report x '[.ok, .operations] | map(tostring) | join(" ")')" "false 0" "an expired one: refused (TLS $v)"
	ok "and the log says why" wait_for 5 logged 'leg=client.*expired'
done
stop "$MUTUAL_PID"

# --- backends that are not what they should be: the next target

bad() { serve "$1" --tls --tls-cert "$C/$2.pem" --tls-key "$C/$2.key" --listen "127.0.0.1:903$3" "${@:4}"; }
bad EXPIRED expired 1
bad NAME second 2
bad STRANGER stranger 3
bad CIPHER server 4 --tls-cipher TLS_AES_128_GCM_SHA256
# next PORT WHY OPTION…
next_target() {
	local port=$1 why=$2
	shift 2
	log_here
	run x pingpong -c "127.0.0.1:$port" -d 0.2 --warmup 0 "$@"
	is "$(report x '[.ok, .operations > 0] | map(tostring) | join(" ")')" "true true" "the next target serves: $why"
	ok "and the log says why not the first" wait_for 5 logged "handshake failed.* leg=server.*$why" ||
		diag "$(tail -n +$((LINE + 1)) "$RUN/cman1.log" | tail -n 3)"
}
next_target 7301 "expired"
next_target 7302 "another name: expected db.example, has .*second.example"
next_target 7303 "other-ca.* is unknown" "${AS_CLIENT[@]}"
next_target 7304 "handshake failure|no cipher"
next_target 7305 "version"
next_target 7306 "backend"
stop "$EXPIRED_PID"

# --- who says nothing stops nobody

exec 5<> /dev/tcp/127.0.0.1/7123
exec 6<> /dev/tcp/127.0.0.1/7123
printf '\x16\x03\x01\x02\x00\x01' >&6
bench S stream -c 127.0.0.1:7123 -n 5 -i 10 "${AS_CLIENT[@]}"
ok "silent clients are there" wait_sessions 7
move
is "$wrong" "" "a migration with clients that do not go on with their handshake"
exec 5>&- 6>&-
ok "they may go" wait_sessions 5

# --- reload

cp "$T/cman.conf" "$T/old.conf"
cp "$C/server.pem" "$C/kept.pem"
cp "$C/server.key" "$C/kept.key"
is "$(subject 7123 -servername db.example)" "CN = server" "before the reload"
cp "$C/server-rsa.pem" "$C/server.pem"
cp "$C/server-rsa.key" "$C/server.key"
ok "reload with another certificate" ctl reload
is "$(subject 7123 -servername db.example)" "CN = server-rsa" "new sessions are shown it"
cp "$C/kept.pem" "$C/server.pem"
cp "$C/kept.key" "$C/server.key"
run x pingpong -c 127.0.0.1:7211 -d 0.1 --warmup 0
is "$(report x .ok)" true "a listener without TLS"
bench I0 idle -c 127.0.0.1:7211 -n 2
configuration "$FRONT"
ok "reload makes it TLS" ctl reload
is "$(subject 7211 -servername db.example)" "CN = server" "and it is"
run x pingpong -c 127.0.0.1:7211 -d 0.2 --warmup 0 --drain-timeout 1
is "$(report x '[.ok, .operations] | map(tostring) | join(" ")')" "false 0" "clear text is refused there"
bench_end I0
is "$(report I0 '[.alive, .lost, .wrong_bytes, .bytes_missing] | join(" ")')" "2 0 0 0" "its earlier sessions go on without"
echo "broken" > "$C/server.pem"
exits 2 "a reload of what is no certificate fails" ctl reload
cp "$C/kept.pem" "$C/server.pem"
is "$(subject 7123 -servername db.example)" "CN = server" "and changes nothing"
move "$CMAN_NEXT_BUILD"
is "$wrong" "" "a migration after that"
bench_end S
is "$(report S '[.alive, .lost, .wrong_bytes, .bytes_missing, .tls.alerts_received] | join(" ")')" "5 0 0 0 0" \
	"live sessions noticed nothing"
ok "no session is left" wait_sessions 0
down
ok "nothing is left behind" test ! -e "$RUN/cman1.sock" -a ! -e /sys/fs/bpf/cman/cman1
