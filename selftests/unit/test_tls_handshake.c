// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Handshakes in memory: our server and our client against plain OpenSSL, and against each other. The
 * peer is never asked whether all went well: the leg that is left must open its records and seal
 * ones that it takes, beginning with those that came right behind its Finished. All keys and
 * certificates are made when the tests run.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usr/core/tls.h"
#include "usr/tls/handshake.h"
#include "usr/tls/keys.h"
#include "usr/tls/record.h"

#include "certificates.h"

#define DAY	  CERT_DAY
#define PIPELINED "right behind Finished"
#define H2_HTTP11 "\x02h2\x08http/1.1"

static struct cert_issuer ca, other_ca;
static const uint8_t ticket_key[80] = "the same in all gateways of an instance, and in no other one";

/* ---- certificates ---- */

static char *pem_of(X509 *x, EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data, *text;

	if (x)
		cr_assert(PEM_write_bio_X509(bio, x));
	else
		cr_assert(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL));
	cr_assert_eq(BIO_write(bio, "", 1), 1); /* it ends nowhere else */
	BIO_get_mem_data(bio, &data);
	text = strdup(data);
	BIO_free(bio);
	return text;
}

static void begin(void)
{
	cert_begin();
	ca = cert_make("test ca", NULL, NULL, -DAY, DAY, NULL, true);
	other_ca = cert_make("other ca", NULL, NULL, -DAY, DAY, NULL, true);
}

static void end(void)
{
	cert_forget(&ca);
	cert_forget(&other_ca);
	cert_end();
}

TestSuite(tls_handshake, .init = begin, .fini = end, .timeout = 240);

struct maker {
	const char *san;
	const struct cert_issuer *issuer;
	long from, to;
	unsigned int rsa; /* bits; 0: ECDSA P-256 */
	bool self_signed;
	const char *usage;
};

static void make_certificate(struct cman_certificate *to, const struct maker *m)
{
	const struct cert_issuer *issuer = m->self_signed ? NULL : m->issuer ? m->issuer : &ca;
	struct cert_issuer i = cert_make("leaf", m->san, m->usage, m->from ? m->from : -DAY,
					 m->to ? m->to : DAY, issuer, false);

	if (m->rsa) {
		EVP_PKEY_free(i.key);
		i.key = EVP_RSA_gen(m->rsa);
		cr_assert_eq(X509_set_pubkey(i.cert, i.key), 1);
		cr_assert_gt(X509_sign(i.cert, issuer ? issuer->key : i.key, EVP_sha256()), 0);
	}
	to->certificate = pem_of(i.cert, NULL);
	to->key = pem_of(NULL, i.key);
	cert_forget(&i);
}

/* make_certificate(&c, .san = ..., ...) */
#define MAKE(to, ...) make_certificate(to, &(const struct maker){ __VA_ARGS__ })

static struct cman_credentials listener(void)
{
	struct cman_credentials c = { .server = true, .min_version = CMAN_TLS_1_2 };

	MAKE(&c.own, .san = "DNS:front.example");
	return c;
}

static struct cman_credentials service(void)
{
	return (struct cman_credentials){
		.min_version = CMAN_TLS_1_2,
		.verify = true,
		.server_name = strdup("db.example"),
		.ca = pem_of(ca.cert, NULL),
	};
}

static void forget_certificate(struct cman_certificate *c)
{
	free(c->name);
	free(c->certificate);
	free(c->key);
	memset(c, 0, sizeof(*c));
}

static void forget(struct cman_credentials *c)
{
	uint32_t i;

	forget_certificate(&c->own);
	for (i = 0; i < c->nsni; i++)
		forget_certificate(&c->sni[i]);
	free(c->ca);
	free(c->server_name);
}

static struct cman_tls_context *context(const struct cman_credentials *c)
{
	struct cman_tls_context *ctx = NULL;
	char why[200] = "";

	cr_assert_eq(cman_tls_context_new(c, ticket_key, &ctx, why, sizeof(why)), 0, "%s", why);
	return ctx;
}

/* ---- the peer: plain OpenSSL ---- */

struct peer {
	SSL_CTX *ctx;
	SSL *ssl;
	BIO *in, *out;
	bool said; /* PIPELINED */
	bool dead;
};

static void use_pem(SSL_CTX *ctx, const struct cman_certificate *c)
{
	BIO *x_bio = BIO_new_mem_buf(c->certificate, -1), *key_bio = BIO_new_mem_buf(c->key, -1);
	X509 *x = PEM_read_bio_X509(x_bio, NULL, NULL, NULL);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);

	cr_assert_eq(SSL_CTX_use_cert_and_key(ctx, x, key, NULL, 1), 1);
	X509_free(x);
	EVP_PKEY_free(key);
	BIO_free(x_bio);
	BIO_free(key_bio);
}

static SSL_CTX *peer_context(bool server, int version, const struct cman_certificate *c)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

	cr_assert_eq(SSL_CTX_set_min_proto_version(ctx, version), 1);
	cr_assert_eq(SSL_CTX_set_max_proto_version(ctx, version), 1);
	SSL_CTX_set_dh_auto(ctx, 1);
	if (c)
		use_pem(ctx, c);
	return ctx;
}

/* Takes over the reference of @ctx. */
static struct peer peer_of(SSL_CTX *ctx)
{
	struct peer p = { .ctx = ctx,
			  .ssl = SSL_new(ctx),
			  .in = BIO_new(BIO_s_mem()),
			  .out = BIO_new(BIO_s_mem()) };

	SSL_set_bio(p.ssl, p.in, p.out);
	if (SSL_is_server(p.ssl))
		SSL_set_accept_state(p.ssl);
	else
		SSL_set_connect_state(p.ssl);
	return p;
}

static struct peer client(int version)
{
	return peer_of(peer_context(false, version, NULL));
}

static void peer_end(struct peer *p)
{
	SSL_free(p->ssl);
	SSL_CTX_free(p->ctx);
}

/* Goes on, and says something as soon as it may. */
static void peer_step(struct peer *p)
{
	int ret;

	ERR_clear_error();
	if (p->dead)
		return;
	ret = SSL_do_handshake(p->ssl);
	if (ret != 1 && SSL_get_error(p->ssl, ret) != SSL_ERROR_WANT_READ)
		p->dead = true;
	if (ret == 1 && !p->said) {
		cr_assert_eq(SSL_write(p->ssl, PIPELINED, sizeof(PIPELINED)), sizeof(PIPELINED));
		p->said = true;
	}
	ERR_clear_error();
}

/* ---- the wire between the two ---- */

struct link {
	struct cman_tls_handshake *hs;
	struct peer *p;
	enum cman_tls_progress state;
	uint8_t wire[1 << 17]; /* from the peer, not fed yet */
	size_t len;
	const char *alpn; /* to answer with */
	bool stop_at_hello;
	size_t fragment; /* bytes of the first record's content that go into one record; 0: all */
	uint64_t finished_nonce; /* explicit, of our last handshake record in TLS 1.2 */
};

static struct link *link_to(struct cman_tls_handshake *hs, struct peer *p)
{
	struct link *l = calloc(1, sizeof(*l));

	cr_assert(l && hs);
	l->hs = hs;
	l->p = p;
	return l;
}

static void link_end(struct link *l)
{
	cman_tls_handshake_free(l->hs);
	if (l->p)
		peer_end(l->p);
	free(l);
}

static size_t record_at(const struct link *l, size_t at)
{
	ssize_t n = cman_tls_record_look(l->wire + at, l->len - at, NULL);

	return n > 0 && (size_t)n <= l->len - at ? (size_t)n : 0;
}

static void consume(struct link *l, size_t n)
{
	memmove(l->wire, l->wire + n, l->len - n);
	l->len -= n;
}

static void take_output(struct link *l, BIO *to)
{
	const uint8_t *out;
	size_t len, at, i;

	out = cman_tls_handshake_output(l->hs, &len);
	for (at = 0; at < len; at += 5u + (size_t)(out[at + 3] << 8 | out[at + 4])) {
		cr_assert_leq(at + 5, len);
		if (out[at] == CMAN_TLS_HANDSHAKE)
			for (l->finished_nonce = 0, i = 5; i < 13; i++)
				l->finished_nonce = l->finished_nonce << 8 | out[at + i];
	}
	cr_assert_eq(at, len, "the output is not whole records");
	for (; len; out = cman_tls_handshake_output(l->hs, &len)) {
		at = len > 100 ? len / 2 : len; /* a socket that takes a part */
		cr_assert_eq(BIO_write(to, out, (int)at), (int)at);
		cman_tls_handshake_sent(l->hs, at);
	}
}

