/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions whose records the kernel carries (usr/sys/ktls.h). Their sockets count ciphertext, so every
 * byte goes through a pipe, whose FIONREAD is what lies in between; recovery asks nothing else. A record
 * that is no data stops the splice: it is read by itself.
 *
 * KeyUpdate: where the kernel can replace keys (TLS 1.3, from 6.14) it gets the next one. Where it cannot,
 * the session ends with an alert; with engine = "auto" such a kernel does not get TLS 1.3 legs at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/gateway/internal.h"
#include "usr/sys/ktls.h"
#include "usr/sys/log.h"
#include "usr/sys/secret.h"
#include "usr/tls/keys.h"

#define ROUNDS	8
#define IN_TURN (256 * 1024) /* bytes read before they are written: a record a splice */

/* ---- keys ---- */

static int keys_of(struct gateway *g, uint32_t i, enum leg leg, int way, struct cman_ktls_keys *ret)
{
	const struct cman_tls_slot *slot = gw_tls_slot(g, i);
	struct cman_tls_half half;
	int err;

	cman_tls_slot_half(slot, leg, way, &half);
	err = cman_tls_keys_kernel(cman_tls_suite(slot->suite[leg]), &half, ret);
	cman_secret_wipe(&half, sizeof(half));
	return err;
}

/* Would the kernel take that leg, and may it? */
static bool is_for_kernel(struct gateway *g, uint32_t i, enum leg leg)
{
	const struct cman_slot *s = slot_of(g, i);
	uint8_t engine = gw_tls_engine(g, leg, leg == LEG_CLIENT ? s->listener : s->service);

	return cman_tls_for_kernel(cman_tls_suite(gw_tls_slot(g, i)->suite[leg]), engine,
				   g->instance->ktls, g->instance->ktls_rekey);
}

int gw_ktls_attach(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	int err = 0, attached = 0;

	for (int leg = 0; leg < 2; leg++)
		if (gw_has_tls(s, (enum leg)leg) && !is_for_kernel(g, i, (enum leg)leg))
			return -EOPNOTSUPP;
	for (int leg = 0; leg < 2 && !err; leg++) {
		struct cman_ktls_keys keys[2];

		if (!gw_has_tls(s, (enum leg)leg))
			continue;
		err = keys_of(g, i, (enum leg)leg, CMAN_TLS_TX, &keys[CMAN_TLS_TX]);
		if (!err)
			err = keys_of(g, i, (enum leg)leg, CMAN_TLS_RX, &keys[CMAN_TLS_RX]);
		if (!err)
			err = cman_ktls_attach(leg_fd(s, (enum leg)leg), &keys[CMAN_TLS_TX],
					       &keys[CMAN_TLS_RX]);
		cman_secret_wipe(keys, sizeof(keys));
		if (err)
			break;
		attached++;
		gw_tls_slot(g, i)->engine[leg] = CMAN_TLS_KERNEL;
	}
	if (!err)
		s->tls |= CMAN_SLOT_TLS_KERNEL;
	/* one leg cannot go back once it has the keys */
	return err && attached ? -EIO : err ? -EOPNOTSUPP : 0;
}

/* ---- control records ---- */

static void set_flag(struct gateway *g, uint32_t i, enum leg leg, uint8_t flag)
{
	struct cman_tls_slot *slot = gw_tls_slot(g, i);

	cman_tls_next(slot)->flags[leg] |= flag;
	cman_tls_commit(slot);
}

/* An answer to @leg: it goes with the direction that writes there. */
static void owe(struct gateway *g, uint32_t i, enum leg leg, uint8_t flag)
{
	set_flag(g, i, leg, flag);
	gw_queue(g, i, 1u << (leg == LEG_CLIENT ? CMAN_DOWN : CMAN_UP));
}

static uint8_t flags_of(struct gateway *g, uint32_t i, enum leg leg)
{
	return cman_tls_now(gw_tls_slot(g, i))->flags[leg];
}

/* The kernel first: a successor finds out by the key that it has. */
static int next_key(struct gateway *g, uint32_t i, enum leg leg, int way)
{
	struct cman_tls_slot *slot = gw_tls_slot(g, i);
	struct cman_tls_commit *next = cman_tls_next(slot);
	int err = cman_tls_keys_advance(slot, next, leg, way);
	struct cman_tls_half half = { .epoch = next->number[leg][way].epoch };
	struct cman_ktls_keys keys;

	if (err)
		return err;
	memcpy(half.secret, slot->secret[leg][way][half.epoch & 1], sizeof(half.secret));
	err = cman_tls_keys_kernel(cman_tls_suite(slot->suite[leg]), &half, &keys);
	if (!err)
		err = cman_ktls_rekey(leg_fd(slot_of(g, i), leg), way == CMAN_TLS_TX, &keys);
	CMAN_CRASH(KTLS_KEY);
	if (!err && way == CMAN_TLS_TX) {
		next->updating[leg] = 0;
		next->flags[leg] &= (uint8_t)~CMAN_TLS_UPDATE_OWED;
	}
	if (!err)
		cman_tls_commit(slot);
	cman_secret_wipe(&keys, sizeof(keys));
	cman_secret_wipe(&half, sizeof(half));
	return err;
}

