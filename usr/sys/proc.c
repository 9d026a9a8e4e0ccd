/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Titles, privileges and inherited descriptors of processes: see proc.h.
 */
#include "usr/sys/proc.h"

#include <cap-ng.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <linux/bpf.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* More than any instance uses; a scan of the descriptor table must stay short. */
#define NOFILE_MAX (1u << 20)

extern char **environ;

static char *title_area;
static size_t title_size;

void cman_proc_init(int argc, char **argv)
{
	char *end = argv[0];
	char **copy;
	size_t n = 0;

	for (int i = 0; i < argc; i++)
		if (argv[i] == end)
			end = argv[i] + strlen(argv[i]) + 1;
	while (environ[n]) {
		if (environ[n] == end)
			end = environ[n] + strlen(environ[n]) + 1;
		n++;
	}
	/* the environment moves away, to make room for long titles */
	copy = calloc(n + 1, sizeof(*copy));
	if (!copy)
		return;
	for (size_t i = 0; i < n; i++) {
		copy[i] = strdup(environ[i]);
		if (!copy[i])
			return;
	}
	for (int i = 1; i < argc; i++) {
		argv[i] = strdup(argv[i]);
		if (!argv[i])
			return;
	}
	title_area = argv[0];
	title_size = (size_t)(end - argv[0]);
	argv[0] = strdup(argv[0]);
	environ = copy;
}

void cman_proc_title(const char *alias, const char *title)
{
	char comm[16];
	size_t len = strcspn(title, " ");

	snprintf(comm, sizeof(comm), "cman-%.*s", (int)len, title);
	prctl(PR_SET_NAME, comm);
	if (!title_area || title_size < 2)
		return;
	memset(title_area, 0, title_size);
	snprintf(title_area, title_size - 1, "cman: %s [%s]", title, alias);
}

int cman_proc_user(const char *user, uid_t *ret_uid, gid_t *ret_gid)
{
	const char *candidates[] = { user, "cman", "nobody" };

	for (size_t i = user ? 0 : 1; i < (user ? 1u : 3u); i++) {
		struct passwd *pw = getpwnam(candidates[i]);

		if (!pw)
			continue;
		*ret_uid = pw->pw_uid;
		*ret_gid = pw->pw_gid;
		return 0;
	}
	return -ENOENT;
}

/* Just what usr/keeper, usr/gateway and usr/sys/cell.c call, and what libc needs for them. */
static int filter(void)
{
	static const int allowed[] = {
		SCMP_SYS(accept4),
		SCMP_SYS(bind),
		SCMP_SYS(brk),
		SCMP_SYS(clock_gettime),
		SCMP_SYS(clone),
		SCMP_SYS(close),
		SCMP_SYS(close_range),
		SCMP_SYS(connect),
		SCMP_SYS(dup),
		SCMP_SYS(epoll_create1),
		SCMP_SYS(epoll_ctl),
		SCMP_SYS(epoll_wait),
		SCMP_SYS(epoll_pwait),
		SCMP_SYS(exit),
		SCMP_SYS(exit_group),
		SCMP_SYS(fallocate),
		SCMP_SYS(fcntl),
		SCMP_SYS(fstat),
		SCMP_SYS(newfstatat),
		SCMP_SYS(ftruncate),
		SCMP_SYS(futex),
		SCMP_SYS(getpeername),
		SCMP_SYS(getpid),
		SCMP_SYS(getppid),
		SCMP_SYS(gettid),
		SCMP_SYS(getsockname),
		SCMP_SYS(getsockopt),
		SCMP_SYS(getrandom),
		SCMP_SYS(ioctl),
		SCMP_SYS(kill),
		SCMP_SYS(lseek),
		SCMP_SYS(mlock),
		SCMP_SYS(mlock2),
		SCMP_SYS(munlock),
		SCMP_SYS(madvise),
		SCMP_SYS(mmap),
		SCMP_SYS(mprotect),
		SCMP_SYS(mremap),
		SCMP_SYS(munmap),
		SCMP_SYS(nanosleep),
		SCMP_SYS(clock_nanosleep),
		SCMP_SYS(pidfd_open),
		SCMP_SYS(pipe2),
		SCMP_SYS(poll),
		SCMP_SYS(ppoll),
		SCMP_SYS(pread64),
		SCMP_SYS(pwrite64),
		SCMP_SYS(prctl),
		SCMP_SYS(prlimit64),
		SCMP_SYS(read),
		SCMP_SYS(readv),
		SCMP_SYS(recvfrom),
		SCMP_SYS(recvmsg),
		SCMP_SYS(restart_syscall),
		SCMP_SYS(rt_sigaction),
		SCMP_SYS(rt_sigprocmask),
		SCMP_SYS(rt_sigreturn),
		SCMP_SYS(sendmsg),
		SCMP_SYS(sendto),
		SCMP_SYS(setsockopt),
		SCMP_SYS(shutdown),
		SCMP_SYS(socket),
		SCMP_SYS(splice),
		SCMP_SYS(tgkill),
		SCMP_SYS(write),
		SCMP_SYS(writev),
	};
	static const unsigned int bpf_commands[] = {
		BPF_MAP_LOOKUP_ELEM,
		BPF_MAP_UPDATE_ELEM,
		BPF_MAP_DELETE_ELEM,
		BPF_ITER_CREATE,
	};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int err = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < sizeof(allowed) / sizeof(*allowed); i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	/* relaying in the kernel (usr/sys/splice.h): elements of maps that it has open, and its iterator */
	for (size_t i = 0; !err && i < sizeof(bpf_commands) / sizeof(*bpf_commands); i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(bpf), 1,
				       SCMP_A0_32(SCMP_CMP_EQ, bpf_commands[i]));
	if (!err)
		err = seccomp_load(ctx);
	if (ctx)
		seccomp_release(ctx);
	return err;
}

