/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Credentials: what the files of a tls block become, what is wrong with files (the same rules as for
 * the handover channel's), and the way through the memfd: what goes in comes out, and nothing that
 * pack() did not make is taken.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "usr/core/tls.h"
#include "usr/sys/credentials.h"

#include "certificates.h"

#define MOST_SNI 2 /* in a block of these tests */

static struct cert_issuer ca;
static void *kept[1000]; /* what the tests' blocks point to */
static size_t nkept;

static void begin(void)
{
	cert_begin();
	unsetenv("SSL_CERT_FILE");
	ca = cert_make("ca", NULL, NULL, -CERT_DAY, CERT_DAY, NULL, true);
	cert_leaf("node", "DNS:db.example", CERT_BOTH, -CERT_DAY, CERT_DAY, &ca);
	cert_leaf("other", "DNS:www.example", CERT_BOTH, -CERT_DAY, CERT_DAY, &ca);
	cert_leaf("expired", "DNS:db.example", CERT_BOTH, -2 * CERT_DAY, -CERT_DAY, &ca);
	cert_leaf("young", "DNS:db.example", CERT_BOTH, CERT_DAY, 2 * CERT_DAY, &ca);
}

static void end(void)
{
	while (nkept)
		free(kept[--nkept]);
	cert_forget(&ca);
	cert_end();
}

TestSuite(credentials, .init = begin, .fini = end);

static void *keep(void *p)
{
	cr_assert(p && nkept < sizeof(kept) / sizeof(*kept));
	return kept[nkept++] = p;
}

static char *file(const char *name)
{
	return keep(strdup(cert_file(name)));
}

static void write_file(const char *name, const void *data, size_t len)
{
	FILE *f = fopen(cert_file(name), "w");

	cr_assert(f && !fchmod(fileno(f), 0600));
	cr_assert_eq(fwrite(data, 1, len, f), len);
	fclose(f);
}

static char *read_file(const char *name, size_t *ret_len)
{
	FILE *f = fopen(cert_file(name), "r");
	char *text = calloc(1, 10000);

	cr_assert(f && text);
	*ret_len = fread(text, 1, 9999, f);
	fclose(f);
	return text;
}

static void assert_text_of(const char *text, const char *name)
{
	size_t len;
	char *expected = read_file(name, &len);

	cr_assert_not_null(text);
	cr_assert_str_eq(text, expected);
	free(expected);
}

static struct cman_tls_conf listener_block(const char *certificate, const char *key)
{
	return (struct cman_tls_conf){ .set = true,
				       .min_version = CMAN_TLS_1_2,
				       .certificate = file(certificate),
				       .key = file(key) };
}

static void add_sni(struct cman_tls_conf *tls, const char *name, const char *certificate,
		    const char *key)
{
	struct cman_sni_conf *sni;

	if (!tls->sni)
		tls->sni = keep(calloc(MOST_SNI, sizeof(*tls->sni)));
	cr_assert_lt(tls->nsni, MOST_SNI);
	sni = &tls->sni[tls->nsni++];
	*sni = (struct cman_sni_conf){ .certificate = file(certificate), .key = file(key) };
	strcpy(sni->name, name);
}

Test(credentials, of_a_listener)
{
	struct cman_tls_conf tls = listener_block("node.pem", "node.key");
	struct cman_tls_error error;
	struct cman_credentials c;

	tls.client_ca = file("ca.pem");
	tls.min_version = CMAN_TLS_1_3;
	tls.suites[0] = 0x1303;
	tls.nsuites = 1;
	memcpy(tls.alpn, "\2h2", 3);
	tls.alpn_len = 3;
	tls.engine = CMAN_TLS_USER;
	tls.verify = true; /* of services: nothing here */
	add_sni(&tls, "WWW.Example", "other.pem", "other.key");
	cr_assert_eq(cman_credentials_load(&tls, true, 7, &c, &error), 0, "%s", error.text);
	cr_assert(c.server);
	cr_assert_eq(c.index, 7);
	cr_assert_null(c.own.name);
	assert_text_of(c.own.certificate, "node.pem");
	assert_text_of(c.own.key, "node.key");
	assert_text_of(c.ca, "ca.pem");
	cr_assert_not(c.verify);
	cr_assert_eq(c.min_version, CMAN_TLS_1_3);
	cr_assert_eq(c.nsuites, 1);
	cr_assert_eq(c.suites[0], 0x1303);
	cr_assert_eq(c.alpn_len, 3);
	cr_assert_eq(memcmp(c.alpn, "\2h2", 3), 0);
	cr_assert_eq(c.engine, CMAN_TLS_USER);
	cr_assert_eq(c.nsni, 1);
	cr_assert_str_eq(c.sni[0].name, "www.example");
	assert_text_of(c.sni[0].certificate, "other.pem");
	assert_text_of(c.sni[0].key, "other.key");
	cr_assert_null(c.warning);
	cman_credentials_fini(&c);
	cr_assert_null(c.own.key);
}

Test(credentials, of_a_service)
{
	struct cman_tls_conf tls = { .set = true, .min_version = CMAN_TLS_1_2, .verify = true };
	struct cman_tls_error error;
	struct cman_credentials c;

	tls.server_name = keep(strdup("db.example"));
	tls.ca = file("ca.pem");
	cr_assert_eq(cman_credentials_load(&tls, false, 0, &c, &error), 0, "%s", error.text);
	cr_assert_not(c.server);
	cr_assert(c.verify);
	cr_assert_str_eq(c.server_name, "db.example");
	assert_text_of(c.ca, "ca.pem");
	cr_assert_null(c.own.certificate);
	cr_assert_null(c.own.key);
	cman_credentials_fini(&c);
}

/* A chain is kept as it is, leaf first. */
Test(credentials, with_a_chain)
{
	struct cman_tls_conf tls = listener_block("chain.pem", "node.key");
	struct cman_tls_error error;
	struct cman_credentials c;
	char chain[20000], *leaf, *issuer;
	size_t n, m;

	leaf = read_file("node.pem", &n);
	issuer = read_file("ca.pem", &m);
	snprintf(chain, sizeof(chain), "%s%s", leaf, issuer);
	write_file("chain.pem", chain, n + m);
	cr_assert_eq(cman_credentials_load(&tls, true, 0, &c, &error), 0, "%s", error.text);
	cr_assert_str_eq(c.own.certificate, chain);
	cman_credentials_fini(&c);
	free(leaf);
	free(issuer);
}

Test(credentials, not_valid_now)
{
	struct cman_tls_conf tls = listener_block("expired.pem", "expired.key");
	struct cman_tls_error error;
	struct cman_credentials c;
	char expected[300];

	cr_assert_eq(cman_credentials_load(&tls, true, 0, &c, &error), 0, "%s", error.text);
	snprintf(expected, sizeof(expected),
		 "%s: peers will refuse this certificate: it expired on 20",
		 cert_file("expired.pem"));
	cr_assert_not_null(c.warning);
	cr_assert_eq(strncmp(c.warning, expected, strlen(expected)), 0, "%s", c.warning);
	cman_credentials_fini(&c);

	tls = listener_block("node.pem", "node.key");
	add_sni(&tls, "a", "young.pem", "young.key");
	cr_assert_eq(cman_credentials_load(&tls, true, 0, &c, &error), 0, "%s", error.text);
	cr_assert_not_null(c.warning);
	cr_assert_not_null(strstr(c.warning, "it is not valid before 20"));
	cman_credentials_fini(&c);
}

/* @expected goes on behind the path of @path. */
static void refused(const struct cman_tls_conf *tls, bool server, int err, const char *key,
		    const char *path, const char *expected)
{
	struct cman_tls_error error = { .sni = "untouched" };
	struct cman_credentials c;
	char text[500];

	memset(&c, 0x5a, sizeof(c));
	cr_assert_eq(cman_credentials_load(tls, server, 0, &c, &error), err, "%s", error.text);
	snprintf(text, sizeof(text), "%s: %s", cert_file(path), expected);
	cr_expect_str_eq(error.text, text);
	cr_expect_str_eq(error.key, key);
	cr_expect_eq(*(uint8_t *)&c, 0x5a, "result touched on failure");
	if (tls->nsni)
		cr_expect_eq(error.sni, tls->sni[tls->nsni - 1].name);
	else
		cr_expect_null(error.sni);
}

static void refused_pair(const char *certificate, const char *key, int err, const char *about,
			 const char *expected)
{
	struct cman_tls_conf tls = listener_block(certificate, key);

	refused(&tls, true, err, about, strcmp(about, "key") ? certificate : key, expected);
	tls = listener_block("other.pem", "other.key");
	add_sni(&tls, "a", "other.pem", "other.key");
	add_sni(&tls, "b", certificate, key);
	refused(&tls, true, err, about, strcmp(about, "key") ? certificate : key, expected);
	tls = listener_block(certificate, key);
	refused(&tls, false, err, about, strcmp(about, "key") ? certificate : key, expected);
}

static void make_encrypted(const char *name)
{
	FILE *f = fopen(cert_file(name), "w");

	cr_assert(f && !fchmod(fileno(f), 0600));
	cr_assert(PEM_write_PrivateKey(f, ca.key, EVP_aes_128_cbc(), (const unsigned char *)"word",
				       4, NULL, NULL));
	fclose(f);
}

/* As cert_make() does, with a key that is too short for today. */
static void make_weak(const char *name)
{
	X509 *x = X509_new();
	EVP_PKEY *key = EVP_RSA_gen(1024);
	FILE *f = fopen(cert_file(name), "w");

	cr_assert(x && key && f);
	X509_set_version(x, 2);
	X509_gmtime_adj(X509_getm_notBefore(x), 0);
	X509_gmtime_adj(X509_getm_notAfter(x), CERT_DAY);
	X509_set_pubkey(x, key);
	cr_assert_gt(X509_sign(x, key, EVP_sha256()), 0);
	cr_assert(PEM_write_X509(f, x));
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(key);
}

Test(credentials, bad_files)
{
	refused_pair("none.pem", "node.key", -ENOENT, "certificate",
		     "No such file or directory: expected a file that can be read");
	refused_pair("node.pem", "none.key", -ENOENT, "key",
		     "No such file or directory: expected a file that can be read");
	refused_pair("", "node.key", -EINVAL, "certificate",
		     "not a regular file: expected a PEM file");
	refused_pair("node.key", "node.key", -EINVAL, "certificate",
		     "no certificate in it: expected a PEM certificate");
	refused_pair("node.pem", "other.key", -EKEYREJECTED, "key",
		     "does not belong to the certificate: expected the key that the certificate "
		     "was made for");
	make_encrypted("locked.key");
	refused_pair("ca.pem", "locked.key", -EINVAL, "key",
		     "the key is encrypted: expected one without a passphrase");
	write_file("text", "no PEM at all\n", 14);
	refused_pair("text", "node.key", -EINVAL, "certificate",
		     "no certificate in it: expected a PEM certificate");
	refused_pair("node.pem", "text", -EINVAL, "key",
		     "no private key in it: expected a PEM private key");
	write_file("empty", "", 0);
	refused_pair("empty", "node.key", -EINVAL, "certificate",
		     "no certificate in it: expected a PEM certificate");
	make_weak("weak.pem");
	refused_pair("weak.pem", "node.key", -EINVAL, "certificate",
		     "cannot be used (ee key too small): expected RSA of 2048 bits or more, or "
		     "ECDSA");
	cr_assert_eq(chmod(cert_file("node.key"), 0604), 0);
	refused_pair("node.pem", "node.key", -EPERM, "key",
		     "everybody has access to this private key (mode 0604): expected mode 0600 or "
		     "0640");
}

Test(credentials, a_nul_byte)
{
	char *text;
	size_t n;

	text = read_file("node.pem", &n);
	write_file("nul.pem", text, n + 1);
	free(text);
	refused_pair("nul.pem", "node.key", -EINVAL, "certificate",
		     "a NUL byte in it: expected a PEM file");
	text = read_file("node.key", &n);
	write_file("nul.key", text, n + 1);
	free(text);
	refused_pair("node.pem", "nul.key", -EINVAL, "key",
		     "a NUL byte in it: expected a PEM file");
}

Test(credentials, bad_ca)
{
	struct cman_tls_conf tls = listener_block("node.pem", "node.key");

	tls.client_ca = file("node.key");
	refused(&tls, true, -EINVAL, "client_ca", "node.key",
		"no certificate in it: expected PEM certificates of CAs");
	tls = (struct cman_tls_conf){ .set = true, .ca = file("none.pem") };
	refused(&tls, false, -ENOENT, "ca", "none.pem",
		"No such file or directory: expected a file that can be read");
}

/* ---- the CAs of the system ---- */

static struct cman_tls_conf service_without_ca(void)
{
	return (struct cman_tls_conf){ .set = true,
				       .min_version = CMAN_TLS_1_2,
				       .verify = true,
				       .server_name = keep(strdup("db.example")) };
}

Test(credentials, ca_of_the_environment)
{
	struct cman_tls_conf tls = service_without_ca();
	struct cman_tls_error error;
	struct cman_credentials c;

	setenv("SSL_CERT_FILE", cert_file("ca.pem"), 1);
	cr_assert_eq(cman_credentials_load(&tls, false, 0, &c, &error), 0, "%s", error.text);
	cr_assert(c.verify);
	assert_text_of(c.ca, "ca.pem");
	cman_credentials_fini(&c);

	/* it alone, whatever else is there */
	setenv("SSL_CERT_FILE", cert_file("none.pem"), 1);
	refused(&tls, false, -ENOENT, "ca", "none.pem",
		"SSL_CERT_FILE in the environment: no file that can be read: expected ca = \"FILE\"");
	setenv("SSL_CERT_FILE", cert_file("node.key"), 1);
	refused(&tls, false, -EINVAL, "ca", "node.key",
		"no certificate in it: expected PEM certificates of CAs");

	/* who names one, does not verify, or is a listener needs none */
	tls.ca = file("node.pem");
	cr_assert_eq(cman_credentials_load(&tls, false, 0, &c, &error), 0, "%s", error.text);
	assert_text_of(c.ca, "node.pem");
	cman_credentials_fini(&c);
	tls = (struct cman_tls_conf){ .set = true, .min_version = CMAN_TLS_1_2 };
	cr_assert_eq(cman_credentials_load(&tls, false, 0, &c, &error), 0, "%s", error.text);
	cr_assert_null(c.ca);
	cman_credentials_fini(&c);
	tls = listener_block("node.pem", "node.key");
	tls.verify = true;
	cr_assert_eq(cman_credentials_load(&tls, true, 0, &c, &error), 0, "%s", error.text);
	cr_assert_null(c.ca);
	cman_credentials_fini(&c);
}

/* From now on the test's folder is all there is. */
static bool enter_folder(void)
{
	if (chroot(cert_file("")) < 0 && (unshare(CLONE_NEWUSER) < 0 || chroot(cert_file("")) < 0))
		return false;
	return chdir("/") == 0;
}

/* Puts the file @name at @path, in folders that are made. */
static bool install(const char *name, const char *path)
{
	char folder[200];
	const char *end;

	for (end = strchr(path + 1, '/'); end; end = strchr(end + 1, '/')) {
		snprintf(folder, sizeof(folder), "%.*s", (int)(end - path), path);
		if (mkdir(folder, 0700) < 0 && errno != EEXIST)
			return false;
	}
	return link(name, path) == 0;
}

/* @expected error, "": none, and @text is loaded. 0, or what is wrong. */
static int load_in_folder(const struct cman_tls_conf *tls, const char *expected, const char *text)
{
	struct cman_tls_error error = { .text = "" };
	struct cman_credentials c;
	int err = cman_credentials_load(tls, false, 0, &c, &error), wrong;

	if (strcmp(error.text, expected) != 0) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	if (err)
		return err == -ENOENT && !strcmp(error.key, "ca") ? 0 : 2;
	wrong = !c.ca || strcmp(c.ca, text) != 0 ? 3 : 0;
	cman_credentials_fini(&c);
	return wrong;
}

/* The later ones first: each is preferred to what is there already. 0, or what is wrong. */
static int look_around(const struct cman_tls_conf *tls, const char *one, const char *other)
{
	char unreadable[] = "/etc/pki/tls/certs/ca-bundle.crt";

	if (!enter_folder())
		return 10;
	if (load_in_folder(tls,
			   "the CAs of the system: no file with them can be read: "
			   "expected ca = \"FILE\"",
			   NULL))
		return 11;
	if (!install("/ca.pem", "/etc/ssl/ca-bundle.pem") || load_in_folder(tls, "", one))
		return 12;
	/* a link into nowhere is none */
	if (!install("/node.pem", unreadable) || unlink(unreadable) ||
	    symlink("/nowhere", unreadable) || load_in_folder(tls, "", one))
		return 13;
	if (unlink(unreadable) || !install("/node.pem", unreadable) ||
	    load_in_folder(tls, "", other))
		return 14;
	if (!install("/ca.pem", "/etc/ssl/certs/ca-certificates.crt") ||
	    load_in_folder(tls, "", one))
		return 15;
	if (!install("/node.pem", X509_get_default_cert_file()) || load_in_folder(tls, "", other))
		return 16;
	return 0;
}

Test(credentials, ca_of_the_system)
{
	struct cman_tls_conf tls = service_without_ca();
	size_t len;
	char *one = read_file("ca.pem", &len), *other = read_file("node.pem", &len);
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (!pid)
		_exit(look_around(&tls, one, other));
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
	free(one);
	free(other);
}

/* ---- the memfd ---- */

static void make_set(struct cman_credentials_set *set)
{
	struct cman_tls_conf front = listener_block("node.pem", "node.key"), back = front;
	struct cman_tls_error error;
	size_t i;

	front.client_ca = file("ca.pem");
	front.suites[0] = 0xc02f;
	front.suites[1] = 0x1301;
	front.nsuites = 2;
	front.engine = CMAN_TLS_KERNEL;
	memcpy(front.alpn, "\2h2\10http/1.1", 12);
	front.alpn_len = 12;
	add_sni(&front, "www.example", "other.pem", "other.key");
	add_sni(&front, "*.example", "other.pem", "other.key");
	back.verify = true;
	back.ca = file("ca.pem");
	back.server_name = keep(strdup("db.example"));
	back.min_version = CMAN_TLS_1_3;
	back.starttls = CMAN_STARTTLS_POSTGRESQL;

	set->one = calloc(3, sizeof(*set->one));
	cr_assert_eq(cman_credentials_load(&front, true, 5, &set->one[0], &error), 0, "%s",
		     error.text);
	cr_assert_eq(cman_credentials_load(&back, false, 77, &set->one[1], &error), 0, "%s",
		     error.text);
	back = (struct cman_tls_conf){ .min_version = CMAN_TLS_1_2 };
	cr_assert_eq(cman_credentials_load(&back, false, 78, &set->one[2], &error), 0);
	set->n = 3;
	for (i = 0; i < sizeof(set->ticket_key); i++)
		set->ticket_key[i] = (uint8_t)(i + 1);
}

static void assert_same_text(const char *a, const char *b)
{
	cr_assert_eq(!a, !b);
	if (a)
		cr_assert_str_eq(a, b);
}

static void assert_same_certificate(const struct cman_certificate *a,
				    const struct cman_certificate *b)
{
	assert_same_text(a->name, b->name);
	assert_same_text(a->certificate, b->certificate);
	assert_same_text(a->key, b->key);
}

static void assert_same(const struct cman_credentials *a, const struct cman_credentials *b)
{
	uint32_t i;

	cr_assert_eq(a->server, b->server);
	cr_assert_eq(a->index, b->index);
	cr_assert_eq(a->verify, b->verify);
	cr_assert_eq(a->engine, b->engine);
	cr_assert_eq(a->starttls, b->starttls);
	cr_assert_eq(a->min_version, b->min_version);
	cr_assert_eq(a->nsuites, b->nsuites);
	cr_assert_eq(memcmp(a->suites, b->suites, sizeof(a->suites)), 0);
	cr_assert_eq(a->alpn_len, b->alpn_len);
	cr_assert_eq(memcmp(a->alpn, b->alpn, sizeof(a->alpn)), 0);
	assert_same_text(a->ca, b->ca);
	assert_same_text(a->server_name, b->server_name);
	assert_same_certificate(&a->own, &b->own);
	cr_assert_eq(a->nsni, b->nsni);
	for (i = 0; i < a->nsni; i++)
		assert_same_certificate(&a->sni[i], &b->sni[i]);
}

Test(credentials, through_the_memfd)
{
	struct cman_credentials_set set = { 0 }, got;
	uint32_t i;
	int fd;

	make_set(&set);
	fd = cman_credentials_pack(&set);
	cr_assert_geq(fd, 0);
	cr_assert_eq(cman_credentials_unpack(fd, &got), 0);
	cr_assert_eq(got.n, 3);
	cr_assert_eq(memcmp(got.ticket_key, set.ticket_key, sizeof(set.ticket_key)), 0);
	for (i = 0; i < 3; i++)
		assert_same(&set.one[i], &got.one[i]);
	cman_credentials_free(&got);
	cr_assert_eq(got.n, 0);
	cr_assert_null(got.one);
	/* as often as there are gateways */
	cr_assert_eq(cman_credentials_unpack(fd, &got), 0);
	cman_credentials_free(&got);
	cman_credentials_free(&set);
	close(fd);
}

Test(credentials, nothing_at_all)
{
	struct cman_credentials_set set = { .ticket_key = { 1 } }, got;
	int fd = cman_credentials_pack(&set);

	cr_assert_geq(fd, 0);
	cr_assert_eq(cman_credentials_unpack(fd, &got), 0);
	cr_assert_eq(got.n, 0);
	cr_assert_eq(got.ticket_key[0], 1);
	cman_credentials_free(&got);
	close(fd);
}

Test(credentials, nobody_changes_the_memfd)
{
	struct cman_credentials_set set = { 0 };
	struct stat st;
	int fd;

	fd = cman_credentials_pack(&set);
	cr_assert_geq(fd, 0);
	cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(pwrite(fd, "x", 1, 0), -1);
	cr_assert_eq(errno, EPERM);
	cr_assert_eq(ftruncate(fd, st.st_size - 1), -1);
	cr_assert_eq(ftruncate(fd, st.st_size + 1), -1);
	cr_assert_eq(mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	close(fd);
}

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

static int unpack(const void *data, size_t len, int seals)
{
	struct cman_credentials_set set, before;
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, data, len), (ssize_t)len);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	memset(&set, 0x5a, sizeof(set));
	before = set;
	r = cman_credentials_unpack(fd, &set);
	close(fd);
	if (r == 0)
		cman_credentials_free(&set);
	else
		cr_assert_eq(memcmp(&set, &before, sizeof(set)), 0, "result touched on failure");
	return r;
}

