/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handover on one host (usr/core/handover.h): one batch, two managers S and T, their cells, two
 * journals, one channel. Guarded atomic steps: each is one effect of a machine, one frame, or one
 * fault, and between any two there may be any other. A manager that hangs is one whose steps are
 * not taken.
 *
 *	-DFD		carrier fd: both cells hold the same sockets
 *	(else)		carrier repair: the socket is in one cell only, S keeps an image; one guard
 *	-DLIVE_FIRST	repair: T wins LIVE before it leaves repair (else: after)
 *	-DEGRESS_OPEN	repair: the guard stops the packets to us only, not ours
 *
 * Bounds: NATT batch ids, NCRASH deaths of managers, NBREAK breaks of the channel, NCELL deaths of
 * all processes of a cell, NDUP repeated frames, NREFUSE refusals, NCANCEL cancels. Each of the
 * other macros takes one rule away; Documentation/model.rst says what then fails.
 */
#ifndef NATT
#define NATT 2
#endif
#ifndef NCRASH
#define NCRASH 2
#endif
#ifndef NBREAK
#define NBREAK 1
#endif
#ifndef NCELL
#define NCELL 1
#endif
#ifndef NDUP
#define NDUP 1
#endif
#ifndef NREFUSE
#define NREFUSE 1
#endif
#ifndef NCANCEL
#define NCANCEL 1
#endif

#define S 0
#define T 1

/* enum cman_register */
#define UNKNOWN	 0
#define PARKED	 1
#define COMMIT	 2
#define ABORT	 3
#define TAKE	 4
#define PREPARED 5
#define LIVE	 6
#define DROP	 7
#define DONE	 8
#define AT_TARGET(r) ((r) == LIVE || (r) == DONE) /* cman_handover_owner() */

/* the batch's sockets in a cell */
#define NONE   0
#define REPAIR 1
#define FULL   2

#define LOST_CELL_S 1 /* all processes of the cell that had it are dead */
#define LOST_CELL_T 2
#define LOST_LEASE  3 /* no manager came, the guard's entries ran out */

mtype = { f_batch, f_prepared, f_refused, f_commit, f_committed, f_abort, f_dropped };

/* enum cman_batch_state, an effect's steps told apart; IDLE: no batch in flight; DOWN: no manager */
mtype = { DOWN, IDLE,
	  F_GUARD, F_REPAIR, F_IMAGE, F_PARKED, F_CLOSE, F_SEND, SENT,
	  D_COMMIT, D_ABORT, D_DROP, COMM_SEND, COMM, ABORT_SEND, ABORTG,
	  REIMP, THAW_GUARD, THAW_RELAY, THAW_IMAGE, THAW_DONE,
	  REL_GUARD, REL_IMAGE, REL_DONE,
	  IMPORTED, PREP_SEND, PREP, D_TAKE, LEAVE, D_LIVE, ACTIVE, ACT_DONE, ACT_SEND,
	  DROPPING, DISCARD, DISC_SEND,
	  R_DROP, R_TAKE, R_CLOSE };

/* Constants: what an assertion shows that fails. */
bool never_two_owners, never_open_without_socket, never_one_tuple_twice, never_imported_twice,
     never_stale_image, never_lost_without_cause, never_fin_of_a_nonowner, never_out_of_protocol,
     always_an_owner, always_thawed, always_resolved;

/* the managers' memory */
mtype vs = IDLE, vt = IDLE;
mtype s_back = IDLE;	   /* where S goes on after a rescue */
byte att, tid;		   /* id of the batch: S's, T's (its journal's last) */
bit refused;		   /* struct cman_batch.refused */

/* what outlives managers */
byte reg_s[NATT + 1], reg_t[NATT + 1];
byte sock[2];
bit relay[2];		   /* slots in state RELAY */
bit leaving, prepared;	   /* slots of S in state LEAVING, of T in state PREPARED */
bit guard;		   /* closed */
bit img;		   /* S's image is stored */

chan st = [4] of { mtype, byte };
chan ts = [4] of { mtype, byte };
bit conn = 1, view[2];	   /* the channel; what each side thinks of it */
bit perm[2];		   /* nobody will start a manager again */
bit gone[2];		   /* was rescued: its folder is removed */
byte locked;		   /* 1 + whose folder a rescuer has locked */

