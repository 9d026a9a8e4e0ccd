/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A move to another host: the steps of source and target that concern services and addresses, see
 * remote.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usr/manager/peer.h"
#include "usr/manager/remote.h"
#include "usr/manager/repair.h"
#include "usr/sys/log.h"
#include "usr/sys/proc.h"
#include "usr/sys/sock.h"

#define STRAYS_MS 10000 /* how long the source forwards after the announcement */

/* ---- what moves ---- */

static int service_conf_index(const struct manager *m, const char *name)
{
	for (uint32_t i = 0; i < m->ic->nservices; i++)
		if (!strcmp(m->ic->service[i].name, name))
			return (int)i;
	return -1;
}

static void add_floating(struct remote *r, uint32_t i)
{
	for (uint32_t k = 0; k < r->nfloating; k++)
		if (r->floating[k] == i)
			return;
	r->floating[r->nfloating++] = i;
}

static bool moves(const struct remote *r, const char *service)
{
	int n = publish_service_index(r->m, service, strlen(service));

	return n >= 0 && r->service[n];
}

/* The addresses of the chosen services; *why if that cannot be. */
static bool collect_addresses(struct remote *r, const char **why)
{
	const struct cman_instance_conf *ic = r->m->ic;

	for (uint32_t i = 0; i < ic->nlisteners; i++) {
		int f = floating_index(r->m, ic->listener[i].address.addr);

		if (!moves(r, ic->listener[i].service_name))
			continue;
		*why = "a listener of the service is not on a floating address";
		if (f < 0)
			return false;
		add_floating(r, (uint32_t)f);
	}
	for (uint32_t i = 0; i < ic->nservices; i++) {
		int f = floating_index(r->m, ic->service[i].source.addr);

		if (!moves(r, ic->service[i].name))
			continue;
		*why = "the service's `source` is not a floating address: its server legs could "
		       "not move";
		if (!ic->service[i].source.family || f < 0)
			return false;
		add_floating(r, (uint32_t)f);
	}
	*why = "there is no such service with a listener";
	if (!r->nfloating)
		return false;
	/* an address moves as a whole */
	for (uint32_t i = 0; i < ic->nlisteners; i++) {
		int f = floating_index(r->m, ic->listener[i].address.addr);

		*why = "another service has the same floating address: move them together";
		for (uint32_t k = 0; k < r->nfloating; k++)
			if (f == (int)r->floating[k] && !moves(r, ic->listener[i].service_name))
				return false;
	}
	*why = "its floating address is not here";
	for (uint32_t k = 0; k < r->nfloating; k++)
		if (!floating_held(r->m, r->floating[k]))
			return false;
	return true;
}

void remote_migrate(struct manager *m, struct client *c, const char *peer, const char *service,
		    uint32_t timeout_s)
{
	struct remote *r = calloc(1, sizeof(*r));
	struct cman_chan chan;
	const char *why = "";

	if (!r) {
		client_error(c, 1, "out of memory");
		return;
	}
	r->m = m;
	r->client = c;
	snprintf(r->peer, sizeof(r->peer), "%s", peer);
	if (service && service_conf_index(m, service) < 0) {
		client_error(c, 2, "there is no service \"%s\"", service);
		free(r);
		return;
	}
	for (uint32_t i = 0; i < m->ic->nservices; i++) {
		const char *name = m->ic->service[i].name;
		int n = publish_service_index(m, name, strlen(name));

		if (n >= 0 && (!service || !strcmp(service, name)))
			r->service[n] = true;
	}
	if (!collect_addresses(r, &why) || remote_connect(m, peer, &chan, &why)) {
		client_error(c, 1, "nothing was moved to %s: %s", peer, why);
		free(r);
		return;
	}
	source_offer(m, r, &chan, timeout_s);
}

void remote_offer(struct remote *r, struct peer *p)
{
	struct cman_frame_writer w;

	cman_frame_begin(&w, CMAN_FRAME_OFFER, 0);
	cman_frame_add_range(&w, CMAN_WIRE_MIN, CMAN_WIRE_MAX);
	cman_frame_add_text(&w, CMAN_TAG_RELEASE, cman_version);
	cman_frame_add_text(&w, CMAN_TAG_ALIAS, r->m->alias);
	cman_frame_add_u32(&w, CMAN_TAG_PID, (uint32_t)getpid());
	cman_frame_add_u32(&w, CMAN_TAG_SESSIONS, instance_sessions(r->m));
	for (uint32_t i = 0; i < CMAN_MAX_SERVICES; i++)
		if (r->service[i])
			cman_frame_add_text(&w, CMAN_TAG_SERVICE, r->m->maps.services[i].name);
	for (uint32_t k = 0; k < r->nfloating; k++)
		cman_frame_add_bytes(&w, CMAN_TAG_ADDRESS,
				     r->m->ic->floating[r->floating[k]].address.addr, 16);
	peer_send(p, &w, NULL, 0);
}

/* ---- source ---- */

bool remote_moving_to(const struct manager *m, struct destination *ret)
{
	char path[256];
	FILE *f = fopen(rundir_path(m, m->name, "moving-to", path, sizeof(path)), "re");
	bool found = f && fread(ret, sizeof(*ret), 1, f) == 1;

	if (f)
		fclose(f);
	return found;
}

