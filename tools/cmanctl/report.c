/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the migration report as people read it, and what it means as an exit code: 0 all moved; 3
 * some sessions stay with the old instance, each with its reason; 1 sessions were lost.
 */
#include "cmanctl.h"

#include <stdlib.h>
#include <string.h>

static const struct table_column left_columns[] = {
	{ .title = "SESSION", .key = "id", .whole = true },
	{ .title = "STAYS BECAUSE", .key = "reason" },
	{ 0 },
};

/* "failed" is a count; a release that only says yes or why means one failure */
static json_int_t failures(const json_t *report)
{
	const json_t *failed = json_object_get(report, "failed");

	if (json_is_array(failed))
		return (json_int_t)json_array_size(failed);
	if (json_is_string(failed))
		return json_string_length(failed) > 0;
	return json_is_true(failed) ? 1 : ctl_int(report, "failed");
}

static void print_who(const struct ctl *c, const json_t *report)
{
	json_int_t moved = ctl_int(report, "moved");
	char took[TABLE_FORMAT], p50[TABLE_FORMAT], p99[TABLE_FORMAT], max[TABLE_FORMAT];
	char gap[TABLE_FORMAT * 4] = "";
	bool exited = json_is_true(json_object_get(json_object_get(report, "old"), "exited"));
	char old[80];

	if (moved)
		snprintf(gap, sizeof(gap), " gap p50 %s, p99 %s, max %s;",
			 format_duration((uint64_t)ctl_int(report, "blackout_us.p50"), p50),
			 format_duration((uint64_t)ctl_int(report, "blackout_us.p99"), p99),
			 format_duration((uint64_t)ctl_int(report, "blackout_us.max"), max));
	if (json_object_get(report, "to"))
		snprintf(old, sizeof(old), "%s has the addresses now", ctl_str(report, "to"));
	else if (exited)
		snprintf(old, sizeof(old), "the old process has exited");
	else
		snprintf(old, sizeof(old),
			 "the old process (pid %" JSON_INTEGER_FORMAT ") still runs",
			 ctl_int(report, "old.pid"));
	ctl_say(c,
		"moved %" JSON_INTEGER_FORMAT " session%s from %s (pid %" JSON_INTEGER_FORMAT
		") to %s (pid %" JSON_INTEGER_FORMAT ") in %s via %s;%s %" JSON_INTEGER_FORMAT
		" new connection%s refused; %s",
		moved, ctl_s(moved), ctl_str(report, "old.version"), ctl_int(report, "old.pid"),
		ctl_str(report, "new.version"), ctl_int(report, "new.pid"),
		format_duration((uint64_t)ctl_int(report, "duration_ms") * 1000, took),
		ctl_str(report, "via"), gap, ctl_int(report, "new_connections_refused"),
		ctl_s(ctl_int(report, "new_connections_refused")), old);
}

enum ctl_exit ctl_report(struct ctl *c, const json_t *report)
{
	const json_t *left = json_object_get(report, "left");
	json_int_t lost = failures(report), nleft = (json_int_t)json_array_size(left);
	bool exited = json_is_true(json_object_get(json_object_get(report, "old"), "exited"));

	if (c->json)
		ctl_print_json(c, report);
	print_who(c, report);
	if (nleft && (exited || json_object_get(report, "to")))
		ctl_say(c, "%" JSON_INTEGER_FORMAT " session%s did not move:", nleft, ctl_s(nleft));
	else if (nleft)
		ctl_say(c,
			"%" JSON_INTEGER_FORMAT
			" session%s did not move yet (see cmanctl -c %s_old status):",
			nleft, ctl_s(nleft), ctl_str(report, "instance"));
	if (nleft && !c->quiet && !c->json)
		table_print_json(left_columns, left, stdout, ctl_columns(stdout));
	if (lost)
		ctl_warn("%" JSON_INTEGER_FORMAT " session%s failed: see 'cmanctl show events'",
			 lost, ctl_s(lost));
	return lost ? CTL_FAILED : nleft ? CTL_PART : CTL_DONE;
}
