#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Greps the includes and fails the build when a folder uses what it must not know (ARCHITECTURE,
# "direction of dependencies"), and when a file does not say its licence in its first two lines. Each
# violation is one line: FILE:LINE: what is wrong.
#
#   tools -> usr/sys, usr/core;   processes -> usr/tls -> usr/sys -> usr/core -> bpf/cman_maps.h
#
# usage: check-layers.sh [ROOT]
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

# the only system headers of the core: no I/O, no clock
CORE_SYSTEM='assert.h ctype.h errno.h inttypes.h limits.h stdarg.h stdbool.h stdalign.h stddef.h stdint.h
	stdio.h stdlib.h string.h strings.h endian.h byteswap.h linux/types.h netinet/in.h arpa/inet.h
	uthash.h utlist.h utarray.h utstring.h'

files=()
while IFS= read -r f; do
	files+=("$f")
done < <(find bpf usr tools -name '*.[ch]' ! -name 'vmlinux*.h' 2>/dev/null | sort)

bad=0
if [ ${#files[@]} -gt 0 ]; then
	awk -v core_system="$CORE_SYSTEM" '
	function fail(what) { printf "%s:%d: %s\n", FILENAME, FNR, what; bad = 1 }
	BEGIN {
		n = split(core_system, a, /[ \t\n]+/)
		for (i = 1; i <= n; i++)
			core_ok[a[i]] = 1
		# which folders of the project each folder may include (besides itself)
		may["bpf"] = ""
		may["usr/core"] = "usr/include"
		may["usr/sys"] = "usr/core usr/include"
		may["usr/tls"] = "usr/core usr/sys usr/include"
		n = split("manager gateway keeper http coord", a, " ")
		for (i = 1; i <= n; i++)
			may["usr/" a[i]] = "usr/core usr/sys usr/tls usr/include"
		may["tools"] = "usr/core usr/sys usr/include"
		may["usr/include"] = ""
		# a file that may include more
		extra["usr/manager/procs.c", "usr/gateway/gateway.h"] = 1
		extra["usr/manager/procs.c", "usr/keeper/keeper.h"] = 1
		extra["usr/manager/procs.c", "usr/http/http.h"] = 1
	}
	function layer(path) {
		if (path ~ /^bpf\//) return "bpf"
		if (path ~ /^tools\//) return "tools"
		if (match(path, /^usr\/[^\/]+\//)) return substr(path, 1, RLENGTH - 1)
		return ""
	}
	function exists(path,   line, r) {
		if (path in seen)
			return seen[path]
		r = (getline line < path) >= 0
		close(path)
		return seen[path] = r
	}
	# dir/../x -> x
	function tidy(path) {
		gsub(/\/\.\//, "/", path)
		while (path ~ /[^\/]+\/\.\.\//)
			sub(/[^\/]+\/\.\.\//, "", path)
		return path
	}
	# where an include lands: beside the file, at the root, under usr/, under usr/include/
	function resolve(inc, quoted,   dir, p) {
		dir = FILENAME
		sub(/[^\/]*$/, "", dir)
		if (quoted && exists(p = tidy(dir inc))) return p
		if (exists(p = tidy(inc))) return p
		if (exists(p = tidy("usr/" inc))) return p
		if (exists(p = tidy("usr/include/" inc))) return p
		# not there: a library (<bpf/libbpf.h>), or a file of ours that is missing
		return quoted ? tidy(inc) : ""
	}
	FNR == 1 { me = layer(FILENAME) }
	match($0, /^[ \t]*#[ \t]*include[ \t]*["<]/) {
		quoted = substr($0, RLENGTH, 1) == "\""
		inc = substr($0, RLENGTH + 1)
		sub(/[">].*/, "", inc)
		path = resolve(inc, quoted)
		to = layer(path)
		if (to == "") {
			if (me == "usr/core" && quoted && inc !~ /\//)
				fail("\"" inc "\": no such header in usr/core")
			else if (me == "usr/core" && !(inc in core_ok))
				fail("usr/core is pure and must not include <" inc ">")
			else if (me != "usr/sys" && inc ~ /(^|\/)cman\.skel\.h$/)
				fail("only usr/sys may include the BPF skeleton")
			next
		}
		if (to == me)
			next
		if (path == "bpf/cman_maps.h" ||
		    (me == "usr/sys" && (path == "bpf/inspect.h" || path == "bpf/restore.h")))
			next
		if (to == "bpf")
			fail(me " may include of bpf/ only cman_maps.h, not " path)
		else if (!((FILENAME, path) in extra) && index(" " may[me] " ", " " to " ") == 0)
			fail(me " must not include " path)
	}
	END { exit bad }' "${files[@]}" || bad=1
fi

# licences: every source, script and makefile
while IFS= read -r f; do
	head -n 2 "$f" | grep -q 'SPDX-License-Identifier: ' && continue
	echo "$f:1: no SPDX-License-Identifier in the first two lines"
	bad=1
done < <(find . -path ./.git -prune -o -path ./build -prune -o -type f \
	\( -name '*.[ch]' -o -name '*.sh' -o -name '*.bash' -o -name '*.py' -o -name '*.mk' -o \
	-name Makefile -o -path './.ci/*' \) ! -name 'vmlinux*.h' -print | sed 's|^\./||' | sort)

exit $bad
