/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Taking a connection out of its socket: check, describe, freeze, export, and then either close or
 * thaw. See usr/include/cman/repair.h for the order of the calls and the picture of the queues.
 *
 * The order inside export() was paid for: the kernel's pacing timer goes on sending until the
 * send queue is selected, so that what was sent and what was not is read only then. And whatever
 * is read is good only if nothing came in meanwhile: the counters of TCP_INFO are the witness,
 * before and after.
 */
#include "usr/sys/repair_impl.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif
/* linux/tls.h */
#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#define TLS_TX_KEY 1
#define TLS_RX_KEY 2
#ifndef TCP_AO_INFO
#define TCP_AO_INFO 40 /* Linux 6.7 */
#endif

#define EXPORT_TRIES 16
/* A segment of which only the beginning was acknowledged stays whole in the queue. */
#define HEAD_ROOM 65536

int cman_repair_info(int fd, struct tcp_info *ret_info)
{
	memset(ret_info, 0, sizeof(*ret_info));
	return cman_repair_get(fd, IPPROTO_TCP, TCP_INFO, ret_info, sizeof(*ret_info));
}

/* --- may it move */

static int check_state(int state, const char **why)
{
	switch (state) {
	case ESTABLISHED:
	case FIN_WAIT1:
	case FIN_WAIT2:
	case CLOSE_WAIT:
	case LAST_ACK:
	case CLOSING:
		return 0;
	case LISTEN:
		return cman_repair_fail(why, -EOPNOTSUPP, "it is a listening socket");
	case SYN_SENT:
	case SYN_RECV:
		return cman_repair_fail(why, -EOPNOTSUPP, "its handshake is not complete");
	case TIME_WAIT:
	case CLOSE:
		return cman_repair_fail(why, -ENOTCONN, "it is not connected");
	default:
		return cman_repair_fail(why, -EOPNOTSUPP, "it is in an unknown state");
	}
}

/*
 * EINVAL: there is none, or what there was has been read, or the socket takes it in line (the
 * byte is then like any other). What was read, but lies before unread bytes, is seen by export().
 */
static int check_urgent(int fd, const char **why)
{
	char byte;

	if (recv(fd, &byte, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) < 0 && errno != EAGAIN)
		return errno == EINVAL ? 0 : cman_repair_fail(why, -errno, "MSG_OOB");
	return cman_repair_fail(why, -EBUSY, "urgent data is under way");
}

/* Who reads the queues: we, or the caller, below an upper layer protocol. */
enum reading { BY_PEEK, RAW };

static bool has_tls_key(int fd, int way)
{
	uint16_t info[2];

	return cman_repair_get(fd, SOL_TLS, way, info, sizeof(info)) == 0;
}

/* Kernel TLS without keys is like none; with one key it can be read neither way. */
static int check_ulp(int fd, enum reading reading, int state, const char **why)
{
	char ulp[16] = "";
	int err = cman_repair_get(fd, IPPROTO_TCP, TCP_ULP, ulp, sizeof(ulp)), keys = 0;

	if (err && err != -ENOPROTOOPT)
		return cman_repair_fail(why, err, "TCP_ULP");
	if (ulp[0] && strcmp(ulp, "tls") != 0)
		return cman_repair_fail(why, -EOPNOTSUPP, "it has an upper layer protocol");
	if (ulp[0])
		keys = has_tls_key(fd, TLS_TX_KEY) + has_tls_key(fd, TLS_RX_KEY);
	if (reading == BY_PEEK)
		return keys ? cman_repair_fail(why, -EOPNOTSUPP, "it has kernel TLS") : 0;
	if (keys != 2)
		return cman_repair_fail(why, -EOPNOTSUPP, "it has no kernel TLS, or only one way");
	if (state != ESTABLISHED)
		return cman_repair_fail(why, -EOPNOTSUPP, "it has kernel TLS and is half-closed");
	return 0;
}

