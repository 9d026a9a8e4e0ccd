// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One short connection: connect, send a request that no other connection sends, verify its echo,
 * close.
 *
 * connrate runs them in a closed loop, probe starts them at a fixed rate. The owner sets id, w
 * and done, and t_start when the exchange was due; done() is called exactly once, with the
 * socket closed, and may start the same exchange again. Registered once and edge-triggered:
 * send() itself tells how the connect went.
 */
#include "bench.h"

#include <unistd.h>

static void finish(struct exchange *x, enum fail result)
{
	timer_cancel(&x->w->loop, &x->timer);
	if (x->conn.io.fd >= 0 && (result || x->w->opt->close == CLOSE_RST))
		transport_reset(&x->conn);
	transport_close(&x->conn, &x->w->loop);
	x->done(x, result);
}

static void timed_out(struct loop *l, struct timer *t)
{
	struct exchange *x = container_of(t, struct exchange, timer);

	(void)l;
	finish(x, FAIL_TIMEOUT);
}

/* 0: go on waiting */
static enum fail send_request(struct exchange *x, bool *ret_sent)
{
	struct worker *w = x->w;
	uint64_t size = w->opt->size;
	size_t len;
	ssize_t n;

	while (x->sent < size) {
		len = size - x->sent < SCRATCH_BYTES ? (size_t)(size - x->sent) : SCRATCH_BYTES;
		pattern_fill(x->seed, x->sent, w->scratch, len);
		n = transport_write(&x->conn, w->scratch, len);
		if (n < 0 && errno == EAGAIN)
			return FAIL_NONE;
		if (n < 0)
			return fail_of_errno(errno);
		*ret_sent = true;
		x->sent += (uint64_t)n;
	}
	return FAIL_NONE;
}

/* With `to_end` the peer's end is there already and its edge has been seen: read until it shows. */
static enum fail read_echo(struct exchange *x, bool to_end, bool *ret_eof)
{
	struct worker *w = x->w;
	uint64_t wrong;
	size_t first;
	ssize_t n;

	do {
		n = transport_read(&x->conn, w->scratch, SCRATCH_BYTES, 0);
		if (n < 0 && errno == EAGAIN)
			return FAIL_NONE;
		if (n < 0)
			return fail_of_errno(errno);
		if (!n) {
			*ret_eof = true;
			return FAIL_NONE;
		}
		if (x->got + (uint64_t)n > x->sent)
			wrong = (uint64_t)n;
		else
			wrong = pattern_check(x->seed, x->got, w->scratch, (size_t)n, &first);
		if (wrong) {
			tally_add(&w->tally.wrong, wrong);
			return FAIL_WRONG;
		}
		x->got += (uint64_t)n;
		/* The rest is not there yet, and another event will tell. */
	} while (x->got < w->opt->size && (to_end || (size_t)n == SCRATCH_BYTES));
	return FAIL_NONE;
}

/* The echo is complete. Says whether the exchange is over. */
static bool begin_close(struct exchange *x)
{
	x->t_verified = x->w->loop.now;
	if (x->w->opt->close != CLOSE_WAIT)
		return true;
	x->closing = true;
	return transport_shutdown(&x->conn) < 0;
}

static void exchange_event(struct loop *l, struct io *io, uint32_t events)
{
	struct exchange *x = container_of(io, struct exchange, conn.io);
	bool eof = false, sent = false;
	enum fail f = FAIL_NONE;

	if (x->sent < x->w->opt->size && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
		f = send_request(x, &sent);
	if (f) {
		finish(x, f);
		return;
	}
	if (sent && !x->connected) {
		x->connected = true;
		x->t_connected = l->now;
		tally_add(&x->w->tally.opened, 1);
		timer_arm_patient(l, &x->timer, x->w->opt->timeout);
	}
	if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP)))
		return;
	f = read_echo(x, events & EPOLLRDHUP, &eof);
	if (!f && x->got == x->w->opt->size && !x->closing) {
		if (begin_close(x)) {
			finish(x, FAIL_NONE);
			return;
		}
		/* The peer's end may be there already, and its edge has been seen. */
		if (!eof)
			f = read_echo(x, false, &eof);
	}
	if (f)
		finish(x, f);
	else if (eof)
		finish(x, x->closing ? FAIL_NONE : FAIL_EOF);
}

void exchange_start(struct exchange *x)
{
	struct worker *w = x->w;
	int err;

	x->conn.io = (struct io){ .fd = -1, .fn = exchange_event };
	x->timer.fn = timed_out;
	x->seed = pattern_seed(w->opt->seed, x->id, 0);
	x->sent = x->got = x->t_connected = x->t_verified = 0;
	x->connected = x->closing = false;
	err = transport_connect(&x->conn, w, &w->opt->connect, x->id, 0,
				EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	if (!err)
		err = timer_arm_patient(&w->loop, &x->timer, w->opt->connect_timeout);
	if (err)
		finish(x, fail_of_errno(err));
}

/* The run was cut short: close without calling done(). */
void exchange_abort(struct exchange *x)
{
	timer_cancel(&x->w->loop, &x->timer);
	if (x->conn.io.fd >= 0)
		transport_reset(&x->conn);
	transport_close(&x->conn, &x->w->loop);
}
