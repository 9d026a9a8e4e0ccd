/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration -> maps. A fresh start, an adoption and a reload are the same: compare what the
 * maps say with what the configuration wants, open what is missing, and only then change anything.
 * Until the first change every error leaves all as it was; an error after it is undone.
 *
 * A listener is its address: it keeps its index and its socket as long as the address stays, under
 * whatever name. A service is its name: it keeps its index, and its sessions, as long as it is
 * configured or has sessions. In between it is RETIRED.
 */
#include "usr/manager/manager.h"
#include "usr/manager/remote.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usr/core/config_check.h"
#include "usr/core/rules.h"
#include "usr/sys/chan_tls.h"
#include "usr/sys/hold.h"
#include "usr/sys/log.h"
#include "usr/sys/sock.h"
#include "usr/sys/steer.h"

#define NO_INDEX UINT32_MAX

/* Listeners of a predecessor that publish_all() has not used yet. */
static struct inherited {
	struct cman_endpoint address;
	int fd;
} inherited[CMAN_MAX_LISTENERS];
static uint32_t ninherited;

/* What the maps are to become. */
struct plan {
	struct manager *m;
	const struct cman_conf *conf;
	const struct cman_instance_conf *ic;
	struct cman_conf_error *error;
	bool live;	 /* cells run: they need the new listeners' descriptors */
	json_t *changes; /* NULL: nobody asks */
	uint32_t service_at[CMAN_MAX_SERVICES];	  /* of the configuration -> of the map */
	uint32_t listener_at[CMAN_MAX_LISTENERS]; /* the same for listeners */
	bool service_used[CMAN_MAX_SERVICES];	  /* of the map: stays, or comes */
	bool listener_used[CMAN_MAX_LISTENERS];
	int opened[CMAN_MAX_LISTENERS]; /* of the map: new descriptors, -1 */
	int credentials_fd;		/* new, or -1 */
	/* as it was */
	struct cman_service services[CMAN_MAX_SERVICES];
	struct cman_listener listeners[CMAN_MAX_LISTENERS];
	struct cman_rule rules[CMAN_MAX_RULES];
	uint32_t nrules;
};

static int __attribute__((format(printf, 4, 5)))
problem(struct plan *p, int err, unsigned int line, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	cman_conf_verror(p->error, p->conf->file, line, format, ap);
	va_end(ap);
	return err;
}

static void __attribute__((format(printf, 2, 3))) changed(struct plan *p, const char *format, ...)
{
	char text[200];
	va_list ap;

	if (!p->changes)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	json_array_append_new(p->changes, json_string(text));
}

/* ---- the sequence lock of a service ---- */

void service_write_begin(struct cman_service *svc)
{
	/* odd already: a manager died while it wrote */
	__atomic_store_n(&svc->seq, svc->seq | 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

void service_write_end(struct cman_service *svc)
{
	__atomic_store_n(&svc->seq, (svc->seq | 1) + 1, __ATOMIC_RELEASE);
}

/* Everything but the lock itself. Gateways wait while it is held: nothing but the copy is in it. */
static void service_write(struct cman_service *svc, const struct cman_service *value)
{
	struct cman_service copy = *value;

	service_write_begin(svc);
	copy.seq = svc->seq;
	memcpy(svc, &copy, sizeof(copy));
	service_write_end(svc);
}

/* ---- addresses ---- */

static bool same_address(const struct cman_endpoint *a, const struct cman_endpoint *b)
{
	return a->family == b->family && a->port_first == b->port_first &&
	       a->port_last == b->port_last && !memcmp(a->addr, b->addr, sizeof(a->addr));
}

static struct cman_endpoint address_of(const struct cman_listener *l)
{
	struct cman_endpoint e = { .family = l->family,
				   .port_first = l->port_first,
				   .port_last = l->port_last };

	memcpy(e.addr, l->addr, sizeof(e.addr));
	return e;
}

static bool is_wildcard(const struct cman_endpoint *e)
{
	static const uint8_t any4[16] = { [10] = 0xff, [11] = 0xff }, any6[16];

	return !memcmp(e->addr, e->family == AF_INET ? any4 : any6, 16);
}

static char *address_text(const struct cman_endpoint *e, char buf[CMAN_ENDPOINT_TEXT + 8])
{
	char text[CMAN_ENDPOINT_TEXT];

	cman_endpoint_format(e->addr, e->port_first, text);
	if (e->port_last == e->port_first)
		snprintf(buf, CMAN_ENDPOINT_TEXT + 8, "%s", text);
	else
		snprintf(buf, CMAN_ENDPOINT_TEXT + 8, "%s-%u", text, e->port_last);
	return buf;
}

/* Would the kernel refuse to listen on @a because somebody listens on @b? */
static bool collides(const struct cman_endpoint *a, const struct cman_endpoint *b)
{
	return a->family == b->family && a->port_first == a->port_last &&
	       b->port_first == b->port_last && a->port_first == b->port_first &&
	       (is_wildcard(a) || is_wildcard(b) || !memcmp(a->addr, b->addr, 16));
}

/* ---- planning: changes nothing ---- */

static uint32_t service_sessions(const struct manager *m, uint32_t index)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->ncells; i++)
		n += m->maps.cells[i].service_sessions[index];
	return n;
}

