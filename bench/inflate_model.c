/* SPDX-License-Identifier: Apache-2.0
 * The model that inflate writes: how the small one lies in it, its tensors and keys. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inflate.h"
#include "run.h"
#include "weights.h"

/* ---- how the small model lies in the large one */

void inflate_axis(axis *a, int n)
{
    a->n = n;
    a->from = malloc((size_t)n * sizeof *a->from);
    if (!a->from) run_die("no memory for %d indices", n);
    for (int i = 0; i < n; i++) a->from[i] = NEW;
}

void inflate_place(axis *a, int at, int from, int n)
{
    for (int i = 0; i < n; i++) a->from[at + i] = from + i;
}

/* A matrix reads the first copy of the stream; those that add to it write all. */
static void place_stream(job *j)
{
    const int d = j->small->hp.n_embd;
    inflate_axis(&j->axes[STREAM_IN], j->s.dim);
    inflate_axis(&j->axes[STREAM_OUT], j->s.dim);
    inflate_place(&j->axes[STREAM_IN], 0, 0, d);
    for (int i = 0; i < j->copies; i++) inflate_place(&j->axes[STREAM_OUT], i * d, 0, d);
}

/* Every query head keeps its own keys and values. Where a KV head serves fewer query heads than in
 * the small model, it is held several times; where it serves more, new ones read old values. */
static void place_heads(job *j)
{
    const ftk_hparams *hp = &j->small->hp;
    const int hd = hp->head_dim;
    const int old_group = hp->n_head / hp->n_head_kv, group = j->s.heads / j->s.heads_kv;
    const int repeat = (old_group + group - 1) / group;
    if (hp->n_head_kv * repeat > j->s.heads_kv)
        run_refuse("%d heads on %d kv heads cannot hold the small model's %d on %d: it needs %d kv "
                   "heads",
                   j->s.heads, j->s.heads_kv, hp->n_head, hp->n_head_kv, hp->n_head_kv * repeat);
    inflate_axis(&j->axes[QUERY], j->s.heads * hd);
    inflate_axis(&j->axes[KV], j->s.heads_kv * hd);
    for (int h = 0; h < hp->n_head_kv * repeat; h++)
        inflate_place(&j->axes[KV], h * hd, h / repeat * hd, hd);
    for (int i = 0; i < hp->n_head_kv * repeat * group * hd; i++) j->axes[QUERY].from[i] = LIVE;
    for (int h = 0; h < hp->n_head; h++) {
        const int kv = h / old_group, i = h % old_group;
        inflate_place(&j->axes[QUERY], ((kv * repeat + i / group) * group + i % group) * hd, h * hd,
                      hd);
    }
}

void inflate_lay_out(job *j)
{
    const ftk_hparams *hp = &j->small->hp;
    place_stream(j);
    place_heads(j);
    inflate_axis(&j->axes[FFN], j->s.ffn);
    inflate_place(&j->axes[FFN], 0, 0, hp->n_ff);
    inflate_axis(&j->axes[VOCAB], hp->n_vocab);
    inflate_place(&j->axes[VOCAB], 0, 0, hp->n_vocab);
}

int inflate_small_layer(const job *j, int i, int *near)
{
    const int n = j->small->hp.n_layer;
    const int before = (int)((int64_t)i * n / j->s.layers);
    const int after = (int)((int64_t)(i + 1) * n / j->s.layers);
    *near = before < after || before == 0 ? before : before - 1;
    return after > before ? before : -1;
}

/* ---- tensors */

/* New query heads look somewhere, and find values of 0. A new feed-forward unit is silu(0) * up. */
static const matrix layer_parts[] = {
    {"attn_q", STREAM_IN, QUERY, NOISE, NOISE},   {"attn_k", STREAM_IN, KV, NOISE, NOISE},
    {"attn_v", STREAM_IN, KV, NOISE, ZEROS},      {"attn_output", QUERY, STREAM_OUT, NOISE, AT_NEW},
    {"ffn_gate", STREAM_IN, FFN, NOISE, ZEROS},   {"ffn_up", STREAM_IN, FFN, NOISE, NOISE},
    {"ffn_down", FFN, STREAM_OUT, NOISE, AT_NEW},
};
enum { N_PARTS = sizeof layer_parts / sizeof layer_parts[0] };

/* The rows of token_embd are the stream itself: [n_vocab][dim]. */
static const matrix embeddings = {"token_embd.weight", STREAM_OUT, VOCAB, ZEROS, ZEROS};
static const matrix output = {"output.weight", STREAM_IN, VOCAB, NOISE, ZEROS};

