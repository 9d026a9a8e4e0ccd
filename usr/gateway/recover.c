/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recovery: the only way to start relaying. For each slot, the state says which step may have been
 * interrupted, and the sockets' counters say how many bytes are in between; both together say
 * where to go on. Every step may itself be interrupted and done again. The same code serves a
 * crashed predecessor, a thaw, and sessions that another release handed over.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "usr/gateway/internal.h"
#include "usr/sys/log.h"

#define SCAN_MARGIN 4096 /* descriptors that are no session's: keepers', orphans, an import's */

int gw_counters(const struct cman_slot *s, struct cman_leg legs[2])
{
	int err = cman_sock_counters(s->client_fd, false, &legs[LEG_CLIENT]);

	if (err)
		return err;
	return cman_sock_counters(s->server_fd, !(s->flags & CMAN_SLOT_SERVER_RESTORED),
				  &legs[LEG_SERVER]);
}

static void lost(struct gateway *g, uint32_t i, const char *why, int err)
{
	struct cman_slot *s = slot_of(g, i);

	g->cell->lost++;
	cman_err("a session could not be continued", "session=%016llx service=%s why=\"%s\" err=%d",
		 (unsigned long long)s->id, g->env->maps.services[s->service].name, why, err);
	gw_reset(g, i);
}

/* The sockets count ciphertext; the pipe knows. */
static int ktls_between(struct gateway *g, const struct cman_slot *s, int dir,
			struct cman_between *ret)
{
	uint32_t bound = s->bound[dir];
	int pending = 0;

