/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Putting a connection into a new socket: import (silent, can be undone), then release. See
 * usr/include/cman/repair.h for the order of the calls and the picture of the queues.
 *
 * In repair connect() makes an established socket without a packet. What must be in force by then
 * (MSS, address, device, route) is set before it; what would send something comes after repair,
 * in release().
 */
#include "usr/sys/repair_impl.h"

#include <string.h>
#include <unistd.h>

#define CHUNK	  65536
#define CHUNK_MIN 1024
#define MSS_MIN	  88
#define MSS_MAX	  32767

#ifndef TCPOPT_MSS
#define TCPOPT_MSS	 2
#define TCPOPT_WINDOW	 3
#define TCPOPT_SACK_PERM 4
#define TCPOPT_TIMESTAMP 8
#endif

static socklen_t make_address(union cman_repair_address *ret, const struct cman_repair_image *image,
			      const uint8_t addr[16], uint16_t port)
{
	memset(ret, 0, sizeof(*ret));
	if (image->family == AF_INET) {
		ret->in.sin_family = AF_INET;
		ret->in.sin_port = htons(port);
		memcpy(&ret->in.sin_addr, addr + 12, 4);
		return sizeof(ret->in);
	}
	ret->in6.sin6_family = AF_INET6;
	ret->in6.sin6_port = htons(port);
	memcpy(&ret->in6.sin6_addr, addr, 16);
	/* the kernel ignores it unless the address is link-local */
	ret->in6.sin6_scope_id = image->scope_id;
	return sizeof(ret->in6);
}

static int bind_device(int fd, const char *device)
{
	return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) < 0 ?
		       -errno :
		       0;
}

static int set_seq(int fd, int queue, uint32_t seq)
{
	int err = cman_repair_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue);

	return err ? err : cman_repair_set(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, (int)seq);
}

/* Bind with the reuse that repair forces: SO_REUSEADDR must not be touched before. */
static int bind_local(int fd, const struct cman_repair_image *image, const char **why)
{
	union cman_repair_address local;
	socklen_t len = make_address(&local, image, image->local_addr, image->local_port);
	int err;

	if (bind(fd, &local.any, len) == 0)
		return 0;
	if (errno != EADDRNOTAVAIL)
		return cman_repair_fail(why, -errno, "bind");
	/* an IPv6 address whose uniqueness is still being tested */
	err = cman_repair_set(fd, IPPROTO_IP, IP_FREEBIND, 1);
	if (!err && bind(fd, &local.any, len) < 0)
		err = -errno;
	if (!err)
		err = cman_repair_set(fd, IPPROTO_IP, IP_FREEBIND,
				      (int)image->option[CMAN_REPAIR_FREEBIND]);
	return err ? cman_repair_fail(why, err, "bind: the address is not here") : 0;
}

static int connect_peer(int fd, const struct cman_repair_image *image, const char **why)
{
	union cman_repair_address peer;
	socklen_t len = make_address(&peer, image, image->peer_addr, image->peer_port);
	int mss = (int)(image->mss < MSS_MIN ? MSS_MIN :
			image->mss > MSS_MAX ? MSS_MAX :
					       image->mss);
	int err;

	/* before connect(), or segments stay at the default of 536 bytes */
	err = cman_repair_set(fd, IPPROTO_TCP, TCP_MAXSEG, mss);
	if (err)
		return cman_repair_fail(why, err, "TCP_MAXSEG");
	err = set_seq(fd, RECV_QUEUE, image->recv_seq);
	if (!err)
		err = set_seq(fd, SEND_QUEUE, image->send_seq);
	if (err)
		return cman_repair_fail(why, err, "TCP_QUEUE_SEQ");
	if (connect(fd, &peer.any, len) < 0) {
		err = -errno;
		return cman_repair_fail(why, err,
					err == -EADDRNOTAVAIL ?
						"connect: these addresses and ports are in use" :
						"connect");
	}
	return 0;
}

/*
 * The timestamp clock must never go back, or the peer discards what we send (PAWS). Reading it
 * has cut its lowest bit off, which says whether it counts microseconds (Linux 6.7; before, the
 * bit was part of the value). So round up.
 */
