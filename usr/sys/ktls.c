/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The system calls of kernel TLS (ktls.h): keys between our form and the kernel's, and records with
 * their type as a control message. One table says how the kernel lays out the key of each cipher; in TLS
 * 1.3 its "salt" and "iv" are one IV of 12 bytes, cut in two.
 */
#include "usr/sys/ktls.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "usr/sys/secret.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

#define IV_SIZE 12
/* For two of the longest records, in the kernel's measure: bytes of memory */
#define ROOM (64u << 10)

union crypto {
	struct tls_crypto_info info;
	struct tls12_crypto_info_aes_gcm_128 aes_128;
	struct tls12_crypto_info_aes_gcm_256 aes_256;
	struct tls12_crypto_info_chacha20_poly1305 chacha;
	uint8_t bytes[128];
};

static const struct layout {
	enum cman_tls_aead aead;
	uint16_t cipher;
	uint8_t size, key, key_len, salt, salt_len, iv, seq;
} layouts[] = {
#define LAYOUT(AEAD, CIPHER, TYPE, KEY_LEN, SALT_LEN) \
	{ \
		AEAD, CIPHER, sizeof(struct TYPE), offsetof(struct TYPE, key), KEY_LEN, \
			offsetof(struct TYPE, salt), SALT_LEN, offsetof(struct TYPE, iv), \
			offsetof(struct TYPE, rec_seq) \
	}
	LAYOUT(CMAN_TLS_AES_128_GCM, TLS_CIPHER_AES_GCM_128, tls12_crypto_info_aes_gcm_128, 16, 4),
	LAYOUT(CMAN_TLS_AES_256_GCM, TLS_CIPHER_AES_GCM_256, tls12_crypto_info_aes_gcm_256, 32, 4),
	LAYOUT(CMAN_TLS_CHACHA20_POLY1305, TLS_CIPHER_CHACHA20_POLY1305,
	       tls12_crypto_info_chacha20_poly1305, 32, 0),
#undef LAYOUT
};
#define LAYOUTS (sizeof(layouts) / sizeof(layouts[0]))

static void put_u64(uint8_t *to, uint64_t value)
{
	for (int i = 7; i >= 0; i--, value >>= 8)
		to[i] = (uint8_t)value;
}

static uint64_t get_u64(const uint8_t *from)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | from[i];
	return value;
}

static const struct layout *layout_of(enum cman_tls_aead aead)
{
	for (size_t i = 0; i < LAYOUTS; i++) {
		if (layouts[i].aead == aead)
			return &layouts[i];
	}
	return NULL;
}

/* Has each record of this suite a part of its nonce in front? */
static bool has_explicit_nonce(uint16_t version, enum cman_tls_aead aead)
{
	return version == CMAN_TLS_1_2 && aead != CMAN_TLS_CHACHA20_POLY1305;
}

static int set_keys(int fd, int way, const struct cman_ktls_keys *keys)
{
	const struct layout *l = keys->suite ? layout_of(keys->suite->aead) : NULL;
	union crypto crypto = { 0 };
	int err = 0;

	if (!l)
		return -EINVAL;
	crypto.info.version = keys->suite->version;
	crypto.info.cipher_type = l->cipher;
	memcpy(crypto.bytes + l->key, keys->key, l->key_len);
	memcpy(crypto.bytes + l->salt, keys->iv, l->salt_len);
	if (has_explicit_nonce(keys->suite->version, l->aead))
		put_u64(crypto.bytes + l->iv, keys->explicit_nonce);
	else
		memcpy(crypto.bytes + l->iv, keys->iv + l->salt_len, IV_SIZE - l->salt_len);
	put_u64(crypto.bytes + l->seq, keys->seq);
	if (setsockopt(fd, SOL_TLS, way, &crypto, l->size) < 0)
		err = -errno;
	cman_secret_wipe(&crypto, sizeof(crypto));
	return err;
}

