#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Clients of four implementations of TLS behind an instance with TLS on both legs, which is moved from release to
# release: OpenSSL (s_client, every cipher of cman), GnuTLS (gnutls-cli), Java, Go (etcdctl). Each keeps its
# connections, is answered after each migration, and those that can ask for new keys all the time. The servers are
# of OpenSSL (socat) and Go (etcd).
# timeout: 240
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=selftests/lib/tap.sh
run_in_own_netns "$@"
. "$(dirname "$TAP_SELF")/lib.sh"
# shellcheck source=selftests/apps/lib.sh
. "$(dirname "$TAP_SELF")/lib_tls.sh"
# shellcheck source=selftests/apps/lib_tls.sh
# the runner builds $CMAN_NEXT_BIN for tests that name it
need_cmd openssl gnutls-cli java etcd etcdctl socat jq

cd "$T" || bail "no $T"

# --- servers: what comes is echoed by 6001 (ECDSA) and 6002 (RSA) of OpenSSL, 6003 is etcd's

for n in 1 2; do
	name=$CERTS/server
	[ $n = 1 ] || name+="-rsa"
	socat "OPENSSL-LISTEN:600$n,bind=127.0.0.1,fork,backlog=64,verify=0,cert=$name.pem,key=$name.key" EXEC:cat \
		> socat$n.log 2>&1 &
	track $!
done
etcd --data-dir "$T/etcd" --listen-peer-urls http://127.0.0.1:6303 --cert-file "$CERTS/server.pem" \
	--key-file "$CERTS/server.key" --listen-client-urls https://127.0.0.1:6003,http://127.0.0.1:6203 \
	--advertise-client-urls https://127.0.0.1:6003 > etcd.log 2>&1 &
track $!
for p in 6001 6002 6003; do
	wait_for 20 listens $p || bail "nobody listens at port $p: $(tail -n 3 ./*.log)"
done

# --- an instance: a listener for each cipher, which both legs have; 3x is for GnuTLS

SUITES_13=(TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256)
SUITES_12=(ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305)
SUITES_RSA=(ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES256-GCM-SHA384 ECDHE-RSA-CHACHA20-POLY1305
	DHE-RSA-AES128-GCM-SHA256 DHE-RSA-AES256-GCM-SHA384 DHE-RSA-CHACHA20-POLY1305)
declare -A SUITE
pairs=() at=()
# suites_at TENS SERVER CLIENTS SUITE…: a pair for each suite
suites_at() {
	local tens=$1 server=$2 clients=$3 s i=0
	shift 3
	for s; do
		SUITE[$tens$i]=$s
		at+=("$tens$i")
		pairs+=("$(tls_pair $tens$i "$clients  ciphers = { \"$s\" }" "$TLS_SERVERS  ciphers = { \"$s\" }" "$server")")
		i=$((i + 1))
	done
}
suites_at 1 01 "$TLS_CLIENTS" "${SUITES_13[@]}" "${SUITES_12[@]}"
suites_at 2 02 "${TLS_CLIENTS//server./server-rsa.}" "${SUITES_RSA[@]}"
suites_at 3 01 "$TLS_CLIENTS" "${SUITES_13[@]}" "${SUITES_12[@]}"
tls_start "${pairs[@]}" "$(tls_pair 03 "$TLS_CLIENTS" "$TLS_SERVERS")"

version() {
	case ${SUITE[$1]} in TLS_*) echo 1.3 ;; *) echo 1.2 ;; esac
}

# --- clients that are fed lines: NAME.in, what they print in NAME.out

declare -A FEED
lines=() can_update=() works=()
# start NAME COMMAND…
start() {
	local name=$1 fd
	shift
	mkfifo "$name.in"
	(
		# whoever is fed must find the end of it
		for fd in ${FEED[@]+"${FEED[@]}"}; do
			exec {fd}>&-
		done
		exec "$@" < "$name.in" > "$name.out" 2>&1
	) &
	works+=($!)
	track $!
	exec {fd}> "$name.in"
	FEED[$name]=$fd
}
for n in "${at[@]}"; do
	v=$(version "$n")
	if [ "$n" -lt 30 ]; then
		start ssl$n openssl s_client -connect 127.0.0.1:80$n -servername localhost -CAfile "$CA" \
			-verify_return_error -verify_hostname localhost "-tls${v/./_}"
		lines+=("ssl$n")
	else
		start gnutls$n gnutls-cli --inline-commands --x509cafile="$CA" --verify-hostname=localhost \
			--sni-hostname=localhost --priority="NORMAL:-VERS-ALL:+VERS-TLS$v" -p 80$n 127.0.0.1
		lines+=("gnutls$n")
	fi
	[ "$v" = 1.2 ] || can_update+=("${lines[-1]}")
done
java_at=()
for n in 10 11 12 13 21; do
	java_at+=("80$n:TLSv$(version $n)")
