/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving bytes through the record engine. One pump of one direction, from leg A to leg B:
 *
 *	recv into in[] -> open and seal into out[]: one transaction -> send out of out[]
 *
 * What was read and what was written is in the sockets' counters, the step in between is one store (see
 * usr/sys/tls_cell.h): a gateway may be killed anywhere. A leg without TLS takes part as it is: then its
 * side of the transaction is a copy.
 *
 * The end of a direction: close_notify and FIN belong together on a leg with TLS. A FIN without
 * close_notify is a truncation: it reaches a leg with TLS as the same, and a leg without as a reset, once
 * all that came before has been acknowledged. Fatal alerts, bad records: the session is reset.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "usr/core/session.h"
#include "usr/gateway/internal.h"
#include "usr/sys/log.h"
#include "usr/sys/secret.h"
#include "usr/tls/keys.h"
#include "usr/tls/record.h"

#define ROUNDS	     8
#define CONTROL_ROOM 256 /* in out[], for an alert and a KeyUpdate */
#define READ_RECORDS 4	 /* with one call: as many of the longest as out[] takes at once */

/* One transaction of one direction while it is made. */
struct turn {
	struct gateway *g;
	uint32_t i;
	int dir;
	enum leg from, to;
	struct gw_tls *t;
	struct cman_tls_slot *slot;
	struct cman_tls_commit *next; /* what will hold */
	uint8_t *in, *out;
	uint64_t content; /* bytes that were opened, or sealed */
	bool again;	  /* there is more in in[] that could be opened or sealed */
	bool tls_from, tls_to;
	uint8_t alert; /* after an error: for the leg that it came from */
	uint8_t got_alert;
	const char *why;
};

/* ---- ciphers ---- */

static struct cman_tls_cipher *cipher_of(struct turn *u, enum leg leg, int way)
{
	struct cman_tls_cipher *c = u->t->cipher[leg][way];
	struct cman_tls_half half;

	if (c)
		return c;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	cman_tls_slot_half(u->slot, leg, way, &half);
	half.epoch = u->next->number[leg][way].epoch;
	memcpy(half.secret, u->slot->secret[leg][way][half.epoch & 1], sizeof(half.secret));
	if (cman_tls_cipher_init(c, cman_tls_suite(u->slot->suite[leg]), &half,
				 way == CMAN_TLS_TX)) {
		free(c);
		c = NULL;
	}
	cman_secret_wipe(&half, sizeof(half));
	u->t->cipher[leg][way] = c;
	return c;
}

/* The next key of one way, in @next. The secret goes where the one before the present was. */
static int next_key(struct turn *u, enum leg leg, int way)
{
	struct cman_tls_cipher **c = &u->t->cipher[leg][way];

	if (*c) {
		cman_tls_cipher_fini(*c);
		free(*c);
		*c = NULL;
	}
	return cman_tls_keys_advance(u->slot, u->next, leg, way);
}

/* ---- sealing ---- */

static uint32_t room(const struct turn *u)
{
	return CMAN_TLS_OUT_SIZE - u->next->flow[u->dir].out_len;
}

/* One record at the end of out[]: there is room. */
static int put(struct turn *u, uint8_t type, const uint8_t *data, size_t len)
{
	struct cman_tls_position *p = &u->next->flow[u->dir];
	struct cman_tls_cipher *c = cipher_of(u, u->to, CMAN_TLS_TX);
	size_t n;
	int err;

	if (!c)
		return -ENOMEM;
	err = cman_tls_record_seal(c, u->next->number[u->to][CMAN_TLS_TX].seq, type, data, len,
				   u->out + p->out_len, &n);
	if (err)
		return err;
	u->next->number[u->to][CMAN_TLS_TX].seq++;
	if (type == CMAN_TLS_DATA)
		u->content += len;
	p->out_len += (uint32_t)n;
	return 0;
}

static int put_alert(struct turn *u, uint8_t level, uint8_t description)
{
	const uint8_t alert[2] = { level, description };

	return put(u, CMAN_TLS_ALERT, alert, sizeof(alert));
}

