/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The grammar of cman.conf(5), as tables: each block has its keys and its blocks, each key has a
 * typed setter, a range, a default. From these tables libconfuse's options are made, and with
 * them its result is converted into the model of usr/core/config.h.
 *
 * To libconfuse every value is a pointer to (line, text), made by a callback at the moment when
 * its line counter is right. So each error can name the line of its value; of several errors the
 * one with the lowest line is reported. libconfuse has one global parser: one load at a time.
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
#include "usr/sys/conf.h"
#include "usr/sys/conf_text.h"

#define LINE_KEY "(line)" /* hidden in every block: no text can name it */
#define MAX_VIPS 16
#define DAY	 (24 * 3600)
#define YEAR	 (365 * DAY)

struct value {
	unsigned int line;
	char text[];
};

struct loader;
struct key;

typedef int (*setter)(struct loader *l, const struct key *k, const struct value *v, void *at);

struct word {
	const char *name;
	int value;
};

struct key {
	const char *name;
	setter set;
	size_t at; /* offset into the block's struct; lists get the struct itself */
	bool list, required;
	long min, max; /* numbers, lengths of lists */
	const char *unit;
	const struct word *words;
	const char *def;
};

/* A block within a block: an array (pointer and count), or one embedded struct. */
struct child {
	const struct block *block;
	size_t at, count_at;
};

struct block {
	const char *name;
	bool titled; /* else: at most one, and its struct is a cman_tls_conf */
	size_t size;
	const struct key *keys;
	const struct child *children;
};

/* Every titled struct begins like this. */
struct head {
	char name[CMAN_NAME_LEN];
	unsigned int line;
};
#define HAS_HEAD(type, name_field) \
	static_assert(offsetof(struct type, name_field) == 0 && \
			      offsetof(struct type, line) == offsetof(struct head, line), \
		      "begins like struct head")
HAS_HEAD(cman_instance_conf, alias);
HAS_HEAD(cman_listener_conf, name);
HAS_HEAD(cman_service_conf, name);
HAS_HEAD(cman_rule_conf, name);
HAS_HEAD(cman_floating_conf, name);
HAS_HEAD(cman_peer_conf, name);

/* cluster blocks: cman-coordd has its own model; here only what their checks need */
struct machine {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	struct cman_endpoint address;
	char instance[CMAN_NAME_LEN];
};

struct group {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	char machine[2][CMAN_NAME_LEN];
	uint32_t nmachines, nvips;
	char interface[16];
	bool restart;
};

struct route {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	char listener[CMAN_NAME_LEN];
	int field;
};

struct cluster {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	int store;
	uint32_t nendpoints;
	char master[CMAN_NAME_LEN], backup[CMAN_NAME_LEN];
	bool migrate;
	uint32_t scanunit_ms, sanityscan, dbblfailover, sgrpfailover;
	struct cman_tls_conf tls;
	struct machine *machine;
	struct group *group;
	struct route *route;
	uint32_t nmachines, ngroups, nroutes;
};

struct file_model {
	struct cman_instance_conf *instance;
	struct cluster *cluster;
	uint32_t ninstances, nclusters;
};

/* Where a key was written, for errors that are found later. */
struct place {
	unsigned int block_line, line;
	const char *key;
	char block[CMAN_NAME_LEN];
};

struct loader {
	const char *file;
	struct cman_conf_error *error;
	bool failed;
	struct cman_conf_text text;
	const char *block; /* being converted: kind and name, for messages */
	const char *block_name;
	struct place *place;
	size_t nplaces, places_size;

	bool replaced; /* while libconfuse parses: a value was freed for another one */
};

/* Error and value callbacks of libconfuse carry no argument of ours. */
static struct loader *parsing;

/* --- errors: the one with the lowest line is kept */

static int fail(struct loader *l, unsigned int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct loader *l, unsigned int line, const char *format, ...)
{
	va_list args;

	if (l->failed && l->error->line <= line)
		return -EINVAL;
	va_start(args, format);
	cman_conf_verror(l->error, l->file, line, format, args);
	va_end(args);
	l->failed = true;
	return -EINVAL;
}

