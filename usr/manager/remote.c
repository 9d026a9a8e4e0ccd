/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way to other hosts: the port where they call (handover_listen), calling them, and asking them
 * what became of a batch. Everything over mutual TLS; who calls must be a configured peer. The
 * private key is read for each call and is not kept.
 */
#include "usr/manager/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/manager/peer.h"
#include "usr/sys/chan_tls.h"
#include "usr/sys/log.h"
#include "usr/sys/proc.h"

#define CALLERS	     8
#define CALLER_MS    10000 /* for handshake and first frame */
#define RESOLVE_MS   200
#define RESOLVE_WAIT 5000

struct caller { /* has not said yet what it wants */
	struct manager *m;
	struct cman_chan chan;
	uv_poll_t *poll;
	uv_timer_t *timer;
	struct caller *next;
};

struct remote_port {
	int fd;
	uv_poll_t *poll;
	struct caller *callers;
	unsigned int ncallers;
};

/* ---- the key ---- */

static struct cman_tls_ctx *load_keys(struct manager *m, const char **ret_why)
{
	static struct cman_tls_error error;
	struct cman_tls_ctx *ctx = NULL;

	if (!m->ic->tls.set) {
		*ret_why = "the instance has no tls block: expected certificate, key and ca";
		return NULL;
	}
	if (cman_tls_ctx_new(m->ic->tls.certificate, m->ic->tls.key, m->ic->tls.ca, &ctx, &error)) {
		*ret_why = error.text;
		return NULL;
	}
	return ctx;
}

/* ---- who calls ---- */

static void caller_free(struct caller *c)
{
	struct remote_port *port = c->m->port;

	for (struct caller **at = &port->callers; *at; at = &(*at)->next) {
		if (*at != c)
			continue;
		*at = c->next;
		port->ncallers--;
		break;
	}
	poll_end(&c->poll);
	timer_end(&c->timer);
	free(c);
}

static void hang_up(struct caller *c)
{
	poll_end(&c->poll);
	cman_chan_fini(&c->chan);
	caller_free(c);
}

static void answer(struct caller *c, enum cman_frame_type type, uint64_t batch, const char *why)
{
	struct cman_frame_writer w;

	cman_frame_begin(&w, type, 0);
	if (why)
		cman_frame_add_text(&w, CMAN_TAG_TEXT, why);
	else
		cman_frame_add_u64(&w, CMAN_TAG_BATCH_ID, batch);
	cman_chan_send(&c->chan, &w, NULL, 0);
	cman_chan_flush(&c->chan);
}

static void resolve_for(struct caller *c, const struct cman_frame *f)
{
	uint8_t boot_id[16] = { 0 };
	enum cman_register value;
	const uint8_t *asked;
	uint64_t batch = 0;
	size_t n;

	cman_frame_u64(f, CMAN_TAG_BATCH_ID, &batch);
	cman_proc_boot_id(boot_id);
	/* what a reboot has taken may have been live: nobody may make it live again */
	if (!cman_frame_bytes(f, CMAN_TAG_BOOT_ID, &asked, &n) && memcmp(asked, boot_id, 16)) {
		event_add(
			c->m, LOG_CRIT,
			"a batch that came before this host was rebooted is lost, if it had come");
		value = CMAN_REG_LIVE;
	} else {
		value = target_resolve(c->m, batch);
	}
	answer(c,
	       cman_handover_owner(value) == CMAN_OWNER_TARGET ? CMAN_FRAME_COMMITTED :
								 CMAN_FRAME_DROPPED,
	       batch, NULL);
	/* it stays open until the other side has read it and closes, or the time is over */
}

static void on_caller(uv_poll_t *p, int status, int events)
{
	struct caller *c = p->data;
	int fds[CMAN_FRAME_MAX_FDS], err = status < 0 ? -EPIPE : 0;
	struct cman_chan chan;
	struct cman_frame f;

	if (!err && (events & UV_WRITABLE))
		err = cman_chan_flush(&c->chan);
	if (!err || err == -EAGAIN)
		err = cman_chan_receive(&c->chan, &f, fds);
	if (err == -EAGAIN) {
		poll_change(c->poll,
			    UV_READABLE | (cman_chan_wants_write(&c->chan) ? UV_WRITABLE : 0));
		return;
	}
	if (err) {
		if (err != -EPIPE)
			event_add(c->m, LOG_WARNING, "a caller of handover_listen is refused: %s",
				  c->chan.why ? c->chan.why : strerror(-err));
		hang_up(c);
		return;
	}
	if (f.type == CMAN_FRAME_RESOLVE) {
		resolve_for(c, &f);
		return;
	}
	if (f.type != CMAN_FRAME_OFFER) {
		answer(c, CMAN_FRAME_ERROR, 0, "expected OFFER or RESOLVE");
		hang_up(c);
		return;
	}
	poll_end(&c->poll);
	chan = c->chan;
	if (!chan.out_head)
		chan.out_tail = &chan.out_head;
	target_offered(c->m, &chan, &f);
	caller_free(c);
}

