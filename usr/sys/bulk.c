/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The batch: what is read for all at once (inspect.c), what each socket needs for itself
 * (cman_repair), and the threads that share the latter. bulk.h tells the story.
 */
#include "usr/sys/bulk.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "usr/sys/inspect.h"
#include "usr/sys/repair_impl.h"

#define MAX_THREADS 16
/* items that a thread takes at a time */
#define SHARE 8
/*
 * Below this a socket that was read by BPF is not worth the preparation: one run of the program costs
 * about as much as what it saves for two sockets.
 */
#define WORTH_LOOKUP 4

struct job {
	void (*work)(struct cman_bulk *bulk, struct cman_bulk_item *item);
	struct cman_bulk_item *items;
	size_t n;
	_Atomic size_t next;
	const struct cman_repair_inject *inject;
	const struct cman_inspect_record *records; /* of items, or NULL */
	const int *place;			   /* of each item in records; -1: none */
};

struct cman_bulk {
	struct cman_inspect *inspect;
	const char *why_syscalls;
	enum cman_bulk_way way;
	struct cman_repair_defaults defaults[2]; /* AF_INET, AF_INET6 */

	unsigned int threads;
	pthread_t worker[MAX_THREADS];
	pthread_mutex_t lock;
	pthread_cond_t start, done;
	uint64_t round;	   /* jobs so far */
	unsigned int busy; /* workers that are still at it */
	bool stop;
	struct job job;
};

/* --- threads */

static void take_shares(struct cman_bulk *bulk)
{
	struct job *job = &bulk->job;

	for (;;) {
		size_t from = atomic_fetch_add(&job->next, SHARE);

		if (from >= job->n)
			return;
		for (size_t i = from; i < job->n && i < from + SHARE; i++)
			job->work(bulk, &job->items[i]);
	}
}

static void *worker(void *arg)
{
	struct cman_bulk *bulk = arg;
	uint64_t round = 0;

	pthread_mutex_lock(&bulk->lock);
	for (;;) {
		while (bulk->round == round && !bulk->stop)
			pthread_cond_wait(&bulk->start, &bulk->lock);
		if (bulk->stop)
			break;
		round = bulk->round;
		pthread_mutex_unlock(&bulk->lock);
		take_shares(bulk);
		pthread_mutex_lock(&bulk->lock);
		if (--bulk->busy == 0)
			pthread_cond_signal(&bulk->done);
	}
	pthread_mutex_unlock(&bulk->lock);
	return NULL;
}

/* bulk->job.work on all items, by all threads; returns how many have got an error. */
static size_t run(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n,
		  void (*work)(struct cman_bulk *, struct cman_bulk_item *))
{
	bool share = bulk->threads > 1 && n > SHARE;
	size_t before = 0, after = 0;

	for (size_t i = 0; i < n; i++)
		before += !!items[i].err;
	bulk->job.work = work;
	bulk->job.items = items;
	bulk->job.n = n;
	atomic_store(&bulk->job.next, 0);
	if (share) {
		pthread_mutex_lock(&bulk->lock);
		bulk->busy = bulk->threads - 1;
		bulk->round++;
		pthread_cond_broadcast(&bulk->start);
		pthread_mutex_unlock(&bulk->lock);
	}
	take_shares(bulk);
	if (share) {
		pthread_mutex_lock(&bulk->lock);
		while (bulk->busy)
			pthread_cond_wait(&bulk->done, &bulk->lock);
		pthread_mutex_unlock(&bulk->lock);
	}
	bulk->job.inject = NULL;
	bulk->job.records = NULL;
	bulk->job.place = NULL;
	for (size_t i = 0; i < n; i++)
		after += !!items[i].err;
	return after - before;
}

static unsigned int cpus(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);

	return n < 2 ? 1 : 2;
}

int cman_bulk_open(unsigned int threads, enum cman_bulk_way way, struct cman_bulk **ret)
{
	struct cman_bulk *bulk;
	int err;

	if (threads > MAX_THREADS)
		return -EINVAL;
	bulk = calloc(1, sizeof(*bulk));
	if (!bulk)
		return -ENOMEM;
	pthread_mutex_init(&bulk->lock, NULL);
	pthread_cond_init(&bulk->start, NULL);
	pthread_cond_init(&bulk->done, NULL);
	bulk->way = way;
	if (way == CMAN_BULK_SYSCALLS)
		bulk->why_syscalls = "system calls were asked for";
	else if (cman_inspect_open(&bulk->inspect, &bulk->why_syscalls) == 0)
		bulk->why_syscalls = NULL;
	bulk->threads = 1;
	if (!threads)
		threads = cpus();
	while (bulk->threads < threads) {
		err = pthread_create(&bulk->worker[bulk->threads], NULL, worker, bulk);
		if (err) {
			cman_bulk_free(bulk);
			return -err;
		}
		bulk->threads++;
	}
	*ret = bulk;
	return 0;
}

