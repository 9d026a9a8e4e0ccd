/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all of a gateway's TLS shares: contexts for handshakes, made from the cell's credentials when the
 * first one is needed; the secret memory; and the private state of sessions, which idle ones do not have.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "usr/gateway/internal.h"
#include "usr/sys/credentials.h"
#include "usr/sys/log.h"
#include "usr/tls/context.h"
#include "usr/tls/handshake.h"
#include "usr/tls/record.h"

#define IDLE_S 2 /* without a byte: its ciphers and buffers are given back */

struct gw_contexts {
	int fd; /* of the credentials that they were made from */
	struct cman_tls_context *listener[CMAN_MAX_LISTENERS];
	struct cman_tls_context *service[CMAN_MAX_SERVICES];
	uint8_t listener_engine[CMAN_MAX_LISTENERS], service_engine[CMAN_MAX_SERVICES];
	bool listener_mutual[CMAN_MAX_LISTENERS]; /* clients show certificates */
	uint8_t service_starttls[CMAN_MAX_SERVICES];
};

bool gw_tls_listener(const struct gateway *g, uint32_t listener)
{
	return g->instance->listener[listener].tls;
}

bool gw_tls_service(const struct gateway *g, uint32_t service)
{
	return g->env->maps.services[service].tls;
}

/* ---- contexts ---- */

static void free_contexts(struct gateway *g)
{
	struct gw_contexts *c = g->contexts;

	if (!c)
		return;
	for (int n = 0; n < CMAN_MAX_LISTENERS; n++)
		cman_tls_context_free(c->listener[n]);
	for (int n = 0; n < CMAN_MAX_SERVICES; n++)
		cman_tls_context_free(c->service[n]);
	free(c);
	g->contexts = NULL;
}

void gw_tls_reload(struct gateway *g)
{
	if (g->contexts && g->contexts->fd != g->cell->credentials_fd)
		free_contexts(g);
}

static struct cman_tls_context **place(struct gw_contexts *c, bool listener, uint32_t index)
{
	if (index >= (listener ? CMAN_MAX_LISTENERS : CMAN_MAX_SERVICES))
		return NULL;
	return listener ? &c->listener[index] : &c->service[index];
}

static void load_contexts(struct gateway *g)
{
	struct cman_credentials_set set;
	struct gw_contexts *c;
	int fd = g->cell->credentials_fd, err;

	if (fd <= 0)
		return;
	c = calloc(1, sizeof(*c));
	err = c ? cman_credentials_unpack(fd, &set) : -ENOMEM;
	if (err) {
		cman_err("the credentials of TLS cannot be read", "err=\"%s\"", strerror(-err));
		free(c);
		return;
	}
	c->fd = fd;
	g->contexts = c;
	for (uint32_t n = 0; n < set.n; n++) {
		const struct cman_credentials *one = &set.one[n];
		struct cman_tls_context **at = place(c, one->server, one->index);
		char why[200];

		if (at && !*at && cman_tls_context_new(one, set.ticket_key, at, why, sizeof(why)))
			cman_err("a tls block cannot be used", "%s=%u why=\"%s\"",
				 one->server ? "listener" : "service", one->index, why);
		if (at && one->server) {
			c->listener_engine[one->index] = one->engine;
			c->listener_mutual[one->index] = one->ca;
		} else if (at) {
			c->service_engine[one->index] = one->engine;
			c->service_starttls[one->index] = one->starttls;
		}
	}
	cman_credentials_free(&set);
}

struct cman_tls_context *gw_tls_context(struct gateway *g, enum leg leg, uint32_t index)
{
	gw_tls_reload(g);
	if (!g->contexts)
		load_contexts(g);
	if (!g->contexts)
		return NULL;
	return *place(g->contexts, leg == LEG_CLIENT, index);
}

uint8_t gw_tls_engine(const struct gateway *g, enum leg leg, uint32_t index)
{
	if (!g->contexts)
		return CMAN_TLS_USER;
	return leg == LEG_CLIENT ? g->contexts->listener_engine[index] :
				   g->contexts->service_engine[index];
}

uint8_t gw_tls_starttls(const struct gateway *g, uint32_t service)
{
	return g->contexts ? g->contexts->service_starttls[service] : CMAN_STARTTLS_AUTO;
}

bool gw_tls_mutual(const struct gateway *g, uint32_t listener)
{
	return g->contexts && g->contexts->listener_mutual[listener];
}

/* ---- the secret memory ---- */