/* What the user wrote, fit for a message. */
#define SHOWN_LEN 64
static const char *shown(const char *text, char buf[SHOWN_LEN])
{
	size_t i;

	for (i = 0; i < SHOWN_LEN - 4 && text[i]; i++)
		buf[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
	strcpy(buf + i, text[i] ? "..." : "");
	return buf;
}

static int fail_value(struct loader *l, const struct key *k, const struct value *v,
		      const char *reason)
{
	char buf[SHOWN_LEN];

	return fail(l, v->line, "%s = \"%s\": %s", k->name, shown(v->text, buf), reason);
}

static char *block_text(const char *kind, const char *name, char *buf, size_t size)
{
	snprintf(buf, size, name && *name ? "%s '%.40s'" : "%s", kind, name);
	return buf;
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
		      sizeof(enum cman_carrier_choice) == sizeof(int),
	      "set_word() stores an int");

static int set_flag_word(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	int found, r = find_word(l, k, v, &found);

	if (r == 0)
		*(bool *)at = found;
	return r;
}

static int keep(struct loader *l, const char *text, unsigned int line, void *at)
{
	char *copy = strdup(text);

	if (!copy)
		return fail(l, line, "out of memory");
	free(*(char **)at);
	*(char **)at = copy;
	return 0;
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
	return *v->text ? keep(l, v->text, v->line, at) : 0;
}

static int set_tls_version(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	int unused, r = find_word(l, k, v, &unused);

	return r < 0 ? r : keep(l, v->text, v->line, at);
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
	return keep(l, v->text, v->line, at);
}

/* A file that exists and can be read, relative to the folder of the configuration. */
static int set_file(struct loader *l, const struct key *k, const struct value *v, void *at)
{
	const char *slash = strrchr(l->file, '/');
	char *path = NULL, reason[100];
	struct stat st;
	int fd, r;

	if (!*v->text)
		return 0;
	r = set_text(l, k, v, at);
	if (r < 0)
		return r;
	if (*v->text != '/' && slash) {
		if (asprintf(&path, "%.*s/%s", (int)(slash - l->file), l->file, v->text) < 0)
			return fail(l, v->line, "out of memory");
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
	return keep(l, v->text, v->line, at);
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

	return r < 0 ? r : keep(l, v->text, v->line, at);
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
static const struct word words_tls[] = {
	{ "1.2", 2 },
	{ "1.3", 3 },
	{ 0 },
};
static const struct word words_store[] = {
	{ "embedded", 0 },
	{ "etcd", 1 },
	{ 0 },
};
static const struct word words_field[] = {
	{ "source", 0 },
	{ 0 },
};

#define AT(type, field)		 .at = offsetof(struct type, field)
#define MANY(type, field, count) offsetof(struct type, field), offsetof(struct type, count)

#define TITLED(kind, type, children_) \
	{ \
#kind, true, sizeof(struct type), keys_##kind, children_ \
	}
#define TLS_BLOCK(of) \
	{ \
		"tls", false, sizeof(struct cman_tls_conf), keys_##of##_tls, no_children \
	}

#define TLS(field) AT(cman_tls_conf, field)
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
	{ "min_version", set_tls_version, TLS(min_version), .words = words_tls, .def = "1.2" },
	{ 0 },
};
static const struct key keys_service_tls[] = {
	{ "ca", set_file, TLS(ca) },
	{ "server_name", set_text, TLS(server_name) },
	{ "certificate", set_file, TLS(certificate) },
	{ "key", set_file, TLS(key) },
	{ "verify", set_bool, TLS(verify), .def = "true" },
	{ 0 },
};
static const struct child no_children[] = {
	{ 0 },
};
static const struct block block_channel_tls = TLS_BLOCK(channel);
static const struct block block_listener_tls = TLS_BLOCK(listener);
static const struct block block_service_tls = TLS_BLOCK(service);

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
static const struct block block_listener = TITLED(listener, cman_listener_conf, children_listener);

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
static const struct block block_service = TITLED(service, cman_service_conf, children_service);

#define RULE(field) AT(cman_rule_conf, field)
static const struct key keys_rule[] = {
	{ "source", set_rule_source, .required = true },
	{ "service", set_name_or_any, RULE(service_name), .def = "*" },
	{ "action", set_word, RULE(action), .words = words_action, .def = "accept" },
	{ "max_idle", set_uint, RULE(max_idle_s), .max = YEAR, .unit = "seconds", .def = "0" },
	{ "max_sessions", set_uint, RULE(max_sessions), .max = 1000000, .def = "0" },
	{ 0 },
};
static const struct block block_rule = TITLED(rule, cman_rule_conf, no_children);

static const struct key keys_floating[] = {
	{ "address", set_floating, .required = true },
	{ "interface", set_interface, AT(cman_floating_conf, interface), .required = true },
	{ 0 },
};
static const struct block block_floating = TITLED(floating, cman_floating_conf, no_children);

static const struct key keys_peer[] = {
	{ "address", set_remote, AT(cman_peer_conf, address), .required = true },
	{ "name", set_peer_name, AT(cman_peer_conf, peer_name) },
	{ 0 },
};
static const struct block block_peer = TITLED(peer, cman_peer_conf, no_children);

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
static const struct block block_instance = TITLED(instance, cman_instance_conf, children_instance);

static const struct key keys_machine[] = {
	{ "address", set_remote, AT(machine, address), .required = true },
	{ "instance", set_name, AT(machine, instance), .required = true },
	{ 0 },
};
static const struct block block_machine = TITLED(machine, machine, no_children);

static const struct key keys_group[] = {
	{ "machines", add_machine, .list = true, .required = true, .max = 2 },
	{ "vip", add_vip, .list = true, .max = MAX_VIPS },
	{ "interface", set_interface, AT(group, interface) },
	{ "restart", set_bool, AT(group, restart), .def = "false" },
	{ 0 },
};
static const struct block block_group = TITLED(group, group, no_children);

static const struct key keys_route[] = {
	{ "listener", set_name, AT(route, listener), .required = true },
	{ "field", set_word, AT(route, field), .words = words_field, .def = "source" },
	{ "ranges", add_range, .list = true, .required = true, .max = 1024 },
	{ 0 },
};
static const struct block block_route = TITLED(route, route, no_children);

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
static const struct block block_cluster = TITLED(cluster, cluster, children_cluster);

static const struct key keys_file[] = {
	{ 0 },
};
static const struct child children_file[] = {
	{ &block_instance, MANY(file_model, instance, ninstances) },
	{ &block_cluster, MANY(file_model, cluster, nclusters) },
	{ 0 },
};
static const struct block block_file = { "this file", .size = sizeof(struct file_model),
					 .keys = keys_file, .children = children_file };

/* --- libconfuse: callbacks */

static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *text, void *result)
{
	struct loader *l = parsing;
	struct value *v;

	if (l && l->replaced) {
		l->replaced = false;
		return fail(l, (unsigned int)cfg->line,
			    "key '%s' is given twice: expected it once "
			    "in a block",
			    opt->name);
	}
	v = malloc(sizeof(*v) + strlen(text) + 1);
	if (!v)
		return -1;
	v->line = (unsigned int)cfg->line;
	strcpy(v->text, text);
	*(void **)result = v;
	return 0;
}

/* libconfuse frees a value during the parse only to replace it. */
static void on_free(void *value)
{
	if (parsing)
		parsing->replaced = true;
	free(value);
}

/* How many letters to insert, remove or change to get from one to the other. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[CMAN_NAME_LEN + 1], i, j;
	size_t la = strlen(a), lb = strlen(b);

	if (la > CMAN_NAME_LEN || lb > CMAN_NAME_LEN)
		return CMAN_NAME_LEN;
	for (j = 0; j <= lb; j++)
		row[j] = j;
	for (i = 1; i <= la; i++) {
		unsigned int corner = row[0];

		row[0] = i;
		for (j = 1; j <= lb; j++) {
			unsigned int best = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[lb];
}

/* The names of keys or blocks that @opts allows, those most like @name first. */
static void list_names(const cfg_opt_t *opts, bool blocks, const char *name, char *buf, size_t size)
{
	unsigned int far, next = 0, now;
	size_t used = 0;
	const cfg_opt_t *o;

	*buf = '\0';
	for (now = 0; now <= CMAN_NAME_LEN && used < size - 1; now = next) {
		next = CMAN_NAME_LEN + 1;
		for (o = opts; o->name; o++) {
			if ((o->type == CFGT_SEC) != blocks || !strcmp(o->name, LINE_KEY))
				continue;
			far = distance(name, o->name);
			if (far > now && far < next)
				next = far;
			if (far != now || used >= size - 1)
				continue;
			used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "",
						 o->name);
		}
	}
	if (used == 0)
		snprintf(buf, size, "none");
}

