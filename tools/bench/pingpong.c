// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cman-bench pingpong: request and response in a closed loop.
 *
 * Each session sends a request of a pattern and waits for its whole echo, verified, before the
 * next. One clock reading a round: the end of a round trip is the start of the next. Latencies,
 * operations and the longest gap of a session count within the run only; a session that is lost
 * always counts.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ping {
	struct transport conn;
	struct timer guard; /* of the connect */
	struct ping_worker *pw;
	uint64_t id, seed;
	uint64_t base;	    /* position of this request in the stream */
	uint64_t sent, got; /* of this request */
	uint64_t t_sent;
	uint64_t gap_max;
	bool open, settled, ended;
};

struct ping_worker {
	struct worker w;
	struct ping *v;
	uint64_t nr, ended;
};

static void ping_end(struct ping *p)
{
	struct ping_worker *pw = p->pw;

	if (p->ended)
		return;
	p->ended = true;
	timer_cancel(&pw->w.loop, &p->guard);
	transport_close(&p->conn, &pw->w.loop);
	if (!p->settled) {
		p->settled = true;
		crew_settled(&pw->w);
	}
	if (++pw->ended == pw->nr)
		crew_worker_done(&pw->w);
}

static void ping_lost(struct ping *p, enum fail why)
{
	struct tally *t = &p->pw->w.tally;

	tally_add(&t->fails[why], 1);
	tally_add(p->open ? &t->lost : &t->connect_failed, 1);
	crew_incident(&p->pw->w, p->id, why, "%s at byte %llu",
		      p->open ? "waiting for the echo" : "connecting",
		      (unsigned long long)(p->base + p->got));
	ping_end(p);
}

