/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See ktls_export.h. Order matters: content that the kernel has opened is read before the keys are
 * asked for, because reading may open more; and all reading is over before the socket is in repair,
 * where it would be a peek.
 */
#include "usr/sys/ktls_export.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "usr/sys/repair_impl.h"
#include "usr/sys/secret.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

#define EXPORT_TRIES 8
#define SNDBUF_LARGE 0x3fffffff
/*
 * Without the program: how long the send queue has to be empty. Kernel TLS pushes the rest of a record
 * by a work item, as soon as there is room; 4 ms is what that took at most.
 */
#define QUIET_US 20000
/* And a receive buffer in which a record surely has room: below, kernel TLS copies bytes away. */
#define RCVBUF_MIN (4 * CMAN_TLS_RECORD_MAX)

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int ask_length(int fd, unsigned long request, size_t *ret_len)
{
	int len;

	if (ioctl(fd, request, &len) < 0)
		return -errno;
	*ret_len = (size_t)len;
	return 0;
}

static int check_rcvbuf(int fd, const char **why)
{
	int rcvbuf;
	int err = cman_repair_get(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));

	if (err)
		return cman_repair_fail(why, err, "SO_RCVBUF");
	return rcvbuf < RCVBUF_MIN ?
		       cman_repair_fail(why, -EOPNOTSUPP,
					"it has kernel TLS and a small receive buffer, and BPF is "
					"not allowed") :
		       0;
}

int cman_ktls_check(int fd, const struct cman_inspect_raw *raw, const char **why)
{
	int err = cman_repair_check_raw(fd, why);

	return err || raw ? err : check_rcvbuf(fd, why);
}

/* --- prepare */

/* The kernel doubles what it is told. */
static int set_sndbuf(int fd, int64_t doubled)
{
	return cman_repair_set(fd, SOL_SOCKET, SO_SNDBUFFORCE, (int)(doubled / 2));
}

/* This wakes whoever waits for room, also kernel TLS with the rest of a record. */
static int force_sndbuf(int fd, struct cman_ktls_export *move,
			const struct cman_repair_image *image)
{
	int err;

	if (move->forced)
		return 0;
	move->sndbuf = image->option[CMAN_REPAIR_SNDBUF];
	move->buf_lock = image->option[CMAN_REPAIR_BUF_LOCK];
	err = set_sndbuf(fd, SNDBUF_LARGE);
	move->forced = !err;
	return err;
}

/* Is there nothing that only kernel TLS has? */
static int settle_raw(int fd, struct cman_inspect_raw *raw, struct cman_ktls_export *move,
		      const struct cman_repair_image *image, const char **why)
{
	struct cman_inspect_raw_state state;
	int err = cman_inspect_raw_read(raw, fd, &state, NULL, NULL);

	if (err)
		return cman_repair_fail(why, err, "its state cannot be read");
	if (!(state.flags & CMAN_INSPECT_RAW_TLS))
		return cman_repair_fail(why, -EOPNOTSUPP, "its kernel TLS is not done in software");
	if (!(state.flags &
	      (CMAN_INSPECT_RAW_OPEN | CMAN_INSPECT_RAW_PARTIAL | CMAN_INSPECT_RAW_SEALED)))
		return 0;
	err = force_sndbuf(fd, move, image);
	return cman_repair_fail(why, err ? err : -EAGAIN,
				"a record is not whole in its send queue");
}

/* The send queue tells nothing of what kernel TLS still has, unless it stays empty. */
static int settle_blind(int fd, struct cman_ktls_export *move,
			const struct cman_repair_image *image, const char **why)
{
	struct tcp_info info;
	size_t unacked = 0;
	int err = force_sndbuf(fd, move, image);

	if (!err)
		err = cman_repair_info(fd, &info);
	if (!err)
		err = ask_length(fd, SIOCOUTQ, &unacked);
	if (err)
		return cman_repair_fail(why, err, "send queue");
	if (unacked || !move->quiet_since_us || info.tcpi_bytes_acked != move->acked) {
		move->quiet_since_us = unacked ? 0 : now_us();
		move->acked = info.tcpi_bytes_acked;
	}
	if (move->quiet_since_us && now_us() - move->quiet_since_us >= QUIET_US)
		return 0;
	return cman_repair_fail(why, -EAGAIN,
				"its peer does not acknowledge all, and BPF is not allowed");
}

