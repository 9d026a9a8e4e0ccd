/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libcman's TCP_REPAIR (usr/include/cman/repair.h) on real connections: one end is moved to a new
 * socket, the other end is watched. Every move proves the same (move(), after()): same state and
 * queue lengths before the guard opens, not a packet between import and release, every byte in
 * order afterwards, no RST.
 *
 * usage: repair PEER_NAMESPACE [matrix|rest]	(repair.sh)
 *
 * Failures are injected without a hook in the library: this program defines the system call
 * functions that the library uses, and each can be told to fail the n-th time.
 */
#include "cman/repair.h"
#include "selftests/lib/lab.h"
#include "usr/sys/repair_impl.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static const char *const state_name[] = {
	"",	     "ESTABLISHED", "SYN_SENT",	  "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
	"TIME_WAIT", "CLOSE",	    "CLOSE_WAIT", "LAST_ACK", "LISTEN",	   "CLOSING",
};

/* --- failing system calls */

static int fail_at, calls; /* fail_at 0: none */

static bool fails(void)
{
	if (!fail_at || ++calls != fail_at)
		return false;
	errno = ENOMEM;
	return true;
}

static long call(long nr, long a, long b, long c, long d, long e, long f)
{
	return fails() ? -1 : syscall(nr, a, b, c, d, e, f);
}

