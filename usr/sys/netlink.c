/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtnetlink by libmnl (netlink.h tells the story). One function, exchange(), talks to the kernel;
 * it skips answers to older requests, so that an error in the middle of one leaves nothing behind
 * that would spoil the next.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "usr/sys/netlink.h"

#define ROOM	       32768 /* what the kernel fills at most */
#define ANSWER_TIMEOUT 10    /* s; never seen, but nobody shall hang for good */
#define DUMP_TRIES     8     /* a list that changes while it is read is read again */
#define WATCH_BUFFER   (1 << 20)

/* States of a neighbour in which its MAC is known. */
#define NUD_KNOWN (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)
#define NUD_FRESH (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE)

/* 0 or -errno, which becomes the result of the exchange once the answer is read to its end. */
typedef int (*message_fn)(void *arg, const struct nlmsghdr *header);

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

static bool is_v4(const uint8_t addr[16])
{
	return !memcmp(addr, mapped, sizeof(mapped));
}

static uint8_t family_of(const uint8_t addr[16])
{
	return is_v4(addr) ? AF_INET : AF_INET6;
}

static uint8_t max_prefix(const uint8_t addr[16])
{
	return is_v4(addr) ? 32 : 128;
}

static void put_address(struct nlmsghdr *header, uint16_t type, const uint8_t addr[16])
{
	if (is_v4(addr))
		mnl_attr_put(header, type, 4, addr + 12);
	else
		mnl_attr_put(header, type, 16, addr);
}

/* False, and @addr as it was, when the attribute has not the size of the family. */
static bool get_address(const struct nlattr *attr, uint8_t family, uint8_t addr[16])
{
	uint16_t length = mnl_attr_get_payload_len(attr);

	if (family == AF_INET && length == 4) {
		memcpy(addr, mapped, sizeof(mapped));
		memcpy(addr + 12, mnl_attr_get_payload(attr), 4);
		return true;
	}
	if (family == AF_INET6 && length == 16) {
		memcpy(addr, mnl_attr_get_payload(attr), 16);
		return true;
	}
	return false;
}

static uint32_t get_u32(const struct nlattr *attr, uint32_t otherwise)
{
	return mnl_attr_validate(attr, MNL_TYPE_U32) < 0 ? otherwise : mnl_attr_get_u32(attr);
}

static void get_text(const struct nlattr *attr, char *text, size_t size)
{
	snprintf(text, size, "%.*s", (int)mnl_attr_get_payload_len(attr),
		 (const char *)mnl_attr_get_payload(attr));
}

/* --- talking */

int cman_netlink_init(struct cman_netlink *nl)
{
	const struct timeval patience = { .tv_sec = ANSWER_TIMEOUT };
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	const int on = 1;
	int err;

	if (!socket)
		return -errno;
	if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) ||
	    setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVTIMEO, &patience,
		       sizeof(patience))) {
		err = -errno;
		mnl_socket_close(socket);
		return err;
	}
	/* reasons in words, short errors, filters in the kernel: all since 4.20, none is needed */
	(void)mnl_socket_setsockopt(socket, NETLINK_EXT_ACK, (void *)&on, sizeof(on));
	(void)mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, (void *)&on, sizeof(on));
	(void)mnl_socket_setsockopt(socket, NETLINK_GET_STRICT_CHK, (void *)&on, sizeof(on));
	*nl = (struct cman_netlink){
		.socket = socket,
		.portid = mnl_socket_get_portid(socket),
	};
	return 0;
}

void cman_netlink_fini(struct cman_netlink *nl)
{
	if (nl->socket)
		mnl_socket_close(nl->socket);
	*nl = (struct cman_netlink){ 0 };
}

