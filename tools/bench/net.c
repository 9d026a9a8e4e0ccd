// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TCP addresses and sockets: parse and print "1.2.3.4:80", "[::1]:80" and names, listen, start a
 * connection from the next source address, and sort errors into the classes that reports count.
 * Every socket is non-blocking and close-on-exec; connections have TCP_NODELAY.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static int resolve(const char *host, const char *port, struct address *ret)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV,
	}, *res;

	if (getaddrinfo(host, port, &hints, &res))
		return -EINVAL;
	*ret = (struct address){ .len = res->ai_addrlen };
	memcpy(&ret->sa, res->ai_addr, res->ai_addrlen);
	freeaddrinfo(res);
	return 0;
}

/* "*" is every address of both families. */
int address_parse(const char *text, bool with_port, struct address *ret)
{
	char host[256];
	const char *port = NULL, *end = text + strlen(text), *start = text;
	unsigned long n;
	char *rest;

	if (*text == '[') {
		start = text + 1;
		end = strchr(text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		if (end[1])
			port = end + 2;
	} else if (with_port) {
		end = strrchr(text, ':');
		/* A second colon is an IPv6 address without brackets: which part is the port? */
		if (!end || memchr(text, ':', (size_t)(end - text)))
			return -EINVAL;
		port = end + 1;
	}
	if (with_port) {
		if (!port || *port < '0' || *port > '9')
			return -EINVAL;
		n = strtoul(port, &rest, 10);
		if (*rest || n > 65535)
			return -EINVAL;
	} else if (port) {
		return -EINVAL;
	}
	if (end == start || (size_t)(end - start) >= sizeof(host))
		return -EINVAL;
	memcpy(host, start, (size_t)(end - start));
	host[end - start] = '\0';
	return resolve(strcmp(host, "*") ? host : "::", port ? port : "0", ret);
}

void address_format(const struct address *a, char *buf, size_t len)
{
	const struct sockaddr_in6 *six = (const void *)&a->sa;
	const struct sockaddr_in *four = (const void *)&a->sa;
	char host[INET6_ADDRSTRLEN];

	if (a->sa.ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof(host));
		snprintf(buf, len, "[%s]:%u", host, ntohs(six->sin6_port));
	} else if (a->sa.ss_family == AF_INET) {
		inet_ntop(AF_INET, &four->sin_addr, host, sizeof(host));
		snprintf(buf, len, "%s:%u", host, ntohs(four->sin_port));
	} else {
		snprintf(buf, len, "-");
	}
}

void address_of_socket(int fd, bool remote, char *buf, size_t len)
{
	struct address a = { .len = sizeof(a.sa) };
	int r;

	if (remote)
		r = getpeername(fd, (struct sockaddr *)&a.sa, &a.len);
	else
		r = getsockname(fd, (struct sockaddr *)&a.sa, &a.len);
	if (r < 0)
		a.sa.ss_family = AF_UNSPEC;
	address_format(&a, buf, len);
}

int net_listen(const struct address *a, int backlog, int *ret_fd)
{
	int fd, err, one = 1, zero = 0;

	fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		goto err_close;
	/* Inherited by what it accepts. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
		goto err_close;
	if (a->sa.ss_family == AF_INET6 &&
	    IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr) &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) < 0)
		goto err_close;
	if (bind(fd, (const struct sockaddr *)&a->sa, a->len) < 0)
		goto err_close;
	if (listen(fd, backlog) < 0)
		goto err_close;
	*ret_fd = fd;
	return 0;

err_close:
	err = -errno;
	close(fd);
	return err;
}

/*
 * Start connection number `index`: targets and sources take turns. Returns 0 or -EINPROGRESS with a
 * socket, or another error without one. The port is chosen at connect time, so that every source
 * address has all ports for every target.
 */
int net_connect(const struct bench_options *opt, const struct address_list *to, uint64_t index,
		int rcvbuf, int *ret_fd)
{
	const struct address *a = &to->v[index % to->nr], *src;
	int fd, err, one = 1;

	fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
		goto err_close;
	if (rcvbuf && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf)) < 0)
		goto err_close;
	if (opt->source.nr) {
		src = &opt->source.v[(index / to->nr) % opt->source.nr];
		if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) < 0)
			goto err_close;
		if (bind(fd, (const struct sockaddr *)&src->sa, src->len) < 0)
			goto err_close;
	}
	if (connect(fd, (const struct sockaddr *)&a->sa, a->len) < 0 && errno != EINPROGRESS)
		goto err_close;
	*ret_fd = fd;
	return -EINPROGRESS;

err_close:
	err = -errno;
	close(fd);
	return err;
}

int net_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return -errno;
	return -err;
}

/* The close that follows sends RST and leaves no TIME_WAIT. */
void net_reset(int fd)
{
	struct linger hard = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

enum fail fail_of_errno(int err)
{
	switch (err < 0 ? -err : err) {
	case 0:
		return FAIL_NONE;
	case ECONNREFUSED:
		return FAIL_REFUSED;
	case ECONNRESET:
	case ECONNABORTED:
	case EPIPE:
		return FAIL_RESET;
	case ETIMEDOUT:
		return FAIL_TIMEOUT;
	case ERR_TLS:
		return FAIL_TLS;
	case ERR_TRUNCATED:
		return FAIL_TRUNCATED;
	case EHOSTUNREACH:
	case ENETUNREACH:
		return FAIL_UNREACHABLE;
	case EADDRNOTAVAIL:
	case EADDRINUSE:
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return FAIL_LOCAL;
	default:
		return FAIL_OTHER;
	}
}

const char *fail_name(enum fail f)
{
	static const char *const names[FAIL_MAX] = {
		[FAIL_NONE] = "none",	      [FAIL_REFUSED] = "refused",
		[FAIL_RESET] = "reset",	      [FAIL_TIMEOUT] = "timeout",
		[FAIL_EOF] = "eof",	      [FAIL_UNREACHABLE] = "unreachable",
		[FAIL_LOCAL] = "local_limit", [FAIL_WRONG] = "wrong_bytes",
		[FAIL_TLS] = "tls",	      [FAIL_TRUNCATED] = "truncated",
		[FAIL_OTHER] = "other",
	};

	return names[f];
}
