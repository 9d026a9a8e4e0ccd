// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Images: writer and reader against the vectors of image_vectors.h, every broken image there against its
 * sentence, a cut at every byte, a change of every byte, limits, the writer's refusals, images at
 * random there and back; that the table knows every member of the structs and every socket option; and
 * the tables of Documentation/image.rst against those of the code.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bpf/cman_maps.h"
#include "selftests/unit/image_vectors.h"
#include "usr/core/image.h"
#include "usr/core/image_fields.h"
#include "usr/core/tls.h"
#include "usr/core/wire_fields.h"

#define BATCH 0x0000000500000001ull

/* One session with its sockets; what it points to is constant or in @owned */
struct moved {
	struct cman_wire_session session;
	struct cman_repair_image leg[CMAN_IMAGE_LEGS];
	uint8_t *owned[7];
};

struct vector {
	const char *name, *hex;
	uint64_t batch;
	unsigned int count;
	uint16_t flags;
};

static const struct vector vectors[] = {
	{ "MINIMAL", VECTOR_MINIMAL, BATCH, 1, 0 },
	{ "IPV4", VECTOR_IPV4, BATCH, 1, 0 },
	{ "IPV6", VECTOR_IPV6, BATCH, 1, 0 },
	{ "ALL", VECTOR_ALL, UINT64_MAX, 1, 0 },
	{ "STATES", VECTOR_STATES, 7, 3, 0 },
	{ "EMPTY", VECTOR_EMPTY, 9, 0, 0 },
	{ "TLS", VECTOR_TLS, BATCH, 1, CMAN_IMAGE_SECRET },
};

#define VECTORS (sizeof(vectors) / sizeof(vectors[0]))

/* ---- bytes ---- */

static int digit(char c)
{
	return c >= 'a' ? c - 'a' + 10 : c - '0';
}

/* Exactly as many bytes on the heap as there are: the address sanitizer sees one too many. */
static uint8_t *exactly(const void *data, size_t n)
{
	uint8_t *p = malloc(n ? n : 1);

	cr_assert_not_null(p);
	if (n)
		memcpy(p, data, n);
	return p;
}

static uint8_t *unhex(const char *hex, size_t *ret_len)
{
	uint8_t *p = malloc(strlen(hex) + 1), *exact;
	size_t n = 0;

	cr_assert_not_null(p);
	for (; *hex; hex++) {
		if (*hex == ' ')
			continue;
		p[n++] = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
		hex++;
	}
	exact = exactly(p, n);
	free(p);
	*ret_len = n;
	return exact;
}

