#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Boots several kernels at once (scripts/vm.sh) and runs in each the tests of selftests/net that are named.
# It judges nothing: scripts/run-tests.sh reads what it leaves in FOLDER/KERNEL, and adds it up:
#   skip         why this kernel cannot be run here
#   NAME.log     what the test printed (TAP);  NAME.result  its exit status and how long it took
#   machine.log  what the machine said
#
# usage: run.sh SECONDS FOLDER KERNEL:NAME[,NAME…]…
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

limit=$1 folder=$2
shift 2
machines=()
stop() {
	local m
	for m in ${machines[@]+"${machines[@]}"}; do
		kill -TERM "$m" 2>/dev/null
	done
	wait
}
trap 'stop; exit 130' INT TERM HUP

for job in "$@"; do
	kernel=${job%%:*} names=${job#*:}
	rm -rf "${folder:?}/$kernel"
	mkdir -p "$folder/$kernel"
	if ! command -v qemu-system-x86_64 > /dev/null; then
		echo "no /dev/kvm and no qemu" > "$folder/$kernel/skip"
		continue
	fi
	rc=0
	scripts/vm.sh --prepare "$kernel" > "$folder/$kernel/machine.log" 2>&1 || rc=$?
	if [ $rc = 77 ]; then
		echo "kernel packages cannot be fetched" > "$folder/$kernel/skip"
		continue
	fi
	scripts/vm.sh -t "$limit" -o "$folder/$kernel" "$kernel" -- \
		bash selftests/vm/inside.sh "${names//,/ }" >> "$folder/$kernel/machine.log" 2>&1 &
	machines+=($!)
done
wait