/* What can change from one moment to the next, and costs little to ask. */
static int check_quick(int fd, int want_repair, enum reading reading, struct tcp_info *ret_info,
		       const char **why)
{
	int protocol, repair, err;

	err = cman_repair_get(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, sizeof(protocol));
	if (err)
		return cman_repair_fail(why, err, "it is not a socket");
	if (protocol == IPPROTO_MPTCP)
		return cman_repair_fail(why, -EOPNOTSUPP, "it is an MPTCP socket");
	if (protocol != IPPROTO_TCP)
		return cman_repair_fail(why, -EOPNOTSUPP, "it is not a TCP socket");
	err = cman_repair_get(fd, IPPROTO_TCP, TCP_REPAIR, &repair, sizeof(repair));
	if (err == -ENOPROTOOPT)
		return cman_repair_fail(why, -EOPNOTSUPP, "the kernel has no TCP_REPAIR");
	if (err)
		return cman_repair_fail(why, err, "TCP_REPAIR");
	if (repair != want_repair)
		return cman_repair_fail(why, -EALREADY,
					repair ? "it is in repair already" :
						 "somebody has taken it out of repair");
	err = cman_repair_info(fd, ret_info);
	if (err)
		return cman_repair_fail(why, err, "TCP_INFO");
	err = check_state(ret_info->tcpi_state, why);
	if (err)
		return err;
	err = check_ulp(fd, reading, ret_info->tcpi_state, why);
	/* asking an upper layer protocol for urgent data would be a peek; export_raw() sees it */
	return err || reading == RAW ? err : check_urgent(fd, why);
}

/* May we, and can this kernel? Asked of a socket of our own, which is not connected to anything. */
static int check_permission(const char **why)
{
	struct tcp_repair_window window;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return cman_repair_fail(why, -errno, "socket");
	err = cman_repair_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	if (err == -EPERM)
		cman_repair_fail(why, err, "CAP_NET_ADMIN is missing");
	else if (err)
		cman_repair_fail(why, err, "TCP_REPAIR");
	if (!err && cman_repair_get(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof(window)))
		err = cman_repair_fail(why, -EOPNOTSUPP, "the kernel has no TCP_REPAIR_WINDOW");
	close(fd);
	return err;
}

static int names(int fd, union cman_repair_address *ret_local, union cman_repair_address *ret_peer,
		 const char **why)
{
	socklen_t len = sizeof(*ret_local);

	if (getsockname(fd, &ret_local->any, &len) < 0)
		return cman_repair_fail(why, -errno, "getsockname");
	len = sizeof(*ret_peer);
	if (getpeername(fd, &ret_peer->any, &len) < 0)
		return cman_repair_fail(why, -errno, "getpeername");
	return 0;
}

/* An option that tells nothing but EINVAL (known) or ENOPROTOOPT (not built) of a wrong length. */
static bool kernel_has_md5(int fd)
{
	return cman_repair_set(fd, IPPROTO_TCP, TCP_MD5SIG, 0) != -ENOPROTOOPT;
}

/* Keys cannot be read from a socket; sock_diag(7) tells CAP_NET_ADMIN whether there are any. */
static int check_md5(int fd, const char **why)
{
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 req;
	} ask = {
		.head = { .nlmsg_len = sizeof(ask),
			  .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			  .nlmsg_flags = NLM_F_REQUEST },
		/* keys are told together with INFO only */
		.req = { .sdiag_protocol = IPPROTO_TCP,
			 .idiag_ext = 1 << (INET_DIAG_INFO - 1),
			 .idiag_states = ~0u },
	};
	struct inet_diag_sockid *id = &ask.req.id;
	union cman_repair_address local, peer;
	union {
		struct nlmsghdr head;
		char bytes[4096];
	} answer;
	char device[16] = "";
	uint64_t cookie;
	ssize_t n;
	int err, nl;

	if (!kernel_has_md5(fd))
		return 0;
	err = names(fd, &local, &peer, why);
	if (!err)
		err = cman_repair_get(fd, SOL_SOCKET, SO_COOKIE, &cookie, sizeof(cookie));
	if (err)
		return cman_repair_fail(why, err, "SO_COOKIE");
	ask.req.sdiag_family = (uint8_t)local.any.sa_family;
	if (local.any.sa_family == AF_INET) {
		id->idiag_sport = local.in.sin_port;
		id->idiag_dport = peer.in.sin_port;
		memcpy(id->idiag_src, &local.in.sin_addr, 4);
		memcpy(id->idiag_dst, &peer.in.sin_addr, 4);
	} else {
		id->idiag_sport = local.in6.sin6_port;
		id->idiag_dport = peer.in6.sin6_port;
		memcpy(id->idiag_src, &local.in6.sin6_addr, 16);
		memcpy(id->idiag_dst, &peer.in6.sin6_addr, 16);
		id->idiag_if = local.in6.sin6_scope_id;
	}