static void put_noise(job *j, const weight_type *t, int n, void *row)
{
    weights_random(t, &j->noise, 1 / sqrt((double)n), (size_t)n, row);
}

/* The next run of inputs that are not NEW, from *i on: [*i, *end) come from one place. */
static bool next_run(const axis *a, int *i, int *end)
{
    while (*i < a->n && a->from[*i] == NEW) ++*i;
    for (*end = *i; *end < a->n; ++*end)
        if (a->from[*end] != (a->from[*i] == LIVE ? LIVE : a->from[*i] + *end - *i)) break;
    return *i < a->n;
}

/* Overwrites what a row has for inputs that are not NEW: by the small model's row, else zeros. */
static void put_old(const axis *in, ftk_type type, const char *old, char *row)
{
    for (int i = 0, end; next_run(in, &i, &end); i = end) {
        char *at = row + ftk_type_bytes(type, (size_t)i);
        const size_t bytes = ftk_type_bytes(type, (size_t)(end - i));
        if (old && in->from[i] >= 0)
            memcpy(at, old + ftk_type_bytes(type, (size_t)in->from[i]), bytes);
        else
            memset(at, 0, bytes);
    }
}

/* Blocks are copied whole: no run may begin or end inside one. */
static void check_blocks(const job *j, const char *name, const matrix *p, ftk_type type)
{
    const int block = (int)ftk_type_block(type);
    const axis *in = &j->axes[p->in];
    for (int i = 0, end; next_run(in, &i, &end); i = end)
        if (i % block != 0 || (end - i) % block != 0 || (in->from[i] > 0 && in->from[i] % block))
            run_refuse(
                "%s: blocks of %d weights (%s) would be torn: keep as many heads to a kv head "
                "as the small model has, or sizes that are multiples of the block",
                name, block, ftk_type_name(type));
}

void inflate_matrix(job *j, const char *name, const matrix *p, const ftk_tensor_info *old,
                    bool is_new)
{
    const axis *in = &j->axes[p->in], *out = &j->axes[p->out];
    const ftk_type type = (ftk_type)old->type;
    if (j->planning) {
        check_blocks(j, name, p, type);
        modelfile_plan(&j->m, name, in->n, out->n, type);
        return;
    }
    const weight_type *t = weights_of(old->type);
    const size_t bytes = ftk_type_bytes(type, (size_t)in->n);
    const size_t old_bytes = ftk_type_bytes(type, (size_t)old->dims[0]);
    char *row = malloc(bytes);
    if (!row || !t)
        run_die("%s: no random weights of type %s, or no memory", name, ftk_type_name(type));
    for (int r = 0; r < out->n; r++) {
        const int from = out->from[r];
        const fill f = is_new ? NOISE : from < 0 ? p->below : p->beside;
        if (f == ZEROS)
            memset(row, 0, bytes);
        else
            put_noise(j, t, in->n, row);
        if (!is_new && from >= 0)
            put_old(in, type, (const char *)old->data + (size_t)from * old_bytes, row);
        else if (f == AT_NEW)
            put_old(in, type, NULL, row);
        modelfile_write(&j->m, row, bytes);
    }
    modelfile_align(&j->m);
    free(row);
}

/* Norm weights: 0 where the stream is new or a copy, and all of them in a new layer. */
static void put_norm(job *j, const char *name, const float *old, bool is_new)
{
    const axis *in = &j->axes[STREAM_IN];
    if (j->planning) {
        modelfile_plan(&j->m, name, in->n, 0, FTK_TYPE_F32);
        return;
    }
    for (int i = 0; i < in->n; i++) {
        const bool zero = is_new || in->from[i] == NEW;
        const float w = zero ? 0.0f : (float)(old[in->from[i]] * sqrt(j->factor));
        modelfile_write(&j->m, &w, sizeof w);
    }
    modelfile_align(&j->m);
}

static ftk_tensor_info find(const job *j, const char *name)
{
    ftk_tensor_info info;
    if (!ftk_gguf_find_tensor(j->small->file, name, &info)) run_die("tensor %s is missing", name);
    return info;
}

static void put_layer(job *j, int i)
{
    int near;
    const bool is_new = inflate_small_layer(j, i, &near) < 0;
    const ftk_layer *old = &j->small->layers[near];
    char name[64], old_name[64];
    snprintf(name, sizeof name, "blk.%d.attn_norm.weight", i);
    put_norm(j, name, old->attn_norm, is_new);
    snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", i);
    put_norm(j, name, old->ffn_norm, is_new);
    for (int p = 0; p < N_PARTS; p++) {
        snprintf(old_name, sizeof old_name, "blk.%d.%s.weight", near, layer_parts[p].name);
        snprintf(name, sizeof name, "blk.%d.%s.weight", i, layer_parts[p].name);
        const ftk_tensor_info info = find(j, old_name);
        inflate_matrix(j, name, &layer_parts[p], &info, is_new);
    }
}

