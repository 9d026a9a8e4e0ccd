/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manager's side of the cells: making them, finding them again, orders into the mailbox of a
 * gateway, descriptors to and from a keeper. Both kinds of request survive the death of the process
 * that was to serve them: the mailbox is shared memory, and a keeper's successor is called again.
 */
#include "usr/manager/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usr/sys/log.h"
#include "usr/sys/proc.h"
#include "usr/sys/secret.h"
#include "usr/sys/tls_cell.h"

#define RETRY_MS   2	/* between calls to a keeper that is being replaced */
#define RESPAWN_MS 1000 /* before a cell that lived shorter is made again */

static void connect_keeper(struct cell *c);
static void request_send(struct cell *c);
static void order_post(struct cell *c);
static void respawn(struct cell *c);

static size_t buffers_size(const struct manager *m)
{
	return CMAN_BUFFERS(m->maps.slots_per_cell) * CMAN_BUFFER_SIZE;
}

static void socket_path(const struct manager *m, uint32_t index, char *buf, size_t size)
{
	char file[32];

	snprintf(file, sizeof(file), "cell-%u.sock", index);
	rundir_path(m, m->name, file, buf, size);
}

static void cell_init(struct manager *m, uint32_t index)
{
	struct cell *c = &m->cells[index];

	memset(c, 0, sizeof(*c));
	c->spawned_ns = cman_now_ns();
	c->m = m;
	c->index = index;
	c->shared = &m->maps.cells[index];
	c->slots = &m->maps.sessions[(size_t)index * m->maps.slots_per_cell];
	c->pipes = &m->maps.pipes[(size_t)index * CMAN_PIPES_PER_CELL];
	c->buffer_fd = c->secret_fd = c->kick_fd = c->done_fd = -1;
	c->orders_tail = &c->orders;
	c->requests_tail = &c->requests;
}

uint32_t cell_high(const struct cell *c)
{
	uint32_t high = __atomic_load_n(&c->shared->high, __ATOMIC_ACQUIRE);

	return high < c->m->maps.slots_per_cell ? high : c->m->maps.slots_per_cell;
}

