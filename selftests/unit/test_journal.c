/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handover journal: values and order, compare-and-set between two processes that race for 10,000
 * ids, readers beside a writer, what a killed writer leaves behind, files that are no journal, and
 * a lock whose holder does not let go.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "usr/sys/journal.h"

#define RACE_IDS 10000

static char dir[64], path[96];

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/cman-journal.XXXXXX");
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/journal", dir);
}

static void teardown(void)
{
	unlink(path);
	rmdir(dir);
}

TestSuite(journal, .init = setup, .fini = teardown);

static struct cman_journal opened(void)
{
	struct cman_journal j;

	cr_assert_eq(cman_journal_open(path, &j), 0);
	return j;
}

static enum cman_register value_of(struct cman_journal *j, uint64_t id)
{
	enum cman_register v = (enum cman_register)99;

	cr_assert_eq(cman_journal_read(j, id, &v), 0);
	return v;
}

static off_t size_of(void)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return st.st_size;
}

static void add_bytes(const void *p, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, p, n), (ssize_t)n);
	close(fd);
}

Test(journal, last_record_is_the_value)
{
	struct cman_journal j = opened(), other = opened();
	enum cman_register v;
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	cr_assert_eq(value_of(&j, 1), CMAN_REG_UNKNOWN);
	cr_assert_eq(cman_journal_write(&j, 1, CMAN_REG_PARKED, 64), 0);
	cr_assert_eq(value_of(&other, 1), CMAN_REG_PARKED);
	cr_assert_eq(cman_journal_decide(&other, 1, CMAN_REG_PARKED, CMAN_REG_TAKE, &v), 0);
	cr_assert_eq(v, CMAN_REG_TAKE);
	cr_assert_eq(cman_journal_decide(&j, 1, CMAN_REG_PARKED, CMAN_REG_COMMIT, &v), 0);
	cr_assert_eq(v, CMAN_REG_TAKE);
	cr_assert_eq(cman_journal_decide(&j, 2, CMAN_REG_UNKNOWN, CMAN_REG_DROP, &v), 0);
	cr_assert_eq(v, CMAN_REG_DROP);
	cr_assert_eq(cman_journal_decide(&j, 3, CMAN_REG_PARKED, CMAN_REG_COMMIT, &v), 0);
	cr_assert_eq(v, CMAN_REG_UNKNOWN);
	cr_assert_eq(value_of(&other, 3), CMAN_REG_UNKNOWN);
	cr_assert_eq(cman_journal_write(&j, 1, CMAN_REG_UNKNOWN, 0), -EINVAL);
	cr_assert_eq(cman_journal_write(&j, 1, (enum cman_register)10, 0), -EINVAL);
	cr_assert_eq(size_of(), 3 * 32);
	cman_journal_close(&j);
	cman_journal_close(&other);
	cr_assert_eq(j.fd, -1);
}

struct walk {
	uint64_t id[8];
	enum cman_register value[8];
	uint32_t count[8];
	uint64_t time_ns[8];
	int n, stop_at;
};

static int walk_one(void *arg, uint64_t id, enum cman_register value, uint32_t count,
		    uint64_t time_ns)
{
	struct walk *w = arg;

	w->id[w->n] = id;
	w->value[w->n] = value;
	w->count[w->n] = count;
	w->time_ns[w->n] = time_ns;
	return ++w->n == w->stop_at ? -ECANCELED : 0;
}

Test(journal, each_in_order_of_appearance)
{
	struct cman_journal j = opened();
	struct walk w = { 0 };
	enum cman_register v;

	cman_journal_write(&j, 7, CMAN_REG_PARKED, 64);
	cman_journal_write(&j, 5, CMAN_REG_PARKED, 3);
	cman_journal_decide(&j, 7, CMAN_REG_PARKED, CMAN_REG_COMMIT, &v);
	cman_journal_write(&j, 9, CMAN_REG_PREPARED, 1);
	cr_assert_eq(cman_journal_each(&j, walk_one, &w), 0);
	cr_assert_eq(w.n, 3);
	cr_assert(w.id[0] == 7 && w.id[1] == 5 && w.id[2] == 9);
	cr_assert_eq(w.value[0], CMAN_REG_COMMIT);
	cr_assert_eq(w.count[0], 64, "the count of the record before is kept");
	cr_assert_eq(w.count[1], 3);
	cr_assert(w.time_ns[1] && w.time_ns[0] >= w.time_ns[1]);
	w = (struct walk){ .stop_at = 2 };
	cr_assert_eq(cman_journal_each(&j, walk_one, &w), -ECANCELED);
	cr_assert_eq(w.n, 2);
	cman_journal_close(&j);
}

