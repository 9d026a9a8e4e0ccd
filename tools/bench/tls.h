/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the TLS files of cman-bench share: the context that options make (tls_context.c) and how a
 * transport opens and ends a TLS session (tls.c).
 */
#ifndef CMAN_BENCH_TLS_H
#define CMAN_BENCH_TLS_H

#include "bench.h"

#include <openssl/ssl.h>

struct tls_context {
	SSL_CTX *ctx;
	BIO_METHOD *method;
	bool server;
	unsigned char alpn[256]; /* each name behind its length, as it is sent */
	unsigned int alpn_len;
	int keylog; /* descriptor, or -1 */
};

BIO_METHOD *tls_bio_method(void);
void tls_message_callback(int sent, int version, int type, const void *buf, size_t len, SSL *ssl,
			  void *arg);
int tls_session_callback(SSL *ssl, SSL_SESSION *session);
void tls_reason(const SSL *ssl, char *buf, size_t len);

/* The io has its descriptor and the verb's callback; `connected`: the TCP handshake is done. */
int tls_open(struct transport *t, struct worker *w, bool connected, uint32_t events);
bool tls_finish(struct tls *s);
void tls_abort(struct tls *s);
void tls_close(struct tls *s);

#endif
