/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comes in the clear before a handshake: the requests of PostgreSQL's protocol, see
 * usr/core/pg_request.h.
 *
 *	client leg	requests are recognised and answered, then the ClientHello is read
 *	server leg	when the service wants it, or the client has done it: an SSLRequest is
 *			sent, one byte is read, then the ClientHello is sent
 *
 * No more is read than what is to be answered next. It stays in in[], with the ClientHello behind it,
 * until that is answered. Each request is answered by one byte: so the counters tell a successor which
 * ones are, and whether more was said than that.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "usr/core/pg_request.h"
#include "usr/core/session.h"
#include "usr/gateway/internal.h"

/* Sends from @data, which is @len bytes, what has not been written to that leg yet. 0 or -errno. */
static int send_rest(struct gateway *g, uint32_t i, enum leg leg, const uint8_t *data, size_t len)
{
	struct gw_tls *t = g->tls[i];

	while (t->written[leg] < len) {
		ssize_t n = send(leg_fd(slot_of(g, i), leg), data + t->written[leg],
				 len - t->written[leg], MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			t->written[leg] += (uint64_t)n;
		} else if (errno == EAGAIN) {
			gw_wait_out(g, i, leg);
			return -EAGAIN;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* After an error of the socket. */
static enum cman_tls_progress stopped(struct gateway *g, uint32_t i, enum leg leg, int err)
{
	return err == -EAGAIN ? CMAN_TLS_MORE : cman_tls_handshake_hang_up(g->tls[i]->shake[leg]);
}

/* ---- the client ---- */

/* What lies behind a request before it is answered, somebody else may have put there. */
static enum cman_tls_progress reply(struct gateway *g, uint32_t i, const struct cman_pg_opening *o)
{
	struct gw_tls *t = g->tls[i];
	const uint8_t answers[] = { CMAN_PG_NO, o->ssl ? CMAN_PG_YES : CMAN_PG_NO };
	uint8_t more;
	int err;

	if (recv(slot_of(g, i)->client_fd, &more, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		return cman_tls_handshake_refuse(t->shake[LEG_CLIENT],
						 "the client sent more behind its request for TLS, "
						 "before that was answered");
	/* the one before, if there is one, was a GSSENCRequest, and is answered */
	err = send_rest(g, i, LEG_CLIENT, answers + 2 - o->requests, o->requests);
	if (err)
		return stopped(g, i, LEG_CLIENT, err);
	CMAN_CRASH(TLS_REPLIED);
	return CMAN_TLS_DONE;
}

/*
 * Where clients show no certificate, anybody could say the same with TLS. Where they do, the service has
 * to be known for one that takes it from everybody.
 */
static bool may_cancel(const struct gateway *g, const struct cman_slot *s)
{
	switch (gw_tls_starttls(g, s->service)) {
	case CMAN_STARTTLS_POSTGRESQL:
		return true;
	case CMAN_STARTTLS_NONE:
		return false;
	default:
		return !gw_tls_mutual(g, s->listener);
	}
}

static enum cman_tls_progress open_client(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	struct gw_tls *t = g->tls[i];
	uint8_t *in = cman_tls_in(g->secret, g->nslots, i, CMAN_UP);
	struct cman_pg_opening o;

	for (;;) {
		enum cman_tls_progress p = CMAN_TLS_DONE;
		ssize_t n;

		o = cman_pg_opening_look(in, t->in_len[CMAN_UP]);
		if (t->written[LEG_CLIENT] < o.requests)
			p = reply(g, i, &o);
		if (p != CMAN_TLS_DONE)
			return p;
		if (!o.need)
			break;
		n = recv(s->client_fd, in + t->in_len[CMAN_UP], o.need - t->in_len[CMAN_UP],
			 MSG_DONTWAIT);
		CMAN_CRASH(TLS_HELLO);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return stopped(g, i, LEG_CLIENT, n < 0 ? -errno : 0);
		t->in_len[CMAN_UP] += (uint32_t)n;
		t->read[LEG_CLIENT] += (uint64_t)n;
	}
	t->asked = o.ssl;
	t->used[CMAN_UP] = o.len;
	t->cancel = o.cancel;
	if (o.cancel && !may_cancel(g, s))
		return cman_tls_handshake_refuse(
			t->shake[LEG_CLIENT],
			"the client sent a CancelRequest without TLS: expected "
			"starttls = \"postgresql\" in the service, or a "
			"listener without client_ca");
	t->opened[LEG_CLIENT] = true;
	return o.cancel ? CMAN_TLS_HELLO : CMAN_TLS_DONE;
}

bool gw_tls_was_answered(struct gateway *g, uint32_t i, const struct cman_leg *client)
{
	const struct cman_slot *s = slot_of(g, i);
	uint64_t read = cman_leg_read(client), written = cman_leg_written(client);

	if (!written)
		return false;
	if (gw_tls_memory(g) || gw_tls_slot(g, i)->id != s->id || read > CMAN_TLS_IN_SIZE)
		return true;
	/* what came behind an answered ClientHello may stand there: records, which are no requests */
	return written >
	       cman_pg_opening_look(cman_tls_in(g->secret, g->nslots, i, CMAN_UP), read).requests;
}

/* ---- the target ---- */

bool gw_tls_asks_target(const struct gateway *g, uint32_t i)
{
	uint8_t starttls = gw_tls_starttls(g, g->slots[i].service);

	return starttls == CMAN_STARTTLS_POSTGRESQL ||
	       (starttls == CMAN_STARTTLS_AUTO && g->tls[i]->asked);
}

/* What comes behind the one byte is for the handshake, which trusts only what it has verified. */
static enum cman_tls_progress open_server(struct gateway *g, uint32_t i)
{
	struct gw_tls *t = g->tls[i];
	uint8_t answer = 0;
	char why[120];
	ssize_t n;
	int err;

	err = send_rest(g, i, LEG_SERVER, cman_pg_ssl_request, sizeof(cman_pg_ssl_request));
	if (err)
		return stopped(g, i, LEG_SERVER, err);
	CMAN_CRASH(TLS_ASKED);
	do
		n = recv(slot_of(g, i)->server_fd, &answer, 1, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return stopped(g, i, LEG_SERVER, n < 0 ? -errno : 0);
	t->read[LEG_SERVER]++;
	if (answer == CMAN_PG_YES) {
		t->opened[LEG_SERVER] = true;
		return CMAN_TLS_DONE;
	}
	if (answer == CMAN_PG_NO)
		snprintf(why, sizeof(why),
			 "the backend has no TLS: it answered the SSLRequest with 'N'");
	else
		snprintf(why, sizeof(why),
			 "the backend answered the SSLRequest with 0x%02x: expected 'S'", answer);
	return cman_tls_handshake_refuse(t->shake[LEG_SERVER], why);
}

enum cman_tls_progress gw_tls_open(struct gateway *g, uint32_t i, enum leg leg)
{
	return leg == LEG_CLIENT ? open_client(g, i) : open_server(g, i);
}

/*
 * Just that message passes, and nothing comes back but the end. A gateway that dies here has a
 * successor that sends it again: who has sent it waits for the end before it goes on.
 */
void gw_tls_cancel(struct gateway *g, uint32_t i)
{
	const uint8_t *in = cman_tls_in(g->secret, g->nslots, i, CMAN_UP);
	int err = send_rest(g, i, LEG_SERVER, in, g->tls[i]->cancel);
	uint8_t waste;

	if (err == -EAGAIN)
		return;
	CMAN_CRASH(TLS_ASKED);
	if (!err && recv(slot_of(g, i)->server_fd, &waste, 1, MSG_DONTWAIT) < 0 &&
	    (errno == EAGAIN || errno == EINTR))
		return;
	gw_close(g, i);
}
