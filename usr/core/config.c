/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The configuration model: resolves references, finds what one value alone cannot show (addresses
 * that overlap, equal rules, families that do not fit, TLS where the kernel splices), says what a
 * reload may change, and frees it all. Addresses as text are in endpoint.c; files and their syntax are in usr/sys/conf*.c.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "usr/core/config_check.h"

/* The longest name below the run directory must fit into sun_path with RUN_DIR/ALIAS_old. */
#define LONGEST_SOCKET "_old/cell-63.sock"
#define SUN_PATH_MAX   107

void cman_conf_verror(struct cman_conf_error *ret_error, const char *file, unsigned int line,
		      const char *format, va_list args)
{
	size_t size = sizeof(ret_error->text), used = 0;
	int n = 0;

	/* the end of a long path says more than its beginning, and the reason more than both */
	if (file && strlen(file) > 150)
		n = snprintf(ret_error->text, size, "...%s", file + strlen(file) - 147);
	else if (file)
		n = snprintf(ret_error->text, size, "%s", file);
	used = (size_t)n;
	if (file && line)
		n = snprintf(ret_error->text + used, size - used, ":%u: ", line);
	else if (file)
		n = snprintf(ret_error->text + used, size - used, ": ");
	used += (size_t)n;
	vsnprintf(ret_error->text + used, size - used, format, args);
	ret_error->line = line;
}

void cman_conf_error(struct cman_conf_error *ret_error, const char *file, unsigned int line,
		     const char *format, ...)
{
	va_list args;

	va_start(args, format);
	cman_conf_verror(ret_error, file, line, format, args);
	va_end(args);
}

int cman_name_check(const char *name, const char **why)
{
	size_t len = strlen(name);

	if (len == 0) {
		*why = "an empty name: expected 1 to 31 of letters, digits, '_', '.' and '-'";
		return -EINVAL;
	}
	if (len >= CMAN_NAME_LEN) {
		*why = "the name is too long: expected at most 31 characters";
		return -EINVAL;
	}
	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") !=
	    len) {
		*why = "odd characters in the name: expected letters, digits, '_', '.' and '-'";
		return -EINVAL;
	}
	if (*name == '.' || *name == '-') {
		*why = "the name begins with '.' or '-': expected a letter, a digit or '_' first";
		return -EINVAL;
	}
	return 0;
}

int cman_alias_check(const char *alias, const char **why)
{
	size_t len = strlen(alias);
	int r;

	r = cman_name_check(alias, why);
	if (r < 0)
		return r;
	if (len > CMAN_ALIAS_MAX) {
		*why = "the alias is too long: expected at most 27 characters";
		return -EINVAL;
	}
	if (strchr(alias, '.')) {
		*why = "a '.' in the alias: expected none, it names a folder of bpffs";
		return -EINVAL;
	}
	if (len >= 4 && (!strcmp(alias + len - 4, "_old") || !strcmp(alias + len - 4, "_new"))) {
		*why = "an alias that ends in _old or _new: expected another, a handover needs these";
		return -EINVAL;
	}
	return 0;
}

static int problem(struct cman_conf_problem *ret, unsigned int line, const char *block,
		   const char *key, const char *format, ...) __attribute__((format(printf, 5, 6)));

static int problem(struct cman_conf_problem *ret, unsigned int line, const char *block,
		   const char *key, const char *format, ...)
{
	va_list args;

	ret->line = line;
	ret->block = block;
	ret->key = key;
	va_start(args, format);
	vsnprintf(ret->text, sizeof(ret->text), format, args);
	va_end(args);
	return -EINVAL;
}

static bool is_wildcard(const struct cman_endpoint *e)
{
	static const uint8_t zero[16];
	size_t from = e->family == AF_INET ? 12 : 0;

	return memcmp(e->addr + from, zero, 16 - from) == 0;
}

/* "[::]:5432" is IPv6 alone, so different families never meet. */
static bool overlap(const struct cman_endpoint *a, const struct cman_endpoint *b)
{
	if (a->family != b->family || a->family == 0)
		return false;
	if (a->port_last < b->port_first || b->port_last < a->port_first)
		return false;
	return memcmp(a->addr, b->addr, 16) == 0 || is_wildcard(a) || is_wildcard(b);
}

