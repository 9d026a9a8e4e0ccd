/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The socket options that an image carries: one table, which get, set, compare and dump all read.
 * It is in the order in which the options are set. A value that a new socket has anyway is not
 * set: for most options the kernel's default is a constant, for the others (they follow a sysctl
 * or a route) the new socket is asked first, so that they go on following it.
 */
#include "usr/sys/repair_impl.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* newer than the oldest headers that this is built with */
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef SO_TXREHASH
#define SO_TXREHASH 74
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef IPV6_AUTOFLOWLABEL
#define IPV6_AUTOFLOWLABEL 70
#endif
#ifndef IPV6_MINHOPCOUNT
#define IPV6_MINHOPCOUNT 73
#endif
#define OPT_TCP_RTO_MAX_MS    44
#define OPT_TCP_RTO_MIN_US    45
#define OPT_TCP_DELACK_MAX_US 46

enum kind {
	KIND_INT,
	KIND_U64,
	KIND_LINGER,
	KIND_TIMEVAL,
	KIND_BUFFER, /* the kernel doubles what is set; set with another name */
};

enum {
	ONLY6 = 0x01,  /* only of AF_INET6 sockets */
	ASK = 0x02,    /* the default varies: ask the new socket */
	ALWAYS = 0x04, /* set it whatever the default */
	MOVES = 0x08,  /* the kernel changes it while the connection lives */
	GROWS = 0x10,  /* and only upward */
};

struct option {
	const char *name;
	int level;
	int get;
	int set; /* 0: as get */
	enum kind kind;
	enum cman_repair_phase phase;
	unsigned int flags;
	int64_t normal; /* of a new socket */
};

