/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel TLS (usr/sys/ktls.h) and its move to other sockets (usr/sys/ktls_export.h). The host's end is
 * kernel TLS and is moved; the peer's is our record engine, so that every record is seen as it lies on
 * the wire. Both count records for themselves: one that was sealed twice, left out or sent in another
 * order does not open.
 *
 * Besides, all packets that the host sends are looked at as they arrive (struct wire): a byte of the
 * stream that is sent again has to be the same byte. Together: no number of a record is ever used for
 * different bytes, not even in packets that got lost.
 *
 * usage: ktls PEER_NAMESPACE [probe|basic|moves|soak|blind|odd]...	(ktls.sh)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "selftests/lib/lab.h"
#include "usr/sys/ktls_export.h"
#include "usr/tls/keys.h"
#include "usr/tls/record.h"

#define TRIES_MS   2000 /* of prepare() */
#define SETTLE_MS  30000
#define CONTROLS   512
#define KEY_UPDATE 24
#define TICKET	   4
#define MB	   (1 << 20)

static struct cman_inspect_raw *raw;

/* --- what the host has sent, byte by byte of its stream */

struct wire {
	int fd;
	uint16_t host_port, peer_port; /* 0: not known yet */
	bool unseen;		       /* IPv6 */
	bool started;
	uint32_t first; /* sequence number of the first byte */
	uint8_t *bytes, *seen;
	size_t room, high;
	uint64_t packets, repeated, different;
};

static void wire_open(struct wire *w)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP) };
	int size = 64 * MB;

	*w = (struct wire){ .fd = -1 };
	lab_enter_peer();
	w->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_IP));
	at.sll_ifindex = (int)if_nametoindex("eth0");
	if (w->fd < 0 || setsockopt(w->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
	    bind(w->fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		lab_die("packet socket");
	lab_leave_peer();
}

static void wire_bytes(struct wire *w, uint32_t seq, const uint8_t *data, size_t len)
{
	size_t at = seq - w->first;

	if (at + len > w->room) {
		size_t room = (at + len) * 2;

		w->bytes = realloc(w->bytes, room);
		w->seen = realloc(w->seen, room);
		if (!w->bytes || !w->seen)
			lab_die("memory");
		memset(w->seen + w->room, 0, room - w->room);
		w->room = room;
	}
	for (size_t i = 0; i < len; i++) {
		w->repeated += w->seen[at + i];
		w->different += w->seen[at + i] && w->bytes[at + i] != data[i];
		w->bytes[at + i] = data[i];
		w->seen[at + i] = 1;
	}
	if (at + len > w->high)
		w->high = at + len;
}

static void wire_packet(struct wire *w, const uint8_t *packet, size_t len)
{
	const struct iphdr *ip = (const struct iphdr *)packet;
	const struct tcphdr *tcp = (const struct tcphdr *)(packet + ip->ihl * 4u);
	size_t whole = ntohs(ip->tot_len), head;

	if (len < sizeof(*ip) || ip->protocol != IPPROTO_TCP || len < ip->ihl * 4u + sizeof(*tcp) ||
	    ntohs(tcp->source) != w->host_port || ntohs(tcp->dest) != w->peer_port)
		return;
	/* a large one of more than 64 KiB says 0 */
	if (!whole || whole > len)
		whole = len;
	head = ip->ihl * 4u + tcp->doff * 4u;
	if (tcp->syn) {
		w->first = ntohl(tcp->seq) + 1;
		w->started = true;
	} else if (w->started && whole > head) {
		w->packets++;
		wire_bytes(w, ntohl(tcp->seq), packet + head, whole - head);
	}
}

static void wire_look(struct wire *w)
{
	static uint8_t packet[70000];
	ssize_t n;

	while ((n = recv(w->fd, packet, sizeof(packet), 0)) > 0)
		wire_packet(w, packet, (size_t)n);
}

static uint64_t wire_lost(struct wire *w)
{
	struct tpacket_stats stats = { 0 };
	socklen_t len = sizeof(stats);

	getsockopt(w->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len);
	return stats.tp_drops;
}

static void wire_close(struct wire *w)
{
	close(w->fd);
	free(w->bytes);
	free(w->seen);
}

/* --- a connection: both directions with what was sent and what has come */

struct control {
	uint64_t at; /* bytes of content before it */
	uint8_t type;
	uint8_t content[5];
	size_t len;
};

struct way {
	uint64_t sent, got;
	struct control control[CONTROLS];
	unsigned int controls_sent, controls_got;
	struct cman_tls_half half;
};

struct link {
	struct lab_conn c;
	const struct cman_tls_suite *suite;
	struct way down, up; /* host to peer, peer to host */
	struct cman_tls_cipher seal, open;
	uint64_t sealed, opened; /* records of the peer's engine */
	struct cman_ktls_keys tx, rx;
	struct wire wire;
	uint8_t *in;
	size_t in_len, in_room;
	uint8_t *out;
	size_t out_len, out_done, out_room;
	unsigned int moves, handed; /* moves; bytes that they handed over as content */
	bool good;
};

static void wrong(struct link *l, const char *what)
{
	if (l->good)
		lab_diag("%s: %s (host has sent %llu, read %llu; peer has sent %llu, read %llu; "
			 "%u moves)",
			 l->suite->name, what, (unsigned long long)l->down.sent,
			 (unsigned long long)l->up.got, (unsigned long long)l->up.sent,
			 (unsigned long long)l->down.got, l->moves);
	l->good = false;
}

static void pattern(uint8_t *to, size_t len, uint64_t at, bool up)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t x = (at + i) * 0x9e3779b97f4a7c15ull + up * 0x85ebca6bull;

		to[i] = (uint8_t)(x >> 37 ^ x >> 13);
	}
}

