/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What both sides of a handover share: effects are appended here, batches found, names given to
 * every state for logs, tests and documentation, and the one rule that says whose a batch is when a
 * manager died. The machines themselves are handover_source.c and handover_target.c.
 */
#include "usr/core/handover_impl.h"

struct cman_effect *cman_emit(struct cman_effects *out, enum cman_effect_type type, uint64_t id)
{
	static struct cman_effect spill; /* cannot be: a step gives at most 4 effects a batch */
	struct cman_effect *e = out->n < CMAN_EFFECTS_MAX ? &out->e[out->n++] : &spill;

	*e = (struct cman_effect){ .type = type, .id = id };
	return e;
}

void cman_emit_send(struct cman_effects *out, enum cman_frame_type frame, uint64_t id)
{
	cman_emit(out, CMAN_EF_SEND, id)->frame = (uint8_t)frame;
}

void cman_emit_value(struct cman_effects *out, enum cman_effect_type type, uint64_t id,
		     enum cman_register value)
{
	cman_emit(out, type, id)->value = value;
}

void cman_emit_over(struct cman_handover *h, struct cman_effects *out, bool ok)
{
	h->phase = CMAN_HO_OVER;
	cman_emit(out, CMAN_EF_OVER, 0)->ok = ok;
}

void cman_emit_cancel(struct cman_handover *h, struct cman_effects *out, bool rollback)
{
	if (h->peer_lost || (h->cancel_sent && !(rollback && !h->rollback)))
		return;
	h->cancel_sent = true;
	cman_emit_send(out, CMAN_FRAME_CANCEL, 0);
	out->e[out->n - 1].rollback = rollback;
}

struct cman_batch *cman_batch_find(struct cman_handover *h, uint64_t id)
{
	unsigned int n = h->source ? h->window : CMAN_HANDOVER_WINDOW;

	for (unsigned int i = 0; i < n; i++)
		if (h->batch[i].id == id)
			return &h->batch[i];
	return NULL;
}

unsigned int cman_handover_in_flight(const struct cman_handover *h)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < CMAN_HANDOVER_WINDOW; i++)
		n += h->batch[i].state != CMAN_BATCH_NONE;
	return n;
}

enum cman_owner cman_handover_owner(enum cman_register at_target)
{
	return at_target == CMAN_REG_LIVE || at_target == CMAN_REG_DONE ? CMAN_OWNER_TARGET :
									  CMAN_OWNER_SOURCE;
}

/* --- names */

#define NAME_OF(table, i) \
	((size_t)(i) < sizeof(table) / sizeof(*(table)) && (table)[i] ? (table)[i] : "?")

const char *cman_phase_name(enum cman_handover_phase phase)
{
	static const char *const names[] = {
		[CMAN_HO_HELLO] = "HELLO",   [CMAN_HO_STARTING] = "STARTING",
		[CMAN_HO_MOVING] = "MOVING", [CMAN_HO_CANCELLED] = "CANCELLED",
		[CMAN_HO_DONE] = "DONE",     [CMAN_HO_OVER] = "OVER",
		[CMAN_HO_BROKEN] = "BROKEN",
	};

	return NAME_OF(names, phase);
}

const char *cman_batch_state_name(enum cman_batch_state state)
{
	static const char *const names[] = {
		[CMAN_BATCH_NONE] = "NONE",	  [CMAN_BATCH_PARK] = "PARK",
		[CMAN_BATCH_SENT] = "SENT",	  [CMAN_BATCH_COMM] = "COMM",
		[CMAN_BATCH_ABORTG] = "ABORTG",	  [CMAN_BATCH_REIMP] = "REIMP",
		[CMAN_BATCH_OPENG] = "OPENG",	  [CMAN_BATCH_DECIDING] = "DECIDING",
		[CMAN_BATCH_IMPORT] = "IMPORT",	  [CMAN_BATCH_PREP] = "PREP",
		[CMAN_BATCH_PEND] = "PEND",	  [CMAN_BATCH_ACTIVE] = "ACTIVE",
		[CMAN_BATCH_DISCARD] = "DISCARD",
	};

	return NAME_OF(names, state);
}

