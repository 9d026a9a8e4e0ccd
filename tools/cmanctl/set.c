/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the verbs that change how a running instance behaves: set (one parameter) and reload (the
 * whole file, which the instance reads and validates itself).
 */
#include "cmanctl.h"

enum ctl_exit ctl_verb_set(struct ctl *c)
{
	json_t *result _cleanup_json_ = NULL;
	enum ctl_exit code;

	code = ctl_ask_and_print(c,
				 json_pack("{s:s, s:s, s:s}", "command", "set", "parameter",
					   c->args[0], "value", c->args[1]),
				 &result);
	if (!code)
		ctl_say(c, "%s: %s -> %s", ctl_str(result, "parameter"), ctl_str(result, "old"),
			ctl_str(result, "new"));
	return code;
}

enum ctl_exit ctl_verb_reload(struct ctl *c)
{
	json_t *result _cleanup_json_ = NULL, *change;
	const json_t *changes;
	enum ctl_exit code;
	size_t i;

	code = ctl_ask_and_print(c, json_pack("{s:s}", "command", "reload"), &result);
	if (code)
		return code;
	changes = json_object_get(result, "changes");
	json_array_foreach(changes, i, change) {
		ctl_say(c, "%s", json_string_value(change) ?: "-");
	}
	if (!json_array_size(changes))
		ctl_say(c, "nothing has changed");
	return CTL_DONE;
}
