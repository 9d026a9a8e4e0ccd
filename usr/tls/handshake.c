/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a handshake: an SSL object between two memory BIOs, made, fed with one record at a time, and
 * given up. Whatever happens ends in one of the four states of enum cman_tls_progress.
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "usr/sys/secret.h"
#include "usr/tls/handshake_impl.h"
#include "usr/tls/record.h"

void cman_tls_handshake_listen(SSL_CTX *ssl, bool server)
{
	SSL_CTX_set_keylog_callback(ssl, cman_tls_handshake_keylog);
	SSL_CTX_set_msg_callback(ssl, cman_tls_handshake_message);
	if (!server)
		return;
	SSL_CTX_set_client_hello_cb(ssl, cman_tls_handshake_hello, NULL);
	SSL_CTX_set_alpn_select_cb(ssl, cman_tls_handshake_choose, NULL);
}

/* ---- a step ---- */

/* What the peer sends next belongs to the caller: none of it may be in OpenSSL's hands. */
static void finish(struct cman_tls_handshake *hs)
{
	if (SSL_has_pending(hs->ssl))
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_PROTOCOL,
					"%s put more into the record of its last handshake message",
					cman_tls_handshake_peer(hs));
	else
		hs->state = CMAN_TLS_DONE;
}

static enum cman_tls_progress step(struct cman_tls_handshake *hs)
{
	size_t before = BIO_ctrl_pending(hs->out);
	int ret, error;
	char *out;
	long len;

	ERR_clear_error();
	ret = SSL_do_handshake(hs->ssl);
	error = SSL_get_error(hs->ssl, ret);
	len = BIO_get_mem_data(hs->out, &out);
	if ((size_t)len > before) /* @out is NULL before the first byte */
		cman_tls_handshake_scan(hs, (uint8_t *)out + before, (size_t)len - before);
	if (ret == 1)
		finish(hs);
	else if (error == SSL_ERROR_WANT_READ)
		hs->state = CMAN_TLS_MORE;
	else if (error == SSL_ERROR_WANT_CLIENT_HELLO_CB)
		hs->state = CMAN_TLS_HELLO;
	else
		cman_tls_handshake_explain(hs, error);
	if (hs->state != CMAN_TLS_FAILED && BIO_ctrl_pending(hs->in))
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_INTERNAL,
					"OpenSSL has left a part of a record unread");
	ERR_clear_error();
	return hs->state;
}

enum cman_tls_progress cman_tls_handshake_feed(struct cman_tls_handshake *hs, const uint8_t *record,
					       size_t len)
{
	if (hs->state == CMAN_TLS_HELLO)
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_INTERNAL,
					"a record was fed before the ClientHello was answered");
	if (hs->state != CMAN_TLS_MORE)
		return hs->state;
	if (len < CMAN_TLS_HEADER || len > CMAN_TLS_RECORD_MAX ||
	    cman_tls_record_look(record, len, NULL) != (int)len) {
		cman_tls_handshake_no_record(hs, record, len);
		return hs->state;
	}
	hs->heard = true;
	if (BIO_write(hs->in, record, (int)len) != (int)len) {
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_INTERNAL, "out of memory");
		return hs->state;
	}
	return step(hs);
}

enum cman_tls_progress cman_tls_handshake_answer(struct cman_tls_handshake *hs, const uint8_t *alpn,
						 size_t alpn_len)
{
	if (hs->state != CMAN_TLS_HELLO)
		return hs->state;
	hs->answered = true;
	if (alpn_len > sizeof(hs->choice)) {
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_INTERNAL,
					"the name of the backend's protocol is too long");
		return hs->state;
	}
	if (alpn_len)
		memcpy(hs->choice, alpn, alpn_len);
	hs->choice_len = alpn_len;
	return step(hs);
}

enum cman_tls_progress cman_tls_handshake_hang_up(struct cman_tls_handshake *hs)
{
	if (hs->state != CMAN_TLS_DONE)
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_CLOSED, "%s closed the connection %s",
					cman_tls_handshake_peer(hs),
					hs->heard ? "in the TLS handshake" :
						    "before the TLS handshake");
	return hs->state;
}

