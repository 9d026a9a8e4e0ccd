/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See tls_move.h. The numbers of records move with the keys, and nobody else has them meanwhile: the
 * source's gateway has stopped, the target's has not begun.
 */
#include "usr/manager/tls_move.h"

#include <errno.h>
#include <string.h>

#include "usr/core/session.h"
#include "usr/sys/secret.h"
#include "usr/sys/sock.h"
#include "usr/sys/tls_cell.h"
#include "usr/tls/engine.h"

int tls_count(const struct cman_slot *copy, int client_fd, int server_fd, struct tls_counts *ret)
{
	struct cman_leg legs[2];
	int err = cman_sock_counters(client_fd, false, &legs[0]);

	if (!err)
		err = cman_sock_counters(server_fd, !(copy->flags & CMAN_SLOT_SERVER_RESTORED),
					 &legs[1]);
	for (int dir = 0; dir < 2 && !err; dir++) {
		const struct cman_flow *flow = &copy->flow[dir];

		ret->read[dir] = cman_leg_read(&legs[dir]) + (uint64_t)flow->read_base;
		ret->written[dir] = cman_leg_written(&legs[!dir]) + (uint64_t)flow->write_base;
	}
	return err;
}

static int export_session(uint8_t *memory, uint32_t nslots, uint32_t slot,
			  const struct cman_slot *copy, const struct tls_counts *counts,
			  struct cman_tls_session *ret)
{
	if (!memory || cman_tls_slot_at(memory, slot)->id != copy->id)
		return -EILSEQ;
	return cman_tls_slot_export(memory, nslots, slot, counts->read, counts->written, ret);
}

int tls_export(struct cell *c, uint32_t slot, const struct cman_slot *copy,
	       const struct tls_counts *counts, uint8_t **ret, uint32_t *ret_len)
{
	struct cman_tls_session session;
	size_t size;
	int err;

	*ret = NULL;
	*ret_len = 0;
	if (!copy->tls)
		return 0;
	err = export_session(c->secret, c->m->maps.slots_per_cell, slot, copy, counts, &session);
	if (err)
		goto out;
	size = cman_tls_session_size(&session);
	*ret = cman_secret_alloc(size);
	err = *ret ? cman_tls_session_encode(&session, *ret, size) : -ENOMEM;
	if (err) {
		cman_secret_free(*ret, size);
		*ret = NULL;
	} else {
		*ret_len = (uint32_t)size;
	}
out:
	cman_secret_wipe(&session, sizeof(session));
	return err;
}

int tls_box_add(struct tls_box *box, struct cell *c, uint32_t slot, const struct cman_slot *copy,
		const struct tls_counts *counts)
{
	uint8_t *state;
	uint32_t len;
	int err = tls_export(c, slot, copy, counts, &state, &len);

	if (err || !state)
		return err;
	box->state[box->n] = state;
	box->len[box->n] = len;
	box->id[box->n++] = copy->id;
	return 0;
}

int tls_box_seal(const struct tls_box *box, size_t *ret_size)
{
	size_t size = 0, used = 0;
	uint8_t *data;
	int err = 0;

	if (!box->n)
		return -ENOENT;
	for (uint32_t k = 0; k < box->n; k++)
		size += CMAN_TLS_BOX_ENTRY + box->len[k];
	data = cman_secret_alloc(size);
	if (!data)
		return -ENOMEM;
	for (uint32_t k = 0; !err && k < box->n; k++)
		err = cman_tls_box_add(data, size, &used, box->id[k], box->state[k], box->len[k]);
	if (!err)
		err = cman_secret_seal("cman-tls-state", data, size);
	cman_secret_free(data, size);
	*ret_size = size;
	return err;
}

void tls_box_free(struct tls_box *box)
{
	for (uint32_t k = 0; k < box->n; k++)
		cman_secret_free(box->state[k], box->len[k]);
	box->n = 0;
}

int tls_box_open(int fd, size_t size, struct cman_wire_session *sessions, uint32_t n,
		 uint8_t **ret_map)
{
	size_t cursor = 0, len, mapped;
	const uint8_t *state;
	uint32_t k = 0;
	uint64_t id;
	void *map;
	int err;

	err = cman_secret_open(fd, CMAN_BATCH * (CMAN_TLS_BOX_ENTRY + CMAN_TLS_STATE_MAX), &map,
			       &mapped);
	if (err)
		return err;
	if (mapped != size) {
		cman_secret_unmap(map, mapped);
		return -EBADMSG;
	}
	while (!(err = cman_tls_box_next(map, size, &cursor, &id, &state, &len))) {
		while (k < n && sessions[k].id != id)
			k++;
		if (k == n) {
			err = -EBADMSG;
			break;
		}
		sessions[k].tls = state;
		sessions[k].tls_len = (uint32_t)len;
	}
	if (err != -ENOENT) {
		cman_secret_unmap(map, size);
		return err;
	}
	*ret_map = map;
	return 0;
}

static bool is_name(const char *name, const char *text, size_t len)
{
	return strlen(name) == len && !memcmp(name, text, len);
}

static bool is_kernel(const struct cman_tls_session *s)
{
	return s->leg[0].engine == CMAN_TLS_KERNEL || s->leg[1].engine == CMAN_TLS_KERNEL;
}

bool tls_is_kernel(const struct cman_wire_session *ws)
{
	struct cman_tls_session session;
	const char *why;
	bool kernel;

	if (!ws->tls || cman_tls_session_decode(ws->tls, ws->tls_len, &session, &why))
		return false;
	kernel = is_kernel(&session);
	cman_secret_wipe(&session, sizeof(session));
	return kernel;
}

