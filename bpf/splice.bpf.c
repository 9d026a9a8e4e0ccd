/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * splice (sk_skb stream verdict): relays a session in the kernel. What arrives at one leg is
 * redirected to the send queue of the other. An object of its own (usr/sys/splice.c loads it only
 * when a service wants it): kernels without bpf_cast_to_kern_ctx() (before 6.2) do not take it.
 *
 * Exactly once: TCP accepts a segment that begins with bytes that it has already (RFC 9293, 3.10.7.4:
 * trim). The kernel leaves that trimming to the reader, but a verdict program gets the whole buffer.
 * So the program counts the sequence numbers that it has seen and cuts off what is old.
 *
 * Bounded: the redirected bytes wait in the target's psock, which has no limit. Above
 * CMAN_SPLICE_BACKLOG bytes or CMAN_SPLICE_BUFFERS buffers the leg is marked `over` for good and
 * everything from then on is left to user space, in order.
 *
 * cman_splice_end (iter/tcp) takes a leg out of the map `splice_run`. It runs with the socket locked: a
 * removal by system call may meet a segment that is just looking for its program, and the kernel
 * drops that segment, acknowledged as it is.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "bpf/cman_maps.h"

#define ADJUST_MAX 4095		 /* bpf_skb_adjust_room() takes no more at a time */
#define TRIM_MAX   (1024 * 1024) /* more than any buffer holds */

#define ENOENT 2

#define TCP_FLAGS_OFFSET 13
#define TCP_FIN_BIT	 0x01

#define SK_USER_DATA_FLAGS 7ull /* include/linux/skmsg.h: flags in the low bits of the pointer */

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;

/* include/net/tcp.h, struct tcp_skb_cb: the sequence number comes first, since Linux 2.6 */
struct tcp_cb {
	__u32 seq;
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u64);
} splice_run SEC(".maps"), splice_hold SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct cman_splice_leg);
} splice_legs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cman_slot);
} sessions SEC(".maps");

static __always_inline struct sk_psock *psock_of(const void *sk)
{
	__u64 data = (__u64)BPF_CORE_READ((const struct sock *)sk, sk_user_data);

	return (struct sk_psock *)(data & ~SK_USER_DATA_FLAGS);
}

#ifdef CMAN_CRASH_POINTS
/* Test builds: leave the trimming out, so that the self-test of the daemon has something to find. */
const volatile bool untrimmed = false;
#else
#define untrimmed false
#endif

static __always_inline int trim(struct __sk_buff *skb, __u32 n)
{
	for (int i = 0; i < TRIM_MAX / ADJUST_MAX && n; i++) {
		__u32 piece = n > ADJUST_MAX ? ADJUST_MAX : n;

		if (bpf_skb_adjust_room(skb, -(__s32)piece, 0, 0))
			return -1;
		n -= piece;
	}
	return n ? -1 : 0;
}

/* Are more bytes or buffers waiting for the target than may? */
static __always_inline bool is_full(struct cman_splice_leg *leg)
{
	struct bpf_sock *target = bpf_map_lookup_elem(&splice_hold, &leg->peer);
	struct tcp_sock *tp;
	__u32 waiting, buffers;
	bool full = true;

	if (!target)
		return true;
	tp = bpf_skc_to_tcp_sock(target);
	if (tp) {
		__u32 written = tp->write_seq;

		if (!leg->redirected)
			leg->write_base = written;
		waiting = (__u32)leg->redirected - (written - leg->write_base);
		buffers = BPF_CORE_READ(psock_of(tp), ingress_skb.qlen);
		full = waiting > CMAN_SPLICE_BACKLOG || buffers > CMAN_SPLICE_BUFFERS;
	}
	bpf_sk_release(target);
	return full;
}

SEC("sk_skb/stream_verdict")
int cman_splice(struct __sk_buff *skb)
{
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct cman_splice_leg *leg = bpf_map_lookup_elem(&splice_legs, &cookie);
	struct bpf_sock *sk = skb->sk;
	struct sk_buff *buffer = bpf_cast_to_kern_ctx(skb);
	__u32 length = skb->len, next;
	struct tcp_sock *tp;
	struct tcp_cb cb;

	if (!leg || !length)
		return leg ? SK_DROP : SK_PASS; /* a bare FIN: the socket's state says it all */
	if (!sk)
		goto broken;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || bpf_probe_read_kernel(&cb, sizeof(cb), buffer->cb))
		goto broken;
	if (!leg->started) {
		leg->started = 1;
		leg->next_seq = tp->copied_seq;
	}
	next = cb.seq + length;
	if ((__s32)(leg->next_seq - cb.seq) > 0) {
		__u32 old = leg->next_seq - cb.seq;

		if (!untrimmed && trim(skb, old < length ? old : length))
			goto broken;
		leg->trims++;
		leg->trimmed += old;
		if (old >= length)
			return SK_DROP;
		length = skb->len;
	} else if (leg->next_seq != cb.seq) {
		goto broken;
	}
	leg->next_seq = next;
	if (!leg->over && is_full(leg))
		leg->over = 1;
	if (!leg->over && bpf_sk_redirect_hash(skb, &splice_hold, &leg->peer, 0) == SK_PASS) {
		leg->redirected += length;
		leg->buffers++;
		return SK_PASS;
	}
	leg->over = 1;
	leg->passed += length;
	return SK_PASS;
broken:
	leg->broken = 1;
	return SK_DROP;
}

SEC("iter/tcp")
int cman_splice_end(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct cman_splice_leg *leg;
	struct cman_slot *slot;
	struct tcp_sock *tp;
	__u64 cookie;
	long err;

	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	cookie = bpf_get_socket_cookie(tp);
	leg = bpf_map_lookup_elem(&splice_legs, &cookie);
	if (!leg || leg->ended)
		return 0;
	slot = bpf_map_lookup_elem(&sessions, &leg->slot);
	if (!slot ||
	    !(slot->flags & (leg->is_server ? CMAN_SLOT_END_SERVER : CMAN_SLOT_END_CLIENT)))
		return 0;
	if (leg->over) {
		/* what was left to user space must have been read: it dies with the psock */
		struct sk_psock *psock = psock_of(tp);
		struct list_head *first = BPF_CORE_READ(psock, ingress_msg.next);

		if (first !=
		    (struct list_head *)((char *)psock +
					 bpf_core_field_offset(struct sk_psock, ingress_msg)))
			return 0;
	}
	err = bpf_map_delete_elem(&splice_run, &cookie);
	if (!err || err == -ENOENT) /* it may not have come that far */
		leg->ended = 1;
	return 0;
}

/*
 * On a leg whose passed bytes are being read out: the payload of what arrives is cut off, as if it had been
 * lost on the way, and the acknowledgement in it still counts. With a FIN the whole segment goes: its
 * FIN would otherwise be taken to follow what is there already.
 */
SEC("socket")
int cman_splice_gag(struct __sk_buff *skb)
{
	__u8 flags;

	if (bpf_skb_load_bytes(skb, TCP_FLAGS_OFFSET, &flags, 1) || (flags & TCP_FIN_BIT))
		return 0;
	return 1; /* sk_filter_trim_cap(): but not less than the header */
}

char LICENSE[] SEC("license") = "GPL";
