/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the verb show: for every thing that can be shown the columns of its table. The instance
 * filters; here rows only become lines.
 */
#include "cmanctl.h"

#include <string.h>

static const struct table_column session_columns[] = {
	{ .title = "ID", .key = "id", .whole = true },
	{ .title = "SERVICE", .key = "service" },
	{ .title = "CLIENT", .key = "client" },
	{ .title = "LISTENER", .key = "listener", .drop = 7 },
	{ .title = "SOURCE", .key = "source", .drop = 8 },
	{ .title = "TARGET", .key = "target" },
	{ .title = "STATE", .key = "state" },
	{ .title = "CLIENT TLS", .key = "client_tls", .kind = TABLE_TLS, .drop = 3, .if_any = true },
	{ .title = "SERVER TLS", .key = "server_tls", .kind = TABLE_TLS, .drop = 3, .if_any = true },
	{ .title = "GW", .key = "gateway", .kind = TABLE_NUMBER, .drop = 5 },
	{ .title = "AGE", .key = "age_s", .kind = TABLE_AGE, .drop = 4 },
	{ .title = "IDLE", .key = "idle_s", .kind = TABLE_AGE, .drop = 1 },
	{ .title = "UP", .key = "bytes_up", .kind = TABLE_SIZE, .drop = 2 },
	{ .title = "DOWN", .key = "bytes_down", .kind = TABLE_SIZE, .drop = 2 },
	{ .title = "MOVED", .key = "handovers", .kind = TABLE_NUMBER, .drop = 6 },
	{ 0 },
};

static const struct table_column service_columns[] = {
	{ .title = "NAME", .key = "name" },
	{ .title = "STATE", .key = "state" },
	{ .title = "BALANCE", .key = "balance", .drop = 5 },
	{ .title = "SESSIONS", .key = "sessions", .kind = TABLE_NUMBER },
	{ .title = "STEERED", .key = "steered", .kind = TABLE_NUMBER, .drop = 3 },
	{ .title = "REJECTED", .key = "rejected", .kind = TABLE_NUMBER, .drop = 1 },
	{ .title = "DROPPED", .key = "dropped", .kind = TABLE_NUMBER, .drop = 1 },
	{ .title = "HELD", .key = "held", .kind = TABLE_NUMBER, .drop = 2 },
	{ .title = "NO LISTENER", .key = "no_listener", .kind = TABLE_NUMBER, .drop = 4 },
	{ .title = "LISTENERS", .key = "listeners" },
	{ .title = "TARGETS", .key = "targets", .kind = TABLE_TARGETS },
	{ 0 },
};

static const struct table_column rule_columns[] = {
	{ .title = "NAME", .key = "name" },
	{ .title = "SOURCE", .key = "source" },
	{ .title = "SERVICE", .key = "service" },
	{ .title = "ACTION", .key = "action" },
	{ .title = "MAX IDLE", .key = "max_idle_s", .kind = TABLE_LIMIT },
	{ .title = "MAX SESSIONS", .key = "max_sessions", .kind = TABLE_LIMIT },
	{ .title = "SESSIONS", .key = "sessions", .kind = TABLE_NUMBER },
	{ 0 },
};

