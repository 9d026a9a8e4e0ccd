/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loader from text to model, through a memfd: good configurations become what they say (with
 * every default), each broken one of broken_configs.h gets exactly its error. Then the model alone:
 * picking an instance, what a reload may change.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "usr/core/config_check.h"
#include "usr/sys/conf.h"

#include "broken_configs.h"
#include "certificates.h"

#define LISTENER "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
#define SERVICE	 "service pg { targets = { \"10.0.0.5:5432\" } }\n"
/* of the handover channel; made for each test */
#define CHANNEL \
	"tls { certificate = \"${CMAN_TEST_DIR}/node.pem\" key = \"${CMAN_TEST_DIR}/node.key\"" \
	" ca = \"${CMAN_TEST_DIR}/ca.pem\" }\n"

static void begin(void)
{
	struct cert_issuer ca;

	cert_begin();
	ca = cert_make("ca", NULL, NULL, -CERT_DAY, CERT_DAY, NULL, true);
	cert_leaf("node", "DNS:sitea.example", CERT_BOTH, -CERT_DAY, CERT_DAY, &ca);
	cert_leaf("expired", "DNS:sitea.example", CERT_BOTH, -2 * CERT_DAY, -CERT_DAY, &ca);
	cert_leaf("young", "DNS:sitea.example", CERT_BOTH, CERT_DAY, 2 * CERT_DAY, &ca);
	cert_forget(&ca);
}

TestSuite(config, .init = begin, .fini = cert_end);

/* @path gets the name that errors mention. */
static int load_bytes(const void *data, size_t size, char path[64], struct cman_conf **ret_conf,
		      struct cman_conf_error *ret_error)
{
	int fd = memfd_create("conf", MFD_CLOEXEC), r;

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, data, size), (ssize_t)size);
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	r = cman_conf_load(path, ret_conf, ret_error);
	close(fd);
	return r;
}

static struct cman_conf *good(const char *text)
{
	struct cman_conf_error error = { .text = "" };
	struct cman_conf *conf = NULL;
	char path[64];

	cr_assert_eq(load_bytes(text, strlen(text), path, &conf, &error), 0, "%s", error.text);
	cr_assert_not_null(conf);
	return conf;
}

/* The error behind the name of the file. */
static const char *bad(const char *text, size_t size)
{
	static struct cman_conf_error error;
	struct cman_conf *conf = (void *)1;
	char path[64];

	memset(&error, 0, sizeof(error));
	cr_assert_eq(load_bytes(text, size, path, &conf, &error), -EINVAL);
	cr_assert_eq(conf, (void *)1, "result touched on failure");
	cr_assert_eq(strncmp(error.text, path, strlen(path)), 0, "%s", error.text);
	return error.text + strlen(path);
}

Test(config, broken)
{
	const size_t n = sizeof(broken_configs) / sizeof(*broken_configs);
	size_t i;

	cr_assert_geq(n, 45);
	for (i = 0; i < n; i++) {
		const struct broken_config *b = &broken_configs[i];
		const char *got = bad(b->text, strlen(b->text));

		cr_expect_str_eq(got, b->expected, "%s:\n  got      %s\n  expected %s", b->name,
				 got, b->expected);
		cr_expect(strstr(got, "expected"), "%s: says nothing of what was expected: %s",
			  b->name, got);
	}
}

/* A failure must leave nothing in libconfuse's global state: a good file loads after each one. */
Test(config, good_after_broken)
{
	const size_t n = sizeof(broken_configs) / sizeof(*broken_configs);
	size_t i;

	for (i = 0; i < n; i++) {
		bad(broken_configs[i].text, strlen(broken_configs[i].text));
		cman_conf_free(good("instance a {\n" LISTENER SERVICE "}\n"));
	}
}

/* Every prefix of a good file: never a crash, and only whole ones load. */
Test(config, truncated)
{
	static const char text[] = "# c\ninstance a {\n" LISTENER "/* x */ service pg {\n"
				   "targets = { '10.0.0.5:1', \"10.0.0.6:1\" }\n}\n}\n";
	struct cman_conf_error error;
	struct cman_conf *conf;
	char path[64];
	size_t i;

	for (i = 0; i < sizeof(text) - 2; i++)
		cr_assert_eq(load_bytes(text, i, path, &conf, &error), -EINVAL, "%zu bytes", i);
	cman_conf_free(good(text));
}

