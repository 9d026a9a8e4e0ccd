/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tls blocks of listeners and services name, read and checked: certificates, keys, CAs, and the
 * choices beside them. The manager (root) reads the files; the gateways (nobody) get all of it in one
 * sealed memfd of their cell, so that a gateway that starts after a crash has it again, and a reload is
 * a new memfd. cmanctl check reads the same files and throws the result away.
 *
 *	cmanctl, loader	cman_credentials_load()	-> an error names the key of the tls block
 *	manager		cman_credentials_load() each, cman_credentials_pack() -> memfd
 *	gateway		cman_credentials_unpack() -> contexts (usr/tls/context.h)
 *			cman_credentials_free()	wipes
 *
 * The private keys are in there: see Documentation/threat-model.rst.
 */
#ifndef CMAN_SYS_CREDENTIALS_H
#define CMAN_SYS_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "usr/core/config.h"
#include "usr/sys/chan_tls.h"

/* A certificate with its chain, and its key: PEM texts, NUL-terminated. NULL: none. */
struct cman_certificate {
	char *name; /* of the sni block, lower case: "db.example", "*.example"; NULL: the default one */
	char *certificate; /* leaf first */
	char *key;
};

struct cman_credentials {
	bool server;	/* of a listener (we are the server), else of a service */
	uint32_t index; /* which one, as in struct cman_instance_conf */
	struct cman_certificate own;
	struct cman_certificate sni[CMAN_MAX_SNI]; /* listeners */
	uint32_t nsni;
	char *ca;	   /* listener: client_ca; service: ca, or the system's CAs; NULL: none */
	bool verify;	   /* service: false accepts any certificate */
	char *server_name; /* service: SNI and name to verify; NULL: none */
	uint16_t min_version;		  /* CMAN_TLS_1_2, CMAN_TLS_1_3 */
	uint16_t suites[CMAN_MAX_SUITES]; /* in order of preference; nsuites 0: all of ours */
	uint32_t nsuites;
	uint8_t alpn[256]; /* RFC 7301 wire form: length, name, ...; alpn_len 0: passed through */
	uint32_t alpn_len;
	uint8_t engine;	  /* enum cman_tls_engine; NONE: auto */
	uint8_t starttls; /* service: enum cman_tls_starttls */
	char *warning;	  /* of load(): what peers will refuse, a sentence; else NULL. Not packed */
};

/* All of an instance's tls blocks. */
struct cman_credentials_set {
	struct cman_credentials *one;
	uint32_t n;
	uint8_t ticket_key[80]; /* SSL_CTX_set_tlsext_ticket_keys(3): the same in all gateways */
};

/*
 * Reads the files of one tls block. 0 or -errno with *ret_error filled, as cman_tls_ctx_new(): the key
 * must be the certificate's and nobody else's to read, PEM, not encrypted. A certificate that is not
 * valid now is a warning. A service that verifies and has no ca gets the system's CAs: gateways cannot
 * open files. They are in the file that the environment's SSL_CERT_FILE names, else in OpenSSL's, else
 * where distributions have it. -ENOENT: there is none.
 */
int cman_credentials_load(const struct cman_tls_conf *tls, bool server, uint32_t index,
			  struct cman_credentials *ret, struct cman_tls_error *ret_error);
void cman_credentials_fini(struct cman_credentials *c);

/*
 * One memfd with all of it, which nobody can change any more. Descriptor or -errno; -EMSGSIZE: over
 * CMAN_CREDENTIALS_MAX, or more blocks than an instance may have.
 */
#define CMAN_CREDENTIALS_MAX (64u << 20)
int cman_credentials_pack(const struct cman_credentials_set *set);
/* 0, -ENOMEM, -EBADMSG: not what pack() makes. */
int cman_credentials_unpack(int fd, struct cman_credentials_set *ret);
void cman_credentials_free(struct cman_credentials_set *set);

#endif
