// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The pure core of TLS: the table of suites against OpenSSL's own, names; the codec of exported state
 * against vectors in hexadecimal, made by a script that shares no code with usr/core/tls_state.c; each
 * suite there and back, a cut and a change at every byte, every rule of the reader with its sentence,
 * limits; and the box of states that travels beside a BATCH.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/tls.h"

/* clang-format off */
/* client leg only: TLS 1.3, AES-128-GCM, our engine; nothing in between */
#define VECTOR_CLIENT_ONLY \
	"43544c53 0001 0000 " \
	"8001 000000c2 " \
	"8001 00000001 01 " \
	"8002 00000001 08 " \
	"8003 00000002 0304 " \
	"8004 00000002 1301 " \
	"8005 0000004c " \
	"8001 00000008 0000000000000000 " \
	"8002 00000008 0000000000000000 " \
	"8003 00000004 00000000 " \
	"8004 00000020 000102030405060708090a0b0c0d0e0f " \
	"101112131415161718191a1b1c1d1e1f " \
	"8006 0000004c " \
	"8001 00000008 0000000000000002 " \
	"8002 00000008 0000000000000000 " \
	"8003 00000004 00000000 " \
	"8004 00000020 202122232425262728292a2b2c2d2e2f " \
	"303132333435363738393a3b3c3d3e3f " \
	"8003 00000028 " \
	"8001 00000008 0000000000000000 " \
	"8002 00000000 " \
	"8003 00000008 0000000000000000 " \
	"8004 00000000 " \
	"8004 00000028 " \
	"8001 00000008 0000000000000000 " \
	"8002 00000000 " \
	"8003 00000008 0000000000000000 " \
	"8004 00000000 "

/* both legs: kernel TLS 1.2 AES-256-GCM with another explicit nonce, our engine with ChaCha20 */
#define VECTOR_BOTH \
	"43544c53 0001 0000 " \
	"8001 000000d4 " \
	"8001 00000001 02 " \
	"8002 00000001 1b " \
	"8003 00000002 0303 " \
	"8004 00000002 c030 " \
	"8005 00000050 " \
	"8001 00000008 0000000000000001 " \
	"8002 00000008 0000000000000000 " \
	"8003 00000004 00000000 " \
	"8004 00000024 404142434445464748494a4b4c4d4e4f " \
	"505152535455565758595a5b5c5d5e5f 60616263 " \
	"8006 00000050 " \
	"8001 00000008 1122334455667788 " \
	"8002 00000008 fffffffffffffff0 " \
	"8003 00000004 00000000 " \
	"8004 00000024 808182838485868788898a8b8c8d8e8f " \
	"909192939495969798999a9b9c9d9e9f a0a1a2a3 " \
	"8007 00000004 00012345 " \
	"8002 000000d0 " \
	"8001 00000001 01 " \
	"8002 00000001 04 " \
	"8003 00000002 0304 " \
	"8004 00000002 1303 " \
	"8005 0000004c " \
	"8001 00000008 fffffffffffffffe " \
	"8002 00000008 0000000000000000 " \
	"8003 00000004 00000007 " \
	"8004 00000020 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf " \
	"b0b1b2b3b4b5b6b7b8b9babbbcbdbebf " \
	"8006 0000004c " \
	"8001 00000008 0000000000000005 " \
	"8002 00000008 0000000000000000 " \
	"8003 00000004 ffffffff " \
	"8004 00000020 c0c1c2c3c4c5c6c7c8c9cacbcccdcecf " \
	"d0d1d2d3d4d5d6d7d8d9dadbdcdddedf " \
	"8007 00000008 0000000018000001 " \
	"8003 00000037 " \
	"8001 00000008 00000000000003e8 " \
	"8002 00000009 170303002070617274 " \
	"8003 00000008 0000000000000384 " \
	"8004 00000006 7365616c6564 " \
	"8004 0000002d " \
	"8001 00000008 fffffffffffffffd " \
	"8002 00000002 696e " \
	"8003 00000008 fffffffffffffffc " \
	"8004 00000003 6f7574 " \
	"0005 0000000f 7777772e6578616d706c652e6f7267 " \
	"0006 00000002 6832 "

/* server leg only: TLS 1.2, ChaCha20; data of the leg without TLS in between */
#define VECTOR_SERVER_ONLY \
	"43544c53 0001 0000 " \
	"8002 000000da " \
	"8001 00000001 01 " \
	"8002 00000001 00 " \
	"8003 00000002 0303 " \
	"8004 00000002 cca8 " \
	"8005 00000058 " \
	"8001 00000008 0000000000000001 " \
	"8002 00000008 0000000000000000 " \
	"8003 00000004 00000000 " \
	"8004 0000002c 101112131415161718191a1b1c1d1e1f " \
	"202122232425262728292a2b2c2d2e2f 303132333435363738393a3b " \
	"8006 00000058 " \
	"8001 00000008 0000000000000001 " \
	"8002 00000008 0000000000000000 " \
	"8003 00000004 00000000 " \
	"8004 0000002c 505152535455565758595a5b5c5d5e5f " \
	"606162636465666768696a6b6c6d6e6f 707172737475767778797a7b " \
	"8003 0000002d " \
	"8001 00000008 0000000000000000 " \
	"8002 00000005 706c61696e " \
	"8003 00000008 0000000000000000 " \
	"8004 00000000 " \
	"8004 0000002c " \
	"8001 00000008 0000000000000007 " \
	"8002 00000000 " \
	"8003 00000008 0000000000000007 " \
	"8004 00000004 74657874 "
