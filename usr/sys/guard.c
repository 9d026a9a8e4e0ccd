/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The owner's side of the guard (guard.h tells the story). Entries change only by orders to the
 * program cman_guard_cmd, 64 tuples a system call, because packets count in them meanwhile; frames
 * go through one pump. Three facts carry the strict order:
 *
 *	- the program lets a packet in directly only when the bytes parked are the bytes returned
 *	- a frame that we write back passes the same program, which decides then: so there is no
 *	  difference between going in and going to another machine
 *	- bytes that are still missing when every CPU has passed the fence and the device is empty
 *	  were lost to a full queue: they are written off, or the tuple would never open
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/membarrier.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "cman.skel.h"
#include "usr/sys/guard.h"

struct frame {
	struct frame *next;
	size_t length;
	uint8_t data[];
};

enum session_state {
	PARKED,
	DRAINING, /* DRAIN or FORWARD: its frames go back at once */
	DISCARD,
};

struct cman_guard_session {
	struct cman_tuple tuple;
	enum session_state state;
	struct frame *first, **last;
	int64_t missing; /* bytes parked at the last look, less those written back since */
	UT_hash_handle hh;
};

static uint64_t boot_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t lease_end(uint32_t lease_ms)
{
	return boot_ns() + (uint64_t)lease_ms * 1000000u;
}

/* ---------------------------------------------------------------------------------------------
 * Orders
 */

/* One system call; g->cmd is filled in, except for what every order has. */
static int run_order(struct cman_guard *g, enum cman_guard_op op, uint32_t n)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	int err;

	g->cmd->op = op;
	g->cmd->n = n;
	g->cmd->epoch = g->epoch;
	err = bpf_prog_test_run_opts(g->order_fd, &opts);
	return err ? err : (int)opts.retval;
}

/* The next batch of @tuple[@n]; returns how many. */
static uint32_t next_batch(struct cman_guard *g, const struct cman_tuple *tuple, size_t n)
{
	uint32_t count = n < CMAN_GUARD_BATCH ? (uint32_t)n : CMAN_GUARD_BATCH;

	memcpy(g->cmd->tuple, tuple, count * sizeof(*tuple));
	return count;
}

/* One order for all; the first error, after all were tried. */
static int order_all(struct cman_guard *g, enum cman_guard_op op, const struct cman_tuple *tuple,
		     size_t n, int fine)
{
	int ret = 0;

	while (n) {
		uint32_t count = next_batch(g, tuple, n);
		int err = run_order(g, op, count);

		if (err)
			return err;
		for (uint32_t i = 0; i < count; i++) {
			if (g->cmd->result[i] && g->cmd->result[i] != fine && !ret)
				ret = g->cmd->result[i];
		}
		tuple += count;
		n -= count;
	}
	return ret;
}

/* ---------------------------------------------------------------------------------------------
 * The fence
 */

/*
 * A CPU that runs us has left the softirq that it was in. In front of all ordinary tasks for that
 * moment: on a busy machine we would wait for the end of their time slices, with the guard closed.
 * Without CAP_SYS_NICE we do. Where we may not run on each CPU, an RCU grace period says the same,
 * a hundred times slower.
 */
static bool hurry(struct sched_param *ret_before, int *ret_policy)
{
	const struct sched_param first = { .sched_priority = 1 };

	*ret_policy = sched_getscheduler(0);
	return (*ret_policy == SCHED_OTHER || *ret_policy == SCHED_BATCH) &&
	       !sched_getparam(0, ret_before) &&
	       !sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first);
}

static bool visit_cpus(long cpus)
{
	cpu_set_t before, one;
	long reached = 0;

	if (sched_getaffinity(0, sizeof(before), &before))
		return false;
	for (int cpu = 0; cpu < CPU_SETSIZE && reached < cpus; cpu++) {
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (!sched_setaffinity(0, sizeof(one), &one))
			reached++;
	}
	sched_setaffinity(0, sizeof(before), &before);
	return cpus > 0 && reached >= cpus;
}

int cman_guard_fence(const struct cman_guard *g)
{
	struct sched_param before;
	bool hurried, visited;
	int policy;

	hurried = hurry(&before, &policy);
	visited = visit_cpus(g->cpus);
	if (hurried)
		sched_setscheduler(0, policy, &before);
	if (visited)
		return 0;
	return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) ? -errno : 0;
}

