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
        for (size_t i = 0; i < q.n; i++) {
            if (q.at[i].n_turns == 0 || strlen(q.at[i].category) > size + 16) abort();
            for (size_t t = 0; t < q.at[i].n_turns; t++) sum += strlen(q.at[i].turns[t]);
        }
        if (sum > size) abort();
    }
    questions_free(&q);
    close(fd);
    return 0;
}
