/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hands of netlink.sh: each verb does one thing by netlink.h, announce.h or ifconf.h, or plays
 * a neighbour, a server or a client, and prints what came of it. Errors are printed as "WHAT:
 * ERRNO-NAME" with exit status 1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip6.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "usr/sys/announce.h"
#include "usr/sys/ifconf.h"
#include "usr/sys/netlink.h"

#define PATIENCE 10000 /* ms: after that something is broken */

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
static struct cman_netlink nl;

static void __attribute__((noreturn)) fail(const char *what, int err)
{
	printf("%s: %s%s%s\n", what, strerrorname_np(-err), *nl.why ? ": " : "", nl.why);
	exit(1);
}

static void check(const char *what, int err)
{
	if (err)
		fail(what, err);
}

static void must(const char *what, long r)
{
	if (r < 0)
		fail(what, -errno);
}

static void say(const char *line)
{
	puts(line);
	fflush(stdout);
}

static uint16_t parse_addr(const char *text, uint8_t addr[16])
{
	if (inet_pton(AF_INET6, text, addr) == 1)
		return AF_INET6;
	memcpy(addr, mapped, 12);
	if (inet_pton(AF_INET, text, addr + 12) != 1)
		fail(text, -EINVAL);
	return AF_INET;
}

static const char *addr_text(const uint8_t addr[16])
{
	static char text[4][INET6_ADDRSTRLEN];
	static unsigned int turn;
	char *to = text[turn++ % 4];
	bool v4 = !memcmp(addr, mapped, 12);

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? addr + 12 : addr, to, INET6_ADDRSTRLEN);
	return to;
}