	if ((bound & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE &&
	    ioctl(g->env->pipes[bound & CMAN_BOUND_INDEX].rfd, FIONREAD, &pending) < 0)
		return -EILSEQ;
	ret->remain = (uint32_t)pending;
	ret->read = s->flow[dir].position + ret->remain;
	return 0;
}

/* One direction: what is bound, what remains of it. 0 or -EILSEQ. */
static int recover_flow(struct gateway *g, uint32_t i, int dir, const struct cman_leg legs[2])
{
	struct cman_slot *s = slot_of(g, i);
	struct live *l = &g->live[i];
	const struct cman_leg *from = &legs[dir == CMAN_UP ? LEG_CLIENT : LEG_SERVER];
	const struct cman_leg *to = &legs[dir == CMAN_UP ? LEG_SERVER : LEG_CLIENT];
	uint32_t bound = s->bound[dir], number = bound & CMAN_BOUND_INDEX;
	bool pipe = (bound & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE;
	struct cman_between between;
	int err = (s->tls & CMAN_SLOT_TLS_KERNEL) ?
			  ktls_between(g, s, dir, &between) :
			  cman_flow_between(&s->flow[dir], bound, from, to, &between);

	if (err)
		return err;
	if (pipe) {
		int pending = 0;

		if (ioctl(g->env->pipes[number].rfd, FIONREAD, &pending) < 0 ||
		    (uint32_t)pending != between.remain)
			return -EILSEQ;
	}
	l->len[dir] = between.remain;
	l->off[dir] = (uint32_t)(between.read - between.remain - s->flow[dir].position);
	if (bound == (CMAN_BOUND_BUFFER | CMAN_HOT_BUFFER) && between.remain)
		gw_keep(g, i, dir);
	if (!between.remain) {
		set_position(s, dir, between.read);
		CMAN_CRASH(RECOVER_POSITION);
		set_bound(s, dir, CMAN_BOUND_NONE);
		if (pipe)
			gw_pipe_put(g, number);
		l->off[dir] = 0;
	}
	return 0;
}

/* What is between is known: poll both legs, which reports what is there: data, room, EOF, errors. */
static void go_on(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	unsigned int out = 0;
	int err;

	if (gw_close_if_ended(g, i))
		return;
	if (s->bound[CMAN_UP])
		out |= 1u << LEG_SERVER;
	if (s->bound[CMAN_DOWN])
		out |= 1u << LEG_CLIENT;
	err = gw_poll_add(g, i, out);
	if (err)
		lost(g, i, "it cannot be polled", err);
}

void gw_recover_slot(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	struct cman_leg legs[2];
	int err;

	CMAN_CRASH(RECOVER_SLOT);
	/* a predecessor may have used the slot's own buffers */
	g->live[i].flags |= LIVE_TOUCHED;
	g->live[i].turns = 0;
	if (s->flags & CMAN_SLOT_RESET) { /* decided already */
		gw_reset(g, i);
		return;
	}
	if (cman_sock_cookie(s->client_fd) != s->client_cookie ||
	    cman_sock_cookie(s->server_fd) != s->server_cookie) {
		/* the number is another's now */
		if (cman_sock_cookie(s->client_fd) != s->client_cookie)
			s->client_fd = 0;
		if (cman_sock_cookie(s->server_fd) != s->server_cookie)
			s->server_fd = 0;
		lost(g, i, "a socket is not the one the ledger names", 0);
		return;
	}
	if ((s->flags & CMAN_SLOT_SPLICED) && (err = gw_splice_recover(g, i))) {
		lost(g, i, "the kernel cannot go on relaying it", err);
		return;
	}
	err = gw_counters(s, legs);
	if (err) {
		lost(g, i, "the counters of a socket cannot be read", err);
		return;
	}
	if (cman_leg_was_reset(&legs[LEG_CLIENT], &legs[LEG_SERVER]) ||
	    cman_leg_was_reset(&legs[LEG_SERVER], &legs[LEG_CLIENT])) {
		gw_reset(g, i);
		return;
	}
	if ((s->tls & CMAN_SLOT_TLS_KERNEL) && (gw_tls_memory(g) || gw_ktls_recover(g, i))) {
		lost(g, i, "its keys are not those of the kernel", 0);
		return;
	}
	for (int dir = 0; dir < 2; dir++) {
		/* the kernel has what is in between */
		if ((s->flags & CMAN_SLOT_SPLICED) && !s->bound[dir])
			continue;
		err = s->tls && !(s->tls & CMAN_SLOT_TLS_KERNEL) ? gw_tls_recover(g, i, dir, legs) :
								   recover_flow(g, i, dir, legs);
		if (!err)
			continue;
		if (legs[0].tcp_state == TCP_CLOSE || legs[1].tcp_state == TCP_CLOSE)
			gw_reset(g, i); /* a peer has reset it meanwhile */
		else
			lost(g, i, "the counters contradict the ledger", err);
		return;
	}
	go_on(g, i);
}

/* As counters(), for a session that may have no server leg yet: then one that never connected. */
static int counters_connecting(const struct cman_slot *s, struct cman_leg legs[2])
{
	int err = cman_sock_counters(s->client_fd, false, &legs[LEG_CLIENT]);

	if (err)
		return err;
	if (s->server_fd > 0 && cman_sock_cookie(s->server_fd) == s->server_cookie)
		return cman_sock_counters(s->server_fd, true, &legs[LEG_SERVER]);
	legs[LEG_SERVER] = (struct cman_leg){ .tcp_state = TCP_CLOSE };
	return 0;
}

void gw_recover_connecting(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	const struct cman_target *t = &g->env->maps.services[s->service].target[s->target];
	struct cman_leg legs[2];
	struct sockaddr_storage ss;
	socklen_t len;
	int err;

	g->connecting++;
	g->live[i].flags |= LIVE_TOUCHED;
	if (cman_sock_cookie(s->client_fd) != s->client_cookie) {
		s->client_fd = 0;
		lost(g, i, "the client's socket is not the one the ledger names", 0);
		return;
	}
	err = counters_connecting(s, legs);
	if (err) {
		lost(g, i, "the counters of a socket cannot be read", err);
		return;
	}
	/* decided already; or the client has reset it; or the server, when it had the early data */
	if ((s->flags & CMAN_SLOT_RESET) ||
	    cman_leg_was_reset(&legs[LEG_CLIENT], &legs[LEG_SERVER]) ||
	    (legs[LEG_SERVER].tcp_state == TCP_CLOSE && legs[LEG_SERVER].acked)) {
		gw_reset(g, i);
		return;
	}
	if (s->tls) {
		gw_tls_restart(g, i, &legs[LEG_CLIENT]);
		return;
	}
	err = recover_flow(g, i, CMAN_UP, legs);
	if (err) {
		lost(g, i, "the counters contradict the ledger", err);
		return;
	}
	/* TCP_CLOSE: connect() failed, or was not called: it may not be bound to its source yet */
	if (s->state == CMAN_SLOT_ACCEPTED || legs[LEG_SERVER].tcp_state == TCP_CLOSE) {
		gw_drop_server(g, i);
		gw_admit(g, i);
		return;
	}
	g->cell->target_sessions[s->service][s->target]++;
	len = cman_sockaddr(&ss, t->family, t->addr, t->port);
	CMAN_CRASH(RECOVER_CONNECT);
	if (!connect(s->server_fd, (struct sockaddr *)&ss, len) || errno == EISCONN) {
		/* the early data may have been written: the counters say so */
		g->connecting--;
		set_state(s, CMAN_SLOT_RELAYING);
		gw_recover_slot(g, i);
	} else if (errno == EALREADY || errno == EINPROGRESS) {
		g->live[i].since_s = g->now_s;
		if (gw_poll_add(g, i, 1u << LEG_SERVER))
			gw_reset(g, i);
	} else {
		gw_attempt_failed(g, i, errno);
	}
}

/* The direction that is bound to the hot buffer goes first: the next pump overwrites it. */
static void recover_hot(struct gateway *g)
{
	const uint32_t hot = CMAN_BOUND_BUFFER | CMAN_HOT_BUFFER;

	for (uint32_t i = 0; i < g->high; i++) {
		struct cman_slot *s = slot_of(g, i);
		struct cman_leg legs[2];

		if (s->bound[CMAN_UP] != hot && s->bound[CMAN_DOWN] != hot)
			continue;
		CMAN_CRASH(RECOVER_HOT);
		if ((s->state == CMAN_SLOT_ACCEPTED || s->state == CMAN_SLOT_CONNECTING) &&
		    !counters_connecting(s, legs))
			recover_flow(g, i, CMAN_UP, legs);
		else if (s->state == CMAN_SLOT_RELAYING && !gw_counters(s, legs))
			for (int dir = 0; dir < 2; dir++)
				if (s->bound[dir] == hot)
					recover_flow(g, i, dir, legs);
	}
}

void gw_recover(struct gateway *g)
{
	uint64_t begin = cman_now_ns();
	uint32_t continued = 0;

	g->high = g->cell->high;
	g->cell->sessions = 0;
	memset(g->cell->service_sessions, 0, sizeof(g->cell->service_sessions));
	memset(g->cell->target_sessions, 0, sizeof(g->cell->target_sessions));
	memset(g->cell->rule_sessions, 0, sizeof(g->cell->rule_sessions));
	gw_pipes_recover(g);
	recover_hot(g);
	for (uint32_t i = 0; i < g->high; i++) {
		const struct cman_slot *s = slot_of(g, i);

		if ((s->state >= CMAN_SLOT_ACCEPTED && s->state <= CMAN_SLOT_LEAVING) ||
		    s->state == CMAN_SLOT_HANDSHAKE)
			gw_count(g, s, 1);
	}
	for (uint32_t i = g->high; i-- > 0;) {
		struct cman_slot *s = slot_of(g, i);

		switch ((enum cman_slot_state)s->state) {
		case CMAN_SLOT_FREE:
			g->live[i].next = g->free_head;
			g->free_head = i;
			break;
		case CMAN_SLOT_CLOSING:
			g->live[i].flags |= LIVE_TOUCHED;
			gw_finish(g, i, false);
			break;
		case CMAN_SLOT_ACCEPTED:
		case CMAN_SLOT_CONNECTING:
		case CMAN_SLOT_HANDSHAKE:
			continued++;
			gw_recover_connecting(g, i);
			break;
		case CMAN_SLOT_RELAYING:
			continued++;
			g->cell->target_sessions[s->service][s->target]++;
			gw_recover_slot(g, i);
			break;
		case CMAN_SLOT_LEAVING:
			g->cell->target_sessions[s->service][s->target]++;
			g->live[i].flags |= LIVE_TOUCHED;
			break;
		case CMAN_SLOT_RESERVED:
		case CMAN_SLOT_PREPARED:
			break;
		}
	}
	CMAN_CRASH(RECOVER_DONE);
	if (!g->cell->replaced[CMAN_GATEWAY])
		return; /* the first gateway of the cell: nothing to report */
	g->cell->recoveries++;
	g->cell->recovered += continued;
	g->cell->recovery_ns = cman_now_ns() - begin;
	cman_notice("a gateway goes on where another one stopped", "sessions=%u duration_us=%llu",
		    continued, (unsigned long long)(g->cell->recovery_ns / 1000));
}

/* The listener that a connected socket came through, by its local address. */
static int listener_of(struct gateway *g, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	uint8_t addr[16], zero[16] = { 0 };
	uint16_t port;
	int family, any = -1;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return -1;
	family = cman_sockaddr_get(&ss, addr, &port);
	if (family < 0)
		return -1;
	for (int n = 0; n < CMAN_MAX_LISTENERS; n++) {
		const struct cman_listener *l = &g->instance->listener[n];
		size_t skip = l->family == AF_INET ? 12 : 0;

		if (!l->used || l->family != family || port < l->port_first || port > l->port_last)
			continue;
		if (!memcmp(l->addr, addr, 16))
			return n;
		if (!memcmp(l->addr + skip, zero, 16 - skip))
			any = n;
	}
	return any;
}

/* Does the ledger have this socket under another number? Then it is a copy, as a keeper makes. */
static bool is_copy(struct gateway *g, uint64_t cookie)
{
	for (uint32_t i = 0; i < g->high; i++) {
		const struct cman_slot *s = slot_of(g, i);

		if (s->state != CMAN_SLOT_FREE &&
		    (s->client_cookie == cookie || s->server_cookie == cookie))
			return true;
	}
	return false;
}

/* Just accepted: connected through a listener, not in the ledger, nothing ever read or written. */
static bool is_young(struct gateway *g, int fd, int *ret_listener,
		     struct sockaddr_storage *ret_peer)
{
	socklen_t len = sizeof(*ret_peer), plen = sizeof(int);
	struct cman_leg leg;
	int protocol = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &plen) || protocol != IPPROTO_TCP ||
	    getpeername(fd, (struct sockaddr *)ret_peer, &len) ||
	    cman_sock_counters(fd, false, &leg) || cman_leg_read(&leg) || cman_leg_written(&leg))
		return false;
	*ret_listener = listener_of(g, fd);
	return *ret_listener >= 0 && !is_copy(g, cman_sock_cookie(fd));
}

