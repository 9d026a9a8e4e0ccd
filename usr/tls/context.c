/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the texts of a tls block to an SSL_CTX. OpenSSL applies the system's configuration file to each
 * new SSL_CTX (config(5), "system_default"): every setting that matters is made here, after that, and
 * its options are cleared first. A server's certificates are kept aside and given to each handshake,
 * which knows the name that its client asks for.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "usr/core/tls.h"
#include "usr/tls/context_impl.h"

#define GROUPS	"X25519:P-256:P-384:P-521:X448"
#define TICKETS 2 /* of a full TLS 1.3 handshake */
#define OPTIONS \
	(SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | \
	 SSL_OP_ENABLE_MIDDLEBOX_COMPAT)
/* TLS 1.2 by RFC 5246 and 8422; SHA-1 and SHA-224 are not in it */
#define SIGNATURES \
	"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:ed448:" \
	"rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:" \
	"rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:" \
	"RSA+SHA256:RSA+SHA384:RSA+SHA512"

struct loading {
	const struct cman_credentials *c;
	struct cman_tls_context *ctx;
	EVP_MD_CTX *settings; /* digest of what all certificates of the listener share */
	char *why;
	size_t why_size;
};

static int refuse(struct loading *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int refuse(struct loading *l, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(l->why, l->why_size, format, args);
	va_end(args);
	return -EINVAL;
}

static int no_memory(struct loading *l)
{
	refuse(l, "out of memory");
	return -ENOMEM;
}

static const char *ssl_reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text ? text : "unknown error";
}

/* ---- PEM ---- */

/* All certificates of @pem, appended. The number of them, or refused. */
static int read_certificates(struct loading *l, const char *what, const char *pem,
			     STACK_OF(X509) * certificates)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *x;
	int n = 0, err = 0;

	if (!bio)
		return no_memory(l);
	while (!err && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		n++;
		if (!sk_X509_push(certificates, x)) {
			X509_free(x);
			err = no_memory(l);
		}
	}
	if (!err && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		err = refuse(l, "%s: a damaged certificate (%s): expected PEM", what, ssl_reason());
	else if (!err && !n)
		err = refuse(l, "%s: no certificate in it: expected PEM", what);
	ERR_clear_error();
	BIO_free(bio);
	return err ? err : n;
}

/* Instead of OpenSSL's own, which asks on the terminal. */
static int no_password(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static int read_key(struct loading *l, const char *pem, EVP_PKEY **ret_key)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);

	if (!bio)
		return no_memory(l);
	*ret_key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
	BIO_free(bio);
	return *ret_key ? 0 :
			  refuse(l, "key: cannot be read (%s): expected PEM, not encrypted",
				 ssl_reason());
}

/* ---- certificates of our own ---- */

static void identity_fini(struct cman_tls_identity *i)
{
	free(i->name);
	X509_free(i->leaf);
	sk_X509_pop_free(i->chain, X509_free);
	EVP_PKEY_free(i->key);
}

static int identity_init(struct loading *l, struct cman_tls_identity *i,
			 const struct cman_certificate *from)
{
	int err;

	if (!from->certificate || !from->key)
		return refuse(l, "no certificate with a key: expected both");
	i->chain = sk_X509_new_null();
	if (!i->chain)
		return no_memory(l);
	if (from->name) {
		i->name = strdup(from->name);
		if (!i->name)
			return no_memory(l);
	}
	err = read_certificates(l, "certificate", from->certificate, i->chain);
	if (err < 0)
		return err;
	i->leaf = sk_X509_shift(i->chain);
	err = read_key(l, from->key, &i->key);
	if (err)
		return err;
	if (X509_check_private_key(i->leaf, i->key) != 1)
		return refuse(l, "key: does not belong to the certificate");
	return 0;
}