/* Content has come at the end of that way: is it what is due? */
static int take(struct link *l, struct way *way, uint8_t type, const void *content, size_t len)
{
	const struct control *c = &way->control[way->controls_got];
	bool due = way->controls_got < way->controls_sent && c->at == way->got;
	uint8_t want[CMAN_TLS_PLAIN_MAX];

	if (type == CMAN_TLS_DATA) {
		pattern(want, len, way->got, way == &l->up);
		if (way->got + len > way->sent || (due && len) || memcmp(want, content, len) != 0)
			wrong(l, "a wrong byte");
		way->got += len;
	} else if (!due || c->type != type || c->len != len || memcmp(c->content, content, len)) {
		wrong(l, "a control record that is not due");
	} else {
		way->controls_got++;
	}
	return 0;
}

static struct control *add_control(struct way *way, uint8_t type, uint8_t message)
{
	struct control *c = &way->control[way->controls_sent];

	if (way->controls_sent == CONTROLS)
		lab_die("too many control records");
	*c = (struct control){ .at = way->sent, .type = type };
	if (type == CMAN_TLS_ALERT) {
		memcpy(c->content, (uint8_t[]){ 1, CMAN_TLS_USER_CANCELED }, 2);
		c->len = 2;
	} else {
		memcpy(c->content,
		       (uint8_t[]){ message, 0, 0, 1, (uint8_t)(way->controls_sent & 1) }, 5);
		c->len = 5;
	}
	way->controls_sent++;
	return c;
}

/* --- the peer */

static void peer_flush(struct link *l)
{
	while (l->out_done < l->out_len) {
		ssize_t n = send(l->c.peer, l->out + l->out_done, l->out_len - l->out_done,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			wrong(l, "the peer cannot send");
			l->out_done = l->out_len;
			return;
		}
		l->out_done += (size_t)n;
	}
	l->out_len = l->out_done = 0;
}

/* Sealed now; sent as the socket takes it. */
static void peer_seal(struct link *l, uint8_t type, const void *content, size_t len)
{
	size_t n = 0, more = len + cman_tls_record_overhead(l->suite);

	if (l->out_len + more > l->out_room) {
		l->out_room = (l->out_len + more) * 2;
		l->out = realloc(l->out, l->out_room);
		if (!l->out)
			lab_die("memory");
	}
	if (cman_tls_record_seal(&l->seal, l->sealed, type, content, len, l->out + l->out_len, &n))
		lab_die("seal");
	l->sealed++;
	l->out_len += n;
}

static void peer_data(struct link *l, size_t len, size_t record)
{
	uint8_t content[CMAN_TLS_PLAIN_MAX];

	while (len) {
		size_t n = len < record ? len : record;

		pattern(content, n, l->up.sent, true);
		peer_seal(l, CMAN_TLS_DATA, content, n);
		l->up.sent += n;
		len -= n;
	}
	peer_flush(l);
}

static void peer_control(struct link *l, uint8_t type, uint8_t message)
{
	const struct control *c = add_control(&l->up, type, message);

	peer_seal(l, type, c->content, c->len);
	peer_flush(l);
}

/* Of the next record only @part bytes are sent; the rest follows with the next flush. */
static void peer_partial(struct link *l, size_t len, size_t part)
{
	uint8_t content[CMAN_TLS_PLAIN_MAX];

	peer_flush(l);
	if (l->out_len)
		return;
	pattern(content, len, l->up.sent, true);
	peer_seal(l, CMAN_TLS_DATA, content, len);
	l->up.sent += len;
	if (send(l->c.peer, l->out, part, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)part)
		wrong(l, "the peer cannot send a part");
	l->out_done = part;
}

static void peer_open(struct link *l)
{
	static uint8_t content[CMAN_TLS_RECORD_MAX];
	size_t done = 0;

	for (;;) {
		int len = cman_tls_record_look(l->in + done, l->in_len - done, NULL);
		size_t n = 0;
		uint8_t type;
		int err;

		if (len < 0)
			wrong(l, "what the peer receives is no record");
		if (len <= 0 || (size_t)len > l->in_len - done)
			break;
		err = cman_tls_record_open(&l->open, l->opened, l->in + done, (size_t)len, content,
					   sizeof(content), &n, &type);
		if (err) {
			wrong(l, "the peer cannot open a record");
			break;
		}
		l->opened++;
		done += (size_t)len;
		take(l, &l->down, type, content, n);
	}
	memmove(l->in, l->in + done, l->in_len - done);
	l->in_len -= done;
}

static void peer_read(struct link *l)
{
	while (l->good) {
		ssize_t n;

		if (l->in_room - l->in_len < 65536) {
			l->in_room = (l->in_room + 65536) * 2;
			l->in = realloc(l->in, l->in_room);
			if (!l->in)
				lab_die("memory");
		}
		n = recv(l->c.peer, l->in + l->in_len, l->in_room - l->in_len, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			wrong(l, n ? "the peer cannot read" : "the peer has got the end");
			return;
		}
		l->in_len += (size_t)n;
		peer_open(l);
	}
}

/* --- the host */

static size_t host_data(struct link *l, size_t len, int flags)
{
	uint8_t content[CMAN_TLS_PLAIN_MAX];
	size_t done = 0;

	while (done < len) {
		size_t want = len - done < sizeof(content) ? len - done : sizeof(content);
		ssize_t n;

		pattern(content, want, l->down.sent, false);
		n = send(l->c.host, content, want, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			wrong(l, strerror(errno));
			break;
		}
		l->down.sent += (size_t)n;
		done += (size_t)n;
	}
	return done;
}

/* False: the socket is full. */
static bool host_control(struct link *l, uint8_t type)
{
	const struct control *c = add_control(&l->down, type, TICKET);
	int err = cman_ktls_send(l->c.host, type, c->content, c->len);

	if (err)
		l->down.controls_sent--;
	if (err && err != -EAGAIN)
		wrong(l, "the host cannot send a control record");
	return !err;
}

