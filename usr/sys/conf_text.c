/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a configuration file and scans it once, token by token. Knows quotes, comments, lists and
 * which brace belongs to what; knows no key. What it lets through is a text that libconfuse
 * reads as its author meant it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usr/sys/conf_text.h"

#define MAX_DEPTH 16 /* the grammar needs 4; deeper ones are unknown blocks to libconfuse */

struct open_block {
	unsigned int line;
	char name[2 * CMAN_NAME_LEN + 4];
};

struct scan {
	const char *file;
	struct cman_conf_error *error;
	char *p; /* next character */
	unsigned int line;

	/* the statement so far */
	unsigned int words;
	bool first_is_bare;
	char word[2][CMAN_NAME_LEN]; /* cut: for messages only */
	unsigned int word_line[2];
	/* behind "KEY =" */
	bool want_value;
	unsigned int key_line;
	char key[CMAN_NAME_LEN];
	/* within a list */
	bool in_list, list_empty, list_want_comma;
	unsigned int list_line;

	unsigned int depth;
	struct open_block open[MAX_DEPTH];
};

static int wrong(struct scan *s, unsigned int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int wrong(struct scan *s, unsigned int line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	cman_conf_verror(s->error, s->file, line, format, args);
	va_end(args);
	return -EINVAL;
}

static bool is_word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("_.:-/[]@%~", c));
}

static int unexpected(struct scan *s)
{
	unsigned char c = (unsigned char)*s->p;

	if (c >= 0x20 && c < 0x7f)
		return wrong(s, s->line,
			     "unexpected character '%c': a value with such characters "
			     "goes between double quotes",
			     c);
	return wrong(s, s->line, "unexpected byte 0x%02x: expected plain text", c);
}

/* A word, quoted or not. */
static int on_word(struct scan *s, const char *text, size_t len, bool bare)
{
	if (s->in_list) {
		if (s->list_want_comma)
			return wrong(s, s->line,
				     "expected ',' or '}' before '%.*s' in the list '%s' "
				     "of line %u",
				     (int)(len > 60 ? 60 : len), text, s->key, s->list_line);
		s->list_want_comma = true;
		s->list_empty = false;
		return 0;
	}
	if (s->want_value) {
		s->want_value = false;
		s->words = 0;
		return 0;
	}
	if (s->words == 0)
		s->first_is_bare = bare;
	if (s->words < 2) {
		snprintf(s->word[s->words], sizeof(s->word[0]), "%.*s",
			 (int)(len > 100 ? 100 : len), text);
		s->word_line[s->words] = s->line;
	}
	if (s->words < 1000)
		s->words++;
	return 0;
}

/* Words that neither '=' nor '{' made into a statement. */
static int no_statement(struct scan *s)
{
	bool both = s->words > 1 && s->word_line[0] == s->word_line[1];

	return wrong(s, s->word_line[0],
		     "'=' or '{' is missing behind '%s%s%s': expected KEY = VALUE "
		     "or BLOCK NAME {",
		     s->word[0], both ? " " : "", both ? s->word[1] : "");
}

static int on_equal(struct scan *s)
{
	if (s->in_list)
		return wrong(s, s->list_line,
			     "the list '%s' is not closed: expected '}' at its "
			     "end",
			     s->key);
	if (s->words == 0 && s->key_line && s->key_line < s->line)
		return wrong(s, s->key_line, "'%s' has no value: expected one behind '='", s->key);
	if (s->words == 0 || s->want_value)
		return wrong(s, s->line, "unexpected '=': expected KEY = VALUE");
	if (s->words > 1)
		return no_statement(s);
	if (!s->first_is_bare)
		return wrong(s, s->line, "key '%s' is quoted: expected it without quotes",
			     s->word[0]);
	s->want_value = true;
	s->key_line = s->line;
	memcpy(s->key, s->word[0], sizeof(s->key));
	s->words = 0;
	return 0;
}

static int on_open(struct scan *s)
{
	struct open_block *b;

	if (s->in_list)
		return wrong(s, s->list_line,
			     "the list '%s' is not closed: expected '}' at its "
			     "end",
			     s->key);
	if (s->want_value) {
		s->want_value = false;
		s->in_list = s->list_empty = true;
		s->list_want_comma = false;
		s->list_line = s->line;
		return 0;
	}
	if (s->words == 0)
		return wrong(s, s->line,
			     "'{' without a block's name before it: expected BLOCK NAME "
			     "{ or KEY = {");
	if (s->words > 2)
		return no_statement(s);
	if (!s->first_is_bare)
		return wrong(s, s->line,
			     "the block '%s' is quoted: expected its kind without "
			     "quotes",
			     s->word[0]);
	if (s->depth < MAX_DEPTH) {
		b = &s->open[s->depth];
		b->line = s->line;
		if (s->words > 1)
			snprintf(b->name, sizeof(b->name), "%s '%s'", s->word[0], s->word[1]);
		else
			snprintf(b->name, sizeof(b->name), "%s", s->word[0]);
	}
	s->depth++;
	s->words = 0;
	s->key_line = 0;
	return 0;
}

