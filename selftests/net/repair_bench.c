/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What moving costs (repair_bench.sh). No time is a test; that everything arrives is.
 *
 *	repair_bench PEER_NAMESPACE cost	export, close and import of a session, in several ways, one
 *						after the other in each pass, so that what else the machine
 *						does meets all alike
 *	repair_bench PEER_NAMESPACE many	1,000 to 9,000 sessions from one process to another
 */
#include "selftests/lib/lab.h"
#include "usr/sys/bulk.h"
#include "usr/sys/repair_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

#define SESSIONS 256
#define PASSES	 9
#define MOST	 9000
#define BATCH	 64

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/*
 * The same in plain calls, one after the other, with the options of a simple proxy and no checks:
 * what one writes from the man pages, in the order that works.
 */
struct plain {
	struct sockaddr_in local, peer;
	struct tcp_info info;
	struct tcp_repair_window window;
	uint32_t recv_seq, send_seq, timestamp;
	int mss, inq, outq, unsent, nodelay, keepalive, sndbuf, rcvbuf, lock;
	char congestion[16];
	uint8_t in[32768], out[32768];
};

#define GET(level, name, var) \
	do { \
		socklen_t len_ = sizeof(var); \
		if (getsockopt(fd, level, name, &(var), &len_) < 0) \
			lab_die(#name); \
	} while (0)
#define SET(level, name, val) \
	do { \
		int val_ = (int)(val); \
		if (setsockopt(fd, level, name, &val_, sizeof(val_)) < 0) \
			lab_die(#name); \
	} while (0)

static void plain_export(int fd, struct plain *p)
{
	socklen_t len = sizeof(p->local);

	SET(IPPROTO_TCP, TCP_REPAIR, 1);
	getsockname(fd, (struct sockaddr *)&p->local, &len);
	len = sizeof(p->peer);
	getpeername(fd, (struct sockaddr *)&p->peer, &len);
	GET(IPPROTO_TCP, TCP_INFO, p->info);
	GET(IPPROTO_TCP, TCP_MAXSEG, p->mss);
	GET(IPPROTO_TCP, TCP_REPAIR_WINDOW, p->window);
	GET(IPPROTO_TCP, TCP_TIMESTAMP, p->timestamp);
	GET(IPPROTO_TCP, TCP_NODELAY, p->nodelay);
	GET(IPPROTO_TCP, TCP_CONGESTION, p->congestion);
	GET(SOL_SOCKET, SO_KEEPALIVE, p->keepalive);
	GET(SOL_SOCKET, SO_SNDBUF, p->sndbuf);
	GET(SOL_SOCKET, SO_RCVBUF, p->rcvbuf);
	GET(SOL_SOCKET, SO_BUF_LOCK, p->lock);
	p->inq = lab_inq(fd);
	SET(IPPROTO_TCP, TCP_REPAIR_QUEUE, RECV_QUEUE);
	GET(IPPROTO_TCP, TCP_QUEUE_SEQ, p->recv_seq);
	if (p->inq && recv(fd, p->in, sizeof(p->in), MSG_PEEK | MSG_DONTWAIT) != p->inq)
		lab_die("peek");
	SET(IPPROTO_TCP, TCP_REPAIR_QUEUE, SEND_QUEUE);
	p->outq = lab_outq(fd);
	p->unsent = lab_unsent(fd);
	GET(IPPROTO_TCP, TCP_QUEUE_SEQ, p->send_seq);
	if (p->outq && recv(fd, p->out, sizeof(p->out), MSG_PEEK | MSG_DONTWAIT) != p->outq)
		lab_die("peek");
}

static int plain_import(struct plain *p)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct tcp_repair_opt opts[] = {
		{ 2, (uint32_t)p->mss },
		{ 3, p->info.tcpi_snd_wscale | (uint32_t)p->info.tcpi_rcv_wscale << 16 },
		{ 4, 0 },
		{ 8, 0 },
	};

	SET(IPPROTO_TCP, TCP_REPAIR, 1);
	SET(IPPROTO_TCP, TCP_NODELAY, p->nodelay);
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, p->congestion,
		   (socklen_t)strlen(p->congestion));
	if (bind(fd, (struct sockaddr *)&p->local, sizeof(p->local)) < 0)
		lab_die("bind");
	SET(IPPROTO_TCP, TCP_REPAIR_QUEUE, RECV_QUEUE);
	SET(IPPROTO_TCP, TCP_QUEUE_SEQ, p->recv_seq - (uint32_t)p->inq);
	SET(IPPROTO_TCP, TCP_REPAIR_QUEUE, SEND_QUEUE);
	SET(IPPROTO_TCP, TCP_QUEUE_SEQ, p->send_seq - (uint32_t)p->outq);
	SET(IPPROTO_TCP, TCP_MAXSEG, p->mss);
	if (connect(fd, (struct sockaddr *)&p->peer, sizeof(p->peer)) < 0)
		lab_die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, opts, sizeof(opts));
	SET(IPPROTO_TCP, TCP_TIMESTAMP, (p->timestamp + 2) & ~1u);
	SET(SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20);
	SET(SOL_SOCKET, SO_SNDBUFFORCE, 1 << 20);
	if (p->inq) {
		SET(IPPROTO_TCP, TCP_REPAIR_QUEUE, RECV_QUEUE);
		if (send(fd, p->in, (size_t)p->inq, 0) != p->inq)
			lab_die("receive queue");
	}
	if (p->outq - p->unsent) {
		SET(IPPROTO_TCP, TCP_REPAIR_QUEUE, SEND_QUEUE);
		if (send(fd, p->out, (size_t)(p->outq - p->unsent), 0) != p->outq - p->unsent)
			lab_die("send queue");
	}
	setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &p->window, sizeof(p->window));
	SET(IPPROTO_TCP, TCP_REPAIR_QUEUE, NO_QUEUE);
	SET(IPPROTO_TCP, TCP_REPAIR, 0);
	SET(SOL_SOCKET, SO_REUSEADDR, 1);
	SET(SOL_SOCKET, SO_RCVBUFFORCE, p->rcvbuf / 2);
	SET(SOL_SOCKET, SO_SNDBUFFORCE, p->sndbuf / 2);
	SET(SOL_SOCKET, SO_BUF_LOCK, p->lock);
	SET(SOL_SOCKET, SO_KEEPALIVE, p->keepalive);
	if (p->unsent &&
	    send(fd, p->out + (p->outq - p->unsent), (size_t)p->unsent, 0) != p->unsent)
		lab_die("unsent");
	return fd;
}

