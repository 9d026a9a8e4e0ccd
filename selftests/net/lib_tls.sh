# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034
#
# What the tests of TLS in the data path share: certificates, one instance whose listeners and services
# are every combination of legs, versions and suites, the servers behind them, and what may be asked about
# them. Sourced after lib_instance.sh. The engine is the one in user space, whatever the kernel has.
#
#	7001		TLS to no TLS: the client chooses version and suite
#	711K, 712K	no TLS, or TLS, to TLS with suite K of SUITES
#	7130, 714V, 715V  as 7001, 711K, 712K, to a server that answers slowly after a half-close
#	9001, 9002, 9003  echo without TLS, with TLS 1.2, with TLS 1.3 and key updates
#	9010, 9012, 9013  the same, slow after a half-close

. "$CMAN_ROOT/selftests/lib/certificates.sh"
need_cmd openssl bpftool

C=$T/cert
SUITES=(ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305
	TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256)
AS_SERVER=(--tls --tls-cert "$C/server.pem" --tls-key "$C/server.key" --json)
AS_CLIENT=(--tls --tls-ca "$C/ca.pem" --tls-name db.example)
# of a listener, of a service
FRONT="certificate = \"$C/server.pem\" key = \"$C/server.key\" engine = \"user\""
BACK="ca = \"$C/ca.pem\" server_name = \"db.example\" engine = \"user\""
make_certificates "$C" || bail "no certificates"

version_of() { case $1 in TLS_*) echo TLSv1.3 ;; *) echo TLSv1.2 ;; esac; }
# server_of K, hold_of K: the last digit of the servers' ports
server_of() { case ${SUITES[$1]} in TLS_*) echo 3 ;; *) echo 2 ;; esac; }

# listener NAME PORT SERVICE [TLS], service NAME PORT [TLS]: one block; TLS is what is in its tls block
listener() { echo "listener $1 { address = \"127.0.0.1:$2\" service = \"$3\" ${4:+tls { $4 \}} }"; }
service() { echo "service $1 { targets = { \"127.0.0.1:$2\" } ${3:+tls { $3 \}} }"; }

# combinations: listeners and services of the table above
combinations() {
	local k
	service echo 9001
	listener down 7001 echo "$FRONT"
	for k in "${!SUITES[@]}"; do
		service "to$k" "900$(server_of "$k")" "$BACK ciphers = { \"${SUITES[k]}\" }"
		listener "up$k" "711$k" "to$k"
		listener "both$k" "712$k" "to$k" "$FRONT"
	done
	service hold 9010
	listener hold 7130 hold "$FRONT"
	for k in 2 3; do
		service "hold$k" "901$k" "$BACK"
		listener "hold_up$k" "714$k" "hold$k"
		listener "hold_both$k" "715$k" "hold$k" "$FRONT"
	done
}

# servers: those of the table above; "$@": options of the echo server with TLS 1.3
servers() {
	serve ECHO --json --listen 127.0.0.1:9001
	serve ECHO2 "${AS_SERVER[@]}" --tls-version 1.2 --listen 127.0.0.1:9002
	serve ECHO3 "${AS_SERVER[@]}" --tls-version 1.3 "$@" --listen 127.0.0.1:9003
	serve HOLD --json --listen 127.0.0.1:9010 --mode hold --size 500 --interval-ms 20
	serve HOLD2 "${AS_SERVER[@]}" --tls-version 1.2 --listen 127.0.0.1:9012 --mode hold --size 500 \
		--interval-ms 20
	serve HOLD3 "${AS_SERVER[@]}" --tls-version 1.3 --listen 127.0.0.1:9013 --mode hold --size 500 \
		--interval-ms 20
}

