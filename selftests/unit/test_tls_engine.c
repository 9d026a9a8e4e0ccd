// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A session that changes its engine between two sockets: what lay between the legs is in the queues
 * afterwards, every byte once and in order, sealed with the numbers that come next; the stream that the
 * queues were borrowed from is as it was; and what the kernel could not go on with is not given to it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/image.h"
#include "usr/tls/engine.h"
#include "usr/tls/keys.h"
#include "usr/tls/record.h"

#define CLIENT 0
#define SERVER 1
#define UP     0
#define DOWN   1

static uint8_t stream[4][100]; /* queues as they lie in an image stream: in and out of each leg */
static uint8_t plain[2][50000];
static struct cman_repair_image leg[2];
static struct cman_tls_session session;

static void fill(uint8_t *p, size_t len, unsigned int seed)
{
	for (size_t k = 0; k < len; k++)
		p[k] = (uint8_t)(seed * 131 + k * 7 + (k >> 8));
}

static struct cman_tls_leg tls_leg(uint16_t id, enum cman_tls_engine engine, unsigned int seed)
{
	const struct cman_tls_suite *suite = cman_tls_suite(id);
	struct cman_tls_leg l = {
		.engine = engine,
		.version = suite->version,
		.suite = id,
		.rx = { .seq = 10 + seed },
		.tx = { .seq = 20 + seed },
	};

	fill(l.rx.secret, suite->hash_len, seed + 1);
	fill(l.tx.secret, suite->hash_len, seed + 2);
	if (suite->version == CMAN_TLS_1_2 && suite->aead != CMAN_TLS_CHACHA20_POLY1305)
		l.tx.explicit_iv = 1000;
	return l;
}

static void begin(void)
{
	memset(&session, 0, sizeof(session));
	for (int q = 0; q < 4; q++)
		fill(stream[q], sizeof(stream[q]), 50 + (unsigned int)q);
	for (int dir = 0; dir < 2; dir++)
		fill(plain[dir], sizeof(plain[dir]), 60 + (unsigned int)dir);
	for (int l = 0; l < 2; l++)
		leg[l] = (struct cman_repair_image){
			.state = TCP_ESTABLISHED,
			.recv_seq = 5, /* prepending passes 0 */
			.in = { .data = stream[2 * l], .len = sizeof(stream[0]) },
			.out = { .data = stream[2 * l + 1], .len = sizeof(stream[0]) },
			.unsent = 30,
		};
}

static void end(void)
{
	uint8_t same[sizeof(stream[0])];

	for (int q = 0; q < 4; q++) {
		fill(same, sizeof(same), 50 + (unsigned int)q);
		cr_expect_arr_eq(stream[q], same, sizeof(same), "the stream was written to");
	}
	for (int l = 0; l < 2; l++)
		cman_image_drop(&leg[l]);
}

TestSuite(tls_engine, .init = begin, .fini = end);

static int to_user(uint32_t up, uint32_t down)
{
	const uint8_t *const data[2] = { plain[UP], plain[DOWN] };
	const uint32_t len[2] = { up, down };

	return cman_tls_to_user(&session, leg, data, len);
}

/* What is new in the send queue of leg @l: opened as its peer would, from @at on. */
struct reader {
	struct cman_tls_cipher cipher;
	uint64_t seq;
	const uint8_t *at, *end;
};

static void reader_key(struct reader *r, const struct cman_tls_half *half, uint16_t suite)
{
	cman_tls_cipher_fini(&r->cipher);
	cr_assert_eq(cman_tls_cipher_init(&r->cipher, cman_tls_suite(suite), half, false), 0);
	r->seq = half->seq;
}

static struct reader reader(int l, const struct cman_tls_leg *before)
{
	struct reader r = { .at = leg[l].out.data + sizeof(stream[0]),
			    .end = leg[l].out.data + leg[l].out.len };

	cr_expect_arr_eq(leg[l].out.data, stream[2 * l + 1], sizeof(stream[0]));
	cr_expect_eq(leg[l].unsent, 30 + (size_t)(r.end - r.at));
	reader_key(&r, &before->tx, before->suite);
	return r;
}

