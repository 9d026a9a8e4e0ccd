/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The source's half of the handover (handover.h): gives away the listeners, the name and then the
 * sessions, batch by batch. What each state does with each event is in Documentation/handover.rst,
 * and as golden traces in selftests/unit/test_handover.c. Order of effects is the order in which
 * they must be carried out: a crash between any two of them is resolved by the registers.
 */
#include <errno.h>
#include <string.h>

#include "usr/core/handover_impl.h"

#define MAX_REFUSALS 3 /* in a row: the target cannot take any */

#define EV_FRAMES \
	(CMAN_EV(PREPARED) | CMAN_EV(REFUSED) | CMAN_EV(COMMITTED) | CMAN_EV(DROPPED) | \
	 CMAN_EV(QUERY))
#define EV_RESULTS \
	(CMAN_EV(FROZEN) | CMAN_EV(DECIDED) | CMAN_EV(THAWED) | CMAN_EV(RELEASED) | \
	 CMAN_EV(POPULATION))
#define EV_ALWAYS (CMAN_EV(PEER_LOST) | CMAN_EV(TIMEOUT))

static const uint32_t allowed[] = {
	[CMAN_HO_HELLO] = EV_ALWAYS | CMAN_EV(HELLO) | CMAN_EV(CANCEL),
	[CMAN_HO_STARTING] = EV_ALWAYS | CMAN_EV(READY) | CMAN_EV(NAME_GIVEN) | CMAN_EV(CANCEL),
	[CMAN_HO_MOVING] = EV_ALWAYS | EV_FRAMES | EV_RESULTS | CMAN_EV(CANCEL) | CMAN_EV(NAMED),
	[CMAN_HO_CANCELLED] = EV_ALWAYS | EV_FRAMES | EV_RESULTS | CMAN_EV(CANCEL) |
			      CMAN_EV(NAME_GIVEN) | CMAN_EV(NAMED),
	[CMAN_HO_DONE] = EV_ALWAYS | EV_FRAMES | CMAN_EV(POPULATION) | CMAN_EV(CANCEL) |
			 CMAN_EV(FINISHED) | CMAN_EV(NAMED),
	[CMAN_HO_BROKEN] = EV_ALWAYS | EV_RESULTS | CMAN_EV(NAME_GIVEN),
	/* what may still be on its way */
	[CMAN_HO_OVER] = EV_ALWAYS | CMAN_EV(POPULATION) | CMAN_EV(CANCEL) | CMAN_EV(FINISHED) |
			 CMAN_EV(NAMED),
};

void cman_source_init(struct cman_handover *h, uint64_t epoch, uint32_t batch_size, uint32_t window)
{
	memset(h, 0, sizeof(*h));
	h->source = true;
	h->epoch = epoch;
	h->batch_size = batch_size ? batch_size : 1;
	h->window = window ? window : 1;
	if (h->window > CMAN_HANDOVER_WINDOW)
		h->window = CMAN_HANDOVER_WINDOW;
}

/* --- one batch */

static void decide(struct cman_batch *b, struct cman_effects *out, enum cman_register want)
{
	b->state = CMAN_BATCH_DECIDING;
	b->want = want;
	cman_emit_value(out, CMAN_EF_DECIDE, b->id, want);
}

static void thaw(struct cman_batch *b, struct cman_effects *out)
{
	b->state = CMAN_BATCH_REIMP;
	cman_emit(out, CMAN_EF_THAW, b->id);
}

static void release(struct cman_batch *b, struct cman_effects *out)
{
	b->state = CMAN_BATCH_OPENG;
	cman_emit(out, CMAN_EF_RELEASE, b->id);
}

static void journal(const struct cman_batch *b, struct cman_effects *out, enum cman_register value)
{
	struct cman_effect *e = cman_emit(out, CMAN_EF_JOURNAL, b->id);

	e->value = value;
	e->count = b->count;
}

/* The own register says COMMIT or TAKE: the batch is T's, unless T has lost or refused it. */
static void committed(struct cman_handover *h, struct cman_batch *b, struct cman_effects *out)
{
	if (h->peer_lost || b->refused) {
		decide(b, out, CMAN_REG_DROP);
		return;
	}
	b->state = CMAN_BATCH_COMM;
	cman_emit_send(out, CMAN_FRAME_COMMIT, b->id);
}

/* The own register says ABORT: T cannot go live any more. */
static void aborted(struct cman_handover *h, struct cman_batch *b, struct cman_effects *out)
{
	if (h->peer_lost || b->refused) {
		thaw(b, out);
		return;
	}
	b->state = CMAN_BATCH_ABORTG;
	cman_emit_send(out, CMAN_FRAME_ABORT, b->id);
}