static void host_read(struct link *l)
{
	uint8_t content[CMAN_TLS_PLAIN_MAX], type;

	while (l->good) {
		ssize_t n = cman_ktls_receive(l->c.host, content, sizeof(content), &type);

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			wrong(l, n ? strerror((int)-n) : "the host has got the end");
			return;
		}
		take(l, &l->up, type, content, (size_t)n);
	}
}

static bool is_done(const struct link *l)
{
	return l->up.got == l->up.sent && l->up.controls_got == l->up.controls_sent &&
	       l->down.got == l->down.sent && l->down.controls_got == l->down.controls_sent;
}

/* Until all that was sent has come. */
static bool settle(struct link *l)
{
	uint64_t end = lab_now_us() + SETTLE_MS * 1000ull;

	while (l->good && !is_done(l)) {
		struct pollfd p[2] = { { .fd = l->c.host, .events = POLLIN },
				       { .fd = l->c.peer, .events = POLLIN } };

		peer_flush(l);
		host_read(l);
		peer_read(l);
		wire_look(&l->wire);
		if (lab_now_us() > end)
			wrong(l, "not all has come");
		if (l->good && !is_done(l))
			poll(p, 2, 5);
	}
	return l->good;
}

static uint16_t port_of(int fd, bool of_peer)
{
	struct sockaddr_in6 at = { 0 };
	socklen_t len = sizeof(at);

	/* IPv4 has it at the same place */
	if ((of_peer ? getpeername : getsockname)(fd, (struct sockaddr *)&at, &len) < 0)
		lab_die("names");
	return ntohs(at.sin6_port);
}

static void make_keys(const struct cman_tls_suite *suite, const struct cman_tls_half *half,
		      struct cman_ktls_keys *ret)
{
	struct cman_tls_keys keys;

	if (cman_tls_keys_derive(suite, half, &keys))
		lab_die("keys");
	*ret = (struct cman_ktls_keys){ .suite = suite, .seq = half->seq };
	if (suite->version == CMAN_TLS_1_2 && suite->aead != CMAN_TLS_CHACHA20_POLY1305)
		ret->explicit_nonce = half->explicit_iv + half->seq;
	memcpy(ret->key, keys.key, sizeof(ret->key));
	memcpy(ret->iv, keys.iv, sizeof(ret->iv));
}

static void fill_half(struct cman_tls_half *half, uint64_t seq)
{
	*half = (struct cman_tls_half){ .seq = seq };
	for (size_t i = 0; i < sizeof(half->secret); i++)
		half->secret[i] = (uint8_t)random();
}

/* A connection whose ends have agreed on keys, by hand. */
static void link_open_as(struct link *l, const struct cman_tls_suite *suite, enum lab_family family)
{
	int err;

	memset(l, 0, sizeof(*l));
	l->good = true;
	l->suite = suite;
	wire_open(&l->wire);
	lab_connect(&l->c, family, true);
	l->wire.unseen = family == LAB_V6;
	l->wire.host_port = port_of(l->c.host, false);
	l->wire.peer_port = port_of(l->c.host, true);
	wire_look(&l->wire);
	fill_half(&l->down.half, 3);
	fill_half(&l->up.half, 1);
	if (suite->version == CMAN_TLS_1_2 && suite->aead != CMAN_TLS_CHACHA20_POLY1305)
		l->down.half.explicit_iv = 0x0123456789abcdefull;
	make_keys(suite, &l->down.half, &l->tx);
	make_keys(suite, &l->up.half, &l->rx);
	l->sealed = l->up.half.seq;
	l->opened = l->down.half.seq;
	if (cman_tls_cipher_init(&l->seal, suite, &l->up.half, true) ||
	    cman_tls_cipher_init(&l->open, suite, &l->down.half, false))
		lab_die("cipher");
	err = cman_ktls_attach(l->c.host, &l->tx, &l->rx);
	if (err) {
		errno = -err;
		lab_die("attach %s", suite->name);
	}
}

static void link_open(struct link *l, const struct cman_tls_suite *suite)
{
	link_open_as(l, suite, LAB_V4);
}

/* All has come; nothing was ever sent twice with different bytes; no RST. */
static bool link_close(struct link *l)
{
	uint64_t lost;

	settle(l);
	wire_look(&l->wire);
	lost = wire_lost(&l->wire);
	if (l->wire.different)
		wrong(l, "a byte of the host's stream was sent with two values");
	if (lost || l->wire.started == l->wire.unseen)
		wrong(l, "the wire was not watched");
	if (lab_counters().resets)
		wrong(l, "a RST");
	cman_tls_cipher_fini(&l->seal);
	cman_tls_cipher_fini(&l->open);
	lab_close(&l->c);
	wire_close(&l->wire);
	free(l->in);
	free(l->out);
	return l->good;
}

/* --- a move */

static int keep(void *arg, uint8_t type, const void *content, size_t len)
{
	struct link *l = arg;

	l->handed += (unsigned int)len;
	return take(l, &l->up, type, content, len);
}

static bool same_keys(const struct cman_ktls_keys *a, const struct cman_ktls_keys *b)
{
	return a->suite->version == b->suite->version && a->suite->aead == b->suite->aead &&
	       memcmp(a->key, b->key, a->suite->key_len) == 0 && memcmp(a->iv, b->iv, 12) == 0;
}

/* The keys are those that were given, and the nonce has gone with the number. */
static void check_state(struct link *l, const struct cman_ktls_keys *tx,
			const struct cman_ktls_keys *rx)
{
	if (!same_keys(tx, &l->tx) || !same_keys(rx, &l->rx))
		wrong(l, "the kernel has other keys");
	if (l->tx.explicit_nonce &&
	    tx->explicit_nonce - l->tx.explicit_nonce != tx->seq - l->tx.seq)
		wrong(l, "the explicit nonce has not gone with the number");
	if (tx->seq < l->opened || rx->seq > l->sealed)
		wrong(l, "the kernel has another number");
}