/* The first record's content, in smaller records. */
static void fragment(struct link *l)
{
	static uint8_t all[1 << 17];
	size_t n = record_at(l, 0), at, piece, used = 0;

	for (at = 5; at < n; at += piece) {
		piece = n - at < l->fragment ? n - at : l->fragment;
		memcpy(all + used, l->wire, 3);
		all[used + 3] = (uint8_t)(piece >> 8);
		all[used + 4] = (uint8_t)piece;
		memcpy(all + used + 5, l->wire + at, piece);
		used += 5 + piece;
	}
	memcpy(all + used, l->wire + n, l->len - n);
	l->len = used + l->len - n;
	memcpy(l->wire, all, l->len);
	l->fragment = 0;
}

static void feed_wire(struct link *l)
{
	size_t n;

	if (l->fragment && l->len)
		fragment(l);
	while (l->state == CMAN_TLS_MORE && (n = record_at(l, 0))) {
		l->state = cman_tls_handshake_feed(l->hs, l->wire, n);
		consume(l, n);
		if (l->state == CMAN_TLS_HELLO && !l->stop_at_hello)
			l->state = cman_tls_handshake_answer(l->hs, (const uint8_t *)l->alpn,
							     l->alpn ? strlen(l->alpn) : 0);
	}
}

static enum cman_tls_progress shake(struct link *l)
{
	int i, n;

	for (i = 0; i < 20; i++) {
		take_output(l, l->p->in);
		peer_step(l->p);
		n = BIO_read(l->p->out, l->wire + l->len, (int)(sizeof(l->wire) - l->len));
		l->len += n > 0 ? (size_t)n : 0;
		feed_wire(l);
	}
	return l->state;
}

static const char *why(const struct link *l)
{
	return cman_tls_handshake_why(l->hs, NULL);
}

static void expect_failure(struct link *l, enum cman_tls_failure failure, const char *words)
{
	enum cman_tls_failure got;
	const char *text = cman_tls_handshake_why(l->hs, &got), *p;

	cr_assert_eq(l->state, CMAN_TLS_FAILED, "it has not failed: state %d, expected %s",
		     l->state, words);
	cr_expect_eq(got, failure, "%s: %s", cman_tls_failure_name(got), text);
	cr_expect(strstr(text, words), "expected \"%s\" in \"%s\"", words, text);
	for (p = text; *p; p++)
		cr_expect(*p >= ' ' && *p <= '~');
	/* it stays so */
	cr_expect_eq(cman_tls_handshake_feed(l->hs, (const uint8_t *)"x", 1), CMAN_TLS_FAILED);
	cr_expect_eq(cman_tls_handshake_hang_up(l->hs), CMAN_TLS_FAILED);
	cr_expect_eq(cman_tls_handshake_why(l->hs, &got), text);
	cr_expect_eq(got, failure);
}

/* ---- a leg at work ---- */

struct engine {
	struct cman_tls_leg leg;
	struct cman_tls_cipher rx, tx;
};

static void engine_init(struct engine *e, struct cman_tls_handshake *hs)
{
	const struct cman_tls_suite *suite;

	cr_assert_eq(cman_tls_handshake_leg(hs, &e->leg), 0);
	cr_assert_eq(e->leg.engine, CMAN_TLS_USER);
	suite = cman_tls_suite(e->leg.suite);
	cr_assert_not_null(suite);
	cr_assert_eq(suite->version, e->leg.version);
	cr_assert_eq(cman_tls_cipher_init(&e->rx, suite, &e->leg.rx, false), 0);
	cr_assert_eq(cman_tls_cipher_init(&e->tx, suite, &e->leg.tx, true), 0);
}

static void engine_fini(struct engine *e)
{
	cman_tls_cipher_fini(&e->rx);
	cman_tls_cipher_fini(&e->tx);
}

/* The next data on the wire; a client skips tickets. */
static void expect_data(struct engine *e, struct link *l, const char *text, size_t text_len)
{
	uint8_t out[CMAN_TLS_RECORD_MAX], type;
	size_t n, len;
	int err;

	for (;;) {
		n = record_at(l, 0);
		cr_assert(n, "no record on the wire");
		err = cman_tls_record_open(&e->rx, e->leg.rx.seq++, l->wire, n, out, sizeof(out),
					   &len, &type);
		cr_assert_eq(err, 0, "record %lu does not open: %d",
			     (unsigned long)e->leg.rx.seq - 1, err);
		consume(l, n);
		if (type == CMAN_TLS_DATA)
			break;
		cr_assert(type == CMAN_TLS_HANDSHAKE && !(e->leg.flags & CMAN_TLS_SERVER));
	}
	cr_assert_eq(len, text_len);
	cr_assert_eq(memcmp(out, text, len), 0);
}

static void say(struct engine *e, struct link *l, const char *text)
{
	uint8_t record[CMAN_TLS_RECORD_MAX];
	char got[200];
	size_t len;

	cr_assert_eq(cman_tls_record_seal(&e->tx, e->leg.tx.seq++, CMAN_TLS_DATA,
					  (const uint8_t *)text, strlen(text), record, &len),
		     0);
	cr_assert_eq(BIO_write(l->p->in, record, (int)len), (int)len);
	ERR_clear_error();
	cr_assert_eq(SSL_read(l->p->ssl, got, sizeof(got)), (int)strlen(text),
		     "the peer does not take our record: %s",
		     ERR_reason_error_string(ERR_peek_error()));
	cr_assert_eq(memcmp(got, text, strlen(text)), 0);
}

/* The handshake is over: the leg must go on at once, and for long. Also what it says of itself. */
static void expect_works(struct link *l)
{
	struct engine e;
	char text[40];
	int i, n;

	cr_assert_eq(l->state, CMAN_TLS_DONE, "%d: %s", l->state, why(l));
	take_output(l, l->p->in);
	peer_step(l->p);
	n = BIO_read(l->p->out, l->wire + l->len, (int)(sizeof(l->wire) - l->len));
	l->len += n > 0 ? (size_t)n : 0;
	engine_init(&e, l->hs);
	cr_expect_eq(e.leg.version, SSL_version(l->p->ssl));
	cr_expect_eq(e.leg.suite, SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(l->p->ssl)));
	cr_expect_eq(!!(e.leg.flags & CMAN_TLS_SERVER), !SSL_is_server(l->p->ssl));
	if (e.leg.version == CMAN_TLS_1_2) {
		cr_expect_eq(e.leg.rx.seq, 1);
		cr_expect_eq(e.leg.tx.seq, 1);
		if (cman_tls_suite(e.leg.suite)->aead != CMAN_TLS_CHACHA20_POLY1305)
			cr_expect_eq(e.leg.tx.explicit_iv, l->finished_nonce,
				     "our nonces do not go on where OpenSSL has stopped");
	}
	expect_data(&e, l, PIPELINED, sizeof(PIPELINED));
	for (i = 0; i < 5; i++) {
		snprintf(text, sizeof(text), "to the peer, number %d", i);
		say(&e, l, text);
		cr_assert_eq(SSL_write(l->p->ssl, "and back", 8), 8);
		l->len += (size_t)BIO_read(l->p->out, l->wire + l->len,
					   (int)(sizeof(l->wire) - l->len));
		expect_data(&e, l, "and back", 8);
	}
	cr_expect_eq(l->len, 0);
	engine_fini(&e);
}

/* ---- what is agreed on ---- */

static void check_listener(const struct cman_credentials *c, int version)
{
	struct cman_tls_context *ctx = context(c);
	struct peer p = client(version);
	struct link *l = link_to(cman_tls_accept(ctx), &p);

	cman_tls_context_free(ctx); /* the handshake lives on */
	shake(l);
	expect_works(l);
	if (c->nsuites == 1)
		cr_expect_eq(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(p.ssl)),
			     c->suites[0]);
	link_end(l);
}

static void check_service(const struct cman_credentials *c, int version,
			  const struct cman_certificate *backend)
{
	struct cman_tls_context *ctx = context(c);
	struct peer p = peer_of(peer_context(true, version, backend));
	struct link *l = link_to(cman_tls_connect(ctx, NULL, NULL, 0), &p);

	cman_tls_context_free(ctx);
	shake(l);
	expect_works(l);
	if (c->nsuites == 1)
		cr_expect_eq(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(p.ssl)),
			     c->suites[0]);
	link_end(l);
}

