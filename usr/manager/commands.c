/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of the control socket. One table says for each its members and their types: what is
 * not in it is an error that names what was expected. A command answers its client once, at once
 * or later; what takes longer keeps a job that forgets its client when that goes away.
 */
#include "usr/manager/manager.h"
#include "usr/manager/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usr/sys/conf.h"
#include "usr/sys/crash.h"
#include "usr/sys/hold.h"
#include "usr/sys/log.h"

#define USAGE  2 /* exit code of cmanctl: the request is wrong */
#define FAILED 1

#define PROGRESS_MS 200
#define YEAR_S	    (366u * 24 * 3600)
#define DAY_S	    (24u * 3600)

/* ---- what may be done now ---- */

static bool migrating(const struct manager *m)
{
	const char *phase = "";
	uint32_t moved, left;

	if (m->target && !target_over(m))
		return true;
	if (!m->source)
		return false;
	source_progress(m, &moved, &left, &phase);
	return strcmp(phase, cman_phase_name(CMAN_HO_OVER)) != 0;
}

/* Why the configuration of this instance cannot change now; NULL: it can. */
static const char *frozen(const struct manager *m)
{
	if (m->stopping)
		return "this instance is stopping";
	if (!m->maps.instance)
		return "this instance is starting: try again in a moment";
	if (m->is_old)
		return "this is the old instance of a migration: use the new one's alias";
	if (migrating(m))
		return "a migration is running: wait for its end, or cmanctl migrate --cancel";
	return NULL;
}

static void config_changed(struct manager *m)
{
	__atomic_fetch_add(&m->maps.instance->config_generation, 1, __ATOMIC_RELEASE);
	instance_sync(m);
}

/* ---- status, show ---- */

static void run_status(struct manager *m, struct client *c, json_t *request)
{
	(void)request;
	client_reply(c, show_status(m));
}

static void run_show(struct manager *m, struct client *c, json_t *request)
{
	const char *why = "";
	json_t *result = show_table(m, json_string_value(json_object_get(request, "what")), request,
				    &why);

	if (result)
		client_reply(c, result);
	else
		client_error(c, USAGE, "%s", why);
}

/* ---- set ---- */

static bool parse_number(struct client *c, const char *parameter, const char *value, uint32_t min,
			 uint32_t max, const char *unit, uint32_t *ret)
{
	unsigned long long n = 0;
	char *end = NULL;

	errno = 0;
	if (*value >= '0' && *value <= '9')
		n = strtoull(value, &end, 10);
	if (!end || *end || errno || n < min || n > max) {
		client_error(c, USAGE, "%s: \"%s\": expected %u to %u%s%s", parameter, value, min,
			     max, *unit ? " " : "", unit);
		return false;
	}
	*ret = (uint32_t)n;
	return true;
}

static int parse_word(struct client *c, const char *parameter, const char *value,
		      const char *const *words)
{
	char expected[120] = "";
	size_t used = 0;

	for (int i = 0; words[i]; i++) {
		if (!strcmp(words[i], value))
			return i;
		used += (size_t)snprintf(expected + used, sizeof(expected) - used, "%s%s",
					 used ? ", " : "", words[i]);
	}
	client_error(c, USAGE, "%s: \"%s\": expected one of: %s", parameter, value, expected);
	return -EINVAL;
}

static void was_set(struct manager *m, struct client *c, const char *parameter, const char *old,
		    const char *new)
{
	event_add(m, LOG_NOTICE, "%s was set: %s -> %s", parameter, old, new);
	config_changed(m);
	client_reply(c,
		     json_pack("{s:s, s:s, s:s}", "parameter", parameter, "old", old, "new", new));
}

static void number_was_set(struct manager *m, struct client *c, const char *parameter, uint32_t old,
			   uint32_t new)
{
	char a[16], b[16];

	snprintf(a, sizeof(a), "%u", old);
	snprintf(b, sizeof(b), "%u", new);
	was_set(m, c, parameter, a, b);
}

static const char *const balances[] = { "first", "roundrobin", "leastconn", NULL };
static const char *const downs[] = { "refuse", "wait", NULL };

/* A store of one aligned word needs no sequence lock, but who reads several wants one picture. */
static void store_word(struct cman_service *svc, uint32_t *field, uint32_t value)
{
	service_write_begin(svc);
	*field = value;
	service_write_end(svc);
}