/* Our KeyUpdate, and the key behind it. Which record it is to be is noted first: a successor sees whether it went out. */
static int send_update(struct gateway *g, uint32_t i, enum leg leg)
{
	struct cman_tls_slot *slot = gw_tls_slot(g, i);
	struct cman_tls_commit *next = cman_tls_next(slot);
	int fd = leg_fd(slot_of(g, i), leg);
	struct cman_ktls_keys tx, rx;
	int err = cman_ktls_flush(fd); /* else it would go out before, as another record */

	if (!err)
		err = cman_ktls_state(fd, &tx, &rx);
	if (err)
		return err;
	next->number[leg][CMAN_TLS_TX].seq = tx.seq;
	next->updating[leg] = 1;
	cman_tls_commit(slot);
	cman_secret_wipe(&tx, sizeof(tx));
	cman_secret_wipe(&rx, sizeof(rx));
	CMAN_CRASH(KTLS_UPDATE_NOTED);
	err = cman_ktls_send(fd, CMAN_TLS_HANDSHAKE, cman_tls_key_update, CMAN_TLS_KEY_UPDATE_LEN);
	CMAN_CRASH(KTLS_UPDATE_SENT);
	return err ? err : next_key(g, i, leg, CMAN_TLS_TX);
}

/* What is owed to @leg, before more data. 0, -EAGAIN, or -errno. */
static int send_owed(struct gateway *g, uint32_t i, enum leg leg)
{
	static const uint8_t refusal[] = { 1, CMAN_TLS_NO_RENEGOTIATION };
	struct cman_tls_slot *slot = gw_tls_slot(g, i);
	uint8_t owed = flags_of(g, i, leg);
	int err;

	if (owed & CMAN_TLS_CLOSE_SENT)
		return 0;
	if (owed & CMAN_TLS_REFUSAL_OWED) {
		err = cman_ktls_send(leg_fd(slot_of(g, i), leg), CMAN_TLS_ALERT, refusal,
				     sizeof(refusal));
		if (err)
			return err;
		cman_tls_next(slot)->flags[leg] &= (uint8_t)~CMAN_TLS_REFUSAL_OWED;
		cman_tls_commit(slot);
	}
	return owed & CMAN_TLS_UPDATE_OWED ? send_update(g, i, leg) : 0;
}

static void say(struct gateway *g, uint32_t i, enum leg leg, const char *why, int number)
{
	const struct cman_slot *s = slot_of(g, i);

	g->cell->tls_broken++;
	cman_info("a session with TLS cannot go on",
		  "session=%016llx service=%s leg=%s why=\"%s\" alert=%d",
		  (unsigned long long)s->id, g->env->maps.services[s->service].name,
		  leg == LEG_CLIENT ? "client" : "server", why, number);
}

static int refuse(struct gateway *g, uint32_t i, enum leg leg, uint8_t alert, const char *why)
{
	const uint8_t record[] = { 2, alert };

	say(g, i, leg, why, alert);
	cman_ktls_send(leg_fd(slot_of(g, i), leg), CMAN_TLS_ALERT, record, sizeof(record));
	return -EPROTO;
}

static int updated(struct gateway *g, uint32_t i, enum leg leg, bool requested)
{
	if (!g->instance->ktls_rekey)
		return refuse(g, i, leg, CMAN_TLS_INTERNAL_ERROR,
			      "a KeyUpdate, and this kernel cannot replace keys");
	if (requested)
		owe(g, i, leg, CMAN_TLS_UPDATE_OWED);
	return next_key(g, i, leg, CMAN_TLS_RX);
}

static int take_handshake(struct gateway *g, uint32_t i, enum leg leg, const uint8_t *data,
			  size_t len)
{
	struct cman_tls_slot *slot = gw_tls_slot(g, i);
	struct cman_tls_commit *next = cman_tls_next(slot);
	enum cman_tls_post_event event = cman_tls_post_feed(&next->post[leg], slot->version[leg],
							    leg == LEG_SERVER, data, len);

	cman_tls_commit(slot);
	switch (event) {
	case CMAN_TLS_POST_NOTHING:
		return 0;
	case CMAN_TLS_POST_UPDATE:
	case CMAN_TLS_POST_UPDATE_REQUESTED:
		return updated(g, i, leg, event == CMAN_TLS_POST_UPDATE_REQUESTED);
	case CMAN_TLS_POST_RENEGOTIATE:
		owe(g, i, leg, CMAN_TLS_REFUSAL_OWED);
		return 0;
	default:
		return refuse(g, i, leg, CMAN_TLS_UNEXPECTED_MESSAGE, "an unexpected message");
	}
}

