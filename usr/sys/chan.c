// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The channel. To know without doubt which descriptors belong to which frame, one recvmsg() never
 * crosses the border of a frame: first the 16 bytes of the header are read, then exactly the
 * payload. So: the descriptors of a frame are those that arrive with its bytes, and there must be
 * exactly as many as its header declares. One too many is refused when it arrives, one too few
 * when the last byte does; both are closed. The sender attaches all of them to the first byte and
 * sends each frame by itself. A descriptor is at any time in exactly one place: the caller's hands,
 * the queue of received ones, or a queued frame (a duplicate). Over a transport (TLS) there are none:
 * neither sent nor accepted.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "usr/core/wire.h"
#include "usr/sys/chan.h"
#include "usr/sys/chan_impl.h"
#include "usr/sys/secret.h"
#include "usr/sys/sock.h"

#define SCM_LIMIT 253	     /* the kernel's SCM_MAX_FD */
#define IN_FIRST  4096	     /* bytes of the first input buffer */
#define IN_KEEP	  (64 << 10) /* a longer one is not kept for the next frame */
#define IN_DEAD	  SIZE_MAX   /* in_frame: receiving has failed */
#define CONNECT_S 2	     /* how long connect waits for room in a backlog */

_Static_assert(CMAN_CHAN_FD_QUEUE >= CMAN_FRAME_MAX_FDS + SCM_LIMIT, "one set beyond a full frame");

/* One frame on its way out; data[sent..len) is left, and the descriptors as long as sent is 0 */
struct cman_chan_out {
	struct cman_chan_out *next;
	uint8_t *data;
	size_t len, sent;
	int *fds; /* own duplicates */
	unsigned int nfds;
};

static void close_fds(int *fds, unsigned int *n)
{
	while (*n)
		close(fds[--*n]);
}

static void free_out(struct cman_chan_out *o)
{
	if (o->fds)
		close_fds(o->fds, &o->nfds);
	free(o->fds);
	cman_secret_wipe(o->data, o->len); /* TLS of sessions travels in frames */
	free(o->data);
	free(o);
}

static void free_input(struct cman_chan *c)
{
	cman_secret_wipe(c->in, c->in_used);
	free(c->in);
	c->in = NULL;
	c->in_size = 0;
}

void cman_chan_init(struct cman_chan *c, int fd)
{
	memset(c, 0, sizeof(*c));
	c->fd = fd;
	c->out_tail = &c->out_head;
}

void cman_chan_fini(struct cman_chan *c)
{
	struct cman_chan_out *o;

	if (c->transport)
		c->transport->fini(c);
	while ((o = c->out_head)) {
		c->out_head = o->next;
		free_out(o);
	}
	close_fds(c->fds, &c->nfds);
	if (c->fd >= 0)
		close(c->fd);
	free_input(c);
	cman_chan_init(c, -1);
}

/* ---- receiving ---- */

static int dead(struct cman_chan *c, int err, const char *why)
{
	close_fds(c->fds, &c->nfds);
	c->in_frame = IN_DEAD;
	c->why = why;
	return err;
}

/* Takes over what came with a message: @ret_lost when the kernel could not hand out all of it. */
static void collect_fds(struct cman_chan *c, struct msghdr *msg, bool *ret_lost)
{
	struct cmsghdr *cm;
	size_t i, n;
	int fd;

	*ret_lost = msg->msg_flags & MSG_CTRUNC;
	for (cm = CMSG_FIRSTHDR(msg); cm; cm = CMSG_NXTHDR(msg, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
			if (c->nfds < CMAN_CHAN_FD_QUEUE) {
				c->fds[c->nfds++] = fd;
			} else {
				close(fd);
				*ret_lost = true;
			}
		}
	}
}

/* Room for @want bytes in all, but not much more than has arrived: a peer can claim any length. */
static int grow_input(struct cman_chan *c, size_t want)
{
	size_t size = c->in_size ? c->in_size : IN_FIRST;
	uint8_t *p;

	if (c->in_used < c->in_size)
		return 0;
	if (c->in_size)
		size = c->in_size > want / 2 ? want : c->in_size * 2;
	p = malloc(size);
	if (!p)
		return -ENOMEM;
	if (c->in_used)
		memcpy(p, c->in, c->in_used);
	free_input(c); /* realloc() would leave a copy behind */
	c->in = p;
	c->in_size = size;
	return 0;
}

