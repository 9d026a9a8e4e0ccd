/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was on the wire, judged: is each nonce used once? Reads a capture of both legs and the secrets that
 * the peers logged, puts every way of every connection together, and opens all its records in order with
 * the record engine: number n must open record n under its key, through all KeyUpdates. A place of a stream
 * that was sent twice must hold the same bytes: a retransmission with other ones is what a reused nonce
 * looks like. So each pair of key and number has sealed exactly one record, whoever its owner was then.
 *
 *	check PCAP KEYLOG		TAP, a test a connection; 1: something was found, or nothing is proven
 *	keys PCAP KEYLOG		all secrets, keys and IVs: "LABEL HEX", a line each
 *	tamper KIND VERSION PCAP KEYLOG OUT   one connection of VERSION (1.2, 1.3) as a capture of its own:
 *		same	as it is
 *		reseal	a retransmission: other content with the same number
 *		repeat	a record twice		skip	a record less
 *		reuse	a record sealed with the number of the one before
 *		nonce	the same of the explicit nonce only (TLS 1.2, AES-GCM)
 *
 * PCAP: the classic format, as tcpdump -w writes it. KEYLOG: NSS's format, see SSL_CTX_set_keylog_callback(3).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usr/core/tls.h"
#include "usr/tls/keys.h"
#include "usr/tls/record.h"

#define RANDOM	     32
#define SEGMENT	     1400
#define LINK_RAW     101
#define PCAP_HEADER  24
#define PACKET_HEAD  16
#define CLIENT_HELLO 1
#define SERVER_HELLO 2
#define FINISHED     20
#define KEY_UPDATE   24
#define TAMPERED     5 /* which record of data */

enum { FROM_CLIENT, FROM_SERVER };

struct record {
	size_t at, len;
	uint64_t seq;
	size_t key; /* of way.half */
	uint8_t type;
};

/* One way of a connection: what was sent, and what is known of its records. */
struct way {
	bool began;
	uint32_t first; /* sequence number of data[0] */
	uint8_t *data;
	bool *seen;
	size_t end, size;
	uint64_t again; /* bytes that were sent more than once */
	struct record *record;
	size_t nrecords, room;
	struct cman_tls_half *half; /* TLS 1.3: [0] is the handshake's */
	size_t nhalves;
	uint32_t updates;
};

struct connection {
	struct connection *next;
	int family;
	uint8_t addr[2][16]; /* client, server; as enum */
	uint16_t port[2];
	struct way way[2];
	uint8_t random[2][RANDOM];
	const struct cman_tls_suite *suite;
	unsigned int bad;
};

/* A key, and whose it is: nobody else's. */
struct used_key {
	struct cman_tls_keys keys;
	const struct connection *c;
	int dir;
};

static struct connection *connections, **connections_tail = &connections;
static struct used_key *used;
static size_t nused;
static uint8_t *capture;
static char *keylog;
static unsigned long strangers;
static FILE *said; /* where violations are told */

static void die(const char *what)
{
	printf("Bail out! %s\n", what);
	exit(2);
}

static void *grown(void *p, size_t n, size_t each)
{
	p = reallocarray(p, n, each);
	if (!p)
		die("no memory");
	return p;
}

static const char *name_of(const struct connection *c)
{
	static char text[2 * INET6_ADDRSTRLEN + 20];
	char addr[2][INET6_ADDRSTRLEN];

	for (int i = 0; i < 2; i++)
		inet_ntop(c->family, c->addr[i], addr[i], sizeof(addr[i]));
	snprintf(text, sizeof(text), "%s:%u > %s:%u", addr[0], c->port[0], addr[1], c->port[1]);
	return text;
}

__attribute__((format(printf, 3, 4))) static void violation(struct connection *c, int dir,
							    const char *fmt, ...)
{
	va_list ap;

	c->bad++;
	fprintf(said, "# %s, %s: ", name_of(c),
		dir == FROM_CLIENT ? "from the client" : "from the server");
	va_start(ap, fmt);
	vfprintf(said, fmt, ap);
	va_end(ap);
	fputc('\n', said);
}

