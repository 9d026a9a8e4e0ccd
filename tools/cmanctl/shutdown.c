/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the verb shutdown: asks before live sessions are cut, shows how many are left while they
 * drain, and returns when the manager process is really gone.
 */
#include "cmanctl.h"

#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXIT_MS 10000

struct drain {
	struct ctl_progress progress;
	json_int_t first; /* sessions when it began */
};

static void show_drain(void *arg, const json_t *progress)
{
	json_int_t left = ctl_int(progress, "sessions");
	struct drain *d = arg;

	if (left > d->first)
		d->first = left;
	ctl_progress_update(&d->progress, "sessions ended", d->first - left, d->first);
}

/*
 * A handle of the manager to wait for, when its pid can be trusted: both sides must name the same
 * one (they do not across pid namespaces).
 */
static int open_manager(const struct ctl_client *cl, const json_t *status)
{
	pid_t pid;
	uid_t uid;

	if (cman_chan_peer(&cl->chan, &pid, &uid) != 0 || pid <= 0 ||
	    pid != (pid_t)ctl_int(status, "pid"))
		return -1;
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* 0, or -ETIMEDOUT */
static int await_exit(struct ctl_client *cl, int pidfd)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int fds[CMAN_FRAME_MAX_FDS], err;
	struct cman_frame f;

	if (pidfd >= 0)
		return poll(&pfd, 1, EXIT_MS) == 1 ? 0 : -ETIMEDOUT;
	err = cman_chan_wait(&cl->chan, EXIT_MS, &f, fds);
	return err == -EAGAIN || err == -ETIMEDOUT ? -ETIMEDOUT : 0;
}

static enum ctl_exit confirm(struct ctl *c, const json_t *status)
{
	json_int_t n = ctl_int(status, "sessions");

	if (!n || ctl_given(c, OPT_DRAIN) || ctl_given(c, OPT_ABORT))
		return CTL_DONE;
	return ctl_confirm(c, "%" JSON_INTEGER_FORMAT " session%s will be closed", n, ctl_s(n));
}

static json_t *make_request(struct ctl *c)
{
	json_t *request = json_pack("{s:s}", "command", "shutdown");

	if (ctl_given(c, OPT_DRAIN))
		json_object_set_new(request, "drain_s",
				    json_integer((json_int_t)c->number[OPT_DRAIN]));
	if (ctl_given(c, OPT_ABORT))
		json_object_set_new(request, "abort", json_true());
	return request;
}

static enum ctl_exit stop(struct ctl *c, struct ctl_client *cl, const json_t *status)
{
	json_t *result _cleanup_json_ = NULL;
	struct drain drain = { .first = ctl_int(status, "sessions") };
	int timeout_ms = CTL_ANSWER_MS + (int)c->number[OPT_DRAIN] * 1000;
	int pidfd = open_manager(cl, status), err;
	enum ctl_exit code = CTL_DONE;

	ctl_progress_init(&drain.progress, c);
	err = ctl_client_ask(cl, make_request(c), timeout_ms, show_drain, &drain, &result);
	ctl_progress_end(&drain.progress);
	if (err)
		code = ctl_client_fail(c, cl, err);
	else if (await_exit(cl, pidfd) != 0)
		code = ctl_fail(c, CTL_FAILED,
				"instance %s has stopped its work, but pid %" JSON_INTEGER_FORMAT
				" still runs after %d seconds",
				c->alias, ctl_int(status, "pid"), EXIT_MS / 1000);
	else if (c->json)
		ctl_print_json(c, result);
	else
		ctl_say(c, "instance %s has stopped; %" JSON_INTEGER_FORMAT " session%s closed",
			c->alias, ctl_int(result, "sessions_closed"),
			ctl_int(result, "sessions_closed") == 1 ? " was" : "s were");
	if (pidfd >= 0)
		close(pidfd);
	return code;
}

enum ctl_exit ctl_verb_shutdown(struct ctl *c)
{
	json_t *status _cleanup_json_ = NULL;
	enum ctl_exit code;
	struct ctl_client cl;
	int err;

	code = ctl_ask(c, json_pack("{s:s}", "command", "status"), &status);
	if (!code)
		code = confirm(c, status);
	if (code)
		return code;
	err = ctl_client_open(c, &cl);
	code = err ? ctl_client_fail(c, &cl, err) : stop(c, &cl, status);
	ctl_client_close(&cl);
	return code;
}
