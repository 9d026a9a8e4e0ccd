/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * This instance's guard (usr/sys/guard.h): opened when sessions are first taken apart, pumped
 * by the loop, and closed again when nothing is frozen and no handover runs. As long as this
 * manager lives it renews the leases of what it has parked itself; what it found parked by a dead
 * predecessor, and does not need, runs out.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usr/manager/remote.h"
#include "usr/manager/repair.h"
#include "usr/sys/log.h"

#define TICK_MS 1000

struct moving { /* an address with a mode */
	uint8_t addr[16];
	enum cman_moving_mode mode;
	bool has_hop;
	struct cman_guard_hop hop;
};

struct guard {
	struct manager *m;
	struct cman_guard g;
	uv_poll_t *poll;
	uv_timer_t *tick;
	struct cman_tuple *own; /* parked here */
	size_t nown, size;
	struct cman_tuple *forwarded;
	size_t nforwarded, forwarded_size;
	struct moving moving[CMAN_MAX_LISTENERS];
	uint32_t nmoving;
	bool far; /* adopted in the middle of a move to another host */
};

static void pins_of(const char *name, char *buf, size_t size)
{
	snprintf(buf, size, CMAN_PIN_ROOT "/%s", name);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
	struct guard *gd = p->data;

	(void)status;
	(void)events;
	cman_guard_pump(&gd->g);
}

static void count_one(void *arg, const struct cman_tuple *tuple, const struct cman_frozen *entry)
{
	(void)tuple;
	(void)entry;
	++*(size_t *)arg;
}

static int set_address(struct guard *gd, const struct moving *a)
{
	return cman_guard_address(&gd->g, a->addr, a->mode, a->has_hop ? &a->hop : NULL,
				  GUARD_LEASE_MS);
}

static void renew(struct guard *gd)
{
	if (gd->nown)
		cman_guard_renew(&gd->g, gd->own, gd->nown, GUARD_LEASE_MS);
	if (gd->nforwarded)
		cman_guard_renew(&gd->g, gd->forwarded, gd->nforwarded, GUARD_LEASE_MS);
	for (uint32_t k = 0; k < gd->nmoving; k++)
		set_address(gd, &gd->moving[k]);
}

static void on_tick(uv_timer_t *t)
{
	struct guard *gd = t->data;
	size_t entries = 0;

	cman_guard_pump(&gd->g);
	renew(gd);
	cman_guard_sweep(&gd->g);
	images_sweep(gd->m);
	cman_guard_each(&gd->g, count_one, &entries);
	if (!entries && !gd->nown && !gd->nmoving && !source_active(gd->m) &&
	    !instance_in_doubt(gd->m))
		guard_close(gd->m);
}

struct cman_guard *guard_get(struct manager *m, const char **why)
{
	struct guard *gd = m->guard;
	char pins[160];
	int n;

	if (gd)
		return &gd->g;
	*why = "out of memory";
	gd = calloc(1, sizeof(*gd));
	if (!gd)
		return NULL;
	gd->m = m;
	rundir_refresh(m);
	pins_of(m->name, pins, sizeof(pins));
	if (cman_guard_init(&gd->g, pins, why)) {
		free(gd);
		return NULL;
	}
	n = cman_guard_attach(&gd->g, why);
	if (n <= 0) {
		if (!n)
			*why = "there is no interface whose packets could be parked";
		cman_guard_fini(&gd->g);
		free(gd);
		return NULL;
	}
	gd->poll = poll_begin(m, cman_guard_fd(&gd->g), UV_READABLE, on_readable, gd);
	gd->tick = timer_begin(m, on_tick, TICK_MS, TICK_MS, gd);
	if (!gd->poll || !gd->tick)
		abort();
	m->guard = gd;
	repair_prepare(m);
	if (gd->g.skipped[0])
		cman_notice("packets of some interfaces cannot be parked", "interfaces=\"%s\"",
			    gd->g.skipped);
	return &gd->g;
}

void guard_close(struct manager *m)
{
	struct guard *gd = m->guard;

	if (!gd)
		return;
	m->guard = NULL;
	repair_tools_close(m);
	poll_end(&gd->poll);
	timer_end(&gd->tick);
	cman_guard_fini(&gd->g);
	free(gd->own);
	free(gd->forwarded);
	free(gd);
}

void guard_bury(const char *name)
{
	char pins[160];
	int err;

	pins_of(name, pins, sizeof(pins));
	err = cman_guard_bury(pins);
	if (err && err != -ENOENT)
		cman_warn("what a guard has left could not be removed", "instance=%s err=\"%s\"",
			  name, strerror(-err));
}

void guard_renamed(struct manager *m)
{
	char pins[160];

	if (!m->guard)
		return;
	pins_of(m->name, pins, sizeof(pins));
	cman_guard_renamed(&m->guard->g, pins);
}

static int keep(struct cman_tuple **list, size_t *used, size_t *size,
		const struct cman_tuple *tuples, uint32_t n)
{
	if (*used + n > *size) {
		size_t want = 2 * (*used + n);
		struct cman_tuple *more = realloc(*list, want * sizeof(*more));

		if (!more)
			return -ENOMEM;
		*list = more;
		*size = want;
	}
	memcpy(*list + *used, tuples, n * sizeof(*tuples));
	*used += n;
	return 0;
}

