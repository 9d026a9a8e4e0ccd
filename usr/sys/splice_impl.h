/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the files of splice: the loaded object, before its descriptors are all that is kept.
 */
#ifndef CMAN_SYS_SPLICE_IMPL_H
#define CMAN_SYS_SPLICE_IMPL_H

#include "splice.skel.h"
#include "usr/sys/crash.h"
#include "usr/sys/splice.h"

struct cman_splice_object {
	struct splice_bpf *skel;
	struct bpf_link *link;
	struct cman_splice splice; /* duplicates of its descriptors */
};

/* @sessions_fd: the map with the slots; @legs: room for so many. 0, or -errno and @why. */
int cman_splice_load(int sessions_fd, uint32_t legs, struct cman_splice_object *ret_object,
		     char why[CMAN_SPLICE_WHY]);
void cman_splice_unload(struct cman_splice_object *o);

#endif