static int get_crypto(int fd, int way, union crypto *ret)
{
	const struct layout *l = NULL;
	socklen_t len = sizeof(ret->info);

	if (getsockopt(fd, SOL_TLS, way, &ret->info, &len) < 0)
		return -errno;
	for (size_t i = 0; i < LAYOUTS; i++) {
		if (layouts[i].cipher == ret->info.cipher_type)
			l = &layouts[i];
	}
	if (!l)
		return -EOPNOTSUPP;
	len = l->size;
	return getsockopt(fd, SOL_TLS, way, ret, &len) < 0 ? -errno : 0;
}

/* The kernel knows a cipher, not a suite: the first that we have with it. */
static const struct cman_tls_suite *suite_of(uint16_t version, enum cman_tls_aead aead)
{
	const struct cman_tls_suite *suites;
	size_t n;

	suites = cman_tls_suites(&n);
	for (size_t i = 0; i < n; i++) {
		if (suites[i].version == version && suites[i].aead == aead)
			return &suites[i];
	}
	return NULL;
}

static int get_keys(int fd, int way, struct cman_ktls_keys *ret)
{
	union crypto crypto = { 0 };
	struct cman_ktls_keys keys = { 0 };
	int err = get_crypto(fd, way, &crypto);

	for (size_t i = 0; i < LAYOUTS && !err; i++) {
		const struct layout *l = &layouts[i];

		if (l->cipher != crypto.info.cipher_type)
			continue;
		keys.suite = suite_of(crypto.info.version, l->aead);
		if (!keys.suite)
			err = -EOPNOTSUPP;
		memcpy(keys.key, crypto.bytes + l->key, l->key_len);
		memcpy(keys.iv, crypto.bytes + l->salt, l->salt_len);
		if (!has_explicit_nonce(crypto.info.version, l->aead))
			memcpy(keys.iv + l->salt_len, crypto.bytes + l->iv, IV_SIZE - l->salt_len);
		else if (way == TLS_TX)
			keys.explicit_nonce = get_u64(crypto.bytes + l->iv);
		keys.seq = get_u64(crypto.bytes + l->seq);
	}
	if (!err)
		*ret = keys;
	cman_secret_wipe(&keys, sizeof(keys));
	cman_secret_wipe(&crypto, sizeof(crypto));
	return err;
}

int cman_ktls_attach(int fd, const struct cman_ktls_keys *tx, const struct cman_ktls_keys *rx)
{
	char ulp[16] = "";
	socklen_t len = sizeof(ulp);
	int err;

	/* EEXIST: perhaps ours, of an attempt with a cipher that the kernel does not have */
	if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0) {
		if (errno != EEXIST)
			return -errno;
		if (getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len) < 0 || strcmp(ulp, "tls") != 0)
			return -EOPNOTSUPP;
	}
	err = set_keys(fd, TLS_TX, tx);
	return err ? err : set_keys(fd, TLS_RX, rx);
}

static bool has_keys(int fd, int way)
{
	struct tls_crypto_info info;
	socklen_t len = sizeof(info);

	return getsockopt(fd, SOL_TLS, way, &info, &len) == 0;
}

bool cman_ktls_is_attached(int fd)
{
	return has_keys(fd, TLS_TX) && has_keys(fd, TLS_RX);
}

int cman_ktls_state(int fd, struct cman_ktls_keys *ret_tx, struct cman_ktls_keys *ret_rx)
{
	struct cman_ktls_keys tx;
	int err = get_keys(fd, TLS_TX, &tx);

	if (!err)
		err = get_keys(fd, TLS_RX, ret_rx);
	if (!err)
		*ret_tx = tx;
	cman_secret_wipe(&tx, sizeof(tx));
	return err;
}

/* A record of @type with @len bytes; 0 bytes: only ends the record that is open. */
static ssize_t send_record(int fd, uint8_t type, const void *data, size_t len)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(type))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;

	control.head.cmsg_level = SOL_TLS;
	control.head.cmsg_type = TLS_SET_RECORD_TYPE;
	control.head.cmsg_len = CMSG_LEN(sizeof(type));
	memcpy(CMSG_DATA(&control.head), &type, sizeof(type));
	do
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int cman_ktls_send(int fd, uint8_t type, const void *data, size_t len)
{
	ssize_t n;

	if (!len || len > CMAN_TLS_PLAIN_MAX)
		return -EINVAL;
	n = send_record(fd, type, data, len);
	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -EIO;
}