/* PRIORITY after TOS, which changes it; the clamp after RCVBUF and RCVLOWAT, which change it */
static const struct option table[CMAN_REPAIR_OPTIONS] = {
#define O(id, n, l, g, ...) [CMAN_REPAIR_##id] = { .name = n, .level = l, .get = g, __VA_ARGS__ }
#define EARLY		    .phase = PHASE_EARLY
#define MID		    .phase = PHASE_MID
#define LATE		    .phase = PHASE_LATE
	O(REUSEADDR, "reuseaddr", SOL_SOCKET, SO_REUSEADDR, LATE),
	O(REUSEPORT, "reuseport", SOL_SOCKET, SO_REUSEPORT, EARLY),
	/* bind() to an address that is not mapped sets it, which changes nothing for a connection */
	O(V6ONLY, "v6only", IPPROTO_IPV6, IPV6_V6ONLY, EARLY, .flags = ONLY6 | ASK | GROWS),
	O(FREEBIND, "freebind", IPPROTO_IP, IP_FREEBIND, EARLY),
	O(TRANSPARENT, "transparent", IPPROTO_IP, IP_TRANSPARENT, EARLY),
	O(MARK_OF_SOCKET, "mark", SOL_SOCKET, SO_MARK, EARLY),
	O(TOS, "tos", IPPROTO_IP, IP_TOS, EARLY),
	O(TCLASS, "tclass", IPPROTO_IPV6, IPV6_TCLASS, EARLY, .flags = ONLY6),
	O(PRIORITY, "priority", SOL_SOCKET, SO_PRIORITY, EARLY, .flags = ASK),
	O(TTL, "ttl", IPPROTO_IP, IP_TTL, EARLY, .flags = ASK),
	O(HOPLIMIT, "hoplimit", IPPROTO_IPV6, IPV6_UNICAST_HOPS, EARLY, .flags = ONLY6 | ASK),
	O(MINTTL, "minttl", IPPROTO_IP, IP_MINTTL, EARLY),
	O(MINHOPCOUNT, "minhopcount", IPPROTO_IPV6, IPV6_MINHOPCOUNT, EARLY, .flags = ONLY6),
	O(MTU_DISCOVER, "mtu_discover", IPPROTO_IP, IP_MTU_DISCOVER, EARLY, .flags = ASK),
	O(MTU_DISCOVER6, "mtu_discover6", IPPROTO_IPV6, IPV6_MTU_DISCOVER, EARLY,
	  .flags = ONLY6 | ASK),
	O(RECVERR, "recverr", IPPROTO_IP, IP_RECVERR, EARLY),
	O(RECVERR6, "recverr6", IPPROTO_IPV6, IPV6_RECVERR, EARLY, .flags = ONLY6),
	O(AUTOFLOWLABEL, "autoflowlabel", IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, EARLY,
	  .flags = ONLY6 | ASK),
	O(BIND_NO_PORT, "bind_address_no_port", IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, MID),
	O(PORT_RANGE, "local_port_range", IPPROTO_IP, IP_LOCAL_PORT_RANGE, MID),
	O(DONTROUTE, "dontroute", SOL_SOCKET, SO_DONTROUTE, EARLY),
	O(OOBINLINE, "oobinline", SOL_SOCKET, SO_OOBINLINE, MID),
	O(LINGER, "linger", SOL_SOCKET, SO_LINGER, MID, .kind = KIND_LINGER, .normal = -1),
	O(RCVTIMEO, "rcvtimeo", SOL_SOCKET, SO_RCVTIMEO, MID, .kind = KIND_TIMEVAL),
	O(SNDTIMEO, "sndtimeo", SOL_SOCKET, SO_SNDTIMEO, MID, .kind = KIND_TIMEVAL),
	O(BUSY_POLL, "busy_poll", SOL_SOCKET, SO_BUSY_POLL, MID, .flags = ASK),
	O(ZEROCOPY, "zerocopy", SOL_SOCKET, SO_ZEROCOPY, MID),
	O(TXREHASH, "txrehash", SOL_SOCKET, SO_TXREHASH, MID, .flags = ASK),
	O(MAX_PACING_RATE, "max_pacing_rate", SOL_SOCKET, SO_MAX_PACING_RATE, MID, .kind = KIND_U64,
	  .normal = -1),
	O(NODELAY, "nodelay", IPPROTO_TCP, TCP_NODELAY, MID),
	O(CORK, "cork", IPPROTO_TCP, TCP_CORK, MID),
	O(KEEPIDLE, "keepidle", IPPROTO_TCP, TCP_KEEPIDLE, MID, .flags = ASK),
	O(KEEPINTVL, "keepintvl", IPPROTO_TCP, TCP_KEEPINTVL, MID, .flags = ASK),
	O(KEEPCNT, "keepcnt", IPPROTO_TCP, TCP_KEEPCNT, MID, .flags = ASK),
	O(SYNCNT, "syncnt", IPPROTO_TCP, TCP_SYNCNT, MID, .flags = ASK),
	O(LINGER2, "linger2", IPPROTO_TCP, TCP_LINGER2, MID, .flags = ASK),
	O(DEFER_ACCEPT, "defer_accept", IPPROTO_TCP, TCP_DEFER_ACCEPT, MID),
	O(USER_TIMEOUT, "user_timeout", IPPROTO_TCP, TCP_USER_TIMEOUT, MID),
	O(NOTSENT_LOWAT, "notsent_lowat", IPPROTO_TCP, TCP_NOTSENT_LOWAT, MID),
	O(THIN_LINEAR, "thin_linear_timeouts", IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, MID),
	O(INQ, "inq", IPPROTO_TCP, TCP_INQ, MID),
	O(TX_DELAY, "tx_delay", IPPROTO_TCP, TCP_TX_DELAY, MID),
	O(RTO_MAX_MS, "rto_max_ms", IPPROTO_TCP, OPT_TCP_RTO_MAX_MS, MID, .flags = ASK),
	O(RTO_MIN_US, "rto_min_us", IPPROTO_TCP, OPT_TCP_RTO_MIN_US, MID, .flags = ASK),
	O(DELACK_MAX_US, "delack_max_us", IPPROTO_TCP, OPT_TCP_DELACK_MAX_US, MID, .flags = ASK),
	O(RCVLOWAT, "rcvlowat", SOL_SOCKET, SO_RCVLOWAT, MID, .normal = 1),
	O(PEEK_OFF, "peek_off", SOL_SOCKET, SO_PEEK_OFF, MID, .flags = MOVES, .normal = -1),
	O(RCVBUF, "rcvbuf", SOL_SOCKET, SO_RCVBUF, MID, .set = SO_RCVBUFFORCE, .kind = KIND_BUFFER,
	  .flags = ALWAYS | MOVES | GROWS),
	O(SNDBUF, "sndbuf", SOL_SOCKET, SO_SNDBUF, LATE, .set = SO_SNDBUFFORCE, .kind = KIND_BUFFER,
	  .flags = ALWAYS | MOVES | GROWS),
	O(WINDOW_CLAMP, "window_clamp", IPPROTO_TCP, TCP_WINDOW_CLAMP, MID,
	  .flags = ALWAYS | MOVES | GROWS),
	O(BUF_LOCK, "buf_lock", SOL_SOCKET, SO_BUF_LOCK, LATE, .flags = ALWAYS),
	O(KEEPALIVE, "keepalive", SOL_SOCKET, SO_KEEPALIVE, LATE),
	O(QUICKACK, "quickack", IPPROTO_TCP, TCP_QUICKACK, LATE, .flags = ALWAYS | MOVES),
#undef O
#undef EARLY
#undef MID
#undef LATE
};
_Static_assert(CMAN_REPAIR_OPTIONS <= 64, "one bit an option");

