/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loader: a file goes through libconfuse, whose options are made from the grammar (conf_keys.c),
 * and becomes the model of usr/core/config.h, which is then checked (conf_check.c).
 *
 * To libconfuse every value is a pointer to (line, text), made by a callback at the moment when
 * its line counter is right. So each error can name the line of its value; of several errors the
 * one with the lowest line is reported. libconfuse has one global parser: one load at a time.
 */
#include <confuse.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usr/sys/conf.h"
#include "usr/sys/conf_impl.h"

#define LINE_KEY "(line)" /* hidden in every block: no text can name it */

/* Error and value callbacks of libconfuse carry no argument of ours. */
static struct loader *parsing;

/* --- errors: the one with the lowest line is kept */

int cman_conf_fail(struct loader *l, unsigned int line, const char *format, ...)
{
	va_list args;

	if (l->failed && l->error->line <= line)
		return -EINVAL;
	va_start(args, format);
	cman_conf_verror(l->error, l->file, line, format, args);
	va_end(args);
	l->failed = true;
	return -EINVAL;
}

const char *cman_conf_shown(const char *text, char buf[CMAN_CONF_SHOWN_LEN])
{
	size_t i;

	for (i = 0; i < CMAN_CONF_SHOWN_LEN - 4 && text[i]; i++)
		buf[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
	strcpy(buf + i, text[i] ? "..." : "");
	return buf;
}

int cman_conf_keep(struct loader *l, const char *text, unsigned int line, void *at)
{
	char *copy = strdup(text);

	if (!copy)
		return cman_conf_fail(l, line, "out of memory");
	free(*(char **)at);
	*(char **)at = copy;
	return 0;
}

static char *block_text(const char *kind, const char *name, char *buf, size_t size)
{
	snprintf(buf, size, name && *name ? "%s '%.40s'" : "%s", kind, name);
	return buf;
}

/* --- libconfuse: callbacks */

static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *text, void *result)
{
	struct loader *l = parsing;
	struct value *v;

	if (l && l->replaced) {
		l->replaced = false;
		return cman_conf_fail(l, (unsigned int)cfg->line,
				      "key '%s' is given twice: expected it once "
				      "in a block",
				      opt->name);
	}
	v = malloc(sizeof(*v) + strlen(text) + 1);
	if (!v)
		return -1;
	v->line = (unsigned int)cfg->line;
	strcpy(v->text, text);
	*(void **)result = v;
	return 0;
}

/* libconfuse frees a value during the parse only to replace it. */
static void on_free(void *value)
{
	if (parsing)
		parsing->replaced = true;
	free(value);
}

/* How many letters to insert, remove or change to get from one to the other. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[CMAN_NAME_LEN + 1], i, j;
	size_t la = strlen(a), lb = strlen(b);

	if (la > CMAN_NAME_LEN || lb > CMAN_NAME_LEN)
		return CMAN_NAME_LEN;
	for (j = 0; j <= lb; j++)
		row[j] = j;
	for (i = 1; i <= la; i++) {
		unsigned int corner = row[0];

		row[0] = i;
		for (j = 1; j <= lb; j++) {
			unsigned int best = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[lb];
}

/* The names of keys or blocks that @opts allows, those most like @name first. */
static void list_names(const cfg_opt_t *opts, bool blocks, const char *name, char *buf, size_t size)
{
	unsigned int far, next = 0, now;
	size_t used = 0;
	const cfg_opt_t *o;

	*buf = '\0';
	for (now = 0; now <= CMAN_NAME_LEN && used < size - 1; now = next) {
		next = CMAN_NAME_LEN + 1;
		for (o = opts; o->name; o++) {
			if ((o->type == CFGT_SEC) != blocks || !strcmp(o->name, LINE_KEY))
				continue;
			far = distance(name, o->name);
			if (far > now && far < next)
				next = far;
			if (far != now || used >= size - 1)
				continue;
			used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "",
						 o->name);
		}
	}
	if (used == 0)
		snprintf(buf, size, "none");
}

/* The line on which the block was opened. */
static unsigned int block_line(cfg_t *cfg)
{
	cfg_opt_t *opt;
	unsigned int i;

	for (i = 0; (opt = cfg_getnopt(cfg, i)); i++)
		if (!strcmp(opt->name, LINE_KEY) && cfg_opt_size(opt))
			return ((struct value *)cfg_opt_getnptr(opt, 0))->line;
	return 0;
}

static bool is_block_name(const struct block *in, const char *name)
{
	const struct child *c;

	for (c = in->children; c->block; c++)
		if (!strcmp(c->block->name, name))
			return true;
	return false;
}

