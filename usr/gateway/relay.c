/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving bytes. One pump of one direction: read a piece, write it, until nothing comes, the other
 * side does not take more, or the budget is used up. The order of the ledger's stores is what
 * makes a SIGKILL harmless (see Documentation/architecture.rst):
 *
 *	bind the buffer or pipe -> read into it -> write out of it -> advance the position -> unbind
 *
 * A piece that the other leg does not take at once moves from the hot buffer to the slot's own
 * (copy, then one store that rebinds). A full buffer switches the direction to splice through a
 * pipe; a small splice switches it back.
 */
#include "usr/gateway/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define ROUNDS	     8		   /* pieces a turn, so that no session starves another, */
#define TURN_BYTES   (1024 * 1024) /* and bytes */
#define SPLICE_SMALL (32 * 1024)   /* a splice of less goes back to the buffer */

void gw_keep(struct gateway *g, uint32_t i, int dir)
{
	struct cman_slot *s = slot_of(g, i);
	struct live *l = &g->live[i];
	uint32_t own = CMAN_SLOT_BUFFER(i, (unsigned int)dir);

	if (s->bound[dir] != (CMAN_BOUND_BUFFER | CMAN_HOT_BUFFER))
		return;
	CMAN_CRASH(RELAY_PARTIAL);
	l->flags |= LIVE_TOUCHED;
	memcpy(buffer_at(g, own) + l->off[dir], buffer_at(g, CMAN_HOT_BUFFER) + l->off[dir],
	       l->len[dir]);
	CMAN_CRASH(RELAY_COPIED);
	set_bound(s, dir, CMAN_BOUND_BUFFER | own);
	CMAN_CRASH(RELAY_MOVED);
}

