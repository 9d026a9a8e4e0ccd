/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interfaces and filters of the guard (guard_link.h). One dump of the links decides which interfaces
 * are guarded; a dump of each one's filters finds what dead guards have left.
 */
#include <errno.h>
#include <net/if.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <libmnl/libmnl.h>

#include "bpf/cman_maps.h"
#include "usr/sys/guard_link.h"
#include "usr/sys/park.h"

struct link {
	int ifindex;
	bool guard; /* else: cannot be guarded */
	char name[IFNAMSIZ];
};

struct links {
	struct link *link;
	size_t n;
	int err;
};

/* One dump; @fn for each message. */
static int dump(struct nlmsghdr *nlh, mnl_cb_t fn, void *arg)
{
	struct mnl_socket *socket;
	char *buffer;
	ssize_t length;
	int err = 0, ret = MNL_CB_OK;
	const size_t size = 32768;

	socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!socket)
		return -errno;
	buffer = malloc(size);
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = 1;
	if (!buffer || mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_sendto(socket, nlh, nlh->nlmsg_len) < 0)
		err = -errno;
	while (!err && ret > MNL_CB_STOP) {
		length = mnl_socket_recvfrom(socket, buffer, size);
		ret = length < 0 ? -1 :
				   mnl_cb_run(buffer, (size_t)length, 1,
					      mnl_socket_get_portid(socket), fn, arg);
		if (ret < 0)
			err = -errno;
	}
	free(buffer);
	mnl_socket_close(socket);
	return err;
}

/* "bridge" when the interface is a port of one; "" when it is nobody's. */
static void slave_kind(const struct nlattr *info, char *kind, size_t size)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested(attr, info) {
		if (mnl_attr_get_type(attr) == IFLA_INFO_SLAVE_KIND)
			snprintf(kind, size, "%.*s", (int)mnl_attr_get_payload_len(attr),
				 mnl_attr_get_str(attr));
	}
}

static int add_link(const struct nlmsghdr *nlh, void *arg)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(nlh);
	struct links *links = arg;
	const struct nlattr *attr;
	struct link link = { .ifindex = info->ifi_index }, *more;
	char kind[16] = "";

	if (links->err || info->ifi_flags & IFF_LOOPBACK)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(*info)) {
		if (mnl_attr_get_type(attr) == IFLA_IFNAME)
			snprintf(link.name, sizeof(link.name), "%.*s",
				 (int)mnl_attr_get_payload_len(attr), mnl_attr_get_str(attr));
		else if (mnl_attr_get_type(attr) == IFLA_LINKINFO)
			slave_kind(attr, kind, sizeof(kind));
	}
	if (!strncmp(link.name, CMAN_PARK_PREFIX, strlen(CMAN_PARK_PREFIX)))
		return MNL_CB_OK;
	/* what its frames become is guarded where they come out */
	if (!strcmp(kind, "bridge") || !strcmp(kind, "bond") || !strcmp(kind, "team") ||
	    !strcmp(kind, "openvswitch"))
		return MNL_CB_OK;
	link.guard = info->ifi_type == ARPHRD_ETHER;
	/* nobody can send by a device that is down; sit0 and the like are always there */
	if (!link.guard && !(info->ifi_flags & IFF_UP))
		return MNL_CB_OK;

	more = reallocarray(links->link, links->n + 1, sizeof(*more));
	if (!more) {
		links->err = -ENOMEM;
		return MNL_CB_OK;
	}
	links->link = more;
	links->link[links->n++] = link;
	return MNL_CB_OK;
}

static int list_links(struct links *ret_links)
{
	char buffer[256] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct ifinfomsg *info;
	int err;

	*ret_links = (struct links){ 0 };
	nlh->nlmsg_type = RTM_GETLINK;
	info = mnl_nlmsg_put_extra_header(nlh, sizeof(*info));
	info->ifi_family = AF_UNSPEC;
	err = dump(nlh, add_link, ret_links);
	if (!err)
		err = ret_links->err;
	if (err)
		free(ret_links->link);
	return err;
}