/* clang-format on */

static const struct vector {
	const char *name, *hex;
} vectors[] = {
	{ "CLIENT_ONLY", VECTOR_CLIENT_ONLY },
	{ "BOTH", VECTOR_BOTH },
	{ "SERVER_ONLY", VECTOR_SERVER_ONLY },
};

#define VECTORS (sizeof(vectors) / sizeof(vectors[0]))

/* ---- bytes ---- */

/* Exactly as many bytes on the heap as there are: the address sanitizer sees one too many. */
static uint8_t *exactly(const void *data, size_t n)
{
	uint8_t *p = malloc(n ? n : 1);

	cr_assert_not_null(p);
	if (n)
		memcpy(p, data, n);
	return p;
}

static int digit(char c)
{
	return c >= 'a' ? c - 'a' + 10 : c - '0';
}

static uint8_t *unhex(const char *hex, size_t *ret_len)
{
	uint8_t bytes[2048], *end = bytes;

	for (; *hex; hex++) {
		if (*hex == ' ')
			continue;
		cr_assert_lt(end, bytes + sizeof(bytes));
		*end++ = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
		hex++;
	}
	*ret_len = (size_t)(end - bytes);
	return exactly(bytes, *ret_len);
}

static void sequence(uint8_t *p, uint8_t first, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(first + i);
}

static bool zeros(const void *p, size_t n)
{
	const uint8_t *b = p;

	while (n--)
		if (b[n])
			return false;
	return true;
}

/* ---- what the vectors are ---- */

static void make_client_only(struct cman_tls_session *s)
{
	struct cman_tls_leg *l = &s->leg[0];

	memset(s, 0, sizeof(*s));
	l->engine = CMAN_TLS_USER;
	l->flags = CMAN_TLS_SERVER;
	l->version = CMAN_TLS_1_3;
	l->suite = 0x1301;
	l->tx.seq = 2;
	sequence(l->rx.secret, 0, 32);
	sequence(l->tx.secret, 0x20, 32);
}

static void make_both(struct cman_tls_session *s)
{
	struct cman_tls_leg *c = &s->leg[0], *l = &s->leg[1];

	memset(s, 0, sizeof(*s));
	c->engine = CMAN_TLS_KERNEL;
	c->flags = CMAN_TLS_SERVER | CMAN_TLS_CLOSE_SENT | CMAN_TLS_CLOSE_RECEIVED |
		   CMAN_TLS_REFUSAL_OWED;
	c->post.skip = 0x12345;
	c->version = CMAN_TLS_1_2;
	c->suite = 0xc030;
	c->rx.seq = 1;
	c->tx.seq = 0x1122334455667788;
	c->tx.explicit_iv = 0xfffffffffffffff0;
	sequence(c->rx.secret, 0x40, 36);
	sequence(c->tx.secret, 0x80, 36);
	l->engine = CMAN_TLS_USER;
	l->flags = CMAN_TLS_UPDATE_OWED;
	l->post.have = 4;
	memcpy(l->post.head, cman_tls_key_update, 4);
	l->version = CMAN_TLS_1_3;
	l->suite = 0x1303;
	l->rx.seq = UINT64_MAX - 1;
	l->rx.epoch = 7;
	l->tx.seq = 5;
	l->tx.epoch = UINT32_MAX;
	sequence(l->rx.secret, 0xa0, 32);
	sequence(l->tx.secret, 0xc0, 32);
	s->flow[0] = (struct cman_tls_flow){ .in_base = 1000,
					     .in = (const uint8_t *)"\x17\x03\x03\x00\x20part",
					     .in_len = 9,
					     .out_base = 900,
					     .out = (const uint8_t *)"sealed",
					     .out_len = 6 };
	s->flow[1] = (struct cman_tls_flow){ .in_base = UINT64_MAX - 2,
					     .in = (const uint8_t *)"in",
					     .in_len = 2,
					     .out_base = UINT64_MAX - 3,
					     .out = (const uint8_t *)"out",
					     .out_len = 3 };
	strcpy(s->sni, "www.example.org");
	strcpy(s->alpn, "h2");
}

