/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What context.c (the common part) and the handshakes made from it know of each other.
 */
#ifndef CMAN_TLS_CONTEXT_IMPL_H
#define CMAN_TLS_CONTEXT_IMPL_H

#include <openssl/ssl.h>

#include "usr/tls/context.h"

/* A certificate ready for use. */
struct cman_tls_identity {
	char *name; /* of its sni block; NULL: the default one */
	X509 *leaf;
	STACK_OF(X509) * chain;
	EVP_PKEY *key;
	/*
	 * Session tickets are good only where everything is as it was when they were given: the ticket
	 * key is the same for all listeners of an instance, but client_ca and suites are not.
	 */
	uint8_t session_id_context[32];
};

struct cman_tls_context {
	unsigned int refs; /* its maker's and one for each handshake; one thread */
	SSL_CTX *ssl;
	bool server, verify;
	uint16_t min_version;
	char *server_name;
	uint8_t alpn[256];
	size_t alpn_len;
	struct cman_tls_identity own;
	struct cman_tls_identity *sni;
	size_t nsni;
};

struct cman_tls_context *cman_tls_context_ref(struct cman_tls_context *ctx);

/* The certificate for @sni: exact name, then "*.rest" for one label, then the default one. */
const struct cman_tls_identity *cman_tls_context_identity(const struct cman_tls_context *ctx,
							  const char *sni);
/* A server's: instead of whatever @ssl has. 0 or -EINVAL. */
int cman_tls_identity_use(const struct cman_tls_identity *identity, SSL *ssl);

/* What a handshake must hear from OpenSSL: SSL_CTX_set_verify(3), and all the rest. */
int cman_tls_handshake_check(int ok, X509_STORE_CTX *store);
void cman_tls_handshake_listen(SSL_CTX *ssl, bool server);

#endif
