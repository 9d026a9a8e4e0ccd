/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hands of steer.sh: each verb does one thing to the pinned maps of an alias, or plays a
 * server or a client, and prints one line. Every call is a process of its own, so whatever works
 * across two calls works by the pins alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "usr/sys/diag.h"
#include "usr/sys/hold.h"
#include "usr/sys/steer.h"

static volatile sig_atomic_t stopped;

static void on_term(int signal)
{
	(void)signal;
	stopped = 1;
}

static void __attribute__((noreturn)) fail(const char *what, int err)
{
	printf("%s: %s (%d)\n", what, strerror(-err), err);
	exit(1);
}

static void say(const char *line)
{
	puts(line);
	fflush(stdout);
}

static int done(const char *what, int err)
{
	if (err)
		fail(what, err);
	say("ok");
	return 0;
}

/* "10.0.0.1" or "::1" */
static uint16_t parse_addr(const char *text, uint8_t addr[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (inet_pton(AF_INET6, text, addr) == 1)
		return AF_INET6;
	memcpy(addr, mapped, 12);
	if (inet_pton(AF_INET, text, addr + 12) != 1)
		fail(text, -EINVAL);
	return AF_INET;
}

static socklen_t make_sockaddr(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	uint8_t addr[16];

	memset(ret, 0, sizeof(*ret));
	if (parse_addr(text, addr) == AF_INET6) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, addr, 16);
		return sizeof(*in6);
	}
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	memcpy(&in->sin_addr, addr + 12, 4);
	return sizeof(*in);
}

static struct cman_maps open_maps(const char *alias)
{
	const char *why = "no reason was given";
	struct cman_maps maps;
	int err = cman_maps_open(alias, &maps, &why);

	if (err)
		fail(why, err);
	return maps;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* --- maps */

/* create ALIAS GATEWAYS SLOTS */
static int verb_create(char **arg)
{
	const char *why = "no reason was given";
	struct cman_maps maps;
	int err = cman_maps_create(arg[0], (uint32_t)atoi(arg[1]), (uint32_t)atoi(arg[2]), &maps,
				   &why);

	if (err)
		fail(why, err);
	cman_maps_fini(&maps);
	say("ok");
	return 0;
}

/* open ALIAS */
static int verb_open(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);

	printf("abi %u, %s, %u cells of %u slots\n", maps.instance->abi, maps.instance->alias,
	       maps.gateways, maps.slots_per_cell);
	return 0;
}

/* abi ALIAS N: as if another release had made the maps */
static int verb_abi(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);

	maps.instance->abi = (uint32_t)atoi(arg[1]);
	say("ok");
	return 0;
}

static void check_element(int fd, uint32_t index, void *memory, size_t size, const char *what)
{
	uint8_t *through = calloc(1, (size + 7) & ~7ul);

	memset(memory, 0xa5, size);
	if (!through || bpf_map_lookup_elem(fd, &index, through))
		fail(what, -errno);
	if (memcmp(through, memory, size))
		fail(what, -EBADMSG);
	memset(memory, 0, size);
	free(through);
}

/* stride ALIAS: is the last element in memory the last element of the map? */
static int verb_stride(char **arg)
{
	struct cman_maps m = open_maps(arg[0]);
	uint32_t slot = m.gateways * m.slots_per_cell - 1;
	uint32_t pipe = m.gateways * CMAN_PIPES_PER_CELL - 1;
	uint8_t *table = calloc(CMAN_MAX_RULES, sizeof(*m.ruletab));
	const uint32_t zero = 0;

	check_element(m.sessions_fd, slot, &m.sessions[slot], sizeof(*m.sessions), "sessions");
	check_element(m.pipes_fd, pipe, &m.pipes[pipe], sizeof(*m.pipes), "pipes");
	check_element(m.cells_fd, m.gateways - 1, &m.cells[m.gateways - 1], sizeof(*m.cells),
		      "cells");
	check_element(m.services_fd, CMAN_MAX_SERVICES - 1, &m.services[CMAN_MAX_SERVICES - 1],
		      sizeof(*m.services), "services");
	snprintf(m.ruletab[CMAN_MAX_RULES - 1].name, CMAN_NAME_LEN, "last");
	if (!table || bpf_map_lookup_elem(m.ruletab_fd, &zero, table) ||
	    memcmp(table, m.ruletab, CMAN_MAX_RULES * sizeof(*m.ruletab)))
		fail("ruletab", -EBADMSG);
	memset(&m.ruletab[CMAN_MAX_RULES - 1], 0, sizeof(*m.ruletab));
	free(table);
	say("ok");
	return 0;
}

