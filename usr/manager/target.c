/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking sessions: the shell around cman_target_step(). A new instance starts beside the running
 * one on the listeners that it hands over, takes its name, and then batch by batch its sessions:
 * reserve slots in a gateway, pass the descriptors to its keeper, fill the slots, stay silent
 * until the commit, activate. It keeps the figures of the report.
 */
#include "usr/manager/manager.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usr/core/rules.h"
#include "usr/core/session.h"
#include "usr/manager/carrier.h"
#include "usr/manager/peer.h"
#include "usr/manager/remote.h"
#include "usr/manager/repair.h"
#include "usr/manager/tls_move.h"
#include "usr/sys/crash.h"
#include "usr/sys/hold.h"
#include "usr/sys/log.h"
#include "usr/sys/sock.h"
#include "usr/sys/steer.h"

#define EXIT_WAIT_MS 2000 /* an old instance with nothing left has this long to be gone */

/* A source that owes an answer and says nothing hangs: see source.c. */
#define TICK_MS	     500
#define ASK_TICKS    3
#define SILENT_TICKS 6
#define DYING_TICKS  4
#define START_TICKS  60
#define OVERDUE_S    5 /* after its time, one that is silent though it owes nothing hangs too */

struct left {
	uint64_t id;
	char reason[100];
};

struct target {
	struct manager *m;
	struct peer peer;
	struct cman_handover h;
	struct parcel_in parcel[CMAN_HANDOVER_WINDOW];
	struct cman_event queue[64];
	unsigned int head, tail;
	bool running, hello_seen, over, ok, old_exited, swapped, counted;
	uint32_t starting;
	uint64_t begun_ns, named_ns, over_ns;
	uint64_t in_flight;
	uint32_t expected;
	struct gaps gaps;
	struct left *left;
	uint32_t nleft;
	char why[200];
	uv_timer_t *exit_timer, *progress_timer, *tick;
	unsigned int quiet; /* ticks since the last frame */
	struct client *waiting[16];
	unsigned int nwaiting;
};

static void feed(struct target *t, struct cman_event ev);

static void event(struct target *t, enum cman_event_type type, uint64_t id, bool ok)
{
	feed(t, (struct cman_event){ .type = type, .id = id, .ok = ok });
}

static struct parcel_in *parcel_of(struct target *t, uint64_t id)
{
	for (unsigned int i = 0; i < CMAN_HANDOVER_WINDOW; i++)
		if (t->parcel[i].id == id)
			return &t->parcel[i];
	return NULL;
}

static void close_fds(struct parcel_in *p)
{
	for (unsigned int i = 0; i < p->nfds; i++)
		close(p->fds[i]);
	p->nfds = 0;
}

static void parcel_free(struct parcel_in *p)
{
	p->carrier->forget(p);
	close_fds(p);
	free(p->data);
	p->data = NULL;
	p->id = 0;
}

/* ---- import ---- */

static void imported(struct parcel_in *p, bool ok)
{
	uint64_t id = p->id;

	if (p->importing)
		cman_cell_import_end(p->c->shared);
	p->importing = false;
	if (!ok) {
		p->carrier->discard(p);
		parcel_free(p);
	}
	event(p->m->target, CMAN_EV_IMPORTED, id, ok);
}

static void import_undone(struct order *o, void *arg)
{
	(void)o;
	imported(arg, false);
}

/* Gives reserved slots back; then says that the import failed. */
static void undo_import(struct parcel_in *p)
{
	memset(&p->order, 0, sizeof(p->order));
	p->order.op = CMAN_ORDER_DISCARD;
	p->order.n = p->n;
	memcpy(p->order.slot, p->slot, sizeof(p->slot));
	for (uint32_t k = 0; k < p->n; k++)
		p->order.id[k] = p->c->slots[p->slot[k]].id;
	for (uint32_t k = 0; k < p->npipes; k++)
		if (p->c->pipes[p->pipe[k]].rfd < 0)
			p->c->pipes[p->pipe[k]].rfd = 0;
	p->order.done = import_undone;
	p->order.arg = p;
	cell_order(p->c, &p->order);
}

static uint8_t target_index(const struct cman_service *svc, const struct cman_wire_session *ws)
{
	for (uint32_t n = 0; n < svc->ntargets && n < CMAN_MAX_TARGETS; n++)
		if (!memcmp(svc->target[n].addr, ws->target_addr, 16) &&
		    svc->target[n].port == ws->target_port)
			return (uint8_t)n;
	return 0;
}

