/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the verb top: a picture of the instance every few seconds. On a terminal it is a screen that
 * q or ^C ends; with --once or --count it is text. Every picture is a new connection: so it goes
 * on through a migration, in which the name passes to another process. Rates are the difference of
 * two pictures of the same process.
 */
#include "cmanctl.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static const struct table_column gateway_columns[] = {
	{ .title = "GW", .key = "gateway", .kind = TABLE_NUMBER },
	{ .title = "PID", .key = "pid", .kind = TABLE_NUMBER },
	{ .title = "SESSIONS", .key = "sessions", .kind = TABLE_NUMBER },
	{ .title = "ACCEPTED", .key = "accepted", .kind = TABLE_NUMBER, .drop = 1 },
	{ .title = "REFUSED", .key = "refused", .kind = TABLE_NUMBER, .drop = 1 },
	{ .title = "UP", .key = "bytes_up", .kind = TABLE_SIZE },
	{ .title = "DOWN", .key = "bytes_down", .kind = TABLE_SIZE },
	{ .title = "RECOVERIES", .key = "recoveries", .kind = TABLE_NUMBER, .drop = 2 },
	{ .title = "LOST", .key = "lost", .kind = TABLE_NUMBER, .drop = 1 },
	{ 0 },
};

static const struct table_column service_columns[] = {
	{ .title = "SERVICE", .key = "name" },
	{ .title = "STATE", .key = "state" },
	{ .title = "SESSIONS", .key = "sessions", .kind = TABLE_NUMBER },
	{ .title = "STEERED", .key = "steered", .kind = TABLE_NUMBER, .drop = 1 },
	{ .title = "REJECTED", .key = "rejected", .kind = TABLE_NUMBER, .drop = 1 },
	{ .title = "HELD", .key = "held", .kind = TABLE_NUMBER, .drop = 2 },
	{ .title = "TARGETS", .key = "targets", .kind = TABLE_TARGETS },
	{ 0 },
};

struct picture {
	json_t *status, *gateways, *services;
	int64_t time_ms;
	json_int_t up, down;
};

static struct termios saved_termios;
static bool screen;

static void screen_end(void)
{
	static const char end[] = "\033[?25h\033[?1049l";
	ssize_t n;

	if (!screen)
		return;
	screen = false;
	tcsetattr(STDIN_FILENO, TCSANOW, &saved_termios);
	n = write(STDOUT_FILENO, end, sizeof(end) - 1);
	(void)n;
}

static void ended(int sig)
{
	screen_end();
	if (sig == SIGINT)
		_exit(CTL_DONE); /* ^C is how top ends */
	signal(sig, SIG_DFL);
	raise(sig);
}

static void resized(int sig)
{
	(void)sig; /* it only wakes poll() */
}

static void screen_begin(void)
{
	struct sigaction sa = { .sa_handler = resized };
	struct termios raw;

	tcgetattr(STDIN_FILENO, &saved_termios);
	raw = saved_termios;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	screen = true;
	sigaction(SIGWINCH, &sa, NULL); /* without SA_RESTART */
	signal(SIGINT, ended);
	signal(SIGTERM, ended);
	signal(SIGHUP, ended);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	fputs("\033[?1049h\033[?25l", stdout);
}

static void picture_free(struct picture *p)
{
	json_decref(p->status);
	json_decref(p->gateways);
	json_decref(p->services);
	memset(p, 0, sizeof(*p));
}

static int take_picture(struct ctl *c, struct ctl_client *cl, struct picture *p)
{
	json_t *g;
	size_t i;
	int err;

	memset(p, 0, sizeof(*p));
	err = ctl_client_open(c, cl);
	if (!err)
		err = ctl_client_ask(cl, json_pack("{s:s}", "command", "status"), CTL_ANSWER_MS,
				     NULL, NULL, &p->status);
	if (!err)
		err = ctl_client_ask(cl,
				     json_pack("{s:s, s:s}", "command", "show", "what", "gateways"),
				     CTL_ANSWER_MS, NULL, NULL, &p->gateways);
	if (!err)
		err = ctl_client_ask(cl,
				     json_pack("{s:s, s:s}", "command", "show", "what", "services"),
				     CTL_ANSWER_MS, NULL, NULL, &p->services);
	ctl_client_close(cl);
	if (err) {
		picture_free(p);
		return err;
	}
	p->time_ms = ctl_now_ms();
	json_array_foreach(p->gateways, i, g) {
		p->up += ctl_int(g, "bytes_up");
		p->down += ctl_int(g, "bytes_down");
	}
	return 0;
}

/* "12/s" between two pictures; "-" without an earlier one. */
static const char *rate(json_int_t now, json_int_t then, int64_t ms, char buf[TABLE_FORMAT])
{
	char size[TABLE_FORMAT];

	if (ms <= 0 || now < then)
		return "-";
	format_size((uint64_t)((double)(now - then) * 1000 / (double)ms), size);
	snprintf(buf, TABLE_FORMAT, "%.20s/s", size);
	return buf;
}

