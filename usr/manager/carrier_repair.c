/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The repair carrier: a session's two sockets are taken apart and put together again
 * (cman/repair.h). The packets of its connections wait in the guard meanwhile.
 *
 *	source					target
 *	freeze:	keeper gives descriptors
 *		guard closes
 *		freeze and export both legs
 *		images to a file
 *	(PARKED in the journal)
 *	pack:	close both legs, in silence
 *		---- IMAGE..., IMAGES ----------->	unpack: import both legs, in repair
 *	(COMMIT)---- COMMIT --------------------->	wake: leave repair; then LIVE
 *	release: guard opens  <---- COMMITTED -----
 *		file goes
 *
 * In one network namespace the guard is the source's: it opens when the target has the sockets, or
 * when the source has made its own anew (thaw). To another host (remote.h) each side has its own: the
 * target's opens when a batch is live, the source's forwards from then on. What cannot be taken apart is
 * excused: it stays where it is, with the reason.
 */
#include "usr/manager/carrier.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "usr/core/session.h"
#include "usr/manager/peer.h"
#include "usr/manager/remote.h"
#include "usr/manager/repair.h"
#include "usr/manager/tls_move.h"
#include "usr/sys/bulk.h"
#include "usr/sys/crash.h"
#include "usr/sys/ktls_export.h"
#include "usr/sys/log.h"
#include "usr/sys/secret.h"
#include "usr/sys/sock.h"

struct piece {	   /* one session at the source */
	int fd[6]; /* -1: closed */
	uint32_t nfds;
	struct cman_repair_image leg[2];
	struct cman_tuple tuple[2];
	struct cman_wire_session ws;
	uint8_t *between[2]; /* copied out of a pipe, perhaps what TLS was to hide */
	size_t between_len[2];
	uint8_t *tls; /* exported; NULL: none */
	uint32_t tls_len;
	struct cman_ktls_export move[2]; /* of legs with kernel TLS */
	struct drained drained[2];	 /* [leg]: the same */
};

struct cargo {
	/* source */
	struct piece piece[CMAN_BATCH];
	struct cman_image_writer stream;
	struct restore restore;
	/* target */
	struct cman_repair_image leg[CMAN_BATCH][2];
	uint8_t *state[CMAN_BATCH]; /* TLS of a session that has changed its engine; NULL: none */
	size_t len;		    /* of the parcel's data */
};

/* ---- source: freeze ---- */

static void between_free(struct piece *e, int dir)
{
	if (e->between[dir])
		cman_secret_wipe(e->between[dir], e->between_len[dir]);
	free(e->between[dir]);
	e->between[dir] = NULL;
}

static void piece_free(struct piece *e)
{
	for (uint32_t k = 0; k < e->nfds; k++)
		if (e->fd[k] >= 0)
			close(e->fd[k]);
	for (int l = 0; l < 2; l++) {
		cman_repair_free(&e->leg[l]);
		between_free(e, l);
		drained_free(&e->drained[l]);
		cman_secret_wipe(&e->move[l], sizeof(e->move[l]));
	}
	cman_secret_free(e->tls, e->tls_len);
	e->tls = NULL;
}

static void cargo_free(struct parcel_out *p)
{
	for (uint32_t k = 0; k < CMAN_BATCH && p->cargo; k++)
		piece_free(&p->cargo->piece[k]);
	if (p->cargo)
		cman_image_free(&p->cargo->stream);
	free(p->cargo);
	p->cargo = NULL;
}

/* What the kernel had opened was read, and cannot be put back: better no session than one with a gap. */
static void has_gap(struct parcel_out *p, uint32_t k)
{
	p->c->slots[p->slot[k]].flags |= CMAN_SLOT_RESET;
	cman_err("a session with kernel TLS ends: what was read of it cannot be put back",
		 "session=%016llx", (unsigned long long)p->session[k]);
}

/* Nothing was closed yet: leg @l of entry @k goes on in its socket. */
static void thaw_leg(struct parcel_out *p, uint32_t k, int l)
{
	struct piece *e = &p->cargo->piece[k];

	if (!ktls_is_leg(&p->copy[k], l))
		cman_repair_thaw(e->fd[l], &e->leg[l], NULL);
	else if (cman_ktls_thaw(e->fd[l], &e->move[l], &e->leg[l], NULL) || e->drained[l].len ||
		 e->drained[l].updated)
		has_gap(p, k);
}