int gw_write_bound(struct gateway *g, uint32_t i, int dir)
{
	struct cman_slot *s = slot_of(g, i);
	struct live *l = &g->live[i];
	uint32_t bound = s->bound[dir], number = bound & CMAN_BOUND_INDEX;
	bool pipe = (bound & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE;
	enum leg to = dir == CMAN_UP ? LEG_SERVER : LEG_CLIENT;
	int fd = leg_fd(s, to);

	/* the client leg has it from the listener; here the first write needs none */
	if (dir == CMAN_UP && !(l->flags & LIVE_NODELAY) &&
	    (s->flow[dir].position || l->off[dir])) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		l->flags |= LIVE_NODELAY;
	}
	while (l->len[dir]) {
		ssize_t n;

		if (pipe)
			n = splice(g->env->pipes[number].rfd, NULL, fd, NULL, l->len[dir],
				   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		else
			n = send(fd, buffer_at(g, number) + l->off[dir], l->len[dir],
				 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				return -errno;
			gw_keep(g, i, dir);
			return -EAGAIN;
		}
		if (n == 0)
			return -EPIPE; /* a pipe that holds less than the ledger says */
		l->off[dir] += (uint32_t)n;
		l->len[dir] -= (uint32_t)n;
		if (pipe)
			CMAN_CRASH(SPLICE_OUT);
		else if (number == CMAN_HOT_BUFFER)
			CMAN_CRASH(RELAY_SENT);
		else
			CMAN_CRASH(RELAY_REST_SENT);
	}
	set_position(s, dir, s->flow[dir].position + l->off[dir]);
	if (pipe)
		CMAN_CRASH(SPLICE_POSITION);
	else
		CMAN_CRASH(RELAY_POSITION);
	set_bound(s, dir, CMAN_BOUND_NONE);
	if (pipe) {
		CMAN_CRASH(SPLICE_UNBOUND);
		gw_pipe_put(g, number);
	} else {
		CMAN_CRASH(RELAY_UNBOUND);
	}
	g->cell->bytes[dir] += l->off[dir];
	l->off[dir] = 0;
	return 0;
}

/*
 * Bytes read and bound; 0 is EOF; -EAGAIN: nothing there. Unbinds when nothing was read. *ret_more:
 * there may be more, which gives no further edge.
 */
static ssize_t read_bound(struct gateway *g, uint32_t i, int dir, bool *ret_more)
{
	struct cman_slot *s = slot_of(g, i);
	struct live *l = &g->live[i];
	int fd = leg_fd(s, dir == CMAN_UP ? LEG_CLIENT : LEG_SERVER);
	uint32_t pipe = NO_SLOT;
	ssize_t n;

	if (l->flags & LIVE_SPLICE(dir))
		pipe = gw_pipe_get(g);
	if (pipe != NO_SLOT) {
		set_bound(s, dir, CMAN_BOUND_PIPE | pipe);
		CMAN_CRASH(SPLICE_BOUND);
		do
			n = splice(fd, NULL, g->env->pipes[pipe].wfd, NULL, CMAN_PIPE_SIZE,
				   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		while (n < 0 && errno == EINTR);
		CMAN_CRASH(SPLICE_IN);
		if (n < SPLICE_SMALL)
			l->flags &= (uint8_t)~LIVE_SPLICE(dir);
		*ret_more = true; /* the pipe may have been full: small pieces use up its slots */
	} else {
		set_bound(s, dir, CMAN_BOUND_BUFFER | CMAN_HOT_BUFFER);
		CMAN_CRASH(RELAY_BOUND);
		do
			n = recv(fd, buffer_at(g, CMAN_HOT_BUFFER), CMAN_BUFFER_SIZE, MSG_DONTWAIT);
		while (n < 0 && errno == EINTR);
		CMAN_CRASH(RELAY_READ);
		*ret_more = n == CMAN_BUFFER_SIZE;
		/* splice() does not see what a sockmap keeps */
		if (*ret_more && !(s->flags & CMAN_SLOT_SPLICED))
			l->flags |= (uint8_t)LIVE_SPLICE(dir);
	}
	if (n <= 0) {
		n = n < 0 ? -errno : 0;
		set_bound(s, dir, CMAN_BOUND_NONE);
		if (pipe != NO_SLOT)
			gw_pipe_put(g, pipe);
		return n;
	}
	l->off[dir] = 0;
	l->len[dir] = (uint32_t)n;
	return n;
}

void gw_pump(struct gateway *g, uint32_t i, int dir, bool greedy)
{
	struct cman_slot *s = slot_of(g, i);
	enum leg to = dir == CMAN_UP ? LEG_SERVER : LEG_CLIENT;
	uint8_t eof = dir == CMAN_UP ? CMAN_EOF_UP : CMAN_EOF_DOWN;
	ssize_t moved = 0;

	if (s->tls & CMAN_SLOT_TLS_KERNEL) {
		gw_ktls_pump(g, i, dir);
		return;
	}
	if (s->tls) {
		gw_tls_pump(g, i, dir, greedy);
		return;
	}
	if (s->active_s != g->now_s)
		s->active_s = g->now_s;
	for (int round = 0; round < ROUNDS && moved < TURN_BYTES; round++) {
		bool more;
		ssize_t n;
		int err;

		if (s->bound[dir]) {
			err = gw_write_bound(g, i, dir);
			if (err == -EAGAIN) {
				gw_wait_out(g, i, to);
				return;
			}
			if (err) {
				gw_reset(g, i);
				return;
			}
			greedy = true; /* what came meanwhile gave its edge already */
		}
		if (s->eof & eof) {
			gw_close_if_ended(g, i);
			return;
		}
		n = read_bound(g, i, dir, &more);
		if (n == -EAGAIN)
			return;
		if (n < 0) {
			gw_reset(g, i);
			return;
		}
		if (n == 0) {
			CMAN_CRASH(EOF_READ);
			/* the second EOF ends both: closing sends the FIN */
			if (!((s->eof | eof) == (CMAN_EOF_UP | CMAN_EOF_DOWN) && !s->bound[!dir]) &&
			    shutdown(leg_fd(s, to), SHUT_WR) < 0 && errno != ENOTCONN) {
				gw_reset(g, i);
				return;
			}
			CMAN_CRASH(EOF_SHUTDOWN);
			s->eof |= eof;
			CMAN_CRASH(EOF_STORED);
			gw_close_if_ended(g, i);
			return;
		}
		err = gw_write_bound(g, i, dir);
		if (err == -EAGAIN) {
			gw_wait_out(g, i, to);
			return;
		}
		if (err) {
			gw_reset(g, i);
			return;
		}
		if (!greedy && !more)
			return;
	}
	gw_queue(g, i, 1u << dir);
}
