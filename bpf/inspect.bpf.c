/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inspect: reads everything of chosen TCP sockets that is not bytes of a queue, into an array that
 * user space has mapped; and, for a socket with kernel TLS, the bytes of its queues, which no system
 * call gives. Two ways to the same readers:
 *
 *	cman_inspect_it (iter/tcp)  walks all sockets of the network namespace, each under its lock,
 *	                            and takes those whose cookie is asked for. Costs what the
 *	                            kernel's hash table costs, however few are asked for.
 *	cman_inspect_lk (tc)        is run by user space (BPF_PROG_TEST_RUN), never attached, and
 *	                            looks each socket up by its addresses. Costs what is asked for.
 *	                            Does not lock: for sockets that nothing happens to, which is what
 *	                            a frozen one is, and for what does not change by itself.
 *
 *	cman_inspect_ri, cman_inspect_rl  the same two for the raw queues of one socket: anchor of
 *	                            the record parser, receive queue, retransmission queue, write queue,
 *	                            in a row; user space asks again for what does not fit
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

struct rb_node___x {
	unsigned long __rb_parent_color;
	struct rb_node___x *rb_right;
	struct rb_node___x *rb_left;
} CORE;

struct rb_root___x {
	struct rb_node___x *rb_node;
} CORE;

/* both begin with the same two pointers */
struct sk_buff_head___x {
	struct sk_buff___x *next;
	__u32 qlen;
} CORE;

struct sk_buff___x {
	struct sk_buff___x *next;
	unsigned int len, data_len;
	unsigned int end; /* an offset on 64 bits */
	unsigned char *head, *data;
	char cb[48];
} CORE;

/* one fragment: struct bio_vec or skb_frag, the same since Linux 5.4 */
struct frag___x {
	__u64 page;
	__u32 len, offset;
};

struct skb_shared_info___x {
	__u8 nr_frags;
	struct sk_buff___x *frag_list;
	struct frag___x frags[17];
} CORE;

struct tcp_skb_cb___x {
	__u32 seq;
} CORE;

struct sk_skb_cb___x {
	struct {
		struct {
			int full_len;
		} strp;
	} strp;
} CORE;

struct page___x {
	unsigned long flags;
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
	struct sk_buff_head___x sk_receive_queue, sk_write_queue;
	struct rb_root___x tcp_rtx_queue;
} CORE;

struct ipv6_pinfo___x {
	__s16 hop_limit : 9; /* so until 6.7 or so; later a plain one, which is read the same way */
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
	void *icsk_ulp_data;
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

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cman_inspect_raw_value);
} inspect_raw SEC(".maps");

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
	OPTION(HOPLIMIT, BPF_CORE_READ_BITFIELD_PROBED(np, hop_limit));
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

/* As in a packet from the peer. NULL: not there, or another one. */
static __always_inline struct bpf_sock *find(struct __sk_buff *skb, struct cman_inspect_key *key)
{
	struct bpf_sock_tuple tuple = {};

	if (key->v4) {
		__builtin_memcpy(&tuple.ipv4.saddr, key->peer + 12, 4);
		__builtin_memcpy(&tuple.ipv4.daddr, key->local + 12, 4);
		tuple.ipv4.sport = __builtin_bswap16(key->peer_port);
		tuple.ipv4.dport = __builtin_bswap16(key->local_port);
		return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), -1, 0);
	}
	__builtin_memcpy(tuple.ipv6.saddr, key->peer, 16);
	__builtin_memcpy(tuple.ipv6.daddr, key->local, 16);
	tuple.ipv6.sport = __builtin_bswap16(key->peer_port);
	tuple.ipv6.dport = __builtin_bswap16(key->local_port);
	return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), -1, 0);
}

static __always_inline bool is_meant(struct tcp_sock *tp, struct cman_inspect_key *key)
{
	return ((struct sock_common___x *)tp)->skc_cookie.counter == (__s64)key->cookie;
}

static void look_up(struct __sk_buff *skb, __u32 index)
{
	struct cman_inspect_key *key = bpf_map_lookup_elem(&inspect_keys, &index);
	struct cman_inspect_record *out = bpf_map_lookup_elem(&inspect_out, &index);
	struct tcp_sock *tp;
	struct bpf_sock *sk;

	if (!key || !out)
		return;
	sk = find(skb, key);
	if (!sk)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && is_meant(tp, key))
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

