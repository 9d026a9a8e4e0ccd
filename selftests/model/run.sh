#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The models of the handover, checked exhaustively within their bounds with spin: without errors as they
# are, always at an end, every allowed loss and every interesting state can be reached, and every rule
# that is taken away is noticed by the assertion that is named here. Documentation/model.rst explains.
# timeout: 300
. "$(dirname "$0")/../lib/tap.sh"
need_cmd spin gcc

HERE=$CMAN_ROOT/selftests/model
ONE=one_host
TWO=two_hosts
# one batch id and one fault of each kind, and two ids with repeated deaths of managers
SMALL="-DNATT=1 -DNCRASH=1 -DNBREAK=1"
AGAIN="-DNREBOOT=0 -DNCELL=0 -DNBREAK=1"

# make_pan MODEL MACROS MODE: the verifier, in the current folder; model.pml may have begun already.
# Not optimised: compiling takes longer than searching.
make_pan() {
	cat "$HERE/$1.pml" >> model.pml
	# shellcheck disable=SC2086	# several macros
	spin $2 -a model.pml && gcc -w -O0 "$3" -DNOFAIR -DVECTORSZ=512 -o pan pan.c
}

states() { sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log; }

# clean MODEL MACROS: no error; ends MODEL MACROS: no history goes on for ever
clean() { searched -DSAFETY "0 errors" "$@"; }
ends() { searched -DNP "comes to an end in every history" "$@" -l; }
searched() {	# MODE WHAT MODEL MACROS [OPTION OF PAN]
	local what="$3 $4: $2"
	if ! make_pan "$3" "$4" "$1" > make.log 2>&1; then
		not_ok "$what" "$(tail -n 5 make.log)"
		return
	fi
	./pan -m1000000 ${5:+"$5"} > pan.log 2>&1
	if grep -q 'max search depth too small\|Search not completed\|out of memory' pan.log; then
		not_ok "$what" "$(grep '^pan:1\|^error' pan.log)"
	else
		is "$(grep -o 'errors: [0-9]*' pan.log)" "errors: 0" "$what, $(states) states"
	fi
}

# notices MODEL MACROS ASSERTION: that one fails
notices() {
	local what="$1 $2: $3 fails"
	if ! make_pan "$1" "$2" -DSAFETY > make.log 2>&1; then
		not_ok "$what" "$(tail -n 5 make.log)"
		return
	fi
	./pan -m1000000 > pan.log 2>&1
	like "$(grep '^pan:1: assertion violated' pan.log)" "[^a-z_]$3[^a-z_]" "$what"
}

# reaches MODEL MACROS STATE…: each is somewhere in one search
reaches() {
	local model=$1 macros=$2 i=0 state names='' claims=''
	shift 2
	for state in "$@"; do
		names+="${names:+, }witness_$((++i))"
		claims+=" :: $state -> assert(witness_$i)"
	done
	printf 'bool %s;\n#define WITNESSES %s\n' "$names" "$claims" > model.pml
	make_pan "$model" "$macros" -DSAFETY > make.log 2>&1 || diag "$(tail -n 5 make.log)"
	./pan -c0 -m1000000 2>&1 | grep -o 'assertion violated witness_[0-9]*' | sort -u > seen
	i=0
	for state in "$@"; do
		ok "$model $macros: can be: $state" grep -qx "assertion violated witness_$((++i))" seen
	done
}

