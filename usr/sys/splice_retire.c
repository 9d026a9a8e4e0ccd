/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Takes a session back from the kernel without its gateway: for a rescue, which has the sockets and
 * the ledger of a process that hangs or is dead. What gateway/splice.c does event by event is done
 * here in one go, with a time limit.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "usr/sys/cell.h"
#include "usr/sys/sock.h"
#include "usr/sys/splice.h"

#define PAUSE_NS 100000

struct retiring {
	const struct cman_splice *sp;
	struct cman_slot *slot;
	const int *fd;
	uint8_t *buffers;
	const uint32_t *own;
	uint64_t until;
	struct cman_splice_leg entry[2];
	struct cman_leg leg[2];
};

static int look(struct retiring *r)
{
	int err = cman_splice_leg(r->sp, r->slot->client_cookie, &r->entry[0]);

	if (!err)
		err = cman_splice_leg(r->sp, r->slot->server_cookie, &r->entry[1]);
	if (!err)
		err = cman_sock_counters(r->fd[0], false, &r->leg[0]);
	if (!err)
		err = cman_sock_counters(r->fd[1], !(r->slot->flags & CMAN_SLOT_SERVER_RESTORED),
					 &r->leg[1]);
	return err;
}

static uint64_t written(const struct retiring *r, int dir)
{
	return cman_leg_written(&r->leg[!dir]) + (uint64_t)r->slot->flow[dir].write_base;
}

static bool late(const struct retiring *r)
{
	return cman_now_ns() > r->until;
}

/* Until the kernel has written what it redirected. */
static int drain(struct retiring *r, int dir)
{
	for (;;) {
		int err = look(r);

		if (err || written(r, dir) >= r->entry[dir].base + r->entry[dir].redirected)
			return err;
		if (late(r))
			return -EAGAIN;
		nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS }, NULL);
	}
}

static int write_rest(struct retiring *r, int dir)
{
	struct cman_slot *s = r->slot;
	uint32_t bound = s->bound[dir];
	struct cman_between between;
	int err = look(r);

	if (err || !bound)
		return err;
	err = cman_flow_between(&s->flow[dir], bound, &r->leg[dir], &r->leg[!dir], &between);
	while (!err && between.remain) {
		struct pollfd p = { .fd = r->fd[!dir], .events = POLLOUT };
		const uint8_t *from = r->buffers +
				      (size_t)(bound & CMAN_BOUND_INDEX) * CMAN_BUFFER_SIZE;
		ssize_t n = send(r->fd[!dir], from + between.offset, between.remain,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			between.offset += (uint32_t)n;
			between.remain -= (uint32_t)n;
		} else if (errno != EAGAIN) {
			err = -errno;
		} else if (late(r)) {
			err = -EAGAIN;
		} else {
			poll(&p, 1, 1);
		}
	}
	if (err)
		return err;
	s->flow[dir].position = between.read;
	__atomic_store_n(&s->bound[dir], CMAN_BOUND_NONE, __ATOMIC_RELEASE);
	return 0;
}

/* What the program left to user space is relayed to its end, while nothing new comes. */
static int empty(struct retiring *r, int dir)
{
	struct cman_slot *s = r->slot;
	int err = drain(r, dir);

	if (err)
		return err;
	if (s->flow[dir].position < r->entry[dir].base + r->entry[dir].redirected)
		s->flow[dir].position = r->entry[dir].base + r->entry[dir].redirected;
	err = cman_splice_gag(r->sp, r->fd[dir], true);
	while (!err) {
		ssize_t n;

		err = write_rest(r, dir);
		if (err)
			break;
		__atomic_store_n(&s->bound[dir], CMAN_BOUND_BUFFER | r->own[dir], __ATOMIC_RELEASE);
		n = recv(r->fd[dir], r->buffers + (size_t)r->own[dir] * CMAN_BUFFER_SIZE,
			 CMAN_BUFFER_SIZE, MSG_DONTWAIT);
		if (n > 0)
			continue;
		__atomic_store_n(&s->bound[dir], CMAN_BOUND_NONE, __ATOMIC_RELEASE);
		return n == 0 || errno == EAGAIN ? 0 : -errno;
	}
	return err;
}

static bool is_out(const struct retiring *r, int dir)
{
	return r->entry[dir].ended || r->leg[dir].tcp_state == TCP_CLOSE;
}

static int take_out(struct retiring *r)
{
	int err = look(r);

	while (!err && !(is_out(r, CMAN_UP) && is_out(r, CMAN_DOWN))) {
		if (late(r))
			return -EAGAIN;
		for (int dir = 0; dir < 2 && !err; dir++)
			if (r->entry[dir].over && !is_out(r, dir))
				err = empty(r, dir);
		__atomic_or_fetch(&r->slot->flags, CMAN_SLOT_END_CLIENT | CMAN_SLOT_END_SERVER,
				  __ATOMIC_RELEASE);
		if (!err)
			err = cman_splice_end(r->sp);
		if (!err)
			err = look(r);
	}
	for (int dir = 0; dir < 2 && !err; dir++)
		err = drain(r, dir);
	return err;
}

int cman_splice_retire(const struct cman_splice *sp, struct cman_slot *slot, const int fds[2],
		       uint8_t *buffers, const uint32_t own[2], uint32_t limit_ms)
{
	const uint64_t cookies[2] = { slot->client_cookie, slot->server_cookie };
	struct cman_between between;
	struct retiring r = {
		.sp = sp,
		.slot = slot,
		.fd = fds,
		.buffers = buffers,
		.own = own,
		.until = cman_now_ns() + limit_ms * 1000000ull,
	};
	int err;

	for (int leg = 0; leg < 2; leg++) {
		cman_splice_gag(sp, fds[leg], false);
		cman_splice_kick(fds[leg]);
	}
	err = take_out(&r);
	if (err == -ENOENT) /* it had just begun to enter, or had all but left */
		err = 0;
	if (!err)
		err = cman_splice_forget(sp, cookies);
	for (int leg = 0; leg < 2; leg++)
		cman_splice_gag(sp, fds[leg], false);
	if (err)
		return err;
	err = cman_sock_counters(fds[0], false, &r.leg[0]);
	if (!err)
		err = cman_sock_counters(fds[1], !(slot->flags & CMAN_SLOT_SERVER_RESTORED),
					 &r.leg[1]);
	for (int dir = 0; dir < 2 && !err; dir++) {
		err = cman_flow_between(&slot->flow[dir], CMAN_BOUND_NONE, &r.leg[dir],
					&r.leg[!dir], &between);
		if (!err)
			slot->flow[dir].position = between.read;
	}
	if (!err)
		__atomic_and_fetch(&slot->flags,
				   (__u8) ~(CMAN_SLOT_SPLICED | CMAN_SLOT_END_CLIENT |
					    CMAN_SLOT_END_SERVER),
				   __ATOMIC_RELEASE);
	return err;
}
