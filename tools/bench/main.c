// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cman-bench: load generator and benchmark of TCP relays.
 *
 * Owns the table of verbs and the table of options. The latter feeds the parser, --help, the
 * options section of the manual page (`cman-bench help --rst`) and shell completion (`help
 * --words`), so that they cannot differ. What a verb does is in the file of its name.
 */
#include "bench.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum verb_bit {
	SERVE = 1 << 0,
	STREAM = 1 << 1,
	PINGPONG = 1 << 2,
	CONNRATE = 1 << 3,
	PROBE = 1 << 4,
	BULK = 1 << 5,
	IDLE = 1 << 6,
};

#define CLIENTS (STREAM | PINGPONG | CONNRATE | PROBE | BULK | IDLE)
#define EVERY	(SERVE | CLIENTS)

/* Which verb a bit stands for is its place in this table. */
static const struct verb verbs[] = {
	{
		"serve",
		"be the server that the other verbs talk to",
		verb_serve,
		(const struct preset[]){
			{ "mode", "echo" },
			{ "size", "1024" },
			{ "bytes", "0" },
			{ "interval-ms", "0" },
			{ "backlog", "4096" },
			{ NULL, NULL },
		},
	},
	{
		"stream",
		"verified two-way streams, to be handed over while they run",
		verb_stream,
		(const struct preset[]){
			{ "sessions", "200" },
			{ "size", "1024" },
			{ "interval-ms", "25" },
			{ "window", "256k" },
			{ "slow-rate", "1k" },
			{ "connect-timeout", "5" },
			{ "drain-timeout", "10" },
			{ "parallel-connects", "256" },
			{ NULL, NULL },
		},
	},
	{
		"pingpong",
		"request and response in a closed loop: latency",
		verb_pingpong,
		(const struct preset[]){
			{ "sessions", "1" },
			{ "size", "64" },
			{ "duration", "5" },
			{ "warmup", "0.2" },
			{ "connect-timeout", "5" },
			{ "drain-timeout", "5" },
			{ NULL, NULL },
		},
	},
	{
		"connrate",
		"open, exchange, close in a closed loop: connections per second",
		verb_connrate,
		(const struct preset[]){
			{ "clients", "1" },
			{ "size", "64" },
			{ "close", "fin" },
			{ "duration", "5" },
			{ "warmup", "0.2" },
			{ "connect-timeout", "5" },
			{ "timeout", "5" },
			{ "drain-timeout", "5" },
			{ NULL, NULL },
		},
	},
	{
		"probe",
		"connections at a fixed rate: is any of them refused, reset or late?",
		verb_probe,
		(const struct preset[]){
			{ "rate", "1000" },
			{ "size", "32" },
			{ "close", "wait" },
			{ "late-ms", "1000" },
			{ "connect-timeout", "5" },
			{ "timeout", "5" },
			{ "drain-timeout", "6" },
			{ NULL, NULL },
		},
	},
	{
		"bulk",
		"throughput in one direction",
		verb_bulk,
		(const struct preset[]){
			{ "connections", "1" },
			{ "direction", "down" },
			{ "duration", "5" },
			{ "warmup", "0.5" },
			{ "connect-timeout", "5" },
			{ "drain-timeout", "10" },
			{ NULL, NULL },
		},
	},
	{
		"idle",
		"hold idle sessions: are they alive at the end, what memory do they take?",
		verb_idle,
		(const struct preset[]){
			{ "sessions", "1000" },
			{ "size", "64" },
			{ "window", "256k" },
			{ "warmup", "0.5" },
			{ "connect-timeout", "5" },
			{ "drain-timeout", "10" },
			{ "parallel-connects", "256" },
			{ NULL, NULL },
		},
	},
};

static const char *const mode_words[] = { "echo", "sink", "source", "hold", "http-less", NULL };
static const char *const close_words[] = { "fin", "rst", "wait", NULL };
static const char *const tls_version_words[] = { "any", "1.2", "1.3", NULL };
static const char *const direction_words[] = { "up", "down", NULL };

#define FIELD(f) offsetof(struct bench_options, f)
#define S(n)	 ((n)*NSEC_PER_SEC)
#define GIB	 (1ull << 30)