/* child ALIAS: the memory outlives the descriptors, and is the children's too */
static int verb_child(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);
	struct cman_slot slot;
	const uint32_t last = maps.gateways * maps.slots_per_cell - 1;
	pid_t pid = fork();

	if (pid == 0) {
		cman_maps_close_fds(&maps);
		maps.sessions[last].id = 4711;
		_exit(maps.sessions_fd == -1 ? 0 : 1);
	}
	for (int i = 0; i < 200 && maps.sessions[last].id != 4711; i++)
		usleep(10000);
	if (bpf_map_lookup_elem(maps.sessions_fd, &last, &slot) || slot.id != 4711)
		fail("the child's store", -EBADMSG);
	maps.sessions[last].id = 0;
	say("ok");
	return 0;
}

/* rename FROM TO [exchange] */
static int verb_rename(char **arg)
{
	return done("rename", cman_maps_rename(arg[0], arg[1], arg[2] != NULL));
}

static int verb_unpin(char **arg)
{
	return done("unpin", cman_maps_unpin(arg[0]));
}

/* --- steering */

static int verb_attach(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);

	return done("attach", cman_steer_attach(&maps));
}

/* take ALIAS FROM */
static int verb_take(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);

	return done("take", cman_steer_take(&maps, arg[1]));
}

/* service ALIAS INDEX open|suspended refuse|wait */
static int verb_service(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);
	struct cman_service *service = &maps.services[atoi(arg[1])];

	snprintf(service->name, sizeof(service->name), "svc%s", arg[1]);
	service->when_down = strcmp(arg[3], "wait") ? CMAN_DOWN_REFUSE : CMAN_DOWN_WAIT;
	service->state = strcmp(arg[2], "open") ? CMAN_SERVICE_SUSPENDED : CMAN_SERVICE_OPEN;
	say("ok");
	return 0;
}

/* address ALIAS ADDR PORT LISTENER SERVICE; LISTENER "-" removes */
static int verb_address(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);
	uint8_t addr[16];
	uint16_t family = parse_addr(arg[1], addr);
	uint16_t port = (uint16_t)atoi(arg[2]);

	if (!strcmp(arg[3], "-"))
		return done("address", cman_steer_del_address(&maps, addr, port, family));
	return done("address",
		    cman_steer_add_address(&maps, addr, port, family, (uint32_t)atoi(arg[3]),
					   arg[4] ? (uint32_t)atoi(arg[4]) : 0));
}

static uint32_t parse_rules(char **arg, struct cman_rule *rules)
{
	static const char *const actions[] = { "accept", "reject", "drop" };
	uint32_t n = 0;

	for (; arg[0] && arg[1] && arg[2]; arg += 3, n++) {
		struct cman_rule *rule = &rules[n];
		char source[64];
		char *slash;

		snprintf(source, sizeof(source), "%s", arg[0]);
		slash = strchr(source, '/');
		if (!slash)
			fail(arg[0], -EINVAL);
		*slash = 0;
		memset(rule, 0, sizeof(*rule));
		snprintf(rule->name, sizeof(rule->name), "rule%u", n);
		rule->prefix_len = (uint32_t)atoi(slash + 1);
		if (parse_addr(source, rule->source) == AF_INET)
			rule->prefix_len += 96;
		rule->service = strcmp(arg[1], "*") ? (uint32_t)atoi(arg[1]) : CMAN_ANY_SERVICE;
		while (strcmp(actions[rule->action], arg[2]))
			rule->action++;
	}
	cman_rules_sort(rules, n);
	return n;
}

/* rules ALIAS NSERVICES [SOURCE/LEN SERVICE|* ACTION]... */
static int verb_rules(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);
	struct cman_rule rules[16];
	uint32_t n = parse_rules(arg + 2, rules);

	return done("rules", cman_steer_set_rules(&maps, rules, n, (uint32_t)atoi(arg[1])));
}

