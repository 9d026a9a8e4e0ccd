/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving many TCP connections: the calls of cman/repair.h for a whole batch. Their order, what they
 * mean and what the guard has to do meanwhile is told there; here is what differs:
 *
 *	cman_bulk_describe()   any number, long before: as much as a BPF program can read is read
 *	                       by it, in passes of up to 1024; the rest by system calls
 *	   - the guard closes on the batch, and the fence is passed -
 *	cman_bulk_freeze()     hold() on each, then one pass that reads the state of all, then the
 *	                       bytes of their queues: freeze() and export() in one
 *	cman_bulk_close()
 *	                       ... the images travel ...
 *	cman_bulk_import()
 *	cman_bulk_release()
 *	   - the guard opens -
 *
 *	cman_bulk_thaw(), cman_bulk_abort()   the ways back
 *
 * One path leads through all this, with the BPF programs or without: what was not read by them is
 * asked by system calls, socket by socket, option by option.
 *
 * Errors are each item's own (item.err, item.why); one that fails does not hold up the others. An
 * item whose err is set when a call begins is skipped by it, so the calls can simply follow each
 * other; the caller looks at the end of each which items to thaw or to import again. Which thread
 * did an item makes no difference to its result. Every call returns how many items failed in it.
 *
 * A bulk belongs to one thread and one network namespace: that which the caller is in when he opens
 * it, and during all calls. Its worker threads are made there.
 */
#ifndef CMAN_SYS_BULK_H
#define CMAN_SYS_BULK_H

#include <stddef.h>
#include <stdint.h>

#include "cman/repair.h"

struct cman_bulk;

struct cman_bulk_item {
	int fd; /* close() and abort() set it to -1, import() to the new socket */
	struct cman_repair_image *image;
	int err;	 /* 0 or -errno */
	const char *why; /* constant text, with err */
	uint64_t cookie; /* describe(): of the socket; ours to use */
};

/* Which way the state is read. */
enum cman_bulk_way {
	CMAN_BULK_AUTO,	    /* the quickest for the number of items, as measured; see repair.rst */
	CMAN_BULK_SYSCALLS, /* as if the kernel had no BPF */
	CMAN_BULK_LOOKUP,
	CMAN_BULK_WALK, /* iter/tcp */
};

/*
 * @threads: 1 works in the calling thread only; 2 and more (at most 16) are workers beside it; 0: one
 * for each CPU that the process may use, at most 2. 0 or -errno. That BPF cannot be had is no error:
 * cman_bulk_why_syscalls() tells.
 */
int cman_bulk_open(unsigned int threads, enum cman_bulk_way way, struct cman_bulk **ret);
void cman_bulk_free(struct cman_bulk *bulk);

/* NULL when the BPF programs run, else why they do not. */
const char *cman_bulk_why_syscalls(const struct cman_bulk *bulk);
unsigned int cman_bulk_threads(const struct cman_bulk *bulk);

/* Images are reset; image->want is kept. */
size_t cman_bulk_describe(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n);
size_t cman_bulk_freeze(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n);
size_t cman_bulk_close(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n);
/* @inject: as cman_repair_import(); its function is then called by several threads. */
size_t cman_bulk_import(struct cman_bulk *bulk, const struct cman_repair_inject *inject,
			struct cman_bulk_item *items, size_t n);
size_t cman_bulk_release(struct cman_bulk *bulk, const struct cman_repair_inject *inject,
			 struct cman_bulk_item *items, size_t n);

/*
 * Undo. Of all items, those with an error too: thaw() does what is frozen, abort() what was imported
 * and not released. They do not touch item.err, except of an item that had none.
 */
size_t cman_bulk_thaw(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n);
size_t cman_bulk_abort(struct cman_bulk *bulk, struct cman_bulk_item *items, size_t n);

#endif