#ifdef SO_BINDTOIFINDEX
	int index = 0;

	if (!cman_repair_get(fd, SOL_SOCKET, SO_BINDTODEVICE, device, sizeof(device)) &&
	    device[0] && !cman_repair_get(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, sizeof(index)))
		id->idiag_if = (uint32_t)index;
#endif
	id->idiag_cookie[0] = (uint32_t)cookie;
	id->idiag_cookie[1] = (uint32_t)(cookie >> 32);

	nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (nl < 0)
		return cman_repair_fail(why, -errno, "sock_diag");
	n = send(nl, &ask, sizeof(ask), 0);
	if (n >= 0)
		n = recv(nl, &answer, sizeof(answer), 0);
	err = n < 0 ? -errno : 0;
	close(nl);
	if (err || n < (ssize_t)NLMSG_LENGTH(sizeof(struct inet_diag_msg)) ||
	    answer.head.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return cman_repair_fail(why, err ? err : -EBUSY,
					"sock_diag cannot tell whether it has MD5 keys");

	size_t at = NLMSG_LENGTH(sizeof(struct inet_diag_msg));
	while (at + sizeof(struct nlattr) <= (size_t)n) {
		const struct nlattr *attr = (const struct nlattr *)(answer.bytes + at);

		if (attr->nla_type == INET_DIAG_MD5SIG && attr->nla_len > sizeof(*attr))
			return cman_repair_fail(why, -EOPNOTSUPP, "it has TCP MD5 keys");
		if (attr->nla_len < sizeof(*attr))
			break;
		at += NLMSG_ALIGN(attr->nla_len);
	}
	return 0;
}

/* struct tcp_ao_info_opt is 48 bytes; ENOENT: no keys, ENOPROTOOPT: an older kernel */
static int check_ao(int fd, const char **why)
{
	uint64_t info[6] = { 0 };

	int err = cman_repair_get(fd, IPPROTO_TCP, TCP_AO_INFO, info, sizeof(info));

	if (err)
		return err == -ENOENT || err == -ENOPROTOOPT ?
			       0 :
			       cman_repair_fail(why, err, "TCP_AO_INFO");
	return cman_repair_fail(why, -EOPNOTSUPP, "it has TCP-AO keys");
}

/* Only classic filters can be read, and BPF programs refer to maps: so none moves. */
static int check_filter(int fd, const char **why)
{
	socklen_t len = 0;

	errno = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &len) < 0 && errno != EACCES)
		return cman_repair_fail(why, -errno, "SO_GET_FILTER");
	if (len > 0 || errno == EACCES)
		return cman_repair_fail(why, -EOPNOTSUPP, "it has a socket filter");
	return 0;
}

static int check(int fd, enum reading reading, const char **why)
{
	struct tcp_info info;
	int err = check_quick(fd, 0, reading, &info, why);

	if (!err)
		err = check_permission(why);
	if (!err)
		err = check_filter(fd, why);
	if (!err)
		err = check_md5(fd, why);
	if (!err)
		err = check_ao(fd, why);
	return err;
}

int cman_repair_check(int fd, const char **why)
{
	return check(fd, BY_PEEK, why);
}

int cman_repair_check_raw(int fd, const char **why)
{
	return check(fd, RAW, why);
}

/* --- the image */

void cman_repair_reset(struct cman_repair_image *image)
{
	struct cman_repair_image fresh = {
		.want = image->want,
		.in = { .data = image->in.data, .room = image->in.room },
		.out = { .data = image->out.data, .room = image->out.room },
	};

	*image = fresh;
}

void cman_repair_free(struct cman_repair_image *image)
{
	free(image->in.data);
	free(image->out.data);
	image->in = (struct cman_repair_queue){ 0 };
	image->out = (struct cman_repair_queue){ 0 };
	cman_repair_reset(image);
}

int cman_repair_reserve(struct cman_repair_queue *queue, size_t room)
{
	uint8_t *data;

	if (room <= queue->room)
		return 0;
	room = (room + 4095) & ~(size_t)4095;
	data = realloc(queue->data, room);
	if (!data)
		return -ENOMEM;
	queue->data = data;
	queue->room = room;
	return 0;
}