static const char example[] =
	"instance cman1 {\n"
	"    run_dir = \"/run/cman\"              # control socket: RUN_DIR/ALIAS.sock\n"
	"    gateways = 2                       # default: number of CPUs\n"
	"    max_sessions = 9000\n"
	"    handover = \"auto\"                  # auto | fd | repair\n"
	"    handover_timeout = 420             # seconds: the old instance exits by then (7 minutes)\n"
	"    http = \"127.0.0.1:9180\"            # optional: /metrics (OpenMetrics), / (status page)\n"
	"    log_level = \"notice\"\n"
	"    standby = false                    # true: start without holding the floating addresses\n"
	"    handover_listen = \"10.0.0.1:7710\"  # optional: take sessions from peers (mutual TLS)\n"
	"    " CHANNEL
	"    floating vip { address = \"10.0.0.100/24\"  interface = \"eth0\" }  # moves\n"
	"    peer siteb { address = \"10.0.0.2:7710\"  name = \"siteb.example\" }   # another place\n"
	"\n"
	"    listener front {\n"
	"        address = \"0.0.0.0:5432\"       # or \"[::]:5432\"; port ranges \"10.0.0.9:7000-7999\"\n"
	"        service = \"pg\"\n"
	"        tls { certificate = \"${CMAN_TEST_DIR}/node.pem\"  key = \"${CMAN_TEST_DIR}/node.key\""
	"  client_ca = \"${CMAN_TEST_DIR}/ca.pem\"\n"
	"              min_version = \"1.2\" }    # the tls block makes the client leg TLS\n"
	"    }\n"
	"    service pg {\n"
	"        targets = { \"10.0.0.5:5432\", \"10.0.0.6:5432\" }\n"
	"        balance = \"first\"              # first | roundrobin | leastconn\n"
	"        source = \"10.0.0.100\"          # optional: address the server leg is sent from\n"
	"        connect_timeout = 5\n"
	"        idle_timeout = 0               # seconds, 0 is never\n"
	"        when_down = \"refuse\"           # refuse (RST) | wait (hold SYNs)\n"
	"        splice = \"user\"                # user | sockmap\n"
	"        session_timeout = 0\n"
	"        group = \"GROUP1\"               # optional: belongs to this group of the cluster\n"
	"        tls { ca = \"${CMAN_TEST_DIR}/ca.pem\"  server_name = \"db.example\"  certificate = \"\""
	" key = \"\" verify = true }\n"
	"    }\n"
	"    rule office {                      # longest source prefix wins\n"
	"        source = \"10.0.0.0/8\"\n"
	"        service = \"*\"\n"
	"        action = \"accept\"              # accept | reject (RST) | drop (silence)\n"
	"        max_idle = 1800\n"
	"        max_sessions = 200\n"
	"    }\n"
	"}\n"
	"cluster bank {\n"
	"    store = \"embedded\"                 # embedded | etcd\n"
	"    etcd_endpoints = { \"http://127.0.0.1:2379\" }\n"
	"    master = \"SITE1\"   backup = \"SITE2\"\n"
	"    migrate = true                     # without it every migration is refused\n"
	"    scanunit_ms = 1000   sanityscan = 10   dbblfailover = 0   sgrpfailover = 0\n"
	"    machine SITE1 { address = \"10.0.0.1:7700\"  instance = \"cman1\" }\n"
	"    machine SITE2 { address = \"10.0.0.2:7700\"  instance = \"cman1\" }\n"
	"    group GROUP1 {\n"
	"        machines = { \"SITE1\", \"SITE2\" }        # primary, alternate\n"
	"        vip = { \"10.0.0.100/24\" }  interface = \"eth0\"\n"
	"        restart = true\n"
	"    }\n"
	"    route by_client {                  # data-dependent routing\n"
	"        listener = \"front\"  field = \"source\"\n"
	"        ranges = { \"10.1.0.0/16=GROUP1\", \"*=GROUP2\" }\n"
	"    }\n"
	"}\n";

Test(config, example_of_the_interface)
{
	struct cman_conf *conf = good(example);
	struct cman_instance_conf *inst;
	char buf[CMAN_ENDPOINT_TEXT];

	cr_assert_eq(conf->ninstances, 1);
	cr_assert_eq(conf->nclusters, 1);
	inst = cman_conf_instance(conf, NULL);
	cr_assert_eq(inst, cman_conf_instance(conf, "cman1"));
	cr_assert_null(cman_conf_instance(conf, "cman2"));
	cr_assert_str_eq(inst->alias, "cman1");
	cr_assert_eq(inst->line, 1);
	cr_assert_str_eq(inst->run_dir, "/run/cman");
	cr_assert_str_eq(inst->log, "/run/cman/cman1.log");
	cr_assert_eq(inst->gateways, 2);
	cr_assert_eq(inst->max_sessions, 9000);
	cr_assert_eq(inst->handover, CMAN_VIA_AUTO);
	cr_assert_eq(inst->handover_timeout_s, 420);
	cr_assert_str_eq(inst->http, "127.0.0.1:9180");
	cr_assert_eq(inst->log_level, LOG_NOTICE);
	cr_assert_not(inst->standby);
	cr_assert_eq(inst->handover_listen.port_first, 7710);
	cr_assert(inst->tls.set);
	cr_assert_null(inst->tls.warning);

	cr_assert_eq(inst->nfloating, 1);
	cr_assert_eq(inst->floating[0].prefix_len, 24);
	cr_assert_str_eq(cman_endpoint_format(inst->floating[0].address.addr, 0, buf),
			 "10.0.0.100");
	cr_assert_str_eq(inst->floating[0].interface, "eth0");
	cr_assert_eq(inst->npeers, 1);
	cr_assert_str_eq(inst->peer[0].peer_name, "siteb.example");

	cr_assert_eq(inst->nlisteners, 1);
	cr_assert_str_eq(inst->listener[0].name, "front");
	cr_assert_eq(inst->listener[0].line, 15);
	cr_assert_eq(inst->listener[0].service, 0);
	cr_assert_eq(inst->listener[0].address.family, AF_INET);

	cr_assert_eq(inst->nservices, 1);
	cr_assert_eq(inst->service[0].line, 21);
	cr_assert_eq(inst->service[0].ntargets, 2);
	cr_assert_str_eq(cman_endpoint_format(inst->service[0].target[1].addr,
					      inst->service[0].target[1].port_first, buf),
			 "10.0.0.6:5432");
	cr_assert_eq(inst->service[0].balance, CMAN_BALANCE_FIRST);
	cr_assert_eq(inst->service[0].source.family, AF_INET);
	cr_assert_str_eq(inst->service[0].group, "GROUP1");
	cr_assert_eq(inst->listener[0].tls.line, 18);
	cr_assert_str_eq(inst->listener[0].tls.client_ca, cert_file("ca.pem"));
	cr_assert_str_eq(inst->service[0].tls.server_name, "db.example");
	cr_assert_null(inst->service[0].tls.certificate);

	cr_assert_eq(inst->nrules, 1);
	cr_assert_eq(inst->rule[0].prefix_len, 104);
	cr_assert_eq(inst->rule[0].service, CMAN_ANY_SERVICE);
	cr_assert_eq(inst->rule[0].max_idle_s, 1800);
	cr_assert_eq(inst->rule[0].max_sessions, 200);
	cman_conf_free(conf);
}

