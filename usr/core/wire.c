// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Frames: writer, reader and dump. Everything about the form of a frame comes from the tables of
 * usr/core/wire_fields.c; here is how a value of each kind is laid out and checked. The writer
 * runs the reader over what it made before it lets it go, so nothing is sent that a peer of the
 * same release would refuse. Every read is bounded by the end of what encloses it: header, payload,
 * TLV, session block; a block must be consumed whole.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/cman_maps.h"
#include "usr/core/wire.h"
#include "usr/core/wire_fields.h"

#define FRAME_LIMIT ((size_t)CMAN_FRAME_HEADER + CMAN_FRAME_MAX_PAYLOAD)
#define NAME_LIMIT  (CMAN_NAME_LEN - 1)
#define ROW_LIMIT   16 /* tags of one frame type */

/* ---- bytes ---- */

static void put_be(uint8_t *p, size_t width, uint64_t v)
{
	while (width--) {
		p[width] = (uint8_t)v;
		v >>= 8;
	}
}

static uint64_t get_be(const uint8_t *p, size_t width)
{
	uint64_t v = 0;

	while (width--)
		v = v << 8 | *p++;
	return v;
}

/* What is left to read; take() hands out the next @n bytes or NULL. */
struct span {
	const uint8_t *p, *end;
};

static const uint8_t *take(struct span *s, size_t n)
{
	const uint8_t *p = s->p;

	if ((size_t)(s->end - p) < n)
		return NULL;
	s->p += n;
	return p;
}

struct tlv {
	uint16_t tag;
	const uint8_t *value;
	uint32_t len;
};

/* 1: one more, 0: the end, -EBADMSG */
static int next_tlv(struct span *s, struct tlv *ret, const char **why)
{
	const uint8_t *head;

	if (s->p == s->end)
		return 0;
	head = take(s, CMAN_TLV_HEADER);
	if (!head) {
		*why = "bytes behind the last TLV of the frame";
		return -EBADMSG;
	}
	ret->tag = (uint16_t)get_be(head, 2);
	ret->len = (uint32_t)get_be(head + 2, 4);
	ret->value = take(s, ret->len);
	if (!ret->value) {
		*why = "a TLV ends behind the payload of the frame";
		return -EBADMSG;
	}
	return 1;
}

/* ---- text ---- */

/* Length of the well-formed UTF-8 character at @p that is no control character; 0: it is neither */
static size_t character(const uint8_t *p, size_t n)
{
	uint32_t c = p[0], least;
	size_t len, i;

	if (c < 0x80)
		return c >= 0x20 && c != 0x7f;
	if (c >= 0xc2 && c <= 0xdf) {
		len = 2;
		c &= 0x1f;
		least = 0xa0; /* 0x80..0x9f are control characters */
	} else if (c >= 0xe0 && c <= 0xef) {
		len = 3;
		c &= 0x0f;
		least = 0x800;
	} else if (c >= 0xf0 && c <= 0xf4) {
		len = 4;
		c &= 0x07;
		least = 0x10000;
	} else {
		return 0;
	}
	if (n < len)
		return 0;
	for (i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return len;
}

static bool clean(const uint8_t *p, size_t n, bool lines)
{
	size_t len;

	for (; n; p += len, n -= len) {
		len = character(p, n);
		if (!len && lines && (*p == '\t' || *p == '\n' || *p == '\r'))
			len = 1;
		if (!len)
			return false;
	}
	return true;
}

bool cman_wire_clean(const void *p, size_t n)
{
	return clean(p, n, false);
}

/* A decimal port, 1..65535, of the digits at the head of the span; 0: there is none */
static unsigned int port(struct span *s)
{
	unsigned int v = 0;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
		v = v * 10 + (*s->p++ - '0');
		if (v > 65535)
			return 0;
	}
	return v;
}

