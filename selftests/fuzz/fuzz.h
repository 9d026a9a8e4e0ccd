/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every target here has: the entry that libFuzzer and driver.c call, and a check that holds in every
 * build and ends the process, which is how a fuzzer hears of it.
 */
#ifndef CMAN_FUZZ_H
#define CMAN_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

#endif
