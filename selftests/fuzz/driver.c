// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The driver of the fuzz smoke tests: what libFuzzer does, without coverage, in a plain program that
 * any compiler builds. It feeds the corpus of a target and then a fixed number of mutations of it to
 * LLVMFuzzerTestOneInput(). The same seed gives the same inputs, so a failure can be repeated. The
 * input being tried is always in a file (-o): after a crash that file is the one to replay.
 * Prints TAP.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define INPUT_SIZE 65536
#define MAX_SEEDS  4096

int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

struct input {
	uint8_t *data;
	size_t size;
};

static struct input seeds[MAX_SEEDS];
static size_t n_seeds;
static uint64_t rng_state;
static int out_fd = -1;

static uint64_t rng(void)
{
	/* xorshift64*: enough for mutations, the same on every machine */
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

static size_t below(size_t n)
{
	return n ? rng() % n : 0;
}

/* An exact copy on the heap: the address sanitizer then sees a read of one byte too many. */
static void try_input(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	if (out_fd >= 0 && (pwrite(out_fd, data, size, 0) < 0 || ftruncate(out_fd, size) < 0))
		perror("# writing the current input");
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static int load_file(const char *path)
{
	struct input *in = &seeds[n_seeds];
	struct stat st;
	ssize_t n = -1;
	int fd;

	if (n_seeds == MAX_SEEDS)
		return -E2BIG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size <= INPUT_SIZE) {
		in->data = malloc(st.st_size ? st.st_size : 1);
		n = in->data ? read(fd, in->data, st.st_size) : -1;
	}
	close(fd);
	if (n < 0) {
		free(in->data);
		in->data = NULL;
		return -EINVAL;
	}
	in->size = n;
	n_seeds++;
	return 0;
}

/* In the order of names, so that a run does not depend on the file system. */
static int load_dir(const char *path)
{
	struct dirent **names;
	char file[4096];
	int i, n, err = 0;

	n = scandir(path, &names, NULL, alphasort);
	if (n < 0)
		return -errno;
	for (i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
			if (load_file(file))
				err = printf("# cannot load %s\n", file);
		}
		free(names[i]);
	}
	free(names);
	return err ? -EIO : 0;
}

static void put_be(uint8_t *p, size_t width, uint64_t v)
{
	while (width--) {
		p[width] = v;
		v >>= 8;
	}
}

static size_t mutate_once(uint8_t *b, size_t size)
{
	/* clang-format off */
	static const uint64_t special[] = {
		0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff,
		0x80000000, 0xffffffff, ~0ULL,
	};
	/* clang-format on */
	const struct input *other;
	size_t at = below(size), n, from, width;

	switch (rng() % 10) {
	case 0: /* flip a bit */
		if (size)
			b[at] ^= 1 << below(8);
		return size;
	case 1: /* another byte */
		if (size)
			b[at] = rng();
		return size;
	case 2: /* a little more, a little less */
		if (size)
			b[at] += below(9) - 4;
		return size;
	case 3: /* a big-endian number at the edge of a type */
	case 4:
		width = (size_t)1 << below(4);
		if (size >= width)
			put_be(b + below(size - width + 1), width,
			       special[below(sizeof(special) / sizeof(special[0]))]);
		return size;
	case 5: /* cut off the end */
		return at;
	case 6: /* remove a piece */
		n = below(size - at + 1);
		memmove(b + at, b + at + n, size - at - n);
		return size - n;
	case 7: /* insert random bytes */
		n = 1 + below(16);
		if (size + n > INPUT_SIZE)
			return size;
		memmove(b + at + n, b + at, size - at);
		for (from = 0; from < n; from++)
			b[at + from] = rng();
		return size + n;
	case 8: /* repeat a piece */
		n = 1 + below(size - at);
		if (!size || size + n > INPUT_SIZE)
			return size;
		memmove(b + at + n, b + at, size - at);
		return size + n;
	default: /* go on as another seed does */
		if (!n_seeds)
			return size;
		other = &seeds[below(n_seeds)];
		from = below(other->size);
		n = other->size - from;
		if (at + n > INPUT_SIZE)
			n = INPUT_SIZE - at;
		memcpy(b + at, other->data + from, n);
		return at + n;
	}
}

static void one_mutation(void)
{
	static uint8_t buf[INPUT_SIZE];
	size_t size = 0, rounds;

	if (n_seeds) {
		const struct input *in = &seeds[below(n_seeds)];

		size = in->size;
		memcpy(buf, in->data, size);
	} else {
		size = below(128);
		for (rounds = 0; rounds < size; rounds++)
			buf[rounds] = rng();
	}
	for (rounds = 1 + below(6); rounds; rounds--)
		size = mutate_once(buf, size);
	try_input(buf, size);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	unsigned long iterations = 20000, done;
	double limit = 60, start;
	const char *out = NULL;
	size_t i;
	int opt;

	rng_state = 20240229;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	while ((opt = getopt(argc, argv, "n:s:t:c:o:h")) != -1) {
		switch (opt) {
		case 'n':
			iterations = strtoul(optarg, NULL, 0);
			break;
		case 's':
			rng_state = strtoull(optarg, NULL, 0) | 1;
			break;
		case 't':
			limit = atof(optarg);
			break;
		case 'c':
			if (load_dir(optarg)) {
				printf("Bail out! cannot load the corpus %s\n", optarg);
				return 1;
			}
			break;
		case 'o':
			out = optarg;
			break;
		default:
			fprintf(stderr,
				"usage: %s [-n ITERATIONS] [-s SEED] [-t SECONDS] [-c CORPUS] "
				"[-o CURRENT-INPUT] [FILE...]\nWith FILEs these alone are tried.\n",
				argv[0]);
			return 2;
		}
	}
	if (optind < argc) {
		iterations = 0;
		for (; optind < argc; optind++) {
			if (load_file(argv[optind])) {
				printf("Bail out! cannot load %s\n", argv[optind]);
				return 1;
			}
		}
	}
	if (out) {
		out_fd = open(out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (out_fd < 0) {
			printf("Bail out! cannot write %s\n", out);
			return 1;
		}
	}

	printf("1..%d\n", iterations ? 2 : 1);
	try_input((const uint8_t *)"", 0);
	for (i = 0; i < n_seeds; i++)
		try_input(seeds[i].data, seeds[i].size);
	printf("ok 1 - the corpus, %zu inputs\n", n_seeds);
	if (iterations) {
		start = now();
		for (done = 0; done < iterations; done++) {
			one_mutation();
			if ((done & 255) == 255 && now() - start > limit)
				break;
		}
		printf("ok 2 - %lu mutations\n", done);
	}
	for (i = 0; i < n_seeds; i++)
		free(seeds[i].data);
	if (out_fd >= 0) {
		close(out_fd);
		unlink(out);
	}
	return 0;
}
