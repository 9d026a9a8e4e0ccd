/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asks the kernel about TCP sockets of the network namespace without having their descriptors
 * (NETLINK_SOCK_DIAG). The ledger names sockets by cookie; one dump joins the cookies to addresses
 * for `show sessions`. Costs one pass over the kernel's table (10 ms with 100,000 entries): made
 * once a command, never in a loop.
 *
 *	cman_diag_sockets()   every socket of a connection, one call of the callback each
 *	cman_diag_listener()  how full the accept queue of a listening socket is (cheap). Who has
 *			      its descriptor asks cman_diag_listener_fd(), which is cheaper still
 *
 * Addresses are v4-mapped, ports in host byte order. Needs no privilege.
 */
#ifndef CMAN_SYS_DIAG_H
#define CMAN_SYS_DIAG_H

#include <stdint.h>

struct cman_diag_socket {
	uint64_t cookie; /* as SO_COOKIE says */
	uint8_t local[16];
	uint8_t remote[16];
	uint16_t local_port;
	uint16_t remote_port;
	uint8_t state; /* TCP_ESTABLISHED... of netinet/tcp.h */
};

/* Anything but 0 ends the dump and is what cman_diag_sockets() returns: use -errno or 1. */
typedef int (*cman_diag_fn)(void *arg, const struct cman_diag_socket *socket);

/*
 * All TCP sockets that are neither listening nor closed nor in TIME_WAIT. A connection made or
 * ended during the dump may or may not be in it. 0, what @fn returned, or -errno; -EOPNOTSUPP: the
 * kernel has no inet_diag.
 */
int cman_diag_sockets(cman_diag_fn fn, void *arg);

struct cman_diag_queue {
	uint32_t length;  /* connections that wait for accept() */
	uint32_t backlog; /* room for as many */
};

/*
 * The queue of the listening socket with this cookie, or, with cookie 0, of the one bound to
 * exactly this address and port (of several: their sum). -ENOENT: there is none.
 */
int cman_diag_listener(uint64_t cookie, const uint8_t addr[16], uint16_t port,
		       struct cman_diag_queue *ret_queue);
int cman_diag_listener_fd(int fd, struct cman_diag_queue *ret_queue);

#endif
