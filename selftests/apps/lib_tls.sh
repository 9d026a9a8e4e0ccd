# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What the tests with TLS add to lib.sh: certificates, an instance whose legs have TLS, and what it says
# about its sessions. Sourced after lib.sh. The program under test finds its server at 127.0.0.1:80NN, which
# cman relays to 127.0.0.1:60NN, as in lib.sh; here each test says which of the two legs is TLS.
. "$(dirname "${BASH_SOURCE[0]}")/../lib/certificates.sh"
# shellcheck source=selftests/lib/certificates.sh

CERTS=$T/cert
CA=$CERTS/ca.pem
# shellcheck disable=SC2034	# the tests use them
TLS_CLIENTS="certificate = \"$CERTS/server.pem\"  key = \"$CERTS/server.key\""
# shellcheck disable=SC2034
TLS_SERVERS="ca = \"$CA\"  server_name = \"localhost\""

make_certificates "$CERTS" || bail "no certificates"

# tls_pair NN CLIENTS SERVERS [MM]: the lines of a listener and its service, with what is in their tls blocks;
# nothing: no such block. The server is at 127.0.0.1:60MM when that is not 60NN.
tls_pair() {
	printf 'listener l%s { address = "127.0.0.1:80%s"  service = "s%s" %s }\n' \
		"$1" "$1" "$1" "${2:+tls { $2 \}}"
	printf 'service s%s { targets = { "127.0.0.1:60%s" } %s }\n' "$1" "${4:-$1}" "${3:+tls { $3 \}}"
}

# tls_start LINES…: starts an instance of these lines
tls_start() {
	local b
	for b in "${RELEASES[@]}"; do
		[ -x "$b/cmand" ] && [ -x "$b/cmanctl" ] || bail "$b/cmand is not built"
	done
	export CONF=$T/cman.conf
	{
		printf 'instance apps {\nrun_dir = "%s/run"\ngateways = 2\n' "$T"
		printf '%s\n' "$@" '}'
	} > "$CONF"
	"$CTL" startup -q -f "$CONF" || bail "the instance does not start"
	at_exit "$CTL" shutdown --abort -y -q -f "$CONF"
}

# tls_sessions [NN]: the live sessions (of this listener), one a line: the client's address, which is another one after
# a reconnect, then version and cipher of both legs
tls_sessions() {
	"$CTL" show sessions --json -f "$CONF" | jq -r --arg at "${1:+:80$1}" '
		def leg: if . then "\(.version) \(.cipher)" else "-" end;
		.[] | select(.listener | endswith($at)) |
		"\(.client) \(.client_tls | leg) / \(.server_tls | leg)"' | sort
}

# slowly MB: copies stdin to stdout, so many megabytes a second until $T/hurry is there, so that what is on its way
# lasts for all migrations, however long they take
slowly() {
	python3 -c '
import os, sys, time
rate, hurry = float(sys.argv[1]) * 1e6, sys.argv[2]
start, done = time.monotonic(), 0
while True:
    data = sys.stdin.buffer.read(65536)
    if not data:
        break
    sys.stdout.buffer.write(data)
    done += len(data)
    while time.monotonic() < start + done / rate and not os.path.exists(hurry):
        time.sleep(0.02)
sys.stdout.buffer.flush()' "$1" "$T/hurry"
}

# tls_verdict: what holds at the end of every test
tls_verdict() {
	app_verdict
	is "$("$CTL" show gateways --json -f "$CONF" | jq '[.[].lost] | add')" 0 "no gateway has lost a session"
	# how much may be locked is the machine's limit
	is "$(grep -hE '^<[0-4]>' "$T"/run/*.log | grep -v 'is not locked' | sort | uniq -c)" '' \
		"cman has nothing to complain about"
}
