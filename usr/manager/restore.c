/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From an image back to a session that relays, where it was: see repair.h. The order is such that a
 * crash of the manager never closes a live socket: sockets are in repair until the keeper has them
 * and the slot names them.
 *
 *	evict the other side's -> import, in repair -> keeper takes -> slot -> leave repair
 *	-> guard opens -> gateway relays on
 */
#include "usr/manager/repair.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "usr/sys/crash.h"
#include "usr/sys/log.h"
#include "usr/sys/secret.h"
#include "usr/sys/proc.h"
#include "usr/sys/sock.h"

#define RETRY_MS    5
#define RETRIES	    2000 /* the other side has not closed its sockets yet */
#define EVICT_EVERY 20

struct cman_tuple repair_tuple(const struct cman_repair_image *leg)
{
	struct cman_tuple t = { .local_port = leg->local_port, .peer_port = leg->peer_port };

	memcpy(t.local_addr, leg->local_addr, 16);
	memcpy(t.peer_addr, leg->peer_addr, 16);
	return t;
}

void repair_silence(int fd)
{
	int on = 1;

	/* one that never was connected cannot enter repair, and has nothing to say */
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0 ||
	    cman_repair_close(fd, NULL) == -EPERM)
		close(fd);
}

/* ---- eviction ---- */

static int copy_fd(const struct cman_cell *cell, int number)
{
	for (int role = 0; role < CMAN_ROLES; role++) {
		pid_t pid = (pid_t)(__atomic_load_n(&cell->role[role], __ATOMIC_ACQUIRE) &
				    CMAN_ROLE_PID);
		int pidfd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1, fd;

		if (pidfd < 0)
			continue;
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
		close(pidfd);
		if (fd >= 0)
			return fd;
	}
	return -1;
}

static void evict_leg(const struct cman_cell *cell, int number, uint64_t cookie)
{
	int fd = number > 0 ? copy_fd(cell, number) : -1;

	if (fd < 0)
		return;
	if (cman_sock_cookie(fd) == cookie)
		repair_silence(fd);
	else
		close(fd);
}

struct evicted {
	const uint64_t *session;
	uint32_t n;
};

static void evict_from(const struct cman_maps *maps, void *arg)
{
	const struct evicted *e = arg;

	for (uint32_t i = 0; i < maps->gateways * maps->slots_per_cell; i++) {
		const struct cman_slot *s = &maps->sessions[i];
		const struct cman_cell *cell = &maps->cells[i / maps->slots_per_cell];

		if (i % maps->slots_per_cell >= cell->high) { /* the rest was never used */
			i += maps->slots_per_cell - 1 - i % maps->slots_per_cell;
			continue;
		}
		if (s->state != CMAN_SLOT_PREPARED || !(s->flags & CMAN_SLOT_REPAIR))
			continue;
		for (uint32_t k = 0; k < e->n; k++) {
			if (e->session[k] != s->id)
				continue;
			evict_leg(cell, s->client_fd, s->client_cookie);
			evict_leg(cell, s->server_fd, s->server_cookie);
		}
	}
}

static bool has_address(int fd, const struct cman_repair_image *leg)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	uint8_t addr[16];
	uint16_t port;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) ||
	    cman_sockaddr_get(&ss, addr, &port) < 0 || port != leg->local_port ||
	    memcmp(addr, leg->local_addr, 16))
		return false;
	len = sizeof(ss);
	return !getpeername(fd, (struct sockaddr *)&ss, &len) &&
	       cman_sockaddr_get(&ss, addr, &port) >= 0 && port == leg->peer_port &&
	       !memcmp(addr, leg->peer_addr, 16);
}

/* One table serves all of a cell: the descriptors of its first process that lives. */
static void evict_by_address(const struct cman_cell *cell, const struct cman_repair_image *leg)
{
	struct dirent *e;
	char path[64];
	DIR *d = NULL;

	for (int role = 0; role < CMAN_ROLES && !d; role++) {
		snprintf(path, sizeof(path), "/proc/%u/fd",
			 (unsigned int)(cell->role[role] & CMAN_ROLE_PID));
		d = opendir(path);
	}
	while (d && (e = readdir(d))) {
		int number = atoi(e->d_name), fd = number > 0 ? copy_fd(cell, number) : -1;

		if (fd >= 0 && has_address(fd, leg))
			repair_silence(fd);
		else if (fd >= 0)
			close(fd);
	}
	if (d)
		closedir(d);
}

/* The pinned maps of the other instances of this alias, one after the other. */
static void each_other(struct manager *m, void (*fn)(const struct cman_maps *maps, void *arg),
		       void *arg)
{
	static const char *const suffixes[] = { "", "_new", "_old" };

	rundir_follow(m);
	rundir_refresh(m);
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
		char name[CMAN_NAME_LEN + 8];
		struct cman_maps maps;
		const char *why;

		snprintf(name, sizeof(name), "%s%s", m->alias, suffixes[i]);
		if (!strcmp(name, m->name) || cman_maps_open(name, &maps, &why))
			continue;
		fn(&maps, arg);
		cman_maps_fini(&maps);
	}
}