static int prepare(struct link *l, struct cman_inspect_raw *with, struct cman_ktls_export *move,
		   struct cman_repair_image *image, unsigned int tries_ms, const char **why)
{
	uint64_t end = lab_now_us() + tries_ms * 1000ull;
	int err;

	for (;;) {
		err = cman_ktls_prepare(l->c.host, with, move, image, why);
		if (err != -EAGAIN || lab_now_us() > end)
			return err;
		usleep(1000);
	}
}

static bool failed(struct link *l, const char *step, int err, const char *why)
{
	if (err)
		lab_diag("%s: %s: %s", step, strerror(-err), why);
	if (err)
		wrong(l, step);
	return err;
}

/* The new socket, from @image, up to the moment when its guard may open. */
static void put_in(struct link *l, const struct cman_ktls_export *move,
		   struct cman_repair_image *image)
{
	struct cman_ktls_keys tx, rx;
	const char *why = "";
	size_t out = image->out.len;

	if (failed(l, "import", cman_repair_import(image, NULL, &l->c.host, &why), why) ||
	    failed(l, "release", cman_repair_release(l->c.host, image, NULL, &why), why))
		return;
	if (lab_inq(l->c.host) != (int)image->in.len || lab_outq(l->c.host) != (int)out)
		wrong(l, "the new socket has other queues");
	if (failed(l, "attach", cman_ktls_attach(l->c.host, &move->tx, &move->rx), ""))
		return;
	if (failed(l, "state", cman_ktls_state(l->c.host, &tx, &rx), ""))
		return;
	if (!same_keys(&tx, &move->tx) || !same_keys(&rx, &move->rx) || tx.seq != move->tx.seq ||
	    rx.seq != move->rx.seq || tx.explicit_nonce != move->tx.explicit_nonce)
		wrong(l, "the new socket has another state");
	l->moves++;
}

static struct cman_repair_image image;

static void differs(void *arg, const char *name, int64_t a, int64_t b)
{
	lab_diag("option %s was %lld, is %lld", name, (long long)a, (long long)b);
	(void)arg;
}

/* The guard is closed afterwards; @with NULL: it may be open before. */
static void take_out(struct link *l, struct cman_inspect_raw *with, struct cman_ktls_export *move)
{
	const struct cman_ktls_sink sink = { .take = keep, .arg = l };
	const char *why = "";

	memset(move, 0, sizeof(*move));
	cman_repair_reset(&image);
	if (failed(l, "prepare", prepare(l, with, move, &image, TRIES_MS, &why), why))
		return;
	lab_guard_close();
	if (failed(l, "export", cman_ktls_export(l->c.host, with, move, &sink, &image, &why), why))
		return;
	check_state(l, &move->tx, &move->rx);
}

static unsigned int stayed; /* old sockets that lived on beside the new one */

/* @leave: a duplicate of the old descriptor lives on for a while, as in a cell's table. */
static void move_now(struct link *l, struct cman_inspect_raw *with, bool leave)
{
	struct cman_ktls_export move;
	const char *why = "";
	int copy = -1;

	take_out(l, with, &move);
	if (!l->good)
		return;
	if (leave)
		copy = fcntl(l->c.host, F_DUPFD_CLOEXEC, 0);
	if (failed(l, "close", cman_repair_close(l->c.host, &why), why))
		return;
	put_in(l, &move, &image);
	lab_guard_open();
	if (copy < 0 || !l->good)
		return;
	host_data(l, 3000, 0);
	peer_data(l, 3000, 1000);
	settle(l);
	/* a kernel that disconnects it, or one that has it hidden */
	stayed += lab_state(copy) == 1;
	close(copy);
}

/* --- what lies where at the moment of a move; each function leaves the guard as it likes */

static void buffers(int fd, int rcv, int snd)
{
	if (rcv)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcv, sizeof(rcv));
	if (snd)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &snd, sizeof(snd));
}

static uint32_t flags_of(struct link *l, struct cman_inspect_raw_state *ret)
{
	struct cman_inspect_raw_state state;

	if (cman_inspect_raw_read(raw, l->c.host, &state, NULL, NULL))
		wrong(l, "the state cannot be read");
	if (ret)
		*ret = state;
	return state.flags;
}

static void idle(struct link *l)
{
	(void)l;
}

static void unacked(struct link *l)
{
	lab_guard_close();
	host_data(l, 40000, 0);
	usleep(1000);
	if (!lab_outq(l->c.host))
		wrong(l, "not arranged: all is acknowledged");
}

static void unread(struct link *l)
{
	peer_data(l, 50000, 5000);
	usleep(20000);
	if (!lab_inq(l->c.host))
		wrong(l, "not arranged: nothing to read");
}

static void unsent(struct link *l)
{
	buffers(l->c.host, 0, 4 * MB);
	buffers(l->c.peer, 20000, 0);
	host_data(l, MB, 0);
	usleep(60000);
	if (!lab_unsent(l->c.host))
		wrong(l, "not arranged: all was sent");
}

/* The peer does not read, and the buffer has no room for whole records: for as long as one likes. */
static void partly_sent(struct link *l)
{
	static const int sizes[] = { 20000, 30000, 45000, 70000, 100000, 130000 };

	buffers(l->c.peer, 4000, 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		buffers(l->c.host, 0, sizes[i]);
		do {
			host_data(l, MB, 0);
			usleep(100000);
		} while (host_data(l, 1, 0));
		if (flags_of(l, NULL) & CMAN_INSPECT_RAW_PARTIAL)
			return;
	}
	wrong(l, "not arranged: no record is partly sent");
}

static void partial_record(struct link *l)
{
	peer_data(l, 3000, 1000);
	peer_partial(l, 9000, 4001);
	usleep(20000);
}

static void partial_header(struct link *l)
{
	host_read(l);
	peer_partial(l, 700, 3);
	lab_wait_inq(l->c.host, 3);
}

