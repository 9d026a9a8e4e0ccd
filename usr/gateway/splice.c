/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions that the kernel relays (splice = "sockmap"): when one enters, what the gateway still
 * does for it, and how it leaves, in order. The steps are in usr/sys/splice.h.
 *
 * The ledger of such a session: flag SPLICED, nothing bound, both positions as they were when it
 * entered. R of a direction is what the kernel has redirected since then; what is in between waits
 * in the other leg's psock and is written by the kernel, whoever lives. So a successor has nothing to
 * do but to go on watching.
 *
 *	enters	SPLICED, entries of both legs, hold, run. Each can be done again.
 *	FIN	once all before it was redirected and written: shutdown(other leg), eof bit
 *	over	the program has left a direction to user space: once what it redirected has been
 *		written, the position says so, and from then on that direction is pumped as ever (by recv:
 *		splice does not see what the psock keeps). The other direction stays with the kernel.
 *	leaves	END bits; the iterator takes the legs out; what waits is written; the entries go;
 *		positions; SPLICED goes. Before that, a direction that is over is read to its end.
 *
 * Nobody tells when the last waiting byte was written: a session that waits for it is looked at
 * again after a millisecond.
 */
#include "usr/gateway/internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "usr/sys/log.h"
#include "usr/sys/splice.h"

#define ENTER_AFTER  16	      /* short messages in a row: long ones are faster in user space */
#define FREEZE_NS    50000000 /* what may be waited for in one order */
#define LOOK_NS	     100000
#define GAGGED_TURNS 64 /* of 1 MB: more than a receive buffer holds */
#define GAG_AFTER    2	/* attempts to end a direction that is over, before its peer is gagged */

#define END_BITS (CMAN_SLOT_END_CLIENT | CMAN_SLOT_END_SERVER)

struct legs {
	struct cman_splice_leg entry[2];
	struct cman_leg leg[2];
};

static struct cman_splice *maps_of(struct gateway *g)
{
	return &g->splice_maps;
}

static uint8_t end_bit(enum leg leg)
{
	return leg == LEG_CLIENT ? CMAN_SLOT_END_CLIENT : CMAN_SLOT_END_SERVER;
}

static uint32_t number_of(struct gateway *g, uint32_t i)
{
	return g->env->index * g->nslots + i;
}

static bool is_spliced(struct gateway *g, uint32_t i)
{
	return slot_of(g, i)->state == CMAN_SLOT_RELAYING &&
	       (slot_of(g, i)->flags & CMAN_SLOT_SPLICED);
}

static void look_again(struct gateway *g, uint32_t i)
{
	if (g->live[i].want & WANT_WATCH)
		return;
	g->live[i].want |= WANT_WATCH;
	g->watched[g->nwatched++] = i;
}

void gw_splice_start(struct gateway *g)
{
	for (int n = 0; n < CMAN_SPLICE_FDS; n++)
		g->splice_maps.fd[n] = g->env->splice_fd[n];
	g->splice = g->env->splice_fd[0] > 0;
	if (!g->splice)
		return;
	free(g->watched); /* an ancestor's */
	g->watched = calloc(g->nslots, sizeof(*g->watched));
	if (!g->watched)
		g->splice = false; /* who is in the kernel stays there until a successor has memory */
}

static uint64_t redirected(const struct cman_splice_leg *e)
{
	return e->base + e->redirected;
}

/* Bytes that a leg has taken for good, cumulative. */
static uint64_t written_to(const struct cman_slot *s, const struct legs *legs, int dir)
{
	return cman_leg_written(&legs->leg[!dir]) + (uint64_t)s->flow[dir].write_base;
}

/* Leg number and direction are the same: CMAN_UP comes from LEG_CLIENT. */
static bool drained(const struct cman_slot *s, const struct legs *legs, int dir)
{
	return written_to(s, legs, dir) >= redirected(&legs->entry[dir]);
}

static int read_legs(struct gateway *g, uint32_t i, struct legs *ret)
{
	const struct cman_slot *s = slot_of(g, i);
	int err = cman_splice_leg(maps_of(g), s->client_cookie, &ret->entry[LEG_CLIENT]);

	if (!err)
		err = cman_splice_leg(maps_of(g), s->server_cookie, &ret->entry[LEG_SERVER]);
	/* the entries first: what they count was written after */
	return err ? err : gw_counters(s, ret->leg);
}

static int end_legs(struct gateway *g)
{
	int err;

	/* a descriptor that is not recorded exists meanwhile */
	cman_cell_mark(g->env, true);
	err = cman_splice_end(maps_of(g));
	cman_cell_mark(g->env, false);
	return err;
}

