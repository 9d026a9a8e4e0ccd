// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reports: every verb fills one JSON object; with --json it is printed as it is, else as aligned
 * lines, so that the two cannot differ. Also the ready line that lets scripts wait without
 * sleeping. Field names are snake_case with the unit at their end.
 */
#include "bench.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void report_u64(json_t *o, const char *key, uint64_t v)
{
	json_object_set_new(o, key, json_integer((json_int_t)v));
}

void report_real(json_t *o, const char *key, double v)
{
	/* Six digits after the point: what lies below is noise in every unit used here. */
	json_object_set_new(o, key, json_real(isfinite(v) ? round(v * 1e6) / 1e6 : 0));
}

json_t *report_new(const struct crew *c)
{
	json_t *o = json_object();
	json_t *targets = json_array();
	char text[ADDRESS_TEXT];
	uint64_t stood = 0;
	size_t i;

	json_object_set_new(o, "verb", json_string(c->opt->verb->name));
	json_object_set_new(o, "ok", json_false());
	for (i = 0; i < c->opt->connect.nr; i++) {
		address_format(&c->opt->connect.v[i], text, sizeof(text));
		json_array_append_new(targets, json_string(text));
	}
	if (c->opt->connect.nr)
		json_object_set(o, "connect", targets);
	json_decref(targets);
	report_u64(o, "threads", c->nr_workers);
	report_real(o, "duration_s", crew_seconds(c));
	for (i = 0; i < c->nr_workers; i++)
		stood = c->workers[i]->loop.stood > stood ? c->workers[i]->loop.stood : stood;
	report_real(o, "stood_ms", (double)stood / 1e6);
	return o;
}

void report_failures(json_t *o, const struct tally *t)
{
	report_u64(o, "refused", t->fails[FAIL_REFUSED]);
	report_u64(o, "resets", t->fails[FAIL_RESET]);
	report_u64(o, "timeouts", t->fails[FAIL_TIMEOUT]);
	report_u64(o, "early_eofs", t->fails[FAIL_EOF]);
	report_u64(o, "unreachable", t->fails[FAIL_UNREACHABLE]);
	report_u64(o, "local_limits", t->fails[FAIL_LOCAL]);
	report_u64(o, "other_errors", t->fails[FAIL_OTHER]);
	report_u64(o, "wrong_bytes", t->wrong);
}

/* CPU time that the processes of --cpu-of spent between PHASE_RUN and PHASE_STOP. */
void report_cpu(json_t *o, const struct crew *c, const char *per, double units)
{
	double ns;

	if (!c->opt->cpu_of.nr)
		return;
	ns = c->at_stop.cpu_ns > c->at_run.cpu_ns ? (double)(c->at_stop.cpu_ns - c->at_run.cpu_ns) :
						    0;
	report_real(o, "cpu_s", ns / 1e9);
	report_real(o, "cpu_cores", crew_seconds(c) > 0 ? ns / 1e9 / crew_seconds(c) : 0);
	json_object_set_new(o, "cpu_complete",
			    json_boolean(c->at_run.complete && c->at_stop.complete));
	if (!per)
		return;
	if (!strncmp(per, "cpu_us", 6))
		ns /= 1e3;
	else
		ns /= 1e9;
	report_real(o, per, units > 0 ? ns / units : 0);
}

/* Growth from before the first connection to when all were open and had settled. */
void report_memory(json_t *o, const struct crew *c, double sessions)
{
	const struct usage *a = &c->at_start, *b = &c->at_run;

	if (!c->opt->cpu_of.nr)
		return;
	report_u64(o, "rss_before_bytes", a->rss_bytes);
	report_u64(o, "rss_open_bytes", b->rss_bytes);
	report_u64(o, "rss_end_bytes", c->at_stop.rss_bytes);
	report_u64(o, "pss_before_bytes", a->pss_bytes);
	report_u64(o, "pss_open_bytes", b->pss_bytes);
	if (sessions <= 0)
		return;
	report_real(o, "rss_per_session_bytes",
		    ((double)b->rss_bytes - (double)a->rss_bytes) / sessions);
	report_real(o, "pss_per_session_bytes",
		    ((double)b->pss_bytes - (double)a->pss_bytes) / sessions);
}

static void print_value(const char *key, json_t *v)
{
	json_t *detail = json_object_get(v, "detail");
	char *text;

	if (detail) {
		printf("%-28s session %lld at %.3f s: %s: %s\n", key,
		       (long long)json_integer_value(json_object_get(v, "session")),
		       json_real_value(json_object_get(v, "at_s")),
		       json_string_value(json_object_get(v, "reason")), json_string_value(detail));
		return;
	}
	if (json_is_real(v)) {
		printf("%-28s %.3f\n", key, json_real_value(v));
		return;
	}
	if (json_is_string(v)) {
		printf("%-28s %s\n", key, json_string_value(v));
		return;
	}
	text = json_dumps(v, JSON_ENCODE_ANY);
	printf("%-28s %s\n", key, text ? text : "?");
	free(text);
}

