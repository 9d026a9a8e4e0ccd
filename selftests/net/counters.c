/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The formulas of usr/core/session.h against the kernel: pairs of real sockets are driven into every
 * TCP state, with and without unread data, and after each step R and W of both ends must be what was
 * really read and written. Prints TAP.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/core/session.h"
#include "usr/sys/sock.h"

static unsigned int tests, failed;

static void ok(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void ok(bool good, const char *format, ...)
{
	va_list ap;

	printf("%sok %u - ", good ? "" : "not ", ++tests);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	failed += !good;
}

static void must(bool good, const char *what)
{
	if (good)
		return;
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

struct end {
	int fd;
	bool initiated;
	uint64_t read, written;
};

static int family;

/* @c connects to @s. */
static void open_pair(struct end *c, struct end *s)
{
	uint8_t addr[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 };
	uint8_t local6[16] = { [15] = 1 };
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int listener;

	must(!cman_sock_listen((uint16_t)family, family == AF_INET ? addr : local6, 0, &listener),
	     "listen");
	must(!getsockname(listener, (struct sockaddr *)&ss, &len), "getsockname");
	*c = (struct end){ .fd = socket(family, SOCK_STREAM, 0), .initiated = true };
	must(!connect(c->fd, (struct sockaddr *)&ss, len), "connect");
	*s = (struct end){ .fd = -1 };
	while (s->fd < 0)
		s->fd = accept(listener, NULL, NULL);
	close(listener);
}

static void put(struct end *e, size_t n)
{
	static char bytes[1 << 20];

	while (n) {
		ssize_t sent = send(e->fd, bytes, n < sizeof(bytes) ? n : sizeof(bytes),
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EAGAIN)
			return; /* as much as goes */
		must(sent > 0, "send");
		e->written += (uint64_t)sent;
		n -= (size_t)sent;
	}
}

static ssize_t get(struct end *e, size_t n)
{
	static char bytes[1 << 20];
	struct pollfd p = { .fd = e->fd, .events = POLLIN };
	ssize_t got;

	poll(&p, 1, 2000);
	got = recv(e->fd, bytes, n, MSG_DONTWAIT);
	if (got > 0)
		e->read += (uint64_t)got;
	return got;
}

static void wait_state(const struct end *e, int state)
{
	struct cman_leg leg;

	for (int n = 0; n < 2000; n++) {
		must(!cman_sock_counters(e->fd, e->initiated, &leg), "counters");
		if (leg.tcp_state == state)
			return;
		usleep(1000);
	}
	printf("# state %u, wanted %d\n", leg.tcp_state, state);
}

static void check(const struct end *e, int state, const char *what)
{
	struct cman_leg leg;

	wait_state(e, state);
	must(!cman_sock_counters(e->fd, e->initiated, &leg), "counters");
	ok(leg.tcp_state == state && cman_leg_read(&leg) == e->read &&
		   cman_leg_written(&leg) == e->written,
	   "%s: state %u (%d), R %llu (%llu), W %llu (%llu)", what, leg.tcp_state, state,
	   (unsigned long long)cman_leg_read(&leg), (unsigned long long)e->read,
	   (unsigned long long)cman_leg_written(&leg), (unsigned long long)e->written);
}

static void established(void)
{
	struct end c, s;

	open_pair(&c, &s);
	check(&c, TCP_ESTABLISHED, "new, connected");
	check(&s, TCP_ESTABLISHED, "new, accepted");
	put(&c, 1000);
	check(&c, TCP_ESTABLISHED, "sent");
	check(&s, TCP_ESTABLISHED, "all unread");
	get(&s, 300);
	check(&s, TCP_ESTABLISHED, "some unread");
	get(&s, 10000);
	check(&s, TCP_ESTABLISHED, "all read");
	put(&s, 100 << 20);
	check(&s, TCP_ESTABLISHED, "as much as the queues take: unacknowledged");
	check(&c, TCP_ESTABLISHED, "queue full");
	get(&c, 100000);
	check(&c, TCP_ESTABLISHED, "queue nearly full");
	check(&s, TCP_ESTABLISHED, "its window opened");
	close(c.fd);
	close(s.fd);
}

/* @a closes first, @b later. */
static void half_closed(bool client_first, bool unread)
{
	const char *who = client_first ? "client first" : "server first";
	struct end c, s, *a, *b;

	open_pair(&c, &s);
	a = client_first ? &c : &s;
	b = client_first ? &s : &c;
	printf("# half-closed, %s%s\n", who, unread ? ", with unread data" : "");
	put(a, 500);
	put(b, 700);
	shutdown(a->fd, SHUT_WR);
	check(b, TCP_CLOSE_WAIT, "FIN received behind unread data");
	check(a, TCP_FIN_WAIT2, "FIN sent and acknowledged");
	if (!unread) {
		get(b, 10000);
		check(b, TCP_CLOSE_WAIT, "data read, the FIN not yet");
		ok(get(b, 10000) == 0, "end of file");
		check(b, TCP_CLOSE_WAIT, "the FIN read too");
		get(a, 10000);
	}
	put(b, 900);
	check(b, TCP_CLOSE_WAIT, "goes on sending");
	check(a, TCP_FIN_WAIT2, "goes on receiving");
	if (!unread)
		get(a, 400);
	check(a, TCP_FIN_WAIT2, "reads");
	shutdown(b->fd, SHUT_WR);
	check(b, TCP_CLOSE, "LAST_ACK, then closed"); /* we hold it: not gone */
	check(a, TCP_CLOSE, "TIME_WAIT is another socket's: ours is closed");
	if (!unread) {
		while (get(a, 10000) > 0)
			;
		check(a, TCP_CLOSE, "the rest read from the closed socket");
	}
	close(a->fd);
	close(b->fd);
}

/* A full receive queue keeps the FIN from being sent: FIN_WAIT1 and LAST_ACK last. */
static void fin_queued(void)
{
	struct end c, s;

	open_pair(&c, &s);
	put(&c, 100 << 20);
	shutdown(c.fd, SHUT_WR);
	check(&c, TCP_FIN_WAIT1, "FIN behind a full queue");
	check(&s, TCP_ESTABLISHED, "which the other end does not see yet");
	put(&s, 10);
	shutdown(s.fd, SHUT_WR);
	check(&c, TCP_CLOSING, "FINs crossed: both sent, ours not acknowledged");
	check(&s, TCP_FIN_WAIT2, "the other one's is acknowledged");
	get(&c, 100);
	check(&c, TCP_CLOSING, "reads while closing");
	while (get(&s, 1 << 20) > 0)
		;
	check(&s, TCP_CLOSE, "all read: closed");
	check(&c, TCP_CLOSE, "closed");
	close(c.fd);
	close(s.fd);

	open_pair(&c, &s);
	put(&s, 100 << 20);
	shutdown(c.fd, SHUT_WR);
	wait_state(&s, TCP_CLOSE_WAIT);
	shutdown(s.fd, SHUT_WR);
	check(&s, TCP_LAST_ACK, "LAST_ACK behind a full queue");
	check(&c, TCP_FIN_WAIT2, "the other end still reads");
	while (get(&c, 1 << 20) > 0)
		;
	check(&s, TCP_CLOSE, "LAST_ACK -> CLOSE");
	check(&c, TCP_CLOSE, "closed");
	close(c.fd);
	close(s.fd);
}

static void reset(bool unread, bool answered, bool fetched)
{
	struct end c, s, other_c, other_s;
	struct cman_leg leg, other;

	open_pair(&c, &s);
	open_pair(&other_c, &other_s);
	if (unread)
		put(&c, 10);
	if (answered) {
		put(&s, 20);
		get(&c, 100);
	}
	wait_state(&s, TCP_ESTABLISHED);
	cman_sock_abort(c.fd);
	wait_state(&s, TCP_CLOSE);
	if (fetched)
		ok(cman_sock_error(s.fd) == ECONNRESET && recv(s.fd, &leg, 1, MSG_DONTWAIT) >= 0,
		   "once its error is fetched, a reset socket says end of file");
	must(!cman_sock_counters(s.fd, false, &leg) &&
		     !cman_sock_counters(other_c.fd, true, &other),
	     "counters");
	ok(cman_leg_was_reset(&leg, &other), "reset%s%s: known by the counters",
	   unread ? ", with unread data" : "", answered ? ", after an answer" : "");
	close(s.fd);
	close(other_c.fd);
	close(other_s.fd);
}

static void connecting(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(1) };
	struct end e = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .initiated = true };

	check(&e, TCP_CLOSE, "not connected");
	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	connect(e.fd, (struct sockaddr *)&sin, sizeof(sin));
	check(&e, TCP_CLOSE, "refused");
	close(e.fd);
	e.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	inet_pton(AF_INET, "192.0.2.1", &sin.sin_addr); /* the test's route to nowhere */
	connect(e.fd, (struct sockaddr *)&sin, sizeof(sin));
	check(&e, TCP_SYN_SENT, "nobody answers");
	close(e.fd);
}

int main(void)
{
	static const int families[] = { AF_INET, AF_INET6 };

	for (int n = 0; n < 2; n++) {
		family = families[n];
		printf("# %s\n", family == AF_INET ? "IPv4" : "IPv6");
		established();
		for (int k = 0; k < 4; k++)
			half_closed(k & 1, k & 2);
		fin_queued();
		for (int k = 0; k < 8; k++)
			reset(k & 1, k & 2, k & 4);
	}
	connecting();
	printf("1..%u\n", tests);
	return failed != 0;
}