static const struct table_column gateway_columns[] = {
	{ .title = "GW", .key = "gateway", .kind = TABLE_NUMBER },
	{ .title = "PID", .key = "pid", .kind = TABLE_NUMBER },
	{ .title = "KEEPERS", .key = "keepers", .drop = 3 },
	{ .title = "SESSIONS", .key = "sessions", .kind = TABLE_NUMBER },
	{ .title = "ACCEPTED", .key = "accepted", .kind = TABLE_NUMBER, .drop = 1 },
	{ .title = "REFUSED", .key = "refused", .kind = TABLE_NUMBER, .drop = 1 },
	{ .title = "CLOSED", .key = "closed", .kind = TABLE_NUMBER, .drop = 4 },
	{ .title = "RESETS", .key = "resets", .kind = TABLE_NUMBER, .drop = 4 },
	{ .title = "UP", .key = "bytes_up", .kind = TABLE_SIZE },
	{ .title = "DOWN", .key = "bytes_down", .kind = TABLE_SIZE },
	{ .title = "BUFFERS", .key = "buffers_used", .kind = TABLE_NUMBER, .drop = 6 },
	{ .title = "PIPES", .key = "pipes_open", .kind = TABLE_NUMBER, .drop = 6 },
	{ .title = "RECOVERIES", .key = "recoveries", .kind = TABLE_NUMBER, .drop = 2 },
	{ .title = "RECOVERED", .key = "recovered", .kind = TABLE_NUMBER, .drop = 5 },
	{ .title = "LOST", .key = "lost", .kind = TABLE_NUMBER },
	{ .title = "LAST us", .key = "last_recovery_us", .kind = TABLE_NUMBER, .drop = 7 },
	{ .title = "NEW GW", .key = "replaced.gateway", .kind = TABLE_NUMBER, .drop = 8 },
	{ .title = "NEW KEEPERS", .key = "replaced.keepers", .kind = TABLE_NUMBER, .drop = 8 },
	{ .title = "BEAT ms", .key = "beat_age_ms", .kind = TABLE_NUMBER, .drop = 5 },
	{ 0 },
};

static const struct table_column parameter_columns[] = {
	{ .title = "NAME", .key = "name" },
	{ .title = "VALUE", .key = "value" },
	{ .title = "UNIT", .key = "unit", .drop = 1 },
	{ .title = "CHANGEABLE", .key = "changeable", .kind = TABLE_YESNO },
	{ 0 },
};

static const struct table_column event_columns[] = {
	{ .title = "TIME", .key = "time", .kind = TABLE_TIME, .drop = 1 },
	{ .title = "LEVEL", .key = "level" },
	{ .title = "TEXT", .key = "text" },
	{ 0 },
};

static const struct table_column version_columns[] = {
	{ .title = "RELEASE", .key = "release" },   { .title = "WIRE", .key = "wire" },
	{ .title = "ABI", .key = "abi" },	    { .title = "KERNEL", .key = "kernel" },
	{ .title = "CARRIERS", .key = "carriers" }, { 0 },
};

static const struct {
	const char *what;
	const struct table_column *columns;
} shows[] = {
	{ "sessions", session_columns },     { "services", service_columns },
	{ "rules", rule_columns },	     { "gateways", gateway_columns },
	{ "parameters", parameter_columns }, { "events", event_columns },
	{ "version", version_columns },
};

static const struct table_column *columns_of(const char *what)
{
	for (size_t i = 0; i < sizeof(shows) / sizeof(shows[0]); i++)
		if (!strcmp(shows[i].what, what))
			return shows[i].columns;
	return NULL; /* a word of main.c that is not here */
}

static enum ctl_exit add_filter(struct ctl *c, json_t *request, enum ctl_opt id, const char *name)
{
	if (!ctl_given(c, id))
		return CTL_DONE;
	if (strcmp(c->args[0], "sessions") != 0)
		return ctl_usage(c, "--%s filters sessions: \"show sessions\", not \"show %s\"",
				 name, c->args[0]);
	json_object_set_new(request, name, json_string(c->value[id]));
	return CTL_DONE;
}

enum ctl_exit ctl_verb_show(struct ctl *c)
{
	const struct table_column *columns = columns_of(c->args[0]);
	json_t *result _cleanup_json_ = NULL, *rows _cleanup_json_ = NULL, *request;
	enum ctl_exit code = CTL_DONE;

	if (!columns)
		return ctl_usage(c, "show %s: unknown", c->args[0]);
	request = json_pack("{s:s, s:s}", "command", "show", "what", c->args[0]);
	code = code ?: add_filter(c, request, OPT_SERVICE, "service");
	code = code ?: add_filter(c, request, OPT_SOURCE, "source");
	code = code ?: add_filter(c, request, OPT_STATE, "state");
	if (code) {
		json_decref(request);
		return code;
	}
	code = ctl_ask_and_print(c, request, &result);
	if (code || c->json)
		return code;
	/* the version is one object, the others are arrays */
	rows = json_is_array(result) ? json_incref(result) : json_pack("[O]", result);
	if (table_print_json(columns, rows, stdout, ctl_columns(stdout)) != 0)
		return ctl_fail(c, CTL_FAILED, "out of memory");
	return CTL_DONE;
}
