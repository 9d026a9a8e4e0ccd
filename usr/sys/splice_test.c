/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The self-test of relaying in the kernel. The relay is two socket pairs over loopback:
 *
 *	sender -> leg 0 ===kernel===> leg 1 -> receiver
 *
 * The sender's segments that begin with old bytes come from a second socket in the sender's place:
 * made by TCP_REPAIR with a sequence number that lies `old` bytes back, it sends these and new ones
 * in one segment, as a sender may that was not told in time what has arrived.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "usr/sys/sock.h"
#include "usr/sys/splice_impl.h"

#define WAIT_MS 1000
#define WINDOW	65535
#define CLIENT	0 /* in test.fd[] */
#define LEG	1
#define OTHER	2
#define SERVER	3

struct test {
	struct cman_splice_object object;
	int sessions_fd;
	struct cman_slot *slot;
	int fd[4]; /* sender, leg 0, leg 1, receiver */
	uint32_t sent, received;
	char *why;
};

/* No two places within 64 KiB look alike. */
static uint8_t pattern(uint32_t position)
{
	return (uint8_t)(position * 167 + (position >> 8) * 13);
}

static int fails(struct test *t, const char *what, int err)
{
	if (err)
		snprintf(t->why, CMAN_SPLICE_WHY, "the self-test could not be run: %s: %s", what,
			 strerror(-err));
	return err;
}

static int make_pair(int *ret_connected, int *ret_accepted)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err = 0;

	*ret_connected = fd;
	if (listener < 0 || fd < 0 || bind(listener, (struct sockaddr *)&sin, sizeof(sin)) ||
	    listen(listener, 1) || getsockname(listener, (struct sockaddr *)&sin, &len) ||
	    connect(fd, (struct sockaddr *)&sin, sizeof(sin)) ||
	    (*ret_accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) ||
	    setsockopt(*ret_accepted, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)))
		err = -errno;
	if (listener >= 0)
		close(listener);
	return err;
}

static int send_new(struct test *t, uint32_t n, uint32_t old)
{
	uint8_t bytes[16384];

	for (uint32_t i = 0; i < n + old; i++)
		bytes[i] = pattern(t->sent - old + i);
	if (send(t->fd[CLIENT], bytes, n + old, MSG_NOSIGNAL) != (ssize_t)(n + old))
		return errno ? -errno : -EIO;
	t->sent += n;
	return 0;
}

/* All that was sent comes out of @fd, in order, once, and nothing more. */
static int expect_all(struct test *t, int fd, const char *when)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint8_t bytes[16384];
	int wait = WAIT_MS;

	while (poll(&p, 1, wait) > 0) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (bytes[i] != pattern(t->received + (uint32_t)i)) {
				snprintf(t->why, CMAN_SPLICE_WHY,
					 "on this kernel it fails its self-test: byte %u was wrong "
					 "%s",
					 t->received + (uint32_t)i, when);
				return -EOPNOTSUPP;
			}
		t->received += (uint32_t)n;
		/* a byte too many would come at once: all goes over loopback */
		if (t->received >= t->sent)
			wait = 5;
	}
	if (t->received == t->sent)
		return 0;
	snprintf(t->why, CMAN_SPLICE_WHY,
		 "on this kernel it fails its self-test: %u bytes came of %u %s", t->received,
		 t->sent, when);
	return -EOPNOTSUPP;
}

static int queue_seq(int fd, int queue, uint32_t *seq, bool set)
{
	socklen_t len = sizeof(*seq);

	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)))
		return -errno;
	if (set ? setsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, len) :
		  getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, &len))
		return -errno;
	return 0;
}

static int option(int fd, int name, int value)
{
	return setsockopt(fd, IPPROTO_TCP, name, &value, sizeof(value)) ? -errno : 0;
}

/* Puts another socket in the sender's place whose next byte is @old bytes back. */
static int step_back(struct test *t, uint32_t old)
{
	struct tcp_repair_opt options[] = {
		{ TCPOPT_MAXSEG, 32767 },
		{ TCPOPT_WINDOW, 0 },
		{ TCPOPT_SACK_PERMITTED, 0 },
		{ TCPOPT_TIMESTAMP, 0 },
	};
	struct sockaddr_in here, there;
	socklen_t length = sizeof(here), size = sizeof(uint32_t);
	struct tcp_repair_window window;
	struct tcp_info info;
	uint32_t rcv = 0, snd = 0, stamp = 0;
	int fd = t->fd[CLIENT], err;

	err = option(fd, TCP_REPAIR, 1);
	if (!err && (getsockname(fd, (struct sockaddr *)&here, &length) ||
		     getpeername(fd, (struct sockaddr *)&there, &length) ||
		     getsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &stamp, &size)))
		err = -errno;
	length = sizeof(info);
	if (!err && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		err = -errno;
	if (!err)
		err = queue_seq(fd, TCP_RECV_QUEUE, &rcv, false);
	if (!err)
		err = queue_seq(fd, TCP_SEND_QUEUE, &snd, false);
	close(fd); /* silent */
	snd -= old;
	options[1].opt_val = info.tcpi_snd_wscale | (uint32_t)info.tcpi_rcv_wscale << 16;
	t->fd[CLIENT] = fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (!err)
		err = option(fd, TCP_REPAIR, 1);
	if (!err && bind(fd, (struct sockaddr *)&here, sizeof(here)))
		err = -errno;
	if (!err)
		err = queue_seq(fd, TCP_RECV_QUEUE, &rcv, true);
	if (!err)
		err = queue_seq(fd, TCP_SEND_QUEUE, &snd, true);
	if (!err)
		err = option(fd, TCP_MAXSEG, 32767);
	if (!err && connect(fd, (struct sockaddr *)&there, sizeof(there)))
		err = -errno;
	if (!err && setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options,
			       (info.tcpi_options & TCPI_OPT_TIMESTAMPS) ? sizeof(options) :
									   3 * sizeof(*options)))
		err = -errno;
	if (!err && setsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &stamp, sizeof(stamp)))
		err = -errno;
	/* by itself it would learn the window from an acknowledgement of what it has not sent yet */
	window = (struct tcp_repair_window){
		.snd_wl1 = rcv,
		.snd_wnd = WINDOW,
		.max_window = WINDOW,
		.rcv_wnd = WINDOW,
		.rcv_wup = rcv,
	};
	if (!err && setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof(window)))
		err = -errno;
	if (!err)
		err = option(fd, TCP_REPAIR, 0);
	if (!err)
		err = option(fd, TCP_NODELAY, 1);
	return err;
}