static void make_server_only(struct cman_tls_session *s)
{
	struct cman_tls_leg *l = &s->leg[1];

	memset(s, 0, sizeof(*s));
	l->engine = CMAN_TLS_USER;
	l->version = CMAN_TLS_1_2;
	l->suite = 0xcca8;
	l->rx.seq = l->tx.seq = 1;
	sequence(l->rx.secret, 0x10, 44);
	sequence(l->tx.secret, 0x50, 44);
	s->flow[0].in = (const uint8_t *)"plain";
	s->flow[0].in_len = 5;
	s->flow[1].in_base = s->flow[1].out_base = 7;
	s->flow[1].out = (const uint8_t *)"text";
	s->flow[1].out_len = 4;
}

static void make(const struct vector *v, struct cman_tls_session *s)
{
	if (!strcmp(v->name, "CLIENT_ONLY"))
		make_client_only(s);
	else if (!strcmp(v->name, "BOTH"))
		make_both(s);
	else
		make_server_only(s);
}

static void same_bytes(const uint8_t *a, size_t na, const uint8_t *b, size_t nb)
{
	cr_assert_eq(na, nb);
	cr_assert(!na || !memcmp(a, b, na));
}

static void same_half(const struct cman_tls_half *a, const struct cman_tls_half *b)
{
	cr_assert_eq(a->seq, b->seq);
	cr_assert_eq(a->explicit_iv, b->explicit_iv);
	cr_assert_eq(a->epoch, b->epoch);
	same_bytes(a->secret, sizeof(a->secret), b->secret, sizeof(b->secret));
}

static void same(const struct cman_tls_session *a, const struct cman_tls_session *b)
{
	for (int i = 0; i < 2; i++) {
		const struct cman_tls_leg *l = &a->leg[i], *m = &b->leg[i];
		const struct cman_tls_flow *f = &a->flow[i], *g = &b->flow[i];

		cr_assert_eq(l->engine, m->engine);
		cr_assert_eq(l->flags, m->flags);
		cr_assert_eq(l->version, m->version);
		cr_assert_eq(l->suite, m->suite);
		same_half(&l->rx, &m->rx);
		same_half(&l->tx, &m->tx);
		cr_assert_eq(l->post.skip, m->post.skip);
		same_bytes(l->post.head, l->post.have, m->post.head, m->post.have);
		cr_assert_eq(f->in_base, g->in_base);
		cr_assert_eq(f->out_base, g->out_base);
		same_bytes(f->in, f->in_len, g->in, g->in_len);
		same_bytes(f->out, f->out_len, g->out, g->out_len);
	}
	same_bytes((const uint8_t *)a->sni, sizeof(a->sni), (const uint8_t *)b->sni,
		   sizeof(b->sni));
	same_bytes((const uint8_t *)a->alpn, sizeof(a->alpn), (const uint8_t *)b->alpn,
		   sizeof(b->alpn));
}

/* Encoded, into exactly as many bytes as it needs */
static uint8_t *encoded(const struct cman_tls_session *s, size_t *ret_len)
{
	uint8_t *buf;

	*ret_len = cman_tls_session_size(s);
	cr_assert_gt(*ret_len, 0);
	buf = malloc(*ret_len);
	cr_assert_not_null(buf);
	cr_assert_eq(cman_tls_session_encode(s, buf, *ret_len), 0);
	return buf;
}

/* ---- suites and names ---- */

Test(tls_state, suites_are_those_of_openssl)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	const struct cman_tls_suite *all;
	STACK_OF(SSL_CIPHER) * ciphers;
	unsigned int seen = 0;
	size_t n;

	all = cman_tls_suites(&n);
	cr_assert_eq(n, 12);
	/* what OpenSSL has by the same choice: AEAD, ephemeral keys, a certificate */
	cr_assert(SSL_CTX_set_cipher_list(ctx, "kEECDH+AESGCM:kEECDH+CHACHA20:kDHE+aRSA+AESGCM:"
					       "kDHE+aRSA+CHACHA20:!PSK@SECLEVEL=0"));
	ciphers = SSL_CTX_get_ciphers(ctx);
	for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++) {
		const SSL_CIPHER *c = sk_SSL_CIPHER_value(ciphers, i);
		const struct cman_tls_suite *s = cman_tls_suite(SSL_CIPHER_get_protocol_id(c));
		const char *name = SSL_CIPHER_get_name(c);
		int nid = SSL_CIPHER_get_cipher_nid(c);

		cr_assert_not_null(s, "%s", name);
		seen |= 1u << (s - all);
		cr_assert_str_eq(s->name, name);
		cr_assert_eq(cman_tls_suite_by_name(name), s);
		cr_assert_str_eq(SSL_CIPHER_get_version(c), cman_tls_version_name(s->version));
		cr_assert_eq(s->hash_len, EVP_MD_get_size(SSL_CIPHER_get_handshake_digest(c)));
		cr_assert_eq(s->key_len, EVP_CIPHER_get_key_length(EVP_get_cipherbynid(nid)));
		cr_assert_eq(nid, s->aead == CMAN_TLS_AES_128_GCM ? NID_aes_128_gcm :
				  s->aead == CMAN_TLS_AES_256_GCM ? NID_aes_256_gcm :
								    NID_chacha20_poly1305);
	}
	cr_assert_eq(seen, (1u << n) - 1, "%x", seen);
	SSL_CTX_free(ctx);
}