static void set_address(const union cman_repair_address *a, uint8_t ret_addr[16],
			uint16_t *ret_port)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

	if (a->any.sa_family == AF_INET) {
		memcpy(ret_addr, mapped, 12);
		memcpy(ret_addr + 12, &a->in.sin_addr, 4);
		*ret_port = ntohs(a->in.sin_port);
	} else {
		memcpy(ret_addr, &a->in6.sin6_addr, 16);
		*ret_port = ntohs(a->in6.sin6_port);
	}
}

int cman_repair_names(int fd, struct cman_repair_image *image, const char **why)
{
	union cman_repair_address local, peer;
	int err = names(fd, &local, &peer, why);

	if (err)
		return err;
	if (local.any.sa_family != AF_INET && local.any.sa_family != AF_INET6)
		return cman_repair_fail(why, -EOPNOTSUPP, "it is not a TCP socket");
	image->family = (uint8_t)local.any.sa_family;
	set_address(&local, image->local_addr, &image->local_port);
	set_address(&peer, image->peer_addr, &image->peer_port);
	if (local.any.sa_family == AF_INET6)
		image->scope_id = local.in6.sin6_scope_id;
	return 0;
}

int cman_repair_describe_rest(int fd, struct cman_repair_image *image, unsigned int known,
			      const char **why)
{
	int err;

	if (!(known & CMAN_REPAIR_KNOWS_NAMES)) {
		err = cman_repair_names(fd, image, why);
		if (err)
			return err;
	}
	if (!(known & CMAN_REPAIR_KNOWS_NONBLOCK)) {
		int flags = fcntl(fd, F_GETFL);

		if (flags < 0)
			return cman_repair_fail(why, -errno, "F_GETFL");
		image->nonblock = flags & O_NONBLOCK;
	}
	if (!(known & CMAN_REPAIR_KNOWS_CONGESTION)) {
		err = cman_repair_get(fd, IPPROTO_TCP, TCP_CONGESTION, image->congestion,
				      sizeof(image->congestion));
		if (err)
			return cman_repair_fail(why, err, "congestion");
	}
	if (!(known & CMAN_REPAIR_KNOWS_DEVICE)) {
		err = cman_repair_get(fd, SOL_SOCKET, SO_BINDTODEVICE, image->bindtodevice,
				      sizeof(image->bindtodevice));
		if (err)
			return cman_repair_fail(why, err, "bindtodevice");
	}
	err = cman_repair_options_get(fd, image, false, why);
	if (err)
		return err;
	/* SK_FORCE_REUSE */
	if (image->option[CMAN_REPAIR_REUSEADDR] > 1)
		return cman_repair_fail(why, -EALREADY, "it is in repair already");
	image->described = true;
	return 0;
}

int cman_repair_describe(int fd, struct cman_repair_image *image, const char **why)
{
	cman_repair_reset(image);
	return cman_repair_describe_rest(fd, image, 0, why);
}

/* --- freeze and export */

static void take_info(struct cman_repair_image *image, const struct tcp_info *info)
{
	image->state = info->tcpi_state;
	image->negotiated = info->tcpi_options &
			    (TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE | TCPI_OPT_ECN |
			     TCPI_OPT_ECN_SEEN);
	image->usec_timestamps = info->tcpi_options & TCPI_OPT_USEC_TS;
	image->snd_wscale = info->tcpi_snd_wscale;
	image->rcv_wscale = info->tcpi_rcv_wscale;
	image->bytes_received = info->tcpi_bytes_received;
	image->bytes_acked = info->tcpi_bytes_acked;
	image->speed = (struct cman_repair_speed){
		.snd_cwnd = info->tcpi_snd_cwnd,
		.snd_ssthresh = info->tcpi_snd_ssthresh,
		.rtt_us = info->tcpi_rtt,
		.rttvar_us = info->tcpi_rttvar,
		.min_rtt_us = info->tcpi_min_rtt,
		.rto_us = info->tcpi_rto,
		.rcv_rtt_us = info->tcpi_rcv_rtt,
		.rcv_space = info->tcpi_rcv_space,
		.rcv_ssthresh = info->tcpi_rcv_ssthresh,
		.pacing_rate = info->tcpi_pacing_rate,
		.delivery_rate = info->tcpi_delivery_rate,
	};
}

