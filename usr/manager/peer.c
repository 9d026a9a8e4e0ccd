/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Talking to the other manager of a handover: see peer.h.
 */
#include "usr/manager/peer.h"

#include "usr/manager/carrier.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "usr/sys/log.h"
#include "usr/sys/proc.h"
#include "usr/sys/secret.h"

#define STREAM_MAX \
	((size_t)1 << 30) /* bytes of one batch: what usr/core/image.h takes by default */
#define DEATH_MS 20	  /* a channel that ends is a death that comes in a moment, mostly */

void peer_init(struct peer *p, struct manager *m, struct cman_chan *chan)
{
	memset(p, 0, sizeof(*p));
	p->m = m;
	p->chan = *chan;
	if (!p->chan.out_head)
		p->chan.out_tail = &p->chan.out_head;
	p->open = true;
	p->pidfd = -1;
	p->journal.fd = -1;
	p->carrier = &carrier_fd;
}

static void lost(struct peer *p)
{
	struct pollfd d = { .fd = p->pidfd, .events = POLLIN };
	bool dead;

	peer_close(p);
	dead = p->pidfd >= 0 && poll(&d, 1, DEATH_MS) > 0;
	p->on_lost(p->arg, dead);
}

static void chan_events(struct peer *p);

static void on_chan(uv_poll_t *handle, int status, int events)
{
	struct peer *p = handle->data;
	int fds[CMAN_FRAME_MAX_FDS], err = status < 0 ? -EPIPE : 0;
	struct cman_frame f;

	if (!err && (events & UV_WRITABLE))
		err = cman_chan_flush(&p->chan);
	if (err == -EAGAIN)
		err = 0;
	while (!err && p->open) {
		err = cman_chan_receive(&p->chan, &f, fds);
		if (!err)
			p->on_frame(p->arg, &f, fds);
	}
	if (!p->open)
		return;
	if (err == -EAGAIN) {
		chan_events(p);
		return;
	}
	if (p->chan.why && !p->why[0])
		snprintf(p->why, sizeof(p->why), "%s", p->chan.why);
	if (err != -EPIPE && err != -ECONNRESET && !p->remote) {
		cman_warn("the handover channel is broken", "why=\"%s\"",
			  p->chan.why ? p->chan.why : strerror(-err));
		peer_reject(p, p->chan.why ? p->chan.why : "the frame cannot be read");
	}
	lost(p);
}

static void chan_events(struct peer *p)
{
	poll_change(p->chan_poll,
		    UV_READABLE | (cman_chan_wants_write(&p->chan) ? UV_WRITABLE : 0));
}

static void on_death(uv_poll_t *handle, int status, int events)
{
	struct peer *p = handle->data;

	(void)status;
	(void)events;
	poll_end(&p->pid_poll);
	peer_close(p);
	p->on_lost(p->arg, true);
}

void peer_watch(struct peer *p)
{
	p->chan_poll = poll_begin(p->m, p->chan.fd, UV_READABLE, on_chan, p);
	chan_events(p);
	if (p->pid <= 0)
		return;
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	if (p->pidfd < 0)
		return;
	p->pid_poll = poll_begin(p->m, p->pidfd, UV_READABLE, on_death, p);
}

void peer_move(struct peer *to, struct peer *from)
{
	poll_end(&from->chan_poll);
	poll_end(&from->pid_poll);
	if (from->pidfd >= 0)
		close(from->pidfd);
	peer_init(to, from->m, &from->chan);
	to->open = from->open;
	to->pid = from->pid;
	to->journal = from->journal;
	to->carrier = from->carrier;
	to->remote = from->remote;
	from->remote = NULL;
	to->remote_pid = from->remote_pid;
	memcpy(to->release, from->release, sizeof(to->release));
	from->open = false;
	from->pidfd = -1;
	from->journal.fd = -1;
}

