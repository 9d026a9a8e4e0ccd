/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gateway's loop: one epoll set, edge-triggered for sessions; a ready queue for directions
 * that used up their budget; once a second the timeouts. Slots are found by number and a
 * generation, so that an event for a session that has ended is recognised.
 */
#include "usr/gateway/gateway.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "usr/core/rules.h"
#include "usr/gateway/internal.h"
#include "usr/sys/log.h"
#include "usr/sys/proc.h"
#include "usr/sys/secret.h"

#define EVENTS 128

/* epoll data: generation << 32 | slot << 1 | leg, or with this generation: special << 16 | n */
#define GEN_SPECIAL UINT32_MAX
enum special {
	SPECIAL_KICK,
	SPECIAL_PIDFD,
	SPECIAL_LISTENER,
};

static uint64_t special(enum special what, uint32_t n)
{
	return (uint64_t)GEN_SPECIAL << 32 | (uint32_t)what << 16 | n;
}

static uint64_t session(struct gateway *g, uint32_t i, enum leg leg)
{
	return (uint64_t)g->live[i].gen << 32 | i << 1 | leg;
}

void gw_queue(struct gateway *g, uint32_t i, unsigned int want)
{
	struct live *l = &g->live[i];

	l->want |= (uint8_t)want;
	if (l->flags & LIVE_QUEUED)
		return;
	l->flags |= LIVE_QUEUED;
	l->next = NO_SLOT;
	if (g->ready_head == NO_SLOT)
		g->ready_head = i;
	else
		g->live[g->ready_tail].next = i;
	g->ready_tail = i;
}

int gw_poll_leg(struct gateway *g, uint32_t i, enum leg leg, bool out)
{
	struct epoll_event ev = {
		.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (out ? EPOLLOUT : 0),
		.data.u64 = session(g, i, leg),
	};

	if (out)
		g->live[i].flags |= LIVE_OUT(leg);
	if (!epoll_ctl(g->epfd, EPOLL_CTL_ADD, leg_fd(slot_of(g, i), leg), &ev))
		return 0;
	if (errno == EEXIST && !epoll_ctl(g->epfd, EPOLL_CTL_MOD, leg_fd(slot_of(g, i), leg), &ev))
		return 0;
	return -errno;
}

int gw_poll_add(struct gateway *g, uint32_t i, unsigned int out)
{
	int err = gw_poll_leg(g, i, LEG_CLIENT, out & (1u << LEG_CLIENT));

	CMAN_CRASH(ACCEPT_EPOLL_CLIENT);
	if (!err)
		err = gw_poll_leg(g, i, LEG_SERVER, out & (1u << LEG_SERVER));
	CMAN_CRASH(ACCEPT_EPOLL_SERVER);
	if (!err)
		g->live[i].flags |= LIVE_POLLED;
	return err;
}

void gw_poll_del(struct gateway *g, uint32_t i)
{
	struct live *l = &g->live[i];
	struct cman_slot *s = slot_of(g, i);

	epoll_ctl(g->epfd, EPOLL_CTL_DEL, s->client_fd, NULL);
	epoll_ctl(g->epfd, EPOLL_CTL_DEL, s->server_fd, NULL);
	l->flags &= (uint8_t) ~(LIVE_POLLED | LIVE_OUT(LEG_CLIENT) | LIVE_OUT(LEG_SERVER));
}

void gw_wait_out(struct gateway *g, uint32_t i, enum leg leg)
{
	struct epoll_event ev = {
		.events = EPOLLIN | EPOLLRDHUP | EPOLLET | EPOLLOUT,
		.data.u64 = session(g, i, leg),
	};

	/* Registered once; from then on every full send buffer ends in an edge. Before the legs
	 * are polled, adding them reports what is there already. */
	if (g->live[i].flags & LIVE_OUT(leg))
		return;
	g->live[i].flags |= LIVE_OUT(leg);
	if (epoll_ctl(g->epfd, EPOLL_CTL_MOD, leg_fd(slot_of(g, i), leg), &ev) < 0)
		g->live[i].flags &= (uint8_t)~LIVE_OUT(leg);
}

