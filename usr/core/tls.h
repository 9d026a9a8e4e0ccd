/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TLS of a leg as it moves: what is left of a handshake once it is over, which is all that another
 * process, another engine or another host needs in order to go on with the connection. Pure: numbers,
 * tables, and the codec of the exported state. Nothing here computes a cipher (usr/tls does).
 *
 * Two engines can carry a leg's records: the kernel (kTLS: the keys are in the socket, see
 * usr/sys/ktls.h) and our own (usr/tls/record.h: they are in the cell's secret memory). The state is
 * the same for both, so a session may change its engine when its sockets are made anew
 * (usr/tls/engine.h).
 *
 *	a leg		struct cman_tls_leg: version, suite, and for each way the secret and the
 *			number of the next record
 *	a direction	struct cman_tls_flow: bytes of the one leg's socket that were read and not
 *			yet decrypted, bytes that are to go out to the other's, whole records with
 *			their sequence numbers used up
 *	a session	struct cman_tls_session: two legs, two directions
 *
 *	export: cman_tls_session_size(), cman_tls_session_encode()
 *	import: cman_tls_session_decode(); what it returns points into the bytes
 *
 * All of it is secret. Who holds such bytes wipes them (usr/sys/secret.h), keeps them out of cores,
 * logs, JSON and maps, and writes them nowhere but into the run directory's tmpfs while a batch is in
 * doubt. Sources: RFC 8446, RFC 5246, RFC 5288, RFC 7905; include/uapi/linux/tls.h.
 */
#ifndef CMAN_CORE_TLS_H
#define CMAN_CORE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "usr/core/tls_post.h"

#define CMAN_TLS_1_2 0x0303
#define CMAN_TLS_1_3 0x0304

#define CMAN_TLS_HEADER	    5	  /* of a record: type, version, length */
#define CMAN_TLS_PLAIN_MAX  16384 /* bytes of content of one record */
#define CMAN_TLS_RECORD_MAX (CMAN_TLS_HEADER + CMAN_TLS_PLAIN_MAX + 256) /* RFC 8446, 5.2 */
#define CMAN_TLS_SECRET_MAX 48

/* Content type of a record */
enum cman_tls_type {
	CMAN_TLS_CCS = 20,
	CMAN_TLS_ALERT = 21,
	CMAN_TLS_HANDSHAKE = 22,
	CMAN_TLS_DATA = 23,
};

/* Those that we send or tell apart */
enum cman_tls_alert {
	CMAN_TLS_CLOSE_NOTIFY = 0,
	CMAN_TLS_UNEXPECTED_MESSAGE = 10,
	CMAN_TLS_BAD_RECORD_MAC = 20,
	CMAN_TLS_RECORD_OVERFLOW = 22,
	CMAN_TLS_HANDSHAKE_FAILURE = 40,
	CMAN_TLS_DECODE_ERROR = 50,
	CMAN_TLS_INTERNAL_ERROR = 80,
	CMAN_TLS_USER_CANCELED = 90,
	CMAN_TLS_NO_RENEGOTIATION = 100,
};

enum cman_tls_aead {
	CMAN_TLS_AES_128_GCM = 1,
	CMAN_TLS_AES_256_GCM = 2,
	CMAN_TLS_CHACHA20_POLY1305 = 3,
};

/* A cipher suite that a leg may have: always an AEAD. */
struct cman_tls_suite {
	uint16_t id;	  /* IANA: 0x1301, 0xc02f, ... */
	uint16_t version; /* CMAN_TLS_1_2 or CMAN_TLS_1_3: a suite belongs to one */
	enum cman_tls_aead aead;
	uint8_t key_len;  /* 16, 32 */
	uint8_t hash_len; /* of the PRF or HKDF: 32 (SHA-256), 48 (SHA-384) */
	/* as OpenSSL and "show sessions" say it: "TLS_AES_128_GCM_SHA256",
	 * "ECDHE-RSA-AES128-GCM-SHA256" */
	const char *name;
};

/* NULL: not one of ours. */
const struct cman_tls_suite *cman_tls_suite(uint16_t id);
const struct cman_tls_suite *cman_tls_suite_by_name(const char *name);
/* All of them, @ret_n entries: TLS 1.3 first, then TLS 1.2 in order of preference. */
const struct cman_tls_suite *cman_tls_suites(size_t *ret_n);
/* "TLSv1.2", "TLSv1.3"; "?" */
const char *cman_tls_version_name(uint16_t version);

enum cman_tls_engine {
	CMAN_TLS_NONE = 0, /* the leg has no TLS */
	CMAN_TLS_USER = 1,
	CMAN_TLS_KERNEL = 2, /* kTLS */
};
/*
 * Is a leg with that suite to be the kernel's? @wanted: as configured, NONE is "auto": then not where
 * the kernel could not take part in a KeyUpdate. @ktls: for each version of TLS a mask of its ciphers
 * (cman_ktls_probe()); @rekey: it can replace keys.
 */
bool cman_tls_for_kernel(const struct cman_tls_suite *suite, enum cman_tls_engine wanted,
			 const uint32_t ktls[2], bool rekey);
/* "user", "ktls", "none"; "?" */
const char *cman_tls_engine_name(uint8_t engine);

/* How a target is asked for TLS before the handshake. */
enum cman_tls_starttls {
	CMAN_STARTTLS_AUTO = 0,	      /* as the client has asked us */
	CMAN_STARTTLS_NONE = 1,	      /* not at all */
	CMAN_STARTTLS_POSTGRESQL = 2, /* by an SSLRequest (pg_request.h) */
};

/*
 * One way of a leg: what is sealed or opened next.
 *
 * TLS 1.3: @secret is the application traffic secret (RFC 8446, 7.2), hash_len bytes, from which key
 * and IV follow (usr/tls/keys.h), and @epoch the number of KeyUpdates so far.
 * TLS 1.2: @secret is key_len bytes of key and then the fixed IV (AES-GCM: 4 bytes, RFC 5288; ChaCha20:
 * 12 bytes, RFC 7905); @epoch 0. The explicit part of an AES-GCM nonce is the sequence number when
 * our engine seals; a kernel that has begun with another one says so in @explicit_iv, which is added
 * (modulo 2^64). It is 0 for every other half, also for that which opens: records carry it.
 */
struct cman_tls_half {
	uint64_t seq;	      /* of the next record; less than 2^64 - 1 */
	uint64_t explicit_iv; /* TLS 1.2 AES-GCM, to seal: explicit nonce = explicit_iv + seq */
	uint32_t epoch;
	uint8_t secret[CMAN_TLS_SECRET_MAX];
};

/* struct cman_tls_leg.flags */
#define CMAN_TLS_CLOSE_SENT	0x01 /* close_notify is sealed: nothing may be sealed any more */
#define CMAN_TLS_CLOSE_RECEIVED 0x02 /* the peer's close_notify has come */
#define CMAN_TLS_UPDATE_OWED	0x04 /* the peer asked for a KeyUpdate: before the next data */
#define CMAN_TLS_SERVER		0x08 /* we are the server of this leg */
#define CMAN_TLS_REFUSAL_OWED	0x10 /* TLS 1.2: the peer began a renegotiation: no_renegotiation */

struct cman_tls_leg {
	uint8_t engine; /* enum cman_tls_engine; NONE: the rest is 0 */
	uint8_t flags;
	uint16_t version, suite;
	struct cman_tls_half rx, tx;
	struct cman_tls_post post; /* of the peer: a message that has come in part */
};

/*
 * One direction, from leg A to leg B, as it lies when nothing runs. Positions count as the ledger's
 * do (struct cman_flow: R bytes ever read from A's socket, W bytes ever written to B's).
 */
struct cman_tls_flow {
	uint64_t in_base;  /* R of in[0] */
	uint64_t out_base; /* W of out[0] */
	const uint8_t *in; /* raw bytes of A: whole records and a part of one; A without TLS: data */
	const uint8_t *out; /* bytes for B's socket: sealed records; B without TLS: data */
	uint32_t in_len, out_len;
};

struct cman_tls_session {
	struct cman_tls_leg leg[2];   /* client, server */
	struct cman_tls_flow flow[2]; /* CMAN_UP, CMAN_DOWN */
	/* for people, not secret: printable ASCII, the encoder puts '?' in the place of the rest */
	char sni[256];	/* what the client asked for */
	char alpn[256]; /* what was agreed on */
};

/*
 * The exported state, big-endian:
 *	u32 magic "CTLS", u16 version 1, u16 reserved 0, then TLVs as in usr/core/wire.h, each tag once
 * The same leg and direction blocks for both; every length checked, unknown tags with bit 15 refused.
 * A leg without TLS has no block; at least one leg has TLS. The tables are in tls_state.c.
 *
 * size: 0 when it cannot be encoded at all (a suite that is not ours, far too many bytes). encode:
 * writes exactly that many bytes; @size is the room. 0, -EMSGSIZE (no room, or over
 * CMAN_TLS_STATE_MAX), -EINVAL (a reader would refuse it). After an error nothing secret is in @buf.
 */
#define CMAN_TLS_STATE_MAX (1u << 20) /* bytes of one exported session */
size_t cman_tls_session_size(const struct cman_tls_session *s);
int cman_tls_session_encode(const struct cman_tls_session *s, uint8_t *buf, size_t size);
/*
 * 0, -EPROTO (magic), -EPROTONOSUPPORT (version), -EBADMSG, each with a static sentence in *why that
 * names the field, never its value. flow[].in and .out point into @data (NULL when empty), the rest
 * is copied. After an error *ret_session is zeroed.
 */
int cman_tls_session_decode(const uint8_t *data, size_t len, struct cman_tls_session *ret_session,
			    const char **why);

/*
 * The box: what lies in the memfd that travels with a BATCH (CMAN_TAG_TLS_STATE of
 * usr/core/wire.h): for each session of the frame that has TLS, in the frame's order, u64 id, u32
 * length, and as many bytes of exported state. Nothing stands before, between or behind the entries.
 *
 *	the source	size = sum of CMAN_TLS_BOX_ENTRY + length of each state; a memfd of that size,
 *			mapped; used = 0; cman_tls_box_add() for each; used is size then; seal it
 *	the target	maps the frame's number of bytes; cursor = 0; cman_tls_box_next() until -ENOENT;
 *			cman_tls_session_decode() of each; the mapping outlives what points into it
 *
 * Whether the ids are those of the frame is for the target to check.
 */
#define CMAN_TLS_BOX_ENTRY 12 /* bytes before a state */
/* Appends at *used, which it moves on. -EMSGSIZE: no room; -EINVAL: @len is 0 or over the limit. */
int cman_tls_box_add(uint8_t *box, size_t size, size_t *used, uint64_t id, const uint8_t *state,
		     size_t len);
/*
 * The entry at *cursor, which it moves behind it. 0, -ENOENT at the end, -EBADMSG: a length is 0, over
 * the limit, or ends behind the box. *ret_state points into @box; it is not decoded.
 */
int cman_tls_box_next(const uint8_t *box, size_t len, size_t *cursor, uint64_t *ret_id,
		      const uint8_t **ret_state, size_t *ret_len);

#endif