static void fill_flow(struct parcel_in *p, struct cman_slot *s, uint32_t i, int dir,
		      const struct cman_wire_session *ws, uint32_t *at, uint32_t *pipes_used)
{
	s->flow[dir].position = ws->position[dir];
	s->flow[dir].read_base = ws->read_base[dir];
	s->flow[dir].write_base = ws->write_base[dir];
	s->bound[dir] = CMAN_BOUND_NONE;
	if (ws->pipe[dir]) {
		uint32_t n = p->pipe[(*pipes_used)++];
		struct cman_pipe *pipe = &p->c->pipes[n];

		pipe->wfd = (int)p->take.number[*at + 1];
		__atomic_store_n(&pipe->rfd, (int)p->take.number[*at], __ATOMIC_RELEASE);
		*at += 2;
		s->bound[dir] = CMAN_BOUND_PIPE | n;
	} else if (ws->buffer[dir]) {
		uint32_t own = CMAN_SLOT_BUFFER(i, (unsigned int)dir);

		memcpy(p->c->buffers + (size_t)own * CMAN_BUFFER_SIZE, ws->buffer[dir],
		       ws->buffer_len[dir]);
		s->bound[dir] = CMAN_BOUND_BUFFER | own;
	}
}

/* The slots are ours while RESERVED; PREPARED is stored last. */
static int fill(struct parcel_in *p)
{
	struct manager *m = p->m;
	uint32_t now_s = (uint32_t)(cman_now_ns() / 1000000000u), at = 0, pipes_used = 0;

	for (uint32_t k = 0; k < p->n; k++) {
		const struct cman_wire_session *ws = &p->session[k];
		uint32_t i = p->slot[k];
		struct cman_slot *s = &p->c->slots[i];
		int service = publish_service_index(m, ws->service, ws->service_len);
		int listener = publish_listener_index(m, ws->listener, ws->listener_len);
		int rule, err;

		if (service < 0)
			return service;
		memset(s, 0, sizeof(*s));
		s->state = CMAN_SLOT_RESERVED;
		s->eof = ws->eof;
		s->flags = ws->flags | p->carrier->slot_flags;
		s->service = (__u16)service;
		s->listener = (__u16)(listener < 0 ? 0 : listener);
		s->target = target_index(&m->maps.services[service], ws);
		s->client_cookie = cman_sock_cookie(p->fds[at]);
		s->server_cookie = cman_sock_cookie(p->fds[at + 1]);
		s->client_fd = (int)p->take.number[at];
		s->server_fd = (int)p->take.number[at + 1];
		at += 2;
		for (int dir = 0; dir < 2; dir++)
			fill_flow(p, s, i, dir, ws, &at, &pipes_used);
		s->id = ws->id;
		s->created_s = now_s - ws->age_s;
		s->active_s = now_s - ws->idle_s;
		s->handovers = (__u16)(ws->handovers + 1);
		s->batch = (__u16)p->id;
		s->client_port = ws->client_port;
		memcpy(s->client_addr, ws->client_addr, 16);
		err = tls_fill(p->c, i, s, ws, &p->in_flight);
		if (err)
			return err;
		rule = cman_rules_find(m->maps.ruletab, m->maps.instance->nrules, (uint32_t)service,
				       s->client_addr);
		s->rule = (__u16)(rule < 0 ? 0 : rule + 1);
		CMAN_CRASH(TARGET_FILLED);
		__atomic_store_n(&s->state, CMAN_SLOT_PREPARED, __ATOMIC_RELEASE);
	}
	return 0;
}

static void on_taken(struct keeper_request *r, void *arg)
{
	struct parcel_in *p = arg;

	CMAN_CRASH(TARGET_TAKEN);
	if (r->err) {
		undo_import(p);
		return;
	}
	if (fill(p)) {
		/* a descriptor of a slot that was not filled is found by the sweep */
		cman_cell_want_sweep(p->c->shared);
		undo_import(p);
		return;
	}
	imported(p, true);
}

static void on_reserved(struct order *o, void *arg)
{
	struct parcel_in *p = arg;

	CMAN_CRASH(TARGET_RESERVED);
	if (o->status) {
		cman_warn("no room for a batch", "gateway=%u err=\"%s\"", p->c->index,
			  strerror(-o->status));
		imported(p, false);
		return;
	}
	memcpy(p->slot, o->slot, sizeof(p->slot));
	memcpy(p->pipe, o->pipe, sizeof(p->pipe));
	memset(&p->take, 0, sizeof(p->take));
	p->take.type = CMAN_FRAME_TAKE;
	p->take.n = p->nfds;
	memcpy(p->take.fd, p->fds, p->nfds * sizeof(*p->fds));
	p->take.done = on_taken;
	p->take.arg = p;
	cell_request(p->c, &p->take);
}

static struct cell *emptiest(struct manager *m)
{
	struct cell *best = NULL;
	uint32_t best_load = 0;

	for (uint32_t i = 0; i < m->ncells; i++) {
		uint32_t load = m->cells[i].shared->sessions;

		/* batches on their way count too */
		for (unsigned int k = 0; k < CMAN_HANDOVER_WINDOW; k++)
			if (m->target->parcel[k].id && m->target->parcel[k].c == &m->cells[i])
				load += m->target->parcel[k].n;
		if (!best || load < best_load) {
			best = &m->cells[i];
			best_load = load;
		}
	}
	return best;
}