#define PASS(ret, name, nr, proto, ...) \
	ret name proto \
	{ \
		return (ret)call(SYS_##nr, __VA_ARGS__); \
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

ssize_t sendto(int fd, const void *bytes, size_t len, int flags, const struct sockaddr *to,
	       socklen_t tolen)
{
	return call(SYS_sendto, fd, P(bytes), P(len), flags, P(to), tolen);
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

int shutdown(int fd, int how)
{
	return (int)call(SYS_shutdown, fd, how, 0, 0, 0, 0);
}

int getsockname(int fd, struct sockaddr *to, socklen_t *len)
{
	return (int)call(SYS_getsockname, fd, P(to), P(len), 0, 0, 0);
}

int getpeername(int fd, struct sockaddr *to, socklen_t *len)
{
	return (int)call(SYS_getpeername, fd, P(to), P(len), 0, 0, 0);
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

void *__libc_realloc(void *p, size_t len);

void *realloc(void *p, size_t len)
{
	return fails() ? NULL : __libc_realloc(p, len);
}

/* --- one move */

/* What is seen of the connection while the guard is closed. */
struct look {
	int state, inq, outq, unsent;
};

static struct look look(int fd)
{
	return (struct look){
		.state = lab_state(fd),
		.inq = lab_inq(fd),
		.outq = lab_outq(fd),
		.unsent = lab_unsent(fd),
	};
}

static bool same_look(const char *what, struct look a, struct look b)
{
	if (a.state == b.state && a.inq == b.inq && a.outq == b.outq && a.unsent == b.unsent)
		return true;
	lab_diag("%s: before: %s in %d out %d unsent %d; after: %s in %d out %d unsent %d", what,
		 state_name[a.state], a.inq, a.outq, a.unsent, state_name[b.state], b.inq, b.outq,
		 b.unsent);
	return false;
}

static void differs(void *arg, const char *name, int64_t a, int64_t b)
{
	lab_diag("%s: option %s was %lld, is %lld", (const char *)arg, name, (long long)a,
		 (long long)b);
}

static struct cman_repair_image image;

/*
 * Freeze, export, close, import, release; the guard is closed before and stays so. A release may
 * send unsent bytes at once: how many is not compared then.
 */
static bool move(struct lab_conn *c, const char *what)
{
	struct cman_repair_image now = { 0 };
	struct look before = look(c->host), after;
	const char *why = "";
	uint64_t leaked;
	bool good = true;
	int err, n;

	cman_repair_reset(&image);
	err = cman_repair_freeze(c->host, &image, &why);
	if (!err)
		err = cman_repair_export(c->host, &image, &why);
	if (!err)
		err = cman_repair_close(c->host, &why);
	if (err) {
		lab_diag("%s: export: %s: %s", what, strerror(-err), why);
		return false;
	}
	/* until here the old socket's timers may have sent something */
	leaked = lab_leaked();
	err = cman_repair_import(&image, NULL, &c->host, &why);
	if (err) {
		lab_diag("%s: import: %s: %s", what, strerror(-err), why);
		cman_repair_dump(&image, stdout);
		return false;
	}
	if (lab_leaked() != leaked) {
		lab_diag("%s: %llu packets left before the release", what,
			 (unsigned long long)(lab_leaked() - leaked));
		good = false;
	}
	n = lab_inq(c->host);
	if (n != before.inq) {
		lab_diag("%s: %d bytes to read, were %d", what, n, before.inq);
		good = false;
	}
	err = cman_repair_release(c->host, &image, NULL, &why);
	if (err) {
		lab_diag("%s: release: %s: %s", what, strerror(-err), why);
		return false;
	}
	after = look(c->host);
	if (before.unsent)
		before.unsent = after.unsent;
	if (before.state == CLOSING || before.state == LAST_ACK || before.state == FIN_WAIT1)
		before.unsent = after.unsent;
	good &= same_look(what, before, after);
	err = cman_repair_describe(c->host, &now, &why);
	if (err || cman_repair_compare(&image, &now, differs, (void *)what)) {
		lab_diag("%s: options: %s", what, err ? why : "differ");
		good = false;
	}
	return good;
}

/* Whatever can still be sent is sent, both ways; then both shut down; all must arrive. */
static bool finish(struct lab_conn *c, unsigned int timeout_ms)
{
	if (!lab_settle(c, timeout_ms))
		return false;
	if (!c->host_shut)
		lab_host_write(c, 3000);
	if (!c->peer_shut)
		lab_peer_write(c, 3000);
	if (!lab_settle(c, timeout_ms))
		return false;
	if (!c->host_shut)
		lab_host_shut(c);
	if (!c->peer_shut)
		lab_peer_shut(c);
	return lab_settle(c, timeout_ms);
}

/* --- the matrix */

enum queues { EMPTY, UNREAD, UNSENT, UNACKED, BOTH, MEGA, QUEUES };
static const char *const queues_name[QUEUES] = {
	"empty queues",		"unread bytes", "unsent bytes",
	"unacknowledged bytes", "both queues",	"1 MB each way",
};

#define MB (1 << 20)

static void buffers(int fd, int rcv, int snd)
{
	if (rcv)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcv, sizeof(rcv));
	if (snd)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &snd, sizeof(snd));
}

static bool has_own_fin(int state)
{
	return state == FIN_WAIT1 || state == FIN_WAIT2 || state == LAST_ACK || state == CLOSING;
}

/*
 * Brings a connection into the wanted state with the wanted queues; the guard is closed at the end.
 * False with *ret_why: there is no such thing.
 */
static bool arrange(struct lab_conn *c, int state, enum queues q, const char **ret_why)
{
	size_t in = q == UNREAD || q == BOTH ? 5000 : q == MEGA ? MB : 0;
	size_t out = q == UNSENT || q == MEGA ? MB : q == UNACKED ? 9000 : q == BOTH ? 60000 : 0;
	bool peer_fin = state == CLOSE_WAIT || state == LAST_ACK || state == CLOSING;

	if (state == FIN_WAIT2 && (q == UNSENT || q == UNACKED)) {
		*ret_why = "everything is acknowledged in FIN_WAIT2";
		return false;
	}
	if (state == FIN_WAIT2)
		out = 0;
	/* the peer's window closes, or not */
	buffers(c->host, q == MEGA ? 4 * MB : 0, q == MEGA || q == UNSENT ? 4 * MB : 0);
	buffers(c->peer, q == MEGA ? 100000 : 0, q == MEGA ? 4 * MB : 0);
	if (in && lab_peer_write(c, in) != in)
		lab_die("the peer cannot write %zu", in);
	if (in && !lab_wait_inq(c->host, (int)in))
		lab_die("the host has not got %zu", in);
	if (peer_fin && state != CLOSING) {
		lab_peer_shut(c);
		if (!lab_wait_state(c->host, CLOSE_WAIT))
			lab_die("no CLOSE_WAIT");
	}
	if (q == UNSENT || q == MEGA) {
		if (out && lab_host_write(c, out) != out)
			lab_die("the host cannot write");
		/* what the peer takes is acknowledged, the rest stays unsent */
		usleep(60000);
	}
	if (state == FIN_WAIT2) {
		lab_host_shut(c);
		if (!lab_wait_state(c->host, FIN_WAIT2))
			lab_die("no FIN_WAIT2");
	}
	if (state != CLOSING)
		lab_guard_close();
	if (state == CLOSING)
		lab_mute(true);
	if (q == UNACKED || q == BOTH) {
		if (out && lab_host_write(c, out) != out)
			lab_die("the host cannot write");
		usleep(1000);
	}
	if (has_own_fin(state) && state != FIN_WAIT2)
		lab_host_shut(c);
	if (state == CLOSING) {
		/* FINs that cross: the peer has not seen ours */
		lab_peer_shut(c);
		if (!lab_wait_state(c->host, CLOSING))
			lab_die("no CLOSING");
		lab_mute(false);
		lab_guard_close();
	}
	usleep(1000);
	return true;
}

static int move_once(int state, enum lab_family family, enum queues q, bool busy)
{
	struct lab_counters begin = lab_counters(), before, after;
	struct lab_conn c;
	struct look l;
	char what[128];
	uint64_t repeated, resets;
	const char *why;
	bool good = true;
	uint64_t start;

	snprintf(what, sizeof(what), "%s, %s, %s, %s peer", state_name[state],
		 lab_family_name[family], queues_name[q], busy ? "busy" : "idle");
	lab_connect(&c, family, (state + family + q) % 2 == 0);
	if (!arrange(&c, state, q, &why)) {
		lab_close(&c);
		return 0;
	}
	if (busy) {
		/* these wait in front of the guard; the peer reads, and so acknowledges, too */
		if (!c.peer_shut)
			lab_peer_write(&c, 20000);
		good = lab_read_peer(&c);
	}
	before = lab_counters();
	l = look(c.host);
	if (l.state != state) {
		lab_diag("%s: could not be arranged: it is in %s", what, state_name[l.state]);
		good = false;
	}
	start = lab_now_us();
	good = good && move(&c, what);
	if (good && busy && !c.peer_shut)
		lab_peer_write(&c, 20000);
	lab_guard_open();
	good = good && finish(&c, 10000);
	after = lab_counters();
	/*
	 * When this program is not scheduled for TCP_RTO_MIN, our FIN is repeated; the peer, which has ended, acknowledges each,
	 * and behind the first one nobody is there any more.
	 */
	repeated = state == LAST_ACK ? after.retransmits - begin.retransmits : 0;
	resets = after.resets - before.resets;
	if (resets > repeated) {
		lab_diag("%s: %llu RSTs, %llu retransmits since it began", what,
			 (unsigned long long)resets,
			 (unsigned long long)(after.retransmits - begin.retransmits));
		good = false;
	}
	lab_ok(good, "%s", what);
	if (after.retransmits != before.retransmits || !good)
		lab_diag("retransmits %llu, in %d, out %d of which unsent %d, %llu us",
			 (unsigned long long)(after.retransmits - before.retransmits), l.inq,
			 l.outq, l.unsent, (unsigned long long)(lab_now_us() - start));
	lab_close(&c);
	return (int)(after.retransmits - before.retransmits);
}

static void matrix(void)
{
	static const int states[] = { ESTABLISHED, CLOSE_WAIT, FIN_WAIT1,
				      FIN_WAIT2,   CLOSING,    LAST_ACK };
	int retransmits = 0;

	for (size_t s = 0; s < sizeof(states) / sizeof(states[0]); s++) {
		for (int f = 0; f < LAB_FAMILIES; f++) {
			for (int q = 0; q < QUEUES; q++) {
				for (int busy = 0; busy < 2; busy++)
					retransmits += move_once(states[s], f, q, busy);
			}
		}
	}
	lab_diag("retransmits in all: %d", retransmits);
}

/* --- one socket, moved again and again */

static void repeated(enum lab_family family, bool host_accepts)
{
	struct lab_counters before, after;
	struct lab_conn c;
	uint64_t start, took, total = 0;
	bool good = true;
	int i;

	lab_connect(&c, family, host_accepts);
	before = lab_counters();
	for (i = 0; i < 200 && good; i++) {
		/* growing, both ways; some of it is in the queues, some on its way */
		lab_host_write(&c, (size_t)i * 300);
		lab_peer_write(&c, (size_t)i * 200);
		if (i % 3 == 0)
			good = lab_read(&c);
		lab_guard_close();
		if (i % 2)
			lab_host_write(&c, 500);
		lab_peer_write(&c, 700);
		start = lab_now_us();
		good = good && move(&c, "repeated");
		took = lab_now_us() - start;
		total += took;
		lab_guard_open();
		if (good && i % 5 == 4)
			good = lab_settle(&c, 5000);
	}
	good = good && finish(&c, 5000);
	after = lab_counters();
	lab_ok(good && after.resets == before.resets,
	       "200 moves of one %s socket that has %s, with growing data", lab_family_name[family],
	       host_accepts ? "accepted" : "connected");
	lab_diag("moves %d, bytes %llu and %llu, retransmits %llu, RSTs %llu, a move %llu us", i,
		 (unsigned long long)c.host_sent, (unsigned long long)c.peer_sent,
		 (unsigned long long)(after.retransmits - before.retransmits),
		 (unsigned long long)(after.resets - before.resets),
		 (unsigned long long)(total / (unsigned int)(i ? i : 1)));
	lab_close(&c);
}

/* --- sequence numbers around 2^32 */

static int take_out(int fd, struct cman_repair_image *im)
{
	const char *why = "";
	int err = cman_repair_freeze(fd, im, &why);

	if (!err)
		err = cman_repair_export(fd, im, &why);
	if (!err)
		err = cman_repair_close(fd, &why);
	if (err)
		lab_diag("taking out: %s: %s", strerror(-err), why);
	return err;
}

static int put_in(struct cman_repair_image *im, int *ret_fd)
{
	const char *why = "";
	int err = cman_repair_import(im, NULL, ret_fd, &why);

	if (err)
		lab_diag("putting in: %s: %s", strerror(-err), why);
	return err;
}

/* Both ends of a fresh connection are made anew, @host_at and @peer_at being what they send next. */
static void set_sequences(struct lab_conn *c, uint32_t host_at, uint32_t peer_at)
{
	struct cman_repair_image h = { 0 }, p = { 0 };
	const char *why = "";
	uint32_t dh, dp;

	lab_guard_close();
	if (take_out(c->host, &h) || take_out(c->peer, &p))
		lab_die("cannot take the ends out");
	dh = host_at - h.send_seq;
	dp = peer_at - p.send_seq;
	h.send_seq += dh;
	h.recv_seq += dp;
	h.window.snd_wl1 += dp;
	h.window.rcv_wup += dp;
	p.send_seq += dp;
	p.recv_seq += dh;
	p.window.snd_wl1 += dh;
	p.window.rcv_wup += dh;
	if (put_in(&h, &c->host))
		lab_die("host");
	lab_enter_peer();
	if (put_in(&p, &c->peer))
		lab_die("peer");
	lab_leave_peer();
	if (cman_repair_release(c->host, &h, NULL, &why) ||
	    cman_repair_release(c->peer, &p, NULL, &why))
		lab_die("release: %s", why);
	cman_repair_free(&h);
	cman_repair_free(&p);
	lab_guard_open();
	usleep(1000);
}

static void wrap_around(void)
{
	/* what lies at 0: the first byte, the last, the FIN, a byte of a queue; half way round */
	static const uint32_t at[] = {
		0,	    0xffffffff,	    (uint32_t)-5000, (uint32_t)-9000, (uint32_t)-20000,
		0x7fffffff, (uint32_t)-9001
	};
	static const int states[] = { ESTABLISHED, CLOSE_WAIT, FIN_WAIT1,
				      FIN_WAIT2,   CLOSING,    LAST_ACK };
	static const enum queues queues[] = { EMPTY, UNREAD, UNACKED, BOTH };

	for (size_t s = 0; s < sizeof(states) / sizeof(states[0]); s++) {
		bool good = true;
		int n = 0;

		for (size_t a = 0; a < sizeof(at) / sizeof(at[0]); a++) {
			for (size_t q = 0; q < 4 && good; q++) {
				struct lab_conn c;
				const char *why;
				char what[64];

				snprintf(what, sizeof(what), "at %u, %s", at[a],
					 queues_name[queues[q]]);
				lab_connect(&c, (a + q) % 2 ? LAB_V6 : LAB_V4, true);
				set_sequences(&c, at[a], at[a]);
				if (arrange(&c, states[s], queues[q], &why)) {
					good = move(&c, what);
					lab_guard_open();
					good = good && finish(&c, 5000);
					n++;
				}
				lab_close(&c);
			}
		}
		lab_ok(good, "sequence numbers around 2^32 in %s, %d cases", state_name[states[s]],
		       n);
	}
}

/* --- what was negotiated does not depend on the sysctls of the new place */

static void sysctl(const char *name, int value)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/%s", name);
	f = fopen(path, "we");
	if (!f || fprintf(f, "%d\n", value) < 0 || fclose(f) != 0)
		lab_die("%s", path);
}

static void negotiated(const char *name, int on, const char *text)
{
	struct cman_repair_image first = { 0 };
	struct lab_conn c;
	uint64_t start;
	bool good = true;

	sysctl(name, !on);
	lab_connect(&c, LAB_V4, true);
	sysctl(name, on);
	for (int i = 0; i < 3 && good; i++) {
		lab_host_write(&c, 20000);
		lab_peer_write(&c, 20000);
		usleep(2000);
		lab_guard_close();
		good = move(&c, text);
		lab_guard_open();
		if (!i)
			first = image;
		/* by WSCALE 0/0 the option counts as negotiated afterwards: it means the same */
		if (((image.negotiated ^ first.negotiated) & ~4) || image.mss != first.mss ||
		    image.snd_wscale != first.snd_wscale || image.rcv_wscale != first.rcv_wscale) {
			lab_diag("negotiated %#x, scales %u %u, mss %u became %#x, %u %u, %u",
				 first.negotiated, first.snd_wscale, first.rcv_wscale, first.mss,
				 image.negotiated, image.snd_wscale, image.rcv_wscale, image.mss);
			good = false;
		}
	}
	start = lab_now_us();
	for (int i = 0; i < 400 && good; i++) {
		lab_host_write(&c, 10000);
		lab_peer_write(&c, 10000);
		good = lab_read(&c);
		usleep(100);
	}
	good = good && finish(&c, 10000);
	lab_ok(good, "%s", text);
	lab_diag("negotiated %#x, scales %u %u, mss %u; then %llu kB in %llu ms", first.negotiated,
		 first.snd_wscale, first.rcv_wscale, first.mss,
		 (unsigned long long)(c.host_sent + c.peer_sent) / 1000,
		 (unsigned long long)(lab_now_us() - start) / 1000);
	sysctl(name, 1);
	lab_close(&c);
}

/* --- every option with a value that it does not have by itself */

static const struct {
	int level, name;
	int64_t value; /* of an int; 8 bytes for the pacing rate */
	int id;
	bool only6;
} unusual[] = {
	{ SOL_SOCKET, SO_REUSEADDR, 1, CMAN_REPAIR_REUSEADDR, false },
	{ SOL_SOCKET, SO_REUSEPORT, 1, CMAN_REPAIR_REUSEPORT, false },
	{ IPPROTO_IP, IP_FREEBIND, 1, CMAN_REPAIR_FREEBIND, false },
	{ IPPROTO_IP, IP_TRANSPARENT, 1, CMAN_REPAIR_TRANSPARENT, false },
	{ SOL_SOCKET, SO_MARK, 77, CMAN_REPAIR_MARK_OF_SOCKET, false },
	{ IPPROTO_IP, IP_TOS, 0x28, CMAN_REPAIR_TOS, false },
	{ IPPROTO_IPV6, IPV6_TCLASS, 0x48, CMAN_REPAIR_TCLASS, true },
	{ SOL_SOCKET, SO_PRIORITY, 5, CMAN_REPAIR_PRIORITY, false },
	{ IPPROTO_IP, IP_TTL, 33, CMAN_REPAIR_TTL, false },
	{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, 34, CMAN_REPAIR_HOPLIMIT, true },
	{ IPPROTO_IP, IP_MINTTL, 3, CMAN_REPAIR_MINTTL, false },
	{ IPPROTO_IPV6, IPV6_MINHOPCOUNT, 4, CMAN_REPAIR_MINHOPCOUNT, true },
	{ IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO, CMAN_REPAIR_MTU_DISCOVER, false },
	{ IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO, CMAN_REPAIR_MTU_DISCOVER6, true },
	{ IPPROTO_IP, IP_RECVERR, 1, CMAN_REPAIR_RECVERR, false },
	{ IPPROTO_IPV6, IPV6_RECVERR, 1, CMAN_REPAIR_RECVERR6, true },
	{ IPPROTO_IPV6, 70 /* IPV6_AUTOFLOWLABEL */, 0, CMAN_REPAIR_AUTOFLOWLABEL, true },
	{ IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, CMAN_REPAIR_BIND_NO_PORT, false },
	{ IPPROTO_IP, 51 /* IP_LOCAL_PORT_RANGE */, 40000 | 50000ll << 16, CMAN_REPAIR_PORT_RANGE,
	  false },
	{ SOL_SOCKET, SO_DONTROUTE, 1, CMAN_REPAIR_DONTROUTE, false },
	{ SOL_SOCKET, SO_OOBINLINE, 1, CMAN_REPAIR_OOBINLINE, false },
	{ SOL_SOCKET, SO_BUSY_POLL, 7, CMAN_REPAIR_BUSY_POLL, false },
	{ SOL_SOCKET, SO_ZEROCOPY, 1, CMAN_REPAIR_ZEROCOPY, false },
	{ SOL_SOCKET, 74 /* SO_TXREHASH */, 0, CMAN_REPAIR_TXREHASH, false },
	{ SOL_SOCKET, SO_MAX_PACING_RATE, 123456789, CMAN_REPAIR_MAX_PACING_RATE, false },
	{ IPPROTO_TCP, TCP_NODELAY, 1, CMAN_REPAIR_NODELAY, false },
	{ IPPROTO_TCP, TCP_CORK, 1, CMAN_REPAIR_CORK, false },
	{ IPPROTO_TCP, TCP_KEEPIDLE, 100, CMAN_REPAIR_KEEPIDLE, false },
	{ IPPROTO_TCP, TCP_KEEPINTVL, 11, CMAN_REPAIR_KEEPINTVL, false },
	{ IPPROTO_TCP, TCP_KEEPCNT, 4, CMAN_REPAIR_KEEPCNT, false },
	{ IPPROTO_TCP, TCP_SYNCNT, 3, CMAN_REPAIR_SYNCNT, false },
	{ IPPROTO_TCP, TCP_LINGER2, 17, CMAN_REPAIR_LINGER2, false },
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT, 3, CMAN_REPAIR_DEFER_ACCEPT, false },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, 54321, CMAN_REPAIR_USER_TIMEOUT, false },
	{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, 40000, CMAN_REPAIR_NOTSENT_LOWAT, false },
	{ IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1, CMAN_REPAIR_THIN_LINEAR, false },
	{ IPPROTO_TCP, TCP_INQ, 1, CMAN_REPAIR_INQ, false },
	{ IPPROTO_TCP, TCP_TX_DELAY, 10, CMAN_REPAIR_TX_DELAY, false },
	{ IPPROTO_TCP, 44, 5000, CMAN_REPAIR_RTO_MAX_MS, false },
	{ IPPROTO_TCP, 45, 30000, CMAN_REPAIR_RTO_MIN_US, false },
	{ IPPROTO_TCP, 46, 20000, CMAN_REPAIR_DELACK_MAX_US, false },
	{ SOL_SOCKET, SO_RCVLOWAT, 2, CMAN_REPAIR_RCVLOWAT, false },
	{ SOL_SOCKET, SO_PEEK_OFF, 0, CMAN_REPAIR_PEEK_OFF, false },
	{ SOL_SOCKET, SO_RCVBUFFORCE, 300001, CMAN_REPAIR_RCVBUF, false },
	{ SOL_SOCKET, SO_SNDBUFFORCE, 200001, CMAN_REPAIR_SNDBUF, false },
	{ IPPROTO_TCP, TCP_WINDOW_CLAMP, 150000, CMAN_REPAIR_WINDOW_CLAMP, false },
	{ SOL_SOCKET, SO_KEEPALIVE, 1, CMAN_REPAIR_KEEPALIVE, false },
};

