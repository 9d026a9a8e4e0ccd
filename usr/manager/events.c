/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The last events of the instance, for `show events`: what an operator would look for in the log
 * is kept here too, in a ring, so that it can be read without one.
 */
#include "usr/manager/manager.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "usr/sys/log.h"

#define EVENTS_MAX 256
#define TEXT_SIZE  400

struct event {
	double time; /* seconds of CLOCK_REALTIME */
	int level;
	char text[TEXT_SIZE];
};

static struct event ring[EVENTS_MAX];
static unsigned int nevents; /* ever */

void event_add(struct manager *m, int level, const char *format, ...)
{
	struct event *e = &ring[nevents++ % EVENTS_MAX];
	struct timespec now;
	va_list ap;

	va_start(ap, format);
	vsnprintf(e->text, sizeof(e->text), format, ap);
	va_end(ap);
	clock_gettime(CLOCK_REALTIME, &now);
	e->time = (double)now.tv_sec + (double)(now.tv_nsec / 1000000) / 1000;
	e->level = level;
	cman_log(level, e->text, NULL);
	if (level <= LOG_ERR && m->start_stderr >= 0) /* who started us wants to know why not */
		dprintf(m->start_stderr, "%s\n", e->text);
}

/* JSON holds UTF-8 only: a file name, or a text that was cut, may be none. */
static json_t *text_json(const char *text)
{
	json_t *json = json_string(text);
	char clean[TEXT_SIZE];
	size_t i;

	if (json)
		return json;
	for (i = 0; text[i]; i++)
		clean[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
	clean[i] = '\0';
	return json_string(clean);
}

json_t *events_json(void)
{
	unsigned int first = nevents > EVENTS_MAX ? nevents - EVENTS_MAX : 0;
	json_t *array = json_array();

	for (unsigned int i = first; i < nevents; i++) {
		const struct event *e = &ring[i % EVENTS_MAX];

		json_array_append_new(array, json_pack("{s:f, s:s, s:o}", "time", e->time, "level",
						       cman_log_level_name(e->level), "text",
						       text_json(e->text)));
	}
	return array;
}
