/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TLS transport of a channel. OpenSSL sees the socket through a BIO of our own: sendmsg() without
 * SIGPIPE, never blocking, and it remembers errno and the end of the stream, so that every failure
 * can be told apart and worded. Who the peer is, is decided in one place: check_peer(), which
 * OpenSSL calls for each certificate within the handshake, so that a refusal reaches the peer too.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "usr/sys/chan_impl.h"
#include "usr/sys/chan_tls_ctx.h"

#define LAST_DRAIN (256 << 10) /* unread input that is taken away so that close() sends no RST */
#define ALERT	   SSL_AD_REASON_OFFSET

struct cman_tls {
	SSL *ssl;
	struct cman_tls_ctx *ctx;
	int fd;
	char **names; /* expected */
	size_t nnames;
	const char *name; /* the one that the peer has; in @names */
	bool server, established;
	bool heard, spoke;     /* the socket has moved bytes in this direction */
	bool eof;	       /* the socket's end was read */
	bool goodbye;	       /* close_notify was read */
	bool read_wants_write; /* post-handshake messages can demand an answer */
	short want;	       /* what the handshake waits for */
	int io_errno;	       /* of the socket */
	int error;	       /* dead, of this */
	int write_error;       /* cannot send any more, but what has come can be read */
	int verdict;	       /* of check_peer(), with @why */
	char why[600];
};

/* ---- the socket, as OpenSSL sees it ---- */

static int bio_write(BIO *b, const char *data, size_t len, size_t *ret_n)
{
	struct cman_tls *t = BIO_get_data(b);
	ssize_t n;

	BIO_clear_retry_flags(b);
	do {
		n = send(t->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			BIO_set_retry_write(b);
		else
			t->io_errno = errno;
		return 0;
	}
	t->spoke = true;
	*ret_n = (size_t)n;
	return 1;
}

static int bio_read(BIO *b, char *buf, size_t size, size_t *ret_n)
{
	struct cman_tls *t = BIO_get_data(b);
	ssize_t n;

	BIO_clear_retry_flags(b);
	do {
		n = recv(t->fd, buf, size, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			BIO_set_retry_read(b);
		else
			t->io_errno = errno;
		return 0;
	}
	if (!n) {
		t->eof = true;
		return 0;
	}
	t->heard = true;
	*ret_n = (size_t)n;
	return 1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	const struct cman_tls *t = BIO_get_data(b);

	(void)num;
	(void)ptr;
	switch (cmd) {
	case BIO_CTRL_FLUSH: /* nothing is kept here */
		return 1;
	case BIO_CTRL_EOF:
		return t->eof;
	default:
		return 0;
	}
}

BIO_METHOD *cman_tls_bio_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "cman channel");

	if (m && BIO_meth_set_write_ex(m, bio_write) && BIO_meth_set_read_ex(m, bio_read) &&
	    BIO_meth_set_ctrl(m, bio_ctrl))
		return m;
	BIO_meth_free(m);
	return NULL;
}

/* ---- who the peer is ---- */

/* Appends; what does not fit is cut. */
static void add(char *buf, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void add(char *buf, size_t size, const char *format, ...)
{
	size_t used = strlen(buf);
	va_list args;

	va_start(args, format);
	vsnprintf(buf + used, size - used, format, args);
	va_end(args);
}

/* Bytes that a stranger chose, fit for a log. */
static void add_bytes(char *buf, size_t size, const uint8_t *p, size_t n)
{
	char text[80];
	size_t i;

	for (i = 0; i < n && i < sizeof(text) - 4; i++)
		text[i] = p[i] > ' ' && p[i] < 0x7f && p[i] != '"' ? (char)p[i] : '?';
	strcpy(text + i, i < n ? "..." : "");
	add(buf, size, "%s", text);
}

static void add_names_of(char *buf, size_t size, const X509 *x)
{
	GENERAL_NAMES *alt = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	int i, shown = 0, n = alt ? sk_GENERAL_NAME_num(alt) : 0;
	char ip[INET6_ADDRSTRLEN];

	for (i = 0; i < n; i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(alt, i);
		const ASN1_STRING *s = g->d.ia5;
		int len;

		if (g->type != GEN_DNS && g->type != GEN_IPADD)
			continue;
		if (shown == 4) {
			add(buf, size, ", ...");
			break;
		}
		len = ASN1_STRING_length(s);
		if (g->type == GEN_IPADD && len != 4 && len != 16)
			continue;
		add(buf, size, "%s", shown++ ? ", " : "");
		if (g->type == GEN_DNS)
			add_bytes(buf, size, ASN1_STRING_get0_data(s), (size_t)len);
		else
			add(buf, size, "%s",
			    inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(s), ip,
				      sizeof(ip)));
	}
	if (!shown)
		add(buf, size, "no subjectAltName");
	GENERAL_NAMES_free(alt);
}

