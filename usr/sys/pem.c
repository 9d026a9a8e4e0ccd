/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads PEM files and says what is wrong with them. OpenSSL never sees a path, so it neither asks
 * for a passphrase on the terminal nor opens anything else.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usr/sys/pem.h"

#define MAX_FILE   (1 << 20)
#define PATH_SHOWN 150

int cman_pem_refuse(struct cman_pem *p, int err, const char *format, ...)
{
	size_t len = strlen(p->path), size = sizeof(p->error->text), used;
	va_list args;

	p->error->key = p->key;
	p->error->sni = p->sni;
	snprintf(p->error->text, size, "%s%s: ", len > PATH_SHOWN ? "..." : "",
		 len > PATH_SHOWN ? p->path + len - PATH_SHOWN : p->path);
	used = strlen(p->error->text);
	va_start(args, format);
	vsnprintf(p->error->text + used, size - used, format, args);
	va_end(args);
	ERR_clear_error();
	return err;
}

int cman_pem_no_memory(struct cman_pem *p)
{
	return cman_pem_refuse(p, -ENOMEM, "out of memory");
}

const char *cman_pem_reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text ? text : "unknown error";
}

static void close_file(struct cman_pem *p)
{
	BIO_free(p->bio);
	p->bio = NULL;
	if (p->data)
		OPENSSL_cleanse(p->data, p->len);
	free(p->data);
	p->data = NULL;
	p->len = 0;
}