static uint8_t *packed(size_t *ret_len)
{
	struct cman_credentials_set set = { 0 };
	uint8_t *data;
	struct stat st;
	int fd;

	make_set(&set);
	fd = cman_credentials_pack(&set);
	cr_assert(fd >= 0 && fstat(fd, &st) == 0);
	*ret_len = (size_t)st.st_size;
	data = malloc(*ret_len + 1);
	cr_assert_eq(pread(fd, data, *ret_len, 0), st.st_size);
	close(fd);
	cman_credentials_free(&set);
	return data;
}

Test(credentials, every_truncation)
{
	uint8_t *data;
	size_t len, i;

	data = packed(&len);
	cr_assert_eq(unpack(data, len, ALL_SEALS), 0);
	for (i = 0; i < len; i++)
		cr_assert_eq(unpack(data, i, ALL_SEALS), -EBADMSG, "%zu of %zu bytes", i, len);
	data[len] = 0;
	cr_assert_eq(unpack(data, len + 1, ALL_SEALS), -EBADMSG);
	free(data);
}

Test(credentials, what_could_still_change)
{
	uint8_t *data;
	size_t len;

	data = packed(&len);
	cr_assert_eq(unpack(data, len, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), -EBADMSG);
	cr_assert_eq(unpack(data, len, F_SEAL_SEAL), -EBADMSG);
	free(data);
}

