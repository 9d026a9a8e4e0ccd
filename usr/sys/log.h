/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of the daemons: one line on stderr, "<N>" (syslog priority, as systemd reads it), a
 * sentence, then key=value fields. Written with one write(2), so that the processes of one
 * instance can share the descriptor. Libraries do not log; they return -errno.
 *
 *	cman_warn("cannot connect to the target", "service=%s target=%s err=%d", ...);
 */
#ifndef CMAN_SYS_LOG_H
#define CMAN_SYS_LOG_H

#include <stdint.h>
#include <syslog.h>

/* "gateway 0": printed as proc= in each line; copied. */
void cman_log_init(const char *process);

/* Messages of a higher number than @level are not printed. @level may be in a shared map. */
void cman_log_set_level(int level);
void cman_log_share_level(const volatile uint32_t *level);

/* LOG_* for "emerg".."debug", or -EINVAL; and the other way round. */
int cman_log_level_parse(const char *name);
const char *cman_log_level_name(int level);

void cman_log(int level, const char *sentence, const char *fields, ...)
	__attribute__((format(printf, 3, 4)));

#define cman_err(sentence, ...)	   cman_log(LOG_ERR, sentence, __VA_ARGS__)
#define cman_warn(sentence, ...)   cman_log(LOG_WARNING, sentence, __VA_ARGS__)
#define cman_notice(sentence, ...) cman_log(LOG_NOTICE, sentence, __VA_ARGS__)
#define cman_info(sentence, ...)   cman_log(LOG_INFO, sentence, __VA_ARGS__)
#define cman_debug(sentence, ...)  cman_log(LOG_DEBUG, sentence, __VA_ARGS__)

#endif