/* moving changes these, so they are always put right */
#define WANTED_ANYWAY \
	(CMAN_REPAIR_BIT(CMAN_REPAIR_REUSEADDR) | CMAN_REPAIR_BIT(CMAN_REPAIR_RCVBUF) | \
	 CMAN_REPAIR_BIT(CMAN_REPAIR_SNDBUF) | CMAN_REPAIR_BIT(CMAN_REPAIR_BUF_LOCK) | \
	 CMAN_REPAIR_BIT(CMAN_REPAIR_WINDOW_CLAMP) | CMAN_REPAIR_BIT(CMAN_REPAIR_PEEK_OFF) | \
	 CMAN_REPAIR_BIT(CMAN_REPAIR_OOBINLINE))

union raw {
	int number;
	uint64_t u64;
	struct linger linger;
	struct timeval time;
};

static int get(int fd, const struct option *o, int64_t *ret_value)
{
	union raw v = { .u64 = 0 };
	socklen_t len = sizeof(v.number);
	int err;

	if (o->kind == KIND_U64)
		len = sizeof(v.u64);
	else if (o->kind == KIND_LINGER)
		len = sizeof(v.linger);
	else if (o->kind == KIND_TIMEVAL)
		len = sizeof(v.time);
	err = cman_repair_get(fd, o->level, o->get, &v, len);
	if (err)
		return err;
	switch (o->kind) {
	case KIND_U64:
		*ret_value = (int64_t)v.u64;
		break;
	case KIND_LINGER:
		*ret_value = v.linger.l_onoff ? v.linger.l_linger : -1;
		break;
	case KIND_TIMEVAL:
		*ret_value = v.time.tv_sec * 1000000LL + v.time.tv_usec;
		break;
	default:
		*ret_value = v.number;
	}
	return 0;
}

static int set(int fd, const struct option *o, int64_t value)
{
	union raw v = { .u64 = 0 };
	socklen_t len = sizeof(v.number);

	switch (o->kind) {
	case KIND_U64:
		v.u64 = (uint64_t)value;
		len = sizeof(v.u64);
		break;
	case KIND_LINGER:
		v.linger.l_onoff = value >= 0;
		v.linger.l_linger = value >= 0 ? (int)value : 0;
		len = sizeof(v.linger);
		break;
	case KIND_TIMEVAL:
		v.time.tv_sec = value / 1000000;
		v.time.tv_usec = value % 1000000;
		len = sizeof(v.time);
		break;
	case KIND_BUFFER:
		v.number = (int)((value + 1) / 2);
		break;
	default:
		v.number = (int)value;
	}
	return setsockopt(fd, o->level, o->set ? o->set : o->get, &v, len) < 0 ? -errno : 0;
}

/* Newer kernels know more options. */
static bool unknown(int err)
{
	return err == -ENOPROTOOPT || err == -EOPNOTSUPP;
}

/*
 * What this kernel has answered ENOPROTOOPT to, per family: it will do so the next time, so it is
 * not asked again.
 */
static _Atomic uint64_t lacks[2];

bool cman_repair_option_wanted(const struct cman_repair_image *image, int option)
{
	if (image->want && !((image->want | WANTED_ANYWAY) & CMAN_REPAIR_BIT(option)))
		return false;
	return !(table[option].flags & ONLY6) || image->family == AF_INET6;
}

bool cman_repair_option_moves(int option)
{
	return table[option].flags & MOVES;
}

