/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guard: the switch that decides which owner a connection's packets reach. Three programs:
 *
 *	cman_guard      tc ingress of each interface. Looks the packet's tuple up in `frozen`:
 *	                PARK sends the whole frame to the parking device (a TAP), DRAIN and FORWARD
 *	                let it go on or send it to another machine, but only when nothing of the
 *	                connection is still parked. Unknown tuples: what `moving` says of the address.
 *	cman_guard_tap  tc ingress of the parking device: what the owner writes back appears again at
 *	                the interface where it came in, so that nothing (SO_BINDTODEVICE, rp_filter,
 *	                firewall) sees a difference
 *	cman_guard_cmd  run by the owner: makes, changes and removes entries of `frozen` in place
 *
 * An entry is looked at together with its expiry: whatever happens to its owner, it is over then.
 * A frame that was parked is recognised by its source address (struct cman_guard_conf); a forged
 * one can disturb the order of a connection's packets, it cannot pass a closed guard.
 *
 * Not guarded: fragments, TCP behind IPv6 extension headers, frames with a VLAN tag (they are the
 * VLAN device's, which has its own filter) and frames that are not for this host.
 */
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/cman_maps.h"

#define GUARD_ETH_P_IP	     0x0800
#define GUARD_ETH_P_IPV6     0x86dd
#define GUARD_ETH_HLEN	     14
#define GUARD_IPPROTO_ICMP   1
#define GUARD_IPPROTO_TCP    6
#define GUARD_IPPROTO_ICMPV6 58
#define GUARD_PACKET_HOST    0
#define GUARD_NEXT	     (-1) /* TC_ACT_UNSPEC */
#define GUARD_SHOT	     2	  /* TC_ACT_SHOT */
#define GUARD_CURRENT_NETNS  (-1)

#define GUARD_FRAGMENT_OFFSET 0x1fff
#define GUARD_TCP_SYN	      0x02
#define GUARD_TCP_RST	      0x04
#define GUARD_TCP_ACK	      0x10
#define GUARD_TCP_LISTEN      10
#define GUARD_TCP_TIME_WAIT   6

#define GUARD_ENOENT 2
#define GUARD_EAGAIN 11
#define GUARD_EINVAL 22
#define GUARD_ESTALE 116

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CMAN_GUARD_FROZEN);
	__type(key, struct cman_tuple);
	__type(value, struct cman_frozen);
} frozen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CMAN_GUARD_MOVING);
	__type(key, struct cman_moving_key);
	__type(value, struct cman_moving);
} moving SEC(".maps");

/* LRU: anybody can send SYNs, and they must not take the place of those that are parked */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, CMAN_GUARD_BEGUN);
	__type(key, struct cman_tuple);
	__type(value, __u64); /* cman_moving.id */
} begun SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cman_guard_conf);
} guard_conf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cman_guard_cmd);
} guard_cmd SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cman_guard_counts);
} guard_counts SEC(".maps");

struct guard_mac {
	__u8 dst[6];
	__u8 src[6];
};

/* What a packet says of itself. */
struct guard_packet {
	struct cman_tuple tuple; /* no ports: not TCP */
	__u32 network;		 /* length of the IP header */
	__s32 weight;		 /* what it counts in parked_now */
	__u8 proto;		 /* 0: a fragment */
	__u8 flags;		 /* of TCP */
	bool v6;
};

static __always_inline void guard_map_v4(__u8 addr[16], __be32 ip)
{
	__u32 word[4] = { 0, 0, bpf_htonl(0xffff), ip };

	__builtin_memcpy(addr, word, 16);
}

