// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Messages after the handshake: see tls_post.h. A message is a type, three bytes of length and a body;
 * only the first five bytes of a message are ever kept.
 */
#include "usr/core/tls_post.h"

#include "usr/core/tls.h"

enum message {
	HELLO_REQUEST = 0,
	CLIENT_HELLO = 1,
	NEW_SESSION_TICKET = 4,
	KEY_UPDATE = 24,
};

const uint8_t cman_tls_key_update[CMAN_TLS_KEY_UPDATE_LEN] = { KEY_UPDATE, 0, 0, 1, 0 };

bool cman_tls_post_pending(const struct cman_tls_post *p)
{
	return p->have || p->skip;
}

/* A head of four bytes is complete. */
static enum cman_tls_post_event message(struct cman_tls_post *p, uint16_t version, bool from_server)
{
	uint32_t len = (uint32_t)p->head[1] << 16 | (uint32_t)p->head[2] << 8 | p->head[3];

	switch (p->head[0]) {
	case HELLO_REQUEST:
	case CLIENT_HELLO:
		if (version == CMAN_TLS_1_3 || from_server != (p->head[0] == HELLO_REQUEST))
			return CMAN_TLS_POST_UNEXPECTED;
		p->have = 0;
		p->skip = len;
		return CMAN_TLS_POST_RENEGOTIATE;
	case NEW_SESSION_TICKET: /* of TLS 1.2: in its handshake, and never seen here */
		if (version != CMAN_TLS_1_3 || !from_server)
			return CMAN_TLS_POST_UNEXPECTED;
		p->have = 0;
		p->skip = len;
		return CMAN_TLS_POST_NOTHING;
	case KEY_UPDATE:
		if (version != CMAN_TLS_1_3)
			return CMAN_TLS_POST_UNEXPECTED;
		return len == 1 ? CMAN_TLS_POST_NOTHING : CMAN_TLS_POST_MALFORMED;
	default:
		return CMAN_TLS_POST_UNEXPECTED;
	}
}

enum cman_tls_post_event cman_tls_post_feed(struct cman_tls_post *p, uint16_t version,
					    bool from_server, const uint8_t *data, size_t len)
{
	enum cman_tls_post_event event = CMAN_TLS_POST_NOTHING;

	if (!len)
		return CMAN_TLS_POST_UNEXPECTED;
	while (len) {
		if (p->skip) {
			size_t n = p->skip < len ? p->skip : len;

			p->skip -= (uint32_t)n;
			data += n;
			len -= n;
			continue;
		}
		p->head[p->have++] = *data++;
		len--;
		if (p->have == 4) {
			enum cman_tls_post_event now = message(p, version, from_server);

			if (now > CMAN_TLS_POST_RENEGOTIATE)
				return now;
			if (now != CMAN_TLS_POST_NOTHING)
				event = now;
		} else if (p->have == 5) { /* only a KeyUpdate gets here */
			p->have = 0;
			if (p->head[4] > 1)
				return CMAN_TLS_POST_MALFORMED;
			if (len)
				return CMAN_TLS_POST_UNEXPECTED;
			return p->head[4] ? CMAN_TLS_POST_UPDATE_REQUESTED : CMAN_TLS_POST_UPDATE;
		}
	}
	return event;
}
