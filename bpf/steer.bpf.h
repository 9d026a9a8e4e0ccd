/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What steer and hold share: which configured address a packet is for, and whether its service
 * has it wait. Both programs must answer the same, or one would refuse what the other holds.
 */
#ifndef CMAN_STEER_BPF_H
#define CMAN_STEER_BPF_H

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/maps.bpf.h"

/* macros of the kernel's headers, which vmlinux.h cannot have */
#define CMAN_AF_INET  2
#define CMAN_AF_INET6 10

/* Writes ::ffff:@ip; @ip is as it is in the packet. */
static __always_inline void cman_map_v4(__u8 addr[16], __u32 ip)
{
	__u32 word[4] = { 0, 0, bpf_htonl(0xffff), ip };

	__builtin_memcpy(addr, word, 16);
}

/* The address as it is written in the packet, then the wildcard of its family. */
static __always_inline struct cman_address *cman_find_address(struct cman_address_key *key,
							      bool *ret_wildcard)
{
	struct cman_address *address = bpf_map_lookup_elem(&addresses, key);

	*ret_wildcard = false;
	if (address)
		return address;
	*ret_wildcard = true;
	if (key->family == CMAN_AF_INET)
		cman_map_v4(key->addr, 0);
	else
		__builtin_memset(key->addr, 0, 16);
	return bpf_map_lookup_elem(&addresses, key);
}

#endif