/* ---- another engine ---- */

static enum cman_tls_engine configured(const struct manager *m, const struct cman_wire_session *ws,
				       int leg)
{
	const struct cman_instance_conf *ic = m->ic;

	for (uint32_t i = 0; leg == 0 && i < ic->nlisteners; i++)
		if (is_name(ic->listener[i].name, ws->listener, ws->listener_len))
			return ic->listener[i].tls.engine;
	for (uint32_t i = 0; leg == 1 && i < ic->nservices; i++)
		if (is_name(ic->service[i].name, ws->service, ws->service_len))
			return ic->service[i].tls.engine;
	return CMAN_TLS_NONE;
}

/* Would it get the kernel's engine if it began here now? One for all of its legs. */
static bool is_for_kernel(const struct manager *m, const struct cman_wire_session *ws,
			  const struct cman_tls_session *s)
{
	const struct cman_instance *in = m->maps.instance;

	for (int leg = 0; leg < 2; leg++) {
		if (s->leg[leg].engine &&
		    !cman_tls_for_kernel(cman_tls_suite(s->leg[leg].suite), configured(m, ws, leg),
					 in->ktls, in->ktls_rekey))
			return false;
	}
	return true;
}

static int encode(const struct cman_tls_session *s, struct cman_wire_session *ws,
		  uint8_t **ret_state)
{
	size_t size = cman_tls_session_size(s);
	uint8_t *state = cman_secret_alloc(size);
	int err = state ? cman_tls_session_encode(s, state, size) : -ENOMEM;

	if (err) {
		cman_secret_free(state, size);
		return err;
	}
	ws->tls = *ret_state = state;
	ws->tls_len = (uint32_t)size;
	return 0;
}

/* The counters of the new sockets begin with their queues: all of the one is unread, of the other written. */
static void begin_flows(struct cman_wire_session *ws, const struct cman_repair_image leg[2],
			uint64_t *bytes)
{
	for (int dir = 0; dir < 2; dir++) {
		*bytes += ws->buffer_len[dir];
		ws->buffer[dir] = NULL;
		ws->buffer_len[dir] = 0;
		ws->read_base[dir] = 0;
		ws->write_base[dir] = -(int64_t)leg[!dir].out.len;
	}
}

static int to_user(struct cman_wire_session *ws, struct cman_tls_session *s,
		   struct cman_repair_image leg[2], uint64_t *bytes)
{
	int err = cman_tls_to_user(s, leg, ws->buffer, ws->buffer_len);

	if (!err)
		begin_flows(ws, leg, bytes);
	return err;
}

static int to_kernel(struct cman_tls_session *s, struct cman_repair_image leg[2], uint64_t *bytes)
{
	for (int dir = 0; dir < 2; dir++)
		*bytes += s->flow[dir].in_len + s->flow[dir].out_len;
	return cman_tls_to_kernel(s, leg);
}

int tls_adapt(struct manager *m, struct cman_wire_session *ws, struct cman_repair_image leg[2],
	      uint8_t **ret_state, uint64_t *bytes)
{
	struct cman_tls_session session;
	bool changed = true, wanted;
	const char *why;
	int err;

	*ret_state = NULL;
	if (!ws->tls)
		return 0;
	err = cman_tls_session_decode(ws->tls, ws->tls_len, &session, &why);
	if (err)
		return err;
	wanted = is_for_kernel(m, ws, &session);
	if (is_kernel(&session) && !wanted)
		err = to_user(ws, &session, leg, bytes);
	else if (!is_kernel(&session) && wanted && cman_tls_fits_kernel(&session, leg))
		err = to_kernel(&session, leg, bytes);
	else
		changed = false;
	if (!err && changed)
		err = encode(&session, ws, ret_state);
	cman_secret_wipe(&session, sizeof(session));
	return err;
}

int tls_fill(struct cell *c, uint32_t slot, struct cman_slot *s, const struct cman_wire_session *ws,
	     uint64_t *bytes)
{
	struct cman_tls_session session;
	const char *why;
	int err;

	if (!ws->tls)
		return 0;
	err = c->secret ? cman_tls_session_decode(ws->tls, ws->tls_len, &session, &why) : -ENOMEM;
	if (err)
		return err;
	err = cman_tls_slot_import(c->secret, c->m->maps.slots_per_cell, slot, ws->id, &session);
	for (int dir = 0; !err && dir < 2; dir++)
		*bytes += session.flow[dir].in_len + session.flow[dir].out_len;
	for (int leg = 0; !err && leg < 2; leg++) {
		if (!session.leg[leg].engine)
			continue;
		s->tls |= leg ? CMAN_SLOT_TLS_SERVER : CMAN_SLOT_TLS_CLIENT;
		if (session.leg[leg].engine == CMAN_TLS_KERNEL)
			s->tls |= CMAN_SLOT_TLS_KERNEL;
	}
	cman_secret_wipe(&session, sizeof(session));
	return err;
}

int tls_copy(uint8_t *memory, uint32_t nslots, uint32_t slot, const struct cman_slot *copy,
	     const struct tls_counts *counts, struct cell *c, uint32_t to)
{
	struct cman_tls_session session;
	int err = c->secret ? export_session(memory, nslots, slot, copy, counts, &session) :
			      -ENOMEM;

	if (!err)
		err = cman_tls_slot_import(c->secret, c->m->maps.slots_per_cell, to, copy->id,
					   &session);
	cman_secret_wipe(&session, sizeof(session));
	return err;
}