static void count_bytes(struct gateway *g, const struct legs *legs)
{
	for (int dir = 0; dir < 2; dir++)
		g->cell->bytes[dir] += legs->entry[dir].redirected;
}

void gw_splice_forget(struct gateway *g, uint32_t i, bool sure)
{
	struct cman_slot *s = slot_of(g, i);
	uint64_t cookies[2] = { s->client_cookie, s->server_cookie };
	struct legs legs;

	if (sure) {
		g->spliced--;
		if (!read_legs(g, i, &legs))
			count_bytes(g, &legs);
	}
	cman_splice_forget(maps_of(g), cookies);
}

/* Both legs are out and nothing waits: an ordinary session again. */
static void leave(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	uint64_t cookies[2] = { s->client_cookie, s->server_cookie };
	struct cman_between between[2];
	struct cman_leg legs[2];
	int err = cman_splice_forget(maps_of(g), cookies);

	for (int leg = 0; leg < 2; leg++)
		cman_splice_gag(maps_of(g), leg_fd(s, (enum leg)leg), false);
	if (!err)
		err = gw_counters(s, legs);
	for (int dir = 0; dir < 2 && !err; dir++)
		err = cman_flow_between(&s->flow[dir], CMAN_BOUND_NONE, &legs[dir], &legs[!dir],
					&between[dir]);
	if (err) {
		if (legs[0].tcp_state != TCP_CLOSE && legs[1].tcp_state != TCP_CLOSE) {
			g->cell->lost++;
			cman_err("a session could not be taken back from the kernel",
				 "session=%016llx err=%d", (unsigned long long)s->id, err);
		}
		gw_reset(g, i);
		return;
	}
	for (int dir = 0; dir < 2; dir++)
		set_position(s, dir, between[dir].read);
	CMAN_CRASH(KERNEL_POSITION);
	__atomic_and_fetch(&s->flags, (__u8) ~(CMAN_SLOT_SPLICED | END_BITS), __ATOMIC_RELEASE);
	CMAN_CRASH(KERNEL_LEFT);
	g->spliced--;
	g->live[i].turns = 0;
	/* what came meanwhile gave its edge already */
	gw_queue(g, i, 1u << CMAN_UP | 1u << CMAN_DOWN);
}

/* A FIN has come and all before it is through? 1: passed on; 0: not yet; -1: the session ended. */
static int pass_eof(struct gateway *g, uint32_t i, int dir, const struct legs *legs)
{
	struct cman_slot *s = slot_of(g, i);
	uint8_t eof = dir == CMAN_UP ? CMAN_EOF_UP : CMAN_EOF_DOWN;
	uint64_t all = legs->leg[dir].received - 1 + (uint64_t)s->flow[dir].read_base;

	if (redirected(&legs->entry[dir]) != all || written_to(s, legs, dir) < all)
		return 0;
	CMAN_CRASH(KERNEL_EOF);
	if ((s->eof | eof) != (CMAN_EOF_UP | CMAN_EOF_DOWN) &&
	    shutdown(leg_fd(s, dir == CMAN_UP ? LEG_SERVER : LEG_CLIENT), SHUT_WR) < 0 &&
	    errno != ENOTCONN) {
		gw_reset(g, i);
		return -1;
	}
	s->eof |= eof;
	CMAN_CRASH(KERNEL_EOF_STORED);
	return gw_close_if_ended(g, i) ? -1 : 1;
}

/* What the program left to user space. False: the session ended. *ret_wait: not its turn yet. */
static bool pump_over(struct gateway *g, uint32_t i, int dir, const struct legs *legs,
		      bool *ret_wait)
{
	struct cman_slot *s = slot_of(g, i);
	uint32_t gen = g->live[i].gen;

	if (s->flow[dir].position < redirected(&legs->entry[dir])) {
		if (!drained(s, legs, dir)) {
			*ret_wait = true;
			return true;
		}
		set_position(s, dir, redirected(&legs->entry[dir]));
		CMAN_CRASH(KERNEL_OVER);
	}
	gw_pump(g, i, dir, true);
	return g->live[i].gen == gen && s->state == CMAN_SLOT_RELAYING;
}

/* Is a direction that is over read to its end, for now? */
static bool is_quiet(struct gateway *g, uint32_t i, int dir, const struct legs *legs)
{
	struct cman_slot *s = slot_of(g, i);

	return !s->bound[dir] && !(g->live[i].want & (1u << dir)) &&
	       s->flow[dir].position >= redirected(&legs->entry[dir]);
}