/* "name address:port[-port]"; what the address means is the caller's to find out */
static bool listener_form(const uint8_t *p, size_t n)
{
	const uint8_t *space = memchr(p, ' ', n), *colon = NULL, *q;
	struct span s = { p, p + n };
	unsigned int first, last;

	if (!space || space == p || space - p > NAME_LIMIT)
		return false;
	for (q = space + 1; q < s.end; q++) {
		if (*q == ' ')
			return false;
		if (*q == ':')
			colon = q;
	}
	if (!colon || colon == space + 1)
		return false;
	s.p = colon + 1;
	first = port(&s);
	last = first;
	if (s.p < s.end && *s.p == '-') {
		s.p++;
		last = port(&s);
	}
	return first && first <= last && s.p == s.end;
}

/* ---- session blocks ---- */

static uint64_t load(const uint8_t *p, size_t width)
{
	uint16_t v2;
	uint32_t v4;
	uint64_t v8;

	switch (width) {
	case 1:
		return *p;
	case 2:
		memcpy(&v2, p, 2);
		return v2;
	case 4:
		memcpy(&v4, p, 4);
		return v4;
	default:
		memcpy(&v8, p, 8);
		return v8;
	}
}

static void store(uint8_t *p, size_t width, uint64_t v)
{
	uint16_t v2 = (uint16_t)v;
	uint32_t v4 = (uint32_t)v;

	switch (width) {
	case 1:
		*p = (uint8_t)v;
		break;
	case 2:
		memcpy(p, &v2, 2);
		break;
	case 4:
		memcpy(p, &v4, 4);
		break;
	default:
		memcpy(p, &v, 8);
	}
}

static int decode_name(struct span *s, const char **ret, uint16_t *ret_len)
{
	const uint8_t *p = take(s, 2);
	size_t n;

	if (!p)
		return -ENODATA;
	n = get_be(p, 2);
	p = take(s, n);
	if (!p)
		return -ENODATA;
	if (n < 1 || n > NAME_LIMIT || !clean(p, n, false))
		return -EINVAL;
	*ret = (const char *)p;
	*ret_len = (uint16_t)n;
	return 0;
}

static int decode_session(const uint8_t *block, size_t len, struct cman_wire_session *ret,
			  const char **why)
{
	const struct cman_wire_session_field *f;
	struct span s = { block, block + len };
	const uint8_t *p;
	unsigned int d, i;
	uint32_t n;
	int err;

	memset(ret, 0, sizeof(*ret));
	for (f = cman_wire_session_fields; f->name; f++) {
		p = take(&s, (size_t)f->width * f->count);
		if (!p)
			goto early;
		for (i = 0; i < f->count; i++, p += f->width) {
			uint64_t v = get_be(p, f->width);

			if (v > f->high) {
				*why = f->range;
				return -EBADMSG;
			}
			store((uint8_t *)ret + f->offset + (size_t)i * f->width, f->width, v);
		}
	}
	err = decode_name(&s, &ret->service, &ret->service_len);
	if (err == -EINVAL)
		*why = "BATCH: SESSION: service is not 1 to 31 clean characters";
	if (!err) {
		err = decode_name(&s, &ret->listener, &ret->listener_len);
		if (err == -EINVAL)
			*why = "BATCH: SESSION: listener is not 1 to 31 clean characters";
	}
	if (err == -ENODATA)
		goto early;
	if (err)
		return -EBADMSG;
	for (d = 0; d < 2; d++) {
		p = take(&s, 4);
		if (!p)
			goto early;
		n = (uint32_t)get_be(p, 4);
		if (n > CMAN_BUFFER_SIZE) {
			*why = "BATCH: SESSION: buffer is longer than a buffer";
			return -EBADMSG;
		}
		if (n && ret->pipe[d]) {
			*why = "BATCH: SESSION: a direction has a pipe and a buffer";
			return -EBADMSG;
		}
		p = take(&s, n);
		if (!p)
			goto early;
		ret->buffer[d] = n ? p : NULL;
		ret->buffer_len[d] = n;
	}
	if (s.p != s.end) {
		*why = "BATCH: SESSION: bytes behind its end";
		return -EBADMSG;
	}
	return 0;
early:
	*why = "BATCH: SESSION: it ends early";
	return -EBADMSG;
}

/* ---- writing ---- */

static void fail(struct cman_frame_writer *w, int err)
{
	if (!w->error)
		w->error = err;
}

