/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pool of pipes for the splice path. Only clean pipes are in the free list; a pipe that a lost
 * session left dirty is closed. When no pipe can be had the direction goes on with its buffer, so
 * an exhausted pool costs speed and never bytes.
 */
#include "usr/gateway/internal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void forget(struct gateway *g, uint32_t n, bool mark)
{
	struct cman_pipe *p = &g->env->pipes[n];
	int rfd = p->rfd, wfd = p->wfd;

	/* forgotten first: once closed, the numbers may be anybody's */
	if (mark)
		cman_cell_mark(g->env, true);
	p->rfd = 0;
	p->wfd = 0;
	if (rfd > 0)
		close(rfd);
	if (wfd > 0)
		close(wfd);
	if (mark)
		cman_cell_mark(g->env, false);
}

void gw_pipe_destroy(struct gateway *g, uint32_t n)
{
	if (g->env->pipes[n].rfd > 0 && g->cell->pipes_open)
		g->cell->pipes_open--;
	forget(g, n, true);
}

/* An entry with no descriptors. */
static uint32_t empty_entry(struct gateway *g)
{
	for (uint32_t n = 0; n < g->pipe_high; n++)
		if (g->env->pipes[n].rfd == 0)
			return n;
	if (g->pipe_high < CMAN_PIPES_PER_CELL)
		return g->pipe_high++;
	return NO_SLOT;
}

uint32_t gw_pipe_get(struct gateway *g)
{
	struct cman_pipe *p;
	uint32_t n;
	int fds[2];

	if (g->npipe_free)
		return g->pipe_free[--g->npipe_free];
	if (g->cell->pipes_open >= g->pipe_limit)
		return NO_SLOT;
	n = empty_entry(g);
	if (n == NO_SLOT)
		return NO_SLOT;
	cman_cell_mark(g->env, true);
	CMAN_CRASH(PIPE_MARKED);
	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0) {
		cman_cell_mark(g->env, false);
		return NO_SLOT;
	}
	CMAN_CRASH(PIPE_MADE);
	p = &g->env->pipes[n];
	p->wfd = fds[1];
	__atomic_store_n(&p->rfd, fds[0], __ATOMIC_RELEASE);
	CMAN_CRASH(PIPE_STORED);
	cman_cell_mark(g->env, false);
	/* over the user's soft limit the pipe stays small: slower, not wrong */
	if (fcntl(fds[1], F_SETPIPE_SZ, CMAN_PIPE_SIZE) < 0)
		fcntl(fds[1], F_SETPIPE_SZ, CMAN_PIPE_SIZE / 4);
	g->cell->pipes_open++;
	return n;
}

void gw_pipe_put(struct gateway *g, uint32_t n)
{
	g->pipe_free[g->npipe_free++] = n;
}

uint32_t gw_pipe_reserve(struct gateway *g, int32_t tag)
{
	uint32_t n = empty_entry(g);

	if (n != NO_SLOT)
		__atomic_store_n(&g->env->pipes[n].rfd, tag, __ATOMIC_RELEASE);
	return n;
}

void gw_pipes_recover(struct gateway *g)
{
	static uint8_t bound[CMAN_PIPES_PER_CELL];

	for (uint32_t n = 0; n < CMAN_PIPES_PER_CELL; n++)
		bound[n] = 0;
	for (uint32_t i = 0; i < g->high; i++)
		for (int dir = 0; dir < 2; dir++)
			if (g->slots[i].state != CMAN_SLOT_FREE &&
			    (g->slots[i].bound[dir] & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE)
				bound[g->slots[i].bound[dir] & CMAN_BOUND_INDEX] = 1;
	g->npipe_free = 0;
	g->cell->pipes_open = 0;
	for (uint32_t n = 0; n < CMAN_PIPES_PER_CELL; n++) {
		struct cman_pipe *p = &g->env->pipes[n];
		int pending = 0;

		if (!p->rfd && !p->wfd)
			continue;
		g->pipe_high = n + 1;
		if (p->rfd < 0)
			continue; /* the manager's */
		if (bound[n]) {
			g->cell->pipes_open++;
		} else if (p->rfd == 0 || p->wfd <= 0 || ioctl(p->rfd, FIONREAD, &pending) < 0 ||
			   pending) {
			forget(g, n, true);
		} else {
			g->cell->pipes_open++;
			gw_pipe_put(g, n);
		}
		CMAN_CRASH(RECOVER_PIPES);
	}
}
