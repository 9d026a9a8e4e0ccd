/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crash points: between any two system calls or ledger stores that matter, CMAN_CRASH(NAME) marks
 * the place. In a normal build it is nothing. In a test build (make CRASH=1) the process dies there
 * by SIGKILL when instance->crash_point names the place and crash_count has run down; with
 * crash_also it takes other processes of its cell with it in the same instant.
 */
#ifndef CMAN_SYS_CRASH_H
#define CMAN_SYS_CRASH_H

#include <stdint.h>

#include "bpf/cman_maps.h"

/* clang-format off */
#define CMAN_CRASH_POINTS_LIST(X) \
	/* accept */ \
	X(ACCEPT_MARKED) X(ACCEPT_GOT_FD) X(ACCEPT_STORED_FD) X(ACCEPT_STORED_COOKIE) \
	X(ACCEPT_STATE) X(ACCEPT_SOCKET) X(ACCEPT_STORED_SERVER) X(ACCEPT_CONNECTING) \
	X(ACCEPT_UNMARKED) X(ACCEPT_EARLY_BOUND) X(ACCEPT_EARLY_READ) X(ACCEPT_CONNECTED) \
	X(ACCEPT_RELAYING) X(ACCEPT_EPOLL_CLIENT) X(ACCEPT_EPOLL_SERVER) \
	X(CONNECT_FAILED) X(CONNECT_FAILED_CLOSED) X(CONNECT_DONE) \
	/* relay */ \
	X(RELAY_BOUND) X(RELAY_READ) X(RELAY_SENT) X(RELAY_POSITION) X(RELAY_UNBOUND) \
	X(RELAY_PARTIAL) X(RELAY_COPIED) X(RELAY_MOVED) X(RELAY_REST_SENT) \
	X(SPLICE_BOUND) X(SPLICE_IN) X(SPLICE_OUT) X(SPLICE_POSITION) X(SPLICE_UNBOUND) \
	X(PIPE_MARKED) X(PIPE_MADE) X(PIPE_STORED) \
	X(EOF_READ) X(EOF_SHUTDOWN) X(EOF_STORED) \
	/* relay with TLS */ \
	X(TLS_READ) X(TLS_SEALED) X(TLS_COMMITTED) X(TLS_SENT) X(TLS_MOVED) \
	X(TLS_HELLO) X(TLS_REPLIED) X(TLS_CONNECTED) X(TLS_ASKED) X(TLS_ANSWERED) X(TLS_SHAKEN) \
	X(TLS_STORED) X(TLS_RELAYING) \
	X(KTLS_CONTROL) X(KTLS_UPDATE_NOTED) X(KTLS_UPDATE_SENT) X(KTLS_KEY) \
	/* relay in the kernel */ \
	X(KERNEL_MARKED) X(KERNEL_LEG) X(KERNEL_HOLD) X(KERNEL_RUN) X(KERNEL_ENTERED) \
	X(KERNEL_EOF) X(KERNEL_EOF_STORED) X(KERNEL_OVER) X(KERNEL_END) X(KERNEL_ENDED) \
	X(KERNEL_GAGGED) X(KERNEL_DRAINED) X(KERNEL_FORGET) X(KERNEL_POSITION) X(KERNEL_LEFT) \
	/* close */ \
	X(CLOSE_STATE) X(CLOSE_PIPE) X(CLOSE_CLIENT) X(CLOSE_CLIENT_STORED) X(CLOSE_SERVER) \
	X(CLOSE_SERVER_STORED) X(CLOSE_FREE) \
	/* recovery */ \
	X(RECOVER_START) X(RECOVER_OWN_FDS) X(RECOVER_EPOLL) X(RECOVER_SCAN) X(RECOVER_ADOPT) \
	X(RECOVER_HOT) X(RECOVER_SLOT) X(RECOVER_POSITION) X(RECOVER_CONNECT) X(RECOVER_PIPES) \
	X(RECOVER_DONE) \
	/* roles */ \
	X(ROLE_CLAIMED) X(ROLE_CLONED) X(ROLE_CHILD) X(ROLE_TAKEN) X(KEEPER_PIDFD) \
	/* orders of a handover, in the gateway */ \
	X(ORDER_SEEN) X(FREEZE_EPOLL) X(FREEZE_STATE) X(THAW_SLOT) X(RELEASE_CLIENT) \
	X(RELEASE_FREE) X(RESERVE_SLOT) X(RESERVE_PIPE) X(ACTIVATE_STATE) \
	X(DISCARD_SLOT) X(ORDER_DONE) X(ORDER_ACKED) \
	/* keeper */ \
	X(KEEPER_GIVE) X(KEEPER_TAKE_GOT) X(KEEPER_TAKE_TOLD) \
	/* handover, in the managers */ \
	X(SOURCE_HELLO) X(SOURCE_LISTENERS) X(SOURCE_GIVE_NAME) X(SOURCE_RENAMED) X(SOURCE_NAMED) \
	X(SOURCE_FREEZE) X(SOURCE_FROZEN) X(SOURCE_GIVEN) X(SOURCE_PARKED) X(SOURCE_BATCH) \
	X(SOURCE_DECIDE) X(SOURCE_DECIDED) X(SOURCE_COMMIT) X(SOURCE_RELEASE) X(SOURCE_RELEASED) \
	X(SOURCE_DONE) X(SOURCE_OVER) \
	X(TARGET_HELLO) X(TARGET_STARTED) X(TARGET_READY) X(TARGET_NAMED) X(TARGET_STEERED) \
	X(TARGET_RENAMED_FOLDER) X(TARGET_RENAMED_PINS) X(TARGET_RENAMED_RUN) X(TARGET_IMPORT) X(TARGET_RESERVED) \
	X(TARGET_TAKEN) X(TARGET_FILLED) X(TARGET_PREPARED) X(TARGET_PREPARED_SENT) X(TARGET_LIVE) \
	X(TARGET_ACTIVATE) X(TARGET_ACTIVATED) X(TARGET_COMMITTED) X(TARGET_FINISHED) X(FAR_ANNOUNCED) \
	/* handover by TCP_REPAIR, in the managers */ \
	X(REPAIR_CLOSED) X(REPAIR_EXPORTED) X(REPAIR_WRITTEN) X(REPAIR_GONE) X(REPAIR_OPEN) \
	X(REPAIR_IMPORTED) X(REPAIR_AWAKE) \
	X(RESTORE_EVICTED) X(RESTORE_IMPORTED) X(RESTORE_TAKEN) X(RESTORE_FILLED) X(RESTORE_LIVE) \
	X(RESTORE_OPEN) \
	X(RESCUE_STOPPED) X(RESCUE_FDS) X(RESCUE_KILLED) X(RESCUE_IMPORTED)