/* ---- the capture: packets to streams ---- */

static uint8_t *read_file(const char *path, size_t *ret_len)
{
	size_t len = 0, size = 1 << 20, n;
	uint8_t *data = grown(NULL, size, 1);
	FILE *f = fopen(path, "re");

	if (!f)
		die(path);
	while ((n = fread(data + len, 1, size - len - 1, f)) > 0) {
		len += n;
		if (size - len < 2)
			data = grown(data, size *= 2, 1);
	}
	if (ferror(f))
		die(path);
	fclose(f);
	data[len] = '\0';
	*ret_len = len;
	return data;
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

/* Bytes of one segment to their place; what was there before must be the same. */
static void place(struct connection *c, int dir, uint32_t seq, const uint8_t *data, size_t len)
{
	struct way *w = &c->way[dir];
	int64_t at = (int64_t)w->end + (int32_t)(seq - w->first - (uint32_t)w->end);
	bool differs = false;
	size_t i;

	if (at < 0 || !len) /* a keepalive repeats the byte before */
		return;
	if ((size_t)at + len > w->size) {
		w->size = ((size_t)at + len) * 2;
		w->data = grown(w->data, w->size, 1);
		w->seen = grown(w->seen, w->size, sizeof(*w->seen));
		memset(w->seen + w->end, 0, w->size - w->end);
	}
	for (i = 0; i < len; i++) {
		size_t k = (size_t)at + i;

		if (!w->seen[k]) {
			w->seen[k] = true;
			w->data[k] = data[i];
			continue;
		}
		w->again++;
		if (w->data[k] != data[i] && !differs) {
			differs = true;
			violation(c, dir, "byte %zu of the stream was sent twice, and differs", k);
		}
	}
	if ((size_t)at + len > w->end)
		w->end = (size_t)at + len;
}

static bool is_end(const struct connection *c, int end, int family, const uint8_t *addr,
		   uint16_t port)
{
	return c->family == family && c->port[end] == port &&
	       !memcmp(c->addr[end], addr, family == AF_INET ? 4 : 16);
}

/* The latest connection of these ends, and which of them sends. */
static struct connection *find(int family, const uint8_t *from, const uint8_t *to, uint16_t sport,
			       uint16_t dport, int *ret_dir)
{
	struct connection *found = NULL;

	for (struct connection *c = connections; c; c = c->next)
		for (int dir = 0; dir < 2; dir++)
			if (is_end(c, dir, family, from, sport) &&
			    is_end(c, !dir, family, to, dport)) {
				found = c;
				*ret_dir = dir;
			}
	return found;
}

static struct connection *begin(int family, const uint8_t *from, const uint8_t *to, uint16_t sport,
				uint16_t dport)
{
	struct connection *c = calloc(1, sizeof(*c));
	const size_t n = family == AF_INET ? 4 : 16;

	if (!c)
		die("no memory");
	c->family = family;
	memcpy(c->addr[FROM_CLIENT], from, n);
	memcpy(c->addr[FROM_SERVER], to, n);
	c->port[FROM_CLIENT] = sport;
	c->port[FROM_SERVER] = dport;
	*connections_tail = c;
	connections_tail = &c->next;
	return c;
}

static void take_segment(int family, const uint8_t *from, const uint8_t *to, const uint8_t *tcp,
			 size_t len)
{
	const size_t head = len < 20 ? 0 : (size_t)(tcp[12] >> 4) * 4;
	struct connection *c;
	int dir = FROM_CLIENT;
	bool syn, ack;
	uint32_t seq;

	if (head < 20 || head > len)
		die("a TCP header is cut off");
	syn = tcp[13] & 0x02;
	ack = tcp[13] & 0x10;
	seq = get32(tcp + 4);
	c = find(family, from, to, get16(tcp), get16(tcp + 2), &dir);
	if (syn && !ack && (!c || dir != FROM_CLIENT || c->way[dir].first != seq + 1)) {
		c = begin(family, from, to, get16(tcp), get16(tcp + 2));
		dir = FROM_CLIENT;
	}
	if (c && syn) {
		c->way[dir].first = ++seq;
		c->way[dir].began = true;
	}
	if (c && c->way[dir].began)
		place(c, dir, seq, tcp + head, len - head);
	else if (len > head)
		strangers++;
}

static void take_ip(const uint8_t *ip, size_t len)
{
	size_t head, whole;

	if (len >= 20 && ip[0] >> 4 == 4) {
		head = (size_t)(ip[0] & 15) * 4;
		whole = get16(ip + 2);
		if (get16(ip + 6) & 0x3fff)
			die("an IP packet is a fragment");
		if (whole > len || head > whole)
			die("an IP packet is cut off: capture all of it");
		if (ip[9] == IPPROTO_TCP)
			take_segment(AF_INET, ip + 12, ip + 16, ip + head, whole - head);
	} else if (len >= 40 && ip[0] >> 4 == 6) {
		whole = 40u + get16(ip + 4);
		if (whole > len)
			die("an IP packet is cut off: capture all of it");
		if (ip[6] == IPPROTO_TCP)
			take_segment(AF_INET6, ip + 8, ip + 24, ip + 40, whole - 40);
	}
}

/* Bytes before the IP header: https://www.tcpdump.org/linktypes.html */
static size_t link_head(uint32_t type)
{
	switch (type) {
	case 0: /* NULL */
		return 4;
	case 1: /* Ethernet */
		return 14;
	case LINK_RAW:
	case 228:
	case 229:
		return 0;
	case 113: /* "any" */
		return 16;
	case 276:
		return 20;
	default:
		die("a link type that is not known");
		return 0;
	}
}

static uint32_t native(const uint8_t *p, bool swap)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return swap ? __builtin_bswap32(n) : n;
}