static int restore_clock(int fd, const struct cman_repair_image *image, const char **why)
{
	uint32_t clock = image->usec_timestamps ? image->timestamp | 1 :
						  (image->timestamp + 2) & ~1u;
	struct tcp_info info;
	int err = cman_repair_set(fd, IPPROTO_TCP, TCP_TIMESTAMP, (int)clock);

	if (err)
		return cman_repair_fail(why, err, "TCP_TIMESTAMP");
	if (!image->usec_timestamps)
		return 0;
	err = cman_repair_info(fd, &info);
	if (err)
		return cman_repair_fail(why, err, "TCP_INFO");
	if (!(info.tcpi_options & TCPI_OPT_USEC_TS))
		return cman_repair_fail(why, -EOPNOTSUPP,
					"the kernel has no timestamps in microseconds");
	return 0;
}

static int restore_negotiated(int fd, const struct cman_repair_image *image, const char **why)
{
	struct tcp_repair_opt opts[4];
	int n = 0;

	opts[n++] = (struct tcp_repair_opt){ TCPOPT_MSS, image->mss };
	/*
	 * Always: connect() has chosen a scale for our window by the sysctls of this place, and
	 * the peer of a connection without scaling would read our window 128 times too small.
	 */
	opts[n++] = (struct tcp_repair_opt){
		TCPOPT_WINDOW, (uint32_t)image->snd_wscale | (uint32_t)image->rcv_wscale << 16
	};
	if (image->negotiated & TCPI_OPT_SACK)
		opts[n++] = (struct tcp_repair_opt){ TCPOPT_SACK_PERM, 0 };
	if (image->negotiated & TCPI_OPT_TIMESTAMPS)
		opts[n++] = (struct tcp_repair_opt){ TCPOPT_TIMESTAMP, 0 };
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, opts, (socklen_t)(n * sizeof(*opts))) <
	    0)
		return cman_repair_fail(why, -errno, "TCP_REPAIR_OPTIONS");
	if (image->negotiated & TCPI_OPT_TIMESTAMPS)
		return restore_clock(fd, image, why);
	return 0;
}

/* Puts bytes into the queue of a socket in repair: what of it is the kernel's decision. */
static int fill(int fd, int queue, const uint8_t *data, size_t len)
{
	size_t done = 0, chunk = CHUNK;
	int err = cman_repair_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue);

	if (err)
		return err;
	while (done < len) {
		size_t want = len - done < chunk ? len - done : chunk;
		ssize_t n = send(fd, data + done, want, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != ENOMEM && errno != EAGAIN && errno != ENOBUFS)
			return -errno;
		chunk /= 2;
		if (chunk < CHUNK_MIN)
			return -ENOMEM;
	}
	return 0;
}

/*
 * Both limits are taken for memory, not for bytes; the kernel doubles what it is told. What is small
 * beside the limit that is there anyway needs nothing: a limit that was set is not tuned any more.
 */
static int make_room(int fd, int get, int option, struct cman_repair_image *image, size_t len)
{
	size_t room = len + 4 * CHUNK;
	int now;

	if (!cman_repair_get(fd, SOL_SOCKET, get, &now, sizeof(now)) && now > 0 &&
	    len <= (size_t)now / 4)
		return 0;
	image->forced = true;
	return cman_repair_set(fd, SOL_SOCKET, option, room > 0x3fffffff ? 0x3fffffff : (int)room);
}

static int restore_queues(int fd, struct cman_repair_image *image, const char **why)
{
	int err;

	if (image->in.len) {
		err = make_room(fd, SO_RCVBUF, SO_RCVBUFFORCE, image, image->in.len);
		if (!err)
			err = fill(fd, RECV_QUEUE, image->in.data, image->in.len);
		if (err)
			return cman_repair_fail(why, err, "receive queue");
	}
	/* room for the unsent bytes too: release() takes it back */
	if (image->out.len) {
		err = make_room(fd, SO_SNDBUF, SO_SNDBUFFORCE, image, image->out.len);
		if (!err)
			err = fill(fd, SEND_QUEUE, image->out.data, image->out.len - image->unsent);
		if (err)
			return cman_repair_fail(why, err, "send queue");
	}
	return 0;
}

