/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arithmetic of a recovery: R and W from counters in every TCP state, with a model of what the
 * kernel counts; what is in between, at the edges; and which closed leg was reset. The same formulas
 * against real sockets: selftests/net/counters.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "usr/core/session.h"

/* A socket from which @read of @came bytes were read, to which @written were written. */
struct model {
	uint64_t came, read, written, unacked;
	bool initiated, fin_in, fin_out;
};

static struct cman_leg leg_of(struct model m, uint8_t state)
{
	return (struct cman_leg){
		.tcp_state = state,
		.initiated = m.initiated,
		.received = m.came + m.fin_in,
		.acked = m.written + m.fin_out + m.initiated - m.unacked,
		.inq = (uint32_t)(m.came - m.read),
		.outq = (uint32_t)m.unacked,
	};
}

static const struct {
	uint8_t state;
	bool fin_in, fin_out;
} states[] = {
	{ TCP_ESTABLISHED, false, false }, { TCP_CLOSE_WAIT, true, false },
	{ TCP_FIN_WAIT1, false, true },	   { TCP_FIN_WAIT2, false, true },
	{ TCP_CLOSING, true, true },	   { TCP_LAST_ACK, true, true },
	{ TCP_TIME_WAIT, true, true },	   { TCP_CLOSE, true, true },
};

Test(session, counters_in_every_state)
{
	for (size_t k = 0; k < sizeof(states) / sizeof(*states); k++)
		for (int initiated = 0; initiated < 2; initiated++)
			for (unsigned int n = 0; n < 27; n++) {
				struct model m = {
					.came = (uint64_t[]){ 0, 1, 5000000000ull }[n % 3],
					.written = (uint64_t[]){ 0, 1, 7000000000ull }[n / 3 % 3],
					.initiated = initiated,
					.fin_in = states[k].fin_in,
					.fin_out = states[k].fin_out,
				};
				struct cman_leg leg;

				m.read = m.came - (n / 9 && m.came ? 1 : 0);
				m.unacked = n / 9 == 2 && m.written ? 1 : 0;
				if (states[k].state == TCP_CLOSE) /* both FINs are through */
					m.unacked = 0;
				leg = leg_of(m, states[k].state);
				cr_expect_eq(cman_leg_fin_received(&leg), m.fin_in);
				cr_expect_eq(cman_leg_fin_sent(&leg), m.fin_out);
				cr_expect_eq(cman_leg_read(&leg), m.read, "state %u R",
					     leg.tcp_state);
				cr_expect_eq(cman_leg_written(&leg), m.written, "state %u W",
					     leg.tcp_state);
			}
}

Test(session, unacknowledged_fin_is_no_byte)
{
	struct cman_leg leg = { .tcp_state = TCP_FIN_WAIT1, .acked = 100, .outq = 1 };

	cr_expect_eq(cman_leg_written(&leg), 100);
}

Test(session, not_connected_yet)
{
	struct cman_leg syn = { .tcp_state = TCP_SYN_SENT, .initiated = true, .outq = 1 };
	struct cman_leg fresh = { .tcp_state = TCP_CLOSE, .initiated = true };

	cr_expect_eq(cman_leg_written(&syn), 0);
	cr_expect_eq(cman_leg_read(&syn), 0);
	cr_expect_eq(cman_leg_written(&fresh), 0);
	cr_expect_eq(cman_leg_read(&fresh), 0);
	cr_expect_not(cman_leg_fin_sent(&fresh));
	cr_expect_not(cman_leg_fin_received(&fresh));
}

Test(session, reset_or_end)
{
	struct cman_leg open = { .tcp_state = TCP_ESTABLISHED, .received = 7 };
	struct cman_leg ended = { .tcp_state = TCP_CLOSE_WAIT, .received = 8 };
	struct cman_leg closed = { .tcp_state = TCP_CLOSE, .received = 8, .acked = 8 };
	struct cman_leg silent = { .tcp_state = TCP_CLOSE, .acked = 8 };

	cr_expect_not(cman_leg_was_reset(&open, &ended));
	cr_expect_not(cman_leg_was_reset(&closed, &ended), "two FINs");
	cr_expect_not(cman_leg_was_reset(&closed, &closed), "two FINs on both");
	cr_expect(cman_leg_was_reset(&closed, &open), "we had no FIN to pass on");
	cr_expect(cman_leg_was_reset(&silent, &ended), "the peer's FIN would count");
}

static int between(uint64_t position, uint32_t bound, uint64_t r, uint64_t w,
		   struct cman_between *b)
{
	struct cman_flow flow = { .position = position };
	struct cman_leg source = { .tcp_state = TCP_ESTABLISHED, .received = r };
	struct cman_leg destination = { .tcp_state = TCP_ESTABLISHED, .acked = w };

	memset(b, 0xee, sizeof(*b));
	return cman_flow_between(&flow, bound, &source, &destination, b);
}

#define HOT    (CMAN_BOUND_BUFFER | CMAN_HOT_BUFFER)
#define PIPE_3 (CMAN_BOUND_PIPE | 3)

