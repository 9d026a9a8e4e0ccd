/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real handover machines (usr/core/handover*.c) against each other in a simulated world: two
 * managers, their gateways, journals, a channel, a name, and sessions that come and go. A seeded
 * scheduler picks what happens next: one effect, one frame, one slot of one order, or a fault: the
 * channel breaks, a manager dies between any two effects, batches are refused, the operator cancels.
 *
 * After every step: no session relays twice, none is lost, no stale copy is revived, no batch is
 * imported twice, the name is never taken from the living. At the end: every session relays once, nothing is
 * left over, no register is open, and the end comes. Then each rule of the protocol is taken away
 * in turn (mutants): the same histories must find that.
 *
 *	handover_sim [HISTORIES]		TAP; default 20000
 *	handover_sim -s SEED [-m MUTANT]	one history, with every step
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/handover.h"
#include "usr/core/wire.h"

#define SESSIONS  24
#define EPOCHS	  4
#define NUMBERS	  256
#define QUEUE	  256
#define MAX_STEPS 20000

enum mutant {
	NO_MUTANT,
	TAKE_WITHOUT_REGISTER,	  /* T in doubt goes live without asking S's register */
	THAW_ON_TIMEOUT_ALONE,	  /* S thaws without asking its own register */
	RELEASE_BEFORE_COMMITTED, /* S closes its duplicates when it sends COMMIT */
	LIVE_AFTER_ACTIVATE,	  /* T records LIVE when it relays already */
	LIVE_NOT_COMPARED,	  /* T writes LIVE over a DROP */
	DROP_NOT_COMPARED,	  /* S takes back whatever T's journal says */
	COMMITTED_BEFORE_LIVE,	  /* T says COMMITTED first */
	RESCUE_IGNORES_OWNER,	  /* every frozen slot is taken */
	RESCUE_WITHOUT_STOP,	  /* the dead manager's gateways go on */
	NO_TOMBSTONES,
	RESUME_UNCONDITIONALLY, /* S takes the name though T may have it */
	MUTANTS
};

static const char *const mutant_names[MUTANTS] = {
	"no mutant",
	"T takes without the register",
	"S thaws on timeout alone",
	"S releases before COMMITTED",
	"LIVE recorded after activate",
	"LIVE not compared",
	"DROP not compared",
	"COMMITTED said before LIVE",
	"rescue ignores whose a batch is",
	"rescue without stopping the gateways",
	"no tombstones",
	"RESUME though T has the name",
};

enum slot { EMPTY, CONNECTING, RELAY, LEAVING, PREPARED, HELD };
static const char *const slot_names[] = {
	"-", "connecting", "relay", "leaving", "prepared", "held"
};

struct session {
	bool used, ended;
	enum slot slot[2];
	uint64_t batch[2];
	bool moved_on; /* relayed elsewhere since the copy of the source was frozen */
};

struct frame {
	uint8_t type;
	uint64_t id;
	uint32_t mask; /* BATCH: its sessions */
	bool rollback, ok;
};

/* What takes several steps: an order in a gateway's mailbox, or a manager's own work. */
struct job {
	enum cman_effect_type type;
	uint64_t id;
	uint32_t count, done, mask;
	int next;
	bool by_manager, ok;
};

struct manager {
	struct cman_handover h;
	bool alive, over, accept, told_lost, told_dead, peer_died;
	int swaps;
	struct cman_effects todo;
	unsigned int at; /* next of todo */
	struct cman_event inbox[QUEUE];
	unsigned int ninbox;
	struct job job[64];
	unsigned int njobs;
	bool watch;
	uint32_t told_movable;
	bool started; /* gateways exist */
	bool rescued;
	bool stopped; /* its gateways were killed by a rescue */
};

static struct world {
	enum mutant mutant;
	uint32_t rng, seed;
	bool verbose, up;
	struct session session[SESSIONS];
	struct manager m[2];
	struct frame chan[2][QUEUE]; /* towards manager i */
	unsigned int nchan[2];
	struct frame stash[2];
	enum cman_register reg[2][EPOCHS + 1][NUMBERS];
	int name; /* who has it; -1: nobody */
	unsigned int step, calm_at;
	uint32_t rarely; /* one of so many steps is a fault of each kind */
	int crashes, breaks, cancels, refusals, timeouts, dups;
	/* what a history may contain */
	int max_crashes, max_breaks, max_cancels, refuse_percent, max_timeouts, max_dups, churn;
} w;

static jmp_buf failed;
static char why[200];
static struct {
	unsigned long moved, steps, rescues, crashes, breaks, swaps, taken, dropped, refused,
		restarts;
} seen;