/* --- what a session costs */

static struct lab_conn conn[MOST];
static struct cman_bulk_item item[MOST];
static struct plain plain[SESSIONS];
static struct cman_repair_image *image; /* [MOST], shared with the other process */

/*
 * In microseconds a session: what comes before the guard closes, and the rest; of that, what the CPUs
 * have worked for it, which other programs do not lengthen.
 */
struct cost {
	double before, closed, cpu, cpu_all;
};

static double cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void good_or_die(size_t failed, size_t n, const char *step)
{
	for (size_t i = 0; failed && i < n; i++) {
		if (item[i].err)
			lab_die("%s of %zu: %s: %s", step, i, strerror(-item[i].err), item[i].why);
	}
}

static void prepare(size_t n, uint64_t want)
{
	for (size_t i = 0; i < n; i++) {
		cman_repair_reset(&image[i]);
		image[i].want = want;
		item[i] = (struct cman_bulk_item){ .fd = conn[i].host, .image = &image[i] };
	}
}

static struct cost by_hand(void)
{
	double start = now_us(), cpu = cpu_us();

	for (int i = 0; i < SESSIONS; i++)
		plain_export(conn[i].host, &plain[i]);
	for (int i = 0; i < SESSIONS; i++)
		close(conn[i].host);
	for (int i = 0; i < SESSIONS; i++)
		conn[i].host = plain_import(&plain[i]);
	cpu = cpu_us() - cpu;
	return (struct cost){ .closed = (now_us() - start) / SESSIONS,
			      .cpu = cpu / SESSIONS,
			      .cpu_all = cpu / SESSIONS };
}

static struct cost one_by_one(uint64_t want)
{
	const char *why = "";
	double at[3], cpu, all;
	int err = 0;

