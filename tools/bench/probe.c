// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cman-bench probe: connections at a fixed rate, whether earlier ones are answered or not.
 *
 * The proof that a change of release refuses nobody: connection n is due at start + n / rate,
 * and its latency counts from then, so that a stall of the server (or of this program) shows in
 * every connection that it delayed. Each sends bytes of its own and verifies their echo.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#define MAX_FAIL_DETAILS 16

struct probe_worker {
	struct worker w;
	struct timer next;
	uint64_t t_first, nr_due; /* started so far */
	uint64_t live, live_max;
	struct probe *probes;
};

struct probe {
	struct exchange x; /* first: its io is what the loop frees */
	struct probe *prev, *next;
};

static struct probe_worker *worker_of(struct exchange *x)
{
	return container_of(x->w, struct probe_worker, w);
}

static void probe_free(struct probe_worker *pw, struct probe *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		pw->probes = p->next;
	if (p->next)
		p->next->prev = p->prev;
	pw->live--;
	loop_free_later(&pw->w.loop, &p->x.conn.io);
}

static void probe_done(struct exchange *x, enum fail result)
{
	struct probe_worker *pw = worker_of(x);
	struct tally *t = &pw->w.tally;
	uint64_t end = x->t_verified ? x->t_verified : now_ns(), took = end - x->t_start;

	if (took > pw->w.opt->late)
		tally_add(&t->late, 1);
	if (result) {
		tally_add(&t->fails[result], 1);
		tally_add(x->connected ? &t->lost : &t->connect_failed, 1);
		if (t->lost + t->connect_failed <= MAX_FAIL_DETAILS)
			crew_incident(&pw->w, x->id, result, "%s%s after %.3f ms, %llu bytes back",
				      x->connected ? "connected" : "connecting",
				      x->closing ? ", closing" : "", (double)took / 1e6,
				      (unsigned long long)x->got);
	} else {
		tally_add(&t->completed, 1);
		hist_add(&pw->w.latency, took);
	}
	if (!x->id)
		crew_settled(&pw->w);
	probe_free(pw, container_of(x, struct probe, x));
	if (!pw->live && pw->w.phase >= PHASE_STOP)
		crew_worker_done(&pw->w);
}

static void probe_begin(struct probe_worker *pw, uint64_t due)
{
	struct probe *p = calloc(1, sizeof(*p));

	tally_add(&pw->w.tally.ops, 1);
	if (!p) {
		tally_add(&pw->w.tally.connect_failed, 1);
		tally_add(&pw->w.tally.fails[FAIL_LOCAL], 1);
		return;
	}
	p->x.w = &pw->w;
	p->x.done = probe_done;
	p->x.id = pw->nr_due * pw->w.crew->nr_workers + pw->w.index;
	p->x.t_start = due;
	p->next = pw->probes;
	if (p->next)
		p->next->prev = p;
	pw->probes = p;
	if (++pw->live > pw->live_max)
		pw->live_max = pw->live;
	exchange_start(&p->x);
}

/* Connection n of this worker: workers take turns. */
static uint64_t due_time(const struct probe_worker *pw, uint64_t n)
{
	double k = (double)(n * pw->w.crew->nr_workers + pw->w.index);

	return pw->t_first + (uint64_t)(k * 1e9 / (double)pw->w.opt->rate);
}

static void next_due(struct loop *l, struct timer *t)
{
	struct probe_worker *pw = container_of(t, struct probe_worker, next);
	uint64_t now = now_ns(), due;

	while ((due = due_time(pw, pw->nr_due)) <= now) {
		probe_begin(pw, due);
		pw->nr_due++;
	}
	timer_arm(l, t, due);
}

static int probe_start(struct worker *w)
{
	struct probe_worker *pw = container_of(w, struct probe_worker, w);

	pw->t_first = w->crew->t_start;
	pw->next.fn = next_due;
	return timer_arm(&w->loop, &pw->next, due_time(pw, 0));
}

static void probe_phase(struct worker *w, enum phase phase)
{
	struct probe_worker *pw = container_of(w, struct probe_worker, w);

	if (phase < PHASE_STOP)
		return;
	timer_cancel(&w->loop, &pw->next);
	while (phase == PHASE_ABORT && pw->probes) {
		exchange_abort(&pw->probes->x);
		probe_done(&pw->probes->x, FAIL_TIMEOUT);
	}
	if (!pw->live)
		crew_worker_done(w);
}

static void probe_progress(struct crew *c, char *buf, size_t len)
{
	struct tally t = crew_tally(c);

	snprintf(buf, len, "started %llu ok %llu refused %llu reset %llu timeout %llu late %llu",
		 (unsigned long long)t.ops, (unsigned long long)t.completed,
		 (unsigned long long)t.fails[FAIL_REFUSED], (unsigned long long)t.fails[FAIL_RESET],
		 (unsigned long long)t.fails[FAIL_TIMEOUT], (unsigned long long)t.late);
}

static const struct crew_ops probe_ops = {
	.worker_size = sizeof(struct probe_worker),
	.start = probe_start,
	.phase = probe_phase,
	.progress = probe_progress,
};

static int probe_report(struct crew *c)
{
	struct tally t = crew_tally(c);
	struct hist *h = calloc(1, sizeof(*h));
	json_t *o = report_new(c);
	double span = (double)(c->t_stop - c->t_start) / 1e9;
	uint64_t live_max = 0, failed = t.lost + t.connect_failed;
	unsigned int i;

	if (!h)
		return EXIT_FAILED;
	for (i = 0; i < c->nr_workers; i++)
		live_max += container_of(c->workers[i], struct probe_worker, w)->live_max;
	report_u64(o, "rate_per_s", c->opt->rate);
	report_u64(o, "connections", t.ops);
	report_real(o, "achieved_per_s", span > 0 ? (double)t.ops / span : 0);
	report_u64(o, "verified", t.completed);
	report_u64(o, "failures", failed);
	report_failures(o, &t);
	report_u64(o, "late", t.late);
	report_real(o, "late_ms", (double)c->opt->late / 1e6);
	report_u64(o, "most_at_once", live_max);
	crew_latency(c, h);
	json_object_set_new(o, "latency_us", hist_json(h, 1e3));
	free(h);
	report_cpu(o, c, "cpu_us_per_connection", (double)t.ops);
	if (t.fails[FAIL_LOCAL])
		complain("out of ports or descriptors here: use --close rst or --source");
	return report_finish(c, o, t.ops && !failed);
}

int verb_probe(struct bench_options *opt)
{
	struct crew c = { .opt = opt, .ops = &probe_ops, .total = 1 };
	int err, ret = EXIT_FAILED;

	c.ready_text = strdup("ready\n");
	err = crew_run(&c);
	if (!err)
		ret = probe_report(&c);
	else if (err == -ESRCH)
		ret = EXIT_USAGE;
	crew_fini(&c);
	return ret;
}
