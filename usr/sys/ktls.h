/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kTLS: records in the kernel, on a connected TCP socket. After the handshake its keys are given to the
 * socket; from then on send() and splice() seal, recv() and splice() open. The state can be asked for
 * again, so that another process, or after an import another host, goes on. Sources: include/uapi/linux/tls.h,
 * net/tls/tls_main.c, Documentation/networking/tls.rst; tried on 6.1, 6.12 and newer.
 *
 *	cman_ktls_probe()	once, with CAP_NET_ADMIN: loads the module; which ciphers there are
 *	cman_ktls_attach()	after the handshake (or an import): ULP, TLS_TX, TLS_RX
 *	send(), recv(), splice()
 *	cman_ktls_receive()	when recv() says EIO or splice() EINVAL: a control record is next
 *	cman_ktls_send()	an alert, a KeyUpdate
 *	cman_ktls_rekey()	where the kernel can (TLS 1.3, from 6.14)
 *
 *	to export: usr/sys/ktls_export.h
 *
 * With TLS_RX set, TCP_REPAIR's peek at either queue returns plaintext and counts records: never use it.
 * A socket with kTLS counts ciphertext (tcp_info, SIOCINQ, SIOCOUTQ). All functions: 0 or -errno.
 */
#ifndef CMAN_SYS_KTLS_H
#define CMAN_SYS_KTLS_H

#include <sys/types.h>

#include "usr/core/tls.h"

/* What a way of a leg is to the kernel: the key, and where it stands. */
struct cman_ktls_keys {
	const struct cman_tls_suite *suite;
	uint8_t key[32];
	uint8_t iv[12]; /* TLS 1.3 and ChaCha20: all 12; TLS 1.2 AES-GCM: 4 fixed bytes, rest 0 */
	uint64_t explicit_nonce; /* TLS 1.2 AES-GCM, TX: of the next record (kernel: its "iv") */
	uint64_t seq;
};

/*
 * Bit (1 << enum cman_tls_aead) for each cipher that the kernel takes in that version of TLS; 0: no
 * kTLS at all. Needs a connection of its own over lo, which it makes and closes.
 */
unsigned int cman_ktls_probe(uint16_t version);
/* Can TLS_TX and TLS_RX be set again with the next key (6.14 and newer)? */
bool cman_ktls_can_rekey(void);

/*
 * ULP and both keys. The socket must be ESTABLISHED (-ENOTCONN else) and its receive queue begin with
 * record rx->seq. -EOPNOTSUPP, -ENOENT: no kTLS or not this cipher: nothing was changed but perhaps the
 * ULP, which without keys does nothing. Both ways have the same suite. Any other error: the socket may
 * have one key, and is good for nothing.
 */
int cman_ktls_attach(int fd, const struct cman_ktls_keys *tx, const struct cman_ktls_keys *rx);
/* Has it both keys? */
bool cman_ktls_is_attached(int fd);

/*
 * Where both ways stand. rx->seq counts records that were decrypted (also by a peek). The kernel does not
 * know the suite: keys.suite is the first one of cman_tls_suites() with that version and cipher. -EBUSY: a
 * key is not set; -ENOPROTOOPT, -EOPNOTSUPP: no kTLS, or not a cipher of ours.
 */
int cman_ktls_state(int fd, struct cman_ktls_keys *ret_tx, struct cman_ktls_keys *ret_rx);

/* One record of at most CMAN_TLS_PLAIN_MAX bytes. -EAGAIN: the socket is full, nothing was taken. */
int cman_ktls_send(int fd, uint8_t type, const void *data, size_t len);
/*
 * The next control record or the rest of it; or data, of several records if there is room. With its
 * type, which is 0 at the end of the stream. Bytes, 0 at the end, or -errno:
 * -EAGAIN, -EBADMSG (authentication failed), -EMSGSIZE, -EINVAL, -EPROTO, -EKEYEXPIRED (a KeyUpdate came
 * and the next key is not set yet: newer kernels).
 */
ssize_t cman_ktls_receive(int fd, void *buf, size_t size, uint8_t *ret_type);
/* The same, and it stays there: opened, and counted by the kernel. */
ssize_t cman_ktls_peek(int fd, void *buf, size_t size, uint8_t *ret_type);

/* A record that was begun with MSG_MORE goes out, if there is one. */
int cman_ktls_flush(int fd);

/*
 * kTLS itself keeps what the socket did not take of a record when its send buffer was full, and calls that sent;
 * shutdown() and close() drop it. So before the last record: makes room for that and it, by a larger send buffer if
 * need be, so that cman_ktls_send() leaves nothing behind. -EAGAIN: when the socket is writable. (net/tls/tls_main.c,
 * tls_push_sg(); net/tls/tls_sw.c, tls_tx_records(); socket(7), SO_SNDBUF.)
 */
int cman_ktls_make_room(int fd);
/*
 * After a splice() that ended with EAGAIN: what it has written goes out. Kernels before 6.5 hand whole records down
 * with MSG_SENDPAGE_NOTLAST and then find the buffer full: nothing is on its way that would ever make room.
 */
void cman_ktls_push(int fd);

/* The next key of one way; RX: after the KeyUpdate was received, before anything else is read. */
int cman_ktls_rekey(int fd, bool tx, const struct cman_ktls_keys *keys);

#endif