/* ---------------------------------------------------------------------------------------------
 * Sessions: the tuples that are parked or draining, and their frames in memory
 */
static struct cman_guard_session *find(const struct cman_guard *g, const struct cman_tuple *tuple)
{
	struct cman_guard_session *session;

	HASH_FIND(hh, g->sessions, tuple, sizeof(*tuple), session);
	return session;
}

static struct cman_guard_session *add(struct cman_guard *g, const struct cman_tuple *tuple)
{
	struct cman_guard_session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	session->tuple = *tuple;
	session->last = &session->first;
	HASH_ADD(hh, g->sessions, tuple, sizeof(session->tuple), session);
	if (!session->hh.tbl) {
		free(session);
		return NULL;
	}
	return session;
}

static void set_state(struct cman_guard *g, struct cman_guard_session *session,
		      enum session_state state)
{
	g->draining -= session->state == DRAINING;
	g->draining += state == DRAINING;
	session->state = state;
}

static void free_frames(struct cman_guard *g, struct cman_guard_session *session)
{
	struct frame *frame;

	while ((frame = session->first)) {
		session->first = frame->next;
		g->held -= frame->length;
		free(frame);
	}
	session->last = &session->first;
}

static void forget_session(struct cman_guard *g, struct cman_guard_session *session)
{
	set_state(g, session, PARKED);
	free_frames(g, session);
	HASH_DEL(g->sessions, session);
	free(session);
}

static void hold_frame(struct cman_guard *g, struct cman_guard_session *session, const void *data,
		       size_t length)
{
	struct frame *frame;

	frame = g->held + length <= g->held_max ? malloc(sizeof(*frame) + length) : NULL;
	if (!frame) {
		g->overflowed++;
		return;
	}
	frame->next = NULL;
	frame->length = length;
	memcpy(frame->data, data, length);
	*session->last = frame;
	session->last = &frame->next;
	g->held += length;
}

/* ---------------------------------------------------------------------------------------------
 * Frames
 */

/* The tuple of a parked frame and what it weighs: as guard_parse() of the program has it. */
static bool parse(const uint8_t *frame, size_t length, struct cman_tuple *ret_tuple,
		  int64_t *ret_weight)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	size_t offset = CMAN_PARK_HEADER + ETH_HLEN, headers;
	struct cman_tuple tuple;
	struct ethhdr ether;
	struct tcphdr tcp;

	if (length < offset)
		return false;
	memcpy(&ether, frame + CMAN_PARK_HEADER, sizeof(ether));
	if (ether.h_proto == htons(ETH_P_IP)) {
		struct iphdr ip;

		if (length < offset + sizeof(ip))
			return false;
		memcpy(&ip, frame + offset, sizeof(ip));
		if (ip.protocol != IPPROTO_TCP)
			return false;
		offset += ip.ihl * 4u;
		memcpy(tuple.local_addr, mapped, 12);
		memcpy(tuple.local_addr + 12, &ip.daddr, 4);
		memcpy(tuple.peer_addr, mapped, 12);
		memcpy(tuple.peer_addr + 12, &ip.saddr, 4);
	} else if (ether.h_proto == htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (length < offset + sizeof(ip))
			return false;
		memcpy(&ip, frame + offset, sizeof(ip));
		if (ip.nexthdr != IPPROTO_TCP)
			return false;
		offset += sizeof(ip);
		memcpy(tuple.local_addr, &ip.daddr, 16);
		memcpy(tuple.peer_addr, &ip.saddr, 16);
	} else {
		return false;
	}
	if (length < offset + sizeof(tcp))
		return false;
	memcpy(&tcp, frame + offset, sizeof(tcp));
	tuple.local_port = ntohs(tcp.dest);
	tuple.peer_port = ntohs(tcp.source);
	headers = offset + tcp.doff * 4u;
	*ret_weight = length > headers ? (int64_t)(length - headers) : 1;
	*ret_tuple = tuple;
	return true;
}

/* Frames in memory are older than those in the device. */
static int write_held(struct cman_guard *g, struct cman_guard_session *session)
{
	struct frame *frame;
	int written = 0;

	for (frame = session->first; frame; frame = frame->next)
		written += !cman_park_write(&g->park, frame->data, frame->length);
	free_frames(g, session);
	return written;
}

/*
 * Empties the device, up to the budget. Returns how many frames were written back; *ret_empty:
 * there are no more.
 */