static void import(struct target *t, uint64_t id)
{
	struct parcel_in *p = parcel_of(t, id);

	if (!p) { /* it was not understood, or there was no memory for it */
		event(t, CMAN_EV_IMPORTED, id, false);
		return;
	}
	CMAN_CRASH(TARGET_IMPORT);
	p->c = emptiest(t->m);
	p->importing = true;
	cman_cell_import_begin(p->c->shared);
	memset(&p->order, 0, sizeof(p->order));
	p->order.op = CMAN_ORDER_RESERVE;
	p->order.n = p->n;
	p->order.npipes = p->npipes;
	p->order.done = on_reserved;
	p->order.arg = p;
	cell_order(p->c, &p->order);
}

/* Keeps what came until the machine says IMPORT. The descriptors are the parcel's if it does. */
static bool parcel_keep(struct target *t, uint64_t id, const struct cman_frame *f, int *fds)
{
	struct parcel_in *p = parcel_of(t, 0);
	const char *why = "";

	if (!p)
		return false;
	memset(p, 0, sizeof(*p));
	p->m = t->m;
	p->peer = &t->peer;
	p->carrier = t->peer.carrier;
	if (p->carrier->unpack(p, f, fds, &why)) {
		event_add(t->m, LOG_WARNING, "a batch cannot be taken: %s", why);
		return false;
	}
	cman_frame_u64(f, CMAN_TAG_TIME_NS, &p->frozen_ns);
	p->id = id;
	return true;
}

/* ---- activate, discard ---- */

static void on_activated(struct order *o, void *arg)
{
	struct parcel_in *p = arg;
	uint64_t id = p->id, silent = cman_now_ns() - p->frozen_ns;

	(void)o;
	CMAN_CRASH(TARGET_ACTIVATED);
	if (p->frozen_ns)
		gaps_add(&p->m->target->gaps, (uint32_t)(silent / 1000), p->n);
	p->m->target->in_flight += p->in_flight;
	parcel_free(p);
	event(p->m->target, CMAN_EV_ACTIVATED, id, true);
}

static void on_discarded(struct order *o, void *arg)
{
	struct parcel_in *p = arg;
	uint64_t id = p->id;

	(void)o;
	parcel_free(p);
	event(p->m->target, CMAN_EV_DISCARDED, id, true);
}

static void end_parcel(struct target *t, uint64_t id, enum cman_order op,
		       void (*done)(struct order *o, void *arg))
{
	struct parcel_in *p = parcel_of(t, id);

	if (!p)
		return;
	memset(&p->order, 0, sizeof(p->order));
	p->order.op = op;
	p->order.n = p->n;
	memcpy(p->order.slot, p->slot, sizeof(p->slot));
	for (uint32_t k = 0; k < p->n; k++)
		p->order.id[k] = p->session[k].id;
	p->order.done = done;
	p->order.arg = p;
	CMAN_CRASH(TARGET_ACTIVATE);
	cell_order(p->c, &p->order);
}

/* ---- start, names ---- */

static void one_started(struct order *o, void *arg)
{
	struct target *t = arg;
	int err;

	free(o);
	if (--t->starting)
		return;
	CMAN_CRASH(TARGET_STARTED);
	err = instance_claim_steering(t->m);
	if (err)
		snprintf(t->why, sizeof(t->why), "new connections cannot be steered here: %s",
			 strerror(-err));
	event(t, CMAN_EV_STARTED, 0, !err);
}

static void start(struct target *t)
{
	struct manager *m = t->m;

	if (t->peer.remote) {
		bool ok = remote_arrive(t->peer.remote);

		if (!ok)
			snprintf(t->why, sizeof(t->why), "the addresses cannot be held here");
		event(t, CMAN_EV_STARTED, 0, ok);
		return;
	}
	if (!m->ncells && instance_start_beside(m)) {
		snprintf(t->why, sizeof(t->why), "the new instance could not start");
		event(t, CMAN_EV_STARTED, 0, false);
		return;
	}
	m->maps.instance->state = CMAN_MIGRATING;
	t->starting = m->ncells;
	for (uint32_t i = 0; i < m->ncells; i++) {
		struct order *o = calloc(1, sizeof(*o));

		if (!o)
			abort();
		o->op = CMAN_ORDER_SYNC;
		o->done = one_started;
		o->arg = t;
		cell_order(&m->cells[i], o);
	}
}

static int last_name(void *arg, uint64_t id, enum cman_register value, uint32_t count,
		     uint64_t time_ns)
{
	uint64_t *last = arg;

	(void)value;
	(void)count;
	(void)time_ns;
	if (!(uint32_t)id && id > *last)
		*last = id;
	return 0;
}

/* The source may have taken the name back meanwhile: its journal's register says whose it is. */
static bool name_is_ours(struct target *t)
{
	uint64_t id = 0;

	if (t->peer.journal.fd >= 0)
		cman_journal_each(&t->peer.journal, last_name, &id);
	return !id || journal_settle(&t->peer.journal, id, CMAN_REG_TAKE) == CMAN_REG_TAKE;
}