# streams STREAM-OPTION…: verified streams through every combination: D0… TLS to none, U0… none to TLS,
# B0… TLS to TLS
streams() {
	local k tls v
	for k in "${!SUITES[@]}"; do
		tls=("${AS_CLIENT[@]}" --tls-cipher "${SUITES[k]}")
		v=$(server_of "$k")
		[ "$v" = 2 ] || tls+=(--tls-update 15)
		bench "D$k" stream -c 127.0.0.1:7001 --hold-connect 127.0.0.1:7130 "${tls[@]}" "$@"
		bench "U$k" stream -c "127.0.0.1:711$k" --hold-connect "127.0.0.1:714$v" "$@"
		bench "B$k" stream -c "127.0.0.1:712$k" --hold-connect "127.0.0.1:715$v" "${tls[@]}" "$@"
	done
}
STREAMS='D0 D1 D2 D3 D4 D5 U0 U1 U2 U3 U4 U5 B0 B1 B2 B3 B4 B5'

# streams_end: ends them; what was lost, wrong, reset or an alert, in $wrong
streams_end() {
	local s v got
	wrong=
	for s in $STREAMS; do
		v=${s}_PID
		kill -TERM "${!v}" 2> /dev/null
	done
	for s in $STREAMS; do
		v=${s}_PID
		wait "${!v}" # one TERM only: a second one does not wait for what is under way
		got=$(report "$s" '[.lost, .wrong_bytes, .bytes_missing, .resets, .early_eofs, .timeouts,
			.half_close.server_wrong_bytes, .half_close.sessions - .half_close.completed -
			.half_close.open_at_end, .tls.errors // 0, .tls.alerts_received // 0,
			.tls.truncated // 0] | map(tostring) | join(" ")')
		[ "$got" = "0 0 0 0 0 0 0 0 0 0 0" ] || wrong+=" $s: $got $(report "$s" '.incidents[:2] | tojson')"
	done
}

# tls NAME FIELD…: of a report
tls() {
	local name=$1
	shift
	report "$name" "[.tls | $(printf '.%s,' "$@" | sed 's/,$//')] | map(tostring) | join(\" \")"
}
# run NAME VERB OPTION…: a load to its end, report in $T/NAME.json
run() {
	local name=$1
	shift
	"$BENCH" "$@" --json > "$T/$name.json" 2> "$T/$name.err"
}
# serve_end NAME: ends a server when its connections have gone; report in $T/NAME.json
serve_end() {
	local v=${1}_PID rc=0
	alone() { ! ss -Htnp | grep -q "pid=${!v},"; }
	wait_for 10 alone || diag "$1 still has clients"
	kill -TERM "${!v}"
	wait "${!v}" || rc=$?
	sed -n '/^{/,/^}/p' "$T/$1.out" > "$T/$1.json"
	return $rc
}

# cells FIELD: a counter of the ledger's cells, of all of them
cells() {
	bpftool -j map dump pinned /sys/fs/bpf/cman/cman1/cells |
		jq "[.[].formatted.value.$1 | if type == \"array\" then add else . end] | add"
}
cells_are() { [ "$(cells "$1")" = "$2" ]; }

# log_here: what follows is of what is logged from now on. logged REGEX: such a line was
log_here() { LINE=$(wc -l < "$RUN/cman1.log"); }
logged() { tail -n +$((LINE + 1)) "$RUN/cman1.log" | grep -qE "$1"; }

# move [HOME]: one migration by fd passing; what was wrong in $wrong
move() {
	local old rc=0
	old=$(field .pid)
	wrong=
	ctl migrate --home "${1:-$CMAN_BUILD}" --via fd --json > "$T/move.json" 2> "$T/move.err" || rc=$?
	[ $rc = 0 ] || wrong+=" exit $rc: $(head -n 3 "$T/move.err")"
	[ "$(report move '[.failed, .new_connections_refused, (.left | length), .old.exited] | join(" ")')" = \
		"0 0 0 true" ] || wrong+=" report: $(head -c 700 "$T/move.json")"
	is_gone "$old" || wrong+=" the old process $old is still there"
}
