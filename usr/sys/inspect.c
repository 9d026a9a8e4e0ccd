/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User space of the inspect programs: loads them, asks, and turns what the kernel stores into what
 * its system calls would have said (inspect.h tells why that can be believed).
 */
#include "usr/sys/inspect.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "cman.skel.h"
#include "usr/sys/repair_impl.h"

#define NSEC_PER_USEC 1000u
#define NSEC_PER_MSEC 1000000u
#define FAMILIES      2

/* The value is the stored number; or a function of it that is learned; or not of it alone. */
enum kind { DIRECT, LEARNED };

static const struct {
	enum cman_repair_option option;
	enum kind kind;
} table[CMAN_INSPECT_OPTIONS] = {
#define D(id) [CMAN_INSPECT_##id] = { CMAN_REPAIR_##id, DIRECT }
#define L(id) [CMAN_INSPECT_##id] = { CMAN_REPAIR_##id, LEARNED }
	D(REUSEADDR),
	D(REUSEPORT),
	D(V6ONLY),
	D(FREEBIND),
	D(TRANSPARENT),
	[CMAN_INSPECT_MARK] = { CMAN_REPAIR_MARK_OF_SOCKET, DIRECT },
	D(TOS),
	D(TCLASS),
	D(PRIORITY),
	L(TTL),
	L(HOPLIMIT),
	D(MINTTL),
	D(MINHOPCOUNT),
	D(MTU_DISCOVER),
	D(MTU_DISCOVER6),
	D(RECVERR),
	D(RECVERR6),
	L(AUTOFLOWLABEL),
	D(BIND_NO_PORT),
	D(PORT_RANGE),
	D(DONTROUTE),
	D(OOBINLINE),
	L(LINGER),
	L(RCVTIMEO),
	L(SNDTIMEO),
	D(BUSY_POLL),
	D(ZEROCOPY),
	D(TXREHASH),
	D(MAX_PACING_RATE),
	D(NODELAY),
	D(CORK),
	L(KEEPIDLE),
	L(KEEPINTVL),
	L(KEEPCNT),
	L(SYNCNT),
	L(LINGER2),
	L(DEFER_ACCEPT),
	D(USER_TIMEOUT),
	D(NOTSENT_LOWAT),
	D(THIN_LINEAR),
	D(INQ),
	D(TX_DELAY),
	[CMAN_INSPECT_RTO_MAX] = { CMAN_REPAIR_RTO_MAX_MS, LEARNED },
	[CMAN_INSPECT_RTO_MIN] = { CMAN_REPAIR_RTO_MIN_US, LEARNED },
	[CMAN_INSPECT_DELACK_MAX] = { CMAN_REPAIR_DELACK_MAX_US, LEARNED },
	D(RCVLOWAT),
	D(PEEK_OFF),
	D(RCVBUF),
	D(SNDBUF),
	D(WINDOW_CLAMP),
	D(BUF_LOCK),
	D(KEEPALIVE),
	[CMAN_INSPECT_PINGPONG] = { CMAN_REPAIR_QUICKACK, LEARNED },
#undef D
#undef L
};

struct learned {
	bool valid;
	int64_t raw, value;
};

struct cman_inspect {
	struct cman_bpf *skel;
	struct bpf_link *walk;
	struct cman_inspect_key *keys;
	struct cman_inspect_record *records;
	uint64_t want_cookies[CMAN_INSPECT_MAX]; /* what inspect_want holds */
	unsigned int want;
	bool compared[FAMILIES];
	uint64_t trusted[FAMILIES]; /* bits of cman_inspect_option */
	struct learned learned[FAMILIES][CMAN_INSPECT_OPTIONS];
	uint32_t hz;
};

static int family_index(const struct cman_inspect_record *record)
{
	return record->family == AF_INET6;
}

/* --- loading and asking */

