/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The answers to `status` and `show`: read from the shared memory that gateways write at the same
 * time, so every slot is copied and the copy checked before it is believed. Nothing here changes
 * anything. The addresses that the ledger does not hold come from the kernel, by socket cookie.
 *
 * The ledger is not given back with MADV_DONTNEED after a pass: a mapped BPF array has no fault
 * handler, the next access would be a SIGBUS; and its pages exist once, in the kernel, anyway.
 */
#include "usr/manager/manager.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "usr/core/session.h"
#include "usr/sys/diag.h"
#include "usr/sys/log.h"
#include "usr/sys/steer.h"
#include "usr/sys/tls_cell.h"
#include "usr/tls/handshake.h"

static char why_text[400];

static int __attribute__((format(printf, 2, 3))) fail(const char **why, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(why_text, sizeof(why_text), format, ap);
	va_end(ap);
	*why = why_text;
	return -EINVAL;
}

static uint32_t now_s(void)
{
	return (uint32_t)(cman_now_ns() / 1000000000u);
}

static json_t *id_json(uint64_t id)
{
	char text[17];

	snprintf(text, sizeof(text), "%016llx", (unsigned long long)id);
	return json_string(text);
}

static json_t *address_json(const uint8_t addr[16], uint16_t port)
{
	char text[CMAN_ENDPOINT_TEXT];

	return json_string(cman_endpoint_format(addr, port, text));
}

static void add_u64(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void add_text(json_t *object, const char *key, const char *value)
{
	json_object_set_new(object, key, json_string(value));
}

/* ---- the ledger ---- */

/* PREPARED sessions are another instance's until the commit: shown only to who asks for them. */
static bool is_shown(uint8_t state)
{
	return state >= CMAN_SLOT_PREPARED && state <= CMAN_SLOT_HANDSHAKE;
}

/* A copy of a slot that was not used for another session meanwhile. */
static bool read_slot(const struct cman_slot *slot, struct cman_slot *ret)
{
	const volatile struct cman_slot *now = slot;

	if (!is_shown(now->state))
		return false;
	*ret = *slot;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return now->id == ret->id && is_shown(ret->state) && ret->service < CMAN_MAX_SERVICES &&
	       ret->listener < CMAN_MAX_LISTENERS;
}

struct session_filter {
	int service, state; /* -1: all */
	bool by_source;
	uint8_t source[16];
	uint32_t prefix_len;
};

static int filter_service(struct manager *m, const char *name, struct session_filter *f,
			  const char **why)
{
	char names[200] = "";
	size_t used = 0;

	for (int i = 0; i < CMAN_MAX_SERVICES; i++) {
		const struct cman_service *svc = &m->maps.services[i];
		int n;

		if (svc->state == CMAN_SERVICE_UNUSED)
			continue;
		if (!strcmp(svc->name, name)) {
			f->service = i;
			return 0;
		}
		n = snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "",
			     svc->name);
		if (n > 0 && (size_t)n < sizeof(names) - used)
			used += (size_t)n;
		else
			names[used] = '\0';
	}
	return fail(why, "unknown service \"%s\": expected one of: %s", name, names);
}

static int filter_make(struct manager *m, json_t *request, struct session_filter *f,
		       const char **why)
{
	const char *service = json_string_value(json_object_get(request, "service"));
	const char *source = json_string_value(json_object_get(request, "source"));
	const char *state = json_string_value(json_object_get(request, "state"));
	const char *reason;

	*f = (struct session_filter){ .service = -1, .state = -1 };
	if (service && filter_service(m, service, f, why))
		return -EINVAL;
	if (source && cman_prefix_parse(source, f->source, &f->prefix_len, &reason))
		return fail(why, "source \"%s\": %s", source, reason);
	f->by_source = source;
	if (!state)
		return 0;
	f->state = cman_slot_state_parse(state);
	if (f->state < 0 || !is_shown((uint8_t)f->state))
		return fail(why,
			    "unknown state \"%s\": expected accepted, connecting, handshake, "
			    "relaying, leaving, prepared or closing",
			    state);
	return 0;
}

