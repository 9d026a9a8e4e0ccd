/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the verbs that act on services and sessions of a running instance: suspend and resume (new
 * connections wait), close (sessions end). Closing by service or source asks first.
 */
#include "cmanctl.h"

#include <ctype.h>
#include <string.h>

#define ID_DIGITS 16

static enum ctl_exit suspend_or_resume(struct ctl *c, const char *command, const char *done)
{
	json_t *result _cleanup_json_ = NULL, *request, *name;
	enum ctl_exit code;
	size_t i;

	request = json_pack("{s:s}", "command", command);
	if (c->nargs)
		json_object_set_new(request, "service", json_string(c->args[0]));
	code = ctl_ask_and_print(c, request, &result);
	if (code)
		return code;
	json_array_foreach(json_object_get(result, "services"), i, name) {
		ctl_say(c, "%s %s", json_string_value(name) ?: "-", done);
	}
	return CTL_DONE;
}

enum ctl_exit ctl_verb_suspend(struct ctl *c)
{
	return suspend_or_resume(c, "suspend", "is suspended: new connections wait");
}

enum ctl_exit ctl_verb_resume(struct ctl *c)
{
	return suspend_or_resume(c, "resume", "is open");
}

/* Leading zeros may be left out; 0x may stand. */
static enum ctl_exit add_id(struct ctl *c, json_t *ids, const char *text)
{
	const char *digits = text + (!strncmp(text, "0x", 2) ? 2 : 0);
	size_t n = strlen(digits);
	char id[ID_DIGITS + 1];

	if (!n || n > ID_DIGITS || strspn(digits, "0123456789abcdefABCDEF") != n)
		return ctl_usage(
			c,
			"\"%s\" is not a session id: expected up to %d hexadecimal digits, as "
			"'cmanctl show sessions' shows them",
			text, ID_DIGITS);
	snprintf(id, sizeof(id), "%.*s", (int)(ID_DIGITS - n), "0000000000000000");
	strcat(id, digits);
	for (char *p = id; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	json_array_append_new(ids, json_string(id));
	return CTL_DONE;
}

/* How many sessions the filter of @request means now; then the question. */
static enum ctl_exit confirm(struct ctl *c, const char *name, const char *value)
{
	json_t *sessions _cleanup_json_ = NULL;
	enum ctl_exit code;
	json_int_t n;

	if (c->yes)
		return CTL_DONE;
	code = ctl_ask(
		c, json_pack("{s:s, s:s, s:s}", "command", "show", "what", "sessions", name, value),
		&sessions);
	n = (json_int_t)json_array_size(sessions);
	if (code || !n)
		return code;
	return ctl_confirm(c, "%" JSON_INTEGER_FORMAT " session%s of %s %s will be closed", n,
			   ctl_s(n), name, value);
}

static enum ctl_exit make_request(struct ctl *c, json_t *request)
{
	enum ctl_opt id = ctl_given(c, OPT_SERVICE) ? OPT_SERVICE : OPT_SOURCE;
	const char *name = id == OPT_SERVICE ? "service" : "source";
	enum ctl_exit code = CTL_DONE;
	json_t *ids;

	if (ctl_given(c, id)) {
		code = confirm(c, name, c->value[id]);
		json_object_set_new(request, name, json_string(c->value[id]));
		return code;
	}
	ids = json_array();
	for (unsigned int i = 0; i < c->nargs && !code; i++)
		code = add_id(c, ids, c->args[i]);
	json_object_set_new(request, "sessions", ids);
	return code;
}

enum ctl_exit ctl_verb_close(struct ctl *c)
{
	json_t *result _cleanup_json_ = NULL, *id, *request;
	const json_t *unknown;
	json_int_t closed;
	enum ctl_exit code;
	size_t i;

	request = json_pack("{s:s}", "command", "close");
	code = make_request(c, request);
	if (code) {
		json_decref(request);
		return code;
	}
	code = ctl_ask_and_print(c, request, &result);
	if (code)
		return code;
	closed = ctl_int(result, "closed");
	ctl_say(c, "%" JSON_INTEGER_FORMAT " session%s closed", closed, ctl_s(closed));
	unknown = json_object_get(result, "unknown");
	json_array_foreach(unknown, i, id) {
		ctl_warn("no session %s", json_string_value(id) ?: "-");
	}
	if (!json_array_size(unknown))
		return CTL_DONE;
	return closed ? CTL_PART : CTL_FAILED;
}