static int empty_device(struct cman_guard *g, bool *ret_empty)
{
	int written = 0;

	*ret_empty = false;
	for (unsigned int i = 0; i < CMAN_GUARD_BUDGET; i++) {
		struct cman_guard_session *session = NULL;
		struct cman_tuple tuple;
		int64_t weight;
		ssize_t length;

		length = cman_park_read(&g->park, g->frame, CMAN_PARK_FRAME);
		if (length == -EAGAIN) {
			*ret_empty = true;
			break;
		}
		if (length < 0)
			return (int)length;
		/* not ours: the device's program drops it */
		if (!parse(g->frame, (size_t)length, &tuple, &weight))
			continue;
		session = find(g, &tuple);
		if (session && session->state == PARKED) {
			hold_frame(g, session, g->frame, (size_t)length);
			continue;
		}
		if (session && session->state == DISCARD)
			continue;
		if (session)
			session->missing -= weight;
		written += !cman_park_write(&g->park, g->frame, (size_t)length);
	}
	return written;
}

/*
 * Asks of all draining tuples whether they are empty, and forgets those that are. @settle: with
 * what is missing written off. Returns 0 or -errno.
 */
static int finish_draining(struct cman_guard *g, bool settle)
{
	struct cman_guard_session *session = g->sessions, *next, *asked[CMAN_GUARD_BATCH];
	uint32_t n;
	int err;

	while (g->draining && session) {
		for (n = 0; session && n < CMAN_GUARD_BATCH; session = next) {
			next = session->hh.next;
			if (session->state != DRAINING)
				continue;
			g->cmd->tuple[n] = session->tuple;
			g->cmd->parked[n] = 0;
			if (settle && session->missing > 0) {
				g->cmd->parked[n] = session->missing;
				g->lost += (uint64_t)session->missing;
			}
			asked[n++] = session;
		}
		if (!n)
			break;
		err = run_order(g, settle ? CMAN_GUARD_OP_SETTLE : CMAN_GUARD_OP_FINISH, n);
		if (err)
			return err;
		for (uint32_t i = 0; i < n; i++) {
			asked[i]->missing = g->cmd->parked[i];
			if (g->cmd->result[i] != -EAGAIN)
				forget_session(g, asked[i]);
		}
	}
	return 0;
}

int cman_guard_pump(struct cman_guard *g)
{
	int written, more, err;
	bool empty;

	written = empty_device(g, &empty);
	if (written < 0 || !empty || !g->draining)
		return written;
	err = finish_draining(g, false);
	if (err)
		return err;
	if (!g->draining)
		return written;
	/* on its way into the device, or lost: behind the fence only the latter is left */
	err = cman_guard_fence(g);
	if (err)
		return err;
	more = empty_device(g, &empty);
	if (more < 0)
		return more;
	if (empty)
		err = finish_draining(g, true);
	return err ? err : written + more;
}

size_t cman_guard_draining(const struct cman_guard *g)
{
	return g->draining;
}

int cman_guard_fd(const struct cman_guard *g)
{
	return g->park.fd;
}

/* ---------------------------------------------------------------------------------------------
 * Closing and opening
 */
int cman_guard_park(struct cman_guard *g, const struct cman_tuple *tuple, size_t n, uint64_t batch,
		    uint32_t lease_ms)
{
	size_t done = 0;
	int err = 0;

	for (size_t i = 0; i < n; i++) {
		struct cman_guard_session *session = find(g, &tuple[i]);

		if (!session)
			session = add(g, &tuple[i]);
		if (!session) {
			err = -ENOMEM;
			goto err_open;
		}
		set_state(g, session, PARKED);
	}
	while (done < n) {
		uint32_t count = next_batch(g, tuple + done, n - done);

		g->cmd->expires_ns = lease_end(lease_ms);
		g->cmd->batch = batch;
		g->cmd->action = CMAN_GUARD_PARK;
		err = run_order(g, CMAN_GUARD_OP_SET, count);
		for (uint32_t i = 0; i < count && !err; i++)
			err = g->cmd->result[i];
		if (err)
			goto err_open;
		done += count;
	}
	err = cman_guard_fence(g);
	if (!err)
		return 0;

err_open:
	/* those without an entry are forgotten by it */
	cman_guard_thaw(g, tuple, n);
	return err;
}

int cman_guard_renew(struct cman_guard *g, const struct cman_tuple *tuple, size_t n,
		     uint32_t lease_ms)
{
	g->cmd->expires_ns = lease_end(lease_ms);
	return order_all(g, CMAN_GUARD_OP_RENEW, tuple, n, 0);
}

