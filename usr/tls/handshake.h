/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handshake in memory: records in, records out, no socket. OpenSSL (SSL_do_handshake(3)) between two
 * memory BIOs gets exactly one record at a time, so that whatever the peer sent behind its last
 * message is never inside an SSL object, but still where the caller reads. When it is over, what is left
 * is a struct cman_tls_leg; the SSL object goes, without SSL_shutdown().
 *
 *	listener				service
 *	hs = cman_tls_accept(ctx)		hs = cman_tls_connect(ctx, sni, alpn)
 *						send cman_tls_handshake_output()
 *	cman_tls_handshake_feed(record)	...	cman_tls_handshake_feed(record) ...
 *	   -> CMAN_TLS_HELLO: name and ALPN
 *	   of the client are known; nothing
 *	   has been answered yet
 *	cman_tls_handshake_answer(alpn)
 *	   send the output after each call
 *	   -> CMAN_TLS_DONE			   -> CMAN_TLS_DONE
 *	cman_tls_handshake_leg()		cman_tls_handshake_leg()
 *	cman_tls_handshake_free()		cman_tls_handshake_free()
 *
 * A server's session tickets (TLS 1.3) are part of its last output, so leg.tx.seq counts them. Tickets,
 * and whatever else a TLS 1.3 server sends after its Finished, are for the record engine to skip.
 */
#ifndef CMAN_TLS_HANDSHAKE_H
#define CMAN_TLS_HANDSHAKE_H

#include "usr/core/tls.h"
#include "usr/tls/context.h"

struct cman_tls_handshake;

enum cman_tls_progress {
	CMAN_TLS_MORE,	/* send the output, feed the next record */
	CMAN_TLS_HELLO, /* a server has the ClientHello: answer() goes on */
	CMAN_TLS_DONE,
	CMAN_TLS_FAILED, /* the output may hold an alert for the peer: send it, then close */
};

/* Why it failed, to count and to log. */
enum cman_tls_failure {
	CMAN_TLS_FAIL_NONE,
	CMAN_TLS_FAIL_PROTOCOL,	   /* no TLS, or bad TLS */
	CMAN_TLS_FAIL_VERSION,	   /* none in common */
	CMAN_TLS_FAIL_CIPHER,	   /* no suite (or group, or signature algorithm) in common */
	CMAN_TLS_FAIL_EXPIRED,	   /* a certificate of the peer, or ours in its eyes */
	CMAN_TLS_FAIL_NAME,	   /* the backend's certificate has another name */
	CMAN_TLS_FAIL_CERTIFICATE, /* none, unknown CA, revoked, wrong purpose, ... */
	CMAN_TLS_FAIL_ALPN,	   /* no application protocol in common */
	CMAN_TLS_FAIL_CLOSED,	   /* the peer hung up, or said close_notify */
	CMAN_TLS_FAIL_INTERNAL,	   /* no memory, ... */
	CMAN_TLS_FAILURES,
};
/* "protocol", "version", ...: as the counters are called */
const char *cman_tls_failure_name(enum cman_tls_failure failure);

/* NULL: no memory. The context may go before it. */
struct cman_tls_handshake *cman_tls_accept(struct cman_tls_context *ctx);
/*
 * @sni: name for SNI and verification when the service has no server_name; NULL or "": none. @alpn:
 * protocols to offer (wire form, RFC 7301) when the service has none configured; len 0: none. The first
 * flight is in the output afterwards. No output: it has failed already, why() says so (there is no
 * name to verify, or the list is damaged).
 */
struct cman_tls_handshake *cman_tls_connect(struct cman_tls_context *ctx, const char *sni,
					    const uint8_t *alpn, size_t alpn_len);

/*
 * One whole record with its header; or, when cman_tls_record_look() refuses what came, some of that,
 * which then is in the reason.
 */
enum cman_tls_progress cman_tls_handshake_feed(struct cman_tls_handshake *hs, const uint8_t *record,
					       size_t len);
/*
 * After HELLO. @alpn: what the backend has chosen (one name, without length); len 0: it has none: the
 * listener's own list decides, if it has one; else the client gets no ALPN. Then as feed().
 */
enum cman_tls_progress cman_tls_handshake_answer(struct cman_tls_handshake *hs, const uint8_t *alpn,
						 size_t alpn_len);
/* The peer's stream has ended: FAILED, with the reason. */
enum cman_tls_progress cman_tls_handshake_hang_up(struct cman_tls_handshake *hs);

/* What came before the handshake rules it out, @why says in a sentence: FAILED. */
enum cman_tls_progress cman_tls_handshake_refuse(struct cman_tls_handshake *hs, const char *why);

/* What is to be sent: valid until the next call that is not output() or sent(). */
const uint8_t *cman_tls_handshake_output(struct cman_tls_handshake *hs, size_t *ret_len);
/* The first @n bytes of it have gone. */
void cman_tls_handshake_sent(struct cman_tls_handshake *hs, size_t n);

/*
 * After HELLO (server) and after DONE: "" when there is none. What a client sent is a host name (letters,
 * digits, '-', '_', '.') or an address.
 */
const char *cman_tls_handshake_sni(const struct cman_tls_handshake *hs);
/* The client's list (HELLO), wire form, or NULL. */
const uint8_t *cman_tls_handshake_alpn_offered(const struct cman_tls_handshake *hs,
					       size_t *ret_len);
/* What was agreed on (DONE), one name, not terminated, or NULL. */
const uint8_t *cman_tls_handshake_alpn(const struct cman_tls_handshake *hs, size_t *ret_len);

/*
 * After DONE: engine is CMAN_TLS_USER. 0, or -EIO: the secrets could not be had. The caller wipes it.
 * TLS 1.2 with AES-GCM: tx.explicit_iv is where OpenSSL has begun, so that no nonce comes again.
 */
int cman_tls_handshake_leg(struct cman_tls_handshake *hs, struct cman_tls_leg *ret_leg);

/* After FAILED. A sentence, printable, with the peer's certificate's subject where it matters. */
const char *cman_tls_handshake_why(const struct cman_tls_handshake *hs,
				   enum cman_tls_failure *ret_failure);

/* Wipes. NULL is fine. */
void cman_tls_handshake_free(struct cman_tls_handshake *hs);

#endif
