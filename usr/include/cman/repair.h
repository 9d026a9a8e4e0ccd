/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Moving one established TCP connection from one socket to another, which may belong to another
 * process, another network namespace or another host, without its peer noticing: TCP_REPAIR
 * (Linux 3.5, CAP_NET_ADMIN). This header and libcman.a are all that a program needs; they know
 * nothing of cman. Link with -lcman.
 *
 * The calls, in this order
 * ------------------------
 *
 *	the old side                              the new side
 *
 *	cman_repair_check()      may it move?
 *	cman_repair_describe()   its addresses and options; the connection goes on
 *	   - the guard closes: no packet of the connection comes in any more -
 *	cman_repair_freeze()     enter repair
 *	cman_repair_export()     sequence numbers, window, queues
 *	cman_repair_close()      the old socket is gone, in silence
 *	          ------ the image: struct cman_repair_image ------>
 *	                                          cman_repair_import()   complete, still in repair
 *	   - the point of no return: from here on the connection is the new side's -
 *	                                          cman_repair_release()  leave repair, unsent bytes
 *	   - the guard opens where the new socket is -
 *
 * The way back, before that point:
 *
 *	cman_repair_thaw()	after freeze or export: nothing has happened to the connection
 *	cman_repair_abort()	after import: the new socket goes, in silence
 *	cman_repair_import()	on the old side: an image can be imported as often as one likes, as
 *				long as none of the sockets made from it was released
 *
 * check() and describe() may come at any time before, to keep the guard closed for less long;
 * freeze() calls describe() when nobody has. The options must not be changed in between.
 *
 * Nobody else may use the socket from freeze() on. A socket that several descriptors refer to
 * (dup, fork) is closed for all of them.
 *
 * What the caller has to do: the guard
 * ------------------------------------
 * Neither TCP_REPAIR nor a closed descriptor keeps the network out. From freeze() until release()
 * has returned no packet of the connection (peer's address and port to ours) may reach a host or
 * namespace that has the connection's local address:
 *
 *	freeze .. close      the old socket would still take in data and acknowledge it: export()
 *	                     notices (-EBUSY), but what comes after export() is lost with the socket
 *	close .. import      no socket: the kernel answers with a RST, and the connection is dead
 *	import .. release    the new socket would take in data and answer
 *
 * A program at tc ingress that looks the four-tuple up does it. Packets should be kept and sent
 * on afterwards, not dropped: the new socket has no round trip estimate, so the kernel takes up
 * to a second to repeat what gets lost. A socket that is bound to a device takes them from
 * that device only: packets that come back from another one (a tun device) are answered with a
 * RST. A packet may already be past the guard on another CPU when the guard closes: let every CPU
 * pass through the scheduler once (sched_setaffinity) before freeze(). Segments that release()
 * injects (below) come in over the loopback device and must pass.
 *
 * Between import() and release() the new socket sends nothing, until a retransmission timer may
 * run out: one second after import(), or 200 ms when the kernel remembers the peer
 * (ip-tcp_metrics(8)). When it is held longer and has bytes that were not acknowledged, the
 * kernel repeats them, in repair too. That is true TCP and does no harm to a connection that is
 * alive; who needs longer silence guards the way out as well. In the same way the timers of the
 * old socket run until close().
 *
 * Sequence numbers
 * ----------------
 * The queues of an image, as they lie in sequence space. All arithmetic is modulo 2^32.
 *
 *	in.data  (bytes that have arrived and were not read)
 *
 *	      recv_seq                             rcv_nxt
 *	         |<------------- in.len ------------->|<1>|
 *	   read  |              unread                |FIN|  not yet arrived
 *	                                              `---' if peer_fin; not in in.data
 *
 *	out.data  (bytes that were written and are not acknowledged)
 *
 *	      send_seq                snd_nxt                            write_seq
 *	         |<- out.len - unsent ->|<-------- unsent -------->|<1>|
 *	 acked   |  sent, not acked     |   not sent               |FIN|
 *	                                                           `---' if fin; not in out.data
 *
 * fin_sent tells whether our FIN has left; with fin_acked (FIN_WAIT2) out.len is 0 and the peer
 * has acknowledged the FIN at send_seq. The kernel counts the FINs in TCP_QUEUE_SEQ and SIOCOUTQ,
 * not in SIOCINQ, and never hands them out as bytes; the image has them taken out everywhere.
 *
 * What the kernel does on import: it puts bytes sent into the send queue during repair into the
 * queue of what was sent already. So import() fills in only those that were, and release() writes
 * the others to the live socket: otherwise they would wait for a retransmission timeout.
 *
 * States
 * ------
 *	ESTABLISHED   moves
 *	CLOSE_WAIT    moves; release() injects the peer's FIN
 *	FIN_WAIT1     moves; the FIN is put in the queue as sent if it was, else it is sent
 *	FIN_WAIT2     moves; release() injects the acknowledgement of our FIN
 *	CLOSING       moves; FIN as in FIN_WAIT1, then the peer's FIN is injected
 *	LAST_ACK      moves; the peer's FIN is injected, then FIN as in FIN_WAIT1
 *	others        -EOPNOTSUPP: SYN_SENT, SYN_RECV, LISTEN; -ENOTCONN: CLOSE, TIME_WAIT
 *
 * A FIN that was received can be told to a socket only by a segment. release() makes one, exactly
 * as the peer has sent it, and gives it to the kernel through a raw socket (CAP_NET_RAW) or
 * through the caller's function. It does not leave the host. Its mark is CMAN_REPAIR_MARK, for
 * whoever filters.
 *
 * Units, ownership, errors
 * ------------------------
 * Lengths are bytes; ports are in host order, addresses in network order and v4-mapped for IPv4;
 * times are microseconds unless a name says otherwise.
 *
 * An image is plain memory that starts as zeros ({ 0 }). Its queues are malloc'ed by export() and
 * grow as needed; one image can be used for one socket after another (cman_repair_reset()) and
 * keeps their memory. cman_repair_free() frees it. Bytes of a connection are no secret to this
 * library; who thinks otherwise wipes in.data and out.data first. An image may be copied to
 * another machine by whatever way keeps its fields: none is a descriptor or depends on a clock of
 * this machine.
 *
 * Every function returns 0 or -errno, and on an error sets *why (if why is not NULL) to a
 * constant string: what failed, in words. On an error of check(), describe(), freeze() or
 * export() the connection is as it was before that call (after export(): still frozen). After an
 * error of import() no descriptor is left. After an error of release() call it again: it goes on
 * where it was. No function logs, blocks for long, starts threads or touches signals. Different
 * sockets may be moved in different threads.
 *
 *	-EOPNOTSUPP  cannot move, for a reason that stays; keep it where it is
 *	-EBUSY       its queues did not stand still: is the guard closed? Also urgent data under way
 *	-EALREADY    it is in repair already: somebody else moves it
 *	-EPERM       CAP_NET_ADMIN or CAP_NET_RAW is missing
 *	-ENOTCONN    it is not connected (any more)
 *	-EADDRNOTAVAIL  import: the address is not here, or the same four-tuple is in use
 *	-ETIMEDOUT   release: the injected segment did not arrive
 *	-EAGAIN      release: the kernel does not take all unsent bytes now
 *	-ENOMEM, -EMFILE, and what else the system calls return
 *
 * What is lost
 * ------------
 * The congestion window, slow start threshold, round trip estimate and the model of the
 * congestion control start anew (the image has what they were: struct cman_repair_speed). Segments that arrived out of order and the peer's SACKs are forgotten, and
 * sent again. ECN is off afterwards. The position of urgent data that we have sent, ts_recent
 * until the peer's next segment, error queues, timestamps of packets, socket filters and BPF
 * storage are not carried; a socket with a filter is refused. See Documentation/repair.rst.
 *
 * Sources: tcp(7), ip(7), ipv6(7), socket(7); in the kernel net/ipv4/tcp.c (TCP_REPAIR*,
 * tcp_peek_sndq, tcp_disconnect), tcp_output.c (tcp_connect, tcp_write_xmit,
 * tcp_send_window_probe), tcp_input.c (tcp_send_rcvq, tcp_fin, tcp_rcv_state_process),
 * tcp_ipv4.c.
 */
#ifndef CMAN_REPAIR_H
#define CMAN_REPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CMAN_REPAIR_MARK 0x636d616eu /* SO_MARK of injected segments ("cman") */

/*
 * The socket options that are carried. The values are what getsockopt() gives, except: linger is -1
 * for off, else seconds; time-outs are microseconds, 0 for none; reuseaddr is as it was before
 * repair. The numbers may be stored: new ones are added at the end.
 */
enum cman_repair_option {
	CMAN_REPAIR_REUSEADDR,
	CMAN_REPAIR_REUSEPORT,
	CMAN_REPAIR_V6ONLY,
	CMAN_REPAIR_FREEBIND,
	CMAN_REPAIR_TRANSPARENT,
	CMAN_REPAIR_MARK_OF_SOCKET,
	CMAN_REPAIR_TOS,
	CMAN_REPAIR_TCLASS,
	CMAN_REPAIR_PRIORITY,
	CMAN_REPAIR_TTL,
	CMAN_REPAIR_HOPLIMIT,
	CMAN_REPAIR_MINTTL,
	CMAN_REPAIR_MINHOPCOUNT,
	CMAN_REPAIR_MTU_DISCOVER,
	CMAN_REPAIR_MTU_DISCOVER6,
	CMAN_REPAIR_RECVERR,
	CMAN_REPAIR_RECVERR6,
	CMAN_REPAIR_AUTOFLOWLABEL,
	CMAN_REPAIR_BIND_NO_PORT,
	CMAN_REPAIR_PORT_RANGE,
	CMAN_REPAIR_DONTROUTE,
	CMAN_REPAIR_OOBINLINE,
	CMAN_REPAIR_LINGER,
	CMAN_REPAIR_RCVTIMEO,
	CMAN_REPAIR_SNDTIMEO,
	CMAN_REPAIR_BUSY_POLL,
	CMAN_REPAIR_ZEROCOPY,
	CMAN_REPAIR_TXREHASH,
	CMAN_REPAIR_MAX_PACING_RATE,
	CMAN_REPAIR_NODELAY,
	CMAN_REPAIR_CORK,
	CMAN_REPAIR_KEEPIDLE,
	CMAN_REPAIR_KEEPINTVL,
	CMAN_REPAIR_KEEPCNT,
	CMAN_REPAIR_SYNCNT,
	CMAN_REPAIR_LINGER2,
	CMAN_REPAIR_DEFER_ACCEPT,
	CMAN_REPAIR_USER_TIMEOUT,
	CMAN_REPAIR_NOTSENT_LOWAT,
	CMAN_REPAIR_THIN_LINEAR,
	CMAN_REPAIR_INQ,
	CMAN_REPAIR_TX_DELAY,
	CMAN_REPAIR_RTO_MAX_MS,
	CMAN_REPAIR_RTO_MIN_US,
	CMAN_REPAIR_DELACK_MAX_US,
	CMAN_REPAIR_RCVLOWAT,
	CMAN_REPAIR_PEEK_OFF,
	CMAN_REPAIR_RCVBUF,
	CMAN_REPAIR_SNDBUF,
	CMAN_REPAIR_WINDOW_CLAMP,
	CMAN_REPAIR_BUF_LOCK,
	CMAN_REPAIR_KEEPALIVE,
	CMAN_REPAIR_QUICKACK,
	CMAN_REPAIR_OPTIONS,
};

/* One bit an option; cman_repair_image.want. */
#define CMAN_REPAIR_BIT(option) (UINT64_C(1) << (option))

/* Bytes of one direction; @data is malloc'ed and has room for @room bytes. */
struct cman_repair_queue {
	uint8_t *data;
	size_t len;
	size_t room;
};

/* As struct tcp_repair_window of linux/tcp.h. */
struct cman_repair_window {
	uint32_t snd_wl1;
	uint32_t snd_wnd;
	uint32_t max_window;
	uint32_t rcv_wnd;
	uint32_t rcv_wup;
};

/* What the connection had learned, from TCP_INFO. import() does not use it. */
struct cman_repair_speed {
	uint32_t snd_cwnd; /* segments */
	uint32_t snd_ssthresh;
	uint32_t rtt_us;
	uint32_t rttvar_us;
	uint32_t min_rtt_us;
	uint32_t rto_us;
	uint32_t rcv_rtt_us;
	uint32_t rcv_space; /* bytes */
	uint32_t rcv_ssthresh;
	uint64_t pacing_rate; /* bytes a second */
	uint64_t delivery_rate;
};

struct cman_repair_image {
	/* set by the caller before describe(): the options to carry; 0 is all */
	uint64_t want;

	/* describe() */
	bool described;
	bool nonblock;	     /* O_NONBLOCK of the descriptor */
	uint8_t family;	     /* AF_INET or AF_INET6; addresses of the latter may be v4-mapped too */
	uint16_t local_port; /* host order */
	uint16_t peer_port;
	uint8_t local_addr[16];
	uint8_t peer_addr[16];
	uint32_t scope_id; /* link-local addresses; interface index of the old namespace */
	uint64_t have;	   /* bits of the options that the kernel knew, of those in want */
	int64_t option[CMAN_REPAIR_OPTIONS];
	char bindtodevice[16]; /* empty: none */
	char congestion[16];

	/* freeze() */
	bool frozen;
	bool exported;	    /* hold() has done it already */
	uint8_t state;	    /* TCP_ESTABLISHED (1), ... of netinet/tcp.h */
	uint8_t negotiated; /* TCPI_OPT_*: 1 timestamps, 2 SACK, 4 window scaling, 8 and 16 ECN */
	uint8_t snd_wscale;
	uint8_t rcv_wscale;
	bool usec_timestamps; /* TCP_TIMESTAMP counts microseconds, not milliseconds */

	/* export() */
	bool peer_fin;	/* the peer's FIN has been received */
	bool fin;	/* we have shut down writing */
	bool fin_sent;	/* our FIN has left */
	bool fin_acked; /* and was acknowledged */
	uint32_t mss;	/* the clamp from the handshake, bytes */
	uint32_t timestamp;
	uint32_t recv_seq;
	uint32_t send_seq;
	struct cman_repair_window window;
	struct cman_repair_queue in;
	struct cman_repair_queue out;
	size_t unsent;		 /* the last bytes of out; release() counts down */
	uint64_t bytes_received; /* counters of the old socket, with its FINs and SYN as the kernel */
	uint64_t bytes_acked;	 /* counts them; a new socket's begin at in.len and 0 */
	struct cman_repair_speed speed;

	/* import() and release(): how far release() has come; whether buffers were made larger */
	uint8_t progress;
	bool forced;
};

/*
 * --- For many connections at a time
 *
 * The calls above ask the kernel again for what somebody who moves many connections knows already.
 * These take it from the caller, and do the same otherwise:
 *
 *	describe()           describe_rest(): what the image has is not asked for
 *	freeze(), export()   hold(), then export_known() with the state of the frozen socket, which
 *	                     the caller has read in another way (a BPF program)
 *	import()             import_with(): what a new socket of this place has anyway
 */

/* What the caller has filled in of an image that was reset; its options are the bits of .have. */
enum cman_repair_known {
	CMAN_REPAIR_KNOWS_NAMES = 0x01, /* family, addresses, ports, scope_id */
	CMAN_REPAIR_KNOWS_NONBLOCK = 0x02,
	CMAN_REPAIR_KNOWS_DEVICE = 0x04,
	CMAN_REPAIR_KNOWS_CONGESTION = 0x08,
};

/*
 * A socket after hold(), read at one moment; the names are those of struct tcp_sock. As the kernel
 * has them: sequence numbers and counters with FINs.
 */
struct cman_repair_state {
	uint8_t state;
	bool repair;	    /* TCP_REPAIR is on */
	bool plain;	    /* no upper layer protocol, not MPTCP, no keys, no filter */
	bool urgent;	    /* urgent data is, or was, under way: the state does not tell all */
	uint8_t negotiated; /* as in the image */
	uint8_t snd_wscale;
	uint8_t rcv_wscale;
	bool usec_timestamps;
	uint32_t snd_una;
	uint32_t snd_nxt;
	uint32_t write_seq;
	uint32_t rcv_nxt;
	uint32_t copied_seq;
	uint32_t mss;	    /* the clamp from the handshake */
	uint32_t timestamp; /* what TCP_TIMESTAMP gives */
	struct cman_repair_window window;
	struct cman_repair_speed speed;
	uint64_t bytes_received;
	uint64_t bytes_acked;
	uint64_t have; /* options that change while a connection lives */
	int64_t option[CMAN_REPAIR_OPTIONS];
};

/* The options of a new socket, in the network namespace of the caller, at this moment. */
struct cman_repair_defaults {
	uint8_t family; /* 0: not read yet */
	uint64_t have;
	int64_t option[CMAN_REPAIR_OPTIONS];
	char congestion[16];
};

/*
 * --- Sockets with kernel TLS
 *
 * A peek at their queues would decrypt. So the caller, who knows how to read below (cman does it with a
 * BPF program), reads the queues himself, and puts back what makes the new socket one with kernel TLS:
 *
 *	check()        check_raw()
 *	freeze()       freeze_raw()
 *	               - image->in and image->out are filled in, see export_raw(); the keys are read -
 *	export()       export_raw()
 *	close()        close()
 *	import(), release()
 *	               - the keys are given to the new socket, before its guard opens -
 *
 * The new socket has none of it until then: release() sends unsent bytes as they are in the image.
 * Only in ESTABLISHED: the kernel takes keys in no other state.
 */

/*
 * How release() gives a segment to this host's kernel as if it had come from the network: a
 * complete IPv4 or IPv6 packet. 0 or -errno. For programs without CAP_NET_RAW, which may have a
 * tun device instead.
 */
struct cman_repair_inject {
	int (*packet)(void *arg, const void *packet, size_t len);
	void *arg;
};

/* May @fd move? Changes nothing. About 10 us: asks for everything that a refusal can depend on. */
int cman_repair_check(int fd, const char **why);

/* Addresses and options of @fd into @image; the connection goes on. */
int cman_repair_describe(int fd, struct cman_repair_image *image, const char **why);

/* Into repair, if the state allows it. From here the guard is closed and nobody uses @fd. */
int cman_repair_freeze(int fd, struct cman_repair_image *image, const char **why);

/* Sequence numbers, window and queues of a frozen socket. */
int cman_repair_export(int fd, struct cman_repair_image *image, const char **why);

/* As describe(), but what @known and image->have say is there already and stays. No reset. */
int cman_repair_describe_rest(int fd, struct cman_repair_image *image, unsigned int known,
			      const char **why);

/*
 * As freeze(), with two system calls and without any check, for a socket that was described:
 * export_known() makes the checks. A socket with bytes that were not sent is exported at once, because
 * the kernel would send them, or take them for sent. thaw() undoes it, also after an error, unless
 * image->frozen says that it is not in repair.
 */
int cman_repair_hold(int fd, struct cman_repair_image *image, const char **why);

/*
 * As export(), of a socket after hold(), whose state was read after that. Only the bytes of its
 * queues are asked of the kernel. When @state is NULL or does not tell enough, all is asked. The
 * socket may go: -EBUSY and the like as from freeze() and export(); it is still held then.
 */
int cman_repair_export_known(int fd, struct cman_repair_image *image,
			     const struct cman_repair_state *state, const char **why);

/* As check() and freeze(), for a socket with kernel TLS and for no other. */
int cman_repair_check_raw(int fd, const char **why);
int cman_repair_freeze_raw(int fd, struct cman_repair_image *image, const char **why);

/*
 * As export() after freeze_raw(). image->in (cman_repair_reserve()) has the raw bytes of the receive queue,
 * and before them @held bytes that are not in it any more: the upper layer took them out and has not
 * used them. image->out ends with the raw bytes of the send queue; what was acknowledged meanwhile is cut
 * off at its beginning. -EBUSY: they are not what the kernel has: read them again.
 */
int cman_repair_export_raw(int fd, struct cman_repair_image *image, size_t held, const char **why);

/*
 * Out of repair: the connection goes on in the old socket. Unsent bytes that the kernel took for
 * sent after export() (its pacing timer may do that) are repeated by its probe or timeout.
 */
int cman_repair_thaw(int fd, struct cman_repair_image *image, const char **why);

/*
 * The end of a socket in repair: no FIN, no RST, for all descriptors of it; @fd is closed
 * whatever is returned. -EPERM: @fd is not in repair, and nothing was done, not even closed. A socket
 * with kernel TLS that cannot be disconnected stays while it has other descriptors, in repair, where
 * neither packets nor a new socket with its addresses meet it (it is bound to the device lo).
 */
int cman_repair_close(int fd, const char **why);

/*
 * A new socket from @image, complete and in repair; close-on-exec. @inject is what release() will
 * be given: whether that can work for a half-closed connection is found out here.
 */
int cman_repair_import(struct cman_repair_image *image, const struct cman_repair_inject *inject,
		       int *ret_fd, const char **why);

/* For import_with(): @family is AF_INET or AF_INET6. Good for as long as the sysctls stay. */
int cman_repair_defaults(int family, struct cman_repair_defaults *ret_defaults, const char **why);

/* As import(); @defaults, of the image's family, may be NULL. */
int cman_repair_import_with(struct cman_repair_image *image,
			    const struct cman_repair_defaults *defaults,
			    const struct cman_repair_inject *inject, int *ret_fd, const char **why);

/*
 * Makes the imported socket @fd live: leaves repair (the kernel sends a window probe, which
 * acknowledges what has arrived), sends unsent bytes, restores FINs and the options that would
 * have sent something. @inject NULL: a raw socket. Returns 0 when all is done.
 */
int cman_repair_release(int fd, struct cman_repair_image *image,
			const struct cman_repair_inject *inject, const char **why);

/* The same as cman_repair_close(), for the new side. */
int cman_repair_abort(int fd, const char **why);

/* Ready for another socket: everything but want and the memory of the queues is zero again. */
void cman_repair_reset(struct cman_repair_image *image);
/* Frees the memory of the queues too. */
void cman_repair_free(struct cman_repair_image *image);
/* Room for at least @room bytes, for who fills in an image himself; never less than before. */
int cman_repair_reserve(struct cman_repair_queue *queue, size_t room);

/* "nodelay", ... */
const char *cman_repair_option_name(enum cman_repair_option option);

/*
 * Calls @differs, if it is not NULL, for each option (also the congestion control and the device)
 * that both images have with different values; returns how many there are. Not compared:
 * QUICKACK, which follows the traffic. Buffer sizes and the window clamp may be larger in @b (the
 * kernel tunes them).
 */
int cman_repair_compare(const struct cman_repair_image *a, const struct cman_repair_image *b,
			void (*differs)(void *arg, const char *name, int64_t a, int64_t b),
			void *arg);

/* The whole image but the bytes as lines "name value". */
void cman_repair_dump(const struct cman_repair_image *image, FILE *to);

#ifdef __cplusplus
}
#endif

#endif
