#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The one runner of all tests (make check): lints, builds the variants, runs every suite one after the
# other, reads their TAP (criterion speaks it too), and ends with the line "N passed, N failed"
# (", N skipped"). Rules:
# - a test program that exits non-zero without a failed test, runs no test, breaks its plan, bails out
#   or hangs is a failure; a failed lint or build is a failure
# - a skip whose reason is not in selftests/lib/known-skips is a failure
# - a program that hangs is killed with its process group, by id; nothing is ever killed by name
#
# Environment: CMAN_BUILD (build), MAKE, SUITES (lint,unit,asan,fuzz,sim,model,net,fault,apps,vm), T (part of
# the names of tests, several with commas), TEST_TIMEOUT (seconds, for files without "# timeout: N"),
# FUZZ_ITERATIONS (20000), CMAN_VM_KERNELS (6.1,6.12), CMAN_VM_LEVEL (check, or all), CMAN_VM_SECONDS (of
# each machine).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

MAKE=${MAKE:-make}
CMAN_BUILD=${CMAN_BUILD:-build}
CMAN_CRASH_BUILD=$CMAN_BUILD/crash
CMAN_NEXT_BUILD=$CMAN_BUILD/next
ASAN_BUILD=$CMAN_BUILD/asan
export CMAN_BUILD CMAN_CRASH_BUILD CMAN_NEXT_BUILD
SUITES=${SUITES:-lint,unit,asan,fuzz,sim,model,net,fault,apps,vm}
T=${T:-}
TEST_TIMEOUT=${TEST_TIMEOUT:-300}
FUZZ_ITERATIONS=${FUZZ_ITERATIONS:-20000}
LOGS=$CMAN_BUILD/logs
KNOWN=selftests/lib/known-skips
select=$T
unset T		# a test's $T is its private folder

passed=0 failed=0 skipped=0
failures=()
child=

for s in ${SUITES//,/ }; do
	case $s in
	lint | unit | asan | fuzz | sim | model | net | fault | apps | vm) ;;
	*) echo "run-tests: no suite \"$s\": lint unit asan fuzz sim model net fault apps vm" >&2; exit 2 ;;
	esac
done
wanted() { [[ ,$SUITES, == *,$1,* ]]; }