/* The line on which the block was opened. */
static unsigned int block_line(cfg_t *cfg)
{
	cfg_opt_t *opt;
	unsigned int i;

	for (i = 0; (opt = cfg_getnopt(cfg, i)); i++)
		if (!strcmp(opt->name, LINE_KEY) && cfg_opt_size(opt))
			return ((struct value *)cfg_opt_getnptr(opt, 0))->line;
	return 0;
}

static bool is_block_name(const struct block *in, const char *name)
{
	const struct child *c;

	for (c = in->children; c->block; c++)
		if (!strcmp(c->block->name, name))
			return true;
	return false;
}

/*
 * A block within a block that does not know it, but one further out does: most likely that a '}'
 * was forgotten.
 */
static bool lacks_brace(struct loader *l, cfg_t *cfg, const char *name)
{
	unsigned int line = (unsigned int)cfg->line;
	bool outer, inner = strcmp(cfg->name, "instance") && strcmp(cfg->name, "cluster");
	char in[80];

	outer = is_block_name(&block_file, name) ||
		(inner &&
		 (is_block_name(&block_instance, name) || is_block_name(&block_cluster, name)));
	if (!outer || !strcmp(cfg->name, "root") || !cman_conf_text_is_block(&l->text, line, name))
		return false;
	block_text(cfg->name, cfg->title, in, sizeof(in));
	fail(l, line, "block '%s' within %s: expected the '}' of %s, line %u, before it", name, in,
	     in, block_line(cfg));
	return true;
}