/* Opens its own journal; decides every id, in an order of its own; records what it was told. */
static void racer(enum cman_register to, unsigned char *told, int step, const int *go)
{
	struct cman_journal j;
	enum cman_register v;

	if (cman_journal_open(path, &j))
		_exit(1);
	while (!__atomic_load_n(go, __ATOMIC_ACQUIRE))
		;
	for (int i = 0, id = 0; i < RACE_IDS; i++, id = (id + step) % RACE_IDS) {
		if (cman_journal_decide(&j, (uint64_t)id + 1, CMAN_REG_PARKED, to, &v))
			_exit(2);
		told[id] = (unsigned char)v;
	}
	_exit(0);
}

Test(journal, two_processes_race_for_10000_ids)
{
	const size_t size = 2 * RACE_IDS + 64;
	unsigned char *told = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				   -1, 0);
	int *go = (int *)(void *)(told + 2 * RACE_IDS), won[2] = { 0 }, status;
	struct cman_journal j = opened();
	pid_t pid[2];

	for (uint64_t id = 1; id <= RACE_IDS; id++)
		cr_assert_eq(cman_journal_write(&j, id, CMAN_REG_PARKED, 1), 0);
	for (int k = 0; k < 2; k++) {
		pid[k] = fork();
		if (!pid[k])
			racer(k ? CMAN_REG_TAKE : CMAN_REG_ABORT, told + k * RACE_IDS, k ? 7 : 1,
			      go);
	}
	__atomic_store_n(go, 1, __ATOMIC_RELEASE);
	for (int k = 0; k < 2; k++) {
		cr_assert_eq(waitpid(pid[k], &status, 0), pid[k]);
		cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "racer %d: %d", k, status);
	}
	for (int id = 0; id < RACE_IDS; id++) {
		enum cman_register v = value_of(&j, (uint64_t)id + 1);

		cr_assert_eq(told[id], v);
		cr_assert_eq(told[RACE_IDS + id], v);
		cr_assert(v == CMAN_REG_ABORT || v == CMAN_REG_TAKE);
		won[v == CMAN_REG_TAKE]++;
	}
	cr_assert_eq(size_of(), 2 * RACE_IDS * 32, "one record of each id for its one winner");
	cr_assert(won[0] && won[1], "no race: %d to %d", won[0], won[1]);
	cman_journal_close(&j);
	munmap(told, size);
}

/* A reader beside a writer: an id's value only ever moves forward, and is never damaged. */
Test(journal, concurrent_readers)
{
	static const enum cman_register stage[] = { CMAN_REG_PARKED, CMAN_REG_COMMIT,
						    CMAN_REG_DONE };
	struct cman_journal j = opened();
	pid_t pid[3];
	int status;

	for (int k = 0; k < 3; k++) {
		pid[k] = fork();
		if (pid[k])
			continue;
		struct cman_journal r;
		enum cman_register v = CMAN_REG_UNKNOWN, before = CMAN_REG_UNKNOWN;

		if (cman_journal_open(path, &r))
			_exit(1);
		for (uint64_t id = 1; id <= 500; before = CMAN_REG_UNKNOWN)
			for (;; before = v) {
				if (cman_journal_read(&r, id, &v))
					_exit(2);
				if (v < before)
					_exit(3);
				if (v == CMAN_REG_DONE) {
					id++;
					break;
				}
			}
		cman_journal_close(&r);
		_exit(0);
	}
	for (uint64_t id = 1; id <= 500; id++)
		for (int s = 0; s < 3; s++)
			cr_assert_eq(cman_journal_write(&j, id, stage[s], 1), 0);
	for (int k = 0; k < 3; k++) {
		waitpid(pid[k], &status, 0);
		cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "reader %d: %d", k,
			  status);
	}
	cman_journal_close(&j);
}