Test(tls_state, names)
{
	const struct cman_tls_suite *all;
	size_t n;

	all = cman_tls_suites(&n);
	for (size_t i = 1; i < n; i++)
		cr_assert_leq(all[i].version, all[i - 1].version, "TLS 1.3 first");
	cr_assert_null(cman_tls_suite(0));
	cr_assert_null(cman_tls_suite(0x1304));
	cr_assert_null(cman_tls_suite_by_name("TLS_AES_128_CCM_SHA256"));
	cr_assert_null(cman_tls_suite_by_name(""));
	cr_assert_str_eq(cman_tls_version_name(CMAN_TLS_1_3), "TLSv1.3");
	cr_assert_str_eq(cman_tls_version_name(0x0302), "?");
	cr_assert_str_eq(cman_tls_engine_name(CMAN_TLS_NONE), "none");
	cr_assert_str_eq(cman_tls_engine_name(CMAN_TLS_USER), "user");
	cr_assert_str_eq(cman_tls_engine_name(CMAN_TLS_KERNEL), "ktls");
	cr_assert_str_eq(cman_tls_engine_name(3), "?");
}

/* ---- vectors ---- */

Test(tls_state, vectors_are_written_and_read)
{
	struct cman_tls_session s, back;
	const char *why = "?";

	for (size_t i = 0; i < VECTORS; i++) {
		size_t len, n;
		uint8_t *data = unhex(vectors[i].hex, &len), *out;

		make(&vectors[i], &s);
		out = encoded(&s, &n);
		cr_assert_eq(n, len, "%s: %zu bytes, not %zu", vectors[i].name, n, len);
		for (size_t k = 0; k < len; k++)
			cr_assert_eq(out[k], data[k], "%s: byte %zu", vectors[i].name, k);
		memset(&back, 0xaa, sizeof(back));
		cr_assert_eq(cman_tls_session_decode(data, len, &back, &why), 0, "%s", why);
		same(&s, &back);
		for (int d = 0; d < 2; d++) {
			const struct cman_tls_flow *f = &back.flow[d];

			cr_assert(f->in_len ? f->in > data && f->in < data + len : !f->in);
			cr_assert(f->out_len ? f->out > data && f->out < data + len : !f->out);
		}
		free(out);
		free(data);
	}
}

Test(tls_state, what_a_later_release_adds_is_skipped)
{
	/* behind the others: an optional tag of the session and, twice, a number without the bit */
	static const char more[] = "4000 00000005 6c61746572 0001 00000000 0001 00000001 ff ";
	char hex[sizeof(VECTOR_BOTH) + sizeof(more)];
	struct cman_tls_session s, back;
	const char *why = "?";
	uint8_t *data;
	size_t len;

	strcpy(hex, VECTOR_BOTH);
	strcat(hex, more);
	data = unhex(hex, &len);
	cr_assert_eq(cman_tls_session_decode(data, len, &back, &why), 0, "%s", why);
	make_both(&s);
	same(&s, &back);
	free(data);
}

/* ---- there and back ---- */

static uint64_t rng_state = 0x2545f4914f6cdd1d;

static uint64_t rng(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

static size_t secret_len(const struct cman_tls_suite *suite)
{
	if (suite->version == CMAN_TLS_1_3)
		return suite->hash_len;
	return suite->aead == CMAN_TLS_AES_128_GCM ? 20 :
	       suite->aead == CMAN_TLS_AES_256_GCM ? 36 :
						     44;
}

static void random_half(struct cman_tls_half *h, const struct cman_tls_suite *suite, bool seals)
{
	h->seq = rng() >> rng() % 64;
	h->seq -= h->seq == UINT64_MAX;
	if (suite->version == CMAN_TLS_1_3)
		h->epoch = (uint32_t)rng();
	else if (seals && suite->aead != CMAN_TLS_CHACHA20_POLY1305)
		h->explicit_iv = rng();
	for (size_t i = 0; i < secret_len(suite); i++)
		h->secret[i] = (uint8_t)rng();
}

static void random_leg(struct cman_tls_leg *l, const struct cman_tls_suite *suite)
{
	l->engine = 1 + rng() % 2;
	l->version = suite->version;
	l->suite = suite->id;
	l->flags = (uint8_t)(rng() & 0x0b);
	l->flags |= rng() & (suite->version == CMAN_TLS_1_3 ? 0x04 : 0x10);
	if (rng() % 3 == 0)
		l->post.skip = 1 + rng() % 0xffffff;
	else if (rng() % 2)
		l->post.have = rng() % 4;
	sequence(l->post.head, (uint8_t)rng(), 5); /* more than have is left from before */
	random_half(&l->rx, suite, false);
	random_half(&l->tx, suite, true);
}

Test(tls_state, every_suite_there_and_back)
{
	static uint8_t bytes[4096];
	const struct cman_tls_suite *all;
	struct cman_tls_session s, back;
	const char *why = "?";
	size_t n, len, again_len;
	uint8_t *data, *again;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)rng();
	all = cman_tls_suites(&n);
	for (unsigned int round = 0; round < 100 * n; round++) {
		memset(&s, 0, sizeof(s));
		random_leg(&s.leg[round & 1], &all[round % n]);
		if (rng() % 2)
			random_leg(&s.leg[!(round & 1)], &all[rng() % n]);
		for (int d = 0; d < 2; d++) {
			struct cman_tls_flow *f = &s.flow[d];

			f->in_len = rng() % 3 ? rng() % sizeof(bytes) : 0;
			f->out_len = rng() % 3 ? rng() % sizeof(bytes) : 0;
			f->in = f->out = bytes;
			f->in_base = rng() >> 1;
			f->out_base = rng() >> 1;
		}
		sequence((uint8_t *)s.sni, ' ', rng() % 95);
		memset(s.alpn, 'a', rng() % 256);
		data = encoded(&s, &len);
		cr_assert_eq(cman_tls_session_decode(data, len, &back, &why), 0, "%s", why);
		same(&s, &back);
		again = encoded(&back, &again_len);
		same_bytes(data, len, again, again_len);
		free(data);
		free(again);
	}
}

