/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frames of an announcement, byte by byte (announce.h tells the story). Whole Ethernet frames,
 * so that one socket serves every interface and the IPv6 source needs not be on it yet.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip6.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/sys/announce.h"

static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
/* ff02::1 and its MAC (RFC 2464, 7) */
static const uint8_t all_nodes[16] = { [0] = 0xff, [1] = 0x02, [15] = 1 };
static const uint8_t all_nodes_mac[6] = { 0x33, 0x33, 0, 0, 0, 1 };

struct arp_frame {
	struct ether_header ether;
	struct ether_arp arp;
} __attribute__((packed));

struct advert_frame {
	struct ether_header ether;
	struct ip6_hdr ip;
	struct nd_neighbor_advert advert;
	struct nd_opt_hdr option;
	uint8_t mac[6];
} __attribute__((packed));

_Static_assert(sizeof(struct arp_frame) == 14 + 28, "ARP over Ethernet (RFC 826)");
_Static_assert(sizeof(struct advert_frame) == 14 + 40 + 24 + 8, "advertisement with one option");

int cman_announce_init(struct cman_announce *announce)
{
	/* protocol 0: nothing is received */
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	announce->fd = fd;
	return 0;
}

void cman_announce_fini(struct cman_announce *announce)
{
	if (announce->fd >= 0)
		close(announce->fd);
	announce->fd = -1;
}

static int send_frame(const struct cman_announce *announce, const struct cman_link *link,
		      const void *frame, size_t size)
{
	const struct ether_header *ether = frame;
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET,
		.sll_protocol = ether->ether_type,
		.sll_ifindex = link->ifindex,
		.sll_halen = ETH_ALEN,
	};
	ssize_t n;

	memcpy(to.sll_addr, ether->ether_dhost, ETH_ALEN);
	n = sendto(announce->fd, frame, size, 0, (const struct sockaddr *)&to, sizeof(to));
	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EIO;
}

static void put_ether(struct ether_header *ether, const struct cman_link *link, const uint8_t to[6],
		      uint16_t type)
{
	memcpy(ether->ether_dhost, to, ETH_ALEN);
	memcpy(ether->ether_shost, link->mac, ETH_ALEN);
	ether->ether_type = htons(type);
}

static int send_arp(const struct cman_announce *announce, const struct cman_link *link,
		    const uint8_t ip[4], uint16_t operation)
{
	struct arp_frame frame = {
		.arp.ea_hdr = {
			.ar_hrd = htons(ARPHRD_ETHER),
			.ar_pro = htons(ETHERTYPE_IP),
			.ar_hln = ETH_ALEN,
			.ar_pln = 4,
			.ar_op = htons(operation),
		},
	};

	put_ether(&frame.ether, link, broadcast, ETHERTYPE_ARP);
	memcpy(frame.arp.arp_sha, link->mac, ETH_ALEN);
	memcpy(frame.arp.arp_spa, ip, 4);
	/*
	 * Linux takes a reply for gratuitous only when both hardware addresses are ours
	 * (arp_is_garp() in net/ipv4/arp.c); in a request the target's has no meaning.
	 */
	if (operation == ARPOP_REPLY)
		memcpy(frame.arp.arp_tha, link->mac, ETH_ALEN);
	memcpy(frame.arp.arp_tpa, ip, 4);
	return send_frame(announce, link, &frame, sizeof(frame));
}

/* The ones' complement sum of 16 bit words (RFC 1071); @size is even. */
static uint32_t add_words(uint32_t sum, const void *data, size_t size)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < size; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	return sum;
}

static int send_advert(const struct cman_announce *announce, const struct cman_link *link,
		       const uint8_t addr[16], bool router)
{
	const uint16_t payload = sizeof(struct advert_frame) -
				 offsetof(struct advert_frame, advert);
	struct advert_frame frame = {
		.ip = {
			.ip6_ctlun.ip6_un1 = {
				.ip6_un1_flow = htonl(6u << 28),
				.ip6_un1_plen = htons(payload),
				.ip6_un1_nxt = IPPROTO_ICMPV6,
				.ip6_un1_hlim = 255, /* anything else is ignored */
			},
		},
		.advert.nd_na_hdr.icmp6_type = ND_NEIGHBOR_ADVERT,
		.option = { .nd_opt_type = ND_OPT_TARGET_LINKADDR, .nd_opt_len = 1 },
	};
	uint32_t sum;

	put_ether(&frame.ether, link, all_nodes_mac, ETHERTYPE_IPV6);
	memcpy(&frame.ip.ip6_src, addr, 16);
	memcpy(&frame.ip.ip6_dst, all_nodes, 16);
	frame.advert.nd_na_hdr.icmp6_dataun.icmp6_un_data32[0] = ND_NA_FLAG_OVERRIDE |
								 (router ? ND_NA_FLAG_ROUTER : 0);
	memcpy(&frame.advert.nd_na_target, addr, 16);
	memcpy(frame.mac, link->mac, ETH_ALEN);
	/* over the pseudo header too: both addresses, length, protocol (RFC 8200, 8.1) */
	sum = add_words(payload + IPPROTO_ICMPV6, addr, 16);
	sum = add_words(sum, all_nodes, 16);
	sum = add_words(sum, (const char *)&frame + offsetof(struct advert_frame, advert), payload);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	frame.advert.nd_na_hdr.icmp6_cksum = htons((uint16_t)~sum);
	return send_frame(announce, link, &frame, sizeof(frame));
}

int cman_announce_send(const struct cman_announce *announce, const struct cman_link *link,
		       const uint8_t addr[16], bool router)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	int err;

	if (!link->neighbours)
		return -EOPNOTSUPP;
	if (memcmp(addr, mapped, sizeof(mapped)))
		return send_advert(announce, link, addr, router);
	err = send_arp(announce, link, addr + 12, ARPOP_REQUEST);
	return err ? err : send_arp(announce, link, addr + 12, ARPOP_REPLY);
}