/* All that a session was made under: @settings, and the certificate. */
static int identity_bind(struct loading *l, struct cman_tls_identity *i)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint8_t leaf[32];
	int ok;

	ok = md && X509_digest(i->leaf, EVP_sha256(), leaf, NULL) == 1 &&
	     EVP_MD_CTX_copy_ex(md, l->settings) == 1 &&
	     EVP_DigestUpdate(md, leaf, sizeof(leaf)) == 1 &&
	     EVP_DigestFinal_ex(md, i->session_id_context, NULL) == 1;
	EVP_MD_CTX_free(md);
	return ok ? 0 : no_memory(l);
}

int cman_tls_identity_use(const struct cman_tls_identity *identity, SSL *ssl)
{
	SSL_certs_clear(ssl); /* the configuration file of OpenSSL may name one */
	if (SSL_use_cert_and_key(ssl, identity->leaf, identity->key, identity->chain, 1) != 1 ||
	    SSL_set_session_id_context(ssl, identity->session_id_context,
				       sizeof(identity->session_id_context)) != 1)
		return -EINVAL;
	return 0;
}

/* What OpenSSL would say to it in the first handshake: a key too short, a weak digest. */
static int identity_try(struct loading *l, const struct cman_tls_identity *i)
{
	SSL *ssl = SSL_new(l->ctx->ssl);
	int err = 0;

	if (!ssl)
		return no_memory(l);
	if (cman_tls_identity_use(i, ssl))
		err = refuse(l,
			     "certificate: cannot be used (%s): expected RSA of 2048 bits or more, "
			     "or ECDSA",
			     ssl_reason());
	SSL_free(ssl);
	return err;
}

const struct cman_tls_identity *cman_tls_context_identity(const struct cman_tls_context *ctx,
							  const char *sni)
{
	const char *rest = strchr(sni, '.');
	size_t i;

	for (i = 0; i < ctx->nsni; i++)
		if (!strcasecmp(ctx->sni[i].name, sni))
			return &ctx->sni[i];
	for (i = 0; rest && rest > sni && i < ctx->nsni; i++)
		if (ctx->sni[i].name[0] == '*' && !strcasecmp(ctx->sni[i].name + 1, rest))
			return &ctx->sni[i];
	return &ctx->own;
}

/* ---- what both sides have ---- */

/* OpenSSL's list of the suites of one version, "" for none. */
static void list_suites(const struct cman_credentials *c, uint16_t version, char *buf, size_t size)
{
	size_t i, n, used = 0;
	const struct cman_tls_suite *suite, *all = cman_tls_suites(&n);

	*buf = '\0';
	if (c->nsuites)
		n = c->nsuites;
	for (i = 0; i < n; i++) {
		suite = c->nsuites ? cman_tls_suite(c->suites[i]) : &all[i];
		if (suite && suite->version == version && used < size)
			used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ":" : "",
						 suite->name);
	}
}

/* Only ours; a version without any is not offered. */
static int set_suites(struct loading *l)
{
	SSL_CTX *ssl = l->ctx->ssl;
	char tls12[512], tls13[512];
	bool use12, use13;

	list_suites(l->c, CMAN_TLS_1_2, tls12, sizeof(tls12));
	list_suites(l->c, CMAN_TLS_1_3, tls13, sizeof(tls13));
	use12 = *tls12 && l->c->min_version <= CMAN_TLS_1_2;
	use13 = *tls13;
	if (!use12 && !use13)
		return refuse(l, "ciphers: none of them is for %s or newer",
			      cman_tls_version_name(l->c->min_version));
	l->ctx->min_version = use12 ? CMAN_TLS_1_2 : CMAN_TLS_1_3;
	if ((use12 && SSL_CTX_set_cipher_list(ssl, tls12) != 1) ||
	    SSL_CTX_set_ciphersuites(ssl, tls13) != 1 ||
	    SSL_CTX_set_min_proto_version(ssl, l->ctx->min_version) != 1 ||
	    SSL_CTX_set_max_proto_version(ssl, use13 ? CMAN_TLS_1_3 : CMAN_TLS_1_2) != 1)
		return refuse(l, "ciphers: this OpenSSL does not have all of them: %s",
			      ssl_reason());
	return 0;
}

