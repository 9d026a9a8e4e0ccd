/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules against a model that is too simple to be wrong: look at every rule, keep the best that
 * matches. And the expansion for the kernel's trie against the search: both must answer the same
 * for every service and address. Random with a fixed seed; addresses from a small set, so that
 * prefixes really meet.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/rules.h"

#define MAX_ENTRIES 4096
#define SERVICES    4

static uint64_t seed;

static uint32_t below(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 16) % n);
}

static bool bit(const uint8_t addr[16], uint32_t i)
{
	return addr[i / 8] >> (7 - i % 8) & 1;
}

static bool model_match(const uint8_t addr[16], const uint8_t prefix[16], uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		if (bit(addr, i) != bit(prefix, i))
			return false;
	return true;
}

/* The best rule in any order of rules; ties only between equal rules. */
static int model_find(const struct cman_rule *rules, uint32_t n, uint32_t service,
		      const uint8_t addr[16])
{
	int best = -1;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const struct cman_rule *r = &rules[i];

		if (r->service != service && r->service != CMAN_ANY_SERVICE)
			continue;
		if (!model_match(addr, r->source, r->prefix_len))
			continue;
		if (best < 0 || r->prefix_len > rules[best].prefix_len ||
		    (r->prefix_len == rules[best].prefix_len && r->service != CMAN_ANY_SERVICE &&
		     rules[best].service == CMAN_ANY_SERVICE))
			best = (int)i;
	}
	return best;
}

struct entry {
	uint32_t service, len, action, rule;
	uint8_t addr[16];
};

struct trie {
	struct entry entry[MAX_ENTRIES];
	uint32_t n;
};

static void trie_add(void *arg, uint32_t service, const uint8_t addr[16], uint32_t prefix_len,
		     uint32_t action, uint32_t rule)
{
	struct trie *t = arg;
	uint32_t i;

	for (i = 0; i < t->n; i++)
		if (t->entry[i].service == service && t->entry[i].len == prefix_len &&
		    model_match(addr, t->entry[i].addr, prefix_len))
			break;
	cr_assert_lt(i, MAX_ENTRIES);
	t->entry[i] = (struct entry){ service, prefix_len, action, rule, { 0 } };
	memcpy(t->entry[i].addr, addr, 16);
	if (i == t->n)
		t->n++;
}

static const struct entry *trie_find(const struct trie *t, uint32_t service, const uint8_t addr[16])
{
	const struct entry *best = NULL;
	uint32_t i;

	for (i = 0; i < t->n; i++)
		if (t->entry[i].service == service &&
		    model_match(addr, t->entry[i].addr, t->entry[i].len) &&
		    (!best || t->entry[i].len > best->len))
			best = &t->entry[i];
	return best;
}

/* IPv4 mostly, few values of each byte. */
static void random_address(uint8_t addr[16])
{
	static const uint8_t bytes[] = { 0, 10, 11, 128, 255 };
	uint32_t i;

	memset(addr, 0, 16);
	if (below(4)) {
		addr[10] = addr[11] = 0xff;
		for (i = 12; i < 16; i++)
			addr[i] = bytes[below(5)];
	} else {
		for (i = 0; i < 16; i++)
			addr[i] = below(3) ? 0 : bytes[below(5)];
	}
}

static void random_rule(struct cman_rule *r, uint32_t number)
{
	uint32_t i;

	memset(r, 0, sizeof(*r));
	snprintf(r->name, sizeof(r->name), "r%u", number);
	random_address(r->source);
	r->prefix_len = below(3) ? 96 + below(5) * 8 : below(129);
	for (i = r->prefix_len; i < 128; i++)
		r->source[i / 8] &= (uint8_t) ~(0x80 >> (i % 8));
	r->service = below(2) ? CMAN_ANY_SERVICE : below(SERVICES);
	r->action = below(3);
}

