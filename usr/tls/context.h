/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all handshakes of one listener, or of one service, have in common: an SSL_CTX made from its
 * credentials (usr/sys/credentials.h). Only AEAD suites that our engines know are offered or taken
 * (usr/core/tls.h); no renegotiation, no compression, no early data; tickets with the instance's
 * ticket key. OpenSSL's own configuration file cannot widen any of it.
 */
#ifndef CMAN_TLS_CONTEXT_H
#define CMAN_TLS_CONTEXT_H

#include "usr/sys/credentials.h"

struct cman_tls_context;

/* Copies what it needs. 0, -ENOMEM, -EINVAL with a sentence in @why (size @why_size). */
int cman_tls_context_new(const struct cman_credentials *c, const uint8_t ticket_key[80],
			 struct cman_tls_context **ret, char *why, size_t why_size);
/* Handshakes made from it live on. NULL is fine. */
void cman_tls_context_free(struct cman_tls_context *ctx);

#endif