static void wrong_byte(size_t at, uint8_t value)
{
	uint8_t *data;
	size_t len;

	data = packed(&len);
	cr_assert_neq(data[at], value);
	data[at] = value;
	cr_expect_eq(unpack(data, len, ALL_SEALS), -EBADMSG, "byte %zu = %u", at, value);
	free(data);
}

/* The first block begins at 88: see the comment in credentials.c. */
Test(credentials, wrong_values)
{
	wrong_byte(0, 'x'); /* magic */
	wrong_byte(5, 2);   /* version */
	wrong_byte(7, 2);   /* fewer blocks: trailing bytes */
	wrong_byte(7, 4);
	wrong_byte(6, 0xff);   /* more than there can be */
	wrong_byte(88, 2);     /* server: a flag */
	wrong_byte(88, 0);     /* a service has no sni */
	wrong_byte(89, 1);     /* a listener verifies nothing */
	wrong_byte(90, 3);     /* engine */
	wrong_byte(91, 1);     /* starttls: of services */
	wrong_byte(91, 3);     /* there is none such */
	wrong_byte(97, 2);     /* min_version */
	wrong_byte(98, 1);     /* suites */
	wrong_byte(101, 0x2e); /* none of ours */
	wrong_byte(104, 1);    /* length of alpn */
	wrong_byte(108, 0);    /* an empty name in it */
	wrong_byte(108, 3);
	wrong_byte(111, 9);    /* the last one is too long */
	wrong_byte(120, 0xff); /* length of the certificate */
	wrong_byte(124, 0);    /* its text ends too early */
}

