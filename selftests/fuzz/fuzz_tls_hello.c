// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes the handshake with what a peer may send. The first byte of an input is the scene:
 *	bit 0	we are the client, else the server
 *	bit 1	TLS 1.3, else TLS 1.2
 *	bit 2	the rest is what the peer sends, cut into records; else it is a list of changes of six
 *		bytes (which record, what, where, how much) to what a real OpenSSL peer sends
 *	bit 3	a server asks for client certificates, and has one to show
 *	bit 4	the server has an ALPN list of its own, else the client is answered with "h2"
 * Changes keep the lengths of record, message and extensions right where that lets them get deeper.
 * Whatever comes, a failure has a class and a printable sentence, the output is whole records, and a
 * handshake that is done has a leg whose first record the real peer takes.
 */
#define OPENSSL_SUPPRESS_DEPRECATED /* RAND_set_rand_method(): a failure must happen again */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/tls.h"
#include "usr/tls/handshake.h"
#include "usr/tls/record.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { CLIENT = 1, TLS_1_3 = 2, RAW = 4, MUTUAL = 8, OWN_ALPN = 16 };
#define ALPN	 "\x02h2\x08http/1.1"
#define CHANGE	 6
#define MAX_WIRE (1 << 17)

static char *certificate, *key;
static struct cman_tls_context *ours[4]; /* service; listener by MUTUAL and OWN_ALPN */
static struct cman_tls_context *services[2];
static SSL_CTX *peers[2]; /* a server, a client */
static uint64_t random_state;

/* ---- the same numbers each time ---- */

static int random_bytes(unsigned char *buf, int n)
{
	for (int i = 0; i < n; i++) {
		random_state = random_state * 6364136223846793005u + 1442695040888963407u;
		buf[i] = (unsigned char)(random_state >> 56);
	}
	return 1;
}

static int random_status(void)
{
	return 1;
}

static const RAND_METHOD same_numbers = {
	.bytes = random_bytes,
	.pseudorand = random_bytes,
	.status = random_status,
};

/* ---- what is made once ---- */

static char *text_of(BIO *bio)
{
	char *data, *text;

	CHECK(BIO_write(bio, "", 1) == 1); /* it ends nowhere else */
	BIO_get_mem_data(bio, &data);
	text = strdup(data);
	CHECK(text);
	BIO_free(bio);
	return text;
}

static void make_certificate(X509 **ret_x, EVP_PKEY **ret_key)
{
	EVP_PKEY *k = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:a.example");
	BIO *x_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());

	CHECK(k && x && e && x_bio && key_bio);
	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -86400L);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400L * 365);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
				   (const unsigned char *)"fuzz", -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	X509_set_pubkey(x, k);
	CHECK(X509_add_ext(x, e, -1) && X509_sign(x, k, EVP_sha256()));
	X509_EXTENSION_free(e);
	CHECK(PEM_write_bio_X509(x_bio, x) &&
	      PEM_write_bio_PrivateKey(key_bio, k, NULL, NULL, 0, NULL, NULL));
	certificate = text_of(x_bio);
	key = text_of(key_bio);
	*ret_x = x;
	*ret_key = k;
}

static struct cman_tls_context *context(bool server, bool mutual, bool alpn)
{
	static const uint8_t ticket_key[80];
	struct cman_credentials c = { .server = server, .min_version = CMAN_TLS_1_2 };
	struct cman_tls_context *ctx;
	char why[200];

	if (server || mutual) {
		c.own.certificate = certificate;
		c.own.key = key;
	}
	if (server) {
		c.sni[0] = c.own;
		c.sni[0].name = (char *)(uintptr_t) "*.example";
		c.nsni = 1;
	}
	if (!server || mutual)
		c.ca = certificate;
	c.verify = !server;
	if (alpn) {
		c.alpn_len = sizeof(ALPN) - 1;
		memcpy(c.alpn, ALPN, c.alpn_len);
	}
	CHECK(!cman_tls_context_new(&c, ticket_key, &ctx, why, sizeof(why)));
	return ctx;
}

