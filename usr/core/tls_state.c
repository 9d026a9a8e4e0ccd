// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The codec of exported TLS state (tls.h), and of the box in which states travel beside a BATCH. Four
 * small tables say which tags a session, a leg, a half and a direction have, and how long they are;
 * scan() checks a block against its table before anything of it is used. The encoder runs the
 * decoder over what it wrote. Copies of secrets that are made on the way are wiped.
 */
#include <errno.h>
#include <string.h>

#include "usr/core/tls.h"
#include "usr/core/wire_fields.h"

#define MAGIC	0x43544c53u
#define VERSION 1
#define HEADER	8

#define FLAGS \
	(CMAN_TLS_CLOSE_SENT | CMAN_TLS_CLOSE_RECEIVED | CMAN_TLS_UPDATE_OWED | CMAN_TLS_SERVER | \
	 CMAN_TLS_REFUSAL_OWED)
/* bytes of a message's head that may be there between two records: all but the last of a KeyUpdate */
#define POST_HEAD (CMAN_TLS_KEY_UPDATE_LEN - 1)
#define POST_SKIP 0xffffff

/* ---- tables ---- */

struct field {
	uint16_t tag;
	bool required;
	uint32_t low, high; /* of the length */
	/* sentences */
	const char *missing, *often, *length;
};

#define FIELD(b, t, req, lo, hi, n) \
	{ \
		.tag = t, .required = req, .low = lo, .high = hi, \
		.missing = "TLS: " b ": " n " is missing", \
		.often = "TLS: " b ": " n " stands twice", \
		.length = "TLS: " b ": " n " has a wrong length", \
	}
#define MUST(b, t, lo, hi, n)	  FIELD(b, t | CMAN_TLV_MUST, true, lo, hi, n)
#define OPTIONAL(b, t, lo, hi, n) FIELD(b, t | CMAN_TLV_MUST, false, lo, hi, n)
#define PEOPLE(b, t, lo, hi, n)	  FIELD(b, t, false, lo, hi, n)
#define ANY			  CMAN_TLS_STATE_MAX

/* Indexes of the tables. An index + 1 is the number of the tag. */
enum { CLIENT, SERVER, UP, DOWN, SNI, ALPN, SESSION_FIELDS };
enum { ENGINE, FLAG, TLS_VERSION, SUITE, RX, TX, POST, LEG_FIELDS };
enum { SEQ, EXPLICIT_IV, EPOCH, SECRET, HALF_FIELDS };
enum { IN_BASE, IN, OUT_BASE, OUT, FLOW_FIELDS };

static const struct field session_fields[SESSION_FIELDS] = {
	OPTIONAL("session", 1, 0, ANY, "client"), OPTIONAL("session", 2, 0, ANY, "server"),
	MUST("session", 3, 0, ANY, "up"),	  MUST("session", 4, 0, ANY, "down"),
	PEOPLE("session", 5, 1, 255, "sni"),	  PEOPLE("session", 6, 1, 255, "alpn"),
};

static const struct field leg_fields[LEG_FIELDS] = {
	MUST("leg", 1, 1, 1, "engine"),
	MUST("leg", 2, 1, 1, "flags"),
	MUST("leg", 3, 2, 2, "version"),
	MUST("leg", 4, 2, 2, "suite"),
	MUST("leg", 5, 0, ANY, "rx"),
	MUST("leg", 6, 0, ANY, "tx"),
	OPTIONAL("leg", 7, 4, 4 + POST_HEAD, "post"),
};

static const struct field half_fields[HALF_FIELDS] = {
	MUST("half", 1, 8, 8, "seq"),
	MUST("half", 2, 8, 8, "explicit_iv"),
	MUST("half", 3, 4, 4, "epoch"),
	MUST("half", 4, 1, CMAN_TLS_SECRET_MAX, "secret"),
};

