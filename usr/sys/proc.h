/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a process may do, and what it is called: titles, dropping privileges, the system call
 * filter of the cells, closing what was inherited.
 */
#ifndef CMAN_SYS_PROC_H
#define CMAN_SYS_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Remembers where argv is. Once, first thing in main(). */
void cman_proc_init(int argc, char **argv);
/* ps shows "cman: TITLE [ALIAS]"; the comm is "cman-gateway" and the like (first word of TITLE). */
void cman_proc_title(const char *alias, const char *title);

/* uid and gid of @user; NULL: "cman" if there is one, else "nobody". 0 or -ENOENT. */
int cman_proc_user(const char *user, uid_t *ret_uid, gid_t *ret_gid);

/*
 * For a cell: no groups, @uid/@gid for good (unless not root: then it stays who it is), no
 * capability, no_new_privs, not dumpable, and a filter that allows just what keepers and
 * gateways call (anything else gives EPERM). Inherited by every clone. 0 or -errno.
 */
int cman_proc_drop(uid_t uid, gid_t gid);

/* For the manager: keeps NET_ADMIN, BPF, PERFMON, NET_BIND_SERVICE, SYS_PTRACE, what handing
 * files to the cells' user needs, nothing else. */
int cman_proc_limit_manager(void);

/*
 * Is @pid a process of cman (its comm begins with "cman-" and @what) that runs as @uid? What a pid
 * file or shared memory says is not believed before it is signalled.
 */
bool cman_proc_is(pid_t pid, const char *what, uid_t uid);

/* Closes every descriptor but 0..2 and those in @keep (n of them). */
void cman_proc_close_others(const int *keep, unsigned int n);

/* sd_notify(3): sends @state ("READY=1") to $NOTIFY_SOCKET; nothing when it is not set. */
void cman_notify(const char *state);

/* Raises RLIMIT_NOFILE to its hard limit; returns what it is then. */
uint64_t cman_proc_nofile(void);

/* No limit to locked memory, for this process and its children, where it may say so. */
void cman_proc_memlock(void);

/* The inode of the network namespace, and the boot id. 0 or -errno. */
int cman_proc_netns(uint64_t *ret_inode);
int cman_proc_boot_id(uint8_t ret_id[16]);

#endif