int cman_proc_drop(uid_t uid, gid_t gid)
{
	if (!geteuid()) {
		if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0)
			return -errno;
	}
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return -EPERM;
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
#ifdef __SANITIZE_ADDRESS__
	return 0; /* the sanitizers' run-time needs more calls than a cell */
#endif
	return filter();
}

int cman_proc_limit_manager(void)
{
	static const unsigned int kept[] = {
		CAP_NET_ADMIN,	CAP_BPF,     CAP_PERFMON,      CAP_NET_BIND_SERVICE,
		CAP_SYS_PTRACE, CAP_SETUID,  CAP_SETGID,       CAP_SETPCAP,
		CAP_CHOWN,	CAP_KILL,    CAP_DAC_OVERRIDE, CAP_SYS_RESOURCE,
		CAP_FOWNER,	CAP_NET_RAW, CAP_SYS_NICE,     CAP_IPC_LOCK, /* secret.h */
		CAP_SYSLOG,						     /* inspect_raw.h */
	};

	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	if (geteuid())
		return 0;
	capng_clear(CAPNG_SELECT_BOTH);
	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
		if (prctl(PR_CAPBSET_READ, kept[i]) == 1 && /* a container may lack some */
		    capng_update(CAPNG_ADD,
				 (capng_type_t)(CAPNG_EFFECTIVE | CAPNG_PERMITTED |
						CAPNG_BOUNDING_SET),
				 kept[i]) < 0)
			return -EPERM;
	return capng_apply(CAPNG_SELECT_BOTH) < 0 ? -EPERM : 0;
}

bool cman_proc_is(pid_t pid, const char *what, uid_t uid)
{
	char path[64], line[256], comm[32] = "";
	unsigned int real = ~0u;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "Name:", 5))
			sscanf(line + 5, " %31s", comm);
		else if (!strncmp(line, "Uid:", 4))
			sscanf(line + 4, " %u", &real);
	}
	fclose(f);
	return real == uid && !strncmp(comm, "cman-", 5) && !strncmp(comm + 5, what, strlen(what));
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void cman_proc_close_others(const int *keep, unsigned int n)
{
	int sorted[256];
	unsigned int next = 3;

	if (n > 256)
		n = 256;
	memcpy(sorted, keep, n * sizeof(*keep));
	qsort(sorted, n, sizeof(*sorted), by_number);
	for (unsigned int i = 0; i < n; i++) {
		if (sorted[i] < (int)next)
			continue;
		if (sorted[i] > (int)next)
			close_range(next, (unsigned int)sorted[i] - 1, 0);
		next = (unsigned int)sorted[i] + 1;
	}
	close_range(next, ~0u, 0);
}

void cman_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t len;
	int fd;

	if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof(sa.sun_path))
		return;
	len = strlen(path);
	memcpy(sa.sun_path, path, len);
	if (*path == '@')
		sa.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sa,
		      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}

uint64_t cman_proc_nofile(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	limit.rlim_cur = limit.rlim_max < NOFILE_MAX ? limit.rlim_max : NOFILE_MAX;
	setrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}

void cman_proc_memlock(void)
{
	const struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_MEMLOCK, &limit);
}

int cman_proc_netns(uint64_t *ret_inode)
{
	struct stat st;

	if (stat("/proc/self/ns/net", &st) < 0)
		return -errno;
	*ret_inode = st.st_ino;
	return 0;
}

int cman_proc_boot_id(uint8_t ret_id[16])
{
	char text[64];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t len;
	unsigned int n = 0;

	if (fd < 0)
		return -errno;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len < 36)
		return -EBADMSG;
	text[len] = 0;
	for (char *p = text; *p && n < 16; p++) {
		unsigned int byte;

		if (*p == '-')
			continue;
		if (!isxdigit(*p) || sscanf(p, "%2x", &byte) != 1)
			return -EBADMSG;
		ret_id[n++] = (uint8_t)byte;
		p++;
	}
	return n == 16 ? 0 : -EBADMSG;
}
