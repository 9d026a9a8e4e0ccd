/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Helpers of the repair carrier that have BPF programs of their own: reading the state of many sockets
 * (usr/sys/bulk.h), giving imported ones their congestion window back (usr/sys/restore.h), and reading
 * below kernel TLS (usr/sys/inspect_raw.h). They are
 * loaded before the first session is frozen, and unloaded when the guard is: together they are the
 * cost of being ready for a move.
 */
#include <stdlib.h>

#include "usr/manager/repair.h"
#include "usr/sys/bulk.h"
#include "usr/sys/inspect_raw.h"
#include "usr/sys/log.h"
#include "usr/sys/restore.h"

struct repair_tools {
	struct cman_bulk *bulk;
	struct cman_restore *restore; /* NULL: the kernel cannot */
	struct cman_inspect_raw *raw; /* NULL: the same, or no session has needed it */
	bool raw_tried;
};

static struct repair_tools *tools_get(struct manager *m)
{
	const char *why = "";

	if (m->tools)
		return m->tools;
	m->tools = calloc(1, sizeof(*m->tools));
	/* one thread: batches are small, and cells are forked from here */
	if (!m->tools || cman_bulk_open(1, CMAN_BULK_AUTO, &m->tools->bulk))
		abort();
	if (cman_restore_open(&m->tools->restore, &why)) {
		m->tools->restore = NULL;
		cman_notice("sessions that move start with the kernel's initial window",
			    "why=\"%s\"", why);
	}
	return m->tools;
}

struct cman_bulk *repair_bulk(struct manager *m)
{
	return tools_get(m)->bulk;
}

void repair_speed(struct manager *m, int fd, const struct cman_repair_image *leg)
{
	struct cman_restore *restore = tools_get(m)->restore;
	bool restored;

	if (restore)
		cman_restore(restore, fd, leg, &restored);
}

struct cman_inspect_raw *repair_raw(struct manager *m)
{
	struct repair_tools *t = tools_get(m);
	const char *why = "";

	if (!t->raw_tried && cman_inspect_raw_open(&t->raw, &why)) {
		t->raw = NULL;
		cman_notice("sessions with kernel TLS cannot be taken apart", "why=\"%s\"", why);
	}
	t->raw_tried = true;
	return t->raw;
}

static bool has_kernel_tls(const struct manager *m)
{
	for (uint32_t g = 0; g < m->ncells; g++)
		for (uint32_t i = 0; i < cell_high(&m->cells[g]); i++)
			if (m->cells[g].slots[i].state >= CMAN_SLOT_ACCEPTED &&
			    (m->cells[g].slots[i].tls & CMAN_SLOT_TLS_KERNEL))
				return true;
	return false;
}

void repair_prepare(struct manager *m)
{
	tools_get(m);
	if (has_kernel_tls(m))
		repair_raw(m);
}

void repair_tools_close(struct manager *m)
{
	if (!m->tools)
		return;
	cman_bulk_free(m->tools->bulk);
	if (m->tools->restore)
		cman_restore_close(m->tools->restore);
	if (m->tools->raw)
		cman_inspect_raw_close(m->tools->raw);
	free(m->tools);
	m->tools = NULL;
}
