#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Records that no library sends (see tls_records.c), through a listener with TLS and on to targets with and
# without it: records of data without any data, single bytes, a KeyUpdate while nothing else is under way, and
# clients that read nothing until the end is due. All data comes back, and the end is clean. With the record
# engine, and where the kernel has TLS, with the kernel's. TLS_RECORDS_ENGINES ("user ktls"): only these.
# timeout: 120

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/lib_tls.sh"
RECORDS=$CMAN_TESTBIN/net/tls_records
[ -x "$RECORDS" ] || bail "$RECORDS is not built"

# configuration ENGINE
configuration() {
	tls_engine "$1"
	conf <<-END
	instance cman1 {
	    run_dir = "@RUN@"
	    gateways = 1
	    max_sessions = 100
	    $(service plain 9001)
	    $(service tls2 9002 "$BACK")
	    $(service tls3 9003 "$BACK")
	    $(listener down 7001 plain "$FRONT")
	    $(listener both2 7002 tls2 "$FRONT")
	    $(listener both3 7003 tls3 "$FRONT")
	}
	END
}
# records WHAT PORT VERSION WORD…
records() {
	local what=$1 rc=0
	shift
	timeout 60 "$RECORDS" 127.0.0.1 "$@" > "$T/out" 2>&1 || rc=$?
	is "$rc $(cat "$T/out")" "0 " "$what, port $1, TLS $2"
}

# deaf ENGINE VERSION PORT: of all these lengths some fill the socket to the client just so that its data fits, and
# close_notify has to wait
deaf() {
	local n words=() rc=0
	for ((n = 1; n <= 15; n++)); do
		words+=(4000)
		timeout 60 "$RECORDS" 127.0.0.1 "$3" "$2" deaf "${words[@]}" > "$T/out" 2>&1 || rc=$?
		[ "$rc" = 0 ] || break
	done
	is "$rc $((rc ? n : 0)) $(cat "$T/out")" "0 0 " "$1: a client that reads only when the end is due, port $3, TLS $2"
}

# all ENGINE: every case, TLS to none and to TLS
all() {
	local v port
	for v in 1.2 1.3; do
		for port in 7001 "700${v#1.}"; do
			records "$1: data" "$port" "$v" 1 16384 100 pause 5000
			records "$1: records without data between others" "$port" "$v" 100 0 100 0 0 5000 pause 0 3 0
			records "$1: records without data first" "$port" "$v" 0 0 pause 1 pause 0
			records "$1: many single bytes" "$port" "$v" 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1
			deaf "$1" "$v" "$port"
		done
	done
	if [ "$1" = ktls ] && ! can_rekey; then
		return
	fi
	for port in 7001 7003; do
		records "$1: KeyUpdates, and nothing else" "$port" 1.3 key_update key_update 5 pause key_update
		records "$1: KeyUpdates between data" "$port" 1.3 10 key_update 16384 key_update 0 key_update 1
	done
}

sysctl -qw net.ipv4.tcp_wmem="4096 16384 16384" # little room between gateway and client
# shellcheck disable=SC2119
servers
configuration user
up
ENGINES=" ${TLS_RECORDS_ENGINES:-user ktls} "
[[ $ENGINES != *" user "* ]] || all user
if [[ $ENGINES = *" ktls "* ]]; then
	configuration ktls
	ok "from here on the kernel's engine" ctl reload -q
	if have_ktls; then all ktls; else skip "kernel has no TLS"; fi
fi
is "$(cells_are tls_broken 0 && show gateways '[.[] | .lost, .recoveries] | add')" 0 "nothing is counted as broken"
down
