/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the verb journal: the outcome log of an instance (usr/sys/journal.h), which is
 * RUN_DIR/ALIAS/journal or the FILE that was named, as a table or as JSON. No instance is asked.
 */
#include "cmanctl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "usr/sys/journal.h"

static const struct table_column columns[] = {
	{ .title = "BATCH", .key = "batch", .whole = true },
	{ .title = "EPOCH", .key = "epoch", .kind = TABLE_NUMBER },
	{ .title = "NUMBER", .key = "number", .kind = TABLE_NUMBER },
	{ .title = "VALUE", .key = "value", .whole = true },
	{ .title = "COUNT", .key = "count", .kind = TABLE_NUMBER },
	{ .title = "TIME", .key = "time", .whole = true },
	{ 0 },
};

struct dump {
	json_t *array;
	int64_t boot_ns; /* of CLOCK_REALTIME, when CLOCK_BOOTTIME began */
};

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

/* ISO 8601, UTC, milliseconds */
static void time_text(int64_t ns, char *buf, size_t size)
{
	time_t seconds = (time_t)(ns / 1000000000);
	char date[32];
	struct tm tm;

	if (ns < 0 || !gmtime_r(&seconds, &tm) ||
	    !strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm))
		snprintf(buf, size, "-");
	else
		snprintf(buf, size, "%s.%03dZ", date, (int)(ns / 1000000 % 1000));
}

static int add_record(void *arg, uint64_t id, enum cman_register value, uint32_t count,
		      uint64_t time_ns)
{
	struct dump *d = arg;
	char batch[20], time[48];
	json_t *record;
	int64_t ns;

	snprintf(batch, sizeof(batch), "%016" PRIx64, id);
	/* a time that no clock of this machine can have shown is "-" */
	if (time_ns > INT64_MAX || __builtin_add_overflow(d->boot_ns, (int64_t)time_ns, &ns))
		ns = -1;
	time_text(ns, time, sizeof(time));
	record = json_pack("{s:s, s:I, s:I, s:s, s:I, s:s}", "batch", batch, "epoch",
			   (json_int_t)(id >> 32), "number", (json_int_t)(id & UINT32_MAX), "value",
			   cman_register_name(value), "count", (json_int_t)count, "time", time);
	return json_array_append_new(d->array, record) ? -ENOMEM : 0;
}

/* RUN_DIR/ALIAS.sock -> RUN_DIR/ALIAS/journal */
static char *default_path(const struct ctl *c)
{
	size_t n = strlen(c->socket) - strlen(".sock");
	char *path;

	return asprintf(&path, "%.*s/journal", (int)n, c->socket) < 0 ? NULL : path;
}

static int read_journal(const char *path, struct dump *d)
{
	struct cman_journal j;
	int err = cman_journal_open_read_only(path, &j);

	if (err)
		return err;
	err = cman_journal_each(&j, add_record, d);
	cman_journal_close(&j);
	return err;
}

static enum ctl_exit say_why(struct ctl *c, const char *path, int err)
{
	switch (err) {
	case -ENOENT:
		return ctl_fail(c, CTL_FAILED,
				"there is no journal %s: the instance has not run, or was shut "
				"down",
				path);
	case -EBADMSG:
		return ctl_fail(c, CTL_FAILED,
				"%s is not a journal, or a damaged one; expected a file "
				"RUN_DIR/ALIAS/journal",
				path);
	default:
		return ctl_fail(c, CTL_FAILED, "cannot read the journal %s: %s", path,
				strerror(-err));
	}
}

enum ctl_exit ctl_verb_journal(struct ctl *c)
{
	struct dump d = { .boot_ns = now_ns(CLOCK_REALTIME) - now_ns(CLOCK_BOOTTIME) };
	enum ctl_exit code = c->nargs > 1 ? CTL_DONE : ctl_locate(c);
	char *path;
	int err;

	if (code)
		return code;
	if (c->broken)
		ctl_warn("%s; going on with %s", c->error.text, c->socket);
	path = c->nargs > 1 ? strdup(c->args[1]) : default_path(c);
	d.array = json_array();
	err = path && d.array ? read_journal(path, &d) : -ENOMEM;
	if (err == -ENOMEM)
		code = ctl_fail(c, CTL_FAILED, "out of memory");
	else if (err)
		code = say_why(c, path, err);
	else if (c->json)
		ctl_print_json(c, d.array);
	else if (table_print_json(columns, d.array, stdout, 0) != 0)
		code = ctl_fail(c, CTL_FAILED, "out of memory");
	json_decref(d.array);
	free(path);
	return code;
}