static uint32_t find_service(const struct manager *m, const char *name, size_t len)
{
	for (uint32_t i = 0; i < CMAN_MAX_SERVICES; i++) {
		const struct cman_service *svc = &m->maps.services[i];

		if (svc->state != CMAN_SERVICE_UNUSED && strlen(svc->name) == len &&
		    !memcmp(svc->name, name, len))
			return i;
	}
	return NO_INDEX;
}

/* An entry for a new service: a free one, or else a retired one without sessions. */
static uint32_t free_service(const struct manager *m, const bool *taken)
{
	const uint32_t states[] = { CMAN_SERVICE_UNUSED, CMAN_SERVICE_RETIRED };

	for (unsigned int s = 0; s < 2; s++)
		for (uint32_t i = 0; i < CMAN_MAX_SERVICES; i++)
			if (m->maps.services[i].state == states[s] && !(taken && taken[i]) &&
			    (s == 0 || !service_sessions(m, i)))
				return i;
	return NO_INDEX;
}

static int plan_services(struct plan *p)
{
	const struct cman_instance_conf *ic = p->ic;
	uint32_t i, at;

	/* those that stay come first: a new one must not take their entry */
	for (i = 0; i < ic->nservices; i++) {
		at = find_service(p->m, ic->service[i].name, strlen(ic->service[i].name));
		p->service_at[i] = at;
		if (at != NO_INDEX)
			p->service_used[at] = true;
	}
	for (i = 0; i < ic->nservices; i++) {
		if (p->service_at[i] != NO_INDEX)
			continue;
		at = free_service(p->m, p->service_used);
		if (at == NO_INDEX)
			return problem(p, -ENOSPC, ic->service[i].line,
				       "service %s: no room: services that were removed still have "
				       "sessions; expected at most %d together",
				       ic->service[i].name, CMAN_MAX_SERVICES);
		p->service_at[i] = at;
		p->service_used[at] = true;
	}
	return 0;
}

/* Free in the maps, and no cell has a descriptor of its last owner any more. */
static bool listener_is_free(const struct plan *p, uint32_t at)
{
	if (p->listener_used[at] || p->listeners[at].used || p->m->listener_fd[at] >= 0)
		return false;
	for (uint32_t i = 0; p->live && i < p->m->ncells; i++)
		if (p->m->maps.cells[i].listener_fd[at] > 0)
			return false;
	return true;
}

static int plan_listeners(struct plan *p)
{
	const struct cman_instance_conf *ic = p->ic;
	uint32_t i, at;

	for (i = 0; i < ic->nlisteners; i++) {
		p->listener_at[i] = NO_INDEX;
		for (at = 0; at < CMAN_MAX_LISTENERS; at++) {
			struct cman_endpoint e = address_of(&p->listeners[at]);

			if (!p->listeners[at].used || !same_address(&e, &ic->listener[i].address))
				continue;
			p->listener_at[i] = at;
			p->listener_used[at] = true;
			break;
		}
	}
	for (i = 0; i < ic->nlisteners; i++) {
		if (p->listener_at[i] != NO_INDEX)
			continue;
		for (at = 0; at < CMAN_MAX_LISTENERS && !listener_is_free(p, at); at++)
			;
		if (at == CMAN_MAX_LISTENERS)
			return problem(
				p, -ENOSPC, ic->listener[i].line,
				"listener %s: no room beside the listeners that it replaces: "
				"expected at most %d together; try again in a moment",
				ic->listener[i].name, CMAN_MAX_LISTENERS);
		p->listener_at[i] = at;
		p->listener_used[at] = true;
	}
	return 0;
}

