/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of cmanctl share: the tables that describe verbs and options (defined once, in
 * main.c; the parser, the help, the completion and the manual's SYNOPSIS all read them), the
 * context of one run, and the helpers.
 *
 *	main -> parse(argv) -> verb->run(ctl) -> locate (cman.conf) -> client -> table/report
 *
 * A function that returns `enum ctl_exit` has already said what is wrong (by ctl_fail() and its
 * like); the caller only passes the code on. The others return 0 or -errno and say nothing.
 */
#ifndef CMANCTL_H
#define CMANCTL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <jansson.h>

#include "usr/core/config.h"
#include "usr/sys/chan.h"
#include "table.h"

enum ctl_exit {
	CTL_DONE = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2, /* command line or configuration */
	CTL_PART = 3,
};

/* ---- tables ---- */

enum ctl_opt {
	OPT_FILE,
	OPT_ALIAS,
	OPT_JSON,
	OPT_QUIET,
	OPT_YES,
	OPT_HELP,
	OPT_VERSION,
	OPT_HOME,
	OPT_MIGRATE,
	OPT_VIA,
	OPT_TIMEOUT,
	OPT_NO_WAIT,
	OPT_CHECK,
	OPT_CANCEL,
	OPT_ROLLBACK,
	OPT_DRAIN,
	OPT_ABORT,
	OPT_SERVICE,
	OPT_TO,
	OPT_SOURCE,
	OPT_STATE,
	OPT_DELAY,
	OPT_ONCE,
	OPT_COUNT,
	OPT_SYNOPSIS,
	OPT_BYTES,
	CTL_NOPTS,
};

enum ctl_kind {
	CTL_TEXT, /* also of flags, which have no metavar */
	CTL_NUMBER,
	CTL_WORD,
	CTL_PATH,
	CTL_FOLDER,
	CTL_PREFIX, /* address or CIDR */
};

/*
 * A verb has one or more forms. Form 0 is the one without a leading option; the first option of
 * any other form leads it and must be given; CTL_ANY_FORM goes with all. So the table alone says
 * which options exclude each other and which one needs another.
 */
#define CTL_ANY_FORM 255

struct ctl_option {
	const char *name; /* NULL ends a table */
	char letter;	  /* 0: no short form */
	uint8_t form;
	enum ctl_opt id;
	const char *metavar; /* NULL: a flag */
	const char *help;
	enum ctl_kind kind;
	unsigned long min, max;	  /* CTL_NUMBER */
	const char *const *words; /* CTL_WORD */
};

struct ctl;

struct ctl_verb {
	const char *name; /* NULL ends the table */
	const char *args; /* as in the synopsis; "" for none. They belong to form 0. */
	unsigned int min_args, max_args;
	const char *const *words; /* what the first argument may be; NULL: anything */
	const struct ctl_option *options;
	const char *help; /* one line */
	const char *text; /* for `help VERB`; NULL: the line is enough */
	enum ctl_exit (*run)(struct ctl *c);
};

extern const struct ctl_option ctl_common[];
extern const struct ctl_verb ctl_verbs[];

const struct ctl_verb *ctl_find_verb(const char *name);

/* ---- one run ---- */

struct ctl {
	const struct ctl_verb *verb;
	const char *value[CTL_NOPTS]; /* NULL: not given; "" for flags */
	unsigned long number[CTL_NOPTS];
	char **args;
	unsigned int nargs;
	bool json, quiet, yes;
	bool json_out; /* the one document has been written */

	/* filled by ctl_load() or ctl_locate() */
	const char *file;
	struct cman_conf *conf;
	struct cman_instance_conf *instance;
	bool broken; /* the file has errors; what follows was read without validation */
	struct cman_conf_error error;
	char alias[CMAN_NAME_LEN + 8]; /* of the instance talked to: may end with _old */
	bool old;
	char *socket;
};

static inline bool ctl_given(const struct ctl *c, enum ctl_opt id)
{
	return c->value[id] != NULL;
}

/* parse.c: fills @c from the command line. */
enum ctl_exit ctl_parse(struct ctl *c, int argc, char **argv);
/* The word of @words (ended by NULL) that @text may have meant, or NULL. */
const char *ctl_nearest(const char *text, const char *const *words);

/* output.c: errors; @code is returned. With --json the document {"error","code"} goes to stdout. */
enum ctl_exit ctl_fail(struct ctl *c, enum ctl_exit code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same without "cmanctl: ", for messages that begin with FILE:LINE. */
enum ctl_exit ctl_fail_at(struct ctl *c, enum ctl_exit code, const char *text);
/* Wrong use: adds the line that points to the help. */
enum ctl_exit ctl_usage(struct ctl *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ctl_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* What was done, for people: nothing with -q or --json. */
void ctl_say(const struct ctl *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The one JSON document, on stdout. */
void ctl_print_json(struct ctl *c, const json_t *doc);
/* Asks on the terminal. CTL_DONE is yes; CTL_FAILED no; CTL_USAGE when nobody can be asked. */
enum ctl_exit ctl_confirm(struct ctl *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Columns of the screen for @out: $COLUMNS, the terminal's; 0: no limit. */
unsigned int ctl_columns(FILE *out);
/* "1 session", "2 sessions" without the number */
static inline const char *ctl_s(json_int_t n)
{
	return n == 1 ? "" : "s";
}

/* help.c */
void ctl_print_help(FILE *out, const struct ctl_verb *verb);
void ctl_print_synopsis(FILE *out, const struct ctl_verb *verb, bool rst);

/* locate.c: load demands a valid file; locate makes do with a broken one when it can. */
enum ctl_exit ctl_load(struct ctl *c);
enum ctl_exit ctl_locate(struct ctl *c);

/* ---- client.c ---- */

#define CTL_ANSWER_MS 30000 /* longer than any command but those that wait for sessions */

struct ctl_client {
	struct cman_chan chan;
	bool open;
	uint32_t sequence;
	enum ctl_exit code; /* -EREMOTEIO: what the instance said */
	char error[512];
};

typedef void ctl_progress_fn(void *arg, const json_t *progress);

/*
 * Silent: 0 or -errno, text in cl->error. Errors of a request: -EREMOTEIO (the instance refused,
 * cl->code), -ETIMEDOUT, -EPIPE, -ECONNRESET, -EPROTO. @request is consumed.
 */
int ctl_client_open(struct ctl *c, struct ctl_client *cl);
int ctl_client_ask(struct ctl_client *cl, json_t *request, int timeout_ms, ctl_progress_fn *fn,
		   void *arg, json_t **ret_result);
void ctl_client_close(struct ctl_client *cl);
/* Says what the error of open or ask was. */
enum ctl_exit ctl_client_fail(struct ctl *c, struct ctl_client *cl, int err);

/* Locate, connect, ask, close. */
enum ctl_exit ctl_ask(struct ctl *c, json_t *request, json_t **ret_result);
/* The same; then @doc is printed with --json. */
enum ctl_exit ctl_ask_and_print(struct ctl *c, json_t *request, json_t **ret_result);

/* Lenient getters: "-" or 0 when there is no such member. @key may be "a.b". */
const char *ctl_str(const json_t *object, const char *key);
json_int_t ctl_int(const json_t *object, const char *key);
static inline void ctl_json_free(json_t **doc)
{
	json_decref(*doc);
}
#define _cleanup_json_ __attribute__((cleanup(ctl_json_free)))

/* ---- progress.c ---- */

struct ctl_progress {
	bool show, tty, drawn;
	unsigned int width;
	char phase[32];
	int64_t start_ms, last_ms;
};

void ctl_progress_init(struct ctl_progress *p, const struct ctl *c);
/* @total 0: not known yet */
void ctl_progress_update(struct ctl_progress *p, const char *phase, json_int_t done,
			 json_int_t total);
void ctl_progress_end(struct ctl_progress *p); /* removes the bar */
int64_t ctl_now_ms(void);

/* ---- report.c ---- */

/* Prints the migration report and returns the exit code that it means. */
enum ctl_exit ctl_report(struct ctl *c, const json_t *report);

/* ---- start.c ---- */

/* The migration itself: `migrate`, and `startup --migrate`. */
enum ctl_exit ctl_migrate(struct ctl *c);

/* ---- verbs ---- */

enum ctl_exit ctl_verb_startup(struct ctl *c);
enum ctl_exit ctl_verb_migrate(struct ctl *c);
enum ctl_exit ctl_verb_rescue(struct ctl *c);
enum ctl_exit ctl_verb_shutdown(struct ctl *c);
enum ctl_exit ctl_verb_status(struct ctl *c);
enum ctl_exit ctl_verb_show(struct ctl *c);
enum ctl_exit ctl_verb_set(struct ctl *c);
enum ctl_exit ctl_verb_reload(struct ctl *c);
enum ctl_exit ctl_verb_check(struct ctl *c);
enum ctl_exit ctl_verb_suspend(struct ctl *c);
enum ctl_exit ctl_verb_resume(struct ctl *c);
enum ctl_exit ctl_verb_close(struct ctl *c);
enum ctl_exit ctl_verb_top(struct ctl *c);
enum ctl_exit ctl_verb_image(struct ctl *c);
enum ctl_exit ctl_verb_journal(struct ctl *c);
enum ctl_exit ctl_verb_help(struct ctl *c);
enum ctl_exit ctl_verb_completion(struct ctl *c);
enum ctl_exit ctl_verb_version(struct ctl *c);

#endif
