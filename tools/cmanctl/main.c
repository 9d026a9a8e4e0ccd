/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the two tables that define cmanctl: its verbs, and their options. Parser, help, bash
 * completion and the manual's SYNOPSIS are made from them. A verb's work is in the file of its
 * name: start.c (startup, rescue, and the migration), migrate.c, shutdown.c, status.c, show.c,
 * set.c (set, reload), service.c (suspend, resume, close), check.c, top.c, image.c, journal.c,
 * help.c.
 */
#include "cmanctl.h"

#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

static const char *const via_words[] = { "auto", "fd", "repair", NULL };
static const char *const state_words[] = { "accepted", "connecting", "handshake", "relaying",
					   "leaving",  "prepared",   "closing",	  NULL };
static const char *const show_words[] = { "sessions",	"services", "rules",   "gateways",
					  "parameters", "events",   "version", NULL };
static const char *const dump_words[] = { "dump", NULL };
static const char *const shell_words[] = { "bash", NULL };

const struct ctl_option ctl_common[] = {
	{ .name = "file",
	  .letter = 'f',
	  .id = OPT_FILE,
	  .metavar = "FILE",
	  .kind = CTL_PATH,
	  .form = CTL_ANY_FORM,
	  .help = "the configuration (" CMAN_DEFAULT_CONF ")" },
	{ .name = "alias",
	  .letter = 'c',
	  .id = OPT_ALIAS,
	  .metavar = "ALIAS",
	  .form = CTL_ANY_FORM,
	  .help = "the instance; ALIAS_old: the old one in a migration" },
	{ .name = "json",
	  .letter = 'j',
	  .id = OPT_JSON,
	  .form = CTL_ANY_FORM,
	  .help = "one JSON document on stdout, nothing else" },
	{ .name = "quiet",
	  .letter = 'q',
	  .id = OPT_QUIET,
	  .form = CTL_ANY_FORM,
	  .help = "no progress, no messages but errors" },
	{ .name = "yes",
	  .letter = 'y',
	  .id = OPT_YES,
	  .form = CTL_ANY_FORM,
	  .help = "answer yes to every question" },
	{ .name = "help",
	  .letter = 'h',
	  .id = OPT_HELP,
	  .form = CTL_ANY_FORM,
	  .help = "show help, of a command when one is given" },
	{ .name = "version",
	  .letter = 'V',
	  .id = OPT_VERSION,
	  .form = CTL_ANY_FORM,
	  .help = "show the version of cmanctl" },
	{ 0 },
};

#define OPTION_HOME \
	.name = "home", .id = OPT_HOME, .metavar = "DIR", .kind = CTL_FOLDER, \
	.help = "run DIR/bin/cmand (default: the cmand beside cmanctl)"
#define OPTION_VIA \
	.name = "via", .id = OPT_VIA, .metavar = "V", .kind = CTL_WORD, .words = via_words, \
	.help = "how sessions move: auto, fd, repair"
#define OPTION_TIMEOUT \
	.name = "timeout", .id = OPT_TIMEOUT, .metavar = "S", .kind = CTL_NUMBER, .min = 1, \
	.max = 86400, .help = "the old instance exits after S seconds (handover_timeout)"
#define OPTION_NO_WAIT \
	.name = "no-wait", .id = OPT_NO_WAIT, .help = "return when the new instance has taken over"

static const struct ctl_option startup_options[] = {
	{ OPTION_HOME, .form = CTL_ANY_FORM },
	{ .name = "migrate",
	  .form = 1,
	  .id = OPT_MIGRATE,
	  .help = "take listeners and live sessions of the running instance" },
	{ OPTION_VIA, .form = 1 },
	{ OPTION_TIMEOUT, .form = 1 },
	{ OPTION_NO_WAIT, .form = 1 },
	{ 0 },
};

static const struct ctl_option migrate_options[] = {
	{ OPTION_HOME },
	{ OPTION_VIA, .form = CTL_ANY_FORM },
	{ OPTION_TIMEOUT, .form = CTL_ANY_FORM },
	{ OPTION_NO_WAIT },
	{ .name = "check",
	  .form = 1,
	  .id = OPT_CHECK,
	  .help = "change nothing; say for each session whether it can move" },
	{ .name = "cancel", .form = 2, .id = OPT_CANCEL, .help = "stop a running migration" },
	{ .name = "rollback",
	  .form = 2,
	  .id = OPT_ROLLBACK,
	  .help = "and move back what has moved" },
	{ .name = "to",
	  .form = 3,
	  .id = OPT_TO,
	  .metavar = "PEER",
	  .kind = CTL_TEXT,
	  .help = "to the instance of that peer: another host or network namespace" },
	{ .name = "service",
	  .form = 3,
	  .id = OPT_SERVICE,
	  .metavar = "S",
	  .help = "only this service, with its addresses" },
	{ 0 },
};

