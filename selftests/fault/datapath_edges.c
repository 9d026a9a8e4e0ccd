/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Single histories of the data path that went wrong once, each arranged so that it happens every
 * time: the gateway stands still while the client prepares what it will find, a crash point is
 * armed, then it goes on. The test itself is client and server.
 *
 *	datapath_edges BIN FOLDER	the instance "edge" of FOLDER/cman.conf runs (datapath_edges.sh)
 *
 * Prints TAP. CMAN_FAULT_HISTORY=NAME: only that one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "usr/sys/crash.h"
#include "usr/sys/maps.h"

#define PORT	  9001
#define PORT_GONE 9002
#define ANYONE	  "127.0.0.1"
#define LIMITED	  "127.0.0.66" /* a rule lets one session of it in */
#define SOURCE	  "127.0.0.7"  /* of the server legs */
#define MS	  1000

static struct cman_maps maps;
static struct cman_cell *cell;
static int backend;
static unsigned int tests, failed;

static bool ok(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool ok(bool good, const char *format, ...)
{
	va_list ap;

	printf("%sok %u - ", good ? "" : "not ", ++tests);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	failed += !good;
	return good;
}

static void bail(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

/* --- client and server */

static int client(const char *from, uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	inet_pton(AF_INET, from, &sin.sin_addr);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)))
		bail("bind");
	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	sin.sin_port = htons(port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)))
		bail("connect");
	return fd;
}

/* What cman has connected to us; -1 after the time. */
static int serve(int timeout_ms)
{
	struct pollfd p = { .fd = backend, .events = POLLIN };

	return poll(&p, 1, timeout_ms) > 0 ? accept4(backend, NULL, NULL, SOCK_CLOEXEC) : -1;
}

