/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the pinned BPF objects of an instance: loading, sizing, pinning, opening, mapping, renaming
 * and removing them (maps.h tells the story). One table says everything about the maps; each step
 * is a walk over it. A folder of pins is made under the name ALIAS+new and renamed when it is
 * complete, so that under ALIAS there is never half an instance, wherever its maker died.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "cman.skel.h"
#include "usr/sys/maps.h"

/* elements of a mapped array lie round_up(size, 8) apart; C wants them sizeof apart */
static_assert(sizeof(struct cman_instance) % 8 == 0, "stride of instance");
static_assert(sizeof(struct cman_service) % 8 == 0, "stride of services");
static_assert(sizeof(struct cman_slot) % 8 == 0, "stride of sessions");
static_assert(sizeof(struct cman_pipe) % 8 == 0, "stride of pipes");
static_assert(sizeof(struct cman_cell) % 8 == 0, "stride of cells");

#define NOT_MAPPED SIZE_MAX

struct map_desc {
	const char *name;
	uint32_t type; /* enum bpf_map_type */
	uint32_t key_size;
	uint32_t value_size;
	size_t fd;     /* where in struct cman_maps */
	size_t memory; /* the same, or NOT_MAPPED */
};

#define FIELD(member) offsetof(struct cman_maps, member)
/* clang-format off */
#define SHARED(member, size) \
	{ #member, BPF_MAP_TYPE_ARRAY, 4, size, FIELD(member##_fd), FIELD(member) }

static const struct map_desc descs[] = {
	SHARED(instance, sizeof(struct cman_instance)), /* first: it says which ABI the rest has */
	SHARED(services, sizeof(struct cman_service)),
	SHARED(ruletab, sizeof(struct cman_rule) * CMAN_MAX_RULES), /* one value: the table */
	SHARED(sessions, sizeof(struct cman_slot)),
	SHARED(pipes, sizeof(struct cman_pipe)),
	SHARED(cells, sizeof(struct cman_cell)),
	{ "addresses", BPF_MAP_TYPE_HASH, sizeof(struct cman_address_key),
	  sizeof(struct cman_address), FIELD(addresses_fd), NOT_MAPPED },
	{ "rules", BPF_MAP_TYPE_LPM_TRIE, sizeof(struct cman_rule_key),
	  sizeof(struct cman_rule_value), FIELD(rules_fd), NOT_MAPPED },
	{ "listeners", BPF_MAP_TYPE_SOCKMAP, 4, 8, FIELD(listeners_fd), NOT_MAPPED },
	{ "counters", BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct cman_counters),
	  FIELD(counters_fd), NOT_MAPPED },
};
/* clang-format on */
#define NDESCS (sizeof(descs) / sizeof(descs[0]))

static int *map_fd(struct cman_maps *maps, const struct map_desc *desc)
{
	return (int *)((char *)maps + desc->fd);
}

static void **map_memory(struct cman_maps *maps, const struct map_desc *desc)
{
	return (void **)((char *)maps + desc->memory);
}

static uint32_t map_entries(const struct cman_maps *maps, const struct map_desc *desc)
{
	switch (desc->fd) {
	case FIELD(services_fd):
		return CMAN_MAX_SERVICES;
	case FIELD(sessions_fd):
		return maps->gateways * maps->slots_per_cell;
	case FIELD(pipes_fd):
		return maps->gateways * CMAN_PIPES_PER_CELL;
	case FIELD(cells_fd):
		return maps->gateways;
	default:
		return 1; /* instance, ruletab; the others are not sized here */
	}
}

/* bytes to map: a kernel page is the unit, and the map ends on one */
static size_t map_length(uint32_t entries, uint32_t value_size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t length = (size_t)entries * ((value_size + 7u) & ~7u);

	return (length + page - 1) / page * page;
}

