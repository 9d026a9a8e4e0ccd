// SPDX-License-Identifier: GPL-2.0-or-later
/* Certificates for tests: see certificates.h. */
#include "certificates.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

void cert_begin(void)
{
	strcpy(dir, "/tmp/cman-test-cert-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(setenv("CMAN_TEST_DIR", dir, 1), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

void cert_end(void)
{
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *cert_file(const char *name)
{
	static char path[4][400];
	static int n;

	n = (n + 1) % 4;
	snprintf(path[n], sizeof(path[n]), "%s/%s", dir, name);
	return path[n];
}

static void add_ext(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e;
	X509V3_CTX v3;

	X509V3_set_ctx(&v3, x, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &v3, nid, value);
	cr_assert_not_null(e, "extension %s", value);
	cr_assert_eq(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

struct cert_issuer cert_make(const char *name, const char *san, const char *usage, long from,
			     long to, const struct cert_issuer *issuer, bool ca)
{
	struct cert_issuer self = { EVP_EC_gen("P-256"), X509_new() };
	static long serial = 1;
	char file[100];
	FILE *f;

	cr_assert(self.key && self.cert);
	X509_set_version(self.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(self.cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(self.cert), from);
	X509_gmtime_adj(X509_getm_notAfter(self.cert), to);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(self.cert), "CN", MBSTRING_ASC,
				   (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(self.cert, X509_get_subject_name(issuer ? issuer->cert : self.cert));
	X509_set_pubkey(self.cert, self.key);
	if (ca)
		add_ext(self.cert, NID_basic_constraints, "critical,CA:TRUE");
	if (san)
		add_ext(self.cert, NID_subject_alt_name, san);
	if (usage)
		add_ext(self.cert, NID_ext_key_usage, usage);
	cr_assert_gt(X509_sign(self.cert, issuer ? issuer->key : self.key, EVP_sha256()), 0);

	snprintf(file, sizeof(file), "%s.pem", name);
	f = fopen(cert_file(file), "w");
	cr_assert(f && PEM_write_X509(f, self.cert));
	fclose(f);
	snprintf(file, sizeof(file), "%s.key", name);
	f = fopen(cert_file(file), "w");
	cr_assert(f && !fchmod(fileno(f), 0600) &&
		  PEM_write_PrivateKey(f, self.key, NULL, NULL, 0, NULL, NULL));
	fclose(f);
	return self;
}

void cert_forget(struct cert_issuer *i)
{
	EVP_PKEY_free(i->key);
	X509_free(i->cert);
}

void cert_leaf(const char *name, const char *san, const char *usage, long from, long to,
	       const struct cert_issuer *issuer)
{
	struct cert_issuer i = cert_make(name, san, usage, from, to, issuer, false);

	cert_forget(&i);
}
