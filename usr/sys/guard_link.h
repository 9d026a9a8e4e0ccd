/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guard's filters: on which interfaces of the network namespace they belong, and putting them
 * there and taking them away. Used by guard.c only.
 *
 * A filter sits at clsact ingress with the priority CMAN_GUARD_PRIORITY; its handle is the kernel's
 * number of the guard's map `frozen`. So every guard has its own, a successor that takes the map
 * over replaces its predecessor's filters in one step, and a renamed folder of pins changes
 * nothing.
 *
 * Guarded are Ethernet interfaces that hand packets to this host: not lo, not the ports of a bridge
 * or bond (the bridge or bond itself is), not parking devices, and nothing without Ethernet
 * frames (tun, WireGuard, GRE): those are named in a list.
 */
#ifndef CMAN_SYS_GUARD_LINK_H
#define CMAN_SYS_GUARD_LINK_H

#include <stddef.h>
#include <stdint.h>

/* Before CMAN_HOLD_PRIORITY: who is frozen does not get to the other programs. */
#define CMAN_GUARD_PRIORITY 48000

struct cman_guard_filter {
	int prog_fd;
	uint32_t prog_id;
	uint32_t handle;
};

/*
 * Puts the filter on all interfaces that can have it (again is fine), and removes the filters of
 * guards whose owner is dead and of which nothing is in force any more. Names of interfaces that
 * cannot be guarded go to @ret_skipped ("wg0 tun1"; cut when too long). Returns how many are
 * guarded, or -errno.
 */
int cman_guard_link_attach(const struct cman_guard_filter *filter, char *ret_skipped,
			   size_t skipped_size);
/* Takes it away where it is still ours; prog_id 0: whatever program has the handle. */
int cman_guard_link_detach(const struct cman_guard_filter *filter);
/* One program at the ingress of one interface: the parking device's. */
int cman_guard_link_attach_one(const struct cman_guard_filter *filter, uint32_t ifindex);

#endif
