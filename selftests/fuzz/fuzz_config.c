/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a configuration file: the loader must answer with a model or with one error that
 * names the file and has a sane line, without a crash or a leak. What loads must validate again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "usr/sys/conf.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cman_conf_error error = { .text = "" };
	struct cman_conf *conf = NULL;
	size_t lines = 1, i;
	char path[64];
	int fd, r;

	fd = memfd_create("conf", MFD_CLOEXEC);
	if (fd < 0)
		return 0;
	if (write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return 0;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = cman_conf_load(path, &conf, &error);
	close(fd);
	for (i = 0; i < size; i++)
		lines += data[i] == '\n';
	if (r < 0) {
		if (conf || strncmp(error.text, path, strlen(path)) || error.line > lines ||
		    !memchr(error.text, '\0', sizeof(error.text)))
			abort();
		return 0;
	}
	if (cman_conf_validate(conf, &error) < 0)
		abort();
	cman_conf_free(conf);
	return 0;
}