Test(config, defaults)
{
	struct cman_conf *conf = good("instance a {\n" LISTENER SERVICE
				      "rule r { source = \"10.0.0.0/8\" }\n"
				      "peer p { address = \"10.0.0.2:1\" }\n" CHANNEL "}\n");
	struct cman_instance_conf *inst = &conf->instance[0];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	cr_assert_str_eq(inst->run_dir, CMAN_DEFAULT_RUN_DIR);
	cr_assert_str_eq(inst->log, CMAN_DEFAULT_RUN_DIR "/a.log");
	cr_assert(!strcmp(inst->user, "cman") || !strcmp(inst->user, "nobody"));
	cr_assert_eq(inst->gateways, cpus > CMAN_MAX_GATEWAYS ? CMAN_MAX_GATEWAYS : cpus);
	cr_assert_eq(inst->max_sessions, 9000);
	cr_assert_eq(inst->handover, CMAN_VIA_AUTO);
	cr_assert_eq(inst->handover_timeout_s, 420);
	cr_assert_null(inst->http);
	cr_assert_eq(inst->handover_listen.family, 0);
	cr_assert_eq(inst->log_level, LOG_NOTICE);
	cr_assert_not(inst->standby);
	cr_assert_eq(inst->service[0].balance, CMAN_BALANCE_FIRST);
	cr_assert_eq(inst->service[0].connect_timeout_s, 5);
	cr_assert_eq(inst->service[0].idle_timeout_s, 0);
	cr_assert_eq(inst->service[0].session_timeout_s, 0);
	cr_assert_eq(inst->service[0].when_down, CMAN_DOWN_REFUSE);
	cr_assert_eq(inst->service[0].source.family, 0);
	cr_assert_not(inst->service[0].splice_sockmap);
	cr_assert_str_eq(inst->service[0].group, "");
	cr_assert_eq(inst->rule[0].service, CMAN_ANY_SERVICE);
	cr_assert_eq(inst->rule[0].action, CMAN_ACTION_ACCEPT);
	cr_assert_eq(inst->rule[0].max_idle_s, 0);
	cr_assert_eq(inst->rule[0].max_sessions, 0);
	cr_assert_str_eq(inst->peer[0].peer_name, "p");
	cman_conf_free(conf);
}

Test(config, other_values)
{
	struct cman_conf *conf = good(
		"instance a {\n" LISTENER
		"run_dir = /tmp/x  log = '/tmp/x/l'  user = root  gateways = 64\n"
		"max_sessions = \"1000000\"  handover = repair  handover_timeout = 86400\n"
		"log_level = debug  standby = yes\n"
		"service pg {\n targets = { \"10.0.0.5:1\" }\n targets += { \"10.0.0.6:1\", }\n"
		" balance = leastconn when_down = wait idle_timeout = 60 session_timeout = 3600 }\n"
		"rule r { source = \"::/0\" action = drop service = pg }\n}\n");
	struct cman_instance_conf *inst = &conf->instance[0];

	cr_assert_str_eq(inst->run_dir, "/tmp/x");
	cr_assert_str_eq(inst->log, "/tmp/x/l");
	cr_assert_str_eq(inst->user, "root");
	cr_assert_eq(inst->gateways, 64);
	cr_assert_eq(inst->max_sessions, 1000000);
	cr_assert_eq(inst->handover, CMAN_VIA_REPAIR);
	cr_assert_eq(inst->handover_timeout_s, 86400);
	cr_assert_eq(inst->log_level, LOG_DEBUG);
	cr_assert(inst->standby);
	cr_assert_eq(inst->service[0].ntargets, 2);
	cr_assert_eq(inst->service[0].balance, CMAN_BALANCE_LEASTCONN);
	cr_assert_eq(inst->service[0].when_down, CMAN_DOWN_WAIT);
	cr_assert_eq(inst->service[0].idle_timeout_s, 60);
	cr_assert_eq(inst->service[0].session_timeout_s, 3600);
	cr_assert_eq(inst->rule[0].prefix_len, 0);
	cr_assert_eq(inst->rule[0].service, 0);
	cr_assert_eq(inst->rule[0].action, CMAN_ACTION_DROP);
	cman_conf_free(conf);
}

Test(config, addresses_that_do_not_overlap)
{
	struct cman_conf *conf = good(
		"instance a {\n" SERVICE
		"service six { targets = { \"[2001:db8::5]:5432\" } source = \"2001:db8::1\" }\n"
		"listener v4 { address = \"0.0.0.0:5432\" service = \"pg\" }\n"
		"listener v6 { address = \"[::]:5432\" service = \"six\" }\n"
		"listener r1 { address = \"10.0.0.9:7000-7999\" service = \"pg\" }\n"
		"listener r2 { address = \"10.0.0.9:8000-8999\" service = \"pg\" }\n"
		"listener r3 { address = \"10.0.0.8:7000-7999\" service = \"pg\" }\n"
		"}\n"
		"instance b { listener x { address = \"127.0.0.1:5433\" service = \"pg\" }\n" SERVICE
		"}\n");

	cr_assert_eq(conf->ninstances, 2);
	cr_assert_eq(conf->instance[0].nlisteners, 5);
	cr_assert_eq(conf->instance[0].listener[1].address.family, AF_INET6);
	cr_assert_eq(conf->instance[0].listener[1].service, 1);
	cr_assert_eq(conf->instance[0].listener[2].address.port_last, 7999);
	cr_assert_eq(conf->instance[0].service[1].target[0].family, AF_INET6);
	cr_assert_null(cman_conf_instance(conf, NULL), "two instances: an alias is needed");
	cr_assert_eq(cman_conf_instance(conf, "b"), &conf->instance[1]);
	cman_conf_free(conf);
}

