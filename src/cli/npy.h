/* SPDX-License-Identifier: Apache-2.0
 * Arrays of floats in NumPy's format, version 1: docs of numpy.lib.format. */
#ifndef FTK_CLI_NPY_H
#define FTK_CLI_NPY_H

#include <stdbool.h>
#include <stdio.h>

/* x of these four dimensions, little-endian; false where writing failed. */
bool cli_npy_write(FILE *f, const float *x, const int dims[4]);

#endif