/* realloc() that leaves no copy of a secret behind */
static int grow(struct cman_frame_writer *w, size_t size)
{
	uint8_t *p = w->secret ? malloc(size) : realloc(w->data, size);

	if (!p)
		return -ENOMEM;
	if (w->secret) {
		memcpy(p, w->data, w->used);
		explicit_bzero(w->data, w->used);
		free(w->data);
	}
	w->data = p;
	w->size = size;
	return 0;
}

/* Room for @n more bytes, or NULL and an error to remember */
static uint8_t *extend(struct cman_frame_writer *w, size_t n)
{
	size_t size = w->size ? w->size : 256;
	uint8_t *p;

	if (w->error)
		return NULL;
	if (n > FRAME_LIMIT - w->used) {
		fail(w, -EMSGSIZE);
		return NULL;
	}
	while (size < w->used + n)
		size *= 2;
	if (size != w->size && grow(w, size)) {
		fail(w, -ENOMEM);
		return NULL;
	}
	p = w->data + w->used;
	w->used += n;
	return p;
}

/* Room for the value of a TLV. A tag that the table does not know in this frame is our mistake. */
static uint8_t *add_tlv(struct cman_frame_writer *w, enum cman_tag tag, size_t n)
{
	const struct cman_wire_field *f = NULL;
	uint8_t *p;

	if (!w->error)
		f = cman_wire_field(w->data[5], (uint16_t)tag);
	if (!f)
		fail(w, -EINVAL);
	if (n > CMAN_FRAME_MAX_PAYLOAD)
		fail(w, -EMSGSIZE);
	p = extend(w, CMAN_TLV_HEADER + n);
	if (!p)
		return NULL;
	put_be(p, 2, tag);
	put_be(p + 2, 4, n);
	w->secret |= f->kind == CMAN_KIND_DATA;
	return p + CMAN_TLV_HEADER;
}

void cman_frame_begin(struct cman_frame_writer *w, enum cman_frame_type type, uint32_t sequence)
{
	const struct cman_wire_type *t = cman_wire_type((uint8_t)type);
	uint8_t *p;

	memset(w, 0, sizeof(*w));
	if (!t)
		w->error = -EINVAL;
	p = extend(w, CMAN_FRAME_HEADER);
	if (!p)
		return;
	put_be(p, 4, CMAN_FRAME_MAGIC);
	p[4] = t->version;
	p[5] = t->type;
	put_be(p + 6, 2, 0);
	put_be(p + 8, 4, 0);
	put_be(p + 12, 4, sequence);
}

void cman_frame_add_u8(struct cman_frame_writer *w, enum cman_tag tag, uint8_t v)
{
	cman_frame_add_bytes(w, tag, &v, 1);
}

void cman_frame_add_u32(struct cman_frame_writer *w, enum cman_tag tag, uint32_t v)
{
	uint8_t *p = add_tlv(w, tag, 4);

	if (p)
		put_be(p, 4, v);
}

void cman_frame_add_u64(struct cman_frame_writer *w, enum cman_tag tag, uint64_t v)
{
	uint8_t *p = add_tlv(w, tag, 8);

	if (p)
		put_be(p, 8, v);
}

void cman_frame_add_bytes(struct cman_frame_writer *w, enum cman_tag tag, const void *data,
			  size_t n)
{
	uint8_t *p;

	if (!data && n)
		fail(w, -EINVAL);
	p = add_tlv(w, tag, n);
	if (p && n)
		memcpy(p, data, n);
}

/* A sentence for people may quote anything: what would be refused is replaced, not an error. */
static void make_clean(uint8_t *p, size_t n)
{
	size_t len;

	for (; n; p += len, n -= len) {
		len = character(p, n);
		if (!len) {
			*p = '?';
			len = 1;
		}
	}
}

void cman_frame_add_text(struct cman_frame_writer *w, enum cman_tag tag, const char *text)
{
	const struct cman_wire_field *f;
	size_t n = text ? strlen(text) : 0;
	uint8_t *p;

	if (!text)
		fail(w, -EINVAL);
	p = add_tlv(w, tag, n);
	if (!p)
		return;
	memcpy(p, text, n);
	f = cman_wire_field(w->data[5], (uint16_t)tag);
	if (f && f->kind == CMAN_KIND_TEXT)
		make_clean(p, n);
}

