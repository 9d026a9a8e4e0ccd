// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The field tables of images (image_fields.h). Only data; usr/core/image.c acts on it.
 * Documentation/image.rst shows the same tables and a unit test compares them. The names of the
 * socket options are those of cman_repair_option_name(), which a pure file cannot ask; a unit test
 * compares these too.
 */
#include "bpf/cman_maps.h"
#include "usr/core/image_fields.h"
#include "usr/core/tls.h"

#define NAME_MAX_LEN (CMAN_NAME_LEN - 1)
#define U32_MAX	     0xffffffffu
#define U64_MAX	     0xffffffffffffffffu

/* enum of netinet/tcp.h: those that can move */
static const char *const states[] = {
	[1] = "ESTABLISHED", [4] = "FIN_WAIT1", [5] = "FIN_WAIT2",
	[8] = "CLOSE_WAIT",  [9] = "LAST_ACK",	[11] = "CLOSING",
};
/* Linux's AF_INET and AF_INET6 */
static const char *const families[] = { [2] = "IPv4", [10] = "IPv6" };

#define MUST	 CMAN_TLV_MUST
#define MAY	 0
#define REQUIRED true
#define OPTIONAL false

#define SIZE(s, m) sizeof(((struct s *)0)->m)
#define SENTENCES(b, n) \
	.missing = b ": " n " is missing", .often = b ": " n " stands twice", \
	.length = b ": " n " has a wrong length", .range = b ": " n " is out of range"

/* One line a field: number of the tag, must, required, kind, member, low, high */
#define FIELD(b, s, t, must, req, k, n, m, c, w, lo, hi, ...) \
	{ \
		.name = n, .tag = (t) | (must), .kind = CMAN_IMAGE_##k, .required = req, \
		.count = c, .width = w, .offset = offsetof(struct s, m), \
		.size = SIZE(s, m) / ((c) ? (c) : 1), .low = lo, .high = hi, SENTENCES(b, n), \
		__VA_ARGS__ \
	}
