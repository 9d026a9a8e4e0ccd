/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handover between two hosts, or two network namespaces, without a coordinator: one batch by
 * the carrier repair, two managers S and T with their cells, journals and guards, one TCP channel.
 * Nobody can read or write the other's journal, and nobody knows whether the other is dead. Only S
 * decides: T goes live on COMMIT alone, in its own register first, and drops what is prepared when
 * it loses the channel; S thaws by itself what it has not committed, and keeps frozen what it has,
 * until T has said LIVE or DROP.
 *
 *	-DOLD_FRAMES	frames of a lost connection may still be read when there is a new one
 *
 * Bounds: NATT batch ids, NCRASH deaths of managers, NBREAK breaks of the channel, NCELL deaths of
 * all processes of a cell, NREBOOT reboots of a host (with its journal: it is in a tmpfs), NREFUSE
 * refusals, NCANCEL cancels. Each of the other macros takes one rule away.
 */
#ifndef NATT
#define NATT 2
#endif
#ifndef NCRASH
#define NCRASH 2
#endif
#ifndef NBREAK
#define NBREAK 2
#endif
#ifndef NCELL
#define NCELL 1
#endif
#ifndef NREBOOT
#define NREBOOT 1
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
#define PREPARED 5
#define LIVE	 6
#define DROP	 7
#define DONE	 8
#define AT_TARGET(r) ((r) == LIVE || (r) == DONE)

#define NONE   0
#define REPAIR 1
#define FULL   2

/* what a guard does with the batch's packets */
#define OPEN	0
#define CLOSED	1 /* S: PARK; T: ARRIVING */
#define FORWARD 2 /* S: to T */

#define LOST_CELL_S   1 /* all processes of the cell that had it are dead */
#define LOST_CELL_T   2
#define LOST_LEASE    3 /* S committed, and nobody came who asks T */
#define LOST_REBOOT_S 4 /* S's host went, and T had not gone live */
#define LOST_REBOOT_T 5 /* T's host went after the commit */
#define LOST_DOUBT    6 /* S committed, and T can never be asked again */

mtype = { f_batch, f_prepared, f_refused, f_commit, f_committed, f_abort, f_dropped, f_query };

mtype = { DOWN, IDLE,
	  F_GUARD, F_REPAIR, F_IMAGE, F_PARKED, F_CLOSE, F_SEND, SENT,
	  D_COMMIT, D_ABORT, COMM_SEND, COMM, DOUBT, ASKED, ABORT_SEND, ABORTG,
	  REIMP, THAW_GUARD, THAW_RELAY, THAW_IMAGE, THAW_DONE,
	  REL_GUARD, REL_IMAGE, REL_DONE, WRITE_OFF,
	  IMPORT, IMPORTED, PREP_SEND, PREP, D_LIVE, LEAVE, ACTIVE, OPENING, ACT_DONE, ACT_SEND,
	  DROPPING, DISCARD, UNGUARD, DISC_SEND };

/* Constants: what an assertion shows that fails. */
bool never_two_owners, never_open_without_socket, never_imported_twice, never_stale_image,
     never_lost_without_cause, never_fin_of_a_nonowner, never_out_of_protocol,
     always_an_owner, always_thawed, always_resolved;

/* the managers' memory */
mtype vs = IDLE, vt = IDLE;
byte att, tid;
bit refused;
bit tconn;		   /* number of the connection that T's batch came on */

/* what outlives managers */
byte reg_s[NATT + 1], reg_t[NATT + 1];
byte sock[2], guard[2];
bit relay[2];
bit leaving, prepared;
bit img;
bit boot_known;		   /* S's record: the boot id of T's host is the one of HELLO */

/*
 * The channel: two connections that take turns, so that what of the old one was not read may be
 * there beside the new one. now: the number of the newest.
 */
#define QLEN 5
chan st0 = [QLEN] of { mtype, byte };
chan st1 = [QLEN] of { mtype, byte };
chan ts0 = [QLEN] of { mtype, byte };
chan ts1 = [QLEN] of { mtype, byte };
bit now, conn = 1, view[2];
bit old_open;		   /* OLD_FRAMES: T has not yet seen the end of the connection before */
bit perm[2];
bit cut;		   /* the network between them is gone for good */

