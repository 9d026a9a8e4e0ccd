/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The target's half of the handover (handover.h): takes the listeners, the name and then the
 * sessions. It stays silent until the commit: an imported batch relays nothing before this side won
 * LIVE in its own register. What each state does with each event is in Documentation/handover.rst,
 * and as golden traces in selftests/unit/test_handover.c.
 */
#include <errno.h>
#include <string.h>

#include "usr/core/handover_impl.h"

#define EV_FRAMES  (CMAN_EV(BATCH) | CMAN_EV(COMMIT) | CMAN_EV(ABORT) | CMAN_EV(DONE))
#define EV_RESULTS (CMAN_EV(IMPORTED) | CMAN_EV(DECIDED) | CMAN_EV(ACTIVATED) | CMAN_EV(DISCARDED))
#define EV_START   (CMAN_EV(STARTED) | CMAN_EV(NAME_TAKEN))
#define EV_ALWAYS  (CMAN_EV(PEER_LOST) | CMAN_EV(TIMEOUT))

static const uint32_t allowed[] = {
	[CMAN_HO_HELLO] = EV_ALWAYS | CMAN_EV(HELLO) | CMAN_EV(CANCEL),
	/* batches before NAME_TAKEN would only wait here, but are no error */
	[CMAN_HO_STARTING] = EV_ALWAYS | EV_START | EV_FRAMES | EV_RESULTS | CMAN_EV(NAMED) |
			     CMAN_EV(CANCEL),
	[CMAN_HO_MOVING] = EV_ALWAYS | EV_FRAMES | EV_RESULTS | CMAN_EV(CANCEL),
	[CMAN_HO_CANCELLED] = EV_ALWAYS | EV_START | EV_FRAMES | EV_RESULTS | CMAN_EV(NAMED) |
			      CMAN_EV(CANCEL),
	[CMAN_HO_DONE] = EV_ALWAYS | EV_RESULTS | CMAN_EV(NAME_TAKEN) | CMAN_EV(COMMIT) |
			 CMAN_EV(ABORT) | CMAN_EV(BATCH),
	[CMAN_HO_BROKEN] = EV_ALWAYS | EV_START | EV_RESULTS,
	[CMAN_HO_OVER] = EV_ALWAYS | CMAN_EV(CANCEL), /* may still be on its way */
};

void cman_target_init(struct cman_handover *h)
{
	memset(h, 0, sizeof(*h));
	h->window = CMAN_HANDOVER_WINDOW;
}

/* --- tombstones: the ids of all batches that are live or dropped here */

/* More than any window of the source, less than the ring holds: every id in between is in it. */
#define OLDEST (CMAN_TOMBSTONES / 2)

static const struct cman_tombstone *tombstone(const struct cman_handover *h, uint64_t id)
{
	unsigned int n = h->ntombstones < CMAN_TOMBSTONES ? h->ntombstones : CMAN_TOMBSTONES;

	for (unsigned int i = 0; i < n; i++)
		if (h->tombstone[i].id == id)
			return &h->tombstone[i];
	return NULL;
}

static void bury(struct cman_handover *h, uint64_t id, bool live)
{
	h->tombstone[h->ntombstones++ % CMAN_TOMBSTONES] = (struct cman_tombstone){ .id = id,
										    .live = live };
}

/* Number 0 is no batch; all ids of one handover have one epoch, and come nearly in order. */
static bool id_plausible(const struct cman_handover *h, uint64_t id)
{
	return (uint32_t)id && (!h->highest || (id >> 32 == h->epoch && id + OLDEST > h->highest));
}

static void id_seen(struct cman_handover *h, uint64_t id)
{
	h->epoch = id >> 32;
	if (id > h->highest)
		h->highest = id;
}

/* --- one batch */

static void journal(const struct cman_batch *b, struct cman_effects *out, enum cman_register value)
{
	struct cman_effect *e = cman_emit(out, CMAN_EF_JOURNAL, b->id);

	e->value = value;
	e->count = b->count;
}

static void decide(struct cman_batch *b, struct cman_effects *out, enum cman_register want)
{
	b->state = CMAN_BATCH_PEND;
	b->want = want;
	cman_emit_value(out, CMAN_EF_DECIDE, b->id, want);
}

static void discard(struct cman_batch *b, struct cman_effects *out)
{
	b->state = CMAN_BATCH_DISCARD;
	cman_emit(out, CMAN_EF_DISCARD, b->id);
}

static void drop(struct cman_batch *b, struct cman_effects *out)
{
	journal(b, out, CMAN_REG_DROP);
	discard(b, out);
}

static void answer(struct cman_handover *h, struct cman_effects *out, enum cman_frame_type type,
		   uint64_t id)
{
	if (!h->peer_lost)
		cman_emit_send(out, type, id);
}

/* The batch is over here: live, or dropped. */
static void finish(struct cman_handover *h, struct cman_batch *b, struct cman_effects *out,
		   bool live, enum cman_frame_type type)
{
	bury(h, b->id, live);
	if (live)
		h->moved += b->count;
	else
		h->failed += b->count;
	answer(h, out, type, b->id);
	*b = (struct cman_batch){ 0 };
}

