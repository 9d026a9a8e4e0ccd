/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the verb image: a file of images (usr/core/image.h) as one JSON document. Which members there are
 * comes from the field table; a dot in a name is an object in the object. The bytes of connections
 * are lengths, with --bytes also hexadecimal in a member NAME_hex. Secrets are lengths, always; what was
 * read of the file is wiped.
 */
#include "cmanctl.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "usr/core/image.h"

/* what has been written may be read: these are no limits, but those of the format */
#define MOST_BYTES  (UINT64_C(64) << 30)
#define MOST_QUEUE  (UINT64_C(512) << 20)
#define MOST_IMAGES UINT32_MAX

static void close_fd(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static void wipe_free(uint8_t *data, size_t len)
{
	if (data)
		explicit_bzero(data, len);
	free(data);
}

/* 0 or -errno */
static int read_file(const char *path, uint8_t **ret, size_t *ret_len)
{
	__attribute__((cleanup(close_fd))) int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = 0, used = 0;
	uint8_t *data = NULL, *more;
	struct stat st;
	ssize_t n;
	int err;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	do {
		if (used == size) {
			/* one byte more than a file has tells that it ends */
			size = size ? 2 * size : (size_t)st.st_size + 1;
			more = malloc(size);
			if (!more) {
				err = -ENOMEM;
				goto err_free;
			}
			if (used)
				memcpy(more, data, used);
			wipe_free(data, used);
			data = more;
		}
		n = read(fd, data + used, size - used);
		if (n < 0 && errno != EINTR) {
			err = -errno;
			goto err_free;
		}
		used += n > 0 ? (size_t)n : 0;
	} while (n);
	*ret = data;
	*ret_len = used;
	return 0;

err_free:
	wipe_free(data, used);
	return err;
}

struct dump {
	json_t *image;
	bool bytes;
};

static json_t *of_unsigned(uint64_t v)
{
	return v > INT64_MAX ? json_real((double)v) : json_integer((json_int_t)v);
}

static json_t *of_number(const struct cman_image_value *v, unsigned int i)
{
	return v->show == CMAN_IMAGE_SHOW_SIGNED ? json_integer((json_int_t)v->number[i]) :
						   of_unsigned(v->number[i]);
}

static json_t *of_hex(const uint8_t *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	char *text = malloc(2 * n + 1);
	json_t *v;

	if (!text)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		text[2 * i] = digits[p[i] >> 4];
		text[2 * i + 1] = digits[p[i] & 15];
	}
	v = json_stringn(text, 2 * n);
	free(text);
	return v;
}

static json_t *of_address(const uint8_t addr[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	char text[INET6_ADDRSTRLEN];

	if (memcmp(addr, mapped, sizeof(mapped)) == 0)
		inet_ntop(AF_INET, addr + 12, text, sizeof(text));
	else
		inet_ntop(AF_INET6, addr, text, sizeof(text));
	return json_string(text);
}

static json_t *of_value(const struct cman_image_value *v)
{
	json_t *array;
	int err = 0;

	switch (v->show) {
	case CMAN_IMAGE_SHOW_BOOL:
		return json_boolean(v->number[0]);
	case CMAN_IMAGE_SHOW_ID:
		return json_sprintf("%016" PRIx64, v->number[0]);
	case CMAN_IMAGE_SHOW_ADDRESS:
		return of_address(v->bytes);
	case CMAN_IMAGE_SHOW_TEXT:
		return json_stringn((const char *)v->bytes, v->len);
	case CMAN_IMAGE_SHOW_BYTES:
	case CMAN_IMAGE_SHOW_SECRET:
		return of_unsigned(v->len);
	case CMAN_IMAGE_SHOW_UNSIGNED:
	case CMAN_IMAGE_SHOW_SIGNED:
		break;
	}
	if (v->count == 1)
		return of_number(v, 0);
	array = json_array();
	for (unsigned int i = 0; array && i < v->count && !err; i++)
		err = json_array_append_new(array, of_number(v, i));
	if (err) {
		json_decref(array);
		array = NULL;
	}
	return array;
}

/* The object @name of @parent, @len bytes long; it is made when it is not there. */
static json_t *member(json_t *parent, const char *name, size_t len)
{
	char key[64];
	json_t *m;

	snprintf(key, sizeof(key), "%.*s", (int)len, name);
	m = json_object_get(parent, key);
	if (!m && json_object_set_new(parent, key, json_object()) == 0)
		m = json_object_get(parent, key);
	return m;
}

static int add_value(void *arg, const struct cman_image_value *v)
{
	const struct dump *d = arg;
	json_t *in = member(d->image, v->block, strlen(v->block));
	const char *name = v->name, *dot = strchr(name, '.');
	char key[64];
	int err;

	if (in && dot) {
		in = member(in, name, (size_t)(dot - name));
		name = dot + 1;
	}
	if (!in)
		return -ENOMEM;
	err = json_object_set_new(in, name, of_value(v));
	if (!err && d->bytes && v->show == CMAN_IMAGE_SHOW_BYTES) {
		snprintf(key, sizeof(key), "%s_hex", name);
		err = json_object_set_new(in, key, of_hex(v->bytes, v->len));
	}
	return err ? -ENOMEM : 0;
}

/* NULL: out of memory */
static json_t *describe(struct cman_image_cursor *cursor, const struct cman_image_header *h,
			bool bytes)
{
	json_t *images = json_array(), *doc;
	struct cman_repair_image leg[CMAN_IMAGE_LEGS];
	struct cman_wire_session session;
	int err = images ? 0 : -ENOMEM;

	doc = json_pack("{s:i, s:o, s:I, s:o}", "version", h->version, "batch",
			json_sprintf("%016" PRIx64, h->batch), "length", (json_int_t)h->length,
			"images", images);
	while (doc && !err && cman_image_next(cursor, &session, leg) == 0) {
		struct dump d = { .image = json_object(), .bytes = bytes };

		err = d.image ? cman_image_describe(&session, leg, add_value, &d) : -ENOMEM;
		if (json_array_append_new(images, d.image) != 0)
			err = -ENOMEM;
	}
	if (err) {
		json_decref(doc);
		doc = NULL;
	}
	return doc;
}

enum ctl_exit ctl_verb_image(struct ctl *c)
{
	static const struct cman_image_limits limits = { .total = MOST_BYTES,
							 .queue = MOST_QUEUE,
							 .count = MOST_IMAGES };
	const char *path = c->args[1], *why = NULL;
	struct cman_image_cursor cursor;
	struct cman_image_header header;
	uint8_t *data = NULL;
	json_t *doc = NULL;
	size_t len = 0;
	int err;

	err = read_file(path, &data, &len);
	if (err)
		return ctl_fail(c, CTL_FAILED, "cannot read %s: %s", path, strerror(-err));
	err = cman_image_open(data, len, &limits, &header, &cursor, &why);
	if (!err)
		doc = describe(&cursor, &header, ctl_given(c, OPT_BYTES));
	if (doc)
		ctl_print_json(c, doc);
	json_decref(doc);
	wipe_free(data, len);
	if (err && err != -ENOMEM)
		return ctl_fail(c, CTL_FAILED,
				"%s is not an image: %s; expected a file of RUN_DIR/ALIAS/images, "
				"of format version %d",
				path, why, CMAN_IMAGE_VERSION);
	return doc ? CTL_DONE : ctl_fail(c, CTL_FAILED, "out of memory");
}