/* the truth that nobody in here can see */
bit stale;		   /* the session went on after the image was made */
bit died[2];		   /* a cell died, and what it had is nowhere else */
byte imported;		   /* highest id that T has imported */
byte lost;
byte ncrash, nbreak, ncell, ndup, nrefuse, ncancel;

/* --- small things */

inline send_t(m) { if :: conn -> assert(nfull(st)); st!m(att) :: else fi }
inline send_s(m, id) { if :: conn -> assert(nfull(ts)); ts!m(id) :: else fi }
inline forget(q) { do :: nempty(q) -> q?_, _ :: empty(q) -> break od }

inline lose(cause)
{
	if
	:: !lost ->
		assert(cause == LOST_LEASE || died[cause - LOST_CELL_S] ||
		       never_lost_without_cause);
		lost = cause
	:: else
	fi
}

inline relay_on(n)
{
	if
	:: sock[n] == FULL -> relay[n] = 1; stale = 1
	:: else -> lose(LOST_CELL_S + n)
	fi
}

inline import_image(n)
{
	assert(!stale || lost || never_stale_image);
	sock[n] = REPAIR
}

/* --- the order of a freeze */

#ifdef FD
#ifdef BATCH_EARLY
#define FREEZE	     F_SEND
#define AFTER_PARKED SENT
#define AFTER_SEND   F_PARKED
#else
#define FREEZE	     F_PARKED
#define AFTER_PARKED F_SEND
#define AFTER_SEND   SENT
#endif
#define AFTER_GUARD  SENT
#define AFTER_REPAIR SENT
#define AFTER_IMAGE  SENT
#define AFTER_CLOSE  SENT
#else
#ifdef GUARD_LATE
#define FREEZE	     F_REPAIR
#define AFTER_REPAIR F_IMAGE
#define AFTER_IMAGE  F_PARKED
#define AFTER_PARKED F_CLOSE
#define AFTER_CLOSE  F_GUARD
#define AFTER_GUARD  F_SEND
#define AFTER_SEND   SENT
#else
#define FREEZE	    F_GUARD
#define AFTER_GUARD F_REPAIR
#if defined(CLOSE_EARLY)
#define AFTER_REPAIR F_CLOSE
#define AFTER_CLOSE  F_IMAGE
#define AFTER_IMAGE  F_PARKED
#define AFTER_PARKED F_SEND
#define AFTER_SEND   SENT
#elif defined(BATCH_EARLY)
#define AFTER_REPAIR F_IMAGE
#define AFTER_IMAGE  F_CLOSE
#define AFTER_CLOSE  F_SEND
#define AFTER_SEND   F_PARKED
#define AFTER_PARKED SENT
#else
#define AFTER_REPAIR F_IMAGE
#define AFTER_IMAGE  F_PARKED
#define AFTER_PARKED F_CLOSE
#define AFTER_CLOSE  F_SEND
#define AFTER_SEND   SENT
#endif
#endif
#endif

#ifdef DONE_EARLY
#define REL_FIRST  REL_DONE
#define AFTER_DONE REL_GUARD
#define AFTER_IMG  IDLE
#else
#define REL_FIRST  REL_GUARD
#define AFTER_DONE IDLE
#define AFTER_IMG  REL_DONE
#endif
#define RELEASE vs = REL_FIRST

#ifdef NO_SWEEP
#define SWEEP false
#else
#define SWEEP img /* an image without frozen slots */
#endif
#ifdef NO_OWNER_RULE
#define T_OWNS false
#else
#define T_OWNS AT_TARGET(reg_t[att])
#endif
#ifdef NO_SLOT_EVIDENCE
#define FROZEN	 true
#define T_FROZEN true
#else
#define FROZEN	 leaving
#define T_FROZEN prepared
#endif
#ifdef FD
#define TAKEN_BY_S false
#else
#define TAKEN_BY_S (sock[S] != NONE)
#endif
/* LIVE_FIRST: that T won LIVE does not say that its socket is complete */
#if defined(LIVE_FIRST) && !defined(OPEN_ON_LIVE)
#define MAY_OPEN      (reg_t[att] == DONE || lost)
#define STUCK_ON_LIVE (vs == REL_GUARD && reg_t[att] == LIVE)
#else
#define MAY_OPEN      true
#define STUCK_ON_LIVE false
#endif

