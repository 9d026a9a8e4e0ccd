/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving a connection with kernel TLS (ktls.h) to another socket, in the middle of its records: what
 * is to be done in addition to cman/repair.h, which tells the story of the rest.
 *
 *	the old side                              the new side
 *
 *	cman_ktls_check()     may it move?
 *	   - the relay stops; the guard is still open -
 *	cman_ktls_prepare()   again and again, while it says -EAGAIN
 *	   - the guard closes -
 *	cman_ktls_export()    plaintext, keys, raw queues: into repair
 *	cman_repair_close()
 *	      ------ image, keys, plaintext ------>
 *	                                          cman_repair_import()
 *	   - the point of no return -
 *	                                          cman_repair_release()   sends the unsent raw bytes
 *	                                          cman_ktls_attach()      from here on it seals
 *	   - the guard opens where the new socket is -
 *
 *	cman_ktls_thaw()      the way back, before close(); else: import, release, attach here
 *
 * The image has ciphertext in its queues, as of a socket without TLS. Records that were sealed are
 * never sealed again: their bytes move. Records that have come in are opened by the new socket, but for
 * content that the kernel had opened already and nobody had read: that is handed to the caller, comes
 * before all that the new socket reads, and goes with the session.
 *
 * Without the BPF program (@raw NULL) there is a second best: the receive queue is taken out below TLS
 * (TCP_ZEROCOPY_RECEIVE) and the send queue has to be empty, so prepare() waits for the peer's
 * acknowledgements. What cannot move then: a peer that does not read, and a receive buffer so small that
 * the kernel may have bytes where only the program finds them.
 */
#ifndef CMAN_SYS_KTLS_EXPORT_H
#define CMAN_SYS_KTLS_EXPORT_H

#include "cman/repair.h"
#include "usr/sys/inspect_raw.h"
#include "usr/sys/ktls.h"

/* One move; zeros before prepare(). Has keys: wiped by whoever has it. */
struct cman_ktls_export {
	struct cman_ktls_keys tx, rx; /* export(): what attach() is to be given */
	/* own */
	bool forced; /* the send buffer was made larger; this is what it was */
	int64_t sndbuf, buf_lock;
	uint64_t quiet_since_us; /* @raw NULL: the send queue is empty since then */
	uint64_t acked;
	bool taken; /* raw bytes are out of the socket: it can only go on as a new one */
};

/*
 * Takes @len bytes of content of one record of @type, or of several data records: they have left the
 * socket, whatever it returns. Not 0: nothing more is read, and export() fails with it.
 */
struct cman_ktls_sink {
	int (*take)(void *arg, uint8_t type, const void *content, size_t len);
	void *arg;
};

/* Changes nothing. -EOPNOTSUPP with the reason. */
int cman_ktls_check(int fd, const struct cman_inspect_raw *raw, const char **why);

/*
 * Nobody writes to @fd any more. An open record goes out, and no record stays half in the hands of
 * kernel TLS. Describes @image, unless it is. -EAGAIN: not yet: call it again a millisecond later; how
 * often is the caller's decision (with @raw it takes about 4 ms at most, without it a round trip or
 * for ever). After any error thaw().
 */
int cman_ktls_prepare(int fd, struct cman_inspect_raw *raw, struct cman_ktls_export *move,
		      struct cman_repair_image *image, const char **why);

/*
 * The guard is closed, prepare() has said 0. Like freeze() and export(): the socket is in repair
 * then. After an error thaw(). -EBUSY: its queues did not stand still.
 */
int cman_ktls_export(int fd, struct cman_inspect_raw *raw, struct cman_ktls_export *move,
		     const struct cman_ktls_sink *sink, struct cman_repair_image *image,
		     const char **why);

/*
 * Undoes prepare() and export() as far as they came: the connection goes on in @fd. -ESTALE: it cannot,
 * bytes were taken out: close @fd and import @image here, if export() had succeeded.
 */
int cman_ktls_thaw(int fd, struct cman_ktls_export *move, struct cman_repair_image *image,
		   const char **why);

#endif