static size_t next_record(struct reader *r, uint8_t *content, uint8_t *ret_type)
{
	int len = cman_tls_record_look(r->at, (size_t)(r->end - r->at), NULL);
	uint8_t *room = malloc(CMAN_TLS_RECORD_MAX);
	size_t n;

	cr_assert_gt(len, 0);
	cr_assert_leq(len, r->end - r->at);
	cr_assert_eq(cman_tls_record_open(&r->cipher, r->seq++, r->at, (size_t)len, room,
					  CMAN_TLS_RECORD_MAX, &n, ret_type),
		     0, "record %llu", (unsigned long long)r->seq - 1);
	memcpy(content, room, n);
	free(room);
	r->at += len;
	return n;
}

/* The rest of it is data, and all of @data. */
static void expect_data(struct reader *r, const uint8_t *data, size_t len)
{
	static uint8_t got[sizeof(plain[0]) + CMAN_TLS_PLAIN_MAX];
	size_t have = 0;
	uint8_t type;

	while (r->at < r->end) {
		have += next_record(r, got + have, &type);
		cr_assert_eq(type, CMAN_TLS_DATA);
		cr_assert_leq(have, len);
	}
	cr_expect_eq(have, len);
	cr_expect_arr_eq(got, data, len);
	cman_tls_cipher_fini(&r->cipher);
}

static void expect_nothing_between(enum cman_tls_engine engine)
{
	static const struct cman_tls_flow none;

	for (int k = 0; k < 2; k++) {
		cr_expect_eq(session.leg[k].engine, session.leg[k].version ? engine : 0);
		cr_expect_eq(memcmp(&session.flow[k], &none, sizeof(none)), 0);
	}
}

static void both_legs(uint16_t client, uint16_t server)
{
	struct cman_tls_leg before[2];
	struct reader r;

	session.leg[CLIENT] = before[CLIENT] = tls_leg(client, CMAN_TLS_KERNEL, 1);
	session.leg[SERVER] = before[SERVER] = tls_leg(server, CMAN_TLS_KERNEL, 5);
	cr_assert_eq(to_user(40000, 1), 0);
	expect_nothing_between(CMAN_TLS_USER);
	r = reader(SERVER, &before[SERVER]);
	expect_data(&r, plain[UP], 40000);
	cr_expect_eq(session.leg[SERVER].tx.seq, before[SERVER].tx.seq + 3);
	r = reader(CLIENT, &before[CLIENT]);
	expect_data(&r, plain[DOWN], 1);
	cr_expect_eq(session.leg[CLIENT].tx.seq, before[CLIENT].tx.seq + 1);
	for (int l = 0; l < 2; l++) {
		cr_expect_eq(session.leg[l].rx.seq, before[l].rx.seq);
		cr_expect_eq(leg[l].in.len, sizeof(stream[0]));
		cr_expect_eq(leg[l].recv_seq, 5);
	}
}

Test(tls_engine, what_was_between_is_sealed)
{
	static const uint16_t suites[][2] = {
		{ 0x1301, 0x1303 }, { 0x1302, 0xc02f }, { 0xc030, 0xcca8 }, { 0xcca9, 0x1301 }
	};

	for (size_t k = 0; k < sizeof(suites) / sizeof(suites[0]); k++) {
		both_legs(suites[k][0], suites[k][1]);
		end();
		begin();
	}
}

Test(tls_engine, a_leg_without_tls_gets_the_bytes)
{
	struct cman_tls_leg before = tls_leg(0x1301, CMAN_TLS_KERNEL, 1);
	struct reader r;

	session.leg[CLIENT] = before;
	cr_assert_eq(to_user(50000, 17), 0);
	expect_nothing_between(CMAN_TLS_USER);
	cr_assert_eq(leg[SERVER].out.len, sizeof(stream[0]) + 50000);
	cr_expect_eq(leg[SERVER].unsent, 30 + 50000);
	cr_expect_arr_eq(leg[SERVER].out.data + sizeof(stream[0]), plain[UP], 50000);
	r = reader(CLIENT, &before);
	expect_data(&r, plain[DOWN], 17);
}