/*
 * --- Raw queues
 *
 * Where the walk is lies in the map and not on the stack: the verifier of Linux 6.1 would follow
 * each turn of a loop otherwise.
 */
#define RAW_STEPS  (1u << 20)
#define RAW_LEVELS 48 /* of a red-black tree */
#define TLS_SW_	   1

static __always_inline struct cman_inspect_raw_value *raw_value(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&inspect_raw, &zero);
}

static __always_inline __u64 rb_leftmost(__u64 node)
{
	for (int i = 0; i < RAW_LEVELS && node; i++) {
		__u64 left = (__u64)BPF_CORE_READ((struct rb_node___x *)node, rb_left);

		if (!left)
			break;
		node = left;
	}
	return node;
}

static __always_inline __u64 rb_following(__u64 node)
{
	__u64 right = (__u64)BPF_CORE_READ((struct rb_node___x *)node, rb_right);

	if (right)
		return rb_leftmost(right);
	for (int i = 0; i < RAW_LEVELS; i++) {
		__u64 up = BPF_CORE_READ((struct rb_node___x *)node, __rb_parent_color) & ~3ull;

		if (!up || (__u64)BPF_CORE_READ((struct rb_node___x *)up, rb_right) != node)
			return up;
		node = up;
	}
	return 0;
}

/* BPF_CORE_READ() of r->part would relocate our own structure too. */
static __always_inline __u64 skb_following(__u64 skb)
{
	return (__u64)BPF_CORE_READ((struct sk_buff___x *)skb, next);
}

/* The walk is at a new buffer of a queue: where do its bytes stand, and which were there before? */
static __always_inline void raw_enter(struct cman_inspect_raw_value *r, __u64 top)
{
	struct sk_buff___x *skb = (struct sk_buff___x *)top;
	__u32 len, seq;

	r->top = top;
	r->part = top;
	r->frag = -1;
	r->at = 0;
	r->skip = 0;
	if (!top || !r->numbered)
		return;
	len = BPF_CORE_READ(skb, len);
	bpf_probe_read_kernel(&seq, sizeof(seq),
			      (void *)(top + bpf_core_field_offset(struct sk_buff___x, cb) +
				       bpf_core_field_offset(struct tcp_skb_cb___x, seq)));
	if ((__s32)(r->sequence - seq) < 0)
		r->flags |= CMAN_INSPECT_RAW_GAP;
	else
		r->skip = r->sequence - seq;
	if (r->skip > len)
		r->skip = len;
	if ((__s32)(seq + len - r->sequence) > 0)
		r->sequence = seq + len;
}

static __always_inline void raw_next(struct cman_inspect_raw_value *r)
{
	__u64 next = 0;

	if (r->tree) {
		next = rb_following(r->top);
	} else if (r->list) {
		next = skb_following(r->top);
		if (next == r->list)
			next = 0;
	}
	raw_enter(r, next);
}

/* Behind the last fragment: buffers that are chained to this one, then the next one of the queue. */
static __always_inline void raw_next_part(struct cman_inspect_raw_value *r, __u64 chained)
{
	if (r->part != r->top)
		chained = skb_following(r->part);
	if (!chained) {
		raw_next(r);
		return;
	}
	r->part = chained;
	r->frag = -1;
	r->at = 0;
}

static __always_inline void raw_copy(struct cman_inspect_raw_value *r, __u64 from, __u64 len)
{
	__u64 offset = r->position - r->from;

	if (len > CMAN_INSPECT_PIECE || offset >= CMAN_INSPECT_WINDOW)
		return;
	/* the compiler must not check copies of them */
	asm volatile("" : "+r"(offset), "+r"(len));
	if (len > CMAN_INSPECT_PIECE || offset >= CMAN_INSPECT_WINDOW)
		return;
	if (bpf_probe_read_kernel(&r->bytes[offset], len, (void *)from))
		r->flags |= CMAN_INSPECT_RAW_FAULT;
}

