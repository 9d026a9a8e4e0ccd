/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The handover's two machines as golden traces: every line is one step, `EVENT -> phase [batches]:
 * effects`, and each test is one path of the protocol, followed by its twins with a fault at each
 * step. The traces are the specification that people read; whoever changes a rule changes
 * them knowingly. `CMAN_GOLDEN=1 test_handover` prints what the machines really do. At the end, for each
 * phase, every event that does not belong there: -EPROTO, nothing changed.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/handover.h"
#include "usr/core/wire.h"

#define EPOCH 5

/* --- events from text: NAME [#id] [ok|not] [dead|rollback|local] [n=|movable=|waiting=] [VALUE] */

static uint32_t number_after(const char *text, const char *key)
{
	const char *p = strstr(text, key);

	return p ? (uint32_t)strtoul(p + strlen(key), NULL, 10) : 0;
}

static bool word_in(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = text; (p = strstr(p, word)); p += n)
		if (p != text && p[-1] == ' ' && (p[n] == ' ' || !p[n]))
			return true;
	return false;
}

static struct cman_event event_of(const char *text)
{
	struct cman_event ev = { .id = 0 };
	const char *p = strchr(text, '#');
	size_t n = strcspn(text, " ");

	for (int t = CMAN_EV_HELLO; t <= CMAN_EV_TIMEOUT; t++) {
		const char *name = cman_event_name((enum cman_event_type)t);

		if (strlen(name) == n && !strncmp(name, text, n))
			ev.type = (enum cman_event_type)t;
	}
	cr_assert(ev.type, "no such event: %s", text);
	if (p) {
		char *end;
		uint64_t a = strtoul(p + 1, &end, 10);

		ev.id = *end == '.' ? a << 32 | strtoul(end + 1, NULL, 10) :
				      (uint64_t)EPOCH << 32 | a;
	}
	ev.ok = word_in(text, "ok");
	ev.dead = word_in(text, "dead");
	ev.rollback = word_in(text, "rollback");
	ev.local = word_in(text, "local");
	ev.count = number_after(text, " n=");
	ev.movable = number_after(text, " movable=");
	ev.waiting = number_after(text, " waiting=");
	for (int v = CMAN_REG_PARKED; v <= CMAN_REG_DONE; v++)
		if (word_in(text, cman_register_name((enum cman_register)v)))
			ev.value = (enum cman_register)v;
	return ev;
}

/* --- steps to text */

static void put(char *s, size_t size, const char *fmt, ...)
{
	size_t n = strlen(s);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s + n, size - n, fmt, ap);
	va_end(ap);
}

static void put_id(char *s, size_t size, uint64_t id)
{
	if (id)
		put(s, size, id >> 32 == EPOCH ? " #%u" : " #?.%u", (unsigned int)id);
}

static void put_effect(char *s, size_t size, const struct cman_effect *e)
{
	const char *name = cman_effect_name(e->type);

	switch (e->type) {
	case CMAN_EF_SEND:
		put(s, size, "%s %s", name, cman_frame_type_name(e->frame));
		put_id(s, size, e->id);
		put(s, size, e->rollback ? " rollback" : "");
		break;
	case CMAN_EF_JOURNAL:
	case CMAN_EF_DECIDE:
		put(s, size, "%s", name);
		put_id(s, size, e->id);
		put(s, size, " %s", cman_register_name(e->value));
		break;
	case CMAN_EF_FREEZE:
	case CMAN_EF_IMPORT:
		put(s, size, "%s", name);
		put_id(s, size, e->id);
		put(s, size, " n=%u", e->count);
		break;
	case CMAN_EF_WATCH:
		put(s, size, "%s %s", name, e->ok ? "now" : "change");
		break;
	case CMAN_EF_RESUME:
		put(s, size, "%s%s", name, e->ok ? "" : " if-free");
		break;
	case CMAN_EF_OVER:
		put(s, size, "%s %s", name, e->ok ? "ok" : "not");
		break;
	default:
		put(s, size, "%s", name);
		put_id(s, size, e->id);
	}
}

static int step(struct cman_handover *h, const struct cman_event *ev, struct cman_effects *out)
{
	return h->source ? cman_source_step(h, ev, out) : cman_target_step(h, ev, out);
}

static void step_text(struct cman_handover *h, const char *event, char *s, size_t size)
{
	struct cman_event ev = event_of(event);
	struct cman_handover before = *h;
	struct cman_effects out;
	const char *sep = " [";
	int err = step(h, &ev, &out);

	s[0] = 0;
	if (err) {
		put(s, size, "%s", err == -EPROTO ? "EPROTO" : "?");
		cr_assert(!out.n && !memcmp(h, &before, sizeof(before)),
			  "an error changes nothing: %s", event);
		return;
	}
	put(s, size, "%s", cman_phase_name(h->phase));
	for (unsigned int i = 0; i < CMAN_HANDOVER_WINDOW; i++) {
		const struct cman_batch *b = &h->batch[i];

		if (b->state == CMAN_BATCH_NONE)
			continue;
		put(s, size, "%s#%u %s", sep, (unsigned int)b->id, cman_batch_state_name(b->state));
		sep = ", ";
	}
	put(s, size, sep[0] == ',' ? "]" : "");
	for (unsigned int i = 0; i < out.n; i++) {
		put(s, size, i ? ", " : ": ");
		put_effect(s, size, &out.e[i]);
	}
}

/* Runs the events of @golden and compares every line. */
static void trace(struct cman_handover *h, const char *golden)
{
	const char *p = golden;

	while (*p) {
		const char *end = strchr(p, '\n'), *arrow = strstr(p, " ->");
		char event[128], got[600], want[600];

		cr_assert(end && arrow && arrow < end, "a line is `EVENT -> result`: %s", p);
		snprintf(event, sizeof(event), "%.*s", (int)(arrow - p), p);
		snprintf(want, sizeof(want), "%.*s", (int)(end - arrow - 3), arrow + 3);
		step_text(h, event, got, sizeof(got));
		if (getenv("CMAN_GOLDEN"))
			fprintf(stderr, "GOLDEN|%s -> %s\n", event, got);
		else
			cr_assert(!strcmp(want[0] ? want + 1 : want, got),
				  "%s\n  want %s\n  got   %s", event, want, got);
		p = end + 1;
	}
}

static struct cman_handover source(uint32_t batch_size, uint32_t window, const char *prefix)
{
	struct cman_handover h;

	cman_source_init(&h, EPOCH, batch_size, window);
	if (prefix)
		trace(&h, prefix);
	return h;
}

static struct cman_handover target(const char *prefix)
{
	struct cman_handover h;

	cman_target_init(&h);
	if (prefix)
		trace(&h, prefix);
	return h;
}

#define S_NAMED \
	"HELLO ok -> STARTING: PASS_LISTENERS\n" \
	"READY -> STARTING: GIVE_NAME\n" \
	"NAME_GIVEN ok -> MOVING: SEND NAMED\n" \
	"NAMED -> MOVING: WATCH now\n"

#define S_SENT \
	"POPULATION movable=2 n=2 -> MOVING [#1 PARK]: FREEZE #1 n=2, WATCH change\n" \
	"FROZEN #1 n=2 -> MOVING [#1 SENT]: JOURNAL #1 PARKED, PACK #1\n"

#define S_COMM \
	"PREPARED #1 -> MOVING [#1 DECIDING]: DECIDE #1 COMMIT\n" \
	"DECIDED #1 COMMIT -> MOVING [#1 COMM]: SEND COMMIT #1\n"

Test(handover_source, plain)
{
	struct cman_handover h = source(4, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "READY -> STARTING: GIVE_NAME\n"
		  "NAME_GIVEN ok -> MOVING: SEND NAMED\n"
		  "NAMED -> MOVING: WATCH now\n"
		  "POPULATION movable=6 waiting=1 n=8 -> MOVING [#1 PARK]: FREEZE #1 n=4\n"
		  "FROZEN #1 n=4 -> MOVING [#1 SENT]: JOURNAL #1 PARKED, PACK #1\n"
		  "PREPARED #1 -> MOVING [#1 DECIDING]: DECIDE #1 COMMIT\n"
		  "DECIDED #1 COMMIT -> MOVING [#1 COMM]: SEND COMMIT #1\n"
		  "COMMITTED #1 -> MOVING [#1 OPENG]: RELEASE #1\n"
		  "RELEASED #1 -> MOVING [#2 PARK]: JOURNAL #1 DONE, FREEZE #2 n=2, WATCH change\n"
		  "FROZEN #2 n=2 -> MOVING [#2 SENT]: JOURNAL #2 PARKED, PACK #2\n"
		  "PREPARED #2 -> MOVING [#2 DECIDING]: DECIDE #2 COMMIT\n"
		  "POPULATION movable=0 waiting=1 n=3 -> MOVING [#2 DECIDING]: WATCH change\n"
		  "DECIDED #2 COMMIT -> MOVING [#2 COMM]: SEND COMMIT #2\n"
		  "COMMITTED #2 -> MOVING [#2 OPENG]: RELEASE #2\n"
		  "RELEASED #2 -> MOVING: JOURNAL #2 DONE, WATCH now\n"
		  "POPULATION movable=0 waiting=1 n=2 -> MOVING: WATCH change\n"
		  "POPULATION movable=1 waiting=0 n=2 -> MOVING [#3 PARK]: FREEZE #3 n=1, WATCH "
		  "change\n"
		  "FROZEN #3 n=1 -> MOVING [#3 SENT]: JOURNAL #3 PARKED, PACK #3\n"
		  "PREPARED #3 -> MOVING [#3 DECIDING]: DECIDE #3 COMMIT\n"
		  "DECIDED #3 COMMIT -> MOVING [#3 COMM]: SEND COMMIT #3\n"
		  "COMMITTED #3 -> MOVING [#3 OPENG]: RELEASE #3\n"
		  "RELEASED #3 -> MOVING: JOURNAL #3 DONE, WATCH now\n"
		  "POPULATION movable=0 waiting=0 n=1 -> DONE: SEND DONE\n"
		  "FINISHED -> OVER: OVER ok\n");
}

Test(handover_source, nothing_to_move)
{
	struct cman_handover h = source(4, 1, S_NAMED);

	trace(&h, "POPULATION n=0 -> DONE: SEND DONE\n"
		  "FINISHED -> OVER: OVER ok\n");
}

Test(handover_source, window_of_three)
{
	struct cman_handover h = source(2, 3, S_NAMED);

	trace(&h,
	      "POPULATION movable=9 n=9 -> MOVING [#1 PARK, #2 PARK, #3 PARK]: FREEZE #1 n=2, "
	      "FREEZE #2 n=2, FREEZE #3 n=2\n"
	      "FROZEN #2 n=2 -> MOVING [#1 PARK, #2 SENT, #3 PARK]: JOURNAL #2 PARKED, PACK "
	      "#2\n"
	      "FROZEN #1 n=1 -> MOVING [#1 SENT, #2 SENT, #3 PARK]: JOURNAL #1 PARKED, PACK "
	      "#1\n"
	      "PREPARED #2 -> MOVING [#1 SENT, #2 DECIDING, #3 PARK]: DECIDE #2 COMMIT\n"
	      "PREPARED #1 -> MOVING [#1 DECIDING, #2 DECIDING, #3 PARK]: DECIDE #1 COMMIT\n"
	      "DECIDED #2 COMMIT -> MOVING [#1 DECIDING, #2 COMM, #3 PARK]: SEND COMMIT #2\n"
	      "POPULATION movable=4 n=8 -> MOVING [#1 DECIDING, #2 COMM, #3 PARK]\n"
	      "DECIDED #1 COMMIT -> MOVING [#1 COMM, #2 COMM, #3 PARK]: SEND COMMIT #1\n"
	      "COMMITTED #1 -> MOVING [#1 OPENG, #2 COMM, #3 PARK]: RELEASE #1\n"
	      "RELEASED #1 -> MOVING [#4 PARK, #2 COMM, #3 PARK]: JOURNAL #1 DONE, FREEZE #4 "
	      "n=2, WATCH change\n"
	      "COMMITTED #2 -> MOVING [#4 PARK, #2 OPENG, #3 PARK]: RELEASE #2\n"
	      "FROZEN #3 n=2 -> MOVING [#4 PARK, #2 OPENG, #3 SENT]: JOURNAL #3 PARKED, PACK "
	      "#3\n"
	      "RELEASED #2 -> MOVING [#4 PARK, #3 SENT]: JOURNAL #2 DONE\n"
	      "FROZEN #4 n=2 -> MOVING [#4 SENT, #3 SENT]: JOURNAL #4 PARKED, PACK #4\n"
	      "POPULATION movable=2 n=4 -> MOVING [#4 SENT, #5 PARK, #3 SENT]: FREEZE #5 n=2, "
	      "WATCH change\n"
	      "FROZEN #5 n=0 -> MOVING [#4 SENT, #3 SENT]\n"
	      "POPULATION movable=0 waiting=0 n=4 -> MOVING [#4 SENT, #3 SENT]: WATCH change\n");
}

Test(handover_source, nothing_frozen)
{
	struct cman_handover h = source(2, 2, S_NAMED);

	trace(&h, "POPULATION movable=2 n=2 -> MOVING [#1 PARK]: FREEZE #1 n=2, WATCH change\n"
		  "FROZEN #1 n=0 -> MOVING\n"
		  "POPULATION movable=1 n=2 -> MOVING [#2 PARK]: FREEZE #2 n=1, WATCH change\n"
		  "FROZEN #2 n=1 -> MOVING [#2 SENT]: JOURNAL #2 PARKED, PACK #2\n");
}

Test(handover_source, hello_refused)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO not -> OVER: OVER not\n");
}

Test(handover_source, name_refused)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "READY -> STARTING: GIVE_NAME\n"
		  "NAME_GIVEN not -> OVER: SEND CANCEL, RESUME, OVER not\n");
}

Test(handover_source, lost_in_hello)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "PEER_LOST dead -> OVER: OVER not\n");
}

Test(handover_source, lost_while_starting)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "PEER_LOST -> OVER: RESUME, OVER not\n"
		  "PEER_LOST -> OVER\n"
		  "PEER_LOST dead -> OVER: RESCUE, RESUME\n"
		  "PEER_LOST dead -> OVER\n");
}

Test(handover_source, dead_while_starting)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "PEER_LOST dead -> OVER: RESCUE, RESUME, OVER not\n");
}

Test(handover_source, lost_while_giving_the_name)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "READY -> STARTING: GIVE_NAME\n"
		  "PEER_LOST -> BROKEN\n"
		  "NAME_GIVEN ok -> OVER: RESUME, OVER not\n");
}

Test(handover_source, dead_while_giving_the_name)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "READY -> STARTING: GIVE_NAME\n"
		  "PEER_LOST -> BROKEN\n"
		  "PEER_LOST dead -> BROKEN\n"
		  "NAME_GIVEN not -> OVER: RESCUE, RESUME, OVER not\n");
}

Test(handover_source, lost_with_nothing_in_flight)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "PEER_LOST -> OVER: RESUME if-free, OVER not\n"
		  "PEER_LOST dead -> OVER: RESCUE, RESUME\n");
}

Test(handover_source, dead_with_nothing_in_flight)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "PEER_LOST dead -> OVER: RESCUE, RESUME, OVER not\n"
		  "POPULATION movable=1 n=1 -> OVER\n"
		  "TIMEOUT -> OVER\n");
}

Test(handover_source, lost_in_PARK)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "POPULATION movable=2 n=2 -> MOVING [#1 PARK]: FREEZE #1 n=2, WATCH change\n"
		  "PEER_LOST -> BROKEN [#1 PARK]\n"
		  "FROZEN #1 n=2 -> BROKEN [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> OVER: RESUME if-free, OVER not\n");
}

Test(handover_source, lost_in_PARK_nothing_frozen)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "POPULATION movable=2 n=2 -> MOVING [#1 PARK]: FREEZE #1 n=2, WATCH change\n"
		  "PEER_LOST -> BROKEN [#1 PARK]\n"
		  "FROZEN #1 n=0 -> OVER: RESUME if-free, OVER not\n");
}

Test(handover_source, lost_in_SENT)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "PEER_LOST -> BROKEN [#1 DECIDING]: DECIDE #1 ABORT\n"
		  "DECIDED #1 ABORT -> BROKEN [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> OVER: JOURNAL #1 DONE, RESUME if-free, OVER not\n");
}

Test(handover_source, lost_in_SENT_taken_and_live)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "PEER_LOST -> BROKEN [#1 DECIDING]: DECIDE #1 ABORT\n"
		  "DECIDED #1 TAKE -> BROKEN [#1 DECIDING]: DECIDE #1 DROP\n"
		  "DECIDED #1 LIVE -> BROKEN [#1 OPENG]: RELEASE #1\n"
		  "RELEASED #1 -> OVER: JOURNAL #1 DONE, RESUME if-free, OVER not\n");
}

Test(handover_source, dead_in_SENT_taken_but_not_live)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "PEER_LOST dead -> BROKEN [#1 DECIDING]: DECIDE #1 ABORT\n"
		  "DECIDED #1 TAKE -> BROKEN [#1 DECIDING]: DECIDE #1 DROP\n"
		  "DECIDED #1 DROP -> BROKEN [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> OVER: JOURNAL #1 DONE, RESCUE, RESUME, OVER not\n");
}

Test(handover_source, lost_while_deciding_COMMIT)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "PREPARED #1 -> MOVING [#1 DECIDING]: DECIDE #1 COMMIT\n"
		  "PEER_LOST -> BROKEN [#1 DECIDING]\n"
		  "DECIDED #1 COMMIT -> BROKEN [#1 DECIDING]: DECIDE #1 DROP\n"
		  "DECIDED #1 DROP -> BROKEN [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> OVER: JOURNAL #1 DONE, RESUME if-free, OVER not\n");
}

Test(handover_source, lost_while_deciding_COMMIT_taken)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "PREPARED #1 -> MOVING [#1 DECIDING]: DECIDE #1 COMMIT\n"
		  "PEER_LOST -> BROKEN [#1 DECIDING]\n"
		  "DECIDED #1 TAKE -> BROKEN [#1 DECIDING]: DECIDE #1 DROP\n"
		  "DECIDED #1 LIVE -> BROKEN [#1 OPENG]: RELEASE #1\n"
		  "RELEASED #1 -> OVER: JOURNAL #1 DONE, RESUME if-free, OVER not\n");
}

Test(handover_source, lost_in_COMM_live)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT S_COMM);

	trace(&h, "PEER_LOST -> BROKEN [#1 DECIDING]: DECIDE #1 DROP\n"
		  "DECIDED #1 LIVE -> BROKEN [#1 OPENG]: RELEASE #1\n"
		  "RELEASED #1 -> OVER: JOURNAL #1 DONE, RESUME if-free, OVER not\n");
}

Test(handover_source, dead_in_COMM_done)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT S_COMM);

	trace(&h, "PEER_LOST dead -> BROKEN [#1 DECIDING]: DECIDE #1 DROP\n"
		  "DECIDED #1 DONE -> BROKEN [#1 OPENG]: RELEASE #1\n"
		  "RELEASED #1 -> OVER: JOURNAL #1 DONE, RESCUE, RESUME, OVER not\n");
}

Test(handover_source, dead_in_COMM_not_live)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT S_COMM);

	trace(&h, "PEER_LOST dead -> BROKEN [#1 DECIDING]: DECIDE #1 DROP\n"
		  "DECIDED #1 DROP -> BROKEN [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> OVER: JOURNAL #1 DONE, RESCUE, RESUME, OVER not\n");
}

Test(handover_source, lost_then_dead_in_COMM)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT S_COMM);

	trace(&h, "PEER_LOST -> BROKEN [#1 DECIDING]: DECIDE #1 DROP\n"
		  "PEER_LOST dead -> BROKEN [#1 DECIDING]\n"
		  "DECIDED #1 DROP -> BROKEN [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> OVER: JOURNAL #1 DONE, RESCUE, RESUME, OVER not\n");
}

Test(handover_source, lost_in_ABORTG)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "CANCEL local -> CANCELLED [#1 DECIDING]: SEND CANCEL, DECIDE #1 ABORT\n"
		  "DECIDED #1 ABORT -> CANCELLED [#1 ABORTG]: SEND ABORT #1\n"
		  "PEER_LOST -> BROKEN [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> OVER: JOURNAL #1 DONE, RESUME if-free, OVER not\n");
}

Test(handover_source, lost_in_REIMP)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "REFUSED #1 -> MOVING [#1 DECIDING]: DECIDE #1 ABORT\n"
		  "DECIDED #1 ABORT -> MOVING [#1 REIMP]: THAW #1\n"
		  "PEER_LOST -> BROKEN [#1 REIMP]\n"
		  "THAWED #1 -> OVER: JOURNAL #1 DONE, RESUME if-free, OVER not\n");
}

Test(handover_source, lost_in_OPENG)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT S_COMM);

	trace(&h, "COMMITTED #1 -> MOVING [#1 OPENG]: RELEASE #1\n"
		  "PEER_LOST dead -> BROKEN [#1 OPENG]\n"
		  "RELEASED #1 -> OVER: JOURNAL #1 DONE, RESCUE, RESUME, OVER not\n");
}

Test(handover_source, lost_in_DONE)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "POPULATION n=0 -> DONE: SEND DONE\n"
		  "PEER_LOST -> OVER: RESUME if-free, OVER not\n");
}

Test(handover_source, dead_in_DONE)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "POPULATION n=3 -> DONE: SEND DONE\n"
		  "PEER_LOST dead -> OVER: RESCUE, RESUME, OVER not\n");
}

Test(handover_source, lost_with_a_full_window)
{
	struct cman_handover h = source(1, 4, S_NAMED);

	trace(&h, "POPULATION movable=4 n=4 -> MOVING [#1 PARK, #2 PARK, #3 PARK, #4 PARK]: FREEZE "
		  "#1 n=1, FREEZE #2 n=1, FREEZE #3 n=1, FREEZE #4 n=1, WATCH change\n"
		  "FROZEN #1 n=1 -> MOVING [#1 SENT, #2 PARK, #3 PARK, #4 PARK]: JOURNAL #1 "
		  "PARKED, PACK #1\n"
		  "FROZEN #2 n=1 -> MOVING [#1 SENT, #2 SENT, #3 PARK, #4 PARK]: JOURNAL #2 "
		  "PARKED, PACK #2\n"
		  "FROZEN #3 n=1 -> MOVING [#1 SENT, #2 SENT, #3 SENT, #4 PARK]: JOURNAL #3 "
		  "PARKED, PACK #3\n"
		  "PREPARED #1 -> MOVING [#1 DECIDING, #2 SENT, #3 SENT, #4 PARK]: DECIDE #1 "
		  "COMMIT\n"
		  "DECIDED #1 COMMIT -> MOVING [#1 COMM, #2 SENT, #3 SENT, #4 PARK]: SEND COMMIT "
		  "#1\n"
		  "PREPARED #2 -> MOVING [#1 COMM, #2 DECIDING, #3 SENT, #4 PARK]: DECIDE #2 "
		  "COMMIT\n"
		  "PEER_LOST -> BROKEN [#1 DECIDING, #2 DECIDING, #3 DECIDING, #4 PARK]: DECIDE #1 "
		  "DROP, DECIDE #3 ABORT\n"
		  "FROZEN #4 n=1 -> BROKEN [#1 DECIDING, #2 DECIDING, #3 DECIDING, #4 REIMP]: THAW "
		  "#4\n"
		  "DECIDED #2 COMMIT -> BROKEN [#1 DECIDING, #2 DECIDING, #3 DECIDING, #4 REIMP]: "
		  "DECIDE #2 DROP\n"
		  "DECIDED #3 ABORT -> BROKEN [#1 DECIDING, #2 DECIDING, #3 REIMP, #4 REIMP]: THAW "
		  "#3\n"
		  "DECIDED #1 LIVE -> BROKEN [#1 OPENG, #2 DECIDING, #3 REIMP, #4 REIMP]: RELEASE "
		  "#1\n"
		  "DECIDED #2 DROP -> BROKEN [#1 OPENG, #2 REIMP, #3 REIMP, #4 REIMP]: THAW #2\n"
		  "THAWED #4 -> BROKEN [#1 OPENG, #2 REIMP, #3 REIMP]\n"
		  "THAWED #3 -> BROKEN [#1 OPENG, #2 REIMP]: JOURNAL #3 DONE\n"
		  "RELEASED #1 -> BROKEN [#2 REIMP]: JOURNAL #1 DONE\n"
		  "THAWED #2 -> OVER: JOURNAL #2 DONE, RESUME if-free, OVER not\n");
}

Test(handover_source, refused)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "REFUSED #1 -> MOVING [#1 DECIDING]: DECIDE #1 ABORT\n"
		  "DECIDED #1 ABORT -> MOVING [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> MOVING: JOURNAL #1 DONE, WATCH now\n"
		  "POPULATION movable=2 n=2 -> MOVING [#2 PARK]: FREEZE #2 n=2, WATCH change\n"
		  "FROZEN #2 n=2 -> MOVING [#2 SENT]: JOURNAL #2 PARKED, PACK #2\n"
		  "PREPARED #2 -> MOVING [#2 DECIDING]: DECIDE #2 COMMIT\n"
		  "DECIDED #2 COMMIT -> MOVING [#2 COMM]: SEND COMMIT #2\n"
		  "COMMITTED #2 -> MOVING [#2 OPENG]: RELEASE #2\n"
		  "RELEASED #2 -> MOVING: JOURNAL #2 DONE, WATCH now\n");
}

Test(handover_source, refused_three_times_in_a_row)
{
	struct cman_handover h = source(1, 4, S_NAMED);

	trace(&h, "POPULATION movable=4 n=4 -> MOVING [#1 PARK, #2 PARK, #3 PARK, #4 PARK]: FREEZE "
		  "#1 n=1, FREEZE #2 n=1, FREEZE #3 n=1, FREEZE #4 n=1, WATCH change\n"
		  "FROZEN #1 n=1 -> MOVING [#1 SENT, #2 PARK, #3 PARK, #4 PARK]: JOURNAL #1 "
		  "PARKED, PACK #1\n"
		  "FROZEN #2 n=1 -> MOVING [#1 SENT, #2 SENT, #3 PARK, #4 PARK]: JOURNAL #2 "
		  "PARKED, PACK #2\n"
		  "FROZEN #3 n=1 -> MOVING [#1 SENT, #2 SENT, #3 SENT, #4 PARK]: JOURNAL #3 "
		  "PARKED, PACK #3\n"
		  "FROZEN #4 n=1 -> MOVING [#1 SENT, #2 SENT, #3 SENT, #4 SENT]: JOURNAL #4 "
		  "PARKED, PACK #4\n"
		  "REFUSED #1 -> MOVING [#1 DECIDING, #2 SENT, #3 SENT, #4 SENT]: DECIDE #1 ABORT\n"
		  "REFUSED #2 -> MOVING [#1 DECIDING, #2 DECIDING, #3 SENT, #4 SENT]: DECIDE #2 "
		  "ABORT\n"
		  "REFUSED #3 -> CANCELLED [#1 DECIDING, #2 DECIDING, #3 DECIDING, #4 DECIDING]: "
		  "DECIDE #3 ABORT, SEND CANCEL, DECIDE #4 ABORT\n"
		  "DECIDED #1 ABORT -> CANCELLED [#1 REIMP, #2 DECIDING, #3 DECIDING, #4 "
		  "DECIDING]: THAW #1\n"
		  "DECIDED #2 ABORT -> CANCELLED [#1 REIMP, #2 REIMP, #3 DECIDING, #4 DECIDING]: "
		  "THAW #2\n"
		  "DECIDED #3 ABORT -> CANCELLED [#1 REIMP, #2 REIMP, #3 REIMP, #4 DECIDING]: THAW "
		  "#3\n"
		  "DECIDED #4 ABORT -> CANCELLED [#1 REIMP, #2 REIMP, #3 REIMP, #4 ABORTG]: SEND "
		  "ABORT #4\n"
		  "DROPPED #4 -> CANCELLED [#1 REIMP, #2 REIMP, #3 REIMP, #4 REIMP]: THAW #4\n"
		  "THAWED #1 -> CANCELLED [#2 REIMP, #3 REIMP, #4 REIMP]: JOURNAL #1 DONE\n"
		  "THAWED #2 -> CANCELLED [#3 REIMP, #4 REIMP]: JOURNAL #2 DONE\n"
		  "THAWED #3 -> CANCELLED [#4 REIMP]: JOURNAL #3 DONE\n"
		  "THAWED #4 -> DONE: JOURNAL #4 DONE, SEND DONE\n"
		  "FINISHED -> OVER: OVER ok\n");
}

Test(handover_source, refused_while_deciding_COMMIT)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "PREPARED #1 -> MOVING [#1 DECIDING]: DECIDE #1 COMMIT\n"
		  "REFUSED #1 -> MOVING [#1 DECIDING]\n"
		  "DECIDED #1 COMMIT -> MOVING [#1 DECIDING]: DECIDE #1 DROP\n"
		  "DECIDED #1 DROP -> MOVING [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> MOVING: JOURNAL #1 DONE, WATCH now\n");
}

Test(handover_source, dropped_in_COMM)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT S_COMM);

	trace(&h, "DROPPED #1 -> MOVING [#1 DECIDING]: DECIDE #1 DROP\n"
		  "DECIDED #1 DROP -> MOVING [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> MOVING: JOURNAL #1 DONE, WATCH now\n");
}

Test(handover_source, dropped_unasked)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "DROPPED #1 -> MOVING [#1 DECIDING]: DECIDE #1 ABORT\n"
		  "DECIDED #1 ABORT -> MOVING [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> MOVING: JOURNAL #1 DONE, WATCH now\n");
}

Test(handover_source, taken_while_cancelling)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "CANCEL local -> CANCELLED [#1 DECIDING]: SEND CANCEL, DECIDE #1 ABORT\n"
		  "DECIDED #1 TAKE -> CANCELLED [#1 COMM]: SEND COMMIT #1\n"
		  "COMMITTED #1 -> CANCELLED [#1 OPENG]: RELEASE #1\n"
		  "RELEASED #1 -> DONE: JOURNAL #1 DONE, SEND DONE\n"
		  "FINISHED -> OVER: OVER ok\n");
}

Test(handover_source, cancel_local_in_hello)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "CANCEL local -> OVER: SEND CANCEL, OVER not\n");
}

Test(handover_source, cancel_local_while_starting)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "CANCEL local rollback -> OVER: SEND CANCEL rollback, RESUME, OVER not\n"
		  "CANCEL -> OVER\n"
		  "CANCEL local -> EPROTO\n");
}

Test(handover_source, cancel_by_peer_while_starting)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "CANCEL -> OVER: SEND CANCEL, RESUME, OVER not\n");
}

Test(handover_source, cancel_while_giving_the_name)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "READY -> STARTING: GIVE_NAME\n"
		  "CANCEL local -> CANCELLED: SEND CANCEL\n"
		  "CANCEL -> CANCELLED\n"
		  "NAME_GIVEN ok -> OVER: RESUME, OVER not\n");
}

Test(handover_source, cancel_by_peer_while_giving_the_name)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "READY -> STARTING: GIVE_NAME\n"
		  "CANCEL -> CANCELLED\n"
		  "NAME_GIVEN ok -> OVER: SEND CANCEL, RESUME, OVER not\n");
}

Test(handover_source, cancel_with_nothing_in_flight)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "CANCEL local -> DONE: SEND CANCEL, SEND DONE\n"
		  "FINISHED -> OVER: OVER ok\n");
}

Test(handover_source, cancel_with_rollback)
{
	struct cman_handover h = source(1, 3, S_NAMED);

	trace(&h, "POPULATION movable=3 n=3 -> MOVING [#1 PARK, #2 PARK, #3 PARK]: FREEZE #1 n=1, "
		  "FREEZE #2 n=1, FREEZE #3 n=1, WATCH change\n"
		  "FROZEN #1 n=1 -> MOVING [#1 SENT, #2 PARK, #3 PARK]: JOURNAL #1 PARKED, PACK "
		  "#1\n"
		  "FROZEN #2 n=1 -> MOVING [#1 SENT, #2 SENT, #3 PARK]: JOURNAL #2 PARKED, PACK "
		  "#2\n"
		  "PREPARED #1 -> MOVING [#1 DECIDING, #2 SENT, #3 PARK]: DECIDE #1 COMMIT\n"
		  "DECIDED #1 COMMIT -> MOVING [#1 COMM, #2 SENT, #3 PARK]: SEND COMMIT #1\n"
		  "CANCEL local rollback -> CANCELLED [#1 COMM, #2 DECIDING, #3 PARK]: SEND CANCEL "
		  "rollback, DECIDE #2 ABORT\n"
		  "CANCEL local rollback -> CANCELLED [#1 COMM, #2 DECIDING, #3 PARK]\n"
		  "DECIDED #2 ABORT -> CANCELLED [#1 COMM, #2 ABORTG, #3 PARK]: SEND ABORT #2\n"
		  "FROZEN #3 n=1 -> CANCELLED [#1 COMM, #2 ABORTG, #3 REIMP]: THAW #3\n"
		  "COMMITTED #1 -> CANCELLED [#1 OPENG, #2 ABORTG, #3 REIMP]: RELEASE #1\n"
		  "DROPPED #2 -> CANCELLED [#1 OPENG, #2 REIMP, #3 REIMP]: THAW #2\n"
		  "THAWED #3 -> CANCELLED [#1 OPENG, #2 REIMP]\n"
		  "POPULATION movable=1 n=2 -> CANCELLED [#1 OPENG, #2 REIMP]\n"
		  "RELEASED #1 -> CANCELLED [#2 REIMP]: JOURNAL #1 DONE\n"
		  "THAWED #2 -> DONE: JOURNAL #2 DONE, SEND DONE\n"
		  "FINISHED -> OVER: SWAP_ROLES\n");
}

Test(handover_source, cancel_by_peer_with_rollback)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "CANCEL rollback -> CANCELLED [#1 DECIDING]: DECIDE #1 ABORT\n"
		  "DECIDED #1 ABORT -> CANCELLED [#1 ABORTG]: SEND ABORT #1\n"
		  "DROPPED #1 -> CANCELLED [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> DONE: JOURNAL #1 DONE, SEND DONE\n"
		  "FINISHED -> OVER: SWAP_ROLES\n");
}

Test(handover_source, cancel_while_deciding_COMMIT)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "PREPARED #1 -> MOVING [#1 DECIDING]: DECIDE #1 COMMIT\n"
		  "CANCEL -> CANCELLED [#1 DECIDING]\n"
		  "DECIDED #1 COMMIT -> CANCELLED [#1 COMM]: SEND COMMIT #1\n"
		  "COMMITTED #1 -> CANCELLED [#1 OPENG]: RELEASE #1\n"
		  "RELEASED #1 -> DONE: JOURNAL #1 DONE, SEND DONE\n"
		  "FINISHED -> OVER: OVER ok\n");
}

Test(handover_source, cancel_then_rollback)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "CANCEL local -> CANCELLED [#1 DECIDING]: SEND CANCEL, DECIDE #1 ABORT\n"
		  "CANCEL local rollback -> CANCELLED [#1 DECIDING]: SEND CANCEL rollback\n"
		  "CANCEL rollback -> CANCELLED [#1 DECIDING]\n"
		  "CANCEL local -> CANCELLED [#1 DECIDING]\n"
		  "DECIDED #1 ABORT -> CANCELLED [#1 ABORTG]: SEND ABORT #1\n"
		  "DROPPED #1 -> CANCELLED [#1 REIMP]: THAW #1\n"
		  "THAWED #1 -> DONE: JOURNAL #1 DONE, SEND DONE\n"
		  "CANCEL local -> EPROTO\n"
		  "FINISHED -> OVER: SWAP_ROLES\n");
}

Test(handover_source, rollback_asked_after_DONE_was_sent)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "POPULATION n=0 -> DONE: SEND DONE\n"
		  "CANCEL rollback -> DONE\n"
		  "TIMEOUT -> DONE\n"
		  "FINISHED -> OVER: SWAP_ROLES\n");
}

Test(handover_source, timeout_in_hello)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "TIMEOUT -> OVER: SEND CANCEL, OVER not\n");
}

Test(handover_source, timeout_while_starting)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "TIMEOUT -> OVER: SEND CANCEL, RESUME, OVER not\n");
}

Test(handover_source, timeout_while_giving_the_name)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "READY -> STARTING: GIVE_NAME\n"
		  "TIMEOUT -> CANCELLED: SEND CANCEL\n"
		  "NAME_GIVEN ok -> OVER: RESUME, OVER not\n");
}

Test(handover_source, timeout_with_nothing_in_flight)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "TIMEOUT -> DONE: SEND DONE\n"
		  "FINISHED -> OVER: OVER ok\n");
}

Test(handover_source, timeout_finishes_what_is_in_flight)
{
	struct cman_handover h = source(1, 3, S_NAMED);

	trace(&h, "POPULATION movable=5 n=5 -> MOVING [#1 PARK, #2 PARK, #3 PARK]: FREEZE #1 n=1, "
		  "FREEZE #2 n=1, FREEZE #3 n=1\n"
		  "FROZEN #1 n=1 -> MOVING [#1 SENT, #2 PARK, #3 PARK]: JOURNAL #1 PARKED, PACK "
		  "#1\n"
		  "PREPARED #1 -> MOVING [#1 DECIDING, #2 PARK, #3 PARK]: DECIDE #1 COMMIT\n"
		  "TIMEOUT -> MOVING [#1 DECIDING, #2 PARK, #3 PARK]\n"
		  "DECIDED #1 COMMIT -> MOVING [#1 COMM, #2 PARK, #3 PARK]: SEND COMMIT #1\n"
		  "FROZEN #2 n=1 -> MOVING [#1 COMM, #2 SENT, #3 PARK]: JOURNAL #2 PARKED, PACK "
		  "#2\n"
		  "FROZEN #3 n=0 -> MOVING [#1 COMM, #2 SENT]\n"
		  "COMMITTED #1 -> MOVING [#1 OPENG, #2 SENT]: RELEASE #1\n"
		  "RELEASED #1 -> MOVING [#2 SENT]: JOURNAL #1 DONE\n"
		  "POPULATION movable=3 n=4 -> MOVING [#2 SENT]\n"
		  "REFUSED #2 -> MOVING [#2 DECIDING]: DECIDE #2 ABORT\n"
		  "DECIDED #2 ABORT -> MOVING [#2 REIMP]: THAW #2\n"
		  "THAWED #2 -> DONE: JOURNAL #2 DONE, SEND DONE\n"
		  "FINISHED -> OVER: OVER ok\n");
}

Test(handover_source, timeout_in_DONE)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "POPULATION n=2 -> DONE: SEND DONE\n"
		  "TIMEOUT -> OVER: OVER ok\n"
		  "FINISHED -> OVER\n");
}

Test(handover_source, queries)
{
	struct cman_handover h = source(1, 4, S_NAMED);

	trace(&h, "QUERY #9 -> MOVING: SEND ABORT #9\n"
		  "QUERY #7.1 -> MOVING: SEND ABORT #?.1\n"
		  "POPULATION movable=4 n=4 -> MOVING [#1 PARK, #2 PARK, #3 PARK, #4 PARK]: FREEZE "
		  "#1 n=1, FREEZE #2 n=1, FREEZE #3 n=1, FREEZE #4 n=1, WATCH change\n"
		  "QUERY #1 -> MOVING [#1 PARK, #2 PARK, #3 PARK, #4 PARK]\n"
		  "FROZEN #1 n=1 -> MOVING [#1 SENT, #2 PARK, #3 PARK, #4 PARK]: JOURNAL #1 "
		  "PARKED, PACK #1\n"
		  "QUERY #1 -> MOVING [#1 SENT, #2 PARK, #3 PARK, #4 PARK]\n"
		  "PREPARED #1 -> MOVING [#1 DECIDING, #2 PARK, #3 PARK, #4 PARK]: DECIDE #1 "
		  "COMMIT\n"
		  "QUERY #1 -> MOVING [#1 DECIDING, #2 PARK, #3 PARK, #4 PARK]\n"
		  "DECIDED #1 COMMIT -> MOVING [#1 COMM, #2 PARK, #3 PARK, #4 PARK]: SEND COMMIT "
		  "#1\n"
		  "QUERY #1 -> MOVING [#1 COMM, #2 PARK, #3 PARK, #4 PARK]: SEND COMMIT #1\n"
		  "FROZEN #2 n=1 -> MOVING [#1 COMM, #2 SENT, #3 PARK, #4 PARK]: JOURNAL #2 "
		  "PARKED, PACK #2\n"
		  "REFUSED #2 -> MOVING [#1 COMM, #2 DECIDING, #3 PARK, #4 PARK]: DECIDE #2 ABORT\n"
		  "DECIDED #2 ABORT -> MOVING [#1 COMM, #2 REIMP, #3 PARK, #4 PARK]: THAW #2\n"
		  "QUERY #2 -> MOVING [#1 COMM, #2 REIMP, #3 PARK, #4 PARK]: SEND ABORT #2\n"
		  "COMMITTED #1 -> MOVING [#1 OPENG, #2 REIMP, #3 PARK, #4 PARK]: RELEASE #1\n"
		  "QUERY #1 -> MOVING [#1 OPENG, #2 REIMP, #3 PARK, #4 PARK]\n"
		  "RELEASED #1 -> MOVING [#2 REIMP, #3 PARK, #4 PARK]: JOURNAL #1 DONE\n"
		  "QUERY #1 -> MOVING [#2 REIMP, #3 PARK, #4 PARK]: SEND ABORT #1\n"
		  "THAWED #2 -> MOVING [#3 PARK, #4 PARK]: JOURNAL #2 DONE\n"
		  "QUERY #2 -> MOVING [#3 PARK, #4 PARK]: SEND ABORT #2\n"
		  "FROZEN #3 n=1 -> MOVING [#3 SENT, #4 PARK]: JOURNAL #3 PARKED, PACK #3\n"
		  "CANCEL -> CANCELLED [#3 DECIDING, #4 PARK]: DECIDE #3 ABORT\n"
		  "DECIDED #3 ABORT -> CANCELLED [#3 ABORTG, #4 PARK]: SEND ABORT #3\n"
		  "QUERY #3 -> CANCELLED [#3 ABORTG, #4 PARK]: SEND ABORT #3\n");
}

Test(handover_source, repeats)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "PREPARED #1 -> MOVING [#1 DECIDING]: DECIDE #1 COMMIT\n"
		  "PREPARED #1 -> MOVING [#1 DECIDING]\n"
		  "DECIDED #1 COMMIT -> MOVING [#1 COMM]: SEND COMMIT #1\n"
		  "PREPARED #1 -> MOVING [#1 COMM]: SEND COMMIT #1\n"
		  "COMMITTED #1 -> MOVING [#1 OPENG]: RELEASE #1\n"
		  "COMMITTED #1 -> MOVING [#1 OPENG]\n"
		  "PREPARED #1 -> MOVING [#1 OPENG]\n"
		  "RELEASED #1 -> MOVING: JOURNAL #1 DONE, WATCH now\n"
		  "COMMITTED #1 -> MOVING\n"
		  "DROPPED #1 -> MOVING\n"
		  "REFUSED #1 -> MOVING\n"
		  "PREPARED #1 -> MOVING: SEND ABORT #1\n");
}

Test(handover_source, repeats_after_abort)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT);

	trace(&h, "CANCEL -> CANCELLED [#1 DECIDING]: DECIDE #1 ABORT\n"
		  "DECIDED #1 ABORT -> CANCELLED [#1 ABORTG]: SEND ABORT #1\n"
		  "PREPARED #1 -> CANCELLED [#1 ABORTG]\n"
		  "DROPPED #1 -> CANCELLED [#1 REIMP]: THAW #1\n"
		  "DROPPED #1 -> CANCELLED [#1 REIMP]\n"
		  "REFUSED #1 -> CANCELLED [#1 REIMP]\n"
		  "PREPARED #1 -> CANCELLED [#1 REIMP]\n"
		  "THAWED #1 -> DONE: JOURNAL #1 DONE, SEND DONE\n"
		  "DROPPED #1 -> DONE\n");
}

Test(handover_source, frames_that_cannot_be)
{
	struct cman_handover h = source(2, 2, S_NAMED);

	trace(&h, "PREPARED #1 -> EPROTO\n"
		  "PREPARED #0 -> EPROTO\n"
		  "PREPARED #7.1 -> EPROTO\n"
		  "POPULATION movable=4 n=4 -> MOVING [#1 PARK, #2 PARK]: FREEZE #1 n=2, FREEZE #2 "
		  "n=2, WATCH change\n"
		  "PREPARED #1 -> EPROTO\n"
		  "COMMITTED #1 -> EPROTO\n"
		  "REFUSED #1 -> EPROTO\n"
		  "FROZEN #1 n=3 -> EPROTO\n"
		  "FROZEN #3 n=1 -> EPROTO\n"
		  "FROZEN #1 n=2 -> MOVING [#1 SENT, #2 PARK]: JOURNAL #1 PARKED, PACK #1\n"
		  "COMMITTED #1 -> EPROTO\n"
		  "THAWED #1 -> EPROTO\n"
		  "RELEASED #1 -> EPROTO\n"
		  "DECIDED #1 COMMIT -> EPROTO\n"
		  "PREPARED #1 -> MOVING [#1 DECIDING, #2 PARK]: DECIDE #1 COMMIT\n"
		  "COMMITTED #1 -> EPROTO\n"
		  "DECIDED #1 PARKED -> EPROTO\n"
		  "DECIDED #1 DONE -> EPROTO\n"
		  "DECIDED #1 COMMIT -> MOVING [#1 COMM, #2 PARK]: SEND COMMIT #1\n"
		  "FROZEN #1 n=1 -> EPROTO\n"
		  "COMMITTED #1 -> MOVING [#1 OPENG, #2 PARK]: RELEASE #1\n"
		  "DROPPED #1 -> EPROTO\n"
		  "FROZEN #2 n=1 -> MOVING [#1 OPENG, #2 SENT]: JOURNAL #2 PARKED, PACK #2\n"
		  "CANCEL -> CANCELLED [#1 OPENG, #2 DECIDING]: DECIDE #2 ABORT\n"
		  "COMMITTED #2 -> EPROTO\n"
		  "DECIDED #2 ABORT -> CANCELLED [#1 OPENG, #2 ABORTG]: SEND ABORT #2\n"
		  "COMMITTED #2 -> EPROTO\n"
		  "PEER_LOST -> BROKEN [#1 OPENG, #2 REIMP]: THAW #2\n"
		  "THAWED #2 -> BROKEN [#1 OPENG]: JOURNAL #2 DONE\n"
		  "COMMITTED #2 -> EPROTO\n"
		  "RELEASED #1 -> OVER: JOURNAL #1 DONE, RESUME if-free, OVER not\n");
}

#define T_NAMED \
	"HELLO ok -> STARTING: START\n" \
	"STARTED ok -> STARTING: SEND READY\n" \
	"NAMED -> STARTING: TAKE_NAME\n" \
	"NAME_TAKEN ok -> MOVING: SEND NAMED\n"

#define T_PREP \
	"BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n" \
	"IMPORTED #1 ok -> MOVING [#1 PREP]: JOURNAL #1 PREPARED, SEND PREPARED #1\n"

Test(handover_target, plain)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "NAMED -> STARTING: TAKE_NAME\n"
		  "BATCH #1 n=2 -> STARTING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "NAME_TAKEN ok -> MOVING [#1 IMPORT]: SEND NAMED\n"
		  "BATCH #2 n=1 -> MOVING [#1 IMPORT, #2 IMPORT]: IMPORT #2 n=1\n"
		  "IMPORTED #1 ok -> MOVING [#1 PREP, #2 IMPORT]: JOURNAL #1 PREPARED, SEND "
		  "PREPARED #1\n"
		  "COMMIT #1 -> MOVING [#1 PEND, #2 IMPORT]: DECIDE #1 LIVE\n"
		  "DECIDED #1 LIVE -> MOVING [#1 ACTIVE, #2 IMPORT]: ACTIVATE #1\n"
		  "IMPORTED #2 ok -> MOVING [#1 ACTIVE, #2 PREP]: JOURNAL #2 PREPARED, SEND "
		  "PREPARED #2\n"
		  "ACTIVATED #1 -> MOVING [#2 PREP]: JOURNAL #1 DONE, SEND COMMITTED #1\n"
		  "COMMIT #2 -> MOVING [#2 PEND]: DECIDE #2 LIVE\n"
		  "DECIDED #2 LIVE -> MOVING [#2 ACTIVE]: ACTIVATE #2\n"
		  "ACTIVATED #2 -> MOVING: JOURNAL #2 DONE, SEND COMMITTED #2\n"
		  "DONE -> OVER: SEND FINISHED, OVER ok\n"
		  "PEER_LOST dead -> OVER\n");
}

Test(handover_target, everything_before_the_name_is_taken)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "NAMED -> STARTING: TAKE_NAME\n"
		  "BATCH #1 n=2 -> STARTING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "IMPORTED #1 ok -> STARTING [#1 PREP]: JOURNAL #1 PREPARED, SEND PREPARED #1\n"
		  "COMMIT #1 -> STARTING [#1 PEND]: DECIDE #1 LIVE\n"
		  "DECIDED #1 LIVE -> STARTING [#1 ACTIVE]: ACTIVATE #1\n"
		  "ACTIVATED #1 -> STARTING: JOURNAL #1 DONE, SEND COMMITTED #1\n"
		  "DONE -> DONE\n"
		  "NAME_TAKEN ok -> OVER: SEND FINISHED, OVER ok\n");
}

Test(handover_target, hello_refused)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO not -> OVER: OVER not\n");
}

Test(handover_target, start_failed)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED not -> OVER: SEND CANCEL, OVER not\n"
		  "CANCEL -> OVER\n");
}

Test(handover_target, name_not_taken)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "NAMED -> STARTING: TAKE_NAME\n"
		  "BATCH #1 n=2 -> STARTING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "NAME_TAKEN not -> CANCELLED [#1 IMPORT]: SEND CANCEL rollback\n"
		  "IMPORTED #1 ok -> CANCELLED [#1 PREP]: JOURNAL #1 PREPARED, SEND PREPARED #1\n"
		  "ABORT #1 -> CANCELLED [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "DISCARDED #1 -> CANCELLED: SEND DROPPED #1\n"
		  "DONE -> OVER: SEND FINISHED, SWAP_ROLES\n");
}

Test(handover_target, import_failed)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "IMPORTED #1 not -> MOVING: JOURNAL #1 DROP, SEND REFUSED #1\n"
		  "BATCH #1 n=2 -> MOVING: SEND DROPPED #1\n"
		  "BATCH #2 n=2 -> MOVING [#2 IMPORT]: IMPORT #2 n=2\n"
		  "IMPORTED #2 ok -> MOVING [#2 PREP]: JOURNAL #2 PREPARED, SEND PREPARED #2\n");
}

Test(handover_target, aborted_in_PREP)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "ABORT #1 -> MOVING [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "ABORT #1 -> MOVING [#1 DISCARD]\n"
		  "DISCARDED #1 -> MOVING: SEND DROPPED #1\n"
		  "ABORT #1 -> MOVING: SEND DROPPED #1\n"
		  "BATCH #1 n=2 -> MOVING: SEND DROPPED #1\n"
		  "COMMIT #1 -> MOVING: SEND DROPPED #1\n");
}

Test(handover_target, aborted_while_importing)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "ABORT #1 -> MOVING [#1 IMPORT]\n"
		  "IMPORTED #1 ok -> MOVING [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "DISCARDED #1 -> MOVING: SEND DROPPED #1\n");
}

Test(handover_target, aborted_while_import_fails)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "ABORT #1 -> MOVING [#1 IMPORT]\n"
		  "IMPORTED #1 not -> MOVING: JOURNAL #1 DROP, SEND DROPPED #1\n");
}

Test(handover_target, abort_before_the_batch)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "ABORT #1 -> MOVING: JOURNAL #1 DROP, SEND DROPPED #1\n"
		  "BATCH #1 n=2 -> MOVING: SEND DROPPED #1\n");
}

Test(handover_target, committed_while_importing)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "COMMIT #1 -> MOVING [#1 IMPORT]\n"
		  "IMPORTED #1 ok -> MOVING [#1 PEND]: JOURNAL #1 PREPARED, DECIDE #1 LIVE\n"
		  "DECIDED #1 LIVE -> MOVING [#1 ACTIVE]: ACTIVATE #1\n"
		  "ACTIVATED #1 -> MOVING: JOURNAL #1 DONE, SEND COMMITTED #1\n");
}

Test(handover_target, committed_while_import_fails)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "COMMIT #1 -> MOVING [#1 IMPORT]\n"
		  "IMPORTED #1 not -> MOVING: JOURNAL #1 DROP, SEND REFUSED #1\n");
}

Test(handover_target, taken_back_by_the_source_before_LIVE)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "COMMIT #1 -> MOVING [#1 PEND]: DECIDE #1 LIVE\n"
		  "DECIDED #1 DROP -> MOVING [#1 DISCARD]: DISCARD #1\n"
		  "DISCARDED #1 -> MOVING: SEND DROPPED #1\n");
}

Test(handover_target, repeats)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "BATCH #1 n=2 -> MOVING [#1 IMPORT]\n"
		  "IMPORTED #1 ok -> MOVING [#1 PREP]: JOURNAL #1 PREPARED, SEND PREPARED #1\n"
		  "BATCH #1 n=2 -> MOVING [#1 PREP]: SEND PREPARED #1\n"
		  "COMMIT #1 -> MOVING [#1 PEND]: DECIDE #1 LIVE\n"
		  "COMMIT #1 -> MOVING [#1 PEND]\n"
		  "ABORT #1 -> MOVING [#1 PEND]\n"
		  "BATCH #1 n=2 -> MOVING [#1 PEND]\n"
		  "DECIDED #1 LIVE -> MOVING [#1 ACTIVE]: ACTIVATE #1\n"
		  "COMMIT #1 -> MOVING [#1 ACTIVE]\n"
		  "ABORT #1 -> MOVING [#1 ACTIVE]\n"
		  "ACTIVATED #1 -> MOVING: JOURNAL #1 DONE, SEND COMMITTED #1\n"
		  "COMMIT #1 -> MOVING: SEND COMMITTED #1\n"
		  "ABORT #1 -> MOVING: SEND COMMITTED #1\n"
		  "BATCH #1 n=2 -> MOVING: SEND COMMITTED #1\n"
		  "DONE -> OVER: SEND FINISHED, OVER ok\n");
}

Test(handover_target, name_not_taken_after_DONE)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "NAMED -> STARTING: TAKE_NAME\n"
		  "DONE -> DONE\n"
		  "NAME_TAKEN not -> OVER: SEND CANCEL rollback, SEND FINISHED, SWAP_ROLES\n");
}

Test(handover_target, DONE_while_something_is_in_flight)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "COMMIT #1 -> MOVING [#1 PEND]: DECIDE #1 LIVE\n"
		  "DECIDED #1 LIVE -> MOVING [#1 ACTIVE]: ACTIVATE #1\n"
		  "DONE -> DONE [#1 ACTIVE]\n"
		  "COMMIT #1 -> DONE [#1 ACTIVE]\n"
		  "BATCH #2 n=1 -> EPROTO\n"
		  "ACTIVATED #1 -> OVER: JOURNAL #1 DONE, SEND COMMITTED #1, SEND FINISHED, OVER "
		  "ok\n");
}

Test(handover_target, lost_in_hello)
{
	struct cman_handover h = target(NULL);

	trace(&h, "PEER_LOST -> OVER: OVER not\n"
		  "PEER_LOST dead -> OVER\n"
		  "CANCEL -> OVER\n"
		  "CANCEL local -> EPROTO\n");
}

Test(handover_target, dead_in_hello)
{
	struct cman_handover h = target(NULL);

	trace(&h, "PEER_LOST dead -> OVER: RESCUE, OVER not\n");
}

Test(handover_target, lost_while_starting)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "PEER_LOST -> BROKEN\n"
		  "STARTED ok -> OVER: OVER not\n");
}

Test(handover_target, dead_while_starting)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "PEER_LOST dead -> OVER: RESCUE, OVER not\n");
}

Test(handover_target, lost_while_taking_the_name)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "NAMED -> STARTING: TAKE_NAME\n"
		  "PEER_LOST -> BROKEN\n"
		  "NAME_TAKEN not -> OVER: OVER not\n");
}

Test(handover_target, dead_while_taking_the_name)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "NAMED -> STARTING: TAKE_NAME\n"
		  "PEER_LOST dead -> BROKEN\n"
		  "NAME_TAKEN ok -> OVER: RESCUE, OVER not\n");
}

Test(handover_target, lost_with_nothing_in_flight)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "PEER_LOST -> OVER: OVER not\n"
		  "PEER_LOST -> OVER\n"
		  "PEER_LOST dead -> OVER: RESCUE\n"
		  "PEER_LOST dead -> OVER\n");
}

Test(handover_target, dead_with_nothing_in_flight)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "PEER_LOST dead -> OVER: RESCUE, OVER not\n"
		  "TIMEOUT -> OVER\n");
}

Test(handover_target, lost_in_IMPORT)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "PEER_LOST -> BROKEN [#1 IMPORT]\n"
		  "IMPORTED #1 ok -> BROKEN [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "DISCARDED #1 -> OVER: OVER not\n");
}

Test(handover_target, dead_in_IMPORT)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "PEER_LOST dead -> BROKEN [#1 IMPORT]\n"
		  "IMPORTED #1 ok -> BROKEN [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "DISCARDED #1 -> OVER: RESCUE, OVER not\n");
}

Test(handover_target, dead_in_IMPORT_that_fails)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "PEER_LOST dead -> BROKEN [#1 IMPORT]\n"
		  "IMPORTED #1 not -> OVER: JOURNAL #1 DROP, RESCUE, OVER not\n");
}

Test(handover_target, lost_in_IMPORT_after_COMMIT)
{
	struct cman_handover h = target(T_NAMED);

	trace(&h, "BATCH #1 n=2 -> MOVING [#1 IMPORT]: IMPORT #1 n=2\n"
		  "COMMIT #1 -> MOVING [#1 IMPORT]\n"
		  "PEER_LOST -> BROKEN [#1 IMPORT]\n"
		  "IMPORTED #1 ok -> BROKEN [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "DISCARDED #1 -> OVER: OVER not\n");
}

Test(handover_target, lost_in_PREP_taken)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "PEER_LOST -> BROKEN [#1 PEND]: DECIDE #1 TAKE\n"
		  "DECIDED #1 TAKE -> BROKEN [#1 PEND]: DECIDE #1 LIVE\n"
		  "DECIDED #1 LIVE -> BROKEN [#1 ACTIVE]: ACTIVATE #1\n"
		  "ACTIVATED #1 -> OVER: JOURNAL #1 DONE, OVER not\n");
}

Test(handover_target, dead_in_PREP_was_committed)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "PEER_LOST dead -> BROKEN [#1 PEND]: DECIDE #1 TAKE\n"
		  "DECIDED #1 COMMIT -> BROKEN [#1 PEND]: DECIDE #1 LIVE\n"
		  "DECIDED #1 LIVE -> BROKEN [#1 ACTIVE]: ACTIVATE #1\n"
		  "ACTIVATED #1 -> OVER: JOURNAL #1 DONE, RESCUE, OVER not\n");
}

Test(handover_target, lost_in_PREP_was_aborted)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "PEER_LOST -> BROKEN [#1 PEND]: DECIDE #1 TAKE\n"
		  "DECIDED #1 ABORT -> BROKEN [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "DISCARDED #1 -> OVER: OVER not\n");
}

Test(handover_target, dead_in_PREP_was_done)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "PEER_LOST dead -> BROKEN [#1 PEND]: DECIDE #1 TAKE\n"
		  "DECIDED #1 DONE -> BROKEN [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "DISCARDED #1 -> OVER: RESCUE, OVER not\n");
}

Test(handover_target, lost_in_PREP_taken_but_dropped_by_the_source)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "PEER_LOST -> BROKEN [#1 PEND]: DECIDE #1 TAKE\n"
		  "DECIDED #1 TAKE -> BROKEN [#1 PEND]: DECIDE #1 LIVE\n"
		  "DECIDED #1 DROP -> BROKEN [#1 DISCARD]: DISCARD #1\n"
		  "DISCARDED #1 -> OVER: OVER not\n");
}

Test(handover_target, lost_while_going_live)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "COMMIT #1 -> MOVING [#1 PEND]: DECIDE #1 LIVE\n"
		  "PEER_LOST dead -> BROKEN [#1 PEND]\n"
		  "DECIDED #1 LIVE -> BROKEN [#1 ACTIVE]: ACTIVATE #1\n"
		  "ACTIVATED #1 -> OVER: JOURNAL #1 DONE, RESCUE, OVER not\n");
}

Test(handover_target, lost_while_going_live_taken_back)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "COMMIT #1 -> MOVING [#1 PEND]: DECIDE #1 LIVE\n"
		  "PEER_LOST -> BROKEN [#1 PEND]\n"
		  "DECIDED #1 DROP -> BROKEN [#1 DISCARD]: DISCARD #1\n"
		  "DISCARDED #1 -> OVER: OVER not\n");
}

Test(handover_target, lost_in_ACTIVE)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "COMMIT #1 -> MOVING [#1 PEND]: DECIDE #1 LIVE\n"
		  "DECIDED #1 LIVE -> MOVING [#1 ACTIVE]: ACTIVATE #1\n"
		  "PEER_LOST -> BROKEN [#1 ACTIVE]\n"
		  "PEER_LOST dead -> BROKEN [#1 ACTIVE]\n"
		  "ACTIVATED #1 -> OVER: JOURNAL #1 DONE, RESCUE, OVER not\n");
}

Test(handover_target, lost_in_DISCARD)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "ABORT #1 -> MOVING [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "PEER_LOST -> BROKEN [#1 DISCARD]\n"
		  "DISCARDED #1 -> OVER: OVER not\n");
}

Test(handover_target, lost_in_DONE)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "COMMIT #1 -> MOVING [#1 PEND]: DECIDE #1 LIVE\n"
		  "DECIDED #1 LIVE -> MOVING [#1 ACTIVE]: ACTIVATE #1\n"
		  "DONE -> DONE [#1 ACTIVE]\n"
		  "PEER_LOST -> BROKEN [#1 ACTIVE]\n"
		  "ACTIVATED #1 -> OVER: JOURNAL #1 DONE, OVER not\n");
}

Test(handover_target, lost_with_a_full_window)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "BATCH #2 n=1 -> MOVING [#1 PREP, #2 IMPORT]: IMPORT #2 n=1\n"
		  "IMPORTED #2 ok -> MOVING [#1 PREP, #2 PREP]: JOURNAL #2 PREPARED, SEND PREPARED "
		  "#2\n"
		  "BATCH #3 n=1 -> MOVING [#1 PREP, #2 PREP, #3 IMPORT]: IMPORT #3 n=1\n"
		  "BATCH #4 n=1 -> MOVING [#1 PREP, #2 PREP, #3 IMPORT, #4 IMPORT]: IMPORT #4 n=1\n"
		  "IMPORTED #4 ok -> MOVING [#1 PREP, #2 PREP, #3 IMPORT, #4 PREP]: JOURNAL #4 "
		  "PREPARED, SEND PREPARED #4\n"
		  "COMMIT #1 -> MOVING [#1 PEND, #2 PREP, #3 IMPORT, #4 PREP]: DECIDE #1 LIVE\n"
		  "BATCH #5 n=1 -> EPROTO\n"
		  "PEER_LOST dead -> BROKEN [#1 PEND, #2 PEND, #3 IMPORT, #4 PEND]: DECIDE #2 "
		  "TAKE, DECIDE #4 TAKE\n"
		  "DECIDED #4 ABORT -> BROKEN [#1 PEND, #2 PEND, #3 IMPORT, #4 DISCARD]: JOURNAL "
		  "#4 DROP, DISCARD #4\n"
		  "DECIDED #1 LIVE -> BROKEN [#1 ACTIVE, #2 PEND, #3 IMPORT, #4 DISCARD]: ACTIVATE "
		  "#1\n"
		  "IMPORTED #3 ok -> BROKEN [#1 ACTIVE, #2 PEND, #3 DISCARD, #4 DISCARD]: JOURNAL "
		  "#3 DROP, DISCARD #3\n"
		  "DECIDED #2 TAKE -> BROKEN [#1 ACTIVE, #2 PEND, #3 DISCARD, #4 DISCARD]: DECIDE "
		  "#2 LIVE\n"
		  "DISCARDED #4 -> BROKEN [#1 ACTIVE, #2 PEND, #3 DISCARD]\n"
		  "ACTIVATED #1 -> BROKEN [#2 PEND, #3 DISCARD]: JOURNAL #1 DONE\n"
		  "DECIDED #2 LIVE -> BROKEN [#2 ACTIVE, #3 DISCARD]: ACTIVATE #2\n"
		  "DISCARDED #3 -> BROKEN [#2 ACTIVE]\n"
		  "ACTIVATED #2 -> OVER: JOURNAL #2 DONE, RESCUE, OVER not\n");
}

Test(handover_target, cancel_local_in_hello)
{
	struct cman_handover h = target(NULL);

	trace(&h, "CANCEL local -> OVER: SEND CANCEL, OVER not\n");
}

Test(handover_target, cancel_by_peer_in_hello)
{
	struct cman_handover h = target(NULL);

	trace(&h, "CANCEL -> OVER: OVER not\n");
}

Test(handover_target, cancel_local_while_starting_gateways)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "CANCEL local -> CANCELLED: SEND CANCEL\n"
		  "STARTED ok -> OVER: OVER not\n");
}

Test(handover_target, cancel_by_peer_while_starting_gateways)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "CANCEL -> CANCELLED\n"
		  "STARTED ok -> OVER: OVER not\n");
}

Test(handover_target, cancel_local_after_READY_in_time)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "CANCEL local rollback -> CANCELLED: SEND CANCEL rollback\n"
		  "CANCEL local rollback -> CANCELLED\n"
		  "CANCEL -> OVER: OVER not\n");
}

Test(handover_target, cancel_local_after_READY_too_late)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "CANCEL local rollback -> CANCELLED: SEND CANCEL rollback\n"
		  "NAMED -> CANCELLED: TAKE_NAME\n"
		  "NAME_TAKEN ok -> CANCELLED\n"
		  "DONE -> OVER: SEND FINISHED, SWAP_ROLES\n");
}

Test(handover_target, cancel_by_peer_after_READY)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "CANCEL -> OVER: OVER not\n");
}

Test(handover_target, cancel_local)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "CANCEL local -> CANCELLED [#1 PREP]: SEND CANCEL\n"
		  "BATCH #2 n=1 -> CANCELLED [#1 PREP, #2 IMPORT]: IMPORT #2 n=1\n"
		  "IMPORTED #2 ok -> CANCELLED [#1 PREP, #2 PREP]: JOURNAL #2 PREPARED, SEND "
		  "PREPARED #2\n"
		  "ABORT #1 -> CANCELLED [#1 DISCARD, #2 PREP]: JOURNAL #1 DROP, DISCARD #1\n"
		  "ABORT #2 -> CANCELLED [#1 DISCARD, #2 DISCARD]: JOURNAL #2 DROP, DISCARD #2\n"
		  "DISCARDED #2 -> CANCELLED [#1 DISCARD]: SEND DROPPED #2\n"
		  "DISCARDED #1 -> CANCELLED: SEND DROPPED #1\n"
		  "DONE -> OVER: SEND FINISHED, OVER ok\n");
}

Test(handover_target, cancel_local_with_rollback)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "CANCEL local -> CANCELLED [#1 PREP]: SEND CANCEL\n"
		  "CANCEL local rollback -> CANCELLED [#1 PREP]: SEND CANCEL rollback\n"
		  "ABORT #1 -> CANCELLED [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "DISCARDED #1 -> CANCELLED: SEND DROPPED #1\n"
		  "DONE -> OVER: SEND FINISHED, SWAP_ROLES\n");
}

Test(handover_target, cancel_by_peer_with_rollback)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "COMMIT #1 -> MOVING [#1 PEND]: DECIDE #1 LIVE\n"
		  "CANCEL rollback -> CANCELLED [#1 PEND]\n"
		  "DECIDED #1 LIVE -> CANCELLED [#1 ACTIVE]: ACTIVATE #1\n"
		  "ACTIVATED #1 -> CANCELLED: JOURNAL #1 DONE, SEND COMMITTED #1\n"
		  "DONE -> OVER: SEND FINISHED, SWAP_ROLES\n");
}

Test(handover_target, cancel_then_lost)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "CANCEL local -> CANCELLED [#1 PREP]: SEND CANCEL\n"
		  "PEER_LOST -> BROKEN [#1 PEND]: DECIDE #1 TAKE\n"
		  "DECIDED #1 ABORT -> BROKEN [#1 DISCARD]: JOURNAL #1 DROP, DISCARD #1\n"
		  "DISCARDED #1 -> OVER: OVER not\n");
}

Test(handover_target, silence)
{
	struct cman_handover h = target(T_NAMED T_PREP);

	trace(&h, "BATCH #2 n=1 -> MOVING [#1 PREP, #2 IMPORT]: IMPORT #2 n=1\n"
		  "TIMEOUT -> MOVING [#1 PREP, #2 IMPORT]: SEND QUERY #1\n"
		  "IMPORTED #2 ok -> MOVING [#1 PREP, #2 PREP]: JOURNAL #2 PREPARED, SEND PREPARED "
		  "#2\n"
		  "TIMEOUT -> MOVING [#1 PREP, #2 PREP]: SEND QUERY #1, SEND QUERY #2\n"
		  "COMMIT #1 -> MOVING [#1 PEND, #2 PREP]: DECIDE #1 LIVE\n"
		  "TIMEOUT -> MOVING [#1 PEND, #2 PREP]: SEND QUERY #2\n");
}

Test(handover_target, frames_that_cannot_be)
{
	struct cman_handover h = target(NULL);

	trace(&h, "HELLO ok -> STARTING: START\n"
		  "BATCH #1 n=1 -> EPROTO\n"
		  "NAMED -> EPROTO\n"
		  "NAME_TAKEN ok -> EPROTO\n"
		  "STARTED ok -> STARTING: SEND READY\n"
		  "STARTED ok -> EPROTO\n"
		  "DONE -> EPROTO\n"
		  "NAMED -> STARTING: TAKE_NAME\n"
		  "STARTED ok -> EPROTO\n"
		  "NAMED -> EPROTO\n"
		  "NAME_TAKEN ok -> MOVING: SEND NAMED\n"
		  "COMMIT #1 -> EPROTO\n"
		  "BATCH #0 n=1 -> EPROTO\n"
		  "BATCH #1 n=0 -> EPROTO\n"
		  "BATCH #1 n=1 -> MOVING [#1 IMPORT]: IMPORT #1 n=1\n"
		  "BATCH #6.2 n=1 -> EPROTO\n"
		  "ABORT #4.1 -> EPROTO\n"
		  "ACTIVATED #1 -> EPROTO\n"
		  "DISCARDED #1 -> EPROTO\n"
		  "DECIDED #1 LIVE -> EPROTO\n"
		  "IMPORTED #2 ok -> EPROTO\n"
		  "IMPORTED #1 ok -> MOVING [#1 PREP]: JOURNAL #1 PREPARED, SEND PREPARED #1\n"
		  "IMPORTED #1 ok -> EPROTO\n"
		  "COMMIT #2 -> EPROTO\n"
		  "COMMIT #1 -> MOVING [#1 PEND]: DECIDE #1 LIVE\n"
		  "DECIDED #1 PREPARED -> EPROTO\n"
		  "BATCH #2 n=1 -> MOVING [#1 PEND, #2 IMPORT]: IMPORT #2 n=1\n"
		  "BATCH #3 n=1 -> MOVING [#1 PEND, #2 IMPORT, #3 IMPORT]: IMPORT #3 n=1\n"
		  "BATCH #4 n=1 -> MOVING [#1 PEND, #2 IMPORT, #3 IMPORT, #4 IMPORT]: IMPORT #4 "
		  "n=1\n"
		  "BATCH #5 n=1 -> EPROTO\n");
}

Test(handover_source, named_comes_once_and_only_after_ours)
{
	struct cman_handover h = source(2, 1, S_NAMED);

	trace(&h, "NAMED -> EPROTO\n");
	h = source(2, 1, NULL);
	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "NAMED -> EPROTO\n"
		  "READY -> STARTING: GIVE_NAME\n"
		  "NAMED -> EPROTO\n");
}

Test(handover_source, named_after_a_cancel_freezes_nothing)
{
	struct cman_handover h = source(2, 1, NULL);

	trace(&h, "HELLO ok -> STARTING: PASS_LISTENERS\n"
		  "READY -> STARTING: GIVE_NAME\n"
		  "NAME_GIVEN ok -> MOVING: SEND NAMED\n"
		  "CANCEL local -> DONE: SEND CANCEL, SEND DONE\n"
		  "NAMED -> DONE\n"
		  "FINISHED -> OVER: OVER ok\n");
}

/* --- every event in every phase it does not belong to */

#define S_RESULTS " FROZEN DECIDED THAWED RELEASED POPULATION "
#define S_FRAMES  " PREPARED REFUSED COMMITTED DROPPED QUERY "
#define T_RESULTS " IMPORTED DECIDED ACTIVATED DISCARDED "
#define T_FRAMES  " BATCH COMMIT ABORT DONE "
#define ALWAYS	  " PEER_LOST TIMEOUT "

static const struct {
	bool source;
	enum cman_handover_phase phase;
	const char *events[6]; /* that lead there */
	const char *allowed;
} phases[] = {
	{ true, CMAN_HO_HELLO, { NULL }, ALWAYS "HELLO CANCEL " },
	{ true, CMAN_HO_STARTING, { "HELLO ok" }, ALWAYS "READY NAME_GIVEN CANCEL " },
	{ true,
	  CMAN_HO_MOVING,
	  { "HELLO ok", "READY", "NAME_GIVEN ok" },
	  ALWAYS S_FRAMES S_RESULTS "NAMED CANCEL " },
	{ true,
	  CMAN_HO_CANCELLED,
	  { "HELLO ok", "READY", "CANCEL" },
	  ALWAYS S_FRAMES S_RESULTS "NAME_GIVEN NAMED CANCEL " },
	{ true,
	  CMAN_HO_DONE,
	  { "HELLO ok", "READY", "NAME_GIVEN ok", "CANCEL" },
	  ALWAYS S_FRAMES "NAMED POPULATION CANCEL FINISHED " },
	{ true,
	  CMAN_HO_BROKEN,
	  { "HELLO ok", "READY", "PEER_LOST" },
	  ALWAYS S_RESULTS "NAME_GIVEN " },
	{ true, CMAN_HO_OVER, { "HELLO not" }, ALWAYS "NAMED POPULATION CANCEL FINISHED " },
	{ false, CMAN_HO_HELLO, { NULL }, ALWAYS "HELLO CANCEL " },
	{ false,
	  CMAN_HO_STARTING,
	  { "HELLO ok" },
	  ALWAYS T_FRAMES T_RESULTS "STARTED NAMED NAME_TAKEN CANCEL " },
	{ false,
	  CMAN_HO_MOVING,
	  { "HELLO ok", "STARTED ok", "NAMED", "NAME_TAKEN ok" },
	  ALWAYS T_FRAMES T_RESULTS "CANCEL " },
	{ false,
	  CMAN_HO_CANCELLED,
	  { "HELLO ok", "STARTED ok", "NAMED", "CANCEL" },
	  ALWAYS T_FRAMES T_RESULTS "STARTED NAMED NAME_TAKEN CANCEL " },
	{ false,
	  CMAN_HO_DONE,
	  { "HELLO ok", "STARTED ok", "NAMED", "DONE" },
	  ALWAYS T_RESULTS "NAME_TAKEN BATCH COMMIT ABORT " },
	{ false,
	  CMAN_HO_BROKEN,
	  { "HELLO ok", "PEER_LOST" },
	  ALWAYS T_RESULTS "STARTED NAME_TAKEN " },
	{ false, CMAN_HO_OVER, { "HELLO not" }, ALWAYS "CANCEL " },
};

Test(handover, events_in_phases_they_do_not_belong_to)
{
	unsigned int refused = 0;

	for (size_t k = 0; k < sizeof(phases) / sizeof(*phases); k++) {
		struct cman_handover h = phases[k].source ? source(2, 2, NULL) : target(NULL);
		struct cman_effects out;

		for (int i = 0; phases[k].events[i]; i++) {
			struct cman_event ev = event_of(phases[k].events[i]);

			cr_assert_eq(step(&h, &ev, &out), 0);
		}
		cr_assert_eq(h.phase, phases[k].phase, "%zu: %s", k, cman_phase_name(h.phase));
		for (int t = CMAN_EV_NONE; t <= CMAN_EV_TIMEOUT + 40; t++) {
			char word[40];

			snprintf(word, sizeof(word), " %s ",
				 cman_event_name((enum cman_event_type)t));
			if (strstr(phases[k].allowed, word))
				continue;
			for (int variant = 0; variant < 4; variant++) {
				struct cman_handover before = h;
				struct cman_event ev = { .type = (enum cman_event_type)t,
							 .id = (uint64_t)EPOCH << 32 | 1,
							 .count = 1,
							 .ok = variant & 1,
							 .local = variant & 2,
							 .value = CMAN_REG_COMMIT };

				out.n = 7;
				cr_assert_eq(step(&h, &ev, &out), -EPROTO, "%s in %s", word,
					     cman_phase_name(h.phase));
				cr_assert(!out.n && !memcmp(&h, &before, sizeof(h)));
				refused++;
			}
		}
	}
	cr_assert_gt(refused, 1000);
}

Test(handover, ids_are_bounded)
{
	struct cman_handover h = target(T_NAMED);
	struct cman_effects out;

	/* far more batches than the ring of tombstones holds; then old ones come again */
	for (uint32_t n = 1; n <= 1000; n++) {
		uint64_t id = (uint64_t)EPOCH << 32 | n;
		struct cman_event ev[] = {
			{ .type = CMAN_EV_BATCH, .id = id, .count = 1 },
			{ .type = CMAN_EV_IMPORTED, .id = id, .ok = true },
			{ .type = CMAN_EV_COMMIT, .id = id },
			{ .type = CMAN_EV_DECIDED, .id = id, .value = CMAN_REG_LIVE },
			{ .type = CMAN_EV_ACTIVATED, .id = id },
		};

		for (size_t i = 0; i < sizeof(ev) / sizeof(*ev); i++)
			cr_assert_eq(cman_target_step(&h, &ev[i], &out), 0);
	}
	cr_assert_eq(h.moved, 1000);
	for (uint32_t n = 1; n <= 1000; n++) {
		struct cman_event ev = { .type = CMAN_EV_BATCH,
					 .id = (uint64_t)EPOCH << 32 | n,
					 .count = 1 };
		int err = cman_target_step(&h, &ev, &out);

		/* known: COMMITTED; forgotten: refused; imported: never */
		if (n + CMAN_TOMBSTONES / 2 > 1000)
			cr_assert(!err && out.n == 1 && out.e[0].frame == CMAN_FRAME_COMMITTED);
		else
			cr_assert_eq(err, -EPROTO);
	}
}

Test(handover, counts)
{
	struct cman_handover h = source(2, 1, S_NAMED S_SENT S_COMM);

	trace(&h, "COMMITTED #1 -> MOVING [#1 OPENG]: RELEASE #1\n"
		  "RELEASED #1 -> MOVING: JOURNAL #1 DONE, WATCH now\n"
		  "POPULATION movable=1 n=1 -> MOVING [#2 PARK]: FREEZE #2 n=1, WATCH change\n"
		  "FROZEN #2 n=1 -> MOVING [#2 SENT]: JOURNAL #2 PARKED, PACK #2\n"
		  "REFUSED #2 -> MOVING [#2 DECIDING]: DECIDE #2 ABORT\n"
		  "DECIDED #2 ABORT -> MOVING [#2 REIMP]: THAW #2\n"
		  "THAWED #2 -> MOVING: JOURNAL #2 DONE, WATCH now\n");
	cr_assert_eq(h.moved, 2);
	cr_assert_eq(h.failed, 1);
	cr_assert_eq(cman_handover_in_flight(&h), 0);
	cman_source_init(&h, EPOCH, 0, 99);
	cr_assert(h.batch_size == 1 && h.window == CMAN_HANDOVER_WINDOW);
}

Test(handover, owner_of_a_batch)
{
	for (int v = CMAN_REG_UNKNOWN; v <= CMAN_REG_DONE; v++)
		cr_assert_eq(cman_handover_owner((enum cman_register)v) == CMAN_OWNER_TARGET,
			     v == CMAN_REG_LIVE || v == CMAN_REG_DONE);
}

Test(handover, names)
{
	cr_assert_str_eq(cman_phase_name(CMAN_HO_BROKEN), "BROKEN");
	cr_assert_str_eq(cman_phase_name((enum cman_handover_phase)99), "?");
	cr_assert_str_eq(cman_batch_state_name(CMAN_BATCH_DISCARD), "DISCARD");
	cr_assert_str_eq(cman_event_name(CMAN_EV_TIMEOUT), "TIMEOUT");
	cr_assert_str_eq(cman_effect_name(CMAN_EF_OVER), "OVER");
	cr_assert_str_eq(cman_register_name(CMAN_REG_DONE), "DONE");
	for (int i = 0; i <= CMAN_EV_TIMEOUT; i++)
		cr_assert_str_neq(cman_event_name((enum cman_event_type)i), "?");
	for (int i = 0; i <= CMAN_EF_OVER; i++)
		cr_assert_str_neq(cman_effect_name((enum cman_effect_type)i), "?");
	for (int i = 0; i <= CMAN_BATCH_DISCARD; i++)
		cr_assert_str_neq(cman_batch_state_name((enum cman_batch_state)i), "?");
}