/* DRAIN or FORWARD for all, then as much of the pump as there is to do. */
static int open_to(struct cman_guard *g, const struct cman_tuple *tuple, size_t n,
		   enum cman_guard_action action, const struct cman_guard_hop *hop,
		   uint32_t lease_ms)
{
	int ret = 0, err;

	while (n) {
		uint32_t count = next_batch(g, tuple, n);

		g->cmd->action = action;
		g->cmd->expires_ns = lease_end(lease_ms);
		g->cmd->hop = hop ? *hop : (struct cman_guard_hop){ 0 };
		err = run_order(g, CMAN_GUARD_OP_CHANGE, count);
		if (err)
			return err;
		for (uint32_t i = 0; i < count; i++) {
			struct cman_guard_session *session = find(g, &tuple[i]);
			int result = g->cmd->result[i];

			/* gone already, and so open */
			if (result == -ENOENT && action == CMAN_GUARD_DRAIN)
				result = 0;
			if (result) {
				ret = ret ? ret : result;
				continue;
			}
			/* a predecessor's, which may have counted frames that died with it */
			if (!session)
				session = add(g, &tuple[i]);
			if (!session) {
				ret = ret ? ret : -ENOMEM;
				continue;
			}
			set_state(g, session, DRAINING);
		}
		for (uint32_t i = 0; i < count; i++) {
			struct cman_guard_session *session = find(g, &tuple[i]);

			if (session && session->state == DRAINING)
				write_held(g, session);
		}
		tuple += count;
		n -= count;
	}
	err = cman_guard_pump(g);
	if (ret || err < 0)
		return ret ? ret : err;
	return (int)g->draining;
}

int cman_guard_thaw(struct cman_guard *g, const struct cman_tuple *tuple, size_t n)
{
	return open_to(g, tuple, n, CMAN_GUARD_DRAIN, NULL, CMAN_GUARD_DRAIN_MS);
}

int cman_guard_forward(struct cman_guard *g, const struct cman_tuple *tuple, size_t n,
		       const struct cman_guard_hop *hop, uint32_t lease_ms)
{
	return open_to(g, tuple, n, CMAN_GUARD_FORWARD, hop, lease_ms);
}

int cman_guard_local(struct cman_guard *g, const struct cman_tuple *tuple, size_t n,
		     uint32_t lease_ms)
{
	g->cmd->expires_ns = lease_end(lease_ms);
	g->cmd->batch = 0;
	g->cmd->action = CMAN_GUARD_LOCAL;
	return order_all(g, CMAN_GUARD_OP_SET, tuple, n, 0);
}

int cman_guard_drop(struct cman_guard *g, const struct cman_tuple *tuple, size_t n)
{
	bool parked = false, empty = false;
	int err, ret;

	for (size_t i = 0; i < n; i++) {
		struct cman_guard_session *session = find(g, &tuple[i]);

		if (!session)
			continue;
		set_state(g, session, DISCARD);
		free_frames(g, session);
		parked = true;
	}
	/* what is in the device now, and what is about to get there: no more than its queue, twice */
	for (int round = 0; parked && round < 2; round++) {
		for (int i = 0; i < CMAN_PARK_QUEUE / CMAN_GUARD_BUDGET + 1 && !empty; i++) {
			err = empty_device(g, &empty);
			if (err < 0)
				return err;
		}
		empty = false;
		err = round ? 0 : cman_guard_fence(g);
		if (err)
			return err;
	}
	ret = order_all(g, CMAN_GUARD_OP_DELETE, tuple, n, -ENOENT);
	for (size_t i = 0; i < n; i++) {
		struct cman_guard_session *session = find(g, &tuple[i]);

		if (session)
			forget_session(g, session);
	}
	return ret;
}

/* ---------------------------------------------------------------------------------------------
 * Entries
 */
int cman_guard_each(const struct cman_guard *g, cman_guard_each_fn fn, void *arg)
{
	struct cman_tuple tuple, *previous = NULL;
	struct cman_frozen entry;
	int err;

	while (!(err = bpf_map_get_next_key(g->frozen_fd, previous, &tuple))) {
		if (!bpf_map_lookup_elem(g->frozen_fd, &tuple, &entry))
			fn(arg, &tuple, &entry);
		previous = &tuple;
	}
	return err == -ENOENT ? 0 : err;
}