static const struct field flow_fields[FLOW_FIELDS] = {
	MUST("direction", 1, 8, 8, "in_base"),
	MUST("direction", 2, 0, ANY, "in"),
	MUST("direction", 3, 8, 8, "out_base"),
	MUST("direction", 4, 0, ANY, "out"),
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

/* Bytes of struct cman_tls_half.secret that mean something */
static size_t secret_len(const struct cman_tls_suite *suite)
{
	if (suite->version == CMAN_TLS_1_3)
		return suite->hash_len;
	return suite->key_len + (suite->aead == CMAN_TLS_CHACHA20_POLY1305 ? 12u : 4u);
}

/* ---- reading ---- */

struct span {
	const uint8_t *p;
	size_t len;
};

static int refuse(const char **why, const char *sentence)
{
	*why = sentence;
	return -EBADMSG;
}

/*
 * All TLVs of a block into @ret, one for each of the @n lines of the table; p is NULL for those that
 * are not there.
 */
static int scan(struct span block, const struct field *fields, size_t n, struct span *ret,
		const char **why)
{
	size_t i, len;
	uint16_t tag;

	memset(ret, 0, n * sizeof(*ret));
	for (; block.len; block.p += len, block.len -= len) {
		if (block.len < CMAN_TLV_HEADER)
			return refuse(why, "TLS: bytes behind the last field of a block");
		tag = (uint16_t)get_be(block.p, 2);
		len = (size_t)get_be(block.p + 2, 4);
		block.p += CMAN_TLV_HEADER;
		block.len -= CMAN_TLV_HEADER;
		if (len > block.len)
			return refuse(why, "TLS: a field ends behind its block");
		for (i = 0; i < n && fields[i].tag != tag; i++)
			;
		if (i == n) {
			if (tag & CMAN_TLV_MUST)
				return refuse(why, "TLS: it has a field that this release would "
						   "have to know");
			continue;
		}
		if (ret[i].p)
			return refuse(why, fields[i].often);
		if (len < fields[i].low || len > fields[i].high)
			return refuse(why, fields[i].length);
		ret[i] = (struct span){ block.p, len };
	}
	for (i = 0; i < n; i++)
		if (fields[i].required && !ret[i].p)
			return refuse(why, fields[i].missing);
	return 0;
}

static uint64_t number(const struct span *s)
{
	return get_be(s->p, s->len);
}

static int read_half(struct span block, const struct cman_tls_suite *suite, bool seals,
		     struct cman_tls_half *half, const char **why)
{
	bool counted = seals && suite->version == CMAN_TLS_1_2 &&
		       suite->aead != CMAN_TLS_CHACHA20_POLY1305;
	struct span f[HALF_FIELDS];
	int err;

	err = scan(block, half_fields, HALF_FIELDS, f, why);
	if (err)
		return err;
	half->seq = number(&f[SEQ]);
	half->explicit_iv = number(&f[EXPLICIT_IV]);
	half->epoch = (uint32_t)number(&f[EPOCH]);
	if (half->seq == UINT64_MAX)
		return refuse(why, "TLS: half: seq is out of range");
	if (half->explicit_iv && !counted)
		return refuse(why, "TLS: half: explicit_iv is for TLS 1.2 AES-GCM that seals");
	if (half->epoch && suite->version == CMAN_TLS_1_2)
		return refuse(why, "TLS: half: epoch is for TLS 1.3");
	if (f[SECRET].len != secret_len(suite))
		return refuse(why, "TLS: half: secret has not the length that its suite needs");
	memcpy(half->secret, f[SECRET].p, f[SECRET].len);
	return 0;
}

/* u32 skip and the bytes of head; absent when no message has come in part */
static int read_post(const struct span *s, uint16_t version, struct cman_tls_post *post,
		     const char **why)
{
	if (!s->p)
		return 0;
	post->skip = (uint32_t)get_be(s->p, 4);
	post->have = (uint8_t)(s->len - 4);
	memcpy(post->head, s->p + 4, post->have);
	if (post->skip > POST_SKIP || !post->skip == !post->have)
		return refuse(why, "TLS: leg: post is out of range");
	if (post->have == POST_HEAD &&
	    (version != CMAN_TLS_1_3 || memcmp(post->head, cman_tls_key_update, POST_HEAD) != 0))
		return refuse(why, "TLS: leg: post is not the head of a KeyUpdate");
	return 0;
}

static int read_leg(struct span block, struct cman_tls_leg *leg, const char **why)
{
	const struct cman_tls_suite *suite;
	struct span f[LEG_FIELDS];
	int err;

	err = scan(block, leg_fields, LEG_FIELDS, f, why);
	if (err)
		return err;
	leg->engine = (uint8_t)number(&f[ENGINE]);
	leg->flags = (uint8_t)number(&f[FLAG]);
	leg->version = (uint16_t)number(&f[TLS_VERSION]);
	leg->suite = (uint16_t)number(&f[SUITE]);
	if (leg->engine != CMAN_TLS_USER && leg->engine != CMAN_TLS_KERNEL)
		return refuse(why, "TLS: leg: engine is out of range");
	if (leg->flags & ~FLAGS)
		return refuse(why, "TLS: leg: flags is out of range");
	if (leg->version == CMAN_TLS_1_2 && leg->flags & CMAN_TLS_UPDATE_OWED)
		return refuse(why, "TLS: leg: TLS 1.2 has no KeyUpdate");
	if (leg->version == CMAN_TLS_1_3 && leg->flags & CMAN_TLS_REFUSAL_OWED)
		return refuse(why, "TLS: leg: TLS 1.3 has no renegotiation");
	suite = cman_tls_suite(leg->suite);
	if (!suite)
		return refuse(why, "TLS: leg: suite is not one that this release knows");
	if (suite->version != leg->version)
		return refuse(why, "TLS: leg: suite is not one of version");
	err = read_half(f[RX], suite, false, &leg->rx, why);
	if (!err)
		err = read_half(f[TX], suite, true, &leg->tx, why);
	return err ? err : read_post(&f[POST], leg->version, &leg->post, why);
}

static int read_flow(struct span block, struct cman_tls_flow *flow, const char **why)
{
	struct span f[FLOW_FIELDS];
	int err;

	err = scan(block, flow_fields, FLOW_FIELDS, f, why);
	if (err)
		return err;
	flow->in_base = number(&f[IN_BASE]);
	flow->in = f[IN].len ? f[IN].p : NULL;
	flow->in_len = (uint32_t)f[IN].len;
	flow->out_base = number(&f[OUT_BASE]);
	flow->out = f[OUT].len ? f[OUT].p : NULL;
	flow->out_len = (uint32_t)f[OUT].len;
	if (flow->in_base > UINT64_MAX - flow->in_len ||
	    flow->out_base > UINT64_MAX - flow->out_len)
		return refuse(why, "TLS: direction: its bytes end behind the greatest position");
	return 0;
}

static bool printable(uint8_t c)
{
	return c >= 0x20 && c < 0x7f;
}

/* @ret: 256 bytes of zeros */
static int read_text(const struct span *s, char *ret, const char **why)
{
	for (size_t i = 0; i < s->len; i++)
		if (!printable(s->p[i]))
			return refuse(why, "TLS: session: sni or alpn is not printable ASCII");
	if (s->len)
		memcpy(ret, s->p, s->len);
	return 0;
}

static int read_session(struct span block, struct cman_tls_session *s, const char **why)
{
	struct span f[SESSION_FIELDS];
	int err;

	err = scan(block, session_fields, SESSION_FIELDS, f, why);
	if (err)
		return err;
	if (!f[CLIENT].p && !f[SERVER].p)
		return refuse(why, "TLS: session: neither client nor server is there");
	for (unsigned int i = 0; i < 2 && !err; i++) {
		if (f[CLIENT + i].p)
			err = read_leg(f[CLIENT + i], &s->leg[i], why);
		if (!err)
			err = read_flow(f[UP + i], &s->flow[i], why);
	}
	if (!err)
		err = read_text(&f[SNI], s->sni, why);
	return err ? err : read_text(&f[ALPN], s->alpn, why);
}

int cman_tls_session_decode(const uint8_t *data, size_t len, struct cman_tls_session *ret_session,
			    const char **why)
{
	int err;

	memset(ret_session, 0, sizeof(*ret_session));
	if (len >= 4 && get_be(data, 4) != MAGIC) {
		*why = "TLS: it does not begin with the magic \"CTLS\"";
		return -EPROTO;
	}
	if (len < HEADER)
		return refuse(why, "TLS: it ends within its header");
	if (get_be(data + 4, 2) != VERSION) {
		*why = "TLS: its version is not one that this release reads";
		return -EPROTONOSUPPORT;
	}
	if (get_be(data + 6, 2))
		return refuse(why, "TLS: reserved bytes are not 0");
	if (len > CMAN_TLS_STATE_MAX)
		return refuse(why, "TLS: it is longer than the limit");
	err = read_session((struct span){ data + HEADER, len - HEADER }, ret_session, why);
	if (err)
		explicit_bzero(ret_session, sizeof(*ret_session));
	return err;
}

/* ---- writing ---- */

/* Without @p it only counts. */
struct writer {
	uint8_t *p;
	size_t used;
};

static void write_be(struct writer *w, size_t width, uint64_t v)
{
	if (w->p)
		put_be(w->p + w->used, width, v);
	w->used += width;
}

static void write_head(struct writer *w, const struct field *f, size_t len)
{
	write_be(w, 2, f->tag);
	write_be(w, 4, len);
}

/* Of a field whose length is always the same */
static void write_number(struct writer *w, const struct field *f, uint64_t v)
{
	write_head(w, f, f->high);
	write_be(w, f->high, v);
}

static void write_bytes(struct writer *w, const struct field *f, const uint8_t *data, size_t len)
{
	write_head(w, f, len);
	if (w->p && len)
		memcpy(w->p + w->used, data, len);
	w->used += len;
}

/* Where the value of a block begins; end_block() fills in its length. */
static size_t begin_block(struct writer *w, const struct field *f)
{
	write_head(w, f, 0);
	return w->used;
}

static void end_block(struct writer *w, size_t start)
{
	if (w->p)
		put_be(w->p + start - 4, 4, w->used - start);
}

static void write_half(struct writer *w, const struct field *f, const struct cman_tls_suite *suite,
		       const struct cman_tls_half *half)
{
	size_t start = begin_block(w, f);

	write_number(w, &half_fields[SEQ], half->seq);
	write_number(w, &half_fields[EXPLICIT_IV], half->explicit_iv);
	write_number(w, &half_fields[EPOCH], half->epoch);
	write_bytes(w, &half_fields[SECRET], half->secret, secret_len(suite));
	end_block(w, start);
}

static int write_post(struct writer *w, const struct field *f, const struct cman_tls_post *post)
{
	if (!cman_tls_post_pending(post))
		return 0;
	if (post->have > POST_HEAD)
		return -EINVAL;
	write_head(w, f, 4u + post->have);
	write_be(w, 4, post->skip);
	for (unsigned int i = 0; i < post->have; i++)
		write_be(w, 1, post->head[i]);
	return 0;
}

static int write_leg(struct writer *w, const struct field *f, const struct cman_tls_leg *leg)
{
	const struct cman_tls_suite *suite = cman_tls_suite(leg->suite);
	size_t start;
	int err;

	if (leg->engine == CMAN_TLS_NONE)
		return leg->flags || leg->version || leg->suite ? -EINVAL : 0;
	if (!suite)
		return -EINVAL;
	start = begin_block(w, f);
	write_number(w, &leg_fields[ENGINE], leg->engine);
	write_number(w, &leg_fields[FLAG], leg->flags);
	write_number(w, &leg_fields[TLS_VERSION], leg->version);
	write_number(w, &leg_fields[SUITE], leg->suite);
	write_half(w, &leg_fields[RX], suite, &leg->rx);
	write_half(w, &leg_fields[TX], suite, &leg->tx);
	err = write_post(w, &leg_fields[POST], &leg->post);
	end_block(w, start);
	return err;
}

static int write_flow(struct writer *w, const struct field *f, const struct cman_tls_flow *flow)
{
	size_t start = begin_block(w, f);

	if ((flow->in_len && !flow->in) || (flow->out_len && !flow->out))
		return -EINVAL;
	if (flow->in_len > CMAN_TLS_STATE_MAX || flow->out_len > CMAN_TLS_STATE_MAX)
		return -EMSGSIZE;
	write_number(w, &flow_fields[IN_BASE], flow->in_base);
	write_bytes(w, &flow_fields[IN], flow->in, flow->in_len);
	write_number(w, &flow_fields[OUT_BASE], flow->out_base);
	write_bytes(w, &flow_fields[OUT], flow->out, flow->out_len);
	end_block(w, start);
	return 0;
}

/* @text: 256 bytes, 255 of which count */
static void write_text(struct writer *w, const struct field *f, const char *text)
{
	size_t len = strnlen(text, f->high);

	if (!len)
		return;
	write_head(w, f, len);
	for (size_t i = 0; i < len; i++)
		write_be(w, 1, printable((uint8_t)text[i]) ? (uint8_t)text[i] : '?');
}

static int write_session(struct writer *w, const struct cman_tls_session *s)
{
	int err = 0;

	write_be(w, 4, MAGIC);
	write_be(w, 2, VERSION);
	write_be(w, 2, 0);
	for (unsigned int i = 0; i < 2 && !err; i++)
		err = write_leg(w, &session_fields[CLIENT + i], &s->leg[i]);
	for (unsigned int i = 0; i < 2 && !err; i++)
		err = write_flow(w, &session_fields[UP + i], &s->flow[i]);
	write_text(w, &session_fields[SNI], s->sni);
	write_text(w, &session_fields[ALPN], s->alpn);
	return err;
}

size_t cman_tls_session_size(const struct cman_tls_session *s)
{
	struct writer w = { .p = NULL };

	return write_session(&w, s) ? 0 : w.used;
}

int cman_tls_session_encode(const struct cman_tls_session *s, uint8_t *buf, size_t size)
{
	struct cman_tls_session back;
	struct writer count = { .p = NULL }, w = { .p = buf };
	const char *why;
	int err;

	err = write_session(&count, s);
	if (err)
		return err;
	if (count.used > size || count.used > CMAN_TLS_STATE_MAX)
		return -EMSGSIZE;
	write_session(&w, s);
	err = cman_tls_session_decode(buf, w.used, &back, &why);
	explicit_bzero(&back, sizeof(back));
	if (!err)
		return 0;
	explicit_bzero(buf, w.used);
	return -EINVAL;
}

/* ---- the box ---- */

static bool state_fits(size_t len, size_t room)
{
	return len && len <= CMAN_TLS_STATE_MAX && len <= room;
}

int cman_tls_box_add(uint8_t *box, size_t size, size_t *used, uint64_t id, const uint8_t *state,
		     size_t len)
{
	size_t room = size - *used;

	if (!state_fits(len, SIZE_MAX))
		return -EINVAL;
	if (room < CMAN_TLS_BOX_ENTRY || !state_fits(len, room - CMAN_TLS_BOX_ENTRY))
		return -EMSGSIZE;
	put_be(box + *used, 8, id);
	put_be(box + *used + 8, 4, len);
	memcpy(box + *used + CMAN_TLS_BOX_ENTRY, state, len);
	*used += CMAN_TLS_BOX_ENTRY + len;
	return 0;
}

int cman_tls_box_next(const uint8_t *box, size_t len, size_t *cursor, uint64_t *ret_id,
		      const uint8_t **ret_state, size_t *ret_len)
{
	size_t left = len - *cursor, n;

	if (!left)
		return -ENOENT;
	if (left < CMAN_TLS_BOX_ENTRY)
		return -EBADMSG;
	n = (size_t)get_be(box + *cursor + 8, 4);
	if (!state_fits(n, left - CMAN_TLS_BOX_ENTRY))
		return -EBADMSG;
	*ret_id = get_be(box + *cursor, 8);
	*ret_state = box + *cursor + CMAN_TLS_BOX_ENTRY;
	*ret_len = n;
	*cursor += CMAN_TLS_BOX_ENTRY + n;
	return 0;
}
