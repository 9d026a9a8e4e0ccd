// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Channels over mutual TLS 1.3. Certificates are made at run time in a folder of the test. Between
 * two channels is mostly a link of the test's own, which can cut, delay and change bytes; the rest is
 * real TCP on the loopback. Each test counts the open descriptors of its process before and after.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "usr/core/wire.h"
#include "usr/sys/chan_impl.h"
#include "usr/sys/chan_tls.h"
#include "usr/sys/sock.h"

#include "certificates.h"

#define ID  0x0000000500000001ull
#define DAY CERT_DAY

static int open_before;

/* ---- certificates ---- */

static void append(const char *to, const char *from)
{
	char text[8192];
	FILE *in = fopen(cert_file(from), "r"), *out = fopen(cert_file(to), "a");
	size_t n;

	cr_assert(in && out);
	n = fread(text, 1, sizeof(text), in);
	cr_assert_eq(fwrite(text, 1, n, out), n);
	fclose(in);
	fclose(out);
}

static void make_certificates(void)
{
	struct cert_issuer ca = cert_make("ca", NULL, NULL, -DAY, DAY, NULL, true);
	struct cert_issuer other = cert_make("otherca", NULL, NULL, -DAY, DAY, NULL, true);
	struct cert_issuer middle = cert_make("middle", NULL, NULL, -DAY, DAY, &ca, true);
	struct cert_issuer old = cert_make("oldca", NULL, NULL, -2 * DAY, -DAY, NULL, true);
	const char *both = CERT_BOTH;

	cert_leaf("a", "DNS:sitea.example", both, -DAY, DAY, &ca);
	cert_leaf("b", "DNS:siteb.example,DNS:alias.example", NULL, -DAY, DAY, &ca);
	cert_leaf("deep", "DNS:deep.example", both, -DAY, DAY, &middle);
	append("deep.pem", "middle.pem");
	cert_leaf("ip", "IP:127.0.0.1,IP:::1", both, -DAY, DAY, &ca);
	cert_leaf("expired", "DNS:siteb.example", both, -3 * DAY, -DAY, &ca);
	cert_leaf("future", "DNS:siteb.example", both, DAY, 2 * DAY, &ca);
	cert_leaf("stranger", "DNS:siteb.example", both, -DAY, DAY, &other);
	cert_leaf("selfsigned", "DNS:siteb.example", both, -DAY, DAY, NULL);
	cert_leaf("wild", "DNS:*.example", both, -DAY, DAY, &ca);
	cert_leaf("siteb.example", NULL, both, -DAY, DAY, &ca); /* only in the common name */
	cert_leaf("serveronly", "DNS:siteb.example", "serverAuth", -DAY, DAY, &ca);
	cert_leaf("clientonly", "DNS:siteb.example", "clientAuth", -DAY, DAY, &ca);
	cert_leaf("ofoldca", "DNS:siteb.example", both, -DAY, DAY, &old);
	cert_forget(&ca);
	cert_forget(&other);
	cert_forget(&middle);
	cert_forget(&old);
}

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void begin(void)
{
	signal(SIGPIPE, SIG_DFL); /* must not be raised */
	cert_begin();
	make_certificates();
	open_before = count_fds();
}

static void end(void)
{
	cr_expect_eq(count_fds(), open_before, "descriptors leak: %d, then %d", open_before,
		     count_fds());
	cert_end();
}

TestSuite(chan_tls, .init = begin, .fini = end, .timeout = 240);

/* ---- channels and what is between them ---- */

static struct cman_tls_ctx *context(const char *name, const char *ca)
{
	struct cman_tls_error error = { .text = "" };
	struct cman_tls_ctx *ctx = NULL;
	char pem[160], key[160];

	snprintf(pem, sizeof(pem), "%s.pem", cert_file(name));
	snprintf(key, sizeof(key), "%s.key", cert_file(name));
	cr_assert_eq(cman_tls_ctx_new(pem, key, cert_file(ca), &ctx, &error), 0, "%s: %s",
		     error.key, error.text);
	return ctx;
}

static void commit(struct cman_frame_writer *w, uint32_t sequence)
{
	cman_frame_begin(w, CMAN_FRAME_COMMIT, sequence);
	cman_frame_add_u64(w, CMAN_TAG_BATCH_ID, ID);
}

static int send_commit(struct cman_chan *c, uint32_t sequence)
{
	struct cman_frame_writer w;

	commit(&w, sequence);
	return cman_chan_send(c, &w, NULL, 0);
}

