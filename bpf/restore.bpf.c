/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * restore: a congestion control that a socket passes through for a moment. Congestion controls may
 * write the congestion window and the slow start threshold, so its init() writes those of the
 * connection's former socket; then the socket is given its real one, which begins from there.
 * usr/sys/restore.c does both with setsockopt().
 *
 * Which numbers: TCP_NOTSENT_LOWAT of the socket says them, for that moment (CMAN_RESUME_*). So this
 * needs no map, keeps nothing, and one registration serves every process of the machine.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/restore.h"

struct tcp_sock___r {
	__u32 notsent_lowat;
	__u32 snd_cwnd;
	__u32 snd_ssthresh;
} __attribute__((preserve_access_index));

SEC("struct_ops/cman_resume_ini")
void BPF_PROG(cman_resume_ini, struct sock *sk)
{
	struct tcp_sock___r *tp = (struct tcp_sock___r *)sk;
	__u32 code = tp->notsent_lowat;
	__u32 cwnd = code & CMAN_RESUME_MAX, ssthresh = code >> CMAN_RESUME_SHIFT;

	if (cwnd)
		tp->snd_cwnd = cwnd;
	if (ssthresh && ssthresh != CMAN_RESUME_MAX)
		tp->snd_ssthresh = ssthresh;
}

/* The rest is what every congestion control must have; no acknowledgement comes in meanwhile. */
SEC("struct_ops/cman_resume_sst")
__u32 BPF_PROG(cman_resume_sst, struct sock *sk)
{
	__u32 half = ((struct tcp_sock___r *)sk)->snd_cwnd / 2;

	return half > 2 ? half : 2;
}

SEC("struct_ops/cman_resume_und")
__u32 BPF_PROG(cman_resume_und, struct sock *sk)
{
	return ((struct tcp_sock___r *)sk)->snd_cwnd;
}

SEC("struct_ops/cman_resume_avo")
void BPF_PROG(cman_resume_avo, struct sock *sk, __u32 ack, __u32 acked)
{
}

SEC(".struct_ops")
struct tcp_congestion_ops cman_resume = {
	.init = (void *)cman_resume_ini,
	.ssthresh = (void *)cman_resume_sst,
	.undo_cwnd = (void *)cman_resume_und,
	.cong_avoid = (void *)cman_resume_avo,
	.name = CMAN_RESUME_NAME,
};

char LICENSE[] SEC("license") = "GPL";
