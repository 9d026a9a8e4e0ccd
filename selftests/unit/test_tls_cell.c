// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The secret memory of a cell: where everything lies and that nothing overlaps; a transaction is seen by
 * others not at all or whole; a session leaves a slot and enters another one unchanged, also through the
 * codec of the exported state, with every position of records in between; what contradicts the sockets'
 * counters is refused; and nothing is left behind.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usr/core/session.h"
#include "usr/sys/secret.h"
#include "usr/sys/tls_cell.h"

#define SLOTS 37
#define ID    0x0000000500000001ull

static int fd = -1;
static uint8_t *memory;
static size_t size;

static void set_up(void)
{
	size = cman_tls_memory_size(SLOTS);
	fd = cman_secret_memfd("test", size);
	cr_assert_geq(fd, 0);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cr_assert_neq(memory, MAP_FAILED);
}

static void tear_down(void)
{
	munmap(memory, size);
	close(fd);
}

TestSuite(tls_cell, .init = set_up, .fini = tear_down);

static void fill(uint8_t *p, size_t len, unsigned int seed)
{
	for (size_t k = 0; k < len; k++)
		p[k] = (uint8_t)(seed * 131 + k * 7 + (k >> 8));
}

static struct cman_tls_leg example_leg(uint16_t suite, unsigned int seed, bool server)
{
	const struct cman_tls_suite *s = cman_tls_suite(suite);
	struct cman_tls_leg leg = {
		.engine = CMAN_TLS_USER,
		.flags = server ? CMAN_TLS_SERVER : 0,
		.version = s->version,
		.suite = suite,
		.rx = { .seq = 1000 + seed },
		.tx = { .seq = 2000 + seed },
	};
	size_t len = s->hash_len;

	if (s->version == CMAN_TLS_1_2)
		len = s->key_len + (s->aead == CMAN_TLS_CHACHA20_POLY1305 ? 12u : 4u);
	fill(leg.rx.secret, len, seed + 1);
	fill(leg.tx.secret, len, seed + 2);
	if (s->version == CMAN_TLS_1_3) {
		leg.rx.epoch = 3 + seed;
		leg.tx.epoch = 4 + seed;
		if (!server)
			leg.post = (struct cman_tls_post){ .have = 2, .head = { 24, 0 } };
	} else if (s->aead != CMAN_TLS_CHACHA20_POLY1305) {
		leg.tx.explicit_iv = 0x1122334455667788ull + seed;
	}
	return leg;
}

static void same_half(const struct cman_tls_half *a, const struct cman_tls_half *b)
{
	cr_expect_eq(a->seq, b->seq);
	cr_expect_eq(a->epoch, b->epoch);
	cr_expect_eq(a->explicit_iv, b->explicit_iv);
	cr_expect_arr_eq(a->secret, b->secret, sizeof(a->secret));
}

static void same_leg(const struct cman_tls_leg *a, const struct cman_tls_leg *b)
{
	cr_expect_eq(a->engine, b->engine);
	cr_expect_eq(a->flags, b->flags);
	cr_expect_eq(a->version, b->version);
	cr_expect_eq(a->suite, b->suite);
	cr_expect_eq(a->post.skip, b->post.skip);
	cr_expect_eq(a->post.have, b->post.have);
	cr_expect_arr_eq(a->post.head, b->post.head, sizeof(a->post.head));
	same_half(&a->rx, &b->rx);
	same_half(&a->tx, &b->tx);
}

static void same_session(const struct cman_tls_session *a, const struct cman_tls_session *b)
{
	for (int leg = 0; leg < 2; leg++)
		same_leg(&a->leg[leg], &b->leg[leg]);
	for (int dir = 0; dir < 2; dir++) {
		const struct cman_tls_flow *x = &a->flow[dir], *y = &b->flow[dir];

		cr_expect_eq(x->in_base, y->in_base);
		cr_expect_eq(x->out_base, y->out_base);
		cr_assert_eq(x->in_len, y->in_len);
		cr_assert_eq(x->out_len, y->out_len);
		cr_expect(!x->in_len || !memcmp(x->in, y->in, x->in_len));
		cr_expect(!x->out_len || !memcmp(x->out, y->out, x->out_len));
	}
	cr_expect_str_eq(a->sni, b->sni);
	cr_expect_str_eq(a->alpn, b->alpn);
}

static bool all_zero(const uint8_t *p, size_t len)
{
	for (size_t k = 0; k < len; k++)
		if (p[k])
			return false;
	return true;
}

/* ---- layout ---- */

struct range {
	const uint8_t *from, *to;
};