static void *map_records(const struct bpf_map *map, size_t value_size, int prot)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t length = (CMAN_INSPECT_MAX * value_size + page - 1) / page * page;
	void *memory = mmap(NULL, length, prot, MAP_SHARED, bpf_map__fd(map), 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void unmap_records(void *memory, size_t value_size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (memory)
		munmap(memory, (CMAN_INSPECT_MAX * value_size + page - 1) / page * page);
}

/* The skeleton has the programs of all of cman; only ours are loaded. */
static int load(struct cman_bpf *skel)
{
	struct bpf_program *prog;
	struct bpf_map *map;
	int err = 0;

	bpf_object__for_each_program(prog, skel->obj) {
		bool ours = prog == skel->progs.cman_inspect_it ||
			    prog == skel->progs.cman_inspect_lk;

		err = bpf_program__set_autoload(prog, ours);
		if (err)
			return err;
	}
	bpf_object__for_each_map(map, skel->obj) {
		bool ours = bpf_map__is_internal(map) || map == skel->maps.inspect_want ||
			    map == skel->maps.inspect_keys || map == skel->maps.inspect_out;

		err = bpf_map__set_autocreate(map, ours);
		if (err)
			return err;
	}
	return cman_bpf__load(skel);
}

int cman_inspect_open(struct cman_inspect **ret, const char **ret_why)
{
	libbpf_print_fn_t print = getenv("CMAN_BPF_LOG") ? NULL : libbpf_set_print(NULL);
	struct cman_inspect *inspect = calloc(1, sizeof(*inspect));
	int err = -ENOMEM;

	*ret_why = "there is not enough memory";
	if (!inspect)
		goto out;
	inspect->skel = cman_bpf__open();
	if (!inspect->skel) {
		err = -errno;
		*ret_why = "the BPF object in this program is not readable";
		goto out;
	}
	*ret_why = "the kernel does not take the programs that read sockets "
		   "(CMAN_BPF_LOG=1 prints why)";
	err = load(inspect->skel);
	if (err)
		goto out;
	inspect->walk = bpf_program__attach_iter(inspect->skel->progs.cman_inspect_it, NULL);
	if (!inspect->walk) {
		err = -errno;
		goto out;
	}
	inspect->keys = map_records(inspect->skel->maps.inspect_keys, sizeof(*inspect->keys),
				    PROT_READ | PROT_WRITE);
	inspect->records = map_records(inspect->skel->maps.inspect_out, sizeof(*inspect->records),
				       PROT_READ | PROT_WRITE);
	if (!inspect->keys || !inspect->records)
		err = -ENOMEM;
out:
	if (print)
		libbpf_set_print(print);
	if (err)
		cman_inspect_close(inspect);
	else
		*ret = inspect;
	return err;
}

void cman_inspect_close(struct cman_inspect *inspect)
{
	if (!inspect)
		return;
	unmap_records(inspect->keys, sizeof(*inspect->keys));
	unmap_records(inspect->records, sizeof(*inspect->records));
	bpf_link__destroy(inspect->walk);
	cman_bpf__destroy(inspect->skel);
	free(inspect);
}

struct cman_inspect_key *cman_inspect_keys(struct cman_inspect *inspect)
{
	return inspect->keys;
}

static int look_up(struct cman_inspect *inspect, unsigned int n)
{
	/* "mark" is how many; a packet has at least an ethernet header */
	struct __sk_buff {
		uint32_t len, pkt_type, mark, rest[45];
	} context = { .mark = n };
	uint8_t packet[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = sizeof(packet),
		    .ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = 1);

	return bpf_prog_test_run_opts(bpf_program__fd(inspect->skel->progs.cman_inspect_lk), &opts);
}

/* Fills inspect_want in one call; whom the last pass asked for is taken out first. */
static int set_wanted(struct cman_inspect *inspect, unsigned int n)
{
	int fd = bpf_map__fd(inspect->skel->maps.inspect_want);
	uint32_t places[CMAN_INSPECT_MAX], count = inspect->want;
	int err;

	for (unsigned int i = 0; i < inspect->want; i++)
		bpf_map_delete_elem(fd, &inspect->want_cookies[i]);
	inspect->want = 0;
	for (unsigned int i = 0; i < n; i++) {
		inspect->want_cookies[i] = inspect->keys[i].cookie;
		places[i] = i;
	}
	count = n;
	err = bpf_map_update_batch(fd, inspect->want_cookies, places, &count, NULL);
	inspect->want = n;
	return err;
}

static int walk(struct cman_inspect *inspect, unsigned int n)
{
	char nothing[64];
	ssize_t got;
	int err, fd;

	err = set_wanted(inspect, n);
	if (err)
		return err;
	fd = bpf_iter_create(bpf_link__fd(inspect->walk));
	if (fd < 0)
		return fd;
	/* EAGAIN: the kernel has looked at many sockets without output */
	do
		got = read(fd, nothing, sizeof(nothing));
	while (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)));
	err = got < 0 ? -errno : 0;
	close(fd);
	return err;
}

int cman_inspect_read(struct cman_inspect *inspect, enum cman_inspect_way way, unsigned int n,
		      const struct cman_inspect_record **ret_records)
{
	int err;

	if (!n || n > CMAN_INSPECT_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < n; i++)
		inspect->records[i].flags = 0;
	err = way == CMAN_INSPECT_WALK ? walk(inspect, n) : look_up(inspect, n);
	if (!err)
		*ret_records = inspect->records;
	return err;
}

/* --- what it means */

void cman_inspect_forget(struct cman_inspect *inspect)
{
	memset(inspect->learned, 0, sizeof(inspect->learned));
}