/* How many of the @len bytes from the position on are dealt with at a time, and are they wanted? */
static __always_inline __u64 raw_share(const struct cman_inspect_raw_value *r, __u64 len,
				       bool *ret_wanted)
{
	__u64 position = r->position, from = r->from, end = from + CMAN_INSPECT_WINDOW;

	*ret_wanted = position >= from && position < end;
	if (position < from)
		return len < from - position ? len : from - position;
	if (!*ret_wanted)
		return len;
	if (len > CMAN_INSPECT_PIECE)
		len = CMAN_INSPECT_PIECE;
	return len < end - position ? len : end - position;
}

static long raw_step(__u32 index, void *arg)
{
	struct cman_inspect_raw_value *r = raw_value();
	struct skb_shared_info___x *shared;
	struct sk_buff___x *skb;
	__u64 address, len, n;
	bool wanted;

	if (!r || !r->top)
		return 1;
	skb = (struct sk_buff___x *)r->part;
	shared = (struct skb_shared_info___x *)(BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, end));
	if (r->frag < 0) {
		len = BPF_CORE_READ(skb, len) - BPF_CORE_READ(skb, data_len);
		address = (__u64)BPF_CORE_READ(skb, data);
	} else {
		struct frag___x frag = {};

		if (r->frag >= BPF_CORE_READ(shared, nr_frags)) {
			raw_next_part(r, (__u64)BPF_CORE_READ(shared, frag_list));
			return 0;
		}
		bpf_probe_read_kernel(
			&frag, sizeof(frag),
			(void *)((__u64)shared +
				 bpf_core_field_offset(struct skb_shared_info___x, frags) +
				 (__u64)r->frag * sizeof(frag)));
		if (frag.page & 1) /* memory of a device */
			r->flags |= CMAN_INSPECT_RAW_FAULT;
		len = frag.len;
		address = r->page_offset +
			  (frag.page - r->vmemmap) / bpf_core_type_size(struct page___x) * 4096 +
			  frag.offset;
	}
	if (r->at >= len) {
		r->frag++;
		r->at = 0;
		return 0;
	}
	len -= r->at;
	address += r->at;
	if (r->skip) {
		n = r->skip < len ? r->skip : len;
		r->skip -= n;
		r->at += n;
		return 0;
	}
	n = raw_share(r, len, &wanted);
	if (wanted)
		raw_copy(r, address, n);
	r->at += n;
	r->position += n;
	return 0;
}

static __always_inline void raw_walk(struct cman_inspect_raw_value *r)
{
	if (r->top)
		bpf_loop(RAW_STEPS, raw_step, NULL, 0);
	if (r->top)
		r->flags |= CMAN_INSPECT_RAW_TOO_MANY;
}

static __always_inline void raw_walk_list(struct cman_inspect_raw_value *r,
					  struct sk_buff_head___x *list)
{
	__u64 first = (__u64)BPF_CORE_READ(list, next);

	r->tree = 0;
	r->list = (__u64)list;
	raw_enter(r, first == r->list ? 0 : first);
	raw_walk(r);
}

static long plain_step(__u32 index, void *arg)
{
	struct cman_inspect_raw_value *r = raw_value();
	int len = 0;

	if (!r || !r->top)
		return 1;
	bpf_probe_read_kernel(
		&len, sizeof(len),
		(void *)(r->top + bpf_core_field_offset(struct sk_buff___x, cb) +
			 bpf_core_field_offset(struct sk_skb_cb___x, strp.strp.full_len)));
	if (len > 0)
		r->plain += len;
	r->top = skb_following(r->top);
	if (r->top == r->list)
		r->top = 0;
	return 0;
}

static __always_inline __u64 member(__u64 base, const struct cman_inspect_member *m)
{
	__u64 value = 0;

	if (m->bits) {
		bpf_probe_read_kernel(&value, 1, (void *)(base + m->at));
		return value >> (m->shift & 7) & ((1u << (m->bits & 7)) - 1);
	}
	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + m->at));
	return value;
}

static __always_inline void raw_tx(struct cman_inspect_raw_value *r, __u64 tx)
{
	__u64 open_rec = member(tx, &r->layout.open_rec);

	/* one without content is left by a send() that found the socket full */
	if (open_rec && (__u32)member(open_rec, &r->layout.open_size))
		r->flags |= CMAN_INSPECT_RAW_OPEN;
	/* an empty list points to itself */
	if (member(tx, &r->layout.tx_list) != tx + r->layout.tx_list.at)
		r->flags |= CMAN_INSPECT_RAW_SEALED;
}

