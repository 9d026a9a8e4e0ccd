/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the repair carrier, adoption and rescue share: legs that were taken apart, the files that keep
 * them, and the way back from an image to a socket that relays.
 *
 * The source writes a batch's images to RUN_DIR/NAME/images/BATCH before it closes a single socket,
 * and removes the file when the batch is over. So whoever has to take a batch back finds a slot in
 * the state LEAVING (with CMAN_SLOT_REPAIR), and for each leg either the socket, or its image.
 */
#ifndef CMAN_MANAGER_REPAIR_H
#define CMAN_MANAGER_REPAIR_H

#include "usr/core/image.h"
#include "usr/manager/manager.h"
#include "usr/sys/crash.h"
#include "usr/sys/guard.h"

/* ---- images.c ---- */

int images_write(struct manager *m, uint64_t batch, const uint8_t *data, size_t len);
void images_remove(struct manager *m, uint64_t batch);
/* The file of a batch of @name; malloc'ed. -ENOENT: there is none. */
int images_read(struct manager *m, const char *name, uint64_t batch, uint8_t **ret_data,
		size_t *ret_len);

/* Adoption: removes the files of batches of which no slot is LEAVING any more. */
void images_sweep(struct manager *m);

/* ---- guard.c: the guard of this instance ---- */

/* How long the guard stays closed for a batch whose manager has died and has no successor, ms. */
#define GUARD_LEASE_MS cman_crash_ms("CMAN_GUARD_LEASE_MS", 30000)

/* Opens it when it is needed for the first time. NULL: *why says why not. */
struct cman_guard *guard_get(struct manager *m, const char **why);
/* cman_guard_park(), with a lease that is renewed as long as this manager lives. */
int guard_park(struct manager *m, const struct cman_tuple *tuples, uint32_t n, uint64_t batch,
	       const char **why);
/* cman_guard_thaw() for sessions of this instance, or of one that died (@name). */
void guard_open(struct manager *m, const char *name, const struct cman_tuple *tuples, uint32_t n);
/* cman_guard_forward(); the entries stay until guard_forget_forwarded(). */
void guard_forward(struct manager *m, const struct cman_tuple *tuple,
		   const struct cman_guard_hop *hop);
/* The same to where its address is moving; if it is not, it is opened. */
void guard_send_on(struct manager *m, const struct cman_tuple *tuple);
void guard_forget_forwarded(struct manager *m);
/* cman_guard_address(), for as long as this manager lives. 0 or -errno. */
int guard_address(struct manager *m, const uint8_t addr[16], enum cman_moving_mode mode,
		  const struct cman_guard_hop *hop);
void guard_address_clear(struct manager *m, const uint8_t addr[16]);
/*
 * Adoption: takes over what a dead manager of this instance has left closed. What it was forwarding
 * to another host goes on being forwarded; new connections stay here, but for those that have begun
 * there.
 */
void guard_adopt(struct manager *m);
void guard_renamed(struct manager *m); /* the folder of pins was */
void guard_bury(const char *name);     /* that instance is dead, and nobody goes on with it */
void guard_close(struct manager *m);   /* at the end: nothing is parked any more */

/* ---- repair_tools.c: opened when they are first needed, which takes its time ---- */

struct cman_bulk;
struct cman_bulk *repair_bulk(struct manager *m);
/* An imported socket gets back the speed that it had, where the kernel can. */
void repair_speed(struct manager *m, int fd, const struct cman_repair_image *leg);
/* Reads below kernel TLS; NULL: this kernel does not let it. */
struct cman_inspect_raw *repair_raw(struct manager *m);
void repair_prepare(struct manager *m); /* opens those that its sessions will need */
void repair_tools_close(struct manager *m);

/* ---- repair_ktls.c: legs with kernel TLS; call order as in usr/sys/ktls_export.h ---- */

struct cman_ktls_export;

/* Content that the kernel had opened already: it comes before all that the new socket reads. */
struct drained {
	uint8_t *data; /* malloc'ed */
	size_t len;
	bool updated; /* a KeyUpdate was among it: the old socket cannot go on, it has the key of before */
};

