/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns what leaves cmanctl besides tables: errors on stderr (and as a JSON document with --json),
 * what was done on stdout, questions on the terminal. Every message goes through here, so that
 * -q, --json and -y mean the same for every verb.
 */
#include "cmanctl.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void ctl_print_json(struct ctl *c, const json_t *doc)
{
	if (c->json_out)
		return;
	c->json_out = true;
	json_dumpf(doc, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
	putchar('\n');
}

static void print_error_json(struct ctl *c, enum ctl_exit code, const char *text)
{
	json_t *doc;

	if (!c->json || c->json_out)
		return;
	doc = json_pack("{s:s, s:i}", "error", text, "code", (int)code);
	if (!doc) /* a name that is not UTF-8 */
		doc = json_pack("{s:s, s:i}", "error", "see stderr", "code", (int)code);
	if (doc)
		ctl_print_json(c, doc);
	json_decref(doc);
}

enum ctl_exit ctl_fail_at(struct ctl *c, enum ctl_exit code, const char *text)
{
	fflush(stdout);
	fprintf(stderr, "%s\n", text);
	print_error_json(c, code, text);
	return code;
}

enum ctl_exit ctl_fail(struct ctl *c, enum ctl_exit code, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fflush(stdout);
	fprintf(stderr, "cmanctl: %s\n", text);
	print_error_json(c, code, text);
	return code;
}

enum ctl_exit ctl_usage(struct ctl *c, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "cmanctl: %s\nsee: cmanctl help%s%s\n", text, c->verb ? " " : "",
		c->verb ? c->verb->name : "");
	print_error_json(c, CTL_USAGE, text);
	return CTL_USAGE;
}

void ctl_warn(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("cmanctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void ctl_say(const struct ctl *c, const char *fmt, ...)
{
	va_list ap;

	if (c->quiet || c->json)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

enum ctl_exit ctl_confirm(struct ctl *c, const char *fmt, ...)
{
	char question[256], answer[16];
	va_list ap;

	if (c->yes)
		return CTL_DONE;
	va_start(ap, fmt);
	vsnprintf(question, sizeof(question), fmt, ap);
	va_end(ap);
	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return ctl_fail(c, CTL_USAGE,
				"%s: this needs a yes, and there is no terminal to ask on: say -y",
				question);
	fprintf(stderr, "%s, go on? [y/N] ", question);
	fflush(stderr);
	if (!fgets(answer, sizeof(answer), stdin))
		fputc('\n', stderr);
	else if (!strcasecmp(answer, "y\n") || !strcasecmp(answer, "yes\n"))
		return CTL_DONE;
	return ctl_fail(c, CTL_FAILED, "nothing was done");
}

unsigned int ctl_columns(FILE *out)
{
	const char *env = getenv("COLUMNS");
	struct winsize ws;
	char *end;
	unsigned long n;

	if (env && *env) {
		n = strtoul(env, &end, 10);
		if (!*end && n > 0 && n < 10000)
			return (unsigned int)n;
	}
	if (isatty(fileno(out)) && ioctl(fileno(out), TIOCGWINSZ, &ws) == 0)
		return ws.ws_col;
	return 0;
}
