// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The log: form of a line, levels (own and shared), nothing forged by what a line quotes, long
 * lines, errno, one write a line.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/sys/log.h"

/* stderr is a datagram socket: one write is one message */
static int reader, real_stderr;

static void begin(void)
{
	int sv[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	real_stderr = dup(STDERR_FILENO);
	cr_assert_geq(dup2(sv[1], STDERR_FILENO), 0);
	close(sv[1]);
	reader = sv[0];
}

static void end(void)
{
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	close(reader);
}

TestSuite(log, .init = begin, .fini = end);

static char *line(void)
{
	static char buf[8192];
	ssize_t n = read(reader, buf, sizeof(buf) - 1);

	if (n < 0)
		return NULL;
	buf[n] = '\0';
	return buf;
}

Test(log, form_of_a_line)
{
	cman_warn("cannot connect to the target", "service=%s err=%d", "db", 111);
	cr_assert_str_eq(line(), "<4>cannot connect to the target service=db err=111\n");
	cman_log_init("manager");
	cman_err("it broke", NULL);
	cr_assert_str_eq(line(), "<3>it broke proc=manager\n");
	cman_log_init("gateway 0");
	cman_notice("hello", "a=%c", 'b');
	cr_assert_str_eq(line(), "<5>hello proc=\"gateway 0\" a=b\n");
	cman_info("100% sure", "b=%s", "50%d");
	cr_assert_str_eq(line(), "<6>100% sure proc=\"gateway 0\" b=50%d\n");
	cr_assert_null(line());
}

Test(log, the_name_is_copied)
{
	char name[16] = "keeper 1";

	cman_log_init(name);
	memset(name, 'x', sizeof(name) - 1);
	cman_err("e", NULL);
	cr_assert_str_eq(line(), "<3>e proc=\"keeper 1\"\n");
	cman_log_init(NULL);
	cman_err("e", NULL);
	cr_assert_str_eq(line(), "<3>e\n");
}

Test(log, levels)
{
	volatile uint32_t shared = LOG_ERR;

	cman_debug("no", NULL);
	cr_assert_null(line());
	cman_log_set_level(LOG_DEBUG);
	cman_debug("yes", NULL);
	cr_assert_str_eq(line(), "<7>yes\n");
	cman_log_share_level(&shared);
	cman_warn("no", NULL);
	cr_assert_null(line());
	shared = LOG_WARNING; /* as the manager does for all its processes */
	cman_warn("yes", NULL);
	cr_assert_str_eq(line(), "<4>yes\n");
	cman_log_set_level(LOG_EMERG);
	cman_log(LOG_ALERT, "no", NULL);
	cr_assert_null(line());
	cman_log(LOG_EMERG, "yes", NULL);
	cr_assert_str_eq(line(), "<0>yes\n");
	/* out of range: the nearest */
	cman_log(-5, "yes", NULL);
	cr_assert_str_eq(line(), "<0>yes\n");
	cman_log_set_level(LOG_DEBUG);
	cman_log(99, "yes", NULL);
	cr_assert_str_eq(line(), "<7>yes\n");
}

Test(log, names_of_levels)
{
	int level;

	for (level = LOG_EMERG; level <= LOG_DEBUG; level++)
		cr_assert_eq(cman_log_level_parse(cman_log_level_name(level)), level);
	cr_assert_str_eq(cman_log_level_name(LOG_ERR), "err");
	cr_assert_str_eq(cman_log_level_name(LOG_WARNING), "warning");
	cr_assert_str_eq(cman_log_level_name(8), "?");
	cr_assert_str_eq(cman_log_level_name(-1), "?");
	cr_assert_eq(cman_log_level_parse("error"), -EINVAL);
	cr_assert_eq(cman_log_level_parse(""), -EINVAL);
	cr_assert_eq(cman_log_level_parse("INFO"), -EINVAL);
}

Test(log, nothing_is_forged)
{
	cman_warn("the peer sent an error", "text=%s", "x\n<0>forged\r\x1b[2J\x7f \xc3\xbc");
	cr_assert_str_eq(line(), "<4>the peer sent an error text=x?<0>forged??[2J? \xc3\xbc\n");
	cr_assert_null(line());
}

Test(log, long_lines_are_cut)
{
	char text[5000], *l;
	size_t n;

	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	cman_log_init("gateway 0");
	cman_warn("long", "text=%s", text);
	l = line();
	n = strlen(l);
	cr_assert_eq(n, 2047);
	cr_assert_str_eq(l + n - 6, "yy...\n");
	cman_warn(text, "text=%s", text);
	cr_assert_eq(strlen(line()), 2047);
	/* every length around the limit: whole, or cut and marked */
	for (n = 1980; n < 2060; n++) {
		size_t got;

		text[n] = '\0';
		cman_log_init(NULL);
		cman_warn("s", "%s", text);
		l = line();
		got = strlen(l);
		cr_assert_eq(l[got - 1], '\n');
		cr_assert(got == n + 6 || (got == 2047 && !strcmp(l + got - 4, "...\n")));
		text[n] = 'y';
	}
}

Test(log, errno_is_kept)
{
	int closed = dup(STDERR_FILENO);

	errno = ENOTTY;
	cman_warn("w", "err=%m");
	cr_assert_eq(errno, ENOTTY);
	cr_assert_str_eq(line(), "<4>w err=Inappropriate ioctl for device\n");
	close(STDERR_FILENO); /* nobody listens: no harm */
	errno = ENOTTY;
	cman_warn("w", NULL);
	cr_assert_eq(errno, ENOTTY);
	dup2(closed, STDERR_FILENO);
	close(closed);
}
