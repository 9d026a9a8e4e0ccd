/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The crash safety of the data path. Under verified load, the processes of a cell are killed: at
 * every crash point of accept, relay, close, recovery and roles (alone and together with another
 * role), and at random instants. No session may be lost, no byte wrong, and at the end nothing may
 * be left over: no slot, counter, descriptor, buffer page or process.
 *
 *	datapath BIN FOLDER	BIN: cmand, cmanctl, cman-bench with crash points; FOLDER: empty
 *
 * Prints TAP. Runs in namespaces of its own (datapath.sh). Environment, for the long run:
 *	CMAN_FAULT_KILLS=N	targeted kills (default 1000)
 *	CMAN_FAULT_RANDOM=N	random kills of a gateway; a third as many of keepers, and managers
 *	CMAN_FAULT_GATEWAYS=N	cells (default 2)
 *	CMAN_FAULT_POINT=NAME	only this point
 *	CMAN_FAULT_SEED=N
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "usr/sys/crash.h"
#include "usr/sys/maps.h"

#define ALIAS	    "fault"
#define PORT_ECHO   9001
#define PORT_HOLD   9002
#define PORT_FAIL   9003
#define PORT_SOURCE 9004
#define DEADLINE_S  10 /* for a point to be reached, and for a cell to be whole again */
#define SETTLE_S    5  /* for the sessions to end after their clients have */

static const char *bin, *folder;
static struct cman_maps maps;
static uint64_t seed;

/* --- small things */

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static void pause_us(unsigned int us)
{
	struct timespec ts = { .tv_nsec = (long)us * 1000 };

	nanosleep(&ts, NULL);
}

static uint32_t below(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 16) % n);
}

static uint32_t setting(const char *name, uint32_t preset)
{
	const char *value = getenv(name);

	return value && *value ? (uint32_t)strtoul(value, NULL, 10) : preset;
}

static unsigned int tests, failed;

static bool ok(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void diag(const char *format, ...) __attribute__((format(printf, 1, 2)));

static bool ok(bool good, const char *format, ...)
{
	va_list ap;

	printf("%sok %u - ", good ? "" : "not ", ++tests);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	failed += !good;
	fflush(stdout);
	return good;
}

static void diag(const char *format, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

static void bail(const char *why)
{
	printf("Bail out! %s: %s\n", why, strerror(errno));
	exit(1);
}

/* --- processes */

static pid_t start(const char *out, const char *program, char *const argv[])
{
	char path[512];
	pid_t pid = fork();

	if (pid < 0)
		bail("fork");
	if (pid)
		return pid;
	snprintf(path, sizeof(path), "%s/%s.out", folder, out);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	snprintf(path, sizeof(path), "%s/%s", bin, program);
	execv(path, argv);
	_exit(127);
}

static int finish(pid_t pid, unsigned int seconds)
{
	uint64_t until = now_us() + seconds * 1000000ull;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (now_us() > until) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -ETIMEDOUT;
		}
		pause_us(2000);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void show(const char *out, size_t most)
{
	char path[512], line[4096];
	size_t shown = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.out", folder, out);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f) && (shown += strlen(line)) < most)
		printf("#   %s: %s%s", out, line, strchr(line, '\n') ? "" : "\n");
	if (f)
		fclose(f);
}

/* The state letter of a process, 0: there is none. */
static char process_state(pid_t pid, char comm[17])
{
	char path[64], text[512], *end;
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	end = strrchr(text, ')');
	if (!end || !end[1])
		return 0;
	if (comm) {
		char *begin = strchr(text, '(') + 1;
		size_t len = (size_t)(end - begin) > 16 ? 16 : (size_t)(end - begin);

		memcpy(comm, begin, len);
		comm[len] = 0;
	}
	return end[2];
}

static bool lives(pid_t pid)
{
	char state = pid > 0 ? process_state(pid, NULL) : 0;

	return state && state != 'Z' && state != 'X';
}

/* --- the cells */

static pid_t holder(const struct cman_cell *c, enum cman_role role)
{
	uint64_t word = __atomic_load_n(&c->role[role], __ATOMIC_ACQUIRE);

	return word & CMAN_ROLE_CLAIM ? 0 : (pid_t)(word & CMAN_ROLE_PID);
}

static uint64_t boot_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* All roles are held by living processes, nothing waits to be scanned, the gateway loops. */
static bool whole(const struct cman_cell *c, uint64_t since_ns)
{
	for (int r = 0; r < CMAN_ROLES; r++)
		if (!lives(holder(c, (enum cman_role)r)))
			return false;
	return c->sweep_done == c->sweep_wanted && c->beat_ns > since_ns &&
	       !((c->marks[CMAN_KEEPER] | c->marks[CMAN_SPARE]) & 1);
}

/* @load: a gateway with nothing to do does not turn its loop */
static bool wait_whole(bool load)
{
	uint64_t since = load ? boot_ns() : 0, until = now_us() + DEADLINE_S * 1000000ull;

	for (uint32_t n = 0; n < maps.gateways; n++) {
		while (!whole(&maps.cells[n], since)) {
			if (now_us() > until) {
				const struct cman_cell *c = &maps.cells[n];

				diag("cell %u is not whole: roles %llx %llx %llx sweep %u/%u marks %u %u",
				     n, (unsigned long long)c->role[0],
				     (unsigned long long)c->role[1], (unsigned long long)c->role[2],
				     c->sweep_done, c->sweep_wanted, c->marks[1], c->marks[2]);
				return false;
			}
			pause_us(200);
		}
	}
	return true;
}

static void stop_keepers(int signal)
{
	for (uint32_t n = 0; n < maps.gateways; n++)
		for (int r = CMAN_KEEPER; r < CMAN_ROLES; r++) {
			pid_t pid = holder(&maps.cells[n], (enum cman_role)r);

			if (pid > 0)
				kill(pid, signal);
		}
}

/* --- one session of our own: how long does a kill stall it? */

static struct {
	pthread_t thread;
	uint64_t longest; /* us, since it was set to 0 */
	bool stop, lost;
} ping;

static void *ping_loop(void *arg)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(PORT_ECHO) };
	struct timeval limit = { .tv_sec = 10 };
	unsigned char out[64], in[64];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	(void)arg;
	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	ping.lost = connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0;
	for (uint64_t n = 0; !ping.lost && !__atomic_load_n(&ping.stop, __ATOMIC_ACQUIRE); n++) {
		uint64_t begin = now_us(), took;

		for (size_t k = 0; k < sizeof(out); k++)
			out[k] = (unsigned char)(n * 7 + k);
		if (send(fd, out, sizeof(out), MSG_NOSIGNAL) != sizeof(out) ||
		    recv(fd, in, sizeof(in), MSG_WAITALL) != sizeof(in) ||
		    memcmp(in, out, sizeof(in))) {
			diag("our own session broke: %s", strerror(errno));
			ping.lost = true;
			break;
		}
		took = now_us() - begin;
		if (took > __atomic_load_n(&ping.longest, __ATOMIC_RELAXED))
			__atomic_store_n(&ping.longest, took, __ATOMIC_RELAXED);
		pause_us(400);
	}
	close(fd);
	return NULL;
}