int cman_ktls_prepare(int fd, struct cman_inspect_raw *raw, struct cman_ktls_export *move,
		      struct cman_repair_image *image, const char **why)
{
	int err;

	if (!image->described) {
		err = cman_repair_describe(fd, image, why);
		if (err)
			return err;
	}
	if (!raw) {
		err = check_rcvbuf(fd, why);
		if (err)
			return err;
	}
	err = cman_ktls_flush(fd);
	if (err && err != -EAGAIN)
		return cman_repair_fail(why, err, "its open record does not go out");
	return raw ? settle_raw(fd, raw, move, image, why) : settle_blind(fd, move, image, why);
}

/* --- export */

/*
 * What the kernel has opened, and nothing behind it: recvmsg() opens another record only if there is
 * room left. Without the program nobody knows how much that is: all that there is.
 */
static int drain(int fd, uint64_t plain, const struct cman_ktls_sink *sink, const char **why)
{
	static const size_t size = CMAN_TLS_PLAIN_MAX;
	uint8_t *content = cman_secret_alloc(size), type;
	int err = content ? 0 : -ENOMEM;

	while (!err && plain) {
		ssize_t n = cman_ktls_receive(fd, content, plain < size ? plain : size, &type);

		if (n == -EAGAIN || n == 0)
			break;
		if (n < 0) {
			err = cman_repair_fail(why, (int)n, "a record that was received");
			break;
		}
		plain -= (size_t)n;
		err = sink->take(sink->arg, type, content, (size_t)n);
		if (err)
			cman_repair_fail(why, err, "there is no room for its content");
	}
	cman_secret_free(content, size);
	return err;
}

/* Does it look like the beginning of a record? Not, if the kernel has copied its beginning away. */
static bool begins_record(const struct cman_repair_queue *in)
{
	static const uint8_t version[2] = { 3, 3 };
	const uint8_t *b = in->data;

	if (in->len && (b[0] < CMAN_TLS_CCS || b[0] > CMAN_TLS_DATA))
		return false;
	if (in->len >= 3 && memcmp(b + 1, version, 2) != 0)
		return false;
	return in->len < CMAN_TLS_HEADER || (b[3] << 8 | b[4]) <= CMAN_TLS_RECORD_MAX;
}

/* The raw receive queue, out of the socket: tcp(7) does not have it, linux/tcp.h does. */
static int take_received(int fd, struct cman_ktls_export *move, struct cman_repair_image *image,
			 const char **why)
{
	struct tcp_zerocopy_receive zc = { 0 };
	socklen_t size = sizeof(zc);
	size_t len = 0;
	int err = ask_length(fd, SIOCINQ, &len);

	if (!err)
		err = cman_repair_reserve(&image->in, len + 1);
	if (err)
		return cman_repair_fail(why, err, "receive queue");
	image->in.len = 0;
	if (!len)
		return 0;
	zc.copybuf_address = (uint64_t)(uintptr_t)image->in.data;
	zc.copybuf_len = (int)len;
	if (getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &zc, &size) < 0)
		return cman_repair_fail(why, -errno, "TCP_ZEROCOPY_RECEIVE");
	if (zc.copybuf_len > 0) {
		move->taken = true;
		image->in.len = (size_t)zc.copybuf_len;
	}
	if (image->in.len != len || !begins_record(&image->in))
		return cman_repair_fail(why, -EIO, "its receive queue is not what it said");
	return 0;
}

