/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cmand: command line, daemonising, and the manager's loop. The foreground process of a daemon
 * waits until the instance accepts connections, and ends with its exit code: 0 ready, 1 failed,
 * 2 wrong usage or configuration.
 */
#include "usr/manager/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usr/sys/conf.h"
#include "usr/sys/crash.h"
#include "usr/sys/log.h"
#include "usr/sys/proc.h"

const char *const cman_version = CMAN_VERSION;

static const struct cmand_option {
	const char *name;
	int short_name;
	const char *metavar; /* NULL: a flag */
	const char *help;
} options[] = {
	{ "file", 'f', "FILE", "configuration (default " CMAN_DEFAULT_CONF ")" },
	{ "alias", 'c', "ALIAS", "instance to run (may be left out when FILE defines one)" },
	{ "foreground", 'F', NULL, "do not daemonise; log on stderr" },
	{ "migrate", 'm', NULL, "take over listeners and live sessions of the running instance" },
	{ "rescue", 'r', NULL, "take the sessions of a hung instance without its help" },
	{ "via", 'V', "V", "carrier of a migration: auto, fd or repair" },
	{ "timeout", 't', "S", "seconds after which the old instance of a migration exits" },
	{ "version", 'v', NULL, "print the release and exit" },
	{ "help", 'h', NULL, "print this help and exit" },
};
#define NOPTIONS (sizeof(options) / sizeof(*options))

static void usage(FILE *f)
{
	fprintf(f,
		"usage: cmand [OPTION]...\n"
		"Runs one instance of the connection manager. cmanctl(8) starts and steers it.\n\n");
	for (size_t i = 0; i < NOPTIONS; i++) {
		char left[64];

		snprintf(left, sizeof(left), "-%c, --%s%s%s", options[i].short_name,
			 options[i].name, options[i].metavar ? " " : "",
			 options[i].metavar ? options[i].metavar : "");
		fprintf(f, "  %-24s %s\n", left, options[i].help);
	}
}

static int bad_usage(const char *what, const char *value)
{
	fprintf(stderr, "cmand: %s%s%s; see cmand --help\n", what, value ? ": " : "",
		value ? value : "");
	return 2;
}