/* A channel's other end, for the test to play the peer or the network. */
static int wire_to(int *ret_fd)
{
	int sv[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	*ret_fd = sv[0];
	return sv[1];
}

/* The network between a (client) and b (server): what a sends is read from end[0]. */
struct link {
	struct cman_chan a, b;
	int end[2];
	size_t moved[2]; /* by the one that sends */
	size_t limit[2]; /* cut after so many bytes */
	size_t step;	 /* bytes at a time */
	bool cut[2];
	bool stalls; /* at the limit it holds still, and does not cut */
};

static const char *const name_a[] = { "sitea.example" };
static const char *const name_b[] = { "siteb.example" };

static void link_up(struct link *l, struct cman_tls_ctx *ctx_a, struct cman_tls_ctx *ctx_b)
{
	int fd;

	memset(l, 0, sizeof(*l));
	l->limit[0] = l->limit[1] = SIZE_MAX;
	l->step = 4096;
	fd = wire_to(&l->end[0]);
	cr_assert_eq(cman_chan_init_tls(&l->a, fd, ctx_a, CMAN_CHAN_CLIENT, name_b, 1), 0);
	fd = wire_to(&l->end[1]);
	cr_assert_eq(cman_chan_init_tls(&l->b, fd, ctx_b, CMAN_CHAN_SERVER, name_a, 1), 0);
}

static void link_down(struct link *l)
{
	cman_chan_fini(&l->a);
	cman_chan_fini(&l->b);
	close(l->end[0]);
	close(l->end[1]);
}

/* Carries one step in direction @d (0: from a). False: nothing to carry. */
static bool carry(struct link *l, int d)
{
	char buf[4096];
	size_t want = l->step < sizeof(buf) ? l->step : sizeof(buf);
	ssize_t n;

	if (l->cut[d])
		return false;
	if (want > l->limit[d] - l->moved[d])
		want = l->limit[d] - l->moved[d];
	if (!want && l->stalls)
		return false;
	n = want ? read(l->end[d], buf, want) : 0;
	if (n < 0)
		return false;
	if (!n) {
		shutdown(l->end[!d], SHUT_WR);
		l->cut[d] = true;
		return true;
	}
	/* who has closed is not told any more; that is no failure of the link */
	if (send(l->end[!d], buf, (size_t)n, MSG_NOSIGNAL) != n)
		cr_assert(errno == EPIPE || errno == ECONNRESET);
	l->moved[d] += (size_t)n;
	return true;
}

/* Until nothing moves any more. The results of a and b, -EAGAIN when they still could. */
static void settle(struct link *l, int err[2], unsigned int frames[2])
{
	struct cman_chan *c[2] = { &l->a, &l->b };
	struct cman_frame f;
	bool busy;
	int i, r;

	do {
		busy = false;
		for (i = 0; i < 2; i++) {
			if (err[i] != -EAGAIN)
				continue;
			r = cman_chan_flush(c[i]);
			while (r == 0 || r == -EAGAIN) {
				r = cman_chan_receive(c[i], &f, NULL);
				if (r)
					break;
				frames[i]++;
			}
			err[i] = r;
			busy |= r != -EAGAIN;
		}
		for (i = 0; i < 2; i++)
			busy |= carry(l, i);
	} while (busy);
}

Test(chan_tls, there_and_back)
{
	struct cman_tls_ctx *a = context("a", "ca.pem"), *b = context("b", "ca.pem");
	unsigned int frames[2] = { 0 };
	int err[2] = { -EAGAIN, -EAGAIN };
	struct link l;
	pid_t pid;
	uid_t uid;

	cr_assert_null(cman_tls_ctx_warning(a), "%s", cman_tls_ctx_warning(a));
	cr_assert_null(cman_tls_ctx_warning(b));
	link_up(&l, a, b);
	cman_tls_ctx_free(a); /* a reload: channels live on */
	cman_tls_ctx_free(b);
	cr_assert_eq(cman_chan_events(&l.a), POLLOUT);
	cr_assert_eq(cman_chan_events(&l.b), POLLIN);
	cr_assert_null(cman_chan_peer_name(&l.a));
	/* before the handshake: they wait */
	cr_assert_eq(send_commit(&l.a, 1), 0);
	cr_assert_eq(send_commit(&l.b, 2), 0);
	cr_assert_eq(cman_chan_queued(&l.a), 30);
	cr_assert_eq(cman_chan_queued(&l.b), 30);
	cr_assert_eq(cman_chan_events(&l.a), POLLIN, "the first flight is out");
	settle(&l, err, frames);
	cr_assert(err[0] == -EAGAIN && err[1] == -EAGAIN, "%s %s", l.a.why, l.b.why);
	cr_assert(frames[0] == 1 && frames[1] == 1);
	cr_assert(!cman_chan_queued(&l.a) && !cman_chan_queued(&l.b));
	cr_assert_str_eq(cman_chan_peer_name(&l.a), "siteb.example");
	cr_assert_str_eq(cman_chan_peer_name(&l.b), "sitea.example");
	cr_assert_eq(cman_chan_peer(&l.a, &pid, &uid), -EOPNOTSUPP);
	cr_assert_eq(cman_chan_events(&l.a), POLLIN);
	cr_assert_not(cman_chan_wants_write(&l.b));
	cr_assert_eq(send_commit(&l.a, 3), 0);
	cr_assert_eq(cman_chan_queued(&l.a), 0);
	/* a goodbye, with a frame before it */
	cman_chan_fini(&l.a);
	err[0] = -EBADF;
	settle(&l, err, frames);
	cr_assert_eq(frames[1], 2);
	cr_assert_eq(err[1], -EPIPE);
	cr_assert_str_eq(l.b.why, "the peer closed the connection");
	cr_assert_null(cman_chan_peer_name(&l.a));
	link_down(&l);
}

/* What TLS has read already poll(2) does not see; and a channel may be moved to another place. */
Test(chan_tls, input_that_waits_in_tls)
{
	struct cman_tls_ctx *a = context("a", "ca.pem"), *b = context("b", "ca.pem");
	unsigned int frames[2] = { 0 };
	int err[2] = { -EAGAIN, -EAGAIN };
	struct cman_chan moved;
	struct cman_frame f;
	struct pollfd p;
	struct link l;
	uint32_t i;

	link_up(&l, a, b);
	settle(&l, err, frames);
	for (i = 1; i <= 3; i++)
		cr_assert_eq(send_commit(&l.a, i), 0);
	while (carry(&l, 0))
		;
	moved = l.b;
	memset(&l.b, 0xee, sizeof(l.b));
	moved.out_tail = &moved.out_head;
	cr_assert_eq(cman_chan_receive(&moved, &f, NULL), 0);
	p = (struct pollfd){ moved.fd, POLLIN, 0 };
	cr_assert_eq(poll(&p, 1, 0), 0);
	for (i = 2; i <= 3; i++) {
		cr_assert_eq(cman_chan_receive(&moved, &f, NULL), 0);
		cr_assert_eq(f.sequence, i);
	}
	cr_assert_eq(cman_chan_receive(&moved, &f, NULL), -EAGAIN);
	cr_assert_eq(send_commit(&moved, 4), 0);
	cman_chan_init(&l.b, -1);
	while (carry(&l, 1))
		;
	cr_assert_eq(cman_chan_receive(&l.a, &f, NULL), 0);
	cman_chan_fini(&moved);
	link_down(&l);
	cman_tls_ctx_free(a);
	cman_tls_ctx_free(b);
}

Test(chan_tls, byte_at_a_time)
{
	struct cman_tls_ctx *a = context("a", "ca.pem"), *b = context("b", "ca.pem");
	unsigned int frames[2] = { 0 };
	int err[2] = { -EAGAIN, -EAGAIN }, i;
	struct link l;

	link_up(&l, a, b);
	l.step = 1;
	for (i = 0; i < 5; i++) {
		cr_assert_eq(send_commit(&l.a, 1), 0);
		cr_assert_eq(send_commit(&l.b, 2), 0);
	}
	settle(&l, err, frames);
	cr_assert(err[0] == -EAGAIN && err[1] == -EAGAIN, "%s %s", l.a.why, l.b.why);
	cr_assert(frames[0] == 5 && frames[1] == 5);
	cman_chan_fini(&l.b);
	err[1] = -EBADF;
	settle(&l, err, frames);
	cr_assert_eq(err[0], -EPIPE);
	link_down(&l);
	cman_tls_ctx_free(a);
	cman_tls_ctx_free(b);
}

/*
 * @cut bytes of direction @d arrive, then nothing. Returns how many bytes there would have been:
 * handshake, two frames, goodbye. The receiver must know that it was cut, whatever the byte.
 */
static size_t cut_at(struct cman_tls_ctx *a, struct cman_tls_ctx *b, int d, size_t cut)
{
	unsigned int frames[2] = { 0 };
	int err[2] = { -EAGAIN, -EAGAIN };
	struct cman_chan *from, *to;
	struct link l;
	size_t total;

	link_up(&l, a, b);
	l.limit[d] = cut;
	from = d ? &l.b : &l.a;
	to = d ? &l.a : &l.b;
	cr_assert_eq(send_commit(from, 1), 0);
	cr_assert_eq(send_commit(from, 2), 0);
	settle(&l, err, frames);
	if (err[d] == -EAGAIN) {
		cman_chan_fini(from);
		err[d] = -EBADF;
		settle(&l, err, frames);
	}
	total = l.moved[d];
	if (total < cut) {
		cr_assert_eq(err[!d], -EPIPE, "%zu of %zu: %d", cut, total, err[!d]);
		cr_assert_eq(frames[!d], 2);
	} else {
		cr_assert_eq(err[!d], -ECONNRESET, "cut at %zu: %d, %s", cut, err[!d], to->why);
		cr_assert_leq(frames[!d], 2);
		cr_assert(strstr(to->why, "cut") || strstr(to->why, "handshake"), "%s", to->why);
	}
	link_down(&l);
	return total;
}

static void cut_anywhere(int d)
{
	struct cman_tls_ctx *a = context("a", "ca.pem"), *b = context("b", "ca.pem");
	size_t total = cut_at(a, b, d, SIZE_MAX), cut;

	cr_assert_gt(total, 500);
	/* signatures differ in length by a few bytes: the last one must not be the goodbye's */
	for (cut = 0; cut < total - 8; cut++)
		cut_at(a, b, d, cut);
	cman_tls_ctx_free(a);
	cman_tls_ctx_free(b);
}

Test(chan_tls, cut_at_any_byte_from_the_client)
{
	cut_anywhere(0);
}

Test(chan_tls, cut_at_any_byte_from_the_server)
{
	cut_anywhere(1);
}

/* ---- who is refused ---- */

struct refusal {
	const char *what;
	const char *server, *server_ca, *client, *client_ca; /* files; *_ca: whom it trusts */
	int server_err, client_err;
	const char *server_why, *client_why;
};

#define NAME_REFUSED \
	"the peer refused our certificate: it has another name than the peer expects, is not " \
	"valid yet, or damaged"
#define CA_REFUSED    "the peer refused our certificate: it does not come from the peer's ca"
#define DATE_REFUSED  "the peer refused our certificate: it has expired"
#define USAGE_REFUSED "the peer refused our certificate: it is not meant for this use"

static const struct refusal refusals[] = {
	{ "the server has another name", "deep", "ca.pem", "a", "ca.pem", -EKEYREJECTED,
	  -EKEYREJECTED, NAME_REFUSED,
	  "the peer's certificate has another name: expected siteb.example, got deep.example" },
	{ "the client has another name", "b", "ca.pem", "b", "ca.pem", -EKEYREJECTED, -EKEYREJECTED,
	  "the peer's certificate has another name: expected sitea.example, got siteb.example, "
	  "alias.example",
	  NAME_REFUSED },
	{ "a wildcard is no name", "wild", "ca.pem", "a", "ca.pem", -EKEYREJECTED, -EKEYREJECTED,
	  NAME_REFUSED,
	  "the peer's certificate has another name: expected siteb.example, got *.example" },
	{ "the common name is none", "siteb.example", "ca.pem", "a", "ca.pem", -EKEYREJECTED,
	  -EKEYREJECTED, NAME_REFUSED,
	  "the peer's certificate has another name: expected siteb.example, got no "
	  "subjectAltName" },
	{ "the server is of another CA", "stranger", "ca.pem", "a", "ca.pem", -EKEYREJECTED,
	  -EKEYREJECTED, CA_REFUSED,
	  "the peer's certificate (siteb.example) is refused: it does not come from the configured "
	  "ca" },
	{ "the client is of another CA", "b", "otherca.pem", "a", "ca.pem", -EKEYREJECTED,
	  -EKEYREJECTED,
	  "the peer's certificate (sitea.example) is refused: it does not come from the configured "
	  "ca",
	  CA_REFUSED },
	{ "self-signed", "selfsigned", "ca.pem", "a", "ca.pem", -EKEYREJECTED, -EKEYREJECTED,
	  CA_REFUSED,
	  "the peer's certificate (siteb.example) is refused: it does not come from the configured "
	  "ca" },
	{ "the server's has expired", "expired", "ca.pem", "a", "ca.pem", -EKEYEXPIRED,
	  -EKEYEXPIRED, DATE_REFUSED,
	  "the peer's certificate (siteb.example) is refused: it expired on 20" },
	{ "the client's has expired", "b", "ca.pem", "expired", "ca.pem", -EKEYEXPIRED,
	  -EKEYEXPIRED, "the peer's certificate (siteb.example) is refused: it expired on 20",
	  DATE_REFUSED },
	{ "it is not valid yet", "future", "ca.pem", "a", "ca.pem", -EKEYREJECTED, -EKEYREJECTED,
	  NAME_REFUSED,
	  "the peer's certificate (siteb.example) is refused: it is not valid before 20" },
	{ "the CA has expired", "ofoldca", "ca.pem", "a", "oldca.pem", -EKEYEXPIRED, -EKEYEXPIRED,
	  DATE_REFUSED,
	  "the peer's certificate (siteb.example) is refused: the CA certificate expired on 20" },
	{ "a client's certificate at the server", "clientonly", "ca.pem", "a", "ca.pem",
	  -EKEYREJECTED, -EKEYREJECTED, USAGE_REFUSED,
	  "the peer's certificate (siteb.example) is refused: its extended key usage does not allow "
	  "this role: expected both serverAuth and clientAuth" },
	{ "a server's certificate at the client", "b", "ca.pem", "serveronly", "ca.pem",
	  -EKEYREJECTED, -EKEYREJECTED,
	  "the peer's certificate (siteb.example) is refused: its extended key usage does not allow "
	  "this role: expected both serverAuth and clientAuth",
	  USAGE_REFUSED },
};

static void begins(const char *what, const char *got, const char *expected)
{
	cr_expect(got && !strncmp(got, expected, strlen(expected)),
		  "%s:\n  got      %s\n  expected %s", what, got ? got : "nothing", expected);
}

Test(chan_tls, refused_with_a_reason)
{
	const size_t n = sizeof(refusals) / sizeof(*refusals);
	size_t i;

	for (i = 0; i < n; i++) {
		const struct refusal *r = &refusals[i];
		struct cman_tls_ctx *a = context(r->client, r->client_ca);
		struct cman_tls_ctx *b = context(r->server, r->server_ca);
		unsigned int frames[2] = { 0 };
		int err[2] = { -EAGAIN, -EAGAIN };
		struct cman_frame f;
		struct link l;

		link_up(&l, a, b);
		cr_assert_eq(send_commit(&l.a, 1), 0);
		cr_assert_eq(send_commit(&l.b, 1), 0);
		settle(&l, err, frames);
		cr_expect_eq(err[0], r->client_err, "%s: %d", r->what, err[0]);
		cr_expect_eq(err[1], r->server_err, "%s: %d", r->what, err[1]);
		begins(r->what, l.a.why, r->client_why);
		begins(r->what, l.b.why, r->server_why);
		/* whom the client refuses gets nothing; whom the server refuses neither */
		cr_expect(frames[1] == 0 && !cman_chan_peer_name(&l.b), "%s", r->what);
		if (strcmp(r->server, "b"))
			cr_expect(frames[0] == 0 && !cman_chan_peer_name(&l.a), "%s", r->what);
		/* dead means dead */
		cr_expect_lt(send_commit(&l.a, 2), 0);
		cr_expect_eq(cman_chan_flush(&l.b), r->server_err);
		err[1] = cman_chan_receive(&l.b, &f, NULL);
		cr_expect(err[1] == r->server_err || err[1] == -ESHUTDOWN);
		link_down(&l);
		cman_tls_ctx_free(a);
		cman_tls_ctx_free(b);
	}
}

/* One handshake; what each calls the other, or NULL. */
static void names(const char *client, const char *server, const char *const *of_server, size_t ns,
		  const char *const *of_client, size_t nc, const char *called[2])
{
	struct cman_tls_ctx *a = context(client, "ca.pem"), *b = context(server, "ca.pem");
	unsigned int frames[2] = { 0 };
	int err[2] = { -EAGAIN, -EAGAIN };
	static char copy[2][64];
	struct link l;
	int fd, i;

	memset(&l, 0, sizeof(l));
	l.limit[0] = l.limit[1] = SIZE_MAX;
	l.step = 4096;
	fd = wire_to(&l.end[0]);
	cr_assert_eq(cman_chan_init_tls(&l.a, fd, a, CMAN_CHAN_CLIENT, of_server, ns), 0);
	fd = wire_to(&l.end[1]);
	cr_assert_eq(cman_chan_init_tls(&l.b, fd, b, CMAN_CHAN_SERVER, of_client, nc), 0);
	settle(&l, err, frames);
	for (i = 0; i < 2; i++) {
		called[i] = cman_chan_peer_name(i ? &l.b : &l.a);
		if (called[i])
			called[i] = strcpy(copy[i], called[i]);
	}
	if (!called[1] && nc > 1)
		begins("many names", l.b.why,
		       "the peer's certificate has another name: expected one of one.example, "
		       "two.example, three.example, got siteb.example, alias.example");
	link_down(&l);
	cman_tls_ctx_free(a);
	cman_tls_ctx_free(b);
}

Test(chan_tls, one_of_several_names)
{
	const char *peers[] = { "one.example", "two.example", "three.example", "sitea.example" };
	const char *alias[] = { "ALIAS.example" }, *local[] = { "127.0.0.1" },
		   *local6[] = { "::1" };
	const char *other_ip[] = { "127.0.0.2" }, *called[2];

	names("a", "b", name_b, 1, peers, 4, called);
	cr_assert_str_eq(called[0], "siteb.example");
	cr_assert_str_eq(called[1], "sitea.example");
	names("b", "b", alias, 1, peers, 3, called);
	cr_assert_str_eq(called[0], "ALIAS.example");
	cr_assert_null(called[1]);
	/* addresses, and a chain with a CA in between */
	names("deep", "ip", local, 1, (const char *[]){ "deep.example" }, 1, called);
	cr_assert_str_eq(called[0], "127.0.0.1");
	cr_assert_str_eq(called[1], "deep.example");
	names("a", "ip", local6, 1, name_a, 1, called);
	cr_assert_str_eq(called[0], "::1");
	names("a", "ip", other_ip, 1, name_a, 1, called);
	cr_assert_null(called[0]);
}

Test(chan_tls, names_that_cannot_be_expected)
{
	static const char *const bad[] = { "",	   ".example",	       ".",  "a b", "*.example",
					   "a\tb", "\xc3\xa4.example", "a/b" };
	struct cman_tls_ctx *a = context("a", "ca.pem");
	char longest[CMAN_TLS_MAX_NAME + 2];
	const char *name = longest, *why;
	struct cman_chan c;
	size_t i;
	int fd;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		why = NULL;
		cr_expect_eq(cman_tls_name_check(bad[i], &why), -EINVAL, "\"%s\"", bad[i]);
		cr_expect(why && strstr(why, "expected"));
		cr_expect_eq(cman_chan_init_tls(&c, wire_to(&fd), a, CMAN_CHAN_CLIENT, &bad[i], 1),
			     -EINVAL);
		close(fd);
	}
	cr_expect_eq(cman_chan_init_tls(&c, wire_to(&fd), a, CMAN_CHAN_SERVER, NULL, 0), -EINVAL);
	close(fd);
	memset(longest, 'a', sizeof(longest));
	longest[CMAN_TLS_MAX_NAME] = '\0';
	cr_expect_eq(cman_tls_name_check(name, &why), 0);
	strcpy(longest + CMAN_TLS_MAX_NAME, "a");
	cr_expect_eq(cman_tls_name_check(name, &why), -EINVAL);
	cman_tls_ctx_free(a);
}

