# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034
#
# What the tests of TLS in the data path share: certificates, one instance whose listeners and services
# are every combination of legs, versions and suites, the servers behind them, and what may be asked about
# them. Sourced after lib_instance.sh. The engine is the one in user space, whatever the kernel has, unless
# tls_engine chooses another one; all is on this host, unless two_hosts was called.
#
#	7001		TLS to no TLS: the client chooses version and suite
#	711K, 712K	no TLS, or TLS, to TLS with suite K of SUITES
#	7130, 714V, 715V  as 7001, 711K, 712K, to a server that answers slowly after a half-close
#	9001, 9002, 9003  echo without TLS, with TLS 1.2, with TLS 1.3 and key updates
#	9010, 9012, 9013  the same, slow after a half-close

. "$CMAN_ROOT/selftests/lib/certificates.sh"
need_cmd openssl bpftool

C=$T/cert
FRONT_AT=127.0.0.1 BACK_AT=127.0.0.1 # listeners, servers
UPDATE=(--tls-update 15) # of streams with TLS 1.3
SUITES=(ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305
	TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256)
AS_SERVER=(--tls --tls-cert "$C/server.pem" --tls-key "$C/server.key" --json)
AS_CLIENT=(--tls --tls-ca "$C/ca.pem" --tls-name db.example)
# tls_engine NAME: tls blocks of a listener and of a service that choose it
tls_engine() {
	FRONT="certificate = \"$C/server.pem\" key = \"$C/server.key\" engine = \"$1\""
	BACK="ca = \"$C/ca.pem\" server_name = \"db.example\" engine = \"$1\""
}
tls_engine user
make_certificates "$C" || bail "no certificates"

# two_hosts: clients are to be on host C, servers on host B, beyond a bridge, where packets can be parked
two_hosts() {
	FRONT_AT=10.1.0.1 BACK_AT=10.1.0.3
	clients_and_targets
}

version_of() { case $1 in TLS_*) echo TLSv1.3 ;; *) echo TLSv1.2 ;; esac; }
# server_of K, hold_of K: the last digit of the servers' ports
server_of() { case ${SUITES[$1]} in TLS_*) echo 3 ;; *) echo 2 ;; esac; }

# listener NAME PORT SERVICE [TLS], service NAME PORT [TLS]: one block; TLS is what is in its tls block
listener() { echo "listener $1 { address = \"$FRONT_AT:$2\" service = \"$3\" ${4:+tls { $4 \}} }"; }
service() { echo "service $1 { targets = { \"$BACK_AT:$2\" } ${3:+tls { $3 \}} }"; }

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
	serve ECHO --json --listen "$BACK_AT:9001"
	serve ECHO2 "${AS_SERVER[@]}" --tls-version 1.2 --listen "$BACK_AT:9002"
	serve ECHO3 "${AS_SERVER[@]}" --tls-version 1.3 "$@" --listen "$BACK_AT:9003"
	serve HOLD --json --listen "$BACK_AT:9010" --mode hold --size 500 --interval-ms 20
	serve HOLD2 "${AS_SERVER[@]}" --tls-version 1.2 --listen "$BACK_AT:9012" --mode hold --size 500 \
		--interval-ms 20
	serve HOLD3 "${AS_SERVER[@]}" --tls-version 1.3 --listen "$BACK_AT:9013" --mode hold --size 500 \
		--interval-ms 20
}

# streams STREAM-OPTION…: verified streams through every combination of $STREAMS: D0… TLS to none, U0… none
# to TLS, B0… TLS to TLS
streams() {
	local s k v tls
	for s in $STREAMS; do
		k=${s:1}
		tls=("${AS_CLIENT[@]}" --tls-cipher "${SUITES[k]}")
		v=$(server_of "$k")
		[ "$v" = 2 ] || tls+=(${UPDATE[@]+"${UPDATE[@]}"})
		case $s in
		D*) bench "$s" stream -c "$FRONT_AT:7001" --hold-connect "$FRONT_AT:7130" "${tls[@]}" "$@" ;;
		U*) bench "$s" stream -c "$FRONT_AT:711$k" --hold-connect "$FRONT_AT:714$v" "$@" ;;
		B*) bench "$s" stream -c "$FRONT_AT:712$k" --hold-connect "$FRONT_AT:715$v" "${tls[@]}" "$@" ;;
		esac
	done
}
STREAMS='D0 D1 D2 D3 D4 D5 U0 U1 U2 U3 U4 U5 B0 B1 B2 B3 B4 B5'