/* ---- broken ones ---- */

static const char *refused(const uint8_t *data, size_t len, int err)
{
	struct cman_tls_session s;
	const char *why = NULL;

	memset(&s, 0xaa, sizeof(s));
	cr_assert_eq(cman_tls_session_decode(data, len, &s, &why), err, "%s", why ? why : "taken");
	cr_assert_not_null(why);
	cr_assert(zeros(&s, sizeof(s)), "%s: nothing is left", why);
	return why;
}

Test(tls_state, a_cut_at_every_byte_is_refused)
{
	struct cman_tls_session s;
	const char *why;

	for (size_t i = 0; i < VECTORS; i++) {
		size_t len;
		uint8_t *data = unhex(vectors[i].hex, &len), *piece;

		for (size_t cut = 0; cut < len; cut++) {
			piece = exactly(data, cut);
			/* sni and alpn, the last ones of BOTH, are optional */
			if (!strcmp(vectors[i].name, "BOTH") && (cut == len - 8 || cut == len - 29))
				cr_assert_eq(cman_tls_session_decode(piece, cut, &s, &why), 0);
			else
				refused(piece, cut, -EBADMSG);
			free(piece);
		}
		free(data);
	}
}

/* Any value of any byte is refused, or it is a state that can be encoded, to the same again. */
Test(tls_state, a_change_of_any_byte_is_refused_or_a_state)
{
	unsigned int taken = 0;

	for (size_t i = 0; i < VECTORS; i++) {
		struct cman_tls_session s, back;
		size_t len, n;
		uint8_t *data = unhex(vectors[i].hex, &len), *out;

		for (size_t at = 0; at < len; at++) {
			const uint8_t was = data[at];

			for (unsigned int v = 0; v < 256; v++) {
				const char *why = NULL;

				data[at] = (uint8_t)v;
				if (cman_tls_session_decode(data, len, &s, &why)) {
					cr_assert_not_null(why);
					cr_assert(zeros(&s, sizeof(s)));
					continue;
				}
				taken++;
				out = encoded(&s, &n);
				cr_assert_leq(n, len);
				cr_assert_eq(cman_tls_session_decode(out, n, &back, &why), 0);
				same(&s, &back);
				free(out);
			}
			data[at] = was;
		}
		free(data);
	}
	cr_assert_gt(taken, 288 * 256); /* no byte of a secret has a wrong value */
}

/* The place of the bytes of @hex in @data, the @nth of them */
static uint8_t *place(uint8_t *data, size_t len, const char *hex, unsigned int nth)
{
	size_t n;
	uint8_t *what = unhex(hex, &n);

	for (size_t i = 0; i + n <= len; i++) {
		if (memcmp(data + i, what, n) == 0 && !nth--) {
			free(what);
			return data + i;
		}
	}
	cr_assert_fail("no %s", hex);
	return NULL;
}

/* @hex is found in VECTOR_BOTH and becomes @to, as long */
static void change(const char *hex, unsigned int nth, const char *to, int err, const char *sentence)
{
	size_t len, n;
	uint8_t *data = unhex(VECTOR_BOTH, &len), *bytes = unhex(to, &n);

	memcpy(place(data, len, hex, nth), bytes, n);
	cr_assert_str_eq(refused(data, len, err), sentence);
	free(data);
	free(bytes);
}

