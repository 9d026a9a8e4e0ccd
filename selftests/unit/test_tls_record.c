// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The record engine, in three ways: vectors (RFC 8448 and tls_vectors.h) byte by byte; forgeries of
 * each of them (every bit, every length, other numbers and keys), all to be refused; and whole
 * connections of OpenSSL over memory BIOs. In those the test sits between client and server with
 * the secrets of both ways: it opens each record that OpenSSL has sealed, seals the content
 * anew, which must give the same bytes, and it is our record that goes on to the peer.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/tls.h"
#include "usr/tls/keys.h"
#include "usr/tls/record.h"

#include "certificates.h"
#include "tls_vectors.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))
#define ROOM	 (CMAN_TLS_RECORD_MAX + 1)

TestSuite(tls_record, .timeout = 120);

static struct cman_tls_half half_of(const struct tls_record_vector *v)
{
	struct cman_tls_half half = { .seq = v->seq, .explicit_iv = v->explicit_iv };

	tls_unhex(v->secret, half.secret, sizeof(half.secret));
	return half;
}

static void init(struct cman_tls_cipher *c, const struct tls_record_vector *v, bool seal)
{
	struct cman_tls_half half = half_of(v);

	memset(c, 0xee, sizeof(*c));
	cr_assert_eq(cman_tls_cipher_init(c, cman_tls_suite(v->suite), &half, seal), 0);
}

/* The record as it is: a copy of just its length, so that the sanitizer sees one byte too many. */
static int open_copy(struct cman_tls_cipher *c, uint64_t seq, const uint8_t *record, size_t len,
		     uint8_t *plain, size_t *ret_len, uint8_t *ret_type)
{
	uint8_t *in = malloc(len ? len : 1), *out = malloc(len ? len : 1);
	size_t n = 12345;
	uint8_t type = 99;
	size_t i;
	int err;

	cr_assert(in && out);
	memcpy(in, record, len);
	memset(out, 0, len);
	err = cman_tls_record_open(c, seq, in, len, out, len, &n, &type);
	cr_assert_arr_eq(in, record, len, "the input has changed");
	if (err) {
		cr_assert_eq(n, 12345, "a refused record has set the length");
		cr_assert_eq(type, 99, "a refused record has set the type");
		for (i = 0; i < len; i++)
			cr_assert_eq(out[i], 0, "a refused record has left content behind");
		cr_assert_eq(ERR_peek_error(), 0, "libcrypto's queue of errors is not empty");
	} else {
		memcpy(plain, out, n);
		*ret_len = n;
		*ret_type = type;
	}
	free(in);
	free(out);
	return err;
}

static void check_open(const struct tls_record_vector *v, const char *of)
{
	uint8_t record[ROOM], want[ROOM], plain[ROOM], type;
	size_t len = tls_unhex(v->record, record, sizeof(record)), want_len, n;
	struct cman_tls_cipher c;
	int err;

	cr_assert_eq(cman_tls_record_look(record, len, NULL), (int)len, "%s", v->name);
	init(&c, v, false);
	err = open_copy(&c, v->seq, record, len, plain, &n, &type);
	cr_expect_eq(err, v->result, "%s: %s: %d", of, v->name, err);
	if (!err && !v->result) {
		want_len = tls_unhex(v->plain, want, sizeof(want));
		cr_expect_eq(n, want_len, "%s: %s", of, v->name);
		cr_expect_arr_eq(plain, want, want_len, "%s: %s", of, v->name);
		cr_expect_eq(type, v->type, "%s: %s", of, v->name);
	}
	cman_tls_cipher_fini(&c);
}

static void check_seal(const struct tls_record_vector *v, const char *of)
{
	uint8_t want[ROOM], plain[ROOM], *in, *out;
	size_t want_len = tls_unhex(v->record, want, sizeof(want)), n, len = 0;
	const struct cman_tls_suite *suite = cman_tls_suite(v->suite);
	struct cman_tls_cipher c;
	int again;

	n = tls_unhex(v->plain, plain, sizeof(plain));
	in = malloc(n ? n : 1);
	out = malloc(n + cman_tls_record_overhead(suite));
	cr_assert(in && out);
	memcpy(in, plain, n);
	init(&c, v, true);
	/* twice: whoever goes on after a crash gives the same */
	for (again = 0; again < 2; again++) {
		memset(out, 0, n + cman_tls_record_overhead(suite));
		cr_assert_eq(cman_tls_record_seal(&c, v->seq, v->type, in, n, out, &len), 0,
			     "%s: %s", of, v->name);
		cr_assert_eq(len, n + cman_tls_record_overhead(suite), "%s: %s", of, v->name);
		cr_assert_eq(len, want_len, "%s: %s", of, v->name);
		cr_expect_arr_eq(out, want, len, "%s: %s", of, v->name);
	}
	cman_tls_cipher_fini(&c);
	free(in);
	free(out);
}