/* ---- peers that are no channels ---- */

static int receive_from(struct cman_chan *c, int peer, const void *bytes, size_t n)
{
	struct cman_frame f;
	int err = cman_chan_flush(c);

	cr_assert_eq(err, -EAGAIN);
	cr_assert_eq(write(peer, bytes, n), (ssize_t)n);
	return cman_chan_receive(c, &f, NULL);
}

Test(chan_tls, a_peer_without_tls)
{
	static const char *const texts[] = {
		"CMAN\1\33\0\0\0\0\0\16\0\0\0\1\200\14\0\0\0\10\0\0\0\5\0\0\0\1", /* a frame of ours */
		"GET / HTTP/1.1\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2p1\r\n",
		"220 mail.example ESMTP ready\r\n",
		"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
		"\377\377\377\377\377\377\377\377\377\377\377\377\377\377",
	};
	struct cman_tls_ctx *a = context("a", "ca.pem");
	enum cman_chan_role role;
	struct cman_chan c;
	size_t i;
	int fd;

	for (role = CMAN_CHAN_CLIENT; role <= CMAN_CHAN_SERVER; role++)
		for (i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
			int own = wire_to(&fd);

			cr_assert_eq(cman_chan_init_tls(&c, own, a, role, name_b, 1), 0);
			cr_expect_eq(receive_from(&c, fd, texts[i],
						  i == 0 ? 30 :
						  i == 4 ? 16 :
							   strlen(texts[i])),
				     -EPROTO, "%d %zu: %s", role, i, c.why);
			cr_expect_str_eq(c.why, "the peer does not speak TLS: expected TLS 1.3",
					 "%d %zu: %s", role, i, c.why);
			cman_chan_fini(&c);
			close(fd);
		}
	cman_tls_ctx_free(a);
}