static int restore_window(int fd, const struct cman_repair_image *image, const char **why)
{
	struct tcp_repair_window window = {
		.snd_wl1 = image->window.snd_wl1,
		.snd_wnd = image->window.snd_wnd,
		.max_window = image->window.max_window,
		.rcv_wnd = image->window.rcv_wnd,
		.rcv_wup = image->window.rcv_wup,
	};
	uint32_t rcv_nxt = image->recv_seq + (uint32_t)image->in.len;

	/* the old socket had acknowledged a FIN that this one has not had yet; the right edge stays */
	if (image->peer_fin && window.rcv_wup == rcv_nxt + 1) {
		window.rcv_wup--;
		window.rcv_wnd++;
	}
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof(window)) < 0)
		return cman_repair_fail(why, -errno, "TCP_REPAIR_WINDOW");
	return 0;
}

static bool needs_injection(const struct cman_repair_image *image)
{
	return image->peer_fin || image->fin_acked;
}

static int check_image(const struct cman_repair_image *image, const char **why)
{
	if ((image->family != AF_INET && image->family != AF_INET6) ||
	    image->unsent > image->out.len || image->snd_wscale > 14 || image->rcv_wscale > 14 ||
	    (image->in.len && !image->in.data) || (image->out.len && !image->out.data) ||
	    (image->fin_acked && image->out.len) || (image->fin_sent && image->unsent) ||
	    ((image->fin_sent || image->fin_acked) && !image->fin))
		return cman_repair_fail(why, -EINVAL, "the image contradicts itself");
	return 0;
}

/* One that this kernel does not have is replaced by its default. */
static int restore_congestion(int fd, const struct cman_repair_image *image,
			      const struct cman_repair_defaults *defaults, const char **why)
{
	size_t size = sizeof(image->congestion);

	if (defaults && strncmp(defaults->congestion, image->congestion, size) == 0)
		return 0;
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, image->congestion,
		       (socklen_t)strnlen(image->congestion, size)) < 0 &&
	    errno != ENOENT)
		return cman_repair_fail(why, -errno, "congestion");
	return 0;
}

int cman_repair_import(struct cman_repair_image *image, const struct cman_repair_inject *inject,
		       int *ret_fd, const char **why)
{
	return cman_repair_import_with(image, NULL, inject, ret_fd, why);
}