static void take_name(struct target *t)
{
	struct manager *m = t->m;
	int err;

	if (t->peer.remote) {
		t->named_ns = cman_now_ns();
		event(t, CMAN_EV_NAME_TAKEN, 0, true);
		return;
	}
	err = name_is_ours(t) ? instance_claim_name(m) : -ECANCELED;

	if (err)
		event_add(m, LOG_ERR, "cannot take the name %s: %s", m->alias, strerror(-err));
	t->named_ns = cman_now_ns();
	event(t, CMAN_EV_NAME_TAKEN, 0, !err);
	if (!err)
		instance_ready(m);
}

/* ---- the end ---- */

json_t *target_report(struct manager *m)
{
	struct target *t = m->target;
	json_t *left, *report;

	if (!t || !t->over)
		return NULL;
	left = json_array();
	for (uint32_t k = 0; k < t->nleft; k++) {
		char id[20];

		snprintf(id, sizeof(id), "%016llx", (unsigned long long)t->left[k].id);
		json_array_append_new(left, json_pack("{s:s,s:s}", "id", id, "reason",
						      t->left[k].reason));
	}
	report = json_pack("{s:s,s:s,s:i,s:o,s:i,s:I,s:f,s:f,s:o,s:I,s:{s:i,s:s,s:b},"
			   "s:{s:i,s:s}}",
			   "instance", m->alias, "via", t->peer.carrier->name, "moved",
			   (int)t->h.moved, "left", left, "failed", (int)t->h.failed,
			   "new_connections_refused", (json_int_t)instance_refused(m),
			   "duration_ms", (double)((t->over_ns - t->begun_ns) / 1000) / 1e3,
			   "moving_ms",
			   t->named_ns ? (double)((t->over_ns - t->named_ns) / 1000) / 1e3 : 0.0,
			   "blackout_us", gaps_json(&t->gaps), "bytes_in_flight",
			   (json_int_t)t->in_flight, "old", "pid", (int)t->peer.pid, "version",
			   t->peer.release, "exited", (int)t->old_exited, "new", "pid",
			   (int)getpid(), "version", cman_version);
	return report;
}

static void answer_waiting(struct target *t)
{
	for (unsigned int k = 0; k < t->nwaiting; k++) {
		json_t *report = target_report(t->m);

		if (t->ok && report)
			client_reply(t->waiting[k], report);
		else {
			client_error(t->waiting[k], 1, "the migration was broken off: %s",
				     t->why[0] ? t->why :
						 "the old instance has died; its sessions "
						 "were taken over as far as they lived");
			json_decref(report);
		}
	}
	t->nwaiting = 0;
	timer_end(&t->progress_timer);
}

static void final(struct target *t)
{
	if (t->over)
		return;
	t->over = true;
	if (!t->m->guard)
		repair_tools_close(t->m);
	remote_listen(t->m);
	timer_end(&t->exit_timer);
	/* under this name now, in the place of the other release's */
	cman_hold_apply(&t->m->maps);
	if (t->m->maps.instance->state == CMAN_MIGRATING)
		t->m->maps.instance->state = CMAN_RUNNING;
	event_add(t->m, LOG_NOTICE,
		  "took over %u sessions from release %s in %.1f ms; %u stayed there", t->h.moved,
		  t->peer.release, (double)(t->over_ns - t->begun_ns) / 1e6, t->nleft);
	answer_waiting(t);
}

static void on_exit_timeout(uv_timer_t *timer)
{
	final(timer->data);
}

static void fail_start(struct target *t)
{
	struct manager *m = t->m;

	if (m->start_stderr >= 0)
		dprintf(m->start_stderr, "cmand: the migration did not begin: %s\n", t->why);
	else if (m->opt.foreground)
		fprintf(stderr, "cmand: the migration did not begin: %s\n", t->why);
	event_add(m, LOG_ERR, "the migration did not begin: %s", t->why);
	m->exit_code = 1;
	if (m->ncells) {
		m->is_old = true; /* what is steered now is the running instance's */
		instance_leave(m);
	} else {
		uv_stop(&m->loop);
	}
}

static bool was_cancelled(const struct target *t)
{
	return t->h.cancel_sent || t->h.cancel_seen;
}

/* From another host. What has arrived stays; without a session there is nothing to stay for. */
static void far_over(struct target *t)
{
	struct manager *m = t->m;

	t->over = true;
	timer_end(&t->tick);
	t->ok = t->ok && t->h.named && !was_cancelled(t);
	if (!t->ok && !instance_sessions_of(m, t->peer.remote->service))
		remote_turn_back(t->peer.remote);
	m->maps.instance->state = CMAN_RUNNING;
	event_add(
		m, t->ok ? LOG_NOTICE : LOG_WARNING,
		t->ok ? "took %u sessions and their addresses over from another host (release %s)" :
			"a move from another host was broken off: %u sessions had arrived "
			"(release %s)",
		t->h.moved, t->peer.release);
	answer_waiting(t);
}