/* A closed socket is not among those that the iterator sees. */
static bool is_out(const struct legs *legs, enum leg leg)
{
	return legs->entry[leg].ended || legs->leg[leg].tcp_state == TCP_CLOSE;
}

/* A leg that went over in the instant before the iterator came to it is still in. */
static void end_rest(struct gateway *g, uint32_t i, const struct legs *legs)
{
	struct live *l = &g->live[i];

	for (int dir = 0; dir < 2; dir++) {
		if (is_out(legs, (enum leg)dir))
			continue;
		if (!legs->entry[dir].over)
			return;
		if (l->attempts++ == GAG_AFTER)
			cman_splice_gag(maps_of(g), leg_fd(slot_of(g, i), (enum leg)dir), true);
		if (is_quiet(g, i, dir, legs))
			end_legs(g);
		return;
	}
}

/*
 * Everything that may be due for a session that the kernel relays: after an event, in a recovery, when
 * it waits for something. Repeatable. True: it still exists and waits for nothing.
 */
static bool look(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	bool wait = false;
	struct legs legs;
	int err = read_legs(g, i, &legs);

	if (err == -ENOENT && (s->flags & END_BITS) == END_BITS) {
		leave(g, i); /* a predecessor had removed the entries */
		return false;
	}
	if (err || legs.entry[0].broken || legs.entry[1].broken) {
		g->cell->lost++;
		cman_err("the kernel's relaying of a session has failed",
			 "session=%016llx err=%d broken=%u", (unsigned long long)s->id, err,
			 err ? 0 : legs.entry[0].broken | legs.entry[1].broken);
		gw_reset(g, i);
		return false;
	}
	if (cman_leg_was_reset(&legs.leg[0], &legs.leg[1]) ||
	    cman_leg_was_reset(&legs.leg[1], &legs.leg[0])) {
		gw_reset(g, i);
		return false;
	}
	for (int dir = 0; dir < 2; dir++) {
		uint8_t eof = dir == CMAN_UP ? CMAN_EOF_UP : CMAN_EOF_DOWN;
		int done;

		if ((s->eof & eof) || legs.entry[dir].ended)
			continue;
		if (legs.entry[dir].over) {
			if (!pump_over(g, i, dir, &legs, &wait))
				return false;
			continue;
		}
		if (!cman_leg_fin_received(&legs.leg[dir]))
			continue;
		done = pass_eof(g, i, dir, &legs);
		if (done < 0)
			return false;
		wait |= !done;
	}
	if ((s->flags & END_BITS) == END_BITS) {
		if (is_out(&legs, LEG_CLIENT) && is_out(&legs, LEG_SERVER) &&
		    drained(s, &legs, CMAN_UP) && drained(s, &legs, CMAN_DOWN)) {
			CMAN_CRASH(KERNEL_DRAINED);
			count_bytes(g, &legs);
			leave(g, i);
			return false;
		}
		end_rest(g, i, &legs);
		wait = true;
	}
	if (wait)
		look_again(g, i);
	return !wait;
}

void gw_splice_watch(struct gateway *g)
{
	uint32_t n = g->nwatched;

	g->nwatched = 0;
	for (uint32_t k = 0; k < n; k++) {
		uint32_t i = g->watched[k];

		g->live[i].want &= (uint8_t)~WANT_WATCH;
		if (slot_of(g, i)->state == CMAN_SLOT_RELAYING &&
		    (slot_of(g, i)->flags & CMAN_SLOT_SPLICED))
			look(g, i);
	}
}

/* ---- entering ---- */

static int enter(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	struct cman_splice_side side[2] = {
		{ s->client_fd, s->client_cookie, s->flow[CMAN_UP].position },
		{ s->server_fd, s->server_cookie, s->flow[CMAN_DOWN].position },
	};

	return cman_splice_enter(maps_of(g), number_of(g, i), side);
}

/* Is there a protocol between TCP and the user, such as kTLS? */
static bool has_ulp(int fd)
{
	char name[16] = "";
	socklen_t len = sizeof(name);

	return getsockopt(fd, IPPROTO_TCP, TCP_ULP, name, &len) < 0 || (len && name[0]);
}