Test(tls_state, every_rule_has_its_sentence)
{
	size_t len;
	uint8_t *data;

	change("43544c53", 0, "43544c54", -EPROTO,
	       "TLS: it does not begin with the magic \"CTLS\"");
	change("43544c53 0001", 0, "43544c53 0002", -EPROTONOSUPPORT,
	       "TLS: its version is not one that this release reads");
	change("43544c53 0001 0000", 0, "43544c53 0001 0001", -EBADMSG,
	       "TLS: reserved bytes are not 0");
	data = unhex(VECTOR_BOTH, &len);
	cr_assert_str_eq(refused(data, 7, -EBADMSG), "TLS: it ends within its header");
	cr_assert_str_eq(refused(data, 8, -EBADMSG), "TLS: session: up is missing");
	cr_assert_str_eq(refused(data, 13, -EBADMSG),
			 "TLS: bytes behind the last field of a block");
	cr_assert_str_eq(refused(data, 14, -EBADMSG), "TLS: a field ends behind its block");
	free(data);
	/* tags: one that is not known, one twice, one that is missing */
	change("8001 00000001 02", 0, "8063", -EBADMSG,
	       "TLS: it has a field that this release would have to know");
	change("8002 00000001 1b", 0, "8001", -EBADMSG, "TLS: leg: engine stands twice");
	change("8002 00000001 1b", 0, "0063", -EBADMSG, "TLS: leg: flags is missing");
	change("0006 00000002 6832", 0, "0005", -EBADMSG, "TLS: session: sni stands twice");
	/* a leg */
	change("8001 00000001 02", 0, "8001 00000001 00", -EBADMSG,
	       "TLS: leg: engine is out of range");
	change("8001 00000001 02", 0, "8001 00000001 03", -EBADMSG,
	       "TLS: leg: engine is out of range");
	change("8002 00000001 1b", 0, "8002 00000001 20", -EBADMSG,
	       "TLS: leg: flags is out of range");
	change("8002 00000001 1b", 0, "8002 00000001 04", -EBADMSG,
	       "TLS: leg: TLS 1.2 has no KeyUpdate");
	change("8004 00000002 c030", 0, "8004 00000002 c031", -EBADMSG,
	       "TLS: leg: suite is not one that this release knows");
	change("8004 00000002 c030", 0, "8004 00000002 1302", -EBADMSG,
	       "TLS: leg: suite is not one of version");
	change("8003 00000002 0304", 0, "8003 00000002 0305", -EBADMSG,
	       "TLS: leg: suite is not one of version");
	change("8004 00000002 c030", 0, "8004 00000002 c02f", -EBADMSG,
	       "TLS: half: secret has not the length that its suite needs");
	change("8002 00000001 04", 0, "8002 00000001 10", -EBADMSG,
	       "TLS: leg: TLS 1.3 has no renegotiation");
	change("8007 00000004 00012345", 0, "8007 00000004 01000000", -EBADMSG,
	       "TLS: leg: post is out of range");
	change("8007 00000004 00012345", 0, "8007 00000004 00000000", -EBADMSG,
	       "TLS: leg: post is out of range");
	change("00000008 00000000 18000001", 0, "00000008 00000001 18000001", -EBADMSG,
	       "TLS: leg: post is out of range");
	change("00000008 00000000 18000001", 0, "00000008 00000000 04000001", -EBADMSG,
	       "TLS: leg: post is not the head of a KeyUpdate");
	/* halves: of the first leg rx and tx, then those of the second */
	change("8001 00000008 fffffffffffffffe", 0, "8001 00000008 ffffffffffffffff", -EBADMSG,
	       "TLS: half: seq is out of range");
	change("8002 00000008 0000000000000000", 0, "8002 00000008 0000000000000001", -EBADMSG,
	       "TLS: half: explicit_iv is for TLS 1.2 AES-GCM that seals");
	change("8002 00000008 0000000000000000", 2, "8002 00000008 0000000000000001", -EBADMSG,
	       "TLS: half: explicit_iv is for TLS 1.2 AES-GCM that seals");
	change("8003 00000004 00000000", 1, "8003 00000004 00000001", -EBADMSG,
	       "TLS: half: epoch is for TLS 1.3");
	/* a direction */
	change("8001 00000008 fffffffffffffffd", 0, "8001 00000008 fffffffffffffffe", -EBADMSG,
	       "TLS: direction: its bytes end behind the greatest position");
	change("8003 00000008 fffffffffffffffc", 0, "8003 00000008 fffffffffffffffd", -EBADMSG,
	       "TLS: direction: its bytes end behind the greatest position");
	change("8001 00000008 00000000000003e8", 0, "8002 00000008", -EBADMSG,
	       "TLS: direction: in stands twice");
	/* texts */
	change("7777772e", 0, "77770a2e", -EBADMSG,
	       "TLS: session: sni or alpn is not printable ASCII");
	change("6832", 0, "68ff", -EBADMSG, "TLS: session: sni or alpn is not printable ASCII");
	change("6832", 0, "6800", -EBADMSG, "TLS: session: sni or alpn is not printable ASCII");
}

