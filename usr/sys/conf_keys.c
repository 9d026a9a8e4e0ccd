/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The grammar of cman.conf(5), as tables: each block has its keys and its blocks, each key has a
 * typed setter, a range, a default. From these tables conf.c makes libconfuse's options, and with
 * them it converts the result into the model of usr/core/config.h. To add a key is to add a line.
 */
#include <confuse.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "usr/sys/chan_tls.h"
#include "usr/sys/conf_impl.h"

#define MAX_VIPS 16
#define DAY	 (24 * 3600)
#define YEAR	 (365 * DAY)

static int fail_value(struct loader *l, const struct key *k, const struct value *v,
		      const char *reason)
{
	char buf[CMAN_CONF_SHOWN_LEN];

	return cman_conf_fail(l, v->line, "%s = \"%s\": %s", k->name, cman_conf_shown(v->text, buf),
			      reason);
}

/* --- setters */

static int set_uint(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	unsigned long long number = 0;
	const char *p = v->text;
	char reason[120];

	while (*p >= '0' && *p <= '9' && p - v->text < 12)
		number = number * 10 + (unsigned long long)(*p++ - '0');
	if (p == v->text || *p || number < (unsigned long)k->min ||
	    number > (unsigned long)k->max) {
		snprintf(reason, sizeof(reason), "expected a number%s%s from %ld to %ld",
			 k->unit ? " of " : "", k->unit ? k->unit : "", k->min, k->max);
		return fail_value(l, k, v, reason);
	}
	*(uint32_t *)at = (uint32_t)number;
	return 0;
}

static int set_bool(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	int b = cfg_parse_boolean(v->text);

	if (b < 0)
		return fail_value(l, k, v, "expected true or false");
	*(bool *)at = b;
	return 0;
}

static int find_word(struct loader *l, const struct key *k, const struct value *v, int *ret)
{
	char reason[160] = "expected ";
	const struct word *w;

	for (w = k->words; w->name; w++) {
		if (strcmp(w->name, v->text) == 0) {
			*ret = w->value;
			return 0;
		}
		if (w > k->words)
			strcat(reason, w[1].name ? ", " : " or ");
		strcat(reason, w->name);
	}
	return fail_value(l, k, v, reason);
}

static int set_word(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	int found, r = find_word(l, k, v, &found);

	if (r == 0)
		memcpy(at, &found, sizeof(found)); /* an int or an enum */
	return r;
}
static_assert(sizeof(enum cman_balance) == sizeof(int) && sizeof(enum cman_action) == sizeof(int) &&
		      sizeof(enum cman_when_down) == sizeof(int) &&
		      sizeof(enum cman_carrier_choice) == sizeof(int) &&
		      sizeof(enum cman_tls_engine) == sizeof(int) &&
		      sizeof(enum cman_tls_starttls) == sizeof(int),
	      "set_word() stores an int");

static int set_flag_word(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	int found, r = find_word(l, k, v, &found);

	if (r == 0)
		*(bool *)at = found;
	return r;
}

