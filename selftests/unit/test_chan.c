// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Channels over socket pairs: frames cut at every byte, many frames in one write, descriptors in
 * order, too many and too few of them, EOF, MSG_CTRUNC, queued output with a slow reader, Unix
 * sockets by path. Each test counts the open descriptors of its process before and after.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "usr/core/wire.h"
#include "usr/sys/chan.h"

#define ID 0x0000000500000001ull

static int open_before;

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void begin(void)
{
	signal(SIGPIPE, SIG_DFL); /* must not be raised */
	open_before = count_fds();
}

static void end(void)
{
	cr_assert_eq(count_fds(), open_before, "descriptors leak: %d, then %d", open_before,
		     count_fds());
}

TestSuite(chan, .init = begin, .fini = end, .timeout = 60);

/* A descriptor that can be told from others: the read end of a pipe that holds @mark. */
static int marked(char mark)
{
	int p[2];

	cr_assert_eq(pipe2(p, O_CLOEXEC), 0);
	cr_assert_eq(write(p[1], &mark, 1), 1);
	close(p[1]);
	return p[0];
}

static void is_marked(int fd, char mark)
{
	char c = 0;

	cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(read(fd, &c, 1), 1);
	cr_assert_eq(c, mark, "descriptor '%c' instead of '%c'", c, mark);
	close(fd);
}

static void pair(int *raw, struct cman_chan *c)
{
	int sv[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	*raw = sv[0];
	cman_chan_init(c, sv[1]);
}

static void pair_chan(struct cman_chan *a, struct cman_chan *b)
{
	int raw;

	pair(&raw, b);
	cman_chan_init(a, raw);
}

/* Bytes of a frame: COMMIT (no descriptors) or TAKE of @nfds. For the caller to free. */
static struct cman_frame_writer frame(enum cman_frame_type type, uint16_t nfds, uint32_t sequence)
{
	struct cman_frame_writer w;

	cman_frame_begin(&w, type, sequence);
	if (type == CMAN_FRAME_COMMIT)
		cman_frame_add_u64(&w, CMAN_TAG_BATCH_ID, ID);
	cr_assert_eq(cman_frame_finish(&w, nfds), 0);
	return w;
}

/* sendmsg() as any peer may do it */
static void raw_send(int raw, const void *data, size_t len, const int *fds, size_t nfds)
{
	char control[CMSG_SPACE(253 * sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;

	if (nfds) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, nfds * sizeof(int));
	}
	cr_assert_eq(sendmsg(raw, &msg, 0), (ssize_t)len);
}

static void commit(struct cman_frame_writer *w, uint32_t sequence)
{
	cman_frame_begin(w, CMAN_FRAME_COMMIT, sequence);
	cman_frame_add_u64(w, CMAN_TAG_BATCH_ID, ID);
}

static void json(struct cman_frame_writer *w, uint32_t sequence, size_t len)
{
	char *text = malloc(len + 1);

	memset(text, 'a' + (int)(sequence % 26), len);
	text[len] = '\0';
	cman_frame_begin(w, CMAN_FRAME_REPLY, sequence);
	cman_frame_add_text(w, CMAN_TAG_JSON, text);
	free(text);
}

/* ---- frames ---- */

Test(chan, one_frame_there_and_back)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	struct cman_frame f;
	int fds[CMAN_FRAME_MAX_FDS];
	uint64_t id = 0;

	pair_chan(&a, &b);
	cr_assert_eq(cman_chan_receive(&b, &f, fds), -EAGAIN);
	commit(&w, 5);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	cr_assert_null(w.data);
	cr_assert_not(cman_chan_wants_write(&a));
	cr_assert_eq(cman_chan_flush(&a), 0);
	cr_assert_eq(cman_chan_receive(&b, &f, fds), 0);
	cr_assert(f.type == CMAN_FRAME_COMMIT && f.sequence == 5 && f.nfds == 0);
	cr_assert_eq(cman_frame_u64(&f, CMAN_TAG_BATCH_ID, &id), 0);
	cr_assert_eq(id, ID);
	cr_assert_eq(cman_chan_receive(&b, &f, fds), -EAGAIN);
	commit(&w, 6);
	cr_assert_eq(cman_chan_send(&b, &w, NULL, 0), 0);
	cr_assert_eq(cman_chan_receive(&a, &f, NULL), 0);
	cr_assert_eq(f.sequence, 6);
	cman_chan_fini(&a);
	cr_assert_eq(cman_chan_receive(&b, &f, fds), -EPIPE);
	cr_assert_not_null(b.why);
	cr_assert_eq(cman_chan_receive(&b, &f, fds), -ESHUTDOWN);
	cman_chan_fini(&b);
	cman_chan_fini(&b);
}