/*
 * A descriptor that nothing names: an accept or a socket() that was cut short, or a lost copy. What
 * is adopted stays ACCEPTED until the scan is over: its server leg is not for this scan to find.
 */
static void settle(struct gateway *g, int fd, bool adopt)
{
	struct sockaddr_storage ss;
	struct cman_slot *s;
	uint32_t i;
	int n;

	if (!adopt || !is_young(g, fd, &n, &ss) || (i = gw_slot_take(g)) == NO_SLOT) {
		close(fd);
		return;
	}
	s = slot_of(g, i);
	CMAN_CRASH(RECOVER_ADOPT);
	cman_sockaddr_get(&ss, s->client_addr, &s->client_port);
	gw_adopt(g, i, fd, (uint32_t)n);
	g->connecting++;
	g->cell->accepted++;
	gw_count(g, s, 1);
}

static void know(uint8_t *known, uint32_t limit, int fd)
{
	if (fd > 0 && (uint32_t)fd < limit)
		known[fd] = 1;
}

/* What the other processes that make descriptors have done so far. */
struct makers {
	uint32_t keeper, spare, importing;
};

/* False: one of them is just making some, or has done so since @ret_makers was filled. */
static bool makers_idle(const struct cman_cell *c, struct makers *ret_makers, bool again)
{
	struct makers now = {
		.keeper = __atomic_load_n(&c->marks[CMAN_KEEPER], __ATOMIC_SEQ_CST),
		.spare = __atomic_load_n(&c->marks[CMAN_SPARE], __ATOMIC_SEQ_CST),
		.importing = __atomic_load_n(&c->importing, __ATOMIC_SEQ_CST),
	};

	if ((now.keeper | now.spare) & 1 || now.importing & 0xffff)
		return false;
	if (again)
		return !memcmp(&now, ret_makers, sizeof(now));
	*ret_makers = now;
	return true;
}

