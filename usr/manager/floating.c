/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floating addresses of an instance: on their interface and announced, or on lo in silence while
 * their sessions arrive, or not here. Which of these is not remembered but looked up: it survives
 * the manager as the addresses do.
 */
#include <errno.h>
#include <linux/if_addr.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "usr/manager/remote.h"
#include "usr/sys/announce.h"
#include "usr/sys/ifconf.h"
#include "usr/sys/log.h"
#include "usr/sys/netlink.h"

#define ANNOUNCEMENTS 3
#define ANNOUNCE_MS   1000
#define PROBE_MS      300
#define LO	      1

struct quieted { /* an interface, while addresses are held behind it */
	char interface[16];
	unsigned int users;
	struct cman_quiet quiet;
};

struct floating {
	struct cman_announce announce;
	struct quieted quieted[8];
	uv_timer_t *timer;
	uint32_t left[CMAN_MAX_LISTENERS]; /* announcements to come */
};

static struct floating *floating_get(struct manager *m)
{
	if (m->floating)
		return m->floating;
	m->floating = calloc(1, sizeof(*m->floating));
	if (!m->floating)
		abort();
	if (cman_announce_init(&m->floating->announce))
		m->floating->announce.fd = -1;
	return m->floating;
}

static bool is_v4(const uint8_t addr[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(addr, mapped, 12);
}

int floating_index(const struct manager *m, const uint8_t addr[16])
{
	for (uint32_t i = 0; i < m->ic->nfloating; i++)
		if (!memcmp(m->ic->floating[i].address.addr, addr, 16))
			return (int)i;
	return -1;
}

/* Another address of the family is there: then the network is reachable already. */
static bool has_others(struct cman_netlink *nl, int ifindex, const uint8_t addr[16])
{
	struct cman_ifaddr *list = NULL;
	bool found = false;
	size_t n = 0;

	if (cman_address_list(nl, ifindex, NULL, &list, &n))
		return false;
	for (size_t k = 0; k < n; k++)
		found |= is_v4(list[k].addr) == is_v4(addr) && memcmp(list[k].addr, addr, 16) &&
			 !list[k].scope;
	free(list);
	return found;
}

static struct cman_ifaddr as_address(struct cman_netlink *nl, const struct cman_floating_conf *f,
				     int ifindex)
{
	bool single = f->prefix_len == (is_v4(f->address.addr) ? 32 : 128);
	struct cman_ifaddr a = { .ifindex = ifindex, .prefix_len = (uint8_t)f->prefix_len };

	memcpy(a.addr, f->address.addr, 16);
	if (!is_v4(a.addr))
		a.flags = IFA_F_NODAD | IFA_F_DEPRECATED;
	if (!single && has_others(nl, ifindex, a.addr))
		a.flags |= IFA_F_NOPREFIXROUTE;
	return a;
}

static void announce_one(struct manager *m, struct cman_netlink *nl, uint32_t i)
{
	const struct cman_floating_conf *f = &m->ic->floating[i];
	struct floating *fl = floating_get(m);
	struct cman_link link;
	int32_t forwarding = 0;
	int err = cman_link_by_name(nl, f->interface, &link);

	cman_ifconf_get(AF_INET6, f->interface, "forwarding", &forwarding);
	if (!err && fl->announce.fd >= 0)
		err = cman_announce_send(&fl->announce, &link, f->address.addr, forwarding > 0);
	if (err)
		cman_warn("a floating address could not be announced", "address=%s err=\"%s\"",
			  f->name, strerror(-err));
}

static void on_announce(uv_timer_t *t)
{
	struct manager *m = t->data;
	struct floating *fl = m->floating;
	struct cman_netlink nl;
	bool more = false;

	if (cman_netlink_init(&nl))
		return;
	for (uint32_t i = 0; i < m->ic->nfloating; i++) {
		if (!fl->left[i])
			continue;
		fl->left[i]--;
		more |= fl->left[i] > 0;
		announce_one(m, &nl, i);
	}
	cman_netlink_fini(&nl);
	if (!more)
		timer_end(&fl->timer);
}

/* Now, and some more times: one may be lost. */
static void announce(struct manager *m, struct cman_netlink *nl, uint32_t i)
{
	struct floating *fl = floating_get(m);

	announce_one(m, nl, i);
	fl->left[i] = ANNOUNCEMENTS - 1;
	if (!fl->timer)
		fl->timer = timer_begin(m, on_announce, ANNOUNCE_MS, ANNOUNCE_MS, m);
}

static int add_to_interface(struct manager *m, struct cman_netlink *nl, uint32_t i)
{
	const struct cman_floating_conf *f = &m->ic->floating[i];
	struct cman_ifaddr a;
	struct cman_link link;
	int err = cman_link_by_name(nl, f->interface, &link);

	if (err)
		return err;
	a = as_address(nl, f, link.ifindex);
	err = cman_address_add(nl, &a);
	return err == -EEXIST ? 0 : err;
}

static void remove_from(struct manager *m, struct cman_netlink *nl, uint32_t i, bool from_lo)
{
	const struct cman_floating_conf *f = &m->ic->floating[i];
	struct cman_ifaddr *list = NULL;
	size_t n = 0;

	if (cman_address_list(nl, 0, f->address.addr, &list, &n))
		return;
	for (size_t k = 0; k < n; k++)
		if ((list[k].ifindex == LO) == from_lo)
			cman_address_remove(nl, &list[k]);
	free(list);
}

bool floating_held(struct manager *m, uint32_t i)
{
	const struct cman_floating_conf *f = &m->ic->floating[i];
	struct cman_netlink nl;
	struct cman_ifaddr a;
	struct cman_link link;
	bool held = false;

	if (cman_netlink_init(&nl))
		return false;
	if (!cman_link_by_name(&nl, f->interface, &link))
		held = !cman_address_find(&nl, f->address.addr, link.ifindex, &a);
	cman_netlink_fini(&nl);
	return held;
}

/* Does somebody answer for it? */
static bool is_taken(struct cman_netlink *nl, const struct cman_floating_conf *f)
{
	struct cman_neigh neigh;
	struct cman_link link;

	return !cman_link_by_name(nl, f->interface, &link) && link.neighbours &&
	       !cman_neigh_resolve(nl, link.ifindex, f->address.addr, PROBE_MS, &neigh);
}

void floating_start(struct manager *m)
{
	struct cman_netlink nl;

	if (m->ic->standby || !m->ic->nfloating || cman_netlink_init(&nl))
		return;
	for (uint32_t i = 0; i < m->ic->nfloating; i++) {
		const struct cman_floating_conf *f = &m->ic->floating[i];
		int err;

		if (floating_held(m, i))
			continue;
		if (is_taken(&nl, f)) {
			event_add(
				m, LOG_WARNING,
				"another host has the floating address %s: it is not taken from it",
				f->name);
			continue;
		}
		err = add_to_interface(m, &nl, i);
		if (err)
			event_add(m, LOG_ERR, "the floating address %s cannot be added to %s: %s",
				  f->name, f->interface, strerror(-err));
		else
			announce(m, &nl, i);
	}
	cman_netlink_fini(&nl);
}

void floating_stop(struct manager *m)
{
	struct cman_netlink nl;

	for (uint32_t i = 0; i < m->ic->nfloating && !m->is_old; i++)
		floating_let_go(m, i);
	if (!m->is_old && m->ic->nfloating && !cman_netlink_init(&nl)) {
		for (uint32_t i = 0; i < m->ic->nfloating; i++)
			remove_from(m, &nl, i, false);
		cman_netlink_fini(&nl);
	}
	if (!m->floating)
		return;
	timer_end(&m->floating->timer);
	if (m->floating->announce.fd >= 0)
		cman_announce_fini(&m->floating->announce);
	free(m->floating);
	m->floating = NULL;
}

static struct quieted *quieted_of(struct floating *fl, const char *interface)
{
	struct quieted *empty = NULL;

	for (size_t k = 0; k < sizeof(fl->quieted) / sizeof(*fl->quieted); k++) {
		if (fl->quieted[k].users && !strcmp(fl->quieted[k].interface, interface))
			return &fl->quieted[k];
		if (!fl->quieted[k].users && !empty)
			empty = &fl->quieted[k];
	}
	if (empty)
		strncpy(empty->interface, interface, sizeof(empty->interface) - 1);
	return empty;
}

static int be_quiet(struct manager *m, const char *interface)
{
	struct quieted *q = quieted_of(floating_get(m), interface);
	int err;

	if (!q)
		return -ENOSPC;
	err = q->users ? 0 : cman_quiet_begin(interface, &q->quiet);
	if (!err)
		q->users++;
	return err;
}

static void speak_again(struct manager *m, const char *interface)
{
	struct quieted *q = m->floating ? quieted_of(m->floating, interface) : NULL;

	if (q && q->users && !--q->users)
		cman_quiet_end(&q->quiet);
}

static bool on_lo(struct cman_netlink *nl, const struct cman_floating_conf *f)
{
	struct cman_ifaddr a;

	return !cman_address_find(nl, f->address.addr, LO, &a);
}

int floating_hold(struct manager *m, uint32_t i)
{
	const struct cman_floating_conf *f = &m->ic->floating[i];
	struct cman_netlink nl;
	struct cman_ifaddr a;
	int err = cman_netlink_init(&nl);

	if (err)
		return err;
	if (on_lo(&nl, f)) { /* from an earlier try */
		cman_netlink_fini(&nl);
		return 0;
	}
	err = be_quiet(m, f->interface);
	if (!err) {
		a = (struct cman_ifaddr){ .ifindex = LO, .prefix_len = 128 };
		memcpy(a.addr, f->address.addr, 16);
		if (is_v4(a.addr))
			a.prefix_len = 32;
		else
			a.flags = IFA_F_NODAD | IFA_F_DEPRECATED;
		err = cman_address_add(&nl, &a);
		if (err == -EEXIST)
			err = 0;
		if (err)
			speak_again(m, f->interface);
	}
	cman_netlink_fini(&nl);
	return err;
}

void floating_let_go(struct manager *m, uint32_t i)
{
	const struct cman_floating_conf *f = &m->ic->floating[i];
	struct cman_netlink nl;

	if (cman_netlink_init(&nl))
		return;
	if (on_lo(&nl, f)) {
		remove_from(m, &nl, i, true);
		speak_again(m, f->interface);
	}
	cman_netlink_fini(&nl);
}

int floating_announce(struct manager *m, uint32_t i)
{
	const struct cman_floating_conf *f = &m->ic->floating[i];
	struct cman_netlink nl;
	int err = cman_netlink_init(&nl);

	if (err)
		return err;
	err = add_to_interface(m, &nl, i);
	if (!err && on_lo(&nl, f)) {
		remove_from(m, &nl, i, true);
		speak_again(m, f->interface);
	}
	if (!err)
		announce(m, &nl, i);
	cman_netlink_fini(&nl);
	return err;
}

void floating_give_up(struct manager *m, uint32_t i)
{
	struct cman_netlink nl;

	if (m->floating)
		m->floating->left[i] = 0;
	if (cman_netlink_init(&nl))
		return;
	remove_from(m, &nl, i, false);
	cman_netlink_fini(&nl);
}

int floating_hop(struct manager *m, uint32_t i, struct cman_guard_hop *ret)
{
	struct cman_netlink nl;
	struct cman_link link;
	int err = cman_netlink_init(&nl);

	if (err)
		return err;
	err = cman_link_by_name(&nl, m->ic->floating[i].interface, &link);
	if (!err && !link.ethernet)
		err = -EOPNOTSUPP;
	if (!err) {
		ret->ifindex = (uint32_t)link.ifindex;
		memcpy(ret->src_mac, link.mac, 6);
	}
	cman_netlink_fini(&nl);
	return err;
}