/* Bytes until @n are there, or the end, or the time; -errno. */
static ssize_t get(int fd, void *buf, size_t n, int timeout_ms)
{
	size_t got = 0;

	while (got < n) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t r;

		if (poll(&p, 1, timeout_ms) <= 0)
			break;
		r = recv(fd, (char *)buf + got, n - got, MSG_DONTWAIT);
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

static bool put(int fd, const void *buf, size_t n)
{
	return send(fd, buf, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static bool exchange(int c, int s)
{
	char in[8];

	return c >= 0 && s >= 0 && put(c, "question", 8) && get(s, in, 8, 3 * MS) == 8 &&
	       !memcmp(in, "question", 8) && put(s, "answered", 8) && get(c, in, 8, 3 * MS) == 8 &&
	       !memcmp(in, "answered", 8);
}

static void finish(int c, int s)
{
	char byte;

	if (c >= 0)
		close(c);
	if (s >= 0) {
		get(s, &byte, 1, 2 * MS);
		close(s);
	}
}

/* --- the cell */

static pid_t holder(enum cman_role role)
{
	uint64_t word = __atomic_load_n(&cell->role[role], __ATOMIC_ACQUIRE);

	return word & CMAN_ROLE_CLAIM ? 0 : (pid_t)(word & CMAN_ROLE_PID);
}

static bool stands(pid_t pid)
{
	char path[64], text[256] = "", *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (!fgets(text, sizeof(text), f))
		*text = 0;
	fclose(f);
	end = strrchr(text, ')');
	return end && end[2] == 'T';
}

static pid_t halt(void)
{
	pid_t pid = holder(CMAN_GATEWAY);

	kill(pid, SIGSTOP);
	while (!stands(pid))
		usleep(100);
	return pid;
}

static uint32_t arm(enum cman_crash_point point)
{
	struct cman_instance *i = maps.instance;

	i->crash_also = 0;
	i->crash_count = 1;
	__atomic_store_n(&i->crash_point, point, __ATOMIC_SEQ_CST);
	return i->crash_hits;
}

static bool died(uint32_t before)
{
	for (int n = 0; n < 3000; n++) {
		if (__atomic_load_n(&maps.instance->crash_hits, __ATOMIC_ACQUIRE) != before)
			return true;
		usleep(1000);
	}
	maps.instance->crash_point = CMAN_CRASH_NONE;
	return false;
}

/* --- the histories */

/* Small pieces use up a pipe's slots: a splice then moves little, and there is more to read. */
static void small_pieces(void)
{
	static char bytes[300000];
	enum { FIRST = 16384, PIECES = 1000, PIECE = 200 };
	int c = client(ANYONE, PORT), s = serve(3 * MS), c2 = client(ANYONE, PORT),
	    s2 = serve(3 * MS);
	size_t want = FIRST + PIECES * PIECE;
	pid_t pid;

	exchange(c, s);
	exchange(c2, s2);
	pid = halt();
	put(c, bytes, FIRST);
	for (int n = 0; n < PIECES; n++) {
		put(c, bytes, PIECE);
		put(c2, bytes, 60); /* else the pieces lie side by side and become one */
	}
	usleep(20000);
	kill(pid, SIGCONT);
	ok(get(s, bytes, want, 2 * MS) == (ssize_t)want,
	   "a pipe full of small pieces is not the end");
	finish(c, s);
	finish(c2, s2);
}

/* Early data reaches the target while the state is still CONNECTING. */
static void early_data(enum cman_crash_point point)
{
	char in[300], out[150];
	uint32_t before;
	pid_t pid = halt();
	int c = client(ANYONE, PORT), s;
	ssize_t n;

	for (size_t k = 0; k < sizeof(out); k++)
		out[k] = (char)(k * 7 + 1);
	put(c, out, 100);
	before = arm(point);
	kill(pid, SIGCONT);
	ok(died(before), "the gateway dies at %s", cman_crash_name(point));
	s = serve(3 * MS);
	put(c, out + 100, 50);
	n = s < 0 ? -1 : get(s, in, sizeof(in), 300);
	ok(n == sizeof(out) && !memcmp(in, out, sizeof(out)), "early data arrives once (%zd bytes)",
	   n);
	finish(c, s);
}

/* The error of a reset socket is fetched once; the successor sees only the end of the stream. */
static void reset_is_no_end(void)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	int c = client(ANYONE, PORT), s = serve(3 * MS);
	uint32_t before;
	char in[100] = "";
	ssize_t n;

	put(s, in, sizeof(in));
	get(c, in, sizeof(in), 3 * MS);
	usleep(20000);
	before = arm(CMAN_CRASH_RELAY_READ);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(c);
	ok(died(before), "the gateway dies when it has read the error");
	n = get(s, in, 1, 3 * MS);
	ok(n == -ECONNRESET, "a client's reset is still a reset for the server (%zd)", n);
	finish(-1, s);
}

/* The state CONNECTING is stored before the leg is bound to its source. */
static void source_address(enum cman_crash_point point)
{
	struct sockaddr_in sin = { 0 };
	socklen_t len = sizeof(sin);
	uint32_t before = arm(point);
	int c = client(ANYONE, PORT), s;
	char text[32];

	ok(died(before), "the gateway dies at %s", cman_crash_name(point));
	s = serve(3 * MS);
	getpeername(s, (struct sockaddr *)&sin, &len);
	inet_ntop(AF_INET, &sin.sin_addr, text, sizeof(text));
	ok(!strcmp(text, SOURCE), "the server sees the configured source address (%s)", text);
	ok(exchange(c, s), "and the session works");
	finish(c, s);
}

/* A session whose gateway dies before it has looked at the rules meets them nevertheless. */
static void rules(enum cman_crash_point point)
{
	int c = client(LIMITED, PORT), s = serve(3 * MS), second, other;
	uint32_t before;
	char byte;

	ok(exchange(c, s), "the first session of a limited client");
	before = arm(point);
	second = client(LIMITED, PORT);
	ok(died(before), "the gateway dies at %s", cman_crash_name(point));
	ok(get(second, &byte, 1, 3 * MS) == -ECONNRESET, "the second session is refused");
	other = serve(200);
	ok(other < 0, "and reaches no server");
	finish(second, other);
	finish(c, s);
	usleep(50000);
	c = client(LIMITED, PORT);
	s = serve(3 * MS);
	ok(exchange(c, s), "when the first has ended, the next one is let in");
	finish(c, s);
}

static void adoption(void)
{
	uint32_t before = arm(CMAN_CRASH_ACCEPT_GOT_FD);
	int c = client(ANYONE, PORT), s;

	ok(died(before), "the gateway dies when it has accepted");
	s = serve(3 * MS);
	usleep(20000);
	ok(exchange(c, s), "the session is adopted, and its server leg left alone");
	finish(c, s);
}

/* Both keepers in turn: each is cloned by one that was cloned by one that was cloned... */
static uint64_t stack_kb(pid_t pid)
{
	char path[64], line[256];
	uint64_t kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "VmStk:", 6))
			kb = strtoull(line + 6, NULL, 10);
	if (f)
		fclose(f);
	return kb;
}