done
start java java -XX:TieredStopAtLevel=1 -Xmx64m "$(dirname "$TAP_SELF")/TlsEcho.java" "$CA" "${java_at[@]}"
export ETCDCTL_API=3
go() { etcdctl --cacert="$CA" --endpoints=https://127.0.0.1:8003 "$@"; }
direct() { etcdctl --endpoints=http://127.0.0.1:6203 "$@"; }
start watch etcdctl --cacert="$CA" --endpoints=https://127.0.0.1:8003 watch -i
lease=$(go lease grant 3 | cut -d' ' -f2)
isnt "$lease" '' "etcdctl: a request goes through"
direct put --lease="$lease" alive yes > put.out
start lease etcdctl --cacert="$CA" --endpoints=https://127.0.0.1:8003 lease keep-alive "$lease"
echo 'watch news' >&"${FEED[watch]}"

# say NAME LINE; hear COUNT REGEX NAME…: each has printed so many such lines
say() { echo "$2" >&"${FEED[$1]}"; }
hear() {
	local count=$1 regex=$2
	shift 2
	[ "$(grep -cE -- "$regex" "${@/%/.out}" /dev/null | awk -F: -v n="$count" '$2 >= n' | wc -l)" = $# ]
}
# all_hear LINE: every one of them is told the line, and hears it
all_hear() {
	local n
	for n in "${lines[@]}"; do
		say "$n" "$1"
	done
	wait_for 10 hear 1 "^$1\$" "${lines[@]}" || { diag "not all hear $1"; tail -n 3 "${lines[@]/%/.out}"; return 1; }
}
wait_for 20 hear 1 'Verify return code: 0|Simple Client Mode' "${lines[@]}" ||
	not_ok "all connect" "$(tail -n 3 "${lines[@]/%/.out}")"
ok "all of OpenSSL and GnuTLS are answered" all_hear 'line 0'
N=$((${#lines[@]} + ${#java_at[@]} + 2))
has_sessions() { [ "$(tls_sessions | grep -c 'TLS.* / TLS')" = $N ]; }
wait_for 30 has_sessions
before=$(tls_sessions)
is "$(wc -l <<< "$before")" $N "$N connections: ${#lines[@]} of OpenSSL and GnuTLS, ${#java_at[@]} of Java, 2 of Go"
for n in "${at[@]}"; do
	is "$(tls_sessions $n | cut -d' ' -f2- | sort -u)" \
		"TLSv$(version $n) ${SUITE[$n]} / TLSv$(version $n) ${SUITE[$n]}" "80$n: TLS $(version $n) ${SUITE[$n]} on both legs"
done

# --- migrate

# new keys: s_client asks for the other side's too every other time
update_keys() {
	local n k=k
	[ $((during % 2)) = 0 ] || k=K
	for n in "${can_update[@]}"; do
		case $n in
		ssl*) say "$n" $k ;;
		*) say "$n" '^rekey^' ;;
		esac
	done
	wait_for 10 hear "$during" '^KEYUPDATE|Rekey was completed' "${can_update[@]}"
}
step() {
	local p
	all_hear "line $during" && update_keys || return
	direct put news "number $during" > put.out
	say watch progress
	for p in "${works[@]}"; do
		works "$p" || return
	done
	[ "$(tls_sessions)" = "$before" ] && good=$((good + 1))
}
good=0
migrate_often $MIGRATIONS step
is $good $MIGRATIONS "all are answered, with new keys, by the connections of the beginning, after each of $MIGRATIONS migrations"
ok "all are answered with the newest keys" all_hear 'line end'
wait_for 10 hear 1 "number $MIGRATIONS" watch
is "$(grep -o 'number [0-9]*' watch.out)" "$(seq -f 'number %g' $MIGRATIONS)" "etcdctl watch: every change has come, in order"
cmp_num "$(grep -c 'keepalived with TTL(3)' lease.out)" '>=' 3 "etcdctl lease keep-alive: it is kept"
is "$(direct get --print-value-only alive)" yes "what hangs on it is there"

# --- each ends by itself, and well

fd=${FEED[java]}
exec {fd}>&-
wait_for 20 hear ${#java_at[@]} ' equal$' java
is "$(grep -c ' equal$' java.out)" ${#java_at[@]} "Java: all bytes were equal" || diag "$(cat java.out)"
diag "$(cat java.out)"
cmp_num "$(awk 'NR == 1 || $4 < min { min = $4 } END { print min }' java.out)" '>' 2000000 \
	"Java: so many that it has changed its keys"
for n in "${lines[@]}"; do
	fd=${FEED[$n]}
	exec {fd}>&-
done
# s_client and gnutls-cli send close_notify; whoever ends by an alert says so
none_works() {
	local n
	for ((n = 0; n < ${#lines[@]}; n++)); do
		is_gone "${works[n]}" || return
	done
}
ok "all of OpenSSL and GnuTLS end" wait_for 10 none_works
is "$(grep -liE 'alert|fatal|decrypt|bad record' ssl*.out gnutls??.out)" '' "nobody has met an alert"
tls_verdict
