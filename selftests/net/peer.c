/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both ends of one connection through a relay, told word by word what to do, so that a test can say
 * exactly when who sends, half-closes, resets or does not read:
 *
 *	peer pair CONNECT LISTEN server-words... -- client-words...
 *	peer connect CONNECT words...	only the client
 *	peer listen LISTEN words...	only the server; prints "ready"
 *	peer notify PATH		prints what comes on a datagram socket until READY=1
 *
 * Words that take no connection stand first: source=ADDR (bind before connect), rcvbuf=N, sndbuf=N.
 * The first word that does not come true ends the program with status 1 and says which it was. A
 * whole run may take TIMEOUT_S.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_S 15

static const char *me = "peer", *word = "";
static int sock = -1, other = -1; /* @other: the other end of a pair */
static uint64_t sent, received;	  /* positions in the two patterns */
static uint8_t salt_out, salt_in;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fprintf(stderr, "%s: %s: ", me, word);
	vfprintf(stderr, format, ap);
	fprintf(stderr, " (sent %llu, received %llu)\n", (unsigned long long)sent,
		(unsigned long long)received);
	va_end(ap);
	exit(1);
}

static socklen_t address(const char *text, struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	const char *colon = strrchr(text, ':');
	char host[64];
	size_t n = colon ? (size_t)(colon - text) : 0;

	memset(ss, 0, sizeof(*ss));
	if (!colon || n >= sizeof(host))
		fail("%s: expected ADDR:PORT", text);
	if (*text == '[') {
		memcpy(host, text + 1, n - 2);
		host[n - 2] = '\0';
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)atoi(colon + 1));
		if (inet_pton(AF_INET6, host, &in6->sin6_addr) != 1)
			fail("%s: no IPv6 address", host);
		return sizeof(*in6);
	}
	memcpy(host, text, n);
	host[n] = '\0';
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
		fail("%s: no IPv4 address", host);
	return sizeof(*in);
}

static uint64_t number(const char *arg)
{
	char *end = NULL;
	uint64_t n = arg ? strtoull(arg, &end, 10) : 0;

	if (!arg || !*arg || *end)
		fail("expected a number");
	return n;
}

/* ---- the pattern: every byte follows from its position and the sender ---- */

static uint8_t pattern(uint64_t position, uint8_t salt)
{
	uint64_t x = (position / 8 + 1) * 0x9e3779b97f4a7c15ull;

	return (uint8_t)((x ^ x >> 29) >> (position % 8 * 8)) ^ salt;
}

static ssize_t send_pattern(uint64_t n, int flags)
{
	uint8_t buf[65536];
	ssize_t got;

	if (n > sizeof(buf))
		n = sizeof(buf);
	for (size_t i = 0; i < n; i++)
		buf[i] = pattern(sent + i, salt_out);
	got = send(sock, buf, n, flags | MSG_NOSIGNAL);
	if (got > 0)
		sent += (uint64_t)got;
	return got;
}

static ssize_t receive_pattern(uint64_t n, int flags)
{
	uint8_t buf[65536];
	ssize_t got = recv(sock, buf, n < sizeof(buf) ? n : sizeof(buf), flags);

	for (ssize_t i = 0; i < got; i++)
		if (buf[i] != pattern(received + (uint64_t)i, salt_in))
			fail("wrong byte at %llu", (unsigned long long)received + (uint64_t)i);
	if (got > 0)
		received += (uint64_t)got;
	return got;
}

static void send_all(uint64_t n, size_t piece)
{
	while (n) {
		ssize_t got = send_pattern(n < piece ? n : piece, 0);

		if (got < 0)
			fail("%s", strerror(errno));
		n -= (uint64_t)got;
	}
}

static void receive_all(uint64_t n)
{
	while (n) {
		ssize_t got = receive_pattern(n, 0);

		if (got <= 0)
			fail("%s", got ? strerror(errno) : "end of file");
		n -= (uint64_t)got;
	}
}

static void drain(void)
{
	ssize_t n;

	while ((n = receive_pattern(UINT64_MAX, 0)) > 0)
		;
	if (n < 0)
		fail("%s", strerror(errno));
}

