/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files that keep the images of batches on their way: RUN_DIR/NAME/images/BATCH, root only, on
 * the run directory's tmpfs. Written whole before the first socket is closed: a crash leaves either
 * the sockets, or the file. No fsync: a reboot takes the sockets anyway. Those of sessions with TLS
 * are secret: a file is overwritten when it goes, after its name, so that a crash leaves all or nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usr/manager/repair.h"
#include "usr/sys/secret.h"

static char *path_of(struct manager *m, const char *name, uint64_t batch, char *buf, size_t size)
{
	char file[64];

	snprintf(file, sizeof(file), "images/%016llx", (unsigned long long)batch);
	return rundir_path(m, name, file, buf, size);
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int images_write(struct manager *m, uint64_t batch, const uint8_t *data, size_t len)
{
	char folder[256], path[256];
	int fd, err;

	rundir_refresh(m);
	rundir_path(m, m->name, "images", folder, sizeof(folder));
	if (mkdir(folder, 0700) < 0 && errno != EEXIST)
		return -errno;
	path_of(m, m->name, batch, path, sizeof(path));
	cman_secret_shred(AT_FDCWD, path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = write_all(fd, data, len);
	close(fd);
	if (err)
		cman_secret_shred(AT_FDCWD, path);
	return err;
}

void images_remove(struct manager *m, uint64_t batch)
{
	char path[256];

	rundir_refresh(m);
	cman_secret_shred(AT_FDCWD, path_of(m, m->name, batch, path, sizeof(path)));
}

static int read_all(const char *path, uint8_t **ret_data, size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	struct stat st;
	size_t used = 0;
	uint8_t *data;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	data = malloc((size_t)st.st_size + 1);
	while (data && used < (size_t)st.st_size) {
		ssize_t n = read(fd, data + used, (size_t)st.st_size - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			err = n < 0 ? -errno : -EIO;
			break;
		}
		used += (size_t)n;
	}
	close(fd);
	if (!data)
		return -ENOMEM;
	if (err) {
		cman_secret_wipe(data, used);
		free(data);
		return err;
	}
	*ret_data = data;
	*ret_len = used;
	return 0;
}

int images_read(struct manager *m, const char *name, uint64_t batch, uint8_t **ret_data,
		size_t *ret_len)
{
	char path[256];

	return read_all(path_of(m, name, batch, path, sizeof(path)), ret_data, ret_len);
}

static bool is_wanted(const struct manager *m, uint64_t batch)
{
	for (uint32_t g = 0; g < m->ncells; g++)
		for (uint32_t i = 0; i < cell_high(&m->cells[g]); i++) {
			const struct cman_slot *s = &m->cells[g].slots[i];

			if (s->state == CMAN_SLOT_LEAVING && s->flags & CMAN_SLOT_REPAIR &&
			    s->batch == (__u16)batch)
				return true;
		}
	return false;
}

void images_sweep(struct manager *m)
{
	char path[256];
	struct dirent *e;
	DIR *d = opendir(rundir_path(m, m->name, "images", path, sizeof(path)));

	if (!d)
		return;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && !is_wanted(m, strtoull(e->d_name, NULL, 16)))
			cman_secret_shred(dirfd(d), e->d_name);
	closedir(d);
}
