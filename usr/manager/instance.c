/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of an instance: a fresh start, the adoption of gateways whose manager died, readiness,
 * shutdown, and the old release's end after a handover.
 */
#include "usr/manager/manager.h"
#include "usr/manager/remote.h"
#include "usr/manager/repair.h"
#include "usr/manager/peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "usr/sys/crash.h"
#include "usr/sys/hold.h"
#include "usr/sys/ktls.h"
#include "usr/sys/log.h"
#include "usr/sys/proc.h"
#include "usr/sys/steer.h"

#define ADOPT_MS 3000

uint32_t instance_sessions(const struct manager *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->ncells; i++)
		n += m->maps.cells[i].sessions;
	return n;
}

uint32_t instance_sessions_of(const struct manager *m, const bool *service)
{
	uint32_t n = 0;

	for (uint32_t g = 0; g < m->ncells; g++)
		for (uint32_t i = 0; i < cell_high(&m->cells[g]); i++) {
			const struct cman_slot *s = &m->cells[g].slots[i];

			n += s->state >= CMAN_SLOT_ACCEPTED &&
			     (!service || (s->service < CMAN_MAX_SERVICES && service[s->service]));
		}
	return n;
}

uint64_t instance_refused(const struct manager *m)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < m->ncells; i++)
		n += m->maps.cells[i].refused;
	for (uint32_t s = 0; s < m->ic->nservices; s++) {
		struct cman_counters c;

		if (!cman_steer_counters(&m->maps, s, &c))
			n += c.no_listener + c.assign_failed;
	}
	return n;
}

bool instance_in_doubt(const struct manager *m)
{
	for (uint32_t g = 0; g < m->ncells; g++)
		for (uint32_t i = 0; i < cell_high(&m->cells[g]); i++)
			if (m->cells[g].slots[i].state == CMAN_SLOT_LEAVING)
				return true;
	return false;
}

void instance_sync(struct manager *m)
{
	for (uint32_t i = 0; i < m->ncells; i++)
		cell_order_simple(&m->cells[i], CMAN_ORDER_SYNC);
}

/* ---- a fresh instance ---- */

static int open_journal(struct manager *m)
{
	char path[256];
	int err = cman_journal_open(rundir_path(m, m->name, "journal", path, sizeof(path)),
				    &m->journal);

	if (err)
		cman_err("cannot open the journal", "path=%s err=\"%s\"", path, strerror(-err));
	return err;
}

/* 24 random bits: ids are kept through handovers, and no two releases may give the same one. */
static uint64_t new_id_base(void)
{
	uint32_t r = 0;

	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r = (uint32_t)(cman_now_ns() / 1000u);
	r &= 0xffffff;
	return (uint64_t)(r >> 8 == 0xffff ? r & 0x7fffff : r) << 40; /* not CMAN_RESERVED_ID */
}

static void fill_instance(struct manager *m)
{
	struct cman_instance *in = m->maps.instance;

	snprintf(in->version, sizeof(in->version), "%s", cman_version);
	snprintf(in->alias, sizeof(in->alias), "%s", m->alias);
	in->max_sessions = m->ic->max_sessions;
	in->log_level = (uint32_t)m->ic->log_level;
	in->started_ns = cman_now_ns();
	in->manager_pid = (uint32_t)getpid();
	in->id_base = new_id_base();
	in->ktls[0] = cman_ktls_probe(CMAN_TLS_1_2);
	in->ktls[1] = cman_ktls_probe(CMAN_TLS_1_3);
	in->ktls_rekey = in->ktls[1] && cman_ktls_can_rekey();
	in->state = CMAN_STARTING;
	in->accepting = 1;
}

static int start_cells(struct manager *m)
{
	m->ncells = m->maps.gateways;
	for (uint32_t i = 0; i < m->ncells; i++) {
		int err = cell_spawn(m, i);

		if (!err)
			err = cell_watch(&m->cells[i]);
		if (err) {
			cman_err("cannot start a gateway", "gateway=%u err=\"%s\"", i,
				 strerror(-err));
			return err;
		}
	}
	return 0;
}

