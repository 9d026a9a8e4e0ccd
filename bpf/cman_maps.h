/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one ABI that BPF programs and user space share: what the pinned maps under
 * /sys/fs/bpf/cman/ALIAS/ hold, and who may write which field.
 *
 *	instance   1 entry, mmapable   what the manager says once (and the state it changes)
 *	services   array, mmapable     configuration of each service, written by the manager
 *	ruletab    array, mmapable     the rules, longest prefix first (for the gateways)
 *	sessions   array, mmapable     THE LEDGER: one slot a session
 *	pipes      array, mmapable     the pipes of each cell, named by number in the slots
 *	cells      array, mmapable     one entry a gateway: its processes, mailbox, counters
 *	addresses  hash                (address, port) -> listener          (steer)
 *	rules      LPM trie            (service, source) -> action          (steer)
 *	listeners  sockmap             listener -> listening socket         (steer)
 *	counters   per-CPU array       what steer did for each service      (steer)
 *
 * A "cell" is the processes that share one file descriptor table: one gateway and two keepers.
 * A descriptor number in `sessions`, `pipes` and `cells` is valid in the table of that cell only.
 *
 * Everything here survives the death of every process; nothing here survives a reboot, and
 * nothing here is secret. Every shared word has one writer at a time, named beside it. Values
 * are in host byte order except where a comment says otherwise; IPv4 addresses are v4-mapped
 * (::ffff:a.b.c.d); times are seconds of CLOCK_BOOTTIME.
 */
#ifndef CMAN_MAPS_H
#define CMAN_MAPS_H

#ifndef __BPF__
#include <linux/types.h>
#include <assert.h>
#endif

/* Raised whenever a struct below changes meaning; a rescue reads only a ledger it knows. */
#define CMAN_ABI 2

#define CMAN_MAX_GATEWAYS  64
#define CMAN_MAX_SERVICES  128
#define CMAN_MAX_LISTENERS 128
#define CMAN_MAX_TARGETS   16
#define CMAN_MAX_RULES	   1024
#define CMAN_MAX_ADDRESSES 16384
#define CMAN_NAME_LEN	   32 /* with the terminating NUL */
#define CMAN_BATCH	   64 /* sessions in one mailbox order, and in one handover batch */

#define CMAN_BUFFER_SIZE    16384   /* bytes; a longer read goes by splice */
#define CMAN_PIPE_SIZE	    1048576 /* bytes asked for with F_SETPIPE_SZ; if refused, a quarter */
#define CMAN_PIPES_PER_CELL 2048    /* entries of `pipes` that each cell owns */

/* ---------------------------------------------------------------------------------------------
 * The ledger
 *
 * Slots [g * slots_per_cell, (g + 1) * slots_per_cell) belong to cell g. The gateway is the only
 * writer of a slot, except in the states RESERVED, PREPARED and LEAVING, where the manager is.
 *
 * Two directions: CMAN_UP is client to server, CMAN_DOWN is server to client. For each one, bytes
 * read from the one socket (R) minus bytes written to the other (W) is what is in between, and
 * both follow from the sockets' own counters (usr/core/session.h). That remainder lies in what is
 * bound to the direction: nothing, a buffer (16 KiB of the cell's memfd) or a pipe. The bytes of
 * a bound buffer begin at cumulative position `position`: its unwritten rest is
 * [W - position, R - position).
 */
enum cman_slot_state {
	CMAN_SLOT_FREE = 0,	  /* nothing is open */
	CMAN_SLOT_RESERVED = 1,	  /* handed to the manager for an import */
	CMAN_SLOT_PREPARED = 2,	  /* imported, complete, silent until the commit */
	CMAN_SLOT_ACCEPTED = 3,	  /* client leg only */
	CMAN_SLOT_CONNECTING = 4, /* connect() of the server leg has been or is about to be called */
	CMAN_SLOT_RELAYING = 5,
	CMAN_SLOT_LEAVING = 6,	 /* frozen for a handover: the gateway does not touch it */
	CMAN_SLOT_CLOSING = 7,	 /* both legs are being closed */
	CMAN_SLOT_HANDSHAKE = 8, /* connected, and a leg with TLS is not through its handshake */
};