static uint64_t get(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

static void put(uint8_t *p, size_t n, uint64_t v)
{
	for (; n--; v >>= 8)
		p[n] = (uint8_t)v;
}

/* ---- what is wiped ---- */

static struct {
	const void *p;
	size_t n;
} wipes[16];
static unsigned int n_wipes;

/* Instead of libc's, for this program: does the same and remembers where. */
void explicit_bzero(void *p, size_t n)
{
	memset(p, 0, n);
	__asm__ volatile("" : : "r"(p) : "memory");
	wipes[n_wipes % 16].p = p;
	wipes[n_wipes++ % 16].n = n;
}

static bool wiped(const void *p, size_t n)
{
	for (unsigned int i = 0; i < 16; i++)
		if (wipes[i].p == p && wipes[i].n >= n)
			return true;
	return false;
}

/* ---- the sessions of the vectors ---- */

static void v4(uint8_t addr[16], uint8_t last)
{
	const uint8_t v[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = last };

	memcpy(addr, v, 16);
}

static void v6(uint8_t addr[16], uint8_t last)
{
	memset(addr, 0, 16);
	addr[0] = 0xfd;
	addr[15] = last;
}

static void minimal(struct moved *m, uint64_t id)
{
	memset(m, 0, sizeof(*m));
	m->session.id = id;
	m->session.service = "pg";
	m->session.service_len = 2;
	m->session.listener = "front";
	m->session.listener_len = 5;
	m->session.client_port = 40000;
	m->session.target_port = 5432;
	v4(m->session.client_addr, 5);
	v4(m->session.target_addr, 9);
	for (int i = 0; i < CMAN_IMAGE_LEGS; i++) {
		struct cman_repair_image *l = &m->leg[i];

		l->family = AF_INET;
		v4(l->local_addr, 100);
		v4(l->peer_addr, i ? 9 : 5);
		l->local_port = i ? 50000 : 5432;
		l->peer_port = i ? 5432 : 40000;
		l->state = 1;
		l->mss = 1460;
		l->recv_seq = i ? 3000 : 1000;
		l->send_seq = i ? 4000 : 2000;
		l->window = (struct cman_repair_window){ 1, 65535, 65536, 64256, 1000 };
	}
}

static void set_option(struct cman_repair_image *l, enum cman_repair_option o, int64_t value)
{
	l->have |= CMAN_REPAIR_BIT(o);
	l->option[o] = value;
}

static void set_queue(struct cman_repair_queue *q, const char *text, size_t len)
{
	q->data = (uint8_t *)text;
	q->len = len;
}

static void make_ipv4(struct moved *m)
{
	minimal(m, 0x0100000000000001);
	m->session.handovers = 2;
	m->session.age_s = 60;
	m->session.idle_s = 5;
	m->session.position[0] = 1000;
	m->session.position[1] = 2000;
	m->session.read_base[0] = -1;
	m->session.read_base[1] = 1;
	m->session.write_base[0] = 2;
	m->session.write_base[1] = -2;
	for (int i = 0; i < CMAN_IMAGE_LEGS; i++) {
		struct cman_repair_image *l = &m->leg[i];

		l->nonblock = true;
		l->negotiated = 7;
		l->snd_wscale = l->rcv_wscale = 7;
		l->timestamp = 0x11223344;
		l->bytes_received = 1001;
		l->bytes_acked = 2001;
		strcpy(l->congestion, "cubic");
		set_option(l, CMAN_REPAIR_NODELAY, 1);
		set_option(l, CMAN_REPAIR_RCVBUF, 131072);
		set_option(l, CMAN_REPAIR_SNDBUF, 87040);
		l->speed.snd_cwnd = 10;
		l->speed.snd_ssthresh = 0x7fffffff;
		l->speed.rtt_us = 20000;
		l->speed.rto_us = 204000;
	}
}

static void make_ipv6(struct moved *m)
{
	struct cman_repair_image *c = &m->leg[0], *s = &m->leg[1];

	minimal(m, 2);
	m->session.service = "sssssssssssssssssssssssssssssss";
	m->session.service_len = 31;
	m->session.listener = "l\xc3\xbc";
	m->session.listener_len = 3;
	m->session.eof = m->session.flags = 3;
	m->session.client_port = 40001;
	m->session.target_port = 80;
	v6(m->session.client_addr, 2);
	v6(m->session.target_addr, 3);
	m->session.buffer[CMAN_UP] = (const uint8_t *)"up";
	m->session.buffer_len[CMAN_UP] = 2;
	m->session.buffer[CMAN_DOWN] = (const uint8_t *)"down";
	m->session.buffer_len[CMAN_DOWN] = 4;
	c->family = s->family = AF_INET6;
	v6(c->local_addr, 1);
	v6(s->local_addr, 1);
	v6(c->peer_addr, 2);
	v6(s->peer_addr, 3);
	c->local_port = 443;
	c->peer_port = 40001;
	s->local_port = 50001;
	s->peer_port = 80;
	c->state = 11;
	c->peer_fin = c->fin = c->fin_sent = true;
	set_queue(&c->in, "in data", 7);
	set_queue(&c->out, "out data", 8);
	s->state = 8;
	s->peer_fin = s->usec_timestamps = true;
	s->scope_id = 3;
	set_queue(&s->in, "last", 4);
	set_queue(&s->out, "sent+unsent", 11);
	s->unsent = 6;
}

static void make_all(struct moved *m)
{
	minimal(m, UINT64_MAX);
	m->session.eof = m->session.flags = 1;
	m->session.handovers = 65535;
	m->session.age_s = UINT32_MAX;
	m->session.idle_s = 1;
	m->session.position[0] = UINT64_MAX;
	m->session.read_base[0] = INT64_MIN;
	m->session.read_base[1] = INT64_MAX;
	m->session.write_base[1] = 1;
	m->session.buffer[0] = (const uint8_t *)"u";
	m->session.buffer[1] = (const uint8_t *)"d";
	m->session.buffer_len[0] = m->session.buffer_len[1] = 1;
	for (int i = 0; i < CMAN_IMAGE_LEGS; i++) {
		struct cman_repair_image *l = &m->leg[i];

		l->nonblock = l->usec_timestamps = true;
		l->negotiated = 31;
		l->snd_wscale = l->rcv_wscale = 14;
		l->timestamp = 0xfffffffe;
		set_queue(&l->in, "\0\xff", 2);
		set_queue(&l->out, "ABC", 3);
		l->unsent = 1;
		l->bytes_received = UINT64_MAX;
		l->bytes_acked = 1ull << 63;
		strcpy(l->bindtodevice, "abcdefghijklmno");
		strcpy(l->congestion, "bbr");
		for (int o = 0; o < CMAN_REPAIR_OPTIONS; o++)
			set_option(l, (enum cman_repair_option)o,
				   o == CMAN_REPAIR_MAX_PACING_RATE ? -1 : (o + 1) * 1000);
		l->speed = (struct cman_repair_speed){
			.snd_cwnd = 100,
			.snd_ssthresh = 101,
			.rtt_us = 102,
			.rttvar_us = 103,
			.min_rtt_us = 104,
			.rto_us = 105,
			.rcv_rtt_us = 106,
			.rcv_space = 107,
			.rcv_ssthresh = 108,
			.pacing_rate = 10000000000,
			.delivery_rate = 100000000000,
		};
	}
	m->leg[0].mss = 65535;
	m->leg[0].recv_seq = UINT32_MAX;
	m->leg[0].send_seq = UINT32_MAX - 1;
	m->leg[1].mss = 1;
	m->leg[1].family = AF_INET6;
	m->leg[1].scope_id = 7;
	v6(m->leg[1].local_addr, 1);
	v6(m->leg[1].peer_addr, 3);
}

static void make_states(struct moved *m, unsigned int n)
{
	struct cman_repair_image *c = &m->leg[0], *s = &m->leg[1];

	minimal(m, 3 - n);
	if (n == 0) {
		c->state = 4;
		c->fin = true;
		s->state = 8;
		s->peer_fin = true;
	} else if (n == 1) {
		c->state = 5;
		c->fin = c->fin_sent = c->fin_acked = true;
	} else {
		c->state = 9;
		c->peer_fin = c->fin = c->fin_sent = true;
		s->state = 4;
		s->fin = s->fin_sent = true;
		set_queue(&s->out, "x", 1);
	}
}

/* A state of TLS whose secrets begin with @first, with @data_len bytes in between */
static void encode_tls(struct moved *m, uint8_t first, size_t data_len)
{
	struct cman_tls_session t = { .flow[CMAN_UP] = { .in_len = (uint32_t)data_len } };
	struct cman_tls_leg *l = &t.leg[CMAN_IMAGE_SERVER];
	uint8_t *data = malloc(data_len + 1), *state;
	size_t len;

	memcpy(data, "plain", data_len < 5 ? data_len : 5);
	for (size_t i = 5; i < data_len; i++)
		data[i] = (uint8_t)(i * 5);
	t.flow[CMAN_UP].in = data;
	t.flow[CMAN_DOWN] = (struct cman_tls_flow){ 7, 7, NULL, (const uint8_t *)"text", 0, 4 };
	l->engine = CMAN_TLS_USER;
	l->version = CMAN_TLS_1_2;
	l->suite = 0xcca8;
	l->rx.seq = l->tx.seq = 1;
	for (uint8_t i = 0; i < 44; i++) {
		l->rx.secret[i] = first + i;
		l->tx.secret[i] = first + 0x40 + i;
	}
	len = cman_tls_session_size(&t);
	state = malloc(len);
	cr_assert_not_null(state);
	cr_assert_eq(cman_tls_session_encode(&t, state, len), 0);
	free(data);
	m->owned[6] = state;
	m->session.tls = state;
	m->session.tls_len = (uint32_t)len;
}

static void make_tls(struct moved *m)
{
	minimal(m, 1);
	encode_tls(m, 0x10, 5);
}

/* Session number @n of a vector */
static void make(const struct vector *v, unsigned int n, struct moved *m)
{
	if (!strcmp(v->name, "MINIMAL"))
		minimal(m, 1);
	else if (!strcmp(v->name, "IPV4"))
		make_ipv4(m);
	else if (!strcmp(v->name, "IPV6"))
		make_ipv6(m);
	else if (!strcmp(v->name, "ALL"))
		make_all(m);
	else if (!strcmp(v->name, "TLS"))
		make_tls(m);
	else
		make_states(m, n);
}

static void forget(struct moved *m)
{
	for (size_t i = 0; i < sizeof(m->owned) / sizeof(m->owned[0]); i++)
		free(m->owned[i]);
}

/* ---- comparing ---- */

static void same_bytes(const void *a, size_t na, const void *b, size_t nb)
{
	cr_assert_eq(na, nb);
	cr_assert(na == 0 || memcmp(a, b, na) == 0);
}

/* Without what the reader has no say in */
static struct cman_repair_image bare(const struct cman_repair_image *l)
{
	struct cman_repair_image b;

	memcpy(&b, l, sizeof(b));
	b.want = 0;
	b.described = b.frozen = false;
	b.in.data = b.out.data = NULL;
	b.in.room = b.out.room = 0;
	return b;
}

/* All of the structs, not only what the table knows */
static void same(const struct moved *a, const struct moved *b)
{
	struct cman_wire_session x, y;

	memcpy(&x, &a->session, sizeof(x));
	memcpy(&y, &b->session, sizeof(y));
	same_bytes(x.service, x.service_len, y.service, y.service_len);
	same_bytes(x.listener, x.listener_len, y.listener, y.listener_len);
	same_bytes(x.tls, x.tls_len, y.tls, y.tls_len);
	x.service = x.listener = y.service = y.listener = NULL;
	x.tls = y.tls = NULL;
	for (int d = 0; d < 2; d++) {
		same_bytes(x.buffer[d], x.buffer_len[d], y.buffer[d], y.buffer_len[d]);
		x.buffer[d] = y.buffer[d] = NULL;
	}
	cr_assert(memcmp(&x, &y, sizeof(x)) == 0, "session");
	for (int i = 0; i < CMAN_IMAGE_LEGS; i++) {
		struct cman_repair_image l = bare(&a->leg[i]), r = bare(&b->leg[i]);

		same_bytes(a->leg[i].in.data, l.in.len, b->leg[i].in.data, r.in.len);
		same_bytes(a->leg[i].out.data, l.out.len, b->leg[i].out.data, r.out.len);
		cr_assert(memcmp(&l, &r, sizeof(l)) == 0, "leg %d", i);
	}
}

static struct cman_image_cursor opened(const uint8_t *data, size_t len, uint64_t batch,
				       unsigned int count)
{
	struct cman_image_header h;
	struct cman_image_cursor c;
	const char *why = "?";
	int err = cman_image_open(data, len, NULL, &h, &c, &why);

	cr_assert_eq(err, 0, "%d: %s", err, why);
	cr_assert_eq(h.version, CMAN_IMAGE_VERSION);
	cr_assert_eq(h.flags & ~CMAN_IMAGE_SECRET, 0);
	cr_assert_eq(c.flags, h.flags);
	cr_assert_eq(h.batch, batch);
	cr_assert_eq(h.length, len);
	cr_assert_eq(h.count, count);
	return c;
}

static int open_it(const uint8_t *data, size_t len, const struct cman_image_limits *limits,
		   const char **why)
{
	struct cman_image_header h;
	struct cman_image_cursor c;

	*why = NULL;
	return cman_image_open(data, len, limits, &h, &c, why);
}

/* ---- vectors ---- */

Test(image, vectors_are_written_and_read)
{
	for (size_t i = 0; i < VECTORS; i++) {
		const struct vector *v = &vectors[i];
		struct cman_image_writer w;
		struct cman_image_cursor c;
		struct moved m, back;
		const char *why = "?";
		uint8_t *data;
		size_t len;

		data = unhex(v->hex, &len);
		cman_image_begin(&w, v->batch, NULL);
		for (unsigned int n = 0; n < v->count; n++) {
			make(v, n, &m);
			cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), 0, "%s: %s",
				     v->name, why);
			forget(&m);
		}
		cr_assert_eq(cman_image_finish(&w, &why), 0, "%s: %s", v->name, why);
		cr_assert_eq(w.used, len, "%s: %zu bytes, not %zu", v->name, w.used, len);
		for (size_t k = 0; k < len; k++)
			cr_assert_eq(w.data[k], data[k], "%s: byte %zu", v->name, k);

		cr_assert_eq(cman_image_size(data, len, NULL, &why), (int64_t)len);
		c = opened(data, len, v->batch, v->count);
		cr_assert_eq(c.flags, v->flags, "%s", v->name);
		for (unsigned int n = 0; n < v->count; n++) {
			make(v, n, &m);
			memset(&back, 0xaa, sizeof(back));
			cr_assert_eq(cman_image_next(&c, &back.session, back.leg), 0);
			same(&m, &back);
			forget(&m);
			cr_assert(back.leg[0].described && !back.leg[0].frozen);
			cr_assert_eq(back.leg[0].in.room, 0);
		}
		cr_assert_eq(cman_image_next(&c, &back.session, back.leg), -ENOENT);
		cr_assert_eq(cman_image_next(&c, &back.session, back.leg), -ENOENT);
		cman_image_free(&w);
		cr_assert_null(w.data);
		free(data);
	}
}

