/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Certificates and keys of listeners and services on their way to the gateways: read from their files
 * into one memfd (usr/sys/credentials.h), which every cell gets at its start, and again after a reload.
 * The keepers hold it, so that the next gateway has it, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "usr/manager/manager.h"
#include "usr/sys/credentials.h"
#include "usr/sys/secret.h"

static int load_one(struct cman_credentials_set *set, const struct cman_tls_conf *tls, bool server,
		    uint32_t at, struct cman_tls_error *ret_error)
{
	int err;

	if (!tls->set)
		return 0;
	err = cman_credentials_load(tls, server, at, &set->one[set->n], ret_error);
	if (!err)
		set->n++;
	return err;
}

int credentials_make(const struct cman_instance_conf *ic, const uint32_t *listener_at,
		     const uint32_t *service_at, unsigned int *ret_line,
		     struct cman_tls_error *ret_error)
{
	struct cman_credentials_set set = { 0 };
	int err = 0;

	*ret_line = ic->line;
	ret_error->key = "tls";
	strcpy(ret_error->text, "no memory for the credentials");
	set.one = calloc(ic->nlisteners + ic->nservices + 1, sizeof(*set.one));
	if (!set.one)
		return -ENOMEM;
	for (uint32_t i = 0; i < ic->nlisteners && !err; i++) {
		*ret_line = ic->listener[i].tls.line;
		err = load_one(&set, &ic->listener[i].tls, true, listener_at[i], ret_error);
	}
	for (uint32_t i = 0; i < ic->nservices && !err; i++) {
		*ret_line = ic->service[i].tls.line;
		err = load_one(&set, &ic->service[i].tls, false, service_at[i], ret_error);
	}
	if (!err && set.n) {
		if (getrandom(set.ticket_key, sizeof(set.ticket_key), 0) != sizeof(set.ticket_key))
			err = -EIO;
		else
			err = cman_credentials_pack(&set);
	} else if (!err) {
		err = -ENOENT;
	}
	cman_credentials_free(&set);
	return err;
}

/* ---- to the cells ---- */

struct delivery {
	struct keeper_request take, drop;
	struct cell *c;
};

static void on_dropped(struct keeper_request *r, void *arg)
{
	(void)r;
	free(arg);
}

static void on_taken(struct keeper_request *r, void *arg)
{
	struct delivery *d = arg;
	int32_t old = d->c->shared->credentials_fd;

	close(r->fd[0]);
	if (!r->err) {
		__atomic_store_n(&d->c->shared->credentials_fd, (int32_t)r->number[0],
				 __ATOMIC_RELEASE);
		cell_order_simple(d->c, CMAN_ORDER_SYNC);
	}
	cman_cell_import_end(d->c->shared);
	if (r->err || old <= 0) {
		free(d);
		return;
	}
	d->drop.type = CMAN_FRAME_DROP;
	d->drop.n = 1;
	d->drop.number[0] = (uint32_t)old;
	d->drop.done = on_dropped;
	d->drop.arg = d;
	cell_request(d->c, &d->drop);
}

static void deliver(struct cell *c, int fd)
{
	struct delivery *d = calloc(1, sizeof(*d));

	if (!d)
		abort();
	d->c = c;
	d->take.type = CMAN_FRAME_TAKE;
	d->take.n = 1;
	d->take.fd[0] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	d->take.done = on_taken;
	d->take.arg = d;
	cman_cell_import_begin(c->shared);
	cell_request(c, &d->take);
}

void credentials_deliver(struct manager *m)
{
	for (uint32_t i = 0; i < m->ncells && m->credentials_fd > 0; i++)
		deliver(&m->cells[i], m->credentials_fd);
}