	prepare(SESSIONS, want);
	all = cpu_us();
	at[0] = now_us();
	for (int i = 0; i < SESSIONS; i++)
		err |= cman_repair_describe(conn[i].host, &image[i], &why);
	at[1] = now_us();
	cpu = cpu_us();
	for (int i = 0; i < SESSIONS; i++) {
		err |= cman_repair_freeze(conn[i].host, &image[i], &why);
		err |= cman_repair_export(conn[i].host, &image[i], &why);
	}
	for (int i = 0; i < SESSIONS; i++)
		err |= cman_repair_close(conn[i].host, &why);
	for (int i = 0; i < SESSIONS; i++)
		err |= cman_repair_import(&image[i], NULL, &conn[i].host, &why);
	for (int i = 0; i < SESSIONS; i++)
		err |= cman_repair_release(conn[i].host, &image[i], NULL, &why);
	cpu = cpu_us() - cpu;
	all = cpu_us() - all;
	at[2] = now_us();
	if (err)
		lab_die("%s", why);
	return (struct cost){ (at[1] - at[0]) / SESSIONS, (at[2] - at[1]) / SESSIONS,
			      cpu / SESSIONS, all / SESSIONS };
}

static struct cost in_bulk(struct cman_bulk *bulk, uint64_t want)
{
	double at[3], cpu, all;

	prepare(SESSIONS, want);
	all = cpu_us();
	at[0] = now_us();
	good_or_die(cman_bulk_describe(bulk, item, SESSIONS), SESSIONS, "describe");
	at[1] = now_us();
	cpu = cpu_us();
	for (int i = 0; i < SESSIONS; i += BATCH)
		good_or_die(cman_bulk_freeze(bulk, item + i, BATCH), SESSIONS, "freeze");
	for (int i = 0; i < SESSIONS; i += BATCH)
		good_or_die(cman_bulk_close(bulk, item + i, BATCH), SESSIONS, "close");
	for (int i = 0; i < SESSIONS; i += BATCH)
		good_or_die(cman_bulk_import(bulk, NULL, item + i, BATCH), SESSIONS, "import");
	for (int i = 0; i < SESSIONS; i += BATCH)
		good_or_die(cman_bulk_release(bulk, NULL, item + i, BATCH), SESSIONS, "release");
	cpu = cpu_us() - cpu;
	all = cpu_us() - all;
	at[2] = now_us();
	for (int i = 0; i < SESSIONS; i++)
		conn[i].host = item[i].fd;
	return (struct cost){ (at[1] - at[0]) / SESSIONS, (at[2] - at[1]) / SESSIONS,
			      cpu / SESSIONS, all / SESSIONS };
}

enum how { HAND, SINGLE, BULK };