/* the truth */
bit stale;
bit died[2], rebooted[2];
byte imported;
bit told_drop[NATT + 1];	   /* T has said DROPPED */
byte lost;
byte ncrash, nbreak, ncell, nreboot, nrefuse, ncancel;

inline put(c0, c1, m, id)
{
	if
	:: conn && now == 0 -> assert(nfull(c0)); c0!m(id)
	:: conn && now == 1 -> assert(nfull(c1)); c1!m(id)
	:: else
	fi
}
inline send_t(m) { put(st0, st1, m, att) }
inline send_s(m, id) { put(ts0, ts1, m, id) }
inline forget(q) { do :: nempty(q) -> q?_, _ :: empty(q) -> break od }

inline lose(cause)
{
	if
	:: !lost ->
		if
		:: cause == LOST_CELL_S || cause == LOST_CELL_T ->
			assert(died[cause - LOST_CELL_S] || never_lost_without_cause)
		:: cause == LOST_REBOOT_S || cause == LOST_REBOOT_T ->
			assert(rebooted[cause - LOST_REBOOT_S] || never_lost_without_cause)
		:: else
		fi;
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
	assert(!stale || never_stale_image);
	sock[n] = REPAIR
}

/* S: not committed */
inline ask_abort()
{
#ifdef NO_ABORT_REGISTER
	vs = REIMP
#else
	vs = D_ABORT
#endif
}

/* S: committed, and T cannot be heard */
inline in_doubt()
{
#ifdef THAW_COMMITTED
	vs = REIMP
#elif defined(RELEASE_COMMITTED)
	vs = REL_GUARD
#else
	vs = DOUBT
#endif
}

inline s_frame(q, id)
{
	if
	:: q?f_prepared(id) ->
		if
		:: id == att && vs == SENT ->
#ifdef NO_COMMIT_REGISTER
			vs = COMM_SEND
#else
			vs = D_COMMIT
#endif
		:: else
		fi
	:: q?f_committed(id) ->
		if
		:: id == att && (vs == COMM || vs == ASKED) -> vs = REL_GUARD
		:: id == att && (vs == SENT || vs == ABORTG) -> assert(never_out_of_protocol)
		:: else
		fi
	:: q?f_refused(id) ->
		if
		:: id == att && vs == SENT -> refused = 1; vs = D_ABORT
		:: id == att && vs == ABORTG -> vs = REIMP
		:: else
		fi
	:: q?f_dropped(id) ->
		if
		:: id == att && vs == SENT -> refused = 1; vs = D_ABORT
		:: id == att && vs == ABORTG -> vs = REIMP
		:: id == att && (vs == COMM || vs == ASKED) -> vs = REIMP
		:: else
		fi
	fi;
	id = 0
}

#define S_LISTENS (vs == IDLE || vs == SENT || vs == COMM || vs == ABORTG || vs == ASKED)

