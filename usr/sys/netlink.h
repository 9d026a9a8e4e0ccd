/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interfaces, addresses, neighbours and routes of a network namespace, by rtnetlink(7) through
 * libmnl. What moves addresses between machines asks and changes the kernel here, and never runs
 * ip(8): one fork stalled a move of busy sessions by 64 ms.
 *
 *	cman_netlink_init()		in the namespace that is meant; the socket stays in it
 *	cman_link_by_name(), ...	questions
 *	cman_address_add(), ...		orders; they tell whether it was us who changed something
 *	cman_netlink_fini()
 *
 *	cman_watch_open()		a descriptor for the caller's loop: what changes
 *	cman_watch_drain()		when it is readable
 *
 * The other two thirds of moving an address are announce.h (telling the neighbours) and ifconf.h
 * (having an address without telling them). Documentation/addresses.rst has the whole story.
 *
 * Addresses are 16 bytes, IPv4 ones v4-mapped, but prefix lengths are the family's own: 0..32 or
 * 0..128. Every function returns 0 or -errno and leaves its outputs alone when it fails. The kernel
 * answers within the system call, so nothing here waits, but for cman_neigh_resolve(), which says
 * for how long. No global state: any number of struct cman_netlink, each used by one thread at a
 * time. Questions need no privilege, orders need CAP_NET_ADMIN in the namespace (else -EPERM).
 */
#ifndef CMAN_SYS_NETLINK_H
#define CMAN_SYS_NETLINK_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mnl_socket;

struct cman_netlink {
	struct mnl_socket *socket;
	uint32_t portid;
	uint32_t seq;
	/*
	 * What the kernel said about the last request that it refused, for the log; "" when it gave
	 * no reason but the errno (netlink's extended acknowledgement).
	 */
	char why[120];
};

/* After a failure there is nothing to fini. */
int cman_netlink_init(struct cman_netlink *nl);
void cman_netlink_fini(struct cman_netlink *nl);

/* --- interfaces */

struct cman_link {
	int ifindex;
	int master;	/* the bridge or bond that it belongs to; 0: none */
	uint32_t flags; /* IFF_UP, IFF_RUNNING, IFF_LOOPBACK, IFF_NOARP... of net/if.h */
	uint32_t mtu;
	uint16_t type; /* ARPHRD_... of net/if_arp.h */
	/* Packets carry an Ethernet header that may be rewritten, and mac is set. Not lo, not tun. */
	bool ethernet;
	/* It has neighbours that ask for addresses: ethernet, and not IFF_NOARP. */
	bool neighbours;
	uint8_t mac[6];
	char name[IFNAMSIZ];
	char kind[IFNAMSIZ]; /* "veth", "bridge", "tun"...; "" for hardware and lo */
};

/* All of them, in the kernel's order, in an array that the caller frees. */
int cman_link_list(struct cman_netlink *nl, struct cman_link **ret_links, size_t *ret_n);

/* -ENODEV: there is none. */
int cman_link_by_name(struct cman_netlink *nl, const char *name, struct cman_link *ret_link);
int cman_link_by_index(struct cman_netlink *nl, int ifindex, struct cman_link *ret_link);

/* --- addresses */

struct cman_ifaddr {
	int ifindex;
	uint8_t addr[16];
	uint8_t prefix_len; /* of its family: 32 and 128 are single addresses */
	uint8_t scope;	    /* RT_SCOPE_... of linux/rtnetlink.h; 0 is "global" */
	uint32_t flags;	    /* IFA_F_... of linux/if_addr.h */
};

/*
 * The addresses of the interface @ifindex (0: of all), all of them or, with @addr, only this one.
 * An address can be on several interfaces at a time, and an IPv4 one also several times on one,
 * with different prefix lengths. The caller frees the array, which is NULL when nothing was found.
 */
int cman_address_list(struct cman_netlink *nl, int ifindex, const uint8_t addr[16],
		      struct cman_ifaddr **ret_addresses, size_t *ret_n);

/* The first of that list. -EADDRNOTAVAIL: nobody has it. */
int cman_address_find(struct cman_netlink *nl, const uint8_t addr[16], int ifindex,
		      struct cman_ifaddr *ret_address);

