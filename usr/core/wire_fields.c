// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The one field table of the frames, and the two small tables beside it: frame types with what
 * they say about descriptors, and the fixed fields of a session block. Only data and its lookup;
 * usr/core/wire.c acts on it. Documentation/wire-format.rst shows the same tables and a unit test
 * compares them.
 */
#include <stdbool.h>
#include <stddef.h>

#include "bpf/cman_maps.h"
#include "usr/core/config.h"
#include "usr/core/tls.h"
#include "usr/core/wire_fields.h"

#define NAME_MAX_LEN (CMAN_NAME_LEN - 1)
#define TEXT_MAX_LEN 65535
#define INT_MAX_U64  0x7fffffffu
#define U32_MAX	     0xffffffffu
#define U64_MAX	     0xffffffffffffffffu
#define BOX_MAX	     (CMAN_BATCH * (CMAN_TLS_BOX_ENTRY + (uint64_t)CMAN_TLS_STATE_MAX))

#define TYPE(t, v, f) \
	{ \
		.type = CMAN_FRAME_##t, .version = v, .fds = CMAN_FDS_##f, .name = #t, \
		.wrong_fds = #t ": the number of descriptors is not what its fields need", \
	}

const struct cman_wire_type cman_wire_types[] = {
	TYPE(REQUEST, 1, NONE),	  TYPE(PROGRESS, 1, NONE), TYPE(REPLY, 1, NONE),
	TYPE(ERROR, 1, NONE),	  TYPE(HELLO, 1, NONE),	   TYPE(LISTENERS, 1, LISTENERS),
	TYPE(READY, 1, NONE),	  TYPE(NAMED, 1, NONE),	   TYPE(BATCH, 1, SESSIONS),
	TYPE(PREPARED, 1, NONE),  TYPE(REFUSED, 1, NONE),  TYPE(COMMIT, 1, NONE),
	TYPE(COMMITTED, 1, NONE), TYPE(ABORT, 1, NONE),	   TYPE(DROPPED, 1, NONE),
	TYPE(QUERY, 1, NONE),	  TYPE(DONE, 1, NONE),	   TYPE(CANCEL, 1, NONE),
	TYPE(FINISHED, 1, NONE),  TYPE(IMAGE, 1, NONE),	   TYPE(IMAGES, 1, NONE),
	TYPE(OFFER, 1, NONE),	  TYPE(RESOLVE, 1, NONE),  TYPE(KEEPER_HELLO, 1, NONE),
	TYPE(GIVE, 1, NUMBERS),	  TYPE(TAKE, 1, NUMBERS),  TYPE(DROP, 1, NONE),
	{ .name = NULL },
};

#define REQUIRED true
#define OPTIONAL false
#define ONCE	 1
#define ANY	 0

#define FIELD(f, t, k, req, max, lo, hi) \
	{ \
		.frame = CMAN_FRAME_##f, .tag = CMAN_TAG_##t, .kind = CMAN_KIND_##k, \
		.required = req, .most = max, .low = lo, .high = hi, .name = #t, \
		.missing = #f ": " #t " is missing", .often = #f ": " #t " stands too often", \
		.length = #f ": " #t " has a wrong length", \
		.range = #f ": " #t " is out of range", \
		.text = #f ": " #t " is not clean UTF-8 text", \
		.form = #f ": " #t " is not of the form \"name address:port[-port]\"", \
	}

