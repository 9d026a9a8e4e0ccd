/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving sessions away: the shell around cman_source_step(). It carries the machine's effects out,
 * in order, and feeds results back as events: freezing through the gateways' mailboxes, packing
 * with descriptors that a keeper hands over, registers in the journals.
 */
#include "usr/manager/manager.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "usr/core/session.h"
#include "usr/manager/peer.h"
#include "usr/sys/crash.h"
#include "usr/sys/log.h"
#include "usr/sys/sock.h"
#include "usr/sys/steer.h"

#define BATCH_SIZE 32 /* at most 6 descriptors each: 192 of the 252 a frame can carry */
#define WINDOW	   2
#define WATCH_MS   5

/*
 * A target that owes an answer and says nothing hangs. It is killed, because death is certain where
 * silence is not: what it has lives on in its cells and is taken in. One that does not even die is
 * lost without: then the registers decide. Ticks, so that a pause of our own does not count.
 */
#define TICK_MS	     500
#define SILENT_TICKS 6	/* while sessions are frozen */
#define DYING_TICKS  4	/* after the kill */
#define START_TICKS  60 /* while nothing has moved: that one is only left alone */
#define YIELD_MS     1000

struct parcel { /* one batch in flight */
	struct source *src;
	uint64_t id;
	struct cell *c;
	uint32_t n;
	uint32_t slot[CMAN_BATCH];
	uint64_t session[CMAN_BATCH];
	struct cman_slot copy[CMAN_BATCH]; /* checked: the gateway could still write the slot */
	uint64_t frozen_ns;
	struct order order;
	struct keeper_request give;
	enum cman_event_type answer;
};

struct source {
	struct manager *m;
	struct peer peer;
	struct cman_handover h;
	struct parcel parcel[CMAN_HANDOVER_WINDOW];
	struct cman_event queue[64];
	unsigned int head, tail;
	bool running, over, forgotten;
	uv_timer_t *watch, *timeout, *end, *tick;
	unsigned int quiet; /* ticks since the last frame */
	uint32_t naming;
	uint32_t next_cell;
	uint64_t begun_ns;
};

static void feed(struct source *s, struct cman_event ev);

static void event(struct source *s, enum cman_event_type type, uint64_t id, uint32_t count)
{
	feed(s, (struct cman_event){ .type = type, .id = id, .count = count });
}

static struct parcel *parcel_of(struct source *s, uint64_t id)
{
	for (unsigned int i = 0; i < CMAN_HANDOVER_WINDOW; i++)
		if (s->parcel[i].id == id)
			return &s->parcel[i];
	return NULL;
}

/* ---- freeze, thaw, release: orders to one gateway ---- */

static void on_frozen(struct order *o, void *arg)
{
	struct parcel *p = arg;
	uint32_t n = 0;

	CMAN_CRASH(SOURCE_FROZEN);
	for (uint32_t k = 0; k < o->n; k++) {
		if (o->status || o->result[k])
			continue;
		p->copy[n] = p->c->slots[o->slot[k]];
		if (!cman_slot_sane(&p->copy[n], p->src->m->maps.slots_per_cell)) {
			cman_err("a slot of the ledger is damaged: its session stays",
				 "session=%016llx", (unsigned long long)o->id[k]);
			continue;
		}
		p->slot[n] = o->slot[k];
		p->session[n++] = o->id[k];
	}
	p->n = n;
	if (!n)
		p->id = 0;
	event(p->src, CMAN_EV_FROZEN, o->id[CMAN_BATCH - 1] ? o->id[CMAN_BATCH - 1] : p->id, n);
}

static uint32_t collect(struct cell *c, uint32_t want, struct order *o)
{
	uint32_t high = cell_high(c);

	o->n = 0;
	for (uint32_t k = 0; k < high && o->n < want; k++) {
		uint32_t i = c->cursor++;

		if (c->cursor >= high)
			c->cursor = 0;
		if (i >= high || c->slots[i].state != CMAN_SLOT_RELAYING)
			continue;
		o->slot[o->n] = i;
		o->id[o->n++] = c->slots[i].id;
	}
	return o->n;
}