static void unknown(struct loader *l, cfg_t *cfg, const char *name)
{
	unsigned int line = (unsigned int)cfg->line;
	bool block = cman_conf_text_is_block(&l->text, line, name);
	char in[80], names[220], buf[SHOWN_LEN];

	if (lacks_brace(l, cfg, name))
		return;
	shown(name, buf);
	if (!strcmp(cfg->name, "root")) {
		list_names(cfg->opts, true, name, names, sizeof(names));
		fail(l, line,
		     block ? "unknown block '%s': expected one of %s" :
			     "'%s' outside of a block: expected it within one of %s",
		     buf, names);
		return;
	}
	block_text(cfg->name, cfg->title, in, sizeof(in));
	list_names(cfg->opts, block, name, names, sizeof(names));
	fail(l, line, "unknown %s '%s' in %s: expected one of %s", block ? "block" : "key", buf, in,
	     names);
}

/* libconfuse's texts are terse, and it has no codes: told apart by their beginnings. */
static void on_error(cfg_t *cfg, const char *format, va_list args)
{
	struct loader *l = parsing;
	unsigned int line = (unsigned int)cfg->line;
	char text[200], word[100] = "", *quote;

	if (!l)
		return;
	vsnprintf(text, sizeof(text), format, args);
	quote = strchr(text, '\'');
	if (quote) {
		snprintf(word, sizeof(word), "%s", quote + 1);
		quote = strrchr(word, '\'');
		if (quote)
			*quote = '\0';
	}
	if (!strncmp(text, "no such option", 14) || !strncmp(text, "no sub-section", 14))
		unknown(l, cfg, word);
	else if (!strncmp(text, "found duplicate title", 21))
		fail(l, line,
		     "the name '%s' is given to two blocks of one kind: expected names "
		     "that differ",
		     word);
	else if (!strncmp(text, "missing equal sign", 18) && lacks_brace(l, cfg, word))
		return;
	else if (!strncmp(text, "missing equal sign", 18))
		fail(l, line, "'=' is missing behind '%s': expected %s = VALUE", word, word);
	else if (!strncmp(text, "missing title", 13))
		fail(l, line, "block '%s' has no name: expected %s NAME {", word, word);
	else if (!strncmp(text, "missing opening brace", 21))
		fail(l, line, "expected '{' behind the name of block '%s'", word);
	else if (!strncmp(text, "attempt to append", 17))
		fail(l, line, "'+=' is for lists, '%s' has one value: expected '='", word);
	else if (!strncmp(text, "unexpected token", 16) && *word == '{')
		fail(l, line, "a list for a key that has one value: expected KEY = VALUE");
	else if (!strncmp(text, "unexpected token", 16))
		fail(l, line, "unexpected '%s': expected KEY = VALUE or BLOCK NAME {", word);
	else if (!strncmp(text, "premature end", 13))
		fail(l, line, "the file ends within a block or value: expected '}'");
	else
		fail(l, line, "%s: expected the syntax of cman.conf(5)", text);
}