Test(config, rules_are_sorted)
{
	struct cman_conf *conf = good("instance a {\n" LISTENER SERVICE
				      "rule all { source = \"0.0.0.0/0\" }\n"
				      "rule wide { source = \"10.0.0.0/8\" }\n"
				      "rule named { source = \"10.0.0.0/8\" service = pg }\n"
				      "rule host { source = \"10.0.0.1\" }\n}\n");
	static const char *const order[] = { "host", "named", "wide", "all" };
	uint32_t i;

	for (i = 0; i < 4; i++)
		cr_assert_str_eq(conf->instance[0].rule[i].name, order[i]);
	cman_conf_free(conf);
}

Test(config, syntax_that_is_fine)
{
	struct cman_conf *conf;

	setenv("CMAN_TEST_PORT", "7777", 1);
	conf = good("\xef\xbb\xbf# mark of an editor, and lines that end in CR LF\r\n"
		    "instance 'a' { // comment\r\n"
		    "/* two\r\n lines */ listener \"front\"\r\n{\r\n"
		    "address = \"0.0.0.0:${CMAN_TEST_PORT}\" service = ${CMAN_TEST_NONE:-pg}\r\n}"
		    "service pg { targets = \"10.0.0.5:1\" }\r\n" /* a list of one */
		    "run_dir = \"/tmp/a\\\\b \xc3\xa4#//\" }");
	cr_assert_eq(conf->instance[0].listener[0].address.port_first, 7777);
	cr_assert_eq(conf->instance[0].listener[0].line, 5);
	cr_assert_str_eq(conf->instance[0].run_dir, "/tmp/a\\b \xc3\xa4#//");
	cman_conf_free(conf);
}

Test(config, cluster_without_instance)
{
	struct cman_conf *conf = good("cluster c { master = A\n"
				      "machine A { address = \"10.0.0.1:1\" instance = a } }\n");

	cr_assert_eq(conf->ninstances, 0);
	cr_assert_eq(conf->nclusters, 1);
	cr_assert_null(cman_conf_instance(conf, NULL));
	cman_conf_free(conf);
}

Test(config, tls_of_the_handover_channel)
{
	struct cman_conf *conf = good(
		"instance a {\n" LISTENER SERVICE "handover_listen = \"10.0.0.1:7710\"\n" CHANNEL
		"peer b { address = \"10.0.0.2:7710\" }\n"
		"peer c { address = \"[fd00::3]:7710\" name = \"10.0.0.3\" }\n"
		"peer d { address = \"10.0.0.2:7711\" name = \"d.example\" }\n"
		"}\n");

	cr_assert(conf->instance[0].tls.set);
	cr_assert_eq(conf->instance[0].tls.line, 5);
	cr_assert_str_eq(conf->instance[0].tls.ca, cert_file("ca.pem"));
	cr_assert_null(conf->instance[0].tls.warning);
	cr_assert_str_eq(conf->instance[0].peer[1].peer_name, "10.0.0.3");
	cman_conf_free(conf);
}

/* What peers will refuse is no error: the sessions of this host can still be served. */
Test(config, tls_that_peers_will_not_like)
{
	struct cman_conf *conf = good("instance a {\n" LISTENER SERVICE
				      "tls { certificate = \"${CMAN_TEST_DIR}/expired.pem\"\n"
				      "key = \"${CMAN_TEST_DIR}/expired.key\"\n"
				      "ca = \"${CMAN_TEST_DIR}/ca.pem\" }\n}\n");

	cr_assert_not_null(conf->instance[0].tls.warning);
	cr_assert_not_null(strstr(conf->instance[0].tls.warning,
				  "/expired.pem: peers will refuse this certificate: it expired "
				  "on 20"));
	cman_conf_free(conf);
}

static void bad_tls(const char *certificate, const char *key, const char *ca, const char *expected)
{
	char text[800], full[400];
	const char *got;

	snprintf(text, sizeof(text),
		 "instance a {\n" LISTENER SERVICE "tls {\ncertificate = \"%s\"\nkey = \"%s\"\n"
		 "ca = \"%s\" }\n}\n",
		 cert_file(certificate), cert_file(key), cert_file(ca));
	snprintf(full, sizeof(full), expected, cert_file(""));
	got = bad(text, strlen(text));
	cr_expect_str_eq(got, full, "\n  got      %s\n  expected %s", got, full);
}

/* What is wrong about the files is said of the line of the file. */
Test(config, tls_files_that_cannot_be_used)
{
	bad_tls("node.key", "node.key", "ca.pem",
		":5: certificate = %snode.key: no certificate in it: expected a PEM certificate");
	bad_tls("node.pem", "expired.key", "ca.pem",
		":6: key = %sexpired.key: does not belong to the certificate: expected the key that "
		"the certificate was made for");
	bad_tls("node.pem", "node.key", "node.key",
		":7: ca = %snode.key: no certificate in it: expected PEM certificates of CAs");
	cr_assert_eq(chmod(cert_file("node.key"), 0644), 0);
	bad_tls("node.pem", "node.key", "ca.pem",
		":6: key = %snode.key: everybody has access to this private key (mode 0644): "
		"expected mode 0600 or 0640");
}

#define PAIR(name) \
	"certificate = \"${CMAN_TEST_DIR}/" name ".pem\" key = \"${CMAN_TEST_DIR}/" name ".key\"\n"
#define TLS_FRONT(tls) \
	"listener front { address = \"0.0.0.0:5432\"  service = \"pg\"\n" \
	"tls {\n" tls "} }\n"
#define TLS_PG(tls) "service pg { targets = { \"10.0.0.5:5432\" }\ntls {\n" tls "} }\n"

