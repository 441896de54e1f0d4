/* SPDX-License-Identifier: Apache-2.0
 * What the fuzz targets share. */
#include "fuzzing.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

const char *fuzz_file(const void *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("input", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size || ftruncate(fd, (off_t)size) != 0)
        abort();
    return path;
}

static void count_line(void *ctx, ftk_log_level level, const char *line)
{
    int *n_errors = ctx;
    for (const char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) abort();
    *n_errors += level == FTK_LOG_ERROR;
}

const ftk_host *fuzz_host(int *n_errors)
{
    static ftk_host host = {.log = count_line};
    *n_errors = 0;
    host.ctx = n_errors;
    return &host;
}