static void read_capture(const char *path)
{
	size_t len, at = PCAP_HEADER, head;
	uint32_t magic, n;
	bool swap;

	capture = read_file(path, &len);
	if (len < PCAP_HEADER)
		die("no capture");
	magic = native(capture, false);
	swap = magic == 0xd4c3b2a1 || magic == 0x4d3cb2a1;
	if (!swap && magic != 0xa1b2c3d4 && magic != 0xa1b23c4d)
		die("no capture in the classic format");
	head = link_head(native(capture + 20, swap) & 0xffff);
	while (at + PACKET_HEAD <= len) {
		n = native(capture + at + 8, swap);
		if (n != native(capture + at + 12, swap))
			die("a packet is cut off: capture all of it");
		at += PACKET_HEAD;
		if (n > len - at) /* the last one, not written whole */
			break;
		if (n > head)
			take_ip(capture + at + head, n - head);
		at += n;
	}
	free(capture);
}

/* ---- secrets ---- */

static size_t from_hex(const char *text, uint8_t *out, size_t size)
{
	unsigned int byte;
	size_t n = 0;

	while (n < size && sscanf(text + 2 * n, "%2x", &byte) == 1)
		out[n++] = (uint8_t)byte;
	return n;
}

static void to_hex(const uint8_t *data, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++)
		sprintf(out + 2 * i, "%02x", data[i]);
}

/* Length of the secret with this label of the connection; 0: none. */
static size_t secret_of(const struct connection *c, const char *label, uint8_t *out, size_t size)
{
	char line[128], hex[2 * RANDOM + 1];
	const char *p = keylog, *end;
	size_t n;

	to_hex(c->random[FROM_CLIENT], RANDOM, hex);
	n = (size_t)snprintf(line, sizeof(line), "%s %s ", label, hex);
	while ((p = strstr(p, line)) && p != keylog && p[-1] != '\n')
		p += n;
	if (!p)
		return 0;
	p += n;
	end = p + strcspn(p, "\n");
	n = (size_t)(end - p) / 2;
	return n > size ? 0 : from_hex(p, out, n);
}

/* ---- records ---- */

/* A way while its records are opened. */
struct walk {
	struct connection *c;
	int dir;
	struct way *w;
	struct cman_tls_half half;
	struct cman_tls_cipher cipher;
	bool sealed;	/* the way has keys */
	bool handshake; /* TLS 1.3: those of the handshake */
	uint8_t *said;	/* messages, not complete */
	size_t nsaid;
};

