/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text of a configuration file before libconfuse sees it. libconfuse 3.3 counts three lines
 * for each comment, drops characters that it does not know, accepts a file whose blocks are not
 * closed, and lets a key reach into other blocks ("a|b"). So the text is checked here first, and its
 * comments become blanks: after that libconfuse's line numbers are right.
 */
#ifndef CMAN_SYS_CONF_TEXT_H
#define CMAN_SYS_CONF_TEXT_H

#include <stddef.h>

#include "usr/core/config_check.h"

#define CMAN_CONF_MAX_BYTES (1024 * 1024)

struct cman_conf_text {
	char *text; /* NUL-terminated, without comments */
	size_t len;
	/* the innermost block that the file does not close; line 0: all are closed */
	unsigned int open_line;
	char open_block[2 * CMAN_NAME_LEN + 4];
};

/*
 * Reads @file and checks its characters, quotes and lists. 0 and a text for cman_conf_text_fini(),
 * or -errno with *ret_error filled.
 */
int cman_conf_text_init(struct cman_conf_text *text, const char *file,
			struct cman_conf_error *ret_error);
void cman_conf_text_fini(struct cman_conf_text *text);

/* Is @word, on @line, followed by an opening brace: was it meant to be a block? */
bool cman_conf_text_is_block(const struct cman_conf_text *text, unsigned int line,
			     const char *word);

#endif