proctype Source()
{
	byte id;

end:	do
	:: atomic { vs == IDLE && relay[S] && att < NATT && conn && view[S] && view[T] && !old_open ->
		att++; refused = 0; relay[S] = 0; leaving = 1; stale = 0; boot_known = 1;
		vs = F_GUARD }
	:: atomic { vs == F_GUARD -> guard[S] = CLOSED; vs = F_REPAIR }
	:: atomic { vs == F_REPAIR ->
		if :: sock[S] == FULL -> sock[S] = REPAIR :: else fi;
		vs = F_IMAGE }
	:: atomic { vs == F_IMAGE ->
		if
		:: sock[S] == REPAIR -> img = 1; vs = F_PARKED
		:: else -> vs = REIMP
		fi }
	:: atomic { vs == F_PARKED && !conn -> vs = REIMP }
	:: atomic { vs == F_PARKED -> reg_s[att] = PARKED; vs = F_CLOSE }
	:: atomic { vs == F_CLOSE -> sock[S] = NONE; vs = F_SEND }
	:: atomic { vs == F_SEND -> send_t(f_batch); vs = SENT }
	:: atomic { vs == SENT && ncancel < NCANCEL -> ncancel++; ask_abort() }

	:: atomic { view[S] && S_LISTENS && now == 0 && nempty(ts0) -> s_frame(ts0, id) }
	:: atomic { view[S] && S_LISTENS && now == 1 && nempty(ts1) -> s_frame(ts1, id) }
	:: atomic { view[S] && !conn && (S_LISTENS || vs == DOUBT) ->
		view[S] = 0;
		forget(ts0);
		forget(ts1);
		if
		:: vs == SENT -> ask_abort()
		:: vs == COMM || vs == ASKED -> in_doubt()
		:: vs == ABORTG -> vs = REIMP /* T drops what is prepared when it sees that */
		:: else
		fi }

	:: atomic { vs == D_COMMIT ->
		assert(reg_s[att] == PARKED || never_out_of_protocol);
		reg_s[att] = COMMIT;
		vs = COMM_SEND }
	:: atomic { vs == D_ABORT ->
		assert(reg_s[att] == PARKED || never_out_of_protocol);
		reg_s[att] = ABORT;
		if
		:: refused || !view[S] -> vs = REIMP
		:: else -> vs = ABORT_SEND
		fi }
	:: atomic { vs == COMM_SEND -> send_t(f_commit);
#ifdef IMAGE_EARLY
		img = 0;
#endif
#ifdef FORWARD_EARLY
		guard[S] = FORWARD;
#endif
#ifdef NO_WAIT_COMMITTED
		vs = REL_GUARD
#else
		vs = COMM
#endif
	   }
	:: atomic { vs == ABORT_SEND -> send_t(f_abort); vs = ABORTG }

	/* in doubt: only T can say, on a new connection */
	:: atomic { vs == DOUBT && conn && view[S] ->
		if
#ifndef NO_BOOT_ID
		:: rebooted[T] && boot_known -> vs = WRITE_OFF; lose(LOST_REBOOT_T)
		:: !(rebooted[T] && boot_known) -> send_t(f_query); vs = ASKED
#else
		:: true -> send_t(f_query); vs = ASKED
#endif
		fi }
	/* the operator says, or the handover's limit, that it will not come back: lost, not thawed */
	:: atomic { vs == DOUBT && !conn && (cut || perm[T]) -> vs = WRITE_OFF;
		if :: AT_TARGET(reg_t[att]) :: else -> lose(LOST_DOUBT) fi }
	:: atomic { vs == WRITE_OFF -> vs = REL_GUARD }

	/* THAW */
	:: atomic { vs == REIMP && sock[S] != NONE ->
#ifdef OPEN_EARLY
		guard[S] = OPEN;
#endif
		sock[S] = FULL; vs = THAW_GUARD }
	:: atomic { vs == REIMP && sock[S] == NONE && img -> import_image(S);
#ifdef OPEN_EARLY
		guard[S] = OPEN
#endif
	   }
	:: atomic { vs == REIMP && sock[S] == NONE && !img -> vs = THAW_GUARD; lose(LOST_CELL_S) }
	:: atomic { vs == THAW_GUARD ->
		if
		:: sock[S] == NONE && img && !lost -> vs = REIMP
		:: sock[S] == NONE && (!img || lost) ->
			lose(LOST_CELL_S); guard[S] = OPEN; vs = THAW_RELAY
		:: else -> guard[S] = OPEN; vs = THAW_RELAY
		fi }
	:: atomic { vs == THAW_RELAY -> relay_on(S); leaving = 0; vs = THAW_IMAGE }
	:: atomic { vs == THAW_IMAGE -> img = 0; vs = THAW_DONE }
	:: atomic { vs == THAW_DONE ->
		if :: reg_s[att] != UNKNOWN -> reg_s[att] = DONE :: else fi;
		vs = IDLE }

	/* RELEASE: what still comes here goes to T */
	:: atomic { vs == REL_GUARD -> guard[S] = FORWARD; vs = REL_IMAGE }
	:: atomic { vs == REL_IMAGE -> img = 0; leaving = 0; vs = REL_DONE }
	:: atomic { vs == REL_DONE -> reg_s[att] = DONE; vs = IDLE }

	/* a new manager: as when T is lost */
	:: atomic { vs == DOWN && !perm[S] ->
		if
		:: reg_s[att] == DONE || (reg_s[att] == UNKNOWN && !leaving && !img) -> vs = IDLE
		:: reg_s[att] == UNKNOWN && leaving -> vs = REIMP
		:: reg_s[att] != DONE && !leaving && (img || reg_s[att] != UNKNOWN) -> vs = THAW_IMAGE
		:: reg_s[att] == PARKED && leaving -> ask_abort()
		:: reg_s[att] == ABORT && leaving -> vs = REIMP
		:: reg_s[att] == COMMIT && leaving -> in_doubt()
		fi }
	od
}