void cman_bulk_free(struct cman_bulk *bulk)
{
	if (!bulk)
		return;
	pthread_mutex_lock(&bulk->lock);
	bulk->stop = true;
	pthread_cond_broadcast(&bulk->start);
	pthread_mutex_unlock(&bulk->lock);
	for (unsigned int i = 1; i < bulk->threads; i++)
		pthread_join(bulk->worker[i], NULL);
	pthread_cond_destroy(&bulk->done);
	pthread_cond_destroy(&bulk->start);
	pthread_mutex_destroy(&bulk->lock);
	cman_inspect_close(bulk->inspect);
	free(bulk);
}

const char *cman_bulk_why_syscalls(const struct cman_bulk *bulk)
{
	return bulk->why_syscalls;
}

unsigned int cman_bulk_threads(const struct cman_bulk *bulk)
{
	return bulk->threads;
}

/* --- reading by BPF */

static void set_key(struct cman_inspect_key *key, const struct cman_bulk_item *item)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	const struct cman_repair_image *image = item->image;

	memset(key, 0, sizeof(*key));
	key->cookie = item->cookie;
	memcpy(key->local, image->local_addr, 16);
	memcpy(key->peer, image->peer_addr, 16);
	key->local_port = image->local_port;
	key->peer_port = image->peer_port;
	key->v4 = memcmp(image->local_addr, mapped, 12) == 0;
}

/*
 * Reads the next items, as many as one pass can; *ret_n is how many items that covers. place[] says
 * where an item's record is. Whatever fails here, system calls do it: no error.
 */
static void read_some(struct cman_bulk *bulk, enum cman_inspect_way way,
		      struct cman_bulk_item *items, size_t n, int place[CMAN_INSPECT_MAX],
		      size_t *ret_n)
{
	unsigned int asked = 0;
	size_t i;

	for (i = 0; i < n && i < CMAN_INSPECT_MAX; i++) {
		place[i] = -1;
		if (items[i].err || !items[i].cookie)
			continue;
		set_key(&cman_inspect_keys(bulk->inspect)[asked], &items[i]);
		place[i] = (int)asked++;
	}
	*ret_n = i;
	bulk->job.place = place;
	if (!asked || cman_inspect_read(bulk->inspect, way, asked, &bulk->job.records))
		bulk->job.records = NULL;
}

static const struct cman_inspect_record *record_of(const struct cman_bulk *bulk,
						   const struct cman_bulk_item *item)
{
	ptrdiff_t i = item - bulk->job.items;

	if (!bulk->job.records || bulk->job.place[i] < 0)
		return NULL;
	return &bulk->job.records[bulk->job.place[i]];
}

static bool use_bpf(const struct cman_bulk *bulk, size_t n)
{
	return bulk->inspect && (bulk->way != CMAN_BULK_AUTO || n >= WORTH_LOOKUP);
}

static enum cman_inspect_way bpf_way(const struct cman_bulk *bulk)
{
	return bulk->way == CMAN_BULK_WALK ? CMAN_INSPECT_WALK : CMAN_INSPECT_LOOKUP;
}

/* --- describe */

static void describe_names(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	struct cman_repair_image *image = item->image;

	(void)bulk;
	cman_repair_reset(image);
	item->why = NULL;
	item->cookie = 0;
	item->err = cman_repair_names(item->fd, image, &item->why);
	/* without it, a lookup could not be sure that it has found this socket */
	if (!item->err &&
	    cman_repair_get(item->fd, SOL_SOCKET, SO_COOKIE, &item->cookie, sizeof(item->cookie)))
		item->cookie = 0;
}

static void describe_syscalls(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	if (!item->err)
		item->err = cman_repair_describe_rest(item->fd, item->image,
						      CMAN_REPAIR_KNOWS_NAMES, &item->why);
	(void)bulk;
}

/* In one thread: what one socket is asked for is known for the next. */
static void describe_known(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	const uint32_t suspicious = CMAN_INSPECT_ULP | CMAN_INSPECT_MPTCP | CMAN_INSPECT_MD5 |
				    CMAN_INSPECT_FILTER | CMAN_INSPECT_REPAIR;
	const struct cman_inspect_record *record = record_of(bulk, item);
	struct cman_repair_image *image = item->image;
	unsigned int known = CMAN_REPAIR_KNOWS_NAMES;
	uint64_t had;

	if (item->err)
		return;
	if (record) {
		/* it knows the reason in words */
		if (record->flags & suspicious)
			item->err = cman_repair_check(item->fd, &item->why);
		if (item->err)
			return;
		cman_inspect_verify(bulk->inspect, record, item->fd);
		known |= cman_inspect_describe(bulk->inspect, record, image);
	}
	had = image->have;
	item->err = cman_repair_describe_rest(item->fd, image, known, &item->why);
	if (!item->err && record && image->have != had)
		cman_inspect_learn(bulk->inspect, record, image);
}