uint32_t gw_slot_take(struct gateway *g)
{
	uint32_t i = g->free_head;

	if (i != NO_SLOT) {
		g->free_head = g->live[i].next;
	} else {
		if (g->high == g->nslots)
			return NO_SLOT;
		i = g->high++;
		g->cell->high = g->high;
	}
	g->live[i] = (struct live){
		.gen = g->live[i].gen + 1,
		.next = NO_SLOT,
		.want = g->live[i].want & WANT_WATCH,
	};
	if (g->live[i].gen == GEN_SPECIAL)
		g->live[i].gen = 0;
	memset(slot_of(g, i), 0, sizeof(struct cman_slot));
	return i;
}

void gw_slot_free(struct gateway *g, uint32_t i)
{
	struct live *l = &g->live[i];

	set_state(slot_of(g, i), CMAN_SLOT_FREE);
	l->gen++;
	l->want &= WANT_WATCH;
	if (l->flags & LIVE_QUEUED) /* the ready queue frees it: its link is in use */
		return;
	l->next = g->free_head;
	g->free_head = i;
}

void gw_count(struct gateway *g, const struct cman_slot *s, int by)
{
	uint32_t n = (uint32_t)by;

	g->cell->sessions += n;
	g->cell->service_sessions[s->service] += n;
	g->cell->rule_sessions[s->rule] += n;
	if (s->server_fd > 0 && by < 0 && g->cell->target_sessions[s->service][s->target])
		g->cell->target_sessions[s->service][s->target]--;
}

/* Makes the epoll set hold just the listeners that the instance wants accepted. */
void gw_listen_sync(struct gateway *g)
{
	for (uint32_t n = 0; n < CMAN_MAX_LISTENERS; n++) {
		int fd = g->cell->listener_fd[n];
		bool want = g->instance->accepting && g->instance->listener[n].used && fd > 0;
		struct epoll_event ev = {
			.events = EPOLLIN | EPOLLEXCLUSIVE,
			.data.u64 = special(SPECIAL_LISTENER, n),
		};

		if (want && !g->listening[n]) {
			g->listening[n] = !epoll_ctl(g->epfd, EPOLL_CTL_ADD, fd, &ev);
		} else if (!want && g->listening[n]) {
			epoll_ctl(g->epfd, EPOLL_CTL_DEL, fd, NULL);
			g->listening[n] = false;
		}
		if (fd > 0 && !g->instance->listener[n].used) {
			/* gone from the configuration: who waits in its queue is still served */
			gw_drain(g, n);
			cman_cell_mark(g->env, true);
			g->cell->listener_fd[n] = 0;
			close(fd);
			cman_cell_mark(g->env, false);
		}
	}
}

static void idle_limits(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	const struct cman_service *svc = &g->env->maps.services[s->service];
	uint32_t idle = svc->idle_timeout_s;

	if (s->rule && s->rule <= g->instance->nrules &&
	    g->env->maps.ruletab[s->rule - 1].max_idle_s) {
		uint32_t max_idle = g->env->maps.ruletab[s->rule - 1].max_idle_s;

		if (!idle || max_idle < idle)
			idle = max_idle;
	}
	/* both are whole seconds, cut: only a difference of more than N is N seconds for sure */
	if ((idle && g->now_s > s->active_s && g->now_s - s->active_s > idle) ||
	    (svc->session_timeout_s && g->now_s - s->created_s > svc->session_timeout_s)) {
		cman_info("a session timed out", "session=%016llx service=%s idle_s=%u age_s=%u",
			  (unsigned long long)s->id, svc->name, g->now_s - s->active_s,
			  g->now_s - s->created_s);
		gw_close(g, i);
	}
}