static bool peeks_at_offset(const struct cman_repair_image *image)
{
	return (image->have & CMAN_REPAIR_BIT(CMAN_REPAIR_PEEK_OFF)) &&
	       image->option[CMAN_REPAIR_PEEK_OFF] >= 0;
}

static int freeze(int fd, struct cman_repair_image *image, enum reading reading, const char **why)
{
	struct tcp_info info;
	int err;

	err = check_quick(fd, 0, reading, &info, why);
	if (err)
		return err;
	if (!image->described) {
		err = cman_repair_describe(fd, image, why);
		if (err)
			return err;
	}
	err = cman_repair_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	if (err)
		return cman_repair_fail(why, err, "TCP_REPAIR");
	take_info(image, &info);
	image->frozen = true;
	err = cman_repair_options_get(fd, image, true, why);
	if (err)
		goto err_thaw;
	/* the peeks of export() would begin there */
	if (peeks_at_offset(image)) {
		err = cman_repair_set(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
		if (err) {
			cman_repair_fail(why, err, "peek_off");
			goto err_thaw;
		}
	}
	return 0;

err_thaw:
	cman_repair_thaw(fd, image, NULL);
	return err;
}

int cman_repair_freeze(int fd, struct cman_repair_image *image, const char **why)
{
	return freeze(fd, image, BY_PEEK, why);
}

int cman_repair_freeze_raw(int fd, struct cman_repair_image *image, const char **why)
{
	return freeze(fd, image, RAW, why);
}

static int ask_length(int fd, unsigned long request, size_t *ret_len)
{
	int len;

	if (ioctl(fd, request, &len) < 0)
		return -errno;
	*ret_len = (size_t)len;
	return 0;
}

/*
 * The bytes of the selected queue. One byte more than expected is asked for, to prove that there is
 * none. -EAGAIN: there were more, or fewer.
 */
static int peek(int fd, struct cman_repair_queue *queue, size_t len)
{
	ssize_t n;
	int err = cman_repair_reserve(queue, len + 1);

	if (err)
		return err;
	queue->len = 0;
	n = recv(fd, queue->data, len + 1, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		n = 0;
	/* the send queue gives all or EFAULT, when there is not room for it */
	if (n < 0)
		return errno == EFAULT ? -EAGAIN : -errno;
	if ((size_t)n != len)
		return -EAGAIN;
	queue->len = len;
	return 0;
}

/*
 * SIOCINQ, and recv() too, stop where urgent data is or was: what lies behind it would be lost.
 * When the socket takes it in line they do not stop. thaw() sets SO_OOBINLINE back. -EAGAIN: they
 * are not the same.
 */
static int unread_length(int fd, const struct cman_repair_image *image, size_t *ret_len)
{
	size_t to_mark = 0;
	int err = 0;

	if (!image->option[CMAN_REPAIR_OOBINLINE]) {
		err = cman_repair_set(fd, SOL_SOCKET, SO_OOBINLINE, 0);
		if (!err)
			err = ask_length(fd, SIOCINQ, &to_mark);
		if (!err)
			err = cman_repair_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	}
	if (!err)
		err = ask_length(fd, SIOCINQ, ret_len);
	if (!err && !image->option[CMAN_REPAIR_OOBINLINE] && to_mark != *ret_len)
		err = -EAGAIN;
	return err;
}

static int export_received(int fd, struct cman_repair_image *image, enum reading reading,
			   size_t held, const char **why)
{
	uint32_t seq;
	size_t len = 0;
	int err;

	err = unread_length(fd, image, &len);
	if (err)
		return cman_repair_fail(why, err, "SIOCINQ");
	err = cman_repair_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, RECV_QUEUE);
	if (!err)
		err = cman_repair_get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, sizeof(seq));
	if (err)
		return cman_repair_fail(why, err, "sequence number received");
	if (reading == BY_PEEK)
		err = peek(fd, &image->in, len);
	else if (image->in.len != held + len)
		err = -EAGAIN;
	if (err)
		return cman_repair_fail(why, err, "receive queue");
	image->recv_seq = seq - image->peer_fin - (uint32_t)image->in.len;
	return 0;
}

static void keep_end(struct cman_repair_queue *queue, size_t len)
{
	memmove(queue->data, queue->data + (queue->len - len), len);
	queue->len = len;
}

