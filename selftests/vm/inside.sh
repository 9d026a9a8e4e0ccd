#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Inside of the machine: runs tests of selftests/net one after the other as the file "suites" says, and
# hands out what each printed as soon as it has ended. See run.sh.
#
# usage: inside.sh "NAME NAME…"
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

uname -r > "$CMAN_VM_OUT/release"
while IFS=$'\t' read -r name seconds _ variables; do
	case " $1 " in *" $name "*) ;; *) continue ;; esac
	start=$EPOCHREALTIME rc=0
	# a group of its own, so that what hangs can be ended whole
	(
		IFS=$'\t' read -ra each <<< "$variables"
		[ ${#each[@]} = 0 ] || export "${each[@]?}"
		exec timeout -k 10 "$seconds" "selftests/net/$name.sh"
	) < /dev/null > /tmp/log 2>&1 || rc=$?
	[ $rc != 137 ] || rc=124
	dmesg -c | grep -E -A 20 'BUG:|WARNING:|Oops|Call Trace' | sed 's/^/# kernel: /' >> /tmp/log
	cp /tmp/log "$CMAN_VM_OUT/$name.log"
	awk -v rc=$rc -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%d %.2f\n", rc, b - a }' \
		> "$CMAN_VM_OUT/$name.result"
done < <(sed -E 's/#.*//; s/[ \t]+$//; s/\t+/\t/g; /^$/d' selftests/vm/suites |
	awk -F '\t' -v level="${CMAN_VM_LEVEL:-check}" '
		!($1 in line) { name[n++] = $1 }
		!($1 in line) || $3 == level { line[$1] = $0 }
		END { for (i = 0; i < n; i++) print line[name[i]] }')