int cman_ktls_flush(int fd)
{
	return (int)send_record(fd, CMAN_TLS_DATA, NULL, 0);
}

int cman_ktls_make_room(int fd)
{
	uint32_t mem[SK_MEMINFO_VARS];
	socklen_t len = sizeof(mem);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int half;

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len) < 0)
		return -errno;
	if (mem[SK_MEMINFO_WMEM_QUEUED] + ROOM <= mem[SK_MEMINFO_SNDBUF])
		return 0;
	half = (int)(mem[SK_MEMINFO_WMEM_QUEUED] + ROOM + 1) / 2; /* the kernel doubles it */
	len = sizeof(mem);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &half, sizeof(half)) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len) < 0)
		return -errno;
	if (mem[SK_MEMINFO_WMEM_QUEUED] + ROOM <= mem[SK_MEMINFO_SNDBUF])
		return 0;
	/* net.core.wmem_max does not allow that: when a third of it is free, for which poll() arms the socket */
	return poll(&p, 1, 0) == 1 ? 0 : -EAGAIN;
}

void cman_ktls_push(int fd)
{
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

static ssize_t receive(int fd, int flags, void *buf, size_t size, uint8_t *ret_type)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(uint8_t))];
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(fd, &msg, MSG_DONTWAIT | flags);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	*ret_type = 0;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_TLS && c->cmsg_type == TLS_GET_RECORD_TYPE)
		memcpy(ret_type, CMSG_DATA(c), sizeof(*ret_type));
	return n > 0 && !*ret_type ? -EPROTO : n;
}

ssize_t cman_ktls_receive(int fd, void *buf, size_t size, uint8_t *ret_type)
{
	return receive(fd, 0, buf, size, ret_type);
}

ssize_t cman_ktls_peek(int fd, void *buf, size_t size, uint8_t *ret_type)
{
	return receive(fd, MSG_PEEK, buf, size, ret_type);
}

int cman_ktls_rekey(int fd, bool tx, const struct cman_ktls_keys *keys)
{
	return set_keys(fd, tx ? TLS_TX : TLS_RX, keys);
}

/* --- what can this kernel do */

static void close_pair(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

/* Two ends of a connection over lo. */
static int open_pair(int fds[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int err = 0, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fds[0] = fds[1] = -1;
	if (listener < 0)
		return -errno;
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &len) < 0)
		err = -errno;
	if (!err)
		fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!err && (fds[0] < 0 || connect(fds[0], (struct sockaddr *)&at, sizeof(at)) < 0))
		err = -errno;
	if (!err)
		fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (!err && fds[1] < 0)
		err = -errno;
	close(listener);
	if (err)
		close_pair(fds);
	return err;
}

/* Keys that seal nothing: of zeros. */
static int try(const struct cman_tls_suite *suite, bool again)
{
	const struct cman_ktls_keys keys = { .suite = suite };
	int fds[2];
	int err = open_pair(fds);

	if (err)
		return err;
	err = cman_ktls_attach(fds[0], &keys, &keys);
	if (!err && again)
		err = cman_ktls_rekey(fds[0], true, &keys);
	close_pair(fds);
	return err;
}

unsigned int cman_ktls_probe(uint16_t version)
{
	unsigned int found = 0;

	for (size_t i = 0; i < LAYOUTS; i++) {
		const struct cman_tls_suite *suite = suite_of(version, layouts[i].aead);

		if (suite && !try(suite, false))
			found |= 1u << layouts[i].aead;
	}
	return found;
}

bool cman_ktls_can_rekey(void)
{
	const struct cman_tls_suite *suite = suite_of(CMAN_TLS_1_3, CMAN_TLS_AES_128_GCM);

	return suite && !try(suite, true);
}