int guard_park(struct manager *m, const struct cman_tuple *tuples, uint32_t n, uint64_t batch,
	       const char **why)
{
	struct guard *gd;
	int err;

	if (!guard_get(m, why))
		return -ENODEV;
	gd = m->guard;
	*why = "its packets cannot be parked";
	err = cman_guard_park(&gd->g, tuples, n, batch, GUARD_LEASE_MS);
	return err ? err : keep(&gd->own, &gd->nown, &gd->size, tuples, n);
}

static void disown(struct guard *gd, const struct cman_tuple *tuple)
{
	for (size_t i = 0; i < gd->nown; i++)
		if (!memcmp(&gd->own[i], tuple, sizeof(*tuple)))
			gd->own[i--] = gd->own[--gd->nown];
}

void guard_open(struct manager *m, const char *name, const struct cman_tuple *tuples, uint32_t n)
{
	const char *why;
	char pins[160];

	if (name) {
		pins_of(name, pins, sizeof(pins));
		cman_guard_open_foreign(pins, tuples, n);
		return;
	}
	if (!guard_get(m, &why)) {
		cman_warn("the guard cannot be opened: its lease ends", "why=\"%s\"", why);
		return;
	}
	for (uint32_t k = 0; k < n; k++)
		disown(m->guard, &tuples[k]);
	cman_guard_thaw(&m->guard->g, tuples, n);
}

void guard_forward(struct manager *m, const struct cman_tuple *tuple,
		   const struct cman_guard_hop *hop)
{
	struct guard *gd = m->guard;

	if (!gd)
		return;
	disown(gd, tuple);
	cman_guard_forward(&gd->g, tuple, 1, hop, GUARD_LEASE_MS);
	if (keep(&gd->forwarded, &gd->nforwarded, &gd->forwarded_size, tuple, 1))
		cman_warn("packets of a session that moved are forwarded for a while only", "%s",
			  "");
}

void guard_forget_forwarded(struct manager *m)
{
	struct guard *gd = m->guard;

	if (!gd)
		return;
	cman_guard_drop(&gd->g, gd->forwarded, gd->nforwarded);
	gd->nforwarded = 0;
}

static struct moving *moving_of(struct guard *gd, const uint8_t addr[16])
{
	for (uint32_t k = 0; k < gd->nmoving; k++)
		if (!memcmp(gd->moving[k].addr, addr, 16))
			return &gd->moving[k];
	return NULL;
}

int guard_address(struct manager *m, const uint8_t addr[16], enum cman_moving_mode mode,
		  const struct cman_guard_hop *hop)
{
	struct moving *a;
	const char *why = "";

	if (!guard_get(m, &why)) {
		cman_err("there is no guard", "why=\"%s\"", why);
		return -ENODEV;
	}
	a = moving_of(m->guard, addr);
	if (!a) {
		if (m->guard->nmoving == CMAN_MAX_LISTENERS)
			return -ENOSPC;
		a = &m->guard->moving[m->guard->nmoving++];
		memcpy(a->addr, addr, 16);
	}
	a->mode = mode;
	a->has_hop = hop != NULL;
	if (hop)
		a->hop = *hop;
	return set_address(m->guard, a);
}

void guard_address_clear(struct manager *m, const uint8_t addr[16])
{
	struct moving *a = m->guard ? moving_of(m->guard, addr) : NULL;

	if (!a)
		return;
	cman_guard_address_clear(&m->guard->g, addr);
	*a = m->guard->moving[--m->guard->nmoving];
}

static void adopt_one(void *arg, const struct cman_tuple *tuple, const struct cman_frozen *entry)
{
	struct guard *gd = arg;

	if (entry->action == CMAN_GUARD_FORWARD)
		keep(&gd->forwarded, &gd->nforwarded, &gd->forwarded_size, tuple, 1);
	else if (entry->action == CMAN_GUARD_PARK && gd->far)
		keep(&gd->own, &gd->nown, &gd->size, tuple, 1);
}

void guard_adopt(struct manager *m)
{
	struct destination to;
	const char *why = "";
	char path[192];

	snprintf(path, sizeof(path), CMAN_PIN_ROOT "/%s/frozen", m->name);
	if (access(path, F_OK) < 0)
		return;
	if (!guard_get(m, &why)) {
		cman_warn("the guard of the manager that died cannot be taken over", "why=\"%s\"",
			  why);
		return;
	}
	/* the other host may take its time to say what became of what is parked */
	m->guard->far = remote_moving_to(m, &to);
	cman_guard_each(&m->guard->g, adopt_one, m->guard);
	for (uint32_t i = 0; i < m->ic->nfloating; i++) {
		const uint8_t *addr = m->ic->floating[i].address.addr;
		struct cman_moving was;

		if (cman_guard_address_get(&m->guard->g, addr, &was))
			continue;
		if (was.mode == CMAN_MOVING_ARRIVING)
			guard_address(m, addr, CMAN_MOVING_ARRIVING, NULL);
		else
			guard_address(m, addr,
				      was.mode == CMAN_MOVING_GONE ? CMAN_MOVING_GONE :
								     CMAN_MOVING_STAYED,
				      &was.hop);
	}
	renew(m->guard);
}

void guard_send_on(struct manager *m, const struct cman_tuple *tuple)
{
	const struct moving *a = m->guard ? moving_of(m->guard, tuple->local_addr) : NULL;

	if (a && a->has_hop)
		guard_forward(m, tuple, &a->hop);
	else
		guard_open(m, NULL, tuple, 1);
}
