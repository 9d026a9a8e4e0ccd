// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Messages after the handshake: each kind from either side in both versions, several in one record, and
 * every way of cutting them into records; what is malformed or unexpected, at the first byte that shows it.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "usr/core/tls.h"
#include "usr/core/tls_post.h"

#define NOTHING	    CMAN_TLS_POST_NOTHING
#define UPDATE	    CMAN_TLS_POST_UPDATE
#define REQUESTED   CMAN_TLS_POST_UPDATE_REQUESTED
#define RENEGOTIATE CMAN_TLS_POST_RENEGOTIATE
#define UNEXPECTED  CMAN_TLS_POST_UNEXPECTED
#define MALFORMED   CMAN_TLS_POST_MALFORMED

struct example {
	const char *name;
	uint16_t version;
	bool from_server;
	enum cman_tls_post_event event;
	size_t len;
	uint8_t data[64];
};

/* Whole messages, each record ends where a message does. */
static const struct example whole[] = {
	{ "KeyUpdate of the client", CMAN_TLS_1_3, false, UPDATE, 5, { 24, 0, 0, 1, 0 } },
	{ "KeyUpdate of the server", CMAN_TLS_1_3, true, UPDATE, 5, { 24, 0, 0, 1, 0 } },
	{ "KeyUpdate, requested", CMAN_TLS_1_3, false, REQUESTED, 5, { 24, 0, 0, 1, 1 } },
	{ "the server's, requested", CMAN_TLS_1_3, true, REQUESTED, 5, { 24, 0, 0, 1, 1 } },
	{ "a ticket", CMAN_TLS_1_3, true, NOTHING, 9, { 4, 0, 0, 5, 1, 2, 3, 4, 5 } },
	{ "an empty ticket", CMAN_TLS_1_3, true, NOTHING, 4, { 4, 0, 0, 0 } },
	{ "two tickets", CMAN_TLS_1_3, true, NOTHING, 11, { 4, 0, 0, 2, 24, 24, 4, 0, 0, 1, 24 } },
	{ "a ticket and a KeyUpdate",
	  CMAN_TLS_1_3,
	  true,
	  UPDATE,
	  12,
	  { 4, 0, 0, 3, 24, 0, 0, 24, 0, 0, 1, 0 } },
	{ "HelloRequest", CMAN_TLS_1_2, true, RENEGOTIATE, 4, { 0, 0, 0, 0 } },
	{ "two of them", CMAN_TLS_1_2, true, RENEGOTIATE, 8, { 0 } },
	{ "ClientHello", CMAN_TLS_1_2, false, RENEGOTIATE, 10, { 1, 0, 0, 6, 3, 3, 0, 0, 24, 0 } },
};

