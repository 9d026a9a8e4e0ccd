/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What OpenSSL says of its secrets while a handshake runs, and the leg that is made of it: the secrets of
 * both ways, and the numbers of the next records. SSL_CTX_set_keylog_callback(3) is the only way to
 * the traffic secrets of TLS 1.3; nothing of it is ever written anywhere but into this memory.
 */
#include <errno.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "usr/sys/secret.h"
#include "usr/tls/handshake_impl.h"
#include "usr/tls/keys.h"

#define MASTER_SECRET 48

/* ---- hearing ---- */

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Bytes of @hex; 0 when it is not what it should be. */
static size_t unhex(const char *hex, uint8_t *bytes, size_t size)
{
	size_t n;
	int high, low;

	for (n = 0; hex[2 * n]; n++) {
		high = nibble(hex[2 * n]);
		low = high < 0 ? -1 : nibble(hex[2 * n + 1]);
		if (low < 0 || n == size)
			return 0;
		bytes[n] = (uint8_t)(high << 4 | low);
	}
	return n;
}

/*
 * "LABEL CLIENT-RANDOM SECRET". OpenSSL logs a secret when it begins to use it: from then on each record
 * of ours is sealed with it.
 */
void cman_tls_handshake_keylog(const SSL *ssl, const char *line)
{
	struct cman_tls_handshake *hs = SSL_get_app_data(ssl);
	const char *secret = strrchr(line, ' ');
	bool client = !strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24);
	bool server = !strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24);
	struct cman_tls_overheard *o;

	if (!hs || !secret || (!client && !server))
		return;
	o = &hs->overheard;
	if (client)
		o->client_len = unhex(secret + 1, o->client, sizeof(o->client));
	else
		o->server_len = unhex(secret + 1, o->server, sizeof(o->server));
	if (server == hs->ctx->server) {
		o->sealing = true;
		o->sealed = 0;
	}
}

void cman_tls_handshake_message(int sent, int version, int type, const void *data, size_t len,
				SSL *ssl, void *arg)
{
	struct cman_tls_handshake *hs = SSL_get_app_data(ssl);
	const uint8_t *p = data;

	(void)version;
	(void)arg;
	if (!hs || !len)
		return;
	if (sent && type == SSL3_RT_HEADER && *p == CMAN_TLS_DATA && hs->overheard.sealing)
		hs->overheard.sealed++;
	if (!sent && type == SSL3_RT_HANDSHAKE && !hs->ctx->server) {
		if (*p == SSL3_MT_CERTIFICATE_REQUEST)
			hs->asked = true;
		if (*p == SSL3_MT_SERVER_HELLO && len >= 6)
			hs->peer_version = (uint16_t)(p[4] << 8 | p[5]);
	}
}

/* Behind the ChangeCipherSpec of a TLS 1.2 side comes its Finished, with its first explicit nonce. */
void cman_tls_handshake_scan(struct cman_tls_handshake *hs, const uint8_t *data, size_t len)
{
	struct cman_tls_overheard *o = &hs->overheard;
	const uint8_t *end = data + len;
	size_t n, i;

	for (; end - data >= CMAN_TLS_HEADER; data += n) {
		n = CMAN_TLS_HEADER + (size_t)(data[3] << 8 | data[4]);
		if ((size_t)(end - data) < n)
			break;
		if (o->ccs && !o->finished && *data == CMAN_TLS_HANDSHAKE &&
		    n >= CMAN_TLS_HEADER + 8) {
			for (i = 0; i < 8; i++)
				o->explicit_iv = o->explicit_iv << 8 | data[CMAN_TLS_HEADER + i];
			o->finished = true;
		}
		if (*data == CMAN_TLS_CCS)
			o->ccs = true;
	}
}

/* ---- the leg ---- */

static int leg_13(const struct cman_tls_handshake *hs, const struct cman_tls_suite *suite,
		  struct cman_tls_leg *leg)
{
	const struct cman_tls_overheard *o = &hs->overheard;
	const bool server = hs->ctx->server;

	if (o->client_len != suite->hash_len || o->server_len != suite->hash_len || !o->sealing)
		return -EIO;
	memcpy(leg->rx.secret, server ? o->client : o->server, suite->hash_len);
	memcpy(leg->tx.secret, server ? o->server : o->client, suite->hash_len);
	leg->tx.seq = o->sealed;
	return 0;
}

/* Each side has sealed its Finished. */
static int leg_12(const struct cman_tls_handshake *hs, const struct cman_tls_suite *suite,
		  struct cman_tls_leg *leg)
{
	uint8_t client_random[32], server_random[32], master[MASTER_SECRET];
	const SSL_SESSION *session = SSL_get_session(hs->ssl);
	size_t len;
	int err;

	if (!session || !hs->overheard.finished ||
	    SSL_get_client_random(hs->ssl, client_random, 32) != 32 ||
	    SSL_get_server_random(hs->ssl, server_random, 32) != 32)
		return -EIO;
	len = SSL_SESSION_get_master_key(session, master, sizeof(master));
	err = cman_tls_keys_block(suite, master, len, client_random, server_random, hs->ctx->server,
				  &leg->rx, &leg->tx);
	cman_secret_wipe(master, sizeof(master));
	if (err)
		return -EIO;
	leg->rx.seq = leg->tx.seq = 1;
	/* going on from OpenSSL's number, and not from any other, no nonce can come twice */
	if (suite->aead != CMAN_TLS_CHACHA20_POLY1305)
		leg->tx.explicit_iv = hs->overheard.explicit_iv;
	return 0;
}

int cman_tls_handshake_leg(struct cman_tls_handshake *hs, struct cman_tls_leg *ret_leg)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(hs->ssl);
	const struct cman_tls_suite *suite;
	int err;

	memset(ret_leg, 0, sizeof(*ret_leg));
	suite = cipher ? cman_tls_suite(SSL_CIPHER_get_protocol_id(cipher)) : NULL;
	if (hs->state != CMAN_TLS_DONE || !suite || suite->version != SSL_version(hs->ssl))
		return -EIO;
	ret_leg->engine = CMAN_TLS_USER;
	ret_leg->flags = hs->ctx->server ? CMAN_TLS_SERVER : 0;
	ret_leg->version = suite->version;
	ret_leg->suite = suite->id;
	err = suite->version == CMAN_TLS_1_3 ? leg_13(hs, suite, ret_leg) :
					       leg_12(hs, suite, ret_leg);
	if (err)
		cman_secret_wipe(ret_leg, sizeof(*ret_leg));
	return err;
}
