// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Images: writer, reader and description. Everything about the form of an image comes from the tables
 * of usr/core/image_fields.c; here is how a value of each kind is laid out and checked, and what
 * the fields of a socket say together. Every read is bounded by the end of what encloses it:
 * stream, image, block, field. The writer runs the reader over each image that it made.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/image_fields.h"
#include "usr/core/tls.h"
#include "usr/core/wire_fields.h"

#define DEFAULT_TOTAL (UINT64_C(1) << 30)
#define DEFAULT_QUEUE (UINT64_C(64) << 20)
#define DEFAULT_COUNT 65536
/* so that the length of an image, four queues, is a u32 */
#define MOST_QUEUE (UINT64_C(512) << 20)

#define IPV4 2 /* indexes of the words of family */
#define IPV6 10

/* indexes of the words of state */
enum {
	ESTABLISHED = 1,
	FIN_WAIT1 = 4,
	FIN_WAIT2 = 5,
	CLOSE_WAIT = 8,
	LAST_ACK = 9,
	CLOSING = 11,
};

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

/* A number in memory: uint8_t (also bool), uint16_t, uint32_t, uint64_t */
static uint64_t load(const void *p, size_t size)
{
	union {
		uint8_t u8;
		uint16_t u16;
		uint32_t u32;
		uint64_t u64;
	} v;

	memcpy(&v, p, size);
	return size == 1 ? v.u8 : size == 2 ? v.u16 : size == 4 ? v.u32 : v.u64;
}

static void store(void *p, size_t size, uint64_t v)
{
	uint8_t v1 = (uint8_t)v;
	uint16_t v2 = (uint16_t)v;
	uint32_t v4 = (uint32_t)v;

	memcpy(p,
	       size == 1 ? (void *)&v1 :
	       size == 2 ? (void *)&v2 :
	       size == 4 ? (void *)&v4 :
			   (void *)&v,
	       size);
}

static int refuse(const char **why, int err, const char *sentence)
{
	*why = sentence;
	return err;
}

/* ---- blocks ---- */

struct block {
	uint16_t tag;
	const char *name;
	const struct cman_image_field *fields;
	/* sentences */
	const char *missing, *often, *cut, *unknown;
};

#define BLOCK(t, n, f) \
	{ \
		.tag = CMAN_IMAGE_BLOCK_##t, .name = n, .fields = f, .missing = n " is missing", \
		.often = n " stands twice", .cut = n ": a field ends behind it", \
		.unknown = n ": it has a field that this release would have to know" \
	}

enum {
	SESSION = 0,
	LEG = 1, /* the first of CMAN_IMAGE_LEGS */
	BLOCKS = 3,
};

static const struct block blocks[BLOCKS] = {
	BLOCK(SESSION, "session", cman_image_session_fields),
	BLOCK(CLIENT, "client", cman_image_leg_fields),
	BLOCK(SERVER, "server", cman_image_leg_fields),
};

/* The pointer and the length of NAME, BYTES and SECRET_BYTES */
static const uint8_t *pointer_of(const struct cman_image_field *f, const void *object)
{
	const uint8_t *p;

	memcpy(&p, (const char *)object + f->offset, sizeof(p));
	return p;
}

static uint64_t length_of(const struct cman_image_field *f, const void *object)
{
	return load((const char *)object + f->len_offset, f->len_size);
}

static uint64_t longest(const struct cman_image_field *f, const struct cman_image_limits *limits)
{
	return f->high ? f->high : limits->queue;
}

static struct cman_image_limits fill_in(const struct cman_image_limits *limits)
{
	struct cman_image_limits l = { 0 };

	if (limits)
		l = *limits;
	if (!l.total)
		l.total = DEFAULT_TOTAL;
	if (l.total > INT64_MAX)
		l.total = INT64_MAX;
	if (!l.queue)
		l.queue = DEFAULT_QUEUE;
	if (l.queue > MOST_QUEUE)
		l.queue = MOST_QUEUE;
	if (!l.count)
		l.count = DEFAULT_COUNT;
	return l;
}

