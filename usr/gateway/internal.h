/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the gateway share: the loop's private state and who calls whom.
 *
 *	gateway.c  the loop: epoll, ready queue, once-a-second work
 *	accept.c   new sessions: accept, rules, choice of a target, connect and failover
 *	relay.c    moving bytes: pump one direction of one session
 *	close.c    ending a session
 *	pipes.c    the pool of pipes
 *	recover.c  going on from what another gateway left: the only way to start
 *	splice.c   sessions that the kernel relays
 *	tls.c	   sessions with TLS: what all of it shares
 *	tls_shake.c  their handshakes
 *	tls_opening.c  what comes before those in the clear
 *	tls_relay.c  moving bytes through the record engine
 *	tls_kernel.c  the same when the kernel carries the records
 *	orders.c   the manager's mailbox: the gateway's half of a handover
 *
 * Nothing in struct gateway outlives the process, and nothing of a session lives only here: what
 * is private is either derived from the ledger and the sockets, or may be forgotten.
 */
#ifndef CMAN_GATEWAY_INTERNAL_H
#define CMAN_GATEWAY_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "usr/sys/cell.h"
#include "usr/sys/crash.h"
#include "usr/sys/sock.h"
#include "usr/sys/splice.h"
#include "usr/sys/tls_cell.h"
#include "usr/tls/handshake.h"

/* struct live.flags */
#define LIVE_QUEUED	 0x01		 /* in the ready queue */
#define LIVE_OUT(leg)	 (0x02 << (leg)) /* EPOLLOUT is registered for that leg */
#define LIVE_SPLICE(dir) (0x08 << (dir)) /* the direction goes by splice for now */
#define LIVE_TOUCHED	 0x20		 /* pages of the slot's own buffers may be allocated */
#define LIVE_POLLED	 0x40		 /* both legs are in the epoll set */
#define LIVE_NODELAY	 0x80		 /* TCP_NODELAY is set on the server leg */

/* struct live.want */
#define WANT_WATCH 0x80 /* in the list of those that splice.c looks at again */

enum leg {
	LEG_CLIENT = 0,
	LEG_SERVER = 1,
};

/* Private state of a slot. 32 bytes: with the slot's 128 it is all that an idle session costs. */
struct live {
	uint32_t gen;	 /* of the slot's use: tells stale events apart */
	uint32_t off[2]; /* of what is bound: bytes already written */
	uint32_t len[2]; /* of what is bound: bytes still to write */
	uint32_t next;	 /* ready queue, free list */
	union {
		uint16_t tried; /* until it is established: targets whose connect failed (bit mask) */
		uint16_t attempts; /* relayed by the kernel: to take it back, see splice.c */
	};
	uint8_t flags; /* LIVE_* */
	uint8_t want;  /* ready queue: directions to pump (1 << direction); WANT_WATCH */
	union {
		uint32_t since_s; /* CONNECTING: when this attempt began */
		uint32_t turns;	  /* RELAYING: short messages in a row; see splice.c */
	};
};

#define NO_SLOT UINT32_MAX

struct gw_tls;
struct gw_contexts;
struct cman_tls_cipher;

struct gateway {
	struct cman_cell_env *env;
	struct cman_cell *cell;
	struct cman_slot *slots;
	struct cman_instance *instance;
	uint32_t nslots;
	struct live *live; /* [nslots], mmap: untouched pages cost nothing */
	uint32_t free_head;
	uint32_t high; /* slots at and above were never used by this process */
	uint32_t ready_head, ready_tail;
	uint32_t connecting; /* sessions ACCEPTED or CONNECTING */

	bool splice;			/* some service lets the kernel relay */
	uint32_t spliced;		/* sessions that it relays */
	struct cman_splice splice_maps; /* numbers in the cell's table */
	uint32_t *watched;		/* [nslots]: slots to be looked at again */
	uint32_t nwatched;

	uint8_t *scratch;    /* one record's content */
	uint8_t *secret;     /* the cell's secret memory; NULL: no session has needed it yet */
	struct gw_tls **tls; /* [nslots]: NULL: no TLS, or idle */
	uint32_t ntls;	     /* of those, not NULL */
	uint32_t dropped;    /* since the heap was trimmed */
	struct gw_contexts *contexts; /* NULL: not loaded */

