/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handover journal (journal.h): a file of 32-byte records, appended under flock(2), and in memory
 * an index of what was read so far: the last record of each id, in order of appearance, found by
 * an open-addressed hash table. Every operation locks, reads what others have appended since, and
 * only then answers or appends; so nothing here is ever older than the lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "usr/sys/journal.h"

/* Room for 8192 records is taken at once: a full tmpfs must not stop a handover half-way. */
#define RESERVED     (256 * 1024)
#define MAGIC	     0x434d4a31u /* "CMJ1" */
#define LOCK_WAIT_MS 2000
#define READ_TRIES   5

struct record {
	uint32_t magic;
	uint32_t crc; /* of what follows */
	uint64_t id;
	uint32_t kind;
	uint32_t count;
	uint64_t time_ns;
};

_Static_assert(sizeof(struct record) == 32, "a record divides a page");

struct cman_journal_index {
	struct record *entry; /* the last record of each id */
	size_t n, size;
	uint32_t *table; /* entry number + 1; a power of two, at most half full */
	size_t slots;
	off_t end; /* of the records read */
};

static uint32_t crc32_of(const struct record *r)
{
	const unsigned char *p = (const unsigned char *)&r->id;
	uint32_t crc = ~0u;

	for (size_t i = 0; i < sizeof(*r) - offsetof(struct record, id); i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
	}
	return ~crc;
}

static bool record_valid(const struct record *r)
{
	return r->magic == MAGIC && r->crc == crc32_of(r) && r->kind > CMAN_REG_UNKNOWN &&
	       r->kind <= CMAN_REG_DONE;
}

/* --- index */

static uint32_t *index_slot(const struct cman_journal_index *x, uint64_t id)
{
	size_t i = (id * 0x9e3779b97f4a7c15u) >> 32;

	for (i &= x->slots - 1; x->table[i] && x->entry[x->table[i] - 1].id != id;)
		i = (i + 1) & (x->slots - 1);
	return &x->table[i];
}

static struct record *index_find(const struct cman_journal_index *x, uint64_t id)
{
	uint32_t *slot = x->slots ? index_slot(x, id) : NULL;

	return slot && *slot ? &x->entry[*slot - 1] : NULL;
}

/* Makes room for one more id, so that putting it cannot fail. */
static int index_reserve(struct cman_journal_index *x)
{
	if (x->n == x->size) {
		size_t size = x->size ? 2 * x->size : 64;
		struct record *e = reallocarray(x->entry, size, sizeof(*e));

		if (!e)
			return -ENOMEM;
		x->entry = e;
		x->size = size;
	}
	if (2 * (x->n + 1) > x->slots) {
		size_t slots = x->slots ? 2 * x->slots : 256;
		uint32_t *table = calloc(slots, sizeof(*table));

		if (!table)
			return -ENOMEM;
		free(x->table);
		x->table = table;
		x->slots = slots;
		for (size_t i = 0; i < x->n; i++)
			*index_slot(x, x->entry[i].id) = (uint32_t)i + 1;
	}
	return 0;
}

static void index_put(struct cman_journal_index *x, const struct record *r)
{
	uint32_t *slot = index_slot(x, r->id);

	if (!*slot)
		*slot = (uint32_t)++x->n;
	x->entry[*slot - 1] = *r;
}

/* --- file; everything below is called with the lock held */

static ssize_t read_full(int fd, void *buf, size_t len, off_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, at + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Reads what was appended since the last time. */
static int catch_up(struct cman_journal *j)
{
	struct cman_journal_index *x = j->index;
	struct record r[128];
	bool bad = false;
	ssize_t n;

	do {
		off_t at = x->end;

		n = read_full(j->fd, r, sizeof(r), at);
		if (n < 0)
			return (int)n;
		/* a bad one may only be the last: the remains of a writer that was killed */
		for (size_t i = 0; i < (size_t)n / sizeof(*r); i++) {
			int err;

			if (bad)
				return -EBADMSG;
			bad = !record_valid(&r[i]);
			if (bad)
				continue;
			err = index_reserve(x);
			if (err)
				return err;
			index_put(x, &r[i]);
			x->end += (off_t)sizeof(*r);
		}
		if (bad && (size_t)n == sizeof(r) && x->end + (off_t)sizeof(*r) == at + n) {
			/* the bad one ended this piece: it must end the file too */
			n = read_full(j->fd, r, 1, at + n);
			return n < 0 ? (int)n : n ? -EBADMSG : 0;
		}
		if (bad && (size_t)n % sizeof(*r))
			return -EBADMSG;
	} while (n == (ssize_t)sizeof(r));
	return 0;
}

static int append(struct cman_journal *j, uint64_t id, enum cman_register value, uint32_t count)
{
	struct cman_journal_index *x = j->index;
	struct record r = { .magic = MAGIC, .id = id, .kind = (uint32_t)value, .count = count };
	struct timespec now;
	int err = index_reserve(x);
	ssize_t n;

	if (err)
		return err;
	clock_gettime(CLOCK_BOOTTIME, &now);
	r.time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	r.crc = crc32_of(&r);
	do
		n = pwrite(j->fd, &r, sizeof(r), x->end);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(r)) {
		err = n < 0 ? -errno : -ENOSPC;
		if (n > 0 && ftruncate(j->fd, x->end) < 0)
			return -errno;
		return err;
	}
	index_put(x, &r);
	x->end += (off_t)sizeof(r);
	return 0;
}

