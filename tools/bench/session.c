// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The engine of long-lived verified sessions, used by stream and idle.
 *
 * A session sends chunks of a pattern and compares what an echo server returns byte by byte.
 * Chunks are cut by position: chunk k ends at byte (k + 1) * size, its time is when its first
 * byte was due to be sent, its gap ends when its last byte has been verified. Kinds of sessions:
 *	flow	a chunk every interval, or as many as the window holds
 *	slow	the same, but it reads at a trickle until the end of the run
 *	idle	one chunk at the start and one at the end
 *	half	a block, then half-close; the holding server's answer is verified while it lasts
 * A session is settled when its first chunk (half: the answer's header) has come back.
 */
#include "bench.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOW_TICK      (100 * NSEC_PER_MSEC)
#define SLOW_RCVBUF    16384
#define RETRY_AFTER    (100 * NSEC_PER_MSEC)
#define SAMPLE_BYTES   16u
#define DIAGNOSE_REACH (4u << 20)
#define DIAGNOSE_MAX   4

enum kind { KIND_FLOW, KIND_SLOW, KIND_IDLE, KIND_HALF };

enum state {
	STATE_NEW,
	STATE_CONNECTING,
	STATE_OPEN,
	STATE_DONE, /* ended as it should */
	STATE_LOST,
};

struct session {
	struct transport conn;
	struct timer tick;  /* the next chunk; connecting again */
	struct timer guard; /* connect timeout; pace of slow reading */
	struct session_worker *sw;
	uint32_t id, generation;
	enum kind kind;
	enum state state;
	bool settled, finishing, shut, corrupt;
	uint64_t seed;
	uint64_t due, sent, verified; /* positions in the stream */
	uint64_t pushed;	      /* chunks ever made due */
	uint64_t next_at;	      /* when the next chunk is due */
	uint64_t *stamps;	      /* when the chunks under way were sent: a ring */
	uint32_t ring, head, under_way;
	uint64_t gap_max, gap_at;
	unsigned char header[HOLD_HEADER];
};

struct session_worker {
	struct worker w;
	struct session *v;
	uint64_t nr, next, connecting, ended;
	uint64_t chunks, server_wrong, missing;
	uint64_t recent_gap; /* largest since the last progress line */
	bool opening;	     /* connect_more() is at work */
	unsigned int diagnosed;
};

static void session_connect(struct session *s);
static void connect_more(struct session_worker *sw);

static bool stopping(const struct session *s)
{
	return s->sw->w.phase >= PHASE_STOP;
}

/* The window never stops a session from sending one chunk. */
static uint64_t window_of(const struct bench_options *opt)
{
	return opt->window > opt->size ? opt->window : opt->size;
}

static void settle(struct session *s)
{
	if (s->settled)
		return;
	s->settled = true;
	crew_settled(&s->sw->w);
}

static void session_close(struct session *s)
{
	struct loop *l = &s->sw->w.loop;

	timer_cancel(l, &s->tick);
	timer_cancel(l, &s->guard);
	if (s->state == STATE_CONNECTING)
		s->sw->connecting--;
	transport_close(&s->conn, l);
}

static void session_ended(struct session *s, enum state state)
{
	struct session_worker *sw = s->sw;

	session_close(s);
	s->state = state;
	settle(s);
	if (++sw->ended == sw->nr)
		crew_worker_done(&sw->w);
	else
		connect_more(sw);
}

static void session_done(struct session *s)
{
	tally_add(&s->sw->w.tally.completed, 1);
	session_ended(s, STATE_DONE);
}

static void session_lost(struct session *s, enum fail why, const char *text)
{
	struct tally *t = &s->sw->w.tally;
	bool connecting = s->state < STATE_OPEN;
	char local[ADDRESS_TEXT] = "-";

	if (s->conn.io.fd >= 0)
		address_of_socket(s->conn.io.fd, false, local, sizeof(local));
	tally_add(&t->fails[why], 1);
	tally_add(connecting ? &t->connect_failed : &t->lost, 1);
	crew_incident(&s->sw->w, s->id, why, "%s; local %s sent %llu verified %llu", text, local,
		      (unsigned long long)s->sent, (unsigned long long)s->verified);
	if (s->kind != KIND_HALF)
		s->sw->missing += s->sent - s->verified;
	if (s->sw->w.opt->reconnect && !stopping(s)) {
		session_close(s);
		s->state = STATE_NEW;
		settle(s);
		tally_add(&t->reconnects, 1);
		timer_arm(&s->sw->w.loop, &s->tick, s->sw->w.loop.now + RETRY_AFTER);
		return;
	}
	session_ended(s, STATE_LOST);
}

/* Say what happened to a stream whose bytes are wrong: changed, lost, repeated or another's. */
static void diagnose(struct session *s, uint64_t pos, const unsigned char *got, size_t len,
		     uint64_t wrong)
{
	struct session_worker *sw = s->sw;
	char text[160];
	int64_t shift;
	uint64_t i;

	if (wrong < len / 2) {
		snprintf(text, sizeof(text), "at byte %llu: %llu of %zu bytes were changed",
			 (unsigned long long)pos, (unsigned long long)wrong, len);
		goto out;
	}
	if (len > SAMPLE_BYTES)
		len = SAMPLE_BYTES;
	if (pattern_find(s->seed, pos, DIAGNOSE_REACH, got, len, &shift)) {
		snprintf(text, sizeof(text), "at byte %llu: %lld bytes were %s",
			 (unsigned long long)pos, (long long)(shift > 0 ? shift : -shift),
			 shift > 0 ? "lost" : "repeated");
		goto out;
	}
	for (i = 0; i < sw->nr; i++) {
		const struct session *o = &sw->v[i];

		if (o == s || !o->sent)
			continue;
		if (!pattern_find(o->seed, o->verified, 65536, got, len, &shift))
			continue;
		snprintf(text, sizeof(text), "at byte %llu: bytes of session %u",
			 (unsigned long long)pos, o->id);
		goto out;
	}
	snprintf(text, sizeof(text), "at byte %llu: bytes of unknown origin, starting %02x %02x",
		 (unsigned long long)pos, got[0], len > 1 ? got[1] : 0);
out:
	crew_incident(&sw->w, s->id, FAIL_WRONG, "%s", text);
}

/* The first wrong byte of a session tells; what follows it usually has the same cause. */
static void wrong_bytes(struct session *s, uint64_t pos, const unsigned char *data, size_t len,
			uint64_t n)
{
	tally_add(&s->sw->w.tally.wrong, n);
	if (s->corrupt)
		return;
	s->corrupt = true;
	if (s->sw->diagnosed++ < DIAGNOSE_MAX)
		diagnose(s, pos, data, len, n);
}

/* ---- sending ---- */

static void push_chunk(struct session *s)
{
	const struct bench_options *opt = s->sw->w.opt;

	s->stamps[(s->head + s->under_way) % s->ring] = s->sw->w.loop.now;
	s->under_way++;
	s->pushed++;
	s->due += opt->size;
}

/* Whole chunks that the window admits now. */
static void fill_window(struct session *s)
{
	const struct bench_options *opt = s->sw->w.opt;

	while (s->due - s->verified + opt->size <= window_of(opt))
		push_chunk(s);
}

/* A half-closing session sends its seed first, from which the server checks the rest. */
static void generate(struct session *s, unsigned char *buf, size_t len)
{
	uint64_t pos = s->sent, seed = htole64(s->seed);
	size_t n;

	if (s->kind != KIND_HALF) {
		pattern_fill(s->seed, pos, buf, len);
		return;
	}
	if (pos < sizeof(s->seed)) {
		n = sizeof(s->seed) - (size_t)pos;
		if (n > len)
			n = len;
		memcpy(buf, (const unsigned char *)&seed + pos, n);
		buf += n;
		len -= n;
		pos += n;
	}
	pattern_fill(s->seed, pos - sizeof(s->seed), buf, len);
}

static uint32_t events_of(const struct session *s, bool blocked)
{
	uint32_t events = blocked ? EPOLLOUT : 0;

	if (s->kind != KIND_SLOW || s->finishing)
		events |= EPOLLIN;
	return events;
}

/* Send what is due. The session may be lost when this returns. */
static void pump_out(struct session *s)
{
	struct session_worker *sw = s->sw;
	bool blocked = false;
	ssize_t n;
	int err;

	while (s->sent < s->due && !blocked) {
		size_t len = SCRATCH_BYTES;

		if (s->due - s->sent < len)
			len = (size_t)(s->due - s->sent);
		generate(s, sw->w.scratch, len);
		n = transport_write(&s->conn, sw->w.scratch, len);
		if (n < 0 && errno != EAGAIN) {
			session_lost(s, fail_of_errno(errno), "send failed");
			return;
		}
		blocked = n < (ssize_t)len;
		if (n < 0)
			break;
		s->sent += (uint64_t)n;
		tally_add(s->kind == KIND_HALF ? &sw->w.tally.held_sent : &sw->w.tally.sent,
			  (uint64_t)n);
	}
	if (s->finishing && !s->shut && s->sent == s->due) {
		if (transport_shutdown(&s->conn) < 0) {
			session_lost(s, fail_of_errno(errno), "shutdown failed");
			return;
		}
		s->shut = true;
	}
	err = transport_want(&s->conn, &sw->w.loop, events_of(s, blocked));
	if (err)
		session_lost(s, fail_of_errno(err), "epoll failed");
}

static void tick_fired(struct loop *l, struct timer *t)
{
	struct session *s = container_of(t, struct session, tick);
	const struct bench_options *opt = s->sw->w.opt;

	if (s->state == STATE_NEW) {
		session_connect(s);
		return;
	}
	if (s->finishing)
		return;
	if (s->due - s->verified + opt->size <= window_of(opt))
		push_chunk(s);
	else
		tally_add(&s->sw->w.tally.skipped, 1);
	s->next_at += opt->interval;
	/* After a long stop of this process do not make up for what was missed. */
	if (s->next_at + 10 * opt->interval < l->now)
		s->next_at = l->now + opt->interval;
	timer_arm(l, &s->tick, s->next_at);
	pump_out(s);
}

/* The run is over: send no more, except an idle session's second chunk; then half-close. */
static void session_finish(struct session *s)
{
	if (s->finishing)
		return;
	s->finishing = true;
	timer_cancel(&s->sw->w.loop, &s->tick);
	timer_cancel(&s->sw->w.loop, &s->guard);
	if (s->kind == KIND_IDLE)
		push_chunk(s);
	else
		s->due = s->sent;
	pump_out(s);
}

/* ---- receiving ---- */

static void chunk_verified(struct session *s)
{
	struct session_worker *sw = s->sw;
	uint64_t gap = sw->w.loop.now - s->stamps[s->head];

	s->head = (s->head + 1) % s->ring;
	s->under_way--;
	sw->chunks++;
	/* Opening all at once is not what is measured; a slow reader waits by its own choice. */
	if (s->kind == KIND_SLOW || sw->w.phase < PHASE_RUN)
		return;
	hist_add(&sw->w.latency, gap);
	if (gap > s->gap_max) {
		s->gap_max = gap;
		s->gap_at = sw->w.loop.now;
	}
	if (gap > __atomic_load_n(&sw->recent_gap, __ATOMIC_RELAXED))
		__atomic_store_n(&sw->recent_gap, gap, __ATOMIC_RELAXED);
}

static void echo_received(struct session *s, const unsigned char *data, size_t len)
{
	const struct bench_options *opt = s->sw->w.opt;
	uint64_t wrong, extra = 0;
	size_t first = 0;

	if (len > s->sent - s->verified) {
		extra = len - (s->sent - s->verified);
		len -= (size_t)extra;
	}
	wrong = pattern_check(s->seed, s->verified, data, len, &first);
	if (wrong)
		wrong_bytes(s, s->verified + first, data + first, len - first, wrong);
	s->verified += len;
	tally_add(&s->sw->w.tally.verified, len - wrong);
	if (extra) {
		tally_add(&s->sw->w.tally.wrong, extra);
		session_lost(s, FAIL_WRONG, "more came back than was sent");
		return;
	}
	while (s->under_way && (s->pushed - s->under_way + 1) * opt->size <= s->verified)
		chunk_verified(s);
	if (s->verified >= opt->size)
		settle(s);
	if (s->kind != KIND_IDLE && !opt->interval && !s->finishing) {
		fill_window(s);
		pump_out(s);
	}
}

static uint64_t get_be64(const unsigned char *from)
{
	uint64_t v;

	memcpy(&v, from, sizeof(v));
	return be64toh(v);
}

static void half_received(struct session *s, const unsigned char *data, size_t len)
{
	uint64_t wrong, received, length;
	size_t first = 0;

	while (len && s->verified < HOLD_HEADER) {
		s->header[s->verified++] = *data++;
		len--;
		if (s->verified < HOLD_HEADER)
			continue;
		received = get_be64(s->header);
		s->sw->server_wrong += get_be64(s->header + 8);
		if (received != s->sent || get_be64(s->header + 8)) {
			session_lost(s, FAIL_WRONG, "the server did not get what was sent");
			return;
		}
		settle(s);
	}
	if (!len)
		return;
	length = get_be64(s->header + 16);
	if (length && s->verified - HOLD_HEADER + len > length) {
		session_lost(s, FAIL_WRONG, "more came than the server announced");
		return;
	}
	wrong = pattern_check(pattern_reply_seed(s->seed), s->verified - HOLD_HEADER, data, len,
			      &first);
	if (wrong)
		wrong_bytes(s, s->verified + first, data + first, len - first, wrong);
	s->verified += len;
	tally_add(&s->sw->w.tally.held_verified, len);
}

static bool is_complete(const struct session *s)
{
	if (s->kind == KIND_HALF)
		return s->verified >= HOLD_HEADER && get_be64(s->header + 16) &&
		       s->verified - HOLD_HEADER == get_be64(s->header + 16);
	return s->shut && s->verified == s->sent;
}

static void pump_in(struct session *s, size_t most)
{
	struct session_worker *sw = s->sw;
	ssize_t n;

	n = transport_read(&s->conn, sw->w.scratch, most, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		session_lost(s, fail_of_errno(errno), "recv failed");
		return;
	}
	if (!n) {
		if (is_complete(s))
			session_done(s);
		else
			session_lost(s, FAIL_EOF, "the stream ended early");
		return;
	}
	if (s->kind == KIND_HALF)
		half_received(s, sw->w.scratch, (size_t)n);
	else
		echo_received(s, sw->w.scratch, (size_t)n);
}

static void guard_fired(struct loop *l, struct timer *t)
{
	struct session *s = container_of(t, struct session, guard);
	size_t most = (size_t)(s->sw->w.opt->slow_rate / 10);

	if (s->state == STATE_CONNECTING) {
		session_lost(s, FAIL_TIMEOUT, "connect timed out");
		return;
	}
	timer_arm(l, t, l->now + SLOW_TICK);
	pump_in(s, most < SCRATCH_BYTES ? most : SCRATCH_BYTES);
}

/* ---- opening ---- */

static void session_open(struct session *s)
{
	struct session_worker *sw = s->sw;
	const struct bench_options *opt = sw->w.opt;
	int err = transport_error(&s->conn);

	if (err) {
		session_lost(s, fail_of_errno(err), "connect failed");
		return;
	}
	timer_cancel(&sw->w.loop, &s->guard);
	sw->connecting--;
	s->state = STATE_OPEN;
	tally_add(&sw->w.tally.opened, 1);
	switch (s->kind) {
	case KIND_HALF:
		s->due = sizeof(s->seed) + opt->size;
		s->finishing = true;
		break;
	case KIND_IDLE:
		push_chunk(s);
		break;
	case KIND_SLOW:
		timer_arm(&sw->w.loop, &s->guard, sw->w.loop.now + SLOW_TICK);
		/* fall through */
	case KIND_FLOW:
		if (!opt->interval) {
			fill_window(s);
			break;
		}
		push_chunk(s);
		/* Spread over the interval, so that the load is even. */
		s->next_at = sw->w.loop.now + opt->interval + opt->interval * (s->id % 997) / 997;
		timer_arm(&sw->w.loop, &s->tick, s->next_at);
		break;
	}
	if (stopping(s))
		session_finish(s);
	else
		pump_out(s);
	connect_more(sw);
}

static void session_event(struct loop *l, struct io *io, uint32_t events)
{
	struct session *s = container_of(io, struct session, conn.io);

	(void)l;
	if (s->state == STATE_CONNECTING) {
		session_open(s);
		return;
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		pump_in(s, SCRATCH_BYTES);
	if ((events & EPOLLOUT) && s->state == STATE_OPEN)
		pump_out(s);
}

static void session_connect(struct session *s)
{
	struct session_worker *sw = s->sw;
	const struct bench_options *opt = sw->w.opt;
	const struct address_list *to = &opt->connect;
	int err;

	if (s->kind == KIND_HALF && opt->hold_connect.nr)
		to = &opt->hold_connect;
	s->seed = pattern_seed(opt->seed, s->id, s->generation++);
	s->due = s->sent = s->verified = 0;
	s->head = s->under_way = 0;
	s->pushed = 0;
	s->finishing = s->shut = s->corrupt = false;
	err = transport_connect(&s->conn, &sw->w, to, s->id, s->kind == KIND_SLOW ? SLOW_RCVBUF : 0,
				EPOLLOUT);
	if (err) {
		session_lost(s, fail_of_errno(err), "connect failed");
		return;
	}
	s->state = STATE_CONNECTING;
	sw->connecting++;
	timer_arm_patient(&sw->w.loop, &s->guard, opt->connect_timeout);
}

static void connect_more(struct session_worker *sw)
{
	uint64_t most = sw->w.opt->parallel_connects / sw->w.crew->nr_workers + 1;

	if (sw->opening)
		return; /* a connect failed at once: the loop below goes on */
	sw->opening = true;
	while (sw->next < sw->nr && sw->connecting < most && sw->w.phase < PHASE_STOP)
		session_connect(&sw->v[sw->next++]);
	sw->opening = false;
}

/* Numbered in this order: slow, flow, idle, half. */
static enum kind kind_of(const struct bench_options *opt, uint64_t id)
{
	if (id < opt->sessions)
		return id < opt->slow ? KIND_SLOW : KIND_FLOW;
	return id < opt->sessions + opt->idle ? KIND_IDLE : KIND_HALF;
}

static int sessions_start(struct worker *w)
{
	struct session_worker *sw = container_of(w, struct session_worker, w);
	const struct bench_options *opt = w->opt;
	uint64_t first, i;

	crew_share(w, w->crew->total, &first, &sw->nr);
	sw->v = calloc(sw->nr ? sw->nr : 1, sizeof(*sw->v));
	if (!sw->v)
		return -ENOMEM;
	for (i = 0; i < sw->nr; i++) {
		struct session *s = &sw->v[i];

		s->sw = sw;
		s->id = (uint32_t)(first + i);
		s->kind = kind_of(opt, s->id);
		s->conn.io = (struct io){ .fd = -1, .fn = session_event };
		s->tick.fn = tick_fired;
		s->guard.fn = guard_fired;
		s->ring = s->kind == KIND_IDLE || s->kind == KIND_HALF ?
				  2 :
				  (uint32_t)(window_of(opt) / opt->size) + 1;
		s->stamps = calloc(s->ring, sizeof(*s->stamps));
		if (!s->stamps)
			return -ENOMEM;
	}
	connect_more(sw);
	if (!sw->nr)
		crew_worker_done(w);
	return 0;
}

static void sessions_phase(struct worker *w, enum phase phase)
{
	struct session_worker *sw = container_of(w, struct session_worker, w);
	uint64_t i;

	if (phase < PHASE_STOP)
		return;
	for (i = 0; i < sw->nr; i++) {
		struct session *s = &sw->v[i];

		if (s->state == STATE_DONE || s->state == STATE_LOST)
			continue;
		if (s->state == STATE_NEW ||
		    (phase == PHASE_STOP && s->state == STATE_CONNECTING)) {
			/* Never opened: neither alive nor lost. */
			session_ended(s, STATE_DONE);
		} else if (s->kind == KIND_HALF && s->verified >= HOLD_HEADER) {
			/* The answer may have no end: what came was right, that is all we ask. */
			tally_add(&w->tally.held_open, 1);
			transport_reset(&s->conn);
			session_ended(s, STATE_DONE);
		} else if (phase == PHASE_STOP) {
			session_finish(s);
		} else {
			session_lost(s, FAIL_TIMEOUT, "what was sent did not come back in time");
		}
	}
}

static void sessions_progress(struct crew *c, char *buf, size_t len)
{
	struct tally t = crew_tally(c);
	uint64_t gap = 0;
	unsigned int i;

	for (i = 0; i < c->nr_workers; i++) {
		struct session_worker *sw = container_of(c->workers[i], struct session_worker, w);
		uint64_t g = __atomic_exchange_n(&sw->recent_gap, 0, __ATOMIC_RELAXED);

		if (g > gap)
			gap = g;
	}
	snprintf(buf, len,
		 "alive %llu/%llu lost %llu wrong %llu sent %.1f MB verified %.1f MB gap %.2f ms",
		 (unsigned long long)(t.opened - t.lost - t.completed),
		 (unsigned long long)c->total, (unsigned long long)(t.lost + t.connect_failed),
		 (unsigned long long)t.wrong, (double)t.sent / 1e6, (double)t.verified / 1e6,
		 (double)gap / 1e6);
}

static void sessions_fini(struct worker *w)
{
	struct session_worker *sw = container_of(w, struct session_worker, w);
	uint64_t i;

	for (i = 0; sw->v && i < sw->nr; i++)
		free(sw->v[i].stamps);
	free(sw->v);
}

static const struct crew_ops session_ops = {
	.worker_size = sizeof(struct session_worker),
	.start = sessions_start,
	.phase = sessions_phase,
	.progress = sessions_progress,
	.fini = sessions_fini,
};

int sessions_run(struct crew *c)
{
	struct bench_options *opt = c->opt;

	c->ops = &session_ops;
	c->total = opt->sessions + opt->idle + opt->half_close;
	if (!c->total) {
		complain("%s: no sessions", opt->verb->name);
		return -EINVAL;
	}
	if (opt->slow > opt->sessions) {
		complain("--slow %llu is more than --sessions %llu", (unsigned long long)opt->slow,
			 (unsigned long long)opt->sessions);
		return -EINVAL;
	}
	return crew_run(c);
}

static void add_worker(struct session_worker *sw, struct session_totals *t)
{
	uint64_t i;

	t->chunks += sw->chunks;
	t->server_wrong += sw->server_wrong;
	t->missing += sw->missing;
	hist_merge(&t->gap_chunk, &sw->w.latency);
	for (i = 0; i < sw->nr; i++) {
		struct session *s = &sw->v[i];

		if (s->kind == KIND_HALF) {
			t->half_closed++;
			t->half_completed += s->state == STATE_DONE && is_complete(s);
			continue;
		}
		t->sessions++;
		if (s->kind == KIND_SLOW || !s->gap_max)
			continue;
		hist_add(&t->gap_session, s->gap_max);
		if (s->gap_max > t->gap_max) {
			t->gap_max = s->gap_max;
			t->gap_max_session = s->id;
			t->gap_max_at = s->gap_at;
		}
	}
}

int sessions_totals(struct crew *c, struct session_totals *ret)
{
	unsigned int i;

	memset(ret, 0, sizeof(*ret));
	for (i = 0; i < c->nr_workers; i++)
		add_worker(container_of(c->workers[i], struct session_worker, w), ret);
	ret->half_open = crew_tally(c).held_open;
	return 0;
}
