// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TLS sessions in the event loop, as transport.h promises them.
 *
 * OpenSSL sees the socket through a BIO of our own that takes every write: what the socket does not
 * take is kept in `out` and sent later, and until then no further record is made. So a record that
 * is encrypted has been written for good, OpenSSL need not be called again with the same bytes, and
 * nothing but a read can block. --tls-split sends from `out` too, piece by piece. Plaintext that
 * OpenSSL holds is not seen by epoll: a timer that is due at once (`kick`) tells of it.
 */
#include "tls.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#define SPLIT_PAUSE    (500 * NSEC_PER_USEC)
#define HEADER_PIECE   3 /* cuts the five bytes of a record's header */
#define MAX_COMPLAINTS 8

struct tls {
	struct transport *t;
	struct worker *w;
	SSL *ssl;
	void (*fn)(struct loop *l, struct io *io, uint32_t events); /* of the verb */
	uint32_t wanted;					    /* by the verb */
	struct timer kick;
	struct timer pause; /* armed: between two pieces */
	unsigned char *out; /* ciphertext */
	size_t out_off, out_len;
	unsigned int pieces;
	uint64_t records; /* written since the last key update */
	int err;	  /* it is dead, of this */
	int io_err;	  /* of the socket */
	bool connected, established;
	bool fin;	    /* the socket's end was read */
	bool eof;	    /* close_notify was read */
	bool more;	    /* the last read was not ended by an empty socket */
	bool hung_up;	    /* EPOLLRDHUP was seen */
	bool shut, shut_fd; /* close_notify was written; FIN too */
	bool aborted;
};

/* ---- the socket, as OpenSSL sees it ---- */

static size_t piece_of(struct tls *s)
{
	if (!s->w->opt->tls_split)
		return s->out_len;
	switch (s->pieces++ % 3) {
	case 0:
		return s->out_len < HEADER_PIECE ? s->out_len : HEADER_PIECE;
	case 1:
		return (s->out_len + 1) / 2;
	default:
		return s->out_len;
	}
}

static void drop_out(struct tls *s)
{
	free(s->out);
	s->out = NULL;
	s->out_off = s->out_len = 0;
	s->pieces = 0;
}

static int send_fin(struct tls *s)
{
	if (!s->shut || s->shut_fd || s->out_len)
		return 0;
	s->shut_fd = true;
	if (shutdown(s->t->io.fd, SHUT_WR) == 0)
		return 0;
	s->io_err = errno;
	return -1;
}

/* Send what was kept. -1: the socket is broken; 0: as far as it is possible now. */
static int flush(struct tls *s)
{
	struct loop *l = &s->w->loop;
	size_t len;
	ssize_t n;

	while (s->out_len && !s->pause.pos) {
		len = piece_of(s);
		n = send(s->t->io.fd, s->out + s->out_off, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0) {
			s->io_err = errno;
			drop_out(s);
			return -1;
		}
		s->out_off += (size_t)n;
		s->out_len -= (size_t)n;
		if (s->out_len && s->w->opt->tls_split)
			timer_arm(l, &s->pause, l->now + SPLIT_PAUSE);
	}
	if (s->out_len)
		return 0;
	drop_out(s);
	return send_fin(s);
}

static int keep(struct tls *s, const char *data, size_t len)
{
	unsigned char *p = realloc(s->out, s->out_off + s->out_len + len);

	if (!p) {
		s->io_err = ENOMEM;
		return -1;
	}
	memcpy(p + s->out_off + s->out_len, data, len);
	s->out = p;
	s->out_len += len;
	return 0;
}

static int bio_write(BIO *b, const char *data, size_t len, size_t *ret_n)
{
	struct tls *s = BIO_get_data(b);
	size_t sent = 0;
	ssize_t n;

	BIO_clear_retry_flags(b);
	if (!s->out_len && !s->w->opt->tls_split) {
		n = send(s->t->io.fd, data, len, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN) {
			s->io_err = errno;
			return 0;
		}
		sent = n < 0 ? 0 : (size_t)n;
	}
	if (sent < len && (keep(s, data + sent, len - sent) || (s->w->opt->tls_split && flush(s))))
		return 0;
	*ret_n = len;
	return 1;
}

