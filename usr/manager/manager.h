/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manager: the privileged process of an instance. It loads and pins the BPF objects, opens the
 * listeners, makes the cells, answers cmanctl, and carries out handovers. Live sessions do not
 * need it: it may die at any time, and the next one adopts what is there.
 *
 *	main.c	    command line, daemonising, readiness
 *	procs.c	    the process table
 *	instance.c  an instance's life: fresh start, adoption, shutdown
 *	rundir.c    the run directory: names, lock, pid, sockets
 *	publish.c   configuration -> maps: listeners, services, rules; reload
 *	handles.c   libuv handles with a simple life
 *	cells.c	    the cells: spawning, orders to gateways, descriptors to and from keepers
 *	control.c   the control socket: frames, requests
 *	show.c	    the answers to `status` and `show`
 *	commands.c  the commands that change something
 *	check.c	    the answer to `migrate --check`
 *	source.c    giving sessions away     (shell of cman_source_step())
 *	target.c    taking sessions	     (shell of cman_target_step())
 *	carrier_fd.c, carrier_repair.c	how sessions get from the one to the other
 *	images.c, restore.c, guard.c, repair_tools.c	what the repair carrier and its crashes need
 *	remote.c, remote_move.c, floating.c	moves to other hosts, with addresses
 *	gaps.c	    how long sessions were silent
 *	rescue.c    taking sessions without the other's help
 *	events.c    the last events, for `show events`
 *
 * One libuv loop; nothing here blocks, but for the start and the few milliseconds of a rescue.
 */
#ifndef CMAN_MANAGER_MANAGER_H
#define CMAN_MANAGER_MANAGER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "usr/core/config.h"
#include "usr/core/handover.h"
#include "usr/sys/cell.h"
#include "usr/sys/chan.h"
#include "usr/sys/journal.h"
#include "usr/sys/maps.h"
#include "usr/sys/splice.h"

#ifndef CMAN_VERSION
#define CMAN_VERSION "unknown"
#endif

struct manager;

/* ---- cells.c ---------------------------------------------------------------------------- */

/* An order to a gateway's mailbox. The caller owns it until @done is called, once. */
struct order {
	enum cman_order op;
	uint32_t n, npipes;
	uint32_t slot[CMAN_BATCH];
	uint64_t id[CMAN_BATCH];
	/* answers */
	int32_t status;
	int32_t result[CMAN_BATCH];
	uint32_t pipe[2 * CMAN_BATCH];
	void (*done)(struct order *o, void *arg);
	void *arg;
	struct order *next;
};

/*
 * A request to a keeper. GIVE: @number[] are wanted, @fd[] arrive (the callback owns them). TAKE:
 * @fd[] go (still the caller's), @number[] arrive. The caller owns it until @done is called, once;
 * @err is 0 or -errno then. A keeper's death is survived: the request goes to its successor.
 */
struct keeper_request {
	enum cman_frame_type type; /* GIVE, TAKE, DROP */
	uint32_t n;
	int fd[CMAN_FRAME_MAX_FDS];
	uint32_t number[CMAN_FRAME_MAX_FDS];
	int err;
	void (*done)(struct keeper_request *r, void *arg);
	void *arg;
	struct keeper_request *next;
};

struct cell {
	struct manager *m;
	uint32_t index;
	struct cman_cell *shared;
	struct cman_slot *slots;
	struct cman_pipe *pipes;
	uint8_t *buffers; /* the cell's memfd, mapped here too */
	uint8_t *secret;  /* the same of its secret memory */
	int buffer_fd, secret_fd, kick_fd, done_fd;
	uv_poll_t *done_poll;
	struct order *orders, **orders_tail; /* the first is in the mailbox */
	/* the keeper */
	struct cman_chan chan;
	uv_poll_t *chan_poll;
	uv_timer_t *retry;
	bool greeted, chan_open;
	struct keeper_request *requests, **requests_tail; /* the first was sent */
	uint32_t sequence;
	uint32_t cursor; /* source: where the search for movable sessions goes on */
	uint64_t spawned_ns;
	bool down; /* all its processes are dead: to be made again */
};