static bool any_limit(struct gateway *g)
{
	for (uint32_t n = 0; n < CMAN_MAX_SERVICES; n++)
		if (g->env->maps.services[n].state != CMAN_SERVICE_UNUSED &&
		    (g->env->maps.services[n].idle_timeout_s ||
		     g->env->maps.services[n].session_timeout_s))
			return true;
	for (uint32_t n = 0; n < g->instance->nrules; n++)
		if (g->env->maps.ruletab[n].max_idle_s)
			return true;
	return false;
}

/* The rules have changed: which one each live session falls under now. */
static void rules_again(struct gateway *g)
{
	for (uint32_t i = 0; i < g->high; i++) {
		struct cman_slot *s = slot_of(g, i);
		int n;

		if ((s->state < CMAN_SLOT_ACCEPTED || s->state > CMAN_SLOT_RELAYING) &&
		    s->state != CMAN_SLOT_HANDSHAKE)
			continue;
		n = cman_rules_find(g->env->maps.ruletab, g->instance->nrules, s->service,
				    s->client_addr);
		g->cell->rule_sessions[s->rule]--;
		s->rule = (__u16)(n < 0 ? 0 : n + 1);
		g->cell->rule_sessions[s->rule]++;
	}
}

static void every_second(struct gateway *g, bool limits)
{
	g->swept_s = g->now_s;
	g->refused_logged = false;
	if (g->spliced)
		gw_splice_tick(g);
	if (g->ntls)
		gw_tls_tick(g);
	if (!g->connecting && !limits)
		return;
	for (uint32_t i = 0; i < g->high; i++) {
		struct cman_slot *s = slot_of(g, i);

		if (s->state == CMAN_SLOT_CONNECTING)
			gw_connect_check(g, i);
		else if (s->state == CMAN_SLOT_ACCEPTED || s->state == CMAN_SLOT_HANDSHAKE)
			gw_tls_shake_check(g, i);
		else if (s->state == CMAN_SLOT_RELAYING && limits)
			idle_limits(g, i);
	}
}

/* A leg reported an error although its EOF was passed on already: was it reset since? */
static bool was_reset(struct gateway *g, uint32_t i, enum leg leg)
{
	if (!cman_sock_error(leg_fd(slot_of(g, i), leg)))
		return false;
	gw_reset(g, i);
	return true;
}