/* Lengths: what is put behind a head that stands in front of it */
Test(tls_state, lengths)
{
	static uint8_t data[600];
	size_t len, used;
	uint8_t *small = unhex(VECTOR_CLIENT_ONLY, &len);

	for (unsigned int n = 0; n <= 256; n += 256) {
		memcpy(data, small, len);
		used = len;
		data[used + 1] = 5; /* sni */
		data[used + 4] = (uint8_t)(n >> 8);
		memset(data + used + 6, 'a', n);
		cr_assert_str_eq(refused(data, used + 6 + n, -EBADMSG),
				 "TLS: session: sni has a wrong length");
		memset(data + used, 0, 6);
	}
	/* without its leg */
	memcpy(data, small, 8);
	memcpy(data + 8, place(small, len, "8003 00000028", 0), 92);
	cr_assert_str_eq(refused(data, 100, -EBADMSG),
			 "TLS: session: neither client nor server is there");
	free(small);
}

/* ---- the encoder ---- */

static void not_encoded(const struct cman_tls_session *s, int err)
{
	static uint8_t buf[4096];

	memset(buf, 0, sizeof(buf));
	cr_assert_eq(cman_tls_session_encode(s, buf, sizeof(buf)), err);
	cr_assert(zeros(buf, sizeof(buf)), "nothing is left of it");
}

Test(tls_state, the_encoder_refuses_what_a_reader_would)
{
	struct cman_tls_session s;

	memset(&s, 0, sizeof(s));
	not_encoded(&s, -EINVAL); /* no TLS at all */
	s.leg[0].suite = 0x1301;
	not_encoded(&s, -EINVAL);
	make_both(&s);
	s.leg[1].engine = 3;
	not_encoded(&s, -EINVAL);
	make_both(&s);
	s.leg[1].engine = CMAN_TLS_NONE; /* and something in the rest */
	not_encoded(&s, -EINVAL);
	make_both(&s);
	s.leg[0].suite = 0x1304;
	not_encoded(&s, -EINVAL);
	cr_assert_eq(cman_tls_session_size(&s), 0);
	make_both(&s);
	s.leg[0].version = CMAN_TLS_1_3;
	not_encoded(&s, -EINVAL);
	make_both(&s);
	s.leg[0].flags = 0x80;
	not_encoded(&s, -EINVAL);
	make_both(&s);
	s.leg[1].tx.seq = UINT64_MAX;
	not_encoded(&s, -EINVAL);
	make_both(&s);
	s.leg[1].post.have = 5;
	not_encoded(&s, -EINVAL);
	make_server_only(&s);
	s.leg[1].post.have = 4; /* TLS 1.2 has none */
	memcpy(s.leg[1].post.head, cman_tls_key_update, 4);
	not_encoded(&s, -EINVAL);
	make_both(&s);
	s.flow[0].in = NULL;
	not_encoded(&s, -EINVAL);
	make_both(&s);
	s.flow[1].in_base++;
	not_encoded(&s, -EINVAL);
}

Test(tls_state, room_and_limits)
{
	static uint8_t bytes[CMAN_TLS_STATE_MAX], buf[CMAN_TLS_STATE_MAX + 1];
	struct cman_tls_session s, back;
	const char *why = "?";
	size_t len;

	make_both(&s);
	len = cman_tls_session_size(&s);
	cr_assert_eq(cman_tls_session_encode(&s, buf, len - 1), -EMSGSIZE);
	cr_assert(zeros(buf, sizeof(buf)));
	cr_assert_eq(cman_tls_session_encode(&s, buf, len + 1), 0);
	cr_assert_eq(buf[len], 0);

	/* the most that fits, and a byte more */
	memset(buf, 0, sizeof(buf));
	s.flow[0].in = bytes;
	s.flow[0].in_len = (uint32_t)(CMAN_TLS_STATE_MAX - (len - 9));
	s.flow[0].in_base = 0;
	cr_assert_eq(cman_tls_session_size(&s), CMAN_TLS_STATE_MAX);
	cr_assert_eq(cman_tls_session_encode(&s, buf, sizeof(buf)), 0);
	cr_assert_eq(cman_tls_session_decode(buf, CMAN_TLS_STATE_MAX, &back, &why), 0, "%s", why);
	same(&s, &back);
	cr_assert_str_eq(refused(buf, CMAN_TLS_STATE_MAX + 1, -EBADMSG),
			 "TLS: it is longer than the limit");
	memset(buf, 0, sizeof(buf));
	s.flow[1].out = bytes;
	s.flow[1].out_len++;
	not_encoded(&s, -EMSGSIZE);
	cr_assert_eq(cman_tls_session_encode(&s, buf, sizeof(buf)), -EMSGSIZE);
	cr_assert(zeros(buf, sizeof(buf)));
	s.flow[1].out_len = UINT32_MAX;
	cr_assert_eq(cman_tls_session_size(&s), 0);
	not_encoded(&s, -EMSGSIZE);
}

Test(tls_state, text_for_people_is_made_clean)
{
	struct cman_tls_session s, back;
	const char *why = "?";
	uint8_t *data;
	size_t len;

	make_client_only(&s);
	strcpy(s.sni, "a\nb\x7f\xc3\xbc~");
	memset(s.alpn, 'x', sizeof(s.alpn)); /* not terminated */
	data = encoded(&s, &len);
	cr_assert_eq(cman_tls_session_decode(data, len, &back, &why), 0, "%s", why);
	cr_assert_str_eq(back.sni, "a?b???~");
	cr_assert_eq(strlen(back.alpn), 255);
	free(data);
}