/*
 * The kernel cuts acknowledged bytes off only at segments (tcp_tso_acked): when the peer has
 * acknowledged a part of one, the whole of it is still at the head of the queue. The end of the
 * queue is exact.
 */
static int peek_unacked(int fd, struct cman_repair_queue *out, size_t len)
{
	ssize_t n;
	int err = peek(fd, out, len);

	if (err != -EAGAIN)
		return err;
	err = cman_repair_reserve(out, len + HEAD_ROOM);
	if (err)
		return err;
	n = recv(fd, out->data, len + HEAD_ROOM, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EFAULT)
		return -errno;
	if (n < (ssize_t)len)
		return -EAGAIN;
	out->len = (size_t)n;
	keep_end(out, len);
	return 0;
}

static int export_sent(int fd, struct cman_repair_image *image, enum reading reading,
		       const char **why)
{
	size_t unacked = 0, unsent = 0;
	uint32_t seq;
	int err;

	/* first this: from now on the kernel sends nothing more */
	err = cman_repair_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, SEND_QUEUE);
	if (!err)
		err = ask_length(fd, SIOCOUTQNSD, &unsent);
	if (!err)
		err = ask_length(fd, SIOCOUTQ, &unacked);
	if (!err)
		err = cman_repair_get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, sizeof(seq));
	if (err)
		return cman_repair_fail(why, err, "sequence number sent");
	if (image->fin_acked) {
		image->send_seq = seq - 1;
		image->fin_sent = true;
	} else {
		/* caught between the counters: they count our FIN, if there is one */
		if (unsent > unacked || (image->fin && !unacked))
			return -EAGAIN;
		image->send_seq = seq - (uint32_t)unacked;
		image->fin_sent = image->fin && !unsent;
		unacked -= image->fin;
		unsent -= image->fin && unsent;
	}
	if (reading == BY_PEEK)
		err = peek_unacked(fd, &image->out, unacked);
	else if (image->out.len < unacked)
		err = -EAGAIN;
	else if (image->out.len)
		keep_end(&image->out, unacked);
	if (err)
		return cman_repair_fail(why, err, "send queue");
	image->unsent = unsent;
	return 0;
}

static void fins_of_state(struct cman_repair_image *image)
{
	image->peer_fin = image->state == CLOSE_WAIT || image->state == LAST_ACK ||
			  image->state == CLOSING;
	image->fin_acked = image->state == FIN_WAIT2;
	image->fin = image->state == FIN_WAIT1 || image->state == LAST_ACK ||
		     image->state == CLOSING || image->fin_acked;
}

/* -EAGAIN: something came in meanwhile */
static int export_once(int fd, struct cman_repair_image *image, enum reading reading, size_t held,
		       const char **why)
{
	struct tcp_repair_window window;
	struct tcp_info info;
	int err, mss;

	fins_of_state(image);
	err = export_received(fd, image, reading, held, why);
	if (err)
		return err;
	err = export_sent(fd, image, reading, why);
	if (err)
		return err;
	err = cman_repair_get(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss));
	if (err)
		return cman_repair_fail(why, err, "TCP_MAXSEG");
	err = cman_repair_get(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof(window));
	if (err)
		return cman_repair_fail(why, err, "TCP_REPAIR_WINDOW");
	err = cman_repair_get(fd, IPPROTO_TCP, TCP_TIMESTAMP, &image->timestamp,
			      sizeof(image->timestamp));
	if (err)
		return cman_repair_fail(why, err, "TCP_TIMESTAMP");
	image->mss = (uint32_t)mss;
	image->window = (struct cman_repair_window){
		.snd_wl1 = window.snd_wl1,
		.snd_wnd = window.snd_wnd,
		.max_window = window.max_window,
		.rcv_wnd = window.rcv_wnd,
		.rcv_wup = window.rcv_wup,
	};

	/* the witness */
	err = cman_repair_info(fd, &info);
	if (err)
		return cman_repair_fail(why, err, "TCP_INFO");
	if (info.tcpi_state == image->state && info.tcpi_bytes_received == image->bytes_received &&
	    info.tcpi_bytes_acked == image->bytes_acked)
		return 0;
	take_info(image, &info);
	err = check_state(image->state, why);
	return err ? err : -EAGAIN;
}

