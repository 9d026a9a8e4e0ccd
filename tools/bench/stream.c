// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cman-bench stream: many verified two-way streams, meant to run while what lies between them
 * and the echo server is replaced. The sessions are those of session.c; this file is the report.
 * All is well when no session was lost, none could not be opened and no byte was wrong or
 * missing.
 */
#include "bench.h"

#include <stdlib.h>

static void report_gaps(json_t *o, const struct crew *c, const struct session_totals *st)
{
	json_object_set_new(o, "gap_session_ms", hist_json(&st->gap_session, 1e6));
	json_object_set_new(o, "gap_chunk_ms", hist_json(&st->gap_chunk, 1e6));
	report_u64(o, "gap_max_session", st->gap_max_session);
	report_real(o, "gap_max_at_s",
		    st->gap_max_at > c->t_start ? (double)(st->gap_max_at - c->t_start) / 1e9 : 0);
}

static int stream_report(struct crew *c, const struct session_totals *st)
{
	const struct bench_options *opt = c->opt;
	struct tally t = crew_tally(c);
	uint64_t broken = t.lost + t.connect_failed;
	json_t *o = report_new(c), *half;
	bool ok;

	report_u64(o, "seed", opt->seed);
	report_u64(o, "sessions", c->total);
	report_u64(o, "alive", c->total > broken ? c->total - broken : 0);
	report_u64(o, "lost", t.lost);
	report_u64(o, "connect_failures", t.connect_failed);
	report_u64(o, "reconnects", t.reconnects);
	report_failures(o, &t);
	report_u64(o, "bytes_sent", t.sent);
	report_u64(o, "bytes_verified", t.verified);
	report_u64(o, "bytes_missing", st->missing);
	report_u64(o, "chunks_verified", st->chunks);
	report_u64(o, "sends_skipped", t.skipped);
	report_gaps(o, c, st);
	report_u64(o, "slow_sessions", opt->slow);
	report_u64(o, "idle_sessions", opt->idle);
	half = json_object();
	report_u64(half, "sessions", st->half_closed);
	report_u64(half, "completed", st->half_completed);
	report_u64(half, "open_at_end", st->half_open);
	report_u64(half, "bytes_sent", t.held_sent);
	report_u64(half, "bytes_verified", t.held_verified);
	report_u64(half, "server_wrong_bytes", st->server_wrong);
	json_object_set_new(o, "half_close", half);
	report_cpu(o, c, "cpu_s_per_gb", (double)(t.sent + t.verified) / 1e9);
	ok = !broken && !t.wrong && !st->missing && !st->server_wrong;
	return report_finish(c, o, ok);
}

int verb_stream(struct bench_options *opt)
{
	struct session_totals *st = malloc(sizeof(*st));
	struct crew c = { .opt = opt };
	int err, ret;

	if (!st)
		return EXIT_FAILED;
	err = sessions_run(&c);
	if (err) {
		ret = err == -EINVAL || err == -ESRCH ? EXIT_USAGE : EXIT_FAILED;
	} else {
		sessions_totals(&c, st);
		ret = stream_report(&c, st);
	}
	free(st);
	crew_fini(&c);
	return ret;
}
