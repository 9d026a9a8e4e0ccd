/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images: everything of moved sessions that crosses from one owner to another by the repair carrier:
 * what cman knows about a session (struct cman_wire_session), the bytes in between, and the two
 * sockets that were taken apart (struct cman_repair_image of cman/repair.h). Big-endian. Pure:
 * bytes in, bytes out. The same bytes are a stream on a channel and the file
 * RUN_DIR/ALIAS/images/BATCH.
 *
 *	 0  u32  magic "CMIM"
 *	 4  u16  version  CMAN_IMAGE_VERSION
 *	 6  u16  flags    CMAN_IMAGE_SECRET or 0
 *	 8  u64  batch    the id of the batch, as in usr/core/handover.h
 *	16  u64  length   of all, with this header
 *	24  u32  count    of images
 *
 * and as many images: u32 length of what follows, then TLVs as in usr/core/wire.h (u16 tag whose
 * bit 15 says that a reader has to know it, u32 length, value). An image holds three blocks, SESSION,
 * CLIENT and SERVER; the value of a block is again a list of TLVs, one a field. One table
 * (cman_image_fields[] in image_fields.c) says for every (block, tag): name, kind, place in memory,
 * required, range. Writer, reader, dump, documentation and fuzzer all use it: a new field is a new
 * line. An optional field that is 0 or empty is absent: what a kernel lacks, and what is not known.
 * The bits `have` of socket options say which are there at all.
 *
 * Sides and order of calls
 *
 *	cman_image_begin()	                  cman_image_size()   how many bytes are to come?
 *	cman_image_add()   each session           cman_image_open()   checks every byte of the form
 *	cman_image_finish()                       cman_image_next()   each session: cannot fail
 *	   w.data[0..w.used) is the stream        ... cman_repair_import(), cman_repair_release()
 *	cman_image_free()                         cman_image_drop()   then the stream may go
 *
 * Ownership: the writer copies what it is given. The reader copies nothing: names, bytes in between
 * and queues point into the stream, which has to live (and not to change) until the sockets are
 * released. cman_repair_import() and cman_repair_release() take such an image as it is. But its queues
 * are not malloc'ed (room is 0): never cman_repair_free(), cman_repair_reset() and export() with it,
 * but cman_image_drop(). Who needs an image that outlives the stream calls cman_image_own().
 *
 * Secrets: the field tls of the block SESSION (usr/core/tls.h). A stream that has it is secret as a
 * whole, which the flag CMAN_IMAGE_SECRET of its header says; the writer sets it, the reader
 * refuses the field without it. The writer wipes its memory before it is moved or freed, and what
 * an add() that failed has written. Who holds such a stream elsewhere does the same
 * (usr/sys/secret.h), keeps it out of core dumps, and writes it nowhere but to the run directory's
 * tmpfs. Dumps show nothing of the field but its length.
 */
#ifndef CMAN_CORE_IMAGE_H
#define CMAN_CORE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cman/repair.h"
#include "usr/core/wire.h"

#define CMAN_IMAGE_MAGIC   0x434d494du
#define CMAN_IMAGE_VERSION 1
#define CMAN_IMAGE_HEADER  28

/* The flags of the header */
#define CMAN_IMAGE_SECRET 1 /* a session has the field tls */

/* A pipe of 1 MiB and a buffer: the most that a direction of a session holds in between. */
#define CMAN_IMAGE_MAX_BETWEEN ((1u << 20) + (16u << 10))

enum cman_image_leg {
	CMAN_IMAGE_CLIENT = 0,
	CMAN_IMAGE_SERVER = 1,
	CMAN_IMAGE_LEGS = 2,
};

/* What is refused as too large, when writing and when reading; a field that is 0 has its default. */
struct cman_image_limits {
	uint64_t total; /* bytes of a stream; 1 GiB */
	uint64_t queue; /* bytes of one queue of a socket; 64 MiB. At most 512 MiB. */
	uint32_t count; /* images in a stream; 65536 */
};

/* ---- writing ---- */

struct cman_image_writer {
	uint8_t *data;
	size_t used, size;
	uint64_t batch;
	uint32_t count;
	bool secret; /* CMAN_IMAGE_SECRET */
	struct cman_image_limits limits;
};

/* @limits NULL: the defaults. Allocates nothing yet. */
void cman_image_begin(struct cman_image_writer *w, uint64_t batch,
		      const struct cman_image_limits *limits);

