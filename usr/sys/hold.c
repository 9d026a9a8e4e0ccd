/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puts the hold program on interfaces and takes it away (hold.h tells the story). The handle of
 * the filter names the instance, its priority names us, and the id of the attached program tells
 * whether it is still ours or already the next release's.
 */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "usr/sys/hold.h"

#define OLD_SUFFIX "_old"

bool cman_hold_wanted(const struct cman_maps *maps)
{
	for (uint32_t i = 0; i < CMAN_MAX_SERVICES; i++) {
		if (maps->services[i].state != CMAN_SERVICE_UNUSED &&
		    maps->services[i].when_down == CMAN_DOWN_WAIT)
			return true;
	}
	return false;
}

/* FNV-1a of the alias without "_old"; 0 would mean that the kernel chooses. */
static uint32_t filter_handle(const struct cman_maps *maps)
{
	const char *alias = strrchr(maps->dir, '/') + 1;
	size_t length = strlen(alias);
	const size_t suffix = strlen(OLD_SUFFIX);
	uint32_t hash = 2166136261u;

	if (length > suffix && !strcmp(alias + length - suffix, OLD_SUFFIX))
		length -= suffix;
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (uint8_t)alias[i]) * 16777619u;
	return hash ? hash : 1;
}

static int program(const struct cman_maps *maps, int *ret_fd, uint32_t *ret_id)
{
	struct bpf_prog_info info = { 0 };
	uint32_t length = sizeof(info);
	char path[256];
	int fd, err;

	snprintf(path, sizeof(path), "%s/prog_hold", maps->dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return fd;
	err = bpf_obj_get_info_by_fd(fd, &info, &length);
	if (err) {
		close(fd);
		return err;
	}
	*ret_fd = fd;
	*ret_id = info.id;
	return 0;
}

static int attach(const struct cman_maps *maps, int ifindex, int prog_fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = filter_handle(maps),
		    .priority = CMAN_HOLD_PRIORITY, .prog_fd = prog_fd, .flags = BPF_TC_F_REPLACE);
	int err = bpf_tc_hook_create(&hook);

	if (err && err != -EEXIST)
		return err;
	return bpf_tc_attach(&hook, &opts);
}

static int detach(const struct cman_maps *maps, int ifindex, uint32_t prog_id)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, present, .handle = filter_handle(maps),
		    .priority = CMAN_HOLD_PRIORITY);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = filter_handle(maps),
		    .priority = CMAN_HOLD_PRIORITY);
	int err = bpf_tc_query(&hook, &present);

	/* EINVAL: no clsact there at all */
	if (err == -ENOENT || err == -EINVAL)
		return 0;
	if (err)
		return err;
	if (present.prog_id != prog_id)
		return 0; /* the next release's */
	err = bpf_tc_detach(&hook, &opts);
	return err == -ENOENT ? 0 : err;
}

/* libbpf reports on stderr what the kernel answers to a request; -errno says enough. */
static int with_program(const struct cman_maps *maps, int ifindex, bool want)
{
	libbpf_print_fn_t print;
	uint32_t prog_id;
	int prog_fd, err;

	err = program(maps, &prog_fd, &prog_id);
	if (err)
		return err;
	print = libbpf_set_print(NULL);
	err = want ? attach(maps, ifindex, prog_fd) : detach(maps, ifindex, prog_id);
	libbpf_set_print(print);
	close(prog_fd);
	return err;
}

int cman_hold_attach(const struct cman_maps *maps, int ifindex)
{
	return with_program(maps, ifindex, true);
}

int cman_hold_detach(const struct cman_maps *maps, int ifindex)
{
	return with_program(maps, ifindex, false);
}

int cman_hold_apply(const struct cman_maps *maps)
{
	struct if_nameindex *interfaces = if_nameindex();
	bool want = cman_hold_wanted(maps);
	int ret = 0;

	if (!interfaces)
		return -errno;
	for (struct if_nameindex *i = interfaces; i->if_index; i++) {
		int err = with_program(maps, (int)i->if_index, want);

		if (err && err != -ENODEV && !ret)
			ret = err;
	}
	if_freenameindex(interfaces);
	return ret;
}