/* --- libconfuse: options from the tables */

static void free_options(cfg_opt_t *opts)
{
	cfg_opt_t *o;

	for (o = opts; o && o->name; o++)
		free_options(o->subopts);
	free(opts);
}

static cfg_opt_t *make_options(const struct block *b)
{
	const struct child *c;
	const struct key *k;
	cfg_opt_t *opts, *o;
	size_t n = 2; /* the line, the end */

	for (k = b->keys; k->name; k++)
		n++;
	for (c = b->children; c->block; c++)
		n++;
	opts = calloc(n, sizeof(*opts));
	if (!opts)
		return NULL;
	o = opts;
	/* its default is "parsed" when the block is opened: so it learns that line */
	*o++ = (cfg_opt_t){ .name = LINE_KEY,
			    .type = CFGT_PTR,
			    .parsecb = on_value,
			    .freecb = on_free,
			    .def.parsed = (char *)"x" };
	for (k = b->keys; k->name; k++)
		*o++ = (cfg_opt_t){ .name = k->name,
				    .type = CFGT_PTR,
				    .parsecb = on_value,
				    .freecb = on_free,
				    .flags = k->list ? CFGF_LIST : CFGF_NONE };
	for (c = b->children; c->block; c++) {
		*o = (cfg_opt_t){ .name = c->block->name,
				  .type = CFGT_SEC,
				  .flags = CFGF_MULTI,
				  .subopts = make_options(c->block) };
		if (c->block->titled)
			o->flags |= CFGF_TITLE | CFGF_NO_TITLE_DUPES;
		if (!o->subopts) {
			free_options(opts);
			return NULL;
		}
		o++;
	}
	return opts;
}

static int parse(struct loader *l, cfg_t **ret_cfg)
{
	cfg_opt_t *opts = make_options(&block_file);
	cfg_t *cfg = opts ? cfg_init(opts, CFGF_NONE) : NULL;
	int r;

	free_options(opts);
	if (!cfg)
		return fail(l, 0, "out of memory");
	cfg_set_error_function(cfg, on_error);
	parsing = l;
	r = l->text.len ? cfg_parse_buf(cfg, l->text.text) : CFG_SUCCESS;
	parsing = NULL;
	if (r == CFG_SUCCESS && l->text.open_line)
		fail(l, l->text.open_line,
		     "%s is not closed: expected '}' before the end of the "
		     "file",
		     l->text.open_block);
	else if (r != CFG_SUCCESS && !l->failed)
		fail(l, 0, "cannot be parsed: expected the syntax of cman.conf(5)");
	if (l->failed) {
		cfg_free(cfg);
		return -EINVAL;
	}
	*ret_cfg = cfg;
	return 0;
}

/* --- conversion into the model */

static void remember(struct loader *l, const struct head *head, const char *key, unsigned int line)
{
	struct place *more;

	if (l->nplaces == l->places_size) {
		size_t size = l->places_size ? 2 * l->places_size : 64;

		more = realloc(l->place, size * sizeof(*more));
		if (!more) {
			fail(l, line, "out of memory");
			return;
		}
		l->place = more;
		l->places_size = size;
	}
	l->place[l->nplaces] = (struct place){ head->line, line, key, "" };
	strcpy(l->place[l->nplaces++].block, head->name);
}