static const struct option_def options[] = {
	{ "connect", 'c', "ADDR:PORT", "server to connect to; repeated: sessions take turns",
	  CLIENTS, CLIENTS, OPT_ADDRESS, FIELD(connect), 0, 0, NULL },
	{ "listen", 'l', "ADDR:PORT",
	  "address to listen on, port 0 for any (default 127.0.0.1:0); "
	  "may be repeated",
	  SERVE, 0, OPT_ADDRESS, FIELD(listen), 0, 0, NULL },
	{ "mode", 'm', "MODE",
	  "echo what comes; sink: discard, answer EOF with the count; source: "
	  "send a pattern; hold: after the client's EOF send slowly; http-less: answer a line "
	  "with a number by that many bytes",
	  SERVE, 0, OPT_WORD, FIELD(mode), 0, 0, mode_words },
	{ "sessions", 'n', "N", "sessions to hold", STREAM | PINGPONG | IDLE, 0, OPT_COUNT,
	  FIELD(sessions), 0, 1000000, NULL },
	{ "clients", 'n', "N", "clients that each open one connection after the other", CONNRATE, 0,
	  OPT_COUNT, FIELD(clients), 1, 100000, NULL },
	{ "connections", 'n', "N", "connections in parallel", BULK, 0, OPT_COUNT,
	  FIELD(connections), 1, 100000, NULL },
	{ "rate", 'r', "N", "connections to start a second, whether earlier ones are done or not",
	  PROBE, 0, OPT_COUNT, FIELD(rate), 1, 1000000, NULL },
	{ "direction", 0, "WORD",
	  "up: client sends to serve --mode sink; down: receives from "
	  "--mode source",
	  BULK, 0, OPT_WORD, FIELD(direction), 0, 0, direction_words },
	{ "size", 's', "BYTES", "bytes of a chunk or request",
	  SERVE | STREAM | PINGPONG | CONNRATE | PROBE | IDLE, 0, OPT_BYTES, FIELD(size), 1, GIB,
	  NULL },
	{ "bytes", 0, "BYTES", "bytes to send by modes source and hold before the end, 0: no end",
	  SERVE, 0, OPT_BYTES, FIELD(bytes), 0, UINT64_MAX >> 1, NULL },
	{ "interval-ms", 'i', "MS", "time between two chunks, 0: as fast as possible",
	  SERVE | STREAM, 0, OPT_MSEC, FIELD(interval), 0, S(3600), NULL },
	{ "duration", 'd', "S", "end after this time, 0: at SIGTERM or SIGINT", EVERY, 0,
	  OPT_SECONDS, FIELD(duration), 0, S(31536000), NULL },
	{ "warmup", 0, "S", "time between all sessions being open and the first figure recorded",
	  PINGPONG | CONNRATE | BULK | IDLE, 0, OPT_SECONDS, FIELD(warmup), 0, S(3600), NULL },
	{ "window", 'w', "BYTES", "most bytes of a session under way", STREAM | IDLE, 0, OPT_BYTES,
	  FIELD(window), 1, GIB, NULL },
	{ "slow", 0, "N", "that many of the sessions read slowly", STREAM, 0, OPT_COUNT,
	  FIELD(slow), 0, 1000000, NULL },
	{ "slow-rate", 0, "BYTES", "bytes a second that a slow session reads", STREAM, 0, OPT_BYTES,
	  FIELD(slow_rate), 10, GIB, NULL },
	{ "half-close", 0, "N", "further sessions that send a chunk, half-close and go on reading",
	  STREAM, 0, OPT_COUNT, FIELD(half_close), 0, 1000000, NULL },
	{ "hold-connect", 0, "ADDR:PORT", "server of those, serve --mode hold (default: --connect)",
	  STREAM, 0, OPT_ADDRESS, FIELD(hold_connect), 0, 0, NULL },
	{ "idle", 0, "N", "further sessions that send one chunk at the start and one at the end",
	  STREAM, 0, OPT_COUNT, FIELD(idle), 0, 1000000, NULL },
	{ "reconnect", 0, NULL, "replace a session that was lost (it still counts as lost)", STREAM,
	  0, OPT_FLAG, FIELD(reconnect), 0, 0, NULL },
	{ "close", 0, "WORD", "fin: close at once; rst: reset; wait: send FIN, await the peer's",
	  CONNRATE | PROBE, 0, OPT_WORD, FIELD(close), 0, 0, close_words },
	{ "late-ms", 0, "MS", "an answer after this time counts as late", PROBE, 0, OPT_MSEC,
	  FIELD(late), 0, S(3600), NULL },
	{ "verify", 0, NULL, "compare every byte received with the source's pattern", BULK, 0,
	  OPT_FLAG, FIELD(verify), 0, 0, NULL },
	{ "discard", 0, NULL, "let the kernel drop what is received (MSG_TRUNC): a cheap receiver",
	  SERVE | BULK, 0, OPT_FLAG, FIELD(discard), 0, 0, NULL },
	{ "zero-copy", 0, NULL, "send the bulk pattern with sendfile(): a cheap sender",
	  SERVE | BULK, 0, OPT_FLAG, FIELD(zero_copy), 0, 0, NULL },
	{ "delay-read", 0, "MS", "wait that long before every read", SERVE, 0, OPT_MSEC,
	  FIELD(delay_read), 0, S(3600), NULL },
	{ "backlog", 0, "N", "backlog of the listeners", SERVE, 0, OPT_COUNT, FIELD(backlog), 1,
	  1000000, NULL },
	{ "source", 0, "ADDR", "address to connect from; repeated: sessions take turns", CLIENTS, 0,
	  OPT_SOURCE, FIELD(source), 0, 0, NULL },
	{ "connect-timeout", 0, "S", "give a connection up after this time", CLIENTS, 0,
	  OPT_SECONDS, FIELD(connect_timeout), 1, S(3600), NULL },
	{ "timeout", 0, "S", "give an exchange up after this time", CONNRATE | PROBE, 0,
	  OPT_SECONDS, FIELD(timeout), 1, S(3600), NULL },
	{ "drain-timeout", 0, "S", "at the end, wait that long for what is under way", CLIENTS, 0,
	  OPT_SECONDS, FIELD(drain_timeout), 0, S(3600), NULL },
	{ "parallel-connects", 0, "N", "most connections being opened at the same time",
	  STREAM | IDLE, 0, OPT_COUNT, FIELD(parallel_connects), 1, 100000, NULL },
	{ "tls", 0, NULL, "TLS on every connection", EVERY, 0, OPT_FLAG, FIELD(tls), 0, 0, NULL },
	{ "tls-version", 0, "VERSION", "the only version", EVERY, 0, OPT_WORD, FIELD(tls_version),
	  0, 0, tls_version_words },
	{ "tls-cipher", 0, "NAME", "OpenSSL's name of the cipher; chooses the version too", EVERY,
	  0, OPT_TEXT, FIELD(tls_cipher), 0, 0, NULL },
	{ "tls-ca", 0, "FILE",
	  "verify the server's certificate (without: no verification); "
	  "serve: demand certificates of clients",
	  EVERY, 0, OPT_PATH, FIELD(tls_ca), 0, 0, NULL },
	{ "tls-name", 0, "NAME", "server's name: sent (SNI), and verified with --tls-ca", CLIENTS,
	  0, OPT_TEXT, FIELD(tls_name), 0, 0, NULL },
	{ "tls-cert", 0, "FILE", "own certificate, followed by its chain", EVERY, 0, OPT_PATH,
	  FIELD(tls_cert), 0, 0, NULL },
	{ "tls-key", 0, "FILE", "its private key", EVERY, 0, OPT_PATH, FIELD(tls_key), 0, 0, NULL },
	{ "tls-alpn", 0, "LIST", "protocols to offer or, by serve, to accept: h2,http/1.1", EVERY,
	  0, OPT_TEXT, FIELD(tls_alpn), 0, 0, NULL },
	{ "tls-update", 0, "N",
	  "every N records update the keys and request the peer's update (TLS 1.3)", EVERY, 0,
	  OPT_COUNT, FIELD(tls_update), 1, UINT32_MAX, NULL },
	{ "tls-pad", 0, "BYTES", "pad records to a multiple of that (TLS 1.3)", EVERY, 0, OPT_BYTES,
	  FIELD(tls_pad), 2, 16384, NULL },
	{ "tls-split", 0, NULL,
	  "send each record in pieces, the first within its header, with pauses between", EVERY, 0,
	  OPT_FLAG, FIELD(tls_split), 0, 0, NULL },
	{ "tls-resume", 0, NULL, "offer to resume the latest TLS session", CLIENTS, 0, OPT_FLAG,
	  FIELD(tls_resume), 0, 0, NULL },
	{ "tls-keylog", 0, "FILE", "append the secrets of each session, for who decodes a capture",
	  EVERY, 0, OPT_PATH, FIELD(tls_keylog), 0, 0, NULL },
	{ "threads", 't', "N", "worker threads, each with its share of the sessions", EVERY, 0,
	  OPT_COUNT, FIELD(threads), 1, 256, NULL },
	{ "cpu-of", 0, "PID[,PID]", "processes whose CPU time and memory are reported", CLIENTS, 0,
	  OPT_PIDS, FIELD(cpu_of), 0, 0, NULL },
	{ "seed", 0, "N", "seed of the patterns (default: from the clock)", CLIENTS, 0, OPT_COUNT,
	  FIELD(seed), 0, 0, NULL },
	{ "ready-file", 0, "PATH", "write the ready line to this file when all sessions are open",
	  EVERY, 0, OPT_PATH, FIELD(ready_file), 0, 0, NULL },
	{ "ready-fd", 0, "FD", "write the ready line to this descriptor", EVERY, 0, OPT_FD,
	  FIELD(ready_fd), 0, INT32_MAX, NULL },
	{ "progress", 0, NULL, "a line of figures every second on stderr", EVERY, 0, OPT_FLAG,
	  FIELD(progress), 0, 0, NULL },
	{ "json", 'j', NULL, "one JSON document on stdout and nothing else", EVERY, 0, OPT_FLAG,
	  FIELD(json), 0, 0, NULL },
	{ "help", 'h', NULL, "this text", EVERY, 0, OPT_FLAG, FIELD(help), 0, 0, NULL },
};

