/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long sessions were silent while they moved: collected by whoever makes the report.
 */
#include <stdlib.h>

#include "usr/manager/manager.h"

void gaps_add(struct gaps *g, uint32_t us, uint32_t n)
{
	if (g->n + n > g->size) {
		uint32_t size = (g->n + n) * 2;
		uint32_t *more = realloc(g->us, size * sizeof(*more));

		if (!more)
			return;
		g->us = more;
		g->size = size;
	}
	for (uint32_t k = 0; k < n; k++)
		g->us[g->n++] = us;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static json_int_t percentile(const struct gaps *g, unsigned int permille)
{
	return g->n ? g->us[(uint64_t)(g->n - 1) * permille / 1000] : 0;
}

json_t *gaps_json(struct gaps *g)
{
	qsort(g->us, g->n, sizeof(*g->us), compare);
	return json_pack("{s:I,s:I,s:I}", "p50", percentile(g, 500), "p99", percentile(g, 990),
			 "max", percentile(g, 1000));
}

void gaps_free(struct gaps *g)
{
	free(g->us);
	*g = (struct gaps){ 0 };
}