Test(tls_record, rfc8448)
{
	size_t i;

	for (i = 0; i < N(tls_rfc8448_records); i++) {
		check_open(&tls_rfc8448_records[i], "RFC 8448");
		check_seal(&tls_rfc8448_records[i], "RFC 8448");
	}
}

static const char *name_of(uint16_t suite)
{
	return cman_tls_suite(suite)->name;
}

Test(tls_record, vectors)
{
	size_t i, sealed = 0;

	for (i = 0; i < N(tls_record_vectors); i++) {
		const struct tls_record_vector *v = &tls_record_vectors[i];

		check_open(v, name_of(v->suite));
		if (v->seals) {
			check_seal(v, name_of(v->suite));
			sealed++;
		}
	}
	cr_expect_geq(sealed, 6 * 6);
}

/* ---- forgeries ---- */

static void expect_refused(struct cman_tls_cipher *c, const struct tls_record_vector *v,
			   uint64_t seq, const uint8_t *record, size_t len, int want,
			   const char *what, size_t at)
{
	uint8_t plain[ROOM], type;
	size_t n;
	int err = open_copy(c, seq, record, len, plain, &n, &type);

	if (want)
		cr_assert_eq(err, want, "%s, %s: %s %zu: %d", name_of(v->suite), v->name, what, at,
			     err);
	else
		cr_assert_neq(err, 0, "%s, %s: %s %zu", name_of(v->suite), v->name, what, at);
}

static void forge_bits(struct cman_tls_cipher *c, const struct tls_record_vector *v,
		       const uint8_t *record, size_t len)
{
	uint8_t forged[ROOM];
	size_t bit;
	int want;

	memcpy(forged, record, len);
	for (bit = 0; bit < 8 * len; bit++) {
		forged[bit / 8] ^= 1 << bit % 8;
		want = bit / 8 >= CMAN_TLS_HEADER ? -EBADMSG : 0;
		if (bit / 8 == 1 || bit / 8 == 2) /* the version */
			want = -EPROTO;
		expect_refused(c, v, v->seq, forged, len, want, "flipped bit", bit);
		forged[bit / 8] ^= 1 << bit % 8;
	}
}

static void forge_tags(struct cman_tls_cipher *c, const struct tls_record_vector *v,
		       const uint8_t *record, size_t len)
{
	uint8_t forged[ROOM];
	size_t i;

	memcpy(forged, record, len);
	memset(forged + len - 16, 0, 16);
	expect_refused(c, v, v->seq, forged, len, -EBADMSG, "tag of zeros", 0);
	memset(forged + len - 16, 0xff, 16);
	expect_refused(c, v, v->seq, forged, len, -EBADMSG, "tag of ones", 0);
	for (i = 1; i <= 16; i++)
		forged[len - i] = (uint8_t)~record[len - i];
	expect_refused(c, v, v->seq, forged, len, -EBADMSG, "inverted tag", 0);
}

/* Cut off at either end, with a header that says so and with one that does not. */
static void forge_lengths(struct cman_tls_cipher *c, const struct tls_record_vector *v,
			  const uint8_t *record, size_t len)
{
	uint8_t forged[ROOM];
	size_t n;

	for (n = 0; n < len; n++) {
		expect_refused(c, v, v->seq, record, n, -EPROTO, "incomplete", n);
		if (n < CMAN_TLS_HEADER)
			continue;
		memcpy(forged, record, CMAN_TLS_HEADER);
		forged[3] = (uint8_t)((n - CMAN_TLS_HEADER) >> 8);
		forged[4] = (uint8_t)(n - CMAN_TLS_HEADER);
		memcpy(forged + CMAN_TLS_HEADER, record + CMAN_TLS_HEADER, n - CMAN_TLS_HEADER);
		expect_refused(c, v, v->seq, forged, n, -EBADMSG, "cut to", n);
		memcpy(forged + CMAN_TLS_HEADER, record + len - (n - CMAN_TLS_HEADER),
		       n - CMAN_TLS_HEADER);
		expect_refused(c, v, v->seq, forged, n, -EBADMSG, "cut in front to", n);
	}
	memcpy(forged, record, len);
	forged[len] = 0;
	expect_refused(c, v, v->seq, forged, len + 1, -EPROTO, "one byte more", 0);
	n = len + 1 - CMAN_TLS_HEADER;
	forged[3] = (uint8_t)(n >> 8);
	forged[4] = (uint8_t)n;
	expect_refused(c, v, v->seq, forged, len + 1, -EBADMSG, "one byte more, in the header", 0);
}

static void forge_numbers(struct cman_tls_cipher *c, const struct tls_record_vector *v,
			  const uint8_t *record, size_t len)
{
	unsigned int bit;

	for (bit = 0; bit < 64; bit++)
		if ((v->seq ^ 1ull << bit) != UINT64_MAX)
			expect_refused(c, v, v->seq ^ 1ull << bit, record, len, -EBADMSG,
				       "number, bit", bit);
}