const char *cman_event_name(enum cman_event_type type)
{
	static const char *const names[] = {
		[CMAN_EV_NONE] = "NONE",
		[CMAN_EV_HELLO] = "HELLO",
		[CMAN_EV_READY] = "READY",
		[CMAN_EV_NAMED] = "NAMED",
		[CMAN_EV_BATCH] = "BATCH",
		[CMAN_EV_PREPARED] = "PREPARED",
		[CMAN_EV_REFUSED] = "REFUSED",
		[CMAN_EV_COMMIT] = "COMMIT",
		[CMAN_EV_COMMITTED] = "COMMITTED",
		[CMAN_EV_ABORT] = "ABORT",
		[CMAN_EV_DROPPED] = "DROPPED",
		[CMAN_EV_QUERY] = "QUERY",
		[CMAN_EV_DONE] = "DONE",
		[CMAN_EV_CANCEL] = "CANCEL",
		[CMAN_EV_FINISHED] = "FINISHED",
		[CMAN_EV_PEER_LOST] = "PEER_LOST",
		[CMAN_EV_STARTED] = "STARTED",
		[CMAN_EV_NAME_GIVEN] = "NAME_GIVEN",
		[CMAN_EV_NAME_TAKEN] = "NAME_TAKEN",
		[CMAN_EV_FROZEN] = "FROZEN",
		[CMAN_EV_IMPORTED] = "IMPORTED",
		[CMAN_EV_ACTIVATED] = "ACTIVATED",
		[CMAN_EV_DISCARDED] = "DISCARDED",
		[CMAN_EV_THAWED] = "THAWED",
		[CMAN_EV_RELEASED] = "RELEASED",
		[CMAN_EV_DECIDED] = "DECIDED",
		[CMAN_EV_POPULATION] = "POPULATION",
		[CMAN_EV_TIMEOUT] = "TIMEOUT",
	};

	return NAME_OF(names, type);
}

const char *cman_effect_name(enum cman_effect_type type)
{
	static const char *const names[] = {
		[CMAN_EF_NONE] = "NONE",
		[CMAN_EF_SEND] = "SEND",
		[CMAN_EF_JOURNAL] = "JOURNAL",
		[CMAN_EF_DECIDE] = "DECIDE",
		[CMAN_EF_PASS_LISTENERS] = "PASS_LISTENERS",
		[CMAN_EF_START] = "START",
		[CMAN_EF_GIVE_NAME] = "GIVE_NAME",
		[CMAN_EF_TAKE_NAME] = "TAKE_NAME",
		[CMAN_EF_RESUME] = "RESUME",
		[CMAN_EF_FREEZE] = "FREEZE",
		[CMAN_EF_PACK] = "PACK",
		[CMAN_EF_IMPORT] = "IMPORT",
		[CMAN_EF_ACTIVATE] = "ACTIVATE",
		[CMAN_EF_DISCARD] = "DISCARD",
		[CMAN_EF_THAW] = "THAW",
		[CMAN_EF_RELEASE] = "RELEASE",
		[CMAN_EF_WATCH] = "WATCH",
		[CMAN_EF_RESCUE] = "RESCUE",
		[CMAN_EF_SWAP_ROLES] = "SWAP_ROLES",
		[CMAN_EF_OVER] = "OVER",
	};

	return NAME_OF(names, type);
}

const char *cman_register_name(enum cman_register value)
{
	static const char *const names[] = {
		[CMAN_REG_UNKNOWN] = "UNKNOWN", [CMAN_REG_PARKED] = "PARKED",
		[CMAN_REG_COMMIT] = "COMMIT",	[CMAN_REG_ABORT] = "ABORT",
		[CMAN_REG_TAKE] = "TAKE",	[CMAN_REG_PREPARED] = "PREPARED",
		[CMAN_REG_LIVE] = "LIVE",	[CMAN_REG_DROP] = "DROP",
		[CMAN_REG_DONE] = "DONE",
	};

	return NAME_OF(names, value);
}
