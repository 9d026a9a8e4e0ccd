// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The crew: one worker a thread, and the phases that all of them go through.
 *
 *	OPEN -> WARM -> RUN -> STOP -> ABORT
 *
 * Worker 0 alone moves the phase: when every session has settled (established and verified once,
 * or failed), when the clock says so, at SIGTERM or SIGINT (STOP; a second one is ABORT). It
 * samples the CPU time and memory of the processes under test as it enters RUN and STOP, stores
 * the phase and wakes the others through an edge-triggered eventfd that nobody reads.
 */
#include "bench.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAX_INCIDENTS 32

static int wake_fd = -1;
static volatile sig_atomic_t signals_seen;

static void wake_all(void)
{
	uint64_t one = 1;

	if (write(wake_fd, &one, sizeof(one)) < 0)
		return; /* only when 2^64 wakes are pending */
}

static void on_signal(int sig)
{
	int saved = errno;

	(void)sig;
	signals_seen++;
	wake_all();
	errno = saved;
}

static void announce(struct crew *c)
{
	struct tally t = crew_tally(c);
	char line[64];

	snprintf(line, sizeof(line), "ready %llu\n",
		 (unsigned long long)(t.opened - t.lost - t.completed));
	ready_announce(c->opt, c->ready_text ? c->ready_text : line);
}

/* Worker 0: enter a later phase; phases in between are passed through silently. */
static void enter(struct crew *c, enum phase phase)
{
	struct worker *w = c->workers[0];
	enum phase was = (enum phase)atomic_load(&c->phase);

	if (phase <= was)
		return;
	if (was < PHASE_WARM && phase <= PHASE_RUN)
		announce(c);
	if (phase == PHASE_RUN) {
		usage_sample(&c->opt->cpu_of, c->want_memory, &c->at_run);
		c->t_run = now_ns();
	}
	if (phase >= PHASE_STOP && was < PHASE_STOP) {
		c->t_stop = now_ns();
		usage_sample(&c->opt->cpu_of, c->want_memory, &c->at_stop);
	}
	timer_cancel(&w->loop, &c->clock);
	if (phase == PHASE_WARM)
		timer_arm(&w->loop, &c->clock, now_ns() + c->opt->warmup);
	else if (phase == PHASE_RUN && c->opt->duration)
		timer_arm(&w->loop, &c->clock, c->t_run + c->opt->duration);
	else if (phase == PHASE_STOP)
		timer_arm_patient(&w->loop, &c->clock, c->opt->drain_timeout);
	atomic_store(&c->phase, (int)phase);
	wake_all();
}

static void clock_fired(struct loop *l, struct timer *t)
{
	struct crew *c = container_of(t, struct crew, clock);

	(void)l;
	enter(c, (enum phase)(atomic_load(&c->phase) + 1));
}

static void evaluate(struct crew *c)
{
	if (signals_seen >= 2)
		enter(c, PHASE_ABORT);
	else if (signals_seen)
		enter(c, PHASE_STOP);
	if (atomic_load(&c->phase) == PHASE_OPEN && atomic_load(&c->settled) >= c->total)
		enter(c, c->opt->warmup ? PHASE_WARM : PHASE_RUN);
	/* Nobody left to work: the run is over, whatever the clock says. */
	if (atomic_load(&c->done) == c->nr_workers) {
		enter(c, PHASE_STOP);
		c->workers[0]->loop.quit = true;
	}
}

static void woken(struct loop *l, struct io *io, uint32_t events)
{
	struct worker *w = container_of(io, struct worker, wake);
	enum phase phase;

	(void)l;
	(void)events;
	if (!w->index)
		evaluate(w->crew);
	phase = (enum phase)atomic_load(&w->crew->phase);
	while (w->phase < phase) {
		w->phase++;
		if (!w->done && w->crew->ops->phase)
			w->crew->ops->phase(w, w->phase);
	}
}

/* A session is established and verified once, or has failed; each counts once. */
void crew_settled(struct worker *w)
{
	if (atomic_fetch_add(&w->crew->settled, 1) + 1 == w->crew->total)
		wake_all();
}

/* Nothing is left to do for this worker. */
void crew_worker_done(struct worker *w)
{
	if (w->done)
		return;
	w->done = true;
	if (w->index)
		w->loop.quit = true;
	if (atomic_fetch_add(&w->crew->done, 1) + 1 == w->crew->nr_workers)
		wake_all();
}

void crew_incident(struct worker *w, uint64_t session, enum fail why, const char *fmt, ...)
{
	struct crew *c = w->crew;
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&c->lock);
	if (c->nr_incidents++ < MAX_INCIDENTS) {
		json_t *o = json_object();

		report_u64(o, "session", session);
		report_real(o, "at_s", (double)(now_ns() - c->t_start) / 1e9);
		json_object_set_new(o, "reason", json_string(fail_name(why)));
		json_object_set_new(o, "detail", json_string(text));
		json_array_append_new(c->incidents, o);
		if (c->opt->progress)
			complain("session %llu: %s: %s", (unsigned long long)session,
				 fail_name(why), text);
	}
	pthread_mutex_unlock(&c->lock);
}

/* The worker's share of `total` sessions. */
void crew_share(const struct worker *w, uint64_t total, uint64_t *ret_first, uint64_t *ret_nr)
{
	uint64_t n = w->crew->nr_workers;

	*ret_first = total * w->index / n;
	*ret_nr = total * (w->index + 1) / n - *ret_first;
}