static const char *date(const ASN1_TIME *at, char buf[32])
{
	struct tm tm;

	if (!ASN1_TIME_to_tm(at, &tm))
		return "a date that cannot be read";
	strftime(buf, 32, "%Y-%m-%d %H:%M:%S UTC", &tm);
	return buf;
}

static bool has_name(X509 *x, const char *name)
{
	const unsigned int flags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
				   X509_CHECK_FLAG_NO_WILDCARDS;
	uint8_t ip[16];

	if (inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1)
		return X509_check_ip_asc(x, name, 0) == 1;
	return X509_check_host(x, name, 0, flags, NULL) == 1;
}

void cman_tls_explain(int error, const X509 *leaf, const X509 *culprit, char *buf, size_t size)
{
	char when[32];

	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		add(buf, size, "%s expired on %s",
		    culprit && culprit != leaf ? "the CA certificate" : "it",
		    culprit ? date(X509_get0_notAfter(culprit), when) : "an unknown date");
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		add(buf, size, "%s is not valid before %s (are both clocks right?)",
		    culprit && culprit != leaf ? "the CA certificate" : "it",
		    culprit ? date(X509_get0_notBefore(culprit), when) : "an unknown date");
		break;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		add(buf, size, "it does not come from the configured ca");
		break;
	case X509_V_ERR_INVALID_PURPOSE:
		add(buf, size,
		    "its extended key usage does not allow this role: expected both serverAuth and "
		    "clientAuth");
		break;
	default:
		add(buf, size, "%s", X509_verify_cert_error_string(error));
	}
}

int cman_tls_check_peer(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct cman_tls *t = SSL_get_app_data(ssl);
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	int error = X509_STORE_CTX_get_error(store);
	size_t i;

	if (ok && X509_STORE_CTX_get_error_depth(store) > 0)
		return 1;
	for (i = 0; ok && i < t->nnames; i++)
		if (has_name(leaf, t->names[i])) {
			t->name = t->names[i];
			return 1;
		}
	t->why[0] = '\0';
	if (ok) {
		X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
		t->verdict = -EKEYREJECTED;
		add(t->why, sizeof(t->why), "the peer's certificate has another name: expected %s",
		    t->nnames > 1 ? "one of " : "");
		for (i = 0; i < t->nnames; i++)
			if (strlen(t->why) < sizeof(t->why) / 2)
				add(t->why, sizeof(t->why), "%s%s", i ? ", " : "", t->names[i]);
			else if (i == t->nnames - 1)
				add(t->why, sizeof(t->why), ", ...");
		add(t->why, sizeof(t->why), ", got ");
		add_names_of(t->why, sizeof(t->why), leaf);
		return 0;
	}
	t->verdict = error == X509_V_ERR_CERT_HAS_EXPIRED ? -EKEYEXPIRED : -EKEYREJECTED;
	add(t->why, sizeof(t->why), "the peer's certificate (");
	add_names_of(t->why, sizeof(t->why), leaf);
	add(t->why, sizeof(t->why), ") is refused: ");
	cman_tls_explain(error, leaf, X509_STORE_CTX_get_current_cert(store), t->why,
			 sizeof(t->why));
	return 0;
}

/* ---- failures, told apart ---- */