static void options(enum lab_family family)
{
	struct cman_repair_image before = { 0 }, plain = { 0 }, after = { 0 };
	struct timeval rcv = { 3, 250000 }, snd = { 4, 500000 };
	struct linger linger = { 1, 9 };
	uint64_t untouched;
	struct lab_conn c;
	const char *why = "";
	bool good = true;
	int err = 0, n;

	lab_connect(&c, family, true);
	cman_repair_describe(c.host, &plain, &why);
	for (size_t i = 0; i < sizeof(unusual) / sizeof(unusual[0]); i++) {
		socklen_t len = unusual[i].name == SO_MAX_PACING_RATE &&
						unusual[i].level == SOL_SOCKET ?
					8 :
					4;

		if (unusual[i].only6 && family == LAB_V4)
			continue;
		if (setsockopt(c.host, unusual[i].level, unusual[i].name, &unusual[i].value, len) <
		    0)
			lab_diag("%s: this kernel: %s", cman_repair_option_name(unusual[i].id),
				 strerror(errno));
	}
	setsockopt(c.host, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	setsockopt(c.host, SOL_SOCKET, SO_RCVTIMEO, &rcv, sizeof(rcv));
	setsockopt(c.host, SOL_SOCKET, SO_SNDTIMEO, &snd, sizeof(snd));
	setsockopt(c.host, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
	setsockopt(c.host, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 4);
	fcntl(c.host, F_SETFL, 0);
	lab_peer_write(&c, 1000);
	lab_wait_inq(c.host, 1000);
	cman_repair_describe(c.host, &before, &why);
	/* which options did this test not touch? those that cannot be changed on a connection */
	untouched = 0;
	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		if ((before.have & CMAN_REPAIR_BIT(i)) && before.option[i] == plain.option[i] &&
		    i != CMAN_REPAIR_V6ONLY && i != CMAN_REPAIR_QUICKACK &&
		    i != CMAN_REPAIR_REUSEADDR) {
			lab_diag("%s is still %lld", cman_repair_option_name(i),
				 (long long)before.option[i]);
			untouched++;
		}
	}
	lab_ok(!untouched, "%s: every option has an unusual value", lab_family_name[family]);

	for (int i = 0; i < 3 && good; i++) {
		lab_guard_close();
		good = move(&c, "options");
		lab_guard_open_losing();
	}
	err = cman_repair_describe(c.host, &after, &why);
	n = cman_repair_compare(&before, &after, differs, "options");
	lab_ok(good && !err && !n && after.have == before.have && after.nonblock == before.nonblock,
	       "%s: all %d options are the same after three moves", lab_family_name[family],
	       __builtin_popcountll(after.have) + 3);
	n = 0;
	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		if (after.option[i] != before.option[i] && i != CMAN_REPAIR_QUICKACK) {
			lab_diag("%s: %lld, then %lld", cman_repair_option_name(i),
				 (long long)before.option[i], (long long)after.option[i]);
			n++;
		}
	}
	lab_ok(n <= 2, "%s: buffers as they were, but for rounding", lab_family_name[family]);
	setsockopt(c.host, SOL_SOCKET, SO_LINGER, &(struct linger){ 0, 0 }, sizeof(linger));
	setsockopt(c.host, SOL_SOCKET, SO_DONTROUTE, &(int){ 0 }, sizeof(int));
	setsockopt(c.host, IPPROTO_TCP, TCP_CORK, &(int){ 0 }, sizeof(int));
	fcntl(c.host, F_SETFL, O_NONBLOCK);
	lab_ok(finish(&c, 5000), "%s: and bytes go on", lab_family_name[family]);
	lab_close(&c);
}

