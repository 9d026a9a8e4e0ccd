/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one picture of cman-bench: options, event loop, worker crew, counters.
 *
 * A verb is a file with one run function. It embeds struct worker in a structure of its own, gives
 * the crew its callbacks and reads the merged counters when the crew has come home. Every worker
 * has its own thread, event loop, sessions and counters; only struct crew is shared.
 * Times are CLOCK_MONOTONIC nanoseconds in uint64_t. Functions return 0 or -errno.
 */
#ifndef CMAN_BENCH_H
#define CMAN_BENCH_H

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

#define NSEC_PER_SEC  1000000000ull
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_USEC 1000ull

#define ARRAY_SIZE(a)	      (sizeof(a) / sizeof((a)[0]))
#define container_of(p, t, m) ((t *)((char *)(p)-offsetof(t, m)))

enum bench_exit {
	EXIT_VERIFIED = 0, /* everything asked for was done and verified */
	EXIT_FAILED = 1,   /* a session was lost, refused or wrong */
	EXIT_USAGE = 2,
};

/* ---- options (main.c holds the table, option.c sets values) ---- */

struct address {
	struct sockaddr_storage sa;
	socklen_t len;
};

struct address_list {
	struct address *v;
	size_t nr;
};

struct pid_list {
	pid_t *v;
	size_t nr;
};

enum serve_mode { SERVE_ECHO, SERVE_SINK, SERVE_SOURCE, SERVE_HOLD, SERVE_HTTP_LESS };
enum close_mode { CLOSE_FIN, CLOSE_RST, CLOSE_WAIT };
enum direction { DIRECTION_UP, DIRECTION_DOWN };

struct bench_options {
	const struct verb *verb;

	struct address_list connect;
	struct address_list hold_connect;
	struct address_list listen;
	struct address_list source;
	struct pid_list cpu_of;

	uint64_t sessions;
	uint64_t slow;
	uint64_t half_close;
	uint64_t idle;
	uint64_t clients;
	uint64_t connections;
	uint64_t threads;
	uint64_t rate;
	uint64_t backlog;
	uint64_t parallel_connects;

	uint64_t size;
	uint64_t bytes;
	uint64_t window;
	uint64_t slow_rate;
	uint64_t seed;

	uint64_t interval; /* this and the following in nanoseconds */
	uint64_t duration;
	uint64_t warmup;
	uint64_t connect_timeout;
	uint64_t timeout;
	uint64_t drain_timeout;
	uint64_t delay_read;
	uint64_t late;

	uint64_t mode;	    /* enum serve_mode */
	uint64_t close;	    /* enum close_mode */
	uint64_t direction; /* enum direction */

	bool tls;
	bool tls_split;
	bool tls_resume;
	uint64_t tls_version; /* 0: any */
	uint64_t tls_update;
	uint64_t tls_pad;
	const char *tls_cipher;
	const char *tls_ca;
	const char *tls_name;
	const char *tls_cert;
	const char *tls_key;
	const char *tls_alpn;
	const char *tls_keylog;
	struct tls_context *tls_context; /* made of these */

	bool reconnect;
	bool progress;
	bool verify;
	bool discard;
	bool zero_copy;
	bool json;
	bool help;

	int64_t ready_fd; /* -1: none */
	const char *ready_file;
};

enum opt_type {
	OPT_FLAG,
	OPT_COUNT,
	OPT_BYTES,
	OPT_SECONDS,
	OPT_MSEC,
	OPT_WORD,
	OPT_ADDRESS, /* repeated; host and port */
	OPT_SOURCE,  /* repeated; host only */
	OPT_PIDS,
	OPT_PATH,
	OPT_TEXT,
	OPT_FD,
};

struct option_def {
	const char *name;
	char letter;
	const char *metavar;
	const char *help;
	unsigned int verbs;    /* bit mask of the verbs that take it */
	unsigned int required; /* bit mask of the verbs that cannot do without it */
	enum opt_type type;
	size_t offset;
	uint64_t min, max;
	const char *const *words;
};

struct preset {
	const char *option;
	const char *value;
};

struct verb {
	const char *name;
	const char *summary;
	int (*run)(struct bench_options *opt);
	const struct preset *presets;
};

int option_set(struct bench_options *opt, const struct option_def *def, const char *value);
void options_release(struct bench_options *opt);
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- addresses and clients (net.c) ---- */

#define ADDRESS_TEXT 64

/* Why a connection failed. FAIL_LOCAL is a limit of this machine (ports, descriptors, memory). */
enum fail {
	FAIL_NONE,
	FAIL_REFUSED,
	FAIL_RESET,
	FAIL_TIMEOUT,
	FAIL_EOF,
	FAIL_UNREACHABLE,
	FAIL_LOCAL,
	FAIL_WRONG,
	FAIL_TLS,
	FAIL_TRUNCATED, /* TLS without close_notify */
	FAIL_OTHER,
	FAIL_MAX
};