static int decided(struct cman_handover *h, struct cman_batch *b, enum cman_register value,
		   struct cman_effects *out)
{
	if (b->want == CMAN_REG_DROP) {
		if (cman_handover_owner(value) == CMAN_OWNER_TARGET)
			release(b, out);
		else if (value == CMAN_REG_DROP)
			thaw(b, out);
		else
			return -EPROTO;
	} else if (value == CMAN_REG_COMMIT || value == CMAN_REG_TAKE) {
		committed(h, b, out);
	} else if (value == CMAN_REG_ABORT) {
		aborted(h, b, out);
	} else {
		return -EPROTO;
	}
	return 0;
}

/* --- the whole */

static void watch(struct cman_handover *h, struct cman_effects *out, bool at_once)
{
	if (h->watching && !at_once)
		return;
	h->watching = true;
	cman_emit(out, CMAN_EF_WATCH, 0)->ok = at_once;
}

/*
 * Keeps the window full. When nothing is known to be movable the population is asked for: at once
 * when nothing is in flight, because the answer then says whether this was all.
 */
static void refill(struct cman_handover *h, struct cman_effects *out, bool ask)
{
	struct cman_batch *b;

	if (h->phase != CMAN_HO_MOVING || h->timed_out)
		return;
	while (h->movable && (b = cman_batch_find(h, 0))) {
		*b = (struct cman_batch){ .id = h->epoch << 32 | ++h->next,
					  .state = CMAN_BATCH_PARK };
		b->count = h->movable < h->batch_size ? h->movable : h->batch_size;
		h->movable -= b->count;
		cman_emit(out, CMAN_EF_FREEZE, b->id)->count = b->count;
	}
	if (!h->movable)
		watch(h, out, ask && !cman_handover_in_flight(h));
}

static void resume(struct cman_effects *out, bool certain)
{
	cman_emit(out, CMAN_EF_RESUME, 0)->ok = certain;
}

/* What follows when nothing is in flight any more. */
static void settle(struct cman_handover *h, struct cman_effects *out)
{
	if (h->busy || cman_handover_in_flight(h))
		return;
	if (h->phase == CMAN_HO_BROKEN) {
		if (h->peer_dead)
			cman_emit(out, CMAN_EF_RESCUE, 0);
		resume(out, h->peer_dead || !h->named);
		cman_emit_over(h, out, false);
	} else if (h->phase == CMAN_HO_CANCELLED && !h->named) {
		cman_emit_cancel(h, out, h->rollback);
		resume(out, true);
		cman_emit_over(h, out, false);
	} else if (h->phase == CMAN_HO_CANCELLED || (h->phase == CMAN_HO_MOVING && h->timed_out)) {
		h->phase = CMAN_HO_DONE;
		cman_emit_send(out, CMAN_FRAME_DONE, 0);
	}
}

static void cancel(struct cman_handover *h, struct cman_effects *out, bool rollback, bool tell)
{
	if (tell)
		cman_emit_cancel(h, out, rollback);
	h->rollback |= rollback;
	if (h->phase == CMAN_HO_HELLO) {
		cman_emit_over(h, out, false);
		return;
	}
	if (h->phase != CMAN_HO_STARTING && h->phase != CMAN_HO_MOVING)
		return;
	h->phase = CMAN_HO_CANCELLED;
	for (unsigned int i = 0; i < h->window; i++) {
		struct cman_batch *b = &h->batch[i];

		if (b->state == CMAN_BATCH_PARK)
			b->doomed = true;
		else if (b->state == CMAN_BATCH_SENT)
			decide(b, out, CMAN_REG_ABORT);
	}
	settle(h, out);
}

static void peer_lost(struct cman_handover *h, struct cman_effects *out, bool dead)
{
	bool first = !h->peer_lost, late = dead && !h->peer_dead;

	if (h->phase == CMAN_HO_OVER) {
		if (h->peer_lost && h->ready && late) {
			h->peer_dead = true;
			cman_emit(out, CMAN_EF_RESCUE, 0);
			resume(out, true);
		}
		return;
	}
	h->peer_lost = true;
	h->peer_dead |= dead;
	if (h->phase == CMAN_HO_HELLO) {
		cman_emit_over(h, out, false);
		return;
	}
	h->phase = CMAN_HO_BROKEN;
	for (unsigned int i = 0; first && i < h->window; i++) {
		struct cman_batch *b = &h->batch[i];

		if (b->state == CMAN_BATCH_PARK)
			b->doomed = true;
		else if (b->state == CMAN_BATCH_SENT)
			decide(b, out, CMAN_REG_ABORT);
		else if (b->state == CMAN_BATCH_COMM)
			decide(b, out, CMAN_REG_DROP);
		else if (b->state == CMAN_BATCH_ABORTG)
			thaw(b, out);
	}
	settle(h, out);
}