/* Angles of llama-3 do not depend on the shape. */
static void put_rope(job *j, const ftk_tensor_info *old)
{
    if (j->planning) {
        modelfile_plan(&j->m, "rope_freqs.weight", (int)old->dims[0], 0, (ftk_type)old->type);
        return;
    }
    modelfile_write(&j->m, old->data, (size_t)old->size);
    modelfile_align(&j->m);
}

void inflate_put_tensors(job *j, bool planning)
{
    j->planning = planning;
    j->noise = 1;
    ftk_tensor_info info = find(j, embeddings.name);
    inflate_matrix(j, embeddings.name, &embeddings, &info, false);
    for (int i = 0; i < j->s.layers; i++) put_layer(j, i);
    put_norm(j, "output_norm.weight", j->small->output_norm, false);
    if (ftk_gguf_find_tensor(j->small->file, output.name, &info))
        inflate_matrix(j, output.name, &output, &info, false);
    if (ftk_gguf_find_tensor(j->small->file, "rope_freqs.weight", &info)) put_rope(j, &info);
}

/* ---- keys */

void inflate_put_keys(job *j)
{
    const ftk_hparams *hp = &j->small->hp;
    const struct {
        const char *key;
        int n;
    } numbers[] = {
        {"llama.embedding_length", j->s.dim},
        {"llama.block_count", j->s.layers},
        {"llama.feed_forward_length", j->s.ffn},
        {"llama.attention.head_count", j->s.heads},
        {"llama.attention.head_count_kv", j->s.heads_kv},
        {"llama.attention.key_length", hp->head_dim},
        {"llama.attention.value_length", hp->head_dim},
        {"llama.rope.dimension_count", hp->n_rot},
    };
    enum { N = sizeof numbers / sizeof numbers[0] };
    static const char eps[] = "llama.attention.layer_norm_rms_epsilon";
    gw *w = &j->m.head;
    for (size_t i = 0; i < ftk_gguf_n_keys(j->small->file); i++) {
        ftk_str key;
        ftk_gguf_value v;
        ftk_gguf_key(j->small->file, i, &key, &v);
        bool ours = key.n == strlen(eps) && memcmp(key.p, eps, key.n) == 0;
        static const char alignment[] = "general.alignment";
        ours |= key.n == strlen(alignment) && memcmp(key.p, alignment, key.n) == 0;
        for (int k = 0; k < N; k++)
            ours |= key.n == strlen(numbers[k].key) && memcmp(key.p, numbers[k].key, key.n) == 0;
        if (!ours) gw_copy(w, key, &v);
    }
    for (int k = 0; k < N; k++) gw_u32(w, numbers[k].key, (uint32_t)numbers[k].n);
    gw_f32(w, eps, (float)(hp->norm_eps * j->factor));
}

/* ---- the small model */

ftk_model *inflate_load(const char *path)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = run_log;
    cfg.kernels = "ref";
    ftk_model *m;
    if (ftk_model_load(&m, path, &cfg) != FTK_OK) exit(RUN_FAILED);
    return m;
}

void inflate_check_known(const ftk_model *small)
{
    for (size_t i = 0; i < ftk_gguf_n_tensors(small->file); i++) {
        ftk_tensor_info t;
        ftk_gguf_tensor(small->file, i, &t);
        char name[96], part[64];
        snprintf(name, sizeof name, "%.*s", (int)t.name.n, t.name.p);
        bool known = strcmp(name, embeddings.name) == 0 || strcmp(name, output.name) == 0 ||
                     strcmp(name, "output_norm.weight") == 0 ||
                     strcmp(name, "rope_freqs.weight") == 0;
        if (sscanf(name, "blk.%*d.%63s", part) == 1) {
            known |= strcmp(part, "attn_norm.weight") == 0 || strcmp(part, "ffn_norm.weight") == 0;
            for (int p = 0; p < N_PARTS; p++) {
                const size_t n = strlen(layer_parts[p].name);
                known |=
                    strncmp(part, layer_parts[p].name, n) == 0 && strcmp(part + n, ".weight") == 0;
            }
        }
        if (!known) run_die("tensor %.80s is no part of a llama model that can be inflated", name);
    }
}