static int slurp(struct cman_pem *p, int fd, size_t size)
{
	ssize_t n = 0;

	p->data = malloc(size + 1);
	if (!p->data)
		return cman_pem_no_memory(p);
	while (p->len < size) {
		n = read(fd, p->data + p->len, size - p->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		p->len += (size_t)n;
	}
	if (n < 0)
		return cman_pem_refuse(p, -errno, "%s: expected a file that can be read",
				       strerror(errno));
	p->data[p->len] = '\0';
	p->bio = BIO_new_mem_buf(p->data, (int)p->len);
	return p->bio ? 0 : cman_pem_no_memory(p);
}

/* The whole file as p->bio. A secret must be nobody else's to read or write. */
static int open_file(struct cman_pem *p, const char *key, const char *path, bool secret)
{
	struct stat st;
	int fd, err;

	close_file(p);
	p->key = key;
	p->path = path;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return cman_pem_refuse(p, -errno, "%s: expected a file that can be read",
				       strerror(errno));
	if (fstat(fd, &st) < 0)
		err = cman_pem_refuse(p, -errno, "%s: expected a file that can be read",
				      strerror(errno));
	else if (!S_ISREG(st.st_mode))
		err = cman_pem_refuse(p, -EINVAL, "not a regular file: expected a PEM file");
	else if (st.st_size > MAX_FILE)
		err = cman_pem_refuse(p, -EINVAL, "too large: expected at most 1 MiB");
	else if (secret && (st.st_mode & 07))
		err = cman_pem_refuse(
			p, -EPERM,
			"everybody has access to this private key (mode %04o): expected mode "
			"0600 or 0640",
			(unsigned int)st.st_mode & 07777);
	else
		err = slurp(p, fd, (size_t)st.st_size);
	close(fd);
	return err;
}

/* The next certificate of p->bio: 1; 0: no more; or refused. */
static int next_certificate(struct cman_pem *p, X509 **ret_x)
{
	ERR_clear_error();
	*ret_x = PEM_read_bio_X509(p->bio, NULL, NULL, NULL);
	if (*ret_x)
		return 1;
	if (ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_PEM &&
	    ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) {
		ERR_clear_error();
		return 0;
	}
	return cman_pem_refuse(p, -EINVAL, "a damaged certificate (%s): expected PEM certificates",
			       cman_pem_reason());
}

static void forget_chain(struct cman_pem *p)
{
	X509_free(p->leaf);
	sk_X509_pop_free(p->chain, X509_free);
	p->leaf = NULL;
	p->chain = NULL;
}

int cman_pem_use_certificate(struct cman_pem *p, SSL_CTX *ssl, const char *path)
{
	X509 *x;
	int r = open_file(p, "certificate", path, false);

	if (r < 0)
		return r;
	forget_chain(p);
	p->chain = sk_X509_new_null();
	if (!p->chain)
		return cman_pem_no_memory(p);
	r = next_certificate(p, &p->leaf);
	if (r == 0)
		return cman_pem_refuse(p, -EINVAL,
				       "no certificate in it: expected a PEM certificate");
	if (r < 0)
		return r;
	if (SSL_CTX_use_certificate(ssl, p->leaf) != 1)
		return cman_pem_refuse(
			p, -EINVAL,
			"cannot be used (%s): expected RSA of 2048 bits or more, or ECDSA",
			cman_pem_reason());
	while ((r = next_certificate(p, &x)) > 0) {
		if (!sk_X509_push(p->chain, x)) {
			X509_free(x);
			return cman_pem_no_memory(p);
		}
		if (SSL_CTX_add1_chain_cert(ssl, x) != 1)
			return cman_pem_refuse(p, -EINVAL,
					       "an intermediate certificate cannot be used: %s",
					       cman_pem_reason());
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

static int use_key(struct cman_pem *p, SSL_CTX *ssl, EVP_PKEY *pkey)
{
	if (X509_check_private_key(p->leaf, pkey) != 1)
		return cman_pem_refuse(
			p, -EKEYREJECTED,
			"does not belong to the certificate: expected the key that the "
			"certificate was made for");
	if (SSL_CTX_use_PrivateKey(ssl, pkey) != 1)
		return cman_pem_refuse(p, -EINVAL, "cannot be used: %s", cman_pem_reason());
	return 0;
}

int cman_pem_use_key(struct cman_pem *p, SSL_CTX *ssl, const char *path)
{
	int err = open_file(p, "key", path, true);
	bool asked = false;
	EVP_PKEY *pkey;

	if (err)
		return err;
	ERR_clear_error();
	pkey = PEM_read_bio_PrivateKey(p->bio, NULL, no_password, &asked);
	if (asked)
		err = cman_pem_refuse(p, -EINVAL,
				      "the key is encrypted: expected one without a passphrase");
	else if (!pkey)
		err = cman_pem_refuse(p, -EINVAL,
				      "no private key in it: expected a PEM private key");
	else
		err = use_key(p, ssl, pkey);
	EVP_PKEY_free(pkey);
	return err;
}

int cman_pem_use_ca(struct cman_pem *p, SSL_CTX *ssl, X509_STORE *store, const char *key,
		    const char *path)
{
	int r = open_file(p, key, path, false), n = 0, ok;
	X509 *x;

	if (r < 0)
		return r;
	while ((r = next_certificate(p, &x)) > 0) {
		ok = X509_STORE_add_cert(store, x) == 1 && SSL_CTX_add_client_CA(ssl, x) == 1;
		X509_free(x);
		if (!ok)
			return cman_pem_refuse(p, -EINVAL, "a certificate cannot be used: %s",
					       cman_pem_reason());
		n++;
	}
	if (r < 0)
		return r;
	if (!n)
		return cman_pem_refuse(p, -EINVAL,
				       "no certificate in it: expected PEM certificates of CAs");
	return 0;
}

int cman_pem_take(struct cman_pem *p, char **ret_text)
{
	if (memchr(p->data, '\0', p->len))
		return cman_pem_refuse(p, -EINVAL, "a NUL byte in it: expected a PEM file");
	BIO_free(p->bio);
	p->bio = NULL;
	*ret_text = p->data;
	p->data = NULL;
	p->len = 0;
	return 0;
}

void cman_pem_fini(struct cman_pem *p)
{
	close_file(p);
	forget_chain(p);
}