static size_t describe_some(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n,
			    size_t *ret_n)
{
	int place[CMAN_INSPECT_MAX];
	size_t failed = 0;

	read_some(bulk, bpf_way(bulk), items, n, place, ret_n);
	bulk->job.items = items;
	for (size_t i = 0; i < *ret_n; i++) {
		bool was_good = !items[i].err;

		describe_known(bulk, &items[i]);
		failed += was_good && items[i].err;
	}
	bulk->job.records = NULL;
	bulk->job.place = NULL;
	return failed;
}

size_t cman_bulk_describe(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n)
{
	size_t failed;

	for (size_t i = 0; i < n; i++)
		items[i].err = 0;
	failed = run(bulk, items, n, describe_names);
	if (!use_bpf(bulk, n))
		return failed + run(bulk, items, n, describe_syscalls);
	cman_inspect_forget(bulk->inspect);
	for (size_t at = 0, some = 0; at < n; at += some)
		failed += describe_some(bulk, items + at, n - at, &some);
	return failed;
}

/* --- the old side */

static void hold(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	(void)bulk;
	if (!item->err)
		item->err = cman_repair_hold(item->fd, item->image, &item->why);
}

/* Without BPF, or for a few: each for itself. */
static void freeze_one(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	(void)bulk;
	if (!item->err)
		item->err = cman_repair_freeze(item->fd, item->image, &item->why);
	if (!item->err)
		item->err = cman_repair_export(item->fd, item->image, &item->why);
}

static void export_one(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	const struct cman_inspect_record *record = record_of(bulk, item);
	struct cman_repair_state state;

	if (item->err)
		return;
	if (record && !(record->flags & CMAN_INSPECT_FOUND))
		record = NULL;
	if (record)
		cman_inspect_state(bulk->inspect, record, &state);
	item->err = cman_repair_export_known(item->fd, item->image, record ? &state : NULL,
					     &item->why);
}

size_t cman_bulk_freeze(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n)
{
	int place[CMAN_INSPECT_MAX];
	size_t failed;

	if (!use_bpf(bulk, n))
		return run(bulk, items, n, freeze_one);
	failed = run(bulk, items, n, hold);
	for (size_t at = 0, some = 0; at < n; at += some) {
		read_some(bulk, bpf_way(bulk), items + at, n - at, place, &some);
		failed += run(bulk, items + at, some, export_one);
	}
	return failed;
}

static void close_one(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	(void)bulk;
	if (item->err)
		return;
	item->err = cman_repair_close(item->fd, &item->why);
	if (item->err != -EPERM)
		item->fd = -1;
}

size_t cman_bulk_close(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n)
{
	return run(bulk, items, n, close_one);
}

static void thaw_one(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	const char *why = NULL;
	int err;

	(void)bulk;
	if (item->fd < 0 || !item->image->frozen)
		return;
	err = cman_repair_thaw(item->fd, item->image, &why);
	if (err && !item->err) {
		item->err = err;
		item->why = why;
	}
}

size_t cman_bulk_thaw(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n)
{
	return run(bulk, items, n, thaw_one);
}

/* --- the new side */

static void import_one(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	const struct cman_repair_defaults
		*defaults = &bulk->defaults[item->image->family == AF_INET6];

	if (item->err)
		return;
	item->fd = -1;
	item->err = cman_repair_import_with(item->image, defaults->family ? defaults : NULL,
					    bulk->job.inject, &item->fd, &item->why);
}

size_t cman_bulk_import(struct cman_bulk *bulk, const struct cman_repair_inject *inject,
			struct cman_bulk_item *items, size_t n)
{
	static const int family[2] = { AF_INET, AF_INET6 };
	bool needed[2] = { false, false };

	for (size_t i = 0; i < n; i++)
		needed[items[i].image->family == AF_INET6] |= !items[i].err;
	/* each time: sysctls may have changed. Without them the sockets are asked, which is as good. */
	for (int f = 0; f < 2; f++) {
		bulk->defaults[f].family = 0;
		if (needed[f] && n > 1)
			cman_repair_defaults(family[f], &bulk->defaults[f], NULL);
	}
	bulk->job.inject = inject;
	return run(bulk, items, n, import_one);
}

static void release_one(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	if (!item->err)
		item->err = cman_repair_release(item->fd, item->image, bulk->job.inject,
						&item->why);
}

size_t cman_bulk_release(struct cman_bulk *bulk, const struct cman_repair_inject *inject,
			 struct cman_bulk_item *items, size_t n)
{
	bulk->job.inject = inject;
	return run(bulk, items, n, release_one);
}

static void abort_one(struct cman_bulk *bulk, struct cman_bulk_item *item)
{
	const char *why = NULL;
	int err;

	(void)bulk;
	if (item->fd < 0 || item->image->progress)
		return;
	err = cman_repair_abort(item->fd, &why);
	/* -EPERM: it was not in repair, and is still open */
	if (err != -EPERM)
		item->fd = -1;
	if (err && !item->err) {
		item->err = err;
		item->why = why;
	}
}

size_t cman_bulk_abort(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n)
{
	return run(bulk, items, n, abort_one);
}