static void freeze(struct source *s, uint64_t id, uint32_t count)
{
	struct parcel *p = parcel_of(s, 0);

	if (!p) {
		event(s, CMAN_EV_FROZEN, id, 0);
		return;
	}
	memset(p, 0, sizeof(*p));
	p->src = s;
	p->id = id;
	for (uint32_t k = 0; k < s->m->ncells && !p->order.n; k++) {
		p->c = &s->m->cells[s->next_cell++ % s->m->ncells];
		collect(p->c, count < BATCH_SIZE ? count : BATCH_SIZE, &p->order);
	}
	if (!p->order.n) {
		p->id = 0;
		event(s, CMAN_EV_FROZEN, id, 0);
		return;
	}
	/* so that a successor can tell which register decides about the slot */
	for (uint32_t k = 0; k < p->order.n; k++)
		p->c->slots[p->order.slot[k]].batch = (__u16)id;
	p->order.op = CMAN_ORDER_FREEZE;
	p->order.id[CMAN_BATCH - 1] = id; /* never a session's: batches are smaller */
	p->order.done = on_frozen;
	p->order.arg = p;
	p->frozen_ns = cman_now_ns();
	CMAN_CRASH(SOURCE_FREEZE);
	cell_order(p->c, &p->order);
}

static void on_ended(struct order *o, void *arg)
{
	struct parcel *p = arg;
	uint64_t id = p->id;

	(void)o;
	p->id = 0;
	CMAN_CRASH(SOURCE_RELEASED);
	event(p->src, p->answer, id, p->n);
}

static void end_parcel(struct source *s, uint64_t id, enum cman_order op,
		       enum cman_event_type answer)
{
	struct parcel *p = parcel_of(s, id);

	if (!p)
		return;
	CMAN_CRASH(SOURCE_RELEASE);
	memset(&p->order, 0, sizeof(p->order));
	p->order.op = op;
	p->order.n = p->n;
	memcpy(p->order.slot, p->slot, sizeof(p->slot));
	memcpy(p->order.id, p->session, sizeof(p->session));
	p->order.done = on_ended;
	p->order.arg = p;
	p->answer = answer;
	cell_order(p->c, &p->order);
}

/* ---- pack: the descriptors from the keeper, then one BATCH frame ---- */