static const char *mac_text(const uint8_t mac[6])
{
	static char text[4][18];
	static unsigned int turn;
	char *to = text[turn++ % 4];

	snprintf(to, sizeof(text[0]), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	return to;
}

static void parse_mac(const char *text, uint8_t mac[6])
{
	unsigned int b[6];

	if (sscanf(text, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) != 6)
		fail(text, -EINVAL);
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
}

static struct cman_link link_of(const char *name)
{
	struct cman_link found;

	check(name, cman_link_by_name(&nl, name, &found));
	return found;
}

static const char *name_of(int ifindex)
{
	static struct cman_link found;

	return cman_link_by_index(&nl, ifindex, &found) ? "?" : found.name;
}

/* Waits until @fd is readable; ends the program when it never is. */
static void wait_readable(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int n = poll(&pfd, 1, PATIENCE);

	must("poll", n);
	if (!n)
		fail("nothing came for 10 s", -ETIMEDOUT);
}

/* --- links */

static void print_link(const struct cman_link *link)
{
	printf("%s kind=%s type=%u mac=%s ethernet=%d neighbours=%d up=%d mtu=%u master=%s\n",
	       link->name, link->kind, link->type, mac_text(link->mac), link->ethernet,
	       link->neighbours, !!(link->flags & IFF_UP), link->mtu,
	       link->master ? name_of(link->master) : "-");
}

static bool same(const struct cman_link *a, const struct cman_link *b)
{
	return a->ifindex == b->ifindex && a->master == b->master && a->flags == b->flags &&
	       a->mtu == b->mtu && a->type == b->type && a->ethernet == b->ethernet &&
	       a->neighbours == b->neighbours && !memcmp(a->mac, b->mac, sizeof(a->mac)) &&
	       !strcmp(a->name, b->name) && !strcmp(a->kind, b->kind);
}

/* links */
static int verb_links(char **arg)
{
	struct cman_link *links;
	size_t n;

	(void)arg;
	check("list", cman_link_list(&nl, &links, &n));
	for (size_t i = 0; i < n; i++) {
		struct cman_link again;

		print_link(&links[i]);
		/* by name, by index and from the list are one */
		again = link_of(links[i].name);
		if (!same(&again, &links[i]))
			fail(links[i].name, -EUCLEAN);
		check("by index", cman_link_by_index(&nl, links[i].ifindex, &again));
		if (!same(&again, &links[i]))
			fail(links[i].name, -EUCLEAN);
	}
	free(links);
	return 0;
}

/* link NAME */
static int verb_link(char **arg)
{
	struct cman_link found = link_of(arg[0]);

	print_link(&found);
	return 0;
}

/* --- addresses */

/* "eth0" "10.0.0.1/24" ["noprefixroute"|"deprecated"] */
static struct cman_ifaddr parse_address(char **arg)
{
	struct cman_ifaddr address = { .prefix_len = 255 };
	char *slash = strchr(arg[1], '/');

	if (slash) {
		*slash = '\0';
		address.prefix_len = (uint8_t)atoi(slash + 1);
	}
	/* "#7" is an index that need not exist */
	address.ifindex = *arg[0] == '#' ? atoi(arg[0] + 1) : link_of(arg[0]).ifindex;
	if (parse_addr(arg[1], address.addr) == AF_INET6)
		address.flags = IFA_F_NODAD;
	if (arg[2])
		address.flags |= *arg[2] == 'd' ? IFA_F_DEPRECATED : IFA_F_NOPREFIXROUTE;
	return address;
}

/* add INTERFACE ADDRESS/LENGTH [noprefixroute|deprecated] */
static int verb_add(char **arg)
{
	struct cman_ifaddr address = parse_address(arg);

	check("add", cman_address_add(&nl, &address));
	say("added");
	return 0;
}

/* remove INTERFACE ADDRESS/LENGTH */
static int verb_remove(char **arg)
{
	struct cman_ifaddr address = parse_address(arg);

	check("remove", cman_address_remove(&nl, &address));
	say("removed");
	return 0;
}

/* addresses INTERFACE|- [ADDRESS]: all on one line */
static int verb_addresses(char **arg)
{
	struct cman_ifaddr *found;
	uint8_t addr[16];
	int ifindex = strcmp(arg[0], "-") ? link_of(arg[0]).ifindex : 0;
	size_t n;

	if (arg[1])
		parse_addr(arg[1], addr);
	check("list", cman_address_list(&nl, ifindex, arg[1] ? addr : NULL, &found, &n));
	for (size_t i = 0; i < n; i++)
		printf("%s%s:%s/%u%s", i ? " " : "", name_of(found[i].ifindex),
		       addr_text(found[i].addr), found[i].prefix_len,
		       found[i].flags & IFA_F_TENTATIVE ? "(tentative)" : "");
	puts("");
	free(found);
	return 0;
}

/* who ADDRESS: the interface */
static int verb_who(char **arg)
{
	struct cman_ifaddr found;
	uint8_t addr[16];

	parse_addr(arg[0], addr);
	check("find", cman_address_find(&nl, addr, 0, &found));
	say(name_of(found.ifindex));
	return 0;
}

/* churn N: adds and removes N addresses on lo while another socket lists them, then one more list */
static int verb_churn(char **arg)
{
	struct cman_ifaddr address = { .prefix_len = 32 }, *found;
	int count = atoi(arg[0]);
	struct cman_netlink other;
	size_t n = 0;

	address.ifindex = link_of("lo").ifindex;
	check("init", cman_netlink_init(&other));
	for (int step = 0; step < 2; step++) {
		for (int i = 0; i < count; i++) {
			char text[32];

			snprintf(text, sizeof(text), "10.77.%d.%d", i / 250, i % 250 + 1);
			parse_addr(text, address.addr);
			check(text, step ? cman_address_remove(&nl, &address) :
					   cman_address_add(&nl, &address));
		}
		check("list", cman_address_list(&other, address.ifindex, NULL, &found, &n));
		free(found);
		printf("%zu ", n);
	}
	cman_netlink_fini(&other);
	puts("");
	return 0;
}

/* --- having without telling */

/* quiet INTERFACE: until standard input ends */
static int verb_quiet(char **arg)
{
	struct cman_quiet quiet;
	char c;

	check("begin", cman_quiet_begin(arg[0], &quiet));
	say("quiet");
	while (read(0, &c, 1) > 0)
		;
	check("end", cman_quiet_end(&quiet));
	say("over");
	return 0;
}

/* conf 4|6 INTERFACE KEY VALUE: sets it until standard input ends */
static int verb_conf(char **arg)
{
	struct cman_ifconf saved;
	char c;

	check("set", cman_ifconf_set(*arg[0] == '4' ? AF_INET : AF_INET6, arg[1], arg[2],
				     atoi(arg[3]), &saved));
	printf("old=%d changed=%d\n", saved.old, saved.family != 0);
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	check("restore", cman_ifconf_restore(&saved));
	say("restored");
	return 0;
}

/* --- neighbours and routes */

/* neigh INTERFACE ADDRESS */
static int verb_neigh(char **arg)
{
	struct cman_neigh neigh;
	uint8_t addr[16];

	parse_addr(arg[1], addr);
	check("neigh", cman_neigh_get(&nl, link_of(arg[0]).ifindex, addr, &neigh));
	say(mac_text(neigh.mac));
	return 0;
}

/* resolve INTERFACE ADDRESS MS */
static int verb_resolve(char **arg)
{
	struct cman_neigh neigh;
	uint8_t addr[16];

	parse_addr(arg[1], addr);
	check("resolve",
	      cman_neigh_resolve(&nl, link_of(arg[0]).ifindex, addr, atoi(arg[2]), &neigh));
	printf("%s%s\n", mac_text(neigh.mac), neigh.fresh ? " fresh" : "");
	return 0;
}

static void count_events(void *arg, const struct cman_watch_event *event)
{
	(void)event;
	++*(int *)arg;
}

/* await INTERFACE ADDRESS MAC: until that neighbour has that MAC, or is unknown ("-") */
static int verb_await(char **arg)
{
	int watch, err, events = 0, ifindex = link_of(arg[0]).ifindex;
	uint8_t addr[16];

	parse_addr(arg[1], addr);
	check("watch", cman_watch_open(CMAN_WATCH_NEIGHBOURS, &watch));
	for (;;) {
		struct cman_neigh neigh;

		err = cman_neigh_get(&nl, ifindex, addr, &neigh);
		if (!err && !strcmp(mac_text(neigh.mac), arg[2]))
			break;
		if (err == -ENOENT && !strcmp(arg[2], "-"))
			break;
		wait_readable(watch);
		check("drain", cman_watch_drain(watch, count_events, &events));
	}
	close(watch);
	say(arg[2]);
	return 0;
}

/* route TO [FROM] */
static int verb_route(char **arg)
{
	uint8_t to[16], from[16];
	struct cman_route route;

	parse_addr(arg[0], to);
	if (arg[1])
		parse_addr(arg[1], from);
	check("route", cman_route_get(&nl, to, arg[1] ? from : NULL, &route));
	printf("dev=%s source=%s next=%s local=%d\n", name_of(route.ifindex),
	       addr_text(route.source), addr_text(route.next_hop), route.local);
	return 0;
}

/* --- watching */

static void print_event(void *arg, const struct cman_watch_event *event)
{
	(void)arg;
	switch (event->kind) {
	case CMAN_WATCH_LINK:
		printf("link %s up=%d\n", event->link.name, !!(event->link.flags & IFF_UP));
		break;
	case CMAN_WATCH_LINK_GONE:
		printf("gone %s\n", event->link.name);
		break;
	case CMAN_WATCH_ADDRESS:
		printf("address %s/%u\n", addr_text(event->address.addr),
		       event->address.prefix_len);
		break;
	case CMAN_WATCH_ADDRESS_GONE:
		printf("removed %s/%u\n", addr_text(event->address.addr),
		       event->address.prefix_len);
		break;
	case CMAN_WATCH_NEIGHBOUR:
		printf("neighbour %s\n", addr_text(event->neighbour.addr));
		break;
	case CMAN_WATCH_LOST:
		printf("lost\n");
		break;
	}
	fflush(stdout);
}

/* watch: prints events, until standard input ends */
static int verb_watch(char **arg)
{
	struct pollfd pfd[2] = { { .fd = 0, .events = POLLIN }, { .events = POLLIN } };
	char c;

	(void)arg;
	check("watch", cman_watch_open(CMAN_WATCH_LINKS | CMAN_WATCH_ADDRESSES, &pfd[1].fd));
	say("watching");
	for (;;) {
		must("poll", poll(pfd, 2, -1));
		if (pfd[1].revents)
			check("drain", cman_watch_drain(pfd[1].fd, print_event, NULL));
		else if (pfd[0].revents && read(0, &c, 1) <= 0)
			break;
	}
	close(pfd[1].fd);
	return 0;
}

static void note_lost(void *arg, const struct cman_watch_event *event)
{
	if (event->kind == CMAN_WATCH_LOST)
		++*(int *)arg;
}

/* overflow: more events than a small buffer holds, then whether that was told, once, and it goes on */
static int verb_overflow(char **arg)
{
	struct cman_ifaddr address = { .prefix_len = 32 };
	const int tiny = 1;
	int watch, lost = 0, events = 0;

	(void)arg;
	address.ifindex = link_of("lo").ifindex;
	parse_addr("10.77.0.1", address.addr);
	check("watch", cman_watch_open(CMAN_WATCH_ADDRESSES, &watch));
	must("SO_RCVBUF", setsockopt(watch, SOL_SOCKET, SO_RCVBUF, &tiny, sizeof(tiny)));
	for (int i = 0; i < 100; i++) {
		check("add", cman_address_add(&nl, &address));
		check("remove", cman_address_remove(&nl, &address));
	}
	check("drain", cman_watch_drain(watch, note_lost, &lost));
	check("add", cman_address_add(&nl, &address));
	check("remove", cman_address_remove(&nl, &address));
	check("drain", cman_watch_drain(watch, count_events, &events));
	printf("lost=%d then=%d\n", lost, events);
	close(watch);
	return 0;
}

/* --- announcements */

/* announce INTERFACE ADDRESS [router] */
static int verb_announce(char **arg)
{
	struct cman_link link = link_of(arg[0]);
	struct cman_announce announce;
	uint8_t addr[16];

	parse_addr(arg[1], addr);
	check("init", cman_announce_init(&announce));
	check("send", cman_announce_send(&announce, &link, addr, arg[2] != NULL));
	cman_announce_fini(&announce);
	say("sent");
	return 0;
}

struct arp_frame {
	struct ether_header ether;
	struct ether_arp arp;
} __attribute__((packed));

struct nd_frame {
	struct ether_header ether;
	struct ip6_hdr ip;
	/* solicitation and advertisement have one layout */
	struct nd_neighbor_advert nd;
	struct nd_opt_hdr option;
	uint8_t mac[6];
} __attribute__((packed));

static int packet_socket(int ifindex, uint16_t protocol)
{
	struct sockaddr_ll self = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = ifindex,
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(protocol));

	must("AF_PACKET", fd);
	must("bind", bind(fd, (struct sockaddr *)&self, sizeof(self)));
	return fd;
}