Test(chan, byte_at_a_time)
{
	struct cman_frame_writer w = frame(CMAN_FRAME_COMMIT, 0, 1),
				 t = frame(CMAN_FRAME_TAKE, 2, 2);
	int raw, two[2] = { marked('x'), marked('y') }, fds[CMAN_FRAME_MAX_FDS];
	struct cman_chan c;
	struct cman_frame f;
	size_t i;

	pair(&raw, &c);
	for (i = 0; i < w.used; i++) {
		cr_assert_eq(cman_chan_receive(&c, &f, fds), -EAGAIN);
		raw_send(raw, w.data + i, 1, NULL, 0);
	}
	cr_assert_eq(cman_chan_receive(&c, &f, fds), 0);
	cr_assert_eq(f.sequence, 1);
	for (i = 0; i < t.used; i++) {
		cr_assert_eq(cman_chan_receive(&c, &f, fds), -EAGAIN);
		raw_send(raw, t.data + i, 1, two, i ? 0 : 2);
	}
	close(two[0]);
	close(two[1]);
	cr_assert_eq(cman_chan_receive(&c, &f, fds), 0);
	cr_assert(f.sequence == 2 && f.nfds == 2);
	is_marked(fds[0], 'x');
	is_marked(fds[1], 'y');
	cman_frame_free(&w);
	cman_frame_free(&t);
	cman_chan_fini(&c);
	close(raw);
}

Test(chan, many_frames_in_one_write)
{
	struct cman_frame_writer w;
	uint8_t all[8192];
	struct cman_chan c;
	struct cman_frame f;
	size_t used = 0;
	uint32_t i;
	int raw, fds[CMAN_FRAME_MAX_FDS];

	pair(&raw, &c);
	for (i = 0; i < 200; i++) {
		w = frame(CMAN_FRAME_COMMIT, 0, i);
		memcpy(all + used, w.data, w.used);
		used += w.used;
		cman_frame_free(&w);
	}
	raw_send(raw, all, used - 3, NULL, 0); /* the last one is not whole */
	for (i = 0; i < 199; i++) {
		cr_assert_eq(cman_chan_receive(&c, &f, fds), 0);
		cr_assert_eq(f.sequence, i);
	}
	cr_assert_eq(cman_chan_receive(&c, &f, fds), -EAGAIN);
	raw_send(raw, all + used - 3, 3, NULL, 0);
	cr_assert_eq(cman_chan_receive(&c, &f, fds), 0);
	cr_assert_eq(f.sequence, 199);
	cman_chan_fini(&c);
	close(raw);
}

Test(chan, eof_within_a_frame)
{
	struct cman_frame_writer w = frame(CMAN_FRAME_TAKE, 1, 1);
	int raw, one, fds[CMAN_FRAME_MAX_FDS];
	struct cman_chan c;
	struct cman_frame f;
	size_t cut;

	for (cut = 1; cut < w.used; cut++) {
		pair(&raw, &c);
		one = marked('a');
		raw_send(raw, w.data, cut, &one, 1);
		close(one);
		close(raw);
		cr_assert_eq(cman_chan_receive(&c, &f, fds), -ECONNRESET);
		cr_assert_str_eq(c.why, "the peer closed the connection within a frame");
		cman_chan_fini(&c);
	}
	cman_frame_free(&w);
}

