/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parking device: a TAP device whose queue holds Ethernet frames until its owner reads them, and
 * whose ingress takes them back. Frames keep what the kernel knows of them (large segments that
 * are still to be cut, checksums that are still to be computed): struct virtio_net_hdr in front of
 * each one (IFF_VNET_HDR, Documentation/networking/tuntap.rst of the kernel).
 *
 *	cman_park_open()	a new device, up, silent: no addresses, no ARP, no IPv6 of its own
 *	cman_park_read()	one frame, or -EAGAIN
 *	cman_park_write()	the frame comes in at the device; what happens there is up to the
 *				program at its ingress
 *	cman_park_close()	the device is gone, with all frames in it
 *
 * The device lives as long as its descriptor: it dies with its owner, and what is redirected to
 * it is dropped from then on. Needs CAP_NET_ADMIN and /dev/net/tun.
 */
#ifndef CMAN_SYS_PARK_H
#define CMAN_SYS_PARK_H

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CMAN_PARK_PREFIX "cmanpark" /* of the device's name; a number follows */
#define CMAN_PARK_QUEUE	 16384	    /* frames; what comes when it is full is lost */
/* The largest: virtio_net_hdr, Ethernet, 64 KiB of IP. */
#define CMAN_PARK_FRAME (10 + 14 + 65536)
/* A frame starts with this many bytes that are not on the wire. */
#define CMAN_PARK_HEADER 10

struct cman_park {
	int fd; /* -1: closed. Non-blocking; readable: a frame is there */
	uint32_t ifindex;
	char name[IF_NAMESIZE];
};

/* 0 or -errno with a static sentence in *ret_why. */
int cman_park_open(struct cman_park *ret_park, const char **ret_why);
void cman_park_close(struct cman_park *park);

/* @size >= CMAN_PARK_FRAME. The frame's length with CMAN_PARK_HEADER, -EAGAIN or another -errno. */
ssize_t cman_park_read(const struct cman_park *park, void *frame, size_t size);
/* 0 or -errno: the frame is lost then. */
int cman_park_write(const struct cman_park *park, const void *frame, size_t length);

#endif