/*
 * A block within a block that does not know it, but one further out does: most likely that a '}'
 * was forgotten.
 */
static bool lacks_brace(struct loader *l, cfg_t *cfg, const char *name)
{
	unsigned int line = (unsigned int)cfg->line;
	bool outer = is_block_name(&cman_conf_grammar, name);
	const struct child *c;
	char in[80];

	if (!is_block_name(&cman_conf_grammar, cfg->name))
		for (c = cman_conf_grammar.children; c->block; c++)
			outer = outer || is_block_name(c->block, name);
	if (!outer || !strcmp(cfg->name, "root") || !cman_conf_text_is_block(&l->text, line, name))
		return false;
	block_text(cfg->name, cfg->title, in, sizeof(in));
	cman_conf_fail(l, line, "block '%s' within %s: expected the '}' of %s, line %u, before it",
		       name, in, in, block_line(cfg));
	return true;
}

static void unknown(struct loader *l, cfg_t *cfg, const char *name)
{
	unsigned int line = (unsigned int)cfg->line;
	bool block = cman_conf_text_is_block(&l->text, line, name);
	char in[80], names[220], buf[CMAN_CONF_SHOWN_LEN];

	if (lacks_brace(l, cfg, name))
		return;
	cman_conf_shown(name, buf);
	if (!strcmp(cfg->name, "root")) {
		list_names(cfg->opts, true, name, names, sizeof(names));
		cman_conf_fail(l, line,
			       block ? "unknown block '%s': expected one of %s" :
				       "'%s' outside of a block: expected it within one of %s",
			       buf, names);
		return;
	}
	block_text(cfg->name, cfg->title, in, sizeof(in));
	list_names(cfg->opts, block, name, names, sizeof(names));
	cman_conf_fail(l, line, "unknown %s '%s' in %s: expected one of %s",
		       block ? "block" : "key", buf, in, names);
}

/* libconfuse's texts are terse, and it has no codes: told apart by their beginnings. */
static void on_error(cfg_t *cfg, const char *format, va_list args)
{
	struct loader *l = parsing;
	unsigned int line = (unsigned int)cfg->line;
	char text[200], word[100] = "", *quote;

	if (!l)
		return;
	vsnprintf(text, sizeof(text), format, args);
	quote = strchr(text, '\'');
	if (quote) {
		snprintf(word, sizeof(word), "%s", quote + 1);
		quote = strrchr(word, '\'');
		if (quote)
			*quote = '\0';
	}
	if (!strncmp(text, "no such option", 14) || !strncmp(text, "no sub-section", 14))
		unknown(l, cfg, word);
	else if (!strncmp(text, "found duplicate title", 21))
		cman_conf_fail(l, line,
			       "the name '%s' is given to two blocks of one kind: expected names "
			       "that differ",
			       word);
	else if (!strncmp(text, "missing equal sign", 18) && lacks_brace(l, cfg, word))
		return;
	else if (!strncmp(text, "missing equal sign", 18))
		cman_conf_fail(l, line, "'=' is missing behind '%s': expected %s = VALUE", word,
			       word);
	else if (!strncmp(text, "missing title", 13))
		cman_conf_fail(l, line, "block '%s' has no name: expected %s NAME {", word, word);
	else if (!strncmp(text, "missing opening brace", 21))
		cman_conf_fail(l, line, "expected '{' behind the name of block '%s'", word);
	else if (!strncmp(text, "attempt to append", 17))
		cman_conf_fail(l, line, "'+=' is for lists, '%s' has one value: expected '='",
			       word);
	else if (!strncmp(text, "unexpected token", 16) && *word == '{')
		cman_conf_fail(l, line,
			       "a list for a key that has one value: expected KEY = VALUE");
	else if (!strncmp(text, "unexpected token", 16))
		cman_conf_fail(l, line, "unexpected '%s': expected KEY = VALUE or BLOCK NAME {",
			       word);
	else if (!strncmp(text, "premature end", 13))
		cman_conf_fail(l, line, "the file ends within a block or value: expected '}'");
	else
		cman_conf_fail(l, line, "%s: expected the syntax of cman.conf(5)", text);
}

/* --- libconfuse: options from the tables */

static void free_options(cfg_opt_t *opts)
{
	cfg_opt_t *o;

	for (o = opts; o && o->name; o++)
		free_options(o->subopts);
	free(opts);
}

