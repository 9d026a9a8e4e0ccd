/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steer (sk_lookup): gives a new connection to the listening socket that the configuration says,
 * whoever has it at this moment. Runs for each TCP packet that belongs to no connected socket:
 *
 *	address -> service suspended? -> rules -> listener's socket
 *
 * An address that is not configured is none of our business: SK_PASS, the kernel goes on as if we
 * were not here. A configured one never gets to a stranger's socket: every failure ends in
 * SK_DROP, which for TCP is a reset, or in a hold socket, which swallows the packet.
 */
#include "vmlinux.h"

#include "bpf/steer.bpf.h"

#define CMAN_IPPROTO_TCP 6

/* No reuseport: the entry of the map is the decision, not one of its group. */
#define ASSIGN_FLAGS BPF_SK_LOOKUP_F_NO_REUSEPORT

/* Gives the packet to listeners[@index]. 0, -ENOENT when there is none, or the helper's error. */
static __always_inline long assign(struct bpf_sk_lookup *ctx, __u32 index)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&listeners, &index);
	long err;

	if (!sk)
		return -2; /* ENOENT */
	err = bpf_sk_assign(ctx, sk, ASSIGN_FLAGS);
	bpf_sk_release(sk);
	return err;
}

/* Swallows the packet. Without a hold socket the only other thing there is is a reset. */
static __always_inline bool swallow(struct bpf_sk_lookup *ctx)
{
	__u32 index = ctx->family == CMAN_AF_INET ? CMAN_HOLD_INET : CMAN_HOLD_INET6;

	return assign(ctx, index) == 0;
}

/* enum cman_action for this client of the service */
static __always_inline __u32 rule_action(__u32 service, const __u8 source[16])
{
	struct cman_rule_key key = { .prefix_len = 32 + 128, .service = bpf_htonl(service) };
	struct cman_rule_value *rule;
	struct cman_instance *inst;
	__u32 zero = 0;

	inst = bpf_map_lookup_elem(&instance, &zero);
	if (!inst || !inst->nrules)
		return CMAN_ACTION_ACCEPT;
	__builtin_memcpy(key.source, source, 16);
	rule = bpf_map_lookup_elem(&rules, &key);
	return rule ? rule->action : CMAN_ACTION_REJECT;
}

SEC("sk_lookup")
int cman_steer(struct bpf_sk_lookup *ctx)
{
	struct cman_address_key key = { .port = ctx->local_port, .family = ctx->family };
	struct cman_address *address;
	struct cman_service *service;
	struct cman_counters *count;
	__u8 source[16];
	bool wildcard;
	long err;

	if (ctx->protocol != CMAN_IPPROTO_TCP)
		return SK_PASS;
	if (ctx->family == CMAN_AF_INET) {
		cman_map_v4(key.addr, ctx->local_ip4);
		cman_map_v4(source, ctx->remote_ip4);
	} else {
		__u32 local[4] = { ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2],
				   ctx->local_ip6[3] };
		__u32 remote[4] = { ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2],
				    ctx->remote_ip6[3] };

		__builtin_memcpy(key.addr, local, 16);
		__builtin_memcpy(source, remote, 16);
	}

	address = cman_find_address(&key, &wildcard);
	if (!address)
		return SK_PASS;
	service = bpf_map_lookup_elem(&services, &address->service);
	count = bpf_map_lookup_elem(&counters, &address->service);
	if (!service || !count)
		return SK_DROP;

	if (service->state == CMAN_SERVICE_SUSPENDED)
		goto hold;

	switch (rule_action(address->service, source)) {
	case CMAN_ACTION_ACCEPT:
		break;
	case CMAN_ACTION_DROP:
		if (swallow(ctx)) {
			count->dropped++;
			return SK_PASS;
		}
		/* fall through */
	default:
		count->rejected++;
		return SK_DROP;
	}

	/* the two above it are the hold sockets */
	if (address->listener >= CMAN_MAX_LISTENERS)
		return SK_DROP;
	err = assign(ctx, address->listener);
	if (!err) {
		count->steered++;
		return SK_PASS;
	}
	if (err != -2) {
		count->assign_failed++;
		return SK_DROP;
	}
	if (service->when_down == CMAN_DOWN_WAIT)
		goto hold;
	count->no_listener++;
	return SK_DROP;

hold:
	count->held++;
	return swallow(ctx) ? SK_PASS : SK_DROP;
}

char LICENSE[] SEC("license") = "GPL";
