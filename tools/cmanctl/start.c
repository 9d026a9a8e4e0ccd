/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns everything that runs the program cmand: startup, rescue, and the migration, which is
 * cmand --migrate followed to its end. cmand becomes a daemon by itself; its foreground process
 * ends when the instance is ready, and has told its errors on stderr.
 *
 *	status of the old -> run cmand --migrate -> the name is the new one's -> "migration" -> report
 *
 * When the new instance dies while we wait, the old one may take the name back: then we find it at
 * the same socket, and say so.
 */
#include "cmanctl.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_MS   5000  /* a manager that needs longer hangs */
#define TAKEOVER_MS 10000 /* from cmand's "ready" until its socket has the name */
#define SURVIVOR_MS 10000 /* until somebody takes the name after a death */
#define RETRY_US    20000

extern char **environ;

/* ---- the program ---- */

static bool is_program(const char *path)
{
	return access(path, X_OK) == 0;
}

/* The folder of cmanctl itself, with the slash. */
static bool own_folder(char buf[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", buf, PATH_MAX - 1);
	char *slash;

	if (n <= 0)
		return false;
	buf[n] = '\0';
	slash = strrchr(buf, '/');
	if (slash)
		slash[1] = '\0';
	return slash;
}

static bool search_path(char buf[PATH_MAX])
{
	const char *p = getenv("PATH") ?: "/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin";
	size_t n;

	for (; *p; p += n + (p[n] == ':')) {
		n = strcspn(p, ":");
		if (n && snprintf(buf, PATH_MAX, "%.*s/cmand", (int)n, p) < PATH_MAX &&
		    is_program(buf))
			return true;
	}
	return false;
}

static enum ctl_exit find_cmand(struct ctl *c, char buf[PATH_MAX])
{
	const char *home = c->value[OPT_HOME];
	char folder[PATH_MAX];

	if (home) {
		snprintf(buf, PATH_MAX, "%s/bin/cmand", home);
		if (!is_program(buf))
			return ctl_fail(c, CTL_USAGE, "--home %s: there is no program %s (%s)",
					home, buf, strerror(errno));
		return CTL_DONE;
	}
	if (own_folder(folder) && snprintf(buf, PATH_MAX, "%scmand", folder) < PATH_MAX &&
	    is_program(buf))
		return CTL_DONE;
	if (search_path(buf))
		return CTL_DONE;
	return ctl_fail(
		c, CTL_FAILED,
		"cannot find the program cmand beside cmanctl or in $PATH: say where with --home");
}

/* cmand works in another folder; links are kept, so that a reload follows them again. */
static char *absolute(const char *file)
{
	char *cwd, *path = NULL;

	if (*file == '/')
		return strdup(file);
	cwd = getcwd(NULL, 0);
	if (cwd && asprintf(&path, "%s/%s", cwd, file) < 0)
		path = NULL;
	free(cwd);
	return path;
}

static enum ctl_exit spawn_and_wait(struct ctl *c, const char *path, char *const argv[])
{
	posix_spawn_file_actions_t actions;
	int status, err;
	pid_t pid;

	/* stdout is ours: with --json nothing else may stand there */
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	fflush(stdout);
	err = posix_spawn(&pid, path, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err)
		return ctl_fail(c, CTL_FAILED, "cannot run %s: %s", path, strerror(err));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return ctl_fail(c, CTL_FAILED, "cannot wait for %s: %s", path,
					strerror(errno));
	if (WIFSIGNALED(status))
		return ctl_fail(c, CTL_FAILED, "%s was killed by signal %d (%s)", path,
				WTERMSIG(status), strsignal(WTERMSIG(status)));
	if (!WEXITSTATUS(status))
		return CTL_DONE;
	return ctl_fail(c, WEXITSTATUS(status) == CTL_USAGE ? CTL_USAGE : CTL_FAILED,
			"instance %s has not started: %s ended with exit code %d", c->alias, path,
			WEXITSTATUS(status));
}

/* @mode: "--migrate", "--rescue", NULL */
static enum ctl_exit run_cmand(struct ctl *c, const char *path, const char *mode)
{
	const char *argv[12] = { NULL };
	char *file = absolute(c->file);
	enum ctl_exit code;
	unsigned int n = 0;

	if (!file)
		return ctl_fail(c, CTL_FAILED, "cannot find the folder of %s: %s", c->file,
				strerror(errno));
	argv[n++] = path;
	argv[n++] = "-f";
	argv[n++] = file;
	argv[n++] = "-c";
	argv[n++] = c->alias;
	if (mode)
		argv[n++] = mode;
	if (ctl_given(c, OPT_TIMEOUT)) {
		argv[n++] = "--timeout";
		argv[n++] = c->value[OPT_TIMEOUT];
	}
	if (ctl_given(c, OPT_VIA)) {
		argv[n++] = "--via";
		argv[n++] = c->value[OPT_VIA];
	}
	code = spawn_and_wait(c, path, (char *const *)argv);
	free(file);
	return code;
}

/* ---- asking who has the name ---- */

static int ask_status(struct ctl *c, struct ctl_client *cl, json_t **ret_status)
{
	int err = ctl_client_open(c, cl);

	if (!err)
		err = ctl_client_ask(cl, json_pack("{s:s}", "command", "status"), STATUS_MS, NULL,
				     NULL, ret_status);
	return err;
}

/*
 * Waits until an instance other than @not_pid answers at the socket. 0 with an open connection;
 * -EALREADY when it is @not_pid still at the end; or the last error.
 */
static int await_instance(struct ctl *c, struct ctl_client *cl, json_int_t not_pid, int64_t ms,
			  json_t **ret_status)
{
	int64_t end = ctl_now_ms() + ms;
	int err;

	for (;;) {
		err = ask_status(c, cl, ret_status);
		if (!err && ctl_int(*ret_status, "pid") != not_pid)
			return 0;
		if (!err) {
			json_decref(*ret_status);
			*ret_status = NULL;
			err = -EALREADY;
		}
		if (ctl_now_ms() >= end)
			return err;
		ctl_client_close(cl);
		usleep(RETRY_US);
	}
}

/* Whatever can be wrong before something is started: configuration, alias, program. */
static enum ctl_exit prepare(struct ctl *c, char path[PATH_MAX])
{
	enum ctl_exit code = ctl_load(c);

	if (!code && c->old)
		return ctl_fail(
			c, CTL_USAGE,
			"%s is the old instance of a migration: it cannot be started; say -c %s",
			c->alias, c->instance->alias);
	return code ?: find_cmand(c, path);
}

/* Runs cmand and says that the instance is there. */
static enum ctl_exit start(struct ctl *c, const char *mode)
{
	json_t *status _cleanup_json_ = NULL;
	char path[PATH_MAX];
	enum ctl_exit code = prepare(c, path);
	struct ctl_client cl;
	int err;

	code = code ?: run_cmand(c, path, mode);
	if (code)
		return code;
	err = await_instance(c, &cl, -1, TAKEOVER_MS, &status);
	if (err) {
		code = ctl_fail(c, CTL_FAILED,
				"%s has started, but instance %s does not answer (%s): see its log",
				path, c->alias, cl.error);
	} else if (c->json) {
		ctl_print_json(c, status);
	} else {
		json_int_t sessions = ctl_int(status, "sessions");

		ctl_say(c,
			"instance %s runs (pid %" JSON_INTEGER_FORMAT
			", version %s, %" JSON_INTEGER_FORMAT " session%s)",
			c->alias, ctl_int(status, "pid"), ctl_str(status, "version"), sessions,
			ctl_s(sessions));
	}
	ctl_client_close(&cl);
	return code;
}

enum ctl_exit ctl_verb_rescue(struct ctl *c)
{
	return start(c, "--rescue");
}

/* ---- the migration ---- */

static void interrupted(int sig)
{
	static const char note[] = "\ncmanctl: the migration goes on: 'cmanctl status' shows it, "
				   "'cmanctl migrate --cancel' stops it\n";
	ssize_t n = write(STDERR_FILENO, note, sizeof(note) - 1);

	(void)n;
	signal(sig, SIG_DFL);
	raise(sig);
}

static void show_progress(void *arg, const json_t *progress)
{
	ctl_progress_update(arg, ctl_str(progress, "phase"), ctl_int(progress, "moved"),
			    ctl_int(progress, "total"));
}

/* Somebody else than the new instance answers, or nobody. */
static enum ctl_exit tell_death(struct ctl *c, const json_t *old, json_int_t new_pid,
				const json_t *now, int err)
{
	char who[64] = "";

	if (new_pid)
		snprintf(who, sizeof(who), " (pid %" JSON_INTEGER_FORMAT ")", new_pid);
	if (!now)
		return ctl_fail(
			c, CTL_FAILED,
			"the new instance%s died during the migration, and nobody answers on %s "
			"(%s): see the log; cmanctl rescue takes sessions that are still there",
			who, c->socket, strerror(-err));
	if (ctl_int(now, "pid") == ctl_int(old, "pid"))
		return ctl_fail(
			c, CTL_FAILED,
			"the new instance%s died during the migration; the old one (pid %" JSON_INTEGER_FORMAT
			", version %s) has the name %s again and serves %" JSON_INTEGER_FORMAT
			" sessions: see its log before the next try",
			who, ctl_int(old, "pid"), ctl_str(old, "version"), c->alias,
			ctl_int(now, "sessions"));
	return ctl_fail(
		c, CTL_FAILED,
		"the new instance%s died during the migration; now pid %" JSON_INTEGER_FORMAT
		" (version %s) is instance %s: see cmanctl status",
		who, ctl_int(now, "pid"), ctl_str(now, "version"), c->alias);
}

/* Follows the migration on the open connection to the new instance @now. */
static enum ctl_exit follow(struct ctl *c, struct ctl_client *cl, const json_t *old, json_t *now)
{
	json_t *report _cleanup_json_ = NULL, *survivor _cleanup_json_ = NULL;
	json_int_t new_pid = ctl_int(now, "pid");
	struct ctl_progress progress;
	int err;

	ctl_progress_init(&progress, c);
	for (;;) {
		err = ctl_client_ask(cl, json_pack("{s:s}", "command", "migration"), -1,
				     show_progress, &progress, &report);
		if (err != -EPIPE && err != -ECONNRESET)
			break;
		ctl_client_close(cl);
		ctl_progress_update(&progress, "connection lost, looking again", 0, 0);
		json_decref(survivor);
		survivor = NULL;
		err = await_instance(c, cl, -1, SURVIVOR_MS, &survivor);
		if (err || ctl_int(survivor, "pid") != new_pid) {
			ctl_progress_end(&progress);
			return tell_death(c, old, new_pid, survivor, err);
		}
	}
	ctl_progress_end(&progress);
	return err ? ctl_client_fail(c, cl, err) : ctl_report(c, report);
}

static enum ctl_exit migrate_from(struct ctl *c, const char *path, const json_t *old)
{
	json_t *now _cleanup_json_ = NULL;
	struct ctl_client cl;
	enum ctl_exit code = run_cmand(c, path, "--migrate");
	int err;

	if (code)
		return code;
	if (!ctl_given(c, OPT_NO_WAIT)) {
		signal(SIGINT, interrupted);
		signal(SIGTERM, interrupted);
	}
	err = await_instance(c, &cl, ctl_int(old, "pid"), TAKEOVER_MS, &now);
	if (err == -EALREADY) {
		code = ctl_fail(
			c, CTL_FAILED,
			"the new program was ready, but the old one (pid %" JSON_INTEGER_FORMAT
			", version %s) still is instance %s: see the log before the next try",
			ctl_int(old, "pid"), ctl_str(old, "version"), c->alias);
	} else if (err) {
		code = tell_death(c, old, 0, NULL, err);
	} else if (!ctl_given(c, OPT_NO_WAIT)) {
		code = follow(c, &cl, old, now);
	} else if (c->json) {
		ctl_print_json(c, now);
	} else {
		ctl_say(c,
			"pid %" JSON_INTEGER_FORMAT
			" (version %s) is instance %s now; the migration "
			"goes on: 'cmanctl status' shows it, 'cmanctl migrate --cancel' stops it",
			ctl_int(now, "pid"), ctl_str(now, "version"), c->alias);
	}
	ctl_client_close(&cl);
	return code;
}

enum ctl_exit ctl_migrate(struct ctl *c)
{
	json_t *old _cleanup_json_ = NULL;
	enum ctl_exit code;
	struct ctl_client cl;
	char path[PATH_MAX];
	int err;

	code = prepare(c, path);
	if (code)
		return code;
	err = ask_status(c, &cl, &old);
	if (err == -ENOENT || err == -ENOTDIR || err == -ECONNREFUSED)
		code = ctl_fail(c, CTL_FAILED,
				"instance %s is not running (no answer on %s): there is nothing to "
				"migrate; start it with cmanctl startup",
				c->alias, c->socket);
	else if (err)
		code = ctl_client_fail(c, &cl, err);
	ctl_client_close(&cl);
	return code ?: migrate_from(c, path, old);
}

enum ctl_exit ctl_verb_startup(struct ctl *c)
{
	return ctl_given(c, OPT_MIGRATE) ? ctl_migrate(c) : start(c, NULL);
}
