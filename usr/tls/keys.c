/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From secrets to keys: see keys.h. Every secret in between is wiped here or by libcrypto. */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdatomic.h>
#include <string.h>

#include "usr/sys/secret.h"
#include "usr/tls/keys.h"

#define LABEL_MAX 32
#define RANDOM	  32

/* Looking up an algorithm costs more than using it: once a process, whichever thread is first. */
static EVP_KDF *fetched(_Atomic(EVP_KDF *) *kdf, const char *name)
{
	EVP_KDF *mine = atomic_load(kdf), *other = NULL;

	if (mine)
		return mine;
	mine = EVP_KDF_fetch(NULL, name, NULL);
	if (mine && !atomic_compare_exchange_strong(kdf, &other, mine)) {
		EVP_KDF_free(mine);
		mine = other;
	}
	return mine;
}

static int new_ctx(_Atomic(EVP_KDF *) *cache, const char *name, EVP_KDF_CTX **ret_ctx)
{
	EVP_KDF *kdf = fetched(cache, name);

	if (!kdf) {
		ERR_clear_error();
		return -EIO;
	}
	*ret_ctx = EVP_KDF_CTX_new(kdf);
	return *ret_ctx ? 0 : -ENOMEM;
}

static bool ours(const struct cman_tls_suite *suite, uint16_t version)
{
	return suite && suite->version == version && suite->aead >= CMAN_TLS_AES_128_GCM &&
	       suite->aead <= CMAN_TLS_CHACHA20_POLY1305 &&
	       suite->key_len == (suite->aead == CMAN_TLS_AES_128_GCM ? 16 : 32) &&
	       (suite->hash_len == 32 || suite->hash_len == 48);
}

static char *digest(const struct cman_tls_suite *suite)
{
	return suite->hash_len == 48 ? "SHA2-384" : "SHA2-256";
}

/* Bytes of the IV that TLS 1.2 takes from the key block: RFC 5288, 3; RFC 7905, 2. */
static size_t fixed_iv_len(const struct cman_tls_suite *suite)
{
	return suite->aead == CMAN_TLS_CHACHA20_POLY1305 ? 12 : 4;
}

/* An HKDF-Expand of @secret, ready for expand_label(). */
static int begin_expand(const struct cman_tls_suite *suite, const uint8_t *secret,
			EVP_KDF_CTX **ret_ctx)
{
	static _Atomic(EVP_KDF *) hkdf;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY, err;
	OSSL_PARAM params[] = {
		OSSL_PARAM_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, digest(suite), 0),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, suite->hash_len),
		OSSL_PARAM_END,
	};

	err = new_ctx(&hkdf, "HKDF", ret_ctx);
	if (err)
		return err;
	if (EVP_KDF_CTX_set_params(*ret_ctx, params) == 1)
		return 0;
	EVP_KDF_CTX_free(*ret_ctx);
	ERR_clear_error();
	return -EIO;
}

/* RFC 8446, 7.1, with an empty context. */
static int expand_label(EVP_KDF_CTX *ctx, const char *label, uint8_t *out, size_t len)
{
	static const char prefix[] = "tls13 ";
	uint8_t info[2 + 1 + LABEL_MAX + 1], *p = info;
	size_t prefix_len = sizeof(prefix) - 1, label_len = strlen(label);
	OSSL_PARAM params[] = { OSSL_PARAM_END, OSSL_PARAM_END };

	*p++ = 0;
	*p++ = (uint8_t)len;
	*p++ = (uint8_t)(prefix_len + label_len);
	memcpy(p, prefix, prefix_len);
	memcpy(p + prefix_len, label, label_len);
	p += prefix_len + label_len;
	*p++ = 0;
	params[0] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info,
						      (size_t)(p - info));
	if (EVP_KDF_derive(ctx, out, len, params) == 1)
		return 0;
	ERR_clear_error();
	return -EIO;
}

static int derive_13(const struct cman_tls_suite *suite, const struct cman_tls_half *half,
		     struct cman_tls_keys *keys)
{
	EVP_KDF_CTX *ctx;
	int err;

	err = begin_expand(suite, half->secret, &ctx);
	if (err)
		return err;
	err = expand_label(ctx, "key", keys->key, suite->key_len);
	if (!err)
		err = expand_label(ctx, "iv", keys->iv, sizeof(keys->iv));
	EVP_KDF_CTX_free(ctx);
	return err;
}

int cman_tls_keys_derive(const struct cman_tls_suite *suite, const struct cman_tls_half *half,
			 struct cman_tls_keys *ret_keys)
{
	int err = -EINVAL;

	memset(ret_keys, 0, sizeof(*ret_keys));
	if (ours(suite, CMAN_TLS_1_3)) {
		err = derive_13(suite, half, ret_keys);
	} else if (ours(suite, CMAN_TLS_1_2)) {
		memcpy(ret_keys->key, half->secret, suite->key_len);
		memcpy(ret_keys->iv, half->secret + suite->key_len, fixed_iv_len(suite));
		err = 0;
	}
	if (err)
		cman_secret_wipe(ret_keys, sizeof(*ret_keys));
	return err;
}

