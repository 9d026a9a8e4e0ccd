/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all TLS channels of an instance have in common: our certificate and key, the CA, and the
 * choice of everything that TLS leaves open. OpenSSL's configuration file cannot widen any of it:
 * the store of CAs is our own, and each setting that matters is made here.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usr/sys/chan_tls_ctx.h"
#include "usr/sys/pem.h"

#define READ_BUFFER (64 << 10) /* several records with one recv() */
#define CIPHERS	    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

/* What a peer with the same CA will say to our certificate. */
static int foresee(struct cman_pem *p, X509_STORE *cas, const char *path, char **ret_warning)
{
	static const int purposes[] = { X509_PURPOSE_SSL_SERVER, X509_PURPOSE_SSL_CLIENT };
	X509_STORE_CTX *store = NULL;
	char reason[300] = "";
	GENERAL_NAMES *alt;
	size_t i;
	int error;

	alt = X509_get_ext_d2i(p->leaf, NID_subject_alt_name, NULL, NULL);
	if (!alt)
		strcpy(reason, "it has no subjectAltName");
	GENERAL_NAMES_free(alt);
	for (i = 0; i < 2 && !*reason; i++) {
		store = X509_STORE_CTX_new();
		if (!store || X509_STORE_CTX_init(store, cas, p->leaf, p->chain) != 1 ||
		    X509_STORE_CTX_set_purpose(store, purposes[i]) != 1) {
			X509_STORE_CTX_free(store);
			return cman_pem_no_memory(p);
		}
		error = X509_verify_cert(store) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(store);
		if (error)
			cman_tls_explain(error, p->leaf, X509_STORE_CTX_get_current_cert(store),
					 reason, sizeof(reason));
		X509_STORE_CTX_free(store);
	}
	ERR_clear_error();
	if (*reason &&
	    asprintf(ret_warning, "%s: peers will refuse this certificate: %s", path, reason) < 0) {
		*ret_warning = NULL;
		return cman_pem_no_memory(p);
	}
	return 0;
}

static int settle(SSL_CTX *ssl)
{
	SSL_CTX_set_options(ssl,
			    SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_clear_options(ssl, SSL_OP_IGNORE_UNEXPECTED_EOF); /* a cut is told from an end */
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_mode(ssl,
			 SSL_MODE_AUTO_RETRY); /* -EAGAIN means that no bytes are left in TLS */
	SSL_CTX_set_read_ahead(ssl, 1);
	SSL_CTX_set_default_read_buffer_len(ssl, READ_BUFFER);
	SSL_CTX_set_security_level(ssl, 2);
	SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			   cman_tls_check_peer);
	if (SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_num_tickets(ssl, 0) != 1 || SSL_CTX_set_max_early_data(ssl, 0) != 1)
		return -EINVAL;
	/* 128 bits first: it is faster, and nothing else here is stronger */
	return SSL_CTX_set_ciphersuites(ssl, CIPHERS) == 1 ? 0 : -EINVAL;
}

static int load(struct cman_pem *p, struct cman_tls_ctx *ctx, X509_STORE *store,
		const char *certificate, const char *key, const char *ca)
{
	int err;

	ctx->ssl = SSL_CTX_new(TLS_method());
	ctx->bio = cman_tls_bio_method();
	if (!store || !ctx->ssl || !ctx->bio)
		return cman_pem_no_memory(p);
	err = settle(ctx->ssl);
	if (err)
		return cman_pem_refuse(p, err, "this OpenSSL cannot do TLS 1.3 as needed: %s",
				       cman_pem_reason());
	err = cman_pem_use_certificate(p, ctx->ssl, certificate);
	if (!err)
		err = cman_pem_use_key(p, ctx->ssl, key);
	if (!err)
		err = cman_pem_use_ca(p, ctx->ssl, store, "ca", ca);
	if (err)
		return err;
	/* the store of peers' issuers, and the one that our own chain is completed from */
	if (SSL_CTX_set1_verify_cert_store(ctx->ssl, store) != 1)
		return cman_pem_no_memory(p);
	SSL_CTX_set1_cert_store(ctx->ssl, store);
	return foresee(p, store, certificate, &ctx->warning);
}

int cman_tls_ctx_new(const char *certificate, const char *key, const char *ca,
		     struct cman_tls_ctx **ret_ctx, struct cman_tls_error *ret_error)
{
	struct cman_pem p = { .error = ret_error, .key = "certificate", .path = certificate };
	struct cman_tls_ctx *ctx = calloc(1, sizeof(*ctx));
	X509_STORE *store;
	int err;

	if (!ctx)
		return cman_pem_no_memory(&p);
	ctx->refs = 1;
	store = X509_STORE_new();
	err = load(&p, ctx, store, certificate, key, ca);
	cman_pem_fini(&p);
	X509_STORE_free(store);
	ERR_clear_error();
	if (err)
		cman_tls_ctx_free(ctx);
	else
		*ret_ctx = ctx;
	return err;
}

struct cman_tls_ctx *cman_tls_ctx_ref(struct cman_tls_ctx *ctx)
{
	ctx->refs++;
	return ctx;
}

void cman_tls_ctx_free(struct cman_tls_ctx *ctx)
{
	if (!ctx || --ctx->refs)
		return;
	SSL_CTX_free(ctx->ssl);
	BIO_meth_free(ctx->bio);
	free(ctx->warning);
	free(ctx);
}

const char *cman_tls_ctx_warning(const struct cman_tls_ctx *ctx)
{
	return ctx->warning;
}
