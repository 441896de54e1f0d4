/* SPDX-License-Identifier: Apache-2.0
 *
 * What the fuzz targets share. A target, tests/fuzz_*.c, is LLVMFuzzerTestOneInput() and
 * fuzz_seed(); it runs under libFuzzer (./dev fuzz) or, with any compiler, under fuzzdriver.c. */
#ifndef FTK_TESTS_FUZZING_H
#define FTK_TESTS_FUZZING_H

#include "testkit/ggufwriter.h"

/* Returns 0; ends the program where something does not hold that has to. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Appends input i to begin with to *out, which is empty; false when there are no more. */
bool fuzz_seed(size_t i, gw_bytes *out);

/* The bytes as a file. Valid, and its contents too, until the next call; close nothing. */
const char *fuzz_file(const void *data, size_t size);

/* Counts error lines from 0 on; ends the program at one with a control character in it. Its other
 * members are NULL. */
const ftk_host *fuzz_host(int *n_errors);

#endif