static void evict_unnamed_from(const struct cman_maps *maps, void *arg)
{
	for (uint32_t g = 0; g < maps->gateways; g++)
		evict_by_address(&maps->cells[g], arg);
}

/*
 * A manager that died between giving sockets to its keeper and filling their slots has left some that
 * no slot names.
 */
static void evict_unnamed(struct manager *m, struct cman_repair_image *leg)
{
	evict_unnamed_from(&m->maps, leg);
	each_other(m, evict_unnamed_from, leg);
}

/* Imports leg @l unless it is there. Its address may be taken still by what cannot go live any more. */
static int import_leg(struct manager *m, struct restored *one, int l, bool evict, const char **why)
{
	int err;

	if (one->fd[l] >= 0)
		return 0;
	err = cman_repair_import(&one->leg[l], NULL, &one->fd[l], why);
	if (err != -EADDRNOTAVAIL || !evict)
		return err;
	evict_unnamed(m, &one->leg[l]);
	return cman_repair_import(&one->leg[l], NULL, &one->fd[l], why);
}

void repair_evict(struct manager *m, const uint64_t *session, uint32_t n)
{
	struct evicted e = { session, n };

	each_other(m, evict_from, &e);
}

/* ---- restore ---- */

static void import(struct restore *r);

static void on_order(struct order *o, void *arg)
{
	struct restore *r = arg;

	(void)o;
	r->done(r, r->arg);
}

int repair_wake(int fd, struct cman_repair_image *leg, uint64_t session, const char *name)
{
	const char *why = "";
	int err = cman_repair_release(fd, leg, NULL, &why);

	if (err)
		cman_err("a socket made from an image did not go live as it was",
			 "session=%016llx leg=%s step=\"%s\" err=\"%s\"",
			 (unsigned long long)session, name, why, strerror(-err));
	return err;
}

static void wake(struct manager *m, const char *name, struct cell *c, struct restored *one)
{
	struct cman_tuple tuples[2];

	for (int l = 0; l < 2; l++) {
		if (!repair_wake(one->fd[l], &one->leg[l], one->session, l ? "server" : "client"))
			ktls_wake(c, one->slot, l, one->fd[l]);
		tuples[l] = repair_tuple(&one->leg[l]);
		CMAN_CRASH(RESTORE_LIVE);
	}
	guard_open(m, name, tuples, 2);
	CMAN_CRASH(RESTORE_OPEN);
}

static void go_live(struct restore *r)
{
	for (uint32_t k = 0; k < r->n; k++) {
		wake(r->m, NULL, r->c, &r->one[k]);
		close(r->one[k].fd[0]);
		close(r->one[k].fd[1]);
	}
	/*
	 * What the slots named before are dead sockets. The gateway closes what no slot names; nobody
	 * else may, by a number that is given out anew as soon as it is free.
	 */
	cman_cell_want_sweep(r->c->shared);
	memset(&r->order, 0, sizeof(r->order));
	r->order.op = CMAN_ORDER_THAW;
	r->order.n = r->n;
	for (uint32_t k = 0; k < r->n; k++) {
		r->order.slot[k] = r->one[k].slot;
		r->order.id[k] = r->one[k].session;
	}
	r->order.done = on_order;
	r->order.arg = r;
	cell_order(r->c, &r->order);
}

void restored_fill(const struct restored *one, struct cman_slot *s, int client_fd, int server_fd)
{
	s->client_cookie = cman_sock_cookie(client_fd);
	s->server_cookie = cman_sock_cookie(server_fd);
	for (int dir = 0; dir < 2; dir++) {
		s->flow[dir].read_base = one->read_base[dir];
		s->flow[dir].write_base = one->write_base[dir];
	}
	s->flags |= CMAN_SLOT_CLIENT_RESTORED | CMAN_SLOT_SERVER_RESTORED | CMAN_SLOT_REPAIR;
}

/* The slots are the manager's while LEAVING; a successor fills them again from the image. */
static void fill(struct restore *r)
{
	for (uint32_t k = 0; k < r->n; k++) {
		const struct restored *one = &r->one[k];
		struct cman_slot *s = &r->c->slots[one->slot];
		const uint32_t *number = &r->request.number[2 * k];

		s->client_fd = (int)number[0];
		s->server_fd = (int)number[1];
		restored_fill(one, s, one->fd[0], one->fd[1]);
		CMAN_CRASH(RESTORE_FILLED);
	}
}