/* Keeps the text of an extended acknowledgement, if there is one. */
static void keep_reason(struct cman_netlink *nl, const struct nlmsghdr *header)
{
	const struct nlmsgerr *error = mnl_nlmsg_get_payload(header);
	size_t offset = sizeof(*error);
	const struct nlattr *attr;

	if (!(header->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	/* without NETLINK_CAP_ACK the whole request stands before the attributes */
	if (!(header->nlmsg_flags & NLM_F_CAPPED) && error->msg.nlmsg_len > sizeof(error->msg))
		offset += error->msg.nlmsg_len - sizeof(error->msg);
	if (offset >= mnl_nlmsg_get_payload_len(header))
		return;
	mnl_attr_for_each(attr, header, offset) {
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG)
			get_text(attr, nl->why, sizeof(nl->why));
	}
}

/* Returns true at the end of the answer, with the result in *ret_err. */
static bool is_end(struct cman_netlink *nl, const struct nlmsghdr *header, int *ret_err)
{
	const struct nlmsgerr *error = mnl_nlmsg_get_payload(header);
	const int *status = mnl_nlmsg_get_payload(header);

	if (header->nlmsg_type == NLMSG_ERROR) {
		*ret_err = -EBADMSG;
		if (mnl_nlmsg_get_payload_len(header) >= sizeof(*error)) {
			*ret_err = error->error;
			keep_reason(nl, header);
		}
		return true;
	}
	if (header->nlmsg_type == NLMSG_DONE) {
		*ret_err = mnl_nlmsg_get_payload_len(header) >= sizeof(*status) ? *status : 0;
		return true;
	}
	return false;
}

/*
 * Sends a request and reads its answer to the end: the acknowledgement, or NLMSG_DONE of a dump.
 * -EINTR: what was dumped changed meanwhile.
 */
static int exchange(struct cman_netlink *nl, struct nlmsghdr *header, message_fn fn, void *arg)
{
	const bool dump = (header->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	uint64_t room[ROOM / sizeof(uint64_t)];
	bool changed = false;
	int failed = 0;

	nl->why[0] = '\0';
	header->nlmsg_flags |= NLM_F_REQUEST | (dump ? 0 : NLM_F_ACK);
	header->nlmsg_seq = ++nl->seq;
	if (mnl_socket_sendto(nl->socket, header, header->nlmsg_len) < 0)
		return -errno;
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(nl->socket, room, sizeof(room));
		const struct nlmsghdr *msg = (const struct nlmsghdr *)room;
		int left = (int)n, err;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		for (; mnl_nlmsg_ok(msg, left); msg = mnl_nlmsg_next(msg, &left)) {
			if (msg->nlmsg_seq != nl->seq || msg->nlmsg_pid != nl->portid)
				continue;
			if (msg->nlmsg_flags & NLM_F_DUMP_INTR)
				changed = true;
			if (is_end(nl, msg, &err)) {
				if (!err)
					err = failed;
				return !err && changed ? -EINTR : err;
			}
			if (msg->nlmsg_type >= NLMSG_MIN_TYPE && fn && !failed)
				failed = fn(arg, msg);
		}
	}
}

/* A request with the family's fixed header, zeroed. */
static struct nlmsghdr *request(void *room, uint16_t type, uint16_t flags, size_t extra,
				void **ret_extra)
{
	struct nlmsghdr *header = mnl_nlmsg_put_header(room);

	header->nlmsg_type = type;
	header->nlmsg_flags = flags;
	*ret_extra = mnl_nlmsg_put_extra_header(header, extra);
	return header;
}

/* An array that grows by one element. */
static void *grow(void **array, size_t *n, size_t size)
{
	void *bigger;

	/* full at each power of two */
	if (!(*n & (*n - 1))) {
		bigger = reallocarray(*array, *n ? *n * 2 : 1, size);
		if (!bigger)
			return NULL;
		*array = bigger;
	}
	return (char *)*array + (*n)++ * size;
}

struct collect {
	void *array;
	size_t n;
	int ifindex;	     /* wanted; 0: all */
	const uint8_t *addr; /* wanted; NULL: all */
};

/* A dump into collect->array, which is the caller's only after success. */
static int dump(struct cman_netlink *nl, struct nlmsghdr *header, message_fn fn,
		struct collect *collect)
{
	int err = -EINTR;

	for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++) {
		free(collect->array);
		collect->array = NULL;
		collect->n = 0;
		err = exchange(nl, header, fn, collect);
	}
	if (err) {
		free(collect->array);
		collect->array = NULL;
	}
	return err == -EINTR ? -EAGAIN : err;
}