Test(journal, torn_tail_is_ignored_and_overwritten)
{
	static const char zeros[32];

	for (size_t torn = 1; torn <= 32; torn++) {
		struct cman_journal j = opened(), next;
		off_t whole;

		cr_assert_eq(cman_journal_write(&j, torn, CMAN_REG_PARKED, 1), 0);
		whole = size_of();
		add_bytes(zeros, torn);
		next = opened();
		cr_assert_eq(value_of(&next, torn), CMAN_REG_PARKED);
		cr_assert_eq(cman_journal_write(&next, torn, CMAN_REG_COMMIT, 1), 0);
		cr_assert_eq(size_of(), whole + 32);
		cr_assert_eq(value_of(&j, torn), CMAN_REG_COMMIT);
		cman_journal_close(&next);
		cman_journal_close(&j);
	}
}

/* the same at the very beginning, and where the pieces end in which the file is read */
Test(journal, torn_at_edges)
{
	struct cman_journal j = opened(), next;

	cr_assert_eq(cman_journal_write(&j, 1, CMAN_REG_PARKED, 1), 0);
	cr_assert_eq(truncate(path, 9), 0);
	cman_journal_close(&j);
	j = opened();
	cr_assert_eq(value_of(&j, 1), CMAN_REG_UNKNOWN);
	for (uint64_t id = 1; id <= 127; id++)
		cr_assert_eq(cman_journal_write(&j, id, CMAN_REG_PARKED, 1), 0);
	add_bytes("this is a record of 32 bytes ...", 32);
	next = opened();
	cr_assert_eq(value_of(&next, 127), CMAN_REG_PARKED);
	cr_assert_eq(cman_journal_write(&next, 128, CMAN_REG_PARKED, 1), 0);
	cr_assert_eq(value_of(&j, 128), CMAN_REG_PARKED);
	cr_assert_eq(size_of(), 128 * 32);
	cman_journal_close(&next);
	cman_journal_close(&j);
}

Test(journal, damage_is_found)
{
	struct cman_journal j, next = { .fd = 77 };
	enum cman_register v = CMAN_REG_UNKNOWN;
	int fd;

	for (int records = 2; records <= 300; records += 149) {
		for (int at = 0; at < records - 1; at += 63) {
			unlink(path);
			j = opened();
			for (int i = 0; i < records; i++)
				cr_assert_eq(cman_journal_write(&j, (uint64_t)i + 1,
								CMAN_REG_PARKED, 1),
					     0);
			fd = open(path, O_WRONLY);
			cr_assert_eq(pwrite(fd, "!", 1, at * 32 + 20), 1);
			close(fd);
			cr_assert_eq(cman_journal_open(path, &next), -EBADMSG, "%d of %d", at,
				     records);
			cr_assert_eq(next.fd, 77, "untouched on failure");
			cman_journal_close(&j);
		}
	}
	/* damage behind what this one has read: no decision */
	unlink(path);
	j = opened();
	cr_assert_eq(cman_journal_write(&j, 1, CMAN_REG_PARKED, 1), 0);
	add_bytes("this is a record of 32 bytes ...and this is another of 32 bytes", 64);
	cr_assert_eq(cman_journal_decide(&j, 1, CMAN_REG_PARKED, CMAN_REG_TAKE, &v), -EBADMSG);
	cr_assert_eq(cman_journal_read(&j, 1, &v), -EBADMSG);
	cr_assert_eq(cman_journal_write(&j, 2, CMAN_REG_PARKED, 1), -EBADMSG);
	cr_assert_eq(v, CMAN_REG_UNKNOWN);
	cman_journal_close(&j);
}

Test(journal, not_a_journal)
{
	static const char *const texts[] = { "x", "hello", "root:x:0:0:root:/root:/bin/bash\n",
					     "root:x:0:0:root:/root:/bin/bash\nbin:x:2:2::/bin:/x" };
	struct cman_journal j;
	char link[128];

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		unlink(path);
		add_bytes(texts[i], strlen(texts[i]));
		cr_assert_eq(cman_journal_open(path, &j), -EBADMSG, "%s", texts[i]);
		cr_assert_eq(size_of(), (off_t)strlen(texts[i]));
	}
	snprintf(link, sizeof(link), "%s/link", dir);
	cr_assert_eq(symlink(path, link), 0);
	cr_assert_eq(cman_journal_open(link, &j), -ELOOP);
	unlink(link);
	cr_assert_eq(cman_journal_open(dir, &j), -EISDIR);
	unlink(path);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_assert_eq(cman_journal_open(path, &j), -EBADMSG);
	cr_assert_eq(cman_journal_open("/nonexistent/journal", &j), -ENOENT);
}

