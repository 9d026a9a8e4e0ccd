/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the verb migrate: its three forms are to run a migration (start.c does it), to ask what
 * could move (--check, which changes nothing) and to stop a running one (--cancel).
 */
#include "cmanctl.h"

#include <stdlib.h>
#include <string.h>

static const struct table_column check_columns[] = {
	{ .title = "SESSION", .key = "id", .whole = true },
	{ .title = "SERVICE", .key = "service" },
	{ .title = "MOVES", .key = "can_move", .kind = TABLE_YESNO },
	{ .title = "REASON", .key = "reason", .if_any = true },
	{ 0 },
};

static enum ctl_exit check(struct ctl *c)
{
	json_t *result _cleanup_json_ = NULL;
	json_int_t can, cannot;
	enum ctl_exit code;

	code = ctl_ask_and_print(c,
				 json_pack("{s:s, s:s*}", "command", "migrate-check", "via",
					   ctl_given(c, OPT_VIA) ? c->value[OPT_VIA] : NULL),
				 &result);
	if (code)
		return code;
	can = ctl_int(result, "can_move");
	cannot = ctl_int(result, "cannot");
	if (!c->json && !c->quiet && can + cannot)
		table_print_json(check_columns, json_object_get(result, "sessions"), stdout,
				 ctl_columns(stdout));
	ctl_say(c,
		"%" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " session%s can move (via %s)",
		can, can + cannot, ctl_s(can + cannot), ctl_str(result, "via"));
	return cannot ? CTL_PART : CTL_DONE;
}

/* To another host: the running instance does it, and goes on without what has moved. */
static enum ctl_exit move_to(struct ctl *c)
{
	json_t *report _cleanup_json_ = NULL, *request;
	enum ctl_exit code;

	if (ctl_given(c, OPT_VIA) && !strcmp(c->value[OPT_VIA], "fd"))
		return ctl_usage(c, "--via fd: sessions move to another host by repair");
	request = json_pack("{s:s, s:s, s:s*}", "command", "migrate-to", "peer", c->value[OPT_TO],
			    "service", ctl_given(c, OPT_SERVICE) ? c->value[OPT_SERVICE] : NULL);
	if (ctl_given(c, OPT_TIMEOUT))
		json_object_set_new(request, "timeout_s",
				    json_integer(strtoll(c->value[OPT_TIMEOUT], NULL, 10)));
	code = ctl_ask(c, request, &report);
	return code ? code : ctl_report(c, report);
}

static enum ctl_exit cancel(struct ctl *c)
{
	json_t *result _cleanup_json_ = NULL;
	enum ctl_exit code;

	code = ctl_ask_and_print(c,
				 json_pack("{s:s, s:b}", "command", "migrate-cancel", "rollback",
					   ctl_given(c, OPT_ROLLBACK)),
				 &result);
	if (!code)
		ctl_say(c,
			"the migration is stopped: %" JSON_INTEGER_FORMAT
			" sessions are with the new instance, %" JSON_INTEGER_FORMAT
			" with the old one",
			ctl_int(result, "moved"), ctl_int(result, "left"));
	return code;
}

enum ctl_exit ctl_verb_migrate(struct ctl *c)
{
	if (ctl_given(c, OPT_CANCEL) && ctl_given(c, OPT_VIA))
		return ctl_usage(c, "--via and --cancel exclude each other");
	if (ctl_given(c, OPT_TIMEOUT) && (ctl_given(c, OPT_CANCEL) || ctl_given(c, OPT_CHECK)))
		return ctl_usage(c, "--timeout and --%s exclude each other",
				 ctl_given(c, OPT_CANCEL) ? "cancel" : "check");
	if (ctl_given(c, OPT_CHECK))
		return check(c);
	if (ctl_given(c, OPT_SERVICE) && !ctl_given(c, OPT_TO))
		return ctl_usage(c, "--service needs --to PEER");
	if (ctl_given(c, OPT_TO))
		return move_to(c);
	if (ctl_given(c, OPT_CANCEL))
		return cancel(c);
	return ctl_migrate(c);
}
