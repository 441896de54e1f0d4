/* SPDX-License-Identifier: Apache-2.0
 * See lorafiles.h. */
#include "lorafiles.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/blocks.h"
#include "kernels/codes.h"
#include "testkit/quantise.h"

static void *take(size_t n)
{
    void *p = malloc(n);
    if (!p) abort();
    return p;
}

static void name_of(const ftk_tensor_info *t, char name[80])
{
    snprintf(name, 80, "%.*s", (int)t->name.n, t->name.p);
}

static bool is_norm(const char *name)
{
    const size_t n = strlen(name), k = strlen("_norm.weight");
    return n > k && strcmp(name + n - k, "_norm.weight") == 0;
}

/* A tensor as floats, to be freed. */
static float *floats_of(const ftk_tensor_info *t)
{
    ftk_kernels k;
    if (!ftk_kernels_fill(&k, "ref")) abort();
    const size_t n_in = (size_t)t->dims[0], rows = (size_t)t->dims[1];
    float *x = take(n_in * rows * sizeof *x);
    for (size_t r = 0; r < rows; r++)
        k.dequant_row((ftk_type)t->type, (int)n_in,
                      (const char *)t->data + r * ftk_type_bytes((ftk_type)t->type, n_in),
                      x + r * n_in);
    return x;
}

/* own: by the library's Q8_0, else by that of the tests. */
static void put(gw *w, const char *name, uint32_t n_dims, const uint64_t *dims, ftk_type type,
                const float *x, bool own)
{
    const size_t n = (size_t)dims[0] * (n_dims > 1 ? (size_t)dims[1] : 1);
    const size_t block = ftk_type_block(type);
    unsigned char *data = take(ftk_type_bytes(type, n));
    if (own && type == FTK_TYPE_Q8_0)
        ftk_q8_0_write((int)n, x, data);
    else
        for (size_t i = 0; i < n; i += block) quantise(type, x + i, data + ftk_type_bytes(type, i));
    gw_tensor(w, name, n_dims, dims, type, data, ftk_type_bytes(type, n));
    free(data);
}

static void copy_keys(gw *w, const ftk_gguf *g)
{
    for (size_t i = 0; i < ftk_gguf_n_keys(g); i++) {
        ftk_str key;
        ftk_gguf_value v;
        ftk_gguf_key(g, i, &key, &v);
        gw_copy(w, key, &v);
    }
}

/* ---- adapters */

/* Seeded by a name, so that each tensor has numbers of its own. */
static float *noise(const char *name, uint32_t seed, size_t n, float size)
{
    float *x = take(n * sizeof *x);
    for (; *name; name++) seed = seed * 31 + (unsigned char)*name;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = size * ((float)(seed >> 8) / (1 << 23) - 1);
    }
    return x;
}

static void put_half(gw *w, const char *base, const char *end, uint64_t n_in, uint64_t n_out,
                     const lf_adapter *a, float size)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", base, end);
    const ftk_type type = n_in % ftk_type_block(a->type) == 0 ? a->type : FTK_TYPE_F32;
    float *x = noise(name, a->seed, (size_t)(n_in * n_out), size);
    put(w, name, 2, (uint64_t[]){n_in, n_out}, type, x, false);
    free(x);
}

static void put_pair(gw *w, const ftk_tensor_info *t, const char *name, const lf_adapter *a)
{
    const uint64_t rank = (uint64_t)a->rank;
    const bool flipped = strcmp(name, "token_embd.weight") == 0;
    const float size = 0.5f / sqrtf(sqrtf((float)t->dims[0] * (float)rank));
    if (flipped) {
        put_half(w, name, ".lora_a", rank, t->dims[1], a, size);
        put_half(w, name, ".lora_b", rank, t->dims[0], a, size);
    } else {
        put_half(w, name, ".lora_a", t->dims[0], rank, a, size);
        put_half(w, name, ".lora_b", rank, t->dims[1], a, size);
    }
}

static void put_norm(gw *w, const ftk_tensor_info *t, const char *name, const lf_adapter *a)
{
    float *x = floats_of(t), *change = noise(name, a->seed, (size_t)t->dims[0], 0.1f);
    for (uint64_t i = 0; i < t->dims[0]; i++) x[i] += change[i];
    put(w, name, 1, t->dims, FTK_TYPE_F32, x, false);
    free(change);
    free(x);
}

void lf_fill(gw *w, const ftk_gguf *model, const lf_adapter *a)
{
    ftk_gguf_value arch;
    if (!ftk_gguf_find(model, "general.architecture", &arch)) abort();
    gw_copy(w, (ftk_str){"general.architecture", 20}, &arch);
    gw_str(w, "general.type", "adapter");
    gw_str(w, "adapter.type", "lora");
    if (!isnan(a->alpha)) gw_f32(w, "adapter.lora.alpha", a->alpha);
    for (size_t i = 0; i < ftk_gguf_n_tensors(model); i++) {
        ftk_tensor_info t;
        char name[80];
        ftk_gguf_tensor(model, i, &t);
        name_of(&t, name);
        if (t.dims[1] > 1 && (!a->only || strstr(name, a->only))) put_pair(w, &t, name, a);
        if (a->norms && is_norm(name)) put_norm(w, &t, name, a);
    }
}

