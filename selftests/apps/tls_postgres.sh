#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# PostgreSQL with TLS behind an instance that is moved from release to release, in four ways at the same time:
# "relayed", psql's own TLS goes through cman to PostgreSQL; "both" legs of cman have TLS; only the "front" one, to
# psql; only the "back" one, to PostgreSQL. psql and pgbench are Debian's: they begin with an SSLRequest in the clear,
# and verify the certificate with its name. PostgreSQL takes 127.0.0.1 with TLS only, 127.0.0.2 without only; passwords
# are bound to the certificate where that is possible.
# timeout: 360
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=selftests/lib/tap.sh
run_in_own_netns "$@"
. "$(dirname "$TAP_SELF")/lib.sh"
# shellcheck source=selftests/apps/lib.sh
. "$(dirname "$TAP_SELF")/lib_tls.sh"
# shellcheck source=selftests/apps/lib_tls.sh
# the runner builds $CMAN_NEXT_BIN for tests that name it
need_cmd psql jq setpriv

# --- a private cluster: newest version there is, run by an ordinary user; all by TLS and password but the socket

for PGBIN in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr) ''; do
	[ ! -x "$PGBIN/initdb" ] || break
done
[ -n "$PGBIN" ] || bail "PostgreSQL's server is not installed (scripts/install-deps.sh test)"
USER_OF_PG=postgres
id -u $USER_OF_PG > /dev/null 2>&1 || USER_OF_PG=nobody
as_pg() { setpriv --reuid=$USER_OF_PG --regid="$(id -g $USER_OF_PG)" --clear-groups -- "$@"; }
chmod 755 "$T"
install -d -o $USER_OF_PG "$T/pg" "$T/socket"
cd "$T" || bail "no $T"
as_pg "$PGBIN/initdb" -D "$T/pg" -A trust -U postgres --no-sync --locale=C -E UTF8 > initdb.log 2>&1 ||
	bail "initdb: $(tail -n 3 initdb.log)"
install -o $USER_OF_PG -m 600 "$CERTS/server.pem" "$T/pg/server.crt"
install -o $USER_OF_PG -m 600 "$CERTS/server.key" "$T/pg/server.key"
printf '%s\n' 'local all all trust' 'hostssl all all 127.0.0.1/32 scram-sha-256' \
	'hostnossl all all 127.0.0.2/32 scram-sha-256' 'hostssl all all 127.0.0.3/32 password' > pg/pg_hba.conf
as_pg "$PGBIN/postgres" -D "$T/pg" -h 127.0.0.1 -p 6001 -k "$T/socket" -c ssl=on \
	-c fsync=off -c full_page_writes=off -c max_connections=100 > pg.log 2>&1 &
track $!
export PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=10
wait_for 20 "$PGBIN/pg_isready" -q -h "$T/socket" -p 6001 || bail "no answer: $(tail -n 3 pg.log)"
direct() { psql -XqAt -v ON_ERROR_STOP=1 -h "$T/socket" -p 6001 "$@"; }
direct -c "ALTER USER postgres PASSWORD 'secret'" || bail "no password"
export PGPASSWORD=secret PGSSLROOTCERT=$CA

TO_PG="$TLS_SERVERS starttls = \"postgresql\""
# with a certificate that is not PostgreSQL's own
OTHER="certificate = \"$CERTS/server-rsa.pem\"  key = \"$CERTS/server-rsa.key\""
# from ADDRESS: services have this source
from() { sed "/^service/s/}/} source = \"$1\"/"; }
tls_start "$(tls_pair 01 '' '')" "$(tls_pair 02 "$TLS_CLIENTS" "$TLS_SERVERS" 01)" \
	"$(tls_pair 03 "$OTHER" '' 01 | from 127.0.0.2)" "$(tls_pair 04 '' "$TO_PG" 01 | from 127.0.0.3)" \
	"$(tls_pair 05 "$OTHER" "$TLS_SERVERS" 01)" "$(tls_pair 06 '' "$TO_PG" 01)"
VERIFIED="sslmode=verify-full host=localhost hostaddr=127.0.0.1"
declare -A WAYS=([relayed]="$VERIFIED port=8001 channel_binding=require"
	[both]="$VERIFIED port=8002 channel_binding=require" [front]="$VERIFIED port=8003"
	[back]="sslmode=disable host=127.0.0.1 port=8004" [other]="$VERIFIED port=8005"
	[bound]="sslmode=disable host=127.0.0.1 port=8006 channel_binding=disable")