static void take_key(struct walk *k)
{
	struct used_key *u;

	cman_tls_cipher_fini(&k->cipher);
	used = grown(used, nused + 1, sizeof(*used));
	u = &used[nused++];
	if (cman_tls_cipher_init(&k->cipher, k->c->suite, &k->half, false) ||
	    cman_tls_keys_derive(k->c->suite, &k->half, &u->keys))
		die("no cipher");
	u->c = k->c;
	u->dir = k->dir;
	k->w->half = grown(k->w->half, k->w->nhalves + 1, sizeof(*k->w->half));
	k->w->half[k->w->nhalves++] = k->half;
	k->sealed = true;
}

static bool traffic_key(struct walk *k, const char *what)
{
	char label[64];

	snprintf(label, sizeof(label), "%s_%s", k->dir == FROM_CLIENT ? "CLIENT" : "SERVER", what);
	memset(&k->half, 0, sizeof(k->half));
	if (secret_of(k->c, label, k->half.secret, sizeof(k->half.secret)) !=
	    k->c->suite->hash_len) {
		violation(k->c, k->dir, "no %s of it in the keylog", label);
		return false;
	}
	take_key(k);
	return true;
}

static bool block_key(struct walk *k)
{
	struct cman_tls_half client, server;
	uint8_t master[48];
	size_t n = secret_of(k->c, "CLIENT_RANDOM", master, sizeof(master));

	if (n != sizeof(master)) {
		violation(k->c, k->dir, "no master secret of it in the keylog");
		return false;
	}
	if (cman_tls_keys_block(k->c->suite, master, n, k->c->random[FROM_CLIENT],
				k->c->random[FROM_SERVER], true, &client, &server))
		die("no key block");
	k->half = k->dir == FROM_CLIENT ? client : server;
	take_key(k);
	return true;
}

/* One message of a TLS 1.3 handshake, or after it. */
static bool take_message(struct walk *k, uint8_t type, bool last)
{
	struct cman_tls_half next;

	if (type != KEY_UPDATE && (type != FINISHED || !k->handshake))
		return true;
	if (!last) {
		violation(k->c, k->dir, "a message after the last one of a key");
		return false;
	}
	if (type == FINISHED) {
		k->handshake = false;
		return traffic_key(k, "TRAFFIC_SECRET_0");
	}
	if (cman_tls_keys_update(k->c->suite, &k->half, &next))
		die("no next key");
	k->half = next;
	k->w->updates++;
	take_key(k);
	return true;
}

static bool take_messages(struct walk *k, const uint8_t *data, size_t len)
{
	size_t at = 0, n;

	k->said = grown(k->said, k->nsaid + len, 1);
	memcpy(k->said + k->nsaid, data, len);
	k->nsaid += len;
	for (; k->nsaid - at >= 4; at += n) {
		n = 4 + (get32(k->said + at) & 0xffffff);
		if (n > k->nsaid - at)
			break;
		if (!take_message(k, k->said[at], at + n == k->nsaid))
			return false;
	}
	k->nsaid -= at;
	memmove(k->said, k->said + at, k->nsaid);
	return true;
}

/* A record that its number does not open: another one may say what has happened. */
static void explain(struct walk *k, const uint8_t *record, size_t len, uint8_t *out, int err)
{
	uint64_t seq, most = k->half.seq + 16;
	uint8_t type;
	size_t n;

	for (seq = 0; seq < most; seq++)
		if (!cman_tls_record_open(&k->cipher, seq, record, len, out, CMAN_TLS_RECORD_MAX,
					  &n, &type))
			break;
	if (seq == most)
		violation(k->c, k->dir, "record %llu of key %u does not open: %s",
			  (unsigned long long)k->half.seq, k->half.epoch, strerror(-err));
	else if (seq < k->half.seq)
		violation(k->c, k->dir,
			  "number %llu of key %u was used again, in the place of %llu",
			  (unsigned long long)seq, k->half.epoch, (unsigned long long)k->half.seq);
	else
		violation(k->c, k->dir, "number %llu of key %u was skipped: %llu follows",
			  (unsigned long long)k->half.seq, k->half.epoch, (unsigned long long)seq);
}