static bool filter_match(const struct session_filter *f, const struct cman_slot *s)
{
	if (f->service >= 0 && s->service != f->service)
		return false;
	if (f->state >= 0 ? s->state != f->state : s->state == CMAN_SLOT_PREPARED)
		return false;
	for (uint32_t bit = 0; f->by_source && bit < f->prefix_len; bit++)
		if ((s->client_addr[bit / 8] ^ f->source[bit / 8]) & (0x80 >> bit % 8))
			return false;
	return true;
}

int show_select(struct manager *m, json_t *request,
		void (*fn)(void *arg, struct cell *c, uint32_t slot), void *arg, const char **why)
{
	struct session_filter filter;
	struct cman_slot s;

	if (filter_make(m, request, &filter, why))
		return -EINVAL;
	for (uint32_t g = 0; g < m->ncells; g++) {
		struct cell *c = &m->cells[g];
		uint32_t n = cell_high(c);

		for (uint32_t i = 0; i < n; i++)
			if (read_slot(&c->slots[i], &s) && filter_match(&filter, &s))
				fn(arg, c, i);
	}
	return 0;
}

/* ---- status ---- */

static const char *state_name(const struct manager *m)
{
	switch ((enum cman_instance_state)m->maps.instance->state) {
	case CMAN_STARTING:
		return "starting";
	case CMAN_RUNNING:
		return "running";
	case CMAN_MIGRATING:
		return "migrating";
	case CMAN_DRAINING:
		return "draining";
	case CMAN_SUSPENDED:
		return "suspended";
	}
	return "?";
}

static json_t *migration_json(struct manager *m)
{
	uint32_t moved = 0, left = 0, total = 0;
	const char *phase = "";

	if (m->target && !target_over(m)) {
		target_progress(m, &moved, &total, &phase);
		left = total > moved ? total - moved : 0;
	} else if (m->source) {
		source_progress(m, &moved, &left, &phase);
		total = moved + left;
		if (!strcmp(phase, cman_phase_name(CMAN_HO_OVER)))
			return json_null();
	} else {
		return json_null();
	}
	return json_pack("{s:I, s:I, s:I, s:s}", "moved", (json_int_t)moved, "left",
			 (json_int_t)left, "total", (json_int_t)total, "phase", phase);
}

json_t *show_status(struct manager *m)
{
	const struct cman_instance *in = m->maps.instance;
	uint64_t accepted = 0, refused = 0;
	json_t *o = json_object();

	if (!in) { /* a target that has not got the listeners yet */
		json_decref(o);
		return json_pack("{s:s, s:i, s:s, s:s, s:s, s:i, s:i, s:i, s:o}", "instance",
				 m->name, "pid", (int)getpid(), "version", cman_version, "role",
				 "current", "state", "starting", "uptime_s", 0, "sessions", 0,
				 "gateways", 0, "migration", migration_json(m));
	}
	for (uint32_t i = 0; i < m->ncells; i++) {
		accepted += m->maps.cells[i].accepted;
		refused += m->maps.cells[i].refused;
	}
	add_text(o, "instance", m->name);
	add_u64(o, "pid", (uint64_t)getpid());
	add_text(o, "version", cman_version);
	add_text(o, "role", m->is_old ? "old" : "current");
	add_text(o, "state", state_name(m));
	add_u64(o, "uptime_s", (cman_now_ns() - in->started_ns) / 1000000000u);
	add_u64(o, "sessions", instance_sessions(m));
	add_u64(o, "gateways", m->ncells);
	add_u64(o, "max_sessions", in->max_sessions);
	add_u64(o, "accepted", accepted);
	add_u64(o, "refused", refused);
	json_object_set_new(o, "migration", migration_json(m));
	return o;
}

/* ---- sessions ---- */

struct row {
	struct cman_slot slot;
	uint32_t gateway;
	uint8_t local[16], source[16], target[16];
	uint16_t local_port, source_port, target_port;
	uint16_t suite[2]; /* 0: no TLS, or not known yet */
	char sni[64], alpn[32];
};

