/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the three parts of the loader know of each other, and nobody else:
 *
 *	conf.c		the file through libconfuse into the model, and its syntax errors
 *	conf_keys.c	the grammar: which blocks and keys there are, and what a value may be
 *	conf_check.c	what no single value shows, and the files that the values name
 *
 * Several things may be wrong in a file: each part reports all that it finds, and the one with the
 * lowest line is kept.
 */
#ifndef CMAN_SYS_CONF_IMPL_H
#define CMAN_SYS_CONF_IMPL_H

#include "usr/core/config_check.h"
#include "usr/sys/conf_text.h"

/* --- the grammar */

/* To libconfuse every value is a pointer to this. */
struct value {
	unsigned int line;
	char text[];
};

struct loader;
struct key;

typedef int (*setter)(struct loader *l, const struct key *k, const struct value *v, void *at);

struct word {
	const char *name;
	int value;
};

struct key {
	const char *name;
	setter set;
	size_t at; /* offset into the block's struct; lists get the struct itself */
	bool list, required;
	long min, max; /* numbers, lengths of lists */
	const char *unit;
	const struct word *words;
	const char *def;
};

/* A block within a block: an array (pointer and count), or one embedded struct. */
struct child {
	const struct block *block;
	size_t at, count_at;
};

struct block {
	const char *name;
	/*
	 * May this be its title? The struct begins with the title then, as text. NULL: it has none, there
	 * is at most one, and its struct is a cman_tls_conf.
	 */
	int (*title)(const char *title, const char **why);
	size_t line_at; /* offset of the line, in titled ones */
	size_t size;
	const struct key *keys;
	const struct child *children;
};

/* The file as a whole: its children are the blocks that it may have. */
extern const struct block cman_conf_grammar;

/* --- cluster blocks: cman-coordd has its own model; here only what their checks need */

struct machine {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	struct cman_endpoint address;
	char instance[CMAN_NAME_LEN];
};

struct group {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	char machine[2][CMAN_NAME_LEN];
	uint32_t nmachines, nvips;
	char interface[16];
	bool restart;
};

struct route {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	char listener[CMAN_NAME_LEN];
	int field;
};

#define CMAN_STORE_EMBEDDED 0
#define CMAN_STORE_ETCD	    1

struct cluster {
	char name[CMAN_NAME_LEN];
	unsigned int line;
	int store;
	uint32_t nendpoints;
	char master[CMAN_NAME_LEN], backup[CMAN_NAME_LEN];
	bool migrate;
	uint32_t scanunit_ms, sanityscan, dbblfailover, sgrpfailover;
	struct cman_tls_conf tls;
	struct machine *machine;
	struct group *group;
	struct route *route;
	uint32_t nmachines, ngroups, nroutes;
};

struct file_model {
	struct cman_instance_conf *instance;
	struct cluster *cluster;
	uint32_t ninstances, nclusters;
};

/* --- one load */

/* Where a key was written, for errors that are found later. */
struct place {
	unsigned int block_line, line;
	const char *key;
	char block[CMAN_NAME_LEN]; /* cut */
};

struct loader {
	const char *file;
	struct cman_conf_error *error;
	bool failed;
	struct cman_conf_text text;
	struct place *place;
	size_t nplaces, places_size;

	bool replaced; /* while libconfuse parses: a value was freed for another one */
};

/* Always -EINVAL. */
int cman_conf_fail(struct loader *l, unsigned int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* What the user wrote, fit for a message. */
#define CMAN_CONF_SHOWN_LEN 64
const char *cman_conf_shown(const char *text, char buf[CMAN_CONF_SHOWN_LEN]);

/* A copy of @text into the char * at @at, instead of what was there. 0 or -EINVAL. */
int cman_conf_keep(struct loader *l, const char *text, unsigned int line, void *at);

/* The line of @key in the block of @line and title @block ("tls" has none), or that of the block. */
unsigned int cman_conf_line_of(const struct loader *l, unsigned int line, const char *block,
			       const char *key);

/* --- conf_check.c, in this order */

/* Defaults that depend on the machine or on other values. */
void cman_conf_fill(struct loader *l, struct cman_instance_conf *inst);
/* References between blocks, and all that cman_conf_check() finds. */
void cman_conf_check_model(struct loader *l, const struct file_model *m, struct cman_conf *conf);
/* The files of the tls blocks: can they be used? */
void cman_conf_check_files(struct loader *l, struct cman_instance_conf *inst);

#endif