Test(chan, frames_before_eof_are_read)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	struct cman_frame f;

	pair_chan(&a, &b);
	commit(&w, 1);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	commit(&w, 2);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	cman_chan_fini(&a);
	cr_assert_eq(cman_chan_receive(&b, &f, NULL), 0);
	cr_assert_eq(cman_chan_receive(&b, &f, NULL), 0);
	cr_assert_eq(cman_chan_receive(&b, &f, NULL), -EPIPE);
	cman_chan_fini(&b);
}

Test(chan, bad_frames_kill_the_channel_with_a_reason)
{
	static const struct {
		const char *bytes;
		size_t len;
		int err;
		const char *why;
	} bad[] = {
		{ "GET / HTTP/1.1\r\n\r\n", 18, -EPROTO,
		  "the frame does not begin with the magic \"CMAN\"" },
		{ "CMAN\2\27\0\0\0\0\0\0\0\0\0\1", 16, -EPROTONOSUPPORT,
		  "the version of the frame is not one that this release reads" },
		{ "CMAN\1\377\0\0\0\0\0\0\0\0\0\1", 16, -ENOMSG,
		  "the type of the frame is unknown" },
		{ "CMAN\1\1\0\0\377\0\0\0\0\0\0\1", 16, -EMSGSIZE,
		  "the payload of the frame is longer than 8 MiB" },
		{ "CMAN\1\62\0\375\0\0\0\0\0\0\0\1", 16, -EMSGSIZE,
		  "the frame has more than 252 descriptors" },
		{ "CMAN\1\27\0\0\0\0\0\0\0\0\0\1", 16, -EBADMSG, "COMMIT: BATCH_ID is missing" },
	};
	struct cman_frame_writer w;
	struct cman_chan c;
	struct cman_frame f;
	size_t i;
	int raw;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		pair(&raw, &c);
		raw_send(raw, bad[i].bytes, bad[i].len, NULL, 0);
		cr_assert_eq(cman_chan_receive(&c, &f, NULL), bad[i].err, "%s", bad[i].why);
		cr_assert_str_eq(c.why, bad[i].why);
		cr_assert_eq(cman_chan_receive(&c, &f, NULL), -ESHUTDOWN);
		/* the reason can still be sent */
		cman_frame_begin(&w, CMAN_FRAME_ERROR, 1);
		cman_frame_add_text(&w, CMAN_TAG_TEXT, c.why);
		cr_assert_eq(cman_chan_send(&c, &w, NULL, 0), 0);
		cman_chan_fini(&c);
		close(raw);
	}
}

Test(chan, a_claimed_length_costs_no_memory)
{
	struct cman_chan c;
	struct cman_frame f;
	int raw;

	pair(&raw, &c);
	raw_send(raw, "CMAN\1\3\0\0\0\200\0\0\0\0\0\1abcd", 20, NULL, 0);
	cr_assert_eq(cman_chan_receive(&c, &f, NULL), -EAGAIN);
	cr_assert_leq(c.in_size, 4096);
	cman_chan_fini(&c);
	close(raw);
}

/* ---- descriptors ---- */