int remote_note(struct manager *m, const struct remote *r)
{
	struct destination to = { 0 };
	char path[256], new[264];
	FILE *f;

	rundir_path(m, m->name, "moving-to", path, sizeof(path));
	if (!r)
		return unlink(path) ? -errno : 0;
	memcpy(to.peer, r->peer, sizeof(to.peer));
	memcpy(to.boot_id, r->boot_id, sizeof(to.boot_id));
	snprintf(new, sizeof(new), "%s.new", path);
	f = fopen(new, "we");
	if (!f)
		return -errno;
	fwrite(&to, sizeof(to), 1, f);
	return fclose(f) || rename(new, path) ? -errno : 0;
}

bool remote_ready(struct remote *r, const struct cman_frame *f, uint64_t *ret_epoch)
{
	const uint8_t *bytes;
	size_t cursor = 0, n;

	*ret_epoch = 0;
	cman_frame_u64(f, CMAN_TAG_EPOCH, ret_epoch);
	while (!cman_frame_next_bytes(f, CMAN_TAG_HOP, &cursor, &bytes, &n)) {
		for (uint32_t k = 0; k < r->nfloating; k++) {
			const struct cman_floating_conf *conf = &r->m->ic->floating[r->floating[k]];

			if (memcmp(conf->address.addr, bytes, 16) ||
			    floating_hop(r->m, r->floating[k], &r->hop[k]))
				continue;
			memcpy(r->hop[k].dst_mac, bytes + 16, 6);
			r->has_hop[k] = true;
		}
	}
	for (uint32_t k = 0; k < r->nfloating; k++)
		if (!r->has_hop[k])
			return false;
	return true;
}

const struct cman_guard_hop *remote_hop(const struct remote *r, const uint8_t addr[16])
{
	for (uint32_t k = 0; k < r->nfloating; k++)
		if (!memcmp(r->m->ic->floating[r->floating[k]].address.addr, addr, 16))
			return &r->hop[k];
	return NULL;
}

static int set_mode(struct remote *r, enum cman_moving_mode mode)
{
	int err = 0;

	for (uint32_t k = 0; k < r->nfloating && !err; k++)
		err = guard_address(r->m, r->m->ic->floating[r->floating[k]].address.addr, mode,
				    r->has_hop[k] ? &r->hop[k] : NULL);
	return err;
}

static void clear_mode(struct remote *r)
{
	for (uint32_t k = 0; k < r->nfloating; k++)
		guard_address_clear(r->m, r->m->ic->floating[r->floating[k]].address.addr);
}

bool remote_leave(struct remote *r)
{
	int err;

	remote_forget_strays(r->m);
	err = set_mode(r, CMAN_MOVING_LEAVING);

	if (err)
		event_add(r->m, LOG_ERR, "new connections cannot be forwarded to %s: %s", r->peer,
			  strerror(-err));
	return !err;
}

void remote_stay(struct remote *r)
{
	__atomic_store_n(&r->m->maps.instance->port_parity, CMAN_PORTS_ANY, __ATOMIC_RELEASE);
	if (r->nfloating && r->has_hop[0])
		set_mode(r, CMAN_MOVING_STAYED);
	else
		clear_mode(r);
}

struct strays {
	struct manager *m;
	uint8_t addr[CMAN_MAX_LISTENERS][16];
	uint32_t n;
	uv_timer_t *timer;
};

void remote_forget_strays(struct manager *m)
{
	struct strays *s = m->strays;

	if (!s)
		return;
	m->strays = NULL;
	for (uint32_t k = 0; k < s->n; k++)
		guard_address_clear(s->m, s->addr[k]);
	guard_forget_forwarded(s->m);
	timer_end(&s->timer);
	free(s);
}

static void on_strays_over(uv_timer_t *t)
{
	remote_forget_strays(((struct strays *)t->data)->m);
}

void remote_gone(struct remote *r)
{
	struct strays *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	s->m = r->m;
	__atomic_store_n(&r->m->maps.instance->port_parity, CMAN_PORTS_ANY, __ATOMIC_RELEASE);
	set_mode(r, CMAN_MOVING_GONE);
	for (uint32_t k = 0; k < r->nfloating; k++) {
		memcpy(s->addr[s->n++], r->m->ic->floating[r->floating[k]].address.addr, 16);
		floating_give_up(r->m, r->floating[k]);
	}
	s->timer = timer_begin(r->m, on_strays_over, STRAYS_MS, 0, s);
	r->m->strays = s;
}