static void remember(struct walk *k, size_t at, size_t len, uint8_t type)
{
	struct way *w = k->w;

	if (w->nrecords == w->room) {
		w->room = w->room ? w->room * 2 : 64;
		w->record = grown(w->record, w->room, sizeof(*w->record));
	}
	w->record[w->nrecords++] = (struct record){ at, len, k->half.seq, w->nhalves - 1, type };
}

static bool open_record(struct walk *k, size_t at, size_t len)
{
	static uint8_t out[CMAN_TLS_RECORD_MAX];
	uint8_t type;
	size_t n;
	int err;

	err = cman_tls_record_open(&k->cipher, k->half.seq, k->w->data + at, len, out, sizeof(out),
				   &n, &type);
	if (err) {
		explain(k, k->w->data + at, len, out, err);
		return false;
	}
	remember(k, at, len, type);
	k->half.seq++;
	if (type == CMAN_TLS_HANDSHAKE && k->c->suite->version == CMAN_TLS_1_3)
		return take_messages(k, out, n);
	return true;
}

/* Before the keys there is plaintext; where they begin depends on the version. */
static bool take_record(struct walk *k, size_t at, size_t len, uint8_t type)
{
	bool tls13 = k->c->suite && k->c->suite->version == CMAN_TLS_1_3;

	if (type == CMAN_TLS_CCS)
		return tls13 || !k->c->suite || k->sealed || block_key(k);
	if (!k->sealed && type == CMAN_TLS_DATA) {
		if (!tls13) {
			violation(k->c, k->dir, "data without a handshake that was understood");
			return false;
		}
		k->handshake = true;
		if (!traffic_key(k, "HANDSHAKE_TRAFFIC_SECRET"))
			return false;
	}
	return !k->sealed || open_record(k, at, len);
}

static void open_way(struct connection *c, int dir)
{
	struct walk k = { .c = c, .dir = dir, .w = &c->way[dir] };
	size_t at = 0, solid = 0;
	uint8_t type;
	int len;

	while (solid < k.w->end && k.w->seen[solid])
		solid++;
	if (solid < k.w->end)
		violation(c, dir, "the capture has a hole at byte %zu", solid);
	while (at < solid && (len = cman_tls_record_look(k.w->data + at, solid - at, &type))) {
		if (len < 0) {
			violation(c, dir, "no record at byte %zu", at);
			break;
		}
		if ((size_t)len > solid - at || !take_record(&k, at, (size_t)len, type))
			break;
		at += (size_t)len;
	}
	cman_tls_cipher_fini(&k.cipher);
	free(k.said);
}

/* ---- the handshake's plaintext ---- */

/* The first message of a way; NULL: it is not there, not complete, or another one. */
static const uint8_t *hello(const struct way *w, size_t from, uint8_t type, size_t *ret_len)
{
	int len = w->end > from ? cman_tls_record_look(w->data + from, w->end - from, NULL) : 0;
	const uint8_t *p = w->data + from + CMAN_TLS_HEADER;

	if (len < CMAN_TLS_HEADER + 4 + 2 + RANDOM + 1 || (size_t)len > w->end - from ||
	    w->data[from] != CMAN_TLS_HANDSHAKE || p[0] != type)
		return NULL;
	*ret_len = get32(p) & 0xffffff;
	if (*ret_len + 4 + CMAN_TLS_HEADER > (size_t)len)
		return NULL;
	return p + 4;
}

/* A ServerHello behind its random: session id, suite, compression, extensions. */
static const struct cman_tls_suite *chosen(const uint8_t *p, size_t len)
{
	const struct cman_tls_suite *suite;
	size_t at = 2 + RANDOM + 1 + p[2 + RANDOM];

	if (at + 3 > len)
		return NULL;
	suite = cman_tls_suite(get16(p + at));
	return suite;
}