int cman_repair_export(int fd, struct cman_repair_image *image, const char **why)
{
	int err = -EAGAIN;

	if (!image->frozen)
		return cman_repair_fail(why, -EINVAL, "it is not frozen");
	for (int i = 0; i < EXPORT_TRIES && err == -EAGAIN; i++)
		err = export_once(fd, image, BY_PEEK, 0, why);
	if (err == -EAGAIN)
		return cman_repair_fail(why, -EBUSY,
					"its queues do not stand still, or hold urgent data");
	return err;
}

int cman_repair_export_raw(int fd, struct cman_repair_image *image, size_t held, const char **why)
{
	int err;

	if (!image->frozen || held > image->in.len)
		return cman_repair_fail(why, -EINVAL,
					"it is not frozen, or its bytes are not read");
	err = export_once(fd, image, RAW, held, why);
	if (err == -EAGAIN)
		return cman_repair_fail(why, -EBUSY,
					"its queues are not what was read, or hold urgent data");
	return err;
}

/* --- the same for who knows the state already */

/* What freeze() would have found out, of a socket that hold() has put into repair. */
static int freeze_rest(int fd, struct cman_repair_image *image, const char **why)
{
	struct tcp_info info;
	int err = check_quick(fd, TCP_REPAIR_ON, BY_PEEK, &info, why);

	if (err)
		return err;
	take_info(image, &info);
	err = cman_repair_options_get(fd, image, true, why);
	if (!err && peeks_at_offset(image)) {
		err = cman_repair_set(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
		if (err)
			cman_repair_fail(why, err, "peek_off");
	}
	return err;
}

/*
 * With bytes that were not sent there is no time to lose: as long as the send queue is not selected, the
 * kernel may send them; and as long as it is, a timer makes them "sent" without sending. So such a socket
 * is exported now. The others cannot send anything: what is read of them later is as good as now.
 */
int cman_repair_hold(int fd, struct cman_repair_image *image, const char **why)
{
	size_t unsent = 0;
	int err;

	if (!image->described)
		return cman_repair_fail(why, -EINVAL, "it is not described");
	err = cman_repair_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	if (err)
		return cman_repair_fail(why, err, "TCP_REPAIR");
	image->frozen = true;
	image->exported = false;
	err = ask_length(fd, SIOCOUTQNSD, &unsent);
	if (err) {
		cman_repair_thaw(fd, image, NULL);
		return cman_repair_fail(why, err, "SIOCOUTQNSD");
	}
	if (!unsent)
		return 0;
	err = freeze_rest(fd, image, why);
	if (!err)
		err = cman_repair_export(fd, image, why);
	image->exported = !err;
	return err;
}

/* Does @state say all that export() would have asked for? */
static bool tells_all(const struct cman_repair_image *image, const struct cman_repair_state *state)
{
	const uint64_t buffers = CMAN_REPAIR_BIT(CMAN_REPAIR_RCVBUF) |
				 CMAN_REPAIR_BIT(CMAN_REPAIR_SNDBUF) |
				 CMAN_REPAIR_BIT(CMAN_REPAIR_WINDOW_CLAMP);

	return state && state->repair && state->plain && !state->urgent &&
	       state->snd_nxt == state->write_seq && !peeks_at_offset(image) &&
	       (state->have & buffers) == buffers && !check_state(state->state, NULL);
}

static void take_state(struct cman_repair_image *image, const struct cman_repair_state *state)
{
	image->state = state->state;
	image->negotiated = state->negotiated;
	image->usec_timestamps = state->usec_timestamps;
	image->snd_wscale = state->snd_wscale;
	image->rcv_wscale = state->rcv_wscale;
	image->bytes_received = state->bytes_received;
	image->bytes_acked = state->bytes_acked;
	image->speed = state->speed;
	image->mss = state->mss;
	image->timestamp = state->timestamp;
	image->window = state->window;
	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		if (!(state->have & CMAN_REPAIR_BIT(i)) || !cman_repair_option_moves(i) ||
		    !cman_repair_option_wanted(image, i))
			continue;
		image->option[i] = state->option[i];
		image->have |= CMAN_REPAIR_BIT(i);
	}
}

