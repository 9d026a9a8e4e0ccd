/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking sessions without the other's help: from an instance that hangs, or whose manager died in
 * the middle of a handover. Its processes are stopped, not killed: so they hold every socket until
 * the last session is relayed here. Descriptors are copied out of a stopped keeper with
 * pidfd_getfd(2), everything else is in its pinned ledger; then recovery goes on as after any
 * crash. Who owns a batch that was on its way say the journals (cman_handover_owner()).
 *
 *	stop keepers and gateway -> kill the gateway -> batch by batch: reserve, take, fill,
 *	activate -> kill the keepers -> remove files and pins
 *
 * A manager that dies in between loses nothing: its successor begins again, and skips the sessions
 * that are here already.
 */
#include "usr/manager/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "usr/core/rules.h"
#include "usr/core/session.h"
#include "usr/manager/peer.h"
#include "usr/manager/repair.h"
#include "usr/manager/tls_move.h"
#include "usr/sys/crash.h"
#include "usr/sys/hold.h"
#include "usr/sys/log.h"
#include "usr/sys/proc.h"
#include "usr/sys/secret.h"
#include "usr/sys/sock.h"
#include "usr/sys/tls_cell.h"

#define STOP_MS	  1000
#define RETRY_MS  200
#define RETIRE_MS 200 /* to take a session back from the kernel */
#define RETRIES	  20
#define MARK_MS	  100 /* a gateway that does not come out of a mark in this time hangs in it */
#define BATCH	  32

struct origin { /* a cell of the other instance */
	struct cman_cell *shared;
	struct cman_slot *slots;
	struct cman_pipe *pipes;
	int keeper; /* pidfd of a stopped process with the table; -1: none lives */
	pid_t pid[CMAN_ROLES];
	uid_t uid;	  /* that the cells run as */
	bool was_stopped; /* by somebody else: not ours to let go on */
	uint8_t *buffers;
	size_t buffers_size;
	uint8_t *secret;
};

struct rescue {
	struct manager *m;
	char name[CMAN_NAME_LEN + 4];
	int lock_fd;
	struct cman_maps maps;
	struct cman_splice splice;
	struct cman_journal journal; /* the other's */
	struct origin origin[CMAN_MAX_GATEWAYS];
	uint32_t cell, next; /* the search goes on at origin[cell].slots[next] */
	uint32_t moved, lost;
	/* the batch in flight */
	struct cell *to;
	uint32_t n, npipes, nfds;
	struct cman_slot *from[BATCH];
	struct origin *of[BATCH];
	int fds[6 * BATCH];
	bool anew[BATCH]; /* its legs were made from images: */
	struct restored one[BATCH];
	uint32_t slot[BATCH], pipe[2 * BATCH];
	struct order order;
	struct keeper_request take;
	void (*done)(struct manager *m);
};

static void next_batch(struct rescue *r);
static int get_fd(const struct origin *o, int number);

