/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guard: nobody's packet reaches a socket that is being taken apart, and none is lost. While a
 * connection (a "tuple") moves, what comes in for it is parked; afterwards it goes, in order, to the
 * new socket here or to the machine that has the socket now. The data plane is bpf/guard.bpf.c, the
 * maps are in bpf/cman_maps.h.
 *
 * The life of a tuple
 * -------------------
 *
 *	        park()                thaw()                  nothing is parked any more
 *	open ------------> PARK ------------------> DRAIN ------------------------------> open
 *	                    |                       (no entry)
 *	                    |  forward()
 *	                    `-----------> FORWARD ------------------> no entry: drop(), or the lease
 *
 *	PARK     packets are kept, in order: in the parking device, then in memory (pump())
 *	DRAIN    the kept ones go in, oldest first; what comes meanwhile is kept behind them, and the
 *	         first that finds nothing kept goes in directly
 *	FORWARD  the same, but out to another machine on the same Ethernet, and it stays so
 *	LOCAL    is let in, whatever is said of its address (below)
 *
 * An entry has a lease. When it ends, packets pass as if there were no entry, whatever its owner
 * does: a dead owner blocks nothing for long. Until then a closed guard stays closed: when the owner
 * dies, the parking device goes, and what comes is dropped. No packet gets a RST either way.
 *
 * The calls
 * ---------
 *
 *	cman_guard_init()	load; or take over what a dead predecessor has left
 *	cman_guard_attach()	filters on all interfaces; again when there are new interfaces
 *	   poll cman_guard_fd() for reading, as long as the guard lives: cman_guard_pump()
 *
 *	cman_guard_park()	closed when it returns: no CPU has a packet on its way any more
 *	   ... freeze, export, close; import, release ...
 *	cman_guard_thaw()	or cman_guard_forward(), or cman_guard_drop()
 *	   > 0: so many are not empty yet; pump() goes on, cman_guard_draining() tells
 *
 *	cman_guard_fini()	opens everything and removes every trace
 *
 * The descriptor stays in the poll set for good: a packet may have looked at an entry just before it
 * was removed, and arrives later. pump() lets it in.
 *
 * A connection can be guarded when its packets come in by a guarded interface (guard_link.h says
 * which are). Not so those over lo: both ends are on this host, where passing the descriptor is
 * the way. g->skipped names the interfaces that are not.
 *
 * Addresses that move
 * -------------------
 * With cman_guard_address(), for packets that no entry speaks of:
 *
 *	LEAVING   the source, from the start: new connections (SYN, and SYN-ACK for what the target
 *	          has begun) go to the target, with all packets that they send afterwards. Handshakes
 *	          that have begun here end here. Own connects get a LOCAL entry before connect().
 *	GONE      the source, at the end: everything goes to the target (strays)
 *	STAYED    the source, when a move was called off: connections that have begun at the target
 *	          meanwhile go on there, all else is here
 *	ARRIVING  the target: TCP packets that find no socket are dropped; the kernel would answer
 *	          with a RST, and kill what is about to be imported
 *
 * One thread at a time uses a guard. Nothing here waits for the network or for a timer. Needs
 * CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON; with CAP_SYS_ADMIN attach() can also remove filters whose
 * guard is dead and has no pins. All functions return 0 or more, or -errno.
 */
#ifndef CMAN_SYS_GUARD_H
#define CMAN_SYS_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/cman_maps.h"
#include "usr/sys/guard_link.h"
#include "usr/sys/park.h"

/* The lease of an entry that is draining: much longer than it takes. */
#define CMAN_GUARD_DRAIN_MS 2000
/* Frames that one pump() moves at most; the descriptor stays readable when there are more. */
#define CMAN_GUARD_BUDGET 4096
/* Frames of parked tuples in memory, in bytes (cman_guard.held_max). What is above is lost. */
#define CMAN_GUARD_HELD_MAX (256u << 20)

struct cman_guard_session; /* guard.c */

struct cman_guard {
	/* for the caller to read */
	char skipped[256];   /* interfaces without a guard: "wg0 tun1" */
	bool took_over;	     /* init() found the pins of a predecessor */
	size_t held;	     /* bytes of frames in memory */
	uint64_t overflowed; /* frames lost because of held_max, or for lack of memory */
	uint64_t lost;	     /* of those parked, in the unit of cman_frozen.parked_now */
	/* for the caller to set after init() */
	size_t held_max;
	uint32_t epoch; /* of the entries to come; entries of a younger one refuse: -ESTALE */

	/* guard.c's */
	struct cman_park park;
	struct cman_guard_filter ingress, tap;
	struct cman_guard_conf *conf;
	struct cman_guard_cmd *cmd;
	struct cman_guard_session *sessions; /* parked or draining */
	size_t draining;
	void *frame;
	int frozen_fd, moving_fd, begun_fd, conf_fd, cmd_fd, counts_fd, order_fd;
	long cpus;
	char pin_dir[128];
};

/* @arg is cman_guard_each()'s. */
typedef void (*cman_guard_each_fn)(void *arg, const struct cman_tuple *tuple,
				   const struct cman_frozen *entry);

/*
 * Loads the programs, makes the parking device, and pins `frozen`, `moving` and `begun` in @pin_dir, which
 * exists. When they are there already, their owner must be dead: they are taken over with all
 * entries (cman_guard_each() shows them), whose parked frames died with it. -EPROTONOSUPPORT: they
 * are of a release that this one does not know. On failure nothing has changed, and *ret_why is a
 * static sentence.
 */
int cman_guard_init(struct cman_guard *g, const char *pin_dir, const char **ret_why);

/* Returns how many interfaces are guarded. Replaces a predecessor's filters in one step. */
int cman_guard_attach(struct cman_guard *g, const char **ret_why);

/* The folder of pins has this name now. -ENAMETOOLONG. */
int cman_guard_renamed(struct cman_guard *g, const char *pin_dir);

/*
 * Drains all that is frozen, then removes entries, filters, device and pins. Qdiscs stay: others may
 * use them by then.
 */
void cman_guard_fini(struct cman_guard *g);

/*
 * In a child that must not hold the descriptors (the device lives as long as one of them), or to let
 * a successor take over: closes them, changes nothing. Frames that were parked are lost.
 */
void cman_guard_forget(struct cman_guard *g);

/* Readable when pump() has something to do. */
int cman_guard_fd(const struct cman_guard *g);

/*
 * Takes the frames from the parking device: those of open or draining tuples go back to where they
 * came in, those of parked tuples are kept in memory. What the queue could not take is noticed here
 * too, so that no tuple waits for it. Returns how many went back.
 */
int cman_guard_pump(struct cman_guard *g);

/*
 * Closes @n tuples. When it returns 0, no packet of theirs reaches a socket any more, also none that
 * was on its way (one fence, however large @n is). All or none: on failure those made here are
 * open again. -E2BIG: the map is full.
 */
int cman_guard_park(struct cman_guard *g, const struct cman_tuple *tuple, size_t n, uint64_t batch,
		    uint32_t lease_ms);

/* A new lease from now. The first error is returned after all were tried; -ENOENT: no entry. */
int cman_guard_renew(struct cman_guard *g, const struct cman_tuple *tuple, size_t n,
		     uint32_t lease_ms);

/* Opens: DRAIN. Returns how many of all tuples are not open yet: 0 is the usual answer. */
int cman_guard_thaw(struct cman_guard *g, const struct cman_tuple *tuple, size_t n);

/*
 * Like thaw(), but to the machine at @hop, which has the sockets already: otherwise it answers with
 * RST. The entries stay until the lease ends or drop(): renew() them as long as packets come.
 * -ENOENT: there is no entry; the others are forwarded.
 */
int cman_guard_forward(struct cman_guard *g, const struct cman_tuple *tuple, size_t n,
		       const struct cman_guard_hop *hop, uint32_t lease_ms);

/* Own connections of an address that is LEAVING; before connect(). */
int cman_guard_local(struct cman_guard *g, const struct cman_tuple *tuple, size_t n,
		     uint32_t lease_ms);

/* Removes entries; parked frames of theirs are discarded. Those that are not there are fine. */
int cman_guard_drop(struct cman_guard *g, const struct cman_tuple *tuple, size_t n);

/* Tuples that thaw() and forward() have not finished. */
size_t cman_guard_draining(const struct cman_guard *g);

/* Removes expired entries that hold nothing. Returns how many. */
int cman_guard_sweep(struct cman_guard *g);

/*
 * What happens to packets for @addr that no entry speaks of. @hop: not for ARRIVING. Again: a new
 * lease, and what has begun stays so, as long as the hop is the same and the old lease runs.
 */
int cman_guard_address(struct cman_guard *g, const uint8_t addr[16], enum cman_moving_mode mode,
		       const struct cman_guard_hop *hop, uint32_t lease_ms);
/* What is in force (or was, when it has expired). -ENOENT: nothing. */
int cman_guard_address_get(const struct cman_guard *g, const uint8_t addr[16],
			   struct cman_moving *ret);
/* Nothing special any more; fine when there was nothing. */
int cman_guard_address_clear(struct cman_guard *g, const uint8_t addr[16]);

/* All entries, expired ones too. @fn may call nothing of the guard. */
int cman_guard_each(const struct cman_guard *g, cman_guard_each_fn fn, void *arg);
/* Sums over all CPUs. */
int cman_guard_counts(const struct cman_guard *g, struct cman_guard_counts *ret_counts);

/*
 * Every CPU has passed through the scheduler: no packet that was past the guard before is still on
 * its way to a socket. park() does it; also for who has changed an address's mode.
 */
int cman_guard_fence(const struct cman_guard *g);

/*
 * Removes entries from the pinned map of another instance, which is dead: what it had closed is
 * closed and opened by us now. -ENOENT: no such pin.
 */
int cman_guard_open_foreign(const char *pin_dir, const struct cman_tuple *tuple, size_t n);

/*
 * The end of a guard whose owner is dead and has no successor: its entries go (what they had closed is
 * open), its pins, and its filters. -ENOENT: it had no guard.
 */
int cman_guard_bury(const char *pin_dir);

#endif
