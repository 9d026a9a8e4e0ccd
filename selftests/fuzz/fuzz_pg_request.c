/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as the beginning of a connection, read as a gateway reads: never more than may be there. Each
 * read tells at most one request more, ends with it, and takes nothing back; what the reader knows in
 * the end, all of the bytes at once say, too.
 */
#include <stdlib.h>
#include <string.h>

#include "usr/core/pg_request.h"

#include "fuzz.h"

#define LONGEST 268 /* a CancelRequest */

static void is_same(const struct cman_pg_opening *a, const struct cman_pg_opening *b)
{
	CHECK(a->requests == b->requests && a->len == b->len && a->ssl == b->ssl);
	CHECK(a->cancel == b->cancel && a->need == b->need);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cman_pg_opening o = cman_pg_opening_look((const uint8_t *)"", 0), all;
	size_t have = 0;

	while (o.need && have < size) {
		const struct cman_pg_opening before = o;
		uint8_t *read; /* just that: who looks behind it is found out */

		CHECK(o.need > have && o.need <= LONGEST);
		have = o.need < size ? o.need : size;
		read = malloc(have);
		CHECK(read);
		memcpy(read, data, have);
		o = cman_pg_opening_look(read, have);
		free(read);
		CHECK(o.requests == before.requests || o.requests == before.requests + 1);
		CHECK(o.requests == before.requests ? o.len == before.len : o.len == have);
		CHECK(o.len == 8 * o.requests && o.requests <= 2);
		CHECK(!o.cancel || (o.cancel == have && !o.need && !o.requests));
	}
	all = size ? cman_pg_opening_look(data, size) : o;
	is_same(&all, &o);
	return 0;
}
