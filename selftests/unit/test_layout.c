/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The layout of bpf/cman_maps.h as golden numbers: it is the ABI between releases that run beside
 * each other, and between user space and the programs that are loaded. Who changes a number here
 * raises CMAN_ABI, unless the change only gives a meaning to what was reserved.
 */
#include <criterion/criterion.h>
#include <stddef.h>

#include "bpf/cman_maps.h"

static const struct {
	const char *what;
	size_t is, golden;
} layout[] = {
#define SIZE(type, golden) \
	{ \
#type, sizeof(struct type), golden \
	}
#define FIELD(type, member, golden) \
	{ \
#type "." #member, offsetof(struct type, member), golden \
	}
	SIZE(cman_flow, 24),
	FIELD(cman_flow, position, 0),
	FIELD(cman_flow, read_base, 8),
	FIELD(cman_flow, write_base, 16),
	SIZE(cman_slot, 128),
	FIELD(cman_slot, state, 0),
	FIELD(cman_slot, eof, 1),
	FIELD(cman_slot, flags, 2),
	FIELD(cman_slot, target, 3),
	FIELD(cman_slot, service, 4),
	FIELD(cman_slot, listener, 6),
	FIELD(cman_slot, tls, 7),
	FIELD(cman_slot, client_fd, 8),
	FIELD(cman_slot, server_fd, 12),
	FIELD(cman_slot, client_cookie, 16),
	FIELD(cman_slot, server_cookie, 24),
	FIELD(cman_slot, flow, 32),
	FIELD(cman_slot, bound, 80),
	FIELD(cman_slot, id, 88),
	FIELD(cman_slot, created_s, 96),
	FIELD(cman_slot, active_s, 100),
	FIELD(cman_slot, rule, 104),
	FIELD(cman_slot, handovers, 106),
	FIELD(cman_slot, batch, 108),
	FIELD(cman_slot, client_port, 110),
	FIELD(cman_slot, client_addr, 112),
	SIZE(cman_pipe, 8),
	FIELD(cman_pipe, rfd, 0),
	FIELD(cman_pipe, wfd, 4),
	SIZE(cman_mailbox, 1560),
	FIELD(cman_mailbox, seq, 0),
	FIELD(cman_mailbox, ack, 4),
	FIELD(cman_mailbox, op, 8),
	FIELD(cman_mailbox, n, 12),
	FIELD(cman_mailbox, npipes, 16),
	FIELD(cman_mailbox, status, 20),
	FIELD(cman_mailbox, slot, 24),
	FIELD(cman_mailbox, result, 280),
	FIELD(cman_mailbox, id, 536),
	FIELD(cman_mailbox, pipe, 1048),
	SIZE(cman_cell, 15368),
	FIELD(cman_cell, role, 0),
	FIELD(cman_cell, own_fd, 24),
	FIELD(cman_cell, marks, 120),
	FIELD(cman_cell, died_marked, 132),
	FIELD(cman_cell, quit, 144),
	FIELD(cman_cell, sweep_wanted, 148),
	FIELD(cman_cell, sweep_done, 152),
	FIELD(cman_cell, importing, 156),
	FIELD(cman_cell, keeper_uid, 160),
	FIELD(cman_cell, buffer_fd, 164),
	FIELD(cman_cell, secret_fd, 168),
	FIELD(cman_cell, credentials_fd, 172),
	FIELD(cman_cell, kick_fd, 176),
	FIELD(cman_cell, done_fd, 180),
	FIELD(cman_cell, keeper_fd, 184),
	FIELD(cman_cell, listener_fd, 188),
	FIELD(cman_cell, mailbox, 704),
	FIELD(cman_cell, high, 2264),
	FIELD(cman_cell, sessions, 2268),
	FIELD(cman_cell, pipes_open, 2272),
	FIELD(cman_cell, next_id, 2280),
	FIELD(cman_cell, accepted, 2288),
	FIELD(cman_cell, refused, 2296),
	FIELD(cman_cell, closed, 2304),
	FIELD(cman_cell, resets, 2312),
	FIELD(cman_cell, tls_handshakes, 2320),
	FIELD(cman_cell, tls_failed, 2328),
	FIELD(cman_cell, tls_cut, 2456),
	FIELD(cman_cell, tls_truncated, 2464),
	FIELD(cman_cell, tls_broken, 2472),
	FIELD(cman_cell, bytes, 2480),
	FIELD(cman_cell, recoveries, 2496),
	FIELD(cman_cell, recovered, 2504),
	FIELD(cman_cell, lost, 2512),
	FIELD(cman_cell, recovery_ns, 2520),
	FIELD(cman_cell, replaced, 2528),
	FIELD(cman_cell, beat_ns, 2552),
	FIELD(cman_cell, target_sessions, 2560),
	FIELD(cman_cell, service_sessions, 10752),
	FIELD(cman_cell, rule_sessions, 11264),
	SIZE(cman_target, 32),
	FIELD(cman_target, addr, 0),
	FIELD(cman_target, port, 16),
	FIELD(cman_target, family, 18),
	FIELD(cman_target, down_until_s, 20),
	FIELD(cman_target, failures, 24),
	SIZE(cman_service, 600),
	FIELD(cman_service, name, 0),
	FIELD(cman_service, seq, 32),
	FIELD(cman_service, state, 36),
	FIELD(cman_service, when_down, 40),
	FIELD(cman_service, balance, 44),
	FIELD(cman_service, connect_timeout_s, 48),
	FIELD(cman_service, idle_timeout_s, 52),
	FIELD(cman_service, session_timeout_s, 56),
	FIELD(cman_service, ntargets, 60),
	FIELD(cman_service, source, 64),
	FIELD(cman_service, source_family, 80),
	FIELD(cman_service, splice, 82),
	FIELD(cman_service, tls, 84),
	FIELD(cman_service, reserved, 86),
	FIELD(cman_service, target, 88),
	SIZE(cman_rule, 68),
	FIELD(cman_rule, name, 0),
	FIELD(cman_rule, source, 32),
	FIELD(cman_rule, prefix_len, 48),
	FIELD(cman_rule, service, 52),
	FIELD(cman_rule, action, 56),
	FIELD(cman_rule, max_idle_s, 60),
	FIELD(cman_rule, max_sessions, 64),
	SIZE(cman_listener, 64),
	FIELD(cman_listener, name, 0),
	FIELD(cman_listener, addr, 32),
	FIELD(cman_listener, port_first, 48),
	FIELD(cman_listener, port_last, 50),
	FIELD(cman_listener, family, 52),
	FIELD(cman_listener, service, 54),
	FIELD(cman_listener, used, 56),
	FIELD(cman_listener, tls, 60),
	SIZE(cman_instance, 16544),
	FIELD(cman_instance, abi, 0),
	FIELD(cman_instance, state, 4),
	FIELD(cman_instance, alias, 8),
	FIELD(cman_instance, version, 40),
	FIELD(cman_instance, gateways, 72),
	FIELD(cman_instance, slots_per_cell, 76),
	FIELD(cman_instance, max_sessions, 80),
	FIELD(cman_instance, accepting, 84),
	FIELD(cman_instance, nrules, 88),
	FIELD(cman_instance, log_level, 92),
	FIELD(cman_instance, config_generation, 96),
	FIELD(cman_instance, manager_pid, 100),
	FIELD(cman_instance, started_ns, 104),
	FIELD(cman_instance, id_base, 112),
	FIELD(cman_instance, crash_point, 120),
	FIELD(cman_instance, crash_count, 124),
	FIELD(cman_instance, crash_also, 128),
	FIELD(cman_instance, crash_hits, 132),
	FIELD(cman_instance, listener, 136),
	SIZE(cman_address_key, 20),
	FIELD(cman_address_key, addr, 0),
	FIELD(cman_address_key, port, 16),
	FIELD(cman_address_key, family, 18),
	SIZE(cman_address, 8),
	FIELD(cman_address, listener, 0),
	FIELD(cman_address, service, 4),
	SIZE(cman_rule_key, 24),
	FIELD(cman_rule_key, prefix_len, 0),
	FIELD(cman_rule_key, service, 4),
	FIELD(cman_rule_key, source, 8),
	SIZE(cman_rule_value, 8),
	FIELD(cman_rule_value, action, 0),
	FIELD(cman_rule_value, rule, 4),
	SIZE(cman_counters, 48),
	FIELD(cman_counters, steered, 0),
	FIELD(cman_counters, rejected, 8),
	FIELD(cman_counters, dropped, 16),
	FIELD(cman_counters, held, 24),
	FIELD(cman_counters, no_listener, 32),
	FIELD(cman_counters, assign_failed, 40),
};

