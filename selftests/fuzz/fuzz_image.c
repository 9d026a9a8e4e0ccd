// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes the reader of images: any bytes. What it accepts is read, described, and written anew; that
 * must be accepted too, describe the same, and give the same bytes when it is written once more.
 * What is skipped (unknown optional fields) and optional fields that are 0 are all that may get lost.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/image.h"

#include "fuzz.h"

/* All that describe() says, byte for byte */
struct record {
	uint8_t *data;
	size_t used, size;
};

static void put(struct record *r, const void *p, size_t n)
{
	if (r->size - r->used < n) {
		r->size = 2 * (r->size + n);
		r->data = realloc(r->data, r->size);
		CHECK(r->data);
	}
	if (n)
		memcpy(r->data + r->used, p, n);
	r->used += n;
}

static int one_value(void *arg, const struct cman_image_value *v)
{
	struct record *r = arg;

	CHECK(v->block && v->name && v->count <= 2);
	put(r, v->block, strlen(v->block) + 1);
	put(r, v->name, strlen(v->name) + 1);
	put(r, &v->show, sizeof(v->show));
	put(r, v->number, sizeof(v->number));
	put(r, &v->len, sizeof(v->len));
	if (v->show == CMAN_IMAGE_SHOW_SECRET)
		CHECK(!v->bytes);
	else
		put(r, v->bytes, v->len);
	return 0;
}

/* Reads all of a stream that open() has accepted: into @w and @r */
static void go_through(struct cman_image_cursor *c, uint32_t count, struct cman_image_writer *w,
		       struct record *r)
{
	struct cman_repair_image leg[CMAN_IMAGE_LEGS];
	struct cman_wire_session session;
	const char *why;

	for (uint32_t i = 0; i < count; i++) {
		CHECK(cman_image_next(c, &session, leg) == 0);
		CHECK(cman_image_describe(&session, leg, one_value, r) == 0);
		put(r, session.tls, session.tls_len);
		if (i & 1) {
			CHECK(cman_image_own(&leg[0]) == 0);
			CHECK(cman_image_own(&leg[1]) == 0);
		}
		CHECK(cman_image_add(w, &session, leg, &why) == 0);
		cman_image_drop(&leg[0]);
		cman_image_drop(&leg[1]);
	}
	CHECK(cman_image_next(c, &session, leg) == -ENOENT);
	CHECK(cman_image_finish(w, &why) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* small enough to be met by what the fuzzer makes */
	static const struct cman_image_limits limits = { .total = 60000,
							 .queue = 4096,
							 .count = 20 };
	struct cman_image_writer once, twice;
	struct record first = { 0 }, second = { 0 };
	struct cman_image_header h, again;
	struct cman_image_cursor c;
	const char *why = NULL;
	int64_t whole;
	int err;

	whole = cman_image_size(data, size, &limits, &why);
	CHECK(whole >= 0 || why);
	err = cman_image_open(data, size, &limits, &h, &c, &why);
	CHECK(err <= 0 && (err == 0 || why));
	if (whole < 0)
		CHECK(err == whole);
	if (err)
		return 0;
	CHECK(whole == (int64_t)size && h.length == size && h.count <= limits.count);

	cman_image_begin(&once, h.batch, &limits);
	go_through(&c, h.count, &once, &first);
	CHECK(once.used <= size);
	CHECK(cman_image_open(once.data, once.used, &limits, &again, &c, &why) == 0);
	CHECK(again.batch == h.batch && again.count == h.count && again.length == once.used);
	cman_image_begin(&twice, h.batch, &limits);
	go_through(&c, h.count, &twice, &second);
	CHECK(first.used == second.used);
	CHECK(!first.used || !memcmp(first.data, second.data, first.used));
	CHECK(once.used == twice.used && !memcmp(once.data, twice.data, once.used));
	cman_image_free(&once);
	cman_image_free(&twice);
	free(first.data);
	free(second.data);
	return 0;
}
