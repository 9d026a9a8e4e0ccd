/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crash points of the test build: see crash.h. The words that arm them lie in the shared memory of
 * the instance, so that a test can arm one from outside while everything runs.
 */
#include "usr/sys/crash.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = { "NONE",
#define X(name) #name,
				     CMAN_CRASH_POINTS_LIST(X)
#undef X
};

const char *cman_crash_name(unsigned int point)
{
	return point < CMAN_CRASH_COUNT ? names[point] : NULL;
}

int cman_crash_parse(const char *name)
{
	for (unsigned int i = 0; i < CMAN_CRASH_COUNT; i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -EINVAL;
}

#ifdef CMAN_CRASH_POINTS

static struct cman_instance *armed;
static struct cman_cell *own_cell;

/* CMAN_CRASH=POINT[:COUNT[:stop]] arms a manager that has no maps yet; then they take it over. */
static struct cman_instance *from_environment(void)
{
	static struct cman_instance early;
	const char *value = getenv("CMAN_CRASH");
	char name[64], stop[8] = "";
	unsigned int count = 1;
	int point;

	if (!value || sscanf(value, "%63[A-Z_]:%u:%7s", name, &count, stop) < 1)
		return NULL;
	early.crash_also = strcmp(stop, "stop") ? 0 : CMAN_CRASH_STOP;
	point = cman_crash_parse(name);
	early.crash_count = count;
	early.crash_point = point < 0 ? CMAN_CRASH_NONE : (uint32_t)point;
	unsetenv("CMAN_CRASH");
	return &early;
}

void cman_crash_init(struct cman_instance *instance, struct cman_cell *cell)
{
	const struct cman_instance *early = armed;

	own_cell = cell;
	if (!instance) {
		armed = from_environment();
		return;
	}
	armed = instance;
	if (!early || early == instance || cell || !early->crash_point)
		return;
	armed->crash_count = early->crash_count;
	armed->crash_also = early->crash_also;
	__atomic_store_n(&armed->crash_point, early->crash_point, __ATOMIC_RELEASE);
}

uint32_t cman_crash_ms(const char *variable, uint32_t ms)
{
	const char *value = getenv(variable);

	return value && atoi(value) > 0 ? (uint32_t)atoi(value) : ms;
}

void cman_crash_here(enum cman_crash_point point)
{
	if (!armed || __atomic_load_n(&armed->crash_point, __ATOMIC_ACQUIRE) != point)
		return;
	if (__atomic_sub_fetch(&armed->crash_count, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	__atomic_store_n(&armed->crash_point, CMAN_CRASH_NONE, __ATOMIC_RELEASE);
	/* so that a test can wait for the end of this process */
	__atomic_store_n(&armed->crash_count, (__u32)getpid(), __ATOMIC_RELEASE);
	for (int role = 0; own_cell && role < CMAN_ROLES; role++) {
		pid_t pid = (pid_t)(__atomic_load_n(&own_cell->role[role], __ATOMIC_ACQUIRE) &
				    CMAN_ROLE_PID);

		if ((armed->crash_also & (1u << role)) && pid && pid != getpid())
			kill(pid, SIGKILL);
	}
	__atomic_add_fetch(&armed->crash_hits, 1, __ATOMIC_ACQ_REL);
	if (armed->crash_also & CMAN_CRASH_STOP) {
		dprintf(2, "<2>stops at a crash point point=%s pid=%d\n", names[point],
			(int)getpid());
		raise(SIGSTOP);
		return;
	}
	dprintf(2, "<2>dies at a crash point point=%s pid=%d\n", names[point], (int)getpid());
	kill(getpid(), SIGKILL);
}

#endif