static int verify_mode(const struct cman_credentials *c)
{
	if (c->server && c->ca)
		return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	return !c->server && c->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
}

static int settle(struct loading *l)
{
	SSL_CTX *ssl = l->ctx->ssl;

	SSL_CTX_clear_options(ssl, SSL_CTX_get_options(ssl));
	SSL_CTX_set_options(ssl, OPTIONS);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	/* the chain is what the certificate's file says, not what the CAs for peers would make of it */
	SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_read_ahead(ssl, 0); /* exactly the record that was fed */
	SSL_CTX_set_security_level(ssl, 2);
	if (SSL_CTX_set_dh_auto(ssl, 1) != 1 || SSL_CTX_set_num_tickets(ssl, TICKETS) != 1 ||
	    SSL_CTX_set_max_early_data(ssl, 0) != 1 ||
	    SSL_CTX_set_recv_max_early_data(ssl, 0) != 1 ||
	    SSL_CTX_set1_groups_list(ssl, GROUPS) != 1 ||
	    SSL_CTX_set1_sigalgs_list(ssl, SIGNATURES) != 1 ||
	    SSL_CTX_set1_client_sigalgs_list(ssl, SIGNATURES) != 1)
		return refuse(l, "this OpenSSL cannot do TLS as needed: %s", ssl_reason());
	SSL_CTX_set_client_CA_list(ssl, NULL);
	SSL_CTX_set_verify(ssl, verify_mode(l->c), cman_tls_handshake_check);
	cman_tls_handshake_listen(ssl, l->c->server);
	return set_suites(l);
}

/* CAs that peers' certificates come from. A server also names them to its clients. */
static int set_ca(struct loading *l, const char *what)
{
	STACK_OF(X509) *ca = sk_X509_new_null();
	X509_STORE *store = X509_STORE_new();
	int i, n, err = 0;

	n = ca && store ? read_certificates(l, what, l->c->ca, ca) : no_memory(l);
	for (i = 0; i < n && !err; i++)
		if (X509_STORE_add_cert(store, sk_X509_value(ca, i)) != 1 ||
		    (l->c->server && SSL_CTX_add_client_CA(l->ctx->ssl, sk_X509_value(ca, i)) != 1))
			err = refuse(l, "%s: a certificate cannot be used: %s", what, ssl_reason());
	if (n > 0 && !err) {
		SSL_CTX_set_cert_store(l->ctx->ssl, store);
		store = NULL;
	}
	X509_STORE_free(store);
	sk_X509_pop_free(ca, X509_free);
	return n < 0 ? n : err;
}

/* ---- a listener's ---- */

static int digest_settings(struct loading *l)
{
	const struct cman_credentials *c = l->c;
	int ok;

	l->settings = EVP_MD_CTX_new();
	ok = l->settings && EVP_DigestInit_ex(l->settings, EVP_sha256(), NULL) == 1 &&
	     EVP_DigestUpdate(l->settings, &c->index, sizeof(c->index)) == 1 &&
	     EVP_DigestUpdate(l->settings, &c->min_version, sizeof(c->min_version)) == 1 &&
	     EVP_DigestUpdate(l->settings, &c->nsuites, sizeof(c->nsuites)) == 1 &&
	     EVP_DigestUpdate(l->settings, c->suites, sizeof(*c->suites) * c->nsuites) == 1 &&
	     (!c->ca || EVP_DigestUpdate(l->settings, c->ca, strlen(c->ca)) == 1);
	return ok ? 0 : no_memory(l);
}

static int load_identity(struct loading *l, struct cman_tls_identity *i,
			 const struct cman_certificate *from)
{
	int err = identity_init(l, i, from);

	if (!err)
		err = identity_bind(l, i);
	return err ? err : identity_try(l, i);
}

