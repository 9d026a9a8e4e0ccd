/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast a bulk flow goes on after its sender was moved, over a path of 20 ms (10 each way) and
 * 200 Mbit/s with a buffer of 20 ms. The path is a thread that carries packets between tun0 of two
 * namespaces. During a move it keeps the packets for the sender and delivers them afterwards: the
 * guard.
 *
 * usage: repair_flow SENDER_NAMESPACE RECEIVER_NAMESPACE CONGESTION_CONTROL	(repair_bench.sh)
 */
#include "selftests/lib/lab.h"
#include "usr/sys/repair_impl.h"
#include "usr/sys/restore.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define MOVES	  3
#define DELAY_US  10000.0
#define RATE	  25.0 /* bytes a microsecond */
#define BUFFER_US 20000.0
#define SLOTS	  8192 /* packets under way, one direction */
#define PACKET	  2048
#define BUCKET_US 10000
#define BUCKETS	  12000
#define WARM_US	  4000000.0
#define AFTER_US  2000000.0

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

/* --- the path */

struct packet {
	double due;
	size_t len;
	char bytes[PACKET];
};

struct direction {
	int from, to;
	double free_at; /* the link is busy until then */
	struct packet *ring;
	unsigned int head, tail; /* ever counting */
	uint64_t dropped;
	_Atomic bool hold;
};

static struct direction path[2]; /* to the receiver, to the sender */
static _Atomic bool path_ends;
static _Atomic unsigned int path_rounds;

static void take_packets(struct direction *d)
{
	while (d->head - d->tail < SLOTS) {
		struct packet *p = &d->ring[d->head % SLOTS];
		ssize_t n = read(d->from, p->bytes, PACKET);
		double now = now_us(), leaves;

		if (n <= 0)
			return;
		leaves = (d->free_at > now ? d->free_at : now) + (double)n / RATE;
		if (leaves - now > BUFFER_US) {
			d->dropped++;
			continue;
		}
		d->free_at = leaves;
		p->len = (size_t)n;
		p->due = leaves + DELAY_US;
		d->head++;
	}
}

/* Microseconds until the next one is due. */
static double give_packets(struct direction *d)
{
	while (d->tail != d->head && !d->hold) {
		struct packet *p = &d->ring[d->tail % SLOTS];
		double wait = p->due - now_us();

		if (wait > 0)
			return wait;
		/* a full queue of the device is loss, as elsewhere */
		if (write(d->to, p->bytes, p->len) < 0)
			d->dropped++;
		d->tail++;
	}
	return 1000;
}

static void *carry(void *arg)
{
	struct pollfd fds[2] = { { .fd = path[0].from, .events = POLLIN },
				 { .fd = path[1].from, .events = POLLIN } };

	(void)arg;
	while (!path_ends) {
		double a, b;
		struct timespec ts;

		take_packets(&path[0]);
		take_packets(&path[1]);
		a = give_packets(&path[0]);
		b = give_packets(&path[1]);
		path_rounds++;
		if (b < a)
			a = b;
		ts = (struct timespec){ .tv_nsec = (long)(a * 1000) };
		ppoll(fds, 2, &ts, NULL);
	}
	return NULL;
}

/* After this no packet for the sender is under way in the kernel: it has been through every CPU. */
static void hold(bool on)
{
	unsigned int round;
	cpu_set_t all, one;

	path[1].hold = on;
	/* the round that had not seen it is over */
	round = path_rounds;
	while (path_rounds - round < 2)
		sched_yield();
	if (!on || sched_getaffinity(0, sizeof(all), &all))
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
	}
	sched_setaffinity(0, sizeof(all), &all);
}