int address_parse(const char *text, bool with_port, struct address *ret);
void address_format(const struct address *a, char *buf, size_t len);
void address_of_socket(int fd, bool remote, char *buf, size_t len);
int net_listen(const struct address *a, int backlog, int *ret_fd);
int net_connect(const struct bench_options *opt, const struct address_list *to, uint64_t index,
		int rcvbuf, int *ret_fd);
int net_error(int fd);
void net_reset(int fd);
enum fail fail_of_errno(int err);
const char *fail_name(enum fail f);

/* ---- the pattern that streams carry (pattern.c) ---- */

#define SOURCE_PERIOD 1048568u /* 8 times the prime 131071: no buffer size divides it */
#define SOURCE_SPAN   262144u  /* contiguous bytes that may be sent from any offset */
#define HOLD_HEADER   24u      /* received, wrong, length: big-endian, 64 bits each */

uint64_t pattern_seed(uint64_t run, uint64_t session, uint64_t generation);
uint64_t pattern_reply_seed(uint64_t seed);
void pattern_fill(uint64_t seed, uint64_t pos, void *buf, size_t len);
uint64_t pattern_check(uint64_t seed, uint64_t pos, const void *buf, size_t len, size_t *ret_first);
bool pattern_find(uint64_t seed, uint64_t pos, uint64_t reach, const void *sample, size_t len,
		  int64_t *ret_shift);
int source_open(const unsigned char **ret_data, int *ret_memfd);

/* ---- histogram (hist.c) ---- */

#define HIST_BITS    7 /* 128 steps per power of two: below 0.8 % error */
#define HIST_BUCKETS ((64 - HIST_BITS + 1) << HIST_BITS)

struct hist {
	uint64_t count;
	uint64_t sum;
	uint64_t min;
	uint64_t max;
	uint64_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t value);
void hist_merge(struct hist *to, const struct hist *from);
uint64_t hist_quantile(const struct hist *h, double q);
json_t *hist_json(const struct hist *h, double unit);

/* ---- event loop (loop.c) ---- */

struct loop;

struct io {
	int fd; /* -1: closed */
	uint32_t events;
	void (*fn)(struct loop *l, struct io *io, uint32_t events);
	struct io *next_dead;
};

struct timer {
	uint64_t due;
	size_t pos; /* place in the heap plus one; 0: not armed */
	bool patient;
	uint64_t stood; /* of the loop, when a patient one was armed */
	void (*fn)(struct loop *l, struct timer *t);
};

struct loop {
	int epfd;
	bool quit;
	uint64_t now;	/* when the last wait returned */
	uint64_t stood; /* how long in all it came too late to its deadlines */
	struct timer **heap;
	size_t nr_timers, cap_timers;
	struct io far; /* timerfd for deadlines that are far away */
	uint64_t far_due;
	struct io *dead;
};

uint64_t now_ns(void);
int loop_init(struct loop *l);
void loop_fini(struct loop *l);
int loop_add(struct loop *l, struct io *io, uint32_t events);
int loop_mod(struct loop *l, struct io *io, uint32_t events);
void loop_close(struct loop *l, struct io *io);
void loop_free_later(struct loop *l, struct io *io);
int timer_arm(struct loop *l, struct timer *t, uint64_t due);
/* In @wait ns, and later by what the loop stands still meanwhile: a limit to what others may take. */
int timer_arm_patient(struct loop *l, struct timer *t, uint64_t wait);
void timer_cancel(struct loop *l, struct timer *t);
int loop_run(struct loop *l);

/* ---- connections, plain or TLS (transport.c, tls.c) ---- */

#include "transport.h"

/* ---- CPU and memory of other processes (proc.c) ---- */

struct usage {
	uint64_t cpu_ns;
	uint64_t rss_bytes;
	uint64_t pss_bytes;
	bool complete; /* false: a process had gone */
};

int usage_sample(const struct pid_list *pids, bool memory, struct usage *ret);

/* ---- the crew of workers (crew.c) ---- */

enum phase {
	PHASE_OPEN,  /* sessions are being established */
	PHASE_WARM,  /* all are; nothing is recorded yet */
	PHASE_RUN,   /* recorded */
	PHASE_STOP,  /* end gracefully: send no more, read the rest back */
	PHASE_ABORT, /* end now */
};