void gw_splice_consider(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);
	struct live *l = &g->live[i];
	struct cman_between between;
	struct cman_leg legs[2];

	if (l->flags & (LIVE_SPLICE(CMAN_UP) | LIVE_SPLICE(CMAN_DOWN)) || s->bound[CMAN_UP] ||
	    s->bound[CMAN_DOWN])
		l->turns = 0;
	else if (!(l->flags & LIVE_QUEUED))
		l->turns++;
	if (l->turns < ENTER_AFTER || l->flags & LIVE_QUEUED ||
	    !g->env->maps.services[s->service].splice || s->eof)
		return;
	l->turns = 0;
	/* sockmap and kTLS on one socket do not agree: some kernels then deliver the records */
	if (has_ulp(s->client_fd) || has_ulp(s->server_fd))
		return;
	if (gw_counters(s, legs) || legs[LEG_CLIENT].tcp_state != TCP_ESTABLISHED ||
	    legs[LEG_SERVER].tcp_state != TCP_ESTABLISHED)
		return;
	/* nothing is in between: the socket's word, not only the ledger's */
	for (int dir = 0; dir < 2; dir++)
		if (cman_flow_between(&s->flow[dir], CMAN_BOUND_NONE, &legs[dir], &legs[!dir],
				      &between) ||
		    between.read != s->flow[dir].position)
			return;
	if (!(l->flags & LIVE_NODELAY)) {
		setsockopt(s->server_fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		l->flags |= LIVE_NODELAY;
	}
	__atomic_or_fetch(&s->flags, CMAN_SLOT_SPLICED, __ATOMIC_RELEASE);
	CMAN_CRASH(KERNEL_MARKED);
	g->spliced++;
	l->attempts = 0;
	if (enter(g, i)) {
		/* no memory, or a leg has just ended: back, as far as it had come */
		__atomic_or_fetch(&s->flags, END_BITS, __ATOMIC_RELEASE);
		end_legs(g);
		look_again(g, i);
		return;
	}
	CMAN_CRASH(KERNEL_ENTERED);
}

void gw_splice_event(struct gateway *g, uint32_t i, enum leg leg, uint32_t events)
{
	struct cman_slot *s = slot_of(g, i);
	uint32_t gen = g->live[i].gen;
	struct cman_splice_leg entry;

	if ((events & EPOLLERR) && cman_sock_error(leg_fd(s, leg))) {
		gw_reset(g, i);
		return;
	}
	if (events & EPOLLOUT && s->bound[!leg])
		gw_pump(g, i, !leg, true);
	if (g->live[i].gen != gen || s->state != CMAN_SLOT_RELAYING)
		return;
	/* every redirected segment wakes us too: then there is nothing to do */
	if (!(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) && !(s->flags & END_BITS) &&
	    !cman_splice_leg(maps_of(g), leg ? s->server_cookie : s->client_cookie, &entry) &&
	    !entry.over && !entry.broken)
		return;
	look(g, i);
}

/* ---- leaving ---- */

/*
 * The directions that are over can only end when they are quiet. A sender that never pauses is gagged
 * first; then what has come is read to its end, unless the reader does not take it.
 */
static bool try_end_over(struct gateway *g, uint32_t i, bool gag)
{
	struct cman_slot *s = slot_of(g, i);
	bool quiet = false, blocked = false;
	uint8_t bits = 0;
	struct legs legs;

	for (int turn = 0; turn < (gag ? GAGGED_TURNS : 1) && !quiet && !blocked; turn++) {
		g->live[i].want &= WANT_WATCH;
		if (!look(g, i) || read_legs(g, i, &legs))
			break;
		quiet = true;
		bits = 0;
		for (int dir = 0; dir < 2; dir++) {
			if (!legs.entry[dir].over || legs.entry[dir].ended)
				continue;
			bits |= end_bit((enum leg)dir);
			blocked |= s->bound[dir] != CMAN_BOUND_NONE;
			quiet &= is_quiet(g, i, dir, &legs);
			if (gag && !turn) {
				cman_splice_gag(maps_of(g), leg_fd(s, (enum leg)dir), true);
				quiet = false; /* once more, now that nothing new comes */
			}
		}
		if (gag && !turn)
			CMAN_CRASH(KERNEL_GAGGED);
	}
	if (!is_spliced(g, i))
		return false;
	if (quiet) {
		__atomic_or_fetch(&s->flags, bits, __ATOMIC_RELEASE);
		CMAN_CRASH(KERNEL_END);
		end_legs(g);
		CMAN_CRASH(KERNEL_ENDED);
		if (read_legs(g, i, &legs))
			return false;
		for (int dir = 0; dir < 2; dir++)
			if (legs.entry[dir].over && !legs.entry[dir].ended)
				quiet = false;
	}
	if (quiet)
		return true;
	__atomic_and_fetch(&s->flags, (__u8)~END_BITS, __ATOMIC_RELEASE);
	for (int dir = 0; dir < 2 && gag; dir++)
		cman_splice_gag(maps_of(g), leg_fd(s, (enum leg)dir), false);
	return false;
}