Test(image, what_a_later_release_adds_is_skipped)
{
	struct cman_image_cursor c;
	struct moved m, back;
	uint8_t *data;
	size_t len;

	data = unhex(VECTOR_LATER, &len);
	c = opened(data, len, BATCH, 1);
	cr_assert_eq(cman_image_next(&c, &back.session, back.leg), 0);
	minimal(&m, 1);
	set_option(&m.leg[0], CMAN_REPAIR_NODELAY, 1);
	same(&m, &back);
	free(data);
}

/* ---- broken ones ---- */

struct text {
	uint8_t data[4096];
	size_t used;
};

static void append(struct text *t, const void *p, size_t n)
{
	cr_assert_leq(n, sizeof(t->data) - t->used);
	if (n)
		memcpy(t->data + t->used, p, n);
	t->used += n;
}

static void append_tlv(struct text *t, unsigned int tag, const void *p, size_t n)
{
	uint8_t head[6];

	put(head, 2, tag);
	put(head + 2, 4, n);
	append(t, head, 6);
	append(t, p, n);
}

/* The TLVs of @p with the change of @b made to the one that has the tag @tag */
static void edit(struct text *to, const struct broken_vector *b, unsigned int tag, const uint8_t *p,
		 size_t n, const void *value, size_t value_len)
{
	bool found = false;

	while (n) {
		size_t len = get(p + 2, 4);

		if (get(p, 2) == tag) {
			found = true;
			if (b->op == SET)
				append_tlv(to, tag, value, value_len);
			if (b->op == TWICE)
				append(to, p, 6 + len);
			if (b->op == TWICE)
				append(to, p, 6 + len);
		} else {
			append(to, p, 6 + len);
		}
		p += 6 + len;
		n -= 6 + len;
	}
	cr_assert(found || b->op == SET);
	if (!found)
		append_tlv(to, tag, value, value_len);
}

/* VECTOR_MINIMAL with the change made; lengths are put right */
static uint8_t *break_it(const struct broken_vector *b, size_t *ret_len)
{
	struct text image = { .used = 0 }, block, whole = { .used = 0 };
	size_t len, value_len, at;
	uint8_t *data, *value;

	if (b->op == RAW)
		return unhex(b->hex, ret_len);
	data = unhex(VECTOR_MINIMAL, &len);
	value = unhex(b->hex, &value_len);
	if (!b->tag && b->op != TAIL) {
		edit(&image, b, 0x8000 | b->block, data + 32, len - 32, value, value_len);
	} else {
		for (at = 32; at < len; at += 6 + get(data + at + 2, 4)) {
			size_t n = get(data + at + 2, 4);

			block.used = 0;
			if (get(data + at, 2) != (0x8000 | b->block)) {
				append(&block, data + at + 6, n);
			} else if (b->op == TAIL) {
				append(&block, data + at + 6, n);
				append(&block, value, value_len);
			} else {
				edit(&block, b, b->tag, data + at + 6, n, value, value_len);
			}
			append_tlv(&image, (unsigned int)get(data + at, 2), block.data, block.used);
		}
	}
	append(&whole, data, 28);
	put(whole.data + 16, 8, 32 + image.used);
	append(&whole, "\0\0\0", 4);
	put(whole.data + 28, 4, image.used);
	append(&whole, image.data, image.used);
	free(data);
	free(value);
	*ret_len = whole.used;
	return exactly(whole.data, whole.used);
}