Test(config, tls_of_both_legs)
{
	struct cman_conf *conf = good(
		"instance a {\n" TLS_FRONT(
			PAIR("node") "client_ca = \"${CMAN_TEST_DIR}/ca.pem\"\n"
				     "min_version = \"1.3\" engine = ktls\n"
				     "ciphers = { TLS_CHACHA20_POLY1305_SHA256,\n"
				     "ECDHE-RSA-AES128-GCM-SHA256 } alpn = { h2, \"http/1.1\" }\n"
				     "sni \"DB.example\" { " PAIR(
					     "node") "}\n"
						     "sni \"*.db.example\" { " PAIR("node") "}\n")
			TLS_PG("ca = \"${CMAN_TEST_DIR}/ca.pem\" server_name = \"db.example\"\n" PAIR(
				"node") "engine = user starttls = postgresql\n") "}\n");
	const struct cman_tls_conf *l = &conf->instance[0].listener[0].tls;
	const struct cman_tls_conf *s = &conf->instance[0].service[0].tls;

	cr_assert(l->set);
	cr_assert_eq(l->line, 3);
	cr_assert_str_eq(l->certificate, cert_file("node.pem"));
	cr_assert_str_eq(l->key, cert_file("node.key"));
	cr_assert_str_eq(l->client_ca, cert_file("ca.pem"));
	cr_assert_null(l->ca);
	cr_assert_null(l->warning);
	cr_assert_eq(l->min_version, CMAN_TLS_1_3);
	cr_assert_eq(l->engine, CMAN_TLS_KERNEL);
	cr_assert_eq(l->nsuites, 2);
	cr_assert_eq(l->suites[0], 0x1303);
	cr_assert_eq(l->suites[1], 0xc02f);
	cr_assert_eq(l->alpn_len, 12);
	cr_assert_eq(memcmp(l->alpn, "\2h2\10http/1.1", 12), 0);
	cr_assert_eq(l->nsni, 2);
	cr_assert_str_eq(l->sni[0].name, "DB.example");
	cr_assert_eq(l->sni[0].line, 9);
	cr_assert_str_eq(l->sni[1].name, "*.db.example");
	cr_assert_str_eq(l->sni[1].key, cert_file("node.key"));

	cr_assert(s->set);
	cr_assert_str_eq(s->ca, cert_file("ca.pem"));
	cr_assert_str_eq(s->server_name, "db.example");
	cr_assert_str_eq(s->certificate, cert_file("node.pem"));
	cr_assert(s->verify);
	cr_assert_eq(s->min_version, CMAN_TLS_1_2);
	cr_assert_eq(s->engine, CMAN_TLS_USER);
	cr_assert_eq(s->starttls, CMAN_STARTTLS_POSTGRESQL);
	cr_assert_eq(s->nsuites, 0);
	cr_assert_eq(s->alpn_len, 0);
	cman_conf_free(conf);
}

/* Each leg is TLS or not, whatever the other is; a service needs no files for it. */
Test(config, tls_of_one_leg)
{
	struct cman_conf *conf;

	setenv("SSL_CERT_FILE", cert_file("ca.pem"), 1); /* the system's, for who names no ca */
	conf = good("instance a {\n" TLS_FRONT(PAIR("node")) SERVICE "}\n");

	cr_assert_not(conf->instance[0].service[0].tls.set);
	cr_assert_eq(conf->instance[0].listener[0].tls.min_version, CMAN_TLS_1_2);
	cr_assert_eq(conf->instance[0].listener[0].tls.engine, CMAN_TLS_NONE);
	cman_conf_free(conf);
	conf = good("instance a {\n" LISTENER TLS_PG("verify = no\n") "}\n");
	cr_assert_eq(conf->instance[0].service[0].tls.starttls, CMAN_STARTTLS_AUTO);
	cr_assert_not(conf->instance[0].listener[0].tls.set);
	cr_assert(conf->instance[0].service[0].tls.set);
	cr_assert_not(conf->instance[0].service[0].tls.verify);
	cman_conf_free(conf);
	conf = good("instance a {\n" LISTENER TLS_PG("server_name = \"10.0.0.5\"\n") "}\n");
	cr_assert_str_eq(conf->instance[0].service[0].tls.server_name, "10.0.0.5");
	cman_conf_free(conf);
}

/* Sockmap beside TLS is fine, as long as it is another service. */
Test(config, tls_beside_sockmap)
{
	cman_conf_free(good("instance a {\n" TLS_FRONT(PAIR("node")) SERVICE
			    "listener fast { address = \"0.0.0.0:1\" service = fast }\n"
			    "service fast { targets = { \"10.0.0.5:1\" } splice = sockmap }\n}\n"));
}

Test(config, tls_legs_that_peers_will_not_like)
{
	struct cman_conf *conf = good("instance a {\n" TLS_FRONT(PAIR("node") "sni x { " PAIR(
		"expired") "}\n") TLS_PG("verify = no\n" PAIR("young")) "}\n");
	const struct cman_instance_conf *inst = &conf->instance[0];

	cr_assert_not_null(inst->listener[0].tls.warning);
	cr_assert_not_null(strstr(inst->listener[0].tls.warning,
				  "/expired.pem: peers will refuse this certificate: it expired "
				  "on 20"));
	cr_assert_not_null(inst->service[0].tls.warning);
	cr_assert_not_null(strstr(inst->service[0].tls.warning,
				  "/young.pem: peers will refuse this certificate: it is not valid "
				  "before 20"));
	cman_conf_free(conf);
}

/* @expected: how the error goes on behind the name of the file; "%s" in it is the folder. */
static void bad_leg(const char *text, const char *expected)
{
	char full[400];
	const char *got = bad(text, strlen(text));

	snprintf(full, sizeof(full), expected, cert_file(""));
	cr_expect_str_eq(got, full, "\n  got      %s\n  expected %s", got, full);
}

