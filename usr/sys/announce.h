/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the neighbours that an address is here now: gratuitous ARP for IPv4, an unsolicited
 * neighbour advertisement for IPv6. Neighbours that know the address replace its MAC at once;
 * those that do not, learn nothing and will ask.
 *
 *	cman_announce_init()	long before the move
 *	cman_address_add()	(netlink.h) the address to the interface: who asks must be answered
 *	cman_announce_send()	as often as the caller likes: frames get lost, and nobody confirms them
 *	...
 *	cman_announce_fini()	long after the move
 *
 * It owns one AF_PACKET socket for all interfaces and both families. Opening and above all closing
 * one waits for every CPU (40 to 65 ms were seen, in a loop that also relayed): so it is made
 * beforehand and kept. It receives nothing.
 *
 * 0 or -errno. Never waits. Needs CAP_NET_RAW at init, in the namespace of the interfaces.
 */
#ifndef CMAN_SYS_ANNOUNCE_H
#define CMAN_SYS_ANNOUNCE_H

#include <stdbool.h>
#include <stdint.h>

#include "usr/sys/netlink.h"

struct cman_announce {
	int fd;
};

/* After a failure there is nothing to fini. */
int cman_announce_init(struct cman_announce *announce);
void cman_announce_fini(struct cman_announce *announce);

/*
 * Announces @addr (v4-mapped or IPv6) on @link with its MAC, once:
 *
 * IPv4	two broadcast frames, an ARP request and an ARP reply, both from and for @addr (RFC 5944,
 *	4.6: some systems believe only the one form, some only the other; RFC 5227, 3).
 * IPv6	one neighbour advertisement to ff02::1 with the override flag and the MAC, from @addr
 *	(RFC 4861, 7.2.6). @router: this machine forwards IPv6 on @link (net.ipv6.conf.*.forwarding);
 *	hosts that use it as their router forget it when the flag is wrong.
 *
 * Whether the address is on the interface is not checked. -EOPNOTSUPP: @link has no neighbours (lo,
 * tun). -ENETDOWN: it is down. -ENXIO or -ENODEV: it is gone. -ENOBUFS, -EAGAIN: its queue is full;
 * of two frames one may have left.
 */
int cman_announce_send(const struct cman_announce *announce, const struct cman_link *link,
		       const uint8_t addr[16], bool router);

#endif
