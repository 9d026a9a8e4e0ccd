// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * hold_thread TID: stops this one thread of another process (ptrace(2)), says "held", and lets it go
 * on at the end of standard input. SIGSTOP would stop all threads.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	pid_t tid = argc == 2 ? (pid_t)strtol(argv[1], NULL, 10) : 0;
	char c;

	if (tid <= 0) {
		fprintf(stderr, "usage: hold_thread TID\n");
		return 2;
	}
	if (ptrace(PTRACE_SEIZE, tid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 ||
	    waitpid(tid, NULL, __WALL) != tid) {
		perror("hold_thread");
		return 1;
	}
	puts("held");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0 || errno == EINTR)
		;
	return ptrace(PTRACE_DETACH, tid, 0, 0) < 0;
}
