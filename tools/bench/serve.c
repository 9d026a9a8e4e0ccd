// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cman-bench serve: the server that the other verbs talk to.
 *
 * One connection costs one small structure: bytes are read into the worker's scratch buffer and
 * only what the socket would not take is kept, and then nothing more is read until it has gone.
 * So an echo never holds more than one read per connection, and a client that stops reading is
 * felt at once. Modes differ in two functions: what to do with bytes that came, and what to send
 * next.
 */
#include "bench.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define ACCEPT_MOST  64
#define ACCEPT_PAUSE (100 * NSEC_PER_MSEC)
#define SEND_ROUNDS  4

struct server {
	int *listeners;
	size_t nr;
	const unsigned char *source;
	int source_memfd;
};

struct listener {
	struct io io;
	struct timer timer; /* pause after descriptors ran out */
	unsigned int batch; /* accepts a wake: an accept that finds nothing costs too */
	struct serve_worker *sw;
};

struct serve_worker {
	struct worker w;
	struct listener *listeners;
	uint64_t accepted, closed, resets, accept_errors, peak;
	uint64_t bytes_in, bytes_out, wrong;
	struct peer *peers;
};

struct peer {
	struct transport conn; /* first: freed through the loop */
	struct timer timer;    /* delay of reading, pace of sending */
	struct serve_worker *sw;
	struct peer *prev, *next;
	uint64_t in, out;     /* bytes of this connection */
	uint64_t due;	      /* out may go as far as this */
	uint64_t limit;	      /* and will in the end; UINT64_MAX: no end */
	uint64_t seed, wrong; /* hold; the seed as it came, little-endian */
	uint64_t number;      /* http-less: digits so far */
	unsigned char *pending;
	size_t pending_off, pending_len;
	unsigned char header[HOLD_HEADER];
	bool eof, delayed;
};

static void peer_close(struct peer *p, bool reset)
{
	struct serve_worker *sw = p->sw;

	reset = reset && transport_was_reset(&p->conn);
	timer_cancel(&sw->w.loop, &p->timer);
	transport_close(&p->conn, &sw->w.loop);
	if (p->prev)
		p->prev->next = p->next;
	else
		sw->peers = p->next;
	if (p->next)
		p->next->prev = p->prev;
	free(p->pending);
	tally_add(&sw->closed, 1);
	tally_add(&sw->resets, reset);
	loop_free_later(&sw->w.loop, &p->conn.io);
}

/* Send what an earlier send left over. 1: all gone, 0: more to come, -1: the peer is closed. */
static int flush(struct peer *p)
{
	ssize_t n;

	while (p->pending_len) {
		n = transport_write(&p->conn, p->pending + p->pending_off, p->pending_len);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0) {
			peer_close(p, true);
			return -1;
		}
		p->pending_off += (size_t)n;
		p->pending_len -= (size_t)n;
		p->out += (uint64_t)n;
		tally_add(&p->sw->bytes_out, (uint64_t)n);
	}
	free(p->pending);
	p->pending = NULL;
	p->pending_off = 0;
	return 1;
}

/* Send now, keep what does not fit. Only when nothing is pending. */
static int send_or_keep(struct peer *p, const void *data, size_t len)
{
	ssize_t n = transport_write(&p->conn, data, len);

	if (n < 0 && errno != EAGAIN) {
		peer_close(p, true);
		return -1;
	}
	if (n < 0)
		n = 0;
	p->out += (uint64_t)n;
	tally_add(&p->sw->bytes_out, (uint64_t)n);
	if ((size_t)n == len)
		return 1;
	p->pending_len = len - (size_t)n;
	p->pending = malloc(p->pending_len);
	if (!p->pending) {
		transport_reset(&p->conn);
		peer_close(p, true);
		return -1;
	}
	memcpy(p->pending, (const unsigned char *)data + n, p->pending_len);
	return 0;
}

/* The pattern of source and http-less: one send. */
static ssize_t send_source(struct peer *p, size_t len)
{
	struct server *s = p->sw->w.crew->verb;
	off_t at = (off_t)(p->out % SOURCE_PERIOD);

	if (len > SOURCE_SPAN)
		len = SOURCE_SPAN;
	if (p->sw->w.opt->zero_copy)
		return sendfile(p->conn.io.fd, s->source_memfd, &at, len);
	return transport_write(&p->conn, s->source + at, len);
}