Test(tls_engine, nothing_between_changes_no_queue)
{
	session.leg[CLIENT] = tls_leg(0x1301, CMAN_TLS_KERNEL, 1);
	leg[SERVER].fin = leg[CLIENT].fin = true; /* also of a leg that has ended */
	cr_assert_eq(to_user(0, 0), 0);
	expect_nothing_between(CMAN_TLS_USER);
	for (int l = 0; l < 2; l++) {
		cr_expect_eq(leg[l].out.data, stream[2 * l + 1]);
		cr_expect_eq(leg[l].out.len, sizeof(stream[0]));
		cr_expect_eq(leg[l].unsent, 30);
	}
}

Test(tls_engine, bytes_for_a_leg_that_has_ended)
{
	session.leg[CLIENT] = tls_leg(0x1301, CMAN_TLS_KERNEL, 1);
	leg[SERVER].fin = true;
	cr_expect_eq(to_user(1, 0), -EPROTO);
	leg[CLIENT].fin = true;
	cr_expect_eq(to_user(0, 1), -EPROTO);
}

/* A KeyUpdate, then data with the next key. */
static void expect_update(uint64_t seq, uint8_t flags)
{
	struct cman_tls_leg before = tls_leg(0x1302, CMAN_TLS_KERNEL, 1);
	struct cman_tls_half next;
	uint8_t content[CMAN_TLS_RECORD_MAX], type;
	struct reader r;

	before.tx.seq = seq;
	before.flags = flags;
	session.leg[SERVER] = before;
	cr_assert_eq(to_user(17000, 0), 0);
	r = reader(SERVER, &before);
	cr_assert_eq(next_record(&r, content, &type), CMAN_TLS_KEY_UPDATE_LEN);
	cr_expect_eq(type, CMAN_TLS_HANDSHAKE);
	cr_expect_arr_eq(content, cman_tls_key_update, CMAN_TLS_KEY_UPDATE_LEN);
	cr_assert_eq(cman_tls_keys_update(cman_tls_suite(before.suite), &before.tx, &next), 0);
	reader_key(&r, &next, before.suite);
	expect_data(&r, plain[UP], 17000);
	cr_expect_eq(session.leg[SERVER].tx.epoch, 1);
	cr_expect_eq(session.leg[SERVER].tx.seq, 2);
	cr_expect_eq(session.leg[SERVER].flags, 0);
}

Test(tls_engine, an_answer_that_is_owed_comes_first)
{
	expect_update(20, CMAN_TLS_UPDATE_OWED);
}

Test(tls_engine, a_key_that_has_sealed_enough_is_replaced)
{
	expect_update(CMAN_TLS_REKEY_RECORDS, 0);
}

Test(tls_engine, bytes_go_back_to_the_queues)
{
	static uint8_t in[2][3000], out[2][70000];

	session.leg[CLIENT] = tls_leg(0x1301, CMAN_TLS_USER, 1);
	session.leg[SERVER] = tls_leg(0xc02f, CMAN_TLS_USER, 5);
	for (int dir = 0; dir < 2; dir++) {
		fill(in[dir], sizeof(in[dir]), 70 + (unsigned int)dir);
		fill(out[dir], sizeof(out[dir]), 80 + (unsigned int)dir);
		session.flow[dir] = (struct cman_tls_flow){
			.in = in[dir],
			.in_len = sizeof(in[dir]),
			.in_base = 12345,
			.out = out[dir],
			.out_len = dir ? 0 : sizeof(out[dir]),
			.out_base = 6789,
		};
	}
	cr_assert(cman_tls_fits_kernel(&session, leg));
	cr_assert_eq(cman_tls_to_kernel(&session, leg), 0);
	expect_nothing_between(CMAN_TLS_KERNEL);
	for (int l = 0; l < 2; l++) {
		cr_assert_eq(leg[l].in.len, 3000 + sizeof(stream[0]));
		cr_expect_arr_eq(leg[l].in.data, in[l], 3000);
		cr_expect_arr_eq(leg[l].in.data + 3000, stream[2 * l], sizeof(stream[0]));
		cr_expect_eq(leg[l].recv_seq, 5u - 3000u);
	}
	cr_assert_eq(leg[SERVER].out.len, sizeof(stream[0]) + sizeof(out[UP]));
	cr_expect_arr_eq(leg[SERVER].out.data + sizeof(stream[0]), out[UP], sizeof(out[UP]));
	cr_expect_eq(leg[SERVER].unsent, 30 + sizeof(out[UP]));
	cr_expect_eq(leg[CLIENT].out.len, sizeof(stream[0]));
	cr_expect_eq(leg[CLIENT].unsent, 30);
	cr_expect_eq(session.leg[CLIENT].tx.seq, 21);
	cr_expect_eq(session.leg[SERVER].tx.seq, 25);
}