/* Entry @k stays here: @why, unless it was just a bad moment. */
static void excuse(struct parcel_out *p, uint32_t k, const char *why, int err)
{
	struct piece *piece = p->cargo->piece;
	char reason[100];

	for (int l = 0; l < 2; l++)
		if (piece[k].leg[l].frozen || ktls_is_leg(&p->copy[k], l))
			thaw_leg(p, k, l);
	guard_open(p->m, NULL, piece[k].tuple, 2);
	snprintf(reason, sizeof(reason), "%s%s%s", why, err ? ": " : "", err ? strerror(-err) : "");
	source_excuse(p, k, reason, err == -EOPNOTSUPP || !err);
	piece_free(&piece[k]);
	memmove(&piece[k], &piece[k + 1], (p->n - k - 1) * sizeof(*piece));
	memset(&piece[p->n - 1], 0, sizeof(*piece));
	parcel_remove(p, k);
}

/* Does the peer live in this network namespace? Its packets come over lo, where no guard can be. */
static bool is_local(const struct ifaddrs *own, const uint8_t addr[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (!memcmp(addr, mapped, 12) && addr[12] == 127)
		return true;
	for (; own; own = own->ifa_next) {
		struct sockaddr_storage ss = { 0 };
		uint8_t mine[16];
		uint16_t port;

		if (!own->ifa_addr ||
		    (own->ifa_addr->sa_family != AF_INET && own->ifa_addr->sa_family != AF_INET6))
			continue;
		memcpy(&ss, own->ifa_addr,
		       own->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) :
							     sizeof(struct sockaddr_in6));
		if (cman_sockaddr_get(&ss, mine, &port) >= 0 && !memcmp(mine, addr, 16))
			return true;
	}
	return false;
}

const char *repair_cannot(const struct ifaddrs *own, const struct cman_repair_image *leg)
{
	return is_local(own, leg->peer_addr) ?
		       "its peer is on this host, and packets over lo cannot be parked: move by fd" :
		       NULL;
}

/* Both legs of every entry, in the order of the entries. */
static void list_legs(struct parcel_out *p, struct cman_bulk_item *items)
{
	for (uint32_t k = 0; k < 2 * p->n; k++)
		items[k] = (struct cman_bulk_item){
			.fd = p->cargo->piece[k / 2].fd[k % 2],
			.image = &p->cargo->piece[k / 2].leg[k % 2],
		};
}

static void describe_all(struct parcel_out *p)
{
	struct cman_bulk_item items[2 * CMAN_BATCH];
	struct ifaddrs *own = NULL;
	uint32_t at = 0;

	getifaddrs(&own);
	list_legs(p, items);
	cman_bulk_describe(repair_bulk(p->m), items, 2 * p->n);
	for (uint32_t k = 0; k < p->n; at++) {
		struct piece *e = &p->cargo->piece[k];
		const char *why = NULL;
		int err = 0;

		for (int l = 0; l < 2 && !err && !why; l++) {
			err = items[2 * at + (uint32_t)l].err;
			why = items[2 * at + (uint32_t)l].why;
			if (ktls_is_leg(&p->copy[k], l)) /* the others know nothing of it */
				err = ktls_prepare(p->m, e->fd[l], &e->move[l], &e->leg[l], &why);
			if (!err)
				why = repair_cannot(own, &e->leg[l]);
			if (!err && !why && p->peer->remote &&
			    !remote_hop(p->peer->remote, e->leg[l].local_addr))
				why = l ? "its server leg has an address that does not move" :
					  "its client leg has an address that does not move";
			e->tuple[l] = repair_tuple(&e->leg[l]);
		}
		if (err || why)
			excuse(p, k, why ? why : "", err);
		else
			k++;
	}
	freeifaddrs(own);
}

