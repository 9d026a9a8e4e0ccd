// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes what a peer may send after its handshake. An input is a scene, a list of lengths, and the
 * content of handshake records, which is cut into records of those lengths, over and over, and then into
 * single bytes:
 *	byte 0	bit 0: the server sends, else the client; bit 1: TLS 1.3, else TLS 1.2; bit 2: the
 *		state moves to another host and comes back after every record
 *	byte 1	how many lengths follow (modulo 16; 0: all is one record), a byte each, one less than it
 * What each record has to come to says a reading of the whole content at once, which knows nothing of
 * records: so it is the same however the bytes are cut. The state is where in a message the record
 * has ended, never more than four bytes of one.
 */
#include <stdlib.h>
#include <string.h>

#include "usr/core/tls.h"

#include "fuzz.h"

enum { SERVER = 1, TLS_1_3 = 2, MOVES = 4 };
#define MAX_CUTS 16
#define MAX_SIZE 400

struct scene {
	uint16_t version;
	bool server;
	const uint8_t *data; /* the content of all records */
	size_t size;
};

/* What a message comes to, which of its bytes shows that, and how long it is */
struct message {
	enum cman_tls_post_event event;
	size_t shown, len;
};

/* false: not enough of it is there */
static bool read_message(const struct scene *s, size_t at, struct message *ret)
{
	const uint8_t *p = s->data + at;
	const uint8_t renegotiates = s->server ? 0 : 1;
	size_t left = s->size - at, body;

	if (left < 4)
		return false;
	body = (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	*ret = (struct message){ CMAN_TLS_POST_UNEXPECTED, 3, 4 + body };
	if (s->version == CMAN_TLS_1_2 && p[0] == renegotiates) {
		ret->event = CMAN_TLS_POST_RENEGOTIATE;
	} else if (s->version == CMAN_TLS_1_3 && p[0] == 4 && s->server) {
		ret->event = CMAN_TLS_POST_NOTHING;
	} else if (s->version == CMAN_TLS_1_3 && p[0] == 24 && body != 1) {
		ret->event = CMAN_TLS_POST_MALFORMED;
	} else if (s->version == CMAN_TLS_1_3 && p[0] == 24) {
		if (left < 5)
			return false;
		ret->shown = 4;
		ret->event = p[4] > 1 ? CMAN_TLS_POST_MALFORMED :
			     p[4]     ? CMAN_TLS_POST_UPDATE_REQUESTED :
					CMAN_TLS_POST_UPDATE;
	}
	return true;
}

/*
 * What the record of the bytes from @from to @to has to come to. *start: where the message begins that
 * its first byte is in; then the one behind its last byte.
 */
static enum cman_tls_post_event wanted(const struct scene *s, size_t from, size_t to, size_t *start)
{
	enum cman_tls_post_event event = CMAN_TLS_POST_NOTHING;
	struct message m;

	while (*start < to && read_message(s, *start, &m)) {
		size_t shown = *start + m.shown;

		if (shown >= from && shown < to) {
			if (m.event > CMAN_TLS_POST_RENEGOTIATE)
				return m.event;
			if (m.shown == 4) { /* a KeyUpdate is the last of its record */
				*start += m.len;
				return *start == to ? m.event : CMAN_TLS_POST_UNEXPECTED;
			}
			if (m.event)
				event = m.event;
		}
		if (*start + m.len > to)
			break;
		*start += m.len;
	}
	return event;
}

/* @begun: bytes of the message that the record has ended in */
static void check_state(const struct scene *s, const struct cman_tls_post *p, size_t start,
			size_t begun)
{
	const uint8_t *m = s->data + start;
	struct cman_tls_post copy = *p;

	CHECK(cman_tls_post_pending(p) == !!begun);
	if (begun < 4 || (begun == 4 && m[0] == 24)) {
		CHECK(p->have == begun && !p->skip);
		CHECK(!memcmp(p->head, m, begun));
	} else {
		size_t len = 4 + ((size_t)m[1] << 16 | (size_t)m[2] << 8 | m[3]);

		CHECK(!p->have && p->skip == len - begun);
	}
	CHECK(cman_tls_post_feed(&copy, s->version, s->server, m, 0) == CMAN_TLS_POST_UNEXPECTED);
	CHECK(!memcmp(&copy, p, sizeof(copy)));
}

static void move(const struct scene *s, struct cman_tls_post *p)
{
	struct cman_tls_session session = { .leg[0] = { .engine = CMAN_TLS_USER,
							.version = s->version } };
	struct cman_tls_session there;
	uint8_t buf[1024];
	const char *why;
	size_t size;

	session.leg[0].suite = s->version == CMAN_TLS_1_3 ? 0x1301 : 0xc02f;
	session.leg[0].post = *p;
	size = cman_tls_session_size(&session);
	CHECK(size && size <= sizeof(buf));
	CHECK(cman_tls_session_encode(&session, buf, size) == 0);
	CHECK(cman_tls_session_decode(buf, size, &there, &why) == 0);
	*p = there.leg[0].post;
}

static enum cman_tls_post_event feed(const struct scene *s, struct cman_tls_post *p, size_t from,
				     size_t to)
{
	uint8_t *copy = malloc(to - from); /* a read behind its end is seen */
	enum cman_tls_post_event event;

	CHECK(copy);
	memcpy(copy, s->data + from, to - from);
	event = cman_tls_post_feed(p, s->version, s->server, copy, to - from);
	free(copy);
	return event;
}

static void run(const struct scene *s, const uint8_t *cuts, size_t n, bool moves)
{
	struct cman_tls_post post = { 0 };
	size_t from = 0, to, start = 0, count = 0;

	for (; from < s->size; from = to) {
		size_t len = n ? 1u + cuts[count++ % n] : s->size;
		enum cman_tls_post_event want;

		to = len < s->size - from ? from + len : s->size;
		want = wanted(s, from, to, &start);
		CHECK(feed(s, &post, from, to) == want);
		if (want > CMAN_TLS_POST_RENEGOTIATE)
			return; /* the connection is over */
		check_state(s, &post, start, to - start);
		if (moves) {
			move(s, &post);
			check_state(s, &post, start, to - start);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t single[] = { 0 };
	struct scene s;
	size_t n;

	if (size < 2 || size > MAX_SIZE)
		return 0;
	n = data[1] % MAX_CUTS;
	if (size < 2 + n)
		return 0;
	s = (struct scene){ .version = data[0] & TLS_1_3 ? CMAN_TLS_1_3 : CMAN_TLS_1_2,
			    .server = data[0] & SERVER,
			    .data = data + 2 + n,
			    .size = size - 2 - n };
	run(&s, data + 2, n, data[0] & MOVES);
	run(&s, single, 1, false);
	return 0;
}