static cfg_opt_t *make_options(const struct block *b)
{
	const struct child *c;
	const struct key *k;
	cfg_opt_t *opts, *o;
	size_t n = 2; /* the line, the end */

	for (k = b->keys; k->name; k++)
		n++;
	for (c = b->children; c->block; c++)
		n++;
	opts = calloc(n, sizeof(*opts));
	if (!opts)
		return NULL;
	o = opts;
	/* its default is "parsed" when the block is opened: so it learns that line */
	*o++ = (cfg_opt_t){ .name = LINE_KEY,
			    .type = CFGT_PTR,
			    .parsecb = on_value,
			    .freecb = on_free,
			    .def.parsed = (char *)"x" };
	for (k = b->keys; k->name; k++)
		*o++ = (cfg_opt_t){ .name = k->name,
				    .type = CFGT_PTR,
				    .parsecb = on_value,
				    .freecb = on_free,
				    .flags = k->list ? CFGF_LIST : CFGF_NONE };
	for (c = b->children; c->block; c++) {
		*o = (cfg_opt_t){ .name = c->block->name,
				  .type = CFGT_SEC,
				  .flags = CFGF_MULTI,
				  .subopts = make_options(c->block) };
		if (c->block->title)
			o->flags |= CFGF_TITLE | CFGF_NO_TITLE_DUPES;
		if (!o->subopts) {
			free_options(opts);
			return NULL;
		}
		o++;
	}
	return opts;
}

static int parse(struct loader *l, cfg_t **ret_cfg)
{
	cfg_opt_t *opts = make_options(&cman_conf_grammar);
	cfg_t *cfg = opts ? cfg_init(opts, CFGF_NONE) : NULL;
	int r;

	free_options(opts);
	if (!cfg)
		return cman_conf_fail(l, 0, "out of memory");
	cfg_set_error_function(cfg, on_error);
	parsing = l;
	r = l->text.len ? cfg_parse_buf(cfg, l->text.text) : CFG_SUCCESS;
	parsing = NULL;
	if (r == CFG_SUCCESS && l->text.open_line)
		cman_conf_fail(l, l->text.open_line,
			       "%s is not closed: expected '}' before the end of the "
			       "file",
			       l->text.open_block);
	else if (r != CFG_SUCCESS && !l->failed)
		cman_conf_fail(l, 0, "cannot be parsed: expected the syntax of cman.conf(5)");
	if (l->failed) {
		cfg_free(cfg);
		return -EINVAL;
	}
	*ret_cfg = cfg;
	return 0;
}

/* --- conversion into the model */

/* What is known of a block whose keys are converted: for messages and places. */
struct head {
	char name[CMAN_NAME_LEN]; /* cut */
	unsigned int line;
};

static void remember(struct loader *l, const struct head *head, const char *key, unsigned int line)
{
	struct place *more;

	if (l->nplaces == l->places_size) {
		size_t size = l->places_size ? 2 * l->places_size : 64;

		more = realloc(l->place, size * sizeof(*more));
		if (!more) {
			cman_conf_fail(l, line, "out of memory");
			return;
		}
		l->place = more;
		l->places_size = size;
	}
	l->place[l->nplaces] = (struct place){ head->line, line, key, "" };
	strcpy(l->place[l->nplaces++].block, head->name);
}

unsigned int cman_conf_line_of(const struct loader *l, unsigned int line, const char *block,
			       const char *key)
{
	size_t i;

	for (i = 0; key && i < l->nplaces; i++)
		if (l->place[i].block_line == line &&
		    !strncmp(l->place[i].block, block, CMAN_NAME_LEN - 1) &&
		    !strcmp(l->place[i].key, key))
			return l->place[i].line;
	return line;
}

static void convert_key(struct loader *l, cfg_t *cfg, const struct key *k, const struct head *head,
			char *base)
{
	cfg_opt_t *opt = cfg_getopt(cfg, k->name);
	unsigned int i, n = opt ? cfg_opt_size(opt) : 0;
	char in[80];

	if (n == 0 && k->required)
		cman_conf_fail(l, head->line, "%s has no '%s': expected it in the block",
			       block_text(cfg->name, cfg->title, in, sizeof(in)), k->name);
	if (n == 0 && k->def) {
		struct value *v = malloc(sizeof(*v) + strlen(k->def) + 1);

		if (!v) {
			cman_conf_fail(l, head->line, "out of memory");
			return;
		}
		v->line = head->line;
		strcpy(v->text, k->def);
		k->set(l, k, v, base + k->at);
		free(v);
		return;
	}
	for (i = 0; i < n; i++) {
		const struct value *v = cfg_opt_getnptr(opt, i);

		if (i == 0)
			remember(l, head, k->name, v->line);
		if (k->list && i >= (unsigned int)k->max) {
			cman_conf_fail(l, v->line,
				       "'%s' has more than %ld values: expected 1 to %ld", k->name,
				       k->max, k->max);
			return;
		}
		k->set(l, k, v, base + k->at);
	}
}

