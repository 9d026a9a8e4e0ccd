// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the verified streams carry: 64-bit words of splitmix64 over (seed of the session, position),
 * so that every byte depends on both and a lost, repeated, reordered or foreign byte shows at its
 * exact offset. Nothing is stored: any stretch is generated again from its position.
 * Also the periodic buffer of the bulk source, which costs nothing to send.
 */
#include "bench.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GOLDEN	    0x9e3779b97f4a7c15ull
#define REPLY_SALT  0x5bd1e995c0a4b3d1ull
#define SOURCE_SEED 0x636d616e2d736f75ull

static inline uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline uint64_t word_at(uint64_t seed, uint64_t index)
{
	return htole64(mix(seed + index * GOLDEN));
}

uint64_t pattern_seed(uint64_t run, uint64_t session, uint64_t generation)
{
	return mix(run + mix(session + 1) * 3 + mix(generation + 0x1000) * 5);
}

/* What a holding server answers with is derived from what it was sent. */
uint64_t pattern_reply_seed(uint64_t seed)
{
	return mix(seed ^ REPLY_SALT);
}

void pattern_fill(uint64_t seed, uint64_t pos, void *buf, size_t len)
{
	unsigned char *p = buf;
	uint64_t index = pos / 8, w;
	size_t skip = pos % 8, n;

	if (skip) {
		n = len < 8 - skip ? len : 8 - skip;
		w = word_at(seed, index++);
		memcpy(p, (unsigned char *)&w + skip, n);
		p += n;
		len -= n;
	}
	for (; len >= 8; len -= 8, p += 8) {
		w = word_at(seed, index++);
		memcpy(p, &w, 8);
	}
	if (len) {
		w = word_at(seed, index);
		memcpy(p, &w, len);
	}
}

/* How many bytes differ from the pattern at pos; *ret_first is the first of them, if any. */
uint64_t pattern_check(uint64_t seed, uint64_t pos, const void *buf, size_t len, size_t *ret_first)
{
	const unsigned char *p = buf;
	uint64_t wrong = 0;
	size_t at = 0;

	while (at < len) {
		size_t skip = (pos + at) % 8, n = 8 - skip, i;
		uint64_t w = word_at(seed, (pos + at) / 8);

		if (n > len - at)
			n = len - at;
		if (memcmp(p + at, (unsigned char *)&w + skip, n)) {
			for (i = 0; i < n; i++) {
				if (p[at + i] == ((unsigned char *)&w)[skip + i])
					continue;
				if (!wrong++)
					*ret_first = at + i;
			}
		}
		at += n;
	}
	return wrong;
}

/*
 * Does the sample, which arrived at pos, belong to another place within reach of this stream?
 * A positive shift means that as many bytes before it were lost.
 */
bool pattern_find(uint64_t seed, uint64_t pos, uint64_t reach, const void *sample, size_t len,
		  int64_t *ret_shift)
{
	uint64_t from = pos > reach ? pos - reach : 0;
	size_t span = (size_t)(pos + reach - from) + len;
	unsigned char *buf, *hit;

	if (len < 8)
		return false; /* too short to tell */
	buf = malloc(span);
	if (!buf)
		return false;
	pattern_fill(seed, from, buf, span);
	hit = memmem(buf, span, sample, len);
	if (hit)
		*ret_shift = (int64_t)(from + (uint64_t)(hit - buf)) - (int64_t)pos;
	free(buf);
	return hit != NULL;
}

/*
 * SOURCE_PERIOD bytes of pattern, repeated far enough that SOURCE_SPAN bytes can be sent from any
 * offset below the period, as memory and as a memfd for sendfile(). Lives until exit.
 */
int source_open(const unsigned char **ret_data, int *ret_memfd)
{
	size_t len = SOURCE_PERIOD + SOURCE_SPAN;
	unsigned char *p;
	int fd, err;

	fd = memfd_create("cman-bench-source", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)len) < 0)
		goto err_close;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		goto err_close;
	pattern_fill(SOURCE_SEED, 0, p, SOURCE_PERIOD);
	memcpy(p + SOURCE_PERIOD, p, SOURCE_SPAN);
	*ret_data = p;
	*ret_memfd = fd;
	return 0;

err_close:
	err = -errno;
	close(fd);
	return err;
}