/* Any TLS peer, by OpenSSL's own means. */
static SSL *foreign(int fd, bool server, int min, int max, const char *name, SSL_CTX **ret_ctx)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	SSL *ssl;
	char path[160];

	SSL_CTX_set_min_proto_version(ctx, min);
	SSL_CTX_set_max_proto_version(ctx, max);
	if (name) {
		snprintf(path, sizeof(path), "%s.pem", cert_file(name));
		cr_assert_eq(SSL_CTX_use_certificate_chain_file(ctx, path), 1);
		snprintf(path, sizeof(path), "%s.key", cert_file(name));
		cr_assert_eq(SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM), 1);
	}
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	if (server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	*ret_ctx = ctx;
	return ssl;
}

/* Both take turns until the channel knows more than -EAGAIN, or nothing moves. */
static int meet(struct cman_chan *c, SSL *ssl, char *ret_byte)
{
	struct cman_frame f;
	int i, err = -EAGAIN;
	size_t n;

	for (i = 0; i < 10 && err == -EAGAIN; i++) {
		SSL_read_ex(ssl, ret_byte, 1, &n);
		err = cman_chan_receive(c, &f, NULL);
	}
	SSL_read_ex(ssl, ret_byte, 1, &n);
	return err;
}

static void meets(bool server, int min, int max, const char *name, int expected, const char *why)
{
	struct cman_tls_ctx *a = context("a", "ca.pem");
	struct cman_chan c;
	SSL_CTX *ctx;
	SSL *ssl;
	char byte;
	int fd, own = wire_to(&fd);

	cr_assert_eq(cman_chan_init_tls(&c, own, a, server ? CMAN_CHAN_CLIENT : CMAN_CHAN_SERVER,
					name_b, 1),
		     0);
	ssl = foreign(fd, server, min, max, name, &ctx);
	cr_expect_eq(meet(&c, ssl, &byte), expected, "%s", c.why);
	if (why)
		cr_expect_str_eq(c.why, why);
	else
		cr_expect_not_null(cman_chan_peer_name(&c));
	/* nothing to come back with */
	if (!why && !server)
		cr_expect_not(SSL_SESSION_is_resumable(SSL_get0_session(ssl)));
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	cman_chan_fini(&c);
	close(fd);
	cman_tls_ctx_free(a);
}

