/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper's loop: one poll(2) over the pidfds of the other roles, the listening socket of the
 * cell, and at most one manager. The manager's orders are three: GIVE (send these descriptors),
 * TAKE (here are descriptors: tell me their numbers), DROP (close these numbers).
 */
#include "usr/keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/sys/chan.h"
#include "usr/sys/crash.h"
#include "usr/sys/log.h"
#include "usr/sys/proc.h"

/* slot of own_fd: 0 and 1 are pidfds */
#define OWN_MANAGER CMAN_OWN_FIRST

struct keeper {
	struct cman_cell_env *env;
	struct cman_chan manager;
	bool connected;
	bool queueing; /* marked: an answer waits, with duplicates of its descriptors */
};

/* What is queued holds descriptors that nothing names: no scan meanwhile, and one if we die. */
static void mark_queue(struct keeper *k, bool queueing)
{
	if (queueing == k->queueing)
		return;
	k->queueing = queueing;
	cman_cell_mark(k->env, queueing);
}

static void hang_up(struct keeper *k)
{
	if (!k->connected)
		return;
	cman_cell_mark(k->env, true);
	cman_cell_own(k->env, OWN_MANAGER, 0);
	cman_chan_fini(&k->manager);
	mark_queue(k, false);
	cman_cell_mark(k->env, false);
	k->connected = false;
}

static int reply(struct keeper *k, struct cman_frame_writer *w, const int *fds, unsigned int n)
{
	int err;

	mark_queue(k, true);
	err = cman_chan_send(&k->manager, w, fds, n);
	mark_queue(k, cman_chan_wants_write(&k->manager));
	return err;
}

static int refuse(struct keeper *k, const struct cman_frame *f, const char *why)
{
	struct cman_frame_writer w;

	cman_warn("a request to the keeper was refused", "type=%s why=\"%s\"",
		  cman_frame_type_name(f->type), why);
	cman_frame_begin(&w, CMAN_FRAME_ERROR, f->sequence);
	cman_frame_add_text(&w, CMAN_TAG_TEXT, why);
	return reply(k, &w, NULL, 0);
}

static int hello(struct keeper *k, const struct cman_frame *f)
{
	struct cman_frame_writer w;
	uint8_t min, max;

	if (cman_frame_range(f, &min, &max) ||
	    cman_wire_choose(min, max, CMAN_WIRE_MIN, CMAN_WIRE_MAX) < 0)
		return refuse(k, f, "no version of the keeper's protocol in common");
	cman_frame_begin(&w, CMAN_FRAME_KEEPER_HELLO, f->sequence);
	cman_frame_add_range(&w, CMAN_WIRE_MIN, CMAN_WIRE_MAX);
	cman_frame_add_u32(&w, CMAN_TAG_CELL, k->env->index);
	return reply(k, &w, NULL, 0);
}

static int give(struct keeper *k, const struct cman_frame *f)
{
	struct cman_frame_writer w;
	int fds[CMAN_FRAME_MAX_FDS];
	unsigned int n = 0;
	size_t cursor = 0;
	uint32_t number;

	while (!cman_frame_next_u32(f, CMAN_TAG_FD_NUMBER, &cursor, &number)) {
		if (n == CMAN_FRAME_MAX_FDS)
			return refuse(k, f, "too many descriptors wanted in one frame");
		if (fcntl((int)number, F_GETFD) < 0) /* it would be asked for again and again */
			return refuse(k, f, "a descriptor that is wanted is not open here");
		fds[n++] = (int)number;
	}
	cman_frame_begin(&w, CMAN_FRAME_GIVE, f->sequence);
	CMAN_CRASH(KEEPER_GIVE);
	return reply(k, &w, fds, n);
}

static int take(struct keeper *k, const struct cman_frame *f, const int *fds)
{
	struct cman_frame_writer w;

	CMAN_CRASH(KEEPER_TAKE_GOT);
	cman_frame_begin(&w, CMAN_FRAME_TAKE, f->sequence);
	for (unsigned int i = 0; i < f->nfds; i++)
		cman_frame_add_u32(&w, CMAN_TAG_FD_NUMBER, (uint32_t)fds[i]);
	if (reply(k, &w, NULL, 0)) {
		for (unsigned int i = 0; i < f->nfds; i++)
			close(fds[i]);
		return -EIO;
	}
	CMAN_CRASH(KEEPER_TAKE_TOLD);
	return 0;
}