/* --- the whole */

static void settle(struct cman_handover *h, struct cman_effects *out)
{
	if (h->busy || cman_handover_in_flight(h))
		return;
	if (h->phase == CMAN_HO_BROKEN) {
		if (h->peer_dead)
			cman_emit(out, CMAN_EF_RESCUE, 0);
		cman_emit_over(h, out, false);
	} else if (h->phase == CMAN_HO_CANCELLED && !h->named && (h->cancel_seen || !h->ready)) {
		cman_emit_over(h, out, false);
	} else if (h->phase == CMAN_HO_DONE) {
		cman_emit_send(out, CMAN_FRAME_FINISHED, 0);
		if (!h->rollback) {
			cman_emit_over(h, out, true);
			return;
		}
		h->phase = CMAN_HO_OVER;
		cman_emit(out, CMAN_EF_SWAP_ROLES, 0);
	}
}

static void cancel(struct cman_handover *h, struct cman_effects *out, bool rollback, bool tell)
{
	if (tell)
		cman_emit_cancel(h, out, rollback);
	else
		h->cancel_seen = true;
	h->rollback |= rollback;
	if (h->phase == CMAN_HO_HELLO) {
		cman_emit_over(h, out, false);
		return;
	}
	if (h->phase != CMAN_HO_DONE)
		h->phase = CMAN_HO_CANCELLED;
	settle(h, out);
}

/* STARTED, NAMED, NAME_TAKEN */
static int name(struct cman_handover *h, const struct cman_event *ev, struct cman_effects *out)
{
	if (ev->type == CMAN_EV_NAMED) {
		if (!h->ready || h->named)
			return -EPROTO;
		h->named = true;
		h->busy = true;
		cman_emit(out, CMAN_EF_TAKE_NAME, 0);
		return 0;
	}
	if (!h->busy || h->named != (ev->type == CMAN_EV_NAME_TAKEN))
		return -EPROTO;
	h->busy = false;
	if (h->phase == CMAN_HO_BROKEN) {
		settle(h, out);
	} else if (!ev->ok) {
		/* without gateways: nothing happened; without the name: everything goes back */
		cancel(h, out, h->named, true);
	} else if (h->phase == CMAN_HO_STARTING && ev->type == CMAN_EV_STARTED) {
		h->ready = true;
		cman_emit_send(out, CMAN_FRAME_READY, 0);
	} else if (h->phase == CMAN_HO_STARTING) {
		h->phase = CMAN_HO_MOVING;
		cman_emit_send(out, CMAN_FRAME_NAMED, 0);
	} else {
		settle(h, out);
	}
	return 0;
}

static void peer_lost(struct cman_handover *h, struct cman_effects *out, bool dead)
{
	bool first = !h->peer_lost, late = dead && !h->peer_dead;

	if (h->phase == CMAN_HO_OVER) {
		if (h->peer_lost && h->named && late) {
			h->peer_dead = true;
			cman_emit(out, CMAN_EF_RESCUE, 0);
		}
		return;
	}
	h->peer_lost = true;
	h->peer_dead |= dead;
	h->phase = CMAN_HO_BROKEN;
	for (unsigned int i = 0; first && i < h->window; i++) {
		if (h->batch[i].state == CMAN_BATCH_IMPORT)
			h->batch[i].doomed = true;
		else if (h->batch[i].state == CMAN_BATCH_PREP)
			decide(&h->batch[i], out, CMAN_REG_TAKE);
	}
	settle(h, out);
}

static int batch(struct cman_handover *h, const struct cman_event *ev, struct cman_effects *out)
{
	struct cman_batch *b = cman_batch_find(h, ev->id);
	const struct cman_tombstone *t = tombstone(h, ev->id);

	if (b) {
		if (b->state == CMAN_BATCH_PREP)
			cman_emit_send(out, CMAN_FRAME_PREPARED, ev->id);
		return 0;
	}
	if (t) {
		cman_emit_send(out, t->live ? CMAN_FRAME_COMMITTED : CMAN_FRAME_DROPPED, ev->id);
		return 0;
	}
	b = cman_batch_find(h, 0);
	if (!b || !ev->count || h->phase == CMAN_HO_DONE)
		return -EPROTO;
	id_seen(h, ev->id);
	*b = (struct cman_batch){ .id = ev->id, .count = ev->count, .state = CMAN_BATCH_IMPORT };
	cman_emit(out, CMAN_EF_IMPORT, ev->id)->count = ev->count;
	return 0;
}

