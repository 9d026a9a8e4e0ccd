/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Order, search and expansion of the rules. The order of `ruletab` is chosen so that the first
 * line that matches is the right one: longest prefix first, of equally long ones the named service
 * before "*". The kernel's trie knows no "*": each such rule is written out for every service, and
 * in the reverse of that order, so that the better rule replaces the worse one of the same key.
 */
#include <stdlib.h>
#include <string.h>

#include "usr/core/config_check.h"
#include "usr/core/rules.h"

int cman_rules_order(const uint8_t source_a[16], uint32_t prefix_a, uint32_t service_a,
		     const uint8_t source_b[16], uint32_t prefix_b, uint32_t service_b)
{
	int r;

	if (prefix_a != prefix_b)
		return prefix_a > prefix_b ? -1 : 1;
	/* CMAN_ANY_SERVICE is the largest number, so "*" is behind every named service */
	if ((service_a == CMAN_ANY_SERVICE) != (service_b == CMAN_ANY_SERVICE))
		return service_a == CMAN_ANY_SERVICE ? 1 : -1;
	r = memcmp(source_a, source_b, 16);
	if (r)
		return r;
	return service_a < service_b ? -1 : service_a > service_b;
}

static int compare(const void *a, const void *b)
{
	const struct cman_rule *x = a, *y = b;
	int r = cman_rules_order(x->source, x->prefix_len, x->service, y->source, y->prefix_len,
				 y->service);

	return r ? r : strncmp(x->name, y->name, CMAN_NAME_LEN);
}

void cman_rules_sort(struct cman_rule *rules, uint32_t n)
{
	if (n > 1)
		qsort(rules, n, sizeof(*rules), compare);
}

static bool in_prefix(const uint8_t addr[16], const uint8_t prefix[16], uint32_t len)
{
	uint8_t mask;

	if (len > 128)
		return false;
	if (memcmp(addr, prefix, len / 8))
		return false;
	if (len % 8 == 0)
		return true;
	mask = (uint8_t)(0xff << (8 - len % 8));
	return ((addr[len / 8] ^ prefix[len / 8]) & mask) == 0;
}

int cman_rules_find(const struct cman_rule *rules, uint32_t n, uint32_t service,
		    const uint8_t addr[16])
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if ((rules[i].service == service || rules[i].service == CMAN_ANY_SERVICE) &&
		    in_prefix(addr, rules[i].source, rules[i].prefix_len))
			return (int)i;
	return -1;
}

uint32_t cman_rules_expand(const struct cman_rule *rules, uint32_t n, uint32_t nservices,
			   void (*emit)(void *arg, uint32_t service, const uint8_t addr[16],
					uint32_t prefix_len, uint32_t action, uint32_t rule),
			   void *arg)
{
	uint32_t i, service, first, last, calls = 0;

	for (i = n; i-- > 0;) {
		const struct cman_rule *rule = &rules[i];

		if (rule->prefix_len > 128)
			continue;
		first = rule->service == CMAN_ANY_SERVICE ? 0 : rule->service;
		last = rule->service == CMAN_ANY_SERVICE ? nservices : rule->service + 1;
		for (service = first; service < last && service < nservices; service++) {
			emit(arg, service, rule->source, rule->prefix_len, rule->action, i);
			calls++;
		}
	}
	return calls;
}
