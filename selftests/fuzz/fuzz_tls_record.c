// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes the record engine with a fixed key for each suite. The input: two bytes that say where, one
 * that says which bits are changed, then bytes that are taken as a record from a peer, and as content.
 * What opens as a record must be as long as its content says. What is sealed must open to the same, and
 * must not open when it was changed, cut, or has another number. Buffers have just the length that
 * record.h asks for.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/tls.h"
#include "usr/tls/record.h"

#include "fuzz.h"

#define HEAD	3
#define CONTENT 1024 /* of the input: more would only be slower */

struct engine {
	const struct cman_tls_suite *suite;
	struct cman_tls_cipher seal, open;
};

static void make_engine(struct engine *e, uint16_t id)
{
	struct cman_tls_half half = { .seq = 0 };
	size_t i;

	e->suite = cman_tls_suite(id);
	CHECK(e->suite);
	for (i = 0; i < sizeof(half.secret); i++)
		half.secret[i] = (uint8_t)i;
	CHECK(cman_tls_cipher_init(&e->seal, e->suite, &half, true) == 0);
	CHECK(cman_tls_cipher_init(&e->open, e->suite, &half, false) == 0);
}

static int open_record(struct engine *e, uint64_t seq, const uint8_t *record, size_t len,
		       uint8_t *out, size_t *ret_len, uint8_t *ret_type)
{
	int err = cman_tls_record_open(&e->open, seq, record, len, out, len, ret_len, ret_type);

	CHECK(err == 0 || err == -EBADMSG || err == -EPROTO || err == -EMSGSIZE);
	return err;
}

static void open_any(struct engine *e, const uint8_t *data, size_t size)
{
	int whole = cman_tls_record_look(data, size, NULL);
	size_t len = size, n = 0;
	uint8_t *out, type = 0;
	int err;

	CHECK(whole == -EPROTO || whole == -EMSGSIZE ||
	      (whole >= 0 && (size_t)whole <= CMAN_TLS_RECORD_MAX));
	CHECK((whole == 0) == (size < CMAN_TLS_HEADER));
	if (whole > 0 && (size_t)whole <= size)
		len = (size_t)whole;
	out = malloc(len ? len : 1);
	CHECK(out);
	err = open_record(e, 0, data, len, out, &n, &type);
	if (!err) {
		CHECK(whole > 0 && (size_t)whole == len);
		CHECK(n <= CMAN_TLS_PLAIN_MAX && type >= CMAN_TLS_CCS && type <= CMAN_TLS_DATA);
		CHECK(n || type == CMAN_TLS_DATA);
		CHECK(n + cman_tls_record_overhead(e->suite) <= len);
		CHECK(e->suite->version == CMAN_TLS_1_3 ||
		      n + cman_tls_record_overhead(e->suite) == len);
	}
	free(out);
}

/* Content, what is sealed of it, and what that opens to. */
static void there_and_back(struct engine *e, const uint8_t *head, const uint8_t *data, size_t size)
{
	const size_t room = size + cman_tls_record_overhead(e->suite);
	const uint64_t seq = (uint64_t)head[0] << 8 | head[1];
	const uint8_t type = size ? (uint8_t)(CMAN_TLS_ALERT + head[1] % 3) : CMAN_TLS_DATA;
	uint8_t *record = malloc(room), *out = malloc(room), got_type = 0;
	size_t len = 0, n = 0, at;

	CHECK(record && out);
	CHECK(cman_tls_record_seal(&e->seal, seq, type, data, size, record, &len) == 0);
	CHECK(len == room && (size_t)cman_tls_record_look(record, len, NULL) == len);
	CHECK(open_record(e, seq, record, len, out, &n, &got_type) == 0);
	CHECK(n == size && got_type == type && (!size || !memcmp(out, data, size)));

	CHECK(open_record(e, seq + 1, record, len, out, &n, &got_type) != 0);
	at = seq % len;
	CHECK(open_record(e, seq, record, at, out, &n, &got_type) != 0);
	record[at] ^= head[2] ? head[2] : 1;
	CHECK(open_record(e, seq, record, len, out, &n, &got_type) != 0);
	free(record);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t ids[] = { 0x1301, 0x1302, 0x1303, 0xc02f, 0xc030, 0xcca8 };
	static struct engine engines[sizeof(ids) / sizeof(ids[0])];
	size_t i, content;

	if (size < HEAD)
		return 0;
	content = size - HEAD < CONTENT ? size - HEAD : CONTENT;
	for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		if (!engines[i].suite)
			make_engine(&engines[i], ids[i]);
		open_any(&engines[i], data + HEAD, size - HEAD);
		there_and_back(&engines[i], data, data + HEAD, content);
	}
	return 0;
}