enum cman_direction {
	CMAN_UP = 0,
	CMAN_DOWN = 1,
};

/* cman_flow.bound: 0 is nothing, else kind and number */
#define CMAN_BOUND_NONE	  0u
#define CMAN_BOUND_BUFFER 0x40000000u /* | buffer number within the cell's memfd, see below */
#define CMAN_BOUND_PIPE	  0x80000000u /* | pipe number within the cell's part of `pipes` */
#define CMAN_BOUND_KIND	  0xc0000000u
#define CMAN_BOUND_INDEX  0x3fffffffu

/*
 * The cell's memfd holds buffer 0, the hot one, which is bound only while the gateway is inside one
 * pump of one direction, and two buffers for each slot (2 * slot + direction + 1), where a rest that
 * the other leg does not take yet waits. They are touched only when used, so the file is sparse.
 */
#define CMAN_HOT_BUFFER			  0u
#define CMAN_SLOT_BUFFER(slot, direction) (2u * (slot) + (direction) + 1u)
#define CMAN_BUFFERS(slots)		  (2ull * (slots) + 1ull)

struct cman_flow {
	__u64 position;	  /* cumulative R (= W) when the present buffer or pipe was bound */
	__s64 read_base;  /* added to R as the socket counts it; not 0 for a restored socket */
	__s64 write_base; /* the same for W */
};

/* cman_slot.eof */
#define CMAN_EOF_UP   0x01 /* the client's FIN has been passed on to the server */
#define CMAN_EOF_DOWN 0x02 /* the server's FIN has been passed on to the client */
/* cman_slot.flags */
#define CMAN_SLOT_CLIENT_RESTORED 0x01 /* leg made by TCP_REPAIR: its counters hold no SYN */
#define CMAN_SLOT_SERVER_RESTORED 0x02
#define CMAN_SLOT_RESET		  0x04 /* CLOSING: reset the legs instead of closing them */
#define CMAN_SLOT_UNCONNECTED	  0x08 /* PREPARED: the server leg is still to be connected */
#define CMAN_SLOT_REPAIR	  0x10 /* LEAVING, PREPARED: by TCP_REPAIR: the legs are no duplicates */
#define CMAN_SLOT_SPLICED	  0x20 /* RELAYING: by the kernel, see Splice below */
#define CMAN_SLOT_END_CLIENT	  0x40 /* SPLICED: splice_end is to take this leg out */
#define CMAN_SLOT_END_SERVER	  0x80

/*
 * cman_slot.tls: which legs have TLS, and who carries their records: all legs of a session the same
 * engine. Everything else about TLS is in the cell's secret memory (usr/sys/tls_cell.h).
 *	user	raw bytes are read from a leg's socket, opened and sealed by the gateway; `bound` is 0
 *	kernel	a pipe goes in between, whose FIONREAD counts plaintext; the sockets count ciphertext
 */
#define CMAN_SLOT_TLS_CLIENT 0x01
#define CMAN_SLOT_TLS_SERVER 0x02
#define CMAN_SLOT_TLS_KERNEL 0x04

/* The id of a slot in the state RESERVED is this | the number of the order that reserved it. */
#define CMAN_RESERVED_ID 0xffff000000000000ull

