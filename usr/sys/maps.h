/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pinned BPF objects of one instance: made or opened here, mapped into memory here. Needs
 * CAP_BPF and CAP_NET_ADMIN (the manager), except that the mappings stay valid in every process
 * cloned afterwards, whatever its privileges.
 *
 *	cman_maps_create()  a new instance: load, pin under DIR
 *	cman_maps_open()    an instance that lives or died: open its pins (adoption, rescue, show)
 *	...
 *	cman_maps_fini()    unmap and close; the pins stay
 *	cman_maps_unpin()   remove DIR and all pins in it: nothing is steered any more
 */
#ifndef CMAN_SYS_MAPS_H
#define CMAN_SYS_MAPS_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/cman_maps.h"

#define CMAN_BPFFS    "/sys/fs/bpf"
#define CMAN_PIN_ROOT CMAN_BPFFS "/cman"

struct cman_maps {
	/* memory shared by all processes of the instance; see bpf/cman_maps.h for who writes what */
	struct cman_instance *instance;
	struct cman_service *services; /* [CMAN_MAX_SERVICES] */
	struct cman_rule *ruletab;     /* [CMAN_MAX_RULES] */
	struct cman_slot *sessions;    /* [gateways * slots_per_cell] */
	struct cman_pipe *pipes;       /* [gateways * CMAN_PIPES_PER_CELL] */
	struct cman_cell *cells;       /* [gateways] */

	/* what lengths to unmap, and the map descriptors: the manager's only */
	uint32_t gateways, slots_per_cell;
	int instance_fd, services_fd, ruletab_fd, sessions_fd, pipes_fd, cells_fd;
	int addresses_fd, rules_fd, listeners_fd, counters_fd;
	int steer_fd;  /* the program; -1 after cman_maps_open() of a foreign release is fine */
	char dir[128]; /* CMAN_PIN_ROOT/ALIAS */
};

/*
 * Mounts bpffs on CMAN_BPFFS when it is missing (then says so in *ret_mounted). 0 or -errno.
 */
int cman_bpffs_ensure(bool *ret_mounted);

/*
 * Loads the programs, sizes and pins all maps under CMAN_PIN_ROOT/@alias, maps the shared ones,
 * fills instance->abi, gateways, slots_per_cell and alias. -EEXIST when the folder is there. On
 * failure nothing stays behind. @ret_why: static sentence for people (verifier refused, no bpffs,
 * missing capability...), never NULL on failure.
 */
int cman_maps_create(const char *alias, uint32_t gateways, uint32_t slots_per_cell,
		     struct cman_maps *ret_maps, const char **ret_why);

/*
 * Opens the pins of @alias. -ENOENT: none. -EPROTONOSUPPORT: an ABI that this release does not
 * know (only instance->abi could be read).
 */
int cman_maps_open(const char *alias, struct cman_maps *ret_maps, const char **ret_why);

/* In a child that must not hold the map descriptors: closes them, keeps the memory. */
void cman_maps_close_fds(struct cman_maps *maps);
void cman_maps_fini(struct cman_maps *maps);
int cman_maps_unpin(const char *alias);
/* Which instance's pins are in the folder of @alias: the kernel's number of the map `instance`. */
int cman_maps_identity(const char *alias, uint32_t *ret_id);
/* Renames the folder of pins. With @exchange both exist and swap. */
int cman_maps_rename(const char *from, const char *to, bool exchange);

#endif
