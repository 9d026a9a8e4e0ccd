/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The record engine: see record.h. A context of libcrypto is given its cipher and key once; a record
 * sets the nonce only, and allocates nothing.
 */
#include <endian.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <string.h>

#include "usr/sys/secret.h"
#include "usr/tls/keys.h"
#include "usr/tls/record.h"

#define TAG	     16
#define NONCE	     12
#define EXPLICIT     8		      /* of an AES-GCM nonce in TLS 1.2: RFC 5288, 3 */
#define AAD_MAX	     13		      /* TLS 1.2: RFC 5246, 6.2.3.3 */
#define MOST_AES_GCM 23726566	      /* 2^24.5: RFC 8446, 5.5 */
#define LAST	     (UINT64_MAX - 1) /* the number after it must exist, too: RFC 8446, 5.3 */

/* Looking up an algorithm costs more than a record: once a process, whichever thread is first. */
static const EVP_CIPHER *fetched(enum cman_tls_aead aead)
{
	static const char *const names[] = {
		[CMAN_TLS_AES_128_GCM] = "AES-128-GCM",
		[CMAN_TLS_AES_256_GCM] = "AES-256-GCM",
		[CMAN_TLS_CHACHA20_POLY1305] = "ChaCha20-Poly1305",
	};
	static _Atomic(EVP_CIPHER *) cache[sizeof(names) / sizeof(names[0])];
	EVP_CIPHER *mine = atomic_load(&cache[aead]), *other = NULL;

	if (mine)
		return mine;
	mine = EVP_CIPHER_fetch(NULL, names[aead], NULL);
	if (mine && !atomic_compare_exchange_strong(&cache[aead], &other, mine)) {
		EVP_CIPHER_free(mine);
		mine = other;
	}
	return mine;
}

int cman_tls_cipher_init(struct cman_tls_cipher *cipher, const struct cman_tls_suite *suite,
			 const struct cman_tls_half *half, bool seal)
{
	struct cman_tls_keys keys;
	const EVP_CIPHER *type;
	int err;

	memset(cipher, 0, sizeof(*cipher));
	err = cman_tls_keys_derive(suite, half, &keys);
	if (err)
		return err;
	type = fetched(suite->aead);
	cipher->ctx = EVP_CIPHER_CTX_new();
	if (!cipher->ctx)
		err = -ENOMEM;
	else if (!type || EVP_CipherInit_ex(cipher->ctx, type, NULL, keys.key, NULL, seal) != 1)
		err = -EIO;
	memcpy(cipher->iv, keys.iv, sizeof(cipher->iv));
	cman_secret_wipe(&keys, sizeof(keys));
	cipher->suite = suite;
	cipher->seal = seal;
	cipher->explicit_iv = half->explicit_iv;
	if (err) {
		ERR_clear_error();
		cman_tls_cipher_fini(cipher);
	}
	return err;
}

void cman_tls_cipher_fini(struct cman_tls_cipher *cipher)
{
	EVP_CIPHER_CTX_free(cipher->ctx);
	cman_secret_wipe(cipher, sizeof(*cipher));
}

static size_t explicit_len(const struct cman_tls_suite *suite)
{
	return suite->version == CMAN_TLS_1_2 && suite->aead != CMAN_TLS_CHACHA20_POLY1305 ?
		       EXPLICIT :
		       0;
}

size_t cman_tls_record_overhead(const struct cman_tls_suite *suite)
{
	return CMAN_TLS_HEADER + explicit_len(suite) + (suite->version == CMAN_TLS_1_3) + TAG;
}

int cman_tls_record_look(const uint8_t *data, size_t len, uint8_t *ret_type)
{
	size_t whole;

	if (len < CMAN_TLS_HEADER)
		return 0;
	if (data[0] < CMAN_TLS_CCS || data[0] > CMAN_TLS_DATA || data[1] != CMAN_TLS_1_2 >> 8)
		return -EPROTO;
	whole = CMAN_TLS_HEADER + ((size_t)data[3] << 8 | data[4]);
	if (whole > CMAN_TLS_RECORD_MAX)
		return -EMSGSIZE;
	if (ret_type)
		*ret_type = data[0];
	return (int)whole;
}

/* Nonce and additional data of the record that has header and explicit nonce at @record. */
static bool begin(const struct cman_tls_cipher *cipher, uint64_t seq, const uint8_t *record,
		  size_t plain_len)
{
	const uint64_t number = htobe64(seq);
	uint8_t nonce[NONCE], aad[AAD_MAX];
	size_t aad_len = CMAN_TLS_HEADER, i;
	int n;

	memcpy(nonce, cipher->iv, NONCE);
	if (explicit_len(cipher->suite)) {
		memcpy(nonce + NONCE - EXPLICIT, record + CMAN_TLS_HEADER, EXPLICIT);
	} else {
		for (i = 0; i < sizeof(number); i++)
			nonce[NONCE - sizeof(number) + i] ^= ((const uint8_t *)&number)[i];
	}
	if (cipher->suite->version == CMAN_TLS_1_3) {
		memcpy(aad, record, CMAN_TLS_HEADER);
	} else {
		memcpy(aad, &number, sizeof(number));
		memcpy(aad + sizeof(number), record, 3);
		aad[11] = (uint8_t)(plain_len >> 8);
		aad[12] = (uint8_t)plain_len;
		aad_len = AAD_MAX;
	}
	return EVP_CipherInit_ex(cipher->ctx, NULL, NULL, NULL, nonce, -1) == 1 &&
	       EVP_CipherUpdate(cipher->ctx, NULL, &n, aad, (int)aad_len) == 1;
}