/* COMMIT, ABORT */
static int verdict(struct cman_handover *h, const struct cman_event *ev, struct cman_effects *out)
{
	struct cman_batch *b = cman_batch_find(h, ev->id);
	const struct cman_tombstone *t = tombstone(h, ev->id);

	if (t) {
		cman_emit_send(out, t->live ? CMAN_FRAME_COMMITTED : CMAN_FRAME_DROPPED, ev->id);
	} else if (!b && ev->type == CMAN_EV_COMMIT) {
		return -EPROTO;
	} else if (!b) { /* presumed abort: it must not be imported when it comes after all */
		id_seen(h, ev->id);
		bury(h, ev->id, false);
		cman_emit_value(out, CMAN_EF_JOURNAL, ev->id, CMAN_REG_DROP);
		cman_emit_send(out, CMAN_FRAME_DROPPED, ev->id);
	} else if (b->state == CMAN_BATCH_IMPORT) {
		*(ev->type == CMAN_EV_COMMIT ? &b->committed : &b->doomed) = true;
	} else if (b->state == CMAN_BATCH_PREP) {
		if (ev->type == CMAN_EV_COMMIT)
			decide(b, out, CMAN_REG_LIVE);
		else
			drop(b, out);
	}
	return 0; /* else it was acted upon already: the answer follows */
}

static int result(struct cman_handover *h, const struct cman_event *ev, struct cman_effects *out)
{
	static const enum cman_batch_state expected[] = {
		[CMAN_EV_IMPORTED] = CMAN_BATCH_IMPORT,
		[CMAN_EV_DECIDED] = CMAN_BATCH_PEND,
		[CMAN_EV_ACTIVATED] = CMAN_BATCH_ACTIVE,
		[CMAN_EV_DISCARDED] = CMAN_BATCH_DISCARD,
	};
	struct cman_batch *b = ev->id ? cman_batch_find(h, ev->id) : NULL;

	if (!b || b->state != expected[ev->type])
		return -EPROTO;
	switch (ev->type) {
	case CMAN_EV_IMPORTED:
		if (!ev->ok) {
			journal(b, out, CMAN_REG_DROP);
			finish(h, b, out, false,
			       b->doomed ? CMAN_FRAME_DROPPED : CMAN_FRAME_REFUSED);
		} else if (b->doomed) {
			drop(b, out);
		} else {
			b->state = CMAN_BATCH_PREP;
			journal(b, out, CMAN_REG_PREPARED);
			if (b->committed)
				decide(b, out, CMAN_REG_LIVE);
			else
				cman_emit_send(out, CMAN_FRAME_PREPARED, b->id);
		}
		break;
	case CMAN_EV_DECIDED:
		if (b->want == CMAN_REG_TAKE) {
			if (ev->value == CMAN_REG_TAKE || ev->value == CMAN_REG_COMMIT)
				decide(b, out, CMAN_REG_LIVE);
			else
				drop(b, out);
		} else if (ev->value == CMAN_REG_LIVE) {
			b->state = CMAN_BATCH_ACTIVE;
			cman_emit(out, CMAN_EF_ACTIVATE, b->id);
		} else if (ev->value == CMAN_REG_DROP) {
			discard(b, out); /* the source took it back, under our journal's lock */
		} else {
			return -EPROTO;
		}
		break;
	case CMAN_EV_ACTIVATED:
		journal(b, out, CMAN_REG_DONE);
		finish(h, b, out, true, CMAN_FRAME_COMMITTED);
		break;
	default: /* DISCARDED */
		finish(h, b, out, false, CMAN_FRAME_DROPPED);
		break;
	}
	settle(h, out);
	return 0;
}

int cman_target_step(struct cman_handover *h, const struct cman_event *ev, struct cman_effects *out)
{
	out->n = 0;
	if ((unsigned int)ev->type > CMAN_EV_TIMEOUT || !(allowed[h->phase] & 1u << ev->type))
		return -EPROTO;
	switch (ev->type) {
	case CMAN_EV_HELLO:
		if (!ev->ok) {
			cman_emit_over(h, out, false);
			return 0;
		}
		h->phase = CMAN_HO_STARTING;
		h->busy = true;
		cman_emit(out, CMAN_EF_START, 0);
		return 0;
	case CMAN_EV_STARTED:
	case CMAN_EV_NAMED:
	case CMAN_EV_NAME_TAKEN:
		return name(h, ev, out);
	case CMAN_EV_BATCH:
	case CMAN_EV_COMMIT:
	case CMAN_EV_ABORT:
		if (!h->named || !id_plausible(h, ev->id))
			return -EPROTO;
		return ev->type == CMAN_EV_BATCH ? batch(h, ev, out) : verdict(h, ev, out);
	case CMAN_EV_DONE:
		if (!h->named)
			return -EPROTO;
		h->phase = CMAN_HO_DONE;
		settle(h, out);
		return 0;
	case CMAN_EV_CANCEL:
		if (h->phase == CMAN_HO_OVER)
			return ev->local ? -EPROTO : 0;
		cancel(h, out, ev->rollback, ev->local);
		return 0;
	case CMAN_EV_PEER_LOST:
		peer_lost(h, out, ev->dead);
		return 0;
	case CMAN_EV_TIMEOUT:
		for (unsigned int i = 0; i < h->window; i++)
			if (h->batch[i].state == CMAN_BATCH_PREP)
				cman_emit_send(out, CMAN_FRAME_QUERY, h->batch[i].id);
		return 0;
	default:
		return result(h, ev, out);
	}
}
