/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper: holds the descriptor table of its cell while gateways come and go, and hands
 * descriptors to whoever may take them. It has no policy: it does not read the ledger.
 */
#ifndef CMAN_KEEPER_KEEPER_H
#define CMAN_KEEPER_KEEPER_H

#include "usr/sys/cell.h"

/* Start functions for the process table; both roles are the same program. Never return. */
void cman_keeper_start(struct cman_cell_env *env);

#endif
