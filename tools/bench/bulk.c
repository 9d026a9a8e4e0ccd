// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cman-bench bulk: throughput in one direction, and what it costs the processes of --cpu-of.
 *
 * Up: send to a sink, whose count at the end must equal what was sent. Down: receive from a
 * source, with --verify every byte compared. Bytes are counted between the start and the end of
 * the run, with the pipeline full at both, so what is under way cancels out.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define SEND_ROUNDS 4
#define REPLY_BYTES 24

struct stream_source {
	const unsigned char *data;
	int memfd;
};

struct flow {
	struct transport conn;
	struct timer guard;
	struct bulk_worker *bw;
	uint64_t id;
	uint64_t pos;
	char reply[REPLY_BYTES];
	size_t reply_len;
	bool open, settled, shut, ended;
};

struct bulk_worker {
	struct worker w;
	struct flow *v;
	uint64_t nr, ended;
};

static void settle(struct flow *f)
{
	if (f->settled)
		return;
	f->settled = true;
	crew_settled(&f->bw->w);
}

static void flow_end(struct flow *f)
{
	struct bulk_worker *bw = f->bw;

	if (f->ended)
		return;
	f->ended = true;
	timer_cancel(&bw->w.loop, &f->guard);
	transport_close(&f->conn, &bw->w.loop);
	settle(f);
	if (++bw->ended == bw->nr)
		crew_worker_done(&bw->w);
}

static void flow_lost(struct flow *f, enum fail why, const char *text)
{
	struct tally *t = &f->bw->w.tally;

	tally_add(&t->fails[why], 1);
	tally_add(f->open ? &t->lost : &t->connect_failed, 1);
	crew_incident(&f->bw->w, f->id, why, "%s at byte %llu", text, (unsigned long long)f->pos);
	flow_end(f);
}

static void moved(struct flow *f, size_t n)
{
	struct worker *w = &f->bw->w;

	f->pos += n;
	tally_add(&w->tally.sent, n);
	if (w->phase == PHASE_RUN)
		tally_add(&w->tally.bytes, n);
	settle(f);
}

static void flow_send(struct flow *f)
{
	struct stream_source *src = f->bw->w.crew->verb;
	int rounds;
	ssize_t n;

	for (rounds = 0; rounds < SEND_ROUNDS; rounds++) {
		off_t at = (off_t)(f->pos % SOURCE_PERIOD);

		if (f->bw->w.opt->zero_copy)
			n = sendfile(f->conn.io.fd, src->memfd, &at, SOURCE_SPAN);
		else
			n = transport_write(&f->conn, src->data + at, SOURCE_SPAN);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			flow_lost(f, fail_of_errno(errno), "send failed");
			return;
		}
		moved(f, (size_t)n);
		if ((size_t)n < SOURCE_SPAN)
			return;
	}
}

/* The sink says how many bytes it got. */
static void check_reply(struct flow *f)
{
	uint64_t count;

	f->reply[f->reply_len] = '\0';
	count = strtoull(f->reply, NULL, 10);
	if (!f->shut) {
		flow_lost(f, FAIL_EOF, "the sink ended early");
	} else if (count != f->pos) {
		tally_add(&f->bw->w.tally.wrong, count > f->pos ? count - f->pos : f->pos - count);
		flow_lost(f, FAIL_WRONG, "the sink counted another number of bytes");
	} else {
		tally_add(&f->bw->w.tally.verified, count);
		tally_add(&f->bw->w.tally.completed, 1);
		flow_end(f);
	}
}