/* ---- opening: nobody sees it yet ---- */

static int take_inherited(const struct cman_endpoint *address)
{
	for (uint32_t i = 0; i < ninherited; i++) {
		int fd = inherited[i].fd;

		if (!same_address(&inherited[i].address, address))
			continue;
		inherited[i] = inherited[--ninherited];
		return fd;
	}
	return -1;
}

/* Steering brings the connections: where the socket itself listens does not matter then. */
static int listen_anywhere(uint16_t family, int *ret_fd)
{
	static const uint8_t loopback4[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 };
	static const uint8_t loopback6[16] = { [15] = 1 };

	return cman_sock_listen(family, family == AF_INET ? loopback4 : loopback6, 0, ret_fd);
}

/* Is it one of ours that holds the address, and only until this change is over? */
static bool held_by_us(const struct plan *p, const struct cman_endpoint *address)
{
	for (uint32_t at = 0; at < CMAN_MAX_LISTENERS; at++) {
		struct cman_endpoint e = address_of(&p->listeners[at]);

		if (p->listeners[at].used && !p->listener_used[at] && collides(&e, address))
			return true;
	}
	for (uint32_t i = 0; i < ninherited; i++)
		if (collides(&inherited[i].address, address))
			return true;
	return false;
}

static int open_listener(struct plan *p, const struct cman_listener_conf *l, int *ret_fd)
{
	const struct cman_endpoint *e = &l->address;
	char text[CMAN_ENDPOINT_TEXT + 8];
	const char *hint = "";
	int err;

	*ret_fd = take_inherited(e);
	if (*ret_fd >= 0)
		return 0;
	if (e->port_first != e->port_last)
		err = listen_anywhere(e->family, ret_fd);
	else if (floating_index(p->m, e->addr) >= 0)
		err = cman_sock_listen_free(e->family, e->addr, e->port_first, ret_fd);
	else
		err = cman_sock_listen(e->family, e->addr, e->port_first, ret_fd);
	if (err == -EADDRINUSE && held_by_us(p, e))
		err = listen_anywhere(e->family, ret_fd);
	if (!err)
		return 0;
	if (err == -EADDRNOTAVAIL)
		hint = ": no interface has this address";
	else if (err == -EACCES)
		hint = ": ports below 1024 need CAP_NET_BIND_SERVICE";
	return problem(p, err, l->line, "listener %s: cannot listen on %s: %s%s", l->name,
		       address_text(e, text), strerror(-err), hint);
}

static int open_listeners(struct plan *p)
{
	for (uint32_t i = 0; i < p->ic->nlisteners; i++) {
		uint32_t at = p->listener_at[i];
		int err;

		if (p->m->listener_fd[at] >= 0)
			continue;
		err = open_listener(p, &p->ic->listener[i], &p->opened[at]);
		if (err)
			return err;
	}
	return 0;
}

static void close_opened(struct plan *p)
{
	for (uint32_t at = 0; at < CMAN_MAX_LISTENERS; at++) {
		if (p->opened[at] >= 0)
			close(p->opened[at]);
		p->opened[at] = -1;
	}
}

static void close_inherited(void)
{
	while (ninherited)
		close(inherited[--ninherited].fd);
}

/* ---- services ---- */

static void fill_targets(struct cman_service *svc, const struct cman_service_conf *conf,
			 const struct cman_service *was)
{
	svc->ntargets = conf->ntargets;
	memset(svc->target, 0, sizeof(svc->target));
	for (uint32_t i = 0; i < conf->ntargets; i++) {
		struct cman_target *t = &svc->target[i];

		memcpy(t->addr, conf->target[i].addr, sizeof(t->addr));
		t->port = conf->target[i].port_first;
		t->family = conf->target[i].family;
		for (uint32_t k = 0; k < was->ntargets && k < CMAN_MAX_TARGETS; k++) {
			if (was->target[k].port != t->port || was->target[k].family != t->family ||
			    memcmp(was->target[k].addr, t->addr, sizeof(t->addr)))
				continue;
			t->down_until_s = was->target[k].down_until_s;
			t->failures = was->target[k].failures;
		}
	}
}