inline t_answer(id)
{
	if
	:: AT_TARGET(reg_t[id]) -> send_s(f_committed, id)
	:: reg_t[id] == DROP -> told_drop[id] = 1; send_s(f_dropped, id)
	:: else
	fi
}

/* ABORT, QUERY */
inline t_asked(id)
{
	if
	:: (vt == PREP) && id == tid -> vt = DROPPING
	:: !((vt == PREP) && id == tid) ->
		if
		:: reg_t[id] == UNKNOWN -> reg_t[id] = DROP
		:: else
		fi;
		t_answer(id)
	fi
}

inline t_frame(q, number, id)
{
	if
	:: q?f_batch(id) ->
		if
		:: vt == PREP && id == tid -> send_s(f_prepared, id)
		:: vt != PREP || id != tid ->
			if
			:: reg_t[id] != UNKNOWN -> t_answer(id)
			:: reg_t[id] == UNKNOWN && nrefuse < NREFUSE ->
				nrefuse++; reg_t[id] = DROP; send_s(f_refused, id)
			:: reg_t[id] == UNKNOWN && vt == IDLE ->
				tid = id; tconn = number;
				vt = IMPORT
			fi
		fi
	:: q?f_commit(id) ->
		if
		:: vt == PREP && id == tid ->
#ifdef COMMITTED_EARLY
			send_s(f_committed, id);
#endif
			vt = D_LIVE
		:: vt != PREP || id != tid ->
#ifdef NO_LIVE_CAS
			if
			:: id == tid && reg_t[id] == DROP -> vt = D_LIVE
			:: else -> t_answer(id)
			fi
#else
			t_answer(id)
#endif
		fi
	:: q?f_abort(id) -> t_asked(id)
	:: q?f_query(id) -> t_asked(id)
	fi;
	id = 0
}

#ifdef NO_DROP_ON_LOSS
#define PREP_LOST PREP
#elif defined(LIVE_ON_LOSS)
#define PREP_LOST D_LIVE
#else
#define PREP_LOST DROPPING
#endif

