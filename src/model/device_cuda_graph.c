/* SPDX-License-Identifier: Apache-2.0
 *
 * Passes that verify trees or decode plainly are kept whole (ftk_cuda_graph): one for each
 * number of rows, rounded up, and each length, rounded up; for several sequences, where each has
 * the same number of rows, which is no less for being rounded up. So are passes that read
 * FTK_MAX_NODES tokens of a prompt, of which no logits are wanted, rows that have a route, and
 * whole drafts: by heads for each number of heads, by maps for each length. All that differs
 * between two passes of a kind lies in the inputs, in device memory; rows that are there only to
 * round up see nothing, are read by nobody and store nothing. */
#include "device_cuda.h"

void ftk_gpu_drop_kept(ftk_gpu *c)
{
    ftk_gpu_kept *const all = c->kept[0][0];
    for (size_t i = 0; i < sizeof c->kept / sizeof *all; i++) {
        ftk_cuda_graph_free(all[i].graph);
        all[i] = (ftk_gpu_kept){0};
    }
}

/* What tells maps from others. */
static const void *file_of(const ftk_maps *maps)
{
    return (maps->of_token ? maps->of_token : maps->of_state)[0]->file;
}

_Static_assert((int)FTK_DEVICE_ROWS == (int)FTK_TILE_ROWS, "what products round up to");

/* Of several sequences. */
static bool alike(const ftk_gpu_pass *p)
{
    const int n_rows = p->seqs->n_rows;
    for (int s = 0; s < p->n_seqs; s++)
        if (p->seqs[s].n_rows != n_rows || p->seqs[s].first_logits > 0) return false;
    return p->n_seqs <= FTK_GPU_KEPT_SEQS && p->n_rows <= FTK_GPU_KEPT_ROWS &&
           (n_rows == 1 || n_rows % FTK_TILE_ROWS == 0);
}

ftk_gpu_kept *ftk_gpu_kind(ftk_gpu *c, ftk_gpu_pass *p)
{
    const ftk_pass_seq *seq = p->seqs;
    const bool above = p->first > 0 || seq->states;
    const bool piece = seq->n_rows == FTK_MAX_NODES && seq->first_logits == seq->n_rows;
    const bool tree = seq->n_rows <= FTK_GPU_KEPT_ROWS && seq->first_logits == 0;
    if (c->keeps_none || (p->n_seqs > 1 && !alike(p)) || p->n_joined ||
        above != (p->maps != NULL) || !(piece || tree) || p->f->layers < c->m->hp.n_layer)
        return NULL;
    int rows = 0, slots = 0;
    if (seq->n_rows > 1) rows = (seq->n_rows + FTK_TILE_ROWS - 1) / FTK_TILE_ROWS;
    const int kind = piece       ? FTK_GPU_PIECE
                     : p->maps   ? FTK_GPU_MAPPED
                     : p->policy ? FTK_GPU_ROUTED
                                 : rows;
    for (int s = 0; s < p->n_seqs; s++)
        while (FTK_CUDA_CHUNK << slots < ftk_gpu_slots_of(&p->seqs[s])) slots++;
    if (slots >= FTK_GPU_SLOT_KINDS) return NULL;
    const char *pool = seq->kv->pool->data;
    const void *maps = p->maps ? file_of(p->maps) : c->kept_maps;
    const ftk_gpu_policy *policy = p->policy ? p->policy : c->kept_policy;
    if (c->kept_pool != pool || c->kept_keep != p->f->keep ||
        (c->kept_maps && c->kept_maps != maps) || (c->kept_policy && c->kept_policy != policy))
        ftk_gpu_drop_kept(c);
    c->kept_pool = pool;
    c->kept_keep = p->f->keep;
    c->kept_maps = maps;
    c->kept_policy = policy;
    if (tree && p->n_rows > 1 && !p->maps)
        p->n_rows = p->n_logits = (int)ftk_gpu_up_to((size_t)p->n_rows, FTK_TILE_ROWS);
    p->n_slots = FTK_CUDA_CHUNK << slots;
    return &c->kept[p->n_seqs - 1][kind][slots];
}

/* The first pass of a kind is done as it stands, as kernels may be loaded then; the second one
 * is kept, and all further ones are one call. */
void ftk_gpu_do(ftk_gpu *c, ftk_gpu_kept *k, void (*work)(ftk_gpu *c, const void *ctx),
                const void *ctx)
{
    if (k && k->seen && !k->graph && !c->keeps_none) {
        ftk_cuda_graph_begin(&c->q);
        work(c, ctx);
        k->graph = ftk_cuda_graph_end(&c->q);
        c->keeps_none = !k->graph;
    }
    if (k) k->seen = true;
    if (k && k->graph)
        ftk_cuda_graph_run(&c->q, k->graph);
    else
        work(c, ctx);
}

int ftk_gpu_n_kept(const ftk_device *d)
{
    const ftk_gpu *c = (const void *)d;
    const ftk_gpu_kept *const all = c->kept[0][0];
    int n = 0;
    for (size_t i = 0; i < sizeof c->kept / sizeof *all; i++) n += all[i].graph != NULL;
    for (const ftk_gpu_drafter *f = c->drafters; f; f = f->next)
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < FTK_HEADS; j++) n += f->chain[i][j].graph != NULL;
    return c->keeps_none ? -1 : n;
}
