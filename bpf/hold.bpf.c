/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hold (tc, clsact ingress): clients wait although no process is there to hold them. Drops a bare
 * SYN for a configured address while its service is suspended, or has when_down = wait and no
 * listening socket; the client sends it again after 1, 2, 4... seconds. Everything else goes on
 * to the next filter untouched. Where steer finds a hold socket it does the same; this program is
 * for the time without a daemon, whose hold sockets went with it.
 *
 * Reads from the network header on, so that it serves ethernet, lo and devices without a link
 * layer alike. Not held: SYNs behind IPv6 extension headers, and those with a VLAN tag (they are
 * the VLAN device's, which has its own filter).
 */
#include "vmlinux.h"

#include "bpf/steer.bpf.h"

#define CMAN_ETH_P_IP	 0x0800
#define CMAN_ETH_P_IPV6	 0x86dd
#define CMAN_IPPROTO_TCP 6
#define CMAN_PACKET_HOST 0
#define CMAN_NEXT	 (-1) /* TC_ACT_UNSPEC */
#define CMAN_SHOT	 2    /* TC_ACT_SHOT */

#define IPV4_FRAGMENT_OFFSET 0x1fff
#define TCP_FLAG_BITS	     0x17 /* ACK, RST, SYN, FIN */
#define TCP_FLAG_SYN	     0x02

/*
 * A wildcard is for the addresses of this host: what a router passes on is not ours. With
 * forwarding off, whatever is not local is dropped later anyway.
 */
static __always_inline bool is_forwarded(struct __sk_buff *skb, struct bpf_fib_lookup *fib)
{
	long ret;

	fib->ifindex = skb->ifindex;
	ret = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	return ret == BPF_FIB_LKUP_RET_SUCCESS || ret == BPF_FIB_LKUP_RET_NO_NEIGH ||
	       ret == BPF_FIB_LKUP_RET_FRAG_NEEDED;
}

static __always_inline bool has_listener(__u32 index)
{
	struct bpf_sock *sk;

	if (index >= CMAN_MAX_LISTENERS)
		return false;
	sk = bpf_map_lookup_elem(&listeners, &index);
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

SEC("tc")
int cman_hold(struct __sk_buff *skb)
{
	struct bpf_fib_lookup fib = { .l4_protocol = CMAN_IPPROTO_TCP };
	struct cman_address_key key = {};
	struct cman_address *address;
	struct cman_service *service;
	struct cman_counters *count;
	struct tcphdr tcp;
	__u32 offset;
	bool wildcard;

	if (skb->pkt_type != CMAN_PACKET_HOST || skb->vlan_present)
		return CMAN_NEXT;
	if (skb->protocol == bpf_htons(CMAN_ETH_P_IP)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET) ||
		    ip.protocol != CMAN_IPPROTO_TCP ||
		    (ip.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)))
			return CMAN_NEXT;
		offset = ip.ihl * 4;
		key.family = CMAN_AF_INET;
		cman_map_v4(key.addr, ip.daddr);
		fib.ipv4_src = ip.saddr;
		fib.ipv4_dst = ip.daddr;
	} else if (skb->protocol == bpf_htons(CMAN_ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET) ||
		    ip.nexthdr != CMAN_IPPROTO_TCP)
			return CMAN_NEXT;
		offset = sizeof(ip);
		key.family = CMAN_AF_INET6;
		__builtin_memcpy(key.addr, &ip.daddr, 16);
		__builtin_memcpy(fib.ipv6_src, &ip.saddr, 16);
		__builtin_memcpy(fib.ipv6_dst, &ip.daddr, 16);
	} else {
		return CMAN_NEXT;
	}
	fib.family = key.family;

	if (bpf_skb_load_bytes_relative(skb, offset, &tcp, sizeof(tcp), BPF_HDR_START_NET) ||
	    (((__u8 *)&tcp)[13] & TCP_FLAG_BITS) != TCP_FLAG_SYN)
		return CMAN_NEXT;

	key.port = bpf_ntohs(tcp.dest);
	address = cman_find_address(&key, &wildcard);
	if (!address)
		return CMAN_NEXT;
	service = bpf_map_lookup_elem(&services, &address->service);
	if (!service)
		return CMAN_NEXT;
	if (service->state != CMAN_SERVICE_SUSPENDED &&
	    (service->when_down != CMAN_DOWN_WAIT || has_listener(address->listener)))
		return CMAN_NEXT;
	if (wildcard && is_forwarded(skb, &fib))
		return CMAN_NEXT;

	count = bpf_map_lookup_elem(&counters, &address->service);
	if (count)
		count->held++;
	return CMAN_SHOT;
}

char LICENSE[] SEC("license") = "GPL";