/* toggle ALIAS TIMES: between rule sets that both accept 127.1.0.0/16, by different lines */
static int verb_toggle(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);
	struct cman_rule one[3], two[3];
	char *set_one[] = { "127.1.0.0/16", "*",	 "accept", "127.0.0.0/8", "*",
			    "reject",	    "0.0.0.0/0", "*",	   "accept",	  NULL };
	char *set_two[] = { "127.0.0.0/8", "*", "accept", "0.0.0.0/0", "*", "reject", NULL };
	char *set_three[] = { "0.0.0.0/0", "*", "accept", NULL };
	struct cman_rule three[1];
	uint32_t n[3] = { parse_rules(set_one, one), parse_rules(set_two, two),
			  parse_rules(set_three, three) };
	struct cman_rule *set[3] = { one, two, three };

	for (int i = 0; i < atoi(arg[1]); i++) {
		/* every change from each to each other, and to and from no rules at all */
		static const int order[] = { 0, 1, 2, 0, 2, 1, 0, -1, 1, -1, 2, -1 };
		int which = order[i % 12];
		int err = which < 0 ? cman_steer_set_rules(&maps, NULL, 0, 4) :
				      cman_steer_set_rules(&maps, set[which], n[which], 4);

		if (err)
			fail("toggle", err);
	}
	say("ok");
	return 0;
}

/* counters ALIAS SERVICE */
static int verb_counters(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);
	struct cman_counters c;
	int err = cman_steer_counters(&maps, (uint32_t)atoi(arg[1]), &c);

	if (err)
		fail("counters", err);
	printf("steered=%llu rejected=%llu dropped=%llu held=%llu no_listener=%llu "
	       "assign_failed=%llu\n",
	       c.steered, c.rejected, c.dropped, c.held, c.no_listener, c.assign_failed);
	return 0;
}

/* hold-sockets ALIAS: until killed */
static int verb_hold_sockets(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);
	int fds[2];
	int err = cman_steer_hold(&maps, fds);

	if (err)
		fail("hold", err);
	say(fds[1] < 0 ? "inet" : "inet inet6");
	for (;;)
		pause();
}

/* --- the tc program */

static int ifindex_of(const char *name)
{
	int ifindex = (int)if_nametoindex(name);

	if (!ifindex)
		fail(name, -errno);
	return ifindex;
}

static int verb_tc_attach(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);

	return done("attach", cman_hold_attach(&maps, ifindex_of(arg[1])));
}

static int verb_tc_detach(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);

	return done("detach", cman_hold_detach(&maps, ifindex_of(arg[1])));
}

static int verb_tc_apply(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);
	int err = cman_hold_apply(&maps);

	if (err)
		fail("apply", err);
	say(cman_hold_wanted(&maps) ? "wanted" : "not wanted");
	return 0;
}

/* --- servers */

static int listen_on(const char *addr, uint16_t port)
{
	struct sockaddr_storage where;
	socklen_t length = make_sockaddr(addr, port, &where);
	int fd = socket(where.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int one = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&where, length) || listen(fd, 4096))
		fail("listen", -errno);
	return fd;
}

struct server {
	int fd;
	const char *banner;
};

static void *serve(void *arg)
{
	const struct server *server = arg;
	char end;

	for (;;) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		if (send(fd, server->banner, strlen(server->banner), MSG_NOSIGNAL) > 0) {
			/* the client closes first: it has the TIME_WAIT */
			while (recv(fd, &end, 1, 0) > 0)
				;
		}
		close(fd);
	}
	return NULL;
}

static void set_listener(const char *alias, uint32_t listener, int fd)
{
	struct cman_maps maps = open_maps(alias);
	int err = cman_steer_set_listener(&maps, listener, fd);

	if (err)
		fail("listener", err);
	cman_maps_fini(&maps);
}

/* serve ALIAS LISTENER BANNER [ADDR PORT]: until killed. ALIAS "-": steered by nobody */
static int verb_serve(char **arg)
{
	const char *addr = arg[3] ? arg[3] : "127.0.0.1";
	struct server server = { .banner = arg[2] };

	server.fd = listen_on(addr, arg[3] && arg[4] ? (uint16_t)atoi(arg[4]) : 0);
	if (strcmp(arg[0], "-"))
		set_listener(arg[0], (uint32_t)atoi(arg[1]), server.fd);
	say("ready");
	serve(&server);
	return 0;
}

