/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving sessions away: the shell around cman_source_step(). It carries the machine's effects out,
 * in order, and feeds results back as events: freezing through the gateways' mailboxes, packing
 * with descriptors that a keeper hands over, registers in the journals.
 */
#include "usr/manager/manager.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usr/core/session.h"
#include "usr/manager/carrier.h"
#include "usr/manager/peer.h"
#include "usr/manager/remote.h"
#include "usr/manager/repair.h"
#include "usr/sys/crash.h"
#include "usr/sys/diag.h"
#include "usr/sys/log.h"
#include "usr/sys/sock.h"
#include "usr/sys/steer.h"

#define WINDOW	 2
#define WATCH_MS 5

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
#define HALF_OPEN_MS 5000

struct source {
	struct manager *m;
	struct peer peer;
	struct cman_handover h;
	struct parcel_out parcel[CMAN_HANDOVER_WINDOW];
	struct excuse *excuse; /* sessions that did not come along */
	uint32_t nexcuses;
	struct gaps gaps; /* what the sessions saw, when the other host cannot know */
	uint64_t in_flight, named_ns, refused_before;
	uint32_t half_open;
	uint64_t alone_ns; /* since when nothing but half-open ones is left */
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

static struct parcel_out *parcel_of(struct source *s, uint64_t id)
{
	for (unsigned int i = 0; i < CMAN_HANDOVER_WINDOW; i++)
		if (s->parcel[i].id == id)
			return &s->parcel[i];
	return NULL;
}

/* ---- freeze, thaw, release: orders to one gateway ---- */

struct excuse {
	uint64_t id;
	unsigned int tries;
	bool stays;
	char reason[100];
};

#define EXCUSES 3 /* a session that could not be frozen so often stays */

static struct excuse *excuse_of(const struct source *s, uint64_t id)
{
	for (uint32_t k = 0; k < s->nexcuses; k++)
		if (s->excuse[k].id == id)
			return &s->excuse[k];
	return NULL;
}

static const char *why_left(const struct source *s, const struct cman_slot *slot,
			    const struct excuse *e)
{
	if (e && e->stays)
		return e->reason;
	if (s->h.cancel_seen || s->h.cancel_sent)
		return "the migration was cancelled";
	return slot->state == CMAN_SLOT_RELAYING ? "the target could not take it in time" :
						   "its target did not answer in time";
}

static bool stays(const struct source *s, const struct cman_slot *slot)
{
	const struct excuse *e = s->nexcuses ? excuse_of(s, slot->id) : NULL;

	return e && e->stays;
}

void parcel_remove(struct parcel_out *p, uint32_t k)
{
	uint32_t rest = --p->n - k;

	memmove(&p->slot[k], &p->slot[k + 1], rest * sizeof(*p->slot));
	memmove(&p->session[k], &p->session[k + 1], rest * sizeof(*p->session));
	memmove(&p->copy[k], &p->copy[k + 1], rest * sizeof(*p->copy));
}

void source_excuse(struct parcel_out *p, uint32_t k, const char *reason, bool for_good)
{
	struct source *s = p->m->source;
	struct excuse *e = excuse_of(s, p->session[k]);

	cell_order_slot(p->c, CMAN_ORDER_THAW, p->slot[k], p->session[k]);
	if (!e) {
		struct excuse *more = realloc(s->excuse, (s->nexcuses + 1) * sizeof(*more));

		if (!more)
			abort();
		s->excuse = more;
		e = &more[s->nexcuses++];
		*e = (struct excuse){ .id = p->session[k] };
	}
	e->stays = for_good || ++e->tries >= EXCUSES;
	snprintf(e->reason, sizeof(e->reason), "%s", reason);
}

static void on_frozen(struct order *o, void *arg)
{
	struct parcel_out *p = arg;
	uint32_t n = 0;

	CMAN_CRASH(SOURCE_FROZEN);
	for (uint32_t k = 0; k < o->n; k++) {
		if (o->status || o->result[k])
			continue;
		p->copy[n] = p->c->slots[o->slot[k]];
		if (!cman_slot_sane(&p->copy[n], p->m->maps.slots_per_cell)) {
			cman_err("a slot of the ledger is damaged: its session stays",
				 "session=%016llx", (unsigned long long)o->id[k]);
			continue;
		}
		p->slot[n] = o->slot[k];
		p->session[n++] = o->id[k];
	}
	p->n = n;
	if (n)
		p->carrier->freeze(p);
	else
		source_frozen(p);
}

void source_frozen(struct parcel_out *p)
{
	uint64_t id = p->id;

	if (!p->n)
		p->id = 0;
	event(p->m->source, CMAN_EV_FROZEN, id, p->n);
}

/* Is it of a service that moves? */
static bool concerned(const struct source *s, const struct cman_slot *slot)
{
	const struct remote *r = s->peer.remote;

	return !r || (slot->service < CMAN_MAX_SERVICES && r->service[slot->service]);
}

/* A batch in flight has asked for it, and its gateway has not got there yet. */
static bool is_asked_for(const struct source *s, const struct cell *c, const struct cman_slot *slot)
{
	for (unsigned int i = 0; i < CMAN_HANDOVER_WINDOW; i++)
		if (s->parcel[i].id && s->parcel[i].c == c && (__u16)s->parcel[i].id == slot->batch)
			return true;
	return false;
}

static uint32_t collect(struct source *s, struct cell *c, uint32_t want, struct order *o)
{
	uint32_t high = cell_high(c);

	o->n = 0;
	for (uint32_t k = 0; k < high && o->n < want; k++) {
		uint32_t i = c->cursor++;

		if (c->cursor >= high)
			c->cursor = 0;
		if (i >= high || c->slots[i].state != CMAN_SLOT_RELAYING ||
		    is_asked_for(s, c, &c->slots[i]) || !concerned(s, &c->slots[i]) ||
		    stays(s, &c->slots[i]))
			continue;
		o->slot[o->n] = i;
		o->id[o->n++] = c->slots[i].id;
	}
	return o->n;
}

static void freeze(struct source *s, uint64_t id, uint32_t count)
{
	struct parcel_out *p = parcel_of(s, 0);

	if (!p) {
		event(s, CMAN_EV_FROZEN, id, 0);
		return;
	}
	memset(p, 0, sizeof(*p));
	p->m = s->m;
	p->carrier = s->peer.carrier;
	p->peer = &s->peer;
	for (uint32_t k = 0; k < s->m->ncells && !p->order.n; k++) {
		p->c = &s->m->cells[s->next_cell++ % s->m->ncells];
		collect(s, p->c, count < s->peer.carrier->batch ? count : s->peer.carrier->batch,
			&p->order);
	}
	if (!p->order.n) {
		event(s, CMAN_EV_FROZEN, id, 0);
		return;
	}
	p->id = id;
	/* so that a successor can tell which register decides about the slot */
	for (uint32_t k = 0; k < p->order.n; k++)
		p->c->slots[p->order.slot[k]].batch = (__u16)id;
	p->order.op = CMAN_ORDER_FREEZE;
	p->order.done = on_frozen;
	p->order.arg = p;
	p->frozen_ns = cman_now_ns();
	CMAN_CRASH(SOURCE_FREEZE);
	cell_order(p->c, &p->order);
}

static void ended(struct parcel_out *p, enum cman_event_type answer)
{
	uint64_t id = p->id;

	p->id = 0;
	CMAN_CRASH(SOURCE_RELEASED);
	event(p->m->source, answer, id, p->n);
}

void source_thawed(struct parcel_out *p)
{
	ended(p, CMAN_EV_THAWED);
}

void source_released(struct parcel_out *p)
{
	p->m->source->in_flight += p->in_flight;
	gaps_add(&p->m->source->gaps, (uint32_t)((cman_now_ns() - p->frozen_ns) / 1000), p->n);
	ended(p, CMAN_EV_RELEASED);
}

void parcel_order(struct parcel_out *p, enum cman_order op,
		  void (*done)(struct order *o, void *arg))
{
	CMAN_CRASH(SOURCE_RELEASE);
	memset(&p->order, 0, sizeof(p->order));
	p->order.op = op;
	p->order.n = p->n;
	memcpy(p->order.slot, p->slot, sizeof(p->slot));
	memcpy(p->order.id, p->session, sizeof(p->session));
	p->order.done = done;
	p->order.arg = p;
	cell_order(p->c, &p->order);
}

uint32_t parcel_numbers(const struct cell *c, const struct cman_slot *slot, uint32_t numbers[6])
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

void parcel_give(struct parcel_out *p, void (*done)(struct keeper_request *r, void *arg))
{
	memset(&p->request, 0, sizeof(p->request));
	p->request.type = CMAN_FRAME_GIVE;
	for (uint32_t k = 0; k < p->n; k++)
		p->request.n += parcel_numbers(p->c, &p->copy[k], &p->request.number[p->request.n]);
	p->request.done = done;
	p->request.arg = p;
	CMAN_CRASH(SOURCE_PARKED);
	cell_request(p->c, &p->request);
}

void parcel_describe(const struct parcel_out *p, uint32_t k, int server_fd,
		     struct cman_wire_session *ret)
{
	const struct manager *m = p->m;
	const struct cman_slot *slot = &p->copy[k];
	uint32_t now_s = (uint32_t)(cman_now_ns() / 1000000000u);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	*ret = (struct cman_wire_session){
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
	ret->service_len = (uint16_t)strlen(ret->service);
	ret->listener_len = (uint16_t)strlen(ret->listener);
	memcpy(ret->client_addr, slot->client_addr, 16);
	if (!getpeername(server_fd, (struct sockaddr *)&ss, &len))
		cman_sockaddr_get(&ss, ret->target_addr, &ret->target_port);
}

static void pack(struct source *s, uint64_t id)
{
	struct parcel_out *p = parcel_of(s, id);

	if (p)
		p->carrier->pack(p);
}

void source_pack_failed(struct parcel_out *p)
{
	peer_close(p->peer);
	feed(p->m->source, (struct cman_event){ .type = CMAN_EV_PEER_LOST });
}

/* ---- population ---- */

static int count_half_open(void *arg, const struct cman_diag_socket *socket)
{
	struct source *s = arg;

	s->half_open += socket->state == TCP_SYN_RECV &&
			remote_hop(s->peer.remote, socket->local) != NULL;
	return 0;
}

/*
 * New connections go to the other host already. Those that had begun here end here: they wait for a
 * gateway, or for their client's last packet, which may be lost with the client.
 */
static uint32_t on_the_way(struct source *s, bool all)
{
	struct manager *m = s->m;
	struct cman_diag_queue queue;
	uint32_t n = 0;

	for (int i = 0; i < CMAN_MAX_LISTENERS; i++)
		if (m->maps.instance->listener[i].used && m->listener_fd[i] >= 0 &&
		    !cman_diag_listener_fd(m->listener_fd[i], &queue))
			n += queue.length;
	if (n || !all)
		return n;
	s->half_open = 0;
	cman_diag_sockets(count_half_open, s);
	if (!s->alone_ns)
		s->alone_ns = cman_now_ns();
	return cman_now_ns() - s->alone_ns < HALF_OPEN_MS * 1000000ull ? s->half_open : 0;
}

static void population(struct source *s)
{
	struct cman_event ev = { .type = CMAN_EV_POPULATION };

	for (uint32_t g = 0; g < s->m->ncells; g++) {
		const struct cell *c = &s->m->cells[g];

		for (uint32_t i = 0; i < cell_high(c); i++) {
			if (!concerned(s, &c->slots[i]))
				continue;
			switch (c->slots[i].state) {
			case CMAN_SLOT_RELAYING:
				/* its address goes to another host only after it, or at the timeout */
				if (!stays(s, &c->slots[i]))
					ev.movable++;
				else if (s->peer.remote)
					ev.waiting++;
				break;
			case CMAN_SLOT_ACCEPTED:
			case CMAN_SLOT_CONNECTING:
			case CMAN_SLOT_HANDSHAKE:
			case CMAN_SLOT_CLOSING:
				ev.waiting++;
				break;
			default:
				break;
			}
		}
	}
	if (s->peer.remote)
		ev.waiting += on_the_way(s, !ev.movable && !ev.waiting);
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
	if (s->peer.remote) {
		m->maps.instance->state = CMAN_MIGRATING;
		s->named_ns = cman_now_ns();
		feed(s, (struct cman_event){ .type = CMAN_EV_NAME_GIVEN,
					     .ok = remote_leave(s->peer.remote) });
		return;
	}
	remote_close(m); /* the new one listens there */
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

/* A successor of the target's manager has been quicker: it has the name, and will take what is here. */
static bool is_led(struct manager *m, const char *name)
{
	int lock, err = m->rescuing ? 0 : rundir_lock(m, name, &lock);

	if (!err && !m->rescuing)
		close(lock);
	return err == -EWOULDBLOCK;
}

/* Accepts again; @certain: the name is ours to take back, whoever has it on disk. */
static void resume(struct source *s, bool certain)
{
	struct manager *m = s->m;

	if (s->peer.remote) {
		remote_stay(s->peer.remote);
		return;
	}
	if (!certain && journal_settle(&m->journal, name_id(s), CMAN_REG_ABORT) == CMAN_REG_TAKE)
		return; /* the new one lives and has it: we stay the old one */
	rundir_follow(m);
	rundir_refresh(m);
	if (strcmp(m->name, m->alias)) {
		if (rundir_exists(m, m->alias)) {
			if (!certain || is_led(m, m->alias))
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
	remote_listen(m);
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

static json_t *left_json(const struct source *s)
{
	json_t *left = json_array();

	for (uint32_t g = 0; g < s->m->ncells; g++) {
		for (uint32_t i = 0; i < cell_high(&s->m->cells[g]); i++) {
			const struct cman_slot *slot = &s->m->cells[g].slots[i];
			const struct excuse *e = excuse_of(s, slot->id);
			char id[20];

			if (slot->state < CMAN_SLOT_ACCEPTED || !concerned(s, slot))
				continue;
			snprintf(id, sizeof(id), "%016llx", (unsigned long long)slot->id);
			json_array_append_new(left, json_pack("{s:s,s:s}", "id", id, "reason",
							      why_left(s, slot, e)));
		}
	}
	return left;
}

/* A move to another host: this instance goes on, without what has moved. */
static void far_over(struct source *s, bool ok)
{
	struct manager *m = s->m;
	struct remote *r = s->peer.remote;
	uint64_t now = cman_now_ns();
	json_t *report;

	timer_end(&s->watch);
	timer_end(&s->tick);
	timer_end(&s->timeout);
	peer_close(&s->peer);
	remote_note(m, NULL);
	m->maps.instance->state = CMAN_RUNNING;
	if (ok && s->h.cancel_sent | s->h.cancel_seen) {
		remote_stay(r);
		if (!s->peer.why[0])
			snprintf(
				s->peer.why, sizeof(s->peer.why), "%s",
				s->h.refusals ?
					"the target could not take the sessions; its log says why" :
					"it was cancelled");
		ok = false;
	} else if (ok) {
		remote_gone(r);
	}
	event_add(m, ok ? LOG_NOTICE : LOG_WARNING,
		  ok ? "the services moved to %s: %u sessions" :
		       "the move to %s was broken off: %u sessions had moved",
		  r->peer, s->h.moved);
	if (!r->client)
		return;
	client_on_close(r->client, NULL, NULL);
	if (!ok) {
		client_error(r->client, 1, "the move to %s was broken off: %s", r->peer,
			     s->peer.why[0] ? s->peer.why : "it does not answer any more");
	} else {
		report = json_pack(
			"{s:s,s:s,s:s,s:i,s:o,s:i,s:i,s:f,s:f,s:o,s:I,s:{s:i,s:s,s:b},s:{s:i,s:s}}",
			"instance", m->alias, "via", s->peer.carrier->name, "to", r->peer, "moved",
			(int)s->h.moved, "left", left_json(s), "failed", (int)s->h.failed,
			"new_connections_refused", (int)(instance_refused(m) - s->refused_before),
			"duration_ms", (double)((now - s->begun_ns) / 1000) / 1e3, "moving_ms",
			(double)((now - s->named_ns) / 1000) / 1e3, "blackout_us",
			gaps_json(&s->gaps), "bytes_in_flight", (json_int_t)s->in_flight, "old",
			"pid", (int)getpid(), "version", cman_version, "exited", 0, "new", "pid",
			(int)s->peer.remote_pid, "version", s->peer.release);
		client_reply(r->client, report);
	}
	r->client = NULL;
}

static void over(struct source *s, bool ok)
{
	struct manager *m = s->m;

	s->over = true;
	if (s->peer.remote) {
		far_over(s, ok);
		return;
	}
	guard_close(m);
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
	gaps_free(&s->gaps);
	free(s->excuse);
	s->excuse = NULL;
	s->nexcuses = 0;
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
			const struct excuse *e = excuse_of(s, slot->id);

			if (slot->state < CMAN_SLOT_ACCEPTED || !concerned(s, slot) || n++ >= 10000)
				continue;
			cman_frame_add_left(&w, slot->id, why_left(s, slot, e));
		}
	}
	CMAN_CRASH(SOURCE_DONE);
	peer_send(&s->peer, &w, NULL, 0);
}

static void pass_listeners(struct source *s)
{
	const char *why;
	struct cman_frame_writer w;
	int fds[CMAN_MAX_LISTENERS];
	unsigned int n = 0;

	/* it takes its time, and nobody waits for it yet */
	if (s->peer.carrier == &carrier_repair)
		guard_get(s->m, &why);
	peer_hello(&s->peer, s->peer.carrier->choice, 0);
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

static void on_resolved(struct manager *m, uint64_t batch, enum cman_register value, void *arg)
{
	if (m->source == arg)
		feed(arg,
		     (struct cman_event){ .type = CMAN_EV_DECIDED, .id = batch, .value = value });
}

static void decide(struct source *s, const struct cman_effect *e)
{
	struct cman_journal *j = e->value == CMAN_REG_DROP ? &s->peer.journal : &s->m->journal;
	struct cman_event ev = { .type = CMAN_EV_DECIDED, .id = e->id };

	CMAN_CRASH(SOURCE_DECIDE);
	if (s->peer.remote && e->value == CMAN_REG_DROP) {
		struct destination to = { 0 };

		memcpy(to.peer, s->peer.remote->peer, sizeof(to.peer));
		memcpy(to.boot_id, s->peer.remote->boot_id, sizeof(to.boot_id));
		remote_resolve(s->m, &to, e->id, on_resolved, s);
		return;
	}
	ev.value = journal_settle(j, e->id, e->value);
	CMAN_CRASH(SOURCE_DECIDED);
	feed(s, ev);
}

static void run(struct source *s, const struct cman_effect *e)
{
	struct parcel_out *p;

	switch (e->type) {
	case CMAN_EF_SEND:
		if (e->frame == CMAN_FRAME_DONE)
			send_done(s);
		else if (e->frame == CMAN_FRAME_NAMED && s->peer.remote)
			remote_named(s->peer.remote, &s->peer);
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
		if (!s->peer.remote) /* it has its own */
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
		if ((p = parcel_of(s, e->id)))
			p->carrier->thaw(p);
		break;
	case CMAN_EF_RELEASE:
		if ((p = parcel_of(s, e->id)))
			p->carrier->release(p);
		break;
	case CMAN_EF_WATCH:
		timer_end(&s->watch);
		s->watch = timer_begin(s->m, on_watch, e->ok ? 0 : WATCH_MS, 0, s);
		break;
	case CMAN_EF_RESCUE:
		if (!s->peer.remote)
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

/* What another host says besides. False: the move is over. */
static bool far_frame(struct source *s, const struct cman_frame *f)
{
	uint64_t epoch = 0;
	const uint8_t *text;
	size_t n;

	if (f->type == CMAN_FRAME_HELLO) {
		if (!cman_frame_bytes(f, CMAN_TAG_RELEASE, &text, &n))
			snprintf(s->peer.release, sizeof(s->peer.release), "%.*s", (int)n,
				 (const char *)text);
		cman_frame_u32(f, CMAN_TAG_PID, &s->peer.remote_pid);
		if (!cman_frame_bytes(f, CMAN_TAG_BOOT_ID, &text, &n))
			memcpy(s->peer.remote->boot_id, text, 16);
		remote_note(s->m, s->peer.remote);
	}
	if (f->type != CMAN_FRAME_READY)
		return true;
	if (!remote_ready(s->peer.remote, f, &epoch)) {
		snprintf(s->peer.why, sizeof(s->peer.why),
			 "it does not say where all the addresses go");
		peer_close(&s->peer);
		feed(s, (struct cman_event){ .type = CMAN_EV_PEER_LOST });
		return false;
	}
	if (epoch >= s->h.epoch) /* batch ids are never used again there either */
		s->h.epoch = epoch + 1;
	return true;
}

static void on_frame(void *arg, const struct cman_frame *f, int *fds)
{
	struct source *s = arg;
	struct cman_event ev = peer_event(f);

	s->quiet = 0;
	for (unsigned int i = 0; i < f->nfds; i++)
		close(fds[i]);
	if (f->type == CMAN_FRAME_ERROR) {
		const uint8_t *text;
		size_t n;

		if (!cman_frame_bytes(f, CMAN_TAG_TEXT, &text, &n))
			snprintf(s->peer.why, sizeof(s->peer.why), "%.*s", (int)n,
				 (const char *)text);
		peer_close(&s->peer);
		ev = (struct cman_event){ .type = CMAN_EV_PEER_LOST };
	}
	if (s->peer.remote && !far_frame(s, f))
		return;
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

/* Above every epoch of the journal: batch ids are never used again. */
static uint64_t new_epoch(struct manager *m, uint64_t now_ns)
{
	uint64_t epoch = journal_epoch(&m->journal);

	return now_ns / 1000000000u > epoch ? now_ns / 1000000000u : epoch + 1;
}

struct unfinished {
	uint64_t *id;
	size_t n, size;
};

static int collect_unfinished(void *arg, uint64_t id, enum cman_register value, uint32_t count,
			      uint64_t time_ns)
{
	struct unfinished *u = arg;

	(void)count;
	(void)time_ns;
	if (!(uint32_t)id || value < CMAN_REG_PARKED || value > CMAN_REG_TAKE)
		return 0;
	if (u->n == u->size) {
		uint64_t *more = realloc(u->id, (u->size + 64) * sizeof(*more));

		if (!more)
			return -ENOMEM;
		u->id = more;
		u->size += 64;
	}
	u->id[u->n++] = id;
	return 0;
}

/*
 * A slot knows only the low bits of its batch: records of an earlier handover that died must not be
 * taken for those of this one. All of its slots are resolved (instance_in_doubt()), so all of it is done.
 */
static int close_records(struct manager *m)
{
	struct unfinished u = { 0 };
	int err = cman_journal_each(&m->journal, collect_unfinished, &u);

	for (size_t k = 0; k < u.n && !err; k++)
		err = cman_journal_write(&m->journal, u.id[k], CMAN_REG_DONE, 0);
	free(u.id);
	return err;
}

/* Takes the peer over. */
static struct source *source_new(struct manager *m, struct peer *peer, uint64_t timeout_s)
{
	struct source *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	journal_must(close_records(m));
	s->refused_before = instance_refused(m);
	s->m = m;
	peer_move(&s->peer, peer);
	s->begun_ns = cman_now_ns();
	cman_source_init(&s->h, new_epoch(m, s->begun_ns), s->peer.carrier->batch, WINDOW);
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
	if (!why && instance_in_doubt(m))
		why = "what became of sessions of an earlier migration is not known yet";
	if (why) {
		event_add(m, LOG_WARNING, "a migration was refused before anything moved: %s", why);
		peer_reject(&probe, why);
		peer_fini(&probe);
		return;
	}
	source_forget(m);
	s = source_new(m, &probe, timeout);
	if (!s) {
		peer_reject(&probe, "out of memory");
		peer_fini(&probe);
		return;
	}
	m->source = s;
	event_add(m, LOG_NOTICE, "release %s (pid %d) takes over: %u sessions", s->peer.release,
		  (int)s->peer.pid, instance_sessions(m));
	peer_watch(&s->peer);
	begin(s);
}

void source_swap(struct manager *m, struct peer *peer)
{
	struct source *s = source_new(m, peer, m->ic->handover_timeout_s);

	if (!s)
		return;
	m->source = s;
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

bool source_active(const struct manager *m)
{
	return m->source && !m->source->over;
}

/* ---- to another host ---- */

static void client_gone(void *arg)
{
	struct remote *r = arg;

	r->client = NULL;
}

void source_offer(struct manager *m, struct remote *r, struct cman_chan *chan, uint32_t timeout_s)
{
	const char *why = NULL, *guard = "";
	struct peer peer;
	struct source *s;

	if (source_active(m) || !target_over(m))
		why = "another migration is running";
	else if (m->stopping || m->is_old)
		why = "the instance is ending";
	else if (instance_in_doubt(m))
		why = "what became of sessions of an earlier migration is not known yet";
	else if (!guard_get(m, &guard)) /* it takes its time, and nobody waits for it yet */
		why = guard;
	else if (remote_note(m, r))
		why = "the run directory cannot be written";
	if (why) {
		client_error(r->client, 1, "nothing was moved to %s: %s", r->peer, why);
		cman_chan_fini(chan);
		free(r);
		return;
	}
	source_forget(m);
	peer_init(&peer, m, chan);
	peer.carrier = &carrier_repair;
	peer.remote = r;
	s = source_new(m, &peer, timeout_s ? timeout_s : m->ic->handover_timeout_s);
	if (!s)
		abort();
	m->source = s;
	client_on_close(r->client, client_gone, r);
	s->peer.on_frame = on_frame;
	s->peer.on_lost = on_lost;
	s->peer.arg = s;
	event_add(m, LOG_NOTICE, "services move to %s", r->peer);
	peer_watch(&s->peer);
	remote_offer(r, &s->peer);
}

bool source_far(const struct manager *m)
{
	return source_active(m) && m->source->peer.remote;
}