static void init(struct cman_maps *maps)
{
	memset(maps, 0, sizeof(*maps));
	for (size_t i = 0; i < NDESCS; i++)
		*map_fd(maps, &descs[i]) = -1;
	maps->steer_fd = -1;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void cman_maps_close_fds(struct cman_maps *maps)
{
	for (size_t i = 0; i < NDESCS; i++)
		close_fd(map_fd(maps, &descs[i]));
	close_fd(&maps->steer_fd);
}

void cman_maps_fini(struct cman_maps *maps)
{
	for (size_t i = 0; i < NDESCS; i++) {
		const struct map_desc *desc = &descs[i];

		if (desc->memory == NOT_MAPPED || !*map_memory(maps, desc))
			continue;
		munmap(*map_memory(maps, desc),
		       map_length(map_entries(maps, desc), desc->value_size));
		*map_memory(maps, desc) = NULL;
	}
	cman_maps_close_fds(maps);
}

static int map_shared(struct cman_maps *maps)
{
	for (size_t i = 0; i < NDESCS; i++) {
		const struct map_desc *desc = &descs[i];
		void *memory;

		if (desc->memory == NOT_MAPPED)
			continue;
		memory = mmap(NULL, map_length(map_entries(maps, desc), desc->value_size),
			      PROT_READ | PROT_WRITE, MAP_SHARED, *map_fd(maps, desc), 0);
		if (memory == MAP_FAILED)
			return -errno;
		*map_memory(maps, desc) = memory;
	}
	return 0;
}

/* ---------------------------------------------------------------------------------------------
 * The folder
 */

/* An alias is one path component of bpffs, which reserves names with a dot. */
static int pin_dir(char *dir, size_t size, const char *alias, const char *suffix)
{
	size_t length = strlen(alias);

	if (!length || length >= CMAN_NAME_LEN || strpbrk(alias, "/."))
		return -EINVAL;
	if ((size_t)snprintf(dir, size, "%s/%s%s", CMAN_PIN_ROOT, alias, suffix) >= size)
		return -ENAMETOOLONG;
	return 0;
}

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && (unsigned long)fs.f_type == BPF_FS_MAGIC;
}

int cman_bpffs_ensure(bool *ret_mounted)
{
	bool mounted = false;

	if (!is_bpffs(CMAN_BPFFS)) {
		if (mount("bpf", CMAN_BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700"))
			return -errno;
		mounted = true;
	}
	if (ret_mounted)
		*ret_mounted = mounted;
	return 0;
}

/* Removes the folder @name of @parent_fd and what is in it; follows no link, leaves no bpffs. */
static int remove_tree(int parent_fd, const char *name)
{
	struct dirent *entry;
	struct statfs fs;
	int fd, err = 0;
	DIR *dir;

	fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstatfs(fd, &fs) || (unsigned long)fs.f_type != BPF_FS_MAGIC) {
		close(fd);
		return -EXDEV;
	}
	dir = fdopendir(fd);
	if (!dir) {
		err = -errno;
		close(fd);
		return err;
	}
	while (!err && (entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (!unlinkat(fd, entry->d_name, 0) || errno == ENOENT)
			continue;
		err = errno == EISDIR ? remove_tree(fd, entry->d_name) : -errno;
	}
	closedir(dir);
	if (!err && unlinkat(parent_fd, name, AT_REMOVEDIR))
		err = -errno;
	return err;
}

int cman_maps_unpin(const char *alias)
{
	char dir[sizeof(((struct cman_maps *)0)->dir)];
	int err = pin_dir(dir, sizeof(dir), alias, "");

	return err ? err : remove_tree(AT_FDCWD, dir);
}

static int exchange_dirs(const char *from, const char *to)
{
	char between[sizeof(((struct cman_maps *)0)->dir) + 8];
	int err;

	if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE))
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;

	/* before Linux 5.16 bpffs cannot swap: three steps, undone in reverse */
	snprintf(between, sizeof(between), "%s+swap", from);
	if (rename(from, between))
		return -errno;
	if (rename(to, from))
		goto err_from;
	if (rename(between, to))
		goto err_to;
	return 0;

err_to:
	err = -errno;
	rename(from, to);
	goto undo_between;
err_from:
	err = -errno;
undo_between:
	rename(between, from);
	return err;
}