/* Readers that stop and reset: their pipes are full then, are closed, and new ones are made. */
static pthread_t breaker;

static void *breaker_loop(void *arg)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(PORT_SOURCE) };
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	int small = 16384;
	char some[1000];

	(void)arg;
	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	while (!__atomic_load_n(&ping.stop, __ATOMIC_ACQUIRE)) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) ||
		    recv(fd, some, sizeof(some), MSG_WAITALL) != sizeof(some))
			ping.lost = true;
		pause_us(20000);
		close(fd);
		pause_us(10000);
	}
	return NULL;
}

static uint32_t gaps[100000], ngaps;

static void gap_end(void)
{
	/* the round trip that the kill fell into must have ended */
	pause_us(1500);
	if (ngaps < sizeof(gaps) / sizeof(*gaps))
		gaps[ngaps++] = (uint32_t)__atomic_load_n(&ping.longest, __ATOMIC_RELAXED);
}

static int by_size(const void *a, const void *b)
{
	return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

static void gaps_report(const char *what)
{
	if (!ngaps)
		return;
	qsort(gaps, ngaps, sizeof(*gaps), by_size);
	diag("%s: %u kills, longest round trip of a session around each: p50 %u us, p99 %u us, max %u us",
	     what, ngaps, gaps[ngaps / 2], gaps[ngaps * 99 / 100], gaps[ngaps - 1]);
	ngaps = 0;
}

/* --- targeted kills */

/* How a point is reached. */
enum way {
	BY_LOAD,    /* the load comes along */
	BY_DEATH,   /* a process of a cell is killed, and another one replaces it */
	BY_RECOVERY /* a gateway dies at the point `first`, and another one recovers */
};

static const struct target {
	enum cman_crash_point point;
	enum way way;
	enum cman_crash_point first;
	uint32_t most; /* highest count that is sure to be reached */
} targets[] = {
#define LOAD(name, most) \
	{ \
		CMAN_CRASH_##name, BY_LOAD, CMAN_CRASH_NONE, most \
	}
#define RECOVERY(name, first, most) \
	{ \
		CMAN_CRASH_##name, BY_RECOVERY, CMAN_CRASH_##first, most \
	}
#define DEATH(name) \
	{ \
		CMAN_CRASH_##name, BY_DEATH, CMAN_CRASH_NONE, 1 \
	}
	LOAD(ACCEPT_MARKED, 20),
	LOAD(ACCEPT_GOT_FD, 20),
	LOAD(ACCEPT_STORED_FD, 20),
	LOAD(ACCEPT_STORED_COOKIE, 20),
	LOAD(ACCEPT_STATE, 20),
	LOAD(ACCEPT_SOCKET, 20),
	LOAD(ACCEPT_STORED_SERVER, 20),
	LOAD(ACCEPT_CONNECTING, 20),
	LOAD(ACCEPT_UNMARKED, 20),
	LOAD(ACCEPT_EARLY_BOUND, 20),
	LOAD(ACCEPT_EARLY_READ, 20),
	LOAD(ACCEPT_CONNECTED, 20),
	LOAD(ACCEPT_RELAYING, 20),
	LOAD(ACCEPT_EPOLL_CLIENT, 20),
	LOAD(ACCEPT_EPOLL_SERVER, 20),
	LOAD(CONNECT_FAILED, 2),
	LOAD(CONNECT_FAILED_CLOSED, 2),
	LOAD(CONNECT_DONE, 3),
	LOAD(RELAY_BOUND, 200),
	LOAD(RELAY_READ, 200),
	LOAD(RELAY_SENT, 200),
	LOAD(RELAY_POSITION, 200),
	LOAD(RELAY_UNBOUND, 200),
	LOAD(RELAY_PARTIAL, 3),
	LOAD(RELAY_COPIED, 3),
	LOAD(RELAY_MOVED, 3),
	LOAD(RELAY_REST_SENT, 3),
	LOAD(SPLICE_BOUND, 10),
	LOAD(SPLICE_IN, 10),
	LOAD(SPLICE_OUT, 10),
	LOAD(SPLICE_POSITION, 10),
	LOAD(SPLICE_UNBOUND, 10),
	LOAD(EOF_READ, 20),
	LOAD(EOF_SHUTDOWN, 20),
	LOAD(EOF_STORED, 20),
	LOAD(CLOSE_STATE, 20),
	LOAD(CLOSE_PIPE, 20),
	LOAD(CLOSE_CLIENT, 20),
	LOAD(CLOSE_CLIENT_STORED, 20),
	LOAD(CLOSE_SERVER, 20),
	LOAD(CLOSE_SERVER_STORED, 20),
	LOAD(CLOSE_FREE, 20),
	LOAD(PIPE_MARKED, 2),
	LOAD(PIPE_MADE, 2),
	LOAD(PIPE_STORED, 2),
	RECOVERY(RECOVER_START, NONE, 1),
	RECOVERY(RECOVER_OWN_FDS, NONE, 1),
	RECOVERY(RECOVER_EPOLL, NONE, 1),
	RECOVERY(RECOVER_SCAN, ACCEPT_MARKED, 1),
	RECOVERY(RECOVER_ADOPT, ACCEPT_GOT_FD, 1),
	RECOVERY(RECOVER_HOT, RELAY_READ, 1),
	RECOVERY(RECOVER_SLOT, NONE, 2),
	RECOVERY(RECOVER_POSITION, RELAY_POSITION, 1),
	RECOVERY(RECOVER_POSITION, SPLICE_OUT, 1),
	RECOVERY(RECOVER_CONNECT, ACCEPT_CONNECTED, 1),
	RECOVERY(RECOVER_PIPES, SPLICE_IN, 1),
	RECOVERY(RECOVER_DONE, NONE, 1),
	/* points of the path that a recovery passes too */
	RECOVERY(RELAY_PARTIAL, RELAY_READ, 1),
	RECOVERY(RELAY_COPIED, RELAY_READ, 1),
	RECOVERY(RELAY_MOVED, RELAY_READ, 1),
	RECOVERY(RELAY_REST_SENT, RELAY_READ, 1),
	RECOVERY(ACCEPT_STORED_FD, ACCEPT_GOT_FD, 1),
	RECOVERY(ACCEPT_STATE, ACCEPT_GOT_FD, 1),
	RECOVERY(CONNECT_FAILED, ACCEPT_UNMARKED, 1),
	RECOVERY(CONNECT_FAILED_CLOSED, ACCEPT_SOCKET, 1),
	RECOVERY(CLOSE_CLIENT, CLOSE_STATE, 1),
	RECOVERY(CLOSE_FREE, CLOSE_CLIENT, 1),
	DEATH(ROLE_CLAIMED),
	DEATH(ROLE_CLONED),
	DEATH(ROLE_CHILD),
	DEATH(ROLE_TAKEN),
	DEATH(KEEPER_PIDFD),
};
#define NTARGETS (sizeof(targets) / sizeof(*targets))

static uint32_t hits[NTARGETS], doubles[NTARGETS];

static pid_t holders[CMAN_MAX_GATEWAYS][CMAN_ROLES]; /* when a point was armed */

static void arm(enum cman_crash_point point, uint32_t count, uint32_t also)
{
	struct cman_instance *i = maps.instance;

	for (uint32_t n = 0; n < maps.gateways; n++)
		for (int r = 0; r < CMAN_ROLES; r++)
			holders[n][r] = holder(&maps.cells[n], (enum cman_role)r);
	__atomic_store_n(&i->crash_point, CMAN_CRASH_NONE, __ATOMIC_SEQ_CST);
	__atomic_store_n(&i->crash_also, also, __ATOMIC_SEQ_CST);
	__atomic_store_n(&i->crash_count, count, __ATOMIC_SEQ_CST);
	__atomic_store_n(&i->crash_point, point, __ATOMIC_SEQ_CST);
}

static bool was_hit(uint32_t before)
{
	return __atomic_load_n(&maps.instance->crash_hits, __ATOMIC_ACQUIRE) != before;
}

/* The load of the service with dead targets meets them again. */
static void revive_targets(void)
{
	for (int s = 0; s < CMAN_MAX_SERVICES; s++)
		for (int t = 0; t < CMAN_MAX_TARGETS; t++)
			maps.services[s].target[t].down_until_s = 0;
}

static void wait_dead(pid_t pid)
{
	while (lives(pid))
		pause_us(50);
}

/*
 * Until those whom a point has killed are really dead: else they would count as living, and their
 * death would add to the next one's. Never three at once.
 */
static void wait_deaths(void)
{
	uint32_t also = maps.instance->crash_also;

	wait_dead((pid_t)maps.instance->crash_count);
	for (int r = 0; r < CMAN_ROLES; r++) {
		bool dead = !(also & (1u << r));

		while (!dead)
			for (uint32_t n = 0; n < maps.gateways; n++)
				dead |= !lives(holders[n][r]);
	}
}

static bool wait_hit(uint32_t before)
{
	uint64_t until = now_us() + DEADLINE_S * 1000000ull;

	while (!was_hit(before)) {
		if (now_us() > until) {
			arm(CMAN_CRASH_NONE, 0, 0);
			return false;
		}
		revive_targets();
		pause_us(200);
	}
	wait_deaths();
	return true;
}

/* A gateway dies at t->first, the next one at t->point. */
static bool one_recovery(const struct target *t, struct cman_cell *c, uint32_t count, uint32_t also)
{
	uint64_t until = now_us() + DEADLINE_S * 1000000ull;

	/* Not every death leaves what the second one needs, e.g. an accept() that found nobody. */
	while (now_us() < until) {
		uint64_t patience = now_us() + 300000;
		uint32_t before = maps.instance->crash_hits;
		bool hit = true;

		/* the keepers stand still between the two deaths, so that the second one is armed
		 * in time */
		stop_keepers(SIGSTOP);
		if (t->first) {
			arm(t->first, 1 + below(3), 0);
			hit = wait_hit(before);
		} else {
			pid_t pid = holder(c, CMAN_GATEWAY);

			kill(pid, SIGKILL);
			wait_dead(pid);
		}
		before = maps.instance->crash_hits;
		if (hit)
			arm(t->point, count, also);
		stop_keepers(SIGCONT);
		if (!hit)
			return false;
		while (now_us() < patience && !was_hit(before))
			pause_us(200);
		if (!was_hit(before))
			arm(CMAN_CRASH_NONE, 0, 0);
		pause_us(2000); /* who has just passed the look at the point is counted by now */
		if (was_hit(before)) {
			wait_deaths();
			return true;
		}
		if (!wait_whole(true))
			return false;
	}
	return false;
}

static bool one(size_t n, bool twice)
{
	const struct target *t = &targets[n];
	uint32_t before = maps.instance->crash_hits, count = 1 + below(t->most);
	struct cman_cell *c = &maps.cells[below(maps.gateways)];
	uint32_t keeper = 1u << (below(2) ? CMAN_KEEPER : CMAN_SPARE), also = twice ? keeper : 0;
	enum cman_role victim;
	bool hit;

	__atomic_store_n(&ping.longest, 0, __ATOMIC_RELAXED);
	switch (t->way) {
	case BY_LOAD:
		arm(t->point, count, also);
		hit = wait_hit(before);
		break;
	case BY_RECOVERY:
		hit = one_recovery(t, c, count, also);
		break;
	default:
		/* who acts after a death is somebody else: with both deaths one process is left */
		victim = (enum cman_role)below(CMAN_ROLES);
		if (t->point != CMAN_CRASH_ROLE_CHILD && t->point != CMAN_CRASH_ROLE_TAKEN)
			also = 0;
		else
			also &= ~(1u << victim);
		arm(t->point, 1, also);
		kill(holder(c, victim), SIGKILL);
		hit = wait_hit(before);
		twice = true;
	}
	if (!hit) {
		diag("%s was not reached within %u s (count %u)", cman_crash_name(t->point),
		     DEADLINE_S, count);
		return wait_whole(true) && false;
	}
	hits[n]++;
	doubles[n] += twice;
	hit = wait_whole(true);
	if (t->way == BY_LOAD && !twice)
		gap_end();
	if (!hit)
		diag("after %s%s", cman_crash_name(t->point), twice ? " with another death" : "");
	return hit;
}

/* The last lines of the instance's log. */
static void show_log(void)
{
	char path[512], text[3000], *line;
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/" ALIAS ".log", folder);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	lseek(fd, -(off_t)sizeof(text) + 1, SEEK_END);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		diag("  log: %s", line);
}

static uint64_t lost_count(void)
{
	uint64_t n = 0;

	for (uint32_t c = 0; c < maps.gateways; c++)
		n += maps.cells[c].lost;
	return n;
}

static void targeted(uint32_t kills)
{
	const char *only = getenv("CMAN_FAULT_POINT");
	uint32_t done = 0, unreached = 0, first_hit = maps.instance->crash_hits;
	uint64_t lost = lost_count();
	size_t order[NTARGETS];
	char never[NTARGETS * 32] = "";

	for (uint32_t round = 0; (done < kills || round < 3) && unreached < 3 && !ping.lost;
	     round++) {
		for (size_t n = 0; n < NTARGETS; n++) {
			size_t k = below((uint32_t)n + 1);

			order[n] = order[k];
			order[k] = n;
		}
		for (size_t n = 0; n < NTARGETS && unreached < 3 && !ping.lost; n++) {
			if (only && strcmp(only, cman_crash_name(targets[order[n]].point)))
				continue;
			if (!one(order[n], round ? below(3) || round == 1 : false))
				unreached++;
			if (lost_count() != lost) {
				diag("%llu sessions lost at %s",
				     (unsigned long long)(lost_count() - lost),
				     cman_crash_name(targets[order[n]].point));
				show_log();
				lost = lost_count();
				unreached = 3; /* nothing more to learn */
			}
			done++;
		}
	}
	diag("%u targeted scenarios, %u deaths at a point, %zu points by %zu ways", done,
	     maps.instance->crash_hits - first_hit, NTARGETS, NTARGETS);
	for (size_t n = 0; n < NTARGETS; n++)
		if ((hits[n] < 2 || !doubles[n]) &&
		    (!only || !strcmp(only, cman_crash_name(targets[n].point)))) {
			strcat(never, " ");
			strcat(never, cman_crash_name(targets[n].point));
		}
	ok(!*never,
	   "every crash point was reached twice or more, once together with another death%s%s",
	   *never ? ": not" : "", never);
	ok(!unreached, "and each time the cell was whole again");
}

/* --- random kills */

static char conf[512];

static bool start_manager(const char *out)
{
	char *argv[] = { (char *)"cmanctl", (char *)"startup", (char *)"-f", conf, NULL };

	return finish(start(out, "cmanctl", argv), 30) == 0;
}

static void at_random(uint32_t kills)
{
	uint32_t managers = 0, bad = 0, count[CMAN_ROLES] = { 0 };

	for (uint32_t n = 0; n < kills && bad < 3 && !ping.lost; n++) {
		struct cman_cell *c = &maps.cells[below(maps.gateways)];
		pid_t dying[2];

		pause_us(below(3000));
		__atomic_store_n(&ping.longest, 0, __ATOMIC_RELAXED);
		dying[0] = holder(c, CMAN_GATEWAY);
		dying[1] = 0;
		kill(dying[0], SIGKILL);
		count[CMAN_GATEWAY]++;
		if (n % 3 == 0) { /* in the midst of the recovery */
			enum cman_role role = n % 6 ? CMAN_KEEPER : CMAN_SPARE;

			pause_us(below(600));
			dying[1] = holder(c, role);
			kill(dying[1], SIGKILL);
			count[role]++;
		}
		wait_dead(dying[0]);
		wait_dead(dying[1]);
		bad += !wait_whole(true);
		gap_end();
	}
	for (uint32_t n = 0; n < kills / 3 && bad < 3 && !ping.lost; n++) {
		pid_t pid = (pid_t)maps.instance->manager_pid;

		pause_us(below(20000));
		kill(pid, SIGKILL);
		wait_dead(pid);
		if (n % 2) { /* and a gateway while the next one adopts */
			struct cman_cell *c = &maps.cells[below(maps.gateways)];

			pid = holder(c, CMAN_GATEWAY);
			kill(pid, SIGKILL);
			wait_dead(pid);
		}
		if (!start_manager("startup-again")) {
			diag("a manager could not be started again");
			show("startup-again", 4096);
			bad++;
		}
		managers++;
		bad += !wait_whole(true);
	}
	ok(!bad, "killed at random: %u gateways, %u keepers, %u managers: all replaced",
	   count[CMAN_GATEWAY], count[CMAN_KEEPER] + count[CMAN_SPARE], managers);
}

/* --- the load */

#define ECHO "127.0.0.1:9001"
static struct load {
	const char *name;
	const char *argv[32];
	pid_t pid;
} loads[] = {
	/* small messages, slow readers, half-closed and idle sessions */
	{ "mixed",
	  { "cman-bench",
	    "stream",
	    "-c",
	    ECHO,
	    "-n",
	    "16",
	    "-i",
	    "20",
	    "--slow",
	    "4",
	    "--slow-rate",
	    "40k",
	    "-w",
	    "512k",
	    "--half-close",
	    "4",
	    "--hold-connect",
	    "127.0.0.1:9002",
	    "--idle",
	    "8",
	    "-d",
	    "0",
	    "--drain-timeout",
	    "20",
	    "-j" },
	  0 },
	/* splice */
	{ "bulk",
	  { "cman-bench", "stream", "-c", ECHO, "-n", "2", "-i", "8", "-s", "200k", "-w", "1m",
	    "-d", "0", "--drain-timeout", "20", "-j" },
	  0 },
	/* a slow reader of much: rests wait in pipes and buffers */
	{ "blocked",
	  { "cman-bench",      "stream", "-c", ECHO, "-n", "3",
	    "--slow",	       "3",	 "-i", "5",  "-s", "40k",
	    "--slow-rate",     "2m",	 "-w", "4m", "-d", "0",
	    "--drain-timeout", "20",	 "-j" },
	  0 },
	/* young and dying sessions */
	{ "fin",
	  { "cman-bench", "probe", "-c", ECHO, "-r", "150", "--close", "wait", "--timeout", "10",
	    "-d", "0", "-j" },
	  0 },
	{ "rst",
	  { "cman-bench", "probe", "-c", ECHO, "-r", "80", "--close", "rst", "--timeout", "10",
	    "-d", "0", "-j" },
	  0 },
	{ "failover",
	  { "cman-bench", "probe", "-c", "127.0.0.1:9003", "-r", "60", "--close", "fin",
	    "--timeout", "10", "-d", "0", "-j" },
	  0 },
};
#define NLOADS (sizeof(loads) / sizeof(*loads))

static pid_t servers[3];

static void write_conf(uint32_t gateways)
{
	FILE *f;

	snprintf(conf, sizeof(conf), "%s/cman.conf", folder);
	f = fopen(conf, "w");
	if (!f)
		bail(conf);
	fprintf(f,
		"instance " ALIAS " {\n run_dir = \"%s\"\n gateways = %u\n max_sessions = 4000\n"
		" listener echo { address = \"127.0.0.1:9001\"  service = \"echo\" }\n"
		" listener hold { address = \"127.0.0.1:9002\"  service = \"hold\" }\n"
		" listener fail { address = \"127.0.0.1:9003\"  service = \"fail\" }\n"
		" listener source { address = \"127.0.0.1:9004\"  service = \"source\" }\n"
		" service source { targets = { \"127.0.0.1:7003\" } }\n"
		" service echo { targets = { \"127.0.0.1:7001\" }\n  source = \"127.0.0.7\" }\n"
		" service hold { targets = { \"127.0.0.1:7002\" } }\n"
		/* no route; refused; there */
		" service fail { targets = { \"203.0.113.9:9\", \"127.0.0.1:1\", \"127.0.0.1:7001\" }\n"
		"  balance = \"first\" }\n}\n",
		folder, gateways);
	fclose(f);
}

static bool listens(uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool there;

	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	there = !connect(fd, (struct sockaddr *)&sin, sizeof(sin));
	close(fd);
	return there;
}

static void setup(uint32_t gateways)
{
	char *echo[] = { (char *)"cman-bench", (char *)"serve", (char *)"-l",
			 (char *)"127.0.0.1:7001", NULL };
	char *hold[] = {
		(char *)"cman-bench", (char *)"serve", (char *)"-l", (char *)"127.0.0.1:7002",
		(char *)"--mode",     (char *)"hold",  (char *)"-i", (char *)"20",
		(char *)"-s",	      (char *)"4096",  NULL
	};
	const char *why = "";
	char *source[] = {
		(char *)"cman-bench", (char *)"serve",	(char *)"-l", (char *)"127.0.0.1:7003",
		(char *)"--mode",     (char *)"source", NULL
	};
	uint64_t until = now_us() + 10000000;

	write_conf(gateways);
	servers[0] = start("serve-echo", "cman-bench", echo);
	servers[1] = start("serve-hold", "cman-bench", hold);
	servers[2] = start("serve-source", "cman-bench", source);
	while (!listens(7001) || !listens(7002) || !listens(7003)) {
		if (now_us() > until)
			bail("the servers do not start");
		pause_us(5000);
	}
	if (!start_manager("startup")) {
		show("startup", 4096);
		bail("cmanctl startup");
	}
	if (cman_maps_open(ALIAS, &maps, &why))
		bail(why);
	if (!wait_whole(false))
		bail("the cells do not start");
}

static void begin_load(void)
{
	uint32_t accepted;
	uint64_t until = now_us() + 15000000;

	for (size_t n = 0; n < NLOADS; n++)
		loads[n].pid = start(loads[n].name, "cman-bench", (char **)loads[n].argv);
	if (pthread_create(&ping.thread, NULL, ping_loop, NULL) ||
	    pthread_create(&breaker, NULL, breaker_loop, NULL))
		bail("pthread_create");
	do {
		if (now_us() > until)
			bail("the load does not start");
		pause_us(10000);
		accepted = 0;
		for (uint32_t n = 0; n < maps.gateways; n++)
			accepted += (uint32_t)maps.cells[n].accepted;
	} while (accepted < 150);
}

static void end_load(void)
{
	__atomic_store_n(&ping.stop, true, __ATOMIC_RELEASE);
	pthread_join(ping.thread, NULL);
	pthread_join(breaker, NULL);
	ok(!ping.lost, "our own session has gone through it all");
	for (size_t n = 0; n < NLOADS; n++)
		kill(loads[n].pid, SIGTERM);
	for (size_t n = 0; n < NLOADS; n++) {
		int status = finish(loads[n].pid, 40);

		if (!ok(!status, "load \"%s\": nothing lost, refused, reset, late or wrong (%d)",
			loads[n].name, status))
			show(loads[n].name, 6000);
	}
}

/* --- at the end: what is left over? */

static uint32_t sum_sessions(void)
{
	uint32_t n = 0;

	for (uint32_t c = 0; c < maps.gateways; c++)
		n += maps.cells[c].sessions;
	return n;
}

static bool is_named(uint32_t cell, int fd)
{
	const struct cman_cell *c = &maps.cells[cell];

	if (fd <= 2 || fd == c->buffer_fd || fd == c->secret_fd || fd == c->credentials_fd ||
	    fd == c->kick_fd || fd == c->done_fd || fd == c->keeper_fd)
		return true;
	for (int n = 0; n < CMAN_MAX_LISTENERS; n++)
		if (c->listener_fd[n] == fd)
			return true;
	for (int r = 0; r < CMAN_ROLES; r++)
		for (int n = 0; n < CMAN_OWN_FDS; n++)
			if (c->own_fd[r][n] == fd)
				return true;
	for (uint32_t n = 0; n < CMAN_PIPES_PER_CELL; n++) {
		const struct cman_pipe *p = &maps.pipes[cell * CMAN_PIPES_PER_CELL + n];

		if (p->rfd == fd || p->wfd == fd)
			return true;
	}
	return false;
}

static uint32_t unnamed_descriptors(uint32_t cell)
{
	char path[300], link[128];
	struct dirent *e;
	uint32_t unnamed = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)holder(&maps.cells[cell], CMAN_GATEWAY));
	d = opendir(path);
	if (!d)
		return 1;
	while ((e = readdir(d))) {
		ssize_t len;
		char file[600];

		if (*e->d_name == '.' || is_named(cell, atoi(e->d_name)))
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		len = readlink(file, link, sizeof(link) - 1);
		link[len > 0 ? len : 0] = 0;
		if (unnamed++ < 10)
			diag("cell %u: descriptor %s (%s) belongs to nothing", cell, e->d_name,
			     link);
	}
	closedir(d);
	return unnamed;
}