through() {
	local way=$1
	shift
	psql -XqAt -v ON_ERROR_STOP=1 "${WAYS[$way]}" "$@"
}
for w in relayed both front; do
	ok "$w: a query goes through, with TLS and a verified certificate" through $w -c 'SELECT 1'
	like "$(PGSSLROOTCERT=$CERTS/other-ca.pem through $w -c 'SELECT 1' 2>&1)" 'certificate verify failed' \
		"$w: a psql that trusts another CA refuses"
	like "$(psql -XqAt "${WAYS[$w]} host=wrong.example" -c 'SELECT 1' 2>&1)" \
		'does not match host name' "$w: a psql that wants another name refuses"
done
for w in relayed:t both:t front:f back:t; do
	is "$(through ${w%:*} -c 'SELECT 6 * 7, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')" "42|${w#*:}" \
		"${w%:*}: and PostgreSQL says whether there is TLS on its side: ${w#*:}"
done

# --- passwords that are bound to the certificate: psql sees cman's, PostgreSQL knows its own

like "$(through other -c 'SELECT 1' 2>&1)" 'channel binding check failed' \
	"another certificate on the client's leg: what psql prefers fails"
is "$(psql -XqAt "${WAYS[other]} channel_binding=disable" -c 'SELECT 1')" 1 "without binding it does not"
like "$(psql -XqAt "${WAYS[front]} channel_binding=require" -c 'SELECT 1' 2>&1)" 'channel binding is required' \
	"no TLS on the server's leg: there is nothing to bind to"
like "$(through bound -c 'SELECT 1' 2>&1)" 'SCRAM-SHA-256-PLUS authentication over a non-SSL connection' \
	"no TLS on the client's leg: psql does not trust the offer, though it needs no binding"

# --- Ctrl-C, which psql sends without TLS