/*
 * 0: it was not there, and is now. Only then is it the caller's to remove.
 * -EEXIST: it was there already (IPv4: on this interface with this length; IPv6: on this interface
 * with any). -ENODEV: no such interface. -EACCES, -EINVAL: the kernel takes no addresses of this
 * family there; nl->why may tell more.
 *
 * Of @address->flags these may be set:
 * IFA_F_NODAD		IPv6: without it the address is "tentative" for a second or more and cannot be
 *			used, and it fails for good when another machine still has it, as in a move.
 * IFA_F_DEPRECATED	the kernel does not choose it for connections that are not bound to an address;
 *			all else works. To set with IPv6 addresses that may move on: of a machine's
 *			addresses the kernel chooses the most similar to the destination's, so even a
 *			/128 may win. (IPv4 chooses by route and takes no notice.)
 * IFA_F_NOPREFIXROUTE	the network is not made reachable through this interface. To set with every
 *			length but 32 and 128 on an interface that has another address of the same
 *			network.
 *
 * Floating addresses are best single ones, /32 or /128: an IPv4 address of a network that the
 * interface has already becomes a "secondary" of it, and when the first address of a network goes,
 * the kernel removes all its secondaries (unless promote_secondaries is set, see ifconf.h).
 */
int cman_address_add(struct cman_netlink *nl, const struct cman_ifaddr *address);

/*
 * Interface, address and length must match; flags and scope do not matter. -EADDRNOTAVAIL: it was
 * not there. -ENODEV: the interface is not (and with it went its addresses).
 */
int cman_address_remove(struct cman_netlink *nl, const struct cman_ifaddr *address);

/* --- neighbours */

struct cman_neigh {
	uint8_t mac[6];
	/* Confirmed within the last half minute or so, or written by hand; else it may be old. */
	bool fresh;
};

/*
 * What the kernel knows about the neighbour @addr of an interface; asks nobody. -EAGAIN: it is being
 * asked for. -EHOSTUNREACH: nobody answered. -ENOENT: never heard of.
 */
int cman_neigh_get(struct cman_netlink *nl, int ifindex, const uint8_t addr[16],
		   struct cman_neigh *ret_neigh);

/*
 * Lets the kernel ask: an ARP request or neighbour solicitation for what it does not know or had
 * given up on (NTF_USE of linux/neighbour.h). Returns at once; the answer is a CMAN_WATCH_NEIGHBOUR
 * event, then cman_neigh_get() has it. No answer is an event too, after three seconds by default.
 */
int cman_neigh_probe(struct cman_netlink *nl, int ifindex, const uint8_t addr[16]);

/*
 * Both, and waits @timeout_ms at most. An old answer is an answer. -ETIMEDOUT: none yet, the kernel
 * goes on asking. -EHOSTUNREACH: nobody answered.
 */
int cman_neigh_resolve(struct cman_netlink *nl, int ifindex, const uint8_t addr[16], int timeout_ms,
		       struct cman_neigh *ret_neigh);

/* --- routes */

struct cman_route {
	int ifindex;	      /* packets leave here; lo for a local address */
	bool local;	      /* the destination is this machine */
	uint8_t source[16];   /* the address that they would come from; all zero: none */
	uint8_t next_hop[16]; /* the neighbour whose MAC they carry: a gateway or @to itself */
};

/*
 * How packets to @to would leave, from the address @from (NULL: whatever the kernel chooses; else it
 * must be on this machine). -ENETUNREACH, -EHOSTUNREACH, -EACCES as the routing table says.
 */
int cman_route_get(struct cman_netlink *nl, const uint8_t to[16], const uint8_t from[16],
		   struct cman_route *ret_route);

/* --- watching */

enum {
	CMAN_WATCH_LINKS = 1,
	CMAN_WATCH_ADDRESSES = 2,
	CMAN_WATCH_NEIGHBOURS = 4,
};

enum cman_watch_kind {
	CMAN_WATCH_LINK,	 /* link: made or changed in any way */
	CMAN_WATCH_LINK_GONE,	 /* link: what it was (also when it went to another namespace) */
	CMAN_WATCH_ADDRESS,	 /* address: added, or its flags changed (tentative ended) */
	CMAN_WATCH_ADDRESS_GONE, /* address */
	CMAN_WATCH_NEIGHBOUR,	 /* neighbour: something changed, or it was forgotten */
	CMAN_WATCH_LOST,	 /* there were more events than room: list everything anew */
};

struct cman_watch_event {
	enum cman_watch_kind kind;
	union {
		struct cman_link link;
		struct cman_ifaddr address;
		struct {
			int ifindex;
			uint8_t addr[16];
		} neighbour;
	};
};

typedef void (*cman_watch_fn)(void *arg, const struct cman_watch_event *event);

/*
 * A non-blocking, CLOEXEC socket that becomes readable on changes in this namespace; closed with
 * close(2). Open it first and list afterwards, then nothing is missed.
 */
int cman_watch_open(unsigned int what, int *ret_fd);

/* Calls @fn for every event that has come, until there is none. 0 or -errno. */
int cman_watch_drain(int fd, cman_watch_fn fn, void *arg);

#endif
