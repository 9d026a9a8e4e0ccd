/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Arithmetic on the kernel's TCP counters: from them alone follows how many bytes of a direction
 * are in between, which is all that a recovery has to know. See session.h for the formulas.
 */
#include "usr/core/session.h"

#include <errno.h>
#include <string.h>

/* include/net/tcp_states.h; these numbers are ABI (tcpi_state). */
enum {
	ST_ESTABLISHED = 1,
	ST_SYN_SENT = 2,
	ST_SYN_RECV = 3,
	ST_FIN_WAIT1 = 4,
	ST_FIN_WAIT2 = 5,
	ST_TIME_WAIT = 6,
	ST_CLOSE = 7,
	ST_CLOSE_WAIT = 8,
	ST_LAST_ACK = 9,
	ST_LISTEN = 10,
	ST_CLOSING = 11,
};

bool cman_leg_fin_received(const struct cman_leg *leg)
{
	switch (leg->tcp_state) {
	case ST_CLOSE_WAIT:
	case ST_LAST_ACK:
	case ST_CLOSING:
	case ST_TIME_WAIT:
		return true;
	case ST_CLOSE: /* both FINs are through; a socket that never connected received nothing */
		return leg->received != 0;
	default:
		return false;
	}
}

bool cman_leg_fin_sent(const struct cman_leg *leg)
{
	switch (leg->tcp_state) {
	case ST_FIN_WAIT1:
	case ST_FIN_WAIT2:
	case ST_CLOSING:
	case ST_LAST_ACK:
	case ST_TIME_WAIT:
		return true;
	case ST_CLOSE:
		return leg->received != 0;
	default:
		return false;
	}
}

bool cman_leg_was_reset(const struct cman_leg *leg, const struct cman_leg *other)
{
	return leg->tcp_state == ST_CLOSE && (!leg->received || !cman_leg_fin_received(other));
}

uint64_t cman_leg_read(const struct cman_leg *leg)
{
	return leg->received - leg->inq - cman_leg_fin_received(leg);
}

uint64_t cman_leg_written(const struct cman_leg *leg)
{
	if (leg->tcp_state == ST_SYN_SENT || leg->tcp_state == ST_SYN_RECV)
		return 0;
	if (leg->tcp_state == ST_CLOSE && !leg->acked)
		return 0; /* not connected yet */
	return leg->acked + leg->outq - leg->initiated - cman_leg_fin_sent(leg);
}

int cman_flow_between(const struct cman_flow *flow, uint32_t bound, const struct cman_leg *source,
		      const struct cman_leg *destination, struct cman_between *ret_between)
{
	uint64_t r = cman_leg_read(source) + (uint64_t)flow->read_base;
	uint64_t w = cman_leg_written(destination) + (uint64_t)flow->write_base;
	uint64_t limit = 0;

	if ((bound & CMAN_BOUND_KIND) == CMAN_BOUND_BUFFER)
		limit = CMAN_BUFFER_SIZE;
	else if ((bound & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE)
		limit = UINT32_MAX;
	if (w > r || r - w > limit)
		return -EILSEQ;
	if ((bound & CMAN_BOUND_KIND) == CMAN_BOUND_BUFFER &&
	    (w < flow->position || r - flow->position > limit) && r != w)
		return -EILSEQ;
	ret_between->remain = (uint32_t)(r - w);
	ret_between->offset = ret_between->remain ? (uint32_t)(w - flow->position) : 0;
	ret_between->read = r;
	return 0;
}

bool cman_slot_sane(const struct cman_slot *slot, uint32_t nslots)
{
	for (int dir = 0; dir < 2; dir++) {
		uint32_t index = slot->bound[dir] & CMAN_BOUND_INDEX;

		switch (slot->bound[dir] & CMAN_BOUND_KIND) {
		case CMAN_BOUND_NONE:
			break;
		case CMAN_BOUND_BUFFER:
			if (index >= CMAN_BUFFERS(nslots))
				return false;
			break;
		case CMAN_BOUND_PIPE:
			if (index >= CMAN_PIPES_PER_CELL)
				return false;
			break;
		default:
			return false;
		}
	}
	return slot->service < CMAN_MAX_SERVICES && slot->listener < CMAN_MAX_LISTENERS &&
	       slot->target < CMAN_MAX_TARGETS && slot->rule <= CMAN_MAX_RULES;
}

static const char *const state_names[] = {
	[CMAN_SLOT_FREE] = "free",
	[CMAN_SLOT_RESERVED] = "reserved",
	[CMAN_SLOT_PREPARED] = "prepared",
	[CMAN_SLOT_ACCEPTED] = "accepted",
	[CMAN_SLOT_CONNECTING] = "connecting",
	[CMAN_SLOT_RELAYING] = "relaying",
	[CMAN_SLOT_LEAVING] = "leaving",
	[CMAN_SLOT_CLOSING] = "closing",
	[CMAN_SLOT_HANDSHAKE] = "handshake",
};

const char *cman_slot_state_name(uint8_t state)
{
	return state < sizeof(state_names) / sizeof(*state_names) ? state_names[state] : "?";
}

int cman_slot_state_parse(const char *name)
{
	for (unsigned int i = 0; i < sizeof(state_names) / sizeof(*state_names); i++)
		if (!strcmp(state_names[i], name))
			return (int)i;
	return -EINVAL;
}