/* One thing that an instance listens on: a listener, or the two that are single keys. */
struct listening {
	struct cman_endpoint endpoint;
	unsigned int line;
	const char *block, *key, *what;
};

static uint32_t list_listening(const struct cman_instance_conf *inst, struct listening *ret)
{
	const char *why;
	uint32_t i, n = 0;

	for (i = 0; i < inst->nlisteners; i++)
		ret[n++] = (struct listening){ inst->listener[i].address, inst->listener[i].line,
					       inst->listener[i].name, "address", "listener" };
	if (inst->http && cman_endpoint_parse(inst->http, false, &ret[n].endpoint, &why) == 0) {
		ret[n].line = inst->line;
		ret[n].block = inst->alias;
		ret[n].key = "http";
		ret[n++].what = "http of instance";
	}
	if (inst->handover_listen.family)
		ret[n++] = (struct listening){ inst->handover_listen, inst->line, inst->alias,
					       "handover_listen", "handover_listen of instance" };
	return n;
}

/* A listener comes before the keys of an instance; else the first in the file was first. */
static bool blame_other(const struct listening *late, const struct listening *early)
{
	bool late_is_key = strcmp(late->key, "address") != 0;
	bool early_is_key = strcmp(early->key, "address") != 0;

	return late_is_key == early_is_key ? late->line < early->line : early_is_key;
}

static int check_overlap(const struct cman_conf *conf, struct cman_conf_problem *ret)
{
	struct listening *all;
	uint32_t i, j, n = 0, max = 0;
	int r = 0;

	for (i = 0; i < conf->ninstances; i++)
		max += conf->instance[i].nlisteners + 2;
	all = calloc(max ? max : 1, sizeof(*all));
	if (!all)
		return problem(ret, 0, NULL, NULL, "out of memory");
	for (i = 0; i < conf->ninstances; i++)
		n += list_listening(&conf->instance[i], all + n);
	for (i = 0; i < n && r == 0; i++) {
		for (j = 0; j < i; j++) {
			const struct listening *late = &all[i], *early = &all[j];
			char text[CMAN_ENDPOINT_TEXT];

			if (!overlap(&late->endpoint, &early->endpoint))
				continue;
			if (blame_other(late, early)) {
				late = &all[j];
				early = &all[i];
			}
			r = problem(ret, late->line, late->block, late->key,
				    "%s '%s' overlaps with %s '%s' of line %u, which has %s: "
				    "expected an address and port of its own",
				    late->what, late->block, early->what, early->block, early->line,
				    cman_endpoint_format(early->endpoint.addr,
							 early->endpoint.port_first, text));
			break;
		}
	}
	free(all);
	return r;
}

static int find_service(const struct cman_instance_conf *inst, const char *name)
{
	uint32_t i;

	for (i = 0; i < inst->nservices; i++)
		if (strcmp(inst->service[i].name, name) == 0)
			return (int)i;
	return -1;
}

/* "a, b, c", as far as it fits; "none" when there are no services. */
static const char *service_names(const struct cman_instance_conf *inst, char *buf, size_t size)
{
	size_t used = 0;
	uint32_t i;

	snprintf(buf, size, "none");
	for (i = 0; i < inst->nservices; i++) {
		int n = snprintf(buf + used, size - used, "%s%s", i ? ", " : "",
				 inst->service[i].name);

		if (n < 0 || (size_t)n >= size - used)
			break;
		used += (size_t)n;
	}
	return buf;
}

static int check_listeners(struct cman_instance_conf *inst, struct cman_conf_problem *ret)
{
	uint32_t i, addresses = 0;
	char names[120];
	int service;

	if (inst->nlisteners == 0)
		return problem(ret, inst->line, inst->alias, NULL,
			       "instance '%s' has no listener: expected at least one", inst->alias);
	for (i = 0; i < inst->nlisteners; i++) {
		struct cman_listener_conf *l = &inst->listener[i];

		if (i >= CMAN_MAX_LISTENERS)
			return problem(ret, l->line, l->name, NULL,
				       "listener '%s' is one too many: expected at most %d in an "
				       "instance",
				       l->name, CMAN_MAX_LISTENERS);
		service = find_service(inst, l->service_name);
		if (service < 0)
			return problem(ret, l->line, l->name, "service",
				       "listener '%s': unknown service '%s': expected one of this "
				       "instance (%s)",
				       l->name, l->service_name,
				       service_names(inst, names, sizeof(names)));
		l->service = (uint32_t)service;
		addresses += (uint32_t)(l->address.port_last - l->address.port_first) + 1;
		if (addresses > CMAN_MAX_ADDRESSES)
			return problem(ret, l->line, l->name, "address",
				       "listener '%s': too many addresses: the ports of all "
				       "listeners are %u so far, expected at most %d",
				       l->name, addresses, CMAN_MAX_ADDRESSES);
	}
	return 0;
}