/* Local ports of the addresses, from the kernel's table: also those in TIME_WAIT. */
static void read_ports(const struct remote *r, const char *path, int words, uint8_t ports[8192])
{
	char line[512];
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f)) {
		uint8_t addr[16] = { [10] = 0xff, [11] = 0xff };
		char hex[33];
		unsigned int port;
		uint32_t word;

		if (sscanf(line, " %*d: %32[0-9A-F]:%x", hex, &port) != 2 ||
		    strlen(hex) != (size_t)words * 8 || port > 65535)
			continue;
		for (int k = 0; k < words; k++) {
			char part[9] = "";

			memcpy(part, hex + 8 * k, 8);
			word = (uint32_t)strtoul(part, NULL, 16); /* as it lies in memory */
			memcpy(addr + (words == 1 ? 12 : 4 * k), &word, 4);
		}
		if (remote_hop(r, addr))
			ports[port / 8] |= (uint8_t)(1u << port % 8);
	}
	if (f)
		fclose(f);
}

void remote_named(struct remote *r, struct peer *p)
{
	uint8_t ports[8192] = { 0 };
	struct cman_frame_writer w;

	__atomic_store_n(&r->m->maps.instance->port_parity, CMAN_PORTS_ODD, __ATOMIC_SEQ_CST);
	read_ports(r, "/proc/net/tcp", 1, ports);
	read_ports(r, "/proc/net/tcp6", 4, ports);
	cman_frame_begin(&w, CMAN_FRAME_NAMED, 0);
	cman_frame_add_bytes(&w, CMAN_TAG_PORTS, ports, sizeof(ports));
	peer_send(p, &w, NULL, 0);
}

/* ---- target ---- */

bool remote_arrive(struct remote *r)
{
	int err;

	/* they may come back just now */
	remote_forget_strays(r->m);
	err = set_mode(r, CMAN_MOVING_ARRIVING);

	for (uint32_t k = 0; k < r->nfloating && !err; k++)
		if (!floating_held(r->m, r->floating[k]))
			err = floating_hold(r->m, r->floating[k]);
	if (err) {
		event_add(r->m, LOG_ERR, "the floating addresses cannot be held: %s",
			  strerror(-err));
		remote_turn_back(r);
	}
	return !err;
}

void remote_send_ready(struct remote *r, struct peer *p)
{
	struct cman_frame_writer w;

	cman_frame_begin(&w, CMAN_FRAME_READY, 0);
	for (uint32_t k = 0; k < r->nfloating; k++) {
		struct cman_guard_hop hop;
		uint8_t bytes[22];

		if (floating_hop(r->m, r->floating[k], &hop))
			continue;
		memcpy(bytes, r->m->ic->floating[r->floating[k]].address.addr, 16);
		memcpy(bytes + 16, hop.src_mac, 6);
		cman_frame_add_bytes(&w, CMAN_TAG_HOP, bytes, sizeof(bytes));
	}
	cman_frame_add_u64(&w, CMAN_TAG_EPOCH, journal_epoch(&r->m->journal));
	peer_send(p, &w, NULL, 0);
}

void remote_ports(struct remote *r, const struct cman_frame *f)
{
	const uint8_t *bytes;
	size_t n;

	if (cman_frame_bytes(f, CMAN_TAG_PORTS, &bytes, &n))
		return;
	memcpy(r->m->maps.instance->busy_port, bytes, n);
	__atomic_store_n(&r->m->maps.instance->port_parity, CMAN_PORTS_EVEN, __ATOMIC_RELEASE);
}

void remote_arrived(struct remote *r)
{
	for (uint32_t k = 0; k < r->nfloating; k++) {
		int err = floating_announce(r->m, r->floating[k]);

		if (err)
			event_add(r->m, LOG_ERR, "the floating address %s cannot be taken: %s",
				  r->m->ic->floating[r->floating[k]].name, strerror(-err));
	}
	clear_mode(r);
	__atomic_store_n(&r->m->maps.instance->port_parity, CMAN_PORTS_ANY, __ATOMIC_RELEASE);
}

void remote_turn_back(struct remote *r)
{
	__atomic_store_n(&r->m->maps.instance->port_parity, CMAN_PORTS_ANY, __ATOMIC_RELEASE);
	for (uint32_t k = 0; k < r->nfloating; k++)
		floating_let_go(r->m, r->floating[k]);
	clear_mode(r);
}

/* What is offered must be configured here as well. */
struct remote *remote_take(struct manager *m, const struct cman_frame *f, const char **why)
{
	struct remote *r = calloc(1, sizeof(*r));
	size_t cursor = 0, n;
	const uint8_t *addr;
	const char *text;

	*why = "out of memory";
	if (!r)
		return NULL;
	r->m = m;
	while (!cman_frame_next_text(f, CMAN_TAG_SERVICE, &cursor, &text, &n)) {
		char name[CMAN_NAME_LEN];
		int i;

		snprintf(name, sizeof(name), "%.*s", (int)n, text);
		*why = "a service that would move is not configured on the target";
		if (service_conf_index(m, name) < 0)
			goto refuse;
		i = publish_service_index(m, name, strlen(name));
		if (i >= 0)
			r->service[i] = true;
	}
	cursor = 0;
	while (!cman_frame_next_bytes(f, CMAN_TAG_ADDRESS, &cursor, &addr, &n)) {
		int i = floating_index(m, addr);

		*why = "an address that would move is not a floating address of the target";
		if (i < 0)
			goto refuse;
		add_floating(r, (uint32_t)i);
	}
	return r;
refuse:
	free(r);
	return NULL;
}
