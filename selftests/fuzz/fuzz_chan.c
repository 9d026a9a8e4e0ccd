// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes the receiving end of a channel. The input is what a peer sends: pieces of one length byte
 * (low 6 bits: bytes, 63 is all that is left; high 2 bits: descriptors with it) and their bytes.
 * The receiver takes what it can after each piece. Whatever comes, no descriptor may be left over
 * in the end, and a frame has exactly those that it declares.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/sys/chan.h"

#include "fuzz.h"

static bool send_piece(int fd, const uint8_t *data, size_t len, unsigned int nfds, int passed)
{
	union {
		char buf[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} control;
	const int fds[3] = { passed, passed, passed };
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;

	memset(&control, 0, sizeof(control));
	if (nfds) {
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, nfds * sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

/* false: the channel is dead */
static bool receive_all(struct cman_chan *c)
{
	int fds[CMAN_FRAME_MAX_FDS], err;
	struct cman_frame f;
	unsigned int i;

	while (!(err = cman_chan_receive(c, &f, fds))) {
		CHECK(f.nfds <= CMAN_FRAME_MAX_FDS && !c->nfds);
		for (i = 0; i < f.nfds; i++)
			CHECK(close(fds[i]) == 0);
	}
	if (err == -EAGAIN)
		return true;
	CHECK(c->why && !c->nfds);
	CHECK(cman_chan_receive(c, &f, fds) == -ESHUTDOWN);
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cman_chan c;
	int sv[2], passed, lowest, again;
	unsigned int nfds;
	bool alive = true;
	size_t n;

	passed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK(passed >= 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	cman_chan_init(&c, sv[1]);
	lowest = dup(passed);
	close(lowest);
	while (alive && size > 1) {
		n = *data & 63;
		nfds = *data >> 6;
		data++;
		size--;
		if (n == 63 || n > size)
			n = size;
		if (!n)
			continue;
		if (!send_piece(sv[0], data, n, nfds, passed))
			break;
		data += n;
		size -= n;
		alive = receive_all(&c);
	}
	shutdown(sv[0], SHUT_WR);
	if (alive)
		CHECK(!receive_all(&c)); /* EOF ends every channel */
	again = dup(passed);
	CHECK(again == lowest); /* nothing received is still open */
	close(again);
	close(sv[0]);
	cman_chan_fini(&c);
	close(passed);
	return 0;
}