int cman_repair_options_get(int fd, struct cman_repair_image *image, bool moving_only,
			    const char **why)
{
	_Atomic uint64_t *lack = &lacks[image->family == AF_INET6];

	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		const struct option *o = &table[i];
		int err;

		if (!cman_repair_option_wanted(image, i) || *lack & CMAN_REPAIR_BIT(i))
			continue;
		if (moving_only ? !(o->flags & MOVES) : image->have & CMAN_REPAIR_BIT(i))
			continue;
		err = get(fd, o, &image->option[i]);
		if (!err)
			image->have |= CMAN_REPAIR_BIT(i);
		else if (err == -ENOPROTOOPT)
			*lack |= CMAN_REPAIR_BIT(i);
		else if (!unknown(err))
			return cman_repair_fail(why, err, o->name);
	}
	return 0;
}

int cman_repair_defaults(int family, struct cman_repair_defaults *ret_defaults, const char **why)
{
	struct cman_repair_image fresh = { .family = (uint8_t)family };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return cman_repair_fail(why, -errno, "socket");
	err = cman_repair_options_get(fd, &fresh, false, why);
	if (!err) {
		err = cman_repair_get(fd, IPPROTO_TCP, TCP_CONGESTION, fresh.congestion,
				      sizeof(fresh.congestion));
		if (err)
			cman_repair_fail(why, err, "congestion");
	}
	close(fd);
	if (err)
		return err;
	/* before Linux 6.3 it is resolved when the socket connects: 255 until then */
	if (fresh.option[CMAN_REPAIR_TXREHASH] > 1)
		fresh.have &= ~CMAN_REPAIR_BIT(CMAN_REPAIR_TXREHASH);
	/* of a connected socket it is its route's */
	fresh.have &= ~CMAN_REPAIR_BIT(CMAN_REPAIR_HOPLIMIT);
	ret_defaults->family = fresh.family;
	ret_defaults->have = fresh.have;
	memcpy(ret_defaults->option, fresh.option, sizeof(fresh.option));
	memcpy(ret_defaults->congestion, fresh.congestion, sizeof(fresh.congestion));
	return 0;
}

/*
 * A buffer that nobody has fixed and that is not larger than the new socket's is left alone, and
 * so is the kernel's tuning of it. The send buffer has already been tuned when it connected, so
 * the socket is asked.
 */
static bool buffer_is_fine(int fd, int option, const struct cman_repair_image *image,
			   const struct cman_repair_defaults *defaults)
{
	int64_t now = defaults ? defaults->option[option] : 0;
	int lock = option == CMAN_REPAIR_SNDBUF ? 1 : 2; /* SOCK_SNDBUF_LOCK, SOCK_RCVBUF_LOCK */

	if (image->forced || !(image->have & CMAN_REPAIR_BIT(CMAN_REPAIR_BUF_LOCK)) ||
	    image->option[CMAN_REPAIR_BUF_LOCK] & lock)
		return false;
	return now >= image->option[option] ||
	       (!get(fd, &table[option], &now) && now >= image->option[option]);
}

/* For this option of a new socket: is there nothing to do? */
static int is_so_already(int fd, int i, const struct cman_repair_image *image,
			 const struct cman_repair_defaults *defaults, const char **why)
{
	const struct option *o = &table[i];
	int64_t now;
	int err;

	if (i == CMAN_REPAIR_RCVBUF || i == CMAN_REPAIR_SNDBUF)
		return buffer_is_fine(fd, i, image, defaults);
	if (i == CMAN_REPAIR_BUF_LOCK)
		return !image->forced && !image->option[i];
	/* a new socket acknowledges at once */
	if (i == CMAN_REPAIR_QUICKACK)
		return image->option[i] == 1;
	if (!(o->flags & ASK))
		return !(o->flags & ALWAYS) && image->option[i] == o->normal;
	if (defaults && defaults->have & CMAN_REPAIR_BIT(i))
		return defaults->option[i] == image->option[i];
	err = get(fd, o, &now);
	if (err && !unknown(err))
		return cman_repair_fail(why, err, o->name);
	return err || now == image->option[i];
}

int cman_repair_options_set(int fd, struct cman_repair_image *image,
			    const struct cman_repair_defaults *defaults,
			    enum cman_repair_phase phase, const char **why)
{
	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		const struct option *o = &table[i];
		int64_t value = image->option[i];
		int err;

		if (o->phase != phase || !(image->have & CMAN_REPAIR_BIT(i)))
			continue;
		err = is_so_already(fd, i, image, defaults, why);
		if (err < 0)
			return err;
		if (err)
			continue;
		/* 2: first send the acknowledgement that is waiting, then off */
		if (i == CMAN_REPAIR_QUICKACK && !value)
			value = 2;
		err = set(fd, o, value);
		/* without SO_BUF_LOCK (before Linux 5.14) the buffers stay locked */
		if (err && !(i == CMAN_REPAIR_BUF_LOCK && err == -ENOPROTOOPT))
			return cman_repair_fail(why, err, o->name);
		/* the kernel takes it for the user's wish, and locks it */
		if (o->kind == KIND_BUFFER)
			image->forced = true;
	}
	return 0;
}