static int peek_queue(int fd, int which, struct cman_repair_queue *queue, size_t len,
		      const char **why)
{
	int err;

	queue->len = 0;
	if (!len)
		return 0;
	err = cman_repair_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, which);
	if (!err)
		err = which == SEND_QUEUE ? peek_unacked(fd, queue, len) : peek(fd, queue, len);
	return err ? cman_repair_fail(why, err,
				      which == SEND_QUEUE ? "send queue" : "receive queue") :
		     0;
}

/*
 * The end of the receive queue is rcv_nxt, its beginning copied_seq; those of the send queue are
 * write_seq and snd_una, and all of it was sent. FINs are counted in all of them, but not one that
 * was read.
 */
static int export_queues(int fd, struct cman_repair_image *image,
			 const struct cman_repair_state *state, const char **why)
{
	size_t in = state->rcv_nxt - state->copied_seq;
	size_t out = state->write_seq - state->snd_una;
	int err;

	fins_of_state(image);
	if ((image->fin && !image->fin_acked && !out) || (image->fin_acked && out))
		return -EAGAIN;
	if (image->peer_fin && in)
		in--;
	image->recv_seq = state->rcv_nxt - image->peer_fin - (uint32_t)in;
	image->send_seq = state->snd_una - image->fin_acked;
	image->fin_sent = image->fin;
	image->unsent = 0;
	if (!image->fin_acked)
		out -= image->fin;
	err = peek_queue(fd, RECV_QUEUE, &image->in, in, why);
	return err ? err : peek_queue(fd, SEND_QUEUE, &image->out, out, why);
}

int cman_repair_export_known(int fd, struct cman_repair_image *image,
			     const struct cman_repair_state *state, const char **why)
{
	int err;

	if (!image->frozen)
		return cman_repair_fail(why, -EINVAL, "it is not held");
	if (image->exported)
		return 0;
	if (tells_all(image, state)) {
		take_state(image, state);
		err = export_queues(fd, image, state, why);
		if (err != -EAGAIN)
			return err;
	}
	err = freeze_rest(fd, image, why);
	return err ? err : cman_repair_export(fd, image, why);
}

/* --- the two ways out */

int cman_repair_thaw(int fd, struct cman_repair_image *image, const char **why)
{
	int err;

	if (!image->frozen)
		return cman_repair_fail(why, -EINVAL, "it is not frozen");
	if (peeks_at_offset(image)) {
		err = cman_repair_set(fd, SOL_SOCKET, SO_PEEK_OFF,
				      (int)image->option[CMAN_REPAIR_PEEK_OFF]);
		if (err)
			return cman_repair_fail(why, err, "peek_off");
	}
	err = cman_repair_set(fd, SOL_SOCKET, SO_OOBINLINE,
			      (int)image->option[CMAN_REPAIR_OOBINLINE]);
	if (err)
		return cman_repair_fail(why, err, "oobinline");
	err = cman_repair_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF);
	if (err)
		return cman_repair_fail(why, err, "TCP_REPAIR");
	/* leaving repair has set it to 0 */
	err = cman_repair_set(fd, SOL_SOCKET, SO_REUSEADDR,
			      (int)image->option[CMAN_REPAIR_REUSEADDR]);
	if (err)
		return cman_repair_fail(why, err, "reuseaddr");
	image->frozen = false;
	return 0;
}

/*
 * A connection that cannot be ended in silence before its last descriptor is closed is hidden: neither
 * a packet from elsewhere nor another socket with its addresses finds one that is bound to lo.
 */
static int hide(int fd)
{
	return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2) < 0 ? -errno : 0;
}

/*
 * connect(AF_UNSPEC) and not just close(): a duplicate of the descriptor would keep the old
 * connection alive. Kernel TLS refuses that (since 6.15 and its stable siblings).
 */
int cman_repair_close(int fd, const char **why)
{
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
	int err, repair;

	err = cman_repair_get(fd, IPPROTO_TCP, TCP_REPAIR, &repair, sizeof(repair));
	if (err)
		return cman_repair_fail(why, err, "TCP_REPAIR");
	if (!repair)
		return cman_repair_fail(why, -EPERM, "it is not in repair");
	if (connect(fd, &nowhere, sizeof(nowhere)) < 0)
		err = errno == EOPNOTSUPP ? hide(fd) : -errno;
	close(fd);
	return err ? cman_repair_fail(why, err, "disconnect") : 0;
}

int cman_repair_abort(int fd, const char **why)
{
	return cman_repair_close(fd, why);
}