/* A service that wants the kernel to relay gets it, or the instance does not start. */
static int load_splice(struct manager *m)
{
	const struct cman_service_conf *wants = NULL;
	char why[CMAN_SPLICE_WHY] = "";
	int err;

	for (uint32_t i = 0; i < m->ic->nservices && !wants; i++)
		if (m->ic->service[i].splice_sockmap)
			wants = &m->ic->service[i];
	if (!wants)
		return 0;
	err = cman_splice_test(why);
	if (!err)
		err = cman_splice_create(&m->maps, &m->splice, why);
	if (err)
		event_add(m, LOG_ERR,
			  "%s:%u: splice = \"sockmap\" in service '%s': %s: expected user",
			  m->conf->file, wants->line, wants->name, why);
	return err;
}

static int make_maps(struct manager *m)
{
	const char *why = "";
	int err = cman_maps_create(m->name, m->ic->gateways, m->ic->max_sessions, &m->maps, &why);

	if (err == -EEXIST) { /* pins without a run directory: a crash long ago */
		cman_maps_unpin(m->name);
		err = cman_maps_create(m->name, m->ic->gateways, m->ic->max_sessions, &m->maps,
				       &why);
	}
	if (err) {
		cman_err("cannot make the BPF maps", "why=\"%s\" err=\"%s\"", why, strerror(-err));
		return err;
	}
	err = rundir_write_pins(m);
	if (err)
		return err;
	fill_instance(m);
	err = load_splice(m);
	if (err)
		return err;
	cman_log_share_level(&m->maps.instance->log_level);
	cman_crash_init(m->maps.instance, NULL);
	return 0;
}

/* What the end of a failed start leaves: nothing. */
static int undo(struct manager *m, int err)
{
	for (uint32_t i = 0; i < m->ncells; i++) {
		if (m->cells[i].shared)
			__atomic_store_n(&m->cells[i].shared->quit, 1, __ATOMIC_RELEASE);
		if (m->cells[i].kick_fd >= 0)
			(void)!write(m->cells[i].kick_fd, &(uint64_t){ 1 }, 8);
	}
	cman_maps_unpin(m->name);
	rundir_remove(m, m->name);
	return err;
}

static int start_fresh(struct manager *m)
{
	int err = rundir_make(m, m->name);

	if (err) {
		cman_err("cannot make the run directory", "run_dir=%s err=\"%s\"", m->ic->run_dir,
			 strerror(-err));
		return err;
	}
	err = make_maps(m);
	if (!err)
		err = publish_all(m);
	if (!err)
		err = start_cells(m);
	if (!err) {
		err = cman_steer_attach(&m->maps);
		if (err)
			cman_err("cannot attach the steering program", "err=\"%s\"",
				 strerror(-err));
	}
	return err ? undo(m, err) : 0;
}

/* ---- adoption ---- */

/*
 * Asks the journals of the other sides (ALIAS, ALIAS_old, ALIAS_new), under their locks, for a
 * register. UNKNOWN: no other side knows the batch.
 */
static enum cman_register ask_others(struct manager *m, uint64_t id, enum cman_register want)
{
	static const char *const suffixes[] = { "", "_old", "_new" };
	enum cman_register found = CMAN_REG_UNKNOWN;

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
		char name[CMAN_NAME_LEN + 8], path[256];
		enum cman_register value = CMAN_REG_UNKNOWN;
		struct cman_journal other;

		snprintf(name, sizeof(name), "%s%s", m->alias, suffixes[i]);
		if (!strcmp(name, m->name) || !rundir_exists(m, name) ||
		    cman_journal_open(rundir_path(m, name, "journal", path, sizeof(path)), &other))
			continue;
		value = journal_settle(&other, id, want);
		if (value != CMAN_REG_UNKNOWN)
			found = value;
		cman_journal_close(&other);
	}
	return found;
}

/* What is to be done with a slot that a handover left undecided (PROTOCOL H1..H6). */
static enum cman_order undecided(struct manager *m, const struct cman_slot *s)
{
	enum cman_register value, other;
	uint64_t id;