/* --- interfaces */

/* False: not about an interface as such. Bridges tell about their ports in the same messages. */
static bool parse_link(const struct nlmsghdr *header, struct cman_link *link)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(header);
	const struct nlattr *attr, *inner;

	if (mnl_nlmsg_get_payload_len(header) < sizeof(*info) || info->ifi_family != AF_UNSPEC)
		return false;
	*link = (struct cman_link){
		.ifindex = info->ifi_index,
		.flags = info->ifi_flags,
		.type = info->ifi_type,
	};
	mnl_attr_for_each(attr, header, sizeof(*info)) {
		switch (mnl_attr_get_type(attr)) {
		case IFLA_IFNAME:
			get_text(attr, link->name, sizeof(link->name));
			break;
		case IFLA_MTU:
			link->mtu = get_u32(attr, 0);
			break;
		case IFLA_MASTER:
			link->master = (int)get_u32(attr, 0);
			break;
		case IFLA_ADDRESS:
			if (mnl_attr_get_payload_len(attr) == sizeof(link->mac))
				memcpy(link->mac, mnl_attr_get_payload(attr), sizeof(link->mac));
			link->ethernet = link->type == ARPHRD_ETHER &&
					 mnl_attr_get_payload_len(attr) == sizeof(link->mac);
			break;
		case IFLA_LINKINFO:
			mnl_attr_for_each_nested(inner, attr) {
				if (mnl_attr_get_type(inner) == IFLA_INFO_KIND)
					get_text(inner, link->kind, sizeof(link->kind));
			}
			break;
		}
	}
	link->neighbours = link->ethernet && !(link->flags & IFF_NOARP);
	return true;
}

static int collect_link(void *arg, const struct nlmsghdr *header)
{
	struct collect *collect = arg;
	struct cman_link link, *place;

	if (header->nlmsg_type != RTM_NEWLINK || !parse_link(header, &link))
		return 0;
	place = grow(&collect->array, &collect->n, sizeof(link));
	if (!place)
		return -ENOMEM;
	*place = link;
	return 0;
}

int cman_link_list(struct cman_netlink *nl, struct cman_link **ret_links, size_t *ret_n)
{
	uint64_t room[32];
	void *extra;
	struct nlmsghdr *header = request(room, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg),
					  &extra);
	struct collect all = { 0 };
	int err;

	mnl_attr_put_u32(header, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	err = dump(nl, header, collect_link, &all);
	if (err)
		return err;
	*ret_links = all.array;
	*ret_n = all.n;
	return 0;
}

struct one_link {
	struct cman_link link;
	bool found;
};

static int take_link(void *arg, const struct nlmsghdr *header)
{
	struct one_link *one = arg;

	if (header->nlmsg_type == RTM_NEWLINK && parse_link(header, &one->link))
		one->found = true;
	return 0;
}