Test(session, between_nothing_bound)
{
	struct cman_between b;

	cr_expect_eq(between(500, CMAN_BOUND_NONE, 500, 500, &b), 0);
	cr_expect_eq(b.remain, 0);
	cr_expect_eq(b.offset, 0);
	cr_expect_eq(b.read, 500);
	cr_expect_eq(between(500, CMAN_BOUND_NONE, 501, 500, &b), -EILSEQ, "a byte in no place");
	cr_expect_eq(between(500, CMAN_BOUND_NONE, 500, 501, &b), -EILSEQ, "written, never read");
	cr_expect_eq(b.remain, 0xeeeeeeee, "untouched on failure");
}

Test(session, between_buffer)
{
	struct cman_between b;

	cr_expect_eq(between(100, HOT, 100, 100, &b), 0, "bound, not read yet");
	cr_expect_eq(b.remain, 0);
	cr_expect_eq(between(100, HOT, 100 + CMAN_BUFFER_SIZE, 100, &b), 0, "full");
	cr_expect_eq(b.remain, CMAN_BUFFER_SIZE);
	cr_expect_eq(b.offset, 0);
	cr_expect_eq(between(100, HOT, 300, 150, &b), 0, "written in part");
	cr_expect_eq(b.remain, 150);
	cr_expect_eq(b.offset, 50);
	cr_expect_eq(b.read, 300);
	cr_expect_eq(between(100, HOT, 300, 299, &b), 0, "one byte left");
	cr_expect_eq(b.remain, 1);
	cr_expect_eq(b.offset, 199);
	cr_expect_eq(between(300, HOT, 300, 300, &b), 0, "all written, position advanced");
	cr_expect_eq(b.remain, 0);
	cr_expect_eq(between(100, HOT, 101 + CMAN_BUFFER_SIZE, 100, &b), -EILSEQ, "more than fits");
	cr_expect_eq(between(100, HOT, 101 + CMAN_BUFFER_SIZE, 200, &b), -EILSEQ, "beyond its end");
	cr_expect_eq(between(100, HOT, 150, 99, &b), -EILSEQ, "before its begin");
	cr_expect_eq(between(100, HOT, 150, 151, &b), -EILSEQ, "written, never read");
}

Test(session, between_pipe)
{
	struct cman_between b;

	cr_expect_eq(between(100, PIPE_3, 1000100, 100, &b), 0);
	cr_expect_eq(b.remain, 1000000);
	cr_expect_eq(between(100, PIPE_3, 5000000100ull, 100, &b), -EILSEQ, "no pipe holds that");
	cr_expect_eq(between(100, PIPE_3, 99, 100, &b), -EILSEQ);
}

Test(session, between_restored_legs)
{
	/* the kernel's counters begin anew: the bases say what was before */
	struct cman_flow flow = { .position = 10000, .read_base = 10000, .write_base = 9950 };
	struct cman_leg source = { .tcp_state = TCP_ESTABLISHED, .received = 60 };
	struct cman_leg destination = { .tcp_state = TCP_ESTABLISHED, .acked = 70 };
	struct cman_between b;

	cr_expect_eq(cman_flow_between(&flow, HOT, &source, &destination, &b), 0);
	cr_expect_eq(b.read, 10060);
	cr_expect_eq(b.remain, 40);
	cr_expect_eq(b.offset, 20);
	flow.read_base = -10000; /* negative ones wrap rightly too */
	flow.write_base = -10000;
	source.received = destination.acked = 20000;
	cr_expect_eq(cman_flow_between(&flow, CMAN_BOUND_NONE, &source, &destination, &b), 0);
	cr_expect_eq(b.read, 10000);
}

Test(session, state_names)
{
	for (uint8_t state = CMAN_SLOT_FREE; state <= CMAN_SLOT_HANDSHAKE; state++)
		cr_expect_eq(cman_slot_state_parse(cman_slot_state_name(state)), state);
	cr_expect_str_eq(cman_slot_state_name(9), "?");
	cr_expect_str_eq(cman_slot_state_name(255), "?");
	cr_expect_eq(cman_slot_state_parse("RELAYING"), -EINVAL);
}

/* --- what gateways write is checked before it is an index */

Test(session, a_sane_slot)
{
	const struct cman_slot good = { .state = CMAN_SLOT_RELAYING,
					.bound = { CMAN_BOUND_NONE,
						   CMAN_BOUND_BUFFER | CMAN_SLOT_BUFFER(9, 1) } };
	struct cman_slot s = good;

	cr_assert(cman_slot_sane(&s, 10));
	s.bound[0] = CMAN_BOUND_PIPE | (CMAN_PIPES_PER_CELL - 1);
	cr_assert(cman_slot_sane(&s, 10));
}

Test(session, slots_that_are_not)
{
	const struct cman_slot bad[] = {
		{ .service = CMAN_MAX_SERVICES },
		{ .listener = CMAN_MAX_LISTENERS },
		{ .target = CMAN_MAX_TARGETS },
		{ .rule = CMAN_MAX_RULES + 1 },
		{ .bound = { CMAN_BOUND_BUFFER | CMAN_SLOT_BUFFER(10, 0), 0 } },
		{ .bound = { 0, CMAN_BOUND_PIPE | CMAN_PIPES_PER_CELL } },
		{ .bound = { CMAN_BOUND_BUFFER | CMAN_BOUND_PIPE, 0 } },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_assert(!cman_slot_sane(&bad[i], 10), "case %zu", i);
}