static int choose_first(SSL *ssl, const unsigned char **out, unsigned char *outlen,
			const unsigned char *in, unsigned int inlen, void *arg)
{
	(void)ssl;
	(void)inlen;
	(void)arg;
	*out = in + 1;
	*outlen = *in;
	return SSL_TLSEXT_ERR_OK;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	EVP_PKEY *k;
	X509 *x;
	int i;

	(void)argc;
	(void)argv;
	make_certificate(&x, &k);
	for (i = 0; i < 4; i++)
		ours[i] = context(true, i & 1, i & 2);
	for (i = 0; i < 2; i++)
		services[i] = context(false, i, i);
	for (i = 0; i < 2; i++) {
		peers[i] = SSL_CTX_new(i ? TLS_client_method() : TLS_server_method());
		CHECK(peers[i] && SSL_CTX_use_cert_and_key(peers[i], x, k, NULL, 1) == 1);
		SSL_CTX_set_session_cache_mode(peers[i], SSL_SESS_CACHE_OFF);
		X509_STORE_add_cert(SSL_CTX_get_cert_store(peers[i]), x);
	}
	SSL_CTX_set_alpn_select_cb(peers[0], choose_first, NULL);
	X509_free(x);
	EVP_PKEY_free(k);
	CHECK(RAND_set_rand_method(&same_numbers));
	return 0;
}

/* ---- a record with its changes ---- */

struct record {
	uint8_t data[CMAN_TLS_RECORD_MAX + 600];
	size_t len;
};

static void put(uint8_t *p, size_t width, size_t v)
{
	while (width--) {
		p[width] = (uint8_t)v;
		v >>= 8;
	}
}

static size_t get(const uint8_t *p, size_t width)
{
	size_t v = 0;

	while (width--)
		v = v << 8 | *p++;
	return v;
}

/* @n bytes more (or less) at @at; the length of record and first message follow. */
static void resize(struct record *r, size_t at, long n, uint8_t filler)
{
	size_t tail = r->len - at;

	if (n < 0 && (size_t)-n > tail)
		n = -(long)tail;
	if (r->len + (size_t)n > sizeof(r->data))
		return;
	if (n > 0) {
		memmove(r->data + at + n, r->data + at, tail);
		memset(r->data + at, filler, (size_t)n);
	} else {
		memmove(r->data + at, r->data + at - n, tail + (size_t)n);
	}
	r->len = r->len + (size_t)n;
	put(r->data + 3, 2, r->len - 5);
	if (r->data[0] == CMAN_TLS_HANDSHAKE && at >= 9 && r->len >= 9)
		put(r->data + 6, 3, get(r->data + 6, 3) + (size_t)n);
}

/* Where the extensions of a ClientHello begin (their length), 0: there are none. */
static size_t extensions(const struct record *r)
{
	size_t at = 5 + 4 + 2 + 32;

	if (r->len <= at || r->data[0] != CMAN_TLS_HANDSHAKE || r->data[5] != SSL3_MT_CLIENT_HELLO)
		return 0;
	at += 1u + r->data[at];
	if (at + 2 > r->len)
		return 0;
	at += 2 + get(r->data + at, 2);
	if (at >= r->len)
		return 0;
	at += 1u + r->data[at];
	return at + 2 <= r->len ? at : 0;
}

/* The extension number @n (counted round), with its length; 0: none. */
static size_t extension(const struct record *r, size_t list, size_t n, size_t *ret_len)
{
	size_t at, count = 0, round;

	for (round = 0; round < 2; round++) {
		for (at = list + 2; at + 4 <= r->len; at += *ret_len) {
			*ret_len = 4 + get(r->data + at + 2, 2);
			if (*ret_len > r->len - at)
				return 0;
			if (round && !(n-- % count))
				return at;
			count += !round;
		}
		if (!count)
			return 0;
		n %= count;
	}
	return 0;
}

/* Removes, repeats, grows, shrinks or renames one extension; all lengths around it stay right. */
static void change_extension(struct record *r, uint8_t how, size_t which, uint8_t value)
{
	size_t list = extensions(r), len, at = list ? extension(r, list, which, &len) : 0;
	uint8_t copy[600];
	long n = 0;

	if (!at)
		return;
	switch (how % 5) {
	case 0:
		n = -(long)len;
		resize(r, at, n, 0);
		break;
	case 1:
		if (len > sizeof(copy))
			return;
		memcpy(copy, r->data + at, len);
		n = (long)len;
		resize(r, at, n, 0);
		memcpy(r->data + at, copy, len);
		break;
	case 2:
	case 3:
		n = how % 5 == 2 ? value % 32 : -(long)(value % (len - 3));
		put(r->data + at + 2, 2, len - 4 + (size_t)n);
		resize(r, n > 0 ? at + len : at + len + (size_t)n, n, value);
		break;
	default:
		put(r->data + at, 2, value);
	}
	put(r->data + list, 2, get(r->data + list, 2) + (size_t)n);
}