proctype Target()
{
	byte id;

end:	do
	:: atomic { view[T] && (vt == IDLE || vt == PREP) && now == 0 && nempty(st0) ->
		t_frame(st0, 0, id) }
	:: atomic { view[T] && (vt == IDLE || vt == PREP) && now == 1 && nempty(st1) ->
		t_frame(st1, 1, id) }
#ifdef OLD_FRAMES
	/* the end of an old connection is not seen before what it brought was read */
	:: atomic { old_open && (vt == IDLE || vt == PREP) && now == 1 && nempty(st0) ->
		t_frame(st0, 0, id) }
	:: atomic { old_open && (vt == IDLE || vt == PREP) && now == 0 && nempty(st1) ->
		t_frame(st1, 1, id) }
#endif
	:: atomic { old_open && (vt == IDLE || vt == PREP) ->
		old_open = 0;
		if :: now == 1 -> forget(st0) :: now == 0 -> forget(st1) fi;
		if :: vt == PREP && tconn != now -> vt = PREP_LOST :: else fi }
	:: atomic { view[T] && !conn && !old_open && (vt == IDLE || vt == PREP) ->
		view[T] = 0;
		forget(st0);
		forget(st1);
		if :: vt == PREP -> vt = PREP_LOST :: else fi }

	/* the guard first: nothing of the batch may meet a socket that is not complete */
	:: atomic { vt == IMPORT ->
#ifndef NO_ARRIVING
		guard[T] = CLOSED;
#endif
		assert(imported < tid || never_imported_twice);
		assert(!told_drop[tid] || never_imported_twice);
		imported = tid; prepared = 1; sock[T] = REPAIR; vt = IMPORTED }
	:: atomic { vt == IMPORTED -> reg_t[tid] = PREPARED; vt = PREP_SEND }
	:: atomic { vt == PREP_SEND -> send_s(f_prepared, tid); vt = PREP }
	:: atomic { vt == D_LIVE ->
#ifdef NO_LIVE_REGISTER
		vt = LEAVE
#elif defined(NO_LIVE_CAS)
		reg_t[tid] = LIVE; vt = LEAVE
#else
		if
		:: reg_t[tid] == PREPARED && sock[T] == NONE -> vt = DROPPING /* that cell died */
		:: reg_t[tid] == PREPARED && sock[T] != NONE -> reg_t[tid] = LIVE; vt = LEAVE
		:: reg_t[tid] == DROP -> vt = DISCARD
		:: else -> assert(never_out_of_protocol)
		fi
#endif
	   }
	:: atomic { vt == LEAVE ->
		if :: sock[T] == REPAIR -> sock[T] = FULL :: else fi;
		vt = ACTIVE }
	:: atomic { vt == ACTIVE -> relay_on(T); prepared = 0; vt = OPENING }
	:: atomic { vt == OPENING -> guard[T] = OPEN; vt = ACT_DONE }
	:: atomic { vt == ACT_DONE -> reg_t[tid] = DONE; vt = ACT_SEND }
	:: atomic { vt == ACT_SEND -> send_s(f_committed, tid); vt = IDLE }
	:: atomic { vt == DROPPING ->
#ifndef NO_DROP_REGISTER
		reg_t[tid] = DROP;
#endif
#ifdef UNGUARD_EARLY
		guard[T] = OPEN;
#endif
		vt = DISCARD }
	:: atomic { vt == DISCARD -> sock[T] = NONE; prepared = 0; vt = UNGUARD }
	:: atomic { vt == UNGUARD -> guard[T] = OPEN; vt = DISC_SEND }
	:: atomic { vt == DISC_SEND ->
		if :: !view[T] :: view[T] -> told_drop[tid] = 1; send_s(f_dropped, tid) fi;
		vt = IDLE }

	/* a new manager: the channel was lost with the old one */
	:: atomic { vt == DOWN && !perm[T] ->
		if
		:: reg_t[tid] == PREPARED ->
#ifdef LIVE_ON_LOSS
			vt = D_LIVE
#elif defined(NO_DROP_ON_LOSS)
			vt = PREP
#else
			vt = DROPPING
#endif
		:: reg_t[tid] == LIVE && prepared -> vt = LEAVE
		:: reg_t[tid] == LIVE && !prepared -> vt = OPENING
		:: (reg_t[tid] == UNKNOWN || reg_t[tid] == DROP) && prepared -> vt = DISCARD
		:: (reg_t[tid] == UNKNOWN || reg_t[tid] == DROP) && !prepared && guard[T] == CLOSED ->
			vt = UNGUARD
		:: else -> vt = IDLE
		fi }
	od
}

/* who opens the door to a FIN or a RST when a cell dies: a socket out of repair */
inline cell_dies(n)
{
	if
	:: n == S && (relay[S] || !img || sock[S] == FULL) -> died[S] = 1
	:: n == T && (relay[T] || AT_TARGET(reg_t[tid])) -> died[T] = 1
	:: else
	fi;
	if
	:: n == T && sock[T] == FULL && !AT_TARGET(reg_t[tid]) -> assert(never_fin_of_a_nonowner)
	:: n == T && AT_TARGET(reg_t[tid]) -> lose(LOST_CELL_T)
	:: n == S && (relay[S] || sock[S] == FULL) -> lose(LOST_CELL_S)
	:: else
	fi;
	relay[n] = 0;
	sock[n] = NONE
}

inline manager_dies(n)
{
	conn = 0;
	view[n] = 0;
	if
	:: n == S -> vs = DOWN; refused = 0; forget(ts0); forget(ts1)
	:: n == T -> vt = DOWN; old_open = 0; forget(st0); forget(st1)
	fi
}

#define ALONE (perm[S] && vs == DOWN)