/*
 * Without the lock: a record may be half written when it is read, and be followed by the next one when
 * the rest is. That is over when it is read again; damage stays.
 */
static int catch_up_unlocked(struct cman_journal *j)
{
	static const struct timespec pause = { .tv_nsec = 1000000 };
	int err = -EBADMSG;

	for (int i = 0; i < READ_TRIES && err == -EBADMSG; i++) {
		if (i)
			nanosleep(&pause, NULL);
		err = catch_up(j);
	}
	return err;
}

static int lock(struct cman_journal *j, int how)
{
	static const struct timespec pause = { .tv_nsec = 20000 };
	struct timespec start = { 0 }, now;
	int err;

	if (j->read_only)
		return how == LOCK_EX ? -EPERM : catch_up_unlocked(j);
	while (flock(j->fd, how | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (!start.tv_sec && !start.tv_nsec)
			start = now;
		if ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >
		    LOCK_WAIT_MS)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	err = catch_up(j);
	if (err)
		flock(j->fd, LOCK_UN);
	return err;
}

static void unlock(struct cman_journal *j)
{
	if (!j->read_only)
		flock(j->fd, LOCK_UN);
}

/* --- interface */

static int open_as(const char *path, bool read_only, struct cman_journal *ret_journal)
{
	struct cman_journal j = { .fd = -1, .read_only = read_only };
	int how = read_only ? O_RDONLY : O_RDWR | O_CREAT;
	struct stat st;
	int err;

	j.fd = open(path, how | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (j.fd < 0)
		return -errno;
	j.index = calloc(1, sizeof(*j.index));
	if (!j.index)
		err = -ENOMEM;
	else if (fstat(j.fd, &st) < 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EBADMSG;
	else
		err = !read_only && fallocate(j.fd, FALLOC_FL_KEEP_SIZE, 0, RESERVED) < 0 &&
				      errno != EOPNOTSUPP ?
			      -errno :
			      0;
	if (!err)
		err = lock(&j, LOCK_SH);
	if (!err) {
		/* no record, but bytes: only what a killed first write can leave */
		if (!j.index->n) {
			uint32_t magic = MAGIC;
			struct record head[2];
			ssize_t n = read_full(j.fd, head, sizeof(head), 0);

			if (n < 0)
				err = (int)n;
			else if (read_only && n >= (ssize_t)sizeof(*head) && record_valid(head))
				err = 0; /* written since */
			else if (n > (ssize_t)sizeof(*head) ||
				 memcmp(head, &magic, n < 4 ? (size_t)n : 4))
				err = -EBADMSG;
		}
		unlock(&j);
	}
	if (err) {
		cman_journal_close(&j);
		return err;
	}
	*ret_journal = j;
	return 0;
}

int cman_journal_open(const char *path, struct cman_journal *ret_journal)
{
	return open_as(path, false, ret_journal);
}

int cman_journal_open_read_only(const char *path, struct cman_journal *ret_journal)
{
	return open_as(path, true, ret_journal);
}

void cman_journal_close(struct cman_journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	if (j->index) {
		free(j->index->entry);
		free(j->index->table);
		free(j->index);
	}
	*j = (struct cman_journal){ .fd = -1 };
}

int cman_journal_write(struct cman_journal *j, uint64_t id, enum cman_register value,
		       uint32_t count)
{
	int err;

	if (value <= CMAN_REG_UNKNOWN || value > CMAN_REG_DONE)
		return -EINVAL;
	err = lock(j, LOCK_EX);
	if (err)
		return err;
	err = append(j, id, value, count);
	unlock(j);
	return err;
}

int cman_journal_decide(struct cman_journal *j, uint64_t id, enum cman_register from,
			enum cman_register to, enum cman_register *ret_value)
{
	enum cman_register found;
	const struct record *r;
	int err;

	if (to <= CMAN_REG_UNKNOWN || to > CMAN_REG_DONE)
		return -EINVAL;
	err = lock(j, LOCK_EX);
	if (err)
		return err;
	r = index_find(j->index, id);
	found = r ? (enum cman_register)r->kind : CMAN_REG_UNKNOWN;
	if (found == from) {
		err = append(j, id, to, r ? r->count : 0);
		found = to;
	}
	unlock(j);
	if (!err)
		*ret_value = found;
	return err;
}

int cman_journal_read(struct cman_journal *j, uint64_t id, enum cman_register *ret_value)
{
	const struct record *r;
	int err = lock(j, LOCK_SH);

	if (err)
		return err;
	unlock(j);
	r = index_find(j->index, id);
	*ret_value = r ? (enum cman_register)r->kind : CMAN_REG_UNKNOWN;
	return 0;
}

int cman_journal_each(struct cman_journal *j,
		      int (*fn)(void *arg, uint64_t id, enum cman_register value, uint32_t count,
				uint64_t time_ns),
		      void *arg)
{
	int err = lock(j, LOCK_SH);

	if (err)
		return err;
	unlock(j);
	/* by number and by value: @fn may append */
	for (size_t i = 0; i < j->index->n && !err; i++) {
		struct record r = j->index->entry[i];

		err = fn(arg, r.id, (enum cman_register)r.kind, r.count, r.time_ns);
	}
	return err;
}
