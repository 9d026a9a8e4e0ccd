/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User space of the programs that read raw queues (inspect_raw.h): finds out where this kernel has what
 * they look for, runs them window by window, and believes nothing that does not add up to the
 * sequence numbers.
 *
 * The structures of the module tls are looked up in its BTF by name here: libbpf would do it, but only
 * for CAP_SYS_ADMIN.
 */
#include "usr/sys/inspect_raw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "cman.skel.h"
#include "usr/sys/repair_impl.h"

#define READ_TRIES 4

struct cman_inspect_raw {
	struct cman_bpf *skel;
	struct bpf_link *walk;
	struct cman_inspect_raw_value *value;
};

/* --- where things are */

static const struct btf_type *strip(const struct btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);

	while (t && (btf_is_mod(t) || btf_is_typedef(t)))
		t = btf__type_by_id(btf, t->type);
	return t;
}

/* The member @name (@len characters) of @t, also inside of unnamed members; bits are added up. */
static const struct btf_type *member_of(const struct btf *btf, const struct btf_type *t,
					const char *name, size_t len, uint32_t *bit,
					uint32_t *ret_size)
{
	for (uint16_t i = 0; t && btf_is_composite(t) && i < btf_vlen(t); i++) {
		const struct btf_member *m = &btf_members(t)[i];
		const char *own = btf__name_by_offset(btf, m->name_off);
		uint32_t at = *bit + btf_member_bit_offset(t, i);

		if (own && strlen(own) == len && memcmp(own, name, len) == 0) {
			*bit = at;
			*ret_size = btf_member_bitfield_size(t, i);
			return strip(btf, m->type);
		}
		if (!own || !own[0]) {
			const struct btf_type *found = member_of(btf, strip(btf, m->type), name,
								 len, &at, ret_size);

			if (found) {
				*bit = at;
				return found;
			}
		}
	}
	return NULL;
}

/* @path: "a.b.c" from the structure @of on. */
static int look_up_member(const struct btf *btf, const char *of, const char *path,
			  struct cman_inspect_member *ret)
{
	int id = btf__find_by_name_kind(btf, of, BTF_KIND_STRUCT);
	const struct btf_type *t = id < 0 ? NULL : btf__type_by_id(btf, (uint32_t)id);
	uint32_t bit = 0, size = 0;

	while (t && *path) {
		size_t len = strcspn(path, ".");

		t = member_of(btf, t, path, len, &bit, &size);
		path += len + (path[len] == '.');
	}
	/* the program reads one byte of a bit field */
	if (!t || bit % 8 + size > 8 || (!size && bit % 8))
		return -ENOENT;
	*ret = (struct cman_inspect_member){
		.at = bit / 8,
		.shift = (uint16_t)(bit % 8),
		.bits = (uint16_t)size,
	};
	return 0;
}

static int find_members(struct cman_inspect_layout *layout)
{
	const struct {
		const char *of, *path;
		struct cman_inspect_member *to;
	} members[] = {
		{ "tls_context", "tx_conf", &layout->tx_conf },
		{ "tls_context", "rx_conf", &layout->rx_conf },
		{ "tls_context", "priv_ctx_tx", &layout->tx },
		{ "tls_context", "priv_ctx_rx", &layout->rx },
		{ "tls_context", "partially_sent_record", &layout->partial },
		{ "tls_sw_context_tx", "open_rec", &layout->open_rec },
		{ "tls_sw_context_tx", "tx_list", &layout->tx_list },
		{ "tls_rec", "msg_plaintext.sg.size", &layout->open_size },
		{ "tls_sw_context_rx", "rx_list", &layout->rx_list },
		{ "tls_sw_context_rx", "strp.copy_mode", &layout->copy_mode },
		{ "tls_sw_context_rx", "strp.anchor", &layout->anchor },
	};
	struct btf *kernel = btf__load_vmlinux_btf();
	struct btf *module = kernel ? btf__load_module_btf("tls", kernel) : NULL;
	int err = kernel ? 0 : -errno;

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]) && !err; i++)
		err = look_up_member(module ? module : kernel, members[i].of, members[i].path,
				     members[i].to);
	btf__free(module);
	btf__free(kernel);
	return err;
}

