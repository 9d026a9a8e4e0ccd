/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libcman's TCP_REPAIR (usr/include/cman/repair.h) on real connections: one end is moved to a new socket,
 * the other end is watched. Every move proves the same (move(), after()): same state and queue lengths
 * before the guard opens, not a packet while frozen or in repair, every byte in order afterwards, no RST.
 *
 * usage: repair PEER_NAMESPACE [matrix|rest|bench]	(repair.sh)
 *
 * Failures are injected without a hook in the library: this program defines the system call functions
 * that the library uses, and each can be told to fail the n-th time.
 */
#include "cman/repair.h"
#include "selftests/lib/lab.h"
#include "usr/sys/repair_impl.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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
 * Freeze, export, close, import, release; the guard is closed before and stays so. A release may send
 * unsent bytes at once: how many is not compared then.
 */
static bool move(struct lab_conn *c, const char *what)
{
	struct cman_repair_image now = { 0 };
	struct look before = look(c->host), after;
	const char *why = "";
	uint64_t leaked = lab_leaked();
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
	buffers(c->peer, q == UNSENT ? 20000 : q == MEGA ? 100000 : 0, q == MEGA ? 4 * MB : 0);
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
	struct lab_counters before, after;
	struct lab_conn c;
	struct look l;
	char what[128];
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
	if (after.resets != before.resets) {
		lab_diag("%s: %llu RSTs", what, (unsigned long long)(after.resets - before.resets));
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

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "matrix";

	if (argc < 2) {
		fprintf(stderr, "usage: repair PEER_NAMESPACE [matrix|rest|bench]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	lab_init(argv[1]);
	if (strcmp(what, "matrix") == 0)
		matrix();
	cman_repair_free(&image);
	return lab_done();
}