static int pidfd_open(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static bool is_dead(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* 'T' stopped, 'Z' or 'X' dead, 0 no such process */
static char state_of(pid_t pid)
{
	char path[64], text[512], *p;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = 0;
	p = strrchr(text, ')');
	return p && p[1] ? p[2] : 0;
}

static bool at_rest(pid_t pid)
{
	char state = state_of(pid);

	return !state || state == 'T' || state == 't' || state == 'Z' || state == 'X';
}

/* The gateway has just accepted, or made a socket, and no slot says so yet: it has a moment more. */
static bool between_stores(const struct origin *o, uint64_t patient_until)
{
	return o->pid[CMAN_GATEWAY] && cman_now_ns() < patient_until &&
	       (__atomic_load_n(&o->shared->marks[CMAN_GATEWAY], __ATOMIC_ACQUIRE) & 1) &&
	       (state_of(o->pid[CMAN_GATEWAY]) | 0x20) == 't' && !o->was_stopped;
}

static uint32_t origin_high(const struct rescue *r, const struct origin *o)
{
	return o->shared->high < r->maps.slots_per_cell ? o->shared->high : r->maps.slots_per_cell;
}

/* Stops every process of the cell, also those that are just being made. 0 or -ETIMEDOUT. */
static int stop_cell(struct origin *o)
{
	uint64_t now = cman_now_ns(), until = now + STOP_MS * 1000000ull;
	pid_t gateway = (pid_t)(o->shared->role[CMAN_GATEWAY] & CMAN_ROLE_PID);

	o->was_stopped = gateway && at_rest(gateway);

	while (cman_now_ns() < until) {
		pid_t seen[CMAN_ROLES];
		bool rest = true;

		for (int role = 0; role < CMAN_ROLES; role++) {
			pid_t pid = (pid_t)(__atomic_load_n(&o->shared->role[role],
							    __ATOMIC_ACQUIRE) &
					    CMAN_ROLE_PID);

			/* the word is the gateways' to write */
			seen[role] = pid;
			o->pid[role] = pid && cman_proc_is(pid, "", o->uid) ? pid : 0;
			if (!o->pid[role])
				continue;
			kill(pid, SIGSTOP);
			rest &= at_rest(pid);
		}
		for (int role = 0; role < CMAN_ROLES; role++)
			rest &= (pid_t)(__atomic_load_n(&o->shared->role[role], __ATOMIC_ACQUIRE) &
					CMAN_ROLE_PID) == seen[role];
		if (rest && between_stores(o, now + MARK_MS * 1000000ull))
			kill(o->pid[CMAN_GATEWAY], SIGCONT);
		else if (rest)
			return 0;
		poll(NULL, 0, 1);
	}
	return -ETIMEDOUT;
}

/* A stopped process of the cell that holds its table: a keeper if there is one. */
static void find_holder(struct origin *o)
{
	static const enum cman_role order[] = { CMAN_KEEPER, CMAN_SPARE, CMAN_GATEWAY };

	o->keeper = -1;
	for (size_t i = 0; i < CMAN_ROLES; i++) {
		pid_t pid = o->pid[order[i]];
		int fd;

		if (!pid)
			continue;
		fd = pidfd_open(pid);
		if (fd < 0)
			continue;
		if (is_dead(fd)) {
			close(fd);
			continue;
		}
		o->keeper = fd;
		/* the gateway must not run again; the table has another holder */
		if (order[i] != CMAN_GATEWAY && o->pid[CMAN_GATEWAY])
			kill(o->pid[CMAN_GATEWAY], SIGKILL);
		return;
	}
}

static int get_fd(const struct origin *o, int number)
{
	int fd;

	if (number <= 0)
		return -1;
	fd = (int)syscall(SYS_pidfd_getfd, o->keeper, number, 0);
	return fd;
}

/* Cells that are forked meanwhile would keep it, and what was secret in it, as long as they live. */
static void not_for_cells(void *p, size_t len)
{
	if (madvise(p, len, MADV_DONTFORK) < 0)
		cman_warn("cells keep the memory of another instance", "err=%d", errno);
}

static int map_secret(struct rescue *r, struct origin *o)
{
	int fd = get_fd(o, o->shared->secret_fd), err;

	if (fd < 0)
		return -errno;
	err = cman_tls_memory_map(fd, r->maps.slots_per_cell, &o->secret);
	close(fd);
	if (!err)
		not_for_cells(o->secret, cman_tls_memory_size(r->maps.slots_per_cell));
	return err;
}

static int map_origin(struct rescue *r, struct origin *o)
{
	int fd = get_fd(o, o->shared->buffer_fd);
	struct stat st;
	void *p;

	if (fd < 0)
		return -errno;
	o->buffers_size = CMAN_BUFFERS(r->maps.slots_per_cell) * CMAN_BUFFER_SIZE;
	if (fstat(fd, &st) < 0 || (size_t)st.st_size < o->buffers_size ||
	    !(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK)) {
		close(fd);
		return -EBADF;
	}
	p = mmap(NULL, o->buffers_size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return -errno;
	o->buffers = p;
	not_for_cells(p, o->buffers_size);
	return map_secret(r, o);
}

static void kill_origin(struct origin *o)
{
	for (int role = 0; role < CMAN_ROLES; role++) {
		int fd = o->pid[role] ? pidfd_open(o->pid[role]) : -1;
		struct pollfd p = { .fd = fd, .events = POLLIN };

		if (fd < 0)
			continue;
		kill(o->pid[role], SIGKILL);
		poll(&p, 1, STOP_MS);
		close(fd);
	}
}

static void rescue_free(struct rescue *r)
{
	for (uint32_t g = 0; g < r->maps.gateways; g++) {
		if (r->origin[g].keeper >= 0)
			close(r->origin[g].keeper);
		if (r->origin[g].buffers)
			munmap(r->origin[g].buffers, r->origin[g].buffers_size);
		cman_tls_memory_unmap(r->origin[g].secret, r->maps.slots_per_cell);
	}
	cman_splice_fini(&r->splice);
	cman_maps_fini(&r->maps);
	if (r->journal.fd >= 0)
		cman_journal_close(&r->journal);
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	free(r);
}

static bool ours_to_take(struct rescue *r, const struct cman_slot *s);

/*
 * What was prepared there by TCP_REPAIR, and is not ours to take, may have left repair: its peers must
 * not hear of its end.
 */
static void silence_origin(struct rescue *r, const struct origin *o)
{
	for (uint32_t i = 0; i < origin_high(r, o) && o->keeper >= 0; i++) {
		const struct cman_slot *s = &o->slots[i];
		int number[2] = { s->client_fd, s->server_fd };

		if (s->state != CMAN_SLOT_PREPARED || !(s->flags & CMAN_SLOT_REPAIR) ||
		    ours_to_take(r, s))
			continue;
		for (int l = 0; l < 2; l++) {
			int fd = get_fd(o, number[l]);

			if (fd < 0)
				continue;
			if (cman_sock_cookie(fd) == (l ? s->server_cookie : s->client_cookie))
				repair_silence(fd);
			else
				close(fd);
		}
	}
}

static void finish(struct rescue *r)
{
	struct manager *m = r->m;
	void (*done)(struct manager * m) = r->done;

	for (uint32_t g = 0; g < r->maps.gateways; g++) {
		__atomic_store_n(&r->origin[g].shared->quit, 1, __ATOMIC_RELEASE);
		silence_origin(r, &r->origin[g]);
		kill_origin(&r->origin[g]);
		/* what lives elsewhere is not lost: the rest is buried with its name */
		for (uint32_t i = 0; i < origin_high(r, &r->origin[g]); i++)
			if (!ours_to_take(r, &r->origin[g].slots[i]))
				r->origin[g].slots[i].state = CMAN_SLOT_FREE;
	}
	event_add(m, LOG_NOTICE,
		  "took in %u sessions of %s without its help; %u could not be taken", r->moved,
		  r->name, r->lost);
	/* it may have been renamed meanwhile */
	if (rundir_name_of(m, r->lock_fd, r->name))
		rescue_bury(m, r->name);
	rescue_free(r);
	m->rescuing = false;
	m->rescue_tries = 0;
	cman_hold_apply(&m->maps); /* in the place of the other release's */
	if (done)
		done(m);
}

/* ---- which sessions ---- */

static bool here_already(const struct manager *m, uint64_t id)
{
	for (uint32_t g = 0; g < m->ncells; g++)
		for (uint32_t i = 0; i < cell_high(&m->cells[g]); i++)
			if (m->cells[g].slots[i].state >= CMAN_SLOT_ACCEPTED &&
			    m->cells[g].slots[i].id == id)
				return true;
	return false;
}

/* What a handshake has got to is in the memory of the stopped gateway only. */
static bool in_handshake(const struct cman_slot *s)
{
	return s->tls && (s->state == CMAN_SLOT_ACCEPTED || s->state == CMAN_SLOT_CONNECTING ||
			  s->state == CMAN_SLOT_HANDSHAKE);
}

static bool ours_to_take(struct rescue *r, const struct cman_slot *s)
{
	enum cman_register value;
	uint64_t id;

	if (in_handshake(s))
		return false;
	switch ((enum cman_slot_state)s->state) {
	case CMAN_SLOT_ACCEPTED:
	case CMAN_SLOT_CONNECTING:
	case CMAN_SLOT_RELAYING:
		break;
	case CMAN_SLOT_PREPARED: /* it was the target: ours unless it had gone live */
		value = journal_of_slot(&r->journal, s, &id);
		if (cman_handover_owner(value) != CMAN_OWNER_TARGET)
			return false;
		break;
	case CMAN_SLOT_LEAVING: /* it was the source: ours already if we went live */
		journal_of_slot(&r->journal, s, &id);
		if (id && cman_handover_owner(journal_settle(&r->m->journal, id, CMAN_REG_DROP)) ==
				  CMAN_OWNER_TARGET)
			return false;
		break;
	default:
		return false;
	}
	return cman_slot_sane(s, r->maps.slots_per_cell) && !here_already(r->m, s->id);
}

/* ---- one batch ---- */

/*
 * It was the source of a handover by TCP_REPAIR: its legs may be sockets, perhaps in repair, or only
 * their images. Both are descriptors afterwards.
 */
static bool get_parted(struct rescue *r, const struct origin *o, const struct cman_slot *s)
{
	struct restored *one = &r->one[r->n];
	uint64_t batch;
	int made;

	memset(one, 0, sizeof(*one));
	one->session = s->id;
	one->fd[0] = get_fd(o, s->client_fd);
	one->fd[1] = get_fd(o, s->server_fd);
	journal_of_slot(&r->journal, s, &batch);
	made = restore_foreign(r->m, r->name, batch, one);
	r->anew[r->n] = made > 0;
	if (made < 0)
		restored_free(one);
	return made >= 0;
}

/* The kernel relays it, by maps that end with the other instance. */
static bool retire(struct rescue *r, struct origin *o, struct cman_slot *s, const int fds[2])
{
	uint32_t i = (uint32_t)(s - o->slots);
	uint32_t own[2] = { CMAN_SLOT_BUFFER(i, CMAN_UP), CMAN_SLOT_BUFFER(i, CMAN_DOWN) };
	int err = cman_splice_retire(&r->splice, s, fds, o->buffers, own, RETIRE_MS);

	if (err)
		cman_err("a session could not be taken back from the kernel",
			 "session=%016llx err=\"%s\"", (unsigned long long)s->id, strerror(-err));
	return !err;
}

static bool get_session(struct rescue *r, struct origin *o, struct cman_slot *s)
{
	bool pending = s->state == CMAN_SLOT_ACCEPTED || s->state == CMAN_SLOT_CONNECTING;
	uint32_t at = r->nfds;
	int numbers[6], n = 0;

	r->anew[r->n] = false;
	if (s->state == CMAN_SLOT_LEAVING && s->flags & CMAN_SLOT_REPAIR && !get_parted(r, o, s))
		return false;
	numbers[n++] = s->client_fd;
	numbers[n++] = s->server_fd;
	for (int dir = 0; dir < 2; dir++) {
		const struct cman_pipe *p = &o->pipes[s->bound[dir] & CMAN_BOUND_INDEX];

		if ((s->bound[dir] & CMAN_BOUND_KIND) != CMAN_BOUND_PIPE)
			continue;
		numbers[n++] = p->rfd;
		numbers[n++] = p->wfd;
	}
	for (int k = 0; k < n; k++) {
		bool made = k < 2 && r->anew[r->n];
		int fd = made ? r->one[r->n].fd[k] : get_fd(o, numbers[k]);

		if (fd >= 0 && k < 2 && !made &&
		    cman_sock_cookie(fd) != (k ? s->server_cookie : s->client_cookie)) {
			close(fd);
			fd = -1;
		}
		if (fd < 0 && k == 1 && pending)
			continue; /* no server leg yet */
		if (fd < 0) {
			while (r->nfds > at)
				close(r->fds[--r->nfds]);
			if (r->anew[r->n])
				restored_free(&r->one[r->n]);
			return false;
		}
		r->fds[r->nfds++] = fd;
	}
	if (!pending && (s->flags & CMAN_SLOT_SPLICED) && !retire(r, o, s, &r->fds[at])) {
		while (r->nfds > at)
			close(r->fds[--r->nfds]);
		return false;
	}
	r->npipes += (uint32_t)(n - 2) / 2;
	return true;
}

static void collect(struct rescue *r)
{
	r->n = r->npipes = r->nfds = 0;
	while (r->cell < r->maps.gateways && r->n < BATCH) {
		struct origin *o = &r->origin[r->cell];
		struct cman_slot *s;

		if (r->next >= origin_high(r, o) || o->keeper < 0) {
			r->cell++;
			r->next = 0;
			continue;
		}
		s = &o->slots[r->next++];
		r->lost += in_handshake(s);
		if (!ours_to_take(r, s))
			continue;
		if (!get_session(r, o, s)) {
			r->lost++;
			continue;
		}
		r->of[r->n] = o;
		r->from[r->n++] = s;
	}
}

static void fill_flow(struct rescue *r, uint32_t k, struct cman_slot *s, int dir, uint32_t *at,
		      uint32_t *pipes_used)
{
	const struct cman_slot *old = r->from[k];
	uint32_t bound = old->bound[dir];

	s->bound[dir] = CMAN_BOUND_NONE;
	if ((bound & CMAN_BOUND_KIND) == CMAN_BOUND_PIPE) {
		uint32_t n = r->pipe[(*pipes_used)++];
		struct cman_pipe *pipe = &r->to->pipes[n];

		pipe->wfd = (int)r->take.number[*at + 1];
		__atomic_store_n(&pipe->rfd, (int)r->take.number[*at], __ATOMIC_RELEASE);
		*at += 2;
		s->bound[dir] = CMAN_BOUND_PIPE | n;
	} else if ((bound & CMAN_BOUND_KIND) == CMAN_BOUND_BUFFER) {
		uint32_t own = CMAN_SLOT_BUFFER(r->slot[k], (unsigned int)dir);

		memcpy(r->to->buffers + (size_t)own * CMAN_BUFFER_SIZE,
		       r->of[k]->buffers + (size_t)(bound & CMAN_BOUND_INDEX) * CMAN_BUFFER_SIZE,
		       CMAN_BUFFER_SIZE);
		s->bound[dir] = CMAN_BOUND_BUFFER | own;
	}
}

/* The records go on where the stopped gateway left them; else the session cannot go on. */
static int fill_tls(struct rescue *r, uint32_t k, const struct cman_slot *new, const int fds[2])
{
	const struct origin *o = r->of[k];
	struct tls_counts counts;
	int err = 0;

	if (!new->tls)
		return 0;
	/* what a socket in repair is to send yet is not in its counters */
	for (int dir = 0; dir < 2; dir++) {
		counts.read[dir] = (uint64_t) new->flow[dir].read_base;
		counts.written[dir] = (uint64_t) new->flow[dir].write_base;
		if (r->anew[k])
			counts.written[dir] += r->one[k].leg[!dir].out.len;
	}
	if (!r->anew[k])
		err = tls_count(new, fds[0], fds[1], &counts);
	if (err)
		return err;
	return tls_copy(o->secret, r->maps.slots_per_cell, (uint32_t)(r->from[k] - o->slots), new,
			&counts, r->to, r->slot[k]);
}

static void fill_slot(struct rescue *r, uint32_t k, uint32_t *at, uint32_t *pipes_used)
{
	struct manager *m = r->m;
	const struct cman_slot *old = r->from[k];
	struct cman_slot *s = &r->to->slots[r->slot[k]];
	const char *service = r->maps.services[old->service].name;
	const char *listener = r->maps.instance->listener[old->listener].name;
	int n = publish_service_index(m, service, strlen(service)), rule;
	bool unconnected = old->state == CMAN_SLOT_ACCEPTED || old->state == CMAN_SLOT_CONNECTING;
	struct cman_slot new = *old;

	new.flags &= (__u8)~CMAN_SLOT_REPAIR;
	if (r->anew[k])
		restored_fill(&r->one[k], &new, r->fds[*at], r->fds[*at + 1]);
	new.service = (__u16)(n < 0 ? 0 : n);
	n = publish_listener_index(m, listener, strlen(listener));
	new.listener = (__u16)(n < 0 ? 0 : n);
	rule = cman_rules_find(m->maps.ruletab, m->maps.instance->nrules, new.service,
			       new.client_addr);
	new.rule = (__u16)(rule < 0 ? 0 : rule + 1);
	new.state = CMAN_SLOT_RESERVED;
	new.flags &= (__u8)~CMAN_SLOT_RESET;
	if (fill_tls(r, k, &new, &r->fds[*at]))
		new.flags |= CMAN_SLOT_RESET;
	new.client_fd = (int)r->take.number[(*at)++];
	new.server_fd = 0;
	if (!unconnected ||
	    (old->server_fd > 0 && cman_sock_cookie(r->fds[*at]) == old->server_cookie &&
	     old->server_cookie))
		new.server_fd = (int)r->take.number[(*at)++];
	if (unconnected)
		new.flags |= CMAN_SLOT_UNCONNECTED;
	else
		new.handovers++;
	for (int dir = 0; dir < 2; dir++)
		fill_flow(r, k, &new, dir, at, pipes_used);
	*s = new;
	__atomic_store_n(&s->state, CMAN_SLOT_PREPARED, __ATOMIC_RELEASE);
}

static void batch_failed(struct rescue *r, const char *what, int err)
{
	cman_err("a batch of a rescue could not be taken", "step=%s err=\"%s\"", what,
		 strerror(err < 0 ? -err : err));
	r->lost += r->n;
	cman_cell_import_end(r->to->shared);
	for (uint32_t k = 0; k < r->nfds; k++)
		close(r->fds[k]); /* those in repair in silence: their images are there still */
	for (uint32_t k = 0; k < r->n; k++)
		if (r->anew[k])
			restored_free(&r->one[k]);
	next_batch(r);
}

static void on_activated(struct order *o, void *arg)
{
	struct rescue *r = arg;

	for (uint32_t k = 0; k < o->n; k++) {
		if (o->result[k]) {
			r->lost++;
			continue;
		}
		r->moved++;
		r->from[k]->state = CMAN_SLOT_FREE; /* it may have ended here before we look again */
	}
	CMAN_CRASH(RESCUE_IMPORTED);
	next_batch(r);
}

static void on_taken(struct keeper_request *t, void *arg)
{
	struct rescue *r = arg;
	uint32_t at = 0, pipes_used = 0;

	if (t->err) {
		batch_failed(r, "take", t->err);
		return;
	}
	memset(&r->order, 0, sizeof(r->order));
	for (uint32_t k = 0; k < r->n; k++) {
		fill_slot(r, k, &at, &pipes_used);
		r->one[k].slot = r->slot[k];
		r->order.slot[k] = r->slot[k];
		r->order.id[k] = r->from[k]->id;
	}
	cman_cell_import_end(r->to->shared);
	for (uint32_t k = 0; k < r->n; k++)
		if (r->anew[k])
			restored_go_live(r->m, r->name, r->to, &r->one[k]);
	for (uint32_t k = 0; k < r->nfds; k++)
		close(r->fds[k]);
	r->order.op = CMAN_ORDER_ACTIVATE;
	r->order.n = r->n;
	r->order.done = on_activated;
	r->order.arg = r;
	cell_order(r->to, &r->order);
}

static void on_reserved(struct order *o, void *arg)
{
	struct rescue *r = arg;

	if (o->status) {
		batch_failed(r, "reserve", o->status);
		return;
	}
	memcpy(r->slot, o->slot, sizeof(r->slot));
	memcpy(r->pipe, o->pipe, sizeof(r->pipe));
	memset(&r->take, 0, sizeof(r->take));
	r->take.type = CMAN_FRAME_TAKE;
	r->take.n = r->nfds;
	memcpy(r->take.fd, r->fds, r->nfds * sizeof(*r->fds));
	r->take.done = on_taken;
	r->take.arg = r;
	cell_request(r->to, &r->take);
}

static void next_batch(struct rescue *r)
{
	struct manager *m = r->m;

	collect(r);
	CMAN_CRASH(RESCUE_FDS);
	if (!r->n) {
		finish(r);
		return;
	}
	r->to = &m->cells[0];
	for (uint32_t i = 1; i < m->ncells; i++)
		if (m->cells[i].shared->sessions < r->to->shared->sessions)
			r->to = &m->cells[i];
	cman_cell_import_begin(r->to->shared);
	memset(&r->order, 0, sizeof(r->order));
	r->order.op = CMAN_ORDER_RESERVE;
	r->order.n = r->n;
	r->order.npipes = r->npipes;
	r->order.done = on_reserved;
	r->order.arg = r;
	cell_order(r->to, &r->order);
}

/* ---- begin ---- */

/* Stops the other's cells and prepares to copy out of them. */
static int rescue_open(struct manager *m, const char *name, struct rescue **ret, const char **why)
{
	struct rescue *r = calloc(1, sizeof(*r));
	char path[256];
	int err;

	*why = "out of memory";
	if (!r)
		return -ENOMEM;
	r->m = m;
	r->lock_fd = r->journal.fd = -1;
	snprintf(r->name, sizeof(r->name), "%s", name);
	err = cman_maps_open(name, &r->maps, why);
	if (err) {
		free(r);
		return err;
	}
	cman_splice_init(&r->splice);
	cman_splice_open(&r->maps, &r->splice); /* -ENOENT: the kernel relays nothing there */
	cman_journal_open(rundir_path(m, name, "journal", path, sizeof(path)), &r->journal);
	for (uint32_t g = 0; g < r->maps.gateways; g++) {
		struct origin *o = &r->origin[g];

		o->shared = &r->maps.cells[g];
		o->uid = geteuid() ? geteuid() : m->uid;
		o->slots = &r->maps.sessions[(size_t)g * r->maps.slots_per_cell];
		o->pipes = &r->maps.pipes[(size_t)g * CMAN_PIPES_PER_CELL];
		o->keeper = -1;
		if (stop_cell(o))
			cman_warn("a process of the other instance does not stop", "gateway=%u", g);
		CMAN_CRASH(RESCUE_STOPPED);
		find_holder(o);
		CMAN_CRASH(RESCUE_KILLED);
		if (o->keeper >= 0 && map_origin(r, o)) {
			close(o->keeper);
			o->keeper = -1;
		}
	}
	*ret = r;
	return 0;
}

static void on_retry(uv_timer_t *t)
{
	struct manager *m = t->data;

	timer_end(&m->rescue_retry);
	if (!m->stopping)
		rescue_leftovers(m);
}

static void retry_later(struct manager *m)
{
	if (m->rescue_retry || m->rescue_tries++ >= RETRIES)
		return;
	m->rescue_retry = timer_begin(m, on_retry, RETRY_MS, 0, m);
}

void rescue_leftovers(struct manager *m)
{
	static const char *const suffixes[] = { "", "_new", "_old" };

	if (m->rescuing)
		return;
	rundir_follow(m);
	rundir_refresh(m);
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
		char name[CMAN_NAME_LEN + 4];
		struct rescue *r;
		const char *why = "";
		int lock_fd, err;

		snprintf(name, sizeof(name), "%s%s", m->alias, suffixes[i]);
		if (!strcmp(name, m->name) || !rundir_exists(m, name))
			continue;
		if (rundir_lock(m, name, &lock_fd)) {
			retry_later(m);
			continue; /* it is looked after, or its manager is just dying */
		}
		err = rescue_open(m, name, &r, &why);
		if (err == -ENOENT) {
			rescue_bury(m, name);
			close(lock_fd);
			continue;
		}
		if (err) {
			event_add(m, LOG_ERR, "the sessions of %s could not be taken in: %s", name,
				  why);
			close(lock_fd);
			continue;
		}
		r->lock_fd = lock_fd;
		r->done = rescue_leftovers; /* the next name, if there is one */
		m->rescuing = true;
		next_batch(r);
		return;
	}
}

static void rescue_ready(struct manager *m)
{
	instance_ready(m);
}

int rescue_start(struct manager *m, const char **why)
{
	char name[CMAN_NAME_LEN + 4];
	struct rescue *r;
	struct origin *o;
	pid_t manager;
	int err;

	*why = "there is no such instance: nothing to rescue";
	if (!rundir_exists(m, m->alias))
		return -ENOENT;
	rundir_follow(m);
	/* a stopped or looping manager has the lock; a live one that answers is taken over as well:
	 * the operator said so */
	manager = rundir_read_pid(m, m->alias);
	if (manager > 0 && cman_proc_is(manager, "manager", geteuid())) {
		int fd = pidfd_open(manager);
		struct pollfd p = { .fd = fd, .events = POLLIN };

		if (fd >= 0) {
			kill(manager, SIGKILL);
			poll(&p, 1, STOP_MS);
			close(fd);
		}
	}
	err = rescue_open(m, m->alias, &r, why);
	if (err)
		return err;
	o = &r->origin[0];
	for (int l = 0; l < CMAN_MAX_LISTENERS && o->keeper >= 0; l++) {
		const struct cman_listener *from = &r->maps.instance->listener[l];
		char text[160], address[CMAN_ENDPOINT_TEXT];
		int fd = from->used ? get_fd(o, o->shared->listener_fd[l]) : -1, len;

		if (fd < 0)
			continue;
		len = snprintf(text, sizeof(text), "%s %s", from->name,
			       cman_endpoint_format(from->addr, from->port_first, address));
		if (from->port_last != from->port_first)
			snprintf(text + len, sizeof(text) - (size_t)len, "-%u", from->port_last);
		publish_inherit(m, text, strlen(text), fd);
	}
	*why = "the new instance could not start; the log says why";
	err = rundir_make(m, m->name);
	if (!err)
		err = instance_start_beside(m);
	if (!err)
		err = instance_claim_steering(m);
	if (!err)
		err = instance_claim_name(m);
	if (err) {
		/* the stopped processes go on as they were */
		for (uint32_t g = 0; g < r->maps.gateways; g++)
			for (int role = 0; role < CMAN_ROLES; role++)
				if (r->origin[g].pid[role])
					kill(r->origin[g].pid[role], SIGCONT);
		rescue_free(r);
		return err;
	}
	snprintf(name, sizeof(name), "%s_old", m->alias);
	memcpy(r->name, name, sizeof(r->name));
	rundir_lock(m, name, &r->lock_fd);
	r->done = rescue_ready;
	m->rescuing = true;
	next_batch(r);
	return 0;
}
/* Nobody may go on without a ledger: what lives of a cell is ended. */
static void end_cell(struct manager *m, struct cman_cell *cell)
{
	uint64_t until = cman_now_ns() + STOP_MS * 1000000ull;
	uid_t uid = geteuid() ? geteuid() : m->uid;
	bool alive = true;

	__atomic_store_n(&cell->quit, 1, __ATOMIC_RELEASE); /* nobody is replaced any more */
	while (alive && cman_now_ns() < until) {
		alive = false;
		for (int role = 0; role < CMAN_ROLES; role++) {
			pid_t pid = (pid_t)(cell->role[role] & CMAN_ROLE_PID);

			if (!pid || !cman_proc_is(pid, "", uid) || state_of(pid) == 'Z')
				continue;
			kill(pid, SIGKILL);
			alive = true;
		}
		if (alive)
			poll(NULL, 0, 1);
	}
}

/* How much of a folder's sessions died with its processes: said once, then it is forgotten. */
void rescue_bury(struct manager *m, const char *name)
{
	struct cman_maps maps;
	const char *why;
	uint32_t lost = 0;

	if (!cman_maps_open(name, &maps, &why)) {
		for (uint32_t g = 0; g < maps.gateways; g++)
			end_cell(m, &maps.cells[g]);
		for (uint32_t g = 0; g < maps.gateways; g++)
			for (uint32_t i = 0; i < maps.cells[g].high && i < maps.slots_per_cell;
			     i++) {
				const struct cman_slot
					*s = &maps.sessions[(size_t)g * maps.slots_per_cell + i];
				char text[CMAN_ENDPOINT_TEXT];

				if (s->state < CMAN_SLOT_ACCEPTED ||
				    !cman_slot_sane(s, maps.slots_per_cell))
					continue;
				if (lost++ < 20)
					cman_err("a session was lost with its processes",
						 "instance=%s session=%016llx client=%s service=%s",
						 name, (unsigned long long)s->id,
						 cman_endpoint_format(s->client_addr,
								      s->client_port, text),
						 maps.services[s->service].name);
			}
		cman_maps_fini(&maps);
	}
	if (lost)
		event_add(m, LOG_CRIT, "%u sessions of %s were lost: all its processes are dead",
			  lost, name);
	guard_bury(name);
	cman_maps_unpin(name);
	rundir_remove(m, name);
}
