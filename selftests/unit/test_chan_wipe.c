// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a channel leaves behind: nothing. The state of TLS travels in frames; each buffer that had one is
 * wiped before it is given up, on both sides, whether the frame went at once, had to wait, was never
 * sent, or came in a buffer that grew.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/core/wire.h"
#include "usr/sys/chan.h"

static const uint8_t secret[32] = "this must not stay in the memory";
static unsigned int wiped; /* buffers that had it */

/* Instead of libc's, for this program: does the same and counts. */
void explicit_bzero(void *p, size_t n)
{
	/* libc declares that it does not read what is there */
	const void *volatile there = p;

	wiped += n && memmem(there, n, secret, sizeof(secret));
	memset(p, 0, n);
	__asm__ volatile("" : : "r"(p) : "memory");
}

static struct cman_chan a, b;

static void begin(void)
{
	int s[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	cman_chan_init(&a, s[0]);
	cman_chan_init(&b, s[1]);
}

static void end(void)
{
	cman_chan_fini(&a);
	cman_chan_fini(&b);
}

TestSuite(chan_wipe, .init = begin, .fini = end, .timeout = 60);

/* A piece of an image, @len bytes, with the secret at its beginning. */
static void make(struct cman_frame_writer *w, size_t len)
{
	uint8_t *chunk = calloc(1, len);

	memcpy(chunk, secret, sizeof(secret));
	cman_frame_begin(w, CMAN_FRAME_IMAGE, 0);
	cman_frame_add_u64(w, CMAN_TAG_BATCH_ID, 7);
	cman_frame_add_bytes(w, CMAN_TAG_CHUNK, chunk, len);
	free(chunk);
	wiped = 0;
}

Test(chan_wipe, a_frame_that_goes_at_once)
{
	struct cman_frame_writer w;
	struct cman_frame f;

	make(&w, 100);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	cr_assert_eq(wiped, 1, "the sender's");
	cr_assert_eq(cman_chan_receive(&b, &f, NULL), 0);
	cr_assert_eq(wiped, 1, "it is in use");
	cr_assert_eq(cman_chan_receive(&b, &f, NULL), -EAGAIN);
	cr_assert_eq(wiped, 2, "the receiver's");
}

Test(chan_wipe, a_frame_that_is_in_use_at_the_end)
{
	struct cman_frame_writer w;
	struct cman_frame f;

	make(&w, 100);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	cr_assert_eq(cman_chan_receive(&b, &f, NULL), 0);
	cman_chan_fini(&b);
	cr_assert_eq(wiped, 2);
}

Test(chan_wipe, frames_that_are_never_sent)
{
	struct cman_frame_writer w;
	unsigned int waiting = 0;

	while (waiting < 3) {
		make(&w, 60000);
		cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
		waiting += !wiped;
	}
	wiped = 0;
	cman_chan_fini(&a);
	cr_assert_eq(wiped, 3);
}

Test(chan_wipe, a_buffer_that_grows)
{
	struct cman_frame_writer w;
	struct cman_frame f;
	unsigned int before;
	int err;

	make(&w, 100000);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	before = wiped;
	while ((err = cman_chan_receive(&b, &f, NULL)) == -EAGAIN)
		cman_chan_flush(&a);
	cr_assert_eq(err, 0);
	/* 4 KB, 8, 16, 32, 64: what is in the last one is in use */
	cr_assert_geq(wiped - before, 5);
	cr_assert_eq(cman_chan_receive(&b, &f, NULL), -EAGAIN);
	cr_assert_geq(wiped - before, 6);
}
