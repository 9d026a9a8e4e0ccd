// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Somebody in the path of TLS connections who does not play by the rules, so that peers which do can be
 * used with it: accepts on 127.0.0.1:PORT, connects to 127.0.0.1:TARGET, and passes on
 *
 *	tls_peer PORT TARGET trickle	one byte at a time, in both directions
 *	tls_peer PORT TARGET gather	what comes within 30 ms in one piece: data behind Finished
 *	tls_peer PORT TARGET mac K up|down
 *	tls_peer PORT TARGET header K up|down
 *					as it is, but changes the last byte, or the length, of record number K
 *					of type 23 in that direction
 *	tls_peer PORT TARGET cut K up|down
 *					as it is, but ends both connections with a FIN before that record
 *
 * One process a connection. Ends with its parent.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER 5

enum mode { TRICKLE, GATHER, MAC, LENGTH, CUT };

static const char *const modes[] = { "trickle", "gather", "mac", "header", "cut" };

static enum mode mode;
static unsigned int record;
static int victim; /* direction that is tampered with */

/* Where a direction is in its records. */
struct records {
	unsigned int seen; /* of type 23 */
	unsigned int have; /* bytes of the header */
	unsigned int left; /* bytes of the content */
	uint8_t header[HEADER];
};

/* One byte passes; false: the connection is to end before it. */
static bool tamper(struct records *r, uint8_t *byte)
{
	if (r->left) {
		if (--r->left == 0 && mode == MAC && r->header[0] == 23 && r->seen == record)
			*byte ^= 1;
		return true;
	}
	r->header[r->have++] = *byte;
	if (r->have == 1 && *byte == 23 && ++r->seen == record) {
		if (mode == CUT)
			return false;
	} else if (r->have == 4 && r->header[0] == 23 && r->seen == record && mode == LENGTH) {
		*byte = 0xff;
	} else if (r->have == HEADER) {
		r->left = (unsigned int)r->header[3] << 8 | r->header[4];
		r->have = 0;
	}
	return true;
}

static bool send_all(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		size_t piece = mode == TRICKLE ? 1 : len;
		ssize_t n = send(fd, data, piece, MSG_NOSIGNAL);

		if (n < 0)
			return false;
		data += n;
		len -= (size_t)n;
		if (mode == TRICKLE)
			usleep(500);
	}
	return true;
}

/* False: the connection is over. */
static bool pass(int from, int to, bool tampered, struct records *r, bool *ret_eof)
{
	uint8_t data[16384];
	size_t keep;
	ssize_t n;

	if (mode == GATHER)
		usleep(30000);
	n = recv(from, data, sizeof(data), 0);
	if (n < 0)
		return false;
	*ret_eof = n == 0;
	if (n == 0)
		return !shutdown(to, SHUT_WR);
	for (keep = 0; tampered && keep < (size_t)n; keep++)
		if (!tamper(r, &data[keep]))
			break;
	if (!tampered)
		keep = (size_t)n;
	return send_all(to, data, keep) && keep == (size_t)n;
}

static void relay(const int fds[2])
{
	struct records r[2] = { { 0 } };
	bool eof[2] = { false, false };

	while (!eof[0] || !eof[1]) {
		struct pollfd p[2];

		for (int dir = 0; dir < 2; dir++)
			p[dir] = (struct pollfd){ .fd = eof[dir] ? -1 : fds[dir],
						  .events = POLLIN };
		if (poll(p, 2, -1) < 0)
			return;
		for (int dir = 0; dir < 2; dir++)
			if (p[dir].revents &&
			    !pass(fds[dir], fds[!dir], mode >= MAC && dir == victim, &r[dir],
				  &eof[dir]))
				return;
	}
}

static struct sockaddr_in address(const char *port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static bool parse(int argc, char **argv)
{
	int n = (int)(sizeof(modes) / sizeof(*modes));

	if (argc < 4)
		return false;
	for (mode = TRICKLE; (int)mode < n; mode++)
		if (!strcmp(argv[3], modes[mode]))
			break;
	if ((int)mode == n || argc != (mode < MAC ? 4 : 6))
		return false;
	if (mode >= MAC) {
		record = (unsigned int)atoi(argv[4]);
		victim = !strcmp(argv[5], "down");
	}
	return true;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at, target;
	int fd, one = 1;

	if (!parse(argc, argv)) {
		fprintf(stderr, "usage: see tls_peer.c\n");
		return 2;
	}
	at = address(argv[1]);
	target = address(argv[2]);
	signal(SIGCHLD, SIG_IGN);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 64)) {
		perror(argv[1]);
		return 1;
	}
	for (;;) {
		int fds[2];

		fds[0] = accept(fd, NULL, NULL);
		if (fds[0] < 0 || fork()) {
			if (fds[0] >= 0)
				close(fds[0]);
			continue;
		}
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fd);
		fds[1] = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(fds[1], (struct sockaddr *)&target, sizeof(target)))
			relay(fds);
		return 0;
	}
}
