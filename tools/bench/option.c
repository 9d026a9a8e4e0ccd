// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Typed setters of options: one function turns the text of an option into its field of struct
 * bench_options, checks its range and names the valid words on a mistake. The table that says which
 * options exist is in main.c; nothing here knows a verb.
 */
#include "bench.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void complain(const char *fmt, ...)
{
	va_list ap;

	fputs("cman-bench: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static int parse_number(const char *text, char **ret_rest, uint64_t *ret)
{
	unsigned long long v;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(text, ret_rest, 10);
	if (errno)
		return -errno;
	*ret = v;
	return 0;
}

static int parse_bytes(const char *text, uint64_t *ret)
{
	static const char suffixes[] = "kmgt";
	const char *hit;
	unsigned int shift;
	uint64_t v;
	char *rest;
	int err;

	err = parse_number(text, &rest, &v);
	if (err)
		return err;
	if (*rest) {
		hit = strchr(suffixes, *rest | 0x20);
		if (!hit || rest[1])
			return -EINVAL;
		shift = 10 * ((unsigned int)(hit - suffixes) + 1);
		if (v > UINT64_MAX >> shift)
			return -ERANGE;
		v <<= shift;
	}
	*ret = v;
	return 0;
}

/* A number with a fraction in the option's unit, or with the unit written after it. */
static int parse_time(const char *text, uint64_t unit, uint64_t *ret_ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {
		{ "us", NSEC_PER_USEC },    { "ms", NSEC_PER_MSEC },	  { "s", NSEC_PER_SEC },
		{ "m", 60 * NSEC_PER_SEC }, { "h", 3600 * NSEC_PER_SEC },
	};
	double v;
	char *rest;
	size_t i;

	if ((*text < '0' || *text > '9') && *text != '.')
		return -EINVAL;
	v = strtod(text, &rest);
	if (*rest) {
		for (i = 0; i < ARRAY_SIZE(units); i++) {
			if (!strcmp(rest, units[i].name))
				break;
		}
		if (i == ARRAY_SIZE(units))
			return -EINVAL;
		unit = units[i].ns;
	}
	v *= (double)unit;
	if (!(v >= 0 && v < 9e18))
		return -ERANGE;
	*ret_ns = (uint64_t)v;
	return 0;
}

static int add_address(struct address_list *list, const char *text, bool with_port)
{
	struct address a, *v;
	int err;

	err = address_parse(text, with_port, &a);
	if (err)
		return err;
	v = reallocarray(list->v, list->nr + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v[list->nr++] = a;
	list->v = v;
	return 0;
}

static int add_pids(struct pid_list *list, const char *text)
{
	uint64_t n;
	char *rest;
	pid_t *v;

	do {
		if (parse_number(text, &rest, &n) || !n || n > INT32_MAX || (*rest && *rest != ','))
			return -EINVAL;
		v = reallocarray(list->v, list->nr + 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		v[list->nr++] = (pid_t)n;
		list->v = v;
		text = rest + 1;
	} while (*rest);
	return 0;
}

static int find_word(const char *const *words, const char *text, uint64_t *ret)
{
	uint64_t i;

	for (i = 0; words[i]; i++) {
		if (!strcmp(words[i], text)) {
			*ret = i;
			return 0;
		}
	}
	return -EINVAL;
}

static const char *expected(enum opt_type type)
{
	switch (type) {
	case OPT_COUNT:
	case OPT_FD:
		return "a whole number";
	case OPT_BYTES:
		return "a number of bytes such as 1024, 64k or 1m";
	case OPT_SECONDS:
		return "seconds such as 10, 0.5, 250ms or 2m";
	case OPT_MSEC:
		return "milliseconds such as 25, 0.5 or 2s";
	case OPT_ADDRESS:
		return "ADDRESS:PORT such as 127.0.0.1:5432 or [::1]:5432";
	case OPT_SOURCE:
		return "an address without a port, such as 127.0.0.2 or ::1";
	case OPT_PIDS:
		return "process ids such as 12 or 12,13";
	default:
		return "a value";
	}
}

static void complain_value(const struct option_def *def, const char *value)
{
	const char *const *w;

	if (def->type != OPT_WORD) {
		complain("--%s: '%s' is not %s", def->name, value, expected(def->type));
		return;
	}
	fprintf(stderr, "cman-bench: --%s: '%s' is not one of", def->name, value);
	for (w = def->words; *w; w++)
		fprintf(stderr, "%s %s", w == def->words ? "" : ",", *w);
	fputc('\n', stderr);
}

int option_set(struct bench_options *opt, const struct option_def *def, const char *value)
{
	void *field = (char *)opt + def->offset;
	uint64_t v = 0;
	char *rest;
	int err = 0;

	switch (def->type) {
	case OPT_FLAG:
		*(bool *)field = true;
		return 0;
	case OPT_PATH:
	case OPT_TEXT:
		if (!*value) {
			complain("--%s: an empty %s", def->name,
				 def->type == OPT_PATH ? "path" : "text");
			return -EINVAL;
		}
		*(const char **)field = value;
		return 0;
	case OPT_ADDRESS:
	case OPT_SOURCE:
		err = add_address(field, value, def->type == OPT_ADDRESS);
		break;
	case OPT_PIDS:
		err = add_pids(field, value);
		break;
	case OPT_WORD:
		err = find_word(def->words, value, &v);
		break;
	case OPT_COUNT:
	case OPT_FD:
		err = parse_number(value, &rest, &v);
		if (!err && *rest)
			err = -EINVAL;
		break;
	case OPT_BYTES:
		err = parse_bytes(value, &v);
		break;
	case OPT_SECONDS:
		err = parse_time(value, NSEC_PER_SEC, &v);
		break;
	case OPT_MSEC:
		err = parse_time(value, NSEC_PER_MSEC, &v);
		break;
	}
	if (err) {
		complain_value(def, value);
		return err;
	}
	if (def->type == OPT_ADDRESS || def->type == OPT_SOURCE || def->type == OPT_PIDS)
		return 0;
	if (v < def->min || (def->max && v > def->max)) {
		bool is_time = def->type == OPT_SECONDS || def->type == OPT_MSEC;
		double unit = def->type == OPT_SECONDS ? 1e9 : is_time ? 1e6 : 1;

		complain("--%s: %s is out of range (%.15g to %.15g)", def->name, value,
			 (double)def->min / unit, (double)def->max / unit);
		return -ERANGE;
	}
	if (def->type == OPT_FD)
		*(int64_t *)field = (int64_t)v;
	else
		*(uint64_t *)field = v;
	return 0;
}

void options_release(struct bench_options *opt)
{
	free(opt->connect.v);
	free(opt->hold_connect.v);
	free(opt->listen.v);
	free(opt->source.v);
	free(opt->cpu_of.v);
	tls_context_free(opt->tls_context);
}
