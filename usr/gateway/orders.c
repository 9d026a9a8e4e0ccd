/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manager's orders: the gateway's half of a handover, and of reload, close and shutdown. An
 * order that a predecessor began is carried out again from its start: for each slot the state
 * says whether the step has been done already.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "usr/gateway/internal.h"

static int freeze(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	if (s->state == CMAN_SLOT_LEAVING)
		return 0;
	if (s->state != CMAN_SLOT_RELAYING || (s->flags & CMAN_SLOT_SPLICED))
		return -EAGAIN; /* not yet back from the kernel: its reader is slow */
	/* out of the set before it is passed on: epoll fires for the dead number otherwise */
	gw_poll_del(g, i);
	CMAN_CRASH(FREEZE_EPOLL);
	g->live[i].gen++;
	gw_tls_drop(g, i);
	set_state(s, CMAN_SLOT_LEAVING);
	CMAN_CRASH(FREEZE_STATE);
	return 0;
}

static int thaw(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	if (s->state == CMAN_SLOT_RELAYING)
		return 0;
	if (s->state != CMAN_SLOT_LEAVING)
		return -EAGAIN;
	s->batch = 0;
	s->flags &= (__u8)~CMAN_SLOT_REPAIR;
	set_state(s, CMAN_SLOT_RELAYING);
	CMAN_CRASH(THAW_SLOT);
	gw_recover_slot(g, i);
	return 0;
}

/* Ours are duplicates now: closing them is seen by nobody. */
static int release(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	if (s->state != CMAN_SLOT_LEAVING)
		return -EAGAIN;
	gw_count(g, s, -1);
	set_state(s, CMAN_SLOT_CLOSING);
	CMAN_CRASH(RELEASE_CLIENT);
	gw_finish(g, i, false);
	CMAN_CRASH(RELEASE_FREE);
	return 0;
}