proctype World()
{
	byte i;

	do
	:: atomic { ncrash < NCRASH && vs != DOWN ->
		ncrash++; manager_dies(S); if :: perm[S] = 1 :: skip fi }
	:: atomic { ncrash < NCRASH && vt != DOWN ->
		ncrash++; manager_dies(T); if :: perm[T] = 1 :: skip fi }
	:: atomic { nbreak < NBREAK && conn -> nbreak++; conn = 0; if :: cut = 1 :: skip fi }
	:: atomic { ncell < NCELL && sock[S] != NONE -> ncell++; cell_dies(S) }
	:: atomic { ncell < NCELL && sock[T] != NONE -> ncell++; cell_dies(T) }
	/* a host goes: sockets, images, guards and journal; S's epoch is higher afterwards (att stays) */
	:: atomic { nreboot < NREBOOT ->
		nreboot++; rebooted[S] = 1;
		if
		:: lost || relay[T] || (AT_TARGET(reg_t[tid]) && tid == att)
		:: else -> lose(LOST_REBOOT_S)
		fi;
		manager_dies(S);
		relay[S] = 0; sock[S] = NONE; leaving = 0; img = 0; guard[S] = OPEN;
		for (i : 1 .. NATT) { if :: reg_s[i] != UNKNOWN -> reg_s[i] = DONE :: else fi }
	   }
	:: atomic { nreboot < NREBOOT ->
		nreboot++; rebooted[T] = 1;
		if
		:: AT_TARGET(reg_t[tid]) && tid == att && !relay[S] -> lose(LOST_REBOOT_T)
		:: else
		fi;
		manager_dies(T);
		relay[T] = 0; sock[T] = NONE; prepared = 0; guard[T] = OPEN; tid = 0;
		for (i : 1 .. NATT) { reg_t[i] = UNKNOWN }
	   }
	/* S connects again; T may not yet have seen that the old connection is gone */
	:: atomic { !conn && !view[S] && !cut && vs != DOWN && vt != DOWN &&
		    (vs == DOUBT || (vs == IDLE && relay[S] && att < NATT)) &&
		    !old_open && ((now == 0 && empty(st1)) || (now == 1 && empty(st0))) ->
		old_open = view[T]; now = 1 - now; conn = 1; view[S] = 1; view[T] = 1;
		if
		:: now == 0 -> forget(ts0)
		:: now == 1 -> forget(ts1)
		fi }
#ifdef LEASE_SHORT
	:: atomic { guard[S] == CLOSED && vs == DOWN -> guard[S] = OPEN }
#else
	/* nobody is left who renews S's entries */
	:: atomic { ALONE && (guard[S] == CLOSED || leaving) -> guard[S] = OPEN; leaving = 0; img = 0;
		if :: AT_TARGET(reg_t[att]) || relay[T] :: else -> lose(LOST_LEASE) fi }
#endif
	:: atomic { perm[T] && vt == DOWN && guard[T] == CLOSED ->
		guard[T] = OPEN; sock[T] = NONE; prepared = 0;
		if :: AT_TARGET(reg_t[tid]) && !relay[T] -> lose(LOST_LEASE) :: else fi;
		if :: relay[T] -> sock[T] = FULL :: else fi }

	/* what must never be */
	:: relay[S] && relay[T] -> assert(never_two_owners)
	:: !lost && guard[S] == OPEN && sock[S] != FULL && !rebooted[S] && !ALONE ->
		assert(never_open_without_socket)
	:: !lost && guard[S] == FORWARD && guard[T] == OPEN && sock[T] != FULL && !cut ->
		assert(never_open_without_socket)
	:: guard[T] == OPEN && sock[T] == REPAIR -> assert(never_open_without_socket)
#ifdef WITNESSES
	WITNESSES
#endif

	:: timeout ->
		atomic {
			assert(lost || relay[S] || relay[T] || always_an_owner);
			assert((guard[S] != CLOSED && guard[T] != CLOSED) || always_thawed);
			assert((!img && !leaving && !prepared) || ALONE || always_resolved);
			for (i : 1 .. NATT) {
				assert(reg_s[i] == UNKNOWN || reg_s[i] == DONE || ALONE ||
				       always_resolved);
				assert((reg_t[i] != PREPARED && reg_t[i] != LIVE) || perm[T] ||
				       always_resolved)
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