struct cman_slot {
	__u8 state;    /* enum cman_slot_state */
	__u8 eof;      /* CMAN_EOF_* */
	__u8 flags;    /* CMAN_SLOT_* */
	__u8 target;   /* index into the service's targets */
	__u16 service; /* index into `services` */
	__u8 listener; /* index into cman_instance.listener */
	__u8 tls;      /* CMAN_SLOT_TLS_* */
	__s32 client_fd;
	__s32 server_fd;     /* <= 0: none (0 is /dev/null in a cell) */
	__u64 client_cookie; /* SO_COOKIE: proves that the fd is still what the slot means */
	__u64 server_cookie;
	struct cman_flow flow[2]; /* [CMAN_UP], [CMAN_DOWN] */
	__u32 bound[2];
	__u64 id;	 /* of the session; kept through every handover */
	__u32 created_s; /* when it was accepted */
	__u32 active_s;	 /* when it last moved a byte (updated about once a second) */
	__u16 rule;	 /* index into `ruletab` plus 1, 0 is none */
	__u16 handovers;
	__u16 batch;	   /* LEAVING, PREPARED: low bits of the batch's id */
	__u16 client_port; /* host byte order */
	__u8 client_addr[16];
};

/* ---------------------------------------------------------------------------------------------
 * Pipes
 *
 * Entry number g * CMAN_PIPES_PER_CELL + n is pipe n of cell g. Written by the gateway, and by
 * the manager for entries that the gateway reserved for an import. rfd <= 0: the entry is empty.
 */
/* A negative rfd: reserved for the manager's import. */
struct cman_pipe {
	__s32 rfd;
	__s32 wfd;
};

/* ---------------------------------------------------------------------------------------------
 * Cells
 */
enum cman_role {
	CMAN_GATEWAY = 0,
	CMAN_KEEPER = 1, /* the first keeper */
	CMAN_SPARE = 2,	 /* the second one: gateway and keeper may die in the same instant */
	CMAN_ROLES = 3,
};

/*
 * cman_cell.role[r]: generation << 32 | pid of the process that has the role. A process that
 * finds the holder dead claims the role by compare-and-swap with its own pid and
 * CMAN_ROLE_CLAIM, clones, and the child becomes the holder by compare-and-swap from that claim.
 * So there is never a second holder, whoever dies when.
 */
#define CMAN_ROLE_CLAIM 0x80000000u
#define CMAN_ROLE_PID	0x7fffffffu

/* Private descriptors of a role (epoll, pidfds): its successor closes them first. */
#define CMAN_OWN_FDS 8

/*
 * The mailbox: the manager's orders to the gateway. The manager fills op, n, slot[] and pipe[],
 * stores seq = ack + 1 last, and rings `kick_fd`. The gateway carries the order out, fills
 * result[], stores ack = seq last, and rings `done_fd`. An order may be carried out again by the
 * next gateway if this one dies in between: all are idempotent.
 */
enum cman_order {
	CMAN_ORDER_NONE = 0,
	CMAN_ORDER_SYNC = 1,	/* look at listeners, services and instance state again */
	CMAN_ORDER_FREEZE = 2,	/* slot[]: RELAYING -> LEAVING; result 0 or -EAGAIN, -ENOENT */
	CMAN_ORDER_THAW = 3,	/* slot[]: LEAVING -> RELAYING by recovery */
	CMAN_ORDER_RELEASE = 4, /* slot[]: LEAVING -> FREE: close own duplicates, silently */
	CMAN_ORDER_RESERVE = 5, /* n slots and npipes pipes wanted: FREE -> RESERVED; answers slot[] */
	CMAN_ORDER_ACTIVATE = 6, /* slot[]: PREPARED -> RELAYING by recovery */
	CMAN_ORDER_DISCARD = 7,	 /* slot[]: RESERVED or PREPARED -> FREE: close, silently */
	CMAN_ORDER_CLOSE = 8,	 /* slot[]: end the session now */
	CMAN_ORDER_QUIT = 9,	 /* close (n = 1: reset) every session, then end the whole cell */
	CMAN_ORDER_LEAVE = 10, /* end the cell at once; what it still has is closed by the kernel */
};