static void over(struct target *t, bool ok)
{
	struct manager *m = t->m;

	t->ok = ok;
	t->over_ns = cman_now_ns();
	CMAN_CRASH(TARGET_FINISHED);
	if (t->peer.remote) {
		far_over(t);
		return;
	}
	if (!t->h.named && !t->h.peer_dead && !t->swapped) {
		if (!t->why[0])
			snprintf(t->why, sizeof(t->why), "the running instance broke it off");
		fail_start(t);
		return;
	}
	if (strcmp(m->name, m->alias) && !t->swapped && !t->h.peer_dead && m->ncells &&
	    !instance_sessions(m)) {
		snprintf(t->why, sizeof(t->why), "the running instance has kept its name");
		fail_start(t);
		return;
	}
	if (!t->h.named && t->h.peer_dead && !m->ncells) {
		snprintf(t->why, sizeof(t->why),
			 "the running instance died; start it with cmanctl startup");
		fail_start(t);
		return;
	}
	if (ok && !t->nleft && !t->old_exited && t->peer.pidfd >= 0) {
		t->exit_timer = timer_begin(m, on_exit_timeout, EXIT_WAIT_MS, 0, t);
		return;
	}
	final(t);
}

static void take_left(struct target *t, const struct cman_frame *f)
{
	size_t cursor = 0, n;
	const char *reason;
	uint64_t id;

	while (!cman_frame_next_left(f, &cursor, &id, &reason, &n)) {
		struct left *more = realloc(t->left, (t->nleft + 1) * sizeof(*more));

		if (!more)
			return;
		t->left = more;
		t->left[t->nleft].id = id;
		snprintf(t->left[t->nleft].reason, sizeof(t->left[0].reason), "%.*s", (int)n,
			 reason);
		t->nleft++;
	}
}

/* Its cell may have died as a whole since it was prepared: the source still has it then. */
static bool still_there(const struct parcel_in *p)
{
	for (uint32_t k = 0; k < p->n; k++) {
		const struct cman_slot *s = &p->c->slots[p->slot[k]];

		if (s->state != CMAN_SLOT_PREPARED || s->id != p->session[k].id)
			return false;
	}
	return true;
}

static void decide(struct target *t, const struct cman_effect *e)
{
	struct cman_journal *j = e->value == CMAN_REG_TAKE ? &t->peer.journal : &t->m->journal;
	struct cman_event ev = { .type = CMAN_EV_DECIDED, .id = e->id };
	struct parcel_in *p = parcel_of(t, e->id);

	if (e->value == CMAN_REG_LIVE && p && !still_there(p)) {
		ev.value = journal_settle(j, e->id, CMAN_REG_DROP);
		feed(t, ev);
		return;
	}
	if (e->value == CMAN_REG_LIVE && p)
		p->carrier->wake(p);
	/* the journal of another host is out of reach: without a COMMIT it is not ours */
	ev.value = t->peer.remote && e->value == CMAN_REG_TAKE ? CMAN_REG_ABORT :
								 journal_settle(j, e->id, e->value);
	if (e->value == CMAN_REG_LIVE && ev.value == CMAN_REG_LIVE && p)
		p->carrier->live(p);
	CMAN_CRASH(TARGET_LIVE);
	feed(t, ev);
}

static void run(struct target *t, const struct cman_effect *e)
{
	struct parcel_in *p;

	switch (e->type) {
	case CMAN_EF_SEND:
		if (t->peer.remote && e->frame == CMAN_FRAME_READY) {
			remote_send_ready(t->peer.remote, &t->peer);
			break;
		}
		if (t->peer.remote && e->frame == CMAN_FRAME_FINISHED && !was_cancelled(t)) {
			/* the source gives the addresses up when it hears this: they are here before */
			remote_arrived(t->peer.remote);
			CMAN_CRASH(FAR_ANNOUNCED);
		}
		peer_send_simple(&t->peer, (enum cman_frame_type)e->frame, e->id,
				 e->rollback || t->h.rollback);
		if (e->frame == CMAN_FRAME_PREPARED)
			CMAN_CRASH(TARGET_PREPARED_SENT);
		if (e->frame == CMAN_FRAME_COMMITTED)
			CMAN_CRASH(TARGET_COMMITTED);
		if (e->frame == CMAN_FRAME_READY)
			CMAN_CRASH(TARGET_READY);
		break;
	case CMAN_EF_JOURNAL:
		journal_must(cman_journal_write(&t->m->journal, e->id, e->value, e->count));
		if (e->value == CMAN_REG_PREPARED)
			CMAN_CRASH(TARGET_PREPARED);
		break;
	case CMAN_EF_DECIDE:
		decide(t, e);
		break;
	case CMAN_EF_START:
		start(t);
		break;
	case CMAN_EF_TAKE_NAME:
		CMAN_CRASH(TARGET_NAMED);
		take_name(t);
		break;
	case CMAN_EF_IMPORT:
		import(t, e->id);
		break;
	case CMAN_EF_ACTIVATE:
		end_parcel(t, e->id, CMAN_ORDER_ACTIVATE, on_activated);
		break;
	case CMAN_EF_DISCARD:
		if ((p = parcel_of(t, e->id)))
			p->carrier->discard(p);
		end_parcel(t, e->id, CMAN_ORDER_DISCARD, on_discarded);
		break;
	case CMAN_EF_RESCUE:
		if (t->m->ncells && !t->peer.remote) {
			instance_claim_steering(t->m);
			instance_claim_name(t->m);
			instance_ready(t->m);
			rescue_leftovers(t->m);
		}
		break;
	case CMAN_EF_SWAP_ROLES:
		timer_end(&t->tick);
		source_swap(t->m, &t->peer);
		final(t);
		break;
	case CMAN_EF_OVER:
		over(t, e->ok);
		break;
	default:
		break;
	}
}

