/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See lab.h. The guard is two programs of a few instructions on clsact of eth0, written by hand
 * so that they need no build step: ingress redirects to a tun device while the guard is closed;
 * egress counts what leaves meanwhile, or drops it. Only TCP is touched.
 */
#include "selftests/lib/lab.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

const char *const lab_family_name[LAB_FAMILIES] = { "IPv4", "IPv6", "v4-mapped" };

static int host_ns = -1, peer_ns = -1, tun_fd = -1, map_fd = -1;
static int tests, failed;

/* shared with the programs */
struct words {
	uint64_t park_to; /* ifindex; 0: the guard is open */
	uint64_t parked;
	uint64_t leaked;
	uint64_t mute;
	uint64_t port;	 /* of the newest connection, its listener's */
	uint64_t resets; /* of that one, both directions */
};
static volatile struct words *words;
static int tun_index;

/* --- TAP */

void lab_ok(bool ok, const char *format, ...)
{
	va_list ap;

	tests++;
	failed += !ok;
	printf("%sok %d - ", ok ? "" : "not ", tests);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void lab_diag(const char *format, ...)
{
	va_list ap;

	fputs("# ", stdout);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void lab_die(const char *format, ...)
{
	va_list ap;

	fputs("Bail out! ", stdout);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf(" (%s)\n", strerror(errno));
	exit(1);
}

int lab_done(void)
{
	printf("1..%d\n", tests);
	return failed || !tests;
}

/* --- the guard */

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		lab_die("%s", path);
	close(fd);
}

#define INSN(c, d, s, o, i) \
	((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })
#define MOV(d, s)	   INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOVI(d, i)	   INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define LDW(d, s, o)	   INSN(BPF_LDX | BPF_MEM | BPF_W, d, s, o, 0)
#define LDDW(d, s, o)	   INSN(BPF_LDX | BPF_MEM | BPF_DW, d, s, o, 0)
#define JEQI(d, i, o)	   INSN(BPF_JMP | BPF_JEQ | BPF_K, d, 0, o, i)
#define JNEI(d, i, o)	   INSN(BPF_JMP | BPF_JNE | BPF_K, d, 0, o, i)
#define JEQ(d, s, o)	   INSN(BPF_JMP | BPF_JEQ | BPF_X, d, s, o, 0)
#define JA(o)		   INSN(BPF_JMP | BPF_JA, 0, 0, o, 0)
#define ANDI(d, i)	   INSN(BPF_ALU64 | BPF_AND | BPF_K, d, 0, 0, i)
#define LD_ABS(size, o)	   INSN(BPF_LD | BPF_ABS | (size), 0, 0, 0, o)
#define LD_IND(size, s, o) INSN(BPF_LD | BPF_IND | (size), 0, s, 0, o)
#define ADD_TO(d, o, s)	   INSN(BPF_STX | BPF_ATOMIC | BPF_DW, d, s, o, BPF_ADD)
#define CALL(f)		   INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define EXIT		   INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
/* the address of the map's only value; two instructions */
#define VALUE(d) \
	INSN(BPF_LD | BPF_DW | BPF_IMM, d, BPF_PSEUDO_MAP_VALUE, 0, map_fd), INSN(0, 0, 0, 0, 0)
#define WORD(name) ((int)offsetof(struct words, name))

static int load(const struct bpf_insn *insns, size_t n)
{
	char log[16384] = "";
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .log_buf = log, .log_size = sizeof(log),
		    .log_level = 1);
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "lab", "GPL", insns, n, &opts);

	if (fd < 0)
		lab_die("program: %s", log);
	return fd;
}

static void attach(int ifindex, enum bpf_tc_attach_point point, int prog_fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = prog_fd);

	if (bpf_tc_attach(&hook, &opts) < 0)
		lab_die("bpf_tc_attach");
}