/* What was decrypted, and the anchor, if bytes were copied to it. */
static __always_inline void raw_rx(struct cman_inspect_raw_value *r, __u64 rx)
{
	r->list = rx + r->layout.rx_list.at;
	r->top = member(rx, &r->layout.rx_list);
	if (r->top == r->list)
		r->top = 0;
	if (r->top)
		bpf_loop(RAW_STEPS, plain_step, NULL, 0);
	if (r->top)
		r->flags |= CMAN_INSPECT_RAW_TOO_MANY;
	if (!member(rx, &r->layout.copy_mode))
		return;
	r->flags |= CMAN_INSPECT_RAW_COPIED;
	r->numbered = 0;
	r->tree = 0;
	r->list = 0;
	raw_enter(r, member(rx, &r->layout.anchor));
	raw_walk(r);
}

static __always_inline void raw_tls(struct cman_inspect_raw_value *r, __u64 tls)
{
	__u64 tx_conf = member(tls, &r->layout.tx_conf), rx_conf = member(tls, &r->layout.rx_conf);

	if (tx_conf)
		r->flags |= CMAN_INSPECT_RAW_TLS_TX;
	if (rx_conf)
		r->flags |= CMAN_INSPECT_RAW_TLS_RX;
	if (tx_conf != TLS_SW_ || rx_conf != TLS_SW_)
		return;
	r->flags |= CMAN_INSPECT_RAW_TLS;
	if (member(tls, &r->layout.partial))
		r->flags |= CMAN_INSPECT_RAW_PARTIAL;
	raw_tx(r, member(tls, &r->layout.tx));
	raw_rx(r, member(tls, &r->layout.rx));
}

static __always_inline void read_raw(struct cman_inspect_raw_value *r, struct tcp_sock *sock)
{
	struct tcp_sock___x *tp = (struct tcp_sock___x *)sock;
	struct sock___x *sk = (struct sock___x *)sock;
	__u64 tls = (__u64)((struct inet_connection_sock___x *)sock)->icsk_ulp_data;

	r->flags = CMAN_INSPECT_RAW_FOUND;
	r->state = ((struct sock_common___x *)sock)->skc_state;
	r->snd_una = tp->snd_una;
	r->write_seq = tp->write_seq;
	r->rcv_nxt = tp->rcv_nxt;
	r->copied_seq = tp->copied_seq;
	r->plain = 0;
	r->position = 0;
	bpf_probe_read_kernel(&r->vmemmap, 8, (void *)r->layout.vmemmap_base);
	bpf_probe_read_kernel(&r->page_offset, 8, (void *)r->layout.page_offset_base);
	if (tls)
		raw_tls(r, tls);
	r->held = r->position;
	r->numbered = 1;
	r->sequence = r->copied_seq;
	raw_walk_list(r, &sk->sk_receive_queue);
	r->in_end = r->position;
	r->sequence = r->snd_una;
	r->tree = 1;
	raw_enter(r, rb_leftmost((__u64)BPF_CORE_READ(sk, tcp_rtx_queue.rb_node)));
	raw_walk(r);
	raw_walk_list(r, &sk->sk_write_queue);
	r->out_end = r->position;
}

SEC("iter/tcp")
int cman_inspect_ri(struct bpf_iter__tcp___x *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct cman_inspect_raw_value *r = raw_value();
	struct tcp_sock *tp;

	if (!skc || !r ||
	    ((struct sock_common___x *)skc)->skc_cookie.counter != (__s64)r->key.cookie)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (tp)
		read_raw(r, tp);
	return 0;
}

SEC("tc")
int cman_inspect_rl(struct __sk_buff *skb)
{
	struct cman_inspect_raw_value *r = raw_value();
	struct tcp_sock *tp;
	struct bpf_sock *sk;

	if (!r)
		return 0;
	sk = find(skb, &r->key);
	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && is_meant(tp, &r->key))
		read_raw(r, tp);
	bpf_sk_release(sk);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
