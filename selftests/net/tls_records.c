// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A TLS client that sends records which no library sends: connects to an echo server behind ADDRESS:PORT,
 * makes a handshake, then sends what the words say, and wants all data back and a clean end.
 *
 *	tls_records ADDRESS PORT 1.2|1.3 WORD…
 *	  N		a record with N bytes of data, 0 is allowed
 *	  key_update	a KeyUpdate (TLS 1.3) that wants an answer, and the next key from then on
 *	  pause		waits until everything sent so far is back
 *	  deaf		first: nothing is read, with little room for what comes, until all is said, the end too,
 *			and what comes back has come to a stop
 *
 * Prints why not, and exits with 1, if something else comes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/tls/handshake.h"
#include "usr/tls/keys.h"
#include "usr/tls/record.h"

#define WAIT_MS	 30000
#define STILL_MS 100

static int fd;
static struct cman_tls_leg leg;
static const struct cman_tls_suite *suite;
static struct cman_tls_cipher opener, sealer;
static uint8_t in[8 * CMAN_TLS_RECORD_MAX];
static size_t in_len;
static uint64_t sent, got;
static bool closed, updated; /* by the peer */

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	puts("");
	exit(1);
}

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 7 + (at >> 8));
}

static void send_all(const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			die("send: %s", strerror(errno));
		data += n;
		len -= (size_t)n;
	}
}

/* Some bytes more; false at the end of the stream. */
static bool receive(void)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, WAIT_MS) != 1)
		die("nothing came; %llu of %llu bytes are back", (unsigned long long)got,
		    (unsigned long long)sent);
	n = recv(fd, in + in_len, sizeof(in) - in_len, 0);
	if (n < 0)
		die("recv: %s; %llu of %llu bytes are back", strerror(errno),
		    (unsigned long long)got, (unsigned long long)sent);
	in_len += (size_t)n;
	return n > 0;
}

/* The length of the record at the head of in[], which is complete then. */
static size_t whole_record(void)
{
	for (;;) {
		int len = cman_tls_record_look(in, in_len, NULL);

		if (len < 0)
			die("no record came");
		if (len && (size_t)len <= in_len)
			return (size_t)len;
		if (!receive())
			return 0;
	}
}

static void record_done(size_t len)
{
	in_len -= len;
	memmove(in, in + len, in_len);
}

/* ---- the handshake ---- */

static void shake(uint16_t version)
{
	struct cman_credentials c = { .min_version = version };
	uint8_t ticket_key[80] = { 0 };
	enum cman_tls_progress state = CMAN_TLS_MORE;
	struct cman_tls_context *ctx;
	struct cman_tls_handshake *hs;
	char why[200];

	c.suites[0] = version == CMAN_TLS_1_3 ? 0x1301 : 0xc02b;
	c.nsuites = 1;
	if (cman_tls_context_new(&c, ticket_key, &ctx, why, sizeof(why)))
		die("context: %s", why);
	hs = cman_tls_connect(ctx, NULL, NULL, 0);
	while (hs) {
		size_t len;
		const uint8_t *out = cman_tls_handshake_output(hs, &len);

		send_all(out, len);
		cman_tls_handshake_sent(hs, len);
		if (state != CMAN_TLS_MORE)
			break;
		len = whole_record();
		if (!len)
			die("the end of the stream in the handshake");
		state = cman_tls_handshake_feed(hs, in, len);
		record_done(len);
	}
	if (!hs || state != CMAN_TLS_DONE)
		die("handshake: %s", hs ? cman_tls_handshake_why(hs, NULL) : "no memory");
	if (cman_tls_handshake_leg(hs, &leg))
		die("no secrets");
	if (leg.version != version)
		die("another version: %#x", leg.version);
	suite = cman_tls_suite(leg.suite);
	cman_tls_handshake_free(hs);
	cman_tls_context_free(ctx);
	if (cman_tls_cipher_init(&opener, suite, &leg.rx, false) ||
	    cman_tls_cipher_init(&sealer, suite, &leg.tx, true))
		die("keys");
}

/* ---- records ---- */

static void next_key(struct cman_tls_half *half, struct cman_tls_cipher *cipher, bool seal)
{
	cman_tls_cipher_fini(cipher);
	if (cman_tls_keys_update(suite, half, half) ||
	    cman_tls_cipher_init(cipher, suite, half, seal))
		die("next key");
}

