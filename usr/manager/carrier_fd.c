/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fd carrier: the sockets themselves change hands, as descriptors that the keeper gives and
 * one BATCH frame takes along. Both sides then have duplicates of one socket, so the way back is
 * free, and closing one's own is seen by nobody.
 */
#include "usr/manager/carrier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "usr/core/session.h"
#include "usr/manager/peer.h"
#include "usr/manager/tls_move.h"
#include "usr/sys/crash.h"
#include "usr/sys/log.h"
#include "usr/sys/secret.h"
#include "usr/sys/sock.h"

/* ---- source ---- */

/* What lies between: where it is and how much, by the sockets' own counters. */
static void pack_flow(const struct parcel_out *p, const struct cman_slot *slot, int dir,
		      const struct cman_leg legs[2], struct cman_wire_session *ws)
{
	uint32_t bound = slot->bound[dir];
	struct cman_between between;

	ws->position[dir] = slot->flow[dir].position;
	ws->read_base[dir] = slot->flow[dir].read_base;
	ws->write_base[dir] = slot->flow[dir].write_base;
	if ((bound & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE)
		ws->pipe[dir] = 1;
	if ((bound & CMAN_BOUND_KIND) != CMAN_BOUND_BUFFER)
		return;
	if (cman_flow_between(&slot->flow[dir], bound, &legs[dir], &legs[!dir], &between))
		return; /* a reset meanwhile: the target finds out as we would */
	if (between.remain) {
		ws->buffer[dir] = p->c->buffers +
				  (size_t)(bound & CMAN_BOUND_INDEX) * CMAN_BUFFER_SIZE;
		ws->buffer_len[dir] = between.offset + between.remain;
	} else {
		ws->position[dir] = between.read;
	}
}

static int pack_session(const struct parcel_out *p, struct cman_frame_writer *w, uint32_t k,
			int client_fd, int server_fd, struct tls_box *box)
{
	const struct cman_slot *slot = &p->copy[k];
	struct cman_wire_session ws;
	struct tls_counts counts;
	struct cman_leg legs[2];
	int err = 0;

	parcel_describe(p, k, server_fd, &ws);
	/* only a bound buffer's bytes travel in the frame; the target reads the counters anyway */
	memset(legs, 0, sizeof(legs));
	if (((slot->bound[0] & CMAN_BOUND_KIND) == CMAN_BOUND_BUFFER ||
	     (slot->bound[1] & CMAN_BOUND_KIND) == CMAN_BOUND_BUFFER) &&
	    !cman_sock_counters(client_fd, false, &legs[0]) &&
	    cman_sock_counters(server_fd, !(slot->flags & CMAN_SLOT_SERVER_RESTORED), &legs[1]))
		memset(legs, 0, sizeof(legs));
	for (int dir = 0; dir < 2; dir++)
		pack_flow(p, slot, dir, legs, &ws);
	if (slot->tls) {
		err = tls_count(slot, client_fd, server_fd, &counts);
		if (!err)
			err = tls_box_add(box, p->c, p->slot[k], slot, &counts);
		if (err && err != -ENOMEM) /* a reset meanwhile: the target ends it */
			ws.flags |= CMAN_SLOT_RESET;
	}
	cman_frame_add_session(w, &ws);
	return err == -ENOMEM ? err : 0;
}

/* The last descriptor: nobody else ever sees what is in it. */
static int pack_tls(struct keeper_request *r, struct cman_frame_writer *w, struct tls_box *box)
{
	size_t size;
	int fd = tls_box_seal(box, &size);

	tls_box_free(box);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	cman_frame_add_u64(w, CMAN_TAG_TLS_STATE, size);
	r->fd[r->n++] = fd;
	return 0;
}

/* The batch stays here. */
static void give_up(struct parcel_out *p, const struct keeper_request *r, int err)
{
	cman_err("a batch could not be packed", "err=\"%s\"", strerror(-err));
	for (uint32_t k = 0; k < r->n; k++)
		close(r->fd[k]);
	source_pack_failed(p);
}

static void on_given(struct keeper_request *r, void *arg)
{
	struct parcel_out *p = arg;
	struct tls_box box = { .n = 0 };
	struct cman_frame_writer w;
	uint32_t at = 0, numbers[6];
	int err = 0;

	CMAN_CRASH(SOURCE_GIVEN);
	if (r->err) { /* no keeper at all: the cell is gone, and the sessions with it */
		give_up(p, r, r->err);
		return;
	}
	cman_frame_begin(&w, CMAN_FRAME_BATCH, 0);
	cman_frame_add_u64(&w, CMAN_TAG_BATCH_ID, p->id);
	cman_frame_add_u64(&w, CMAN_TAG_TIME_NS, p->frozen_ns);
	for (uint32_t k = 0; k < p->n && !err; k++) {
		err = pack_session(p, &w, k, r->fd[at], r->fd[at + 1], &box);
		at += parcel_numbers(p->c, &p->copy[k], numbers);
	}
	if (!err)
		err = pack_tls(r, &w, &box);
	if (err) {
		tls_box_free(&box);
		cman_frame_free(&w);
		give_up(p, r, err);
		return;
	}
	peer_send(p->peer, &w, r->fd, r->n);
	CMAN_CRASH(SOURCE_BATCH);
	for (uint32_t k = 0; k < r->n; k++)
		close(r->fd[k]);
}

static void pack(struct parcel_out *p)
{
	parcel_give(p, on_given);
}

static void on_thawed(struct order *o, void *arg)
{
	(void)o;
	source_thawed(arg);
}

static void thaw(struct parcel_out *p)
{
	parcel_order(p, CMAN_ORDER_THAW, on_thawed);
}

static void on_released(struct order *o, void *arg)
{
	(void)o;
	source_released(arg);
}

static void release(struct parcel_out *p)
{
	parcel_order(p, CMAN_ORDER_RELEASE, on_released);
}

/* ---- target ---- */

static int unpack(struct parcel_in *p, const struct cman_frame *f, int *fds, const char **why)
{
	struct cman_frame copy;
	size_t cursor = 0, len = CMAN_FRAME_HEADER + f->length;
	uint64_t size;

	*why = "out of memory";
	p->data = malloc(len);
	if (!p->data)
		return -ENOMEM;
	memcpy(p->data, f->payload - CMAN_FRAME_HEADER, len);
	if (cman_frame_parse(p->data, len, &copy, why)) {
		free(p->data);
		p->data = NULL;
		return -EBADMSG;
	}
	while (!cman_frame_next_session(&copy, &cursor, &p->session[p->n])) {
		const struct cman_wire_session *ws = &p->session[p->n++];

		p->npipes += ws->pipe[0] + ws->pipe[1];
	}
	p->nfds = f->nfds;
	if (!cman_frame_u64(f, CMAN_TAG_TLS_STATE, &size)) {
		int err = tls_box_open(fds[--p->nfds], size, p->session, p->n, &p->secret);

		if (err) {
			*why = "the TLS of its sessions cannot be read";
			free(p->data);
			p->data = NULL;
			return err;
		}
		p->secret_len = size;
		close(fds[p->nfds]);
	}
	memcpy(p->fds, fds, p->nfds * sizeof(*fds));
	for (unsigned int k = 0, at = 0; k < p->n; k++) {
		at += 2;
		for (int dir = 0; dir < 2; dir++) {
			int pending = 0;

			if (p->session[k].pipe[dir]) {
				if (!ioctl(p->fds[at], FIONREAD, &pending))
					p->in_flight += (uint64_t)pending;
				at += 2;
			}
			p->in_flight += p->session[k].buffer_len[dir];
		}
	}
	return 0;
}

static void nothing_in(struct parcel_in *p)
{
	(void)p;
}

static void forget(struct parcel_in *p)
{
	cman_secret_unmap(p->secret, p->secret_len);
	p->secret = NULL;
}

const struct carrier carrier_fd = {
	.name = "fd",
	.choice = CMAN_VIA_FD,
	.batch = 32, /* at most 6 descriptors each: 192 of the 252 that a frame can carry */
	.freeze = source_frozen,
	.pack = pack,
	.thaw = thaw,
	.release = release,
	.unpack = unpack,
	.wake = nothing_in,
	.live = nothing_in,
	.discard = nothing_in,
	.forget = forget,
};
