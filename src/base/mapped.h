/* SPDX-License-Identifier: Apache-2.0
 * A whole file, mapped to be read. */
#ifndef FTK_MAPPED_H
#define FTK_MAPPED_H

#include "foretoken.h"

typedef struct ftk_mapped {
    const char *p; /* NULL: none is mapped */
    size_t n;
} ftk_mapped;

/* shown: the path in messages. Errors: IO, FORMAT (an empty file), UNSUPPORTED (too large), each
 * with one line. */
ftk_err ftk_mapped_open(ftk_mapped *m, const char *path, const char *shown, const ftk_host *host);
void ftk_mapped_close(ftk_mapped *m);

#endif