/* ---- reading ---- */

struct span {
	const uint8_t *p, *end;
};

struct tlv {
	uint16_t tag;
	uint32_t len;
	const uint8_t *value;
};

/* 1: one more, 0: the end, -EBADMSG */
static int next_tlv(struct span *s, struct tlv *ret)
{
	size_t left = (size_t)(s->end - s->p);

	if (!left)
		return 0;
	if (left < CMAN_TLV_HEADER)
		return -EBADMSG;
	ret->tag = (uint16_t)get_be(s->p, 2);
	ret->len = (uint32_t)get_be(s->p + 2, 4);
	ret->value = s->p + CMAN_TLV_HEADER;
	if (left - CMAN_TLV_HEADER < ret->len)
		return -EBADMSG;
	s->p = ret->value + ret->len;
	return 1;
}

static int read_numbers(const struct cman_image_field *f, const struct tlv *t, void *object,
			const char **why)
{
	char *p = (char *)object + f->offset;
	const uint8_t *from = t->value;

	if (t->len != (uint32_t)f->width * f->count)
		return refuse(why, -EBADMSG, f->length);
	for (unsigned int i = 0; i < f->count; i++, from += f->width, p += f->size) {
		uint64_t v = get_be(from, f->width);

		if (v < f->low || v > f->high || (f->words && !f->words[v]) ||
		    (f->size < 8 && v >> 8 * f->size))
			return refuse(why, -EBADMSG, f->range);
		store(p, f->size, v);
	}
	return 0;
}

static bool label_clean(const uint8_t *p, size_t n)
{
	return cman_wire_clean(p, n) && !memchr(p, ' ', n) && !memchr(p, '/', n);
}

static int read_options(const struct cman_image_field *f, const struct tlv *t,
			struct cman_repair_image *image, const char **why)
{
	const uint8_t *p = t->value, *end = p + t->len;

	if (t->len % CMAN_IMAGE_OPTION_SIZE)
		return refuse(why, -EBADMSG, f->length);
	for (; p < end; p += CMAN_IMAGE_OPTION_SIZE) {
		unsigned int number = (unsigned int)get_be(p, 2);
		int64_t value = (int64_t)get_be(p + 2, 8);

		if (number >= CMAN_REPAIR_OPTIONS) {
			if (number & CMAN_TLV_MUST)
				return refuse(why, -EBADMSG,
					      "leg: it has a socket option that this release "
					      "would have to know");
			continue;
		}
		if (image->have & CMAN_REPAIR_BIT(number))
			return refuse(why, -EBADMSG, "leg: a socket option stands twice");
		if (!cman_image_options[number].wide && (value < INT32_MIN || value > UINT32_MAX))
			return refuse(why, -EBADMSG, f->range);
		image->have |= CMAN_REPAIR_BIT(number);
		image->option[number] = value;
	}
	return 0;
}

static int read_field(const struct cman_image_field *f, const struct tlv *t, void *object,
		      const struct cman_image_limits *limits, const char **why)
{
	char *at = (char *)object + f->offset;
	const uint8_t *value = t->len ? t->value : NULL;

	switch (f->kind) {
	case CMAN_IMAGE_ADDRESS:
		if (t->len != f->size)
			return refuse(why, -EBADMSG, f->length);
		memcpy(at, t->value, t->len);
		return 0;
	case CMAN_IMAGE_NAME:
		if (t->len < f->low || t->len > f->high)
			return refuse(why, -EBADMSG, f->length);
		if (!cman_wire_clean(t->value, t->len))
			return refuse(why, -EBADMSG, f->range);
		break;
	case CMAN_IMAGE_LABEL:
		if (t->len < f->low || t->len > f->high)
			return refuse(why, -EBADMSG, f->length);
		if (!label_clean(t->value, t->len))
			return refuse(why, -EBADMSG, f->range);
		memcpy(at, t->value, t->len);
		return 0;
	case CMAN_IMAGE_BYTES:
	case CMAN_IMAGE_SECRET_BYTES:
		if (t->len > longest(f, limits))
			return refuse(why, -EMSGSIZE, f->length);
		break;
	case CMAN_IMAGE_OPTIONS:
		return read_options(f, t, object, why);
	default:
		return read_numbers(f, t, object, why);
	}
	/* where they are; memory that nobody writes to */
	memcpy(at, &value, sizeof(value));
	store((char *)object + f->len_offset, f->len_size, t->len);
	return 0;
}