Test(journal, read_only_sees_and_changes_nothing)
{
	struct cman_journal w, r = { .fd = 77 };
	struct walk walk = { 0 };
	enum cman_register v;
	int fd;

	cr_assert_eq(cman_journal_open_read_only(path, &r), -ENOENT);
	cr_assert_eq(r.fd, 77);
	cr_assert_neq(access(path, F_OK), 0, "it was not made");
	w = opened();
	cr_assert_eq(cman_journal_open_read_only(path, &r), 0);
	cr_assert_eq(cman_journal_each(&r, walk_one, &walk), 0);
	cr_assert_eq(walk.n, 0);
	cr_assert_eq(cman_journal_write(&w, 1, CMAN_REG_PARKED, 3), 0);
	/* a writer that holds the lock, even for ever */
	fd = open(path, O_RDWR);
	cr_assert_eq(flock(fd, LOCK_EX), 0);
	cr_assert_eq(value_of(&r, 1), CMAN_REG_PARKED);
	cr_assert_eq(cman_journal_each(&r, walk_one, &walk), 0);
	cr_assert_eq(walk.n, 1);
	close(fd);
	cr_assert_eq(cman_journal_write(&r, 2, CMAN_REG_PARKED, 1), -EPERM);
	cr_assert_eq(cman_journal_decide(&r, 1, CMAN_REG_PARKED, CMAN_REG_TAKE, &v), -EPERM);
	cr_assert_eq(size_of(), 32);
	/* what a killed writer left is not seen; nor is the file made shorter */
	add_bytes("this is a record of 32 bytes ...", 32);
	cman_journal_close(&r);
	cr_assert_eq(cman_journal_open_read_only(path, &r), 0);
	cr_assert_eq(value_of(&r, 1), CMAN_REG_PARKED);
	cr_assert_eq(size_of(), 64);
	add_bytes("this is a record of 32 bytes ...", 32);
	cr_assert_eq(cman_journal_read(&r, 1, &v), -EBADMSG);
	cman_journal_close(&r);
	cr_assert_eq(cman_journal_open_read_only(path, &r), -EBADMSG);
	cman_journal_close(&w);
}

/* Beside a writer that appends as fast as it can: never an error, never a step back. */
Test(journal, read_only_beside_a_writer)
{
	struct cman_journal j = opened();
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct cman_journal w;

		if (cman_journal_open(path, &w))
			_exit(1);
		for (uint64_t id = 1; id <= 20000; id++)
			if (cman_journal_write(&w, id, CMAN_REG_PARKED, 1))
				_exit(2);
		_exit(0);
	}
	for (size_t most = 0; most < 20000;) {
		struct cman_journal r;
		enum cman_register v;
		size_t n = 0;
		int err = cman_journal_open_read_only(path, &r);

		cr_assert_eq(err, 0, "%d", err);
		while (cman_journal_read(&r, n + 1, &v) == 0 && v == CMAN_REG_PARKED)
			n++;
		cr_assert_geq(n, most);
		most = n;
		cman_journal_close(&r);
		if (waitpid(pid, &status, WNOHANG) == pid) {
			cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
			pid = -1;
		}
	}
	if (pid > 0)
		cr_assert_eq(waitpid(pid, &status, 0), pid);
	cman_journal_close(&j);
}

Test(journal, a_stopped_holder_does_not_stop_others, .timeout = 20)
{
	struct cman_journal j = opened();
	enum cman_register v;
	int fd = open(path, O_RDWR);

	cr_assert_eq(cman_journal_write(&j, 1, CMAN_REG_PARKED, 1), 0);
	cr_assert_eq(flock(fd, LOCK_EX), 0);
	cr_assert_eq(cman_journal_decide(&j, 1, CMAN_REG_PARKED, CMAN_REG_TAKE, &v), -ETIMEDOUT);
	close(fd);
	cr_assert_eq(cman_journal_decide(&j, 1, CMAN_REG_PARKED, CMAN_REG_TAKE, &v), 0);
	cr_assert_eq(v, CMAN_REG_TAKE);
	cman_journal_close(&j);
}