static void on_caller_late(uv_timer_t *t)
{
	hang_up(t->data);
}

static void on_call(uv_poll_t *p, int status, int events)
{
	struct manager *m = p->data;
	const char *names[64], *why = "";
	struct cman_tls_ctx *ctx;
	struct caller *c;
	uint32_t n = 0;
	int fd = accept4(m->port->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), err;

	(void)status;
	(void)events;
	if (fd < 0)
		return;
	for (uint32_t i = 0; i < m->ic->npeers && n < 64; i++)
		names[n++] = m->ic->peer[i].peer_name;
	ctx = n && m->port->ncallers < CALLERS ? load_keys(m, &why) : NULL;
	c = ctx ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		event_add(m, LOG_WARNING, "a caller of handover_listen is turned away: %s",
			  !n		 ? "no peer is configured" :
			  !ctx && why[0] ? why :
					   "too many at a time");
		cman_tls_ctx_free(ctx);
		close(fd);
		return;
	}
	err = cman_chan_init_tls(&c->chan, fd, ctx, CMAN_CHAN_SERVER, names, n);
	cman_tls_ctx_free(ctx);
	if (err) {
		free(c);
		return;
	}
	c->m = m;
	c->next = m->port->callers;
	m->port->callers = c;
	m->port->ncallers++;
	c->poll = poll_begin(m, fd, UV_READABLE, on_caller, c);
	c->timer = timer_begin(m, on_caller_late, CALLER_MS, 0, c);
	if (!c->poll || !c->timer)
		abort();
}

int remote_listen(struct manager *m)
{
	char text[CMAN_ENDPOINT_TEXT];
	int err;

	if (m->port || !m->ic->handover_listen.family)
		return 0;
	m->port = calloc(1, sizeof(*m->port));
	if (!m->port)
		return -ENOMEM;
	err = cman_tcp_listen(&m->ic->handover_listen, &m->port->fd);
	if (err) {
		event_add(m, LOG_ERR, "cannot listen on %s for other hosts: %s",
			  cman_endpoint_format(m->ic->handover_listen.addr,
					       m->ic->handover_listen.port_first, text),
			  strerror(-err));
		free(m->port);
		m->port = NULL;
		return err;
	}
	m->port->poll = poll_begin(m, m->port->fd, UV_READABLE, on_call, m);
	return m->port->poll ? 0 : -ENOMEM;
}

void remote_close(struct manager *m)
{
	if (!m->port)
		return;
	while (m->port->callers)
		hang_up(m->port->callers);
	poll_end(&m->port->poll);
	close(m->port->fd);
	free(m->port);
	m->port = NULL;
}

/* ---- calling ---- */

int remote_connect(struct manager *m, const char *peer, struct cman_chan *ret_chan,
		   const char **ret_why)
{
	const struct cman_peer_conf *conf = NULL;
	struct cman_tls_ctx *ctx;
	int fd, err;

	for (uint32_t i = 0; i < m->ic->npeers; i++)
		if (!strcmp(m->ic->peer[i].name, peer))
			conf = &m->ic->peer[i];
	*ret_why = "no such peer is configured";
	if (!conf)
		return -ENOENT;
	ctx = load_keys(m, ret_why);
	if (!ctx)
		return -EINVAL;
	err = cman_tcp_connect(&conf->address, &fd);
	if (!err)
		err = cman_chan_init_tls(ret_chan, fd, ctx, CMAN_CHAN_CLIENT,
					 (const char *const *)&conf->peer_name, 1);
	cman_tls_ctx_free(ctx);
	if (err)
		*ret_why = strerror(-err);
	return err;
}

/* ---- what became of a batch ---- */

