/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layout of a cell's secret memory, and a session's way into and out of it: see tls_cell.h.
 */
#include "usr/sys/tls_cell.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "usr/sys/secret.h"

#define PAGE 4096u
#define EACH (2u * (CMAN_TLS_IN_SIZE + CMAN_TLS_OUT_SIZE))

static_assert(sizeof(struct cman_tls_slot) <= 1024, "an idle session is to cost at most 1 KB");
static_assert(sizeof(struct cman_tls_slot) % 8 == 0, "alignment");
static_assert(CMAN_TLS_IN_SIZE % PAGE == 0 && CMAN_TLS_OUT_SIZE % PAGE == 0, "whole pages");

/* All slots, in whole pages; then the buffers of each. */
static size_t table_size(uint32_t nslots)
{
	return (nslots * sizeof(struct cman_tls_slot) + PAGE - 1) / PAGE * PAGE;
}

size_t cman_tls_memory_size(uint32_t nslots)
{
	return table_size(nslots) + (size_t)nslots * EACH;
}

int cman_tls_memory_map(int fd, uint32_t nslots, uint8_t **ret)
{
	void *p;
	int err = cman_secret_map(fd, cman_tls_memory_size(nslots), table_size(nslots), &p);

	if (!err)
		*ret = p;
	return err;
}

void cman_tls_memory_unmap(uint8_t *memory, uint32_t nslots)
{
	cman_secret_unmap(memory, cman_tls_memory_size(nslots));
}

struct cman_tls_slot *cman_tls_slot_at(uint8_t *memory, uint32_t slot)
{
	return (struct cman_tls_slot *)(void *)memory + slot;
}

uint8_t *cman_tls_in(uint8_t *memory, uint32_t nslots, uint32_t slot, int dir)
{
	return memory + table_size(nslots) + (size_t)slot * EACH +
	       (dir ? CMAN_TLS_IN_SIZE + CMAN_TLS_OUT_SIZE : 0);
}

uint8_t *cman_tls_out(uint8_t *memory, uint32_t nslots, uint32_t slot, int dir)
{
	return cman_tls_in(memory, nslots, slot, dir) + CMAN_TLS_IN_SIZE;
}

void cman_tls_trim(int fd, uint32_t nslots, uint32_t slot)
{
	cman_secret_punch(fd, table_size(nslots) + (size_t)slot * EACH, EACH);
}

void cman_tls_slot_begin(struct cman_tls_slot *t, uint64_t id)
{
	cman_secret_wipe(t, sizeof(*t));
	t->id = id;
}

void cman_tls_slot_wipe(struct cman_tls_slot *t)
{
	cman_secret_wipe(t, sizeof(*t));
}

struct cman_tls_commit *cman_tls_next(struct cman_tls_slot *t)
{
	struct cman_tls_commit *next = &t->commit[~t->which & 1];

	*next = *cman_tls_now(t);
	return next;
}

static void set_half(struct cman_tls_slot *t, int leg, int way, const struct cman_tls_half *half)
{
	struct cman_tls_number *n = &t->commit[t->which & 1].number[leg][way];

	n->seq = half->seq;
	n->epoch = half->epoch;
	memcpy(t->secret[leg][way][half->epoch & 1], half->secret, sizeof(half->secret));
	if (way == CMAN_TLS_TX)
		t->explicit_iv[leg] = half->explicit_iv;
}

void cman_tls_slot_set_leg(struct cman_tls_slot *t, int leg, const struct cman_tls_leg *from)
{
	t->version[leg] = from->version;
	t->suite[leg] = from->suite;
	t->engine[leg] = from->engine;
	t->commit[t->which & 1].flags[leg] = from->flags;
	t->commit[t->which & 1].post[leg] = from->post;
	set_half(t, leg, CMAN_TLS_RX, &from->rx);
	set_half(t, leg, CMAN_TLS_TX, &from->tx);
}

void cman_tls_slot_half(const struct cman_tls_slot *t, int leg, int way, struct cman_tls_half *ret)
{
	const struct cman_tls_number *n = &cman_tls_now(t)->number[leg][way];

	memset(ret, 0, sizeof(*ret));
	ret->seq = n->seq;
	ret->epoch = n->epoch;
	memcpy(ret->secret, t->secret[leg][way][n->epoch & 1], sizeof(ret->secret));
	if (way == CMAN_TLS_TX)
		ret->explicit_iv = t->explicit_iv[leg];
}