static void population(struct cman_handover *h, const struct cman_event *ev,
		       struct cman_effects *out)
{
	h->watching = false;
	if (h->phase != CMAN_HO_MOVING || h->timed_out)
		return;
	h->movable = ev->movable;
	h->waiting = ev->waiting;
	h->population = ev->count;
	/* those that are being frozen are still counted by who looks at the slots */
	for (unsigned int i = 0; i < h->window; i++)
		if (h->batch[i].state == CMAN_BATCH_PARK)
			h->movable -= h->batch[i].count < h->movable ? h->batch[i].count :
								       h->movable;
	if (!h->movable && !h->waiting && !cman_handover_in_flight(h)) {
		h->phase = CMAN_HO_DONE;
		cman_emit_send(out, CMAN_FRAME_DONE, 0);
		return;
	}
	refill(h, out, false);
}

/* READY, NAME_GIVEN */
static int name(struct cman_handover *h, const struct cman_event *ev, struct cman_effects *out)
{
	if (h->busy != (ev->type == CMAN_EV_NAME_GIVEN))
		return -EPROTO;
	if (ev->type == CMAN_EV_READY) {
		h->busy = true;
		cman_emit(out, CMAN_EF_GIVE_NAME, 0);
		return 0;
	}
	h->busy = false;
	if (h->phase == CMAN_HO_STARTING && ev->ok) {
		h->named = true;
		h->phase = CMAN_HO_MOVING;
		cman_emit_send(out, CMAN_FRAME_NAMED, 0);
		return 0;
	}
	if (h->phase == CMAN_HO_STARTING)
		h->phase = CMAN_HO_CANCELLED;
	settle(h, out);
	return 0;
}

/* NAMED: T has the name, and time: what is frozen from now on does not wait for it. */
static int name_taken(struct cman_handover *h, struct cman_effects *out)
{
	if (h->phase == CMAN_HO_OVER)
		return 0;
	if (h->taken || !h->named)
		return -EPROTO;
	h->taken = true;
	if (h->phase == CMAN_HO_MOVING && !h->timed_out)
		watch(h, out, true);
	return 0;
}

/* A frame about a batch. Batches that were sent and are not in flight any more are over. */
static int frame(struct cman_handover *h, const struct cman_event *ev, struct cman_effects *out)
{
	struct cman_batch *b = ev->id ? cman_batch_find(h, ev->id) : NULL;
	enum cman_batch_state state = b ? b->state : CMAN_BATCH_NONE;
	bool old = !b && ev->id >> 32 == h->epoch && (uint32_t)ev->id &&
		   (uint32_t)ev->id <= h->next;

	if (ev->type == CMAN_EV_QUERY) {
		if (state == CMAN_BATCH_COMM)
			cman_emit_send(out, CMAN_FRAME_COMMIT, ev->id);
		else if (!b || state == CMAN_BATCH_ABORTG || state == CMAN_BATCH_REIMP)
			cman_emit_send(out, CMAN_FRAME_ABORT, ev->id);
		return 0;
	}
	if ((!b && !old) || state == CMAN_BATCH_PARK)
		return -EPROTO;
	switch (ev->type) {
	case CMAN_EV_PREPARED:
		if (state == CMAN_BATCH_SENT)
			decide(b, out, CMAN_REG_COMMIT);
		else if (state == CMAN_BATCH_COMM)
			cman_emit_send(out, CMAN_FRAME_COMMIT, ev->id);
		else if (old)
			cman_emit_send(out, CMAN_FRAME_ABORT, ev->id);
		return 0;
	case CMAN_EV_COMMITTED:
		if (state == CMAN_BATCH_COMM) {
			h->refusals = 0;
			release(b, out);
		} else if (!old && state != CMAN_BATCH_OPENG) {
			return -EPROTO;
		}
		return 0;
	default: /* REFUSED, DROPPED: T has nothing of it */
		if (old || state == CMAN_BATCH_REIMP)
			return 0;
		if (state == CMAN_BATCH_OPENG)
			return -EPROTO;
		if (ev->type == CMAN_EV_REFUSED && !b->refused)
			h->refusals++;
		b->refused = true;
		if (state == CMAN_BATCH_SENT)
			decide(b, out, CMAN_REG_ABORT);
		else if (state == CMAN_BATCH_COMM)
			decide(b, out, CMAN_REG_DROP);
		else if (state == CMAN_BATCH_ABORTG)
			thaw(b, out);
		if (h->refusals >= MAX_REFUSALS && h->phase == CMAN_HO_MOVING)
			cancel(h, out, false, true);
		return 0;
	}
}

