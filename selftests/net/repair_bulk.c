/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * usr/sys/bulk, inspect and restore on real connections. What the BPF programs read is compared
 * with the system calls, field by field, for every state, family and filling of the queues; then
 * mixed batches are moved by every way of reading, with one and two threads, and checked for
 * bytes, RSTs and the same errors at the same sockets.
 *
 * usage: repair_bulk PEER_NAMESPACE	(repair_bulk.sh)
 */
#include "selftests/lib/lab.h"
#include "usr/sys/bulk.h"
#include "usr/sys/repair_impl.h"
#include "usr/sys/restore.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define BATCH 96

/* --- system calls are counted: this program defines the functions that the library uses */

static _Atomic unsigned int calls;

static long call(long nr, long a, long b, long c, long d, long e, long f)
{
	calls++;
	return syscall(nr, a, b, c, d, e, f);
}

#define P(x) ((long)(x))

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	return (int)call(SYS_getsockopt, fd, level, name, P(value), P(len), 0);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	return (int)call(SYS_setsockopt, fd, level, name, P(value), len, 0);
}

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
	return call(SYS_recvfrom, fd, P(bytes), P(len), flags, 0, 0);
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
	return call(SYS_sendto, fd, P(bytes), P(len), flags, 0, 0);
}

int socket(int family, int type, int protocol)
{
	return (int)call(SYS_socket, family, type, protocol, 0, 0, 0);
}

int bind(int fd, const struct sockaddr *to, socklen_t len)
{
	return (int)call(SYS_bind, fd, P(to), len, 0, 0, 0);
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	return (int)call(SYS_connect, fd, P(to), len, 0, 0, 0);
}

int getsockname(int fd, struct sockaddr *to, socklen_t *len)
{
	return (int)call(SYS_getsockname, fd, P(to), P(len), 0, 0, 0);
}

int getpeername(int fd, struct sockaddr *to, socklen_t *len)
{
	return (int)call(SYS_getpeername, fd, P(to), P(len), 0, 0, 0);
}

int close(int fd)
{
	return (int)call(SYS_close, fd, 0, 0, 0, 0, 0);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return (int)call(SYS_ioctl, fd, P(request), P(arg), 0, 0, 0);
}

static const char *const way_name[] = { "auto", "system calls", "lookup", "iter/tcp" };
static struct cman_bulk *bulks[4];

static struct cman_bulk *open_bulk(unsigned int threads, enum cman_bulk_way way)
{
	struct cman_bulk *bulk;
	int err = cman_bulk_open(threads, way, &bulk);

	if (err)
		lab_die("cman_bulk_open: %s", strerror(-err));
	return bulk;
}

/* --- field by field */

static int differences;

static void differs(const char *what, const char *field, int64_t a, int64_t b)
{
	differences++;
	lab_diag("%s: %s: system calls %lld, BPF %lld", what, field, (long long)a, (long long)b);
}

static void option_differs(void *arg, const char *name, int64_t a, int64_t b)
{
	differs(arg, name, a, b);
}

