/* SPDX-License-Identifier: Apache-2.0
 * Loads a model: hyper-parameters, then tensors by name and shape, then packing for the kernels. */
#include "model.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gguf.h"
#include "hparams.h"

typedef struct {
    ftk_model *m;
    const char *path;
    size_t n_vectors; /* floats given out of m->vectors */
    size_t n_packed;  /* bytes given out of m->packed */
} loader;

static const size_t pack_align = 64;

static size_t align_up(size_t n)
{
    return (n + pack_align - 1) / pack_align * pack_align;
}

/* ---- tensors */

static ftk_err find_tensor(const loader *l, const char *name, uint64_t n_in, uint64_t n_out,
                           ftk_tensor_info *info)
{
    const ftk_host *h = &l->m->host;
    if (!ftk_gguf_find_tensor(l->m->file, name, info))
        return ftk_fail(h, FTK_ERR_FORMAT, "%s: tensor %s is missing", l->path, name);
    if (info->dims[0] != n_in || info->dims[1] != n_out || info->dims[2] != 1 ||
        info->dims[3] != 1)
        return ftk_fail(h, FTK_ERR_FORMAT,
                        "%s: tensor %s has shape [%" PRIu64 ", %" PRIu64 "%s] instead of [%" PRIu64
                        ", %" PRIu64 "]",
                        l->path, name, info->dims[0], info->dims[1],
                        info->n_dims > 2 ? ", ..." : "", n_in, n_out);
    if (!ftk_type_supported(info->type))
        return ftk_fail(h, FTK_ERR_UNSUPPORTED,
                        "%s: tensor %s has type %s, which is not supported: convert the model to "
                        "Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32",
                        l->path, name, ftk_type_name(info->type));
    return FTK_OK;
}

/* A matrix still in GGUF layout. */
static ftk_err find_matrix(loader *l, const char *name, int n_in, int n_out, ftk_mat *mat)
{
    ftk_tensor_info info;
    const ftk_err err = find_tensor(l, name, (uint64_t)n_in, (uint64_t)n_out, &info);
    if (err != FTK_OK)
        return err;
    *mat = (ftk_mat){(ftk_type)info.type, n_out, n_in, info.data};
    l->m->n_params += info.dims[0] * info.dims[1];
    l->m->weight_bytes += info.size;
    return FTK_OK;
}

