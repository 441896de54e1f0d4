/* SPDX-License-Identifier: Apache-2.0
 *
 * Passes that verify a tree or decode plainly are kept whole (ftk_cuda_graph): one for each number of
 * rows, rounded up, and each length, rounded up; and so are those that read FTK_MAX_NODES tokens of a
 * prompt, of which no logits are wanted, and rows that have a route. All that differs between two
 * passes of a kind lies in the inputs, in device memory; rows that are there only to round up see
 * nothing, are read by nobody and store nothing. */
#include "device_cuda.h"

void ftk_gpu_drop_kept(ftk_gpu *c)
{
    for (int i = 0; i < FTK_GPU_ROW_KINDS; i++)
        for (int j = 0; j < FTK_GPU_SLOT_KINDS; j++) {
            ftk_cuda_graph_free(c->kept[i][j].graph);
            c->kept[i][j] = (ftk_gpu_kept){0};
        }
}

ftk_gpu_kept *ftk_gpu_kind(ftk_gpu *c, ftk_gpu_pass *p)
{
    const ftk_pass_seq *seq = p->seqs;
    const bool piece = seq->n_rows == FTK_MAX_NODES && seq->first_logits == seq->n_rows;
    const bool tree = seq->n_rows <= FTK_GPU_KEPT_ROWS && seq->first_logits == 0;
    if (c->keeps_none || p->n_seqs != 1 || p->first > 0 || seq->states || !(piece || tree) ||
        p->f->layers < c->m->hp.n_layer)
        return NULL;
    int rows = 0, slots = 0;
    if (seq->n_rows > 1) rows = (seq->n_rows + FTK_TILE_ROWS - 1) / FTK_TILE_ROWS;
    if (piece) rows = FTK_GPU_TREE_KINDS;
    if (p->policy) rows = FTK_GPU_TREE_KINDS + 1;
    while (FTK_CUDA_CHUNK << slots < seq->kv->len + seq->slot + seq->n_rows) slots++;
    if (slots >= FTK_GPU_SLOT_KINDS) return NULL;
    const char *pool = seq->kv->pool->data;
    if (c->kept_pool != pool || c->kept_keep != p->f->keep ||
        (p->policy && p->policy != c->kept_policy))
        ftk_gpu_drop_kept(c);
    c->kept_pool = pool;
    c->kept_keep = p->f->keep;
    if (p->policy) c->kept_policy = p->policy;
    if (tree && seq->n_rows > 1) p->n_rows = p->n_logits = rows * FTK_TILE_ROWS;
    p->n_slots = FTK_CUDA_CHUNK << slots;
    return &c->kept[rows][slots];
}

/* The first pass of a kind is done as it stands, as kernels may be loaded then; the second one is kept,
 * and all further ones are one call. */
void ftk_gpu_compute_kept(ftk_gpu *c, ftk_gpu_kept *k, const ftk_gpu_pass *p)
{
    if (k->seen && !k->graph && !c->keeps_none) {
        ftk_cuda_graph_begin(&c->q);
        ftk_gpu_compute(c, p);
        k->graph = ftk_cuda_graph_end(&c->q);
        c->keeps_none = !k->graph;
    }
    k->seen = true;
    if (k->graph)
        ftk_cuda_graph_run(&c->q, k->graph);
    else
        ftk_gpu_compute(c, p);
}

int ftk_gpu_n_kept(const ftk_device *d)
{
    const ftk_gpu *c = (const void *)d;
    int n = 0;
    for (int i = 0; i < FTK_GPU_ROW_KINDS; i++)
        for (int j = 0; j < FTK_GPU_SLOT_KINDS; j++) n += c->kept[i][j].graph != NULL;
    return c->keeps_none ? -1 : n;
}
