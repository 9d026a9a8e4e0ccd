#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What PostgreSQL's protocol says in the clear before TLS, on either leg: who asks whom, in pieces, amid a
# migration and a gateway's death; peers that refuse, say something else, or say more than they may; and
# CancelRequests, which come without TLS.

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/lib_tls.sh"
[ -x "$CMAN_NEXT_BIN/cmand" ] || bail "$CMAN_NEXT_BIN/cmand is not built (make next)"
need_cmd python3
export CERTS=$C

# pg_server NAME PORT ANSWER [FIFO]: what connections began with is in $T/NAME.out
pg_server() {
	python3 "$(dirname "$TAP_SELF")/pg_peer.py" server "${@:2}" >> "$T/$1.out" 2> "$T/$1.err" &
	track $!
	listens() { ss -Htln "sport = :$1" | grep -q .; }
	wait_for 30 listens "$2" || bail "no server $1: $(cat "$T/$1.err")"
}
# client PORT STEP…: see pg_peer.py
client() { python3 "$(dirname "$TAP_SELF")/pg_peer.py" client "$@"; }
# seen NAME: what its connections began with, since the last time
seen() { cat "$T/$1.out" && : > "$T/$1.out"; }
# begins NAME WANTED DESCRIPTION PORT STEP…: the client is served, and the server's connection began so
begins() {
	met() { [ "$(cat "$T/$1.out")" = "$2" ]; }
	ok "$3" client "${@:4}"
	ok "$3: the target was met with ${2//$'\n'/, then }" wait_for 5 met "$1" "$2" || diag "$(cat "$T/$1.out")"
	seen "$1" > /dev/null
}

mkfifo "$T/answer"
for s in "PG 9001 S" "PLAIN 9002 S" "NO 9003 N" "ERROR 9004 E" "SILENT 9005 -" "SLOW 9006 S $T/answer"; do
	# shellcheck disable=SC2086	# words
	pg_server $s
done
conf <<-END
instance cman1 {
    run_dir = "@RUN@"
    gateways = 1
    max_sessions = 1000
    log_level = "info"
    $(service auto 9001 "$BACK")
    $(service plain 9002)
    $(service none 9001 "$BACK starttls = \"none\"")
    $(service always 9001 "$BACK starttls = \"postgresql\"")
    service no { targets = { "127.0.0.1:9003", "127.0.0.1:9001" } tls { $BACK } }
    $(service error 9004 "$BACK")
    $(service silent 9005 "$BACK")
    $(service slow 9006 "$BACK")
    $(service nobody 9099 "$BACK")
    $(listener both 7001 auto "$FRONT")
    $(listener clients 7002 plain "$FRONT")
    $(listener servers 7003 always)
    $(listener none 7004 none "$FRONT")
    $(listener always 7005 always "$FRONT")
    $(listener mutual 7006 auto "$FRONT client_ca = \"$C/ca.pem\"")
    $(listener mutual_pg 7007 always "$FRONT client_ca = \"$C/ca.pem\"")
    $(listener no 7008 no "$FRONT")
    $(listener error 7009 error "$FRONT")
    $(listener silent 7010 silent "$FRONT")
    $(listener slow 7011 slow "$FRONT")
    $(listener nobody 7012 nobody "$FRONT")
}
END
up

# --- who asks whom

ASK="send=SSL get=S tls"
# shellcheck disable=SC2086	# steps
{
	begins PG SSL "both legs" 7001 $ASK echo=hello
	begins PG TLS "both legs, the client begins with TLS itself" 7001 tls echo=hello
	begins PLAIN text "TLS for the client only" 7002 $ASK echo=hello
	begins PG SSL "TLS for the target only" 7003 echo=hello
	begins PG TLS "starttls = none" 7004 $ASK echo=hello
	begins PG SSL "starttls = postgresql, the client begins with TLS itself" 7005 tls echo=hello
	begins PG SSL "byte by byte" 7001 bytes=SSL get=S tls echo=hello
	begins PG SSL "GSSENCRequest first" 7001 send=GSS get=N $ASK echo=hello
	begins PG SSL "GSSENCRequest first, byte by byte" 7001 bytes=GSS get=N bytes=SSL get=S tls echo=hello
	begins PG TLS "GSSENCRequest, then TLS itself" 7001 send=GSS get=N tls echo=hello
}
is "$(cells tls_handshakes) $(cells tls_failed)" "18 0" "each handshake is counted, none failed"

# --- targets that do not want it

log_here
begins NO SSL "a target without TLS: the next one is asked" 7008 send=SSL get=S tls echo=hello
is "$(seen PG)" SSL "and that one has TLS"
ok "the log says why not the first" logged "leg=server.*the backend has no TLS.*'N'"
# steps of a client whose session is refused when it has begun its handshake
REFUSED="send=SSL get=S send=HELLO end"
# shellcheck disable=SC2086
{
	ok "a target that answers with an error" client 7009 $REFUSED
	ok "the log says so" logged "leg=server.*answered the SSLRequest with 0x45: expected 'S'"
	ok "a target that does not answer" client 7010 $REFUSED
	ok "the log says so" logged "leg=server.*closed the connection before the TLS handshake"
}
is "$(cells 'tls_failed[1]') $(cells 'tls_failed[8]')" "2 1" "they are counted"
seen ERROR > /dev/null
seen SILENT > /dev/null