static unsigned int verb_mask(const struct verb *v)
{
	return 1u << (v - verbs);
}

static const struct verb *find_verb(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	}
	return NULL;
}

static const struct option_def *find_option(const struct verb *v, const char *name, size_t len,
					    char letter)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option_def *def = &options[i];

		if (!(def->verbs & verb_mask(v)))
			continue;
		if (letter ? def->letter == letter :
			     !strncmp(def->name, name, len) && !def->name[len])
			return def;
	}
	return NULL;
}

static const char *preset_of(const struct verb *v, const char *option)
{
	const struct preset *p;

	for (p = v->presets; p->option; p++) {
		if (!strcmp(p->option, option))
			return p->value;
	}
	return NULL;
}

static void print_option(const struct verb *v, const struct option_def *def, bool rst)
{
	const char *preset = preset_of(v, def->name);
	const char *const *w;
	char left[64];
	int n;

	if (rst) {
		if (def->letter)
			printf("-%c%s%s, ", def->letter, def->metavar ? " " : "",
			       def->metavar ? def->metavar : "");
		printf("--%s%s%s\n   ", def->name, def->metavar ? " " : "",
		       def->metavar ? def->metavar : "");
	} else {
		n = def->letter ? snprintf(left, sizeof(left), "-%c, ", def->letter) :
				  snprintf(left, sizeof(left), "    ");
		snprintf(left + n, sizeof(left) - (size_t)n, "--%s%s%s", def->name,
			 def->metavar ? " " : "", def->metavar ? def->metavar : "");
		printf("  %-30s ", left);
	}
	fputs(def->help, stdout);
	for (w = def->words; w && *w; w++)
		printf("%s%s", w == def->words ? " (" : "|", *w);
	if (def->words)
		putchar(')');
	if (def->required & verb_mask(v))
		fputs(" (required)", stdout);
	else if (preset)
		printf(" (default %s)", preset);
	fputs(rst ? "\n\n" : "\n", stdout);
}