/* A vector, converted to floats in the arena. */
static ftk_err find_vector(loader *l, const char *name, int n, const float **out)
{
    ftk_tensor_info info;
    const ftk_err err = find_tensor(l, name, (uint64_t)n, 1, &info);
    if (err != FTK_OK)
        return err;
    float *v = l->m->vectors + l->n_vectors;
    l->n_vectors += (size_t)n;
    l->m->kernels.dequant_row((ftk_type)info.type, n, info.data, v);
    l->m->n_params += (uint64_t)n;
    for (int i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return ftk_fail(&l->m->host, FTK_ERR_FORMAT,
                            "%s: tensor %s holds values that are not finite", l->path, name);
    *out = v;
    return FTK_OK;
}

static ftk_err find_layer(loader *l, int i)
{
    const ftk_hparams *hp = &l->m->hp;
    ftk_layer *layer = &l->m->layers[i];
    const int d = hp->n_embd, dq = hp->n_head * hp->head_dim, dkv = hp->n_head_kv * hp->head_dim;
    const struct {
        const char *name;
        int n_in, n_out;
        ftk_mat *mat;
    } mats[] = {
        {"attn_q", d, dq, &layer->q},         {"attn_k", d, dkv, &layer->k},
        {"attn_v", d, dkv, &layer->v},        {"attn_output", dq, d, &layer->o},
        {"ffn_gate", d, hp->n_ff, &layer->gate}, {"ffn_up", d, hp->n_ff, &layer->up},
        {"ffn_down", hp->n_ff, d, &layer->down},
    };
    char name[64];
    ftk_err err = FTK_OK;
    for (size_t j = 0; j < sizeof mats / sizeof mats[0] && err == FTK_OK; j++) {
        snprintf(name, sizeof name, "blk.%d.%s.weight", i, mats[j].name);
        err = find_matrix(l, name, mats[j].n_in, mats[j].n_out, mats[j].mat);
    }
    if (err == FTK_OK) {
        snprintf(name, sizeof name, "blk.%d.attn_norm.weight", i);
        err = find_vector(l, name, d, &layer->attn_norm);
    }
    if (err == FTK_OK) {
        snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", i);
        err = find_vector(l, name, d, &layer->ffn_norm);
    }
    return err;
}

/* Angles per position; llama-3 scaling divides each by its factor in rope_freqs.weight. */
static ftk_err find_rope(loader *l)
{
    ftk_model *m = l->m;
    const int half = m->hp.n_rot / 2;
    const float *factor = NULL;
    ftk_tensor_info info;
    if (ftk_gguf_find_tensor(m->file, "rope_freqs.weight", &info)) {
        const ftk_err err = find_vector(l, "rope_freqs.weight", half, &factor);
        if (err != FTK_OK)
            return err;
        for (int i = 0; i < half; i++)
            if (!(factor[i] > 0))
                return ftk_fail(&m->host, FTK_ERR_FORMAT,
                                "%s: tensor rope_freqs.weight holds values that are not positive",
                                l->path);
    }
    float *freq = m->vectors + l->n_vectors;
    l->n_vectors += (size_t)half;
    for (int i = 0; i < half; i++) {
        const double f = m->hp.rope_scale * pow(m->hp.rope_base, -2.0 * i / m->hp.n_rot);
        freq[i] = (float)(factor ? f / factor[i] : f);
    }
    m->rope_freq = freq;
    return FTK_OK;
}

static ftk_err find_tensors(loader *l)
{
    ftk_model *m = l->m;
    const ftk_hparams *hp = &m->hp;
    const size_t n = (size_t)hp->n_embd * (2 * (size_t)hp->n_layer + 1) + (size_t)hp->n_rot;
    m->vectors = ftk_alloc(&m->host, n, sizeof(float));
    m->layers = ftk_alloc(&m->host, (size_t)hp->n_layer, sizeof(ftk_layer));
    if (!m->vectors || !m->layers)
        return ftk_fail(&m->host, FTK_ERR_NOMEM, "%s: no memory for %d layers", l->path,
                        hp->n_layer);
    ftk_err err = find_matrix(l, "token_embd.weight", hp->n_embd, hp->n_vocab, &m->embd);
    m->weight_bytes = 0; /* one row of the embeddings is read, not the whole */
    for (int i = 0; i < hp->n_layer && err == FTK_OK; i++)
        err = find_layer(l, i);
    if (err == FTK_OK)
        err = find_vector(l, "output_norm.weight", hp->n_embd, &m->output_norm);
    if (err == FTK_OK)
        err = find_rope(l);
    if (err != FTK_OK)
        return err;
    ftk_tensor_info info;
    if (ftk_gguf_find_tensor(m->file, "output.weight", &info))
        return find_matrix(l, "output.weight", hp->n_embd, hp->n_vocab, &m->output);
    m->output = m->embd; /* tied */
    m->weight_bytes += ftk_type_bytes(m->embd.type, (size_t)hp->n_embd) * (size_t)hp->n_vocab;
    return FTK_OK;
}

/* ---- tensors that are left over */

static bool is_layer_tensor(const ftk_hparams *hp, const char *name)
{
    static const char *const parts[] = {"attn_norm", "attn_q",   "attn_k", "attn_v",  "attn_output",
                                        "ffn_norm",  "ffn_gate", "ffn_up", "ffn_down"};
    char good[80];
    const long layer = strtol(name + 4, NULL, 10);
    for (size_t j = 0; j < sizeof parts / sizeof parts[0] && layer < hp->n_layer; j++) {
        snprintf(good, sizeof good, "blk.%ld.%s.weight", layer, parts[j]);
        if (strcmp(name, good) == 0)
            return true;
    }
    return false;
}

/* A bias or an extra norm that the pass does not know would be left out of it in silence. */
static ftk_err check_unused(const loader *l)
{
    for (size_t i = 0; i < ftk_gguf_n_tensors(l->m->file); i++) {
        ftk_tensor_info info;
        char name[80], shown[96];
        ftk_gguf_tensor(l->m->file, i, &info);
        snprintf(name, sizeof name, "%.*s", (int)info.name.n, info.name.p);
        const bool layer = strncmp(name, "blk.", 4) == 0;
        const bool bias = strstr(name, ".bias") != NULL;
        if (bias || (layer && !is_layer_tensor(&l->m->hp, name)))
            return ftk_fail(&l->m->host, FTK_ERR_UNSUPPORTED,
                            "%s: tensor %s is no part of a llama model as this build knows it",
                            l->path, ftk_gguf_show(shown, sizeof shown, info.name));
    }
    return FTK_OK;
}

/* ---- packing */

static ftk_mat *matrix_at(ftk_model *m, int i)
{
    if (i == 0)
        return &m->output;
    ftk_layer *l = &m->layers[(i - 1) / 7];
    ftk_mat *const mats[7] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    return mats[(i - 1) % 7];
}

static ftk_err pack_weights(loader *l)
{
    ftk_model *m = l->m;
    const int n = 1 + 7 * m->hp.n_layer;
    size_t total = 0;
    for (int i = 0; i < n; i++) {
        const ftk_mat *w = matrix_at(m, i);
        total += align_up(m->kernels.pack_bytes(w->type, w->n_out, w->n_in));
    }
    if (total == 0)
        return FTK_OK;
    m->packed = ftk_alloc_raw(&m->host, total, 1);
    if (!m->packed)
        return ftk_fail(&m->host, FTK_ERR_NOMEM,
                        "%s: needs %zu MiB for the weights: use a smaller model or fewer bits",
                        l->path, total >> 20);
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic)
#endif
    for (int i = 0; i < n; i++) {
        size_t at = 0; /* recomputed per matrix: packing costs far more than these sums */
        for (int j = 0; j < i; j++) {
            const ftk_mat *before = matrix_at(m, j);
            at += align_up(m->kernels.pack_bytes(before->type, before->n_out, before->n_in));
        }
        ftk_mat *w = matrix_at(m, i);
        if (m->kernels.pack_bytes(w->type, w->n_out, w->n_in) == 0)
            continue;
        void *dst = (char *)m->packed + at;
        m->kernels.pack(w->type, w->n_out, w->n_in, w->data, dst);
        /* data is not read by pack_bytes, so other iterations never see this store */
        w->data = dst;
    }
    return FTK_OK;
}