static int check_services(const struct cman_instance_conf *inst, struct cman_conf_problem *ret)
{
	uint32_t i, j;

	for (i = 0; i < inst->nservices; i++) {
		const struct cman_service_conf *s = &inst->service[i];

		if (i >= CMAN_MAX_SERVICES)
			return problem(ret, s->line, s->name, NULL,
				       "service '%s' is one too many: expected at most %d in an "
				       "instance",
				       s->name, CMAN_MAX_SERVICES);
		if (s->ntargets == 0)
			return problem(ret, s->line, s->name, NULL,
				       "service '%s' has no targets: expected 1 to %d", s->name,
				       CMAN_MAX_TARGETS);
		for (j = 0; s->source.family && j < s->ntargets; j++) {
			char text[CMAN_ENDPOINT_TEXT];

			if (s->target[j].family == s->source.family)
				continue;
			return problem(ret, s->line, s->name, "source",
				       "service '%s': source is an %s address but target %s is "
				       "not: expected one family",
				       s->name, s->source.family == AF_INET ? "IPv4" : "IPv6",
				       cman_endpoint_format(s->target[j].addr,
							    s->target[j].port_first, text));
		}
	}
	return 0;
}

static int order_rules(const void *a, const void *b)
{
	const struct cman_rule_conf *x = a, *y = b;
	int r = cman_rules_order(x->source, x->prefix_len, x->service, y->source, y->prefix_len,
				 y->service);

	return r ? r : strncmp(x->name, y->name, CMAN_NAME_LEN);
}

static int check_rules(struct cman_instance_conf *inst, struct cman_conf_problem *ret)
{
	char names[120];
	uint32_t i;
	int service;

	for (i = 0; i < inst->nrules; i++) {
		struct cman_rule_conf *r = &inst->rule[i];

		if (i >= CMAN_MAX_RULES)
			return problem(ret, r->line, r->name, NULL,
				       "rule '%s' is one too many: expected at most %d in an "
				       "instance",
				       r->name, CMAN_MAX_RULES);
		if (strcmp(r->service_name, "*") == 0) {
			r->service = CMAN_ANY_SERVICE;
			continue;
		}
		service = find_service(inst, r->service_name);
		if (service < 0)
			return problem(ret, r->line, r->name, "service",
				       "rule '%s': unknown service '%s': expected \"*\" or one of "
				       "this instance (%s)",
				       r->name, r->service_name,
				       service_names(inst, names, sizeof(names)));
		r->service = (uint32_t)service;
	}
	if (inst->nrules > 1)
		qsort(inst->rule, inst->nrules, sizeof(*inst->rule), order_rules);
	for (i = 1; i < inst->nrules; i++) {
		const struct cman_rule_conf *late = &inst->rule[i], *early = &inst->rule[i - 1];

		if (cman_rules_order(early->source, early->prefix_len, early->service, late->source,
				     late->prefix_len, late->service))
			continue;
		if (late->line < early->line) {
			late = &inst->rule[i - 1];
			early = &inst->rule[i];
		}
		return problem(ret, late->line, late->name, "source",
			       "rule '%s' has the same source and service as rule '%s' of line "
			       "%u: expected one rule for both",
			       late->name, early->name, early->line);
	}
	return 0;
}

static int check_floating(const struct cman_conf *conf, struct cman_conf_problem *ret)
{
	const struct cman_floating_conf *late, *early;
	uint32_t i, j, k, l;

	for (i = 0; i < conf->ninstances; i++)
		for (j = 0; j < conf->instance[i].nfloating; j++)
			for (k = 0; k <= i; k++)
				for (l = 0; l < (k < i ? conf->instance[k].nfloating : j); l++) {
					late = &conf->instance[i].floating[j];
					early = &conf->instance[k].floating[l];
					if (memcmp(late->address.addr, early->address.addr, 16))
						continue;
					return problem(ret, late->line, late->name, "address",
						       "floating '%s' has the address of floating "
						       "'%s' of line %u: expected one block for "
						       "each address",
						       late->name, early->name, early->line);
				}
	return 0;
}