static void enter(const char *ns)
{
	int fd = open(ns, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		lab_die("%s", ns);
	close(fd);
}

static int open_tun(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	strcpy(ifr.ifr_name, "tun0");
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		lab_die("tun0: %s", strerror(errno));
	return fd;
}

/* --- the receiver: counts bytes by the time of their arrival, and checks each */

static _Atomic uint64_t bucket[BUCKETS];
static double epoch;
static _Atomic uint64_t received;
static _Atomic bool wrong;

static uint8_t byte_at(uint64_t position)
{
	return (uint8_t)(position * 7 + position / 251);
}

static void *receive(void *arg)
{
	int fd = *(int *)arg;
	static uint8_t bytes[65536];
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
		unsigned int b = (unsigned int)((now_us() - epoch) / BUCKET_US);

		for (ssize_t i = 0; i < n; i++) {
			if (bytes[i] != byte_at(received + (uint64_t)i))
				wrong = true;
		}
		received += (uint64_t)n;
		if (b < BUCKETS)
			bucket[b] += (uint64_t)n;
	}
	if (n < 0)
		wrong = true;
	return NULL;
}

/* Bytes a second that arrived between two moments. */
static double rate_of(double from, double to)
{
	unsigned int first = (unsigned int)((from - epoch) / BUCKET_US);
	unsigned int end = (unsigned int)((to - epoch) / BUCKET_US);
	uint64_t sum = 0;

	for (unsigned int b = first; b < end && b < BUCKETS; b++)
		sum += bucket[b];
	return (double)sum / ((end - first) * (BUCKET_US / 1e6));
}

/* --- the sender */

static uint64_t sent;

static void send_until(int fd, double until)
{
	static uint8_t bytes[65536];

	while (now_us() < until) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		ssize_t n;

		poll(&p, 1, 10);
		if (!(p.revents & POLLOUT))
			continue;
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = byte_at(sent + i);
		n = send(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			lab_die("send: %s", strerror(errno));
		sent += n > 0 ? (uint64_t)n : 0;
	}
}

struct result {
	double early, late; /* 200 ms and 2 s, of what it was in the 2 s before the first move */
	struct tcp_info before, after;
	double took_us;
	size_t flight;
	bool restored;
};

static int move(int fd, struct cman_restore *restore, struct result *r)
{
	static struct cman_repair_image image;
	const char *why = "";
	double start;
	int err;

	err = cman_repair_describe(fd, &image, &why);
	hold(true);
	start = now_us();
	if (!err)
		err = cman_repair_freeze(fd, &image, &why);
	if (!err)
		err = cman_repair_export(fd, &image, &why);
	if (!err)
		err = cman_repair_close(fd, &why);
	if (!err)
		err = cman_repair_import(&image, NULL, &fd, &why);
	if (!err && restore)
		err = cman_restore(restore, fd, &image, &r->restored);
	r->flight = image.out.len - image.unsent;
	if (!err)
		err = cman_repair_release(fd, &image, NULL, &why);
	/* what the kernel does not take now it takes soon */
	while (err == -EAGAIN) {
		hold(false);
		err = cman_repair_release(fd, &image, NULL, &why);
	}
	r->took_us = now_us() - start;
	hold(false);
	if (err)
		lab_die("%s: %s", strerror(-err), why);
	cman_repair_free(&image);
	return fd;
}

static int connect_through(const char *sender, const char *receiver, const char *control,
			   int *ret_peer)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(7000) };
	int one = 1, size = 8 << 20, fd, listener;

	enter(receiver);
	inet_pton(AF_INET, "10.98.0.2", &at.sin_addr);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(listener, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 1))
		lab_die("listen");
	enter(sender);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, (socklen_t)strlen(control)))
		lab_die("%s", control);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)))
		lab_die("connect: %s", strerror(errno));
	*ret_peer = accept(listener, NULL, NULL);
	close(listener);
	return fd;
}