/* @n bytes and the tag behind them at @in to @out. 0, -EBADMSG, -EIO */
static int decrypt(EVP_CIPHER_CTX *ctx, const uint8_t *in, size_t n, uint8_t *out)
{
	int done;

	if (EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(in + n)) != 1 ||
	    (n && EVP_DecryptUpdate(ctx, out, &done, in, (int)n) != 1))
		return -EIO;
	return EVP_DecryptFinal_ex(ctx, out + n, &done) == 1 ? 0 : -EBADMSG;
}

/* The content of *n decrypted bytes, and its type: RFC 8446, 5.2 and 5.4. */
static int unwrap(const uint8_t *plain, size_t *n, uint8_t *type)
{
	while (*n && !plain[*n - 1])
		--*n;
	if (!*n)
		return -EPROTO;
	*type = plain[--*n];
	return *type > CMAN_TLS_CCS && *type <= CMAN_TLS_DATA ? 0 : -EPROTO;
}

static int open_checked(struct cman_tls_cipher *cipher, uint64_t seq, const uint8_t *record,
			size_t n, uint8_t *out, size_t *ret_len, uint8_t *ret_type)
{
	uint8_t type = record[0];
	int err = -EIO;

	if (begin(cipher, seq, record, n))
		err = decrypt(cipher->ctx, record + CMAN_TLS_HEADER + explicit_len(cipher->suite),
			      n, out);
	if (!err && cipher->suite->version == CMAN_TLS_1_3)
		err = unwrap(out, &n, &type);
	if (err)
		return err;
	if (n > CMAN_TLS_PLAIN_MAX)
		return -EMSGSIZE;
	if (!n && type != CMAN_TLS_DATA)
		return -EPROTO;
	*ret_len = n;
	*ret_type = type;
	return 0;
}

int cman_tls_record_open(struct cman_tls_cipher *cipher, uint64_t seq, const uint8_t *record,
			 size_t len, uint8_t *out, size_t size, size_t *ret_len, uint8_t *ret_type)
{
	int err, whole = cman_tls_record_look(record, len, NULL);
	size_t around;

	if (!cipher->ctx || cipher->seal || size < len)
		return -EINVAL;
	if (whole < 0)
		return whole;
	if ((size_t)whole != len || !whole || record[2] != (CMAN_TLS_1_2 & 0xff) ||
	    (cipher->suite->version == CMAN_TLS_1_3 && record[0] != CMAN_TLS_DATA))
		return -EPROTO;
	if (seq > LAST)
		return -EOVERFLOW;
	around = CMAN_TLS_HEADER + explicit_len(cipher->suite) + TAG;
	if (len < around)
		return -EBADMSG;
	err = open_checked(cipher, seq, record, len - around, out, ret_len, ret_type);
	if (err) {
		/* nobody may see what nobody has vouched for */
		cman_secret_wipe(out, len - around);
		ERR_clear_error();
	}
	return err;
}

/* A KeyUpdate and a close_notify have to go out under the key that is used up. */
static bool used_up(const struct cman_tls_suite *suite, uint64_t seq, uint8_t type)
{
	if (suite->version == CMAN_TLS_1_3 && suite->aead != CMAN_TLS_CHACHA20_POLY1305 &&
	    type == CMAN_TLS_DATA)
		return seq >= MOST_AES_GCM;
	return seq > LAST;
}

/* Header and explicit nonce; returns their length. */
static size_t put_head(const struct cman_tls_cipher *cipher, uint64_t seq, uint8_t type,
		       size_t whole, uint8_t *out)
{
	const size_t body = whole - CMAN_TLS_HEADER, explicit = explicit_len(cipher->suite);
	const uint64_t number = htobe64(cipher->explicit_iv + seq);

	out[0] = cipher->suite->version == CMAN_TLS_1_3 ? CMAN_TLS_DATA : type;
	out[1] = CMAN_TLS_1_2 >> 8;
	out[2] = CMAN_TLS_1_2 & 0xff;
	out[3] = (uint8_t)(body >> 8);
	out[4] = (uint8_t)body;
	memcpy(out + CMAN_TLS_HEADER, &number, explicit);
	return CMAN_TLS_HEADER + explicit;
}

int cman_tls_record_seal(struct cman_tls_cipher *cipher, uint64_t seq, uint8_t type,
			 const uint8_t *data, size_t len, uint8_t *out, size_t *ret_len)
{
	EVP_CIPHER_CTX *ctx = cipher->ctx;
	size_t whole;
	uint8_t *p;
	int n;

	if (!ctx || !cipher->seal || len > CMAN_TLS_PLAIN_MAX || type <= CMAN_TLS_CCS ||
	    type > CMAN_TLS_DATA || (!len && type != CMAN_TLS_DATA))
		return -EINVAL;
	if (used_up(cipher->suite, seq, type))
		return -EOVERFLOW;
	whole = len + cman_tls_record_overhead(cipher->suite);
	p = out + put_head(cipher, seq, type, whole, out);
	if (!begin(cipher, seq, out, len) ||
	    (len && EVP_EncryptUpdate(ctx, p, &n, data, (int)len) != 1))
		goto err;
	p += len;
	if (cipher->suite->version == CMAN_TLS_1_3 &&
	    EVP_EncryptUpdate(ctx, p++, &n, &type, 1) != 1)
		goto err;
	if (EVP_EncryptFinal_ex(ctx, p, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, p) != 1)
		goto err;
	*ret_len = whole;
	return 0;
err:
	ERR_clear_error();
	return -EIO;
}