/* The line of @key in a block, or that of the block. */
static unsigned int line_of(const struct loader *l, unsigned int line, const char *block,
			    const char *key)
{
	size_t i;

	for (i = 0; key && i < l->nplaces; i++)
		if (l->place[i].block_line == line && !strcmp(l->place[i].block, block) &&
		    !strcmp(l->place[i].key, key))
			return l->place[i].line;
	return line;
}

static void convert_key(struct loader *l, cfg_t *cfg, const struct key *k, const struct head *head,
			char *base)
{
	cfg_opt_t *opt = cfg_getopt(cfg, k->name);
	unsigned int i, n = opt ? cfg_opt_size(opt) : 0;
	char in[80];

	if (n == 0 && k->required)
		fail(l, head->line, "%s has no '%s': expected it in the block",
		     block_text(cfg->name, cfg->title, in, sizeof(in)), k->name);
	if (n == 0 && k->def) {
		struct value *v = malloc(sizeof(*v) + strlen(k->def) + 1);

		if (!v) {
			fail(l, head->line, "out of memory");
			return;
		}
		v->line = head->line;
		strcpy(v->text, k->def);
		k->set(l, k, v, base + k->at);
		free(v);
		return;
	}
	for (i = 0; i < n; i++) {
		const struct value *v = cfg_opt_getnptr(opt, i);

		if (i == 0)
			remember(l, head, k->name, v->line);
		if (k->list && i >= (unsigned int)k->max) {
			fail(l, v->line, "'%s' has more than %ld values: expected 1 to %ld",
			     k->name, k->max, k->max);
			return;
		}
		k->set(l, k, v, base + k->at);
	}
}

static void convert(struct loader *l, cfg_t *cfg, const struct block *b, void *ret);

static void convert_children(struct loader *l, cfg_t *cfg, const struct child *c, char *base)
{
	cfg_opt_t *opt = cfg_getopt(cfg, c->block->name);
	unsigned int i, n = opt ? cfg_opt_size(opt) : 0;
	char in[80], *array;

	if (!c->block->titled) {
		if (n > 1)
			fail(l, block_line(cfg_opt_getnsec(opt, 1)),
			     "%s has two '%s' blocks: "
			     "expected one",
			     block_text(cfg->name, cfg->title, in, sizeof(in)), c->block->name);
		if (n)
			convert(l, cfg_opt_getnsec(opt, 0), c->block, base + c->at);
		return;
	}
	if (n == 0)
		return;
	array = calloc(n, c->block->size);
	if (!array) {
		fail(l, block_line(cfg), "out of memory");
		return;
	}
	*(void **)(base + c->at) = array;
	*(uint32_t *)(base + c->count_at) = n;
	for (i = 0; i < n; i++)
		convert(l, cfg_opt_getnsec(opt, i), c->block, array + i * c->block->size);
}

static void convert(struct loader *l, cfg_t *cfg, const struct block *b, void *ret)
{
	struct head head = { .line = block_line(cfg) };
	const struct child *c;
	const struct key *k;
	const char *why;
	char buf[SHOWN_LEN];
	int r;

	if (b->titled) {
		r = b == &block_instance ? cman_alias_check(cfg_title(cfg), &why) :
					   cman_name_check(cfg_title(cfg), &why);
		if (r < 0)
			fail(l, head.line, "%s '%s': %s", b->name, shown(cfg_title(cfg), buf), why);
		else
			strcpy(head.name, cfg_title(cfg));
		memcpy(ret, &head, sizeof(head));
	} else if (b != &block_file) {
		struct cman_tls_conf *tls = ret;

		tls->set = true;
		tls->line = head.line;
		strcpy(head.name, "tls");
	}
	for (k = b->keys; k->name; k++)
		convert_key(l, cfg, k, &head, ret);
	for (c = b->children; c->block; c++)
		convert_children(l, cfg, c, ret);
}

/* --- what the tables cannot say */

