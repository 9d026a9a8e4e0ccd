/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Settings of interfaces under /proc/sys/net/ipv4/conf and /proc/sys/net/ipv6/conf: changed so
 * that they can be put back, and the three that let a machine have an address without its
 * neighbours noticing.
 *
 *	cman_quiet_begin()	on each interface that leads to the network of the address, *before*
 *	cman_address_add()	(netlink.h) the address on lo, /32 or /128
 *	...			packets that are sent to our MAC are taken; connections can be made
 *				from the address; nobody who asks for it gets an answer from us
 *	cman_address_add()	to the interface, cman_announce_send(), cman_address_remove() from lo
 *	cman_quiet_end()	when no quiet address is left on lo
 *
 * Why each is needed (Documentation/networking/ip-sysctl.rst of the kernel):
 *
 * arp_ignore = 1	Linux answers ARP for every address of the machine on every interface, so for
 *			those of lo too. With 1 it answers only for those of the interface.
 * arp_announce = 2	When we send from the address to a neighbour whose MAC is not known, the ARP
 *			request says "from" that address, and the neighbour would note our MAC for
 *			it. With 2 the request comes from an address of the interface.
 * rp_filter		With 1 ("strict") a packet is dropped when its answer would leave by another
 *			interface. Packets of moved sessions are handed over by the machine that had
 *			them, so they may come in where their clients have no route. 0, or 2
 *			("loose") where 0 on the interface is overruled by conf/all.
 *
 * The kernel takes the larger one of conf/all and conf/INTERFACE for all three. conf/all is never
 * written here: it would change the other interfaces.
 *
 * IPv6 needs none of this: the kernel answers neighbour solicitations only for addresses of the
 * interface that they come in by (or that it is told to be a proxy for), also when it forwards, and
 * solicits from an address of the interface.
 *
 * Two machines that have the same IPv4 address cannot talk from it to each other: a packet from an
 * address of ours is dropped ("martian source"). Their own conversation needs addresses of its own.
 *
 * Everything is of the network namespace of the calling thread. 0 or -errno: -ENODEV no such
 * interface (or no such setting in this kernel), -EACCES not root there, -EROFS /proc/sys is
 * read-only, as in some containers.
 */
#ifndef CMAN_SYS_IFCONF_H
#define CMAN_SYS_IFCONF_H

#include <net/if.h>
#include <stdint.h>

/*
 * One setting that was changed, and how to undo it. Plain data: whoever has to put things back
 * after a crash stores it in a file.
 */
struct cman_ifconf {
	char interface[IFNAMSIZ];
	char key[24];
	uint16_t family; /* AF_INET, AF_INET6; 0: nothing was changed */
	int32_t old;
	int32_t value;
};

/* @interface may also be "all" or "default". */
int cman_ifconf_get(uint16_t family, const char *interface, const char *key, int32_t *ret_value);

/* Sets it unless it has this value already; *ret_saved says which. -EINVAL: the kernel refuses it. */
int cman_ifconf_set(uint16_t family, const char *interface, const char *key, int32_t value,
		    struct cman_ifconf *ret_saved);

/*
 * Puts the old value back. 0 also when nothing was changed, and when the interface is gone.
 * -ESTALE: somebody else has changed it since; it is left as it is.
 */
int cman_ifconf_restore(const struct cman_ifconf *saved);

/* Plain data too. A zeroed one has nothing to end. */
struct cman_quiet {
	struct cman_ifconf saved[3];
};

/*
 * One at a time for an interface: a second one would find everything in order, save nothing, and
 * lose it at the end of the first. Who holds several addresses counts them.
 * What was changed on failure is undone. -EBUSY: conf/all has an arp_ignore (3 to 7) or
 * arp_announce (above 2) that wins and does not do.
 */
int cman_quiet_begin(const char *interface, struct cman_quiet *ret_quiet);

/* All three, even when one fails; the first error. */
int cman_quiet_end(struct cman_quiet *quiet);

#endif