Test(tls_engine, what_the_kernel_cannot_go_on_with)
{
	static const uint8_t flags[] = { CMAN_TLS_CLOSE_SENT, CMAN_TLS_CLOSE_RECEIVED,
					 CMAN_TLS_UPDATE_OWED, CMAN_TLS_REFUSAL_OWED };

	session.leg[CLIENT] = tls_leg(0x1301, CMAN_TLS_USER, 1);
	session.leg[CLIENT].flags = CMAN_TLS_SERVER;
	cr_expect(cman_tls_fits_kernel(&session, leg));
	for (size_t k = 0; k < sizeof(flags); k++) {
		session.leg[CLIENT].flags = CMAN_TLS_SERVER | flags[k];
		cr_expect_not(cman_tls_fits_kernel(&session, leg), "flags %#x", flags[k]);
	}
	session.leg[CLIENT].flags = CMAN_TLS_SERVER;
	session.leg[CLIENT].post.have = 2;
	cr_expect_not(cman_tls_fits_kernel(&session, leg), "a message in part");
	session.leg[CLIENT].post.have = 0;
	for (int l = 0; l < 2; l++) {
		leg[l].state = TCP_CLOSE_WAIT;
		cr_expect_not(cman_tls_fits_kernel(&session, leg));
		leg[l].state = TCP_ESTABLISHED;
		leg[l].fin = true;
		cr_expect_not(cman_tls_fits_kernel(&session, leg));
		leg[l].fin = false;
		leg[l].peer_fin = true;
		cr_expect_not(cman_tls_fits_kernel(&session, leg));
		leg[l].peer_fin = false;
	}
	cr_expect(cman_tls_fits_kernel(&session, leg));
}

Test(tls_engine, whose_a_leg_is_to_be)
{
	const struct cman_tls_suite *tls12 = cman_tls_suite(0xc02f),
				    *tls13 = cman_tls_suite(0x1301),
				    *chacha = cman_tls_suite(0x1303);
	static const uint32_t none[2],
		gcm[2] = { 1u << CMAN_TLS_AES_128_GCM, 1u << CMAN_TLS_AES_128_GCM };

	cr_expect_not(cman_tls_for_kernel(tls12, CMAN_TLS_KERNEL, none, true));
	cr_expect_not(cman_tls_for_kernel(chacha, CMAN_TLS_KERNEL, gcm, true));
	cr_expect_not(cman_tls_for_kernel(tls12, CMAN_TLS_USER, gcm, true));
	cr_expect(cman_tls_for_kernel(tls12, CMAN_TLS_NONE, gcm, false));
	cr_expect(cman_tls_for_kernel(tls13, CMAN_TLS_NONE, gcm, true));
	cr_expect_not(cman_tls_for_kernel(tls13, CMAN_TLS_NONE, gcm, false), "no KeyUpdate there");
	cr_expect(cman_tls_for_kernel(tls13, CMAN_TLS_KERNEL, gcm, false), "but who asks gets it");
}