	uint32_t *pipe_free; /* numbers of open, clean, unbound pipes */
	uint32_t npipe_free;
	uint32_t pipe_high;  /* numbers at and above were never used */
	uint32_t pipe_limit; /* no more than this are opened */

	int epfd;
	int spare_fd; /* given up to accept and refuse when the table is full */
	uint32_t fd_limit;
	uint64_t now_ns;
	uint32_t now_s;
	uint32_t swept_s; /* last once-a-second pass */
	uint32_t accept_budget, accept_patience;
	uint32_t cursor[CMAN_MAX_SERVICES]; /* round robin */
	bool listening[CMAN_MAX_LISTENERS]; /* in the epoll set */
	bool refused_logged;
};

static inline struct cman_slot *slot_of(struct gateway *g, uint32_t i)
{
	return &g->slots[i];
}

static inline void set_state(struct cman_slot *s, enum cman_slot_state state)
{
	__atomic_store_n(&s->state, (__u8)state, __ATOMIC_RELEASE);
}

static inline void set_bound(struct cman_slot *s, int dir, uint32_t bound)
{
	__atomic_store_n(&s->bound[dir], bound, __ATOMIC_RELEASE);
}

static inline void set_position(struct cman_slot *s, int dir, uint64_t position)
{
	__atomic_store_n(&s->flow[dir].position, position, __ATOMIC_RELEASE);
}

static inline uint8_t *buffer_at(struct gateway *g, uint32_t number)
{
	return g->env->buffers + (size_t)number * CMAN_BUFFER_SIZE;
}

static inline int leg_fd(const struct cman_slot *s, enum leg leg)
{
	return leg == LEG_CLIENT ? s->client_fd : s->server_fd;
}

/* gateway.c */
void gw_queue(struct gateway *g, uint32_t i, unsigned int want);
/* Adds both legs edge-triggered; @out: legs (1 << leg) that want EPOLLOUT too. 0 or -errno. */
int gw_poll_add(struct gateway *g, uint32_t i, unsigned int out);
int gw_poll_leg(struct gateway *g, uint32_t i, enum leg leg, bool out);
void gw_poll_del(struct gateway *g, uint32_t i);
void gw_wait_out(struct gateway *g, uint32_t i, enum leg leg);
uint32_t gw_slot_take(struct gateway *g);
void gw_slot_free(struct gateway *g, uint32_t i);
void gw_listen_sync(struct gateway *g);
void gw_count(struct gateway *g, const struct cman_slot *s, int by);

/* accept.c */
void gw_accept(struct gateway *g, uint32_t listener);
/* Accepts all who wait. */
void gw_drain(struct gateway *g, uint32_t listener);
/* From state ACCEPTED, with no server leg yet: the rules, then connect. May end the session. */
void gw_admit(struct gateway *g, uint32_t i);
/* Chooses a target and connects, from state ACCEPTED or after a failure. May end the session. */
void gw_connect(struct gateway *g, uint32_t i);
/* CONNECTING: the server leg became writable, or an error is pending on it. */
void gw_connected(struct gateway *g, uint32_t i, bool failed);
/* CONNECTING: has the attempt taken too long? */
void gw_connect_check(struct gateway *g, uint32_t i);
/* A pending attempt has failed, by the kernel's word or by the timeout: on to the next target. */
void gw_attempt_failed(struct gateway *g, uint32_t i, int err);
/* The server leg is there: relay. Early data goes out first. @polled: legs are in the epoll set */
void gw_established(struct gateway *g, uint32_t i, bool polled);
/* Closes the server leg of a failed attempt; the state ACCEPTED is stored first. */
void gw_drop_server(struct gateway *g, uint32_t i);
/* Fills the slot of a session whose client leg is @fd. */
void gw_adopt(struct gateway *g, uint32_t i, int fd, uint32_t listener);

/* relay.c: greedy: read until there is no more, even after a short read */
void gw_pump(struct gateway *g, uint32_t i, int dir, bool greedy);
/* Writes what is bound. 0: all is out and unbound. -EAGAIN: the leg is full, the rest is kept in
 * the slot's own buffer or in its pipe. Else the leg is gone. */
