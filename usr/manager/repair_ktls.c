/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Legs with kernel TLS in the repair carrier (usr/sys/ktls_export.h tells the story of one socket). The
 * keys are in the session's secret memory; what only the kernel knows, the numbers of the next records,
 * is written there when a leg is taken apart, and read there when it is put together again, wherever
 * that is: in the target, or on the way back.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "usr/manager/repair.h"
#include "usr/sys/ktls_export.h"
#include "usr/sys/log.h"
#include "usr/sys/secret.h"
#include "usr/sys/tls_cell.h"
#include "usr/tls/keys.h"

#define PREPARE_MS 20 /* for a record that is half sent; others of its batch wait meanwhile */

bool ktls_is_leg(const struct cman_slot *s, int leg)
{
	return (s->tls & CMAN_SLOT_TLS_KERNEL) &&
	       (s->tls & (leg ? CMAN_SLOT_TLS_SERVER : CMAN_SLOT_TLS_CLIENT));
}

const char *ktls_cannot(struct manager *m, int fd)
{
	const char *why = NULL;

	if (!repair_raw(m))
		return "the kernel does not let the queues of kernel TLS be read: move by fd";
	return cman_ktls_check(fd, repair_raw(m), &why) ? why : NULL;
}

int ktls_prepare(struct manager *m, int fd, struct cman_ktls_export *move,
		 struct cman_repair_image *image, const char **why)
{
	uint64_t until = cman_now_ns() + PREPARE_MS * 1000000ull;
	int err;

	*why = ktls_cannot(m, fd);
	if (*why)
		return -EOPNOTSUPP;
	while ((err = cman_ktls_prepare(fd, repair_raw(m), move, image, why)) == -EAGAIN &&
	       cman_now_ns() < until)
		poll(NULL, 0, 1); /* the kernel has to send: nothing says when it has */
	return err;
}

/* ---- what the kernel had opened already ---- */

struct sink {
	struct drained *drained;
	struct cman_tls_commit *next;
	const struct cman_tls_slot *slot;
	int leg;
};

void drained_free(struct drained *d)
{
	if (d->data)
		cman_secret_wipe(d->data, d->len);
	free(d->data);
	d->data = NULL;
}

static int keep(struct drained *d, const void *content, size_t len)
{
	uint8_t *data = malloc(d->len + len);

	if (!data)
		return -ENOMEM;
	if (d->len)
		memcpy(data, d->data, d->len);
	memcpy(data + d->len, content, len);
	drained_free(d);
	d->data = data;
	d->len += len;
	return 0;
}

/* The next key is for what comes behind it, which the kernel has not touched: it has no key for that. */
static int take_handshake(struct sink *s, const uint8_t *content, size_t len)
{
	switch (cman_tls_post_feed(&s->next->post[s->leg], s->slot->version[s->leg], s->leg == 1,
				   content, len)) {
	case CMAN_TLS_POST_NOTHING:
		return 0;
	case CMAN_TLS_POST_UPDATE_REQUESTED:
		s->next->flags[s->leg] |= CMAN_TLS_UPDATE_OWED;
		s->drained->updated = true;
		return 0;
	case CMAN_TLS_POST_UPDATE:
		s->drained->updated = true;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int take(void *arg, uint8_t type, const void *content, size_t len)
{
	struct sink *s = arg;
	const uint8_t *byte = content;

	switch (type) {
	case CMAN_TLS_DATA:
		return keep(s->drained, content, len);
	case CMAN_TLS_ALERT:
		if (len != 2 || byte[1] != CMAN_TLS_CLOSE_NOTIFY)
			return -ECONNRESET;
		s->next->flags[s->leg] |= CMAN_TLS_CLOSE_RECEIVED;
		return 0;
	case CMAN_TLS_HANDSHAKE:
		return take_handshake(s, content, len);
	default:
		return -EPROTO;
	}
}

int ktls_export(struct manager *m, struct cell *c, uint32_t slot, int leg, int fd,
		struct cman_ktls_export *move, struct cman_repair_image *image,
		struct drained *drained, const char **why)
{
	struct cman_tls_slot *t = cman_tls_slot_at(c->secret, slot);
	struct sink s = { .drained = drained, .next = cman_tls_next(t), .slot = t, .leg = leg };
	const struct cman_ktls_sink sink = { .take = take, .arg = &s };
	int err = cman_ktls_export(fd, repair_raw(m), move, &sink, image, why);

	if (err)
		return err;
	s.next->number[leg][CMAN_TLS_RX].seq = move->rx.seq;
	s.next->number[leg][CMAN_TLS_TX].seq = move->tx.seq;
	*why = "the next key";
	err = drained->updated ? cman_tls_keys_advance(t, s.next, leg, CMAN_TLS_RX) : 0;
	if (err)
		return err;
	/* no other nonces have an explicit part */
	if (t->version[leg] == CMAN_TLS_1_2 &&
	    cman_tls_suite(t->suite[leg])->aead != CMAN_TLS_CHACHA20_POLY1305)
		t->explicit_iv[leg] = move->tx.explicit_nonce - move->tx.seq;
	cman_tls_commit(t);
	return 0;
}

/* ---- the new socket ---- */

static int keys_of(const struct cman_tls_slot *t, int leg, int way, struct cman_ktls_keys *ret)
{
	struct cman_tls_half half;
	int err;

	cman_tls_slot_half(t, leg, way, &half);
	err = cman_tls_keys_kernel(cman_tls_suite(t->suite[leg]), &half, ret);
	cman_secret_wipe(&half, sizeof(half));
	return err;
}

void ktls_wake(struct cell *c, uint32_t slot, int leg, int fd)
{
	const struct cman_tls_slot *t = cman_tls_slot_at(c->secret, slot);
	struct cman_ktls_keys tx, rx;
	int err;

	if (!ktls_is_leg(&c->slots[slot], leg))
		return;
	err = keys_of(t, leg, CMAN_TLS_TX, &tx);
	if (!err)
		err = keys_of(t, leg, CMAN_TLS_RX, &rx);
	if (!err)
		err = cman_ktls_attach(fd, &tx, &rx);
	if (err) {
		c->slots[slot].flags |= CMAN_SLOT_RESET; /* nobody may relay its records as data */
		cman_err("a socket made from an image did not get its keys",
			 "session=%016llx leg=%s err=\"%s\"", (unsigned long long)c->slots[slot].id,
			 leg ? "server" : "client", strerror(-err));
	}
	cman_secret_wipe(&tx, sizeof(tx));
	cman_secret_wipe(&rx, sizeof(rx));
}
