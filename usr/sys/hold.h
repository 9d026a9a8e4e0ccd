/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Holding without a daemon: a tc program (bpf/hold.bpf.c) at the ingress of interfaces drops bare
 * SYNs for services that are suspended, or that say when_down = wait and have no listening
 * socket. The filter belongs to the interface and outlives every process; it reads the pinned
 * maps, so a change of state or configuration needs no call here.
 *
 *	cman_hold_wanted()   some service says wait: attach
 *	cman_hold_attach()   on each interface that clients come in by (lo too)
 *	...		     any number of managers come and go; a new release attaches its own
 *			     program in the place of the old one's, in one step
 *	cman_hold_detach()   only what is ours, and only if it is still this instance's program
 *
 * Each instance (an alias, with or without "_old") has its own filter handle, so that several live
 * beside each other, and beside other people's filters, on one interface. The clsact qdisc is made
 * when it is missing, and stays: others may use it by then.
 */
#ifndef CMAN_SYS_HOLD_H
#define CMAN_SYS_HOLD_H

#include <stdbool.h>

#include "usr/sys/maps.h"

/* Preference of our filters at clsact ingress: after those that a firewall puts first. */
#define CMAN_HOLD_PRIORITY 49000

bool cman_hold_wanted(const struct cman_maps *maps);

/*
 * Attaches the program of @maps to the interface; replaces that of another release of the same
 * alias. 0 or -errno: -ENODEV, -ENOENT (no program is pinned), -EPERM.
 */
int cman_hold_attach(const struct cman_maps *maps, int ifindex);

/* 0 too when there is nothing of @maps on the interface. */
int cman_hold_detach(const struct cman_maps *maps, int ifindex);

/*
 * Every interface of the network namespace: attach when some service wants it, else detach. An
 * interface that goes away meanwhile is no error; the first error of another kind is returned
 * after all were tried.
 */
int cman_hold_apply(const struct cman_maps *maps);

#endif