Test(image, broken_ones_are_refused_with_their_sentence)
{
	for (size_t i = 0; i < sizeof(broken_vectors) / sizeof(broken_vectors[0]); i++) {
		const struct broken_vector *b = &broken_vectors[i];
		struct cman_image_header h = { .count = 77 };
		struct cman_image_cursor c = { .next = (const uint8_t *)"x" };
		const char *why = NULL;
		uint8_t *data;
		size_t len;
		int err;

		data = break_it(b, &len);
		err = cman_image_open(data, len, NULL, &h, &c, &why);
		cr_assert_eq(err, b->err, "%zu (%s): %d (%s)", i, b->why, err, why ? why : "?");
		cr_assert_not_null(why);
		cr_assert_str_eq(why, b->why);
		cr_assert(h.count == 77 && *c.next == 'x', "untouched on failure");
		free(data);
	}
}

Test(image, a_cut_at_every_byte_is_refused)
{
	for (size_t i = 0; i < VECTORS; i++) {
		size_t len, cut;
		const char *why;
		uint8_t *data = unhex(vectors[i].hex, &len), *piece;

		for (cut = 0; cut < len; cut++) {
			piece = exactly(data, cut);
			cr_assert_lt(open_it(piece, cut, NULL, &why), 0, "%zu", cut);
			cr_assert_not_null(why);
			if (cut < CMAN_IMAGE_HEADER)
				cr_assert_eq(cman_image_size(piece, cut, NULL, &why), 0);
			else
				cr_assert_eq(cman_image_size(piece, cut, NULL, &why), (int64_t)len);
			if (cut >= 32) {
				/* with a header and a first image that know of the cut */
				put(piece + 16, 8, cut);
				cr_assert_eq(open_it(piece, cut, NULL, &why), -EBADMSG, "%zu", cut);
				if (vectors[i].count == 1) {
					put(piece + 28, 4, cut - 32);
					cr_assert_eq(open_it(piece, cut, NULL, &why), -EBADMSG,
						     "%zu", cut);
				}
			}
			free(piece);
		}
		free(data);
	}
}

/* Whatever stands in a byte: no crash, no access behind the end, and a sentence when it is refused */
Test(image, a_change_of_any_byte_is_harmless)
{
	for (size_t i = 0; i < VECTORS; i++) {
		static const uint8_t changes[] = { 0x01, 0x80, 0xff, 0x0a };
		struct moved m;
		size_t len, at;
		const char *why;
		uint8_t *data = unhex(vectors[i].hex, &len);

		for (at = 0; at < len; at++) {
			for (size_t k = 0; k < sizeof(changes); k++) {
				struct cman_image_header h;
				struct cman_image_cursor c;
				int err;

				data[at] ^= changes[k];
				why = NULL;
				err = cman_image_open(data, len, NULL, &h, &c, &why);
				cr_assert(err ? why != NULL : err == 0);
				for (unsigned int n = 0; !err && n < h.count; n++)
					cr_assert_eq(cman_image_next(&c, &m.session, m.leg), 0);
				data[at] ^= changes[k];
			}
		}
		free(data);
	}
}

/* ---- limits ---- */

Test(image, limits)
{
	struct cman_image_limits limits = { .queue = 10 };
	struct cman_image_writer w;
	const char *why;
	struct moved m;
	uint8_t *data;
	size_t len;

	data = unhex(VECTOR_IPV6, &len);
	cr_assert_eq(open_it(data, len, &limits, &why), -EMSGSIZE);
	cr_assert_str_eq(why, "leg: out has a wrong length");
	limits.queue = 11;
	cr_assert_eq(open_it(data, len, &limits, &why), 0);
	limits.total = len - 1;
	cr_assert_eq(open_it(data, len, &limits, &why), -EMSGSIZE);
	cr_assert_str_eq(why, "it is longer than the limit");
	limits.total = len;
	cr_assert_eq(open_it(data, len, &limits, &why), 0);
	free(data);
	data = unhex(VECTOR_STATES, &len);
	limits = (struct cman_image_limits){ .count = 2 };
	cr_assert_eq(open_it(data, len, &limits, &why), -EMSGSIZE);
	free(data);

	/* the writer keeps the same ones, and drops what is too much without a trace */
	make_ipv6(&m);
	limits = (struct cman_image_limits){ .queue = 10, .count = 1, .total = 2000 };
	cman_image_begin(&w, 1, &limits);
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), -EMSGSIZE);
	cr_assert_str_eq(why, "leg: out has a wrong length");
	cr_assert_eq(w.used, 0);
	m.leg[1].out.len = 10;
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), 0);
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), -EMSGSIZE);
	cr_assert_str_eq(why, "it has more images than the limit");
	cr_assert_eq(cman_image_finish(&w, &why), 0);
	cman_image_free(&w);
	limits.total = 500;
	cman_image_begin(&w, 1, &limits);
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), -EMSGSIZE);
	cr_assert_str_eq(why, "it is longer than the limit");
	cr_assert_eq(cman_image_finish(&w, &why), 0);
	cr_assert_eq(w.used, CMAN_IMAGE_HEADER);
	cman_image_free(&w);
	/* a queue of 2^63 bytes is refused before it is read */
	minimal(&m, 1);
	set_queue(&m.leg[0].in, "x", SIZE_MAX / 2);
	cman_image_begin(&w, 1, NULL);
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), -EMSGSIZE);
	cman_image_free(&w);
}

Test(image, the_most_that_is_in_between)
{
	static uint8_t bytes[CMAN_IMAGE_MAX_BETWEEN + 1];
	struct cman_image_writer w;
	struct cman_image_cursor c;
	struct moved m, back;
	const char *why = "?";

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	minimal(&m, 1);
	m.session.buffer[0] = m.session.buffer[1] = bytes;
	m.session.buffer_len[0] = m.session.buffer_len[1] = CMAN_IMAGE_MAX_BETWEEN;
	set_queue(&m.leg[0].in, (const char *)bytes, sizeof(bytes));
	cman_image_begin(&w, 1, NULL);
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), 0, "%s", why);
	cr_assert_eq(cman_image_finish(&w, &why), 0);
	c = opened(w.data, w.used, 1, 1);
	cr_assert_eq(cman_image_next(&c, &back.session, back.leg), 0);
	same(&m, &back);
	m.session.buffer_len[1]++;
	m.session.id++;
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), -EMSGSIZE);
	cr_assert_str_eq(why, "session: between_down has a wrong length");
	cman_image_free(&w);
}

