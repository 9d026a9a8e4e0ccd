/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Relaying in the kernel: two established sockets in sockmaps, and a program that redirects what
 * arrives at one into the send queue of the other (bpf/splice.bpf.c; the maps are described in
 * bpf/cman_maps.h). Kernel: net/core/sock_map.c, net/core/skmsg.c, net/ipv4/tcp_bpf.c.
 *
 *	manager		cman_splice_test()	once: does this kernel deliver exactly once?
 *			cman_splice_create()	load, pin in the instance's folder
 *			cman_splice_open()	for an adopted instance: open the pins
 *	gateway, which has the descriptors and no privilege:
 *			cman_splice_enter()	both legs, nothing in between
 *			cman_splice_end()	takes out the legs whose END bit is set in their slot
 *			cman_splice_forget()	when both are out and what waited has been written
 *
 * Why an iterator takes the legs out: a removal by system call does not lock the socket, and a
 * segment that is being handled at that instant finds no program and is dropped after it was
 * acknowledged (sk_psock_verdict_recv()). And why there are two maps: a leg that is out of
 * splice_run receives as ever, into its own queue, while splice_hold keeps alive what still
 * waits to be written to it.
 *
 * Closing a leg takes it out of the maps; what waits for it is lost then, as with any close.
 */
#ifndef CMAN_SYS_SPLICE_H
#define CMAN_SYS_SPLICE_H

#include "usr/sys/maps.h"

#define CMAN_SPLICE_WHY 160

struct cman_splice {
	int fd[CMAN_SPLICE_FDS]; /* enum cman_splice_fd; -1: none */
};

void cman_splice_init(struct cman_splice *sp);
void cman_splice_fini(struct cman_splice *sp);

/*
 * Loads a copy of the programs, relays between sockets of this process over the loopback
 * device, and has a sender repeat bytes that were delivered already, as the TCP standard allows: each byte
 * must come out once, also when a relay ends in the middle. Takes a few ms and CAP_NET_ADMIN, CAP_BPF,
 * CAP_PERFMON. 0, or -errno and the reason as a clause in @why.
 */
int cman_splice_test(char why[CMAN_SPLICE_WHY]);

/*
 * Loads the programs for the ledger of @maps and pins them in its folder: splice_run, splice_hold,
 * splice_legs, splice_end, prog_splice, prog_splice_gag. 0, or -errno and @why.
 */
int cman_splice_create(const struct cman_maps *maps, struct cman_splice *ret_sp,
		       char why[CMAN_SPLICE_WHY]);
/* -ENOENT: the instance was started without. */
int cman_splice_open(const struct cman_maps *maps, struct cman_splice *ret_sp);

/* One leg of a pair: its descriptor, its cookie, and the cumulative R of what comes from it. */
struct cman_splice_side {
	int fd;
	uint64_t cookie;
	uint64_t base;
};

/*
 * Makes the kernel relay between @side[0] (client) and @side[1] (server) of slot number @slot. Every
 * step may have been done before: a successor calls it again. What has arrived meanwhile
 * is relayed. On failure some steps may have been done: cman_splice_end(), cman_splice_forget().
 */
int cman_splice_enter(const struct cman_splice *sp, uint32_t slot,
		      const struct cman_splice_side side[2]);

/* The entry of a leg. -ENOENT: none. */
int cman_splice_leg(const struct cman_splice *sp, uint64_t cookie, struct cman_splice_leg *ret_leg);

/* One pass over all sockets of the network namespace: about 2 ms. See cman_splice_leg.ended. */
int cman_splice_end(const struct cman_splice *sp);

/* Has the leg look at what came before it was entered. */
int cman_splice_kick(int fd);

/*
 * From now on arriving payload is cut off, as if it had been lost on the way (its sender repeats it),
 * so that what was left to user space can be read to its end; and the opposite. Repeatable.
 */
int cman_splice_gag(const struct cman_splice *sp, int fd, bool on);

/* Removes what is left of both legs in the maps. Missing entries are no error. */
int cman_splice_forget(const struct cman_splice *sp, const uint64_t cookies[2]);

/*
 * For a rescue, once no gateway runs any more: takes the session of @slot, whose legs are @fds, back
 * from the kernel; afterwards it is as any other, with nothing bound. @buffers: the cell's memfd,
 * @own: the slot's buffers in it. About 2 ms, at most @limit_ms. 0; -EAGAIN: its reader is too slow;
 * else -errno: it cannot be continued.
 */
int cman_splice_retire(const struct cman_splice *sp, struct cman_slot *slot, const int fds[2],
		       uint8_t *buffers, const uint32_t own[2], uint32_t limit_ms);

#endif