/* False: not IP, or cut short. */
static __always_inline bool guard_parse(struct __sk_buff *skb, struct guard_packet *packet)
{
	struct tcphdr tcp;

	if (skb->protocol == bpf_htons(GUARD_ETH_P_IP)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
			return false;
		packet->network = ip.ihl * 4;
		packet->proto = ip.frag_off & bpf_htons(GUARD_FRAGMENT_OFFSET) ? 0 : ip.protocol;
		guard_map_v4(packet->tuple.local_addr, ip.daddr);
		guard_map_v4(packet->tuple.peer_addr, ip.saddr);
	} else if (skb->protocol == bpf_htons(GUARD_ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
			return false;
		packet->v6 = true;
		packet->network = sizeof(ip);
		packet->proto = ip.nexthdr;
		__builtin_memcpy(packet->tuple.local_addr, &ip.daddr, 16);
		__builtin_memcpy(packet->tuple.peer_addr, &ip.saddr, 16);
	} else {
		return false;
	}
	if (packet->proto != GUARD_IPPROTO_TCP)
		return true;

	if (bpf_skb_load_bytes_relative(skb, packet->network, &tcp, sizeof(tcp), BPF_HDR_START_NET))
		return false;
	packet->tuple.local_port = bpf_ntohs(tcp.dest);
	packet->tuple.peer_port = bpf_ntohs(tcp.source);
	packet->flags = ((__u8 *)&tcp)[13];
	packet->weight = (__s32)(skb->len - GUARD_ETH_HLEN - packet->network -
				 4 * (((__u8 *)&tcp)[12] >> 4));
	if (packet->weight < 1)
		packet->weight = 1;
	return true;
}

static __always_inline struct cman_frozen *guard_find(const struct cman_tuple *tuple, __u64 now)
{
	struct cman_frozen *entry = bpf_map_lookup_elem(&frozen, tuple);

	return entry && now < entry->expires_ns ? entry : NULL;
}

/* Was this frame parked, and comes back now? */
static __always_inline bool guard_returned(struct __sk_buff *skb,
					   const struct cman_guard_conf *conf,
					   const struct guard_mac *mac)
{
	__u32 ifindex;

	__builtin_memcpy(&ifindex, mac->src + 2, 4);
	return mac->src[0] == conf->mark[0] && mac->src[1] == conf->mark[1] &&
	       bpf_ntohl(ifindex) == skb->ifindex;
}

/* A device that is gone drops: the guard stays closed when its owner has died. */
static __always_inline int guard_park(struct __sk_buff *skb, const struct cman_guard_conf *conf,
				      struct cman_frozen *entry, __s32 weight,
				      struct cman_guard_counts *count)
{
	__u32 ifindex = bpf_htonl(skb->ifindex);
	__u8 src[6];

	__builtin_memcpy(src, conf->mark, 2);
	__builtin_memcpy(src + 2, &ifindex, 4);
	if (bpf_skb_store_bytes(skb, 6, src, 6, 0)) {
		count->failed++;
		return GUARD_SHOT;
	}
	__sync_fetch_and_add(&entry->parked_now, weight);
	__sync_fetch_and_add(&entry->parked, 1);
	count->parked++;
	return bpf_redirect(conf->park_ifindex, 0);
}

static __always_inline bool guard_same_mac(const __u8 *a, const __u8 *b)
{
	for (int i = 0; i < 6; i++) {
		if (a[i] != b[i])
			return false;
	}
	return true;
}

/*
 * Out to the next machine. What comes from there is not sent back: two machines that each take the
 * other for the owner would pass it between them for ever, as this changes no time to live.
 */
static __always_inline int guard_forward(struct __sk_buff *skb, const struct guard_mac *mac,
					 const struct cman_guard_hop *hop, __u64 *counter,
					 struct cman_guard_counts *count)
{
	struct guard_mac out;

	if (guard_same_mac(mac->src, hop->dst_mac)) {
		count->bounced++;
		return GUARD_SHOT;
	}
	__builtin_memcpy(out.dst, hop->dst_mac, 6);
	__builtin_memcpy(out.src, hop->src_mac, 6);
	if (bpf_skb_store_bytes(skb, 0, &out, sizeof(out), 0)) {
		count->failed++;
		return GUARD_SHOT;
	}
	__sync_fetch_and_add(counter, 1);
	return bpf_redirect(hop->ifindex, 0);
}

enum guard_socket { GUARD_NO_SOCKET, GUARD_LISTENER, GUARD_TIME_WAIT, GUARD_CONNECTION };

/* Whom the kernel would give this TCP packet to. */
static __always_inline enum guard_socket guard_socket(struct __sk_buff *skb,
						      const struct guard_packet *packet)
{
	enum guard_socket found = GUARD_NO_SOCKET;
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	__u32 size;

	if (packet->v6) {
		__builtin_memcpy(tuple.ipv6.saddr, packet->tuple.peer_addr, 16);
		__builtin_memcpy(tuple.ipv6.daddr, packet->tuple.local_addr, 16);
		tuple.ipv6.sport = bpf_htons(packet->tuple.peer_port);
		tuple.ipv6.dport = bpf_htons(packet->tuple.local_port);
		size = sizeof(tuple.ipv6);
	} else {
		__builtin_memcpy(&tuple.ipv4.saddr, packet->tuple.peer_addr + 12, 4);
		__builtin_memcpy(&tuple.ipv4.daddr, packet->tuple.local_addr + 12, 4);
		tuple.ipv4.sport = bpf_htons(packet->tuple.peer_port);
		tuple.ipv4.dport = bpf_htons(packet->tuple.local_port);
		size = sizeof(tuple.ipv4);
	}
	sk = bpf_skc_lookup_tcp(skb, &tuple, size, GUARD_CURRENT_NETNS, 0);
	if (!sk)
		return GUARD_NO_SOCKET;
	if (sk->state == GUARD_TCP_LISTEN) {
		found = GUARD_LISTENER;
		/* the last ACK of a handshake that the listener keeps no state of */
		if ((packet->flags & (GUARD_TCP_SYN | GUARD_TCP_ACK | GUARD_TCP_RST)) ==
		    GUARD_TCP_ACK) {
			struct tcphdr tcp;
			union {
				struct iphdr v4;
				struct ipv6hdr v6;
			} ip;
			__u32 length = packet->v6 ? sizeof(ip.v6) : sizeof(ip.v4);

			__builtin_memset(&ip, 0, sizeof(ip));
			if (!bpf_skb_load_bytes_relative(skb, 0, &ip, length, BPF_HDR_START_NET) &&
			    !bpf_skb_load_bytes_relative(skb, packet->network, &tcp, sizeof(tcp),
							 BPF_HDR_START_NET) &&
			    !bpf_tcp_check_syncookie(sk, &ip, length, &tcp, sizeof(tcp)))
				found = GUARD_CONNECTION;
		}
	} else {
		found = sk->state == GUARD_TCP_TIME_WAIT ? GUARD_TIME_WAIT : GUARD_CONNECTION;
	}
	bpf_sk_release(sk);
	return found;
}

/*
 * An ICMP error belongs to the connection that it quotes. To a parked one the kernel would not
 * listen either: it comes again.
 */
static __always_inline struct cman_frozen *
guard_find_quoted(struct __sk_buff *skb, const struct guard_packet *packet, __u64 now)
{
	struct cman_tuple quoted = {};
	__u32 inner = packet->network + 8, transport;
	__be16 port[2];
	__u8 type, proto;

	if (bpf_skb_load_bytes_relative(skb, packet->network, &type, 1, BPF_HDR_START_NET))
		return NULL;
	if (packet->proto == GUARD_IPPROTO_ICMP) {
		struct iphdr ip;

		/* unreachable (with "fragmentation needed"), time exceeded, parameter problem */
		if ((type != 3 && type != 11 && type != 12) ||
		    bpf_skb_load_bytes_relative(skb, inner, &ip, sizeof(ip), BPF_HDR_START_NET))
			return NULL;
		proto = ip.protocol;
		transport = inner + ip.ihl * 4;
		guard_map_v4(quoted.local_addr, ip.saddr);
		guard_map_v4(quoted.peer_addr, ip.daddr);
	} else {
		struct ipv6hdr ip;

		/* the errors: unreachable, too big, time exceeded, parameter problem */
		if (type < 1 || type > 4 ||
		    bpf_skb_load_bytes_relative(skb, inner, &ip, sizeof(ip), BPF_HDR_START_NET))
			return NULL;
		proto = ip.nexthdr;
		transport = inner + sizeof(ip);
		__builtin_memcpy(quoted.local_addr, &ip.saddr, 16);
		__builtin_memcpy(quoted.peer_addr, &ip.daddr, 16);
	}
	if (proto != GUARD_IPPROTO_TCP ||
	    bpf_skb_load_bytes_relative(skb, transport, port, sizeof(port), BPF_HDR_START_NET))
		return NULL;
	quoted.local_port = bpf_ntohs(port[0]);
	quoted.peer_port = bpf_ntohs(port[1]);
	return guard_find(&quoted, now);
}

/* The rest of the connections whose SYN went to the next machine. */
static __always_inline bool guard_has_begun(const struct guard_packet *packet,
					    const struct cman_moving *address)
{
	__u64 *id = bpf_map_lookup_elem(&begun, &packet->tuple);

	return id && *id == address->id;
}

/* No entry speaks of this packet: its address may. */
static __always_inline int guard_unknown(struct __sk_buff *skb, const struct guard_packet *packet,
					 const struct guard_mac *mac, __u64 now,
					 struct cman_guard_counts *count)
{
	bool tcp = packet->proto == GUARD_IPPROTO_TCP;
	bool syn = tcp && packet->flags & GUARD_TCP_SYN;
	struct cman_moving_key key;
	struct cman_moving *address;
	__u64 id;

	__builtin_memcpy(key.addr, packet->tuple.local_addr, 16);
	address = bpf_map_lookup_elem(&moving, &key);
	if (!address || now >= address->expires_ns)
		return GUARD_NEXT;
	switch (address->mode) {
	case CMAN_MOVING_LEAVING:
		if (!tcp)
			return GUARD_NEXT;
		if (guard_has_begun(packet, address))
			break;
		/* a handshake that has begun here ends here */
		if (!syn || guard_socket(skb, packet) == GUARD_CONNECTION)
			return GUARD_NEXT;
		id = address->id;
		bpf_map_update_elem(&begun, &packet->tuple, &id, BPF_ANY);
		break;
	case CMAN_MOVING_STAYED:
		if (!tcp || !guard_has_begun(packet, address))
			return GUARD_NEXT;
		break;
	case CMAN_MOVING_GONE:
		break;
	case CMAN_MOVING_ARRIVING:
		if (!tcp || (syn && !(packet->flags & GUARD_TCP_ACK)) ||
		    guard_socket(skb, packet) >= GUARD_TIME_WAIT)
			return GUARD_NEXT;
		__sync_fetch_and_add(&address->dropped, 1);
		count->unanswered++;
		return GUARD_SHOT;
	default:
		return GUARD_NEXT;
	}
	count->strays++;
	return guard_forward(skb, mac, &address->hop, &address->forwarded, count);
}

SEC("tc")
int cman_guard(struct __sk_buff *skb)
{
	struct guard_packet packet = {};
	struct cman_guard_counts *count;
	struct cman_guard_conf *conf;
	struct cman_frozen *entry;
	struct guard_mac mac;
	bool returned;
	__u32 zero = 0;
	__u64 now;

	if (skb->pkt_type != GUARD_PACKET_HOST || skb->vlan_present)
		return GUARD_NEXT;
	conf = bpf_map_lookup_elem(&guard_conf, &zero);
	count = bpf_map_lookup_elem(&guard_counts, &zero);
	if (!conf || !count || bpf_skb_load_bytes(skb, 0, &mac, sizeof(mac)) ||
	    !guard_parse(skb, &packet))
		return GUARD_NEXT;
	now = bpf_ktime_get_boot_ns();
	if (packet.proto == GUARD_IPPROTO_TCP) {
		entry = guard_find(&packet.tuple, now);
	} else if (packet.proto == (packet.v6 ? GUARD_IPPROTO_ICMPV6 : GUARD_IPPROTO_ICMP)) {
		entry = guard_find_quoted(skb, &packet, now);
		if (entry && entry->action == CMAN_GUARD_FORWARD) {
			count->forwarded++;
			return guard_forward(skb, &mac, &entry->hop, &entry->forwarded, count);
		}
		if (entry)
			return GUARD_NEXT;
	} else {
		entry = NULL;
	}
	returned = guard_returned(skb, conf, &mac);
	if (returned)
		count->returned++;
	if (!entry)
		return guard_unknown(skb, &packet, &mac, now, count);

	if (returned)
		__sync_fetch_and_add(&entry->parked_now, -packet.weight);
	switch (entry->action) {
	case CMAN_GUARD_PARK:
		return guard_park(skb, conf, entry, packet.weight, count);
	case CMAN_GUARD_DRAIN:
		if (!returned && entry->parked_now > 0)
			return guard_park(skb, conf, entry, packet.weight, count);
		break;
	case CMAN_GUARD_FORWARD:
		if (!returned && entry->parked_now > 0)
			return guard_park(skb, conf, entry, packet.weight, count);
		count->forwarded++;
		return guard_forward(skb, &mac, &entry->hop, &entry->forwarded, count);
	case CMAN_GUARD_LOCAL:
		break;
	}
	__sync_fetch_and_add(&entry->passed, 1);
	return GUARD_NEXT;
}

SEC("tc")
int cman_guard_tap(struct __sk_buff *skb)
{
	struct cman_guard_counts *count;
	struct cman_guard_conf *conf;
	struct guard_mac mac;
	__u32 ifindex, zero = 0;

	conf = bpf_map_lookup_elem(&guard_conf, &zero);
	count = bpf_map_lookup_elem(&guard_counts, &zero);
	if (!conf || !count)
		return GUARD_SHOT;
	if (bpf_skb_load_bytes(skb, 0, &mac, sizeof(mac)) || mac.src[0] != conf->mark[0] ||
	    mac.src[1] != conf->mark[1]) {
		count->unmarked++;
		return GUARD_SHOT;
	}
	__builtin_memcpy(&ifindex, mac.src + 2, 4);
	return bpf_redirect(bpf_ntohl(ifindex), BPF_F_INGRESS);
}

/* ---------------------------------------------------------------------------------------------
 * The owner's orders
 */
static __always_inline int guard_set(const struct cman_guard_cmd *cmd,
				     const struct cman_tuple *tuple, struct cman_frozen *entry,
				     __u64 now)
{
	struct cman_frozen fresh = {};

	if (entry) {
		/* the hop first: a packet may look at the entry just now */
		if (cmd->action == CMAN_GUARD_FORWARD)
			entry->hop = cmd->hop;
		if (cmd->expires_ns)
			entry->expires_ns = cmd->expires_ns;
		if (cmd->op == CMAN_GUARD_OP_SET)
			entry->batch = cmd->batch;
		entry->epoch = cmd->epoch;
		entry->since_ns = now;
		__sync_lock_test_and_set((__u32 *)&entry->action, cmd->action);
		return 0;
	}
	if (cmd->op != CMAN_GUARD_OP_SET)
		return -GUARD_ENOENT;
	fresh.action = cmd->action;
	fresh.epoch = cmd->epoch;
	fresh.batch = cmd->batch;
	fresh.expires_ns = cmd->expires_ns;
	fresh.since_ns = now;
	fresh.hop = cmd->hop;
	return (int)bpf_map_update_elem(&frozen, tuple, &fresh, BPF_NOEXIST);
}

static __always_inline int guard_finish(const struct cman_tuple *tuple, struct cman_frozen *entry,
					__s64 write_off, __s64 *ret_parked)
{
	if (write_off > 0) {
		__sync_fetch_and_add(&entry->parked_now, -write_off);
		entry->lost += (__u64)write_off;
	}
	*ret_parked = entry->parked_now;
	if (*ret_parked > 0)
		return -GUARD_EAGAIN;
	if (entry->action == CMAN_GUARD_DRAIN)
		return (int)bpf_map_delete_elem(&frozen, tuple);
	return 0;
}

SEC("syscall")
int cman_guard_cmd(void *ctx)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct cman_guard_cmd *cmd;
	__u32 zero = 0;

	cmd = bpf_map_lookup_elem(&guard_cmd, &zero);
	if (!cmd)
		return -GUARD_EINVAL;
	for (__u32 i = 0; i < CMAN_GUARD_BATCH; i++) {
		struct cman_frozen *entry;
		struct cman_tuple tuple;
		int result;

		if (i >= cmd->n)
			break;
		tuple = cmd->tuple[i];
		entry = bpf_map_lookup_elem(&frozen, &tuple);
		if (entry && cmd->epoch < entry->epoch)
			result = -GUARD_ESTALE;
		else if (cmd->op == CMAN_GUARD_OP_SET || cmd->op == CMAN_GUARD_OP_CHANGE)
			result = guard_set(cmd, &tuple, entry, now);
		else if (!entry)
			result = -GUARD_ENOENT;
		else if (cmd->op == CMAN_GUARD_OP_FINISH)
			result = guard_finish(&tuple, entry, 0, &cmd->parked[i]);
		else if (cmd->op == CMAN_GUARD_OP_SETTLE)
			result = guard_finish(&tuple, entry, cmd->parked[i], &cmd->parked[i]);
		else if (cmd->op == CMAN_GUARD_OP_DELETE)
			result = (int)bpf_map_delete_elem(&frozen, &tuple);
		else if (cmd->op == CMAN_GUARD_OP_RENEW) {
			entry->expires_ns = cmd->expires_ns;
			result = 0;
		} else
			result = -GUARD_EINVAL;
		cmd->result[i] = result;
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
