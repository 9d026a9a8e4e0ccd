/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the command line: the tables of main.c decide what is valid, so nothing here names a verb
 * or an option but --json. Options may stand before and after the verb; "--" ends them. Every
 * mistake is one sentence with the words that would have been right, and exit code 2.
 */
#include "cmanctl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WORD 32

struct given {
	char text[24]; /* as typed: "--via", "-c" */
	const struct ctl_option *opt;
};

struct parser {
	struct ctl *c;
	int argc, i;
	char **argv;
	struct given given[CTL_NOPTS];
};

/* Optimal string alignment: insertions, deletions, changes and swaps of neighbours. */
static unsigned int distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), i, j;
	unsigned int d[MAX_WORD + 1][MAX_WORD + 1];

	if (la > MAX_WORD || lb > MAX_WORD)
		return MAX_WORD;
	for (i = 0; i <= la; i++)
		d[i][0] = (unsigned int)i;
	for (j = 0; j <= lb; j++)
		d[0][j] = (unsigned int)j;
	for (i = 1; i <= la; i++) {
		for (j = 1; j <= lb; j++) {
			unsigned int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	}
	return d[la][lb];
}

struct nearest {
	const char *text, *word;
	unsigned int distance;
};

static void consider(struct nearest *n, const char *word)
{
	size_t len = strlen(n->text);
	unsigned int d = distance(n->text, word), limit = strlen(word) < 5 ? 1 : 2;

	if (len >= 3 && !strncmp(n->text, word, len))
		d = 1; /* an abbreviation */
	if (d <= limit && (!n->word || d < n->distance)) {
		n->word = word;
		n->distance = d;
	}
}

const char *ctl_nearest(const char *text, const char *const *words)
{
	struct nearest n = { .text = text };

	for (; *words; words++)
		consider(&n, *words);
	return n.word;
}

static const char *nearest_option(const struct ctl_verb *verb, const char *text)
{
	struct nearest n = { .text = text };
	const struct ctl_option *o;

	for (o = verb ? verb->options : ctl_common; o->name; o++)
		consider(&n, o->name);
	for (o = ctl_common; o->name; o++)
		consider(&n, o->name);
	return n.word;
}

/* Appends "sep" and text, bounded. */
static void append(char *buf, size_t size, const char *sep, const char *text)
{
	size_t n = strlen(buf);

	snprintf(buf + n, size - n, "%s%s", n ? sep : "", text);
}

static enum ctl_exit wrong_word(struct ctl *c, const char *what, const char *text,
				const char *const *words)
{
	const char *near = ctl_nearest(text, words);
	char list[400] = "";

	for (; *words; words++)
		append(list, sizeof(list), ", ", *words);
	return ctl_usage(c, "unknown %s \"%s\"%s%s%s; expected: %s", what, text,
			 near ? ": did you mean " : "", near ?: "", near ? "?" : "", list);
}

static enum ctl_exit unknown_verb(struct ctl *c, const char *text)
{
	const char *words[32];
	unsigned int n = 0;

	for (const struct ctl_verb *v = ctl_verbs; v->name; v++)
		words[n++] = v->name;
	words[n] = NULL;
	return wrong_word(c, "command", text, words);
}

static enum ctl_exit unknown_option(struct ctl *c, const char *text)
{
	const char *name = text + strspn(text, "-"), *near = NULL;
	char list[400] = "", word[40];
	const struct ctl_option *o;

	if (text[1] == '-')
		near = nearest_option(c->verb, name);
	for (o = c->verb ? c->verb->options : ctl_common; o->name; o++) {
		snprintf(word, sizeof(word), "--%s", o->name);
		append(list, sizeof(list), " ", word);
	}
	if (c->verb)
		append(list, sizeof(list), " ", "-f -c -j -q -y -h");
	return ctl_usage(c, "%s%sunknown option %s%s%s%s; expected: %s",
			 c->verb ? c->verb->name : "", c->verb ? ": " : "", text,
			 near ? ": did you mean --" : "", near ?: "", near ? "?" : "", list);
}

static const struct ctl_option *find_in(const struct ctl_option *o, const char *name, size_t len,
					char letter)
{
	for (; o->name; o++)
		if (letter ? o->letter == letter :
			     (strlen(o->name) == len && !memcmp(o->name, name, len)))
			return o;
	return NULL;
}

/*
 * Before the verb is known, an option of any verb will do: that it takes a value or not is the same
 * everywhere. settle() looks it up again.
 */
static const struct ctl_option *find_option(const struct ctl_verb *verb, const char *name,
					    size_t len, char letter)
{
	const struct ctl_option *o = find_in(ctl_common, name, len, letter);

	if (o || verb)
		return o ?: find_in(verb->options, name, len, letter);
	for (verb = ctl_verbs; verb->name && !o; verb++)
		o = find_in(verb->options, name, len, letter);
	return o;
}

