/* SPDX-License-Identifier: Apache-2.0
 * What one thread of this machine can do at most, measured on the spot. */
#ifndef FTK_PEAKS_H
#define FTK_PEAKS_H

typedef struct peaks {
    double products; /* multiplications and additions a second; 0: not known */
    double bytes;    /* read from memory a second */
} peaks;

/* level: "avx2", "avx512" (products of bytes), "amx" (tiles of bf16) or another. The machine has
 * it. */
peaks peaks_of(const char *level);

#endif
