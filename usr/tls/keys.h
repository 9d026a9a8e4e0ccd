/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The key schedule after a handshake: from the secrets that it left to the keys that seal records.
 *
 *	TLS 1.3	application traffic secret -> key, IV (RFC 8446, 7.3); -> the next secret, at a
 *		KeyUpdate (7.2). HKDF-Expand-Label.
 *	TLS 1.2	master secret, randoms -> key block (RFC 5246, 6.3) -> the two halves of a leg. PRF.
 *
 * Computed by libcrypto (EVP_KDF(3), EVP_KDF-HKDF(7), EVP_KDF-TLS1_PRF(7)). All functions: 0, -EINVAL
 * (a suite that is not ours, or of the other version), -ENOMEM, -EIO (libcrypto refuses). On an error
 * what they return is zeroed. The caller wipes what it is given (cman_secret_wipe()).
 */
#ifndef CMAN_TLS_KEYS_H
#define CMAN_TLS_KEYS_H

#include "usr/core/tls.h"
#include "usr/sys/ktls.h"
#include "usr/sys/tls_cell.h"

/* What seals or opens one way of a leg. */
struct cman_tls_keys {
	uint8_t key[32];
	uint8_t iv[12]; /* TLS 1.2 AES-GCM: the 4 fixed bytes, then zeros */
};

/* @half: of a leg with @suite, whose version says how to read half->secret. */
int cman_tls_keys_derive(const struct cman_tls_suite *suite, const struct cman_tls_half *half,
			 struct cman_tls_keys *ret_keys);

/* The same, as the kernel is told it. */
int cman_tls_keys_kernel(const struct cman_tls_suite *suite, const struct cman_tls_half *half,
			 struct cman_ktls_keys *ret_keys);

/* TLS 1.3: *ret_next is @half after a KeyUpdate: the next secret, seq 0, epoch + 1. */
int cman_tls_keys_update(const struct cman_tls_suite *suite, const struct cman_tls_half *half,
			 struct cman_tls_half *ret_next);

/*
 * The same for one way (CMAN_TLS_RX, CMAN_TLS_TX) of leg @leg in the secret memory, after the KeyUpdate that @next
 * (cman_tls_next()) is about. The secret goes where the one before the present was: it stays until the commit.
 */
int cman_tls_keys_advance(struct cman_tls_slot *slot, struct cman_tls_commit *next, int leg,
			  int way);

/*
 * TLS 1.2: both halves of a leg, seq 0, as seen by the side that @server says. (extended or not, the
 * master secret is what the handshake says it is; RFC 7627.)
 */
int cman_tls_keys_block(const struct cman_tls_suite *suite, const uint8_t *master,
			size_t master_len, const uint8_t client_random[32],
			const uint8_t server_random[32], bool server, struct cman_tls_half *ret_rx,
			struct cman_tls_half *ret_tx);

#endif