static int activate(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	if (s->state == CMAN_SLOT_RELAYING)
		return 0;
	if (s->state != CMAN_SLOT_PREPARED)
		return -EAGAIN;
	gw_count(g, s, 1);
	if (s->flags & CMAN_SLOT_UNCONNECTED) { /* only a rescue brings these */
		s->flags &= (__u8)~CMAN_SLOT_UNCONNECTED;
		set_state(s, s->server_fd > 0 ? CMAN_SLOT_CONNECTING : CMAN_SLOT_ACCEPTED);
		gw_recover_connecting(g, i);
		return 0;
	}
	g->cell->target_sessions[s->service][s->target]++;
	for (int dir = 0; dir < 2; dir++)
		if ((s->bound[dir] & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE)
			g->cell->pipes_open++;
	s->flags &= (__u8)~CMAN_SLOT_REPAIR;
	set_state(s, CMAN_SLOT_RELAYING);
	CMAN_CRASH(ACTIVATE_STATE);
	gw_recover_slot(g, i);
	return 0;
}

static int discard(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	if (s->state != CMAN_SLOT_RESERVED && s->state != CMAN_SLOT_PREPARED)
		return -EAGAIN;
	set_state(s, CMAN_SLOT_CLOSING);
	CMAN_CRASH(DISCARD_SLOT);
	gw_finish(g, i, false);
	return 0;
}

static int end_session(struct gateway *g, uint32_t i, bool reset)
{
	switch (slot_of(g, i)->state) {
	case CMAN_SLOT_ACCEPTED:
	case CMAN_SLOT_CONNECTING:
	case CMAN_SLOT_HANDSHAKE:
	case CMAN_SLOT_RELAYING:
		if (reset)
			gw_reset(g, i);
		else
			gw_close(g, i);
		return 0;
	default:
		return -EAGAIN;
	}
}

static int close_session(struct gateway *g, uint32_t i)
{
	return end_session(g, i, false);
}

/* Slots and pipe entries that carry the tag of a RESERVE are free again. */
static void unreserve(struct gateway *g, uint64_t tag, int32_t pipe_tag)
{
	for (uint32_t i = 0; i < g->high; i++)
		if (slot_of(g, i)->state == CMAN_SLOT_RESERVED && slot_of(g, i)->id == tag)
			gw_slot_free(g, i);
	for (uint32_t n = 0; n < g->pipe_high; n++)
		if (g->env->pipes[n].rfd == pipe_tag)
			g->env->pipes[n].rfd = 0;
}

/*
 * Slots and pipe entries for an import, tagged with the order's number: those of an earlier try at
 * this order are free again, those of other imports are not touched. All or nothing.
 */
static int reserve(struct gateway *g, struct cman_mailbox *m, uint32_t seq)
{
	uint64_t tag = CMAN_RESERVED_ID | seq;
	int32_t pipe_tag = -1 - (int32_t)(seq & 0x3fffffff);

	unreserve(g, tag, pipe_tag);
	if (m->n > CMAN_BATCH || m->npipes > 2 * CMAN_BATCH)
		return -EINVAL;
	if ((g->cell->sessions + m->n) * 2 + (g->cell->pipes_open + m->npipes) * 2 + 64 >=
	    g->fd_limit)
		return -EMFILE;
	for (uint32_t k = 0; k < m->n; k++) {
		m->slot[k] = gw_slot_take(g);
		if (m->slot[k] == NO_SLOT)
			goto full;
		slot_of(g, m->slot[k])->id = tag;
		set_state(slot_of(g, m->slot[k]), CMAN_SLOT_RESERVED);
		CMAN_CRASH(RESERVE_SLOT);
	}
	for (uint32_t k = 0; k < m->npipes; k++) {
		m->pipe[k] = gw_pipe_reserve(g, pipe_tag);
		if (m->pipe[k] == NO_SLOT)
			goto full;
		CMAN_CRASH(RESERVE_PIPE);
	}
	return 0;
full:
	unreserve(g, tag, pipe_tag);
	return -ENOSPC;
}

static void quit(struct gateway *g, bool reset)
{
	for (uint32_t i = 0; i < g->high; i++)
		end_session(g, i, reset);
}

static int each(struct gateway *g, struct cman_mailbox *m,
		int (*order)(struct gateway *g, uint32_t i))
{
	if (m->n > CMAN_BATCH)
		return -EINVAL;
	for (uint32_t k = 0; k < m->n; k++) {
		uint32_t i = m->slot[k];

		if (i >= g->high || slot_of(g, i)->state == CMAN_SLOT_FREE ||
		    slot_of(g, i)->id != m->id[k])
			m->result[k] = -ENOENT;
		else
			m->result[k] = order(g, i);
	}
	return 0;
}

void gw_orders(struct gateway *g)
{
	struct cman_mailbox *m = &g->cell->mailbox;
	uint32_t seq = __atomic_load_n(&m->seq, __ATOMIC_ACQUIRE);
	bool end = false;

	if (seq == m->ack)
		return;
	CMAN_CRASH(ORDER_SEEN);
	switch ((enum cman_order)m->op) {
	case CMAN_ORDER_NONE:
		m->status = 0;
		break;
	case CMAN_ORDER_SYNC:
		gw_tls_reload(g);
		gw_listen_sync(g);
		m->status = 0;
		break;
	case CMAN_ORDER_FREEZE:
		if (g->spliced)
			gw_splice_freeze(g, m);
		m->status = each(g, m, freeze);
		break;
	case CMAN_ORDER_THAW:
		m->status = each(g, m, thaw);
		break;
	case CMAN_ORDER_RELEASE:
		m->status = each(g, m, release);
		break;
	case CMAN_ORDER_RESERVE:
		m->status = reserve(g, m, seq);
		break;
	case CMAN_ORDER_ACTIVATE:
		m->status = each(g, m, activate);
		break;
	case CMAN_ORDER_DISCARD:
		m->status = each(g, m, discard);
		break;
	case CMAN_ORDER_CLOSE:
		m->status = each(g, m, close_session);
		break;
	case CMAN_ORDER_QUIT:
		quit(g, m->n);
		m->status = 0;
		end = true;
		break;
	case CMAN_ORDER_LEAVE:
		m->status = 0;
		end = true;
		break;
	default:
		m->status = -ENOSYS;
	}
	CMAN_CRASH(ORDER_DONE);
	if (end)
		__atomic_store_n(&g->cell->quit, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&m->ack, seq, __ATOMIC_RELEASE);
	CMAN_CRASH(ORDER_ACKED);
	(void)!write(g->cell->done_fd, &(uint64_t){ 1 }, 8);
}
