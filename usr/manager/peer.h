/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other manager of a handover, as both roles see it: its channel, its life (pidfd), its
 * journal. Frames and the loss of the peer are handed to the role; what the role's state machine
 * wants sent is sent here.
 */
#ifndef CMAN_MANAGER_PEER_H
#define CMAN_MANAGER_PEER_H

#include "usr/manager/manager.h"

struct peer {
	struct manager *m;
	struct cman_chan chan;
	bool open;
	uv_poll_t *chan_poll, *pid_poll;
	int pidfd;
	pid_t pid;
	char release[CMAN_NAME_LEN];
	struct cman_journal journal;   /* the other's; fd -1: not opened */
	const struct carrier *carrier; /* agreed by the HELLOs */
	struct remote *remote;	       /* another host; owned. NULL: this one */
	uint32_t remote_pid;
	char why[200]; /* ERROR of the other side, or of the channel */
	struct {
		uint64_t batch;
		uint8_t *data;
		size_t used, size;
	} stream; /* images that are arriving */
	/* @fds belong to the callee */
	void (*on_frame)(void *arg, const struct cman_frame *f, int *fds);
	void (*on_lost)(void *arg, bool dead);
	void *arg;
};

/* Takes the channel (its struct is copied, its descriptor owned from now on). */
void peer_init(struct peer *p, struct manager *m, struct cman_chan *chan);
/* Starts polling channel and pidfd. */
void peer_watch(struct peer *p);
/* Moves channel, pid and journal of @from, which ends, into @to, which is unwatched. */
void peer_move(struct peer *to, struct peer *from);
void peer_close(struct peer *p); /* the channel; the pidfd stays watched */
bool peer_kill(struct peer *p);	 /* one that hangs; false: it cannot be reached */
void peer_fini(struct peer *p);

/* Writes the fields of our HELLO, checks those of the other's: NULL or what does not fit. */
void peer_hello(struct peer *p, enum cman_carrier_choice carrier, uint32_t sequence);
const char *peer_check_hello(struct peer *p, const struct cman_frame *f);

int peer_send(struct peer *p, struct cman_frame_writer *w, const int *fds, unsigned int nfds);
/* A frame that has a batch id at most. */
int peer_send_simple(struct peer *p, enum cman_frame_type type, uint64_t id, bool rollback);
/* ERROR with a sentence, then the channel is closed. */
void peer_reject(struct peer *p, const char *why);

/*
 * A piece of an image stream: appended to @p->stream, which begins anew with another batch. 0, -ENOMEM,
 * or -EMSGSIZE. peer_stream() hands the stream of @batch out, malloc'ed; NULL: there is none of
 * @len bytes.
 */
int peer_collect(struct peer *p, const struct cman_frame *f);
uint8_t *peer_stream(struct peer *p, uint64_t batch, uint64_t len);

/* The event that a frame means to the state machines; NONE for HELLO and LISTENERS. */
struct cman_event peer_event(const struct cman_frame *f);

/* Ends the manager, with the reason in the log, when @err is one. */
void journal_must(int err);

/* The highest epoch of all batch ids in it; 0: none. */
uint64_t journal_epoch(struct cman_journal *j);

/*
 * DECIDE on a journal that may be another process's: PARKED -> COMMIT, ABORT, TAKE; PREPARED -> LIVE;
 * PREPARED or nothing -> DROP. Returns what the register says afterwards.
 */
enum cman_register journal_settle(struct cman_journal *j, uint64_t id, enum cman_register want);

/*
 * What @j, the journal of the instance that has @slot, says about the batch of a LEAVING or PREPARED
 * slot. The slot knows the low bits of the id only: an instance may have been source and target
 * before, with the same numbers. Of those this can only be one that is not DONE, and of its role.
 */
enum cman_register journal_of_slot(struct cman_journal *j, const struct cman_slot *slot,
				   uint64_t *ret_id);

#endif