/* Reads one frame that came in (not one of ours going out); its length. */
static size_t receive(int fd, void *frame, size_t size)
{
	for (;;) {
		struct sockaddr_ll from = { 0 };
		socklen_t length = sizeof(from);
		ssize_t n;

		wait_readable(fd);
		n = recvfrom(fd, frame, size, 0, (struct sockaddr *)&from, &length);
		must("recvfrom", n);
		if (from.sll_pkttype != PACKET_OUTGOING)
			return (size_t)n;
	}
}

static uint16_t nd_checksum(const struct nd_frame *frame)
{
	const size_t size = sizeof(*frame) - offsetof(struct nd_frame, nd);
	uint8_t data[16 + 16 + 64] = { 0 };
	uint32_t sum = (uint32_t)size + IPPROTO_ICMPV6;

	memcpy(data, &frame->ip.ip6_src, 32);
	memcpy(data + 32, (const char *)frame + offsetof(struct nd_frame, nd), size);
	for (size_t i = 0; i < sizeof(data); i += 2)
		sum += (uint32_t)data[i] << 8 | data[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static bool is_nd(const struct nd_frame *frame, size_t n, uint8_t type)
{
	return n >= offsetof(struct nd_frame, option) &&
	       frame->ip.ip6_ctlun.ip6_un1.ip6_un1_nxt == IPPROTO_ICMPV6 &&
	       frame->nd.nd_na_hdr.icmp6_type == type;
}

/* hear INTERFACE ADDRESS: the frames of one announcement of it, decoded */
static int verb_hear(char **arg)
{
	uint8_t addr[16];
	bool v4 = parse_addr(arg[1], addr) == AF_INET;
	int fd = packet_socket(link_of(arg[0]).ifindex, v4 ? ETHERTYPE_ARP : ETHERTYPE_IPV6);

	say("listening");
	for (int frames = 0; frames < (v4 ? 2 : 1);) {
		union {
			struct arp_frame arp;
			struct nd_frame nd;
			uint8_t room[2048];
		} in = { .room = { 0 } };
		size_t n = receive(fd, &in, sizeof(in));

		if (v4 && !memcmp(in.arp.arp.arp_spa, addr + 12, 4) &&
		    !memcmp(in.arp.arp.arp_tpa, addr + 12, 4)) {
			printf("arp op=%u to=%s from=%s sender=%s target=%s size=%zu\n",
			       ntohs(in.arp.arp.ea_hdr.ar_op), mac_text(in.arp.ether.ether_dhost),
			       mac_text(in.arp.ether.ether_shost), mac_text(in.arp.arp.arp_sha),
			       mac_text(in.arp.arp.arp_tha), n);
			frames++;
		} else if (!v4 && is_nd(&in.nd, n, ND_NEIGHBOR_ADVERT) &&
			   !memcmp(&in.nd.nd.nd_na_target, addr, 16)) {
			uint8_t to[16], from[16];

			memcpy(to, &in.nd.ip.ip6_dst, 16);
			memcpy(from, &in.nd.ip.ip6_src, 16);
			printf("na to=%s ip=%s from=%s ip=%s hops=%u flags=%08x mac=%s "
			       "checksum=%s size=%zu\n",
			       mac_text(in.nd.ether.ether_dhost), addr_text(to),
			       mac_text(in.nd.ether.ether_shost), addr_text(from),
			       in.nd.ip.ip6_ctlun.ip6_un1.ip6_un1_hlim,
			       ntohl(in.nd.nd.nd_na_hdr.icmp6_dataun.icmp6_un_data32[0]),
			       mac_text(in.nd.mac), nd_checksum(&in.nd) ? "wrong" : "right", n);
			frames++;
		}
		fflush(stdout);
	}
	close(fd);
	return 0;
}

/* --- a neighbour that asks */

static void ask_arp(int fd, const struct cman_link *link, const uint8_t from[16],
		    const uint8_t target[16], const uint8_t *mac)
{
	struct arp_frame frame = {
		.arp.ea_hdr = { htons(ARPHRD_ETHER), htons(ETHERTYPE_IP), 6, 4,
				htons(ARPOP_REQUEST) },
	};

	memset(frame.ether.ether_dhost, 0xff, 6);
	if (mac)
		memcpy(frame.ether.ether_dhost, mac, 6);
	memcpy(frame.ether.ether_shost, link->mac, 6);
	frame.ether.ether_type = htons(ETHERTYPE_ARP);
	memcpy(frame.arp.arp_sha, link->mac, 6);
	memcpy(frame.arp.arp_spa, from + 12, 4);
	memcpy(frame.arp.arp_tpa, target + 12, 4);
	must("send", send(fd, &frame, sizeof(frame), 0));
}

/* To the solicited-node group, or with @mac to the address itself, as a peer that confirms it. */
static void ask_nd(int fd, const struct cman_link *link, const uint8_t from[16],
		   const uint8_t target[16], const uint8_t *mac)
{
	uint8_t group[16] = { [0] = 0xff, [1] = 2, [11] = 1, [12] = 0xff };
	struct nd_frame frame = {
		.nd.nd_na_hdr.icmp6_type = ND_NEIGHBOR_SOLICIT,
		.option = { ND_OPT_SOURCE_LINKADDR, 1 },
	};

	memcpy(group + 13, target + 13, 3);
	memcpy(frame.ether.ether_dhost, "\x33\x33\xff", 3);
	memcpy(frame.ether.ether_dhost + 3, target + 13, 3);
	if (mac)
		memcpy(frame.ether.ether_dhost, mac, 6);
	memcpy(frame.ether.ether_shost, link->mac, 6);
	frame.ether.ether_type = htons(ETHERTYPE_IPV6);
	frame.ip.ip6_ctlun.ip6_un1.ip6_un1_flow = htonl(6u << 28);
	frame.ip.ip6_ctlun.ip6_un1.ip6_un1_plen = htons(32);
	frame.ip.ip6_ctlun.ip6_un1.ip6_un1_nxt = IPPROTO_ICMPV6;
	frame.ip.ip6_ctlun.ip6_un1.ip6_un1_hlim = 255;
	memcpy(&frame.ip.ip6_src, from, 16);
	memcpy(&frame.ip.ip6_dst, mac ? target : group, 16);
	memcpy(&frame.nd.nd_na_target, target, 16);
	memcpy(frame.mac, link->mac, 6);
	frame.nd.nd_na_hdr.icmp6_cksum = htons(nd_checksum(&frame));
	must("send", send(fd, &frame, sizeof(frame), 0));
}

/* Does this frame answer for @target? */
static bool answers(const void *in, size_t n, bool v4, const uint8_t target[16], uint8_t mac[6])
{
	const struct arp_frame *arp = in;
	const struct nd_frame *nd = in;

	if (v4) {
		if (n < sizeof(*arp) || arp->arp.ea_hdr.ar_op != htons(ARPOP_REPLY) ||
		    memcmp(arp->arp.arp_spa, target + 12, 4))
			return false;
		memcpy(mac, arp->arp.arp_sha, 6);
		return true;
	}
	/* who was asked alone does not repeat its MAC in an option */
	if (!is_nd(nd, n, ND_NEIGHBOR_ADVERT) || memcmp(&nd->nd.nd_na_target, target, 16))
		return false;
	memcpy(mac, nd->ether.ether_shost, 6);
	return true;
}

/*
 * ask INTERFACE FROM ADDRESS CONTROL [MAC]: who answers for ADDRESS? To everybody or to one MAC.
 * CONTROL is an address of the machine that is suspected. It is asked for right behind, and frames
 * keep their order: with its answer here, "silent" needs no waiting.
 */
static int verb_ask(char **arg)
{
	struct cman_link link = link_of(arg[0]);
	uint8_t from[16], addr[16], control[16], mac[6], room[2048];
	bool v4 = parse_addr(arg[2], addr) == AF_INET;
	int fd = packet_socket(link.ifindex, v4 ? ETHERTYPE_ARP : ETHERTYPE_IPV6);

	parse_addr(arg[1], from);
	parse_addr(arg[3], control);
	if (arg[4])
		parse_mac(arg[4], mac);
	(v4 ? ask_arp : ask_nd)(fd, &link, from, addr, arg[4] ? mac : NULL);
	(v4 ? ask_arp : ask_nd)(fd, &link, from, control, arg[4] ? mac : NULL);
	for (;;) {
		size_t n = receive(fd, room, sizeof(room));

		if (answers(room, n, v4, addr, mac)) {
			say(mac_text(mac));
			return 0;
		}
		if (answers(room, n, v4, control, mac)) {
			say("silent");
			return 0;
		}
	}
}

/* --- a server, a client, a sender of datagrams */

static socklen_t make_sockaddr(const char *text, const char *port, struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	uint8_t addr[16];

	memset(ss, 0, sizeof(*ss));
	if (parse_addr(text, addr) == AF_INET6) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)atoi(port));
		memcpy(&in6->sin6_addr, addr, 16);
		return sizeof(*in6);
	}
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)atoi(port));
	memcpy(&in->sin_addr, addr + 12, 4);
	return sizeof(*in);
}