void cman_tls_slot_leg(const struct cman_tls_slot *t, int leg, struct cman_tls_leg *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (!t->engine[leg])
		return;
	ret->version = t->version[leg];
	ret->suite = t->suite[leg];
	ret->engine = t->engine[leg];
	ret->flags = cman_tls_now(t)->flags[leg];
	ret->post = cman_tls_now(t)->post[leg];
	cman_tls_slot_half(t, leg, CMAN_TLS_RX, &ret->rx);
	cman_tls_slot_half(t, leg, CMAN_TLS_TX, &ret->tx);
}

int cman_tls_position_look(const struct cman_tls_position *p, uint64_t read, uint64_t written,
			   uint32_t *ret_in_len, uint32_t *ret_sent)
{
	uint64_t in_len = read - p->in_base, sent = written - p->out_base;

	if (p->in_used > CMAN_TLS_IN_SIZE || p->out_len > CMAN_TLS_OUT_SIZE ||
	    in_len > CMAN_TLS_IN_SIZE || in_len < p->in_used || sent > p->out_len)
		return -EILSEQ;
	*ret_in_len = (uint32_t)in_len;
	*ret_sent = (uint32_t)sent;
	return 0;
}

int cman_tls_slot_export(uint8_t *memory, uint32_t nslots, uint32_t slot, const uint64_t read[2],
			 const uint64_t written[2], struct cman_tls_session *ret)
{
	const struct cman_tls_slot *t = cman_tls_slot_at(memory, slot);
	const struct cman_tls_commit *now = cman_tls_now(t);

	memset(ret, 0, sizeof(*ret));
	for (int leg = 0; leg < 2; leg++)
		cman_tls_slot_leg(t, leg, &ret->leg[leg]);
	memcpy(ret->sni, t->sni, strnlen(t->sni, sizeof(t->sni)));
	memcpy(ret->alpn, t->alpn, strnlen(t->alpn, sizeof(t->alpn)));
	/* with the kernel's engine nothing is here: sockets and pipes have it */
	if (t->engine[0] == CMAN_TLS_KERNEL || t->engine[1] == CMAN_TLS_KERNEL)
		return 0;
	for (int dir = 0; dir < 2; dir++) {
		const struct cman_tls_position *p = &now->flow[dir];
		struct cman_tls_flow *flow = &ret->flow[dir];
		uint32_t in_len, sent;
		int err = cman_tls_position_look(p, read[dir], written[dir], &in_len, &sent);

		if (err)
			return err;
		flow->in = cman_tls_in(memory, nslots, slot, dir) + p->in_used;
		flow->in_len = in_len - p->in_used;
		flow->in_base = p->in_base + p->in_used;
		flow->out = cman_tls_out(memory, nslots, slot, dir) + sent;
		flow->out_len = p->out_len - sent;
		flow->out_base = written[dir];
	}
	return 0;
}

int cman_tls_slot_import(uint8_t *memory, uint32_t nslots, uint32_t slot, uint64_t id,
			 const struct cman_tls_session *from)
{
	struct cman_tls_slot *t = cman_tls_slot_at(memory, slot);

	for (int dir = 0; dir < 2; dir++)
		if (from->flow[dir].in_len > CMAN_TLS_IN_SIZE ||
		    from->flow[dir].out_len > CMAN_TLS_OUT_SIZE)
			return -EMSGSIZE;
	cman_tls_slot_begin(t, id);
	for (int leg = 0; leg < 2; leg++)
		if (from->leg[leg].engine)
			cman_tls_slot_set_leg(t, leg, &from->leg[leg]);
	memcpy(t->sni, from->sni, strnlen(from->sni, sizeof(t->sni) - 1));
	memcpy(t->alpn, from->alpn, strnlen(from->alpn, sizeof(t->alpn) - 1));
	for (int dir = 0; dir < 2; dir++) {
		const struct cman_tls_flow *flow = &from->flow[dir];
		struct cman_tls_position *p = &t->commit[t->which & 1].flow[dir];

		p->in_base = flow->in_base;
		p->out_base = flow->out_base;
		p->out_len = flow->out_len;
		if (flow->in_len)
			memcpy(cman_tls_in(memory, nslots, slot, dir), flow->in, flow->in_len);
		if (flow->out_len)
			memcpy(cman_tls_out(memory, nslots, slot, dir), flow->out, flow->out_len);
	}
	return 0;
}