/* The answer of a holding server: header, then the pattern that the client can foresee. */
static ssize_t send_hold(struct peer *p, size_t len)
{
	if (p->out < HOLD_HEADER)
		return transport_write(&p->conn, p->header + p->out, HOLD_HEADER - p->out);
	if (len > SCRATCH_BYTES)
		len = SCRATCH_BYTES;
	pattern_fill(pattern_reply_seed(le64toh(p->seed)), p->out - HOLD_HEADER, p->sw->w.scratch,
		     len);
	return transport_write(&p->conn, p->sw->w.scratch, len);
}

/* Send as far as `due`. 1: it is reached, 0: the socket is full or the budget used, -1: closed. */
static int send_due(struct peer *p)
{
	bool hold = p->sw->w.opt->mode == SERVE_HOLD;
	int rounds;
	ssize_t n;

	for (rounds = 0; rounds < SEND_ROUNDS && p->out < p->due; rounds++) {
		size_t len = p->due - p->out < SIZE_MAX ? (size_t)(p->due - p->out) : SIZE_MAX;

		n = hold ? send_hold(p, len) : send_source(p, len);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0) {
			peer_close(p, true);
			return -1;
		}
		p->out += (uint64_t)n;
		tally_add(&p->sw->bytes_out, (uint64_t)n);
	}
	return p->out == p->due;
}

/* What the connection waits for now follows from its state alone. */
static void peer_rearm(struct peer *p, bool blocked)
{
	bool reads = !p->eof && !p->delayed && !p->pending_len;
	uint32_t events = blocked ? EPOLLOUT : 0;

	/* A source reads only to notice the end; the others not before their answer has gone. */
	if (p->sw->w.opt->mode != SERVE_SOURCE && blocked)
		reads = false;
	if (reads)
		events |= EPOLLIN;
	if (transport_want(&p->conn, &p->sw->w.loop, events))
		peer_close(p, true);
}

static void peer_write(struct peer *p)
{
	const struct bench_options *opt = p->sw->w.opt;
	int r;

	r = flush(p);
	if (r > 0 && p->out < p->due)
		r = send_due(p);
	if (r < 0)
		return;
	if (r > 0) {
		bool end = opt->mode == SERVE_SOURCE || opt->mode == SERVE_HOLD ?
				   p->out == p->limit :
				   p->eof;

		if (end && !transport_finish(&p->conn)) {
			peer_rearm(p, true);
			return;
		}
		if (end) {
			/* Nothing unread, nothing unsent: this close is a FIN. */
			peer_close(p, false);
			return;
		}
		if (opt->mode == SERVE_HOLD && p->eof && opt->interval)
			timer_arm(&p->sw->w.loop, &p->timer, p->sw->w.loop.now + opt->interval);
	}
	peer_rearm(p, !r);
}

static void put_be64(unsigned char *to, uint64_t v)
{
	v = htobe64(v);
	memcpy(to, &v, sizeof(v));
}

static void hold_advance(struct peer *p)
{
	const struct bench_options *opt = p->sw->w.opt;

	if (!opt->interval || p->limit - p->due < opt->size)
		p->due = p->limit;
	else
		p->due += opt->size;
}

/* The whole block is in: say what was received, then send. */
static void hold_begin(struct peer *p)
{
	const struct bench_options *opt = p->sw->w.opt;

	put_be64(p->header, p->in);
	put_be64(p->header + 8, p->wrong);
	put_be64(p->header + 16, opt->bytes);
	p->limit = opt->bytes ? HOLD_HEADER + opt->bytes : UINT64_MAX;
	p->due = HOLD_HEADER;
	hold_advance(p);
}

/* A holding server checks what it gets: eight bytes of seed, then the seed's pattern. */
static void hold_receive(struct peer *p, const unsigned char *data, size_t len)
{
	unsigned char *seed = (unsigned char *)&p->seed;
	size_t first;

	while (len && p->in < sizeof(p->seed)) {
		seed[p->in++] = *data++;
		len--;
	}
	if (!len)
		return;
	p->wrong += pattern_check(le64toh(p->seed), p->in - sizeof(p->seed), data, len, &first);
	p->in += len;
}

