/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages after the handshake, as a relay has to understand them: the content of records of type
 * "handshake", in any number of pieces. Pure; the few bytes of state move with the session.
 *
 *	TLS 1.3	KeyUpdate: the reader's key changes with the next record, and perhaps an answer is
 *		owed (RFC 8446, 4.6.3). NewSessionTicket, from a server: skipped. Anything else: the
 *		connection is over (unexpected_message): a request for a certificate was not offered.
 *	TLS 1.2	HelloRequest, ClientHello: a renegotiation: it is refused with a warning (RFC 5246, 7.2.2).
 */
#ifndef CMAN_CORE_TLS_POST_H
#define CMAN_CORE_TLS_POST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cman_tls_post {
	uint32_t skip; /* bytes of a message still to be passed over */
	uint8_t have;  /* bytes in head */
	uint8_t head[5];
	uint8_t reserved[6];
};

enum cman_tls_post_event {
	CMAN_TLS_POST_NOTHING,
	CMAN_TLS_POST_UPDATE,		/* the peer's next record has the next key */
	CMAN_TLS_POST_UPDATE_REQUESTED, /* and it wants the same of us */
	CMAN_TLS_POST_RENEGOTIATE,	/* TLS 1.2 */
	CMAN_TLS_POST_UNEXPECTED,
	CMAN_TLS_POST_MALFORMED,
};

/*
 * The content of one record, whole. @from_server: who sent it. A KeyUpdate must be the last thing in
 * its record (RFC 8446, 5.1), so there is at most one event in a record.
 */
enum cman_tls_post_event cman_tls_post_feed(struct cman_tls_post *p, uint16_t version,
					    bool from_server, const uint8_t *data, size_t len);
/* In the middle of a message nothing else may come (RFC 8446, 5.1). */
bool cman_tls_post_pending(const struct cman_tls_post *p);

/* The message KeyUpdate, not requested: content of the record. */
#define CMAN_TLS_KEY_UPDATE_LEN 5
extern const uint8_t cman_tls_key_update[CMAN_TLS_KEY_UPDATE_LEN];

#endif
