// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CPU time and memory of other processes, from /proc: user and system time of a process with all
 * its threads (also those that have ended), resident and proportional memory. Sums over a list
 * of processes; one that has gone is left out and the sample says that it is not complete.
 */
#include "bench.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int read_proc(pid_t pid, const char *name, char *buf, size_t len)
{
	char path[64];
	size_t got = 0;
	ssize_t n = 0;
	int fd, err;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (got < len - 1 && (n = read(fd, buf + got, len - 1 - got)) > 0)
		got += (size_t)n;
	err = n < 0 ? -errno : got ? 0 : -ESRCH;
	close(fd);
	buf[got] = '\0';
	return err;
}

static int cpu_of(pid_t pid, uint64_t *ret_ns)
{
	unsigned long long user, sys;
	char buf[1024], *p;
	long hz = sysconf(_SC_CLK_TCK);
	int err;

	err = read_proc(pid, "stat", buf, sizeof(buf));
	if (err)
		return err;
	p = strrchr(buf, ')'); /* the name before it may contain anything */
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
			 &sys) != 2)
		return -EBADMSG;
	*ret_ns = (user + sys) * (NSEC_PER_SEC / (uint64_t)hz);
	return 0;
}

static uint64_t field_kb(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	return p ? strtoull(p + strlen(name), NULL, 10) * 1024 : 0;
}

static int memory_of(pid_t pid, uint64_t *ret_rss, uint64_t *ret_pss)
{
	char buf[4096];
	int err;

	err = read_proc(pid, "smaps_rollup", buf, sizeof(buf));
	if (!err) {
		*ret_rss = field_kb(buf, "\nRss:");
		*ret_pss = field_kb(buf, "\nPss:");
		return 0;
	}
	if (err == -ESRCH)
		return err;
	/* Not ours to look into: the resident size is public, the shares are not. */
	err = read_proc(pid, "status", buf, sizeof(buf));
	if (err)
		return err;
	*ret_rss = *ret_pss = field_kb(buf, "\nVmRSS:");
	return 0;
}

int usage_sample(const struct pid_list *pids, bool memory, struct usage *ret)
{
	struct usage u = { .complete = true };
	uint64_t cpu, rss, pss;
	int err = 0;
	size_t i;

	for (i = 0; i < pids->nr; i++) {
		int e = cpu_of(pids->v[i], &cpu);

		rss = pss = 0;
		if (!e && memory)
			e = memory_of(pids->v[i], &rss, &pss);
		if (e) {
			u.complete = false;
			err = e;
			continue;
		}
		u.cpu_ns += cpu;
		u.rss_bytes += rss;
		u.pss_bytes += pss;
	}
	*ret = u;
	return err;
}
