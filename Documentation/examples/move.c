/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * move: a connection of an nc-like program goes on in another process.
 *
 *	move listen PORT SOCKET    take one connection, print what it says, answer with our lines;
 *	                           at SIGUSR1 give the connection to whoever is at SOCKET, and end
 *	move take SOCKET           wait at SOCKET for a connection, and go on with it
 *
 * The image goes through a Unix socket as it is: both are the same program on the same machine.
 * Between two machines it needs a format of its own. Needs CAP_NET_ADMIN and CAP_NET_RAW; the
 * caller keeps the network out meanwhile (see cman/repair.h, "the guard").
 *
 *	cc -o move move.c -lcman
 */
#include <arpa/inet.h>
#include <cman/repair.h>
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static volatile sig_atomic_t leave;

static void on_signal(int sig)
{
	leave = sig;
}

static void all(ssize_t (*io)(int, void *, size_t), int fd, void *bytes, size_t len)
{
	for (ssize_t n; len; bytes = (char *)bytes + n, len -= (size_t)n)
		if ((n = io(fd, bytes, len)) <= 0)
			err(1, "the channel broke");
}

static ssize_t put(int fd, void *bytes, size_t len)
{
	return write(fd, bytes, len);
}

static int channel(const char *path, int give)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
	if (give ? connect(fd, (struct sockaddr *)&to, sizeof(to)) :
		   bind(fd, (struct sockaddr *)&to, sizeof(to)) || listen(fd, 1))
		err(1, "%s", path);
	return give ? fd : accept(fd, NULL, NULL);
}

static void give(int conn, const char *path)
{
	struct cman_repair_image image = { 0 };
	const char *why;
	int chan = channel(path, 1);

	if (cman_repair_check(conn, &why) || cman_repair_describe(conn, &image, &why) ||
	    cman_repair_freeze(conn, &image, &why))
		errx(1, "cannot move: %s", why);
	if (cman_repair_export(conn, &image, &why)) {
		cman_repair_thaw(conn, &image, NULL);
		errx(1, "cannot move: %s", why);
	}
	all(put, chan, &image, sizeof(image));
	all(put, chan, image.in.data, image.in.len);
	all(put, chan, image.out.data, image.out.len);
	/* a careful program waits here until the other side has said that it has everything */
	if (cman_repair_close(conn, &why))
		errx(1, "close: %s", why);
	all(put, chan, "", 1);
	cman_repair_free(&image);
}

static int take(const char *path)
{
	struct cman_repair_image image;
	const char *why = "no memory";
	char gone;
	int conn, chan = channel(path, 0);

	all(read, chan, &image, sizeof(image));
	image.in = (struct cman_repair_queue){ .len = image.in.len };
	image.out = (struct cman_repair_queue){ .len = image.out.len };
	if (cman_repair_reserve(&image.in, image.in.len + 1) ||
	    cman_repair_reserve(&image.out, image.out.len + 1))
		errx(1, "%s", why);
	all(read, chan, image.in.data, image.in.len);
	all(read, chan, image.out.data, image.out.len);
	all(read, chan, &gone, 1); /* the old socket is closed: its addresses are free */
	if (cman_repair_import(&image, NULL, &conn, &why) ||
	    cman_repair_release(conn, &image, NULL, &why))
		errx(1, "cannot take: %s", why);
	cman_repair_free(&image);
	return conn;
}

static int wait_for_one(const char *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)strtol(port, NULL, 10)) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 1))
		err(1, "port %s", port);
	return accept(fd, NULL, NULL);
}

int main(int argc, char **argv)
{
	struct sigaction usr1 = { .sa_handler = on_signal };
	struct pollfd from[2] = { { .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
	int listens = argc == 4 && strcmp(argv[1], "listen") == 0;
	char bytes[4096];

	if (!listens && (argc != 3 || strcmp(argv[1], "take") != 0))
		errx(2, "usage: move listen PORT SOCKET | move take SOCKET");
	sigaction(SIGUSR1, &usr1, NULL);
	from[0].fd = listens ? wait_for_one(argv[2]) : take(argv[2]);
	while (!leave) {
		if (poll(from, 2, -1) < 0)
			continue;
		for (int i = 0; i < 2; i++) {
			ssize_t n = from[i].revents ? read(from[i].fd, bytes, sizeof(bytes)) : 0;

			if (from[i].revents && n <= 0 && i == 0)
				return 0;
			if (from[i].revents && n <= 0)
				from[i].fd = -1;
			if (n > 0)
				all(put, i ? from[0].fd : STDOUT_FILENO, bytes, (size_t)n);
		}
	}
	if (listens)
		give(from[0].fd, argv[3]);
	return 0;
}
