/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Credentials from files, into a memfd and out of it. What lies in the memfd, big-endian:
 *
 *	u32 magic "CTLC", u16 version 1, u16 blocks, 80 bytes of ticket key
 *	a block: u8 server, u8 verify, u8 engine, u8 starttls, u32 index, u16 min_version,
 *		 u16 suites, so many u16, bytes of alpn, texts: certificate, key, ca, server_name,
 *		 u16 sni, so many times the texts name, certificate, key
 *	bytes:	 u32 length, and these; a text has its NUL, length 0 is none
 *
 * Writer and reader are processes of one release, but not of one privilege: the reader believes nothing.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usr/core/tls.h"
#include "usr/sys/chan_tls_ctx.h"
#include "usr/sys/credentials.h"
#include "usr/sys/pem.h"
#include "usr/sys/secret.h"

#define MAGIC	   0x43544c43u
#define VERSION	   1
#define MAX_BLOCKS (CMAN_MAX_LISTENERS + CMAN_MAX_SERVICES)

/* ---- files ---- */

/* The first certificate of the chain that is not valid now, and why; or X509_V_OK. */
static int find_invalid(const struct cman_pem *p, const X509 **ret_culprit)
{
	int i;

	for (i = -1; i < sk_X509_num(p->chain); i++) {
		*ret_culprit = i < 0 ? p->leaf : sk_X509_value(p->chain, i);
		if (X509_cmp_current_time(X509_get0_notAfter(*ret_culprit)) < 0)
			return X509_V_ERR_CERT_HAS_EXPIRED;
		if (X509_cmp_current_time(X509_get0_notBefore(*ret_culprit)) > 0)
			return X509_V_ERR_CERT_NOT_YET_VALID;
	}
	return X509_V_OK;
}

/* One warning is enough: the next check shows the next. */
static int foresee(struct cman_pem *p, const char *path, char **warning)
{
	const X509 *culprit;
	char reason[300] = "";
	int error = find_invalid(p, &culprit);

	if (error == X509_V_OK || *warning)
		return 0;
	cman_tls_explain(error, p->leaf, culprit, reason, sizeof(reason));
	if (asprintf(warning, "%s: peers will refuse this certificate: %s", path, reason) < 0) {
		*warning = NULL;
		return cman_pem_no_memory(p);
	}
	return 0;
}

/* OpenSSL judges each pair in a context of its own: a second one would replace the first. */
static int load_pair(struct cman_pem *p, const char *certificate, const char *key,
		     struct cman_certificate *ret, char **warning)
{
	SSL_CTX *ssl = SSL_CTX_new(TLS_method());
	int err;

	if (!ssl)
		return cman_pem_no_memory(p);
	SSL_CTX_set_security_level(ssl, 2);
	err = cman_pem_use_certificate(p, ssl, certificate);
	if (!err)
		err = cman_pem_take(p, &ret->certificate);
	if (!err)
		err = cman_pem_use_key(p, ssl, key);
	if (!err)
		err = cman_pem_take(p, &ret->key);
	if (!err)
		err = foresee(p, certificate, warning);
	SSL_CTX_free(ssl);
	return err;
}

static int load_ca(struct cman_pem *p, const char *key, const char *path, char **ret)
{
	SSL_CTX *ssl = SSL_CTX_new(TLS_method());
	X509_STORE *store = X509_STORE_new();
	int err;

	if (!ssl || !store)
		err = cman_pem_no_memory(p);
	else
		err = cman_pem_use_ca(p, ssl, store, key, path);
	if (!err)
		err = cman_pem_take(p, ret);
	X509_STORE_free(store);
	SSL_CTX_free(ssl);
	return err;
}

static bool is_readable(const char *path)
{
	return faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0;
}