static void peeked(struct link *l)
{
	struct cman_inspect_raw_state state;
	uint8_t byte[20000];

	peer_data(l, 40000, 4000);
	usleep(20000);
	if (recv(l->c.host, byte, sizeof(byte), MSG_PEEK) <= 0)
		wrong(l, "not arranged: peek");
	flags_of(l, &state);
	if (state.plain < 4000)
		wrong(l, "not arranged: nothing was opened");
}

static void partly_read(struct link *l)
{
	struct cman_inspect_raw_state state;
	uint8_t byte[1234];
	ssize_t n;

	peer_data(l, 30000, 10000);
	usleep(20000);
	n = recv(l->c.host, byte, sizeof(byte), 0);
	if (n > 0)
		take(l, &l->up, CMAN_TLS_DATA, byte, (size_t)n);
	flags_of(l, &state);
	if (!state.plain)
		wrong(l, "not arranged: nothing was opened and left");
}

static void open_record(struct link *l)
{
	host_data(l, 5000, MSG_MORE);
	if (!(flags_of(l, NULL) & CMAN_INSPECT_RAW_OPEN))
		wrong(l, "not arranged: no record is open");
}

static void controls(struct link *l)
{
	peer_data(l, 2000, 1000);
	peer_control(l, CMAN_TLS_ALERT, 0);
	peer_data(l, 2000, 1000);
	peer_control(l, CMAN_TLS_HANDSHAKE, TICKET);
	host_data(l, 500, 0);
	host_control(l, CMAN_TLS_HANDSHAKE);
	host_control(l, CMAN_TLS_ALERT);
	usleep(20000);
}

/* A control record that was opened already, because what was before it was peeked at. */
static void opened_control(struct link *l)
{
	uint8_t byte[6000];

	peer_data(l, 1000, 1000);
	peer_control(l, CMAN_TLS_HANDSHAKE, TICKET);
	peer_data(l, 1000, 1000);
	usleep(20000);
	if (recv(l->c.host, byte, sizeof(byte), MSG_PEEK) <= 0)
		wrong(l, "not arranged: peek");
}

static void key_update(struct link *l)
{
	if (cman_ktls_can_rekey())
		return;
	peer_data(l, 1000, 1000);
	peer_control(l, CMAN_TLS_HANDSHAKE, KEY_UPDATE);
	usleep(20000);
}

/* Queues of more than one window of the program, both ways. */
static void much(struct link *l)
{
	buffers(l->c.host, 8 * MB, 8 * MB);
	buffers(l->c.peer, 50000, 8 * MB);
	peer_data(l, 3 * MB, CMAN_TLS_PLAIN_MAX);
	host_data(l, 3 * MB, 0);
	for (int i = 0; i < 100 && l->out_len; i++) {
		usleep(10000);
		peer_flush(l);
	}
	if (lab_inq(l->c.host) < MB || lab_outq(l->c.host) < MB)
		wrong(l, "not arranged: too little is queued");
}

/* So little room that the record parser copies a record together. */
static void copied(struct link *l)
{
	host_read(l);
	buffers(l->c.host, 2000, 0);
	peer_data(l, CMAN_TLS_PLAIN_MAX, CMAN_TLS_PLAIN_MAX);
	for (int i = 0; i < 100 && !(flags_of(l, NULL) & CMAN_INSPECT_RAW_COPIED); i++) {
		usleep(2000);
		peer_flush(l);
	}
	if (!(flags_of(l, NULL) & CMAN_INSPECT_RAW_COPIED))
		wrong(l, "not arranged: nothing was copied");
}

static void everything(struct link *l)
{
	partly_read(l);
	controls(l);
	partial_record(l);
	partly_sent(l);
}

static const struct {
	const char *name;
	void (*arrange)(struct link *l);
} cases[] = {
	{ "idle", idle },
	{ "unacknowledged bytes", unacked },
	{ "unread records", unread },
	{ "unsent bytes", unsent },
	{ "a partly sent record, closed window", partly_sent },
	{ "a part of a record to read", partial_record },
	{ "a part of a header to read", partial_header },
	{ "peeked at", peeked },
	{ "partly read", partly_read },
	{ "an open record", open_record },
	{ "control records both ways", controls },
	{ "an opened control record", opened_control },
	{ "a KeyUpdate to read", key_update },
	{ "3 MB each way", much },
	{ "a record that is copied together", copied },
	{ "all of it", everything },
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

/* --- the parts */

/* One suite of each version and cipher. */
static const struct cman_tls_suite *suite_at(unsigned int i)
{
	static const char *const names[] = {
		"TLS_AES_128_GCM_SHA256",	"TLS_AES_256_GCM_SHA384",
		"TLS_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
		"ECDHE-RSA-AES256-GCM-SHA384",	"ECDHE-RSA-CHACHA20-POLY1305",
	};

	return i < sizeof(names) / sizeof(names[0]) ? cman_tls_suite_by_name(names[i]) : NULL;
}

static void probe(void)
{
	unsigned int all = 1u << CMAN_TLS_AES_128_GCM | 1u << CMAN_TLS_AES_256_GCM |
			   1u << CMAN_TLS_CHACHA20_POLY1305;
	int fds = lab_open_fds();

	lab_ok(cman_ktls_probe(CMAN_TLS_1_3) == all, "TLS 1.3 with all ciphers");
	lab_ok(cman_ktls_probe(CMAN_TLS_1_2) == all, "TLS 1.2 with all ciphers");
	lab_ok(cman_ktls_probe(0x0302) == 0, "no older version");
	lab_diag("keys can be changed: %s", cman_ktls_can_rekey() ? "yes" : "no");
	lab_ok(lab_open_fds() == fds, "probing leaves no descriptor behind");
}

static void splices(struct link *l)
{
	uint8_t content[40000], type;
	size_t done = 0;
	int p[2];
	ssize_t n;

	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		lab_die("pipe");
	peer_data(l, 12000, 4000);
	while (l->good && l->up.got < l->up.sent) {
		n = splice(l->c.host, NULL, p[1], NULL, 65536, SPLICE_F_NONBLOCK);
		if (n < 0 && errno == EAGAIN) {
			usleep(1000);
			continue;
		}
		if (n <= 0 || read(p[0], content, sizeof(content)) != n) {
			wrong(l, "splice out of the socket");
			break;
		}
		take(l, &l->up, CMAN_TLS_DATA, content, (size_t)n);
	}
	peer_control(l, CMAN_TLS_ALERT, 0);
	lab_wait_inq(l->c.host, (int)(2 + cman_tls_record_overhead(l->suite)));
	for (int i = 0; i < 2; i++) {
		n = splice(l->c.host, NULL, p[1], NULL, 65536, SPLICE_F_NONBLOCK);
		if (n >= 0 || errno != EINVAL)
			wrong(l, "splice does not stop at a control record");
	}
	n = recv(l->c.host, content, sizeof(content), MSG_DONTWAIT);
	if (n >= 0 || errno != EIO)
		wrong(l, "recv does not stop at a control record");
	for (int i = 0; i < 2; i++)
		if (cman_ktls_peek(l->c.host, content, 2, &type) != 2 || type != CMAN_TLS_ALERT)
			wrong(l, "a control record can be looked at");
	n = splice(l->c.host, NULL, p[1], NULL, 65536, SPLICE_F_NONBLOCK);
	if (n >= 0 || errno != EINVAL)
		wrong(l, "splice does not stop at a control record that was looked at");
	host_read(l);
	pattern(content, sizeof(content), l->down.sent, false);
	if (write(p[1], content, sizeof(content)) != sizeof(content))
		lab_die("pipe");
	l->down.sent += sizeof(content);
	while (l->good && done < sizeof(content)) {
		n = splice(p[0], NULL, l->c.host, NULL, 65536, SPLICE_F_NONBLOCK);
		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EAGAIN)
			wrong(l, "splice into the socket");
	}
	close(p[0]);
	close(p[1]);
	settle(l);
}