static int by_address(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

Test(tls_cell, nothing_overlaps)
{
	struct range r[SLOTS * 5];
	size_t n = 0;

	for (uint32_t k = 0; k < SLOTS; k++) {
		const uint8_t *t = (const uint8_t *)cman_tls_slot_at(memory, k);

		r[n++] = (struct range){ t, t + sizeof(struct cman_tls_slot) };
		for (int dir = 0; dir < 2; dir++) {
			const uint8_t *in = cman_tls_in(memory, SLOTS, k, dir);
			const uint8_t *out = cman_tls_out(memory, SLOTS, k, dir);

			cr_expect_eq((uintptr_t)in % 4096, 0);
			cr_expect_eq((uintptr_t)out % 4096, 0);
			r[n++] = (struct range){ in, in + CMAN_TLS_IN_SIZE };
			r[n++] = (struct range){ out, out + CMAN_TLS_OUT_SIZE };
		}
	}
	qsort(r, n, sizeof(*r), by_address);
	cr_expect_eq(r[0].from, memory);
	for (size_t k = 1; k < n; k++)
		cr_expect_leq(r[k - 1].to, r[k].from, "range %zu", k);
	cr_expect_eq(r[n - 1].to, memory + size, "and the last one ends with the memory");
}

/* Of 60,000 slots the offsets exceed 32 bits. */
Test(tls_cell, many_slots)
{
	uint8_t *base = NULL;
	size_t all = cman_tls_memory_size(60000);

	cr_expect_gt(all, (size_t)UINT32_MAX);
	cr_expect_eq((size_t)(cman_tls_out(base, 60000, 59999, CMAN_DOWN) - base) +
			     CMAN_TLS_OUT_SIZE,
		     all);
}

Test(tls_cell, records_fit)
{
	cr_expect_geq(CMAN_TLS_OUT_SIZE, 4u * CMAN_TLS_RECORD_MAX + 4096);
	cr_expect_geq(CMAN_TLS_IN_SIZE, 5u * CMAN_TLS_RECORD_MAX);
}

Test(tls_cell, trim_gives_the_pages_of_one_slot_back)
{
	struct cman_tls_slot *t = cman_tls_slot_at(memory, 4);
	struct stat before, after;

	cman_tls_slot_begin(t, ID);
	for (uint32_t k = 3; k < 6; k++)
		for (int dir = 0; dir < 2; dir++) {
			memset(cman_tls_in(memory, SLOTS, k, dir), 0xaa, CMAN_TLS_IN_SIZE);
			memset(cman_tls_out(memory, SLOTS, k, dir), 0xbb, CMAN_TLS_OUT_SIZE);
		}
	cr_assert_eq(fstat(fd, &before), 0);
	cman_tls_trim(fd, SLOTS, 4);
	cr_assert_eq(fstat(fd, &after), 0);
	cr_expect_eq((size_t)(before.st_blocks - after.st_blocks) * 512,
		     2u * (CMAN_TLS_IN_SIZE + CMAN_TLS_OUT_SIZE));
	cr_expect_eq(t->id, ID, "the slot's own part stays");
	for (int dir = 0; dir < 2; dir++) {
		cr_expect(all_zero(cman_tls_in(memory, SLOTS, 4, dir), CMAN_TLS_IN_SIZE));
		cr_expect(all_zero(cman_tls_out(memory, SLOTS, 4, dir), CMAN_TLS_OUT_SIZE));
		for (uint32_t k = 3; k < 6; k += 2) {
			cr_expect_eq(cman_tls_in(memory, SLOTS, k, dir)[CMAN_TLS_IN_SIZE - 1],
				     0xaa);
			cr_expect_eq(cman_tls_in(memory, SLOTS, k, dir)[0], 0xaa);
			cr_expect_eq(cman_tls_out(memory, SLOTS, k, dir)[CMAN_TLS_OUT_SIZE - 1],
				     0xbb);
		}
	}
}

/* ---- a transaction ---- */

Test(tls_cell, begin_and_wipe)
{
	struct cman_tls_slot *t = cman_tls_slot_at(memory, 1);

	memset(t, 0x55, sizeof(*t));
	cman_tls_slot_begin(t, ID);
	cr_expect_eq(t->id, ID);
	t->id = 0;
	cr_expect(all_zero((const uint8_t *)t, sizeof(*t)));
	memset(t, 0x55, sizeof(*t));
	cman_tls_slot_wipe(t);
	cr_expect(all_zero((const uint8_t *)t, sizeof(*t)));
}

Test(tls_cell, a_commit_is_seen_whole_or_not_at_all)
{
	struct cman_tls_slot *t = cman_tls_slot_at(memory, 2);

	cman_tls_slot_begin(t, ID);
	for (uint64_t k = 1; k < 10; k++) {
		const struct cman_tls_commit *now = cman_tls_now(t);
		struct cman_tls_commit before = *now, *next = cman_tls_next(t);

		cr_expect_neq(next, now);
		cr_expect_arr_eq(next, now, sizeof(*now));
		fill((uint8_t *)next, sizeof(*next), (unsigned int)k);
		next->number[0][CMAN_TLS_TX].seq = k;
		cr_expect_eq(cman_tls_now(t), now, "before the store nothing has changed");
		cr_expect_arr_eq(cman_tls_now(t), &before, sizeof(before));
		if (k % 3 == 0) { /* given up, as after a SIGKILL: the next one begins anew */
			next = cman_tls_next(t);
			cr_expect_arr_eq(next, &before, sizeof(before));
			next->number[0][CMAN_TLS_TX].seq = k;
		}
		cman_tls_commit(t);
		cr_expect_eq(cman_tls_now(t), next);
		cr_expect_eq(cman_tls_now(t)->number[0][CMAN_TLS_TX].seq, k);
	}
}

/* ---- legs ---- */

static const uint16_t suites[] = { 0x1301, 0x1302, 0x1303, 0xc02f, 0xc030, 0xcca8, 0xc02b, 0xc02c };

Test(tls_cell, a_leg_is_what_was_set)
{
	for (size_t k = 0; k < sizeof(suites) / sizeof(*suites); k++)
		for (int leg = 0; leg < 2; leg++) {
			struct cman_tls_slot *t = cman_tls_slot_at(memory, (uint32_t)k);
			struct cman_tls_leg set = example_leg(suites[k], (unsigned int)k, !leg),
					    got;
			struct cman_tls_half half;

			cman_tls_slot_begin(t, ID + k);
			cman_tls_slot_set_leg(t, leg, &set);
			cman_tls_slot_leg(t, leg, &got);
			same_leg(&set, &got);
			cman_tls_slot_half(t, leg, CMAN_TLS_RX, &half);
			same_half(&half, &set.rx);
			cman_tls_slot_half(t, leg, CMAN_TLS_TX, &half);
			same_half(&half, &set.tx);
			cman_tls_slot_leg(t, !leg, &got);
			cr_expect(all_zero((const uint8_t *)&got, sizeof(got)),
				  "the other leg has no TLS");
		}
}

/* A new key lies beside the present one and holds with the commit that counts it. */
Test(tls_cell, a_new_key_holds_with_its_commit)
{
	struct cman_tls_slot *t = cman_tls_slot_at(memory, 0);
	struct cman_tls_leg set = example_leg(0x1301, 0, true);
	uint8_t secret[2][CMAN_TLS_SECRET_MAX] = { { 0 } };
	struct cman_tls_commit *next;
	struct cman_tls_half half;

	cman_tls_slot_begin(t, ID);
	cman_tls_slot_set_leg(t, 0, &set);
	memcpy(secret[set.tx.epoch & 1], set.tx.secret, sizeof(set.tx.secret));
	for (uint32_t epoch = set.tx.epoch + 1; epoch < 20; epoch++) {
		next = cman_tls_next(t);
		fill(secret[epoch & 1], 32, epoch);
		memcpy(t->secret[0][CMAN_TLS_TX][epoch & 1], secret[epoch & 1],
		       CMAN_TLS_SECRET_MAX);
		next->number[0][CMAN_TLS_TX].epoch = epoch;
		next->number[0][CMAN_TLS_TX].seq = 0;
		cman_tls_slot_half(t, 0, CMAN_TLS_TX, &half);
		cr_expect_eq(half.epoch, epoch - 1);
		cr_expect_arr_eq(half.secret, secret[~epoch & 1], sizeof(half.secret));
		cman_tls_commit(t);
		cman_tls_slot_half(t, 0, CMAN_TLS_TX, &half);
		cr_expect_eq(half.epoch, epoch);
		cr_expect_eq(half.seq, 0);
		cr_expect_arr_eq(half.secret, secret[epoch & 1], sizeof(half.secret));
		cman_tls_slot_half(t, 0, CMAN_TLS_RX, &half);
		same_half(&half, &set.rx);
	}
}

/* ---- a session moves ---- */

/*
 * A busy session: @used bytes of in[] are used up, @in more are there; out[] has @out, of which @sent
 * are out. The counters say the same.
 */
struct busy {
	uint32_t used, in, out, sent;
};

static void make_busy(uint32_t slot, const struct busy *b, uint64_t read[2], uint64_t written[2])
{
	struct cman_tls_slot *t = cman_tls_slot_at(memory, slot);
	struct cman_tls_leg client = example_leg(0x1302, 1, true),
			    server = example_leg(0xc02f, 2, false);
	struct cman_tls_commit *next;

	cman_tls_slot_begin(t, ID);
	cman_tls_slot_set_leg(t, 0, &client);
	cman_tls_slot_set_leg(t, 1, &server);
	strcpy(t->sni, "db.example");
	strcpy(t->alpn, "h2");
	next = cman_tls_next(t);
	for (int dir = 0; dir < 2; dir++) {
		struct cman_tls_position *p = &next->flow[dir];

		p->in_base = 5000000000ull * ((uint64_t)dir + 1);
		p->in_used = b->used;
		p->out_base = 7000000000ull * ((uint64_t)dir + 1);
		p->out_len = b->out;
		read[dir] = p->in_base + b->used + b->in;
		written[dir] = p->out_base + b->sent;
		fill(cman_tls_in(memory, SLOTS, slot, dir), b->used + b->in,
		     10 + (unsigned int)dir);
		fill(cman_tls_out(memory, SLOTS, slot, dir), b->out, 20 + (unsigned int)dir);
	}
	cman_tls_commit(t);
}

static const struct busy situations[] = {
	{ 0, 0, 0, 0 },
	{ 0, 3, 0, 0 },
	{ 16406, 4, 16406, 0 },
	{ 16406, 900, 16406, 16406 },
	{ 70000, 16000, 70000, 1 },
	{ 0, CMAN_TLS_IN_SIZE, CMAN_TLS_OUT_SIZE, 0 },
	{ CMAN_TLS_IN_SIZE, 0, CMAN_TLS_OUT_SIZE, CMAN_TLS_OUT_SIZE },
	{ CMAN_TLS_IN_SIZE - 1, 1, CMAN_TLS_OUT_SIZE, CMAN_TLS_OUT_SIZE - 1 },
};

Test(tls_cell, there_and_back)
{
	for (size_t k = 0; k < sizeof(situations) / sizeof(*situations); k++) {
		const struct busy *b = &situations[k];
		struct cman_tls_session first, second, third;
		uint64_t read[2], written[2];
		const char *why = "";
		size_t len;
		uint8_t *wire;

		make_busy(3, b, read, written);
		cr_assert_eq(cman_tls_slot_export(memory, SLOTS, 3, read, written, &first), 0,
			     "%zu", k);
		for (int dir = 0; dir < 2; dir++) {
			cr_expect_eq(first.flow[dir].in_len, b->in);
			cr_expect_eq(first.flow[dir].out_len, b->out - b->sent);
			cr_expect_eq(first.flow[dir].in_base + first.flow[dir].in_len, read[dir]);
			cr_expect_eq(first.flow[dir].out_base, written[dir]);
			if (b->in)
				cr_expect_eq(first.flow[dir].in,
					     cman_tls_in(memory, SLOTS, 3, dir) + b->used);
			if (b->out > b->sent)
				cr_expect_eq(first.flow[dir].out,
					     cman_tls_out(memory, SLOTS, 3, dir) + b->sent);
		}
		cr_expect_str_eq(first.sni, "db.example");
		cr_expect_str_eq(first.alpn, "h2");

		/* into another slot, which had something else */
		memset(cman_tls_slot_at(memory, 9), 0x77, sizeof(struct cman_tls_slot));
		cr_assert_eq(cman_tls_slot_import(memory, SLOTS, 9, ID + 1, &first), 0);
		cr_expect_eq(cman_tls_slot_at(memory, 9)->id, ID + 1);
		cr_assert_eq(cman_tls_slot_export(memory, SLOTS, 9, read, written, &second), 0);
		same_session(&first, &second);

		/* and as it travels */
		len = cman_tls_session_size(&second);
		wire = cman_secret_alloc(len);
		cr_assert_eq(cman_tls_session_encode(&second, wire, len), 0);
		cr_assert_eq(cman_tls_session_decode(wire, len, &third, &why), 0, "%s", why);
		cr_assert_eq(cman_tls_slot_import(memory, SLOTS, 20, ID, &third), 0);
		cr_assert_eq(cman_tls_slot_export(memory, SLOTS, 20, read, written, &third), 0);
		same_session(&first, &third);
		cman_secret_free(wire, len);
	}
}

/* A target that dies after the import leaves everything to the next: the import can be repeated. */
Test(tls_cell, import_is_the_same_again)
{
	struct cman_tls_session session;
	struct cman_tls_slot once;
	uint64_t read[2], written[2];

	make_busy(3, &situations[4], read, written);
	cr_assert_eq(cman_tls_slot_export(memory, SLOTS, 3, read, written, &session), 0);
	cr_assert_eq(cman_tls_slot_import(memory, SLOTS, 9, ID, &session), 0);
	once = *cman_tls_slot_at(memory, 9);
	cr_assert_eq(cman_tls_slot_import(memory, SLOTS, 9, ID, &session), 0);
	cr_expect_arr_eq(&once, cman_tls_slot_at(memory, 9), sizeof(once));
}

Test(tls_cell, contradictions_are_refused)
{
	struct cman_tls_session session;
	struct cman_tls_position *p;
	uint64_t read[2], written[2];

	for (int dir = 0; dir < 2; dir++) {
#define REFUSED(change) \
	do { \
		make_busy(3, &situations[3], read, written); \
		p = &cman_tls_slot_at(memory, 3) \
			     ->commit[cman_tls_slot_at(memory, 3)->which & 1] \
			     .flow[dir]; \
		(void)p; \
		change; \
		cr_expect_eq(cman_tls_slot_export(memory, SLOTS, 3, read, written, &session), \
			     -EILSEQ, "%d: %s", dir, #change); \
	} while (0)
		REFUSED(read[dir] -= 901);		/* less was read than is used up */
		REFUSED(read[dir] -= 16406 + 901);	/* less than the base */
		REFUSED(read[dir] += CMAN_TLS_IN_SIZE); /* more than there is room for */
		REFUSED(written[dir] += 1);		/* more was sent than was sealed */
		REFUSED(written[dir] -= 16407);		/* less than before */
		REFUSED(p->in_used = CMAN_TLS_IN_SIZE + 1);
		REFUSED(p->out_len = CMAN_TLS_OUT_SIZE + 1);
		REFUSED(p->in_base += 1ull << 32);
		REFUSED(p->out_base += 1ull << 32);
#undef REFUSED
	}
	make_busy(3, &situations[3], read, written);
	cr_expect_eq(cman_tls_slot_export(memory, SLOTS, 3, read, written, &session), 0);
}

Test(tls_cell, too_much_is_refused)
{
	static uint8_t data[CMAN_TLS_IN_SIZE + 1];
	struct cman_tls_slot *t = cman_tls_slot_at(memory, 5);

	for (int dir = 0; dir < 2; dir++) {
		struct cman_tls_session s = { .leg[0] = example_leg(0x1301, 0, true) };

		cman_tls_slot_begin(t, ID + 7);
		s.flow[dir] = (struct cman_tls_flow){ .in = data, .in_len = CMAN_TLS_IN_SIZE + 1 };
		cr_expect_eq(cman_tls_slot_import(memory, SLOTS, 5, ID, &s), -EMSGSIZE);
		s.flow[dir] = (struct cman_tls_flow){ .out = data,
						      .out_len = CMAN_TLS_OUT_SIZE + 1 };
		cr_expect_eq(cman_tls_slot_import(memory, SLOTS, 5, ID, &s), -EMSGSIZE);
		cr_expect_eq(t->id, ID + 7, "nothing was changed");
		s.flow[dir].out_len = CMAN_TLS_OUT_SIZE;
		cr_expect_eq(cman_tls_slot_import(memory, SLOTS, 5, ID, &s), 0);
	}
}

/* Names for people are cut, and always end. */
Test(tls_cell, long_names_are_cut)
{
	struct cman_tls_session s = { .leg[0] = example_leg(0x1301, 0, true) }, got;
	struct cman_tls_slot *t = cman_tls_slot_at(memory, 5);
	const uint64_t none[2] = { 0 };

	memset(s.sni, 'n', sizeof(s.sni) - 1);
	memset(s.alpn, 'a', sizeof(s.alpn) - 1);
	cr_assert_eq(cman_tls_slot_import(memory, SLOTS, 5, ID, &s), 0);
	cr_expect_eq(strlen(t->sni), sizeof(t->sni) - 1);
	cr_expect_eq(strlen(t->alpn), sizeof(t->alpn) - 1);
	/* also when the memory's own have no end */
	memset(t->sni, 'n', sizeof(t->sni));
	memset(t->alpn, 'a', sizeof(t->alpn));
	cr_assert_eq(cman_tls_slot_export(memory, SLOTS, 5, none, none, &got), 0);
	cr_expect_eq(strlen(got.sni), sizeof(t->sni));
	cr_expect_eq(strlen(got.alpn), sizeof(t->alpn));
}
