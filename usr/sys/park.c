/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes the parking device (park.h). Its settings go in before it comes up, so that it never says
 * a word of its own; its queueing discipline is "noqueue", because a default one (fq, fq_codel)
 * would delay, reorder or drop frames by ideas of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include "usr/sys/park.h"

_Static_assert(sizeof(struct virtio_net_hdr) == CMAN_PARK_HEADER, "what IFF_VNET_HDR puts first");

/* One request to rtnetlink, and its answer. */
static int request(struct nlmsghdr *nlh)
{
	char buffer[1024];
	struct mnl_socket *socket;
	ssize_t length;
	int err = 0;

	socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!socket)
		return -errno;
	nlh->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	nlh->nlmsg_seq = 1;
	if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_sendto(socket, nlh, nlh->nlmsg_len) < 0) {
		err = -errno;
	} else {
		length = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
		if (length < 0 || mnl_cb_run(buffer, (size_t)length, 1,
					     mnl_socket_get_portid(socket), NULL, NULL) < 0)
			err = -errno;
	}
	mnl_socket_close(socket);
	return err;
}

static int set_qdisc(uint32_t ifindex)
{
	char buffer[256] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct tcmsg *tc;

	nlh->nlmsg_type = RTM_NEWQDISC;
	nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE;
	tc = mnl_nlmsg_put_extra_header(nlh, sizeof(*tc));
	tc->tcm_family = AF_UNSPEC;
	tc->tcm_ifindex = (int)ifindex;
	tc->tcm_parent = TC_H_ROOT;
	mnl_attr_put_strz(nlh, TCA_KIND, "noqueue");
	return request(nlh);
}

/* Queue length, no link-local address (and so no IPv6 traffic), no ARP; then up. */
static int set_link(uint32_t ifindex, bool ipv6)
{
	char buffer[512] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct ifinfomsg *link;

	nlh->nlmsg_type = RTM_NEWLINK;
	link = mnl_nlmsg_put_extra_header(nlh, sizeof(*link));
	link->ifi_family = AF_UNSPEC;
	link->ifi_index = (int)ifindex;
	if (ipv6) {
		struct nlattr *spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
		struct nlattr *inet6 = mnl_attr_nest_start(nlh, AF_INET6);

		mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
		mnl_attr_nest_end(nlh, inet6);
		mnl_attr_nest_end(nlh, spec);
	} else {
		mnl_attr_put_u32(nlh, IFLA_TXQLEN, CMAN_PARK_QUEUE);
		link->ifi_change = IFF_UP | IFF_NOARP;
		link->ifi_flags = IFF_UP | IFF_NOARP;
	}
	return request(nlh);
}

int cman_park_open(struct cman_park *ret_park, const char **ret_why)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	struct cman_park park = { .fd = -1 };
	int err;

	park.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (park.fd < 0) {
		*ret_why = "/dev/net/tun cannot be opened: packets cannot be parked";
		return -errno;
	}
	*ret_why = "the parking device cannot be made: CAP_NET_ADMIN is needed";
	strcpy(ifr.ifr_name, CMAN_PARK_PREFIX "%d");
	if (ioctl(park.fd, TUNSETIFF, &ifr) ||
	    ioctl(park.fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)) {
		err = -errno;
		goto err_close;
	}
	memcpy(park.name, ifr.ifr_name, sizeof(park.name));
	park.name[sizeof(park.name) - 1] = '\0';
	park.ifindex = if_nametoindex(park.name);
	if (!park.ifindex) {
		err = -errno;
		goto err_close;
	}
	*ret_why = "the parking device cannot be set up";
	err = set_link(park.ifindex, true);
	if (err == -EAFNOSUPPORT || err == -EOPNOTSUPP)
		err = 0; /* a kernel without IPv6 */
	if (!err)
		err = set_link(park.ifindex, false);
	if (!err)
		err = set_qdisc(park.ifindex);
	if (err)
		goto err_close;
	*ret_park = park;
	return 0;

err_close:
	close(park.fd);
	return err;
}

void cman_park_close(struct cman_park *park)
{
	if (park->fd >= 0)
		close(park->fd);
	park->fd = -1;
}

ssize_t cman_park_read(const struct cman_park *park, void *frame, size_t size)
{
	ssize_t length;

	do {
		length = read(park->fd, frame, size);
	} while (length < 0 && errno == EINTR);
	return length < 0 ? -errno : length;
}

int cman_park_write(const struct cman_park *park, const void *frame, size_t length)
{
	ssize_t written;

	do {
		written = write(park->fd, frame, length);
	} while (written < 0 && errno == EINTR);
	return written < 0 ? -errno : 0;
}