/* splice() says the same for a record without data as for the end; a look does not. */
static void empty_record(struct link *l)
{
	uint8_t byte, type;
	int p[2];
	ssize_t n;

	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		lab_die("pipe");
	for (int i = 0; i < 2; i++)
		peer_seal(l, CMAN_TLS_DATA, "", 0);
	peer_flush(l);
	lab_wait_inq(l->c.host, (int)(2 * cman_tls_record_overhead(l->suite)));
	for (int i = 0; i < 2; i++) {
		n = splice(l->c.host, NULL, p[1], NULL, 65536, SPLICE_F_NONBLOCK);
		if (n != 0)
			wrong(l, "splice says 0 for an empty record");
		if (cman_ktls_peek(l->c.host, &byte, 1, &type) != -EAGAIN)
			wrong(l, "a look tells an empty record from the end");
	}
	n = splice(l->c.host, NULL, p[1], NULL, 65536, SPLICE_F_NONBLOCK);
	if (n >= 0 || errno != EAGAIN)
		wrong(l, "empty records are used up");
	close(p[0]);
	close(p[1]);
}

static void basic(const struct cman_tls_suite *suite)
{
	struct cman_ktls_keys tx, rx;
	struct link l;
	uint8_t type, byte[16];

	link_open(&l, suite);
	if (!cman_ktls_is_attached(l.c.host) || cman_ktls_is_attached(l.c.peer))
		wrong(&l, "is it attached?");
	if (cman_ktls_receive(l.c.host, byte, sizeof(byte), &type) != -EAGAIN)
		wrong(&l, "nothing to read should be EAGAIN");
	host_data(&l, 100000, 0);
	peer_data(&l, 100000, 7777);
	settle(&l);
	peer_data(&l, 10, 1);
	host_control(&l, CMAN_TLS_ALERT);
	peer_control(&l, CMAN_TLS_HANDSHAKE, TICKET);
	host_data(&l, 10, 0);
	settle(&l);
	splices(&l);
	empty_record(&l);
	if (cman_ktls_state(l.c.host, &tx, &rx))
		wrong(&l, "state");
	else
		check_state(&l, &tx, &rx);
	if (tx.seq != l.opened || rx.seq != l.sealed)
		wrong(&l, "the numbers are not those of the peer");
	if (cman_ktls_attach(l.c.host, &tx, &rx) != -EBUSY && !cman_ktls_can_rekey())
		wrong(&l, "keys were given twice");
	lab_ok(link_close(&l), "%s, %s: data, control records, splice, state", suite->name,
	       cman_tls_version_name(suite->version));
}

static unsigned int rounds;

static void move_case(const struct cman_tls_suite *suite, size_t k)
{
	struct link l;

	link_open(&l, suite);
	host_data(&l, 1000, 0);
	peer_data(&l, 1000, 100);
	settle(&l);
	cases[k].arrange(&l);
	if (l.good)
		move_now(&l, raw, k % 2);
	lab_guard_open();
	/* and again, whatever the first move has left */
	peer_data(&l, 20000, 3000);
	host_data(&l, 20000, 0);
	if (l.good)
		move_now(&l, raw, false);
	settle(&l);
	host_data(&l, 1000, 0);
	peer_data(&l, 1000, 100);
	rounds += l.moves;
	lab_ok(link_close(&l) && l.moves == 2, "%s: %s", suite->name, cases[k].name);
}

