#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Owns the list of packages that cman needs from Debian 12, and installs what is missing of it.
# Installs without questions, starts no service, makes no database cluster. Where it may not install
# (not root, not Debian) it checks for the commands and libraries themselves and says what is missing.
#
# usage: install-deps.sh build|test|list
#   build  what compiles all programs; test  also what tests, demo and benchmarks use
set -euo pipefail

BUILD_PKGS=(
	build-essential pkg-config clang llvm bpftool libbpf-dev libelf-dev zlib1g-dev
	libmnl-dev libssl-dev libuv1-dev libconfuse-dev libjansson-dev libcap-ng-dev
	libseccomp-dev uthash-dev libsqlite3-dev libcurl4-openssl-dev libmicrohttpd-dev
	libedit-dev python3-docutils
)
TEST_PKGS=(
	libcriterion-dev clang-format cppcheck shellcheck libclang-rt-dev
	iproute2 iputils-ping tcpdump procps util-linux psmisc curl jq socat netcat-openbsd openssl python3
	openssh-client openssh-server postgresql postgresql-contrib redis-server redis-tools
	nginx-light libnginx-mod-stream haproxy spin
	gnutls-bin wget openjdk-17-jre-headless etcd-server etcd-client
	qemu-system-x86 busybox-static cpio kmod xz-utils zstd
)
# what the packages above are needed for, when dpkg cannot be asked
BUILD_CMDS=(gcc make pkg-config clang llvm-strip bpftool)
BUILD_LIBS=(libbpf libelf zlib libmnl libssl libcrypto libuv libconfuse jansson libcap-ng
	libseccomp sqlite3 libcurl libmicrohttpd libedit)
TEST_CMDS=(clang-format cppcheck shellcheck ip ping ss tc tcpdump unshare nsenter setsid ps curl jq socat nc
	openssl python3 ssh sshd redis-server redis-cli nginx haproxy psql spin
	gnutls-cli wget java etcd etcdctl qemu-system-x86_64 busybox cpio modprobe xz zstd)
TEST_LIBS=(criterion)

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
POLICY=/usr/sbin/policy-rc.d
PGCONF=/etc/postgresql-common/createcluster.d

say() { printf 'install-deps: %s\n' "$*" >&2; }

case ${1-} in
build)	pkgs=("${BUILD_PKGS[@]}") cmds=("${BUILD_CMDS[@]}") libs=("${BUILD_LIBS[@]}") ;;
test)	pkgs=("${BUILD_PKGS[@]}" "${TEST_PKGS[@]}")
	cmds=("${BUILD_CMDS[@]}" "${TEST_CMDS[@]}") libs=("${BUILD_LIBS[@]}" "${TEST_LIBS[@]}") ;;
list)	printf '%s\n' "${BUILD_PKGS[@]}" "${TEST_PKGS[@]}"; exit 0 ;;
*)	echo "usage: install-deps.sh build|test|list" >&2; exit 2 ;;
esac

# --- what is missing: by dpkg where there is one, else by the commands and libraries

missing_pkgs() {
	local p
	for p in "${pkgs[@]}"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
			echo "$p"
	done
}

missing_things() {
	local x
	for x in "${cmds[@]}"; do
		command -v "$x" > /dev/null || echo "command $x"
	done
	command -v pkg-config > /dev/null || return 0
	for x in "${libs[@]}"; do
		pkg-config --exists "$x" || echo "library $x"
	done
}

join() { tr '\n' ' ' | sed 's/ $//'; }

give_up_or_go_on() {
	local things
	things=$(missing_things)
	if [ -z "$things" ]; then
		say "$1; all commands and libraries are there: going on"
		exit 0
	fi
	say "$1; missing: $(join <<< "${things//$'\n'/, }")"
	[ -z "${missing-}" ] || say "as root on Debian 12: apt-get install $(join <<< "$missing")"
	exit 1
}

if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
	give_up_or_go_on "this is not a Debian system"
fi
missing=$(missing_pkgs)
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || give_up_or_go_on "not root, cannot install packages"

# --- install: no service is started, no cluster is made, what was put there for this goes again

made_policy='' made_pgconf='' made_pgdir=''
restore() {
	[ -z "$made_policy" ] || rm -f "$POLICY"
	[ -z "$made_pgconf" ] || rm -f "$PGCONF/zz-cman.conf"
	[ -z "$made_pgdir" ] || rmdir "$PGCONF" 2>/dev/null || :
}
trap restore EXIT
trap 'exit 130' INT TERM HUP

if [ ! -e "$POLICY" ]; then
	made_policy=1
	printf '#!/bin/sh\n# temporary: made by install-deps.sh of cman, which removes it\nexit 101\n' > "$POLICY"
	chmod 0755 "$POLICY"
fi
if [ ! -e "$PGCONF/zz-cman.conf" ] && ! dpkg-query -W postgresql-common > /dev/null 2>&1; then
	[ -d "$PGCONF" ] || { made_pgdir=1; mkdir -p "$PGCONF"; }
	made_pgconf=1
	echo 'create_main_cluster = false' > "$PGCONF/zz-cman.conf"
fi

export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l APT_LISTCHANGES_FRONTEND=none
APT=(apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3
	-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
log=$(mktemp)
trap 'restore; rm -f "$log"' EXIT

retry() {
	local n
	for n in 1 2 3 4; do
		"$@" > "$log" 2>&1 && return 0
		[ "$n" = 4 ] || { say "try $n of 4 failed: ${*: -1}"; sleep $((n * 3)); }
	done
	tail -n 25 "$log" >&2
	return 1
}

say "installing $(join <<< "$missing")"
mapfile -t want <<< "$missing"
retry "${APT[@]}" update || say "apt-get update failed: trying with the lists that are there"
if ! retry "${APT[@]}" install --no-install-recommends "${want[@]}"; then
	# one unknown package must not keep the others away
	for p in "${want[@]}"; do
		"${APT[@]}" install --no-install-recommends "$p" > "$log" 2>&1 || say "could not install $p"
	done
fi
missing=$(missing_pkgs)
[ -z "$missing" ] || give_up_or_go_on "not installed: $(join <<< "$missing")"
say "done"