static int read_queues(int fd, struct cman_inspect_raw *raw, struct cman_repair_image *image,
		       size_t *ret_held, const char **why)
{
	const uint32_t busy = CMAN_INSPECT_RAW_OPEN | CMAN_INSPECT_RAW_PARTIAL |
			      CMAN_INSPECT_RAW_SEALED;
	struct cman_inspect_raw_state state;
	int err;

	if (!raw) { /* take_received() */
		*ret_held = image->in.len;
		image->out.len = 0;
		return 0;
	}
	err = cman_inspect_raw_read(raw, fd, &state, &image->in, &image->out);
	if (err)
		return cman_repair_fail(why, err, "its queues cannot be read");
	if (state.flags & busy || state.plain)
		return cman_repair_fail(why, -EBUSY, "somebody uses it");
	*ret_held = state.held;
	return 0;
}

static int export_frozen(int fd, struct cman_inspect_raw *raw, struct cman_repair_image *image,
			 const char **why)
{
	int err = -EBUSY;

	for (int i = 0; i < EXPORT_TRIES && err == -EBUSY; i++) {
		size_t held = 0;

		err = read_queues(fd, raw, image, &held, why);
		if (!err)
			err = cman_repair_export_raw(fd, image, held, why);
	}
	return err;
}

/* All that can be found out before something is taken out of the socket. */
static int look(int fd, struct cman_inspect_raw *raw, uint64_t *ret_plain, const char **why)
{
	struct cman_inspect_raw_state state;
	size_t unacked = 0;
	int err = cman_ktls_check(fd, raw, why);

	if (err)
		return err;
	*ret_plain = UINT64_MAX;
	if (!raw) {
		err = ask_length(fd, SIOCOUTQ, &unacked);
		return err || unacked ? cman_repair_fail(why, err ? err : -EBUSY, "send queue") : 0;
	}
	err = cman_inspect_raw_read(raw, fd, &state, NULL, NULL);
	if (err)
		return cman_repair_fail(why, err, "its state cannot be read");
	*ret_plain = state.plain;
	return 0;
}

int cman_ktls_export(int fd, struct cman_inspect_raw *raw, struct cman_ktls_export *move,
		     const struct cman_ktls_sink *sink, struct cman_repair_image *image,
		     const char **why)
{
	uint64_t plain;
	int err;

	if (!image->described)
		return cman_repair_fail(why, -EINVAL, "it is not prepared");
	err = look(fd, raw, &plain, why);
	if (!err)
		err = drain(fd, plain, sink, why);
	if (err)
		return err;
	err = cman_ktls_state(fd, &move->tx, &move->rx);
	if (err)
		return cman_repair_fail(why, err, "its keys");
	if (!raw)
		err = take_received(fd, move, image, why);
	if (!err)
		err = cman_repair_freeze_raw(fd, image, why);
	if (!err)
		err = export_frozen(fd, raw, image, why);
	if (move->forced) { /* freeze() has asked again */
		image->option[CMAN_REPAIR_SNDBUF] = move->sndbuf;
		image->option[CMAN_REPAIR_BUF_LOCK] = move->buf_lock;
	}
	return err;
}

int cman_ktls_thaw(int fd, struct cman_ktls_export *move, struct cman_repair_image *image,
		   const char **why)
{
	int err = 0;

	if (move->taken)
		return cman_repair_fail(why, -ESTALE, "its bytes are in the image only");
	if (image->frozen)
		err = cman_repair_thaw(fd, image, why);
	if (err || !move->forced)
		return err;
	err = set_sndbuf(fd, move->sndbuf);
	if (!err && image->have & CMAN_REPAIR_BIT(CMAN_REPAIR_BUF_LOCK))
		err = cman_repair_set(fd, SOL_SOCKET, SO_BUF_LOCK, (int)move->buf_lock);
	move->forced = err;
	return err ? cman_repair_fail(why, err, "sndbuf") : 0;
}