/* One connection, moved again and again while both sides write and read as chance has it. */
static void soak(const struct cman_tls_suite *suite, struct cman_inspect_raw *with, unsigned int n)
{
	uint8_t byte[3000];
	struct link l;

	link_open(&l, suite);
	buffers(l.c.peer, 60000, 0);
	for (unsigned int i = 0; i < n && l.good; i++) {
		unsigned int dice = (unsigned int)random();

		host_data(&l, dice % 150000, 0);
		peer_data(&l, dice / 7 % 150000, 1 + dice / 11 % CMAN_TLS_PLAIN_MAX);
		if (dice / 13 % 3 == 0)
			host_control(&l, CMAN_TLS_HANDSHAKE);
		if (dice / 17 % 3 == 0)
			peer_control(&l, CMAN_TLS_ALERT, 0);
		if (dice / 19 % 2)
			host_read(&l);
		if (dice / 23 % 2)
			peer_read(&l);
		if (dice / 29 % 3 == 0 && !l.out_len)
			peer_partial(&l, 5000, 1 + dice / 31 % 5000);
		if (dice / 37 % 3 == 0 && l.up.controls_got == l.up.controls_sent)
			recv(l.c.host, byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);
		if (dice / 41 % 3 == 0)
			host_data(&l, 200, MSG_MORE);
		if (!with)
			peer_read(&l);
		if (with && dice / 43 % 2)
			lab_guard_close();
		move_now(&l, with, i % 3 == 0);
		wire_look(&l.wire);
		if (i % 5 == 4)
			settle(&l);
	}
	rounds += l.moves;
	lab_diag("%s: %u moves, %llu and %llu bytes, %u handed over as content; %llu packets, %llu "
		 "bytes sent again",
		 suite->name, l.moves, (unsigned long long)l.down.sent,
		 (unsigned long long)l.up.sent, l.handed, (unsigned long long)l.wire.packets,
		 (unsigned long long)l.wire.repeated);
	lab_ok(link_close(&l) && l.moves == n, "%s: %u moves of one connection%s", suite->name, n,
	       with ? "" : " without BPF");
}

/* --- without BPF */

static void blind_case(const struct cman_tls_suite *suite, const char *name,
		       void (*arrange)(struct link *l))
{
	struct link l;

	link_open(&l, suite);
	host_data(&l, 30000, 0);
	peer_data(&l, 1000, 100);
	settle(&l);
	arrange(&l);
	peer_read(&l);
	move_now(&l, NULL, true);
	settle(&l);
	rounds += l.moves;
	lab_ok(link_close(&l) && l.moves == 1, "%s, without BPF: %s", suite->name, name);
}

/* It does not move, and says why; nothing has happened to it. */
static void blind_refused(const char *what, int want, void (*arrange)(struct link *l))
{
	struct cman_ktls_export move = { 0 };
	struct cman_repair_image before = { 0 }, after = { 0 };
	const char *why = "";
	struct link l;
	int err;

	link_open(&l, suite_at(0));
	arrange(&l);
	cman_repair_reset(&image);
	cman_repair_describe(l.c.host, &before, NULL);
	err = prepare(&l, NULL, &move, &image, 100, &why);
	if (err != want)
		wrong(&l, "another answer");
	lab_diag("%s: %s", strerror(-err), why);
	if (cman_ktls_thaw(l.c.host, &move, &image, &why))
		wrong(&l, why);
	cman_repair_describe(l.c.host, &after, NULL);
	if (cman_repair_compare(&before, &after, differs, NULL))
		wrong(&l, "options have changed");
	host_data(&l, 1000, 0);
	lab_ok(link_close(&l), "without BPF, %s: refused, and it goes on", what);
}

static void small_buffer(struct link *l)
{
	buffers(l->c.host, 10000, 0);
}

static void blind(void)
{
	const struct cman_tls_suite *suite;

	for (unsigned int i = 0; (suite = suite_at(i)); i++) {
		blind_case(suite, "idle", idle);
		blind_case(suite, "unread records", unread);
		blind_case(suite, "a part of a record to read", partial_record);
		blind_case(suite, "a part of a header to read", partial_header);
		blind_case(suite, "partly read", partly_read);
		blind_case(suite, "an open record", open_record);
		blind_case(suite, "control records both ways", controls);
		soak(suite, NULL, 12);
	}
	blind_refused("a peer that does not read", -EAGAIN, partly_sent);
	blind_refused("a small receive buffer", -EOPNOTSUPP, small_buffer);
}

/* --- odd ends */

static void ways_back(void (*arrange)(struct link *l), const char *name)
{
	struct cman_repair_image before = { 0 }, after = { 0 };
	struct cman_ktls_export move;
	const char *why = "";
	struct link l;

	link_open(&l, suite_at(1));
	arrange(&l);
	cman_repair_describe(l.c.host, &before, NULL);
	for (int i = 0; i < 3 && l.good; i++) {
		take_out(&l, raw, &move);
		failed(&l, "thaw", cman_ktls_thaw(l.c.host, &move, &image, &why), why);
		lab_guard_open();
	}
	cman_repair_describe(l.c.host, &after, NULL);
	if (cman_repair_compare(&before, &after, differs, NULL))
		wrong(&l, "options have changed");
	host_data(&l, 10000, 0);
	peer_data(&l, 10000, 1000);
	lab_ok(link_close(&l), "exported and thawed three times: %s", name);
}