inline ask_abort()
{
#ifdef NO_ABORT_REGISTER
	vs = REIMP
#else
	vs = D_ABORT
#endif
}

inline s_verdict() /* what S's register says decides */
{
	if
	:: reg_s[att] == ABORT && (refused || !view[S]) -> vs = REIMP
	:: reg_s[att] == ABORT && !(refused || !view[S]) -> vs = ABORT_SEND
	:: (reg_s[att] == COMMIT || reg_s[att] == TAKE) && (refused || !view[S]) -> vs = D_DROP
	:: (reg_s[att] == COMMIT || reg_s[att] == TAKE) && !(refused || !view[S]) -> vs = COMM_SEND
	:: else -> assert(never_out_of_protocol)
	fi
}

inline s_nothing(id) /* REFUSED, DROPPED: T has nothing of it */
{
	if
	:: id == att && vs == SENT -> refused = 1; vs = D_ABORT
	:: id == att && vs == COMM -> refused = 1; vs = D_DROP
	:: id == att && vs == ABORTG -> refused = 1; vs = REIMP
	:: else
	fi
}

proctype Source()
{
	byte id;

end:	do
	:: atomic { vs == IDLE && relay[S] && att < NATT && conn && view[S] && view[T] ->
		att++; refused = 0; relay[S] = 0; leaving = 1; stale = 0; vs = FREEZE }
	:: atomic { vs == F_GUARD -> guard = 1; vs = AFTER_GUARD }
	:: atomic { vs == F_REPAIR ->
		if :: sock[S] == FULL -> sock[S] = REPAIR :: else fi;
		vs = AFTER_REPAIR }
	:: atomic { vs == F_IMAGE ->
#ifdef CLOSE_EARLY
		img = 1; vs = AFTER_IMAGE
#else
		if
		:: sock[S] == REPAIR -> img = 1; vs = AFTER_IMAGE
		:: else -> vs = REIMP /* FROZEN 0 */
		fi
#endif
	   }
#ifndef BATCH_EARLY
	:: atomic { vs == F_PARKED && !conn -> vs = REIMP } /* doomed: it was never sent */
#endif
	:: atomic { vs == F_PARKED -> reg_s[att] = PARKED; vs = AFTER_PARKED }
	:: atomic { vs == F_CLOSE -> sock[S] = NONE; vs = AFTER_CLOSE } /* silent: in repair */
	:: atomic { vs == F_SEND ->
#ifdef FD
		if
		:: sock[S] == NONE && reg_s[att] == PARKED -> vs = D_ABORT
		:: else -> send_t(f_batch); vs = AFTER_SEND
		fi
#else
		send_t(f_batch); vs = AFTER_SEND
#endif
	   }
	:: atomic { vs == SENT && ndup < NDUP && conn -> ndup++; send_t(f_batch) }
	:: atomic { vs == SENT && ncancel < NCANCEL -> ncancel++; ask_abort() }

	/* frames */
	:: atomic { view[S] && (vs == IDLE || vs == SENT || vs == COMM || vs == ABORTG) &&
		    nempty(ts) ->
		if
		:: ts?f_prepared(id) ->
			if
			:: id == att && vs == SENT ->
#ifdef NO_COMMIT_REGISTER
				vs = COMM_SEND
#else
				vs = D_COMMIT
#endif
			:: id == att && vs == COMM -> send_t(f_commit)
			:: else
			fi
		:: ts?f_committed(id) ->
			if
			:: id == att && vs == COMM -> RELEASE
			:: id == att && (vs == SENT || vs == ABORTG) ->
				assert(never_out_of_protocol)
			:: else
			fi
		:: ts?f_refused(id) -> s_nothing(id)
		:: ts?f_dropped(id) -> s_nothing(id)
		fi;
		id = 0 }
	:: atomic { view[S] && !conn && (vs == IDLE || vs == SENT || vs == COMM || vs == ABORTG) ->
		view[S] = 0;
		forget(ts);
		if
		:: vs == SENT -> ask_abort()
		:: vs == COMM -> vs = D_DROP
		:: vs == ABORTG -> vs = REIMP
		:: else
		fi }

	/* registers */
	:: atomic { vs == D_COMMIT ->
		if :: reg_s[att] == PARKED -> reg_s[att] = COMMIT :: else fi;
		s_verdict() }
	:: atomic { vs == D_ABORT ->
		if :: reg_s[att] == PARKED -> reg_s[att] = ABORT :: else fi;
		s_verdict() }
	:: atomic { vs == D_DROP ->
		if
#ifdef NO_DROP_CAS
		:: true -> reg_t[att] = DROP
#else
		:: reg_t[att] == PREPARED || reg_t[att] == UNKNOWN -> reg_t[att] = DROP
		:: else
#endif
		fi;
		if
		:: AT_TARGET(reg_t[att]) -> RELEASE
		:: else -> vs = REIMP
		fi }
	:: atomic { vs == COMM_SEND -> send_t(f_commit);
#ifdef IMAGE_EARLY
		img = 0;
#endif
#ifdef THAW_EARLY
		guard = 0;
#endif
#ifdef RELEASE_EARLY
		RELEASE
#else
		vs = COMM
#endif
	   }
	:: atomic { vs == ABORT_SEND -> send_t(f_abort); vs = ABORTG }

	/* THAW */
#ifdef FD
	:: atomic { vs == REIMP -> vs = THAW_RELAY }
#else
	:: atomic { vs == REIMP && sock[S] != NONE -> sock[S] = FULL; vs = THAW_GUARD }
#ifdef NO_TUPLE_WAIT
	:: atomic { vs == REIMP && sock[S] == NONE && img && sock[T] != NONE ->
		vs = THAW_GUARD; lose(LOST_CELL_S) }
#endif
	:: atomic { vs == REIMP && sock[S] == NONE && img && sock[T] == NONE -> import_image(S);
#ifdef OPEN_EARLY
		guard = 0
#endif
	   }
	:: atomic { vs == REIMP && sock[S] == NONE && !img -> vs = THAW_GUARD; lose(LOST_CELL_S) }
#ifndef NO_COPY_KILL
	/* T's manager is dead, so nobody discards: its copy must go before ours can come back */
	:: atomic { vs == REIMP && sock[T] != NONE && !relay[T] && vt == DOWN && !locked ->
		sock[T] = NONE; prepared = 0 }
#endif
	:: atomic { vs == THAW_GUARD ->
		if
		:: sock[S] == NONE && img && !lost -> vs = REIMP /* that cell died: once more */
		:: sock[S] == NONE && (!img || lost) -> lose(LOST_CELL_S); guard = 0; vs = THAW_RELAY
		:: else -> guard = 0; vs = THAW_RELAY
		fi }
#endif
	:: atomic { vs == THAW_RELAY -> relay_on(S); leaving = 0; vs = THAW_IMAGE }
	:: atomic { vs == THAW_IMAGE -> img = 0; vs = THAW_DONE }
	:: atomic { vs == THAW_DONE ->
		if :: reg_s[att] != UNKNOWN -> reg_s[att] = DONE :: else fi;
		vs = IDLE }

	/* RELEASE */
	:: atomic { vs == REL_GUARD && MAY_OPEN -> guard = 0;
#ifdef FD
		sock[S] = NONE;
#endif
		vs = REL_IMAGE }
	:: atomic { vs == REL_IMAGE -> img = 0; leaving = 0; vs = AFTER_IMG }
	:: atomic { vs == REL_DONE -> reg_s[att] = DONE; vs = AFTER_DONE }

	/* RESCUE of T's */
	:: atomic { vt == DOWN && !gone[T] && !locked && !view[S] && (vs == IDLE || STUCK_ON_LIVE) ->
		s_back = vs; locked = 1 + T; vs = R_DROP }
	:: atomic { vs == R_DROP ->
		if :: reg_t[tid] == PREPARED -> reg_t[tid] = DROP :: else fi;
		vs = R_TAKE }
	:: atomic { vs == R_TAKE ->
		if
		:: relay[T] || (AT_TARGET(reg_t[tid]) && sock[T] != NONE) ->
			sock[S] = FULL; relay_on(S)
		:: AT_TARGET(reg_t[tid]) && sock[T] == NONE && prepared -> lose(LOST_CELL_T)
		:: else
		fi;
		sock[T] = NONE; relay[T] = 0; prepared = 0; vs = R_CLOSE }
	:: atomic { vs == R_CLOSE ->
		if :: reg_t[tid] == LIVE -> reg_t[tid] = DONE :: else fi;
		gone[T] = 1; locked = 0; vs = s_back; s_back = IDLE }

	/* a new manager adopts: as when T is lost, from what journal and slots say */
	:: atomic { vs == DOWN && !perm[S] && !gone[S] && locked != 1 + S ->
		if
		:: reg_s[att] == DONE -> vs = IDLE
		:: reg_s[att] == UNKNOWN && !leaving && !SWEEP -> vs = IDLE
		:: reg_s[att] == UNKNOWN && !leaving && SWEEP -> vs = THAW_IMAGE
		:: reg_s[att] == UNKNOWN && leaving -> vs = REIMP
		:: reg_s[att] == PARKED && FROZEN -> ask_abort()
		:: reg_s[att] == ABORT && FROZEN -> vs = REIMP
		:: (reg_s[att] == COMMIT || reg_s[att] == TAKE) && FROZEN -> vs = D_DROP
		:: reg_s[att] != UNKNOWN && reg_s[att] != DONE && !FROZEN ->
			vs = THAW_IMAGE /* it was thawed, or released, already */
		fi }
	od
}

