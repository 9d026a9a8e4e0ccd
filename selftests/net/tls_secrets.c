/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looks for secrets where they must not be.
 *
 *	tls_secrets NEEDLES FILE...	NEEDLES: "LABEL HEX" or "LABEL =TEXT", a line each
 *
 * A secret counts as found as it is; as hex digits, whatever stands between them (spaces, commas, quotes,
 * colons, 0x: as hexdump, bpftool, JSON show bytes); or in base64, at each of its three alignments. Prints
 * "FILE: LABEL FORM at OFFSET", a line a label and form and file. Exit status: 0 found, 1 not found, 2
 * something could not be read: like grep's. Holes of sparse files are passed over.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH	  (1u << 16)
#define SHORTEST  8 /* bytes: less would be found anywhere */
#define CHUNK	  (1u << 20)
#define OVERLAP	  4096u /* longer than any needle in any form */
#define BYTES_MAX 512

/* One form of a secret, as bytes to look for. */
struct needle {
	struct needle *next; /* of the same hash */
	const char *label, *form;
	uint8_t *data;
	size_t len;
	bool seen; /* in the present file */
};

static struct needle *raw[HASH], *digits[HASH]; /* digits: looked for when all else is taken out */
static bool found;

static void die(const char *what, const char *why)
{
	fprintf(stderr, "tls_secrets: %s: %s\n", what, why);
	exit(2);
}

static uint16_t hash(const uint8_t *p)
{
	uint64_t n;

	memcpy(&n, p, sizeof(n));
	return (uint16_t)((n * 0x9e3779b97f4a7c15ull) >> 48);
}

static void add(struct needle **table, const char *label, const char *form, const void *data,
		size_t len)
{
	struct needle *n = calloc(1, sizeof(*n)), **at;

	if (!n || len < SHORTEST || !(n->data = malloc(len)))
		die(label, "too short, or no memory");
	memcpy(n->data, data, len);
	n->len = len;
	n->label = label;
	n->form = form;
	at = &table[hash(n->data)];
	n->next = *at;
	*at = n;
}

/* The digits of base64 that depend on nothing but these bytes, with @before others in front. */
static void add_base64(const char *label, const uint8_t *data, size_t len, unsigned int before)
{
	static const char
		alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char text[BYTES_MAX * 2];
	size_t first = (before * 8 + 5) / 6, last = (before + len) * 8 / 6, n = 0;

	for (size_t i = first; i < last; i++) {
		unsigned int value = 0;

		for (size_t bit = i * 6 - before * 8; bit < (i + 1) * 6 - before * 8; bit++)
			value = value << 1 | (data[bit / 8] >> (7 - bit % 8) & 1);
		text[n++] = alphabet[value];
	}
	add(raw, label, "in base64", text, n);
}

static void add_secret(const char *label, const char *hex)
{
	uint8_t data[BYTES_MAX];
	char lower[2 * BYTES_MAX];
	unsigned int byte;
	size_t n = 0, i;

	for (; n < sizeof(data) && sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
		data[n] = (uint8_t)byte;
	if (n < SHORTEST)
		die(label, "too short");
	for (i = 0; i < 2 * n; i++)
		lower[i] = (char)tolower((unsigned char)hex[i]);
	add(raw, label, "as it is", data, n);
	add(digits, label, "in hex", lower, 2 * n);
	for (unsigned int before = 0; before < 3; before++)
		add_base64(label, data, n, before);
}

static void read_needles(const char *path)
{
	char label[64], value[2 * BYTES_MAX + 1], *name;
	FILE *f = fopen(path, "re");
	unsigned int n = 0;

	if (!f)
		die(path, strerror(errno));
	for (; fscanf(f, "%63s %1024s", label, value) == 2; n++) {
		name = strdup(label);
		if (!name)
			die(path, strerror(ENOMEM));
		if (value[0] == '=')
			add(raw, name, "as text", value + 1, strlen(value + 1));
		else
			add_secret(name, value);
	}
	fclose(f);
	if (!n)
		die(path, "nothing to look for");
}

static void look(struct needle **table, const char *path, off_t at, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i + SHORTEST <= len; i++)
		for (struct needle *n = table[hash(p + i)]; n; n = n->next) {
			if (n->seen || n->len > len - i || memcmp(n->data, p + i, n->len))
				continue;
			n->seen = found = true;
			printf("%s: %s %s at %lld\n", path, n->label, n->form,
			       (long long)at + (long long)i);
		}
}

/* Hex digits without what people put between them; anything else stays, and so separates. */
static size_t squeeze(const uint8_t *in, size_t len, uint8_t *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (in[i] == '0' && i + 1 < len && in[i + 1] == 'x')
			i++;
		else if (in[i] && !strchr(" \t\r\n,:\"[]\\-", in[i]))
			out[n++] = (uint8_t)tolower(in[i]);
	}
	return n;
}

static void forget(struct needle **table)
{
	for (unsigned int i = 0; i < HASH; i++)
		for (struct needle *n = table[i]; n; n = n->next)
			n->seen = false;
}

static void search(const char *path)
{
	static uint8_t buf[CHUNK + OVERLAP], text[CHUNK + OVERLAP];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t at = 0, data;
	size_t kept = 0;
	ssize_t n;

	if (fd < 0)
		die(path, strerror(errno));
	forget(raw);
	forget(digits);
	for (;;) {
		data = lseek(fd, at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		if (data > at) { /* over the hole */
			at = data;
			kept = 0;
		}
		n = pread(fd, buf + kept, CHUNK, at);
		if (n < 0)
			die(path, strerror(errno));
		if (!n)
			break;
		at += n;
		kept += (size_t)n;
		look(raw, path, at - (off_t)kept, buf, kept);
		look(digits, path, at - (off_t)kept, text, squeeze(buf, kept, text));
		if (kept > OVERLAP) {
			memmove(buf, buf + kept - OVERLAP, OVERLAP);
			kept = OVERLAP;
		}
	}
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: tls_secrets NEEDLES FILE...\n");
		return 2;
	}
	read_needles(argv[1]);
	for (int i = 2; i < argc; i++)
		search(argv[i]);
	return !found;
}
