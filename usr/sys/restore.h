/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gives imported sockets their speed back: the congestion window, the slow start threshold and (BBR)
 * the pacing rate of the old socket, so that a bulk flow goes on instead of starting slowly. By a
 * congestion control that the socket passes through (bpf/restore.bpf.c): no cgroup and no mark is
 * needed, and nothing stays at the socket.
 *
 *	cman_bulk_import()
 *	cman_restore()       of all or only those that have something to lose
 *	cman_bulk_release()
 *
 * What is not set: the round trip estimate and with it the time-out. The kernel has both right with
 * the first acknowledgement after release(), from the peer's timestamp echo: bytes that were in
 * flight are not timed by when they were imported.
 */
#ifndef CMAN_SYS_RESTORE_H
#define CMAN_SYS_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "cman/repair.h"

struct cman_restore;

/*
 * Registers the congestion control, unless another process of this machine has. CAP_BPF,
 * CAP_PERFMON, CAP_NET_ADMIN. 0 or -errno, with a sentence: the kernel cannot. Sockets then begin
 * with the kernel's initial window.
 */
int cman_restore_open(struct cman_restore **ret, const char **ret_why);
void cman_restore_close(struct cman_restore *restore);

/* What a socket is given. */
struct cman_restore_plan {
	uint32_t cwnd;	      /* segments; 0: there is nothing to give back */
	uint32_t ssthresh;    /* segments; UINT32_MAX: none yet */
	uint64_t pacing_rate; /* bytes a second; 0: the kernel's own */
};

/*
 * What is reasonable: not more than the old socket had, not more than twice (BBR: once, and a few) of
 * what was in flight or what its delivery rate and round trip say the path holds, at most 65534
 * segments.
 */
void cman_restore_plan(const struct cman_repair_image *image, struct cman_restore_plan *ret_plan);

/*
 * For a socket between import and release. 0 and *ret_restored: whether it was given anything. On
 * -errno it is as it was imported, and can be released.
 */
int cman_restore(struct cman_restore *restore, int fd, const struct cman_repair_image *image,
		 bool *ret_restored);

#endif
