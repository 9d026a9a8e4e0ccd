/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secret memory of a cell: for each slot of the ledger whose session has TLS, the keys, and how far
 * its records have got. A memfd that all processes of the cell share and the manager maps; locked, not
 * dumped (usr/sys/secret.h). The ledger itself holds no secrets.
 *
 * With the user engine this is what a gateway that dies leaves to its successor. One direction, from
 * leg A to leg B:
 *
 *	A's socket -- recv --> in[] -- open, seal --> out[] -- send --> B's socket
 *
 * The sockets' counters say how much was read and written (usr/core/session.h): in[0] is byte in_base of
 * all that was ever read from A, so R - in_base bytes are in in[]; out[0] is byte out_base of all that is
 * ever written to B, so W - out_base bytes of out[] are out already. What lies between, opening and
 * sealing, has no counter. It is a transaction: input that is used up, output that is there for it, and
 * the numbers of the next records change together or not at all. Two copies of struct cman_tls_commit and
 * one word that says which of them holds: the next one is filled, then that word is stored.
 *
 *	memory is  in_used  ..	bytes that are still to be opened
 *	out[0 .. out_len)	complete, whether sent or not
 *
 * A gateway killed before the store has sent nothing of what it sealed: its successor does the same again,
 * with the same keys and numbers. Killed after it, the successor sends what is in out[]. So no number
 * seals two different records that anybody could see.
 *
 *	cman_tls_slot_begin()	the session begins: zeros, and its id
 *	cman_tls_next()		a copy of what holds, to be changed
 *	cman_tls_commit()	it holds from now on
 *	cman_tls_slot_wipe()	the session ends, or has moved
 *
 * The owner of the slot (usr/core/session.h, bpf/cman_maps.h) is the only writer.
 */
#ifndef CMAN_SYS_TLS_CELL_H
#define CMAN_SYS_TLS_CELL_H

#include <stdbool.h>

#include "bpf/cman_maps.h"
#include "usr/core/tls.h"
#include "usr/core/tls_post.h"

/* Bytes of one direction: several of the longest records, read and written with one call. */
#define CMAN_TLS_IN_SIZE  (96u << 10)
#define CMAN_TLS_OUT_SIZE (80u << 10)

#define CMAN_TLS_RX 0
#define CMAN_TLS_TX 1

struct cman_tls_position {
	uint64_t in_base, out_base;
	uint32_t in_used, out_len;
};

struct cman_tls_number {
	uint64_t seq;
	uint32_t epoch; /* parity: which of the two secrets */
	uint32_t reserved;
};

/* What changes with every record. */
struct cman_tls_commit {
	struct cman_tls_position flow[2];    /* CMAN_UP, CMAN_DOWN */
	struct cman_tls_number number[2][2]; /* [leg][CMAN_TLS_RX, CMAN_TLS_TX] */
	struct cman_tls_post post[2];	     /* [leg]: messages after the handshake */
	uint8_t flags[2];		     /* [leg]: CMAN_TLS_CLOSE_SENT, ... of usr/core/tls.h */
	/* [leg], the kernel's engine: record number[leg][CMAN_TLS_TX].seq is to be a KeyUpdate */
	uint8_t updating[2];
	uint8_t reserved[4];
};

struct cman_tls_slot {
	uint64_t id;		       /* of the session; 0: none */
	uint32_t which;		       /* parity: the commit that holds */
	uint16_t version[2], suite[2]; /* [leg]; 0: no TLS */
	uint8_t engine[2];
	uint8_t reserved[2];
	struct cman_tls_commit commit[2];
	uint64_t explicit_iv[2];
	uint8_t secret[2][2][2][CMAN_TLS_SECRET_MAX]; /* [leg][RX, TX][epoch & 1] */
	char sni[64], alpn[32];			      /* for people; cut if longer */
};

/* Of one cell, with in[] and out[]: sparse, only what is touched occupies memory. */
size_t cman_tls_memory_size(uint32_t nslots);
/*
 * Maps the memfd @fd of a cell as cman_secret_map(): all of it is locked, or, where the limit does not
 * allow that, the slots, which have the keys. 0 or -errno.
 */
int cman_tls_memory_map(int fd, uint32_t nslots, uint8_t **ret);
/* NULL is fine. */
void cman_tls_memory_unmap(uint8_t *memory, uint32_t nslots);
struct cman_tls_slot *cman_tls_slot_at(uint8_t *memory, uint32_t slot);
uint8_t *cman_tls_in(uint8_t *memory, uint32_t nslots, uint32_t slot, int dir);
uint8_t *cman_tls_out(uint8_t *memory, uint32_t nslots, uint32_t slot, int dir);

/*
 * Gives the pages of in[] and out[] back: nothing may be in them. (The slot's own part stays.)
 * @fd: the memfd.
 */
void cman_tls_trim(int fd, uint32_t nslots, uint32_t slot);

void cman_tls_slot_begin(struct cman_tls_slot *t, uint64_t id);
void cman_tls_slot_wipe(struct cman_tls_slot *t);

static inline const struct cman_tls_commit *cman_tls_now(const struct cman_tls_slot *t)
{
	return &t->commit[t->which & 1];
}

/* The other copy, the same as what holds now. */
struct cman_tls_commit *cman_tls_next(struct cman_tls_slot *t);

static inline void cman_tls_commit(struct cman_tls_slot *t)
{
	__atomic_store_n(&t->which, t->which ^ 1, __ATOMIC_RELEASE);
}

/*
 * How many bytes are in in[], used ones too, and how many of out[] are written already, when @read
 * bytes were ever read and @written ever written. 0, or -EILSEQ: it contradicts @p.
 */
int cman_tls_position_look(const struct cman_tls_position *p, uint64_t read, uint64_t written,
			   uint32_t *ret_in_len, uint32_t *ret_sent);

/* A leg as the handshake leaves it. Before the session relays: not a transaction. */
void cman_tls_slot_set_leg(struct cman_tls_slot *t, int leg, const struct cman_tls_leg *from);
/* What holds now, as it moves. The caller wipes it. */
void cman_tls_slot_leg(const struct cman_tls_slot *t, int leg, struct cman_tls_leg *ret);
/* One way of a leg, to derive keys from. The caller wipes it. */
void cman_tls_slot_half(const struct cman_tls_slot *t, int leg, int way, struct cman_tls_half *ret);

/*
 * The whole session, while nothing runs: with the sockets' counters @read and @written (R and W of each
 * direction). flow[].in and .out point into the memory. 0, or -EILSEQ: they contradict it.
 */
int cman_tls_slot_export(uint8_t *memory, uint32_t nslots, uint32_t slot, const uint64_t read[2],
			 const uint64_t written[2], struct cman_tls_session *ret);
/* The reverse, into a slot that nobody uses yet. 0, or -EMSGSIZE: more bytes than there is room for. */
int cman_tls_slot_import(uint8_t *memory, uint32_t nslots, uint32_t slot, uint64_t id,
			 const struct cman_tls_session *from);

#endif