static void set_service(struct manager *m, struct client *c, const char *parameter,
			struct cman_service *svc, const char *key, const char *value)
{
	const struct {
		const char *key;
		uint32_t *field, min;
		uint32_t max;
	} numbers[] = {
		{ "idle_timeout", &svc->idle_timeout_s, 0, YEAR_S },
		{ "session_timeout", &svc->session_timeout_s, 0, YEAR_S },
		{ "connect_timeout", &svc->connect_timeout_s, 1, 3600 },
	};
	const struct {
		const char *key;
		uint32_t *field;
		const char *const *words;
		uint32_t nwords;
	} words[] = {
		{ "balance", &svc->balance, balances, 3 },
		{ "when_down", &svc->when_down, downs, 2 },
	};
	uint32_t old, new;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		if (strcmp(key, numbers[i].key))
			continue;
		if (!parse_number(c, parameter, value, numbers[i].min, numbers[i].max, "seconds",
				  &new))
			return;
		old = *numbers[i].field;
		store_word(svc, numbers[i].field, new);
		number_was_set(m, c, parameter, old, new);
		return;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		int n;

		if (strcmp(key, words[i].key))
			continue;
		n = parse_word(c, parameter, value, words[i].words);
		if (n < 0)
			return;
		old = *words[i].field;
		store_word(svc, words[i].field, (uint32_t)n);
		if (words[i].field == &svc->when_down)
			cman_hold_apply(&m->maps);
		was_set(m, c, parameter, old < words[i].nwords ? words[i].words[old] : "?",
			words[i].words[n]);
		return;
	}
	client_error(c, USAGE,
		     "%s: unknown parameter: expected %s.idle_timeout, session_timeout, "
		     "connect_timeout, balance or when_down",
		     parameter, svc->name);
}

static bool is_configured(const struct cman_service *svc)
{
	return svc->state == CMAN_SERVICE_OPEN || svc->state == CMAN_SERVICE_SUSPENDED;
}

/* A name may hold dots: the last one ends it. */
static void set_of_service(struct manager *m, struct client *c, const char *parameter,
			   const char *value)
{
	const char *dot = strrchr(parameter, '.');

	for (uint32_t i = 0; dot && i < CMAN_MAX_SERVICES; i++) {
		struct cman_service *svc = &m->maps.services[i];

		if (is_configured(svc) && strlen(svc->name) == (size_t)(dot - parameter) &&
		    !memcmp(svc->name, parameter, (size_t)(dot - parameter))) {
			set_service(m, c, parameter, svc, dot + 1, value);
			return;
		}
	}
	if (dot)
		client_error(c, USAGE, "%s: unknown service \"%.*s\"", parameter,
			     (int)(dot - parameter), parameter);
	else
		client_error(c, USAGE,
			     "unknown parameter \"%s\": expected log_level, max_sessions, "
			     "handover_timeout, or SERVICE.idle_timeout and the like: see cmanctl "
			     "show parameters",
			     parameter);
}

static void set_log_level(struct manager *m, struct client *c, const char *value)
{
	int old = (int)m->maps.instance->log_level, level = cman_log_level_parse(value);

	if (level < 0) {
		client_error(c, USAGE,
			     "log_level: \"%s\": expected one of: emerg, alert, crit, "
			     "err, warning, notice, info, debug",
			     value);
		return;
	}
	m->maps.instance->log_level = (uint32_t)level;
	was_set(m, c, "log_level", cman_log_level_name(old), value);
}

static void run_set(struct manager *m, struct client *c, json_t *request)
{
	const char *parameter = json_string_value(json_object_get(request, "parameter"));
	const char *value = json_string_value(json_object_get(request, "value"));
	const char *why = strcmp(parameter, "log_level") || !m->maps.instance ? frozen(m) : NULL;
	uint32_t old, new;

	if (why) {
		client_error(c, FAILED, "%s", why);
	} else if (!strcmp(parameter, "log_level")) {
		set_log_level(m, c, value);
	} else if (!strcmp(parameter, "max_sessions")) {
		if (!parse_number(c, parameter, value, 1, m->maps.slots_per_cell,
				  "(this instance has room for no more)", &new))
			return;
		old = m->maps.instance->max_sessions;
		m->maps.instance->max_sessions = new;
		number_was_set(m, c, parameter, old, new);
	} else if (!strcmp(parameter, "handover_timeout")) {
		if (!parse_number(c, parameter, value, 1, DAY_S, "seconds", &new))
			return;
		old = m->ic->handover_timeout_s;
		m->ic->handover_timeout_s = new;
		number_was_set(m, c, parameter, old, new);
	} else {
		set_of_service(m, c, parameter, value);
	}
}

