#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Process 1 of the virtual machine, on the host's root: mounts what a system has, loads the modules that
# nothing asks for by itself, runs /run/vm/command with its output on a port of the host, leaves the
# exit status in /run/vm/status, and switches the machine off. Everything else that a test needs (veth, bridge,
# sch_ingress, …) is loaded by the kernel when it is used.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

power_off() {
	sync
	echo o > /proc/sysrq-trigger
	sleep 60
}

mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mkdir -p /run/lock /run/netns
ip link set lo up
hostname vm
ulimit -n 20000

# the kernel's modules are in the cache; modprobe looks in /lib/modules
mkdir -p /lib/modules
ln -sfn "$(cat /run/vm/modules)" "/lib/modules/$(uname -r)"
modprobe -a -q virtio_console tun tls tcp_bbr aesni_intel ghash_clmulni_intel gcm ccm \
	chacha20poly1305 poly1305_x86_64 chacha_x86_64

port=(/dev/vport*p*)
if [ ! -c "${port[0]}" ]; then
	echo "vm: no port for the output" > /dev/console
	power_off
fi

# a pipe between: a program may open /dev/stdout again, the port not
mkfifo /run/output
cat < /run/output > "${port[0]}" &
reader=$!
touch /run/vm/started
bash /run/vm/command < /dev/null > /run/output 2>&1
echo $? > /run/status
# what is still running may hold the pipe: its output is not waited for long
for ((i = 0; i < 20; i++)); do
	kill -0 $reader 2>/dev/null || break
	sleep 0.1
done
cp /run/status /run/vm/status
power_off
