/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory for secrets: see secret.h. A mapping that must not be dumped and cannot be marked so is an
 * error; one that cannot be locked is only worse than it should be, and is used.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usr/sys/log.h"
#include "usr/sys/secret.h"

#ifndef MFD_NOEXEC_SEAL /* since Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static void say_unlocked(size_t len, int err)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;
	struct rlimit limit = { 0 };

	if (atomic_flag_test_and_set(&said))
		return;
	getrlimit(RLIMIT_MEMLOCK, &limit);
	cman_warn("memory with keys is not locked and may be swapped",
		  "bytes=%zu limit=%llu err=%d", len, (unsigned long long)limit.rlim_cur, err);
}

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

/* Hides a new mapping and locks it (@flags of mlock2(2)), or its @least bytes; an error unmaps it. */
static int protect(void *p, size_t len, size_t least, unsigned int flags)
{
	int err;

	if (madvise(p, len, MADV_DONTDUMP) < 0) {
		err = -errno;
		munmap(p, len);
		return err;
	}
	if (mlock2(p, len, flags) < 0 && (least == len || mlock2(p, least, flags) < 0))
		say_unlocked(least, errno);
	return 0;
}

void *cman_secret_alloc(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || protect(p, len, len, 0))
		return NULL;
	/* zeros, and not a hole, in a child: a gateway gives back what its ancestor had */
	if (madvise(p, len, MADV_WIPEONFORK) < 0) {
		munmap(p, len);
		return NULL;
	}
	return p;
}

void cman_secret_free(void *p, size_t len)
{
	if (!p)
		return;
	cman_secret_wipe(p, len);
	munmap(p, len);
}

static int make_memfd(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd;
}

int cman_secret_memfd(const char *name, size_t len)
{
	int fd = make_memfd(name), err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)len) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int cman_secret_map(int fd, size_t len, size_t least, void **ret)
{
	int err, seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *p;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 ||
	    (uintmax_t)st.st_size < len)
		return -EBADF;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	err = protect(p, len, least, MLOCK_ONFAULT);
	if (!err)
		*ret = p;
	return err;
}

int cman_secret_seal(const char *name, const void *data, size_t len)
{
	int fd = make_memfd(name), err;
	size_t done = 0;

	if (fd < 0)
		return -errno;
	while (done < len) {
		ssize_t n = write(fd, (const uint8_t *)data + done, len - done);

		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			done += (size_t)n;
	}
	if (done == len && fcntl(fd, F_ADD_SEALS, ALL_SEALS) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int cman_secret_open(int fd, size_t max, void **ret, size_t *ret_len)
{
	int err, seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *p;

	if (seals < 0 || (seals & ALL_SEALS) != ALL_SEALS || fstat(fd, &st) < 0 || st.st_size <= 0)
		return -EBADF;
	if ((uintmax_t)st.st_size > max)
		return -EMSGSIZE;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	err = protect(p, (size_t)st.st_size, (size_t)st.st_size, MLOCK_ONFAULT);
	if (err)
		return err;
	*ret = p;
	*ret_len = (size_t)st.st_size;
	return 0;
}

void cman_secret_unmap(void *p, size_t len)
{
	if (p)
		munmap(p, len);
}

/* Zeros over what is there from @at to @end, without new pages for what is not. */
static void zero_pages(int fd, off_t at, off_t end)
{
	static const uint8_t zeros[16384];
	off_t hole;
	ssize_t n;

	while (at < end && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
		hole = lseek(fd, at, SEEK_HOLE);
		if (hole < 0)
			return;
		if (hole > end)
			hole = end;
		for (; at < hole; at += n) {
			n = pwrite(fd, zeros,
				   hole - at < (off_t)sizeof(zeros) ? (size_t)(hole - at) :
								      sizeof(zeros),
				   at);
			if (n <= 0)
				return;
		}
	}
}

void cman_secret_punch(int fd, size_t offset, size_t len)
{
	/* a page that is given back keeps its bytes until the kernel uses it for something else */
	zero_pages(fd, (off_t)offset, (off_t)(offset + len));
	fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len);
}

void cman_secret_wipe(void *p, size_t len)
{
	if (len)
		explicit_bzero(p, len);
}

void cman_secret_shred(int dir, const char *path)
{
	int fd = openat(dir, path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	unlinkat(dir, path, 0);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0)
		zero_pages(fd, 0, st.st_size);
	close(fd);
}