#define FILES(certificate, key) \
	"certificate = \"${CMAN_TEST_DIR}/" certificate "\"\nkey = \"${CMAN_TEST_DIR}/" key "\"\n"
#define BAD_FRONT(tls, expected) bad_leg("instance a {\n" TLS_FRONT(tls) SERVICE "}\n", expected)
#define BAD_PG(tls, expected)	 bad_leg("instance a {\n" LISTENER TLS_PG(tls) "}\n", expected)

Test(config, tls_files_of_legs_that_cannot_be_used)
{
	cr_assert_eq(chmod(cert_file("node.pem"), 0600), 0);
	BAD_FRONT(FILES("node.key", "node.key"),
		  ":4: certificate = %snode.key: no certificate in it: expected a PEM certificate");
	BAD_FRONT(FILES("node.pem", "ca.key"),
		  ":5: key = %sca.key: does not belong to the certificate: expected the key that "
		  "the certificate was made for");
	BAD_FRONT(FILES("node.pem", "node.pem"),
		  ":5: key = %snode.pem: no private key in it: expected a PEM private key");
	BAD_FRONT(FILES("node.pem", "node.key") "client_ca = \"${CMAN_TEST_DIR}/node.key\"\n",
		  ":6: client_ca = %snode.key: no certificate in it: expected PEM certificates of "
		  "CAs");
	BAD_FRONT(PAIR("node") "sni a { " PAIR("node") "}\nsni b {\n" FILES("node.pem",
									    "ca.key") "}\n",
		  ":9: key = %sca.key: does not belong to the certificate: expected the key that "
		  "the certificate was made for");
	BAD_FRONT(PAIR("node") "sni a {\n" FILES("ca.key", "node.key") "}\n",
		  ":6: certificate = %sca.key: no certificate in it: expected a PEM certificate");
	BAD_PG("verify = no\n" FILES("node.pem", "ca.key"),
	       ":7: key = %sca.key: does not belong to the certificate: expected the key that the "
	       "certificate was made for");
	BAD_PG("verify = no\nca = \"${CMAN_TEST_DIR}/node.key\"\n",
	       ":6: ca = %snode.key: no certificate in it: expected PEM certificates of CAs");
	cr_assert_eq(chmod(cert_file("node.key"), 0644), 0);
	BAD_FRONT(FILES("node.pem", "node.key"),
		  ":5: key = %snode.key: everybody has access to this private key (mode 0644): "
		  "expected mode 0600 or 0640");
	BAD_PG("verify = no\n" FILES("node.pem", "node.key"),
	       ":7: key = %snode.key: everybody has access to this private key (mode 0644): "
	       "expected mode 0600 or 0640");
}

/* As anybody but its owner: cmanctl check, without being root. */
Test(config, tls_key_of_a_leg_that_is_not_ours)
{
	static const char text[] = "instance a {\n" TLS_FRONT(FILES("node.pem", "node.key")) SERVICE
		"}\n";
	char expected[300];

	cr_assert_eq(chmod(cert_file(""), 0755), 0);
	if (geteuid() == 0 && seteuid(65534) < 0)
		cr_skip_test("cannot give up root");
	if (getuid())
		cr_assert_eq(chmod(cert_file("node.key"), 0), 0);
	snprintf(expected, sizeof(expected),
		 ":5: key = \"%s\": Permission denied: expected a file that can be read",
		 cert_file("node.key"));
	cr_assert_str_eq(bad(text, strlen(text)), expected);
	if (getuid() == 0)
		cr_assert_eq(seteuid(0), 0);
}

Test(config, nul_byte)
{
	static const char text[] = "instance a {\n" LISTENER "\0" SERVICE "}\n";

	cr_assert_str_eq(bad(text, sizeof(text) - 1), ":3: a NUL byte: expected a text file");
}

Test(config, too_large)
{
	size_t size = 1024 * 1024 + 1;
	char *text = malloc(size);

	memset(text, '\n', size);
	cr_assert_str_eq(bad(text, size), ": too large: expected at most 1 MiB");
	cr_assert_str_eq(bad(text, size - 1), ": no instance in this file: expected instance NAME "
					      "{ ... }");
	free(text);
}

Test(config, the_file_itself)
{
	struct cman_conf_error error;
	struct cman_conf *conf;
	char path[] = "/tmp/cman-test-conf-XXXXXX", text[200];
	int fd;

	cr_assert_eq(cman_conf_load("/nonexistent/cman.conf", &conf, &error), -ENOENT);
	cr_assert_str_eq(error.text, "/nonexistent/cman.conf: No such file or directory: expected "
				     "a configuration file");
	cr_assert_eq(error.line, 0);
	cr_assert_eq(cman_conf_load("/tmp", &conf, &error), -EINVAL);
	cr_assert_str_eq(error.text, "/tmp: a directory: expected a configuration file");

	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	cr_assert_eq(fchmod(fd, 0), 0);
	if (geteuid() == 0 && seteuid(65534) < 0)
		cr_skip_test("cannot give up root");
	cr_assert_eq(cman_conf_load(path, &conf, &error), -EACCES);
	snprintf(text, sizeof(text), "%s: Permission denied: expected a configuration file", path);
	cr_assert_str_eq(error.text, text);
	if (getuid() == 0)
		cr_assert_eq(seteuid(0), 0);
	unlink(path);
	close(fd);
}

/* Certificate, key and CA in one file. */
static void both_in_one(const char *path)
{
	static const char *const names[] = { "node.pem", "node.key" };
	FILE *f = fopen(path, "w"), *in;
	char text[4096];
	size_t i, n;

	cr_assert(f && !fchmod(fileno(f), 0600));
	for (i = 0; i < 2; i++) {
		in = fopen(cert_file(names[i]), "r");
		cr_assert_not_null(in);
		n = fread(text, 1, sizeof(text), in);
		cr_assert_eq(fwrite(text, 1, n, f), n);
		fclose(in);
	}
	fclose(f);
}

