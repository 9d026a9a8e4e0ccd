// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Tables of TLS: the cipher suites that a leg may have, and the names of versions and engines. Only
 * AEADs with forward secrecy: a suite that is not here is never agreed on. Numbers are IANA's, names
 * OpenSSL's. Sources: RFC 8446 (B.4), RFC 5288, RFC 5289, RFC 7905.
 */
#include <string.h>

#include "usr/core/tls.h"

#define SUITE(i, v, a, key, hash, n) \
	{ \
		.id = i, .version = CMAN_TLS_##v, .aead = CMAN_TLS_##a, .key_len = key, \
		.hash_len = hash, .name = n, \
	}

static const struct cman_tls_suite suites[] = {
	SUITE(0x1301, 1_3, AES_128_GCM, 16, 32, "TLS_AES_128_GCM_SHA256"),
	SUITE(0x1302, 1_3, AES_256_GCM, 32, 48, "TLS_AES_256_GCM_SHA384"),
	SUITE(0x1303, 1_3, CHACHA20_POLY1305, 32, 32, "TLS_CHACHA20_POLY1305_SHA256"),
	SUITE(0xc02b, 1_2, AES_128_GCM, 16, 32, "ECDHE-ECDSA-AES128-GCM-SHA256"),
	SUITE(0xc02f, 1_2, AES_128_GCM, 16, 32, "ECDHE-RSA-AES128-GCM-SHA256"),
	SUITE(0xc02c, 1_2, AES_256_GCM, 32, 48, "ECDHE-ECDSA-AES256-GCM-SHA384"),
	SUITE(0xc030, 1_2, AES_256_GCM, 32, 48, "ECDHE-RSA-AES256-GCM-SHA384"),
	SUITE(0xcca9, 1_2, CHACHA20_POLY1305, 32, 32, "ECDHE-ECDSA-CHACHA20-POLY1305"),
	SUITE(0xcca8, 1_2, CHACHA20_POLY1305, 32, 32, "ECDHE-RSA-CHACHA20-POLY1305"),
	SUITE(0x009e, 1_2, AES_128_GCM, 16, 32, "DHE-RSA-AES128-GCM-SHA256"),
	SUITE(0x009f, 1_2, AES_256_GCM, 32, 48, "DHE-RSA-AES256-GCM-SHA384"),
	SUITE(0xccaa, 1_2, CHACHA20_POLY1305, 32, 32, "DHE-RSA-CHACHA20-POLY1305"),
};

#define SUITES (sizeof(suites) / sizeof(suites[0]))

const struct cman_tls_suite *cman_tls_suite(uint16_t id)
{
	for (size_t i = 0; i < SUITES; i++)
		if (suites[i].id == id)
			return &suites[i];
	return NULL;
}

const struct cman_tls_suite *cman_tls_suite_by_name(const char *name)
{
	for (size_t i = 0; i < SUITES; i++)
		if (!strcmp(suites[i].name, name))
			return &suites[i];
	return NULL;
}

const struct cman_tls_suite *cman_tls_suites(size_t *ret_n)
{
	*ret_n = SUITES;
	return suites;
}

const char *cman_tls_version_name(uint16_t version)
{
	switch (version) {
	case CMAN_TLS_1_2:
		return "TLSv1.2";
	case CMAN_TLS_1_3:
		return "TLSv1.3";
	default:
		return "?";
	}
}

bool cman_tls_for_kernel(const struct cman_tls_suite *suite, enum cman_tls_engine wanted,
			 const uint32_t ktls[2], bool rekey)
{
	bool tls13 = suite->version == CMAN_TLS_1_3;

	if (wanted == CMAN_TLS_USER || !(ktls[tls13] & 1u << suite->aead))
		return false;
	return wanted == CMAN_TLS_KERNEL || !tls13 || rekey;
}

const char *cman_tls_engine_name(uint8_t engine)
{
	switch (engine) {
	case CMAN_TLS_NONE:
		return "none";
	case CMAN_TLS_USER:
		return "user";
	case CMAN_TLS_KERNEL:
		return "ktls";
	default:
		return "?";
	}
}