/* Of one option; false: ask the kernel. */
static bool value_of(const struct cman_inspect *inspect, const struct cman_inspect_record *record,
		     int i, int64_t *ret_value)
{
	const struct learned *l = &inspect->learned[family_index(record)][i];
	int64_t raw = record->option[i];

	if (!(record->have & inspect->trusted[family_index(record)] & UINT64_C(1) << i))
		return false;
	if (table[i].kind == LEARNED) {
		*ret_value = l->value;
		return l->valid && l->raw == raw;
	}
	/* getsockopt() gives an int, except of this one */
	*ret_value = i == CMAN_INSPECT_MAX_PACING_RATE ? raw : (int32_t)raw;
	return true;
}

static void options_of(const struct cman_inspect *inspect, const struct cman_inspect_record *record,
		       uint64_t *have, int64_t option[CMAN_REPAIR_OPTIONS])
{
	for (int i = 0; i < CMAN_INSPECT_OPTIONS; i++) {
		if (value_of(inspect, record, i, &option[table[i].option]))
			*have |= CMAN_REPAIR_BIT(table[i].option);
	}
}

static bool is_link_local(const uint8_t addr[16])
{
	return addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

unsigned int cman_inspect_describe(struct cman_inspect *inspect,
				   const struct cman_inspect_record *record,
				   struct cman_repair_image *image)
{
	unsigned int known = CMAN_REPAIR_KNOWS_NAMES | CMAN_REPAIR_KNOWS_CONGESTION |
			     CMAN_REPAIR_KNOWS_NONBLOCK;
	int64_t option[CMAN_REPAIR_OPTIONS];
	uint64_t have = 0;

	if (!(record->flags & CMAN_INSPECT_FOUND) || !inspect->compared[family_index(record)])
		return 0;
	image->family = (uint8_t)record->family;
	memcpy(image->local_addr, record->local, 16);
	memcpy(image->peer_addr, record->peer, 16);
	image->local_port = record->local_port;
	image->peer_port = record->peer_port;
	if (record->family == AF_INET6 && is_link_local(record->local))
		image->scope_id = record->scope_id;
	image->nonblock = record->flags & CMAN_INSPECT_NONBLOCK;
	memcpy(image->congestion, record->congestion, sizeof(image->congestion));
	if (!(record->flags & CMAN_INSPECT_BOUND))
		known |= CMAN_REPAIR_KNOWS_DEVICE;
	options_of(inspect, record, &have, option);
	for (int i = 0; i < CMAN_REPAIR_OPTIONS; i++) {
		if (!(have & CMAN_REPAIR_BIT(i)) || !cman_repair_option_wanted(image, i))
			continue;
		image->option[i] = option[i];
		image->have |= CMAN_REPAIR_BIT(i);
	}
	return known;
}

/* Whether the program reads this kernel rightly: asked of the kernel itself, with a live socket. */
static void compare(struct cman_inspect *inspect, const struct cman_inspect_record *record, int fd,
		    const struct cman_repair_image *image)
{
	static const uint32_t rates[] = { 100, 250, 300, 1000 };
	int family = family_index(record);
	struct tcp_info info;
	uint64_t trusted = 0;

	/* the names, and where flags are in the file: the whole family, or nothing */
	if (image->family != record->family || memcmp(image->local_addr, record->local, 16) != 0 ||
	    memcmp(image->peer_addr, record->peer, 16) != 0 ||
	    image->local_port != record->local_port || image->peer_port != record->peer_port ||
	    image->nonblock != !!(record->flags & CMAN_INSPECT_NONBLOCK) ||
	    strncmp(image->congestion, record->congestion, sizeof(image->congestion)) != 0)
		return;
	for (int i = 0; i < CMAN_INSPECT_OPTIONS; i++) {
		enum cman_repair_option o = table[i].option;
		int64_t raw = i == CMAN_INSPECT_MAX_PACING_RATE ? record->option[i] :
								  (int32_t)record->option[i];

		if (!(record->have & UINT64_C(1) << i) || !(image->have & CMAN_REPAIR_BIT(o)))
			continue;
		if (table[i].kind == LEARNED || raw == image->option[o])
			trusted |= UINT64_C(1) << i;
	}
	if (cman_repair_info(fd, &info) || !info.tcpi_rto)
		return;
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		uint64_t us = (uint64_t)record->rto * 1000000 / rates[i];

		if (us <= info.tcpi_rto + 10 && us + 10 >= info.tcpi_rto)
			inspect->hz = rates[i];
	}
	if (!inspect->hz)
		return;
	inspect->trusted[family] = trusted;
	inspect->compared[family] = true;
}

void cman_inspect_verify(struct cman_inspect *inspect, const struct cman_inspect_record *record,
			 int fd)
{
	struct cman_repair_image image = { 0 };

	if (!(record->flags & CMAN_INSPECT_FOUND) || inspect->compared[family_index(record)])
		return;
	if (!cman_repair_describe(fd, &image, NULL))
		compare(inspect, record, fd, &image);
}

