/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hands of handover.sh: one verb a call.
 *
 *	arm NAME POINT [COUNT [stop]]  a crash point in the pinned maps of NAME (ALIAS, ALIAS_old...)
 *	hits NAME		 how many have died of it
 *	points			 the names of all points
 *	slots NAME		 how many are in each state but free, one a line: "state n"
 *	frozen NAME		 entries of the guard's pinned map: "in_force expired"
 *	cut PID			 breaks the channels of this manager to other managers
 *	pids NAME		 manager and the processes of all cells, one a line: "role pid"
 *	peer SOCKET MIN MAX ALIAS  says HELLO as a release that speaks MIN..MAX; prints the answer
 *	mute SOCKET ALIAS	 says a good HELLO and then nothing at all, until SIGTERM
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "usr/sys/chan.h"
#include "usr/sys/crash.h"
#include "usr/sys/maps.h"
#include "usr/sys/proc.h"

static int open_maps(const char *name, struct cman_maps *maps)
{
	const char *why = "";

	if (!cman_maps_open(name, maps, &why))
		return 0;
	fprintf(stderr, "%s: %s\n", name, why);
	return 1;
}

static int arm(const char *name, const char *point, unsigned int count, bool stop)
{
	struct cman_maps maps;
	int n = cman_crash_parse(point);

	if (n < 0) {
		fprintf(stderr, "no crash point %s\n", point);
		return 2;
	}
	if (open_maps(name, &maps))
		return 1;
	__atomic_store_n(&maps.instance->crash_point, CMAN_CRASH_NONE, __ATOMIC_SEQ_CST);
	maps.instance->crash_count = count;
	maps.instance->crash_also = stop ? CMAN_CRASH_STOP : 0;
	__atomic_store_n(&maps.instance->crash_point, (uint32_t)n, __ATOMIC_SEQ_CST);
	return 0;
}

static int pids(const char *name)
{
	static const char *const roles[] = { "gateway", "keeper", "spare" };
	struct cman_maps maps;

	if (open_maps(name, &maps))
		return 1;
	printf("manager %u\n", maps.instance->manager_pid);
	for (uint32_t g = 0; g < maps.gateways; g++)
		for (int role = 0; role < CMAN_ROLES; role++)
			printf("%s %u\n", roles[role],
			       (unsigned int)(maps.cells[g].role[role] & CMAN_ROLE_PID));
	return 0;
}

static int slots(const char *name)
{
	static const char *const states[] = {
		[CMAN_SLOT_RESERVED] = "reserved", [CMAN_SLOT_PREPARED] = "prepared",
		[CMAN_SLOT_ACCEPTED] = "accepted", [CMAN_SLOT_CONNECTING] = "connecting",
		[CMAN_SLOT_RELAYING] = "relaying", [CMAN_SLOT_LEAVING] = "leaving",
		[CMAN_SLOT_CLOSING] = "closing",
	};
	const size_t nstates = sizeof(states) / sizeof(*states);
	unsigned int count[sizeof(states) / sizeof(*states)] = { 0 };
	struct cman_maps maps;

	if (open_maps(name, &maps))
		return 1;
	for (uint32_t i = 0; i < maps.gateways * maps.slots_per_cell; i++)
		if (maps.sessions[i].state < nstates)
			count[maps.sessions[i].state]++;
	for (size_t i = 0; i < nstates; i++)
		if (states[i] && count[i])
			printf("%s %u\n", states[i], count[i]);
	return 0;
}

static int frozen(const char *name)
{
	struct cman_tuple tuple, *previous = NULL;
	unsigned int in_force = 0, expired = 0;
	struct cman_frozen entry;
	struct timespec now;
	uint64_t now_ns;
	char path[128];
	int fd;

	snprintf(path, sizeof(path), CMAN_PIN_ROOT "/%s/frozen", name);
	fd = bpf_obj_get(path);
	if (fd < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(-fd));
		return 1;
	}
	clock_gettime(CLOCK_BOOTTIME, &now);
	now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	for (; !bpf_map_get_next_key(fd, previous, &tuple); previous = &tuple)
		if (!bpf_map_lookup_elem(fd, &tuple, &entry))
			++*(entry.expires_ns > now_ns ? &in_force : &expired);
	printf("%u %u\n", in_force, expired);
	close(fd);
	return 0;
}

