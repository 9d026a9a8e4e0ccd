/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ending a session. The state CLOSING is stored first; then every step can be repeated by a
 * successor: it closes a leg only if the cookie says that the number still means that socket.
 */
#include "usr/gateway/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* @sure: this process has had the leg all along; a successor asks the cookie first. */
static void close_leg(struct cman_slot *s, int fd, uint64_t cookie, bool sure)
{
	if (fd <= 0 || (!sure && cman_sock_cookie(fd) != cookie))
		return;
	if (s->flags & CMAN_SLOT_RESET)
		cman_sock_abort(fd);
	else
		close(fd);
}

void gw_finish(struct gateway *g, uint32_t i, bool sure)
{
	struct cman_slot *s = slot_of(g, i);
	struct live *l = &g->live[i];

	for (int dir = 0; dir < 2; dir++) {
		uint32_t bound = s->bound[dir];

		set_bound(s, dir, CMAN_BOUND_NONE);
		/* whatever a lost session left in it must not reach the next one */
		if ((bound & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE)
			gw_pipe_destroy(g, bound & CMAN_BOUND_INDEX);
		CMAN_CRASH(CLOSE_PIPE);
	}
	if (s->flags & CMAN_SLOT_SPLICED)
		gw_splice_forget(g, i, sure);
	if (s->tls)
		gw_tls_forget(g, i);
	if (l->flags & LIVE_TOUCHED)
		fallocate(g->cell->buffer_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)CMAN_SLOT_BUFFER(i, 0) * CMAN_BUFFER_SIZE, 2 * CMAN_BUFFER_SIZE);
	close_leg(s, s->client_fd, s->client_cookie, sure);
	CMAN_CRASH(CLOSE_CLIENT);
	s->client_fd = 0;
	CMAN_CRASH(CLOSE_CLIENT_STORED);
	close_leg(s, s->server_fd, s->server_cookie, sure);
	CMAN_CRASH(CLOSE_SERVER);
	s->server_fd = 0;
	CMAN_CRASH(CLOSE_SERVER_STORED);
	gw_slot_free(g, i);
	CMAN_CRASH(CLOSE_FREE);
}

static void end(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	if (s->state == CMAN_SLOT_ACCEPTED || s->state == CMAN_SLOT_CONNECTING ||
	    s->state == CMAN_SLOT_HANDSHAKE)
		g->connecting--;
	gw_count(g, s, -1);
	set_state(s, CMAN_SLOT_CLOSING);
	CMAN_CRASH(CLOSE_STATE);
	g->cell->closed++;
	gw_finish(g, i, true);
}

void gw_close(struct gateway *g, uint32_t i)
{
	end(g, i);
}

void gw_reset(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	s->flags |= CMAN_SLOT_RESET;
	g->cell->resets++;
	end(g, i);
}

bool gw_close_if_ended(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	/* without TLS what is still to be written is bound, too */
	if (s->eof != (CMAN_EOF_UP | CMAN_EOF_DOWN) || s->bound[0] || s->bound[1] ||
	    g->live[i].len[0] || g->live[i].len[1])
		return false;
	gw_close(g, i);
	return true;
}
