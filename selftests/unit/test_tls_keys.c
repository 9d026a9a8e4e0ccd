// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The key schedule after a handshake, against published vectors and `openssl kdf` (tls_vectors.h).
 * That it agrees with a whole connection of OpenSSL is shown in test_tls_record.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/err.h>
#include <string.h>

#include "usr/core/tls.h"
#include "usr/tls/keys.h"

#include "tls_vectors.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

static const uint8_t zeros[128];

static struct cman_tls_half half_of(const char *secret)
{
	struct cman_tls_half half = { .seq = 77, .explicit_iv = 5, .epoch = 3 };

	tls_unhex(secret, half.secret, sizeof(half.secret));
	return half;
}

static void expect_hex(const void *got, const char *hex, const char *what, const char *name)
{
	uint8_t want[256];
	size_t n = tls_unhex(hex, want, sizeof(want));

	cr_expect_arr_eq(got, want, n, "%s: %s", name, what);
}

Test(tls_keys, derive_1_3)
{
	struct cman_tls_keys keys;
	size_t i;

	for (i = 0; i < N(tls_keys_vectors); i++) {
		const struct tls_keys_vector *v = &tls_keys_vectors[i];
		const struct cman_tls_suite *suite = cman_tls_suite(v->suite);
		struct cman_tls_half half = half_of(v->secret);

		memset(&keys, 0xee, sizeof(keys));
		cr_assert_eq(cman_tls_keys_derive(suite, &half, &keys), 0, "%s", v->name);
		expect_hex(keys.key, v->key, "key", v->name);
		expect_hex(keys.iv, v->iv, "IV", v->name);
		cr_expect_arr_eq(keys.key + suite->key_len, zeros,
				 sizeof(keys.key) - suite->key_len, "%s: behind the key", v->name);
	}
}

Test(tls_keys, derive_1_2)
{
	static const uint16_t suites[] = { 0xc02f, 0xc030, 0xcca8 };
	struct cman_tls_half half = { .seq = 1 };
	struct cman_tls_keys keys;
	size_t i;

	for (i = 0; i < sizeof(half.secret); i++)
		half.secret[i] = (uint8_t)(0x40 + i);
	for (i = 0; i < N(suites); i++) {
		const struct cman_tls_suite *suite = cman_tls_suite(suites[i]);
		const size_t iv = suite->aead == CMAN_TLS_CHACHA20_POLY1305 ? 12 : 4;

		memset(&keys, 0xee, sizeof(keys));
		cr_assert_eq(cman_tls_keys_derive(suite, &half, &keys), 0);
		cr_expect_arr_eq(keys.key, half.secret, suite->key_len, "%s", suite->name);
		cr_expect_arr_eq(keys.key + suite->key_len, zeros,
				 sizeof(keys.key) - suite->key_len, "%s", suite->name);
		cr_expect_arr_eq(keys.iv, half.secret + suite->key_len, iv, "%s", suite->name);
		cr_expect_arr_eq(keys.iv + iv, zeros, sizeof(keys.iv) - iv, "%s", suite->name);
	}
}

Test(tls_keys, update)
{
	size_t i;

	for (i = 0; i < N(tls_keys_vectors); i++) {
		const struct tls_keys_vector *v = &tls_keys_vectors[i];
		const struct cman_tls_suite *suite = cman_tls_suite(v->suite);
		struct cman_tls_half half = half_of(v->secret), next;

		memset(&next, 0xee, sizeof(next));
		cr_assert_eq(cman_tls_keys_update(suite, &half, &next), 0, "%s", v->name);
		expect_hex(next.secret, v->next, "next secret", v->name);
		cr_expect_arr_eq(next.secret + suite->hash_len, zeros,
				 sizeof(next.secret) - suite->hash_len, "%s", v->name);
		cr_expect_eq(next.seq, 0);
		cr_expect_eq(next.explicit_iv, 0);
		cr_expect_eq(next.epoch, 4);

		/* to the same place */
		cr_assert_eq(cman_tls_keys_update(suite, &half, &half), 0, "%s", v->name);
		expect_hex(half.secret, v->next, "next secret, in place", v->name);
		cr_expect_eq(half.seq, 0);
		cr_expect_eq(half.epoch, 4);
	}
}

