/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inspect: reads everything of chosen TCP sockets that is not bytes of a queue, into an array that
 * user space has mapped. Two ways to the same reader:
 *
 *	cman_inspect_it (iter/tcp)  walks all sockets of the network namespace, each under its lock,
 *	                            and takes those whose cookie is asked for. Costs what the
 *	                            kernel's hash table costs, however few are asked for.
 *	cman_inspect_lk (tc)        is run by user space (BPF_PROG_TEST_RUN), never attached, and
 *	                            looks each socket up by its addresses. Costs what is asked for.
 *	                            Does not lock: for sockets that nothing happens to, which is what
 *	                            a frozen one is, and for what does not change by itself.
 *
 * The raw bytes of queues (kernel TLS) belong beside read_socket(), into a ring buffer.
 *
 * Kernel structures are described here by the fields that are used; CO-RE finds where the running
 * kernel has them. A field that it does not have is left out of .have, and asked by getsockopt().
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "bpf/inspect.h"

#define CORE __attribute__((preserve_access_index))

/* "___x" is cut off when the kernel's type is looked for */
struct in6_addr___x {
	__u8 bytes[16];
};

struct sock_common___x {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_reuse : 4;
	unsigned char skc_reuseport : 1;
	unsigned char skc_ipv6only : 1;
	int skc_bound_dev_if;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	struct {
		__s64 counter;
	} skc_cookie;
	unsigned long skc_flags;
} CORE;

struct file___x {
	unsigned int f_flags;
} CORE;

struct socket___x {
	struct file___x *file;
} CORE;

struct sock___x {
	__u32 sk_mark;
	__u32 sk_priority;
	__u16 sk_protocol;
	__u8 sk_shutdown;
	__s32 sk_peek_off;
	unsigned int sk_ll_usec;
	__u8 sk_userlocks;
	__u8 sk_txrehash;
	int sk_rcvbuf;
	int sk_sndbuf;
	int sk_rcvlowat;
	long sk_rcvtimeo;
	long sk_sndtimeo;
	unsigned long sk_lingertime;
	unsigned long sk_pacing_rate;
	unsigned long sk_max_pacing_rate;
	struct socket___x *sk_socket;
	void *sk_filter;
} CORE;

struct ipv6_pinfo___x {
	__s16 hop_limit;
	__u8 pmtudisc;
	__u8 tclass;
	__u8 min_hopcount;
} CORE;

struct inet_sock___x {
	struct ipv6_pinfo___x *pinet6;
	unsigned long inet_flags;
	__s16 uc_ttl;
	__u8 tos;
	__u8 min_ttl;
	__u8 pmtudisc;
	__u32 local_port_range;
} CORE;

struct tcp_congestion_ops___x {
	char name[16];
} CORE;

struct request_sock_queue___x {
	__u8 rskq_defer_accept;
} CORE;

struct inet_connection_sock___x {
	struct request_sock_queue___x icsk_accept_queue;
	__u32 icsk_rto;
	__u32 icsk_rto_min;
	__u32 icsk_rto_max;
	__u32 icsk_delack_max;
	__u8 icsk_syn_retries;
	__u32 icsk_user_timeout;
	void *icsk_ulp_ops;
	struct tcp_congestion_ops___x *icsk_ca_ops;
	struct {
		__u8 pingpong;
	} icsk_ack;
} CORE;

struct minmax_sample___x {
	__u32 v;
} CORE;

struct minmax___x {
	struct minmax_sample___x s[3];
} CORE;

struct tcp_options_received___x {
	__u32 ts_recent;
	__u16 tstamp_ok : 1;
	__u16 wscale_ok : 1;
	__u16 sack_ok : 3;
	__u16 snd_wscale : 4;
	__u16 rcv_wscale : 4;
	__u16 mss_clamp;
} CORE;