static uint64_t buffer_bytes(uint32_t cell)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)holder(&maps.cells[cell], CMAN_GATEWAY),
		 maps.cells[cell].buffer_fd);
	return stat(path, &st) < 0 ? UINT64_MAX : (uint64_t)st.st_blocks * 512;
}

/* Kilobytes of a line of /proc/PID/status */
static uint64_t status_kb(pid_t pid, const char *name)
{
	char path[64], line[256];
	uint64_t kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			kb = strtoull(line + strlen(name) + 1, NULL, 10);
	if (f)
		fclose(f);
	return kb;
}

static void count_processes(uint32_t *ret_roles, uint32_t *ret_zombies)
{
	struct dirent *e;
	DIR *d = opendir("/proc");

	*ret_roles = *ret_zombies = 0;
	while (d && (e = readdir(d))) {
		char comm[17];
		char state;

		if (*e->d_name < '0' || *e->d_name > '9')
			continue;
		state = process_state((pid_t)atoi(e->d_name), comm);
		if (strncmp(comm, "cman-", 5) || !strncmp(comm, "cman-bench", 10))
			continue;
		if (state == 'Z')
			++*ret_zombies;
		else if (!strncmp(comm, "cman-gateway", 12) || !strncmp(comm, "cman-keeper", 11) ||
			 !strncmp(comm, "cman-spare", 10))
			++*ret_roles;
	}
	if (d)
		closedir(d);
}

