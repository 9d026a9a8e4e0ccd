/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a congestion window (low half, segments) and a slow start threshold (high half, segments;
 * CMAN_RESUME_MAX: none yet) are said in TCP_NOTSENT_LOWAT to the congestion control of
 * bpf/restore.bpf.c. Its name ends with the version of this: processes of several releases share it.
 */
#ifndef CMAN_RESTORE_BPF_H
#define CMAN_RESTORE_BPF_H

#define CMAN_RESUME_NAME  "cman_resume1"
#define CMAN_RESUME_MAX	  0xffffu
#define CMAN_RESUME_SHIFT 16

#endif