static void run(uint32_t max_rules, uint32_t rounds)
{
	static struct cman_rule rules[64], sorted[64];
	static struct trie trie;
	uint32_t round, n, i, j, probe;

	for (round = 0; round < rounds; round++) {
		n = below(max_rules + 1);
		for (i = 0; i < n; i++)
			random_rule(&rules[i], i);
		memcpy(sorted, rules, sizeof(sorted));
		cman_rules_sort(sorted, n);
		for (j = 1; j < n; j++)
			cr_assert_geq(sorted[j - 1].prefix_len, sorted[j].prefix_len);
		trie.n = 0;
		cman_rules_expand(sorted, n, SERVICES, trie_add, &trie);

		for (probe = 0; probe < 60; probe++) {
			uint32_t service = below(SERVICES);
			uint8_t addr[16];
			const struct entry *e;
			int want, got;

			random_address(addr);
			if (n && below(2))
				memcpy(addr, rules[below(n)].source, 16);
			want = model_find(rules, n, service, addr);
			got = cman_rules_find(sorted, n, service, addr);
			e = trie_find(&trie, service, addr);
			cr_assert_eq(want < 0, got < 0);
			cr_assert_eq(got < 0, !e);
			if (got < 0)
				continue;
			cr_assert_eq(rules[want].prefix_len, sorted[got].prefix_len);
			cr_assert_eq(rules[want].service, sorted[got].service);
			cr_assert_eq(e->rule, (uint32_t)got);
			cr_assert_eq(e->action, sorted[got].action);
		}
	}
}

Test(rules, few_against_model)
{
	seed = 0x9e3779b97f4a7c15;
	run(6, 4000);
}

Test(rules, many_against_model)
{
	seed = 0xd1b54a32d192ed03;
	run(64, 300);
}

static struct cman_rule rule(const char *name, uint8_t first, uint32_t len, uint32_t service)
{
	struct cman_rule r = { .prefix_len = 96 + len,
			       .service = service,
			       .source = { [10] = 0xff, 0xff, first } };

	strcpy(r.name, name);
	return r;
}

Test(rules, longest_prefix_then_named_service)
{
	struct cman_rule rules[] = { rule("any8", 10, 8, CMAN_ANY_SERVICE), rule("pg8", 10, 8, 1),
				     rule("any0", 0, 0, CMAN_ANY_SERVICE),
				     rule("any16", 10, 16, CMAN_ANY_SERVICE) };
	const uint8_t near[16] = { [10] = 0xff, 0xff, 10, 0, 1, 1 };
	const uint8_t far[16] = { [10] = 0xff, 0xff, 10, 9, 1, 1 };
	const uint8_t other[16] = { [10] = 0xff, 0xff, 11, 9, 1, 1 };
	const uint8_t ipv6[16] = { [15] = 1 };

	cman_rules_sort(rules, 4);
	cr_assert_str_eq(rules[cman_rules_find(rules, 4, 1, near)].name, "any16");
	cr_assert_str_eq(rules[cman_rules_find(rules, 4, 1, far)].name, "pg8");
	cr_assert_str_eq(rules[cman_rules_find(rules, 4, 0, far)].name, "any8");
	cr_assert_str_eq(rules[cman_rules_find(rules, 4, 0, other)].name, "any0");
	cr_assert_eq(cman_rules_find(rules, 4, 0, ipv6), -1);
	cr_assert_eq(cman_rules_find(rules, 0, 0, near), -1);
}

Test(rules, prefix_zero_matches_every_client)
{
	struct cman_rule all = { .prefix_len = 0, .service = CMAN_ANY_SERVICE };
	const uint8_t v4[16] = { [10] = 0xff, 0xff, 10, 0, 1, 1 }, v6[16] = { 0x20, 1 };

	cr_assert_eq(cman_rules_find(&all, 1, 0, v4), 0);
	cr_assert_eq(cman_rules_find(&all, 1, 7, v6), 0);
}

static void count(void *arg, uint32_t service, const uint8_t addr[16], uint32_t prefix_len,
		  uint32_t action, uint32_t index)
{
	(void)addr, (void)prefix_len, (void)action, (void)index;
	cr_assert_lt(service, 3);
	++*(uint32_t *)arg;
}

Test(rules, expansion_counts)
{
	struct cman_rule rules[] = { rule("a", 10, 8, CMAN_ANY_SERVICE), rule("b", 10, 8, 1),
				     rule("gone", 10, 8, 3) };
	uint32_t calls = 0;

	cman_rules_sort(rules, 3);
	cr_assert_eq(cman_rules_expand(rules, 3, 3, count, &calls), 4);
	cr_assert_eq(calls, 4);
	cr_assert_eq(cman_rules_expand(rules, 3, 0, count, &calls), 0);
	cr_assert_eq(cman_rules_expand(rules, 0, 3, count, &calls), 0);
}
