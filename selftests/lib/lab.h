/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A laboratory for one TCP connection: both ends in one process, in two network namespaces, so
 * that a test decides what happens next. Plus a small packet guard (tc and a tun device) on the
 * host's side of the veth pair, and TAP lines. All functions end the program when the machinery
 * itself fails.
 *
 * The process starts in the host's namespace and is there whenever no function of this file runs.
 */
#ifndef CMAN_TEST_LAB_H
#define CMAN_TEST_LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lab_family {
	LAB_V4,
	LAB_V6,
	LAB_MAPPED, /* the host's socket is AF_INET6, the addresses are IPv4 */
	LAB_FAMILIES,
};

extern const char *const lab_family_name[LAB_FAMILIES];

/* One connection; bytes of each direction are a fixed sequence, so positions are all one needs. */
struct lab_conn {
	int host;
	int peer;
	uint64_t host_sent, peer_sent; /* written */
	uint64_t host_read, peer_read; /* read, and found right */
	bool host_shut, peer_shut;     /* we have called shutdown(SHUT_WR) */
	bool host_eof, peer_eof;       /* read() gave 0 */
};

/* @peer_ns: path of the peer's namespace; the host has 10.99.0.1 and fd99::1 on eth0, the peer .2 */
void lab_init(const char *peer_ns);

/* the thread's namespace, until lab_leave(): for system calls of a test's own */
void lab_enter_peer(void);
void lab_leave_peer(void);

/* @host_accepts: who listens. Non-blocking. */
void lab_connect(struct lab_conn *c, enum lab_family family, bool host_accepts);
void lab_close(struct lab_conn *c);

/* Writes as much of @len as the socket takes; returns how much. */
size_t lab_host_write(struct lab_conn *c, size_t len);
size_t lab_peer_write(struct lab_conn *c, size_t len);
void lab_host_shut(struct lab_conn *c);
void lab_peer_shut(struct lab_conn *c);
/* Reads all that is there and checks it. False: a wrong byte, or an error (told). */
bool lab_read(struct lab_conn *c);
bool lab_read_peer(struct lab_conn *c);
/* lab_read() until both have all that was written and know of each shutdown. */
bool lab_settle(struct lab_conn *c, unsigned int timeout_ms);

int lab_inq(int fd);
int lab_outq(int fd);
int lab_unsent(int fd);
int lab_state(int fd);
/* until SIOCINQ of @fd is @len; SIOCOUTQ; the state */
bool lab_wait_inq(int fd, int len);
bool lab_wait_outq(int fd, int len);
bool lab_wait_state(int fd, int state);

/* Packets for the host are parked, in order; opening lets them in. */
void lab_guard_close(void);
void lab_guard_open(void);
/*
 * What was parked is lost. For sockets bound to a device: parked packets come back from the tun
 * device, not from the one that they came to, and find no socket.
 */
void lab_guard_open_losing(void);
/* What the host sends is lost. */
void lab_mute(bool on);
/* Packets of the newest connection that left the host since the guard was closed. */
uint64_t lab_leaked(void);
uint64_t lab_parked(void);

struct lab_counters {
	uint64_t resets;      /* RST packets of the newest connection, both directions */
	uint64_t retransmits; /* all connections, both sides */
};
struct lab_counters lab_counters(void);

int lab_open_fds(void);
uint64_t lab_now_us(void);

/* --- TAP */
void lab_ok(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lab_diag(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void lab_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The plan; the exit status. */
int lab_done(void);

#endif
