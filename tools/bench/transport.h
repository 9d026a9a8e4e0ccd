/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a verb does with a connection, whether it is plain TCP or TLS. Included by bench.h.
 *
 * To the verb a TLS connection behaves as a socket does: the callback of its io is called first
 * when it is open (handshake done) or has failed, reads and writes are short only when no more is
 * possible now, and an event that is wanted is told again until it is served, also when plaintext
 * waits within OpenSSL or ciphertext has to go before more can be taken. With EPOLLET among the
 * events the kernel's are told once each.
 *
 *	connect | accept -> error -> (want, read, write)... -> shutdown -> close
 */
#ifndef CMAN_BENCH_TRANSPORT_H
#define CMAN_BENCH_TRANSPORT_H

#define ERR_TLS	      EPROTO  /* handshake or protocol; no socket gives it */
#define ERR_TRUNCATED ENODATA /* the stream ended without close_notify */

struct tls;
struct tls_context;
struct worker;

struct transport {
	struct io io;	 /* first: loop_free_later() frees what begins with it */
	struct tls *tls; /* NULL: plain TCP */
};

int transport_connect(struct transport *t, struct worker *w, const struct address_list *to,
		      uint64_t index, int rcvbuf, uint32_t events);
int transport_accept(struct transport *t, struct worker *w, int fd, uint32_t events);
bool transport_finish(struct transport *t);
void transport_reset(struct transport *t);
void transport_close(struct transport *t, struct loop *l);

/* Made of the options once, shared by all workers; complains about what is wrong with them. */
int tls_context_new(const struct bench_options *opt, struct tls_context **ret);
void tls_context_free(struct tls_context *ctx);
void tls_forget_session(struct worker *w);

ssize_t tls_read(struct tls *s, void *buf, size_t len);
ssize_t tls_write(struct tls *s, const void *data, size_t len);
int tls_shutdown(struct tls *s);
int tls_want(struct tls *s, uint32_t events);
int tls_error(const struct tls *s);
bool tls_was_reset(const struct tls *s);

/* As recv(); @flags are for plain TCP alone. */
static inline ssize_t transport_read(struct transport *t, void *buf, size_t len, int flags)
{
	return t->tls ? tls_read(t->tls, buf, len) : recv(t->io.fd, buf, len, flags);
}

/* As send(). */
static inline ssize_t transport_write(struct transport *t, const void *data, size_t len)
{
	return t->tls ? tls_write(t->tls, data, len) : send(t->io.fd, data, len, MSG_NOSIGNAL);
}

/* No more will be written: FIN, in TLS behind close_notify. */
static inline int transport_shutdown(struct transport *t)
{
	return t->tls ? tls_shutdown(t->tls) : shutdown(t->io.fd, SHUT_WR);
}

/* Which of EPOLLIN and EPOLLOUT to be told from now on. */
static inline int transport_want(struct transport *t, struct loop *l, uint32_t events)
{
	return t->tls ? tls_want(t->tls, events) : loop_mod(l, &t->io, events);
}

/* Why it did not open: 0 or -errno. */
static inline int transport_error(const struct transport *t)
{
	return t->tls ? tls_error(t->tls) : net_error(t->io.fd);
}

/* Whether a failure is one of TCP, and not what TLS counts itself. */
static inline bool transport_was_reset(const struct transport *t)
{
	return !t->tls || tls_was_reset(t->tls);
}

#endif
