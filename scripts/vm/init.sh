#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# /init of the virtual machine's initramfs (busybox): loads what 9p needs, makes the root folder out of
# the host's (read-only, by 9p) and a tmpfs that takes what is written, and goes on there with guest.sh.
# If something fails, the kernel panics because init ends, and QEMU ends with it.
set -e
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
while read -r module; do
	insmod "/modules/$module"
done < /modules/order
mkdir -p /host /top /root
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro hostroot /host
mount -t tmpfs -o size=75%,mode=755 top /top
mkdir /top/upper /top/work
mount -t overlay -o lowerdir=/host,upperdir=/top/upper,workdir=/top/work root /root
mount --move /dev /root/dev
mount --move /proc /root/proc
mount -t tmpfs -o mode=755 run /root/run
mkdir /root/run/vm
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none run /root/run/vm
exec switch_root /root /bin/bash /run/vm/guest.sh
