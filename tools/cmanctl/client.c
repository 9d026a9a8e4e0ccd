/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the conversation with one instance (Documentation/control.rst): connect to its socket, send
 * a request, hand out progress, return the result; and what to tell the operator when that fails.
 * One connection may carry several requests. The lower half is silent, so that a migration can try
 * again; ctl_client_fail() is where errors become sentences.
 */
#include "cmanctl.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int __attribute__((format(printf, 3, 4)))
set_error(struct ctl_client *cl, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cl->error, sizeof(cl->error), fmt, ap);
	va_end(ap);
	return err;
}

int ctl_client_open(struct ctl *c, struct ctl_client *cl)
{
	int fd, err;

	memset(cl, 0, sizeof(*cl));
	err = cman_unix_connect(c->socket, &fd);
	if (err)
		return set_error(cl, err, "%s: %s", c->socket, strerror(-err));
	cman_chan_init(&cl->chan, fd);
	cl->open = true;
	return 0;
}

void ctl_client_close(struct ctl_client *cl)
{
	if (cl->open)
		cman_chan_fini(&cl->chan);
	cl->open = false;
}

/* The text of a frame's JSON, parsed; NULL with cl->error set. */
static json_t *frame_json(struct ctl_client *cl, const struct cman_frame *f)
{
	const uint8_t *p;
	json_error_t e;
	json_t *doc;
	size_t n;

	if (cman_frame_bytes(f, CMAN_TAG_JSON, &p, &n) != 0) {
		set_error(cl, 0, "a %s without JSON", cman_frame_type_name(f->type));
		return NULL;
	}
	doc = json_loadb((const char *)p, n, 0, &e);
	if (!doc)
		set_error(cl, 0, "bad JSON: %s", e.text);
	return doc;
}

static int take_reply(struct ctl_client *cl, const struct cman_frame *f, json_t **ret_result)
{
	json_t *doc _cleanup_json_ = frame_json(cl, f);
	const char *error;
	int code = 1;

	if (!doc)
		return -EPROTO;
	if (json_is_true(json_object_get(doc, "ok"))) {
		*ret_result = json_incref(json_object_get(doc, "result"));
		return *ret_result ? 0 : set_error(cl, -EPROTO, "a reply without a result");
	}
	error = json_string_value(json_object_get(doc, "error"));
	if (!error)
		return set_error(cl, -EPROTO, "a reply without \"ok\" and without \"error\"");
	if (json_is_integer(json_object_get(doc, "code")))
		code = (int)json_integer_value(json_object_get(doc, "code"));
	cl->code = code >= CTL_FAILED && code <= CTL_PART ? (enum ctl_exit)code : CTL_FAILED;
	return set_error(cl, -EREMOTEIO, "%s", error);
}

static int take_frame(struct ctl_client *cl, const struct cman_frame *f, ctl_progress_fn *fn,
		      void *arg, json_t **ret_result)
{
	const uint8_t *text;
	size_t n;

	if (f->type == CMAN_FRAME_ERROR) {
		if (cman_frame_bytes(f, CMAN_TAG_TEXT, &text, &n) != 0)
			return set_error(cl, -EPROTO,
					 "the instance did not understand the request");
		return set_error(cl, -EPROTO, "%.*s", (int)(n > 400 ? 400 : n), (const char *)text);
	}
	if (f->nfds || f->sequence != cl->sequence ||
	    (f->type != CMAN_FRAME_REPLY && f->type != CMAN_FRAME_PROGRESS))
		return set_error(cl, -EPROTO, "unexpected %s frame", cman_frame_type_name(f->type));
	if (f->type == CMAN_FRAME_REPLY)
		return take_reply(cl, f, ret_result);
	if (fn) {
		json_t *progress _cleanup_json_ = frame_json(cl, f);

		if (!progress)
			return -EPROTO;
		fn(arg, progress);
	}
	return -EAGAIN;
}

static int send_request(struct ctl_client *cl, const json_t *request)
{
	struct cman_frame_writer w;
	char *text = json_dumps(request, JSON_COMPACT);
	int err;

	if (!text)
		return set_error(cl, -ENOMEM, "the request is not valid UTF-8");
	cman_frame_begin(&w, CMAN_FRAME_REQUEST, ++cl->sequence);
	cman_frame_add_text(&w, CMAN_TAG_JSON, text);
	free(text);
	err = cman_chan_send(&cl->chan, &w, NULL, 0);
	return err ? set_error(cl, err, "%s", strerror(-err)) : 0;
}