	if (s->state == CMAN_SLOT_RESERVED)
		return CMAN_ORDER_DISCARD;
	value = journal_of_slot(&m->journal, s, &id);
	if (s->state == CMAN_SLOT_LEAVING) {
		if (value == CMAN_REG_PARKED)
			value = journal_settle(&m->journal, id, CMAN_REG_ABORT);
		if (value != CMAN_REG_COMMIT && value != CMAN_REG_TAKE)
			return CMAN_ORDER_THAW;
		other = ask_others(m, id, CMAN_REG_DROP);
		return cman_handover_owner(other) == CMAN_OWNER_TARGET ? CMAN_ORDER_RELEASE :
									 CMAN_ORDER_THAW;
	}
	if (value == CMAN_REG_PREPARED) {
		other = ask_others(m, id, CMAN_REG_TAKE);
		if (other == CMAN_REG_UNKNOWN || other == CMAN_REG_TAKE || other == CMAN_REG_COMMIT)
			value = journal_settle(&m->journal, id, CMAN_REG_LIVE);
	}
	return cman_handover_owner(value) == CMAN_OWNER_TARGET ? CMAN_ORDER_ACTIVATE :
								 CMAN_ORDER_DISCARD;
}

/* A slot whose batch went to another host, which has to say what became of it. */
struct doubt {
	struct cell *c;
	uint32_t slot;
	uint64_t session;
};

static void doubt_over(struct manager *m, uint64_t batch, enum cman_register value, void *arg)
{
	struct doubt *d = arg;

	if (d->c->slots[d->slot].id == d->session &&
	    d->c->slots[d->slot].state == CMAN_SLOT_LEAVING) {
		if (cman_handover_owner(value) == CMAN_OWNER_TARGET) {
			restore_release(m, batch, d->session);
			cell_order_slot(d->c, CMAN_ORDER_RELEASE, d->slot, d->session);
		} else {
			restore_slot(m, d->c, d->slot, batch);
		}
	}
	free(d);
}

static void ask_far(struct manager *m, struct cell *c, uint32_t i, uint64_t batch,
		    const struct destination *to)
{
	struct doubt *d = calloc(1, sizeof(*d));

	if (!d)
		abort();
	*d = (struct doubt){ .c = c, .slot = i, .session = c->slots[i].id };
	remote_resolve(m, to, batch, doubt_over, d);
}

/*
 * By the repair carrier, nothing is a duplicate. A prepared session that did not go live is not finished
 * here: its images are the source's, and are taken in from there.
 */
static void settle_repaired(struct manager *m, struct cell *c, uint32_t i)
{
	const struct cman_slot *s = &c->slots[i];
	struct destination to;
	enum cman_register value;
	enum cman_order op;
	uint64_t id;

	value = journal_of_slot(&m->journal, s, &id);
	if (s->state == CMAN_SLOT_PREPARED) {
		if (value == CMAN_REG_PREPARED)
			value = journal_settle(&m->journal, id, CMAN_REG_DROP);
		if (cman_handover_owner(value) == CMAN_OWNER_TARGET)
			cell_order_slot(c, CMAN_ORDER_ACTIVATE, i, s->id);
		else
			restore_discard(m, c, i);
		return;
	}
	if ((value == CMAN_REG_COMMIT || value == CMAN_REG_TAKE) && remote_moving_to(m, &to)) {
		ask_far(m, c, i, id, &to);
		return;
	}
	op = undecided(m, s);
	if (op == CMAN_ORDER_THAW) {
		restore_slot(m, c, i, id);
		return;
	}
	restore_release(m, id, s->id);
	cell_order_slot(c, op, i, s->id);
}

static void settle_slots(struct manager *m)
{
	images_sweep(m);
	for (uint32_t g = 0; g < m->ncells; g++) {
		struct cell *c = &m->cells[g];

		for (uint32_t i = 0; i < cell_high(c); i++) {
			struct cman_slot *s = &c->slots[i];

			if (s->state != CMAN_SLOT_RESERVED && s->state != CMAN_SLOT_PREPARED &&
			    s->state != CMAN_SLOT_LEAVING)
				continue;
			if (s->state != CMAN_SLOT_RESERVED && s->flags & CMAN_SLOT_REPAIR)
				settle_repaired(m, c, i);
			else
				cell_order_slot(c, undecided(m, s), i, s->id);
		}
	}
}

