/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes what the steering program reads (steer.h tells the story): the pinned link, addresses,
 * listeners, hold sockets and rules. Every change is one map update or an order of updates in
 * which no moment refuses what is accepted before and after it. Reads the counters back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "usr/sys/maps.h"
#include "usr/sys/steer.h"

static void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static void cleanup_free(void *memory)
{
	free(*(void **)memory);
}

#define _cleanup_close_ __attribute__((cleanup(cleanup_close)))
#define _cleanup_free_	__attribute__((cleanup(cleanup_free)))

/* ---------------------------------------------------------------------------------------------
 * The link
 */

static void link_path(char *path, size_t size, const char *dir)
{
	snprintf(path, size, "%s/steer", dir);
}

static int link_id(int fd, uint32_t *ret_id)
{
	struct bpf_link_info info = { 0 };
	uint32_t length = sizeof(info);
	int err = bpf_obj_get_info_by_fd(fd, &info, &length);

	if (!err)
		*ret_id = info.id;
	return err;
}

int cman_steer_attach(struct cman_maps *maps)
{
	_cleanup_close_ int netns = -1, link = -1;
	char path[256];

	if (maps->steer_fd < 0)
		return -ENOENT;
	link_path(path, sizeof(path), maps->dir);
	if (!access(path, F_OK))
		return -EEXIST;
	netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return -errno;
	link = bpf_link_create(maps->steer_fd, netns, BPF_SK_LOOKUP, NULL);
	if (link < 0)
		return link;
	/* on failure the link ends with its descriptor */
	return bpf_obj_pin(link, path);
}

/* Pins @link as @path, unless it is there already: it was ours before, and is given back. */
static int pin_link(int link, const char *path, bool *ret_new)
{
	_cleanup_close_ int present = -1;
	uint32_t present_id, id;
	int err;

	*ret_new = false;
	present = bpf_obj_get(path);
	if (present == -ENOENT) {
		err = bpf_obj_pin(link, path);
		*ret_new = !err;
		return err;
	}
	if (present < 0)
		return present;
	err = link_id(present, &present_id);
	if (!err)
		err = link_id(link, &id);
	if (err)
		return err;
	return present_id == id ? 0 : -EEXIST;
}

int cman_steer_take(struct cman_maps *maps, const char *from)
{
	_cleanup_close_ int link = -1;
	char path[256];
	bool new;
	int err;

	if (maps->steer_fd < 0)
		return -ENOENT;
	if (snprintf(path, sizeof(path), "%s/%s/steer", CMAN_PIN_ROOT, from) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	link = bpf_obj_get(path);
	if (link < 0)
		return link;
	/* first the pin, which changes nothing, then the one step that does */
	link_path(path, sizeof(path), maps->dir);
	err = pin_link(link, path, &new);
	if (err)
		return err;
	err = bpf_link_update(link, maps->steer_fd, NULL);
	if (err && new)
		unlink(path);
	return err;
}

/* ---------------------------------------------------------------------------------------------
 * Addresses and listeners
 */

static struct cman_address_key address_key(const uint8_t addr[16], uint16_t port, uint16_t family)
{
	struct cman_address_key key = { .port = port, .family = family };

	memcpy(key.addr, addr, sizeof(key.addr));
	return key;
}

int cman_steer_add_address(struct cman_maps *maps, const uint8_t addr[16], uint16_t port,
			   uint16_t family, uint32_t listener, uint32_t service)
{
	struct cman_address_key key = address_key(addr, port, family);
	struct cman_address value = { .listener = listener, .service = service };

	if (listener >= CMAN_MAX_LISTENERS || service >= CMAN_MAX_SERVICES ||
	    (family != AF_INET && family != AF_INET6))
		return -EINVAL;
	return bpf_map_update_elem(maps->addresses_fd, &key, &value, BPF_ANY);
}

int cman_steer_del_address(struct cman_maps *maps, const uint8_t addr[16], uint16_t port,
			   uint16_t family)
{
	struct cman_address_key key = address_key(addr, port, family);

	return bpf_map_delete_elem(maps->addresses_fd, &key);
}

static int set_socket(struct cman_maps *maps, uint32_t index, int fd)
{
	uint64_t value = (uint64_t)fd;
	int err;

	if (fd >= 0)
		return bpf_map_update_elem(maps->listeners_fd, &index, &value, BPF_ANY);
	err = bpf_map_delete_elem(maps->listeners_fd, &index);
	/* a sockmap says EINVAL for an empty entry */
	return err == -EINVAL || err == -ENOENT ? 0 : err;
}

int cman_steer_set_listener(struct cman_maps *maps, uint32_t listener, int fd)
{
	if (listener >= CMAN_MAX_LISTENERS)
		return -EINVAL;
	return set_socket(maps, listener, fd);
}

/*
 * A listening socket that drops all it gets. Never sees a packet but what steer gives it: bound
 * to loopback, where its filter swallows what a local process sends to its port.
 */
static int hold_socket(int family, int *ret_fd)
{
	struct sock_filter drop_all = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog filter = { .len = 1, .filter = &drop_all };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct sockaddr *addr = (const struct sockaddr *)&in;
	socklen_t length = sizeof(in);
	_cleanup_close_ int fd = -1;
	const int one = 1;

	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (family == AF_INET6) {
		addr = (const struct sockaddr *)&in6;
		length = sizeof(in6);
		if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)))
			return -errno;
	}
	/* the filter before the socket can be reached; free bind: lo may be down */
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) ||
	    setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof(one)) ||
	    setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one)) || bind(fd, addr, length) ||
	    listen(fd, 1))
		return -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int cman_steer_hold(struct cman_maps *maps, int ret_fds[2])
{
	_cleanup_close_ int inet = -1, inet6 = -1;
	int err;

	err = hold_socket(AF_INET, &inet);
	if (!err)
		err = set_socket(maps, CMAN_HOLD_INET, inet);
	if (err)
		return err;
	err = hold_socket(AF_INET6, &inet6);
	if (!err)
		err = set_socket(maps, CMAN_HOLD_INET6, inet6);
	else if (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL)
		err = 0; /* a kernel without IPv6 steers none either */
	if (err)
		return err; /* closing the first socket empties its entry */
	ret_fds[0] = inet;
	ret_fds[1] = inet6;
	inet = inet6 = -1;
	return 0;
}