/* ---------------------------------------------------------------------------------------------
 * What dead guards have left
 */
#define OWN_NAME "cman_guard"

struct left {
	uint32_t handle[16], prog_id[16];
	size_t n;
};

static int add_left(const struct nlmsghdr *nlh, void *arg)
{
	const struct tcmsg *tc = mnl_nlmsg_get_payload(nlh);
	uint32_t prog_id = 0;
	const struct nlattr *attr, *option;
	struct left *left = arg;
	bool guard = false;

	if (TC_H_MAJ(tc->tcm_info) >> 16 != CMAN_GUARD_PRIORITY || !tc->tcm_handle)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(*tc)) {
		if (mnl_attr_get_type(attr) != TCA_OPTIONS)
			continue;
		mnl_attr_for_each_nested(option, attr) {
			if (mnl_attr_get_type(option) == TCA_BPF_ID)
				prog_id = mnl_attr_get_u32(option);
			else if (mnl_attr_get_type(option) == TCA_BPF_NAME)
				/* "cman_guard:[id]", as libbpf names it */
				guard = mnl_attr_get_payload_len(option) > strlen(OWN_NAME) &&
					!strncmp(mnl_attr_get_str(option), OWN_NAME,
						 strlen(OWN_NAME));
		}
	}
	if (guard && prog_id && left->n < sizeof(left->handle) / sizeof(left->handle[0])) {
		left->handle[left->n] = tc->tcm_handle;
		left->prog_id[left->n++] = prog_id;
	}
	return MNL_CB_OK;
}

/* Is some entry of a hash map still in force? @offset: of expires_ns in its value. */
static bool in_force(int fd, size_t key_size, size_t value_size, size_t offset)
{
	char key[64], value[256], *previous = NULL;
	struct timespec now;
	uint64_t expires;

	if (key_size > sizeof(key) || value_size > sizeof(value))
		return true;
	clock_gettime(CLOCK_BOOTTIME, &now);
	while (!bpf_map_get_next_key(fd, previous, key)) {
		previous = key;
		if (bpf_map_lookup_elem(fd, key, value))
			continue;
		memcpy(&expires, value + offset, sizeof(expires));
		if (expires > (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec)
			return true;
	}
	return false;
}

static bool map_is_over(uint32_t id)
{
	struct bpf_map_info info = { 0 };
	uint32_t length = sizeof(info), zero = 0;
	int fd = bpf_map_get_fd_by_id(id);
	bool over = true;

	if (fd < 0)
		return false;
	if (bpf_obj_get_info_by_fd(fd, &info, &length)) {
		over = false;
	} else if (!strcmp(info.name, "guard_conf")) {
		struct cman_guard_conf conf;
		char name[IFNAMSIZ];

		/* the device dies with its owner, and numbers are not used again */
		if (info.value_size != sizeof(conf) || bpf_map_lookup_elem(fd, &zero, &conf))
			over = false;
		else
			over = !if_indextoname(conf.park_ifindex, name);
	} else if (!strcmp(info.name, "frozen")) {
		over = !in_force(fd, info.key_size, info.value_size,
				 offsetof(struct cman_frozen, expires_ns));
	} else if (!strcmp(info.name, "moving")) {
		over = !in_force(fd, info.key_size, info.value_size,
				 offsetof(struct cman_moving, expires_ns));
	}
	close(fd);
	return over;
}

/* The owner is dead, and nothing that it ordered is in force. */
static bool guard_is_over(uint32_t prog_id)
{
	uint32_t id[16], length;
	struct bpf_prog_info info = { .map_ids = (uint64_t)(uintptr_t)id,
				      .nr_map_ids = sizeof(id) / sizeof(id[0]) };
	int fd = bpf_prog_get_fd_by_id(prog_id);
	bool over;

	if (fd < 0)
		return false;
	length = sizeof(info);
	over = !bpf_obj_get_info_by_fd(fd, &info, &length) &&
	       info.nr_map_ids <= sizeof(id) / sizeof(id[0]);
	close(fd);
	for (uint32_t i = 0; over && i < info.nr_map_ids; i++)
		over = map_is_over(id[i]);
	return over;
}

/* ---------------------------------------------------------------------------------------------
 * Filters
 */
static int attach(const struct cman_guard_filter *filter, int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = filter->handle, .priority = CMAN_GUARD_PRIORITY,
		    .prog_fd = filter->prog_fd, .flags = BPF_TC_F_REPLACE);
	int err = bpf_tc_hook_create(&hook);

	if (err && err != -EEXIST)
		return err;
	return bpf_tc_attach(&hook, &opts);
}

