#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Real programs through an instance that moves from host to host and back, by TCP_REPAIR: pgbench and a
# transaction held open, redis-benchmark and a subscriber, a download by curl. Clients, servers and both
# hosts are network namespaces of their own.
# timeout: 180

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/../net/lib_instance.sh"
. "$(dirname "$0")/../net/lib_hosts.sh"
need_cmd psql redis-server redis-cli redis-benchmark curl python3 setpriv

two_hosts
cd "$T" || bail "no $T"

# --- on B: PostgreSQL (9001), Redis (9002), a web server (9003)

for PGBIN in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr) ''; do
	[ ! -x "$PGBIN/initdb" ] || break
done
[ -n "$PGBIN" ] || bail "PostgreSQL's server is not installed (scripts/install-deps.sh test)"
USER_OF_PG=postgres
id -u $USER_OF_PG > /dev/null 2>&1 || USER_OF_PG=nobody
as_pg() { setpriv --reuid=$USER_OF_PG --regid="$(id -g $USER_OF_PG)" --clear-groups -- "$@"; }
chmod 755 "$T"
install -d -o $USER_OF_PG "$T/pg" "$T/socket"
as_pg "$PGBIN/initdb" -D "$T/pg" -A trust -U postgres --no-sync --locale=C -E UTF8 > initdb.log 2>&1 ||
	bail "initdb: $(tail -n 3 initdb.log)"
echo "host all all 10.1.0.0/24 trust" >> "$T/pg/pg_hba.conf"
host B setpriv --reuid=$USER_OF_PG --regid="$(id -g $USER_OF_PG)" --clear-groups -- "$PGBIN/postgres" -D "$T/pg" \
	-h 10.1.0.3 -p 9001 -k "$T/socket" -c fsync=off -c full_page_writes=off > pg.log 2>&1 &
track $!
export PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=10
wait_for 20 "$PGBIN/pg_isready" -q -h "$T/socket" -p 9001 || bail "no answer: $(tail -n 3 pg.log)"
"$PGBIN/pgbench" -i -q -s 5 -h "$T/socket" -p 9001 > init.log 2>&1 || bail "$(tail -n 3 init.log)"
host B redis-server --port 9002 --bind 10.1.0.3 --protected-mode no --save '' --appendonly no --dir "$T" > redis.log 2>&1 &
track $!
mkdir www && head -c 300000000 /dev/urandom > www/file
host B python3 -m http.server 9003 --bind 10.1.0.3 --directory "$T/www" > www.log 2>&1 &
track $!
answers() { host C redis-cli -h 10.1.0.3 -p 9002 PING | grep -q PONG && host C curl -sf -o /dev/null http://10.1.0.3:9003/; }
wait_for 20 answers || bail "Redis or the web server does not answer: $(tail -n 2 redis.log www.log)"
for n in h1 h2; do
	out=$(at $n startup 2>&1) || bail "startup on $n: $out"
done

# --- on C: what runs all the time

host C "$PGBIN/pgbench" -n -c 10 -j 1 -T 40 -h 10.1.0.100 -p 7001 > pgbench.out 2>&1 & pgbench=$!
coproc HELD { host C psql -XqAt -h 10.1.0.100 -p 7001 2>&1; }
ask() {
	local answer
	echo "$1" >&"${HELD[1]}"
	IFS= read -r -t 20 answer <&"${HELD[0]}" && printf '%s\n' "$answer"
}
host C redis-cli -h 10.1.0.100 -p 7002 SUBSCRIBE news > subscribe.out 2>&1 & subscriber=$!
host C curl -s --limit-rate 8M -o "$T/got" http://10.1.0.100:7003/file 2> curl.err & curl=$!
track $pgbench $subscriber $curl "$HELD_PID"
echo "BEGIN; CREATE TEMPORARY TABLE t (n int);" >&"${HELD[1]}"
is "$(ask 'SELECT pg_backend_pid() > 0;')" t "a transaction is open"
wait_for 10 grep -q '^1$' subscribe.out || not_ok "SUBSCRIBE" "$(cat subscribe.out)"

here=h1 there=h2 good=0 wrong=''
for ((i = 1; i <= 20; i++)); do
	at $here migrate --to $there --json > move.json 2> move.err || wrong+=" move $i: $(head -n 2 move.err)"
	h=$here here=$there there=$h
	[ "$(ask "INSERT INTO t VALUES ($i) RETURNING n;")" = "$i" ] && good=$((good + 1))
	host B redis-cli -h 10.1.0.3 -p 9002 PUBLISH news "number $i" > /dev/null
	host C timeout 10 redis-benchmark -h 10.1.0.100 -p 7002 -c 20 -n 2000 -q -t set,get > rb.out 2>&1 &&
		! grep -qi error rb.out || wrong+=" redis-benchmark $i: $(tail -n 1 rb.out)"
done
is "$wrong" "" "20 moves, and redis-benchmark after each"
is "$good" 20 "the open transaction took a row after each"
is "$(ask 'SELECT sum(n) FROM t;')" 210 "and has all of them"
all_news() { [ "$(grep -c '^number' subscribe.out)" = 20 ]; }
ok "the subscriber heard all" wait_for 5 all_news
is "$(grep '^number' subscribe.out | tr '\n' ' ')" "$(for ((i = 1; i <= 20; i++)); do printf 'number %s ' $i; done)" "in order"
wait $curl
is $? 0 "curl ends well"
is "$(sha256sum < got)" "$(sha256sum < www/file)" "and has the file, every byte right"
wait $pgbench
is $? 0 "pgbench ends well"
like "$(cat pgbench.out)" 'number of failed transactions: 0 ' "no failed transaction"
diag "$(grep -E 'actually processed|latency average' pgbench.out)"
echo 'COMMIT;' >&"${HELD[1]}"
at h1 shutdown --abort -q -y
at h2 shutdown --abort -q -y
