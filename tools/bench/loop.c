// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The event loop of one worker: epoll for descriptors, a binary heap for timers.
 *
 * Deadlines within 20 ms are the timeout of epoll_pwait2 (nanoseconds); those further away sit
 * in one timerfd that is set only when the earliest one changes, so that a busy closed loop pays
 * nothing for its end of run. Timers run after the events of a round, and memory of closed
 * descriptors is freed after both: a stale event never reaches a descriptor that took its place.
 *
 * A loop that comes long after its first deadline was busy or was not let run: the machine, or this
 * process, stood still. Nobody else is to blame for that time, so patient timers do not count it.
 */
#include "bench.h"

#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define FAR_NS	     (20 * NSEC_PER_MSEC)
#define ROUND_EVENTS 256
#define STOOD_NS     (200 * NSEC_PER_MSEC) /* what a busy machine delays us by is less */

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void far_fired(struct loop *l, struct io *io, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(io->fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		complain("timerfd: %m");
	l->far_due = 0;
}

int loop_init(struct loop *l)
{
	int err;

	*l = (struct loop){ .epfd = -1, .far = { .fd = -1, .fn = far_fired } };
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0)
		return -errno;
	l->far.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	err = l->far.fd < 0 ? -errno : loop_add(l, &l->far, EPOLLIN);
	if (err)
		loop_fini(l);
	else
		l->now = now_ns();
	return err;
}

static void reap(struct loop *l)
{
	while (l->dead) {
		struct io *io = l->dead;

		l->dead = io->next_dead;
		free(io);
	}
}

void loop_fini(struct loop *l)
{
	reap(l);
	if (l->far.fd >= 0)
		close(l->far.fd);
	if (l->epfd >= 0)
		close(l->epfd);
	free(l->heap);
	*l = (struct loop){ .epfd = -1, .far = { .fd = -1 } };
}

int loop_add(struct loop *l, struct io *io, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = io };

	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, io->fd, &ev) < 0)
		return -errno;
	io->events = events;
	return 0;
}

int loop_mod(struct loop *l, struct io *io, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = io };

	if (io->events == events)
		return 0;
	if (epoll_ctl(l->epfd, EPOLL_CTL_MOD, io->fd, &ev) < 0)
		return -errno;
	io->events = events;
	return 0;
}

/* The kernel takes the last reference of a descriptor out of the epoll set by itself. */
void loop_close(struct loop *l, struct io *io)
{
	(void)l;
	if (io->fd < 0)
		return;
	close(io->fd);
	io->fd = -1;
}

/* The io must be the first member of a malloc'ed structure. */
void loop_free_later(struct loop *l, struct io *io)
{
	io->next_dead = l->dead;
	l->dead = io;
}

static void heap_set(struct loop *l, size_t i, struct timer *t)
{
	l->heap[i] = t;
	t->pos = i + 1;
}