/* What the environment names counts alone, as for OpenSSL: others might trust more CAs. */
static int load_system_ca(struct cman_pem *p, char **ret)
{
	static const char *const bundles[] = { "/etc/ssl/certs/ca-certificates.crt",
					       "/etc/pki/tls/certs/ca-bundle.crt",
					       "/etc/ssl/ca-bundle.pem" };
	const char *variable = X509_get_default_cert_file_env();
	const char *path = secure_getenv(variable);
	size_t i;

	p->sni = NULL;
	p->key = "ca";
	if (path && *path) {
		if (is_readable(path))
			return load_ca(p, "ca", path, ret);
		p->path = path;
		return cman_pem_refuse(p, -ENOENT,
				       "%s in the environment: no file that can be read: "
				       "expected ca = \"FILE\"",
				       variable);
	}
	path = X509_get_default_cert_file();
	for (i = 0; !is_readable(path) && i < sizeof(bundles) / sizeof(*bundles); i++)
		path = bundles[i];
	if (is_readable(path))
		return load_ca(p, "ca", path, ret);
	p->path = "the CAs of the system";
	return cman_pem_refuse(p, -ENOENT, "no file with them can be read: expected ca = \"FILE\"");
}

static int load_sni(struct cman_pem *p, const struct cman_sni_conf *sni, struct cman_credentials *c)
{
	struct cman_certificate *one = &c->sni[c->nsni++];
	char *at;

	p->sni = sni->name;
	one->name = strdup(sni->name);
	if (!one->name)
		return cman_pem_no_memory(p);
	for (at = one->name; *at; at++)
		*at = (char)tolower((unsigned char)*at);
	return load_pair(p, sni->certificate, sni->key, one, &c->warning);
}

static int load_files(struct cman_pem *p, const struct cman_tls_conf *tls,
		      struct cman_credentials *c)
{
	const char *ca = c->server ? tls->client_ca : tls->ca;
	uint32_t i;
	int err = 0;

	if (tls->certificate)
		err = load_pair(p, tls->certificate, tls->key, &c->own, &c->warning);
	if (!err && ca)
		err = load_ca(p, c->server ? "client_ca" : "ca", ca, &c->ca);
	else if (!err && c->verify)
		err = load_system_ca(p, &c->ca);
	for (i = 0; i < tls->nsni && !err; i++)
		err = load_sni(p, &tls->sni[i], c);
	return err;
}

int cman_credentials_load(const struct cman_tls_conf *tls, bool server, uint32_t index,
			  struct cman_credentials *ret, struct cman_tls_error *ret_error)
{
	struct cman_pem p = { .error = ret_error, .key = "certificate", .path = "tls" };
	struct cman_credentials c = { .server = server,
				      .index = index,
				      .verify = !server && tls->verify,
				      .min_version = (uint16_t)tls->min_version,
				      .nsuites = tls->nsuites,
				      .alpn_len = tls->alpn_len,
				      .engine = (uint8_t)tls->engine,
				      .starttls = (uint8_t)tls->starttls };
	int err;

	memcpy(c.suites, tls->suites, sizeof(c.suites));
	memcpy(c.alpn, tls->alpn, sizeof(c.alpn));
	c.server_name = tls->server_name ? strdup(tls->server_name) : NULL;
	if (tls->server_name && !c.server_name)
		err = cman_pem_no_memory(&p);
	else
		err = load_files(&p, tls, &c);
	cman_pem_fini(&p);
	ERR_clear_error();
	if (err)
		cman_credentials_fini(&c);
	else
		*ret = c;
	return err;
}