static int drop(struct keeper *k, const struct cman_frame *f)
{
	struct cman_frame_writer w;
	size_t cursor = 0;
	uint32_t number;

	while (!cman_frame_next_u32(f, CMAN_TAG_FD_NUMBER, &cursor, &number))
		close((int)number);
	cman_frame_begin(&w, CMAN_FRAME_DROP, f->sequence);
	return reply(k, &w, NULL, 0);
}

static void serve(struct keeper *k)
{
	struct cman_frame f;
	int fds[CMAN_FRAME_MAX_FDS];
	int err;

	while (!(err = cman_chan_receive(&k->manager, &f, fds))) {
		if (f.type != CMAN_FRAME_TAKE)
			for (unsigned int i = 0; i < f.nfds; i++)
				close(fds[i]);
		switch (f.type) {
		case CMAN_FRAME_KEEPER_HELLO:
			err = hello(k, &f);
			break;
		case CMAN_FRAME_GIVE:
			err = give(k, &f);
			break;
		case CMAN_FRAME_TAKE:
			err = take(k, &f, fds);
			break;
		case CMAN_FRAME_DROP:
			err = drop(k, &f);
			break;
		default:
			err = refuse(k, &f, "a keeper takes KEEPER_HELLO, GIVE, TAKE and DROP");
		}
		if (err)
			break;
	}
	if (err != -EAGAIN)
		hang_up(k);
}

static void answer_call(struct keeper *k)
{
	struct cman_chan caller;
	uid_t uid;
	pid_t pid;
	int fd;

	cman_cell_mark(k->env, true);
	fd = accept4(k->env->cell->keeper_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		goto out;
	cman_chan_init(&caller, fd);
	if (cman_chan_peer(&caller, &pid, &uid) || (uid && uid != k->env->cell->keeper_uid)) {
		cman_warn("a stranger called the keeper", "pid=%d uid=%u", (int)pid, uid);
		cman_chan_fini(&caller);
		goto out;
	}
	hang_up(k); /* a new manager replaces the old one */
	k->manager = caller;
	k->manager.out_tail = &k->manager.out_head;
	k->connected = true;
	cman_cell_own(k->env, OWN_MANAGER, fd);
out:
	cman_cell_mark(k->env, false);
}

void cman_keeper_start(struct cman_cell_env *env)
{
	struct keeper k = { .env = env };
	char title[64];

	snprintf(title, sizeof(title), "%s %u", env->role == CMAN_KEEPER ? "keeper" : "spare",
		 env->index);
	cman_proc_title(env->maps.instance->alias, title);
	cman_log_init(title);
	cman_crash_init(env->maps.instance, env->cell);
	while (!env->cell->quit) {
		bool changed;
		int timeout = cman_cell_tend(env, &changed);
		struct pollfd p[CMAN_ROLES + 2];
		nfds_t n = 0;

		for (int r = 0; r < CMAN_ROLES; r++)
			if (timeout < 0 && env->pidfd[r] >= 0)
				p[n++] = (struct pollfd){ .fd = env->pidfd[r], .events = POLLIN };
		/* The spare answers only while there is no keeper, so that a manager always
		 * finds the one that it talked to before. */
		if (env->role == CMAN_KEEPER || timeout >= 0 || k.connected)
			p[n++] = (struct pollfd){ .fd = env->cell->keeper_fd, .events = POLLIN };
		if (k.connected)
			p[n++] = (struct pollfd){
				.fd = k.manager.fd,
				.events = POLLIN |
					  (cman_chan_wants_write(&k.manager) ? POLLOUT : 0),
			};
		if (poll(p, n, timeout) <= 0 || env->cell->quit)
			continue;
		for (nfds_t i = 0; i < n; i++) {
			if (!p[i].revents)
				continue;
			if (k.connected && p[i].fd == k.manager.fd) {
				int err = 0;

				if (p[i].revents & POLLOUT)
					err = cman_chan_flush(&k.manager);
				if (!err)
					mark_queue(&k, false);
				if (err && err != -EAGAIN)
					hang_up(&k);
				else
					serve(&k);
			} else if (p[i].fd == env->cell->keeper_fd) {
				answer_call(&k);
			}
		}
	}
	_exit(0);
}
