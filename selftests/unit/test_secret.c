// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory for secrets, as the kernel sees it: flags and locked bytes of /proc/self/smaps, seals, blocks.
 * That bytes are gone when pages are given back is shown with a pipe that still refers to the pages.
 * What a low limit of locked memory does needs a process without the privilege to exceed it.
 */
#include <cap-ng.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "usr/sys/secret.h"
#include "usr/sys/tls_cell.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

#define PAGE 4096

TestSuite(secret, .timeout = 60);

/* The mapping that holds @p */
struct region {
	bool there, locked, undumped, shared;
	unsigned long rss, locked_kb;
};

static struct region look_up(const void *p)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	struct region r = { .there = false };
	unsigned long from, to, kb;
	bool here = false;
	char line[512];

	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-') < line + 20) {
			here = (uintptr_t)p >= from && (uintptr_t)p < to;
			r.there |= here;
		} else if (!here) {
			continue;
		} else if (sscanf(line, "Rss: %lu kB", &kb) == 1) {
			r.rss = kb;
		} else if (sscanf(line, "Locked: %lu kB", &kb) == 1) {
			r.locked_kb = kb;
		} else if (!strncmp(line, "VmFlags:", 8)) {
			r.locked = strstr(line, " lo") != NULL;
			r.undumped = strstr(line, " dd") != NULL;
			r.shared = strstr(line, " sh") != NULL;
		}
	}
	fclose(f);
	return r;
}

static bool all(const void *p, size_t n, uint8_t byte)
{
	const uint8_t *b = p;

	while (n && *b == byte) {
		b++;
		n--;
	}
	return !n;
}

/* The tests below need the lock, so they need a limit that allows it. */
static void begin(void)
{
	struct rlimit limit = { 64 << 20, 64 << 20 };

	setrlimit(RLIMIT_MEMLOCK, &limit);
}

Test(secret, alloc, .init = begin)
{
	const size_t len = 5 * PAGE + 1;
	uint8_t *p = cman_secret_alloc(len);
	struct region r;

	cr_assert_not_null(p);
	cr_expect(all(p, len, 0));
	r = look_up(p);
	cr_expect(r.there && r.locked, "can be swapped");
	cr_expect(r.undumped, "would be in a core");
	cr_expect(!r.shared);
	memset(p, 0x5a, len);
	cr_expect_geq(look_up(p).locked_kb, 24);
	cman_secret_free(p, len);
	cr_expect(!look_up(p).there, "still mapped");
	cman_secret_free(NULL, len);
	cr_expect_null(cman_secret_alloc(SIZE_MAX / 2));
	cr_expect_null(cman_secret_alloc(0));
}

