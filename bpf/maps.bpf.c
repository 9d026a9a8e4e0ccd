/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The maps of an instance: their only definition. What they hold is in cman_maps.h, their types
 * are in maps.bpf.h, their sizes are set by usr/sys/maps.c.
 */
#include "vmlinux.h"

#include "bpf/maps.bpf.h"

struct cman_map_instance instance SEC(".maps");
struct cman_map_services services SEC(".maps");
struct cman_map_ruletab ruletab SEC(".maps");
struct cman_map_sessions sessions SEC(".maps");
struct cman_map_pipes pipes SEC(".maps");
struct cman_map_cells cells SEC(".maps");
struct cman_map_addresses addresses SEC(".maps");
struct cman_map_rules rules SEC(".maps");
struct cman_map_listeners listeners SEC(".maps");
struct cman_map_counters counters SEC(".maps");

char LICENSE[] SEC("license") = "GPL";