static void refusals(void)
{
	const char *why = "";
	struct link l;
	struct lab_conn c;
	int err;

	link_open(&l, suite_at(0));
	err = cman_repair_check(l.c.host, &why);
	lab_ok(err == -EOPNOTSUPP && strstr(why, "kernel TLS"), "check() refuses kernel TLS: %s",
	       why);
	cman_repair_reset(&image);
	err = cman_repair_freeze(l.c.host, &image, &why);
	lab_ok(err == -EOPNOTSUPP && !image.frozen, "so does freeze()");
	lab_ok(cman_ktls_check(l.c.host, raw, &why) == 0, "cman_ktls_check() does not");
	settle(&l);
	lab_peer_shut(&l.c);
	lab_wait_state(l.c.host, 8);
	err = cman_ktls_check(l.c.host, raw, &why);
	lab_ok(err == -EOPNOTSUPP, "half-closed: %s", why);
	lab_ok(link_close(&l), "and nothing has happened to it");

	lab_connect(&c, LAB_V4, true);
	err = cman_ktls_check(c.host, raw, &why);
	lab_ok(err == -EOPNOTSUPP, "a socket without kernel TLS: %s", why);
	if (setsockopt(c.host, IPPROTO_TCP, 31 /* TCP_ULP */, "tls", 4) < 0)
		lab_die("TCP_ULP");
	lab_ok(!cman_ktls_is_attached(c.host),
	       "with the protocol, but no keys: it is not attached");
	lab_ok(cman_repair_check(c.host, &why) == 0, "and moves as one without");
	lab_host_write(&c, 5000);
	lab_peer_write(&c, 5000);
	lab_guard_close();
	cman_repair_reset(&image);
	err = cman_repair_freeze(c.host, &image, &why);
	if (!err)
		err = cman_repair_export(c.host, &image, &why);
	if (!err)
		err = cman_repair_close(c.host, &why);
	if (!err)
		err = cman_repair_import(&image, NULL, &c.host, &why);
	if (!err)
		err = cman_repair_release(c.host, &image, NULL, &why);
	lab_guard_open();
	lab_ok(!err && lab_settle(&c, 5000), "with all its bytes");
	lab_close(&c);
}

/* After the old side has closed nothing but the image is needed, as often as one likes. */
static void imported_twice(void)
{
	struct cman_ktls_export move;
	const char *why = "";
	struct link l;

	link_open(&l, suite_at(3));
	everything(&l);
	take_out(&l, raw, &move);
	if (l.good && !failed(&l, "close", cman_repair_close(l.c.host, &why), why)) {
		for (int i = 0; i < 2 && l.good; i++) {
			if (!failed(&l, "import", cman_repair_import(&image, NULL, &l.c.host, &why),
				    why))
				failed(&l, "abort", cman_repair_abort(l.c.host, &why), why);
		}
		put_in(&l, &move, &image);
	}
	lab_guard_open();
	lab_ok(link_close(&l), "imported, aborted, imported again");
}

static void family(enum lab_family f)
{
	struct link l;

	link_open_as(&l, suite_at(2), f);
	for (int i = 0; i < 5 && l.good; i++) {
		unacked(&l);
		peer_data(&l, 20000, 3000);
		move_now(&l, raw, i % 2);
		peer_partial(&l, 3000, 1000);
		usleep(20000);
		move_now(&l, raw, i % 2);
	}
	rounds += l.moves;
	lab_ok(link_close(&l) && l.moves == 10, "%s", lab_family_name[f]);
}

/* The lookup does not find such a socket, the walk does. */
static void bound_to_device(void)
{
	struct cman_repair_queue in[2] = { { 0 } }, out[2] = { { 0 } };
	struct cman_inspect_raw_state state[2];
	struct link l;
	int err = 0;

	link_open(&l, suite_at(0));
	unread(&l);
	unacked(&l);
	for (int i = 0; i < 2 && !err; i++) {
		err = cman_inspect_raw_read(raw, l.c.host, &state[i], &in[i], &out[i]);
		setsockopt(l.c.host, SOL_SOCKET, SO_BINDTODEVICE, i ? "" : "eth0", i ? 0 : 4);
	}
	lab_guard_open();
	lab_ok(!err && in[0].len == in[1].len && out[0].len == out[1].len && in[0].len &&
		       out[0].len && memcmp(in[0].data, in[1].data, in[0].len) == 0 &&
		       memcmp(out[0].data, out[1].data, out[0].len) == 0 &&
		       memcmp(&state[0], &state[1], sizeof(state[0])) == 0,
	       "a socket that is bound to a device is read, and the same");
	for (int i = 0; i < 2; i++) {
		free(in[i].data);
		free(out[i].data);
	}
	lab_ok(link_close(&l), "and goes on");
}

static void odd(void)
{
	int fds = lab_open_fds();

	refusals();
	ways_back(idle, "idle");
	ways_back(partly_sent, "a partly sent record");
	ways_back(peeked, "peeked at");
	ways_back(partial_record, "a part of a record");
	imported_twice();
	family(LAB_V6);
	family(LAB_MAPPED);
	bound_to_device();
	lab_ok(lab_open_fds() == fds, "no descriptor was leaked");
}

static void run(const char *part)
{
	const struct cman_tls_suite *suite;

	if (strcmp(part, "probe") == 0)
		probe();
	else if (strcmp(part, "blind") == 0)
		blind();
	else if (strcmp(part, "odd") == 0)
		odd();
	for (unsigned int i = 0; (suite = suite_at(i)); i++) {
		if (strcmp(part, "basic") == 0)
			basic(suite);
		for (size_t k = 0; k < CASES && strcmp(part, "moves") == 0; k++)
			move_case(suite, k);
		if (strcmp(part, "soak") == 0)
			soak(suite, raw, 30);
	}
}

int main(int argc, char **argv)
{
	const char *why = "";
	int err;

	if (argc < 3) {
		fprintf(stderr, "usage: ktls PEER_NAMESPACE PART...\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	lab_init(argv[1]);
	if (!cman_ktls_probe(CMAN_TLS_1_3)) {
		printf("1..0 # SKIP kernel has no TLS\n");
		return 0;
	}
	err = cman_inspect_raw_open(&raw, &why);
	lab_ok(!err, "the program that reads queues is loaded");
	if (err)
		lab_diag("%s: %s", strerror(-err), why);
	for (int i = 2; i < argc; i++) {
		if (raw || strcmp(argv[i], "probe") == 0 || strcmp(argv[i], "basic") == 0)
			run(argv[i]);
	}
	lab_diag("%u moves, %u old sockets lived on in a duplicate", rounds, stayed);
	cman_inspect_raw_close(raw);
	cman_repair_free(&image);
	return lab_done();
}
