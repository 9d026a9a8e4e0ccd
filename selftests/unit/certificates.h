/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Certificates for tests, made when they run: there is no private key in the tree. Each is a file
 * NAME.pem with NAME.key (mode 0600) in the folder that begin() makes and end() removes.
 */
#ifndef CMAN_TEST_CERTIFICATES_H
#define CMAN_TEST_CERTIFICATES_H

#include <openssl/x509.h>
#include <stdbool.h>

#define CERT_DAY  86400L
#define CERT_BOTH "serverAuth,clientAuth"

struct cert_issuer {
	EVP_PKEY *key;
	X509 *cert;
};

void cert_begin(void); /* call it first; also sets CMAN_TEST_DIR in the environment */
void cert_end(void);
const char *cert_file(const char *name); /* its path; good for some calls */

/*
 * @san as in openssl's configuration ("DNS:a.example,IP:::1"), NULL: none. @usage: extended key
 * usage, NULL: none. Valid between @from and @to seconds from now. @issuer NULL: self-signed.
 */
struct cert_issuer cert_make(const char *name, const char *san, const char *usage, long from,
			     long to, const struct cert_issuer *issuer, bool ca);
void cert_forget(struct cert_issuer *i);

/* One of which only the files matter, and no CA. */
void cert_leaf(const char *name, const char *san, const char *usage, long from, long to,
	       const struct cert_issuer *issuer);

#endif