int ctl_client_ask(struct ctl_client *cl, json_t *request, int timeout_ms, ctl_progress_fn *fn,
		   void *arg, json_t **ret_result)
{
	int fds[CMAN_FRAME_MAX_FDS], err;
	struct cman_frame f;

	err = request ? send_request(cl, request) : set_error(cl, -ENOMEM, "out of memory");
	json_decref(request);
	while (!err) {
		err = cman_chan_wait(&cl->chan, timeout_ms, &f, fds);
		if (err == -EAGAIN || err == -ETIMEDOUT)
			return set_error(cl, -ETIMEDOUT, "no answer for %d seconds",
					 timeout_ms / 1000);
		if (err)
			return set_error(cl, err, "%s", cl->chan.why ?: strerror(-err));
		for (unsigned int i = 0; i < f.nfds; i++)
			close(fds[i]);
		err = take_frame(cl, &f, fn, arg, ret_result);
		if (err == -EAGAIN)
			err = 0;
		else
			return err;
	}
	return err;
}

static enum ctl_exit not_running(struct ctl *c)
{
	if (c->broken)
		return ctl_fail_at(c, CTL_USAGE, c->error.text);
	if (c->old)
		return ctl_fail(
			c, CTL_FAILED,
			"there is no old instance %s (no answer on %s): it has exited, or no "
			"migration was started",
			c->alias, c->socket);
	return ctl_fail(
		c, CTL_FAILED,
		"instance %s is not running (no answer on %s): start it with cmanctl startup",
		c->alias, c->socket);
}

enum ctl_exit ctl_client_fail(struct ctl *c, struct ctl_client *cl, int err)
{
	switch (err) {
	case -EREMOTEIO:
		/* FILE:LINE stands first, as in an error that cmanctl finds itself */
		if (cl->code == CTL_USAGE && strchr(cl->error, ':') && cl->error[0] == '/')
			return ctl_fail_at(c, cl->code, cl->error);
		return ctl_fail(c, cl->code, "%s", cl->error);
	case -ENOENT:
	case -ENOTDIR:
	case -ECONNREFUSED:
		return not_running(c);
	case -EACCES:
	case -EPERM:
		return ctl_fail(
			c, CTL_FAILED,
			"no permission to talk to instance %s (%s): run cmanctl as root or as "
			"the owner of the instance",
			c->alias, c->socket);
	case -ETIMEDOUT:
		return ctl_fail(
			c, CTL_FAILED,
			"instance %s does not answer (%s on %s): if it hangs, cmanctl rescue "
			"takes its sessions",
			c->alias, cl->error, c->socket);
	case -EPIPE:
	case -ECONNRESET:
		return ctl_fail(
			c, CTL_FAILED,
			"instance %s closed the connection before it answered: see its log, and "
			"cmanctl status",
			c->alias);
	case -EPROTO:
	case -EPROTONOSUPPORT:
	case -EBADMSG:
	case -ENOMSG:
	case -EMSGSIZE:
		return ctl_fail(c, CTL_FAILED,
				"instance %s and this cmanctl " CMAN_VERSION
				" do not understand each other: %s; use the cmanctl of its release",
				c->alias, cl->error);
	default:
		return ctl_fail(c, CTL_FAILED, "cannot talk to instance %s: %s", c->alias,
				cl->error);
	}
}

enum ctl_exit ctl_ask(struct ctl *c, json_t *request, json_t **ret_result)
{
	enum ctl_exit code = ctl_locate(c);
	struct ctl_client cl;
	int err;

	if (code) {
		json_decref(request);
		return code;
	}
	err = ctl_client_open(c, &cl);
	if (err) {
		json_decref(request);
	} else {
		if (c->broken)
			ctl_warn("%s; going on with %s, as this file names it", c->error.text,
				 c->socket);
		c->broken = false;
		err = ctl_client_ask(&cl, request, CTL_ANSWER_MS, NULL, NULL, ret_result);
	}
	if (err)
		code = ctl_client_fail(c, &cl, err);
	ctl_client_close(&cl);
	return code;
}

enum ctl_exit ctl_ask_and_print(struct ctl *c, json_t *request, json_t **ret_result)
{
	enum ctl_exit code = ctl_ask(c, request, ret_result);

	if (!code && c->json)
		ctl_print_json(c, *ret_result);
	return code;
}

const char *ctl_str(const json_t *object, const char *key)
{
	return json_string_value(table_member(object, key)) ?: "-";
}

json_int_t ctl_int(const json_t *object, const char *key)
{
	return (json_int_t)json_number_value(table_member(object, key));
}