static void on_taken(struct keeper_request *q, void *arg)
{
	struct restore *r = arg;

	CMAN_CRASH(RESTORE_TAKEN);
	if (q->err) { /* the cell is gone: so are the sessions, and it has said so */
		for (uint32_t k = 0; k < r->n; k++)
			for (int l = 0; l < 2; l++)
				repair_silence(r->one[k].fd[l]);
		cman_cell_import_end(r->c->shared);
		r->done(r, r->arg);
		return;
	}
	fill(r);
	cman_cell_import_end(r->c->shared);
	go_live(r);
}

static void pass(struct restore *r)
{
	memset(&r->request, 0, sizeof(r->request));
	r->request.type = CMAN_FRAME_TAKE;
	for (uint32_t k = 0; k < r->n; k++)
		for (int l = 0; l < 2; l++)
			r->request.fd[r->request.n++] = r->one[k].fd[l];
	r->request.done = on_taken;
	r->request.arg = r;
	cman_cell_import_begin(r->c->shared);
	cell_request(r->c, &r->request);
}

static void on_retry(uv_timer_t *t)
{
	struct restore *r = t->data;

	timer_end(&r->retry);
	import(r);
}

/* Nothing can be done for it: its gateway finds sockets that are closed, and ends it. */
static void give_up(struct restore *r, uint32_t k, const char *why, int err)
{
	struct restored *one = &r->one[k];

	cman_err("a session could not be restored from its image",
		 "session=%016llx why=\"%s\" err=\"%s\"", (unsigned long long)one->session, why,
		 strerror(-err));
	for (int l = 0; l < 2; l++) {
		struct cman_tuple t = repair_tuple(&one->leg[l]);

		if (one->fd[l] >= 0)
			repair_silence(one->fd[l]);
		guard_open(r->m, NULL, &t, 1);
	}
	cell_order_slot(r->c, CMAN_ORDER_THAW, one->slot, one->session);
	*one = r->one[--r->n];
}

static void import(struct restore *r)
{
	for (uint32_t k = 0; k < r->n;) {
		struct restored *one = &r->one[k];
		const char *why = "";
		int err = 0;

		for (int l = 0; l < 2 && !err; l++)
			err = import_leg(r->m, one, l, r->tries % EVICT_EVERY == 0, &why);
		CMAN_CRASH(RESTORE_IMPORTED);
		if (err == -EADDRNOTAVAIL && r->tries++ < RETRIES) {
			r->retry = timer_begin(r->m, on_retry, RETRY_MS, 0, r);
			return;
		}
		if (err)
			give_up(r, k, why, err);
		else
			k++;
	}
	if (r->n)
		pass(r);
	else
		r->done(r, r->arg);
}

void restore_begin(struct restore *r)
{
	uint64_t session[CMAN_BATCH];

	for (uint32_t k = 0; k < r->n; k++)
		session[k] = r->one[k].session;
	repair_evict(r->m, session, r->n);
	CMAN_CRASH(RESTORE_EVICTED);
	import(r);
}

/* ---- adoption ---- */

struct adopted {
	struct restore restore;
	uint8_t *data;
	size_t len;
	struct keeper_request give;
};

static void adopted_free(struct adopted *a)
{
	for (uint32_t k = 0; k < a->restore.n; k++)
		for (int l = 0; l < 2; l++)
			cman_image_drop(&a->restore.one[k].leg[l]);
	if (a->data)
		cman_secret_wipe(a->data, a->len);
	free(a->data);
	free(a);
}

static void adopted_done(struct restore *r, void *arg)
{
	(void)r;
	adopted_free(arg);
}

/* Finds @one->session in a stream, which its legs then point into. */
static bool find_image(const uint8_t *data, size_t len, struct restored *one)
{
	struct cman_image_cursor cursor;
	struct cman_image_header header;
	struct cman_wire_session ws;
	const char *why;

	if (cman_image_open(data, len, NULL, &header, &cursor, &why)) {
		cman_err("an image file is damaged", "session=%016llx why=\"%s\"",
			 (unsigned long long)one->session, why);
		return false;
	}
	while (!cman_image_next(&cursor, &ws, one->leg)) {
		if (ws.id == one->session) {
			memcpy(one->read_base, ws.read_base, sizeof(one->read_base));
			memcpy(one->write_base, ws.write_base, sizeof(one->write_base));
			return true;
		}
	}
	return false;
}

/* A socket that was frozen and not closed: out of repair, if it is in. */
static void unfreeze(struct manager *m, const char *name, int fd)
{
	struct cman_repair_image leg = { 0 };
	int off = 0, on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
	/* leaving repair has set it to 0 */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (!cman_repair_describe(fd, &leg, NULL)) {
		struct cman_tuple t = repair_tuple(&leg);

		guard_open(m, name, &t, 1);
	}
	cman_repair_free(&leg);
}