# --- clients that say something else

# refused DESCRIPTION WHY STEP…
refused() {
	local before
	before=$(cells 'tls_failed[1]')
	log_here
	ok "$1" client 7001 "${@:3}" end
	ok "$1: the log says why" wait_for 5 logged "leg=client.*$2"
	is $(($(cells 'tls_failed[1]') - before)) 1 "$1: it is counted"
}
EARLY="more behind its request"
refused "a byte behind SSLRequest" "$EARLY" send=SSL,00
refused "a ClientHello behind SSLRequest" "$EARLY" send=SSL,HELLO
refused "SSLRequest behind GSSENCRequest" "$EARLY" send=GSS,SSL
refused "a byte behind SSLRequest, which is the second" "$EARLY" send=GSS get=N send=SSL,00
NO_TLS="does not speak TLS: expected a ClientHello"
refused "another SSLRequest" "$NO_TLS" send=SSL get=S send=SSL
refused "GSSENCRequest behind SSLRequest" "$NO_TLS" send=SSL get=S send=GSS
refused "another GSSENCRequest" "$NO_TLS" send=GSS get=N send=GSS
refused "a StartupMessage" "$NO_TLS" send=0000000800030000
refused "a request that there is not" "$NO_TLS" bytes=0000000804d21631
refused "an SSLRequest of another length" "$NO_TLS" send=0000000904d2162f
refused "text" "$NO_TLS" send=474554202f
refused "text after the answer" "$NO_TLS" send=SSL get=S send=474554202f
is "$(seen PG)" '' "no target has heard of them"

# --- who says nothing stops nobody

# FILE FIFO: a client that has been answered, and goes on with its handshake when somebody writes to FIFO
hesitate() {
	mkfifo "$2"
	client 7001 send=SSL get=S tell="$1" wait="$2" tls echo=hello wait="$2" echo=again &
	HESITANT=$!
	track $HESITANT
	wait_for 10 test -e "$1" || not_ok "it is answered"
}
hesitate "$T/asked" "$T/go"
log_here
kill -KILL "$(show gateways '.[0].pid')"
ok "a gateway dies after its answer to SSLRequest" wait_for 5 logged "goes on where another one stopped.*sessions=1"
echo > "$T/go"
shaken() { [ "$(show sessions '.[] | select(.client_tls and .server_tls) | .id' | wc -l)" = "$1" ]; }
ok "the handshake goes on" wait_for 5 shaken 1
echo > "$T/go"
wait $HESITANT
is $? 0 "and so does the session"
is "$(cells tls_cut)" 0 "no handshake was cut"
is "$(seen PG)" SSL "the target was asked"

hesitate "$T/asked2" "$T/go2"
old=$(field .pid)
ctl migrate --home "$CMAN_NEXT_BUILD" --via fd --json > "$T/move.json" 2> "$T/move.err" &
mover=$!
track $mover
renamed() { [ "$(field .pid)" != "$old" ]; }
ok "a migration begins meanwhile" wait_for 10 renamed
echo > "$T/go2"
wait $mover
is "$? $(report move '[.moved, .failed, (.left | length), .old.exited] | map(tostring) | join(" ")')" "0 1 0 0 true" \
	"it waits for the handshake, and moves the session" || diag "$(cat "$T/move.err")"
echo > "$T/go2"
wait $HESITANT
is $? 0 "which goes on"
seen PG > /dev/null

# --- the gateway dies while the target thinks about it

client 7011 send=SSL get=S tls echo=hello &
slow=$!
track $slow
begun() { [ "$(wc -l < "$T/SLOW.out")" = "$1" ]; }
ok "a target is asked" wait_for 5 begun 1
kill -KILL "$(show gateways '.[0].pid')"
ok "and asked again after the gateway's death" wait_for 5 begun 2
exec 5<> "$T/answer"
printf '..' >&5 # for each of its connections
wait $slow
is $? 0 "the client goes on, it was not answered twice"
exec 5>&-

# --- CancelRequest

begins PG "CANCEL
and 0 bytes more" "CancelRequest, both legs" 7001 send=CANCEL end
begins PLAIN "CANCEL
and 0 bytes more" "CancelRequest, TLS for the client only" 7002 bytes=CANCEL end
begins PG "CANCEL
and 0 bytes more" "no byte behind it is passed on" 7001 send=CANCEL,474554 end
begins PG "CANCEL
and 0 bytes more" "clients show certificates, the service is PostgreSQL's" 7007 send=CANCEL end
# cancel_refused PORT DESCRIPTION
cancel_refused() {
	log_here
	ok "$2" client "$1" send=CANCEL end
	ok "$2: the log says why" wait_for 5 logged "leg=client.*CancelRequest without TLS: expected starttls"
	is "$(seen PG)" '' "$2: no target hears of it"
}
cancel_refused 7004 "CancelRequest, starttls = none"
cancel_refused 7006 "CancelRequest, clients show certificates"
ok "CancelRequest, and no target answers" client 7012 send=CANCEL end
ok "no session is left" wait_sessions 0
is "$(sum lost)" 0 "no gateway has lost a session"
down