/*
 * Makes cell @index: descriptors, processes. listener_fd[] are the manager's numbers. Returns when
 * the first process is on its way; 0 or -errno.
 */
int cell_spawn(struct manager *m, uint32_t index);
/*
 * Connects to a cell that lives already: its keeper answers within @timeout_ms or -ETIMEDOUT.
 * -ESRCH: none of its processes lives.
 */
int cell_adopt(struct manager *m, uint32_t index, int timeout_ms);
/* Starts watching (after spawn or adopt): the keeper's socket and the gateway's answers. */
int cell_watch(struct cell *c);
/* Slots at and above were never used; a number that is safe to index with. */
uint32_t cell_high(const struct cell *c);
void cell_order(struct cell *c, struct order *o);
void cell_request(struct cell *c, struct keeper_request *r);
/* Gateway and both keepers died at once: their sessions are gone, the cell is made anew. */
void cell_lost(struct cell *c);
/* An order whose end nobody waits for; the same about one slot. */
void cell_order_simple(struct cell *c, enum cman_order op);
void cell_order_slot(struct cell *c, enum cman_order op, uint32_t slot, uint64_t session);
void cell_close(struct cell *c);
/* Passes a new listener's descriptor to every cell. */
void cells_add_listener(struct manager *m, uint32_t listener, int fd);

/* ---- credentials.c ---------------------------------------------------------------------- */

struct cman_tls_error;

/*
 * The credentials of all tls blocks, for the indices that listeners and services have in the maps. A
 * descriptor; -ENOENT: there are none; or -errno with the line and what is wrong with which key.
 */
int credentials_make(const struct cman_instance_conf *ic, const uint32_t *listener_at,
		     const uint32_t *service_at, unsigned int *ret_line,
		     struct cman_tls_error *ret_error);
/* m->credentials_fd to all cells that run. */
void credentials_deliver(struct manager *m);

/* ---- handles.c -------------------------------------------------------------------------- */

/* NULL when there is no memory. */
uv_poll_t *poll_begin(struct manager *m, int fd, int events, uv_poll_cb cb, void *data);
void poll_change(uv_poll_t *p, int events);
void poll_end(uv_poll_t **p); /* then the descriptor may be closed */
uv_timer_t *timer_begin(struct manager *m, uv_timer_cb cb, uint64_t after_ms, uint64_t repeat_ms,
			void *data);
void timer_end(uv_timer_t **t);

/* ---- the manager ------------------------------------------------------------------------- */

struct manager_options {
	const char *file;
	const char *alias; /* NULL: the only instance */
	bool foreground, migrate, rescue;
	enum cman_carrier_choice via;
	uint32_t timeout_s; /* 0: the configuration's */
};

struct target;
struct source;

struct manager {
	struct manager_options opt;
	struct cman_conf *conf;
	struct cman_instance_conf *ic; /* into conf */
	char alias[CMAN_NAME_LEN];     /* as configured */
	char name[CMAN_NAME_LEN + 4];  /* what it is called now: ALIAS, ALIAS_new, ALIAS_old */
	uv_loop_t loop;
	struct cman_maps maps;
	struct cell cells[CMAN_MAX_GATEWAYS];
	uint32_t ncells;
	struct cman_splice splice;	     /* fd -1: no service lets the kernel relay */
	int listener_fd[CMAN_MAX_LISTENERS]; /* -1: none; index as in instance->listener[] */
	int hold_fd[2];
	int credentials_fd; /* of the tls blocks; -1: there are none */
	int lock_fd;
	uid_t uid;
	gid_t gid;
	struct cman_journal journal;
	int ready_fd; /* the foreground process waits for its exit code on it; -1: nobody does */
	int start_stderr; /* where it was started from, until it is ready; -1 */
	int exit_code;

	/* control.c */
	uv_poll_t control_poll;
	int control_fd;
	struct client *clients;

	/* shutdown, drain */
	bool rescuing;		  /* one at a time */
	uv_timer_t *rescue_retry; /* a manager that was killed may still be dying */
	unsigned int rescue_tries;
	bool stopping;
	bool abort; /* reset the sessions that are left at the end */
	uv_timer_t *drain_timer;
	uint64_t drain_until_ns;
	uv_signal_t sigterm, sigint, sighup;