static void read_hellos(struct connection *c)
{
	/* RFC 8446, 4.1.3 */
	static const uint8_t retry[] = { 0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11 };
	const struct way *w = &c->way[FROM_SERVER];
	const uint8_t *p;
	size_t len, at = 0;
	int n;

	p = hello(&c->way[FROM_CLIENT], 0, CLIENT_HELLO, &len);
	if (!p)
		return;
	memcpy(c->random[FROM_CLIENT], p + 2, RANDOM);
	p = hello(w, 0, SERVER_HELLO, &len);
	while (p && !memcmp(p + 2, retry, sizeof(retry))) {
		do {
			n = cman_tls_record_look(w->data + at, w->end - at, NULL);
			at += n > 0 ? (size_t)n : 0;
		} while (n > 0 && at < w->end && w->data[at] == CMAN_TLS_CCS);
		p = hello(w, at, SERVER_HELLO, &len);
	}
	if (!p)
		return;
	memcpy(c->random[FROM_SERVER], p + 2, RANDOM);
	c->suite = chosen(p, len);
}

/* ---- what no single record shows ---- */

static int compare_nonces(const void *a, const void *b)
{
	return memcmp(a, b, 8);
}

/* TLS 1.2 with AES-GCM: each record says its nonce itself. */
static void check_explicit(struct connection *c, int dir)
{
	const struct way *w = &c->way[dir];
	uint8_t(*nonce)[8];
	size_t i;

	if (!c->suite || c->suite->version != CMAN_TLS_1_2 ||
	    c->suite->aead == CMAN_TLS_CHACHA20_POLY1305 || !w->nrecords)
		return;
	nonce = grown(NULL, w->nrecords, sizeof(*nonce));
	for (i = 0; i < w->nrecords; i++)
		memcpy(nonce[i], w->data + w->record[i].at + CMAN_TLS_HEADER, sizeof(*nonce));
	qsort(nonce, w->nrecords, sizeof(*nonce), compare_nonces);
	for (i = 1; i < w->nrecords; i++)
		if (!memcmp(nonce[i - 1], nonce[i], sizeof(*nonce)))
			violation(c, dir, "explicit nonce %08x%08x seals two records",
				  get32(nonce[i]), get32(nonce[i] + 4));
	free(nonce);
}

static int compare_keys(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct cman_tls_keys));
}

static unsigned int shared_keys(void)
{
	unsigned int n = 0;

	if (nused)
		qsort(used, nused, sizeof(*used), compare_keys);
	for (size_t i = 1; i < nused; i++)
		n += !compare_keys(&used[i - 1], &used[i]);
	return n;
}

/* ---- verbs ---- */

static void open_all(const char *pcap, const char *log)
{
	size_t len;

	keylog = (char *)read_file(log, &len);
	read_capture(pcap);
	for (struct connection *c = connections; c; c = c->next) {
		read_hellos(c);
		for (int dir = 0; dir < 2; dir++) {
			open_way(c, dir);
			check_explicit(c, dir);
		}
	}
}

static const char *suite_name(const struct connection *c)
{
	return c->suite ? c->suite->name : "no handshake";
}

static unsigned int tap(unsigned int *n, bool good, const char *text)
{
	printf("%sok %u - %s\n", good ? "" : "not ", ++*n, text);
	return !good;
}

static int check(void)
{
	unsigned long long records = 0, updates = 0, again = 0;
	unsigned int n = 0, failed = 0;
	char text[400];

	for (const struct connection *c = connections; c; c = c->next) {
		const struct way *up = &c->way[FROM_CLIENT], *down = &c->way[FROM_SERVER];

		records += up->nrecords + down->nrecords;
		updates += up->updates + down->updates;
		again += up->again + down->again;
		snprintf(text, sizeof(text),
			 "%s, %s: %zu and %zu records, %u and %u key updates, "
			 "%llu and %llu bytes sent again",
			 name_of(c), suite_name(c), up->nrecords, down->nrecords, up->updates,
			 down->updates, (unsigned long long)up->again,
			 (unsigned long long)down->again);
		failed += tap(&n, !c->bad, text);
	}
	failed += tap(&n, !shared_keys(), "each key belongs to one way of one connection");
	failed += tap(&n, !strangers, "each connection was captured from its beginning");
	failed += tap(&n, records, "there were records to check");
	printf("1..%u\n# records=%llu keys=%zu key_updates=%llu sent_again=%llu\n", n, records,
	       nused, updates, again);
	return failed != 0;
}

