/* SPDX-License-Identifier: Apache-2.0
 * See memorymodel.h. */
#include "testkit/memorymodel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "testkit/quantise.h"

enum { DIFFERENT = 48 }; /* rows of a matrix whose rows are repeated */

typedef struct {
    ftk_model m;
    ftk_arch arch;
    void **owned; /* all memory but this struct */
    size_t n_owned;
    uint64_t rng;
} made;

static void *own(made *w, size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    void **more = realloc(w->owned, (w->n_owned + 1) * sizeof *more);
    if (!p || !more) {
        fprintf(stderr, "no memory for a model\n");
        exit(2);
    }
    w->owned = more;
    w->owned[w->n_owned++] = p;
    memset(p, 0, bytes);
    return p;
}

/* About normal: the sum of four uniform numbers. */
static float normal(made *w)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        w->rng = w->rng * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(w->rng >> 40) * 0x1p-24f - 0.5f;
    }
    return sum * 1.7320508f;
}

static const float *vector(made *w, int n, float base, float spread)
{
    float *v = own(w, (size_t)n * sizeof *v);
    for (int i = 0; i < n; i++) v[i] = base + spread * normal(w);
    return v;
}

static ftk_mat matrix(made *w, ftk_type type, int n_out, int n_in, float spread, bool repeated)
{
    const size_t block = ftk_type_block(type), row = ftk_type_bytes(type, (size_t)n_in);
    if (row == 0) {
        fprintf(stderr, "rows of %d are no whole blocks of %s\n", n_in, ftk_type_name(type));
        exit(2);
    }
    unsigned char *data = own(w, (size_t)n_out * row);
    const int n = repeated && n_out > DIFFERENT ? DIFFERENT : n_out;
    float x[FTK_QUNIT];
    for (int o = 0; o < n; o++)
        for (size_t i = 0; i < (size_t)n_in; i += block) {
            for (size_t j = 0; j < block; j++) x[j] = spread * normal(w);
            quantise(type, x, data + (size_t)o * row + ftk_type_bytes(type, i));
        }
    for (int o = n; o < n_out; o++)
        memcpy(data + (size_t)o * row, data + (size_t)(o % n) * row, row);
    w->m.weight_bytes += (size_t)n_out * row;
    return (ftk_mat){.type = type, .n_out = n_out, .n_in = n_in, .data = data, .file = data};
}

static void fill_layer(made *w, const mm_shape *s, ftk_layer *l)
{
    const int dq = s->heads * s->head_dim, dkv = s->heads_kv * s->head_dim;
    const float in = 1.2f / sqrtf((float)s->embd);
    const bool bias = s->flags & FTK_ARCH_BIAS_QKV, post = s->flags & FTK_ARCH_NORM_POST;
    l->attn_norm = vector(w, s->embd, 1, 0.2f);
    l->ffn_norm = vector(w, s->embd, 1, 0.2f);
    if (post) l->attn_post_norm = vector(w, s->embd, 1, 0.2f);
    if (post) l->ffn_post_norm = vector(w, s->embd, 1, 0.2f);
    if (s->flags & FTK_ARCH_NORM_QK) {
        l->q_norm = vector(w, s->head_dim, 1, 0.2f);
        l->k_norm = vector(w, s->head_dim, 1, 0.2f);
    }
    if (bias) {
        l->q_bias = vector(w, dq, 0, 0.3f);
        l->k_bias = vector(w, dkv, 0, 0.3f);
        l->v_bias = vector(w, dkv, 0, 0.3f);
        l->o_bias = vector(w, s->embd, 0, 0.3f);
    }
    l->q = matrix(w, s->attn, dq, s->embd, in, s->repeated);
    l->k = matrix(w, s->attn, dkv, s->embd, in, s->repeated);
    l->v = matrix(w, s->attn, dkv, s->embd, in, s->repeated);
    l->o = matrix(w, s->attn, s->embd, dq, 1 / sqrtf((float)dq), s->repeated);
    l->gate = matrix(w, s->ffn, s->ff, s->embd, in, s->repeated);
    l->up = matrix(w, s->ffn, s->ff, s->embd, in, s->repeated);
    l->down = matrix(w, s->ffn, s->embd, s->ff, 1 / sqrtf((float)s->ff), s->repeated);
}

static const float *frequencies(made *w, int n_rot, double base)
{
    float *f = own(w, (size_t)n_rot / 2 * sizeof *f);
    for (int i = 0; i < n_rot / 2; i++) f[i] = (float)pow(base, -2.0 * i / n_rot);
    return f;
}

ftk_model *mm_open(const mm_shape *s, const char *level)
{
    made *w = calloc(1, sizeof *w);
    if (!w) exit(2);
    w->rng = 12345;
    ftk_model *m = &w->m;
    if (!ftk_kernels_fill(&m->kernels, level)) {
        fprintf(stderr, "no kernels \"%s\" here\n", level);
        exit(2);
    }
    w->arch = (ftk_arch){.name = s->name, .flags = s->flags};
    ftk_hparams *hp = &m->hp;
    hp->arch = &w->arch;
    hp->n_vocab = s->vocab;
    hp->n_ctx_train = hp->n_ctx_short = 1 << 20;
    hp->n_layer = s->layers;
    hp->n_embd = s->embd;
    hp->n_ff = s->ff;
    hp->n_head = s->heads;
    hp->n_head_kv = s->heads_kv;
    hp->head_dim = s->head_dim;
    hp->norm_eps = 1e-5f;
    hp->embd_scale = s->flags & FTK_ARCH_EMBD_SCALE ? sqrtf((float)s->embd) : 1.0f;
    hp->attn_scale = 1 / sqrtf((float)s->head_dim);
    hp->window = s->window;
    for (int i = 0; s->window > 0 && i < s->layers; i += 2) hp->windowed[i] = true;
    hp->n_rot = s->n_rot ? s->n_rot : s->head_dim;
    hp->rope_scale = hp->rope_gain = 1;
    m->rope.freq = m->rope.freq_long = frequencies(w, hp->n_rot, 10000);
    if (s->window > 0) m->rope.freq_window = frequencies(w, hp->n_rot, 500);
    m->layers = own(w, (size_t)s->layers * sizeof *m->layers);
    fill_layer(w, s, &m->layers[0]);
    for (int i = 1; i < s->layers; i++)
        if (s->repeated)
            m->layers[i] = m->layers[0];
        else
            fill_layer(w, s, &m->layers[i]);
    if (s->repeated) m->weight_bytes *= (uint64_t)s->layers;
    m->output_norm = vector(w, s->embd, 1, 0.2f);
    m->output = matrix(w, s->ends, s->vocab, s->embd, 1 / sqrtf((float)s->embd), s->repeated);
    const uint64_t read = m->weight_bytes;
    m->embd = s->tied ? m->output : matrix(w, s->ends, s->vocab, s->embd, 1, s->repeated);
    m->weight_bytes = read;
    return m;
}

void mm_free(ftk_model *m)
{
    made *w = (made *)(void *)m;
    for (size_t i = 0; i < w->n_owned; i++) free(w->owned[i]);
    free(w->owned);
    free(w);
}

uint64_t mm_bytes(const ftk_model *m)
{
    return m->weight_bytes;
}