/* The last byte is the one that shows it: nothing before it is an error. */
static const struct example wrong[] = {
	{ "a ticket of a client", CMAN_TLS_1_3, false, UNEXPECTED, 4, { 4, 0, 0, 5 } },
	{ "HelloRequest in TLS 1.3", CMAN_TLS_1_3, true, UNEXPECTED, 4, { 0, 0, 0, 0 } },
	{ "ClientHello in TLS 1.3", CMAN_TLS_1_3, false, UNEXPECTED, 4, { 1, 0, 0, 6 } },
	{ "HelloRequest of a client", CMAN_TLS_1_2, false, UNEXPECTED, 4, { 0, 0, 0, 0 } },
	{ "ClientHello of a server", CMAN_TLS_1_2, true, UNEXPECTED, 4, { 1, 0, 0, 6 } },
	{ "KeyUpdate in TLS 1.2", CMAN_TLS_1_2, true, UNEXPECTED, 4, { 24, 0, 0, 1 } },
	{ "a ticket behind TLS 1.2's handshake", CMAN_TLS_1_2, true, UNEXPECTED, 4, { 4, 0, 0, 5 } },
	{ "CertificateRequest", CMAN_TLS_1_3, true, UNEXPECTED, 4, { 13, 0, 0, 3 } },
	{ "Finished", CMAN_TLS_1_3, false, UNEXPECTED, 4, { 20, 0, 0, 32 } },
	{ "no such message", CMAN_TLS_1_2, false, UNEXPECTED, 4, { 99, 0, 0, 1 } },
	{ "an empty KeyUpdate", CMAN_TLS_1_3, true, MALFORMED, 4, { 24, 0, 0, 0 } },
	{ "a long KeyUpdate", CMAN_TLS_1_3, true, MALFORMED, 4, { 24, 0, 0, 2 } },
	{ "a KeyUpdate of 256 bytes", CMAN_TLS_1_3, false, MALFORMED, 4, { 24, 0, 1, 0 } },
	{ "a KeyUpdate of 64 KB", CMAN_TLS_1_3, false, MALFORMED, 4, { 24, 1, 0, 1 } },
	{ "a KeyUpdate that asks for 2", CMAN_TLS_1_3, false, MALFORMED, 5, { 24, 0, 0, 1, 2 } },
	{ "a KeyUpdate that asks for 255", CMAN_TLS_1_3, true, MALFORMED, 5, { 24, 0, 0, 1, 255 } },
	{ "a bad message behind a ticket",
	  CMAN_TLS_1_3,
	  true,
	  UNEXPECTED,
	  10,
	  { 4, 0, 0, 2, 0, 0, 8, 0, 0, 0 } },
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static enum cman_tls_post_event feed(struct cman_tls_post *p, const struct example *e, size_t from,
				     size_t to)
{
	return cman_tls_post_feed(p, e->version, e->from_server, e->data + from, to - from);
}

static void is_fresh(const struct cman_tls_post *p, const char *name)
{
	cr_expect(!cman_tls_post_pending(p), "%s: nothing is pending", name);
	cr_expect(p->have == 0 && p->skip == 0, "%s: the state is fresh", name);
}

Test(tls_post, whole_messages)
{
	for (size_t k = 0; k < COUNT(whole); k++) {
		struct cman_tls_post p = { 0 };

		cr_expect_eq(feed(&p, &whole[k], 0, whole[k].len), whole[k].event, "%s",
			     whole[k].name);
		is_fresh(&p, whole[k].name);
	}
}

/* In two records, cut anywhere: the event comes with the record that completes it. */
Test(tls_post, cut_at_every_byte)
{
	for (size_t k = 0; k < COUNT(whole); k++)
		for (size_t cut = 1; cut < whole[k].len; cut++) {
			struct cman_tls_post p = { 0 };
			enum cman_tls_post_event first = feed(&p, &whole[k], 0, cut);
			enum cman_tls_post_event second = feed(&p, &whole[k], cut, whole[k].len);

			if (whole[k].event == RENEGOTIATE) /* known by the first four bytes */
				cr_expect(first == (cut < 4 ? NOTHING : RENEGOTIATE) &&
						  (second == RENEGOTIATE || cut >= 4),
					  "%s, cut at %zu: %d %d", whole[k].name, cut, first,
					  second);
			else
				cr_expect(first == NOTHING && second == whole[k].event,
					  "%s, cut at %zu: %d %d", whole[k].name, cut, first,
					  second);
			is_fresh(&p, whole[k].name);
		}
}

Test(tls_post, byte_by_byte)
{
	for (size_t k = 0; k < COUNT(whole); k++) {
		struct cman_tls_post p = { 0 };
		enum cman_tls_post_event event = NOTHING;
		unsigned int events = 0;

		for (size_t at = 0; at < whole[k].len; at++) {
			enum cman_tls_post_event now = feed(&p, &whole[k], at, at + 1);

			if (now != NOTHING) {
				event = now;
				events++;
			}
		}
		cr_expect_eq(event, whole[k].event, "%s", whole[k].name);
		cr_expect_eq(events,
			     whole[k].event == NOTHING ? 0 :
			     whole[k].len == 8	       ? 2 :
							 1,
			     "%s: %u events", whole[k].name, events);
		is_fresh(&p, whole[k].name);
	}
}

Test(tls_post, pending_within_a_message)
{
	for (size_t k = 0; k < COUNT(whole); k++)
		for (size_t cut = 1; cut < whole[k].len; cut++) {
			struct cman_tls_post p = { 0 };
			size_t at = 0;

			feed(&p, &whole[k], 0, cut);
			while (at < cut)
				at += 4 + whole[k].data[at + 3];
			cr_expect_eq(cman_tls_post_pending(&p), at != cut, "%s, after %zu bytes",
				     whole[k].name, cut);
		}
}

Test(tls_post, wrong_messages)
{
	for (size_t k = 0; k < COUNT(wrong); k++)
		for (size_t cut = 0; cut < wrong[k].len; cut++) {
			struct cman_tls_post p = { 0 };

			if (cut)
				cr_expect_eq(feed(&p, &wrong[k], 0, cut), NOTHING, "%s, %zu bytes",
					     wrong[k].name, cut);
			cr_expect_eq(feed(&p, &wrong[k], cut, wrong[k].len), wrong[k].event,
				     "%s, cut at %zu", wrong[k].name, cut);
		}
}

Test(tls_post, key_update_is_the_last_of_its_record)
{
	static const uint8_t twice[] = { 24, 0, 0, 1, 0, 24, 0, 0, 1, 0 };
	static const uint8_t ticket_behind[] = { 24, 0, 0, 1, 1, 4, 0, 0, 0 };
	struct cman_tls_post p = { 0 };

	cr_expect_eq(cman_tls_post_feed(&p, CMAN_TLS_1_3, true, twice, sizeof(twice)), UNEXPECTED);
	p = (struct cman_tls_post){ 0 };
	cr_expect_eq(cman_tls_post_feed(&p, CMAN_TLS_1_3, true, ticket_behind,
					sizeof(ticket_behind)),
		     UNEXPECTED);
	/* one byte is too much already */
	p = (struct cman_tls_post){ 0 };
	cr_expect_eq(cman_tls_post_feed(&p, CMAN_TLS_1_3, false, twice, 6), UNEXPECTED);
	/* two in two records are fine */
	p = (struct cman_tls_post){ 0 };
	cr_expect_eq(cman_tls_post_feed(&p, CMAN_TLS_1_3, false, twice, 5), UPDATE);
	cr_expect_eq(cman_tls_post_feed(&p, CMAN_TLS_1_3, false, twice + 5, 5), UPDATE);
	is_fresh(&p, "two");
}

Test(tls_post, an_empty_record_is_unexpected)
{
	struct cman_tls_post p = { 0 };

	cr_expect_eq(cman_tls_post_feed(&p, CMAN_TLS_1_3, true, (const uint8_t *)"", 0),
		     UNEXPECTED);
	cr_expect_eq(cman_tls_post_feed(&p, CMAN_TLS_1_2, false, (const uint8_t *)"", 0),
		     UNEXPECTED);
}

/* The longest message there can be, in records of the longest content. */
Test(tls_post, a_long_ticket)
{
	static uint8_t content[CMAN_TLS_PLAIN_MAX];
	struct cman_tls_post p = { 0 };
	size_t left = 0xffffff;

	memset(content, 24, sizeof(content));
	memcpy(content, (const uint8_t[]){ 4, 0xff, 0xff, 0xff }, 4);
	cr_expect_eq(cman_tls_post_feed(&p, CMAN_TLS_1_3, true, content, sizeof(content)), NOTHING);
	left -= sizeof(content) - 4;
	memset(content, 24, 4);
	while (left >= sizeof(content)) {
		cr_assert(cman_tls_post_pending(&p));
		cr_assert_eq(cman_tls_post_feed(&p, CMAN_TLS_1_3, true, content, sizeof(content)),
			     NOTHING);
		left -= sizeof(content);
	}
	cr_assert_eq(left, p.skip);
	/* what follows it in its last record is read again */
	memcpy(content + left, cman_tls_key_update, CMAN_TLS_KEY_UPDATE_LEN);
	cr_expect_eq(cman_tls_post_feed(&p, CMAN_TLS_1_3, true, content,
					left + CMAN_TLS_KEY_UPDATE_LEN),
		     UPDATE);
	is_fresh(&p, "the ticket");
}

Test(tls_post, our_own_key_update_is_one)
{
	struct cman_tls_post p = { 0 };

	cr_expect_eq(cman_tls_post_feed(&p, CMAN_TLS_1_3, false, cman_tls_key_update,
					CMAN_TLS_KEY_UPDATE_LEN),
		     UPDATE, "and asks for nothing");
}
