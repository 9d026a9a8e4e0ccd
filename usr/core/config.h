/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The configuration as a model: what cman.conf(5) says, typed and validated, without a file or a
 * parser. usr/sys/conf.c fills it from a file; everything else only reads it. Each thing that can
 * be wrong carries the line it was written on, so that every error can say FILE:LINE.
 *
 * Call order: cman_conf_load() (usr/sys/conf.h) -> struct cman_conf, validated
 *	       cman_conf_instance() to pick the instance an alias names
 *	       cman_config_plan() before a reload: what may change in a running instance
 *	       cman_conf_free()
 */
#ifndef CMAN_CORE_CONFIG_H
#define CMAN_CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/cman_maps.h"
#include "usr/core/tls.h"

#define CMAN_DEFAULT_CONF    "/etc/cman/cman.conf"
#define CMAN_DEFAULT_RUN_DIR "/run/cman"

/* An address with a port: addr is v4-mapped for AF_INET; ports in host byte order. */
struct cman_endpoint {
	uint8_t addr[16];
	uint16_t family; /* AF_INET, AF_INET6; 0 is "not set" */
	uint16_t port_first;
	uint16_t port_last; /* = port_first but for ranges */
};

#define CMAN_MAX_SNI	64 /* in a tls block, as the next */
#define CMAN_MAX_SUITES 16

/* A host name, or "*." and one, that clients ask for, and the certificate that they are shown then. */
struct cman_sni_conf {
	char name[256];
	unsigned int line;
	char *certificate, *key;
};

/*
 * A tls block. Of an instance: certificate, key and ca of its handover channel, nothing else. Of a
 * listener or a service: how a leg becomes TLS. The loader has read the files and found that they fit
 * together; who needs what is in them reads them again (usr/sys/credentials.h).
 */
struct cman_tls_conf {
	bool set;
	unsigned int line;
	char *warning; /* of the loader: what peers will refuse about a certificate; or NULL */
	char *certificate, *key, *ca, *client_ca, *server_name;
	bool verify;
	unsigned int min_version;	  /* CMAN_TLS_1_2, CMAN_TLS_1_3 */
	uint16_t suites[CMAN_MAX_SUITES]; /* in order of preference; nsuites 0: all of ours */
	uint32_t nsuites;
	uint8_t alpn[256]; /* RFC 7301 wire form: length, name, ...; alpn_len 0: passed through */
	uint32_t alpn_len;
	enum cman_tls_engine engine;	 /* NONE: auto */
	enum cman_tls_starttls starttls; /* services */
	struct cman_sni_conf *sni;	 /* listeners */
	uint32_t nsni;
};

struct cman_listener_conf {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	struct cman_endpoint address;
	char service_name[CMAN_NAME_LEN];
	uint32_t service; /* index into services; filled by validation */
	struct cman_tls_conf tls;
};

struct cman_service_conf {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	struct cman_endpoint target[CMAN_MAX_TARGETS];
	uint32_t ntargets;
	enum cman_balance balance;
	struct cman_endpoint source; /* port 0; family 0: not set */
	uint32_t connect_timeout_s;
	uint32_t idle_timeout_s;
	uint32_t session_timeout_s;
	enum cman_when_down when_down;
	bool splice_sockmap;	   /* the kernel may relay */
	char group[CMAN_NAME_LEN]; /* "" is none */
	struct cman_tls_conf tls;
};

struct cman_rule_conf {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	uint8_t source[16];		  /* v4-mapped, host bits are zero (else an error) */
	uint32_t prefix_len;		  /* of the v4-mapped form: 96 + n for IPv4 */
	char service_name[CMAN_NAME_LEN]; /* "*" is all */
	uint32_t service;		  /* index or CMAN_ANY_SERVICE; filled by validation */
	enum cman_action action;
	uint32_t max_idle_s;
	uint32_t max_sessions;
};

struct cman_floating_conf {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	struct cman_endpoint address; /* port 0 */
	uint32_t prefix_len;
	char interface[16];
};

struct cman_peer_conf {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	struct cman_endpoint address;
	char *peer_name; /* name expected in its certificate; default: name */
};