/* The descriptors that relaying in the kernel needs (see Splice). */
enum cman_splice_fd {
	CMAN_SPLICE_RUN,
	CMAN_SPLICE_HOLD,
	CMAN_SPLICE_LEGS,
	CMAN_SPLICE_END, /* the link of splice_end */
	CMAN_SPLICE_GAG, /* a program, see bpf/splice.bpf.c */
	CMAN_SPLICE_FDS,
};

struct cman_mailbox {
	__u32 seq;		    /* manager */
	__u32 ack;		    /* gateway */
	__u32 op;		    /* manager: enum cman_order */
	__u32 n;		    /* manager: entries of slot[] */
	__u32 npipes;		    /* manager: RESERVE */
	__s32 status;		    /* gateway: 0 or -errno for the whole order */
	__u32 slot[CMAN_BATCH];	    /* manager; gateway: RESERVE. Numbers within the cell */
	__s32 result[CMAN_BATCH];   /* gateway: 0 or -errno a slot */
	__u64 id[CMAN_BATCH];	    /* manager: session id expected in the slot, else -ENOENT */
	__u32 pipe[2 * CMAN_BATCH]; /* gateway: RESERVE: pipe numbers */
};

struct cman_cell {
	__u64 role[CMAN_ROLES];			/* see above */
	__s32 own_fd[CMAN_ROLES][CMAN_OWN_FDS]; /* the role's holder; <= 0: none */
	__u32 marks[CMAN_ROLES]; /* holder: odd while it makes or closes descriptors that are not
				  * recorded; counts, so that a scan sees that it has happened */
	__u32 died_marked[CMAN_ROLES]; /* successor: its predecessor died with its mark set;
					* gateway: 0 again once the table has been scanned */
	__u32 quit;		       /* 1: nobody is replaced any more (orders QUIT, LEAVE) */
	__u32 sweep_wanted; /* anyone, atomically: +1 when descriptors may be open that nothing
				  * here names; the gateway then scans the table */
	__u32 sweep_done;   /* gateway: value of sweep_wanted that it has served */
	__u32 importing;    /* manager: low 16 bits: imports whose descriptors are in the table
				  * and not yet in the ledger (no scan now); high bits: how many ended */
	__u32 keeper_uid;   /* manager: who may talk to keeper_fd, besides root */

	/* descriptors of the cell's table that live as long as it does */
	__s32 buffer_fd; /* memfd of the buffers */
	__s32 secret_fd; /* memfd of the secret memory (usr/sys/tls_cell.h) */
	__s32 credentials_fd; /* memfd (usr/sys/credentials.h); manager; <= 0: no listener or service has TLS */
	__s32 kick_fd;	 /* eventfd manager -> gateway */
	__s32 done_fd;	 /* eventfd gateway -> manager */
	__s32 keeper_fd; /* listening Unix socket of the keepers, RUN_DIR/ALIAS/cell-N.sock */
	__s32 listener_fd[CMAN_MAX_LISTENERS]; /* manager (numbers from the keeper); <= 0: none */

	struct cman_mailbox mailbox;

	/* gateway */
	__u32 high;	/* slots at and above were never used */
	__u32 sessions; /* slots not FREE, RESERVED or PREPARED */
	__u32 pipes_open;
	__u64 next_id; /* sessions numbered so far */
	__u64 accepted;
	__u64 refused; /* by limits, lack of descriptors or memory, or no target */
	__u64 closed;
	__u64 resets;
	__u64 tls_handshakes; /* legs that are through */
	__u64 tls_failed[16]; /* handshakes, by enum cman_tls_failure of usr/tls/handshake.h */
	__u64 tls_cut;	      /* handshakes that ended with their gateway */
	__u64 tls_truncated;  /* directions that ended without close_notify */
	__u64 tls_broken;     /* sessions that ended by a bad record or a fatal alert */
	__u64 bytes[2];
	__u64 recoveries;	    /* a gateway started on slots that another one left */
	__u64 recovered;	    /* sessions that those recoveries continued */
	__u64 lost;		    /* sessions that a recovery could not continue */
	__u64 recovery_ns;	    /* duration of the last recovery */
	__u64 replaced[CMAN_ROLES]; /* how often each role was replaced */
	__u64 beat_ns;		    /* CLOCK_BOOTTIME at the last turn of the gateway's loop */
	/* sessions now, for balance and limits */
	__u32 target_sessions[CMAN_MAX_SERVICES][CMAN_MAX_TARGETS];
	__u32 service_sessions[CMAN_MAX_SERVICES];
	__u32 rule_sessions[CMAN_MAX_RULES + 1];
};