static void session_event(struct gateway *g, uint64_t data, uint32_t events)
{
	uint32_t gen = (uint32_t)(data >> 32), i = (uint32_t)data >> 1;
	enum leg leg = data & 1 ? LEG_SERVER : LEG_CLIENT;
	int from = leg == LEG_CLIENT ? CMAN_UP : CMAN_DOWN, to = !from;
	bool end = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	struct cman_slot *s;

	if (i >= g->high || g->live[i].gen != gen)
		return;
	s = slot_of(g, i);
	if (s->state == CMAN_SLOT_CONNECTING) {
		if (leg == LEG_SERVER && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			gw_connected(g, i, events & (EPOLLERR | EPOLLHUP));
		else if ((events & EPOLLERR) && cman_sock_error(s->client_fd))
			gw_reset(g, i);
		return;
	}
	if (s->state == CMAN_SLOT_ACCEPTED || s->state == CMAN_SLOT_HANDSHAKE) {
		gw_tls_shake(g, i);
		return;
	}
	if (s->state != CMAN_SLOT_RELAYING)
		return;
	if (s->flags & CMAN_SLOT_SPLICED) {
		gw_splice_event(g, i, leg, events);
		return;
	}
	if ((events & EPOLLERR) && (s->eof & (from == CMAN_UP ? CMAN_EOF_UP : CMAN_EOF_DOWN)) &&
	    was_reset(g, i, leg))
		return;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		gw_pump(g, i, from, end);
	if (events & EPOLLERR) {
		/* nothing more comes: the rest goes now, as far as the other leg takes it */
		while (g->live[i].gen == gen && (g->live[i].want & (1u << from))) {
			g->live[i].want &= (uint8_t) ~(1u << from);
			gw_pump(g, i, from, true);
		}
		if (g->live[i].gen == gen && g->live[i].len[from] && was_reset(g, i, leg))
			return;
	}
	/* with kernel TLS a close_notify or an answer may wait when no data does */
	if (g->live[i].gen == gen && (g->live[i].len[to] || (s->tls & CMAN_SLOT_TLS_KERNEL)) &&
	    (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
		gw_pump(g, i, to, true);
	if (g->splice && g->live[i].gen == gen && !s->tls)
		gw_splice_consider(g, i);
}

static void ready_queue(struct gateway *g)
{
	uint32_t last = g->ready_tail, i;

	do {
		struct live *l;
		unsigned int want;
		uint32_t gen;

		i = g->ready_head;
		l = &g->live[i];
		g->ready_head = l->next;
		l->flags &= (uint8_t)~LIVE_QUEUED;
		want = l->want;
		gen = l->gen;
		l->want &= WANT_WATCH;
		if (slot_of(g, i)->state == CMAN_SLOT_FREE) {
			l->next = g->free_head;
			g->free_head = i;
			continue;
		}
		if (slot_of(g, i)->state != CMAN_SLOT_RELAYING)
			continue;
		for (int dir = 0; dir < 2; dir++)
			if ((want & (1u << dir)) && l->gen == gen)
				gw_pump(g, i, dir, true);
	} while (i != last && g->ready_head != NO_SLOT);
}

static void watch(struct gateway *g)
{
	for (uint32_t r = 0; r < CMAN_ROLES; r++) {
		struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT,
					  .data.u64 = special(SPECIAL_PIDFD, r) };

		if (g->env->pidfd[r] >= 0 &&
		    epoll_ctl(g->epfd, EPOLL_CTL_ADD, g->env->pidfd[r], &ev) < 0)
			epoll_ctl(g->epfd, EPOLL_CTL_MOD, g->env->pidfd[r], &ev);
	}
}

static void update_clock(struct gateway *g)
{
	g->now_ns = cman_now_ns();
	g->now_s = (uint32_t)(g->now_ns / 1000000000u);
	g->cell->beat_ns = g->now_ns;
}

static void loop(struct gateway *g)
{
	struct epoll_event ev[EVENTS];
	uint32_t generation = g->instance->config_generation;
	bool limits = any_limit(g), tend = true;
	int cell_timeout = -1;

	while (!g->cell->quit) {
		int timeout = -1, n;

		if (tend || cell_timeout >= 0) {
			bool changed;

			cell_timeout = cman_cell_tend(g->env, &changed);
			if (changed || tend)
				watch(g);
			tend = false;
		}
		if (g->cell->sweep_done != g->cell->sweep_wanted)
			gw_sweep(g);
		if (g->ready_head != NO_SLOT)
			timeout = 0;
		else if (cell_timeout >= 0 || g->nwatched ||
			 g->cell->sweep_done != g->cell->sweep_wanted)
			timeout = 1;
		else if (g->connecting || limits || g->spliced ||
			 g->ntls) /* when the next second begins */
			timeout = 1000 - (int)(g->now_ns / 1000000 % 1000);
		n = epoll_wait(g->epfd, ev, EVENTS, timeout);
		update_clock(g);
		for (int k = 0; k < n; k++) {
			uint64_t data = ev[k].data.u64;

			if ((uint32_t)(data >> 32) != GEN_SPECIAL) {
				session_event(g, data, ev[k].events);
				continue;
			}
			switch ((enum special)((uint32_t)data >> 16)) {
			case SPECIAL_KICK:
				(void)!read(g->cell->kick_fd, &(uint64_t){ 0 }, 8);
				gw_orders(g);
				break;
			case SPECIAL_PIDFD:
				tend = true;
				break;
			case SPECIAL_LISTENER:
				gw_accept(g, (uint16_t)data);
				break;
			}
		}
		if (g->nwatched)
			gw_splice_watch(g);
		if (g->ready_head != NO_SLOT)
			ready_queue(g);
		if (generation != g->instance->config_generation) {
			generation = g->instance->config_generation;
			limits = any_limit(g);
			rules_again(g);
		}
		if (g->now_s != g->swept_s)
			every_second(g, limits);
	}
	_exit(0);
}

static void *private_array(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void cman_gateway_start(struct cman_cell_env *env)
{
	static struct gateway gateway; /* a clone's copy may be stale: all of it is reset */
	struct gateway *g = &gateway;
	struct epoll_event kick = { .events = EPOLLIN, .data.u64 = special(SPECIAL_KICK, 0) };
	struct rlimit limit;
	char title[32];

	snprintf(title, sizeof(title), "gateway %u", env->index);
	cman_proc_title(env->maps.instance->alias, title);
	cman_log_init(title);
	/* for ports of our own choice: a successor, or another host, must not begin with the same */
	srandom((unsigned int)(cman_now_ns() ^ (uint64_t)getpid() << 16));
	cman_crash_init(env->maps.instance, env->cell);
	if (g->live) /* of an ancestor */
		munmap(g->live, env->nslots * sizeof(*g->live));
	if (g->pipe_free)
		munmap(g->pipe_free, CMAN_PIPES_PER_CELL * sizeof(*g->pipe_free));
	if (g->tls)
		munmap(g->tls, env->nslots * sizeof(struct gw_tls *));
	cman_tls_memory_unmap(g->secret, env->nslots);
	cman_secret_free(g->scratch, CMAN_TLS_RECORD_MAX);
	memset(g, 0, sizeof(*g));
	g->env = env;
	g->cell = env->cell;
	g->slots = env->slots;
	g->instance = env->maps.instance;
	g->nslots = env->nslots;
	g->free_head = g->ready_head = g->ready_tail = NO_SLOT;
	g->accept_budget = 1;
	g->spare_fd = -1;
	getrlimit(RLIMIT_NOFILE, &limit);
	g->fd_limit = limit.rlim_cur > UINT32_MAX ? UINT32_MAX : (uint32_t)limit.rlim_cur;
	g->pipe_limit = g->fd_limit / 16 < CMAN_PIPES_PER_CELL / 2 ? g->fd_limit / 16 :
								     CMAN_PIPES_PER_CELL / 2;
	g->live = private_array(g->nslots * sizeof(*g->live));
	g->pipe_free = private_array(CMAN_PIPES_PER_CELL * sizeof(*g->pipe_free));
	g->tls = private_array(g->nslots * sizeof(struct gw_tls *));
	g->scratch = cman_secret_alloc(CMAN_TLS_RECORD_MAX);
	if (!g->live || !g->pipe_free || !g->tls || !g->scratch) {
		cman_err("no memory for the gateway's tables", "slots=%u", g->nslots);
		_exit(1);
	}
	CMAN_CRASH(RECOVER_START);
	cman_cell_mark(env, true);
	g->epfd = epoll_create1(EPOLL_CLOEXEC);
	cman_cell_own(env, CMAN_OWN_FIRST, g->epfd > 0 ? g->epfd : 0);
	g->spare_fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
	cman_cell_own(env, CMAN_OWN_FIRST + 1, g->spare_fd > 0 ? g->spare_fd : 0);
	cman_cell_mark(env, false);
	CMAN_CRASH(RECOVER_EPOLL);
	if (g->epfd < 0 || epoll_ctl(g->epfd, EPOLL_CTL_ADD, env->cell->kick_fd, &kick) < 0) {
		cman_err("cannot make the gateway's epoll set", "err=\"%s\"", strerror(errno));
		_exit(1);
	}
	update_clock(g);
	gw_splice_start(g);
	gw_recover(g);
	gw_listen_sync(g);
	gw_orders(g); /* what the predecessor did not finish */
	(void)!write(env->cell->done_fd, &(uint64_t){ 1 }, 8); /* nor say */
	loop(g);
}
