/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handover journal of one instance: RUN_DIR/ALIAS/journal, a file of fixed 32-byte records on
 * tmpfs, root only. It survives the death of every process, not a reboot (which takes the sockets
 * too). It holds the registers of the batches (usr/core/handover.h): each change is made under an
 * exclusive flock(2) that is taken before reading, so that source and target, or their successors,
 * can decide one batch with one compare-and-set, whoever is alive.
 *
 * A record is {magic, crc, id, kind, count, time}; the last record of an id is its value. Records
 * never cross a page, so that a write is whole or absent. No fsync. What a killed writer left at the
 * end (a part of a record, or one with a wrong checksum) was never acted upon: it is ignored, and
 * overwritten by the next record; a bad record before the end is -EBADMSG.
 *
 * Nobody waits for ever: a lock that is not free within 2 seconds (its holder is stopped) is
 * -ETIMEDOUT. The lock belongs to the open file: every process opens the journal itself, a forked
 * child must not use its parent's. Not for several threads.
 */
#ifndef CMAN_SYS_JOURNAL_H
#define CMAN_SYS_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "usr/core/handover.h"

struct cman_journal_index;

struct cman_journal {
	int fd;
	struct cman_journal_index *index; /* of the records read so far */
	bool read_only;
};

/* Opens or makes the file (0600). 0 or -errno; -EBADMSG: not a journal, or a damaged one. */
int cman_journal_open(const char *path, struct cman_journal *ret_journal);

/*
 * For who only looks: makes nothing, changes nothing, and takes no lock, so that it neither waits for
 * anybody nor lets anybody wait. It sees the records that were whole when it read them. Also
 * -ENOENT; write() and decide() are -EPERM.
 */
int cman_journal_open_read_only(const char *path, struct cman_journal *ret_journal);
void cman_journal_close(struct cman_journal *j);

/* Appends (id, value). 0 or -errno. */
int cman_journal_write(struct cman_journal *j, uint64_t id, enum cman_register value,
		       uint32_t count);

/*
 * Compare-and-set: if the value of @id is @from (UNKNOWN: no record), appends @to with the count of
 * the record before. *ret_value is what the register says afterwards: @to, or what was found. 0 or
 * -errno.
 */
int cman_journal_decide(struct cman_journal *j, uint64_t id, enum cman_register from,
			enum cman_register to, enum cman_register *ret_value);

int cman_journal_read(struct cman_journal *j, uint64_t id, enum cman_register *ret_value);

/*
 * Every id with its last record, in the order in which the ids first appeared; time_ns is
 * CLOCK_BOOTTIME. A non-zero return of @fn ends the walk and is returned. @fn may use @j.
 */
int cman_journal_each(struct cman_journal *j,
		      int (*fn)(void *arg, uint64_t id, enum cman_register value, uint32_t count,
				uint64_t time_ns),
		      void *arg);

#endif
