// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guard under traffic: see selftests/net/guard.sh, which makes the hosts. Both ends of every
 * connection are threads of this program, in their namespaces: the host H (this process'), a peer P
 * and a next machine N, all on one bridge. The address 10.99.0.100 / fd99::100 is on H and N; P
 * knows H for it.
 *
 *	guard PINS P_NS N_NS PART…	prints TAP
 *	guard owner PINS TUPLE-ON-STDIN	parks what it reads, and waits to be killed
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cman/repair.h"
#include "selftests/lib/lab.h"
#include "usr/sys/guard.h"

#define LEASE	5000 /* ms: much longer than anything here */
#define PATTERN 65521
#define PING	64

static const char *pins;
static int host_ns, peer_ns, next_ns;
static uint8_t pattern[2 * PATTERN];

static void enter(int ns)
{
	if (setns(ns, CLONE_NEWNET))
		lab_die("setns");
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* ---------------------------------------------------------------------------------------------
 * Counters of a namespace
 */
struct stats {
	long resets, retransmits, reordered, duplicates, timeouts, in, out;
};

static long counter(const char *file, const char *group, const char *name)
{
	char head[8192], line[8192], *h, *v, *hs, *vs;
	FILE *f = fopen(file, "re");
	long value = -1;

	if (!f) {
		lab_die("%s", file);
		return -1; /* for those who do not know that it never returns */
	}
	while (fgets(head, sizeof(head), f) && fgets(line, sizeof(line), f)) {
		if (strncmp(head, group, strlen(group)))
			continue;
		h = strtok_r(head, " \n", &hs);
		v = strtok_r(line, " \n", &vs);
		for (; h && v; h = strtok_r(NULL, " \n", &hs), v = strtok_r(NULL, " \n", &vs)) {
			if (!strcmp(h, name))
				value = strtol(v, NULL, 10);
		}
	}
	fclose(f);
	if (value < 0)
		lab_die("no counter %s", name);
	return value;
}

static struct stats stats_of(int ns)
{
	const char *snmp = "/proc/thread-self/net/snmp", *ext = "/proc/thread-self/net/netstat";
	struct stats s;

	enter(ns);
	s.resets = counter(snmp, "Tcp:", "OutRsts");
	s.retransmits = counter(snmp, "Tcp:", "RetransSegs");
	s.in = counter(snmp, "Tcp:", "InSegs");
	s.out = counter(snmp, "Tcp:", "OutSegs");
	s.reordered = counter(ext, "TcpExt:", "TCPOFOQueue");
	s.duplicates = counter(ext, "TcpExt:", "TCPDSACKRecv");
	s.timeouts = counter(ext, "TcpExt:", "TCPTimeouts");
	enter(host_ns);
	return s;
}

static struct stats both(void)
{
	struct stats a = stats_of(host_ns), b = stats_of(peer_ns), c = stats_of(next_ns);

	return (struct stats){ a.resets + b.resets + c.resets,
			       a.retransmits + b.retransmits + c.retransmits,
			       a.reordered + b.reordered + c.reordered,
			       a.duplicates + b.duplicates + c.duplicates,
			       a.timeouts + b.timeouts + c.timeouts,
			       a.in + b.in + c.in,
			       a.out + b.out + c.out };
}

/* ---------------------------------------------------------------------------------------------
 * Connections with traffic
 */
enum traffic { PINGPONG, DOWN, UP, DUPLEX };
static const char *const traffic_name[] = { "ping-pong", "bulk down", "bulk up", "bulk both ways" };

struct side {
	int fd;
	uint64_t sent, received;
	bool wrong, eof, shut;
	int error;
};

struct conn {
	enum traffic traffic;
	struct side host, peer;
	struct cman_tuple tuple; /* as the host's packets have it */
	pthread_mutex_t lock;	 /* of host.fd: who moves it */
	pthread_t host_thread, peer_thread;
	atomic_bool stop, broken, over;
	atomic_ulong pings;
	_Atomic double worst_us;
	double *rtt; /* of pings, when wanted */
	size_t nrtt;
};

static void map(uint8_t to[16], const struct sockaddr_in6 *sa6)
{
	const struct sockaddr_in *sa4 = (const struct sockaddr_in *)sa6;

	memset(to, 0, 16);
	if (sa6->sin6_family == AF_INET6) {
		memcpy(to, &sa6->sin6_addr, 16);
		return;
	}
	to[10] = to[11] = 0xff;
	memcpy(to + 12, &sa4->sin_addr, 4);
}

static struct cman_tuple tuple_of(int fd)
{
	struct sockaddr_in6 sa;
	struct cman_tuple tuple;
	socklen_t len = sizeof(sa);

	if (getsockname(fd, (struct sockaddr *)&sa, &len))
		lab_die("getsockname");
	map(tuple.local_addr, &sa);
	tuple.local_port = ntohs(sa.sin6_port);
	len = sizeof(sa);
	if (getpeername(fd, (struct sockaddr *)&sa, &len))
		lab_die("getpeername");
	map(tuple.peer_addr, &sa);
	tuple.peer_port = ntohs(sa.sin6_port);
	return tuple;
}

static socklen_t address(struct sockaddr_in6 *sa6, const char *text, int port)
{
	struct sockaddr_in *sa4 = (struct sockaddr_in *)sa6;

	memset(sa6, 0, sizeof(*sa6));
	sa6->sin6_port = htons((uint16_t)port);
	if (inet_pton(AF_INET6, text, &sa6->sin6_addr) == 1) {
		sa6->sin6_family = AF_INET6;
		return sizeof(*sa6);
	}
	if (inet_pton(AF_INET, text, &sa4->sin_addr) != 1)
		lab_die("address %s", text);
	sa6->sin6_family = AF_INET;
	return sizeof(*sa4);
}

/* A listener in the present namespace; *ret_port. */
static int listener(const char *addr, const char *device, int *ret_port)
{
	struct sockaddr_in6 sa;
	socklen_t len = address(&sa, addr, *ret_port);
	int fd = socket(sa.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (device &&
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)))
		lab_die("SO_BINDTODEVICE");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&sa, len) || listen(fd, 128))
		lab_die("listen on %s", addr);
	if (getsockname(fd, (struct sockaddr *)&sa, &len))
		lab_die("getsockname");
	*ret_port = ntohs(sa.sin6_port);
	return fd;
}