static bool is_option(const char *arg)
{
	return arg[0] == '-' && arg[1] && !isdigit((unsigned char)arg[1]);
}

/* The verb of a command line that is wrong already, so that the message can name its options. */
static void guess_verb(struct parser *p)
{
	for (; !p->c->verb && p->i < p->argc; p->i++)
		p->c->verb = ctl_find_verb(p->argv[p->i]);
}

static enum ctl_exit store(struct parser *p, const struct ctl_option *o, const char *text,
			   const char *value)
{
	struct ctl *c = p->c;

	if (o->metavar && c->value[o->id])
		return ctl_usage(c, "%s is given twice: \"%s\" and \"%s\"", text, c->value[o->id],
				 value);
	if (o->metavar && !*value)
		return ctl_usage(c, "%s %s: the value is empty", text, o->metavar);
	c->value[o->id] = value;
	p->given[o->id].opt = o;
	snprintf(p->given[o->id].text, sizeof(p->given[o->id].text), "%s", text);
	return CTL_DONE;
}

/* The value that follows as the next argument. */
static enum ctl_exit take_next(struct parser *p, const struct ctl_option *o, const char *text,
			       const char **ret_value)
{
	const char *next = p->i + 1 < p->argc ? p->argv[p->i + 1] : NULL;

	if (!next || is_option(next))
		return ctl_usage(p->c, "%s needs a value: %s %s%s%s%s", text, text, o->metavar,
				 next ? " (\"" : "", next ?: "", next ? "\" is an option)" : "");
	p->i++;
	*ret_value = next;
	return CTL_DONE;
}

static enum ctl_exit parse_long(struct parser *p, char *arg)
{
	char *name = arg + 2, *equals = strchr(name, '=');
	const struct ctl_option *o;
	const char *value = "";
	enum ctl_exit code;

	if (equals)
		*equals = '\0';
	o = find_option(p->c->verb, name, strlen(name), 0);
	if (!o) {
		guess_verb(p);
		return unknown_option(p->c, arg);
	}
	if (!o->metavar && equals)
		return ctl_usage(p->c, "--%s takes no value (\"%s\")", o->name, equals + 1);
	if (o->metavar && equals) {
		value = equals + 1;
	} else if (o->metavar) {
		code = take_next(p, o, arg, &value);
		if (code)
			return code;
	}
	return store(p, o, arg, value);
}

/* "-j", "-jq", "-c cman1", "-ccman1" */
static enum ctl_exit parse_short(struct parser *p, const char *arg)
{
	const struct ctl_option *o;
	const char *value, *l;
	enum ctl_exit code;

	for (l = arg + 1; *l; l++) {
		char text[] = { '-', *l, '\0' };

		o = find_option(p->c->verb, NULL, 0, *l);
		if (!o) {
			guess_verb(p);
			return unknown_option(p->c, text);
		}
		value = "";
		if (o->metavar && l[1])
			value = l + 1;
		else if (o->metavar && (code = take_next(p, o, text, &value)))
			return code;
		code = store(p, o, text, value);
		if (code || o->metavar)
			return code;
	}
	return CTL_DONE;
}

static enum ctl_exit check_number(struct ctl *c, const struct given *g, const char *value)
{
	const struct ctl_option *o = g->opt;
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (!isdigit((unsigned char)*value) || *end)
		return ctl_usage(c, "%s %s: not a number; expected %lu to %lu", g->text, value,
				 o->min, o->max);
	if (errno || n < o->min || n > o->max)
		return ctl_usage(c, "%s %s: out of range; expected %lu to %lu", g->text, value,
				 o->min, o->max);
	c->number[o->id] = n;
	return CTL_DONE;
}

static enum ctl_exit check_value(struct ctl *c, const struct given *g)
{
	const struct ctl_option *o = g->opt;
	const char *value = c->value[o->id], *why, *const * w;
	uint8_t addr[16];
	uint32_t len;

	switch (o->kind) {
	case CTL_NUMBER:
		return check_number(c, g, value);
	case CTL_WORD:
		for (w = o->words; *w; w++)
			if (!strcmp(*w, value))
				return CTL_DONE;
		return wrong_word(c, o->name, value, o->words);
	case CTL_PREFIX:
		if (cman_prefix_parse(value, addr, &len, &why) != 0)
			return ctl_usage(c, "%s %s: %s", g->text, value, why);
		return CTL_DONE;
	case CTL_TEXT:
	case CTL_PATH:
	case CTL_FOLDER:
		break;
	}
	return CTL_DONE;
}

/* The forms: which options exclude each other, and which one another needs. */
static enum ctl_exit check_forms(struct parser *p)
{
	const struct ctl_option *o, *lead = NULL;
	struct ctl *c = p->c;
	uint8_t last = 0;

