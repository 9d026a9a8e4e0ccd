// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cman-bench connrate: each client opens a connection, has its bytes echoed and verified, closes
 * by FIN or RST, and begins again. Reports connections a second, failures by class and, for the
 * processes of --cpu-of, CPU time per connection. A client that fails pauses before its next
 * try, so that a server that refuses everything is not hammered.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#define PAUSE_AFTER_FAIL (10 * NSEC_PER_MSEC)
#define MAX_FAIL_DETAILS 8

struct client {
	struct exchange x;
	struct timer pause;
	bool settled, busy;
};

struct rate_worker {
	struct worker w;
	struct client *v;
	uint64_t first, nr, serial, ended;
	struct hist connect;
};

static struct rate_worker *worker_of(struct client *cl)
{
	return container_of(cl->x.w, struct rate_worker, w);
}

/* No two connections of a run carry the same bytes. */
static void client_begin(struct client *cl)
{
	struct rate_worker *rw = worker_of(cl);

	cl->busy = true;
	cl->x.id = rw->serial++ * rw->w.crew->nr_workers + rw->w.index;
	cl->x.t_start = now_ns();
	exchange_start(&cl->x);
}

static void client_end(struct client *cl)
{
	struct rate_worker *rw = worker_of(cl);

	if (++rw->ended == rw->nr)
		crew_worker_done(&rw->w);
}

static void client_paused(struct loop *l, struct timer *t)
{
	(void)l;
	client_begin(container_of(t, struct client, pause));
}

static void exchange_done(struct exchange *x, enum fail result)
{
	struct client *cl = container_of(x, struct client, x);
	struct rate_worker *rw = worker_of(cl);
	struct tally *t = &rw->w.tally;

	cl->busy = false;
	if (result) {
		tally_add(&t->fails[result], 1);
		tally_add(x->connected ? &t->lost : &t->connect_failed, 1);
		if (t->lost + t->connect_failed <= MAX_FAIL_DETAILS)
			crew_incident(&rw->w, x->id, result, "%s, %llu of %llu bytes back",
				      x->connected ? "connected" : "connecting",
				      (unsigned long long)x->got,
				      (unsigned long long)rw->w.opt->size);
	} else {
		tally_add(&t->completed, 1);
	}
	if (!result && rw->w.phase == PHASE_RUN) {
		tally_add(&t->ops, 1);
		hist_add(&rw->w.latency, x->t_verified - x->t_start);
		hist_add(&rw->connect, x->t_connected - x->t_start);
	}
	if (!cl->settled) {
		cl->settled = true;
		crew_settled(&rw->w);
	}
	if (rw->w.phase >= PHASE_STOP)
		client_end(cl);
	else
		/* From the timers: a failure at once must not recurse. */
		timer_arm(&rw->w.loop, &cl->pause,
			  result ? rw->w.loop.now + PAUSE_AFTER_FAIL : rw->w.loop.now);
}

static int rate_start(struct worker *w)
{
	struct rate_worker *rw = container_of(w, struct rate_worker, w);
	uint64_t i;

	crew_share(w, w->opt->clients, &rw->first, &rw->nr);
	rw->v = calloc(rw->nr ? rw->nr : 1, sizeof(*rw->v));
	if (!rw->v)
		return -ENOMEM;
	for (i = 0; i < rw->nr; i++) {
		rw->v[i].x.w = w;
		rw->v[i].x.done = exchange_done;
		rw->v[i].pause.fn = client_paused;
		client_begin(&rw->v[i]);
	}
	if (!rw->nr)
		crew_worker_done(w);
	return 0;
}

static void rate_phase(struct worker *w, enum phase phase)
{
	struct rate_worker *rw = container_of(w, struct rate_worker, w);
	uint64_t i;

	if (phase < PHASE_STOP)
		return;
	for (i = 0; i < rw->nr; i++) {
		struct client *cl = &rw->v[i];

		if (cl->pause.pos) {
			timer_cancel(&w->loop, &cl->pause);
			client_end(cl);
		} else if (phase == PHASE_ABORT && cl->busy) {
			exchange_abort(&cl->x);
			exchange_done(&cl->x, FAIL_TIMEOUT);
		}
	}
}

static void rate_progress(struct crew *c, char *buf, size_t len)
{
	struct tally t = crew_tally(c);

	snprintf(buf, len, "connections %llu failed %llu", (unsigned long long)t.completed,
		 (unsigned long long)(t.lost + t.connect_failed));
}

static void rate_fini(struct worker *w)
{
	free(container_of(w, struct rate_worker, w)->v);
}

static const struct crew_ops rate_ops = {
	.worker_size = sizeof(struct rate_worker),
	.start = rate_start,
	.phase = rate_phase,
	.progress = rate_progress,
	.fini = rate_fini,
};

static int rate_report(struct crew *c)
{
	static const char *const words[] = { "fin", "rst", "wait" };
	struct tally t = crew_tally(c);
	struct hist *h = calloc(1, sizeof(*h));
	json_t *o = report_new(c);
	unsigned int i;

	if (!h)
		return EXIT_FAILED;
	report_u64(o, "clients", c->opt->clients);
	report_u64(o, "size_bytes", c->opt->size);
	json_object_set_new(o, "close", json_string(words[c->opt->close]));
	report_u64(o, "connections", t.ops);
	report_real(o, "connections_per_s",
		    crew_seconds(c) > 0 ? (double)t.ops / crew_seconds(c) : 0);
	report_u64(o, "failures", t.lost + t.connect_failed);
	report_failures(o, &t);
	crew_latency(c, h);
	json_object_set_new(o, "latency_us", hist_json(h, 1e3));
	memset(h, 0, sizeof(*h));
	for (i = 0; i < c->nr_workers; i++)
		hist_merge(h, &container_of(c->workers[i], struct rate_worker, w)->connect);
	json_object_set_new(o, "connect_us", hist_json(h, 1e3));
	free(h);
	report_cpu(o, c, "cpu_us_per_connection", (double)t.ops);
	return report_finish(c, o, t.ops && !t.lost && !t.connect_failed);
}

int verb_connrate(struct bench_options *opt)
{
	struct crew c = { .opt = opt, .ops = &rate_ops, .total = opt->clients };
	int err, ret = EXIT_FAILED;

	c.ready_text = strdup("ready\n");
	err = crew_run(&c);
	if (!err)
		ret = rate_report(&c);
	else if (err == -ESRCH)
		ret = EXIT_USAGE;
	crew_fini(&c);
	return ret;
}
