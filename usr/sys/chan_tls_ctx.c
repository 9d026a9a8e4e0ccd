/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all TLS channels of an instance have in common: our certificate and key, the CA, and the
 * choice of everything that TLS leaves open. Files are opened once and checked by that descriptor.
 * OpenSSL's configuration file cannot widen any of it: the store of CAs is our own, and each
 * setting that matters is made here.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usr/sys/chan_tls_ctx.h"

#define MAX_FILE    (1 << 20)
#define READ_BUFFER (64 << 10) /* several records with one recv() */
#define PATH_SHOWN  150
#define CIPHERS	    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

/* The three files while they are read. */
struct loading {
	struct cman_tls_error *error;
	const char *key, *path; /* of the file at hand */
	char *data;
	size_t len;
	BIO *bio;
	X509 *leaf;
	STACK_OF(X509) * chain;
	EVP_PKEY *pkey;
	X509_STORE *store;
};

static int refuse(struct loading *l, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct loading *l, int err, const char *format, ...)
{
	size_t len = strlen(l->path), size = sizeof(l->error->text), used;
	va_list args;

	l->error->key = l->key;
	snprintf(l->error->text, size, "%s%s: ", len > PATH_SHOWN ? "..." : "",
		 len > PATH_SHOWN ? l->path + len - PATH_SHOWN : l->path);
	used = strlen(l->error->text);
	va_start(args, format);
	vsnprintf(l->error->text + used, size - used, format, args);
	va_end(args);
	ERR_clear_error();
	return err;
}

static int no_memory(struct loading *l)
{
	return refuse(l, -ENOMEM, "out of memory");
}

static const char *ssl_reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text ? text : "unknown error";
}

static void close_file(struct loading *l)
{
	BIO_free(l->bio);
	l->bio = NULL;
	if (l->data)
		OPENSSL_cleanse(l->data, l->len);
	free(l->data);
	l->data = NULL;
	l->len = 0;
}