/* ---- reload ---- */

static int reload(struct manager *m, json_t *changes, struct cman_conf_error *error)
{
	struct cman_instance_conf *ic;
	struct cman_conf *next;
	int err;

	err = cman_conf_load(m->conf->file, &next, error);
	if (err)
		return err;
	ic = cman_conf_instance(next, m->alias);
	if (!ic) {
		snprintf(error->text, sizeof(error->text),
			 "%.200s: instance %s is not in it: expected instance %s { ... }",
			 m->conf->file, m->alias, m->alias);
		err = -EINVAL;
	}
	if (!err)
		err = publish_reload(m, next, ic, changes, error);
	if (err) {
		event_add(m, LOG_ERR, "the configuration stays as it was: %s", error->text);
		cman_conf_free(next);
		return err;
	}
	event_add(m, LOG_NOTICE, "the configuration was read again: %zu changes",
		  json_array_size(changes));
	return 0;
}

static void run_reload(struct manager *m, struct client *c, json_t *request)
{
	struct cman_conf_error error = { 0 };
	json_t *changes = json_array();
	const char *why = frozen(m);

	(void)request;
	if (why)
		client_error(c, FAILED, "%s", why);
	else if (reload(m, changes, &error))
		client_error(c, USAGE, "%s", error.text);
	else
		client_reply(c, json_pack("{s:O}", "changes", changes));
	json_decref(changes);
}

void control_reload(struct manager *m)
{
	struct cman_conf_error error = { 0 };
	json_t *changes = json_array();
	const char *why = frozen(m);

	if (why)
		event_add(m, LOG_WARNING, "the configuration is not read again: %s", why);
	else
		reload(m, changes, &error);
	json_decref(changes);
}

/* ---- suspend, resume ---- */

static void settle_state(struct manager *m)
{
	struct cman_instance *in = m->maps.instance;
	bool open = false;

	for (uint32_t i = 0; i < CMAN_MAX_SERVICES; i++)
		open |= m->maps.services[i].state == CMAN_SERVICE_OPEN;
	if (!open && in->state == CMAN_RUNNING)
		in->state = CMAN_SUSPENDED;
	else if (open && in->state == CMAN_SUSPENDED)
		in->state = CMAN_RUNNING;
}

static void switch_services(struct manager *m, struct client *c, json_t *request, uint32_t state)
{
	const char *name = json_string_value(json_object_get(request, "service"));
	const char *why = frozen(m);
	json_t *names = json_array();

	for (uint32_t i = 0; !why && i < CMAN_MAX_SERVICES; i++) {
		struct cman_service *svc = &m->maps.services[i];

		if (!is_configured(svc) || (name && strcmp(svc->name, name)))
			continue;
		if (svc->state != state) {
			store_word(svc, &svc->state, state);
			event_add(m, LOG_NOTICE, "service %s was %s", svc->name,
				  state == CMAN_SERVICE_OPEN ? "resumed" : "suspended");
		}
		json_array_append_new(names, json_string(svc->name));
	}
	if (why) {
		client_error(c, FAILED, "%s", why);
	} else if (name && !json_array_size(names)) {
		client_error(c, USAGE, "unknown service \"%s\": see cmanctl show services", name);
	} else {
		settle_state(m);
		config_changed(m);
		client_reply(c, json_pack("{s:O}", "services", names));
	}
	json_decref(names);
}

static void run_suspend(struct manager *m, struct client *c, json_t *request)
{
	switch_services(m, c, request, CMAN_SERVICE_SUSPENDED);
}

static void run_resume(struct manager *m, struct client *c, json_t *request)
{
	switch_services(m, c, request, CMAN_SERVICE_OPEN);
}

/* ---- close ---- */