static void http_less_receive(struct peer *p, const unsigned char *data, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (data[i] >= '0' && data[i] <= '9') {
			if (p->number < UINT64_MAX / 1000)
				p->number = p->number * 10 + data[i] - '0';
		} else if (data[i] == '\n') {
			p->due += p->number;
			p->number = 0;
		}
	}
	p->in += len;
}

/* Bytes came. -1: the peer is closed. */
static int receive(struct peer *p, const unsigned char *data, size_t len)
{
	tally_add(&p->sw->bytes_in, len);
	switch (p->sw->w.opt->mode) {
	case SERVE_ECHO:
		p->in += len;
		return send_or_keep(p, data, len);
	case SERVE_HOLD:
		hold_receive(p, data, len);
		return 1;
	case SERVE_HTTP_LESS:
		http_less_receive(p, data, len);
		return 1;
	default:
		p->in += len;
		return 1;
	}
}

static int at_eof(struct peer *p)
{
	char text[24];
	int len;

	p->eof = true;
	switch (p->sw->w.opt->mode) {
	case SERVE_SINK:
		len = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)p->in);
		return send_or_keep(p, text, (size_t)len);
	case SERVE_SOURCE:
		/* The reader has had enough, or only half-closed: go on if there is an end. */
		if (p->limit == UINT64_MAX) {
			peer_close(p, false);
			return -1;
		}
		return 1;
	case SERVE_HOLD:
		tally_add(&p->sw->wrong, p->wrong);
		hold_begin(p);
		return 1;
	default:
		return 1;
	}
}

static void peer_read(struct peer *p)
{
	const struct bench_options *opt = p->sw->w.opt;
	int flags = opt->discard && opt->mode == SERVE_SINK ? MSG_TRUNC : 0;
	ssize_t n;
	int r;

	n = transport_read(&p->conn, p->sw->w.scratch, SCRATCH_BYTES, flags);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		peer_close(p, true);
		return;
	}
	r = n ? receive(p, p->sw->w.scratch, (size_t)n) : at_eof(p);
	if (r < 0)
		return;
	if (opt->delay_read && !p->eof) {
		p->delayed = true;
		timer_arm(&p->sw->w.loop, &p->timer, p->sw->w.loop.now + opt->delay_read);
	}
	if (!p->eof && p->out >= p->due && !p->pending_len && !p->delayed)
		return; /* the usual case: wait for more, nothing to change */
	if (!p->eof && p->pending_len)
		peer_rearm(p, true);
	else
		peer_write(p);
}

static void peer_event(struct loop *l, struct io *io, uint32_t events)
{
	struct peer *p = container_of(io, struct peer, conn.io);

	(void)l;
	if (events & EPOLLOUT) {
		peer_write(p);
		return; /* readable is reported again, if it is still wanted */
	}
	if (events & EPOLLIN) {
		peer_read(p);
		return;
	}
	/* EPOLLERR or EPOLLHUP alone: a reset while nothing is awaited. */
	if (events & (EPOLLERR | EPOLLHUP))
		peer_close(p, true);
}

static void peer_timer(struct loop *l, struct timer *t)
{
	struct peer *p = container_of(t, struct peer, timer);

	(void)l;
	p->delayed = false;
	if (p->sw->w.opt->mode == SERVE_HOLD && p->eof) {
		hold_advance(p);
		peer_write(p);
		return;
	}
	peer_rearm(p, p->pending_len > 0 || p->out < p->due);
}

static int peer_new(struct serve_worker *sw, int fd)
{
	const struct bench_options *opt = sw->w.opt;
	struct peer *p = calloc(1, sizeof(*p));
	uint32_t events = EPOLLIN;
	int err;

	if (!p)
		return -ENOMEM;
	p->sw = sw;
	p->conn.io = (struct io){ .fd = -1, .fn = peer_event };
	p->timer.fn = peer_timer;
	if (opt->mode == SERVE_SOURCE) {
		p->limit = opt->bytes ? opt->bytes : UINT64_MAX;
		p->due = p->limit;
		events |= EPOLLOUT;
	}
	if (opt->delay_read) {
		p->delayed = true;
		events &= ~(uint32_t)EPOLLIN;
		timer_arm(&sw->w.loop, &p->timer, sw->w.loop.now + opt->delay_read);
	}
	err = transport_accept(&p->conn, &sw->w, fd, events);
	if (err) {
		timer_cancel(&sw->w.loop, &p->timer);
		free(p);
		return err;
	}
	p->next = sw->peers;
	if (p->next)
		p->next->prev = p;
	sw->peers = p;
	return 0;
}

