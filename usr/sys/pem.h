/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PEM files with certificates, private keys and CAs, read one at a time and put into an SSL_CTX. A
 * file is opened once and checked by that descriptor; a private key must be nobody else's. What is
 * wrong is said once, here, for the handover channel's files (chan_tls_ctx.c) and those of the legs
 * (credentials.c).
 *
 *	struct cman_pem p = { .error = ret_error }
 *	cman_pem_use_certificate(), cman_pem_use_key(), cman_pem_use_ca()
 *	cman_pem_take()			the text of the file that was used last
 *	cman_pem_fini()			wipes
 */
#ifndef CMAN_SYS_PEM_H
#define CMAN_SYS_PEM_H

#include <openssl/ssl.h>

#include "usr/sys/chan_tls.h"

struct cman_pem {
	struct cman_tls_error *error;
	const char *sni;	/* of the block that names the files; NULL: none */
	const char *key, *path; /* of the file at hand */
	char *data;		/* its text, @len bytes and a NUL */
	size_t len;
	BIO *bio;

	X509 *leaf;		/* of use_certificate() */
	STACK_OF(X509) * chain; /* behind it */
};

void cman_pem_fini(struct cman_pem *p);

/* Fills the error, "PATH: ...", and returns @err. */
int cman_pem_refuse(struct cman_pem *p, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int cman_pem_no_memory(struct cman_pem *p);
/* The last thing that OpenSSL complained of. */
const char *cman_pem_reason(void);

/* Each reads the file that the key of the same name has. 0 or -errno, refused. */
int cman_pem_use_certificate(struct cman_pem *p, SSL_CTX *ssl, const char *path);
/* It belongs to p->leaf. */
int cman_pem_use_key(struct cman_pem *p, SSL_CTX *ssl, const char *path);
/* @key "ca" or "client_ca": into @store, and to the names that a server tells its clients. */
int cman_pem_use_ca(struct cman_pem *p, SSL_CTX *ssl, X509_STORE *store, const char *key,
		    const char *path);

/*
 * The text of the file that was used last, NUL-terminated, for the caller to wipe and free. 0, or
 * -EINVAL, refused: it has a NUL byte.
 */
int cman_pem_take(struct cman_pem *p, char **ret_text);

#endif
