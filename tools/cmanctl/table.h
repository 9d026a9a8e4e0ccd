/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables for reading: rows of text cells, or an array of JSON objects through a list of columns.
 * Numbers stand right. Where the screen is too narrow, columns are left out, the highest `drop`
 * first; what must stay (drop 0) is cut with a "~". Nothing here knows what a session is.
 */
#ifndef CMANCTL_TABLE_H
#define CMANCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <jansson.h>

enum table_kind {
	TABLE_TEXT,
	TABLE_NUMBER,
	TABLE_LIMIT, /* number; 0 is "-": no limit */
	TABLE_SIZE,  /* bytes */
	TABLE_AGE,   /* seconds */
	TABLE_TIME,  /* seconds since 1970, or text */
	TABLE_YESNO,
	TABLE_TLS,     /* {"version","cipher","engine"} */
	TABLE_TARGETS, /* [{"address","state","sessions"}] */
};

struct table_column {
	const char *title; /* NULL ends the list */
	const char *key;   /* member of the row's object; "a.b" is b in a */
	enum table_kind kind;
	unsigned int drop; /* 0: never left out */
	bool whole;	   /* never cut */
	bool if_any;	   /* only when a row has something to say there */
};

#define TABLE_MAX_COLUMNS 24

struct table {
	const struct table_column *columns;
	unsigned int ncolumns;
	char **cells; /* row by row */
	size_t ncells, size;
	bool failed; /* out of memory: table_print() says so */
};

void table_init(struct table *t, const struct table_column *columns);
void table_fini(struct table *t);
/* One cell after the other, row by row; the text is copied, control characters become '?'. */
void table_add(struct table *t, const char *text);
void table_add_json(struct table *t, const json_t *object);
/* @width 0: no limit. 0, or -ENOMEM. */
int table_print(const struct table *t, FILE *out, unsigned int width);
/* All of it for an array of objects. */
int table_print_json(const struct table_column *columns, const json_t *array, FILE *out,
		     unsigned int width);

/* The member @key of @object, "a.b" being b in a; NULL when there is none. */
const json_t *table_member(const json_t *object, const char *key);

/* All return @buf. */
#define TABLE_FORMAT 32
char *format_size(uint64_t bytes, char buf[TABLE_FORMAT]);  /* 999, 1.0K, 14.2M */
char *format_age(uint64_t seconds, char buf[TABLE_FORMAT]); /* 42s, 3m12s, 2h05m, 3d04h */
char *format_duration(uint64_t us, char buf[TABLE_FORMAT]); /* 850 us, 38.2 ms, 1.2 s */

#endif