int cman_tls_keys_kernel(const struct cman_tls_suite *suite, const struct cman_tls_half *half,
			 struct cman_ktls_keys *ret_keys)
{
	struct cman_tls_keys keys;
	int err = cman_tls_keys_derive(suite, half, &keys);

	*ret_keys = (struct cman_ktls_keys){ .suite = suite };
	if (!err) {
		memcpy(ret_keys->key, keys.key, sizeof(keys.key));
		memcpy(ret_keys->iv, keys.iv, sizeof(keys.iv));
		ret_keys->seq = half->seq;
		ret_keys->explicit_nonce = half->explicit_iv + half->seq;
	}
	cman_secret_wipe(&keys, sizeof(keys));
	return err;
}

int cman_tls_keys_update(const struct cman_tls_suite *suite, const struct cman_tls_half *half,
			 struct cman_tls_half *ret_next)
{
	struct cman_tls_half next = { .epoch = half->epoch + 1 };
	EVP_KDF_CTX *ctx;
	int err = -EINVAL;

	if (ours(suite, CMAN_TLS_1_3))
		err = begin_expand(suite, half->secret, &ctx);
	if (!err) {
		err = expand_label(ctx, "traffic upd", next.secret, suite->hash_len);
		EVP_KDF_CTX_free(ctx);
	}
	if (err)
		cman_secret_wipe(ret_next, sizeof(*ret_next));
	else
		*ret_next = next;
	cman_secret_wipe(&next, sizeof(next));
	return err;
}

int cman_tls_keys_advance(struct cman_tls_slot *slot, struct cman_tls_commit *next, int leg,
			  int way)
{
	struct cman_tls_number *n = &next->number[leg][way];
	struct cman_tls_half half = { .epoch = n->epoch };
	int err;

	memcpy(half.secret, slot->secret[leg][way][n->epoch & 1], sizeof(half.secret));
	err = cman_tls_keys_update(cman_tls_suite(slot->suite[leg]), &half, &half);
	if (!err) {
		memcpy(slot->secret[leg][way][half.epoch & 1], half.secret, sizeof(half.secret));
		n->epoch = half.epoch;
		n->seq = 0;
	}
	cman_secret_wipe(&half, sizeof(half));
	return err;
}

/* RFC 5246, 5 and 6.3 */
static int prf(const struct cman_tls_suite *suite, const uint8_t *master, size_t master_len,
	       const uint8_t *seed, size_t seed_len, uint8_t *out, size_t len)
{
	static _Atomic(EVP_KDF *) tls1;
	OSSL_PARAM params[] = {
		OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, digest(suite), 0),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SECRET, (void *)master, master_len),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SEED, (void *)seed, seed_len),
		OSSL_PARAM_END,
	};
	EVP_KDF_CTX *ctx;
	int err;

	err = new_ctx(&tls1, "TLS1-PRF", &ctx);
	if (err)
		return err;
	if (EVP_KDF_derive(ctx, out, len, params) != 1) {
		ERR_clear_error();
		err = -EIO;
	}
	EVP_KDF_CTX_free(ctx);
	return err;
}

int cman_tls_keys_block(const struct cman_tls_suite *suite, const uint8_t *master,
			size_t master_len, const uint8_t client_random[32],
			const uint8_t server_random[32], bool server, struct cman_tls_half *ret_rx,
			struct cman_tls_half *ret_tx)
{
	static const char label[] = "key expansion";
	struct cman_tls_half *client_way = server ? ret_rx : ret_tx;
	struct cman_tls_half *server_way = server ? ret_tx : ret_rx;
	uint8_t seed[sizeof(label) - 1 + 2 * RANDOM], block[2 * (32 + 12)];
	size_t key, iv;
	int err;

	memset(ret_rx, 0, sizeof(*ret_rx));
	memset(ret_tx, 0, sizeof(*ret_tx));
	if (!ours(suite, CMAN_TLS_1_2))
		return -EINVAL;
	key = suite->key_len;
	iv = fixed_iv_len(suite);
	memcpy(seed, label, sizeof(label) - 1);
	memcpy(seed + sizeof(label) - 1, server_random, RANDOM);
	memcpy(seed + sizeof(label) - 1 + RANDOM, client_random, RANDOM);
	err = prf(suite, master, master_len, seed, sizeof(seed), block, 2 * (key + iv));
	if (!err) { /* the client's key, the server's, the client's IV, the server's */
		memcpy(client_way->secret, block, key);
		memcpy(server_way->secret, block + key, key);
		memcpy(client_way->secret + key, block + 2 * key, iv);
		memcpy(server_way->secret + key, block + 2 * key + iv, iv);
	}
	cman_secret_wipe(block, sizeof(block));
	return err;
}