Test(chan, descriptors_in_order_over_several_frames)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	struct cman_frame f;
	int out[26], fds[CMAN_FRAME_MAX_FDS], i, n, next = 0;

	pair_chan(&a, &b);
	for (i = 0; i < 26; i++)
		out[i] = marked((char)('a' + i));
	/* 1, 0, 2, 0, 3, ... 6 descriptors: 21, with frames without any in between */
	for (n = 1; n <= 6; n++) {
		cman_frame_begin(&w, CMAN_FRAME_TAKE, 1);
		cr_assert_eq(cman_chan_send(&a, &w, out + next, (unsigned int)n), 0);
		next += n;
		commit(&w, 2);
		cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	}
	for (i = 0; i < 26; i++)
		close(out[i]);
	next = 0;
	for (n = 1; n <= 6; n++) {
		cr_assert_eq(cman_chan_receive(&b, &f, fds), 0);
		cr_assert_eq(f.nfds, n);
		for (i = 0; i < n; i++)
			is_marked(fds[i], (char)('a' + next++));
		cr_assert_eq(cman_chan_receive(&b, &f, fds), 0);
		cr_assert(f.type == CMAN_FRAME_COMMIT && f.nfds == 0);
	}
	cr_assert_eq(next, 21);
	cman_chan_fini(&a);
	cman_chan_fini(&b);
}

Test(chan, as_many_descriptors_as_a_frame_may_have)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	struct cman_frame f;
	int out[CMAN_FRAME_MAX_FDS + 1], fds[CMAN_FRAME_MAX_FDS], i;

	pair_chan(&a, &b);
	for (i = 0; i <= CMAN_FRAME_MAX_FDS; i++)
		out[i] = i < 2 ? marked("pq"[i]) : out[1];
	cman_frame_begin(&w, CMAN_FRAME_TAKE, 1);
	cr_assert_eq(cman_chan_send(&a, &w, out, CMAN_FRAME_MAX_FDS), 0);
	cr_assert_eq(cman_chan_receive(&b, &f, fds), 0);
	cr_assert_eq(f.nfds, CMAN_FRAME_MAX_FDS);
	is_marked(fds[0], 'p');
	is_marked(fds[251], 'q');
	for (i = 1; i < 251; i++)
		close(fds[i]);

	cman_frame_begin(&w, CMAN_FRAME_TAKE, 1);
	cr_assert_eq(cman_chan_send(&a, &w, out, CMAN_FRAME_MAX_FDS + 1), -EMSGSIZE);
	cr_assert_null(w.data);
	/* nothing of it went out */
	commit(&w, 9);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	cr_assert_eq(cman_chan_receive(&b, &f, fds), 0);
	cr_assert_eq(f.sequence, 9);
	close(out[0]);
	close(out[1]);
	cman_chan_fini(&a);
	cman_chan_fini(&b);
}

/*
 * A peer sends two frames; with the first byte of part @at of the stream come @nfds descriptors.
 * The receiver gets @before whole frames and then @err.
 */
static void misplaced(enum cman_frame_type first, uint16_t first_nfds, size_t at, size_t nfds,
		      int before, int err, const char *why)
{
	struct cman_frame_writer w = frame(first, first_nfds, 1), v = frame(CMAN_FRAME_TAKE, 1, 2);
	int raw, one = marked('m'), all[253], fds[CMAN_FRAME_MAX_FDS], got, n = 0, i;
	uint8_t bytes[256];
	struct cman_chan c;
	struct cman_frame f;

	memcpy(bytes, w.data, w.used);
	memcpy(bytes + w.used, v.data, v.used);
	for (i = 0; i < 253; i++)
		all[i] = one;
	pair(&raw, &c);
	if (at)
		raw_send(raw, bytes, at, NULL, 0);
	raw_send(raw, bytes + at, w.used + v.used - at, all, nfds);
	while (!(got = cman_chan_receive(&c, &f, fds))) {
		n++;
		for (i = 0; i < f.nfds; i++)
			close(fds[i]);
	}
	cr_assert_eq(got, err, "%d instead of %d: %s", got, err, why);
	cr_assert_eq(n, before);
	if (why)
		cr_assert_str_eq(c.why, why);
	cr_assert(err == -EAGAIN || !c.nfds);
	close(one);
	cman_frame_free(&w);
	cman_frame_free(&v);
	cman_chan_fini(&c);
	close(raw);
}

