/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a connection of PostgreSQL's protocol begins when it is to become TLS: with requests in the clear,
 * each a length, a code, and perhaps more (big-endian; "Message Formats" and "SSL Session Encryption" of
 * PostgreSQL's manual). Pure: what has come so far, what it means, how much more may be read.
 *
 *	GSSENCRequest	is answered by 'N' here: the client goes on without
 *	SSLRequest	is answered by 'S': a ClientHello follows. Or by 'N': the server has no TLS
 *	CancelRequest	is not answered, and alone on its connection
 *
 * A record of TLS begins with another byte, so a reader needs no configuration to tell them apart.
 */
#ifndef CMAN_CORE_PG_REQUEST_H
#define CMAN_CORE_PG_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CMAN_PG_YES 'S'
#define CMAN_PG_NO  'N'

#define CMAN_PG_SSL_REQUEST_LEN 8
extern const uint8_t cman_pg_ssl_request[CMAN_PG_SSL_REQUEST_LEN];

/* What a client has said before TLS, as far as it has come. */
struct cman_pg_opening {
	uint32_t requests; /* whole ones: each is answered by one byte, before the next one comes */
	uint32_t len;	   /* of these: TLS begins here */
	bool ssl;	   /* the last of them is an SSLRequest, else a GSSENCRequest */
	uint32_t cancel;   /* bytes of a CancelRequest, which is whole; else 0 */
	/* so many bytes, from the first one on, may be there before more can be said. 0: no more
	 * requests: what stands at @len is TLS, or nothing that we know */
	uint32_t need;
};

/*
 * @data: from the first byte of the connection on. At most one GSSENCRequest is taken, then at most one
 * SSLRequest, as PostgreSQL does. Who never reads beyond @need never reads beyond the request that is
 * to be answered next, nor beyond a record of TLS.
 */
struct cman_pg_opening cman_pg_opening_look(const uint8_t *data, size_t len);

#endif