struct rows {
	struct row *row;
	size_t n, size;
	uint32_t *index; /* hash table of cookies: 1 + 2 * row + (1: server leg); 0 is empty */
	size_t mask;
	bool no_memory;
};

/* Of what is in the secret memory, that which is no secret. */
static void read_tls(const struct cell *c, uint32_t i, struct row *row)
{
	const struct cman_tls_slot *t = c->secret ? cman_tls_slot_at(c->secret, i) : NULL;

	if (!t || t->id != row->slot.id)
		return;
	memcpy(row->suite, t->suite, sizeof(row->suite));
	memcpy(row->sni, t->sni, sizeof(row->sni) - 1);
	memcpy(row->alpn, t->alpn, sizeof(row->alpn) - 1);
}

static void add_row(void *arg, struct cell *c, uint32_t i)
{
	struct rows *r = arg;
	struct cman_slot s;
	struct row *row;

	if (r->no_memory || !read_slot(&c->slots[i], &s))
		return;
	if (r->n == r->size) {
		size_t size = r->size ? 2 * r->size : 256;

		row = reallocarray(r->row, size, sizeof(*row));
		if (!row) {
			r->no_memory = true;
			return;
		}
		r->row = row;
		r->size = size;
	}
	row = &r->row[r->n++];
	memset(row, 0, sizeof(*row));
	row->slot = s;
	row->gateway = c->index;
	if (s.tls && s.state != CMAN_SLOT_HANDSHAKE)
		read_tls(c, i, row);
}

static size_t cookie_hash(uint64_t cookie)
{
	return (size_t)((cookie * 0x9e3779b97f4a7c15ull) >> 20);
}

static void index_cookie(struct rows *r, uint64_t cookie, uint32_t value)
{
	size_t at = cookie_hash(cookie) & r->mask;

	if (!cookie)
		return;
	while (r->index[at])
		at = (at + 1) & r->mask;
	r->index[at] = value;
}

static int index_rows(struct rows *r)
{
	size_t size = 64;

	while (size < 4 * r->n)
		size *= 2;
	r->index = calloc(size, sizeof(*r->index));
	if (!r->index)
		return -ENOMEM;
	r->mask = size - 1;
	for (size_t i = 0; i < r->n; i++) {
		index_cookie(r, r->row[i].slot.client_cookie, (uint32_t)(1 + 2 * i));
		if (r->row[i].slot.server_fd > 0)
			index_cookie(r, r->row[i].slot.server_cookie, (uint32_t)(2 + 2 * i));
	}
	return 0;
}

static int join(void *arg, const struct cman_diag_socket *s)
{
	struct rows *r = arg;

	for (size_t at = cookie_hash(s->cookie) & r->mask; r->index[at]; at = (at + 1) & r->mask) {
		struct row *row = &r->row[(r->index[at] - 1) / 2];
		bool server = (r->index[at] - 1) & 1;

		if (s->cookie != (server ? row->slot.server_cookie : row->slot.client_cookie))
			continue;
		if (server) {
			memcpy(row->source, s->local, 16);
			row->source_port = s->local_port;
			memcpy(row->target, s->remote, 16);
			row->target_port = s->remote_port;
		} else {
			memcpy(row->local, s->local, 16);
			row->local_port = s->local_port;
		}
		return 0;
	}
	return 0;
}

/* What the kernel did not say: the configured address. */
static void complete(const struct manager *m, struct row *row)
{
	const struct cman_listener *l = &m->maps.instance->listener[row->slot.listener];
	const struct cman_service *svc = &m->maps.services[row->slot.service];

	if (!row->local_port) {
		memcpy(row->local, l->addr, 16);
		row->local_port = l->port_first;
	}
	if (!row->target_port && row->slot.server_fd > 0 && row->slot.target < svc->ntargets &&
	    row->slot.target < CMAN_MAX_TARGETS) {
		memcpy(row->target, svc->target[row->slot.target].addr, 16);
		row->target_port = svc->target[row->slot.target].port;
	}
}

