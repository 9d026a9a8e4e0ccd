/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads the state and the options of many TCP sockets at once with a BPF program (bpf/inspect.h),
 * for usr/sys/bulk.c, which falls back to system calls wherever this cannot or does not know.
 *
 * Trust: what the program reads from the kernel's structures is compared with getsockopt(), option
 * by option, for the first socket of each family (cman_inspect_verify()); an option that differs is never
 * taken from the program. Options whose value needs a sysctl or the kernel's clock rate are learned: the first
 * socket with some stored number is asked by getsockopt(), others with the same number share the
 * answer (cman_inspect_learn()). So no layout or meaning is ever believed blindly.
 *
 * Not for two threads at a time.
 */
#ifndef CMAN_SYS_INSPECT_H
#define CMAN_SYS_INSPECT_H

#include "bpf/inspect.h"
#include "cman/repair.h"

struct cman_inspect;

enum cman_inspect_way {
	CMAN_INSPECT_LOOKUP, /* by addresses, in this process's network namespace; no device-bound ones */
	CMAN_INSPECT_WALK, /* iter/tcp: one pass over all sockets of the kernel; each under its lock */
};

/*
 * Loads the programs. Needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and a kernel with BTF; 0 or -errno
 * with a sentence in *ret_why.
 */
int cman_inspect_open(struct cman_inspect **ret, const char **ret_why);
void cman_inspect_close(struct cman_inspect *inspect);

/* Where the caller writes who is asked for: CMAN_INSPECT_MAX places. WALK needs only the cookies. */
struct cman_inspect_key *cman_inspect_keys(struct cman_inspect *inspect);

/*
 * Reads the sockets of the first @n keys. *ret_records has one for each, in the same order, valid
 * until the next call; not CMAN_INSPECT_FOUND in its flags: not read.
 */
int cman_inspect_read(struct cman_inspect *inspect, enum cman_inspect_way way, unsigned int n,
		      const struct cman_inspect_record **ret_records);

/* Sysctls may have changed: learned values are learned anew. */
void cman_inspect_forget(struct cman_inspect *inspect);

/*
 * @fd is the socket of @record, not frozen. The first time for its family, all that was read is compared
 * with what system calls say; then this does nothing.
 */
void cman_inspect_verify(struct cman_inspect *inspect, const struct cman_inspect_record *record,
			 int fd);

/*
 * Fills in what @record tells of an image that was reset, in the options that it wants. Returns
 * bits of enum cman_repair_known. Nothing is known of a family that was not verified.
 */
unsigned int cman_inspect_describe(struct cman_inspect *inspect,
				   const struct cman_inspect_record *record,
				   struct cman_repair_image *image);

/* @image is of the same socket, with every option that was still missing from system calls. */
void cman_inspect_learn(struct cman_inspect *inspect, const struct cman_inspect_record *record,
			const struct cman_repair_image *image);

/* For cman_repair_export_known(). */
void cman_inspect_state(const struct cman_inspect *inspect,
			const struct cman_inspect_record *record,
			struct cman_repair_state *ret_state);

#endif