/* ---- the writer's refusals ---- */

static const char *refusal(struct cman_image_writer *w, const struct moved *m)
{
	size_t before = w->used;
	const char *why = NULL;

	cr_assert_eq(cman_image_add(w, &m->session, m->leg, &why), -EBADMSG);
	cr_assert_eq(w->used, before);
	cr_assert_eq(w->count, 1);
	cr_assert_not_null(why);
	return why;
}

Test(image, the_writer_refuses_what_a_reader_would)
{
	struct cman_image_writer w;
	const char *why = "?";
	struct moved m;

	cman_image_begin(&w, BATCH, NULL);
	minimal(&m, 1);
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), 0);
	m.session.pipe[1] = 1;
	cr_assert_str_eq(refusal(&w, &m), "session: what is in its pipes was not read");
	minimal(&m, 2);
	m.session.service = NULL;
	cr_assert_str_eq(refusal(&w, &m), "session: service is missing");
	minimal(&m, 2);
	m.session.buffer_len[0] = 1;
	cr_assert_str_eq(refusal(&w, &m), "session: between_up is missing");
	minimal(&m, 2);
	m.leg[1].in.len = 1;
	cr_assert_str_eq(refusal(&w, &m), "leg: in is missing");
	minimal(&m, 2);
	memset(m.leg[0].bindtodevice, 'a', 16);
	cr_assert_str_eq(refusal(&w, &m), "leg: bindtodevice has a wrong length");
	minimal(&m, 2);
	m.leg[0].state = 7;
	cr_assert_str_eq(refusal(&w, &m), "leg: state is out of range");
	minimal(&m, 2);
	m.leg[0].have = UINT64_C(1) << 63;
	cr_assert_str_eq(refusal(&w, &m), "leg: option is out of range");
	minimal(&m, 2);
	set_option(&m.leg[0], CMAN_REPAIR_TTL, INT64_MAX);
	cr_assert_str_eq(refusal(&w, &m), "leg: option is out of range");
	/* what the FINs say together, where one change is not enough */
	minimal(&m, 2);
	m.leg[0].state = 5;
	m.leg[0].fin = m.leg[0].fin_acked = true;
	cr_assert_str_eq(refusal(&w, &m), "leg: the FINs do not fit the state");
	m.leg[0].fin_sent = true;
	set_queue(&m.leg[0].out, "x", 1);
	cr_assert_str_eq(refusal(&w, &m), "leg: its FIN is acknowledged, but not what is in out");
	m.leg[0].state = 4;
	m.leg[0].fin_acked = false;
	m.leg[0].unsent = 1;
	cr_assert_str_eq(refusal(&w, &m), "leg: its FIN was sent before unsent bytes");

	/* the first is still there, and is all that is there */
	cr_assert_eq(cman_image_finish(&w, &why), 0);
	opened(w.data, w.used, BATCH, 1);
	minimal(&m, 1);
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), 0);
	cr_assert_eq(cman_image_finish(&w, &why), -EBADMSG);
	cr_assert_str_eq(why, "two sessions have the same id");
	cman_image_free(&w);
}

/* ---- secrets ---- */

Test(image, the_state_of_tls_has_to_be_one)
{
	const char *why = "?";
	uint8_t *data, *at;
	size_t len, i;

	data = unhex(VECTOR_TLS, &len);
	for (i = 0; memcmp(data + i, "CTLS", 4) != 0; i++)
		;
	at = data + i;
	cr_assert_eq(open_it(data, len, NULL, &why), 0);
	data[7] = 0;
	cr_assert_eq(open_it(data, len, NULL, &why), -EBADMSG);
	cr_assert_str_eq(why, "session: tls is in a stream that is not marked secret");
	data[7] = CMAN_IMAGE_SECRET;
	at[0] ^= 1;
	cr_assert_eq(open_it(data, len, NULL, &why), -EBADMSG);
	cr_assert_str_eq(why, "TLS: it does not begin with the magic \"CTLS\"");
	at[0] ^= 1;
	at[5] = 2;
	cr_assert_eq(open_it(data, len, NULL, &why), -EBADMSG);
	cr_assert_str_eq(why, "TLS: its version is not one that this release reads");
	free(data);

	/* the flag alone is no mistake */
	data = unhex(VECTOR_MINIMAL, &len);
	data[7] = CMAN_IMAGE_SECRET;
	cr_assert_eq(open_it(data, len, NULL, &why), 0);
	free(data);
}

Test(image, the_writer_refuses_what_is_no_state_of_tls)
{
	static uint8_t much[CMAN_TLS_STATE_MAX + 1];
	struct cman_image_writer w;
	const char *why = "?";
	struct moved m;

	cman_image_begin(&w, BATCH, NULL);
	minimal(&m, 1);
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), 0);
	minimal(&m, 2);
	m.session.tls_len = 1;
	cr_assert_str_eq(refusal(&w, &m), "session: tls is missing");
	m.session.tls = much;
	m.session.tls_len = sizeof(much);
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), -EMSGSIZE);
	cr_assert_str_eq(why, "session: tls has a wrong length");
	encode_tls(&m, 0x10, 5);
	m.session.tls_len--;
	cr_assert_str_eq(refusal(&w, &m), "TLS: a field ends behind its block");
	/* so it is not secret */
	cr_assert_eq(cman_image_finish(&w, &why), 0);
	cr_assert_eq(opened(w.data, w.used, BATCH, 1).flags, 0);
	cman_image_free(&w);
	forget(&m);
}

Test(image, the_writer_wipes_what_it_leaves)
{
	unsigned int grown = 0, i;
	struct cman_image_writer w;
	const char *why = "?";
	const uint8_t *before;
	struct moved m;
	size_t used;

	cman_image_begin(&w, BATCH, NULL);
	for (i = 0; i < 100; i++) {
		minimal(&m, i);
		cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), 0);
	}
	cr_assert_eq(n_wipes, 0, "nothing was secret");
	for (; i < 200; i++) {
		minimal(&m, i);
		encode_tls(&m, (uint8_t)i, 200);
		before = w.data;
		used = w.used;
		n_wipes = 0;
		cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), 0);
		if (w.data != before) {
			/* the first time nothing secret was in it, but the writer knows what comes */
			cr_assert(wiped(before, used));
			grown++;
		}
		forget(&m);
	}
	cr_assert_geq(grown, 1);

	/* of a session that is refused nothing is left */
	minimal(&m, i);
	encode_tls(&m, (uint8_t)i, 200);
	m.leg[1].state = 7;
	used = w.used;
	cr_assert_eq(cman_image_add(&w, &m.session, m.leg, &why), -EBADMSG);
	cr_assert_str_eq(why, "leg: state is out of range");
	cr_assert(wiped(w.data + used, m.session.tls_len) && w.used == used);
	forget(&m);

	cr_assert_eq(cman_image_finish(&w, &why), 0);
	cr_assert_eq(opened(w.data, w.used, BATCH, i).flags, CMAN_IMAGE_SECRET);
	before = w.data;
	n_wipes = 0;
	cman_image_free(&w);
	cr_assert(n_wipes == 1 && wiped(before, used));
	cr_assert(!w.secret);
}