/* backlog ALIAS LISTENER N: a server that does not accept; prints its queue when N wait in it */
static int verb_backlog(char **arg)
{
	struct cman_diag_queue by_cookie = { 0 }, by_addr = { 0 }, by_fd = { 0 };
	struct sockaddr_in where;
	socklen_t length = sizeof(where);
	uint64_t cookie;
	socklen_t size = sizeof(cookie);
	int fd = listen_on("127.0.0.1", 0);
	uint8_t addr[16];
	int err;

	parse_addr("127.0.0.1", addr);
	if (getsockname(fd, (struct sockaddr *)&where, &length) ||
	    getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size))
		fail("backlog", -errno);
	set_listener(arg[0], (uint32_t)atoi(arg[1]), fd);
	say("ready");
	do {
		usleep(10000);
		err = cman_diag_listener_fd(fd, &by_fd);
	} while (!err && by_fd.length < (uint32_t)atoi(arg[2]));
	if (!err)
		err = cman_diag_listener(cookie, NULL, 0, &by_cookie);
	if (!err)
		err = cman_diag_listener(0, addr, ntohs(where.sin_port), &by_addr);
	if (err)
		fail("diag", err);
	printf("%u %u %u of %u\n", by_cookie.length, by_addr.length, by_fd.length,
	       by_cookie.backlog);
	return 0;
}

/* flip ALIAS LISTENER TIMES: the entry goes back and forth between two servers that stay */
static int verb_flip(char **arg)
{
	struct cman_maps maps = open_maps(arg[0]);
	struct server a = { .banner = "a" }, b = { .banner = "b" };
	const uint32_t listener = (uint32_t)atoi(arg[1]);
	uint64_t worst = 0;
	pthread_t thread;

	a.fd = listen_on("127.0.0.1", 0);
	b.fd = listen_on("127.0.0.1", 0);
	for (int i = 0; i < 4; i++)
		pthread_create(&thread, NULL, serve, i % 2 ? &a : &b);
	if (cman_steer_set_listener(&maps, listener, a.fd))
		fail("flip", -errno);
	say("ready");
	for (int i = 0; i < atoi(arg[2]); i++) {
		uint64_t start = now_us();
		int err = cman_steer_set_listener(&maps, listener, i % 2 ? a.fd : b.fd);

		if (err)
			fail("flip", err);
		if (now_us() - start > worst)
			worst = now_us() - start;
		usleep(5000);
	}
	printf("flipped, worst %llu us\n", (unsigned long long)worst);
	fflush(stdout);
	for (;;)
		pause();
}

/* --- clients */

enum outcome { BANNER, REFUSED, TIMEOUT, RESET, OTHER, OUTCOMES };

static const char *const outcome_name[] = { "banner", "refused", "timeout", "reset", "other" };

static enum outcome outcome_of(int err)
{
	switch (err) {
	case ECONNREFUSED:
		return REFUSED;
	case ECONNRESET:
	case EPIPE:
		return RESET;
	case ETIMEDOUT:
	case EAGAIN:
	case EINPROGRESS:
		return TIMEOUT;
	default:
		return OTHER;
	}
}

static enum outcome try_connect(const char *addr, uint16_t port, int timeout_ms, const char *from,
				char banner[32])
{
	struct sockaddr_storage to, source;
	socklen_t length = make_sockaddr(addr, port, &to);
	const struct timeval limit = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	enum outcome outcome = BANNER;
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* of connect(), too */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (from) {
		socklen_t size = make_sockaddr(from, 0, &source);
		const int one = 1;

		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		if (bind(fd, (struct sockaddr *)&source, size))
			fail(from, -errno);
	}
	if (connect(fd, (struct sockaddr *)&to, length)) {
		outcome = outcome_of(errno);
	} else {
		n = recv(fd, banner, 31, 0);
		if (n > 0)
			banner[n] = 0;
		else
			outcome = n ? outcome_of(errno) : RESET;
	}
	close(fd);
	return outcome;
}

