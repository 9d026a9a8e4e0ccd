/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: who may talk to us, frames in and out, one request of a client at a time.
 * The first frame decides what a connection is: REQUEST makes it a client, HELLO makes it the
 * channel of a handover, which source.c takes over.
 *
 * While a request waits for its answer, or an answer for its reader, nothing more is read from
 * that client: its further requests wait in the socket, in order, and it costs us nothing to be
 * slow. A client lives until its connection is closed and its request, if any, is answered; who
 * waits on its behalf and said so by client_on_close() is told when it goes, and then forgets it.
 */
#include "usr/manager/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/sys/log.h"

#define CLIENTS_MAX 64
#define ACCEPT_MAX  8 /* at a time: those that were served, or have gone, make room meanwhile */

struct client {
	struct manager *m;
	struct client *next;
	struct cman_chan chan;
	uv_poll_t poll;
	bool open;	   /* connection and poll handle */
	bool busy;	   /* a request waits for its reply */
	bool asked;	   /* has sent a request: no handover any more */
	bool half;	   /* sends nothing more, but still reads */
	bool closing;	   /* as soon as all is sent */
	bool running;	   /* within on_client(): it goes on reading and closing */
	bool handle;	   /* libuv still has @poll */
	uint32_t sequence; /* of the request */
	void (*on_close)(void *arg);
	void *arg;
};

static int spare_fd = -1; /* given up to turn a client away when no descriptor is left */

static void on_client(uv_poll_t *p, int status, int events);

/* ---- life ---- */

static void client_free_if_done(struct client *c)
{
	struct client **at;

	if (c->handle || c->busy || c->running)
		return;
	for (at = &c->m->clients; *at; at = &(*at)->next) {
		if (*at != c)
			continue;
		*at = c->next;
		break;
	}
	free(c);
}

static void on_handle_closed(uv_handle_t *h)
{
	struct client *c = h->data;

	c->handle = false;
	client_free_if_done(c);
}

/* The connection is over for us; @c may be gone afterwards, unless it is running. */
static void client_close(struct client *c)
{
	void (*fn)(void *arg) = c->on_close;

	if (!c->open)
		return;
	c->open = false;
	uv_poll_stop(&c->poll);
	uv_close((uv_handle_t *)&c->poll, on_handle_closed);
	cman_chan_fini(&c->chan);
	c->on_close = NULL;
	if (fn && c->busy) {
		c->busy = false;
		fn(c->arg);
	}
}