static void cost(size_t in, size_t out)
{
	const uint64_t few = CMAN_REPAIR_BIT(CMAN_REPAIR_NODELAY) |
			     CMAN_REPAIR_BIT(CMAN_REPAIR_KEEPALIVE);
	struct {
		const char *name;
		enum how how;
		uint64_t want;
		unsigned int threads;
		enum cman_bulk_way way;
		struct cman_bulk *bulk;
	} kinds[] = {
		{ "plain loop by hand, 5 options", HAND, 0, 0, 0, NULL },
		{ "one by one, all options", SINGLE, 0, 0, 0, NULL },
		{ "one by one, 5 options", SINGLE, few, 0, 0, NULL },
		{ "bulk, system calls, all options", BULK, 0, 1, CMAN_BULK_SYSCALLS, NULL },
		{ "bulk, iter/tcp, all options", BULK, 0, 1, CMAN_BULK_WALK, NULL },
		{ "bulk, all options", BULK, 0, 1, CMAN_BULK_AUTO, NULL },
		{ "bulk, 5 options", BULK, few, 1, CMAN_BULK_AUTO, NULL },
		{ "bulk, 2 threads, all options", BULK, 0, 2, CMAN_BULK_AUTO, NULL },
		{ "bulk, 2 threads, 5 options", BULK, few, 2, CMAN_BULK_AUTO, NULL },
	};
	enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };
	static double before[KINDS][PASSES], closed[KINDS][PASSES], ratio[KINDS][PASSES],
		cpu[KINDS][PASSES], cpu_all[KINDS][PASSES];
	bool good = true;

	for (int i = 0; i < SESSIONS; i++)
		lab_connect(&conn[i], LAB_V4, true);
	for (int k = 0; k < KINDS; k++) {
		if (kinds[k].how == BULK &&
		    cman_bulk_open(kinds[k].threads, kinds[k].way, &kinds[k].bulk))
			lab_die("cman_bulk_open");
	}
	/* the first pass only warms up */
	for (int pass = -1; pass < PASSES; pass++) {
		for (int k = 0; k < KINDS; k++) {
			struct cost c;

			for (int i = 0; i < SESSIONS && in; i++)
				lab_peer_write(&conn[i], in);
			for (int i = 0; i < SESSIONS && in; i++)
				lab_wait_inq(conn[i].host, (int)in);
			lab_guard_close();
			for (int i = 0; i < SESSIONS && out; i++)
				lab_host_write(&conn[i], out);
			if (kinds[k].how == HAND)
				c = by_hand();
			else if (kinds[k].how == SINGLE)
				c = one_by_one(kinds[k].want);
			else
				c = in_bulk(kinds[k].bulk, kinds[k].want);
			lab_guard_open();
			for (int i = 0; i < SESSIONS; i++)
				good &= lab_settle(&conn[i], 5000);
			if (pass < 0)
				continue;
			before[k][pass] = c.before;
			closed[k][pass] = c.closed;
			cpu[k][pass] = c.cpu;
			cpu_all[k][pass] = c.cpu_all;
			ratio[k][pass] = c.closed / closed[0][pass];
		}
	}
	lab_diag("%zu bytes in, %zu out, %d sessions, %d passes; us a session: median (least-most)",
		 in, out, SESSIONS, PASSES);
	for (int k = 0; k < KINDS; k++) {
		qsort(before[k], PASSES, sizeof(double), by_value);
		qsort(closed[k], PASSES, sizeof(double), by_value);
		qsort(cpu_all[k], PASSES, sizeof(double), by_value);
		qsort(cpu[k], PASSES, sizeof(double), by_value);
		qsort(ratio[k], PASSES, sizeof(double), by_value);
		lab_diag("%-32s describe %5.1f, export+close+import %5.1f (%.1f-%.1f), ratio %.2f "
			 "(%.2f-%.2f), CPU %.1f, ratio %.2f, with describe %.1f",
			 kinds[k].name, before[k][PASSES / 2], closed[k][PASSES / 2], closed[k][0],
			 closed[k][PASSES - 1], ratio[k][PASSES / 2], ratio[k][0],
			 ratio[k][PASSES - 1], cpu[k][PASSES / 2],
			 cpu[k][PASSES / 2] / cpu[0][PASSES / 2], cpu_all[k][PASSES / 2]);
		cman_bulk_free(kinds[k].bulk);
	}
	lab_ok(good, "%d sessions with %zu bytes in and %zu out moved %d times, all bytes arrived",
	       SESSIONS, in, out, (PASSES + 1) * KINDS);
	for (int i = 0; i < SESSIONS; i++) {
		lab_close(&conn[i]);
		cman_repair_free(&image[i]);
	}
}

/* --- many, to another process. The images lie in shared memory: queues are empty. */

struct order {
	size_t from, n; /* n 0: end */
	double started;
};

static void whole(ssize_t n, size_t len)
{
	if (n != (ssize_t)len)
		lab_die("the other process has gone");
}

/*
 * The new process: imports what it is told, then shows that each works: sends a byte to the peer, and
 * answers the one that it gets.
 */
_Noreturn static void target(int orders, int answers, unsigned int threads, size_t n)
{
	struct cman_bulk *bulk;
	struct order order;
	double longest = 0, took;
	char byte = 'x';

	if (cman_bulk_open(threads, CMAN_BULK_AUTO, &bulk))
		lab_die("cman_bulk_open");
	whole(write(answers, &byte, 1), 1);
	for (;;) {
		whole(read(orders, &order, sizeof(order)), sizeof(order));
		if (!order.n)
			break;
		for (size_t i = order.from; i < order.from + order.n; i++)
			item[i] = (struct cman_bulk_item){ .fd = -1, .image = &image[i] };
		good_or_die(cman_bulk_import(bulk, NULL, item + order.from, order.n), n, "import");
		good_or_die(cman_bulk_release(bulk, NULL, item + order.from, order.n), n,
			    "release");
		took = now_us() - order.started;
		longest = took > longest ? took : longest;
		whole(write(answers, &byte, 1), 1);
	}
	whole(write(answers, &longest, sizeof(longest)), sizeof(longest));
	/* the peers have written one byte each by now */
	whole(read(orders, &byte, 1), 1);
	for (size_t i = 0; i < n; i++) {
		while (recv(item[i].fd, &byte, 1, 0) < 0 && errno == EAGAIN)
			usleep(100);
		if (send(item[i].fd, "y", 1, 0) != 1)
			lab_die("a session is dead");
	}
	cman_bulk_free(bulk);
	_exit(0);
}

