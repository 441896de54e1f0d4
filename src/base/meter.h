/* SPDX-License-Identifier: Apache-2.0
 * A host that counts the bytes which another one has given and not got back. */
#ifndef FTK_METER_H
#define FTK_METER_H

#include "foretoken.h"

typedef struct ftk_meter {
    const ftk_host *under;
    uint64_t bytes;
} ftk_meter;

/* More bytes of each block: they hold its size, and keep what follows aligned. */
enum { FTK_METER_HEAD = 64 };

/* m and under outlive what the host gives. */
ftk_host ftk_meter_host(ftk_meter *m, const ftk_host *under);

#endif