/* Who asked: one for each session of the batch. */
struct asker {
	void (*done)(struct manager *m, uint64_t batch, enum cman_register value, void *arg);
	void *arg;
	struct asker *next;
};

struct question {
	struct manager *m;
	struct destination to;
	uint64_t batch;
	struct cman_chan chan;
	uv_poll_t *poll;
	uv_timer_t *again, *late;
	unsigned int tries;
	struct asker *askers;
	struct question *next;
};

static void ask(struct question *q);

static void on_again(uv_timer_t *t)
{
	struct question *q = t->data;

	timer_end(&q->again);
	ask(q);
}

static void stop_asking(struct question *q)
{
	if (q->poll)
		cman_chan_fini(&q->chan);
	poll_end(&q->poll);
	timer_end(&q->late);
}

static void ask_again(struct question *q, const char *why)
{
	stop_asking(q);
	if (q->tries++ % 25 == 0)
		event_add(
			q->m, LOG_WARNING,
			"%s has to say what became of a batch, and cannot be reached: its sessions "
			"stay frozen (%s)",
			q->to.peer, why);
	q->again = timer_begin(q->m, on_again, RESOLVE_MS, 0, q);
}

static void on_late(uv_timer_t *t)
{
	ask_again(t->data, "it does not answer");
}

static void answered(struct question *q, enum cman_register value)
{
	struct question **at = &q->m->questions;
	struct asker *a;

	stop_asking(q);
	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	while ((a = q->askers)) {
		q->askers = a->next;
		a->done(q->m, q->batch, value, a->arg);
		free(a);
	}
	free(q);
}

static void on_answer(uv_poll_t *p, int status, int events)
{
	struct question *q = p->data;
	int fds[CMAN_FRAME_MAX_FDS], err = status < 0 ? -EPIPE : 0;
	struct cman_frame f;

	if (!err && (events & UV_WRITABLE))
		err = cman_chan_flush(&q->chan);
	if (!err || err == -EAGAIN)
		err = cman_chan_receive(&q->chan, &f, fds);
	if (err == -EAGAIN) {
		poll_change(q->poll,
			    UV_READABLE | (cman_chan_wants_write(&q->chan) ? UV_WRITABLE : 0));
		return;
	}
	if (err) {
		ask_again(q, q->chan.why ? q->chan.why : strerror(-err));
		return;
	}
	if (f.type != CMAN_FRAME_COMMITTED && f.type != CMAN_FRAME_DROPPED) {
		ask_again(q, "it does not know the question");
		return;
	}
	answered(q, f.type == CMAN_FRAME_COMMITTED ? CMAN_REG_LIVE : CMAN_REG_DROP);
}

static void ask(struct question *q)
{
	struct cman_frame_writer w;
	const char *why = "";

	if (remote_connect(q->m, q->to.peer, &q->chan, &why)) {
		ask_again(q, why);
		return;
	}
	q->poll = poll_begin(q->m, q->chan.fd, UV_READABLE | UV_WRITABLE, on_answer, q);
	q->late = timer_begin(q->m, on_late, RESOLVE_WAIT, 0, q);
	if (!q->poll || !q->late)
		abort();
	cman_frame_begin(&w, CMAN_FRAME_RESOLVE, 0);
	cman_frame_add_u64(&w, CMAN_TAG_BATCH_ID, q->batch);
	cman_frame_add_bytes(&w, CMAN_TAG_BOOT_ID, q->to.boot_id, sizeof(q->to.boot_id));
	cman_chan_send(&q->chan, &w, NULL, 0);
}

void remote_resolve(struct manager *m, const struct destination *to, uint64_t batch,
		    void (*done)(struct manager *m, uint64_t batch, enum cman_register value,
				 void *arg),
		    void *arg)
{
	struct asker *a = calloc(1, sizeof(*a));
	struct question *q = m->questions;

	while (q && (q->batch != batch || strcmp(q->to.peer, to->peer) ||
		     memcmp(q->to.boot_id, to->boot_id, sizeof(to->boot_id))))
		q = q->next;
	if (!a || (!q && !(q = calloc(1, sizeof(*q)))))
		abort();
	a->done = done;
	a->arg = arg;
	a->next = q->askers;
	q->askers = a;
	if (q->m)
		return; /* is being asked */
	q->m = m;
	q->to = *to;
	q->batch = batch;
	q->next = m->questions;
	m->questions = q;
	ask(q);
}