Test(chan, too_many_and_too_few_descriptors)
{
	const char *more = "more descriptors came than their frame declares";
	const char *fewer = "fewer descriptors came than their frame declares";
	const size_t commit_len = 30, take_len = 16;

	/* COMMIT declares none, TAKE one: with the first byte of TAKE is right */
	misplaced(CMAN_FRAME_COMMIT, 0, commit_len, 1, 2, -EAGAIN, NULL);
	/* anywhere in COMMIT: none declared there, although TAKE would want one */
	misplaced(CMAN_FRAME_COMMIT, 0, 0, 1, 0, -EBADMSG, more);
	misplaced(CMAN_FRAME_COMMIT, 0, 5, 1, 0, -EBADMSG, more);
	misplaced(CMAN_FRAME_COMMIT, 0, commit_len - 1, 1, 0, -EBADMSG, more);
	/* none at all, two, and the most that the kernel lets through */
	misplaced(CMAN_FRAME_COMMIT, 0, commit_len, 0, 1, -EBADMSG, fewer);
	misplaced(CMAN_FRAME_COMMIT, 0, commit_len, 2, 1, -EBADMSG, more);
	misplaced(CMAN_FRAME_COMMIT, 0, commit_len, 253, 1, -EBADMSG, more);
	misplaced(CMAN_FRAME_COMMIT, 0, 0, 253, 0, -EBADMSG, more);
	/* those of two frames with the first one */
	misplaced(CMAN_FRAME_TAKE, 1, 0, 2, 0, -EBADMSG, more);
	/* of the first one with the second one */
	misplaced(CMAN_FRAME_TAKE, 1, take_len, 1, 0, -EBADMSG, fewer);
	/* its own, but the second one has none */
	misplaced(CMAN_FRAME_TAKE, 2, 0, 2, 1, -EBADMSG, fewer);
}

Test(chan, descriptors_without_a_frame)
{
	struct cman_frame_writer w = frame(CMAN_FRAME_TAKE, 252, 1);
	int raw, one = marked('m'), all[253], i;
	struct cman_chan c;
	struct cman_frame f;
	int fds[CMAN_FRAME_MAX_FDS];

	for (i = 0; i < 253; i++)
		all[i] = one;
	/* a set with each byte, and no end of the header in sight */
	pair(&raw, &c);
	raw_send(raw, w.data, 1, all, 253);
	cr_assert_eq(cman_chan_receive(&c, &f, fds), -EBADMSG);
	cman_chan_fini(&c);
	close(raw);

	pair(&raw, &c);
	raw_send(raw, w.data, 1, all, 252);
	cr_assert_eq(cman_chan_receive(&c, &f, fds), -EAGAIN);
	cr_assert_eq(c.nfds, 252);
	raw_send(raw, w.data + 1, 1, all, 253);
	cr_assert_eq(cman_chan_receive(&c, &f, fds), -EBADMSG);
	cr_assert_eq(c.nfds, 0);
	cman_chan_fini(&c);
	close(raw);

	/* unclaimed ones are closed with the channel; unread ones by the kernel */
	pair(&raw, &c);
	raw_send(raw, w.data, 1, all, 252);
	cr_assert_eq(cman_chan_receive(&c, &f, fds), -EAGAIN);
	raw_send(raw, w.data + 1, 1, all, 100);
	cman_chan_fini(&c);
	close(raw);

	/* a frame whose fields do not agree with its descriptors */
	pair(&raw, &c);
	raw_send(raw, "CMAN\1\22\0\1\0\0\0\0\0\0\0\1", 16, all, 1); /* READY with one */
	cr_assert_eq(cman_chan_receive(&c, &f, fds), -EBADMSG);
	cr_assert_str_eq(c.why, "READY: the number of descriptors is not what its fields need");
	cman_chan_fini(&c);
	close(raw);

	/* a caller that expects none */
	pair(&raw, &c);
	raw_send(raw, w.data, w.used, all, 252);
	cr_assert_eq(cman_chan_receive(&c, &f, NULL), -EBADMSG);
	cman_chan_fini(&c);
	close(raw);
	close(one);
	cman_frame_free(&w);
}

