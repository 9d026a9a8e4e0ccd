/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Frames: the one layout of every message that crosses a process boundary: cmanctl to manager
 * (control), manager to manager (handover), manager to keeper. Big-endian. Pure: bytes in, bytes
 * out. usr/sys/chan.h moves them over a stream socket together with descriptors.
 *
 *	 0  u32  magic "CMAN"
 *	 4  u8   version   of the frame's meaning; CMAN_WIRE_MIN..CMAN_WIRE_MAX are read
 *	 5  u8   type      enum cman_frame_type
 *	 6  u16  nfds      descriptors that travel with this frame (at most CMAN_FRAME_MAX_FDS)
 *	 8  u32  length    of the payload that follows (at most CMAN_FRAME_MAX_PAYLOAD)
 *	12  u32  sequence  chosen by the sender; a reply repeats that of its request
 *
 * The payload is a list of TLVs:
 *
 *	u16 tag	    bit 15 (CMAN_TLV_MUST): a reader that does not know it refuses the frame
 *	u32 length  of the value, without padding
 *	value
 *
 * A reader refuses, with the reason: a wrong magic, a version outside its range, an unknown type,
 * a length or a number of descriptors over the limit, a TLV that ends behind the payload, trailing
 * bytes, a tag that may stand once and stands twice, a required tag that is missing, a value of
 * the wrong length or out of range, an unknown tag with CMAN_TLV_MUST. It skips unknown tags
 * without that bit: that is how a release reads its successor.
 *
 * One table (cman_wire_fields[]) says for every (frame type, tag): name, kind, required, repeated.
 * Encoder, decoder, dump and the fuzzer all use it.
 */
#ifndef CMAN_CORE_WIRE_H
#define CMAN_CORE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CMAN_FRAME_MAGIC       0x434d414eu
#define CMAN_WIRE_MIN	       1
#define CMAN_WIRE_MAX	       1
#define CMAN_FRAME_HEADER      16
#define CMAN_FRAME_MAX_PAYLOAD (8u << 20)
#define CMAN_FRAME_MAX_FDS     252 /* SCM_MAX_FD is 253 */
#define CMAN_CHUNK_MAX	       (1u << 20)

enum cman_frame_type {
	/* control: cmanctl -> manager and back; JSON inside */
	CMAN_FRAME_REQUEST = 1,	 /* JSON */
	CMAN_FRAME_PROGRESS = 2, /* JSON; any number before the reply */
	CMAN_FRAME_REPLY = 3,	 /* JSON */
	/* either: the frame before was not understood; TEXT says why. The connection is closed. */
	CMAN_FRAME_ERROR = 4,

	/* handover: target -> source (T) or source -> target (S); see usr/core/handover.h */
	CMAN_FRAME_HELLO = 16,	   /* T, then S */
	CMAN_FRAME_LISTENERS = 17, /* S: descriptors, one LISTENER each */
	CMAN_FRAME_READY = 18,	   /* T: my gateways accept: stop accepting, give up the name */
	CMAN_FRAME_NAMED = 19,	   /* S: done, the name is yours; T: I have it, send sessions */
	CMAN_FRAME_BATCH = 20,	   /* S: BATCH_ID, SESSIONs, TLS_STATE, descriptors */
	CMAN_FRAME_PREPARED = 21,  /* T: BATCH_ID */
	CMAN_FRAME_REFUSED = 22,   /* T: BATCH_ID, TEXT: could not import: give them back */
	CMAN_FRAME_COMMIT = 23,	   /* S: BATCH_ID */
	CMAN_FRAME_COMMITTED = 24, /* T: BATCH_ID, BLACKOUT values */
	CMAN_FRAME_ABORT = 25,	   /* S: BATCH_ID */
	CMAN_FRAME_DROPPED = 26,   /* T: BATCH_ID */
	CMAN_FRAME_QUERY = 27,	   /* T: BATCH_ID: what became of it? */
	CMAN_FRAME_DONE = 28,	   /* S: nothing more to send; LEFT for what stays */
	CMAN_FRAME_CANCEL = 29,	   /* either: stop sending batches; ROLLBACK 1: send them back */
	CMAN_FRAME_FINISHED = 30,  /* T: understood; S may exit when nothing is left */
	CMAN_FRAME_IMAGE = 31,	   /* S: BATCH_ID, the next CHUNK of its image stream */
	CMAN_FRAME_IMAGES = 32,	   /* S: BATCH_ID: the stream is complete: as BATCH, by images */
	CMAN_FRAME_OFFER = 33,	   /* S to another host: services and addresses; T: HELLO */
	CMAN_FRAME_RESOLVE = 34, /* S, on a new channel: BATCH_ID; T: COMMITTED or DROPPED. BOOT_ID
				    * of T when it had it: a T that was rebooted has no journal */