/* Files of tls blocks are looked for beside the configuration; unreadable ones are errors. */
Test(config, files_beside_the_configuration)
{
	char dir[] = "/tmp/cman-test-conf-XXXXXX", path[100], pem[100], expected[300];
	struct cman_conf_error error;
	struct cman_conf *conf;
	FILE *f;

	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(chmod(dir, 0755), 0);
	snprintf(path, sizeof(path), "%s/cman.conf", dir);
	snprintf(pem, sizeof(pem), "%s/node.pem", dir);
	f = fopen(path, "w");
	fputs("instance a {\n" LISTENER SERVICE
	      "tls {\ncertificate = \"node.pem\"\nkey = \"node.pem\" ca = \"node.pem\" }\n}\n",
	      f);
	fclose(f);
	both_in_one(pem);
	cr_assert_eq(cman_conf_load(path, &conf, &error), 0, "%s", error.text);
	cr_assert_str_eq(conf->instance[0].tls.certificate, pem);
	cman_conf_free(conf);

	cr_assert_eq(chmod(pem, 0), 0);
	if (geteuid() == 0)
		cr_assert_eq(seteuid(65534), 0);
	cr_assert_eq(cman_conf_load(path, &conf, &error), -EINVAL);
	snprintf(expected, sizeof(expected),
		 "%s:5: certificate = \"node.pem\": Permission denied: "
		 "expected a file that can be read",
		 path);
	cr_assert_str_eq(error.text, expected);
	cr_assert_eq(error.line, 5);
	if (getuid() == 0)
		cr_assert_eq(seteuid(0), 0);
	unlink(pem);
	unlink(path);
	rmdir(dir);
}