/* ---- ownership ---- */

Test(image, an_owned_image_outlives_the_stream)
{
	struct cman_image_cursor c;
	struct moved m, back;
	uint8_t *data;
	size_t len;

	data = unhex(VECTOR_IPV6, &len);
	c = opened(data, len, BATCH, 1);
	cr_assert_eq(cman_image_next(&c, &back.session, back.leg), 0);
	for (int i = 0; i < CMAN_IMAGE_LEGS; i++) {
		cr_assert_eq(cman_image_own(&back.leg[i]), 0);
		cr_assert_eq(cman_image_own(&back.leg[i]), 0, "twice is once");
	}
	free(data);
	make_ipv6(&m);
	back.session = m.session;
	same(&m, &back);
	/* like any image of libcman */
	cr_assert_eq(cman_repair_reserve(&back.leg[0].in, 100), 0);
	cman_repair_free(&back.leg[0]);
	cman_image_drop(&back.leg[1]);
	cr_assert(back.leg[1].out.data == NULL && !back.leg[1].described);

	/* a borrowed one is dropped without being freed */
	data = unhex(VECTOR_IPV6, &len);
	c = opened(data, len, BATCH, 1);
	cr_assert_eq(cman_image_next(&c, &back.session, back.leg), 0);
	cman_image_drop(&back.leg[0]);
	cman_image_drop(&back.leg[1]);
	free(data);
}

/* ---- at random ---- */

static uint64_t rng_state = 0x2545f4914f6cdd1d;