/* connect ADDR PORT TIMEOUT_MS [FROM]: prints the banner, or refused, timeout, reset */
static int verb_connect(char **arg)
{
	char banner[32];
	enum outcome outcome = try_connect(arg[0], (uint16_t)atoi(arg[1]), atoi(arg[2]), arg[3],
					   banner);

	say(outcome == BANNER ? banner : outcome_name[outcome]);
	return 0;
}

/* load ADDR PORT FROM: until SIGTERM, one connection after the other; what came of them */
static int verb_load(char **arg)
{
	const struct sigaction term = { .sa_handler = on_term };
	unsigned long count[OUTCOMES] = { 0 };
	char banner[32];

	sigaction(SIGTERM, &term, NULL);
	say("ready");
	while (!stopped) {
		enum outcome outcome = try_connect(arg[0], (uint16_t)atoi(arg[1]), 3000, arg[2],
						   banner);

		if (outcome != OTHER || !stopped) /* not the one that SIGTERM broke off */
			count[outcome]++;
	}
	for (int i = 0; i < OUTCOMES; i++)
		printf("%s=%lu ", outcome_name[i], count[i]);
	say("");
	return 0;
}

static int print_socket(void *arg, const struct cman_diag_socket *s)
{
	char local[INET6_ADDRSTRLEN], remote[INET6_ADDRSTRLEN];
	const uint64_t *cookie = arg;

	if (s->cookie != *cookie)
		return 0;
	inet_ntop(AF_INET6, s->local, local, sizeof(local));
	inet_ntop(AF_INET6, s->remote, remote, sizeof(remote));
	printf("%s %s %u state %u\n", local, remote, s->remote_port, s->state);
	return 1;
}

static int count_socket(void *arg, const struct cman_diag_socket *s)
{
	(void)s;
	++*(unsigned int *)arg;
	return 0;
}

/* sockets ADDR PORT: connects, and finds the connection by its cookie */
static int verb_sockets(char **arg)
{
	struct sockaddr_storage to;
	socklen_t length = make_sockaddr(arg[0], (uint16_t)atoi(arg[1]), &to);
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned int all = 0;
	uint64_t cookie;
	socklen_t size = sizeof(cookie);
	int err;

	if (connect(fd, (struct sockaddr *)&to, length) ||
	    getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size))
		fail("sockets", -errno);
	err = cman_diag_sockets(count_socket, &all);
	if (err || all < 2)
		fail("dump", err);
	if (cman_diag_sockets(print_socket, &cookie) != 1)
		fail("cookie", -ENOENT);
	return 0;
}

static const struct verb {
	const char *name;
	int (*run)(char **arg);
	int args;
} verbs[] = {
	{ "create", verb_create, 3 },
	{ "open", verb_open, 1 },
	{ "abi", verb_abi, 2 },
	{ "stride", verb_stride, 1 },
	{ "child", verb_child, 1 },
	{ "rename", verb_rename, 2 },
	{ "unpin", verb_unpin, 1 },
	{ "attach", verb_attach, 1 },
	{ "take", verb_take, 2 },
	{ "service", verb_service, 4 },
	{ "address", verb_address, 4 },
	{ "rules", verb_rules, 2 },
	{ "toggle", verb_toggle, 2 },
	{ "counters", verb_counters, 2 },
	{ "tc-attach", verb_tc_attach, 2 },
	{ "tc-detach", verb_tc_detach, 2 },
	{ "tc-apply", verb_tc_apply, 1 },
	{ "hold-sockets", verb_hold_sockets, 1 },
	{ "serve", verb_serve, 3 },
	{ "backlog", verb_backlog, 3 },
	{ "flip", verb_flip, 3 },
	{ "connect", verb_connect, 3 },
	{ "load", verb_load, 3 },
	{ "sockets", verb_sockets, 2 },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (!strcmp(argv[1], verbs[i].name) && argc - 2 >= verbs[i].args)
			return verbs[i].run(argv + 2);
	}
	fputs("usage: steer_check VERB ARGUMENT...; verbs:", stderr);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		fprintf(stderr, " %s", verbs[i].name);
	fputs("\n", stderr);
	return 2;
}
