/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is between a channel and a transport below it; for chan.c and chan_tls.c alone. Without one
 * a channel uses its socket itself, with descriptors.
 */
#ifndef CMAN_SYS_CHAN_IMPL_H
#define CMAN_SYS_CHAN_IMPL_H

#include "usr/sys/chan.h"

struct cman_chan_transport {
	/*
	 * At most @n bytes. 0 with *ret_n: how many (read: 0 is the end of the stream); -EAGAIN;
	 * else the transport is dead and c->why says why. A write that was answered -EAGAIN is
	 * repeated with the same bytes, at any address, and perhaps more behind them.
	 */
	int (*read)(struct cman_chan *c, void *buf, size_t n, size_t *ret_n);
	int (*write)(struct cman_chan *c, const void *buf, size_t n, size_t *ret_n);
	/* What has to happen before the first byte, as far as it can now. 0: it is done; -EAGAIN */
	int (*prepare)(struct cman_chan *c);
	short (*events)(const struct cman_chan *c);
	/* The last words, unless frames are queued. Frees; the descriptor is closed afterwards. */
	void (*fini)(struct cman_chan *c);
};

#endif