int cman_maps_rename(const char *from, const char *to, bool exchange)
{
	char from_dir[sizeof(((struct cman_maps *)0)->dir)];
	char to_dir[sizeof(from_dir)];
	int err;

	err = pin_dir(from_dir, sizeof(from_dir), from, "");
	if (!err)
		err = pin_dir(to_dir, sizeof(to_dir), to, "");
	if (err)
		return err;
	if (exchange)
		return exchange_dirs(from_dir, to_dir);
	/* not plain rename(): that would replace an empty folder */
	if (renameat2(AT_FDCWD, from_dir, AT_FDCWD, to_dir, RENAME_NOREPLACE))
		return -errno;
	return 0;
}

/* ---------------------------------------------------------------------------------------------
 * Making
 */

/* libbpf tells its story on stderr; that is for who debugs a verifier's refusal. */
static libbpf_print_fn_t silence(void)
{
	return getenv("CMAN_BPF_LOG") ? NULL : libbpf_set_print(NULL);
}

static void unsilence(libbpf_print_fn_t print)
{
	if (print)
		libbpf_set_print(print);
}

static const char *why_not_loaded(int err)
{
	switch (err) {
	case -EPERM:
		return "the kernel does not let this process load BPF programs: CAP_BPF, "
		       "CAP_PERFMON and CAP_NET_ADMIN are needed";
	case -ENOMEM:
	case -E2BIG:
		return "there is not enough memory for the BPF maps";
	case -EINVAL:
	case -EACCES:
		return "the kernel's verifier refused a BPF program (CMAN_BPF_LOG=1 prints why)";
	default:
		return "the BPF programs cannot be loaded (CMAN_BPF_LOG=1 prints why)";
	}
}

/* The one object has the programs and maps of others too (guard.c, ...): they are not ours to load. */
static bool is_ours(const struct bpf_program *prog)
{
	const char *name = bpf_program__name(prog);

	return !strcmp(name, "cman_steer") || !strcmp(name, "cman_hold");
}

static int leave_out_others(const struct cman_bpf *skel)
{
	struct bpf_program *prog;
	struct bpf_map *map;
	int err = 0;

	bpf_object__for_each_program(prog, skel->obj) {
		if (!err && !is_ours(prog))
			err = bpf_program__set_autoload(prog, false);
	}
	bpf_object__for_each_map(map, skel->obj) {
		bool ours = bpf_map__is_internal(map);

		for (size_t i = 0; i < NDESCS && !ours; i++)
			ours = !strcmp(bpf_map__name(map), descs[i].name);
		if (!err && !ours)
			err = bpf_map__set_autocreate(map, false);
	}
	return err;
}

static int load(const struct cman_maps *maps, struct cman_bpf **ret_skel, const char **ret_why)
{
	libbpf_print_fn_t print = silence();
	struct cman_bpf *skel;
	int err = 0;

	skel = cman_bpf__open();
	if (!skel) {
		err = -errno;
		*ret_why = "the BPF object in this program is not readable";
		goto out;
	}
	err = leave_out_others(skel);
	for (size_t i = 0; i < NDESCS && !err; i++) {
		if (descs[i].memory == NOT_MAPPED)
			continue;
		err = bpf_map__set_max_entries(bpf_object__find_map_by_name(skel->obj,
									    descs[i].name),
					       map_entries(maps, &descs[i]));
	}
	if (!err)
		err = cman_bpf__load(skel);
	if (err) {
		*ret_why = why_not_loaded(err);
		cman_bpf__destroy(skel);
		goto out;
	}
	*ret_skel = skel;
out:
	unsilence(print);
	return err;
}

static int pin_all(const struct cman_bpf *skel, const char *dir)
{
	struct bpf_program *prog;
	char path[256];
	int err;

	for (size_t i = 0; i < NDESCS; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, descs[i].name);
		err = bpf_obj_pin(bpf_object__find_map_fd_by_name(skel->obj, descs[i].name), path);
		if (err)
			return err;
	}
	/* cman_steer -> prog_steer */
	bpf_object__for_each_program(prog, skel->obj) {
		const char *name = bpf_program__name(prog);

		if (!is_ours(prog))
			continue;
		snprintf(path, sizeof(path), "%s/prog_%s", dir,
			 strncmp(name, "cman_", 5) ? name : name + 5);
		err = bpf_obj_pin(bpf_program__fd(prog), path);
		if (err)
			return err;
	}
	return 0;
}

