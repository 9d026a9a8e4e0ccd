#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# PostgreSQL behind an instance that is moved from release to release: pgbench with 20 clients, a
# query that runs all the time, a transaction held open, LISTEN, and 100 MB by COPY each way.
# timeout: 180
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=selftests/lib/tap.sh
run_in_own_netns "$@"
. "$(dirname "$TAP_SELF")/lib.sh"
# shellcheck source=selftests/apps/lib.sh
# the runner builds $CMAN_NEXT_BIN for tests that name it
need_cmd psql jq python3 setpriv

SECONDS_OF_LOAD=17

# --- a private cluster: newest version there is, socket and data in $T, run by an ordinary user

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
as_pg "$PGBIN/postgres" -D "$T/pg" -h 127.0.0.1 -p 6001 -k "$T/socket" \
	-c fsync=off -c full_page_writes=off -c max_connections=60 > pg.log 2>&1 &
track $!
export PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=10
wait_for 20 "$PGBIN/pg_isready" -q -h "$T/socket" -p 6001 || bail "no answer: $(tail -n 3 pg.log)"
direct() { psql -XqAt -v ON_ERROR_STOP=1 -h "$T/socket" -p 6001 "$@"; }
app_start 01
through() { psql -XqAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p 8001 "$@"; }
is "$(through -c 'SELECT 6 * 7')" 42 "a query goes through"
"$PGBIN/pgbench" -i -q -s 5 -h "$T/socket" -p 6001 > init.log 2>&1 || bail "$(tail -n 3 init.log)"

# --- what runs all the time

# psql with a transaction and a temporary table, fed line by line
coproc HELD { psql -XqAt -h 127.0.0.1 -p 8001 2>&1; }
track "$HELD_PID"
ask() {
	local answer
	echo "$1" >&"${HELD[1]}"
	IFS= read -r -t 20 answer <&"${HELD[0]}" && printf '%s\n' "$answer"
}
ask_held() { answer=$(ask "$1"); }
backend=$(ask 'SELECT pg_backend_pid();')
echo 'BEGIN; CREATE TEMP TABLE seen (n int) ON COMMIT DROP;' >&"${HELD[1]}"

through -c "SELECT 'slept', pg_sleep($SECONDS_OF_LOAD)" > sleep.out 2>&1 &
sleeper=$!
# a bit more than 100 MB of rows that are all different, read slowly: everything on the way is full
ROWS="SELECT i, md5(i::text), repeat(md5((i * 7)::text), 3) FROM generate_series(1, 760000) i"
direct -c "COPY ($ROWS) TO STDOUT" > rows
bytes=$(stat -c %s rows)
through -c "COPY ($ROWS) TO STDOUT" 2> down.err | at_rate 6.6 | sum_of > down.sum &
down=$!
direct -c 'CREATE UNLOGGED TABLE copied (i int, a text, b text)'
at_rate 6.6 < rows | through -c 'COPY copied FROM STDIN' > up.out 2>&1 &
up=$!
# simple protocol, as far as the two processors that everything shares go
"$PGBIN/pgbench" -n -M simple -c 20 -j 1 -R 500 -T $SECONDS_OF_LOAD -h 127.0.0.1 -p 8001 > bench.out 2> bench.err &
bench=$!
mkfifo listen.in
through < listen.in > listen.out 2>&1 &
listener=$!
track $listener $sleeper $bench $down $up
exec {listen}> listen.in
echo "LISTEN news; SELECT 'listening';" >&"$listen"
wait_for 10 grep -q listening listen.out || not_ok "LISTEN"
wait_for 10 test "$(direct -c "SELECT count(*) >= 20 FROM pg_stat_activity WHERE application_name = 'pgbench'")" = t

# --- migrate; the first ones one by one, with the held transaction and a notification after each

step() {
	ask_held "INSERT INTO seen VALUES ($during); SELECT count(*) FROM seen;"
	[ "$answer" = "$during" ] && good=$((good + 1))
	direct -c "NOTIFY news, 'number $during'"
	works $bench && works $down && works $up && works $sleeper && busy=$((busy + 1))
}
good=0 busy=0
migrate_often $MIGRATIONS step
is "$good" $MIGRATIONS "a transaction with a temporary table goes on after each of $MIGRATIONS migrations"
migrate_during $bench $down $up $sleeper
working=$((busy + during))

is "$(ask 'SELECT pg_backend_pid();')" "$backend" "it still is the same backend"
is "$(ask 'SELECT sum(n) FROM seen;')" $((MIGRATIONS * (MIGRATIONS + 1) / 2)) "and the table has all rows"
echo 'COMMIT;' >&"${HELD[1]}"
is "$(ask "SELECT to_regclass('pg_temp.seen') IS NULL;")" t "it commits"

wait $bench; rc=$?
is $rc 0 "pgbench with 20 clients ends well"
like "$(cat bench.out)" 'number of failed transactions: 0 ' "no transaction failed"
is "$(cat bench.err | grep -c 'aborted\|error')" 0 "no client was aborted"
diag "$(grep -E 'transactions actually|latency average' bench.out)"
wait $sleeper
is "$(cat sleep.out)" 'slept|' "a query of $SECONDS_OF_LOAD seconds returns its row"
wait $down
is "$(cat down.sum)" "$(sum_of rows)" "COPY TO of $((bytes / 1000000)) MB is equal"
wait $up
is "$(direct -c 'COPY (SELECT * FROM copied ORDER BY i) TO STDOUT' | sum_of)" "$(sum_of rows)" \
	"COPY FROM of $((bytes / 1000000)) MB is equal"
cmp_num "$bytes" '>' 100000000 "both were more than 100 MB"
cmp_num "$working" '>=' $MIGRATIONS "$MIGRATIONS migrations or more while all of this ran"

echo "SELECT 'end';" >&"$listen"
wait_for 10 grep -qx end listen.out
is "$(grep -c 'Asynchronous notification "news" with payload "number ' listen.out)" $MIGRATIONS \
	"LISTEN: every notification has come"
exec {listen}>&-
app_verdict