/* --- small things */

static uint32_t rnd(uint32_t n)
{
	w.rng ^= w.rng << 13;
	w.rng ^= w.rng >> 17;
	w.rng ^= w.rng << 5;
	return w.rng % n;
}

__attribute__((format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	longjmp(failed, 1);
}

#define say(...) \
	do { \
		if (w.verbose) \
			printf("# " __VA_ARGS__); \
	} while (0)

static int source_of(uint64_t id)
{
	return (int)((id >> 32) + 1) % 2; /* epoch 1: manager 0, 2: manager 1, ... */
}

static enum cman_register *reg(int journal, uint64_t id)
{
	if (id >> 32 > EPOCHS || (uint32_t)id >= NUMBERS)
		fail("id out of range");
	return &w.reg[journal][id >> 32][(uint32_t)id];
}

static void check(void)
{
	for (int i = 0; i < SESSIONS; i++) {
		const struct session *s = &w.session[i];

		if (!s->used || s->ended)
			continue;
		if (s->slot[0] == RELAY && s->slot[1] == RELAY)
			fail("session %d relays twice", i);
		if (s->slot[0] == EMPTY && s->slot[1] == EMPTY)
			fail("session %d is lost", i);
	}
}

/* The copy of side i becomes the one that relays. */
static void go_live(int i, int n)
{
	struct session *s = &w.session[n];

	if (s->ended)
		fail("session %d: revived after its end", n);
	if (s->moved_on && i == source_of(s->batch[i]) && s->slot[i] == LEAVING)
		fail("session %d: a stale copy is revived", n);
	s->slot[i] = RELAY;
	s->batch[i] = 0;
	say("  session %d relays at %d\n", n, i);
	check();
}

/* Both sides see the end of the channel after what was received before it; the rest is gone. */
static void cut(void)
{
	if (!w.up)
		return;
	w.up = false;
	for (int i = 0; i < 2; i++)
		w.nchan[i] = w.nchan[i] ? rnd(w.nchan[i] + 1) : 0;
}

/* --- managers: events in, effects out */

static void feed(int i, struct cman_event ev)
{
	struct manager *m = &w.m[i];
	struct cman_effects out;
	int err = m->h.source ? cman_source_step(&m->h, &ev, &out) :
				cman_target_step(&m->h, &ev, &out);

	say("%u: manager %d (%s): %s %llx ok=%d dead=%d %s -> %s%s\n", w.step, i,
	    m->h.source ? "S" : "T", cman_event_name(ev.type), (unsigned long long)ev.id, ev.ok,
	    ev.dead, cman_register_name(ev.value), cman_phase_name(m->h.phase),
	    err ? " EPROTO" : "");
	if (err && ev.type >= CMAN_EV_STARTED)
		fail("a result is refused: %s", cman_event_name(ev.type));
	if (err && !(ev.type == CMAN_EV_CANCEL && ev.local)) { /* the shell ends the channel */
		if (w.up && !w.dups && m->h.phase != CMAN_HO_OVER && !w.mutant)
			fail("a frame is refused: %s in %s", cman_event_name(ev.type),
			     cman_phase_name(m->h.phase));
		cut();
		return;
	}
	if (w.mutant == NO_TOMBSTONES)
		m->h.ntombstones = 0;
	m->todo = out;
	m->at = 0;
}

static void post(int i, struct cman_event ev)
{
	struct manager *m = &w.m[i];

	if (!m->alive)
		return;
	if (m->ninbox == QUEUE)
		fail("inbox overflow");
	m->inbox[m->ninbox++] = ev;
}

static void order(int i, struct job j)
{
	struct manager *m = &w.m[i];

	if (m->njobs == 64)
		fail("too many orders");
	m->job[m->njobs++] = j;
}

static void transmit(int from, struct frame f)
{
	int to = !from;

	if (!w.up)
		return;
	if (w.nchan[to] == QUEUE)
		fail("channel overflow");
	w.chan[to][w.nchan[to]++] = f;
}

static void decide(int i, uint64_t id, enum cman_register want)
{
	bool in_targets = want == CMAN_REG_LIVE || want == CMAN_REG_DROP;
	enum cman_register *r = reg(in_targets ? !source_of(id) : source_of(id), id);
	enum cman_register from = in_targets ? CMAN_REG_PREPARED : CMAN_REG_PARKED;
	struct cman_event ev = { .type = CMAN_EV_DECIDED, .id = id, .value = want };
	bool blind = (w.mutant == TAKE_WITHOUT_REGISTER && want == CMAN_REG_TAKE) ||
		     (w.mutant == THAW_ON_TIMEOUT_ALONE && want == CMAN_REG_ABORT) ||
		     (w.mutant == LIVE_AFTER_ACTIVATE && want == CMAN_REG_LIVE);
	bool force = (w.mutant == LIVE_NOT_COMPARED && want == CMAN_REG_LIVE) ||
		     (w.mutant == DROP_NOT_COMPARED && want == CMAN_REG_DROP);

	if (!blind && (force || *r == from || (want == CMAN_REG_DROP && !*r)))
		*r = want;
	if (!blind && !force)
		ev.value = *r;
	seen.taken += ev.value == CMAN_REG_TAKE;
	seen.dropped += ev.value == CMAN_REG_DROP;
	post(i, ev);
}

/* Kills the gateways of side i: nothing is done there any more, the descriptors are kept. */
static void stop_gateways(int i)
{
	unsigned int n = 0;

	for (unsigned int k = 0; k < w.m[i].njobs; k++)
		if (w.m[i].job[k].by_manager)
			w.m[i].job[n++] = w.m[i].job[k];
	w.m[i].njobs = n;
	w.m[i].accept = false;
	w.m[i].stopped = true;
	for (int k = 0; k < SESSIONS; k++)
		if (w.session[k].slot[i] == RELAY)
			w.session[k].slot[i] = HELD;
}

static void close_records(int journal)
{
	for (int e = 1; e <= EPOCHS; e++)
		for (int k = 0; k < NUMBERS; k++) {
			enum cman_register *r = &w.reg[journal][e][k];

			if (*r == CMAN_REG_PREPARED)
				*r = CMAN_REG_DROP;
			else if (*r && *r != CMAN_REG_DROP)
				*r = CMAN_REG_DONE;
		}
}

static void fence(int journal)
{
	for (int e = 1; e <= EPOCHS; e++)
		for (int k = 0; k < NUMBERS; k++)
			if (w.reg[journal][e][k] == CMAN_REG_PREPARED)
				w.reg[journal][e][k] = CMAN_REG_DROP;
}

/* What side i's slot of session n is when nobody relays there: taken, or closed silently. */
static bool owns(int i, int n)
{
	const struct session *s = &w.session[n];
	uint64_t id = s->batch[i];

	if (s->slot[i] != LEAVING && s->slot[i] != PREPARED)
		return s->slot[i] != EMPTY;
	if (w.mutant == RESCUE_IGNORES_OWNER)
		return true;
	return (cman_handover_owner(*reg(!source_of(id), id)) == CMAN_OWNER_TARGET) ==
	       (source_of(id) != i);
}

static void rescue_one(int me, int n)
{
	struct session *s = &w.session[n];
	int from = !me;
	enum slot was = s->slot[from];

	if (!s->used || was == EMPTY)
		return;
	if (!s->ended && owns(from, n)) {
		if (was == LEAVING && s->moved_on)
			fail("session %d: rescue revives a stale copy", n);
		if (was == RELAY && w.mutant != RESCUE_WITHOUT_STOP)
			fail("session %d: rescued while it relays", n);
		if (s->slot[me] != EMPTY)
			fail("session %d: rescue finds a second copy (%s)", n,
			     slot_names[s->slot[me]]);
		s->slot[me] = was == CONNECTING ? CONNECTING : RELAY;
		s->batch[me] = 0;
		s->moved_on = false;
		check();
	}
	s->slot[from] = EMPTY;
	check();
}

static void effect(int i, const struct cman_effect *e)
{
	struct manager *m = &w.m[i];
	struct job j = { .type = e->type, .id = e->id, .count = e->count };

	say("%u:   %d does %s %s %llx %s\n", w.step, i, cman_effect_name(e->type),
	    e->type == CMAN_EF_SEND ? cman_frame_type_name(e->frame) : "",
	    (unsigned long long)e->id, cman_register_name(e->value));
	switch (e->type) {
	case CMAN_EF_SEND:
		transmit(i,
			 (struct frame){ .type = e->frame, .id = e->id, .rollback = e->rollback });
		if (w.mutant == RELEASE_BEFORE_COMMITTED && e->frame == CMAN_FRAME_COMMIT)
			for (int k = 0; k < SESSIONS; k++)
				if (w.session[k].batch[i] == e->id &&
				    w.session[k].slot[i] == LEAVING)
					w.session[k].slot[i] = EMPTY;
		break;
	case CMAN_EF_JOURNAL:
		*reg(i, e->id) = e->value;
		break;
	case CMAN_EF_DECIDE:
		if (w.mutant == COMMITTED_BEFORE_LIVE && e->value == CMAN_REG_LIVE && w.up)
			transmit(i, (struct frame){ .type = CMAN_FRAME_COMMITTED, .id = e->id });
		if (w.mutant == COMMITTED_BEFORE_LIVE && e->value == CMAN_REG_LIVE) {
			j.by_manager = true; /* the register only later */
			order(i, j);
			break;
		}
		decide(i, e->id, e->value);
		break;
	case CMAN_EF_PASS_LISTENERS:
		transmit(i, (struct frame){ .type = CMAN_FRAME_HELLO, .ok = true });
		break;
	case CMAN_EF_START:
		m->started = true;
		m->accept = rnd(20) != 0;
		post(i, (struct cman_event){ .type = CMAN_EV_STARTED, .ok = m->accept });
		break;
	case CMAN_EF_GIVE_NAME:
		if (rnd(20) == 0) {
			post(i, (struct cman_event){ .type = CMAN_EV_NAME_GIVEN });
			break;
		}
		m->accept = false;
		w.name = -1;
		post(i, (struct cman_event){ .type = CMAN_EV_NAME_GIVEN, .ok = true });
		break;
	case CMAN_EF_TAKE_NAME: {
		bool ok = w.name < 0;

		if (ok)
			w.name = i;
		post(i, (struct cman_event){ .type = CMAN_EV_NAME_TAKEN, .ok = ok });
		break;
	}
	case CMAN_EF_RESUME:
		if (e->ok || w.name < 0 || w.name == i || w.mutant == RESUME_UNCONDITIONALLY) {
			if (w.name == 1 - i && w.m[1 - i].alive)
				fail("the name is taken from a living target");
			w.name = i;
			m->accept = true;
		}
		break;
	case CMAN_EF_PACK: {
		struct frame f = { .type = CMAN_FRAME_BATCH, .id = e->id };

		for (int k = 0; k < SESSIONS; k++)
			if (w.session[k].slot[i] == LEAVING && w.session[k].batch[i] == e->id)
				f.mask |= 1u << k;
		transmit(i, f);
		break;
	}
	case CMAN_EF_IMPORT: /* the mask was noted when the frame came */
		for (unsigned int k = 0; k < m->njobs; k++)
			if (m->job[k].type == CMAN_EF_PACK && m->job[k].id == e->id)
				m->job[k].type = CMAN_EF_IMPORT;
		if (*reg(i, e->id) != CMAN_REG_UNKNOWN)
			fail("batch %u is imported though it was %s here", (unsigned int)e->id,
			     cman_register_name(*reg(i, e->id)));
		break;
	case CMAN_EF_FREEZE:
	case CMAN_EF_ACTIVATE:
	case CMAN_EF_DISCARD:
	case CMAN_EF_THAW:
	case CMAN_EF_RELEASE:
		order(i, j);
		break;
	case CMAN_EF_WATCH:
		m->watch = true;
		break;
	case CMAN_EF_RESCUE:
		seen.rescues++;
		if (w.m[!i].alive)
			fail("rescue from a living manager");
		if (w.mutant != RESCUE_WITHOUT_STOP)
			stop_gateways(!i);
		fence(!i);
		j.by_manager = true;
		order(i, j);
		w.name = i;
		m->rescued = true;
		break;
	case CMAN_EF_SWAP_ROLES:
		seen.swaps++;
		m->swaps++;
		m->watch = false;
		m->ninbox = 0; /* a POPULATION, at most */
		if (m->h.source) {
			cman_target_init(&m->h);
			transmit(i, (struct frame){ .type = CMAN_FRAME_HELLO, .ok = true });
		} else {
			cman_source_init(&m->h, (uint64_t)m->swaps + 1, 1 + rnd(6), 1 + rnd(4));
		}
		break;
	case CMAN_EF_OVER:
		m->over = true;
		if (!e->ok && w.up) { /* the shell closes the channel: what it sent arrives */
			w.up = false;
			w.nchan[i] = 0;
		}
		break;
	case CMAN_EF_NONE:
		fail("no effect");
	}
}

/* --- several-step work: one slot a turn */

static void finish(int i, struct job *j)
{
	static const enum cman_event_type answer[] = {
		[CMAN_EF_FREEZE] = CMAN_EV_FROZEN,	[CMAN_EF_IMPORT] = CMAN_EV_IMPORTED,
		[CMAN_EF_ACTIVATE] = CMAN_EV_ACTIVATED, [CMAN_EF_DISCARD] = CMAN_EV_DISCARDED,
		[CMAN_EF_THAW] = CMAN_EV_THAWED,	[CMAN_EF_RELEASE] = CMAN_EV_RELEASED,
		[CMAN_EF_OVER] = CMAN_EV_NONE,
	};
	struct cman_event ev = {
		.type = answer[j->type], .id = j->id, .count = j->done, .ok = true
	};

	if (j->type == CMAN_EF_RESCUE) {
		close_records(!i);
		return;
	}
	if (j->type == CMAN_EF_IMPORT && (int)rnd(100) < w.refuse_percent) {
		for (int k = 0; k < SESSIONS; k++)
			if (w.session[k].slot[i] == PREPARED && w.session[k].batch[i] == j->id)
				w.session[k].slot[i] = EMPTY;
		ev.ok = false;
		seen.refused++;
	}
	if (w.mutant == LIVE_AFTER_ACTIVATE && j->type == CMAN_EF_ACTIVATE)
		*reg(i, j->id) = CMAN_REG_LIVE;
	post(i, ev);
}

static void work(int i, unsigned int which)
{
	struct manager *m = &w.m[i];
	struct job *j = &m->job[which], done;
	int n = j->next++;

	if (j->type == CMAN_EF_DECIDE) {
		decide(i, j->id, CMAN_REG_LIVE);
		*j = m->job[--m->njobs];
		return;
	}
	if (n < SESSIONS) {
		struct session *s = &w.session[n];
		bool mine = s->used && s->batch[i] == j->id;

		switch (j->type) {
		case CMAN_EF_FREEZE:
			if (s->used && !s->ended && s->slot[i] == RELAY && j->done < j->count &&
			    rnd(8)) {
				s->slot[i] = LEAVING;
				s->batch[i] = j->id;
				s->moved_on = false;
				j->done++;
			}
			break;
		case CMAN_EF_IMPORT:
			if (j->mask & 1u << n) {
				if (s->slot[i] != EMPTY)
					fail("session %d is imported twice", n);
				s->slot[i] = PREPARED;
				s->batch[i] = j->id;
			}
			break;
		case CMAN_EF_ACTIVATE:
			if (mine && s->slot[i] == PREPARED) {
				s->moved_on = true;
				go_live(i, n);
				seen.moved++;
			}
			break;
		case CMAN_EF_DISCARD:
			if (mine && s->slot[i] == PREPARED)
				s->slot[i] = EMPTY;
			break;
		case CMAN_EF_THAW:
			if (mine && s->slot[i] == LEAVING)
				go_live(i, n);
			break;
		case CMAN_EF_RELEASE:
			if (s->batch[i] == j->id && s->slot[i] == LEAVING)
				s->slot[i] = EMPTY;
			break;
		default:
			rescue_one(i, n);
		}
		check();
		return;
	}
	done = *j;
	*j = m->job[--m->njobs];
	finish(i, &done);
}

/* --- what can happen */

static void crash(int i)
{
	struct manager *m = &w.m[i];
	unsigned int n = 0;

	say("%u: manager %d dies\n", w.step, i);
	seen.crashes++;
	w.crashes++;
	m->alive = false;
	m->at = m->todo.n = m->ninbox = 0;
	for (unsigned int k = 0; k < m->njobs; k++)
		if (!m->job[k].by_manager && m->job[k].type != CMAN_EF_IMPORT &&
		    m->job[k].type != CMAN_EF_PACK)
			m->job[n++] = m->job[k]; /* the gateways carry their orders out */
	m->njobs = n;
	w.m[!i].peer_died = true;
	cut();
}

static bool deliver(int i)
{
	static const enum cman_event_type events[] = {
		[CMAN_FRAME_HELLO] = CMAN_EV_HELLO,
		[CMAN_FRAME_READY] = CMAN_EV_READY,
		[CMAN_FRAME_NAMED] = CMAN_EV_NAMED,
		[CMAN_FRAME_BATCH] = CMAN_EV_BATCH,
		[CMAN_FRAME_PREPARED] = CMAN_EV_PREPARED,
		[CMAN_FRAME_REFUSED] = CMAN_EV_REFUSED,
		[CMAN_FRAME_COMMIT] = CMAN_EV_COMMIT,
		[CMAN_FRAME_COMMITTED] = CMAN_EV_COMMITTED,
		[CMAN_FRAME_ABORT] = CMAN_EV_ABORT,
		[CMAN_FRAME_DROPPED] = CMAN_EV_DROPPED,
		[CMAN_FRAME_QUERY] = CMAN_EV_QUERY,
		[CMAN_FRAME_DONE] = CMAN_EV_DONE,
		[CMAN_FRAME_CANCEL] = CMAN_EV_CANCEL,
		[CMAN_FRAME_FINISHED] = CMAN_EV_FINISHED,
	};
	struct manager *m = &w.m[i];
	struct frame f = w.chan[i][0];
	struct cman_event ev = {
		.type = events[f.type], .id = f.id, .rollback = f.rollback, .ok = f.ok
	};
	bool repeatable = f.type >= CMAN_FRAME_BATCH && f.type <= CMAN_FRAME_QUERY;

	if (f.type == CMAN_FRAME_HELLO && rnd(40) == 0)
		ev.ok = false;
	if (repeatable && w.dups < w.max_dups && rnd(3) == 0) {
		w.stash[i] = f; /* comes once more, later */
		w.dups++;
	}
	memmove(w.chan[i], w.chan[i] + 1, --w.nchan[i] * sizeof(f));
	if (f.type == CMAN_FRAME_BATCH) {
		unsigned int k;

		for (uint32_t mask = f.mask; mask; mask &= mask - 1)
			ev.count++;
		feed(i, ev);
		for (k = 0; k < m->todo.n && m->todo.e[k].type != CMAN_EF_IMPORT; k++)
			;
		if (m->at == 0 && k < m->todo.n) /* PACK: becomes IMPORT when that is carried out */
			order(i, (struct job){ .type = CMAN_EF_PACK, .id = f.id, .mask = f.mask });
		return true;
	}
	feed(i, ev);
	return true;
}

static void population(int i)
{
	struct cman_event ev = { .type = CMAN_EV_POPULATION };

	for (int k = 0; k < SESSIONS; k++) {
		const struct session *s = &w.session[k];

		if (!s->used || s->ended)
			continue;
		ev.count += s->slot[i] != EMPTY;
		ev.movable += s->slot[i] == RELAY;
		ev.waiting += s->slot[i] == CONNECTING;
	}
	w.m[i].watch = false;
	post(i, ev);
}

static void churn(void)
{
	struct session *s = &w.session[rnd(SESSIONS)];
	int i = (int)rnd(2);

	if (w.m[i].stopped)
		return;
	if (!s->used) {
		if (w.m[i].accept) {
			*s = (struct session){ .used = true };
			s->slot[i] = CONNECTING;
		}
	} else if (!s->ended && s->slot[i] == CONNECTING) {
		s->slot[i] = RELAY;
	} else if (!s->ended && s->slot[i] == RELAY && rnd(4) == 0) {
		s->ended = true;
		s->slot[i] = EMPTY;
	}
}

/* The order of what one shell does: effects of a step one after the other, then the next event. */
static bool turn(int i)
{
	struct manager *m = &w.m[i];
	bool rescuing = false;

	for (unsigned int k = 0; k < m->njobs; k++)
		rescuing |= m->job[k].type == CMAN_EF_RESCUE;
	if (m->njobs && (rnd(2) || rescuing)) {
		unsigned int k = rnd(m->njobs);

		if (m->job[k].type != CMAN_EF_PACK && m->job[k].type != CMAN_EF_NONE) {
			work(i, k);
			return true;
		}
	}
	if (!m->alive || rescuing)
		return m->njobs > 0;
	if (m->at < m->todo.n) {
		struct cman_effect e = m->todo.e[m->at++];

		effect(i, &e);
		return true;
	}
	if (m->ninbox && rnd(2)) {
		unsigned int k = rnd(m->ninbox);
		struct cman_event ev = m->inbox[k];

		memmove(&m->inbox[k], &m->inbox[k + 1], (--m->ninbox - k) * sizeof(ev));
		feed(i, ev);
		return true;
	}
	if (m->watch && rnd(3) == 0) {
		population(i);
		return true;
	}
	if (w.nchan[i] && rnd(2))
		return deliver(i);
	if (!w.up && !w.nchan[i] && !m->told_lost && rnd(2)) {
		bool dead = m->peer_died && rnd(2);

		m->told_lost = true;
		m->told_dead = dead;
		feed(i, (struct cman_event){ .type = CMAN_EV_PEER_LOST, .dead = dead });
		return true;
	}
	if (m->told_lost && m->peer_died && !m->told_dead && rnd(2)) {
		m->told_dead = true;
		feed(i, (struct cman_event){ .type = CMAN_EV_PEER_LOST, .dead = true });
		return true;
	}
	return m->njobs || m->ninbox || m->watch || w.nchan[i] || (!w.up && !m->told_lost) ||
	       (m->told_lost && m->peer_died && !m->told_dead);
}

static void faults(void)
{
	int i = (int)rnd(2);

	if (w.step >= w.calm_at)
		return;
	if (rnd(100) < (uint32_t)w.churn)
		churn();
	if (w.stash[i].type && w.up && rnd(50) == 0) {
		transmit(!i, w.stash[i]);
		w.stash[i].type = 0;
	}
	if (w.crashes < w.max_crashes && rnd(w.rarely) == 0 && w.m[i].alive)
		crash(i);
	if (w.breaks < w.max_breaks && rnd(w.rarely) == 0 && w.up) {
		say("%u: the channel breaks\n", w.step);
		w.breaks++;
		seen.breaks++;
		cut();
	}
	if (w.m[i].at < w.m[i].todo.n || !w.m[i].alive)
		return;
	for (unsigned int k = 0; k < w.m[i].njobs; k++)
		if (w.m[i].job[k].by_manager)
			return;
	if (w.cancels < w.max_cancels && rnd(w.rarely) == 0) {
		w.cancels++;
		feed(i, (struct cman_event){ .type = CMAN_EV_CANCEL,
					     .local = true,
					     .rollback = rnd(2) && w.m[i].swaps < EPOCHS - 1 });
	} else if (w.timeouts < w.max_timeouts && rnd(w.rarely) == 0) {
		w.timeouts++;
		feed(i, (struct cman_event){ .type = CMAN_EV_TIMEOUT });
	}
}

/* A new manager is started where nobody is left who may act: it resolves by the journals. */
static void restart(void)
{
	seen.restarts++;
	say("%u: a new manager resolves\n", w.step);
	stop_gateways(0);
	stop_gateways(1);
	fence(0);
	fence(1);
	for (int n = 0; n < SESSIONS; n++) {
		struct session *s = &w.session[n];
		int found = 0;

		if (!s->used)
			continue;
		for (int i = 0; i < 2; i++) {
			if (s->ended || !owns(i, n)) {
				s->slot[i] = EMPTY;
				continue;
			}
			found++;
			if (s->slot[i] == LEAVING && s->moved_on)
				fail("session %d: a restart revives a stale copy", n);
			s->slot[i] = s->slot[i] == CONNECTING ? CONNECTING : RELAY;
		}
		if (found != !s->ended)
			fail("session %d has %d owners at the restart", n, found);
	}
	close_records(0);
	close_records(1);
	w.name = 0;
}

static void final(void)
{
	bool alive[2] = { w.m[0].alive, w.m[1].alive };

	for (int i = 0; i < 2; i++) {
		if (!alive[i])
			continue;
		if (!w.m[i].over || w.m[i].h.phase != CMAN_HO_OVER ||
		    cman_handover_in_flight(&w.m[i].h))
			fail("manager %d is not at its end: %s", i,
			     cman_phase_name(w.m[i].h.phase));
	}
	if ((!alive[0] || !alive[1]) && !(alive[0] && w.m[0].rescued) &&
	    !(alive[1] && w.m[1].rescued))
		restart();
	for (int n = 0; n < SESSIONS; n++) {
		const struct session *s = &w.session[n];
		int live = 0, rest = 0;

		for (int i = 0; i < 2; i++) {
			live += s->slot[i] == RELAY || s->slot[i] == CONNECTING;
			rest += s->slot[i] == LEAVING || s->slot[i] == PREPARED ||
				s->slot[i] == HELD;
		}
		if (s->used && rest)
			fail("session %d: something is left over: %s, %s", n,
			     slot_names[s->slot[0]], slot_names[s->slot[1]]);
		if (s->used && live != !s->ended)
			fail("session %d relays %d times at the end", n, live);
	}
	for (int j = 0; j < 2; j++)
		for (int e = 1; e <= EPOCHS; e++)
			for (int k = 0; k < NUMBERS; k++) {
				enum cman_register v = w.reg[j][e][k];

				if (v != CMAN_REG_UNKNOWN && v != CMAN_REG_DROP &&
				    v != CMAN_REG_DONE)
					fail("journal %d: %d.%d is left %s", j, e, k,
					     cman_register_name(v));
			}
	if (w.name < 0)
		fail("nobody has the name");
}

static bool history(uint32_t seed, enum mutant mutant, bool verbose)
{
	memset(&w, 0, sizeof(w));
	w.seed = seed;
	w.rng = seed * 2654435761u | 1;
	w.mutant = mutant;
	w.verbose = verbose;
	if (setjmp(failed))
		return false;
	for (int i = 0; i < 8; i++)
		rnd(2);
	w.up = true;
	w.max_crashes = (int)rnd(3);
	w.max_breaks = rnd(2) ? 1 : 0;
	w.max_cancels = rnd(3) ? 0 : 1 + (int)rnd(2);
	w.max_timeouts = rnd(4) ? 0 : 1 + (int)rnd(3);
	w.max_dups = rnd(3) ? 0 : 1 + (int)rnd(6);
	w.refuse_percent = rnd(4) ? 0 : rnd(2) ? 100 : 30;
	w.churn = rnd(2) ? 0 : (int)rnd(20);
	w.calm_at = 100 + rnd(3000);
	w.rarely = 100 + rnd(rnd(2) ? 300 : 2000);
	for (uint32_t n = rnd(SESSIONS + 1); n; n--) {
		w.session[n - 1].used = true;
		w.session[n - 1].slot[0] = rnd(5) ? RELAY : CONNECTING;
	}
	for (int i = 0; i < 2; i++)
		w.m[i].alive = true;
	w.m[0].started = w.m[0].accept = true;
	cman_source_init(&w.m[0].h, 1, 1 + rnd(8), 1 + rnd(CMAN_HANDOVER_WINDOW));
	cman_target_init(&w.m[1].h);
	transmit(1, (struct frame){ .type = CMAN_FRAME_HELLO, .ok = true });
	for (w.step = 0; w.step < MAX_STEPS; w.step++) {
		int i = (int)rnd(2);
		bool more;

		faults();
		if (w.step == w.calm_at)
			for (int k = 0; k < SESSIONS; k++) /* whoever connects gets there */
				for (int side = 0; side < 2; side++)
					if (w.session[k].slot[side] == CONNECTING &&
					    !w.m[side].stopped)
						w.session[k].slot[side] = RELAY;
		more = turn(i);
		more |= w.m[i].at < w.m[i].todo.n;
		check();
		if (!more && !turn(!i) && w.m[!i].at >= w.m[!i].todo.n && w.step >= w.calm_at)
			break;
	}
	seen.steps += w.step;
	if (w.step >= MAX_STEPS)
		fail("no end after %d steps", MAX_STEPS);
	final();
	return true;
}

int main(int argc, char **argv)
{
	unsigned int histories = 20000, bad = 0, test = 1;
	uint32_t seed = 0;
	int mutant = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-s") && i + 1 < argc)
			seed = (uint32_t)strtoul(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "-m") && i + 1 < argc)
			mutant = atoi(argv[++i]);
		else
			histories = (unsigned int)strtoul(argv[i], NULL, 0);
	}
	if (seed) {
		bool ok = mutant >= 0 && mutant < MUTANTS &&
			  history(seed, (enum mutant)mutant, true);

		printf("%s 1 - seed %u: %s\n1..1\n", ok ? "ok" : "not ok", seed, ok ? "fine" : why);
		return !ok;
	}
	for (uint32_t s = 1; s <= histories && bad < 5; s++)
		if (!history(s, NO_MUTANT, false)) {
			printf("# seed %u: %s (handover_sim -s %u)\n", s, why, s);
			bad++;
		}
	printf("%s %u - %u histories of the whole protocol\n", bad ? "not ok" : "ok", test++,
	       histories);
	printf("# %lu steps: %lu sessions moved, %lu crashes, %lu breaks, %lu rescues, %lu restarts, "
	       "%lu role swaps, %lu found TAKE, %lu found DROP, %lu refusals\n",
	       seen.steps, seen.moved, seen.crashes, seen.breaks, seen.rescues, seen.restarts,
	       seen.swaps, seen.taken, seen.dropped, seen.refused);
	if (histories >= 1000 && (!seen.moved || !seen.rescues || !seen.restarts || !seen.swaps ||
				  !seen.taken || !seen.dropped || !seen.refused)) {
		printf("not ok %u - every kind of history was seen\n", test++);
		bad++;
	} else {
		printf("ok %u - every kind of history was seen\n", test++);
	}
	for (int m = 1; m < MUTANTS; m++) {
		uint32_t s = 1;

		while (s <= histories && history(s, (enum mutant)m, false))
			s++;
		if (s <= histories) {
			printf("ok %u - found: %s\n# by seed %u: %s\n", test++, mutant_names[m], s,
			       why);
		} else {
			printf("not ok %u - not found: %s\n", test++, mutant_names[m]);
			bad++;
		}
	}
	printf("1..%u\n", test - 1);
	return bad ? 1 : 0;
}