static void print_verb(const struct verb *v, bool rst)
{
	char title[64];
	size_t i, n;

	if (rst) {
		n = (size_t)snprintf(title, sizeof(title), "cman-bench %s", v->name);
		printf("%s\n%.*s\n\n%s\n\n", title, (int)n, "------------------------------",
		       v->summary);
	} else {
		printf("cman-bench %s - %s\n\noptions:\n", v->name, v->summary);
	}
	for (i = 0; i < ARRAY_SIZE(options); i++) {
		if (options[i].verbs & verb_mask(v))
			print_option(v, &options[i], rst);
	}
}

static void print_usage(FILE *f)
{
	size_t i;

	fputs("usage: cman-bench VERB [OPTION]...\n"
	      "       cman-bench VERB --help\n"
	      "       cman-bench help [--rst | --words [VERB]]\n\nverbs:\n",
	      f);
	for (i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(f, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
	fputs("\nexit status: 0 all verified; 1 a session was lost, refused or wrong; 2 usage\n",
	      f);
}

/* `help`, `help --rst`, `help --words [VERB]`, `help VERB` */
static int print_help(int argc, char **argv)
{
	const struct verb *v = argc > 0 ? find_verb(argv[argc - 1]) : NULL;
	size_t i;

	if (argc > 0 && !strcmp(argv[0], "--rst")) {
		for (i = 0; i < ARRAY_SIZE(verbs); i++)
			print_verb(&verbs[i], true);
	} else if (argc > 0 && !strcmp(argv[0], "--words")) {
		for (i = 0; !v && i < ARRAY_SIZE(verbs); i++)
			puts(verbs[i].name);
		for (i = 0; v && i < ARRAY_SIZE(options); i++) {
			if (options[i].verbs & verb_mask(v))
				printf("--%s\n", options[i].name);
		}
	} else if (v) {
		print_verb(v, false);
	} else {
		print_usage(stdout);
	}
	return EXIT_VERIFIED;
}

static void complain_option(const struct verb *v, const char *arg)
{
	size_t i;

	fprintf(stderr, "cman-bench: %s: no option %s; the options are", v->name, arg);
	for (i = 0; i < ARRAY_SIZE(options); i++) {
		if (options[i].verbs & verb_mask(v))
			fprintf(stderr, " --%s", options[i].name);
	}
	fputc('\n', stderr);
}

/* One option at argv[0]; *ret_used is 1 or 2. */
static int parse_one(struct bench_options *opt, int argc, char **argv, int *ret_used)
{
	const struct option_def *def = NULL;
	const char *arg = argv[0], *value = NULL;
	size_t len;

	*ret_used = 1;
	if (arg[0] == '-' && arg[1] == '-') {
		len = strcspn(arg + 2, "=");
		if (arg[2 + len] == '=')
			value = arg + 2 + len + 1;
		if (len)
			def = find_option(opt->verb, arg + 2, len, 0);
	} else if (arg[0] == '-' && arg[1]) {
		def = find_option(opt->verb, NULL, 0, arg[1]);
		if (def && arg[2])
			value = arg + 2;
	} else {
		complain("%s: '%s' is not an option (all arguments are options)", opt->verb->name,
			 arg);
		return -EINVAL;
	}
	if (!def) {
		complain_option(opt->verb, arg);
		return -EINVAL;
	}
	if (def->type == OPT_FLAG && value) {
		complain("--%s takes no value", def->name);
		return -EINVAL;
	}
	if (def->type != OPT_FLAG && !value) {
		if (argc < 2) {
			complain("--%s needs a value: %s", def->name, def->metavar);
			return -EINVAL;
		}
		value = argv[1];
		*ret_used = 2;
	}
	return option_set(opt, def, value);
}

static bool is_given(const struct bench_options *opt, const struct option_def *def)
{
	const void *field = (const char *)opt + def->offset;

	return def->type == OPT_ADDRESS ? ((const struct address_list *)field)->nr > 0 : true;
}

static int parse(struct bench_options *opt, int argc, char **argv)
{
	const struct preset *p;
	int i, used, err;
	size_t k;

	for (p = opt->verb->presets; p->option; p++) {
		err = option_set(opt, find_option(opt->verb, p->option, strlen(p->option), 0),
				 p->value);
		if (err)
			return err;
	}
	for (i = 0; i < argc; i += used) {
		err = parse_one(opt, argc - i, argv + i, &used);
		if (err)
			return err;
	}
	for (k = 0; k < ARRAY_SIZE(options) && !opt->help; k++) {
		const struct option_def *def = &options[k];

		if (!(def->required & verb_mask(opt->verb)) || is_given(opt, def))
			continue;
		complain("%s needs --%s %s", opt->verb->name, def->name, def->metavar);
		return -EINVAL;
	}
	return 0;
}

/* Connections need descriptors; say so before the first one fails. */
static int raise_limits(const struct bench_options *opt)
{
	uint64_t want = opt->sessions + opt->half_close + opt->idle + opt->clients +
			opt->connections + opt->threads * 4 + 32;
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return -errno;
	if (rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
			return -errno;
	}
	if (want > rl.rlim_cur) {
		complain("%s needs %llu descriptors; the hard limit is %llu", opt->verb->name,
			 (unsigned long long)want, (unsigned long long)rl.rlim_cur);
		return -EMFILE;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct bench_options opt = { .threads = 1, .ready_fd = -1, .seed = now_ns() };
	int ret;

	if (argc < 2) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return print_help(argc - 2, argv + 2);
	opt.verb = find_verb(argv[1]);
	if (!opt.verb) {
		complain("no verb '%s'", argv[1]);
		print_usage(stderr);
		return EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_IGN);
	if (parse(&opt, argc - 2, argv + 2)) {
		fprintf(stderr, "Try 'cman-bench %s --help'.\n", opt.verb->name);
		ret = EXIT_USAGE;
	} else if (opt.help) {
		print_verb(opt.verb, false);
		ret = EXIT_VERIFIED;
	} else if (tls_context_new(&opt, &opt.tls_context) || raise_limits(&opt)) {
		ret = EXIT_USAGE;
	} else {
		ret = opt.verb->run(&opt);
	}
	options_release(&opt);
	return ret;
}