static bool leads_to_manager(int fd, pid_t from)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) && cred.pid > 0 &&
	       cred.pid != from && cman_proc_is(cred.pid, "manager", cred.uid);
}

static int cut(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), n = 0;

	if (pidfd < 0) {
		perror("pidfd_open");
		return 1;
	}
	for (int number = 3; number < 1024; number++) {
		int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

		if (fd < 0)
			continue;
		if (leads_to_manager(fd, pid) && !shutdown(fd, SHUT_RDWR))
			n++;
		close(fd);
	}
	close(pidfd);
	printf("%d\n", n);
	return n ? 0 : 1;
}

static int hello(struct cman_chan *c, unsigned int min, unsigned int max, const char *alias)
{
	struct cman_frame_writer w;
	uint8_t boot_id[16] = { 0 };
	uint64_t netns = 0;

	cman_proc_boot_id(boot_id);
	cman_proc_netns(&netns);
	cman_frame_begin(&w, CMAN_FRAME_HELLO, 0);
	cman_frame_add_range(&w, (uint8_t)min, (uint8_t)max);
	cman_frame_add_text(&w, CMAN_TAG_RELEASE, "9.9.9");
	cman_frame_add_text(&w, CMAN_TAG_ALIAS, alias);
	cman_frame_add_u32(&w, CMAN_TAG_PID, (uint32_t)getpid());
	cman_frame_add_bytes(&w, CMAN_TAG_BOOT_ID, boot_id, sizeof(boot_id));
	cman_frame_add_u64(&w, CMAN_TAG_NETNS, netns);
	cman_frame_add_u8(&w, CMAN_TAG_CARRIER, 0);
	return cman_chan_send(c, &w, NULL, 0);
}

static int peer(const char *socket, unsigned int min, unsigned int max, const char *alias,
		bool mute)
{
	int fds[CMAN_FRAME_MAX_FDS], fd, err = cman_unix_connect(socket, &fd);
	struct cman_chan c;
	struct cman_frame f;
	const uint8_t *text;
	size_t n;

	if (err) {
		fprintf(stderr, "%s: %s\n", socket, strerror(-err));
		return 1;
	}
	cman_chan_init(&c, fd);
	err = hello(&c, min, max, alias);
	if (mute) {
		printf("said\n");
		fflush(stdout);
		pause();
	}
	while (!err) {
		err = cman_chan_wait(&c, 3000, &f, fds);
		if (err)
			break;
		if (f.type == CMAN_FRAME_ERROR && !cman_frame_bytes(&f, CMAN_TAG_TEXT, &text, &n))
			printf("ERROR %.*s\n", (int)n, (const char *)text);
		else
			printf("frame %u\n", f.type);
	}
	printf("end: %s\n", strerror(-err));
	cman_chan_fini(&c);
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	struct cman_maps maps;

	if (!strcmp(verb, "arm") && argc >= 4)
		return arm(argv[2], argv[3], argc > 4 ? (unsigned int)atoi(argv[4]) : 1,
			   argc > 5 && !strcmp(argv[5], "stop"));
	if (!strcmp(verb, "pids") && argc == 3)
		return pids(argv[2]);
	if (!strcmp(verb, "slots") && argc == 3)
		return slots(argv[2]);
	if (!strcmp(verb, "frozen") && argc == 3)
		return frozen(argv[2]);
	if (!strcmp(verb, "cut") && argc == 3)
		return cut((pid_t)atoi(argv[2]));
	if (!strcmp(verb, "hits") && argc == 3) {
		if (open_maps(argv[2], &maps))
			return 1;
		printf("%u\n", maps.instance->crash_hits);
		return 0;
	}
	if (!strcmp(verb, "points")) {
		for (unsigned int i = 1; cman_crash_name(i); i++)
			puts(cman_crash_name(i));
		return 0;
	}
	if (!strcmp(verb, "peer") && argc == 6)
		return peer(argv[2], (unsigned int)atoi(argv[3]), (unsigned int)atoi(argv[4]),
			    argv[5], false);
	if (!strcmp(verb, "mute") && argc == 4)
		return peer(argv[2], CMAN_WIRE_MIN, CMAN_WIRE_MAX, argv[3], true);
	fprintf(stderr,
		"usage: handover_tool arm|hits|points|slots|frozen|cut|pids|peer|mute ...\n");
	return 2;
}
