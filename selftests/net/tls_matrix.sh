#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The matrix of TLS: legs x version x cipher, moved by each carrier, carried by each engine. Every cell has
# busy sessions, which move ten times, go on after each move, and see no wrong byte and no alert. All cells
# of one carrier and engine are in one instance and move at once. Clients and targets are on hosts of their
# own, as TCP_REPAIR needs it. A cell that the kernel does not allow is listed with the reason.
#
# Environment: CMAN_MATRIX_SESSIONS (50, of a cell), CMAN_MATRIX_MOVES (10), CMAN_MATRIX_ENGINES ("user ktls"),
# CMAN_MATRIX_CARRIERS ("fd repair"), CMAN_MATRIX_STREAMS (all; names as in lib_tls.sh).
# timeout: 400

. "$(dirname "$0")/../lib/tap.sh"
run_in_own_netns "$@"
. "$(dirname "$0")/lib_instance.sh"
. "$(dirname "$0")/lib_tls.sh"

SESSIONS=${CMAN_MATRIX_SESSIONS:-50} MOVES=${CMAN_MATRIX_MOVES:-10}
read -ra ENGINES <<< "${CMAN_MATRIX_ENGINES:-user ktls}"
read -ra CARRIERS <<< "${CMAN_MATRIX_CARRIERS:-fd repair}"
WITH_TLS=${CMAN_MATRIX_STREAMS:-$STREAMS}
LOAD=(-n "$SESSIONS" -s 1000 -i $((250 * ${CMAN_SLOW:-1})) --parallel-connects 10
	--connect-timeout $((30 * ${CMAN_SLOW:-1})) --drain-timeout $((10 * ${CMAN_SLOW:-1})))
declare -A CELL # "STREAM CARRIER ENGINE": ok, FAILED, or why there is none

ulimit -n "$(ulimit -Hn)"
two_hosts

configuration() {
	conf <<-END
	instance cman1 {
	    run_dir = "@RUN@"
	    gateways = 2
	    max_sessions = $((20 * SESSIONS + 100))
	    $(combinations)
	    $(listener plain 7000 echo)
	}
	END
}

# why_not STREAM ENGINE: why this kernel does not allow it; empty: it does. It takes the ciphers that the
# manager has found at its start (ktls.sh tests how).
why_not() {
	local taken k=${1:1}
	[ "$2" = ktls ] && [ "$1" != P ] || return 0
	taken=$(bpftool -j map dump pinned /sys/fs/bpf/cman/cman1/instance |
		jq ".[0].formatted.value.ktls[$((k / 3))]")
	((taken >> (k % 3 + 1) & 1)) || echo "kernel has no TLS with ${SUITES[k]}"
}