static int get_link(struct cman_netlink *nl, int ifindex, const char *name, struct cman_link *ret)
{
	uint64_t room[32];
	void *extra;
	struct nlmsghdr *header = request(room, RTM_GETLINK, 0, sizeof(struct ifinfomsg), &extra);
	struct ifinfomsg *info = extra;
	struct one_link one = { 0 };
	int err;

	info->ifi_index = ifindex;
	if (name)
		mnl_attr_put_strz(header, IFLA_IFNAME, name);
	mnl_attr_put_u32(header, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	err = exchange(nl, header, take_link, &one);
	if (err)
		return err;
	if (!one.found)
		return -ENODEV;
	*ret = one.link;
	return 0;
}

int cman_link_by_name(struct cman_netlink *nl, const char *name, struct cman_link *ret_link)
{
	if (!*name || strlen(name) >= IFNAMSIZ)
		return -ENODEV;
	return get_link(nl, 0, name, ret_link);
}

int cman_link_by_index(struct cman_netlink *nl, int ifindex, struct cman_link *ret_link)
{
	if (ifindex <= 0)
		return -ENODEV;
	return get_link(nl, ifindex, NULL, ret_link);
}

/* --- addresses */

static bool parse_address(const struct nlmsghdr *header, struct cman_ifaddr *address)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(header);
	bool has_address = false, has_local = false;
	const struct nlattr *attr;

	if (mnl_nlmsg_get_payload_len(header) < sizeof(*info))
		return false;
	*address = (struct cman_ifaddr){
		.ifindex = (int)info->ifa_index,
		.prefix_len = info->ifa_prefixlen,
		.scope = info->ifa_scope,
		.flags = info->ifa_flags,
	};
	mnl_attr_for_each(attr, header, sizeof(*info)) {
		switch (mnl_attr_get_type(attr)) {
		case IFA_LOCAL:
			has_local = get_address(attr, info->ifa_family, address->addr);
			break;
		case IFA_ADDRESS:
			/* on point-to-point links this one is the other end's */
			if (!has_local)
				has_address = get_address(attr, info->ifa_family, address->addr);
			break;
		case IFA_FLAGS:
			address->flags = get_u32(attr, address->flags);
			break;
		}
	}
	return has_local || has_address;
}

static int collect_address(void *arg, const struct nlmsghdr *header)
{
	struct cman_ifaddr address, *place;
	struct collect *collect = arg;

	if (header->nlmsg_type != RTM_NEWADDR || !parse_address(header, &address))
		return 0;
	if (collect->ifindex && collect->ifindex != address.ifindex)
		return 0;
	if (collect->addr && memcmp(collect->addr, address.addr, 16))
		return 0;
	place = grow(&collect->array, &collect->n, sizeof(address));
	if (!place)
		return -ENOMEM;
	*place = address;
	return 0;
}

int cman_address_list(struct cman_netlink *nl, int ifindex, const uint8_t addr[16],
		      struct cman_ifaddr **ret_addresses, size_t *ret_n)
{
	uint64_t room[32];
	void *extra;
	struct nlmsghdr *header = request(room, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg),
					  &extra);
	struct collect wanted = { .ifindex = ifindex, .addr = addr };
	struct ifaddrmsg *info = extra;
	int err;

	info->ifa_family = addr ? family_of(addr) : AF_UNSPEC;
	err = dump(nl, header, collect_address, &wanted);
	if (err)
		return err;
	*ret_addresses = wanted.array;
	*ret_n = wanted.n;
	return 0;
}

int cman_address_find(struct cman_netlink *nl, const uint8_t addr[16], int ifindex,
		      struct cman_ifaddr *ret_address)
{
	struct cman_ifaddr *found;
	size_t n;
	int err = cman_address_list(nl, ifindex, addr, &found, &n);

	if (err)
		return err;
	if (n)
		*ret_address = *found;
	free(found);
	return n ? 0 : -EADDRNOTAVAIL;
}

static int change_address(struct cman_netlink *nl, uint16_t type, uint16_t flags,
			  const struct cman_ifaddr *address)
{
	uint64_t room[32];
	void *extra;
	struct nlmsghdr *header = request(room, type, flags, sizeof(struct ifaddrmsg), &extra);
	/* deprecated is what is valid for ever, but preferred for no time */
	const struct ifa_cacheinfo deprecated = { .ifa_prefered = 0, .ifa_valid = UINT32_MAX };
	struct ifaddrmsg *info = extra;

	if (address->prefix_len > max_prefix(address->addr))
		return -EINVAL;
	if (address->ifindex <= 0)
		return -ENODEV;
	info->ifa_family = family_of(address->addr);
	info->ifa_prefixlen = address->prefix_len;
	info->ifa_index = (uint32_t)address->ifindex;
	put_address(header, IFA_LOCAL, address->addr);
	put_address(header, IFA_ADDRESS, address->addr);
	if (type == RTM_NEWADDR) {
		info->ifa_scope = address->scope;
		mnl_attr_put_u32(header, IFA_FLAGS, address->flags);
		if (address->flags & IFA_F_DEPRECATED)
			mnl_attr_put(header, IFA_CACHEINFO, sizeof(deprecated), &deprecated);
	}
	return exchange(nl, header, NULL, NULL);
}