# legs_of STREAM [ENGINE]: its sessions as "legs" shows them. LEGS: of jq, for a session of "show sessions"
legs_of() {
	local suite leg=-
	if [ "$1" != P ]; then
		suite=${SUITES[${1:1}]}
		leg="$(version_of "$suite") $suite ${2:-user}"
	fi
	case $1 in
	P) echo "7000 -, -" ;;
	D*) echo "7001 $leg, -" ;;
	U*) echo "711${1:1} -, $leg" ;;
	B*) echo "712${1:1} $leg, $leg" ;;
	esac
}
LEGS='def leg: if . then "\(.version) \(.cipher) \(.engine)" else "-" end;
	def legs: "\(.listener | sub(".*:"; "")) \(.client_tls | leg), \(.server_tls | leg)";'

# streams_stop: ends them; stream_wrong NAME: what was lost, wrong, reset or an alert
streams_stop() {
	local s v
	for s in $STREAMS; do
		v=${s}_PID
		kill -TERM "${!v}" 2> /dev/null
	done
	for s in $STREAMS; do
		v=${s}_PID
		wait "${!v}" # one TERM only: a second one does not wait for what is under way
	done
}
stream_wrong() {
	local got
	got=$(report "$1" '[.lost, .wrong_bytes, .bytes_missing, .resets, .early_eofs, .timeouts,
		.half_close.server_wrong_bytes, .half_close.sessions - .half_close.completed -
		.half_close.open_at_end, .tls.errors // 0, .tls.alerts_received // 0,
		.tls.truncated // 0] | map(tostring) | join(" ")')
	[ "$got" = "0 0 0 0 0 0 0 0 0 0 0" ] || echo " $1: $got $(report "$1" '.incidents[:2] | tojson')"
}
# streams_end: both, what was wrong in $wrong
streams_end() {
	local s
	streams_stop
	wrong=
	for s in $STREAMS; do
		wrong+=$(stream_wrong "$s")
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

# move [HOME]: one migration, by fd passing unless $VIA says how; what was wrong in $wrong
move() {
	local old rc=0
	old=$(field .pid)
	wrong=
	ctl migrate --home "${1:-$CMAN_BUILD}" --via "${VIA:-fd}" --json > "$T/move.json" 2> "$T/move.err" || rc=$?
	[ $rc = 0 ] || wrong+=" exit $rc: $(head -n 3 "$T/move.err")"
	[ "$(report move '[.failed, .new_connections_refused, (.left | length), .old.exited] | join(" ")')" = \
		"0 0 0 true" ] || wrong+=" report: $(head -c 700 "$T/move.json")"
	is_gone "$old" || wrong+=" the old process $old is still there"
}

# --- crash points: $TOOL is handover_tool, of a build that has them

reached() { logged "dies at a crash point.*$1"; }
arm() {
	log_here
	"$TOOL" arm cman1 "$@" || not_ok "$* cannot be armed"
}
disarm() { "$TOOL" arm cman1 NONE 2> /dev/null; }
# in_time POINT COUNT: a gateway dies there under the load that runs
in_time() {
	arm "$1" "$2"
	ok "$1 ($2) is reached" wait_for 10 reached "$1"
	disarm
}

# kill_gateway [too]: the only one, when it has a process; too: with its keeper, in the same instant
victims() {
	VICTIMS=$(show gateways ".[0] | if .pid > 0 then .pid${1:+, .keepers[0]} else empty end | select(. > 0)")
	[ -n "$VICTIMS" ]
}
kill_gateway() {
	# shellcheck disable=SC2086	# one or two
	wait_for 5 victims "$@" && kill -KILL $VICTIMS 2> /dev/null
}
# by_chance N: the only gateway is killed so many times, every fourth time with a keeper
by_chance() {
	local i before
	before=$(sum recoveries)
	for ((i = 0; i < $1; i++)); do
		# shellcheck disable=SC2046	# a word or none
		kill_gateway $([ $((i % 4)) != 0 ] || echo too)
		sleep "$(awk -v r=$RANDOM -v slow="${CMAN_SLOW:-1}" 'BEGIN { print (10 + r % 90) / 1000 * slow }')"
	done
	before=$(($(sum recoveries) - before))
	cmp_num "$before" '>=' $(($1 * 5 / 6)) "a gateway was killed $1 times, every fourth time with a keeper: $before recoveries"
}

# migration old|new POINT COUNT: a gateway of that side dies in it
migration() {
	local side=$1 point=$2 count=$3 rc=0
	log_here
	if [ "$side" = old ]; then
		arm "$point" "$count"
		ctl startup --migrate --via "${VIA:-fd}" --json > "$T/m.json" 2> "$T/m.err" || rc=$?
	else
		CMAN_CRASH=$point:$count ctl startup --migrate --via "${VIA:-fd}" --json > "$T/m.json" 2> "$T/m.err" || rc=$?
	fi
	is "$rc $(report m '[.failed, (.left | length), .old.exited] | map(tostring) | join(" ")')" "0 0 0 true" \
		"the $side gateway dies at $point ($count): $(report m .moved) have moved" || diag "$(cat "$T/m.err")"
	ok "it was reached" reached "$point"
	disarm
}
