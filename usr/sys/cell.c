/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Succession within a cell: see cell.h for the protocol. Nothing here knows what a role does.
 */
#include "usr/sys/cell.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "usr/sys/crash.h"

#define TRANSITION_MS 1

/* Where a clone begins: in cman_cell_enter(), whose frame is never left. */
static jmp_buf beginning;
static struct cman_cell_env *beginning_env;
static enum cman_role beginning_role;

uint64_t cman_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint64_t load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static bool swap(uint64_t *word, uint64_t from, uint64_t to)
{
	return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

pid_t cman_cell_pid(const struct cman_cell *cell, enum cman_role role)
{
	uint64_t word = load((const uint64_t *)&cell->role[role]);

	return word & CMAN_ROLE_CLAIM ? 0 : (pid_t)(word & CMAN_ROLE_PID);
}

void cman_cell_own(struct cman_cell_env *env, unsigned int slot, int fd)
{
	__atomic_store_n(&env->cell->own_fd[env->role][slot], fd, __ATOMIC_RELEASE);
}

void cman_cell_mark(struct cman_cell_env *env, bool on)
{
	if (on ? env->marked++ : --env->marked)
		return;
	__atomic_add_fetch(&env->cell->marks[env->role], 1, __ATOMIC_SEQ_CST);
}

/* own_fd slot of the pidfd that watches @other */
static unsigned int pidfd_slot(enum cman_role self, enum cman_role other)
{
	return (other + CMAN_ROLES - self) % CMAN_ROLES - 1;
}

static void drop_pidfd(struct cman_cell_env *env, enum cman_role other)
{
	if (env->pidfd[other] < 0)
		return;
	/* forgotten first: once closed, the number may be anybody's in this table */
	cman_cell_mark(env, true);
	cman_cell_own(env, pidfd_slot(env->role, other), 0);
	close(env->pidfd[other]);
	cman_cell_mark(env, false);
	env->pidfd[other] = -1;
}

static void start_role(struct cman_cell_env *env, enum cman_role role) __attribute__((noreturn));

static void start_role(struct cman_cell_env *env, enum cman_role role)
{
	env->role = role;
	env->marked = 0;
	for (int r = 0; r < CMAN_ROLES; r++) {
		env->pidfd[r] = -1;
		env->seen[r] = 0;
	}
	/* it died while making or closing one: somebody must look for what is not recorded */
	if (env->cell->marks[role] & 1) {
		__atomic_store_n(&env->cell->died_marked[role], 1, __ATOMIC_RELEASE);
		cman_cell_want_sweep(env->cell);
		__atomic_add_fetch(&env->cell->marks[role], 1, __ATOMIC_SEQ_CST);
	}
	/* what the predecessor left open for itself */
	cman_cell_mark(env, true);
	for (int i = 0; i < CMAN_OWN_FDS; i++) {
		int fd = env->cell->own_fd[role][i];

		cman_cell_own(env, (unsigned int)i, 0);
		if (fd > 0)
			close(fd);
	}
	cman_cell_mark(env, false);
	if (role == CMAN_GATEWAY)
		CMAN_CRASH(RECOVER_OWN_FDS);
	CMAN_CRASH(ROLE_TAKEN);
	env->start[role](env);
	_exit(1);
}

/* From now on @word is known by the pidfd of @pid. */
static void watch(struct cman_cell_env *env, enum cman_role role, uint64_t word, pid_t pid)
{
	int fd, err;

	drop_pidfd(env, role);
	cman_cell_mark(env, true);
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	err = errno;
	CMAN_CRASH(KEEPER_PIDFD);
	if (fd >= 0)
		cman_cell_own(env, pidfd_slot(env->role, role), fd);
	cman_cell_mark(env, false);
	env->pidfd[role] = fd;
	/* no descriptor free says nothing about the process: ask again next time */
	env->seen[role] = fd >= 0 || err == ESRCH ? word : 0;
}

static void replace(struct cman_cell_env *env, enum cman_role role, uint64_t old)
{
	uint64_t generation = (old >> 32) + 1;
	uint64_t claim = generation << 32 | CMAN_ROLE_CLAIM | (uint32_t)getpid();
	long pid;

	if (!swap((uint64_t *)&env->cell->role[role], old, claim))
		return;
	CMAN_CRASH(ROLE_CLAIMED);
	pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		CMAN_CRASH(ROLE_CHILD);
		if (!swap((uint64_t *)&env->cell->role[role], claim,
			  generation << 32 | (uint32_t)getpid()))
			_exit(0);
		beginning_role = role;
		longjmp(beginning, 1);
	}
	if (pid < 0) { /* no memory, no processes: give the claim up; tried again soon */
		swap((uint64_t *)&env->cell->role[role], claim, generation << 32);
		return;
	}
	if (old) /* else it is the cell's first */
		__atomic_add_fetch(&env->cell->replaced[role], 1, __ATOMIC_RELAXED);
	watch(env, role, claim, (pid_t)pid); /* it may die before it takes the role */
	CMAN_CRASH(ROLE_CLONED);
}