enum cman_carrier_choice {
	CMAN_VIA_AUTO,
	CMAN_VIA_FD,
	CMAN_VIA_REPAIR,
};

struct cman_instance_conf {
	char alias[CMAN_NAME_LEN];
	unsigned int line;
	char *run_dir;
	char *user; /* of keepers and gateways; default: "cman" if it exists, else "nobody" */
	char *log;  /* file for the log of a daemonised instance; default RUN_DIR/ALIAS.log */
	uint32_t gateways;     /* 1..64; default: the number of CPUs, filled by the loader */
	uint32_t max_sessions; /* 1..1000000; default 9000 */
	enum cman_carrier_choice handover;
	uint32_t handover_timeout_s; /* default 420 */
	char *http;		     /* parsed and validated; served by a later release */
	int log_level;		     /* LOG_EMERG..LOG_DEBUG */
	bool standby;
	struct cman_endpoint handover_listen;
	struct cman_tls_conf tls;

	struct cman_listener_conf *listener;
	uint32_t nlisteners;
	struct cman_service_conf *service;
	uint32_t nservices;
	struct cman_rule_conf *rule; /* sorted as `ruletab` is: see cman_rules_sort() */
	uint32_t nrules;
	struct cman_floating_conf *floating;
	uint32_t nfloating;
	struct cman_peer_conf *peer;
	uint32_t npeers;
};

struct cman_conf {
	char *file;
	struct cman_instance_conf *instance;
	uint32_t ninstances;
	uint32_t nclusters; /* cluster blocks are checked for form; cman-coordd reads them */
};

/* One error, ready to print: "FILE:LINE: what is wrong and what was expected". */
struct cman_conf_error {
	unsigned int line; /* 0: the file as a whole */
	char text[600];
};

/*
 * "10.0.0.5:5432", "[::1]:80", with ranges "10.0.0.9:7000-7999" where allow_range. Numeric
 * addresses only. Returns 0 or -EINVAL with the reason in @why (never NULL then).
 */
int cman_endpoint_parse(const char *text, bool allow_range, struct cman_endpoint *ret_endpoint,
			const char **why);

/* "10.0.0.100" or "fe80::1", no port. */
int cman_address_parse(const char *text, struct cman_endpoint *ret_endpoint, const char **why);

/* "10.0.0.0/8", "::/0", or a lone address. Host bits that are set are an error. */
int cman_prefix_parse(const char *text, uint8_t ret_addr[16], uint32_t *ret_prefix_len,
		      const char **why);

/* Writes "10.0.0.5:5432" or "[::1]:80" (port 0: the address alone) and returns @buf. */
#define CMAN_ENDPOINT_TEXT 64
char *cman_endpoint_format(const uint8_t addr[16], uint16_t port, char buf[CMAN_ENDPOINT_TEXT]);

/*
 * Resolves references, sorts the rules, and checks what one value alone cannot show: duplicate
 * addresses of listeners, unknown services, equal rules, a source of another family than the
 * targets, TLS that nobody could agree on or the kernel cannot relay, limits. Returns 0 or -EINVAL with *ret_error filled.
 */
int cman_conf_validate(struct cman_conf *conf, struct cman_conf_error *ret_error);

/* The instance named @alias, or the only one when @alias is NULL; NULL when there is none. */
struct cman_instance_conf *cman_conf_instance(struct cman_conf *conf, const char *alias);

/*
 * May @next replace @running in a live instance? gateways, run_dir, user, handover_listen, floating
 * addresses, and a max_sessions above @slots_per_cell need a restart (or a migration). Peers and the
 * instance's tls may change: they are for the handovers to come. So may the tls of listeners and
 * services, which may also come and go: it is for the handshakes to come, live sessions go on as they
 * are. Returns 0, or -EINVAL with the reason.
 */
int cman_config_plan(const struct cman_instance_conf *running,
		     const struct cman_instance_conf *next, uint32_t slots_per_cell,
		     struct cman_conf_error *ret_error);

void cman_conf_free(struct cman_conf *conf);

#endif