/* The options that the caller wants, and no others. */
static void wanted(void)
{
	struct cman_repair_image im = { .want = CMAN_REPAIR_BIT(CMAN_REPAIR_NODELAY) };
	struct lab_conn c;
	const char *why = "";
	int err;

	lab_connect(&c, LAB_V4, true);
	err = cman_repair_describe(c.host, &im, &why);
	lab_ok(!err && (im.have & CMAN_REPAIR_BIT(CMAN_REPAIR_NODELAY)) &&
		       !(im.have & CMAN_REPAIR_BIT(CMAN_REPAIR_TTL)),
	       "only the wanted options are read");
	lab_close(&c);
}

/* --- refusals */

static void refused(int fd, int want, const char *reason, const char *what)
{
	struct cman_repair_image im = { 0 };
	const char *why = "no reason";
	int repair = 0, err = cman_repair_check(fd, &why);
	socklen_t len = sizeof(repair);

	lab_ok(err == want && strstr(why, reason), "%s is refused", what);
	lab_diag("%s: %s", strerror(-err), why);
	if (err != -EALREADY) {
		getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &repair, &len);
		lab_ok(!repair, "%s: not in repair", what);
	}
	cman_repair_free(&im);
}

/* freeze() alone must refuse too what could not be exported */
static void not_frozen(int fd, int want, const char *what)
{
	struct cman_repair_image im = { 0 };
	const char *why = "no reason";

	lab_ok(cman_repair_freeze(fd, &im, &why) == want, "%s does not freeze", what);
}