static int adopt(struct manager *m)
{
	struct cman_conf_error error;
	bool dead[CMAN_MAX_GATEWAYS] = { false };
	uint32_t alive = 0;
	const char *why = "";
	json_t *changes;
	int err = cman_maps_open(m->name, &m->maps, &why);

	if (err) {
		cman_err("cannot open the pinned maps", "instance=%s why=\"%s\"", m->name, why);
		return err;
	}
	cman_log_share_level(&m->maps.instance->log_level);
	cman_crash_init(m->maps.instance, NULL);
	cman_splice_open(&m->maps, &m->splice); /* -ENOENT: it was started without */
	m->ncells = m->maps.gateways;
	for (uint32_t i = 0; i < m->ncells; i++) {
		err = cell_adopt(m, i, ADOPT_MS);
		dead[i] = err == -ESRCH;
		alive += !err;
		if (err && (!dead[i] || (i == m->ncells - 1 && !alive))) {
			cman_err("a gateway's keeper does not answer", "gateway=%u err=\"%s\"", i,
				 strerror(-err));
			while (i-- > 0)
				cell_close(&m->cells[i]);
			cman_maps_fini(&m->maps);
			return err;
		}
	}
	for (uint32_t i = 0; i < m->ncells; i++) {
		err = dead[i] ? 0 : cell_watch(&m->cells[i]);
		if (err)
			return err;
	}
	m->maps.instance->manager_pid = (uint32_t)getpid();
	for (uint32_t i = 0; i < m->ncells; i++)
		if (dead[i]) { /* the listeners came from one that lives */
			m->cells[i].spawned_ns = 0;
			cell_lost(&m->cells[i]);
		}
	guard_adopt(m);
	if (!open_journal(m))
		settle_slots(m);
	m->is_old = !m->maps.instance->accepting && strcmp(m->name, m->alias);
	if (m->is_old)
		return 0;
	if (m->maps.instance->state != CMAN_SUSPENDED)
		m->maps.instance->state = CMAN_RUNNING;
	/* whoever died may have handed the steering to another one already */
	err = cman_steer_take(&m->maps, m->name);
	if (err == -ENOENT)
		err = cman_steer_attach(&m->maps);
	if (err)
		cman_err("cannot take the steering back", "err=\"%s\"", strerror(-err));
	m->maps.instance->accepting = 1;
	for (uint32_t l = 0; l < CMAN_MAX_LISTENERS; l++)
		if (m->maps.instance->listener[l].used && m->listener_fd[l] >= 0)
			cman_steer_set_listener(&m->maps, l, m->listener_fd[l]);
	cman_steer_hold(&m->maps, m->hold_fd);
	changes = json_array();
	err = publish_reload(m, m->conf, m->ic, changes, &error);
	if (err)
		event_add(m, LOG_WARNING, "the configuration was not read again: %s", error.text);
	json_decref(changes);
	instance_sync(m);
	event_add(m, LOG_NOTICE,
		  "adopted %u sessions in %u gateways of the instance whose manager "
		  "had died",
		  instance_sessions(m), m->ncells);
	return 0;
}

/*
 * The folder NAME exists. 0: it was adopted; 1: nothing lives there, it was buried; -EWOULDBLOCK:
 * its manager lives; other: an error.
 */
static int try_adopt(struct manager *m)
{
	int err = rundir_lock(m, m->name, &m->lock_fd);

	if (err)
		return err;
	rundir_follow(m);
	err = adopt(m);
	if (!err)
		return 0;
	if (err == -EPROTONOSUPPORT)
		return err; /* another release's ledger: only it, or a migration, can help */
	if (err == -ETIMEDOUT)
		return err;
	close(m->lock_fd);
	m->lock_fd = -1;
	rescue_bury(m, m->name);
	return 1;
}

/*
 * Nothing of the name lives, but both managers of a handover died between its renames: what is called
 * ALIAS_old or ALIAS_new then, and has no manager, is the instance.
 */