/* All that is in the pipe, without taking it out: to e->between[dir]. */
static int look_into(int rfd, size_t len, struct piece *e, int dir)
{
	uint8_t *data = malloc(len ? len : 1);
	int copy[2], err = 0;
	size_t used = 0;
	ssize_t n;

	if (!data)
		return -ENOMEM;
	e->between[dir] = data;
	e->between_len[dir] = len;
	if (pipe2(copy, O_CLOEXEC | O_NONBLOCK) < 0) {
		err = -errno;
		between_free(e, dir);
		return err;
	}
	n = fcntl(rfd, F_GETPIPE_SZ);
	if (n < 0 || fcntl(copy[1], F_SETPIPE_SZ, (int)n) < 0 ||
	    tee(rfd, copy[1], len, SPLICE_F_NONBLOCK) != (ssize_t)len)
		err = -ENOBUFS;
	while (!err && used < len) {
		n = read(copy[0], data + used, len - used);
		if (n <= 0)
			err = n < 0 && errno != EINTR ? -errno : n ? 0 : -EIO;
		else
			used += (size_t)n;
	}
	close(copy[0]);
	close(copy[1]);
	if (err)
		between_free(e, dir);
	return err;
}

/* With TLS what was read and not written is in the exported state. */
static int count_tls(struct parcel_out *p, uint32_t k, const char **why)
{
	const struct cman_slot *slot = &p->copy[k];
	struct piece *e = &p->cargo->piece[k];
	struct cman_wire_session *ws = &e->ws;
	struct tls_counts counts;
	int err = tls_count(slot, e->fd[0], e->fd[1], &counts);

	for (int dir = 0; dir < 2 && !err; dir++) {
		ws->read_base[dir] = (int64_t)counts.read[dir];
		ws->write_base[dir] = (int64_t)(counts.written[dir] - e->leg[!dir].out.len);
		ws->position[dir] = slot->flow[dir].position;
	}
	if (err)
		return err;
	*why = "its TLS";
	return tls_export(p->c, p->slot[k], slot, &counts, &e->tls, &e->tls_len);
}