static uint64_t rng(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

/* Often 0, often small, often at the edge of its type */
static uint64_t number(uint64_t high)
{
	uint64_t v = rng();

	switch (rng() % 4) {
	case 0:
		return 0;
	case 1:
		v %= 16;
		break;
	case 2:
		return high;
	}
	return high == UINT64_MAX ? v : v % (high + 1);
}

static uint8_t *random_bytes(struct moved *m, unsigned int slot, size_t *ret_len)
{
	size_t n = rng() % 3 ? rng() % 300 : 0;

	m->owned[slot] = exactly("", 0);
	free(m->owned[slot]);
	m->owned[slot] = n ? malloc(n) : NULL;
	for (size_t i = 0; i < n; i++)
		m->owned[slot][i] = (uint8_t)rng();
	*ret_len = n;
	return m->owned[slot];
}

static void random_leg(struct moved *m, unsigned int i)
{
	static const uint8_t states[] = { 1, 4, 5, 8, 9, 11 };
	static const char *const labels[] = { "", "lo", "eth0.100", "abcdefghijklmno" };
	struct cman_repair_image *l = &m->leg[i];
	uint8_t st = states[rng() % sizeof(states)];

	l->family = rng() % 2 ? AF_INET : AF_INET6;
	v6(l->local_addr, (uint8_t)rng());
	v6(l->peer_addr, (uint8_t)rng());
	if (l->family == AF_INET) {
		v4(l->local_addr, (uint8_t)rng());
		v4(l->peer_addr, (uint8_t)rng());
	}
	l->scope_id = (uint32_t)number(UINT32_MAX);
	l->local_port = (uint16_t)(1 + number(65534));
	l->peer_port = (uint16_t)(1 + number(65534));
	l->nonblock = rng() % 2;
	l->usec_timestamps = rng() % 2;
	l->state = st;
	l->peer_fin = st == 8 || st == 9 || st == 11;
	l->fin = st == 4 || st == 5 || st == 9 || st == 11;
	l->fin_acked = st == 5;
	l->fin_sent = l->fin_acked || (l->fin && rng() % 2);
	l->negotiated = (uint8_t)number(31);
	l->snd_wscale = (uint8_t)number(14);
	l->rcv_wscale = (uint8_t)number(14);
	l->mss = (uint32_t)(1 + number(65534));
	l->timestamp = (uint32_t)rng();
	l->recv_seq = (uint32_t)number(UINT32_MAX);
	l->send_seq = (uint32_t)number(UINT32_MAX);
	l->window.snd_wl1 = (uint32_t)number(UINT32_MAX);
	l->window.snd_wnd = (uint32_t)number(UINT32_MAX);
	l->window.max_window = (uint32_t)number(UINT32_MAX);
	l->window.rcv_wnd = (uint32_t)number(UINT32_MAX);
	l->window.rcv_wup = (uint32_t)number(UINT32_MAX);
	l->in.data = random_bytes(m, 2 * i, &l->in.len);
	if (!l->fin_acked)
		l->out.data = random_bytes(m, 2 * i + 1, &l->out.len);
	if (!l->fin_sent)
		l->unsent = number(l->out.len);
	l->bytes_received = number(UINT64_MAX);
	l->bytes_acked = number(UINT64_MAX);
	strcpy(l->bindtodevice, labels[rng() % 4]);
	strcpy(l->congestion, labels[rng() % 4]);
	for (int o = 0; o < CMAN_REPAIR_OPTIONS; o++)
		if (rng() % 2)
			set_option(l, (enum cman_repair_option)o,
				   cman_image_options[o].wide ?
					   (int64_t)number(UINT64_MAX) :
					   (int64_t)number(UINT32_MAX) +
						   (rng() % 2 ? INT32_MIN : 0));
	l->speed.snd_cwnd = (uint32_t)number(UINT32_MAX);
	l->speed.snd_ssthresh = (uint32_t)number(UINT32_MAX);
	l->speed.rtt_us = (uint32_t)number(UINT32_MAX);
	l->speed.rto_us = (uint32_t)number(UINT32_MAX);
	l->speed.delivery_rate = number(UINT64_MAX);
}

static void random_session(struct moved *m, uint64_t id)
{
	struct cman_wire_session *s = &m->session;

	minimal(m, id);
	s->eof = (uint8_t)number(3);
	s->flags = (uint8_t)number(3);
	s->handovers = (uint16_t)number(65535);
	s->age_s = (uint32_t)number(UINT32_MAX);
	s->idle_s = (uint32_t)number(UINT32_MAX);
	for (unsigned int d = 0; d < 2; d++) {
		size_t len;

		s->position[d] = number(UINT64_MAX);
		s->read_base[d] = (int64_t)number(UINT64_MAX);
		s->write_base[d] = (int64_t)number(UINT64_MAX);
		s->buffer[d] = random_bytes(m, 4 + d, &len);
		s->buffer_len[d] = (uint32_t)len;
		random_leg(m, d);
	}
	if (rng() % 2)
		encode_tls(m, (uint8_t)rng(), rng() % 300);
}

Test(image, random_images_there_and_back, .timeout = 120)
{
	enum { ROUNDS = 300, MOST = 12 };

	for (unsigned int round = 0; round < ROUNDS; round++) {
		unsigned int n = (unsigned int)(rng() % (MOST + 1));
		struct cman_image_writer w, again;
		struct moved m[MOST], back;
		struct cman_image_cursor c;
		const char *why = "?";
		uint8_t *data;

		cman_image_begin(&w, round, NULL);
		cman_image_begin(&again, round, NULL);
		for (unsigned int i = 0; i < n; i++) {
			random_session(&m[i], rng() << 8 | i);
			cr_assert_eq(cman_image_add(&w, &m[i].session, m[i].leg, &why), 0,
				     "round %u: %s", round, why);
		}
		cr_assert_eq(cman_image_finish(&w, &why), 0, "%s", why);
		data = exactly(w.data, w.used);
		c = opened(data, w.used, round, n);
		for (unsigned int i = 0; i < n; i++) {
			cr_assert_eq(cman_image_next(&c, &back.session, back.leg), 0);
			same(&m[i], &back);
			cr_assert_eq(cman_image_add(&again, &back.session, back.leg, &why), 0);
		}
		cr_assert_eq(cman_image_next(&c, &back.session, back.leg), -ENOENT);
		cr_assert_eq(cman_image_finish(&again, &why), 0);
		same_bytes(w.data, w.used, again.data, again.used);
		for (unsigned int i = 0; i < n; i++)
			forget(&m[i]);
		cman_image_free(&w);
		cman_image_free(&again);
		free(data);
	}
}

/* ---- the table ---- */

#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
#define HAVE_CLEAR_PADDING 1
#endif
#endif

struct cover {
	uint8_t byte[1024];
};

static void cover(struct cover *c, size_t at, size_t n)
{
	memset(c->byte + at, 0, n);
}

static void cover_fields(struct cover *c, const struct cman_image_field *f)
{
	for (; f->name; f++) {
		bool pointer = f->kind == CMAN_IMAGE_NAME || f->kind == CMAN_IMAGE_BYTES ||
			       f->kind == CMAN_IMAGE_SECRET_BYTES;

		cover(c, f->offset,
		      pointer ? sizeof(void *) : (size_t)f->size * (f->count ? f->count : 1));
		if (pointer)
			cover(c, f->len_offset, f->len_size);
	}
}

#ifdef HAVE_CLEAR_PADDING
/* A member that is added to one of the structs and not to the table would get lost in silence. */
Test(image, the_table_knows_every_member)
{
	struct cman_wire_session session;
	struct cman_repair_image leg;
	struct cover c;

	memset(&session, 0xff, sizeof(session));
	__builtin_clear_padding(&session);
	memcpy(c.byte, &session, sizeof(session));
	cover_fields(&c, cman_image_session_fields);
	cover(&c, offsetof(struct cman_wire_session, pipe), 2); /* what is in them is in buffer */
	for (size_t i = 0; i < sizeof(session); i++)
		cr_assert_eq(c.byte[i], 0, "byte %zu of struct cman_wire_session", i);

	cr_assert_leq(sizeof(leg), sizeof(c.byte));
	memset(&leg, 0xff, sizeof(leg));
	__builtin_clear_padding(&leg);
	memcpy(c.byte, &leg, sizeof(leg));
	cover_fields(&c, cman_image_leg_fields);
#define NOT_CARRIED(m) cover(&c, offsetof(struct cman_repair_image, m), sizeof(leg.m))
	NOT_CARRIED(want);
	NOT_CARRIED(described);
	NOT_CARRIED(frozen);
	NOT_CARRIED(exported); /* how freeze() was done */
	NOT_CARRIED(in.room);
	NOT_CARRIED(out.room);
	NOT_CARRIED(have); /* with option */
	/* from here on it is the state of import() and release() */
	cover(&c, offsetof(struct cman_repair_image, progress),
	      sizeof(leg) - offsetof(struct cman_repair_image, progress));
	for (size_t i = 0; i < sizeof(leg); i++)
		cr_assert_eq(c.byte[i], 0, "byte %zu of struct cman_repair_image", i);
}
#endif

static void well_formed(const struct cman_image_field *fields)
{
	unsigned int n = 0;

	for (const struct cman_image_field *f = fields; f->name; f++, n++) {
		for (const struct cman_image_field *g = fields; g != f; g++) {
			cr_assert_neq(f->tag & 0x7fff, g->tag & 0x7fff, "%s, %s", f->name, g->name);
			cr_assert_str_neq(f->name, g->name);
		}
		cr_assert_leq(f->count, 2, "%s: struct cman_image_value has no more", f->name);
		cr_assert(!f->required || f->tag & CMAN_TLV_MUST, "%s", f->name);
	}
	cr_assert_leq(n, CMAN_IMAGE_MAX_FIELDS);
}

Test(image, the_table_is_well_formed)
{
	well_formed(cman_image_session_fields);
	well_formed(cman_image_leg_fields);
	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		cr_assert_not_null(cman_image_options[i].name, "option %d", i);
		cr_assert_str_eq(cman_image_options[i].name,
				 cman_repair_option_name((enum cman_repair_option)i));
	}
}

/* ---- describe ---- */

struct seen {
	char text[16384];
	size_t used;
	int stop_after;
};

static int see(void *arg, const struct cman_image_value *v)
{
	struct seen *s = arg;
	int n;

	cr_assert_eq(v->show == CMAN_IMAGE_SHOW_SECRET, !strcmp(v->name, "tls"));
	if (v->show == CMAN_IMAGE_SHOW_SECRET)
		cr_assert_null(v->bytes);
	n = snprintf(s->text + s->used, sizeof(s->text) - s->used, "%s.%s=", v->block, v->name);

	s->used += (size_t)n;
	for (unsigned int i = 0; i < v->count; i++)
		s->used += (size_t)snprintf(s->text + s->used, sizeof(s->text) - s->used, "%s%lld",
					    i ? "," : "", (long long)v->number[i]);
	if (v->show == CMAN_IMAGE_SHOW_TEXT)
		s->used += (size_t)snprintf(s->text + s->used, sizeof(s->text) - s->used, "%.*s",
					    (int)v->len, (const char *)v->bytes);
	else if (v->show == CMAN_IMAGE_SHOW_ADDRESS || v->show == CMAN_IMAGE_SHOW_BYTES ||
		 v->show == CMAN_IMAGE_SHOW_SECRET)
		s->used += (size_t)snprintf(s->text + s->used, sizeof(s->text) - s->used, "<%zu>",
					    v->len);
	s->used += (size_t)snprintf(s->text + s->used, sizeof(s->text) - s->used, "\n");
	cr_assert_lt(s->used, sizeof(s->text));
	return s->stop_after && !--s->stop_after ? -ECANCELED : 0;
}

static void has_line(const struct seen *s, const char *line)
{
	char text[128];

	snprintf(text, sizeof(text), "\n%s\n", line);
	cr_assert_not_null(strstr(s->text, text), "no line %s in %s", line, s->text);
}