/* 0: go on; else the exit code + 1 */
static int parse(struct manager *m, int argc, char **argv)
{
	struct option longs[NOPTIONS + 1] = { 0 };
	char shorts[3 * NOPTIONS + 2] = ":";
	int opt;

	for (size_t i = 0; i < NOPTIONS; i++) {
		char one[3] = { (char)options[i].short_name, options[i].metavar ? ':' : 0, 0 };

		longs[i] = (struct option){
			.name = options[i].name,
			.has_arg = options[i].metavar ? required_argument : no_argument,
			.val = options[i].short_name,
		};
		strcat(shorts, one);
	}
	m->opt.file = CMAN_DEFAULT_CONF;
	opterr = 0;
	while ((opt = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		char *end;
		unsigned long n;

		switch (opt) {
		case 'f':
			m->opt.file = optarg;
			break;
		case 'c':
			m->opt.alias = optarg;
			break;
		case 'F':
			m->opt.foreground = true;
			break;
		case 'm':
			m->opt.migrate = true;
			break;
		case 'r':
			m->opt.rescue = true;
			break;
		case 'V':
			if (!strcmp(optarg, "auto"))
				m->opt.via = CMAN_VIA_AUTO;
			else if (!strcmp(optarg, "fd"))
				m->opt.via = CMAN_VIA_FD;
			else if (!strcmp(optarg, "repair"))
				m->opt.via = CMAN_VIA_REPAIR;
			else
				return 1 + bad_usage("--via takes auto, fd or repair, not", optarg);
			break;
		case 't':
			errno = 0;
			n = strtoul(optarg, &end, 10);
			if (errno || *end || end == optarg || n < 1 || n > 86400)
				return 1 + bad_usage("--timeout takes seconds from 1 to 86400, not",
						     optarg);
			m->opt.timeout_s = (uint32_t)n;
			break;
		case 'v':
			printf("cmand %s\n", cman_version);
			return 1;
		case 'h':
			usage(stdout);
			return 1;
		case ':':
			return 1 + bad_usage("a value is missing after", argv[optind - 1]);
		default:
			return 1 + bad_usage("unknown option", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return 1 + bad_usage("unexpected argument", argv[optind]);
	if (m->opt.migrate && m->opt.rescue)
		return 1 + bad_usage("--migrate and --rescue exclude each other", NULL);
	return 0;
}

static int load(struct manager *m)
{
	struct cman_conf_error error;
	size_t len;
	bool old;

	if (cman_conf_load(m->opt.file, &m->conf, &error)) {
		fprintf(stderr, "%s\n", error.text);
		return 2;
	}
	/* ALIAS_old is adopted under its own name, with the configuration of ALIAS */
	len = m->opt.alias ? strlen(m->opt.alias) : 0;
	old = len > 4 && !strcmp(m->opt.alias + len - 4, "_old");
	if (old) {
		char alias[CMAN_NAME_LEN];

		snprintf(alias, sizeof(alias), "%.*s", (int)(len - 4), m->opt.alias);
		m->ic = cman_conf_instance(m->conf, alias);
	} else {
		m->ic = cman_conf_instance(m->conf, m->opt.alias);
	}
	if (!m->ic) {
		fprintf(stderr, "%s: %s%s%s\n", m->opt.file,
			m->opt.alias ? "no instance is called " :
				       "several instances: say which one with -c ALIAS",
			m->opt.alias ? m->opt.alias : "", "");
		return 2;
	}
	snprintf(m->alias, sizeof(m->alias), "%s", m->ic->alias);
	snprintf(m->name, sizeof(m->name), "%s%s", m->alias,
		 old				 ? "_old" :
		 m->opt.migrate || m->opt.rescue ? "_new" :
						   "");
	if (cman_proc_user(m->ic->user, &m->uid, &m->gid)) {
		fprintf(stderr, "%s:%u: user: there is no user %s\n", m->opt.file, m->ic->line,
			m->ic->user ? m->ic->user : "nobody");
		return 2;
	}
	return 0;
}

/*
 * Daemonises. In the daemon: 0, with m->ready_fd. In the foreground process: never returns.
 */
static int daemonise(struct manager *m)
{
	char path[256], status;
	int fds[2], log, null;
	pid_t pid;
	ssize_t n;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		close(fds[1]);
		do
			n = read(fds[0], &status, 1);
		while (n < 0 && errno == EINTR);
		exit(n == 1 ? status - '0' : 1);
	}
	/* whatever else the caller has open must not live as long as we do */
	cman_proc_close_others(&fds[1], 1);
	setsid();
	m->ready_fd = fds[1];
	if (m->ic->log)
		snprintf(path, sizeof(path), "%s", m->ic->log);
	else
		snprintf(path, sizeof(path), "%s/%s.log", m->ic->run_dir, m->alias);
	mkdir(m->ic->run_dir, 0755);
	log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (log < 0) {
		fprintf(stderr, "cmand: cannot open the log %s: %s\n", path, strerror(errno));
		return -errno;
	}
	dup2(null, 0);
	dup2(null, 1);
	close(null);
	/* errors of the start still go to the terminal, too: the parent's stderr is kept until ready */
	m->start_stderr = fcntl(2, F_DUPFD_CLOEXEC, 3);
	dup2(log, 2);
	close(log);
	return 0;
}

static void on_signal(uv_signal_t *s, int number)
{
	struct manager *m = s->data;

	if (number == SIGHUP)
		control_reload(m);
	else
		instance_shutdown(m, 0);
}

static void signals(struct manager *m)
{
	uv_signal_t *handles[] = { &m->sigterm, &m->sigint, &m->sighup };
	const int numbers[] = { SIGTERM, SIGINT, SIGHUP };

	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	for (size_t i = 0; i < 3; i++) {
		uv_signal_init(&m->loop, handles[i]);
		handles[i]->data = m;
		uv_signal_start(handles[i], on_signal, numbers[i]);
		uv_unref((uv_handle_t *)handles[i]);
	}
}

static int run(struct manager *m)
{
	const char *why = "";
	bool mounted = false;
	int err = cman_bpffs_ensure(&mounted);

	if (err) {
		cman_err("bpffs cannot be mounted on " CMAN_BPFFS, "err=\"%s\"", strerror(-err));
		return err;
	}
	cman_proc_nofile();
	cman_proc_memlock();
	if (m->opt.migrate)
		return target_begin(m);
	if (m->opt.rescue) {
		err = rescue_start(m, &why);
		if (err)
			cman_err("the rescue failed", "why=\"%s\" err=\"%s\"", why, strerror(-err));
		return err;
	} else {
		err = instance_start(m);
	}
	if (!err)
		instance_ready(m);
	return err;
}

int main(int argc, char **argv)
{
	static struct manager manager;
	struct manager *m = &manager;
	int err;

	cman_proc_init(argc, argv);
	cman_crash_init(NULL, NULL);
	m->ready_fd = m->start_stderr = m->lock_fd = m->control_fd = -1;
	m->hold_fd[0] = m->hold_fd[1] = m->credentials_fd = -1;
	cman_splice_init(&m->splice);
	m->journal.fd = -1;
	for (int i = 0; i < CMAN_MAX_LISTENERS; i++)
		m->listener_fd[i] = -1;
	err = parse(m, argc, argv);
	if (err)
		return err - 1;
	cman_log_init("manager");
	err = load(m);
	if (err)
		return err;
	cman_log_set_level(m->ic->log_level);
	if (!m->opt.foreground) {
		err = daemonise(m);
		if (err)
			return 1;
	}
	cman_proc_title(m->alias, "manager");
	if (uv_loop_init(&m->loop))
		return 1;
	signals(m);
	err = run(m);
	if (err) {
		if (m->start_stderr >= 0)
			dprintf(m->start_stderr,
				"cmand: instance %s did not start: %s; the log says why\n",
				m->alias, strerror(-err));
		return 1;
	}
	if (cman_proc_limit_manager()) {
		cman_err("the manager cannot give up the privileges that it does not need",
			 "err=\"%s\"", strerror(errno));
		instance_shutdown(m, 0);
	}
	uv_run(&m->loop, UV_RUN_DEFAULT);
	return m->exit_code;
}