struct tally crew_tally(const struct crew *c)
{
	struct tally sum = { 0 };
	uint64_t *to = (uint64_t *)&sum;
	unsigned int i;
	size_t k;

	for (i = 0; i < c->nr_workers; i++) {
		const uint64_t *from = (const uint64_t *)&c->workers[i]->tally;

		for (k = 0; k < sizeof(sum) / sizeof(*to); k++)
			to[k] += __atomic_load_n(&from[k], __ATOMIC_RELAXED);
	}
	return sum;
}

void crew_latency(const struct crew *c, struct hist *ret)
{
	unsigned int i;

	memset(ret, 0, sizeof(*ret));
	for (i = 0; i < c->nr_workers; i++)
		hist_merge(ret, &c->workers[i]->latency);
}

double crew_seconds(const struct crew *c)
{
	return c->t_run && c->t_stop > c->t_run ? (double)(c->t_stop - c->t_run) / 1e9 : 0;
}

static void tick_fired(struct loop *l, struct timer *t)
{
	struct crew *c = container_of(t, struct crew, tick);
	static const char *const names[] = { "open", "warm", "run", "stop", "abort" };
	char text[256] = "";

	if (c->ops->progress)
		c->ops->progress(c, text, sizeof(text));
	fprintf(stderr, "%6.1f s %-5s %s\n", (double)(l->now - c->t_start) / 1e9,
		names[atomic_load(&c->phase)], text);
	timer_arm(l, t, t->due + NSEC_PER_SEC);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	w->err = w->crew->ops->start(w);
	if (!w->err) {
		/* A phase may have been entered before this worker listened for it. */
		woken(&w->loop, &w->wake, 0);
		w->err = loop_run(&w->loop);
	}
	if (w->err) {
		complain("worker %u: %s", w->index, strerror(-w->err));
		crew_worker_done(w);
		if (!w->index) {
			/* Nobody leads any more. */
			atomic_store(&w->crew->phase, PHASE_ABORT);
			wake_all();
		}
	}
	return NULL;
}

static int worker_new(struct crew *c, unsigned int index)
{
	struct worker *w = calloc(1, c->ops->worker_size);
	int err;

	if (!w)
		return -ENOMEM;
	w->crew = c;
	w->opt = c->opt;
	w->index = index;
	w->wake = (struct io){ .fd = wake_fd, .fn = woken };
	w->scratch = malloc(SCRATCH_BYTES);
	if (!w->scratch) {
		free(w);
		return -ENOMEM;
	}
	err = loop_init(&w->loop);
	if (err) {
		free(w->scratch);
		free(w);
		return err;
	}
	c->workers[c->nr_workers++] = w;
	return loop_add(&w->loop, &w->wake, EPOLLIN | EPOLLET);
}

static int crew_init(struct crew *c)
{
	struct sigaction sa = { .sa_handler = on_signal };
	unsigned int i;
	int err;

	pthread_mutex_init(&c->lock, NULL);
	c->incidents = json_array();
	c->clock.fn = clock_fired;
	c->tick.fn = tick_fired;
	wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (wake_fd < 0)
		return -errno;
	c->workers = calloc(c->opt->threads, sizeof(*c->workers));
	if (!c->workers)
		return -ENOMEM;
	for (i = 0; i < c->opt->threads; i++) {
		err = worker_new(c, i);
		if (err)
			return err;
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	return 0;
}

static int spawn(struct crew *c, unsigned int *ret_started)
{
	sigset_t mask, old;
	unsigned int i;
	int err = 0;

	/* Signals are for the main thread, which is worker 0. */
	sigfillset(&mask);
	pthread_sigmask(SIG_BLOCK, &mask, &old);
	for (i = 1; i < c->nr_workers && !err; i++)
		err = -pthread_create(&c->workers[i]->thread, NULL, work, c->workers[i]);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	*ret_started = err ? i - 1 : i;
	return err;
}

/* Runs the verb's callbacks through all phases; the counters can be read afterwards. */
int crew_run(struct crew *c)
{
	unsigned int i, started = 1;
	int err;

	err = crew_init(c);
	if (err)
		return err;
	err = usage_sample(&c->opt->cpu_of, c->want_memory, &c->at_start);
	if (err) {
		complain("--cpu-of: %s", strerror(-err));
		return err;
	}
	c->t_start = now_ns();
	if (c->opt->progress)
		timer_arm(&c->workers[0]->loop, &c->tick, c->t_start + NSEC_PER_SEC);
	err = spawn(c, &started);
	if (err) {
		/* Those that did not start count as done, so that the others come home. */
		complain("threads: %s", strerror(-err));
		for (i = started; i < c->nr_workers; i++)
			crew_worker_done(c->workers[i]);
		signals_seen = 2;
	}
	wake_all();
	work(c->workers[0]);
	for (i = 1; i < started; i++)
		pthread_join(c->workers[i]->thread, NULL);
	c->t_end = now_ns();
	for (i = 0; i < c->nr_workers && !err; i++)
		err = c->workers[i]->err;
	return err;
}

void crew_fini(struct crew *c)
{
	unsigned int i;

	for (i = 0; i < c->nr_workers; i++) {
		if (c->ops->fini)
			c->ops->fini(c->workers[i]);
		tls_forget_session(c->workers[i]);
		loop_fini(&c->workers[i]->loop);
		free(c->workers[i]->scratch);
		free(c->workers[i]);
	}
	free(c->workers);
	free(c->ready_text);
	json_decref(c->incidents);
	pthread_mutex_destroy(&c->lock);
	if (wake_fd >= 0)
		close(wake_fd);
	wake_fd = -1;
}
