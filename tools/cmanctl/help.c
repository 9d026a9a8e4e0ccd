/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns what is made from the tables of main.c for people and shells: `--help`, `help VERB`, the
 * manual's SYNOPSIS, and the bash completion. Also the verbs help, completion and version.
 */
#include "cmanctl.h"

#include <stdlib.h>
#include <string.h>

#include "usr/core/wire.h"

#define HELP_WIDTH 80

/* Words of one paragraph or synopsis, wrapped; what follows the first line is indented. */
struct wrap {
	FILE *out;
	unsigned int column, indent, limit; /* limit 0: one line */
};

static void wrap_word(struct wrap *w, const char *word)
{
	unsigned int len = (unsigned int)strlen(word);

	if (w->limit && w->column > w->indent && w->column + 1 + len > w->limit) {
		fprintf(w->out, "\n%*s", (int)w->indent, "");
		w->column = w->indent;
	} else if (w->column > w->indent || (w->column && !w->limit)) {
		fputc(' ', w->out);
		w->column++;
	}
	fputs(word, w->out);
	w->column += len;
}

static void print_text(FILE *out, const char *text, unsigned int indent)
{
	struct wrap w = { .out = out, .column = indent, .indent = indent, .limit = HELP_WIDTH };
	char word[64];
	size_t n;

	fprintf(out, "%*s", (int)indent, "");
	for (; *text; text += n + strspn(text + n, " ")) {
		n = strcspn(text, " ");
		snprintf(word, sizeof(word), "%.*s", (int)n, text);
		wrap_word(&w, word);
	}
	fputc('\n', out);
}

static void synopsis_option(struct wrap *w, const struct ctl_option *o, bool optional, bool rst)
{
	const char *bold = rst ? "**" : "", *italic = rst ? "*" : "", *open = optional ? "[" : "";
	char word[80];

	if (o->metavar)
		snprintf(word, sizeof(word), "%s%s--%s%s %s%s%s%s", open, bold, o->name, bold,
			 italic, o->metavar, italic, optional ? "]" : "");
	else
		snprintf(word, sizeof(word), "%s%s--%s%s%s", open, bold, o->name, bold,
			 optional ? "]" : "");
	wrap_word(w, word);
}

static void synopsis_name(struct wrap *w, const char *name, bool rst)
{
	char text[200];

	snprintf(text, sizeof(text), rst ? "*%s*" : "%s", name);
	if (rst && name[0] == '[') /* the brackets are not part of the name */
		snprintf(text, sizeof(text), "[*%.*s*]", (int)strlen(name) - 2, name + 1);
	wrap_word(w, text);
}

/* "show sessions|services": the words of a first argument that is one of a few, then the others */
static void synopsis_args(struct wrap *w, const struct ctl_verb *verb, bool rst)
{
	const char *others = strchr(verb->args, ' ');
	char list[200] = "";
	size_t n = 0;

	if (!verb->words) {
		synopsis_name(w, verb->args, rst);
		return;
	}
	for (unsigned int i = 0; verb->words && verb->words[i] && n < sizeof(list); i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s",
				      !i  ? "" :
				      rst ? "\\|" :
					    "|",
				      verb->words[i]);
	wrap_word(w, list);
	if (others)
		synopsis_name(w, others + 1, rst);
}

/* Returns false when the verb has no such form. */
static bool synopsis_form(FILE *out, const struct ctl_verb *verb, uint8_t form, bool rst)
{
	struct wrap w = { .out = out, .indent = 8, .limit = rst ? 0 : HELP_WIDTH };
	const struct ctl_option *o, *lead = NULL;
	char name[64];

	for (o = verb->options; form && o->name && !lead; o++)
		if (o->form == form)
			lead = o;
	if (form && !lead)
		return false;
	snprintf(name, sizeof(name), rst ? "| **cmanctl %s**" : "  cmanctl %s", verb->name);
	fputs(name, out);
	w.column = (unsigned int)strlen(name);
	if (lead)
		synopsis_option(&w, lead, false, rst);
	else if (*verb->args)
		synopsis_args(&w, verb, rst);
	for (o = verb->options; o->name; o++)
		if (o != lead && o->form == form)
			synopsis_option(&w, o, true, rst);
	for (o = verb->options; o->name; o++)
		if (o->form == CTL_ANY_FORM)
			synopsis_option(&w, o, true, rst);
	fputc('\n', out);
	return true;
}

void ctl_print_synopsis(FILE *out, const struct ctl_verb *verb, bool rst)
{
	for (uint8_t form = 0; synopsis_form(out, verb, form, rst); form++)
		;
}

static void print_options(FILE *out, const char *title, const struct ctl_option *o)
{
	char left[64];

	if (!o->name)
		return;
	fprintf(out, "\n%s\n", title);
	for (; o->name; o++) {
		snprintf(left, sizeof(left), o->letter ? "-%c, --%s%s%s" : "%c   --%s%s%s",
			 o->letter ? o->letter : ' ', o->name, o->metavar ? " " : "",
			 o->metavar ?: "");
		fprintf(out, "  %-20s  %s\n", left, o->help);
	}
}

void ctl_print_help(FILE *out, const struct ctl_verb *verb)
{
	fputs("Usage\n", out);
	if (verb) {
		ctl_print_synopsis(out, verb, false);
		fputc('\n', out);
		print_text(out, verb->help, 2);
		if (verb->text) {
			fputc('\n', out);
			print_text(out, verb->text, 2);
		}
		print_options(out, "Options", verb->options);
		print_options(out, "Options of every command", ctl_common);
		return;
	}
	fputs("  cmanctl [OPTIONS] COMMAND [ARGUMENTS] [OPTIONS]\n\nCommands\n", out);
	for (verb = ctl_verbs; verb->name; verb++)
		fprintf(out, "  %-12s  %s\n", verb->name, verb->help);
	print_options(out, "Options of every command", ctl_common);
	fputs("\nExit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 done in part.\n"
	      "'cmanctl help COMMAND' and cmanctl(8) say more.\n",
	      out);
}