	/* handover: at most one at a time */
	struct source *source;	    /* giving away now */
	struct target *target;	    /* taking now, or has taken: keeps the report */
	bool is_old;		    /* gave its name away */
	struct guard *guard;	    /* NULL until sessions are moved by TCP_REPAIR */
	struct repair_tools *tools; /* NULL, like the guard */
	struct floating *floating;
	struct strays *strays;	    /* packets for addresses that have moved away are forwarded */
	struct remote_port *port;   /* handover_listen; NULL: none */
	struct question *questions; /* to other hosts, not answered yet */
};

extern const char *const cman_version;

/* procs.c */
void procs_fill(struct cman_cell_env *env);

/* instance.c */
int instance_start(struct manager *m); /* fresh, or adopts what lives; 0 or -errno, logged */
/* Beside another one, as ALIAS_new, whose run directory is made: listeners are inherited. */
int instance_start_beside(struct manager *m);
/*
 * New connections are steered by our program from now on; to the same sockets, while both releases
 * have them. Slow (the kernel waits for the old program's last run): before sessions are frozen.
 */
int instance_claim_steering(struct manager *m);
/* Takes the name ALIAS from whoever had it, dead or agreed, and accepts. 0 or -errno. */
int instance_claim_name(struct manager *m);
void instance_ready(struct manager *m); /* tells systemd and the foreground process */
/*
 * Stops for good: @drain_s 0 ends sessions at once. Called again while it drains, with 0: no more
 * patience. Ends the loop when done.
 */
void instance_shutdown(struct manager *m, uint32_t drain_s);
/* The old one's end after a handover: cells leave, names and pins go, the loop ends. */
void instance_leave(struct manager *m);
uint32_t instance_sessions(const struct manager *m);
/* Sessions of some services only; NULL: of all. */
uint32_t instance_sessions_of(const struct manager *m, const bool *service);
uint64_t instance_refused(const struct manager *m); /* new connections, since the start */
/* Sessions are LEAVING: on their way, or what became of them is not known yet. */
bool instance_in_doubt(const struct manager *m);
/* Tells every gateway to look at the instance's state again. */
void instance_sync(struct manager *m);

/* rundir.c: everything of one instance lies in RUN_DIR/NAME/; RUN_DIR/NAME.sock is a link into it */
char *rundir_path(const struct manager *m, const char *name, const char *file, char *buf,
		  size_t size);			      /* file NULL: the folder */
int rundir_make(struct manager *m, const char *name); /* + lock; -EWOULDBLOCK: somebody has it */
bool rundir_exists(const struct manager *m, const char *name);
/* Takes the lock of an existing folder. -EWOULDBLOCK: its manager lives. */
int rundir_lock(struct manager *m, const char *name, int *ret_fd);
/* Swaps, or renames to a name that is free; then what rundir_follow() does. */
int rundir_rename(struct manager *m, const char *from, const char *to, bool exchange);
/* Pins and links get the names that the folders have: somebody may have died in between. */
int rundir_follow(struct manager *m);
/* Which pins belong to the own folder; once they are made. */
int rundir_write_pins(struct manager *m);
void rundir_remove(struct manager *m, const char *name);
int rundir_write_pid(struct manager *m);
/* A handover may have renamed the folder: sets m->name to what it is called now. */
void rundir_refresh(struct manager *m);
/* The name of the folder whose lock @lock_fd is; false: it has none any more. */
bool rundir_name_of(const struct manager *m, int lock_fd, char name[CMAN_NAME_LEN + 4]);
pid_t rundir_read_pid(const struct manager *m, const char *name);

/* publish.c */
/* Configuration -> maps of a fresh instance: listeners (opened, or taken over), services, rules. */
int publish_all(struct manager *m);
/* Listeners given by a predecessor: (name, address) -> fd; used instead of opening. */
int publish_inherit(struct manager *m, const char *text, size_t len, int fd);
/* Reload: applies @next to a running instance. 0, or -errno with *ret_error; @changes: JSON array */
int publish_reload(struct manager *m, struct cman_conf *next, struct cman_instance_conf *ic,
		   json_t *changes, struct cman_conf_error *ret_error);
