/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The answer to `migrate --check`: for each session whether it could move, and why not. By fd the
 * state of the slot says it. By repair the sockets have to be asked: the keeper gives copies of
 * them, some at a time; nothing is changed.
 */
#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usr/manager/repair.h"

#define AT_A_TIME 100 /* sessions; two descriptors each */

struct one {
	uint64_t id;
	uint32_t cell, slot;
	const char *reason; /* NULL: it can */
};

struct check {
	struct manager *m;
	struct client *client;
	enum cman_carrier_choice via;
	struct one *list;
	uint32_t n, next; /* [0, next) are done */
	uint32_t asked[AT_A_TIME], nasked;
	struct ifaddrs *own;
	struct keeper_request request;
};

static void ask(struct check *k);

static void check_free(struct check *k)
{
	freeifaddrs(k->own);
	free(k->list);
	free(k);
}

static void client_gone(void *arg)
{
	((struct check *)arg)->client = NULL;
}

static void answer(struct check *k)
{
	json_t *array = json_array();
	uint32_t cannot = 0;

	for (uint32_t i = 0; i < k->n; i++) {
		const struct one *o = &k->list[i];
		const struct cman_slot *s = &k->m->cells[o->cell].slots[o->slot];
		char id[20];

		if (s->id != o->id || s->service >= CMAN_MAX_SERVICES)
			continue; /* it has ended meanwhile */
		snprintf(id, sizeof(id), "%016llx", (unsigned long long)o->id);
		cannot += o->reason != NULL;
		json_array_append_new(array,
				      json_pack("{s:s, s:s, s:b, s:s?}", "id", id, "service",
						k->m->maps.services[s->service].name, "can_move",
						!o->reason, "reason", o->reason));
	}
	if (k->client)
		client_reply(k->client, json_pack("{s:s, s:o, s:I, s:I}", "via",
						  k->via == CMAN_VIA_REPAIR ? "repair" : "fd",
						  "sessions", array, "can_move",
						  (json_int_t)json_array_size(array) - cannot,
						  "cannot", (json_int_t)cannot));
	else
		json_decref(array);
	check_free(k);
}

static const char *ask_leg(const struct check *k, const struct cman_slot *s, int l, int fd)
{
	struct cman_repair_image leg = { 0 };
	const char *why = NULL;

	if (ktls_is_leg(s, l))
		why = ktls_cannot(k->m, fd);
	else
		cman_repair_check(fd, &why);
	if (why)
		return why;
	if (!cman_repair_describe(fd, &leg, NULL))
		why = repair_cannot(k->own, &leg);
	cman_repair_free(&leg);
	return why;
}

static void on_given(struct keeper_request *r, void *arg)
{
	struct check *k = arg;

	for (uint32_t i = 0; i < k->nasked; i++) {
		struct one *o = &k->list[k->asked[i]];
		const struct cman_slot *s = &k->m->cells[o->cell].slots[o->slot];

		if (r->err) {
			o->reason = "its gateway does not answer";
			continue;
		}
		o->reason = ask_leg(k, s, 0, r->fd[2 * i]);
		if (!o->reason)
			o->reason = ask_leg(k, s, 1, r->fd[2 * i + 1]);
		close(r->fd[2 * i]);
		close(r->fd[2 * i + 1]);
	}
	ask(k);
}

/* The next sessions of one cell. */
static void ask(struct check *k)
{
	uint32_t cell = 0;

	k->nasked = 0;
	memset(&k->request, 0, sizeof(k->request));
	for (; k->next < k->n && k->nasked < AT_A_TIME; k->next++) {
		const struct one *o = &k->list[k->next];
		const struct cman_slot *s = &k->m->cells[o->cell].slots[o->slot];

		if (o->reason || s->id != o->id || s->state != CMAN_SLOT_RELAYING)
			continue;
		if (k->nasked && o->cell != cell)
			break;
		cell = o->cell;
		k->request.number[2 * k->nasked] = (uint32_t)s->client_fd;
		k->request.number[2 * k->nasked + 1] = (uint32_t)s->server_fd;
		k->asked[k->nasked++] = k->next;
	}
	if (!k->nasked || !k->client) {
		answer(k);
		return;
	}
	k->request.type = CMAN_FRAME_GIVE;
	k->request.n = 2 * k->nasked;
	k->request.done = on_given;
	k->request.arg = k;
	cell_request(&k->m->cells[cell], &k->request);
}

static const char *by_state(const struct cman_slot *s)
{
	switch ((enum cman_slot_state)s->state) {
	case CMAN_SLOT_ACCEPTED:
	case CMAN_SLOT_CONNECTING:
		return "still connecting";
	case CMAN_SLOT_HANDSHAKE:
		return "still in its TLS handshake";
	case CMAN_SLOT_CLOSING:
		return "is closing";
	default:
		return NULL;
	}
}

void check_migration(struct manager *m, struct client *c, enum cman_carrier_choice via)
{
	struct check *k = calloc(1, sizeof(*k));
	uint32_t room = 0;

	for (uint32_t g = 0; g < m->ncells; g++)
		room += cell_high(&m->cells[g]);
	if (k)
		k->list = calloc(room ? room : 1, sizeof(*k->list));
	if (!k || !k->list) {
		free(k);
		client_error(c, 1, "out of memory");
		return;
	}
	k->m = m;
	k->client = c;
	k->via = via;
	for (uint32_t g = 0; g < m->ncells; g++) {
		uint32_t high = cell_high(&m->cells[g]);

		for (uint32_t i = 0; i < high && k->n < room; i++) {
			const struct cman_slot *s = &m->cells[g].slots[i];

			if (s->state < CMAN_SLOT_ACCEPTED)
				continue;
			k->list[k->n++] = (struct one){
				.id = s->id,
				.cell = g,
				.slot = i,
				.reason = by_state(s),
			};
		}
	}
	if (via != CMAN_VIA_REPAIR) {
		answer(k);
		return;
	}
	getifaddrs(&k->own);
	client_on_close(c, client_gone, k);
	ask(k);
}
