/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handshakes of new sessions, in this order:
 *
 *	ACCEPTED	the client's ClientHello is read: its name, its protocols; before it there
 *			may be requests in the clear, also on the server leg: tls_opening.c
 *	CONNECTING	to a target, as without TLS
 *	HANDSHAKE	the server leg's, if the service has TLS, offering the client's protocols;
 *			then the client is answered with what the server chose, and its handshake ends
 *	RELAYING	the keys are in the secret memory
 *
 * Exactly one record is read at a time, so that what follows the last one is still in the socket. What
 * the client has said is kept in in[] until it is answered: if the gateway dies before, its successor
 * begins again from there. Once it has been answered the handshake dies with the gateway that has it.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "usr/core/session.h"
#include "usr/gateway/internal.h"
#include "usr/sys/log.h"
#include "usr/sys/secret.h"
#include "usr/tls/handshake.h"
#include "usr/tls/record.h"

#define SHAKE_S 30 /* for each of the two handshakes */

static_assert(CMAN_TLS_FAILURES <= sizeof(((struct cman_cell *)0)->tls_failed) / sizeof(__u64),
	      "a counter for each failure");

static int direction_from(enum leg leg)
{
	return leg == LEG_CLIENT ? CMAN_UP : CMAN_DOWN;
}

static void count_failure(struct gateway *g, enum cman_tls_failure failure)
{
	g->cell->tls_failed[failure]++;
}

static void log_failure(struct gateway *g, uint32_t i, enum leg leg, const char *why)
{
	const struct cman_slot *s = slot_of(g, i);
	char text[CMAN_ENDPOINT_TEXT];

	cman_notice("a TLS handshake failed",
		    "leg=%s client=%s service=%s session=%016llx why=\"%s\"",
		    leg == LEG_CLIENT ? "client" : "server",
		    cman_endpoint_format(s->client_addr, s->client_port, text),
		    g->env->maps.services[s->service].name, (unsigned long long)s->id, why);
}

/* ---- one leg ---- */