# selected NAME: does T want this test
selected() {
	[ -n "$select" ] || return 0
	local t
	for t in ${select//,/ }; do
		[[ $1 != *"$t"* ]] || return 0
	done
	return 1
}

# stop_child: the running test's process group, by its id
stop_child() {
	[ -n "$child" ] || return 0
	kill -TERM -- "-$child" 2>/dev/null
	local n
	for ((n = 0; n < 50; n++)); do
		kill -0 -- "-$child" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -KILL -- "-$child" 2>/dev/null
}
trap 'echo "run-tests: interrupted" >&2; stop_child; exit 130' INT TERM HUP

# run_limited SECONDS LOG COMMAND…: in a process group of its own, without the descriptors that make
# has left open; 124 when it was stopped
run_limited() {
	local limit=$1 log=$2 rc=0 deadline
	shift 2
	(
		for fd in "/proc/$BASHPID/fd"/*; do
			fd=${fd##*/}
			[ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"
		done
		unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
		exec setsid "$@"
	) < /dev/null > "$log" 2>&1 &
	child=$!
	deadline=$((SECONDS + limit))
	# wait -n returns at once when it ends; the sleep is what bounds it
	while kill -0 "$child" 2>/dev/null; do
		if [ $SECONDS -ge $deadline ]; then
			stop_child
			wait "$child" 2>/dev/null
			child=
			echo "# stopped after $limit seconds" >> "$log"
			return 124
		fi
		sleep 0.05
	done
	wait "$child" 2>/dev/null
	rc=$?
	# what it has left behind in its group
	kill -KILL -- "-$child" 2>/dev/null
	child=
	return $rc
}

# read_tap FILE: "passed failed skipped plan seen bail badskips", then lines "reason" of unknown skips
read_tap() {
	grep -vE '^[[:space:]]*(#|$)' "$KNOWN" > "$LOGS/.known"
	awk '
	/^1\.\.[0-9]+/ {
		plan = substr($1, 4) + 0; plans++
		if (plan == 0 && toupper($0) ~ /# *SKIP/) {
			r = $0; sub(/.*# *[Ss][Kk][Ii][Pp][^ ]* */, "", r); print "SKIP\t" r
			whole = 1
		}
	}
	/^Bail out!/ { bail = 1 }
	/^not ok/ { seen++; bad++ }
	/^ok/ {
		seen++
		if (toupper($0) ~ /# *SKIP/) {
			r = $0; sub(/.*# *[Ss][Kk][Ii][Pp][^ ]* */, "", r); print "SKIP\t" r
		} else good++
	}
	END { printf "SUM\t%d %d %d %d %d %d\n", good, bad, plans == 1 ? plan : -1, seen, bail, whole }
	' "$1"
}

# account SUITE NAME LOG TAP RC SECONDS [EXTRA-PROBLEM]: count one program's results, print its line
account() {
	local suite=$1 name=$2 log=$3 tap=$4 rc=$5 secs=$6 why=${7:-}
	local good=0 bad=0 plan=-1 seen=0 bail=0 whole=0 skips=0 kind text line
	while IFS=$'\t' read -r kind text; do
		if [ "$kind" = SKIP ]; then
			text=${text%"${text##*[![:space:]]}"}
			if printf '%s\n' "$text" | grep -qxE -f "$LOGS/.known"; then
				skips=$((skips + 1))
			else
				why+="${why:+; }unknown skip \"$text\""
				bad=$((bad + 1))
			fi
		else
			local b
			read -r good b plan seen bail whole <<< "$text"
			bad=$((bad + b))
		fi
	done < <(read_tap "$tap")
	if [ "$rc" = 124 ]; then
		why+="${why:+; }hung, stopped"
	elif [ "$bail" = 1 ]; then
		why+="${why:+; }bailed out"
	elif [ "$whole" = 1 ]; then
		[ "$seen" = 0 ] || why+="${why:+; }skipped and ran"
	elif [ "$plan" != "$seen" ]; then
		why+="${why:+; }plan $plan, ran $seen"
	elif [ "$seen" = 0 ]; then
		why+="${why:+; }ran no test"
	fi
	[ "$rc" = 0 ] || [ "$rc" = 124 ] || [ "$bad" -gt 0 ] || [ "$bail" = 1 ] ||
		why+="${why:+; }exit status $rc"
	[ -z "$why" ] || [ "$bad" -gt 0 ] || bad=1
	passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + skips))
	line=$(printf '%-5s %-30s %4d passed %3d failed' "$suite" "$name" "$good" "$bad")
	[ "$skips" = 0 ] || line+=$(printf ' %3d skipped' "$skips")
	printf '%s %7s s%s\n' "$line" "$secs" "${why:+  ($why)}"
	if [ "$bad" -gt 0 ]; then
		failures+=("$suite $name: $log")
		mapfile -t -n 5 -O ${#failures[@]} failures < <(grep -hE '^not ok|^Bail out' "$tap" | cut -c1-200 | sed 's/^/    /')
		grep -hE '^not ok|^Bail out' "$tap" | head -n 20 | sed 's/^/      | /'
		if [ -s "$log" ]; then
			grep -hE 'ERROR: [A-Za-z]+Sanitizer|runtime error: ' "$log" | head -n 5 |
				cut -c1-400 | sed 's/^/      | /'
			echo "      | --- end of $log"
			tail -n 40 "$log" | cut -c1-400 | sed 's/^/      | /'
		fi
	fi
}

elapsed() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }'; }

# build WHAT ARGUMENT…: a make of a variant; a failure is one failed test
build() {
	local what=$1 log start=$EPOCHREALTIME rc=0
	shift
	log=$LOGS/build-$what.log
	"$MAKE" "$@" > "$log" 2>&1 || rc=$?
	if [ $rc = 0 ]; then
		printf '%-5s %-30s %26s %7s s\n' build "$what" "" "$(elapsed "$start")"
		return 0
	fi
	failed=$((failed + 1))
	failures+=("build $what: $log")
	printf '%-5s %-30s    0 passed   1 failed %7s s\n' build "$what" "$(elapsed "$start")"
	grep -E 'error|Error|undefined' "$log" | head -n 30 | sed 's/^/      | /'
	echo "      | --- end of $log"
	tail -n 15 "$log" | sed 's/^/      | /'
	return 1
}

# timeout_of FILE: its line "timeout: N", or the default
timeout_of() {
	local t
	t=$(sed -n 's/^[#/* ]*timeout: *\([0-9]\{1,5\}\).*/\1/p' "$1" 2>/dev/null | head -n 1)
	echo "${t:-$TEST_TIMEOUT}"
}

suite_lint() {
	local start=$EPOCHREALTIME rc=0 log=$LOGS/lint.log
	selected lint || return 0
	MAKE=$MAKE bash scripts/lint.sh > "$log" 2>&1 || rc=$?
	if [ $rc = 0 ]; then
		printf '1..1\nok 1 - lint\n' > "$log.tap"
	else
		printf '1..1\nnot ok 1 - lint\n' > "$log.tap"
	fi
	account lint lint "$log" "$log.tap" 0 "$(elapsed "$start")"
}

# suite_unit SUITE BUILD: criterion programs, with or without sanitizers
suite_unit() {
	local suite=$1 build=$2 src name log rc start why san
	for src in selftests/unit/test_*.c; do
		[ -e "$src" ] || continue
		name=$(basename "$src" .c)
		selected "$name" || continue
		log=$LOGS/$suite-$name.log
		san=$PWD/$LOGS/$suite-$name.san
		case $LOGS in /*) san=$LOGS/$suite-$name.san ;; esac
		rm -f "$log" "$log.tap" "$san".*
		why=
		start=$EPOCHREALTIME rc=0
		[ -x "$build/tests/unit/$name" ] || continue	# not built: counted already
		ASAN_OPTIONS="log_path=$san:detect_leaks=1:print_legend=0:strict_string_checks=1:detect_stack_use_after_return=1" \
		UBSAN_OPTIONS="log_path=$san:print_stacktrace=1" \
		LSAN_OPTIONS="suppressions=$PWD/selftests/lib/lsan.supp:print_suppressions=0" \
		run_limited "$(timeout_of "$src")" "$log" \
			"$build/tests/unit/$name" "--tap=$log.tap" || rc=$?
		[ -e "$log.tap" ] || : > "$log.tap"
		if compgen -G "$san.*" > /dev/null; then
			why="sanitizer report"
			cat "$san".* >> "$log"
		fi
		account "$suite" "$name" "$log" "$log.tap" "$rc" "$(elapsed "$start")" "$why"
	done
}

suite_fuzz() {
	local build=$1 src name log rc start corpus
	for src in selftests/fuzz/fuzz_*.c; do
		[ -e "$src" ] || continue
		name=$(basename "$src" .c)
		selected "$name" || continue
		[ -x "$build/tests/fuzz/$name" ] || continue
		log=$LOGS/fuzz-$name.log
		corpus=()
		[ ! -d "selftests/fuzz/corpus/${name#fuzz_}" ] ||
			corpus=(-c "selftests/fuzz/corpus/${name#fuzz_}")
		start=$EPOCHREALTIME rc=0
		ASAN_OPTIONS="detect_leaks=1:print_legend=0:strict_string_checks=1" UBSAN_OPTIONS=print_stacktrace=1 \
		run_limited "$(timeout_of "$src")" "$log" "$build/tests/fuzz/$name" \
			-n "$FUZZ_ITERATIONS" -o "$LOGS/fuzz-$name.input" \
			"${corpus[@]}" || rc=$?
		[ "$rc" = 0 ] || echo "# the input that failed: $LOGS/fuzz-$name.input" >> "$log"
		account fuzz "$name" "$log" "$log" "$rc" "$(elapsed "$start")"
	done
}

# suite_shell SUITE: the executable scripts of selftests/SUITE
suite_shell() {
	local suite=$1 sh name log rc start
	for sh in selftests/"$suite"/*.sh; do
		[ -e "$sh" ] || continue
		name=$(basename "$sh" .sh)
		selected "$name" || continue
		if [ ! -x "$sh" ]; then
			# a library that tests source begins with "lib"
			[[ $name != lib* ]] || continue
			failed=$((failed + 1))
			failures+=("$suite $name: $sh is not executable")
			printf '%-5s %-30s    0 passed   1 failed  (not executable)\n' "$suite" "$name"
			continue
		fi
		log=$LOGS/$suite-$name.log
		start=$EPOCHREALTIME rc=0
		run_limited "$(timeout_of "$sh")" "$log" "$sh" || rc=$?
		account "$suite" "$name" "$log" "$log" "$rc" "$(elapsed "$start")"
	done
}

# suite_vm: some of net under other kernels, all machines at once (selftests/vm)
suite_vm() {
	local kernels=${CMAN_VM_KERNELS:-6.1,6.12} level=${CMAN_VM_LEVEL:-check} jobs=() kernel name names
	local folder=$LOGS/vm limit rc=0 secs log
	limit=${CMAN_VM_SECONDS:-$([ "$level" = all ] && echo 7200 || echo 900)}
	for kernel in ${kernels//,/ }; do
		names=
		while read -r name; do
			[ -x "selftests/net/$name.sh" ] && selected "$kernel $name" && names+="${names:+,}$name"
		done < <(awk -v level="$level" '
			!/^#/ && ($3 == "check" || $3 == level) && !seen[$1]++ { print $1 }' selftests/vm/suites)
		[ -z "$names" ] || jobs+=("$kernel:$names")
	done
	[ ${#jobs[@]} -gt 0 ] || return 0
	mkdir -p "$folder"
	# fetching the kernels comes before, booting a second time in between
	run_limited $((limit + 600)) "$LOGS/vm.log" bash selftests/vm/run.sh "$limit" "$folder" "${jobs[@]}" || :
	for kernel in "${jobs[@]}"; do
		names=${kernel#*:} kernel=${kernel%%:*}
		if [ -s "$folder/$kernel/skip" ]; then
			log=$folder/$kernel/machine.log
			printf '1..0 # SKIP %s\n' "$(< "$folder/$kernel/skip")" > "$log.tap"
			account vm "$kernel" "$log" "$log.tap" 0 0
			continue
		fi
		for name in ${names//,/ }; do
			log=$folder/$kernel/$name.log
			if [ -s "$folder/$kernel/$name.result" ]; then
				read -r rc secs < "$folder/$kernel/$name.result"
				account vm "$kernel $name" "$log" "$log" "$rc" "$secs"
			else
				log=$folder/$kernel/machine.log
				account vm "$kernel $name" "$log" /dev/null 0 0 "the machine ended before it"
			fi
		done
	done
}

mkdir -p "$LOGS"
begin=$EPOCHREALTIME
! wanted lint || suite_lint
if wanted unit || wanted sim || wanted net || wanted fault || wanted apps || wanted vm; then
	build normal BUILD="$CMAN_BUILD" all tests
fi
if wanted asan || wanted fuzz; then
	build sanitizers BUILD="$ASAN_BUILD" SAN=1 tests-unit tests-fuzz
fi
if wanted fault || wanted net || { wanted vm && [ "${CMAN_VM_LEVEL:-}" = all ]; }; then
	! compgen -G 'usr/gateway/*.c' > /dev/null ||
		build crash-points BUILD="$CMAN_CRASH_BUILD" CRASH=1 programs tests
fi
if { wanted net || wanted fault || wanted apps || { wanted vm && [ "${CMAN_VM_LEVEL:-}" = all ]; }; } &&
	compgen -G 'usr/manager/*.c' > /dev/null &&
	grep -rqs 'CMAN_NEXT_' --include='*.sh' selftests/net selftests/fault selftests/apps; then
	build next-release BUILD="$CMAN_NEXT_BUILD" VERSION="${NEXT_VERSION:-0.2.0}" programs
fi
! wanted unit || suite_unit unit "$CMAN_BUILD"
! wanted asan || suite_unit asan "$ASAN_BUILD"
! wanted fuzz || suite_fuzz "$ASAN_BUILD"
for s in sim model net fault apps; do
	! wanted $s || suite_shell $s
done
! wanted vm || suite_vm

if [ $((passed + failed + skipped)) = 0 ]; then
	echo "no test was run (SUITES=$SUITES${select:+ T=$select})"
	failed=1
fi
if [ ${#failures[@]} -gt 0 ]; then
	printf '\nfailed:\n'
	printf '  %s\n' "${failures[@]}"
fi
printf '\n%s s\n' "$(elapsed "$begin")"
line="$passed passed, $failed failed"
[ "$skipped" = 0 ] || line+=", $skipped skipped"
echo "$line"
[ "$failed" = 0 ]
