/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as the memfd of credentials: the gateway must take them or refuse them, without a crash
 * or a leak. What it takes and packs again must be the same bytes: there is one form only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usr/sys/credentials.h"

#include "fuzz.h"

static int make_memfd(const uint8_t *data, size_t size)
{
	int fd = memfd_create("credentials", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0);
	CHECK(write(fd, data, size) == (ssize_t)size);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) ==
	      0);
	return fd;
}

static void is_same(int fd, const uint8_t *data, size_t size)
{
	uint8_t *again = malloc(size);
	struct stat st;

	CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == (off_t)size);
	CHECK(again && pread(fd, again, size, 0) == (ssize_t)size);
	CHECK(memcmp(again, data, size) == 0);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cman_credentials_set set;
	int fd = make_memfd(data, size), err;

	err = cman_credentials_unpack(fd, &set);
	close(fd);
	if (err) {
		CHECK(err == -EBADMSG);
		return 0;
	}
	fd = cman_credentials_pack(&set);
	is_same(fd, data, size);
	close(fd);
	cman_credentials_free(&set);
	return 0;
}
