// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Opening and ending connections, plain or TLS by the options of the run. What happens between is
 * in transport.h: for plain TCP nothing but the system call.
 */
#include "tls.h"

static int begin(struct transport *t, struct worker *w, bool connected, uint32_t events)
{
	t->tls = NULL;
	return w->opt->tls ? tls_open(t, w, connected, events) : loop_add(&w->loop, &t->io, events);
}

/* After a failure too, transport_close() ends it. */
int transport_connect(struct transport *t, struct worker *w, const struct address_list *to,
		      uint64_t index, int rcvbuf, uint32_t events)
{
	int err = net_connect(w->opt, to, index, rcvbuf, &t->io.fd);

	return err == -EINPROGRESS ? begin(t, w, false, events) : err;
}

/* After a failure the descriptor is still the caller's. */
int transport_accept(struct transport *t, struct worker *w, int fd, uint32_t events)
{
	t->io.fd = fd;
	return begin(t, w, true, events);
}

/* Whether all that was written has gone, so that it may be closed; in TLS close_notify too. */
bool transport_finish(struct transport *t)
{
	return t->tls ? tls_finish(t->tls) : true;
}

/* The close that follows sends RST. */
void transport_reset(struct transport *t)
{
	net_reset(t->io.fd);
	if (t->tls)
		tls_abort(t->tls);
}

void transport_close(struct transport *t, struct loop *l)
{
	if (t->tls)
		tls_close(t->tls);
	loop_close(l, &t->io);
}
