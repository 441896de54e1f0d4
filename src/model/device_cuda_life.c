/* SPDX-License-Identifier: Apache-2.0
 * What every user of an NVIDIA GPU does: finds it, deals out its memory, and keeps what went wrong
 * first. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "device_cuda.h"

ftk_err ftk_gpu_find(const char *device, int *ordinal, ftk_cuda_info *info, char *why, size_t cap)
{
    if (!ftk_device_known(device, ordinal))
        return ftk_why(why, cap, FTK_ERR_INVALID, FTK_DEVICE_UNKNOWN, device);
    if (ftk_cuda_probe(*ordinal, info)) return FTK_OK;
    return ftk_why(why, cap, FTK_ERR_DEVICE, "device %s: %s", device, info->problem);
}

ftk_err ftk_gpu_begin(ftk_gpu_life *l, ftk_queue *q, int ordinal, const ftk_cuda_info *info,
                      char *why, size_t cap)
{
    l->q = q;
    snprintf(l->name, sizeof l->name, "cuda:%d %s", ordinal, info->name);
    if (ftk_cuda_open(q, ordinal)) return FTK_OK;
    return ftk_why(why, cap, FTK_ERR_DEVICE, "%s cannot be used: %s", l->name,
                   ftk_cuda_error_text(q));
}

void ftk_gpu_sync(ftk_gpu_life *l)
{
    ftk_cuda_wait(l->q);
    if (l->q->error == 0 || l->trouble[0]) return;
    snprintf(l->trouble, sizeof l->trouble, "%s failed: %s", l->name, ftk_cuda_error_text(l->q));
}

ftk_err ftk_gpu_arrives(ftk_gpu_life *l, char *why, size_t cap)
{
    ftk_gpu_sync(l);
    return l->trouble[0] ? ftk_why(why, cap, FTK_ERR_DEVICE, "%s", l->trouble) : FTK_OK;
}

char *ftk_gpu_take(const ftk_gpu_life *l, size_t bytes, const char *what, char *why, size_t cap)
{
    ftk_cuda_info info;
    const bool room = ftk_cuda_probe(l->q->device, &info) && bytes + ftk_gpu_reserve <= info.free;
    char *const p = room ? ftk_cuda_alloc(l->q, bytes) : NULL;
    if (!p)
        snprintf(why, cap, "%s has no %zu MiB left for %s: use a smaller context or the CPU",
                 l->name, (bytes >> 20) + 1, what);
    return p;
}

size_t ftk_gpu_attn_bytes(int n_head, int head_dim, int n_slots, int n_rows)
{
    const size_t much = 64 << 20; /* unless one row needs more */
    const size_t one = ftk_cuda_attn_partial(1, n_head, head_dim, n_slots);
    const size_t all = one * (size_t)n_rows;
    return all < much ? all : ftk_gpu_most(one, much);
}

size_t ftk_gpu_act_bytes(int n_rows, int n_in)
{
    size_t most = 0;
    for (int form = FTK_TILE_I8; form <= FTK_TILE_BF16; form++)
        most = ftk_gpu_most(most, ftk_tile_act_bytes((ftk_tile_act)form, n_rows, n_in));
    return most;
}

size_t ftk_gpu_deal(char *from, const ftk_gpu_piece *pieces, size_t n)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        char *const at = from ? from + used : NULL;
        memcpy(pieces[i].at, &at, sizeof at);
        used += ftk_gpu_up_to(pieces[i].bytes, FTK_GPU_ALIGN);
    }
    return used;
}