int gw_write_bound(struct gateway *g, uint32_t i, int dir);
/* Moves a rest from the hot buffer, which the next pump needs, to the slot's own. */
void gw_keep(struct gateway *g, uint32_t i, int dir);

/* close.c */
void gw_close(struct gateway *g, uint32_t i);
void gw_reset(struct gateway *g, uint32_t i);
/* Both directions have ended and nothing is bound? Then closes. */
bool gw_close_if_ended(struct gateway *g, uint32_t i);
/* From state CLOSING, wherever a predecessor stopped. @sure: it was not a predecessor. */
void gw_finish(struct gateway *g, uint32_t i, bool sure);

/* tls.c */

/*
 * Private state of a session with TLS: handshakes, and ciphers ready for use. While it relays all of it
 * can be made again from the ledger and the secret memory, and is thrown away when it is idle.
 */
struct gw_tls {
	struct cman_tls_handshake *shake[2]; /* [leg]; NULL: not begun, or over */
	bool shaken[2];			     /* over, and its last output is sent */
	bool answered;			     /* the client's ClientHello */
	bool opened[2];			     /* [leg]: nothing in the clear comes any more */
	bool asked;			     /* the client began with an SSLRequest */
	uint32_t cancel; /* bytes of a CancelRequest in in[]: no TLS on either leg */
	struct cman_tls_cipher *cipher[2][2]; /* [leg][CMAN_TLS_RX, CMAN_TLS_TX]; NULL: when needed */
	uint32_t in_len[2];		      /* [direction]: bytes in in[] */
	uint32_t used[2];		      /* until it relays: of those, read by the handshake */
	uint64_t read[2], written[2];	      /* [leg]; until it relays */
	int progress[2];		      /* [leg]: enum cman_tls_progress */
	/* [direction]: a FIN without close_notify, and what was sent is not acknowledged */
	bool truncated[2];
};

/* Does the configuration want TLS on the client leg of that listener, on the server leg of that service? */
bool gw_tls_listener(const struct gateway *g, uint32_t listener);
bool gw_tls_service(const struct gateway *g, uint32_t service);
/* NULL: its credentials are not there (yet). */
struct cman_tls_context *gw_tls_context(struct gateway *g, enum leg leg, uint32_t index);
/* enum cman_tls_engine that its credentials ask for; NONE: auto. */
uint8_t gw_tls_engine(const struct gateway *g, enum leg leg, uint32_t index);
/* enum cman_tls_starttls of the service. */
uint8_t gw_tls_starttls(const struct gateway *g, uint32_t service);
/* Do clients of that listener have to show a certificate? */
bool gw_tls_mutual(const struct gateway *g, uint32_t listener);
/* Does that leg of the session have TLS? */
bool gw_has_tls(const struct cman_slot *s, enum leg leg);
/* A direction ended without close_notify: counted once. */
void gw_tls_truncated(struct gateway *g, uint32_t i, int dir);
/* All from leg A is written: passes the end on to leg B. @truncated: or later, see gw_tls_tick(). */
void gw_tls_end(struct gateway *g, uint32_t i, int dir, bool truncated);
/* Other credentials may be there: contexts are made anew when one is needed. */
void gw_tls_reload(struct gateway *g);
/* NULL: no memory. */
struct gw_tls *gw_tls_get(struct gateway *g, uint32_t i);
struct cman_tls_slot *gw_tls_slot(struct gateway *g, uint32_t i);
/* The secret memory, mapped. 0 or -errno. */
int gw_tls_memory(struct gateway *g);
/* What is private; the session may go on. */
void gw_tls_drop(struct gateway *g, uint32_t i);
/* The session has ended, or moved: nothing of it stays. */
void gw_tls_forget(struct gateway *g, uint32_t i);
/* Once a second. */
void gw_tls_tick(struct gateway *g);

/* tls_shake.c */

/*
 * From ACCEPTED. False: neither leg is to have TLS. Else it goes on from here, to gw_connect() in the end,
 * or has ended.
 */
