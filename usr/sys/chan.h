/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A channel: frames (usr/core/wire.h) over a connected stream socket: an AF_UNIX one, where
 * descriptors travel with them, or TCP under mutual TLS 1.3 (usr/sys/chan_tls.h), where none do.
 * The socket is non-blocking and stays the caller's to poll; output that does not fit is queued, in
 * order. Descriptors are received CLOEXEC; what a frame did not declare is closed; MSG_CTRUNC is an
 * error.
 *
 *	init or init_tls
 *	  -> (poll events(); on POLLOUT flush(); on any event receive() until -EAGAIN)
 *	  -> fini
 *
 * After any error but -EAGAIN the channel is dead: only fini() may follow. EOF is -EPIPE.
 *
 * Memory is bounded by both ends. The sender asks queued() and goes on when flush() has brought it
 * down. The receiver has at most one frame in memory; one that cannot take more leaves POLLIN out
 * of its poll, and resumes by receive(), not by waiting: TLS may hold bytes that poll(2) does not
 * see. TCP then stops the sender.
 */
#ifndef CMAN_SYS_CHAN_H
#define CMAN_SYS_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "usr/core/config.h"
#include "usr/core/wire.h"

#define CMAN_CHAN_FD_QUEUE 512

struct cman_chan_out;
struct cman_chan_transport;
struct cman_tls;

struct cman_chan {
	int fd;		 /* owned */
	const char *why; /* the last error, as a sentence for the peer and the log; until fini() */
	uint8_t *in;
	size_t in_used, in_size;
	size_t in_frame; /* size of the frame handed out last: consumed by the next receive() */
	int fds[CMAN_CHAN_FD_QUEUE]; /* received, not yet claimed by a frame */
	unsigned int nfds;
	struct cman_chan_out *out_head, **out_tail;
	size_t queued;
	const struct cman_chan_transport *transport; /* NULL: the socket itself */
	struct cman_tls *tls;			     /* owned */
};

void cman_chan_init(struct cman_chan *c, int fd);

/* Closes fd and every unclaimed descriptor. TLS says goodbye first, when nothing is queued. */
void cman_chan_fini(struct cman_chan *c);

/*
 * The next whole frame. Returns 0, -EAGAIN (nothing whole yet), -EPIPE (EOF between frames),
 * -ECONNRESET (EOF within one), or an error of cman_frame_parse(), with c->why set. The frame points
 * into the channel and is valid until the next call. Its descriptors, exactly frame->nfds of them,
 * are the caller's, in @ret_fds (room for CMAN_FRAME_MAX_FDS).
 */
int cman_chan_receive(struct cman_chan *c, struct cman_frame *ret_frame, int *ret_fds);

/*
 * Finishes the frame, sends or queues it, and frees the writer in any case. The descriptors are
 * duplicated while queued: the caller keeps its own. 0 or -errno; -EOPNOTSUPP: descriptors over
 * TLS, and nothing went out.
 */
int cman_chan_send(struct cman_chan *c, struct cman_frame_writer *w, const int *fds,
		   unsigned int nfds);
int cman_chan_flush(struct cman_chan *c); /* 0: all is out; -EAGAIN: still some; else dead */
bool cman_chan_wants_write(const struct cman_chan *c);

/* What to poll for now: POLLIN, POLLOUT or both. Ask again after each call above. */
short cman_chan_events(const struct cman_chan *c);

/* Bytes of frames that were sent and are still in this process. */
size_t cman_chan_queued(const struct cman_chan *c);

/* Blocking use (cmanctl, keeper): poll until one frame is there; timeout_ms -1 is for ever. */
int cman_chan_wait(struct cman_chan *c, int timeout_ms, struct cman_frame *ret_frame, int *ret_fds);

/* SO_PEERCRED of the other end. 0 or -errno; -EOPNOTSUPP over TLS: see cman_chan_peer_name(). */
int cman_chan_peer(const struct cman_chan *c, pid_t *ret_pid, uid_t *ret_uid);

/*
 * Unix sockets by path. Paths longer than sun_path go through /proc/self/fd of the folder. listen
 * removes a stale socket (one that refuses connections) first; -EADDRINUSE when it answers.
 */
int cman_unix_listen(const char *path, unsigned int mode, int *ret_fd);
int cman_unix_connect(const char *path, int *ret_fd);

/*
 * TCP by address and port (port_first). Non-blocking and CLOEXEC. listen: SO_REUSEADDR, IPv6 only
 * for "[::]". connect only begins: the socket can be given to cman_chan_init_tls() at once, and a
 * connection that fails is an error of the channel then. 0 or -errno.
 */
int cman_tcp_listen(const struct cman_endpoint *endpoint, int *ret_fd);
int cman_tcp_connect(const struct cman_endpoint *endpoint, int *ret_fd);

#endif