/* What is owed to the leg that this direction writes to, before any data. */
static int put_owed(struct turn *u)
{
	uint8_t *flags = &u->next->flags[u->to];
	uint64_t seq = u->next->number[u->to][CMAN_TLS_TX].seq;
	bool tls13 = u->slot->version[u->to] == CMAN_TLS_1_3;
	int err = 0;

	if (!u->tls_to || (*flags & CMAN_TLS_CLOSE_SENT))
		return 0;
	if (*flags & CMAN_TLS_REFUSAL_OWED)
		err = put_alert(u, 1, CMAN_TLS_NO_RENEGOTIATION);
	if (!err && tls13 && (*flags & CMAN_TLS_UPDATE_OWED || seq >= CMAN_TLS_REKEY_RECORDS)) {
		err = put(u, CMAN_TLS_HANDSHAKE, cman_tls_key_update, CMAN_TLS_KEY_UPDATE_LEN);
		if (!err)
			err = next_key(u, u->to, CMAN_TLS_TX);
	}
	*flags &= (uint8_t) ~(CMAN_TLS_UPDATE_OWED | CMAN_TLS_REFUSAL_OWED);
	return err;
}

/* The last record of the direction. */
static int put_close(struct turn *u)
{
	if (!u->tls_to || (u->next->flags[u->to] & CMAN_TLS_CLOSE_SENT))
		return 0;
	u->next->flags[u->to] |= CMAN_TLS_CLOSE_SENT;
	return put_alert(u, 1, CMAN_TLS_CLOSE_NOTIFY);
}

/* ---- opening ---- */

static int refuse(struct turn *u, uint8_t alert, const char *why)
{
	u->alert = alert;
	u->why = why;
	return -EPROTO;
}

static int take_alert(struct turn *u, const uint8_t *data, size_t len)
{
	if (len != 2)
		return refuse(u, CMAN_TLS_DECODE_ERROR, "an alert of a wrong length");
	if (data[1] == CMAN_TLS_CLOSE_NOTIFY) {
		u->next->flags[u->from] |= CMAN_TLS_CLOSE_RECEIVED;
		return put_close(u);
	}
	/* in TLS 1.3 all others are fatal, whatever they say (RFC 8446, 6) */
	if (data[1] == CMAN_TLS_USER_CANCELED ||
	    (data[0] == 1 && u->slot->version[u->from] == CMAN_TLS_1_2))
		return 0;
	u->got_alert = data[1];
	u->why = "the peer sent a fatal alert";
	return -ECONNRESET;
}

static int take_handshake(struct turn *u, const uint8_t *data, size_t len)
{
	uint8_t *flags = &u->next->flags[u->from];

	switch (cman_tls_post_feed(&u->next->post[u->from], u->slot->version[u->from],
				   u->from == LEG_SERVER, data, len)) {
	case CMAN_TLS_POST_NOTHING:
		return 0;
	case CMAN_TLS_POST_UPDATE_REQUESTED:
		*flags |= CMAN_TLS_UPDATE_OWED;
		u->again = true;
		return next_key(u, u->from, CMAN_TLS_RX);
	case CMAN_TLS_POST_UPDATE:
		u->again = true;
		return next_key(u, u->from, CMAN_TLS_RX);
	case CMAN_TLS_POST_RENEGOTIATE:
		*flags |= CMAN_TLS_REFUSAL_OWED;
		return 0;
	case CMAN_TLS_POST_MALFORMED:
		return refuse(u, CMAN_TLS_DECODE_ERROR, "a malformed message");
	default:
		return refuse(u, CMAN_TLS_UNEXPECTED_MESSAGE, "an unexpected message");
	}
}

/* Data goes to out[] as it is when leg B has no TLS: it was opened there already. */
static int take_data(struct turn *u, const uint8_t *data, size_t len)
{
	if (cman_tls_post_pending(&u->next->post[u->from]))
		return refuse(u, CMAN_TLS_UNEXPECTED_MESSAGE, "data within another message");
	if (!len)
		return 0;
	if (u->tls_to)
		return put(u, CMAN_TLS_DATA, data, len);
	u->next->flow[u->dir].out_len += (uint32_t)len;
	u->content += len;
	return 0;
}