static void print_hex(const char *label, const uint8_t *data, size_t len)
{
	printf("%s ", label);
	for (size_t i = 0; i < len; i++)
		printf("%02x", data[i]);
	putchar('\n');
}

static int print_keys(void)
{
	struct cman_tls_keys keys;
	char label[64], secret[128];
	const char *p;

	for (const struct connection *c = connections; c; c = c->next) {
		for (int dir = 0; dir < 2; dir++) {
			for (size_t i = 0; i < c->way[dir].nhalves; i++) {
				const struct cman_tls_half *h = &c->way[dir].half[i];

				if (cman_tls_keys_derive(c->suite, h, &keys))
					die("no key");
				if (c->suite->version == CMAN_TLS_1_3)
					print_hex("traffic_secret", h->secret, c->suite->hash_len);
				print_hex("key", keys.key, c->suite->key_len);
				/* what is fixed of TLS 1.2's with AES-GCM is too short to be found */
				if (keys.iv[11] || keys.iv[10] || keys.iv[9])
					print_hex("iv", keys.iv, sizeof(keys.iv));
			}
		}
	}
	for (p = keylog; sscanf(p, "%63s %*s %127s", label, secret) == 2; p++) {
		printf("%s %s\n", label, secret);
		p += strcspn(p, "\n");
		if (!*p)
			break;
	}
	return 0;
}

/* ---- tampering ---- */

static void put32(uint8_t *p, uint32_t n)
{
	n = htonl(n);
	memcpy(p, &n, sizeof(n));
}

static void put_packet(FILE *f, const struct connection *c, int dir, uint8_t flags, uint32_t seq,
		       const uint8_t *data, size_t len)
{
	const uint32_t size = (uint32_t)len + 40, head[4] = { 0, 0, size, size };
	uint8_t p[40] = { 0x45, 0, (uint8_t)(size >> 8), (uint8_t)size };

	p[8] = 64;
	p[9] = IPPROTO_TCP;
	memcpy(p + 12, c->addr[dir], 4);
	memcpy(p + 16, c->addr[!dir], 4);
	put32(p + 20, (uint32_t)c->port[dir] << 16 | c->port[!dir]);
	put32(p + 24, seq);
	p[32] = 0x50;
	p[33] = flags;
	fwrite(head, sizeof(head), 1, f);
	fwrite(p, sizeof(p), 1, f);
	if (len)
		fwrite(data, len, 1, f);
}

static void put_bytes(FILE *f, const struct connection *c, int dir, size_t at, const uint8_t *data,
		      size_t len)
{
	size_t n;

	for (; len; at += n, data += n, len -= n) {
		n = len < SEGMENT ? len : SEGMENT;
		put_packet(f, c, dir, 0x10, c->way[dir].first + (uint32_t)at, data, n);
	}
}

/* Other content of the same length, sealed as number @seq. */
static void seal_other(const struct connection *c, const struct record *r, uint64_t seq,
		       uint64_t explicit_iv, uint8_t *out)
{
	static uint8_t content[CMAN_TLS_PLAIN_MAX];
	struct cman_tls_half half = c->way[FROM_SERVER].half[r->key];
	struct cman_tls_cipher cipher;
	size_t n;

	memset(content, 'x', sizeof(content));
	half.explicit_iv = explicit_iv;
	if (cman_tls_cipher_init(&cipher, c->suite, &half, true) ||
	    cman_tls_record_seal(&cipher, seq, CMAN_TLS_DATA, content,
				 r->len - cman_tls_record_overhead(c->suite), out, &n) ||
	    n != r->len)
		die("the other record cannot be sealed");
	cman_tls_cipher_fini(&cipher);
}

static uint64_t explicit_nonce(const struct way *w, const struct record *r)
{
	const uint8_t *p = w->data + r->at + CMAN_TLS_HEADER;

	return (uint64_t)get32(p) << 32 | get32(p + 4);
}

