/* SPDX-License-Identifier: Apache-2.0
 * Pictures through gnuplot, where it is installed. */
#ifndef FTK_BENCH_GNUPLOT_H
#define FTK_BENCH_GNUPLOT_H

#include <stdbool.h>
#include <stdio.h>

bool gnuplot_there(void);
/* Whether path ends in .png or .svg and can be named inside a script. */
bool gnuplot_can_write(const char *path);
/* Starts a script whose picture goes to path; NULL when gnuplot cannot be started. */
FILE *gnuplot_open(const char *path, int width, int height);
/* Ends it; false when there is no picture. */
bool gnuplot_close(FILE *f);

#endif