static const struct ctl_option rescue_options[] = {
	{ OPTION_HOME },
	{ 0 },
};

static const struct ctl_option shutdown_options[] = {
	{ .name = "drain",
	  .id = OPT_DRAIN,
	  .metavar = "S",
	  .kind = CTL_NUMBER,
	  .max = 86400,
	  .help = "accept nothing new; wait at most S seconds for sessions to end" },
	{ .name = "abort", .id = OPT_ABORT, .help = "reset the sessions instead of closing them" },
	{ 0 },
};

static const struct ctl_option show_options[] = {
	{ .name = "service", .id = OPT_SERVICE, .metavar = "S", .help = "sessions of this service" },
	{ .name = "source",
	  .id = OPT_SOURCE,
	  .metavar = "CIDR",
	  .kind = CTL_PREFIX,
	  .help = "sessions of clients in this network" },
	{ .name = "state",
	  .id = OPT_STATE,
	  .metavar = "STATE",
	  .kind = CTL_WORD,
	  .words = state_words,
	  .help = "sessions in this state" },
	{ 0 },
};

static const struct ctl_option close_options[] = {
	{ .name = "service",
	  .form = 1,
	  .id = OPT_SERVICE,
	  .metavar = "S",
	  .help = "all sessions of this service" },
	{ .name = "source",
	  .form = 2,
	  .id = OPT_SOURCE,
	  .metavar = "CIDR",
	  .kind = CTL_PREFIX,
	  .help = "all sessions of clients in this network" },
	{ 0 },
};

static const struct ctl_option top_options[] = {
	{ .name = "once", .form = 1, .id = OPT_ONCE, .help = "one picture as text; no rates" },
	{ .name = "count",
	  .letter = 'n',
	  .form = 2,
	  .id = OPT_COUNT,
	  .metavar = "N",
	  .kind = CTL_NUMBER,
	  .min = 1,
	  .max = 1000000,
	  .help = "N pictures as text" },
	{ .name = "delay",
	  .letter = 'd',
	  .form = CTL_ANY_FORM,
	  .id = OPT_DELAY,
	  .metavar = "S",
	  .kind = CTL_NUMBER,
	  .min = 1,
	  .max = 3600,
	  .help = "seconds between two pictures (1)" },
	{ 0 },
};

static const struct ctl_option image_options[] = {
	{ .name = "bytes",
	  .id = OPT_BYTES,
	  .help = "show the bytes of connections, as hexadecimal" },
	{ 0 },
};

static const struct ctl_option help_options[] = {
	{ .name = "synopsis",
	  .id = OPT_SYNOPSIS,
	  .help = "only the synopsis, as reStructuredText for the manual" },
	{ 0 },
};

static const struct ctl_option no_options[] = {
	{ 0 },
};

