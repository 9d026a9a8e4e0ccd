/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading and writing /proc/sys/net/ipv?/conf (ifconf.h tells the story).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usr/sys/ifconf.h"

/* 0 .. n-1 of struct cman_quiet */
enum { ARP_IGNORE, ARP_ANNOUNCE, RP_FILTER };

/* A name is a folder here, so nothing that leads elsewhere. */
static int open_setting(uint16_t family, const char *interface, const char *key, int flags)
{
	char path[128];
	int fd, n;

	if (family != AF_INET && family != AF_INET6)
		return -EAFNOSUPPORT;
	if (!*interface || strchr(interface, '/') || !strcmp(interface, ".") ||
	    !strcmp(interface, ".."))
		return -ENODEV;
	if (!*key || strchr(key, '/') || *key == '.')
		return -EINVAL;
	n = snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s",
		     family == AF_INET ? "ipv4" : "ipv6", interface, key);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ENODEV : -errno;
	return fd;
}

int cman_ifconf_get(uint16_t family, const char *interface, const char *key, int32_t *ret_value)
{
	int fd = open_setting(family, interface, key, O_RDONLY);
	char text[16], *end;
	int err = 0;
	ssize_t n;
	long value;

	if (fd < 0)
		return fd;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		err = -errno;
	close(fd);
	if (err)
		return err;
	text[n] = '\0';
	value = strtol(text, &end, 10);
	if (end == text || (*end != '\n' && *end != '\0') || value < INT32_MIN || value > INT32_MAX)
		return -EBADMSG; /* a setting of another kind */
	*ret_value = (int32_t)value;
	return 0;
}

static int write_setting(uint16_t family, const char *interface, const char *key, int32_t value)
{
	int fd = open_setting(family, interface, key, O_WRONLY);
	char text[16];
	int err = 0, n = snprintf(text, sizeof(text), "%d\n", value);

	if (fd < 0)
		return fd;
	if (write(fd, text, (size_t)n) < 0)
		err = -errno;
	if (close(fd) && !err)
		err = -errno;
	return err;
}

int cman_ifconf_set(uint16_t family, const char *interface, const char *key, int32_t value,
		    struct cman_ifconf *ret_saved)
{
	struct cman_ifconf saved = { .value = value };
	int err;

	if (strlen(interface) >= sizeof(saved.interface))
		return -ENODEV;
	if (strlen(key) >= sizeof(saved.key))
		return -EINVAL;
	err = cman_ifconf_get(family, interface, key, &saved.old);
	if (err)
		return err;
	if (saved.old != value) {
		err = write_setting(family, interface, key, value);
		if (err)
			return err;
		saved.family = family;
		strcpy(saved.interface, interface);
		strcpy(saved.key, key);
	}
	*ret_saved = saved;
	return 0;
}

int cman_ifconf_restore(const struct cman_ifconf *saved)
{
	int32_t now;
	int err;

	if (!saved->family)
		return 0;
	err = cman_ifconf_get(saved->family, saved->interface, saved->key, &now);
	if (!err && now != saved->value)
		return now == saved->old ? 0 : -ESTALE;
	if (!err)
		err = write_setting(saved->family, saved->interface, saved->key, saved->old);
	return err == -ENODEV ? 0 : err;
}

/* Sets conf/INTERFACE/@key to @value unless what is in force does already: @good is a mask of values. */
static int need(const char *interface, const char *key, int32_t value, uint32_t good,
		struct cman_ifconf *ret_saved)
{
	int32_t all, own, larger;
	int err;

	err = cman_ifconf_get(AF_INET, "all", key, &all);
	if (!err)
		err = cman_ifconf_get(AF_INET, interface, key, &own);
	if (err)
		return err;
	larger = all > own ? all : own;
	if (larger >= 0 && larger < 32 && (good & 1u << larger))
		return 0;
	/* what is too large in conf/all cannot be helped on the interface */
	larger = all > value ? all : value;
	if (larger < 0 || larger >= 32 || !(good & 1u << larger))
		return -EBUSY;
	return cman_ifconf_set(AF_INET, interface, key, value, ret_saved);
}

int cman_quiet_begin(const char *interface, struct cman_quiet *ret_quiet)
{
	struct cman_quiet quiet = { 0 };
	int32_t strict_everywhere;
	int err;

	/* 2 asks for a sender of the same network besides; 8 answers nobody. 3 answers for lo. */
	err = need(interface, "arp_ignore", 1, 1u << 1 | 1u << 2 | 1u << 8,
		   &quiet.saved[ARP_IGNORE]);
	if (!err)
		err = need(interface, "arp_announce", 2, 1u << 2, &quiet.saved[ARP_ANNOUNCE]);
	if (!err)
		err = cman_ifconf_get(AF_INET, "all", "rp_filter", &strict_everywhere);
	if (!err)
		err = need(interface, "rp_filter", strict_everywhere ? 2 : 0, 1u << 0 | 1u << 2,
			   &quiet.saved[RP_FILTER]);
	if (err) {
		(void)cman_quiet_end(&quiet);
		return err;
	}
	*ret_quiet = quiet;
	return 0;
}

int cman_quiet_end(struct cman_quiet *quiet)
{
	int first = 0;

	for (size_t i = sizeof(quiet->saved) / sizeof(quiet->saved[0]); i-- > 0;) {
		int err = cman_ifconf_restore(&quiet->saved[i]);

		if (!first)
			first = err;
	}
	*quiet = (struct cman_quiet){ 0 };
	return first;
}
