// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See engine.h. A send queue grows at its end, by bytes that were not sent; a receive queue at its
 * beginning, by bytes that were read out of it before.
 */
#include "usr/tls/engine.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "usr/core/image.h"
#include "usr/sys/secret.h"
#include "usr/tls/keys.h"
#include "usr/tls/record.h"

/* ---- queues ---- */

/* Room for @len more bytes. */
static int grow(struct cman_repair_image *leg, struct cman_repair_queue *queue, size_t len)
{
	int err = cman_image_own(leg);

	return err ? err : cman_repair_reserve(queue, queue->len + len);
}

/* *ret: where @len bytes are to be written, the last ones of the stream. */
static int append(struct cman_repair_image *leg, size_t len, uint8_t **ret)
{
	int err = leg->fin ? -EPROTO : grow(leg, &leg->out, len);

	if (err)
		return err;
	*ret = leg->out.data + leg->out.len;
	leg->out.len += len;
	leg->unsent += len;
	return 0;
}

static int prepend(struct cman_repair_image *leg, const uint8_t *data, size_t len)
{
	int err = grow(leg, &leg->in, len);

	if (err)
		return err;
	memmove(leg->in.data + len, leg->in.data, leg->in.len);
	memcpy(leg->in.data, data, len);
	leg->in.len += len;
	leg->recv_seq -= (uint32_t)len;
	return 0;
}

/* ---- to ours ---- */

/* One record at the end of what is sent to @leg. */
static int seal(struct cman_tls_leg *tls, struct cman_tls_cipher *cipher, uint8_t type,
		const uint8_t *data, size_t len, struct cman_repair_image *leg)
{
	size_t size = len + cman_tls_record_overhead(cipher->suite), n;
	uint8_t *record;
	int err = append(leg, size, &record);

	if (!err)
		err = cman_tls_record_seal(cipher, tls->tx.seq, type, data, len, record, &n);
	if (!err)
		tls->tx.seq++;
	return err;
}

/* The answer to a KeyUpdate comes before data; and no key seals more than it may. */
static int update(struct cman_tls_leg *tls, struct cman_tls_cipher *cipher,
		  struct cman_repair_image *leg)
{
	int err;

	if (tls->version != CMAN_TLS_1_3 ||
	    (!(tls->flags & CMAN_TLS_UPDATE_OWED) && tls->tx.seq < CMAN_TLS_REKEY_RECORDS))
		return 0;
	err = seal(tls, cipher, CMAN_TLS_HANDSHAKE, cman_tls_key_update, CMAN_TLS_KEY_UPDATE_LEN,
		   leg);
	if (err)
		return err;
	err = cman_tls_keys_update(cipher->suite, &tls->tx, &tls->tx);
	if (err)
		return err;
	tls->flags &= (uint8_t)~CMAN_TLS_UPDATE_OWED;
	cman_tls_cipher_fini(cipher);
	return cman_tls_cipher_init(cipher, cman_tls_suite(tls->suite), &tls->tx, true);
}

static int seal_all(struct cman_tls_leg *tls, const uint8_t *data, size_t len,
		    struct cman_repair_image *leg)
{
	struct cman_tls_cipher cipher;
	int err = cman_tls_cipher_init(&cipher, cman_tls_suite(tls->suite), &tls->tx, true);

	for (size_t at = 0, n; !err && at < len; at += n) {
		n = len - at < CMAN_TLS_PLAIN_MAX ? len - at : CMAN_TLS_PLAIN_MAX;
		err = update(tls, &cipher, leg);
		if (!err)
			err = seal(tls, &cipher, CMAN_TLS_DATA, data + at, n, leg);
	}
	cman_tls_cipher_fini(&cipher);
	return err;
}

static int pass_on(struct cman_tls_leg *tls, const uint8_t *data, size_t len,
		   struct cman_repair_image *leg)
{
	uint8_t *to;
	int err;

	if (!len)
		return 0;
	if (tls->engine)
		return seal_all(tls, data, len, leg);
	err = append(leg, len, &to);
	if (!err)
		memcpy(to, data, len);
	return err;
}

static void set_engine(struct cman_tls_session *s, uint8_t engine)
{
	for (int l = 0; l < 2; l++)
		if (s->leg[l].engine)
			s->leg[l].engine = engine;
	memset(s->flow, 0, sizeof(s->flow));
}

int cman_tls_to_user(struct cman_tls_session *s, struct cman_repair_image leg[2],
		     const uint8_t *const plain[2], const uint32_t len[2])
{
	int err = 0;

	for (int dir = 0; dir < 2 && !err; dir++) /* up: from the client, leg 0, to leg 1 */
		err = pass_on(&s->leg[!dir], plain[dir], len[dir], &leg[!dir]);
	set_engine(s, CMAN_TLS_USER);
	return err;
}

/* ---- to the kernel's ---- */

bool cman_tls_fits_kernel(const struct cman_tls_session *s, const struct cman_repair_image leg[2])
{
	for (int l = 0; l < 2; l++) {
		if (leg[l].state != TCP_ESTABLISHED || leg[l].fin || leg[l].peer_fin)
			return false;
		if (s->leg[l].engine && ((s->leg[l].flags & ~CMAN_TLS_SERVER) ||
					 cman_tls_post_pending(&s->leg[l].post)))
			return false;
	}
	return true;
}

int cman_tls_to_kernel(struct cman_tls_session *s, struct cman_repair_image leg[2])
{
	int err = 0;

	for (int dir = 0; dir < 2 && !err; dir++) {
		const struct cman_tls_flow *flow = &s->flow[dir];
		uint8_t *to;

		if (flow->in_len)
			err = prepend(&leg[dir], flow->in, flow->in_len);
		if (err || !flow->out_len)
			continue;
		err = append(&leg[!dir], flow->out_len, &to);
		if (!err)
			memcpy(to, flow->out, flow->out_len);
	}
	set_engine(s, CMAN_TLS_KERNEL);
	return err;
}