static void duplex(uint64_t n)
{
	uint64_t out = n, in = n;

	while (out || in) {
		struct pollfd p = { .fd = sock,
				    .events = (short)((out ? POLLOUT : 0) | (in ? POLLIN : 0)) };
		ssize_t got;

		poll(&p, 1, -1);
		if (out && (p.revents & POLLOUT)) {
			got = send_pattern(out, MSG_DONTWAIT);
			if (got < 0 && errno != EAGAIN)
				fail("%s", strerror(errno));
			out -= got > 0 ? (uint64_t)got : 0;
		}
		if (in && (p.revents & (POLLIN | POLLHUP | POLLERR))) {
			got = receive_pattern(in, MSG_DONTWAIT);
			if (!got || (got < 0 && errno != EAGAIN))
				fail("%s", got ? strerror(errno) : "end of file");
			in -= got > 0 ? (uint64_t)got : 0;
		}
	}
}

/* Sends until nothing has gone out for a while; fails above @most bytes. */
static void fill(uint64_t most)
{
	struct pollfd p = { .fd = sock, .events = POLLOUT };

	while (poll(&p, 1, 300) == 1) {
		if (send_pattern(UINT64_MAX, MSG_DONTWAIT) < 0 && errno != EAGAIN)
			fail("%s", strerror(errno));
		if (sent > most)
			fail("no back-pressure: more than %llu", (unsigned long long)most);
	}
}

/* ---- what ends a connection ---- */

static void expect_eof(void)
{
	char c;
	ssize_t n = recv(sock, &c, 1, 0);

	if (n)
		fail("expected the end of file: %s", n < 0 ? strerror(errno) : "data came");
}

/* Data before it may come: it must be right. */
static void expect_reset(void)
{
	ssize_t n;

	while ((n = receive_pattern(UINT64_MAX, 0)) > 0)
		;
	if (!n)
		fail("expected a reset: end of file");
	if (errno != ECONNRESET)
		fail("expected a reset: %s", strerror(errno));
}

/* Without reading: who waits in poll() only must learn it as well. */
static void expect_error(void)
{
	struct pollfd p = { .fd = sock };

	if (poll(&p, 1, 5000) != 1)
		fail("expected an error: nothing in 5 s");
	if (!(p.revents & POLLERR))
		fail("expected POLLERR: revents %x", (unsigned int)p.revents);
}

static void reset(void)
{
	struct linger l = { .l_onoff = 1 };

	setsockopt(sock, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(sock);
	sock = -1;
}

static void send_file(const char *path)
{
	int fd = open(path, O_RDONLY);
	char buf[65536];
	ssize_t n;

	if (fd < 0)
		fail("%s", strerror(errno));
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t done = 0; done < n;) {
			ssize_t got = send(sock, buf + done, (size_t)(n - done), MSG_NOSIGNAL);

			if (got < 0)
				fail("%s", strerror(errno));
			done += got;
		}
	close(fd);
}

static void receive_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	char buf[65536];
	ssize_t n;

	if (fd < 0)
		fail("%s", strerror(errno));
	while ((n = recv(sock, buf, sizeof(buf), 0)) > 0)
		if (write(fd, buf, (size_t)n) != n)
			fail("%s", strerror(errno));
	if (n < 0)
		fail("%s", strerror(errno));
	close(fd);
}

static void expect_text(const char *text)
{
	char buf[512] = "";
	size_t n = strlen(text), have = 0;

	while (have < n) {
		ssize_t got = recv(sock, buf + have, n - have, 0);

		if (got <= 0)
			fail("%s after \"%.*s\"", got ? strerror(errno) : "end of file", (int)have,
			     buf);
		have += (size_t)got;
	}
	if (memcmp(buf, text, n))
		fail("got \"%.*s\"", (int)n, buf);
}

