/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the verb check: validates the configuration and changes nothing. It needs no instance.
 */
#include "cmanctl.h"

#include <stdlib.h>
#include <string.h>

#include "usr/sys/conf.h"

/* The sentence without "FILE:LINE: ", which has members of its own in JSON. */
static const char *sentence(const struct cman_conf_error *e, const char *file)
{
	size_t n = strlen(file);
	const char *p = e->text + n;

	if (strncmp(e->text, file, n) != 0 || *p != ':')
		return e->text;
	p++;
	if (e->line) {
		p += strspn(p, "0123456789");
		p += *p == ':';
	}
	return p + strspn(p, " ");
}

static enum ctl_exit wrong(struct ctl *c)
{
	json_t *doc;

	if (!c->json)
		return ctl_fail_at(c, CTL_USAGE, c->error.text);
	doc = json_pack("{s:b, s:[{s:i, s:s}]}", "ok", 0, "errors", "line", (int)c->error.line,
			"text", sentence(&c->error, c->file));
	if (doc)
		ctl_print_json(c, doc);
	json_decref(doc);
	return ctl_fail_at(c, CTL_USAGE, c->error.text);
}

static void count(char *buf, size_t size, uint32_t n, const char *what)
{
	size_t used = strlen(buf);

	if (n)
		snprintf(buf + used, size - used, "%s%u %s%s", used ? ", " : "", n, what, ctl_s(n));
}

enum ctl_exit ctl_verb_check(struct ctl *c)
{
	uint32_t listeners = 0, services = 0, rules = 0;
	char text[200] = "";
	json_t *doc;

	c->file = c->value[OPT_FILE] ?: CMAN_DEFAULT_CONF;
	if (cman_conf_load(c->file, &c->conf, &c->error) != 0)
		return wrong(c);
	if (ctl_given(c, OPT_ALIAS) && !cman_conf_instance(c->conf, c->value[OPT_ALIAS])) {
		snprintf(c->error.text, sizeof(c->error.text), "%s: no instance \"%s\"", c->file,
			 c->value[OPT_ALIAS]);
		return wrong(c);
	}
	for (uint32_t i = 0; i < c->conf->ninstances; i++) {
		listeners += c->conf->instance[i].nlisteners;
		services += c->conf->instance[i].nservices;
		rules += c->conf->instance[i].nrules;
	}
	count(text, sizeof(text), c->conf->ninstances, "instance");
	count(text, sizeof(text), listeners, "listener");
	count(text, sizeof(text), services, "service");
	count(text, sizeof(text), rules, "rule");
	count(text, sizeof(text), c->conf->nclusters, "cluster");
	ctl_say(c, "%s: OK (%s)", c->file, *text ? text : "empty");
	if (c->json) {
		doc = json_pack("{s:b, s:[]}", "ok", 1, "errors");
		if (doc)
			ctl_print_json(c, doc);
		json_decref(doc);
	}
	return CTL_DONE;
}
