// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes the reader of frames: any bytes. What it accepts is read through every getter, written
 * anew by the field table alone, and must then hold the same values; writing that once more must
 * give the same bytes. What is skipped (unknown optional tags) is all that may get lost.
 */
#include <stdlib.h>
#include <string.h>

#include "usr/core/wire.h"
#include "usr/core/wire_fields.h"

#include "fuzz.h"

/* strndup() without a look at the byte behind, which strict string checks mean to see */
static char *text_of(const char *text, size_t n)
{
	char *copy = malloc(n + 1);

	if (!copy)
		return NULL;
	memcpy(copy, text, n);
	copy[n] = 0;
	return copy;
}

static void write_field(struct cman_frame_writer *w, const struct cman_frame *f,
			const struct cman_wire_field *field)
{
	const enum cman_tag tag = field->tag;
	struct cman_wire_session session;
	const uint8_t *bytes;
	const char *text;
	uint8_t min, max, v8;
	uint64_t v64;
	uint32_t v32;
	size_t cursor = 0, n;
	char *copy;

	switch (field->kind) {
	case CMAN_KIND_U8:
		if (!cman_frame_u8(f, tag, &v8))
			cman_frame_add_u8(w, tag, v8);
		break;
	case CMAN_KIND_U32:
		while (!cman_frame_next_u32(f, tag, &cursor, &v32))
			cman_frame_add_u32(w, tag, v32);
		break;
	case CMAN_KIND_U64:
		if (!cman_frame_u64(f, tag, &v64))
			cman_frame_add_u64(w, tag, v64);
		break;
	case CMAN_KIND_BYTES:
	case CMAN_KIND_DATA:
		if (!cman_frame_bytes(f, tag, &bytes, &n))
			cman_frame_add_bytes(w, tag, bytes, n);
		break;
	case CMAN_KIND_RANGE:
		if (!cman_frame_range(f, &min, &max))
			cman_frame_add_range(w, min, max);
		break;
	case CMAN_KIND_LEFT:
		while (!cman_frame_next_left(f, &cursor, &v64, &text, &n)) {
			copy = text_of(text, n);
			CHECK(copy && strlen(copy) == n);
			cman_frame_add_left(w, v64, copy);
			free(copy);
		}
		break;
	case CMAN_KIND_SESSION:
		while (!cman_frame_next_session(f, &cursor, &session))
			cman_frame_add_session(w, &session);
		break;
	default:
		while (!cman_frame_next_text(f, tag, &cursor, &text, &n)) {
			copy = text_of(text, n);
			CHECK(copy && strlen(copy) == n);
			cman_frame_add_text(w, tag, copy);
			free(copy);
		}
	}
}

static void write_anew(struct cman_frame_writer *w, const struct cman_frame *f)
{
	const struct cman_wire_field *field;

	cman_frame_begin(w, f->type, f->sequence);
	for (field = cman_wire_fields; field->name; field++)
		if (field->frame == f->type)
			write_field(w, f, field);
	CHECK(cman_frame_finish(w, f->nfds) == 0);
}

/* The raw value number @n of @tag, found without any code of the reader; NULL: there is none */
static const uint8_t *raw_value(const struct cman_frame *f, uint16_t tag, unsigned int n,
				uint32_t *ret_len)
{
	const uint8_t *p = f->payload, *end = p + f->length;
	uint32_t len;

	for (; p < end; p += 6 + len) {
		len = (uint32_t)p[2] << 24 | (uint32_t)p[3] << 16 | (uint32_t)p[4] << 8 | p[5];
		if ((p[0] << 8 | p[1]) == tag && !n--) {
			*ret_len = len;
			return p + 6;
		}
	}
	return NULL;
}

static void same_values(const struct cman_frame *a, const struct cman_frame *b)
{
	const struct cman_wire_field *field;
	const uint8_t *va, *vb;
	uint32_t la = 0, lb = 0;
	unsigned int n;

	for (field = cman_wire_fields; field->name; field++) {
		if (field->frame != a->type)
			continue;
		/* quadratic: enough of them */
		for (n = 0; n < 300; n++) {
			va = raw_value(a, field->tag, n, &la);
			vb = raw_value(b, field->tag, n, &lb);
			CHECK(!va == !vb);
			if (!va)
				break;
			CHECK(la == lb && !memcmp(va, vb, la));
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cman_frame_writer once, twice;
	struct cman_frame f, again;
	const char *why = NULL;
	char dump[2048];
	int64_t whole;
	int err;

	whole = cman_frame_size(data, size, &why);
	CHECK(whole >= 0 || why);
	err = cman_frame_parse(data, size, &f, &why);
	CHECK(err <= 0 && (err == 0 || why));
	if (whole < 0)
		CHECK(err == whole);
	if (err)
		return 0;
	CHECK((size_t)whole == size && f.length == size - CMAN_FRAME_HEADER);
	cman_frame_dump(&f, dump, sizeof(dump));
	CHECK(strlen(dump) < sizeof(dump));
	cman_frame_dump(&f, dump, size % sizeof(dump));

	write_anew(&once, &f);
	CHECK(once.used <= size);
	CHECK(cman_frame_parse(once.data, once.used, &again, &why) == 0);
	CHECK(again.type == f.type && again.nfds == f.nfds && again.sequence == f.sequence);
	same_values(&f, &again);
	write_anew(&twice, &again);
	CHECK(twice.used == once.used && !memcmp(once.data, twice.data, once.used));
	cman_frame_free(&once);
	cman_frame_free(&twice);
	return 0;
}
