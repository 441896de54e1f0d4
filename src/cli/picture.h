/* SPDX-License-Identifier: Apache-2.0
 * Samples to files: a grid of pictures as PNG, or the numbers as .npy. */
#ifndef FTK_CLI_PICTURE_H
#define FTK_CLI_PICTURE_H

#include <stdbool.h>
#include <stddef.h>

enum { CLI_GAP = 2 }; /* pixels between pictures */

/* Pictures x [n][channels][side][side], -1 black to 1 white; channels 1 or 3. */
typedef struct cli_pictures {
    const float *x;
    int n, channels, side;
    int columns; /* of the grid */
    int scale;   /* pixels a side that one becomes */
} cli_pictures;

/* Says what failed; path "-" is standard output. */
bool cli_save_png(const cli_pictures *p, const char *path);
/* The same numbers as they are: little-endian floats, [n][channels][side][side]. */
bool cli_save_npy(const cli_pictures *p, const char *path);

#endif
