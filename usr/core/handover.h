/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The handover: two pure state machines, one for the release that gives sessions away (source, S)
 * and one for the release that takes them (target, T). step(machine, event) changes the machine
 * and appends effects, in the order in which they must happen. No I/O, no clock, no carrier: the
 * shell (usr/manager/source.c, target.c) carries effects out and feeds the results back.
 *
 *	   S                                                 T
 *	   |  <------------------------------------- HELLO   |
 *	   |  HELLO, LISTENERS -------------------------->   |  gateways listen beside the old ones
 *	   |  <------------------------------------- READY   |
 *	   |  stop accepting, give up the name               |
 *	   |  NAMED ------------------------------------->   |  takes the name
 *	   |  <------------------------------------- NAMED   |
 *	   |                                                 |
 *	   |  FREEZE, journal PARKED, BATCH(id) ---------->  |  import, journal PREPARED
 *	   |  <---------------------------- PREPARED(id)     |  (silent until the commit)
 *	   |  register U -> COMMIT  *the commit point*       |
 *	   |  COMMIT(id) --------------------------------->  |  register LIVE, activate
 *	   |  <--------------------------- COMMITTED(id)     |
 *	   |  RELEASE (close own duplicates)                 |
 *	   |  ... DONE ---------------------------------->   |
 *	   |  <---------------------------------- FINISHED   |
 *	   exits                                             report
 *
 * Two registers decide a batch, each one record of a journal, changed only by compare-and-set under
 * that journal's lock (usr/sys/journal.h):
 *
 *	in S's journal:	PARKED (undecided) -> COMMIT or ABORT by S, -> TAKE by a T in doubt
 *	in T's journal:	PREPARED -> LIVE by T, -> DROP by T or by S on its behalf
 *
 *	T goes live only when S's register says COMMIT or TAKE *and* T won LIVE in its own.
 *	S thaws only when it won ABORT in its own, *or* won DROP in T's.
 *	S releases only when it knows that T's register says LIVE (COMMITTED says so).
 *
 * So each side can decide alone, at once, and both agree, whether the other is dead, hangs, or only
 * the channel broke:
 *
 *	S, SENT:  ABORT in S's; finds TAKE: as COMM.
 *	S, COMM:  DROP in T's; finds LIVE or DONE: release (H5), else thaw (H4).
 *	T, PREP:  TAKE in S's; TAKE or COMMIT: LIVE in its own, activate; else discard.
 *
 * That the peer is dead (pidfd) matters only for RESCUE: the survivor takes what is left. A peer
 * that is silent for too long is made a lost one by the shell: it closes the channel and says
 * PEER_LOST. A journal that cannot be read or written ends the manager: a crash is handled.
 *
 * A batch id is never reused: epoch << 32 | number from 1, the epoch being the source's
 * CLOCK_BOOTTIME seconds at the start of the handover, given by the shell (higher than any epoch in
 * its journal). An id that was live or dropped here is never imported again (tombstone).
 */
#ifndef CMAN_CORE_HANDOVER_H
#define CMAN_CORE_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CMAN_HANDOVER_WINDOW 4 /* batches in flight */

/* What the register of a batch says (also the kinds of journal records about it). */
enum cman_register {
	CMAN_REG_UNKNOWN = 0,
	CMAN_REG_PARKED = 1,   /* S: undecided (U) */
	CMAN_REG_COMMIT = 2,   /* S */
	CMAN_REG_ABORT = 3,    /* S */
	CMAN_REG_TAKE = 4,     /* T, in S's journal */
	CMAN_REG_PREPARED = 5, /* T, in its own */
	CMAN_REG_LIVE = 6,     /* T, in its own: the sessions are (to be) relayed here */
	CMAN_REG_DROP = 7,     /* T, or S on its behalf, in T's: tombstone */
	CMAN_REG_DONE = 8,     /* either, in its own: finished, nothing to resolve */
};

enum cman_handover_phase {
	CMAN_HO_HELLO = 0,     /* waiting for the other's HELLO */
	CMAN_HO_STARTING = 1,  /* S: waiting for READY; T: making gateways, waiting for NAMED */
	CMAN_HO_MOVING = 2,    /* batches */
	CMAN_HO_CANCELLED = 3, /* no new batches; those in flight are finished */
	CMAN_HO_DONE = 4,      /* S: DONE sent; T: DONE received */
	CMAN_HO_OVER = 5,      /* nothing more will happen */
	CMAN_HO_BROKEN = 6,    /* the peer is gone; what was in flight is being resolved */
};