	/* manager -> keeper and back */
	CMAN_FRAME_KEEPER_HELLO = 48, /* M: VERSION_RANGE; K: CELL, PIDs */
	CMAN_FRAME_GIVE = 49,	      /* M: FD_NUMBERs; K: GIVE with the descriptors */
	CMAN_FRAME_TAKE = 50,	      /* M: descriptors; K: TAKE with FD_NUMBERs */
	CMAN_FRAME_DROP = 51,	      /* M: FD_NUMBERs to close; K: DROP */
};

#define CMAN_TLV_MUST 0x8000u

enum cman_tag {
	CMAN_TAG_JSON = 1 | CMAN_TLV_MUST,	    /* text */
	CMAN_TAG_TEXT = 2,			    /* text: a sentence for people */
	CMAN_TAG_VERSION_RANGE = 3 | CMAN_TLV_MUST, /* u8 min, u8 max */
	CMAN_TAG_RELEASE = 4,			    /* text: version of the release */
	CMAN_TAG_ALIAS = 5 | CMAN_TLV_MUST,	    /* text */
	CMAN_TAG_PID = 6,			    /* u32 */
	CMAN_TAG_BOOT_ID = 7 | CMAN_TLV_MUST,	    /* 16 bytes */
	CMAN_TAG_NETNS = 8 | CMAN_TLV_MUST,	    /* u64: inode of the network namespace */
	CMAN_TAG_CARRIER = 9 | CMAN_TLV_MUST, /* u8: enum cman_carrier_choice; the source chooses */
	CMAN_TAG_LISTENER = 10 | CMAN_TLV_MUST,	 /* text, repeated: "name address:port[-port]" */
	CMAN_TAG_SESSIONS = 11,			 /* u32: how many there are */
	CMAN_TAG_BATCH_ID = 12 | CMAN_TLV_MUST,	 /* u64 */
	CMAN_TAG_SESSION = 13 | CMAN_TLV_MUST,	 /* struct cman_wire_session, repeated */
	CMAN_TAG_BLACKOUT = 14,			 /* u32, repeated: us each session was silent */
	CMAN_TAG_LEFT = 15,			 /* u64 id + text reason, repeated */
	CMAN_TAG_ROLLBACK = 16 | CMAN_TLV_MUST,	 /* u8 0, 1 */
	CMAN_TAG_FD_NUMBER = 17 | CMAN_TLV_MUST, /* u32, repeated */
	CMAN_TAG_CELL = 18,			 /* u32 */
	CMAN_TAG_TIME_NS = 19,			 /* u64: CLOCK_BOOTTIME of the freeze */
	CMAN_TAG_FLAGS = 20,			 /* u32: KEEPER_HELLO: reserved, 0 */
	CMAN_TAG_TIMEOUT = 21,			 /* u32: HELLO of T: seconds until S exits */
	CMAN_TAG_CHUNK = 22 | CMAN_TLV_MUST,	 /* bytes of an image stream (usr/core/image.h) */
	CMAN_TAG_LENGTH = 23 | CMAN_TLV_MUST,	 /* u64: bytes of the whole stream */
	CMAN_TAG_COUNT = 24 | CMAN_TLV_MUST,	 /* u32: sessions in an image stream */
	CMAN_TAG_SERVICE = 25 | CMAN_TLV_MUST,	 /* text, repeated: name of a service that moves */
	CMAN_TAG_ADDRESS = 26 | CMAN_TLV_MUST,	 /* 16 bytes, repeated: an address that moves */
	CMAN_TAG_HOP = 27 | CMAN_TLV_MUST,   /* address, then 6 bytes: T's MAC for it; repeated */
	CMAN_TAG_EPOCH = 28 | CMAN_TLV_MUST, /* u64: the highest that T has seen */
	CMAN_TAG_PORTS = 29 | CMAN_TLV_MUST, /* 8192 bytes: a bit for each port that S uses */
	/* u64: BATCH: the last descriptor is a sealed memfd of that many bytes: the TLS of its
	 * sessions (the box of usr/core/tls.h) */
	CMAN_TAG_TLS_STATE = 30 | CMAN_TLV_MUST,
};

/*
 * One session in a BATCH. Its descriptors follow in the frame in this order: client, server, then
 * for each direction with pipe[d] != 0 the pipe's read end and write end. @tls does not stand in
 * the frame: an image has it as a field, a BATCH has it in a memfd (CMAN_TAG_TLS_STATE).
 */