# standing: those that have received nothing since $T/before.json
standing() {
	ctl show sessions --json | jq -r --slurpfile before "$T/before.json" "$LEGS"'
		($before[0] | map({ (.id): .bytes_down }) | add) as $then |
		.[] | select(.bytes_down <= ($then[.id] // -1)) | legs'
}
all_go_on() { [ -z "$(standing)" ]; }

# verdict STREAM CARRIER ENGINE: one cell
verdict() {
	local why legs wrong='' got
	why=$(why_not "$1" "$3")
	CELL[$1 $2 $3]=$why
	[ -z "$why" ] || { skip "$why"; return; }
	legs=$(legs_of "$1" "$3")
	got=$(grep -cxF "$legs $MOVES" "$T/moved")
	[ "$got" = "$SESSIONS" ] || wrong+=" $got sessions are what they were and have moved $MOVES times;"
	got=$(report "$1" "[.sessions, .alive, .chunks_verified > .sessions * $MOVES] | map(tostring) | join(\" \")")
	[ "$got" = "$SESSIONS $SESSIONS true" ] || wrong+=" sessions, alive, busy: $got;"
	wrong+=$(stream_wrong "$1")
	CELL[$1 $2 $3]=FAILED
	is "$wrong" "" "by $2: $legs" && CELL[$1 $2 $3]=ok
}

# column CARRIER ENGINE: all its cells at once
column() {
	local i s all
	VIA=$1 STREAMS=$WITH_TLS
	ON=C
	streams "${LOAD[@]}"
	if [ "$2" = "${ENGINES[0]}" ]; then
		STREAMS+=" P"
		bench P stream -c "$FRONT_AT:7000" "${LOAD[@]}"
	else
		CELL[P $1 $2]="as ${ENGINES[0]}"
	fi
	all=$(($(wc -w <<< "$STREAMS") * SESSIONS))
	for ((i = 1; i <= MOVES; i++)); do
		ctl show sessions --json > "$T/before.json"
		move
		is "$wrong $(report move .moved)" " $all" "$1, $2: migration $i"
		ok "$1, $2: after it each session goes on" wait_for 10 all_go_on || diag "$(standing | sort | uniq -c)"
		diag "moved $(report move .moved) in $(report move .duration_ms) ms, gap p50 $(
			report move .blackout_us.p50) us, p99 $(report move .blackout_us.p99) us, $(
			report move .bytes_in_flight) bytes in between"
	done
	show sessions "$LEGS"'.[] | "\(legs) \(.handovers)"' > "$T/moved"
	streams_stop
	for s in $STREAMS; do verdict "$s" "$1" "$2"; done
	ok "$1, $2: no session is left" wait_sessions 0
}

# engine NAME: its columns
engine() {
	local s c
	if [ "$1" = ktls ] && ! have_ktls; then
		for c in "${CARRIERS[@]}"; do
			for s in $WITH_TLS; do CELL[$s $c ktls]="kernel has no TLS"; done
			CELL[P $c ktls]="as ${ENGINES[0]}"
			skip "kernel has no TLS"
		done
		return
	fi
	tls_engine "$1"
	configuration
	ON=B
	# shellcheck disable=SC2034	# of lib_tls.sh
	if [ "$1" = user ]; then
		servers --tls-update 20
	else # kernels before 6.14 cannot replace a key
		UPDATE=()
		servers
	fi
	ON=
	up
	for c in "${CARRIERS[@]}"; do column "$c" "$1"; done
	is "$(show gateways 'map(.lost + .recoveries) | add')" 0 "$1: no gateway was replaced"
	down
	for s in ECHO ECHO2 ECHO3 HOLD HOLD2 HOLD3; do serve_end $s; done
	is "$(for s in ECHO2 ECHO3; do tls $s errors alerts_received truncated; done | sort -u)" "0 0 0" \
		"$1: the servers saw no alert, no truncation"
}

# table: one line for legs, version and cipher; carriers and engines beside each other
table() {
	local s c e line suite
	printf -v line '%-9s %-8s %-29s' legs version cipher
	for c in "${CARRIERS[@]}"; do
		for e in "${ENGINES[@]}"; do printf -v line '%s %-17s' "$line" "$c/$e"; done
	done
	diag "$line"
	for s in P $WITH_TLS; do
		case $s in
		P) printf -v line '%-9s %-8s %-29s' tcp-tcp - - ;;
		*)
			suite=${SUITES[${s:1}]}
			printf -v line '%-9s %-8s %-29s' \
				"$(sed 's/D/tls-tcp/; s/U/tcp-tls/; s/B/tls-tls/; s/[0-9]//' <<< "$s")" \
				"$(version_of "$suite")" "$suite"
			;;
		esac
		for c in "${CARRIERS[@]}"; do
			for e in "${ENGINES[@]}"; do printf -v line '%s %-17s' "$line" "${CELL[$s $c $e]-FAILED}"; done
		done
		diag "$line"
	done
}

diag "$SESSIONS sessions a cell, $MOVES moves, kernel $(uname -r)"
for e in "${ENGINES[@]}"; do engine "$e"; done
table
