/* SPDX-License-Identifier: Apache-2.0 */
#include "say.h"

#include <stdio.h>
#include <string.h>

#include "progress.h"

/* An ERROR line was shown since this thread's last cli_fail(): what was called says it on the
 * thread that called. */
static _Thread_local bool library_spoke;

void cli_say_as(const char *command, const char *fmt, va_list args)
{
    char raw[2048], line[2048];
    vsnprintf(raw, sizeof raw, fmt, args);
    /* Names from a file or the command line must not reach the terminal as control sequences. */
    ftk_show(raw, strlen(raw), 0, line, sizeof line);
    cli_progress_clear();
    fprintf(stderr, "foretoken%s%s: %s\n", command ? " " : "", command ? command : "", line);
}

void cli_say(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    cli_say_as(NULL, fmt, args);
    va_end(args);
}

int cli_fail(ftk_err err, const char *what)
{
    if (!library_spoke) cli_say("%s: %s", what, ftk_strerror(err));
    library_spoke = false;
    return CLI_FAILED;
}

static _Thread_local struct {
    char *buf;
    size_t cap;
} hushed;

void cli_hush(char *buf, size_t cap)
{
    hushed.buf = buf;
    hushed.cap = cap;
    if (buf) buf[0] = 0;
}

static void log_line(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    if (level == FTK_LOG_INFO) return;
    if (hushed.buf) {
        if (level == FTK_LOG_ERROR) snprintf(hushed.buf, hushed.cap, "%s", line);
        return;
    }
    if (level == FTK_LOG_ERROR) library_spoke = true;
    cli_say("%s", line);
}

ftk_host cli_host(void)
{
    return (ftk_host){.log = log_line};
}