struct tally {
	uint64_t opened;    /* connections established */
	uint64_t completed; /* ended as they should */
	uint64_t lost;
	uint64_t connect_failed;
	uint64_t reconnects;
	uint64_t ops;	/* operations within PHASE_RUN */
	uint64_t bytes; /* payload bytes within PHASE_RUN */
	uint64_t sent;
	uint64_t verified;
	uint64_t wrong;
	uint64_t skipped; /* sends left out because the window was full */
	uint64_t late;
	uint64_t held_sent; /* half-closed sessions, counted apart */
	uint64_t held_verified;
	uint64_t held_open;
	uint64_t tls_handshakes;
	uint64_t tls_errors; /* handshakes and sessions that failed */
	uint64_t tls_truncated;
	uint64_t tls_alerts; /* received, without close_notify */
	uint64_t tls_updates_sent;
	uint64_t tls_updates_received;
	uint64_t tls_resumed;
	uint64_t fails[FAIL_MAX];
};

/* Single writer, read by the progress line of another thread. */
static inline void tally_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

#define SCRATCH_BYTES 262144u

struct crew;

struct worker {
	struct crew *crew;
	const struct bench_options *opt;
	unsigned int index;
	enum phase phase; /* as this worker has seen it */
	bool done;
	struct loop loop;
	struct io wake;
	struct tally tally;
	struct hist latency;
	unsigned char *scratch;
	const char *tls_version, *tls_cipher; /* of its sessions; "mixed" when they differ */
	char tls_alpn[64];		      /* of the first */
	struct ssl_session_st *tls_session;   /* to be resumed */
	pthread_t thread;
	int err;
};

struct crew_ops {
	size_t worker_size;
	int (*start)(struct worker *w);
	void (*phase)(struct worker *w, enum phase phase);
	void (*progress)(struct crew *c, char *buf, size_t len);
	void (*fini)(struct worker *w);
};

struct crew {
	struct bench_options *opt;
	const struct crew_ops *ops;
	void *verb;	  /* the verb's own shared data */
	char *ready_text; /* NULL: "ready <sessions alive>" */
	uint64_t total;	  /* sessions that settle before the run starts */
	bool want_memory;

	struct worker **workers;
	unsigned int nr_workers;
	atomic_ullong settled;
	atomic_uint done;
	atomic_int phase;
	struct timer clock; /* of worker 0: duration, warm-up, drain timeout */
	struct timer tick;  /* of worker 0: progress */
	uint64_t t_start, t_run, t_stop, t_end;
	struct usage at_start, at_run, at_stop;
	pthread_mutex_t lock;
	json_t *incidents;
	uint64_t nr_incidents;
};

int crew_run(struct crew *c);
void crew_fini(struct crew *c);
void crew_settled(struct worker *w);
void crew_worker_done(struct worker *w);
void crew_incident(struct worker *w, uint64_t session, enum fail why, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void crew_share(const struct worker *w, uint64_t total, uint64_t *ret_first, uint64_t *ret_nr);
struct tally crew_tally(const struct crew *c);
void crew_latency(const struct crew *c, struct hist *ret);
double crew_seconds(const struct crew *c);

/* ---- reports (report.c) ---- */

json_t *report_new(const struct crew *c);
void report_u64(json_t *o, const char *key, uint64_t v);
void report_real(json_t *o, const char *key, double v);
void report_failures(json_t *o, const struct tally *t);
void report_cpu(json_t *o, const struct crew *c, const char *per, double units);
void report_memory(json_t *o, const struct crew *c, double sessions);
int report_finish(const struct crew *c, json_t *o, bool ok);
int ready_announce(const struct bench_options *opt, const char *text);

/* ---- one connect-send-verify-close (exchange.c), used by connrate and probe ---- */

struct exchange {
	struct transport conn; /* first: probe frees it through the loop */
	struct timer timer;
	struct worker *w;
	void (*done)(struct exchange *x, enum fail result);
	uint64_t id;
	uint64_t seed;
	uint64_t t_start; /* when it was due */
	uint64_t t_connected;
	uint64_t t_verified;
	uint64_t sent;
	uint64_t got;
	bool connected;
	bool closing;
};

void exchange_start(struct exchange *x);
void exchange_abort(struct exchange *x);

/* ---- long-lived verified sessions (session.c), used by stream and idle ---- */

struct session_totals {
	uint64_t sessions;
	uint64_t half_closed;
	uint64_t half_completed;
	uint64_t half_open;
	uint64_t server_wrong;
	uint64_t missing; /* sent and never seen again */
	uint64_t chunks;
	uint64_t gap_max, gap_max_session, gap_max_at;
	struct hist gap_session; /* longest gap of each session */
	struct hist gap_chunk;	 /* of each chunk */
};

int sessions_run(struct crew *c);
int sessions_totals(struct crew *c, struct session_totals *ret);

/* ---- verbs ---- */

int verb_serve(struct bench_options *opt);
int verb_stream(struct bench_options *opt);
int verb_pingpong(struct bench_options *opt);
int verb_connrate(struct bench_options *opt);
int verb_probe(struct bench_options *opt);
int verb_bulk(struct bench_options *opt);
int verb_idle(struct bench_options *opt);

#endif
