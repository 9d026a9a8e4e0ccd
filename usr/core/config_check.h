/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What usr/core/config.c shares with the loader (usr/sys/conf*.c) and nobody else: the rules for
 * names, the one place that words "FILE:LINE: ...", and a validation that also says which key of
 * which block is wrong. The model knows the line of each block; the loader knows the line of each
 * key, and so can point at it.
 */
#ifndef CMAN_CORE_CONFIG_CHECK_H
#define CMAN_CORE_CONFIG_CHECK_H

#include <stdarg.h>

#include "usr/core/config.h"

/* ALIAS_old and ALIAS_new must be names too. */
#define CMAN_ALIAS_MAX	   (CMAN_NAME_LEN - 1 - 4)
#define CMAN_MAX_INSTANCES 64  /* in a file */
#define CMAN_MAX_FLOATING  128 /* in an instance, as the next */
#define CMAN_MAX_PEERS	   64

/* What cman_conf_check() found. @block and @key point into the model or to literals. */
struct cman_conf_problem {
	unsigned int line; /* of the block */
	const char *block; /* its name; with @line it says which block */
	const char *key;   /* the key in it, or NULL: the block as a whole */
	char text[300];
};

/* Names of blocks: 1..31 of [A-Za-z0-9_.-], first not '.' or '-'. 0, or -EINVAL with @why. */
int cman_name_check(const char *name, const char **why);

/* Aliases: shorter, no dot (bpffs reserves it), no "_old" or "_new" at the end. */
int cman_alias_check(const char *alias, const char **why);

/* cman_conf_validate() without the wording. 0 or -EINVAL with *ret_problem filled. */
int cman_conf_check(struct cman_conf *conf, struct cman_conf_problem *ret_problem);

/* Fills *ret_error with "FILE:LINE: ..." (line 0: "FILE: ..."; no file: the text alone). */
void cman_conf_verror(struct cman_conf_error *ret_error, const char *file, unsigned int line,
		      const char *format, va_list args);
void cman_conf_error(struct cman_conf_error *ret_error, const char *file, unsigned int line,
		     const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Order of `ruletab`; usr/core/rules.c defines it for both kinds of rules. */
int cman_rules_order(const uint8_t source_a[16], uint32_t prefix_a, uint32_t service_a,
		     const uint8_t source_b[16], uint32_t prefix_b, uint32_t service_b);

#endif
