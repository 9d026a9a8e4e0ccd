/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCP sockets as the relay needs them: addresses to and from the v4-mapped form, cookies, counters
 * read in one consistent moment, and the few options. Thin: no policy, nothing is logged.
 */
#ifndef CMAN_SYS_SOCK_H
#define CMAN_SYS_SOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "usr/core/session.h"

/* Fills @ss from a v4-mapped address and a port in host order; returns its length. */
socklen_t cman_sockaddr(struct sockaddr_storage *ss, uint16_t family, const uint8_t addr[16],
			uint16_t port);
/* The other way round; returns the family, or -EAFNOSUPPORT. */
int cman_sockaddr_get(const struct sockaddr_storage *ss, uint8_t ret_addr[16], uint16_t *ret_port);

/* SO_COOKIE, or 0 when @fd is not an open socket. */
uint64_t cman_sock_cookie(int fd);

/* The pending error (SO_ERROR): 0 or a positive errno; reading it clears it. */
int cman_sock_error(int fd);

/*
 * The counters of @fd. TCP_INFO, SIOCINQ and SIOCOUTQ are three calls: repeated until no byte
 * arrived and none was acknowledged in between. 0 or -errno (-ENOTSOCK: not the socket it was;
 * -EBUSY: never stood still).
 */
int cman_sock_counters(int fd, bool initiated, struct cman_leg *ret_leg);

/* close(2) that sends a RST: SO_LINGER 0 first. */
void cman_sock_abort(int fd);

/*
 * A listening socket: non-blocking, CLOEXEC, TCP_NODELAY (inherited by what it accepts),
 * SO_REUSEADDR; IPv6 ones take IPv6 only. 0 or -errno.
 */
int cman_sock_listen(uint16_t family, const uint8_t addr[16], uint16_t port, int *ret_fd);
/* The same for an address that this host may not have yet (IP_FREEBIND). */
int cman_sock_listen_free(uint16_t family, const uint8_t addr[16], uint16_t port, int *ret_fd);

#endif
