// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cman-bench idle: hold many idle sessions and ask at the end whether all are alive.
 *
 * Every session sends and verifies one chunk when it opens and one at the end (session.c). The
 * memory of the processes named by --cpu-of is read before the first connection and when all are
 * open and have settled for the warm-up time: the difference by the number of sessions is what
 * one costs.
 */
#include "bench.h"

#include <stdlib.h>

static int idle_report(struct crew *c, const struct session_totals *st)
{
	struct tally t = crew_tally(c);
	uint64_t broken = t.lost + t.connect_failed;
	json_t *o = report_new(c);

	report_u64(o, "sessions", c->total);
	report_u64(o, "alive", c->total > broken ? c->total - broken : 0);
	report_u64(o, "lost", t.lost);
	report_u64(o, "connect_failures", t.connect_failed);
	report_failures(o, &t);
	report_u64(o, "bytes_sent", t.sent);
	report_u64(o, "bytes_verified", t.verified);
	report_u64(o, "bytes_missing", st->missing);
	report_real(o, "opened_in_s",
		    c->t_run > c->t_start ? (double)(c->t_run - c->t_start - c->opt->warmup) / 1e9 :
					    0);
	json_object_set_new(o, "echo_ms", hist_json(&st->gap_chunk, 1e6));
	report_memory(o, c, (double)t.opened);
	report_cpu(o, c, NULL, 0);
	return report_finish(c, o, !broken && !t.wrong && !st->missing);
}

int verb_idle(struct bench_options *opt)
{
	struct session_totals *st = malloc(sizeof(*st));
	struct crew c = { .opt = opt, .want_memory = true };
	int err, ret;

	if (!st)
		return EXIT_FAILED;
	opt->idle = opt->sessions;
	opt->sessions = 0;
	err = sessions_run(&c);
	if (err) {
		ret = err == -EINVAL || err == -ESRCH ? EXIT_USAGE : EXIT_FAILED;
	} else {
		sessions_totals(&c, st);
		ret = idle_report(&c, st);
	}
	free(st);
	crew_fini(&c);
	return ret;
}
