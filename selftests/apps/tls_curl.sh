#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A web server (nginx) with TLS behind an instance with TLS, which is moved from release to release: curl (OpenSSL)
# and wget (GnuTLS) with long downloads, uploads and kept connections, by HTTP/1.1 and by HTTP/2, which curl and
# nginx agree on through cman. One listener has TLS on both legs, one to its clients only.
# timeout: 240
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=selftests/lib/tap.sh
run_in_own_netns "$@"
. "$(dirname "$TAP_SELF")/lib.sh"
# shellcheck source=selftests/apps/lib.sh
. "$(dirname "$TAP_SELF")/lib_tls.sh"
# shellcheck source=selftests/apps/lib_tls.sh
# the runner builds $CMAN_NEXT_BIN for tests that name it
need_cmd nginx curl wget jq

DOWN=120 UP=60	# megabytes of each download and upload
cd "$T" || bail "no $T"
mkdir -p www/up tmp
cat > nginx.conf <<CONF
daemon off;
master_process off;
pid $T/nginx.pid;
error_log $T/nginx.err info;
events { worker_connections 512; }
http {
	log_format it '\$remote_port \$server_port \$server_protocol \$ssl_protocol \$status';
	access_log $T/access.log it;
	client_body_temp_path $T/tmp/body;
	proxy_temp_path $T/tmp/proxy;
	fastcgi_temp_path $T/tmp/fastcgi;
	uwsgi_temp_path $T/tmp/uwsgi;
	scgi_temp_path $T/tmp/scgi;
	client_max_body_size 1g;
	keepalive_requests 100000;
	ssl_protocols TLSv1.2 TLSv1.3;
	ssl_certificate $CERTS/server.pem;
	ssl_certificate_key $CERTS/server.key;
	server {
		listen 127.0.0.1:6001 ssl http2;
		listen 127.0.0.1:6002;
		root $T/www;
		location /up/ { dav_methods PUT; }
	}
}
CONF
head -c ${DOWN}M /dev/urandom > www/large
head -c ${UP}M www/large > sent
echo small > www/small
nginx -p "$T" -e "$T/nginx.err" -c "$T/nginx.conf" > nginx.log 2>&1 &
track $!
wait_for 10 listens 6001 || bail "nginx: $(cat nginx.log nginx.err)"
tls_start "$(tls_pair 01 "$TLS_CLIENTS" "$TLS_SERVERS")" "$(tls_pair 02 "$TLS_CLIENTS" '')"
BOTH=https://localhost:8001 FRONT=https://localhost:8002
curls() { curl -fsS --cacert "$CA" "$@"; }

# what is agreed on: by the client and nginx through both legs, by nobody where the server leg has no TLS
for v in --http2 --http1.1 --no-alpn; do
	for t in --tlsv1.3 --tls-max\ 1.2; do
		want=1.1
		[ $v = --http2 ] && want=2
		# shellcheck disable=SC2086	# two words
		is "$(curls $v $t -w '%{http_version}' $BOTH/small)" $'small\n'$want "curl $v $t: HTTP/$want by both"
	done
done
is "$(curls --http2 -w '%{http_version}' $FRONT/small)" $'small\n'1.1 "curl --http2 and no TLS behind: HTTP/1.1"
exits 60 "a curl that does not know the CA refuses" curl -fsS $BOTH/small

# --- what runs all the time

# download NAME COMMAND…: the sum of what comes
download() {
	local name=$1
	shift
	(
		set -o pipefail
		"$@" 2> "$name.err" | slowly 1.2 | sum_of > "$name.sum"
	) &
	works+=($!) downs+=("$name")
}
# upload NAME URL OPTION…: to a file of that name
upload() {
	local name=$1 url=$2
	shift 2
	slowly 0.6 < sent | curl -fsS --cacert "$CA" "$@" -T - "$url/up/$name" > "$name.out" 2> "$name.err" &
	works+=($!) ups+=("$name")
}
works=() downs=() ups=()
download both.http2 curl -fsS --cacert "$CA" --http2 $BOTH/large
download both.1.3 curl -fsS --cacert "$CA" --http1.1 $BOTH/large
download both.1.2 curl -fsS --cacert "$CA" --http1.1 --tls-max 1.2 $BOTH/large
download front curl -fsS --cacert "$CA" $FRONT/large
download wget wget -nv --ca-certificate="$CA" --tries=1 -O - $BOTH/large
upload both.http2.up $BOTH --http2
upload both.http1.up $BOTH --http1.1
upload front.up $FRONT
# one process each, which prints for each request how many connections it has had to make (on stderr, which is
# not buffered)
many=()
for v in http2 http1.1; do
	curls --$v --rate 10/s -o /dev/null -w '%{stderr}%{http_code} %{http_version} %{num_connects} %{local_port}\n' \
		"$BOTH/small?[1-600]" 2> many.$v &
	many+=($!)
done
track "${works[@]}" "${many[@]}"
wait_for 10 test -s many.http1.1 || not_ok "curl begins" "$(cat many.http1.1)"
N=$((${#works[@]} + ${#many[@]}))
has_sessions() { [ "$(tls_sessions | grep -c 'TLS.* / ')" = $N ]; }
wait_for 10 has_sessions
before=$(tls_sessions)
diag "$before"
is "$(grep -c 'TLS\S* \S* / TLS' <<< "$before") $(grep -c 'TLS\S* \S* / -$' <<< "$before")" \
	"$((N - 2)) 2" "sessions have TLS on both legs, or on one"

# --- migrate

step() {
	local p
	for p in "${works[@]}" "${many[@]}"; do
		works "$p" || return
	done
	[ "$(tls_sessions)" = "$before" ] && busy=$((busy + 1))
}
busy=0
migrate_often $MIGRATIONS step
is $busy $MIGRATIONS "all connections are those of the beginning after each of $MIGRATIONS migrations"
touch hurry
for i in 0 1; do
	works ${many[i]}
	is $? 0 "kept connection $i is in use all the time"
	stop ${many[i]}
done
for p in "${works[@]}"; do
	wait "$p"
	is $? 0 "process $p ends well"
done
sum=$(sum_of www/large)
for v in "${downs[@]}"; do
	wait_for 10 test -s $v.sum
	is "$(cut -d' ' -f1 $v.sum)" "$sum" "$v: $DOWN MB down are equal" || diag "$(cat $v.err)"
done
for v in "${ups[@]}"; do
	is "$(sum_of www/up/$v)" "$(sum_of sent)" "$v: $UP MB up are equal" || diag "$(cat $v.err)"
done
for v in http2 http1.1; do
	answers=$(wc -l < many.$v)
	cmp_num "$answers" '>=' 20 "$v: many requests ($answers) were made on the kept connection"
	is "$(grep -vc "^200 ${v#http} " many.$v)" 0 "$v: all of them were answered"
	is "$(awk '{ n += $3 } END { print n }' many.$v)" 1 "$v: on one connection"
	is "$(cut -d' ' -f4 many.$v | sort -u | wc -l)" 1 "$v: of one port"
done
like "$(cat wget.err)" 'written to stdout|-> "-" \[1\]' "wget has needed one try"
is "$(grep -Ev '\[notice\]|closed (keepalive )?connection' nginx.err)" '' "nginx has met no error"
tls_verdict