static bool same_endpoint(const struct cman_endpoint *a, const struct cman_endpoint *b)
{
	return a->family == b->family && a->port_first == b->port_first &&
	       a->port_last == b->port_last && memcmp(a->addr, b->addr, 16) == 0;
}

/* The channel to other instances is mutual TLS or nothing; who calls is known by its name alone. */
static int check_channel(const struct cman_instance_conf *inst, struct cman_conf_problem *ret)
{
	static const char advice[] = "expected tls { certificate = ... key = ... ca = ... } in the "
				     "instance: both sides have to prove who they are";
	const struct cman_peer_conf *late, *early;
	uint32_t i, j;

	if (!inst->tls.set && inst->handover_listen.family)
		return problem(ret, inst->line, inst->alias, "handover_listen",
			       "instance '%s' has handover_listen and no tls block: %s",
			       inst->alias, advice);
	if (!inst->tls.set && inst->npeers)
		return problem(ret, inst->peer[0].line, inst->peer[0].name, NULL,
			       "peer '%s' in an instance without a tls block: %s",
			       inst->peer[0].name, advice);
	for (i = 0; i < inst->npeers; i++)
		for (j = 0; j < i; j++) {
			late = &inst->peer[i];
			early = &inst->peer[j];
			if (same_endpoint(&late->address, &early->address))
				return problem(ret, late->line, late->name, "address",
					       "peer '%s' has the address of peer '%s' of line %u: "
					       "expected one block for each peer",
					       late->name, early->name, early->line);
			if (strcasecmp(late->peer_name, early->peer_name) == 0)
				return problem(ret, late->line, late->name, "name",
					       "peer '%s' has the certificate's name of peer '%s' "
					       "of line %u: expected names that tell them apart",
					       late->name, early->name, early->line);
		}
	return 0;
}

/* The suites that are chosen, and the oldest version that is allowed, must leave one to agree on. */
static int check_suites(const struct cman_tls_conf *tls, struct cman_conf_problem *ret)
{
	uint32_t i;

	for (i = 0; i < tls->nsuites; i++)
		if (cman_tls_suite(tls->suites[i])->version >= tls->min_version)
			return 0;
	return tls->nsuites == 0 ? 0 :
				   problem(ret, tls->line, "tls", "ciphers",
					   "ciphers has no suite of TLS 1.3, and min_version is "
					   "\"1.3\": expected one, such as TLS_AES_128_GCM_SHA256");
}

static int check_sni(const struct cman_tls_conf *tls, struct cman_conf_problem *ret)
{
	uint32_t i, j;

	for (i = 0; i < tls->nsni; i++) {
		const struct cman_sni_conf *late = &tls->sni[i];

		if (i >= CMAN_MAX_SNI)
			return problem(ret, late->line, late->name, NULL,
				       "sni '%.60s' is one too many: expected at most %d in a tls "
				       "block",
				       late->name, CMAN_MAX_SNI);
		for (j = 0; j < i; j++)
			if (strcasecmp(late->name, tls->sni[j].name) == 0)
				return problem(ret, late->line, late->name, NULL,
					       "sni '%.60s' has the name of sni '%.60s' of line "
					       "%u: expected one block for each name",
					       late->name, tls->sni[j].name, tls->sni[j].line);
	}
	return 0;
}

/* Both legs of a service: the kernel's splice and TLS exclude each other. */
static int check_splice(const struct cman_instance_conf *inst, const struct cman_service_conf *s,
			struct cman_conf_problem *ret)
{
	uint32_t i;

