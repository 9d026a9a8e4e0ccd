#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs one command under another kernel: boots it in QEMU (software emulation: KVM is not needed) with the
# host's root folder, read-only by 9p with a tmpfs over it, so that the programs built here run there as
# they are. What the command writes is gone afterwards, except what it puts into the folder of -o. Its output
# (both kinds) is printed as it comes, and its exit status is this one's.
#
# usage: vm.sh [-t SECONDS] [-o FOLDER] [-m MEGABYTES] KERNEL [--] COMMAND [ARGUMENT…]
#        vm.sh --prepare KERNEL      only fetch the kernel; 77 and a reason when it cannot be run here
#   KERNEL    6.1, 6.12, another X.Y of Debian's backports, or newest (see vm/kernels.sh)
#   -t        after so many seconds (600) the machine is switched off: exit status 124
#   -o        visible in there as $CMAN_VM_OUT; slow: write to /tmp, then copy
#   exit status 125: the machine itself failed; the end of its kernel's log is printed
#
# The command starts in the same folder, as root, with lo up and all CMAN_ variables of the environment;
# CMAN_SLOW (8 when not set) says how much longer tests should wait than on a real machine.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
limit=600 out='' megabytes=2048 prepare=''
BOOT_SECONDS=120

usage() {
	sed -n 's/^# \(usage:.*\)/\1/p; s/^#  \( *vm.sh --prep.*\)/ \1/p' "${BASH_SOURCE[0]}" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	-t) limit=${2:?} && shift 2 ;;
	-o) out=$(realpath "${2:?}") && shift 2 ;;
	-m) megabytes=${2:?} && shift 2 ;;
	--prepare) prepare=1 && shift ;;
	-*) usage ;;
	*) break ;;
	esac
done
[ $# -gt 0 ] || usage
kernel=$1
shift
[ "${1-}" != -- ] || shift
[ -n "$prepare" ] || [ $# -gt 0 ] || usage

for c in qemu-system-x86_64 busybox cpio modprobe; do
	command -v $c > /dev/null || { echo "vm: no $c" >&2; exit 77; }
done
rc=0
files=$(cd "$here/.." && bash "$here/vm/kernels.sh" "$kernel") || rc=$?
[ $rc = 0 ] && [ -z "$prepare" ] || exit $rc
release=$(< "$files/version")

run=$(mktemp -d "${TMPDIR:-/tmp}/cman-vm.XXXXXX")
qemu=''
finish() {
	[ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null || :
	rm -rf "$run"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# initramfs FILE: busybox, init, and the modules that it takes to reach the host's root
initramfs() {
	local d=$run/initramfs module
	mkdir -p "$d"/{bin,dev,proc,modules}
	cp "$(command -v busybox)" "$d/bin/busybox"
	ln -s busybox "$d/bin/sh"
	cp "$here/vm/init.sh" "$d/init"
	chmod 755 "$d/init"
	# what is not there is built in; newer packages do not even list that
	for module in virtio_pci 9pnet_virtio 9p overlay; do
		modprobe -q -d "$files" -S "$release" -D $module || :
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' > "$run/modules.list"
	while read -r module; do
		case $module in
		*.xz) xz -dc "$module" ;;
		*.zst) zstd -qdc "$module" ;;
		*) cat "$module" ;;
		esac > "$d/modules/$(basename "$module" | sed 's/\.ko.*/.ko/')"
	done < "$run/modules.list"
	sed 's|.*/||; s/\.ko.*/.ko/' "$run/modules.list" > "$d/modules/order"
	(cd "$d" && find . | cpio --quiet -o -H newc) > "$1"
	rm -rf "$d"
}

initramfs "$run/initrd"
mkdir "$run/shared"
cp "$here/vm/guest.sh" "$run/shared/"
echo "$files/lib/modules/$release" > "$run/shared/modules"
devices=()
mkfifo "$run/output"
{
	printf 'cd %q || exit 125\n' "$PWD"
	for v in ${!CMAN_@}; do
		printf 'export %s=%q\n' "$v" "${!v}"
	done
	printf 'export CMAN_SLOW=%q\n' "${CMAN_SLOW:-8}"
	if [ -n "$out" ]; then
		devices=(-fsdev "local,id=out,path=$out,security_model=none")
		devices+=(-device "virtio-9p-pci,fsdev=out,mount_tag=out")
		echo 'export CMAN_VM_OUT=/run/out'
		echo 'mkdir /run/out'
		echo 'mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none out /run/out || exit 125'
	fi
	printf 'exec'
	printf ' %q' "$@"
	echo
} > "$run/shared/command"

# boot: one run of the machine; 125 when it ends without a status, 124 at the deadline
boot() {
	local deadline=$((SECONDS + limit)) booted=$((SECONDS + BOOT_SECONDS)) rc=125 reader
	# if this shell is killed, QEMU goes too
	setpriv --pdeathsig KILL qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m "$megabytes" \
		-display none -monitor none -no-reboot -nic none -serial "file:$run/console" \
		-kernel "$files/vmlinuz" -initrd "$run/initrd" \
		-append "console=ttyS0 panic=-1 oops=panic quiet no_timer_check" \
		-fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap \
		-device virtio-9p-pci,fsdev=root,mount_tag=hostroot \
		-fsdev "local,id=run,path=$run/shared,security_model=none" \
		-device virtio-9p-pci,fsdev=run,mount_tag=run \
		-chardev "file,id=output,path=$run/output" -device virtio-serial-pci \
		-device virtserialport,chardev=output,name=output \
		${devices[@]+"${devices[@]}"} < /dev/null > "$run/qemu" 2>&1 &
	qemu=$!
	cat "$run/output" &
	reader=$!
	while kill -0 "$qemu" 2>/dev/null; do
		if [ $SECONDS -ge $deadline ]; then
			rc=124
		elif [ $SECONDS -lt $booted ] || [ -e "$run/shared/started" ]; then
			sleep 0.1
			continue
		fi
		kill -KILL "$qemu"
		break
	done
	wait "$qemu" 2>/dev/null || :
	qemu=''
	# a reader that waits for the first writer is let go
	: 1<> "$run/output"
	wait "$reader" || :
	[ $rc = 124 ] || [ ! -s "$run/shared/status" ] || rc=$(< "$run/shared/status")
	return "$rc"
}

boot || rc=$?
if [ ! -e "$run/shared/started" ]; then
	# an emulated machine hangs now and then before anything of ours runs
	echo "vm: kernel $release did not boot: once more" >&2
	rc=0
	boot || rc=$?
fi
case $rc in
124)	echo "vm: kernel $release: stopped after $limit seconds" >&2 ;;
125)	echo "vm: kernel $release: the machine failed" >&2 ;;
*)	exit "$rc" ;;
esac
{
	cat "$run/qemu"
	echo "--- end of its console"
	tr -d '\r' < "$run/console" | tail -n 40
} >&2
exit "$rc"
