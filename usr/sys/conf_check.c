/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the grammar cannot say about a configuration: defaults that depend on other values, references
 * between blocks and to the cluster's, and whether the files of the tls blocks can be used. What
 * concerns the model alone is in usr/core/config.c; here it gets the lines of its keys.
 */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usr/sys/chan_tls.h"
#include "usr/sys/conf_impl.h"
#include "usr/sys/credentials.h"

void cman_conf_fill(struct loader *l, struct cman_instance_conf *inst)
{
	long cpus;
	uint32_t i;

	if (inst->gateways == 0) {
		cpus = sysconf(_SC_NPROCESSORS_ONLN);
		inst->gateways = cpus < 1		  ? 1 :
				 cpus > CMAN_MAX_GATEWAYS ? CMAN_MAX_GATEWAYS :
							    (uint32_t)cpus;
	}
	if (!inst->user)
		cman_conf_keep(l, getpwnam("cman") ? "cman" : "nobody", inst->line, &inst->user);
	if (!inst->log && inst->run_dir &&
	    asprintf(&inst->log, "%s/%s.log", inst->run_dir, inst->alias) < 0) {
		inst->log = NULL;
		cman_conf_fail(l, inst->line, "out of memory");
	}
	for (i = 0; i < inst->nservices; i++) {
		const struct cman_tls_conf *tls = &inst->service[i].tls;

		if (tls->set && !tls->certificate != !tls->key)
			cman_conf_fail(l, tls->line,
				       "tls in service '%s' has a %s alone: expected both "
				       "'certificate' and 'key', or none",
				       inst->service[i].name,
				       tls->certificate ? "certificate" : "key");
	}
	for (i = 0; i < inst->npeers; i++)
		if (!inst->peer[i].peer_name)
			cman_conf_keep(l, inst->peer[i].name, inst->peer[i].line,
				       &inst->peer[i].peer_name);
}

static bool has_group(const struct file_model *m, const char *name)
{
	uint32_t i, j;

	for (i = 0; i < m->nclusters; i++)
		for (j = 0; j < m->cluster[i].ngroups; j++)
			if (strcmp(m->cluster[i].group[j].name, name) == 0)
				return true;
	return false;
}

static bool has_listener(const struct file_model *m, const char *name)
{
	uint32_t i, j;

	for (i = 0; i < m->ninstances; i++)
		for (j = 0; j < m->instance[i].nlisteners; j++)
			if (strcmp(m->instance[i].listener[j].name, name) == 0)
				return true;
	return m->ninstances == 0;
}

/* Is @name, of @key in the block of @line and @title, one of the machines? */
static void check_machine(struct loader *l, const struct cluster *c, unsigned int line,
			  const char *title, const char *key, const char *name)
{
	uint32_t i;

	for (i = 0; i < c->nmachines; i++)
		if (strcmp(c->machine[i].name, name) == 0)
			return;
	cman_conf_fail(l, cman_conf_line_of(l, line, title, key),
		       "%s: unknown machine '%s': expected one of cluster '%s'", key, name,
		       c->name);
}

static void check_cluster(struct loader *l, const struct file_model *m, const struct cluster *c)
{
	uint32_t i, j;

	if (c->store == CMAN_STORE_ETCD && c->nendpoints == 0)
		cman_conf_fail(l, cman_conf_line_of(l, c->line, c->name, "store"),
			       "store = \"etcd\" without "
			       "'etcd_endpoints': expected where etcd is");
	if (*c->master)
		check_machine(l, c, c->line, c->name, "master", c->master);
	if (*c->backup)
		check_machine(l, c, c->line, c->name, "backup", c->backup);
	if (*c->backup && !strcmp(c->backup, c->master))
		cman_conf_fail(l, cman_conf_line_of(l, c->line, c->name, "backup"),
			       "backup is the same machine as "
			       "master: expected another one");
	for (i = 0; i < c->ngroups; i++) {
		const struct group *g = &c->group[i];

		for (j = 0; j < g->nmachines; j++)
			check_machine(l, c, g->line, g->name, "machines", g->machine[j]);
		if (g->nvips && !*g->interface)
			cman_conf_fail(l, g->line,
				       "group '%s' has 'vip' without 'interface': expected the "
				       "interface that gets the addresses",
				       g->name);
	}
	for (i = 0; i < c->nroutes; i++)
		if (!has_listener(m, c->route[i].listener))
			cman_conf_fail(
				l,
				cman_conf_line_of(l, c->route[i].line, c->route[i].name,
						  "listener"),
				"route '%s': unknown listener '%s': expected one of an instance in "
				"this file",
				c->route[i].name, c->route[i].listener);
}

static void check_groups(struct loader *l, const struct file_model *m)
{
	uint32_t i, j;

	for (i = 0; i < m->ninstances; i++)
		for (j = 0; j < m->instance[i].nservices; j++) {
			const struct cman_service_conf *s = &m->instance[i].service[j];

			if (*s->group && !has_group(m, s->group))
				cman_conf_fail(
					l, cman_conf_line_of(l, s->line, s->name, "group"),
					"service '%s': "
					"unknown group '%s': expected one of a cluster block in this "
					"file",
					s->name, s->group);
		}
}

void cman_conf_check_model(struct loader *l, const struct file_model *m, struct cman_conf *conf)
{
	struct cman_conf_problem p;
	uint32_t i;

	for (i = 0; i < m->nclusters; i++)
		check_cluster(l, m, &m->cluster[i]);
	check_groups(l, m);
	if (cman_conf_check(conf, &p) < 0)
		cman_conf_fail(l, cman_conf_line_of(l, p.line, p.block, p.key), "%s", p.text);
}

/* --- the files: nobody wants to find out in a handshake that they cannot be used */

static void refused(struct loader *l, const struct cman_tls_conf *tls,
		    const struct cman_tls_error *error)
{
	unsigned int line = tls->line;
	uint32_t i;

	for (i = 0; i < tls->nsni; i++)
		if (error->sni == tls->sni[i].name)
			line = tls->sni[i].line;
	cman_conf_fail(l, cman_conf_line_of(l, line, error->sni ? error->sni : "tls", error->key),
		       "%s = %s", error->key, error->text);
}

/* Of the channel to other instances. */
static void check_channel(struct loader *l, struct cman_tls_conf *tls)
{
	struct cman_tls_error error;
	struct cman_tls_ctx *ctx;

	if (!tls->set)
		return;
	if (cman_tls_ctx_new(tls->certificate, tls->key, tls->ca, &ctx, &error) < 0) {
		refused(l, tls, &error);
		return;
	}
	if (cman_tls_ctx_warning(ctx))
		cman_conf_keep(l, cman_tls_ctx_warning(ctx), tls->line, &tls->warning);
	cman_tls_ctx_free(ctx);
}

/* Of a leg. No key is kept. */
static void check_leg(struct loader *l, struct cman_tls_conf *tls, bool server)
{
	struct cman_credentials c;
	struct cman_tls_error error;

	if (!tls->set)
		return;
	if (cman_credentials_load(tls, server, 0, &c, &error) < 0) {
		refused(l, tls, &error);
		return;
	}
	if (c.warning)
		cman_conf_keep(l, c.warning, tls->line, &tls->warning);
	cman_credentials_fini(&c);
}

void cman_conf_check_files(struct loader *l, struct cman_instance_conf *inst)
{
	uint32_t i;

	check_channel(l, &inst->tls);
	for (i = 0; i < inst->nlisteners; i++)
		check_leg(l, &inst->listener[i].tls, true);
	for (i = 0; i < inst->nservices; i++)
		check_leg(l, &inst->service[i].tls, false);
}