	if (!s->splice_sockmap)
		return 0;
	if (s->tls.set)
		return problem(ret, s->line, s->name, "splice",
			       "service '%s': splice = \"sockmap\" and tls (line %u): expected "
			       "splice = \"user\", the kernel cannot relay a leg with TLS",
			       s->name, s->tls.line);
	for (i = 0; i < inst->nlisteners; i++)
		if (inst->listener[i].tls.set && &inst->service[inst->listener[i].service] == s)
			return problem(ret, s->line, s->name, "splice",
				       "service '%s': splice = \"sockmap\" and tls in listener "
				       "'%s' (line %u): expected splice = \"user\", the kernel "
				       "cannot relay a leg with TLS",
				       s->name, inst->listener[i].name, inst->listener[i].tls.line);
	return 0;
}

static int check_tls(const struct cman_instance_conf *inst, struct cman_conf_problem *ret)
{
	uint32_t i;
	int r = 0;

	for (i = 0; i < inst->nlisteners && r == 0; i++) {
		r = check_suites(&inst->listener[i].tls, ret);
		if (r == 0)
			r = check_sni(&inst->listener[i].tls, ret);
	}
	for (i = 0; i < inst->nservices && r == 0; i++) {
		const struct cman_service_conf *s = &inst->service[i];

		r = check_suites(&s->tls, ret);
		if (r == 0)
			r = check_splice(inst, s, ret);
		if (r == 0 && s->tls.set && s->tls.verify && !s->tls.server_name)
			r = problem(ret, s->tls.line, "tls", "verify",
				    "tls in service '%s' has no 'server_name': expected the name "
				    "that the targets' certificates must have (or an address), or "
				    "verify = false",
				    s->name);
	}
	return r;
}

static int check_instance(struct cman_instance_conf *inst, struct cman_conf_problem *ret)
{
	size_t len;
	int r;

	/* service_names() in the others' texts must not read past the limit */
	r = check_services(inst, ret);
	if (r == 0)
		r = check_listeners(inst, ret);
	if (r == 0)
		r = check_rules(inst, ret);
	if (r == 0)
		r = check_tls(inst, ret);
	if (r < 0)
		return r;
	if (inst->nfloating > CMAN_MAX_FLOATING)
		return problem(ret, inst->floating[CMAN_MAX_FLOATING].line,
			       inst->floating[CMAN_MAX_FLOATING].name, NULL,
			       "floating '%s' is one too many: expected at most %d in an instance",
			       inst->floating[CMAN_MAX_FLOATING].name, CMAN_MAX_FLOATING);
	if (inst->npeers > CMAN_MAX_PEERS)
		return problem(ret, inst->peer[CMAN_MAX_PEERS].line,
			       inst->peer[CMAN_MAX_PEERS].name, NULL,
			       "peer '%s' is one too many: expected at most %d in an instance",
			       inst->peer[CMAN_MAX_PEERS].name, CMAN_MAX_PEERS);
	r = check_channel(inst, ret);
	if (r < 0)
		return r;
	len = strlen(inst->run_dir) + 1 + strlen(inst->alias) + strlen(LONGEST_SOCKET);
	if (len > SUN_PATH_MAX)
		return problem(
			ret, inst->line, inst->alias, "run_dir",
			"instance '%s': run_dir is too long for Unix sockets in it: expected "
			"at most %zu characters",
			inst->alias, SUN_PATH_MAX - (len - strlen(inst->run_dir)));
	return 0;
}

int cman_conf_check(struct cman_conf *conf, struct cman_conf_problem *ret_problem)
{
	uint32_t i;
	int r;

	if (conf->ninstances == 0 && conf->nclusters == 0)
		return problem(ret_problem, 0, NULL, NULL,
			       "no instance in this file: expected instance NAME { ... }");
	if (conf->ninstances > CMAN_MAX_INSTANCES) {
		const struct cman_instance_conf *inst = &conf->instance[CMAN_MAX_INSTANCES];

		return problem(ret_problem, inst->line, inst->alias, NULL,
			       "instance '%s' is one too many: expected at most %d in a file",
			       inst->alias, CMAN_MAX_INSTANCES);
	}
	for (i = 0; i < conf->ninstances; i++) {
		r = check_instance(&conf->instance[i], ret_problem);
		if (r < 0)
			return r;
	}
	r = check_overlap(conf, ret_problem);
	if (r < 0)
		return r;
	return check_floating(conf, ret_problem);
}

int cman_conf_validate(struct cman_conf *conf, struct cman_conf_error *ret_error)
{
	struct cman_conf_problem p;
	int r;

	r = cman_conf_check(conf, &p);
	if (r < 0)
		cman_conf_error(ret_error, conf->file, p.line, "%s", p.text);
	return r;
}