void peer_close(struct peer *p)
{
	if (!p->open)
		return;
	p->open = false;
	poll_end(&p->chan_poll);
	cman_chan_fini(&p->chan);
}

bool peer_kill(struct peer *p)
{
	return p->pidfd >= 0 && !syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
}

/* Images hold the secrets of sessions with TLS. */
static void stream_free(struct peer *p)
{
	cman_secret_wipe(p->stream.data, p->stream.used);
	free(p->stream.data);
	memset(&p->stream, 0, sizeof(p->stream));
}

/* Room for @size bytes; realloc() would leave a copy behind. */
static int stream_grow(struct peer *p, size_t size)
{
	uint8_t *more = malloc(size);

	if (!more)
		return -ENOMEM;
	if (p->stream.used)
		memcpy(more, p->stream.data, p->stream.used);
	cman_secret_wipe(p->stream.data, p->stream.used);
	free(p->stream.data);
	p->stream.data = more;
	p->stream.size = size;
	return 0;
}

void peer_fini(struct peer *p)
{
	peer_close(p);
	poll_end(&p->pid_poll);
	if (p->pidfd >= 0) {
		close(p->pidfd);
		p->pidfd = -1;
	}
	if (p->journal.fd >= 0)
		cman_journal_close(&p->journal);
	p->journal.fd = -1;
	free(p->remote);
	p->remote = NULL;
	stream_free(p);
}

int peer_collect(struct peer *p, const struct cman_frame *f)
{
	const uint8_t *chunk;
	uint64_t batch;
	size_t n;

	if (cman_frame_u64(f, CMAN_TAG_BATCH_ID, &batch) ||
	    cman_frame_bytes(f, CMAN_TAG_CHUNK, &chunk, &n))
		return -EBADMSG;
	if (batch != p->stream.batch)
		stream_free(p);
	p->stream.batch = batch;
	if (p->stream.used + n > STREAM_MAX)
		return -EMSGSIZE;
	if (p->stream.used + n > p->stream.size && stream_grow(p, (p->stream.used + n) * 2))
		return -ENOMEM;
	memcpy(p->stream.data + p->stream.used, chunk, n);
	p->stream.used += n;
	return 0;
}

uint8_t *peer_stream(struct peer *p, uint64_t batch, uint64_t len)
{
	uint8_t *data = p->stream.data;

	if (!data || p->stream.batch != batch || p->stream.used != len)
		return NULL;
	memset(&p->stream, 0, sizeof(p->stream));
	return data;
}

int peer_send(struct peer *p, struct cman_frame_writer *w, const int *fds, unsigned int nfds)
{
	int err;

	if (!p->open) {
		cman_frame_free(w);
		return -EPIPE;
	}
	err = cman_chan_send(&p->chan, w, fds, nfds);
	if (err)
		cman_warn("a frame of the handover was not sent", "err=\"%s\" why=\"%s\"",
			  strerror(-err), p->chan.why ? p->chan.why : "");
	else
		chan_events(p);
	return err;
}

int peer_send_simple(struct peer *p, enum cman_frame_type type, uint64_t id, bool rollback)
{
	struct cman_frame_writer w;

	cman_frame_begin(&w, type, 0);
	if (id)
		cman_frame_add_u64(&w, CMAN_TAG_BATCH_ID, id);
	if (type == CMAN_FRAME_CANCEL)
		cman_frame_add_u8(&w, CMAN_TAG_ROLLBACK, rollback);
	return peer_send(p, &w, NULL, 0);
}

void peer_reject(struct peer *p, const char *why)
{
	struct cman_frame_writer w;

	cman_frame_begin(&w, CMAN_FRAME_ERROR, 0);
	cman_frame_add_text(&w, CMAN_TAG_TEXT, why);
	peer_send(p, &w, NULL, 0);
}