/*
 * Without an image nothing was closed yet: the sockets are there, perhaps in repair. With one it is
 * complete, and the guard has been closed since it was made: whatever sockets there are, old ones or
 * some that were imported already, are replaced.
 */
static void on_given(struct keeper_request *q, void *arg)
{
	struct adopted *a = arg;
	struct restored *one = &a->restore.one[0];

	if (!q->err && a->data && find_image(a->data, a->len, one)) {
		for (int l = 0; l < 2; l++) {
			repair_silence(q->fd[l]);
			one->fd[l] = -1;
		}
		restore_begin(&a->restore);
		return;
	}
	for (int l = 0; l < 2 && !q->err; l++) {
		unfreeze(a->restore.m, NULL, q->fd[l]);
		close(q->fd[l]);
	}
	cell_order_slot(a->restore.c, CMAN_ORDER_THAW, one->slot, one->session);
	a->restore.n = 0;
	adopted_free(a);
}

static struct adopted *adopted_new(struct manager *m, struct cell *c, uint32_t slot)
{
	struct adopted *a = calloc(1, sizeof(*a));
	const struct cman_slot *s = &c->slots[slot];

	if (!a)
		abort();
	a->restore.m = m;
	a->restore.c = c;
	a->restore.n = 1;
	a->restore.done = adopted_done;
	a->restore.arg = a;
	a->restore.one[0].slot = slot;
	a->restore.one[0].session = s->id;
	a->give.type = CMAN_FRAME_GIVE;
	a->give.n = 2;
	a->give.number[0] = (uint32_t)s->client_fd;
	a->give.number[1] = (uint32_t)s->server_fd;
	a->give.arg = a;
	return a;
}

void restore_slot(struct manager *m, struct cell *c, uint32_t slot, uint64_t batch)
{
	struct adopted *a = adopted_new(m, c, slot);

	if (images_read(m, m->name, batch, &a->data, &a->len))
		a->data = NULL;
	a->give.done = on_given;
	cell_request(c, &a->give);
}

static void on_given_back(struct keeper_request *q, void *arg)
{
	struct adopted *a = arg;

	for (uint32_t k = 0; k < q->n && !q->err; k++)
		repair_silence(q->fd[k]);
	cell_order_slot(a->restore.c, CMAN_ORDER_DISCARD, a->restore.one[0].slot,
			a->restore.one[0].session);
	a->restore.n = 0;
	adopted_free(a);
}

void restore_discard(struct manager *m, struct cell *c, uint32_t slot)
{
	struct adopted *a = adopted_new(m, c, slot);

	a->give.done = on_given_back;
	cell_request(c, &a->give);
}

void restore_release(struct manager *m, uint64_t batch, uint64_t session)
{
	struct restored one = { .session = session };
	uint8_t *data;
	size_t len;

	if (images_read(m, m->name, batch, &data, &len))
		return;
	if (find_image(data, len, &one)) {
		struct cman_tuple t[2] = { repair_tuple(&one.leg[0]), repair_tuple(&one.leg[1]) };

		guard_send_on(m, &t[0]);
		guard_send_on(m, &t[1]);
	}
	for (int l = 0; l < 2; l++)
		cman_image_drop(&one.leg[l]);
	cman_secret_wipe(data, len);
	free(data);
}

/* ---- rescue ---- */

void restored_free(struct restored *one)
{
	for (int l = 0; l < 2; l++)
		cman_repair_free(&one->leg[l]);
}

int restore_foreign(struct manager *m, const char *name, uint64_t batch, struct restored *one)
{
	const char *why = "";
	uint8_t *data;
	size_t len;
	int err = images_read(m, name, batch, &data, &len);

	if (err == -ENOENT) {
		for (int l = 0; l < 2; l++) {
			if (one->fd[l] < 0)
				return -ENOENT;
			unfreeze(m, name, one->fd[l]);
			close(one->fd[l]);
		}
		return 0;
	}
	if (err)
		return err;
	err = find_image(data, len, one) ? 0 : -ENOENT;
	for (int l = 0; l < 2 && !err; l++)
		err = cman_image_own(&one->leg[l]);
	cman_secret_wipe(data, len);
	free(data);
	if (err)
		return err;
	repair_evict(m, &one->session, 1);
	for (int l = 0; l < 2; l++) {
		if (one->fd[l] >= 0)
			repair_silence(one->fd[l]);
		one->fd[l] = -1;
	}
	for (int l = 0; l < 2 && !err; l++) {
		err = import_leg(m, one, l, true, &why);
		if (err)
			cman_err("a session could not be restored from its image",
				 "session=%016llx why=\"%s\" err=\"%s\"",
				 (unsigned long long)one->session, why, strerror(-err));
	}
	return err ? err : 1;
}

void restored_go_live(struct manager *m, const char *name, struct cell *c, struct restored *one)
{
	wake(m, name, c, one);
	restored_free(one);
}