/* The first half of leaving; the rest follows when what waits has been written. */
static bool begin_end(struct gateway *g, uint32_t i, bool gag)
{
	struct cman_slot *s = slot_of(g, i);
	struct legs legs;

	if ((s->flags & END_BITS) == END_BITS)
		return true;
	if (read_legs(g, i, &legs))
		return true; /* look() deals with it */
	if ((legs.entry[0].over || legs.entry[1].over) && !try_end_over(g, i, gag))
		return false;
	__atomic_or_fetch(&s->flags, END_BITS, __ATOMIC_RELEASE);
	CMAN_CRASH(KERNEL_END);
	return true;
}

void gw_splice_freeze(struct gateway *g, const struct cman_mailbox *m)
{
	uint64_t until = cman_now_ns() + FREEZE_NS;

	for (int turn = 0;; turn++) {
		bool begun = false, any = false;

		for (uint32_t k = 0; k < m->n && k < CMAN_BATCH; k++) {
			uint32_t i = m->slot[k];

			if (i >= g->high || slot_of(g, i)->id != m->id[k] || !is_spliced(g, i))
				continue;
			if ((slot_of(g, i)->flags & END_BITS) != END_BITS)
				begun |= begin_end(g, i, turn >= GAG_AFTER);
		}
		if (begun) {
			end_legs(g);
			CMAN_CRASH(KERNEL_ENDED);
		}
		for (uint32_t k = 0; k < m->n && k < CMAN_BATCH; k++) {
			uint32_t i = m->slot[k];

			if (i >= g->high || slot_of(g, i)->id != m->id[k] || !is_spliced(g, i))
				continue;
			look(g, i);
			any |= is_spliced(g, i);
		}
		if (!any || cman_now_ns() > until)
			return;
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_NS }, NULL);
	}
}

/* Once a second: who is alive, and who could come back from the kernel. */
void gw_splice_tick(struct gateway *g)
{
	for (uint32_t i = 0; i < g->high; i++) {
		struct cman_slot *s = slot_of(g, i);
		struct live *l = &g->live[i];
		struct cman_splice_leg entry[2];
		uint32_t moved;
		bool ready;

		if (!is_spliced(g, i) ||
		    cman_splice_leg(maps_of(g), s->client_cookie, &entry[LEG_CLIENT]) ||
		    cman_splice_leg(maps_of(g), s->server_cookie, &entry[LEG_SERVER]))
			continue;
		moved = (uint32_t)(entry[LEG_CLIENT].buffers + entry[LEG_SERVER].buffers);
		if (moved != l->turns)
			s->active_s = g->now_s;
		l->turns = moved;
		if (s->flags & END_BITS || !(entry[LEG_CLIENT].over || entry[LEG_SERVER].over))
			continue;
		ready = begin_end(g, i, l->attempts >= GAG_AFTER);
		if (!is_spliced(g, i))
			continue;
		if (ready) {
			end_legs(g);
			CMAN_CRASH(KERNEL_ENDED);
			look(g, i);
		} else if (l->attempts < GAG_AFTER) {
			l->attempts++;
		}
	}
}

/* ---- recovery ---- */

int gw_splice_recover(struct gateway *g, uint32_t i)
{
	struct cman_slot *s = slot_of(g, i);

	if (!g->splice)
		return -ENODEV;
	g->spliced++;
	g->live[i].attempts = 0;
	g->live[i].flags &= (uint8_t)~LIVE_NODELAY;
	for (int leg = 0; leg < 2; leg++) {
		cman_splice_gag(maps_of(g), leg_fd(s, (enum leg)leg), false);
		cman_splice_kick(leg_fd(s, (enum leg)leg));
	}
	if (s->flags & END_BITS) { /* a predecessor was ending it, or one leg of it */
		if ((s->flags & END_BITS) != END_BITS)
			__atomic_and_fetch(&s->flags, (__u8)~END_BITS, __ATOMIC_RELEASE);
		else
			end_legs(g);
	} else {
		int err = enter(g, i);

		if (err == -EOPNOTSUPP || err == -ENOENT)
			err = 0; /* a leg is no longer established: look() says what that means */
		if (err)
			return err;
	}
	look_again(g, i);
	return 0;
}
