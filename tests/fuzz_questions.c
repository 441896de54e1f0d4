/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target of the question files: any bytes are read as one. Every bad line is named on
 * standard error: run it with -close_fd_mask=2. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/questions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    const int fd = memfd_create("questions", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    questions q;
    if (questions_read(&q, path, 0) == 0) {
        size_t sum = 0;
        for (size_t i = 0; i < q.n; i++) sum += strlen(q.text[i]);
        if (sum > size) abort();
    }
    questions_free(&q);
    close(fd);
    return 0;
}
