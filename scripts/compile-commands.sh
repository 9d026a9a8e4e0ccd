#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Writes compile_commands.json (for clangd and the like) on stdout: one entry for each source named
# on stdin.
#
# usage: compile-commands.sh OBJDIR COMPILER FLAG... < SOURCES
set -euo pipefail

objdir=$1
shift

quote() {
	local s=${1//\\/\\\\}
	printf '"%s"' "${s//\"/\\\"}"
}

args=
for a in "$@"; do
	args+="$(quote "$a"), "
done
dir=$(quote "$PWD")
sep=
echo '['
while read -r src; do
	[ -n "$src" ] || continue
	printf '%s{ "directory": %s, "file": %s, "arguments": [%s"-c", %s, "-o", %s] }' \
		"$sep" "$dir" "$(quote "$src")" "$args" "$(quote "$src")" \
		"$(quote "$objdir/${src%.c}.o")"
	sep=$',\n'
done
printf '\n]\n'