enum { KEEP, DROP, TWICE, HANG_UP };

static int change(struct record *r, const uint8_t *c)
{
	size_t at = 5 + get(c + 2, 2) % (r->len > 5 ? r->len - 5 : 1);

	if (at >= r->len)
		return KEEP;
	switch (c[1] >> 4) {
	case 0:
		r->data[at] ^= (uint8_t)(1 << (c[5] & 7));
		return KEEP;
	case 1:
		r->data[at] = c[5];
		return KEEP;
	case 2:
		if (at + 2 <= r->len)
			put(r->data + at, 2, get(c + 4, 2));
		return KEEP;
	case 3:
		resize(r, at, 1 + c[4], c[5]);
		return KEEP;
	case 4:
		resize(r, at, -(1 + (long)c[5]), 0);
		return KEEP;
	case 5: /* the record alone gets shorter */
		r->len = at;
		put(r->data + 3, 2, r->len - 5);
		return KEEP;
	case 6:
		r->data[0] = (uint8_t)(20 + c[5] % 4);
		return KEEP;
	case 7:
		return DROP;
	case 8:
		return TWICE;
	case 9:
		return HANG_UP;
	case 10:
		r->data[c[5] % 3] ^= c[4];
		return KEEP;
	default:
		change_extension(r, c[1], get(c + 2, 2), c[5]);
		return KEEP;
	}
}

/* ---- a run ---- */

struct run {
	uint8_t scene;
	const uint8_t *data; /* of the input, behind the scene */
	size_t size;
	struct cman_tls_handshake *hs;
	enum cman_tls_progress state;
	SSL *peer; /* NULL: RAW */
	BIO *in, *out;
	unsigned int count; /* records of the peer */
};

static void check_state(struct run *run)
{
	enum cman_tls_failure failure;
	const char *why, *sni;
	const uint8_t *p;
	size_t len, n;

	p = cman_tls_handshake_output(run->hs, &len);
	for (; len; p += n, len -= n) { /* OpenSSL's alert for a version that is none quotes it */
		CHECK(len >= CMAN_TLS_HEADER);
		n = CMAN_TLS_HEADER + get(p + 3, 2);
		CHECK(n <= len);
	}
	sni = cman_tls_handshake_sni(run->hs);
	CHECK(strlen(sni) < 256);
	p = cman_tls_handshake_alpn_offered(run->hs, &len);
	for (; len; p += n, len -= n) {
		n = 1u + *p;
		CHECK(n > 1 && n <= len);
	}
	why = cman_tls_handshake_why(run->hs, &failure);
	CHECK((run->state == CMAN_TLS_FAILED) == (failure != CMAN_TLS_FAIL_NONE));
	CHECK((run->state == CMAN_TLS_FAILED) == !!*why);
	for (; *why; why++)
		CHECK(*why >= ' ' && *why <= '~');
}

static void feed(struct run *run, const uint8_t *record, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1); /* a read behind its end is seen */

	CHECK(copy);
	memcpy(copy, record, len);
	run->state = cman_tls_handshake_feed(run->hs, copy, len);
	free(copy);
	check_state(run);
	if (run->state == CMAN_TLS_HELLO) {
		run->state = cman_tls_handshake_answer(run->hs, (const uint8_t *)"h2",
						       run->scene & OWN_ALPN ? 0 : 2);
		check_state(run);
	}
}

static void feed_changed(struct run *run, const uint8_t *record, size_t len)
{
	static struct record r;
	int what = KEEP;
	size_t i;

	memcpy(r.data, record, len);
	r.len = len;
	for (i = 0; i + CHANGE <= run->size && what == KEEP; i += CHANGE)
		if (run->data[i] % 16 == run->count)
			what = change(&r, run->data + i);
	run->count++;
	if (what == HANG_UP)
		run->state = cman_tls_handshake_hang_up(run->hs);
	if (what == KEEP || what == TWICE)
		feed(run, r.data, r.len);
	if (what == TWICE)
		feed(run, r.data, r.len);
}