void peer_hello(struct peer *p, enum cman_carrier_choice carrier, uint32_t sequence)
{
	struct cman_frame_writer w;
	uint8_t boot_id[16] = { 0 };
	uint64_t netns = 0;

	cman_proc_boot_id(boot_id);
	cman_proc_netns(&netns);
	cman_frame_begin(&w, CMAN_FRAME_HELLO, sequence);
	cman_frame_add_range(&w, CMAN_WIRE_MIN, CMAN_WIRE_MAX);
	cman_frame_add_text(&w, CMAN_TAG_RELEASE, cman_version);
	cman_frame_add_text(&w, CMAN_TAG_ALIAS, p->m->alias);
	cman_frame_add_u32(&w, CMAN_TAG_PID, (uint32_t)getpid());
	cman_frame_add_bytes(&w, CMAN_TAG_BOOT_ID, boot_id, sizeof(boot_id));
	cman_frame_add_u64(&w, CMAN_TAG_NETNS, netns);
	cman_frame_add_u8(&w, CMAN_TAG_CARRIER, (uint8_t)carrier);
	if (p->m->ncells)
		cman_frame_add_u32(&w, CMAN_TAG_SESSIONS, instance_sessions(p->m));
	if (p->m->opt.timeout_s)
		cman_frame_add_u32(&w, CMAN_TAG_TIMEOUT, p->m->opt.timeout_s);
	peer_send(p, &w, NULL, 0);
}

const char *peer_check_hello(struct peer *p, const struct cman_frame *f)
{
	uint8_t boot_id[16] = { 0 }, min, max, carrier;
	uint64_t netns = 0, other_netns;
	const uint8_t *bytes;
	size_t n;
	pid_t pid;
	uid_t uid;

	if (cman_frame_range(f, &min, &max) ||
	    cman_wire_choose(min, max, CMAN_WIRE_MIN, CMAN_WIRE_MAX) < 0)
		return "no version of the handover protocol in common: move by a release in between";
	if (cman_frame_bytes(f, CMAN_TAG_ALIAS, &bytes, &n) || n != strlen(p->m->alias) ||
	    memcmp(bytes, p->m->alias, n))
		return "this is another instance: the alias differs";
	cman_proc_boot_id(boot_id);
	cman_proc_netns(&netns);
	if (cman_frame_bytes(f, CMAN_TAG_BOOT_ID, &bytes, &n) || memcmp(bytes, boot_id, 16))
		return "the two instances are not on one kernel (the boot ids differ): cmanctl migrate --to";
	if (cman_frame_u64(f, CMAN_TAG_NETNS, &other_netns) || other_netns != netns)
		return "the two instances are not in one network namespace: cmanctl migrate --to";
	if (!cman_frame_u8(f, CMAN_TAG_CARRIER, &carrier))
		p->carrier = carrier == CMAN_VIA_REPAIR ? &carrier_repair : &carrier_fd;
	if (!cman_frame_bytes(f, CMAN_TAG_RELEASE, &bytes, &n))
		snprintf(p->release, sizeof(p->release), "%.*s", (int)n, (const char *)bytes);
	if (cman_chan_peer(&p->chan, &pid, &uid))
		return "the peer cannot be identified";
	if (uid && uid != geteuid())
		return "only root and the owner of the instance may take it over";
	p->pid = pid;
	return NULL;
}

