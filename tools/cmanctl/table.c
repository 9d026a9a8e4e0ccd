/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns how rows become lines: cells of one column are as wide as the widest, numbers stand right,
 * and what does not fit on the screen is left out or cut by the rules of table.h. Also the formats
 * of sizes, ages and durations. Widths count characters of UTF-8, not bytes.
 */
#include "table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GAP	 2 /* blanks between columns */
#define MIN_TEXT 6 /* a text column is not cut below this */

char *format_size(uint64_t bytes, char buf[TABLE_FORMAT])
{
	static const char units[] = "KMGTPE";
	double v = (double)bytes;
	int u = -1;

	if (bytes < 1000) {
		snprintf(buf, TABLE_FORMAT, "%" PRIu64, bytes);
		return buf;
	}
	/* never four digits: 1023 bytes are 1.0K */
	while (v >= 999.5 || u < 0) {
		v /= 1024;
		u++;
	}
	snprintf(buf, TABLE_FORMAT, v < 99.95 ? "%.1f%c" : "%.0f%c", v, units[u]);
	return buf;
}

char *format_age(uint64_t s, char buf[TABLE_FORMAT])
{
	if (s < 60)
		snprintf(buf, TABLE_FORMAT, "%" PRIu64 "s", s);
	else if (s < 3600)
		snprintf(buf, TABLE_FORMAT, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, TABLE_FORMAT, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
	else
		snprintf(buf, TABLE_FORMAT, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
	return buf;
}

char *format_duration(uint64_t us, char buf[TABLE_FORMAT])
{
	if (us < 1000)
		snprintf(buf, TABLE_FORMAT, "%" PRIu64 " us", us);
	else if (us < 100000)
		snprintf(buf, TABLE_FORMAT, "%.1f ms", (double)us / 1000);
	else if (us < 1000000)
		snprintf(buf, TABLE_FORMAT, "%.0f ms", (double)us / 1000);
	else
		snprintf(buf, TABLE_FORMAT, "%.1f s", (double)us / 1000000);
	return buf;
}

static size_t text_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

/* Bytes of @s that make @width characters. */
static size_t text_bytes(const char *s, size_t width)
{
	size_t i = 0;

	while (s[i]) {
		if ((s[i] & 0xc0) != 0x80 && width-- == 0)
			break;
		i++;
	}
	return i;
}

static bool stands_right(enum table_kind kind)
{
	return kind == TABLE_NUMBER || kind == TABLE_LIMIT || kind == TABLE_SIZE ||
	       kind == TABLE_AGE;
}

void table_init(struct table *t, const struct table_column *columns)
{
	memset(t, 0, sizeof(*t));
	t->columns = columns;
	while (columns[t->ncolumns].title && t->ncolumns < TABLE_MAX_COLUMNS)
		t->ncolumns++;
}

void table_fini(struct table *t)
{
	size_t i;

	for (i = 0; i < t->ncells; i++)
		free(t->cells[i]);
	free(t->cells);
	memset(t, 0, sizeof(*t));
}

void table_add(struct table *t, const char *text)
{
	char *copy, *p, **cells;
	size_t size;

	if (t->ncells == t->size) {
		size = t->size ? t->size * 2 : 256;
		cells = realloc(t->cells, size * sizeof(*cells));
		if (!cells) {
			t->failed = true;
			return;
		}
		t->cells = cells;
		t->size = size;
	}
	copy = strdup(text && *text ? text : "-");
	if (!copy) {
		t->failed = true;
		return;
	}
	/* what comes from the network must not drive the terminal */
	for (p = copy; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	t->cells[t->ncells++] = copy;
}

const json_t *table_member(const json_t *object, const char *key)
{
	const char *dot = strchr(key, '.');
	char first[64];

	if (!dot)
		return json_object_get(object, key);
	snprintf(first, sizeof(first), "%.*s", (int)(dot - key), key);
	return table_member(json_object_get(object, first), dot + 1);
}

static void add_text(FILE *f, const json_t *v)
{
	const json_t *e;
	size_t i;

	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_STRING:
		fputs(json_string_value(v), f);
		break;
	case JSON_INTEGER:
		fprintf(f, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		break;
	case JSON_REAL:
		fprintf(f, "%g", json_real_value(v));
		break;
	case JSON_TRUE:
		fputs("yes", f);
		break;
	case JSON_FALSE:
		fputs("no", f);
		break;
	case JSON_ARRAY:
		json_array_foreach(v, i, e) {
			if (i)
				fputs(", ", f);
			add_text(f, e);
		}
		break;
	default:
		break;
	}
}

static void add_targets(FILE *f, const json_t *targets)
{
	const json_t *t, *state;
	size_t i;

	json_array_foreach(targets, i, t) {
		if (i)
			fputs(", ", f);
		add_text(f, json_object_get(t, "address"));
		state = json_object_get(t, "state");
		if (state && strcmp(json_string_value(state) ?: "", "up") != 0) {
			fputc(' ', f);
			add_text(f, state);
		}
	}
}

static void add_cell(FILE *f, const json_t *v, enum table_kind kind)
{
	char buf[TABLE_FORMAT];
	json_int_t n = json_integer_value(v);
	struct tm tm;
	time_t time;

	switch (kind) {
	case TABLE_LIMIT:
		if (n == 0)
			return;
		break;
	case TABLE_SIZE:
		if (json_is_integer(v)) {
			fputs(format_size(n < 0 ? 0 : (uint64_t)n, buf), f);
			return;
		}
		break;
	case TABLE_AGE:
		if (json_is_integer(v)) {
			fputs(format_age(n < 0 ? 0 : (uint64_t)n, buf), f);
			return;
		}
		break;
	case TABLE_TIME:
		time = (time_t)json_number_value(v);
		if (json_is_number(v) && localtime_r(&time, &tm) &&
		    strftime(buf, sizeof(buf), "%Y-%m-%d %H:%M:%S", &tm)) {
			fputs(buf, f);
			return;
		}
		break;
	case TABLE_TLS:
		if (json_is_object(v)) {
			add_text(f, json_object_get(v, "version"));
			fputc('/', f);
			add_text(f, json_object_get(v, "engine"));
			return;
		}
		break;
	case TABLE_TARGETS:
		add_targets(f, v);
		return;
	case TABLE_TEXT:
	case TABLE_NUMBER:
	case TABLE_YESNO:
		break;
	}
	add_text(f, v);
}

void table_add_json(struct table *t, const json_t *object)
{
	char *text;
	size_t size;
	FILE *f;
	unsigned int i;

	for (i = 0; i < t->ncolumns && !t->failed; i++) {
		text = NULL;
		f = open_memstream(&text, &size);
		if (!f) {
			t->failed = true;
			return;
		}
		add_cell(f, table_member(object, t->columns[i].key), t->columns[i].kind);
		if (fclose(f) != 0)
			t->failed = true;
		else
			table_add(t, text);
		free(text);
	}
}

/* Decides the width of every column; 0: left out. */
static void lay_out(const struct table *t, unsigned int limit, size_t width[TABLE_MAX_COLUMNS])
{
	size_t total, n = t->ncolumns, i, worst;
	bool any[TABLE_MAX_COLUMNS] = { false };

	for (i = 0; i < n; i++)
		width[i] = text_width(t->columns[i].title);
	for (i = 0; i < t->ncells; i++) {
		size_t w = text_width(t->cells[i]);

		if (w > width[i % n])
			width[i % n] = w;
		any[i % n] |= strcmp(t->cells[i], "-") != 0;
	}
	for (i = 0; i < n; i++)
		if (t->columns[i].if_any && !any[i])
			width[i] = 0;

	while (limit) {
		for (total = 0, i = 0; i < n; i++)
			total += width[i] ? width[i] + (total ? GAP : 0) : 0;
		if (total <= limit)
			return;
		for (worst = n, i = 0; i < n; i++)
			if (width[i] && t->columns[i].drop &&
			    (worst == n || t->columns[i].drop >= t->columns[worst].drop))
				worst = i;
		if (worst < n) {
			width[worst] = 0;
			continue;
		}
		for (worst = n, i = 0; i < n; i++)
			if (!stands_right(t->columns[i].kind) && !t->columns[i].whole &&
			    width[i] > MIN_TEXT && (worst == n || width[i] >= width[worst]))
				worst = i;
		if (worst == n)
			return;
		width[worst]--;
	}
}

static void print_row(const struct table *t, char *const *cells, const size_t *width, FILE *out)
{
	size_t pending = 0, w, i;

	for (i = 0; i < t->ncolumns; i++) {
		const char *text = cells ? cells[i] : t->columns[i].title;

		if (!width[i])
			continue;
		w = text_width(text);
		if (w > width[i]) {
			fprintf(out, "%*s%.*s~", (int)pending, "",
				(int)text_bytes(text, width[i] - 1), text);
			pending = GAP;
		} else if (stands_right(t->columns[i].kind)) {
			fprintf(out, "%*s%s", (int)(pending + width[i] - w), "", text);
			pending = GAP;
		} else {
			fprintf(out, "%*s%s", (int)pending, "", text);
			pending = GAP + width[i] - w;
		}
	}
	fputc('\n', out);
}

int table_print(const struct table *t, FILE *out, unsigned int limit)
{
	size_t width[TABLE_MAX_COLUMNS], i;

	if (t->failed)
		return -ENOMEM;
	lay_out(t, limit, width);
	print_row(t, NULL, width, out);
	for (i = 0; i + t->ncolumns <= t->ncells; i += t->ncolumns)
		print_row(t, t->cells + i, width, out);
	return 0;
}

int table_print_json(const struct table_column *columns, const json_t *array, FILE *out,
		     unsigned int width)
{
	struct table t;
	json_t *row;
	size_t i;
	int err;

	table_init(&t, columns);
	json_array_foreach(array, i, row) {
		table_add_json(&t, row);
	}
	err = table_print(&t, out, width);
	table_fini(&t);
	return err;
}