static bool promote(struct manager *m)
{
	static const char *const suffixes[] = { "_old", "_new" };

	if (strcmp(m->name, m->alias))
		return false;
	for (size_t i = 0; i < 2; i++) {
		char name[CMAN_NAME_LEN + 8];
		int lock;

		snprintf(name, sizeof(name), "%s%s", m->alias, suffixes[i]);
		if (!rundir_exists(m, name) || rundir_lock(m, name, &lock))
			continue;
		close(lock);
		if (!rundir_rename(m, name, m->alias, false))
			return true;
	}
	return false;
}

int instance_start(struct manager *m)
{
	int err = 1;

	m->lock_fd = -1;
	if (rundir_exists(m, m->name)) {
		err = try_adopt(m);
		if (err == -EWOULDBLOCK) {
			event_add(m, LOG_ERR, "instance %s is running already (pid %d)", m->name,
				  (int)rundir_read_pid(m, m->name));
			return err;
		}
		if (err < 0)
			return err;
	}
	while (err == 1 && promote(m)) {
		err = try_adopt(m);
		if (err < 0)
			return err;
	}
	if (err == 1) {
		err = start_fresh(m);
		if (!err)
			err = open_journal(m);
		if (err)
			return err;
	}
	err = rundir_write_pid(m);
	if (!err)
		err = control_listen(m);
	if (err) {
		cman_err("cannot open the control socket", "err=\"%s\"", strerror(-err));
		return err;
	}
	if (!strcmp(m->name, m->alias))
		rescue_leftovers(m);
	floating_start(m);
	remote_listen(m); /* what is wrong is in the log; the instance serves all the same */
	return 0;
}

int instance_start_beside(struct manager *m)
{
	int err = make_maps(m);

	/* until the name is ours, new connections are the other's, or wait in the queue */
	if (!err) {
		m->maps.instance->accepting = 0;
		err = publish_all(m);
	}
	if (!err)
		err = start_cells(m);
	if (!err)
		err = open_journal(m);
	if (!err)
		err = rundir_write_pid(m);
	if (!err)
		err = control_listen(m);
	return err ? undo(m, err) : 0;
}

static void accept_now(struct manager *m)
{
	m->maps.instance->accepting = 1;
	instance_sync(m);
}

int instance_claim_steering(struct manager *m)
{
	int err = cman_steer_take(&m->maps, m->alias);

	if (err == -ENOENT)
		err = cman_steer_attach(&m->maps);
	if (err == -EEXIST) /* pinned already: ours to update */
		err = cman_steer_take(&m->maps, m->name);
	CMAN_CRASH(TARGET_STEERED);
	return err;
}

int instance_claim_name(struct manager *m)
{
	char old[CMAN_NAME_LEN + 4], between[CMAN_NAME_LEN + 4];
	int err = 0;

	rundir_refresh(m);
	m->is_old = false;
	if (!strcmp(m->name, m->alias)) {
		accept_now(m);
		return 0;
	}
	snprintf(between, sizeof(between), "%s", m->name);
	snprintf(old, sizeof(old), "%s_old", m->alias);
	if (!rundir_exists(m, m->alias)) {
		err = rundir_rename(m, between, m->alias, false);
	} else {
		err = rundir_rename(m, between, m->alias, true);
		CMAN_CRASH(TARGET_RENAMED_PINS);
		if (!err && strcmp(between, old))
			err = rundir_rename(m, between, old, false);
	}
	CMAN_CRASH(TARGET_RENAMED_RUN);
	rundir_refresh(m);
	accept_now(m);
	return err;
}

/* ---- readiness: every gateway has answered an order ---- */

struct readiness {
	struct manager *m;
	uint32_t missing;
};

static void now_ready(struct manager *m)
{
	char text[128];

	if (m->maps.instance->state == CMAN_STARTING)
		m->maps.instance->state = CMAN_RUNNING;
	snprintf(text, sizeof(text), "READY=1\nMAINPID=%d\nSTATUS=%u listeners, %u gateways",
		 (int)getpid(), m->ic->nlisteners, m->ncells);
	cman_notify(text);
	if (m->ready_fd >= 0) {
		(void)!write(m->ready_fd, "0", 1);
		close(m->ready_fd);
		m->ready_fd = -1;
	}
	if (m->start_stderr >= 0) /* who started us may wait for its end of file */
		close(m->start_stderr);
	m->start_stderr = -1;
	event_add(m, LOG_NOTICE, "instance %s of release %s is ready: %u listeners, %u gateways",
		  m->name, cman_version, m->ic->nlisteners, m->ncells);
}