static void print_picture(const struct picture *now, const struct picture *then, FILE *f,
			  unsigned int width)
{
	const json_t *s = now->status, *m = json_object_get(s, "migration");
	bool same = then->status && ctl_int(then->status, "pid") == ctl_int(s, "pid");
	char a[TABLE_FORMAT], b[TABLE_FORMAT], d[TABLE_FORMAT];
	int64_t ms = same ? now->time_ms - then->time_ms : 0;

	fprintf(f, "%s  %s  %s  pid %" JSON_INTEGER_FORMAT "  up %s\n", ctl_str(s, "instance"),
		ctl_str(s, "state"), ctl_str(s, "version"), ctl_int(s, "pid"),
		format_age((uint64_t)ctl_int(s, "uptime_s"), a));
	fprintf(f,
		"sessions %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT "  new %s  up %s  "
		"down %s  refused %" JSON_INTEGER_FORMAT "\n",
		ctl_int(s, "sessions"), ctl_int(s, "max_sessions"),
		rate(ctl_int(s, "accepted"), ctl_int(then->status, "accepted"), ms, a),
		rate(now->up, then->up, ms, b), rate(now->down, then->down, ms, d),
		ctl_int(s, "refused"));
	if (json_is_object(m))
		fprintf(f,
			"migration %s: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT
			" moved, %" JSON_INTEGER_FORMAT " left\n",
			ctl_str(m, "phase"), ctl_int(m, "moved"), ctl_int(m, "total"),
			ctl_int(m, "left"));
	fputc('\n', f);
	table_print_json(service_columns, now->services, f, width);
	fputc('\n', f);
	table_print_json(gateway_columns, now->gateways, f, width);
}

/* The first lines of @text that the screen has room for. */
static void show_screen(const char *text, unsigned int rows)
{
	fputs("\033[H", stdout);
	for (; *text && rows > 1; rows--) {
		size_t n = strcspn(text, "\n");

		printf("%.*s\033[K\n", (int)n, text);
		text += n + (text[n] == '\n');
	}
	fputs("\033[J", stdout);
	fflush(stdout);
}

static void draw(const struct ctl *c, const struct picture *now, const struct picture *then,
		 const char *error)
{
	struct winsize ws = { .ws_row = 24, .ws_col = 80 };
	char *text = NULL;
	size_t size;
	FILE *f;

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws);
	f = open_memstream(&text, &size);
	if (!f)
		return;
	if (now->status)
		print_picture(now, then, f, ws.ws_col);
	else
		fprintf(f, "%s  no answer: %s\n", c->alias, error);
	fclose(f);
	if (text)
		show_screen(text, ws.ws_row);
	free(text);
}

/* Waits for the next picture; true when q was typed. */
static bool wait_for_key(int ms)
{
	struct pollfd pfd = { .fd = STDIN_FILENO, .events = POLLIN };
	char key;

	if (poll(&pfd, 1, ms) <= 0)
		return false;
	return read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q';
}

static enum ctl_exit live(struct ctl *c, int delay_ms)
{
	struct picture now, then = { 0 };
	struct ctl_client cl;
	bool quit = false;
	int err;

	screen_begin();
	while (!quit) {
		err = take_picture(c, &cl, &now);
		draw(c, &now, &then, cl.error);
		if (!err) {
			picture_free(&then);
			then = now;
		}
		quit = wait_for_key(delay_ms);
	}
	picture_free(&then);
	screen_end();
	return CTL_DONE;
}

static enum ctl_exit as_text(struct ctl *c, unsigned long count, int delay_ms)
{
	struct picture now, then = { 0 };
	enum ctl_exit code = CTL_DONE;
	struct ctl_client cl;

	for (unsigned long i = 0; i < count && !code; i++) {
		int err;

		if (i) {
			usleep((useconds_t)delay_ms * 1000);
			putchar('\n');
		}
		err = take_picture(c, &cl, &now);
		if (err) {
			code = ctl_client_fail(c, &cl, err);
			break;
		}
		if (c->json) {
			json_t *doc = json_pack("{s:O, s:O, s:O}", "status", now.status, "gateways",
						now.gateways, "services", now.services);

			if (doc)
				ctl_print_json(c, doc);
			json_decref(doc);
		} else {
			print_picture(&now, &then, stdout, ctl_columns(stdout));
			fflush(stdout);
		}
		picture_free(&then);
		then = now;
	}
	picture_free(&then);
	return code;
}

enum ctl_exit ctl_verb_top(struct ctl *c)
{
	unsigned long count = ctl_given(c, OPT_ONCE) ? 1 : c->number[OPT_COUNT];
	int delay_ms = (int)(ctl_given(c, OPT_DELAY) ? c->number[OPT_DELAY] : 1) * 1000;
	json_t *status _cleanup_json_ = NULL;
	enum ctl_exit code;

	if (c->json && count != 1)
		return ctl_usage(c, "--json is one document: say --once with it");
	if (!count && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)))
		return ctl_usage(c, "the live screen needs a terminal: say --once or --count N");
	code = ctl_ask(c, json_pack("{s:s}", "command", "status"), &status);
	if (code)
		return code;
	return count ? as_text(c, count, delay_ms) : live(c, delay_ms);
}
