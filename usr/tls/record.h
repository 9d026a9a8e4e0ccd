/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The record engine: opens and seals TLS records, one at a time, in memory. It has no state but the
 * key: the number of the record is an argument, the caller keeps it in memory that outlives the process,
 * and stores it together with the result. So whoever goes on after a crash opens or seals the same
 * record with the same number again, with the same result.
 *
 *	cman_tls_cipher_init()	  from a leg's half; private to a process, may be thrown away any time
 *	cman_tls_record_look()	  how long is the record at the head of these bytes?
 *	cman_tls_record_open()	  ciphertext -> type and content; out of place, the input stays
 *	cman_tls_record_seal()	  type and content -> record
 *	cman_tls_cipher_fini()
 *
 * TLS 1.3 (RFC 8446, 5.2): the type is inside, padding is cut off; a record of nothing but padding is
 * an error. TLS 1.2: AES-GCM with 8 explicit bytes of nonce (RFC 5288), ChaCha20-Poly1305 with none (RFC
 * 7905). Cipher: libcrypto's EVP_EncryptInit(3).
 */
#ifndef CMAN_TLS_RECORD_H
#define CMAN_TLS_RECORD_H

#include "usr/core/tls.h"

/* A key ready for use. About 1 KB of libcrypto's memory: idle sessions have none. */
struct cman_tls_cipher {
	void *ctx; /* EVP_CIPHER_CTX; NULL: none */
	const struct cman_tls_suite *suite;
	bool seal;
	uint64_t explicit_iv;
	uint8_t iv[12];
};

/* 0, -EINVAL, -ENOMEM, -EIO. @cipher need not be initialised; after an error it is zeroed. */
int cman_tls_cipher_init(struct cman_tls_cipher *cipher, const struct cman_tls_suite *suite,
			 const struct cman_tls_half *half, bool seal);
/* Wipes; also one that is all zeros. */
void cman_tls_cipher_fini(struct cman_tls_cipher *cipher);

/* So many records with one key are enough: less than RFC 8446, 5.5 allows. */
#define CMAN_TLS_REKEY_RECORDS (1u << 23)

/* How many more bytes than its content a sealed record has: header, nonce, type, tag. */
size_t cman_tls_record_overhead(const struct cman_tls_suite *suite);

/*
 * The record at the head of @len bytes at @data: its whole length with the header; 0 when the header
 * is not complete yet. -EPROTO: no record of TLS (type or version); -EMSGSIZE: longer than allowed. The
 * record may not be complete: compare with @len. *ret_type is the outer type; NULL is fine.
 */
int cman_tls_record_look(const uint8_t *data, size_t len, uint8_t *ret_type);

/*
 * Opens the whole record at @record, number @seq of its way. @out takes its content, at most
 * CMAN_TLS_PLAIN_MAX bytes (+ 1 and padding in TLS 1.3: @size must be at least the record's length).
 * *ret_type is what the content is. A TLS 1.3 record with outer type CCS is for the caller to skip or
 * refuse before. 0, -EBADMSG (it was changed, or another key or number, or it is too short for a tag:
 * fatal), -EPROTO (bad form: another outer type or version, an unknown inner type, nothing but padding,
 * no content in an alert or handshake record), -EMSGSIZE (content over 2^14: record_overflow), -EINVAL
 * (@size, or a cipher that seals), -EOVERFLOW (number 2^64 - 1), -EIO. After an error nothing of the
 * content is in @out.
 */
int cman_tls_record_open(struct cman_tls_cipher *cipher, uint64_t seq, const uint8_t *record,
			 size_t len, uint8_t *out, size_t size, size_t *ret_len, uint8_t *ret_type);

/*
 * Seals @len bytes (at most CMAN_TLS_PLAIN_MAX; 0 is allowed for data only) of @type, which is not CCS, as
 * record number @seq to @out, which has room for @len + overhead. @data and @out do not overlap.
 * *ret_len: bytes of the record. 0, -EINVAL, -EIO. -EOVERFLOW: this key has sealed as many records as
 * it may (RFC 8446, 5.5: 2^24.5 for AES-GCM): no more data, but the KeyUpdate that is due, or an alert,
 * can still be sealed. TLS 1.2, which has no KeyUpdate, and ChaCha20 go on to 2^64 - 1 records.
 */
int cman_tls_record_seal(struct cman_tls_cipher *cipher, uint64_t seq, uint8_t type,
			 const uint8_t *data, size_t len, uint8_t *out, size_t *ret_len);

#endif