/* Addresses are 0 for who may not see them. */
static int find_symbols(struct cman_inspect_layout *layout)
{
	FILE *f = fopen("/proc/kallsyms", "re");
	char line[512];

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f) &&
	       !(layout->vmemmap_base && layout->page_offset_base)) {
		char *type, *name;
		uint64_t address = strtoull(line, &type, 16);

		if (strlen(type) < 4)
			continue;
		name = type + 3;
		name[strcspn(name, "\t\n")] = '\0';
		if (strcmp(name, "vmemmap_base") == 0)
			layout->vmemmap_base = address;
		else if (strcmp(name, "page_offset_base") == 0)
			layout->page_offset_base = address;
	}
	fclose(f);
	return layout->vmemmap_base && layout->page_offset_base ? 0 : -EPERM;
}

static int find_layout(struct cman_inspect_layout *layout, const char **ret_why)
{
	int err = find_members(layout);

	if (err) {
		*ret_why =
			"the kernel does not say where it keeps kernel TLS (is its module loaded?)";
		return err;
	}
	err = find_symbols(layout);
	if (err)
		*ret_why = "the kernel does not say where it keeps pages: CAP_SYSLOG, x86-64";
	return err;
}

/* --- loading and asking */

/* The skeleton has the programs of all of cman; only ours are loaded. */
static int load(struct cman_bpf *skel)
{
	struct bpf_program *prog;
	struct bpf_map *map;
	int err = 0;

	bpf_object__for_each_program(prog, skel->obj) {
		bool ours = prog == skel->progs.cman_inspect_ri ||
			    prog == skel->progs.cman_inspect_rl;

		err = bpf_program__set_autoload(prog, ours);
		if (err)
			return err;
	}
	bpf_object__for_each_map(map, skel->obj) {
		err = bpf_map__set_autocreate(map, bpf_map__is_internal(map) ||
							   map == skel->maps.inspect_raw);
		if (err)
			return err;
	}
	return cman_bpf__load(skel);
}

static size_t value_size(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (sizeof(struct cman_inspect_raw_value) + page - 1) / page * page;
}

static int attach(struct cman_inspect_raw *raw)
{
	int fd = bpf_map__fd(raw->skel->maps.inspect_raw);
	void *memory = mmap(NULL, value_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	raw->value = memory;
	raw->walk = bpf_program__attach_iter(raw->skel->progs.cman_inspect_ri, NULL);
	return raw->walk ? 0 : -errno;
}

int cman_inspect_raw_open(struct cman_inspect_raw **ret, const char **ret_why)
{
	libbpf_print_fn_t print = getenv("CMAN_BPF_LOG") ? NULL : libbpf_set_print(NULL);
	struct cman_inspect_raw *raw = calloc(1, sizeof(*raw));
	struct cman_inspect_layout layout = { 0 };
	int err = -ENOMEM;

	*ret_why = "there is not enough memory";
	if (!raw)
		goto out;
	err = find_layout(&layout, ret_why);
	if (err)
		goto out;
	*ret_why = "the BPF object in this program is not readable";
	raw->skel = cman_bpf__open();
	err = raw->skel ? 0 : -errno;
	if (err)
		goto out;
	*ret_why =
		"the kernel does not take the programs that read queues (CMAN_BPF_LOG=1 prints why)";
	err = load(raw->skel);
	if (!err)
		err = attach(raw);
	if (!err)
		raw->value->layout = layout;
out:
	if (print)
		libbpf_set_print(print);
	if (err)
		cman_inspect_raw_close(raw);
	else
		*ret = raw;
	return err;
}

void cman_inspect_raw_close(struct cman_inspect_raw *raw)
{
	if (!raw)
		return;
	if (raw->value)
		munmap(raw->value, value_size());
	bpf_link__destroy(raw->walk);
	cman_bpf__destroy(raw->skel);
	free(raw);
}

static int set_key(struct cman_inspect_key *key, int fd)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	struct cman_repair_image names = { 0 };
	uint64_t cookie;
	int err = cman_repair_names(fd, &names, NULL);

	if (!err)
		err = cman_repair_get(fd, SOL_SOCKET, SO_COOKIE, &cookie, sizeof(cookie));
	if (err)
		return err;
	memset(key, 0, sizeof(*key));
	key->cookie = cookie;
	memcpy(key->local, names.local_addr, 16);
	memcpy(key->peer, names.peer_addr, 16);
	key->local_port = names.local_port;
	key->peer_port = names.peer_port;
	key->v4 = memcmp(names.local_addr, mapped, 12) == 0;
	return 0;
}