/* What the kernel relays moves no position. */
static uint64_t bytes_of(const struct manager *m, const struct cman_slot *s, int dir)
{
	uint64_t bytes = s->flow[dir].position;
	struct cman_splice_leg leg;

	if ((s->flags & CMAN_SLOT_SPLICED) && m->splice.fd[CMAN_SPLICE_LEGS] >= 0 &&
	    !cman_splice_leg(&m->splice, dir == CMAN_UP ? s->client_cookie : s->server_cookie,
			     &leg) &&
	    leg.base + leg.redirected > bytes)
		bytes = leg.base + leg.redirected;
	return bytes;
}

/* {"version","cipher","engine"}, or null: no TLS, or not through its handshake yet. */
static json_t *tls_json(const struct row *row, int leg)
{
	const struct cman_tls_suite *suite = cman_tls_suite(row->suite[leg]);

	if (!suite)
		return json_null();
	return json_pack("{s:s, s:s, s:s}", "version", cman_tls_version_name(suite->version),
			 "cipher", suite->name, "engine",
			 cman_tls_engine_name(row->slot.tls & CMAN_SLOT_TLS_KERNEL ?
						      CMAN_TLS_KERNEL :
						      CMAN_TLS_USER));
}

static json_t *text_or_null(const char *text)
{
	return *text ? json_string(text) : json_null();
}

static json_t *row_json(const struct manager *m, const struct row *row, uint32_t now)
{
	const struct cman_slot *s = &row->slot;
	json_t *o = json_object();

	json_object_set_new(o, "id", id_json(s->id));
	add_text(o, "service", m->maps.services[s->service].name);
	json_object_set_new(o, "client", address_json(s->client_addr, s->client_port));
	json_object_set_new(o, "listener", address_json(row->local, row->local_port));
	json_object_set_new(o, "source",
			    row->source_port ? address_json(row->source, row->source_port) :
					       json_null());
	json_object_set_new(o, "target",
			    row->target_port ? address_json(row->target, row->target_port) :
					       json_null());
	add_text(o, "state", cman_slot_state_name(s->state));
	json_object_set_new(o, "client_tls", tls_json(row, 0));
	json_object_set_new(o, "server_tls", tls_json(row, 1));
	json_object_set_new(o, "sni", text_or_null(row->sni));
	json_object_set_new(o, "alpn", text_or_null(row->alpn));
	add_u64(o, "gateway", row->gateway);
	add_u64(o, "age_s", now > s->created_s ? now - s->created_s : 0);
	add_u64(o, "idle_s", now > s->active_s ? now - s->active_s : 0);
	add_u64(o, "bytes_up", bytes_of(m, s, CMAN_UP));
	add_u64(o, "bytes_down", bytes_of(m, s, CMAN_DOWN));
	add_u64(o, "handovers", s->handovers);
	return o;
}

static json_t *show_sessions(struct manager *m, json_t *request, const char **why)
{
	struct rows r = { 0 };
	json_t *array = NULL;
	uint32_t now = now_s();

	if (show_select(m, request, add_row, &r, why))
		return NULL;
	if (r.no_memory || index_rows(&r)) {
		*why = "no memory for the list of sessions";
		goto out;
	}
	/* without the kernel's answer the rows show what is configured */
	if (r.n)
		cman_diag_sockets(join, &r);
	array = json_array();
	for (size_t i = 0; i < r.n; i++) {
		complete(m, &r.row[i]);
		json_array_append_new(array, row_json(m, &r.row[i], now));
	}
out:
	free(r.row);
	free(r.index);
	return array;
}

/* ---- services ---- */

static const char *balance_name(uint32_t balance)
{
	return balance == CMAN_BALANCE_ROUNDROBIN ? "roundrobin" :
	       balance == CMAN_BALANCE_LEASTCONN  ? "leastconn" :
						    "first";
}

static const char *service_state_name(uint32_t state)
{
	return state == CMAN_SERVICE_OPEN      ? "open" :
	       state == CMAN_SERVICE_SUSPENDED ? "suspended" :
	       state == CMAN_SERVICE_RETIRED   ? "retired" :
						 "unused";
}