/* ---- the box ---- */

Test(tls_state, box)
{
	const size_t size = 3 * CMAN_TLS_BOX_ENTRY + 1 + 5 + 300;
	const uint8_t *state = NULL;
	size_t used = 0, cursor = 0, len = 9;
	uint8_t *box = calloc(1, size), bytes[300];
	uint64_t id = 9;

	sequence(bytes, 3, sizeof(bytes));
	cr_assert_eq(cman_tls_box_next(box, 0, &cursor, &id, &state, &len), -ENOENT);
	cr_assert_eq(cman_tls_box_add(box, size, &used, 1, bytes, 1), 0);
	cr_assert_eq(cman_tls_box_add(box, size, &used, UINT64_MAX - 1, bytes + 1, 5), 0);
	/* what cannot be an entry, and what does not fit, changes nothing */
	cr_assert_eq(cman_tls_box_add(box, size, &used, 3, bytes, 0), -EINVAL);
	cr_assert_eq(cman_tls_box_add(box, size, &used, 3, bytes, CMAN_TLS_STATE_MAX + 1), -EINVAL);
	cr_assert_eq(cman_tls_box_add(box, size - 1, &used, 3, bytes, 300), -EMSGSIZE);
	cr_assert_eq(cman_tls_box_add(box, used + 11, &used, 3, bytes, 1), -EMSGSIZE);
	cr_assert_eq(used, 2 * CMAN_TLS_BOX_ENTRY + 6);
	cr_assert_eq(cman_tls_box_add(box, size, &used, 3, bytes, 300), 0);
	cr_assert_eq(used, size);
	cr_assert_eq(cman_tls_box_add(box, size, &used, 4, bytes, 1), -EMSGSIZE);
	cr_assert_eq(memcmp(box,
			    "\0\0\0\0\0\0\0\1\0\0\0\1\3"
			    "\xff\xff\xff\xff\xff\xff\xff\xfe\0\0\0\5\4\5\6\7\10"
			    "\0\0\0\0\0\0\0\3\0\0\1\54\3\4",
			    44),
		     0);

	cr_assert_eq(cman_tls_box_next(box, size, &cursor, &id, &state, &len), 0);
	cr_assert(id == 1 && len == 1 && *state == 3);
	cr_assert_eq(cman_tls_box_next(box, size, &cursor, &id, &state, &len), 0);
	cr_assert(id == UINT64_MAX - 1 && len == 5 && !memcmp(state, bytes + 1, 5));
	cr_assert_eq(cman_tls_box_next(box, size, &cursor, &id, &state, &len), 0);
	cr_assert(id == 3 && len == 300 && state == box + size - 300);
	cr_assert_eq(cman_tls_box_next(box, size, &cursor, &id, &state, &len), -ENOENT);
	cr_assert_eq(cursor, size);
	free(box);
}

/* Entries up to there are read, and then the end of the box is not taken for the end of the list. */
Test(tls_state, a_box_cut_anywhere_is_refused)
{
	uint8_t whole[2 * CMAN_TLS_BOX_ENTRY + 8], *box;
	const uint8_t *state;
	size_t used = 0, cursor, len;
	unsigned int n;
	uint64_t id;
	int err;

	cman_tls_box_add(whole, sizeof(whole), &used, 1, (const uint8_t *)"four", 4);
	cman_tls_box_add(whole, sizeof(whole), &used, 2, (const uint8_t *)"more", 4);
	cr_assert_eq(used, sizeof(whole));
	for (size_t cut = 0; cut <= sizeof(whole); cut++) {
		box = exactly(whole, cut);
		cursor = n = 0;
		while (!(err = cman_tls_box_next(box, cut, &cursor, &id, &state, &len)))
			n++;
		cr_assert_eq(n, cut / 16);
		cr_assert_eq(err, cut % 16 ? -EBADMSG : -ENOENT, "%zu", cut);
		cr_assert_eq(cursor, n * 16);
		free(box);
	}
	/* lengths of 0 and over the limit */
	box = calloc(1, CMAN_TLS_BOX_ENTRY + CMAN_TLS_STATE_MAX + 1);
	cursor = 0;
	len = CMAN_TLS_BOX_ENTRY + CMAN_TLS_STATE_MAX + 1;
	cr_assert_eq(cman_tls_box_next(box, len, &cursor, &id, &state, &len), -EBADMSG);
	box[9] = 0x10;
	box[11] = 1;
	cr_assert_eq(cman_tls_box_next(box, len, &cursor, &id, &state, &len), -EBADMSG);
	box[11] = 0;
	cr_assert_eq(cman_tls_box_next(box, len, &cursor, &id, &state, &len), 0);
	cr_assert_eq(len, CMAN_TLS_STATE_MAX);
	free(box);
}