bool gw_tls_begin(struct gateway *g, uint32_t i);
/* The server leg is there. @polled: legs are in the epoll set. */
void gw_tls_connected(struct gateway *g, uint32_t i, bool polled);
/* ACCEPTED, HANDSHAKE: something came, or there is room. */
void gw_tls_shake(struct gateway *g, uint32_t i);
/* The session is refused: the client is told in TLS, if it has not been answered. */
void gw_tls_refuse(struct gateway *g, uint32_t i);
/* ACCEPTED, CONNECTING or HANDSHAKE, of a predecessor: from the start, or it ends. */
void gw_tls_restart(struct gateway *g, uint32_t i, const struct cman_leg *client);
/* ACCEPTED, HANDSHAKE: has it taken too long? */
void gw_tls_shake_check(struct gateway *g, uint32_t i);

/* tls_opening.c */

/*
 * A leg, before its handshake: DONE: that may begin. HELLO: a CancelRequest has come instead, which
 * is for a target. MORE: it waits. FAILED: the handshake says why.
 */
enum cman_tls_progress gw_tls_open(struct gateway *g, uint32_t i, enum leg leg);
/* Is the target to be asked for TLS before the handshake? */
bool gw_tls_asks_target(const struct gateway *g, uint32_t i);
/* HANDSHAKE, for a CancelRequest: passes it on, and ends the session when the target has. */
void gw_tls_cancel(struct gateway *g, uint32_t i);
/* Has a predecessor answered the client's ClientHello? By the counters, and what is in in[]. */
bool gw_tls_was_answered(struct gateway *g, uint32_t i, const struct cman_leg *client);

/* tls_relay.c: as gw_pump() */
void gw_tls_pump(struct gateway *g, uint32_t i, int dir, bool greedy);
/* One direction, from the counters of both legs: what is in in[] and out[]. 0 or -errno. */
int gw_tls_recover(struct gateway *g, uint32_t i, int dir, const struct cman_leg legs[2]);

/* tls_kernel.c */

/*
 * The handshakes are over and nothing was read since: gives the keys to the kernel, if it takes them and
 * the configuration lets it. 0; -EOPNOTSUPP: the record engine is to do it; else the session cannot go on.
 */
int gw_ktls_attach(struct gateway *g, uint32_t i);
/* As gw_pump(). */
void gw_ktls_pump(struct gateway *g, uint32_t i, int dir);
/* What a predecessor has left of a KeyUpdate. 0 or -errno. */
int gw_ktls_recover(struct gateway *g, uint32_t i);

/* pipes.c */
uint32_t gw_pipe_get(struct gateway *g); /* a clean pipe's number, or NO_SLOT */
void gw_pipe_put(struct gateway *g, uint32_t n);
void gw_pipe_destroy(struct gateway *g, uint32_t n);
/* An empty entry for the manager, marked with a negative tag; or NO_SLOT. */
uint32_t gw_pipe_reserve(struct gateway *g, int32_t tag);
void gw_pipes_recover(struct gateway *g);

/* splice.c */
void gw_splice_start(struct gateway *g);
/* After an event of a session that is relayed here: is it one for the kernel? */
void gw_splice_consider(struct gateway *g, uint32_t i);
void gw_splice_event(struct gateway *g, uint32_t i, enum leg leg, uint32_t events);
/* Those that wait for the kernel to write something. */
void gw_splice_watch(struct gateway *g);
/* Once a second. */
void gw_splice_tick(struct gateway *g);
/* Takes the sessions of an order back from the kernel, as far as its time allows. */
void gw_splice_freeze(struct gateway *g, const struct cman_mailbox *m);
/* The session ends. @sure as in gw_finish(). */
void gw_splice_forget(struct gateway *g, uint32_t i, bool sure);
/* Completes what a predecessor began. 0 or -errno: it cannot be continued. */
int gw_splice_recover(struct gateway *g, uint32_t i);

/* recover.c */
int gw_counters(const struct cman_slot *s, struct cman_leg legs[2]);
void gw_recover(struct gateway *g);
/* One slot, RELAYING (or on its way there): computes what is in between, polls and pumps it. */
void gw_recover_slot(struct gateway *g, uint32_t i);
/* One slot, ACCEPTED or CONNECTING: connects again, or goes on waiting. */
void gw_recover_connecting(struct gateway *g, uint32_t i);
/* Adopts or closes what is open and not in the ledger. */
void gw_sweep(struct gateway *g);

/* orders.c */
void gw_orders(struct gateway *g);

#endif
