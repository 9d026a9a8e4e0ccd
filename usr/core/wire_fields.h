/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tables behind usr/core/wire.c: which frame types there are, which tags each of them holds,
 * and the fixed fields of a session block. Encoder, decoder, dump, the fuzzer and the tables of
 * Documentation/wire-format.rst follow from them; nothing else knows a frame's form. To add a tag
 * is to add a line. Each line carries the sentences that refuse a frame, so that they are static.
 */
#ifndef CMAN_CORE_WIRE_FIELDS_H
#define CMAN_CORE_WIRE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "usr/core/wire.h"

#define CMAN_TLV_HEADER 6 /* u16 tag, u32 length */

/* What a value is. low..high bounds the number itself, or the length of a text or of bytes. */
enum cman_wire_kind {
	CMAN_KIND_U8,
	CMAN_KIND_U32,
	CMAN_KIND_U64,
	CMAN_KIND_BYTES,
	CMAN_KIND_DATA,	    /* the same, but never shown: a piece of what may hold secrets */
	CMAN_KIND_NAME,	    /* UTF-8 without control characters */
	CMAN_KIND_TEXT,	    /* the same, for people: the writer replaces what is not clean by '?' */
	CMAN_KIND_JSON,	    /* UTF-8; tab, newline and carriage return are allowed */
	CMAN_KIND_RANGE,    /* u8 min, u8 max; 1 <= min <= max */
	CMAN_KIND_LISTENER, /* "name address:port[-port]" */
	CMAN_KIND_LEFT,	    /* u64 id, then clean text of low..high bytes */
	CMAN_KIND_SESSION,  /* cman_wire_session_fields[], then names and buffers */
	CMAN_KINDS,
};

struct cman_wire_field {
	uint8_t frame; /* enum cman_frame_type */
	uint8_t kind;  /* enum cman_wire_kind */
	uint16_t tag;  /* enum cman_tag */
	uint8_t required;
	uint32_t most; /* how often it may stand; 0 is as often as the payload holds */
	uint64_t low, high;
	const char *name;
	/* sentences */
	const char *missing, *often, *length, *range, *text, *form;
};

/* How many descriptors a frame carries */
enum cman_wire_fds {
	CMAN_FDS_NONE,
	CMAN_FDS_LISTENERS, /* one for each LISTENER */
	CMAN_FDS_SESSIONS, /* two for each SESSION and two for each pipe; with TLS_STATE one more */
	CMAN_FDS_NUMBERS,  /* any with no FD_NUMBER, none or as many with FD_NUMBERs; not neither */
};

struct cman_wire_type {
	uint8_t type;	 /* enum cman_frame_type */
	uint8_t version; /* of its meaning: what the writer puts into the header */
	uint8_t fds;	 /* enum cman_wire_fds */
	const char *name;
	const char *wrong_fds; /* sentence */
};

/* A fixed, big-endian field at the head of a session block */
struct cman_wire_session_field {
	const char *name;
	uint16_t offset; /* in struct cman_wire_session */
	uint8_t width;	 /* bytes of one element, there and in the frame */
	uint8_t count;
	uint64_t high;	   /* greatest value of an element */
	const char *range; /* sentence */
};

/* Ends of the tables: name is NULL */
extern const struct cman_wire_field cman_wire_fields[];
extern const struct cman_wire_type cman_wire_types[];
extern const struct cman_wire_session_field cman_wire_session_fields[];

/* Bytes of all fixed fields of a session block */
#define CMAN_WIRE_SESSION_FIXED 106

/* The line of a frame type or of a tag in it, or NULL */
const struct cman_wire_type *cman_wire_type(uint8_t type);
const struct cman_wire_field *cman_wire_field(uint8_t type, uint16_t tag);

/* @n bytes are UTF-8 without control characters. */
bool cman_wire_clean(const void *p, size_t n);

/* "u32", "text": the word that the documentation uses */
const char *cman_wire_kind_name(uint8_t kind);

#endif
