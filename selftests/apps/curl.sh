#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A web server (nginx) behind an instance that is moved from release to release: a download of 500 MB, an
# upload of 200 MB, and one keep-alive connection that carries a request every tenth of a second.
# timeout: 120
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=selftests/lib/tap.sh
run_in_own_netns "$@"
. "$(dirname "$TAP_SELF")/lib.sh"
# shellcheck source=selftests/apps/lib.sh
# the runner builds $CMAN_NEXT_BIN for tests that name it
need_cmd nginx curl jq

DOWN=500 UP=200	# megabytes
cd "$T" || bail "no $T"
mkdir -p www/up tmp
cat > nginx.conf <<END
daemon off;
master_process off;
pid $T/nginx.pid;
error_log $T/nginx.err warn;
events { worker_connections 512; }
http {
	access_log $T/access.log;
	client_body_temp_path $T/tmp/body;
	proxy_temp_path $T/tmp/proxy;
	fastcgi_temp_path $T/tmp/fastcgi;
	uwsgi_temp_path $T/tmp/uwsgi;
	scgi_temp_path $T/tmp/scgi;
	client_max_body_size 1g;
	keepalive_requests 100000;
	sendfile on;
	server {
		listen 127.0.0.1:6001;
		root $T/www;
		location /up/ { dav_methods PUT; }
	}
}
END
head -c ${DOWN}M /dev/urandom > www/large
head -c ${UP}M www/large > sent
echo small > www/small
nginx -p "$T" -e "$T/nginx.err" -c "$T/nginx.conf" > nginx.log 2>&1 &
track $!
wait_for 10 listens 6001 || bail "nginx: $(cat nginx.log nginx.err)"
app_start 01
URL=http://127.0.0.1:8001
is "$(curl -fsS $URL/small)" small "a request goes through"

# --- what runs all the time

# no file: curl waits for this test as any client that works on what it gets
curl -fsS --limit-rate 50M $URL/large 2> down.err > >(sha256sum > down.sum) &
down=$!
curl -fsS --limit-rate 20M -T sent $URL/up/received > up.out 2> up.err &
up=$!
# one process, which prints for each request how many connections it has had to make (on stderr, which is not
# buffered)
curl -fsS --rate 10/s -o /dev/null -w '%{stderr}%{http_code} %{num_connects} %{local_port}\n' \
	"$URL/small?[1-600]" 2> many.out &
many=$!
track $down $up $many
wait_for 10 test -s many.out || not_ok "curl begins" "$(cat many.out)"

# --- migrate

migrate_during $down $up
cmp_num "$during" '>=' $MIGRATIONS "$MIGRATIONS migrations or more while curl works both ways"
works $many
is $? 0 "the keep-alive connection is in use all the time"
stop $many

wait $down; is $? 0 "the download ends well"
diag "$(cat down.err up.err)"
wait $up; is $? 0 "the upload ends well"
wait_for 10 test -s down.sum
is "$(cut -d' ' -f1 down.sum)" "$(sum_of www/large)" "$DOWN MB down are equal"
is "$(sum_of www/up/received)" "$(sum_of sent)" "$UP MB up are equal"
answers=$(wc -l < many.out)
cmp_num "$answers" '>=' 20 "many requests were made on the keep-alive connection"
is "$(grep -vc '^200 ' many.out)" 0 "all of them were answered"
is "$(awk '{ n += $2 } END { print n }' many.out)" 1 "on one connection"
is "$(cut -d' ' -f3 many.out | sort -u | wc -l)" 1 "of one port"
is "$(grep -c . nginx.err)" 0 "nginx has met no error" || diag "$(cat nginx.err)"
app_verdict