static json_t *listeners_json(const struct manager *m, uint32_t service)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < CMAN_MAX_LISTENERS; i++) {
		const struct cman_listener *l = &m->maps.instance->listener[i];
		char first[CMAN_ENDPOINT_TEXT], text[CMAN_ENDPOINT_TEXT + 8];

		if (!l->used || l->service != service)
			continue;
		cman_endpoint_format(l->addr, l->port_first, first);
		if (l->port_last == l->port_first)
			snprintf(text, sizeof(text), "%s", first);
		else
			snprintf(text, sizeof(text), "%s-%u", first, l->port_last);
		json_array_append_new(array, json_string(text));
	}
	return array;
}

static json_t *targets_json(const struct manager *m, uint32_t service)
{
	const struct cman_service *svc = &m->maps.services[service];
	json_t *array = json_array();
	uint32_t now = now_s();

	for (uint32_t t = 0; t < svc->ntargets && t < CMAN_MAX_TARGETS; t++) {
		const struct cman_target *target = &svc->target[t];
		json_t *o = json_object();
		uint64_t sessions = 0;

		for (uint32_t i = 0; i < m->ncells; i++)
			sessions += m->maps.cells[i].target_sessions[service][t];
		json_object_set_new(o, "address", address_json(target->addr, target->port));
		add_text(o, "state", target->down_until_s > now ? "down" : "up");
		add_u64(o, "sessions", sessions);
		add_u64(o, "failures", target->failures);
		json_array_append_new(array, o);
	}
	return array;
}

static json_t *service_json(const struct manager *m, uint32_t i, uint64_t sessions)
{
	const struct cman_service *svc = &m->maps.services[i];
	struct cman_counters count = { 0 };
	json_t *o = json_object();

	cman_steer_counters(&m->maps, i, &count);
	add_text(o, "name", svc->name);
	add_text(o, "state", service_state_name(svc->state));
	json_object_set_new(o, "listeners", listeners_json(m, i));
	json_object_set_new(o, "targets", targets_json(m, i));
	add_text(o, "balance", balance_name(svc->balance));
	add_u64(o, "sessions", sessions);
	add_u64(o, "steered", count.steered);
	add_u64(o, "rejected", count.rejected);
	add_u64(o, "dropped", count.dropped);
	add_u64(o, "held", count.held);
	add_u64(o, "no_listener", count.no_listener);
	return o;
}

static json_t *show_services(struct manager *m)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < CMAN_MAX_SERVICES; i++) {
		uint32_t state = m->maps.services[i].state;
		uint64_t sessions = 0;

		for (uint32_t g = 0; g < m->ncells; g++)
			sessions += m->maps.cells[g].service_sessions[i];
		if (state == CMAN_SERVICE_UNUSED || (state == CMAN_SERVICE_RETIRED && !sessions))
			continue;
		json_array_append_new(array, service_json(m, i, sessions));
	}
	return array;
}

/* ---- rules ---- */

static void prefix_text(const struct cman_rule *r, char *buf, size_t size)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool v4 = r->prefix_len >= 96 && !memcmp(r->source, mapped, sizeof(mapped));
	char text[CMAN_ENDPOINT_TEXT];

	cman_endpoint_format(r->source, 0, text);
	snprintf(buf, size, "%s/%u", text, r->prefix_len - (v4 ? 96 : 0));
}

static json_t *show_rules(struct manager *m)
{
	static const char *const actions[] = { "accept", "reject", "drop" };
	json_t *array = json_array();

	for (uint32_t i = 0; i < m->maps.instance->nrules && i < CMAN_MAX_RULES; i++) {
		const struct cman_rule *r = &m->maps.ruletab[i];
		char source[CMAN_ENDPOINT_TEXT + 8];
		json_t *o = json_object();
		uint64_t sessions = 0;

		for (uint32_t g = 0; g < m->ncells; g++)
			sessions += m->maps.cells[g].rule_sessions[i + 1];
		prefix_text(r, source, sizeof(source));
		add_text(o, "name", r->name);
		add_text(o, "source", source);
		add_text(o, "service",
			 r->service < CMAN_MAX_SERVICES ? m->maps.services[r->service].name : "*");
		add_text(o, "action", r->action < 3 ? actions[r->action] : "?");
		add_u64(o, "max_idle_s", r->max_idle_s);
		add_u64(o, "max_sessions", r->max_sessions);
		add_u64(o, "sessions", sessions);
		json_array_append_new(array, o);
	}
	return array;
}