static void accept_event(struct loop *l, struct io *io, uint32_t events)
{
	struct listener *ln = container_of(io, struct listener, io);
	struct serve_worker *sw = ln->sw;
	unsigned int i;
	int fd;

	(void)events;
	for (i = 0; i < ln->batch; i++) {
		fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && (errno == EAGAIN || errno == EINTR)) {
			ln->batch = 1;
			return;
		}
		if (fd < 0 && errno == ECONNABORTED)
			continue;
		if (fd < 0) {
			/* Out of descriptors or memory: the queue would keep us busy. */
			if (!sw->accept_errors)
				complain("accept: %m");
			tally_add(&sw->accept_errors, 1);
			loop_mod(l, io, 0);
			timer_arm(l, &ln->timer, l->now + ACCEPT_PAUSE);
			return;
		}
		tally_add(&sw->accepted, 1);
		if (sw->accepted - sw->closed > sw->peak)
			tally_add(&sw->peak, 1);
		if (peer_new(sw, fd)) {
			close(fd);
			tally_add(&sw->closed, 1);
			tally_add(&sw->accept_errors, 1);
		}
	}
	if (ln->batch < ACCEPT_MOST)
		ln->batch *= 2;
}

static void accept_again(struct loop *l, struct timer *t)
{
	struct listener *ln = container_of(t, struct listener, timer);

	loop_mod(l, &ln->io, EPOLLIN);
}

static int serve_start(struct worker *w)
{
	struct serve_worker *sw = container_of(w, struct serve_worker, w);
	struct server *s = w->crew->verb;
	size_t i;
	int err;

	sw->listeners = calloc(s->nr, sizeof(*sw->listeners));
	if (!sw->listeners)
		return -ENOMEM;
	for (i = 0; i < s->nr; i++) {
		struct listener *ln = &sw->listeners[i];

		ln->sw = sw;
		ln->batch = 1;
		ln->io = (struct io){ .fd = s->listeners[i], .fn = accept_event };
		ln->timer.fn = accept_again;
		err = loop_add(&w->loop, &ln->io, EPOLLIN);
		if (err)
			return err;
	}
	return 0;
}

static void serve_phase(struct worker *w, enum phase phase)
{
	struct serve_worker *sw = container_of(w, struct serve_worker, w);

	if (phase < PHASE_STOP)
		return;
	while (sw->peers)
		peer_close(sw->peers, false);
	crew_worker_done(w);
}

static void serve_sum(const struct crew *c, struct serve_worker *ret)
{
	unsigned int i;

	memset(ret, 0, sizeof(*ret));
	for (i = 0; i < c->nr_workers; i++) {
		struct serve_worker *sw = container_of(c->workers[i], struct serve_worker, w);

		ret->accepted += __atomic_load_n(&sw->accepted, __ATOMIC_RELAXED);
		ret->closed += __atomic_load_n(&sw->closed, __ATOMIC_RELAXED);
		ret->resets += __atomic_load_n(&sw->resets, __ATOMIC_RELAXED);
		ret->accept_errors += __atomic_load_n(&sw->accept_errors, __ATOMIC_RELAXED);
		ret->peak += __atomic_load_n(&sw->peak, __ATOMIC_RELAXED);
		ret->bytes_in += __atomic_load_n(&sw->bytes_in, __ATOMIC_RELAXED);
		ret->bytes_out += __atomic_load_n(&sw->bytes_out, __ATOMIC_RELAXED);
		ret->wrong += __atomic_load_n(&sw->wrong, __ATOMIC_RELAXED);
	}
}