void cman_frame_add_range(struct cman_frame_writer *w, uint8_t min, uint8_t max)
{
	const uint8_t v[2] = { min, max };

	cman_frame_add_bytes(w, CMAN_TAG_VERSION_RANGE, v, sizeof(v));
}

void cman_frame_add_left(struct cman_frame_writer *w, uint64_t id, const char *reason)
{
	size_t n = reason ? strlen(reason) : 0;
	uint8_t *p;

	if (!reason)
		fail(w, -EINVAL);
	p = add_tlv(w, CMAN_TAG_LEFT, 8 + n);
	if (!p)
		return;
	put_be(p, 8, id);
	memcpy(p + 8, reason, n);
	make_clean(p + 8, n);
}

void cman_frame_add_session(struct cman_frame_writer *w, const struct cman_wire_session *s)
{
	const struct cman_wire_session_field *f;
	unsigned int d, i;
	uint8_t *p;

	if (!s->service || !s->listener || (!s->buffer[0] && s->buffer_len[0]) ||
	    (!s->buffer[1] && s->buffer_len[1])) {
		fail(w, -EINVAL);
		return;
	}
	p = add_tlv(w, CMAN_TAG_SESSION,
		    (size_t)CMAN_WIRE_SESSION_FIXED + 2 + s->service_len + 2 + s->listener_len + 4 +
			    s->buffer_len[0] + 4 + s->buffer_len[1]);
	if (!p)
		return;
	for (f = cman_wire_session_fields; f->name; f++) {
		for (i = 0; i < f->count; i++, p += f->width)
			put_be(p, f->width,
			       load((const uint8_t *)s + f->offset + (size_t)i * f->width,
				    f->width));
	}
	put_be(p, 2, s->service_len);
	memcpy(p + 2, s->service, s->service_len);
	p += 2 + s->service_len;
	put_be(p, 2, s->listener_len);
	memcpy(p + 2, s->listener, s->listener_len);
	p += 2 + s->listener_len;
	for (d = 0; d < 2; d++) {
		put_be(p, 4, s->buffer_len[d]);
		if (s->buffer_len[d])
			memcpy(p + 4, s->buffer[d], s->buffer_len[d]);
		p += 4 + s->buffer_len[d];
	}
}

int cman_frame_finish(struct cman_frame_writer *w, uint16_t nfds)
{
	struct cman_frame frame;
	const char *why;

	if (nfds > CMAN_FRAME_MAX_FDS)
		fail(w, -EMSGSIZE);
	if (w->error)
		return w->error;
	put_be(w->data + 6, 2, nfds);
	put_be(w->data + 8, 4, w->used - CMAN_FRAME_HEADER);
	w->error = cman_frame_parse(w->data, w->used, &frame, &why);
	return w->error;
}

void cman_frame_free(struct cman_frame_writer *w)
{
	if (w->secret && w->data)
		explicit_bzero(w->data, w->used);
	free(w->data);
	memset(w, 0, sizeof(*w));
}

/* ---- reading ---- */

int64_t cman_frame_size(const uint8_t *data, size_t len, const char **why)
{
	uint32_t length;

	if (len >= 4 && get_be(data, 4) != CMAN_FRAME_MAGIC) {
		*why = "the frame does not begin with the magic \"CMAN\"";
		return -EPROTO;
	}
	if (len < CMAN_FRAME_HEADER)
		return 0;
	if (data[4] < CMAN_WIRE_MIN || data[4] > CMAN_WIRE_MAX) {
		*why = "the version of the frame is not one that this release reads";
		return -EPROTONOSUPPORT;
	}
	if (!cman_wire_type(data[5])) {
		*why = "the type of the frame is unknown";
		return -ENOMSG;
	}
	if (get_be(data + 6, 2) > CMAN_FRAME_MAX_FDS) {
		*why = "the frame has more than 252 descriptors";
		return -EMSGSIZE;
	}
	length = (uint32_t)get_be(data + 8, 4);
	if (length > CMAN_FRAME_MAX_PAYLOAD) {
		*why = "the payload of the frame is longer than 8 MiB";
		return -EMSGSIZE;
	}
	return (int64_t)CMAN_FRAME_HEADER + length;
}