/* @prog_id: only if it is this program; 0: any. */
static int detach(int ifindex, uint32_t handle, uint32_t prog_id)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, present, .handle = handle, .priority = CMAN_GUARD_PRIORITY);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = handle, .priority = CMAN_GUARD_PRIORITY);
	int err = bpf_tc_query(&hook, &present);

	/* EINVAL: no clsact there at all */
	if (err == -ENOENT || err == -EINVAL || err == -ENODEV)
		return 0;
	if (err)
		return err;
	if (prog_id && present.prog_id != prog_id)
		return 0;
	err = bpf_tc_detach(&hook, &opts);
	return err == -ENOENT || err == -ENODEV ? 0 : err;
}

static void remove_left(int ifindex, uint32_t own_handle)
{
	char buffer[256] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct left left = { .n = 0 };
	struct tcmsg *tc;

	nlh->nlmsg_type = RTM_GETTFILTER;
	tc = mnl_nlmsg_put_extra_header(nlh, sizeof(*tc));
	tc->tcm_family = AF_UNSPEC;
	tc->tcm_ifindex = ifindex;
	tc->tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
	if (dump(nlh, add_left, &left))
		return; /* no harm: it is looked at again the next time */
	for (size_t i = 0; i < left.n; i++) {
		if (left.handle[i] != own_handle && guard_is_over(left.prog_id[i]))
			detach(ifindex, left.handle[i], left.prog_id[i]);
	}
}

int cman_guard_link_attach_one(const struct cman_guard_filter *filter, uint32_t ifindex)
{
	libbpf_print_fn_t print = libbpf_set_print(NULL);
	int err = attach(filter, (int)ifindex);

	libbpf_set_print(print);
	return err;
}

int cman_guard_link_attach(const struct cman_guard_filter *filter, char *ret_skipped,
			   size_t skipped_size)
{
	/* libbpf reports on stderr what the kernel answers to a request; -errno says enough */
	libbpf_print_fn_t print;
	struct links links;
	size_t used = 0;
	int ret = 0, err;

	err = list_links(&links);
	if (err)
		return err;
	if (skipped_size)
		ret_skipped[0] = '\0';
	print = libbpf_set_print(NULL);
	for (size_t i = 0; i < links.n; i++) {
		const struct link *link = &links.link[i];

		if (!link->guard) {
			if (used + strlen(link->name) + 2 < skipped_size)
				used += (size_t)snprintf(ret_skipped + used, skipped_size - used,
							 "%s%s", used ? " " : "", link->name);
			continue;
		}
		err = attach(filter, link->ifindex);
		if (err == -ENODEV)
			continue; /* it went away meanwhile */
		if (err) {
			ret = err;
			break;
		}
		remove_left(link->ifindex, filter->handle);
		ret++;
	}
	libbpf_set_print(print);
	free(links.link);
	return ret;
}

int cman_guard_link_detach(const struct cman_guard_filter *filter)
{
	libbpf_print_fn_t print;
	struct links links;
	int ret, err;

	ret = list_links(&links);
	if (ret)
		return ret;
	print = libbpf_set_print(NULL);
	for (size_t i = 0; i < links.n; i++) {
		err = links.link[i].guard ?
			      detach(links.link[i].ifindex, filter->handle, filter->prog_id) :
			      0;
		if (err && !ret)
			ret = err;
	}
	libbpf_set_print(print);
	free(links.link);
	return ret;
}