struct cman_event peer_event(const struct cman_frame *f)
{
	static const enum cman_event_type types[] = {
		[CMAN_FRAME_READY] = CMAN_EV_READY,
		[CMAN_FRAME_NAMED] = CMAN_EV_NAMED,
		[CMAN_FRAME_BATCH] = CMAN_EV_BATCH,
		[CMAN_FRAME_PREPARED] = CMAN_EV_PREPARED,
		[CMAN_FRAME_REFUSED] = CMAN_EV_REFUSED,
		[CMAN_FRAME_COMMIT] = CMAN_EV_COMMIT,
		[CMAN_FRAME_COMMITTED] = CMAN_EV_COMMITTED,
		[CMAN_FRAME_ABORT] = CMAN_EV_ABORT,
		[CMAN_FRAME_DROPPED] = CMAN_EV_DROPPED,
		[CMAN_FRAME_QUERY] = CMAN_EV_QUERY,
		[CMAN_FRAME_DONE] = CMAN_EV_DONE,
		[CMAN_FRAME_CANCEL] = CMAN_EV_CANCEL,
		[CMAN_FRAME_FINISHED] = CMAN_EV_FINISHED,
		[CMAN_FRAME_IMAGES] = CMAN_EV_BATCH,
	};
	struct cman_event ev = { .type = CMAN_EV_NONE };
	uint8_t rollback = 0;

	if (f->type < sizeof(types) / sizeof(*types))
		ev.type = types[f->type];
	cman_frame_u64(f, CMAN_TAG_BATCH_ID, &ev.id);
	if (!cman_frame_u8(f, CMAN_TAG_ROLLBACK, &rollback))
		ev.rollback = rollback;
	if (f->type == CMAN_FRAME_BATCH) {
		struct cman_wire_session s;
		size_t cursor = 0;

		while (!cman_frame_next_session(f, &cursor, &s))
			ev.count++;
	} else if (f->type == CMAN_FRAME_IMAGES) {
		cman_frame_u32(f, CMAN_TAG_COUNT, &ev.count);
	}
	return ev;
}

void journal_must(int err)
{
	if (!err)
		return;
	/* Going on would be to guess who owns a batch. The sessions live on without a manager, and
	 * the next one resolves what is in doubt. */
	cman_err("the handover journal cannot be used: the manager ends; cmanctl startup adopts",
		 "err=\"%s\"", strerror(-err));
	_exit(1);
}

static int highest(void *arg, uint64_t id, enum cman_register value, uint32_t count,
		   uint64_t time_ns)
{
	uint64_t *epoch = arg;

	(void)value;
	(void)count;
	(void)time_ns;
	if (id >> 32 > *epoch)
		*epoch = id >> 32;
	return 0;
}

uint64_t journal_epoch(struct cman_journal *j)
{
	uint64_t epoch = 0;

	cman_journal_each(j, highest, &epoch);
	return epoch;
}

enum cman_register journal_settle(struct cman_journal *j, uint64_t id, enum cman_register want)
{
	bool targets = want == CMAN_REG_LIVE || want == CMAN_REG_DROP;
	enum cman_register value = CMAN_REG_UNKNOWN;

	journal_must(cman_journal_decide(j, id, targets ? CMAN_REG_PREPARED : CMAN_REG_PARKED, want,
					 &value));
	if (want == CMAN_REG_DROP && value == CMAN_REG_UNKNOWN)
		journal_must(cman_journal_decide(j, id, CMAN_REG_UNKNOWN, want, &value));
	return value;
}

struct lookup {
	bool leaving;
	uint16_t batch;
	uint64_t id;
	enum cman_register value;
};

static int of_slot(void *arg, uint64_t id, enum cman_register value, uint32_t count,
		   uint64_t time_ns)
{
	struct lookup *l = arg;
	bool sources = value >= CMAN_REG_PARKED && value <= CMAN_REG_TAKE;

	(void)count;
	(void)time_ns;
	if ((uint16_t)id == l->batch && sources == l->leaving && value != CMAN_REG_DONE) {
		l->id = id;
		l->value = value;
	}
	return 0;
}

enum cman_register journal_of_slot(struct cman_journal *j, const struct cman_slot *slot,
				   uint64_t *ret_id)
{
	struct lookup l = { .leaving = slot->state == CMAN_SLOT_LEAVING, .batch = slot->batch };

	if (j->fd >= 0)
		journal_must(cman_journal_each(j, of_slot, &l));
	*ret_id = l.id;
	return l.value;
}