static int open_record(struct turn *u, const uint8_t *record, size_t len)
{
	struct cman_tls_cipher *c = cipher_of(u, u->from, CMAN_TLS_RX);
	struct cman_tls_position *p = &u->next->flow[u->dir];
	uint8_t *to = u->tls_to ? u->g->scratch : u->out + p->out_len;
	uint8_t type;
	size_t n;
	int err;

	if (!c)
		return -ENOMEM;
	err = cman_tls_record_open(c, u->next->number[u->from][CMAN_TLS_RX].seq, record, len, to,
				   CMAN_TLS_RECORD_MAX, &n, &type);
	if (err == -EBADMSG)
		return refuse(u, CMAN_TLS_BAD_RECORD_MAC, "a record was changed on its way");
	if (err == -EMSGSIZE)
		return refuse(u, CMAN_TLS_RECORD_OVERFLOW, "a record is too long");
	if (err)
		return refuse(u, CMAN_TLS_UNEXPECTED_MESSAGE, "a malformed record");
	u->next->number[u->from][CMAN_TLS_RX].seq++;
	switch (type) {
	case CMAN_TLS_DATA:
		return take_data(u, to, n);
	case CMAN_TLS_ALERT:
		return take_alert(u, to, n);
	case CMAN_TLS_HANDSHAKE:
		return take_handshake(u, to, n);
	default:
		return refuse(u, CMAN_TLS_UNEXPECTED_MESSAGE, "a record of an unexpected type");
	}
}

/* Whole records, as long as there is room for the longest. */
static int open_all(struct turn *u)
{
	struct cman_tls_position *p = &u->next->flow[u->dir];
	uint32_t in_len = u->t->in_len[u->dir];
	int err = 0;

	while (!err && room(u) >= CMAN_TLS_RECORD_MAX + CONTROL_ROOM &&
	       !(u->next->flags[u->from] & CMAN_TLS_CLOSE_RECEIVED)) {
		const uint8_t *record = u->in + p->in_used;
		int len = cman_tls_record_look(record, in_len - p->in_used, NULL);

		if (len < 0)
			return len == -EMSGSIZE ?
				       refuse(u, CMAN_TLS_RECORD_OVERFLOW, "a record is too long") :
				       refuse(u, CMAN_TLS_DECODE_ERROR, "no TLS record");
		if (!len || (uint32_t)len > in_len - p->in_used)
			return 0;
		err = open_record(u, record, (size_t)len);
		p->in_used += (uint32_t)len;
		/* one new key at a time: the one that holds must stay until the commit */
		if (u->again)
			return err;
	}
	u->again = true;
	if (u->next->flags[u->from] & CMAN_TLS_CLOSE_RECEIVED)
		p->in_used = in_len; /* what follows does not count (RFC 8446, 6.1) */
	return err;
}

static int seal_all(struct turn *u)
{
	struct cman_tls_position *p = &u->next->flow[u->dir];
	uint32_t in_len = u->t->in_len[u->dir];
	int err = 0;

	while (!err && p->in_used < in_len && room(u) >= CMAN_TLS_RECORD_MAX + CONTROL_ROOM) {
		uint32_t n = in_len - p->in_used;

		if (n > CMAN_TLS_PLAIN_MAX)
			n = CMAN_TLS_PLAIN_MAX;
		err = put(u, CMAN_TLS_DATA, u->in + p->in_used, n);
		p->in_used += n;
	}
	u->again = p->in_used < in_len;
	return err;
}

/* ---- a transaction ---- */

static void turn_init(struct turn *u, struct gateway *g, uint32_t i, int dir, struct gw_tls *t)
{
	const struct cman_slot *s = slot_of(g, i);

	*u = (struct turn){
		.g = g,
		.i = i,
		.dir = dir,
		.from = dir == CMAN_UP ? LEG_CLIENT : LEG_SERVER,
		.to = dir == CMAN_UP ? LEG_SERVER : LEG_CLIENT,
		.t = t,
		.slot = gw_tls_slot(g, i),
		.in = cman_tls_in(g->secret, g->nslots, i, dir),
		.out = cman_tls_out(g->secret, g->nslots, i, dir),
		.why = "",
	};
	u->tls_from = gw_has_tls(s, u->from);
	u->tls_to = gw_has_tls(s, u->to);
}

/* out[] is empty: what comes next begins where W is. */
static void turn_begin(struct turn *u)
{
	struct cman_tls_position *p;

	u->next = cman_tls_next(u->slot);
	p = &u->next->flow[u->dir];
	p->out_base += p->out_len;
	p->out_len = 0;
}

static void turn_commit(struct turn *u)
{
	struct live *l = &u->g->live[u->i];
	struct cman_tls_position *p = &u->next->flow[u->dir];
	uint8_t *owed = &u->next->flags[u->from];

	if (p->in_used == u->t->in_len[u->dir]) {
		p->in_base += p->in_used;
		p->in_used = u->t->in_len[u->dir] = 0;
	}
	CMAN_CRASH(TLS_SEALED);
	cman_tls_commit(u->slot);
	CMAN_CRASH(TLS_COMMITTED);
	/* for people, as are the cell's bytes: nothing depends on it */
	slot_of(u->g, u->i)->flow[u->dir].position += u->content;
	u->g->cell->bytes[u->dir] += u->content;
	u->content = 0;
	l->off[u->dir] = 0;
	l->len[u->dir] = p->out_len;
	if (u->tls_from && (*owed & (CMAN_TLS_UPDATE_OWED | CMAN_TLS_REFUSAL_OWED)))
		gw_queue(u->g, u->i, 1u << !u->dir);
}