static void send_text(const char *text)
{
	if (send(sock, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		fail("%s", strerror(errno));
}

/* The peer's address as this end sees it, without the port. */
static void expect_peer(const char *want)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char got[INET6_ADDRSTRLEN] = "?";

	getpeername(sock, (struct sockaddr *)&ss, &len);
	inet_ntop(ss.ss_family,
		  ss.ss_family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)&ss)->sin6_addr :
					     (void *)&((struct sockaddr_in *)&ss)->sin_addr,
		  got, sizeof(got));
	if (strcmp(got, want))
		fail("the peer is %s", got);
}

static void wait_for_file(const char *path)
{
	const struct timespec pause = { .tv_nsec = 2000000 };

	while (access(path, F_OK))
		nanosleep(&pause, NULL);
}

/* ---- the two ends of a pair wait for each other ---- */

static void tell(void)
{
	if (write(other, "", 1) != 1)
		fail("the other end is gone");
}

static void hear(void)
{
	char c;

	if (read(other, &c, 1) != 1)
		fail("the other end is gone");
}

/* How many bytes this end has sent, for the other end's "hearsent": just as many must have come. */
static void tell_sent(void)
{
	if (write(other, &sent, sizeof(sent)) != sizeof(sent))
		fail("the other end is gone");
}

static void hear_sent(void)
{
	uint64_t n = 0;

	if (read(other, &n, sizeof(n)) != sizeof(n))
		fail("the other end is gone");
	if (n != received)
		fail("the other end sent %llu", (unsigned long long)n);
}

static void pause_ms(uint64_t ms)
{
	const struct timespec t = { .tv_sec = (time_t)(ms / 1000),
				    .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

static void say(const char *text)
{
	puts(text);
	fflush(stdout);
}

static void run(char *const *words)
{
	for (; *words; words++) {
		char name[32];
		const char *arg = strchr(*words, '=');

		word = *words;
		snprintf(name, sizeof(name), "%.*s", arg ? (int)(arg - word) : 31, word);
		arg = arg ? arg + 1 : NULL;
		if (!strcmp(name, "send"))
			send_all(number(arg), SIZE_MAX);
		else if (!strcmp(name, "drip"))
			send_all(number(arg), 1);
		else if (!strcmp(name, "recv"))
			receive_all(number(arg));
		else if (!strcmp(name, "drain"))
			drain();
		else if (!strcmp(name, "tellsent"))
			tell_sent();
		else if (!strcmp(name, "hearsent"))
			hear_sent();
		else if (!strcmp(name, "duplex"))
			duplex(number(arg));
		else if (!strcmp(name, "fill"))
			fill(number(arg));
		else if (!strcmp(name, "text"))
			send_text(arg);
		else if (!strcmp(name, "expect"))
			expect_text(arg);
		else if (!strcmp(name, "sendfile"))
			send_file(arg);
		else if (!strcmp(name, "recvfile"))
			receive_file(arg);
		else if (!strcmp(name, "shut"))
			shutdown(sock, SHUT_WR);
		else if (!strcmp(name, "close"))
			close(sock);
		else if (!strcmp(name, "rst"))
			reset();
		else if (!strcmp(name, "eof"))
			expect_eof();
		else if (!strcmp(name, "reset"))
			expect_reset();
		else if (!strcmp(name, "error"))
			expect_error();
		else if (!strcmp(name, "peer"))
			expect_peer(arg);
		else if (!strcmp(name, "tell"))
			tell();
		else if (!strcmp(name, "hear"))
			hear();
		else if (!strcmp(name, "wait"))
			wait_for_file(arg);
		else if (!strcmp(name, "touch"))
			close(open(arg, O_WRONLY | O_CREAT, 0600));
		else if (!strcmp(name, "sleep"))
			pause_ms(number(arg));
		else if (!strcmp(name, "say"))
			say(arg);
		else
			fail("unknown word");
	}
}

/* The words before the connection; returns the first other one. */
static char **prepare(int fd, char **words)
{
	struct sockaddr_storage ss;
	int n;

	for (; *words; words++) {
		word = *words;
		if (!strncmp(word, "source=", 7)) {
			char text[80];
			socklen_t len;

			snprintf(text, sizeof(text), strchr(word, ':') ? "[%s]:0" : "%s:0",
				 word + 7);
			len = address(text, &ss);
			if (bind(fd, (struct sockaddr *)&ss, len) < 0)
				fail("%s", strerror(errno));
		} else if (!strncmp(word, "rcvbuf=", 7)) {
			n = atoi(word + 7);
			setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, sizeof(n));
		} else if (!strncmp(word, "sndbuf=", 7)) {
			n = atoi(word + 7);
			setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof(n));
		} else {
			break;
		}
	}
	return words;
}

