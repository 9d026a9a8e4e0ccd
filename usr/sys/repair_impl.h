/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of cman_repair (usr/include/cman/repair.h) share: errors with their reason, the
 * option table, and the making of one TCP segment.
 */
#ifndef CMAN_SYS_REPAIR_IMPL_H
#define CMAN_SYS_REPAIR_IMPL_H

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "cman/repair.h"

/* netinet/tcp.h has these names, but its struct tcp_info is too short */
enum {
	ESTABLISHED = 1,
	SYN_SENT = 2,
	SYN_RECV = 3,
	FIN_WAIT1 = 4,
	FIN_WAIT2 = 5,
	TIME_WAIT = 6,
	CLOSE = 7,
	CLOSE_WAIT = 8,
	LAST_ACK = 9,
	LISTEN = 10,
	CLOSING = 11,
};

#ifndef TCPI_OPT_USEC_TS
#define TCPI_OPT_USEC_TS 64
#endif

/* tcp(7) does not have them; net/ipv4/tcp.c: enum in TCP_REPAIR_QUEUE */
enum {
	NO_QUEUE = 0,
	RECV_QUEUE = 1,
	SEND_QUEUE = 2,
};

/* Returns @err, with its reason. */
static inline int cman_repair_fail(const char **why, int err, const char *reason)
{
	if (why)
		*why = reason;
	return err;
}

static inline int cman_repair_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static inline int cman_repair_get(int fd, int level, int name, void *ret_value, socklen_t len)
{
	return getsockopt(fd, level, name, ret_value, &len) < 0 ? -errno : 0;
}

/* Room for an address of either family, as bind() and connect() want it. */
union cman_repair_address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* Family, addresses and ports. */
int cman_repair_names(int fd, struct cman_repair_image *image, const char **why);

/* TCP_INFO; what an older kernel does not fill in is 0 */
int cman_repair_info(int fd, struct tcp_info *ret_info);

/* When an option is set on a new socket. */
enum cman_repair_phase {
	PHASE_EARLY, /* before bind() */
	PHASE_MID,   /* connected, queues and window filled, in repair */
	PHASE_LATE,  /* live, with nothing left to send */
};

/*
 * All options of image->want that it does not have yet, or again those that the kernel itself
 * changes.
 */
int cman_repair_options_get(int fd, struct cman_repair_image *image, bool moving_only,
			    const char **why);
/* @defaults NULL: the socket itself is asked. */
int cman_repair_options_set(int fd, struct cman_repair_image *image,
			    const struct cman_repair_defaults *defaults,
			    enum cman_repair_phase phase, const char **why);
/* Does image->want have it, or will moving change it anyway? */
bool cman_repair_option_wanted(const struct cman_repair_image *image, int option);
/* Does the kernel change it while the connection lives? */
bool cman_repair_option_moves(int option);

enum cman_repair_segment {
	SEGMENT_FIN, /* the peer's FIN */
	SEGMENT_ACK, /* the peer's acknowledgement of our FIN */
};

/* Can segments be injected for this image? */
int cman_repair_inject_check(const struct cman_repair_image *image, const char **why);
/* Gives the socket @fd that segment and waits until it has left the state @from. Can be repeated. */
int cman_repair_inject_segment(int fd, const struct cman_repair_image *image,
			       const struct cman_repair_inject *inject, int from,
			       enum cman_repair_segment segment, const char **why);

#endif
