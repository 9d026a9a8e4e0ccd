/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockmap relaying: see splice.h. The first half loads and pins, for the manager; the second half is
 * what a gateway does with the descriptors. Operations on the elements of a map that one has open
 * take no privilege (Linux 5.19 and later, whatever kernel.unprivileged_bpf_disabled says).
 */
#include "usr/sys/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "usr/sys/splice_impl.h"

/* the pin of each descriptor, and of the program that nobody needs a descriptor of */
static const char *const pins[CMAN_SPLICE_FDS] = {
	[CMAN_SPLICE_RUN] = "splice_run",      [CMAN_SPLICE_HOLD] = "splice_hold",
	[CMAN_SPLICE_LEGS] = "splice_legs",    [CMAN_SPLICE_END] = "splice_end",
	[CMAN_SPLICE_GAG] = "prog_splice_gag",
};
#define PIN_PROGRAM "prog_splice"

void cman_splice_init(struct cman_splice *sp)
{
	for (int i = 0; i < CMAN_SPLICE_FDS; i++)
		sp->fd[i] = -1;
}

void cman_splice_fini(struct cman_splice *sp)
{
	for (int i = 0; i < CMAN_SPLICE_FDS; i++)
		if (sp->fd[i] >= 0)
			close(sp->fd[i]);
	cman_splice_init(sp);
}

void cman_splice_unload(struct cman_splice_object *o)
{
	bpf_link__destroy(o->link);
	splice_bpf__destroy(o->skel);
	cman_splice_fini(&o->splice);
	memset(o, 0, sizeof(*o));
	cman_splice_init(&o->splice);
}

static int duplicate(int fd, int *ret_fd)
{
	*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return *ret_fd < 0 ? -errno : 0;
}

static int take_fds(struct cman_splice_object *o)
{
	const int fds[CMAN_SPLICE_FDS] = {
		[CMAN_SPLICE_RUN] = bpf_map__fd(o->skel->maps.splice_run),
		[CMAN_SPLICE_HOLD] = bpf_map__fd(o->skel->maps.splice_hold),
		[CMAN_SPLICE_LEGS] = bpf_map__fd(o->skel->maps.splice_legs),
		[CMAN_SPLICE_END] = bpf_link__fd(o->link),
		[CMAN_SPLICE_GAG] = bpf_program__fd(o->skel->progs.cman_splice_gag),
	};
	int err = 0;

	for (int i = 0; i < CMAN_SPLICE_FDS && !err; i++)
		err = duplicate(fds[i], &o->splice.fd[i]);
	return err;
}

int cman_splice_load(int sessions_fd, uint32_t legs, struct cman_splice_object *ret_object,
		     char why[CMAN_SPLICE_WHY])
{
	/* libbpf tells its story on stderr; that is for who debugs a verifier's refusal */
	libbpf_print_fn_t print = getenv("CMAN_BPF_LOG") ? NULL : libbpf_set_print(NULL);
	struct cman_splice_object o = { 0 };
	int err;

	cman_splice_init(&o.splice);
	snprintf(why, CMAN_SPLICE_WHY, "the BPF object in this program is not readable");
	o.skel = splice_bpf__open();
	err = o.skel ? 0 : -errno;
	if (err)
		goto out;
#ifdef CMAN_CRASH_POINTS
	o.skel->rodata->untrimmed = getenv("CMAN_SPLICE_UNTRIMMED") != NULL;
#endif
	err = bpf_map__reuse_fd(o.skel->maps.sessions, sessions_fd);
	if (!err)
		err = bpf_map__set_max_entries(o.skel->maps.splice_run, legs);
	if (!err)
		err = bpf_map__set_max_entries(o.skel->maps.splice_hold, legs);
	if (!err)
		err = bpf_map__set_max_entries(o.skel->maps.splice_legs, legs);
	if (!err)
		err = splice_bpf__load(o.skel);
	if (err) {
		snprintf(why, CMAN_SPLICE_WHY,
			 "this kernel does not take the program for it (Linux 6.2 or later with "
			 "BTF does; CMAN_BPF_LOG=1 prints why): %s",
			 strerror(-err));
		goto out;
	}
	err = bpf_prog_attach(bpf_program__fd(o.skel->progs.cman_splice),
			      bpf_map__fd(o.skel->maps.splice_run), BPF_SK_SKB_STREAM_VERDICT, 0);
	if (!err) {
		o.link = bpf_program__attach_iter(o.skel->progs.cman_splice_end, NULL);
		err = o.link ? 0 : -errno;
	}
	if (!err)
		err = take_fds(&o);
	if (err)
		snprintf(why, CMAN_SPLICE_WHY, "the program for it cannot be attached: %s",
			 strerror(-err));
out:
	if (print)
		libbpf_set_print(print);
	if (err)
		cman_splice_unload(&o);
	else
		*ret_object = o;
	return err;
}

static int pin(int fd, const char *dir, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return bpf_obj_pin(fd, path);
}