/* Descriptors of our own: the skeleton closes its. */
static int take_fds(const struct cman_bpf *skel, struct cman_maps *maps)
{
	for (size_t i = 0; i < NDESCS; i++) {
		int *fd = map_fd(maps, &descs[i]);

		*fd = fcntl(bpf_object__find_map_fd_by_name(skel->obj, descs[i].name),
			    F_DUPFD_CLOEXEC, 3);
		if (*fd < 0)
			return -errno;
	}
	maps->steer_fd = fcntl(bpf_program__fd(skel->progs.cman_steer), F_DUPFD_CLOEXEC, 3);
	return maps->steer_fd < 0 ? -errno : 0;
}

int cman_maps_create(const char *alias, uint32_t gateways, uint32_t slots_per_cell,
		     struct cman_maps *ret_maps, const char **ret_why)
{
	char making[sizeof(ret_maps->dir) + 8];
	struct cman_bpf *skel = NULL;
	struct cman_maps maps;
	int err;

	init(&maps);
	err = pin_dir(maps.dir, sizeof(maps.dir), alias, "");
	if (err) {
		*ret_why = "the alias cannot be the name of a folder of pins";
		return err;
	}
	snprintf(making, sizeof(making), "%s+new", maps.dir);
	if (!gateways || gateways > CMAN_MAX_GATEWAYS || !slots_per_cell ||
	    slots_per_cell > UINT32_MAX / gateways) {
		*ret_why = "the number of gateways or of sessions is out of range";
		return -EINVAL;
	}
	maps.gateways = gateways;
	maps.slots_per_cell = slots_per_cell;
	if (!is_bpffs(CMAN_BPFFS)) {
		*ret_why = "the BPF file system is not mounted on " CMAN_BPFFS;
		return -ENOENT;
	}
	if (!access(maps.dir, F_OK)) {
		*ret_why = "the folder of pins exists already: the instance runs, or died and can "
			   "be adopted";
		return -EEXIST;
	}

	err = load(&maps, &skel, ret_why);
	if (err)
		return err;
	*ret_why = "the BPF maps cannot be mapped into memory";
	err = take_fds(skel, &maps);
	if (!err)
		err = map_shared(&maps);
	if (err)
		goto err_fini;
	maps.instance->gateways = gateways;
	maps.instance->slots_per_cell = slots_per_cell;
	snprintf(maps.instance->alias, sizeof(maps.instance->alias), "%s", alias);
	maps.instance->abi = CMAN_ABI;

	*ret_why = "the BPF objects cannot be pinned under " CMAN_PIN_ROOT;
	err = remove_tree(AT_FDCWD, making); /* of one who died here */
	if (err && err != -ENOENT)
		goto err_fini;
	if ((mkdir(CMAN_PIN_ROOT, 0700) && errno != EEXIST) || mkdir(making, 0700)) {
		err = -errno;
		goto err_fini;
	}
	err = pin_all(skel, making);
	if (err)
		goto err_unpin;
	if (renameat2(AT_FDCWD, making, AT_FDCWD, maps.dir, RENAME_NOREPLACE)) {
		err = -errno;
		goto err_unpin;
	}
	cman_bpf__destroy(skel);
	*ret_maps = maps;
	return 0;

err_unpin:
	remove_tree(AT_FDCWD, making);
err_fini:
	cman_maps_fini(&maps);
	cman_bpf__destroy(skel);
	return err;
}

/* ---------------------------------------------------------------------------------------------
 * Opening
 */

static int open_pin(const char *dir, const char *name, int *ret_fd)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

/* The first word of `instance` is the ABI, in every release. */
static int check_abi(int fd, const struct bpf_map_info *info)
{
	const uint32_t *abi;
	bool known;

	if (info->type != BPF_MAP_TYPE_ARRAY || !(info->map_flags & BPF_F_MMAPABLE) ||
	    info->value_size < sizeof(*abi))
		return -EPROTONOSUPPORT;
	abi = mmap(NULL, map_length(1, sizeof(*abi)), PROT_READ, MAP_SHARED, fd, 0);
	if (abi == MAP_FAILED)
		return -errno;
	known = *abi == CMAN_ABI;
	munmap((void *)abi, map_length(1, sizeof(*abi)));
	return known ? 0 : -EPROTONOSUPPORT;
}

