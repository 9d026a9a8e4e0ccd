#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sessions with TLS moved by TCP_REPAIR: clients and targets are on hosts of their own, beyond a bridge.
# Keys, numbers of records, and what was read and not opened or sealed and not sent go along in the
# images; no peer may get a RST or an alert, no image may stay behind. With the record engine, and where
# the kernel has TLS, with the kernel's, too, and from each to the other. TLS_REPAIR_PARTS
# (user ktls changes): only these.
# timeout: 300

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/../lib/certificates.sh"

make_certificates "$T/cert" > "$T/cert.log" 2>&1 || bail "no certificates: $(tail -n 3 "$T/cert.log")"
clients_and_targets

# conf_for ENGINE TARGETS-PORT
conf_for() {
	sed "s|@CERT@|$T/cert|g; s|@ENGINE@|engine = \"$1\"|; s|@PORT@|$2|" <<'END' | conf
instance cman1 {
    run_dir = "@RUN@"
    gateways = 2
    max_sessions = 2000
    listener in { address = "10.1.0.1:7001"  service = "plain"
        tls { certificate = "@CERT@/server.pem"  key = "@CERT@/server.key"  @ENGINE@ } }
    listener both { address = "10.1.0.1:7002"  service = "tls"
        tls { certificate = "@CERT@/server.pem"  key = "@CERT@/server.key"  @ENGINE@ } }
    listener out { address = "10.1.0.1:7003"  service = "tls" }
    listener source { address = "10.1.0.1:7004"  service = "source"
        tls { certificate = "@CERT@/server.pem"  key = "@CERT@/server.key"  @ENGINE@ } }
    service plain { targets = { "10.1.0.3:9001" } }
    service tls { targets = { "10.1.0.3:@PORT@" }  tls { ca = "@CERT@/ca.pem"  server_name = "localhost"  @ENGINE@ } }
    service source { targets = { "10.1.0.3:9003" }  tls { ca = "@CERT@/ca.pem"  server_name = "localhost"  @ENGINE@ } }
}
END
}
conf_for user 9002
CERT="--tls-cert $T/cert/server.pem --tls-key $T/cert/server.key"
ON=B
serve PLAIN --listen 10.1.0.3:9001
# shellcheck disable=SC2086
serve TLS --listen 10.1.0.3:9002 --tls $CERT --tls-update 60
# shellcheck disable=SC2086
serve STEADY --listen 10.1.0.3:9004 --tls $CERT
# shellcheck disable=SC2086
serve SOURCE --listen 10.1.0.3:9003 --mode source --tls $CERT
ON=
up
ON=C
# move NAME: one migration; what was wrong in $wrong
move() {
	local old rc=0
	old=$(field .pid)
	wrong=
	ctl migrate --via repair --json > "$T/$1.json" 2> "$T/$1.err" || rc=$?
	[ $rc = 0 ] || wrong+=" exit $rc: $(head -n 3 "$T/$1.err")"
	[ "$(report "$1" '[.via, .failed, (.left | length), .old.exited] | join(" ")')" = "repair 0 0 true" ] ||
		wrong+=" report: $(head -c 600 "$T/$1.json")"
	is_gone "$old" || wrong+=" the old process $old is still there"
	[ -z "$(find "$RUN" -path '*images/*')" ] || wrong+=" images are left"
	[ -z "$wrong" ] || diag "$(tail -n 20 "$RUN/cman1.log")"
	diag "$1: moved $(report "$1" .moved) in $(report "$1" .duration_ms) ms, gap p50 $(
		report "$1" .blackout_us.p50) us, p99 $(report "$1" .blackout_us.p99) us, $(
		report "$1" .bytes_in_flight) bytes in between"
}
PACE=$((${CMAN_SLOW:+50 * }${CMAN_SLOW:-10})) # what a slow machine can carry, too
# unharmed NAME WHAT: a client's report
unharmed() {
	is "$(report "$1" '[.lost, .wrong_bytes, (.bytes_missing // 0)] | join(" ")')" "0 0 0" "$2: nothing lost, nothing wrong" ||
		diag "$(report "$1" '.incidents[:4][] | tojson')" "$(grep -E '^<[0-4]>' "$RUN/cman1.log")"
	[ "${3-}" = plain ] || is "$(report "$1" '[.tls.alerts_received, .tls.errors, .tls.truncated] | join(" ")')" "0 0 0" \
		"$2: no alert"
}