Test(chan_tls, other_tls_peers)
{
	const char *version = "the peer does not speak TLS 1.3: expected 1.3 on both sides";

	meets(false, TLS1_3_VERSION, TLS1_3_VERSION, "b", -EAGAIN, NULL);
	meets(true, TLS1_2_VERSION, TLS1_3_VERSION, "b", -EAGAIN, NULL);
	meets(false, TLS1_2_VERSION, TLS1_2_VERSION, "b", -EPROTONOSUPPORT, version);
	meets(true, TLS1_2_VERSION, TLS1_2_VERSION, "b", -EPROTONOSUPPORT, version);
	meets(false, TLS1_3_VERSION, TLS1_3_VERSION, NULL, -EKEYREJECTED,
	      "the peer showed no certificate: expected mutual TLS");
}

Test(chan_tls, changed_on_the_way)
{
	struct cman_tls_ctx *a = context("a", "ca.pem"), *b = context("b", "ca.pem");
	unsigned int frames[2] = { 0 };
	int err[2] = { -EAGAIN, -EAGAIN };
	struct cman_frame f;
	char buf[4096];
	struct link l;
	ssize_t n;

	link_up(&l, a, b);
	settle(&l, err, frames);
	cr_assert_eq(send_commit(&l.a, 1), 0);
	n = read(l.end[0], buf, sizeof(buf));
	cr_assert_gt(n, 30);
	buf[n - 1] ^= 1;
	cr_assert_eq(write(l.end[1], buf, (size_t)n), n);
	cr_assert_eq(cman_chan_receive(&l.b, &f, NULL), -EPROTO);
	begins("changed", l.b.why, "TLS with the peer failed: ");
	link_down(&l);
	cman_tls_ctx_free(a);
	cman_tls_ctx_free(b);
}

/* ---- descriptors ---- */

Test(chan_tls, descriptors_do_not_travel)
{
	struct cman_tls_ctx *a = context("a", "ca.pem"), *b = context("b", "ca.pem");
	unsigned int frames[2] = { 0 };
	int err[2] = { -EAGAIN, -EAGAIN }, fds[CMAN_FRAME_MAX_FDS];
	struct cman_frame_writer w;
	struct cman_frame f;
	struct link l;
	size_t n = 0;

	link_up(&l, a, b);
	cman_frame_begin(&w, CMAN_FRAME_TAKE, 1);
	cr_assert_eq(cman_chan_send(&l.a, &w, &l.end[0], 1), -EOPNOTSUPP);
	cr_assert_str_eq(l.a.why, "descriptors cannot travel over TLS");
	cr_assert_null(w.data);
	settle(&l, err, frames);
	cman_frame_begin(&w, CMAN_FRAME_TAKE, 1);
	cr_assert_eq(cman_chan_send(&l.a, &w, &l.end[0], 1), -EOPNOTSUPP);
	cr_assert_eq(send_commit(&l.a, 2), 0); /* nothing of them went out */
	settle(&l, err, frames);
	cr_assert_eq(frames[1], 1);

	/* a peer that claims some: known from the header alone */
	cman_frame_begin(&w, CMAN_FRAME_TAKE, 3);
	cr_assert_eq(cman_frame_finish(&w, 1), 0);
	cr_assert_eq(l.a.transport->write(&l.a, w.data, CMAN_FRAME_HEADER, &n), 0);
	cr_assert_eq(n, CMAN_FRAME_HEADER);
	cman_frame_free(&w);
	while (carry(&l, 0))
		;
	cr_assert_eq(cman_chan_receive(&l.b, &f, fds), -EBADMSG);
	cr_assert_str_eq(l.b.why, "a frame that declares descriptors came over TLS");
	link_down(&l);
	cman_tls_ctx_free(a);
	cman_tls_ctx_free(b);
}

/* ---- real TCP ---- */

static struct cman_endpoint loopback(const char *address)
{
	struct cman_endpoint e;
	const char *why;

	cr_assert_eq(cman_address_parse(address, &e, &why), 0);
	return e;
}

/* The port that the kernel chose */
static uint16_t port_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	uint8_t addr[16];
	uint16_t port;

	cr_assert_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	cr_assert_gt(cman_sockaddr_get(&ss, addr, &port), 0);
	return port;
}

static int wait_for(struct cman_chan *c[2], int only)
{
	struct pollfd p[2];
	int i, n;

	for (i = 0; i < 2; i++) {
		p[i].fd = only < 0 || only == i ? c[i]->fd : -1;
		p[i].events = cman_chan_events(c[i]);
	}
	n = poll(p, 2, 10000);
	cr_assert_gt(n, 0, "nothing happens");
	return n;
}