static int slurp(struct loading *l, int fd, size_t size)
{
	ssize_t n = 0;

	l->data = malloc(size + 1);
	if (!l->data)
		return no_memory(l);
	while (l->len < size) {
		n = read(fd, l->data + l->len, size - l->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		l->len += (size_t)n;
	}
	if (n < 0)
		return refuse(l, -errno, "%s: expected a file that can be read", strerror(errno));
	l->bio = BIO_new_mem_buf(l->data, (int)l->len);
	return l->bio ? 0 : no_memory(l);
}

/* The whole file as l->bio. A secret must be nobody else's to read or write. */
static int open_file(struct loading *l, const char *key, const char *path, bool secret)
{
	struct stat st;
	int fd, err;

	close_file(l);
	l->key = key;
	l->path = path;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return refuse(l, -errno, "%s: expected a file that can be read", strerror(errno));
	if (fstat(fd, &st) < 0)
		err = refuse(l, -errno, "%s: expected a file that can be read", strerror(errno));
	else if (!S_ISREG(st.st_mode))
		err = refuse(l, -EINVAL, "not a regular file: expected a PEM file");
	else if (st.st_size > MAX_FILE)
		err = refuse(l, -EINVAL, "too large: expected at most 1 MiB");
	else if (secret && (st.st_mode & 07))
		err = refuse(l, -EPERM,
			     "everybody has access to this private key (mode %04o): expected mode "
			     "0600 or 0640",
			     (unsigned int)st.st_mode & 07777);
	else
		err = slurp(l, fd, (size_t)st.st_size);
	close(fd);
	return err;
}

/* The next certificate of l->bio: 1; 0: no more; or refused. */
static int next_certificate(struct loading *l, X509 **ret_x)
{
	ERR_clear_error();
	*ret_x = PEM_read_bio_X509(l->bio, NULL, NULL, NULL);
	if (*ret_x)
		return 1;
	if (ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_PEM &&
	    ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) {
		ERR_clear_error();
		return 0;
	}
	return refuse(l, -EINVAL, "a damaged certificate (%s): expected PEM certificates",
		      ssl_reason());
}

static int load_certificate(struct loading *l, SSL_CTX *ssl, const char *path)
{
	X509 *x;
	int r = open_file(l, "certificate", path, false);

	if (r < 0)
		return r;
	r = next_certificate(l, &l->leaf);
	if (r == 0)
		return refuse(l, -EINVAL, "no certificate in it: expected a PEM certificate");
	if (r < 0)
		return r;
	if (SSL_CTX_use_certificate(ssl, l->leaf) != 1)
		return refuse(l, -EINVAL,
			      "cannot be used (%s): expected RSA of 2048 bits or more, or ECDSA",
			      ssl_reason());
	while ((r = next_certificate(l, &x)) > 0) {
		if (!sk_X509_push(l->chain, x)) {
			X509_free(x);
			return no_memory(l);
		}
		if (SSL_CTX_add1_chain_cert(ssl, x) != 1)
			return refuse(l, -EINVAL, "an intermediate certificate cannot be used: %s",
				      ssl_reason());
	}
	return r;
}

/* Instead of OpenSSL's own, which asks on the terminal. */
static int no_password(char *buf, int size, int writing, void *asked)
{
	(void)buf;
	(void)size;
	(void)writing;
	*(bool *)asked = true;
	return -1;
}

static int load_key(struct loading *l, SSL_CTX *ssl, const char *path)
{
	bool asked = false;
	int err = open_file(l, "key", path, true);

	if (err)
		return err;
	ERR_clear_error();
	l->pkey = PEM_read_bio_PrivateKey(l->bio, NULL, no_password, &asked);
	close_file(l);
	if (asked)
		return refuse(l, -EINVAL,
			      "the key is encrypted: expected one without a passphrase");
	if (!l->pkey)
		return refuse(l, -EINVAL, "no private key in it: expected a PEM private key");
	if (X509_check_private_key(l->leaf, l->pkey) != 1)
		return refuse(l, -EKEYREJECTED,
			      "does not belong to the certificate: expected the key that the "
			      "certificate was made for");
	if (SSL_CTX_use_PrivateKey(ssl, l->pkey) != 1)
		return refuse(l, -EINVAL, "cannot be used: %s", ssl_reason());
	return 0;
}

static int load_ca(struct loading *l, SSL_CTX *ssl, const char *path)
{
	int r = open_file(l, "ca", path, false), n = 0, ok;
	X509 *x;

	if (r < 0)
		return r;
	while ((r = next_certificate(l, &x)) > 0) {
		ok = X509_STORE_add_cert(l->store, x) == 1 && SSL_CTX_add_client_CA(ssl, x) == 1;
		X509_free(x);
		if (!ok)
			return refuse(l, -EINVAL, "a certificate cannot be used: %s", ssl_reason());
		n++;
	}
	if (r < 0)
		return r;
	if (!n)
		return refuse(l, -EINVAL, "no certificate in it: expected PEM certificates of CAs");
	/* the store of peers' issuers, and the one that our own chain is completed from */
	if (SSL_CTX_set1_verify_cert_store(ssl, l->store) != 1)
		return no_memory(l);
	SSL_CTX_set1_cert_store(ssl, l->store);
	return 0;
}

/* What a peer with the same CA will say to our certificate. */
static int foresee(struct loading *l, const char *path, char **ret_warning)
{
	static const int purposes[] = { X509_PURPOSE_SSL_SERVER, X509_PURPOSE_SSL_CLIENT };
	X509_STORE_CTX *store = NULL;
	char reason[300] = "";
	GENERAL_NAMES *alt;
	size_t i;
	int error;

	alt = X509_get_ext_d2i(l->leaf, NID_subject_alt_name, NULL, NULL);
	if (!alt)
		strcpy(reason, "it has no subjectAltName");
	GENERAL_NAMES_free(alt);
	for (i = 0; i < 2 && !*reason; i++) {
		store = X509_STORE_CTX_new();
		if (!store || X509_STORE_CTX_init(store, l->store, l->leaf, l->chain) != 1 ||
		    X509_STORE_CTX_set_purpose(store, purposes[i]) != 1) {
			X509_STORE_CTX_free(store);
			return no_memory(l);
		}
		error = X509_verify_cert(store) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(store);
		if (error)
			cman_tls_explain(error, l->leaf, X509_STORE_CTX_get_current_cert(store),
					 reason, sizeof(reason));
		X509_STORE_CTX_free(store);
	}
	ERR_clear_error();
	if (*reason &&
	    asprintf(ret_warning, "%s: peers will refuse this certificate: %s", path, reason) < 0) {
		*ret_warning = NULL;
		return no_memory(l);
	}
	return 0;
}

static int settle(SSL_CTX *ssl)
{
	SSL_CTX_set_options(ssl,
			    SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_clear_options(ssl, SSL_OP_IGNORE_UNEXPECTED_EOF); /* a cut is told from an end */
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_mode(ssl,
			 SSL_MODE_AUTO_RETRY); /* -EAGAIN means that no bytes are left in TLS */
	SSL_CTX_set_read_ahead(ssl, 1);
	SSL_CTX_set_default_read_buffer_len(ssl, READ_BUFFER);
	SSL_CTX_set_security_level(ssl, 2);
	SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			   cman_tls_check_peer);
	if (SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_num_tickets(ssl, 0) != 1 || SSL_CTX_set_max_early_data(ssl, 0) != 1)
		return -EINVAL;
	/* 128 bits first: it is faster, and nothing else here is stronger */
	return SSL_CTX_set_ciphersuites(ssl, CIPHERS) == 1 ? 0 : -EINVAL;
}

static int load(struct loading *l, struct cman_tls_ctx *ctx, const char *certificate,
		const char *key, const char *ca)
{
	int err;

	l->store = X509_STORE_new();
	l->chain = sk_X509_new_null();
	ctx->ssl = SSL_CTX_new(TLS_method());
	ctx->bio = cman_tls_bio_method();
	if (!l->store || !l->chain || !ctx->ssl || !ctx->bio)
		return no_memory(l);
	err = settle(ctx->ssl);
	if (err)
		return refuse(l, err, "this OpenSSL cannot do TLS 1.3 as needed: %s", ssl_reason());
	err = load_certificate(l, ctx->ssl, certificate);
	if (!err)
		err = load_key(l, ctx->ssl, key);
	if (!err)
		err = load_ca(l, ctx->ssl, ca);
	return err ? err : foresee(l, certificate, &ctx->warning);
}

int cman_tls_ctx_new(const char *certificate, const char *key, const char *ca,
		     struct cman_tls_ctx **ret_ctx, struct cman_tls_error *ret_error)
{
	struct loading l = { .error = ret_error, .key = "certificate", .path = certificate };
	struct cman_tls_ctx *ctx = calloc(1, sizeof(*ctx));
	int err;

	if (!ctx)
		return no_memory(&l);
	ctx->refs = 1;
	err = load(&l, ctx, certificate, key, ca);
	close_file(&l);
	X509_free(l.leaf);
	sk_X509_pop_free(l.chain, X509_free);
	EVP_PKEY_free(l.pkey);
	X509_STORE_free(l.store);
	ERR_clear_error();
	if (err)
		cman_tls_ctx_free(ctx);
	else
		*ret_ctx = ctx;
	return err;
}

struct cman_tls_ctx *cman_tls_ctx_ref(struct cman_tls_ctx *ctx)
{
	ctx->refs++;
	return ctx;
}

void cman_tls_ctx_free(struct cman_tls_ctx *ctx)
{
	if (!ctx || --ctx->refs)
		return;
	SSL_CTX_free(ctx->ssl);
	BIO_meth_free(ctx->bio);
	free(ctx->warning);
	free(ctx);
}

const char *cman_tls_ctx_warning(const struct cman_tls_ctx *ctx)
{
	return ctx->warning;
}