struct close_job {
	struct client *c; /* NULL: gone */
	uint64_t *wanted; /* sorted; NULL: all that were selected */
	bool *found;
	size_t nwanted;
	struct order *filling[CMAN_MAX_GATEWAYS];
	uint32_t pending; /* orders, and the job's own hand on itself */
	json_int_t closed;
	json_t *unknown, *busy;
};

static int compare_ids(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void append_id(json_t *array, uint64_t id)
{
	char text[17];

	snprintf(text, sizeof(text), "%016llx", (unsigned long long)id);
	json_array_append_new(array, json_string(text));
}

static void close_forget(void *arg)
{
	struct close_job *job = arg;

	job->c = NULL;
}

static void close_put(struct close_job *job)
{
	if (--job->pending)
		return;
	if (job->c)
		client_reply(job->c, json_pack("{s:I, s:O, s:O}", "closed", job->closed, "unknown",
					       job->unknown, "busy", job->busy));
	json_decref(job->unknown);
	json_decref(job->busy);
	free(job->wanted);
	free(job->found);
	free(job);
}

static void close_done(struct order *o, void *arg)
{
	struct close_job *job = arg;

	for (uint32_t i = 0; i < o->n; i++) {
		int result = o->status ? o->status : o->result[i];

		if (!result)
			job->closed++;
		else if (result == -EAGAIN)
			append_id(job->busy, o->id[i]); /* it is being handed over */
		else if (job->wanted)
			append_id(job->unknown, o->id[i]); /* ended meanwhile */
	}
	free(o);
	close_put(job);
}

static void close_post(struct close_job *job, struct cell *c)
{
	struct order *o = job->filling[c->index];

	job->filling[c->index] = NULL;
	if (!o)
		return;
	job->pending++;
	cell_order(c, o);
}

static void close_select(void *arg, struct cell *c, uint32_t slot)
{
	struct close_job *job = arg;
	struct order *o = job->filling[c->index];
	uint64_t id = c->slots[slot].id;

	if (job->wanted) {
		uint64_t *at = bsearch(&id, job->wanted, job->nwanted, sizeof(id), compare_ids);

		if (!at)
			return;
		job->found[at - job->wanted] = true;
	}
	if (!o) {
		o = calloc(1, sizeof(*o));
		if (!o)
			return;
		o->op = CMAN_ORDER_CLOSE;
		o->done = close_done;
		o->arg = job;
		job->filling[c->index] = o;
	}
	o->slot[o->n] = slot;
	o->id[o->n++] = id;
	if (o->n == CMAN_BATCH)
		close_post(job, c);
}

static bool parse_id(const json_t *value, uint64_t *ret)
{
	const char *text = json_string_value(value);

	if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdefABCDEF") != 16)
		return false;
	*ret = strtoull(text, NULL, 16);
	return true;
}

/* The ids, sorted, each once. */
static bool parse_ids(struct client *c, json_t *ids, struct close_job *job)
{
	size_t n = json_array_size(ids), kept = 0;

	job->wanted = calloc(n + 1, sizeof(*job->wanted));
	job->found = calloc(n + 1, sizeof(*job->found));
	if (!job->wanted || !job->found) {
		client_error(c, FAILED, "no memory");
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (parse_id(json_array_get(ids, i), &job->wanted[i]))
			continue;
		client_error(c, USAGE,
			     "member \"sessions\": expected ids of 16 hexadecimal digits");
		return false;
	}
	qsort(job->wanted, n, sizeof(*job->wanted), compare_ids);
	for (size_t i = 0; i < n; i++)
		if (!kept || job->wanted[kept - 1] != job->wanted[i])
			job->wanted[kept++] = job->wanted[i];
	job->nwanted = kept;
	return true;
}

static void close_start(struct manager *m, struct client *c, json_t *request, struct close_job *job)
{
	const char *why = "";

	if (show_select(m, request, close_select, job, &why)) {
		client_error(c, USAGE, "%s", why);
		return;
	}
	job->c = c;
	client_on_close(c, close_forget, job);
	for (uint32_t i = 0; i < m->ncells; i++)
		close_post(job, &m->cells[i]);
	for (size_t i = 0; i < job->nwanted; i++)
		if (!job->found[i])
			append_id(job->unknown, job->wanted[i]);
}

static void run_close(struct manager *m, struct client *c, json_t *request)
{
	json_t *ids = json_object_get(request, "sessions");
	struct close_job *job;
	int ways = !!ids + !!json_object_get(request, "service") +
		   !!json_object_get(request, "source");

	if (ways != 1) {
		client_error(c, USAGE,
			     "close: expected one of \"sessions\", \"service\" and "
			     "\"source\"");
		return;
	}
	if (!m->maps.instance) {
		client_error(c, FAILED, "this instance is starting: try again in a moment");
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		client_error(c, FAILED, "no memory");
		return;
	}
	job->pending = 1;
	job->unknown = json_array();
	job->busy = json_array();
	if (!ids || parse_ids(c, ids, job))
		close_start(m, c, request, job);
	close_put(job);
}

/* ---- shutdown ---- */

/* Answers when the instance has come to its end: client_on_close() is called just before it. */
struct stop_job {
	struct client *c; /* NULL: answered, or gone */
	uv_timer_t timer;
	json_int_t sessions; /* when last looked at */
	bool drains;
};

static void stop_free(uv_handle_t *h)
{
	free(h->data);
}

static void stop_answer(void *arg)
{
	struct stop_job *job = arg;
	struct client *c = job->c;

	if (!c)
		return;
	job->c = NULL;
	/* a drain that ended early: the last ones ended by themselves */
	if (job->drains && cman_now_ns() < client_manager(c)->drain_until_ns)
		job->sessions = 0;
	/* no-op when it is the client that went */
	client_reply(c, json_pack("{s:I}", "sessions_closed", job->sessions));
	uv_timer_stop(&job->timer);
	uv_close((uv_handle_t *)&job->timer, stop_free);
}

static void stop_tick(uv_timer_t *t)
{
	struct stop_job *job = t->data;
	struct manager *m = client_manager(job->c);

	if (m->stopping) /* the cells are closing what is left: the count stands */
		return;
	job->sessions = instance_sessions(m);
	client_progress(job->c, json_pack("{s:I}", "sessions", job->sessions));
}

static void run_shutdown(struct manager *m, struct client *c, json_t *request)
{
	json_t *drain = json_object_get(request, "drain_s");
	json_int_t drain_s = json_integer_value(drain);
	struct stop_job *job;

	if (drain_s < 0 || drain_s > YEAR_S) {
		client_error(c, USAGE, "shutdown: drain_s: expected 0 to %u seconds", YEAR_S);
		return;
	}
	if (m->stopping || !m->maps.instance) {
		client_error(c, FAILED,
			     m->stopping ? "this instance is stopping already" :
					   "this instance is starting: try again in a "
					   "moment");
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		client_error(c, FAILED, "no memory");
		return;
	}
	job->c = c;
	job->drains = drain_s;
	job->sessions = instance_sessions(m);
	uv_timer_init(&m->loop, &job->timer);
	job->timer.data = job;
	client_on_close(c, stop_answer, job);
	uv_timer_start(&job->timer, stop_tick, PROGRESS_MS, PROGRESS_MS);
	event_add(m, LOG_NOTICE, "shutdown was ordered with %lld sessions%s",
		  (long long)job->sessions, drain_s ? ", draining" : "");
	m->abort = json_is_true(json_object_get(request, "abort"));
	instance_shutdown(m, (uint32_t)drain_s);
}

/* ---- migration ---- */

static void run_migration(struct manager *m, struct client *c, json_t *request)
{
	json_t *report;

	(void)request;
	if (!m->target) {
		client_error(c, FAILED, "no migration ran since this instance was started");
		return;
	}
	if (!target_over(m)) {
		target_wait(m, c);
		return;
	}
	report = target_report(m);
	if (report)
		client_reply(c, report);
	else
		client_error(c, FAILED, "the migration left no report: see cmanctl show events");
}

static void run_migrate_check(struct manager *m, struct client *c, json_t *request)
{
	const char *via = json_string_value(json_object_get(request, "via"));
	enum cman_carrier_choice choice = m->ic->handover;

	if (via && strcmp(via, "auto"))
		choice = strcmp(via, "repair") ? CMAN_VIA_FD : CMAN_VIA_REPAIR;
	if (via && strcmp(via, "auto") && strcmp(via, "fd") && strcmp(via, "repair"))
		client_error(c, USAGE, "via: expected auto, fd or repair, not \"%s\"", via);
	else if (!m->maps.instance)
		client_error(c, FAILED, "this instance is starting: try again in a moment");
	else
		check_migration(m, c, choice);
}

static void run_migrate_to(struct manager *m, struct client *c, json_t *request)
{
	const char *peer = json_string_value(json_object_get(request, "peer"));
	const char *service = json_string_value(json_object_get(request, "service"));
	json_int_t timeout = json_integer_value(json_object_get(request, "timeout_s"));

	if (!m->maps.instance)
		client_error(c, FAILED, "this instance is starting: try again in a moment");
	else if (timeout < 0 || timeout > 86400)
		client_error(c, USAGE, "timeout_s: expected seconds from 1 to 86400");
	else
		remote_migrate(m, c, peer, service, (uint32_t)timeout);
}

static void run_migrate_cancel(struct manager *m, struct client *c, json_t *request)
{
	bool rollback = json_is_true(json_object_get(request, "rollback"));
	uint32_t moved = 0, left = 0, total = 0;
	const char *phase;

	if (rollback && (source_far(m) || target_far(m))) {
		client_error(c, FAILED,
			     "a move to another host is not rolled back: cancel it without "
			     "--rollback, then move back from there with migrate --to");
		return;
	}
	if (m->target && target_cancel(m, rollback)) {
		target_progress(m, &moved, &total, &phase);
		left = total > moved ? total - moved : 0;
	} else if (m->source && source_cancel(m, rollback)) {
		source_progress(m, &moved, &left, &phase);
	} else {
		client_error(c, FAILED, "no migration is running");
		return;
	}
	event_add(m, LOG_NOTICE, "the migration was cancelled%s",
		  rollback ? ": what has moved goes back" : "");
	client_reply(c,
		     json_pack("{s:I, s:I}", "moved", (json_int_t)moved, "left", (json_int_t)left));
}

/* ---- test builds ---- */

#ifdef CMAN_CRASH_POINTS
static uint32_t crash_roles(const json_t *also)
{
	static const char *const roles[] = { "gateway", "keeper", "spare" };
	uint32_t mask = 0;

	for (size_t i = 0; i < json_array_size(also); i++)
		for (unsigned int r = 0; r < CMAN_ROLES; r++) {
			const char *name = json_string_value(json_array_get(also, i));

			if (name && !strcmp(name, roles[r]))
				mask |= 1u << r;
		}
	return mask;
}

static void run_crash(struct manager *m, struct client *c, json_t *request)
{
	const char *point = json_string_value(json_object_get(request, "point"));
	json_t *count = json_object_get(request, "count");
	struct cman_instance *in = m->maps.instance;
	int n = cman_crash_parse(point);

	if (n < 0 && strcmp(point, "NONE")) {
		client_error(c, USAGE, "unknown crash point \"%s\"", point);
		return;
	}
	if (!in) {
		client_error(c, FAILED, "this instance is starting");
		return;
	}
	__atomic_store_n(&in->crash_point, 0, __ATOMIC_SEQ_CST);
	in->crash_count = count ? (uint32_t)json_integer_value(count) : 1;
	in->crash_also = crash_roles(json_object_get(request, "also"));
	__atomic_store_n(&in->crash_point, n < 0 ? 0 : (uint32_t)n, __ATOMIC_SEQ_CST);
	client_reply(c,
		     json_pack("{s:s, s:I}", "point", point, "hits", (json_int_t)in->crash_hits));
}

static void run_crash_points(struct manager *m, struct client *c, json_t *request)
{
	json_t *names = json_array();

	(void)request;
	for (unsigned int i = 1; i < CMAN_CRASH_COUNT; i++)
		json_array_append_new(names, json_string(cman_crash_name(i)));
	client_reply(c,
		     json_pack("{s:o, s:I}", "points", names, "hits",
			       (json_int_t)(m->maps.instance ? m->maps.instance->crash_hits : 0)));
}
#endif

/* ---- the table ---- */

enum kind { STRING, INTEGER, BOOLEAN, ARRAY };

static const struct command {
	const char *name;
	void (*run)(struct manager *m, struct client *c, json_t *request);
	struct {
		const char *name;
		enum kind kind;
		bool required;
	} member[5];
} commands[] = {
	{ "status", run_status, { { 0 } } },
	{ "show",
	  run_show,
	  { { "what", STRING, true },
	    { "service", STRING, false },
	    { "source", STRING, false },
	    { "state", STRING, false } } },
	{ "set", run_set, { { "parameter", STRING, true }, { "value", STRING, true } } },
	{ "reload", run_reload, { { 0 } } },
	{ "suspend", run_suspend, { { "service", STRING, false } } },
	{ "resume", run_resume, { { "service", STRING, false } } },
	{ "close",
	  run_close,
	  { { "sessions", ARRAY, false },
	    { "service", STRING, false },
	    { "source", STRING, false } } },
	{ "shutdown", run_shutdown, { { "drain_s", INTEGER, false }, { "abort", BOOLEAN, false } } },
	{ "migration", run_migration, { { 0 } } },
	{ "migrate-check", run_migrate_check, { { "via", STRING, false } } },
	{ "migrate-to",
	  run_migrate_to,
	  { { "peer", STRING, true },
	    { "service", STRING, false },
	    { "timeout_s", INTEGER, false } } },
	{ "migrate-cancel", run_migrate_cancel, { { "rollback", BOOLEAN, false } } },
#ifdef CMAN_CRASH_POINTS
	{ "crash",
	  run_crash,
	  { { "point", STRING, true }, { "count", INTEGER, false }, { "also", ARRAY, false } } },
	{ "crash-points", run_crash_points, { { 0 } } },
#endif
};

#define NCOMMANDS (sizeof(commands) / sizeof(*commands))

static bool has_kind(const json_t *value, enum kind kind)
{
	switch (kind) {
	case STRING:
		return json_is_string(value);
	case INTEGER:
		return json_is_integer(value);
	case BOOLEAN:
		return json_is_boolean(value);
	case ARRAY:
		return json_is_array(value);
	}
	return false;
}

static const char *kind_name(enum kind kind)
{
	static const char *const names[] = { "a string", "an integer", "true or false",
					     "an array" };

	return names[kind];
}

static bool check_member(struct client *c, const struct command *cmd, const char *name,
			 const json_t *value)
{
	char expected[120] = "no more members";
	size_t used = 0;

	if (!strcmp(name, "command"))
		return true;
	for (int i = 0; cmd->member[i].name; i++) {
		if (strcmp(name, cmd->member[i].name)) {
			used += (size_t)snprintf(expected + used, sizeof(expected) - used,
						 "%s\"%s\"", used ? ", " : "", cmd->member[i].name);
			continue;
		}
		if (has_kind(value, cmd->member[i].kind))
			return true;
		client_error(c, USAGE, "%s: member \"%s\": expected %s", cmd->name, name,
			     kind_name(cmd->member[i].kind));
		return false;
	}
	client_error(c, USAGE, "%s: unknown member \"%.60s\": expected %s", cmd->name, name,
		     expected);
	return false;
}

static bool check_members(struct client *c, const struct command *cmd, json_t *request)
{
	const char *name;
	json_t *value;

	json_object_foreach(request, name, value)
		if (!check_member(c, cmd, name, value))
			return false;
	for (int i = 0; cmd->member[i].name; i++) {
		if (!cmd->member[i].required || json_object_get(request, cmd->member[i].name))
			continue;
		client_error(c, USAGE, "%s: member \"%s\" is missing: expected %s", cmd->name,
			     cmd->member[i].name, kind_name(cmd->member[i].kind));
		return false;
	}
	return true;
}

int command_run(struct manager *m, struct client *c, const char *command, json_t *request)
{
	char words[300] = "";
	size_t used = 0;

	for (size_t i = 0; i < NCOMMANDS; i++) {
		if (strcmp(command, commands[i].name)) {
			used += (size_t)snprintf(words + used, sizeof(words) - used, "%s%s",
						 used ? ", " : "", commands[i].name);
			continue;
		}
		if (check_members(c, &commands[i], request))
			commands[i].run(m, c, request);
		return 0;
	}
	client_error(c, USAGE, "unknown command \"%.60s\": expected one of: %s", command, words);
	return 0;
}