static void forge_keys(const struct tls_record_vector *v, const uint8_t *record, size_t len)
{
	const struct cman_tls_suite *suite = cman_tls_suite(v->suite);
	struct cman_tls_half half = half_of(v);
	struct cman_tls_cipher c;
	size_t i, n = suite->hash_len;

	if (suite->version == CMAN_TLS_1_2)
		n = suite->key_len + (suite->aead == CMAN_TLS_CHACHA20_POLY1305 ? 12 : 4);
	for (i = 0; i < n; i++) {
		half.secret[i] ^= 0x10;
		cr_assert_eq(cman_tls_cipher_init(&c, suite, &half, false), 0);
		expect_refused(&c, v, v->seq, record, len, -EBADMSG, "secret, byte", i);
		cman_tls_cipher_fini(&c);
		half.secret[i] ^= 0x10;
	}
}

Test(tls_record, forgeries)
{
	struct cman_tls_cipher c;
	uint8_t record[ROOM], plain[ROOM], type;
	size_t i, len, n;

	for (i = 0; i < N(tls_record_vectors); i++) {
		const struct tls_record_vector *v = &tls_record_vectors[i];

		if (v->result)
			continue;
		len = tls_unhex(v->record, record, sizeof(record));
		init(&c, v, false);
		forge_bits(&c, v, record, len);
		forge_tags(&c, v, record, len);
		forge_lengths(&c, v, record, len);
		forge_numbers(&c, v, record, len);
		forge_keys(v, record, len);
		/* after so many that it has refused it still opens the right one */
		cr_expect_eq(open_copy(&c, v->seq, record, len, plain, &n, &type), 0);
		cman_tls_cipher_fini(&c);
	}
}

/* ---- limits ---- */

Test(tls_record, look)
{
	uint8_t head[CMAN_TLS_HEADER] = { CMAN_TLS_DATA, 3, 3, 0x41, 0x00 }, type = 0;
	unsigned int t;
	size_t n;

	for (n = 0; n < sizeof(head); n++)
		cr_expect_eq(cman_tls_record_look(head, n, &type), 0);
	cr_expect_eq(type, 0);
	cr_expect_eq(cman_tls_record_look(head, sizeof(head), &type), CMAN_TLS_RECORD_MAX);
	cr_expect_eq(type, CMAN_TLS_DATA);
	cr_expect_eq(cman_tls_record_look(head, sizeof(head), NULL), CMAN_TLS_RECORD_MAX);
	head[4] = 1;
	cr_expect_eq(cman_tls_record_look(head, sizeof(head), NULL), -EMSGSIZE);
	head[3] = 0;
	cr_expect_eq(cman_tls_record_look(head, sizeof(head), NULL), CMAN_TLS_HEADER + 1);
	head[4] = 0;
	cr_expect_eq(cman_tls_record_look(head, sizeof(head), NULL), CMAN_TLS_HEADER);
	head[2] = 1; /* a first ClientHello */
	for (t = 0; t < 256; t++) {
		head[0] = (uint8_t)t;
		cr_expect_eq(cman_tls_record_look(head, sizeof(head), &type),
			     t >= 20 && t <= 23 ? CMAN_TLS_HEADER : -EPROTO, "type %u", t);
	}
	head[0] = CMAN_TLS_HANDSHAKE;
	head[1] = 2;
	cr_expect_eq(cman_tls_record_look(head, sizeof(head), NULL), -EPROTO);
	cr_expect_eq(cman_tls_record_look((const uint8_t *)"GET /", 5, NULL), -EPROTO);
}

/* A record of the first bytes that nobody should seal: with number 0 and @n bytes inside. */
static size_t seal_raw(const struct cman_tls_suite *suite, const struct cman_tls_half *half,
		       const uint8_t *inside, size_t n, uint8_t *record)
{
	const EVP_CIPHER *types[] = { NULL, EVP_aes_128_gcm(), EVP_aes_256_gcm(),
				      EVP_chacha20_poly1305() };
	const bool gcm12 = suite->version == CMAN_TLS_1_2 &&
			   suite->aead != CMAN_TLS_CHACHA20_POLY1305;
	const size_t body = (gcm12 ? 8 : 0) + n + 16;
	uint8_t aad[13] = { 0, 0, 0, 0, 0, 0, 0, 0, CMAN_TLS_DATA, 3, 3, n >> 8, n & 0xff };
	uint8_t *p = record + CMAN_TLS_HEADER;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	struct cman_tls_keys keys;
	int done;

	memcpy(record, (uint8_t[]){ CMAN_TLS_DATA, 3, 3, body >> 8, body & 0xff }, 5);
	if (gcm12) {
		memset(p, 0, 8);
		p += 8;
	}
	cr_assert_eq(cman_tls_keys_derive(suite, half, &keys), 0);
	cr_assert_eq(EVP_EncryptInit_ex(ctx, types[suite->aead], NULL, keys.key, keys.iv), 1);
	if (suite->version == CMAN_TLS_1_3)
		cr_assert_eq(EVP_EncryptUpdate(ctx, NULL, &done, record, CMAN_TLS_HEADER), 1);
	else
		cr_assert_eq(EVP_EncryptUpdate(ctx, NULL, &done, aad, sizeof(aad)), 1);
	cr_assert_eq(EVP_EncryptUpdate(ctx, p, &done, inside, (int)n), 1);
	cr_assert_eq(EVP_EncryptFinal_ex(ctx, p + n, &done), 1);
	cr_assert_eq(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, p + n), 1);
	EVP_CIPHER_CTX_free(ctx);
	return CMAN_TLS_HEADER + body;
}

