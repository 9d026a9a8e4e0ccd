/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cell: the processes that share one descriptor table, and who replaces whom when one dies.
 *
 *	gateway		relays
 *	keeper, spare	wait; each of them, and when both are dead the gateway, replaces the dead
 *
 * All are clones of one process (CLONE_FILES): a descriptor that one opens is open in all, and
 * closes when the last of them is gone. So any two of the three may die in the same instant.
 *
 * Who has a role is one 64-bit word in shared memory (cman_cell.role[]): generation << 32 | pid. To
 * replace a dead holder, a survivor
 *	1. claims:  compare-and-swap (old word) -> (generation + 1 | CLAIM | own pid)
 *	2. clones
 *	3. the child takes: compare-and-swap (that claim) -> (generation + 1 | its pid)
 * A child whose claim was overtaken exits. When a claimant dies, its claim is claimed in turn. The
 * holder is dead before it is replaced: its pidfd says so, after the kernel has ended its last
 * system call; so there are never two gateways on one ledger.
 *
 * A clone inherits its parent's memory: cman_cell_env is all it may use of it. It starts its role on
 * the stack of cman_cell_enter(), not below its parent's frames: there may be thousands of generations.
 *
 *	cman_cell_enter()   once, in the first process of a cell: it becomes the keeper
 *	cman_cell_tend()    in every role's loop, when a watched pidfd fires or the timeout passes
 */
#ifndef CMAN_SYS_CELL_H
#define CMAN_SYS_CELL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "usr/sys/maps.h"

struct cman_cell_env {
	struct cman_maps maps; /* memory only; no descriptors */
	uint32_t index;	       /* of the cell */
	struct cman_cell *cell;
	struct cman_slot *slots; /* this cell's part of the ledger */
	struct cman_pipe *pipes; /* this cell's part of the pipes */
	uint32_t nslots;
	uint8_t *buffers;		/* the memfd, mapped */
	int splice_fd[CMAN_SPLICE_FDS]; /* numbers in the cell's table; 0: no service wants it */

	/* what the process does in each role: never returns. From the process table. */
	void (*start[CMAN_ROLES])(struct cman_cell_env *env);

	/* private to each process, reset when a role is taken */
	enum cman_role role;
	uint32_t marked;	   /* depth of cman_cell_mark() */
	uint64_t seen[CMAN_ROLES]; /* the word that pidfd[] was opened for */
	int pidfd[CMAN_ROLES];	   /* of the other holders; -1: none */
};

/* Slot 0..1 of own_fd[role] hold the pidfds; the rest is the role's. */
#define CMAN_OWN_FIRST 2

/*
 * Watches the other roles and replaces the dead. Returns how long the caller may wait, in ms: -1
 * while all live, small while somebody is being replaced. *ret_changed: pidfds were opened or
 * closed: the caller's poll set must be made anew.
 */
int cman_cell_tend(struct cman_cell_env *env, bool *ret_changed);

/* In the first process: takes the role of keeper and starts it. Never returns. */
void cman_cell_enter(struct cman_cell_env *env) __attribute__((noreturn));

/* Records a descriptor as private to the role, so that its successor closes it. */
void cman_cell_own(struct cman_cell_env *env, unsigned int slot, int fd);

/*
 * Around the making and closing of descriptors that are not recorded: nothing is swept meanwhile,
 * and who dies here leaves a table to be swept. Nests.
 */
void cman_cell_mark(struct cman_cell_env *env, bool on);

/* pid of a role's holder, 0 when there is none (or only a claim). */
pid_t cman_cell_pid(const struct cman_cell *cell, enum cman_role role);

/* Descriptors may be open that nothing names: have the gateway look. */
void cman_cell_want_sweep(struct cman_cell *cell);

/*
 * Around an import: from before a TAKE until its numbers are in the ledger no scan may run. reset: by
 * a new manager, for what its predecessor began.
 */
void cman_cell_import_begin(struct cman_cell *cell);
void cman_cell_import_end(struct cman_cell *cell);
void cman_cell_import_reset(struct cman_cell *cell);

uint64_t cman_now_ns(void); /* CLOCK_BOOTTIME */

#endif
