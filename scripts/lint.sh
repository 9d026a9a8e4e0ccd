#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# All checks that need no running: layout (clang-format), a compile with -Werror, cppcheck, shellcheck,
# and the project's own rules (check-layers.sh). Runs every check even after a failure, so that one run
# shows all; the exit status is 1 when any failed.
#
# usage: lint.sh [--fix]      --fix: let clang-format rewrite the sources, nothing else
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

MAKE=${MAKE:-make}
BUILD=${CMAN_BUILD:-build}
bad=0

mapfile -t C_FILES < <(find bpf usr tools selftests -name '*.[ch]' \
	! -name 'vmlinux*.h' 2>/dev/null | sort)
mapfile -t SH_FILES < <(
	find . -path ./.git -prune -o -path ./build -prune -o -path "./${BUILD#./}" -prune -o \
		-name '*.sh' -print -o -path './.ci/*' -type f -print | sed 's|^\./||' | sort
)

if [ "${1-}" = --fix ]; then
	[ ${#C_FILES[@]} = 0 ] || clang-format -i --style=file "${C_FILES[@]}"
	exit
fi

# part NAME COMMAND…: one check; its output only when it failed
part() {
	local name=$1 out rc=0
	shift
	out=$("$@" 2>&1) || rc=$?
	if [ $rc = 0 ]; then
		echo "lint: $name: ok"
	else
		printf '%s\n' "$out"
		echo "lint: $name: FAILED"
		bad=1
	fi
}

format() {
	[ ${#C_FILES[@]} -gt 0 ] || return 0
	clang-format --dry-run -Werror --style=file "${C_FILES[@]}" 2>&1 |
		grep -E 'error|warning' | sed 's/ \[-W.*//' | sort -u > "$BUILD/.format"
	[ -s "$BUILD/.format" ] || return 0
	cut -d: -f1 "$BUILD/.format" | uniq -c | awk '{ print $2 ": " $1 " places" }'
	head -n 30 "$BUILD/.format"
	echo "make format rewrites them"
	return 1
}

werror() {
	"$MAKE" -k BUILD="$BUILD" WERROR=1 all tests
}

# BPF sources and criterion's tests are not C to cppcheck: their macros carry the syntax.
static() {
	local files=() f
	for f in "${C_FILES[@]}"; do
		case $f in bpf/* | selftests/unit/* | *.h) ;; *) files+=("$f") ;; esac
	done
	[ ${#files[@]} -gt 0 ] || return 0
	mkdir -p "$BUILD/cppcheck"
	cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability \
		--inline-suppr --library=scripts/cppcheck.cfg -j 2 --cppcheck-build-dir="$BUILD/cppcheck" --template=gcc \
		--max-configs=4 -I. -Iusr -Iusr/include -D_GNU_SOURCE -D__linux__ \
		'-DCMAN_VERSION="x"' \
		--suppress=missingInclude --suppress=missingIncludeSystem \
		--suppress=unmatchedSuppression --suppress=preprocessorErrorDirective \
		--suppress=normalCheckLevelMaxBranches --suppress=checkersReport \
		--suppress='*:*/gen/*' "${files[@]}"
}

shells() {
	[ ${#SH_FILES[@]} -gt 0 ] || return 0
	shellcheck -x -S warning -P SCRIPTDIR -e SC1091 "${SH_FILES[@]}"
}

mkdir -p "$BUILD"
part "layers and licences" bash scripts/check-layers.sh
part "clang-format" format
part "compile with -Werror" werror
part "cppcheck" static
part "shellcheck" shells
exit $bad