/* ---------------------------------------------------------------------------------------------
 * Configuration, written by the manager under the sequence lock of each service
 */
enum cman_service_state {
	CMAN_SERVICE_UNUSED = 0,
	CMAN_SERVICE_OPEN = 1,
	CMAN_SERVICE_SUSPENDED = 2, /* SYNs are held, live sessions go on */
	CMAN_SERVICE_RETIRED = 3,   /* not configured any more; live sessions go on */
};

enum cman_when_down {
	CMAN_DOWN_REFUSE = 0, /* RST */
	CMAN_DOWN_WAIT = 1,   /* SYNs are dropped in silence: the client tries again */
};

enum cman_balance {
	CMAN_BALANCE_FIRST = 0,
	CMAN_BALANCE_ROUNDROBIN = 1,
	CMAN_BALANCE_LEASTCONN = 2,
};

struct cman_target {
	__u8 addr[16];
	__u16 port;	    /* host byte order */
	__u16 family;	    /* AF_INET (2) or AF_INET6 (10) */
	__u32 down_until_s; /* gateways: do not try before; 0 is up */
	__u64 failures;	    /* gateways: connects that failed */
};

struct cman_service {
	char name[CMAN_NAME_LEN];
	__u32 seq;	 /* odd while the manager writes */
	__u32 state;	 /* enum cman_service_state */
	__u32 when_down; /* enum cman_when_down */
	__u32 balance;	 /* enum cman_balance */
	__u32 connect_timeout_s;
	__u32 idle_timeout_s;	 /* 0 is never */
	__u32 session_timeout_s; /* 0 is never */
	__u32 ntargets;
	__u8 source[16];
	__u16 source_family; /* 0: not set */
	__u16 splice;	     /* 1: the kernel may relay */
	__u16 tls;	     /* 1: the server leg has TLS */
	__u16 reserved;
	struct cman_target target[CMAN_MAX_TARGETS];
};

enum cman_action {
	CMAN_ACTION_ACCEPT = 0,
	CMAN_ACTION_REJECT = 1, /* RST */
	CMAN_ACTION_DROP = 2,	/* silence */
};

/* One line of `ruletab`: sorted by prefix length, longest first, named services before "*". */
struct cman_rule {
	char name[CMAN_NAME_LEN];
	__u8 source[16];
	__u32 prefix_len;   /* 0..128, of the v4-mapped form */
	__u32 service;	    /* index, or CMAN_ANY_SERVICE */
	__u32 action;	    /* enum cman_action */
	__u32 max_idle_s;   /* 0: the service's */
	__u32 max_sessions; /* 0: no limit */
};
#define CMAN_ANY_SERVICE 0xffffffffu

enum cman_instance_state {
	CMAN_STARTING = 0,
	CMAN_RUNNING = 1,
	CMAN_MIGRATING = 2, /* sessions are leaving or arriving */
	CMAN_DRAINING = 3,  /* no new sessions */
	CMAN_SUSPENDED = 4, /* every service is */
};

struct cman_listener {
	char name[CMAN_NAME_LEN];
	__u8 addr[16];
	__u16 port_first; /* host byte order */
	__u16 port_last;
	__u16 family;
	__u16 service; /* index */
	__u32 used;    /* 0: the entry is free */
	__u32 tls;     /* 1: the client leg has TLS */
};

