/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the inspect programs (bpf/inspect.bpf.c) and their reader (usr/sys/inspect.c) share: which
 * sockets are asked for, and what is told of each. Sizes are the same on both sides because only
 * fixed types are used, in falling order of alignment.
 */
#ifndef CMAN_INSPECT_H
#define CMAN_INSPECT_H

#ifndef __bpf__
#include <stdint.h>
#include <linux/types.h>
#endif

#define CMAN_INSPECT_MAX 1024 /* sockets of one call */

/* Options as the kernel stores them; usr/sys/inspect.c knows what getsockopt() makes of them. */
enum cman_inspect_option {
	CMAN_INSPECT_REUSEADDR,
	CMAN_INSPECT_REUSEPORT,
	CMAN_INSPECT_V6ONLY,
	CMAN_INSPECT_FREEBIND,
	CMAN_INSPECT_TRANSPARENT,
	CMAN_INSPECT_MARK,
	CMAN_INSPECT_TOS,
	CMAN_INSPECT_TCLASS,
	CMAN_INSPECT_PRIORITY,
	CMAN_INSPECT_TTL,
	CMAN_INSPECT_HOPLIMIT,
	CMAN_INSPECT_MINTTL,
	CMAN_INSPECT_MINHOPCOUNT,
	CMAN_INSPECT_MTU_DISCOVER,
	CMAN_INSPECT_MTU_DISCOVER6,
	CMAN_INSPECT_RECVERR,
	CMAN_INSPECT_RECVERR6,
	CMAN_INSPECT_AUTOFLOWLABEL,
	CMAN_INSPECT_BIND_NO_PORT,
	CMAN_INSPECT_PORT_RANGE,
	CMAN_INSPECT_DONTROUTE,
	CMAN_INSPECT_OOBINLINE,
	CMAN_INSPECT_LINGER,
	CMAN_INSPECT_RCVTIMEO,
	CMAN_INSPECT_SNDTIMEO,
	CMAN_INSPECT_BUSY_POLL,
	CMAN_INSPECT_ZEROCOPY,
	CMAN_INSPECT_TXREHASH,
	CMAN_INSPECT_MAX_PACING_RATE,
	CMAN_INSPECT_NODELAY,
	CMAN_INSPECT_CORK,
	CMAN_INSPECT_KEEPIDLE,
	CMAN_INSPECT_KEEPINTVL,
	CMAN_INSPECT_KEEPCNT,
	CMAN_INSPECT_SYNCNT,
	CMAN_INSPECT_LINGER2,
	CMAN_INSPECT_DEFER_ACCEPT,
	CMAN_INSPECT_USER_TIMEOUT,
	CMAN_INSPECT_NOTSENT_LOWAT,
	CMAN_INSPECT_THIN_LINEAR,
	CMAN_INSPECT_INQ,
	CMAN_INSPECT_TX_DELAY,
	CMAN_INSPECT_RTO_MAX,
	CMAN_INSPECT_RTO_MIN,
	CMAN_INSPECT_DELACK_MAX,
	CMAN_INSPECT_RCVLOWAT,
	CMAN_INSPECT_PEEK_OFF,
	CMAN_INSPECT_RCVBUF,
	CMAN_INSPECT_SNDBUF,
	CMAN_INSPECT_WINDOW_CLAMP,
	CMAN_INSPECT_BUF_LOCK,
	CMAN_INSPECT_KEEPALIVE,
	CMAN_INSPECT_PINGPONG,
	CMAN_INSPECT_OPTIONS,
};

/* Who is asked for: by cookie (iter/tcp), or by addresses (the lookup), which the cookie verifies. */
struct cman_inspect_key {
	__u64 cookie;
	__u8 local[16]; /* v4-mapped for IPv4 */
	__u8 peer[16];
	__u16 local_port; /* host order */
	__u16 peer_port;
	__u8 v4; /* the packets are IPv4, whatever the family of the socket */
	__u8 pad[3];
};

enum cman_inspect_flag {
	CMAN_INSPECT_FOUND = 0x01,
	CMAN_INSPECT_REPAIR = 0x02,
	CMAN_INSPECT_ULP = 0x04,
	CMAN_INSPECT_MPTCP = 0x08,
	CMAN_INSPECT_TIMESTAMPS = 0x10,
	CMAN_INSPECT_SACK = 0x20,
	CMAN_INSPECT_WSCALE = 0x40,
	CMAN_INSPECT_USEC = 0x80,
	CMAN_INSPECT_NONBLOCK = 0x100,
	CMAN_INSPECT_BOUND = 0x200, /* to a device */
	CMAN_INSPECT_FILTER = 0x400,
	CMAN_INSPECT_MD5 = 0x800,
	CMAN_INSPECT_RATE_LIMITED = 0x1000,
};