struct collected {
	struct cman_guard *g;
	struct cman_tuple *tuple;
	size_t n, size;
	uint64_t expired_at; /* 0: all */
	bool open;	     /* PARK and DRAIN only */
	int err;
};

static void collect(void *arg, const struct cman_tuple *tuple, const struct cman_frozen *entry)
{
	struct collected *all = arg;

	if (all->expired_at && (entry->expires_ns > all->expired_at || find(all->g, tuple)))
		return;
	if (all->open && entry->action != CMAN_GUARD_PARK && entry->action != CMAN_GUARD_DRAIN)
		return;
	if (all->n == all->size) {
		size_t size = all->size ? 2 * all->size : CMAN_GUARD_BATCH;
		struct cman_tuple *more = reallocarray(all->tuple, size, sizeof(*more));

		if (!more) {
			all->err = -ENOMEM;
			return;
		}
		all->tuple = more;
		all->size = size;
	}
	all->tuple[all->n++] = *tuple;
}

int cman_guard_sweep(struct cman_guard *g)
{
	struct collected all = { .g = g, .expired_at = boot_ns() };
	int err;

	err = cman_guard_each(g, collect, &all);
	if (!err)
		err = order_all(g, CMAN_GUARD_OP_DELETE, all.tuple, all.n, -ENOENT);
	free(all.tuple);
	return err ? err : (int)all.n;
}

int cman_guard_counts(const struct cman_guard *g, struct cman_guard_counts *ret_counts)
{
	int cpus = libbpf_num_possible_cpus(), err;
	struct cman_guard_counts *all, sum = { 0 };
	const size_t words = sizeof(sum) / sizeof(uint64_t);
	uint32_t zero = 0;

	if (cpus < 0)
		return cpus;
	all = calloc((size_t)cpus, sizeof(*all));
	if (!all)
		return -ENOMEM;
	err = bpf_map_lookup_elem(g->counts_fd, &zero, all);
	for (int cpu = 0; !err && cpu < cpus; cpu++) {
		for (size_t i = 0; i < words; i++)
			((uint64_t *)&sum)[i] += ((uint64_t *)&all[cpu])[i];
	}
	free(all);
	if (!err)
		*ret_counts = sum;
	return err;
}

int cman_guard_address(struct cman_guard *g, const uint8_t addr[16], enum cman_moving_mode mode,
		       const struct cman_guard_hop *hop, uint32_t lease_ms)
{
	struct cman_moving value, before;

	value = (struct cman_moving){ .mode = mode, .expires_ns = lease_end(lease_ms) };
	if (mode != CMAN_MOVING_ARRIVING) {
		if (!hop)
			return -EINVAL;
		value.hop = *hop;
	}
	/* the same move goes on: what it has begun still counts */
	value.id = boot_ns();
	if (!bpf_map_lookup_elem(g->moving_fd, addr, &before) && before.expires_ns > value.id &&
	    !memcmp(&before.hop, &value.hop, sizeof(value.hop)))
		value.id = before.id;
	return bpf_map_update_elem(g->moving_fd, addr, &value, BPF_ANY);
}

int cman_guard_address_get(const struct cman_guard *g, const uint8_t addr[16],
			   struct cman_moving *ret)
{
	return bpf_map_lookup_elem(g->moving_fd, addr, ret);
}

int cman_guard_address_clear(struct cman_guard *g, const uint8_t addr[16])
{
	int err = bpf_map_delete_elem(g->moving_fd, addr);

	return err == -ENOENT ? 0 : err;
}

