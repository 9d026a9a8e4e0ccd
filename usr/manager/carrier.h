/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Carriers: how the sessions of one batch get from the source's gateways into the target's. The
 * shells of the state machines (source.c, target.c) order and count batches; what a batch is made
 * of, and what has to be done to the sockets, is a carrier's business:
 *
 *	fd	carrier_fd.c	  descriptors by SCM_RIGHTS, one kernel and one network namespace
 *	repair	carrier_repair.c  the sessions' state by TCP_REPAIR, as images
 *
 *	source					target
 *	freeze	(gateways have stopped relaying)
 *	pack	---- BATCH | IMAGE..., IMAGES -->	unpack
 *						(reserve slots, keeper takes descriptors, fill: PREPARED)
 *	(COMMIT in the journal)
 *		---- COMMIT --------------------->	wake
 *						(LIVE in the journal)
 *						live
 *						(gateways relay)
 *	release	<--- COMMITTED --------------------
 *	thaw	the way back
 *						discard
 *
 * A function of the source may take its time; it ends with source_frozen(), source_thawed() or
 * source_released(), once (pack() with nothing). Those of the target return when they are done.
 */
#ifndef CMAN_MANAGER_CARRIER_H
#define CMAN_MANAGER_CARRIER_H

#include "usr/manager/manager.h"

struct peer;
struct carrier;

/* A batch at the source, from its freeze until it is released or thawed. id 0: free. */
struct parcel_out {
	struct manager *m;
	const struct carrier *carrier;
	struct peer *peer;
	uint64_t id;
	struct cell *c;
	uint32_t n;
	uint32_t slot[CMAN_BATCH];
	uint64_t session[CMAN_BATCH];
	struct cman_slot copy[CMAN_BATCH]; /* checked: the gateway could still write the slot */
	uint64_t frozen_ns;
	uint64_t in_flight; /* bytes between the legs, where the carrier knows */
	struct order order;
	struct keeper_request request;
	struct cargo *cargo; /* the carrier's own; NULL: nothing */
};

/* A batch at the target, from its arrival until it is activated or discarded. id 0: free. */
struct parcel_in {
	struct manager *m;
	const struct carrier *carrier;
	struct peer *peer;
	uint64_t id;
	struct cell *c;
	uint32_t n, npipes;
	uint64_t frozen_ns;
	uint64_t in_flight; /* bytes between the legs */
	uint8_t *data;	    /* what came: the sessions point into it */
	uint8_t *secret;    /* the same of their TLS, where it came by itself; mapped */
	size_t secret_len;
	struct cman_wire_session session[CMAN_BATCH];
	/* of each session: client, server, then for each pipe[dir] its read end and write end */
	int fds[CMAN_FRAME_MAX_FDS];
	unsigned int nfds;
	uint32_t slot[CMAN_BATCH];
	uint32_t pipe[2 * CMAN_BATCH];
	struct order order;
	struct keeper_request take;
	bool importing;
	struct cargo *cargo; /* the carrier's own; NULL: nothing */
};

struct carrier {
	const char *name;
	enum cman_carrier_choice choice;
	uint32_t batch;	    /* sessions; each costs the others of its batch silence */
	uint8_t slot_flags; /* of the slots of a batch, until they relay */
	void (*freeze)(struct parcel_out *p);
	void (*pack)(struct parcel_out *p);
	void (*thaw)(struct parcel_out *p);
	void (*release)(struct parcel_out *p);
	/* Fills @session, @n, @npipes, @fds. Not 0: nothing is left of it, and *why says why. */
	int (*unpack)(struct parcel_in *p, const struct cman_frame *f, int *fds, const char **why);
	void (*wake)(struct parcel_in *p);
	void (*live)(struct parcel_in *p); /* LIVE is in the journal */
	/* Before the slots are given back; and after activation, for what the parcel still has. */
	void (*discard)(struct parcel_in *p);
	void (*forget)(struct parcel_in *p);
};

extern const struct carrier carrier_fd, carrier_repair;

/* ---- for carriers: source.c ---- */

void source_frozen(struct parcel_out *p);      /* p->n sessions, perhaps 0 */
void source_pack_failed(struct parcel_out *p); /* the cell is gone: the peer is given up */
void source_thawed(struct parcel_out *p);
void source_released(struct parcel_out *p);
/* A session that @p cannot take along: it relays on where it is. @stays: do not try it again. */
void source_excuse(struct parcel_out *p, uint32_t k, const char *reason, bool stays);
/* Takes entry @k out of the parcel. */
void parcel_remove(struct parcel_out *p, uint32_t k);
/* An order to the parcel's gateway for all its slots. */
void parcel_order(struct parcel_out *p, enum cman_order op,
		  void (*done)(struct order *o, void *arg));
/* Asks the keeper for what the parcel's sessions have, in the order of parcel_in.fds. */
void parcel_give(struct parcel_out *p, void (*done)(struct keeper_request *r, void *arg));
/* How many descriptors a slot has; their numbers. */
uint32_t parcel_numbers(const struct cell *c, const struct cman_slot *slot, uint32_t numbers[6]);
/* The fields of entry @k but for what lies between the legs. Names point into the maps. */
void parcel_describe(const struct parcel_out *p, uint32_t k, int server_fd,
		     struct cman_wire_session *ret);

#endif