static int listen_on(const char *text, int *ret_fd)
{
	struct sockaddr_storage ss;
	socklen_t len = address(text, &ss);
	int one = 1;

	*ret_fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(*ret_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(*ret_fd, (struct sockaddr *)&ss, len) < 0 || listen(*ret_fd, 64) < 0)
		fail("cannot listen on %s: %s", text, strerror(errno));
	return 0;
}

static int serve(int fd, char **words)
{
	int one = 1;

	me = "server";
	salt_out = 0x55;
	words = prepare(fd, words);
	word = "accept";
	sock = accept(fd, NULL, NULL);
	close(fd);
	if (sock < 0)
		fail("%s", strerror(errno));
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	run(words);
	return 0;
}

static int connect_to(const char *text, char **words)
{
	struct sockaddr_storage ss;
	socklen_t len = address(text, &ss);
	int one = 1;

	me = "client";
	salt_in = 0x55;
	sock = socket(ss.ss_family, SOCK_STREAM, 0);
	words = prepare(sock, words);
	if (*words && !strcmp(*words, "refused")) {
		word = "connect";
		if (!connect(sock, (struct sockaddr *)&ss, len))
			fail("expected to be refused: connected");
		if (errno != ECONNREFUSED)
			fail("expected to be refused: %s", strerror(errno));
		return 0;
	}
	word = "connect";
	if (connect(sock, (struct sockaddr *)&ss, len) < 0)
		fail("%s", strerror(errno));
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	run(words);
	return 0;
}

static int pair(const char *to, const char *at, char **server, char **client)
{
	int fds[2], fd, status;
	pid_t pid;

	listen_on(at, &fd);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		fail("%s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		alarm(TIMEOUT_S - 1);
		close(fds[0]);
		other = fds[1];
		exit(serve(fd, server));
	}
	close(fds[1]);
	close(fd);
	other = fds[0];
	connect_to(to, client);
	close(sock);
	word = "wait";
	if (waitpid(pid, &status, 0) < 0 || status)
		fail("the server failed");
	return 0;
}

static int notify(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	char buf[1024];
	ssize_t n;

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		fail("%s: %s", path, strerror(errno));
	for (;;) {
		n = recv(fd, buf, sizeof(buf) - 1, 0);
		if (n < 0)
			fail("%s", strerror(errno));
		buf[n] = '\0';
		say(buf);
		if (strstr(buf, "READY=1"))
			return 0;
	}
}

static void on_alarm(int sig)
{
	(void)sig;
	fail("not in %d s", TIMEOUT_S);
}

int main(int argc, char **argv)
{
	int fd, i;

	signal(SIGALRM, on_alarm);
	alarm(TIMEOUT_S);
	if (argc >= 4 && !strcmp(argv[1], "pair")) {
		for (i = 4; i < argc && strcmp(argv[i], "--"); i++)
			;
		if (i < argc) {
			argv[i] = NULL;
			return pair(argv[2], argv[3], argv + 4, argv + i + 1);
		}
	} else if (argc >= 3 && !strcmp(argv[1], "connect")) {
		return connect_to(argv[2], argv + 3);
	} else if (argc >= 3 && !strcmp(argv[1], "listen")) {
		listen_on(argv[2], &fd);
		say("ready");
		return serve(fd, argv + 3);
	} else if (argc == 3 && !strcmp(argv[1], "notify")) {
		return notify(argv[2]);
	}
	fprintf(stderr, "usage: peer pair CONNECT LISTEN words -- words | connect CONNECT words |\n"
			"       listen LISTEN words | notify PATH\n");
	return 2;
}