enum cman_port_parity {
	CMAN_PORTS_ANY = 0,
	CMAN_PORTS_ODD = 1,
	CMAN_PORTS_EVEN = 2,
};

struct cman_instance {
	__u32 abi;   /* CMAN_ABI */
	__u32 state; /* enum cman_instance_state */
	char alias[CMAN_NAME_LEN];
	char version[CMAN_NAME_LEN];
	__u32 gateways;
	__u32 slots_per_cell;
	__u32 max_sessions; /* of the whole instance, <= slots_per_cell */
	__u32 accepting;    /* 1: gateways accept; 0: they leave the listeners alone */
	__u32 nrules;	    /* lines of ruletab; 0: no rules, accept */
	__u32 log_level;    /* LOG_* of syslog.h */
	__u32 config_generation;
	__u32 manager_pid;
	__u64 started_ns; /* CLOCK_BOOTTIME */
	__u64 id_base;	  /* session ids are id_base | gateway << 34 | count */
	/*
	 * Test builds (CMAN_CRASH_POINTS, usr/sys/crash.h): the process that reaches crash_point for
	 * the crash_count-th time dies by SIGKILL, and kills the roles in crash_also just before.
	 */
	__u32 crash_point;
	__u32 crash_count; /* after a death: whose */
	__u32 crash_also;  /* 1 << enum cman_role */
	__u32 crash_hits;  /* deaths so far */
	struct cman_listener listener[CMAN_MAX_LISTENERS];
	/*
	 * While addresses move between two hosts, both make server legs that are bound to them, and
	 * must not choose the same ports: the one that has them uses odd ones, the one that they
	 * move to even ones, but for those that were in use at the other when it began.
	 */
	__u32 port_parity; /* manager: enum cman_port_parity */
	__u8 busy_port[8192];
	/* manager: what this kernel's TLS takes: 1 << enum cman_tls_aead, for TLS 1.2 and 1.3 */
	__u32 ktls[2];
	__u32 ktls_rekey; /* 1: keys of a socket can be replaced */
	__u32 reserved;
};

/* ---------------------------------------------------------------------------------------------
 * Steering
 */
struct cman_address_key {
	__u8 addr[16];
	__u16 port; /* host byte order */
	__u16 family;
};

struct cman_address {
	__u32 listener; /* index, also the key of `listeners` */
	__u32 service;
};

struct cman_rule_key {
	__u32 prefix_len; /* of what follows: 32 + the rule's */
	__u32 service;	  /* big-endian, so that it is a prefix */
	__u8 source[16];
};

struct cman_rule_value {
	__u32 action; /* enum cman_action */
	__u32 rule;   /* index into ruletab */
};

/* `listeners`: entries 0..CMAN_MAX_LISTENERS-1 are the listeners; then these two: */
#define CMAN_HOLD_INET	  CMAN_MAX_LISTENERS /* a listener whose filter drops every SYN */
#define CMAN_HOLD_INET6	  (CMAN_MAX_LISTENERS + 1)
#define CMAN_SOCKMAP_SIZE (CMAN_MAX_LISTENERS + 2)

struct cman_counters {
	__u64 steered;
	__u64 rejected;	   /* by a rule: RST */
	__u64 dropped;	   /* by a rule: silence */
	__u64 held;	   /* suspended, or no listener and when_down = wait */
	__u64 no_listener; /* refused: no listening socket */
	__u64 assign_failed;
};