static void guard_init(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR };
	int ifindex = (int)if_nametoindex("eth0"), s;

	LIBBPF_OPTS(bpf_map_create_opts, mmapable, .map_flags = BPF_F_MMAPABLE);

	map_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "lab", 4, sizeof(*words), 1, &mmapable);
	if (map_fd < 0)
		lab_die("map");
	words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	if (words == MAP_FAILED)
		lab_die("mmap");
	tun_fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	strcpy(ifr.ifr_name, "park0");
	if (tun_fd < 0 || ioctl(tun_fd, TUNSETIFF, &ifr) < 0 ||
	    ioctl(tun_fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN) < 0)
		lab_die("tun");
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ifr.ifr_qlen = 16384;
	if (s < 0 || ioctl(s, SIOCSIFTXQLEN, &ifr) < 0)
		lab_die("queue length");
	ifr.ifr_flags = IFF_UP;
	if (ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		lab_die("tun up");
	close(s);
	write_file("/proc/sys/net/ipv4/conf/all/rp_filter", "0");
	write_file("/proc/sys/net/ipv4/conf/park0/rp_filter", "0");

	tun_index = (int)if_nametoindex("park0");

/* to 34 when it is not TCP; r8 the words; r7 is it the newest connection's; counts its RST */
#define TCP_ONLY \
	/*  0 */ MOV(6, 1), /*  1 */ LDW(7, 1, offsetof(struct __sk_buff, protocol)), \
		/*  2 */ JEQI(7, htons(ETH_P_IP), 4), /*  3 */ JNEI(7, htons(ETH_P_IPV6), 30), \
		/*  4 */ LD_ABS(BPF_B, ETH_HLEN + 6), /*  5 */ MOVI(9, ETH_HLEN + 40), \
		/*  6 */ JA(2), /*  7 */ LD_ABS(BPF_B, ETH_HLEN + 9), \
		/*  8 */ MOVI(9, ETH_HLEN + 20), /*  9 */ JNEI(0, IPPROTO_TCP, 24), \
		/* 10 */ VALUE(8), /* 12 */ LD_IND(BPF_H, 9, 0), /* 13 */ MOV(7, 0), \
		/* 14 */ LD_IND(BPF_H, 9, 2), /* 15 */ LDDW(1, 8, WORD(port)), \
		/* 16 */ JEQ(7, 1, 3), /* 17 */ JEQ(0, 1, 2), /* 18 */ MOVI(7, 0), /* 19 */ JA(6), \
		/* 20 */ MOVI(7, 1), /* 21 */ LD_IND(BPF_B, 9, 13), /* 22 */ ANDI(0, 0x04), \
		/* 23 */ JEQI(0, 0, 2), /* 24 */ MOVI(1, 1), /* 25 */ ADD_TO(8, WORD(resets), 1)

	const struct bpf_insn in[] = {
		TCP_ONLY,
		/* 26 */ LDDW(2, 8, WORD(park_to)),
		/* 27 */ JEQI(2, 0, 6),
		/* 28 */ MOVI(1, 1),
		/* 29 */ ADD_TO(8, WORD(parked), 1),
		/* 30 */ MOV(1, 2),
		/* 31 */ MOVI(2, 0),
		/* 32 */ CALL(BPF_FUNC_redirect),
		/* 33 */ EXIT,
		/* 34 */ MOVI(0, 0), /* TC_ACT_OK */
		/* 35 */ EXIT,
	};
	const struct bpf_insn out[] = {
		TCP_ONLY,
		/* 26 */ LDDW(2, 8, WORD(park_to)),
		/* 27 */ JEQI(2, 0, 2),
		/* 28 */ MOV(1, 7),
		/* 29 */ ADD_TO(8, WORD(leaked), 1),
		/* 30 */ LDDW(2, 8, WORD(mute)),
		/* 31 */ JEQI(2, 0, 2),
		/* 32 */ MOVI(0, 2), /* TC_ACT_SHOT */
		/* 33 */ EXIT,
		/* 34 */ MOVI(0, 0),
		/* 35 */ EXIT,
	};
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);

	/* what a run before this one has left */
	libbpf_set_print(NULL);
	bpf_tc_hook_destroy(&hook);
	if (bpf_tc_hook_create(&hook) < 0)
		lab_die("clsact");
	attach(ifindex, BPF_TC_INGRESS, load(in, sizeof(in) / sizeof(in[0])));
	attach(ifindex, BPF_TC_EGRESS, load(out, sizeof(out) / sizeof(out[0])));
}

/* every CPU passes through the scheduler: no packet is between program and socket any more */
static void fence(void)
{
	cpu_set_t all, one;

	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		lab_die("affinity");
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one) < 0)
			lab_die("affinity");
	}
	sched_setaffinity(0, sizeof(all), &all);
}

void lab_guard_close(void)
{
	words->parked = 0;
	words->leaked = 0;
	words->park_to = (uint64_t)tun_index;
	fence();
}

static void unpark(bool lose)
{
	static char packet[70000];
	ssize_t n;

	while ((n = read(tun_fd, packet, sizeof(packet))) > 0) {
		if (!lose && write(tun_fd, packet, (size_t)n) != n)
			lab_die("unparking %zd bytes", n);
	}
}

