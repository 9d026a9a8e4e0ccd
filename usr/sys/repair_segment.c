/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One TCP segment, as the peer has sent it once: its FIN, or its acknowledgement of ours. Nothing
 * else tells a socket that they have come. It is given to this host's own kernel, which delivers
 * a packet for a local address over the loopback device whatever its source.
 *
 * Sequence number: what the socket expects next. Acknowledgement: what it knows is acknowledged,
 * so that the segment is neither old (discarded in FIN_WAIT before Linux 6.9) nor news. Window:
 * what the socket has. No timestamp option: its value is not known, and without one the kernel
 * does not look.
 */
#include "usr/sys/repair_impl.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAIT_FIRST_NS 20000
#define WAIT_TRIES    24 /* each waits half as long again: about 0.7 s in all */

struct tcp_header {
	uint16_t source;
	uint16_t dest;
	uint32_t seq;
	uint32_t ack;
	uint8_t offset; /* in its upper half */
	uint8_t flags;
	uint16_t window;
	uint16_t check;
	uint16_t urgent;
};

#define FLAG_FIN 0x01
#define FLAG_ACK 0x10

struct packet4 {
	struct iphdr ip;
	struct tcp_header tcp;
};

struct packet6 {
	struct ip6_hdr ip;
	struct tcp_header tcp;
};

static uint32_t add(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static bool mapped(const struct cman_repair_image *image)
{
	static const uint8_t prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

	return memcmp(image->local_addr, prefix, sizeof(prefix)) == 0;
}

static struct tcp_header make_tcp(const struct cman_repair_image *image,
				  enum cman_repair_segment segment)
{
	uint32_t window = image->window.snd_wnd >> image->snd_wscale;
	struct tcp_header tcp = {
		.source = htons(image->peer_port),
		.dest = htons(image->local_port),
		.seq = htonl(image->recv_seq + (uint32_t)image->in.len),
		.ack = htonl(image->send_seq + (segment == SEGMENT_ACK)),
		.offset = sizeof(tcp) / 4 << 4,
		.flags = FLAG_ACK | (segment == SEGMENT_FIN ? FLAG_FIN : 0),
		.window = htons((uint16_t)(window > 65535 ? 65535 : window)),
	};

	return tcp;
}

static size_t make4(struct packet4 *p, const struct cman_repair_image *image,
		    enum cman_repair_segment segment)
{
	memset(p, 0, sizeof(*p));
	p->ip.version = 4;
	p->ip.ihl = sizeof(p->ip) / 4;
	p->ip.tot_len = htons(sizeof(*p));
	p->ip.frag_off = htons(IP_DF);
	p->ip.ttl = 255; /* whatever IP_MINTTL says */
	p->ip.protocol = IPPROTO_TCP;
	memcpy(&p->ip.saddr, image->peer_addr + 12, 4);
	memcpy(&p->ip.daddr, image->local_addr + 12, 4);
	p->ip.check = fold(add(0, &p->ip, sizeof(p->ip)));
	p->tcp = make_tcp(image, segment);
	p->tcp.check = fold(
		add(add(IPPROTO_TCP + sizeof(p->tcp), &p->ip.saddr, 8), &p->tcp, sizeof(p->tcp)));
	return sizeof(*p);
}

static size_t make6(struct packet6 *p, const struct cman_repair_image *image,
		    enum cman_repair_segment segment)
{
	memset(p, 0, sizeof(*p));
	p->ip.ip6_vfc = 6 << 4;
	p->ip.ip6_plen = htons(sizeof(p->tcp));
	p->ip.ip6_nxt = IPPROTO_TCP;
	p->ip.ip6_hlim = 255;
	memcpy(&p->ip.ip6_src, image->peer_addr, 16);
	memcpy(&p->ip.ip6_dst, image->local_addr, 16);
	p->tcp = make_tcp(image, segment);
	p->tcp.check = fold(add(add(IPPROTO_TCP + sizeof(p->tcp), &p->ip.ip6_src, 32), &p->tcp,
				sizeof(p->tcp)));
	return sizeof(*p);
}

static int open_raw(const struct cman_repair_image *image, const char **why)
{
	int fd = socket(mapped(image) ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);

	if (fd < 0)
		return cman_repair_fail(why, -errno,
					errno == EPERM ? "CAP_NET_RAW is missing" : "raw socket");
	return fd;
}

static int send_raw(const struct cman_repair_image *image, const void *packet, size_t len,
		    const char **why)
{
	union cman_repair_address to = { 0 };
	socklen_t tolen;
	int err, fd;

	fd = open_raw(image, why);
	if (fd < 0)
		return fd;
	if (mapped(image)) {
		to.in.sin_family = AF_INET;
		memcpy(&to.in.sin_addr, image->local_addr + 12, 4);
		tolen = sizeof(to.in);
	} else {
		to.in6.sin6_family = AF_INET6;
		memcpy(&to.in6.sin6_addr, image->local_addr, 16);
		to.in6.sin6_scope_id = image->scope_id;
		tolen = sizeof(to.in6);
	}
	err = cman_repair_set(fd, SOL_SOCKET, SO_MARK, (int)CMAN_REPAIR_MARK);
	if (!err && sendto(fd, packet, len, 0, &to.any, tolen) < 0)
		err = -errno;
	close(fd);
	return err ? cman_repair_fail(why, err, "injecting a segment") : 0;
}

int cman_repair_inject_check(const struct cman_repair_image *image, const char **why)
{
	int fd;

	/* a packet for an address that is not ours would leave the host */
	if (image->option[CMAN_REPAIR_TRANSPARENT])
		return cman_repair_fail(why, -EOPNOTSUPP,
					"half-closed and transparent: inject must be given");
	fd = open_raw(image, why);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

int cman_repair_inject_segment(int fd, const struct cman_repair_image *image,
			       const struct cman_repair_inject *inject, int from,
			       enum cman_repair_segment segment, const char **why)
{
	union {
		struct packet4 v4;
		struct packet6 v6;
	} packet;
	struct timespec pause = { .tv_nsec = WAIT_FIRST_NS };
	struct tcp_info info;
	size_t len;
	int err;

	err = cman_repair_info(fd, &info);
	if (err)
		return cman_repair_fail(why, err, "TCP_INFO");
	if (info.tcpi_state != from)
		return 0;
	len = mapped(image) ? make4(&packet.v4, image, segment) : make6(&packet.v6, image, segment);
	if (inject) {
		err = inject->packet(inject->arg, &packet, len);
		if (err)
			return cman_repair_fail(why, err, "injecting a segment");
	} else {
		err = send_raw(image, &packet, len, why);
		if (err)
			return err;
	}
	for (int i = 0; i < WAIT_TRIES; i++) {
		err = cman_repair_info(fd, &info);
		if (err)
			return cman_repair_fail(why, err, "TCP_INFO");
		if (info.tcpi_state != from)
			return 0;
		nanosleep(&pause, NULL);
		pause.tv_nsec += pause.tv_nsec / 2;
	}
	return cman_repair_fail(why, -ETIMEDOUT, "an injected segment did not arrive");
}
