/* SPDX-License-Identifier: Apache-2.0
 * Messages: one line on standard error, harmless for a terminal (ftk_show()). */
#ifndef FTK_CLI_SAY_H
#define FTK_CLI_SAY_H

#include <stdarg.h>
#include <stddef.h>

#include "foretoken.h"

/* Exit statuses. */
enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* "foretoken: ..." */
void cli_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "foretoken COMMAND: ...". */
void cli_say_as(const char *command, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));
/* Says what failed, unless the library has said so already. Returns CLI_FAILED. */
int cli_fail(ftk_err err, const char *what);
/* The host of everything the program opens: its log hook goes to standard error. */
ftk_host cli_host(void);
/* What the library says to this thread from now on is not shown: the last ERROR line goes to
 * buf, which is "" without one. NULL ends that. */
void cli_hush(char *buf, size_t cap);

#endif