/* ---------------------------------------------------------------------------------------------
 * Rules
 */

struct trie_entry {
	struct cman_rule_key key;
	struct cman_rule_value value;
	uint32_t order; /* of emission: of equal keys the last one counts */
};

struct trie {
	struct trie_entry *entry;
	uint32_t n, size;
	int err;
};

static void trie_add(struct trie *trie, const struct cman_rule_key *key,
		     const struct cman_rule_value *value)
{
	if (trie->err)
		return;
	if (trie->n == trie->size) {
		uint32_t size = trie->size ? 2 * trie->size : 64;
		struct trie_entry *entry = reallocarray(trie->entry, size, sizeof(*entry));

		if (!entry) {
			trie->err = -ENOMEM;
			return;
		}
		trie->entry = entry;
		trie->size = size;
	}
	trie->entry[trie->n] = (struct trie_entry){ *key, *value, trie->n };
	trie->n++;
}

static void trie_emit(void *arg, uint32_t service, const uint8_t addr[16], uint32_t prefix_len,
		      uint32_t action, uint32_t rule)
{
	struct cman_rule_key key = { .prefix_len = 32 + prefix_len, .service = htonl(service) };
	struct cman_rule_value value = { .action = action, .rule = rule };

	memcpy(key.source, addr, sizeof(key.source));
	/* the trie does not look beyond the prefix, but comparing keys does */
	for (uint32_t bit = prefix_len; bit < 128; bit++)
		key.source[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
	trie_add(arg, &key, &value);
}

/* Longest prefix first. */
static int compare_keys(const struct cman_rule_key *a, const struct cman_rule_key *b)
{
	if (a->prefix_len != b->prefix_len)
		return a->prefix_len > b->prefix_len ? -1 : 1;
	return memcmp(a, b, sizeof(*a));
}

static int compare_entries(const void *a, const void *b)
{
	const struct trie_entry *x = a, *y = b;
	int order = compare_keys(&x->key, &y->key);

	return order ? order : (x->order > y->order) - (x->order < y->order);
}

static void trie_sort(struct trie *trie)
{
	uint32_t kept = 0;

	if (!trie->n)
		return;
	qsort(trie->entry, trie->n, sizeof(*trie->entry), compare_entries);
	for (uint32_t i = 0; i < trie->n; i++) {
		if (kept && !compare_keys(&trie->entry[kept - 1].key, &trie->entry[i].key))
			kept--;
		trie->entry[kept++] = trie->entry[i];
	}
	trie->n = kept;
}

static bool trie_has(const struct trie *trie, const struct cman_rule_key *key)
{
	const struct trie_entry wanted = { .key = *key };
	uint32_t low = 0, high = trie->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = compare_keys(&wanted.key, &trie->entry[middle].key);

		if (!order)
			return true;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

static int trie_read(int fd, struct trie *trie)
{
	const struct cman_rule_value none = { 0 };
	struct cman_rule_key key, next;
	int err;

	for (err = bpf_map_get_next_key(fd, NULL, &next); !err && !trie->err;
	     err = bpf_map_get_next_key(fd, &key, &next)) {
		trie_add(trie, &next, &none);
		key = next;
	}
	return trie->err ? trie->err : err == -ENOENT ? 0 : err;
}

/*
 * Returns when every run of the steering program that was under way has ended (about 10 ms). A run
 * may have read nrules, or half of its way down the trie, before the last change.
 */
static void wait_for_readers(void)
{
	const struct timespec long_enough = { .tv_nsec = 20000000 };

	/* refused on a machine with nohz_full CPUs */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		nanosleep(&long_enough, NULL);
}

/*
 * Shortest prefix first: while an unwanted entry is there it answers as before; once it is gone no
 * unwanted shorter one is left to answer in its place. Nor may a run find the shorter one before
 * its removal and miss the longer one after its: so it ends in between.
 */
static int trie_remove_unwanted(int fd, const struct trie *present, const struct trie *wanted)
{
	uint32_t prefix_len = UINT32_MAX;

	for (uint32_t i = present->n; i-- > 0;) {
		const struct cman_rule_key *key = &present->entry[i].key;
		int err;

		if (trie_has(wanted, key))
			continue;
		if (key->prefix_len != prefix_len)
			wait_for_readers();
		prefix_len = key->prefix_len;
		err = bpf_map_delete_elem(fd, key);
		if (err && err != -ENOENT)
			return err;
	}
	return 0;
}

static void publish(struct cman_maps *maps, const struct cman_rule *rules, uint32_t n)
{
	if (n)
		memcpy(maps->ruletab, rules, n * sizeof(*rules));
	__atomic_store_n(&maps->instance->nrules, n, __ATOMIC_RELEASE);
}

int cman_steer_set_rules(struct cman_maps *maps, const struct cman_rule *rules, uint32_t n,
			 uint32_t nservices)
{
	_cleanup_free_ struct trie_entry *wanted_entries = NULL, *present_entries = NULL;
	struct trie wanted = { 0 }, present = { 0 };
	int err;

	if (n > CMAN_MAX_RULES || nservices > CMAN_MAX_SERVICES)
		return -E2BIG;
	if (n)
		cman_rules_expand(rules, n, nservices, trie_emit, &wanted);
	wanted_entries = wanted.entry;
	err = wanted.err;
	if (!err)
		err = trie_read(maps->rules_fd, &present);
	present_entries = present.entry;
	if (err)
		return err;
	trie_sort(&wanted);
	trie_sort(&present);

	/*
	 * Longest prefix first: until the entry that will answer for an address is there, what
	 * answered before does.
	 */
	for (uint32_t i = 0; i < wanted.n; i++) {
		err = bpf_map_update_elem(maps->rules_fd, &wanted.entry[i].key,
					  &wanted.entry[i].value, BPF_ANY);
		if (err)
			return err;
	}
	/* with no rules in force nobody looks yet: leave nothing behind that would answer */
	if (!maps->instance->nrules) {
		err = trie_remove_unwanted(maps->rules_fd, &present, &wanted);
		if (err)
			return err;
		publish(maps, rules, n);
		return 0;
	}
	publish(maps, rules, n);
	return trie_remove_unwanted(maps->rules_fd, &present, &wanted);
}

/* ---------------------------------------------------------------------------------------------
 * Counters
 */

int cman_steer_counters(const struct cman_maps *maps, uint32_t service,
			struct cman_counters *ret_counters)
{
	_cleanup_free_ struct cman_counters *cpu = NULL;
	struct cman_counters sum = { 0 };
	int ncpus, err;

	ncpus = libbpf_num_possible_cpus();
	if (ncpus < 0)
		return ncpus;
	cpu = calloc((size_t)ncpus, sizeof(*cpu));
	if (!cpu)
		return -ENOMEM;
	err = bpf_map_lookup_elem(maps->counters_fd, &service, cpu);
	if (err)
		return err;
	for (int i = 0; i < ncpus; i++) {
		sum.steered += cpu[i].steered;
		sum.rejected += cpu[i].rejected;
		sum.dropped += cpu[i].dropped;
		sum.held += cpu[i].held;
		sum.no_listener += cpu[i].no_listener;
		sum.assign_failed += cpu[i].assign_failed;
	}
	*ret_counters = sum;
	return 0;
}