/*
 * Appends one session. @leg[CMAN_IMAGE_CLIENT] and @leg[CMAN_IMAGE_SERVER] are as after export().
 * What is in pipes has to be in session->buffer (up to CMAN_IMAGE_MAX_BETWEEN) and pipe[] be 0. 0,
 * -ENOMEM, -EMSGSIZE (the limits), or -EBADMSG: a reader would refuse it; *why is a constant
 * sentence. After an error the stream is as it was before: go on without that session.
 */
int cman_image_add(struct cman_image_writer *w, const struct cman_wire_session *session,
		   const struct cman_repair_image leg[CMAN_IMAGE_LEGS], const char **why);

/*
 * Completes the header; more may be added afterwards, and finish() be called again. 0, -ENOMEM, or
 * -EBADMSG: two sessions have the same id.
 */
int cman_image_finish(struct cman_image_writer *w, const char **why);
void cman_image_free(struct cman_image_writer *w);

/* ---- reading ---- */

struct cman_image_header {
	uint16_t version;
	uint16_t flags;
	uint64_t batch;
	uint64_t length;
	uint32_t count;
};

/* A checked stream and how far it has been read. All of it points into the stream. */
struct cman_image_cursor {
	const uint8_t *next, *end;
	uint16_t flags; /* of the header */
	struct cman_image_limits limits;
};

/*
 * How many bytes the stream at the head of @data has. 0: more bytes of the header are needed.
 * -EPROTO (bad magic), -EPROTONOSUPPORT (version or flags), -EMSGSIZE (limits), -EBADMSG, each
 * with a sentence in *why.
 */
int64_t cman_image_size(const uint8_t *data, size_t len, const struct cman_image_limits *limits,
			const char **why);

/*
 * Checks all of a stream of exactly @len bytes: every length, tag, range, what fields say together,
 * that states of TLS can be decoded, and that no id stands twice. 0, the errors of
 * cman_image_size(), or -ENOMEM; with a sentence in *why that names the field. @limits NULL: the
 * defaults.
 */
int cman_image_open(const uint8_t *data, size_t len, const struct cman_image_limits *limits,
		    struct cman_image_header *ret_header, struct cman_image_cursor *ret_cursor,
		    const char **why);

/*
 * The next session of a stream that open() has accepted; -ENOENT at the end. Overwrites the images
 * without a look at what they were; their queues are borrowed (see above), described is true and
 * frozen false, as import() wants them.
 */
int cman_image_next(struct cman_image_cursor *cursor, struct cman_wire_session *ret_session,
		    struct cman_repair_image ret_leg[CMAN_IMAGE_LEGS]);

/* Copies borrowed queues, so that the image is like any other of libcman. 0 or -ENOMEM. */
int cman_image_own(struct cman_repair_image *leg);
/* Ends an image of next(), borrowed or owned by cman_image_own(): zeros, as before its first use. */
void cman_image_drop(struct cman_repair_image *leg);

/* ---- showing ---- */

/* How a value is to be read; what the table calls its kind is more detailed. */
enum cman_image_show {
	CMAN_IMAGE_SHOW_UNSIGNED, /* number[0..count) */
	CMAN_IMAGE_SHOW_SIGNED,	  /* the same, as int64_t */
	CMAN_IMAGE_SHOW_BOOL,	  /* number[0] */
	CMAN_IMAGE_SHOW_ID,	  /* number[0], for people 16 hexadecimal digits */
	CMAN_IMAGE_SHOW_ADDRESS,  /* 16 bytes, IPv4 v4-mapped */
	CMAN_IMAGE_SHOW_TEXT,	  /* len bytes, not terminated */
	CMAN_IMAGE_SHOW_BYTES,	  /* len bytes of a connection */
	CMAN_IMAGE_SHOW_SECRET,	  /* len bytes that are not shown: bytes is NULL */
};

struct cman_image_value {
	const char *block; /* "session", "client", "server" */
	const char *name;  /* "window.snd_wnd": snd_wnd in window */
	enum cman_image_show show;
	unsigned int count;
	uint64_t number[2];
	const uint8_t *bytes;
	size_t len;
};

/*
 * Calls @fn for every field of the table, also for those that are 0 and so not in the stream, and for
 * each socket option that the image has ("option.nodelay"). Unequal 0 from @fn ends it and is
 * returned.
 */
int cman_image_describe(const struct cman_wire_session *session,
			const struct cman_repair_image leg[CMAN_IMAGE_LEGS],
			int (*fn)(void *arg, const struct cman_image_value *value), void *arg);

#endif