/* The same with kernel TLS: what is in the pipe, and behind it what the kernel had opened. */
static int count_kernel(struct parcel_out *p, uint32_t k, const char **why)
{
	const struct cman_slot *slot = &p->copy[k];
	struct piece *e = &p->cargo->piece[k];
	const struct tls_counts none = { 0 }; /* nothing is in the secret memory but keys */
	uint32_t at = 2;

	*why = "what lies between its legs";
	for (int dir = 0; dir < 2; dir++) {
		const struct drained *d = &e->drained[dir]; /* leg 0 is read for CMAN_UP */
		int pending = 0, err;
		uint8_t *all;

		if ((slot->bound[dir] & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE) {
			if (ioctl(e->fd[at], FIONREAD, &pending) < 0)
				return -errno;
			err = look_into(e->fd[at], (size_t)pending, e, dir);
			if (err)
				return err;
			at += 2;
		}
		if (d->len) {
			all = malloc((size_t)pending + d->len);
			if (!all)
				return -ENOMEM;
			if (pending)
				memcpy(all, e->between[dir], (size_t)pending);
			memcpy(all + pending, d->data, d->len);
			between_free(e, dir);
			e->between[dir] = all;
			e->between_len[dir] = (size_t)pending + d->len;
		}
		e->ws.position[dir] = slot->flow[dir].position;
		e->ws.buffer_len[dir] = (uint32_t)((size_t)pending + d->len);
		e->ws.buffer[dir] = e->ws.buffer_len[dir] ? e->between[dir] : NULL;
		p->in_flight += e->ws.buffer_len[dir];
	}
	*why = "its TLS";
	return tls_export(p->c, p->slot[k], slot, &none, &e->tls, &e->tls_len);
}

/* The counters go on from here in the new sockets, which begin anew. */
static int count(struct parcel_out *p, uint32_t k, const char **why)
{
	const struct cman_slot *slot = &p->copy[k];
	struct piece *e = &p->cargo->piece[k];
	struct cman_wire_session *ws = &e->ws;
	struct cman_leg legs[2];
	uint32_t at = 2;
	int err;

	*why = "its counters";
	parcel_describe(p, k, e->fd[1], ws);
	ws->flags |= CMAN_SLOT_CLIENT_RESTORED | CMAN_SLOT_SERVER_RESTORED;
	if (slot->tls) {
		err = slot->tls & CMAN_SLOT_TLS_KERNEL ? count_kernel(p, k, why) :
							 count_tls(p, k, why);
		ws->tls = e->tls;
		ws->tls_len = e->tls_len;
		return err;
	}
	err = cman_sock_counters(e->fd[0], false, &legs[0]);
	if (!err)
		err = cman_sock_counters(e->fd[1], !(slot->flags & CMAN_SLOT_SERVER_RESTORED),
					 &legs[1]);
	for (int dir = 0; dir < 2 && !err; dir++) {
		uint32_t bound = slot->bound[dir], number = bound & CMAN_BOUND_INDEX;
		struct cman_between between;

		err = cman_flow_between(&slot->flow[dir], bound, &legs[dir], &legs[!dir], &between);
		if (err)
			break;
		ws->read_base[dir] = (int64_t)between.read;
		ws->write_base[dir] = (int64_t)(between.read - between.remain -
						e->leg[!dir].out.len);
		ws->position[dir] = between.read - between.remain;
		if ((bound & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE) {
			if (between.remain)
				err = look_into(e->fd[at], between.remain, e, dir);
			ws->buffer[dir] = e->between[dir];
			at += 2;
		} else if (between.remain) {
			ws->buffer[dir] = p->c->buffers + (size_t)number * CMAN_BUFFER_SIZE +
					  between.offset;
		}
		ws->buffer_len[dir] = between.remain;
		p->in_flight += between.remain;
	}
	return err;
}

/* All legs but those with kernel TLS: bulk would peek at their queues. In the order of the entries. */
static void freeze_plain(struct parcel_out *p, struct cman_bulk_item *items)
{
	uint32_t n = 0;

	for (uint32_t k = 0; k < 2 * p->n; k++)
		if (!ktls_is_leg(&p->copy[k / 2], k % 2))
			items[n++] = (struct cman_bulk_item){
				.fd = p->cargo->piece[k / 2].fd[k % 2],
				.image = &p->cargo->piece[k / 2].leg[k % 2],
			};
	cman_bulk_freeze(repair_bulk(p->m), items, n);
}

/* @item: what bulk has made of the leg, if it had it. */
static int export_leg(struct parcel_out *p, uint32_t k, int l, const struct cman_bulk_item *item,
		      const char **why)
{
	struct piece *e = &p->cargo->piece[k];

	if (ktls_is_leg(&p->copy[k], l))
		return ktls_export(p->m, p->c, p->slot[k], l, e->fd[l], &e->move[l], &e->leg[l],
				   &e->drained[l], why);
	*why = item->why;
	return item->err;
}

static void export_all(struct parcel_out *p)
{
	struct cman_bulk_item items[2 * CMAN_BATCH];
	const struct cman_bulk_item *next = items;

	cman_image_begin(&p->cargo->stream, p->id, NULL);
	freeze_plain(p, items);
	for (uint32_t k = 0; k < p->n;) {
		struct piece *e = &p->cargo->piece[k];
		const char *why = "";
		int err = 0;

		for (int l = 0; l < 2; l++) {
			const struct cman_bulk_item *item = next;

			next += !ktls_is_leg(&p->copy[k], l);
			if (!err)
				err = export_leg(p, k, l, item, &why);
		}
		if (!err)
			err = count(p, k, &why);
		if (!err)
			err = cman_image_add(&p->cargo->stream, &e->ws, e->leg, &why);
		if (err)
			excuse(p, k, why, err);
		else
			k++;
	}
}

static void excuse_all(struct parcel_out *p, const char *why, int err)
{
	while (p->n)
		excuse(p, p->n - 1, why, err);
}

static void close_and_export(struct parcel_out *p)
{
	struct cman_tuple tuples[2 * CMAN_BATCH];
	const char *why = "";
	int err;

	for (uint32_t k = 0; k < p->n; k++)
		memcpy(&tuples[2 * k], p->cargo->piece[k].tuple, sizeof(p->cargo->piece[k].tuple));
	err = guard_park(p->m, tuples, 2 * p->n, p->id, &why);
	CMAN_CRASH(REPAIR_CLOSED);
	if (err) {
		excuse_all(p, why, err == -ENODEV ? 0 : err);
		return;
	}
	export_all(p);
	CMAN_CRASH(REPAIR_EXPORTED);
	if (!p->n)
		return;
	err = cman_image_finish(&p->cargo->stream, &why);
	if (!err)
		err = images_write(p->m, p->id, p->cargo->stream.data, p->cargo->stream.used);
	CMAN_CRASH(REPAIR_WRITTEN);
	if (err)
		excuse_all(p, "its image cannot be stored", err);
}

static void on_given(struct keeper_request *r, void *arg)
{
	struct parcel_out *p = arg;
	uint32_t at = 0, numbers[6];

	CMAN_CRASH(SOURCE_GIVEN);
	if (r->err) { /* no keeper at all: the cell is gone, and the sessions with it */
		p->n = 0;
	} else {
		for (uint32_t k = 0; k < p->n; k++) {
			struct piece *e = &p->cargo->piece[k];

			e->nfds = parcel_numbers(p->c, &p->copy[k], numbers);
			memcpy(e->fd, &r->fd[at], e->nfds * sizeof(*e->fd));
			at += e->nfds;
		}
		describe_all(p);
		if (p->n)
			close_and_export(p);
	}
	if (!p->n)
		cargo_free(p);
	source_frozen(p);
}

static void freeze(struct parcel_out *p)
{
	p->cargo = calloc(1, sizeof(*p->cargo));
	if (!p->cargo)
		abort();
	/* for who finds the slot after a crash */
	for (uint32_t k = 0; k < p->n; k++)
		p->c->slots[p->slot[k]].flags |= CMAN_SLOT_REPAIR;
	parcel_give(p, on_given);
}

/* ---- source: pack ---- */

static void pack(struct parcel_out *p)
{
	const struct cman_image_writer *stream = &p->cargo->stream;
	struct cman_frame_writer w;

	for (uint32_t k = 0; k < p->n; k++) {
		struct piece *e = &p->cargo->piece[k];

		for (uint32_t l = 0; l < e->nfds; l++) {
			if (l < 2)
				cman_repair_close(e->fd[l], NULL);
			else
				close(e->fd[l]);
			e->fd[l] = -1;
			CMAN_CRASH(REPAIR_GONE);
		}
	}
	for (size_t at = 0, n; at < stream->used; at += n) {
		n = stream->used - at < CMAN_CHUNK_MAX ? stream->used - at : CMAN_CHUNK_MAX;
		cman_frame_begin(&w, CMAN_FRAME_IMAGE, 0);
		cman_frame_add_u64(&w, CMAN_TAG_BATCH_ID, p->id);
		cman_frame_add_bytes(&w, CMAN_TAG_CHUNK, stream->data + at, n);
		peer_send(p->peer, &w, NULL, 0);
	}
	cman_frame_begin(&w, CMAN_FRAME_IMAGES, 0);
	cman_frame_add_u64(&w, CMAN_TAG_BATCH_ID, p->id);
	cman_frame_add_u64(&w, CMAN_TAG_TIME_NS, p->frozen_ns);
	cman_frame_add_u32(&w, CMAN_TAG_COUNT, p->n);
	cman_frame_add_u64(&w, CMAN_TAG_LENGTH, stream->used);
	peer_send(p->peer, &w, NULL, 0);
	CMAN_CRASH(SOURCE_BATCH);
}

/* ---- source: the two ends ---- */

static void over(struct parcel_out *p)
{
	images_remove(p->m, p->id);
	cargo_free(p);
}

static void on_released(struct order *o, void *arg)
{
	(void)o;
	over(arg);
	source_released(arg);
}

static void open_guard(struct parcel_out *p)
{
	for (uint32_t k = 0; k < p->n; k++)
		guard_open(p->m, NULL, p->cargo->piece[k].tuple, 2);
	CMAN_CRASH(REPAIR_OPEN);
}

static void forward(struct parcel_out *p)
{
	for (uint32_t k = 0; k < p->n; k++) {
		for (int l = 0; l < 2; l++) {
			const struct cman_tuple *t = &p->cargo->piece[k].tuple[l];

			guard_forward(p->m, t, remote_hop(p->peer->remote, t->local_addr));
		}
	}
	CMAN_CRASH(REPAIR_OPEN);
}

static void release(struct parcel_out *p)
{
	if (p->peer->remote)
		forward(p);
	else
		open_guard(p);
	parcel_order(p, CMAN_ORDER_RELEASE, on_released);
}

static void on_thawed(struct order *o, void *arg)
{
	(void)o;
	over(arg);
	source_thawed(arg);
}

static void on_restored(struct restore *r, void *arg)
{
	struct parcel_out *p = arg;

	(void)r;
	over(p);
	source_thawed(p);
}

static void thaw(struct parcel_out *p)
{
	struct restore *r = &p->cargo->restore;

	if (p->cargo->piece[0].fd[0] >= 0) { /* nothing was closed yet */
		for (uint32_t k = 0; k < p->n; k++)
			for (int l = 0; l < 2; l++)
				thaw_leg(p, k, l);
		open_guard(p);
		parcel_order(p, CMAN_ORDER_THAW, on_thawed);
		return;
	}
	r->m = p->m;
	r->c = p->c;
	r->n = p->n;
	r->done = on_restored;
	r->arg = p;
	for (uint32_t k = 0; k < p->n; k++) {
		struct piece *e = &p->cargo->piece[k];
		struct restored *one = &r->one[k];

		if (e->drained[0].len || e->drained[1].len)
			has_gap(p, k);
		one->slot = p->slot[k];
		one->session = p->session[k];
		memcpy(one->leg, e->leg, sizeof(one->leg)); /* borrowed: the piece frees them */
		memcpy(one->read_base, e->ws.read_base, sizeof(one->read_base));
		memcpy(one->write_base, e->ws.write_base, sizeof(one->write_base));
		one->fd[0] = one->fd[1] = -1;
	}
	restore_begin(r);
}

/* ---- target ---- */

static int fill_pipe(int fds[2], const uint8_t *data, size_t len)
{
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	if (fcntl(fds[1], F_SETPIPE_SZ, CMAN_PIPE_SIZE) >= (int)len) {
		while (len) {
			ssize_t n = write(fds[1], data, len);

			if (n < 0)
				break;
			data += n;
			len -= (size_t)n;
		}
		if (!len)
			return 0;
	}
	close(fds[0]);
	close(fds[1]);
	return -ENOBUFS;
}

/* What lies between the legs goes to a buffer of the slot, or to a pipe if it is more. */
static int take_between(struct parcel_in *p, struct cman_wire_session *ws)
{
	bool kernel = tls_is_kernel(ws);

	for (int dir = 0; dir < 2; dir++) {
		int err;

		p->in_flight += ws->buffer_len[dir];
		if (!ws->buffer_len[dir] || (ws->buffer_len[dir] <= CMAN_BUFFER_SIZE && !kernel))
			continue;
		err = fill_pipe(&p->fds[p->nfds], ws->buffer[dir], ws->buffer_len[dir]);
		if (err)
			return err;
		p->nfds += 2;
		p->npipes++;
		ws->pipe[dir] = 1;
		ws->buffer[dir] = NULL;
		ws->buffer_len[dir] = 0;
	}
	return 0;
}

/*
 * On another host the guard is our own: nothing reaches sockets that are not live yet. Here the
 * source's is closed.
 */
static int close_guard(struct parcel_in *p, const char **why)
{
	struct cman_tuple tuples[2 * CMAN_BATCH];

	for (uint32_t k = 0; k < 2 * p->n; k++)
		tuples[k] = repair_tuple(&p->cargo->leg[k / 2][k % 2]);
	return p->peer->remote ? guard_park(p->m, tuples, 2 * p->n, p->id, why) : 0;
}

static void live(struct parcel_in *p)
{
	for (uint32_t k = 0; k < 2 * p->n && p->peer->remote; k++) {
		struct cman_tuple t = repair_tuple(&p->cargo->leg[k / 2][k % 2]);

		guard_open(p->m, NULL, &t, 1);
	}
}

static int take_session(struct parcel_in *p, uint32_t k, const char **why)
{
	int err;

	*why = "its TLS, for the engine that it gets here";
	err = tls_adapt(p->m, &p->session[k], p->cargo->leg[k], &p->cargo->state[k], &p->in_flight);
	if (err)
		return err;
	for (int l = 0; l < 2; l++) {
		err = cman_repair_import(&p->cargo->leg[k][l], NULL, &p->fds[p->nfds], why);
		if (err)
			return err;
		repair_speed(p->m, p->fds[p->nfds++], &p->cargo->leg[k][l]);
		CMAN_CRASH(REPAIR_IMPORTED);
	}
	*why = "bytes between the legs";
	return take_between(p, &p->session[k]);
}

static void discard(struct parcel_in *p)
{
	uint32_t at = 0;

	/* legs and pipes stand in one row; after a failure the last session is not whole */
	for (uint32_t k = 0; k < p->n && p->cargo; k++) {
		for (int l = 0; l < 2 && at < p->nfds; l++, at++) {
			repair_silence(p->fds[at]);
			p->fds[at] = -1;
		}
		at += 2u * (p->session[k].pipe[0] + p->session[k].pipe[1]);
	}
	if (p->cargo)
		live(p); /* open for whoever has the addresses */
}

static void forget(struct parcel_in *p)
{
	for (uint32_t k = 0; k < CMAN_BATCH && p->cargo; k++) {
		for (int l = 0; l < 2; l++)
			cman_image_drop(&p->cargo->leg[k][l]);
		if (p->cargo->state[k])
			cman_secret_free(p->cargo->state[k], p->session[k].tls_len);
	}
	if (p->cargo && p->data) /* images with TLS */
		cman_secret_wipe(p->data, p->cargo->len);
	free(p->cargo);
	p->cargo = NULL;
}

static int unpack(struct parcel_in *p, const struct cman_frame *f, int *fds, const char **why)
{
	struct cman_image_cursor cursor;
	struct cman_image_header header;
	uint64_t batch = 0, len = 0;
	uint32_t n = 0;
	int err;

	(void)fds;
	cman_frame_u64(f, CMAN_TAG_BATCH_ID, &batch);
	cman_frame_u64(f, CMAN_TAG_LENGTH, &len);
	cman_frame_u32(f, CMAN_TAG_COUNT, &n);
	*why = "its images did not arrive whole";
	p->data = peer_stream(p->peer, batch, len);
	if (!p->data)
		return -EBADMSG;
	*why = "out of memory";
	p->cargo = calloc(1, sizeof(*p->cargo));
	if (p->cargo)
		p->cargo->len = len;
	err = p->cargo ? cman_image_open(p->data, len, NULL, &header, &cursor, why) : -ENOMEM;
	if (!err && (header.batch != batch || header.count != n || n > CMAN_BATCH)) {
		*why = "its images are of another batch";
		err = -EBADMSG;
	}
	while (!err && p->n < n) {
		cman_image_next(&cursor, &p->session[p->n], p->cargo->leg[p->n]);
		p->n++;
	}
	if (!err)
		err = close_guard(p, why);
	for (uint32_t k = 0; !err && k < n; k++)
		err = take_session(p, k, why);
	if (!err)
		return 0;
	cman_warn("a batch cannot be imported", "batch=%016llx step=\"%s\" err=\"%s\"",
		  (unsigned long long)batch, *why, strerror(-err));
	discard(p);
	for (unsigned int k = 0; k < p->nfds; k++)
		if (p->fds[k] >= 0)
			close(p->fds[k]);
	forget(p);
	free(p->data);
	return err;
}

/* Under the guard of the source: nothing comes in until this side has said that it has them. */
static void wake(struct parcel_in *p)
{
	uint32_t at = 0;

	for (uint32_t k = 0; k < p->n; k++) {
		for (int l = 0; l < 2; l++, at++) {
			if (!repair_wake(p->fds[at], &p->cargo->leg[k][l], p->session[k].id,
					 l ? "server" : "client"))
				ktls_wake(p->c, p->slot[k], l, p->fds[at]);
			CMAN_CRASH(REPAIR_AWAKE);
		}
		at += 2u * (p->session[k].pipe[0] + p->session[k].pipe[1]);
	}
}

const struct carrier carrier_repair = {
	.name = "repair",
	.choice = CMAN_VIA_REPAIR,
	.batch = 8, /* about 0.1 ms each while all of them wait */
	.slot_flags = CMAN_SLOT_REPAIR,
	.freeze = freeze,
	.pack = pack,
	.thaw = thaw,
	.release = release,
	.unpack = unpack,
	.wake = wake,
	.live = live,
	.discard = discard,
	.forget = forget,
};