/* One socket, all at the same moment. Times of the kernel are in its ticks unless a name says so. */
struct cman_inspect_record {
	__u64 have; /* bits of the options below that this kernel stores where we know it */
	__s64 option[CMAN_INSPECT_OPTIONS];
	__u64 now_ns;
	__u64 bytes_received;
	__u64 bytes_acked;
	__u64 pacing_rate;
	__u32 flags;
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 write_seq;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 snd_wl1;
	__u32 snd_wnd;
	__u32 max_window;
	__u32 rcv_wnd;
	__u32 rcv_wup;
	__u32 mss_clamp;
	__u32 mss_cache;
	__u32 tsoffset;
	__u32 ts_recent;
	__u32 snd_cwnd;
	__u32 snd_ssthresh;
	__u32 srtt_us8; /* eight times */
	__u32 mdev_us4; /* four times */
	__u32 min_rtt_us;
	__u32 rto;
	__u32 rcv_rtt_us8;
	__u32 rcv_space;
	__u32 rcv_ssthresh;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	__u32 scope_id;
	__u8 local[16];
	__u8 peer[16];
	__u16 local_port;
	__u16 peer_port;
	__u16 family;
	__u16 urg_data;
	__u8 state;
	__u8 repair_queue;
	__u8 snd_wscale;
	__u8 rcv_wscale;
	__u8 ecn; /* tp->ecn_flags */
	__u8 shutdown;
	__u8 pad[2];
	char congestion[16];
};

/*
 * The raw queues of one socket, below kernel TLS: one value for the question, the answer and the bytes
 * (usr/sys/inspect_raw.h).
 */
#define CMAN_INSPECT_WINDOW (1u << 20) /* bytes of queues that one run copies */
#define CMAN_INSPECT_PIECE  4096u      /* at most so many at a time */

/* A member of a structure of the module tls. @bits 0: not a bit field. */
struct cman_inspect_member {
	__u32 at; /* byte */
	__u16 shift;
	__u16 bits;
};

/* CO-RE needs CAP_SYS_ADMIN for the types of a module: user space looks them up instead. */
struct cman_inspect_layout {
	__u64 vmemmap_base; /* addresses of these two variables of the kernel */
	__u64 page_offset_base;
	struct cman_inspect_member tx_conf; /* struct tls_context */
	struct cman_inspect_member rx_conf;
	struct cman_inspect_member tx;
	struct cman_inspect_member rx;
	struct cman_inspect_member partial;
	struct cman_inspect_member open_rec; /* struct tls_sw_context_tx */
	struct cman_inspect_member tx_list;
	struct cman_inspect_member open_size; /* struct tls_rec: bytes of content */
	struct cman_inspect_member rx_list;   /* struct tls_sw_context_rx */
	struct cman_inspect_member copy_mode;
	struct cman_inspect_member anchor;
};

enum cman_inspect_raw_flag {
	CMAN_INSPECT_RAW_FOUND = 0x01,
	CMAN_INSPECT_RAW_TLS = 0x02,	/* both ways, in software */
	CMAN_INSPECT_RAW_TLS_TX = 0x04, /* this way has keys, wherever they work */
	CMAN_INSPECT_RAW_TLS_RX = 0x08,
	CMAN_INSPECT_RAW_OPEN = 0x10,	 /* a record is open (MSG_MORE) */
	CMAN_INSPECT_RAW_PARTIAL = 0x20, /* of a sealed record TCP has only a part */
	CMAN_INSPECT_RAW_SEALED = 0x40, /* sealed records, or some being sealed, that TCP has not */
	CMAN_INSPECT_RAW_COPIED = 0x80, /* held[] was taken out of the receive queue */
	CMAN_INSPECT_RAW_GAP = 0x100,	/* sequence numbers do not follow each other */
	CMAN_INSPECT_RAW_FAULT = 0x200, /* not readable */
	CMAN_INSPECT_RAW_TOO_MANY = 0x400, /* pieces */
};

struct cman_inspect_raw_value {
	/* user space */
	struct cman_inspect_key key;
	struct cman_inspect_layout layout;
	__u64 from; /* the first byte to copy, of those that lie in a row as below */
	/* the program */
	__u32 flags;
	__u32 state;
	__u32 snd_una;
	__u32 write_seq;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u64 plain;   /* bytes that were decrypted and not read */
	__u64 held;    /* end of: what the record parser has taken out of the receive queue */
	__u64 in_end;  /* end of: the receive queue from copied_seq */
	__u64 out_end; /* end of: sent and not acknowledged, then not sent */
	/* the program's own, where it is */
	__u64 vmemmap;
	__u64 page_offset;
	__u64 position;
	__u64 top;
	__u64 part;
	__u64 list;
	__s32 frag;
	__u32 at;
	__u32 skip;
	__u32 sequence;
	__u32 numbered;
	__u32 tree;
	__u8 bytes[CMAN_INSPECT_WINDOW + CMAN_INSPECT_PIECE];
};

_Static_assert(CMAN_INSPECT_OPTIONS <= 64, "one bit an option");
_Static_assert(sizeof(struct cman_inspect_key) == 48, "shared layout");
_Static_assert(sizeof(struct cman_inspect_raw_value) % 8 == 0, "shared layout");
_Static_assert(sizeof(struct cman_inspect_record) % 8 == 0, "stride of a mapped array");

#endif
