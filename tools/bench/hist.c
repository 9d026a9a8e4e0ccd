// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Log-linear histogram of 64-bit values: exact below 128, then 128 steps per power of two, so a
 * quantile is at most 0.8 % too high and never too low. Count, sum, minimum and maximum are exact.
 * No allocation and no floating point when a value is added.
 */
#include "bench.h"

#include <math.h>

static unsigned int bucket_of(uint64_t v)
{
	unsigned int shift;

	if (v < (1u << HIST_BITS))
		return (unsigned int)v;
	shift = 63 - HIST_BITS - (unsigned int)__builtin_clzll(v);
	return ((shift + 1) << HIST_BITS) + (unsigned int)((v >> shift) - (1u << HIST_BITS));
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_top(unsigned int b)
{
	unsigned int shift;
	uint64_t base;

	if (b < (1u << HIST_BITS))
		return b;
	shift = (b >> HIST_BITS) - 1;
	base = (b & ((1u << HIST_BITS) - 1)) + (1u << HIST_BITS);
	return (base << shift) + ((1ull << shift) - 1);
}

void hist_add(struct hist *h, uint64_t value)
{
	if (!h->count || value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
	h->count++;
	h->sum += value;
	h->bucket[bucket_of(value)]++;
}

void hist_merge(struct hist *to, const struct hist *from)
{
	unsigned int i;

	if (!from->count)
		return;
	if (!to->count || from->min < to->min)
		to->min = from->min;
	if (from->max > to->max)
		to->max = from->max;
	to->count += from->count;
	to->sum += from->sum;
	for (i = 0; i < HIST_BUCKETS; i++)
		to->bucket[i] += from->bucket[i];
}

uint64_t hist_quantile(const struct hist *h, double q)
{
	uint64_t rank, seen = 0, top;
	unsigned int i;

	if (!h->count)
		return 0;
	rank = (uint64_t)ceil(q * (double)h->count);
	if (rank < 1)
		rank = 1;
	for (i = 0; i < HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= rank)
			break;
	}
	if (i == HIST_BUCKETS)
		return h->max;
	top = bucket_top(i);
	return top < h->max ? top : h->max;
}

json_t *hist_json(const struct hist *h, double unit)
{
	static const struct {
		const char *name;
		double q;
	} quantiles[] = {
		{ "p50", 0.5 },
		{ "p90", 0.9 },
		{ "p99", 0.99 },
		{ "p999", 0.999 },
	};
	json_t *o = json_object();
	size_t i;

	report_u64(o, "count", h->count);
	report_real(o, "min", (double)h->min / unit);
	report_real(o, "mean", h->count ? (double)h->sum / (double)h->count / unit : 0);
	for (i = 0; i < ARRAY_SIZE(quantiles); i++)
		report_real(o, quantiles[i].name, (double)hist_quantile(h, quantiles[i].q) / unit);
	report_real(o, "max", (double)h->max / unit);
	return o;
}