static void convert(struct loader *l, cfg_t *cfg, const struct block *b, void *ret);

static void convert_children(struct loader *l, cfg_t *cfg, const struct child *c, char *base)
{
	cfg_opt_t *opt = cfg_getopt(cfg, c->block->name);
	unsigned int i, n = opt ? cfg_opt_size(opt) : 0;
	char in[80], *array;

	if (!c->block->title) {
		if (n > 1)
			cman_conf_fail(l, block_line(cfg_opt_getnsec(opt, 1)),
				       "%s has two '%s' blocks: "
				       "expected one",
				       block_text(cfg->name, cfg->title, in, sizeof(in)),
				       c->block->name);
		if (n)
			convert(l, cfg_opt_getnsec(opt, 0), c->block, base + c->at);
		return;
	}
	if (n == 0)
		return;
	array = calloc(n, c->block->size);
	if (!array) {
		cman_conf_fail(l, block_line(cfg), "out of memory");
		return;
	}
	*(void **)(base + c->at) = array;
	*(uint32_t *)(base + c->count_at) = n;
	for (i = 0; i < n; i++)
		convert(l, cfg_opt_getnsec(opt, i), c->block, array + i * c->block->size);
}

/* Who is the block? Into its struct and into @ret_head. */
static void convert_head(struct loader *l, cfg_t *cfg, const struct block *b, void *ret,
			 struct head *ret_head)
{
	struct cman_tls_conf *tls = ret;
	char buf[CMAN_CONF_SHOWN_LEN];
	const char *why;

	*ret_head = (struct head){ .line = block_line(cfg) };
	if (b->title) {
		if (b->title(cfg_title(cfg), &why) < 0)
			cman_conf_fail(l, ret_head->line, "%s '%s': %s", b->name,
				       cman_conf_shown(cfg_title(cfg), buf), why);
		else
			strcpy(ret, cfg_title(cfg));
		memcpy((char *)ret + b->line_at, &ret_head->line, sizeof(ret_head->line));
		snprintf(ret_head->name, sizeof(ret_head->name), "%s", (char *)ret);
	} else if (b != &cman_conf_grammar) {
		tls->set = true;
		tls->line = ret_head->line;
		strcpy(ret_head->name, "tls");
	}
}

static void convert(struct loader *l, cfg_t *cfg, const struct block *b, void *ret)
{
	const struct child *c;
	const struct key *k;
	struct head head;

	convert_head(l, cfg, b, ret, &head);
	for (k = b->keys; k->name; k++)
		convert_key(l, cfg, k, &head, ret);
	for (c = b->children; c->block; c++)
		convert_children(l, cfg, c, ret);
}

static void free_clusters(struct file_model *m)
{
	uint32_t i;

	for (i = 0; i < m->nclusters; i++) {
		free(m->cluster[i].tls.certificate);
		free(m->cluster[i].tls.key);
		free(m->cluster[i].tls.ca);
		free(m->cluster[i].machine);
		free(m->cluster[i].group);
		free(m->cluster[i].route);
	}
	free(m->cluster);
}

static void load(struct loader *l, cfg_t *cfg, struct cman_conf *conf)
{
	struct file_model m = { 0 };
	uint32_t i;

	convert(l, cfg, &cman_conf_grammar, &m);
	conf->instance = m.instance;
	conf->ninstances = m.ninstances;
	conf->nclusters = m.nclusters;
	for (i = 0; i < m.ninstances; i++)
		cman_conf_fill(l, &m.instance[i]);
	if (!l->failed)
		cman_conf_check_model(l, &m, conf);
	for (i = 0; i < m.ninstances && !l->failed; i++)
		cman_conf_check_files(l, &m.instance[i]);
	free_clusters(&m);
}

int cman_conf_load(const char *file, struct cman_conf **ret_conf, struct cman_conf_error *ret_error)
{
	struct loader l = { .file = file, .error = ret_error };
	struct cman_conf *conf = NULL;
	cfg_t *cfg = NULL;
	int r;

	r = cman_conf_text_init(&l.text, file, ret_error);
	if (r < 0)
		return r;
	r = parse(&l, &cfg);
	if (r == 0) {
		conf = calloc(1, sizeof(*conf));
		if (conf)
			conf->file = strdup(file);
		if (!conf || !conf->file)
			cman_conf_fail(&l, 0, "out of memory");
		else
			load(&l, cfg, conf);
		r = l.failed ? -EINVAL : 0;
		cfg_free(cfg);
	}
	cman_conf_text_fini(&l.text);
	free(l.place);
	if (r < 0) {
		cman_conf_free(conf);
		return r;
	}
	*ret_conf = conf;
	return 0;
}