const struct ctl_verb ctl_verbs[] = {
	{ .name = "startup",
	  .args = "",
	  .options = startup_options,
	  .run = ctl_verb_startup,
	  .help = "start the instance; return when it accepts connections",
	  .text = "With --migrate the new program starts beside the running instance and takes "
		  "its listeners and its live sessions. Then the old one exits: as soon as nothing "
		  "is left on it, or at the timeout. The command returns when the move is over, "
		  "with a report. It ends with 3 when sessions were left behind." },
	{ .name = "migrate",
	  .args = "",
	  .options = migrate_options,
	  .run = ctl_verb_migrate,
	  .help = "move all live sessions to a new release of the program",
	  .text = "Runs DIR/bin/cmand in migration mode (as startup --migrate does), shows "
		  "progress and prints the report. What has moved stays moved when a migration is "
		  "cancelled, unless --rollback is given." },
	{ .name = "rescue",
	  .args = "",
	  .options = rescue_options,
	  .run = ctl_verb_rescue,
	  .help = "take the sessions of a hung instance without its help" },
	{ .name = "shutdown",
	  .args = "",
	  .options = shutdown_options,
	  .run = ctl_verb_shutdown,
	  .help = "stop the instance",
	  .text = "Without --drain and --abort live sessions are closed at once, after a "
		  "question. With both, sessions that have not ended after S seconds are reset." },
	{ .name = "status",
	  .args = "",
	  .options = no_options,
	  .run = ctl_verb_status,
	  .help = "show the state of one instance" },
	{ .name = "show",
	  .args = "WHAT",
	  .min_args = 1,
	  .max_args = 1,
	  .words = show_words,
	  .options = show_options,
	  .run = ctl_verb_show,
	  .help = "show a table of one kind of thing; sessions can be filtered" },
	{ .name = "set",
	  .args = "PARAMETER VALUE",
	  .min_args = 2,
	  .max_args = 2,
	  .options = no_options,
	  .run = ctl_verb_set,
	  .help = "change a parameter of the running instance",
	  .text = "`cmanctl show parameters` lists the parameters and which of them can be "
		  "changed. The file is not changed: the next reload sets its value again." },
	{ .name = "reload",
	  .args = "",
	  .options = no_options,
	  .run = ctl_verb_reload,
	  .help = "read the configuration again; an error in it changes nothing" },
	{ .name = "check",
	  .args = "",
	  .options = no_options,
	  .run = ctl_verb_check,
	  .help = "validate the configuration" },
	{ .name = "suspend",
	  .args = "[SERVICE]",
	  .max_args = 1,
	  .options = no_options,
	  .run = ctl_verb_suspend,
	  .help = "let new connections wait; live sessions go on" },
	{ .name = "resume",
	  .args = "[SERVICE]",
	  .max_args = 1,
	  .options = no_options,
	  .run = ctl_verb_resume,
	  .help = "let connections in that suspend has held" },
	{ .name = "close",
	  .args = "SESSION...",
	  .min_args = 1,
	  .max_args = UINT_MAX,
	  .options = close_options,
	  .run = ctl_verb_close,
	  .help = "end sessions",
	  .text = "SESSION is an id as `cmanctl show sessions` shows it. --service and --source "
		  "ask before they end sessions." },
	{ .name = "top",
	  .args = "",
	  .options = top_options,
	  .run = ctl_verb_top,
	  .help = "a live screen: sessions, rates, migration; q ends it" },
	{ .name = "image",
	  .args = "WHAT FILE",
	  .min_args = 2,
	  .max_args = 2,
	  .words = dump_words,
	  .options = image_options,
	  .run = ctl_verb_image,
	  .help = "show an image file: the sessions of a batch that moves by repair",
	  .text = "Prints one JSON document. It needs neither an instance nor the configuration. "
		  "FILE is RUN_DIR/ALIAS/images/BATCH, or a copy of it." },
	{ .name = "journal",
	  .args = "WHAT [FILE]",
	  .min_args = 1,
	  .max_args = 2,
	  .words = dump_words,
	  .options = no_options,
	  .run = ctl_verb_journal,
	  .help = "show the outcome of every batch that an instance gave or took",
	  .text = "Reads RUN_DIR/ALIAS/journal, or FILE; the instance need not run. It takes no lock "
		  "and changes nothing." },
	{ .name = "help",
	  .args = "[COMMAND]",
	  .max_args = 1,
	  .options = help_options,
	  .run = ctl_verb_help,
	  .help = "show help, of a command when one is given" },
	{ .name = "completion",
	  .args = "SHELL",
	  .min_args = 1,
	  .max_args = 1,
	  .words = shell_words,
	  .options = no_options,
	  .run = ctl_verb_completion,
	  .help = "print the completion script for a shell" },
	{ .name = "version",
	  .args = "",
	  .options = no_options,
	  .run = ctl_verb_version,
	  .help = "show the version of cmanctl" },
	{ 0 },
};

const struct ctl_verb *ctl_find_verb(const char *name)
{
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++)
		if (!strcmp(v->name, name))
			return v;
	return NULL;
}

static enum ctl_exit run(struct ctl *c, int argc, char **argv)
{
	enum ctl_exit code;

	if (argc < 2) {
		ctl_print_help(stderr, NULL);
		return CTL_USAGE;
	}
	code = ctl_parse(c, argc, argv);
	if (code)
		return code;
	if (ctl_given(c, OPT_HELP)) {
		ctl_print_help(stdout, c->verb);
		return CTL_DONE;
	}
	if (ctl_given(c, OPT_VERSION))
		return ctl_verb_version(c);
	return c->verb->run(c);
}

int main(int argc, char **argv)
{
	struct ctl c = { 0 };
	enum ctl_exit code;

	setlocale(LC_CTYPE, "");
	code = run(&c, argc, argv);
	if ((fflush(stdout) != 0 || ferror(stdout)) && code == CTL_DONE) {
		ctl_warn("cannot write to stdout: %s", strerror(errno));
		code = CTL_FAILED;
	}
	if (c.conf)
		cman_conf_free(c.conf);
	free(c.socket);
	free(c.args);
	return code;
}