/* Connected and authenticated over TCP. */
static void tcp_pair(struct cman_chan *a, struct cman_chan *b, const char *address)
{
	struct cman_tls_ctx *ca = context("a", "ca.pem"), *cb = context("b", "ca.pem");
	struct cman_endpoint e = loopback(address);
	struct cman_chan *c[2] = { a, b };
	int listener, fd, one = 0;
	socklen_t len = sizeof(one);
	struct cman_frame f;

	cr_assert_eq(cman_tcp_listen(&e, &listener), 0);
	cr_assert(fcntl(listener, F_GETFL) & O_NONBLOCK);
	cr_assert_eq(fcntl(listener, F_GETFD), FD_CLOEXEC);
	e.port_first = port_of(listener);
	cr_assert_eq(cman_tcp_listen(&e, &fd), -EADDRINUSE);
	cr_assert_eq(cman_tcp_connect(&e, &fd), 0);
	cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(cman_chan_init_tls(a, fd, ca, CMAN_CHAN_CLIENT, name_b, 1), 0);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert_geq(fd, 0);
	cr_assert_eq(cman_chan_init_tls(b, fd, cb, CMAN_CHAN_SERVER, name_a, 1), 0);
	cr_assert_eq(getsockopt(a->fd, IPPROTO_TCP, TCP_NODELAY, &one, &len), 0);
	cr_assert(one);
	close(listener);
	cman_tls_ctx_free(ca);
	cman_tls_ctx_free(cb);
	while (!cman_chan_peer_name(a) || !cman_chan_peer_name(b)) {
		wait_for(c, -1);
		cr_assert_eq(cman_chan_receive(a, &f, NULL), -EAGAIN, "%s", a->why);
		cr_assert_eq(cman_chan_receive(b, &f, NULL), -EAGAIN, "%s", b->why);
	}
}

static void over_tcp(const char *address)
{
	struct cman_chan a, b, *c[2] = { &a, &b };
	struct cman_frame f;
	int err;

	tcp_pair(&a, &b, address);
	cr_assert_eq(send_commit(&a, 7), 0);
	cr_assert_eq(cman_chan_wait(&b, 10000, &f, NULL), 0);
	cr_assert_eq(f.sequence, 7);
	/* b has not read this when it closes: its own last frame arrives nevertheless */
	cr_assert_eq(send_commit(&a, 8), 0);
	cr_assert_eq(send_commit(&b, 9), 0);
	cman_chan_fini(&b);
	cr_assert_eq(cman_chan_wait(&a, 10000, &f, NULL), 0);
	cr_assert_eq(f.sequence, 9);
	cr_assert_eq(cman_chan_wait(&a, 10000, &f, NULL), -EPIPE);
	cman_chan_fini(&a);

	/* RST instead of a goodbye */
	tcp_pair(&a, &b, address);
	cman_sock_abort(b.fd);
	b.fd = -1;
	wait_for(c, 0);
	cr_assert_eq(cman_chan_receive(&a, &f, NULL), -ECONNRESET);
	cr_assert_str_eq(a.why, "the connection to the peer was cut");
	cman_chan_fini(&a);
	cman_chan_fini(&b);

	/* the writer learns it too, without SIGPIPE */
	tcp_pair(&a, &b, address);
	cman_sock_abort(b.fd);
	b.fd = -1;
	wait_for(c, 0);
	err = send_commit(&a, 1);
	cr_assert(err == -ECONNRESET || err == -EPIPE, "%d", err);
	cr_assert_not_null(a.why);
	err = send_commit(&a, 1);
	cr_assert(err == -ECONNRESET || err == -EPIPE, "%d", err);
	cman_chan_fini(&a);
	cman_chan_fini(&b);
}

Test(chan_tls, over_tcp)
{
	over_tcp("127.0.0.1");
}

Test(chan_tls, over_tcp_on_ipv6)
{
	struct cman_endpoint e = loopback("::1");
	int fd, err = cman_tcp_listen(&e, &fd);

	if (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL)
		cr_skip_test("no IPv6 here");
	cr_assert_eq(err, 0);
	close(fd);
	over_tcp("::1");
}

Test(chan_tls, nobody_listens)
{
	struct cman_tls_ctx *a = context("a", "ca.pem");
	struct cman_endpoint e = loopback("127.0.0.1");
	struct cman_chan c;
	struct cman_frame f;
	int fd, err;

	cr_assert_eq(cman_tcp_listen(&e, &fd), 0);
	e.port_first = port_of(fd);
	close(fd);
	err = cman_tcp_connect(&e, &fd);
	if (!err) {
		cr_assert_eq(cman_chan_init_tls(&c, fd, a, CMAN_CHAN_CLIENT, name_b, 1), 0);
		cr_assert_eq(cman_chan_wait(&c, 10000, &f, NULL), -ECONNREFUSED);
		cr_assert_str_eq(c.why, "cannot connect to the peer: Connection refused");
		cman_chan_fini(&c);
	} else {
		cr_assert_eq(err, -ECONNREFUSED);
	}
	cman_tls_ctx_free(a);
}

/* A server that refuses the client closes at once, with our frames unread: RST. Its word counts. */
Test(chan_tls, a_refused_client_that_writes_learns_why)
{
	struct cman_tls_ctx *a = context("a", "ca.pem"), *b = context("b", "otherca.pem");
	struct cman_endpoint e = loopback("127.0.0.1");
	struct cman_chan ca, cb;
	struct cman_frame f;
	int listener, fd, err = 0;
	struct pollfd p;

	cr_assert_eq(cman_tcp_listen(&e, &listener), 0);
	e.port_first = port_of(listener);
	cr_assert_eq(cman_tcp_connect(&e, &fd), 0);
	cr_assert_eq(cman_chan_init_tls(&ca, fd, a, CMAN_CHAN_CLIENT, name_b, 1), 0);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert_eq(cman_chan_init_tls(&cb, fd, b, CMAN_CHAN_SERVER, name_a, 1), 0);
	close(listener);
	while (!cman_chan_peer_name(&ca)) {
		p = (struct pollfd){ ca.fd, cman_chan_events(&ca), 0 };
		poll(&p, 1, 10);
		err = cman_chan_flush(&ca);
		cr_assert(!err || err == -EAGAIN, "%s", ca.why);
		if (cman_chan_peer_name(&ca))
			break;
		err = cman_chan_receive(&cb, &f, NULL);
		cr_assert_eq(err, -EAGAIN, "%s", cb.why);
	}
	p = (struct pollfd){ cb.fd, POLLIN, 0 };
	cr_assert_eq(poll(&p, 1, 10000), 1);
	cr_assert_eq(cman_chan_receive(&cb, &f, NULL), -EKEYREJECTED);
	cman_chan_fini(&cb);
	/* the first one is answered by RST, the second one fails */
	while (!(err = send_commit(&ca, 1))) {
		p = (struct pollfd){ ca.fd, 0, 0 };
		poll(&p, 1, 10);
	}
	cr_assert_eq(err, -EKEYREJECTED);
	cr_assert_str_eq(ca.why, CA_REFUSED);
	cman_chan_fini(&ca);
	cman_tls_ctx_free(a);
	cman_tls_ctx_free(b);
}

/* ---- much ---- */

#define BIG   (1 << 20)
#define LIMIT (4 << 20) /* the sender pauses above it */

/*
 * Bytes under a tag that no release knows and every release skips: any number, any values. The
 * writer does not make such a thing, so it is put behind what it has made.
 */