#if defined(FD) || defined(LIVE_FIRST)
#define T_WINS D_LIVE
#else
#define T_WINS LEAVE
#endif
#if defined(LIVE_FIRST) && !defined(FD)
#define AFTER_LIVE  LEAVE
#define AFTER_LEAVE ACTIVE
#else
#define AFTER_LIVE  ACTIVE
#define AFTER_LEAVE D_LIVE
#endif

inline t_won()
{
#ifdef NO_LIVE_REGISTER
	vt = ACTIVE
#else
	vt = T_WINS
#endif
}

inline t_answer(id)
{
	if
	:: AT_TARGET(reg_t[id]) -> send_s(f_committed, id)
	:: reg_t[id] == DROP -> send_s(f_dropped, id)
	:: else
	fi
}

proctype Target()
{
	byte id;

end:	do
	:: atomic { vt == IDLE && view[T] && nempty(st) ->
		if
		:: st?f_batch(id) ->
			if
#ifdef NO_TOMBSTONE
			:: true ->
#else
			:: reg_t[id] != UNKNOWN -> t_answer(id)
			:: reg_t[id] == UNKNOWN && nrefuse < NREFUSE ->
				nrefuse++; reg_t[id] = DROP; send_s(f_refused, id)
			/* a late frame: S has its sockets again, the kernel says EADDRNOTAVAIL */
			:: reg_t[id] == UNKNOWN && TAKEN_BY_S ->
				reg_t[id] = DROP; send_s(f_refused, id)
			:: reg_t[id] == UNKNOWN && !TAKEN_BY_S ->
#endif
				assert(imported < id || never_imported_twice);
				imported = id; tid = id; prepared = 1; vt = IMPORTED;
#ifdef FD
				sock[T] = FULL
#else
				sock[T] = REPAIR
#endif
			fi
		:: st?f_commit(id) -> t_answer(id)
		:: st?f_abort(id) ->
			if :: reg_t[id] == UNKNOWN -> reg_t[id] = DROP :: else fi;
			t_answer(id)
		fi;
		id = 0 }
	:: atomic { vt == IMPORTED -> reg_t[tid] = PREPARED; vt = PREP_SEND }
	:: atomic { vt == IMPORTED && !conn -> vt = DROPPING }
	:: atomic { vt == PREP_SEND -> send_s(f_prepared, tid); vt = PREP }
	:: atomic { vt == PREP && view[T] && nempty(st) ->
		if
		:: st?f_batch(id) -> send_s(f_prepared, id)
		:: st?f_commit(id) ->
#ifdef COMMITTED_EARLY
			send_s(f_committed, id);
#endif
			t_won()
		:: st?f_abort(id) -> vt = DROPPING
		fi;
		id = 0 }
	:: atomic { view[T] && !conn && (vt == IDLE || vt == PREP) ->
		view[T] = 0;
		forget(st);
		if :: vt == PREP -> vt = D_TAKE :: else fi }

	:: atomic { vt == D_TAKE ->
#ifdef NO_TAKE
		t_won()
#else
		if :: reg_s[tid] == PARKED -> reg_s[tid] = TAKE :: else fi;
		if
		/* UNKNOWN: no journal but ours knows of it */
		:: reg_s[tid] == TAKE || reg_s[tid] == COMMIT || reg_s[tid] == UNKNOWN -> t_won()
		:: else -> vt = DROPPING
		fi
#endif
	   }
	/* under the closed guard; the socket is complete, but nobody reads it */
	:: atomic { vt == LEAVE ->
		if :: sock[T] == REPAIR -> sock[T] = FULL :: else fi;
		vt = AFTER_LEAVE }
	:: atomic { vt == D_LIVE ->
		if
#ifdef NO_LIVE_CAS
		:: true -> reg_t[tid] = LIVE; vt = ACTIVE
#else
#ifndef NO_COPY_CHECK
		:: reg_t[tid] == PREPARED && sock[T] == NONE -> vt = DROPPING /* that cell died */
		:: reg_t[tid] == PREPARED && sock[T] != NONE ->
#else
		:: reg_t[tid] == PREPARED ->
#endif
			reg_t[tid] = LIVE;
			vt = AFTER_LIVE
		:: reg_t[tid] == DROP -> vt = DISCARD
		:: reg_t[tid] != PREPARED && reg_t[tid] != DROP -> assert(never_out_of_protocol)
#endif
		fi }
	:: atomic { vt == ACTIVE -> relay_on(T); prepared = 0; vt = ACT_DONE }
	:: atomic { vt == ACT_DONE -> reg_t[tid] = DONE; vt = ACT_SEND }
	:: atomic { vt == ACT_SEND -> send_s(f_committed, tid); vt = IDLE }
	:: atomic { vt == DROPPING -> reg_t[tid] = DROP; vt = DISCARD }
	:: atomic { vt == DISCARD -> sock[T] = NONE; prepared = 0; vt = DISC_SEND } /* silent, in repair */
	:: atomic { vt == DISC_SEND -> send_s(f_dropped, tid); vt = IDLE }

	/* RESCUE of S's */
	:: atomic { vt == IDLE && vs == DOWN && !gone[S] && !locked && !view[T] && att ->
		locked = 1 + S; vt = R_DROP }
	:: atomic { vt == R_DROP ->
		if :: reg_t[att] == UNKNOWN -> reg_t[att] = DROP; tid = att :: else fi;
		vt = R_TAKE }
	:: atomic { vt == R_TAKE ->
		if
		:: leaving && T_OWNS && !relay[S] -> sock[S] = NONE
		:: (leaving && !T_OWNS) || relay[S] ->
			if
			:: sock[S] != NONE -> sock[S] = NONE; sock[T] = FULL; relay_on(T)
			:: sock[S] == NONE && img -> import_image(T); sock[T] = FULL; relay_on(T)
			:: else -> lose(LOST_CELL_S)
			fi
		:: !leaving && !relay[S]
		fi;
		relay[S] = 0; leaving = 0; guard = 0; img = 0; vt = R_CLOSE }
	:: atomic { vt == R_CLOSE ->
		if :: reg_s[att] != UNKNOWN -> reg_s[att] = DONE :: else fi;
		gone[S] = 1; locked = 0; vt = IDLE }

	/* a new manager adopts: as when S is lost */
	:: atomic { vt == DOWN && !perm[T] && !gone[T] && locked != 1 + T ->
		if
		:: reg_t[tid] == PREPARED -> vt = D_TAKE
		:: reg_t[tid] == LIVE && !T_FROZEN -> vt = ACT_DONE
		:: reg_t[tid] == LIVE && T_FROZEN ->
#ifdef LIVE_FIRST
			vt = LEAVE
#else
			vt = ACTIVE
#endif
		:: (reg_t[tid] == UNKNOWN || reg_t[tid] == DROP) && prepared -> vt = DISCARD
		:: else -> vt = IDLE
		fi }
	od
}