static void heap_up(struct loop *l, size_t i)
{
	struct timer *t = l->heap[i];

	while (i && l->heap[(i - 1) / 2]->due > t->due) {
		heap_set(l, i, l->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_set(l, i, t);
}

static void heap_down(struct loop *l, size_t i)
{
	struct timer *t = l->heap[i];
	size_t child;

	while ((child = 2 * i + 1) < l->nr_timers) {
		if (child + 1 < l->nr_timers && l->heap[child + 1]->due < l->heap[child]->due)
			child++;
		if (l->heap[child]->due >= t->due)
			break;
		heap_set(l, i, l->heap[child]);
		i = child;
	}
	heap_set(l, i, t);
}

static int arm(struct loop *l, struct timer *t, uint64_t due)
{
	uint64_t old = t->due;

	t->due = due;
	if (t->pos) {
		if (due < old)
			heap_up(l, t->pos - 1);
		else
			heap_down(l, t->pos - 1);
		return 0;
	}
	if (l->nr_timers == l->cap_timers) {
		size_t cap = l->cap_timers ? 2 * l->cap_timers : 64;
		struct timer **heap = realloc(l->heap, cap * sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		l->heap = heap;
		l->cap_timers = cap;
	}
	l->heap[l->nr_timers] = t;
	heap_up(l, l->nr_timers++);
	return 0;
}

int timer_arm(struct loop *l, struct timer *t, uint64_t due)
{
	t->patient = false;
	return arm(l, t, due);
}

int timer_arm_patient(struct loop *l, struct timer *t, uint64_t wait)
{
	t->patient = true;
	t->stood = l->stood;
	return arm(l, t, l->now + wait);
}

void timer_cancel(struct loop *l, struct timer *t)
{
	size_t i = t->pos;
	struct timer *last;

	if (!i)
		return;
	t->pos = 0;
	last = l->heap[--l->nr_timers];
	if (last == t)
		return;
	heap_set(l, i - 1, last);
	heap_up(l, i - 1);
	heap_down(l, last->pos - 1);
}

static int wait_far(struct loop *l, struct epoll_event *ev, uint64_t due)
{
	if (!l->far_due || l->far_due > due) {
		struct itimerspec its = {
			.it_value.tv_sec = (time_t)(due / NSEC_PER_SEC),
			.it_value.tv_nsec = (long)(due % NSEC_PER_SEC),
		};

		if (timerfd_settime(l->far.fd, TFD_TIMER_ABSTIME, &its, NULL) < 0)
			return -1;
		l->far_due = due;
	}
	return epoll_wait(l->epfd, ev, ROUND_EVENTS, -1);
}

static int wait_near(struct loop *l, struct epoll_event *ev, uint64_t due)
{
	static atomic_bool coarse; /* a kernel before 5.11 */
	uint64_t now = now_ns(), left = due > now ? due - now : 0;
	struct timespec ts = {
		.tv_sec = (time_t)(left / NSEC_PER_SEC),
		.tv_nsec = (long)(left % NSEC_PER_SEC),
	};
	int n;

	if (!left)
		return epoll_wait(l->epfd, ev, ROUND_EVENTS, 0);
	if (!atomic_load_explicit(&coarse, memory_order_relaxed)) {
		n = epoll_pwait2(l->epfd, ev, ROUND_EVENTS, &ts, NULL);
		if (n >= 0 || errno != ENOSYS)
			return n;
		atomic_store(&coarse, true);
	}
	return epoll_wait(l->epfd, ev, ROUND_EVENTS, (int)(left / NSEC_PER_MSEC) + 1);
}

static int wait_events(struct loop *l, struct epoll_event *ev)
{
	uint64_t due;

	if (!l->nr_timers)
		return epoll_wait(l->epfd, ev, ROUND_EVENTS, -1);
	due = l->heap[0]->due;
	if (due > l->now + FAR_NS)
		return wait_far(l, ev, due);
	return wait_near(l, ev, due);
}

static void run_timers(struct loop *l)
{
	uint64_t now = l->now;

	while (l->nr_timers && l->heap[0]->due <= now) {
		struct timer *t = l->heap[0];

		if (t->patient && t->stood != l->stood) {
			uint64_t due = t->due + l->stood - t->stood;

			t->stood = l->stood;
			arm(l, t, due);
			continue;
		}
		timer_cancel(l, t);
		t->fn(l, t);
	}
}

/* The time is @now: it should have been that of the first deadline, or of @was when that had passed. */
static void look_at_clock(struct loop *l, uint64_t now)
{
	uint64_t was = l->now, due = l->nr_timers ? l->heap[0]->due : now;

	if (due < was)
		due = was;
	if (now > due + STOOD_NS)
		l->stood += now - due;
	l->now = now;
}

int loop_run(struct loop *l)
{
	struct epoll_event ev[ROUND_EVENTS];
	int i, n;

	l->now = now_ns();
	while (!l->quit) {
		n = wait_events(l, ev);
		if (n < 0 && errno != EINTR)
			return -errno;
		look_at_clock(l, now_ns());
		for (i = 0; i < n; i++) {
			struct io *io = ev[i].data.ptr;

			if (io->fd >= 0)
				io->fn(l, io, ev[i].events);
		}
		run_timers(l);
		reap(l);
	}
	return 0;
}