static void check_sizes(const struct cman_tls_suite *suite)
{
	static uint8_t inside[CMAN_TLS_PLAIN_MAX + 256], record[ROOM], plain[ROOM];
	struct cman_tls_half half = { .secret = { 5 } };
	const bool tls13 = suite->version == CMAN_TLS_1_3;
	struct cman_tls_cipher c;
	size_t len, n, most;
	uint8_t type;

	cr_assert_eq(cman_tls_cipher_init(&c, suite, &half, false), 0);
	/* just the largest content */
	memset(inside, 0, sizeof(inside));
	memset(inside, 'x', CMAN_TLS_PLAIN_MAX);
	inside[CMAN_TLS_PLAIN_MAX] = CMAN_TLS_DATA;
	len = seal_raw(suite, &half, inside, CMAN_TLS_PLAIN_MAX + tls13, record);
	cr_expect_eq(open_copy(&c, 0, record, len, plain, &n, &type), 0, "%s", suite->name);
	cr_expect_eq(n, CMAN_TLS_PLAIN_MAX);
	/* as much padding as goes into a record */
	most = CMAN_TLS_RECORD_MAX - CMAN_TLS_HEADER - 16;
	if (tls13) {
		len = seal_raw(suite, &half, inside, most, record);
		cr_assert_eq(len, CMAN_TLS_RECORD_MAX);
		cr_expect_eq(open_copy(&c, 0, record, len, plain, &n, &type), 0);
		cr_expect_eq(n, CMAN_TLS_PLAIN_MAX);
	}
	/* one byte too many */
	inside[CMAN_TLS_PLAIN_MAX] = 'x';
	inside[CMAN_TLS_PLAIN_MAX + 1] = CMAN_TLS_DATA;
	len = seal_raw(suite, &half, inside, CMAN_TLS_PLAIN_MAX + 1 + tls13, record);
	cr_expect_eq(open_copy(&c, 0, record, len, plain, &n, &type), -EMSGSIZE, "%s", suite->name);
	/* a record that is itself too large is not even opened */
	len = CMAN_TLS_RECORD_MAX + 1;
	record[3] = (uint8_t)((len - CMAN_TLS_HEADER) >> 8);
	record[4] = (uint8_t)(len - CMAN_TLS_HEADER);
	cr_expect_eq(open_copy(&c, 0, record, len, plain, &n, &type), -EMSGSIZE);
	cman_tls_cipher_fini(&c);
}

Test(tls_record, sizes)
{
	static const uint16_t suites[] = { 0x1301, 0x1302, 0x1303, 0xc02f, 0xc030, 0xcca8 };
	size_t i;

	for (i = 0; i < N(suites); i++)
		check_sizes(cman_tls_suite(suites[i]));
	cr_expect_eq(cman_tls_record_overhead(cman_tls_suite(0x1301)), 22);
	cr_expect_eq(cman_tls_record_overhead(cman_tls_suite(0x1303)), 22);
	cr_expect_eq(cman_tls_record_overhead(cman_tls_suite(0xc02f)), 29);
	cr_expect_eq(cman_tls_record_overhead(cman_tls_suite(0xcca8)), 21);
}

