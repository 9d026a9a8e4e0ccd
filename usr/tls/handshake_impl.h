/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handshake, as its parts know it: handshake.c runs it, handshake_hello.c reads the client's wishes
 * and chooses, handshake_secret.c keeps what the leg is made of, handshake_why.c words a failure.
 */
#ifndef CMAN_TLS_HANDSHAKE_IMPL_H
#define CMAN_TLS_HANDSHAKE_IMPL_H

#include <openssl/ssl.h>

#include "usr/tls/context_impl.h"
#include "usr/tls/handshake.h"

/* What OpenSSL has told of a leg's secrets and of the records that are sealed with them. */
struct cman_tls_overheard {
	/* TLS 1.3: application traffic secrets */
	uint8_t client[CMAN_TLS_SECRET_MAX], server[CMAN_TLS_SECRET_MAX];
	size_t client_len, server_len;
	bool sealing;	 /* with the one of ours */
	uint64_t sealed; /* records, since then */
	/* TLS 1.2: OpenSSL begins AES-GCM's explicit nonces at a random number */
	bool ccs, finished; /* ours are in the output */
	uint64_t explicit_iv;
};

struct cman_tls_handshake {
	struct cman_tls_context *ctx;
	SSL *ssl;
	BIO *in, *out; /* owned by ssl */
	enum cman_tls_progress state;
	bool heard;    /* something was fed */
	bool answered; /* a server may go on behind the ClientHello */
	bool asked;    /* the backend wants to see a certificate */
	/* the newest version that the client offers; the one that the backend has chosen; 0: unknown */
	uint16_t peer_version;
	char sni[256];
	uint8_t *offered; /* the client's list of protocols */
	size_t offered_len;
	uint8_t choice[255]; /* the backend's of them */
	size_t choice_len;
	struct cman_tls_overheard overheard;
	enum cman_tls_failure failure;
	char why[500];
};

/* "the client", "the backend" */
const char *cman_tls_handshake_peer(const struct cman_tls_handshake *hs);

/* It is over: the first reason stays. What is not printable ASCII becomes '?'. */
void cman_tls_handshake_fail(struct cman_tls_handshake *hs, enum cman_tls_failure failure,
			     const char *format, ...) __attribute__((format(printf, 3, 4)));
/* OpenSSL does not go on, with @error of SSL_get_error(3). */
void cman_tls_handshake_explain(struct cman_tls_handshake *hs, int error);
/* Something else than a record was fed. */
void cman_tls_handshake_no_record(struct cman_tls_handshake *hs, const uint8_t *data, size_t len);

/* SSL_CTX_set_client_hello_cb(3), SSL_CTX_set_alpn_select_cb(3) */
int cman_tls_handshake_hello(SSL *ssl, int *ret_alert, void *arg);
int cman_tls_handshake_choose(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_len,
			      const unsigned char *list, unsigned int list_len, void *arg);

/* SSL_CTX_set_keylog_callback(3), SSL_CTX_set_msg_callback(3) */
void cman_tls_handshake_keylog(const SSL *ssl, const char *line);
void cman_tls_handshake_message(int sent, int version, int type, const void *data, size_t len,
				SSL *ssl, void *arg);
/* New in the output: @len bytes of whole records. */
void cman_tls_handshake_scan(struct cman_tls_handshake *hs, const uint8_t *data, size_t len);

#endif