static int bio_read(BIO *b, char *buf, size_t size, size_t *ret_n)
{
	struct tls *s = BIO_get_data(b);
	ssize_t n = recv(s->t->io.fd, buf, size, 0);

	BIO_clear_retry_flags(b);
	if (n > 0) {
		*ret_n = (size_t)n;
		return 1;
	}
	if (!n)
		s->fin = true;
	else if (errno == EAGAIN)
		BIO_set_retry_read(b);
	else
		s->io_err = errno;
	return 0;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	const struct tls *s = BIO_get_data(b);

	(void)num;
	(void)ptr;
	if (cmd == BIO_CTRL_EOF)
		return s->fin;
	return cmd == BIO_CTRL_FLUSH;
}

BIO_METHOD *tls_bio_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "cman-bench");

	if (m && BIO_meth_set_write_ex(m, bio_write) && BIO_meth_set_read_ex(m, bio_read) &&
	    BIO_meth_set_ctrl(m, bio_ctrl))
		return m;
	BIO_meth_free(m);
	return NULL;
}

/* ---- counting ---- */

void tls_message_callback(int sent, int version, int type, const void *buf, size_t len, SSL *ssl,
			  void *arg)
{
	struct tls *s = SSL_get_app_data(ssl);
	struct tally *t = &s->w->tally;
	const unsigned char *p = buf;

	(void)version;
	(void)arg;
	if (type == SSL3_RT_HANDSHAKE && len && p[0] == SSL3_MT_KEY_UPDATE)
		tally_add(sent ? &t->tls_updates_sent : &t->tls_updates_received, 1);
	else if (type == SSL3_RT_ALERT && !sent && len == 2 && p[1] != SSL_AD_CLOSE_NOTIFY)
		tally_add(&t->tls_alerts, 1);
}

/* --tls-resume: the next session of this worker offers it. */
int tls_session_callback(SSL *ssl, SSL_SESSION *session)
{
	struct tls *s = SSL_get_app_data(ssl);

	SSL_SESSION_free(s->w->tls_session);
	s->w->tls_session = session;
	return 1;
}

void tls_forget_session(struct worker *w)
{
	SSL_SESSION_free(w->tls_session);
	w->tls_session = NULL;
}

static void note(const char **what, const char *value)
{
	if (!*what)
		*what = value;
	else if (strcmp(*what, value))
		*what = "mixed";
}

static void count_handshake(struct tls *s)
{
	struct worker *w = s->w;
	const unsigned char *name;
	unsigned int len;

	tally_add(&w->tally.tls_handshakes, 1);
	if (SSL_session_reused(s->ssl))
		tally_add(&w->tally.tls_resumed, 1);
	note(&w->tls_version, SSL_get_version(s->ssl));
	note(&w->tls_cipher, SSL_get_cipher_name(s->ssl));
	SSL_get0_alpn_selected(s->ssl, &name, &len);
	if (!*w->tls_alpn)
		snprintf(w->tls_alpn, sizeof(w->tls_alpn), "%.*s", (int)len,
			 name ? (const char *)name : "");
}

/* The oldest error of the queue is the cause. */
void tls_reason(const SSL *ssl, char *buf, size_t len)
{
	unsigned long e = ERR_peek_error();
	long verdict = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
	const char *reason = ERR_reason_error_string(e);

	if (ERR_SYSTEM_ERROR(e))
		reason = strerror(ERR_GET_REASON(e));
	snprintf(buf, len, "%s%s%s", reason ? reason : "unknown error",
		 verdict == X509_V_OK ? "" : ": ",
		 verdict == X509_V_OK ? "" : X509_verify_cert_error_string(verdict));
}

static void say_why(const struct tls *s, const char *why)
{
	static atomic_uint said;
	char peer[ADDRESS_TEXT], text[256];
	unsigned int n = atomic_fetch_add(&said, 1);

	if (n > MAX_COMPLAINTS)
		return;
	if (n == MAX_COMPLAINTS) {
		complain("TLS: further errors are only counted");
		return;
	}
	if (!why)
		tls_reason(s->ssl, text, sizeof(text));
	address_of_socket(s->t->io.fd, true, peer, sizeof(peer));
	complain("TLS %s %s: %s", s->established ? "with" : "handshake with", peer,
		 why ? why : text);
}

/* Whoever refuses us says so before it closes; a failed write must not hide that. */
static bool refused(struct tls *s)
{
	char c;

	ERR_clear_error();
	return SSL_peek(s->ssl, &c, 1) <= 0 && ERR_peek_error() && !s->fin;
}