static void feed(struct target *t, struct cman_event ev)
{
	t->queue[t->tail++ % 64] = ev;
	if (t->running)
		return;
	t->running = true;
	while (t->head != t->tail) {
		struct cman_effects out;
		struct cman_event next = t->queue[t->head++ % 64];
		int err = cman_target_step(&t->h, &next, &out);

		if (err) {
			cman_warn("an event of the handover does not belong here",
				  "event=%s phase=%s", cman_event_name(next.type),
				  cman_phase_name(t->h.phase));
			if (t->peer.open && next.type <= CMAN_EV_FINISHED) {
				peer_reject(&t->peer, "this frame does not belong here");
				peer_close(&t->peer);
				t->queue[t->tail++ % 64] = (struct cman_event){
					.type = CMAN_EV_PEER_LOST
				};
			}
			continue;
		}
		for (unsigned int i = 0; i < out.n; i++)
			run(t, &out.e[i]);
	}
	t->running = false;
}

static void on_listeners(struct target *t, const struct cman_frame *f, int *fds)
{
	size_t cursor = 0, n;
	const char *text;
	unsigned int k = 0;

	while (!cman_frame_next_text(f, CMAN_TAG_LISTENER, &cursor, &text, &n) && k < f->nfds) {
		if (t->m->ncells) /* a rollback: we have them */
			close(fds[k]);
		else
			publish_inherit(t->m, text, n, fds[k]);
		k++;
	}
	for (; k < f->nfds; k++)
		close(fds[k]);
	event(t, CMAN_EV_HELLO, 0, true);
}

static void on_frame(void *arg, const struct cman_frame *f, int *fds)
{
	struct target *t = arg;
	struct cman_event ev;
	const uint8_t *text;
	const char *why;
	char path[256];
	size_t n;

	t->quiet = 0;
	switch (f->type) {
	case CMAN_FRAME_HELLO:
		if (t->peer.remote)
			break; /* it has said OFFER */
		why = peer_check_hello(&t->peer, f);
		cman_frame_u32(f, CMAN_TAG_SESSIONS, &t->expected);
		if (!why && t->peer.journal.fd < 0 &&
		    cman_journal_open(rundir_path(t->m, t->m->alias, "journal", path, sizeof(path)),
				      &t->peer.journal))
			why = "the running instance's journal cannot be opened";
		if (why) {
			snprintf(t->why, sizeof(t->why), "%s", why);
			event(t, CMAN_EV_HELLO, 0, false);
		}
		t->hello_seen = !why;
		if (!why && t->peer.carrier == &carrier_repair)
			repair_prepare(t->m);
		return;
	case CMAN_FRAME_LISTENERS:
		if (t->hello_seen) {
			on_listeners(t, f, fds);
			return;
		}
		break;
	case CMAN_FRAME_ERROR:
		if (!cman_frame_bytes(f, CMAN_TAG_TEXT, &text, &n))
			snprintf(t->why, sizeof(t->why), "%.*s", (int)n, (const char *)text);
		peer_close(&t->peer);
		feed(t, (struct cman_event){ .type = CMAN_EV_PEER_LOST });
		return;
	case CMAN_FRAME_IMAGE:
		if (!peer_collect(&t->peer, f))
			return;
		break; /* the machine refuses it */
	case CMAN_FRAME_BATCH:
	case CMAN_FRAME_IMAGES:
		ev = peer_event(f);
		if (!parcel_of(t, ev.id) && parcel_keep(t, ev.id, f, fds)) {
			struct parcel_in *p = parcel_of(t, ev.id);

			feed(t, ev);
			if (p->id == ev.id && !p->c) /* not wanted: a repeat, or out of order */
				parcel_free(p);
			return;
		}
		break;
	default:
		break;
	}
	for (unsigned int i = 0; i < f->nfds; i++)
		close(fds[i]);
	if (f->type == CMAN_FRAME_DONE)
		take_left(t, f);
	if (f->type == CMAN_FRAME_NAMED && t->peer.remote)
		remote_ports(t->peer.remote, f);
	feed(t, peer_event(f));
}