static struct cman_service make_service(const struct cman_service_conf *conf,
					const struct cman_service *was)
{
	const bool present = was->state == CMAN_SERVICE_OPEN ||
			     was->state == CMAN_SERVICE_SUSPENDED;
	const struct cman_service none = { 0 };
	struct cman_service svc = { 0 };

	snprintf(svc.name, sizeof(svc.name), "%s", conf->name);
	svc.state = present ? was->state : CMAN_SERVICE_OPEN;
	svc.when_down = conf->when_down;
	svc.balance = conf->balance;
	svc.connect_timeout_s = conf->connect_timeout_s;
	svc.idle_timeout_s = conf->idle_timeout_s;
	svc.session_timeout_s = conf->session_timeout_s;
	memcpy(svc.source, conf->source.addr, sizeof(svc.source));
	svc.source_family = conf->source.family;
	svc.splice = conf->splice_sockmap;
	svc.tls = conf->tls.set;
	fill_targets(&svc, conf, strcmp(was->name, conf->name) ? &none : was);
	return svc;
}

/* What gateways do to it meanwhile does not count. */
static bool same_service(struct cman_service a, struct cman_service b)
{
	a.seq = b.seq = 0;
	for (uint32_t i = 0; i < CMAN_MAX_TARGETS; i++) {
		a.target[i].down_until_s = b.target[i].down_until_s = 0;
		a.target[i].failures = b.target[i].failures = 0;
	}
	return !memcmp(&a, &b, sizeof(a));
}

static void write_services(struct plan *p)
{
	for (uint32_t i = 0; i < p->ic->nservices; i++) {
		const struct cman_service_conf *conf = &p->ic->service[i];
		const uint32_t at = p->service_at[i];
		const struct cman_service *was = &p->services[at];
		struct cman_service svc = make_service(conf, &p->m->maps.services[at]);

		if (strcmp(was->name, conf->name) || was->state == CMAN_SERVICE_UNUSED ||
		    was->state == CMAN_SERVICE_RETIRED)
			changed(p, "service %s added", conf->name);
		else if (!same_service(svc, *was))
			changed(p, "service %s changed", conf->name);
		else
			continue;
		service_write(&p->m->maps.services[at], &svc);
	}
}

static void retire_services(struct plan *p)
{
	for (uint32_t at = 0; at < CMAN_MAX_SERVICES; at++) {
		struct cman_service *svc = &p->m->maps.services[at];
		bool last;

		if (p->service_used[at] ||
		    (svc->state != CMAN_SERVICE_OPEN && svc->state != CMAN_SERVICE_SUSPENDED))
			continue;
		last = !service_sessions(p->m, at);
		changed(p,
			last ? "service %s removed" : "service %s removed; its live sessions go on",
			svc->name);
		service_write_begin(svc);
		svc->state = CMAN_SERVICE_RETIRED;
		svc->when_down = CMAN_DOWN_REFUSE;
		service_write_end(svc);
	}
}

/* ---- rules ---- */

static void make_rules(const struct plan *p, struct cman_rule *rules)
{
	for (uint32_t i = 0; i < p->ic->nrules; i++) {
		const struct cman_rule_conf *conf = &p->ic->rule[i];
		struct cman_rule *r = &rules[i];

		memset(r, 0, sizeof(*r));
		snprintf(r->name, sizeof(r->name), "%s", conf->name);
		memcpy(r->source, conf->source, sizeof(r->source));
		r->prefix_len = conf->prefix_len;
		r->service = conf->service == CMAN_ANY_SERVICE ? CMAN_ANY_SERVICE :
								 p->service_at[conf->service];
		r->action = conf->action;
		r->max_idle_s = conf->max_idle_s;
		r->max_sessions = conf->max_sessions;
	}
	cman_rules_sort(rules, p->ic->nrules);
}

/* Indices of services up to the last one that is, or was until now, steered to. */
static uint32_t service_count(const struct plan *p)
{
	uint32_t n = 0;

	for (uint32_t at = 0; at < CMAN_MAX_SERVICES; at++)
		if (p->service_used[at] || p->services[at].state != CMAN_SERVICE_UNUSED)
			n = at + 1;
	return n;
}

static int write_rules(struct plan *p)
{
	struct cman_rule *rules = calloc(p->ic->nrules + 1, sizeof(*rules));
	int err;

	if (!rules)
		return problem(p, -ENOMEM, 0, "no memory for the rules");
	make_rules(p, rules);
	err = cman_steer_set_rules(&p->m->maps, rules, p->ic->nrules, service_count(p));
	if (err)
		problem(p, err, p->ic->nrules ? p->ic->rule[0].line : 0,
			"the rules cannot be given to the kernel: %s", strerror(-err));
	else if (p->ic->nrules != p->nrules || memcmp(rules, p->rules, p->nrules * sizeof(*rules)))
		changed(p, "rules changed: %u in force", p->ic->nrules);
	free(rules);
	return err;
}

