/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The SOCK_DIAG dumps (diag.h tells the story). Always dumps, never a request for one socket:
 * that one looks a listener up as a packet would, and a steering program would answer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "usr/sys/diag.h"

#define STATE(state) (1u << (state))
#define CONNECTED \
	(STATE(TCP_ESTABLISHED) | STATE(TCP_SYN_SENT) | STATE(TCP_SYN_RECV) | \
	 STATE(TCP_FIN_WAIT1) | STATE(TCP_FIN_WAIT2) | STATE(TCP_CLOSE_WAIT) | \
	 STATE(TCP_LAST_ACK) | STATE(TCP_CLOSING))

#define STOPPED_BY_CALLER INT32_MIN /* no errno: tells the callback's answer from libmnl's */

struct dump {
	/* one message of the answer: 0 or anything else to stop */
	int (*message)(struct dump *dump, const struct inet_diag_msg *msg);
	cman_diag_fn fn;
	void *arg;
	uint64_t cookie; /* listener wanted */
	const uint8_t *addr;
	uint16_t port;
	struct cman_diag_queue queue;
	bool found;
	int stop;
};

static uint64_t cookie_of(const struct inet_diag_msg *msg)
{
	return (uint64_t)msg->id.idiag_cookie[1] << 32 | msg->id.idiag_cookie[0];
}

static void copy_address(uint8_t addr[16], uint8_t family, const __be32 from[4])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (family == AF_INET6) {
		memcpy(addr, from, 16);
		return;
	}
	memcpy(addr, mapped, 12);
	memcpy(addr + 12, from, 4);
}

static int on_message(const struct nlmsghdr *header, void *arg)
{
	struct dump *dump = arg;

	if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    mnl_nlmsg_get_payload_len(header) < sizeof(struct inet_diag_msg))
		return MNL_CB_OK;
	dump->stop = dump->message(dump, mnl_nlmsg_get_payload(header));
	return dump->stop ? MNL_CB_STOP : MNL_CB_OK;
}

/* 0, -errno, or STOPPED_BY_CALLER with dump->stop set. */
static int run(struct mnl_socket *nl, uint8_t family, uint32_t states, struct dump *dump)
{
	uint64_t room[32768 / sizeof(uint64_t)]; /* what the kernel fills at most */
	struct inet_diag_req_v2 *request;
	struct nlmsghdr *header = mnl_nlmsg_put_header(room);
	const unsigned int seq = 1u + family; /* the two dumps of one socket differ */
	int more;

	header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	header->nlmsg_seq = seq;
	request = mnl_nlmsg_put_extra_header(header, sizeof(*request));
	request->sdiag_family = family;
	request->sdiag_protocol = IPPROTO_TCP;
	request->idiag_states = states;
	if (mnl_socket_sendto(nl, header, header->nlmsg_len) < 0)
		return -errno;
	do {
		ssize_t n = mnl_socket_recvfrom(nl, room, sizeof(room));

		if (n < 0)
			return -errno;
		more = mnl_cb_run(room, (size_t)n, seq, mnl_socket_get_portid(nl), on_message,
				  dump);
		if (dump->stop)
			return STOPPED_BY_CALLER;
	} while (more > 0);
	return more < 0 ? -errno : 0;
}

static int run_both(uint32_t states, struct dump *dump)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	int err = 0;

	if (!nl)
		return -errno;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID))
		err = -errno;
	for (size_t i = 0; i < sizeof(families) && !err; i++) {
		err = run(nl, families[i], states, dump);
		/* nobody answers for the family: a kernel without inet_diag, or without IPv6 */
		if (err == -ENOENT)
			err = families[i] == AF_INET6 ? 0 : -EOPNOTSUPP;
	}
	mnl_socket_close(nl);
	return err == STOPPED_BY_CALLER ? dump->stop : err;
}

static int connected(struct dump *dump, const struct inet_diag_msg *msg)
{
	struct cman_diag_socket found = {
		.cookie = cookie_of(msg),
		.local_port = ntohs(msg->id.idiag_sport),
		.remote_port = ntohs(msg->id.idiag_dport),
		.state = msg->idiag_state,
	};

	copy_address(found.local, msg->idiag_family, msg->id.idiag_src);
	copy_address(found.remote, msg->idiag_family, msg->id.idiag_dst);
	return dump->fn(dump->arg, &found);
}

int cman_diag_sockets(cman_diag_fn fn, void *arg)
{
	struct dump dump = { .message = connected, .fn = fn, .arg = arg };

	return run_both(CONNECTED, &dump);
}

static int listening(struct dump *dump, const struct inet_diag_msg *msg)
{
	uint8_t addr[16];

	if (dump->cookie) {
		if (cookie_of(msg) != dump->cookie)
			return 0;
	} else {
		copy_address(addr, msg->idiag_family, msg->id.idiag_src);
		if (ntohs(msg->id.idiag_sport) != dump->port || memcmp(addr, dump->addr, 16))
			return 0;
	}
	/* of a listening socket these two are the queue's length and its limit */
	dump->queue.length += msg->idiag_rqueue;
	dump->queue.backlog += msg->idiag_wqueue;
	dump->found = true;
	return 0;
}

int cman_diag_listener(uint64_t cookie, const uint8_t addr[16], uint16_t port,
		       struct cman_diag_queue *ret_queue)
{
	struct dump dump = { .message = listening, .cookie = cookie, .addr = addr, .port = port };
	int err;

	if (!cookie && !addr)
		return -EINVAL;
	err = run_both(STATE(TCP_LISTEN), &dump);
	if (err)
		return err;
	if (!dump.found)
		return -ENOENT;
	*ret_queue = dump.queue;
	return 0;
}

int cman_diag_listener_fd(int fd, struct cman_diag_queue *ret_queue)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		return -errno;
	if (info.tcpi_state != TCP_LISTEN)
		return -ENOENT;
	ret_queue->length = info.tcpi_unacked;
	ret_queue->backlog = info.tcpi_sacked;
	return 0;
}