static void compare_described(const char *what, const struct cman_repair_image *a,
			      const struct cman_repair_image *b)
{
#define SAME(field) \
	do { \
		if (a->field != b->field) \
			differs(what, #field, (int64_t)a->field, (int64_t)b->field); \
	} while (0)
#define SAME_BYTES(field) \
	do { \
		if (memcmp(a->field, b->field, sizeof(a->field)) != 0) \
			differs(what, #field, 0, 0); \
	} while (0)
	SAME(have);
	SAME(nonblock);
	SAME(family);
	SAME(local_port);
	SAME(peer_port);
	SAME(scope_id);
	SAME_BYTES(local_addr);
	SAME_BYTES(peer_addr);
	SAME_BYTES(bindtodevice);
	SAME_BYTES(congestion);
	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		/* peeking at the receive queue lets the kernel tune them */
		if ((i == CMAN_REPAIR_RCVBUF || i == CMAN_REPAIR_WINDOW_CLAMP) && a->in.len &&
		    b->option[i] > a->option[i])
			continue;
		if (a->option[i] != b->option[i])
			option_differs((void *)what, cman_repair_option_name(i), a->option[i],
				       b->option[i]);
	}
}

static void compare_exported(const char *what, const struct cman_repair_image *a,
			     const struct cman_repair_image *b)
{
	compare_described(what, a, b);
	SAME(state);
	SAME(negotiated);
	SAME(snd_wscale);
	SAME(rcv_wscale);
	SAME(usec_timestamps);
	SAME(peer_fin);
	SAME(fin);
	SAME(fin_acked);
	/* with unsent bytes the old socket may send some between two exports */
	if (!a->unsent && !(a->fin && !a->fin_sent)) {
		SAME(unsent);
		SAME(fin_sent);
	} else if (b->unsent > a->unsent) {
		differs(what, "unsent", (int64_t)a->unsent, (int64_t)b->unsent);
	}
	SAME(mss);
	SAME(recv_seq);
	SAME(send_seq);
	SAME(bytes_received);
	SAME(bytes_acked);
	SAME(window.snd_wl1);
	SAME(window.snd_wnd);
	SAME(window.max_window);
	SAME(window.rcv_wnd);
	SAME(window.rcv_wup);
	SAME(speed.snd_cwnd);
	SAME(speed.snd_ssthresh);
	SAME(speed.rtt_us);
	SAME(speed.rttvar_us);
	SAME(speed.min_rtt_us);
	SAME(speed.rto_us);
	SAME(speed.rcv_rtt_us);
	/* peeking at the receive queue changes it */
	if (!a->in.len)
		SAME(speed.rcv_space);
	SAME(speed.rcv_ssthresh);
	SAME(speed.pacing_rate);
	SAME(speed.delivery_rate);
	SAME(in.len);
	SAME(out.len);
	if (a->in.len == b->in.len && a->in.len && memcmp(a->in.data, b->in.data, a->in.len) != 0)
		differs(what, "in.data", 0, 0);
	if (a->out.len == b->out.len && a->out.len &&
	    memcmp(a->out.data, b->out.data, a->out.len) != 0)
		differs(what, "out.data", 0, 0);
	/* a clock: milliseconds or microseconds later */
	if (b->timestamp - a->timestamp > (a->usec_timestamps ? 1000000u : 1000u))
		differs(what, "timestamp", a->timestamp, b->timestamp);
#undef SAME
#undef SAME_BYTES
}

/*
 * Described by all ways, then frozen, and exported by all ways: a thaw in between would send a probe and
 * whatever was not sent. Two rounds: the second with what was learned in the first.
 */
static void compare_ways(struct lab_conn *c, const char *what)
{
	struct cman_repair_image im[2][4] = { { { 0 } } };
	struct cman_bulk_item one[2][4];
	char name[160];

	for (int round = 0; round < 2; round++) {
		for (int way = CMAN_BULK_SYSCALLS; way <= CMAN_BULK_WALK; way++) {
			struct cman_bulk_item *it = &one[round][way];

			snprintf(name, sizeof(name), "%s, %s, described %d", what, way_name[way],
				 round);
			*it = (struct cman_bulk_item){ .fd = c->host, .image = &im[round][way] };
			if (cman_bulk_describe(bulks[way], it, 1))
				differs(name, it->why, 0, it->err);
			compare_described(name, &im[round][CMAN_BULK_SYSCALLS], it->image);
		}
	}
	for (int round = 0; round < 2; round++) {
		/* system calls only once: freeze() does not freeze twice */
		for (int way = CMAN_BULK_SYSCALLS + round; way <= CMAN_BULK_WALK; way++) {
			struct cman_bulk_item *it = &one[round][way];

			snprintf(name, sizeof(name), "%s, %s, exported %d", what, way_name[way],
				 round);
			if (cman_bulk_freeze(bulks[way], it, 1))
				differs(name, it->why, 0, it->err);
			compare_exported(name, &im[0][CMAN_BULK_SYSCALLS], it->image);
		}
	}
	if (cman_bulk_thaw(bulks[CMAN_BULK_SYSCALLS], &one[0][CMAN_BULK_SYSCALLS], 1))
		differs(what, "thaw", 0, one[0][CMAN_BULK_SYSCALLS].err);
	for (int round = 0; round < 2; round++) {
		for (int way = 0; way < 4; way++)
			cman_repair_free(&im[round][way]);
	}
}

/* --- */

static int set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

/* Every option that a program would set, to something unusual. */
static void set_options(int fd, bool v6)
{
	struct timeval tv = { .tv_sec = 3, .tv_usec = 120000 };
	struct linger linger = { 1, 7 };
	uint64_t rate = 123456789;
	int bad = 0;

	bad |= set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	bad |= set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	bad |= set(fd, SOL_SOCKET, SO_MARK, (int)0x80000007u);
	bad |= set(fd, SOL_SOCKET, SO_PRIORITY, 5);
	bad |= set(fd, SOL_SOCKET, SO_RCVLOWAT, 3);
	bad |= set(fd, SOL_SOCKET, SO_SNDBUF, 100000);
	bad |= set(fd, SOL_SOCKET, SO_RCVBUF, 120000);
	bad |= set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	bad |= set(fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	bad |= set(fd, SOL_SOCKET, SO_BUSY_POLL, 17);
	bad |= setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	bad |= setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	bad |= setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	bad |= setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof(rate));
	bad |= set(fd, IPPROTO_IP, IP_TOS, 0x10);
	bad |= set(fd, IPPROTO_IP, IP_TTL, 33);
	bad |= set(fd, IPPROTO_IP, IP_MINTTL, 2);
	bad |= set(fd, IPPROTO_IP, IP_FREEBIND, 1);
	bad |= set(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
	bad |= set(fd, IPPROTO_IP, IP_RECVERR, 1);
	bad |= set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	bad |= set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	bad |= set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	bad |= set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 77);
	bad |= set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 11);
	bad |= set(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
	bad |= set(fd, IPPROTO_TCP, TCP_SYNCNT, 3);
	bad |= set(fd, IPPROTO_TCP, TCP_LINGER2, 9);
	bad |= set(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3);
	bad |= set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 54321);
	bad |= set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 65536);
	bad |= set(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1);
	bad |= set(fd, IPPROTO_TCP, TCP_INQ, 1);
	bad |= set(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, 50000);
	if (v6) {
		bad |= set(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
		bad |= set(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 44);
		bad |= set(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
		bad |= set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
		bad |= set(fd, IPPROTO_IPV6, 70 /* IPV6_AUTOFLOWLABEL */, 0);
	}
	if (bad)
		lab_die("an option could not be set");
}

enum filling { IDLE, UNREAD, UNACKED, BOTH, EOF_READ, FILLINGS };
static const char *const filling_name[FILLINGS] = { "idle", "unread bytes", "unacknowledged bytes",
						    "both queues", "end of file read" };

static bool arrange(struct lab_conn *c, int state, enum filling q)
{
	bool peer_fin = state == CLOSE_WAIT || state == LAST_ACK;
	size_t in = q == UNREAD || q == BOTH ? 5000 : 0;
	size_t out = q == UNACKED || q == BOTH ? 60000 : 0;

	if (q == EOF_READ && !peer_fin)
		return false;
	if (state == FIN_WAIT2 && out)
		return false;
	/* some traffic, so that estimates are not those of a new socket */
	lab_peer_write(c, 30000);
	lab_host_write(c, 30000);
	if (!lab_settle(c, 5000) || !lab_wait_outq(c->host, 0))
		lab_die("the connection does not work");
	if (in && (lab_peer_write(c, in) != in || !lab_wait_inq(c->host, (int)in)))
		lab_die("no unread bytes");
	if (peer_fin) {
		lab_peer_shut(c);
		if (!lab_wait_state(c->host, CLOSE_WAIT))
			lab_die("no CLOSE_WAIT");
	}
	if (q == EOF_READ && (!lab_read(c) || !c->host_eof))
		lab_die("no end of file");
	if (state == FIN_WAIT2) {
		lab_host_shut(c);
		if (!lab_wait_state(c->host, FIN_WAIT2))
			lab_die("no FIN_WAIT2");
	}
	/* an acknowledgement that is waiting would leave between two comparisons */
	if (!lab_wait_outq(c->peer, 0))
		lab_die("the host does not acknowledge");
	lab_guard_close();
	if (out && lab_host_write(c, out) != out)
		lab_die("no bytes to send");
	if (state == FIN_WAIT1 || state == LAST_ACK)
		lab_host_shut(c);
	return true;
}

static void field_by_field(void)
{
	static const int states[] = { ESTABLISHED, CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2, LAST_ACK };
	static const char *const state_name[] = { "ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT1",
						  "FIN_WAIT2", "LAST_ACK" };

	for (int f = 0; f < LAB_FAMILIES; f++) {
		for (size_t s = 0; s < sizeof(states) / sizeof(states[0]); s++) {
			for (int q = 0; q < FILLINGS; q++) {
				bool with_options = (f + (int)s + q) % 2;
				struct lab_conn c;
				char what[128];

				snprintf(what, sizeof(what), "%s, %s, %s%s", lab_family_name[f],
					 state_name[s], filling_name[q],
					 with_options ? ", all options set" : "");
				lab_connect(&c, f, (f + q) % 2);
				if (with_options)
					set_options(c.host, f != LAB_V4);
				differences = 0;
				if (arrange(&c, states[s], q)) {
					compare_ways(&c, what);
					lab_ok(!differences,
					       "%s: every field is the same by "
					       "lookup, by iter/tcp and by system calls",
					       what);
				}
				lab_guard_open();
				lab_close(&c);
			}
		}
	}
}

/* --- whole batches */

static struct lab_conn conn[BATCH];
static struct cman_repair_image image[BATCH];
static struct cman_bulk_item item[BATCH];

static void make_items(void)
{
	for (int i = 0; i < BATCH; i++)
		item[i] = (struct cman_bulk_item){ .fd = conn[i].host, .image = &image[i] };
}

static bool none_failed(const char *step, size_t failed)
{
	for (int i = 0; failed && i < BATCH; i++) {
		if (item[i].err) {
			lab_diag("%s: item %d: %s: %s", step, i, strerror(-item[i].err),
				 item[i].why);
			break;
		}
	}
	return !failed;
}

static bool settle_all(void)
{
	bool good = true;

	for (int i = 0; i < BATCH; i++)
		good &= lab_settle(&conn[i], 10000);
	return good;
}

static void batch(enum cman_bulk_way way, unsigned int threads)
{
	struct cman_bulk *bulk = open_bulk(threads, way);
	struct lab_counters before, after;
	int fds = lab_open_fds();
	bool good = true;

	for (int i = 0; i < BATCH; i++)
		lab_connect(&conn[i], i % LAB_FAMILIES, i & 1);
	fds = lab_open_fds();
	before = lab_counters();
	for (int pass = 0; pass < 3 && good; pass++) {
		for (int i = 0; i < BATCH; i++) {
			lab_peer_write(&conn[i], (size_t)(i % 4) * 4000);
			lab_host_write(&conn[i], (size_t)(i % 5) * 3000);
		}
		make_items();
		good &= none_failed("describe", cman_bulk_describe(bulk, item, BATCH));
		lab_guard_close();
		for (int i = 0; i < BATCH; i++)
			lab_host_write(&conn[i], (size_t)(i % 3) * 1000);
		good &= none_failed("freeze", cman_bulk_freeze(bulk, item, BATCH));
		if (pass == 1) {
			/* there, and back again */
			good &= none_failed("thaw", cman_bulk_thaw(bulk, item, BATCH));
		} else {
			good &= none_failed("close", cman_bulk_close(bulk, item, BATCH));
			good &= none_failed("import", cman_bulk_import(bulk, NULL, item, BATCH));
			if (pass == 2) {
				good &= none_failed("abort", cman_bulk_abort(bulk, item, BATCH));
				good &= none_failed("import again",
						    cman_bulk_import(bulk, NULL, item, BATCH));
			}
			good &= none_failed("release", cman_bulk_release(bulk, NULL, item, BATCH));
			for (int i = 0; i < BATCH; i++)
				conn[i].host = item[i].fd;
		}
		lab_guard_open();
		good = good && settle_all();
	}
	after = lab_counters();
	lab_ok(good && lab_open_fds() == fds && after.resets == before.resets,
	       "%d connections moved, thawed and imported twice: %s, %u threads", BATCH,
	       way_name[way], threads);
	if (after.retransmits != before.retransmits)
		lab_diag("retransmits %llu",
			 (unsigned long long)(after.retransmits - before.retransmits));
	for (int i = 0; i < BATCH; i++)
		lab_close(&conn[i]);
	cman_bulk_free(bulk);
}

/* --- how many system calls a session needs */

/* At most so many, rounded down from all of the batch: what is asked once for all is in it too. */
static void count(enum cman_bulk_way way, const char *what, size_t in, size_t out,
		  const unsigned int most[5])
{
	static const char *const step[] = { "describe", "freeze", "close", "import", "release" };
	struct cman_bulk *bulk = bulks[way];
	unsigned int sum = 0, got[5];
	bool good = true;

	for (int i = 0; i < BATCH; i++) {
		lab_connect(&conn[i], LAB_V4, true);
		set(conn[i].host, IPPROTO_TCP, TCP_NODELAY, 1);
		lab_peer_write(&conn[i], in);
		lab_wait_inq(conn[i].host, (int)in);
	}
	make_items();
	/* the program has been verified, and has learned */
	good &= none_failed("describe", cman_bulk_describe(bulk, item, BATCH));
	calls = 0;
	good &= none_failed("describe", cman_bulk_describe(bulk, item, BATCH));
	got[0] = calls / BATCH;
	lab_guard_close();
	for (int i = 0; i < BATCH; i++)
		lab_host_write(&conn[i], out);
	calls = 0;
	good &= none_failed("freeze", cman_bulk_freeze(bulk, item, BATCH));
	got[1] = calls / BATCH;
	calls = 0;
	good &= none_failed("close", cman_bulk_close(bulk, item, BATCH));
	got[2] = calls / BATCH;
	calls = 0;
	good &= none_failed("import", cman_bulk_import(bulk, NULL, item, BATCH));
	got[3] = calls / BATCH;
	calls = 0;
	good &= none_failed("release", cman_bulk_release(bulk, NULL, item, BATCH));
	got[4] = calls / BATCH;
	for (int i = 0; i < BATCH; i++)
		conn[i].host = item[i].fd;
	lab_guard_open();
	good = good && settle_all();
	for (int i = 0; i < 5; i++) {
		sum += i ? got[i] : 0;
		if (got[i] > most[i]) {
			lab_diag("%s: %u calls, wanted at most %u", step[i], got[i], most[i]);
			good = false;
		}
	}
	lab_ok(good, "%s, %s: %u system calls while the guard is closed", way_name[way], what, sum);
	lab_diag("describe %u, freeze and export %u, close %u, import %u, release %u", got[0],
		 got[1], got[2], got[3], got[4]);
	for (int i = 0; i < BATCH; i++)
		lab_close(&conn[i]);
}

/* --- errors are their sockets' */

#define LISTENS 3
#define URGENT	10
#define NO_FD	17
#define REPAIRS 25

static void errors(enum cman_bulk_way way, unsigned int threads)
{
	static const int odd[] = { LISTENS, URGENT, NO_FD, REPAIRS };
	static int expect[BATCH];
	struct cman_bulk *bulk = open_bulk(threads, way);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool good = true;
	size_t failed;

	if (listener < 0 || listen(listener, 1) < 0)
		lab_die("listen");
	for (int i = 0; i < BATCH; i++)
		lab_connect(&conn[i], LAB_V4, true);
	make_items();
	item[LISTENS].fd = listener;
	item[NO_FD].fd = -1;
	if (set(conn[REPAIRS].host, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON))
		lab_die("TCP_REPAIR");
	lab_enter_peer();
	if (send(conn[URGENT].peer, "!", 1, MSG_OOB) != 1)
		lab_die("urgent");
	lab_leave_peer();
	usleep(20000);
	memset(expect, 0, sizeof(expect));
	expect[LISTENS] = -ENOTCONN;
	expect[NO_FD] = -EBADF;
	expect[REPAIRS] = -EALREADY;
	failed = cman_bulk_describe(bulk, item, BATCH);
	lab_guard_close();
	failed += cman_bulk_freeze(bulk, item, BATCH);
	expect[URGENT] = -EBUSY;
	for (int i = 0; i < BATCH; i++) {
		if (item[i].err != expect[i]) {
			lab_diag("item %d: %d (%s), wanted %d", i, item[i].err,
				 item[i].err && item[i].why ? item[i].why : "", expect[i]);
			good = false;
		}
		if (item[i].err && !item[i].why)
			good = false;
	}
	good &= failed == sizeof(odd) / sizeof(odd[0]);
	cman_bulk_thaw(bulk, item, BATCH);
	if (set(conn[REPAIRS].host, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP))
		lab_die("TCP_REPAIR");
	lab_guard_open();
	/* alive, all of them; the urgent byte is no byte of the stream */
	for (int i = 0; i < BATCH; i++) {
		lab_host_write(&conn[i], 100);
		if (i != URGENT)
			lab_peer_write(&conn[i], 100);
	}
	for (int i = 0; i < BATCH; i++) {
		if (i != URGENT)
			good &= lab_settle(&conn[i], 5000);
	}
	lab_ok(good,
	       "each error is its socket's, the others are frozen, all live on: %s, %u threads",
	       way_name[way], threads);
	for (int i = 0; i < BATCH; i++)
		lab_close(&conn[i]);
	close(listener);
	cman_bulk_free(bulk);
}

/* --- speed */

static struct tcp_info info_of(int fd)
{
	struct tcp_info info;

	if (cman_repair_info(fd, &info))
		lab_die("TCP_INFO");
	return info;
}

static void speed(const char *control)
{
	struct cman_repair_image im = { 0 };
	struct cman_restore *restore, *other;
	struct cman_restore_plan plan;
	struct lab_conn c;
	const char *why = "";
	struct tcp_info info;
	char now[16] = "";
	socklen_t len = sizeof(now);
	bool restored = false, bbr = strcmp(control, "bbr") == 0;
	int err;

	err = cman_restore_open(&restore, &why);
	if (!err)
		err = cman_restore_open(&other, &why);
	lab_ok(!err, "two users of the restoring congestion control");
	if (err) {
		lab_diag("%s: %s", strerror(-err), why);
		return;
	}
	lab_connect(&c, LAB_V4, true);
	set(c.peer, SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20);
	if (setsockopt(c.host, IPPROTO_TCP, TCP_CONGESTION, control, (socklen_t)strlen(control)))
		lab_die("%s", control);
	set(c.host, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 70000);
	lab_host_write(&c, 30000);
	lab_settle(&c, 5000);
	err = cman_repair_describe(c.host, &im, &why);
	lab_guard_close();
	if (!err)
		err = cman_repair_freeze(c.host, &im, &why);
	if (!err)
		err = cman_repair_export(c.host, &im, &why);
	if (!err)
		err = cman_repair_close(c.host, &why);
	im.speed.snd_cwnd = 321;
	im.speed.snd_ssthresh = 123;
	im.speed.rtt_us = 100000;
	im.speed.delivery_rate = 200ull * im.mss * 10;
	im.speed.pacing_rate = 7000000;
	cman_restore_plan(&im, &plan);
	lab_ok(plan.cwnd == (bbr ? 210 : 321) && plan.ssthresh == 123 &&
		       plan.pacing_rate == (bbr ? 7000000 : 0),
	       "%s: a path that holds 200 segments allows a window of %u", control, plan.cwnd);
	if (!err)
		err = cman_repair_import(&im, NULL, &c.host, &why);
	/* the second one goes on when the one that has registered it goes */
	cman_restore_close(restore);
	if (!err)
		err = cman_restore(other, c.host, &im, &restored);
	if (err)
		lab_die("%s: %s", strerror(-err), why);
	info = info_of(c.host);
	getsockopt(c.host, IPPROTO_TCP, TCP_CONGESTION, now, &len);
	lab_ok(restored && info.tcpi_snd_cwnd == (bbr ? 210 : 321) &&
		       (bbr || info.tcpi_snd_ssthresh == 123) && strcmp(now, control) == 0,
	       "%s: window and threshold are the old ones, in the old congestion control", control);
	if (bbr)
		lab_ok(info.tcpi_pacing_rate == 7000000, "bbr: it begins at the old rate");
	len = sizeof(err);
	getsockopt(c.host, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &err, &len);
	lab_ok(err == 70000, "%s: TCP_NOTSENT_LOWAT is what it was", control);
	lab_guard_open();
	if (cman_repair_release(c.host, &im, NULL, &why))
		lab_die("release: %s", why);
	lab_host_write(&c, 300000);
	lab_ok(lab_settle(&c, 5000), "%s: the connection works", control);

	im.speed.snd_cwnd = 1000;
	cman_restore_plan(&im, &plan);
	lab_ok(plan.cwnd == (bbr ? 210 : 400), "%s: a window far beyond what the path holds is cut",
	       control);
	im.speed.delivery_rate = 0;
	cman_restore_plan(&im, &plan);
	lab_ok(plan.cwnd == 0, "%s: nothing in flight, nothing known: nothing is given", control);
	im.speed.snd_cwnd = 2;
	cman_restore_plan(&im, &plan);
	lab_ok(plan.cwnd == 2, "%s: after a loss it does not get more than it had", control);
	im.speed.snd_cwnd = UINT32_MAX;
	im.speed.delivery_rate = UINT64_MAX;
	im.speed.rtt_us = UINT32_MAX;
	cman_restore_plan(&im, &plan);
	lab_ok(plan.cwnd == 0, "%s: nonsense is not believed", control);
	lab_close(&c);
	cman_repair_free(&im);
	cman_restore_close(other);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: repair_bulk PEER_NAMESPACE\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	lab_init(argv[1]);
	for (int way = CMAN_BULK_SYSCALLS; way <= CMAN_BULK_WALK; way++)
		bulks[way] = open_bulk(1, way);
	lab_ok(!cman_bulk_why_syscalls(bulks[CMAN_BULK_LOOKUP]), "the BPF programs run");
	if (cman_bulk_why_syscalls(bulks[CMAN_BULK_LOOKUP]))
		lab_diag("%s", cman_bulk_why_syscalls(bulks[CMAN_BULK_LOOKUP]));
	field_by_field();
	for (int way = CMAN_BULK_AUTO; way <= CMAN_BULK_WALK; way++) {
		for (unsigned int threads = 1; threads <= 2; threads++) {
			batch(way, threads);
			errors(way, threads);
		}
	}
	/* the numbers of Documentation/repair.rst */
	count(CMAN_BULK_SYSCALLS, "empty queues", 0, 0, (unsigned int[]){ 51, 27, 3, 14, 3 });
	count(CMAN_BULK_LOOKUP, "empty queues", 0, 0, (unsigned int[]){ 3, 2, 3, 14, 3 });
	count(CMAN_BULK_SYSCALLS, "both queues", 4000, 4000, (unsigned int[]){ 51, 27, 3, 21, 5 });
	count(CMAN_BULK_LOOKUP, "both queues", 4000, 4000, (unsigned int[]){ 3, 6, 3, 21, 5 });
	speed("cubic");
	speed("bbr");
	for (int way = CMAN_BULK_SYSCALLS; way <= CMAN_BULK_WALK; way++)
		cman_bulk_free(bulks[way]);
	for (int i = 0; i < BATCH; i++)
		cman_repair_free(&image[i]);
	return lab_done();
}