static void one_ready(struct order *o, void *arg)
{
	struct readiness *r = arg;

	free(o);
	if (--r->missing)
		return;
	now_ready(r->m);
	free(r);
}

void instance_ready(struct manager *m)
{
	struct readiness *r = calloc(1, sizeof(*r));

	if (!r)
		return;
	r->m = m;
	r->missing = m->ncells;
	for (uint32_t i = 0; i < m->ncells; i++) {
		struct order *o = calloc(1, sizeof(*o));

		if (!o)
			abort();
		o->op = CMAN_ORDER_SYNC;
		o->done = one_ready;
		o->arg = r;
		cell_order(&m->cells[i], o);
	}
}

/* ---- the end ---- */

static void finish(struct manager *m)
{
	/* pins and folder carry the name that we have now, whatever a handover made of it */
	rundir_refresh(m);
	control_close(m);
	remote_close(m);
	remote_forget_strays(m);
	guard_close(m);
	repair_tools_close(m);
	floating_stop(m);
	if (!m->is_old)
		publish_withdraw(m);
	cman_maps_unpin(m->name);
	rundir_remove(m, m->name);
	if (!m->is_old) /* the new release goes on under the same unit */
		cman_notify("STOPPING=1");
	event_add(m, LOG_NOTICE, "instance %s of release %s has ended", m->name, cman_version);
	uv_stop(&m->loop);
}

struct ending {
	struct manager *m;
	uint32_t missing;
};

static void cell_ended(struct order *o, void *arg)
{
	struct ending *e = arg;

	free(o);
	if (--e->missing)
		return;
	finish(e->m);
	free(e);
}

static void end_cells(struct manager *m)
{
	struct ending *e = calloc(1, sizeof(*e));

	if (!e)
		abort();
	m->stopping = true;
	e->m = m;
	e->missing = m->ncells;
	for (uint32_t i = 0; i < m->ncells; i++) {
		struct order *o = calloc(1, sizeof(*o));

		if (!o)
			abort();
		o->op = CMAN_ORDER_QUIT;
		o->n = m->abort;
		o->done = cell_ended;
		o->arg = e;
		cell_order(&m->cells[i], o);
	}
}

static void on_drain(uv_timer_t *t)
{
	struct manager *m = t->data;

	if (instance_sessions(m) && cman_now_ns() < m->drain_until_ns)
		return;
	timer_end(&m->drain_timer);
	end_cells(m);
}

void instance_shutdown(struct manager *m, uint32_t drain_s)
{
	if (m->stopping)
		return;
	if (!m->ncells) { /* nothing runs yet */
		if (m->lock_fd >= 0)
			rundir_remove(m, m->name);
		m->exit_code = 1;
		uv_stop(&m->loop);
		return;
	}
	if (m->drain_timer) { /* draining already: no more patience */
		if (drain_s)
			return;
		timer_end(&m->drain_timer);
		end_cells(m);
		return;
	}
	m->maps.instance->accepting = 0;
	m->maps.instance->state = CMAN_DRAINING;
	m->drain_until_ns = cman_now_ns() + (uint64_t)drain_s * 1000000000u;
	/* new connections are refused from now on; who waits in a queue is still accepted */
	for (uint32_t l = 0; l < CMAN_MAX_LISTENERS; l++) {
		if (m->listener_fd[l] < 0)
			continue;
		cman_steer_set_listener(&m->maps, l, -1);
		if (!m->is_old)
			m->maps.instance->listener[l].used = 0;
		close(m->listener_fd[l]);
		m->listener_fd[l] = -1;
	}
	instance_sync(m);
	if (!drain_s) {
		end_cells(m);
		return;
	}
	event_add(m, LOG_NOTICE, "draining: %u sessions, at most %u s", instance_sessions(m),
		  drain_s);
	m->drain_timer = timer_begin(m, on_drain, 0, 50, m);
}

void instance_leave(struct manager *m)
{
	if (m->stopping)
		return;
	timer_end(&m->drain_timer);
	end_cells(m);
}
