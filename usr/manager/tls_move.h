/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TLS of sessions on their way from one owner to another: out of the source cell's secret memory
 * (usr/sys/tls_cell.h), as the exported state of usr/core/tls.h, into the target cell's. By fd it travels
 * in a sealed memfd beside the descriptors, by repair it is a field of the image. Whoever holds such
 * bytes wipes them.
 */
#ifndef CMAN_MANAGER_TLS_MOVE_H
#define CMAN_MANAGER_TLS_MOVE_H

#include "cman/repair.h"
#include "usr/core/wire.h"
#include "usr/manager/manager.h"

/* Bytes of each direction that were ever read from its source and written to its destination. */
struct tls_counts {
	uint64_t read[2], written[2];
};

/* By the sockets' own counters. @copy: the ledger. */
int tls_count(const struct cman_slot *copy, int client_fd, int server_fd, struct tls_counts *ret);

/*
 * Exports slot @slot of cell @c, which nobody relays now; @copy is its ledger. *ret
 * is cman_secret_alloc()'d, NULL for a session without TLS. 0 or -errno.
 */
int tls_export(struct cell *c, uint32_t slot, const struct cman_slot *copy,
	       const struct tls_counts *counts, uint8_t **ret, uint32_t *ret_len);

/* Many such states in one sealed memfd. */
struct tls_box {
	uint8_t *state[CMAN_BATCH];
	uint32_t len[CMAN_BATCH];
	uint64_t id[CMAN_BATCH];
	uint32_t n;
};

int tls_box_add(struct tls_box *box, struct cell *c, uint32_t slot, const struct cman_slot *copy,
		const struct tls_counts *counts);
/* A descriptor and its bytes; -ENOENT: none of them has TLS; or -errno. */
int tls_box_seal(const struct tls_box *box, size_t *ret_size);
void tls_box_free(struct tls_box *box);

/*
 * The reverse: @sessions (in the order of the box) get their tls and tls_len, which point into *ret_map:
 * unmap it (cman_secret_unmap()) when they are no longer needed. 0 or -errno; -EBADMSG: not the TLS of
 * these sessions.
 */
int tls_box_open(int fd, size_t size, struct cman_wire_session *sessions, uint32_t n,
		 uint8_t **ret_map);

/*
 * Into slot @slot of cell @c, whose ledger is @s; sets s->tls. Nothing to do for ws->tls NULL. Adds to
 * *bytes what lies between the sockets.
 */
int tls_fill(struct cell *c, uint32_t slot, struct cman_slot *s, const struct cman_wire_session *ws,
	     uint64_t *bytes);

/* Does the kernel carry its records? */
bool tls_is_kernel(const struct cman_wire_session *ws);

/*
 * By repair, before the sockets are made: a session whose engine is not what this instance would give
 * it gets that (usr/tls/engine.h). @ws and @leg are as the stream had them; what lay between the legs may
 * be in their queues afterwards, and is counted in *bytes. *ret_state is then what ws->tls points to,
 * cman_secret_alloc()'d, of ws->tls_len bytes; NULL: nothing was changed. 0, -ENOMEM, -EIO, -EPROTO.
 */
int tls_adapt(struct manager *m, struct cman_wire_session *ws, struct cman_repair_image leg[2],
	      uint8_t **ret_state, uint64_t *bytes);

/*
 * Both at once, for who has the secret memory of another instance mapped: from slot @slot of @memory
 * (@nslots in all), with @copy as above, to slot @to of cell @c. 0 or -errno.
 */
int tls_copy(uint8_t *memory, uint32_t nslots, uint32_t slot, const struct cman_slot *copy,
	     const struct tls_counts *counts, struct cell *c, uint32_t to);

#endif