static int fail(struct cman_chan *c, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct cman_chan *c, int err, const char *format, ...)
{
	struct cman_tls *t = c->tls;
	va_list args;

	va_start(args, format);
	vsnprintf(t->why, sizeof(t->why), format, args);
	va_end(args);
	t->error = err;
	c->why = t->why;
	return err;
}

/* What the peer said before it gave up. */
static int fail_alert(struct cman_chan *c, int alert)
{
	const char *reason;
	int err = -EKEYREJECTED;

	switch (alert) {
	case SSL_AD_BAD_CERTIFICATE:
		reason = "it has another name than the peer expects, is not valid yet, or damaged";
		break;
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
		reason = "it is not meant for this use";
		break;
	case SSL_AD_CERTIFICATE_REVOKED:
		reason = "it is revoked";
		break;
	case SSL_AD_CERTIFICATE_EXPIRED:
		reason = "it has expired";
		err = -EKEYEXPIRED;
		break;
	case SSL_AD_CERTIFICATE_UNKNOWN:
		reason = "it cannot be used there";
		break;
	case SSL_AD_UNKNOWN_CA:
		reason = "it does not come from the peer's ca";
		break;
	case SSL_AD_ACCESS_DENIED:
		reason = "it has no access there";
		break;
	case SSL_AD_CERTIFICATE_REQUIRED:
		reason = "we showed none";
		break;
	case SSL_AD_PROTOCOL_VERSION:
		return fail(c, -EPROTONOSUPPORT,
			    "the peer does not speak TLS 1.3: expected 1.3 on both sides");
	default:
		return fail(c, -EPROTO, "the peer broke TLS off: alert \"%s\"",
			    SSL_alert_desc_string_long(alert));
	}
	return fail(c, err, "the peer refused our certificate: %s", reason);
}

static int fail_tls(struct cman_chan *c)
{
	unsigned long e = ERR_peek_error();
	int reason = ERR_GET_REASON(e);
	const char *text;

	if (ERR_GET_LIB(e) == ERR_LIB_SSL && reason > ALERT && reason < ALERT + 256)
		return fail_alert(c, reason - ALERT);
	if (ERR_GET_LIB(e) == ERR_LIB_SSL)
		switch (reason) {
		case SSL_R_UNSUPPORTED_PROTOCOL:
		case SSL_R_UNKNOWN_PROTOCOL:
		case SSL_R_VERSION_TOO_LOW:
			return fail(c, -EPROTONOSUPPORT,
				    "the peer does not speak TLS 1.3: expected 1.3 on both sides");
		case SSL_R_WRONG_VERSION_NUMBER:
		case SSL_R_HTTP_REQUEST:
		case SSL_R_HTTPS_PROXY_REQUEST:
		case SSL_R_PACKET_LENGTH_TOO_LONG:
		case SSL_R_RECORD_LENGTH_MISMATCH:
		case SSL_R_UNEXPECTED_MESSAGE:
			if (!c->tls->established)
				return fail(c, -EPROTO,
					    "the peer does not speak TLS: expected TLS 1.3");
			break;
		case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
			return fail(c, -EKEYREJECTED,
				    "the peer showed no certificate: expected mutual TLS");
		}
	text = ERR_reason_error_string(e);
	return fail(c, -EPROTO, "TLS with the peer failed: %s", text ? text : "unknown error");
}

/* The socket's own failure. */
static int fail_socket(struct cman_chan *c)
{
	struct cman_tls *t = c->tls;
	int err = t->io_errno;

	if (!t->server && !t->spoke)
		return fail(c, -err, "cannot connect to the peer: %s", strerror(err));
	if (err == EPIPE || err == ECONNRESET)
		return fail(c, -ECONNRESET, "the connection to the peer was cut%s",
			    t->established ? "" : " in the TLS handshake");
	return fail(c, -err, "the connection to the peer failed: %s", strerror(err));
}