static int with_capabilities(uint32_t drop, int (*what)(struct lab_conn *), struct lab_conn *c)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
		struct __user_cap_data_struct data[2];

		syscall(SYS_capget, &head, data);
		data[0].effective &= ~(1u << drop);
		syscall(SYS_capset, &head, data);
		_exit(what(c));
	}
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

static int check_says_eperm(struct lab_conn *c)
{
	const char *why = "";

	return cman_repair_check(c->host, &why) == -EPERM && strstr(why, "CAP_NET_ADMIN") ? 0 : 1;
}

static int import_says_eperm(struct lab_conn *c)
{
	const char *why = "";
	int fd;

	(void)c;
	return cman_repair_import(&image, NULL, &fd, &why) == -EPERM && strstr(why, "CAP_NET_RAW") ?
		       0 :
		       1;
}

static void refusals(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(9) };
	struct sock_filter pass[] = { { BPF_RET | BPF_K, 0, 0, 0xffffffff } };
	struct sock_fprog filter = { 1, pass };
	struct tcp_md5sig md5 = { .tcpm_keylen = 3, .tcpm_key = "key" };
	struct cman_repair_image im = { 0 };
	struct lab_conn c;
	const char *why = "";
	int fd, l, pipe_fd[2], size;
	socklen_t len;

	inet_pton(AF_INET, "10.99.0.77", &at.sin_addr);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	refused(fd, -ENOTCONN, "not connected", "a new socket");
	if (listen(fd, 1) == 0) {
		refused(fd, -EOPNOTSUPP, "listening", "a listener");
		not_frozen(fd, -EOPNOTSUPP, "a listener");
	}
	close(fd);

	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(fd, (struct sockaddr *)&at, sizeof(at));
	refused(fd, -EOPNOTSUPP, "handshake", "SYN_SENT");
	close(fd);

	fd = socket(AF_INET, SOCK_DGRAM, 0);
	refused(fd, -EOPNOTSUPP, "not a TCP", "a UDP socket");
	close(fd);
	if (pipe(pipe_fd) == 0) {
		why = "";
		lab_ok(cman_repair_check(pipe_fd[0], &why) == -ENOTSOCK &&
			       strstr(why, "not a socket"),
		       "a pipe is refused");
		close(pipe_fd[0]);
		close(pipe_fd[1]);
	}
	lab_ok(cman_repair_check(-1, &why) == -EBADF, "no descriptor is refused");
	lab_ok(cman_repair_check(-1, NULL) == -EBADF, "a reason need not be asked for");

	fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	if (fd >= 0)
		refused(fd, -EOPNOTSUPP, "MPTCP", "an MPTCP socket");
	else
		lab_diag("this kernel has no MPTCP");
	close(fd);

	/* MD5: keys at both ends, on the listener */
	memcpy(&md5.tcpm_addr, &(struct sockaddr_in){ .sin_family = AF_INET }, sizeof(at));
	inet_pton(AF_INET, "127.0.0.1", &((struct sockaddr_in *)&md5.tcpm_addr)->sin_addr);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l = socket(AF_INET, SOCK_STREAM, 0);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	len = sizeof(at);
	if (setsockopt(l, IPPROTO_TCP, TCP_MD5SIG, &md5, sizeof(md5)) == 0 &&
	    setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &md5, sizeof(md5)) == 0) {
		at.sin_port = 0;
		if (bind(l, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(l, 1) < 0 ||
		    getsockname(l, (struct sockaddr *)&at, &len) < 0 ||
		    connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
			lab_die("MD5");
		refused(fd, -EOPNOTSUPP, "MD5", "a connection with MD5 keys");
	} else {
		lab_diag("this kernel has no TCP_MD5SIG");
	}
	close(fd);
	close(l);

	for (int family = 0; family < LAB_FAMILIES; family++) {
		lab_connect(&c, family, family % 2);
		lab_ok(cman_repair_check(c.host, &why) == 0, "%s: an ordinary connection may move",
		       lab_family_name[family]);
		setsockopt(c.host, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 4);
		lab_ok(cman_repair_check(c.host, &why) == 0, "%s: one bound to a device too",
		       lab_family_name[family]);
		lab_close(&c);
	}

	lab_connect(&c, LAB_V4, true);
	setsockopt(c.host, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
	refused(c.host, -EOPNOTSUPP, "filter", "a socket with a filter");
	setsockopt(c.host, SOL_SOCKET, SO_DETACH_FILTER, &filter, sizeof(filter));
	if (send(c.peer, "urgent", 6, MSG_OOB) != 6 || !lab_wait_inq(c.host, 5))
		lab_die("urgent data");
	refused(c.host, -EBUSY, "urgent", "urgent data");
	not_frozen(c.host, -EBUSY, "urgent data");
	/* read by recv(MSG_OOB), but still between the bytes of the queue */
	size = (int)recv(c.host, &(char){ 0 }, 1, MSG_OOB);
	send(c.peer, "more", 4, 0);
	usleep(10000);
	if (size == 1 && cman_repair_freeze(c.host, &im, &why) == 0) {
		lab_ok(cman_repair_export(c.host, &im, &why) == -EBUSY,
		       "a gap of urgent data in the receive queue is noticed");
		lab_ok(cman_repair_thaw(c.host, &im, &why) == 0, "and thaws");
	}
	lab_close(&c);

	lab_connect(&c, LAB_V4, true);
	lab_ok(with_capabilities(CAP_NET_ADMIN, check_says_eperm, &c) == 0,
	       "without CAP_NET_ADMIN it is refused");
	cman_repair_reset(&im);
	if (cman_repair_freeze(c.host, &im, &why))
		lab_die("freeze: %s", why);
	refused(c.host, -EALREADY, "in repair", "a socket in repair");
	lab_ok(cman_repair_thaw(c.host, &im, &why) == 0, "a frozen socket thaws");
	lab_ok(cman_repair_close(c.host, &why) == -EPERM && fcntl(c.host, F_GETFD) >= 0,
	       "a socket that is not in repair is not closed");
	lab_peer_shut(&c);
	lab_wait_state(c.host, CLOSE_WAIT);
	lab_guard_close();
	cman_repair_reset(&image);
	if (take_out(c.host, &image))
		lab_die("CLOSE_WAIT");
	lab_ok(with_capabilities(CAP_NET_RAW, import_says_eperm, &c) == 0,
	       "half-closed, without CAP_NET_RAW: refused by import");
	if (put_in(&image, &c.host) || cman_repair_release(c.host, &image, NULL, &why))
		lab_die("import");
	lab_guard_open();
	lab_ok(finish(&c, 5000), "and imported with it");
	close(c.peer);
	lab_wait_state(c.host, CLOSE);
	refused(c.host, -ENOTCONN, "not connected", "a connection that is over");
	close(c.host);

	/* the same four-tuple twice */
	lab_connect(&c, LAB_V4, true);
	lab_guard_close();
	cman_repair_reset(&image);
	if (take_out(c.host, &image) || put_in(&image, &c.host))
		lab_die("move");
	lab_ok(cman_repair_import(&image, NULL, &fd, &why) == -EADDRNOTAVAIL,
	       "an image whose connection is here is refused");
	lab_diag("%s", why);
	image.local_addr[15] = 99;
	lab_ok(cman_repair_import(&image, NULL, &fd, &why) < 0,
	       "an image whose address is not here is refused");
	lab_diag("%s", why);
	image.local_addr[15] = 1;
	image.unsent = 1;
	lab_ok(cman_repair_import(&image, NULL, &fd, &why) == -EINVAL,
	       "an image that contradicts itself is refused");
	image.unsent = 0;
	if (cman_repair_release(c.host, &image, NULL, &why))
		lab_die("release");
	lab_guard_open();
	lab_ok(finish(&c, 5000), "and the connection goes on");
	lab_close(&c);
}

/* --- the ways back */

static void ways_back(int state, enum queues q)
{
	struct lab_counters before, after;
	struct cman_repair_image im = { 0 }, options_before = { 0 }, options_after = { 0 };
	struct lab_conn c;
	const char *why = "";
	uint64_t leaked;
	bool good;
	int fd, fds, err;

	lab_connect(&c, LAB_V6, true);
	before = lab_counters();
	fds = lab_open_fds();
	if (!arrange(&c, state, q, &why))
		lab_die("%s", why);
	cman_repair_describe(c.host, &options_before, &why);
	/* freeze, thaw; freeze, export, thaw */
	good = true;
	for (int i = 0; i < 4 && good; i++) {
		err = cman_repair_freeze(c.host, &im, &why);
		if (!err && i % 2)
			err = cman_repair_export(c.host, &im, &why);
		if (!err)
			err = cman_repair_thaw(c.host, &im, &why);
		if (err)
			lab_diag("%s: %s", strerror(-err), why);
		good = !err;
	}
	cman_repair_describe(c.host, &options_after, &why);
	good = good && !cman_repair_compare(&options_before, &options_after, differs, "thaw");
	lab_ok(good, "%s, %s: frozen, exported and thawed", state_name[state], queues_name[q]);
	/* abort, and import again; a duplicate of the descriptor does not keep the old one alive */
	cman_repair_reset(&im);
	fd = dup(c.host);
	leaked = lab_leaked();
	good = !take_out(c.host, &im);
	good = good && lab_state(fd) == CLOSE;
	for (int i = 0; i < 3 && good; i++)
		good = !put_in(&im, &c.host) && !cman_repair_abort(c.host, &why);
	good = good && lab_leaked() == leaked && !put_in(&im, &c.host) &&
	       !cman_repair_release(c.host, &im, NULL, &why);
	close(fd);
	lab_guard_open();
	good = good && finish(&c, 10000);
	after = lab_counters();
	lab_ok(good && after.resets == before.resets && lab_open_fds() == fds,
	       "%s, %s: closed for a duplicate too, imported, aborted, imported again",
	       state_name[state], queues_name[q]);
	cman_repair_free(&im);
	lab_close(&c);
}

/* --- every system call fails once */

static int export_all(int fd, struct cman_repair_image *im, const char **why)
{
	int err = cman_repair_freeze(fd, im, why);

	return err ? err : cman_repair_export(fd, im, why);
}

/* Has the call that should fail been made? The library may have put up with its failure. */
static bool reached(void)
{
	bool yes = calls >= fail_at;

	fail_at = 0;
	return yes;
}

static void fail(int nth)
{
	calls = 0;
	fail_at = nth;
}

#define MANY 500 /* calls, more than any function makes */

static void faults(int state, enum queues q)
{
	struct lab_counters before, after;
	struct cman_repair_image im = { 0 };
	struct look was, is;
	struct lab_conn c;
	const char *why = "";
	int n, nth, err, fds, fd, progress;
	uint64_t leaked;
	bool good = true;

	lab_connect(&c, LAB_V4, true);
	before = lab_counters();
	setsockopt(c.host, SOL_SOCKET, SO_PEEK_OFF, &(int){ 0 }, sizeof(int));
	if (!arrange(&c, state, q, &why))
		lab_die("%s", why);
	was = look(c.host);
	fds = lab_open_fds();
	for (n = 1; n < MANY && good; n++) {
		cman_repair_free(&im);
		fail(n);
		err = export_all(c.host, &im, &why);
		if (!reached())
			break;
		if (im.frozen)
			good = !cman_repair_thaw(c.host, &im, &why);
		is = look(c.host);
		/* between two tries it lives, and may send */
		is.unsent = was.unsent;
		good = good && (!err || err == -ENOMEM) && lab_open_fds() == fds &&
		       same_look("after a failure", was, is) && !cman_repair_check(c.host, &why);
		if (!good)
			lab_diag("export, call %d: %s: %s", n, strerror(-err), why);
	}
	lab_ok(good && n < MANY,
	       "%s: each of the %d calls of freeze and export fails: nothing has happened",
	       state_name[state], n - 1);
	if (!good || cman_repair_close(c.host, &why))
		lab_die("%s: %s", state_name[state], why);

	leaked = lab_leaked();
	fds = lab_open_fds();
	for (n = 1; n < MANY && good; n++) {
		fd = -1;
		fail(n);
		err = cman_repair_import(&im, NULL, &fd, &why);
		if (!reached())
			break;
		if (!err)
			good = !cman_repair_abort(fd, &why);
		good = good && lab_open_fds() == fds && (err ? fd == -1 && why && why[0] : fd >= 0);
		if (!good)
			lab_diag("import, call %d: %s: %s", n, strerror(-err), why);
	}
	lab_ok(good && n < MANY && lab_leaked() == leaked,
	       "%s: each of the %d calls of import fails: no descriptor, no packet",
	       state_name[state], n - 1);
	if (!good)
		lab_die("%s: %s", state_name[state], why);

	c.host = fd;
	fds = lab_open_fds();
	progress = 0;
	/* call by call: a step that has failed is made again, its next call fails; then the next step */
	for (n = 0, nth = 1; n < MANY && good; n++, nth++) {
		if (im.progress != progress)
			nth = 1;
		progress = im.progress;
		fail(nth);
		err = cman_repair_release(fd, &im, NULL, &why);
		if (!reached())
			break;
		good = lab_open_fds() == fds;
		if (!err)
			break;
	}
	if (err)
		lab_diag("release: %s: %s", strerror(-err), why);
	is = look(c.host);
	was.unsent = is.unsent;
	good = good && !err && same_look("after failures of release", was, is);
	lab_guard_open();
	good = good && finish(&c, 10000);
	after = lab_counters();
	lab_ok(good && after.resets == before.resets,
	       "%s: %d calls of release fail, and it goes on where it was", state_name[state], n);
	cman_repair_free(&im);
	lab_close(&c);
}

static void no_descriptors(void)
{
	struct rlimit old, none;
	struct lab_conn c;
	const char *why = "";
	int fd = -1, err, fds = lab_open_fds();

	lab_connect(&c, LAB_V4, true);
	lab_guard_close();
	cman_repair_reset(&image);
	if (take_out(c.host, &image))
		lab_die("move");
	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &none);
	err = cman_repair_import(&image, NULL, &fd, &why);
	setrlimit(RLIMIT_NOFILE, &old);
	lab_ok(err == -EMFILE && fd == -1, "no descriptor left: import says so");
	if (put_in(&image, &c.host) || cman_repair_release(c.host, &image, NULL, &why))
		lab_die("import");
	lab_guard_open();
	lab_ok(finish(&c, 5000), "and succeeds when there is one");
	lab_close(&c);
	lab_ok(lab_open_fds() == fds, "no descriptor was leaked");
}

/* --- odd ends */

/* The peer acknowledges a part of a segment: the kernel keeps the whole of it in the queue. */
static void partly_acked(void)
{
	struct cman_repair_image forged = { 0 };
	struct lab_conn c;
	const char *why = "";
	bool good;

	lab_connect(&c, LAB_V4, true);
	lab_guard_close();
	lab_host_write(&c, 1000);
	usleep(1000);
	good = !export_all(c.host, &forged, &why) && !cman_repair_thaw(c.host, &forged, &why);
	/* an acknowledgement of its first 300 bytes; no state changes by it */
	forged.in.len = 0;
	forged.send_seq += 299;
	good = good && cman_repair_inject_segment(c.host, &forged, NULL, ESTABLISHED, SEGMENT_ACK,
						  &why) == -ETIMEDOUT;
	good = good && lab_outq(c.host) == 700;
	lab_ok(good, "a segment of 1000 bytes of which 300 are acknowledged");
	good = move(&c, "partly acknowledged");
	lab_ok(good && image.out.len == 700, "moves with the other 700");
	lab_guard_open();
	lab_ok(finish(&c, 5000), "and all arrives");
	cman_repair_free(&forged);
	lab_close(&c);
}

/* Bytes come in all the time: the guard is open. */
static void open_guard(void)
{
	struct cman_repair_image im = { 0 };
	uint64_t start = lab_now_us(), got = 0;
	struct lab_conn c;
	const char *why = "";
	char bytes[65536];
	int err = 0, busy = 0, fine = 0;
	bool good = true;
	ssize_t n;
	pid_t pid;

	lab_connect(&c, LAB_V4, true);
	pid = fork();
	if (pid == 0) {
		fcntl(c.peer, F_SETFL, 0);
		for (int i = 0; i < 30000; i++)
			send(c.peer, "0123456789", 10, 0);
		shutdown(c.peer, SHUT_WR);
		_exit(0);
	}
	while (good && lab_now_us() - start < 20000000) {
		err = export_all(c.host, &im, &why);
		busy += err == -EBUSY;
		fine += !err;
		good = !err || err == -EBUSY;
		for (size_t i = 0; i < im.in.len && !err && good; i++)
			good = im.in.data[i] == '0' + (got + i) % 10;
		if (im.frozen)
			good = !cman_repair_thaw(c.host, &im, &why) && good;
		im.described = false;
		n = recv(c.host, bytes, sizeof(bytes), MSG_DONTWAIT);
		for (ssize_t i = 0; i < n && good; i++)
			good = bytes[i] == '0' + (int)(got + (size_t)i) % 10;
		if (n > 0)
			got += (uint64_t)n;
		if (n == 0)
			break;
	}
	if (!good)
		lab_diag("%s: %s, after %llu bytes", strerror(-err), why, (unsigned long long)got);
	waitpid(pid, NULL, 0);
	lab_ok(good && got == 300000,
	       "with an open guard export starts over or says -EBUSY, and no byte is wrong");
	lab_diag("%d exported, %d busy", fine, busy);
	cman_repair_free(&im);
	lab_close(&c);
}

/* What is injected comes from another device than the one that the socket is bound to. */
static void bound_to_device(int state)
{
	struct lab_conn c;
	const char *why;
	bool good;

	lab_connect(&c, state == LAST_ACK ? LAB_V6 : LAB_V4, true);
	setsockopt(c.host, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 4);
	if (!arrange(&c, state, UNREAD, &why))
		lab_die("%s", why);
	good = move(&c, "bound to a device");
	lab_guard_open_losing();
	lab_ok(good && finish(&c, 10000), "bound to a device, in %s", state_name[state]);
	lab_close(&c);
}

/* Held in repair: for how long is the socket silent? */
static void held_long(void)
{
	struct lab_conn c;
	const char *why = "";
	uint64_t leaked, start, first = 0;

	lab_connect(&c, LAB_V4, true);
	lab_guard_close();
	lab_host_write(&c, 9000);
	usleep(1000);
	cman_repair_reset(&image);
	if (take_out(c.host, &image))
		lab_die("move");
	leaked = lab_leaked();
	start = lab_now_us();
	if (put_in(&image, &c.host))
		lab_die("import");
	while (lab_now_us() - start < 2000000) {
		if (!first && lab_leaked() != leaked)
			first = lab_now_us() - start;
		usleep(1000);
	}
	/* 200 ms is the least retransmission timeout, and the kernel may remember the peer's RTT */
	lab_ok(!first || first > 190000, "in repair with unacknowledged bytes: silent for 190 ms");
	lab_diag("the first packet after %llu ms, in 2 s there are %llu",
		 (unsigned long long)first / 1000, (unsigned long long)(lab_leaked() - leaked));
	if (cman_repair_release(c.host, &image, NULL, &why))
		lab_die("release: %s", why);
	lab_guard_open();
	lab_ok(finish(&c, 5000), "and all bytes are right afterwards");
	lab_close(&c);
}

/* A bulk upload must not start again with the window of a new connection. */
static void receive_window(void)
{
	struct cman_repair_image after = { 0 };
	struct lab_conn c;
	const char *why = "";
	bool good = true;

	lab_connect(&c, LAB_V4, true);
	for (int i = 0; i < 2000 && good; i++) {
		lab_peer_write(&c, 20000);
		good = lab_read(&c);
	}
	good = good && lab_settle(&c, 5000);
	lab_guard_close();
	good = good && move(&c, "after an upload");
	good = good && !cman_repair_freeze(c.host, &after, &why) &&
	       !cman_repair_export(c.host, &after, &why) && !cman_repair_thaw(c.host, &after, &why);
	lab_guard_open();
	lab_ok(good && after.speed.rcv_ssthresh >= image.speed.rcv_ssthresh * 9ull / 10 &&
		       after.window.rcv_wnd == image.window.rcv_wnd,
	       "the receive window and its limit are as before");
	lab_diag("limit %u, then %u; window %u, then %u", image.speed.rcv_ssthresh,
		 after.speed.rcv_ssthresh, image.window.rcv_wnd, after.window.rcv_wnd);
	lab_ok(finish(&c, 5000), "and bytes go on");
	cman_repair_free(&after);
	lab_close(&c);
}

static int count_packets(void *arg, const void *packet, size_t len)
{
	(void)packet;
	(void)len;
	++*(int *)arg;
	return -EIO;
}

static void own_injection(void)
{
	int n = 0, err;
	struct cman_repair_inject inject = { count_packets, &n };
	struct lab_conn c;
	const char *why = "";

	lab_connect(&c, LAB_V6, true);
	lab_peer_shut(&c);
	lab_wait_state(c.host, CLOSE_WAIT);
	lab_guard_close();
	cman_repair_reset(&image);
	if (take_out(c.host, &image))
		lab_die("move");
	err = cman_repair_import(&image, &inject, &c.host, &why);
	if (!err)
		err = cman_repair_release(c.host, &image, &inject, &why);
	lab_ok(err == -EIO && n == 1, "a segment goes through the caller's function");
	err = cman_repair_release(c.host, &image, NULL, &why);
	lab_guard_open();
	lab_ok(!err && finish(&c, 5000), "release goes on after it has failed");
	lab_close(&c);
}

static void rest(void)
{
	static const int states[] = { ESTABLISHED, CLOSE_WAIT, FIN_WAIT1,
				      FIN_WAIT2,   CLOSING,    LAST_ACK };
	int fds = lab_open_fds();

	refusals();
	for (int f = 0; f < LAB_FAMILIES; f++)
		options(f);
	wanted();
	negotiated("tcp_timestamps", 1, "without timestamps, to a place that has them");
	negotiated("tcp_timestamps", 0, "with timestamps, to a place that has none");
	negotiated("tcp_sack", 1, "without SACK, to a place that has it");
	negotiated("tcp_sack", 0, "with SACK, to a place that has none");
	negotiated("tcp_window_scaling", 1, "without window scaling, to a place that has it");
	negotiated("tcp_window_scaling", 0, "with window scaling, to a place that has none");
	for (size_t s = 0; s < sizeof(states) / sizeof(states[0]); s++) {
		ways_back(states[s], states[s] == FIN_WAIT2 ? UNREAD : BOTH);
		faults(states[s], states[s] == FIN_WAIT2 ? UNREAD : BOTH);
	}
	no_descriptors();
	partly_acked();
	open_guard();
	for (size_t s = 0; s < sizeof(states) / sizeof(states[0]); s++)
		bound_to_device(states[s]);
	held_long();
	receive_window();
	own_injection();
	wrap_around();
	for (int f = 0; f < LAB_FAMILIES; f++)
		repeated(f, f % 2);
	lab_ok(lab_open_fds() == fds, "no descriptor was leaked by any test");
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "matrix";

	if (argc < 2) {
		fprintf(stderr, "usage: repair PEER_NAMESPACE [matrix|rest]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	lab_init(argv[1]);
	if (strcmp(what, "matrix") == 0) {
		matrix();
	} else {
		rest();
	}
	cman_repair_free(&image);
	return lab_done();
}