static void print_object(const char *prefix, json_t *o)
{
	const char *key;
	char name[128];
	size_t i;
	json_t *v, *e;

	json_object_foreach(o, key, v) {
		snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", key);
		if (json_is_object(v)) {
			print_object(name, v);
		} else if (json_is_array(v)) {
			json_array_foreach(v, i, e)
				print_value(name, e);
		} else {
			print_value(name, v);
		}
	}
}

/* Of all workers; "mixed" when they differ. */
static const char *common(const struct crew *c, size_t offset)
{
	const char *found = NULL;
	unsigned int i;

	for (i = 0; i < c->nr_workers; i++) {
		const char *text = *(const char **)((char *)c->workers[i] + offset);

		if (text && found && strcmp(text, found))
			return "mixed";
		if (text)
			found = text;
	}
	return found;
}

static void report_text(json_t *o, const char *key, const char *text)
{
	json_object_set_new(o, key, text ? json_string(text) : json_null());
}

static void report_tls(json_t *o, const struct crew *c)
{
	struct tally t = crew_tally(c);
	const char *alpn = NULL;
	json_t *tls = json_object();
	unsigned int i;

	for (i = 0; i < c->nr_workers && !alpn; i++) {
		if (*c->workers[i]->tls_alpn)
			alpn = c->workers[i]->tls_alpn;
	}
	report_text(tls, "version", common(c, offsetof(struct worker, tls_version)));
	report_text(tls, "cipher", common(c, offsetof(struct worker, tls_cipher)));
	report_text(tls, "alpn", alpn);
	report_u64(tls, "handshakes", t.tls_handshakes);
	report_u64(tls, "resumed", t.tls_resumed);
	report_u64(tls, "errors", t.tls_errors);
	report_u64(tls, "alerts_received", t.tls_alerts);
	report_u64(tls, "truncated", t.tls_truncated);
	report_u64(tls, "key_updates_sent", t.tls_updates_sent);
	report_u64(tls, "key_updates_received", t.tls_updates_received);
	json_object_set_new(o, "tls", tls);
}

int report_finish(const struct crew *c, json_t *o, bool ok)
{
	if (c->opt->tls)
		report_tls(o, c);
	json_object_set_new(o, "ok", json_boolean(ok));
	if (c->incidents) {
		report_u64(o, "incident_count", c->nr_incidents);
		json_object_set(o, "incidents", c->incidents);
	}
	if (c->opt->json) {
		json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
		putchar('\n');
	} else {
		print_object("", o);
	}
	json_decref(o);
	if (fflush(stdout) || ferror(stdout)) {
		complain("stdout: %m");
		ok = false;
	}
	return ok ? EXIT_VERIFIED : EXIT_FAILED;
}

static int write_all(int fd, const char *text)
{
	size_t len = strlen(text);
	ssize_t n;

	while (len) {
		n = write(fd, text, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The file appears complete or not at all. */
static int write_file(const char *path, const char *text)
{
	char *tmp;
	int fd, err;

	if (asprintf(&tmp, "%s.%d", path, (int)getpid()) < 0)
		return -ENOMEM;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0) {
		err = -errno;
		free(tmp);
		return err;
	}
	err = write_all(fd, text);
	close(fd);
	if (!err && rename(tmp, path) < 0)
		err = -errno;
	if (err)
		unlink(tmp);
	free(tmp);
	return err;
}

/*
 * Where the ready line goes: the file and the descriptor asked for, else stdout for the verbs whose
 * purpose it is (serve, idle) unless stdout carries JSON, else stderr.
 */
int ready_announce(const struct bench_options *opt, const char *text)
{
	bool on_stdout = !opt->json &&
			 (opt->verb->run == verb_serve || opt->verb->run == verb_idle);
	int err = 0;

	if (opt->ready_file) {
		err = write_file(opt->ready_file, text);
		if (err)
			complain("--ready-file %s: %s", opt->ready_file, strerror(-err));
	}
	if (opt->ready_fd >= 0 && !err) {
		err = write_all((int)opt->ready_fd, text);
		if (err)
			complain("--ready-fd %d: %s", (int)opt->ready_fd, strerror(-err));
	}
	if (on_stdout || (!opt->ready_file && opt->ready_fd < 0)) {
		fputs(text, on_stdout ? stdout : stderr);
		fflush(on_stdout ? stdout : stderr);
	}
	return err;
}