static int on_close(struct scan *s)
{
	if (s->in_list) {
		if (s->list_empty)
			return wrong(s, s->list_line,
				     "the list '%s' is empty: expected at least "
				     "one value",
				     s->key);
		s->in_list = false;
		s->words = 0;
		return 0;
	}
	if (s->want_value)
		return wrong(s, s->key_line, "'%s' has no value: expected one behind '='", s->key);
	if (s->words)
		return no_statement(s);
	if (s->depth == 0)
		return wrong(s, s->line, "'}' closes no block: expected as many '{' before it");
	s->depth--;
	s->key_line = 0;
	return 0;
}

static int on_comma(struct scan *s)
{
	if (!s->in_list)
		return wrong(s, s->line, "unexpected ',': a list goes between '{' and '}'");
	if (!s->list_want_comma)
		return wrong(s, s->line, "unexpected ',' in the list '%s': expected a value",
			     s->key);
	s->list_want_comma = false;
	return 0;
}

/* "${NAME}" at s->p; leaves s->p behind it. */
static int scan_variable(struct scan *s)
{
	char *end = s->p + 2;

	while (*end && *end != '}' && *end != '\n' && *end != '"')
		end++;
	if (*end != '}')
		return wrong(s, s->line, "'}' is missing behind '${': expected ${VARIABLE}");
	s->p = end + 1;
	return 0;
}

static int scan_quoted(struct scan *s)
{
	char quote = *s->p++, *start = s->p;
	int r;

	while (*s->p != quote) {
		unsigned char c = (unsigned char)*s->p;

		if (c == '\0' || c == '\n')
			return wrong(s, s->line,
				     "the closing quote is missing: expected %c before "
				     "the end of the line",
				     quote);
		if ((c < 0x20 && c != '\t' && c != '\r') || c == 0x7f)
			return unexpected(s);
		if (c == '$' && s->p[1] == '{' && quote == '"') {
			r = scan_variable(s);
			if (r < 0)
				return r;
			continue;
		}
		if (c == '\\') {
			char next = s->p[1];

			if (quote == '"' && is_word_char(next) && !strchr("_.:-/[]@%~", next))
				return wrong(s, s->line,
					     "unknown escape '\\%c': expected \\\\ or "
					     "\\\" only",
					     next);
			if (next && next != '\n')
				s->p++;
		}
		s->p++;
	}
	s->p++;
	return on_word(s, start, (size_t)(s->p - 1 - start), false);
}

static int scan_bare(struct scan *s)
{
	char *start = s->p;

	while (is_word_char(*s->p)) {
		if (s->p[0] == '/' && s->p[1] == '/')
			return wrong(s, s->line,
				     "'//' within a word: expected quotes around the "
				     "value, or a blank before the comment");
		s->p++;
	}
	if (*s->p && !strchr(" \t\r\n{}=,+#\"'", *s->p))
		return unexpected(s);
	return on_word(s, start, (size_t)(s->p - start), true);
}

static int skip_comment(struct scan *s)
{
	unsigned int line = s->line;

	if (s->p[0] != '/' || s->p[1] != '*') {
		while (*s->p && *s->p != '\n')
			*s->p++ = ' ';
		return 0;
	}
	s->p[0] = s->p[1] = ' ';
	for (s->p += 2; *s->p; s->p++) {
		if (s->p[0] == '*' && s->p[1] == '/') {
			s->p[0] = s->p[1] = ' ';
			s->p += 2;
			return 0;
		}
		if (*s->p == '\n')
			s->line++;
		else
			*s->p = ' ';
	}
	return wrong(s, line, "the comment is not closed: expected */");
}

static int scan_token(struct scan *s)
{
	char *start = s->p;
	int r;

	switch (*s->p) {
	case '\n':
		s->line++;
		s->p++;
		return 0;
	case '\r':
	case ' ':
	case '\t':
		*s->p++ = ' ';
		return 0;
	case '#':
		return skip_comment(s);
	case '"':
	case '\'':
		return scan_quoted(s);
	case '=':
		s->p++;
		return on_equal(s);
	case '{':
		s->p++;
		return on_open(s);
	case '}':
		s->p++;
		return on_close(s);
	case ',':
		s->p++;
		return on_comma(s);
	case '+':
		if (s->p[1] != '=')
			return unexpected(s);
		s->p += 2;
		return on_equal(s);
	case '/':
		return s->p[1] == '/' || s->p[1] == '*' ? skip_comment(s) : scan_bare(s);
	case '$':
		if (s->p[1] != '{')
			return unexpected(s);
		r = scan_variable(s);
		return r < 0 ? r : on_word(s, start, (size_t)(s->p - start), false);
	default:
		return is_word_char(*s->p) ? scan_bare(s) : unexpected(s);
	}
}

