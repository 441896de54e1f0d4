/* SPDX-License-Identifier: Apache-2.0
 * What bench-rows measured, as a table, as JSON and as a plot. */
#ifndef FTK_BENCH_ROWS_REPORT_H
#define FTK_BENCH_ROWS_REPORT_H

#include <stdbool.h>

#include "foretoken.h"

/* Seconds: median, lower and upper quartile. */
typedef struct spread {
    double median, low, high;
} spread;

typedef struct point {
    int depth, rows;
    spread seconds;
} point;

typedef struct rows_report {
    const char *path, *note; /* note: NULL, or what the caller wants to be remembered */
    ftk_model_info model;
    int threads, rounds;
    double read_bytes; /* of the buffer whose reading was timed */
    spread read_seconds;
    point *points; /* [n_points], by depth, then rows */
    int n_points;
} rows_report;

/* The point of the same depth with one row, or NULL. */
const point *rows_report_single(const rows_report *r, const point *p);
void rows_report_print(const rows_report *r);
/* Exit with a line when the file cannot be written. */
void rows_report_json(const rows_report *r, const char *path);
/* Whether plots can be made here, and path is one that can be made; else a line on stderr. */
bool rows_report_can_plot(const char *path);
void rows_report_plot(const rows_report *r, const char *path);

#endif