#define S(...) FIELD("session", cman_wire_session, __VA_ARGS__)
#define L(...) FIELD("leg", cman_repair_image, __VA_ARGS__)
#define NUMBER(block, t, must, req, m, w, lo, hi) \
	block(t, must, req, UNSIGNED, #m, m, 1, w, lo, hi, .words = NULL)
#define PAIR(t, must, req, k, m) S(t, must, req, k, #m, m, 2, 8, 0, U64_MAX, .words = NULL)
#define BOOL(t, must, m)	 L(t, must, OPTIONAL, BOOL, #m, m, 1, 1, 0, 1, .words = NULL)
#define WORD(t, must, m, w) \
	L(t, must, REQUIRED, WORD, #m, m, 1, 1, 0, sizeof(w) / sizeof(*(w)) - 1, .words = w)
#define ADDRESS(block, t, m) block(t, MUST, REQUIRED, ADDRESS, #m, m, 0, 0, 16, 16, .words = NULL)
#define LABEL(t, must, m) \
	L(t, must, OPTIONAL, LABEL, #m, m, 0, 0, 1, SIZE(cman_repair_image, m) - 1, .words = NULL)
#define LENGTH(s, m) .len_offset = offsetof(struct s, m), .len_size = SIZE(s, m)
#define NAME(t, m) \
	S(t, MUST, REQUIRED, NAME, #m, m, 0, 0, 1, NAME_MAX_LEN, LENGTH(cman_wire_session, m##_len))
#define BETWEEN(t, n, d) \
	S(t, MUST, OPTIONAL, BYTES, n, buffer[d], 0, 0, 0, CMAN_IMAGE_MAX_BETWEEN, \
	  LENGTH(cman_wire_session, buffer_len[d]))
#define QUEUE(t, m) \
	L(t, MUST, OPTIONAL, BYTES, #m, m.data, 0, 0, 0, 0, LENGTH(cman_repair_image, m.len))

const struct cman_image_field cman_image_session_fields[] = {
	S(1, MUST, REQUIRED, ID, "id", id, 1, 8, 0, U64_MAX, .words = NULL),
	NAME(2, service),
	NAME(3, listener),
	NUMBER(S, 4, MUST, OPTIONAL, eof, 1, 0, CMAN_EOF_UP | CMAN_EOF_DOWN),
	NUMBER(S, 5, MUST, OPTIONAL, flags, 1, 0,
	       CMAN_SLOT_CLIENT_RESTORED | CMAN_SLOT_SERVER_RESTORED),
	ADDRESS(S, 6, client_addr),
	NUMBER(S, 7, MUST, REQUIRED, client_port, 2, 1, 0xffff),
	ADDRESS(S, 8, target_addr),
	NUMBER(S, 9, MUST, REQUIRED, target_port, 2, 1, 0xffff),
	NUMBER(S, 10, MAY, OPTIONAL, handovers, 2, 0, 0xffff),
	NUMBER(S, 11, MAY, OPTIONAL, age_s, 4, 0, U32_MAX),
	NUMBER(S, 12, MAY, OPTIONAL, idle_s, 4, 0, U32_MAX),
	PAIR(13, MUST, OPTIONAL, UNSIGNED, position),
	PAIR(14, MUST, OPTIONAL, SIGNED, read_base),
	PAIR(15, MUST, OPTIONAL, SIGNED, write_base),
	BETWEEN(16, "between_up", CMAN_UP),
	BETWEEN(17, "between_down", CMAN_DOWN),
	S(18, MUST, OPTIONAL, SECRET_BYTES, "tls", tls, 0, 0, 0, CMAN_TLS_STATE_MAX,
	  LENGTH(cman_wire_session, tls_len)),
	{ .name = NULL },
};

const struct cman_image_field cman_image_leg_fields[] = {
	WORD(1, MUST, family, families),
	ADDRESS(L, 2, local_addr),
	NUMBER(L, 3, MUST, REQUIRED, local_port, 2, 1, 0xffff),
	ADDRESS(L, 4, peer_addr),
	NUMBER(L, 5, MUST, REQUIRED, peer_port, 2, 1, 0xffff),
	NUMBER(L, 6, MUST, OPTIONAL, scope_id, 4, 0, U32_MAX),
	BOOL(7, MUST, nonblock),
	WORD(8, MUST, state, states),
	NUMBER(L, 9, MUST, OPTIONAL, negotiated, 1, 0, 31),
	NUMBER(L, 10, MUST, OPTIONAL, snd_wscale, 1, 0, 14),
	NUMBER(L, 11, MUST, OPTIONAL, rcv_wscale, 1, 0, 14),
	BOOL(12, MUST, usec_timestamps),
	BOOL(13, MUST, peer_fin),
	BOOL(14, MUST, fin),
	BOOL(15, MUST, fin_sent),
	BOOL(16, MUST, fin_acked),
	NUMBER(L, 17, MUST, REQUIRED, mss, 4, 1, 65535),
	NUMBER(L, 18, MUST, OPTIONAL, timestamp, 4, 0, U32_MAX),
	NUMBER(L, 19, MUST, REQUIRED, recv_seq, 4, 0, U32_MAX),
	NUMBER(L, 20, MUST, REQUIRED, send_seq, 4, 0, U32_MAX),
	NUMBER(L, 21, MUST, REQUIRED, window.snd_wl1, 4, 0, U32_MAX),
	NUMBER(L, 22, MUST, REQUIRED, window.snd_wnd, 4, 0, U32_MAX),
	NUMBER(L, 23, MUST, REQUIRED, window.max_window, 4, 0, U32_MAX),
	NUMBER(L, 24, MUST, REQUIRED, window.rcv_wnd, 4, 0, U32_MAX),
	NUMBER(L, 25, MUST, REQUIRED, window.rcv_wup, 4, 0, U32_MAX),
	QUEUE(26, in),
	QUEUE(27, out),
	NUMBER(L, 28, MUST, OPTIONAL, unsent, 8, 0, U64_MAX),
	NUMBER(L, 29, MAY, OPTIONAL, bytes_received, 8, 0, U64_MAX),
	NUMBER(L, 30, MAY, OPTIONAL, bytes_acked, 8, 0, U64_MAX),
	LABEL(31, MUST, bindtodevice),
	LABEL(32, MAY, congestion),
	L(33, MUST, OPTIONAL, OPTIONS, "option", option, 0, 0, 0, 0, .words = NULL),
	NUMBER(L, 34, MAY, OPTIONAL, speed.snd_cwnd, 4, 0, U32_MAX),
	NUMBER(L, 35, MAY, OPTIONAL, speed.snd_ssthresh, 4, 0, U32_MAX),
	NUMBER(L, 36, MAY, OPTIONAL, speed.rtt_us, 4, 0, U32_MAX),
	NUMBER(L, 37, MAY, OPTIONAL, speed.rttvar_us, 4, 0, U32_MAX),
	NUMBER(L, 38, MAY, OPTIONAL, speed.min_rtt_us, 4, 0, U32_MAX),
	NUMBER(L, 39, MAY, OPTIONAL, speed.rto_us, 4, 0, U32_MAX),
	NUMBER(L, 40, MAY, OPTIONAL, speed.rcv_rtt_us, 4, 0, U32_MAX),
	NUMBER(L, 41, MAY, OPTIONAL, speed.rcv_space, 4, 0, U32_MAX),
	NUMBER(L, 42, MAY, OPTIONAL, speed.rcv_ssthresh, 4, 0, U32_MAX),
	NUMBER(L, 43, MAY, OPTIONAL, speed.pacing_rate, 8, 0, U64_MAX),
	NUMBER(L, 44, MAY, OPTIONAL, speed.delivery_rate, 8, 0, U64_MAX),
	{ .name = NULL },
};

#define OPTION(id, n) [CMAN_REPAIR_##id] = { .name = n }
#define WIDE(id, n)   [CMAN_REPAIR_##id] = { .name = n, .wide = true }

const struct cman_image_option cman_image_options[CMAN_REPAIR_OPTIONS] = {
	OPTION(REUSEADDR, "reuseaddr"),
	OPTION(REUSEPORT, "reuseport"),
	OPTION(V6ONLY, "v6only"),
	OPTION(FREEBIND, "freebind"),
	OPTION(TRANSPARENT, "transparent"),
	OPTION(MARK_OF_SOCKET, "mark"),
	OPTION(TOS, "tos"),
	OPTION(TCLASS, "tclass"),
	OPTION(PRIORITY, "priority"),
	OPTION(TTL, "ttl"),
	OPTION(HOPLIMIT, "hoplimit"),
	OPTION(MINTTL, "minttl"),
	OPTION(MINHOPCOUNT, "minhopcount"),
	OPTION(MTU_DISCOVER, "mtu_discover"),
	OPTION(MTU_DISCOVER6, "mtu_discover6"),
	OPTION(RECVERR, "recverr"),
	OPTION(RECVERR6, "recverr6"),
	OPTION(AUTOFLOWLABEL, "autoflowlabel"),
	OPTION(BIND_NO_PORT, "bind_address_no_port"),
	OPTION(PORT_RANGE, "local_port_range"),
	OPTION(DONTROUTE, "dontroute"),
	OPTION(OOBINLINE, "oobinline"),
	OPTION(LINGER, "linger"),
	WIDE(RCVTIMEO, "rcvtimeo"),
	WIDE(SNDTIMEO, "sndtimeo"),
	OPTION(BUSY_POLL, "busy_poll"),
	OPTION(ZEROCOPY, "zerocopy"),
	OPTION(TXREHASH, "txrehash"),
	WIDE(MAX_PACING_RATE, "max_pacing_rate"),
	OPTION(NODELAY, "nodelay"),
	OPTION(CORK, "cork"),
	OPTION(KEEPIDLE, "keepidle"),
	OPTION(KEEPINTVL, "keepintvl"),
	OPTION(KEEPCNT, "keepcnt"),
	OPTION(SYNCNT, "syncnt"),
	OPTION(LINGER2, "linger2"),
	OPTION(DEFER_ACCEPT, "defer_accept"),
	OPTION(USER_TIMEOUT, "user_timeout"),
	OPTION(NOTSENT_LOWAT, "notsent_lowat"),
	OPTION(THIN_LINEAR, "thin_linear_timeouts"),
	OPTION(INQ, "inq"),
	OPTION(TX_DELAY, "tx_delay"),
	OPTION(RTO_MAX_MS, "rto_max_ms"),
	OPTION(RTO_MIN_US, "rto_min_us"),
	OPTION(DELACK_MAX_US, "delack_max_us"),
	OPTION(RCVLOWAT, "rcvlowat"),
	OPTION(PEEK_OFF, "peek_off"),
	OPTION(RCVBUF, "rcvbuf"),
	OPTION(SNDBUF, "sndbuf"),
	OPTION(WINDOW_CLAMP, "window_clamp"),
	OPTION(BUF_LOCK, "buf_lock"),
	OPTION(KEEPALIVE, "keepalive"),
	OPTION(QUICKACK, "quickack"),
};

const char *cman_image_kind_name(uint8_t kind)
{
	static const char *const names[CMAN_IMAGE_KINDS] = {
		[CMAN_IMAGE_UNSIGNED] = "number", [CMAN_IMAGE_SIGNED] = "signed",
		[CMAN_IMAGE_BOOL] = "bool",	  [CMAN_IMAGE_ID] = "id",
		[CMAN_IMAGE_WORD] = "word",	  [CMAN_IMAGE_ADDRESS] = "address",
		[CMAN_IMAGE_NAME] = "name",	  [CMAN_IMAGE_LABEL] = "label",
		[CMAN_IMAGE_BYTES] = "bytes",	  [CMAN_IMAGE_SECRET_BYTES] = "secret",
		[CMAN_IMAGE_OPTIONS] = "options",
	};

	return kind < CMAN_IMAGE_KINDS ? names[kind] : "?";
}
