/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Steering: tells the kernel which listening socket gets a new connection. The sk_lookup program
 * bpf/steer.bpf.c looks up (address, port), then the rules by longest prefix, then takes the
 * listener's socket from a sockmap. All pinned: a daemon's death changes nothing but that its
 * listeners vanish from the sockmap; the program then refuses (or holds, where the service says
 * wait), counts, and never falls through to a stranger.
 *
 *	cman_steer_attach()	  once; or cman_steer_take() from the running release: one atomic
 *				  step replaces its program by ours in the pinned link
 *	cman_steer_add_address()  for each port of each listener
 *	cman_steer_set_listener() the flip: one map update
 *	cman_steer_set_rules()
 *	cman_steer_hold()	  make and enter the sockets that swallow SYNs (suspend, drop)
 */
#ifndef CMAN_SYS_STEER_H
#define CMAN_SYS_STEER_H

#include "usr/core/rules.h"
#include "usr/sys/maps.h"

/*
 * Attaches the program to the network namespace of the caller and pins the link as DIR/steer.
 * 0 or -errno.
 */
int cman_steer_attach(struct cman_maps *maps);

/*
 * Opens the link pinned by @from (an alias), replaces its program by that of @maps, and pins it
 * under @maps' folder too. From then on @maps steers. Calling it the other way round gives it
 * back. -ENOENT: @from has no link (then attach).
 */
int cman_steer_take(struct cman_maps *maps, const char *from);

/* Wildcards: 0.0.0.0 v4-mapped with family AF_INET, :: with AF_INET6. 0 or -errno. */
int cman_steer_add_address(struct cman_maps *maps, const uint8_t addr[16], uint16_t port,
			   uint16_t family, uint32_t listener, uint32_t service);
int cman_steer_del_address(struct cman_maps *maps, const uint8_t addr[16], uint16_t port,
			   uint16_t family);

/* The socket that gets new connections of @listener. @fd < 0 removes the entry. */
int cman_steer_set_listener(struct cman_maps *maps, uint32_t listener, int fd);

/*
 * Fills `ruletab` and the trie from @rules (sorted by cman_rules_sort()); entries that are not
 * wanted any more are removed last, so that no moment refuses what both old and new accept.
 */
int cman_steer_set_rules(struct cman_maps *maps, const struct cman_rule *rules, uint32_t n,
			 uint32_t nservices);

/*
 * Makes one listening socket a family on loopback port 0 whose socket filter drops everything, and
 * enters them as CMAN_HOLD_INET and CMAN_HOLD_INET6. The caller keeps the descriptors (IPv6 may
 * be missing: -1).
 */
int cman_steer_hold(struct cman_maps *maps, int ret_fds[2]);

/* Sum over CPUs. */
int cman_steer_counters(const struct cman_maps *maps, uint32_t service,
			struct cman_counters *ret_counters);

#endif