/* Everything that can be opened and sealed now. 0, or -errno and the session cannot go on. */
static int transform(struct turn *u)
{
	const struct cman_tls_commit *now = cman_tls_now(u->slot);
	const uint8_t owed = CMAN_TLS_UPDATE_OWED | CMAN_TLS_REFUSAL_OWED;
	int err;

	if (u->t->in_len[u->dir] == now->flow[u->dir].in_used &&
	    !(u->tls_to && (now->flags[u->to] & owed)))
		return 0;
	turn_begin(u);
	err = put_owed(u);
	if (!err)
		err = u->tls_from ? open_all(u) : seal_all(u);
	if (!err && (u->next->flow[u->dir].in_used != now->flow[u->dir].in_used ||
		     u->next->flow[u->dir].out_len))
		turn_commit(u);
	return err;
}

/*
 * How many bytes the next read is for. What is there already, the beginning of a record, counts: so a read
 * ends where the one before did, and the same number of whole records is there each time.
 */
static uint32_t wanted(const struct turn *u)
{
	uint32_t rest = u->t->in_len[u->dir] - cman_tls_now(u->slot)->flow[u->dir].in_used;

	return u->tls_from ? READ_RECORDS * CMAN_TLS_RECORD_MAX - rest :
			     READ_RECORDS * CMAN_TLS_PLAIN_MAX;
}

/* The rest of a record moves to the front, so that the next read has room behind. */
static void compact(struct turn *u)
{
	struct cman_tls_position *p;
	uint32_t rest;

	static_assert(CMAN_TLS_IN_SIZE >= (READ_RECORDS + 1) * CMAN_TLS_RECORD_MAX, "see below");
	if (CMAN_TLS_IN_SIZE - u->t->in_len[u->dir] >= wanted(u))
		return;
	turn_begin(u);
	p = &u->next->flow[u->dir];
	rest = u->t->in_len[u->dir] - p->in_used;
	/* less than a record, and behind more than one: the two do not overlap */
	memcpy(u->in, u->in + p->in_used, rest);
	p->in_base += p->in_used;
	p->in_used = 0;
	CMAN_CRASH(TLS_MOVED);
	cman_tls_commit(u->slot);
	u->t->in_len[u->dir] = rest;
}

/* ---- the sockets ---- */