/* Does the peer only not send any more, or is it gone? */
static bool hung_up(const struct client *c)
{
	struct pollfd p = { .fd = c->chan.fd };

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

static void client_watch(struct client *c)
{
	int events = 0;

	if (!c->open)
		return;
	if (cman_chan_wants_write(&c->chan))
		events |= UV_WRITABLE;
	else if (!c->busy && !c->half && !c->closing)
		events |= UV_READABLE;
	if (!c->half)
		events |= UV_DISCONNECT;
	if (events)
		uv_poll_start(&c->poll, events, on_client);
	else
		uv_poll_stop(&c->poll);
}

/* ---- answers ---- */

static int send_json(struct client *c, enum cman_frame_type type, json_t *document)
{
	struct cman_frame_writer w;
	char *text = json_dumps(document, JSON_COMPACT | JSON_REAL_PRECISION(12));
	int err;

	json_decref(document);
	if (!text)
		return -ENOMEM;
	cman_frame_begin(&w, type, c->sequence);
	cman_frame_add_text(&w, CMAN_TAG_JSON, text);
	err = cman_chan_send(&c->chan, &w, NULL, 0);
	free(text);
	return err;
}

/* A JSON string in any case: what is quoted in it, or was cut, may be no UTF-8. */
static json_t *text_json(char *text)
{
	json_t *json = json_string(text);

	for (char *p = text; !json && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	return json ? json : json_string(text);
}

static int send_error(struct client *c, int code, char *text)
{
	return send_json(c, CMAN_FRAME_REPLY,
			 json_pack("{s:b, s:o, s:i}", "ok", 0, "error", text_json(text), "code",
				   code));
}

/* The request is answered: the next one, or the end. */
static void answered(struct client *c, int err)
{
	c->busy = false;
	c->on_close = NULL;
	if (err && c->open)
		client_close(c);
	if (c->running)
		return;
	if (c->open && c->half && !cman_chan_wants_write(&c->chan))
		client_close(c);
	if (c->open)
		client_watch(c);
	else
		client_free_if_done(c);
}

void client_reply(struct client *c, json_t *result)
{
	int err = 0;

	if (!c->busy || !c->open) {
		json_decref(result);
	} else if (!result) {
		err = send_error(c, 1, (char[]){ "no memory for the answer" });
	} else {
		err = send_json(c, CMAN_FRAME_REPLY,
				json_pack("{s:b, s:o}", "ok", 1, "result", result));
		if (err == -EMSGSIZE || err == -ENOMEM)
			err = send_error(c, 1,
					 (char[]){ "the answer is too large: ask for a part "
						   "of it (--service, --source, --state)" });
	}
	if (c->busy)
		answered(c, err);
}

void client_error(struct client *c, int code, const char *format, ...)
{
	char text[1024];
	va_list ap;
	int err = 0;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (!c->busy)
		return;
	if (c->open)
		err = send_error(c, code, text);
	answered(c, err);
}

void client_progress(struct client *c, json_t *progress)
{
	/* who does not read misses some; the reply comes in any case */
	if (!c->open || !c->busy || cman_chan_wants_write(&c->chan)) {
		json_decref(progress);
		return;
	}
	if (send_json(c, CMAN_FRAME_PROGRESS, progress)) {
		client_close(c);
		client_free_if_done(c);
		return;
	}
	client_watch(c);
}

struct manager *client_manager(struct client *c)
{
	return c->m;
}

void client_on_close(struct client *c, void (*fn)(void *arg), void *arg)
{
	c->on_close = fn;
	c->arg = arg;
}

/* An ERROR frame; then the connection ends. */
static void refuse(struct client *c, uint32_t sequence, const char *why)
{
	struct cman_frame_writer w;

	c->closing = true;
	cman_frame_begin(&w, CMAN_FRAME_ERROR, sequence);
	cman_frame_add_text(&w, CMAN_TAG_TEXT, why);
	if (cman_chan_send(&c->chan, &w, NULL, 0))
		client_close(c);
}

/* ---- requests ---- */

static void request(struct client *c, const struct cman_frame *f)
{
	const char *command;
	const uint8_t *text;
	json_error_t error;
	json_t *document;
	size_t n;

	c->asked = true;
	c->busy = true;
	c->sequence = f->sequence;
	if (cman_frame_bytes(f, CMAN_TAG_JSON, &text, &n)) {
		client_error(c, 2, "the request holds no JSON");
		return;
	}
	document = json_loadb((const char *)text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
			      &error);
	if (!document) {
		client_error(c, 2, "the request is no JSON: %s, at line %d, column %d", error.text,
			     error.line, error.column);
		return;
	}
	command = json_string_value(json_object_get(document, "command"));
	if (!json_is_object(document))
		client_error(c, 2, "the request is no JSON object: expected {\"command\": ...}");
	else if (!json_object_get(document, "command"))
		client_error(c, 2, "the request has no member \"command\"");
	else if (!command)
		client_error(c, 2, "member \"command\": expected a string");
	else if (command_run(c->m, c, command, document) == -ENOSYS)
		client_error(c, 2, "unknown command \"%s\"", command);
	json_decref(document);
}

/* The connection becomes source.c's, with all that the channel points to. */
static void hand_over(struct client *c, const struct cman_frame *hello)
{
	struct cman_chan chan = c->chan;

	if (!chan.out_head)
		chan.out_tail = &chan.out_head;
	uv_poll_stop(&c->poll);
	uv_close((uv_handle_t *)&c->poll, on_handle_closed);
	cman_chan_init(&c->chan, -1);
	c->open = false;
	source_begin(c->m, &chan, hello);
}

static void frame(struct client *c, const struct cman_frame *f, const int *fds)
{
	for (unsigned int i = 0; i < f->nfds; i++)
		close(fds[i]);
	if (f->type == CMAN_FRAME_REQUEST) {
		request(c, f);
	} else if (f->type == CMAN_FRAME_HELLO && !c->asked) {
		hand_over(c, f);
	} else {
		char why[120];

		snprintf(why, sizeof(why), "%s is not expected here: expected REQUEST%s",
			 cman_frame_type_name(f->type), c->asked ? "" : " or HELLO");
		cman_warn("a client of the control socket is refused", "why=\"%s\"", why);
		refuse(c, f->sequence, why);
	}
}

static void receive(struct client *c)
{
	int fds[CMAN_FRAME_MAX_FDS], err;
	struct cman_frame f;

	while (c->open && !c->busy && !c->half && !c->closing && !cman_chan_wants_write(&c->chan)) {
		err = cman_chan_receive(&c->chan, &f, fds);
		if (err == -EAGAIN)
			return;
		if (!err) {
			frame(c, &f, fds);
		} else if (err == -EPIPE) {
			c->half = true;
		} else {
			cman_warn("a client of the control socket sent a bad frame",
				  "why=\"%s\" err=\"%s\"", c->chan.why, strerror(-err));
			refuse(c, 0, c->chan.why);
		}
	}
}

static void on_client(uv_poll_t *p, int status, int events)
{
	struct client *c = p->data;
	int err = 0;

	c->running = true;
	if (events & UV_WRITABLE)
		err = cman_chan_flush(&c->chan);
	/* what it sent before it went is still heard, but not what it sent behind a request */
	if (status >= 0 && (!err || err == -EAGAIN))
		receive(c);
	if (c->open && (events & UV_DISCONNECT) && !c->half) {
		if (hung_up(c))
			status = -EPIPE;
		else if (c->busy || cman_chan_wants_write(&c->chan))
			c->half = true; /* level-triggered: asked once */
	}
	c->running = false;
	if (!c->open) {
		client_free_if_done(c);
		return;
	}
	if (status < 0 || (err && err != -EAGAIN) ||
	    ((c->closing || c->half) && !c->busy && !cman_chan_wants_write(&c->chan))) {
		client_close(c);
		client_free_if_done(c);
		return;
	}
	client_watch(c);
}

/* ---- new connections ---- */

static unsigned int count_clients(const struct manager *m)
{
	unsigned int n = 0;

	for (const struct client *c = m->clients; c; c = c->next)
		n += c->open;
	return n;
}

/* Too early for a client: says why, and ends the connection. */
static void turn_away(int fd, const char *why)
{
	struct cman_frame_writer w;
	struct cman_chan chan;

	cman_warn("a client of the control socket is turned away", "why=\"%s\"", why);
	cman_chan_init(&chan, fd);
	cman_frame_begin(&w, CMAN_FRAME_ERROR, 0);
	cman_frame_add_text(&w, CMAN_TAG_TEXT, why);
	cman_chan_send(&chan, &w, NULL, 0);
	cman_chan_fini(&chan);
}

static const char *why_not(struct manager *m, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return "the peer's user is not known";
	if (peer.uid && peer.uid != geteuid())
		return "permission denied: only root and the owner of the instance may talk to it";
	if (count_clients(m) >= CLIENTS_MAX)
		return "too many clients: try again when others have finished";
	return NULL;
}

static void client_new(struct manager *m, int fd)
{
	const char *why = why_not(m, fd);
	struct client *c = why ? NULL : calloc(1, sizeof(*c));

	if (!c || uv_poll_init(&m->loop, &c->poll, fd)) {
		turn_away(fd, why ? why : "no memory for another client");
		free(c);
		return;
	}
	c->m = m;
	c->open = c->handle = true;
	c->poll.data = c;
	cman_chan_init(&c->chan, fd);
	c->next = m->clients;
	m->clients = c;
	client_watch(c);
}

static void on_connect(uv_poll_t *p, int status, int events)
{
	struct manager *m = p->data;

	(void)status;
	(void)events;
	for (int i = 0; i < ACCEPT_MAX; i++) {
		int fd = accept4(m->control_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			client_new(m, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if ((errno != EMFILE && errno != ENFILE) || spare_fd < 0)
			return;
		close(spare_fd);
		fd = accept4(m->control_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			turn_away(fd, "no descriptor is free for another client");
		spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
}

int control_listen(struct manager *m)
{
	char path[256];
	int fd, err;

	err = cman_unix_listen(rundir_path(m, m->name, "ctl.sock", path, sizeof(path)), 0600, &fd);
	if (err)
		return err;
	err = uv_poll_init(&m->loop, &m->control_poll, fd);
	if (err) {
		close(fd);
		return err;
	}
	m->control_fd = fd;
	m->control_poll.data = m;
	if (spare_fd < 0)
		spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return uv_poll_start(&m->control_poll, UV_READABLE, on_connect);
}

/* Who still waits for an answer may give it now: it is told before the connection ends. */
static void client_last_call(struct client *c)
{
	void (*fn)(void *arg) = c->on_close;

	c->running = true;
	c->on_close = NULL;
	if (fn && c->busy)
		fn(c->arg);
	c->busy = false;
	if (c->open) {
		cman_chan_flush(&c->chan);
		client_close(c);
	}
	c->running = false;
	client_free_if_done(c);
}

void control_close(struct manager *m)
{
	struct client *c, *next;

	if (m->control_fd < 0)
		return;
	uv_poll_stop(&m->control_poll);
	uv_close((uv_handle_t *)&m->control_poll, NULL);
	close(m->control_fd);
	m->control_fd = -1;
	for (c = m->clients; c; c = next) {
		next = c->next;
		if (c->running) /* a command of it ends the instance: on_client() does the rest */
			c->closing = true;
		else if (c->open)
			client_last_call(c);
	}
	if (spare_fd >= 0)
		close(spare_fd);
	spare_fd = -1;
}