static void serve_progress(struct crew *c, char *buf, size_t len)
{
	struct serve_worker *sum = calloc(1, sizeof(*sum));

	if (!sum)
		return;
	serve_sum(c, sum);
	snprintf(buf, len, "accepted %llu open %llu resets %llu in %.1f MB out %.1f MB",
		 (unsigned long long)sum->accepted,
		 (unsigned long long)(sum->accepted - sum->closed), (unsigned long long)sum->resets,
		 (double)sum->bytes_in / 1e6, (double)sum->bytes_out / 1e6);
	free(sum);
}

static void serve_fini(struct worker *w)
{
	struct serve_worker *sw = container_of(w, struct serve_worker, w);

	free(sw->listeners);
}

static const struct crew_ops serve_ops = {
	.worker_size = sizeof(struct serve_worker),
	.start = serve_start,
	.phase = serve_phase,
	.progress = serve_progress,
	.fini = serve_fini,
};

/* One "ready ADDR:PORT" line for every listener, with the port that the kernel chose. */
static int open_listeners(const struct bench_options *opt, struct server *s, char **ret_text)
{
	struct address any;
	const struct address *a = opt->listen.v;
	char text[ADDRESS_TEXT];
	size_t nr = opt->listen.nr, size;
	FILE *f;
	int err;

	if (!nr) {
		address_parse("127.0.0.1:0", true, &any);
		a = &any;
		nr = 1;
	}
	s->listeners = calloc(nr, sizeof(*s->listeners));
	f = open_memstream(ret_text, &size);
	if (!s->listeners || !f)
		return -ENOMEM;
	for (; s->nr < nr; s->nr++) {
		err = net_listen(&a[s->nr], (int)opt->backlog, &s->listeners[s->nr]);
		if (err) {
			address_format(&a[s->nr], text, sizeof(text));
			complain("--listen %s: %s", text, strerror(-err));
			fclose(f);
			return err;
		}
		address_of_socket(s->listeners[s->nr], false, text, sizeof(text));
		fprintf(f, "ready %s\n", text);
	}
	fclose(f);
	return 0;
}

static int serve_report(struct crew *c)
{
	struct serve_worker *sum = calloc(1, sizeof(*sum));
	struct server *s = c->verb;
	static const char *const modes[] = { "echo", "sink", "source", "hold", "http-less" };
	json_t *o = report_new(c), *listen = json_array();
	char text[ADDRESS_TEXT];
	uint64_t wrong;
	size_t i;

	if (!sum)
		return EXIT_FAILED;
	serve_sum(c, sum);
	for (i = 0; i < s->nr; i++) {
		address_of_socket(s->listeners[i], false, text, sizeof(text));
		json_array_append_new(listen, json_string(text));
	}
	json_object_set_new(o, "mode", json_string(modes[c->opt->mode]));
	json_object_set_new(o, "listen", listen);
	report_u64(o, "accepted", sum->accepted);
	report_u64(o, "peak_sessions", sum->peak);
	report_u64(o, "resets", sum->resets);
	report_u64(o, "accept_errors", sum->accept_errors);
	report_u64(o, "bytes_in", sum->bytes_in);
	report_u64(o, "bytes_out", sum->bytes_out);
	report_u64(o, "wrong_bytes", sum->wrong);
	wrong = sum->wrong;
	free(sum);
	return report_finish(c, o, !wrong && !crew_tally(c).tls_truncated);
}

int verb_serve(struct bench_options *opt)
{
	struct server s = { .source_memfd = -1 };
	struct crew c = { .opt = opt, .ops = &serve_ops, .verb = &s };
	int err, ret = EXIT_FAILED;
	size_t i;

	if (opt->mode == SERVE_SOURCE || opt->mode == SERVE_HTTP_LESS) {
		err = source_open(&s.source, &s.source_memfd);
		if (err) {
			complain("source: %s", strerror(-err));
			return EXIT_FAILED;
		}
	}
	if (open_listeners(opt, &s, &c.ready_text)) {
		free(c.ready_text);
		free(s.listeners);
		return EXIT_FAILED;
	}
	err = crew_run(&c);
	if (!err)
		ret = serve_report(&c);
	for (i = 0; i < s.nr; i++)
		close(s.listeners[i]);
	free(s.listeners);
	crew_fini(&c);
	return ret;
}