/* ---- listeners ---- */

static int steer_listener(struct plan *p, const struct cman_listener_conf *l, uint32_t at)
{
	struct cman_maps *maps = &p->m->maps;
	const struct cman_endpoint *e = &l->address;
	char text[CMAN_ENDPOINT_TEXT];
	int err = 0;

	/* the socket before the address: no moment refuses */
	if (p->opened[at] >= 0)
		err = cman_steer_set_listener(maps, at, p->opened[at]);
	for (uint32_t port = e->port_first; !err && port <= e->port_last; port++)
		err = cman_steer_add_address(maps, e->addr, (uint16_t)port, e->family, at,
					     p->service_at[l->service]);
	if (err)
		return problem(p, err, l->line, "listener %s: %s cannot be steered: %s", l->name,
			       cman_endpoint_format(e->addr, e->port_first, text), strerror(-err));
	return 0;
}

static int steer_listeners(struct plan *p)
{
	int err = 0;

	for (uint32_t i = 0; i < p->ic->nlisteners && !err; i++)
		err = steer_listener(p, &p->ic->listener[i], p->listener_at[i]);
	return err;
}

static struct cman_listener make_listener(const struct plan *p, const struct cman_listener_conf *l)
{
	struct cman_listener entry = {
		.port_first = l->address.port_first,
		.port_last = l->address.port_last,
		.family = l->address.family,
		.service = (uint16_t)p->service_at[l->service],
		.used = 1,
		.tls = l->tls.set,
	};

	snprintf(entry.name, sizeof(entry.name), "%s", l->name);
	memcpy(entry.addr, l->address.addr, sizeof(entry.addr));
	return entry;
}

static const struct cman_listener *used_listener(const struct plan *p, const char *name)
{
	for (uint32_t at = 0; at < CMAN_MAX_LISTENERS; at++)
		if (p->listeners[at].used && !strcmp(p->listeners[at].name, name))
			return &p->listeners[at];
	return NULL;
}

static bool is_configured(const struct plan *p, const char *name)
{
	for (uint32_t i = 0; i < p->ic->nlisteners; i++)
		if (!strcmp(p->ic->listener[i].name, name))
			return true;
	return false;
}

static void say_listener(struct plan *p, const struct cman_listener_conf *l, uint32_t at)
{
	const struct cman_listener *was = &p->listeners[at];
	const char *service = p->services[was->service].name;
	const struct cman_listener *before = used_listener(p, l->name);
	char from[CMAN_ENDPOINT_TEXT + 8], to[CMAN_ENDPOINT_TEXT + 8];
	struct cman_endpoint old = { 0 };

	if (before)
		old = address_of(before);

	if (!was->used && before && !p->listener_used[before - p->listeners])
		changed(p, "listener %s: address %s -> %s", l->name, address_text(&old, from),
			address_text(&l->address, to));
	else if (!was->used)
		changed(p, "listener %s added", l->name);
	else if (strcmp(was->name, l->name))
		changed(p, "listener %s is now called %s", was->name, l->name);
	if (was->used && strcmp(service, l->service_name))
		changed(p, "listener %s: service %s -> %s", l->name, service, l->service_name);
}

static void write_listeners(struct plan *p)
{
	struct manager *m = p->m;

	for (uint32_t i = 0; i < p->ic->nlisteners; i++) {
		const struct cman_listener_conf *l = &p->ic->listener[i];
		uint32_t at = p->listener_at[i];
		struct cman_listener entry = make_listener(p, l);

		say_listener(p, l, at);
		if (memcmp(&entry, &m->maps.instance->listener[at], sizeof(entry)))
			m->maps.instance->listener[at] = entry;
		if (p->opened[at] < 0)
			continue;
		m->listener_fd[at] = p->opened[at];
		p->opened[at] = -1;
		if (p->live)
			cells_add_listener(m, at, m->listener_fd[at]);
	}
}

static bool is_wanted(const struct plan *p, const struct cman_endpoint *e, uint32_t port)
{
	for (uint32_t i = 0; i < p->ic->nlisteners; i++) {
		const struct cman_endpoint *n = &p->ic->listener[i].address;

		if (n->family == e->family && port >= n->port_first && port <= n->port_last &&
		    !memcmp(n->addr, e->addr, sizeof(n->addr)))
			return true;
	}
	return false;
}