static int flush(struct gateway *g, uint32_t i, enum leg leg)
{
	struct gw_tls *t = g->tls[i];

	for (;;) {
		size_t len;
		const uint8_t *data = cman_tls_handshake_output(t->shake[leg], &len);
		ssize_t n;

		if (!len)
			return 0;
		n = send(leg_fd(slot_of(g, i), leg), data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		t->written[leg] += (uint64_t)n;
		cman_tls_handshake_sent(t->shake[leg], (size_t)n);
	}
}

/* Reads up to the end of the next record, no further. Its length; 0 is EOF. */
static ssize_t read_record(struct gateway *g, uint32_t i, enum leg leg)
{
	struct gw_tls *t = g->tls[i];
	int dir = direction_from(leg);
	uint8_t *in = cman_tls_in(g->secret, g->nslots, i, dir);

	for (;;) {
		uint32_t have = t->in_len[dir] - t->used[dir];
		int len = cman_tls_record_look(in + t->used[dir], have, NULL);
		ssize_t n;

		if (len < 0) /* whatever it is: the handshake says it better */
			return have;
		if (len && (uint32_t)len <= have)
			return len;
		if (t->used[dir] + CMAN_TLS_RECORD_MAX > CMAN_TLS_IN_SIZE)
			return -EMSGSIZE;
		n = recv(leg_fd(slot_of(g, i), leg), in + t->in_len[dir],
			 (len ? (uint32_t)len : CMAN_TLS_HEADER) - have, MSG_DONTWAIT);
		CMAN_CRASH(TLS_HELLO);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		t->in_len[dir] += (uint32_t)n;
		t->read[leg] += (uint64_t)n;
	}
}

static enum cman_tls_progress feed(struct gateway *g, uint32_t i, enum leg leg, size_t len)
{
	struct gw_tls *t = g->tls[i];
	int dir = direction_from(leg);
	uint8_t *in = cman_tls_in(g->secret, g->nslots, i, dir);
	enum cman_tls_progress p;

	p = cman_tls_handshake_feed(t->shake[leg], in + t->used[dir], len);
	t->used[dir] += (uint32_t)len;
	/* nobody will need it again */
	if (leg == LEG_SERVER || t->answered)
		t->used[dir] = t->in_len[dir] = 0;
	return p;
}

/* Goes on until something is missing. */
static enum cman_tls_progress run(struct gateway *g, uint32_t i, enum leg leg)
{
	struct gw_tls *t = g->tls[i];
	enum cman_tls_progress p = t->opened[leg] ? CMAN_TLS_DONE : gw_tls_open(g, i, leg);

	if (p != CMAN_TLS_DONE)
		return p;
	for (;;) {
		int err = flush(g, i, leg);
		ssize_t n;

		if (err == -EAGAIN) {
			gw_wait_out(g, i, leg);
			return CMAN_TLS_MORE;
		}
		if (t->progress[leg] == CMAN_TLS_FAILED ||
		    (!err && t->progress[leg] == CMAN_TLS_DONE))
			return t->progress[leg];
		n = err ? 0 : read_record(g, i, leg);
		if (n == -EAGAIN)
			return CMAN_TLS_MORE;
		t->progress[leg] = n > 0 ? feed(g, i, leg, (size_t)n) :
					   cman_tls_handshake_hang_up(t->shake[leg]);
		if (t->progress[leg] == CMAN_TLS_HELLO)
			return CMAN_TLS_HELLO;
	}
}

/* ---- failures ---- */

static void client_failed(struct gateway *g, uint32_t i)
{
	enum cman_tls_failure failure;
	const char *why = cman_tls_handshake_why(g->tls[i]->shake[LEG_CLIENT], &failure);

	count_failure(g, failure);
	log_failure(g, i, LEG_CLIENT, why);
	gw_close(g, i); /* not a reset: an alert is on its way */
}

/* The next target, if there is one. */
static void server_failed(struct gateway *g, uint32_t i)
{
	struct gw_tls *t = g->tls[i];
	enum cman_tls_failure failure;
	const char *why = cman_tls_handshake_why(t->shake[LEG_SERVER], &failure);

	count_failure(g, failure);
	log_failure(g, i, LEG_SERVER, why);
	gw_attempt_failed(g, i, EPROTO);
}

void gw_tls_refuse(struct gateway *g, uint32_t i)
{
	static const uint8_t alert[] = { CMAN_TLS_ALERT, 3, 3, 0, 2, 2, CMAN_TLS_INTERNAL_ERROR };
	struct cman_slot *s = slot_of(g, i);

	if ((s->tls & CMAN_SLOT_TLS_CLIENT) && g->tls[i] && !g->tls[i]->answered &&
	    !g->tls[i]->cancel)
		(void)!send(s->client_fd, alert, sizeof(alert), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void gw_tls_shake_check(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	struct gw_tls *t = g->tls[i];

	if (!s->tls || !t || g->now_s - g->live[i].since_s <= SHAKE_S)
		return;
	count_failure(g, CMAN_TLS_FAIL_CLOSED);
	if (s->state == CMAN_SLOT_HANDSHAKE && t->shake[LEG_SERVER] && !t->shaken[LEG_SERVER]) {
		log_failure(g, i, LEG_SERVER, "it took too long");
		gw_attempt_failed(g, i, ETIMEDOUT);
	} else {
		log_failure(g, i, LEG_CLIENT, "it took too long");
		gw_tls_refuse(g, i);
		gw_reset(g, i);
	}
}

/* ---- the end ---- */

static int store_leg(struct gateway *g, uint32_t i, enum leg leg)
{
	struct cman_tls_leg state;
	int err = cman_tls_handshake_leg(g->tls[i]->shake[leg], &state);

	if (!err)
		cman_tls_slot_set_leg(gw_tls_slot(g, i), leg, &state);
	cman_secret_wipe(&state, sizeof(state));
	return err;
}

static void store_names(struct gateway *g, uint32_t i)
{
	struct cman_tls_slot *slot = gw_tls_slot(g, i);
	struct gw_tls *t = g->tls[i];
	enum leg leg = t->shake[LEG_CLIENT] ? LEG_CLIENT : LEG_SERVER;
	size_t len;
	const uint8_t *alpn = cman_tls_handshake_alpn(t->shake[leg], &len);

	strncpy(slot->sni, cman_tls_handshake_sni(t->shake[leg]), sizeof(slot->sni) - 1);
	if (alpn && len < sizeof(slot->alpn))
		memcpy(slot->alpn, alpn, len);
}

/* Both legs are through: from here on a successor can go on. */
static void relay(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	struct cman_tls_slot *slot = gw_tls_slot(g, i);
	struct gw_tls *t = g->tls[i];
	struct cman_tls_commit *c = &slot->commit[slot->which & 1];

	for (int leg = 0; leg < 2; leg++) {
		if (!t->shake[leg])
			continue;
		if (store_leg(g, i, (enum leg)leg)) {
			count_failure(g, CMAN_TLS_FAIL_INTERNAL);
			log_failure(g, i, (enum leg)leg, "its secrets cannot be had");
			gw_reset(g, i);
			return;
		}
		g->cell->tls_handshakes++;
	}
	store_names(g, i);
	for (int dir = 0; dir < 2; dir++) {
		enum leg from = dir == CMAN_UP ? LEG_CLIENT : LEG_SERVER;

		c->flow[dir].in_base = t->read[from];
		c->flow[dir].out_base = t->written[!from];
		t->in_len[dir] = 0;
	}
	if (gw_ktls_attach(g, i) == -EIO) {
		count_failure(g, CMAN_TLS_FAIL_INTERNAL);
		log_failure(g, i, LEG_SERVER, "the kernel takes the keys of one leg only");
		gw_reset(g, i);
		return;
	}
	CMAN_CRASH(TLS_STORED);
	for (int leg = 0; leg < 2; leg++) {
		cman_tls_handshake_free(t->shake[leg]);
		t->shake[leg] = NULL;
	}
	g->connecting--;
	set_state(s, CMAN_SLOT_RELAYING);
	CMAN_CRASH(TLS_RELAYING);
	gw_queue(g, i, 1u << CMAN_UP | 1u << CMAN_DOWN);
}

/* ---- the steps ---- */

static void answer(struct gateway *g, uint32_t i)
{
	struct gw_tls *t = g->tls[i];
	const uint8_t *alpn = NULL;
	size_t len = 0;

	if (t->shake[LEG_SERVER])
		alpn = cman_tls_handshake_alpn(t->shake[LEG_SERVER], &len);
	t->answered = true;
	t->used[CMAN_UP] = t->in_len[CMAN_UP] = 0;
	CMAN_CRASH(TLS_ANSWERED);
	t->progress[LEG_CLIENT] = cman_tls_handshake_answer(t->shake[LEG_CLIENT], alpn,
							    alpn ? len : 0);
}

/* True: that leg is through, or has no TLS. Else the session waits, or is gone. */
static bool shake_leg(struct gateway *g, uint32_t i, enum leg leg)
{
	struct gw_tls *t = g->tls[i];

	if (!t->shake[leg] || t->shaken[leg])
		return true;
	switch (run(g, i, leg)) {
	case CMAN_TLS_DONE:
		t->shaken[leg] = true;
		CMAN_CRASH(TLS_SHAKEN);
		return true;
	case CMAN_TLS_FAILED:
		if (leg == LEG_CLIENT)
			client_failed(g, i);
		else
			server_failed(g, i);
		return false;
	default:
		return false;
	}
}

static void read_hello(struct gateway *g, uint32_t i)
{
	switch (run(g, i, LEG_CLIENT)) {
	case CMAN_TLS_HELLO:
		gw_connect(g, i);
		break;
	case CMAN_TLS_FAILED:
		client_failed(g, i);
		break;
	default:
		break;
	}
}

void gw_tls_shake(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	struct gw_tls *t = g->tls[i];

	if (s->state == CMAN_SLOT_ACCEPTED) {
		read_hello(g, i);
		return;
	}
	if (t->cancel) {
		gw_tls_cancel(g, i);
		return;
	}
	if (!shake_leg(g, i, LEG_SERVER))
		return;
	if (t->shake[LEG_CLIENT] && !t->answered)
		answer(g, i);
	if (shake_leg(g, i, LEG_CLIENT))
		relay(g, i);
}

/* ---- the beginnings ---- */

static void give_up(struct gateway *g, uint32_t i, enum leg leg)
{
	count_failure(g, CMAN_TLS_FAIL_INTERNAL);
	log_failure(g, i, leg, "there are no credentials for it, or no memory");
	gw_tls_refuse(g, i);
	gw_reset(g, i);
}

/* What a predecessor has read of the client up to its ClientHello, not answered. 0 or -errno. */
static int resume(struct gateway *g, uint32_t i)
{
	struct gw_tls *t = g->tls[i];
	struct cman_leg leg;
	int err = cman_sock_counters(slot_of(g, i)->client_fd, false, &leg);

	if (err)
		return err;
	t->read[LEG_CLIENT] = cman_leg_read(&leg);
	t->written[LEG_CLIENT] = cman_leg_written(&leg);
	if (t->read[LEG_CLIENT] > CMAN_TLS_IN_SIZE)
		return -EILSEQ;
	t->in_len[CMAN_UP] = (uint32_t)t->read[LEG_CLIENT];
	return 0;
}

bool gw_tls_begin(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	struct cman_tls_slot *slot;

	s->tls = (__u8)((gw_tls_listener(g, s->listener) ? CMAN_SLOT_TLS_CLIENT : 0) |
			(gw_tls_service(g, s->service) ? CMAN_SLOT_TLS_SERVER : 0));
	if (!s->tls)
		return false;
	g->live[i].since_s = g->now_s;
	if (!gw_tls_get(g, i)) {
		give_up(g, i, LEG_CLIENT);
		return true;
	}
	slot = gw_tls_slot(g, i);
	if (slot->id != s->id)
		cman_tls_slot_begin(slot, s->id);
	else if ((s->tls & CMAN_SLOT_TLS_CLIENT) && resume(g, i)) {
		gw_reset(g, i);
		return true;
	}
	if (!(s->tls & CMAN_SLOT_TLS_CLIENT)) {
		gw_connect(g, i);
		return true;
	}
	if (gw_tls_context(g, LEG_CLIENT, s->listener))
		g->tls[i]->shake[LEG_CLIENT] = cman_tls_accept(
			gw_tls_context(g, LEG_CLIENT, s->listener));
	if (!g->tls[i]->shake[LEG_CLIENT])
		give_up(g, i, LEG_CLIENT);
	else if (gw_poll_leg(g, i, LEG_CLIENT, false))
		gw_reset(g, i);
	else if (g->tls[i]->in_len[CMAN_UP])
		gw_tls_shake(g, i);
	return true;
}

/* A new server leg: what an earlier one has left is forgotten. */
static void reset_server(struct gw_tls *t)
{
	cman_tls_handshake_free(t->shake[LEG_SERVER]);
	t->shake[LEG_SERVER] = NULL;
	t->progress[LEG_SERVER] = CMAN_TLS_MORE;
	t->shaken[LEG_SERVER] = t->opened[LEG_SERVER] = false;
	t->read[LEG_SERVER] = t->written[LEG_SERVER] = 0;
	t->in_len[CMAN_DOWN] = t->used[CMAN_DOWN] = 0;
}

void gw_tls_connected(struct gateway *g, uint32_t i, bool polled)
{
	struct cman_slot *s = slot_of(g, i);
	struct gw_tls *t = g->tls[i];
	struct cman_tls_context *ctx;
	const uint8_t *alpn = NULL;
	const char *sni = "";
	size_t len = 0;
	int one = 1;

	g->live[i].since_s = g->now_s;
	set_state(s, CMAN_SLOT_HANDSHAKE);
	CMAN_CRASH(TLS_CONNECTED);
	reset_server(t);
	setsockopt(s->server_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if ((s->tls & CMAN_SLOT_TLS_SERVER) && !t->cancel) {
		ctx = gw_tls_context(g, LEG_SERVER, s->service);
		if (t->shake[LEG_CLIENT]) {
			sni = cman_tls_handshake_sni(t->shake[LEG_CLIENT]);
			alpn = cman_tls_handshake_alpn_offered(t->shake[LEG_CLIENT], &len);
		}
		if (ctx)
			t->shake[LEG_SERVER] = cman_tls_connect(ctx, sni, alpn, alpn ? len : 0);
		if (!t->shake[LEG_SERVER]) {
			give_up(g, i, LEG_SERVER);
			return;
		}
		t->opened[LEG_SERVER] = !gw_tls_asks_target(g, i);
	}
	if (!polled && gw_poll_add(g, i, 0)) {
		gw_reset(g, i);
		return;
	}
	gw_tls_shake(g, i);
}

void gw_tls_restart(struct gateway *g, uint32_t i, const struct cman_leg *client)
{
	struct cman_slot *s = slot_of(g, i);

	if (gw_tls_was_answered(g, i, client)) {
		g->cell->tls_cut++;
		cman_notice("a handshake ended with its gateway", "session=%016llx service=%s",
			    (unsigned long long)s->id, g->env->maps.services[s->service].name);
		gw_reset(g, i);
		return;
	}
	gw_drop_server(g, i);
	gw_admit(g, i);
}