static int map_memory(struct cell *c)
{
	struct stat st;
	void *p;

	/* it may come from a gateway's table: one that is short or can shrink would be SIGBUS */
	if (fstat(c->buffer_fd, &st) < 0 || (size_t)st.st_size < buffers_size(c->m) ||
	    !(fcntl(c->buffer_fd, F_GET_SEALS) & F_SEAL_SHRINK))
		return -EBADF;
	p = mmap(NULL, buffers_size(c->m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		 c->buffer_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	c->buffers = p;
	return cman_tls_memory_map(c->secret_fd, c->m->maps.slots_per_cell, &c->secret);
}

static void unmap_secret(struct cell *c)
{
	if (c->secret) /* a cell that is not made yet has not even a manager */
		cman_tls_memory_unmap(c->secret, c->m->maps.slots_per_cell);
	c->secret = NULL;
}

/*
 * Lets the table of descriptors have its final size while this process has it alone: once it is
 * shared, the kernel waits for all RCU readers (10 ms) each time it grows, and so do the sessions.
 */
static void grow_table(uint32_t slots)
{
	uint32_t want = 2 * slots + 2 * CMAN_PIPES_PER_CELL + 512;
	struct rlimit limit;
	int fd;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (want > limit.rlim_cur)
		want = (uint32_t)limit.rlim_cur;
	fd = fcntl(0, F_DUPFD_CLOEXEC, (int)want - 1);
	if (fd >= 0)
		close(fd);
}

/* The first process of the cell. It shares nothing with the manager but the maps. */
static void child(struct cell *c, int keeper_fd) __attribute__((noreturn));

static void child(struct cell *c, int keeper_fd)
{
	static struct cman_cell_env env;
	struct manager *m = c->m;
	int keep[CMAN_MAX_LISTENERS + CMAN_SPLICE_FDS + 6], null;
	unsigned int n = 0;

	/* a gateway maps its own, a keeper none */
	for (uint32_t i = 0; i < m->ncells; i++)
		unmap_secret(&m->cells[i]);
	setsid();
	null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(null, 1);
	keep[n++] = c->buffer_fd;
	keep[n++] = c->secret_fd;
	keep[n++] = c->kick_fd;
	keep[n++] = c->done_fd;
	keep[n++] = keeper_fd;
	for (int i = 0; i < CMAN_MAX_LISTENERS; i++) {
		c->shared->listener_fd[i] = m->listener_fd[i] > 0 ? m->listener_fd[i] : 0;
		if (m->listener_fd[i] > 0)
			keep[n++] = m->listener_fd[i];
	}
	for (int i = 0; i < CMAN_SPLICE_FDS; i++) {
		env.splice_fd[i] = m->splice.fd[i] > 0 ? m->splice.fd[i] : 0;
		if (m->splice.fd[i] > 0)
			keep[n++] = m->splice.fd[i];
	}
	c->shared->buffer_fd = c->buffer_fd;
	c->shared->secret_fd = c->secret_fd;
	c->shared->credentials_fd = m->credentials_fd > 0 ? m->credentials_fd : 0;
	if (m->credentials_fd > 0)
		keep[n++] = m->credentials_fd;
	c->shared->kick_fd = c->kick_fd;
	c->shared->done_fd = c->done_fd;
	c->shared->keeper_fd = keeper_fd;
	c->shared->keeper_uid = geteuid();
	cman_proc_close_others(keep, n);
	grow_table(m->maps.slots_per_cell);
	signal(SIGTERM, SIG_IGN);
	env.maps = m->maps;
	env.index = c->index;
	env.cell = c->shared;
	env.slots = c->slots;
	env.pipes = c->pipes;
	env.nslots = m->maps.slots_per_cell;
	env.buffers = c->buffers;
	procs_fill(&env);
	if (cman_proc_drop(m->uid, m->gid)) {
		cman_err("a cell cannot drop its privileges", "cell=%u", c->index);
		_exit(1);
	}
	cman_cell_enter(&env);
}

int cell_spawn(struct manager *m, uint32_t index)
{
	struct cell *c = &m->cells[index];
	char path[256];
	int keeper_fd, err;
	pid_t pid;

	cell_init(m, index);
	socket_path(m, index, path, sizeof(path));
	err = cman_unix_listen(path, 0600, &keeper_fd);
	if (err)
		return err;
	fcntl(keeper_fd, F_SETFL, O_NONBLOCK);
	c->buffer_fd = memfd_create("cman-buffers", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	c->secret_fd = cman_secret_memfd("cman-secret",
					 cman_tls_memory_size(m->maps.slots_per_cell));
	c->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->secret_fd < 0) {
		err = c->secret_fd;
		goto out;
	}
	if (c->buffer_fd < 0 || c->kick_fd < 0 || c->done_fd < 0 ||
	    ftruncate(c->buffer_fd, (off_t)buffers_size(m)) < 0 ||
	    fcntl(c->buffer_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		err = -errno;
		goto out;
	}
	err = map_memory(c);
	if (err)
		goto out;
	pid = fork();
	if (pid == 0)
		child(c, keeper_fd);
	if (pid < 0)
		err = -errno;
out:
	close(keeper_fd);
	if (err)
		cell_close(c);
	return err;
}

/* ---- requests to the keeper ---- */

static void request_done(struct cell *c, int err)
{
	struct keeper_request *r = c->requests;

	c->requests = r->next;
	if (!c->requests)
		c->requests_tail = &c->requests;
	r->err = err;
	r->done(r, r->arg);
	if (c->requests && c->greeted)
		request_send(c);
}

static int request_frame(struct cell *c, struct keeper_request *r)
{
	struct cman_frame_writer w;
	bool take = r->type == CMAN_FRAME_TAKE;

	cman_frame_begin(&w, r->type, ++c->sequence);
	for (uint32_t i = 0; !take && i < r->n; i++)
		cman_frame_add_u32(&w, CMAN_TAG_FD_NUMBER, r->number[i]);
	return cman_chan_send(&c->chan, &w, take ? r->fd : NULL, take ? r->n : 0);
}

static void hang_up(struct cell *c)
{
	if (!c->chan_open)
		return;
	poll_end(&c->chan_poll);
	cman_chan_fini(&c->chan);
	c->chan_open = c->greeted = false;
}

static void on_retry(uv_timer_t *t)
{
	struct cell *c = t->data;

	timer_end(&c->retry);
	if (c->down)
		respawn(c);
	else
		connect_keeper(c);
}

static bool all_dead(const struct cell *c)
{
	for (int r = 0; r < CMAN_ROLES; r++) {
		pid_t pid = (pid_t)(c->shared->role[r] & CMAN_ROLE_PID);

		if (pid && (!kill(pid, 0) || errno != ESRCH))
			return false;
	}
	return true;
}

static void close_fds(struct cell *c)
{
	if (c->buffers)
		munmap(c->buffers, buffers_size(c->m));
	c->buffers = NULL;
	unmap_secret(c);
	if (c->buffer_fd >= 0)
		close(c->buffer_fd);
	if (c->secret_fd >= 0)
		close(c->secret_fd);
	if (c->kick_fd >= 0)
		close(c->kick_fd);
	if (c->done_fd >= 0)
		close(c->done_fd);
	c->buffer_fd = c->secret_fd = c->kick_fd = c->done_fd = -1;
}

/* Nobody will carry them out any more: they end with -ESRCH. */
static void orders_fail(struct cell *c)
{
	struct order *o = c->orders, *next;

	c->orders = NULL;
	c->orders_tail = &c->orders;
	for (; o; o = next) {
		next = o->next;
		o->status = -ESRCH;
		for (uint32_t k = 0; k < o->n && k < CMAN_BATCH; k++)
			o->result[k] = -ESRCH;
		if (o->done)
			o->done(o, o->arg);
	}
}

/* Makes the cell anew; what was ordered while it was down is carried out then. */
static void respawn(struct cell *c)
{
	struct manager *m = c->m;
	struct order *orders = c->orders;
	uint32_t index = c->index;
	int err;

	timer_end(&c->retry);
	err = cell_spawn(m, index);
	c->orders = orders;
	for (c->orders_tail = &c->orders; *c->orders_tail;)
		c->orders_tail = &(*c->orders_tail)->next;
	if (!err)
		err = cell_watch(c);
	if (!err) {
		if (c->orders)
			order_post(c);
		return;
	}
	event_add(m, LOG_CRIT, "cell %u cannot be started again: %s", index, strerror(-err));
	c->down = true;
	c->retry = timer_begin(m, on_retry, RESPAWN_MS, 0, c);
}

void cell_lost(struct cell *c)
{
	struct manager *m = c->m;
	bool young = cman_now_ns() - c->spawned_ns < RESPAWN_MS * 1000000ull;
	uint32_t lost = 0, high = cell_high(c);
	uint64_t lost_before = c->shared->lost, next_id = c->shared->next_id;

	for (uint32_t i = 0; i < high; i++)
		lost += c->slots[i].state != CMAN_SLOT_FREE;
	event_add(m, LOG_CRIT,
		  "all processes of cell %u died at once: %u sessions are lost; it starts anew",
		  c->index, lost);
	hang_up(c);
	while (c->requests)
		request_done(c, -EPIPE);
	poll_end(&c->done_poll);
	timer_end(&c->retry);
	c->down = true;
	orders_fail(c);
	memset(c->slots, 0, (size_t)high * sizeof(*c->slots));
	memset(c->pipes, 0, CMAN_PIPES_PER_CELL * sizeof(*c->pipes));
	memset(c->shared, 0, sizeof(*c->shared));
	c->shared->lost = lost_before + lost;
	c->shared->next_id = next_id;
	close_fds(c);
	if (young) /* something kills it at once: not in a tight loop */
		c->retry = timer_begin(m, on_retry, RESPAWN_MS, 0, c);
	else
		respawn(c);
}

static void later(struct cell *c)
{
	if (all_dead(c)) {
		if (c->m->stopping)
			orders_fail(c);
		else
			cell_lost(c);
		return;
	}
	if (!c->retry)
		c->retry = timer_begin(c->m, on_retry, RETRY_MS, 0, c);
}

static void on_frame(struct cell *c, const struct cman_frame *f, const int *fds)
{
	struct keeper_request *r = c->requests;
	size_t cursor = 0;
	uint32_t number;

	if (f->type == CMAN_FRAME_KEEPER_HELLO) {
		c->greeted = true;
		if (c->requests)
			request_send(c);
		return;
	}
	if (!r || f->sequence != c->sequence) {
		for (unsigned int i = 0; i < f->nfds; i++)
			close(fds[i]);
		return;
	}
	if (f->type != r->type) {
		request_done(c, -EBADMSG);
		return;
	}
	switch (r->type) {
	case CMAN_FRAME_GIVE:
		if (f->nfds != r->n) {
			for (unsigned int i = 0; i < f->nfds; i++)
				close(fds[i]);
			request_done(c, -EBADMSG);
			return;
		}
		memcpy(r->fd, fds, f->nfds * sizeof(*fds));
		break;
	case CMAN_FRAME_TAKE:
		for (uint32_t i = 0; i < r->n; i++) {
			if (cman_frame_next_u32(f, CMAN_TAG_FD_NUMBER, &cursor, &number)) {
				request_done(c, -EBADMSG);
				return;
			}
			r->number[i] = number;
		}
		break;
	default:
		break;
	}
	request_done(c, 0);
}

static void chan_events(struct cell *c)
{
	poll_change(c->chan_poll,
		    UV_READABLE | (cman_chan_wants_write(&c->chan) ? UV_WRITABLE : 0));
}

static void on_chan(uv_poll_t *p, int status, int events)
{
	struct cell *c = p->data;
	int fds[CMAN_FRAME_MAX_FDS];
	struct cman_frame f;
	int err = status < 0 ? -EPIPE : 0;

	if (!err && (events & UV_WRITABLE))
		err = cman_chan_flush(&c->chan);
	if (err == -EAGAIN)
		err = 0;
	while (!err) {
		err = cman_chan_receive(&c->chan, &f, fds);
		if (!err) {
			on_frame(c, &f, fds);
			if (!c->chan_open)
				return;
		}
	}
	if (err != -EAGAIN) {
		/* A TAKE may have arrived without its answer: what nobody names is closed. */
		if (c->requests && c->requests->type == CMAN_FRAME_TAKE)
			cman_cell_want_sweep(c->shared);
		hang_up(c);
		later(c);
		return;
	}
	chan_events(c);
}

static void request_send(struct cell *c)
{
	if (request_frame(c, c->requests)) {
		hang_up(c);
		later(c);
		return;
	}
	chan_events(c);
}

static int greet(struct cell *c)
{
	struct cman_frame_writer w;

	cman_frame_begin(&w, CMAN_FRAME_KEEPER_HELLO, ++c->sequence);
	cman_frame_add_range(&w, CMAN_WIRE_MIN, CMAN_WIRE_MAX);
	return cman_chan_send(&c->chan, &w, NULL, 0);
}

static void connect_keeper(struct cell *c)
{
	char path[256];
	int fd;

	rundir_refresh(c->m);
	socket_path(c->m, c->index, path, sizeof(path));
	if (cman_unix_connect(path, &fd)) {
		later(c);
		return;
	}
	cman_chan_init(&c->chan, fd);
	c->chan_open = true;
	c->greeted = false;
	c->chan_poll = poll_begin(c->m, fd, UV_READABLE, on_chan, c);
	if (!c->chan_poll || greet(c)) {
		hang_up(c);
		later(c);
	}
}

void cell_request(struct cell *c, struct keeper_request *r)
{
	bool first = !c->requests;

	r->next = NULL;
	*c->requests_tail = r;
	c->requests_tail = &r->next;
	if (first && c->greeted)
		request_send(c);
}

/* ---- orders to the gateway ---- */

static void order_post(struct cell *c)
{
	struct cman_mailbox *box = &c->shared->mailbox;
	struct order *o = c->orders;

	box->op = o->op;
	box->n = o->n;
	box->npipes = o->npipes;
	memcpy(box->slot, o->slot, sizeof(box->slot));
	memcpy(box->id, o->id, sizeof(box->id));
	__atomic_store_n(&box->seq, box->ack + 1, __ATOMIC_RELEASE);
	(void)!write(c->kick_fd, &(uint64_t){ 1 }, 8);
}

void cell_order(struct cell *c, struct order *o)
{
	bool first = !c->orders;

	o->next = NULL;
	*c->orders_tail = o;
	c->orders_tail = &o->next;
	if (first && !c->down)
		order_post(c);
}

/* A gateway is not trusted with our memory: what it says it reserved must be so. */
static int reserved_well(const struct cell *c, const struct order *o)
{
	for (uint32_t k = 0; k < o->n; k++)
		if (o->slot[k] >= c->m->maps.slots_per_cell ||
		    c->slots[o->slot[k]].state != CMAN_SLOT_RESERVED)
			return -EBADMSG;
	for (uint32_t k = 0; k < o->npipes; k++)
		if (o->pipe[k] >= CMAN_PIPES_PER_CELL || c->pipes[o->pipe[k]].rfd >= 0)
			return -EBADMSG;
	return 0;
}

static void on_done(uv_poll_t *p, int status, int events)
{
	struct cell *c = p->data;
	struct cman_mailbox *box = &c->shared->mailbox;
	struct order *o = c->orders;

	(void)status;
	(void)events;
	(void)!read(c->done_fd, &(uint64_t){ 0 }, 8);
	if (!o || __atomic_load_n(&box->ack, __ATOMIC_ACQUIRE) != box->seq)
		return;
	o->status = box->status;
	memcpy(o->result, box->result, sizeof(o->result));
	memcpy(o->pipe, box->pipe, sizeof(o->pipe));
	if (o->op == CMAN_ORDER_RESERVE && !o->status) {
		memcpy(o->slot, box->slot, sizeof(o->slot));
		o->status = reserved_well(c, o);
	}
	c->orders = o->next;
	if (!c->orders)
		c->orders_tail = &c->orders;
	else
		order_post(c);
	if (o->done)
		o->done(o, o->arg);
}

static void simple_done(struct order *o, void *arg)
{
	(void)arg;
	free(o);
}

static void forget_it(struct cell *c, enum cman_order op, const uint32_t *slot, uint64_t session)
{
	struct order *o = calloc(1, sizeof(*o));

	if (!o)
		abort();
	o->op = op;
	if (slot) {
		o->n = 1;
		o->slot[0] = *slot;
		o->id[0] = session;
	}
	o->done = simple_done;
	cell_order(c, o);
}

void cell_order_simple(struct cell *c, enum cman_order op)
{
	forget_it(c, op, NULL, 0);
}

void cell_order_slot(struct cell *c, enum cman_order op, uint32_t slot, uint64_t session)
{
	forget_it(c, op, &slot, session);
}

/* ---- life ---- */

int cell_watch(struct cell *c)
{
	c->done_poll = poll_begin(c->m, c->done_fd, UV_READABLE, on_done, c);
	if (!c->done_poll)
		return -ENOMEM;
	connect_keeper(c);
	return 0;
}

/* GIVE, waiting for the answer: before the loop runs. */
static int give_now(struct cell *c, const int *numbers, unsigned int n, int *ret_fds,
		    int timeout_ms)
{
	struct cman_frame_writer w;
	struct cman_frame f;
	int fds[CMAN_FRAME_MAX_FDS], err;

	cman_frame_begin(&w, CMAN_FRAME_GIVE, ++c->sequence);
	for (unsigned int i = 0; i < n; i++)
		cman_frame_add_u32(&w, CMAN_TAG_FD_NUMBER, (uint32_t)numbers[i]);
	err = cman_chan_send(&c->chan, &w, NULL, 0);
	if (!err)
		err = cman_chan_wait(&c->chan, timeout_ms, &f, fds);
	if (err)
		return err;
	if (f.type != CMAN_FRAME_GIVE || f.nfds != n) {
		for (unsigned int i = 0; i < f.nfds; i++)
			close(fds[i]);
		return -EBADMSG;
	}
	memcpy(ret_fds, fds, n * sizeof(*fds));
	return 0;
}

static int adopt_fds(struct cell *c, int timeout_ms)
{
	int numbers[CMAN_MAX_LISTENERS + 4], fds[CMAN_MAX_LISTENERS + 4], err;
	unsigned int n = 0, k = 4;

	numbers[n++] = c->shared->buffer_fd;
	numbers[n++] = c->shared->kick_fd;
	numbers[n++] = c->shared->done_fd;
	numbers[n++] = c->shared->secret_fd;
	for (int i = 0; i < CMAN_MAX_LISTENERS; i++)
		if (c->shared->listener_fd[i] > 0)
			numbers[n++] = c->shared->listener_fd[i];
	err = give_now(c, numbers, n, fds, timeout_ms);
	if (err)
		return err;
	c->buffer_fd = fds[0];
	c->kick_fd = fds[1];
	c->done_fd = fds[2];
	c->secret_fd = fds[3];
	for (int i = 0; i < CMAN_MAX_LISTENERS; i++) {
		if (c->shared->listener_fd[i] <= 0)
			continue;
		if (c->m->listener_fd[i] < 0)
			c->m->listener_fd[i] = fds[k++];
		else
			close(fds[k++]);
	}
	return map_memory(c);
}

int cell_adopt(struct manager *m, uint32_t index, int timeout_ms)
{
	struct cell *c = &m->cells[index];
	uint64_t until = cman_now_ns() + (uint64_t)timeout_ms * 1000000u;
	int fds[CMAN_FRAME_MAX_FDS], err, fd;
	struct cman_frame f;
	char path[256];

	cell_init(m, index);
	socket_path(m, index, path, sizeof(path));
	for (int r = 0; r < CMAN_ROLES; r++) { /* a rescue that died had stopped them */
		pid_t pid = (pid_t)(c->shared->role[r] & CMAN_ROLE_PID);

		if (pid && cman_proc_is(pid, "", geteuid() ? geteuid() : m->uid))
			kill(pid, SIGCONT);
	}
	do {
		if (all_dead(c))
			return -ESRCH;
		err = cman_unix_connect(path, &fd);
		if (err == -ECONNREFUSED || err == -ENOENT)
			return -ESRCH; /* the last holder of the table is gone */
		if (err)
			return err;
		cman_chan_init(&c->chan, fd);
		err = greet(c);
		if (!err)
			err = cman_chan_wait(&c->chan, 100, &f, fds);
		if (!err)
			err = adopt_fds(c, timeout_ms);
		cman_chan_fini(&c->chan);
	} while (err && cman_now_ns() < until);
	if (err)
		return err;
	/* an order of the dead manager is carried out first */
	while (__atomic_load_n(&c->shared->mailbox.ack, __ATOMIC_ACQUIRE) !=
	       c->shared->mailbox.seq) {
		struct pollfd p = { .fd = c->done_fd, .events = POLLIN };

		if (cman_now_ns() > until)
			return -ETIMEDOUT;
		(void)!write(c->kick_fd, &(uint64_t){ 1 }, 8);
		poll(&p, 1, 10);
		(void)!read(c->done_fd, &(uint64_t){ 0 }, 8);
	}
	cman_cell_import_reset(c->shared);
	cman_cell_want_sweep(c->shared);
	return 0;
}

void cell_close(struct cell *c)
{
	poll_end(&c->done_poll);
	timer_end(&c->retry);
	hang_up(c);
	close_fds(c);
}

/* ---- new listeners ---- */

struct added {
	struct keeper_request r;
	struct cell *c;
	uint32_t listener;
};

static void listener_taken(struct keeper_request *r, void *arg)
{
	struct added *a = arg;

	if (!r->err) {
		a->c->shared->listener_fd[a->listener] = (int)r->number[0];
		cell_order_simple(a->c, CMAN_ORDER_SYNC);
	}
	cman_cell_import_end(a->c->shared);
	close(r->fd[0]);
	free(a);
}

void cells_add_listener(struct manager *m, uint32_t listener, int fd)
{
	for (uint32_t i = 0; i < m->ncells; i++) {
		struct added *a = calloc(1, sizeof(*a));

		if (!a)
			return;
		a->c = &m->cells[i];
		a->listener = listener;
		a->r.type = CMAN_FRAME_TAKE;
		a->r.n = 1;
		a->r.fd[0] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		a->r.done = listener_taken;
		a->r.arg = a;
		cman_cell_import_begin(a->c->shared);
		cell_request(a->c, &a->r);
	}
}