struct cman_wire_session {
	uint64_t id;
	const char *service; /* name, not NUL-terminated; in a decoded frame it points into it */
	uint16_t service_len;
	const char *listener;
	uint16_t listener_len;
	uint8_t eof;	 /* CMAN_EOF_* */
	uint8_t flags;	 /* CMAN_SLOT_*_RESTORED; CMAN_SLOT_RESET: it cannot go on, to be ended */
	uint8_t pipe[2]; /* 1: a pipe holds what is in between */
	uint8_t client_addr[16];
	uint16_t client_port;
	uint8_t target_addr[16];
	uint16_t target_port;
	uint16_t handovers;
	uint32_t age_s; /* since it was accepted */
	uint32_t idle_s;
	uint64_t position[2];
	int64_t read_base[2];
	int64_t write_base[2];
	const uint8_t *buffer[2]; /* bytes of a bound buffer from `position` on; NULL: none bound */
	uint32_t buffer_len[2];	  /* at most CMAN_BUFFER_SIZE */
	const uint8_t *tls; /* encoded struct cman_tls_session, secret; NULL: no TLS on either leg */
	uint32_t tls_len;   /* at most CMAN_TLS_STATE_MAX */
};

struct cman_frame {
	uint8_t version;
	uint8_t type;
	uint16_t nfds;
	uint32_t length;
	uint32_t sequence;
	const uint8_t *payload; /* @length bytes */
};

/* ---- writing: init, add..., finish. Allocates; -ENOMEM is remembered until finish. ---- */
struct cman_frame_writer {
	uint8_t *data;
	size_t used, size;
	int error;
	bool secret; /* @data is wiped before it is freed or moved */
};

void cman_frame_begin(struct cman_frame_writer *w, enum cman_frame_type type, uint32_t sequence);
void cman_frame_add_u8(struct cman_frame_writer *w, enum cman_tag tag, uint8_t v);
void cman_frame_add_u32(struct cman_frame_writer *w, enum cman_tag tag, uint32_t v);
void cman_frame_add_u64(struct cman_frame_writer *w, enum cman_tag tag, uint64_t v);
void cman_frame_add_bytes(struct cman_frame_writer *w, enum cman_tag tag, const void *p, size_t n);
void cman_frame_add_text(struct cman_frame_writer *w, enum cman_tag tag, const char *text);
void cman_frame_add_range(struct cman_frame_writer *w, uint8_t min, uint8_t max);
void cman_frame_add_left(struct cman_frame_writer *w, uint64_t id, const char *reason);
void cman_frame_add_session(struct cman_frame_writer *w, const struct cman_wire_session *s);
/* Completes the header. Returns 0, -ENOMEM, or -EMSGSIZE; w->data[0..used) is the frame. */
int cman_frame_finish(struct cman_frame_writer *w, uint16_t nfds);
void cman_frame_free(struct cman_frame_writer *w);

/* ---- reading ---- */

/*
 * How many bytes the frame at the head of @data has. 0: more header bytes are needed. -EPROTO (bad
 * magic), -EPROTONOSUPPORT (version), -EMSGSIZE (length or descriptors over the limit), -ENOMSG
 * (unknown type), each with a sentence in *why.
 */
int64_t cman_frame_size(const uint8_t *data, size_t len, const char **why);

/*
 * Decodes and checks one whole frame of @len bytes against the field table. 0, or the errors of
 * cman_frame_size(), or -EBADMSG, with a sentence in *why (static; names the field). Points into
 * @data, copies nothing.
 */
int cman_frame_parse(const uint8_t *data, size_t len, struct cman_frame *ret_frame,
		     const char **why);

/* Getters for a parsed frame: 0 or -ENOENT; iterators: start with *cursor = 0; -ENOENT at the end */
int cman_frame_u8(const struct cman_frame *f, enum cman_tag tag, uint8_t *ret);
int cman_frame_u32(const struct cman_frame *f, enum cman_tag tag, uint32_t *ret);
int cman_frame_u64(const struct cman_frame *f, enum cman_tag tag, uint64_t *ret);
int cman_frame_bytes(const struct cman_frame *f, enum cman_tag tag, const uint8_t **ret, size_t *n);
int cman_frame_range(const struct cman_frame *f, uint8_t *ret_min, uint8_t *ret_max);
int cman_frame_next_u32(const struct cman_frame *f, enum cman_tag tag, size_t *cursor,
			uint32_t *ret);
int cman_frame_next_text(const struct cman_frame *f, enum cman_tag tag, size_t *cursor,
			 const char **ret, size_t *n);
int cman_frame_next_bytes(const struct cman_frame *f, enum cman_tag tag, size_t *cursor,
			  const uint8_t **ret, size_t *n);
int cman_frame_next_left(const struct cman_frame *f, size_t *cursor, uint64_t *ret_id,
			 const char **ret, size_t *n);
int cman_frame_next_session(const struct cman_frame *f, size_t *cursor,
			    struct cman_wire_session *ret);

/* "BATCH", "BATCH_ID"; "?" when unknown */
const char *cman_frame_type_name(uint8_t type);
const char *cman_tag_name(uint16_t tag);

/* Human-readable dump into @buf, always terminated. Never shows values of buffers, nor of chunks. */
void cman_frame_dump(const struct cman_frame *f, char *buf, size_t size);

/* The highest version both ranges hold, or -EPROTONOSUPPORT. */
int cman_wire_choose(uint8_t min_a, uint8_t max_a, uint8_t min_b, uint8_t max_b);

#endif