# job COMMAND…: two at a time, each with a folder of its own; what they say is numbered at the end
jobs_n=0
job() {
	jobs_n=$((jobs_n + 1))
	[ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n
	(
		trap - EXIT
		mkdir "$T/$jobs_n.d" && cd "$T/$jobs_n.d" && "$@" > "$T/$jobs_n" 2>&1
		rm -rf "$T/$jobs_n.d"
	) &
}

# --- as they are

job clean $ONE "-DFD"
job clean $ONE ""
job clean $ONE "-DLIVE_FIRST -DEGRESS_OPEN"
job clean $TWO "$SMALL"
job clean $TWO "$SMALL -DOLD_FRAMES"
job clean $TWO "$AGAIN"
job clean $TWO "$AGAIN -DNCRASH=1 -DOLD_FRAMES"
job ends $ONE "-DFD -DNATT=1"
job ends $ONE "-DNATT=1"
job ends $ONE "-DLIVE_FIRST -DNATT=1"
job ends $TWO "$SMALL"

# --- what can be

both=("lost == LOST_CELL_S" "lost == LOST_CELL_T" "relay[T] && reg_s[1] == TAKE"
	"relay[T] && gone[S]" "relay[S] && gone[T]"
	"relay[S] && reg_t[1] == DROP && reg_s[1] == COMMIT"
	"relay[T] && att == 2 && reg_t[1] == DROP")
job reaches $ONE "-DFD" "${both[@]}" "died[S] && relay[T] && !lost"
job reaches $ONE "" "${both[@]}" "lost == LOST_LEASE"
job reaches $TWO "$SMALL" "lost == LOST_CELL_S" "lost == LOST_CELL_T" "lost == LOST_LEASE" \
	"lost == LOST_REBOOT_S" "lost == LOST_REBOOT_T" "lost == LOST_DOUBT" \
	"vs == ASKED && reg_t[1] == LIVE" "relay[S] && reg_s[1] == COMMIT && reg_t[1] == DROP" \
	"relay[T] && guard[S] == FORWARD && reg_s[1] == DONE"

# --- each rule taken away: the rule, and the assertion that fails

rules() {	# MODEL MACROS, lines of the input: RULE ASSERTION
	local rule assertion
	while read -r rule assertion; do
		job notices "$1" "$2 -D$rule" "$assertion"
	done
}
rules $ONE "-DFD" <<- END
	NO_TOMBSTONE never_imported_twice
	NO_ABORT_REGISTER always_resolved
	NO_COMMIT_REGISTER never_two_owners
	NO_LIVE_REGISTER never_lost_without_cause
	NO_LIVE_CAS never_lost_without_cause
	NO_DROP_CAS never_two_owners
	NO_TAKE never_two_owners
	COMMITTED_EARLY always_an_owner
	RELEASE_EARLY always_an_owner
	NO_OWNER_RULE never_lost_without_cause
	NO_SLOT_EVIDENCE never_lost_without_cause
	NO_COPY_CHECK never_lost_without_cause
	BATCH_EARLY never_two_owners
END
rules $ONE "-DFD -DNCELL=0" <<- END
	NO_LIVE_REGISTER never_two_owners
	NO_LIVE_CAS never_two_owners
END
rules $ONE "" <<- END
	NO_OWNER_RULE never_stale_image
	COMMITTED_EARLY never_open_without_socket
	RELEASE_EARLY never_open_without_socket
	NO_COPY_CHECK never_lost_without_cause
	GUARD_LATE never_open_without_socket
	CLOSE_EARLY never_lost_without_cause
	THAW_EARLY never_open_without_socket
	OPEN_EARLY never_open_without_socket
	DONE_EARLY always_thawed
	IMAGE_EARLY never_lost_without_cause
	NO_SWEEP always_resolved
	NO_TUPLE_WAIT never_lost_without_cause
	NO_COPY_KILL always_an_owner
	EGRESS_OPEN never_fin_of_a_nonowner
	LEASE_SHORT never_open_without_socket
END
rules $ONE "-DLIVE_FIRST" <<- END
	OPEN_ON_LIVE never_open_without_socket
END
rules $TWO "$SMALL" <<- END
	NO_ABORT_REGISTER always_thawed
	NO_COMMIT_REGISTER never_stale_image
	THAW_COMMITTED never_stale_image
	RELEASE_COMMITTED always_an_owner
	NO_WAIT_COMMITTED never_open_without_socket
	FORWARD_EARLY never_open_without_socket
	OPEN_EARLY never_open_without_socket
	IMAGE_EARLY never_lost_without_cause
	NO_DROP_ON_LOSS always_thawed
	LIVE_ON_LOSS never_stale_image
	NO_LIVE_REGISTER never_lost_without_cause
	NO_DROP_REGISTER always_resolved
	COMMITTED_EARLY never_open_without_socket
	NO_ARRIVING never_open_without_socket
	UNGUARD_EARLY never_open_without_socket
	NO_BOOT_ID never_stale_image
	LEASE_SHORT always_an_owner
END

# --- all results, in their order

wait
for ((i = 1; i <= jobs_n; i++)); do
	if [ ! -s "$T/$i" ]; then
		not_ok "job $i gave no result"
		continue
	fi
	while IFS= read -r line; do
		case $line in
		"ok "* | "not ok "*) _tap_result "${line%% [0-9]*}" "${line#* - }" ;;
		*) printf '%s\n' "$line" ;;
		esac
	done < "$T/$i"
done