/* Addresses first, then the socket; who waits in its queue is still served by the gateways. */
static void remove_listeners(struct plan *p)
{
	struct manager *m = p->m;

	for (uint32_t at = 0; at < CMAN_MAX_LISTENERS; at++) {
		const struct cman_listener *was = &p->listeners[at];
		struct cman_endpoint e = address_of(was);

		if (!was->used || p->listener_used[at])
			continue;
		for (uint32_t port = e.port_first; port <= e.port_last; port++)
			if (!is_wanted(p, &e, port))
				cman_steer_del_address(&m->maps, e.addr, (uint16_t)port, e.family);
		cman_steer_set_listener(&m->maps, at, -1);
		__atomic_store_n(&m->maps.instance->listener[at].used, 0, __ATOMIC_RELEASE);
		if (m->listener_fd[at] >= 0)
			close(m->listener_fd[at]);
		m->listener_fd[at] = -1;
		if (!is_configured(p, was->name)) /* else its address has changed */
			changed(p, "listener %s removed", was->name);
	}
}

/* ---- undoing what a failure in the middle has left ---- */

static void undo_steering(struct plan *p)
{
	struct cman_maps *maps = &p->m->maps;

	for (uint32_t i = 0; i < p->ic->nlisteners; i++) {
		const struct cman_endpoint *e = &p->ic->listener[i].address;

		if (p->listeners[p->listener_at[i]].used)
			continue;
		for (uint32_t port = e->port_first; port <= e->port_last; port++)
			cman_steer_del_address(maps, e->addr, (uint16_t)port, e->family);
		cman_steer_set_listener(maps, p->listener_at[i], -1);
	}
	for (uint32_t at = 0; at < CMAN_MAX_LISTENERS; at++) {
		const struct cman_listener *was = &p->listeners[at];

		for (uint32_t port = was->port_first; was->used && port <= was->port_last; port++)
			cman_steer_add_address(maps, was->addr, (uint16_t)port, was->family, at,
					       was->service);
	}
}

static void undo(struct plan *p)
{
	undo_steering(p);
	cman_steer_set_rules(&p->m->maps, p->rules, p->nrules, service_count(p));
	for (uint32_t at = 0; at < CMAN_MAX_SERVICES; at++)
		if (p->service_used[at] && !same_service(p->services[at], p->m->maps.services[at]))
			service_write(&p->m->maps.services[at], &p->services[at]);
}

/* ---- carrying a plan out ---- */

static struct plan *plan_new(struct manager *m, const struct cman_conf *conf,
			     const struct cman_instance_conf *ic, struct cman_conf_error *error)
{
	struct plan *p = calloc(1, sizeof(*p));

	if (!p) {
		cman_conf_error(error, conf->file, 0, "no memory to read the configuration");
		return NULL;
	}
	p->m = m;
	p->conf = conf;
	p->ic = ic;
	p->error = error;
	p->credentials_fd = -1;
	for (uint32_t at = 0; at < CMAN_MAX_LISTENERS; at++)
		p->opened[at] = -1;
	/* a lock that a dead manager left would keep every gateway waiting */
	for (uint32_t at = 0; at < CMAN_MAX_SERVICES; at++)
		if (m->maps.services[at].seq & 1)
			service_write_end(&m->maps.services[at]);
	memcpy(p->services, m->maps.services, sizeof(p->services));
	memcpy(p->listeners, m->maps.instance->listener, sizeof(p->listeners));
	p->nrules = m->maps.instance->nrules;
	memcpy(p->rules, m->maps.ruletab, p->nrules * sizeof(*p->rules));
	return p;
}

static int make_hold_sockets(struct plan *p)
{
	int fds[2] = { -1, -1 }, err;

	if (p->m->hold_fd[0] >= 0)
		return 0;
	err = cman_steer_hold(&p->m->maps, fds);
	if (err)
		return problem(p, err, 0, "cannot make the sockets that hold connections: %s",
			       strerror(-err));
	memcpy(p->m->hold_fd, fds, sizeof(fds));
	return 0;
}

static int make_credentials(struct plan *p)
{
	struct cman_tls_error error;
	unsigned int line;
	int fd = credentials_make(p->ic, p->listener_at, p->service_at, &line, &error);

	if (fd < 0 && fd != -ENOENT)
		return problem(p, fd, line, "%s = %s", error.key, error.text);
	p->credentials_fd = fd < 0 ? -1 : fd;
	return 0;
}

