/* SPDX-License-Identifier: Apache-2.0
 * A host that counts bytes. */
#include "base/meter.h"

#include <string.h>

#include "base/mem.h"

static void *meter_alloc(void *ctx, size_t size, size_t align)
{
    (void)align; /* FTK_METER_HEAD at most */
    ftk_meter *const m = ctx;
    char *const block = size <= SIZE_MAX - FTK_METER_HEAD
                            ? ftk_alloc_raw(m->under, 1, size + FTK_METER_HEAD)
                            : NULL;
    if (!block) return NULL;
    size += FTK_METER_HEAD;
    memcpy(block, &size, sizeof size);
    m->bytes += size;
    return block + FTK_METER_HEAD;
}

static void meter_free(void *ctx, void *p)
{
    ftk_meter *const m = ctx;
    char *const block = (char *)p - FTK_METER_HEAD;
    size_t size;
    memcpy(&size, block, sizeof size);
    m->bytes -= size;
    ftk_release(m->under, block);
}

static void meter_log(void *ctx, ftk_log_level level, const char *line)
{
    const ftk_meter *const m = ctx;
    if (m->under->log) m->under->log(m->under->ctx, level, line);
}

ftk_host ftk_meter_host(ftk_meter *m, const ftk_host *under)
{
    *m = (ftk_meter){.under = under};
    return (ftk_host){.ctx = m, .alloc = meter_alloc, .free = meter_free, .log = meter_log};
}