static void on_lost(void *arg, bool dead)
{
	struct target *t = arg;

	if (dead)
		t->old_exited = true;
	if (t->over || t->exit_timer) { /* in order: it has nothing left */
		if (t->exit_timer && !dead)
			return; /* it closes the channel, then it ends */
		if (t->exit_timer)
			final(t);
		if (dead && t->ok) /* else it left sessions or files behind */
			rescue_leftovers(t->m);
		if (t->ok)
			return;
	}
	if (t->h.phase == CMAN_HO_OVER && !dead)
		return;
	feed(t, (struct cman_event){ .type = CMAN_EV_PEER_LOST, .dead = dead });
}

static bool overdue(const struct target *t)
{
	uint32_t timeout_s = t->m->opt.timeout_s ? t->m->opt.timeout_s :
						   t->m->ic->handover_timeout_s;

	return cman_now_ns() - t->begun_ns > (uint64_t)(timeout_s + OVERDUE_S) * 1000000000u;
}

static void on_tick(uv_timer_t *timer)
{
	struct target *t = timer->data;
	bool waits = false, starting = t->h.phase <= CMAN_HO_STARTING;
	unsigned int limit = starting ? START_TICKS : SILENT_TICKS;

	if (!t->peer.open || t->over) {
		timer_end(&t->tick);
		return;
	}
	for (unsigned int i = 0; i < CMAN_HANDOVER_WINDOW; i++)
		waits |= t->h.batch[i].state == CMAN_BATCH_PREP;
	t->quiet++;
	if (t->quiet == ASK_TICKS && !starting) {
		feed(t, (struct cman_event){ .type = CMAN_EV_TIMEOUT });
		/* nothing in flight: the fate of an old batch is asked, for any answer */
		if (!cman_handover_in_flight(&t->h) && t->h.highest)
			peer_send_simple(&t->peer, CMAN_FRAME_QUERY, t->h.highest, false);
	}
	if (t->quiet < limit || (starting ? t->h.busy : !waits && !t->h.highest && !overdue(t)))
		return;
	if (t->quiet == limit)
		event_add(t->m, LOG_WARNING, "the old instance (pid %d) does not answer any more",
			  (int)t->peer.pid);
	if (!starting && t->quiet < limit + DYING_TICKS && peer_kill(&t->peer))
		return;
	peer_close(&t->peer);
	feed(t, (struct cman_event){ .type = CMAN_EV_PEER_LOST });
}

static struct target *target_new(struct manager *m)
{
	struct target *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->m = m;
	t->begun_ns = cman_now_ns();
	cman_target_init(&t->h);
	return t;
}

static void ready_peer(struct target *t)
{
	t->peer.on_frame = on_frame;
	t->peer.on_lost = on_lost;
	t->peer.arg = t;
	peer_watch(&t->peer);
	t->tick = timer_begin(t->m, on_tick, TICK_MS, TICK_MS, t);
}

int target_begin(struct manager *m)
{
	char path[256], name[CMAN_NAME_LEN + 4];
	struct cman_chan chan;
	struct target *t;
	pid_t pid;
	uid_t uid;
	int fd, err;

	rundir_path(m, m->alias, "ctl.sock", path, sizeof(path));
	err = cman_unix_connect(path, &fd);
	if (err) {
		fprintf(stderr, "cmand: instance %s does not run: nothing to take over (%s: %s)\n",
			m->alias, path, strerror(-err));
		return err;
	}
	rundir_follow(m);
	snprintf(name, sizeof(name), "%s_old", m->alias);
	if (rundir_exists(m, name)) {
		int lock;

		if (rundir_lock(m, name, &lock) == -EWOULDBLOCK) {
			fprintf(stderr,
				"cmand: the old instance of an earlier migration still runs: wait for its "
				"end, or cmanctl shutdown -c %s\n",
				name);
			close(fd);
			return -EBUSY;
		}
		close(lock);
		rescue_bury(m, name);
	}
	if (rundir_exists(m, m->name)) {
		int lock;

		if (rundir_lock(m, m->name, &lock) == -EWOULDBLOCK) {
			fprintf(stderr, "cmand: another migration of %s is running\n", m->alias);
			close(fd);
			return -EBUSY;
		}
		close(lock);
		rescue_bury(m, m->name);
	}
	err = rundir_make(m, m->name);
	t = target_new(m);
	if (err || !t) {
		fprintf(stderr, "cmand: cannot make the run directory in %s: %s\n", m->ic->run_dir,
			strerror(err ? -err : ENOMEM));
		close(fd);
		return err ? err : -ENOMEM;
	}
	m->target = t;
	cman_chan_init(&chan, fd);
	peer_init(&t->peer, m, &chan);
	if (!cman_chan_peer(&t->peer.chan, &pid, &uid))
		t->peer.pid = pid;
	ready_peer(t);
	CMAN_CRASH(TARGET_HELLO);
	peer_hello(&t->peer, m->opt.via ? m->opt.via : m->ic->handover, 0);
	return 0;
}

static void target_forget(struct manager *m)
{
	struct target *t = m->target;

	if (!t)
		return;
	for (unsigned int k = 0; k < t->nwaiting; k++)
		client_error(t->waiting[k], 1, "another migration has begun");
	peer_fini(&t->peer);
	timer_end(&t->exit_timer);
	timer_end(&t->progress_timer);
	timer_end(&t->tick);
	gaps_free(&t->gaps);
	free(t->left);
	free(t);
	m->target = NULL;
}