/* A gateway could not find the system's CAs. */
Test(credentials, verifying_without_ca)
{
	struct cman_credentials_set set = { .one = calloc(1, sizeof(*set.one)), .n = 1 }, got;
	int fd;

	set.one->min_version = CMAN_TLS_1_2;
	set.one->verify = true;
	fd = cman_credentials_pack(&set);
	cr_assert_geq(fd, 0);
	cr_expect_eq(cman_credentials_unpack(fd, &got), -EBADMSG);
	close(fd);
	set.one->ca = strdup("ca");
	fd = cman_credentials_pack(&set);
	cr_assert_geq(fd, 0);
	cr_assert_eq(cman_credentials_unpack(fd, &got), 0);
	cr_expect(got.one->verify);
	cman_credentials_free(&got);
	cman_credentials_free(&set);
	close(fd);
}

static int pack_n(uint32_t n)
{
	struct cman_credentials_set set = { .one = calloc(n, sizeof(*set.one)), .n = n };
	int fd;
	uint32_t i;

	for (i = 0; i < n; i++)
		set.one[i].min_version = CMAN_TLS_1_2;
	fd = cman_credentials_pack(&set);
	cman_credentials_free(&set);
	return fd;
}

Test(credentials, limits)
{
	struct cman_credentials_set set = { 0 };
	char *text;
	int fd;

	cr_assert_eq(pack_n(CMAN_MAX_LISTENERS + CMAN_MAX_SERVICES + 1), -EMSGSIZE);
	fd = pack_n(CMAN_MAX_LISTENERS + CMAN_MAX_SERVICES);
	cr_assert_geq(fd, 0);
	cr_assert_eq(cman_credentials_unpack(fd, &set), 0);
	cr_assert_eq(set.n, CMAN_MAX_LISTENERS + CMAN_MAX_SERVICES);
	cman_credentials_free(&set);
	close(fd);

	text = malloc(CMAN_CREDENTIALS_MAX + 1);
	memset(text, 'x', CMAN_CREDENTIALS_MAX);
	text[CMAN_CREDENTIALS_MAX] = '\0';
	set = (struct cman_credentials_set){ .one = calloc(1, sizeof(*set.one)), .n = 1 };
	set.one[0].ca = text;
	cr_assert_eq(cman_credentials_pack(&set), -EMSGSIZE);
	cman_credentials_free(&set);
}