/* The server's way, with one record tampered with. */
static void put_tampered(FILE *f, const struct connection *c, const char *kind,
			 const struct record *r)
{
	static uint8_t other[CMAN_TLS_RECORD_MAX];
	const struct way *w = &c->way[FROM_SERVER];
	const bool repeat = !strcmp(kind, "repeat"), skip = !strcmp(kind, "skip");
	const uint8_t *tail = w->data + r->at + r->len;
	size_t at = r->at, len = w->end - r->at - r->len;

	put_bytes(f, c, FROM_SERVER, 0, w->data, r->at);
	memcpy(other, w->data + r->at, r->len);
	if (!strcmp(kind, "reuse"))
		seal_other(c, r, r->seq - 1, 0, other);
	else if (!strcmp(kind, "nonce"))
		seal_other(c, r, r->seq, explicit_nonce(w, r - 1) - r->seq, other);
	for (int i = skip ? 1 : 0; i < 1 + repeat; i++, at += r->len)
		put_bytes(f, c, FROM_SERVER, at, other, r->len);
	put_bytes(f, c, FROM_SERVER, at, tail, len);
	if (!strcmp(kind, "reseal")) {
		seal_other(c, r, r->seq, 0, other);
		put_bytes(f, c, FROM_SERVER, r->at, other, r->len);
	}
}

/* A record of data with one of the same key before it. */
static const struct record *victim(const struct connection *c, uint16_t version, bool gcm)
{
	const struct way *w = &c->way[FROM_SERVER];
	unsigned int n = 0;

	if (c->bad || !c->suite || c->suite->version != version || c->family != AF_INET ||
	    (gcm && c->suite->aead == CMAN_TLS_CHACHA20_POLY1305))
		return NULL;
	for (size_t i = 1; i + 1 < w->nrecords; i++)
		if (w->record[i].type == CMAN_TLS_DATA &&
		    w->record[i - 1].key == w->record[i].key && ++n == TAMPERED)
			return &w->record[i];
	return NULL;
}

static int tamper(const char *kind, const char *version, const char *path)
{
	const uint32_t header[6] = { 0xa1b2c3d4, 4u << 16 | 2, 0, 0, 1 << 18, LINK_RAW };
	const uint16_t number = !strcmp(version, "1.2") ? CMAN_TLS_1_2 : CMAN_TLS_1_3;
	const struct record *r = NULL;
	struct connection *c;
	FILE *f;

	for (c = connections; c; c = c->next) {
		r = victim(c, number, !strcmp(kind, "nonce"));
		if (r)
			break;
	}
	f = r ? fopen(path, "we") : NULL;
	if (!f)
		die("no such connection, or no room for it");
	fwrite(header, sizeof(header), 1, f);
	for (int dir = 0; dir < 2; dir++)
		put_packet(f, c, dir, dir ? 0x12 : 0x02, c->way[dir].first - 1, NULL, 0);
	put_bytes(f, c, FROM_CLIENT, 0, c->way[FROM_CLIENT].data, c->way[FROM_CLIENT].end);
	if (!strcmp(kind, "same"))
		put_bytes(f, c, FROM_SERVER, 0, c->way[FROM_SERVER].data, c->way[FROM_SERVER].end);
	else
		put_tampered(f, c, kind, r);
	return fclose(f) ? 2 : 0;
}

int main(int argc, char **argv)
{
	said = argc > 1 && !strcmp(argv[1], "check") ? stdout : stderr;
	if (argc == 4 && !strcmp(argv[1], "check")) {
		open_all(argv[2], argv[3]);
		return check();
	}
	if (argc == 4 && !strcmp(argv[1], "keys")) {
		open_all(argv[2], argv[3]);
		return print_keys();
	}
	if (argc == 7 && !strcmp(argv[1], "tamper")) {
		open_all(argv[4], argv[5]);
		return tamper(argv[2], argv[3], argv[6]);
	}
	fprintf(stderr,
		"usage: tls_nonces check|keys PCAP KEYLOG | tamper KIND VERSION PCAP KEYLOG OUT\n");
	return 2;
}