/* Text without control characters; "" is "not set". */
static int set_text(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	const char *p;

	for (p = v->text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return fail_value(l, k, v, "a control character: expected plain text");
	if (p - v->text > 255)
		return fail_value(l, k, v, "too long: expected at most 255 characters");
	return *v->text ? cman_conf_keep(l, v->text, v->line, at) : 0;
}

static int set_path(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	if (*v->text != '/')
		return fail_value(l, k, v, "expected an absolute path, one that begins with '/'");
	return set_text(l, k, v, at);
}

static int set_user(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	const char *why;

	if (cman_name_check(v->text, &why) < 0)
		return fail_value(l, k, v, why);
	if (!getpwnam(v->text))
		return fail_value(l, k, v, "no such user: expected a user of this system");
	return cman_conf_keep(l, v->text, v->line, at);
}

/* A file that exists and can be read, relative to the folder of the configuration. */
static int set_file(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	const char *slash = strrchr(l->file, '/');
	char *path = NULL, reason[100];
	struct stat st;
	int fd, r;

	if (!*v->text)
		return k->required ?
			       fail_value(l, k, v, "no file: expected the name of a PEM file") :
			       0;
	r = set_text(l, k, v, at);
	if (r < 0)
		return r;
	if (*v->text != '/' && slash) {
		if (asprintf(&path, "%.*s/%s", (int)(slash - l->file), l->file, v->text) < 0)
			return cman_conf_fail(l, v->line, "out of memory");
		free(*(char **)at);
		*(char **)at = path;
	}
	fd = open(*(char **)at, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		snprintf(reason, sizeof(reason), "%s: expected a file that can be read",
			 strerror(errno));
		return fail_value(l, k, v, reason);
	}
	r = fstat(fd, &st);
	close(fd);
	if (r < 0 || !S_ISREG(st.st_mode))
		return fail_value(l, k, v, "not a regular file: expected a PEM file");
	return 0;
}

static int set_name(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	const char *why;

	if (cman_name_check(v->text, &why) < 0)
		return fail_value(l, k, v, why);
	strcpy(at, v->text);
	return 0;
}

static int set_name_or_any(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	if (strcmp(v->text, "*"))
		return set_name(l, k, v, at);
	strcpy(at, "*");
	return 0;
}

/* What a peer's certificate is asked for. */
static int set_peer_name(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	const char *why;

	if (cman_tls_name_check(v->text, &why) < 0)
		return fail_value(l, k, v, why);
	return cman_conf_keep(l, v->text, v->line, at);
}

/* What targets' certificates are asked for; "" is "not set". */
static int set_server_name(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	return *v->text ? set_peer_name(l, k, v, at) : 0;
}

static int set_interface(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	const char *p;

	for (p = v->text; *p > ' ' && *p != 0x7f && *p != '/' && *p != ':'; p++)
		;
	if (p == v->text || *p || p - v->text > 15 || !strcmp(v->text, ".") ||
	    !strcmp(v->text, ".."))
		return fail_value(l, k, v,
				  "expected the name of a network interface, 1 to 15 "
				  "characters such as eth0");
	strcpy(at, v->text);
	return 0;
}

/* Why TCP cannot use this address, or NULL. */
static const char *unusable(const struct cman_endpoint *e, bool any_is_fine)
{
	static const uint8_t zero[16], ones[4] = { 255, 255, 255, 255 };
	size_t from = e->family == AF_INET ? 12 : 0;

	if (e->addr[from] == 0xff && from == 0)
		return "a multicast address: expected one of a single host";
	if (from && ((e->addr[12] & 0xf0) == 0xe0 || !memcmp(e->addr + 12, ones, 4)))
		return "a multicast or broadcast address: expected one of a single host";
	if (!any_is_fine && memcmp(e->addr + from, zero, 16 - from) == 0)
		return "the wildcard address: expected the address of one host";
	return NULL;
}

static int parse_endpoint(struct loader *l, const struct key *k, const struct value *v,
			  bool listens, bool range, struct cman_endpoint *ret)
{
	const char *why;

	if (cman_endpoint_parse(v->text, range, ret, &why) < 0)
		return fail_value(l, k, v, why);
	why = unusable(ret, listens);
	return why ? fail_value(l, k, v, why) : 0;
}

static int set_listen_range(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	return parse_endpoint(l, k, v, true, true, at);
}

static int set_listen(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	return parse_endpoint(l, k, v, true, false, at);
}

static int set_remote(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	return parse_endpoint(l, k, v, false, false, at);
}

static int set_listen_text(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	struct cman_endpoint unused;
	int r = parse_endpoint(l, k, v, true, false, &unused);

	return r < 0 ? r : cman_conf_keep(l, v->text, v->line, at);
}

static int add_target(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	struct cman_service_conf *s = at;
	struct cman_endpoint e;
	int r = parse_endpoint(l, k, v, false, false, &e);

	if (r < 0)
		return r;
	s->target[s->ntargets++] = e;
	return 0;
}

static int set_source_address(struct loader *l, const struct key *k, const struct value *v,
			      void *at)
{
	struct cman_endpoint e;
	const char *why;

	if (cman_address_parse(v->text, &e, &why) < 0)
		return fail_value(l, k, v, why);
	why = unusable(&e, false);
	if (why)
		return fail_value(l, k, v, why);
	memcpy(at, &e, sizeof(e));
	return 0;
}

static int set_rule_source(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	struct cman_rule_conf *rule = at;
	const char *why;

	if (cman_prefix_parse(v->text, rule->source, &rule->prefix_len, &why) < 0)
		return fail_value(l, k, v, why);
	return 0;
}

/* "10.0.0.100/24": an address of this host with the length of its network's prefix. */
static int parse_cidr(struct loader *l, const struct key *k, const struct value *v,
		      struct cman_endpoint *ret, uint32_t *ret_prefix_len)
{
	const char *slash = strchr(v->text, '/'), *why, *p;
	char address[INET6_ADDRSTRLEN] = "";
	uint32_t len = 0, max;

	if (!slash || slash - v->text >= (long)sizeof(address))
		return fail_value(l, k, v, "expected ADDRESS/LENGTH such as 10.0.0.100/24");
	memcpy(address, v->text, (size_t)(slash - v->text));
	if (cman_address_parse(address, ret, &why) < 0)
		return fail_value(l, k, v, why);
	why = unusable(ret, false);
	if (why)
		return fail_value(l, k, v, why);
	max = ret->family == AF_INET ? 32 : 128;
	for (p = slash + 1; *p >= '0' && *p <= '9' && len <= 128; p++)
		len = len * 10 + (uint32_t)(*p - '0');
	if (*p || p == slash + 1 || len < 1 || len > max)
		return fail_value(l, k, v,
				  max == 32 ? "bad prefix length: expected /1 to /32" :
					      "bad prefix length: expected /1 to /128");
	*ret_prefix_len = len;
	return 0;
}

static int set_floating(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	static const uint8_t loopback6[16] = { [15] = 1 };
	struct cman_floating_conf *f = at;
	int r = parse_cidr(l, k, v, &f->address, &f->prefix_len);

	if (r == 0 && (f->address.family == AF_INET ? f->address.addr[12] == 127 :
						      !memcmp(f->address.addr, loopback6, 16)))
		return fail_value(l, k, v,
				  "a loopback address, which every host has: expected one that can "
				  "move");
	return r;
}

static int add_vip(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	struct cman_endpoint address;
	struct group *g = at;
	uint32_t len;

	g->nvips++;
	return parse_cidr(l, k, v, &address, &len);
}

static int add_machine(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	struct group *g = at;
	uint32_t i;

	for (i = 0; i < g->nmachines; i++)
		if (strcmp(g->machine[i], v->text) == 0)
			return fail_value(l, k, v,
					  "a machine named twice: expected a primary and "
					  "an alternate");
	return set_name(l, k, v, g->machine[g->nmachines++]);
}

static int add_etcd_endpoint(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	struct cluster *c = at;

	c->nendpoints++;
	if (strncmp(v->text, "http://", 7) && strncmp(v->text, "https://", 8))
		return fail_value(l, k, v, "expected a URL that begins with http:// or https://");
	return 0;
}

/* "10.1.0.0/16=GROUP1" or "*=GROUP2". The coordinator looks up the groups. */
static int add_range(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	const char *equal = strchr(v->text, '='), *why;
	char prefix[64] = "";
	uint8_t addr[16];
	uint32_t len;

	(void)at;
	if (!equal || equal - v->text >= (long)sizeof(prefix))
		return fail_value(l, k, v, "expected PREFIX=GROUP or *=GROUP");
	memcpy(prefix, v->text, (size_t)(equal - v->text));
	if (strcmp(prefix, "*") && cman_prefix_parse(prefix, addr, &len, &why) < 0)
		return fail_value(l, k, v, why);
	if (cman_name_check(equal + 1, &why) < 0)
		return fail_value(l, k, v, why);
	return 0;
}

/* All suites that there are, as far as they fit. */
static void list_suites(char *buf, size_t size)
{
	const struct cman_tls_suite *suite;
	size_t n, i, used = 0;

	suite = cman_tls_suites(&n);
	*buf = '\0';
	for (i = 0; i < n && used < size; i++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "",
					 suite[i].name);
}

static int add_cipher(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	const struct cman_tls_suite *suite = cman_tls_suite_by_name(v->text);
	struct cman_tls_conf *tls = at;
	char names[400], reason[440];
	uint32_t i;

	if (!suite) {
		list_suites(names, sizeof(names));
		snprintf(reason, sizeof(reason), "not an AEAD suite of cman: expected some of %s",
			 names);
		return fail_value(l, k, v, reason);
	}
	for (i = 0; i < tls->nsuites; i++)
		if (tls->suites[i] == suite->id)
			return fail_value(l, k, v, "a suite named twice: expected it once");
	tls->suites[tls->nsuites++] = suite->id;
	return 0;
}

/* A protocol's name, into the list that goes over the wire (RFC 7301, 3.1). */
static int add_alpn(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	struct cman_tls_conf *tls = at;
	size_t len = strlen(v->text), i;

	for (i = 0; i < len && v->text[i] > ' ' && v->text[i] < 0x7f; i++)
		;
	if (i < len || len < 1 || len > 255)
		return fail_value(l, k, v,
				  "expected the name of a protocol, 1 to 255 printable characters "
				  "such as h2");
	for (i = 0; i < tls->alpn_len; i += 1u + tls->alpn[i])
		if (tls->alpn[i] == len && memcmp(tls->alpn + i + 1, v->text, len) == 0)
			return fail_value(l, k, v, "a protocol named twice: expected it once");
	if (tls->alpn_len + 1 + len > sizeof(tls->alpn))
		return fail_value(l, k, v,
				  "the list is too long: expected at most 256 characters, counting "
				  "one more for each name");
	tls->alpn[tls->alpn_len] = (uint8_t)len;
	memcpy(tls->alpn + tls->alpn_len + 1, v->text, len);
	tls->alpn_len += (uint32_t)(1 + len);
	return 0;
}

/* A title of sni: what a client may ask for. Never an address (RFC 6066, 3). */
static int check_sni(const char *title, const char **why)
{
	const char *name = strncmp(title, "*.", 2) ? title : title + 2;
	struct cman_endpoint e;
	const char *unused;

	if (strlen(title) <= CMAN_TLS_MAX_NAME && cman_tls_name_check(name, &unused) == 0 &&
	    cman_address_parse(name, &e, &unused) < 0 && name[strlen(name) - 1] != '.')
		return 0;
	*why = "expected a host name such as db.example, or \"*.example\" for those with one label "
	       "more";
	return -EINVAL;
}

/* --- the grammar */

static const struct word words_handover[] = {
	{ "auto", CMAN_VIA_AUTO },
	{ "fd", CMAN_VIA_FD },
	{ "repair", CMAN_VIA_REPAIR },
	{ 0 },
};
static const struct word words_level[] = {
	{ "emerg", LOG_EMERG }, { "alert", LOG_ALERT },	    { "crit", LOG_CRIT },
	{ "err", LOG_ERR },	{ "warning", LOG_WARNING }, { "notice", LOG_NOTICE },
	{ "info", LOG_INFO },	{ "debug", LOG_DEBUG },	    { 0 },
};
static const struct word words_balance[] = {
	{ "first", CMAN_BALANCE_FIRST },
	{ "roundrobin", CMAN_BALANCE_ROUNDROBIN },
	{ "leastconn", CMAN_BALANCE_LEASTCONN },
	{ 0 },
};
static const struct word words_down[] = {
	{ "refuse", CMAN_DOWN_REFUSE },
	{ "wait", CMAN_DOWN_WAIT },
	{ 0 },
};
static const struct word words_splice[] = {
	{ "user", false },
	{ "sockmap", true },
	{ 0 },
};
static const struct word words_action[] = {
	{ "accept", CMAN_ACTION_ACCEPT },
	{ "reject", CMAN_ACTION_REJECT },
	{ "drop", CMAN_ACTION_DROP },
	{ 0 },
};
static const struct word words_version[] = {
	{ "1.2", CMAN_TLS_1_2 },
	{ "1.3", CMAN_TLS_1_3 },
	{ 0 },
};
static const struct word words_engine[] = {
	{ "auto", CMAN_TLS_NONE },
	{ "ktls", CMAN_TLS_KERNEL },
	{ "user", CMAN_TLS_USER },
	{ 0 },
};
static const struct word words_starttls[] = {
	{ "auto", CMAN_STARTTLS_AUTO },
	{ "none", CMAN_STARTTLS_NONE },
	{ "postgresql", CMAN_STARTTLS_POSTGRESQL },
	{ 0 },
};
static const struct word words_store[] = {
	{ "embedded", CMAN_STORE_EMBEDDED },
	{ "etcd", CMAN_STORE_ETCD },
	{ 0 },
};
static const struct word words_field[] = {
	{ "source", 0 },
	{ 0 },
};

#define AT(type, field)		 .at = offsetof(struct type, field)
#define MANY(type, field, count) offsetof(struct type, field), offsetof(struct type, count)

#define TITLED(kind, check, type, children_) \
	{ \
#kind, check, offsetof(struct type, line), sizeof(struct type), keys_##kind, \
			children_ \
	}
#define TLS_BLOCK(of, children_) \
	{ \
		"tls", .size = sizeof(struct cman_tls_conf), .keys = keys_##of##_tls, \
		       .children = children_ \
	}

static const struct child no_children[] = {
	{ 0 },
};

#define SNI(field) AT(cman_sni_conf, field)
static const struct key keys_sni[] = {
	{ "certificate", set_file, SNI(certificate), .required = true },
	{ "key", set_file, SNI(key), .required = true },
	{ 0 },
};
static const struct block block_sni = TITLED(sni, check_sni, cman_sni_conf, no_children);

#define TLS(field) AT(cman_tls_conf, field)
/* of both legs */
#define TLS_CHOICES \
	{ "min_version", set_word, TLS(min_version), .words = words_version, .def = "1.2" }, \
		{ "ciphers", add_cipher, .list = true, .max = CMAN_MAX_SUITES }, \
		{ "alpn", add_alpn, .list = true, .max = 128 }, \
	{ \
		"engine", set_word, TLS(engine), .words = words_engine, .def = "auto" \
	}

static const struct key keys_channel_tls[] = {
	{ "certificate", set_file, TLS(certificate), .required = true },
	{ "key", set_file, TLS(key), .required = true },
	{ "ca", set_file, TLS(ca), .required = true },
	{ 0 },
};
static const struct key keys_listener_tls[] = {
	{ "certificate", set_file, TLS(certificate), .required = true },
	{ "key", set_file, TLS(key), .required = true },
	{ "client_ca", set_file, TLS(client_ca) },
	TLS_CHOICES,
	{ 0 },
};
static const struct key keys_service_tls[] = {
	{ "ca", set_file, TLS(ca) },
	{ "server_name", set_server_name, TLS(server_name) },
	{ "certificate", set_file, TLS(certificate) },
	{ "key", set_file, TLS(key) },
	{ "verify", set_bool, TLS(verify), .def = "true" },
	{ "starttls", set_word, TLS(starttls), .words = words_starttls, .def = "auto" },
	TLS_CHOICES,
	{ 0 },
};
static const struct child children_listener_tls[] = {
	{ &block_sni, MANY(cman_tls_conf, sni, nsni) },
	{ 0 },
};
static const struct block block_channel_tls = TLS_BLOCK(channel, no_children);
static const struct block block_listener_tls = TLS_BLOCK(listener, children_listener_tls);
static const struct block block_service_tls = TLS_BLOCK(service, no_children);

#define LISTENER(field) AT(cman_listener_conf, field)
static const struct key keys_listener[] = {
	{ "address", set_listen_range, LISTENER(address), .required = true },
	{ "service", set_name, LISTENER(service_name), .required = true },
	{ 0 },
};
static const struct child children_listener[] = {
	{ &block_listener_tls, offsetof(struct cman_listener_conf, tls), 0 },
	{ 0 },
};
static const struct block block_listener = TITLED(listener, cman_name_check, cman_listener_conf,
						  children_listener);

#define SERVICE(field) AT(cman_service_conf, field)
static const struct key keys_service[] = {
	{ "targets", add_target, .list = true, .required = true, .max = CMAN_MAX_TARGETS },
	{ "balance", set_word, SERVICE(balance), .words = words_balance, .def = "first" },
	{ "source", set_source_address, SERVICE(source) },
	{ "connect_timeout", set_uint, SERVICE(connect_timeout_s), .min = 1, .max = 3600,
	  .unit = "seconds", .def = "5" },
	{ "idle_timeout", set_uint, SERVICE(idle_timeout_s), .max = YEAR, .unit = "seconds",
	  .def = "0" },
	{ "session_timeout", set_uint, SERVICE(session_timeout_s), .max = YEAR, .unit = "seconds",
	  .def = "0" },
	{ "when_down", set_word, SERVICE(when_down), .words = words_down, .def = "refuse" },
	{ "splice", set_flag_word, SERVICE(splice_sockmap), .words = words_splice, .def = "user" },
	{ "group", set_name, SERVICE(group) },
	{ 0 },
};
static const struct child children_service[] = {
	{ &block_service_tls, offsetof(struct cman_service_conf, tls), 0 },
	{ 0 },
};
static const struct block block_service = TITLED(service, cman_name_check, cman_service_conf,
						 children_service);

#define RULE(field) AT(cman_rule_conf, field)
static const struct key keys_rule[] = {
	{ "source", set_rule_source, .required = true },
	{ "service", set_name_or_any, RULE(service_name), .def = "*" },
	{ "action", set_word, RULE(action), .words = words_action, .def = "accept" },
	{ "max_idle", set_uint, RULE(max_idle_s), .max = YEAR, .unit = "seconds", .def = "0" },
	{ "max_sessions", set_uint, RULE(max_sessions), .max = 1000000, .def = "0" },
	{ 0 },
};
static const struct block block_rule = TITLED(rule, cman_name_check, cman_rule_conf, no_children);

static const struct key keys_floating[] = {
	{ "address", set_floating, .required = true },
	{ "interface", set_interface, AT(cman_floating_conf, interface), .required = true },
	{ 0 },
};
static const struct block block_floating = TITLED(floating, cman_name_check, cman_floating_conf,
						  no_children);

static const struct key keys_peer[] = {
	{ "address", set_remote, AT(cman_peer_conf, address), .required = true },
	{ "name", set_peer_name, AT(cman_peer_conf, peer_name) },
	{ 0 },
};
static const struct block block_peer = TITLED(peer, cman_name_check, cman_peer_conf, no_children);

#define INSTANCE(field) AT(cman_instance_conf, field)
static const struct key keys_instance[] = {
	{ "run_dir", set_path, INSTANCE(run_dir), .def = CMAN_DEFAULT_RUN_DIR },
	{ "user", set_user, INSTANCE(user) },
	{ "log", set_path, INSTANCE(log) },
	{ "log_level", set_word, INSTANCE(log_level), .words = words_level, .def = "notice" },
	{ "gateways", set_uint, INSTANCE(gateways), .min = 1, .max = CMAN_MAX_GATEWAYS },
	{ "max_sessions", set_uint, INSTANCE(max_sessions), .min = 1, .max = 1000000,
	  .def = "9000" },
	{ "handover", set_word, INSTANCE(handover), .words = words_handover, .def = "auto" },
	{ "handover_timeout", set_uint, INSTANCE(handover_timeout_s), .min = 1, .max = DAY,
	  .unit = "seconds", .def = "420" },
	{ "handover_listen", set_listen, INSTANCE(handover_listen) },
	{ "http", set_listen_text, INSTANCE(http) },
	{ "standby", set_bool, INSTANCE(standby), .def = "false" },
	{ 0 },
};
static const struct child children_instance[] = {
	{ &block_listener, MANY(cman_instance_conf, listener, nlisteners) },
	{ &block_service, MANY(cman_instance_conf, service, nservices) },
	{ &block_rule, MANY(cman_instance_conf, rule, nrules) },
	{ &block_floating, MANY(cman_instance_conf, floating, nfloating) },
	{ &block_peer, MANY(cman_instance_conf, peer, npeers) },
	{ &block_channel_tls, offsetof(struct cman_instance_conf, tls), 0 },
	{ 0 },
};
static const struct block block_instance = TITLED(instance, cman_alias_check, cman_instance_conf,
						  children_instance);

static const struct key keys_machine[] = {
	{ "address", set_remote, AT(machine, address), .required = true },
	{ "instance", set_name, AT(machine, instance), .required = true },
	{ 0 },
};
static const struct block block_machine = TITLED(machine, cman_name_check, machine, no_children);

static const struct key keys_group[] = {
	{ "machines", add_machine, .list = true, .required = true, .max = 2 },
	{ "vip", add_vip, .list = true, .max = MAX_VIPS },
	{ "interface", set_interface, AT(group, interface) },
	{ "restart", set_bool, AT(group, restart), .def = "false" },
	{ 0 },
};
static const struct block block_group = TITLED(group, cman_name_check, group, no_children);

static const struct key keys_route[] = {
	{ "listener", set_name, AT(route, listener), .required = true },
	{ "field", set_word, AT(route, field), .words = words_field, .def = "source" },
	{ "ranges", add_range, .list = true, .required = true, .max = 1024 },
	{ 0 },
};
static const struct block block_route = TITLED(route, cman_name_check, route, no_children);

#define CLUSTER(field) AT(cluster, field)
static const struct key keys_cluster[] = {
	{ "store", set_word, CLUSTER(store), .words = words_store, .def = "embedded" },
	{ "etcd_endpoints", add_etcd_endpoint, .list = true, .max = 16 },
	{ "master", set_name, CLUSTER(master), .required = true },
	{ "backup", set_name, CLUSTER(backup) },
	{ "migrate", set_bool, CLUSTER(migrate), .def = "false" },
	{ "scanunit_ms", set_uint, CLUSTER(scanunit_ms), .min = 10, .max = 60000,
	  .unit = "milliseconds", .def = "1000" },
	{ "sanityscan", set_uint, CLUSTER(sanityscan), .min = 1, .max = 32767, .def = "10" },
	{ "dbblfailover", set_uint, CLUSTER(dbblfailover), .max = 32767, .def = "0" },
	{ "sgrpfailover", set_uint, CLUSTER(sgrpfailover), .max = 32767, .def = "0" },
	{ 0 },
};
static const struct child children_cluster[] = {
	{ &block_machine, MANY(cluster, machine, nmachines) },
	{ &block_group, MANY(cluster, group, ngroups) },
	{ &block_route, MANY(cluster, route, nroutes) },
	{ &block_channel_tls, offsetof(struct cluster, tls), 0 },
	{ 0 },
};
static const struct block block_cluster = TITLED(cluster, cman_name_check, cluster,
						 children_cluster);

static const struct key keys_file[] = {
	{ 0 },
};
static const struct child children_file[] = {
	{ &block_instance, MANY(file_model, instance, ninstances) },
	{ &block_cluster, MANY(file_model, cluster, nclusters) },
	{ 0 },
};
const struct block cman_conf_grammar = { "this file", .size = sizeof(struct file_model),
					 .keys = keys_file, .children = children_file };

/* A titled struct begins with its title. */
#define HAS_TITLE(type, field) \
	static_assert(offsetof(struct type, field) == 0, "the title comes first")
HAS_TITLE(cman_instance_conf, alias);
HAS_TITLE(cman_listener_conf, name);
HAS_TITLE(cman_service_conf, name);
HAS_TITLE(cman_rule_conf, name);
HAS_TITLE(cman_floating_conf, name);
HAS_TITLE(cman_peer_conf, name);
HAS_TITLE(cman_sni_conf, name);