void cman_inspect_learn(struct cman_inspect *inspect, const struct cman_inspect_record *record,
			const struct cman_repair_image *image)
{
	int family = family_index(record);

	if (!(record->flags & CMAN_INSPECT_FOUND))
		return;
	for (int i = 0; i < CMAN_INSPECT_OPTIONS; i++) {
		struct learned *l = &inspect->learned[family][i];
		enum cman_repair_option o = table[i].option;

		if (table[i].kind != LEARNED || !(record->have & UINT64_C(1) << i) ||
		    !(image->have & CMAN_REPAIR_BIT(o)))
			continue;
		/* -1: each socket's own route says it */
		if (o == CMAN_REPAIR_HOPLIMIT && record->option[i] < 0)
			continue;
		*l = (struct learned){
			.valid = true,
			.raw = record->option[i],
			.value = image->option[o],
		};
	}
}

static uint32_t clock_of(const struct cman_inspect_record *record)
{
	if (record->flags & CMAN_INSPECT_USEC)
		return ((uint32_t)(record->now_ns / NSEC_PER_USEC) + record->tsoffset) | 1;
	return ((uint32_t)(record->now_ns / NSEC_PER_MSEC) + record->tsoffset) & ~1u;
}

static void speed_of(const struct cman_inspect *inspect, const struct cman_inspect_record *r,
		     struct cman_repair_speed *ret)
{
	*ret = (struct cman_repair_speed){
		.snd_cwnd = r->snd_cwnd,
		.snd_ssthresh = r->snd_ssthresh,
		.rtt_us = r->srtt_us8 / 8,
		.rttvar_us = r->mdev_us4 / 4,
		.min_rtt_us = r->min_rtt_us,
		.rto_us = inspect->hz ? (uint32_t)((uint64_t)r->rto * 1000000 / inspect->hz) : 0,
		.rcv_rtt_us = r->rcv_rtt_us8 / 8,
		.rcv_space = r->rcv_space,
		.rcv_ssthresh = r->rcv_ssthresh,
		.pacing_rate = r->pacing_rate,
		.delivery_rate = r->rate_interval_us ? (uint64_t)r->rate_delivered * r->mss_cache *
							       1000000 / r->rate_interval_us :
						       0,
	};
}

void cman_inspect_state(const struct cman_inspect *inspect,
			const struct cman_inspect_record *record,
			struct cman_repair_state *ret_state)
{
	const uint32_t not_plain = CMAN_INSPECT_ULP | CMAN_INSPECT_MPTCP | CMAN_INSPECT_MD5 |
				   CMAN_INSPECT_FILTER;
	struct cman_repair_state *s = ret_state;

	memset(s, 0, sizeof(*s));
	s->state = record->state;
	s->repair = record->flags & CMAN_INSPECT_REPAIR;
	s->plain = inspect->compared[family_index(record)] && !(record->flags & not_plain);
	s->urgent = record->urg_data;
	if (record->flags & CMAN_INSPECT_TIMESTAMPS)
		s->negotiated |= TCPI_OPT_TIMESTAMPS;
	if (record->flags & CMAN_INSPECT_SACK)
		s->negotiated |= TCPI_OPT_SACK;
	if (record->flags & CMAN_INSPECT_WSCALE)
		s->negotiated |= TCPI_OPT_WSCALE;
	/* TCP_ECN_OK, TCP_ECN_MODE_ACCECN; TCP_ECN_SEEN */
	if (record->ecn & 0x11)
		s->negotiated |= TCPI_OPT_ECN;
	if (record->ecn & 0x08)
		s->negotiated |= TCPI_OPT_ECN_SEEN;
	s->snd_wscale = record->snd_wscale;
	s->rcv_wscale = record->rcv_wscale;
	s->usec_timestamps = record->flags & CMAN_INSPECT_USEC;
	s->snd_una = record->snd_una;
	s->snd_nxt = record->snd_nxt;
	s->write_seq = record->write_seq;
	s->rcv_nxt = record->rcv_nxt;
	s->copied_seq = record->copied_seq;
	s->mss = record->mss_clamp;
	s->timestamp = clock_of(record);
	s->window = (struct cman_repair_window){
		.snd_wl1 = record->snd_wl1,
		.snd_wnd = record->snd_wnd,
		.max_window = record->max_window,
		.rcv_wnd = record->rcv_wnd,
		.rcv_wup = record->rcv_wup,
	};
	speed_of(inspect, record, &s->speed);
	s->bytes_received = record->bytes_received;
	s->bytes_acked = record->bytes_acked;
	options_of(inspect, record, &s->have, s->option);
}