int cman_address_add(struct cman_netlink *nl, const struct cman_ifaddr *address)
{
	return change_address(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address);
}

int cman_address_remove(struct cman_netlink *nl, const struct cman_ifaddr *address)
{
	return change_address(nl, RTM_DELADDR, 0, address);
}

/* --- neighbours */

struct one_neigh {
	uint8_t mac[6];
	uint16_t state;
	bool found, has_mac;
};

static int take_neigh(void *arg, const struct nlmsghdr *header)
{
	const struct ndmsg *info = mnl_nlmsg_get_payload(header);
	struct one_neigh *one = arg;
	const struct nlattr *attr;

	if (header->nlmsg_type != RTM_NEWNEIGH || mnl_nlmsg_get_payload_len(header) < sizeof(*info))
		return 0;
	one->found = true;
	one->state = info->ndm_state;
	mnl_attr_for_each(attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) != NDA_LLADDR ||
		    mnl_attr_get_payload_len(attr) != sizeof(one->mac))
			continue;
		memcpy(one->mac, mnl_attr_get_payload(attr), sizeof(one->mac));
		one->has_mac = true;
	}
	return 0;
}

static struct nlmsghdr *neigh_request(void *room, uint16_t type, uint16_t flags, int ifindex,
				      const uint8_t addr[16], struct ndmsg **ret_info)
{
	void *extra;
	struct nlmsghdr *header = request(room, type, flags, sizeof(struct ndmsg), &extra);

	*ret_info = extra;
	(*ret_info)->ndm_family = family_of(addr);
	(*ret_info)->ndm_ifindex = ifindex;
	put_address(header, NDA_DST, addr);
	return header;
}

int cman_neigh_get(struct cman_netlink *nl, int ifindex, const uint8_t addr[16],
		   struct cman_neigh *ret_neigh)
{
	uint64_t room[32];
	struct ndmsg *info;
	struct nlmsghdr *header = neigh_request(room, RTM_GETNEIGH, 0, ifindex, addr, &info);
	struct one_neigh one = { 0 };
	int err;

	if (ifindex <= 0)
		return -ENODEV;
	err = exchange(nl, header, take_neigh, &one);
	if (err)
		return err;
	if (!one.found)
		return -ENOENT;
	if (one.state & NUD_FAILED)
		return -EHOSTUNREACH;
	if (!(one.state & NUD_KNOWN) || !one.has_mac)
		return -EAGAIN;
	memcpy(ret_neigh->mac, one.mac, sizeof(one.mac));
	ret_neigh->fresh = one.state & NUD_FRESH;
	return 0;
}