static void generations(void)
{
	uint64_t before = stack_kb(holder(CMAN_KEEPER)), after;

	for (int n = 0; n < 300; n++) {
		enum cman_role role = n & 1 ? CMAN_SPARE : CMAN_KEEPER;
		pid_t pid = holder(role), next = 0;

		kill(pid, SIGKILL);
		for (int k = 0; k < 20000 && (!(next = holder(role)) || next == pid); k++)
			usleep(100);
		if (!next || next == pid) {
			ok(false, "generation %d of keepers", n);
			return;
		}
	}
	after = stack_kb(holder(CMAN_KEEPER));
	ok(after <= before + 16, "300 generations of keepers, stack of %llu kB, then of %llu kB",
	   (unsigned long long)before, (unsigned long long)after);
}

/* The listener goes from the configuration while many wait in its queue. */
static void removed_listener(const char *bin, const char *folder)
{
	enum { MANY = 300 };
	static int c[MANY], s[MANY];
	char command[700];
	unsigned int served = 0, index = 0;
	pid_t pid = halt(), reload;

	while (strcmp(maps.instance->listener[index].name, "gone"))
		index++;
	for (int n = 0; n < MANY; n++)
		c[n] = client(ANYONE, PORT_GONE);
	snprintf(command, sizeof(command),
		 "sed -i '/gone/d' %s/cman.conf && exec %s/cmanctl -q reload -f %s/cman.conf >&2",
		 folder, bin, folder);
	reload = fork();
	if (!reload)
		_exit(execl("/bin/sh", "sh", "-c", command, NULL));
	for (int n = 0;
	     n < 5000 && __atomic_load_n(&maps.instance->listener[index].used, __ATOMIC_ACQUIRE);
	     n++)
		usleep(1000);
	kill(pid, SIGCONT);
	waitpid(reload, NULL, 0);
	for (int n = 0; n < MANY; n++) {
		s[n] = serve(2 * MS);
		if (s[n] < 0)
			break;
		served++;
	}
	ok(served == MANY, "all who waited at a removed listener are served (%u of %u)", served,
	   MANY);
	for (int n = 0; n < MANY; n++)
		finish(c[n], n < (int)served ? s[n] : -1);
}

int main(int argc, char **argv)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(7001) };
	const char *why = "", *only = getenv("CMAN_FAULT_HISTORY");
	int one = 1;

	if (argc != 3) {
		fprintf(stderr, "usage: datapath_edges BIN FOLDER\n");
		return 2;
	}
	if (cman_maps_open("edge", &maps, &why))
		bail(why);
	cell = &maps.cells[0];
	backend = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	setsockopt(backend, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(backend, (struct sockaddr *)&sin, sizeof(sin)) || listen(backend, 1000))
		bail("listen");
#define HISTORY(name, call) \
	if (!only || !strcmp(only, name)) \
	call
	HISTORY("pieces", small_pieces());
	HISTORY("adoption", adoption());
	HISTORY("early", early_data(CMAN_CRASH_ACCEPT_EARLY_READ));
	HISTORY("early", early_data(CMAN_CRASH_ACCEPT_CONNECTED));
	HISTORY("early", early_data(CMAN_CRASH_RELAY_SENT));
	HISTORY("early", early_data(CMAN_CRASH_RELAY_POSITION));
	HISTORY("reset", reset_is_no_end());
	HISTORY("source", source_address(CMAN_CRASH_ACCEPT_STORED_SERVER));
	HISTORY("source", source_address(CMAN_CRASH_ACCEPT_CONNECTING));
	HISTORY("rules", rules(CMAN_CRASH_ACCEPT_STATE));
	HISTORY("adopted-rules", rules(CMAN_CRASH_ACCEPT_GOT_FD));
	HISTORY("generations", generations());
	HISTORY("removed", removed_listener(argv[1], argv[2]));
	ok(!cell->lost, "no session was given up");
	printf("1..%u\n", tests);
	return failed != 0;
}
