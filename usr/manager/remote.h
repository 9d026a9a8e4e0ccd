/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handing services over to an instance in another network namespace or on another host, with their
 * floating addresses, by the repair carrier: what differs from a handover on one host. The state
 * machines, journals and carriers are the same.
 *
 *	source (S)					target (T)
 *	connects to handover_listen (mutual TLS)
 *	OFFER: services, addresses ------------------>	has them configured?
 *	    <-------------------------------- HELLO
 *							holds the addresses, in silence; guard ARRIVING
 *	    <------------- READY: MAC of each address
 *	guard LEAVING: new connections are forwarded
 *	NAMED: ports that are in use ---------------->
 *	    <-------------------------------- NAMED
 *	batches: park -> ... -> COMMITTED: forward
 *	DONE ---------------------------------------->	announces the addresses
 *	    <----------------------------- FINISHED
 *	guard GONE for strays; gives the addresses up
 *
 * Neither can read the other's journal, nor see its death. So T goes live only on COMMIT, and drops what
 * is not live when the channel is lost; S takes back what it has not committed, and for what it has
 * asks T again (RESOLVE), on a new channel, until T answers COMMITTED or DROPPED. selftests/model
 * has this as two_hosts.pml.
 */
#ifndef CMAN_MANAGER_REMOTE_H
#define CMAN_MANAGER_REMOTE_H

#include "usr/manager/manager.h"
#include "usr/sys/guard.h"

struct peer;

/* What moves. The source's and the target's; NULL there: the other one is on this host. */
struct remote {
	struct manager *m;
	char peer[CMAN_NAME_LEN];	       /* as configured here */
	uint8_t boot_id[16];		       /* source: the target's */
	bool service[CMAN_MAX_SERVICES];       /* by index in the maps */
	uint32_t floating[CMAN_MAX_LISTENERS]; /* by index in the configuration */
	uint32_t nfloating;
	/* source: where the addresses go */
	struct cman_guard_hop hop[CMAN_MAX_LISTENERS];
	bool has_hop[CMAN_MAX_LISTENERS];
	struct client *client; /* waits for the report; NULL: gone, or answered */
};

/* ---- floating.c: the floating addresses of the configuration ---- */

/* A start: those that nobody else has are added and announced, unless we are `standby`. */
void floating_start(struct manager *m);
/* The end of an instance that has no successor. */
void floating_stop(struct manager *m);
/* Which one is this? -1: none of ours. */
int floating_index(const struct manager *m, const uint8_t addr[16]);
bool floating_held(struct manager *m, uint32_t i); /* announced, on its interface */
/* On lo, in silence: nobody is told, but who sends to it here is served. 0 or -errno. */
int floating_hold(struct manager *m, uint32_t i);
void floating_let_go(struct manager *m, uint32_t i);  /* the way back */
int floating_announce(struct manager *m, uint32_t i); /* from silence to its interface */
void floating_give_up(struct manager *m, uint32_t i);
/* Interface and MAC by which it is reached here. */
int floating_hop(struct manager *m, uint32_t i, struct cman_guard_hop *ret);

/* ---- remote.c: the channel ---- */

int remote_listen(
	struct manager *m); /* handover_listen, if it is configured; again after a reload */
void remote_close(struct manager *m);
/* `migrate --to`: answers @c with the report, or why not. */
void remote_migrate(struct manager *m, struct client *c, const char *peer, const char *service,
		    uint32_t timeout_s);
/*
 * To whom this instance is just moving sessions, also when its manager has died: false: to nobody.
 * remote_note() writes it down; NULL: it is over.
 */
struct destination {
	char peer[CMAN_NAME_LEN];
	uint8_t boot_id[16]; /* zeros until it has said HELLO */
};
bool remote_moving_to(const struct manager *m, struct destination *ret);
int remote_note(struct manager *m, const struct remote *r);
/* A channel to the configured peer of that name, connecting. 0 or -errno with *ret_why. */
int remote_connect(struct manager *m, const char *peer, struct cman_chan *ret_chan,
		   const char **ret_why);
void remote_offer(struct remote *r, struct peer *p);
/* T: what an offer says, if we have all of it configured too; else NULL, and *why. */
struct remote *remote_take(struct manager *m, const struct cman_frame *f, const char **why);
/* T: takes an offer over, or refuses it. */
void target_offered(struct manager *m, struct cman_chan *chan, const struct cman_frame *f);
/* S: begins, on a channel that is connecting. */
void source_offer(struct manager *m, struct remote *r, struct cman_chan *chan, uint32_t timeout_s);
/* T: what became of a batch: it is dropped if it did not go live. */
enum cman_register target_resolve(struct manager *m, uint64_t batch);
/*
 * S: asks the target of @peer, again and again, what became of a batch that was committed. @done is
 * called once, with LIVE or DROP. A batch is asked about on one connection, whoever wants to know.
 */
void remote_resolve(struct manager *m, const struct destination *to, uint64_t batch,
		    void (*done)(struct manager *m, uint64_t batch, enum cman_register value,
				 void *arg),
		    void *arg);

/* ---- source and target: the effects that differ (remote_move.c) ---- */

/* S: new connections are forwarded from now on. False: they cannot be. */
bool remote_leave(struct remote *r);
void remote_named(struct remote *r, struct peer *p); /* NAMED, with the ports that are in use */
void remote_stay(struct remote *r);		     /* S: the move was broken off */
void remote_gone(struct remote *r);		     /* S: all is over there */
void remote_forget_strays(struct manager *m);	     /* S: nothing is forwarded any more */
bool remote_ready(struct remote *r, const struct cman_frame *f,
		  uint64_t *ret_epoch); /* S: READY came */
const struct cman_guard_hop *remote_hop(const struct remote *r, const uint8_t addr[16]);

bool remote_arrive(struct remote *r); /* T: addresses in silence, guard */
void remote_send_ready(struct remote *r, struct peer *p);
void remote_ports(struct remote *r, const struct cman_frame *f); /* T: NAMED came */
void remote_arrived(struct remote *r);	 /* T: the addresses are ours: announce */
void remote_turn_back(struct remote *r); /* T: nothing came */

#endif