/* ---------------------------------------------------------------------------------------------
 * Guard (bpf/guard.bpf.c, usr/sys/guard.h, which tells the story)
 *
 *	frozen        hash, pinned   tuple -> what happens to its packets. Entries are made, changed
 *	                             and removed by the program cman_guard_cmd only, in place, because
 *	                             packets count in them meanwhile
 *	moving        hash, pinned   local address -> what happens to packets of unknown tuples
 *	begun         LRU, pinned    tuples whose SYN went to the hop of their address
 *	guard_conf    1 entry        written once by the owner, before the filters are attached
 *	guard_cmd     1 entry        the owner's order to cman_guard_cmd, and its answer
 *	guard_counts  per-CPU, 1     of all filters of this guard
 *
 * Another layout of struct cman_tuple or cman_frozen is a new ABI: successors take the maps over.
 */

/* One TCP connection as a packet that comes in sees it. v4-mapped addresses, host-order ports. */
struct cman_tuple {
	__u8 local_addr[16];
	__u8 peer_addr[16];
	__u16 local_port;
	__u16 peer_port;
};

enum cman_guard_action {
	CMAN_GUARD_PARK = 1,	/* to the parking device */
	CMAN_GUARD_DRAIN = 2,	/* open again, behind what is still parked */
	CMAN_GUARD_FORWARD = 3, /* to another machine, behind what is still parked */
	CMAN_GUARD_LOCAL = 4,	/* let in, whatever `moving` says of the address */
};

/* The next machine on the same Ethernet: both addresses of the frame, and where to send it. */
struct cman_guard_hop {
	__u8 dst_mac[6];
	__u8 src_mac[6];
	__u32 ifindex;
};

struct cman_frozen {
	enum cman_guard_action action;
	__u32 epoch; /* the owner's; orders with an older one are refused */
	__u64 batch;
	__u64 expires_ns; /* CLOCK_BOOTTIME; from then on it is as if there were no entry */
	__u64 since_ns;	  /* of the action */
	/*
	 * Payload bytes that are parked, a packet without payload counting as one: bytes, because
	 * the kernel may cut a large packet into several on its way. Below 0 is possible, and empty.
	 */
	__s64 parked_now;
	__u64 parked; /* packets, ever */
	__u64 passed;
	__u64 forwarded;
	__u64 lost; /* in the unit of parked_now */
	struct cman_guard_hop hop;
};

enum cman_moving_mode {
	CMAN_MOVING_LEAVING = 1,  /* new connections go to the hop, the rest comes in */
	CMAN_MOVING_GONE = 2,	  /* everything unknown goes to the hop */
	CMAN_MOVING_ARRIVING = 3, /* no packet without a socket gets a RST: it is dropped */
	CMAN_MOVING_STAYED = 4,	  /* called off: only what has begun at the hop goes there */
};

struct cman_moving_key {
	__u8 addr[16];
};

struct cman_moving {
	enum cman_moving_mode mode;
	__u32 reserved;
	__u64 expires_ns; /* CLOCK_BOOTTIME */
	__u64 id;	  /* of this move of the address: `begun` holds it */
	__u64 forwarded;
	__u64 dropped;
	struct cman_guard_hop hop; /* not ARRIVING */
};

struct cman_guard_conf {
	__u32 park_ifindex;
	/*
	 * Parked frames have as their source: these two bytes, then the big-endian number of the
	 * interface where they came in. So they find their way back there.
	 */
	__u8 mark[2];
	__u8 reserved[2];
};

enum cman_guard_op {
	CMAN_GUARD_OP_SET = 1,	  /* make or change the entry: action, hop, expires_ns, batch */
	CMAN_GUARD_OP_CHANGE = 2, /* the same but for the batch; -ENOENT when there is none */
	CMAN_GUARD_OP_RENEW = 3,  /* expires_ns */
	CMAN_GUARD_OP_FINISH = 4, /* nothing parked: remove a DRAIN entry; else -EAGAIN, parked_now */
	CMAN_GUARD_OP_SETTLE = 5, /* write parked[] off as lost, then as FINISH */
	CMAN_GUARD_OP_DELETE = 6,
};

