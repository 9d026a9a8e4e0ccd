#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Writes vmlinux.h, the kernel's types for the BPF programs: from this kernel's BTF, or, where there
# is none, from the trimmed header of the project. Leaves the file alone when its text is the same.
#
# usage: vmlinux.sh BPFTOOL OUTPUT
set -euo pipefail

bpftool=$1
out=$2
btf=${VMLINUX_BTF:-/sys/kernel/btf/vmlinux}
fallback=bpf/vmlinux_min.h

mkdir -p "$(dirname "$out")"
tmp=$(mktemp "$out.XXXXXX")
trap 'rm -f "$tmp"' EXIT

if [ -r "$btf" ] && "$bpftool" btf dump file "$btf" format c > "$tmp" 2> "$tmp.err" && [ -s "$tmp" ]; then
	rm -f "$tmp.err"
elif [ -r "$fallback" ]; then
	echo "  NOTE     no usable kernel BTF ($btf): building BPF with the trimmed header $fallback;" \
	     "loading it needs a kernel with BTF all the same" >&2
	rm -f "$tmp.err"
	cat "$fallback" > "$tmp"
else
	echo "vmlinux.sh: no kernel BTF at $btf and no $fallback" >&2
	[ ! -s "$tmp.err" ] || cat "$tmp.err" >&2
	rm -f "$tmp.err"
	exit 1
fi
chmod 0644 "$tmp"
cmp -s "$tmp" "$out" || cp "$tmp" "$out"
# newer than its stamp, or it would be made again and again
touch "$out"