	for (o = c->verb->options; o->name; o++) {
		bool leads = o->form != CTL_ANY_FORM && o->form > last;

		if (leads)
			last = o->form;
		if (!leads || !c->value[o->id])
			continue;
		if (lead)
			return ctl_usage(c, "--%s and --%s exclude each other", lead->name,
					 o->name);
		lead = o;
	}
	for (o = c->verb->options; o->name; o++) {
		const struct ctl_option *l = c->verb->options;

		if (!c->value[o->id] || o->form == CTL_ANY_FORM ||
		    o->form == (lead ? lead->form : 0))
			continue;
		if (o->form == 0)
			return ctl_usage(c, "--%s and --%s exclude each other", lead->name,
					 o->name);
		while (l->form != o->form)
			l++;
		return ctl_usage(c, "--%s goes only with --%s", o->name, l->name);
	}
	if (lead && c->nargs)
		return ctl_usage(c, "%s takes either %s or --%s, not both (\"%s\")", c->verb->name,
				 *c->verb->args ? c->verb->args : "no argument", lead->name,
				 c->args[0]);
	if (!lead && c->nargs < c->verb->min_args) {
		char list[200] = "";

		for (unsigned int i = 0; c->verb->words && c->verb->words[i]; i++)
			append(list, sizeof(list), ", ", c->verb->words[i]);
		return ctl_usage(c, "%s needs %s%s%s", c->verb->name, c->verb->args,
				 *list ? ": one of " : "", list);
	}
	if (c->nargs > c->verb->max_args)
		return ctl_usage(c, "%s: too many arguments at \"%s\"; it takes %s", c->verb->name,
				 c->args[c->verb->max_args],
				 *c->verb->args ? c->verb->args : "none");
	return CTL_DONE;
}

/* All options are known now, and the verb: everything is looked up in its table. */
static enum ctl_exit settle(struct parser *p)
{
	struct ctl *c = p->c;
	const char *const *w;
	unsigned int id;
	enum ctl_exit code;
	char what[32];

	for (id = 0; id < CTL_NOPTS; id++) {
		struct given *g = &p->given[id];

		if (!g->opt)
			continue;
		g->opt = find_option(c->verb, g->opt->name, strlen(g->opt->name), 0);
		if (!g->opt)
			return unknown_option(c, g->text);
		code = g->opt->metavar ? check_value(c, g) : CTL_DONE;
		if (code)
			return code;
	}
	code = check_forms(p);
	if (code || !c->verb->words || !c->nargs)
		return code;
	for (w = c->verb->words; *w; w++)
		if (!strcmp(*w, c->args[0]))
			return CTL_DONE;
	snprintf(what, sizeof(what), "%.*s", (int)strcspn(c->verb->args, " "), c->verb->args);
	return wrong_word(c, what, c->args[0], c->verb->words);
}

/* --help wins over every mistake, and --json decides how mistakes are told. */
static void look_ahead(struct parser *p)
{
	for (int i = 1; i < p->argc && strcmp(p->argv[i], "--") != 0; i++) {
		const char *arg = p->argv[i];

		if (!strcmp(arg, "-j") || !strcmp(arg, "--json"))
			p->c->json = true;
		if (!strcmp(arg, "-h") || !strcmp(arg, "--help"))
			p->c->value[OPT_HELP] = "";
	}
	if (ctl_given(p->c, OPT_HELP)) {
		p->i = 1;
		guess_verb(p);
	}
}

enum ctl_exit ctl_parse(struct ctl *c, int argc, char **argv)
{
	struct parser p = { .c = c, .argc = argc, .argv = argv };
	enum ctl_exit code = CTL_DONE;
	bool ended = false;

	look_ahead(&p);
	if (ctl_given(c, OPT_HELP))
		return CTL_DONE;
	c->args = calloc((size_t)argc + 1, sizeof(*c->args));
	if (!c->args)
		return ctl_fail(c, CTL_FAILED, "out of memory");

	for (p.i = 1; p.i < argc && !code; p.i++) {
		char *arg = argv[p.i];

		if (!ended && !strcmp(arg, "--")) {
			ended = true;
		} else if (!ended && is_option(arg)) {
			code = arg[1] == '-' ? parse_long(&p, arg) : parse_short(&p, arg);
		} else if (c->verb) {
			c->args[c->nargs++] = arg;
		} else {
			c->verb = ctl_find_verb(arg);
			if (!c->verb)
				code = unknown_verb(c, arg);
		}
	}
	c->json = ctl_given(c, OPT_JSON) || (code && c->json);
	c->quiet = ctl_given(c, OPT_QUIET);
	c->yes = ctl_given(c, OPT_YES);
	if (code || ctl_given(c, OPT_HELP) || ctl_given(c, OPT_VERSION))
		return code;
	if (!c->verb)
		return ctl_usage(c, "no command is given");
	return settle(&p);
}