static int connect_from_peer(const char *addr, int port)
{
	struct sockaddr_in6 sa;
	socklen_t len = address(&sa, addr, port);
	int fd;

	enter(peer_ns);
	fd = socket(sa.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, len))
		lab_die("connect to %s", addr);
	enter(host_ns);
	return fd;
}

static void open_conn(struct conn *c, enum traffic traffic, const char *addr, const char *device)
{
	int one = 1, port = 0, l = listener(addr, device, &port);

	memset(c, 0, sizeof(*c));
	c->traffic = traffic;
	c->peer.fd = connect_from_peer(addr, port);
	c->host.fd = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (c->host.fd < 0 || fcntl(c->peer.fd, F_SETFL, O_NONBLOCK) ||
	    setsockopt(c->host.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    setsockopt(c->peer.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
		lab_die("accept");
	close(l);
	c->tuple = tuple_of(c->host.fd);
	pthread_mutex_init(&c->lock, NULL);
}

/* Each returns whether something moved. */
static bool do_write(struct side *s, size_t most)
{
	ssize_t n = send(s->fd, pattern + s->sent % PATTERN, most < PATTERN ? most : PATTERN,
			 MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN) {
		s->wrong = true;
		s->error = errno;
	}
	if (n > 0)
		s->sent += (uint64_t)n;
	return n > 0;
}

static bool do_read(struct side *s)
{
	static __thread uint8_t buffer[PATTERN];
	ssize_t n = recv(s->fd, buffer, sizeof(buffer), 0);

	if (n < 0 && errno != EAGAIN) {
		s->wrong = true;
		s->error = errno;
	}
	if (n == 0)
		s->eof = true;
	if (n <= 0)
		return n == 0;
	if (memcmp(buffer, pattern + s->received % PATTERN, (size_t)n))
		s->wrong = true;
	s->received += (uint64_t)n;
	return true;
}

static void finish(struct side *s)
{
	if (!s->shut)
		s->shut = !shutdown(s->fd, SHUT_WR);
}

/*
 * Bulk traffic has one CPU: with two, a sender that writes on the one and gets its ACKs on the other
 * puts its segments out of order all by itself. So has the
 * guard's owner then: what it lets in is answered on its CPU.
 */
static void one_cpu(enum traffic traffic)
{
	cpu_set_t cpus;

	if (traffic == PINGPONG)
		return;
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void *host_main(void *arg)
{
	struct conn *c = arg;
	struct side *s = &c->host;
	bool sends = c->traffic == DOWN || c->traffic == DUPLEX, moved, blocked;

	enter(host_ns);
	one_cpu(c->traffic);
	while (!s->wrong && !(s->eof && s->shut)) {
		struct pollfd p;

		pthread_mutex_lock(&c->lock);
		moved = !s->eof && do_read(s);
		blocked = false;
		if (c->traffic == PINGPONG) {
			if (s->sent < s->received)
				moved |= do_write(s, s->received - s->sent);
			if (s->eof && s->sent == s->received)
				finish(s);
		} else if (sends && !c->stop) {
			blocked = !do_write(s, PATTERN);
			moved |= !blocked;
		} else {
			finish(s);
		}
		p = (struct pollfd){ s->fd, (short)(blocked ? POLLIN | POLLOUT : POLLIN), 0 };
		pthread_mutex_unlock(&c->lock);
		/* a socket that is moved meanwhile is looked at again soon */
		if (!moved)
			poll(&p, 1, 1);
	}
	if (s->wrong)
		c->broken = true;
	return NULL;
}

static void *peer_main(void *arg)
{
	struct conn *c = arg;
	struct side *s = &c->peer;
	bool sends = c->traffic == UP || c->traffic == DUPLEX;

	one_cpu(c->traffic);
	while (!s->wrong && !(s->eof && s->shut)) {
		struct pollfd p = { s->fd, POLLIN, 0 };
		bool moved = false;

		if (c->traffic == PINGPONG && !c->stop) {
			uint64_t want = s->received + PING;
			double start = now_us(), took;

			if (!do_write(s, PING))
				s->wrong = true;
			while (!s->wrong && !s->eof && s->received < want) {
				if (!do_read(s))
					poll(&p, 1, 20000);
			}
			took = now_us() - start;
			if (took > c->worst_us)
				c->worst_us = took;
			if (c->rtt && c->pings < c->nrtt)
				c->rtt[c->pings] = took;
			c->pings++;
			continue;
		}
		moved = !s->eof && do_read(s);
		if (sends && !c->stop) {
			if (do_write(s, PATTERN))
				moved = true;
			else
				p.events |= POLLOUT;
		} else {
			finish(s);
		}
		if (!moved)
			poll(&p, 1, 1000);
	}
	if (s->wrong)
		c->broken = true;
	c->over = true;
	return NULL;
}

static void start(struct conn *c)
{
	if (pthread_create(&c->host_thread, NULL, host_main, c) ||
	    pthread_create(&c->peer_thread, NULL, peer_main, c))
		lab_die("thread");
}

static bool same(const struct conn *c)
{
	return !c->broken && c->host.sent == c->peer.received && c->peer.sent == c->host.received;
}

/* The owners' event loops go on meanwhile: late packets. */
static struct cman_guard *owned[2];

static void pump_owned(void)
{
	struct pollfd p[2] = { { -1, POLLIN, 0 }, { -1, POLLIN, 0 } };
	const struct timespec pause = { 0, 50000 };

	for (int i = 0; i < 2; i++)
		p[i].fd = owned[i] ? cman_guard_fd(owned[i]) : -1;
	if (ppoll(p, 2, &pause, NULL) <= 0)
		return;
	for (int i = 0; i < 2; i++) {
		if (p[i].revents && cman_guard_pump(owned[i]) < 0)
			lab_die("cman_guard_pump");
	}
}

/* Ends the traffic; true: every byte arrived, in both directions, and nothing broke. */
static bool end(struct conn *c)
{
	double limit = now_us() + 20e6;

	c->stop = true;
	while (!c->over && now_us() < limit)
		pump_owned();
	pthread_join(c->peer_thread, NULL);
	pthread_join(c->host_thread, NULL);
	close(c->host.fd);
	close(c->peer.fd);
	if (!same(c))
		lab_diag("errors %d %d; down %llu/%llu up %llu/%llu", c->host.error, c->peer.error,
			 (unsigned long long)c->host.sent, (unsigned long long)c->peer.received,
			 (unsigned long long)c->peer.sent, (unsigned long long)c->host.received);
	return same(c);
}

/* Something has moved since: the connection lives. */
static uint64_t progress(const struct conn *c)
{
	return c->traffic == PINGPONG ? c->pings :
					*(volatile const uint64_t *)&c->host.received +
						*(volatile const uint64_t *)&c->peer.received;
}

static bool wait_progress(struct conn *c, uint64_t more, int timeout_ms)
{
	uint64_t target = progress(c) + more;
	double limit = now_us() + timeout_ms * 1e3;

	while (progress(c) < target && !c->broken) {
		if (now_us() > limit)
			return false;
		pump_owned();
	}
	return !c->broken;
}

/* ---------------------------------------------------------------------------------------------
 * The guard
 */
static void guard_start(struct cman_guard *g, const char *name)
{
	const char *why = NULL;
	char dir[128];
	int n;

	snprintf(dir, sizeof(dir), "%s/%s", pins, name);
	if (mkdir(dir, 0700) && errno != EEXIST)
		lab_die("%s", dir);
	errno = -cman_guard_init(g, dir, &why);
	if (errno)
		lab_die("cman_guard_init: %s", why);
	n = cman_guard_attach(g, &why);
	if (n != 1) {
		errno = n < 0 ? -n : 0;
		lab_die("cman_guard_attach: %d", n);
	}
	owned[owned[0] ? 1 : 0] = g;
}

/* @fini: else it dies */
static void guard_end(struct cman_guard *g, bool fini)
{
	for (int i = 0; i < 2; i++) {
		if (owned[i] == g)
			owned[i] = NULL;
	}
	if (fini)
		cman_guard_fini(g);
	else
		cman_guard_forget(g);
}

/* The event loop of an owner, until nothing drains. */
static bool drain(struct cman_guard *g)
{
	double limit = now_us() + 5e6;

	while (cman_guard_draining(g) && now_us() < limit) {
		struct pollfd p = { cman_guard_fd(g), POLLIN, 0 };

		poll(&p, 1, 10);
		if (cman_guard_pump(g) < 0)
			return false;
	}
	return !cman_guard_draining(g);
}

/* until the device has a frame */
static bool wait_parked(const struct cman_guard *g, int timeout_ms)
{
	struct pollfd p = { cman_guard_fd(g), POLLIN, 0 };

	return poll(&p, 1, timeout_ms) == 1;
}

/* A late packet: what has passed the entry just before it went. */
static void idle(struct cman_guard *g)
{
	if (wait_parked(g, 0))
		cman_guard_pump(g);
}

struct found {
	size_t n, in_force;
	struct cman_frozen last;
};

static void on_entry(void *arg, const struct cman_tuple *tuple, const struct cman_frozen *entry)
{
	struct found *found = arg;
	struct timespec now;

	(void)tuple;
	clock_gettime(CLOCK_BOOTTIME, &now);
	found->n++;
	found->in_force += entry->expires_ns >
			   (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	found->last = *entry;
}

static struct found entries(const struct cman_guard *g)
{
	struct found found = { 0 };

	if (cman_guard_each(g, on_entry, &found))
		lab_die("cman_guard_each");
	return found;
}

/*
 * How often the kernel may have repeated a segment that was held for @us, because this program was not scheduled:
 * TCP_RTO_MIN is 200 ms. A repetition beyond that says that the guard has lost a segment.
 */
static long repetitions(double us)
{
	return (long)(us / 180e3);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double percentile(double *v, size_t n, double p)
{
	if (!n)
		return 0;
	qsort(v, n, sizeof(*v), by_value);
	return v[(size_t)((double)(n - 1) * p)];
}

/* ---------------------------------------------------------------------------------------------
 * Parts
 */

/* Parks and thaws a busy connection again and again. */
static void cycles(const char *addr, enum traffic traffic, const char *device, int n, bool twice)
{
	double *gap = calloc((size_t)n, sizeof(double)),
	       *parked = calloc((size_t)n, sizeof(double));
	const char *family = strchr(addr, ':') ? "IPv6" : "IPv4";
	struct cman_guard_counts before, after;
	struct stats a, b, plain;
	struct cman_guard g;
	cpu_set_t cpus;
	struct conn c;
	double base[3] = { 0 };
	int i, err = 0, late = 0, unparked = 0;
	long forgiven = 0;

	guard_start(&g, "one");
	open_conn(&c, traffic, addr, device);
	c.nrtt = 20000;
	c.rtt = calloc(c.nrtt, sizeof(double));
	start(&c);
	sched_getaffinity(0, sizeof(cpus), &cpus);
	one_cpu(traffic);
	if (traffic == PINGPONG) {
		size_t m;

		wait_progress(&c, 2000, 10000);
		m = c.pings;
		c.nrtt = 0;
		base[0] = percentile(c.rtt, m, 0.5);
		base[1] = percentile(c.rtt, m, 0.99);
		base[2] = percentile(c.rtt, m, 1);
	} else {
		wait_progress(&c, 1 << 20, 10000);
	}
	/* what this path does to segments by itself: two CPUs, and no cycle */
	a = both();
	for (i = 0; i < n && traffic != PINGPONG; i++)
		wait_progress(&c, 1 << 18, 5000);
	plain = both();
	plain.reordered -= a.reordered;
	plain.duplicates -= a.duplicates;
	plain.retransmits -= a.retransmits;
	a = both();
	cman_guard_counts(&g, &before);
	for (i = 0; i < n && !err && !c.broken; i++) {
		double t;

		c.worst_us = 0;
		t = now_us();
		err = cman_guard_park(&g, &c.tuple, 1, (uint64_t)i, LEASE);
		if (err)
			break;
		/* what the old owner would do; at least one packet comes meanwhile */
		unparked += !wait_parked(&g, 1000);
		if (twice) {
			/* into memory, so that both queues are used */
			cman_guard_pump(&g);
			wait_parked(&g, 2);
		}
		err = cman_guard_thaw(&g, &c.tuple, 1);
		if (err > 0) {
			late++;
			err = drain(&g) ? 0 : -ETIMEDOUT;
		}
		parked[i] = now_us() - t;
		forgiven += repetitions(parked[i]);
		if (err || !wait_progress(&c, traffic == PINGPONG ? 20 : 1 << 18, 5000))
			break;
		gap[i] = c.worst_us;
		idle(&g);
	}
	cman_guard_counts(&g, &after);
	idle(&g);
	lab_ok(i == n && !err, "%s, %s%s: parked and opened %d times", family,
	       traffic_name[traffic], device ? ", bound to the device" : "", n);
	if (i != n)
		lab_diag("stopped at %d, error %d, broken %d", i, err, c.broken);
	b = both();
	lab_ok(entries(&g).n == 0, "no entry is left");
	lab_ok(end(&c), "every byte is right");
	lab_ok(b.resets == a.resets, "no RST");
	lab_ok(after.parked - before.parked >= (uint64_t)(i - unparked) && unparked < n / 4 &&
		       after.parked - before.parked == after.returned - before.returned &&
		       !g.lost && !g.overflowed,
	       "what was parked came back");
	if (traffic == PINGPONG)
		lab_ok(b.retransmits - a.retransmits <= forgiven, "no retransmission");
	lab_ok(b.reordered == a.reordered, "no segment came out of order");
	sched_setaffinity(0, sizeof(cpus), &cpus);
	lab_diag(
		"%llu packets parked, %d thaws finished later, %d cycles without a packet; RST %ld, "
		"retransmits %ld, timeouts %ld, out of order %ld, DSACK %ld",
		(unsigned long long)(after.parked - before.parked), late, unparked,
		b.resets - a.resets, b.retransmits - a.retransmits, b.timeouts - a.timeouts,
		b.reordered - a.reordered, b.duplicates - a.duplicates);
	if (after.parked - before.parked != after.returned - before.returned || g.lost)
		lab_diag("returned %llu, lost %llu, overflowed %llu",
			 (unsigned long long)(after.returned - before.returned),
			 (unsigned long long)g.lost, (unsigned long long)g.overflowed);
	lab_diag("the same without cycles: retransmits %ld, out of order %ld, DSACK %ld",
		 plain.retransmits, plain.reordered, plain.duplicates);
	lab_diag("time parked, with the wait for a packet: p50 %.0f p99 %.0f us",
		 percentile(parked, (size_t)i, 0.5), percentile(parked, (size_t)i, 0.99));
	if (traffic == PINGPONG)
		lab_diag(
			"gap that the ping-pong saw: p50 %.0f p99 %.0f max %.0f us (without a cycle: "
			"p50 %.0f p99 %.0f max %.0f)",
			percentile(gap, (size_t)i, 0.5), percentile(gap, (size_t)i, 0.99),
			percentile(gap, (size_t)i, 1), base[0], base[1], base[2]);
	guard_end(&g, true);
	free(c.rtt);
	free(gap);
	free(parked);
}

static const char *family_addr(int family)
{
	return family ? "fd99::1" : "10.99.0.1";
}

static void part_cycles(void)
{
	for (int family = 0; family < 2; family++) {
		const char *addr = family_addr(family);

		cycles(addr, PINGPONG, NULL, 300, false);
		cycles(addr, DOWN, NULL, 100, false);
		cycles(addr, UP, NULL, 100, false);
		cycles(addr, DUPLEX, NULL, 100, true);
		cycles(addr, PINGPONG, "eth0", 50, true);
	}
}

static void part_cost(void)
{
	enum { N = 64, ROUNDS = 200 };
	double park[ROUNDS] = { 0 }, thaw[ROUNDS] = { 0 }, fence[ROUNDS] = { 0 };
	struct cman_tuple tuple[N];
	struct conn *c = calloc(N, sizeof(*c));
	struct cman_guard g;
	int err = 0;

	guard_start(&g, "one");
	for (int i = 0; i < N; i++) {
		open_conn(&c[i], PINGPONG, "10.99.0.1", NULL);
		tuple[i] = c[i].tuple;
	}
	for (int i = 0; i < ROUNDS && !err; i++) {
		double t = now_us();

		err = cman_guard_park(&g, tuple, N, (uint64_t)i, LEASE);
		park[i] = now_us() - t;
		/* one packet each */
		for (int k = 0; k < N; k++)
			do_write(&c[k].peer, PING);
		t = now_us();
		if (!err)
			err = cman_guard_thaw(&g, tuple, N);
		thaw[i] = now_us() - t;
		for (int k = 0; k < N; k++) {
			struct pollfd p = { c[k].host.fd, POLLIN, 0 };

			if (poll(&p, 1, 1000) != 1 || !do_read(&c[k].host))
				err = -EIO;
		}
		t = now_us();
		cman_guard_fence(&g);
		fence[i] = now_us() - t;
	}
	lab_ok(!err, "64 tuples, %d times, each with a packet parked", ROUNDS);
	lab_diag(
		"64 tuples: park with fence p50 %.0f p99 %.0f us, of which the fence p50 %.0f; thaw with 64 "
		"packets p50 %.0f p99 %.0f us",
		percentile(park, ROUNDS, 0.5), percentile(park, ROUNDS, 0.99),
		percentile(fence, ROUNDS, 0.5), percentile(thaw, ROUNDS, 0.5),
		percentile(thaw, ROUNDS, 0.99));
	for (int i = 0; i < N; i++) {
		close(c[i].host.fd);
		close(c[i].peer.fd);
	}
	guard_end(&g, true);
	free(c);
}

/* The owner: a process of its own, for SIGKILL. */
static pid_t owner(const char *name, const struct cman_tuple *tuple, uint32_t lease_ms)
{
	int ready[2];
	pid_t pid;
	char c;

	if (pipe(ready))
		lab_die("pipe");
	pid = fork();
	if (pid < 0)
		lab_die("fork");
	if (!pid) {
		struct cman_guard g;

		guard_start(&g, name);
		if (cman_guard_park(&g, tuple, 1, 1, lease_ms) || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		lab_die("the owner");
	close(ready[0]);
	return pid;
}

static void part_lease(void)
{
	const struct cman_tuple other = { .local_port = 1, .peer_port = 2 };
	struct stats a = both(), b;
	struct cman_guard g;
	struct found found;
	struct conn c;
	double t, stall;
	pid_t pid;

	open_conn(&c, PINGPONG, "10.99.0.1", NULL);
	start(&c);
	wait_progress(&c, 100, 5000);
	t = now_us();
	pid = owner("one", &c.tuple, 1000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	wait_progress(&c, 1, 1); /* one that was past it all */
	lab_ok(!wait_progress(&c, 2, 500) && !c.broken,
	       "the owner is dead: the guard stays closed, nothing is reset");
	lab_ok(wait_progress(&c, 20, 10000), "and opens when the lease has ended");
	stall = c.worst_us;
	lab_ok(stall > 800e3 && now_us() - t > 1000e3, "not before");
	b = both();
	lab_ok(b.resets == a.resets, "no RST");
	lab_diag("lease 1000 ms: the ping-pong stood for %.0f ms (the kernel's repetition finds it "
		 "open)",
		 stall / 1e3);

	/* the same, but a successor comes while the lease runs */
	pid = owner("one", &c.tuple, 60000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	guard_start(&g, "one");
	found = entries(&g);
	lab_ok(g.took_over && found.n == 1 && found.in_force == 1 &&
		       found.last.action == CMAN_GUARD_PARK,
	       "a successor takes the entries over");
	wait_progress(&c, 1, 1);
	lab_ok(!wait_progress(&c, 2, 300), "which are still closed");
	lab_ok(cman_guard_renew(&g, &c.tuple, 1, 30000) == 0 &&
		       cman_guard_renew(&g, &other, 1, 30000) == -ENOENT,
	       "it can renew them");
	lab_ok(wait_parked(&g, 10000), "what comes now is parked again");
	lab_ok(cman_guard_thaw(&g, &c.tuple, 1) >= 0 && drain(&g) && entries(&g).n == 0,
	       "and open them, whatever the dead one had parked");
	lab_ok(wait_progress(&c, 20, 10000), "the connection goes on");
	guard_end(&g, true);

	/* who comes after one whose pins are gone too */
	pid = owner("gone", &c.tuple, 100);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	{
		static const char *const pin[] = { "frozen", "moving", "begun" };
		char path[160];

		for (int i = 0; i < 3; i++) {
			snprintf(path, sizeof(path), "%s/gone/%s", pins, pin[i]);
			unlink(path);
		}
	}
	lab_ok(wait_progress(&c, 20, 10000), "a dead guard without pins");
	guard_start(&g, "one");
	guard_end(&g, true);
	lab_ok(wait_progress(&c, 20, 10000) && end(&c), "every byte is right");
	b = both();
	lab_ok(b.resets == a.resets, "no RST");
}

/* Two guards in one namespace: an old and a new instance. */
static void part_two(void)
{
	struct cman_guard one, two;
	struct stats a = both(), b;
	struct conn c, d;
	char dir[160];
	bool fine = true;

	guard_start(&one, "one");
	guard_start(&two, "two");
	open_conn(&c, PINGPONG, "10.99.0.1", NULL);
	open_conn(&d, PINGPONG, "fd99::1", NULL);
	start(&c);
	start(&d);
	wait_progress(&c, 20, 5000);
	wait_progress(&d, 20, 5000);
	for (int i = 0; i < 50 && fine; i++) {
		fine = !cman_guard_park(&one, &c.tuple, 1, 1, LEASE) &&
		       !cman_guard_park(&two, &d.tuple, 1, 1, LEASE) && wait_parked(&one, 1000) &&
		       wait_parked(&two, 1000) && cman_guard_thaw(&one, &c.tuple, 1) >= 0 &&
		       drain(&one) && wait_progress(&c, 5, 1000) &&
		       cman_guard_thaw(&two, &d.tuple, 1) >= 0 && drain(&two) &&
		       wait_progress(&d, 5, 1000);
		idle(&one);
		idle(&two);
	}
	lab_ok(fine, "two guards, a connection each");
	/* one connection closed by both: it opens when the second one does */
	for (int i = 0; i < 50 && fine; i++) {
		fine = !cman_guard_park(&one, &c.tuple, 1, 1, LEASE) && wait_parked(&one, 1000) &&
		       !cman_guard_park(&two, &c.tuple, 1, 1, LEASE) &&
		       cman_guard_thaw(&one, &c.tuple, 1) >= 0 && drain(&one) &&
		       wait_parked(&two, 1000) && cman_guard_thaw(&two, &c.tuple, 1) >= 0 &&
		       drain(&two) && wait_progress(&c, 5, 1000);
		idle(&one);
		idle(&two);
	}
	lab_ok(fine, "both guards on one connection: from one into the other, then open");
	lab_ok(!cman_guard_park(&one, &c.tuple, 1, 1, LEASE) && wait_parked(&one, 1000),
	       "one closes");
	guard_end(&one, false);
	snprintf(dir, sizeof(dir), "%s/one", pins);
	lab_ok(!cman_guard_open_foreign(dir, &c.tuple, 1) && wait_progress(&c, 5, 5000),
	       "it dies, and the other opens its entry");
	guard_start(&one, "one");
	lab_ok(one.took_over && entries(&one).n == 0, "its successor finds nothing");
	guard_end(&one, true);
	lab_ok(!cman_guard_park(&two, &d.tuple, 1, 1, LEASE) && wait_parked(&two, 1000) &&
		       cman_guard_thaw(&two, &d.tuple, 1) >= 0 && drain(&two),
	       "the end of one does not touch the other");
	lab_ok(end(&c) && end(&d), "every byte is right");
	b = both();
	lab_ok(b.resets == a.resets, "no RST");
	guard_end(&two, true);
}

/* Segments of @c from the peer that no socket takes (wrong checksum): only the guard sees them. */
static void flood(const struct conn *c, unsigned int n)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct {
		uint8_t ip[20];
		uint8_t tcp[20];
	} packet = { .ip = { 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, IPPROTO_TCP },
		     .tcp = { [12] = 0x50, [13] = 0x10, [16] = 0xde, [17] = 0xad } };
	uint16_t sport = htons(c->tuple.peer_port), dport = htons(c->tuple.local_port);
	int fd;

	enter(peer_ns);
	fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	memcpy(packet.ip + 12, c->tuple.peer_addr + 12, 4);
	memcpy(packet.ip + 16, c->tuple.local_addr + 12, 4);
	memcpy(packet.tcp, &sport, 2);
	memcpy(packet.tcp + 2, &dport, 2);
	memcpy(&to.sin_addr, c->tuple.local_addr + 12, 4);
	for (unsigned int i = 0; i < n; i++) {
		if (fd < 0 || sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&to,
				     sizeof(to)) != sizeof(packet))
			lab_die("flood");
	}
	close(fd);
	enter(host_ns);
}

static void part_overflow(void)
{
	struct stats a = both(), b;
	struct cman_guard g;
	struct conn c;
	uint64_t lost;

	guard_start(&g, "one");
	open_conn(&c, PINGPONG, "10.99.0.1", NULL);
	start(&c);
	wait_progress(&c, 20, 5000);
	lab_ok(!cman_guard_park(&g, &c.tuple, 1, 1, LEASE), "closed");
	flood(&c, 20000);
	lab_ok(cman_guard_thaw(&g, &c.tuple, 1) >= 0 && drain(&g),
	       "more than the queue takes: it opens all the same");
	lost = g.lost;
	lab_ok(lost >= 20000 - CMAN_PARK_QUEUE && lost <= 20000 - CMAN_PARK_QUEUE + 8 * PING &&
		       entries(&g).n == 0,
	       "and what was lost is known");
	/* in bytes: 1 for each of them, PING for one of the connection's */
	lab_diag("20000 packets, a queue of %d: %llu lost", CMAN_PARK_QUEUE,
		 (unsigned long long)lost);
	lab_ok(wait_progress(&c, 20, 5000), "the connection goes on");

	g.held_max = 16384;
	lab_ok(!cman_guard_park(&g, &c.tuple, 1, 1, LEASE), "closed, with little memory");
	flood(&c, 2000);
	cman_guard_pump(&g);
	lab_ok(g.overflowed > 0 && g.held <= g.held_max, "the limit of memory holds");
	lab_ok(cman_guard_thaw(&g, &c.tuple, 1) >= 0 && drain(&g) && !g.held &&
		       wait_progress(&c, 20, 5000),
	       "and it opens all the same");
	g.held_max = CMAN_GUARD_HELD_MAX;
	lab_ok(!cman_guard_park(&g, &c.tuple, 1, 1, LEASE), "closed");
	flood(&c, 100);
	lab_ok(!cman_guard_drop(&g, &c.tuple, 1) && entries(&g).n == 0 && !g.held,
	       "dropped with all that was parked");
	lab_ok(wait_progress(&c, 20, 5000) && end(&c), "every byte is right");
	b = both();
	lab_ok(b.resets == a.resets, "no RST");
	guard_end(&g, true);
}

/* ---------------------------------------------------------------------------------------------
 * To another machine
 */
static void mac_of(int ns, uint8_t mac[6], uint32_t *ret_ifindex)
{
	struct ifreq ifr = { 0 };
	int fd;

	enter(ns);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	strcpy(ifr.ifr_name, "eth0");
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &ifr))
		lab_die("SIOCGIFHWADDR");
	close(fd);
	memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
	if (ret_ifindex)
		*ret_ifindex = if_nametoindex("eth0");
	enter(host_ns);
}

static struct cman_guard_hop hop_to_next(void)
{
	struct cman_guard_hop hop;

	mac_of(host_ns, hop.src_mac, &hop.ifindex);
	mac_of(next_ns, hop.dst_mac, NULL);
	return hop;
}

/* The host's socket, moved to N while it is used. @early: forward before N has it. */
static int move(struct cman_guard *g, struct conn *c, bool early)
{
	struct cman_guard_hop hop = hop_to_next();
	struct cman_repair_image image = { 0 };
	const char *why = "guard";
	int err, fd;

	pthread_mutex_lock(&c->lock);
	err = cman_repair_describe(c->host.fd, &image, &why);
	if (!err)
		err = cman_guard_park(g, &c->tuple, 1, 7, LEASE);
	if (!err)
		err = cman_repair_freeze(c->host.fd, &image, &why);
	if (!err)
		err = cman_repair_export(c->host.fd, &image, &why);
	if (!err)
		err = cman_repair_close(c->host.fd, &why);
	if (!err && early) {
		err = cman_guard_forward(g, &c->tuple, 1, &hop, LEASE);
		err = err < 0 ? err : drain(g) ? 0 : -ETIMEDOUT;
		/* its repetitions arrive where nobody is */
		usleep(300000);
	}
	enter(next_ns);
	if (!err)
		err = cman_repair_import(&image, NULL, &fd, &why);
	if (!err) {
		c->host.fd = fd;
		err = cman_repair_release(fd, &image, NULL, &why);
	}
	enter(host_ns);
	if (!err && !early) {
		err = cman_guard_forward(g, &c->tuple, 1, &hop, LEASE);
		err = err < 0 ? err : drain(g) ? 0 : -ETIMEDOUT;
	}
	pthread_mutex_unlock(&c->lock);
	cman_repair_free(&image);
	if (err)
		lab_diag("move: %s (%d)", why, err);
	return err;
}

/* An ICMP error about @c from P: time exceeded, which does TCP no harm. Does N get it? */
static bool quoted_error(struct cman_guard *g, const struct conn *c)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	uint8_t packet[8 + 28] = { [0] = 11, [8] = 0x45, [8 + 9] = IPPROTO_TCP };
	uint16_t sport = htons(c->tuple.local_port), dport = htons(c->tuple.peer_port);
	long before, after;
	uint32_t sum = 0;
	double limit;
	int fd;

	memcpy(packet + 8 + 12, c->tuple.local_addr + 12, 4);
	memcpy(packet + 8 + 16, c->tuple.peer_addr + 12, 4);
	memcpy(packet + 28, &sport, 2);
	memcpy(packet + 30, &dport, 2);
	for (size_t i = 0; i < sizeof(packet); i += 2)
		sum += (uint32_t)packet[i] << 8 | packet[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	packet[2] = (uint8_t)(sum >> 8);
	packet[3] = (uint8_t)sum;
	memcpy(&to.sin_addr, c->tuple.local_addr + 12, 4);
	enter(next_ns);
	before = counter("/proc/thread-self/net/snmp", "Icmp:", "InTimeExcds");
	enter(peer_ns);
	fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	if (fd < 0 || sendto(fd, packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		lab_die("ICMP");
	close(fd);
	limit = now_us() + 2e6;
	enter(next_ns);
	do {
		after = counter("/proc/thread-self/net/snmp", "Icmp:", "InTimeExcds");
	} while (after == before && now_us() < limit);
	enter(host_ns);
	return after == before + 1 && cman_guard_draining(g) == 0;
}

static void forward_one(const char *addr, enum traffic traffic)
{
	struct cman_guard_counts counts;
	struct stats a = both(), b, n, m;
	struct cman_guard g;
	cpu_set_t cpus;
	struct conn c;
	double took;
	int err;

	guard_start(&g, "one");
	open_conn(&c, traffic, addr, NULL);
	start(&c);
	sched_getaffinity(0, sizeof(cpus), &cpus);
	one_cpu(traffic);
	wait_progress(&c, traffic == PINGPONG ? 100 : 1 << 22, 5000);
	n = stats_of(next_ns);
	took = now_us();
	err = move(&g, &c, false);
	took = now_us() - took;
	lab_ok(!err && wait_progress(&c, traffic == PINGPONG ? 200 : 1 << 24, 10000),
	       "%s, %s: forwarded to the machine that has the socket now",
	       strchr(addr, ':') ? "IPv6" : "IPv4", traffic_name[traffic]);
	wait_progress(&c, traffic == PINGPONG ? 20 : 1 << 22, 5000);
	m = stats_of(next_ns);
	cman_guard_counts(&g, &counts);
	lab_ok(m.in > n.in && counts.forwarded > 0 && entries(&g).n == 1, "by its entry");
	idle(&g);
	if (traffic == PINGPONG && !strchr(addr, ':'))
		lab_ok(quoted_error(&g, &c), "an ICMP error follows the connection that it quotes");
	lab_ok(end(&c), "every byte is right");
	sched_setaffinity(0, sizeof(cpus), &cpus);
	b = both();
	lab_ok(b.resets == a.resets, "no RST");
	if (traffic == PINGPONG)
		lab_ok(b.retransmits - a.retransmits <= repetitions(took), "no retransmission");
	lab_ok(b.reordered == a.reordered, "no segment came out of order");
	lab_diag(
		"%llu packets forwarded, %.0f bytes a segment at N; retransmits %ld, out of order %ld, "
		"timeouts %ld",
		(unsigned long long)counts.forwarded,
		(double)c.host.received / (double)(counts.forwarded ? counts.forwarded : 1),
		b.retransmits - a.retransmits, b.reordered - a.reordered, b.timeouts - a.timeouts);
	lab_ok(!cman_guard_drop(&g, &c.tuple, 1) && entries(&g).n == 0, "the entry is removed");
	guard_end(&g, true);
}

static bool connects(const char *addr, int port, int timeout_ms)
{
	struct sockaddr_in6 sa;
	socklen_t len = address(&sa, addr, port);
	struct pollfd p = { .events = POLLOUT };
	int err = -1;
	socklen_t size = sizeof(err);
	bool ok;

	enter(peer_ns);
	p.fd = socket(sa.sin6_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ok = !connect(p.fd, (struct sockaddr *)&sa, len) ||
	     (errno == EINPROGRESS && poll(&p, 1, timeout_ms) == 1 &&
	      !getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &err, &size) && !err);
	close(p.fd);
	enter(host_ns);
	return ok;
}

static int accepted = -1;

/* A connection from P that @l, in N, accepts; the peer's end. */
static int begin(const char *addr, int port, int l)
{
	struct pollfd p = { l, POLLIN, 0 };
	int fd = connect_from_peer(addr, port);

	if (accepted >= 0)
		close(accepted);
	if (poll(&p, 1, 3000) != 1 || (accepted = accept4(l, NULL, NULL, SOCK_CLOEXEC)) < 0)
		return -1;
	return fd;
}

static bool echo(int fd)
{
	struct pollfd p = { accepted, POLLIN, 0 };
	char c = 0;

	return send(fd, "x", 1, MSG_NOSIGNAL) == 1 && poll(&p, 1, 3000) == 1 &&
	       read(accepted, &c, 1) == 1 && c == 'x';
}

static void moving(const char *addr)
{
	struct cman_guard_hop hop = hop_to_next();
	struct cman_guard_counts counts;
	struct sockaddr_in6 sa;
	uint8_t mapped[16];
	struct cman_guard g;
	struct conn c;
	int port = 0, l, old, begun = -1;

	address(&sa, addr, 0);
	map(mapped, &sa);
	guard_start(&g, "one");
	enter(next_ns);
	l = listener(addr, NULL, &port);
	enter(host_ns);
	open_conn(&c, PINGPONG, addr, NULL);
	start(&c);
	lab_ok(!connects(addr, port, 1000), "%s: nobody listens here", addr);
	lab_ok(!cman_guard_address(&g, mapped, CMAN_MOVING_LEAVING, &hop, LEASE) &&
		       (begun = begin(addr, port, l)) >= 0,
	       "LEAVING: a new connection reaches the target");
	lab_ok(echo(begun), "and all of its packets do");
	/* not all handshakes are the target's: what was begun here stays */
	lab_ok(wait_progress(&c, 20, 3000), "and the others stay");
	lab_ok(!cman_guard_address(&g, mapped, CMAN_MOVING_STAYED, &hop, LEASE) &&
		       !connects(addr, port, 1000),
	       "STAYED: called off, new connections are refused here again");
	lab_ok(echo(begun), "but the one that was begun there goes on");
	/* its last packets still take that way */
	close(begun);
	close(accepted);
	accepted = -1;
	old = (int)entries(&g).n;
	lab_ok(cman_guard_address(&g, mapped, CMAN_MOVING_LEAVING, NULL, LEASE) == -EINVAL,
	       "no hop: EINVAL");
	lab_ok(!cman_guard_local(&g, &c.tuple, 1, LEASE) &&
		       !cman_guard_address(&g, mapped, CMAN_MOVING_GONE, &hop, LEASE) &&
		       connects(addr, port, 3000) && wait_progress(&c, 20, 3000) &&
		       (int)entries(&g).n == old + 1,
	       "GONE: all is the target's but what has a LOCAL entry");
	cman_guard_counts(&g, &counts);
	lab_ok(counts.strays > 0, "strays are counted");
	/* the address first: without its LOCAL entry the connection would go to N, which answers with RST */
	lab_ok(!cman_guard_address_clear(&g, mapped) && !cman_guard_address_clear(&g, mapped) &&
		       !connects(addr, port, 1000),
	       "nothing special any more");
	lab_ok(!cman_guard_drop(&g, &c.tuple, 1) && (int)entries(&g).n == old, "the entry goes");
	lab_ok(!cman_guard_address(&g, mapped, CMAN_MOVING_LEAVING, &hop, 1) && usleep(2000) == 0 &&
		       !connects(addr, port, 1000),
	       "nor after the lease");
	lab_ok(end(&c), "every byte is right");
	close(l);
	guard_end(&g, true);
}

/* The target of a move: N with a guard of its own. */
static void arriving(const char *addr, bool guarded)
{
	struct cman_guard_counts counts = { 0 };
	struct cman_guard g, n;
	struct stats a, b;
	struct sockaddr_in6 sa;
	uint8_t mapped[16];
	struct conn c;
	int err;

	address(&sa, addr, 0);
	map(mapped, &sa);
	guard_start(&g, "one");
	enter(next_ns);
	guard_start(&n, "next");
	if (guarded && cman_guard_address(&n, mapped, CMAN_MOVING_ARRIVING, NULL, 10000))
		lab_die("ARRIVING");
	enter(host_ns);
	open_conn(&c, PINGPONG, addr, NULL);
	start(&c);
	wait_progress(&c, 20, 5000);
	a = both();
	err = move(&g, &c, true);
	if (guarded) {
		lab_ok(!err && wait_progress(&c, 20, 10000),
		       "%s, ARRIVING: packets before the socket do no harm", addr);
		cman_guard_counts(&n, &counts);
		lab_ok(counts.unanswered > 0, "they were dropped");
		b = both();
		lab_ok(b.resets == a.resets, "no RST");
		lab_ok(end(&c), "every byte is right");
	} else {
		wait_progress(&c, 20, 2000);
		b = both();
		lab_ok(c.broken && b.resets > a.resets, "without it they are answered with RST");
		/* N's socket does not know of it: its namespace's RST was for no socket */
		shutdown(c.host.fd, SHUT_RDWR);
		end(&c);
	}
	guard_end(&g, true);
	enter(next_ns);
	guard_end(&n, true);
	enter(host_ns);
}

static void part_forward(void)
{
	static const char *const vip[] = { "10.99.0.100", "fd99::100" };

	for (int family = 0; family < 2; family++) {
		for (enum traffic t = PINGPONG; t <= DUPLEX; t++)
			forward_one(vip[family], t);
		moving(vip[family]);
		arriving(vip[family], true);
	}
	arriving(vip[0], false);
}

static void part_show(void)
{
	struct cman_guard g;
	struct conn c;

	guard_start(&g, "show");
	open_conn(&c, PINGPONG, "10.99.0.1", NULL);
	if (cman_guard_park(&g, &c.tuple, 1, 4711, LEASE))
		lab_die("park");
	printf("ready\n");
	fflush(stdout);
	getchar();
	guard_end(&g, true);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = {
		{ "cycles", part_cycles },     { "cost", part_cost },
		{ "lease", part_lease },       { "two", part_two },
		{ "overflow", part_overflow }, { "forward", part_forward },
		{ "show", part_show },
	};
	bool known;

	if (argc < 5) {
		fprintf(stderr, "usage: guard PINS P_NS N_NS PART...\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	pins = argv[1];
	host_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	peer_ns = open(argv[2], O_RDONLY | O_CLOEXEC);
	next_ns = open(argv[3], O_RDONLY | O_CLOEXEC);
	if (host_ns < 0 || peer_ns < 0 || next_ns < 0)
		lab_die("namespaces");
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)((i % PATTERN) * 2654435761u >> 13);
	for (int i = 4; i < argc; i++) {
		known = false;
		for (size_t k = 0; k < sizeof(parts) / sizeof(parts[0]); k++) {
			if (strcmp(argv[i], parts[k].name))
				continue;
			known = true;
			parts[k].run();
		}
		if (!known)
			lab_die("no part %s", argv[i]);
	}
	return lab_done();
}
