/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the two halves of the handover share: appending effects, finding batches, and the table of
 * events that each phase allows. Private to usr/core/handover*.c.
 */
#ifndef CMAN_CORE_HANDOVER_IMPL_H
#define CMAN_CORE_HANDOVER_IMPL_H

#include "usr/core/handover.h"
#include "usr/core/wire.h"

#define CMAN_EV(name) (1u << CMAN_EV_##name)

struct cman_effect *cman_emit(struct cman_effects *out, enum cman_effect_type type, uint64_t id);
void cman_emit_send(struct cman_effects *out, enum cman_frame_type frame, uint64_t id);
void cman_emit_value(struct cman_effects *out, enum cman_effect_type type, uint64_t id,
		     enum cman_register value);
void cman_emit_over(struct cman_handover *h, struct cman_effects *out, bool ok);

/* SEND CANCEL, unless it was sent already and says nothing new. */
void cman_emit_cancel(struct cman_handover *h, struct cman_effects *out, bool rollback);

/* NULL: no batch in flight has this id; id 0 finds a free place */
struct cman_batch *cman_batch_find(struct cman_handover *h, uint64_t id);

#endif