static void know_all(struct gateway *g, uint8_t *known, uint32_t limit)
{
	const struct cman_cell *c = g->cell;

	for (uint32_t i = 0; i < g->high; i++) {
		if (slot_of(g, i)->state == CMAN_SLOT_FREE)
			continue;
		know(known, limit, slot_of(g, i)->client_fd);
		know(known, limit, slot_of(g, i)->server_fd);
	}
	for (uint32_t n = 0; n < CMAN_PIPES_PER_CELL; n++) {
		know(known, limit, g->env->pipes[n].rfd);
		know(known, limit, g->env->pipes[n].wfd);
	}
	for (int n = 0; n < CMAN_MAX_LISTENERS; n++)
		know(known, limit, c->listener_fd[n]);
	for (int n = 0; n < CMAN_SPLICE_FDS; n++)
		know(known, limit, g->env->splice_fd[n]);
	know(known, limit, c->buffer_fd);
	know(known, limit, c->secret_fd);
	know(known, limit, c->credentials_fd);
	know(known, limit, c->kick_fd);
	know(known, limit, c->done_fd);
	know(known, limit, c->keeper_fd);
}

/* Is it private to a role? */
static bool owned(const struct cman_cell *c, int fd)
{
	for (int r = 0; r < CMAN_ROLES; r++)
		for (int n = 0; n < CMAN_OWN_FDS; n++)
			if (__atomic_load_n(&c->own_fd[r][n], __ATOMIC_ACQUIRE) == fd)
				return true;
	return false;
}