static void check_suites(bool server)
{
	struct cman_certificate ec = { NULL }, rsa = { NULL };
	size_t i, n;
	const struct cman_tls_suite *suite = cman_tls_suites(&n);
	struct cman_credentials c = server ? listener() : service();
	struct cman_certificate mine = c.own;

	MAKE(&ec, .san = "DNS:db.example");
	MAKE(&rsa, .san = "DNS:db.example", .rsa = 2048);
	c.nsuites = 1;
	for (i = 0; i < 2 * n; i++) {
		const struct cman_tls_suite *s = &suite[i / 2];
		const struct cman_certificate *certificate = i & 1 ? &rsa : &ec;

		if (s->version == CMAN_TLS_1_2 && !strstr(s->name, "-ECDSA-") == !(i & 1))
			continue;
		c.suites[0] = s->id;
		if (server)
			c.own = *certificate;
		if (server)
			check_listener(&c, s->version);
		else
			check_service(&c, s->version, certificate);
	}
	c.own = mine;
	forget(&c);
	forget_certificate(&ec);
	forget_certificate(&rsa);
}

Test(tls_handshake, all_suites_as_a_server)
{
	check_suites(true);
}

Test(tls_handshake, all_suites_as_a_client)
{
	check_suites(false);
}

Test(tls_handshake, the_newest_version_and_the_first_suite_by_default)
{
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx = context(&c);
	struct peer p = client(0);
	struct link *l;

	SSL_set_ciphersuites(p.ssl, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256");
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_works(l);
	cr_expect_eq(SSL_version(p.ssl), TLS1_3_VERSION);
	cr_expect_str_eq(SSL_get_cipher(p.ssl), "TLS_AES_128_GCM_SHA256");
	link_end(l);
	cman_tls_context_free(ctx);

	/* the listener's order, not ours and not the client's */
	c.suites[0] = 0x1303;
	c.suites[1] = 0x1301;
	c.nsuites = 2;
	ctx = context(&c);
	p = client(0);
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_works(l);
	cr_expect_str_eq(SSL_get_cipher(p.ssl), "TLS_CHACHA20_POLY1305_SHA256");
	link_end(l);
	cman_tls_context_free(ctx);
	forget(&c);
}

/* One record at a time to the other. */
static enum cman_tls_progress pass(struct cman_tls_handshake *from, struct cman_tls_handshake *to,
				   enum cman_tls_progress state)
{
	const uint8_t *out;
	size_t len;
	int n;

	while (out = cman_tls_handshake_output(from, &len), len && state == CMAN_TLS_MORE) {
		n = (int)cman_tls_record_look(out, len, NULL);
		cr_assert_gt(n, 0);
		state = cman_tls_handshake_feed(to, out, (size_t)n);
		cman_tls_handshake_sent(from, (size_t)n);
		if (state == CMAN_TLS_HELLO)
			state = cman_tls_handshake_answer(to, NULL, 0);
	}
	return state;
}

static void check_ours(uint16_t suite)
{
	struct cman_credentials lc = listener(), sc = service();
	enum cman_tls_progress s = CMAN_TLS_MORE, c = CMAN_TLS_MORE;
	struct cman_tls_handshake *server, *connecting;
	struct cman_tls_context *sctx, *cctx;
	struct cman_tls_leg a, b;
	size_t len;
	int i;

	free(sc.server_name);
	sc.server_name = NULL;
	lc.suites[0] = suite;
	lc.nsuites = 1;
	sctx = context(&lc);
	cctx = context(&sc);
	server = cman_tls_accept(sctx);
	connecting = cman_tls_connect(cctx, "front.example", NULL, 0);
	for (i = 0; i < 5; i++) {
		s = pass(connecting, server, s);
		c = pass(server, connecting, c);
	}
	cr_assert(s == CMAN_TLS_DONE && c == CMAN_TLS_DONE, "%s, %s",
		  cman_tls_handshake_why(server, NULL), cman_tls_handshake_why(connecting, NULL));
	cr_expect_str_eq(cman_tls_handshake_sni(server), "front.example");
	cr_expect_str_eq(cman_tls_handshake_sni(connecting), "front.example");
	cr_assert_eq(cman_tls_handshake_leg(server, &a), 0);
	cr_assert_eq(cman_tls_handshake_leg(connecting, &b), 0);
	cr_expect_eq(a.suite, suite);
	cr_expect_eq(memcmp(a.rx.secret, b.tx.secret, CMAN_TLS_SECRET_MAX), 0);
	cr_expect_eq(memcmp(a.tx.secret, b.rx.secret, CMAN_TLS_SECRET_MAX), 0);
	cr_expect_neq(memcmp(a.tx.secret, a.rx.secret, CMAN_TLS_SECRET_MAX), 0);
	/* what the server has sealed and the client was not fed: its tickets */
	cman_tls_handshake_output(server, &len);
	cr_expect_eq(!!len, a.version == CMAN_TLS_1_3);
	cr_expect_eq(a.tx.seq, a.version == CMAN_TLS_1_3 ? 2 : 1);
	cr_expect_eq(a.rx.seq, b.tx.seq);
	cman_tls_handshake_free(server);
	cman_tls_handshake_free(connecting);
	cman_tls_context_free(sctx);
	cman_tls_context_free(cctx);
	forget(&lc);
	forget(&sc);
}

Test(tls_handshake, ours_with_ours)
{
	check_ours(0x1301);
	check_ours(0x1302);
	check_ours(0xc02b);
	check_ours(0xcca9);
}

/* ---- names and certificates of a listener ---- */

static void sni_block(struct cman_credentials *c, const char *name)
{
	struct cman_certificate *s = &c->sni[c->nsni++];
	char san[80];

	snprintf(san, sizeof(san), "DNS:%s", name);
	MAKE(s, .san = san);
	s->name = strdup(name);
}

static bool shown(SSL *ssl, const char *name)
{
	X509 *x = SSL_get1_peer_certificate(ssl);
	const bool has = X509_check_host(x, name, 0, 0, NULL) == 1;

	X509_free(x);
	return has;
}

static void check_sni(struct cman_tls_context *ctx, int version, const char *sni,
		      const char *certificate)
{
	struct peer p = client(version);
	struct link *l;

	if (sni)
		cr_assert_eq(SSL_set_tlsext_host_name(p.ssl, sni), 1);
	l = link_to(cman_tls_accept(ctx), &p);
	l->stop_at_hello = true;
	cr_assert_eq(shake(l), CMAN_TLS_HELLO);
	cr_expect_str_eq(cman_tls_handshake_sni(l->hs), sni ? sni : "");
	l->stop_at_hello = false;
	l->state = cman_tls_handshake_answer(l->hs, NULL, 0);
	shake(l);
	expect_works(l);
	cr_expect(shown(p.ssl, certificate), "%s: expected the certificate of %s", sni ? sni : "-",
		  certificate);
	link_end(l);
}

Test(tls_handshake, the_certificate_is_chosen_by_name)
{
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx;
	int v;

	forget_certificate(&c.own);
	MAKE(&c.own, .san = "DNS:front.example", .rsa = 2048); /* another type than the others */
	sni_block(&c, "*.wild.example");
	sni_block(&c, "shop.example");
	sni_block(&c, "exact.wild.example");
	ctx = context(&c);
	for (v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
		check_sni(ctx, v, NULL, "front.example");
		check_sni(ctx, v, "unknown.example", "front.example");
		check_sni(ctx, v, "shop.example", "shop.example");
		check_sni(ctx, v, "SHOP.Example", "shop.example");
		check_sni(ctx, v, "a.wild.example", "b.wild.example");
		check_sni(ctx, v, "exact.wild.example", "exact.wild.example");
		check_sni(ctx, v, "a.b.wild.example", "front.example");
		check_sni(ctx, v, "wild.example", "front.example");
	}
	cman_tls_context_free(ctx);
	forget(&c);
}

/* Names that are none: OpenSSL as a client sends what it is given. */
Test(tls_handshake, a_name_that_is_none_is_not_passed_on)
{
	static const char *const names[] = { "a b",	     "x\"y",	  "evil\nline",
					     ".example",     "*.example", "\xc3\xa4.example",
					     "a%s%n.example" };
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx = context(&c);
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct peer p = client(0);
		struct link *l;

		cr_assert_eq(SSL_set_tlsext_host_name(p.ssl, names[i]), 1);
		l = link_to(cman_tls_accept(ctx), &p);
		l->stop_at_hello = true;
		cr_assert_eq(shake(l), CMAN_TLS_HELLO);
		cr_expect_str_eq(cman_tls_handshake_sni(l->hs), "");
		link_end(l);
	}
	cman_tls_context_free(ctx);
	forget(&c);
}

/* ---- ALPN ---- */

static const char *selected(SSL *ssl)
{
	static char name[256];
	const unsigned char *p;
	unsigned int len;

	SSL_get0_alpn_selected(ssl, &p, &len);
	snprintf(name, sizeof(name), "%.*s", (int)len, (const char *)p);
	return name;
}