/* What the fields of a frame say together */
struct summary {
	uint32_t count[ROW_LIMIT]; /* of each line of the table for this type */
	uint64_t id[CMAN_BATCH];   /* of the sessions */
	unsigned int nsessions;
	unsigned int nfds; /* that its sessions need, without TLS_STATE */
};

static int refuse(const char **why, const char *sentence)
{
	*why = sentence;
	return -EBADMSG;
}

static int check_number(const struct cman_wire_field *f, const struct tlv *t, size_t width,
			const char **why)
{
	uint64_t v;

	if (t->len != width)
		return refuse(why, f->length);
	v = get_be(t->value, width);
	return v < f->low || v > f->high ? refuse(why, f->range) : 0;
}

static int check_session(const struct tlv *t, struct summary *sum, const char **why)
{
	struct cman_wire_session s;
	unsigned int i;
	int err;

	err = decode_session(t->value, t->len, &s, why);
	if (err)
		return err;
	for (i = 0; i < sum->nsessions; i++)
		if (sum->id[i] == s.id)
			return refuse(why, "BATCH: SESSION: two sessions have the same id");
	sum->id[sum->nsessions++] = s.id;
	sum->nfds += 2 + 2 * s.pipe[0] + 2 * s.pipe[1];
	return 0;
}

static int check_value(const struct cman_wire_field *f, const struct tlv *t, struct summary *sum,
		       const char **why)
{
	const uint8_t *text = t->value;
	size_t n = t->len;

	switch (f->kind) {
	case CMAN_KIND_U8:
		return check_number(f, t, 1, why);
	case CMAN_KIND_U32:
		return check_number(f, t, 4, why);
	case CMAN_KIND_U64:
		return check_number(f, t, 8, why);
	case CMAN_KIND_SESSION:
		return check_session(t, sum, why);
	case CMAN_KIND_LEFT:
		if (n < 8)
			return refuse(why, f->length);
		text += 8;
		n -= 8;
		break;
	}
	if (n < f->low || n > f->high)
		return refuse(why, f->length);
	switch (f->kind) {
	case CMAN_KIND_RANGE:
		return text[0] < 1 || text[0] > text[1] ? refuse(why, f->range) : 0;
	case CMAN_KIND_BYTES:
	case CMAN_KIND_DATA:
		return 0;
	case CMAN_KIND_JSON:
		return clean(text, n, true) ? 0 : refuse(why, f->text);
	case CMAN_KIND_LISTENER:
		if (!clean(text, n, false))
			return refuse(why, f->text);
		return listener_form(text, n) ? 0 : refuse(why, f->form);
	default:
		return clean(text, n, false) ? 0 : refuse(why, f->text);
	}
}

/* How often @tag stands; rows are the table's lines of this type */
static uint32_t count_of(const struct summary *sum, const struct cman_wire_field *rows,
			 uint16_t tag)
{
	unsigned int i;

	for (i = 0; rows[i].name && rows[i].frame == rows->frame; i++)
		if (rows[i].tag == tag)
			return sum->count[i];
	return 0;
}

static int check_together(const struct cman_wire_type *type, const struct cman_wire_field *rows,
			  const struct summary *sum, unsigned int nfds, const char **why)
{
	unsigned int i, numbers;
	bool good;

	for (i = 0; rows && rows[i].name && rows[i].frame == type->type; i++)
		if (rows[i].required && !sum->count[i])
			return refuse(why, rows[i].missing);

	switch (type->fds) {
	case CMAN_FDS_LISTENERS:
		good = nfds == count_of(sum, rows, CMAN_TAG_LISTENER);
		break;
	case CMAN_FDS_SESSIONS:
		good = nfds == sum->nfds + count_of(sum, rows, CMAN_TAG_TLS_STATE);
		break;
	case CMAN_FDS_NUMBERS:
		numbers = count_of(sum, rows, CMAN_TAG_FD_NUMBER);
		good = (nfds || numbers) && (!nfds || !numbers || nfds == numbers);
		break;
	default:
		good = !nfds;
	}
	if (!good)
		return refuse(why, type->wrong_fds);

	if (type->type == CMAN_FRAME_KEEPER_HELLO && !count_of(sum, rows, CMAN_TAG_VERSION_RANGE) &&
	    !count_of(sum, rows, CMAN_TAG_CELL))
		return refuse(why, "KEEPER_HELLO: neither VERSION_RANGE nor CELL is there");
	return 0;
}