/* A call for OpenSSL has not succeeded. -EAGAIN with t->want, or dead. */
static int unfinished(struct cman_chan *c, int ret)
{
	struct cman_tls *t = c->tls;
	int err = SSL_get_error(t->ssl, ret);

	switch (err) {
	case SSL_ERROR_WANT_READ:
		t->want = POLLIN;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		t->want = POLLOUT;
		return -EAGAIN;
	}
	if (t->verdict) {
		t->error = t->verdict;
		c->why = t->why;
		err = t->error;
	} else if (t->io_errno) {
		err = fail_socket(c);
	} else if (err == SSL_ERROR_ZERO_RETURN || (t->eof && !t->established)) {
		err = fail(c, -ECONNRESET, "the peer closed the connection in the TLS handshake");
	} else if (t->eof) {
		err = fail(c, -ECONNRESET,
			   "the connection to the peer was cut: it ended without TLS's goodbye");
	} else {
		err = fail_tls(c);
	}
	ERR_clear_error();
	return err;
}

/* ---- the transport ---- */

static int tls_prepare(struct cman_chan *c)
{
	struct cman_tls *t = c->tls;
	int ret;

	if (t->error) {
		c->why = t->why;
		return t->error;
	}
	if (t->established)
		return 0;
	ERR_clear_error();
	ret = SSL_do_handshake(t->ssl);
	if (ret != 1)
		return unfinished(c, ret);
	/* OpenSSL has checked all this already; nothing goes on if that should ever not be so */
	if (!t->name || SSL_get_verify_result(t->ssl) != X509_V_OK ||
	    SSL_version(t->ssl) != TLS1_3_VERSION)
		return fail(c, -EKEYREJECTED, "the peer's certificate was not checked");
	t->established = true;
	t->want = POLLIN;
	return 0;
}

static int tls_read(struct cman_chan *c, void *buf, size_t n, size_t *ret_n)
{
	struct cman_tls *t = c->tls;
	int err = tls_prepare(c);

	if (err)
		return err;
	*ret_n = 0;
	if (t->goodbye)
		return 0;
	t->io_errno = 0;
	ERR_clear_error();
	t->read_wants_write = false;
	if (SSL_read_ex(t->ssl, buf, n, ret_n) == 1)
		return 0;
	switch (SSL_get_error(t->ssl, 0)) {
	case SSL_ERROR_ZERO_RETURN:
		t->goodbye = true;
		return 0;
	case SSL_ERROR_WANT_WRITE:
		t->read_wants_write = true;
		return -EAGAIN;
	}
	return unfinished(c, 0);
}

/*
 * The peer is gone. If that is because it refused us, its alert is there to be read and says more.
 * What else is there stays for receive().
 */
static int write_failed(struct cman_chan *c)
{
	struct cman_tls *t = c->tls;
	size_t n;
	char byte;
	int err;

	t->write_error = -t->io_errno;
	t->io_errno = 0;
	ERR_clear_error();
	if (!SSL_peek_ex(t->ssl, &byte, 1, &n) && !t->eof &&
	    SSL_get_error(t->ssl, 0) == SSL_ERROR_SSL) {
		err = unfinished(c, 0);
		if (err != -EAGAIN)
			return err;
	}
	ERR_clear_error();
	return t->write_error;
}

static int tls_write(struct cman_chan *c, const void *buf, size_t n, size_t *ret_n)
{
	struct cman_tls *t = c->tls;
	int err = tls_prepare(c);

	if (err)
		return err;
	if (!t->write_error) {
		t->io_errno = 0;
		ERR_clear_error();
		if (SSL_write_ex(t->ssl, buf, n, ret_n) == 1)
			return 0;
		if (!t->io_errno)
			return unfinished(c, 0);
		err = write_failed(c);
		if (err != t->write_error)
			return err;
	}
	c->why = "the peer closed the connection";
	return t->write_error;
}

static short tls_events(const struct cman_chan *c)
{
	const struct cman_tls *t = c->tls;

	if (!t->established)
		return t->want;
	return c->out_head || t->read_wants_write ? POLLIN | POLLOUT : POLLIN;
}

/*
 * close() with unread input makes the kernel send a RST, which would overtake the goodbye or the
 * alert: so our side is shut first, and what is there already is thrown away.
 */