/* ---- life */

static ftk_err copy_name(ftk_model *m)
{
    ftk_gguf_value v;
    const bool found = ftk_gguf_find(m->file, "general.name", &v) && v.type == FTK_GGUF_STRING;
    const size_t n = found ? v.s.n : 0;
    m->name = ftk_alloc(&m->host, n + 1, 1);
    if (!m->name)
        return ftk_fail(&m->host, FTK_ERR_NOMEM, "no memory for the model's name");
    if (n > 0)
        memcpy(m->name, v.s.p, n);
    return FTK_OK;
}

static ftk_err load(loader *l)
{
    ftk_model *m = l->m;
    ftk_err err = ftk_gguf_open(&m->file, l->path, &m->host);
    if (err == FTK_OK)
        err = copy_name(m);
    if (err == FTK_OK)
        err = ftk_hparams_read(&m->hp, m->file, l->path, &m->host);
    if (err == FTK_OK)
        err = ftk_tokenizer_open(&m->tokenizer, m->file, &m->host);
    if (err != FTK_OK)
        return err;
    m->hp.n_vocab = ftk_tokenizer_n_vocab(m->tokenizer);
    err = find_tensors(l);
    if (err == FTK_OK)
        err = check_unused(l);
    return err == FTK_OK ? pack_weights(l) : err;
}

void ftk_model_config_init(ftk_model_config *cfg)
{
    *cfg = (ftk_model_config){.size = sizeof *cfg};
}

ftk_err ftk_model_load(ftk_model **out, const char *path, const ftk_model_config *cfg)
{
    *out = NULL;
    const ftk_host none = {0};
    const ftk_host *h = cfg ? &cfg->host : &none;
    if (!path || !cfg || cfg->size != sizeof *cfg)
        return ftk_fail(h, FTK_ERR_INVALID,
                        "model config was not made by ftk_model_config_init(), or no path given");
    ftk_model *m = ftk_alloc(h, 1, sizeof *m);
    if (!m)
        return ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory", path);
    m->host = *h;
    loader l = {.m = m, .path = path};
    ftk_err err;
    if (ftk_kernels_fill(&m->kernels, cfg->kernels))
        err = load(&l);
    else
        err = ftk_fail(h, FTK_ERR_INVALID, "kernels \"%s\" are unknown or not for this machine",
                       cfg->kernels);
    if (err != FTK_OK) {
        ftk_model_free(m);
        return err;
    }
    *out = m;
    return FTK_OK;
}

void ftk_model_free(ftk_model *m)
{
    if (!m)
        return;
    const ftk_host h = m->host;
    ftk_release(&h, m->packed);
    ftk_release(&h, m->layers);
    ftk_release(&h, m->vectors);
    ftk_release(&h, m->name);
    ftk_tokenizer_free(m->tokenizer);
    ftk_gguf_free(m->file);
    ftk_release(&h, m);
}

void ftk_model_get_info(const ftk_model *m, ftk_model_info *info)
{
    const ftk_hparams *hp = &m->hp;
    *info = (ftk_model_info){
        .name = m->name,
        .architecture = "llama",
        .kernels = m->kernels.name,
        .n_vocab = hp->n_vocab,
        .n_ctx_train = hp->n_ctx_train,
        .n_layer = hp->n_layer,
        .n_embd = hp->n_embd,
        .n_ff = hp->n_ff,
        .n_head = hp->n_head,
        .n_head_kv = hp->n_head_kv,
        .head_dim = hp->head_dim,
        .bos = ftk_tokenizer_bos(m->tokenizer),
        .eos = ftk_tokenizer_eos(m->tokenizer),
        .eot = ftk_tokenizer_eot(m->tokenizer),
        .add_bos = ftk_tokenizer_add_bos(m->tokenizer),
        .n_params = m->n_params,
        .weight_bytes = m->weight_bytes,
    };
    info->chat_template =
        ftk_tokenizer_chat_template(m->tokenizer, &info->has_chat_template);
}

bool ftk_model_is_end(const ftk_model *m, int32_t token)
{
    return token >= 0 && (token == ftk_tokenizer_eos(m->tokenizer) ||
                          token == ftk_tokenizer_eot(m->tokenizer));
}

const ftk_tokenizer *ftk_model_tokenizer(const ftk_model *m)
{
    return m->tokenizer;
}

const ftk_host *ftk_model_host(const ftk_model *m)
{
    return &m->host;
}