/* The result of an effect on a batch. */
static int result(struct cman_handover *h, const struct cman_event *ev, struct cman_effects *out)
{
	static const enum cman_batch_state expected[] = {
		[CMAN_EV_FROZEN] = CMAN_BATCH_PARK,
		[CMAN_EV_DECIDED] = CMAN_BATCH_DECIDING,
		[CMAN_EV_THAWED] = CMAN_BATCH_REIMP,
		[CMAN_EV_RELEASED] = CMAN_BATCH_OPENG,
	};
	struct cman_batch *b = ev->id ? cman_batch_find(h, ev->id) : NULL;

	if (!b || b->state != expected[ev->type])
		return -EPROTO;
	if (ev->type == CMAN_EV_DECIDED)
		return decided(h, b, ev->value, out);
	if (ev->type == CMAN_EV_FROZEN && ev->count > b->count)
		return -EPROTO;
	if (ev->type == CMAN_EV_FROZEN && ev->count) {
		b->count = ev->count;
		if (b->doomed) {
			thaw(b, out);
			return 0;
		}
		journal(b, out, CMAN_REG_PARKED);
		cman_emit(out, CMAN_EF_PACK, b->id)->count = b->count;
		b->state = CMAN_BATCH_SENT;
		refill(h, out, false);
		return 0;
	}
	if (ev->type == CMAN_EV_FROZEN) {
		h->movable = 0; /* what was said is not so: wait until it changes */
	} else {
		if (!b->doomed)
			journal(b, out, CMAN_REG_DONE);
		if (ev->type == CMAN_EV_RELEASED)
			h->moved += b->count;
		else if (!b->doomed)
			h->failed += b->count;
	}
	*b = (struct cman_batch){ 0 };
	refill(h, out, ev->type != CMAN_EV_FROZEN);
	settle(h, out);
	return 0;
}

int cman_source_step(struct cman_handover *h, const struct cman_event *ev, struct cman_effects *out)
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
		h->ready = true;
		cman_emit(out, CMAN_EF_PASS_LISTENERS, 0);
		return 0;
	case CMAN_EV_READY:
	case CMAN_EV_NAME_GIVEN:
		return name(h, ev, out);
	case CMAN_EV_NAMED:
		return name_taken(h, out);
	case CMAN_EV_CANCEL:
		/* from the peer only after its HELLO; from the operator only before DONE */
		if (ev->local ? h->phase == CMAN_HO_DONE || h->phase == CMAN_HO_OVER :
				h->phase == CMAN_HO_HELLO)
			return -EPROTO;
		if (h->phase == CMAN_HO_OVER)
			return 0;
		h->cancel_seen |= !ev->local;
		cancel(h, out, ev->rollback, ev->local);
		return 0;
	case CMAN_EV_TIMEOUT:
		if (h->phase == CMAN_HO_HELLO || h->phase == CMAN_HO_STARTING) {
			cancel(h, out, false, true);
		} else if (h->phase == CMAN_HO_MOVING) {
			h->timed_out = true;
			settle(h, out);
		} else if (h->phase == CMAN_HO_DONE && !h->rollback) {
			cman_emit_over(h, out, true);
		}
		return 0;
	case CMAN_EV_PEER_LOST:
		peer_lost(h, out, ev->dead);
		return 0;
	case CMAN_EV_POPULATION:
		population(h, ev, out);
		return 0;
	case CMAN_EV_FINISHED:
		if (h->phase == CMAN_HO_OVER)
			return 0;
		if (h->rollback) {
			h->phase = CMAN_HO_OVER;
			cman_emit(out, CMAN_EF_SWAP_ROLES, 0);
		} else {
			cman_emit_over(h, out, true);
		}
		return 0;
	case CMAN_EV_FROZEN:
	case CMAN_EV_DECIDED:
	case CMAN_EV_THAWED:
	case CMAN_EV_RELEASED:
		return result(h, ev, out);
	default:
		return frame(h, ev, out);
	}
}