bool lf_write(const char *path, const char *model, const lf_adapter *a)
{
    ftk_gguf *g;
    if (ftk_gguf_open(&g, model, NULL) != FTK_OK) return false;
    gw w;
    gw_init(&w);
    lf_fill(&w, g, a);
    ftk_gguf_free(g);
    return gw_end(&w, path);
}

/* ---- models */

bool lf_convert(const char *path, const char *model, ftk_type type)
{
    ftk_gguf *g;
    if (ftk_gguf_open(&g, model, NULL) != FTK_OK) return false;
    gw w;
    gw_init(&w);
    copy_keys(&w, g);
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_tensor_info t;
        char name[80];
        ftk_gguf_tensor(g, i, &t);
        name_of(&t, name);
        const bool whole = t.dims[1] > 1 && t.dims[0] % ftk_type_block(type) == 0;
        float *x = floats_of(&t);
        put(&w, name, t.n_dims, t.dims, whole ? type : FTK_TYPE_F32, x, false);
        free(x);
    }
    ftk_gguf_free(g);
    return gw_end(&w, path);
}

typedef struct opened {
    ftk_gguf *file;
    double alpha, scale;
} opened;

/* x += scale * (B A), a row and then a rank at a time; true where the adapter has the pair. */
static bool add_pair(const opened *o, const char *name, const ftk_tensor_info *t, float *x)
{
    char half[96];
    ftk_tensor_info a, b;
    snprintf(half, sizeof half, "%s.lora_a", name);
    if (!ftk_gguf_find_tensor(o->file, half, &a)) return false;
    snprintf(half, sizeof half, "%s.lora_b", name);
    if (!ftk_gguf_find_tensor(o->file, half, &b)) return false;
    const bool flipped = strcmp(name, "token_embd.weight") == 0;
    const size_t n_in = (size_t)t->dims[0], n_out = (size_t)t->dims[1], rank = (size_t)b.dims[0];
    const float scale = (float)(o->alpha != 0 ? o->scale * o->alpha / (double)rank : o->scale);
    float *fa = floats_of(&a), *fb = floats_of(&b);
    for (size_t o_ = 0; o_ < n_out; o_++)
        for (size_t i = 0; i < n_in; i++) {
            float sum = 0;
            for (size_t r = 0; r < rank; r++)
                sum += flipped ? fa[o_ * rank + r] * fb[i * rank + r]
                               : fb[o_ * rank + r] * fa[r * n_in + i];
            x[o_ * n_in + i] += scale * sum;
        }
    free(fb);
    free(fa);
    return true;
}

static void add_norm(const opened *o, const char *name, const ftk_tensor_info *t, float *x)
{
    ftk_tensor_info a;
    if (!is_norm(name) || !ftk_gguf_find_tensor(o->file, name, &a)) return;
    float *is = floats_of(&a), *was = floats_of(t);
    for (uint64_t i = 0; i < t->dims[0]; i++)
        x[i] = (float)(x[i] + (double)(float)o->scale * ((double)is[i] - was[i]));
    free(was);
    free(is);
}

bool lf_merge(const char *path, const char *model, const ftk_adapter *adapters, size_t n,
              bool floats)
{
    opened o[8] = {0};
    ftk_gguf *g;
    gw w;
    if (ftk_gguf_open(&g, model, NULL) != FTK_OK) return false;
    for (size_t i = 0; i < n; i++) {
        ftk_gguf_value v = {0};
        if (ftk_gguf_open(&o[i].file, adapters[i].path, NULL) != FTK_OK) return false;
        if (ftk_gguf_find(o[i].file, "adapter.lora.alpha", &v)) o[i].alpha = v.f;
        o[i].scale = (double)adapters[i].scale;
    }
    gw_init(&w);
    copy_keys(&w, g);
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_tensor_info t;
        char name[80];
        bool changed = false;
        ftk_gguf_tensor(g, i, &t);
        name_of(&t, name);
        float *x = floats_of(&t);
        for (size_t j = 0; j < n; j++) {
            changed |= add_pair(&o[j], name, &t, x);
            add_norm(&o[j], name, &t, x);
        }
        const bool block = ftk_type_block((ftk_type)t.type) > 1;
        const ftk_type to = floats && block ? FTK_TYPE_F32
                            : block         ? FTK_TYPE_Q8_0
                                            : (ftk_type)t.type;
        if (changed || is_norm(name))
            put(&w, name, t.n_dims, t.dims, to, x, true);
        else
            gw_tensor(&w, name, t.n_dims, t.dims, t.type, t.data, t.size);
        free(x);
    }
    for (size_t i = 0; i < n; i++) ftk_gguf_free(o[i].file);
    ftk_gguf_free(g);
    return gw_end(&w, path);
}
