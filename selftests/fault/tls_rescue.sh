#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 420
#
# Sessions with TLS are rescued: managers die on either side of a handover, hang, or are taken over from,
# while keys are updated and records come in pieces; by both carriers, with the record engine. What their
# stopped or dead owner had read and not opened, or sealed and not sent, goes on elsewhere: no session may
# be lost, see a wrong byte, an alert or a truncation, and no descriptor or mapping of secrets may be kept
# by anybody. When a whole side dies, what was its own ends, is counted, and the rest goes on.
# CMAN_FAULT_LONG=1: more places. CMAN_FAULT_ONLY=REGEX: some cases.
# shellcheck disable=SC2034	# much is lib_handover.sh's
. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
VIA=fd CLIENTS=C SERVERS=B FRONT=10.1.0.1 BACK=10.1.0.3 CLIENT=10.1.0.2 STILL=8
. "$(dirname "$0")/../lib/certificates.sh"
need_cmd jq

# secrets PID: its secret memories, as descriptors and as mappings
secrets() {
	readlink "/proc/$1"/fd/* 2> /dev/null | grep -c 'memfd:cman-secret'
	awk '/memfd:cman-secret/ { print $5 }' "/proc/$1/maps" 2> /dev/null | sort -u | wc -l
}
# What is kept too long: more secret memories than the cells that a process is of, a box of states on
# its way, images
residue() {
	local p n most manager
	manager=$(cat "$R/t1/pid" 2> /dev/null)
	for p in $(processes); do
		[ "$p" = "$manager" ] && most=2 || most=1
		for n in $(secrets "$p"); do [ "$n" -le $most ] || echo "secret memories of $p: $n"; done
		{ readlink "/proc/$p"/fd/*; cat "/proc/$p/maps"; } 2> /dev/null | grep -o 'memfd:cman-tls-state'
	done
	find "$R" -path '*images/*' 2> /dev/null | sed 's/^/image: /'
}
wipe() { tc qdisc del dev br0 clsact 2> /dev/null; }
. "$(dirname "$0")/lib_handover.sh"

# --- the same hands for another load

KEYS="certificate = \"$T/cert/server.pem\"  key = \"$T/cert/server.key\"  engine = \"user\""
TRUST="ca = \"$T/cert/ca.pem\"  server_name = \"localhost\"  engine = \"user\""
conf() {
	cat > "$1" <<-EOF
	instance t1 {
	    run_dir = "$R"
	    gateways = $2
	    max_sessions = 1000
	    handover_timeout = $3
	    log_level = "${CMAN_FAULT_LOG:-info}"
	    service plain { targets = { "$BACK:7101" } }
	    service tls2 { targets = { "$BACK:7102" }  tls { $TRUST } }
	    service tls3 { targets = { "$BACK:7103" }  tls { $TRUST } }
	    service ends { targets = { "$BACK:7104" }  tls { $TRUST } }
	    listener in { address = "$FRONT:7001"  service = "plain"  tls { $KEYS } }
	    listener out2 { address = "$FRONT:7002"  service = "tls2" }
	    listener out3 { address = "$FRONT:7003"  service = "tls3" }
	    listener both2 { address = "$FRONT:7004"  service = "tls2"  tls { $KEYS } }
	    listener both3 { address = "$FRONT:7005"  service = "tls3"  tls { $KEYS } }
	    listener half { address = "$FRONT:7006"  service = "ends"  tls { $KEYS } }
	    listener half_out { address = "$FRONT:7007"  service = "ends" }
	}
	EOF
}

servers() {
	local tls=(--tls --tls-cert "$T/cert/server.pem" --tls-key "$T/cert/server.key") n
	at B "$BENCH" serve -l "$BACK:7101" --ready-file "$T/ready.7101" > "$T/serve.1" 2>&1 & track $!
	at B "$BENCH" serve -l "$BACK:7102" "${tls[@]}" --tls-version 1.2 --ready-file "$T/ready.7102" \
		> "$T/serve.2" 2>&1 & track $!
	at B "$BENCH" serve -l "$BACK:7103" "${tls[@]}" --tls-version 1.3 --tls-update 15 \
		--ready-file "$T/ready.7103" > "$T/serve.3" 2>&1 & track $!
	at B "$BENCH" serve -l "$BACK:7104" "${tls[@]}" -m hold -s 512 -i 100 --ready-file "$T/ready.7104" \
		> "$T/serve.4" 2>&1 & track $!
	for n in 1 2 3 4; do wait_for 5 test -e "$T/ready.710$n" || bail "no servers: $(cat "$T/serve.$n")"; done
}

# stream NAME PORT OPTION…: verified streams in the background
stream() {
	local name=$1 port=$2 half=7007
	shift 2
	[[ "$*" != *--tls* ]] || half=7006
	at C "$BENCH" stream -c "$FRONT:$port" -n 4 --slow 1 --slow-rate 20k --half-close 1 --hold-connect "$FRONT:$half" \
		-s 3000 -i 40 --source "$CLIENT" -d 0 --connect-timeout 20 --drain-timeout 20 --progress \
		--ready-file "$T/ready.$name" -j "$@" > "$T/$name" 2> "$T/$name.err" &
	LOADS+=($!)
	track $!
}
NAMES=(in2 in3 out2 out3 both2 both3 mixed pieces)
load_begin() {
	local n tls=(--tls --tls-ca "$T/cert/ca.pem" --tls-name localhost)
	LOADS=()
	for n in "${NAMES[@]}"; do rm -f "$T/ready.$n"; done
	stream in2 7001 "${tls[@]}" --tls-cipher ECDHE-ECDSA-CHACHA20-POLY1305
	stream in3 7001 "${tls[@]}" --tls-cipher TLS_AES_256_GCM_SHA384 --tls-update 15
	stream out2 7002
	stream out3 7003
	stream both2 7004 "${tls[@]}" --tls-cipher ECDHE-ECDSA-AES128-GCM-SHA256
	stream both3 7005 "${tls[@]}" --tls-cipher TLS_CHACHA20_POLY1305_SHA256 --tls-update 15
	stream mixed 7004 "${tls[@]}" --tls-cipher TLS_AES_128_GCM_SHA256 --tls-update 40
	stream pieces 7005 "${tls[@]}" --tls-split --tls-version 1.3 -s 40k -w 160k
	for n in "${NAMES[@]}"; do
		wait_for 20 test -s "$T/ready.$n" || { diag "$n: $(tail -n 3 "$T/$n.err")"; return 1; }
	done
	WANT=$(clients)
}
load_troubles() {
	local n
	for n in "${NAMES[@]}"; do
		grep -hvE '^ *[0-9.]+ s |^ready|^$' "$T/$n.err" | head -n 2 | sed "s/^/$n: /"
	done
}
load_end() {
	local p n got
	TROUBLES=
	for p in "${LOADS[@]}"; do kill -TERM "$p" 2> /dev/null; done
	for p in "${LOADS[@]}"; do
		wait_for 30 is_gone "$p" || { kill -KILL "$p"; TROUBLES="a load did not end "; }
		wait "$p" 2> /dev/null
	done
	for n in "${NAMES[@]}"; do
		got=$(jq -r '[.lost, .wrong_bytes, .bytes_missing, .resets, .early_eofs, .timeouts,
			.half_close.server_wrong_bytes, .tls.errors // 0, .tls.alerts_received // 0,
			.tls.truncated // 0] | map(tostring) | join(" ")' "$T/$n")
		[ "$got" = "0 0 0 0 0 0 0 0 0 0" ] || TROUBLES+="$n: $got $(jq -c '.incidents[:2]' "$T/$n") "
	done
}
# migrate_shortly: a migration, until as many as DEATHS (1) have died of it
migrate_shortly() {
	local ctl
	"$BIN/cmanctl" -f "$T/c.conf" startup --migrate --via $VIA > "$T/mig" 2>&1 &
	ctl=$!
	wait_for 20 has_died $ctl
	kill -TERM $ctl 2> /dev/null
	wait $ctl
}
has_died() { is_gone "$1" || [ "$(log_since | grep -c 'dies at a crash point')" -ge "${DEATHS:-1}" ]; }
# standing: how many sessions get nothing back
standing() {
	local a b
	a=$(received) && sleep 0.6 && b=$(received)
	awk -v a="$a" -v b="$b" 'BEGIN { n = split(a, x); split(b, y); for (i = 1; i <= n; i++) s += x[i] == y[i]; print s + 0 }'
}
received() { at C ss -Htni "src = $CLIENT" | grep -o 'bytes_received:[0-9]*' | cut -d: -f2 | paste -sd' '; }

# --- run

make_certificates "$T/cert" > "$T/cert.log" 2>&1 || bail "no certificates: $(tail -n 3 "$T/cert.log")"
clients_and_targets
conf "$T/c.conf" 2 20
servers
startup
load_begin || bail "no load"

# both carriers: one side dies, and the other one takes what it has
for VIA in fd repair; do
	case $VIA in
	fd) old=(SOURCE_BATCH SOURCE_COMMIT) new=(TARGET_PREPARED_SENT TARGET_LIVE) ;;
	repair) old=(REPAIR_EXPORTED SOURCE_COMMIT) new=(TARGET_PREPARED_SENT TARGET_ACTIVATED) ;;
	esac
	[ "$LONG" = 0 ] || {
		old+=(SOURCE_FROZEN SOURCE_DECIDED SOURCE_RELEASED)
		new+=(TARGET_FILLED TARGET_PREPARED TARGET_COMMITTED)
	}
	for p in "${old[@]}"; do crash old "$p"; done
	for p in "${new[@]}"; do crash new "$p"; done
done

# images_are_wiped: of a side that dies between its sockets and their images, whoever has a file open
images_are_wiped() {
	local f n=0
	begin "old dies at REPAIR_GONE, what is left of its images" || return
	OLDPID=$(status | field pid)
	tool arm t1 REPAIR_GONE 1 stop || why "cannot arm"
	until_stands
	for f in "$R"/t1*/images/*; do
		[ ! -s "$f" ] || exec {IMAGE}< "$f"
	done
	[ -n "${IMAGE-}" ] || why "no image"
	kill -KILL "$(stopped)"
	aftermath 3
	[ -z "${IMAGE-}" ] || n=$(tr -d '\0' <& "$IMAGE" | wc -c)
	[ "$n" = 0 ] || why "$n bytes of an image were not wiped"
	exec {IMAGE}<&-
	verdict || anew
}
VIA=repair
images_are_wiped

# the one that rescues dies as well, one hangs, both die
VIA=fd
DEATHS=2
both new RESCUE_KILLED SOURCE_COMMIT
both new RESCUE_IMPORTED SOURCE_FROZEN
[ "$LONG" = 0 ] || {
	both new RESCUE_STOPPED SOURCE_BATCH
	both new RESCUE_FDS SOURCE_PARKED
	hang old SOURCE_BATCH
	managers_die new TARGET_PREPARED_SENT
}
managers_die old SOURCE_COMMIT

# by order of the operator
for w in nobody all keepers; do rescued $w; done
[ "$LONG" = 0 ] || for w in manager gateway; do rescued $w; done
load_end
is "$TROUBLES" "" "the load through all of it: nothing lost or wrong, no alert"

# all of one side: its sessions are reset, or cut without a close_notify; no peer is told a wrong byte
load_begin || bail "no load"
anew() {
	load_end
	is "$(jq -s '[.[] | .wrong_bytes, .half_close.server_wrong_bytes, .tls.alerts_received] | add' \
		"${NAMES[@]/#/$T/}" 2>&1)" 0 "$NAME: no wrong byte and no alert, also to what was lost"
	kill_all
	startup
	load_begin || bail "no load on a fresh instance"
}
side_dies old SOURCE_COMMIT 1
side_dies new TARGET_COMMITTED 2
load_end
is "$TROUBLES" "" "the load of a fresh instance: nothing lost or wrong"
ctl shutdown > /dev/null 2>&1
wait_for 3 no_processes
is "$(run_files)|$(pins)|$(processes)" "t1.log ||" "after shutdown nothing is left but the log"
diag "$(cat "$TABLE")"