Test(chan, msg_ctrunc)
{
	struct cman_frame_writer w = frame(CMAN_FRAME_TAKE, 3, 1);
	int raw, fds[CMAN_FRAME_MAX_FDS], one = marked('m'), all[3] = { one, one, one };
	struct rlimit old, low;
	struct cman_chan c;
	struct cman_frame f;

	pair(&raw, &c);
	raw_send(raw, w.data, w.used, all, 3);
	/* room for one only */
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	fds[0] = dup(one);
	low.rlim_cur = (rlim_t)fds[0] + 1;
	close(fds[0]);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	cr_assert_eq(cman_chan_receive(&c, &f, fds), -EMFILE);
	cr_assert_str_eq(c.why, "descriptors were lost: this process has none free");
	setrlimit(RLIMIT_NOFILE, &old);
	cr_assert_eq(c.nfds, 0);
	cman_chan_fini(&c);
	close(raw);
	close(one);
	cman_frame_free(&w);
}

/* ---- output ---- */

static void small_buffer(const struct cman_chan *c)
{
	int size = 4096;

	cr_assert_eq(setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
}

Test(chan, queued_output_with_a_slow_reader)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	struct cman_frame f;
	const uint32_t frames = 60;
	int fds[CMAN_FRAME_MAX_FDS], out[2], err;
	uint32_t i, got = 0, turns = 0;
	size_t cursor, n, k;
	const char *text;

	pair_chan(&a, &b);
	small_buffer(&a);
	/* text of up to 70 KB, and every third frame two descriptors, closed as soon as sent */
	for (i = 0; i < frames; i++) {
		if (i % 3 == 2) {
			out[0] = marked((char)('A' + i % 26));
			out[1] = marked((char)('a' + i % 26));
			cman_frame_begin(&w, CMAN_FRAME_TAKE, i);
			cr_assert_eq(cman_chan_send(&a, &w, out, 2), 0);
			close(out[0]);
			close(out[1]);
		} else {
			json(&w, i, 1 + i * 1200);
			cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
		}
	}
	cr_assert(cman_chan_wants_write(&a));
	while (got < frames) {
		err = cman_chan_receive(&b, &f, fds);
		if (err == -EAGAIN) {
			turns++;
			err = cman_chan_flush(&a);
			cr_assert(err == 0 || err == -EAGAIN);
			cr_assert_eq(err == -EAGAIN, cman_chan_wants_write(&a));
			continue;
		}
		cr_assert_eq(err, 0, "%s", b.why);
		cr_assert_eq(f.sequence, got);
		if (got % 3 == 2) {
			is_marked(fds[0], (char)('A' + got % 26));
			is_marked(fds[1], (char)('a' + got % 26));
		} else {
			cursor = 0;
			cr_assert_eq(cman_frame_next_text(&f, CMAN_TAG_JSON, &cursor, &text, &n),
				     0);
			cr_assert_eq(n, 1 + got * 1200);
			for (k = 0; k < n; k++)
				if (text[k] != (char)('a' + got % 26))
					cr_assert_fail("wrong byte");
		}
		got++;
	}
	cr_assert_gt(turns, 10);
	cr_assert_eq(cman_chan_flush(&a), 0);
	cr_assert_not(cman_chan_wants_write(&a));
	cman_chan_fini(&a);
	cman_chan_fini(&b);
}

Test(chan, queued_output_is_freed)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	int one = marked('z'), i;

	pair_chan(&a, &b);
	small_buffer(&a);
	for (i = 0; i < 20; i++) {
		json(&w, 1, 30000);
		cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
		cman_frame_begin(&w, CMAN_FRAME_TAKE, 1);
		cr_assert_eq(cman_chan_send(&a, &w, &one, 1), 0);
	}
	close(one);
	cr_assert(cman_chan_wants_write(&a));
	/* the reader goes away: no SIGPIPE */
	cman_chan_fini(&b);
	cr_assert_eq(cman_chan_flush(&a), -EPIPE);
	cr_assert_str_eq(a.why, "the peer closed the connection");
	cman_chan_fini(&a);
}