sleeping() { [ "$(direct -c "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'")" = "$1" ]; }
for w in relayed both front back; do
	psql -XqAt "${WAYS[$w]}" -c 'SELECT pg_sleep(60)' > cancel.out 2>&1 &
	sleeper=$!
	track $sleeper
	wait_for 10 sleeping 1
	kill -INT $sleeper
	ok "$w: Ctrl-C ends a query" wait_for 10 sleeping 0
	wait $sleeper
	like "$(cat cancel.out)" 'canceling statement due to user request' "$w: and psql says so"
done
"$PGBIN/pgbench" -i -q -s 2 -h "$T/socket" -p 6001 > init.log 2>&1 || bail "$(tail -n 3 init.log)"

# --- what runs all the time, on all four ways

# rows that are all different, more than fits on the way
ROWS="SELECT i, md5(i::text), repeat(md5((i * 7)::text), 3) FROM generate_series(1, 300000) i"
direct -c "COPY ($ROWS) TO STDOUT" > rows
bytes=$(stat -c %s rows)
works=() bench=()
declare -A held_in held_out listen backend
for w in relayed both front back; do
	# psql with a transaction and a temporary table, and one that listens, fed line by line
	for n in held listen; do
		mkfifo $n.$w.in
		: > $n.$w.out
		through $w < $n.$w.in > $n.$w.out 2>&1 &
		works+=($!)
	done
	exec {fd}> held.$w.in
	held_in[$w]=$fd
	exec {fd}< held.$w.out
	held_out[$w]=$fd
	exec {fd}> listen.$w.in
	listen[$w]=$fd
	echo "LISTEN news; SELECT 'listening';" >&"${listen[$w]}"
	(
		set -o pipefail
		through $w -c "COPY ($ROWS) TO STDOUT" 2> down.$w.err | slowly 0.3 | sum_of > down.$w.sum
	) &
	works+=($!)
	direct -c "CREATE UNLOGGED TABLE copied_$w (i int, a text, b text)"
	slowly 0.3 < rows | through $w -c "COPY copied_$w FROM STDIN" > up.$w.out 2>&1 &
	works+=($!)
	"$PGBIN/pgbench" -n -M simple -c 10 -j 1 -R 100 -T 600 "${WAYS[$w]}" > bench.$w.out 2> bench.$w.err &
	bench+=($!)
done
track "${works[@]}" "${bench[@]}"
# ask WAY SQL: its answer, one line, in $answer
ask() {
	local end=$((SECONDS + 20))
	echo "$2" >&"${held_in[$1]}"
	answer=
	until IFS= read -r answer <&"${held_out[$1]}"; do
		[ $SECONDS -lt $end ] || return
		sleep 0.01
	done
}
for w in relayed both front back; do
	ask $w 'SELECT pg_backend_pid();'
	backend[$w]=$answer
	echo 'BEGIN; CREATE TEMP TABLE seen (n int) ON COMMIT DROP;' >&"${held_in[$w]}"
	wait_for 10 grep -q listening listen.$w.out || not_ok "$w: LISTEN" "$(cat listen.$w.out)"
done
N=56	# four times: held, LISTEN, two COPY, 10 of pgbench
has_sessions() { [ "$(tls_sessions | wc -l)" = $N ] && ! tls_sessions 02 | grep -qv 'TLS.* / TLS'; }
wait_for 15 has_sessions
before=$(tls_sessions)
diag "$(cut -d' ' -f2- <<< "$before" | sort | uniq -c)"
is "$(for n in 01:'- / -' 02:'TLS\S* \S* / TLS' 03:'TLS\S* \S* / -' 04:'- / TLS'; do
	tls_sessions "${n%%:*}" | grep -c " ${n#*:}"
done | xargs)" "14 14 14 14" "a quarter of the sessions has TLS in each way"

# --- migrate

transactions() { direct -c "SELECT count(*) FROM pgbench_history"; }
more() {
	now=$(transactions)
	[ "$now" -gt "$last" ]
}
step() {
	local p w now
	for w in relayed both front back; do
		ask $w "INSERT INTO seen VALUES ($during); SELECT count(*) FROM seen;"
		[ "$answer" = "$during" ] && good=$((good + 1))
	done
	direct -c "NOTIFY news, 'number $during'"
	wait_for 5 more || return
	last=$now
	for p in "${works[@]}" "${bench[@]}"; do
		works "$p" || return
	done
	[ "$(tls_sessions)" = "$before" ] && busy=$((busy + 1))
}
good=0 busy=0 last=$(transactions)
migrate_often $MIGRATIONS step
is $good $((4 * MIGRATIONS)) "all four transactions with a temporary table go on after each of $MIGRATIONS migrations"
is $busy $MIGRATIONS "all connections are in use, and those of the beginning, after each of $MIGRATIONS migrations"
touch hurry

for w in relayed both front back; do
	ask $w 'SELECT pg_backend_pid();'
	is "$answer" "${backend[$w]}" "$w: it still is the same backend"
	ask $w 'SELECT sum(n) FROM seen;'
	is "$answer" $((MIGRATIONS * (MIGRATIONS + 1) / 2)) "$w: and the table has all rows"
	echo 'COMMIT;' >&"${held_in[$w]}"
	ask $w "SELECT to_regclass('pg_temp.seen') IS NULL;"
	is "$answer" t "$w: it commits"
	echo "SELECT 'end';" >&"${listen[$w]}"
	wait_for 10 grep -qx end listen.$w.out
	is "$(grep -c 'Asynchronous notification "news" with payload "number ' listen.$w.out)" $MIGRATIONS \
		"$w: LISTEN: every notification has come"
	fd=${listen[$w]}
	exec {fd}>&-
	fd=${held_in[$w]}
	exec {fd}>&-
done
for p in "${bench[@]}"; do
	ok "pgbench with 10 clients works" works "$p"
	stop "$p"
done
for p in "${works[@]}"; do
	wait "$p"
	is $? 0 "process $p ends well"
done
for w in relayed both front back; do
	is "$(grep -ci 'abort\|error\|lost' bench.$w.err)" 0 "$w: pgbench has met no error" || diag "$(cat bench.$w.err)"
	is "$(cat down.$w.sum)" "$(sum_of rows)" "$w: COPY TO of $((bytes / 1000000)) MB is equal" ||
		diag "$(cat down.$w.err)"
	is "$(direct -c "COPY (SELECT * FROM copied_$w ORDER BY i) TO STDOUT" | sum_of)" "$(sum_of rows)" \
		"$w: COPY FROM of $((bytes / 1000000)) MB is equal" || diag "$(cat up.$w.out)"
done
tls_verdict