static int open_map(struct cman_maps *maps, const struct map_desc *desc)
{
	struct bpf_map_info info = { 0 };
	uint32_t length = sizeof(info);
	int *fd = map_fd(maps, desc);
	int err;

	err = open_pin(maps->dir, desc->name, fd);
	if (!err)
		err = bpf_obj_get_info_by_fd(*fd, &info, &length);
	if (!err && desc->fd == FIELD(instance_fd))
		err = check_abi(*fd, &info);
	if (err)
		return err;
	if (info.type != desc->type || info.key_size != desc->key_size ||
	    info.value_size != desc->value_size)
		return -EBADMSG;
	if (desc->fd == FIELD(cells_fd))
		maps->gateways = info.max_entries;
	else if (desc->fd == FIELD(sessions_fd))
		maps->slots_per_cell = info.max_entries; /* of all cells; divided by the caller */
	if (desc->memory != NOT_MAPPED && !(info.map_flags & BPF_F_MMAPABLE))
		return -EBADMSG;
	return 0;
}

int cman_maps_open(const char *alias, struct cman_maps *ret_maps, const char **ret_why)
{
	struct cman_maps maps;
	int err;

	init(&maps);
	err = pin_dir(maps.dir, sizeof(maps.dir), alias, "");
	if (err) {
		*ret_why = "the alias cannot be the name of a folder of pins";
		return err;
	}
	if (access(maps.dir, F_OK)) {
		err = -errno;
		*ret_why = err == -ENOENT ? "the instance has no BPF maps: it does not run" :
					    "the folder of pins cannot be read";
		return err;
	}
	for (size_t i = 0; i < NDESCS; i++) {
		err = open_map(&maps, &descs[i]);
		if (!err)
			continue;
		if (err == -EPROTONOSUPPORT)
			*ret_why = "the instance is of a release whose maps this one does not know";
		else if (err == -EPERM || err == -EACCES)
			*ret_why = "the kernel does not let this process open BPF maps: CAP_BPF "
				   "and access to " CMAN_PIN_ROOT " are needed";
		else
			*ret_why = "the instance's pinned maps are damaged";
		/* a folder without one of its maps is not "no instance" */
		if (err == -ENOENT)
			err = -EBADMSG;
		goto err_fini;
	}

	/* the sizes are what the kernel says, not what is written in a map */
	if (!maps.gateways || maps.slots_per_cell % maps.gateways) {
		*ret_why = "the instance's pinned maps do not fit together";
		err = -EBADMSG;
		goto err_fini;
	}
	maps.slots_per_cell /= maps.gateways;
	err = map_shared(&maps);
	if (err) {
		*ret_why = "the BPF maps cannot be mapped into memory";
		goto err_fini;
	}
	if (maps.instance->gateways != maps.gateways ||
	    maps.instance->slots_per_cell != maps.slots_per_cell) {
		*ret_why = "the instance's pinned maps do not fit together";
		err = -EBADMSG;
		goto err_fini;
	}
	/* missing is fine: whoever takes over brings a program of its own */
	open_pin(maps.dir, "prog_steer", &maps.steer_fd);
	*ret_maps = maps;
	return 0;

err_fini:
	cman_maps_fini(&maps);
	return err;
}

int cman_maps_identity(const char *alias, uint32_t *ret_id)
{
	char dir[sizeof(((struct cman_maps *)0)->dir)];
	struct bpf_map_info info = { 0 };
	uint32_t length = sizeof(info);
	int fd, err = pin_dir(dir, sizeof(dir), alias, "");

	if (!err)
		err = open_pin(dir, "instance", &fd);
	if (err)
		return err;
	err = bpf_obj_get_info_by_fd(fd, &info, &length);
	close(fd);
	if (!err)
		*ret_id = info.id;
	return err;
}
