/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New sessions: accept, the rules' limits, the choice of a target, connect, and failover to the
 * next target. Every descriptor is recorded in the slot before anything depends on it; between
 * accept4() or socket() and that store the role's mark says that a successor must look for it.
 *
 * What the client has sent already is read before connect(): the handshake's last ACK to the
 * target then rides on that data.
 */
#include "usr/gateway/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usr/core/config.h"
#include "usr/core/rules.h"
#include "usr/sys/log.h"

#define FD_RESERVE	64 /* descriptors kept for keepers, pipes and orders */
#define ACCEPT_MAX	64
#define ACCEPT_PATIENCE 32
#define TARGET_RETRY_S	5 /* a target that refused is not the first choice for that long */

/* A consistent copy of what a connect needs to know of a service. */
struct choice {
	struct cman_target target[CMAN_MAX_TARGETS];
	uint32_t ntargets, balance;
	uint8_t source[16];
	uint16_t source_family;
};

static bool read_service(const struct cman_service *svc, struct choice *c)
{
	uint32_t seq;

	do {
		do
			seq = __atomic_load_n(&svc->seq, __ATOMIC_ACQUIRE);
		while (seq & 1);
		c->ntargets = svc->ntargets;
		c->balance = svc->balance;
		c->source_family = svc->source_family;
		memcpy(c->source, svc->source, sizeof(c->source));
		if (c->ntargets > CMAN_MAX_TARGETS)
			c->ntargets = CMAN_MAX_TARGETS;
		memcpy(c->target, svc->target, c->ntargets * sizeof(*c->target));
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (__atomic_load_n(&svc->seq, __ATOMIC_RELAXED) != seq);
	return svc->state != CMAN_SERVICE_UNUSED && c->ntargets;
}

/* The best target not tried yet: those that are up by the service's balance, then the rest. */
static int choose(struct gateway *g, uint32_t service, const struct choice *c, uint16_t tried)
{
	uint32_t start = 0;
	int best = -1;
	uint64_t best_load = 0;

	if (c->balance == CMAN_BALANCE_ROUNDROBIN && !tried)
		g->cursor[service]++;
	if (c->balance == CMAN_BALANCE_ROUNDROBIN)
		start = g->cursor[service] + g->env->index;
	for (int down = 0; down < 2 && best < 0; down++) {
		for (uint32_t k = 0; k < c->ntargets; k++) {
			uint32_t n = (start + k) % c->ntargets;
			uint64_t load = 0;

			if (tried & (1u << n))
				continue;
			if (!down && c->target[n].down_until_s > g->now_s)
				continue;
			if (c->balance == CMAN_BALANCE_LEASTCONN)
				for (uint32_t j = 0; j < g->instance->gateways; j++)
					load += g->env->maps.cells[j].target_sessions[service][n];
			if (best < 0 || load < best_load) {
				best = (int)n;
				best_load = load;
			}
		}
	}
	return best;
}

static void give_up(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	g->cell->refused++;
	cman_warn("no target answers: the session is refused", "service=%s session=%016llx",
		  g->env->maps.services[s->service].name, (unsigned long long)s->id);
	gw_tls_refuse(g, i);
	gw_reset(g, i);
}

static void target_failed(struct gateway *g, uint32_t i, int err)
{
	struct cman_slot *s = slot_of(g, i);
	struct cman_target *t = &g->env->maps.services[s->service].target[s->target];
	char text[CMAN_ENDPOINT_TEXT];

	if (t->down_until_s <= g->now_s)
		cman_warn("a target does not answer", "service=%s target=%s err=\"%s\"",
			  g->env->maps.services[s->service].name,
			  cman_endpoint_format(t->addr, t->port, text), strerror(err));
	t->down_until_s = g->now_s + TARGET_RETRY_S;
	t->failures++;
	g->live[i].tried |= (uint16_t)(1u << s->target);
}

void gw_drop_server(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	set_state(s, CMAN_SLOT_ACCEPTED);
	CMAN_CRASH(CONNECT_FAILED);
	if (s->server_fd > 0 && cman_sock_cookie(s->server_fd) == s->server_cookie)
		close(s->server_fd);
	CMAN_CRASH(CONNECT_FAILED_CLOSED);
	s->server_fd = 0;
	s->server_cookie = 0;
}

/* Reads what the client has sent already into the hot buffer: 1 when there is some, 0, or -errno
 * when the client is gone. */
static int read_early(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	struct live *l = &g->live[i];
	ssize_t n;

	if (s->bound[CMAN_UP])
		return 1;
	set_bound(s, CMAN_UP, CMAN_BOUND_BUFFER | CMAN_HOT_BUFFER);
	CMAN_CRASH(ACCEPT_EARLY_BOUND);
	n = recv(s->client_fd, buffer_at(g, CMAN_HOT_BUFFER), CMAN_BUFFER_SIZE, MSG_DONTWAIT);
	CMAN_CRASH(ACCEPT_EARLY_READ);
	if (n <= 0) { /* an EOF comes again once the legs are polled, an error does not */
		int err = n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;

		set_bound(s, CMAN_UP, CMAN_BOUND_NONE);
		return err;
	}
	l->off[CMAN_UP] = 0;
	l->len[CMAN_UP] = (uint32_t)n;
	return 1;
}

#define PORT_TRIES 200

/* The address is just moving between two hosts: see port_parity. */
static int bind_port(const struct gateway *g, int fd, const struct choice *c)
{
	const __u8 *busy = g->instance->busy_port;
	bool odd = g->instance->port_parity == CMAN_PORTS_ODD;
	struct sockaddr_storage ss;
	socklen_t len;

	for (int k = 0; k < PORT_TRIES; k++) {
		uint16_t port = (uint16_t)(32768 + 2 * (random() % 14116) + odd);

		if (!odd && busy[port / 8] & 1u << port % 8)
			continue;
		len = cman_sockaddr(&ss, c->source_family, c->source, port);
		if (!bind(fd, (struct sockaddr *)&ss, len))
			return 0;
		if (errno != EADDRINUSE)
			return -errno;
	}
	return -EADDRNOTAVAIL;
}

static int bind_source(const struct gateway *g, int fd, const struct choice *c)
{
	struct sockaddr_storage ss;
	socklen_t len = cman_sockaddr(&ss, c->source_family, c->source, 0);
	int one = 1;

	if (g->instance->port_parity)
		return bind_port(g, fd, c);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	return bind(fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0;
}

/* socket, store, CONNECTING, bind to the source address. 0 or -errno with no server leg left. */
static int make_server(struct gateway *g, uint32_t i, const struct choice *c, int target)
{
	struct cman_slot *s = slot_of(g, i);
	const struct cman_target *t = &c->target[target];
	int fd, err;

	cman_cell_mark(g->env, true);
	fd = socket(t->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	err = errno;
	CMAN_CRASH(ACCEPT_SOCKET);
	if (fd < 0) {
		cman_cell_mark(g->env, false);
		return -err;
	}
	s->server_cookie = cman_sock_cookie(fd);
	s->server_fd = fd;
	CMAN_CRASH(ACCEPT_STORED_SERVER);
	s->target = (__u8)target;
	set_state(s, CMAN_SLOT_CONNECTING);
	CMAN_CRASH(ACCEPT_CONNECTING);
	cman_cell_mark(g->env, false);
	CMAN_CRASH(ACCEPT_UNMARKED);
	err = c->source_family ? bind_source(g, fd, c) : 0;
	if (err)
		gw_drop_server(g, i);
	return err;
}

/* The server leg is there: relay. Early data goes out first. */
void gw_established(struct gateway *g, uint32_t i, bool polled)
{
	struct cman_slot *s = slot_of(g, i);
	struct cman_target *t = &g->env->maps.services[s->service].target[s->target];

	if (t->down_until_s) /* it answers */
		t->down_until_s = 0;
	if (s->tls) {
		gw_tls_connected(g, i, polled);
		return;
	}
	g->connecting--;
	g->live[i].turns = 0;
	set_state(s, CMAN_SLOT_RELAYING);
	CMAN_CRASH(ACCEPT_RELAYING);
	if (s->bound[CMAN_UP]) {
		int err = gw_write_bound(g, i, CMAN_UP);

		if (err && err != -EAGAIN) {
			gw_reset(g, i);
			return;
		}
	}
	if (polled) {
		gw_queue(g, i, 1u << CMAN_UP | 1u << CMAN_DOWN);
		if (s->bound[CMAN_UP])
			gw_wait_out(g, i, LEG_SERVER);
	} else if (gw_poll_add(g, i, s->bound[CMAN_UP] ? 1u << LEG_SERVER : 0)) {
		gw_reset(g, i);
	}
}

void gw_connect(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	unsigned int ports = 0;
	struct choice c;

	if (!read_service(&g->env->maps.services[s->service], &c)) {
		give_up(g, i);
		return;
	}
	for (;;) {
		int target = choose(g, s->service, &c, g->live[i].tried);
		struct sockaddr_storage ss;
		socklen_t len;
		int err, zero = 0;

		if (target < 0) {
			give_up(g, i);
			return;
		}
		err = make_server(g, i, &c, target);
		if (err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -ENOBUFS) {
			give_up(g, i);
			return;
		}
		if (err) {
			s->target = (__u8)target;
			target_failed(g, i, -err);
			continue;
		}
		err = s->tls ? 0 : read_early(g, i);
		if (err < 0) {
			gw_drop_server(g, i);
			gw_reset(g, i);
			return;
		}
		if (err) /* the handshake's ACK rides on the data */
			setsockopt(s->server_fd, IPPROTO_TCP, TCP_QUICKACK, &zero, sizeof(zero));
		len = cman_sockaddr(&ss, c.target[target].family, c.target[target].addr,
				    c.target[target].port);
		if (!connect(s->server_fd, (struct sockaddr *)&ss, len)) {
			CMAN_CRASH(ACCEPT_CONNECTED);
			g->cell->target_sessions[s->service][s->target]++;
			gw_established(g, i, false);
			return;
		}
		if (errno == EINPROGRESS) {
			CMAN_CRASH(ACCEPT_CONNECTED);
			g->cell->target_sessions[s->service][s->target]++;
			g->live[i].since_s = g->now_s;
			/* a near target has answered by now: the data can go at once */
			err = s->bound[CMAN_UP] ? gw_write_bound(g, i, CMAN_UP) : -EAGAIN;
			if (!err || g->live[i].off[CMAN_UP]) { /* it took some, so it is there */
				gw_established(g, i, false);
				return;
			}
			if (err == -EAGAIN) {
				if (gw_poll_add(g, i, 1u << LEG_SERVER))
					gw_reset(g, i);
				return;
			}
			g->cell->target_sessions[s->service][s->target]--;
			errno = -err;
		}
		/* a port of our own choice that still has a TIME_WAIT to this target */
		if (errno == EADDRNOTAVAIL && g->instance->port_parity && ports++ < PORT_TRIES) {
			gw_drop_server(g, i);
			g->live[i].tried &= (uint16_t) ~(1u << target);
			continue;
		}
		target_failed(g, i, errno);
		gw_drop_server(g, i);
	}
}

void gw_attempt_failed(struct gateway *g, uint32_t i, int err)
{
	struct cman_slot *s = slot_of(g, i);

	if (g->cell->target_sessions[s->service][s->target])
		g->cell->target_sessions[s->service][s->target]--;
	target_failed(g, i, err);
	gw_poll_del(g, i);
	gw_drop_server(g, i);
	gw_connect(g, i);
}

void gw_connected(struct gateway *g, uint32_t i, bool failed)
{
	struct cman_slot *s = slot_of(g, i);
	int err = failed ? cman_sock_error(s->server_fd) : 0;

	if (err) {
		gw_attempt_failed(g, i, err);
		return;
	}
	CMAN_CRASH(CONNECT_DONE);
	gw_established(g, i, true);
}

void gw_connect_check(struct gateway *g, uint32_t i)
{
	const struct cman_service *svc = &g->env->maps.services[slot_of(g, i)->service];

	if (svc->connect_timeout_s && g->now_s - g->live[i].since_s > svc->connect_timeout_s)
		gw_attempt_failed(g, i, ETIMEDOUT);
}

/*
 * Over a limit: accept and reset, so that the client knows at once and the queue stays short. 0;
 * -EAGAIN: nobody waits, or not even this descriptor can be had.
 */
static int refuse_one(struct gateway *g, int listener_fd, const char *why)
{
	int fd;

	if (!g->refused_logged) {
		cman_warn("new sessions are refused", "why=\"%s\"", why);
		g->refused_logged = true;
	}
	cman_cell_mark(g->env, true);
	if (g->spare_fd > 0) { /* make room for one descriptor */
		int spare = g->spare_fd;

		cman_cell_own(g->env, CMAN_OWN_FIRST + 1, 0);
		g->spare_fd = -1;
		close(spare);
	}
	fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		g->cell->refused++;
		cman_sock_abort(fd);
	}
	g->spare_fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
	cman_cell_own(g->env, CMAN_OWN_FIRST + 1, g->spare_fd > 0 ? g->spare_fd : 0);
	cman_cell_mark(g->env, false);
	return fd >= 0 ? 0 : -EAGAIN;
}

/* What all gateways have. */
static uint32_t all_sessions(const struct gateway *g)
{
	uint32_t sessions = 0;

	for (uint32_t j = 0; j < g->instance->gateways; j++)
		sessions += g->env->maps.cells[j].sessions;
	return sessions;
}

static uint32_t rule_sessions(const struct gateway *g, uint32_t rule)
{
	uint32_t sessions = 0;

	for (uint32_t j = 0; j < g->instance->gateways; j++)
		sessions += g->env->maps.cells[j].rule_sessions[rule];
	return sessions;
}

static const char *over_limit(struct gateway *g)
{
	if (all_sessions(g) >= g->instance->max_sessions)
		return "max_sessions is reached";
	if (g->cell->sessions * 2 + g->cell->pipes_open * 2 + FD_RESERVE >= g->fd_limit)
		return "no descriptors are left";
	return NULL;
}

void gw_adopt(struct gateway *g, uint32_t i, int fd, uint32_t listener)
{
	struct cman_slot *s = slot_of(g, i);

	s->client_fd = fd;
	CMAN_CRASH(ACCEPT_STORED_FD);
	s->client_cookie = cman_sock_cookie(fd);
	CMAN_CRASH(ACCEPT_STORED_COOKIE);
	s->service = g->instance->listener[listener].service;
	s->listener = (__u8)listener;
	s->id = g->instance->id_base | (uint64_t)g->env->index << 34 | ++g->cell->next_id;
	s->created_s = g->now_s;
	s->active_s = g->now_s;
	set_state(s, CMAN_SLOT_ACCEPTED);
	CMAN_CRASH(ACCEPT_STATE);
}

/* The rule that lets this client in, or none is needed. False: refuse. */
static bool admitted(struct gateway *g, struct cman_slot *s)
{
	const struct cman_rule *r;
	int n;

	if (!g->instance->nrules)
		return true;
	n = cman_rules_find(g->env->maps.ruletab, g->instance->nrules, s->service, s->client_addr);
	if (n < 0)
		return false;
	r = &g->env->maps.ruletab[n];
	s->rule = (__u16)(n + 1);
	if (r->action != CMAN_ACTION_ACCEPT)
		return false;
	return !r->max_sessions || rule_sessions(g, s->rule) < r->max_sessions;
}

/*
 * Another gateway may have taken the last place between our look and our count. Each counts first and looks again,
 * so that not both stay; it may be that neither does.
 */
static bool too_many(struct gateway *g, const struct cman_slot *s)
{
	uint32_t most = s->rule ? g->env->maps.ruletab[s->rule - 1].max_sessions : 0;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return all_sessions(g) > g->instance->max_sessions ||
	       (most && rule_sessions(g, s->rule) > most);
}

void gw_admit(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	bool let_in;

	gw_count(g, s, -1); /* counted for no rule, or for the one that a predecessor found */
	let_in = admitted(g, s);
	gw_count(g, s, 1);
	if (let_in && !too_many(g, s)) {
		if (!gw_tls_begin(g, i))
			gw_connect(g, i);
		return;
	}
	g->cell->refused++;
	gw_reset(g, i);
}

/* 0: one was accepted (or refused); -EAGAIN: nobody waits. */
static int accept_one(struct gateway *g, uint32_t listener)
{
	int listener_fd = g->cell->listener_fd[listener], fd, err;
	const char *why = over_limit(g);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct cman_slot *s;
	uint32_t i;

	if (!why) {
		i = gw_slot_take(g);
		if (i == NO_SLOT)
			why = "max_sessions is reached";
	}
	if (why)
		return refuse_one(g, listener_fd, why);
	s = slot_of(g, i);
	cman_cell_mark(g->env, true);
	CMAN_CRASH(ACCEPT_MARKED);
	fd = accept4(listener_fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	err = errno;
	CMAN_CRASH(ACCEPT_GOT_FD);
	if (fd < 0) {
		cman_cell_mark(g->env, false);
		gw_slot_free(g, i);
		if (err == EMFILE || err == ENFILE || err == ENOMEM || err == ENOBUFS)
			return refuse_one(g, listener_fd, strerror(err));
		return -EAGAIN;
	}
	cman_sockaddr_get(&ss, s->client_addr, &s->client_port);
	gw_adopt(g, i, fd, listener);
	cman_cell_mark(g->env, false);
	g->connecting++;
	g->cell->accepted++;
	gw_count(g, s, 1);
	gw_admit(g, i);
	return 0;
}

void gw_drain(struct gateway *g, uint32_t listener)
{
	while (!accept_one(g, listener))
		;
}

void gw_accept(struct gateway *g, uint32_t listener)
{
	uint32_t n;

	for (n = 0; n < g->accept_budget; n++)
		if (accept_one(g, listener))
			break;
	/* One a wake: a look that finds nothing costs more than it gains. More while the queue proves
	 * to be full; after a look in vain, not again for a while. */
	if (n < g->accept_budget) {
		g->accept_budget = 1;
		g->accept_patience = ACCEPT_PATIENCE;
	} else if (g->accept_patience) {
		g->accept_patience--;
	} else if (g->accept_budget < ACCEPT_MAX) {
		g->accept_budget *= 2;
	}
}