/* Live cells have the new ones before a listener or service asks for them. */
static void replace_credentials(struct plan *p)
{
	struct manager *m = p->m;

	if (p->credentials_fd < 0)
		return;
	if (m->credentials_fd >= 0)
		close(m->credentials_fd);
	m->credentials_fd = p->credentials_fd;
	p->credentials_fd = -1;
	if (p->live)
		credentials_deliver(m);
}

/* New services before the rules, rules before the addresses: nobody is refused in between. */
static int carry_out(struct plan *p)
{
	int err;

	err = plan_services(p);
	if (!err)
		err = plan_listeners(p);
	if (!err)
		err = open_listeners(p);
	if (!err)
		err = make_hold_sockets(p);
	if (!err)
		err = make_credentials(p);
	if (err) {
		close_opened(p);
		return err;
	}
	replace_credentials(p);
	write_services(p);
	err = write_rules(p);
	if (!err)
		err = steer_listeners(p);
	if (err) {
		undo(p);
		close_opened(p);
		return err;
	}
	write_listeners(p);
	remove_listeners(p);
	retire_services(p);
	return 0;
}

/* What this release reads and checks, but does not act on. */
static void warn_unused(struct manager *m, const struct cman_conf *conf,
			const struct cman_instance_conf *ic)
{
	static const char later[] = "this release does not act on it";

	if (ic->http)
		event_add(m, LOG_WARNING, "%s:%u: http: %s", conf->file, ic->line, later);
}

static void warn_certificate(struct manager *m, const struct cman_conf *conf,
			     const struct cman_tls_conf *tls)
{
	if (tls->warning)
		event_add(m, LOG_WARNING, "%s:%u: tls: %s", conf->file, tls->line, tls->warning);
}

/* What peers will refuse: expired certificates, say. */
static void warn_certificates(struct manager *m, const struct cman_conf *conf,
			      const struct cman_instance_conf *ic)
{
	warn_certificate(m, conf, &ic->tls);
	for (uint32_t i = 0; i < ic->nlisteners; i++)
		warn_certificate(m, conf, &ic->listener[i].tls);
	for (uint32_t i = 0; i < ic->nservices; i++)
		warn_certificate(m, conf, &ic->service[i].tls);
}

/* The filters on interfaces carry the alias: while we are called ALIAS_new they are the old one's. */
static void hold(struct manager *m)
{
	int err;

	if (strcmp(m->name, m->alias))
		return;
	err = cman_hold_apply(&m->maps);
	if (err)
		event_add(m, LOG_WARNING, "connections cannot be held without a daemon: %s",
			  strerror(-err));
}

int publish_all(struct manager *m)
{
	struct cman_conf_error error = { 0 };
	struct plan *p = plan_new(m, m->conf, m->ic, &error);
	int err = p ? carry_out(p) : -ENOMEM;

	free(p);
	close_inherited();
	if (err) {
		event_add(m, LOG_ERR, "%s", error.text);
		return err;
	}
	warn_unused(m, m->conf, m->ic);
	warn_certificates(m, m->conf, m->ic);
	hold(m);
	return 0;
}

static bool parse_listener(const char *text, size_t len, struct cman_endpoint *ret)
{
	char copy[256], *address;
	const char *why;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	address = strchr(copy, ' ');
	return address && !cman_endpoint_parse(address + 1, true, ret, &why);
}

/* @fd is ours in any case. */
int publish_inherit(struct manager *m, const char *text, size_t len, int fd)
{
	struct inherited *in = inherited + ninherited;

	if (ninherited == CMAN_MAX_LISTENERS || !parse_listener(text, len, &in->address)) {
		event_add(m, LOG_WARNING, "a listener of the predecessor is not understood: %.*s",
			  (int)(len < 200 ? len : 200), text);
		close(fd);
		return -EINVAL;
	}
	in->fd = fd;
	ninherited++;
	return 0;
}