static int run(struct test *t)
{
	static const struct {
		uint32_t first, old, new;
		const char *when;
	} step[] = {
		{ 100, 50, 50, "when 50 old bytes came with 50 new ones" },
		{ 9000, 8191, 100, "when 8191 old bytes came with 100 new ones" },
		{ 3, 1, 5000, "when 1 old byte came with 5000 new ones" },
	};
	struct cman_splice_side side[2];
	const struct cman_splice *sp = &t->object.splice;
	struct cman_splice_leg leg;
	uint64_t cookies[2];
	int err;

	err = make_pair(&t->fd[CLIENT], &t->fd[LEG]);
	if (!err)
		err = make_pair(&t->fd[OTHER], &t->fd[SERVER]);
	if (err)
		return fails(t, "sockets over the loopback device", err);
	for (int k = 0; k < 2; k++) {
		cookies[k] = cman_sock_cookie(t->fd[LEG + k]);
		side[k] = (struct cman_splice_side){ .fd = t->fd[LEG + k], .cookie = cookies[k] };
	}
	/* what waits already when the relay begins */
	err = send_new(t, 10, 0);
	if (!err)
		err = cman_splice_enter(sp, 0, side);
	if (err)
		return fails(t, "the sockets cannot be entered", err);
	err = expect_all(t, t->fd[SERVER], "that were waiting when it began");
	for (size_t i = 0; i < sizeof(step) / sizeof(*step) && !err; i++) {
		err = fails(t, "sending", send_new(t, step[i].first, 0));
		if (!err)
			err = expect_all(t, t->fd[SERVER], "in order");
		if (!err)
			err = fails(t, "TCP_REPAIR", step_back(t, step[i].old));
		if (!err)
			err = fails(t, "sending", send_new(t, step[i].new, step[i].old));
		if (!err)
			err = expect_all(t, t->fd[SERVER], step[i].when);
	}
	if (err)
		return err;
	err = cman_splice_leg(sp, cookies[0], &leg);
	if (err || leg.trims != sizeof(step) / sizeof(*step) || leg.broken || leg.over) {
		snprintf(t->why, CMAN_SPLICE_WHY,
			 "on this kernel it fails its self-test: of 3 segments with old bytes the "
			 "program has seen %llu",
			 err ? 0 : (unsigned long long)leg.trims);
		return -EOPNOTSUPP;
	}
	/* what comes after its end stays where user space reads it */
	t->slot->flags = CMAN_SLOT_SPLICED | CMAN_SLOT_END_CLIENT | CMAN_SLOT_END_SERVER;
	err = fails(t, "the iterator", cman_splice_end(sp));
	if (!err)
		err = fails(t, "sending", send_new(t, 500, 0));
	if (!err)
		err = fails(t, "removal", cman_splice_forget(sp, cookies));
	return err ? err : expect_all(t, t->fd[LEG], "after its end");
}

int cman_splice_test(char why[CMAN_SPLICE_WHY])
{
	struct bpf_map_create_opts options = { .sz = sizeof(options), .map_flags = BPF_F_MMAPABLE };
	struct test t = { .fd = { -1, -1, -1, -1 }, .why = why };
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int err;

	cman_splice_init(&t.object.splice);
	t.sessions_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "splice_test", sizeof(uint32_t),
				       sizeof(struct cman_slot), 1, &options);
	if (t.sessions_fd < 0)
		return fails(&t, "a map", t.sessions_fd);
	t.slot = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, t.sessions_fd, 0);
	if (t.slot == MAP_FAILED) {
		err = fails(&t, "mapping a map", -errno);
		close(t.sessions_fd);
		return err;
	}
	err = cman_splice_load(t.sessions_fd, 2, &t.object, why);
	if (!err) {
		err = run(&t);
		for (int i = 0; i < 4; i++)
			if (t.fd[i] >= 0)
				cman_sock_abort(t.fd[i]);
		cman_splice_unload(&t.object);
	}
	munmap(t.slot, page);
	close(t.sessions_fd);
	return err;
}