/* Bytes, and the descriptors that came with them. 0 (*ret_n 0: the end), -EAGAIN, or dead. */
static int read_socket(struct cman_chan *c, void *buf, size_t size, size_t *ret_n)
{
	union {
		char buf[CMSG_SPACE(SCM_LIMIT * sizeof(int)) + CMSG_SPACE(64)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { buf, size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	bool lost;
	ssize_t n;

	do {
		n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return -EAGAIN;
		return dead(c, -errno, "cannot receive from the peer");
	}
	collect_fds(c, &msg, &lost);
	if (lost)
		return dead(c, -EMFILE, "descriptors were lost: this process has none free");
	*ret_n = (size_t)n;
	return 0;
}

/* One read of at most what is missing of @want bytes. 0 when something came. */
static int read_some(struct cman_chan *c, size_t want)
{
	size_t room, n = 0;
	uint8_t *at;
	int err;

	err = grow_input(c, want);
	if (err)
		return dead(c, err, "no memory for a frame");
	at = c->in + c->in_used;
	room = (want < c->in_size ? want : c->in_size) - c->in_used;
	if (c->transport)
		err = c->transport->read(c, at, room, &n);
	else
		err = read_socket(c, at, room, &n);
	if (err)
		return err == -EAGAIN ? err : dead(c, err, c->why);
	if (!n && c->in_used)
		return dead(c, -ECONNRESET, "the peer closed the connection within a frame");
	if (!n)
		return dead(c, -EPIPE, "the peer closed the connection");
	c->in_used += n;
	return 0;
}

/* Gives the frame handed out last back. A large buffer is not kept. */
static void consume(struct cman_chan *c)
{
	if (!c->in_frame)
		return;
	if (c->in_size > IN_KEEP)
		free_input(c);
	else
		cman_secret_wipe(c->in, c->in_used);
	c->in_used = 0;
	c->in_frame = 0;
}

int cman_chan_receive(struct cman_chan *c, struct cman_frame *ret_frame, int *ret_fds)
{
	struct cman_frame frame;
	const char *why = NULL;
	unsigned int declared;
	int64_t size;
	int err;

	if (c->in_frame == IN_DEAD)
		return -ESHUTDOWN;
	consume(c);
	for (;;) {
		size = cman_frame_size(c->in, c->in_used, &why);
		if (size < 0)
			return dead(c, (int)size, why);
		declared = size ? (unsigned int)c->in[6] << 8 | c->in[7] : CMAN_FRAME_MAX_FDS;
		if (c->transport && size && declared)
			return dead(c, -EBADMSG, "a frame that declares descriptors came over TLS");
		if (c->nfds > declared)
			return dead(c, -EBADMSG, "more descriptors came than their frame declares");
		if (size && c->in_used == (size_t)size)
			break;
		err = read_some(c, size ? (size_t)size : CMAN_FRAME_HEADER);
		if (err)
			return err;
	}
	if (c->nfds < declared)
		return dead(c, -EBADMSG, "fewer descriptors came than their frame declares");
	err = cman_frame_parse(c->in, c->in_used, &frame, &why);
	if (err)
		return dead(c, err, why);
	if (c->nfds && !ret_fds)
		return dead(c, -EBADMSG, "a frame with descriptors came where none are expected");
	if (c->nfds)
		memcpy(ret_fds, c->fds, c->nfds * sizeof(int));
	c->nfds = 0;
	c->in_frame = (size_t)size;
	*ret_frame = frame;
	return 0;
}

/* ---- sending ---- */

/* As push(), over TLS. */
static int push_transport(struct cman_chan *c, struct cman_chan_out *o)
{
	size_t n;
	int err;

	while (o->sent < o->len) {
		err = c->transport->write(c, o->data + o->sent, o->len - o->sent, &n);
		if (err)
			return err;
		o->sent += n;
	}
	return 0;
}

/* Sends what fits. @fds go with the first byte. 0: all of it; -EAGAIN: the rest later. */
static int push(struct cman_chan *c, struct cman_chan_out *o, const int *fds, unsigned int nfds)
{
	union {
		char buf[CMSG_SPACE(CMAN_FRAME_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct cmsghdr *cm;
	ssize_t n;

	if (c->transport)
		return push_transport(c, o);
	while (o->sent < o->len) {
		struct iovec iov = { o->data + o->sent, o->len - o->sent };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

		if (nfds && !o->sent) {
			memset(&control, 0, sizeof(control));
			msg.msg_control = control.buf;
			msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
			cm = CMSG_FIRSTHDR(&msg);
			cm->cmsg_level = SOL_SOCKET;
			cm->cmsg_type = SCM_RIGHTS;
			cm->cmsg_len = CMSG_LEN(nfds * sizeof(int));
			memcpy(CMSG_DATA(cm), fds, nfds * sizeof(int));
		}
		n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return -EAGAIN;
		if (n < 0) {
			c->why = errno == EPIPE || errno == ECONNRESET ?
					 "the peer closed the connection" :
					 "cannot send to the peer";
			return -errno;
		}
		o->sent += (size_t)n;
	}
	return 0;
}

/* The frame has to wait: it needs descriptors of its own. */
static int keep_fds(struct cman_chan_out *o, const int *fds, unsigned int nfds)
{
	int fd;

	if (!nfds || o->sent)
		return 0;
	o->fds = malloc(nfds * sizeof(int));
	if (!o->fds)
		return -ENOMEM;
	for (; o->nfds < nfds; o->nfds++) {
		fd = fcntl(fds[o->nfds], F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return -errno;
		o->fds[o->nfds] = fd;
	}
	return 0;
}

int cman_chan_send(struct cman_chan *c, struct cman_frame_writer *w, const int *fds,
		   unsigned int nfds)
{
	struct cman_chan_out *o = NULL;
	struct cman_frame frame;
	int err;

	if (nfds > CMAN_FRAME_MAX_FDS)
		err = -EMSGSIZE;
	else if (nfds && c->transport)
		err = -EOPNOTSUPP;
	else
		err = cman_frame_finish(w, (uint16_t)nfds);
	if (!err) {
		o = calloc(1, sizeof(*o));
		if (!o)
			err = -ENOMEM;
	}
	if (err) { /* nothing went out: the channel is as it was */
		c->why = err == -EOPNOTSUPP ? "descriptors cannot travel over TLS" :
					      "a frame could not be made";
		if (err == -EBADMSG)
			cman_frame_parse(w->data, w->used, &frame, &c->why);
		cman_frame_free(w);
		return err;
	}
	o->data = w->data;
	o->len = w->used;
	w->data = NULL;
	cman_frame_free(w);

	/* behind others, unless TLS is dead: nothing would ever take them away */
	if (c->out_head)
		err = c->transport ? c->transport->prepare(c) : -EAGAIN;
	if (!err)
		err = c->out_head ? -EAGAIN : push(c, o, fds, nfds);
	if (err == -EAGAIN) {
		err = keep_fds(o, fds, nfds);
		if (!err) {
			*c->out_tail = o;
			c->out_tail = &o->next;
			c->queued += o->len - o->sent;
			return 0;
		}
		c->why = "no descriptors or memory to queue a frame";
	}
	free_out(o);
	return err;
}

int cman_chan_flush(struct cman_chan *c)
{
	struct cman_chan_out *o;
	size_t left;
	int err;

	if (c->transport) {
		err = c->transport->prepare(c);
		if (err)
			return err;
	}
	while ((o = c->out_head)) {
		left = o->len - o->sent;
		err = push(c, o, o->fds, o->nfds);
		c->queued -= left - (o->len - o->sent);
		if (o->sent && o->fds)
			close_fds(o->fds, &o->nfds);
		if (err)
			return err;
		c->out_head = o->next;
		if (!c->out_head)
			c->out_tail = &c->out_head;
		free_out(o);
	}
	return 0;
}

bool cman_chan_wants_write(const struct cman_chan *c)
{
	return cman_chan_events(c) & POLLOUT;
}

short cman_chan_events(const struct cman_chan *c)
{
	if (c->transport)
		return c->transport->events(c);
	return c->out_head ? POLLIN | POLLOUT : POLLIN;
}

size_t cman_chan_queued(const struct cman_chan *c)
{
	return c->queued;
}

/* ---- blocking use ---- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int cman_chan_wait(struct cman_chan *c, int timeout_ms, struct cman_frame *ret_frame, int *ret_fds)
{
	const int64_t end = timeout_ms < 0 ? INT64_MAX : now_ms() + timeout_ms;
	struct pollfd p = { .fd = c->fd };
	int err, sent = 0;
	int64_t left;

	for (;;) {
		err = cman_chan_receive(c, ret_frame, ret_fds);
		if (err != -EAGAIN)
			return err;
		/* the peer may have answered before it closed: only now the failure counts */
		if (sent)
			return sent;
		left = timeout_ms < 0 ? -1 : end - now_ms();
		if (timeout_ms >= 0 && left <= 0)
			left = 0;
		p.events = cman_chan_events(c);
		err = poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);
		if (err < 0 && errno != EINTR)
			return -errno;
		if (!err && timeout_ms >= 0) {
			c->why = "the peer did not answer in time";
			return -ETIMEDOUT;
		}
		if (err > 0 && (p.revents & (POLLOUT | POLLERR | POLLHUP)) && c->out_head) {
			sent = cman_chan_flush(c);
			if (sent == -EAGAIN)
				sent = 0;
		}
	}
}

int cman_chan_peer(const struct cman_chan *c, pid_t *ret_pid, uid_t *ret_uid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	/* a TCP socket would answer too: that it knows nobody */
	if (c->transport)
		return -EOPNOTSUPP;
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	if (ret_pid)
		*ret_pid = cred.pid;
	if (ret_uid)
		*ret_uid = cred.uid;
	return 0;
}

/* ---- Unix sockets by path ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_fd_ __attribute__((cleanup(close_fd)))

/* @ret_dir must stay open as long as the address is used. */
static int unix_address(const char *path, struct sockaddr_un *sa, int *ret_dir)
{
	const char *base = strrchr(path, '/');
	char dir[PATH_MAX];
	int n;

	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	*ret_dir = -1;
	if (!*path)
		return -EINVAL;
	if (strlen(path) < sizeof(sa->sun_path)) {
		memcpy(sa->sun_path, path, strlen(path));
		return 0;
	}
	if (!base || (size_t)(base - path) >= sizeof(dir))
		return -ENAMETOOLONG;
	memcpy(dir, path, (size_t)(base - path));
	dir[base - path] = '\0';
	*ret_dir = open(*dir ? dir : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return -errno;
	n = snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d%s", *ret_dir, base);
	return n < (int)sizeof(sa->sun_path) ? 0 : -ENAMETOOLONG;
}

static int try_connect(int fd, const struct sockaddr_un *sa)
{
	int err;

	do {
		err = connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? -errno : 0;
	} while (err == -EINTR);
	return err;
}

/* Removes a socket that nobody listens on. What is no socket stays, and so does what answers. */
static int remove_stale(const struct sockaddr_un *sa)
{
	_cleanup_fd_ int probe = -1;
	struct stat st;
	int err;

	if (lstat(sa->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (probe < 0)
		return -errno;
	err = try_connect(probe, sa);
	if (err == -ENOENT)
		return 0;
	if (err != -ECONNREFUSED)
		return !err || err == -EAGAIN || err == -EPROTOTYPE ? -EADDRINUSE : err;
	return unlink(sa->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

int cman_unix_listen(const char *path, unsigned int mode, int *ret_fd)
{
	_cleanup_fd_ int dir = -1, fd = -1;
	struct sockaddr_un sa;
	int err;

	err = unix_address(path, &sa, &dir);
	if (!err)
		err = remove_stale(&sa);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* bind() takes the mode of the socket itself, less the umask: never open for a moment */
	if (fchmod(fd, mode & 0777) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	if (chmod(sa.sun_path, mode & 0777) < 0 || listen(fd, SOMAXCONN) < 0) {
		err = -errno;
		unlink(sa.sun_path);
		return err;
	}
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int cman_unix_connect(const char *path, int *ret_fd)
{
	const struct timeval patience = { .tv_sec = CONNECT_S }, none = { .tv_sec = 0 };
	_cleanup_fd_ int dir = -1, fd = -1;
	struct sockaddr_un sa;
	int err;

	err = unix_address(path, &sa, &dir);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		return -errno;
	err = try_connect(fd, &sa);
	if (err)
		return err == -EAGAIN ? -ETIMEDOUT : err;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none)) < 0 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

/* ---- TCP by address ---- */

int cman_tcp_listen(const struct cman_endpoint *endpoint, int *ret_fd)
{
	return cman_sock_listen(endpoint->family, endpoint->addr, endpoint->port_first, ret_fd);
}

int cman_tcp_connect(const struct cman_endpoint *endpoint, int *ret_fd)
{
	struct sockaddr_storage ss;
	_cleanup_fd_ int fd = -1;
	socklen_t len;

	len = cman_sockaddr(&ss, endpoint->family, endpoint->addr, endpoint->port_first);
	fd = socket(endpoint->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* an interrupted connect() goes on by itself */
	if (connect(fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS && errno != EINTR)
		return -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}
