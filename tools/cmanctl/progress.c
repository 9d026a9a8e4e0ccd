/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the picture of long work, on stderr: a bar that is redrawn on a terminal, elsewhere a plain
 * line when the phase changes and then at most one a second, nothing with -q or --json.
 */
#include "cmanctl.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#define BAR	  30
#define REDRAW_MS 50
#define LINE_MS	  1000

int64_t ctl_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void ctl_progress_init(struct ctl_progress *p, const struct ctl *c)
{
	memset(p, 0, sizeof(*p));
	p->show = !c->quiet && !c->json;
	p->tty = isatty(STDERR_FILENO);
	p->width = ctl_columns(stderr) ?: 80;
	p->start_ms = ctl_now_ms();
}

static void draw_bar(struct ctl_progress *p, json_int_t done, json_int_t total)
{
	static const char full[] = "##############################";
	char line[160];
	int n = total > 0 ? (int)(done * BAR / total) : 0;

	if (n > BAR)
		n = BAR;
	if (total > 0)
		snprintf(line, sizeof(line),
			 "%-10s [%.*s%*s] %" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT
			 " %3d%% %5.1f s",
			 p->phase, n, full, BAR - n, "", done, total, (int)(done * 100 / total),
			 (double)(ctl_now_ms() - p->start_ms) / 1000);
	else
		snprintf(line, sizeof(line), "%-10s %5.1f s", p->phase,
			 (double)(ctl_now_ms() - p->start_ms) / 1000);
	fprintf(stderr, "\r%.*s\033[K", (int)p->width - 1, line);
	fflush(stderr);
	p->drawn = true;
}

void ctl_progress_update(struct ctl_progress *p, const char *phase, json_int_t done,
			 json_int_t total)
{
	int64_t now = ctl_now_ms();
	bool changed = strncmp(p->phase, phase, sizeof(p->phase) - 1) != 0;

	if (!p->show)
		return;
	if (!changed && now - p->last_ms < (p->tty ? REDRAW_MS : LINE_MS) &&
	    !(p->tty && done == total))
		return;
	p->last_ms = now;
	snprintf(p->phase, sizeof(p->phase), "%s", phase);
	if (p->tty)
		draw_bar(p, done, total);
	else if (total > 0)
		fprintf(stderr, "%s: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT "\n", phase,
			done, total);
	else
		fprintf(stderr, "%s\n", phase);
}

void ctl_progress_end(struct ctl_progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", stderr);
	p->drawn = false;
}
