/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads the raw queues of one socket, and what kernel TLS has of it, with a BPF program
 * (bpf/inspect.bpf.c): below TLS, where recv() and TCP_REPAIR's peek would decrypt. Nothing is taken out
 * or changed. Needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, and CAP_SYSLOG, because where the kernel keeps
 * pages is told by /proc/kallsyms; x86-64; a kernel with BTF and its module tls loaded
 * (cman_ktls_probe()).
 *
 * What is read is one moment only when nothing happens to the socket meanwhile: for the bytes it is in
 * repair behind a closed guard. Not for two threads at a time.
 */
#ifndef CMAN_SYS_INSPECT_RAW_H
#define CMAN_SYS_INSPECT_RAW_H

#include "bpf/inspect.h"
#include "cman/repair.h"

struct cman_inspect_raw;

/* 0 or -errno with a sentence in *ret_why. */
int cman_inspect_raw_open(struct cman_inspect_raw **ret, const char **ret_why);
void cman_inspect_raw_close(struct cman_inspect_raw *raw);

struct cman_inspect_raw_state {
	uint32_t flags; /* enum cman_inspect_raw_flag */
	uint32_t state; /* TCP_ESTABLISHED (1), ... */
	uint32_t snd_una;
	uint32_t write_seq;
	uint32_t rcv_nxt;
	uint32_t copied_seq;
	uint64_t plain; /* bytes that were decrypted and not read */
	uint64_t held;	/* raw bytes before copied_seq: the record parser has taken them out */
	uint64_t in;	/* raw bytes from copied_seq on */
	uint64_t out;	/* from snd_una on */
};

/*
 * @in gets the held bytes and those of the receive queue, @out those of the send queue. Both NULL:
 * only the state, whose lengths may be of two moments. -ESRCH: the socket was not found; -EBUSY: its
 * queues did not stand still, or do not hang together; -ENOMEM, and what bpf(2) returns.
 */
int cman_inspect_raw_read(struct cman_inspect_raw *raw, int fd,
			  struct cman_inspect_raw_state *ret_state, struct cman_repair_queue *in,
			  struct cman_repair_queue *out);

#endif