int cman_splice_create(const struct cman_maps *maps, struct cman_splice *ret_sp,
		       char why[CMAN_SPLICE_WHY])
{
	struct cman_splice_object o;
	int err = cman_splice_load(maps->sessions_fd, 2 * maps->gateways * maps->slots_per_cell, &o,
				   why);

	if (err)
		return err;
	err = pin(bpf_program__fd(o.skel->progs.cman_splice), maps->dir, PIN_PROGRAM);
	for (int i = 0; i < CMAN_SPLICE_FDS && !err; i++)
		err = pin(o.splice.fd[i], maps->dir, pins[i]);
	if (err) {
		snprintf(why, CMAN_SPLICE_WHY, "its BPF objects cannot be pinned: %s",
			 strerror(-err));
	} else {
		*ret_sp = o.splice;
		cman_splice_init(&o.splice);
	}
	cman_splice_unload(&o);
	return err;
}

int cman_splice_open(const struct cman_maps *maps, struct cman_splice *ret_sp)
{
	struct cman_splice sp;
	char path[256];

	cman_splice_init(&sp);
	for (int i = 0; i < CMAN_SPLICE_FDS; i++) {
		snprintf(path, sizeof(path), "%s/%s", maps->dir, pins[i]);
		sp.fd[i] = bpf_obj_get(path);
		if (sp.fd[i] < 0) {
			int err = sp.fd[i];

			cman_splice_fini(&sp);
			return err;
		}
	}
	*ret_sp = sp;
	return 0;
}

/* ---------------------------------------------------------------------------------------------
 * What a gateway does
 */

int cman_splice_kick(int fd)
{
	/* tcp_set_rcvlowat() calls what an arriving segment calls; 1 is the default */
	return setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &(int){ 1 }, sizeof(int)) ? -errno : 0;
}

/* A socket that is in the map already: -EEXIST, or -EBUSY because it has its program. */
static int insert(int map, const struct cman_splice_side *side)
{
	uint64_t fd = (uint64_t)side->fd;
	int err = bpf_map_update_elem(map, &side->cookie, &fd, BPF_NOEXIST);

	return err == -EEXIST || err == -EBUSY ? 0 : err;
}

int cman_splice_enter(const struct cman_splice *sp, uint32_t slot,
		      const struct cman_splice_side side[2])
{
	int err = 0;

	for (uint32_t k = 0; k < 2 && !err; k++) {
		struct cman_splice_leg leg = {
			.peer = side[!k].cookie,
			.base = side[k].base,
			.slot = slot,
			.is_server = k,
		};

		err = bpf_map_update_elem(sp->fd[CMAN_SPLICE_LEGS], &side[k].cookie, &leg,
					  BPF_NOEXIST);
		if (err == -EEXIST)
			err = 0;
		CMAN_CRASH(KERNEL_LEG);
	}
	/* both can be redirected to before anything is redirected */
	for (int k = 0; k < 2 && !err; k++) {
		err = insert(sp->fd[CMAN_SPLICE_HOLD], &side[k]);
		CMAN_CRASH(KERNEL_HOLD);
	}
	for (int k = 0; k < 2 && !err; k++) {
		err = insert(sp->fd[CMAN_SPLICE_RUN], &side[k]);
		CMAN_CRASH(KERNEL_RUN);
	}
	for (int k = 0; k < 2 && !err; k++)
		err = cman_splice_kick(side[k].fd);
	return err;
}

int cman_splice_leg(const struct cman_splice *sp, uint64_t cookie, struct cman_splice_leg *ret_leg)
{
	return bpf_map_lookup_elem(sp->fd[CMAN_SPLICE_LEGS], &cookie, ret_leg);
}

int cman_splice_end(const struct cman_splice *sp)
{
	int fd = bpf_iter_create(sp->fd[CMAN_SPLICE_END]);
	char nothing[64];
	ssize_t n;

	if (fd < 0)
		return fd;
	do
		n = read(fd, nothing, sizeof(nothing)) < 0 ? -errno : 0;
	while (n == -EINTR ||
	       n == -EAGAIN); /* EAGAIN: a million sockets were seen, and there are more */
	close(fd);
	return (int)n;
}

int cman_splice_gag(const struct cman_splice *sp, int fd, bool on)
{
	int prog = sp->fd[CMAN_SPLICE_GAG];

	if (!setsockopt(fd, SOL_SOCKET, on ? SO_ATTACH_BPF : SO_DETACH_BPF, &prog, sizeof(prog)))
		return 0;
	return !on && errno == ENOENT ? 0 : -errno;
}

int cman_splice_forget(const struct cman_splice *sp, const uint64_t cookies[2])
{
	static const enum cman_splice_fd maps[] = { CMAN_SPLICE_HOLD, CMAN_SPLICE_LEGS };

	for (size_t i = 0; i < sizeof(maps) / sizeof(*maps); i++)
		for (int k = 0; k < 2; k++) {
			int err = bpf_map_delete_elem(sp->fd[maps[i]], &cookies[k]);

			if (err && err != -ENOENT && err != -EINVAL)
				return err;
			CMAN_CRASH(KERNEL_FORGET);
		}
	return 0;
}