/* ---- gateways ---- */

static uint32_t buffers_used(const struct cell *c)
{
	uint32_t used = 0, n = cell_high(c);

	for (uint32_t i = 0; i < n; i++)
		for (int d = 0; d < 2; d++)
			used += is_shown(c->slots[i].state) &&
				(c->slots[i].bound[d] & CMAN_BOUND_KIND) == CMAN_BOUND_BUFFER;
	return used;
}

static json_t *tls_counters(const struct cman_cell *s)
{
	json_t *o = json_object(), *failed = json_object();

	add_u64(o, "handshakes", s->tls_handshakes);
	for (int f = CMAN_TLS_FAIL_NONE + 1; f < CMAN_TLS_FAILURES; f++)
		add_u64(failed, cman_tls_failure_name((enum cman_tls_failure)f), s->tls_failed[f]);
	json_object_set_new(o, "failed", failed);
	add_u64(o, "cut", s->tls_cut);
	add_u64(o, "truncated", s->tls_truncated);
	add_u64(o, "broken", s->tls_broken);
	return o;
}

/* null: it is just being replaced */
static json_t *pid_json(const struct cman_cell *cell, enum cman_role role)
{
	pid_t pid = cman_cell_pid(cell, role);

	return pid ? json_integer(pid) : json_null();
}

static json_t *gateway_json(const struct cell *c)
{
	const struct cman_cell *s = c->shared;
	uint64_t now = cman_now_ns(), beat = s->beat_ns;
	json_t *o = json_object();

	add_u64(o, "gateway", c->index);
	json_object_set_new(o, "pid", pid_json(s, CMAN_GATEWAY));
	json_object_set_new(o, "keepers",
			    json_pack("[o, o]", pid_json(s, CMAN_KEEPER), pid_json(s, CMAN_SPARE)));
	add_u64(o, "sessions", s->sessions);
	add_u64(o, "accepted", s->accepted);
	add_u64(o, "refused", s->refused);
	add_u64(o, "closed", s->closed);
	add_u64(o, "resets", s->resets);
	add_u64(o, "bytes_up", s->bytes[CMAN_UP]);
	add_u64(o, "bytes_down", s->bytes[CMAN_DOWN]);
	add_u64(o, "buffers_used", buffers_used(c));
	add_u64(o, "pipes_open", s->pipes_open);
	add_u64(o, "recoveries", s->recoveries);
	add_u64(o, "recovered", s->recovered);
	add_u64(o, "lost", s->lost);
	add_u64(o, "last_recovery_us", s->recovery_ns / 1000);
	json_object_set_new(
		o, "replaced",
		json_pack("{s:I, s:I}", "gateway", (json_int_t)s->replaced[CMAN_GATEWAY], "keepers",
			  (json_int_t)(s->replaced[CMAN_KEEPER] + s->replaced[CMAN_SPARE])));
	json_object_set_new(o, "tls", tls_counters(s));
	add_u64(o, "beat_age_ms", now > beat ? (now - beat) / 1000000 : 0);
	return o;
}

static json_t *show_gateways(struct manager *m)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < m->ncells; i++)
		json_array_append_new(array, gateway_json(&m->cells[i]));
	return array;
}

/* ---- parameters ---- */

static void __attribute__((format(printf, 5, 6)))
parameter(json_t *array, const char *name, bool changeable, const char *unit, const char *format,
	  ...)
{
	json_t *value, *o = json_object();
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	value = json_string(text);
	add_text(o, "name", name);
	json_object_set_new(o, "value", value ? value : json_string("?"));
	json_object_set_new(o, "changeable", json_boolean(changeable));
	json_object_set_new(o, "unit", unit ? json_string(unit) : json_null());
	json_array_append_new(array, o);
}