const char *cman_repair_option_name(enum cman_repair_option option)
{
	return (unsigned int)option < CMAN_REPAIR_OPTIONS ? table[option].name : NULL;
}

int cman_repair_compare(const struct cman_repair_image *a, const struct cman_repair_image *b,
			void (*differs)(void *arg, const char *name, int64_t a, int64_t b),
			void *arg)
{
	uint64_t both = a->have & b->have;
	int n = 0;

	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		int64_t va = a->option[i], vb = b->option[i];

		if (!(both & CMAN_REPAIR_BIT(i)) || i == CMAN_REPAIR_QUICKACK || va == vb ||
		    ((table[i].flags & GROWS) && vb > va))
			continue;
		n++;
		if (differs)
			differs(arg, table[i].name, va, vb);
	}
	if (strcmp(a->congestion, b->congestion) != 0) {
		n++;
		if (differs)
			differs(arg, "congestion", 0, 0);
	}
	if (strcmp(a->bindtodevice, b->bindtodevice) != 0) {
		n++;
		if (differs)
			differs(arg, "bindtodevice", 0, 0);
	}
	return n;
}

static void dump_address(FILE *to, const char *name, const struct cman_repair_image *image,
			 const uint8_t addr[16], uint16_t port)
{
	char text[INET6_ADDRSTRLEN];

	if (image->family == AF_INET)
		inet_ntop(AF_INET, addr + 12, text, sizeof(text));
	else
		inet_ntop(AF_INET6, addr, text, sizeof(text));
	fprintf(to, image->family == AF_INET ? "%s %s:%u\n" : "%s [%s]:%u\n", name, text, port);
}

void cman_repair_dump(const struct cman_repair_image *image, FILE *to)
{
	const struct cman_repair_window *w = &image->window;
	const struct cman_repair_speed *s = &image->speed;

	dump_address(to, "local", image, image->local_addr, image->local_port);
	dump_address(to, "peer", image, image->peer_addr, image->peer_port);
	fprintf(to, "state %u\n", image->state);
	fprintf(to, "negotiated %u\nsnd_wscale %u\nrcv_wscale %u\nmss %u\n", image->negotiated,
		image->snd_wscale, image->rcv_wscale, image->mss);
	fprintf(to, "timestamp %u %s\n", image->timestamp, image->usec_timestamps ? "us" : "ms");
	fprintf(to, "recv_seq %u\nsend_seq %u\n", image->recv_seq, image->send_seq);
	fprintf(to, "in %zu\nout %zu\nunsent %zu\n", image->in.len, image->out.len, image->unsent);
	fprintf(to, "fins%s%s%s%s\n", image->peer_fin ? " peer" : "", image->fin ? " own" : "",
		image->fin_sent ? " sent" : "", image->fin_acked ? " acknowledged" : "");
	fprintf(to, "snd_wl1 %u\nsnd_wnd %u\nmax_window %u\nrcv_wnd %u\nrcv_wup %u\n", w->snd_wl1,
		w->snd_wnd, w->max_window, w->rcv_wnd, w->rcv_wup);
	fprintf(to, "bytes_received %" PRIu64 "\nbytes_acked %" PRIu64 "\n", image->bytes_received,
		image->bytes_acked);
	fprintf(to,
		"snd_cwnd %u\nsnd_ssthresh %u\nrtt_us %u\nrttvar_us %u\nmin_rtt_us %u\n"
		"rto_us %u\nrcv_rtt_us %u\nrcv_space %u\nrcv_ssthresh %u\n",
		s->snd_cwnd, s->snd_ssthresh, s->rtt_us, s->rttvar_us, s->min_rtt_us, s->rto_us,
		s->rcv_rtt_us, s->rcv_space, s->rcv_ssthresh);
	fprintf(to, "nonblock %u\ncongestion %.16s\nbindtodevice %.16s\n", image->nonblock,
		image->congestion, image->bindtodevice);
	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		if (image->have & CMAN_REPAIR_BIT(i))
			fprintf(to, "%s %" PRId64 "\n", table[i].name, image->option[i]);
	}
}