int cman_guard_open_foreign(const char *pin_dir, const struct cman_tuple *tuple, size_t n)
{
	char path[256];
	int fd, err, ret = 0;

	snprintf(path, sizeof(path), "%s/frozen", pin_dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return fd;
	for (size_t i = 0; i < n; i++) {
		err = bpf_map_delete_elem(fd, &tuple[i]);
		if (err && err != -ENOENT && !ret)
			ret = err;
	}
	close(fd);
	return ret;
}

/* ---------------------------------------------------------------------------------------------
 * Making and removing
 */
static libbpf_print_fn_t silence(void)
{
	return getenv("CMAN_BPF_LOG") ? NULL : libbpf_set_print(NULL);
}

static void unsilence(libbpf_print_fn_t print)
{
	if (print)
		libbpf_set_print(print);
}

static int pin_path(char *path, size_t size, const char *dir, const char *name)
{
	return (size_t)snprintf(path, size, "%s/%s", dir, name) < size ? 0 : -ENAMETOOLONG;
}

/* The map of a predecessor, which must be of our layout. 0 with *ret_fd -1: there is none. */
static int open_pinned(const char *dir, const struct bpf_map *map, int *ret_fd)
{
	struct bpf_map_info info = { 0 };
	uint32_t length = sizeof(info);
	char path[256];
	int fd, err;

	*ret_fd = -1;
	err = pin_path(path, sizeof(path), dir, bpf_map__name(map));
	if (err)
		return err;
	fd = bpf_obj_get(path);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	err = bpf_obj_get_info_by_fd(fd, &info, &length);
	if (!err && (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
		     info.value_size != bpf_map__value_size(map)))
		err = -EPROTONOSUPPORT;
	if (err) {
		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

static int map_id(int fd, uint32_t *ret_id)
{
	struct bpf_map_info info = { 0 };
	uint32_t length = sizeof(info);
	int err = bpf_obj_get_info_by_fd(fd, &info, &length);

	if (!err)
		*ret_id = info.id;
	return err;
}

/* Only what is ours: the folder may belong to somebody else by now. */
static void unpin(const char *dir, const char *name, int fd)
{
	uint32_t pinned_id, own_id;
	char path[256];
	int pinned;

	if (pin_path(path, sizeof(path), dir, name))
		return;
	pinned = bpf_obj_get(path);
	if (pinned < 0)
		return;
	if (!map_id(pinned, &pinned_id) && !map_id(fd, &own_id) && pinned_id == own_id)
		unlink(path);
	close(pinned);
}

static int empty_pinned(const char *dir, const char *name, uint32_t *ret_id)
{
	char path[256], key[128];
	int fd = -ENAMETOOLONG, err;

	if (!pin_path(path, sizeof(path), dir, name))
		fd = bpf_obj_get(path);
	if (fd < 0)
		return fd;
	err = map_id(fd, ret_id);
	while (!bpf_map_get_next_key(fd, NULL, key) && !bpf_map_delete_elem(fd, key))
		;
	close(fd);
	return !err && unlink(path) ? -errno : err;
}

int cman_guard_bury(const char *pin_dir)
{
	struct cman_guard_filter filter = { .prog_fd = -1 };
	uint32_t id;
	int err = empty_pinned(pin_dir, "frozen", &filter.handle);

	if (err)
		return err;
	empty_pinned(pin_dir, "moving", &id);
	empty_pinned(pin_dir, "begun", &id);
	return cman_guard_link_detach(&filter);
}

/* A map of the object that has a pin: taken over or made new. frozen, moving, begun */
#define PINNED 3

struct pinned {
	struct bpf_map *map;
	int fd; /* a predecessor's */
};

static int load(struct cman_bpf *skel, const char *dir, struct pinned pinned[PINNED],
		const char **ret_why)
{
	struct bpf_map *const ours[] = { skel->maps.frozen,    skel->maps.moving,
					 skel->maps.begun,     skel->maps.guard_conf,
					 skel->maps.guard_cmd, skel->maps.guard_counts };
	struct bpf_program *prog;
	struct bpf_map *map;
	int err = 0;

	bpf_object__for_each_program(prog, skel->obj) {
		if (!err && strncmp(bpf_program__name(prog), "cman_guard", 10))
			err = bpf_program__set_autoload(prog, false);
	}
	bpf_object__for_each_map(map, skel->obj) {
		bool wanted = bpf_map__is_internal(map);

		for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
			wanted = wanted || map == ours[i];
		if (!err && !wanted)
			err = bpf_map__set_autocreate(map, false);
	}
	*ret_why = "the BPF object in this program is not readable";
	if (err)
		return err;
	for (int i = 0; i < PINNED; i++) {
		*ret_why = "the pinned maps of the guard cannot be opened";
		err = open_pinned(dir, pinned[i].map, &pinned[i].fd);
		if (err == -EPROTONOSUPPORT)
			*ret_why = "the guard's pinned maps are of a release that this one does "
				   "not know";
		if (!err && pinned[i].fd >= 0)
			err = bpf_map__reuse_fd(pinned[i].map, pinned[i].fd);
		if (err)
			return err;
	}
	err = cman_bpf__load(skel);
	if (err == -EPERM)
		*ret_why = "the kernel does not let this process load BPF programs: CAP_BPF, "
			   "CAP_PERFMON and CAP_NET_ADMIN are needed";
	else
		*ret_why = "the guard's BPF programs cannot be loaded (CMAN_BPF_LOG=1 prints why)";
	return err;
}

static int keep_fd(int fd, int *ret_fd)
{
	*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return *ret_fd < 0 ? -errno : 0;
}

/* Descriptors of our own: the skeleton closes its. */
static int keep_fds(const struct cman_bpf *skel, struct cman_guard *g)
{
	const struct {
		int fd;
		int *to;
	} keep[] = {
		{ bpf_map__fd(skel->maps.frozen), &g->frozen_fd },
		{ bpf_map__fd(skel->maps.moving), &g->moving_fd },
		{ bpf_map__fd(skel->maps.begun), &g->begun_fd },
		{ bpf_map__fd(skel->maps.guard_conf), &g->conf_fd },
		{ bpf_map__fd(skel->maps.guard_cmd), &g->cmd_fd },
		{ bpf_map__fd(skel->maps.guard_counts), &g->counts_fd },
		{ bpf_program__fd(skel->progs.cman_guard), &g->ingress.prog_fd },
		{ bpf_program__fd(skel->progs.cman_guard_tap), &g->tap.prog_fd },
		{ bpf_program__fd(skel->progs.cman_guard_cmd), &g->order_fd },
	};
	struct bpf_prog_info info = { 0 };
	uint32_t length = sizeof(info);
	int err = 0;

	for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]) && !err; i++)
		err = keep_fd(keep[i].fd, keep[i].to);
	if (!err)
		err = bpf_obj_get_info_by_fd(g->ingress.prog_fd, &info, &length);
	if (err)
		return err;
	g->ingress.prog_id = info.id;
	g->tap.handle = 1;
	return map_id(g->frozen_fd, &g->ingress.handle);
}