static void service_parameters(json_t *array, const struct cman_service *svc)
{
	const struct {
		const char *name;
		const char *unit;
		uint32_t value;
	} numbers[] = {
		{ "connect_timeout", "s", svc->connect_timeout_s },
		{ "idle_timeout", "s", svc->idle_timeout_s },
		{ "session_timeout", "s", svc->session_timeout_s },
	};
	char name[CMAN_NAME_LEN + 32];

	for (size_t i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%s.%s", svc->name, numbers[i].name);
		parameter(array, name, true, numbers[i].unit, "%u", numbers[i].value);
	}
	snprintf(name, sizeof(name), "%s.balance", svc->name);
	parameter(array, name, true, NULL, "%s", balance_name(svc->balance));
	snprintf(name, sizeof(name), "%s.when_down", svc->name);
	parameter(array, name, true, NULL, "%s",
		  svc->when_down == CMAN_DOWN_WAIT ? "wait" : "refuse");
}

static json_t *show_parameters(struct manager *m)
{
	static const char *const via[] = { "auto", "fd", "repair" };
	const struct cman_instance *in = m->maps.instance;
	json_t *array = json_array();

	parameter(array, "log_level", true, NULL, "%s", cman_log_level_name((int)in->log_level));
	parameter(array, "max_sessions", true, "sessions", "%u", in->max_sessions);
	parameter(array, "handover_timeout", true, "s", "%u", m->ic->handover_timeout_s);
	for (uint32_t i = 0; i < CMAN_MAX_SERVICES; i++)
		if (m->maps.services[i].state == CMAN_SERVICE_OPEN ||
		    m->maps.services[i].state == CMAN_SERVICE_SUSPENDED)
			service_parameters(array, &m->maps.services[i]);
	parameter(array, "handover", false, NULL, "%s",
		  (unsigned int)m->ic->handover < 3 ? via[m->ic->handover] : "?");
	parameter(array, "gateways", false, NULL, "%u", m->maps.gateways);
	parameter(array, "slots_per_gateway", false, "sessions", "%u", m->maps.slots_per_cell);
	parameter(array, "user", false, NULL, "%s", m->ic->user);
	parameter(array, "run_dir", false, NULL, "%s", m->ic->run_dir);
	parameter(array, "file", false, NULL, "%s", m->conf->file);
	return array;
}

/* ---- version ---- */

static json_t *show_version(void)
{
	struct utsname system;

	uname(&system);
	return json_pack("{s:s, s:[i, i], s:i, s:s, s:[s, s]}", "release", cman_version, "wire",
			 CMAN_WIRE_MIN, CMAN_WIRE_MAX, "abi", CMAN_ABI, "kernel", system.release,
			 "carriers", "fd", "repair");
}

json_t *show_table(struct manager *m, const char *what, json_t *request, const char **why)
{
	static const char *const filters[] = { "service", "source", "state" };

	*why = "no memory";
	for (size_t i = 0; strcmp(what, "sessions") && i < 3; i++) {
		if (json_object_get(request, filters[i])) {
			fail(why, "\"%s\" filters sessions, not %s", filters[i], what);
			return NULL;
		}
	}
	if (!strcmp(what, "version"))
		return show_version();
	if (!strcmp(what, "events"))
		return events_json();
	if (!m->maps.instance) {
		*why = "this instance is starting: ask again in a moment";
		return NULL;
	}
	if (!strcmp(what, "sessions"))
		return show_sessions(m, request, why);
	if (!strcmp(what, "services"))
		return show_services(m);
	if (!strcmp(what, "rules"))
		return show_rules(m);
	if (!strcmp(what, "gateways"))
		return show_gateways(m);
	if (!strcmp(what, "parameters"))
		return show_parameters(m);
	fail(why,
	     "show: unknown \"%s\": expected sessions, services, rules, gateways, parameters, "
	     "events or version",
	     what);
	return NULL;
}