/* What was secret stays with who has it; a child can give the memory back like its own. */
Test(secret, alloc_and_fork, .init = begin)
{
	uint8_t *p = cman_secret_alloc(2 * PAGE);
	int status;
	pid_t pid;

	cr_assert_not_null(p);
	memset(p, 0x5a, 2 * PAGE);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (!pid) {
		if (!all(p, 2 * PAGE, 0))
			_exit(1);
		cman_secret_free(p, 2 * PAGE);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child has it: %x", status);
	cr_expect(all(p, 2 * PAGE, 0x5a));
	cman_secret_free(p, 2 * PAGE);
}

Test(secret, shred)
{
	char folder[] = "/tmp/cman-secret.XXXXXX", text[70000];
	int dir, fd;

	cr_assert_not_null(mkdtemp(folder));
	dir = open(folder, O_DIRECTORY | O_CLOEXEC);
	fd = openat(dir, "image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(dir >= 0 && fd >= 0);
	memset(text, 0x5a, sizeof(text));
	cr_assert_eq(write(fd, text, sizeof(text)), (ssize_t)sizeof(text));
	cr_assert_eq(symlinkat("image", dir, "link"), 0);

	cman_secret_shred(dir, "link");
	cr_expect(faccessat(dir, "link", F_OK, AT_SYMLINK_NOFOLLOW) < 0, "the link is there");
	cr_expect_eq(pread(fd, text, sizeof(text), 0), (ssize_t)sizeof(text));
	cr_expect(all(text, sizeof(text), 0x5a), "what it names was wiped");
	cman_secret_shred(dir, "image");
	cr_expect(faccessat(dir, "image", F_OK, 0) < 0, "the file is there");
	cr_expect_eq(pread(fd, text, sizeof(text), 0), (ssize_t)sizeof(text));
	cr_expect(all(text, sizeof(text), 0), "its bytes are there");
	cman_secret_shred(dir, "image");
	close(fd);
	close(dir);
	cr_expect_eq(rmdir(folder), 0);
}

Test(secret, wipe)
{
	uint8_t bytes[100];

	memset(bytes, 0x5a, sizeof(bytes));
	cman_secret_wipe(bytes + 1, 98);
	cr_expect(all(bytes + 1, 98, 0));
	cr_expect_eq(bytes[0], 0x5a);
	cr_expect_eq(bytes[99], 0x5a);
	cman_secret_wipe(bytes, 0);
	cr_expect_eq(bytes[0], 0x5a);
	cman_secret_wipe(NULL, 0);
}

static bool kernel_has_noexec(void)
{
	int fd = memfd_create("probe", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static long blocks(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return (long)st.st_blocks;
}

Test(secret, memfd)
{
	int fd = cman_secret_memfd("cman-test", 10 * PAGE), seals;
	char link[64], name[64] = "";
	struct stat st;

	cr_assert_geq(fd, 0);
	cr_expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_expect_eq(st.st_size, 10 * PAGE);
	cr_expect_eq(st.st_blocks, 0, "not sparse");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	cr_assert_gt(readlink(link, name, sizeof(name) - 1), 0);
	cr_expect_not_null(strstr(name, "cman-test"));

	seals = fcntl(fd, F_GET_SEALS);
	cr_expect_eq(seals & ~F_SEAL_EXEC, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (kernel_has_noexec()) {
		cr_expect(seals & F_SEAL_EXEC);
		cr_expect_eq(st.st_mode & 0111, 0);
		cr_expect(fchmod(fd, 0777) < 0 && errno == EPERM);
	}
	cr_expect(ftruncate(fd, 9 * PAGE) < 0 && errno == EPERM);
	cr_expect(ftruncate(fd, 11 * PAGE) < 0 && errno == EPERM);
	cr_expect(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
	close(fd);
	cr_expect_eq(cman_secret_memfd("cman-test", SIZE_MAX), -EINVAL);
}

Test(secret, map, .init = begin)
{
	const size_t len = 64 * PAGE;
	int fd = cman_secret_memfd("cman-test", len);
	void *one, *two, *part;
	struct region r;

	cr_assert_geq(fd, 0);
	cr_assert_eq(cman_secret_map(fd, len, len, &one), 0);
	r = look_up(one);
	cr_expect(r.locked && r.undumped && r.shared);
	cr_expect_eq(r.rss, 0, "pages exist that nobody has touched");
	memset((uint8_t *)one + 3 * PAGE, 0x5a, PAGE);
	r = look_up(one);
	cr_expect_eq(r.locked_kb, 4, "%lu kB locked", r.locked_kb);
	cr_expect_eq(blocks(fd), PAGE / 512);

	cr_assert_eq(cman_secret_map(fd, len, len, &two), 0);
	cr_expect_neq(one, two);
	cr_expect(all((uint8_t *)two + 3 * PAGE, PAGE, 0x5a), "not shared");
	cr_assert_eq(cman_secret_map(fd, PAGE, PAGE, &part), 0);
	cman_secret_unmap(part, PAGE);
	cman_secret_unmap(one, len);
	cr_expect(!look_up(one).there);
	cr_expect(all((uint8_t *)two + 3 * PAGE, PAGE, 0x5a), "wiped for others, too");
	cman_secret_unmap(two, len);
	cman_secret_unmap(NULL, len);
	close(fd);
}

static void expect_no_map(int fd, size_t len, const char *what)
{
	void *p = (void *)0x1234;
	int err = cman_secret_map(fd, len, len, &p);

	cr_expect_eq(err, -EBADF, "%s: %d", what, err);
	cr_expect_eq(p, (void *)0x1234, "%s", what);
}

Test(secret, map_refuses)
{
	int fd, ends[2];

	fd = memfd_create("plain", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(fd, PAGE), 0);
	expect_no_map(fd, PAGE, "a memfd without seals");
	close(fd);
	fd = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	cr_assert_eq(ftruncate(fd, PAGE), 0);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	expect_no_map(fd, PAGE, "a memfd that may shrink");
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	expect_no_map(fd, PAGE + 1, "more than there is");
	close(fd);
	expect_no_map(fd, PAGE, "a closed descriptor");
	cr_assert_eq(pipe(ends), 0);
	expect_no_map(ends[0], PAGE, "a pipe");
	close(ends[0]);
	close(ends[1]);
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	expect_no_map(fd, PAGE, "a file");
	close(fd);
}

Test(secret, punch, .init = begin)
{
	const size_t len = 32 * PAGE;
	int fd = cman_secret_memfd("cman-test", len);
	const long block = PAGE / 512;
	uint8_t *p;
	void *map;

	cr_assert_geq(fd, 0);
	cr_assert_eq(cman_secret_map(fd, len, len, &map), 0);
	p = map;
	memset(p, 0x5a, len);
	cr_expect_eq(blocks(fd), 32 * block);
	/* from the middle of page 1 to the middle of page 5: three whole pages */
	cman_secret_punch(fd, PAGE + 100, 4 * PAGE);
	cr_expect_eq(blocks(fd), 29 * block);
	cr_expect(all(p, PAGE + 100, 0x5a));
	cr_expect(all(p + PAGE + 100, 4 * PAGE, 0));
	cr_expect(all(p + 5 * PAGE + 100, len - 5 * PAGE - 100, 0x5a));
	/* within one page */
	memset(p, 0x5a, len);
	cman_secret_punch(fd, 10, 20);
	cr_expect_eq(blocks(fd), 32 * block);
	cr_expect(all(p, 10, 0x5a) && all(p + 10, 20, 0) && all(p + 30, PAGE - 30, 0x5a));
	/* all, twice; what is not there does not come into being */
	cman_secret_punch(fd, 0, len);
	cr_expect_eq(blocks(fd), 0);
	cman_secret_punch(fd, 0, len);
	cr_expect_eq(blocks(fd), 0);
	/* some of it, and beyond the end */
	p[7 * PAGE] = p[31 * PAGE] = 1;
	cman_secret_punch(fd, 6 * PAGE, 100 * PAGE);
	cr_expect_eq(blocks(fd), 0);
	cr_expect_eq(lseek(fd, 0, SEEK_END), (off_t)len);
	cr_expect(all(p, len, 0));
	cman_secret_unmap(map, len);
	close(fd);
}

/* Who still refers to a page that was given back finds nothing in it. */
Test(secret, punch_wipes)
{
	static uint8_t bytes[8 * PAGE];
	int fd = cman_secret_memfd("cman-test", sizeof(bytes)), ends[2];
	off_t at = 0;

	cr_assert_geq(fd, 0);
	memset(bytes, 0x5a, sizeof(bytes));
	cr_assert_eq(pwrite(fd, bytes, sizeof(bytes), 0), (ssize_t)sizeof(bytes));
	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(splice(fd, &at, ends[1], NULL, sizeof(bytes), 0), (ssize_t)sizeof(bytes));
	cman_secret_punch(fd, 0, sizeof(bytes));
	cr_assert_eq(read(ends[0], bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
	cr_expect(all(bytes, sizeof(bytes), 0), "pages went back with their bytes");
	close(ends[0]);
	close(ends[1]);
	close(fd);
}

/* From now on this process locks at most @bytes. */
static bool limit_to(size_t bytes)
{
	struct rlimit limit = { bytes, bytes };

	capng_get_caps_process();
	capng_update(CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_IPC_LOCK);
	return !capng_apply(CAPNG_SELECT_CAPS) && !setrlimit(RLIMIT_MEMLOCK, &limit);
}

/* In a process of its own: 0 when what cannot be locked is used all the same. */
static int without_lock(void)
{
	const size_t len = 16 * PAGE;
	struct region r;
	void *shared;
	uint8_t *p, *q;
	int fd;

	if (!limit_to(PAGE))
		return 1;
	p = cman_secret_alloc(len);
	q = cman_secret_alloc(len);
	if (!p || !q || !all(p, len, 0))
		return 2;
	memset(p, 1, len);
	r = look_up(p);
	if (r.locked || !r.undumped)
		return 3;
	fd = cman_secret_memfd("cman-test", len);
	if (fd < 0 || cman_secret_map(fd, len, len, &shared))
		return 4;
	memset(shared, 1, len);
	r = look_up(shared);
	if (r.locked || !r.undumped)
		return 5;
	cman_secret_unmap(shared, len);
	cman_secret_free(p, len);
	cman_secret_free(q, len);
	return 0;
}

#define LOG_SIZE 4096

/* Runs @fn, which must return 0, in a child; its log. */
static void in_child(int (*fn)(void), char text[LOG_SIZE])
{
	int ends[2], status;
	ssize_t n;
	pid_t pid;

	cr_assert_eq(pipe(ends), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (!pid) {
		dup2(ends[1], STDERR_FILENO);
		_exit(fn());
	}
	close(ends[1]);
	for (n = 0; n < LOG_SIZE - 1; n += status) {
		status = (int)read(ends[0], text + n, LOG_SIZE - 1 - (size_t)n);
		if (status <= 0)
			break;
	}
	text[n] = 0;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
	close(ends[0]);
}

static void expect_one_warning(const char *text)
{
	cr_expect_not_null(strstr(text, "not locked"), "the log: %s", text);
	cr_expect_eq(strchr(text, '\n'), text + strlen(text) - 1, "said more than once: %s", text);
}

Test(secret, no_lock)
{
	char text[LOG_SIZE];

	in_child(without_lock, text);
	expect_one_warning(text);
}

#define SLOTS	   16
#define SLOTS_SIZE ((SLOTS * sizeof(struct cman_tls_slot) + PAGE - 1) / PAGE * PAGE)

/* The memory of a cell, touched everywhere: 0 when what is locked is just what should be. */
static int map_cell(bool slots_locked, bool rest_locked)
{
	int fd = cman_secret_memfd("cman-test", cman_tls_memory_size(SLOTS));
	struct region slots, rest;
	uint8_t *memory;

	if (fd < 0 || cman_tls_memory_map(fd, SLOTS, &memory))
		return 10;
	memset(memory, 1, cman_tls_memory_size(SLOTS));
	slots = look_up(cman_tls_slot_at(memory, SLOTS - 1));
	rest = look_up(cman_tls_in(memory, SLOTS, 0, 0));
	if (!slots.undumped || !rest.undumped)
		return 11;
	if (slots.locked != slots_locked || rest.locked != rest_locked)
		return 12;
	if (slots_locked && !rest_locked && slots.locked_kb != SLOTS_SIZE / 1024)
		return 13;
	cman_tls_memory_unmap(memory, SLOTS);
	if (look_up(memory).there || look_up(memory + SLOTS_SIZE).there)
		return 14;
	cman_tls_memory_unmap(NULL, SLOTS);
	close(fd);
	return 0;
}

static int with_room_for_all(void)
{
	return limit_to(cman_tls_memory_size(SLOTS)) ? map_cell(true, true) : 1;
}

static int with_room_for_slots(void)
{
	return limit_to(SLOTS_SIZE) ? map_cell(true, false) : 1;
}

static int with_too_little_room(void)
{
	int err = limit_to(SLOTS_SIZE - PAGE) ? map_cell(false, false) : 1;

	return err ? err : map_cell(false, false);
}

/* The limit counts what nobody has touched: the slots, where the keys are, come first. */
Test(secret, memory_of_a_cell, .init = begin)
{
	char text[LOG_SIZE];

	in_child(with_room_for_all, text);
	cr_expect_str_empty(text);
	in_child(with_room_for_slots, text);
	cr_expect_str_empty(text);
	in_child(with_too_little_room, text);
	expect_one_warning(text);
}