struct tcp_sock___x {
	__u32 snd_una, snd_nxt, write_seq, rcv_nxt, copied_seq;
	__u32 snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup;
	__u32 mss_cache, tsoffset, snd_cwnd, snd_ssthresh, srtt_us, mdev_us;
	__u32 window_clamp, rcv_ssthresh, notsent_lowat, tcp_tx_delay;
	__u32 rate_delivered, rate_interval_us;
	__u64 bytes_received, bytes_acked;
	__u16 urg_data;
	__u8 ecn_flags, repair_queue, keepalive_probes;
	__u8 nonagle : 4;
	__u8 rate_app_limited : 1;
	__u8 repair : 1;
	__u8 tcp_usec_ts : 1;
	__u8 recvmsg_inq : 1;
	__u8 thin_lto : 1;
	int linger2;
	unsigned int keepalive_time, keepalive_intvl;
	struct minmax___x rtt_min;
	struct {
		__u32 rtt_us;
	} rcv_rtt_est;
	struct {
		int space;
	} rcvq_space;
	struct tcp_options_received___x rx_opt;
	bool is_mptcp;
	void *md5sig_info;
} CORE;

struct bpf_iter_meta___x {
	void *seq;
} CORE;

struct bpf_iter__tcp___x {
	struct bpf_iter_meta___x *meta;
	struct sock_common *sk_common;
} CORE;

/* numbers since Linux 6.7, where inet_flags is; before that these were bit fields elsewhere */
enum {
	FLAG_RECVERR = 9,
	FLAG_FREEBIND = 11,
	FLAG_TRANSPARENT = 15,
	FLAG_BIND_NO_PORT = 18,
	FLAG_AUTOFLOWLABEL_SET = 23,
	FLAG_AUTOFLOWLABEL = 24,
	FLAG_RECVERR6 = 26,
};

enum sock_flags___x {
	SOCK_URGINLINE___x = 2,
	SOCK_KEEPOPEN___x = 3,
	SOCK_LINGER___x = 4,
	SOCK_LOCALROUTE___x = 13,
	SOCK_ZEROCOPY___x = 18,
};

#define FAMILY_IPV4  2
#define FAMILY_IPV6  10
#define O_NONBLOCK_  00004000
#define LOCK_BUFFERS 3 /* SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * CMAN_INSPECT_MAX);
	__type(key, __u64);   /* cookie */
	__type(value, __u32); /* place in the two arrays */
} inspect_want SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CMAN_INSPECT_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cman_inspect_key);
} inspect_keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CMAN_INSPECT_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cman_inspect_record);
} inspect_out SEC(".maps");