/* The key block begins in the same way for all: the client's key, the server's, the IVs. */
static void check_block(const struct cman_tls_suite *suite, const struct tls_block_vector *v)
{
	const size_t key = suite->key_len;
	const size_t iv = suite->aead == CMAN_TLS_CHACHA20_POLY1305 ? 12 : 4;
	uint8_t master[48], server_random[32], client_random[32], block[128];
	struct cman_tls_half rx, tx, peer_rx, peer_tx;

	tls_unhex(v->master, master, sizeof(master));
	tls_unhex(v->server_random, server_random, sizeof(server_random));
	tls_unhex(v->client_random, client_random, sizeof(client_random));
	tls_unhex(v->block, block, sizeof(block));
	memset(&rx, 0xee, sizeof(rx));
	memset(&tx, 0xee, sizeof(tx));
	cr_assert_eq(cman_tls_keys_block(suite, master, sizeof(master), client_random,
					 server_random, true, &rx, &tx),
		     0, "%s", v->name);
	cr_expect_arr_eq(rx.secret, block, key, "%s, %s: client's key", v->name, suite->name);
	cr_expect_arr_eq(tx.secret, block + key, key, "%s, %s: server's key", v->name, suite->name);
	cr_expect_arr_eq(rx.secret + key, block + 2 * key, iv, "%s, %s: client's IV", v->name,
			 suite->name);
	cr_expect_arr_eq(tx.secret + key, block + 2 * key + iv, iv, "%s, %s: server's IV", v->name,
			 suite->name);
	cr_expect_arr_eq(rx.secret + key + iv, zeros, sizeof(rx.secret) - key - iv);
	cr_expect_arr_eq(tx.secret + key + iv, zeros, sizeof(tx.secret) - key - iv);
	cr_expect(!rx.seq && !rx.epoch && !rx.explicit_iv && !tx.seq && !tx.epoch &&
		  !tx.explicit_iv);

	/* the other side's view */
	cr_assert_eq(cman_tls_keys_block(suite, master, sizeof(master), client_random,
					 server_random, false, &peer_rx, &peer_tx),
		     0, "%s", v->name);
	cr_expect_arr_eq(&peer_rx, &tx, sizeof(tx), "%s", v->name);
	cr_expect_arr_eq(&peer_tx, &rx, sizeof(rx), "%s", v->name);
}

Test(tls_keys, block)
{
	const struct cman_tls_suite *suites;
	size_t n, i, j, checked = 0;

	suites = cman_tls_suites(&n);
	for (i = 0; i < n; i++)
		for (j = 0; j < N(tls_block_vectors); j++)
			if (suites[i].version == CMAN_TLS_1_2 &&
			    suites[i].hash_len == tls_block_vectors[j].hash_len) {
				check_block(&suites[i], &tls_block_vectors[j]);
				checked++;
			}
	cr_expect_geq(checked, 3);
}

static void expect_zero(const void *p, size_t n, const char *what)
{
	static const uint8_t zero[256];

	cr_assert_leq(n, sizeof(zero));
	cr_expect_arr_eq(p, zero, n, "%s is not zeroed", what);
}

Test(tls_keys, for_the_kernel)
{
	const struct cman_tls_suite *suite = cman_tls_suite(0xc02f);
	struct cman_tls_half half = { .seq = 7, .explicit_iv = UINT64_MAX };
	struct cman_ktls_keys kernel;

	for (uint8_t i = 0; i < 20; i++)
		half.secret[i] = i + 1;
	cr_assert_eq(cman_tls_keys_kernel(suite, &half, &kernel), 0);
	cr_expect_eq(kernel.suite, suite);
	cr_expect_eq(kernel.seq, 7);
	cr_expect_eq(kernel.explicit_nonce, 6, "modulo 2^64");
	cr_expect_arr_eq(kernel.key, half.secret, 16);
	cr_expect_arr_eq(kernel.iv, half.secret + 16, 4);
	cr_expect_eq(cman_tls_keys_kernel(NULL, &half, &kernel), -EINVAL);
	expect_zero(&kernel, sizeof(kernel), "the kernel's keys");
}

Test(tls_keys, refused)
{
	const struct cman_tls_suite *tls12 = cman_tls_suite(0xc02f),
				    *tls13 = cman_tls_suite(0x1301);
	struct cman_tls_half half = half_of(RFC8448_CLIENT), rx, tx;
	struct cman_tls_suite odd = *tls13;
	uint8_t master[48] = { 1 }, random[32] = { 2 };
	struct cman_tls_keys keys;

	memset(&keys, 0xee, sizeof(keys));
	cr_expect_eq(cman_tls_keys_derive(NULL, &half, &keys), -EINVAL);
	expect_zero(&keys, sizeof(keys), "keys");
	odd.version = 0x0302;
	memset(&keys, 0xee, sizeof(keys));
	cr_expect_eq(cman_tls_keys_derive(&odd, &half, &keys), -EINVAL);
	expect_zero(&keys, sizeof(keys), "keys");
	odd = *tls13;
	odd.hash_len = 64;
	cr_expect_eq(cman_tls_keys_derive(&odd, &half, &keys), -EINVAL);
	odd = *tls13;
	odd.key_len = 32;
	cr_expect_eq(cman_tls_keys_derive(&odd, &half, &keys), -EINVAL);
	odd.aead = (enum cman_tls_aead)(CMAN_TLS_CHACHA20_POLY1305 + 1);
	cr_expect_eq(cman_tls_keys_derive(&odd, &half, &keys), -EINVAL);

	memset(&tx, 0xee, sizeof(tx));
	cr_expect_eq(cman_tls_keys_update(tls12, &half, &tx), -EINVAL);
	expect_zero(&tx, sizeof(tx), "next half");
	cr_expect_eq(cman_tls_keys_update(NULL, &half, &tx), -EINVAL);

	memset(&rx, 0xee, sizeof(rx));
	memset(&tx, 0xee, sizeof(tx));
	cr_expect_eq(cman_tls_keys_block(tls13, master, sizeof(master), random, random, true, &rx,
					 &tx),
		     -EINVAL);
	expect_zero(&rx, sizeof(rx), "rx");
	expect_zero(&tx, sizeof(tx), "tx");
	cr_expect_eq(cman_tls_keys_block(NULL, master, sizeof(master), random, random, true, &rx,
					 &tx),
		     -EINVAL);
	cr_expect_eq(ERR_peek_error(), 0, "libcrypto's queue of errors is not empty");
}
