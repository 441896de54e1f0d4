/* SPDX-License-Identifier: Apache-2.0
 * The CUDA level behind the kernel table, for checkkernels: every entry copies what it needs to
 * the device, runs there and copies back. Linked with the emulated kernels, or with those of the
 * GPU. */
#ifndef FTK_TESTS_CUDALEVEL_H
#define FTK_TESTS_CUDALEVEL_H

#include "kernels/kernels.h"

/* Fills the table and its name ("cuda" or "cuda-emu"); NULL, or why there is no such device. */
const char *ftk_kernels_cuda(ftk_kernels *k, int device);
/* False once a kernel has written beside an output of its own, or the device has failed. */
bool ftk_kernels_cuda_intact(void);
void ftk_kernels_cuda_close(void);

#endif