enum cman_batch_state {
	CMAN_BATCH_NONE = 0,
	/* source */
	CMAN_BATCH_PARK,     /* freeze ordered */
	CMAN_BATCH_SENT,     /* BATCH sent, undecided */
	CMAN_BATCH_COMM,     /* committed, COMMITTED not yet seen */
	CMAN_BATCH_ABORTG,   /* aborted, waiting for DROPPED */
	CMAN_BATCH_REIMP,    /* thaw ordered */
	CMAN_BATCH_OPENG,    /* release ordered */
	CMAN_BATCH_DECIDING, /* asked the register (or T's journal), waiting for the answer */
	/* target */
	CMAN_BATCH_IMPORT,  /* import ordered */
	CMAN_BATCH_PREP,    /* imported, PREPARED sent */
	CMAN_BATCH_PEND,    /* asked a register: TAKE in S's journal or LIVE in its own */
	CMAN_BATCH_ACTIVE,  /* activation ordered */
	CMAN_BATCH_DISCARD, /* discard ordered */
};

/* comments of several lines, aligned by hand */
/* clang-format off */
enum cman_event_type {
	CMAN_EV_NONE = 0,
	/* frames from the peer; the shell has checked their form */
	CMAN_EV_HELLO,	   /* ok: versions, kernel, netns and carrier were agreed; else reason */
	CMAN_EV_READY,
	CMAN_EV_NAMED,
	CMAN_EV_BATCH,	   /* id, count */
	CMAN_EV_PREPARED,  /* id */
	CMAN_EV_REFUSED,   /* id */
	CMAN_EV_COMMIT,	   /* id */
	CMAN_EV_COMMITTED, /* id */
	CMAN_EV_ABORT,	   /* id */
	CMAN_EV_DROPPED,   /* id */
	CMAN_EV_QUERY,	   /* id */
	CMAN_EV_DONE,
	CMAN_EV_CANCEL,	   /* rollback; from the peer or (local = true) from the operator */
	CMAN_EV_FINISHED,
	CMAN_EV_PEER_LOST, /* dead = true: by pidfd, its manager is certainly gone, and not in order (a
			    * manager that was shut down has removed its run files). The channel of one
			    * that dies ends first: look at the pidfd for a moment before saying dead =
			    * false. May come once more, with dead = true, also when it is OVER */
	/* results of effects */
	CMAN_EV_STARTED,   /* T: gateways accept; ok or not */
	CMAN_EV_NAME_GIVEN, /* S: stopped accepting, renamed; ok or not */
	CMAN_EV_NAME_TAKEN, /* T; ok or not */
	CMAN_EV_FROZEN,	   /* id, count sessions were frozen (0: nothing could be) */
	CMAN_EV_IMPORTED,  /* id, ok or not */
	CMAN_EV_ACTIVATED, /* id */
	CMAN_EV_DISCARDED, /* id */
	CMAN_EV_THAWED,	   /* id */
	CMAN_EV_RELEASED,  /* id */
	CMAN_EV_DECIDED,   /* id, value: what the register says now */
	CMAN_EV_POPULATION, /* S: movable = sessions that a freeze could take now; waiting = those that
			     * may become movable (connecting, closing); count = all */
	CMAN_EV_TIMEOUT,   /* S: handover_timeout: send DONE with what is left. T: batches have been
			    * prepared for long: ask what became of them */
};

struct cman_event {
	enum cman_event_type type;
	uint64_t id;
	uint32_t count, movable, waiting;
	enum cman_register value;
	bool ok, dead, rollback, local;
};

enum cman_effect_type {
	CMAN_EF_NONE = 0,
	CMAN_EF_SEND,	   /* frame `frame` (enum cman_frame_type) with id */
	CMAN_EF_JOURNAL,   /* record (id, value) in the own journal */
	CMAN_EF_DECIDE,	   /* compare-and-set; EV_DECIDED with what the register says afterwards.
			    *	value		journal	from
			    *	COMMIT, ABORT	S's	PARKED
			    *	TAKE		S's	PARKED
			    *	LIVE		T's	PREPARED
			    *	DROP		T's	PREPARED, and if that finds UNKNOWN: UNKNOWN */
	CMAN_EF_PASS_LISTENERS, /* S: send HELLO's answer and LISTENERS with the descriptors */
	CMAN_EF_START,	   /* T: make gateways on the listeners; EV_STARTED */
	CMAN_EF_GIVE_NAME, /* S: stop accepting, rename; EV_NAME_GIVEN */
	CMAN_EF_TAKE_NAME, /* T: rename; EV_NAME_TAKEN */
	CMAN_EF_RESUME,	   /* S: accept again, after taking the name back if it was given. ok = false:
			    * only when the name is free (rename with RENAME_NOREPLACE, as T's
			    * TAKE_NAME): T lives and may have taken it; then S stays the old one */
	CMAN_EF_FREEZE,	   /* S: freeze a batch of at most count sessions as id; EV_FROZEN */
	CMAN_EF_PACK,	   /* S: send BATCH id with the frozen sessions' state and descriptors */
	CMAN_EF_IMPORT,	   /* T: EV_IMPORTED; not ok: the shell has closed all of it. A BATCH without
			    * this effect is a repeat: close its descriptors */
	CMAN_EF_ACTIVATE,  /* T: EV_ACTIVATED */
	CMAN_EF_DISCARD,   /* T: EV_DISCARDED */
	CMAN_EF_THAW,	   /* S: EV_THAWED */
	CMAN_EF_RELEASE,   /* S: EV_RELEASED */
	CMAN_EF_WATCH,	   /* S: say POPULATION once: ok = true: at once, else when it has changed (or
			    * every 50 ms or so). Replaces a WATCH that has not been answered yet */
	CMAN_EF_RESCUE,	   /* either: the peer's manager is dead and in-flight batches are resolved:
			    * stop its gateways, then take the sessions that they have, each by
			    * cman_handover_owner(), then close its journal's records (PREPARED ->
			    * DROP first of all; at the end all others but DROP -> DONE). T takes the
			    * name too if it has not got it. The next effect waits until it is done */
	CMAN_EF_SWAP_ROLES, /* cancel with rollback: the target becomes a source and back; both make
			     * new machines on the same channel, T begins as S did (stands for OVER) */
	CMAN_EF_OVER,	   /* S: exit when nothing is left; T: report. ok: it came to its end in order
			    * (perhaps cancelled), not ok: refused or broken */
};
/* clang-format on */