void cman_cell_want_sweep(struct cman_cell *cell)
{
	__atomic_add_fetch(&cell->sweep_wanted, 1, __ATOMIC_ACQ_REL);
}

void cman_cell_import_begin(struct cman_cell *cell)
{
	__atomic_add_fetch(&cell->importing, 1, __ATOMIC_ACQ_REL);
}

void cman_cell_import_end(struct cman_cell *cell)
{
	__atomic_add_fetch(&cell->importing, 0x10000 - 1, __ATOMIC_ACQ_REL);
}

void cman_cell_import_reset(struct cman_cell *cell)
{
	uint32_t value = __atomic_load_n(&cell->importing, __ATOMIC_ACQUIRE);

	__atomic_store_n(&cell->importing, (value & 0xffff0000) + 0x10000, __ATOMIC_RELEASE);
}

static bool dead(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return pidfd < 0 || (poll(&p, 1, 0) > 0 && (p.revents & POLLIN));
}

/* Is whoever the word names (holder or claimant) alive? Opens its pidfd when the word is new. */
static bool alive(struct cman_cell_env *env, enum cman_role role, uint64_t word, bool *changed)
{
	pid_t pid = (pid_t)(word & CMAN_ROLE_PID);

	if (!pid)
		return false;
	if (word != env->seen[role]) {
		watch(env, role, word, pid);
		*changed = true;
	}
	if (env->pidfd[role] < 0 && !env->seen[role])
		return !kill(pid, 0) || errno != ESRCH;
	return !dead(env->pidfd[role]);
}

int cman_cell_tend(struct cman_cell_env *env, bool *ret_changed)
{
	int timeout = -1;
	bool keeper_lives = false;

	*ret_changed = false;
	if (env->cell->quit)
		return -1;
	/* keepers first: a gateway only acts when there is none */
	for (int r = CMAN_ROLES - 1; r >= 0; r--) {
		enum cman_role role = (enum cman_role)r;
		uint64_t word;

		if (role == env->role)
			continue;
		word = load((const uint64_t *)&env->cell->role[role]);
		if (alive(env, role, word, ret_changed)) {
			if (!(word & CMAN_ROLE_CLAIM))
				keeper_lives |= role != CMAN_GATEWAY;
			else
				timeout = TRANSITION_MS;
			continue;
		}
		timeout = TRANSITION_MS;
		if (env->role == CMAN_GATEWAY && role == CMAN_KEEPER && keeper_lives)
			continue; /* the spare does it, in less of our time */
		if (env->role == CMAN_GATEWAY && role == CMAN_SPARE) {
			uint64_t other = load((const uint64_t *)&env->cell->role[CMAN_KEEPER]);

			if (!(other & CMAN_ROLE_CLAIM) &&
			    alive(env, CMAN_KEEPER, other, ret_changed))
				continue;
		}
		replace(env, role, word);
	}
	return timeout;
}

void cman_cell_enter(struct cman_cell_env *env)
{
	uint64_t old = load((const uint64_t *)&env->cell->role[CMAN_KEEPER]);

	signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_IGN); /* the manager says when to end */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	__atomic_store_n((uint64_t *)&env->cell->role[CMAN_KEEPER],
			 ((old >> 32) + 1) << 32 | (uint32_t)getpid(), __ATOMIC_RELEASE);
	beginning_env = env;
	beginning_role = CMAN_KEEPER;
	setjmp(beginning);
	start_role(beginning_env, beginning_role);
}