static void tls_fini(struct cman_chan *c)
{
	struct cman_tls *t = c->tls;
	char waste[4096];
	size_t i, got = 0;
	ssize_t n = 0;

	if (t->established && !t->error && !t->write_error && !c->out_head) {
		ERR_clear_error();
		SSL_shutdown(t->ssl);
	}
	ERR_clear_error();
	if (t->spoke && !shutdown(t->fd, SHUT_WR))
		do {
			n = recv(t->fd, waste, sizeof(waste), MSG_DONTWAIT);
			got += n > 0 ? (size_t)n : 0;
		} while (n > 0 && got < LAST_DRAIN);
	SSL_free(t->ssl);
	for (i = 0; i < t->nnames; i++)
		free(t->names[i]);
	free(t->names);
	cman_tls_ctx_free(t->ctx);
	free(t);
	c->tls = NULL;
	c->transport = NULL;
}

static const struct cman_chan_transport tls_transport = {
	.read = tls_read,
	.write = tls_write,
	.prepare = tls_prepare,
	.events = tls_events,
	.fini = tls_fini,
};

/* ---- making one ---- */

int cman_tls_name_check(const char *name, const char **why)
{
	size_t len = strlen(name);
	uint8_t ip[16];

	if (inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1)
		return 0;
	if (!len || len > CMAN_TLS_MAX_NAME) {
		*why = "expected a name of 1 to 253 characters, as in the peer's certificate";
		return -EINVAL;
	}
	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") !=
		    len ||
	    *name == '.') { /* which would match every host of the domain */
		*why = "expected the name of one host, such as siteb.example, or an IP address";
		return -EINVAL;
	}
	return 0;
}

static int copy_names(struct cman_tls *t, const char *const *names, size_t n)
{
	const char *why;

	if (!n)
		return -EINVAL;
	t->names = calloc(n, sizeof(*t->names));
	if (!t->names)
		return -ENOMEM;
	for (; t->nnames < n; t->nnames++) {
		if (cman_tls_name_check(names[t->nnames], &why))
			return -EINVAL;
		t->names[t->nnames] = strdup(names[t->nnames]);
		if (!t->names[t->nnames])
			return -ENOMEM;
	}
	return 0;
}

static int make_ssl(struct cman_tls *t)
{
	BIO *bio;

	t->ssl = SSL_new(t->ctx->ssl);
	bio = t->ssl ? BIO_new(t->ctx->bio) : NULL;
	if (!bio)
		return -ENOMEM;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	/* what came is not kept behind the caller's back: the caller wipes it */
	SSL_set_options(t->ssl, SSL_OP_CLEANSE_PLAINTEXT);
	if (!SSL_set_app_data(t->ssl, t))
		return -ENOMEM;
	if (t->server)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	return 0;
}

int cman_chan_init_tls(struct cman_chan *c, int fd, struct cman_tls_ctx *ctx,
		       enum cman_chan_role role, const char *const *names, size_t nnames)
{
	const int one = 1;
	struct cman_tls *t;
	int err;

	cman_chan_init(c, fd);
	t = calloc(1, sizeof(*t));
	if (!t) {
		cman_chan_fini(c);
		return -ENOMEM;
	}
	t->fd = fd;
	t->ctx = cman_tls_ctx_ref(ctx);
	t->server = role == CMAN_CHAN_SERVER;
	t->want = t->server ? POLLIN : POLLOUT;
	c->tls = t;
	c->transport = &tls_transport;
	err = copy_names(t, names, nnames);
	if (!err)
		err = make_ssl(t);
	/* a frame that waits for an answer must not wait for an ACK; a socket pair does not know */
	if (!err && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 &&
	    errno != EOPNOTSUPP)
		err = -errno;
	if (err) {
		ERR_clear_error();
		cman_chan_fini(c);
	}
	return err;
}

const char *cman_chan_peer_name(const struct cman_chan *c)
{
	return c->tls && c->tls->established ? c->tls->name : NULL;
}