/* The table's first line of @type; lines of one type stand together. NULL: it has no fields. */
static const struct cman_wire_field *rows_of(uint8_t type)
{
	const struct cman_wire_field *f;

	for (f = cman_wire_fields; f->name; f++)
		if (f->frame == type)
			return f;
	return NULL;
}

int cman_frame_parse(const uint8_t *data, size_t len, struct cman_frame *ret_frame,
		     const char **why)
{
	const struct cman_wire_type *type;
	const struct cman_wire_field *rows, *f;
	struct summary sum = { .nsessions = 0 };
	struct tlv t;
	struct span s;
	int64_t size;
	int err;

	size = cman_frame_size(data, len, why);
	if (size < 0)
		return (int)size;
	if (!size || len < (uint64_t)size)
		return refuse(why, "the frame ends early");
	if (len > (uint64_t)size)
		return refuse(why, "bytes behind the end of the frame");

	type = cman_wire_type(data[5]);
	rows = rows_of(data[5]);
	s.p = data + CMAN_FRAME_HEADER;
	s.end = data + len;
	while ((err = next_tlv(&s, &t, why)) > 0) {
		f = cman_wire_field(data[5], t.tag);
		if (!f) {
			if (t.tag & CMAN_TLV_MUST)
				return refuse(why, "a tag is unknown and must be understood");
			continue;
		}
		if (f->most && sum.count[f - rows] == f->most)
			return refuse(why, f->often);
		sum.count[f - rows]++;
		err = check_value(f, &t, &sum, why);
		if (err)
			return err;
	}
	if (err)
		return err;
	err = check_together(type, rows, &sum, (unsigned int)get_be(data + 6, 2), why);
	if (err)
		return err;

	ret_frame->version = data[4];
	ret_frame->type = data[5];
	ret_frame->nfds = (uint16_t)get_be(data + 6, 2);
	ret_frame->length = (uint32_t)get_be(data + 8, 4);
	ret_frame->sequence = (uint32_t)get_be(data + 12, 4);
	ret_frame->payload = data + CMAN_FRAME_HEADER;
	return 0;
}

/*
 * The next value of @tag behind *cursor. Only tags that the table knows in this type of frame were
 * checked, so only these are found.
 */
static int next_value(const struct cman_frame *f, uint16_t tag, size_t *cursor, struct tlv *ret,
		      uint8_t *ret_kind)
{
	const struct cman_wire_field *field = cman_wire_field(f->type, tag);
	struct span s = { f->payload + *cursor, f->payload + f->length };
	const char *why;

	if (!field || *cursor > f->length)
		return -ENOENT;
	while (next_tlv(&s, ret, &why) > 0) {
		if (ret->tag == tag) {
			*cursor = (size_t)(s.p - f->payload);
			*ret_kind = field->kind;
			return 0;
		}
	}
	return -ENOENT;
}

static int next_number(const struct cman_frame *f, uint16_t tag, size_t *cursor, uint8_t kind,
		       uint64_t *ret)
{
	size_t at = *cursor;
	struct tlv t;
	uint8_t k;

	if (next_value(f, tag, &at, &t, &k) || k != kind)
		return -ENOENT;
	*ret = get_be(t.value, t.len);
	*cursor = at;
	return 0;
}

int cman_frame_u8(const struct cman_frame *f, enum cman_tag tag, uint8_t *ret)
{
	size_t cursor = 0;
	uint64_t v;

	if (next_number(f, (uint16_t)tag, &cursor, CMAN_KIND_U8, &v))
		return -ENOENT;
	*ret = (uint8_t)v;
	return 0;
}

