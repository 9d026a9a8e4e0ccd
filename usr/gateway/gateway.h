/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gateway: the unprivileged process that accepts, connects and relays the sessions of one
 * cell. It may be killed at any instruction: a clone of a keeper goes on from the ledger.
 */
#ifndef CMAN_GATEWAY_GATEWAY_H
#define CMAN_GATEWAY_GATEWAY_H

#include "usr/sys/cell.h"

/* Start function for the process table. Never returns. */
void cman_gateway_start(struct cman_cell_env *env);

#endif
