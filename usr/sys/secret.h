/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that holds secrets: locked (never swapped), not in core dumps, wiped when it is given up. What
 * is private to a process is all zeros in its children.
 * Where the limit of locked memory (RLIMIT_MEMLOCK) does not allow the lock it is not locked, and the
 * first time says so in the log: the manager raises the limit before it starts cells, if it may. Sources:
 * mlock2(2), madvise(2) MADV_DONTDUMP and MADV_WIPEONFORK, memfd_create(2), explicit_bzero(3).
 *
 *	private to a process		cman_secret_alloc(), cman_secret_free()
 *	shared, as a descriptor		cman_secret_memfd(), cman_secret_map(), cman_secret_unmap()
 *	the same, to be handed over	cman_secret_seal(), cman_secret_open(), cman_secret_unmap()
 *	a secret in any struct		cman_secret_wipe()
 *	a file				cman_secret_shred()
 */
#ifndef CMAN_SYS_SECRET_H
#define CMAN_SYS_SECRET_H

#include <stddef.h>

/* Zeroed; NULL: no memory. Whole pages: for buffers, not for each key. */
void *cman_secret_alloc(size_t len);
/* Wipes first. @len as allocated; NULL is fine. */
void cman_secret_free(void *p, size_t len);

/*
 * A sealed-in-size memfd of @len zeros, MFD_CLOEXEC | MFD_NOEXEC_SEAL where the kernel has it, sparse.
 * Descriptor or -errno.
 */
int cman_secret_memfd(const char *name, size_t len);

/*
 * Maps the first @len bytes of @fd, shared, pages locked as they are touched (MLOCK_ONFAULT), not
 * dumped. The limit counts pages that nobody has touched, too: where it does not allow @len, only the
 * first @least bytes are locked. -EBADF: it is shorter, or could become so (F_SEAL_SHRINK is missing). 0
 * or -errno.
 */
int cman_secret_map(int fd, size_t len, size_t least, void **ret);
/* A memfd with just these bytes, which nobody can change any more (all seals). Descriptor or -errno. */
int cman_secret_seal(const char *name, const void *data, size_t len);
/*
 * Maps all of what cman_secret_seal() has made, read-only. -EBADF: it is not sealed, or empty; -EMSGSIZE:
 * more than @max bytes.
 */
int cman_secret_open(int fd, size_t max, void **ret, size_t *ret_len);

/* Does not wipe: others have it mapped. */
void cman_secret_unmap(void *p, size_t len);
/* Wipes @len bytes of a memfd at @offset and gives their whole pages back. */
void cman_secret_punch(int fd, size_t offset, size_t len);

void cman_secret_wipe(void *p, size_t len);
/*
 * Removes the file @path (of the folder @dir, as openat(2)) and wipes it, in this order: a crash leaves
 * all of it or no name. A link is removed, not followed.
 */
void cman_secret_shred(int dir, const char *path);

#endif
