/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TLS below a channel (usr/sys/chan.h) between machines: TLS 1.3 and nothing older, both sides
 * show a certificate and both check it: issued by the CA of the configuration (the system's CAs do
 * not count), valid now, and carrying exactly one of the names that the caller expects, as a
 * subjectAltName (RFC 6125; no wildcard, the common name does not count; an expected name that is an
 * IP address is looked for among the iPAddress ones). No session is resumed, there are no tickets,
 * no early data, no renegotiation. Sources: SSL_CTX_new(3), SSL_do_handshake(3),
 * X509_check_host(3), RFC 8446.
 *
 *	cman_tls_ctx_new()			once for a configuration; again after a reload
 *	fd = cman_tcp_connect() or accept()
 *	cman_chan_init_tls(chan, fd, ctx, role, names, n)
 *	poll cman_chan_events(): flush(), receive()	the handshake happens within these
 *	cman_chan_peer_name()			not NULL any more: both know who the other is
 *	cman_chan_fini()
 *
 * Frames may be sent at once: they wait until the handshake is over. How long it may take, and how
 * long a channel may be idle, is for the caller to limit: fini() may be called at any moment. In TLS
 * 1.3 a client is through before the server has judged its certificate: a client that was refused
 * learns it from its first receive().
 *
 * How receive(), send() and flush() fail over TLS, besides what chan.h says:
 *	-ECONNRESET	  the stream ended without TLS's goodbye (close_notify), or within a frame, or
 *			  in the handshake: somebody cut it
 *	-EPIPE		  the peer said goodbye between two frames
 *	-EKEYEXPIRED	  a certificate, the peer's or ours in the peer's eyes, has expired
 *	-EKEYREJECTED	  the same, refused for another reason: CA, name, purpose, not valid yet, none
 *	-EPROTONOSUPPORT  the peer has no TLS 1.3
 *	-EPROTO		  the peer speaks no TLS, or bad TLS
 *	-ECONNREFUSED, -ETIMEDOUT, ...	of connect(2)
 * chan->why is a sentence in each case, safe to log: text from the peer's certificate is printable
 * ASCII there.
 *
 * The private key is in this process's memory as long as the context or one of its channels lives.
 * A child that is forked without exec and gives up its privileges must not have it: make the
 * context after the fork.
 */
#ifndef CMAN_SYS_CHAN_TLS_H
#define CMAN_SYS_CHAN_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "usr/sys/chan.h"

#define CMAN_TLS_MAX_NAME 253 /* of a name that is expected in a certificate */

struct cman_tls_ctx;

/* Which of the files it is about, and a sentence: "PATH: what is wrong: expected ..." */
struct cman_tls_error {
	const char *key; /* "certificate", "key", "ca" or "client_ca" */
	const char *sni; /* name of the sni block that it is in; NULL: in the tls block itself */
	char text[400];
};

/*
 * Reads PEM files: @certificate (followed by intermediate ones, if any), its private @key (not
 * encrypted; others must have no access to the file), and the @ca certificates that peers' ones
 * must come from. Returns 0, or -errno with *ret_error filled: of open(2); -EINVAL for bad
 * contents; -EPERM for a key that others may read or write; -EKEYREJECTED for a key that does not
 * belong to the certificate.
 */
int cman_tls_ctx_new(const char *certificate, const char *key, const char *ca,
		     struct cman_tls_ctx **ret_ctx, struct cman_tls_error *ret_error);

/* Channels that were made from it live on. NULL is fine. */
void cman_tls_ctx_free(struct cman_tls_ctx *ctx);

/*
 * What peers will not like although it can be loaded (our certificate has expired, is not valid
 * yet, is not from @ca or not meant for both roles): a sentence for the log, or NULL.
 */
const char *cman_tls_ctx_warning(const struct cman_tls_ctx *ctx);

/*
 * May @name be expected of a peer? Host names: letters, digits, '-', '_' and '.', no leading dot;
 * or an IP address. 0, or -EINVAL with @why.
 */
int cman_tls_name_check(const char *name, const char **why);

enum cman_chan_role {
	CMAN_CHAN_CLIENT,
	CMAN_CHAN_SERVER,
};

/*
 * Takes over @fd, a TCP socket that is connected or connecting, also on failure. The peer must have
 * one of @nnames @names: a client gives the one of the peer that it calls, a server those of all its
 * peers. They are copied. 0 or -errno (-ENOMEM; -EINVAL: no names, or one that cannot be).
 */
int cman_chan_init_tls(struct cman_chan *c, int fd, struct cman_tls_ctx *ctx,
		       enum cman_chan_role role, const char *const *names, size_t nnames);

/*
 * Which of the expected names the peer has proved to have. NULL until the handshake is over, and
 * over a Unix socket. Valid until fini().
 */
const char *cman_chan_peer_name(const struct cman_chan *c);

#endif