static int look_up(struct cman_inspect_raw *raw)
{
	uint8_t packet[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = sizeof(packet),
		    .repeat = 1);

	return bpf_prog_test_run_opts(bpf_program__fd(raw->skel->progs.cman_inspect_rl), &opts);
}

/* All sockets of the namespace, each under its lock. */
static int walk(struct cman_inspect_raw *raw)
{
	int fd = bpf_iter_create(bpf_link__fd(raw->walk)), err;
	char nothing[64];
	ssize_t got;

	if (fd < 0)
		return fd;
	do
		got = read(fd, nothing, sizeof(nothing));
	while (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)));
	err = got < 0 ? -errno : 0;
	close(fd);
	return err;
}

/* A lookup does not find a socket that is bound to a device. */
static int run(struct cman_inspect_raw *raw, uint64_t from)
{
	struct cman_inspect_raw_value *v = raw->value;
	int err;

	v->from = from;
	v->flags = 0;
	err = look_up(raw);
	if (err || !(v->flags & CMAN_INSPECT_RAW_FOUND))
		err = walk(raw);
	if (!err && !(v->flags & CMAN_INSPECT_RAW_FOUND))
		err = -ESRCH;
	return err;
}

static void take_state(const struct cman_inspect_raw_value *v, struct cman_inspect_raw_state *ret)
{
	*ret = (struct cman_inspect_raw_state){
		.flags = v->flags,
		.state = v->state,
		.snd_una = v->snd_una,
		.write_seq = v->write_seq,
		.rcv_nxt = v->rcv_nxt,
		.copied_seq = v->copied_seq,
		.plain = v->plain,
		.held = v->held,
		.in = v->in_end - v->held,
		.out = v->out_end - v->in_end,
	};
}

/* Do the bytes add up to what the sequence numbers say? */
static bool adds_up(const struct cman_inspect_raw_state *s)
{
	const uint32_t broken = CMAN_INSPECT_RAW_GAP | CMAN_INSPECT_RAW_FAULT |
				CMAN_INSPECT_RAW_TOO_MANY;

	return !(s->flags & broken) && s->in == (uint32_t)(s->rcv_nxt - s->copied_seq) &&
	       s->out == (uint32_t)(s->write_seq - s->snd_una);
}

/* The part of [@begin, @end) that the window has. */
static void take_bytes(const struct cman_inspect_raw_value *v, uint64_t begin, uint64_t end,
		       uint8_t *to)
{
	uint64_t first = v->from > begin ? v->from : begin;
	uint64_t last = v->from + CMAN_INSPECT_WINDOW < end ? v->from + CMAN_INSPECT_WINDOW : end;

	if (first < last)
		memcpy(to + (first - begin), v->bytes + (first - v->from), last - first);
}

static int read_once(struct cman_inspect_raw *raw, struct cman_inspect_raw_state *ret,
		     struct cman_repair_queue *in, struct cman_repair_queue *out)
{
	struct cman_inspect_raw_value *v = raw->value;
	struct cman_inspect_raw_state now;
	int err = run(raw, 0);

	if (err)
		return err;
	take_state(v, ret);
	if (!in)
		return 0;
	if (!adds_up(ret))
		return -EBUSY;
	err = cman_repair_reserve(in, ret->held + ret->in + 1);
	if (!err)
		err = cman_repair_reserve(out, ret->out + 1);
	if (err)
		return err;
	in->len = ret->held + ret->in;
	out->len = ret->out;
	for (uint64_t from = 0; !err; from += CMAN_INSPECT_WINDOW) {
		if (from) {
			err = run(raw, from);
			if (err)
				break;
			take_state(v, &now);
			if (memcmp(&now, ret, sizeof(now)) != 0)
				return -EBUSY;
		}
		take_bytes(v, 0, in->len, in->data);
		take_bytes(v, in->len, in->len + out->len, out->data);
		if (from + CMAN_INSPECT_WINDOW >= in->len + out->len)
			break;
	}
	return err;
}

int cman_inspect_raw_read(struct cman_inspect_raw *raw, int fd,
			  struct cman_inspect_raw_state *ret_state, struct cman_repair_queue *in,
			  struct cman_repair_queue *out)
{
	int err = set_key(&raw->value->key, fd);

	if (err)
		return err;
	err = -EBUSY;
	for (int i = 0; i < READ_TRIES && err == -EBUSY; i++)
		err = read_once(raw, ret_state, in, out);
	return err;
}