static int load_server(struct loading *l, const uint8_t ticket_key[80])
{
	struct cman_tls_context *ctx = l->ctx;
	int err = digest_settings(l);

	if (!err)
		err = load_identity(l, &ctx->own, &l->c->own);
	if (err)
		return err;
	ctx->sni = calloc(l->c->nsni ? l->c->nsni : 1, sizeof(*ctx->sni));
	if (!ctx->sni)
		return no_memory(l);
	for (; ctx->nsni < l->c->nsni; ctx->nsni++) {
		if (!l->c->sni[ctx->nsni].name)
			return refuse(l, "sni: a certificate without a name");
		err = load_identity(l, &ctx->sni[ctx->nsni], &l->c->sni[ctx->nsni]);
		if (err) {
			identity_fini(&ctx->sni[ctx->nsni]);
			return err;
		}
	}
	if (SSL_CTX_set_tlsext_ticket_keys(ctx->ssl, (void *)(uintptr_t)ticket_key, 80) != 1)
		return no_memory(l);
	return l->c->ca ? set_ca(l, "client_ca") : 0;
}

/* ---- a service's ---- */

static int load_client(struct loading *l)
{
	const struct cman_credentials *c = l->c;
	struct cman_tls_context *ctx = l->ctx;
	int err;

	SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_TICKET); /* nobody would keep it */
	ctx->verify = c->verify;
	if (c->server_name) {
		ctx->server_name = strdup(c->server_name);
		if (!ctx->server_name)
			return no_memory(l);
	}
	if (c->own.certificate || c->own.key) {
		err = identity_init(l, &ctx->own, &c->own);
		if (err)
			return err;
		if (SSL_CTX_use_cert_and_key(ctx->ssl, ctx->own.leaf, ctx->own.key, ctx->own.chain,
					     1) != 1)
			return refuse(l, "certificate: cannot be used: %s", ssl_reason());
	}
	if (!c->verify)
		return 0;
	return c->ca ? set_ca(l, "ca") : refuse(l, "ca: none to verify with");
}

static int load(struct loading *l, const uint8_t ticket_key[80])
{
	const struct cman_credentials *c = l->c;
	struct cman_tls_context *ctx = l->ctx;
	X509_STORE *nobody;
	int err;

	ctx->refs = 1;
	ctx->server = c->server;
	if (c->alpn_len > sizeof(ctx->alpn))
		return refuse(l, "alpn: too long");
	memcpy(ctx->alpn, c->alpn, c->alpn_len);
	ctx->alpn_len = c->alpn_len;
	ctx->ssl = SSL_CTX_new(c->server ? TLS_server_method() : TLS_client_method());
	nobody = X509_STORE_new(); /* is trusted, unless told so below */
	if (!ctx->ssl || !nobody) {
		X509_STORE_free(nobody);
		return no_memory(l);
	}
	SSL_CTX_set_cert_store(ctx->ssl, nobody);
	err = settle(l);
	if (err)
		return err;
	return c->server ? load_server(l, ticket_key) : load_client(l);
}

int cman_tls_context_new(const struct cman_credentials *c, const uint8_t ticket_key[80],
			 struct cman_tls_context **ret, char *why, size_t why_size)
{
	struct loading l = { .c = c, .why = why, .why_size = why_size };
	int err;

	l.ctx = calloc(1, sizeof(*l.ctx));
	if (!l.ctx)
		return no_memory(&l);
	/* newer releases of OpenSSL (3.5) can be built to write the secrets of all handshakes there */
	unsetenv("SSLKEYLOGFILE");
	ERR_clear_error();
	err = load(&l, ticket_key);
	EVP_MD_CTX_free(l.settings);
	ERR_clear_error();
	if (err)
		cman_tls_context_free(l.ctx);
	else
		*ret = l.ctx;
	return err;
}

struct cman_tls_context *cman_tls_context_ref(struct cman_tls_context *ctx)
{
	ctx->refs++;
	return ctx;
}

void cman_tls_context_free(struct cman_tls_context *ctx)
{
	size_t i;

	if (!ctx || --ctx->refs)
		return;
	for (i = 0; i < ctx->nsni; i++)
		identity_fini(&ctx->sni[i]);
	free(ctx->sni);
	identity_fini(&ctx->own);
	SSL_CTX_free(ctx->ssl);
	free(ctx->server_name);
	free(ctx);
}
