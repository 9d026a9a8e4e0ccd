/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A session changes its engine while it is between two sockets, as images (cman/repair.h): from the
 * kernel's (usr/sys/ktls.h) to ours (usr/tls/record.h), where the new side's kernel has no TLS or is not
 * to use it, and back.
 *
 * Keys and numbers are the same for both. What each engine has between the two legs, in a place that
 * the other does not know, goes into the queues of the sockets that are made:
 *
 *	to ours		  what was opened and not written (the pipe): sealed for the leg that it is
 *			  bound for, and the last unsent bytes of its send queue
 *	to the kernel's	  in[], read and not opened: the first bytes of the receive queue that it came
 *			  out of; out[], sealed and not written: the last unsent bytes of the send queue
 *
 * Only memory of the new side is written. If the move is called off, the old side goes on from its own
 * copy: what was sealed here has never been sent, so nobody sees two records with one number.
 */
#ifndef CMAN_TLS_ENGINE_H
#define CMAN_TLS_ENGINE_H

#include "cman/repair.h"
#include "usr/core/tls.h"

/*
 * Could the kernel go on with it? Its legs are open both ways, nothing is owed, no message has come in
 * part. (That the kernel has the ciphers is cman_tls_for_kernel().)
 */
bool cman_tls_fits_kernel(const struct cman_tls_session *s, const struct cman_repair_image leg[2]);

/*
 * Changes @s, whose legs are all of the other engine, and the queues of @leg, of the client and of the
 * server, which may be borrowed ones of an image stream (usr/core/image.h) and are then copied.
 * Afterwards nothing lies between the legs: flow[] is empty, and its positions begin at 0, with what
 * the new sockets read, and with what is behind their send queues.
 *
 * @plain: of CMAN_UP and CMAN_DOWN, @len bytes. 0, -ENOMEM, -EIO (libcrypto), -EPROTO (bytes for a leg
 * that has ended). After an error both are good for nothing but to be dropped.
 */
int cman_tls_to_user(struct cman_tls_session *s, struct cman_repair_image leg[2],
		     const uint8_t *const plain[2], const uint32_t len[2]);
int cman_tls_to_kernel(struct cman_tls_session *s, struct cman_repair_image leg[2]);

#endif