Test(tls_record, numbers)
{
	static const struct {
		uint16_t suite;
		uint64_t most; /* records of data */
	} limits[] = {
		{ 0x1301, 23726566 },	{ 0x1302, 23726566 },	{ 0x1303, UINT64_MAX },
		{ 0xc02f, UINT64_MAX }, { 0xcca8, UINT64_MAX },
	};
	struct cman_tls_half half = { .secret = { 9 } };
	uint8_t record[100], plain[100], type;
	struct cman_tls_cipher seal, opener;
	size_t i, len, n;

	for (i = 0; i < N(limits); i++) {
		const struct cman_tls_suite *suite = cman_tls_suite(limits[i].suite);
		const uint64_t most = limits[i].most;

		cr_assert_eq(cman_tls_cipher_init(&seal, suite, &half, true), 0);
		cr_assert_eq(cman_tls_cipher_init(&opener, suite, &half, false), 0);
		cr_expect_eq(cman_tls_record_seal(&seal, most - 1, CMAN_TLS_DATA,
						  (const uint8_t *)"x", 1, record, &len),
			     0, "%s", suite->name);
		cr_expect_eq(open_copy(&opener, most - 1, record, len, plain, &n, &type), 0);
		cr_expect_eq(cman_tls_record_seal(&seal, most, CMAN_TLS_DATA, (const uint8_t *)"x",
						  1, record, &len),
			     -EOVERFLOW, "%s", suite->name);
		/* the way out: KeyUpdate, or close_notify */
		if (most != UINT64_MAX) {
			cr_expect_eq(cman_tls_record_seal(&seal, most, CMAN_TLS_HANDSHAKE,
							  (const uint8_t *)"\x18\0\0\1\0", 5,
							  record, &len),
				     0);
			cr_expect_eq(cman_tls_record_seal(&seal, most + 1, CMAN_TLS_ALERT,
							  (const uint8_t *)"\1\0", 2, record, &len),
				     0);
		}
		cr_expect_eq(cman_tls_record_seal(&seal, UINT64_MAX, CMAN_TLS_ALERT,
						  (const uint8_t *)"\1\0", 2, record, &len),
			     -EOVERFLOW);
		cr_expect_eq(open_copy(&opener, UINT64_MAX, record, len, plain, &n, &type),
			     -EOVERFLOW);
		cman_tls_cipher_fini(&seal);
		cman_tls_cipher_fini(&opener);
	}
}

Test(tls_record, refused)
{
	static uint8_t data[CMAN_TLS_PLAIN_MAX + 1], record[ROOM];
	const struct cman_tls_suite *suite = cman_tls_suite(0x1301);
	struct cman_tls_half half = { .secret = { 9 } };
	struct cman_tls_cipher seal, opener, none = { .ctx = NULL }, zeros = { .ctx = NULL };
	size_t len = 0, n;
	uint8_t type;
	int t;

	cr_assert_eq(cman_tls_cipher_init(&seal, suite, &half, true), 0);
	cr_assert_eq(cman_tls_cipher_init(&opener, suite, &half, false), 0);
	for (t = 0; t < 256; t++)
		cr_expect_eq(cman_tls_record_seal(&seal, 0, (uint8_t)t, data, 3, record, &len),
			     t >= CMAN_TLS_ALERT && t <= CMAN_TLS_DATA ? 0 : -EINVAL, "type %d", t);
	cr_expect_eq(cman_tls_record_seal(&seal, 0, CMAN_TLS_ALERT, data, 0, record, &len),
		     -EINVAL);
	cr_expect_eq(cman_tls_record_seal(&seal, 0, CMAN_TLS_DATA, data, sizeof(data), record,
					  &len),
		     -EINVAL);
	cr_expect_eq(cman_tls_record_seal(&opener, 0, CMAN_TLS_DATA, data, 3, record, &len),
		     -EINVAL);
	cr_expect_eq(cman_tls_record_seal(&none, 0, CMAN_TLS_DATA, data, 3, record, &len), -EINVAL);

	cr_assert_eq(cman_tls_record_seal(&seal, 0, CMAN_TLS_DATA, data, 3, record, &len), 0);
	cr_expect_eq(cman_tls_record_open(&seal, 0, record, len, data, len, &n, &type), -EINVAL);
	cr_expect_eq(cman_tls_record_open(&none, 0, record, len, data, len, &n, &type), -EINVAL);
	cr_expect_eq(cman_tls_record_open(&opener, 0, record, len, data, len - 1, &n, &type),
		     -EINVAL);
	cr_expect_eq(cman_tls_record_open(&opener, 0, record, len, data, len, &n, &type), 0);
	record[0] = CMAN_TLS_CCS; /* the caller's business */
	cr_expect_eq(cman_tls_record_open(&opener, 0, record, len, data, len, &n, &type), -EPROTO);

	cman_tls_cipher_fini(&seal);
	cman_tls_cipher_fini(&opener);
	cr_expect_arr_eq(&seal, &zeros, sizeof(seal), "not wiped");
	cman_tls_cipher_fini(&seal);
	memset(&seal, 0xee, sizeof(seal));
	cr_expect_eq(cman_tls_cipher_init(&seal, NULL, &half, true), -EINVAL);
	cr_expect_arr_eq(&seal, &zeros, sizeof(seal), "not zeroed");
}

/* ---- real connections ---- */

/* One way of a connection: what its sender has sealed and what its receiver has opened so far. */
struct way {
	SSL *from, *to;
	struct cman_tls_half rx, tx; /* of the test, in the middle */
	unsigned int updates, padded, same, alerts, others;
	size_t got; /* bytes of content */
};