void target_swap(struct manager *m, struct peer *peer)
{
	struct target *t = target_new(m);

	if (!t)
		return;
	target_forget(m);
	t->swapped = true;
	m->target = t;
	peer_move(&t->peer, peer);
	source_forget(m);
	ready_peer(t);
	t->hello_seen = true;
	peer_hello(&t->peer, t->peer.carrier->choice, 0);
}

bool target_cancel(struct manager *m, bool rollback)
{
	if (!m->target || m->target->over || m->target->h.phase == CMAN_HO_OVER)
		return false;
	feed(m->target,
	     (struct cman_event){ .type = CMAN_EV_CANCEL, .local = true, .rollback = rollback });
	return true;
}

bool target_over(const struct manager *m)
{
	return !m->target || m->target->over;
}

void target_progress(const struct manager *m, uint32_t *ret_moved, uint32_t *ret_total,
		     const char **ret_phase)
{
	const struct target *t = m->target;

	*ret_moved = t ? t->h.moved : 0;
	*ret_total = t ? t->expected : 0;
	*ret_phase = t ? cman_phase_name(t->h.phase) : "none";
}

static void on_progress(uv_timer_t *timer)
{
	struct target *t = timer->data;

	/* downwards: one that went away is replaced by the last */
	for (unsigned int k = t->nwaiting; k-- > 0;)
		client_progress(t->waiting[k],
				json_pack("{s:s,s:i,s:i}", "phase", cman_phase_name(t->h.phase),
					  "moved", (int)t->h.moved, "total", (int)t->expected));
}

static void waiting_gone(void *arg)
{
	struct client *c = arg;
	struct target *t = client_manager(c)->target;

	for (unsigned int k = 0; t && k < t->nwaiting; k++)
		if (t->waiting[k] == c)
			t->waiting[k--] = t->waiting[--t->nwaiting];
}

void target_wait(struct manager *m, struct client *c)
{
	struct target *t = m->target;

	if (!t || t->nwaiting == sizeof(t->waiting) / sizeof(*t->waiting)) {
		client_error(c, 1,
			     t ? "too many wait for the report already" :
				 "no migration ran since this instance started");
		return;
	}
	client_on_close(c, waiting_gone, c);
	t->waiting[t->nwaiting++] = c;
	if (t->over) {
		answer_waiting(t);
		return;
	}
	if (!t->progress_timer)
		t->progress_timer = timer_begin(m, on_progress, 200, 200, t);
}

/* ---- from another host ---- */

void target_offered(struct manager *m, struct cman_chan *chan, const struct cman_frame *f)
{
	const uint8_t *bytes;
	const char *why = NULL;
	struct remote *r = NULL;
	struct peer peer;
	struct target *t;
	uint8_t min, max;
	size_t n;

	peer_init(&peer, m, chan);
	peer.carrier = &carrier_repair;
	if (m->stopping || !m->ncells || m->is_old)
		why = "the instance is starting or ending";
	else if (!target_over(m) || source_active(m))
		why = "another migration is running there";
	else if (cman_frame_range(f, &min, &max) ||
		 cman_wire_choose(min, max, CMAN_WIRE_MIN, CMAN_WIRE_MAX) < 0)
		why = "no version of the handover protocol in common";
	else
		r = remote_take(m, f, &why);
	if (!r || !(t = target_new(m))) {
		event_add(m, LOG_WARNING, "a move from another host was refused: %s", why);
		peer_reject(&peer, why);
		peer_fini(&peer);
		free(r);
		return;
	}
	target_forget(m);
	source_forget(m);
	m->target = t;
	peer.remote = r;
	if (!cman_frame_bytes(f, CMAN_TAG_RELEASE, &bytes, &n))
		snprintf(peer.release, sizeof(peer.release), "%.*s", (int)n, (const char *)bytes);
	cman_frame_u32(f, CMAN_TAG_PID, &peer.remote_pid);
	cman_frame_u32(f, CMAN_TAG_SESSIONS, &t->expected);
	peer_move(&t->peer, &peer);
	ready_peer(t);
	m->maps.instance->state = CMAN_MIGRATING;
	event_add(m, LOG_NOTICE, "another host (release %s) hands services over", t->peer.release);
	peer_hello(&t->peer, CMAN_VIA_REPAIR, 0);
	event(t, CMAN_EV_HELLO, 0, true);
}

enum cman_register target_resolve(struct manager *m, uint64_t batch)
{
	struct target *t = m->target;

	/* whoever asks on a new channel has lost the old one */
	if (t && t->peer.remote && t->peer.open && parcel_of(t, batch)) {
		peer_close(&t->peer);
		feed(t, (struct cman_event){ .type = CMAN_EV_PEER_LOST });
	}
	return journal_settle(&m->journal, batch, CMAN_REG_DROP);
}

bool target_far(const struct manager *m)
{
	return !target_over(m) && m->target->peer.remote;
}