/* Before the end: what outlives the pins (the hold program). */
void publish_withdraw(struct manager *m);
/* Index of the service of that name; makes a retired entry when there is none. -ENOSPC. */
int publish_service_index(struct manager *m, const char *name, size_t len);
int publish_listener_index(struct manager *m, const char *name, size_t len); /* or -ENOENT */
void service_write_begin(struct cman_service *svc);
void service_write_end(struct cman_service *svc);

/* control.c */
int control_listen(struct manager *m);
void control_close(struct manager *m);
void control_reload(struct manager *m); /* SIGHUP */
/* What a command answers with: exactly one of these, once. @result is stolen. */
struct client;
void client_reply(struct client *c, json_t *result);
void client_error(struct client *c, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void client_progress(struct client *c, json_t *progress); /* stolen */
struct manager *client_manager(struct client *c);
/* Called when the client goes away before its reply; NULL: nothing waits. */
void client_on_close(struct client *c, void (*fn)(void *arg), void *arg);

/* show.c: build results; @why is filled when NULL is returned */
json_t *show_status(struct manager *m);
json_t *show_table(struct manager *m, const char *what, json_t *request, const char **why);
struct session_filter; /* service, source prefix, state */
/* Calls @fn for every live session that the request's filters name. -EINVAL with @why. */
int show_select(struct manager *m, json_t *request,
		void (*fn)(void *arg, struct cell *c, uint32_t slot), void *arg, const char **why);

/* commands.c: -ENOSYS when the command is not known there */
int command_run(struct manager *m, struct client *c, const char *command, json_t *request);

/* check.c: answers which sessions could move by @via, and why others could not */
void check_migration(struct manager *m, struct client *c, enum cman_carrier_choice via);

/* source.c */
/* A peer said HELLO on a control connection: it becomes the handover channel (@chan is taken). */
void source_begin(struct manager *m, struct cman_chan *chan, const struct cman_frame *hello);
bool source_cancel(struct manager *m, bool rollback);
void source_progress(const struct manager *m, uint32_t *ret_moved, uint32_t *ret_left,
		     const char **ret_phase);

bool source_active(const struct manager *m);
bool source_far(const struct manager *m); /* active, to another host */
/* Forgets a handover that is over, so that another can begin. */
void source_forget(struct manager *m);
/* Rollback: this side was the target, and gives the sessions back over the same channel. */
struct peer;
void source_swap(struct manager *m, struct peer *peer);

/* target.c */
/* Rollback: this side was the source, and takes the sessions back over the same channel. */
void target_swap(struct manager *m, struct peer *peer);
/* Connects to the running instance and begins; the instance starts when its listeners came. */
int target_begin(struct manager *m);
bool target_cancel(struct manager *m, bool rollback);
bool target_over(const struct manager *m);
bool target_far(const struct manager *m); /* not over, from another host */
/* The report of the last migration, or NULL; phase and counts while it runs. */
json_t *target_report(struct manager *m);
void target_progress(const struct manager *m, uint32_t *ret_moved, uint32_t *ret_total,
		     const char **ret_phase);
/* Clients that wait for the report. */
void target_wait(struct manager *m, struct client *c);

/* rescue.c */
/* Sessions of ALIAS, ALIAS_old, ALIAS_new (but the own name) whose manager is dead come in here. */
void rescue_leftovers(struct manager *m);
/* `cmand --rescue`: starts with the listeners and sessions of the hung instance. 0 or -errno. */
int rescue_start(struct manager *m, const char **why);
/* Says which sessions of @name died with all its processes, and removes its files and pins. */
void rescue_bury(struct manager *m, const char *name);

/* gaps.c: zeros to begin with */
struct gaps {
	uint32_t *us;
	uint32_t n, size;
};
void gaps_add(struct gaps *g, uint32_t us, uint32_t n); /* @n sessions */
json_t *gaps_json(struct gaps *g);			/* {"p50","p99","max"} */
void gaps_free(struct gaps *g);

/* events.c */
void event_add(struct manager *m, int level, const char *format, ...)
	__attribute__((format(printf, 3, 4))); /* logs it too */
json_t *events_json(void);

#endif
