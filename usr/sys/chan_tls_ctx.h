/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What chan_tls.c (a channel's TLS) and chan_tls_ctx.c (what all of them have in common) know of
 * each other.
 */
#ifndef CMAN_SYS_CHAN_TLS_CTX_H
#define CMAN_SYS_CHAN_TLS_CTX_H

#include <openssl/ssl.h>

#include "usr/sys/chan_tls.h"

struct cman_tls_ctx {
	unsigned int refs; /* its maker's and one for each channel; one thread */
	SSL_CTX *ssl;
	BIO_METHOD *bio;
	char *warning;
};

struct cman_tls_ctx *cman_tls_ctx_ref(struct cman_tls_ctx *ctx);

/* How OpenSSL uses a channel's socket. NULL: no memory. */
BIO_METHOD *cman_tls_bio_method(void);

/* OpenSSL's question for each certificate of a peer: SSL_CTX_set_verify(3). */
int cman_tls_check_peer(int ok, X509_STORE_CTX *store);

/* Appends why @leaf was refused with @error (X509_V_ERR_*) because of @culprit of its chain. */
void cman_tls_explain(int error, const X509 *leaf, const X509 *culprit, char *buf, size_t size);

#endif