static void one_flow(const char *const *ns, const char *control, struct cman_restore *restore,
		     double *early, double *late)
{
	double moved[MOVES], end;
	struct result r[MOVES];
	pthread_t receiver;
	int peer, fd;

	memset(r, 0, sizeof(r));
	memset((void *)bucket, 0, sizeof(bucket));
	received = 0;
	sent = 0;
	wrong = false;
	epoch = now_us();
	fd = connect_through(ns[0], ns[1], control, &peer);
	if (pthread_create(&receiver, NULL, receive, &peer))
		lab_die("pthread_create");
	end = epoch + WARM_US;
	send_until(fd, end);
	for (int i = 0; i < MOVES; i++) {
		cman_repair_info(fd, &r[i].before);
		moved[i] = now_us();
		fd = move(fd, restore, &r[i]);
		send_until(fd, moved[i] + 200000);
		cman_repair_info(fd, &r[i].after);
		send_until(fd, moved[i] + AFTER_US + 500000);
	}
	shutdown(fd, SHUT_WR);
	pthread_join(receiver, NULL);
	for (int i = 0; i < MOVES; i++) {
		/* of the first: what comes before the others may suffer from the one before */
		double before = rate_of(moved[0] - AFTER_US, moved[0]);

		if (before < 1)
			lab_die("nothing arrives");
		r[i].early = rate_of(moved[i], moved[i] + 200000) / before;
		r[i].late = rate_of(moved[i], moved[i] + AFTER_US) / before;
		early[i] = r[i].early;
		late[i] = r[i].late;
		lab_diag(
			"%s, %s: %.1f MB/s before; first 200 ms %.2f, 2 s %.2f of that; cwnd %u -> %u, "
			"srtt %.1f -> %.1f ms, in flight %zu KB, moved in %.0f us, retransmits %u",
			control,
			!restore      ? "not restored" :
			r[i].restored ? "restored" :
					"nothing to restore",
			before / 1e6, r[i].early, r[i].late, r[i].before.tcpi_snd_cwnd,
			r[i].after.tcpi_snd_cwnd, r[i].before.tcpi_rtt / 1e3,
			r[i].after.tcpi_rtt / 1e3, r[i].flight / 1024, r[i].took_us,
			r[i].after.tcpi_total_retrans);
	}
	lab_ok(!wrong && received == sent, "%s, %s: every byte arrived, in order, after %d moves",
	       control, restore ? "restored" : "not restored", MOVES);
	close(fd);
	close(peer);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	double early[2][MOVES], late[2][MOVES];
	struct cman_restore *restore;
	const char *why = "";
	pthread_t carrier;

	if (argc != 4) {
		fprintf(stderr, "usage: repair_flow SENDER_NAMESPACE RECEIVER_NAMESPACE CONTROL\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	enter(argv[2]);
	path[0].to = path[1].from = open_tun();
	enter(argv[1]);
	path[1].to = path[0].from = open_tun();
	for (int i = 0; i < 2; i++) {
		path[i].ring = calloc(SLOTS, sizeof(*path[i].ring));
		if (!path[i].ring)
			lab_die("no memory");
	}
	if (pthread_create(&carrier, NULL, carry, NULL))
		lab_die("pthread_create");
	if (cman_restore_open(&restore, &why)) {
		lab_diag("nothing is restored: %s", why);
		restore = NULL;
	}
	one_flow((const char *const *)argv + 1, argv[3], NULL, early[0], late[0]);
	if (restore)
		one_flow((const char *const *)argv + 1, argv[3], restore, early[1], late[1]);
	for (int i = 0; i < (restore ? 2 : 1); i++) {
		qsort(early[i], MOVES, sizeof(double), by_value);
		qsort(late[i], MOVES, sizeof(double), by_value);
		lab_diag("%s %s: median of %d: first 200 ms %.2f, 2 s %.2f", argv[3],
			 i ? "restored" : "not restored", MOVES, early[i][MOVES / 2],
			 late[i][MOVES / 2]);
	}
	cman_restore_close(restore);
	path_ends = true;
	pthread_join(carrier, NULL);
	return lab_done();
}