static int take_alert(struct gateway *g, uint32_t i, enum leg leg, const uint8_t *data, size_t len)
{
	if (len == 2 && data[1] == CMAN_TLS_CLOSE_NOTIFY) {
		set_flag(g, i, leg, CMAN_TLS_CLOSE_RECEIVED);
		return 0;
	}
	if (len == 2 && (data[1] == CMAN_TLS_USER_CANCELED ||
			 (data[0] == 1 && gw_tls_slot(g, i)->version[leg] == CMAN_TLS_1_2)))
		return 0;
	say(g, i, leg, "the peer sent a fatal alert", len == 2 ? data[1] : -1);
	return -ECONNRESET;
}

/*
 * The next record of @leg is no data. 0: it was taken. What an alert says is noted before it is taken
 * out: else a successor finds the FIN behind a close_notify, and takes it for a cut.
 */
static int take_control(struct gateway *g, uint32_t i, enum leg leg)
{
	int fd = leg_fd(slot_of(g, i), leg), err = 0;
	uint8_t type;
	ssize_t n = cman_ktls_peek(fd, g->scratch, CMAN_TLS_RECORD_MAX, &type);

	if (n > 0 && type == CMAN_TLS_ALERT)
		err = take_alert(g, i, leg, g->scratch, (size_t)n);
	if (err)
		return err;
	n = cman_ktls_receive(fd, g->scratch, CMAN_TLS_RECORD_MAX, &type);
	CMAN_CRASH(KTLS_CONTROL);
	if (n == -EKEYEXPIRED) /* a predecessor took the KeyUpdate, and died */
		return updated(g, i, leg, true);
	if (n < 0)
		return (int)n;
	switch (type) {
	case CMAN_TLS_ALERT:
		return 0;
	case CMAN_TLS_HANDSHAKE:
		return take_handshake(g, i, leg, g->scratch, (size_t)n);
	default:
		return refuse(g, i, leg, CMAN_TLS_UNEXPECTED_MESSAGE,
			      "a record of an unexpected type");
	}
}

/* ---- data ---- */