/* serve PORT NAME: on every address of both families: says NAME, then gives back what it gets */
static int __attribute__((noreturn)) verb_serve(char **arg)
{
	struct sockaddr_storage ss;
	socklen_t length = make_sockaddr("::", arg[0], &ss);
	struct pollfd pfd[17] = { { .fd = socket(AF_INET6, SOCK_STREAM, 0), .events = POLLIN } };
	nfds_t n = 1;

	must("socket", pfd[0].fd);
	must("bind", bind(pfd[0].fd, (struct sockaddr *)&ss, length));
	must("listen", listen(pfd[0].fd, 16));
	say("serving");
	for (;;) {
		must("poll", poll(pfd, n, -1));
		if (pfd[0].revents && n < 17) {
			pfd[n] = (struct pollfd){ .events = POLLIN };
			pfd[n].fd = accept(pfd[0].fd, NULL, NULL);
			must("accept", pfd[n].fd);
			must("write", dprintf(pfd[n].fd, "%s\n", arg[1]));
			pfd[n++].revents = 0;
		}
		for (nfds_t i = 1; i < n; i++) {
			char data[256];
			ssize_t got;

			if (!pfd[i].revents)
				continue;
			got = read(pfd[i].fd, data, sizeof(data));
			if (got > 0) {
				must("write", write(pfd[i].fd, data, (size_t)got));
				continue;
			}
			close(pfd[i].fd);
			pfd[i--] = pfd[--n];
		}
	}
}