static uint32_t used_counters(const struct cman_cell *c)
{
	uint32_t n = c->sessions;

	for (int s = 0; s < CMAN_MAX_SERVICES; s++) {
		n += c->service_sessions[s];
		for (int t = 0; t < CMAN_MAX_TARGETS; t++)
			n += c->target_sessions[s][t];
	}
	for (int r = 0; r <= CMAN_MAX_RULES; r++)
		n += c->rule_sessions[r];
	return n;
}

static void left_over(uint64_t stack_before)
{
	uint64_t until = now_us() + SETTLE_S * 1000000ull, stack = 0, bytes = 0;
	uint32_t slots = 0, counters = 0, unnamed = 0, roles, zombies;

	while (sum_sessions() && now_us() < until)
		pause_us(10000);
	pause_us(50000);
	wait_whole(false);
	for (uint32_t n = 0; n < maps.gateways; n++) {
		for (uint32_t i = 0; i < maps.slots_per_cell; i++) {
			const struct cman_slot *s = &maps.sessions[n * maps.slots_per_cell + i];

			if (s->state == CMAN_SLOT_FREE)
				continue;
			if (slots++ < 10)
				diag("cell %u slot %u: state %u eof %u flags %u service %u fds %d %d bound %x %x",
				     n, i, s->state, s->eof, s->flags, s->service, s->client_fd,
				     s->server_fd, s->bound[0], s->bound[1]);
		}
		counters += used_counters(&maps.cells[n]);
		unnamed += unnamed_descriptors(n);
		bytes += buffer_bytes(n);
		for (int r = 0; r < CMAN_ROLES; r++) {
			uint64_t kb = status_kb(holder(&maps.cells[n], (enum cman_role)r), "VmStk");

			stack = kb > stack ? kb : stack;
		}
	}
	count_processes(&roles, &zombies);
	ok(!slots, "all slots are free (%u are not)", slots);
	ok(!counters, "all counters of present sessions are 0 (sum %u)", counters);
	ok(!lost_count(), "no recovery gave a session up (%llu)", (unsigned long long)lost_count());
	ok(!unnamed, "every descriptor of the cells is known (%u are not)", unnamed);
	ok(bytes <= maps.gateways * CMAN_BUFFER_SIZE, "no buffer pages are left (%llu bytes)",
	   (unsigned long long)bytes);
	ok(roles == maps.gateways * CMAN_ROLES && !zombies,
	   "one gateway and two keepers a cell, no zombies (%u processes, %u zombies)", roles,
	   zombies);
	ok(stack <= stack_before + 64,
	   "no stack grows with the generations (%llu kB, before %llu kB)",
	   (unsigned long long)stack, (unsigned long long)stack_before);
}

int main(int argc, char **argv)
{
	uint64_t stack;
	uint32_t kills = setting("CMAN_FAULT_KILLS", 1000);

	if (argc != 3) {
		fprintf(stderr, "usage: datapath BIN FOLDER\n");
		return 2;
	}
	bin = argv[1];
	folder = argv[2];
	seed = setting("CMAN_FAULT_SEED", (uint32_t)now_us()) | 1;
	diag("seed %llu", (unsigned long long)seed);
	setup(setting("CMAN_FAULT_GATEWAYS", 2));
	stack = status_kb(holder(&maps.cells[0], CMAN_GATEWAY), "VmStk");
	begin_load();
	targeted(kills);
	gaps_report("targeted, a gateway alone");
	at_random(setting("CMAN_FAULT_RANDOM", kills >= 3000 ? 300 : 45));
	gaps_report("at random");
	end_load();
	left_over(stack);
	for (int n = 0; n < 3; n++)
		kill(servers[n], SIGKILL);
	printf("1..%u\n", tests);
	return failed != 0;
}
