/* SPDX-License-Identifier: Apache-2.0 */
#include "progress.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static const double first_wait = 1, live_wait = 0.2, line_wait = 10;

bool cli_progress_due(cli_progress *p, double t, bool live, bool end)
{
    const bool due = p->shown > 0 ? end || t - p->shown >= (live ? live_wait : line_wait)
                                  : !end && t - p->began >= first_wait;
    if (due) p->shown = t;
    return due;
}

/* Other threads speak, too. */
static atomic_bool standing;

void cli_progress_show(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputc('\r', stderr);
    vfprintf(stderr, fmt, args);
    fputs("\x1b[K", stderr);
    va_end(args);
    atomic_store(&standing, true);
}

void cli_progress_clear(void)
{
    if (atomic_exchange(&standing, false)) fputs("\r\x1b[K", stderr);
}