/* OpenSSL or the socket has failed: of what, is told once and counted once. */
static void fail(struct tls *s)
{
	struct tally *t = &s->w->tally;

	if (s->err)
		return;
	s->more = true; /* the verb shall ask */
	if (s->io_err && (!s->established || !refused(s))) {
		s->err = s->io_err;
		if (!s->established) {
			tally_add(&t->tls_errors, 1);
			say_why(s, strerror(s->io_err));
		}
	} else if (s->fin && s->established) {
		s->err = ERR_TRUNCATED;
		tally_add(&t->tls_truncated, 1);
		say_why(s, "truncated: the stream ended without close_notify");
	} else {
		s->err = ERR_TLS;
		tally_add(&t->tls_errors, 1);
		say_why(s, s->fin ? "the peer closed the connection" : NULL);
	}
	ERR_clear_error();
}

/* ---- events ---- */

static uint32_t events_of(const struct tls *s)
{
	uint32_t events = s->wanted & EPOLLIN;

	if (s->wanted & EPOLLET)
		return s->wanted;
	if (!s->connected)
		return EPOLLOUT;
	if (!s->established && !s->err)
		return s->out_len && !s->pause.pos ? EPOLLIN | EPOLLOUT : EPOLLIN;
	if (s->out_len ? !s->pause.pos : (s->wanted & EPOLLOUT) != 0)
		events |= EPOLLOUT;
	return events;
}

static int rearm(struct tls *s)
{
	struct loop *l = &s->w->loop;

	if (!s->more || !(s->wanted & EPOLLIN))
		timer_cancel(l, &s->kick);
	else if (!s->kick.pos)
		timer_arm(l, &s->kick, l->now + 1); /* in the next round */
	return loop_mod(l, &s->t->io, events_of(s));
}

static void deliver(struct tls *s, uint32_t events)
{
	struct io *io = &s->t->io;
	struct loop *l = &s->w->loop;
	uint32_t told = events & (s->wanted | EPOLLERR | EPOLLHUP);

	if (s->hung_up)
		told |= s->wanted & EPOLLRDHUP;
	if (s->err)
		told |= EPOLLERR | EPOLLHUP | (s->wanted & (EPOLLIN | EPOLLOUT));
	else if (s->out_len)
		told &= ~(uint32_t)EPOLLOUT;
	if (told & ~(uint32_t)EPOLLRDHUP)
		s->fn(l, io, told);
	/* closed: the session is gone */
	if (io->fd >= 0)
		rearm(s);
}

/* False: it needs more from the peer. */
static bool handshake(struct tls *s)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(s->ssl);
	if (r == 1) {
		s->established = true;
		s->more = true; /* data may have come along */
		count_handshake(s);
		return true;
	}
	if (SSL_get_error(s->ssl, r) == SSL_ERROR_WANT_READ)
		return false;
	fail(s);
	return true;
}

static void tls_event(struct loop *l, struct io *io, uint32_t events)
{
	struct tls *s = container_of(io, struct transport, io)->tls;

	(void)l;
	s->hung_up |= (events & EPOLLRDHUP) != 0;
	if (!s->connected) {
		if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			return;
		s->connected = true;
		s->err = -net_error(io->fd);
	}
	if (!s->err && (events & EPOLLOUT) && flush(s))
		fail(s);
	if (!s->err && !s->established) {
		if (!handshake(s)) {
			rearm(s);
			return;
		}
		events |= EPOLLIN | EPOLLOUT;
	}
	deliver(s, events);
}

static void kick_fired(struct loop *l, struct timer *t)
{
	(void)l;
	deliver(container_of(t, struct tls, kick), EPOLLIN);
}

static void pause_over(struct loop *l, struct timer *t)
{
	struct tls *s = container_of(t, struct tls, pause);

	(void)l;
	if (flush(s))
		fail(s);
	if (s->established || s->err)
		deliver(s, EPOLLOUT);
	else
		rearm(s);
}

/* ---- what transport.h offers ---- */

int tls_error(const struct tls *s)
{
	return -s->err;
}

/* When both sides have said goodbye, the peer need not wait for the rest of ours. */
bool tls_was_reset(const struct tls *s)
{
	return s->err != ERR_TLS && s->err != ERR_TRUNCATED && !(s->eof && s->shut);
}

int tls_want(struct tls *s, uint32_t events)
{
	s->wanted = events;
	return rearm(s);
}