static void apply_limits(struct plan *p)
{
	struct cman_instance *in = p->m->maps.instance;
	const struct cman_instance_conf *ic = p->ic;

	if (in->max_sessions != ic->max_sessions)
		changed(p, "max_sessions: %u -> %u", in->max_sessions, ic->max_sessions);
	if (in->log_level != (uint32_t)ic->log_level)
		changed(p, "log_level: %s -> %s", cman_log_level_name((int)in->log_level),
			cman_log_level_name(ic->log_level));
	if (p->m->ic->handover_timeout_s != ic->handover_timeout_s)
		changed(p, "handover_timeout: %u -> %u", p->m->ic->handover_timeout_s,
			ic->handover_timeout_s);
	in->max_sessions = ic->max_sessions;
	in->log_level = (uint32_t)ic->log_level;
	__atomic_fetch_add(&in->config_generation, 1, __ATOMIC_RELEASE);
}

/* The state of the whole follows from the services: a reload may add an open one. */
static void apply_state(struct manager *m)
{
	struct cman_instance *in = m->maps.instance;
	bool open = false;

	for (uint32_t at = 0; at < CMAN_MAX_SERVICES; at++)
		open |= m->maps.services[at].state == CMAN_SERVICE_OPEN;
	if (in->state == CMAN_SUSPENDED && open)
		in->state = CMAN_RUNNING;
	else if (in->state == CMAN_RUNNING && !open)
		in->state = CMAN_SUSPENDED;
}

static int check_plan(struct manager *m, const struct cman_conf *next,
		      const struct cman_instance_conf *ic, struct cman_conf_error *ret_error)
{
	struct cman_conf_error bare;
	int err = cman_config_plan(m->ic, ic, m->maps.slots_per_cell, &bare);

	if (!err && ic->gateways != m->maps.gateways) { /* after an adoption */
		cman_conf_error(&bare, NULL, ic->line,
				"gateways, from %u to %u, cannot change in "
				"a running instance: expected a restart or a migration",
				m->maps.gateways, ic->gateways);
		err = -EINVAL;
	}
	for (uint32_t i = 0; !err && i < ic->nservices; i++)
		if (ic->service[i].splice_sockmap && m->splice.fd[0] < 0) {
			cman_conf_error(&bare, NULL, ic->service[i].line,
					"splice = \"sockmap\" in service '%s': the instance was "
					"started without: expected a restart or a migration",
					ic->service[i].name);
			err = -EINVAL;
		}
	if (err)
		cman_conf_error(ret_error, next->file, ic->line, "%s", bare.text);
	return err;
}

int publish_reload(struct manager *m, struct cman_conf *next, struct cman_instance_conf *ic,
		   json_t *changes, struct cman_conf_error *ret_error)
{
	struct plan *p;
	int err = check_plan(m, next, ic, ret_error);

	if (err)
		return err;
	p = plan_new(m, next, ic, ret_error);
	if (!p)
		return -ENOMEM;
	p->live = true;
	p->changes = changes;
	err = carry_out(p);
	if (!err)
		apply_limits(p);
	free(p);
	close_inherited();
	if (err)
		return err;
	apply_state(m);
	if (m->conf != next) {
		cman_conf_free(m->conf);
		m->conf = next;
	}
	m->ic = ic;
	warn_unused(m, next, ic);
	warn_certificates(m, next, ic);
	hold(m);
	instance_sync(m);
	return 0;
}

void publish_withdraw(struct manager *m)
{
	/* nothing says "wait" any more: the filters go */
	for (uint32_t at = 0; at < CMAN_MAX_SERVICES; at++)
		m->maps.services[at].when_down = CMAN_DOWN_REFUSE;
	cman_hold_apply(&m->maps);
}

/* ---- for sessions that come from another release ---- */

int publish_service_index(struct manager *m, const char *name, size_t len)
{
	struct cman_service svc = { .state = CMAN_SERVICE_RETIRED, .connect_timeout_s = 5 };
	uint32_t at = find_service(m, name, len);

	if (at != NO_INDEX)
		return (int)at;
	if (!len || len >= sizeof(svc.name))
		return -EINVAL;
	at = free_service(m, NULL);
	if (at == NO_INDEX)
		return -ENOSPC;
	memcpy(svc.name, name, len);
	service_write(&m->maps.services[at], &svc);
	event_add(m, LOG_WARNING,
		  "service %s is not configured here: its sessions go on, without timeouts",
		  svc.name);
	return (int)at;
}

int publish_listener_index(struct manager *m, const char *name, size_t len)
{
	for (uint32_t at = 0; at < CMAN_MAX_LISTENERS; at++) {
		const struct cman_listener *l = &m->maps.instance->listener[at];

		if (l->used && strlen(l->name) == len && !memcmp(l->name, name, len))
			return (int)at;
	}
	return -ENOENT;
}