/* The client's and the listener's list, the backend's choice, what comes out ("" is none, NULL: failure) */
static void check_alpn(const char *offer, const char *own, const char *choice, const char *result)
{
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx;
	struct peer p = client(0);
	struct link *l;
	const uint8_t *got;
	size_t len;

	if (*offer)
		SSL_set_alpn_protos(p.ssl, (const uint8_t *)offer, (unsigned int)strlen(offer));
	c.alpn_len = (uint32_t)strlen(own);
	memcpy(c.alpn, own, c.alpn_len);
	ctx = context(&c);
	l = link_to(cman_tls_accept(ctx), &p);
	l->stop_at_hello = true;
	cr_assert_eq(shake(l), CMAN_TLS_HELLO);
	got = cman_tls_handshake_alpn_offered(l->hs, &len);
	cr_expect_eq(len, strlen(offer));
	cr_expect_eq(!got, !*offer);
	cr_expect(!got || !memcmp(got, offer, len));
	l->stop_at_hello = false;
	l->state = cman_tls_handshake_answer(l->hs, (const uint8_t *)choice, strlen(choice));
	shake(l);
	if (!result) {
		expect_failure(l, CMAN_TLS_FAIL_ALPN, "no application protocol in common");
		cr_expect(p.dead);
	} else {
		expect_works(l);
		cr_expect_str_eq(selected(p.ssl), result, "offered %s, own %s, choice %s", offer,
				 own, choice);
		got = cman_tls_handshake_alpn(l->hs, &len);
		cr_expect_eq(len, strlen(result));
		cr_expect(*result ? !memcmp(got, result, len) : !got);
	}
	link_end(l);
	cman_tls_context_free(ctx);
	forget(&c);
}

Test(tls_handshake, alpn_of_a_listener)
{
	check_alpn("", "", "", "");
	check_alpn(H2_HTTP11, "", "", "");
	check_alpn(H2_HTTP11, "", "h2", "h2"); /* passed through */
	check_alpn(H2_HTTP11, "", "http/1.1", "http/1.1");
	check_alpn(H2_HTTP11, "\x08http/1.1\x02h2", "", "http/1.1"); /* the listener's order */
	check_alpn(H2_HTTP11, "\x02h2", "http/1.1", "http/1.1"); /* the backend has the last word */
	check_alpn(H2_HTTP11, "\x03smb\x08http/1.1", "", "http/1.1");
	check_alpn(H2_HTTP11, "\x03smb", "", NULL);
	check_alpn(H2_HTTP11, "", "smb", NULL);
	check_alpn("", "\x02h2", "", "");
	check_alpn("", "", "h2", ""); /* it has not asked */
}