static void read_reply(struct flow *f)
{
	ssize_t n;

	if (f->reply_len == sizeof(f->reply) - 1) {
		flow_lost(f, FAIL_WRONG, "the sink's count is too long");
		return;
	}
	n = transport_read(&f->conn, f->reply + f->reply_len, sizeof(f->reply) - 1 - f->reply_len,
			   0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		flow_lost(f, fail_of_errno(errno), "recv failed");
	else if (!n)
		check_reply(f);
	else
		f->reply_len += (size_t)n;
}

/* Compare with the source's pattern, which goes on from its start at every period. */
static uint64_t compare(const struct flow *f, const unsigned char *buf, size_t len)
{
	struct stream_source *src = f->bw->w.crew->verb;
	const unsigned char *want = src->data + f->pos % SOURCE_PERIOD;
	uint64_t wrong = 0;
	size_t i;

	if (!memcmp(buf, want, len))
		return 0;
	for (i = 0; i < len; i++)
		wrong += buf[i] != want[i];
	return wrong;
}

static void flow_receive(struct flow *f)
{
	struct worker *w = &f->bw->w;
	uint64_t wrong;
	ssize_t n;

	n = transport_read(&f->conn, w->scratch, SCRATCH_BYTES,
			   w->opt->discard && !w->opt->verify ? MSG_TRUNC : 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		flow_lost(f, n ? fail_of_errno(errno) : FAIL_EOF, "the source ended early");
		return;
	}
	if (w->opt->verify) {
		wrong = compare(f, w->scratch, (size_t)n);
		if (wrong) {
			tally_add(&w->tally.wrong, wrong);
			flow_lost(f, FAIL_WRONG, "bytes differ");
			return;
		}
		tally_add(&w->tally.verified, (uint64_t)n);
	}
	moved(f, (size_t)n);
}

static void flow_event(struct loop *l, struct io *io, uint32_t events)
{
	struct flow *f = container_of(io, struct flow, conn.io);
	bool up = f->bw->w.opt->direction == DIRECTION_UP;
	int err;

	if (!f->open) {
		err = transport_error(&f->conn);
		if (!err)
			err = transport_want(&f->conn, l, up ? EPOLLIN | EPOLLOUT : EPOLLIN);
		if (err) {
			flow_lost(f, fail_of_errno(err), "connect failed");
			return;
		}
		timer_cancel(l, &f->guard);
		f->open = true;
		tally_add(&f->bw->w.tally.opened, 1);
		return;
	}
	if (!up) {
		flow_receive(f);
		return;
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		read_reply(f);
	else if (events & EPOLLOUT && !f->shut) /* it may have ended in this round of events */
		flow_send(f);
}

static void connect_timed_out(struct loop *l, struct timer *t)
{
	(void)l;
	flow_lost(container_of(t, struct flow, guard), FAIL_TIMEOUT, "connect timed out");
}

static int bulk_start(struct worker *w)
{
	struct bulk_worker *bw = container_of(w, struct bulk_worker, w);
	uint64_t first, i;
	int err;

	crew_share(w, w->crew->total, &first, &bw->nr);
	bw->v = calloc(bw->nr ? bw->nr : 1, sizeof(*bw->v));
	if (!bw->v)
		return -ENOMEM;
	for (i = 0; i < bw->nr; i++) {
		struct flow *f = &bw->v[i];

		f->bw = bw;
		f->id = first + i;
		f->conn.io = (struct io){ .fd = -1, .fn = flow_event };
		f->guard.fn = connect_timed_out;
		err = transport_connect(&f->conn, w, &w->opt->connect, f->id, 0, EPOLLOUT);
		if (!err)
			err = timer_arm_patient(&w->loop, &f->guard, w->opt->connect_timeout);
		if (err)
			flow_lost(f, fail_of_errno(err), "connect failed");
	}
	if (!bw->nr)
		crew_worker_done(w);
	return 0;
}

static void bulk_phase(struct worker *w, enum phase phase)
{
	struct bulk_worker *bw = container_of(w, struct bulk_worker, w);
	uint64_t i;

	if (phase < PHASE_STOP)
		return;
	for (i = 0; i < bw->nr; i++) {
		struct flow *f = &bw->v[i];

		if (f->ended)
			continue;
		if (!f->open) {
			flow_end(f);
		} else if (w->opt->direction == DIRECTION_DOWN) {
			/* The source has no end: what came was right. */
			tally_add(&w->tally.completed, 1);
			flow_end(f);
		} else if (phase == PHASE_ABORT) {
			flow_lost(f, FAIL_TIMEOUT, "the sink's count did not come in time");
		} else if (transport_shutdown(&f->conn) < 0) {
			flow_lost(f, fail_of_errno(errno), "shutdown failed");
		} else {
			f->shut = true;
			transport_want(&f->conn, &w->loop, EPOLLIN);
		}
	}
}

static void bulk_progress(struct crew *c, char *buf, size_t len)
{
	struct tally t = crew_tally(c);

	snprintf(buf, len, "connections %llu/%llu moved %.3f GB",
		 (unsigned long long)(t.opened - t.lost - t.completed),
		 (unsigned long long)c->total, (double)t.sent / 1e9);
}

static void bulk_fini(struct worker *w)
{
	free(container_of(w, struct bulk_worker, w)->v);
}

static const struct crew_ops bulk_ops = {
	.worker_size = sizeof(struct bulk_worker),
	.start = bulk_start,
	.phase = bulk_phase,
	.progress = bulk_progress,
	.fini = bulk_fini,
};

static int bulk_report(struct crew *c)
{
	struct tally t = crew_tally(c);
	double s = crew_seconds(c), gb = (double)t.bytes / 1e9;
	uint64_t broken = t.lost + t.connect_failed;
	json_t *o = report_new(c);

	json_object_set_new(o, "direction", json_string(c->opt->direction ? "down" : "up"));
	report_u64(o, "connections", c->total);
	report_u64(o, "lost", t.lost);
	report_u64(o, "connect_failures", t.connect_failed);
	report_failures(o, &t);
	report_u64(o, "bytes", t.bytes);
	report_u64(o, "bytes_verified", t.verified);
	report_real(o, "gbit_per_s", s > 0 ? gb * 8 / s : 0);
	report_cpu(o, c, "cpu_s_per_gb", gb);
	return report_finish(c, o, !broken && !t.wrong && t.bytes);
}

int verb_bulk(struct bench_options *opt)
{
	struct stream_source src = { .memfd = -1 };
	struct crew c = { .opt = opt, .ops = &bulk_ops, .verb = &src, .total = opt->connections };
	int err, ret = EXIT_FAILED;

	err = source_open(&src.data, &src.memfd);
	if (err) {
		complain("source: %s", strerror(-err));
		return EXIT_FAILED;
	}
	err = crew_run(&c);
	if (!err)
		ret = bulk_report(&c);
	else if (err == -ESRCH)
		ret = EXIT_USAGE;
	crew_fini(&c);
	return ret;
}