/* Bytes that are bound now, as splice(2) says it for the first piece; 0 is EOF. */
static ssize_t read_bound(struct gateway *g, uint32_t i, int dir)
{
	struct cman_slot *s = slot_of(g, i);
	struct live *l = &g->live[i];
	int fd = leg_fd(s, dir == CMAN_UP ? LEG_CLIENT : LEG_SERVER);
	uint32_t pipe = gw_pipe_get(g);
	ssize_t n, sum = 0;

	if (pipe == NO_SLOT)
		return -ENOBUFS;
	set_bound(s, dir, CMAN_BOUND_PIPE | pipe);
	CMAN_CRASH(SPLICE_BOUND);
	do {
		n = splice(fd, NULL, g->env->pipes[pipe].wfd, NULL, CMAN_PIPE_SIZE,
			   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		CMAN_CRASH(SPLICE_IN);
		if (n > 0)
			sum += n;
	} while ((n > 0 && sum < IN_TURN) || (n < 0 && errno == EINTR));
	if (sum) {
		l->off[dir] = 0;
		l->len[dir] = (uint32_t)sum;
		return sum;
	}
	n = n < 0 ? -errno : 0;
	set_bound(s, dir, CMAN_BOUND_NONE);
	gw_pipe_put(g, pipe);
	return n;
}

/* close_notify to leg B, once. 0, -EAGAIN, or -errno. */
static int send_close(struct gateway *g, uint32_t i, enum leg to)
{
	static const uint8_t alert[] = { 1, CMAN_TLS_CLOSE_NOTIFY };
	int fd = leg_fd(slot_of(g, i), to), err;

	if (!gw_has_tls(slot_of(g, i), to) || (flags_of(g, i, to) & CMAN_TLS_CLOSE_SENT))
		return 0;
	err = cman_ktls_make_room(fd);
	if (!err)
		err = cman_ktls_send(fd, CMAN_TLS_ALERT, alert, sizeof(alert));
	if (!err)
		set_flag(g, i, to, CMAN_TLS_CLOSE_SENT);
	return err;
}

static int at_end(struct gateway *g, uint32_t i, int dir, bool clean)
{
	int err = clean ? send_close(g, i, dir == CMAN_UP ? LEG_SERVER : LEG_CLIENT) : 0;

	if (err)
		return err;
	if (!clean)
		gw_tls_truncated(g, i, dir);
	gw_tls_end(g, i, dir, !clean);
	return 1;
}

/* splice(2) has returned 0: the end, or a record of data that has none (RFC 8446, 5.1 allows it). */
static bool is_end(struct gateway *g, uint32_t i, enum leg from)
{
	uint8_t byte, type;

	return !gw_has_tls(slot_of(g, i), from) ||
	       cman_ktls_peek(leg_fd(slot_of(g, i), from), &byte, sizeof(byte), &type) == 0;
}

/* One piece. 0: go on; 1: the direction, or the session, is over; -EAGAIN of A; -ENOBUFS: no pipe. */
static int move(struct gateway *g, uint32_t i, int dir)
{
	struct cman_slot *s = slot_of(g, i);
	enum leg from = dir == CMAN_UP ? LEG_CLIENT : LEG_SERVER;
	bool tls = gw_has_tls(s, from);
	ssize_t n;

	if (tls && (flags_of(g, i, from) & CMAN_TLS_CLOSE_RECEIVED))
		return at_end(g, i, dir, true);
	n = read_bound(g, i, dir);
	if (n > 0)
		return 0;
	if (n == 0) {
		if (!is_end(g, i, from))
			return 0;
		CMAN_CRASH(EOF_READ);
		return at_end(g, i, dir, !tls);
	}
	if (tls && (n == -EINVAL || n == -EIO || n == -EKEYEXPIRED))
		return take_control(g, i, from);
	return (int)n;
}

void gw_ktls_pump(struct gateway *g, uint32_t i, int dir)
{
	struct cman_slot *s = slot_of(g, i);
	enum leg to = dir == CMAN_UP ? LEG_SERVER : LEG_CLIENT;
	uint8_t eof = dir == CMAN_UP ? CMAN_EOF_UP : CMAN_EOF_DOWN;

	if (gw_tls_memory(g)) {
		gw_reset(g, i);
		return;
	}
	if (s->active_s != g->now_s)
		s->active_s = g->now_s;
	for (int round = 0; round < ROUNDS; round++) {
		/* first, because an answer to a KeyUpdate precedes data (RFC 8446, 4.6.3) */
		int err = gw_has_tls(s, to) && !(s->eof & eof) ? send_owed(g, i, to) : 0;

		if (!err && s->bound[dir])
			err = gw_write_bound(g, i, dir);
		if (err == -EAGAIN) {
			if (gw_has_tls(s, to))
				cman_ktls_push(leg_fd(s, to));
			gw_wait_out(g, i, to);
			return;
		}
		if (!err && (s->eof & eof)) {
			gw_close_if_ended(g, i);
			return;
		}
		err = err ? -ECONNRESET : move(g, i, dir);
		if (err == 1)
			return;
		if (err == -EAGAIN) {
			/* of a full leg B, when its close_notify is due; else nothing is there */
			gw_wait_out(g, i, to);
			return;
		}
		if (err == -ENOBUFS) /* every pipe is in use: later */
			break;
		if (err) {
			gw_reset(g, i);
			return;
		}
	}
	gw_queue(g, i, 1u << dir);
}

/* ---- recovery ---- */

/* One way of a leg, of which the kernel has @now. */
static int recover_key(struct gateway *g, uint32_t i, enum leg leg, int way,
		       const struct cman_ktls_keys *now)
{
	struct cman_tls_slot *slot = gw_tls_slot(g, i);
	struct cman_tls_commit *next = cman_tls_next(slot);
	bool updating = way == CMAN_TLS_TX && next->updating[leg];
	struct cman_ktls_keys ours;
	int err = keys_of(g, i, leg, way, &ours);
	bool same = !err && !memcmp(ours.key, now->key, sizeof(ours.key));

	cman_secret_wipe(&ours, sizeof(ours));
	if (err || (same && !updating))
		return err;
	/* our KeyUpdate went out, and the key has not followed */
	if (same && now->seq > next->number[leg][way].seq)
		return next_key(g, i, leg, way);
	if (!same) /* it has the next one already */
		err = cman_tls_keys_advance(slot, next, leg, way);
	if (!err && updating) {
		next->updating[leg] = 0;
		if (!same)
			next->flags[leg] &= (uint8_t)~CMAN_TLS_UPDATE_OWED;
	}
	if (!err)
		cman_tls_commit(slot);
	return err;
}

int gw_ktls_recover(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	int err = 0;

	if (!g->instance->ktls_rekey)
		return 0;
	for (int leg = 0; leg < 2 && !err; leg++) {
		struct cman_ktls_keys now[2];

		if (!gw_has_tls(s, (enum leg)leg))
			continue;
		err = cman_ktls_state(leg_fd(s, (enum leg)leg), &now[CMAN_TLS_TX],
				      &now[CMAN_TLS_RX]);
		for (int way = 0; way < 2 && !err; way++)
			err = recover_key(g, i, (enum leg)leg, way, &now[way]);
		cman_secret_wipe(now, sizeof(now));
	}
	return err;
}