Test(image, describe_names_everything)
{
	static struct seen s;
	struct moved m;
	char name[128];

	make_ipv6(&m);
	set_option(&m.leg[1], CMAN_REPAIR_LINGER, -1);
	strcpy(m.leg[1].congestion, "cubic");
	m.session.read_base[0] = -5;
	m.session.tls = (const uint8_t *)"secret";
	m.session.tls_len = 6;
	cr_assert_eq(cman_image_describe(&m.session, m.leg, see, &s), 0);
	cr_assert(strncmp(s.text, "session.id=2\n", 13) == 0);
	has_line(&s, "session.listener=l\xc3\xbc");
	has_line(&s, "session.read_base=-5,0");
	has_line(&s, "session.between_down=<4>");
	has_line(&s, "session.tls=<6>");
	cr_assert_null(strstr(s.text, "secret"));
	has_line(&s, "session.target_addr=<16>");
	has_line(&s, "session.age_s=0");
	has_line(&s, "client.state=CLOSING");
	has_line(&s, "client.family=IPv6");
	has_line(&s, "client.fin_acked=0");
	has_line(&s, "client.window.rcv_wnd=64256");
	has_line(&s, "client.out=<8>");
	has_line(&s, "client.bindtodevice=");
	has_line(&s, "server.unsent=6");
	has_line(&s, "server.option.linger=-1");
	has_line(&s, "server.congestion=cubic");
	cr_assert_null(strstr(s.text, "client.option"));
	for (const struct cman_image_field *f = cman_image_leg_fields; f->name; f++) {
		snprintf(name, sizeof(name), "\nserver.%s%s", f->name,
			 f->kind == CMAN_IMAGE_OPTIONS ? ".linger=" : "=");
		cr_assert_not_null(strstr(s.text, name), "%s", name);
	}
	s = (struct seen){ .stop_after = 3 };
	cr_assert_eq(cman_image_describe(&m.session, m.leg, see, &s), -ECANCELED);
}

/* ---- documentation ---- */

static void value_text(const struct cman_image_field *f, char *buf, size_t size)
{
	char range[64] = "";
	uint64_t all = f->width == 8 ? UINT64_MAX : (1ull << 8 * f->width) - 1;

	switch (f->kind) {
	case CMAN_IMAGE_UNSIGNED:
		if (f->low || f->high != all)
			snprintf(range, sizeof(range), ", %llu to %llu", (unsigned long long)f->low,
				 (unsigned long long)f->high);
		snprintf(buf, size, "%su%u%s", f->count > 1 ? "2 x " : "", f->width * 8, range);
		break;
	case CMAN_IMAGE_SIGNED:
		snprintf(buf, size, "%si%u", f->count > 1 ? "2 x " : "", f->width * 8);
		break;
	case CMAN_IMAGE_WORD:
		buf[0] = '\0';
		for (unsigned int i = 0; i <= f->high; i++)
			if (f->words[i])
				snprintf(buf + strlen(buf), size - strlen(buf), "%s%u %s",
					 *buf ? ", " : "u8: ", i, f->words[i]);
		break;
	case CMAN_IMAGE_NAME:
	case CMAN_IMAGE_LABEL:
		snprintf(buf, size, "%s, %llu to %llu bytes", cman_image_kind_name(f->kind),
			 (unsigned long long)f->low, (unsigned long long)f->high);
		break;
	case CMAN_IMAGE_BYTES:
	case CMAN_IMAGE_SECRET_BYTES:
		if (f->high)
			snprintf(buf, size, "%s, at most %llu", cman_image_kind_name(f->kind),
				 (unsigned long long)f->high);
		else
			snprintf(buf, size, "bytes, at most the limit of a queue");
		break;
	default:
		snprintf(buf, size, "%s", cman_image_kind_name(f->kind));
	}
}

static void print_fields(FILE *out, const char *title, const struct cman_image_field *f)
{
	const char *rule = "===  ===================  ====  ========  "
			   "=============================================================\n";
	char value[160];

	fprintf(out, "%s\n\n%s%-3s  %-19s  %-4s  %-8s  %s\n%s", title, rule, "tag", "field", "must",
		"required", "value", rule);
	for (; f->name; f++) {
		value_text(f, value, sizeof(value));
		fprintf(out, "%3u  %-19s  %-4s  %-8s  %s\n", f->tag & 0x7fff, f->name,
			f->tag & CMAN_TLV_MUST ? "yes" : "no", f->required ? "yes" : "no", value);
	}
	fputs(rule, out);
	fputs("\n", out);
}

static char *tables(void)
{
	const char *rule = "===  ======================  =====================\n";
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	cr_assert_not_null(out);
	print_fields(out, "The block SESSION (tag 1)", cman_image_session_fields);
	print_fields(out, "The blocks CLIENT (tag 2) and SERVER (tag 3)", cman_image_leg_fields);
	fprintf(out, "Socket options\n\n%s%-3s  %-22s  %s\n%s", rule, "no.", "option", "value",
		rule);
	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++)
		fprintf(out, "%3d  %-22s  %s\n", i, cman_image_options[i].name,
			cman_image_options[i].wide ? "i64" : "int or unsigned int");
	fputs(rule, out);
	fclose(out);
	return text;
}

#define TABLES_BEGIN ".. BEGIN image tables (checked by selftests/unit/test_image.c)\n\n"
#define TABLES_END   "\n.. END image tables\n"

/*
 * The documentation holds exactly these tables. CMAN_UPDATE_DOCS=1 writes them into it instead.
 * Tests run at the top of the sources, or CMAN_SOURCE says where that is.
 */
Test(image, documentation_has_the_same_tables)
{
	const char *top = getenv("CMAN_SOURCE");
	char path[4096], *doc, *begin, *end, *expected = tables();
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/Documentation/image.rst", top ? top : ".");
	f = fopen(path, "r");
	cr_assert_not_null(f, "%s: %s", path, strerror(errno));
	doc = calloc(1, 1 << 20);
	cr_assert_not_null(doc);
	n = fread(doc, 1, (1 << 20) - 1, f);
	fclose(f);
	cr_assert_gt(n, 0);
	begin = strstr(doc, TABLES_BEGIN);
	cr_assert_not_null(begin);
	begin += strlen(TABLES_BEGIN);
	end = strstr(begin, TABLES_END);
	cr_assert_not_null(end);
	if (getenv("CMAN_UPDATE_DOCS")) {
		f = fopen(path, "w");
		cr_assert_not_null(f);
		fwrite(doc, 1, (size_t)(begin - doc), f);
		fputs(expected, f);
		fputs(end, f);
		fclose(f);
	} else {
		*end = '\0';
		cr_assert_str_eq(
			begin, expected,
			"run this test with CMAN_UPDATE_DOCS=1 after a change of the table");
	}
	free(doc);
	free(expected);
}
