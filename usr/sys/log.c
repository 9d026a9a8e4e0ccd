// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The log: makes one line and writes it with one write(2), never longer than a pipe takes in one
 * piece, so that lines of several processes do not mix. What a line quotes may come from a peer:
 * control characters become '?', so nothing can forge a line. errno is kept.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "usr/sys/log.h"

#define LINE_MAX_LEN 2048 /* <= PIPE_BUF */

static const char *const level_names[] = {
	[LOG_EMERG] = "emerg", [LOG_ALERT] = "alert",	  [LOG_CRIT] = "crit",
	[LOG_ERR] = "err",     [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice",
	[LOG_INFO] = "info",   [LOG_DEBUG] = "debug",
};

static char process_name[64];
static volatile uint32_t own_level = LOG_INFO;
static const volatile uint32_t *shared_level;

void cman_log_init(const char *process)
{
	snprintf(process_name, sizeof(process_name), "%s", process ? process : "");
}

void cman_log_set_level(int level)
{
	own_level = level < LOG_EMERG ? LOG_EMERG : (uint32_t)level;
	shared_level = NULL;
}

void cman_log_share_level(const volatile uint32_t *level)
{
	shared_level = level;
}

int cman_log_level_parse(const char *name)
{
	int level;

	for (level = LOG_EMERG; level <= LOG_DEBUG; level++)
		if (!strcmp(level_names[level], name))
			return level;
	return -EINVAL;
}

const char *cman_log_level_name(int level)
{
	return level < LOG_EMERG || level > LOG_DEBUG ? "?" : level_names[level];
}

struct line {
	char text[LINE_MAX_LEN];
	size_t used;
	bool cut;
};

static void append(struct line *l, const char *format, va_list ap)
{
	/* room for "..." and the end of the line stays */
	const size_t room = sizeof(l->text) - 4 - l->used;
	int n = vsnprintf(l->text + l->used, room, format, ap);

	if (n < 0)
		return;
	if ((size_t)n >= room)
		l->cut = true;
	l->used += (size_t)n >= room ? room - 1 : (size_t)n;
}

static void __attribute__((format(printf, 2, 3))) add(struct line *l, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	append(l, format, ap);
	va_end(ap);
}

void cman_log(int level, const char *sentence, const char *fields, ...)
{
	const volatile uint32_t *limit = shared_level;
	const int saved = errno;
	struct line l;
	va_list ap;
	size_t i;

	if (level < LOG_EMERG)
		level = LOG_EMERG;
	if (level > LOG_DEBUG)
		level = LOG_DEBUG;
	if ((uint32_t)level > (limit ? *limit : own_level))
		return;

	l.used = 0;
	l.cut = false;
	add(&l, "<%d>%s", level, sentence);
	if (*process_name)
		add(&l, strchr(process_name, ' ') ? " proc=\"%s\"" : " proc=%s", process_name);
	if (fields && *fields) {
		errno = saved; /* for %m */
		add(&l, " ");
		va_start(ap, fields);
		append(&l, fields, ap);
		va_end(ap);
	}
	for (i = 0; i < l.used; i++)
		if ((unsigned char)l.text[i] < 0x20 || l.text[i] == 0x7f)
			l.text[i] = '?';
	if (l.cut) {
		memcpy(l.text + l.used, "...", 3);
		l.used += 3;
	}
	l.text[l.used++] = '\n';
	while (write(STDERR_FILENO, l.text, l.used) < 0 && errno == EINTR)
		;
	errno = saved;
}
