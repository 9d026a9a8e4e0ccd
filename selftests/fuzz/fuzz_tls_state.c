// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes the decoder of exported TLS state and the box in which states travel: any bytes. What it
 * accepts is encoded anew, which must succeed, decode to the same, and give the same bytes when it is
 * encoded once more. What is skipped (unknown optional tags) is all that may get lost. The same bytes
 * as a box: entries lie within it, and written anew they are the same box.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/tls.h"

#include "fuzz.h"

static void same_bytes(const uint8_t *a, size_t na, const uint8_t *b, size_t nb)
{
	CHECK(na == nb && (!na || !memcmp(a, b, na)));
}

static void same_half(const struct cman_tls_half *a, const struct cman_tls_half *b)
{
	CHECK(a->seq == b->seq && a->explicit_iv == b->explicit_iv && a->epoch == b->epoch);
	CHECK(!memcmp(a->secret, b->secret, sizeof(a->secret)));
}

static void same(const struct cman_tls_session *a, const struct cman_tls_session *b)
{
	for (int i = 0; i < 2; i++) {
		const struct cman_tls_leg *l = &a->leg[i], *m = &b->leg[i];
		const struct cman_tls_flow *f = &a->flow[i], *g = &b->flow[i];

		CHECK(l->engine == m->engine && l->flags == m->flags);
		CHECK(l->version == m->version && l->suite == m->suite);
		same_half(&l->rx, &m->rx);
		same_half(&l->tx, &m->tx);
		CHECK(l->post.skip == m->post.skip);
		same_bytes(l->post.head, l->post.have, m->post.head, m->post.have);
		CHECK(l->post.have < sizeof(l->post.head));
		CHECK(f->in_base == g->in_base && f->out_base == g->out_base);
		same_bytes(f->in, f->in_len, g->in, g->in_len);
		same_bytes(f->out, f->out_len, g->out, g->out_len);
	}
	CHECK(!memcmp(a->sni, b->sni, sizeof(a->sni)));
	CHECK(!memcmp(a->alpn, b->alpn, sizeof(a->alpn)));
	CHECK(!a->sni[255] && !a->alpn[255]);
}

static uint8_t *encoded(const struct cman_tls_session *s, size_t *ret_len)
{
	uint8_t *buf;

	*ret_len = cman_tls_session_size(s);
	CHECK(*ret_len && *ret_len <= CMAN_TLS_STATE_MAX);
	buf = malloc(*ret_len);
	CHECK(buf);
	CHECK(cman_tls_session_encode(s, buf, *ret_len) == 0);
	return buf;
}

static void one_state(const uint8_t *data, size_t size)
{
	struct cman_tls_session s, back;
	const char *why = NULL;
	uint8_t *once, *twice;
	size_t n, m;
	int err;

	err = cman_tls_session_decode(data, size, &s, &why);
	if (err) {
		CHECK(err == -EPROTO || err == -EPROTONOSUPPORT || err == -EBADMSG);
		CHECK(why && s.leg[0].engine == CMAN_TLS_NONE && s.leg[1].engine == CMAN_TLS_NONE);
		return;
	}
	CHECK(s.leg[0].engine || s.leg[1].engine);
	once = encoded(&s, &n);
	CHECK(n <= size);
	CHECK(cman_tls_session_decode(once, n, &back, &why) == 0);
	same(&s, &back);
	twice = encoded(&back, &m);
	same_bytes(once, n, twice, m);
	free(once);
	free(twice);
}

static void one_box(const uint8_t *data, size_t size)
{
	size_t cursor = 0, used = 0, before = 0, len;
	uint8_t *box = malloc(size + 1);
	const uint8_t *state;
	uint64_t id;
	int err;

	CHECK(box);
	while (!(err = cman_tls_box_next(data, size, &cursor, &id, &state, &len))) {
		CHECK(cursor <= size && state == data + before + CMAN_TLS_BOX_ENTRY);
		CHECK(state + len == data + cursor);
		before = cursor;
		CHECK(cman_tls_box_add(box, size, &used, id, state, len) == 0);
		one_state(state, len);
	}
	CHECK(err == (cursor == size ? -ENOENT : -EBADMSG) && used == cursor);
	CHECK(!used || !memcmp(box, data, used));
	free(box);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	one_state(data, size);
	one_box(data, size);
	return 0;
}