struct connection {
	const struct cman_tls_suite *suite;
	SSL *client, *server;
	struct way up, down;
	uint8_t secret[2][CMAN_TLS_SECRET_MAX]; /* TLS 1.3, of the key log: client, server */
};

static SSL_CTX *ssl_ctx;

static void begin_ssl(void)
{
	struct cert_issuer self;

	cert_begin();
	self = cert_make("server", "DNS:server.example", CERT_BOTH, -CERT_DAY, CERT_DAY, NULL,
			 false);
	ssl_ctx = SSL_CTX_new(TLS_method());
	cr_assert_eq(SSL_CTX_use_certificate(ssl_ctx, self.cert), 1);
	cr_assert_eq(SSL_CTX_use_PrivateKey(ssl_ctx, self.key), 1);
	cert_forget(&self);
}

static void end_ssl(void)
{
	SSL_CTX_free(ssl_ctx);
	cert_end();
}

TestSuite(tls_record_openssl, .init = begin_ssl, .fini = end_ssl, .timeout = 120);

static void take_line(const SSL *ssl, const char *line)
{
	struct connection *c = SSL_get_app_data(ssl);
	const char *secret = strrchr(line, ' ') + 1;

	if (!strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24))
		tls_unhex(secret, c->secret[0], sizeof(c->secret[0]));
	else if (!strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24))
		tls_unhex(secret, c->secret[1], sizeof(c->secret[1]));
}