const struct cman_wire_field cman_wire_fields[] = {
	FIELD(REQUEST, JSON, JSON, REQUIRED, ONCE, 1, CMAN_FRAME_MAX_PAYLOAD),
	FIELD(PROGRESS, JSON, JSON, REQUIRED, ONCE, 1, CMAN_FRAME_MAX_PAYLOAD),
	FIELD(REPLY, JSON, JSON, REQUIRED, ONCE, 1, CMAN_FRAME_MAX_PAYLOAD),
	FIELD(ERROR, TEXT, TEXT, REQUIRED, ONCE, 1, TEXT_MAX_LEN),

	FIELD(HELLO, VERSION_RANGE, RANGE, REQUIRED, ONCE, 2, 2),
	FIELD(HELLO, RELEASE, NAME, OPTIONAL, ONCE, 1, NAME_MAX_LEN),
	FIELD(HELLO, ALIAS, NAME, REQUIRED, ONCE, 1, NAME_MAX_LEN),
	FIELD(HELLO, PID, U32, OPTIONAL, ONCE, 0, INT_MAX_U64),
	FIELD(HELLO, BOOT_ID, BYTES, REQUIRED, ONCE, 16, 16),
	FIELD(HELLO, NETNS, U64, REQUIRED, ONCE, 0, U64_MAX),
	FIELD(HELLO, CARRIER, U8, REQUIRED, ONCE, CMAN_VIA_AUTO, CMAN_VIA_REPAIR),
	FIELD(HELLO, SESSIONS, U32, OPTIONAL, ONCE, 0, U32_MAX),
	FIELD(HELLO, TIMEOUT, U32, OPTIONAL, ONCE, 1, 86400),

	FIELD(LISTENERS, LISTENER, LISTENER, OPTIONAL, CMAN_MAX_LISTENERS, 5, 255),

	FIELD(READY, HOP, BYTES, OPTIONAL, CMAN_MAX_LISTENERS, 22, 22),
	FIELD(READY, EPOCH, U64, OPTIONAL, ONCE, 0, U32_MAX),

	FIELD(NAMED, PORTS, BYTES, OPTIONAL, ONCE, 8192, 8192),

	FIELD(BATCH, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),
	FIELD(BATCH, TIME_NS, U64, OPTIONAL, ONCE, 0, U64_MAX),
	FIELD(BATCH, SESSION, SESSION, REQUIRED, CMAN_BATCH, 0, U32_MAX),
	FIELD(BATCH, TLS_STATE, U64, OPTIONAL, ONCE, CMAN_TLS_BOX_ENTRY + 1, BOX_MAX),

	FIELD(PREPARED, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),

	FIELD(REFUSED, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),
	FIELD(REFUSED, TEXT, TEXT, OPTIONAL, ONCE, 1, TEXT_MAX_LEN),

	FIELD(COMMIT, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),

	FIELD(COMMITTED, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),
	FIELD(COMMITTED, BLACKOUT, U32, OPTIONAL, CMAN_BATCH, 0, U32_MAX),

	FIELD(ABORT, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),
	FIELD(DROPPED, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),
	FIELD(QUERY, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),

	FIELD(DONE, LEFT, LEFT, OPTIONAL, ANY, 0, TEXT_MAX_LEN),

	FIELD(CANCEL, ROLLBACK, U8, OPTIONAL, ONCE, 0, 1),

	FIELD(IMAGE, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),
	FIELD(IMAGE, CHUNK, DATA, REQUIRED, ONCE, 1, CMAN_CHUNK_MAX),

	FIELD(IMAGES, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),
	FIELD(IMAGES, TIME_NS, U64, OPTIONAL, ONCE, 0, U64_MAX),
	FIELD(IMAGES, COUNT, U32, REQUIRED, ONCE, 1, CMAN_BATCH),
	FIELD(IMAGES, LENGTH, U64, REQUIRED, ONCE, 1, U64_MAX),

	FIELD(OFFER, VERSION_RANGE, RANGE, REQUIRED, ONCE, 2, 2),
	FIELD(OFFER, RELEASE, NAME, OPTIONAL, ONCE, 1, NAME_MAX_LEN),
	FIELD(OFFER, ALIAS, NAME, REQUIRED, ONCE, 1, NAME_MAX_LEN),
	FIELD(OFFER, PID, U32, OPTIONAL, ONCE, 0, INT_MAX_U64),
	FIELD(OFFER, SESSIONS, U32, OPTIONAL, ONCE, 0, U32_MAX),
	FIELD(OFFER, SERVICE, NAME, REQUIRED, CMAN_MAX_SERVICES, 1, NAME_MAX_LEN),
	FIELD(OFFER, ADDRESS, BYTES, REQUIRED, CMAN_MAX_LISTENERS, 16, 16),

	FIELD(RESOLVE, BATCH_ID, U64, REQUIRED, ONCE, 0, U64_MAX),
	FIELD(RESOLVE, BOOT_ID, BYTES, REQUIRED, ONCE, 16, 16),

	FIELD(KEEPER_HELLO, VERSION_RANGE, RANGE, OPTIONAL, ONCE, 2, 2),
	FIELD(KEEPER_HELLO, CELL, U32, OPTIONAL, ONCE, 0, CMAN_MAX_GATEWAYS - 1),
	FIELD(KEEPER_HELLO, PID, U32, OPTIONAL, CMAN_ROLES, 0, INT_MAX_U64),
	FIELD(KEEPER_HELLO, FLAGS, U32, OPTIONAL, ONCE, 0, 0),

	FIELD(GIVE, FD_NUMBER, U32, OPTIONAL, CMAN_FRAME_MAX_FDS, 0, INT_MAX_U64),
	FIELD(TAKE, FD_NUMBER, U32, OPTIONAL, CMAN_FRAME_MAX_FDS, 0, INT_MAX_U64),
	FIELD(DROP, FD_NUMBER, U32, OPTIONAL, ANY, 0, INT_MAX_U64),
	{ .name = NULL },
};