int cman_neigh_probe(struct cman_netlink *nl, int ifindex, const uint8_t addr[16])
{
	uint64_t room[32];
	struct ndmsg *info;
	struct nlmsghdr *header = neigh_request(room, RTM_NEWNEIGH, NLM_F_CREATE, ifindex, addr,
						&info);

	if (ifindex <= 0)
		return -ENODEV;
	info->ndm_flags = NTF_USE;
	return exchange(nl, header, NULL, NULL);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void ignore_event(void *arg, const struct cman_watch_event *event)
{
	(void)arg;
	(void)event;
}

/* Each event of a neighbour, whosever, is a reason to look again. */
static int wait_for_neigh(struct cman_netlink *nl, int watch, int ifindex, const uint8_t addr[16],
			  int timeout_ms, struct cman_neigh *ret_neigh)
{
	const int64_t deadline = now_ms() + timeout_ms;
	int err, n;

	err = cman_neigh_get(nl, ifindex, addr, ret_neigh);
	if (err == -ENOENT || err == -EHOSTUNREACH) {
		err = cman_neigh_probe(nl, ifindex, addr);
		if (!err)
			err = cman_neigh_get(nl, ifindex, addr, ret_neigh);
	}
	/* -ENOENT: forgotten again, by ip(8) or because the interface went down; wait it out */
	while (err == -EAGAIN || err == -ENOENT) {
		struct pollfd pfd = { .fd = watch, .events = POLLIN };
		int64_t left = deadline - now_ms();

		n = poll(&pfd, 1, left > 0 ? (int)left : 0);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ETIMEDOUT;
		err = cman_watch_drain(watch, ignore_event, NULL);
		if (!err)
			err = cman_neigh_get(nl, ifindex, addr, ret_neigh);
	}
	return err;
}

int cman_neigh_resolve(struct cman_netlink *nl, int ifindex, const uint8_t addr[16], int timeout_ms,
		       struct cman_neigh *ret_neigh)
{
	int err, watch;

	/* before the question, so that the answer is not missed */
	err = cman_watch_open(CMAN_WATCH_NEIGHBOURS, &watch);
	if (err)
		return err;
	err = wait_for_neigh(nl, watch, ifindex, addr, timeout_ms, ret_neigh);
	close(watch);
	return err;
}

/* --- routes */

struct one_route {
	struct cman_route route;
	uint8_t type;
	bool found, has_gateway;
};

/* RTA_VIA: an IPv4 destination by an IPv6 gateway; the family stands in front. */
static bool get_via(const struct nlattr *attr, uint8_t addr[16])
{
	const struct rtvia *via = mnl_attr_get_payload(attr);
	uint16_t length = mnl_attr_get_payload_len(attr);

	if (length != sizeof(*via) + 16 || via->rtvia_family != AF_INET6)
		return false;
	memcpy(addr, via->rtvia_addr, 16);
	return true;
}

static int take_route(void *arg, const struct nlmsghdr *header)
{
	const struct rtmsg *info = mnl_nlmsg_get_payload(header);
	struct one_route *one = arg;
	const struct nlattr *attr;

	if (header->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(header) < sizeof(*info))
		return 0;
	one->found = true;
	one->type = info->rtm_type;
	mnl_attr_for_each(attr, header, sizeof(*info)) {
		switch (mnl_attr_get_type(attr)) {
		case RTA_OIF:
			one->route.ifindex = (int)get_u32(attr, 0);
			break;
		case RTA_PREFSRC:
			get_address(attr, info->rtm_family, one->route.source);
			break;
		case RTA_GATEWAY:
			one->has_gateway = get_address(attr, info->rtm_family, one->route.next_hop);
			break;
		case RTA_VIA:
			one->has_gateway = get_via(attr, one->route.next_hop);
			break;
		}
	}
	return 0;
}

int cman_route_get(struct cman_netlink *nl, const uint8_t to[16], const uint8_t from[16],
		   struct cman_route *ret_route)
{
	uint64_t room[32];
	void *extra;
	struct nlmsghdr *header = request(room, RTM_GETROUTE, 0, sizeof(struct rtmsg), &extra);
	struct rtmsg *info = extra;
	struct one_route one = { 0 };
	int err;

	if (from && family_of(from) != family_of(to))
		return -EINVAL;
	info->rtm_family = family_of(to);
	info->rtm_dst_len = max_prefix(to);
	put_address(header, RTA_DST, to);
	if (from) {
		info->rtm_src_len = max_prefix(from);
		put_address(header, RTA_SRC, from);
	}
	err = exchange(nl, header, take_route, &one);
	if (err)
		return err;
	if (!one.found || (one.type != RTN_UNICAST && one.type != RTN_LOCAL))
		return -ENETUNREACH;
	if (from)
		memcpy(one.route.source, from, 16);
	if (!one.has_gateway)
		memcpy(one.route.next_hop, to, 16);
	one.route.local = one.type == RTN_LOCAL;
	*ret_route = one.route;
	return 0;
}

/* --- watching */

int cman_watch_open(unsigned int what, int *ret_fd)
{
	static const struct {
		unsigned int what;
		int group;
	} groups[] = {
		{ CMAN_WATCH_LINKS, RTNLGRP_LINK },
		{ CMAN_WATCH_ADDRESSES, RTNLGRP_IPV4_IFADDR },
		{ CMAN_WATCH_ADDRESSES, RTNLGRP_IPV6_IFADDR },
		{ CMAN_WATCH_NEIGHBOURS, RTNLGRP_NEIGH },
	};
	const struct sockaddr_nl self = { .nl_family = AF_NETLINK };
	const int size = WATCH_BUFFER;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	int err;

	if (fd < 0)
		return -errno;
	/* as much as we may have: what does not fit is lost, and told */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (bind(fd, (const struct sockaddr *)&self, sizeof(self)))
		goto err_close;
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		if ((what & groups[i].what) &&
		    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i].group,
			       sizeof(groups[i].group)))
			goto err_close;
	}
	*ret_fd = fd;
	return 0;