/* talk ADDRESS PORT: prints what the server says, sends it lines of standard input until that ends */
static int verb_talk(char **arg)
{
	struct sockaddr_storage ss;
	socklen_t length = make_sockaddr(arg[0], arg[1], &ss);
	int fd = socket(ss.ss_family, SOCK_STREAM, 0);
	char data[256];
	ssize_t n;

	must("socket", fd);
	must("connect", connect(fd, (struct sockaddr *)&ss, length));
	for (;;) {
		wait_readable(fd);
		n = read(fd, data, sizeof(data));
		must("read", n);
		if (!n)
			fail("closed", -EPIPE);
		must("write", write(1, data, (size_t)n));
		n = read(0, data, sizeof(data));
		if (n <= 0)
			return 0;
		must("send", send(fd, data, (size_t)n, MSG_NOSIGNAL));
	}
}

/* datagram FROM TO PORT */
static int verb_datagram(char **arg)
{
	struct sockaddr_storage from, to;
	socklen_t length = make_sockaddr(arg[0], "0", &from);
	int fd = socket(from.ss_family, SOCK_DGRAM, 0);

	must("socket", fd);
	must("bind", bind(fd, (struct sockaddr *)&from, length));
	make_sockaddr(arg[1], arg[2], &to);
	must("sendto", sendto(fd, "x", 1, 0, (struct sockaddr *)&to, length));
	say("sent");
	return 0;
}

