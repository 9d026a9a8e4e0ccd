/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rules: which source may open sessions of which service. Pure: used by the manager to fill the
 * kernel's trie and `ruletab`, and by the gateways to find the limits of a new session. The
 * longest source prefix wins; of two equally long ones the named service beats "*"; two equal
 * rules are a configuration error. Rules but no match: reject. No rules at all: accept.
 */
#ifndef CMAN_CORE_RULES_H
#define CMAN_CORE_RULES_H

#include <stddef.h>
#include <stdint.h>

#include "bpf/cman_maps.h"

/* Sorts as `ruletab` is sorted: the first match is the right one. */
void cman_rules_sort(struct cman_rule *rules, uint32_t n);

/* Index of the rule for a client of a service, or -1 when none matches. @rules is sorted. */
int cman_rules_find(const struct cman_rule *rules, uint32_t n, uint32_t service,
		    const uint8_t addr[16]);

/*
 * What the trie must hold so that its longest match for (service, address) is what
 * cman_rules_find() says: "*" rules are written out once for each of @nservices. Calls @emit for
 * each entry, later ones replacing earlier ones of the same key. Returns the number of calls.
 */
uint32_t cman_rules_expand(const struct cman_rule *rules, uint32_t n, uint32_t nservices,
			   void (*emit)(void *arg, uint32_t service, const uint8_t addr[16],
					uint32_t prefix_len, uint32_t action, uint32_t rule),
			   void *arg);

#endif
