// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What PostgreSQL's clients say before TLS: each request, in each order that there is, as it comes byte by
 * byte; what is none of them; and that a reader who obeys never reads beyond what is to be answered next.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "usr/core/pg_request.h"

#define SSL    "\0\0\0\x08\x04\xd2\x16\x2f"
#define GSS    "\0\0\0\x08\x04\xd2\x16\x30"
#define CANCEL "\0\0\0\x10\x04\xd2\x16\x2eprockey."
#define HELLO  "\x16\x03\x01"

struct example {
	const char *name;
	const char *data;
	uint32_t size;
	/* of all of it */
	uint32_t requests, len;
	bool ssl;
	uint32_t cancel, need;
};

#define BYTES(text) text, sizeof(text) - 1
static const struct example examples[] = {
	{ "nothing", BYTES(""), 0, 0, false, 0, 5 },
	{ "a record of TLS", BYTES(HELLO), 0, 0, false, 0, 0 },
	{ "SSLRequest", BYTES(SSL), 1, 8, true, 0, 0 },
	{ "SSLRequest, ClientHello", BYTES(SSL HELLO), 1, 8, true, 0, 0 },
	{ "GSSENCRequest", BYTES(GSS), 1, 8, false, 0, 13 },
	{ "GSSENCRequest, ClientHello", BYTES(GSS HELLO), 1, 8, false, 0, 0 },
	{ "GSSENCRequest, SSLRequest", BYTES(GSS SSL), 2, 16, true, 0, 0 },
	{ "both, ClientHello", BYTES(GSS SSL HELLO), 2, 16, true, 0, 0 },
	{ "CancelRequest", BYTES(CANCEL), 0, 0, false, 16, 0 },
	{ "a longer one", BYTES("\0\0\0\x12\x04\xd2\x16\x2eprockey..."), 0, 0, false, 18, 0 },
	{ "the longest, begun", BYTES("\0\0\x01\x0c\x04\xd2\x16\x2eproc"), 0, 0, false, 0, 268 },

	{ "CancelRequest, longer than there is", BYTES("\0\0\x01\x0d\x04\xd2\x16\x2e"), 0, 0, false,
	  0, 0 },
	{ "CancelRequest without a key", BYTES("\0\0\0\x0c\x04\xd2\x16\x2eproc"), 0, 0, false, 0,
	  0 },
	{ "CancelRequest behind GSSENCRequest", BYTES(GSS CANCEL), 1, 8, false, 0, 0 },
	{ "a second SSLRequest", BYTES(SSL SSL), 1, 8, true, 0, 0 },
	{ "GSSENCRequest behind SSLRequest", BYTES(SSL GSS), 1, 8, true, 0, 0 },
	{ "a second GSSENCRequest", BYTES(GSS GSS), 1, 8, false, 0, 0 },
	{ "StartupMessage", BYTES("\0\0\0\x08\0\x03\0\0"), 0, 0, false, 0, 0 },
	{ "SSLRequest of another length", BYTES("\0\0\0\x09\x04\xd2\x16\x2f."), 0, 0, false, 0, 0 },
	{ "another code", BYTES("\0\0\0\x08\x04\xd2\x16\x31"), 0, 0, false, 0, 0 },
	{ "text", BYTES("GET / HTTP/1.1"), 0, 0, false, 0, 0 },
	{ "SSLRequest, text", BYTES(SSL "GET"), 1, 8, true, 0, 0 },
};
#define COUNT (sizeof(examples) / sizeof(*examples))

static struct cman_pg_opening look(const struct example *e, size_t len)
{
	return cman_pg_opening_look((const uint8_t *)e->data, len);
}

Test(pg_request, whole)
{
	for (size_t k = 0; k < COUNT; k++) {
		const struct example *e = &examples[k];
		struct cman_pg_opening o = look(e, e->size);

		cr_expect_eq(o.requests, e->requests, "%s: %u requests", e->name, o.requests);
		cr_expect_eq(o.len, e->len, "%s: %u bytes of them", e->name, o.len);
		cr_expect_eq(o.ssl, e->ssl, "%s: ssl", e->name);
		cr_expect_eq(o.cancel, e->cancel, "%s: %u bytes of a cancel", e->name, o.cancel);
		cr_expect_eq(o.need, e->need, "%s: %u are needed", e->name, o.need);
	}
}

/* What is known stays known with every byte more, and the counters of answers never go back. */
Test(pg_request, byte_by_byte)
{
	for (size_t k = 0; k < COUNT; k++) {
		struct cman_pg_opening before = { 0 };

		for (size_t len = 0; len <= examples[k].size; len++) {
			struct cman_pg_opening o = look(&examples[k], len);

			cr_expect(o.requests >= before.requests && o.len >= before.len &&
					  o.len <= len,
				  "%s, %zu bytes: goes back", examples[k].name, len);
			cr_expect(!o.need || o.need > len, "%s, %zu bytes: needs what it has",
				  examples[k].name, len);
			cr_expect(!(o.need && o.cancel), "%s, %zu bytes: whole, and not",
				  examples[k].name, len);
			before = o;
		}
	}
}

/* Reads as a gateway does, as much as it may at once; where does it stop, and what was answered by then? */
Test(pg_request, reads_no_further_than_the_next_answer)
{
	for (size_t k = 0; k < COUNT; k++) {
		const struct example *e = &examples[k];
		size_t have = 0;

		for (;;) {
			struct cman_pg_opening o = look(e, have);

			if (o.requests)
				cr_expect(have <= o.len + 8, "%s: read to %zu", e->name, have);
			if (!o.need || o.need > e->size)
				break;
			/* a request that just became whole is the last that was read */
			cr_expect(look(e, o.need).requests <= o.requests + 1, "%s: two at once",
				  e->name);
			if (look(e, o.need).requests > o.requests)
				cr_expect_eq(look(e, o.need).len, o.need, "%s: read behind it",
					     e->name);
			have = o.need;
		}
		/* of TLS no more than the header of a record */
		cr_expect(have <= look(e, have).len + 8 || look(e, have).cancel, "%s: read to %zu",
			  e->name, have);
	}
}

Test(pg_request, ours_is_one)
{
	struct cman_pg_opening o = cman_pg_opening_look(cman_pg_ssl_request,
							CMAN_PG_SSL_REQUEST_LEN);

	cr_expect(o.ssl && o.requests == 1 && o.len == CMAN_PG_SSL_REQUEST_LEN);
}