struct cman_effect {
	enum cman_effect_type type;
	uint64_t id;
	uint8_t frame;
	uint32_t count;
	enum cman_register value;
	bool ok, rollback;
};

#define CMAN_EFFECTS_MAX 64
struct cman_effects {
	struct cman_effect e[CMAN_EFFECTS_MAX];
	unsigned int n;
};

struct cman_batch {
	uint64_t id;
	enum cman_batch_state state;
	uint32_t count;
	enum cman_register want; /* DECIDING, PEND: the value asked for */
	bool doomed;  /* S: cancelled or broken while freezing; T: ABORT arrived while importing */
	bool refused; /* S: T has nothing of it (REFUSED, DROPPED) */
	bool committed; /* T: COMMIT arrived while importing (after a resend) */
};

struct cman_tombstone {
	uint64_t id;
	bool live; /* or dropped */
};
#define CMAN_TOMBSTONES 256

struct cman_handover {
	bool source;
	enum cman_handover_phase phase;
	uint64_t epoch;
	uint32_t next;
	uint32_t batch_size;
	uint32_t window;
	uint32_t movable, waiting, population; /* S: as last told */

	uint32_t refusals;	       /* S: in a row, without a commit */
	bool named;		       /* S: name given and NAMED sent; T: NAMED came */
	bool taken;		       /* S: T has taken the name: sessions may be frozen */
	bool busy;		       /* waiting for NAME_GIVEN (S), STARTED or NAME_TAKEN (T) */
	bool ready;		       /* S: LISTENERS sent; T: READY sent */
	bool cancel_sent, cancel_seen; /* to, from the peer */
	bool rollback, peer_lost, peer_dead, watching, timed_out;
	uint32_t moved, failed; /* sessions; failed: came back to S after they were sent */
	struct cman_batch batch[CMAN_HANDOVER_WINDOW];
	struct cman_tombstone tombstone[CMAN_TOMBSTONES]; /* T: a ring, most recent */
	unsigned int ntombstones;			  /* T: ever */
	uint64_t highest;				  /* T: of all batch ids */
};

/* @batch_size: 1..CMAN_BATCH; @window: 1..CMAN_HANDOVER_WINDOW. */
void cman_source_init(struct cman_handover *h, uint64_t epoch, uint32_t batch_size,
		      uint32_t window);
void cman_target_init(struct cman_handover *h);

/*
 * Feeds one event. Effects are appended to @out (emptied first). An event that the phase does not
 * allow returns -EPROTO, changes nothing and gives no effect: from a peer, the shell answers with
 * an ERROR frame and treats the peer as lost.
 */
int cman_source_step(struct cman_handover *h, const struct cman_event *ev,
		     struct cman_effects *out);
int cman_target_step(struct cman_handover *h, const struct cman_event *ev,
		     struct cman_effects *out);

/*
 * Whose are the sessions of a batch that a dead manager left: @at_target is what T's journal says of
 * it. LIVE, DONE: T's: take T's slots (PREPARED ones too), close S's LEAVING ones silently. Else
 * S's: write DROP into T's journal (PREPARED -> DROP, by compare-and-set), take S's LEAVING slots,
 * discard T's. Slots in other states belong to the side that has them.
 */
enum cman_owner { CMAN_OWNER_SOURCE, CMAN_OWNER_TARGET };
enum cman_owner cman_handover_owner(enum cman_register at_target);

/* Batches in flight. */
unsigned int cman_handover_in_flight(const struct cman_handover *h);

const char *cman_phase_name(enum cman_handover_phase phase);
const char *cman_batch_state_name(enum cman_batch_state state);
const char *cman_event_name(enum cman_event_type type);
const char *cman_effect_name(enum cman_effect_type type);
const char *cman_register_name(enum cman_register value);

#endif
