/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The run directory. All files of one instance lie in the folder RUN_DIR/NAME/ (ctl.sock, pid,
 * lock, journal, cell-N.sock), and RUN_DIR/NAME.sock is a link to its ctl.sock: so a handover
 * changes all names at once, by swapping two folders. The pins under bpffs follow the same names.
 * The lock says whether the manager of a folder lives.
 */
#include "usr/manager/manager.h"
#include "usr/manager/repair.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "usr/sys/crash.h"
#include "usr/sys/secret.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

char *rundir_path(const struct manager *m, const char *name, const char *file, char *buf,
		  size_t size)
{
	if (file)
		snprintf(buf, size, "%s/%s/%s", m->ic->run_dir, name, file);
	else
		snprintf(buf, size, "%s/%s", m->ic->run_dir, name);
	return buf;
}

static void link_path(const struct manager *m, const char *name, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%s.sock", m->ic->run_dir, name);
}

static void remove_link(const struct manager *m, const char *name)
{
	char path[256], temporary[270];

	link_path(m, name, path, sizeof(path));
	snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	unlink(temporary); /* of one who died making it */
	unlink(path);
}

static int make_link(const struct manager *m, const char *name)
{
	char path[256], temporary[270], target[64];

	link_path(m, name, path, sizeof(path));
	snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	snprintf(target, sizeof(target), "%s/ctl.sock", name);
	unlink(temporary);
	if (symlink(target, temporary) < 0 || rename(temporary, path) < 0)
		return -errno;
	return 0;
}

bool rundir_exists(const struct manager *m, const char *name)
{
	char path[256];
	struct stat st;

	return !stat(rundir_path(m, name, NULL, path, sizeof(path)), &st) && S_ISDIR(st.st_mode);
}

int rundir_lock(struct manager *m, const char *name, int *ret_fd)
{
	char path[256];
	int fd = open(rundir_path(m, name, "lock", path, sizeof(path)),
		      O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

static int make_parents(const char *path)
{
	char copy[256];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(copy, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

int rundir_make(struct manager *m, const char *name)
{
	char path[256];
	int err = make_parents(m->ic->run_dir);

	if (err)
		return err;
	if (mkdir(rundir_path(m, name, NULL, path, sizeof(path)), 0700) < 0 && errno != EEXIST)
		return -errno;
	err = rundir_lock(m, name, &m->lock_fd);
	return err ? err : make_link(m, name);
}

/*
 * The folder is what has the name: one rename(2) decides. Pins and links follow it, and whoever comes
 * after one that died in between lets them follow. The folder knows its pins by the kernel's number of
 * the map `instance`.
 */
static uint32_t pins_wanted(const struct manager *m, const char *name)
{
	char path[256];
	FILE *f = fopen(rundir_path(m, name, "pins", path, sizeof(path)), "re");
	uint32_t id = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%u", &id) != 1)
		id = 0;
	fclose(f);
	return id;
}

int rundir_write_pins(struct manager *m)
{
	char path[256];
	uint32_t id;
	int err = cman_maps_identity(m->name, &id);
	FILE *f;

	if (err)
		return err;
	f = fopen(rundir_path(m, m->name, "pins", path, sizeof(path)), "we");
	if (!f)
		return -errno;
	fprintf(f, "%u\n", id);
	return fclose(f) ? -errno : 0;
}

static const char *const suffixes[] = { "", "_old", "_new" };
#define NSUFFIXES (sizeof(suffixes) / sizeof(*suffixes))

/* Two managers may come to it at the same time. Nobody waits for one that is stopped. */
static int follow_lock(const struct manager *m)
{
	int fd = open(m->ic->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int n = 0; fd >= 0 && n < 250 && flock(fd, LOCK_EX | LOCK_NB) < 0; n++)
		poll(NULL, 0, 2);
	return fd;
}

int rundir_follow(struct manager *m)
{
	char name[NSUFFIXES][CMAN_NAME_LEN + 8];
	uint32_t want, have, other;
	int err = 0, lock = follow_lock(m);

	for (size_t i = 0; i < NSUFFIXES; i++)
		snprintf(name[i], sizeof(name[i]), "%s%s", m->alias, suffixes[i]);
	for (size_t i = 0; i < NSUFFIXES; i++) {
		if (!rundir_exists(m, name[i])) {
			remove_link(m, name[i]);
			continue;
		}
		if (make_link(m, name[i]))
			err = -errno;
		want = pins_wanted(m, name[i]);
		if (!want || (!cman_maps_identity(name[i], &have) && have == want))
			continue;
		for (size_t k = 0; k < NSUFFIXES; k++) {
			if (k == i || cman_maps_identity(name[k], &other) || other != want)
				continue;
			err = cman_maps_rename(name[k], name[i],
					       !cman_maps_identity(name[i], &have));
			break;
		}
	}
	if (lock >= 0)
		close(lock);
	return err;
}

int rundir_rename(struct manager *m, const char *from, const char *to, bool exchange)
{
	char a[256], b[256];

	rundir_path(m, from, NULL, a, sizeof(a));
	rundir_path(m, to, NULL, b, sizeof(b));
	if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b,
		    exchange ? RENAME_EXCHANGE : RENAME_NOREPLACE) < 0)
		return -errno;
	CMAN_CRASH(TARGET_RENAMED_FOLDER);
	return rundir_follow(m);
}

static void remove_folder(const char *path, bool secret)
{
	struct dirent *e;
	DIR *d = opendir(path);

	if (!d)
		return;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (secret)
			cman_secret_shred(dirfd(d), e->d_name);
		else
			unlinkat(dirfd(d), e->d_name, 0);
	}
	closedir(d);
	rmdir(path);
}

void rundir_remove(struct manager *m, const char *name)
{
	char path[256];

	remove_folder(rundir_path(m, name, "images", path, sizeof(path)), true);
	remove_folder(rundir_path(m, name, NULL, path, sizeof(path)), false);
	remove_link(m, name);
}

int rundir_write_pid(struct manager *m)
{
	char path[256];
	FILE *f = fopen(rundir_path(m, m->name, "pid", path, sizeof(path)), "we");

	if (!f)
		return -errno;
	fprintf(f, "%d\n", (int)getpid());
	return fclose(f) ? -errno : 0;
}

pid_t rundir_read_pid(const struct manager *m, const char *name)
{
	char path[256];
	FILE *f = fopen(rundir_path(m, name, "pid", path, sizeof(path)), "re");
	int pid = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%d", &pid) != 1)
		pid = 0;
	fclose(f);
	return pid;
}

bool rundir_name_of(const struct manager *m, int lock_fd, char name[CMAN_NAME_LEN + 4])
{
	struct stat own, st;

	if (lock_fd < 0 || fstat(lock_fd, &own) < 0)
		return false;
	for (size_t i = 0; i < NSUFFIXES; i++) {
		char path[256];

		snprintf(name, CMAN_NAME_LEN + 4, "%s%s", m->alias, suffixes[i]);
		if (!stat(rundir_path(m, name, "lock", path, sizeof(path)), &st) &&
		    st.st_ino == own.st_ino && st.st_dev == own.st_dev)
			return true;
	}
	return false;
}

void rundir_refresh(struct manager *m)
{
	char name[CMAN_NAME_LEN + 4];

	if (!rundir_name_of(m, m->lock_fd, name) || !strcmp(name, m->name))
		return;
	memcpy(m->name, name, sizeof(m->name));
	guard_renamed(m);
	snprintf(m->maps.dir, sizeof(m->maps.dir), "%s/%s", CMAN_PIN_ROOT, name);
}