enum ctl_exit ctl_verb_help(struct ctl *c)
{
	const struct ctl_verb *verb = c->nargs ? ctl_find_verb(c->args[0]) : NULL;
	const char *words[32], *near;
	unsigned int n = 0;

	if (c->nargs && !verb) {
		for (verb = ctl_verbs; verb->name; verb++)
			words[n++] = verb->name;
		words[n] = NULL;
		near = ctl_nearest(c->args[0], words);
		return ctl_usage(c, "no command \"%s\"%s%s%s: 'cmanctl help' lists all", c->args[0],
				 near ? "; did you mean " : "", near ?: "", near ? "?" : "");
	}
	if (!ctl_given(c, OPT_SYNOPSIS)) {
		ctl_print_help(stdout, verb);
		return CTL_DONE;
	}
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++)
		if (!verb || verb == v)
			ctl_print_synopsis(stdout, v, true);
	return CTL_DONE;
}

enum ctl_exit ctl_verb_version(struct ctl *c)
{
	json_t *doc;

	if (!c->json) {
		puts("cmanctl " CMAN_VERSION);
		return CTL_DONE;
	}
	doc = json_pack("{s:s, s:[i,i]}", "version", CMAN_VERSION, "wire", CMAN_WIRE_MIN,
			CMAN_WIRE_MAX);
	if (!doc)
		return ctl_fail(c, CTL_FAILED, "out of memory");
	ctl_print_json(c, doc);
	json_decref(doc);
	return CTL_DONE;
}

/* ---- bash completion ---- */

/* "-c|--alias": pattern of one option */
static void print_pattern(const struct ctl_option *o, const char *sep)
{
	fputs(sep, stdout);
	if (o->letter)
		printf("-%c | ", o->letter);
	printf("--%s", o->name);
}

static void print_takes_value(void)
{
	const char *sep = "\t\t";
	const struct ctl_option *o;
	uint64_t seen = 0; /* bits of enum ctl_opt */

	for (o = ctl_common; o->name; o++) {
		if (o->metavar) {
			print_pattern(o, sep);
			sep = " | ";
		}
	}
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++) {
		for (o = v->options; o->name; o++) {
			if (!o->metavar || seen & (1ull << o->id))
				continue;
			seen |= 1ull << o->id;
			print_pattern(o, sep);
		}
	}
	puts(") ((i++)) ;;");
}

static void print_values(const struct ctl_option *o, uint64_t *seen)
{
	for (; o->name; o++) {
		if (!o->metavar || *seen & (1ull << o->id))
			continue;
		*seen |= 1ull << o->id;
		print_pattern(o, "\t");
		fputs(") ", stdout);
		if (o->kind == CTL_PATH)
			fputs("mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")", stdout);
		else if (o->kind == CTL_FOLDER)
			fputs("mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")", stdout);
		for (unsigned int i = 0; o->kind == CTL_WORD && o->words[i]; i++)
			printf("%s%s%s", i ? " " : "words='", o->words[i],
			       o->words[i + 1] ? "" : "'");
		puts(o->kind == CTL_WORD			  ? " ;;" :
		     o->kind == CTL_PATH || o->kind == CTL_FOLDER ? "; return ;;" :
								    "return ;;");
	}
}

static void print_verb_names(void)
{
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++)
		printf("%s%s", v == ctl_verbs ? "" : " ", v->name);
}

static void print_verb_words(const struct ctl_verb *v)
{
	printf("\t%s) words='", v->name);
	for (unsigned int i = 0; v->words && v->words[i]; i++)
		printf("%s ", v->words[i]);
	if (v->run == ctl_verb_help) {
		print_verb_names();
		putchar(' ');
	}
	for (const struct ctl_option *o = v->options; o->name; o++)
		printf("--%s ", o->name);
	puts("'\" $common\" ;;");
}

enum ctl_exit ctl_verb_completion(struct ctl *c)
{
	uint64_t seen = 0;

	(void)c;
	puts("# SPDX-License-Identifier: GPL-2.0-or-later\n"
	     "# shellcheck shell=bash\n"
	     "# Completion for cmanctl. Made by `cmanctl completion bash`: do not edit.\n\n"
	     "_cmanctl()\n{\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
	     "\tlocal verb='' words='' i");
	fputs("\tlocal common='", stdout);
	for (const struct ctl_option *o = ctl_common; o->name; o++)
		printf("%s--%s", o == ctl_common ? "" : " ", o->name);
	puts("'\n\n\tCOMPREPLY=()\n"
	     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	     "\t\tcase ${COMP_WORDS[i]} in");
	print_takes_value();
	puts("\t\t-*) ;;\n"
	     "\t\t*) verb=${COMP_WORDS[i]}; break ;;\n"
	     "\t\tesac\n"
	     "\tdone\n"
	     "\tcase $prev in");
	print_values(ctl_common, &seen);
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++)
		print_values(v->options, &seen);
	puts("\tesac\n"
	     "\t[ -n \"$words\" ] || case $verb in");
	fputs("\t'') words='", stdout);
	print_verb_names();
	puts("'\" $common\" ;;");
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++)
		print_verb_words(v);
	puts("\tesac\n"
	     "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	     "}\n"
	     "# -o default: names of files where no word fits\n"
	     "complete -o default -F _cmanctl cmanctl");
	return CTL_DONE;
}