static void guard_open(bool lose)
{
	unpark(lose);
	words->park_to = 0;
	fence();
	unpark(lose);
}

void lab_guard_open(void)
{
	guard_open(false);
}

void lab_guard_open_losing(void)
{
	guard_open(true);
}

void lab_mute(bool on)
{
	words->mute = on;
	fence();
}

uint64_t lab_leaked(void)
{
	return words->leaked;
}

uint64_t lab_parked(void)
{
	return words->parked;
}

/* --- namespaces */

void lab_init(const char *peer)
{
	host_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	peer_ns = open(peer, O_RDONLY | O_CLOEXEC);
	if (host_ns < 0 || peer_ns < 0)
		lab_die("namespaces");
	guard_init();
}

void lab_enter_peer(void)
{
	if (setns(peer_ns, CLONE_NEWNET) < 0)
		lab_die("setns");
}

void lab_leave_peer(void)
{
	if (setns(host_ns, CLONE_NEWNET) < 0)
		lab_die("setns");
}

static void add_counters(struct lab_counters *c)
{
	char names[2048], values[2048], *sn, *sv, *n, *v;
	FILE *f = fopen("/proc/thread-self/net/snmp", "re");

	if (!f)
		lab_die("snmp");
	while (fgets(names, sizeof(names), f) && fgets(values, sizeof(values), f)) {
		if (strncmp(names, "Tcp:", 4) != 0)
			continue;
		n = strtok_r(names, " \n", &sn);
		v = strtok_r(values, " \n", &sv);
		for (; n && v; n = strtok_r(NULL, " \n", &sn), v = strtok_r(NULL, " \n", &sv)) {
			if (strcmp(n, "RetransSegs") == 0)
				c->retransmits += strtoull(v, NULL, 10);
		}
	}
	fclose(f);
}

struct lab_counters lab_counters(void)
{
	struct lab_counters c = { .resets = words->resets };

	add_counters(&c);
	lab_enter_peer();
	add_counters(&c);
	lab_leave_peer();
	return c;
}

int lab_open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	closedir(d);
	return n;
}

uint64_t lab_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* --- a connection */

static socklen_t address(struct sockaddr_storage *ss, int family, const char *text, uint16_t port)
{
	memset(ss, 0, sizeof(*ss));
	ss->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)ss;

		in->sin_port = htons(port);
		inet_pton(family, text, &in->sin_addr);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

	in6->sin6_port = htons(port);
	inet_pton(family, text, &in6->sin6_addr);
	return sizeof(*in6);
}

static int listen_at(int family, const char *text, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, family, text, port);
	int one = 1, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 8) < 0)
		lab_die("listen at %s", text);
	return fd;
}

static int connect_to(int family, const char *text, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, family, text, port);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&ss, len) < 0)
		lab_die("connect to %s", text);
	return fd;
}

static int take(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		lab_die("accept");
	return fd;
}

void lab_connect(struct lab_conn *c, enum lab_family family, bool host_accepts)
{
	static uint16_t port = 20000;
	const char *host_addr = family == LAB_V4 ? "10.99.0.1" : "fd99::1";
	const char *peer_addr = family == LAB_V4 ? "10.99.0.2" : "fd99::2";
	int host_af = family == LAB_V4 ? AF_INET : AF_INET6;
	int peer_af = family == LAB_V6 ? AF_INET6 : AF_INET;
	int l;

	*c = (struct lab_conn){ .host = -1 };
	if (++port == 30000)
		port = 20001;
	words->port = port;
	words->resets = 0;
	if (host_accepts) {
		l = listen_at(host_af, family == LAB_MAPPED ? "::" : host_addr, port);
		lab_enter_peer();
		c->peer = connect_to(peer_af, family == LAB_MAPPED ? "10.99.0.1" : host_addr, port);
		lab_leave_peer();
		c->host = take(l);
	} else {
		lab_enter_peer();
		l = listen_at(peer_af, family == LAB_MAPPED ? "10.99.0.2" : peer_addr, port);
		lab_leave_peer();
		c->host = connect_to(host_af, family == LAB_MAPPED ? "::ffff:10.99.0.2" : peer_addr,
				     port);
		c->peer = take(l);
	}
	close(l);
	fcntl(c->host, F_SETFL, O_NONBLOCK);
	fcntl(c->peer, F_SETFL, O_NONBLOCK);
}

void lab_close(struct lab_conn *c)
{
	/* the peer first: TIME_WAIT, if any, is in its namespace */
	close(c->peer);
	close(c->host);
}

