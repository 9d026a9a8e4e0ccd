// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Requests of PostgreSQL's clients before TLS: see pg_request.h. Codes and lengths are those of
 * src/include/libpq/pqcomm.h. A CancelRequest has a key of 4 bytes, since protocol 3.2 up to 256.
 */
#include "usr/core/pg_request.h"

#include "usr/core/tls.h"

#define HEAD	       8 /* length and code */
#define CANCEL_CODE    80877102u
#define SSL_CODE       80877103u
#define GSSENC_CODE    80877104u
#define CANCEL_LEAST   16u /* process, key of 4 bytes */
#define CANCEL_LONGEST 268u

const uint8_t cman_pg_ssl_request[CMAN_PG_SSL_REQUEST_LEN] = { 0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f };

static uint32_t number(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A head of eight bytes is there, behind what @o has. */
static void take(struct cman_pg_opening *o, const uint8_t *head, size_t len)
{
	const uint32_t whole = number(head), code = number(head + 4);

	o->need = 0;
	if (whole == HEAD && (code == SSL_CODE || (code == GSSENC_CODE && !o->requests))) {
		o->requests++;
		o->len += HEAD;
		o->ssl = code == SSL_CODE;
	} else if (code == CANCEL_CODE && !o->requests && whole >= CANCEL_LEAST &&
		   whole <= CANCEL_LONGEST) {
		if (len < whole)
			o->need = whole;
		else
			o->cancel = whole;
	}
}

struct cman_pg_opening cman_pg_opening_look(const uint8_t *data, size_t len)
{
	struct cman_pg_opening o = { 0 };

	for (;;) {
		const uint8_t *at = data + o.len;
		const size_t have = len - o.len;
		const uint32_t before = o.requests;

		/* a request begins with 0, a record of TLS does not; its header may be there */
		if (have && at[0])
			return o;
		o.need = o.len + (have ? HEAD : CMAN_TLS_HEADER);
		if (have < HEAD)
			return o;
		take(&o, at, have);
		if (o.requests == before || o.ssl)
			return o;
	}
}