/* What lies between: where it is and how much, by the sockets' own counters. */
static void pack_flow(struct parcel *p, const struct cman_slot *slot, int dir,
		      const struct cman_leg legs[2], struct cman_wire_session *ws)
{
	uint32_t bound = slot->bound[dir];
	struct cman_between between;

	ws->position[dir] = slot->flow[dir].position;
	ws->read_base[dir] = slot->flow[dir].read_base;
	ws->write_base[dir] = slot->flow[dir].write_base;
	if ((bound & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE)
		ws->pipe[dir] = 1;
	if ((bound & CMAN_BOUND_KIND) != CMAN_BOUND_BUFFER)
		return;
	if (cman_flow_between(&slot->flow[dir], bound, &legs[dir], &legs[!dir], &between))
		return; /* a reset meanwhile: the target finds out as we would */
	if (between.remain) {
		ws->buffer[dir] = p->c->buffers +
				  (size_t)(bound & CMAN_BOUND_INDEX) * CMAN_BUFFER_SIZE;
		ws->buffer_len[dir] = between.offset + between.remain;
	} else {
		ws->position[dir] = between.read;
	}
}

static void pack_session(struct parcel *p, struct cman_frame_writer *w, uint32_t k, int client_fd,
			 int server_fd)
{
	const struct manager *m = p->src->m;
	const struct cman_slot *slot = &p->copy[k];
	uint32_t now_s = (uint32_t)(cman_now_ns() / 1000000000u);
	struct cman_wire_session ws = {
		.id = slot->id,
		.service = m->maps.services[slot->service].name,
		.listener = m->maps.instance->listener[slot->listener].name,
		.eof = slot->eof,
		.flags = slot->flags & (CMAN_SLOT_CLIENT_RESTORED | CMAN_SLOT_SERVER_RESTORED),
		.client_port = slot->client_port,
		.handovers = slot->handovers,
		.age_s = now_s - slot->created_s,
		.idle_s = now_s - slot->active_s,
	};
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct cman_leg legs[2];

	ws.service_len = (uint16_t)strlen(ws.service);
	ws.listener_len = (uint16_t)strlen(ws.listener);
	memcpy(ws.client_addr, slot->client_addr, 16);
	if (!getpeername(server_fd, (struct sockaddr *)&ss, &len))
		cman_sockaddr_get(&ss, ws.target_addr, &ws.target_port);
	/* only a bound buffer's bytes travel in the frame; the target reads the counters anyway */
	memset(legs, 0, sizeof(legs));
	if (((slot->bound[0] & CMAN_BOUND_KIND) == CMAN_BOUND_BUFFER ||
	     (slot->bound[1] & CMAN_BOUND_KIND) == CMAN_BOUND_BUFFER) &&
	    !cman_sock_counters(client_fd, false, &legs[0]) &&
	    cman_sock_counters(server_fd, !(slot->flags & CMAN_SLOT_SERVER_RESTORED), &legs[1]))
		memset(legs, 0, sizeof(legs));
	for (int dir = 0; dir < 2; dir++)
		pack_flow(p, slot, dir, legs, &ws);
	cman_frame_add_session(w, &ws);
}

static uint32_t fds_of(const struct cell *c, const struct cman_slot *slot, uint32_t *numbers)
{
	uint32_t n = 0;

	numbers[n++] = (uint32_t)slot->client_fd;
	numbers[n++] = (uint32_t)slot->server_fd;
	for (int dir = 0; dir < 2; dir++) {
		if ((slot->bound[dir] & CMAN_BOUND_KIND) != CMAN_BOUND_PIPE)
			continue;
		numbers[n++] = (uint32_t)c->pipes[slot->bound[dir] & CMAN_BOUND_INDEX].rfd;
		numbers[n++] = (uint32_t)c->pipes[slot->bound[dir] & CMAN_BOUND_INDEX].wfd;
	}
	return n;
}

static void on_given(struct keeper_request *r, void *arg)
{
	struct parcel *p = arg;
	struct cman_frame_writer w;
	uint32_t at = 0, numbers[6];

	CMAN_CRASH(SOURCE_GIVEN);
	if (r->err) {
		/* no keeper at all: the cell is gone, and the sessions with it */
		cman_err("a batch could not be packed", "err=\"%s\"", strerror(-r->err));
		peer_close(&p->src->peer);
		feed(p->src, (struct cman_event){ .type = CMAN_EV_PEER_LOST });
		return;
	}
	cman_frame_begin(&w, CMAN_FRAME_BATCH, 0);
	cman_frame_add_u64(&w, CMAN_TAG_BATCH_ID, p->id);
	cman_frame_add_u64(&w, CMAN_TAG_TIME_NS, p->frozen_ns);
	for (uint32_t k = 0; k < p->n; k++) {
		pack_session(p, &w, k, r->fd[at], r->fd[at + 1]);
		at += fds_of(p->c, &p->copy[k], numbers);
	}
	peer_send(&p->src->peer, &w, r->fd, r->n);
	CMAN_CRASH(SOURCE_BATCH);
	for (uint32_t k = 0; k < r->n; k++)
		close(r->fd[k]);
}

static void pack(struct source *s, uint64_t id)
{
	struct parcel *p = parcel_of(s, id);

	if (!p)
		return;
	memset(&p->give, 0, sizeof(p->give));
	p->give.type = CMAN_FRAME_GIVE;
	for (uint32_t k = 0; k < p->n; k++)
		p->give.n += fds_of(p->c, &p->copy[k], &p->give.number[p->give.n]);
	p->give.done = on_given;
	p->give.arg = p;
	CMAN_CRASH(SOURCE_PARKED);
	cell_request(p->c, &p->give);
}

/* ---- population ---- */

static void population(struct source *s)
{
	struct cman_event ev = { .type = CMAN_EV_POPULATION };

	for (uint32_t g = 0; g < s->m->ncells; g++) {
		const struct cell *c = &s->m->cells[g];

		for (uint32_t i = 0; i < cell_high(c); i++) {
			switch (c->slots[i].state) {
			case CMAN_SLOT_RELAYING:
				ev.movable++;
				break;
			case CMAN_SLOT_ACCEPTED:
			case CMAN_SLOT_CONNECTING:
			case CMAN_SLOT_CLOSING:
				ev.waiting++;
				break;
			default:
				break;
			}
		}
	}
	ev.count = ev.movable + ev.waiting;
	feed(s, ev);
}

static void on_watch(uv_timer_t *t)
{
	struct source *s = t->data;

	timer_end(&s->watch);
	population(s);
}

/* ---- names ---- */

/*
 * The name has a register of its own, number 0 of the epoch in our journal: PARKED when it is given,
 * TAKE by the target before it takes it, ABORT by us before we go on under it.
 */
static uint64_t name_id(const struct source *s)
{
	return s->h.epoch << 32;
}

static void name_given(struct order *o, void *arg)
{
	struct source *s = arg;

	free(o);
	if (--s->naming)
		return;
	CMAN_CRASH(SOURCE_RENAMED);
	journal_must(cman_journal_write(&s->m->journal, name_id(s), CMAN_REG_PARKED, 0));
	s->m->is_old = true;
	feed(s, (struct cman_event){ .type = CMAN_EV_NAME_GIVEN, .ok = true });
}

static void give_name(struct source *s)
{
	struct manager *m = s->m;

	CMAN_CRASH(SOURCE_GIVE_NAME);
	m->maps.instance->accepting = 0;
	m->maps.instance->state = CMAN_MIGRATING;
	s->naming = m->ncells;
	for (uint32_t i = 0; i < m->ncells; i++) {
		struct order *o = calloc(1, sizeof(*o));

		if (!o)
			abort();
		o->op = CMAN_ORDER_SYNC;
		o->done = name_given;
		o->arg = s;
		cell_order(&m->cells[i], o);
	}
}

/* Accepts again; @certain: the name is ours to take back, whoever has it on disk. */
static void resume(struct source *s, bool certain)
{
	struct manager *m = s->m;

	if (!certain && journal_settle(&m->journal, name_id(s), CMAN_REG_ABORT) == CMAN_REG_TAKE)
		return; /* the new one lives and has it: we stay the old one */
	rundir_follow(m);
	rundir_refresh(m);
	if (strcmp(m->name, m->alias)) {
		if (rundir_exists(m, m->alias)) {
			if (!certain)
				return;
			if (rundir_rename(m, m->name, m->alias, true))
				return;
		} else if (rundir_rename(m, m->name, m->alias, false)) {
			return;
		}
		rundir_refresh(m);
	}
	m->is_old = false;
	cman_steer_take(&m->maps, m->name);
	m->maps.instance->accepting = 1;
	m->maps.instance->state = CMAN_RUNNING;
	instance_sync(m);
	event_add(m, LOG_NOTICE, "instance %s of release %s goes on: %u sessions", m->alias,
		  cman_version, instance_sessions(m));
}

/* ---- the end ---- */

/* By the slots: the gateways' counts are made anew while one recovers. */
static bool is_empty(const struct manager *m)
{
	for (uint32_t g = 0; g < m->ncells; g++)
		for (uint32_t i = 0; i < cell_high(&m->cells[g]); i++)
			if (m->cells[g].slots[i].state >= CMAN_SLOT_ACCEPTED)
				return false;
	return true;
}

static void leave_if_empty(struct source *s)
{
	if (!is_empty(s->m))
		return;
	timer_end(&s->end);
	timer_end(&s->timeout);
	instance_leave(s->m);
}

static void on_end(uv_timer_t *t)
{
	leave_if_empty(t->data);
}

/*
 * The channel broke, the new instance lives and has the name: it takes what is here as soon as no
 * manager looks after it, as after any crash. Nothing is in flight: the registers have said whose it is.
 */
static void on_yield(uv_timer_t *t)
{
	struct source *s = t->data;
	struct manager *m = s->m;

	timer_end(&s->end);
	if (!m->is_old)
		return;
	if (is_empty(m)) {
		instance_leave(m);
		return;
	}
	event_add(m, LOG_WARNING,
		  "the manager ends, so that the new instance takes the %u sessions "
		  "that are still here",
		  instance_sessions(m));
	_exit(0);
}

static void on_timeout(uv_timer_t *t)
{
	struct source *s = t->data;

	if (s->over) {
		uint32_t left = instance_sessions(s->m);

		event_add(s->m, LOG_WARNING,
			  "the handover's time is over: %u sessions that stayed are closed", left);
		timer_end(&s->end);
		timer_end(&s->timeout);
		instance_shutdown(s->m, 0);
		return;
	}
	event_add(s->m, LOG_WARNING, "the handover's time is over");
	feed(s, (struct cman_event){ .type = CMAN_EV_TIMEOUT });
}

static void over(struct source *s, bool ok)
{
	struct manager *m = s->m;

	s->over = true;
	timer_end(&s->watch);
	timer_end(&s->tick);
	if (ok) {
		CMAN_CRASH(SOURCE_OVER);
		m->maps.instance->state = CMAN_DRAINING;
		event_add(m, LOG_NOTICE,
			  "the handover to release %s is over: %u sessions moved, %u stay",
			  s->peer.release, s->h.moved, instance_sessions(m));
		peer_close(&s->peer);
		s->end = timer_begin(m, on_end, 0, 20, s);
		return;
	}
	event_add(m, LOG_WARNING, "the handover was broken off: %u sessions had moved", s->h.moved);
	timer_end(&s->timeout);
	if (m->is_old)
		s->end = timer_begin(m, on_yield, YIELD_MS, 0, s);
	peer_close(&s->peer);
	if (s->h.peer_dead || s->peer.pid <= 0) {
		rescue_leftovers(m);
		if (!m->is_old)
			source_forget(m);
	}
}

static void free_forgotten(uv_timer_t *t)
{
	free(t->data);
	timer_end(&t);
}

void source_forget(struct manager *m)
{
	struct source *s = m->source;

	if (!s)
		return;
	peer_fini(&s->peer);
	timer_end(&s->watch);
	timer_end(&s->tick);
	timer_end(&s->timeout);
	timer_end(&s->end);
	m->source = NULL;
	s->forgotten = true;
	/* feed() and the peer's callback may be on the stack */
	if (!timer_begin(m, free_forgotten, 0, 0, s))
		abort();
}

static void send_done(struct source *s)
{
	struct cman_frame_writer w;
	uint32_t n = 0;

	cman_frame_begin(&w, CMAN_FRAME_DONE, 0);
	for (uint32_t g = 0; g < s->m->ncells; g++) {
		const struct cell *c = &s->m->cells[g];

		for (uint32_t i = 0; i < cell_high(c); i++) {
			const struct cman_slot *slot = &c->slots[i];

			if (slot->state < CMAN_SLOT_ACCEPTED || n++ >= 10000)
				continue;
			cman_frame_add_left(&w, slot->id,
					    s->h.cancel_seen || s->h.cancel_sent ?
						    "the migration was cancelled" :
					    slot->state == CMAN_SLOT_RELAYING ?
						    "the target could not take it in time" :
						    "its target did not answer in time");
		}
	}
	CMAN_CRASH(SOURCE_DONE);
	peer_send(&s->peer, &w, NULL, 0);
}

static void pass_listeners(struct source *s)
{
	struct cman_frame_writer w;
	int fds[CMAN_MAX_LISTENERS];
	unsigned int n = 0;

	peer_hello(&s->peer, CMAN_VIA_FD, 0);
	CMAN_CRASH(SOURCE_LISTENERS);
	cman_frame_begin(&w, CMAN_FRAME_LISTENERS, 0);
	for (int i = 0; i < CMAN_MAX_LISTENERS; i++) {
		const struct cman_listener *l = &s->m->maps.instance->listener[i];
		char text[160], address[CMAN_ENDPOINT_TEXT];
		int len;

		if (!l->used || s->m->listener_fd[i] < 0)
			continue;
		len = snprintf(text, sizeof(text), "%s %s", l->name,
			       cman_endpoint_format(l->addr, l->port_first, address));
		if (l->port_last != l->port_first)
			snprintf(text + len, sizeof(text) - (size_t)len, "-%u", l->port_last);
		cman_frame_add_text(&w, CMAN_TAG_LISTENER, text);
		fds[n++] = s->m->listener_fd[i];
	}
	peer_send(&s->peer, &w, fds, n);
}

static void decide(struct source *s, const struct cman_effect *e)
{
	struct cman_journal *j = e->value == CMAN_REG_DROP ? &s->peer.journal : &s->m->journal;
	struct cman_event ev = { .type = CMAN_EV_DECIDED, .id = e->id };

	CMAN_CRASH(SOURCE_DECIDE);
	ev.value = journal_settle(j, e->id, e->value);
	CMAN_CRASH(SOURCE_DECIDED);
	feed(s, ev);
}

static void run(struct source *s, const struct cman_effect *e)
{
	switch (e->type) {
	case CMAN_EF_SEND:
		if (e->frame == CMAN_FRAME_DONE)
			send_done(s);
		else
			peer_send_simple(&s->peer, (enum cman_frame_type)e->frame, e->id,
					 e->rollback || s->h.rollback);
		if (e->frame == CMAN_FRAME_COMMIT)
			CMAN_CRASH(SOURCE_COMMIT);
		if (e->frame == CMAN_FRAME_NAMED)
			CMAN_CRASH(SOURCE_NAMED);
		break;
	case CMAN_EF_JOURNAL:
		journal_must(cman_journal_write(&s->m->journal, e->id, e->value, e->count));
		break;
	case CMAN_EF_DECIDE:
		decide(s, e);
		break;
	case CMAN_EF_PASS_LISTENERS:
		pass_listeners(s);
		break;
	case CMAN_EF_GIVE_NAME:
		give_name(s);
		break;
	case CMAN_EF_RESUME:
		resume(s, e->ok);
		break;
	case CMAN_EF_FREEZE:
		freeze(s, e->id, e->count);
		break;
	case CMAN_EF_PACK:
		pack(s, e->id);
		break;
	case CMAN_EF_THAW:
		end_parcel(s, e->id, CMAN_ORDER_THAW, CMAN_EV_THAWED);
		break;
	case CMAN_EF_RELEASE:
		end_parcel(s, e->id, CMAN_ORDER_RELEASE, CMAN_EV_RELEASED);
		break;
	case CMAN_EF_WATCH:
		timer_end(&s->watch);
		s->watch = timer_begin(s->m, on_watch, e->ok ? 0 : WATCH_MS, 0, s);
		break;
	case CMAN_EF_RESCUE:
		rescue_leftovers(s->m);
		break;
	case CMAN_EF_SWAP_ROLES:
		target_swap(s->m, &s->peer);
		break;
	case CMAN_EF_OVER:
		over(s, e->ok);
		break;
	default:
		break;
	}
}

static void feed(struct source *s, struct cman_event ev)
{
	s->queue[s->tail++ % 64] = ev;
	if (s->running)
		return;
	s->running = true;
	while (s->head != s->tail) {
		struct cman_effects out;
		struct cman_event next = s->queue[s->head++ % 64];
		int err = cman_source_step(&s->h, &next, &out);

		if (err) {
			cman_warn("an event of the handover does not belong here",
				  "event=%s phase=%s", cman_event_name(next.type),
				  cman_phase_name(s->h.phase));
			if (s->peer.open && next.type <= CMAN_EV_FINISHED) {
				peer_reject(&s->peer, "this frame does not belong here");
				peer_close(&s->peer);
				s->queue[s->tail++ % 64] = (struct cman_event){
					.type = CMAN_EV_PEER_LOST
				};
			}
			continue;
		}
		for (unsigned int i = 0; i < out.n && !s->forgotten; i++)
			run(s, &out.e[i]);
		if (s->forgotten)
			return;
	}
	s->running = false;
}

static void on_frame(void *arg, const struct cman_frame *f, int *fds)
{
	struct source *s = arg;
	struct cman_event ev = peer_event(f);

	s->quiet = 0;
	for (unsigned int i = 0; i < f->nfds; i++)
		close(fds[i]);
	if (f->type == CMAN_FRAME_HELLO && s->h.phase == CMAN_HO_HELLO)
		ev = (struct cman_event){ .type = CMAN_EV_HELLO, .ok = true }; /* a rollback's */
	feed(s, ev);
}

static void on_lost(void *arg, bool dead)
{
	struct source *s = arg;

	if (s->over && !dead)
		return;
	if (s->over && s->h.phase == CMAN_HO_OVER && !s->h.peer_lost)
		return; /* it was finished before */
	feed(s, (struct cman_event){ .type = CMAN_EV_PEER_LOST, .dead = dead });
}

/* An answer is due that only the target can give. */
static unsigned int patience(const struct source *s)
{
	if (s->h.phase == CMAN_HO_HELLO || s->h.phase == CMAN_HO_STARTING)
		return s->h.busy ? 0 : START_TICKS;
	if (s->h.phase == CMAN_HO_MOVING && !s->h.taken)
		return SILENT_TICKS; /* nobody accepts */
	for (unsigned int i = 0; i < s->h.window; i++)
		if (s->h.batch[i].state == CMAN_BATCH_SENT ||
		    s->h.batch[i].state == CMAN_BATCH_COMM ||
		    s->h.batch[i].state == CMAN_BATCH_ABORTG)
			return SILENT_TICKS;
	return s->h.phase == CMAN_HO_DONE ? SILENT_TICKS : 0;
}

static void on_tick(uv_timer_t *t)
{
	struct source *s = t->data;
	unsigned int limit = patience(s);

	if (!s->peer.open || !limit) {
		s->quiet = 0;
		return;
	}
	if (++s->quiet < limit)
		return;
	if (s->quiet == limit)
		event_add(s->m, LOG_WARNING, "the new instance (pid %d) does not answer any more",
			  (int)s->peer.pid);
	if (limit == SILENT_TICKS && s->quiet < limit + DYING_TICKS && peer_kill(&s->peer))
		return;
	peer_close(&s->peer);
	feed(s, (struct cman_event){ .type = CMAN_EV_PEER_LOST });
}

static int highest(void *arg, uint64_t id, enum cman_register value, uint32_t count,
		   uint64_t time_ns)
{
	uint64_t *epoch = arg;

	(void)value;
	(void)count;
	(void)time_ns;
	if (id >> 32 > *epoch)
		*epoch = id >> 32;
	return 0;
}

/* Above every epoch of the journal: batch ids are never used again. */
static uint64_t new_epoch(struct manager *m, uint64_t now_ns)
{
	uint64_t epoch = 0;

	cman_journal_each(&m->journal, highest, &epoch);
	return now_ns / 1000000000u > epoch ? now_ns / 1000000000u : epoch + 1;
}

static struct source *source_new(struct manager *m, uint64_t timeout_s)
{
	struct source *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->m = m;
	s->begun_ns = cman_now_ns();
	cman_source_init(&s->h, new_epoch(m, s->begun_ns), BATCH_SIZE, WINDOW);
	/* repeated: batches in flight have a second more, then everything that stayed is closed */
	s->timeout = timer_begin(m, on_timeout, timeout_s * 1000u, 1000, s);
	s->tick = timer_begin(m, on_tick, TICK_MS, TICK_MS, s);
	return s;
}

static void begin(struct source *s)
{
	char path[256], name[CMAN_NAME_LEN + 8];

	s->peer.on_frame = on_frame;
	s->peer.on_lost = on_lost;
	s->peer.arg = s;
	/* the target's journal: the register that says whether a batch went live there */
	snprintf(name, sizeof(name), "%s_new", s->m->alias);
	rundir_path(s->m, name, "journal", path, sizeof(path));
	CMAN_CRASH(SOURCE_HELLO);
	if (cman_journal_open(path, &s->peer.journal)) {
		peer_reject(&s->peer, "the new instance's journal cannot be opened");
		feed(s, (struct cman_event){ .type = CMAN_EV_HELLO });
		return;
	}
	feed(s, (struct cman_event){ .type = CMAN_EV_HELLO, .ok = true });
}

void source_begin(struct manager *m, struct cman_chan *chan, const struct cman_frame *hello)
{
	struct source *s;
	struct peer probe;
	const char *why;
	uint32_t timeout = m->ic->handover_timeout_s;

	peer_init(&probe, m, chan);
	why = peer_check_hello(&probe, hello);
	cman_frame_u32(hello, CMAN_TAG_TIMEOUT, &timeout);
	if (!why && m->stopping)
		why = "the instance is stopping";
	if (!why && m->is_old)
		why = "this is the old instance of an earlier migration";
	if (!why && m->source && !m->source->over)
		why = "another migration is running";
	if (!why && m->target && !target_over(m))
		why = "the instance is still taking over from its predecessor";
	if (why) {
		event_add(m, LOG_WARNING, "a migration was refused before anything moved: %s", why);
		peer_reject(&probe, why);
		peer_fini(&probe);
		return;
	}
	source_forget(m);
	s = source_new(m, timeout);
	if (!s) {
		peer_reject(&probe, "out of memory");
		peer_fini(&probe);
		return;
	}
	m->source = s;
	peer_move(&s->peer, &probe);
	event_add(m, LOG_NOTICE, "release %s (pid %d) takes over: %u sessions", s->peer.release,
		  (int)s->peer.pid, instance_sessions(m));
	peer_watch(&s->peer);
	begin(s);
}

void source_swap(struct manager *m, struct peer *peer)
{
	struct source *s = source_new(m, m->ic->handover_timeout_s);

	if (!s)
		return;
	m->source = s;
	peer_move(&s->peer, peer);
	s->peer.on_frame = on_frame;
	s->peer.on_lost = on_lost;
	s->peer.arg = s;
	peer_watch(&s->peer);
}

bool source_cancel(struct manager *m, bool rollback)
{
	if (!m->source || m->source->over)
		return false;
	feed(m->source,
	     (struct cman_event){ .type = CMAN_EV_CANCEL, .local = true, .rollback = rollback });
	return true;
}

void source_progress(const struct manager *m, uint32_t *ret_moved, uint32_t *ret_left,
		     const char **ret_phase)
{
	*ret_moved = m->source ? m->source->h.moved : 0;
	*ret_left = instance_sessions(m);
	*ret_phase = m->source ? cman_phase_name(m->source->h.phase) : "none";
}