/* a sequence that repeats only after 2^32 bytes or so, different for the two directions */
static void pattern(uint8_t *to, size_t len, uint64_t at, int direction)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t x = (at + i) * 0x9e3779b97f4a7c15ull + (uint64_t)direction * 0x85ebca6b;

		to[i] = (uint8_t)(x >> 37 ^ x >> 13);
	}
}

static size_t put(int fd, uint64_t *at, size_t len, int direction)
{
	uint8_t bytes[16384];
	size_t done = 0;

	while (done < len) {
		size_t want = len - done < sizeof(bytes) ? len - done : sizeof(bytes);
		ssize_t n;

		pattern(bytes, want, *at, direction);
		n = send(fd, bytes, want, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			lab_die("send");
		*at += (uint64_t)n;
		done += (size_t)n;
	}
	return done;
}

static bool draw(int fd, uint64_t *at, bool *ret_eof, int direction, const char *who)
{
	uint8_t bytes[16384], want[16384];

	for (;;) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			lab_diag("%s: recv: %s", who, strerror(errno));
			return false;
		}
		if (n == 0) {
			*ret_eof = true;
			return true;
		}
		pattern(want, (size_t)n, *at, direction);
		if (memcmp(bytes, want, (size_t)n) != 0) {
			lab_diag("%s: wrong byte in [%llu, +%zd)", who, (unsigned long long)*at, n);
			return false;
		}
		*at += (uint64_t)n;
	}
}

size_t lab_host_write(struct lab_conn *c, size_t len)
{
	return put(c->host, &c->host_sent, len, 0);
}

size_t lab_peer_write(struct lab_conn *c, size_t len)
{
	return put(c->peer, &c->peer_sent, len, 1);
}

void lab_host_shut(struct lab_conn *c)
{
	if (shutdown(c->host, SHUT_WR) < 0)
		lab_die("shutdown");
	c->host_shut = true;
}

void lab_peer_shut(struct lab_conn *c)
{
	if (shutdown(c->peer, SHUT_WR) < 0)
		lab_die("shutdown");
	c->peer_shut = true;
}

bool lab_read_peer(struct lab_conn *c)
{
	return draw(c->peer, &c->peer_read, &c->peer_eof, 0, "peer");
}

bool lab_read(struct lab_conn *c)
{
	return draw(c->host, &c->host_read, &c->host_eof, 1, "host") && lab_read_peer(c);
}

bool lab_settle(struct lab_conn *c, unsigned int timeout_ms)
{
	uint64_t end = lab_now_us() + timeout_ms * 1000ull;

	for (;;) {
		struct pollfd p[2] = {
			{ .fd = c->host_eof ? -1 : c->host, .events = POLLIN },
			{ .fd = c->peer_eof ? -1 : c->peer, .events = POLLIN },
		};

		if (!lab_read(c))
			return false;
		if (c->host_read == c->peer_sent && c->peer_read == c->host_sent &&
		    c->host_eof == c->peer_shut && c->peer_eof == c->host_shut)
			return true;
		if (lab_now_us() > end)
			break;
		poll(p, 2, 20);
	}
	lab_diag("after %u ms: host has %llu of %llu%s, peer has %llu of %llu%s", timeout_ms,
		 (unsigned long long)c->host_read, (unsigned long long)c->peer_sent,
		 c->host_eof ? " and EOF" : "", (unsigned long long)c->peer_read,
		 (unsigned long long)c->host_sent, c->peer_eof ? " and EOF" : "");
	return false;
}

static int ask(int fd, unsigned long request)
{
	int value;

	if (ioctl(fd, request, &value) < 0)
		lab_die("ioctl");
	return value;
}

int lab_inq(int fd)
{
	return ask(fd, SIOCINQ);
}

int lab_outq(int fd)
{
	return ask(fd, SIOCOUTQ);
}

int lab_unsent(int fd)
{
	return ask(fd, SIOCOUTQNSD);
}

int lab_state(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		lab_die("TCP_INFO");
	return info.tcpi_state;
}

static bool wait_for(int (*what)(int), int fd, int value)
{
	uint64_t end = lab_now_us() + 3000000;

	while (what(fd) != value) {
		if (lab_now_us() > end)
			return false;
		usleep(50);
	}
	return true;
}

bool lab_wait_inq(int fd, int len)
{
	return wait_for(lab_inq, fd, len);
}

bool lab_wait_outq(int fd, int len)
{
	return wait_for(lab_outq, fd, len);
}

bool lab_wait_state(int fd, int state)
{
	return wait_for(lab_state, fd, state);
}
