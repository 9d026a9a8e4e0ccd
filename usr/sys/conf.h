/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads cman.conf with libconfuse into the model of usr/core/config.h, and validates it. Every
 * error names the file, the line, what is wrong and what was expected; nothing is printed here.
 */
#ifndef CMAN_SYS_CONF_H
#define CMAN_SYS_CONF_H

#include "usr/core/config.h"

/*
 * Returns 0 and a conf to free with cman_conf_free(); or -errno (-EINVAL for anything wrong in the
 * file, -ENOENT, -EACCES for the file itself) with *ret_error filled and nothing to free.
 */
int cman_conf_load(const char *file, struct cman_conf **ret_conf,
		   struct cman_conf_error *ret_error);

#endif