void drained_free(struct drained *d); /* wipes; keeps len */
bool ktls_is_leg(const struct cman_slot *s, int leg);
/* Why it cannot move; NULL: it can. */
const char *ktls_cannot(struct manager *m, int fd);
/* The relay has stopped, the guard is open. Describes @image. 0 or -errno (-EAGAIN: not now). */
int ktls_prepare(struct manager *m, int fd, struct cman_ktls_export *move,
		 struct cman_repair_image *image, const char **why);
/* The guard is closed. The numbers of its next records are in the secret memory of @slot then. */
int ktls_export(struct manager *m, struct cell *c, uint32_t slot, int leg, int fd,
		struct cman_ktls_export *move, struct cman_repair_image *image,
		struct drained *drained, const char **why);
/* @fd, of @slot, has left repair: gives it its keys, if that leg is one. What goes wrong is logged. */
void ktls_wake(struct cell *c, uint32_t slot, int leg, int fd);

/* ---- legs: restore.c ---- */

/* Why the connection cannot move though its socket could; NULL: it can. @own: getifaddrs() */
struct ifaddrs;
const char *repair_cannot(const struct ifaddrs *own, const struct cman_repair_image *leg);
struct cman_tuple repair_tuple(const struct cman_repair_image *leg);
/* cman_repair_release(); logs what went wrong: the socket is as it is then. */
int repair_wake(int fd, struct cman_repair_image *leg, uint64_t session, const char *name);
/* Closes a socket that may be in repair or has just left it: no FIN, no RST. */
void repair_silence(int fd);
/*
 * Sockets of other instances of this alias that were prepared from images of these sessions and can
 * never go live any more: a register said so. They have the same addresses as what is to be
 * restored here.
 */
void repair_evict(struct manager *m, const uint64_t *session, uint32_t n);

/* One session on the way back. */
struct restored {
	uint32_t slot;
	uint64_t session;
	struct cman_repair_image leg[2];
	int64_t read_base[2], write_base[2]; /* as of the new sockets */
	int fd[2];			     /* -1: to be imported */
};

/*
 * Sessions of one cell whose slots are LEAVING come back to life: what has no socket any more is
 * imported, passed to the keeper, named in the slot, and goes live; then the gateway relays on. The
 * caller owns it until @done is called, once. The images may be borrowed from @data.
 */
struct restore {
	struct manager *m;
	struct cell *c;
	uint32_t n;
	struct restored one[CMAN_BATCH];
	void (*done)(struct restore *r, void *arg);
	void *arg;
	/* private */
	struct order order;
	struct keeper_request request;
	uv_timer_t *retry;
	unsigned int tries;
};

void restore_begin(struct restore *r);
/*
 * Adoption: the slot was left LEAVING (with CMAN_SLOT_REPAIR) by a manager that died, and is to
 * relay again here.
 */
void restore_slot(struct manager *m, struct cell *c, uint32_t slot, uint64_t batch);
/* Adoption: the slot was left PREPARED and will never go live: its sockets are closed in silence. */
void restore_discard(struct manager *m, struct cell *c, uint32_t slot);
/* Adoption: the session of a batch went live on the other side: its packets may pass. */
void restore_release(struct manager *m, uint64_t batch, uint64_t session);

/*
 * The same for a rescue: a slot of @name, which is dead, was left LEAVING. @one has the session and
 * copies of its descriptors (-1: none). 1: there is an image; the old sockets are gone, the
 * descriptors are new ones, in repair. 0: there is none: the sockets have left repair. -errno: it
 * cannot be restored.
 */
int restore_foreign(struct manager *m, const char *name, uint64_t batch, struct restored *one);
/* Its fields of a slot. */
void restored_fill(const struct restored *one, struct cman_slot *s, int client_fd, int server_fd);
/* The slot names the sockets, the keeper has them: they go live, @name's guard opens. Frees the legs. */
void restored_go_live(struct manager *m, const char *name, struct cell *c, struct restored *one);
void restored_free(struct restored *one); /* the legs; not the descriptors */

#endif