#define CMAN_GUARD_BATCH  64
#define CMAN_GUARD_FROZEN 32768 /* entries: both legs of each session, and forwarded ones */
#define CMAN_GUARD_MOVING 1024
#define CMAN_GUARD_BEGUN  16384

struct cman_guard_cmd {
	__u32 op; /* enum cman_guard_op */
	__u32 n;
	__u64 expires_ns;
	__u64 batch;
	__u32 epoch;
	__u32 action; /* enum cman_guard_action */
	struct cman_guard_hop hop;
	struct cman_tuple tuple[CMAN_GUARD_BATCH];
	__s64 parked[CMAN_GUARD_BATCH]; /* in: SETTLE; out: FINISH, SETTLE: parked_now */
	__s32 result[CMAN_GUARD_BATCH]; /* out: 0 or -errno */
};

struct cman_guard_counts {
	__u64 parked;	  /* packets */
	__u64 returned;	  /* parked packets that came back */
	__u64 forwarded;  /* to the hop of their tuple */
	__u64 strays;	  /* to the hop of their address */
	__u64 unanswered; /* ARRIVING: dropped instead of a RST */
	__u64 bounced;	  /* dropped: from the machine that they would be forwarded to */
	__u64 unmarked;	  /* dropped: on the parking device, but none of ours */
	__u64 failed;	  /* dropped: the kernel refused to rewrite the frame */
};

#ifndef __BPF__
static_assert(sizeof(struct cman_tuple) == 36, "ABI");
static_assert(sizeof(struct cman_guard_hop) == 16, "ABI");
static_assert(sizeof(struct cman_frozen) == 88, "ABI");
static_assert(sizeof(struct cman_moving) == 56, "ABI");
#endif

/* ---------------------------------------------------------------------------------------------
 * Splice: sessions that the kernel relays (bpf/splice.bpf.c, usr/sys/splice.h). Its maps are made
 * when a service asks for it:
 *
 *	splice_run   sockhash  cookie -> leg whose segments go through the program
 *	splice_hold  sockhash  cookie -> leg that the other's are redirected to: keeps what waits
 *	splice_legs  hash      cookie -> struct cman_splice_leg
 *
 * The gateway makes an entry of splice_legs; from then on the programs are its only writers, with
 * the socket of that cookie locked.
 */
#define CMAN_SPLICE_BACKLOG 262144u /* redirected bytes that may wait for the other's send queue */
#define CMAN_SPLICE_BUFFERS 256u    /* and socket buffers: one byte may occupy 1 KiB */

struct cman_splice_leg {
	__u64 peer;	  /* cookie of the other leg */
	__u64 base;	  /* cumulative R of this leg's direction when it was entered */
	__u32 slot;	  /* index into `sessions` */
	__u32 is_server;  /* which leg of it */
	__u32 started;	  /* a first segment was seen */
	__u32 next_seq;	  /* sequence number after the last byte seen */
	__u32 write_base; /* the other leg's write_seq when nothing was redirected yet */
	__u32 over;	  /* too much was waiting: all that comes is left to user space */
	__u32 broken;	  /* old bytes could not be cut off, or some are missing: never go on */
	__u32 ended;	  /* by splice_end: out of splice_run, and nothing was lost */
	__u64 trims;	  /* segments that began with old bytes */
	__u64 trimmed;	  /* bytes cut off */
	__u64 redirected; /* bytes */
	__u64 buffers;	  /* socket buffers redirected */
	__u64 passed;	  /* bytes left to user space */
};

#ifndef __BPF__
static_assert(sizeof(struct cman_flow) == 24, "ABI");
static_assert(sizeof(struct cman_slot) == 128, "ABI: two cache lines");
static_assert(sizeof(struct cman_pipe) == 8, "ABI");
static_assert(sizeof(struct cman_target) == 32, "ABI");
static_assert(sizeof(struct cman_address_key) == 20, "ABI");
static_assert(sizeof(struct cman_rule_key) == 24, "ABI");
#endif

#endif