static void big_frame(struct cman_frame_writer *w, uint32_t sequence)
{
	const uint32_t n = BIG - 64;
	const uint8_t head[6] = {
		0x7f, 0xfe, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n
	};
	uint8_t *p;

	commit(w, sequence);
	p = realloc(w->data, w->used + sizeof(head) + n);
	cr_assert_not_null(p);
	w->data = p;
	p += w->used;
	memcpy(p, head, sizeof(head));
	memset(p + 6, (int)(sequence % 251), n);
	memcpy(p + 6, "01234567", sequence % 8);
	w->used += sizeof(head) + n;
	w->size = w->used;
}

static void is_big_frame(const struct cman_frame *f, uint32_t sequence)
{
	const uint8_t *data = f->payload + 6 + 8 + 6; /* behind BATCH_ID and the head of the tag */
	const size_t n = BIG - 64;

	cr_assert_eq(f->sequence, sequence);
	cr_assert_eq(f->length, 6 + 8 + 6 + n);
	cr_assert_eq(memcmp(data, "01234567", sequence % 8), 0);
	cr_assert_eq(data[sequence % 8], sequence % 251);
	cr_assert_eq(memcmp(data + 8, data + 9, n - 9), 0);
	cr_assert_eq(data[n - 1], sequence % 251);
}

static long peak_kb(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_maxrss;
}

