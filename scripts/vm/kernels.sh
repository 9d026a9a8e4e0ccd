#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Owns the kernels of the virtual machines: fetches Debian's packages of one with apt-get, unpacks them
# (nothing is installed) into the cache build/vm, and prints that folder. What is there is not fetched again.
# Where the machine has no source for the suite that a kernel is in, the suite is read from the
# archive of the machine's own release, in lists of its own; the machine's apt stays as it is.
#
# usage: vm/kernels.sh X.Y|newest     environment: CMAN_VM_CACHE (build/vm)
#   the folder has: vmlinuz, lib/modules/VERSION, version
#   exit status 77: cannot be fetched here, with the reason on the standard error
set -euo pipefail
cd "$(dirname "$0")/../.."

PATH=$PATH:/usr/sbin:/sbin
kernel=${1-}
cache=$(realpath -m "${CMAN_VM_CACHE:-build/vm}")

# which Debian suites have it, and how the version in the package's name goes
case $kernel in
6.1)		suites='bookworm bookworm-security' version='6\.1\.[0-9]+' ;;
6.12)		suites='bookworm-backports' version='6\.12\.[0-9]+' ;;
newest)		suites='trixie-backports' version='[0-9]+\.[0-9]+\.[0-9]+' ;;
[0-9]*.[0-9]*)	suites='trixie-backports' version="${kernel/./\\.}\\.[0-9]+" ;;
*)		echo "usage: vm/kernels.sh X.Y|newest" >&2; exit 2 ;;
esac

cannot() {
	echo "vm: kernel $kernel: $*" >&2
	exit 77
}

# machine_sources: what apt reads, "URI SUITE COMPONENTS KEY" a line, separated by tabs; a key that is
# in the file itself has its lines joined by "|"
machine_sources() {
	local parts=/etc/apt/sources.list.d f
	for f in /etc/apt/sources.list "$parts"/*.list; do
		[ ! -r "$f" ] || sed 's/#.*//' "$f" | awk '$1 == "deb" {
			key = ""; sub(/^[ \t]*deb[ \t]*/, "")
			if (match($0, /^\[[^]]*\]/)) {
				opt = substr($0, 2, RLENGTH - 2); $0 = substr($0, RLENGTH + 1)
				n = split(opt, o, /[ \t]+/)
				for (i = 1; i <= n; i++)
					if (tolower(o[i]) ~ /^signed-by=/) key = " " substr(o[i], 11)
			}
			comps = $3
			for (i = 4; i <= NF; i++) comps = comps " " $i
			print $1 "\t" $2 "\t" comps "\t" key
		}'
	done
	for f in "$parts"/*.sources; do
		[ ! -r "$f" ] || awk '
		function flush(   u, s, i, j, nu, ns) {
			if (v["types"] ~ /(^| )deb( |$)/ && tolower(v["enabled"]) !~ /no|false|off|0/) {
				nu = split(v["uris"], u, " "); ns = split(v["suites"], s, " ")
				for (i = 1; i <= nu; i++)
					for (j = 1; j <= ns; j++)
						print u[i] "\t" s[j] "\t" v["components"] "\t" v["signed-by"]
			}
			split("", v)
		}
		/^#/ { next }
		/^[ \t]*$/ { flush(); next }
		/^[ \t]/ { v[field] = v[field] (field == "signed-by" ? "|" : "") $0; next }
		{ field = tolower($0); sub(/:.*/, "", field); sub(/^[^:]*:/, ""); v[field] = $0 }
		END { flush() }
		' "$f"
	done
}

# sources_of SUITE…: stanzas for these suites in every archive that has the machine's own release
sources_of() {
	local codename suite base uri have comps key
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
	for suite in "$@"; do
		base=$codename
		case $suite in *-security) base=$codename-security ;; esac
		while IFS=$'\t' read -r uri have comps key; do
			[ "$have" = "$base" ] && [[ " $comps " == *" main "* ]] || continue
			printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$suite"
			[ -z "$key" ] || printf 'Signed-By:%s\n' "$key" | tr '|' '\n'
			echo
		done < <(machine_sources | sort -t $'\t' -u -k1,2)
	done
}

# fetch FOLDER: download into it and unpack
fetch() {
	local dir=$1 apt v p got
	mkdir -p "$dir/apt/sources" "$dir/apt/lists/partial" "$dir/apt/archives/partial" "$dir/root"
	# shellcheck disable=SC2086	# a list of words
	sources_of $suites > "$dir/apt/sources/cman.sources"
	[ -s "$dir/apt/sources/cman.sources" ] || cannot "apt has no archive of this Debian release"
	apt=(-q -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$dir/apt/sources"
		-o "Dir::State::lists=$dir/apt/lists" -o "Dir::Cache=$dir/apt"
		-o APT::Sandbox::User=root -o Acquire::Retries=3 -o Acquire::http::Timeout=20
		-o Acquire::Languages=none -o APT::Architecture=amd64)
	# an archive may lack a suite: what counts is what is found
	apt-get "${apt[@]}" update > "$dir/log" 2>&1 || :
	apt-cache "${apt[@]}" pkgnames linux- > "$dir/names" 2>> "$dir/log" || :
	for v in $(sed -nE "s/^linux-image-(${version}[-+][a-z0-9.]+)-amd64\$/\1/p" "$dir/names" |
		sort -rV | head -n 3); do
		# newer ones come in several packages
		got=()
		for p in linux-image linux-binary linux-modules; do
			! grep -qx "$p-$v-amd64" "$dir/names" || got+=("$p-$v-amd64")
		done
		rm -f "$dir"/*.deb
		(cd "$dir" && apt-get "${apt[@]}" download "${got[@]}" >> log 2>&1) || continue
		unpack "$dir" "$v-amd64" >> "$dir/log" 2>&1 && return 0
	done
	tail -n 15 "$dir/log" >&2
	cannot "no package was fetched"
}

# unpack FOLDER VERSION: lay out what the packages in it have
unpack() {
	local dir=$1 v=$2 deb image
	rm -rf "$dir/root"
	for deb in "$dir"/*.deb; do
		dpkg-deb -x "$deb" "$dir/root" || return 1
	done
	image=$(find "$dir/root" \( -name "vmlinuz-$v" -o -path "*/$v/vmlinuz" \) -type f | head -n 1)
	mkdir -p "$dir/kernel/lib/modules/$v"
	mv "${image:?}" "$dir/kernel/vmlinuz" || return 1
	# the packages may each have a part of it
	find "$dir/root" -type d -path "*/modules/$v" \
		-exec cp -a -t "$dir/kernel/lib/modules/$v" {}/. \; || return 1
	echo "$v" > "$dir/kernel/version"
	depmod -b "$dir/kernel" "$v"
}

done_in=$cache/kernels/$kernel
mkdir -p "$cache/kernels"
exec 9> "$cache/kernels/.lock-$kernel"
flock 9
if [ ! -e "$done_in/version" ]; then
	for c in apt-get dpkg-deb depmod; do
		command -v $c > /dev/null || cannot "no $c"
	done
	[ "$(uname -m)" = x86_64 ] || cannot "only for amd64"
	rm -rf "$cache/kernels/.new-$kernel"
	echo "vm: fetching kernel $kernel" >&2
	trap 'rm -rf "$cache/kernels/.new-$kernel"' EXIT
	fetch "$cache/kernels/.new-$kernel"
	mv "$cache/kernels/.new-$kernel/kernel" "$done_in"
fi
echo "$done_in"