Test(layout, golden)
{
	cr_assert_eq(CMAN_ABI, 2, "these are the numbers of ABI 2");
	for (size_t i = 0; i < sizeof(layout) / sizeof(layout[0]); i++)
		cr_expect_eq(layout[i].is, layout[i].golden, "%s is %zu, was %zu", layout[i].what,
			     layout[i].is, layout[i].golden);
}

Test(layout, numbers)
{
	/* written into the ledger, so they must not move either */
	cr_expect_eq(CMAN_SLOT_FREE, 0);
	cr_expect_eq(CMAN_SLOT_RESERVED, 1);
	cr_expect_eq(CMAN_SLOT_PREPARED, 2);
	cr_expect_eq(CMAN_SLOT_ACCEPTED, 3);
	cr_expect_eq(CMAN_SLOT_CONNECTING, 4);
	cr_expect_eq(CMAN_SLOT_RELAYING, 5);
	cr_expect_eq(CMAN_SLOT_LEAVING, 6);
	cr_expect_eq(CMAN_SLOT_CLOSING, 7);
	cr_expect_eq(CMAN_BOUND_BUFFER, 0x40000000u);
	cr_expect_eq(CMAN_BOUND_PIPE, 0x80000000u);
	cr_expect_eq(CMAN_HOLD_INET, 128);
	cr_expect_eq(CMAN_HOLD_INET6, 129);
	cr_expect_eq(CMAN_SOCKMAP_SIZE, 130);
	cr_expect_eq(CMAN_PIPES_PER_CELL, 2048);
	cr_expect_eq(CMAN_BUFFER_SIZE, 16384);
}

/* A rescue finds the ABI where every release has it. */
Test(layout, abi_is_first)
{
	struct cman_instance instance = { .abi = 7 };

	cr_expect_eq(*(const __u32 *)&instance, 7);
}

/* The slots of two sessions share no cache line. */
Test(layout, slots_do_not_share_lines)
{
	cr_expect_eq(sizeof(struct cman_slot) % 64, 0);
}
