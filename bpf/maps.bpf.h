/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The maps as BPF programs see them: one named type a map, and the extern declarations. They are
 * defined once, in maps.bpf.c; `bpftool gen object` joins declaration and definition, which must
 * be of the same type. Values have BTF, so that `bpftool map dump` prints fields by name. The
 * sizes of sessions, pipes and cells are 1 here and set when the object is loaded
 * (usr/sys/maps.c). Include vmlinux.h before.
 */
#ifndef CMAN_MAPS_BPF_H
#define CMAN_MAPS_BPF_H

#include <bpf/bpf_helpers.h>

#include "bpf/cman_maps.h"

/* "*" rules are written out for each service; old and new entries live together for a moment. */
#define CMAN_TRIE_SIZE (2 * CMAN_MAX_RULES * CMAN_MAX_SERVICES)

/*
 * One value that is the whole table: elements of an array map lie 8-byte aligned apart, which
 * sizeof(struct cman_rule) need not be a multiple of.
 */
struct cman_ruletab {
	struct cman_rule line[CMAN_MAX_RULES];
};

#define CMAN_SHARED_ARRAY(map, entries, value_type) \
	struct map { \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(max_entries, entries); \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__type(key, __u32); \
		__type(value, value_type); \
	}

CMAN_SHARED_ARRAY(cman_map_instance, 1, struct cman_instance);
CMAN_SHARED_ARRAY(cman_map_services, CMAN_MAX_SERVICES, struct cman_service);
CMAN_SHARED_ARRAY(cman_map_ruletab, 1, struct cman_ruletab);
CMAN_SHARED_ARRAY(cman_map_sessions, 1, struct cman_slot);
CMAN_SHARED_ARRAY(cman_map_pipes, 1, struct cman_pipe);
CMAN_SHARED_ARRAY(cman_map_cells, 1, struct cman_cell);

struct cman_map_addresses {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CMAN_MAX_ADDRESSES);
	__type(key, struct cman_address_key);
	__type(value, struct cman_address);
};

struct cman_map_rules {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, CMAN_TRIE_SIZE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct cman_rule_key);
	__type(value, struct cman_rule_value);
};

struct cman_map_listeners {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, CMAN_SOCKMAP_SIZE);
	__type(key, __u32);
	__type(value, __u64); /* user space reads the socket's cookie */
};

struct cman_map_counters {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CMAN_MAX_SERVICES);
	__type(key, __u32);
	__type(value, struct cman_counters);
};

extern struct cman_map_instance instance SEC(".maps");
extern struct cman_map_services services SEC(".maps");
extern struct cman_map_ruletab ruletab SEC(".maps");
extern struct cman_map_sessions sessions SEC(".maps");
extern struct cman_map_pipes pipes SEC(".maps");
extern struct cman_map_cells cells SEC(".maps");
extern struct cman_map_addresses addresses SEC(".maps");
extern struct cman_map_rules rules SEC(".maps");
extern struct cman_map_listeners listeners SEC(".maps");
extern struct cman_map_counters counters SEC(".maps");

#endif