static size_t page_round(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (size + page - 1) / page * page;
}

static int map_memory(int fd, size_t size, void **ret_memory)
{
	void *memory = mmap(NULL, page_round(size), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	*ret_memory = memory;
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void cman_guard_forget(struct cman_guard *g)
{
	struct cman_guard_session *session, *next;

	HASH_ITER(hh, g->sessions, session, next)
		forget_session(g, session);
	if (g->conf)
		munmap(g->conf, page_round(sizeof(*g->conf)));
	if (g->cmd)
		munmap(g->cmd, page_round(sizeof(*g->cmd)));
	g->conf = NULL;
	g->cmd = NULL;
	free(g->frame);
	g->frame = NULL;
	cman_park_close(&g->park);
	close_fd(&g->frozen_fd);
	close_fd(&g->moving_fd);
	close_fd(&g->begun_fd);
	close_fd(&g->conf_fd);
	close_fd(&g->cmd_fd);
	close_fd(&g->counts_fd);
	close_fd(&g->order_fd);
	close_fd(&g->ingress.prog_fd);
	close_fd(&g->tap.prog_fd);
}

/* The two bytes that say "parked by us": a locally administered address of one station. */
static int choose_mark(uint8_t mark[2])
{
	ssize_t got = getrandom(mark, 2, 0);

	if (got != 2)
		return got < 0 ? -errno : -EIO;
	mark[0] = (uint8_t)((mark[0] & 0xfc) | 0x02);
	return 0;
}

static int set_up(struct cman_guard *g, const char **ret_why)
{
	int err;

	*ret_why = "the guard's maps cannot be mapped into memory";
	err = map_memory(g->conf_fd, sizeof(*g->conf), (void **)&g->conf);
	if (!err)
		err = map_memory(g->cmd_fd, sizeof(*g->cmd), (void **)&g->cmd);
	if (err)
		return err;
	g->frame = malloc(CMAN_PARK_FRAME);
	if (!g->frame) {
		*ret_why = "there is not enough memory";
		return -ENOMEM;
	}
	err = cman_park_open(&g->park, ret_why);
	if (err)
		return err;
	*ret_why = "there are no random numbers";
	err = choose_mark(g->conf->mark);
	if (err)
		return err;
	g->conf->park_ifindex = g->park.ifindex;
	*ret_why = "the program of the parking device cannot be attached";
	return cman_guard_link_attach_one(&g->tap, g->park.ifindex);
}

static int pin_new(struct pinned pinned[PINNED], const char *dir)
{
	char path[256];
	int err = 0;

	for (int i = 0; i < PINNED && !err; i++) {
		if (pinned[i].fd >= 0)
			continue;
		err = pin_path(path, sizeof(path), dir, bpf_map__name(pinned[i].map));
		if (!err)
			err = bpf_obj_pin(bpf_map__fd(pinned[i].map), path);
	}
	return err;
}

int cman_guard_init(struct cman_guard *g, const char *pin_dir, const char **ret_why)
{
	libbpf_print_fn_t print = silence();
	struct pinned pinned[PINNED] = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };
	struct cman_bpf *skel;
	int err;

	*g = (struct cman_guard){
		.held_max = CMAN_GUARD_HELD_MAX,
		.park = { .fd = -1 },
		.ingress = { .prog_fd = -1 },
		.tap = { .prog_fd = -1 },
		.frozen_fd = -1,
		.moving_fd = -1,
		.begun_fd = -1,
		.conf_fd = -1,
		.cmd_fd = -1,
		.counts_fd = -1,
		.order_fd = -1,
		.cpus = sysconf(_SC_NPROCESSORS_ONLN),
	};
	skel = cman_bpf__open();
	if (!skel) {
		err = -errno;
		*ret_why = "the BPF object in this program is not readable";
		goto out;
	}
	pinned[0].map = skel->maps.frozen;
	pinned[1].map = skel->maps.moving;
	pinned[2].map = skel->maps.begun;
	err = cman_guard_renamed(g, pin_dir);
	if (err) {
		*ret_why = "the name of the folder of pins is too long";
		goto err_destroy;
	}
	err = load(skel, pin_dir, pinned, ret_why);
	if (err)
		goto err_destroy;
	g->took_over = pinned[0].fd >= 0;
	*ret_why = "there are no descriptors left";
	err = keep_fds(skel, g);
	if (!err)
		err = set_up(g, ret_why);
	if (err)
		goto err_forget;
	*ret_why = "the guard's maps cannot be pinned";
	err = pin_new(pinned, pin_dir);
	if (err)
		goto err_unpin;
	goto err_destroy; /* no error: the skeleton is not needed any more */

err_unpin:
	for (int i = 0; i < PINNED; i++) {
		if (pinned[i].fd < 0)
			unpin(pin_dir, bpf_map__name(pinned[i].map), bpf_map__fd(pinned[i].map));
	}
err_forget:
	cman_guard_forget(g);
err_destroy:
	for (int i = 0; i < PINNED; i++)
		close_fd(&pinned[i].fd);
	cman_bpf__destroy(skel);
out:
	unsilence(print);
	return err;
}

int cman_guard_renamed(struct cman_guard *g, const char *pin_dir)
{
	size_t length = strlen(pin_dir);

	if (length >= sizeof(g->pin_dir))
		return -ENAMETOOLONG;
	memcpy(g->pin_dir, pin_dir, length + 1);
	return 0;
}

int cman_guard_attach(struct cman_guard *g, const char **ret_why)
{
	int ret;

	g->cpus = sysconf(_SC_NPROCESSORS_ONLN);
	ret = cman_guard_link_attach(&g->ingress, g->skipped, sizeof(g->skipped));
	if (ret < 0)
		*ret_why = "the guard cannot be attached to an interface";
	return ret;
}

void cman_guard_fini(struct cman_guard *g)
{
	struct collected all = { .g = g, .open = true };
	bool empty = false;

	if (g->order_fd < 0)
		return;
	cman_guard_each(g, collect, &all);
	cman_guard_thaw(g, all.tuple, all.n);
	/* packets go on coming, so there is a limit */
	for (int i = 0; g->draining && i < 1000; i++) {
		if (cman_guard_pump(g) < 0)
			break;
	}
	all.open = false;
	all.n = 0;
	cman_guard_each(g, collect, &all);
	order_all(g, CMAN_GUARD_OP_DELETE, all.tuple, all.n, -ENOENT);
	free(all.tuple);
	cman_guard_link_detach(&g->ingress);
	/* who was past the entries when they went is in the device now */
	cman_guard_fence(g);
	for (int i = 0; i <= CMAN_PARK_QUEUE / CMAN_GUARD_BUDGET && !empty; i++) {
		if (empty_device(g, &empty) < 0)
			break;
	}
	unpin(g->pin_dir, "frozen", g->frozen_fd);
	unpin(g->pin_dir, "moving", g->moving_fd);
	unpin(g->pin_dir, "begun", g->begun_fd);
	cman_guard_forget(g);
}