static void wipe_text(char **text)
{
	if (*text)
		cman_secret_wipe(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

static void wipe_certificate(struct cman_certificate *c)
{
	wipe_text(&c->name);
	wipe_text(&c->certificate); /* the file may have had the key, too */
	wipe_text(&c->key);
}

void cman_credentials_fini(struct cman_credentials *c)
{
	uint32_t i;

	wipe_certificate(&c->own);
	for (i = 0; i < c->nsni; i++)
		wipe_certificate(&c->sni[i]);
	wipe_text(&c->ca);
	free(c->server_name);
	free(c->warning);
	memset(c, 0, sizeof(*c));
}

void cman_credentials_free(struct cman_credentials_set *set)
{
	uint32_t i;

	for (i = 0; i < set->n; i++)
		cman_credentials_fini(&set->one[i]);
	free(set->one);
	cman_secret_wipe(set, sizeof(*set));
}

/* ---- into the memfd ---- */

/* Without @data it only counts. */
struct out {
	uint8_t *data;
	size_t used;
};

static void put(struct out *o, const void *p, size_t n)
{
	if (o->data && n)
		memcpy(o->data + o->used, p, n);
	o->used += n;
}

static void put_number(struct out *o, size_t width, uint32_t v)
{
	const uint8_t be[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8),
				(uint8_t)v };

	put(o, be + 4 - width, width);
}

static void put_bytes(struct out *o, const void *p, size_t n)
{
	put_number(o, 4, (uint32_t)n);
	put(o, p, n);
}

static void put_text(struct out *o, const char *text)
{
	put_bytes(o, text, text ? strlen(text) + 1 : 0);
}

static void put_one(struct out *o, const struct cman_credentials *c)
{
	uint32_t i;

	put_number(o, 1, c->server);
	put_number(o, 1, c->verify);
	put_number(o, 1, c->engine);
	put_number(o, 1, c->starttls);
	put_number(o, 4, c->index);
	put_number(o, 2, c->min_version);
	put_number(o, 2, c->nsuites);
	for (i = 0; i < c->nsuites; i++)
		put_number(o, 2, c->suites[i]);
	put_bytes(o, c->alpn, c->alpn_len);
	put_text(o, c->own.certificate);
	put_text(o, c->own.key);
	put_text(o, c->ca);
	put_text(o, c->server_name);
	put_number(o, 2, c->nsni);
	for (i = 0; i < c->nsni; i++) {
		put_text(o, c->sni[i].name);
		put_text(o, c->sni[i].certificate);
		put_text(o, c->sni[i].key);
	}
}

static void put_set(struct out *o, const struct cman_credentials_set *set)
{
	uint32_t i;

	put_number(o, 4, MAGIC);
	put_number(o, 2, VERSION);
	put_number(o, 2, set->n);
	put(o, set->ticket_key, sizeof(set->ticket_key));
	for (i = 0; i < set->n; i++)
		put_one(o, &set->one[i]);
}

int cman_credentials_pack(const struct cman_credentials_set *set)
{
	struct out o = { 0 };
	size_t size;
	int fd;

	put_set(&o, set);
	size = o.used;
	if (set->n > MAX_BLOCKS || size > CMAN_CREDENTIALS_MAX)
		return -EMSGSIZE;
	o = (struct out){ .data = cman_secret_alloc(size) };
	if (!o.data)
		return -ENOMEM;
	put_set(&o, set);
	fd = cman_secret_seal("cman-credentials", o.data, size);
	cman_secret_free(o.data, size);
	return fd;
}

/* ---- out of it ---- */

/* After the first error everything that is read is 0. */
struct in {
	const uint8_t *data;
	size_t left;
	int err;
};

static const uint8_t *get(struct in *in, size_t n)
{
	const uint8_t *p = in->data;

	if (in->err || n > in->left) {
		in->err = in->err ? in->err : -EBADMSG;
		return NULL;
	}
	in->data += n;
	in->left -= n;
	return p;
}

static uint32_t get_number(struct in *in, size_t width, uint32_t most)
{
	const uint8_t *p = get(in, width);
	uint32_t v = 0;

	while (p && width--)
		v = v << 8 | *p++;
	if (v > most) {
		in->err = -EBADMSG;
		return 0;
	}
	return v;
}

static char *get_text(struct in *in)
{
	uint32_t len = get_number(in, 4, CMAN_CREDENTIALS_MAX);
	const uint8_t *p = get(in, len);
	char *text;

	if (!p || len == 0)
		return NULL;
	if (memchr(p, '\0', len) != p + len - 1) {
		in->err = -EBADMSG;
		return NULL;
	}
	text = malloc(len);
	if (!text) {
		in->err = -ENOMEM;
		return NULL;
	}
	return memcpy(text, p, len);
}

static void get_suites(struct in *in, struct cman_credentials *c)
{
	uint32_t i;

	c->nsuites = get_number(in, 2, CMAN_MAX_SUITES);
	for (i = 0; i < c->nsuites; i++) {
		c->suites[i] = (uint16_t)get_number(in, 2, UINT16_MAX);
		if (!cman_tls_suite(c->suites[i]))
			in->err = in->err ? in->err : -EBADMSG;
	}
}

static void get_alpn(struct in *in, struct cman_credentials *c)
{
	uint32_t len = get_number(in, 4, sizeof(c->alpn)), at = 0;
	const uint8_t *p = get(in, len);

	if (!p)
		return;
	memcpy(c->alpn, p, len);
	c->alpn_len = len;
	while (at < len && c->alpn[at])
		at += 1u + c->alpn[at];
	if (at != len)
		in->err = -EBADMSG;
}

/* Has it what load() makes sure of? */
static bool is_whole(const struct cman_credentials *c)
{
	uint32_t i;

	for (i = 0; i < c->nsni; i++)
		if (!c->sni[i].name || !c->sni[i].certificate || !c->sni[i].key)
			return false;
	if (c->min_version != CMAN_TLS_1_2 && c->min_version != CMAN_TLS_1_3)
		return false;
	if (!c->own.certificate != !c->own.key)
		return false;
	if (c->verify && !c->ca)
		return false;
	return c->server ? c->own.certificate && !c->verify && !c->server_name && !c->starttls :
			   !c->nsni;
}

static void get_one(struct in *in, struct cman_credentials *c)
{
	uint32_t i;

	c->server = get_number(in, 1, 1);
	c->verify = get_number(in, 1, 1);
	c->engine = (uint8_t)get_number(in, 1, CMAN_TLS_KERNEL);
	c->starttls = (uint8_t)get_number(in, 1, CMAN_STARTTLS_POSTGRESQL);
	c->index = get_number(in, 4, UINT32_MAX);
	c->min_version = (uint16_t)get_number(in, 2, UINT16_MAX);
	get_suites(in, c);
	get_alpn(in, c);
	c->own.certificate = get_text(in);
	c->own.key = get_text(in);
	c->ca = get_text(in);
	c->server_name = get_text(in);
	c->nsni = get_number(in, 2, CMAN_MAX_SNI);
	for (i = 0; i < c->nsni; i++) {
		c->sni[i].name = get_text(in);
		c->sni[i].certificate = get_text(in);
		c->sni[i].key = get_text(in);
	}
	if (!in->err && !is_whole(c))
		in->err = -EBADMSG;
}

static int get_set(struct in *in, struct cman_credentials_set *set)
{
	const uint8_t *ticket_key;
	uint32_t n;

	if (get_number(in, 4, UINT32_MAX) != MAGIC || get_number(in, 2, UINT16_MAX) != VERSION)
		return -EBADMSG;
	n = get_number(in, 2, MAX_BLOCKS);
	ticket_key = get(in, sizeof(set->ticket_key));
	if (!ticket_key)
		return in->err;
	memcpy(set->ticket_key, ticket_key, sizeof(set->ticket_key));
	if (n) {
		set->one = calloc(n, sizeof(*set->one));
		if (!set->one)
			return -ENOMEM;
	}
	while (set->n < n && !in->err)
		get_one(in, &set->one[set->n++]);
	if (!in->err && in->left)
		return -EBADMSG;
	return in->err;
}

int cman_credentials_unpack(int fd, struct cman_credentials_set *ret)
{
	struct cman_credentials_set set = { 0 };
	struct in in = { 0 };
	size_t len;
	void *data;
	int err;

	err = cman_secret_open(fd, CMAN_CREDENTIALS_MAX, &data, &len);
	if (err)
		return err == -ENOMEM ? err : -EBADMSG;
	in.data = data;
	in.left = len;
	err = get_set(&in, &set);
	cman_secret_unmap(data, len);
	if (err)
		cman_credentials_free(&set);
	else
		*ret = set;
	cman_secret_wipe(set.ticket_key, sizeof(set.ticket_key));
	return err;
}
