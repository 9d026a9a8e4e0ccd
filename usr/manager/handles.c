/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libuv handles with a simple life: made on the heap, ended by one call after which the descriptor
 * may be closed at once. The memory is given back when libuv is done with it.
 */
#include <stdlib.h>

#include "usr/manager/manager.h"

/* libuv 1.44 takes a descriptor out of epoll and adds it again even for the same events */
struct polled {
	uv_poll_t handle;
	int events;
};

static void released(uv_handle_t *h)
{
	free(h);
}

uv_poll_t *poll_begin(struct manager *m, int fd, int events, uv_poll_cb cb, void *data)
{
	uv_poll_t *p = calloc(1, sizeof(struct polled));

	if (!p || uv_poll_init(&m->loop, p, fd)) {
		free(p);
		return NULL;
	}
	p->data = data;
	((struct polled *)p)->events = events;
	uv_poll_start(p, events, cb);
	return p;
}

void poll_change(uv_poll_t *p, int events)
{
	if (!p || ((struct polled *)p)->events == events)
		return;
	((struct polled *)p)->events = events;
	uv_poll_start(p, events, p->poll_cb);
}

void poll_end(uv_poll_t **p)
{
	if (!*p)
		return;
	uv_poll_stop(*p);
	uv_close((uv_handle_t *)*p, released);
	*p = NULL;
}

uv_timer_t *timer_begin(struct manager *m, uv_timer_cb cb, uint64_t after_ms, uint64_t repeat_ms,
			void *data)
{
	uv_timer_t *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	uv_timer_init(&m->loop, t);
	t->data = data;
	uv_timer_start(t, cb, after_ms, repeat_ms);
	return t;
}

void timer_end(uv_timer_t **t)
{
	if (!*t)
		return;
	uv_timer_stop(*t);
	uv_close((uv_handle_t *)*t, released);
	*t = NULL;
}