# sessions VERSION [OPTION…]: of all kinds, busy; 47 have TLS. Of BIG's messages there is always some between
# the legs: its client reads less than comes
sessions() {
	local slow="--connect-timeout $((5 * ${CMAN_SLOW:-1})) --drain-timeout $((10 * ${CMAN_SLOW:-1}))"
	local ca="$slow --tls --tls-version $1 --tls-ca $T/cert/ca.pem --tls-name localhost"
	shift
	# shellcheck disable=SC2086
	bench IN stream -c 10.1.0.1:7001 -n 15 -s 3000 -i $PACE --slow 3 --slow-rate 20k $ca "$@"
	# shellcheck disable=SC2086
	bench BOTH stream -c 10.1.0.1:7002 -n 15 -s 3000 -i $PACE --slow 3 --slow-rate 20k $ca "$@"
	# shellcheck disable=SC2086
	bench OUT stream -c 10.1.0.1:7003 $slow -n 15 -s 3000 -i $PACE --slow 3 --slow-rate 20k
	# shellcheck disable=SC2086
	bench DOWN bulk -c 10.1.0.1:7004 -n 1 --verify -d 0 --warmup 0 $ca "$@"
	# shellcheck disable=SC2086
	bench BIG stream -c 10.1.0.1:7002 -n 1 -s 4000000 -i 10 --slow 1 --slow-rate 400k $ca "$@"
}
# with_engine ENGINE: how many sessions have it
with_engine() {
	show sessions "[.[] | select(.client_tls.engine == \"$1\" or .server_tls.engine == \"$1\")] | length"
}
# sessions_end WHAT: their reports
sessions_end() {
	local n
	for n in DOWN OUT BOTH IN BIG; do bench_end $n; done
	unharmed IN "$1, in"
	unharmed BOTH "$1, on both legs"
	unharmed OUT "$1, out" plain
	unharmed BIG "$1, long messages, $(report BIG '.bytes_verified / 1e6 | floor') MB"
	unharmed DOWN "$1, bulk, $(report DOWN '.bytes_verified / 1e6 | floor') MB"
	ok "no session is left" wait_sessions 0
}

# all_kinds ENGINE VERSION [OPTION…]: sessions of all kinds through six moves by repair
all_kinds() {
	local engine=$1 i tag=$1${2#1.}
	local what="$engine, TLS $2"
	shift
	sessions "$@"
	is "$(with_engine "$engine")" 47 "$what: 47 sessions"
	like "$(ctl migrate --check --via repair 2>&1)" '47 of 47 sessions can move' "$what: migrate --check says that all can move"
	for i in 1 2 3 4 5; do
		move "${tag}m$i"
		is "$wrong" "" "$what: migration $i by repair"
	done
	ok "$what: on by fd" ctl migrate --via fd -q
	move "${tag}m6"
	is "$wrong" "" "$what: and by repair again"
	sessions_end "$what"
}

# changes VERSION: the same sessions from the kernel's engine to the other and back, with each move
changes() {
	local engine i what="change of engine, TLS $1"
	sessions "$1"
	for i in 1 2 3; do
		for engine in user ktls; do
			conf_for $engine 9004
			move "change${1#1.}$i$engine"
			is "$wrong" "" "$what: $i, to $engine"
			is "$(with_engine $engine)" 47 "$what: $i, 47 sessions have it"
		done
	done
	sessions_end "$what"
}

PARTS=" ${TLS_REPAIR_PARTS:-user ktls changes} "
if [[ $PARTS = *" user "* ]]; then
	all_kinds user 1.3 --tls-update 40
	all_kinds user 1.2
fi
# no KeyUpdate there: kernels before 6.14 cannot replace a key
conf_for ktls 9004
ok "from here on the kernel's engine" ctl reload -q
have_ktls || skip "kernel has no TLS"
if have_ktls && [[ $PARTS = *" ktls "* ]]; then
	if can_rekey; then
		conf_for ktls 9002
		ok "targets that update their keys" ctl reload -q
		all_kinds ktls 1.3 --tls-update 40
	else
		all_kinds ktls 1.3
	fi
	all_kinds ktls 1.2
fi
if have_ktls && [[ $PARTS = *" changes "* ]]; then
	changes 1.3
	changes 1.2
fi
is "$(show gateways '[.[] | .lost, .recoveries] | add')" 0 "no gateway was replaced"
down
ok "nothing is left behind" test ! -e "$RUN/cman1.sock" -a ! -e /sys/fs/bpf/cman/cman1