Test(config, long_path_keeps_the_reason)
{
	struct cman_conf_error error;
	char path[600];

	memset(path, 'p', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	cman_conf_error(&error, path, 7, "%s", "the reason");
	cr_assert_eq(strncmp(error.text, "...ppp", 6), 0);
	cr_assert_not_null(strstr(error.text, "pp:7: the reason"));
	cr_assert_eq(error.line, 7);
}

/* Many blocks: limits are errors, not crashes. */
static char *many(const char *format, uint32_t n)
{
	size_t size = n * 100 + 1000;
	char *text = malloc(size), *p = text;
	uint32_t i;

	p += sprintf(p, "instance a {\n" LISTENER SERVICE "%s",
		     strncmp(format, "peer", 4) ? "" : CHANNEL);
	for (i = 0; i < n; i++)
		p += sprintf(p, format, i, i / 250, i % 250);
	strcpy(p, "}\n");
	return text;
}

static void limit(const char *format, uint32_t most, const char *expected)
{
	char *text = many(format, most);
	const char *got;

	cman_conf_free(good(text));
	free(text);
	text = many(format, most + 1);
	got = bad(text, strlen(text));
	cr_assert_str_eq(got, expected);
	free(text);
}

Test(config, limits)
{
	limit("listener l%u { address = \"10.0.%u.%u:80\" service = pg }\n", CMAN_MAX_LISTENERS - 1,
	      ":131: listener 'l127' is one too many: expected at most 128 in an instance");
	limit("service s%u { targets = { \"10.0.%u.%u:80\" } }\n", CMAN_MAX_SERVICES - 1,
	      ":131: service 's127' is one too many: expected at most 128 in an instance");
	limit("rule r%u { source = \"10.0.%u.%u\" }\n", CMAN_MAX_RULES,
	      ":1028: rule 'r1024' is one too many: expected at most 1024 in an instance");
	limit("floating f%u { address = \"10.0.%u.%u/24\" interface = eth0 }\n", CMAN_MAX_FLOATING,
	      ":132: floating 'f128' is one too many: expected at most 128 in an instance");
	/* one more line each: a peer needs a tls block */
	limit("peer p%u { address = \"10.1.%u.%u:1\" }\n", CMAN_MAX_PEERS,
	      ":69: peer 'p64' is one too many: expected at most 64 in an instance");
}

Test(config, limit_of_sni)
{
	char text[CMAN_MAX_SNI * 200], *p = text;
	uint32_t i;

	p += sprintf(p, "instance a {\n" SERVICE "listener front { address = \"0.0.0.0:1\" "
			"service = pg\ntls { " PAIR("node"));
	for (i = 0; i < CMAN_MAX_SNI; i++)
		p += sprintf(p, "sni s%u { " PAIR("node") "}\n", i);
	strcpy(p, "} } }\n");
	cman_conf_free(good(text));
	sprintf(p, "sni s%u { " PAIR("node") "}\n} } }\n", i);
	cr_assert_str_eq(bad(text, strlen(text)),
			 ":133: sni 's64' is one too many: expected at most 64 in a tls block");
}

Test(config, length_of_sni)
{
	static const char form[] = "instance a {\n" TLS_FRONT(
		PAIR("node") "sni \"*.%s\" { " PAIR("node") "}\n") SERVICE "}\n";
	char name[253] = "", text[1200];
	struct cman_conf *conf;

	memset(name, 'n', 251);
	snprintf(text, sizeof(text), form, name);
	conf = good(text);
	cr_assert_eq(strlen(conf->instance[0].listener[0].tls.sni[0].name), 253);
	cman_conf_free(conf);
	name[251] = 'n';
	snprintf(text, sizeof(text), form, name);
	cr_assert_str_eq(
		bad(text, strlen(text)),
		":5: sni '*.nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn...': "
		"expected a host name such as db.example, or \"*.example\" for those "
		"with one label more");
}

#define SAME "gateways = 2 run_dir = /tmp/a user = root\n"
#define FLOATING(name, address, interface) \
	"floating " name " { address = \"" address "\" interface = " interface " }\n"

#define TLS_SECOND(listener_tls, service_tls) \
	"listener second { address = \"0.0.0.0:1\" service = two tls { " listener_tls " } }\n" \
	"service two { targets = { \"10.0.0.5:1\" } tls { " service_tls " } }\n"

static void plan_from(const char *was, const char *line, uint32_t slots, const char *expected)
{
	struct cman_conf_error error = { .text = "" };
	struct cman_conf *running, *next;
	char text[1000];
	int r;

	snprintf(text, sizeof(text), "instance a {\n" LISTENER SERVICE "%s\n}\n", was);
	running = good(text);

	snprintf(text, sizeof(text), "# moved down\ninstance a {\n" LISTENER SERVICE "%s\n}\n",
		 line);
	next = good(text);
	r = cman_config_plan(&running->instance[0], &next->instance[0], slots, &error);
	cr_assert_eq(r, expected ? -EINVAL : 0, "%s: %s", line, error.text);
	if (expected) {
		cr_assert_str_eq(error.text, expected);
		cr_assert_eq(error.line, 2);
	}
	cman_conf_free(running);
	cman_conf_free(next);
}

static void plan(const char *line, uint32_t slots, const char *expected)
{
	plan_from(SAME, line, slots, expected);
}

static void floating_changes(const char *to)
{
	plan_from(SAME FLOATING("f", "10.0.0.8/24", "eth0"), to, 9000,
		  "the floating addresses cannot change in a running instance: expected a restart "
		  "or a migration (cmanctl startup --migrate)");
}

Test(config, plan_of_a_reload)
{
	plan("gateways = 2 run_dir = /tmp/a user = root max_sessions = 100 log_level = debug", 9000,
	     NULL);
	plan("gateways = 2 run_dir = /tmp/a user = root max_sessions = 9000", 9000, NULL);
	plan("gateways = 2 run_dir = /tmp/a user = root max_sessions = 9001", 9000,
	     "max_sessions, to 9001, is above the 9000 that this instance has room for: expected a "
	     "restart or a migration (cmanctl startup --migrate)");
	plan("gateways = 3 run_dir = /tmp/a user = root", 9000,
	     "gateways, from 2 to 3, cannot change in a running instance: expected a restart or a "
	     "migration (cmanctl startup --migrate)");
	plan("gateways = 2 run_dir = /tmp/b user = root", 9000,
	     "run_dir, from /tmp/a to /tmp/b, cannot change in a running instance: expected a "
	     "restart or a migration (cmanctl startup --migrate)");
	plan("gateways = 2 run_dir = /tmp/a user = nobody", 9000,
	     "user, from root to nobody, cannot change in a running instance: expected a restart "
	     "or a migration (cmanctl startup --migrate)");
	/* the channel: whom it knows may change, where it listens may not */
	plan(SAME CHANNEL "peer b { address = \"10.0.0.2:1\" }\n", 9000, NULL);
	plan(SAME CHANNEL "handover_listen = \"10.0.0.1:7710\"", 9000,
	     "handover_listen cannot change in a running instance: expected a restart or a "
	     "migration (cmanctl startup --migrate)");
	plan_from(SAME CHANNEL "handover_listen = \"10.0.0.1:7710\"",
		  SAME CHANNEL "handover_listen = \"10.0.0.1:7711\"", 9000,
		  "handover_listen cannot change in a running instance: expected a restart or a "
		  "migration (cmanctl startup --migrate)");
	plan_from(SAME CHANNEL "handover_listen = \"10.0.0.1:7710\" peer b { address = "
			       "\"10.0.0.2:1\" }",
		  SAME CHANNEL "handover_listen = \"10.0.0.1:7710\" peer b { address = "
			       "\"10.0.0.3:1\" name = x }",
		  9000, NULL);
	/* TLS of the legs: comes, changes and goes */
	plan_from(SAME, SAME TLS_SECOND(PAIR("node"), "verify = no"), 9000, NULL);
	plan_from(SAME TLS_SECOND(PAIR("node"), "verify = no"),
		  SAME TLS_SECOND(PAIR("expired") "min_version = \"1.3\"", "server_name = x"), 9000,
		  NULL);
	plan_from(SAME TLS_SECOND(PAIR("node"), "verify = no"), SAME, 9000, NULL);
	plan_from(SAME FLOATING("f", "10.0.0.8/24", "eth0") FLOATING("g", "fd00::8/64", "eth0"),
		  SAME FLOATING("g", "fd00::8/64", "eth0") FLOATING("f", "10.0.0.8/24", "eth0"),
		  9000, NULL);
	floating_changes(SAME);
	floating_changes(SAME FLOATING("f", "10.0.0.8/24", "eth0")
				 FLOATING("g", "fd00::8/64", "eth0"));
	floating_changes(SAME FLOATING("f", "10.0.0.9/24", "eth0"));
	floating_changes(SAME FLOATING("f", "10.0.0.8/25", "eth0"));
	floating_changes(SAME FLOATING("f", "10.0.0.8/24", "eth1"));
	floating_changes(SAME FLOATING("g", "10.0.0.8/24", "eth0"));
}

/* cman_conf_validate() words what the loader words, with the line of the block. */
Test(config, validate_alone)
{
	struct cman_conf *conf = good("instance a {\n" LISTENER SERVICE "}\n");
	struct cman_conf_error error;

	cr_assert_eq(cman_conf_validate(conf, &error), 0);
	strcpy(conf->instance[0].listener[0].service_name, "gone");
	free(conf->file);
	conf->file = strdup("x.conf");
	cr_assert_eq(cman_conf_validate(conf, &error), -EINVAL);
	cr_assert_str_eq(error.text, "x.conf:2: listener 'front': unknown service 'gone': expected "
				     "one of this instance (pg)");
	cman_conf_free(conf);
	cman_conf_free(NULL);
}