static SSL *new_side(struct connection *c, bool server)
{
	SSL *ssl = SSL_new(ssl_ctx);

	SSL_set_app_data(ssl, c);
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_min_proto_version(ssl, c->suite->version);
	SSL_set_max_proto_version(ssl, c->suite->version);
	if (c->suite->version == CMAN_TLS_1_3)
		cr_assert_eq(SSL_set_ciphersuites(ssl, c->suite->name), 1);
	else
		cr_assert_eq(SSL_set_cipher_list(ssl, c->suite->name), 1);
	if (server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

/* What @from has written goes to @to as it is. */
static void pass(SSL *from, SSL *to)
{
	char *bytes;
	long n = BIO_get_mem_data(SSL_get_wbio(from), &bytes);

	if (n > 0)
		cr_assert_eq(BIO_write(SSL_get_rbio(to), bytes, (int)n), n);
	BIO_reset(SSL_get_wbio(from));
}

static void take_secrets(struct connection *c)
{
	struct cman_tls_half *up = &c->up.rx, *down = &c->down.rx, rx, tx;
	uint8_t master[48], client_random[32], server_random[32];

	if (c->suite->version == CMAN_TLS_1_3) {
		memcpy(up->secret, c->secret[0], sizeof(up->secret));
		memcpy(down->secret, c->secret[1], sizeof(down->secret));
	} else {
		cr_assert_eq(SSL_SESSION_get_master_key(SSL_get_session(c->client), master, 48),
			     48);
		SSL_get_client_random(c->client, client_random, 32);
		SSL_get_server_random(c->client, server_random, 32);
		cr_assert_eq(cman_tls_keys_block(c->suite, master, 48, client_random, server_random,
						 true, up, down),
			     0);
		cr_assert_eq(cman_tls_keys_block(c->suite, master, 48, client_random, server_random,
						 false, &rx, &tx),
			     0);
		cr_assert_arr_eq(&tx, up, sizeof(tx));
		cr_assert_arr_eq(&rx, down, sizeof(rx));
		up->seq = down->seq = 1; /* Finished was 0 */
	}
	c->up.tx = *up;
	c->down.tx = *down;
}

static void connect_pair(struct connection *c, const struct cman_tls_suite *suite)
{
	int round;

	memset(c, 0, sizeof(*c));
	c->suite = suite;
	SSL_CTX_set_keylog_callback(ssl_ctx, take_line);
	c->client = new_side(c, false);
	c->server = new_side(c, true);
	/* stops as soon as both are done: the server's tickets are still in its BIO */
	for (round = 0; round < 4 && SSL_do_handshake(c->client) != 1; round++) {
		pass(c->client, c->server);
		SSL_do_handshake(c->server);
		if (!SSL_is_init_finished(c->server) || suite->version == CMAN_TLS_1_2)
			pass(c->server, c->client);
	}
	pass(c->client, c->server);
	cr_assert_eq(SSL_do_handshake(c->server), 1, "%s", suite->name);
	cr_assert(SSL_is_init_finished(c->client) && SSL_is_init_finished(c->server));
	cr_assert_eq(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(c->client)), suite->id);
	c->up = (struct way){ .from = c->client, .to = c->server };
	c->down = (struct way){ .from = c->server, .to = c->client };
	take_secrets(c);
}

static void disconnect(struct connection *c)
{
	SSL_free(c->client);
	SSL_free(c->server);
	ERR_clear_error();
}

static void advance(const struct cman_tls_suite *suite, struct cman_tls_half *half, bool update)
{
	if (update)
		cr_assert_eq(cman_tls_keys_update(suite, half, half), 0);
	else
		half->seq++;
}

static void seal_to_peer(const struct cman_tls_suite *suite, struct way *w, uint8_t type,
			 const uint8_t *data, size_t len, const uint8_t *original,
			 size_t original_len)
{
	static uint8_t record[ROOM];
	struct cman_tls_cipher c;
	size_t n;

	if (original && suite->version == CMAN_TLS_1_2 &&
	    suite->aead != CMAN_TLS_CHACHA20_POLY1305) {
		/* OpenSSL begins with any explicit nonce */
		w->tx.explicit_iv = 0;
		for (n = 0; n < 8; n++)
			w->tx.explicit_iv = w->tx.explicit_iv << 8 | original[CMAN_TLS_HEADER + n];
		w->tx.explicit_iv -= w->tx.seq;
	}
	cr_assert_eq(cman_tls_cipher_init(&c, suite, &w->tx, true), 0);
	cr_assert_eq(cman_tls_record_seal(&c, w->tx.seq, type, data, len, record, &n), 0);
	cman_tls_cipher_fini(&c);
	if (original && n != original_len) {
		cr_assert_lt(n, original_len);
		w->padded++;
	} else if (original && w->rx.seq == w->tx.seq) {
		cr_assert_arr_eq(record, original, n, "%s: another record than OpenSSL's",
				 suite->name);
		w->same++;
	}
	cr_assert_eq(BIO_write(SSL_get_rbio(w->to), record, (int)n), (int)n);
}

/* One record from OpenSSL at @p: opened, sealed anew, given to the peer. Its length. */
static size_t relay_record(struct connection *c, struct way *w, const uint8_t *p, size_t len)
{
	static uint8_t plain[ROOM];
	struct cman_tls_cipher cipher;
	uint8_t type;
	int whole = cman_tls_record_look(p, len, &type);
	bool update;
	size_t n;

	cr_assert(whole > 0 && (size_t)whole <= len, "%s: %d of %zu bytes", c->suite->name, whole,
		  len);
	cr_assert_eq(cman_tls_cipher_init(&cipher, c->suite, &w->rx, false), 0);
	cr_assert_eq(open_copy(&cipher, w->rx.seq, p, (size_t)whole, plain, &n, &type), 0,
		     "%s: record %llu is not opened", c->suite->name,
		     (unsigned long long)w->rx.seq);
	cman_tls_cipher_fini(&cipher);
	seal_to_peer(c->suite, w, type, plain, n, p, (size_t)whole);
	update = type == CMAN_TLS_HANDSHAKE && n == 5 && plain[0] == 24;
	w->updates += update;
	w->alerts += type == CMAN_TLS_ALERT;
	w->others += type == CMAN_TLS_HANDSHAKE && !update;
	if (type == CMAN_TLS_DATA)
		w->got += n;
	advance(c->suite, &w->rx, update);
	advance(c->suite, &w->tx, update);
	return (size_t)whole;
}

static void relay(struct connection *c, struct way *w)
{
	uint8_t *bytes;
	long n = BIO_get_mem_data(SSL_get_wbio(w->from), (char **)&bytes), at = 0;

	while (at < n)
		at += (long)relay_record(c, w, bytes + at, (size_t)(n - at));
	BIO_reset(SSL_get_wbio(w->from));
}

/* @len bytes written on one side are read on the other, by way of our engine. */
static void send_through(struct connection *c, struct way *w, size_t len)
{
	static uint8_t sent[100000], got[100000];
	const size_t before = w->got;
	size_t i, n = 0, once;

	for (i = 0; i < len; i++)
		sent[i] = (uint8_t)(i * 31 + len + (i >> 8));
	cr_assert_eq(SSL_write_ex(w->from, sent, len, &n), 1, "%s: %zu bytes", c->suite->name, len);
	cr_assert_eq(n, len);
	relay(c, w);
	cr_assert_eq(w->got - before, len);
	for (n = 0; n < len; n += once)
		cr_assert_eq(SSL_read_ex(w->to, got + n, sizeof(got) - n, &once), 1,
			     "%s: the peer has not read our records", c->suite->name);
	cr_assert_arr_eq(got, sent, len);
	cr_assert_eq(SSL_read_ex(w->to, got, sizeof(got), &once), 0);
	ERR_clear_error();
}

/* A record of ours between those of OpenSSL; from then on its numbers differ on both sides. */
static void inject(struct connection *c, struct way *w, const char *text)
{
	const size_t len = strlen(text);
	char got[100];
	size_t n = 0;

	seal_to_peer(c->suite, w, CMAN_TLS_DATA, (const uint8_t *)text, len, NULL, 0);
	advance(c->suite, &w->tx, false);
	cr_assert_eq(SSL_read_ex(w->to, got, sizeof(got), &n), len != 0);
	cr_assert_eq(n, len);
	cr_assert_arr_eq(got, text, len);
	cr_assert_eq(SSL_get_error(w->to, 0), len ? SSL_ERROR_SYSCALL : SSL_ERROR_WANT_READ);
	ERR_clear_error();
}

static void update_keys(struct connection *c, struct way *w, struct way *back, bool ask)
{
	const unsigned int before = w->updates, before_back = back->updates;

	cr_assert_eq(SSL_key_update(w->from,
				    ask ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED),
		     1);
	cr_assert_eq(SSL_do_handshake(w->from), 1);
	relay(c, w);
	cr_assert_eq(w->updates, before + 1);
	send_through(c, w, 100);
	send_through(c, back, 100);
	cr_assert_eq(back->updates, before_back + ask, "an asked peer updates its own keys");
	send_through(c, w, 16384);
	send_through(c, back, 16384);
}

static void close_way(struct connection *c, struct way *w)
{
	char got[10];
	size_t n;

	SSL_shutdown(w->from);
	relay(c, w);
	cr_assert_eq(w->alerts, 1);
	cr_assert_eq(SSL_read_ex(w->to, got, sizeof(got), &n), 0);
	cr_assert_eq(SSL_get_error(w->to, 0), SSL_ERROR_ZERO_RETURN, "%s: no clean end",
		     c->suite->name);
}

static void whole_life(const struct cman_tls_suite *suite, size_t block)
{
	static const size_t sizes[] = { 1, 100, 16383, 16384, 16385, 60000 };
	const bool tls13 = suite->version == CMAN_TLS_1_3;
	struct connection c;
	size_t i;

	SSL_CTX_set_block_padding(ssl_ctx, block);
	connect_pair(&c, suite);
	relay(&c, &c.down);
	cr_expect_eq(c.down.others, tls13 ? 2 : 0, "%s: tickets", suite->name);
	for (i = 0; i < N(sizes); i++) {
		send_through(&c, &c.up, sizes[i]);
		send_through(&c, &c.down, sizes[i]);
	}
	if (tls13) {
		update_keys(&c, &c.up, &c.down, false);
		update_keys(&c, &c.down, &c.up, false);
		update_keys(&c, &c.up, &c.down, true);
		update_keys(&c, &c.down, &c.up, true);
		cr_expect_eq(c.up.rx.epoch, 3);
		cr_expect_eq(c.down.rx.epoch, 3);
	}
	if (tls13 && block > 1)
		cr_expect(c.up.padded > 5 && c.down.padded > 5, "nothing was padded");
	else
		cr_expect(c.up.same > 8 && c.down.same > 8 && !c.up.padded && !c.down.padded);
	inject(&c, &c.up, "");
	inject(&c, &c.down, "");
	inject(&c, &c.down, "not of the server");
	send_through(&c, &c.up, 100);
	send_through(&c, &c.down, 100);
	close_way(&c, &c.up);
	close_way(&c, &c.down);
	disconnect(&c);
}

static void all_suites(size_t block, unsigned int want)
{
	const struct cman_tls_suite *suites;
	unsigned int done = 0;
	size_t n, i;

	suites = cman_tls_suites(&n);
	for (i = 0; i < n; i++) {
		/* the certificate is an ECDSA one; RSA would change the handshake only */
		if (suites[i].version != CMAN_TLS_1_3 &&
		    (block > 1 || strncmp(suites[i].name, "ECDHE-ECDSA-", 12) != 0))
			continue;
		whole_life(&suites[i], block);
		done++;
	}
	cr_expect_eq(done, want, "%u suites", done);
}

Test(tls_record_openssl, whole_life)
{
	all_suites(0, 6);
}

Test(tls_record_openssl, padded)
{
	all_suites(512, 3);
	all_suites(4096, 3);
}

/* A record that was changed on its way ends a connection of OpenSSL, too: the peer does check. */
Test(tls_record_openssl, forged)
{
	const struct cman_tls_suite *suite = cman_tls_suite(0x1303);
	struct connection c;
	uint8_t record[100];
	struct cman_tls_cipher cipher;
	size_t n;

	connect_pair(&c, suite);
	cr_assert_eq(cman_tls_cipher_init(&cipher, suite, &c.up.tx, true), 0);
	cr_assert_eq(cman_tls_record_seal(&cipher, 0, CMAN_TLS_DATA, (const uint8_t *)"x", 1,
					  record, &n),
		     0);
	record[n - 1] ^= 1;
	cr_assert_eq(BIO_write(SSL_get_rbio(c.server), record, (int)n), (int)n);
	cr_expect_eq(SSL_read_ex(c.server, record, sizeof(record), &n), 0);
	cr_expect_eq(SSL_get_error(c.server, 0), SSL_ERROR_SSL);
	cman_tls_cipher_fini(&cipher);
	disconnect(&c);
}