Test(chan_tls, a_hundred_megabytes_both_ways)
{
	const uint32_t count = 100;
	struct cman_chan ch[2], *c[2] = { &ch[0], &ch[1] };
	uint32_t sent[2] = { 0 }, got[2] = { 0 };
	struct cman_frame_writer w;
	struct timespec t0, t1;
	struct cman_frame f;
	long before;
	int i, err;

	tcp_pair(c[0], c[1], "127.0.0.1");
	before = peak_kb();
	clock_gettime(CLOCK_MONOTONIC, &t0);
	while (got[0] < count || got[1] < count) {
		for (i = 0; i < 2; i++) {
			err = cman_chan_flush(c[i]);
			cr_assert(!err || err == -EAGAIN, "%s", c[i]->why);
			while (sent[i] < count && cman_chan_queued(c[i]) < LIMIT) {
				big_frame(&w, sent[i]++);
				cr_assert_eq(cman_chan_send(c[i], &w, NULL, 0), 0);
			}
			cr_assert_lt(cman_chan_queued(c[i]), LIMIT + BIG);
			while (!(err = cman_chan_receive(c[i], &f, NULL)))
				is_big_frame(&f, got[i]++);
			cr_assert_eq(err, -EAGAIN, "%s", c[i]->why);
		}
		if (got[0] < count || got[1] < count)
			wait_for(c, -1);
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	fprintf(stderr, "# 2 x %u MB in %.0f ms, peak grew by %ld KB\n", count,
		(double)(t1.tv_sec - t0.tv_sec) * 1e3 + (double)(t1.tv_nsec - t0.tv_nsec) / 1e6,
		peak_kb() - before);
#ifndef __SANITIZE_ADDRESS__ /* it keeps what is freed */
	cr_assert_lt(peak_kb() - before, 40 << 10);
#endif
	cr_assert(!cman_chan_queued(c[0]) && !cman_chan_queued(c[1]));
	for (i = 0; i < 2; i++)
		cman_chan_fini(c[i]);
}

/* A receiver that pauses stops the sender, and goes on by receive() where it was. */
Test(chan_tls, a_receiver_that_pauses)
{
	struct cman_chan a, b, *c[2] = { &a, &b };
	uint32_t sent = 0, got = 0, held;
	struct cman_frame_writer w;
	struct cman_frame f;
	struct pollfd p;
	int err;

	tcp_pair(&a, &b, "127.0.0.1");
	/* until it is the socket that is full, and the queue */
	while (cman_chan_queued(&a) < LIMIT) {
		big_frame(&w, sent++);
		cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
		cr_assert_lt(sent, 100, "the network takes everything");
	}
	p = (struct pollfd){ a.fd, POLLOUT, 0 };
	while (poll(&p, 1, 50) == 1)
		if (cman_chan_flush(&a) != -EAGAIN)
			cr_assert_fail("all is out, and nobody reads");
	held = sent;
	cr_assert_gt(cman_chan_queued(&a), 0);
	/* one frame, a pause, the rest: what TLS holds already is not forgotten */
	while (got < held) {
		err = cman_chan_receive(&b, &f, NULL);
		if (!err) {
			is_big_frame(&f, got++);
			continue;
		}
		cr_assert_eq(err, -EAGAIN, "%s", b.why);
		err = cman_chan_flush(&a);
		cr_assert(!err || err == -EAGAIN, "%s", a.why);
		wait_for(c, 1);
	}
	cr_assert_eq(cman_chan_queued(&a), 0);
	/* with frames still queued there is no goodbye: the peer knows that they are missing */
	while (!cman_chan_queued(&a)) {
		big_frame(&w, sent++);
		cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	}
	cman_chan_fini(&a);
	while (!(err = cman_chan_receive(&b, &f, NULL)))
		is_big_frame(&f, got++);
	cr_assert_eq(err, -ECONNRESET, "%d", err);
	cr_assert_lt(got, sent);
	cman_chan_fini(&b);
}

/* ---- handshakes that never end ---- */

Test(chan_tls, given_up_within_the_handshake)
{
	struct cman_tls_ctx *a = context("a", "ca.pem"), *b = context("b", "ca.pem");
	size_t cut, total[2];
	struct link l;
	int d;

	total[0] = cut_at(a, b, 0, SIZE_MAX);
	total[1] = cut_at(a, b, 1, SIZE_MAX);
	for (d = 0; d < 2; d++)
		for (cut = 0; cut < total[d]; cut += 5) {
			unsigned int frames[2] = { 0 };
			int err[2] = { -EAGAIN, -EAGAIN };

			/* the peer falls silent: nobody is at fault, nobody spins, both are freed */
			link_up(&l, a, b);
			l.limit[d] = cut;
			l.stalls = true;
			settle(&l, err, frames);
			cr_assert(err[0] == -EAGAIN && err[1] == -EAGAIN, "%s %s", l.a.why,
				  l.b.why);
			cr_assert_eq(cman_chan_events(&l.a), POLLIN);
			cr_assert_eq(cman_chan_events(&l.b), POLLIN);
			link_down(&l);
		}
	cman_tls_ctx_free(a);
	cman_tls_ctx_free(b);
}

Test(chan_tls, wait_ends_within_the_handshake)
{
	struct cman_tls_ctx *a = context("a", "ca.pem");
	struct cman_chan c;
	struct cman_frame f;
	int fd, own = wire_to(&fd);

	cr_assert_eq(cman_chan_init_tls(&c, own, a, CMAN_CHAN_CLIENT, name_b, 1), 0);
	cr_assert_eq(cman_chan_wait(&c, 30, &f, NULL), -ETIMEDOUT);
	cr_assert_str_eq(c.why, "the peer did not answer in time");
	cr_assert_null(cman_chan_peer_name(&c));
	close(fd);
	cr_assert_eq(cman_chan_wait(&c, 1000, &f, NULL), -ECONNRESET);
	cman_chan_fini(&c);
	cman_tls_ctx_free(a);
}

/* Request and answer as a client and a server do it, each in a process of its own. */
Test(chan_tls, wait_for_an_answer)
{
	struct cman_frame_writer w;
	struct cman_chan a, b;
	struct cman_frame f;
	int status;
	pid_t pid;

	tcp_pair(&a, &b, "127.0.0.1");
	pid = fork();
	if (!pid) {
		close(a.fd);
		big_frame(&w, 2);
		if (cman_chan_wait(&b, 10000, &f, NULL) || f.sequence != 1 ||
		    cman_chan_send(&b, &w, NULL, 0))
			_exit(1);
		/* until the other one is gone: it drives our output */
		_exit(cman_chan_wait(&b, 10000, &f, NULL) != -EPIPE);
	}
	close(b.fd);
	b.fd = -1;
	big_frame(&w, 1);
	cr_assert_eq(cman_chan_send(&a, &w, NULL, 0), 0);
	cr_assert_eq(cman_chan_wait(&a, 10000, &f, NULL), 0, "%s", a.why);
	is_big_frame(&f, 2);
	cman_chan_fini(&a);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	/* this copy of b's state must not say anything more: its descriptor is closed */
	cman_chan_fini(&b);
}

/* ---- the files ---- */

static void bad_files(const char *certificate, const char *key, const char *ca, int err,
		      const char *at, const char *text)
{
	struct cman_tls_ctx *ctx = (void *)1;
	struct cman_tls_error error = { .text = "" };
	char expected[600];

	cr_expect_eq(cman_tls_ctx_new(cert_file(certificate), cert_file(key), cert_file(ca), &ctx,
				      &error),
		     err, "%s", error.text);
	cr_expect_eq(ctx, (void *)1, "result touched on failure");
	snprintf(expected, sizeof(expected), "%s", cert_file(text));
	cr_expect_str_eq(error.text, expected, "got      %s\nexpected %s", error.text, expected);
	cr_expect_str_eq(error.key, at);
}

static void write_file(const char *name, const char *text, size_t n, mode_t mode)
{
	FILE *f = fopen(cert_file(name), "w");

	cr_assert(f && fwrite(text, 1, n, f) == n && !fchmod(fileno(f), mode));
	fclose(f);
}

Test(chan_tls, files_that_cannot_be_used)
{
	char text[8192];
	EVP_PKEY *weak;
	size_t n;
	FILE *f;

	bad_files("gone.pem", "a.key", "ca.pem", -ENOENT, "certificate",
		  "gone.pem: No such file or directory: expected a file that can be read");
	bad_files("a.pem", "gone.key", "ca.pem", -ENOENT, "key",
		  "gone.key: No such file or directory: expected a file that can be read");
	bad_files("a.pem", "a.key", "gone.pem", -ENOENT, "ca",
		  "gone.pem: No such file or directory: expected a file that can be read");
	bad_files("a.pem", "a.key", ".", -EINVAL, "ca",
		  ".: not a regular file: expected a PEM file");
	bad_files("a.pem", "b.key", "ca.pem", -EKEYREJECTED, "key",
		  "b.key: does not belong to the certificate: expected the key that the "
		  "certificate was made for");
	bad_files("a.key", "a.key", "ca.pem", -EINVAL, "certificate",
		  "a.key: no certificate in it: expected a PEM certificate");
	bad_files("a.pem", "a.pem", "ca.pem", -EPERM, "key",
		  "a.pem: everybody has access to this private key (mode 0644): expected mode "
		  "0600 or 0640");
	write_file("empty", "", 0, 0600);
	bad_files("empty", "a.key", "ca.pem", -EINVAL, "certificate",
		  "empty: no certificate in it: expected a PEM certificate");
	bad_files("a.pem", "empty", "ca.pem", -EINVAL, "key",
		  "empty: no private key in it: expected a PEM private key");
	bad_files("a.pem", "a.key", "empty", -EINVAL, "ca",
		  "empty: no certificate in it: expected PEM certificates of CAs");
	cr_assert_eq(truncate(cert_file("empty"), (1 << 20) + 1), 0);
	bad_files("a.pem", "a.key", "empty", -EINVAL, "ca",
		  "empty: too large: expected at most 1 MiB");

	/* modes */
	cr_assert_eq(chmod(cert_file("b.key"), 0602), 0);
	bad_files("b.pem", "b.key", "ca.pem", -EPERM, "key",
		  "b.key: everybody has access to this private key (mode 0602): expected mode 0600 "
		  "or 0640");
	cr_assert_eq(chmod(cert_file("b.key"), 0640), 0);
	cman_tls_ctx_free(context("b", "ca.pem"));

	/* half a certificate behind a good one */
	f = fopen(cert_file("a.pem"), "r");
	n = fread(text, 1, sizeof(text), f);
	fclose(f);
	memcpy(text + n, text, n / 2);
	write_file("half.pem", text, n + n / 2, 0600);
	bad_files("half.pem", "a.key", "ca.pem", -EINVAL, "certificate",
		  "half.pem: a damaged certificate (bad end line): expected PEM certificates");

	/* a key with a passphrase: nobody is asked for it */
	weak = EVP_EC_gen("P-256");
	f = fopen(cert_file("locked.key"), "w");
	cr_assert(PEM_write_PrivateKey(f, weak, EVP_aes_128_cbc(), (const unsigned char *)"secret",
				       6, NULL, NULL) &&
		  !fchmod(fileno(f), 0600));
	fclose(f);
	EVP_PKEY_free(weak);
	bad_files("a.pem", "locked.key", "ca.pem", -EINVAL, "key",
		  "locked.key: the key is encrypted: expected one without a passphrase");
	ERR_clear_error();
}

static void warns(const char *name, const char *ca, const char *expected)
{
	struct cman_tls_ctx *ctx = context(name, ca);

	cr_expect(cman_tls_ctx_warning(ctx) && strstr(cman_tls_ctx_warning(ctx), expected),
		  "%s: %s", name, cman_tls_ctx_warning(ctx));
	cman_tls_ctx_free(ctx);
}

Test(chan_tls, files_that_peers_will_not_like)
{
	warns("expired", "ca.pem",
	      "/expired.pem: peers will refuse this certificate: it expired on 20");
	warns("future", "ca.pem", "it is not valid before 20");
	warns("stranger", "ca.pem", "it does not come from the configured ca");
	warns("siteb.example", "ca.pem", "it has no subjectAltName");
	warns("serveronly", "ca.pem", "expected both serverAuth and clientAuth");
	warns("clientonly", "ca.pem", "expected both serverAuth and clientAuth");
	cman_tls_ctx_free(NULL);
}