/* @object is zeros */
static int read_block(const struct block *b, const struct tlv *block, void *object,
		      const struct cman_image_limits *limits, const char **why)
{
	struct span s = { block->value, block->value + block->len };
	const struct cman_image_field *f, *hint = b->fields;
	bool seen[CMAN_IMAGE_MAX_FIELDS] = { false };
	struct tlv t;
	int err;

	while ((err = next_tlv(&s, &t)) > 0) {
		/* fields are written in the order of the table: the next is nearly always it */
		for (f = hint; f->name && f->tag != t.tag; f++)
			;
		for (f = f->name ? f : b->fields; f->name && f->tag != t.tag; f++)
			;
		if (!f->name) {
			if (t.tag & CMAN_TLV_MUST)
				return refuse(why, -EBADMSG, b->unknown);
			continue;
		}
		hint = f + 1;
		if (seen[f - b->fields])
			return refuse(why, -EBADMSG, f->often);
		seen[f - b->fields] = true;
		err = read_field(f, &t, object, limits, why);
		if (err)
			return err;
	}
	if (err)
		return refuse(why, err, b->cut);
	for (f = b->fields; f->name; f++)
		if (f->required && !seen[f - b->fields])
			return refuse(why, -EBADMSG, f->missing);
	return 0;
}