int cman_frame_u32(const struct cman_frame *f, enum cman_tag tag, uint32_t *ret)
{
	size_t cursor = 0;

	return cman_frame_next_u32(f, tag, &cursor, ret);
}

int cman_frame_u64(const struct cman_frame *f, enum cman_tag tag, uint64_t *ret)
{
	size_t cursor = 0;

	return next_number(f, (uint16_t)tag, &cursor, CMAN_KIND_U64, ret);
}

int cman_frame_bytes(const struct cman_frame *f, enum cman_tag tag, const uint8_t **ret, size_t *n)
{
	size_t cursor = 0;
	struct tlv t;
	uint8_t kind;

	if (next_value(f, (uint16_t)tag, &cursor, &t, &kind))
		return -ENOENT;
	*ret = t.value;
	*n = t.len;
	return 0;
}

int cman_frame_range(const struct cman_frame *f, uint8_t *ret_min, uint8_t *ret_max)
{
	const uint8_t *p;
	size_t n;

	if (cman_frame_bytes(f, CMAN_TAG_VERSION_RANGE, &p, &n))
		return -ENOENT;
	*ret_min = p[0];
	*ret_max = p[1];
	return 0;
}

int cman_frame_next_u32(const struct cman_frame *f, enum cman_tag tag, size_t *cursor,
			uint32_t *ret)
{
	uint64_t v;

	if (next_number(f, (uint16_t)tag, cursor, CMAN_KIND_U32, &v))
		return -ENOENT;
	*ret = (uint32_t)v;
	return 0;
}

int cman_frame_next_text(const struct cman_frame *f, enum cman_tag tag, size_t *cursor,
			 const char **ret, size_t *n)
{
	size_t at = *cursor;
	struct tlv t;
	uint8_t kind;

	if (next_value(f, (uint16_t)tag, &at, &t, &kind))
		return -ENOENT;
	if (kind != CMAN_KIND_TEXT && kind != CMAN_KIND_NAME && kind != CMAN_KIND_JSON &&
	    kind != CMAN_KIND_LISTENER)
		return -ENOENT;
	*ret = (const char *)t.value;
	*n = t.len;
	*cursor = at;
	return 0;
}

int cman_frame_next_bytes(const struct cman_frame *f, enum cman_tag tag, size_t *cursor,
			  const uint8_t **ret, size_t *n)
{
	size_t at = *cursor;
	struct tlv t;
	uint8_t kind;

	if (next_value(f, (uint16_t)tag, &at, &t, &kind))
		return -ENOENT;
	if (kind != CMAN_KIND_BYTES && kind != CMAN_KIND_DATA)
		return -ENOENT;
	*ret = t.value;
	*n = t.len;
	*cursor = at;
	return 0;
}

int cman_frame_next_left(const struct cman_frame *f, size_t *cursor, uint64_t *ret_id,
			 const char **ret, size_t *n)
{
	struct tlv t;
	uint8_t kind;

	if (next_value(f, CMAN_TAG_LEFT, cursor, &t, &kind))
		return -ENOENT;
	*ret_id = get_be(t.value, 8);
	*ret = (const char *)t.value + 8;
	*n = t.len - 8;
	return 0;
}

int cman_frame_next_session(const struct cman_frame *f, size_t *cursor,
			    struct cman_wire_session *ret)
{
	struct cman_wire_session session;
	const char *why;
	struct tlv t;
	uint8_t kind;

	if (next_value(f, CMAN_TAG_SESSION, cursor, &t, &kind) ||
	    decode_session(t.value, t.len, &session, &why))
		return -ENOENT;
	*ret = session;
	return 0;
}

/* ---- dump ---- */

struct text {
	char *buf;
	size_t size, used;
};

static void __attribute__((format(printf, 2, 3))) print(struct text *t, const char *format, ...)
{
	va_list ap;
	int n;

	if (t->used + 1 >= t->size)
		return;
	va_start(ap, format);
	n = vsnprintf(t->buf + t->used, t->size - t->used, format, ap);
	va_end(ap);
	if (n > 0)
		t->used += (size_t)n < t->size - t->used ? (size_t)n : t->size - t->used - 1;
}