Test(chan, no_descriptors_left_to_queue)
{
	struct cman_frame_writer w;
	struct rlimit old, low;
	struct cman_chan a, b;
	int one = marked('z'), two[2] = { one, one }, probe;

	pair_chan(&a, &b);
	small_buffer(&a);
	while (!cman_chan_wants_write(&a)) {
		json(&w, 1, 30000);
		cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	}
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	probe = dup(one);
	low.rlim_cur = (rlim_t)probe + 1;
	close(probe);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	cman_frame_begin(&w, CMAN_FRAME_TAKE, 1);
	cr_assert_eq(cman_chan_send(&a, &w, two, 2), -EMFILE);
	setrlimit(RLIMIT_NOFILE, &old);
	cr_assert_null(w.data);
	close(one);
	cman_chan_fini(&a);
	cman_chan_fini(&b);
}

Test(chan, a_bad_frame_is_not_sent)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	struct cman_frame f;

	pair_chan(&a, &b);
	cman_frame_begin(&w, CMAN_FRAME_COMMIT, 1);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), -EBADMSG);
	cr_assert_str_eq(a.why, "COMMIT: BATCH_ID is missing");
	cr_assert_null(w.data);
	cr_assert_eq(cman_chan_receive(&b, &f, NULL), -EAGAIN);
	commit(&w, 4);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	cr_assert_eq(cman_chan_receive(&b, &f, NULL), 0);
	cman_chan_fini(&a);
	cman_chan_fini(&b);
}

/* ---- blocking use ---- */

Test(chan, wait_for_an_answer)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	struct cman_frame f;
	pid_t pid;
	int status;

	pair_chan(&a, &b);
	cr_assert_eq(cman_chan_wait(&a, 0, &f, NULL), -ETIMEDOUT);
	cr_assert_eq(cman_chan_wait(&a, 30, &f, NULL), -ETIMEDOUT);
	small_buffer(&a);
	pid = fork();
	if (!pid) {
		/* reads the long request late, and answers */
		cman_chan_fini(&a);
		usleep(50000);
		if (cman_chan_wait(&b, -1, &f, NULL) || f.sequence != 1)
			_exit(1);
		commit(&w, 2);
		_exit(cman_chan_send(&b, &w, NULL, 0) != 0);
	}
	cman_chan_fini(&b);
	json(&w, 1, 500000);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	cr_assert(cman_chan_wants_write(&a));
	cr_assert_eq(cman_chan_wait(&a, 10000, &f, NULL), 0);
	cr_assert_eq(f.sequence, 2);
	cr_assert_eq(cman_chan_wait(&a, -1, &f, NULL), -EPIPE);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	cman_chan_fini(&a);
}

Test(chan, wait_reads_the_last_words_of_a_peer)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	struct cman_frame f;

	/* it refuses our long request before it has read all of it */
	pair_chan(&a, &b);
	small_buffer(&a);
	json(&w, 1, 500000);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	cman_frame_begin(&w, CMAN_FRAME_ERROR, 2);
	cman_frame_add_text(&w, CMAN_TAG_TEXT, "no");
	cr_assert_eq(cman_chan_send(&b, &w, NULL, 0), 0);
	cman_chan_fini(&b);
	cr_assert_eq(cman_chan_wait(&a, 1000, &f, NULL), 0);
	cr_assert_eq(f.type, CMAN_FRAME_ERROR);
	cr_assert_lt(cman_chan_wait(&a, 1000, &f, NULL), 0);
	cman_chan_fini(&a);
}