#define SESSION(f, w, n, hi) \
	{ \
		.name = #f, .offset = offsetof(struct cman_wire_session, f), .width = w, \
		.count = n, .high = hi, .range = "BATCH: SESSION: " #f " is out of range", \
	}

const struct cman_wire_session_field cman_wire_session_fields[] = {
	SESSION(id, 8, 1, U64_MAX),
	SESSION(eof, 1, 1, CMAN_EOF_UP | CMAN_EOF_DOWN),
	SESSION(flags, 1, 1,
		CMAN_SLOT_CLIENT_RESTORED | CMAN_SLOT_SERVER_RESTORED | CMAN_SLOT_RESET),
	SESSION(pipe, 1, 2, 1),
	SESSION(client_addr, 1, 16, 0xff),
	SESSION(client_port, 2, 1, 0xffff),
	SESSION(target_addr, 1, 16, 0xff),
	SESSION(target_port, 2, 1, 0xffff),
	SESSION(handovers, 2, 1, 0xffff),
	SESSION(age_s, 4, 1, U32_MAX),
	SESSION(idle_s, 4, 1, U32_MAX),
	SESSION(position, 8, 2, U64_MAX),
	SESSION(read_base, 8, 2, U64_MAX),
	SESSION(write_base, 8, 2, U64_MAX),
	{ .name = NULL },
};

const struct cman_wire_type *cman_wire_type(uint8_t type)
{
	const struct cman_wire_type *t;

	for (t = cman_wire_types; t->name; t++)
		if (t->type == type)
			return t;
	return NULL;
}

const struct cman_wire_field *cman_wire_field(uint8_t type, uint16_t tag)
{
	const struct cman_wire_field *f;

	for (f = cman_wire_fields; f->name; f++)
		if (f->frame == type && f->tag == tag)
			return f;
	return NULL;
}

const char *cman_wire_kind_name(uint8_t kind)
{
	static const char *const names[CMAN_KINDS] = {
		[CMAN_KIND_U8] = "u8",	     [CMAN_KIND_U32] = "u32",
		[CMAN_KIND_U64] = "u64",     [CMAN_KIND_BYTES] = "bytes",
		[CMAN_KIND_DATA] = "data",   [CMAN_KIND_NAME] = "name",
		[CMAN_KIND_TEXT] = "text",   [CMAN_KIND_JSON] = "JSON",
		[CMAN_KIND_RANGE] = "range", [CMAN_KIND_LISTENER] = "listener",
		[CMAN_KIND_LEFT] = "left",   [CMAN_KIND_SESSION] = "session",
	};

	return kind < CMAN_KINDS ? names[kind] : "?";
}

const char *cman_frame_type_name(uint8_t type)
{
	const struct cman_wire_type *t = cman_wire_type(type);

	return t ? t->name : "?";
}

const char *cman_tag_name(uint16_t tag)
{
	const struct cman_wire_field *f;

	for (f = cman_wire_fields; f->name; f++)
		if (f->tag == tag)
			return f->name;
	return "?";
}
