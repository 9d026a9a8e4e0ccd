/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Broken configurations and what is said about each: the text behind the name of the file, to the
 * letter. Included by test_config.c. A new check gets a line here; a better wording changes
 * one. Texts are read by people at night: each says what is wrong and what was expected.
 */
#ifndef CMAN_BROKEN_CONFIGS_H
#define CMAN_BROKEN_CONFIGS_H

struct broken_config {
	const char *name;
	const char *text;
	const char *expected;
};

static const struct broken_config broken_configs[] = {
	{ "unknown key",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gatewys = 2\n"
	  "}\n",
	  ":4: unknown key 'gatewys' in instance 'a': expected one of gateways, user, http, "
	  "standby, run_dir, log, log_level, handover, max_sessions, handover_listen, "
	  "handover_timeout" },
	{ "unknown key behind comments",
	  "# one\n"
	  "/* two\n"
	  " three */\n"
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "// four\n"
	  "max_session = 2\n"
	  "}\n",
	  ":8: unknown key 'max_session' in instance 'a': expected one of max_sessions, run_dir, "
	  "user, log_level, gateways, log, handover, standby, handover_listen, http, "
	  "handover_timeout" },
	{ "unknown key in a service",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "balanced = \"first\"\n"
	  "}\n"
	  "}\n",
	  ":5: unknown key 'balanced' in service 'pg': expected one of balance, splice, source, "
	  "targets, group, when_down, idle_timeout, connect_timeout, session_timeout" },
	{ "unknown key in tls",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls {\n"
	  "cert = \"x\"\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: unknown key 'cert' in tls: expected one of key, ciphers, alpn, client_ca, engine, "
	  "certificate, min_version" },
	{ "unknown block",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "listner b { }\n"
	  "}\n",
	  ":4: unknown block 'listner' in instance 'a': expected one of listener, peer, rule, "
	  "floating, tls, service" },
	{ "unknown block without a name",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "http {\n"
	  "}\n"
	  "}\n",
	  ":4: '=' is missing behind 'http': expected http = VALUE" },
	{ "unknown block in a block",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "targets2 {\n"
	  "}\n"
	  "}\n"
	  "}\n",
	  ":5: unknown block 'targets2' in service 'pg': expected one of tls" },
	{ "unknown top-level block",
	  "instances a {\n"
	  "}\n",
	  ":1: unknown block 'instances': expected one of instance, cluster" },
	{ "unknown top-level key",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "gateways = 2\n",
	  ":5: 'gateways' outside of a block: expected it within one of instance, cluster" },
	{ "trailing garbage",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "\n"
	  "garbage\n",
	  ":6: 'garbage' outside of a block: expected it within one of instance, cluster" },
	{ "key that reaches into a block",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "service=pg|balance = \"first\"\n"
	  "}\n",
	  ":4: unexpected character '|': a value with such characters goes between double quotes" },
	{ "path of a key",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "instance|gateways = 2\n",
	  ":5: unexpected character '|': a value with such characters goes between double quotes" },
	{ "quoted key",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "\"gateways\" = 2\n"
	  "}\n",
	  ":4: key 'gateways' is quoted: expected it without quotes" },
	{ "quoted block",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "\"rule\" x { }\n"
	  "}\n",
	  ":4: the block 'rule' is quoted: expected its kind without quotes" },
	{ "duplicate title",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":4: the name 'pg' is given to two blocks of one kind: expected names that differ" },
	{ "duplicate instance",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: the name 'a' is given to two blocks of one kind: expected names that differ" },
	{ "duplicate key",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = 1\n"
	  "# comment\n"
	  "gateways = 2\n"
	  "}\n",
	  ":6: key 'gateways' is given twice: expected it once in a block" },
	{ "duplicate list",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "}\n"
	  "}\n",
	  ":5: key 'targets' is given twice: expected it once in a block" },
	{ "two tls blocks",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"MISSING\" }\n"
	  "tls { }\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":4: certificate = \"MISSING\": No such file or directory: expected a file that can be "
	  "read" },
	{ "missing title",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule {\n"
	  "}\n"
	  "}\n",
	  ":4: block 'rule' has no name: expected rule NAME {" },
	{ "missing opening brace",
	  "instance a\n"
	  "gateways = 2\n",
	  ":1: '=' or '{' is missing behind 'instance a': expected KEY = VALUE or BLOCK NAME {" },
	{ "missing closing brace",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n",
	  ":1: instance 'a' is not closed: expected '}' before the end of the file" },
	{ "missing closing brace of an inner block",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"\n"
	  " service = \"pg\"\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":4: block 'service' within listener 'front': expected the '}' of listener 'front', "
	  "line 2, before it" },
	{ "brace too many",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "}\n",
	  ":5: '}' closes no block: expected as many '{' before it" },
	{ "missing closing quote",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: the closing quote is missing: expected \" before the end of the line" },
	{ "missing opening quote",
	  "instance a {\n"
	  "listener front {\n"
	  "address = 0.0.0.0:1\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: the closing quote is missing: expected \" before the end of the line" },
	{ "missing closing single quote",
	  "instance a {\n"
	  "listener front {\n"
	  "address = '0.0.0.0:1\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: the closing quote is missing: expected ' before the end of the line" },
	{ "missing equal sign",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways 2\n"
	  "}\n",
	  ":4: '=' or '{' is missing behind 'gateways 2': expected KEY = VALUE or BLOCK NAME {" },
	{ "missing value",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways =\n"
	  "max_sessions = 5\n"
	  "}\n",
	  ":4: 'gateways' has no value: expected one behind '='" },
	{ "missing value before a brace",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = \n"
	  "}\n",
	  ":4: 'gateways' has no value: expected one behind '='" },
	{ "key without anything",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways\n"
	  "}\n",
	  ":4: '=' or '{' is missing behind 'gateways': expected KEY = VALUE or BLOCK NAME {" },
	{ "missing comma",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:1\"\n"
	  "\"10.0.0.6:1\" }\n"
	  "}\n"
	  "}\n",
	  ":5: expected ',' or '}' before '10.0.0.6:1' in the list 'targets' of line 4" },
	{ "double comma",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:1\",\n"
	  "\n"
	  ", \"10.0.0.6:1\" }\n"
	  "}\n"
	  "}\n",
	  ":6: unexpected ',' in the list 'targets': expected a value" },
	{ "list not closed",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:1\"\n"
	  "balance = \"first\"\n"
	  "}\n"
	  "}\n",
	  ":5: expected ',' or '}' before 'balance' in the list 'targets' of line 4" },
	{ "list not closed before a key",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:1\",\n"
	  "balance = \"first\"\n"
	  "}\n"
	  "}\n",
	  ":4: the list 'targets' is not closed: expected '}' at its end" },
	{ "list for one value",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = { 2 }\n"
	  "}\n",
	  ":4: a list for a key that has one value: expected KEY = VALUE" },
	{ "append to one value",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways += 2\n"
	  "}\n",
	  ":4: '+=' is for lists, 'gateways' has one value: expected '='" },
	{ "block written as a key",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule = \"x\"\n"
	  "}\n",
	  ":4: block 'rule' has no name: expected rule NAME {" },
	{ "comment not closed",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "/* no end\n"
	  "\n"
	  "}\n",
	  ":4: the comment is not closed: expected */" },
	{ "odd character",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = 2;\n"
	  "}\n",
	  ":4: unexpected character ';': a value with such characters goes between double quotes" },
	{ "bare star",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule r { source = 10.0.0.0/8\n"
	  "service = * }\n"
	  "}\n",
	  ":5: unexpected character '*': a value with such characters goes between double quotes" },
	{ "unknown escape",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "run_dir = \"/tmp\\x00\"\n"
	  "}\n",
	  ":4: unknown escape '\\x': expected \\\\ or \\\" only" },
	{ "variable not closed",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "run_dir = \"${HOME\"\n"
	  "}\n",
	  ":4: '}' is missing behind '${': expected ${VARIABLE}" },
	{ "control character",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "run_dir = \"/tmp\001\"\n"
	  "}\n",
	  ":4: unexpected byte 0x01: expected plain text" },
	{ "value on the next line of another",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways\n"
	  "max_sessions = 5\n"
	  "}\n",
	  ":4: '=' or '{' is missing behind 'gateways': expected KEY = VALUE or BLOCK NAME {" },
	{ "equal sign without key",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "= 5\n"
	  "}\n",
	  ":4: unexpected '=': expected KEY = VALUE" },
	{ "two values",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = 2 3\n"
	  "}\n",
	  ":4: '=' or '{' is missing behind '3': expected KEY = VALUE or BLOCK NAME {" },
	{ "two equal signs",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = 2 = 3\n"
	  "}\n",
	  ":4: unexpected '=': expected KEY = VALUE" },
	{ "brace without name",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "{ }\n"
	  "}\n",
	  ":4: '{' without a block's name before it: expected BLOCK NAME { or KEY = {" },
	{ "block in a wrong block",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "listener x { }\n"
	  "}\n",
	  ":7: unknown block 'listener' in cluster 'c': expected one of machine, route, tls, "
	  "group" },
	{ "not UTF-8 nor ASCII outside of strings",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = \302\2402\n"
	  "}\n",
	  ":4: unexpected byte 0xc2: expected plain text" },
	{ "empty file", "", ": no instance in this file: expected instance NAME { ... }" },
	{ "comments only", "# nothing\n",
	  ": no instance in this file: expected instance NAME { ... }" },
	{ "word for a number",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = \"two\"\n"
	  "}\n",
	  ":4: gateways = \"two\": expected a number from 1 to 64" },
	{ "number with a unit",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "handover_timeout = 7m\n"
	  "}\n",
	  ":4: handover_timeout = \"7m\": expected a number of seconds from 1 to 86400" },
	{ "negative number",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "max_sessions = -1\n"
	  "}\n",
	  ":4: max_sessions = \"-1\": expected a number from 1 to 1000000" },
	{ "number too large",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "max_sessions = 1000001\n"
	  "}\n",
	  ":4: max_sessions = \"1000001\": expected a number from 1 to 1000000" },
	{ "number beyond 64 bits",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "max_sessions = 99999999999999999999999\n"
	  "}\n",
	  ":4: max_sessions = \"99999999999999999999999\": expected a number from 1 to 1000000" },
	{ "gateways 0",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = 0\n"
	  "}\n",
	  ":4: gateways = \"0\": expected a number from 1 to 64" },
	{ "gateways 65",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = 65\n"
	  "}\n",
	  ":4: gateways = \"65\": expected a number from 1 to 64" },
	{ "hexadecimal",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = 0x2\n"
	  "}\n",
	  ":4: gateways = \"0x2\": expected a number from 1 to 64" },
	{ "fraction",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "gateways = 1.5\n"
	  "}\n",
	  ":4: gateways = \"1.5\": expected a number from 1 to 64" },
	{ "not a boolean",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "standby = maybe\n"
	  "}\n",
	  ":4: standby = \"maybe\": expected true or false" },
	{ "unknown word for handover",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "handover = \"splice\"\n"
	  "}\n",
	  ":4: handover = \"splice\": expected auto, fd or repair" },
	{ "unknown word for balance",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "balance = \"random\"\n"
	  "}\n"
	  "}\n",
	  ":5: balance = \"random\": expected first, roundrobin or leastconn" },
	{ "unknown word for when_down",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "when_down = \"retry\"\n"
	  "}\n"
	  "}\n",
	  ":5: when_down = \"retry\": expected refuse or wait" },
	{ "unknown word for splice",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "splice = \"kernel\"\n"
	  "}\n"
	  "}\n",
	  ":5: splice = \"kernel\": expected user or sockmap" },
	{ "unknown word for action",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule r {\n"
	  "source = \"10.0.0.0/8\"\n"
	  "action = \"deny\"\n"
	  "}\n"
	  "}\n",
	  ":6: action = \"deny\": expected accept, reject or drop" },
	{ "unknown log level",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "log_level = \"verbose\"\n"
	  "}\n",
	  ":4: log_level = \"verbose\": expected emerg, alert, crit, err, warning, notice, info "
	  "or debug" },
	{ "relative run_dir",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "run_dir = \"run\"\n"
	  "}\n",
	  ":4: run_dir = \"run\": expected an absolute path, one that begins with '/'" },
	{ "run_dir too long",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "run_dir = "
	  "\"/rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr"
	  "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\"\n"
	  "}\n",
	  ":4: instance 'a': run_dir is too long for Unix sockets in it: expected at most 88 "
	  "characters" },
	{ "unknown user",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "user = \"no-such-user-1\"\n"
	  "}\n",
	  ":4: user = \"no-such-user-1\": no such user: expected a user of this system" },
	{ "relative log",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "log = \"cman.log\"\n"
	  "}\n",
	  ":4: log = \"cman.log\": expected an absolute path, one that begins with '/'" },
	{ "listener without port",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"0.0.0.0\": the port is missing: expected ADDRESS:PORT such as "
	  "10.0.0.5:5432 or [::1]:5432" },
	{ "host name",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"localhost:80\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"localhost:80\": expected a numeric IPv4 or IPv6 address (names are "
	  "not looked up)" },
	{ "star as an address",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"*:80\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"*:80\": '*' is no address: expected 0.0.0.0 or [::] for every address" },
	{ "IPv6 without brackets",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"::1:80\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"::1:80\": an IPv6 address goes between brackets: expected "
	  "[ADDRESS]:PORT such as [::1]:5432" },
	{ "IPv4 in brackets",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"[10.0.0.1]:80\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"[10.0.0.1]:80\": brackets are for IPv6 addresses: expected "
	  "10.0.0.5:5432" },
	{ "bracket not closed",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"[::1:80\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"[::1:80\": ']' is missing: expected [ADDRESS]:PORT" },
	{ "v4-mapped",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"[::ffff:10.0.0.1]:80\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"[::ffff:10.0.0.1]:80\": an IPv4 address in IPv6 form: expected it as "
	  "10.0.0.5" },
	{ "port 0",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:0\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"0.0.0.0:0\": port 0 is not a port: expected a number from 1 to 65535" },
	{ "port too large",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:65536\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"0.0.0.0:65536\": bad port: expected a number from 1 to 65535" },
	{ "port not a number",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:http\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"0.0.0.0:http\": bad port: expected a number from 1 to 65535" },
	{ "text behind the port",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:80 \"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"0.0.0.0:80 \": text after the port: expected ADDRESS:PORT and nothing "
	  "more" },
	{ "reversed range",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:90-80\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"0.0.0.0:90-80\": the port range is reversed: expected FIRST-LAST" },
	{ "half a range",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:90-\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"0.0.0.0:90-\": bad port range: expected FIRST-LAST of 1 to 65535" },
	{ "multicast listener",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"224.0.0.1:80\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: address = \"224.0.0.1:80\": a multicast or broadcast address: expected one of a "
	  "single host" },
	{ "target with a range",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:1-2\" }\n"
	  "}\n"
	  "}\n",
	  ":4: targets = \"10.0.0.5:1-2\": a range of ports is not allowed here: expected one "
	  "port" },
	{ "wildcard target",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = {\n"
	  "\"10.0.0.5:1\",\n"
	  "\"0.0.0.0:1\"\n"
	  "}\n"
	  "}\n"
	  "}\n",
	  ":6: targets = \"0.0.0.0:1\": the wildcard address: expected the address of one host" },
	{ "bad address in a list",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:1\", # good\n"
	  "\"10.0.0.500:1\" }\n"
	  "}\n"
	  "}\n",
	  ":5: targets = \"10.0.0.500:1\": expected a numeric IPv4 or IPv6 address (names are "
	  "not looked up)" },
	{ "no targets",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "balance = \"first\"\n"
	  "}\n"
	  "}\n",
	  ":3: service 'pg' has no 'targets': expected it in the block" },
	{ "empty targets",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { }\n"
	  "}\n"
	  "}\n",
	  ":4: the list 'targets' is empty: expected at least one value" },
	{ "17 targets",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = {\n"
	  "\"10.0.0.1:1\",\n"
	  "\"10.0.0.2:1\",\n"
	  "\"10.0.0.3:1\",\n"
	  "\"10.0.0.4:1\",\n"
	  "\"10.0.0.5:1\",\n"
	  "\"10.0.0.6:1\",\n"
	  "\"10.0.0.7:1\",\n"
	  "\"10.0.0.8:1\",\n"
	  "\"10.0.0.9:1\",\n"
	  "\"10.0.0.10:1\",\n"
	  "\"10.0.0.11:1\",\n"
	  "\"10.0.0.12:1\",\n"
	  "\"10.0.0.13:1\",\n"
	  "\"10.0.0.14:1\",\n"
	  "\"10.0.0.15:1\",\n"
	  "\"10.0.0.16:1\",\n"
	  "\"10.0.0.17:1\",\n"
	  "}\n"
	  "}\n"
	  "}\n",
	  ":21: 'targets' has more than 16 values: expected 1 to 16" },
	{ "source with port",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "source = \"10.0.0.1:80\"\n"
	  "}\n"
	  "}\n",
	  ":5: source = \"10.0.0.1:80\": a port is not allowed here: expected the address alone" },
	{ "source of another family",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "source = \"fe80::1\"\n"
	  "}\n"
	  "}\n",
	  ":5: service 'pg': source is an IPv6 address but target 10.0.0.5:5432 is not: expected "
	  "one family" },
	{ "wildcard source",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "source = \"0.0.0.0\"\n"
	  "}\n"
	  "}\n",
	  ":5: source = \"0.0.0.0\": the wildcard address: expected the address of one host" },
	{ "http without port",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "http = \"127.0.0.1\"\n"
	  "}\n",
	  ":4: http = \"127.0.0.1\": the port is missing: expected ADDRESS:PORT such as "
	  "10.0.0.5:5432 or [::1]:5432" },
	{ "peer with a wildcard",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "peer p { address = \"0.0.0.0:1\" }\n"
	  "}\n",
	  ":4: address = \"0.0.0.0:1\": the wildcard address: expected the address of one host" },
	{ "peer with the name of a domain",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "peer p { address = \"10.0.0.2:1\"\n"
	  "name = \".example\" }\n"
	  "}\n",
	  ":5: name = \".example\": expected the name of one host, such as siteb.example, or an IP "
	  "address" },
	{ "peer with a name that has a star",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "peer p { address = \"10.0.0.2:1\" name = \"*.example\" }\n"
	  "}\n",
	  ":4: name = \"*.example\": expected the name of one host, such as siteb.example, or an "
	  "IP address" },
	{ "peer with an empty name",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "peer p { address = \"10.0.0.2:1\" name = \"\" }\n"
	  "}\n",
	  ":4: name = \"\": expected a name of 1 to 253 characters, as in the peer's certificate" },
	{ "peer without a port",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "peer p { address = \"10.0.0.2\" }\n"
	  "}\n",
	  ":4: address = \"10.0.0.2\": the port is missing: expected ADDRESS:PORT such as "
	  "10.0.0.5:5432 or [::1]:5432" },
	{ "peer without tls",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "peer p { address = \"10.0.0.2:1\" }\n"
	  "}\n",
	  ":4: peer 'p' in an instance without a tls block: expected tls { certificate = ... key = "
	  "... ca = ... } in the instance: both sides have to prove who they are" },
	{ "handover_listen without tls",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "handover_listen = \"10.0.0.1:7710\"\n"
	  "}\n",
	  ":4: instance 'a' has handover_listen and no tls block: expected tls { certificate = ... "
	  "key = ... ca = ... } in the instance: both sides have to prove who they are" },
	{ "handover_listen without a port",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "handover_listen = \"10.0.0.1\"\n"
	  "}\n",
	  ":4: handover_listen = \"10.0.0.1\": the port is missing: expected ADDRESS:PORT such as "
	  "10.0.0.5:5432 or [::1]:5432" },
	{ "two peers at one address",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\" ca = \"/proc/version\" }\n"
	  "peer p { address = \"10.0.0.2:1\" }\n"
	  "peer q {\n"
	  "address = \"10.0.0.2:1\" }\n"
	  "}\n",
	  ":7: peer 'q' has the address of peer 'p' of line 5: expected one block for each peer" },
	{ "two peers with one name",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\" ca = \"/proc/version\" }\n"
	  "peer p { address = \"10.0.0.2:1\" }\n"
	  "peer q { address = \"10.0.0.3:1\"\n"
	  "name = \"P\" }\n"
	  "}\n",
	  ":7: peer 'q' has the certificate's name of peer 'p' of line 5: expected names that tell "
	  "them apart" },
	{ "peer twice",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "peer p { address = \"10.0.0.2:1\" }\n"
	  "peer p { address = \"10.0.0.3:1\" }\n"
	  "}\n",
	  ":5: the name 'p' is given to two blocks of one kind: expected names that differ" },
	{ "tls without a certificate in the file",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "tls {\n"
	  "key = \"/proc/version\" ca = \"/proc/version\"\n"
	  "certificate = \"/proc/version\" }\n"
	  "}\n",
	  ":6: certificate = /proc/version: no certificate in it: expected a PEM certificate" },
	{ "floating on the loopback",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "floating f { address = \"127.0.0.9/8\" interface = \"lo\" }\n"
	  "}\n",
	  ":4: address = \"127.0.0.9/8\": a loopback address, which every host has: expected one "
	  "that can move" },
	{ "floating on the loopback of IPv6",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "floating f { address = \"::1/128\" interface = \"lo\" }\n"
	  "}\n",
	  ":4: address = \"::1/128\": a loopback address, which every host has: expected one that "
	  "can move" },
	{ "floating with an alias of an interface",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "floating f { address = \"10.0.0.9/24\" interface = \"eth0:1\" }\n"
	  "}\n",
	  ":4: interface = \"eth0:1\": expected the name of a network interface, 1 to 15 "
	  "characters such as eth0" },
	{ "floating with a prefix of nothing",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "floating f { address = \"fd00::1/0\" interface = \"eth0\" }\n"
	  "}\n",
	  ":4: address = \"fd00::1/0\": bad prefix length: expected /1 to /128" },
	{ "floating without length",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "floating f {\n"
	  "address = \"10.0.0.1\"\n"
	  "interface = \"eth0\"\n"
	  "}\n"
	  "}\n",
	  ":5: address = \"10.0.0.1\": expected ADDRESS/LENGTH such as 10.0.0.100/24" },
	{ "floating length",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "floating f {\n"
	  "address = \"10.0.0.1/33\"\n"
	  "interface = \"eth0\"\n"
	  "}\n"
	  "}\n",
	  ":5: address = \"10.0.0.1/33\": bad prefix length: expected /1 to /32" },
	{ "interface too long",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "floating f {\n"
	  "address = \"10.0.0.1/24\"\n"
	  "interface = \"abcdefghijklmnop\"\n"
	  "}\n"
	  "}\n",
	  ":6: interface = \"abcdefghijklmnop\": expected the name of a network interface, 1 to "
	  "15 characters such as eth0" },
	{ "floating twice",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "floating f { address = \"10.0.0.1/24\" interface = \"eth0\" }\n"
	  "floating g {\n"
	  "address = \"10.0.0.1/16\" interface = \"eth1\" }\n"
	  "}\n",
	  ":6: floating 'g' has the address of floating 'f' of line 4: expected one block for "
	  "each address" },
	{ "host bits",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule r { source = \"10.0.0.1/8\" }\n"
	  "}\n",
	  ":4: source = \"10.0.0.1/8\": bits are set behind the prefix: expected the network's "
	  "own address such as 10.0.0.0/8" },
	{ "prefix too long",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule r { source = \"10.0.0.0/33\" }\n"
	  "}\n",
	  ":4: source = \"10.0.0.0/33\": bad prefix length: expected /0 to /32" },
	{ "prefix not a number",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule r { source = \"10.0.0.0/x\" }\n"
	  "}\n",
	  ":4: source = \"10.0.0.0/x\": bad prefix length: expected /0 to /32" },
	{ "rule without source",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "\n"
	  "rule r {\n"
	  "action = \"drop\"\n"
	  "}\n"
	  "}\n",
	  ":5: rule 'r' has no 'source': expected it in the block" },
	{ "rule for an unknown service",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule r {\n"
	  "source = \"10.0.0.0/8\"\n"
	  "service = \"www\"\n"
	  "}\n"
	  "}\n",
	  ":6: rule 'r': unknown service 'www': expected \"*\" or one of this instance (pg)" },
	{ "equal rules",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule r { source = \"10.0.0.0/8\" }\n"
	  "rule s { source = \"11.0.0.0/8\" }\n"
	  "rule t {\n"
	  "\n"
	  "source = \"10.0.0.0/8\" service = \"*\" }\n"
	  "}\n",
	  ":8: rule 't' has the same source and service as rule 'r' of line 4: expected one rule "
	  "for both" },
	{ "equal rules, another spelling",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule r { source = \"::1\" service = \"pg\" }\n"
	  "rule s { source = \"0:0::1/128\" service = \"pg\" }\n"
	  "}\n",
	  ":5: rule 's' has the same source and service as rule 'r' of line 4: expected one rule "
	  "for both" },
	{ "name with a blank",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule \"a b\" { source = \"::/0\" }\n"
	  "}\n",
	  ":4: rule 'a b': odd characters in the name: expected letters, digits, '_', '.' and '-'" },
	{ "empty name",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule \"\" { source = \"::/0\" }\n"
	  "}\n",
	  ":4: rule '': an empty name: expected 1 to 31 of letters, digits, '_', '.' and '-'" },
	{ "name with a slash",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule ../x { source = \"::/0\" }\n"
	  "}\n",
	  ":4: rule '../x': odd characters in the name: expected letters, digits, '_', '.' and "
	  "'-'" },
	{ "name begins with a dot",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule .x { source = \"::/0\" }\n"
	  "}\n",
	  ":4: rule '.x': the name begins with '.' or '-': expected a letter, a digit or '_' "
	  "first" },
	{ "name too long",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "rule rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr { source = \"::/0\" }\n"
	  "}\n",
	  ":4: rule 'rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr': the name is too long: expected at most "
	  "31 characters" },
	{ "alias too long",
	  "instance iiiiiiiiiiiiiiiiiiiiiiiiiiii {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":1: instance 'iiiiiiiiiiiiiiiiiiiiiiiiiiii': the alias is too long: expected at most "
	  "27 characters" },
	{ "alias ends in _old",
	  "instance a_old {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":1: instance 'a_old': an alias that ends in _old or _new: expected another, a "
	  "handover needs these" },
	{ "alias ends in _new",
	  "instance a_new {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":1: instance 'a_new': an alias that ends in _old or _new: expected another, a "
	  "handover needs these" },
	{ "alias with a dot",
	  "instance a.b {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":1: instance 'a.b': a '.' in the alias: expected none, it names a folder of bpffs" },
	{ "listener of an unknown service",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\"\n"
	  "service = \"gp\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":4: listener 'front': unknown service 'gp': expected one of this instance (pg)" },
	{ "listener without address",
	  "instance a {\n"
	  "listener front {\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":2: listener 'front' has no 'address': expected it in the block" },
	{ "listener without service",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":2: listener 'front' has no 'service': expected it in the block" },
	{ "no listener",
	  "instance a {\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":1: instance 'a' has no listener: expected at least one" },
	{ "no service",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "}\n",
	  ":2: listener 'front': unknown service 'pg': expected one of this instance (none)" },
	{ "same address twice",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "listener two {\n"
	  "address = \"0.0.0.0:5432\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "}\n",
	  ":5: listener 'two' overlaps with listener 'front' of line 2, which has 0.0.0.0:5432: "
	  "expected an address and port of its own" },
	{ "wildcard and specific",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "listener two { address = \"10.0.0.1:5432\" service = \"pg\" }\n"
	  "}\n",
	  ":4: listener 'two' overlaps with listener 'front' of line 2, which has 0.0.0.0:5432: "
	  "expected an address and port of its own" },
	{ "ranges that overlap",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "listener two { address = \"10.0.0.1:7000-7100\" service = \"pg\" }\n"
	  "listener three { address = \"10.0.0.1:7100-7200\" service = \"pg\" }\n"
	  "}\n",
	  ":5: listener 'three' overlaps with listener 'two' of line 4, which has 10.0.0.1:7000: "
	  "expected an address and port of its own" },
	{ "overlap between instances",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "instance b {\n"
	  "listener other {\n"
	  "address = \"127.0.0.1:5432\"\n"
	  "service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":7: listener 'other' overlaps with listener 'front' of line 2, which has "
	  "0.0.0.0:5432: expected an address and port of its own" },
	{ "overlap with http",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "\n"
	  "http = \"127.0.0.1:5432\"\n"
	  "}\n",
	  ":5: http of instance 'a' overlaps with listener 'front' of line 2, which has "
	  "0.0.0.0:5432: expected an address and port of its own" },
	{ "too many addresses",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1-16385\"\n"
	  "service = \"pg\"\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":3: listener 'front': too many addresses: the ports of all listeners are 16385 so "
	  "far, expected at most 16384" },
	{ "too many addresses together",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "listener b { address = \"10.0.0.1:10000-19999\" service = \"pg\" }\n"
	  "listener c { address = \"10.0.0.2:10000-19999\" service = \"pg\" }\n"
	  "}\n",
	  ":5: listener 'c': too many addresses: the ports of all listeners are 20001 so far, "
	  "expected at most 16384" },
	{ "tls file missing",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls {\n"
	  "certificate = \"MISSING.pem\"\n"
	  "key = \"MISSING.key\"\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: certificate = \"MISSING.pem\": No such file or directory: expected a file that "
	  "can be read" },
	{ "tls file is a folder",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "tls {\n"
	  "certificate = \"/dev\"\n"
	  "key = \"/dev/null\" ca = \"/dev/null\"\n"
	  "}\n"
	  "}\n",
	  ":5: certificate = \"/dev\": not a regular file: expected a PEM file" },
	{ "tls file without a name",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "tls { key = \"/proc/version\" ca = \"/proc/version\"\n"
	  "certificate = \"\" }\n"
	  "}\n",
	  ":5: certificate = \"\": no file: expected the name of a PEM file" },
	{ "tls file of a listener without a name",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"\"\n"
	  "key = \"\" } }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":4: certificate = \"\": no file: expected the name of a PEM file" },
	{ "tls without key",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls {\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":4: tls has no 'certificate': expected it in the block" },
	{ "tls version",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "min_version = \"1.1\" }\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: min_version = \"1.1\": expected 1.2 or 1.3" },
	{ "service tls with a key alone",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "tls { key = \"/proc/version\" }\n"
	  "}\n"
	  "}\n",
	  ":5: tls in service 'pg' has a key alone: expected both 'certificate' and 'key', or "
	  "none" },
	{ "tls files without a certificate",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":4: certificate = /proc/version: no certificate in it: expected a PEM certificate" },
	{ "unknown cipher",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "ciphers = {\n"
	  "TLS_AES_128_GCM_SHA256, AES256-SHA }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":6: ciphers = \"AES256-SHA\": not an AEAD suite of cman: expected some of "
	  "TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256, "
	  "ECDHE-ECDSA-AES128-GCM-SHA256, ECDHE-RSA-AES128-GCM-SHA256, "
	  "ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES256-GCM-SHA384, "
	  "ECDHE-ECDSA-CHACHA20-POLY1305, ECDHE-RSA-CHACHA20-POLY1305, "
	  "DHE-RSA-AES128-GCM-SHA256, DHE-RSA-AES256-GCM-SHA384, DHE-RSA-CHACHA20-POLY1305" },
	{ "cipher twice",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "ciphers = { TLS_AES_128_GCM_SHA256,\n"
	  "TLS_AES_128_GCM_SHA256 }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":6: ciphers = \"TLS_AES_128_GCM_SHA256\": a suite named twice: expected it once" },
	{ "ciphers that the version excludes",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "min_version = \"1.3\"\n"
	  "ciphers = { ECDHE-RSA-AES128-GCM-SHA256 }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":6: ciphers has no suite of TLS 1.3, and min_version is \"1.3\": expected one, such "
	  "as TLS_AES_128_GCM_SHA256" },
	{ "alpn with a blank",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "alpn = { h2, \"http 1\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: alpn = \"http 1\": expected the name of a protocol, 1 to 255 printable "
	  "characters such as h2" },
	{ "alpn without a name",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "alpn = { \"\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: alpn = \"\": expected the name of a protocol, 1 to 255 printable characters "
	  "such as h2" },
	{ "alpn twice",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "alpn = { h2,\n"
	  "http/1.1, h2 }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":6: alpn = \"h2\": a protocol named twice: expected it once" },
	{ "alpn too long",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "alpn = { "
	  "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", "
	  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	  "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\n"
	  "c }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":6: alpn = \"c\": the list is too long: expected at most 256 characters, counting "
	  "one more for each name" },
	{ "tls engine",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "engine = kernel\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: engine = \"kernel\": expected auto, ktls or user" },
	{ "starttls of another protocol",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "tls {\n"
	  "starttls = smtp }\n"
	  "}\n"
	  "}\n",
	  ":6: starttls = \"smtp\": expected auto, none or postgresql" },
	{ "starttls in a listener",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "starttls = postgresql\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: unknown key 'starttls' in tls: expected one of ciphers, alpn, key, client_ca, "
	  "engine, certificate, min_version" },
	{ "sni without a key",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "sni \"db.example\" {\n"
	  "certificate = \"/proc/version\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: sni 'db.example' has no 'key': expected it in the block" },
	{ "sni without a name",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "sni { certificate = \"/proc/version\" key = \"/proc/version\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: block 'sni' has no name: expected sni NAME {" },
	{ "sni of an address",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "sni \"10.0.0.1\" { certificate = \"/proc/version\" key = \"/proc/version\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: sni '10.0.0.1': expected a host name such as db.example, or \"*.example\" for "
	  "those with one label more" },
	{ "sni with two wildcards",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "sni \"*.*.example\" { certificate = \"/proc/version\" key = \"/proc/version\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: sni '*.*.example': expected a host name such as db.example, or \"*.example\" "
	  "for those with one label more" },
	{ "sni of everything",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "sni \"*\" { certificate = \"/proc/version\" key = \"/proc/version\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: sni '*': expected a host name such as db.example, or \"*.example\" for those "
	  "with one label more" },
	{ "sni that ends in a dot",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "sni \"db.example.\" { certificate = \"/proc/version\" key = \"/proc/version\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: sni 'db.example.': expected a host name such as db.example, or \"*.example\" "
	  "for those with one label more" },
	{ "sni twice",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "sni \"db.example\" { certificate = \"/proc/version\" key = \"/proc/version\" }\n"
	  "sni \"db.example\" { certificate = \"/proc/version\" key = \"/proc/version\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":6: the name 'db.example' is given to two blocks of one kind: expected names that "
	  "differ" },
	{ "sni twice but for case",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "sni \"db.example\" { certificate = \"/proc/version\" key = \"/proc/version\" }\n"
	  "sni \"DB.example\" { certificate = \"/proc/version\" key = \"/proc/version\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":6: sni 'DB.example' has the name of sni 'db.example' of line 5: expected one block "
	  "for each name" },
	{ "sni with an unknown key",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "sni \"db.example\" { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "ca = \"/proc/version\" }\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":6: unknown key 'ca' in sni 'db.example': expected one of key, certificate" },
	{ "sni in a service",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "tls {\n"
	  "sni \"db.example\" { certificate = \"/proc/version\" key = \"/proc/version\" } }\n"
	  "}\n"
	  "}\n",
	  ":6: unknown block 'sni' in tls: expected one of none" },
	{ "ca in a listener",
	  "instance a {\n"
	  "listener front {\n"
	  "address = \"0.0.0.0:1\" service = \"pg\"\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\"\n"
	  "ca = \"/proc/version\"\n"
	  "}\n"
	  "}\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n",
	  ":5: unknown key 'ca' in tls: expected one of key, alpn, ciphers, engine, client_ca, "
	  "certificate, min_version" },
	{ "service tls without a name to verify",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "tls {\n"
	  "verify = true }\n"
	  "}\n"
	  "}\n",
	  ":6: tls in service 'pg' has no 'server_name': expected the name that the targets' "
	  "certificates must have (or an address), or verify = false" },
	{ "service tls that is empty",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "tls { server_name = \"\" }\n"
	  "}\n"
	  "}\n",
	  ":5: tls in service 'pg' has no 'server_name': expected the name that the targets' "
	  "certificates must have (or an address), or verify = false" },
	{ "service tls with a bad name",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "tls {\n"
	  "server_name = \"*.example\" }\n"
	  "}\n"
	  "}\n",
	  ":6: server_name = \"*.example\": expected the name of one host, such as "
	  "siteb.example, or an IP address" },
	{ "service tls with a certificate alone",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "tls {\n"
	  "certificate = \"/proc/version\" verify = false }\n"
	  "}\n"
	  "}\n",
	  ":5: tls in service 'pg' has a certificate alone: expected both 'certificate' and "
	  "'key', or none" },
	{ "service tls version",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "tls { server_name = x\n"
	  "min_version = 1.1 }\n"
	  "}\n"
	  "}\n",
	  ":6: min_version = \"1.1\": expected 1.2 or 1.3" },
	{ "service tls ca",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "tls { server_name = x\n"
	  "ca = \"/proc/version\" }\n"
	  "}\n"
	  "}\n",
	  ":6: ca = /proc/version: no certificate in it: expected PEM certificates of CAs" },
	{ "sockmap and tls of the service",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "splice = sockmap\n"
	  "tls { verify = false }\n"
	  "}\n"
	  "}\n",
	  ":5: service 'pg': splice = \"sockmap\" and tls (line 6): expected splice = "
	  "\"user\", the kernel cannot relay a leg with TLS" },
	{ "sockmap and tls of a listener",
	  "instance a {\n"
	  "listener one { address = \"0.0.0.0:1\" service = pg }\n"
	  "listener two { address = \"0.0.0.0:2\" service = pg\n"
	  "tls { certificate = \"/proc/version\" key = \"/proc/version\" } }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" }\n"
	  "splice = sockmap }\n"
	  "}\n",
	  ":6: service 'pg': splice = \"sockmap\" and tls in listener 'two' (line 4): expected "
	  "splice = \"user\", the kernel cannot relay a leg with TLS" },
	{ "cluster without master",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "store = \"embedded\"\n"
	  "}\n",
	  ":5: cluster 'c' has no 'master': expected it in the block" },
	{ "cluster key",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "migrates = true\n"
	  "}\n",
	  ":7: unknown key 'migrates' in cluster 'c': expected one of migrate, master, store, "
	  "backup, scanunit_ms, sanityscan, sgrpfailover, dbblfailover, etcd_endpoints" },
	{ "unknown master",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"X\"\n"
	  "machine A { address = \"10.0.0.1:1\" instance = \"a\" }\n"
	  "}\n",
	  ":6: master: unknown machine 'X': expected one of cluster 'c'" },
	{ "backup is master",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "backup = \"A\"\n"
	  "}\n",
	  ":7: backup is the same machine as master: expected another one" },
	{ "unknown machine of a group",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "group G {\n"
	  "machines = { \"A\", \"C\" }\n"
	  "}\n"
	  "}\n",
	  ":8: machines: unknown machine 'C': expected one of cluster 'c'" },
	{ "three machines",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "group G { machines = { \"A\", \"B\",\n"
	  "\"C\" } }\n"
	  "}\n",
	  ":8: 'machines' has more than 2 values: expected 1 to 2" },
	{ "machine twice",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "group G { machines = { \"A\", \"A\" } }\n"
	  "}\n",
	  ":7: machines = \"A\": a machine named twice: expected a primary and an alternate" },
	{ "vip without interface",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "group G { machines = { \"A\", \"B\" } vip = { \"10.0.0.9/24\" } }\n"
	  "}\n",
	  ":7: group 'G' has 'vip' without 'interface': expected the interface that gets the "
	  "addresses" },
	{ "range without a group",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "route r { listener = \"front\"\n"
	  "ranges = { \"10.0.0.0/8\" } }\n"
	  "}\n",
	  ":8: ranges = \"10.0.0.0/8\": expected PREFIX=GROUP or *=GROUP" },
	{ "range with host bits",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "route r { listener = \"front\"\n"
	  "ranges = { \"10.0.0.1/8=G\" } }\n"
	  "}\n",
	  ":8: ranges = \"10.0.0.1/8=G\": bits are set behind the prefix: expected the network's "
	  "own address such as 10.0.0.0/8" },
	{ "route of an unknown listener",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "route r {\n"
	  "listener = \"back\" ranges = { \"*=G\" } }\n"
	  "}\n",
	  ":8: route 'r': unknown listener 'back': expected one of an instance in this file" },
	{ "etcd without endpoints",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "store = \"etcd\"\n"
	  "}\n",
	  ":7: store = \"etcd\" without 'etcd_endpoints': expected where etcd is" },
	{ "etcd endpoint",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "store = \"etcd\" etcd_endpoints = { \"10.0.0.1:2379\" }\n"
	  "}\n",
	  ":7: etcd_endpoints = \"10.0.0.1:2379\": expected a URL that begins with http:// or "
	  "https://" },
	{ "cluster number",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "scanunit_ms = 5\n"
	  "}\n",
	  ":7: scanunit_ms = \"5\": expected a number of milliseconds from 10 to 60000" },
	{ "group without a cluster",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg {\n"
	  "targets = { \"10.0.0.5:5432\" }\n"
	  "group = \"G\"\n"
	  "}\n"
	  "}\n",
	  ":5: service 'pg': unknown group 'G': expected one of a cluster block in this file" },
	{ "cluster tls",
	  "instance a {\n"
	  "listener front { address = \"0.0.0.0:5432\"  service = \"pg\" }\n"
	  "service pg { targets = { \"10.0.0.5:5432\" } }\n"
	  "}\n"
	  "cluster c {\n"
	  "master = \"A\" machine A { address = \"10.0.0.1:7700\" instance = \"a\" } machine B { "
	  "address = \"10.0.0.2:7700\" instance = \"a\" }\n"
	  "tls {\n"
	  "certificate = \"MISSING.pem\" key = \"/proc/version\" ca = \"/proc/version\" }\n"
	  "}\n",
	  ":8: certificate = \"MISSING.pem\": No such file or directory: expected a file that "
	  "can be read" },
};

#endif