int cman_repair_import_with(struct cman_repair_image *image,
			    const struct cman_repair_defaults *defaults,
			    const struct cman_repair_inject *inject, int *ret_fd, const char **why)
{
	char device[sizeof(image->bindtodevice) + 1] = "";
	int err, fd;

	err = check_image(image, why);
	if (err)
		return err;
	if (defaults && defaults->family != image->family)
		return cman_repair_fail(why, -EINVAL, "these defaults are of another family");
	image->forced = false;
	if (needs_injection(image) && !inject) {
		err = cman_repair_inject_check(image, why);
		if (err)
			return err;
	}
	fd = socket(image->family,
		    SOCK_STREAM | SOCK_CLOEXEC | (image->nonblock ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		return cman_repair_fail(why, -errno, "socket");
	err = cman_repair_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	if (err) {
		cman_repair_fail(why, err, "TCP_REPAIR");
		goto err_close;
	}
	memcpy(device, image->bindtodevice, sizeof(image->bindtodevice));
	if (device[0]) {
		err = bind_device(fd, device);
		if (err) {
			cman_repair_fail(why, err, "bindtodevice");
			goto err_close;
		}
	}
	err = cman_repair_options_set(fd, image, defaults, PHASE_EARLY, why);
	if (err)
		goto err_close;
	err = restore_congestion(fd, image, defaults, why);
	if (err)
		goto err_close;
	err = bind_local(fd, image, why);
	if (err)
		goto err_close;
	err = connect_peer(fd, image, why);
	if (err)
		goto err_close;
	err = restore_negotiated(fd, image, why);
	if (err)
		goto err_close;
	err = restore_queues(fd, image, why);
	if (err)
		goto err_close;
	err = restore_window(fd, image, why);
	if (err)
		goto err_close;
	err = cman_repair_options_set(fd, image, defaults, PHASE_MID, why);
	if (err)
		goto err_close;
	image->progress = 0;
	*ret_fd = fd;
	return 0;

err_close:
	/* silent: it is in repair, or was never connected */
	close(fd);
	return err;
}

/* --- release, step by step; image->progress is the next one */

struct release {
	int fd;
	struct cman_repair_image *image;
	const struct cman_repair_inject *inject;
	const char **why;
};

/*
 * The kernel sends a window probe, whose answer brings the newest window and what was
 * acknowledged. Not in LAST_ACK with our FIN on its way: the acknowledgement of that FIN ends the
 * socket, and the answer, which comes after it, would find none and be answered with a RST.
 */
static int leave_repair(struct release *r)
{
	int how = r->image->state == LAST_ACK && r->image->fin_sent ? TCP_REPAIR_OFF_NO_WP :
								      TCP_REPAIR_OFF;
	int err = cman_repair_set(r->fd, IPPROTO_TCP, TCP_REPAIR, how);

	/* before Linux 4.20 */
	if (err == -EINVAL && how != TCP_REPAIR_OFF)
		err = cman_repair_set(r->fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF);
	return err ? cman_repair_fail(r->why, err, "TCP_REPAIR") : 0;
}

static int send_unsent(struct release *r)
{
	struct cman_repair_image *image = r->image;

	while (image->unsent) {
		ssize_t n = send(r->fd, image->out.data + (image->out.len - image->unsent),
				 image->unsent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cman_repair_fail(r->why, -errno, "unsent bytes");
		image->unsent -= (size_t)n;
	}
	return 0;
}

/* What is injected comes from the loopback device, where a bound socket does not listen. */
static int unbind_device(struct release *r)
{
	int err = 0;

	if (r->image->bindtodevice[0] && needs_injection(r->image) && !r->inject)
		err = bind_device(r->fd, "");
	return err ? cman_repair_fail(r->why, err, "bindtodevice") : 0;
}

static int rebind_device(struct release *r)
{
	char device[sizeof(r->image->bindtodevice) + 1] = "";
	int err = 0;

	memcpy(device, r->image->bindtodevice, sizeof(r->image->bindtodevice));
	if (device[0] && needs_injection(r->image) && !r->inject)
		err = bind_device(r->fd, device);
	return err ? cman_repair_fail(r->why, err, "bindtodevice") : 0;
}

/* CLOSE_WAIT, LAST_ACK */
static int peer_fin_before_ours(struct release *r)
{
	if (!r->image->peer_fin || r->image->state == CLOSING)
		return 0;
	return cman_repair_inject_segment(r->fd, r->image, r->inject, ESTABLISHED, SEGMENT_FIN,
					  r->why);
}

/*
 * A FIN that has left before is put in repair into the queue of what was sent, so that it is not
 * sent again. Leaving repair sends nothing then: there is no window probe outside of ESTABLISHED.
 */
static int our_fin(struct release *r)
{
	bool again = r->image->fin_sent;
	int err = 0;

	if (!r->image->fin)
		return 0;
	if (again) {
		err = cman_repair_set(r->fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
		if (!err)
			err = cman_repair_set(r->fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, SEND_QUEUE);
	}
	if (!err && shutdown(r->fd, SHUT_WR) < 0)
		err = -errno;
	if (!err && again)
		err = cman_repair_set(r->fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF);
	return err ? cman_repair_fail(r->why, err, "shutdown") : 0;
}

/* FIN_WAIT2 */
static int our_fin_acked(struct release *r)
{
	if (!r->image->fin_acked)
		return 0;
	return cman_repair_inject_segment(r->fd, r->image, r->inject, FIN_WAIT1, SEGMENT_ACK,
					  r->why);
}

static int peer_fin_after_ours(struct release *r)
{
	if (!r->image->peer_fin || r->image->state != CLOSING)
		return 0;
	return cman_repair_inject_segment(r->fd, r->image, r->inject, FIN_WAIT1, SEGMENT_FIN,
					  r->why);
}

static int late_options(struct release *r)
{
	return cman_repair_options_set(r->fd, r->image, NULL, PHASE_LATE, r->why);
}

int cman_repair_release(int fd, struct cman_repair_image *image,
			const struct cman_repair_inject *inject, const char **why)
{
	static int (*const steps[])(struct release *) = {
		leave_repair,  send_unsent,	    unbind_device, peer_fin_before_ours, our_fin,
		our_fin_acked, peer_fin_after_ours, rebind_device, late_options,
	};
	struct release r = { .fd = fd, .image = image, .inject = inject, .why = why };

	while (image->progress < sizeof(steps) / sizeof(steps[0])) {
		int err = steps[image->progress](&r);

		if (err)
			return err;
		image->progress++;
	}
	return 0;
}
