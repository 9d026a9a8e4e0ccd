// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Frames: every type against its vector in wire_vectors.h (writer and reader), every broken frame
 * there against its sentence, the writer's refusals, versions, unknown tags, the dump, and the
 * tables of Documentation/wire-format.rst against the tables of the code.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/cman_maps.h"
#include "selftests/unit/wire_vectors.h"
#include "usr/core/config.h"
#include "usr/core/wire.h"
#include "usr/core/wire_fields.h"

#define BATCH_ID 0x0000000500000001ull

static int digit(char c)
{
	return c >= 'a' ? c - 'a' + 10 : c - '0';
}

/* Exactly as many bytes on the heap as the vector has: the address sanitizer sees one too many. */
static uint8_t *unhex(const char *hex, size_t *ret_len)
{
	uint8_t *p = malloc(strlen(hex) + 1), *exact;
	size_t n = 0;

	for (; *hex; hex++) {
		if (*hex == ' ')
			continue;
		p[n++] = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
		hex++;
	}
	exact = malloc(n ? n : 1);
	memcpy(exact, p, n);
	free(p);
	*ret_len = n;
	return exact;
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

/* ---- the sessions of VECTOR_BATCH ---- */

static void v4(uint8_t addr[16], uint8_t last)
{
	const uint8_t v[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = last };

	memcpy(addr, v, 16);
}

static struct cman_wire_session session(uint64_t n)
{
	struct cman_wire_session s = {
		.id = 0x0100000000000000 + n,
		.service = "db",
		.service_len = 2,
		.listener = "front",
		.listener_len = 5,
		.client_port = 40000,
		.target_port = 5432,
		.age_s = 60,
		.idle_s = 5,
	};

	v4(s.client_addr, 5);
	v4(s.target_addr, 9);
	if (n == 1) {
		s.position[0] = 1000;
		s.position[1] = 2000;
	} else if (n == 2) {
		memset(s.client_addr, 0, 16);
		s.client_addr[15] = 1;
		s.eof = CMAN_EOF_UP;
		s.flags = CMAN_SLOT_CLIENT_RESTORED | CMAN_SLOT_SERVER_RESTORED;
		s.pipe[CMAN_UP] = 1;
		s.handovers = 2;
		s.position[0] = 0x1122334455667788;
		s.position[1] = 5;
		s.read_base[0] = -1;
		s.read_base[1] = 1;
		s.write_base[0] = 2;
		s.write_base[1] = -2;
		s.buffer[CMAN_DOWN] = (const uint8_t *)"ab";
		s.buffer_len[CMAN_DOWN] = 2;
	} else if (n == 3) {
		s.pipe[0] = s.pipe[1] = 1;
		s.service = "sssssssssssssssssssssssssssssss";
		s.listener = "lllllllllllllllllllllllllllllll";
		s.service_len = s.listener_len = 31;
	}
	return s;
}

static void same_session(const struct cman_wire_session *a, const struct cman_wire_session *b)
{
	struct cman_wire_session x = *a, y = *b;
	unsigned int d;

	cr_assert_eq(x.service_len, y.service_len);
	cr_assert_eq(memcmp(x.service, y.service, x.service_len), 0);
	cr_assert_eq(x.listener_len, y.listener_len);
	cr_assert_eq(memcmp(x.listener, y.listener, x.listener_len), 0);
	for (d = 0; d < 2; d++) {
		cr_assert_eq(x.buffer_len[d], y.buffer_len[d]);
		cr_assert_eq(!x.buffer[d], !y.buffer[d]);
		if (x.buffer[d])
			cr_assert_eq(memcmp(x.buffer[d], y.buffer[d], x.buffer_len[d]), 0);
		x.buffer[d] = y.buffer[d] = NULL;
	}
	x.service = y.service = x.listener = y.listener = NULL;
	cr_assert_eq(x.id, y.id);
	cr_assert_eq(x.eof, y.eof);
	cr_assert_eq(x.flags, y.flags);
	cr_assert_eq(memcmp(x.pipe, y.pipe, sizeof(x.pipe)), 0);
	cr_assert_eq(memcmp(x.client_addr, y.client_addr, 16), 0);
	cr_assert_eq(x.client_port, y.client_port);
	cr_assert_eq(memcmp(x.target_addr, y.target_addr, 16), 0);
	cr_assert_eq(x.target_port, y.target_port);
	cr_assert_eq(x.handovers, y.handovers);
	cr_assert_eq(x.age_s, y.age_s);
	cr_assert_eq(x.idle_s, y.idle_s);
	cr_assert_eq(memcmp(x.position, y.position, sizeof(x.position)), 0);
	cr_assert_eq(memcmp(x.read_base, y.read_base, sizeof(x.read_base)), 0);
	cr_assert_eq(memcmp(x.write_base, y.write_base, sizeof(x.write_base)), 0);
}

/* ---- what makes each vector ---- */

static void make_request(struct cman_frame_writer *w)
{
	cman_frame_add_text(w, CMAN_TAG_JSON, "{\"command\": \"status\"}");
}

static void make_progress(struct cman_frame_writer *w)
{
	cman_frame_add_text(w, CMAN_TAG_JSON, "{\"moved\": 3}");
}

static void make_reply(struct cman_frame_writer *w)
{
	cman_frame_add_text(w, CMAN_TAG_JSON, "{\"ok\": true,\n\t\"result\": \"\xc3\xbc\"}");
}

static void make_error(struct cman_frame_writer *w)
{
	cman_frame_add_text(w, CMAN_TAG_TEXT, "the type of the frame is unknown");
}

static const uint8_t boot_id[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

static void make_hello(struct cman_frame_writer *w)
{
	cman_frame_add_range(w, 1, 1);
	cman_frame_add_text(w, CMAN_TAG_RELEASE, "1.0.0");
	cman_frame_add_text(w, CMAN_TAG_ALIAS, "web");
	cman_frame_add_u32(w, CMAN_TAG_PID, 4711);
	cman_frame_add_bytes(w, CMAN_TAG_BOOT_ID, boot_id, 16);
	cman_frame_add_u64(w, CMAN_TAG_NETNS, 4026531840);
	cman_frame_add_u8(w, CMAN_TAG_CARRIER, CMAN_VIA_AUTO);
	cman_frame_add_u32(w, CMAN_TAG_SESSIONS, 0);
}

static void make_hello_source(struct cman_frame_writer *w)
{
	cman_frame_add_range(w, 1, 1);
	cman_frame_add_text(w, CMAN_TAG_ALIAS, "web");
	cman_frame_add_bytes(w, CMAN_TAG_BOOT_ID, boot_id, 16);
	cman_frame_add_u64(w, CMAN_TAG_NETNS, 4026531840);
	cman_frame_add_u8(w, CMAN_TAG_CARRIER, CMAN_VIA_FD);
}

static void make_listeners(struct cman_frame_writer *w)
{
	cman_frame_add_text(w, CMAN_TAG_LISTENER, "front 10.0.0.5:5432");
	cman_frame_add_text(w, CMAN_TAG_LISTENER, "wide [::1]:7000-7999");
}

static void make_nothing(struct cman_frame_writer *w)
{
	(void)w;
}

static void make_id(struct cman_frame_writer *w)
{
	cman_frame_add_u64(w, CMAN_TAG_BATCH_ID, BATCH_ID);
}

static void make_batch(struct cman_frame_writer *w)
{
	struct cman_wire_session s;
	uint64_t n;

	make_id(w);
	cman_frame_add_u64(w, CMAN_TAG_TIME_NS, 123456789);
	for (n = 1; n <= 3; n++) {
		s = session(n);
		cman_frame_add_session(w, &s);
	}
}

/* What the session's TLS is stands nowhere in the frame. */
static void make_batch_tls(struct cman_frame_writer *w)
{
	struct cman_wire_session s = session(1);

	s.tls = (const uint8_t *)"secret";
	s.tls_len = 6;
	make_id(w);
	cman_frame_add_session(w, &s);
	cman_frame_add_u64(w, CMAN_TAG_TLS_STATE, 0x2000);
}

static void make_refused(struct cman_frame_writer *w)
{
	make_id(w);
	cman_frame_add_text(w, CMAN_TAG_TEXT, "no free slot");
}

static void make_committed(struct cman_frame_writer *w)
{
	make_id(w);
	cman_frame_add_u32(w, CMAN_TAG_BLACKOUT, 950);
	cman_frame_add_u32(w, CMAN_TAG_BLACKOUT, 1200);
}

static void make_done(struct cman_frame_writer *w)
{
	cman_frame_add_left(w, 0x0100000000000009, "still connecting");
	cman_frame_add_left(w, 10, "");
}

static void make_cancel(struct cman_frame_writer *w)
{
	cman_frame_add_u8(w, CMAN_TAG_ROLLBACK, 1);
}

static const uint8_t an_address[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = 5 };

static void make_image(struct cman_frame_writer *w)
{
	make_id(w);
	cman_frame_add_bytes(w, CMAN_TAG_CHUNK, "CMIM", 4);
}

static void make_images(struct cman_frame_writer *w)
{
	make_id(w);
	cman_frame_add_u64(w, CMAN_TAG_TIME_NS, 123456789);
	cman_frame_add_u32(w, CMAN_TAG_COUNT, 2);
	cman_frame_add_u64(w, CMAN_TAG_LENGTH, 4);
}

static void make_resolve(struct cman_frame_writer *w)
{
	make_id(w);
	cman_frame_add_bytes(w, CMAN_TAG_BOOT_ID, boot_id, 16);
}

static void make_offer(struct cman_frame_writer *w)
{
	cman_frame_add_range(w, 1, 1);
	cman_frame_add_text(w, CMAN_TAG_ALIAS, "web");
	cman_frame_add_text(w, CMAN_TAG_SERVICE, "pg");
	cman_frame_add_bytes(w, CMAN_TAG_ADDRESS, an_address, 16);
}

static void make_ready_far(struct cman_frame_writer *w)
{
	uint8_t hop[22] = { [16] = 2, [21] = 1 };

	memcpy(hop, an_address, 16);
	cman_frame_add_bytes(w, CMAN_TAG_HOP, hop, sizeof(hop));
	cman_frame_add_u64(w, CMAN_TAG_EPOCH, 9);
}

static void make_keeper_hello(struct cman_frame_writer *w)
{
	cman_frame_add_range(w, 1, 1);
	cman_frame_add_u32(w, CMAN_TAG_FLAGS, 0);
}

static void make_keeper_hello_keeper(struct cman_frame_writer *w)
{
	cman_frame_add_u32(w, CMAN_TAG_CELL, 3);
	cman_frame_add_u32(w, CMAN_TAG_PID, 100);
	cman_frame_add_u32(w, CMAN_TAG_PID, 101);
	cman_frame_add_u32(w, CMAN_TAG_PID, 102);
}

static void make_give(struct cman_frame_writer *w)
{
	cman_frame_add_u32(w, CMAN_TAG_FD_NUMBER, 17);
	cman_frame_add_u32(w, CMAN_TAG_FD_NUMBER, 18);
}

static void make_take_keeper(struct cman_frame_writer *w)
{
	cman_frame_add_u32(w, CMAN_TAG_FD_NUMBER, 0x7fffffff);
}

static void make_drop(struct cman_frame_writer *w)
{
	cman_frame_add_u32(w, CMAN_TAG_FD_NUMBER, 17);
}

static const struct vector {
	enum cman_frame_type type;
	uint16_t nfds;
	const char *hex;
	void (*make)(struct cman_frame_writer *w);
} vectors[] = {
	{ CMAN_FRAME_REQUEST, 0, VECTOR_REQUEST, make_request },
	{ CMAN_FRAME_PROGRESS, 0, VECTOR_PROGRESS, make_progress },
	{ CMAN_FRAME_REPLY, 0, VECTOR_REPLY, make_reply },
	{ CMAN_FRAME_ERROR, 0, VECTOR_ERROR, make_error },
	{ CMAN_FRAME_HELLO, 0, VECTOR_HELLO, make_hello },
	{ CMAN_FRAME_HELLO, 0, VECTOR_HELLO_SOURCE, make_hello_source },
	{ CMAN_FRAME_LISTENERS, 2, VECTOR_LISTENERS, make_listeners },
	{ CMAN_FRAME_READY, 0, VECTOR_READY, make_nothing },
	{ CMAN_FRAME_NAMED, 0, VECTOR_NAMED, make_nothing },
	{ CMAN_FRAME_BATCH, 12, VECTOR_BATCH, make_batch },
	{ CMAN_FRAME_BATCH, 3, VECTOR_BATCH_TLS, make_batch_tls },
	{ CMAN_FRAME_PREPARED, 0, VECTOR_PREPARED, make_id },
	{ CMAN_FRAME_REFUSED, 0, VECTOR_REFUSED, make_refused },
	{ CMAN_FRAME_COMMIT, 0, VECTOR_COMMIT, make_id },
	{ CMAN_FRAME_COMMITTED, 0, VECTOR_COMMITTED, make_committed },
	{ CMAN_FRAME_ABORT, 0, VECTOR_ABORT, make_id },
	{ CMAN_FRAME_DROPPED, 0, VECTOR_DROPPED, make_id },
	{ CMAN_FRAME_QUERY, 0, VECTOR_QUERY, make_id },
	{ CMAN_FRAME_DONE, 0, VECTOR_DONE, make_done },
	{ CMAN_FRAME_CANCEL, 0, VECTOR_CANCEL, make_cancel },
	{ CMAN_FRAME_FINISHED, 0, VECTOR_FINISHED, make_nothing },
	{ CMAN_FRAME_IMAGE, 0, VECTOR_IMAGE, make_image },
	{ CMAN_FRAME_IMAGES, 0, VECTOR_IMAGES, make_images },
	{ CMAN_FRAME_OFFER, 0, VECTOR_OFFER, make_offer },
	{ CMAN_FRAME_RESOLVE, 0, VECTOR_RESOLVE, make_resolve },
	{ CMAN_FRAME_READY, 0, VECTOR_READY_FAR, make_ready_far },
	{ CMAN_FRAME_KEEPER_HELLO, 0, VECTOR_KEEPER_HELLO, make_keeper_hello },
	{ CMAN_FRAME_KEEPER_HELLO, 0, VECTOR_KEEPER_HELLO_KEEPER, make_keeper_hello_keeper },
	{ CMAN_FRAME_GIVE, 0, VECTOR_GIVE, make_give },
	{ CMAN_FRAME_GIVE, 2, VECTOR_GIVE_KEEPER, make_nothing },
	{ CMAN_FRAME_TAKE, 252, VECTOR_TAKE, make_nothing },
	{ CMAN_FRAME_TAKE, 0, VECTOR_TAKE_KEEPER, make_take_keeper },
	{ CMAN_FRAME_DROP, 0, VECTOR_DROP, make_drop },
};
#define NVECTORS (sizeof(vectors) / sizeof(vectors[0]))

/* ---- the writer ---- */

Test(wire, writer_makes_every_vector)
{
	const struct cman_wire_type *t;
	struct cman_frame_writer w;
	bool seen[256] = { false };
	uint8_t *bytes;
	size_t i, len;

	for (i = 0; i < NVECTORS; i++) {
		bytes = unhex(vectors[i].hex, &len);
		cman_frame_begin(&w, vectors[i].type, 7);
		vectors[i].make(&w);
		cr_assert_eq(cman_frame_finish(&w, vectors[i].nfds), 0, "%s",
			     cman_frame_type_name(vectors[i].type));
		cr_assert_eq(w.used, len, "%s", cman_frame_type_name(vectors[i].type));
		cr_assert_eq(memcmp(w.data, bytes, len), 0, "%s",
			     cman_frame_type_name(vectors[i].type));
		cman_frame_free(&w);
		cr_assert_null(w.data);
		free(bytes);
		seen[vectors[i].type] = true;
	}
	for (t = cman_wire_types; t->name; t++)
		cr_assert(seen[t->type], "no vector of %s", t->name);
}

static int finish(struct cman_frame_writer *w, uint16_t nfds)
{
	int err = cman_frame_finish(w, nfds);

	cman_frame_free(w);
	return err;
}

/* Finish fails with @err and the frame as it stands is refused with @sentence. */
static void refuses(struct cman_frame_writer *w, uint16_t nfds, const char *sentence)
{
	struct cman_frame f;
	const char *why = "";

	cr_assert_eq(cman_frame_finish(w, nfds), -EBADMSG, "%s", sentence);
	cr_assert_eq(cman_frame_parse(w->data, w->used, &f, &why), -EBADMSG);
	cr_assert_str_eq(why, sentence);
	cman_frame_free(w);
}

Test(wire, writer_refuses_what_the_reader_would)
{
	struct cman_wire_session s;
	struct cman_frame_writer w;
	static uint8_t big[CMAN_BUFFER_SIZE + 1];
	unsigned int i;

	cman_frame_begin(&w, CMAN_FRAME_COMMIT, 1);
	refuses(&w, 0, "COMMIT: BATCH_ID is missing");

	cman_frame_begin(&w, CMAN_FRAME_COMMIT, 1);
	make_id(&w);
	make_id(&w);
	refuses(&w, 0, "COMMIT: BATCH_ID stands too often");

	cman_frame_begin(&w, CMAN_FRAME_COMMIT, 1);
	cman_frame_add_u32(&w, CMAN_TAG_BATCH_ID, 1);
	refuses(&w, 0, "COMMIT: BATCH_ID has a wrong length");

	cman_frame_begin(&w, CMAN_FRAME_COMMIT, 1);
	make_id(&w);
	refuses(&w, 1, "COMMIT: the number of descriptors is not what its fields need");

	cman_frame_begin(&w, CMAN_FRAME_COMMITTED, 1);
	make_id(&w);
	for (i = 0; i < CMAN_BATCH + 1; i++)
		cman_frame_add_u32(&w, CMAN_TAG_BLACKOUT, i);
	refuses(&w, 0, "COMMITTED: BLACKOUT stands too often");

	cman_frame_begin(&w, CMAN_FRAME_GIVE, 1);
	for (i = 0; i < CMAN_FRAME_MAX_FDS + 1; i++)
		cman_frame_add_u32(&w, CMAN_TAG_FD_NUMBER, i);
	refuses(&w, 0, "GIVE: FD_NUMBER stands too often");

	cman_frame_begin(&w, CMAN_FRAME_BATCH, 1);
	make_id(&w);
	for (i = 0; i < CMAN_BATCH + 1; i++) {
		s = session(100 + i);
		cman_frame_add_session(&w, &s);
	}
	refuses(&w, 2 * CMAN_BATCH + 2, "BATCH: SESSION stands too often");

	s = session(1);
	cman_frame_begin(&w, CMAN_FRAME_BATCH, 1);
	make_id(&w);
	cman_frame_add_session(&w, &s);
	cman_frame_add_session(&w, &s);
	refuses(&w, 4, "BATCH: SESSION: two sessions have the same id");

	s.buffer[0] = big;
	s.buffer_len[0] = sizeof(big);
	cman_frame_begin(&w, CMAN_FRAME_BATCH, 1);
	make_id(&w);
	cman_frame_add_session(&w, &s);
	refuses(&w, 2, "BATCH: SESSION: buffer is longer than a buffer");
}

Test(wire, writer_remembers_the_first_error)
{
	struct cman_wire_session s = session(1);
	struct cman_frame_writer w;

	/* a tag that this type of frame does not have, optional or not */
	cman_frame_begin(&w, CMAN_FRAME_COMMIT, 1);
	cman_frame_add_text(&w, CMAN_TAG_TEXT, "no");
	make_id(&w);
	cr_assert_eq(finish(&w, 0), -EINVAL);

	cman_frame_begin(&w, 99, 1);
	make_id(&w);
	cr_assert_eq(finish(&w, 0), -EINVAL);

	cman_frame_begin(&w, CMAN_FRAME_REQUEST, 1);
	cman_frame_add_text(&w, CMAN_TAG_JSON, NULL);
	cr_assert_eq(finish(&w, 0), -EINVAL);

	s.buffer_len[1] = 5; /* but no bytes */
	cman_frame_begin(&w, CMAN_FRAME_BATCH, 1);
	make_id(&w);
	cman_frame_add_session(&w, &s);
	cr_assert_eq(finish(&w, 2), -EINVAL);

	cman_frame_begin(&w, CMAN_FRAME_TAKE, 1);
	cr_assert_eq(finish(&w, CMAN_FRAME_MAX_FDS + 1), -EMSGSIZE);
}

Test(wire, limit_of_the_payload)
{
	const size_t most = CMAN_FRAME_MAX_PAYLOAD - CMAN_TLV_HEADER;
	char *text = malloc(most + 2);
	struct cman_frame_writer w;

	memset(text, 'x', most + 1);
	text[most + 1] = '\0';
	cman_frame_begin(&w, CMAN_FRAME_REPLY, 1);
	cman_frame_add_text(&w, CMAN_TAG_JSON, text);
	cr_assert_eq(finish(&w, 0), -EMSGSIZE);
	text[most] = '\0';
	cman_frame_begin(&w, CMAN_FRAME_REPLY, 1);
	cman_frame_add_text(&w, CMAN_TAG_JSON, text);
	cr_assert_eq(finish(&w, 0), 0);
	free(text);
}

Test(wire, text_for_people_is_made_clean)
{
	struct cman_frame_writer w;
	struct cman_frame f;
	const char *why, *text;
	size_t cursor = 0, n;
	uint64_t id;

	cman_frame_begin(&w, CMAN_FRAME_ERROR, 1);
	cman_frame_add_text(&w, CMAN_TAG_TEXT, "a\nb\x1b[\xff \xc3\xbc\xe2\x82");
	cr_assert_eq(cman_frame_finish(&w, 0), 0);
	cr_assert_eq(cman_frame_parse(w.data, w.used, &f, &why), 0);
	cr_assert_eq(cman_frame_next_text(&f, CMAN_TAG_TEXT, &cursor, &text, &n), 0);
	cr_assert_eq(n, 11);
	cr_assert_eq(memcmp(text, "a?b?[? \xc3\xbc??", n), 0);
	cman_frame_free(&w);

	cman_frame_begin(&w, CMAN_FRAME_DONE, 1);
	cman_frame_add_left(&w, 5, "x\ty");
	cr_assert_eq(cman_frame_finish(&w, 0), 0);
	cr_assert_eq(cman_frame_parse(w.data, w.used, &f, &why), 0);
	cursor = 0;
	cr_assert_eq(cman_frame_next_left(&f, &cursor, &id, &text, &n), 0);
	cr_assert_eq(memcmp(text, "x?y", 3), 0);
	cman_frame_free(&w);

	/* but a name is not changed in silence */
	cman_frame_begin(&w, CMAN_FRAME_LISTENERS, 1);
	cman_frame_add_text(&w, CMAN_TAG_LISTENER, "a\n 1.2.3.4:5");
	cr_assert_eq(finish(&w, 1), -EBADMSG);
}

/* ---- the reader ---- */

/* Everything @vector holds, read back; the checks of each type are below. */
static uint8_t *parse(const char *hex, struct cman_frame *f)
{
	const char *why = "none";
	uint8_t *bytes;
	size_t len;
	int err;

	bytes = unhex(hex, &len);
	err = cman_frame_parse(bytes, len, f, &why);
	cr_assert_eq(err, 0, "%s", why);
	cr_assert_eq(cman_frame_size(bytes, CMAN_FRAME_HEADER, &why), (int64_t)len);
	return bytes;
}

Test(wire, reader_reads_every_vector)
{
	struct cman_frame f;
	size_t i;

	for (i = 0; i < NVECTORS; i++) {
		uint8_t *bytes = parse(vectors[i].hex, &f);

		cr_assert_eq(f.version, 1);
		cr_assert_eq(f.type, vectors[i].type);
		cr_assert_eq(f.nfds, vectors[i].nfds);
		cr_assert_eq(f.sequence, 7);
		cr_assert_eq(f.payload, bytes + CMAN_FRAME_HEADER);
		free(bytes);
	}
}

Test(wire, every_beginning_is_incomplete)
{
	struct cman_frame f;
	const char *why;
	uint8_t *bytes, *part;
	size_t i, len, n;

	for (i = 0; i < NVECTORS; i++) {
		bytes = unhex(vectors[i].hex, &len);
		for (n = 0; n < len; n++) {
			part = malloc(n ? n : 1);
			memcpy(part, bytes, n);
			cr_assert_eq(cman_frame_size(part, n, &why),
				     n < CMAN_FRAME_HEADER ? 0 : (int64_t)len);
			cr_assert_eq(cman_frame_parse(part, n, &f, &why), -EBADMSG);
			free(part);
		}
		free(bytes);
	}
}

Test(wire, getters_of_hello)
{
	struct cman_frame f;
	uint8_t *bytes = parse(VECTOR_HELLO, &f), min, max, v8 = 9;
	const uint8_t *p;
	const char *text;
	size_t n, cursor = 0;
	uint32_t v32 = 9;
	uint64_t v64 = 9;

	cr_assert_eq(cman_frame_range(&f, &min, &max), 0);
	cr_assert(min == 1 && max == 1);
	cr_assert_eq(cman_frame_next_text(&f, CMAN_TAG_ALIAS, &cursor, &text, &n), 0);
	cr_assert(n == 3 && !memcmp(text, "web", 3));
	cr_assert_eq(cman_frame_next_text(&f, CMAN_TAG_ALIAS, &cursor, &text, &n), -ENOENT);
	cr_assert_eq(cman_frame_u32(&f, CMAN_TAG_PID, &v32), 0);
	cr_assert_eq(v32, 4711);
	cr_assert_eq(cman_frame_bytes(&f, CMAN_TAG_BOOT_ID, &p, &n), 0);
	cr_assert(n == 16 && !memcmp(p, boot_id, 16));
	cr_assert_eq(cman_frame_u64(&f, CMAN_TAG_NETNS, &v64), 0);
	cr_assert_eq(v64, 4026531840);
	cr_assert_eq(cman_frame_u8(&f, CMAN_TAG_CARRIER, &v8), 0);
	cr_assert_eq(v8, CMAN_VIA_AUTO);

	/* of another kind, not in this frame, not in this type of frame: untouched */
	v8 = 42;
	v32 = 42;
	v64 = 42;
	cr_assert_eq(cman_frame_u8(&f, CMAN_TAG_PID, &v8), -ENOENT);
	cr_assert_eq(cman_frame_u64(&f, CMAN_TAG_PID, &v64), -ENOENT);
	cr_assert_eq(cman_frame_u32(&f, CMAN_TAG_CELL, &v32), -ENOENT);
	cursor = 0;
	cr_assert_eq(cman_frame_next_text(&f, CMAN_TAG_PID, &cursor, &text, &n), -ENOENT);
	cr_assert(v8 == 42 && v32 == 42 && v64 == 42 && !cursor);
	free(bytes);

	bytes = parse(VECTOR_HELLO_SOURCE, &f);
	cr_assert_eq(cman_frame_u32(&f, CMAN_TAG_PID, &v32), -ENOENT);
	free(bytes);
}

Test(wire, getters_of_repeated_fields)
{
	struct cman_frame f;
	uint8_t *bytes = parse(VECTOR_LISTENERS, &f);
	size_t cursor = 0, n;
	const char *text;
	uint32_t v;
	uint64_t id;

	cr_assert_eq(cman_frame_next_text(&f, CMAN_TAG_LISTENER, &cursor, &text, &n), 0);
	cr_assert(n == 19 && !memcmp(text, "front 10.0.0.5:5432", n));
	cr_assert_eq(cman_frame_next_text(&f, CMAN_TAG_LISTENER, &cursor, &text, &n), 0);
	cr_assert(n == 20 && !memcmp(text, "wide [::1]:7000-7999", n));
	cr_assert_eq(cman_frame_next_text(&f, CMAN_TAG_LISTENER, &cursor, &text, &n), -ENOENT);
	free(bytes);

	bytes = parse(VECTOR_COMMITTED, &f);
	cursor = 0;
	cr_assert_eq(cman_frame_next_u32(&f, CMAN_TAG_BLACKOUT, &cursor, &v), 0);
	cr_assert_eq(v, 950);
	cr_assert_eq(cman_frame_next_u32(&f, CMAN_TAG_BLACKOUT, &cursor, &v), 0);
	cr_assert_eq(v, 1200);
	cr_assert_eq(cman_frame_next_u32(&f, CMAN_TAG_BLACKOUT, &cursor, &v), -ENOENT);
	cr_assert_eq(cman_frame_u64(&f, CMAN_TAG_BATCH_ID, &id), 0);
	cr_assert_eq(id, BATCH_ID);
	free(bytes);

	bytes = parse(VECTOR_DONE, &f);
	cursor = 0;
	cr_assert_eq(cman_frame_next_left(&f, &cursor, &id, &text, &n), 0);
	cr_assert(id == 0x0100000000000009 && n == 16 && !memcmp(text, "still connecting", n));
	cr_assert_eq(cman_frame_next_left(&f, &cursor, &id, &text, &n), 0);
	cr_assert(id == 10 && !n);
	cr_assert_eq(cman_frame_next_left(&f, &cursor, &id, &text, &n), -ENOENT);
	free(bytes);
}

Test(wire, sessions_of_a_batch)
{
	struct cman_wire_session s, expected;
	struct cman_frame f;
	uint8_t *bytes = parse(VECTOR_BATCH, &f);
	size_t cursor = 0;
	uint64_t n;

	for (n = 1; n <= 3; n++) {
		expected = session(n);
		cr_assert_eq(cman_frame_next_session(&f, &cursor, &s), 0);
		same_session(&s, &expected);
	}
	s.id = 42;
	cr_assert_eq(cman_frame_next_session(&f, &cursor, &s), -ENOENT);
	cr_assert_eq(s.id, 42);
	cr_assert_eq(cman_frame_u64(&f, CMAN_TAG_TIME_NS, &n), 0);
	cr_assert_eq(n, 123456789);
	free(bytes);
}

Test(wire, the_state_of_tls_is_beside_the_batch)
{
	struct cman_wire_session s, expected = session(1);
	struct cman_frame f;
	uint8_t *bytes = parse(VECTOR_BATCH_TLS, &f);
	size_t cursor = 0;
	uint64_t size = 0;

	cr_assert_eq(cman_frame_next_session(&f, &cursor, &s), 0);
	same_session(&s, &expected);
	cr_assert(!s.tls && !s.tls_len);
	cr_assert_eq(cman_frame_u64(&f, CMAN_TAG_TLS_STATE, &size), 0);
	cr_assert_eq(size, 0x2000);
	free(bytes);
}

Test(wire, a_chunk_is_wiped_and_not_shown)
{
	static const char secret[] = "a piece of an image with keys in it";
	struct cman_frame_writer w;
	const uint8_t *p, *before;
	size_t n, used, cursor = 0;
	char dump[512];
	struct cman_frame f;
	const char *why;

	cman_frame_begin(&w, CMAN_FRAME_IMAGE, 1);
	make_id(&w);
	cman_frame_add_bytes(&w, CMAN_TAG_CHUNK, secret, sizeof(secret));
	cr_assert_eq(cman_frame_finish(&w, 0), 0);
	cr_assert_eq(cman_frame_parse(w.data, w.used, &f, &why), 0);
	cr_assert_eq(cman_frame_next_bytes(&f, CMAN_TAG_CHUNK, &cursor, &p, &n), 0);
	cr_assert(n == sizeof(secret) && !memcmp(p, secret, n));
	cman_frame_dump(&f, dump, sizeof(dump));
	cr_assert_str_eq(dump, "IMAGE version=1 sequence=1 nfds=0 length=56\n"
			       "  BATCH_ID 0000000500000001\n"
			       "  CHUNK (36 bytes)\n");

	/* it moves to a larger piece of memory */
	n_wipes = 0;
	before = w.data;
	do {
		cr_assert_eq(w.data, before);
		used = w.used;
		make_id(&w);
	} while (w.used <= 256);
	cr_assert_neq(w.data, before);
	cr_assert(n_wipes == 1 && wiped(before, used));
	cr_assert_eq(memcmp(w.data + CMAN_FRAME_HEADER + 20, secret, sizeof(secret)), 0);
	before = w.data;
	used = w.used;
	cman_frame_free(&w);
	cr_assert(n_wipes == 2 && wiped(before, used));

	/* as a channel does it: the bytes are somebody else's now */
	cman_frame_begin(&w, CMAN_FRAME_IMAGE, 1);
	cman_frame_add_bytes(&w, CMAN_TAG_CHUNK, secret, sizeof(secret));
	free(w.data);
	w.data = NULL;
	cman_frame_free(&w);
	cr_assert_eq(n_wipes, 2);

	/* what is not secret is not wiped */
	cman_frame_begin(&w, CMAN_FRAME_COMMIT, 1);
	make_id(&w);
	cman_frame_free(&w);
	cr_assert_eq(n_wipes, 2);
}

Test(wire, greatest_batch)
{
	static uint8_t buffer[CMAN_BUFFER_SIZE];
	struct cman_wire_session s, got;
	struct cman_frame_writer w;
	struct cman_frame f;
	size_t cursor = 0;
	const char *why;
	unsigned int i;

	for (i = 0; i < sizeof(buffer); i++)
		buffer[i] = (uint8_t)(i * 31);
	cman_frame_begin(&w, CMAN_FRAME_BATCH, 1);
	make_id(&w);
	for (i = 0; i < CMAN_BATCH; i++) {
		s = session(100 + i);
		s.buffer[0] = s.buffer[1] = buffer;
		s.buffer_len[0] = s.buffer_len[1] = sizeof(buffer);
		s.read_base[0] = INT64_MIN;
		s.write_base[1] = INT64_MAX;
		s.position[1] = UINT64_MAX;
		cman_frame_add_session(&w, &s);
	}
	cr_assert_eq(cman_frame_finish(&w, 2 * CMAN_BATCH), 0);
	cr_assert_eq(cman_frame_parse(w.data, w.used, &f, &why), 0);
	for (i = 0; i < CMAN_BATCH; i++) {
		cr_assert_eq(cman_frame_next_session(&f, &cursor, &got), 0);
		s.id = session(100 + i).id;
		same_session(&got, &s);
	}
	cman_frame_free(&w);

	/* two pipes in every session: more descriptors than a frame can carry */
	cman_frame_begin(&w, CMAN_FRAME_BATCH, 1);
	make_id(&w);
	for (i = 0; i < 42; i++) {
		s = session(100 + i);
		s.pipe[0] = s.pipe[1] = 1;
		cman_frame_add_session(&w, &s);
	}
	cr_assert_eq(cman_frame_finish(&w, 252), 0);
	s.id++;
	cman_frame_add_session(&w, &s);
	cr_assert_eq(finish(&w, 258), -EMSGSIZE);
}

Test(wire, an_empty_buffer_is_none)
{
	struct cman_wire_session s = session(1), got;
	struct cman_frame_writer w;
	struct cman_frame f;
	size_t cursor = 0;
	const char *why;

	s.buffer[0] = (const uint8_t *)"";
	cman_frame_begin(&w, CMAN_FRAME_BATCH, 1);
	make_id(&w);
	cman_frame_add_session(&w, &s);
	cr_assert_eq(cman_frame_finish(&w, 2), 0);
	cr_assert_eq(cman_frame_parse(w.data, w.used, &f, &why), 0);
	cr_assert_eq(cman_frame_next_session(&f, &cursor, &got), 0);
	cr_assert_null(got.buffer[0]);
	cman_frame_free(&w);
}

Test(wire, broken_frames_with_their_sentences)
{
	const size_t n = sizeof(broken_frames) / sizeof(broken_frames[0]);
	struct cman_frame f, untouched;
	uint8_t *bytes;
	size_t i, len;

	cr_assert_geq(n, 35);
	memset(&f, 0xa5, sizeof(f));
	untouched = f;
	for (i = 0; i < n; i++) {
		const struct broken_frame *b = &broken_frames[i];
		const char *why = "none";
		int err;

		bytes = unhex(b->hex, &len);
		err = cman_frame_parse(bytes, len, &f, &why);
		cr_expect_eq(err, b->err, "%s: %d instead of %d", b->what, err, b->err);
		cr_expect_str_eq(why, b->why, "%s: \"%s\"", b->what, why);
		cr_expect_eq(memcmp(&f, &untouched, sizeof(f)), 0, "%s", b->what);
		free(bytes);
	}
}

/* Any single byte of any vector, any value of a few: never anything but an answer. */
Test(wire, mutations_never_crash)
{
	const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xff };
	struct cman_frame f;
	char dump[512];
	const char *why;
	size_t i, at, v, len;
	uint8_t *bytes, old;

	for (i = 0; i < NVECTORS; i++) {
		bytes = unhex(vectors[i].hex, &len);
		for (at = 0; at < len; at++) {
			old = bytes[at];
			for (v = 0; v < sizeof(values); v++) {
				bytes[at] = values[v];
				if (!cman_frame_parse(bytes, len, &f, &why))
					cman_frame_dump(&f, dump, sizeof(dump));
			}
			bytes[at] = old;
		}
		free(bytes);
	}
}

/* ---- what a successor may send ---- */

#define COMMIT_AND(hex_len, tlvs) \
	"434d414e 01170000 " hex_len " 00000007 800c 00000008 0000000500000001 " tlvs

Test(wire, unknown_optional_tags_are_skipped)
{
	struct cman_frame f;
	uint8_t *bytes;
	const char *text;
	size_t n, cursor = 0;
	uint64_t id = 0;
	char dump[256];

	/* tag 0x4000 twice, and TEXT, which COMMIT does not have in this release */
	bytes = parse(COMMIT_AND("00000024", "4000 00000003 010203 4000 00000000 "
					     "0002 00000001 0a "),
		      &f);
	cr_assert_eq(cman_frame_u64(&f, CMAN_TAG_BATCH_ID, &id), 0);
	cr_assert_eq(id, BATCH_ID);
	/* its value was not checked, so it is not handed out */
	cr_assert_eq(cman_frame_next_text(&f, CMAN_TAG_TEXT, &cursor, &text, &n), -ENOENT);
	cman_frame_dump(&f, dump, sizeof(dump));
	cr_assert_str_eq(dump, "COMMIT version=1 sequence=7 nfds=0 length=36\n"
			       "  BATCH_ID 0000000500000001\n"
			       "  tag 16384 skipped, 3 bytes\n"
			       "  tag 16384 skipped, 0 bytes\n"
			       "  tag 2 skipped, 1 bytes\n");
	free(bytes);
}

Test(wire, unknown_tags_with_must_are_refused)
{
	const char *why = "";
	struct cman_frame f;
	uint8_t *bytes;
	size_t len;

	bytes = unhex(COMMIT_AND("00000017", "c000 00000003 010203 "), &len);
	cr_assert_eq(cman_frame_parse(bytes, len, &f, &why), -EBADMSG);
	cr_assert_str_eq(why, "a tag is unknown and must be understood");
	free(bytes);
}

Test(wire, choice_of_versions)
{
	cr_assert_eq(cman_wire_choose(1, 1, 1, 1), 1);
	cr_assert_eq(cman_wire_choose(1, 3, 2, 5), 3);
	cr_assert_eq(cman_wire_choose(2, 5, 1, 3), 3);
	cr_assert_eq(cman_wire_choose(1, 9, 4, 4), 4);
	cr_assert_eq(cman_wire_choose(1, 2, 3, 4), -EPROTONOSUPPORT);
	cr_assert_eq(cman_wire_choose(3, 4, 1, 2), -EPROTONOSUPPORT);
	cr_assert_eq(cman_wire_choose(2, 1, 1, 2), -EPROTONOSUPPORT);
	cr_assert_eq(cman_wire_choose(1, 2, 2, 1), -EPROTONOSUPPORT);
	cr_assert_eq(cman_wire_choose(0, 255, 255, 255), 255);
}

/* ---- names and dump ---- */

Test(wire, names)
{
	cr_assert_str_eq(cman_frame_type_name(CMAN_FRAME_BATCH), "BATCH");
	cr_assert_str_eq(cman_frame_type_name(0), "?");
	cr_assert_str_eq(cman_tag_name(CMAN_TAG_BATCH_ID), "BATCH_ID");
	cr_assert_str_eq(cman_tag_name(12), "?");
}

Test(wire, dump_says_all_but_the_bytes_of_buffers)
{
	struct cman_frame f;
	uint8_t *bytes;
	char dump[4096];
	size_t i;

	bytes = parse(VECTOR_BATCH, &f);
	cman_frame_dump(&f, dump, sizeof(dump));
	cr_assert_not_null(strstr(dump, "BATCH version=1 sequence=7 nfds=12 length=478\n"));
	cr_assert_not_null(strstr(dump, "  TIME_NS 00000000075bcd15\n"), "%s", dump);
	cr_assert_not_null(strstr(dump,
				  "  SESSION service=db listener=front id=0100000000000002 eof=1 "
				  "flags=3 pipe=1,0 "
				  "client_addr=00000000000000000000000000000001 "
				  "client_port=40000 "
				  "target_addr=00000000000000000000ffff0a000009 "
				  "target_port=5432 "
				  "handovers=2 age_s=60 idle_s=5 "
				  "position=1234605616436508552,5 read_base=-1,1 "
				  "write_base=2,-2 buffer_len=0,2\n"),
			   "%s", dump);
	cr_assert_null(strstr(dump, "6162"));
	free(bytes);

	bytes = parse(VECTOR_BATCH_TLS, &f);
	cman_frame_dump(&f, dump, sizeof(dump));
	cr_assert_not_null(strstr(dump, "  TLS_STATE 0000000000002000\n"), "%s", dump);
	cr_assert_null(strstr(dump, "secret"));
	free(bytes);

	bytes = parse(VECTOR_REPLY, &f);
	cman_frame_dump(&f, dump, sizeof(dump));
	cr_assert_str_eq(dump, "REPLY version=1 sequence=7 nfds=0 length=35\n"
			       "  JSON \"{\"ok\": true,  \"result\": \"\xc3\xbc\"}\"\n");
	/* never more than there is room for */
	for (i = 1; i < 100; i++) {
		char *small = malloc(i);

		cman_frame_dump(&f, small, i);
		cr_assert_lt(strlen(small), i);
		cr_assert_eq(strncmp(small, dump, strlen(small)), 0);
		free(small);
	}
	cman_frame_dump(&f, NULL, 0);
	free(bytes);

	for (i = 0; i < NVECTORS; i++) {
		bytes = parse(vectors[i].hex, &f);
		cman_frame_dump(&f, dump, sizeof(dump));
		cr_assert_null(strchr(dump, '?'), "%s", dump);
		free(bytes);
	}
}

/* ---- the tables ---- */

Test(wire, tables_are_well_formed)
{
	const struct cman_wire_session_field *s;
	const struct cman_wire_field *f, *g;
	const struct cman_wire_type *t;
	unsigned int in_a_row = 0, fixed = 0;
	size_t end = 0;

	for (t = cman_wire_types; t->name; t++) {
		cr_assert_eq(cman_wire_type(t->type), t, "%s stands twice", t->name);
		cr_assert(t->version >= CMAN_WIRE_MIN && t->version <= CMAN_WIRE_MAX);
		cr_assert(!t[1].name || t[1].type > t->type, "%s: order", t->name);
	}
	for (f = cman_wire_fields; f->name; f++) {
		t = cman_wire_type(f->frame);
		cr_assert_not_null(t);
		cr_assert_eq(cman_wire_field(f->frame, f->tag), f, "%s stands twice", f->name);
		cr_assert_leq(f->low, f->high);
		/* lines of one type stand together, in the order of the types; at most 16 */
		in_a_row = f > cman_wire_fields && f[-1].frame == f->frame ? in_a_row + 1 : 1;
		cr_assert_leq(in_a_row, 16);
		cr_assert(!f[1].name || f[1].frame >= f->frame);
		/* one number has one name, with or without CMAN_TLV_MUST */
		for (g = cman_wire_fields; g->name; g++)
			cr_assert_eq((f->tag & ~CMAN_TLV_MUST) == (g->tag & ~CMAN_TLV_MUST),
				     !strcmp(f->name, g->name));
		/* the writer's order of a BATCH's TLVs is free, but what is required says so */
		cr_assert(!f->required || f->tag & CMAN_TLV_MUST || f->tag == CMAN_TAG_TEXT);
		cr_assert_eq(strncmp(f->missing, t->name, strlen(t->name)), 0);
	}
	for (s = cman_wire_session_fields; s->name; s++) {
		cr_assert_geq(s->offset, end, "%s is not in the order of the struct", s->name);
		end = s->offset + s->width * s->count;
		fixed += s->width * s->count;
	}
	cr_assert_eq(fixed, CMAN_WIRE_SESSION_FIXED);
}

static const char *const fds_text[] = {
	[CMAN_FDS_NONE] = "none",
	[CMAN_FDS_LISTENERS] = "one for each LISTENER",
	[CMAN_FDS_SESSIONS] = "2 for each SESSION and 2 for each of its pipes; 1 for TLS_STATE",
	[CMAN_FDS_NUMBERS] = "any number without FD_NUMBER; with it none or as many; not neither",
};

static void value_text(const struct cman_wire_field *f, char *buf, size_t size)
{
	const char *kind = cman_wire_kind_name(f->kind);
	const unsigned long long lo = f->low, hi = f->high;

	switch (f->kind) {
	case CMAN_KIND_U8:
		snprintf(buf, size, "%s, %llu to %llu", kind, lo, hi);
		break;
	case CMAN_KIND_U32:
		if (hi == UINT32_MAX)
			snprintf(buf, size, "%s", kind);
		else
			snprintf(buf, size, "%s, %llu to %llu", kind, lo, hi);
		break;
	case CMAN_KIND_U64:
	case CMAN_KIND_SESSION:
	case CMAN_KIND_RANGE:
		snprintf(buf, size, "%s", kind);
		break;
	case CMAN_KIND_BYTES:
		snprintf(buf, size, "%llu %s", lo, kind);
		break;
	default:
		snprintf(buf, size, "%s, %llu to %llu bytes", kind, lo, hi);
	}
}

#define TYPES_RULE "=============  ====  =======  " EQUALS_20 EQUALS_20 EQUALS_20 "=====\n"
#define FIELDS_RULE \
	"=============  =============  ===  ====  ========  =========  " EQUALS_20 "=======\n"
#define SESSION_RULE "======  ===========  ======  " EQUALS_20 "\n"
#define EQUALS_20    "===================="

/* The three tables as the documentation has them */
static char *tables(void)
{
	const struct cman_wire_session_field *s;
	const struct cman_wire_field *f;
	const struct cman_wire_type *t;
	char *text = NULL, value[64], often[32];
	unsigned int at = 0;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	fputs(TYPES_RULE "frame          type  version  descriptors\n" TYPES_RULE, out);
	for (t = cman_wire_types; t->name; t++)
		fprintf(out, "%-13s  %4u  %7u  %s\n", t->name, t->type, t->version,
			fds_text[t->fds]);
	fputs(TYPES_RULE "\n" FIELDS_RULE, out);
	fputs("frame          tag            no.  must  required  times      value\n", out);
	fputs(FIELDS_RULE, out);
	for (f = cman_wire_fields; f->name; f++) {
		value_text(f, value, sizeof(value));
		if (!f->most)
			snprintf(often, sizeof(often), "any");
		else if (f->most == 1)
			snprintf(often, sizeof(often), "once");
		else
			snprintf(often, sizeof(often), "up to %u", f->most);
		fprintf(out, "%-13s  %-13s  %3u  %-4s  %-8s  %-9s  %s\n",
			cman_frame_type_name(f->frame), f->name, f->tag & ~CMAN_TLV_MUST,
			f->tag & CMAN_TLV_MUST ? "yes" : "no", f->required ? "yes" : "no", often,
			value);
	}
	fputs(FIELDS_RULE "\n" SESSION_RULE, out);
	fputs("offset  field        bytes   greatest value\n" SESSION_RULE, out);
	for (s = cman_wire_session_fields; s->name; s++) {
		if (s->count == 1)
			snprintf(value, sizeof(value), "%u", s->width);
		else
			snprintf(value, sizeof(value), "%u x %u", s->count, s->width);
		fprintf(out, "%6u  %-11s  %-6s  %llu\n", at, s->name, value,
			(unsigned long long)s->high);
		at += s->width * s->count;
	}
	fputs(SESSION_RULE, out);
	fclose(out);
	return text;
}

#define TABLES_BEGIN ".. BEGIN wire tables (checked by selftests/unit/test_wire.c)\n\n"
#define TABLES_END   "\n.. END wire tables\n"

/*
 * The documentation holds exactly these tables. CMAN_UPDATE_DOCS=1 writes them into it instead.
 * Tests run at the top of the sources, or CMAN_SOURCE says where that is.
 */
Test(wire, documentation_has_the_same_tables)
{
	const char *top = getenv("CMAN_SOURCE");
	char path[4096], *doc, *begin, *end, *expected = tables();
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/Documentation/wire-format.rst", top ? top : ".");
	f = fopen(path, "r");
	cr_assert_not_null(f, "%s: %s", path, strerror(errno));
	doc = calloc(1, 1 << 20);
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