/* clang-format on */

enum cman_crash_point {
	CMAN_CRASH_NONE,
#define X(name) CMAN_CRASH_##name,
	CMAN_CRASH_POINTS_LIST(X)
#undef X
		CMAN_CRASH_COUNT
};

#define CMAN_CRASH_STOP 0x80000000u /* in crash_also: stops, as one that hangs, and does not die */

#ifdef CMAN_CRASH_POINTS
/*
 * @cell is NULL in a manager. Without an instance (a manager that has no maps yet) the environment
 * says what is armed: CMAN_CRASH=POINT[:COUNT[:stop]]; the maps take that over.
 */
void cman_crash_init(struct cman_instance *instance, struct cman_cell *cell);
void cman_crash_here(enum cman_crash_point point);
#define CMAN_CRASH(name) cman_crash_here(CMAN_CRASH_##name)
/* A time that a test may shorten: the environment's @variable, or @ms. */
uint32_t cman_crash_ms(const char *variable, uint32_t ms);
#else
#define cman_crash_ms(variable, ms)	(ms)
#define cman_crash_init(instance, cell) ((void)(instance), (void)(cell))
#define CMAN_CRASH(name) \
	do { \
	} while (0)
#endif

/* "RELAY_SENT"; NULL past the end. And the number for a name, or -EINVAL. Known in every build. */
const char *cman_crash_name(unsigned int point);
int cman_crash_parse(const char *name);

#endif