static int write_out(struct turn *u)
{
	struct live *l = &u->g->live[u->i];
	int fd = leg_fd(slot_of(u->g, u->i), u->to);

	while (l->len[u->dir]) {
		ssize_t n = send(fd, u->out + l->off[u->dir], l->len[u->dir],
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		CMAN_CRASH(TLS_SENT);
		l->off[u->dir] += (uint32_t)n;
		l->len[u->dir] -= (uint32_t)n;
	}
	return 0;
}

/* *ret_more: there may be more, which gives no further edge. */
static ssize_t read_in(struct turn *u, bool *ret_more)
{
	uint32_t *in_len = &u->t->in_len[u->dir];
	uint32_t want = wanted(u);
	ssize_t n;

	do
		n = recv(leg_fd(slot_of(u->g, u->i), u->from), u->in + *in_len, want, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	CMAN_CRASH(TLS_READ);
	if (n < 0)
		return -errno;
	*in_len += (uint32_t)n;
	*ret_more = n == (ssize_t)want;
	return n;
}

/* ---- the end of a direction ---- */

static void failed(struct turn *u, int err)
{
	struct cman_slot *s = slot_of(u->g, u->i);
	bool idle = !u->g->live[u->i].len[!u->dir] && gw_has_tls(s, u->from);

	u->g->cell->tls_broken++;
	cman_info("a session with TLS cannot go on",
		  "session=%016llx service=%s leg=%s why=\"%s\" alert=%u err=%d",
		  (unsigned long long)s->id, u->g->env->maps.services[s->service].name,
		  u->from == LEG_CLIENT ? "client" : "server", u->why,
		  u->alert ? u->alert : u->got_alert, err);
	if (u->alert && idle) { /* the way back is between two records: the peer may be told */
		struct turn back;

		turn_init(&back, u->g, u->i, !u->dir, u->t);
		turn_begin(&back);
		if (!(back.next->flags[back.to] & CMAN_TLS_CLOSE_SENT) &&
		    !put_alert(&back, 2, u->alert)) {
			turn_commit(&back);
			write_out(&back);
		}
	}
	gw_reset(u->g, u->i);
}

/* A's FIN. */
static int at_eof(struct turn *u)
{
	if (!u->tls_from && u->tls_to &&
	    !(cman_tls_now(u->slot)->flags[u->to] & CMAN_TLS_CLOSE_SENT)) {
		int err;

		turn_begin(u);
		err = put_owed(u);
		if (!err)
			err = put_close(u);
		if (err)
			return err;
		turn_commit(u);
	}
	if (u->tls_from)
		gw_tls_truncated(u->g, u->i, u->dir);
	return 0;
}

/* Everything from A is in out[] or beyond: its close_notify was read, or its FIN. */
static bool is_over(const struct turn *u)
{
	return u->tls_from ? cman_tls_now(u->slot)->flags[u->from] & CMAN_TLS_CLOSE_RECEIVED :
			     cman_tls_now(u->slot)->flags[u->to] & CMAN_TLS_CLOSE_SENT;
}

void gw_tls_pump(struct gateway *g, uint32_t i, int dir, bool greedy)
{
	struct cman_slot *s = slot_of(g, i);
	uint8_t eof = dir == CMAN_UP ? CMAN_EOF_UP : CMAN_EOF_DOWN;
	struct gw_tls *t = gw_tls_get(g, i);
	struct turn u;

	if (!t) {
		gw_reset(g, i);
		return;
	}
	if (s->active_s != g->now_s)
		s->active_s = g->now_s;
	turn_init(&u, g, i, dir, t);
	for (int round = 0; round < ROUNDS; round++) {
		bool more = false;
		ssize_t n;
		int err = write_out(&u);

		if (err == -EAGAIN) {
			gw_wait_out(g, i, u.to);
			return;
		}
		if (err) {
			gw_reset(g, i);
			return;
		}
		if (s->eof & eof) {
			gw_close_if_ended(g, i);
			return;
		}
		if (is_over(&u)) {
			gw_tls_end(g, i, dir, false);
			return;
		}
		u.again = false;
		err = transform(&u);
		if (err) {
			failed(&u, err);
			return;
		}
		if (g->live[i].len[dir] || u.again || is_over(&u))
			continue;
		compact(&u);
		n = read_in(&u, &more);
		if (n == -EAGAIN)
			return;
		if (n < 0) {
			gw_reset(g, i);
			return;
		}
		if (n == 0) {
			CMAN_CRASH(EOF_READ);
			err = at_eof(&u);
			if (err) {
				failed(&u, err);
				return;
			}
			if (g->live[i].len[dir])
				continue;
			gw_tls_end(g, i, dir, u.tls_from);
			return;
		}
		err = transform(&u);
		if (err) {
			failed(&u, err);
			return;
		}
		err = write_out(&u);
		if (err == -EAGAIN) {
			gw_wait_out(g, i, u.to);
			return;
		}
		if (err) {
			gw_reset(g, i);
			return;
		}
		if (!greedy && !more && !u.again && !is_over(&u))
			return;
	}
	gw_queue(g, i, 1u << dir);
}

int gw_tls_recover(struct gateway *g, uint32_t i, int dir, const struct cman_leg legs[2])
{
	const struct cman_slot *s = slot_of(g, i);
	struct gw_tls *t = gw_tls_get(g, i);
	struct live *l = &g->live[i];
	const struct cman_flow *flow = &s->flow[dir];
	const struct cman_tls_position *p;
	uint32_t sent;
	int err;

	if (!t)
		return -ENOMEM;
	if (gw_tls_slot(g, i)->id != s->id)
		return -EILSEQ;
	p = &cman_tls_now(gw_tls_slot(g, i))->flow[dir];
	err = cman_tls_position_look(p, cman_leg_read(&legs[dir]) + (uint64_t)flow->read_base,
				     cman_leg_written(&legs[!dir]) + (uint64_t)flow->write_base,
				     &t->in_len[dir], &sent);
	if (err)
		return err;
	l->off[dir] = sent;
	l->len[dir] = p->out_len - sent;
	/* what lies in in[] gives no edge, nor does what is owed */
	gw_queue(g, i, 1u << dir);
	return 0;
}