int gw_tls_memory(struct gateway *g)
{
	int err;

	if (g->secret)
		return 0;
	err = cman_tls_memory_map(g->cell->secret_fd, g->nslots, &g->secret);
	if (err)
		cman_err("the secret memory cannot be mapped", "err=\"%s\"", strerror(-err));
	return err;
}

struct cman_tls_slot *gw_tls_slot(struct gateway *g, uint32_t i)
{
	return cman_tls_slot_at(g->secret, i);
}

/* ---- the end of a direction ---- */

bool gw_has_tls(const struct cman_slot *s, enum leg leg)
{
	return s->tls & (leg == LEG_CLIENT ? CMAN_SLOT_TLS_CLIENT : CMAN_SLOT_TLS_SERVER);
}

void gw_tls_truncated(struct gateway *g, uint32_t i, int dir)
{
	struct gw_tls *t = gw_tls_get(g, i);

	if (!t || t->truncated[dir])
		return;
	t->truncated[dir] = true;
	g->cell->tls_truncated++;
}

void gw_tls_end(struct gateway *g, uint32_t i, int dir, bool truncated)
{
	struct cman_slot *s = slot_of(g, i);
	enum leg to = dir == CMAN_UP ? LEG_SERVER : LEG_CLIENT;
	uint8_t eof = dir == CMAN_UP ? CMAN_EOF_UP : CMAN_EOF_DOWN;
	int outq = 0;

	if (truncated && !gw_has_tls(s, to)) {
		/* what came before the cut is delivered first, then the reset says that it was one */
		if (ioctl(leg_fd(s, to), SIOCOUTQ, &outq) || !outq)
			gw_reset(g, i);
		return;
	}
	if (!((s->eof | eof) == (CMAN_EOF_UP | CMAN_EOF_DOWN) && !g->live[i].len[!dir]) &&
	    shutdown(leg_fd(s, to), SHUT_WR) < 0 && errno != ENOTCONN) {
		gw_reset(g, i);
		return;
	}
	CMAN_CRASH(EOF_SHUTDOWN);
	s->eof |= eof;
	CMAN_CRASH(EOF_STORED);
	gw_close_if_ended(g, i);
}

/* ---- private state ---- */

struct gw_tls *gw_tls_get(struct gateway *g, uint32_t i)
{
	if (!g->tls[i]) {
		if (gw_tls_memory(g))
			return NULL;
		g->tls[i] = calloc(1, sizeof(*g->tls[i]));
		g->ntls += g->tls[i] != NULL;
	}
	return g->tls[i];
}

void gw_tls_drop(struct gateway *g, uint32_t i)
{
	struct gw_tls *t = g->tls[i];

	if (!t)
		return;
	for (int leg = 0; leg < 2; leg++) {
		cman_tls_handshake_free(t->shake[leg]);
		for (int way = 0; way < 2; way++) {
			if (!t->cipher[leg][way])
				continue;
			cman_tls_cipher_fini(t->cipher[leg][way]);
			free(t->cipher[leg][way]);
		}
	}
	free(t);
	g->tls[i] = NULL;
	g->ntls--;
	g->dropped++;
}

void gw_tls_forget(struct gateway *g, uint32_t i)
{
	gw_tls_drop(g, i);
	if (gw_tls_memory(g))
		return;
	cman_tls_slot_wipe(gw_tls_slot(g, i));
	cman_tls_trim(g->cell->secret_fd, g->nslots, i);
}

void gw_tls_tick(struct gateway *g)
{
	for (uint32_t i = 0; i < g->high && g->ntls; i++) {
		const struct cman_slot *s = slot_of(g, i);
		const struct gw_tls *t = g->tls[i];
		bool empty = true;

		if (!t || s->state != CMAN_SLOT_RELAYING)
			continue;
		for (int dir = 0; dir < 2; dir++)
			if (g->tls[i] && g->tls[i]->truncated[dir])
				gw_pump(g, i, dir, true);
		if (t != g->tls[i] || g->now_s - s->active_s < IDLE_S)
			continue;
		for (int dir = 0; dir < 2; dir++)
			empty &= !g->live[i].len[dir] && !t->in_len[dir];
		if (!empty)
			continue;
		gw_tls_drop(g, i);
		if (!(s->tls & CMAN_SLOT_TLS_KERNEL))
			cman_tls_trim(g->cell->secret_fd, g->nslots, i);
	}
	/* what they had lies all over the heap, which else would never shrink */
	if (g->dropped && g->dropped >= g->ntls) {
		malloc_trim(0);
		g->dropped = 0;
	}
}