struct cman_instance_conf *cman_conf_instance(struct cman_conf *conf, const char *alias)
{
	uint32_t i;

	if (!alias)
		return conf->ninstances == 1 ? &conf->instance[0] : NULL;
	for (i = 0; i < conf->ninstances; i++)
		if (strcmp(conf->instance[i].alias, alias) == 0)
			return &conf->instance[i];
	return NULL;
}

/* The order of the blocks means nothing. */
static bool same_floating(const struct cman_instance_conf *a, const struct cman_instance_conf *b)
{
	uint32_t i, j;

	if (a->nfloating != b->nfloating)
		return false;
	for (i = 0; i < a->nfloating; i++) {
		const struct cman_floating_conf *f = &a->floating[i];

		for (j = 0; j < b->nfloating; j++)
			if (strcmp(f->name, b->floating[j].name) == 0)
				break;
		if (j == b->nfloating || f->prefix_len != b->floating[j].prefix_len ||
		    strcmp(f->interface, b->floating[j].interface) ||
		    !same_endpoint(&f->address, &b->floating[j].address))
			return false;
	}
	return true;
}

int cman_config_plan(const struct cman_instance_conf *running,
		     const struct cman_instance_conf *next, uint32_t slots_per_cell,
		     struct cman_conf_error *ret_error)
{
	static const char advice[] = "cannot change in a running instance: expected a restart or "
				     "a migration (cmanctl startup --migrate)";

	if (strcmp(running->alias, next->alias))
		cman_conf_error(ret_error, NULL, next->line, "the alias, from '%s' to '%s', %s",
				running->alias, next->alias, advice);
	else if (running->gateways != next->gateways)
		cman_conf_error(ret_error, NULL, next->line, "gateways, from %u to %u, %s",
				running->gateways, next->gateways, advice);
	else if (strcmp(running->run_dir, next->run_dir))
		cman_conf_error(ret_error, NULL, next->line, "run_dir, from %.60s to %.60s, %s",
				running->run_dir, next->run_dir, advice);
	else if (strcmp(running->user, next->user))
		cman_conf_error(ret_error, NULL, next->line, "user, from %s to %s, %s",
				running->user, next->user, advice);
	else if (!same_endpoint(&running->handover_listen, &next->handover_listen))
		cman_conf_error(ret_error, NULL, next->line, "handover_listen %s", advice);
	else if (!same_floating(running, next))
		cman_conf_error(ret_error, NULL, next->line, "the floating addresses %s", advice);
	else if (next->max_sessions > slots_per_cell)
		cman_conf_error(
			ret_error, NULL, next->line,
			"max_sessions, to %u, is above the %u that this instance has room "
			"for: expected a restart or a migration (cmanctl startup --migrate)",
			next->max_sessions, slots_per_cell);
	else
		return 0;
	return -EINVAL;
}

static void free_tls(struct cman_tls_conf *tls)
{
	uint32_t i;

	free(tls->certificate);
	free(tls->key);
	free(tls->ca);
	free(tls->client_ca);
	free(tls->server_name);
	free(tls->warning);
	for (i = 0; i < tls->nsni; i++) {
		free(tls->sni[i].certificate);
		free(tls->sni[i].key);
	}
	free(tls->sni);
}

static void free_instance(struct cman_instance_conf *inst)
{
	uint32_t i;

	free(inst->run_dir);
	free(inst->user);
	free(inst->log);
	free(inst->http);
	free_tls(&inst->tls);
	for (i = 0; i < inst->nlisteners; i++)
		free_tls(&inst->listener[i].tls);
	for (i = 0; i < inst->nservices; i++)
		free_tls(&inst->service[i].tls);
	for (i = 0; i < inst->npeers; i++)
		free(inst->peer[i].peer_name);
	free(inst->listener);
	free(inst->service);
	free(inst->rule);
	free(inst->floating);
	free(inst->peer);
}

void cman_conf_free(struct cman_conf *conf)
{
	uint32_t i;

	if (!conf)
		return;
	for (i = 0; i < conf->ninstances; i++)
		free_instance(&conf->instance[i]);
	free(conf->instance);
	free(conf->file);
	free(conf);
}