/* ---- Unix sockets by path ---- */

static void temp_dir(char *path)
{
	strcpy(path, "/tmp/cman-test-chan-XXXXXX");
	cr_assert_not_null(mkdtemp(path));
}

static void listen_and_connect(const char *path)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	struct cman_frame f;
	struct stat st;
	int listener, fd, other = -1;
	pid_t pid = 0;
	uid_t uid = 12345;

	cr_assert_eq(cman_unix_connect(path, &fd), -ENOENT);
	cr_assert_eq(cman_unix_listen(path, 0660, &listener), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert(S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0660);
	cr_assert_eq(fcntl(listener, F_GETFD), FD_CLOEXEC);
	/* somebody answers */
	cr_assert_eq(cman_unix_listen(path, 0600, &other), -EADDRINUSE);
	cr_assert_eq(other, -1);
	close(accept(listener, NULL, NULL)); /* that was its question */

	cr_assert_eq(cman_unix_connect(path, &fd), 0);
	cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	cman_chan_init(&a, fd);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert_geq(fd, 0);
	cman_chan_init(&b, fd);
	cr_assert_eq(cman_chan_peer(&b, &pid, &uid), 0);
	cr_assert(pid == getpid() && uid == geteuid());
	cr_assert_eq(cman_chan_peer(&b, NULL, NULL), 0);
	commit(&w, 3);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	cr_assert_eq(cman_chan_receive(&b, &f, NULL), 0);
	cman_chan_fini(&a);
	cman_chan_fini(&b);

	/* stale: nobody listens any more */
	close(listener);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(cman_unix_connect(path, &fd), -ECONNREFUSED);
	cr_assert_eq(cman_unix_listen(path, 0600, &listener), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	close(listener);
	cr_assert_eq(unlink(path), 0);
}

Test(chan, sockets_by_path)
{
	char dir[64], path[128];

	temp_dir(dir);
	snprintf(path, sizeof(path), "%s/cman.sock", dir);
	listen_and_connect(path);
	umask(0);
	listen_and_connect(path);
	rmdir(dir);
}

Test(chan, sockets_by_long_path)
{
	char dir[64], sub[256], path[400];

	temp_dir(dir);
	snprintf(sub, sizeof(sub), "%s/%0150d", dir, 0);
	cr_assert_eq(mkdir(sub, 0700), 0);
	snprintf(path, sizeof(path), "%s/cman.sock", sub);
	cr_assert_gt(strlen(path), 150);
	listen_and_connect(path);
	rmdir(sub);
	rmdir(dir);
}

Test(chan, sockets_that_cannot_be)
{
	char dir[64], path[512];
	int fd = -1, n;

	temp_dir(dir);
	snprintf(path, sizeof(path), "%s/file", dir);
	n = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(n);
	cr_assert_eq(cman_unix_listen(path, 0600, &fd), -EEXIST);
	cr_assert_eq(unlink(path), 0, "it must not be removed");
	cr_assert_eq(symlink("nowhere", path), 0);
	cr_assert_eq(cman_unix_listen(path, 0600, &fd), -EEXIST);
	unlink(path);
	snprintf(path, sizeof(path), "%s/none/s", dir);
	cr_assert_eq(cman_unix_listen(path, 0600, &fd), -ENOENT);
	snprintf(path, sizeof(path), "%s/none/%0200d", dir, 0);
	cr_assert_eq(cman_unix_listen(path, 0600, &fd), -ENOENT);
	snprintf(path, sizeof(path), "%s/%0200d", dir, 0); /* the last part alone is too long */
	cr_assert_eq(cman_unix_listen(path, 0600, &fd), -ENAMETOOLONG);
	cr_assert_eq(cman_unix_connect(path, &fd), -ENAMETOOLONG);
	cr_assert_eq(cman_unix_listen("", 0600, &fd), -EINVAL);
	cr_assert_eq(fd, -1);
	rmdir(dir);
}