#define OPTION(id, value) \
	do { \
		out->option[CMAN_INSPECT_##id] = (value); \
		out->have |= 1ULL << CMAN_INSPECT_##id; \
	} while (0)

#define OPTION_IF(id, ptr, field) \
	do { \
		if (bpf_core_field_exists((ptr)->field)) \
			OPTION(id, (ptr)->field); \
	} while (0)

#define OPTION_BIT(id, ptr, field) \
	do { \
		if (bpf_core_field_exists((ptr)->field)) \
			OPTION(id, BPF_CORE_READ_BITFIELD_PROBED(ptr, field)); \
	} while (0)

#define SOCK_FLAG(id, name) \
	OPTION(id, flags >> bpf_core_enum_value(enum sock_flags___x, name##___x) & 1)

static __always_inline void read_names(struct sock_common___x *skc, struct cman_inspect_record *out)
{
	out->family = skc->skc_family;
	out->local_port = skc->skc_num;
	out->peer_port = __builtin_bswap16(skc->skc_dport);
	if (out->family == FAMILY_IPV4) {
		__u32 word[4] = { 0, 0, __builtin_bswap32(0xffff), skc->skc_rcv_saddr };

		__builtin_memcpy(out->local, word, 16);
		word[3] = skc->skc_daddr;
		__builtin_memcpy(out->peer, word, 16);
	} else {
		bpf_probe_read_kernel(out->local, 16, &skc->skc_v6_rcv_saddr);
		bpf_probe_read_kernel(out->peer, 16, &skc->skc_v6_daddr);
	}
}

static __always_inline void read_sock(struct sock___x *sk, struct sock_common___x *skc,
				      struct cman_inspect_record *out)
{
	unsigned long flags = skc->skc_flags;
	struct socket___x *socket = sk->sk_socket;

	out->shutdown = sk->sk_shutdown;
	out->pacing_rate = sk->sk_pacing_rate;
	if (sk->sk_max_pacing_rate < out->pacing_rate)
		out->pacing_rate = sk->sk_max_pacing_rate;
	if (skc->skc_bound_dev_if) {
		out->flags |= CMAN_INSPECT_BOUND;
		out->scope_id = skc->skc_bound_dev_if;
	}
	if (sk->sk_filter)
		out->flags |= CMAN_INSPECT_FILTER;
	if (socket && socket->file && socket->file->f_flags & O_NONBLOCK_)
		out->flags |= CMAN_INSPECT_NONBLOCK;

	OPTION_BIT(REUSEADDR, skc, skc_reuse);
	OPTION_BIT(REUSEPORT, skc, skc_reuseport);
	OPTION_BIT(V6ONLY, skc, skc_ipv6only);
	OPTION(MARK, sk->sk_mark);
	OPTION(PRIORITY, sk->sk_priority);
	SOCK_FLAG(DONTROUTE, SOCK_LOCALROUTE);
	SOCK_FLAG(OOBINLINE, SOCK_URGINLINE);
	SOCK_FLAG(ZEROCOPY, SOCK_ZEROCOPY);
	SOCK_FLAG(KEEPALIVE, SOCK_KEEPOPEN);
	/* one more than the time, so that 0 is "off" */
	OPTION(LINGER, flags >> bpf_core_enum_value(enum sock_flags___x, SOCK_LINGER___x) & 1 ?
			       (__s64)sk->sk_lingertime + 1 :
			       0);
	OPTION(RCVTIMEO, sk->sk_rcvtimeo);
	OPTION(SNDTIMEO, sk->sk_sndtimeo);
	OPTION_IF(BUSY_POLL, sk, sk_ll_usec);
	OPTION_IF(TXREHASH, sk, sk_txrehash);
	OPTION(MAX_PACING_RATE, (__s64)sk->sk_max_pacing_rate);
	OPTION(RCVLOWAT, sk->sk_rcvlowat);
	OPTION(PEEK_OFF, sk->sk_peek_off);
	OPTION(RCVBUF, sk->sk_rcvbuf);
	OPTION(SNDBUF, sk->sk_sndbuf);
	OPTION(BUF_LOCK, BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & LOCK_BUFFERS);
}

static __always_inline void read_inet(struct inet_sock___x *inet, struct cman_inspect_record *out)
{
	struct ipv6_pinfo___x *np = inet->pinet6;

	OPTION(TOS, inet->tos);
	OPTION(TTL, inet->uc_ttl);
	OPTION(MINTTL, inet->min_ttl);
	OPTION(MTU_DISCOVER, inet->pmtudisc);
	OPTION_IF(PORT_RANGE, inet, local_port_range);
	if (bpf_core_field_exists(inet->inet_flags)) {
		unsigned long flags = inet->inet_flags;

		OPTION(FREEBIND, flags >> FLAG_FREEBIND & 1);
		OPTION(TRANSPARENT, flags >> FLAG_TRANSPARENT & 1);
		OPTION(RECVERR, flags >> FLAG_RECVERR & 1);
		OPTION(RECVERR6, flags >> FLAG_RECVERR6 & 1);
		OPTION(BIND_NO_PORT, flags >> FLAG_BIND_NO_PORT & 1);
		OPTION(AUTOFLOWLABEL, flags >> FLAG_AUTOFLOWLABEL_SET & 3);
	}
	if (!np)
		return;
	OPTION(HOPLIMIT, np->hop_limit);
	OPTION(TCLASS, np->tclass);
	OPTION_IF(MINHOPCOUNT, np, min_hopcount);
	if (bpf_core_field_size(np->pmtudisc) == 1)
		OPTION_BIT(MTU_DISCOVER6, np, pmtudisc);
}

static __always_inline void read_icsk(struct inet_connection_sock___x *icsk,
				      struct cman_inspect_record *out)
{
	struct tcp_congestion_ops___x *ca = icsk->icsk_ca_ops;

	if (icsk->icsk_ulp_ops)
		out->flags |= CMAN_INSPECT_ULP;
	if (ca)
		bpf_probe_read_kernel(out->congestion, sizeof(out->congestion), ca->name);
	out->rto = icsk->icsk_rto;
	OPTION(SYNCNT, icsk->icsk_syn_retries);
	OPTION(DEFER_ACCEPT, icsk->icsk_accept_queue.rskq_defer_accept);
	OPTION(USER_TIMEOUT, icsk->icsk_user_timeout);
	OPTION_IF(RTO_MAX, icsk, icsk_rto_max);
	OPTION_IF(RTO_MIN, icsk, icsk_rto_min);
	OPTION_IF(DELACK_MAX, icsk, icsk_delack_max);
	OPTION(PINGPONG, icsk->icsk_ack.pingpong);
}

static __always_inline void read_tcp(struct tcp_sock___x *tp, struct cman_inspect_record *out)
{
	__u32 nonagle = BPF_CORE_READ_BITFIELD_PROBED(tp, nonagle);

	out->snd_una = tp->snd_una;
	out->snd_nxt = tp->snd_nxt;
	out->write_seq = tp->write_seq;
	out->rcv_nxt = tp->rcv_nxt;
	out->copied_seq = tp->copied_seq;
	out->snd_wl1 = tp->snd_wl1;
	out->snd_wnd = tp->snd_wnd;
	out->max_window = tp->max_window;
	out->rcv_wnd = tp->rcv_wnd;
	out->rcv_wup = tp->rcv_wup;
	out->mss_cache = tp->mss_cache;
	out->mss_clamp = tp->rx_opt.mss_clamp;
	out->tsoffset = tp->tsoffset;
	out->ts_recent = tp->rx_opt.ts_recent;
	out->snd_cwnd = tp->snd_cwnd;
	out->snd_ssthresh = tp->snd_ssthresh;
	out->srtt_us8 = tp->srtt_us;
	out->mdev_us4 = tp->mdev_us;
	out->min_rtt_us = tp->rtt_min.s[0].v;
	out->rcv_rtt_us8 = tp->rcv_rtt_est.rtt_us;
	out->rcv_space = tp->rcvq_space.space;
	out->rcv_ssthresh = tp->rcv_ssthresh;
	out->rate_delivered = tp->rate_delivered;
	out->rate_interval_us = tp->rate_interval_us;
	out->bytes_received = tp->bytes_received;
	out->bytes_acked = tp->bytes_acked;
	out->urg_data = tp->urg_data;
	out->ecn = tp->ecn_flags;
	out->repair_queue = tp->repair_queue;
	out->now_ns = bpf_ktime_get_ns();
	if (BPF_CORE_READ_BITFIELD_PROBED(tp, repair))
		out->flags |= CMAN_INSPECT_REPAIR;
	if (BPF_CORE_READ_BITFIELD_PROBED(tp, rate_app_limited))
		out->flags |= CMAN_INSPECT_RATE_LIMITED;
	if (bpf_core_field_exists(tp->tcp_usec_ts) &&
	    BPF_CORE_READ_BITFIELD_PROBED(tp, tcp_usec_ts))
		out->flags |= CMAN_INSPECT_USEC;
	if (bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp)
		out->flags |= CMAN_INSPECT_MPTCP;
	if (bpf_core_field_exists(tp->md5sig_info) && tp->md5sig_info)
		out->flags |= CMAN_INSPECT_MD5;

	OPTION(NODELAY, nonagle & 1);
	OPTION(CORK, nonagle >> 1 & 1);
	OPTION(KEEPIDLE, tp->keepalive_time);
	OPTION(KEEPINTVL, tp->keepalive_intvl);
	OPTION(KEEPCNT, tp->keepalive_probes);
	OPTION(LINGER2, tp->linger2);
	OPTION(NOTSENT_LOWAT, tp->notsent_lowat);
	OPTION_BIT(THIN_LINEAR, tp, thin_lto);
	OPTION_BIT(INQ, tp, recvmsg_inq);
	OPTION_IF(TX_DELAY, tp, tcp_tx_delay);
	OPTION(WINDOW_CLAMP, tp->window_clamp);
}

static __always_inline void read_negotiated(struct tcp_sock___x *tp,
					    struct cman_inspect_record *out)
{
	/* a pointer of its own: clang would merge the bit fields of a nested structure wrongly */
	struct tcp_options_received___x *opt = &tp->rx_opt;

	asm volatile("" : "+r"(opt));
	if (BPF_CORE_READ_BITFIELD_PROBED(opt, tstamp_ok))
		out->flags |= CMAN_INSPECT_TIMESTAMPS;
	if (BPF_CORE_READ_BITFIELD_PROBED(opt, sack_ok))
		out->flags |= CMAN_INSPECT_SACK;
	if (BPF_CORE_READ_BITFIELD_PROBED(opt, wscale_ok)) {
		out->flags |= CMAN_INSPECT_WSCALE;
		out->snd_wscale = BPF_CORE_READ_BITFIELD_PROBED(opt, snd_wscale);
		out->rcv_wscale = BPF_CORE_READ_BITFIELD_PROBED(opt, rcv_wscale);
	}
}

/* All these structures begin where the socket begins. */
static __always_inline void read_socket(struct tcp_sock *tp, struct cman_inspect_record *out)
{
	out->have = 0;
	out->flags = CMAN_INSPECT_FOUND;
	out->scope_id = 0;
	out->snd_wscale = 0;
	out->rcv_wscale = 0;
	out->state = ((struct sock_common___x *)tp)->skc_state;
	read_names((struct sock_common___x *)tp, out);
	read_sock((struct sock___x *)tp, (struct sock_common___x *)tp, out);
	read_inet((struct inet_sock___x *)tp, out);
	read_icsk((struct inet_connection_sock___x *)tp, out);
	read_tcp((struct tcp_sock___x *)tp, out);
	read_negotiated((struct tcp_sock___x *)tp, out);
}

SEC("iter/tcp")
int cman_inspect_it(struct bpf_iter__tcp___x *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct cman_inspect_record *out;
	struct tcp_sock *tp;
	__u64 cookie;
	__u32 *index;

	if (!skc)
		return 0;
	cookie = ((struct sock_common___x *)skc)->skc_cookie.counter;
	if (!cookie)
		return 0;
	index = bpf_map_lookup_elem(&inspect_want, &cookie);
	if (!index)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp)
		return 0;
	out = bpf_map_lookup_elem(&inspect_out, index);
	if (out)
		read_socket(tp, out);
	return 0;
}

static void look_up(struct __sk_buff *skb, __u32 index)
{
	struct cman_inspect_key *key = bpf_map_lookup_elem(&inspect_keys, &index);
	struct cman_inspect_record *out = bpf_map_lookup_elem(&inspect_out, &index);
	struct bpf_sock_tuple tuple = {};
	struct tcp_sock *tp;
	struct bpf_sock *sk;

	if (!key || !out)
		return;
	/* as in a packet from the peer */
	if (key->v4) {
		__builtin_memcpy(&tuple.ipv4.saddr, key->peer + 12, 4);
		__builtin_memcpy(&tuple.ipv4.daddr, key->local + 12, 4);
		tuple.ipv4.sport = __builtin_bswap16(key->peer_port);
		tuple.ipv4.dport = __builtin_bswap16(key->local_port);
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), -1, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, key->peer, 16);
		__builtin_memcpy(tuple.ipv6.daddr, key->local, 16);
		tuple.ipv6.sport = __builtin_bswap16(key->peer_port);
		tuple.ipv6.dport = __builtin_bswap16(key->local_port);
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), -1, 0);
	}
	if (!sk)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && ((struct sock_common___x *)tp)->skc_cookie.counter == (__s64)key->cookie)
		read_socket(tp, out);
	bpf_sk_release(sk);
}

static long look_up_one(__u32 index, void *arg)
{
	look_up(*(struct __sk_buff **)arg, index);
	return 0;
}

/* The "packet" says how many keys there are: skb->mark. */
SEC("tc")
int cman_inspect_lk(struct __sk_buff *skb)
{
	struct __sk_buff *arg = skb;

	bpf_loop(skb->mark, look_up_one, &arg, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
