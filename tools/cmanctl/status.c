/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the verb status: one instance in a few lines.
 */
#include "cmanctl.h"

static void line(const char *name, const char *value)
{
	printf("%-12s  %s\n", name, value);
}

static void number(const json_t *status, const char *key)
{
	if (json_object_get(status, key))
		printf("%-12s  %" JSON_INTEGER_FORMAT "\n", key, ctl_int(status, key));
}

enum ctl_exit ctl_verb_status(struct ctl *c)
{
	json_t *status _cleanup_json_ = NULL;
	const json_t *migration;
	char age[TABLE_FORMAT];
	enum ctl_exit code;

	code = ctl_ask_and_print(c, json_pack("{s:s}", "command", "status"), &status);
	if (code || c->json)
		return code;
	line("instance", ctl_str(status, "instance"));
	line("state", ctl_str(status, "state"));
	line("role", ctl_str(status, "role"));
	line("version", ctl_str(status, "version"));
	number(status, "pid");
	line("uptime", format_age((uint64_t)ctl_int(status, "uptime_s"), age));
	printf("%-12s  %" JSON_INTEGER_FORMAT, "sessions", ctl_int(status, "sessions"));
	if (json_object_get(status, "max_sessions"))
		printf(" of at most %" JSON_INTEGER_FORMAT, ctl_int(status, "max_sessions"));
	putchar('\n');
	number(status, "gateways");
	number(status, "accepted");
	number(status, "refused");
	migration = json_object_get(status, "migration");
	if (json_is_object(migration))
		printf("%-12s  %s: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT
		       " sessions moved, %" JSON_INTEGER_FORMAT " left\n",
		       "migration", ctl_str(migration, "phase"), ctl_int(migration, "moved"),
		       ctl_int(migration, "total"), ctl_int(migration, "left"));
	return CTL_DONE;
}