static void ping_send(struct ping *p)
{
	struct worker *w = &p->pw->w;
	uint64_t size = w->opt->size;
	size_t len;
	ssize_t n;

	while (p->sent < size) {
		len = size - p->sent < SCRATCH_BYTES ? (size_t)(size - p->sent) : SCRATCH_BYTES;
		pattern_fill(p->seed, p->base + p->sent, w->scratch, len);
		n = transport_write(&p->conn, w->scratch, len);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			ping_lost(p, fail_of_errno(errno));
			return;
		}
		p->sent += (uint64_t)n;
	}
	transport_want(&p->conn, &w->loop, p->sent < size ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void ping_begin(struct ping *p, uint64_t now)
{
	p->sent = p->got = 0;
	p->t_sent = now;
	ping_send(p);
}

/* A whole echo is back. */
static void ping_verified(struct ping *p)
{
	struct worker *w = &p->pw->w;
	uint64_t now = now_ns(), took = now - p->t_sent;

	p->base += w->opt->size;
	tally_add(&w->tally.sent, w->opt->size);
	tally_add(&w->tally.verified, w->opt->size);
	if (w->phase == PHASE_RUN) {
		tally_add(&w->tally.ops, 1);
		hist_add(&w->latency, took);
		if (took > p->gap_max)
			p->gap_max = took;
	}
	if (!p->settled) {
		p->settled = true;
		crew_settled(w);
	}
	if (w->phase < PHASE_STOP) {
		ping_begin(p, now);
		return;
	}
	tally_add(&w->tally.completed, 1);
	ping_end(p);
}

static void ping_receive(struct ping *p)
{
	struct worker *w = &p->pw->w;
	uint64_t left = p->sent - p->got, wrong;
	size_t first;
	ssize_t n;

	n = transport_read(&p->conn, w->scratch, SCRATCH_BYTES, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		ping_lost(p, n ? fail_of_errno(errno) : FAIL_EOF);
		return;
	}
	if ((uint64_t)n > left)
		wrong = (uint64_t)n - left;
	else
		wrong = pattern_check(p->seed, p->base + p->got, w->scratch, (size_t)n, &first);
	if (wrong) {
		tally_add(&w->tally.wrong, wrong);
		ping_lost(p, FAIL_WRONG);
		return;
	}
	p->got += (uint64_t)n;
	if (p->got == w->opt->size)
		ping_verified(p);
}

static void ping_event(struct loop *l, struct io *io, uint32_t events)
{
	struct ping *p = container_of(io, struct ping, conn.io);
	int err;

	if (!p->open) {
		err = transport_error(&p->conn);
		if (err) {
			ping_lost(p, fail_of_errno(err));
			return;
		}
		p->open = true;
		tally_add(&p->pw->w.tally.opened, 1);
		timer_cancel(l, &p->guard);
		ping_begin(p, now_ns());
		return;
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		ping_receive(p);
	else if (events & EPOLLOUT)
		ping_send(p);
}

static void connect_timed_out(struct loop *l, struct timer *t)
{
	(void)l;
	ping_lost(container_of(t, struct ping, guard), FAIL_TIMEOUT);
}

static int ping_start(struct worker *w)
{
	struct ping_worker *pw = container_of(w, struct ping_worker, w);
	uint64_t first, i;
	int err;

	crew_share(w, w->crew->total, &first, &pw->nr);
	pw->v = calloc(pw->nr ? pw->nr : 1, sizeof(*pw->v));
	if (!pw->v)
		return -ENOMEM;
	for (i = 0; i < pw->nr; i++) {
		struct ping *p = &pw->v[i];

		p->pw = pw;
		p->id = first + i;
		p->seed = pattern_seed(w->opt->seed, p->id, 0);
		p->conn.io = (struct io){ .fd = -1, .fn = ping_event };
		p->guard.fn = connect_timed_out;
		err = transport_connect(&p->conn, w, &w->opt->connect, p->id, 0, EPOLLOUT);
		if (!err)
			err = timer_arm_patient(&w->loop, &p->guard, w->opt->connect_timeout);
		if (err)
			ping_lost(p, fail_of_errno(err));
	}
	if (!pw->nr)
		crew_worker_done(w);
	return 0;
}

static void ping_phase(struct worker *w, enum phase phase)
{
	struct ping_worker *pw = container_of(w, struct ping_worker, w);
	uint64_t i;

	for (i = 0; i < pw->nr; i++) {
		struct ping *p = &pw->v[i];

		if (p->ended)
			continue;
		if (phase == PHASE_ABORT)
			ping_lost(p, FAIL_TIMEOUT);
		else if (phase == PHASE_STOP && !p->open)
			ping_end(p);
	}
}

static void ping_progress(struct crew *c, char *buf, size_t len)
{
	struct tally t = crew_tally(c);

	snprintf(buf, len, "alive %llu/%llu operations %llu lost %llu",
		 (unsigned long long)(t.opened - t.lost - t.completed),
		 (unsigned long long)c->total, (unsigned long long)t.ops,
		 (unsigned long long)(t.lost + t.connect_failed));
}

static void ping_fini(struct worker *w)
{
	free(container_of(w, struct ping_worker, w)->v);
}

static const struct crew_ops ping_ops = {
	.worker_size = sizeof(struct ping_worker),
	.start = ping_start,
	.phase = ping_phase,
	.progress = ping_progress,
	.fini = ping_fini,
};

static void report_gaps(json_t *o, const struct crew *c, struct hist *h)
{
	unsigned int i;
	uint64_t k;

	memset(h, 0, sizeof(*h));
	for (i = 0; i < c->nr_workers; i++) {
		struct ping_worker *pw = container_of(c->workers[i], struct ping_worker, w);

		for (k = 0; k < pw->nr; k++) {
			if (pw->v[k].gap_max)
				hist_add(h, pw->v[k].gap_max);
		}
	}
	json_object_set_new(o, "gap_session_us", hist_json(h, 1e3));
}

static int ping_report(struct crew *c)
{
	struct tally t = crew_tally(c);
	struct hist *h = calloc(1, sizeof(*h));
	uint64_t broken = t.lost + t.connect_failed;
	json_t *o = report_new(c);

	if (!h)
		return EXIT_FAILED;
	report_u64(o, "sessions", c->total);
	report_u64(o, "size_bytes", c->opt->size);
	report_u64(o, "alive", c->total > broken ? c->total - broken : 0);
	report_u64(o, "lost", t.lost);
	report_u64(o, "connect_failures", t.connect_failed);
	report_failures(o, &t);
	report_u64(o, "bytes_verified", t.verified);
	report_u64(o, "operations", t.ops);
	report_real(o, "operations_per_s",
		    crew_seconds(c) > 0 ? (double)t.ops / crew_seconds(c) : 0);
	crew_latency(c, h);
	json_object_set_new(o, "latency_us", hist_json(h, 1e3));
	report_gaps(o, c, h);
	free(h);
	report_cpu(o, c, "cpu_us_per_operation", (double)t.ops);
	return report_finish(c, o, !broken && !t.wrong && t.verified);
}

int verb_pingpong(struct bench_options *opt)
{
	struct crew c = { .opt = opt, .ops = &ping_ops, .total = opt->sessions };
	int err, ret = EXIT_FAILED;

	if (!opt->sessions) {
		complain("pingpong: no sessions");
		return EXIT_USAGE;
	}
	err = crew_run(&c);
	if (!err)
		ret = ping_report(&c);
	else if (err == -ESRCH)
		ret = EXIT_USAGE;
	crew_fini(&c);
	return ret;
}