/* all processes of a cell die at once: the kernel closes what only they had */
inline cell_dies(n)
{
#ifdef FD
	if
	:: n == S || AT_TARGET(reg_t[tid]) || relay[n] -> died[n] = 1
	:: else
	fi;
	if :: relay[n] -> lose(LOST_CELL_S + n) :: else fi;
#else
	if
	:: n == S && (relay[S] || !img || (sock[S] == FULL && !guard)) -> died[S] = 1
	:: n == T && (relay[T] || AT_TARGET(reg_t[tid])) -> died[T] = 1
	:: else
	fi;
	if
	:: relay[n] || (sock[n] == FULL && !guard) || (n == T && AT_TARGET(reg_t[tid])) ->
		lose(LOST_CELL_S + n)
#ifdef EGRESS_OPEN
	:: !relay[n] && sock[n] == FULL && guard && !(n == T && AT_TARGET(reg_t[tid])) ->
		/* a FIN goes out */
		if
		:: n == T -> assert(AT_TARGET(reg_t[tid]) || never_fin_of_a_nonowner)
		:: n == S -> died[S] = 1
		fi;
		lose(LOST_CELL_S + n)
#endif
	:: else
	fi;
#endif
	relay[n] = 0;
	sock[n] = NONE
}

#define nobody_left (vs == DOWN && vt == DOWN && (perm[S] || gone[S]) && (perm[T] || gone[T]))