static bool mapped(const uint8_t addr[16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(addr, prefix, sizeof(prefix)) == 0;
}

/* What cman_repair_export() promises of the fields of one socket together */
static int check_leg(const struct cman_repair_image *l, const char **why)
{
	bool peer_fin = l->state == CLOSE_WAIT || l->state == LAST_ACK || l->state == CLOSING;
	bool fin = l->state == FIN_WAIT1 || l->state == FIN_WAIT2 || l->state == LAST_ACK ||
		   l->state == CLOSING;

	if (l->family == IPV4 && (!mapped(l->local_addr) || !mapped(l->peer_addr)))
		return refuse(why, -EBADMSG, "leg: an IPv4 address is not v4-mapped");
	if (l->unsent > l->out.len)
		return refuse(why, -EBADMSG, "leg: unsent is more than out has");
	if (l->peer_fin != peer_fin || l->fin != fin || l->fin_acked != (l->state == FIN_WAIT2) ||
	    (l->fin_sent && !l->fin) || (l->fin_acked && !l->fin_sent))
		return refuse(why, -EBADMSG, "leg: the FINs do not fit the state");
	if (l->fin_acked && l->out.len)
		return refuse(why, -EBADMSG,
			      "leg: its FIN is acknowledged, but not what is in out");
	if (l->fin_sent && l->unsent)
		return refuse(why, -EBADMSG, "leg: its FIN was sent before unsent bytes");
	return 0;
}

/* The state of TLS, which is secret and so needs a stream that says so */
static int check_tls(const struct cman_wire_session *session, uint16_t flags, const char **why)
{
	struct cman_tls_session tls;
	int err;

	if (!session->tls)
		return 0;
	if (!(flags & CMAN_IMAGE_SECRET))
		return refuse(why, -EBADMSG,
			      "session: tls is in a stream that is not marked secret");
	err = cman_tls_session_decode(session->tls, session->tls_len, &tls, why);
	explicit_bzero(&tls, sizeof(tls));
	return err ? -EBADMSG : 0;
}

/* One image of exactly @len bytes, in a stream with @flags */
static int read_image(const uint8_t *data, size_t len, uint16_t flags,
		      const struct cman_image_limits *limits, struct cman_wire_session *session,
		      struct cman_repair_image *leg, const char **why)
{
	struct span s = { data, data + len };
	bool seen[BLOCKS] = { false };
	unsigned int i;
	struct tlv t;
	int err;

	memset(session, 0, sizeof(*session));
	memset(leg, 0, CMAN_IMAGE_LEGS * sizeof(*leg));
	while ((err = next_tlv(&s, &t)) > 0) {
		for (i = 0; i < BLOCKS && blocks[i].tag != t.tag; i++)
			;
		if (i == BLOCKS) {
			if (t.tag & CMAN_TLV_MUST)
				return refuse(why, -EBADMSG,
					      "an image has a block that this release would have "
					      "to know");
			continue;
		}
		if (seen[i])
			return refuse(why, -EBADMSG, blocks[i].often);
		seen[i] = true;
		err = read_block(&blocks[i], &t,
				 i == SESSION ? (void *)session : (void *)&leg[i - LEG], limits,
				 why);
		if (err)
			return err;
	}
	if (err)
		return refuse(why, err, "a block ends behind its image");
	for (i = 0; i < BLOCKS; i++)
		if (!seen[i])
			return refuse(why, -EBADMSG, blocks[i].missing);
	for (i = 0; i < CMAN_IMAGE_LEGS; i++) {
		err = check_leg(&leg[i], why);
		if (err)
			return err;
		leg[i].described = true;
	}
	return check_tls(session, flags, why);
}

/* 1: one more, 0: the end, -EBADMSG */
static int next_image(const uint8_t **p, const uint8_t *end, const uint8_t **ret, size_t *ret_len,
		      const char **why)
{
	size_t left = (size_t)(end - *p), len;

	if (!left)
		return 0;
	if (left < 4)
		return refuse(why, -EBADMSG, "bytes behind the last image");
	len = (size_t)get_be(*p, 4);
	if (left - 4 < len)
		return refuse(why, -EBADMSG, "an image ends behind the stream");
	*ret = *p + 4;
	*ret_len = len;
	*p += 4 + len;
	return 1;
}

int64_t cman_image_size(const uint8_t *data, size_t len, const struct cman_image_limits *limits,
			const char **why)
{
	struct cman_image_limits l = fill_in(limits);
	uint64_t length;
	uint32_t count;

	if (len >= 4 && get_be(data, 4) != CMAN_IMAGE_MAGIC)
		return refuse(why, -EPROTO, "it does not begin with the magic \"CMIM\"");
	if (len < CMAN_IMAGE_HEADER)
		return 0;
	if (get_be(data + 4, 2) != CMAN_IMAGE_VERSION)
		return refuse(why, -EPROTONOSUPPORT,
			      "its version is not one that this release reads");
	if (get_be(data + 6, 2) & ~(uint64_t)CMAN_IMAGE_SECRET)
		return refuse(why, -EPROTONOSUPPORT,
			      "it has flags that this release does not know");
	length = get_be(data + 16, 8);
	count = (uint32_t)get_be(data + 24, 4);
	if (length > l.total)
		return refuse(why, -EMSGSIZE, "it is longer than the limit");
	if (count > l.count)
		return refuse(why, -EMSGSIZE, "it has more images than the limit");
	if (length < CMAN_IMAGE_HEADER)
		return refuse(why, -EBADMSG, "its length is less than that of its header");
	if ((length - CMAN_IMAGE_HEADER) / 4 < count)
		return refuse(why, -EBADMSG, "it is too short for the number of its images");
	return (int64_t)length;
}

static int compare_ids(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

/* Those of a stream with the header @h, up to @end. @id: room for all */
static int check_images(const uint8_t *p, const uint8_t *end, const struct cman_image_header *h,
			uint64_t *id, const struct cman_image_limits *limits, const char **why)
{
	struct cman_repair_image leg[CMAN_IMAGE_LEGS];
	struct cman_wire_session session;
	const uint8_t *image;
	uint32_t n = 0;
	size_t len;
	int err;

	while ((err = next_image(&p, end, &image, &len, why)) > 0) {
		if (n == h->count)
			return refuse(why, -EBADMSG, "it has more images than its header says");
		err = read_image(image, len, h->flags, limits, &session, leg, why);
		if (err)
			return err;
		id[n++] = session.id;
	}
	if (err)
		return err;
	if (n != h->count)
		return refuse(why, -EBADMSG, "it has fewer images than its header says");
	if (!n)
		return 0;
	qsort(id, n, sizeof(*id), compare_ids);
	for (uint32_t i = 1; i < n; i++)
		if (id[i] == id[i - 1])
			return refuse(why, -EBADMSG, "two sessions have the same id");
	return 0;
}

int cman_image_open(const uint8_t *data, size_t len, const struct cman_image_limits *limits,
		    struct cman_image_header *ret_header, struct cman_image_cursor *ret_cursor,
		    const char **why)
{
	int64_t size = cman_image_size(data, len, limits, why);
	struct cman_image_limits l = fill_in(limits);
	struct cman_image_header h;
	uint64_t *id = NULL;
	int err;

	if (size < 0)
		return (int)size;
	if (!size)
		return refuse(why, -EBADMSG, "it ends within its header");
	if ((uint64_t)size != len)
		return refuse(why, -EBADMSG,
			      (uint64_t)size > len ? "it is shorter than its header says" :
						     "bytes behind its end");
	h = (struct cman_image_header){
		.version = (uint16_t)get_be(data + 4, 2),
		.flags = (uint16_t)get_be(data + 6, 2),
		.batch = get_be(data + 8, 8),
		.length = (uint64_t)size,
		.count = (uint32_t)get_be(data + 24, 4),
	};
	if (h.count) {
		id = calloc(h.count, sizeof(*id));
		if (!id)
			return refuse(why, -ENOMEM, "out of memory");
	}
	err = check_images(data + CMAN_IMAGE_HEADER, data + len, &h, id, &l, why);
	free(id);
	if (err)
		return err;
	*ret_header = h;
	*ret_cursor = (struct cman_image_cursor){
		.next = data + CMAN_IMAGE_HEADER, .end = data + len, .flags = h.flags, .limits = l
	};
	return 0;
}

int cman_image_next(struct cman_image_cursor *cursor, struct cman_wire_session *ret_session,
		    struct cman_repair_image ret_leg[CMAN_IMAGE_LEGS])
{
	const uint8_t *image;
	const char *why;
	size_t len;
	int err;

	err = next_image(&cursor->next, cursor->end, &image, &len, &why);
	if (err <= 0)
		return err ? err : -ENOENT;
	return read_image(image, len, cursor->flags, &cursor->limits, ret_session, ret_leg, &why);
}

/* A queue that is not empty and has no room is borrowed. */
static int own_queue(struct cman_repair_queue *q)
{
	uint8_t *copy;

	if (q->room || !q->len)
		return 0;
	copy = malloc(q->len);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, q->data, q->len);
	q->data = copy;
	q->room = q->len;
	return 0;
}

int cman_image_own(struct cman_repair_image *leg)
{
	int err = own_queue(&leg->in);

	return err ? err : own_queue(&leg->out);
}

void cman_image_drop(struct cman_repair_image *leg)
{
	if (leg->in.room)
		free(leg->in.data);
	if (leg->out.room)
		free(leg->out.data);
	memset(leg, 0, sizeof(*leg));
}

/* ---- writing ---- */

/* realloc() that leaves no copy of a secret behind */
static int grow(struct cman_image_writer *w, size_t size)
{
	uint8_t *p = w->secret ? malloc(size) : realloc(w->data, size);

	if (!p)
		return -ENOMEM;
	if (w->secret && w->data) {
		memcpy(p, w->data, w->used);
		explicit_bzero(w->data, w->used);
		free(w->data);
	}
	w->data = p;
	w->size = size;
	return 0;
}

/* Room for @n more bytes */
static int extend(struct cman_image_writer *w, uint64_t n, uint8_t **ret)
{
	size_t size = w->size ? w->size : 4096;

	if (w->used > w->limits.total || n > w->limits.total - w->used ||
	    n > SIZE_MAX / 4 - w->used)
		return -EMSGSIZE;
	while (size < w->used + n)
		size *= 2;
	if (size != w->size && grow(w, size))
		return -ENOMEM;
	*ret = w->data + w->used;
	w->used += (size_t)n;
	return 0;
}

/* The head of a TLV and room for its value */
static int add_tlv(struct cman_image_writer *w, uint16_t tag, uint64_t len, uint8_t **ret)
{
	uint8_t *p;
	int err;

	if (len > UINT32_MAX)
		return -EMSGSIZE;
	err = extend(w, CMAN_TLV_HEADER + len, &p);
	if (err)
		return err;
	put_be(p, 2, tag);
	put_be(p + 2, 4, len);
	*ret = p + CMAN_TLV_HEADER;
	return 0;
}

static int write_numbers(struct cman_image_writer *w, const struct cman_image_field *f,
			 const void *object)
{
	const char *p = (const char *)object + f->offset;
	uint64_t any = 0;
	uint8_t *to;
	int err;

	for (unsigned int i = 0; i < f->count; i++)
		any |= load(p + (size_t)i * f->size, f->size);
	if (!any && !f->required)
		return 0;
	err = add_tlv(w, f->tag, (uint64_t)f->width * f->count, &to);
	if (err)
		return err;
	for (unsigned int i = 0; i < f->count; i++, to += f->width, p += f->size)
		put_be(to, f->width, load(p, f->size));
	return 0;
}

static int write_options(struct cman_image_writer *w, const struct cman_image_field *f,
			 const struct cman_repair_image *image, const char **why)
{
	unsigned int n = 0;
	uint8_t *to;
	int err;

	for (unsigned int i = 0; i < 64; i++) {
		if (!(image->have >> i & 1))
			continue;
		if (i >= CMAN_REPAIR_OPTIONS)
			return refuse(why, -EBADMSG, f->range);
		n++;
	}
	if (!n)
		return 0;
	err = add_tlv(w, f->tag, (uint64_t)n * CMAN_IMAGE_OPTION_SIZE, &to);
	if (err)
		return err;
	for (unsigned int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		if (!(image->have & CMAN_REPAIR_BIT(i)))
			continue;
		put_be(to, 2, i);
		put_be(to + 2, 8, (uint64_t)image->option[i]);
		to += CMAN_IMAGE_OPTION_SIZE;
	}
	return 0;
}

static int write_field(struct cman_image_writer *w, const struct cman_image_field *f,
		       const void *object, const char **why)
{
	const uint8_t *from = (const uint8_t *)object + f->offset;
	uint64_t len;
	uint8_t *to;
	int err;

	switch (f->kind) {
	case CMAN_IMAGE_ADDRESS:
		len = f->size;
		break;
	case CMAN_IMAGE_LABEL:
		len = strnlen((const char *)from, f->size);
		break;
	case CMAN_IMAGE_NAME:
	case CMAN_IMAGE_BYTES:
	case CMAN_IMAGE_SECRET_BYTES:
		from = pointer_of(f, object);
		len = length_of(f, object);
		if (len && !from)
			return refuse(why, -EBADMSG, f->missing);
		/* before anything so long is copied */
		if (f->kind != CMAN_IMAGE_NAME && len > longest(f, &w->limits))
			return refuse(why, -EMSGSIZE, f->length);
		break;
	case CMAN_IMAGE_OPTIONS:
		return write_options(w, f, object, why);
	default:
		return write_numbers(w, f, object);
	}
	if (!len && !f->required)
		return 0;
	err = add_tlv(w, f->tag, len, &to);
	if (!err && len)
		memcpy(to, from, len);
	return err;
}

static int write_block(struct cman_image_writer *w, const struct block *b, const void *object,
		       const char **why)
{
	const struct cman_image_field *f;
	size_t start;
	uint8_t *p;
	int err;

	err = add_tlv(w, b->tag, 0, &p);
	start = w->used;
	for (f = b->fields; f->name && !err; f++)
		err = write_field(w, f, object, why);
	if (err)
		return err;
	put_be(w->data + start - 4, 4, w->used - start);
	return 0;
}

static uint16_t flags_of(const struct cman_image_writer *w)
{
	return w->secret ? CMAN_IMAGE_SECRET : 0;
}

static int write_image(struct cman_image_writer *w, const struct cman_wire_session *session,
		       const struct cman_repair_image *leg, const char **why)
{
	struct cman_repair_image leg_back[CMAN_IMAGE_LEGS];
	struct cman_wire_session session_back;
	uint8_t *p;
	size_t start;
	int err = 0;

	if (!w->used)
		err = extend(w, CMAN_IMAGE_HEADER, &p);
	if (!err)
		err = extend(w, 4, &p);
	start = w->used;
	for (unsigned int i = 0; i < BLOCKS && !err; i++)
		err = write_block(
			w, &blocks[i],
			i == SESSION ? (const void *)session : (const void *)&leg[i - LEG], why);
	if (err)
		return err;
	put_be(w->data + start - 4, 4, w->used - start);
	return read_image(w->data + start, w->used - start, flags_of(w), &w->limits, &session_back,
			  leg_back, why);
}

void cman_image_begin(struct cman_image_writer *w, uint64_t batch,
		      const struct cman_image_limits *limits)
{
	*w = (struct cman_image_writer){ .batch = batch, .limits = fill_in(limits) };
}

int cman_image_add(struct cman_image_writer *w, const struct cman_wire_session *session,
		   const struct cman_repair_image leg[CMAN_IMAGE_LEGS], const char **why)
{
	const bool was_secret = w->secret;
	size_t before = w->used;
	int err;

	if (session->pipe[0] || session->pipe[1])
		return refuse(why, -EBADMSG, "session: what is in its pipes was not read");
	if (w->count >= w->limits.count)
		return refuse(why, -EMSGSIZE, "it has more images than the limit");
	*why = NULL;
	w->secret |= session->tls_len > 0;
	err = write_image(w, session, leg, why);
	if (err) {
		if (session->tls_len && w->data)
			explicit_bzero(w->data + before, w->used - before);
		w->secret = was_secret;
		w->used = before;
		if (!*why)
			*why = err == -EMSGSIZE ? "it is longer than the limit" : "out of memory";
		return err;
	}
	w->count++;
	return 0;
}

int cman_image_finish(struct cman_image_writer *w, const char **why)
{
	struct cman_image_header header;
	struct cman_image_cursor cursor;
	uint8_t *p;
	int err;

	if (!w->used) {
		err = extend(w, CMAN_IMAGE_HEADER, &p);
		if (err)
			return refuse(why, err, "out of memory");
	}
	put_be(w->data, 4, CMAN_IMAGE_MAGIC);
	put_be(w->data + 4, 2, CMAN_IMAGE_VERSION);
	put_be(w->data + 6, 2, flags_of(w));
	put_be(w->data + 8, 8, w->batch);
	put_be(w->data + 16, 8, w->used);
	put_be(w->data + 24, 4, w->count);
	return cman_image_open(w->data, w->used, &w->limits, &header, &cursor, why);
}

void cman_image_free(struct cman_image_writer *w)
{
	if (w->secret)
		explicit_bzero(w->data, w->used);
	free(w->data);
	memset(w, 0, sizeof(*w));
}

/* ---- showing ---- */

struct describer {
	int (*fn)(void *arg, const struct cman_image_value *value);
	void *arg;
};

static int describe_options(const struct describer *d, struct cman_image_value v,
			    const struct cman_repair_image *image)
{
	char name[64];
	int err = 0;

	v.show = CMAN_IMAGE_SHOW_SIGNED;
	v.name = name;
	v.count = 1;
	for (unsigned int i = 0; i < CMAN_REPAIR_OPTIONS && !err; i++) {
		size_t n;

		if (!(image->have & CMAN_REPAIR_BIT(i)))
			continue;
		n = strlen(cman_image_options[i].name);
		if (n > sizeof(name) - sizeof("option."))
			return -ENAMETOOLONG;
		memcpy(name, "option.", 7);
		memcpy(name + 7, cman_image_options[i].name, n + 1);
		v.number[0] = (uint64_t)image->option[i];
		err = d->fn(d->arg, &v);
	}
	return err;
}

static int describe_field(const struct describer *d, const struct block *b,
			  const struct cman_image_field *f, const void *object)
{
	static const enum cman_image_show show[CMAN_IMAGE_KINDS] = {
		[CMAN_IMAGE_UNSIGNED] = CMAN_IMAGE_SHOW_UNSIGNED,
		[CMAN_IMAGE_SIGNED] = CMAN_IMAGE_SHOW_SIGNED,
		[CMAN_IMAGE_BOOL] = CMAN_IMAGE_SHOW_BOOL,
		[CMAN_IMAGE_ID] = CMAN_IMAGE_SHOW_ID,
		[CMAN_IMAGE_WORD] = CMAN_IMAGE_SHOW_TEXT,
		[CMAN_IMAGE_ADDRESS] = CMAN_IMAGE_SHOW_ADDRESS,
		[CMAN_IMAGE_NAME] = CMAN_IMAGE_SHOW_TEXT,
		[CMAN_IMAGE_LABEL] = CMAN_IMAGE_SHOW_TEXT,
		[CMAN_IMAGE_BYTES] = CMAN_IMAGE_SHOW_BYTES,
		[CMAN_IMAGE_SECRET_BYTES] = CMAN_IMAGE_SHOW_SECRET,
	};
	struct cman_image_value v = { .block = b->name, .name = f->name, .show = show[f->kind] };
	const char *at = (const char *)object + f->offset;

	switch (f->kind) {
	case CMAN_IMAGE_OPTIONS:
		return describe_options(d, v, object);
	case CMAN_IMAGE_WORD:
		v.number[0] = load(at, f->size);
		v.bytes = (const uint8_t *)(v.number[0] <= f->high && f->words[v.number[0]] ?
						    f->words[v.number[0]] :
						    "?");
		v.len = strlen((const char *)v.bytes);
		break;
	case CMAN_IMAGE_ADDRESS:
	case CMAN_IMAGE_LABEL:
		v.bytes = (const uint8_t *)at;
		v.len = f->kind == CMAN_IMAGE_LABEL ? strnlen(at, f->size) : f->size;
		break;
	case CMAN_IMAGE_NAME:
	case CMAN_IMAGE_BYTES:
		v.bytes = pointer_of(f, object);
		v.len = (size_t)length_of(f, object);
		break;
	case CMAN_IMAGE_SECRET_BYTES:
		v.len = (size_t)length_of(f, object);
		break;
	default:
		v.count = f->count;
		for (unsigned int i = 0; i < f->count; i++)
			v.number[i] = load(at + (size_t)i * f->size, f->size);
	}
	return d->fn(d->arg, &v);
}

int cman_image_describe(const struct cman_wire_session *session,
			const struct cman_repair_image leg[CMAN_IMAGE_LEGS],
			int (*fn)(void *arg, const struct cman_image_value *value), void *arg)
{
	const struct describer d = { fn, arg };
	const struct cman_image_field *f;
	int err = 0;

	for (unsigned int i = 0; i < BLOCKS && !err; i++)
		for (f = blocks[i].fields; f->name && !err; f++)
			err = describe_field(&d, &blocks[i], f,
					     i == SESSION ? (const void *)session :
							    (const void *)&leg[i - LEG]);
	return err;
}
