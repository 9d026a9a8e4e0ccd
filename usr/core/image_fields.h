/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table behind usr/core/image.c: which fields the blocks of an image hold, and which names the
 * socket options have there. Writer, reader, dump, the fuzzer and the table of
 * Documentation/image.rst follow from it; nothing else knows an image's form. To add a field is to
 * add a line. A tag is never used again for something else. Each line carries the sentences that
 * refuse an image, so that they are static.
 */
#ifndef CMAN_CORE_IMAGE_FIELDS_H
#define CMAN_CORE_IMAGE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "usr/core/image.h"

/* Blocks: the tags of an image. A leg's fields are the same in both. */
enum cman_image_block {
	CMAN_IMAGE_BLOCK_SESSION = 1 | CMAN_TLV_MUST,
	CMAN_IMAGE_BLOCK_CLIENT = 2 | CMAN_TLV_MUST,
	CMAN_IMAGE_BLOCK_SERVER = 3 | CMAN_TLV_MUST,
};

enum cman_image_kind {
	CMAN_IMAGE_UNSIGNED, /* count numbers of width bytes; low..high */
	CMAN_IMAGE_SIGNED,   /* count numbers of 8 bytes, two's complement */
	CMAN_IMAGE_BOOL,     /* 1 byte: 0, 1 */
	CMAN_IMAGE_ID,	     /* 8 bytes */
	CMAN_IMAGE_WORD,     /* 1 byte: the index of a word that is not NULL */
	CMAN_IMAGE_ADDRESS,  /* 16 bytes; IPv4 addresses are v4-mapped */
	CMAN_IMAGE_NAME, /* UTF-8 without control characters, low..high bytes; by pointer, length */
	CMAN_IMAGE_LABEL,	 /* the same without blanks and '/', in an array that 0 ends */
	CMAN_IMAGE_BYTES,	 /* up to high bytes, by pointer and length; high 0: limits.queue */
	CMAN_IMAGE_SECRET_BYTES, /* as BYTES: a state of TLS that can be decoded; never shown */
	CMAN_IMAGE_OPTIONS,	 /* u16 number of enum cman_repair_option, i64 value; repeated */
	CMAN_IMAGE_KINDS,
};

struct cman_image_field {
	const char *name;
	uint16_t tag;
	uint8_t kind;  /* enum cman_image_kind */
	uint8_t count; /* numbers */
	uint8_t width; /* bytes of one number in the image */
	bool required;
	uint16_t offset;     /* in the struct */
	uint16_t size;	     /* bytes of one number in memory; of an array: all */
	uint16_t len_offset; /* of the length of what stands by pointer, and its size in memory */
	uint8_t len_size;
	uint64_t low, high;
	const char *const *words;
	/* sentences */
	const char *missing, *often, *length, *range;
};

/* Ends of both tables: name is NULL. No block has more than CMAN_IMAGE_MAX_FIELDS. */
extern const struct cman_image_field cman_image_session_fields[];
extern const struct cman_image_field cman_image_leg_fields[];
#define CMAN_IMAGE_MAX_FIELDS 96

#define CMAN_IMAGE_OPTION_SIZE 10 /* bytes of one option in OPTIONS */

/* By number; wide: any int64_t, else the value is one of int or unsigned int */
struct cman_image_option {
	const char *name;
	bool wide;
};
extern const struct cman_image_option cman_image_options[CMAN_REPAIR_OPTIONS];

/* "u32", "name": the word that the documentation uses */
const char *cman_image_kind_name(uint8_t kind);

#endif