static void put(uint8_t type, const uint8_t *content, size_t len)
{
	uint8_t record[CMAN_TLS_RECORD_MAX];
	size_t n;

	if (cman_tls_record_seal(&sealer, leg.tx.seq++, type, content, len, record, &n))
		die("seal");
	send_all(record, n);
}

static void take(uint8_t type, const uint8_t *content, size_t len)
{
	switch (type) {
	case CMAN_TLS_DATA:
		for (size_t k = 0; k < len; k++, got++)
			if (content[k] != pattern(got))
				die("byte %llu is wrong", (unsigned long long)got);
		return;
	case CMAN_TLS_ALERT:
		if (len != 2 || content[1] != CMAN_TLS_CLOSE_NOTIFY)
			die("alert %u", content[1]);
		closed = true;
		return;
	case CMAN_TLS_HANDSHAKE:
		if (len && content[0] == 24) {
			next_key(&leg.rx, &opener, false);
			updated = true;
		}
		return;
	default:
		die("a record of type %u", type);
	}
}

/* One record; false at the end of the stream. */
static bool get(void)
{
	uint8_t content[CMAN_TLS_RECORD_MAX], type;
	size_t len = whole_record(), n;

	if (!len)
		return false;
	if (cman_tls_record_open(&opener, leg.rx.seq++, in, len, content, sizeof(content), &n,
				 &type))
		die("record %llu does not open", (unsigned long long)leg.rx.seq - 1);
	record_done(len);
	take(type, content, n);
	return true;
}

static void wait_for_all(bool update)
{
	while (got < sent || (update && !updated))
		if (!get())
			die("the end of the stream; %llu of %llu bytes are back",
			    (unsigned long long)got, (unsigned long long)sent);
}

static void data(const char *word)
{
	uint8_t content[CMAN_TLS_PLAIN_MAX];
	char *end;
	unsigned long len = strtoul(word, &end, 10);

	if (*end || end == word || len > sizeof(content))
		die("%s: expected 0 to %d, key_update, or pause", word, CMAN_TLS_PLAIN_MAX);
	for (size_t k = 0; k < len; k++)
		content[k] = pattern(sent + k);
	put(CMAN_TLS_DATA, content, len);
	sent += len;
}

/* Until no more bytes have come to the socket for a while: nothing says when the other end has to wait. */
static void wait_still(void)
{
	int before, now = -1;

	do {
		before = now;
		usleep(STILL_MS * 1000);
		if (ioctl(fd, FIONREAD, &now) < 0)
			die("FIONREAD: %s", strerror(errno));
	} while (now != before);
}

static void say(const char *word)
{
	static const uint8_t update_requested[] = { 24, 0, 0, 1, 1 };

	if (!strcmp(word, "pause")) {
		wait_for_all(false);
	} else if (!strcmp(word, "key_update")) {
		put(CMAN_TLS_HANDSHAKE, update_requested, sizeof(update_requested));
		next_key(&leg.tx, &sealer, true);
		wait_for_all(true); /* without data to carry it along */
		updated = false;
	} else {
		data(word);
	}
}

int main(int argc, char **argv)
{
	static const uint8_t close_notify[] = { 1, CMAN_TLS_CLOSE_NOTIFY };
	struct sockaddr_in to = { .sin_family = AF_INET };
	int first = 4, little = 4096;

	if (argc < 5 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		die("usage: tls_records ADDRESS PORT 1.2|1.3 WORD...");
	to.sin_port = htons((uint16_t)atoi(argv[2]));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (!strcmp(argv[4], "deaf")) {
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little));
		first++;
	}
	if (fd < 0 || connect(fd, (void *)&to, sizeof(to)) < 0)
		die("connect: %s", strerror(errno));
	shake(strcmp(argv[3], "1.3") ? CMAN_TLS_1_2 : CMAN_TLS_1_3);
	for (int i = first; i < argc; i++)
		say(argv[i]);
	if (first == 4)
		wait_for_all(false);
	put(CMAN_TLS_ALERT, close_notify, sizeof(close_notify));
	shutdown(fd, SHUT_WR);
	if (first > 4)
		wait_still();
	while (get())
		if (got > sent)
			die("more came back than was sent");
	if (got < sent)
		die("only %llu of %llu bytes are back", (unsigned long long)got,
		    (unsigned long long)sent);
	if (!closed)
		die("the end of the stream without close_notify");
	return 0;
}
