/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process table of an instance: every process there is, what it may do, and where it starts.
 *
 *	title	 privileges				       start
 *	manager	 NET_ADMIN BPF PERFMON NET_BIND_SERVICE...     main.c
 *	gateway	 none, system call filter		       cman_gateway_start()
 *	keeper	 none, system call filter		       cman_keeper_start()
 *	spare	 none, system call filter		       cman_keeper_start()
 *
 * Gateway, keeper and spare of one number share a descriptor table: a cell (usr/sys/cell.h).
 */
#include "usr/gateway/gateway.h"
#include "usr/keeper/keeper.h"
#include "usr/manager/manager.h"

void procs_fill(struct cman_cell_env *env)
{
	env->start[CMAN_GATEWAY] = cman_gateway_start;
	env->start[CMAN_KEEPER] = cman_keeper_start;
	env->start[CMAN_SPARE] = cman_keeper_start;
}