proctype World()
{
	byte i;

	do
	:: atomic { ncrash < NCRASH && vs != DOWN ->
		ncrash++; vs = DOWN; conn = 0; view[S] = 0; s_back = IDLE; refused = 0;
		forget(ts);
		if :: locked == 1 + T -> locked = 0 :: else fi;
		if :: perm[S] = 1 :: skip fi }
	:: atomic { ncrash < NCRASH && vt != DOWN ->
		ncrash++; vt = DOWN; conn = 0; view[T] = 0;
		forget(st);
		if :: locked == 1 + S -> locked = 0 :: else fi;
		if :: perm[T] = 1 :: skip fi }
	:: atomic { nbreak < NBREAK && conn -> nbreak++; conn = 0 }
	:: atomic { ncell < NCELL && sock[S] != NONE -> ncell++; cell_dies(S) }
	:: atomic { ncell < NCELL && sock[T] != NONE -> ncell++; cell_dies(T) }
	/* the same two, or their successors, begin again */
	:: atomic { !conn && !view[S] && !view[T] && vs == IDLE && vt == IDLE && !gone[S] &&
		    !gone[T] && relay[S] && att < NATT -> conn = 1; view[S] = 1; view[T] = 1 }
	/* the guard's entries run out when nobody is left who renews them */
#ifdef LEASE_SHORT
	:: atomic { guard && vs == DOWN -> guard = 0 }
#else
	:: atomic { nobody_left && guard -> guard = 0; leaving = 0; img = 0; lose(LOST_LEASE) }
#endif

	/* what must never be */
	:: relay[S] && relay[T] -> assert(never_two_owners)
#ifndef FD
	:: !guard && !lost && sock[S] != FULL && sock[T] != FULL ->
		assert(never_open_without_socket)
	:: sock[S] != NONE && sock[T] != NONE -> assert(never_one_tuple_twice)
#endif
#ifdef WITNESSES
	WITNESSES
#endif

	/* nothing more can happen */
	:: timeout ->
		atomic {
			assert(lost || relay[S] || relay[T] || nobody_left || always_an_owner);
			assert(!guard || always_thawed);
			assert((!img && !leaving) || nobody_left || always_resolved);
			for (i : 1 .. NATT) {
				assert(reg_s[i] == UNKNOWN || reg_s[i] == DONE || nobody_left ||
				       always_resolved);
				assert((reg_t[i] != PREPARED && reg_t[i] != LIVE) ||
				       nobody_left || always_resolved)
			}
		}
		break
	od
}

init
{
	atomic {
		sock[S] = FULL;
		relay[S] = 1;
		view[S] = 1;
		view[T] = 1;
		run Source();
		run Target();
		run World()
	}
}