/* take ADDRESS PORT: one datagram; prints where it came from */
static int verb_take(char **arg)
{
	struct sockaddr_storage ss;
	socklen_t length = make_sockaddr(arg[0], arg[1], &ss);
	int fd = socket(ss.ss_family, SOCK_DGRAM, 0);
	uint8_t from[16];
	char data[16];

	must("socket", fd);
	must("bind", bind(fd, (struct sockaddr *)&ss, length));
	say("waiting");
	wait_readable(fd);
	must("recvfrom", recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&ss, &length));
	memcpy(from, mapped, 12);
	if (ss.ss_family == AF_INET)
		memcpy(from + 12, &((struct sockaddr_in *)&ss)->sin_addr, 4);
	else
		memcpy(from, &((struct sockaddr_in6 *)&ss)->sin6_addr, 16);
	say(addr_text(from));
	return 0;
}

static const struct verb {
	const char *name;
	int min, max;
	int (*run)(char **arg);
} verbs[] = {
	{ "links", 0, 0, verb_links },
	{ "link", 1, 1, verb_link },
	{ "add", 2, 3, verb_add },
	{ "remove", 2, 2, verb_remove },
	{ "addresses", 1, 2, verb_addresses },
	{ "who", 1, 1, verb_who },
	{ "churn", 1, 1, verb_churn },
	{ "quiet", 1, 1, verb_quiet },
	{ "conf", 4, 4, verb_conf },
	{ "neigh", 2, 2, verb_neigh },
	{ "resolve", 3, 3, verb_resolve },
	{ "await", 3, 3, verb_await },
	{ "route", 1, 2, verb_route },
	{ "watch", 0, 0, verb_watch },
	{ "overflow", 0, 0, verb_overflow },
	{ "announce", 2, 3, verb_announce },
	{ "hear", 2, 2, verb_hear },
	{ "ask", 4, 5, verb_ask },
	{ "serve", 2, 2, verb_serve },
	{ "talk", 2, 2, verb_talk },
	{ "datagram", 3, 3, verb_datagram },
	{ "take", 2, 2, verb_take },
};

int main(int argc, char **argv)
{
	int status;

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (argc < 2 || strcmp(argv[1], verbs[i].name) || argc - 2 < verbs[i].min ||
		    argc - 2 > verbs[i].max)
			continue;
		check("init", cman_netlink_init(&nl));
		status = verbs[i].run(argv + 2);
		cman_netlink_fini(&nl);
		return status;
	}
	fputs("usage: netlink_check VERB ARGUMENT...\n", stderr);
	return 2;
}
