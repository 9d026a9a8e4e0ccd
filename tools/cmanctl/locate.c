/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the way from -f FILE and -c ALIAS to the socket of an instance: RUN_DIR/ALIAS.sock. The old
 * instance of a migration, ALIAS_old, has the configuration of ALIAS. What starts a program demands
 * a valid file. Commands to a running instance must work also while somebody edits the file: then
 * aliases and run_dirs are picked out of it word by word, with a warning.
 */
#include "cmanctl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "usr/sys/conf.h"

#define OLD	 "_old"
#define MAX_SCAN (1 << 20)

/* One instance as the scan of a broken file sees it. */
struct scanned {
	char alias[CMAN_NAME_LEN + 8];
	char run_dir[256];
	unsigned int count; /* instances that the alias may mean */
	bool exact;
};

/* "cman1_old" is the old instance of "cman1" */
static bool is_old_of(const char *alias, const char *name)
{
	size_t n = strlen(name);

	return !strncmp(alias, name, n) && !strcmp(alias + n, OLD);
}

static enum ctl_exit set_socket(struct ctl *c, const char *run_dir, const char *alias)
{
	snprintf(c->alias, sizeof(c->alias), "%s", alias);
	free(c->socket);
	if (asprintf(&c->socket, "%s/%s.sock", run_dir, alias) < 0) {
		c->socket = NULL;
		return ctl_fail(c, CTL_FAILED, "out of memory");
	}
	return CTL_DONE;
}

static enum ctl_exit pick(struct ctl *c)
{
	const char *alias = c->value[OPT_ALIAS];
	struct cman_conf *conf = c->conf;
	char list[400] = "";
	uint32_t i;

	for (i = 0; i < conf->ninstances; i++) {
		const char *name = conf->instance[i].alias;
		size_t n = strlen(list);

		snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", name);
		if (alias ? !strcmp(alias, name) : conf->ninstances == 1)
			c->instance = &conf->instance[i];
	}
	for (i = 0; alias && !c->instance && i < conf->ninstances; i++) {
		if (is_old_of(alias, conf->instance[i].alias)) {
			c->instance = &conf->instance[i];
			c->old = true;
		}
	}
	if (c->instance)
		return set_socket(c, c->instance->run_dir, alias ?: c->instance->alias);
	if (!conf->ninstances)
		return ctl_fail(c, CTL_USAGE, "%s defines no instance", c->file);
	if (alias)
		return ctl_fail(c, CTL_USAGE, "%s defines no instance \"%s\"; it has: %s", c->file,
				alias, list);
	return ctl_fail(c, CTL_USAGE, "%s defines %u instances (%s): choose one with -c", c->file,
			conf->ninstances, list);
}

enum ctl_exit ctl_load(struct ctl *c)
{
	c->file = c->value[OPT_FILE] ?: CMAN_DEFAULT_CONF;
	if (cman_conf_load(c->file, &c->conf, &c->error) != 0)
		return ctl_fail_at(c, CTL_USAGE, c->error.text);
	return pick(c);
}

/* ---- the scan of a file that cannot be parsed ---- */

/*
 * The next word, string or single character of libconfuse's syntax; comments are skipped. Returns
 * where it ends, NULL at the end of the text.
 */
static const char *next_token(const char *p, char *buf, size_t size, bool *ret_string)
{
	size_t n = 0;
	char quote;

	for (;;) {
		p += strspn(p, " \t\r\n");
		if (*p == '#' || (p[0] == '/' && p[1] == '/')) {
			p += strcspn(p, "\n");
		} else if (p[0] == '/' && p[1] == '*') {
			p = strstr(p + 2, "*/");
			if (!p)
				return NULL;
			p += 2;
		} else {
			break;
		}
	}
	if (!*p)
		return NULL;
	*ret_string = *p == '"' || *p == '\'';
	if (*ret_string) {
		for (quote = *p++; *p && *p != quote; p++) {
			if (*p == '\\' && p[1])
				p++;
			if (n + 1 < size)
				buf[n++] = *p;
		}
		p += *p == quote;
	} else if (isalnum((unsigned char)*p) || *p == '_') {
		for (; isalnum((unsigned char)*p) || strchr("_-.", *p ?: ' '); p++)
			if (n + 1 < size)
				buf[n++] = *p;
	} else {
		buf[n++] = *p++;
	}
	buf[n] = '\0';
	return p;
}

static void scan_found(struct scanned *s, const char *wanted, const char *name, const char *run_dir)
{
	bool exact = wanted && !strcmp(wanted, name);

	if (s->exact || (wanted && !exact && !is_old_of(wanted, name)))
		return;
	s->exact = exact;
	s->count = exact ? 1 : s->count + 1;
	snprintf(s->alias, sizeof(s->alias), "%s", wanted ?: name);
	snprintf(s->run_dir, sizeof(s->run_dir), "%s", run_dir);
}

static void scan(const char *text, const char *wanted, struct scanned *s)
{
	char token[256], before[256] = "", name[CMAN_NAME_LEN] = "";
	char run_dir[256] = CMAN_DEFAULT_RUN_DIR;
	bool in_instance = false, string, value = false;
	int depth = 0;

	while ((text = next_token(text, token, sizeof(token), &string))) {
		if (depth == 0 && !strcmp(before, "instance") && strcmp(token, "{") != 0) {
			snprintf(name, sizeof(name), "%.*s", CMAN_NAME_LEN - 1, token);
			in_instance = true;
			snprintf(run_dir, sizeof(run_dir), "%s", CMAN_DEFAULT_RUN_DIR);
		} else if (value && string && depth == 1 && in_instance) {
			snprintf(run_dir, sizeof(run_dir), "%s", token);
		}
		value = !string && !strcmp(token, "=") && !strcmp(before, "run_dir");
		if (!string && !strcmp(token, "{")) {
			depth++;
		} else if (!string && !strcmp(token, "}") && --depth == 0 && in_instance) {
			scan_found(s, wanted, name, run_dir);
			in_instance = false;
		}
		snprintf(before, sizeof(before), "%s", token);
	}
	if (in_instance) /* the block does not end: that may be the error */
		scan_found(s, wanted, name, run_dir);
}

static char *read_text(const char *file)
{
	FILE *f = fopen(file, "re");
	char *text;
	size_t n;

	if (!f)
		return NULL;
	text = malloc(MAX_SCAN + 1);
	if (text) {
		n = fread(text, 1, MAX_SCAN, f);
		text[n] = '\0';
	}
	fclose(f);
	return text;
}

enum ctl_exit ctl_locate(struct ctl *c)
{
	struct scanned s = { .count = 0 };
	char *text;

	if (c->socket)
		return CTL_DONE;
	c->file = c->value[OPT_FILE] ?: CMAN_DEFAULT_CONF;
	if (cman_conf_load(c->file, &c->conf, &c->error) == 0)
		return pick(c);
	text = read_text(c->file);
	if (text)
		scan(text, c->value[OPT_ALIAS], &s);
	free(text);
	if (s.count != 1)
		return ctl_fail_at(c, CTL_USAGE, c->error.text);
	c->broken = true;
	return set_socket(c, s.run_dir, s.alias);
}