enum cman_tls_progress cman_tls_handshake_refuse(struct cman_tls_handshake *hs, const char *why)
{
	cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_PROTOCOL, "%s", why);
	return hs->state;
}

/* ---- the output ---- */

const uint8_t *cman_tls_handshake_output(struct cman_tls_handshake *hs, size_t *ret_len)
{
	char *data;

	*ret_len = (size_t)BIO_get_mem_data(hs->out, &data);
	return (const uint8_t *)data;
}

void cman_tls_handshake_sent(struct cman_tls_handshake *hs, size_t n)
{
	uint8_t waste[512];
	int got;

	while (n) {
		got = BIO_read(hs->out, waste, n < sizeof(waste) ? (int)n : (int)sizeof(waste));
		if (got <= 0)
			break;
		n -= (size_t)got;
	}
}

/* ---- what came of it ---- */

const char *cman_tls_handshake_sni(const struct cman_tls_handshake *hs)
{
	return hs->sni;
}

const uint8_t *cman_tls_handshake_alpn_offered(const struct cman_tls_handshake *hs, size_t *ret_len)
{
	*ret_len = hs->offered_len;
	return hs->offered;
}

const uint8_t *cman_tls_handshake_alpn(const struct cman_tls_handshake *hs, size_t *ret_len)
{
	const unsigned char *name;
	unsigned int len;

	SSL_get0_alpn_selected(hs->ssl, &name, &len);
	*ret_len = len;
	return len ? name : NULL;
}

/* ---- making one ---- */

void cman_tls_handshake_free(struct cman_tls_handshake *hs)
{
	if (!hs)
		return;
	SSL_free(hs->ssl);
	free(hs->offered);
	cman_tls_context_free(hs->ctx);
	cman_secret_wipe(hs, sizeof(*hs));
	free(hs);
}

static struct cman_tls_handshake *make(struct cman_tls_context *ctx)
{
	struct cman_tls_handshake *hs = calloc(1, sizeof(*hs));

	if (!hs)
		return NULL;
	hs->ctx = cman_tls_context_ref(ctx);
	hs->ssl = SSL_new(ctx->ssl);
	hs->in = BIO_new(BIO_s_mem());
	hs->out = BIO_new(BIO_s_mem());
	if (!hs->ssl || !hs->in || !hs->out) {
		BIO_free(hs->in);
		BIO_free(hs->out);
		goto err_free;
	}
	SSL_set_bio(hs->ssl, hs->in, hs->out);
	if (!SSL_set_app_data(hs->ssl, hs))
		goto err_free;
	return hs;

err_free:
	ERR_clear_error();
	cman_tls_handshake_free(hs);
	return NULL;
}

struct cman_tls_handshake *cman_tls_accept(struct cman_tls_context *ctx)
{
	struct cman_tls_handshake *hs = make(ctx);

	if (hs)
		SSL_set_accept_state(hs->ssl);
	return hs;
}

/* Addresses are verified, but never sent: RFC 6066, 3. */
static bool set_name(struct cman_tls_handshake *hs, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(hs->ssl);
	uint8_t ip[16];
	const char *why;

	if (cman_tls_name_check(name, &why))
		return false;
	strcpy(hs->sni, name);
	if (inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
						       X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 &&
	       SSL_set_tlsext_host_name(hs->ssl, name) == 1;
}

struct cman_tls_handshake *cman_tls_connect(struct cman_tls_context *ctx, const char *sni,
					    const uint8_t *alpn, size_t alpn_len)
{
	struct cman_tls_handshake *hs = make(ctx);
	const char *name = ctx->server_name ? ctx->server_name : sni;

	if (!hs)
		return NULL;
	SSL_set_connect_state(hs->ssl);
	if (ctx->alpn_len) {
		alpn = ctx->alpn;
		alpn_len = ctx->alpn_len;
	}
	if (name && *name ? !set_name(hs, name) : ctx->verify)
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_INTERNAL,
					"there is no name that the backend's certificate could be "
					"verified for: expected server_name, or SNI of the client");
	else if (alpn_len && SSL_set_alpn_protos(hs->ssl, alpn, (unsigned int)alpn_len))
		cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_INTERNAL,
					"the list of protocols for the backend is damaged");
	else
		step(hs);
	ERR_clear_error();
	return hs;
}