static void fill_instance(struct loader *l, struct cman_instance_conf *inst)
{
	long cpus;
	uint32_t i;

	if (inst->gateways == 0) {
		cpus = sysconf(_SC_NPROCESSORS_ONLN);
		inst->gateways = cpus < 1		  ? 1 :
				 cpus > CMAN_MAX_GATEWAYS ? CMAN_MAX_GATEWAYS :
							    (uint32_t)cpus;
	}
	if (!inst->user)
		keep(l, getpwnam("cman") ? "cman" : "nobody", inst->line, &inst->user);
	if (!inst->log && inst->run_dir &&
	    asprintf(&inst->log, "%s/%s.log", inst->run_dir, inst->alias) < 0) {
		inst->log = NULL;
		fail(l, inst->line, "out of memory");
	}
	for (i = 0; i < inst->nservices; i++) {
		const struct cman_tls_conf *tls = &inst->service[i].tls;

		if (tls->set && !tls->certificate != !tls->key)
			fail(l, tls->line,
			     "tls in service '%s' has a %s alone: expected both "
			     "'certificate' and 'key', or none",
			     inst->service[i].name, tls->certificate ? "certificate" : "key");
	}
	for (i = 0; i < inst->npeers; i++)
		if (!inst->peer[i].peer_name)
			keep(l, inst->peer[i].name, inst->peer[i].line, &inst->peer[i].peer_name);
}

static bool has_group(const struct file_model *m, const char *name)
{
	uint32_t i, j;

	for (i = 0; i < m->nclusters; i++)
		for (j = 0; j < m->cluster[i].ngroups; j++)
			if (strcmp(m->cluster[i].group[j].name, name) == 0)
				return true;
	return false;
}

static bool has_listener(const struct file_model *m, const char *name)
{
	uint32_t i, j;

	for (i = 0; i < m->ninstances; i++)
		for (j = 0; j < m->instance[i].nlisteners; j++)
			if (strcmp(m->instance[i].listener[j].name, name) == 0)
				return true;
	return m->ninstances == 0;
}

static void check_machine(struct loader *l, const struct cluster *c, const void *block,
			  const char *key, const char *name)
{
	const struct head *head = block;
	uint32_t i;

	for (i = 0; i < c->nmachines; i++)
		if (strcmp(c->machine[i].name, name) == 0)
			return;
	fail(l, line_of(l, head->line, head->name, key),
	     "%s: unknown machine '%s': expected one "
	     "of cluster '%s'",
	     key, name, c->name);
}

static void check_cluster(struct loader *l, const struct file_model *m, const struct cluster *c)
{
	uint32_t i, j;

	if (c->store == 1 && c->nendpoints == 0)
		fail(l, line_of(l, c->line, c->name, "store"),
		     "store = \"etcd\" without "
		     "'etcd_endpoints': expected where etcd is");
	if (*c->master)
		check_machine(l, c, c, "master", c->master);
	if (*c->backup)
		check_machine(l, c, c, "backup", c->backup);
	if (*c->backup && !strcmp(c->backup, c->master))
		fail(l, line_of(l, c->line, c->name, "backup"),
		     "backup is the same machine as "
		     "master: expected another one");
	for (i = 0; i < c->ngroups; i++) {
		const struct group *g = &c->group[i];

		for (j = 0; j < g->nmachines; j++)
			check_machine(l, c, g, "machines", g->machine[j]);
		if (g->nvips && !*g->interface)
			fail(l, g->line,
			     "group '%s' has 'vip' without 'interface': expected the "
			     "interface that gets the addresses",
			     g->name);
	}
	for (i = 0; i < c->nroutes; i++)
		if (!has_listener(m, c->route[i].listener))
			fail(l, line_of(l, c->route[i].line, c->route[i].name, "listener"),
			     "route '%s': unknown listener '%s': expected one of an instance in "
			     "this file",
			     c->route[i].name, c->route[i].listener);
}

static void check_groups(struct loader *l, const struct file_model *m)
{
	uint32_t i, j;

	for (i = 0; i < m->ninstances; i++)
		for (j = 0; j < m->instance[i].nservices; j++) {
			const struct cman_service_conf *s = &m->instance[i].service[j];

			if (*s->group && !has_group(m, s->group))
				fail(l, line_of(l, s->line, s->name, "group"),
				     "service '%s': "
				     "unknown group '%s': expected one of a cluster block in this "
				     "file",
				     s->name, s->group);
		}
}