static int scan(struct cman_conf_text *text, const char *file, struct cman_conf_error *error)
{
	struct scan s = { .file = file, .error = error, .p = text->text, .line = 1 };
	const char *nul = memchr(text->text, '\0', text->len);
	int r;

	if (nul) {
		for (; s.p < nul; s.p++)
			s.line += *s.p == '\n';
		return wrong(&s, s.line, "a NUL byte: expected a text file");
	}
	if (memcmp(text->text, "\xef\xbb\xbf", text->len < 3 ? text->len : 3) == 0 &&
	    text->len >= 3)
		memset(text->text, ' ', 3); /* the mark that some editors put first */
	while (*s.p) {
		r = scan_token(&s);
		if (r < 0)
			return r;
	}
	if (s.in_list)
		return wrong(&s, s.list_line,
			     "the list '%s' is not closed: expected '}' at its end", s.key);
	if (s.want_value)
		return wrong(&s, s.key_line, "'%s' has no value: expected one behind '='", s.key);
	if (s.depth) {
		const struct open_block *b = &s.open[s.depth > MAX_DEPTH ? 0 : s.depth - 1];

		text->open_line = b->line;
		memcpy(text->open_block, b->name, sizeof(text->open_block));
	}
	return 0;
}

static int read_all(int fd, char **ret_text, size_t *ret_len)
{
	size_t size = 4096, len = 0;
	char *text = malloc(size), *more;
	ssize_t n;
	int r;

	if (!text)
		return -ENOMEM;
	for (;;) {
		n = read(fd, text + len, size - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = -errno;
			free(text);
			return r;
		}
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > CMAN_CONF_MAX_BYTES) {
			free(text);
			return -EFBIG;
		}
		if (len < size - 1)
			continue;
		size *= 2;
		more = realloc(text, size);
		if (!more) {
			free(text);
			return -ENOMEM;
		}
		text = more;
	}
	text[len] = '\0';
	*ret_text = text;
	*ret_len = len;
	return 0;
}

int cman_conf_text_init(struct cman_conf_text *text, const char *file,
			struct cman_conf_error *ret_error)
{
	int fd, r;

	memset(text, 0, sizeof(*text));
	fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0) {
		r = -errno;
		cman_conf_error(ret_error, file, 0, "%s: expected a configuration file",
				strerror(-r));
		return r;
	}
	r = read_all(fd, &text->text, &text->len);
	close(fd);
	if (r == -EISDIR) {
		cman_conf_error(ret_error, file, 0, "a directory: expected a configuration file");
		return -EINVAL;
	}
	if (r == -EFBIG) {
		cman_conf_error(ret_error, file, 0, "too large: expected at most 1 MiB");
		return -EINVAL;
	}
	if (r < 0) {
		cman_conf_error(ret_error, file, 0, "cannot be read: %s", strerror(-r));
		return r;
	}
	r = scan(text, file, ret_error);
	if (r < 0)
		cman_conf_text_fini(text);
	return r;
}

void cman_conf_text_fini(struct cman_conf_text *text)
{
	free(text->text);
	text->text = NULL;
}

bool cman_conf_text_is_block(const struct cman_conf_text *text, unsigned int line, const char *word)
{
	const char *p = text->text, *end;
	size_t len = strlen(word);

	while (--line && p) {
		p = strchr(p, '\n');
		p = p ? p + 1 : NULL;
	}
	if (!p)
		return false;
	end = p + strcspn(p, "\n");
	while ((p = strstr(p, word)) && p < end) {
		bool starts = p == text->text || !is_word_char(p[-1]);

		p += len;
		if (!starts || is_word_char(*p))
			continue;
		p += strspn(p, " \t\n");
		if (*p == '{')
			return true;
		if (*p == '"' || *p == '\'' || is_word_char(*p)) { /* its title, then */
			char quote = is_word_char(*p) ? '\0' : *p++;

			while (*p && (quote ? *p != quote : is_word_char(*p)))
				p++;
			p += quote && *p;
			return p[strspn(p, " \t\n")] == '{';
		}
		return false;
	}
	return false;
}
