/* SPDX-License-Identifier: Apache-2.0
 * How far something slow is, on standard error. */
#ifndef FTK_CLI_PROGRESS_H
#define FTK_CLI_PROGRESS_H

#include <stdbool.h>

typedef struct cli_progress {
    double began, shown; /* seconds; shown is 0 until something is */
} cli_progress;

/* Whether a line is due at time t: after a second, then five times a second where lines are live,
 * else every ten seconds; and at the end, if there was one before. */
bool cli_progress_due(cli_progress *p, double t, bool live, bool end);

/* A line on a terminal: the next one, and all that cli_say() says, takes its place. */
void cli_progress_show(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Takes it away; harmless where there is none. */
void cli_progress_clear(void);

#endif
