/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registers the congestion control "cman_resume" and leads sockets through it (restore.h). It is
 * known to the kernel by one name, whoever has registered it; who finds it gone registers it again.
 */
#include "usr/sys/restore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "bpf/restore.h"
#include "cman.skel.h"
#include "usr/sys/repair_impl.h"

#define INITIAL_CWND 10 /* RFC 6928 */
#define MAX_CWND     (CMAN_RESUME_MAX - 1)
#define USEC_PER_SEC 1000000u
#define UNLIMITED    UINT64_MAX

struct cman_restore {
	struct cman_bpf *skel;
	struct bpf_link *link; /* NULL: another process has registered it */
};

/* --- registering */

static int load(struct cman_bpf *skel)
{
	struct bpf_program *prog;
	struct bpf_map *map;
	int err = 0;

	bpf_object__for_each_program(prog, skel->obj) {
		bool ours = prog == skel->progs.cman_resume_ini ||
			    prog == skel->progs.cman_resume_sst ||
			    prog == skel->progs.cman_resume_und ||
			    prog == skel->progs.cman_resume_avo;

		err = bpf_program__set_autoload(prog, ours);
		if (err)
			return err;
	}
	bpf_object__for_each_map(map, skel->obj) {
		err = bpf_map__set_autocreate(map, bpf_map__is_internal(map) ||
							   map == skel->maps.cman_resume);
		if (err)
			return err;
	}
	return cman_bpf__load(skel);
}

static void unregister(struct cman_restore *restore)
{
	bpf_link__destroy(restore->link);
	cman_bpf__destroy(restore->skel);
	restore->link = NULL;
	restore->skel = NULL;
}

static int do_register(struct cman_restore *restore, const char **ret_why)
{
	libbpf_print_fn_t print = getenv("CMAN_BPF_LOG") ? NULL : libbpf_set_print(NULL);
	int err = 0;

	unregister(restore);
	restore->skel = cman_bpf__open();
	if (!restore->skel) {
		err = -errno;
		*ret_why = "the BPF object in this program is not readable";
	} else {
		err = load(restore->skel);
	}
	if (!err) {
		restore->link = bpf_map__attach_struct_ops(restore->skel->maps.cman_resume);
		if (!restore->link)
			err = -errno;
	}
	if (print)
		libbpf_set_print(print);
	if (!err)
		return 0;
	unregister(restore);
	if (err == -EEXIST)
		return 0;
	*ret_why = "the kernel does not take a congestion control in BPF (CMAN_BPF_LOG=1 prints why)";
	return err;
}

static int set_control(int fd, const char *name)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strnlen(name, 16)) < 0 ?
		       -errno :
		       0;
}

static bool is_registered(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is = fd >= 0 && set_control(fd, CMAN_RESUME_NAME) == 0;

	if (fd >= 0)
		close(fd);
	return is;
}

int cman_restore_open(struct cman_restore **ret, const char **ret_why)
{
	struct cman_restore *restore = calloc(1, sizeof(*restore));
	int err = 0;

	*ret_why = "there is not enough memory";
	if (!restore)
		return -ENOMEM;
	if (!is_registered())
		err = do_register(restore, ret_why);
	if (err)
		free(restore);
	else
		*ret = restore;
	return err;
}

void cman_restore_close(struct cman_restore *restore)
{
	if (!restore)
		return;
	unregister(restore);
	free(restore);
}

/* --- what to give */

static bool is_bbr(const struct cman_repair_image *image)
{
	return strncmp(image->congestion, "bbr", 3) == 0;
}

void cman_restore_plan(const struct cman_repair_image *image, struct cman_restore_plan *ret_plan)
{
	const struct cman_repair_speed *speed = &image->speed;
	uint64_t mss = image->mss ? image->mss : 536;
	uint64_t flight = image->out.len - image->unsent;
	uint64_t path = 0, most;

	*ret_plan = (struct cman_restore_plan){ .ssthresh = UINT32_MAX };
	if (speed->rtt_us < 10 * USEC_PER_SEC &&
	    speed->delivery_rate < UNLIMITED / USEC_PER_SEC / 16)
		path = speed->delivery_rate * speed->rtt_us / USEC_PER_SEC;
	most = (flight > path ? flight : path) / mss;
	/* BBR begins by growing quickly, from whatever it is given; its window was twice the path */
	most = is_bbr(image) ? most + INITIAL_CWND : 2 * most;
	if (most > speed->snd_cwnd)
		most = speed->snd_cwnd;
	if (most > MAX_CWND)
		most = MAX_CWND;
	/* less than what a new connection has: after a loss; then it must not have more now */
	if (speed->snd_cwnd && speed->snd_cwnd < INITIAL_CWND)
		most = speed->snd_cwnd;
	else if (most <= INITIAL_CWND)
		most = 0;
	ret_plan->cwnd = (uint32_t)most;
	/* TCP_INFINITE_SSTHRESH is 0x7fffffff */
	if (speed->snd_ssthresh >= 2 && speed->snd_ssthresh < MAX_CWND)
		ret_plan->ssthresh = speed->snd_ssthresh;
	if (most && is_bbr(image))
		ret_plan->pacing_rate = speed->pacing_rate == UNLIMITED ? 0 : speed->pacing_rate;
}

static int set_rate(int fd, uint64_t rate)
{
	return setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof(rate)) < 0 ? -errno : 0;
}

/*
 * BBR begins with a rate from the window and an assumed round trip of 1 ms. Lowering the limit lowers
 * the rate at once; raising it again leaves the rate, which BBR corrects with its first samples.
 */
static int restore_pacing(int fd, const struct cman_repair_image *image, uint64_t rate)
{
	bool limited = image->have & CMAN_REPAIR_BIT(CMAN_REPAIR_MAX_PACING_RATE);
	uint64_t limit = limited ? (uint64_t)image->option[CMAN_REPAIR_MAX_PACING_RATE] : UNLIMITED;
	int err;

	if (!rate || rate >= limit)
		return 0;
	err = set_rate(fd, rate);
	return err ? err : set_rate(fd, limit);
}

static int pass_through(struct cman_restore *restore, int fd)
{
	const char *why;
	int err = set_control(fd, CMAN_RESUME_NAME);

	/* the process that had registered it has gone */
	if (err == -ENOENT) {
		err = do_register(restore, &why);
		if (!err)
			err = set_control(fd, CMAN_RESUME_NAME);
	}
	return err;
}

int cman_restore(struct cman_restore *restore, int fd, const struct cman_repair_image *image,
		 bool *ret_restored)
{
	char control[16] = "";
	socklen_t len = sizeof(control);
	struct cman_restore_plan plan;
	uint32_t code;
	int lowat = image->have & CMAN_REPAIR_BIT(CMAN_REPAIR_NOTSENT_LOWAT) ?
			    (int)image->option[CMAN_REPAIR_NOTSENT_LOWAT] :
			    0;
	int err, undo;

	*ret_restored = false;
	cman_restore_plan(image, &plan);
	if (!plan.cwnd)
		return 0;
	/* the image's control may not exist here */
	if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, &len) < 0)
		return -errno;
	code = plan.cwnd | (plan.ssthresh == UINT32_MAX ? CMAN_RESUME_MAX : plan.ssthresh)
				   << CMAN_RESUME_SHIFT;
	err = cman_repair_set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)code);
	if (err)
		return err;
	err = pass_through(restore, fd);
	if (!err)
		err = set_control(fd, control);
	undo = cman_repair_set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, lowat);
	if (err || undo)
		return err ? err : undo;
	*ret_restored = true;
	return restore_pacing(fd, image, plan.pacing_rate);
}
