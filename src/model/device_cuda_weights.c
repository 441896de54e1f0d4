/* SPDX-License-Identifier: Apache-2.0
 * Weights to a GPU, once, in tiles. */
#include "base/team.h"
#include "device_cuda.h"

static void *reserve(ftk_gpu_loading *l, size_t bytes)
{
    char *at = l->arena ? l->arena + l->bytes : NULL;
    l->bytes += ftk_gpu_up_to(bytes, FTK_GPU_ALIGN);
    return at;
}

/* Tiles [first, first + n) to the host's stage. */
typedef struct rearranging {
    const ftk_mat *w;
    size_t tile;
    int first, n;
    char *to;
} rearranging;

static void rearrange(void *ctx, int ith, int nth)
{
    const rearranging *const r = ctx;
    const ftk_mat *const w = r->w;
    for (int i = ith; i < r->n; i += nth)
        ftk_tiles_pack(w->type, w->n_out, w->n_in, w->file, r->first + i, 1,
                       r->to + (size_t)i * r->tile);
}

void ftk_gpu_put_matrix(ftk_gpu_loading *l, const ftk_mat *w, ftk_cuda_mat *to)
{
    const size_t bytes = ftk_tiles_bytes(w->type, w->n_out, w->n_in);
    char *at = reserve(l, bytes);
    if (!l->arena) return;
    *to = (ftk_cuda_mat){w->type, w->n_out, w->n_in, at};
    const size_t tile = ftk_tiles_bytes(w->type, FTK_TILE_OUT, w->n_in);
    const int n_tiles = (w->n_out + FTK_TILE_OUT - 1) / FTK_TILE_OUT;
    const int most = (int)(l->stage_size / tile);
    for (int first = 0; first < n_tiles; first += most) {
        const int n = n_tiles - first < most ? n_tiles - first : most;
        ftk_team_run_once(rearrange, &(rearranging){w, tile, first, n, l->stage}, l->host);
        const size_t from = (size_t)first * tile, left = bytes - from;
        ftk_cuda_upload(l->q, at + from, l->stage,
                        left < (size_t)n * tile ? left : (size_t)n * tile);
        ftk_cuda_wait(l->q); /* the stage is written again */
    }
}

const void *ftk_gpu_put(ftk_gpu_loading *l, const void *from, size_t bytes)
{
    char *at = reserve(l, bytes);
    if (l->arena) ftk_cuda_upload(l->q, at, from, bytes);
    return at;
}

void ftk_gpu_put_vector(ftk_gpu_loading *l, const float *v, int n, const float **to)
{
    if (v) *to = ftk_gpu_put(l, v, (size_t)n * sizeof *v);
}

static void put_layer(ftk_gpu_loading *l, ftk_gpu *c, int i)
{
    const ftk_layer *from = &c->m->layers[i];
    const ftk_hparams *hp = &c->m->hp;
    const int d = hp->n_embd, dq = hp->n_head * hp->head_dim, dkv = hp->n_head_kv * hp->head_dim;
    ftk_gpu_layer *to = &c->layers[i];
    for (int j = 0; j < FTK_LAYER_MATS; j++)
        ftk_gpu_put_matrix(l, ftk_layer_mat(from, j), ftk_gpu_layer_mat(to, j));
    ftk_gpu_put_vector(l, from->attn_norm, d, &to->attn_norm);
    ftk_gpu_put_vector(l, from->ffn_norm, d, &to->ffn_norm);
    ftk_gpu_put_vector(l, from->attn_post_norm, d, &to->attn_post_norm);
    ftk_gpu_put_vector(l, from->ffn_post_norm, d, &to->ffn_post_norm);
    ftk_gpu_put_vector(l, from->q_norm, hp->head_dim, &to->q_norm);
    ftk_gpu_put_vector(l, from->k_norm, hp->head_dim, &to->k_norm);
    ftk_gpu_put_vector(l, from->q_bias, dq, &to->q_bias);
    ftk_gpu_put_vector(l, from->k_bias, dkv, &to->k_bias);
    ftk_gpu_put_vector(l, from->v_bias, dkv, &to->v_bias);
    ftk_gpu_put_vector(l, from->o_bias, d, &to->o_bias);
}

size_t ftk_gpu_put_weights(ftk_gpu *c)
{
    ftk_gpu_loading l = ftk_gpu_load(c, c->arena);
    for (int i = 0; i < c->m->hp.n_layer; i++) put_layer(&l, c, i);
    ftk_gpu_put_vector(&l, c->m->output_norm, c->m->hp.n_embd, &c->output_norm);
    ftk_gpu_put_matrix(&l, &c->m->output, &c->output);
    if (c->m->output.file == c->m->embd.file)
        c->embd = c->output;
    else
        ftk_gpu_put_matrix(&l, &c->m->embd, &c->embd);
    return l.bytes;
}

static size_t tile_of(const ftk_mat *w)
{
    return ftk_tiles_bytes(w->type, FTK_TILE_OUT, w->n_in);
}

size_t ftk_gpu_widest_tile(const ftk_model *m)
{
    size_t most = ftk_gpu_most(tile_of(&m->embd), tile_of(&m->output));
    for (int i = 0; i < m->hp.n_layer; i++)
        for (int j = 0; j < FTK_LAYER_MATS; j++)
            most = ftk_gpu_most(most, tile_of(ftk_layer_mat(&m->layers[i], j)));
    return most;
}