/* Everything behind the peer's last message stays where it is. */
static void from_peer(struct run *run)
{
	uint8_t header[5];
	static uint8_t record[CMAN_TLS_RECORD_MAX];
	size_t len;

	while (run->state == CMAN_TLS_MORE && BIO_ctrl_pending(run->out) >= sizeof(header)) {
		CHECK(BIO_read(run->out, header, sizeof(header)) == sizeof(header));
		memcpy(record, header, sizeof(header));
		len = get(header + 3, 2);
		CHECK(BIO_read(run->out, record + 5, (int)len) == (int)len);
		feed_changed(run, record, 5 + len);
	}
}

static void to_peer(struct run *run)
{
	const uint8_t *p;
	size_t len;

	p = cman_tls_handshake_output(run->hs, &len);
	CHECK(BIO_write(run->in, p, (int)len) == (int)len);
	cman_tls_handshake_sent(run->hs, len);
}

/* What we seal first must open there: both have agreed on the same. */
static void check_leg(struct run *run)
{
	uint8_t record[200], got[200];
	struct cman_tls_cipher cipher;
	struct cman_tls_leg leg;
	size_t len;

	CHECK(!cman_tls_handshake_leg(run->hs, &leg));
	CHECK(!cman_tls_cipher_init(&cipher, cman_tls_suite(leg.suite), &leg.tx, true));
	CHECK(!cman_tls_record_seal(&cipher, leg.tx.seq, CMAN_TLS_DATA, (const uint8_t *)"data", 4,
				    record, &len));
	cman_tls_cipher_fini(&cipher);
	to_peer(run);
	CHECK(BIO_write(run->in, record, (int)len) == (int)len);
	ERR_clear_error();
	CHECK(SSL_read(run->peer, got, sizeof(got)) == 4 && !memcmp(got, "data", 4));
}

static void run_live(struct run *run)
{
	int i;

	for (i = 0; i < 8 && run->state == CMAN_TLS_MORE; i++) {
		to_peer(run);
		ERR_clear_error();
		SSL_do_handshake(run->peer);
		from_peer(run);
	}
	if (run->state == CMAN_TLS_DONE)
		check_leg(run);
}

static void run_raw(struct run *run)
{
	const uint8_t *p = run->data, *end = p + run->size;
	struct cman_tls_leg leg;
	size_t n;

	while (p < end && run->state == CMAN_TLS_MORE) {
		n = end - p < 5 ? (size_t)(end - p) : 5 + get(p + 3, 2);
		if (n > (size_t)(end - p))
			n = (size_t)(end - p);
		feed(run, p, n);
		p += n;
	}
	if (run->state == CMAN_TLS_DONE)
		CHECK(!cman_tls_handshake_leg(run->hs, &leg));
}

static void make_peer(struct run *run)
{
	const int version = run->scene & TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
	const bool server = run->scene & CLIENT;

	run->peer = SSL_new(peers[!server]);
	run->in = BIO_new(BIO_s_mem());
	run->out = BIO_new(BIO_s_mem());
	CHECK(run->peer && run->in && run->out);
	SSL_set_bio(run->peer, run->in, run->out);
	SSL_set_max_proto_version(run->peer, version);
	if (server) {
		SSL_set_accept_state(run->peer);
		if (run->scene & MUTUAL)
			SSL_set_verify(run->peer, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
				       NULL);
		return;
	}
	SSL_set_connect_state(run->peer);
	SSL_set_tlsext_host_name(run->peer, "a.example");
	SSL_set_alpn_protos(run->peer, (const uint8_t *)ALPN, sizeof(ALPN) - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run run = { .state = CMAN_TLS_MORE };

	if (!size)
		return 0;
	random_state = 1;
	run.scene = data[0];
	run.data = data + 1;
	run.size = size - 1;
	if (run.scene & CLIENT)
		run.hs = cman_tls_connect(services[!!(run.scene & MUTUAL)], "a.example",
					  (const uint8_t *)ALPN, sizeof(ALPN) - 1);
	else
		run.hs = cman_tls_accept(
			ours[!!(run.scene & MUTUAL) + 2 * !!(run.scene & OWN_ALPN)]);
	CHECK(run.hs);
	if (run.scene & RAW) {
		run_raw(&run);
	} else {
		make_peer(&run);
		run_live(&run);
	}
	SSL_free(run.peer);
	cman_tls_handshake_hang_up(run.hs);
	cman_tls_handshake_free(run.hs);
	ERR_clear_error();
	return 0;
}
