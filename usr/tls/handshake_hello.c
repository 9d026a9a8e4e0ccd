/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client asks for in its ClientHello (RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301), and what it gets:
 * the certificate for the name, the application protocol. The handshake stops behind the ClientHello
 * until it is answered. Bytes of a stranger: every length is checked here; what is malformed is not
 * there for us, and OpenSSL refuses it when the handshake goes on.
 */
#include <stdlib.h>
#include <string.h>

#include "usr/sys/chan_tls.h"
#include "usr/tls/handshake_impl.h"

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* ---- what it asks for ---- */

/* A list of one name, which is a host's. */
static void read_sni(struct cman_tls_handshake *hs, SSL *ssl)
{
	const unsigned char *p;
	const char *why;
	size_t len, n;

	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &len) || len < 5 ||
	    get16(p) != len - 2 || p[2] != TLSEXT_NAMETYPE_host_name || get16(p + 3) != len - 5)
		return;
	n = len - 5;
	if (n >= sizeof(hs->sni) || memchr(p + 5, '\0', n))
		return;
	memcpy(hs->sni, p + 5, n);
	hs->sni[n] = '\0';
	if (cman_tls_name_check(hs->sni, &why))
		hs->sni[0] = '\0';
}

/* @list consists of names of 1 to 255 bytes, each behind its length. */
static bool is_protocol_list(const uint8_t *list, size_t len)
{
	size_t at;

	for (at = 0; at < len; at += 1u + list[at])
		if (!list[at])
			return false;
	return len && at == len;
}

static bool read_alpn(struct cman_tls_handshake *hs, SSL *ssl)
{
	const unsigned char *p;
	size_t len;

	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &p,
				       &len) ||
	    len < 2 || get16(p) != len - 2 || !is_protocol_list(p + 2, len - 2))
		return true;
	hs->offered = malloc(len - 2);
	if (!hs->offered)
		return false;
	memcpy(hs->offered, p + 2, len - 2);
	hs->offered_len = len - 2;
	return true;
}

/* The newest version that we know among those that it offers. */
static void read_version(struct cman_tls_handshake *hs, SSL *ssl)
{
	const unsigned char *p;
	size_t len, i;
	uint16_t v;

	hs->peer_version = (uint16_t)SSL_client_hello_get0_legacy_version(ssl);
	if (hs->peer_version > CMAN_TLS_1_2)
		hs->peer_version = CMAN_TLS_1_2;
	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_versions, &p, &len) || !len ||
	    p[0] != len - 1)
		return;
	hs->peer_version = 0;
	for (i = 1; i + 1 < len; i += 2) {
		v = get16(p + i);
		if (v <= CMAN_TLS_1_3 && v > hs->peer_version)
			hs->peer_version = v;
	}
}

/*
 * Called again when the handshake goes on, and for the second ClientHello after a HelloRetryRequest, which
 * must ask for the same. A client that is too old is refused at once: no backend need hear of it.
 */
int cman_tls_handshake_hello(SSL *ssl, int *ret_alert, void *arg)
{
	struct cman_tls_handshake *hs = SSL_get_app_data(ssl);

	(void)arg;
	if (!hs->answered && !hs->peer_version) {
		read_sni(hs, ssl);
		read_version(hs, ssl);
		if (!read_alpn(hs, ssl) ||
		    cman_tls_identity_use(cman_tls_context_identity(hs->ctx, hs->sni), ssl)) {
			cman_tls_handshake_fail(hs, CMAN_TLS_FAIL_INTERNAL, "out of memory");
			*ret_alert = SSL_AD_INTERNAL_ERROR;
			return SSL_CLIENT_HELLO_ERROR;
		}
	}
	if (hs->peer_version < hs->ctx->min_version)
		hs->answered = true;
	return hs->answered ? SSL_CLIENT_HELLO_SUCCESS : SSL_CLIENT_HELLO_RETRY;
}

/* ---- the protocol that it gets ---- */

static const uint8_t *find(const uint8_t *list, size_t len, const uint8_t *name, size_t name_len)
{
	size_t at;

	for (at = 0; at < len; at += 1u + list[at])
		if (list[at] == name_len && !memcmp(list + at + 1, name, name_len))
			return list + at;
	return NULL;
}

/* OpenSSL has checked @list. */
int cman_tls_handshake_choose(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_len,
			      const unsigned char *list, unsigned int list_len, void *arg)
{
	const struct cman_tls_handshake *hs = SSL_get_app_data(ssl);
	const struct cman_tls_context *ctx = hs->ctx;
	const uint8_t *found = NULL;
	size_t at;

	(void)arg;
	if (hs->choice_len)
		found = find(list, list_len, hs->choice, hs->choice_len);
	else if (!ctx->alpn_len)
		return SSL_TLSEXT_ERR_NOACK;
	for (at = 0; !hs->choice_len && !found && at < ctx->alpn_len; at += 1u + ctx->alpn[at])
		found = find(list, list_len, ctx->alpn + at + 1, ctx->alpn[at]);
	if (!found)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*ret_name = found + 1;
	*ret_len = *found;
	return SSL_TLSEXT_ERR_OK;
}
