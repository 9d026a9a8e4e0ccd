/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the sockets' own counters say about a session, and what a recovery has to do with it. Pure:
 * the numbers come from usr/sys/sock.h, the actions are carried out by the gateway.
 *
 * For each direction, R (bytes ever read from the source leg) and W (bytes ever written to the
 * destination leg) follow from the kernel alone:
 *
 *	R = tcpi_bytes_received - SIOCINQ - (1 if the peer's FIN was received)
 *	W = tcpi_bytes_acked + SIOCOUTQ - (1 for the SYN if we connected) - (1 if we sent FIN)
 *
 * (tcp(7), RFC 4898; net/ipv4/tcp.c: tcp_get_info(), tcp_inq(), tcp_ioctl().) R - W is in between:
 * in the pipe or buffer that the ledger binds to the direction.
 */
#ifndef CMAN_CORE_SESSION_H
#define CMAN_CORE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/cman_maps.h"

/* One socket, read in one consistent moment (cman_sock_counters()). */
struct cman_leg {
	uint8_t tcp_state;  /* TCP_ESTABLISHED.. as in tcp_states.h */
	bool initiated;	    /* we called connect(): our SYN is in bytes_acked */
	uint64_t received;  /* tcpi_bytes_received */
	uint64_t acked;	    /* tcpi_bytes_acked */
	uint32_t inq, outq; /* SIOCINQ, SIOCOUTQ */
};

/* The states in which the peer's FIN has arrived, and in which ours has been queued. */
bool cman_leg_fin_received(const struct cman_leg *leg);
bool cman_leg_fin_sent(const struct cman_leg *leg);

/*
 * A closed leg that cannot have ended by two FINs: it was reset or timed out. A relay sends its FIN
 * to @leg only after the other leg's has been received; so without that one, or without a single
 * byte or FIN from the peer, it was no orderly end. (Once a process has fetched its error the socket
 * itself says just EOF.) False may be a mistake: then the counters contradict the ledger.
 */
bool cman_leg_was_reset(const struct cman_leg *leg, const struct cman_leg *other);

uint64_t cman_leg_read(const struct cman_leg *leg);
uint64_t cman_leg_written(const struct cman_leg *leg);

/*
 * The bytes of one direction that were read and not yet written, and where they lie.
 *	bound to a buffer: [offset, offset + remain) of it
 *	bound to a pipe:   the pipe's FIONREAD must be @remain (a kTLS leg: trust the pipe)
 *	bound to nothing:  remain must be 0
 * Returns 0, or -EILSEQ when the counters contradict the ledger: the session cannot be continued.
 */
struct cman_between {
	uint32_t offset;
	uint32_t remain;
	uint64_t read; /* cumulative R: the new position once the rest is written */
};
int cman_flow_between(const struct cman_flow *flow, uint32_t bound, const struct cman_leg *source,
		      const struct cman_leg *destination, struct cman_between *ret_between);

/*
 * A slot comes from memory that gateways write. True when every number in it may be used as an
 * index: service, listener, target, buffers of a cell with @nslots slots, pipes.
 */
bool cman_slot_sane(const struct cman_slot *slot, uint32_t nslots);

/* "RELAYING"; "?" when unknown; and the number for a name, or -EINVAL. */
const char *cman_slot_state_name(uint8_t state);
int cman_slot_state_parse(const char *name);

#endif
