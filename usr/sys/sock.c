/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCP socket helpers: see sock.h. The one thing with a twist is reading the counters: a socket
 * that nobody relays still receives and is acknowledged, so the three calls are repeated until
 * they describe one moment.
 */
#include "usr/sys/sock.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COUNTER_TRIES 10000

static const uint8_t mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

socklen_t cman_sockaddr(struct sockaddr_storage *ss, uint16_t family, const uint8_t addr[16],
			uint16_t port)
{
	memset(ss, 0, sizeof(*ss));
	if (family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)ss;

		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, addr + 12, 4);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	memcpy(&in6->sin6_addr, addr, 16);
	return sizeof(*in6);
}

int cman_sockaddr_get(const struct sockaddr_storage *ss, uint8_t ret_addr[16], uint16_t *ret_port)
{
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

		memcpy(ret_addr, mapped_prefix, 12);
		memcpy(ret_addr + 12, &in->sin_addr, 4);
		*ret_port = ntohs(in->sin_port);
	} else if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

		memcpy(ret_addr, &in6->sin6_addr, 16);
		*ret_port = ntohs(in6->sin6_port);
	} else {
		return -EAFNOSUPPORT;
	}
	return ss->ss_family;
}

uint64_t cman_sock_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (fd <= 0 || getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
		return 0;
	return cookie;
}

int cman_sock_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return errno;
	return err;
}

static int tcp_info(int fd, struct tcp_info *info)
{
	socklen_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) < 0 ? -errno : 0;
}

int cman_sock_counters(int fd, bool initiated, struct cman_leg *ret_leg)
{
	struct tcp_info before, after;
	int inq, outq, err;

	err = tcp_info(fd, &before);
	if (err)
		return err;
	for (int i = 0; i < COUNTER_TRIES; i++) {
		if (ioctl(fd, SIOCINQ, &inq) < 0 || ioctl(fd, SIOCOUTQ, &outq) < 0)
			return -errno;
		err = tcp_info(fd, &after);
		if (err)
			return err;
		if (before.tcpi_bytes_received == after.tcpi_bytes_received &&
		    before.tcpi_bytes_acked == after.tcpi_bytes_acked &&
		    before.tcpi_state == after.tcpi_state) {
			*ret_leg = (struct cman_leg){
				.tcp_state = after.tcpi_state,
				.initiated = initiated,
				.received = after.tcpi_bytes_received,
				.acked = after.tcpi_bytes_acked,
				.inq = (uint32_t)inq,
				.outq = (uint32_t)outq,
			};
			return 0;
		}
		before = after;
	}
	return -EBUSY;
}

void cman_sock_abort(int fd)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

static int listen_on(uint16_t family, const uint8_t addr[16], uint16_t port, int freebind,
		     int *ret_fd)
{
	struct sockaddr_storage ss;
	socklen_t len = cman_sockaddr(&ss, family, addr, port);
	int one = 1, err;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
	    (family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
	    (freebind && setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one)) < 0) ||
	    bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, SOMAXCONN) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

int cman_sock_listen(uint16_t family, const uint8_t addr[16], uint16_t port, int *ret_fd)
{
	return listen_on(family, addr, port, 0, ret_fd);
}

int cman_sock_listen_free(uint16_t family, const uint8_t addr[16], uint16_t port, int *ret_fd)
{
	return listen_on(family, addr, port, 1, ret_fd);
}