ssize_t tls_read(struct tls *s, void *buf, size_t len)
{
	bool empty = false;
	size_t got = 0, n;

	while (got < len && !s->err && !s->eof && !empty) {
		ERR_clear_error();
		if (SSL_read_ex(s->ssl, (char *)buf + got, len - got, &n)) {
			got += n;
			continue;
		}
		switch (SSL_get_error(s->ssl, 0)) {
		case SSL_ERROR_WANT_READ:
			empty = true;
			break;
		case SSL_ERROR_ZERO_RETURN:
			s->eof = true;
			break;
		default:
			fail(s);
		}
	}
	s->more = got && !empty;
	rearm(s);
	if (got || s->eof)
		return (ssize_t)got;
	errno = s->err ? s->err : EAGAIN;
	return -1;
}

/* A request to the peer to do the same goes with it. */
static bool update_keys(struct tls *s)
{
	uint64_t every = s->w->opt->tls_update;

	if (!every || s->records < every)
		return true;
	s->records = 0;
	return SSL_key_update(s->ssl, SSL_KEY_UPDATE_REQUESTED) && SSL_do_handshake(s->ssl) == 1;
}

ssize_t tls_write(struct tls *s, const void *data, size_t len)
{
	size_t put = 0, n;

	while (put < len && !s->err && !s->out_len) {
		ERR_clear_error();
		if (!update_keys(s)) {
			fail(s);
			break;
		}
		/* one record */
		if (!SSL_write_ex(s->ssl, (const char *)data + put, len - put, &n)) {
			fail(s);
			break;
		}
		put += n;
		s->records++;
	}
	rearm(s);
	if (put)
		return (ssize_t)put;
	errno = s->err ? s->err : EAGAIN;
	return -1;
}

int tls_shutdown(struct tls *s)
{
	if (!s->err && !s->shut) {
		ERR_clear_error();
		s->shut = true;
		if (SSL_shutdown(s->ssl) < 0 || send_fin(s))
			fail(s);
		rearm(s);
	}
	errno = s->err;
	return s->err ? -1 : 0;
}

bool tls_finish(struct tls *s)
{
	tls_shutdown(s);
	return s->err || !s->out_len;
}

/* The session may be resumed all the same: OpenSSL must not take the RST for an attack. */
void tls_abort(struct tls *s)
{
	SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	s->aborted = true;
}

/* A name that is an address is verified, but is no name for SNI. */
static int set_name(SSL *ssl, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

	if (X509_VERIFY_PARAM_set1_ip_asc(param, name))
		return 0;
	ERR_clear_error();
	return SSL_set_tlsext_host_name(ssl, name) && SSL_set1_host(ssl, name) ? 0 : -ENOMEM;
}

static int attach(struct tls *s, struct tls_context *ctx)
{
	const char *name = s->w->opt->tls_name;
	BIO *b;

	s->ssl = SSL_new(ctx->ctx);
	b = BIO_new(ctx->method);
	if (!s->ssl || !b) {
		BIO_free(b);
		return -ENOMEM;
	}
	BIO_set_data(b, s);
	BIO_set_init(b, 1);
	SSL_set_bio(s->ssl, b, b);
	SSL_set_app_data(s->ssl, s);
	if (ctx->server) {
		SSL_set_accept_state(s->ssl);
		return 0;
	}
	SSL_set_connect_state(s->ssl);
	if (s->w->tls_session && !SSL_set_session(s->ssl, s->w->tls_session))
		return -ENOMEM;
	return name ? set_name(s->ssl, name) : 0;
}

static void tls_free(struct tls *s)
{
	SSL_free(s->ssl);
	drop_out(s);
	s->t->io.fn = s->fn;
	s->t->tls = NULL;
	free(s);
}

int tls_open(struct transport *t, struct worker *w, bool connected, uint32_t events)
{
	struct tls *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	*s = (struct tls){ .t = t, .w = w, .fn = t->io.fn, .wanted = events };
	s->connected = connected;
	s->kick.fn = kick_fired;
	s->pause.fn = pause_over;
	t->tls = s;
	t->io.fn = tls_event;
	err = attach(s, w->opt->tls_context);
	if (!err)
		err = loop_add(&w->loop, &t->io, events_of(s));
	if (err)
		tls_free(s);
	return err;
}

/* What is left goes in one piece, as far as the socket takes it. */
void tls_close(struct tls *s)
{
	struct loop *l = &s->w->loop;

	if (s->established && !s->aborted)
		tls_shutdown(s);
	timer_cancel(l, &s->kick);
	timer_cancel(l, &s->pause);
	if (s->out_len && !s->aborted)
		send(s->t->io.fd, s->out + s->out_off, s->out_len, MSG_NOSIGNAL);
	tls_free(s);
}