/*
 * No number is above this: the lowest free one is given out, so it is below all that were ever open
 * at once. (A table may have room for a million.)
 */
static uint32_t numbers_used(const struct gateway *g)
{
	uint64_t n = 2ull * g->high + 2ull * g->pipe_high + CMAN_MAX_LISTENERS + SCAN_MARGIN;

	return n < g->fd_limit ? (uint32_t)n : g->fd_limit;
}

void gw_sweep(struct gateway *g)
{
	struct cman_cell *c = g->cell;
	uint32_t wanted = __atomic_load_n(&c->sweep_wanted, __ATOMIC_ACQUIRE);
	uint32_t limit = numbers_used(g);
	bool adopt = c->died_marked[CMAN_GATEWAY];
	struct makers makers;
	uint8_t *known;
	uint32_t fd;

	if (!makers_idle(c, &makers, false))
		return; /* soon */
	known = calloc(1, limit);
	if (!known)
		return;
	know_all(g, known, limit);
	for (fd = 3; fd < limit; fd++) {
		if (known[fd] || fcntl((int)fd, F_GETFD) < 0 || owned(c, (int)fd))
			continue;
		/* Between these two looks at the makers nobody recorded or closed it: so it belongs to
		 * nobody, and nobody else will close it. */
		if (!makers_idle(c, &makers, true))
			break; /* it may be theirs: again, later */
		settle(g, (int)fd, adopt);
	}
	CMAN_CRASH(RECOVER_SCAN);
	free(known);
	if (fd == limit) {
		memset(c->died_marked, 0, sizeof(c->died_marked));
		c->sweep_done = wanted;
	}
	for (uint32_t i = 0; adopt && i < g->high; i++)
		if (slot_of(g, i)->state == CMAN_SLOT_ACCEPTED &&
		    !g->tls[i]) /* else: its hello is awaited */
			gw_admit(g, i);
}