err_close:
	err = -errno;
	close(fd);
	return err;
}

static bool parse_neighbour(const struct nlmsghdr *header, struct cman_watch_event *event)
{
	const struct ndmsg *info = mnl_nlmsg_get_payload(header);
	const struct nlattr *attr;

	if (mnl_nlmsg_get_payload_len(header) < sizeof(*info))
		return false;
	event->kind = CMAN_WATCH_NEIGHBOUR;
	event->neighbour.ifindex = info->ndm_ifindex;
	/* of other families are the bridges' tables of MACs */
	mnl_attr_for_each(attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) == NDA_DST)
			return get_address(attr, info->ndm_family, event->neighbour.addr);
	}
	return false;
}

static bool parse_event(const struct nlmsghdr *header, struct cman_watch_event *event)
{
	switch (header->nlmsg_type) {
	case RTM_NEWLINK:
		event->kind = CMAN_WATCH_LINK;
		return parse_link(header, &event->link);
	case RTM_DELLINK:
		event->kind = CMAN_WATCH_LINK_GONE;
		return parse_link(header, &event->link);
	case RTM_NEWADDR:
		event->kind = CMAN_WATCH_ADDRESS;
		return parse_address(header, &event->address);
	case RTM_DELADDR:
		event->kind = CMAN_WATCH_ADDRESS_GONE;
		return parse_address(header, &event->address);
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		return parse_neighbour(header, event);
	}
	return false;
}

int cman_watch_drain(int fd, cman_watch_fn fn, void *arg)
{
	uint64_t room[ROOM / sizeof(uint64_t)];
	struct cman_watch_event event;

	for (;;) {
		struct sockaddr_nl from = { 0 };
		struct iovec iov = { room, sizeof(room) };
		struct msghdr msg = {
			.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = &iov,
			.msg_iovlen = 1,
		};
		const struct nlmsghdr *header = (const struct nlmsghdr *)room;
		ssize_t n = recvmsg(fd, &msg, 0);
		int left = (int)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno != ENOBUFS)
			return -errno;
		if (n < 0 || (msg.msg_flags & MSG_TRUNC)) {
			event.kind = CMAN_WATCH_LOST;
			fn(arg, &event);
			continue;
		}
		/* only the kernel is believed */
		if (msg.msg_namelen != sizeof(from) || from.nl_pid)
			continue;
		for (; mnl_nlmsg_ok(header, left); header = mnl_nlmsg_next(header, &left)) {
			if (parse_event(header, &event))
				fn(arg, &event);
		}
	}
}