static void many(size_t n, unsigned int threads)
{
	int orders[2], answers[2], status;
	struct order order = { 0 };
	struct cman_bulk *bulk;
	double start, described, end, longest;
	bool good = true;
	char byte;
	pid_t pid;

	if (pipe(orders) || pipe(answers))
		lab_die("pipe");
	/* before there are connections: it is not to inherit them */
	pid = fork();
	if (pid < 0)
		lab_die("fork");
	if (!pid) {
		close(orders[1]);
		close(answers[0]);
		target(orders[0], answers[1], threads, n);
	}
	close(orders[0]);
	close(answers[1]);
	if (cman_bulk_open(threads, CMAN_BULK_AUTO, &bulk))
		lab_die("cman_bulk_open");
	for (size_t i = 0; i < n; i++)
		lab_connect(&conn[i], LAB_V4, true);
	whole(read(answers[0], &byte, 1), 1);

	prepare(n, 0);
	start = now_us();
	good_or_die(cman_bulk_describe(bulk, item, n), n, "describe");
	described = now_us();
	for (size_t at = 0; at < n; at += BATCH) {
		size_t some = n - at < BATCH ? n - at : BATCH;

		/* while one batch is imported, the next is exported; not more */
		if (at > BATCH)
			whole(read(answers[0], &byte, 1), 1);
		order = (struct order){ at, some, now_us() };
		good_or_die(cman_bulk_freeze(bulk, item + at, some), n, "freeze");
		good_or_die(cman_bulk_close(bulk, item + at, some), n, "close");
		whole(write(orders[1], &order, sizeof(order)), sizeof(order));
	}
	order.n = 0;
	whole(write(orders[1], &order, sizeof(order)), sizeof(order));
	for (size_t left = n > BATCH ? 2 : 1; left; left--)
		whole(read(answers[0], &byte, 1), 1);
	whole(read(answers[0], &longest, sizeof(longest)), sizeof(longest));
	end = now_us();
	lab_diag(
		"%zu sessions to another process, %u thread(s) in each: %.1f ms, %.2f us a session "
		"(describe %.2f, the rest %.2f); a batch of %d at most %.2f ms",
		n, threads, (end - start) / 1e3, (end - start) / (double)n,
		(described - start) / (double)n, (end - described) / (double)n, BATCH,
		longest / 1e3);
	for (size_t i = 0; i < n; i++)
		good &= send(conn[i].peer, "p", 1, 0) == 1;
	whole(write(orders[1], &byte, 1), 1);
	if (waitpid(pid, &status, 0) != pid || status)
		good = false;
	for (size_t i = 0; i < n; i++) {
		double deadline = now_us() + 5e6;

		while (recv(conn[i].peer, &byte, 1, 0) != 1 && now_us() < deadline)
			usleep(100);
		good &= byte == 'y';
		byte = 0;
	}
	lab_ok(good, "%zu sessions moved to another process with %u thread(s), all answer", n,
	       threads);
	cman_bulk_free(bulk);
	for (size_t i = 0; i < n; i++) {
		conn[i].host = -1;
		close(conn[i].peer);
	}
	close(orders[1]);
	close(answers[0]);
}

int main(int argc, char **argv)
{
	struct rlimit files = { 20000, 20000 };

	if (argc != 3) {
		fprintf(stderr, "usage: repair_bench PEER_NAMESPACE cost|many\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (setrlimit(RLIMIT_NOFILE, &files) && !getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	image = mmap(NULL, MOST * sizeof(*image), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (image == MAP_FAILED)
		lab_die("mmap");
	lab_init(argv[1]);
	if (strcmp(argv[2], "cost") == 0) {
		cost(0, 0);
		cost(16384, 14000);
		return lab_done();
	}
	for (unsigned int threads = 1; threads <= 2; threads++) {
		many(1000, threads);
		many(3000, threads);
		many(MOST, threads);
	}
	return lab_done();
}