static int backend_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
			const unsigned char *in, unsigned int inlen, void *arg)
{
	const char *own = arg;

	(void)ssl;
	return SSL_select_next_proto((unsigned char **)(uintptr_t)out, outlen, (const uint8_t *)own,
				     (unsigned int)strlen(own), in,
				     inlen) == OPENSSL_NPN_NEGOTIATED ?
		       SSL_TLSEXT_ERR_OK :
		       SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void check_alpn_of_service(const char *configured, const char *argument, const char *backend,
				  const char *result)
{
	struct cman_certificate certificate = { NULL };
	struct cman_credentials c = service();
	struct cman_tls_context *ctx;
	SSL_CTX *sctx;
	struct peer p;
	struct link *l;
	const uint8_t *got;
	size_t len;

	MAKE(&certificate, .san = "DNS:db.example");
	c.alpn_len = (uint32_t)strlen(configured);
	memcpy(c.alpn, configured, c.alpn_len);
	ctx = context(&c);
	sctx = peer_context(true, 0, &certificate);
	SSL_CTX_set_alpn_select_cb(sctx, backend_alpn, (void *)(uintptr_t)backend);
	p = peer_of(sctx);
	l = link_to(cman_tls_connect(ctx, NULL, (const uint8_t *)argument, strlen(argument)), &p);
	shake(l);
	if (result) {
		expect_works(l);
		got = cman_tls_handshake_alpn(l->hs, &len);
		cr_expect_eq(len, strlen(result));
		cr_expect(*result ? !memcmp(got, result, len) : !got);
	} else {
		expect_failure(l, CMAN_TLS_FAIL_ALPN, "no application protocol");
	}
	link_end(l);
	cman_tls_context_free(ctx);
	forget(&c);
	forget_certificate(&certificate);
}

Test(tls_handshake, alpn_of_a_service)
{
	check_alpn_of_service("", "", "\x02h2", "");
	check_alpn_of_service("", H2_HTTP11, "\x02h2", "h2");
	check_alpn_of_service("\x08http/1.1", H2_HTTP11, H2_HTTP11, "http/1.1");
	check_alpn_of_service("\x08http/1.1", "", "\x02h2", NULL);
}

/* ---- certificates of peers ---- */

static void check_client(struct cman_credentials *c, int version, const struct maker *m,
			 enum cman_tls_failure failure, const char *words)
{
	struct cman_tls_context *ctx = context(c);
	struct cman_certificate certificate = { NULL };
	struct peer p;
	struct link *l;

	if (m)
		make_certificate(&certificate, m);
	p = peer_of(peer_context(false, version, m ? &certificate : NULL));
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	if (failure) {
		expect_failure(l, failure, words);
	} else {
		expect_works(l);
		cr_expect_eq(sk_X509_NAME_num(SSL_get0_peer_CA_list(p.ssl)), 1);
	}
	link_end(l);
	cman_tls_context_free(ctx);
	forget_certificate(&certificate);
}

Test(tls_handshake, clients_must_show_a_certificate)
{
	struct cman_credentials c = listener();
	int v;

	c.ca = pem_of(ca.cert, NULL);
	for (v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
		check_client(&c, v, &(struct maker){ .usage = "clientAuth" }, 0, NULL);
		check_client(&c, v, &(struct maker){ .rsa = 2048 }, 0, NULL);
		check_client(&c, v, NULL, CMAN_TLS_FAIL_CERTIFICATE, "showed no certificate");
		check_client(&c, v, &(struct maker){ .issuer = &other_ca },
			     CMAN_TLS_FAIL_CERTIFICATE,
			     "its CA \"CN=other ca\" is unknown: not in the configured client_ca");
		check_client(&c, v, &(struct maker){ .self_signed = true },
			     CMAN_TLS_FAIL_CERTIFICATE,
			     "\"CN=leaf\" is refused: it is self-signed");
		check_client(&c, v, &(struct maker){ .from = -3 * DAY, .to = -DAY },
			     CMAN_TLS_FAIL_EXPIRED,
			     "the client's certificate \"CN=leaf\" is "
			     "refused: it expired on 20");
		check_client(&c, v, &(struct maker){ .from = DAY, .to = 2 * DAY },
			     CMAN_TLS_FAIL_CERTIFICATE, "is not valid before 20");
		check_client(&c, v, &(struct maker){ .usage = "serverAuth" },
			     CMAN_TLS_FAIL_CERTIFICATE, "does not allow the role of a client");
	}
	forget(&c);
}

struct backend {
	struct maker certificate;
	const char *server_name, *sni;
	bool no_verify, other_ca, mutual, no_certificate;
};

static void check_backend(const struct backend *b, enum cman_tls_failure failure, const char *words)
{
	struct cman_certificate certificate = { NULL };
	struct cman_credentials c = service();
	int v;

	make_certificate(&certificate, &b->certificate);
	free(c.server_name);
	c.server_name = b->server_name ? strdup(b->server_name) : NULL;
	c.verify = !b->no_verify;
	if (b->other_ca) {
		free(c.ca);
		c.ca = pem_of(other_ca.cert, NULL);
	}
	if (b->mutual && !b->no_certificate)
		MAKE(&c.own, .usage = "clientAuth");
	for (v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
		struct cman_tls_context *ctx = context(&c);
		SSL_CTX *sctx = peer_context(true, v, &certificate);
		struct peer p;
		struct link *l;

		if (b->mutual) {
			X509_STORE_add_cert(SSL_CTX_get_cert_store(sctx), ca.cert);
			SSL_CTX_set_verify(sctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
					   NULL);
		}
		p = peer_of(sctx);
		l = link_to(cman_tls_connect(ctx, b->sni, NULL, 0), &p);
		shake(l);
		if (failure && !(b->no_certificate && v == TLS1_3_VERSION))
			expect_failure(l, failure, words);
		else if (failure) /* in TLS 1.3 a client is through before it is judged */
			cr_expect(l->state == CMAN_TLS_DONE && p.dead);
		else
			expect_works(l);
		link_end(l);
		cman_tls_context_free(ctx);
	}
	forget(&c);
	forget_certificate(&certificate);
}

#define BACKEND(failure, words, ...) \
	check_backend(&(const struct backend){ __VA_ARGS__ }, failure, words)

Test(tls_handshake, the_backend_is_verified)
{
	static const struct maker good = { .san = "DNS:db.example,IP:192.0.2.7,IP:2001:db8::7" };

	BACKEND(0, NULL, good, .server_name = "db.example");
	BACKEND(0, NULL, good, .sni = "db.example");
	BACKEND(0, NULL, good, .server_name = "DB.example", .sni = "other.example");
	BACKEND(0, NULL, good, .server_name = "192.0.2.7");
	BACKEND(0, NULL, good, .server_name = "2001:db8::7");
	BACKEND(0, NULL, { .san = "DNS:*.int.example" }, .server_name = "db.int.example");
	BACKEND(CMAN_TLS_FAIL_NAME,
		"the backend's certificate \"CN=leaf\" has another name: expected other.example, "
		"has DNS:db.example, IP Address:192.0.2.7",
		good, .server_name = "other.example", .sni = "db.example");
	BACKEND(CMAN_TLS_FAIL_NAME, "expected 192.0.2.8, has", good, .server_name = "192.0.2.8");
	BACKEND(CMAN_TLS_FAIL_NAME, "expected leaf, has no subjectAltName", { NULL },
		.server_name = "leaf"); /* it is only its common name */
	BACKEND(CMAN_TLS_FAIL_NAME, "expected a.b.int.example", { .san = "DNS:*.int.example" },
		.server_name = "a.b.int.example");
	BACKEND(CMAN_TLS_FAIL_EXPIRED, "it expired on 20",
		{ .san = "DNS:db.example", .from = -3 * DAY, .to = -DAY }, .sni = "db.example");
	BACKEND(CMAN_TLS_FAIL_CERTIFICATE, "its CA \"CN=other ca\" is unknown",
		{ .san = "DNS:db.example", .issuer = &other_ca }, .sni = "db.example");
	BACKEND(CMAN_TLS_FAIL_CERTIFICATE, "it is self-signed",
		{ .san = "DNS:db.example", .self_signed = true }, .sni = "db.example");
	BACKEND(CMAN_TLS_FAIL_CERTIFICATE, "does not allow the role of a server",
		{ .san = "DNS:db.example", .usage = "clientAuth" }, .sni = "db.example");
	BACKEND(CMAN_TLS_FAIL_CERTIFICATE, "is unknown", good, .sni = "db.example",
		.other_ca = true);
	BACKEND(0, NULL, good, .no_verify = true);
	BACKEND(0, NULL, { .self_signed = true, .from = -3 * DAY, .to = -DAY }, .no_verify = true,
		.sni = "db.example");
}

Test(tls_handshake, a_backend_that_wants_to_see_our_certificate)
{
	static const struct maker good = { .san = "DNS:db.example" };

	BACKEND(0, NULL, good, .sni = "db.example", .mutual = true);
	BACKEND(CMAN_TLS_FAIL_CERTIFICATE, "asked for our certificate, and none is configured",
		good, .sni = "db.example", .mutual = true, .no_certificate = true);
}

Test(tls_handshake, a_service_sends_its_name)
{
	struct cman_certificate certificate = { NULL };
	struct cman_credentials c = service();
	static const char *const names[][2] = { { "db.example", "db.example" },
						{ "192.0.2.7", NULL } };
	size_t i;

	MAKE(&certificate, .san = "DNS:db.example,IP:192.0.2.7");
	for (i = 0; i < 2; i++) {
		struct cman_tls_context *ctx;
		struct peer p = peer_of(peer_context(true, 0, &certificate));
		struct link *l;
		const char *sent;

		free(c.server_name);
		c.server_name = strdup(names[i][0]);
		ctx = context(&c);
		l = link_to(cman_tls_connect(ctx, "client.example", NULL, 0), &p);
		shake(l);
		expect_works(l);
		sent = SSL_get_servername(p.ssl, TLSEXT_NAMETYPE_host_name);
		cr_expect(names[i][1] ? sent && !strcmp(sent, names[i][1]) : !sent);
		link_end(l);
		cman_tls_context_free(ctx);
	}
	forget(&c);
	forget_certificate(&certificate);
}

static void check_no_start(const struct cman_credentials *c, const char *sni, const char *alpn,
			   const char *words)
{
	struct cman_tls_context *ctx = context(c);
	struct cman_tls_handshake *hs = cman_tls_connect(ctx, sni, (const uint8_t *)alpn,
							 strlen(alpn));
	struct link *l = link_to(hs, NULL);
	size_t len;

	cman_tls_handshake_output(hs, &len);
	cr_expect_eq(len, 0);
	l->state = cman_tls_handshake_feed(hs, (const uint8_t *)"\x16\x03\x03\0\1x", 6);
	expect_failure(l, CMAN_TLS_FAIL_INTERNAL, words);
	link_end(l);
	cman_tls_context_free(ctx);
}

Test(tls_handshake, what_a_service_cannot_begin)
{
	struct cman_credentials c = service();

	check_no_start(&c, NULL, "\x02h", "list of protocols");
	free(c.server_name);
	c.server_name = NULL;
	check_no_start(&c, NULL, "", "no name");
	check_no_start(&c, "", "", "no name");
	check_no_start(&c, "no name", "", "no name");
	forget(&c);
}

/* ---- nothing in common ---- */

Test(tls_handshake, no_cipher_in_common)
{
	struct cman_certificate backend = { NULL };
	struct cman_credentials c = listener(), s = service();
	struct cman_tls_context *ctx = context(&c);
	struct peer p = client(TLS1_2_VERSION);
	struct link *l;

	SSL_set_cipher_list(p.ssl, "ECDHE-ECDSA-AES256-SHA384"); /* CBC */
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_failure(l, CMAN_TLS_FAIL_CIPHER, "the client failed: no cipher suite in common");
	cr_expect(p.dead); /* it got the alert */
	link_end(l);

	p = client(TLS1_2_VERSION);
	SSL_set_cipher_list(p.ssl, "ECDHE-RSA-AES128-GCM-SHA256"); /* our certificate is ECDSA */
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_failure(l, CMAN_TLS_FAIL_CIPHER, "no cipher suite in common");
	link_end(l);

	p = client(TLS1_3_VERSION);
	SSL_set1_groups_list(p.ssl, "ffdhe2048");
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_failure(l, CMAN_TLS_FAIL_CIPHER, "no group for the key exchange in common");
	link_end(l);
	cman_tls_context_free(ctx);

	s.suites[0] = 0x1303;
	s.nsuites = 1;
	ctx = context(&s);
	MAKE(&backend, .san = "DNS:db.example");
	p = peer_of(peer_context(true, 0, &backend));
	SSL_set_ciphersuites(p.ssl, "TLS_AES_128_GCM_SHA256");
	l = link_to(cman_tls_connect(ctx, NULL, NULL, 0), &p);
	shake(l);
	expect_failure(l, CMAN_TLS_FAIL_CIPHER,
		       "the backend broke the handshake off: handshake failure (alert 40)");
	link_end(l);
	cman_tls_context_free(ctx);
	forget(&c);
	forget(&s);
	forget_certificate(&backend);
}

static void check_old_client(struct cman_tls_context *ctx, int version, const char *words)
{
	struct peer p = client(version);
	struct link *l;

	SSL_set_security_level(p.ssl, 0);
	l = link_to(cman_tls_accept(ctx), &p);
	l->stop_at_hello = true; /* it is refused without a look at the backend */
	shake(l);
	expect_failure(l, CMAN_TLS_FAIL_VERSION, words);
	cr_expect(p.dead);
	link_end(l);
}

static void check_old_backend(struct cman_tls_context *ctx, int version, const char *words)
{
	struct cman_certificate backend = { NULL };
	struct peer p;
	struct link *l;

	MAKE(&backend, .san = "DNS:db.example");
	p = peer_of(peer_context(true, version, &backend));
	l = link_to(cman_tls_connect(ctx, NULL, NULL, 0), &p);
	shake(l);
	expect_failure(l, CMAN_TLS_FAIL_VERSION, words);
	link_end(l);
	forget_certificate(&backend);
}

Test(tls_handshake, no_version_in_common)
{
	struct cman_credentials c = listener(), s = service();
	struct cman_tls_context *ctx = context(&c);

	check_old_client(ctx, TLS1_VERSION, "the client offered TLSv1.0 at most: expected TLSv1.2");
	check_old_client(ctx, TLS1_1_VERSION, "the client offered TLSv1.1 at most");
	cman_tls_context_free(ctx);
	c.min_version = CMAN_TLS_1_3;
	ctx = context(&c);
	check_old_client(ctx, TLS1_2_VERSION,
			 "the client offered TLSv1.2 at most: expected TLSv1.3 or newer");
	cman_tls_context_free(ctx);
	c.min_version = CMAN_TLS_1_2; /* no suite for that */
	c.suites[0] = 0x1301;
	c.nsuites = 1;
	ctx = context(&c);
	check_old_client(ctx, TLS1_2_VERSION, "expected TLSv1.3");
	cman_tls_context_free(ctx);
	s.min_version = CMAN_TLS_1_3;
	ctx = context(&s);
	check_old_backend(ctx, TLS1_2_VERSION, "protocol version");
	cman_tls_context_free(ctx);
	forget(&c);
	forget(&s);
}

/* A ServerHello that is too old, from a server that does not look at what was offered. */
Test(tls_handshake, a_backend_that_chooses_an_old_version)
{
	static const uint8_t hello[] = {
		22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2, [43] = 0, 0xc0, 0x13, 0
	};
	struct cman_credentials s = service();
	struct cman_tls_context *ctx = context(&s);
	struct link *l = link_to(cman_tls_connect(ctx, NULL, NULL, 0), NULL);

	l->state = cman_tls_handshake_feed(l->hs, hello, sizeof(hello));
	expect_failure(l, CMAN_TLS_FAIL_VERSION,
		       "the backend chose TLSv1.1: expected TLSv1.2 or newer");
	link_end(l);
	cman_tls_context_free(ctx);
	forget(&s);
}

/* ---- resumption ---- */

static SSL_SESSION *kept;

static int keep(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(kept);
	kept = session;
	return 1;
}

/* Whether @ctx took the session that is kept; then the client has a new one. */
static bool resume(struct cman_tls_context *ctx, int version, const char *sni, bool certificate)
{
	struct cman_certificate c = { NULL };
	struct peer p;
	struct link *l;
	SSL_CTX *cctx;
	bool reused;

	if (certificate)
		MAKE(&c, .usage = "clientAuth");
	cctx = peer_context(false, version, certificate ? &c : NULL);
	SSL_CTX_set_session_cache_mode(cctx,
				       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
	SSL_CTX_sess_set_new_cb(cctx, keep);
	p = peer_of(cctx);
	SSL_set_tlsext_host_name(p.ssl, sni);
	if (kept)
		cr_assert_eq(SSL_set_session(p.ssl, kept), 1);
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_works(l);
	reused = SSL_session_reused(p.ssl);
	SSL_shutdown(p.ssl); /* or the session is not good any more */
	link_end(l);
	forget_certificate(&c);
	return reused;
}

static void check_resumption(int version)
{
	struct cman_credentials c = listener(), mutual = listener();
	struct cman_tls_context *ctx, *again;
	uint8_t other_key[80] = "of another instance";
	char text[200];

	sni_block(&c, "shop.example");
	ctx = context(&c);
	again = context(&c); /* of another gateway, or after a reload that changed nothing */
	cr_expect_not(resume(ctx, version, "front.example", false));
	cr_expect(resume(ctx, version, "front.example", false));
	cr_expect(resume(again, version, "front.example", false));
	cr_expect(resume(ctx, version, "front.example", false));
	/* another certificate */
	cr_expect_not(resume(ctx, version, "shop.example", false));
	cr_expect(resume(ctx, version, "shop.example", false));
	cman_tls_context_free(again);

	/* no ticket is a way around client_ca, or to suites that a listener does not have */
	mutual.index = c.index;
	free(mutual.own.certificate);
	free(mutual.own.key);
	mutual.own.certificate = strdup(c.own.certificate);
	mutual.own.key = strdup(c.own.key);
	cr_expect_not(resume(ctx, version, "front.example", false));
	mutual.ca = pem_of(ca.cert, NULL);
	again = context(&mutual);
	cr_expect_not(resume(again, version, "front.example", true));
	cr_expect(resume(again, version, "front.example", true));
	cman_tls_context_free(again);
	free(mutual.ca);
	mutual.ca = NULL;
	mutual.suites[0] = 0x1303;
	mutual.suites[1] = 0xcca9;
	mutual.nsuites = 2;
	again = context(&mutual);
	cr_expect_not(resume(again, version, "front.example", false));
	cman_tls_context_free(again);
	mutual.nsuites = 0;
	mutual.index = 7;
	again = context(&mutual);
	cr_expect_not(resume(again, version, "front.example", false));
	cman_tls_context_free(again);

	cr_assert_eq(cman_tls_context_new(&c, other_key, &again, text, sizeof(text)), 0);
	cr_expect_not(resume(ctx, version, "front.example", false));
	cr_expect_not(resume(again, version, "front.example", false));
	cman_tls_context_free(again);
	cman_tls_context_free(ctx);
	SSL_SESSION_free(kept);
	kept = NULL;
	forget(&c);
	forget(&mutual);
}

Test(tls_handshake, resumption_in_tls_1_2)
{
	check_resumption(TLS1_2_VERSION);
}

Test(tls_handshake, resumption_in_tls_1_3)
{
	check_resumption(TLS1_3_VERSION);
}

/* ---- forms of a handshake ---- */

Test(tls_handshake, hello_retry_request_as_a_server)
{
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx = context(&c);
	struct peer p = client(TLS1_3_VERSION);
	struct link *l;

	SSL_set1_groups_list(p.ssl, "ffdhe2048:P-384");
	SSL_set_tlsext_host_name(p.ssl, "front.example");
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_works(l);
	cr_expect_eq(SSL_get_negotiated_group(p.ssl), NID_secp384r1);
	cr_expect_str_eq(cman_tls_handshake_sni(l->hs), "front.example");
	link_end(l);
	cman_tls_context_free(ctx);
	forget(&c);
}

Test(tls_handshake, hello_retry_request_as_a_client)
{
	struct cman_certificate backend = { NULL };
	struct cman_credentials c = service();
	struct cman_tls_context *ctx = context(&c);
	struct peer p;
	struct link *l;

	MAKE(&backend, .san = "DNS:db.example");
	p = peer_of(peer_context(true, TLS1_3_VERSION, &backend));
	SSL_set1_groups_list(p.ssl, "P-521");
	l = link_to(cman_tls_connect(ctx, NULL, NULL, 0), &p);
	shake(l);
	expect_works(l);
	link_end(l);
	cman_tls_context_free(ctx);
	forget(&c);
	forget_certificate(&backend);
}

Test(tls_handshake, a_hello_in_many_records)
{
	static const size_t pieces[] = { 1, 3, 50, 200 };
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx = context(&c);
	size_t i;

	for (i = 0; i < 8; i++) {
		struct peer p = client(i & 1 ? TLS1_3_VERSION : TLS1_2_VERSION);
		struct link *l = link_to(cman_tls_accept(ctx), &p);

		SSL_set_tlsext_host_name(p.ssl, "front.example");
		l->fragment = pieces[i / 2];
		shake(l);
		expect_works(l);
		cr_expect_str_eq(cman_tls_handshake_sni(l->hs), "front.example");
		link_end(l);
	}
	cman_tls_context_free(ctx);
	forget(&c);
}

Test(tls_handshake, an_idle_handshake_gives_no_leg)
{
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx = context(&c);
	struct cman_tls_handshake *hs = cman_tls_accept(ctx);
	struct cman_tls_leg leg;
	size_t i;

	memset(&leg, 0xff, sizeof(leg));
	cr_expect_eq(cman_tls_handshake_leg(hs, &leg), -EIO);
	for (i = 0; i < sizeof(leg); i++)
		cr_expect_eq(((uint8_t *)&leg)[i], 0);
	cr_expect_eq(cman_tls_handshake_answer(hs, NULL, 0), CMAN_TLS_MORE);
	cman_tls_handshake_free(hs);
	cman_tls_handshake_free(NULL);
	cman_tls_context_free(ctx);
	cman_tls_context_free(NULL);
	forget(&c);
}

/* ---- what peers do wrong ---- */

static void check_fed(struct cman_tls_handshake *hs, const void *data, size_t len,
		      enum cman_tls_failure failure, const char *words)
{
	struct link *l = link_to(hs, NULL);

	l->state = cman_tls_handshake_feed(hs, data, len);
	expect_failure(l, failure, words);
	link_end(l);
}

#define FED(hs, data, failure, words) check_fed(hs, data, sizeof(data) - 1, failure, words)

Test(tls_handshake, peers_that_do_not_speak_tls)
{
	struct cman_credentials c = listener(), s = service();
	struct cman_tls_context *ctx = context(&c), *sctx = context(&s);
	static uint8_t big[CMAN_TLS_RECORD_MAX + 10] = { 22, 3, 1, 0x48, 0 };

	FED(cman_tls_accept(ctx), "GET / HTTP/1.1\r\nHost: x\r\n\r\n", CMAN_TLS_FAIL_PROTOCOL,
	    "the client does not speak TLS: expected a ClientHello, got \"GET / HTTP/1.1??\"");
	FED(cman_tls_accept(ctx), "\x00\xff\"\n%n", CMAN_TLS_FAIL_PROTOCOL, "got \"????%n\"");
	FED(cman_tls_accept(ctx), "", CMAN_TLS_FAIL_PROTOCOL, "does not speak TLS");
	FED(cman_tls_accept(ctx), "\x16\x03\x01\x00\x05xxxx", CMAN_TLS_FAIL_PROTOCOL, "TLS");
	FED(cman_tls_accept(ctx), "\x16\x03\x01\x00\x05xxxxxx", CMAN_TLS_FAIL_PROTOCOL, "TLS");
	FED(cman_tls_accept(ctx), "\x16\x03\x01\x00\x05xxxxx", CMAN_TLS_FAIL_PROTOCOL,
	    "the handshake with the client failed");
	FED(cman_tls_accept(ctx), "\x17\x03\x03\x00\x05xxxxx", CMAN_TLS_FAIL_PROTOCOL,
	    "the handshake with the client failed");
	FED(cman_tls_accept(ctx), "\x16\x03\x01\x00\x04\x02\0\0\0", CMAN_TLS_FAIL_PROTOCOL,
	    "unexpected message");
	check_fed(cman_tls_accept(ctx), big, sizeof(big), CMAN_TLS_FAIL_PROTOCOL, "TLS");
	FED(cman_tls_connect(sctx, NULL, NULL, 0), "220 mail.example ESMTP\r\n",
	    CMAN_TLS_FAIL_PROTOCOL,
	    "the backend does not speak TLS: expected a ServerHello, got \"220 mail.example\"");
	FED(cman_tls_connect(sctx, NULL, NULL, 0), "\x16\x03\x03\x00\x04\x01\0\0\0",
	    CMAN_TLS_FAIL_PROTOCOL, "the handshake with the backend failed");
	cman_tls_context_free(ctx);
	cman_tls_context_free(sctx);
	forget(&c);
	forget(&s);
}

Test(tls_handshake, alerts_say_why)
{
	static const struct {
		uint8_t alert;
		enum cman_tls_failure failure;
		const char *client, *backend;
	} alerts[] = {
		{ 0, CMAN_TLS_FAIL_CLOSED, "the client said goodbye", "the backend said goodbye" },
		{ 10, CMAN_TLS_FAIL_PROTOCOL,
		  "the client broke the handshake off: unexpected_message", "unexpected_message" },
		{ 40, CMAN_TLS_FAIL_CIPHER, "handshake failure (alert 40)", "handshake failure" },
		{ 42, CMAN_TLS_FAIL_CERTIFICATE, "refused our certificate: bad certificate",
		  "bad certificate" },
		{ 45, CMAN_TLS_FAIL_EXPIRED,
		  "the client refused our certificate: certificate expired",
		  "the backend refused our certificate" },
		{ 48, CMAN_TLS_FAIL_CERTIFICATE, "the client refused our certificate: unknown CA",
		  "the backend refused our certificate: unknown CA" },
		{ 70, CMAN_TLS_FAIL_VERSION, "protocol version", "protocol version" },
		{ 71, CMAN_TLS_FAIL_CIPHER, "insufficient security", "insufficient security" },
		{ 112, CMAN_TLS_FAIL_NAME, "does not know the name \"\"",
		  "the backend does not know the name \"db.example\"" },
		{ 116, CMAN_TLS_FAIL_CERTIFICATE, "the client refused our certificate",
		  "asked for our certificate, and none is configured" },
		{ 120, CMAN_TLS_FAIL_ALPN, "no application protocol", "no application protocol" },
		{ 200, CMAN_TLS_FAIL_PROTOCOL, "(alert 200)", "(alert 200)" },
	};
	struct cman_credentials c = listener(), s = service();
	struct cman_tls_context *ctx = context(&c), *sctx = context(&s);
	uint8_t record[7] = { 21, 3, 3, 0, 2, 2, 0 };
	struct link *l;
	struct peer p;
	size_t i;

	for (i = 0; i < sizeof(alerts) / sizeof(*alerts); i++) {
		record[5] = alerts[i].alert ? 2 : 1;
		record[6] = alerts[i].alert;
		check_fed(cman_tls_connect(sctx, NULL, NULL, 0), record, sizeof(record),
			  alerts[i].failure, alerts[i].backend);
		p = client(TLS1_2_VERSION);
		l = link_to(cman_tls_accept(ctx), &p);
		peer_step(&p);
		l->len = (size_t)BIO_read(p.out, l->wire, sizeof(l->wire));
		feed_wire(l);
		cr_assert_eq(l->state, CMAN_TLS_MORE);
		l->state = cman_tls_handshake_feed(l->hs, record, sizeof(record));
		expect_failure(l, alerts[i].failure, alerts[i].client);
		link_end(l);
	}
	cman_tls_context_free(ctx);
	cman_tls_context_free(sctx);
	forget(&c);
	forget(&s);
}

/* A client that does not know our CA: its alert comes in the middle, sealed in TLS 1.3. */
static void check_refused(int version)
{
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx = context(&c);
	struct peer p = client(version);
	struct link *l;

	SSL_set_verify(p.ssl, SSL_VERIFY_PEER, NULL);
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_failure(l, CMAN_TLS_FAIL_CERTIFICATE,
		       "the client refused our certificate: unknown CA");
	link_end(l);
	cman_tls_context_free(ctx);
	forget(&c);
}

Test(tls_handshake, a_client_that_refuses_our_certificate)
{
	check_refused(TLS1_2_VERSION);
	check_refused(TLS1_3_VERSION);
}

Test(tls_handshake, peers_that_hang_up)
{
	struct cman_credentials c = listener(), s = service();
	struct cman_tls_context *ctx = context(&c), *sctx = context(&s);
	struct link *l = link_to(cman_tls_accept(ctx), NULL);
	struct peer p = client(0);

	l->state = cman_tls_handshake_hang_up(l->hs);
	expect_failure(l, CMAN_TLS_FAIL_CLOSED,
		       "the client closed the connection before the TLS handshake");
	link_end(l);
	l = link_to(cman_tls_accept(ctx), &p);
	l->stop_at_hello = true;
	cr_assert_eq(shake(l), CMAN_TLS_HELLO);
	l->state = cman_tls_handshake_hang_up(l->hs);
	expect_failure(l, CMAN_TLS_FAIL_CLOSED, "closed the connection in the TLS handshake");
	link_end(l);
	p = client(0);
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_works(l);
	cr_expect_eq(cman_tls_handshake_hang_up(l->hs), CMAN_TLS_DONE); /* the leg's business */
	link_end(l);
	l = link_to(cman_tls_connect(sctx, NULL, NULL, 0), NULL);
	l->state = cman_tls_handshake_hang_up(l->hs);
	expect_failure(l, CMAN_TLS_FAIL_CLOSED, "the backend closed the connection");
	link_end(l);
	cman_tls_context_free(ctx);
	cman_tls_context_free(sctx);
	forget(&c);
	forget(&s);
}

Test(tls_handshake, a_record_before_the_answer)
{
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx = context(&c);
	struct peer p = client(0);
	struct link *l = link_to(cman_tls_accept(ctx), &p);

	l->stop_at_hello = true;
	cr_assert_eq(shake(l), CMAN_TLS_HELLO);
	l->state = cman_tls_handshake_feed(l->hs, (const uint8_t *)"\x14\x03\x03\0\1\1", 6);
	expect_failure(l, CMAN_TLS_FAIL_INTERNAL, "before the ClientHello was answered");
	link_end(l);
	cman_tls_context_free(ctx);
	forget(&c);
}

/* A byte of the Finished flipped: nobody may be through. */
Test(tls_handshake, a_changed_finished_is_refused)
{
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx = context(&c);
	int v;

	for (v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
		struct peer p = client(v);
		struct link *l = link_to(cman_tls_accept(ctx), &p);
		size_t n, last = 0;

		peer_step(&p);
		l->len = (size_t)BIO_read(p.out, l->wire, sizeof(l->wire));
		feed_wire(l);
		take_output(l, p.in);
		peer_step(&p);
		l->len = (size_t)BIO_read(p.out, l->wire, sizeof(l->wire));
		for (n = 0; record_at(l, n); n += record_at(l, n))
			if (v == TLS1_2_VERSION || !last || l->wire[last] == CMAN_TLS_CCS)
				last = n; /* in TLS 1.3 data is behind it */
		l->wire[last + record_at(l, last) - 1] ^= 1;
		feed_wire(l);
		expect_failure(l, CMAN_TLS_FAIL_PROTOCOL, "the handshake with the client failed");
		link_end(l);
	}
	cman_tls_context_free(ctx);
	forget(&c);
}

/* The client's Finished, and a HelloRequest behind it in the same record. */
static size_t finished_and_more(SSL *ssl, const uint8_t *record, size_t len, uint8_t *ret_record)
{
	const struct cman_tls_suite *suite = cman_tls_suite(
		SSL_CIPHER_get_protocol_id(SSL_SESSION_get0_cipher(SSL_get_session(ssl))));
	uint8_t master[48], randoms[64], text[CMAN_TLS_RECORD_MAX], type;
	struct cman_tls_cipher open, seal;
	struct cman_tls_half rx, tx;
	size_t n;

	cr_assert_eq(SSL_SESSION_get_master_key(SSL_get_session(ssl), master, 48), 48);
	SSL_get_client_random(ssl, randoms, 32);
	SSL_get_server_random(ssl, randoms + 32, 32);
	cr_assert_eq(cman_tls_keys_block(suite, master, 48, randoms, randoms + 32, false, &rx, &tx),
		     0);
	cr_assert_eq(cman_tls_cipher_init(&open, suite, &tx, false), 0);
	cr_assert_eq(cman_tls_cipher_init(&seal, suite, &tx, true), 0);
	cr_assert_eq(cman_tls_record_open(&open, 0, record, len, text, sizeof(text), &n, &type), 0);
	cr_assert(type == CMAN_TLS_HANDSHAKE && text[0] == SSL3_MT_FINISHED);
	memset(text + n, 0, 4);
	cr_assert_eq(cman_tls_record_seal(&seal, 0, type, text, n + 4, ret_record, &len), 0);
	cman_tls_cipher_fini(&open);
	cman_tls_cipher_fini(&seal);
	return len;
}

/* What OpenSSL would keep for itself. */
Test(tls_handshake, nothing_may_share_a_record_with_finished)
{
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx = context(&c);
	struct peer p = client(TLS1_2_VERSION);
	struct link *l = link_to(cman_tls_accept(ctx), &p);
	uint8_t record[CMAN_TLS_RECORD_MAX];
	size_t at, n, len;

	peer_step(&p);
	l->len = (size_t)BIO_read(p.out, l->wire, sizeof(l->wire));
	feed_wire(l);
	take_output(l, p.in);
	peer_step(&p);
	l->len = (size_t)BIO_read(p.out, l->wire, sizeof(l->wire));
	for (at = n = 0; record_at(l, at + n); n = record_at(l, at))
		at += n;
	len = finished_and_more(p.ssl, l->wire + at, n, record);
	l->len = at;
	feed_wire(l);
	cr_assert_eq(l->state, CMAN_TLS_MORE);
	l->state = cman_tls_handshake_feed(l->hs, record, len);
	expect_failure(l, CMAN_TLS_FAIL_PROTOCOL,
		       "the client put more into the record of its last handshake message");
	link_end(l);
	cman_tls_context_free(ctx);
	forget(&c);
}

Test(tls_handshake, failures_have_names)
{
	int i, k;

	for (i = 0; i < CMAN_TLS_FAILURES; i++)
		for (k = 0; k < i; k++)
			cr_expect_str_neq(cman_tls_failure_name(i), cman_tls_failure_name(k));
	cr_expect_str_eq(cman_tls_failure_name(CMAN_TLS_FAIL_EXPIRED), "expired");
}

/* ---- contexts ---- */

static void expect_refused(const struct cman_credentials *c, const char *words)
{
	struct cman_tls_context *ctx = NULL;
	char text[200] = "";

	cr_expect_eq(cman_tls_context_new(c, ticket_key, &ctx, text, sizeof(text)), -EINVAL);
	cr_expect(strstr(text, words), "expected \"%s\" in \"%s\"", words, text);
	cr_expect_null(ctx);
}

Test(tls_handshake, credentials_that_cannot_be)
{
	struct cman_credentials c = listener(), other = listener(), s = service();
	struct cman_certificate own = c.own;

	c.own.certificate = NULL;
	expect_refused(&c, "no certificate");
	c.own.certificate = (char *)(uintptr_t) "text";
	expect_refused(&c, "certificate: no certificate in it");
	c.own.certificate = (char *)(uintptr_t) "-----BEGIN CERTIFICATE-----\nAAAA\n"
						"-----END CERTIFICATE-----\n";
	expect_refused(&c, "certificate: a damaged certificate");
	c.own = own;
	c.own.key = other.own.key;
	expect_refused(&c, "key: does not belong to the certificate");
	c.own.key = own.certificate;
	expect_refused(&c, "key: cannot be read");
	c.own = own;
	sni_block(&c, "shop.example");
	free(c.sni[0].key);
	c.sni[0].key = strdup(own.key);
	expect_refused(&c, "key: does not belong");
	forget_certificate(&c.sni[0]);
	MAKE(&c.sni[0], .rsa = 1024);
	c.sni[0].name = strdup("weak.example");
	expect_refused(&c, "expected RSA of 2048 bits or more");
	forget_certificate(&c.sni[0]);
	c.nsni = 0;
	c.ca = strdup("");
	expect_refused(&c, "client_ca: no certificate in it");
	c.suites[0] = 0xc02b;
	c.nsuites = 1;
	c.min_version = CMAN_TLS_1_3;
	expect_refused(&c, "ciphers: none of them is for TLSv1.3");
	free(s.ca);
	s.ca = strdup("x");
	expect_refused(&s, "ca: no certificate in it");
	free(s.ca);
	s.ca = NULL;
	expect_refused(&s, "ca: none to verify with");
	forget(&c);
	forget(&other);
	forget(&s);
}

/* Secrets are only ours, whatever the environment asks for. */
Test(tls_handshake, secrets_reach_no_file)
{
	char path[500];
	struct cman_credentials c = listener();

	snprintf(path, sizeof(path), "%s", cert_file("keylog"));
	setenv("SSLKEYLOGFILE", path, 1);
	check_listener(&c, TLS1_3_VERSION);
	check_listener(&c, TLS1_2_VERSION);
	cr_expect_null(getenv("SSLKEYLOGFILE"));
	cr_expect_eq(access(path, F_OK), -1);
	forget(&c);
}

/* OpenSSL's configuration is read once, before the first use of it in the process. */
static void begin_widened(void)
{
	static const char text[] = "openssl_conf = all\n[all]\nssl_conf = modules\n[modules]\n"
				   "system_default = wide\n[wide]\nMinProtocol = TLSv1\n"
				   "CipherString = ALL:@SECLEVEL=0\nCiphersuites = "
				   "TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256\n"
				   "Groups = ffdhe2048\nOptions = UnsafeLegacyRenegotiation,"
				   "-ServerPreference,Compression\nVerifyMode = Request\n";
	char path[] = "/tmp/cman-test-conf-XXXXXX";
	int fd = mkstemp(path);

	cr_assert(fd >= 0 && write(fd, text, sizeof(text) - 1) == sizeof(text) - 1);
	close(fd);
	setenv("OPENSSL_CONF", path, 1);
	OPENSSL_init_ssl(0, NULL);
	unlink(path);
	begin();
}

TestSuite(tls_handshake_conf, .init = begin_widened, .fini = end, .timeout = 60);

Test(tls_handshake_conf, the_configuration_file_widens_nothing)
{
	struct cman_credentials c = listener();
	struct cman_tls_context *ctx = context(&c);
	struct peer p = client(TLS1_2_VERSION);
	struct link *l;

	/* it is in effect: this context has what ours must not have */
	cr_assert_eq(SSL_CTX_get_security_level(p.ctx), 0);
	check_old_client(ctx, TLS1_1_VERSION, "the client offered TLSv1.1 at most");
	SSL_set_cipher_list(p.ssl, "ECDHE-ECDSA-AES128-SHA:AES128-SHA");
	SSL_set1_groups_list(p.ssl, "P-256");
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_failure(l, CMAN_TLS_FAIL_CIPHER, "no cipher suite in common");
	link_end(l);
	p = client(TLS1_3_VERSION);
	SSL_set_ciphersuites(p.ssl, "TLS_AES_128_CCM_SHA256");
	SSL_set1_groups_list(p.ssl, "P-256");
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_failure(l, CMAN_TLS_FAIL_CIPHER, "no cipher suite in common");
	link_end(l);
	p = client(TLS1_3_VERSION);
	SSL_set1_groups_list(p.ssl, "P-256");
	l = link_to(cman_tls_accept(ctx), &p);
	shake(l);
	expect_works(l);
	cr_expect_eq(sk_X509_NAME_num(SSL_get0_peer_CA_list(p.ssl)), -1, "a certificate was asked");
	link_end(l);
	cman_tls_context_free(ctx);
	MAKE(&c.sni[0], .rsa = 1024);
	c.sni[0].name = strdup("weak.example");
	c.nsni = 1;
	expect_refused(&c, "expected RSA of 2048 bits or more");
	forget(&c);
}