/* Parsed text has no control characters but the line breaks of JSON. */
static void print_text(struct text *t, const uint8_t *p, size_t n)
{
	const size_t shown = n > 200 ? 200 : n;
	size_t i;

	print(t, "\"");
	for (i = 0; i < shown; i++)
		print(t, "%c", p[i] == '\n' || p[i] == '\t' || p[i] == '\r' ? ' ' : p[i]);
	print(t, shown < n ? "...\" (%zu bytes)" : "\"", n);
}

static void print_session(struct text *t, const struct tlv *v)
{
	const struct cman_wire_session_field *f;
	struct cman_wire_session s;
	const char *why;
	unsigned int i;

	if (decode_session(v->value, v->len, &s, &why)) {
		print(t, "%s", why);
		return;
	}
	print(t, "service=%.*s listener=%.*s", s.service_len, s.service, s.listener_len,
	      s.listener);
	for (f = cman_wire_session_fields; f->name; f++) {
		const uint8_t *p = (const uint8_t *)&s + f->offset;

		print(t, " %s=", f->name);
		for (i = 0; i < f->count; i++, p += f->width) {
			const uint64_t n = load(p, f->width);

			if (f->count == 16)
				print(t, "%02llx", (unsigned long long)n);
			else if (!strcmp(f->name, "id"))
				print(t, "%016llx", (unsigned long long)n);
			else if (strstr(f->name, "_base"))
				print(t, "%s%lld", i ? "," : "", (long long)n);
			else
				print(t, "%s%llu", i ? "," : "", (unsigned long long)n);
		}
	}
	print(t, " buffer_len=%u,%u", s.buffer_len[0], s.buffer_len[1]);
}

static void print_value(struct text *t, const struct cman_wire_field *f, const struct tlv *v)
{
	uint32_t i;

	switch (f->kind) {
	case CMAN_KIND_U8:
	case CMAN_KIND_U32:
		print(t, "%llu", (unsigned long long)get_be(v->value, v->len));
		break;
	case CMAN_KIND_U64:
		print(t, "%016llx", (unsigned long long)get_be(v->value, v->len));
		break;
	case CMAN_KIND_BYTES:
		for (i = 0; i < v->len; i++)
			print(t, "%02x", v->value[i]);
		break;
	case CMAN_KIND_DATA:
		print(t, "(%u bytes)", v->len);
		break;
	case CMAN_KIND_RANGE:
		print(t, "%u..%u", v->value[0], v->value[1]);
		break;
	case CMAN_KIND_LEFT:
		print(t, "%016llx ", (unsigned long long)get_be(v->value, 8));
		print_text(t, v->value + 8, v->len - 8);
		break;
	case CMAN_KIND_SESSION:
		print_session(t, v);
		break;
	default:
		print_text(t, v->value, v->len);
	}
}

void cman_frame_dump(const struct cman_frame *f, char *buf, size_t size)
{
	struct text t = { buf, size, 0 };
	struct span s = { f->payload, f->payload + f->length };
	const struct cman_wire_field *field;
	const char *why;
	struct tlv v;

	if (!size)
		return;
	buf[0] = '\0';
	print(&t, "%s version=%u sequence=%u nfds=%u length=%u\n", cman_frame_type_name(f->type),
	      f->version, f->sequence, f->nfds, f->length);
	while (next_tlv(&s, &v, &why) > 0) {
		field = cman_wire_field(f->type, v.tag);
		if (field) {
			print(&t, "  %s ", field->name);
			print_value(&t, field, &v);
			print(&t, "\n");
		} else {
			print(&t, "  tag %u skipped, %u bytes\n", v.tag, v.len);
		}
	}
}

/* ---- versions ---- */

int cman_wire_choose(uint8_t min_a, uint8_t max_a, uint8_t min_b, uint8_t max_b)
{
	const uint8_t min = min_a > min_b ? min_a : min_b;
	const uint8_t max = max_a < max_b ? max_a : max_b;

	if (min_a > max_a || min_b > max_b || min > max)
		return -EPROTONOSUPPORT;
	return max;
}