/*
 * The files of the handover channel are loaded once, to see whether they can be: nobody wants to
 * find that out in the middle of a handover. The key is not kept.
 */
static void check_tls(struct loader *l, struct cman_instance_conf *inst)
{
	struct cman_tls_conf *tls = &inst->tls;
	struct cman_tls_error error;
	struct cman_tls_ctx *ctx;

	if (!tls->set)
		return;
	if (cman_tls_ctx_new(tls->certificate, tls->key, tls->ca, &ctx, &error) < 0) {
		fail(l, line_of(l, tls->line, "tls", error.key), "%s = %s", error.key, error.text);
		return;
	}
	if (cman_tls_ctx_warning(ctx))
		keep(l, cman_tls_ctx_warning(ctx), tls->line, &tls->warning);
	cman_tls_ctx_free(ctx);
}

/*
 * What the grammar has and this release has not. Each of these would be less than the operator
 * asked for if it were ignored: no start at all is better. Goes away piece by piece.
 */
static void refuse_later_releases(struct loader *l, const struct cman_conf *conf)
{
	uint32_t i, j;

	for (i = 0; i < conf->ninstances; i++) {
		const struct cman_instance_conf *inst = &conf->instance[i];

		for (j = 0; j < inst->nlisteners; j++)
			if (inst->listener[j].tls.set)
				fail(l, inst->listener[j].tls.line,
				     "tls in listener '%s': this "
				     "release does not terminate TLS yet: expected no tls block "
				     "(clients would be served without encryption)",
				     inst->listener[j].name);
		for (j = 0; j < inst->nservices; j++) {
			const struct cman_service_conf *s = &inst->service[j];

			if (s->tls.set)
				fail(l, s->tls.line,
				     "tls in service '%s': this release does not "
				     "terminate TLS yet: expected no tls block (targets would be "
				     "reached without encryption)",
				     s->name);
		}
	}
}

static void free_clusters(struct file_model *m)
{
	uint32_t i;

	for (i = 0; i < m->nclusters; i++) {
		free(m->cluster[i].tls.certificate);
		free(m->cluster[i].tls.key);
		free(m->cluster[i].tls.ca);
		free(m->cluster[i].machine);
		free(m->cluster[i].group);
		free(m->cluster[i].route);
	}
	free(m->cluster);
}

static void load(struct loader *l, cfg_t *cfg, struct cman_conf *conf)
{
	struct cman_conf_problem p;
	struct file_model m = { 0 };
	uint32_t i;

	convert(l, cfg, &block_file, &m);
	conf->instance = m.instance;
	conf->ninstances = m.ninstances;
	conf->nclusters = m.nclusters;
	for (i = 0; i < m.ninstances; i++)
		fill_instance(l, &m.instance[i]);
	if (!l->failed) {
		for (i = 0; i < m.nclusters; i++)
			check_cluster(l, &m, &m.cluster[i]);
		check_groups(l, &m);
		if (cman_conf_check(conf, &p) < 0)
			fail(l, line_of(l, p.line, p.block, p.key), "%s", p.text);
	}
	if (!l->failed)
		refuse_later_releases(l, conf);
	for (i = 0; i < m.ninstances && !l->failed; i++)
		check_tls(l, &m.instance[i]);
	free_clusters(&m);
}

int cman_conf_load(const char *file, struct cman_conf **ret_conf, struct cman_conf_error *ret_error)
{
	struct loader l = { .file = file, .error = ret_error };
	struct cman_conf *conf = NULL;
	cfg_t *cfg = NULL;
	int r;

	r = cman_conf_text_init(&l.text, file, ret_error);
	if (r < 0)
		return r;
	r = parse(&l, &cfg);
	if (r == 0) {
		conf = calloc(1, sizeof(*conf));
		if (conf)
			conf->file = strdup(file);
		if (!conf || !conf->file)
			fail(&l, 0, "out of memory");
		else
			load(&l, cfg, conf);
		r = l.failed ? -EINVAL : 0;
		cfg_free(cfg);
	}
	cman_conf_text_fini(&l.text);
	free(l.place);
	if (r < 0) {
		cman_conf_free(conf);
		return r;
	}
	*ret_conf = conf;
	return 0;
}
