/* SPDX-License-Identifier: Apache-2.0
 * Loads a model: hyper-parameters, then tensors by name and shape, then packing for the kernels. */
#include "model.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/floats.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/team.h"
#include "gguf.h"
#include "level.h"
#include "lora.h"
#include "stages.h"

typedef struct {
    ftk_model *m;
    const ftk_host *host;
    const char *path;
    const ftk_model_config *cfg;
    bool *used;           /* [tensors of the file] that were read */
    size_t n_vectors;     /* floats given out of m->vectors */
    ftk_lora *lora;       /* NULL: no adapters */
    uint64_t done, total; /* bytes of weights that adapters change, and of those that are packed */
} loader;

/* ---- tensors */

static ftk_err find_tensor(const loader *l, const char *name, uint64_t n_in, uint64_t n_out,
                           ftk_tensor_info *info)
{
    char why[64];
    const size_t place = ftk_gguf_place(l->m->file, name);
    if (place == ftk_gguf_n_tensors(l->m->file))
        return FTK_FAIL(l, FORMAT, "tensor %s is missing", name);
    ftk_gguf_tensor(l->m->file, place, info);
    l->used[place] = true;
    if (info->dims[0] != n_in || info->dims[1] != n_out || info->dims[2] != 1 || info->dims[3] != 1)
        return FTK_FAIL(l, FORMAT,
                        "tensor %s has shape [%" PRIu64 ", %" PRIu64 "%s] instead of [%" PRIu64
                        ", %" PRIu64 "]",
                        name, info->dims[0], info->dims[1], info->n_dims > 2 ? ", ..." : "", n_in,
                        n_out);
    if (!ftk_type_supported(info->type))
        return FTK_FAIL(
            l, UNSUPPORTED,
            "tensor %s has type %s: convert the model to Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32",
            name, ftk_gguf_refuse_type(why, sizeof why, info->type));
    return FTK_OK;
}

/* Rows first .. first + n_out of a matrix of `rows`, still in GGUF layout. */
static ftk_err find_rows(loader *l, const char *name, int n_in, int rows, int first, int n_out,
                         ftk_mat *mat)
{
    ftk_tensor_info info;
    const ftk_err err = find_tensor(l, name, (uint64_t)n_in, (uint64_t)rows, &info);
    if (err != FTK_OK) return err;
    ftk_lora_replace(l->lora, &info);
    const size_t row = (size_t)(info.size / (uint64_t)rows);
    const char *data = (const char *)info.data + (size_t)first * row;
    *mat = (ftk_mat){
        .type = (ftk_type)info.type, .n_out = n_out, .n_in = n_in, .data = data, .file = data};
    l->m->n_params += (uint64_t)n_in * (uint64_t)n_out;
    l->m->weight_bytes += row * (uint64_t)n_out;
    return FTK_OK;
}

static ftk_err find_matrix(loader *l, const char *name, int n_in, int n_out, ftk_mat *mat)
{
    return find_rows(l, name, n_in, n_out, 0, n_out, mat);
}

/* A vector, converted to floats in the arena. */
static ftk_err find_vector(loader *l, const char *name, int n, const float **out)
{
    ftk_tensor_info info;
    const ftk_err err = find_tensor(l, name, (uint64_t)n, 1, &info);
    if (err != FTK_OK) return err;
    float *v = l->m->vectors + l->n_vectors;
    l->n_vectors += (size_t)n;
    l->m->kernels.dequant_row((ftk_type)info.type, n, info.data, v);
    ftk_lora_see(l->lora, &info, v);
    l->m->n_params += (uint64_t)n;
    if (!ftk_all_finite(n, v))
        return FTK_FAIL(l, FORMAT, "tensor %s holds values that are not finite", name);
    *out = v;
    return FTK_OK;
}

bool ftk_all_finite(int n, const float *v)
{
    for (int i = 0; i < n; i++)
        if (!isfinite(v[i])) return false;
    return true;
}

static void layer_dims(const ftk_hparams *hp, int dims[FTK_N_DIMS])
{
    const int q = hp->n_head * hp->head_dim, kv = hp->n_head_kv * hp->head_dim;
    dims[FTK_DIM_0] = 0;
    dims[FTK_DIM_1] = 1;
    dims[FTK_DIM_EMBD] = hp->n_embd;
    dims[FTK_DIM_HEAD] = hp->head_dim;
    dims[FTK_DIM_Q] = q;
    dims[FTK_DIM_KV] = kv;
    dims[FTK_DIM_Q_KV] = q + kv;
    dims[FTK_DIM_QKV] = q + 2 * kv;
    dims[FTK_DIM_FF] = hp->n_ff;
    dims[FTK_DIM_FF2] = 2 * hp->n_ff;
}

static ftk_err find_part(loader *l, const ftk_part *p, const int *dims, int layer)
{
    char name[80];
    snprintf(name, sizeof name, "blk.%d.%s", layer, p->name);
    ftk_tensor_info info;
    if (p->optional && !ftk_gguf_find_tensor(l->m->file, name, &info)) return FTK_OK;
    void *field = (char *)&l->m->layers[layer] + p->field;
    if (p->rows == FTK_DIM_1) return find_vector(l, name, dims[p->n_in], field);
    return find_rows(l, name, dims[p->n_in], dims[p->rows], dims[p->first], dims[p->n_out], field);
}

static ftk_err find_layers(loader *l)
{
    size_t n;
    const ftk_part *parts = ftk_arch_parts(&n);
    int dims[FTK_N_DIMS];
    layer_dims(&l->m->hp, dims);
    ftk_err err = FTK_OK;
    for (int i = 0; i < l->m->hp.n_layer; i++)
        for (size_t j = 0; j < n && err == FTK_OK; j++)
            if (ftk_arch_has(l->m->hp.arch, &parts[j])) err = find_part(l, &parts[j], dims, i);
    return err;
}

/* ---- RoPE */

/* What frequencies are divided by, in a tensor; *out stays as it is where there is none. */
static ftk_err find_factors(loader *l, const char *name, const float **out)
{
    ftk_tensor_info info;
    if (!ftk_gguf_find_tensor(l->m->file, name, &info)) return FTK_OK;
    const int half = l->m->hp.n_rot / 2;
    const ftk_err err = find_vector(l, name, half, out);
    for (int i = 0; i < half && err == FTK_OK; i++)
        if (!((*out)[i] > 0))
            return FTK_FAIL(l, FORMAT, "tensor %s holds values that are not positive", name);
    return err;
}

static const float *make_frequencies(loader *l, double base, double scale, const float *factor)
{
    const int half = l->m->hp.n_rot / 2;
    float *freq = l->m->vectors + l->n_vectors;
    l->n_vectors += (size_t)half;
    for (int i = 0; i < half; i++) {
        const double f = scale * pow(base, -2.0 * i / l->m->hp.n_rot);
        freq[i] = (float)(factor ? f / factor[i] : f);
    }
    return freq;
}

static ftk_err find_rope(loader *l)
{
    const ftk_hparams *hp = &l->m->hp;
    ftk_rope *rope = &l->m->rope;
    const float *factor = NULL, *factor_long = NULL;
    ftk_err err = FTK_OK;
    if (hp->arch->flags & FTK_ARCH_ROPE_FREQS) err = find_factors(l, "rope_freqs.weight", &factor);
    if (err == FTK_OK && hp->arch->flags & FTK_ARCH_ROPE_FACTORS) {
        err = find_factors(l, "rope_factors_short.weight", &factor);
        if (err == FTK_OK) err = find_factors(l, "rope_factors_long.weight", &factor_long);
        if (err == FTK_OK && !factor != !factor_long)
            err = FTK_FAIL(l, FORMAT, "tensor rope_factors_%s.weight is missing",
                           factor ? "long" : "short");
    }
    if (err != FTK_OK) return err;
    rope->freq = make_frequencies(l, hp->rope_base, hp->rope_scale, factor);
    rope->freq_long = rope->freq;
    if (factor_long)
        rope->freq_long = make_frequencies(l, hp->rope_base, hp->rope_scale, factor_long);
    if (hp->rope_base_window > 0)
        rope->freq_window = make_frequencies(l, hp->rope_base_window, 1, NULL);
    return FTK_OK;
}

/* ---- all tensors */

/* Floats of all vectors there may be. */
static size_t vectors_size(const ftk_hparams *hp)
{
    size_t n, floats = 0;
    const ftk_part *parts = ftk_arch_parts(&n);
    int dims[FTK_N_DIMS];
    layer_dims(hp, dims);
    for (size_t i = 0; i < n; i++)
        if (parts[i].rows == FTK_DIM_1 && ftk_arch_has(hp->arch, &parts[i]))
            floats += (size_t)dims[parts[i].n_in];
    const size_t rope = 5 * (size_t)hp->n_rot / 2; /* two of factors, three of frequencies */
    return floats * (size_t)hp->n_layer + (size_t)hp->n_embd + rope;
}

static ftk_err find_tensors(loader *l)
{
    ftk_model *m = l->m;
    const ftk_hparams *hp = &m->hp;
    m->vectors = ftk_alloc(&m->host, vectors_size(hp), sizeof(float));
    m->layers = ftk_alloc(&m->host, (size_t)hp->n_layer, sizeof(ftk_layer));
    l->used = ftk_alloc(&m->host, ftk_gguf_n_tensors(m->file), sizeof *l->used);
    if (!m->vectors || !m->layers || !l->used)
        return FTK_FAIL(l, NOMEM, "no memory for %d layers", hp->n_layer);
    ftk_err err = find_matrix(l, "token_embd.weight", hp->n_embd, hp->n_vocab, &m->embd);
    m->weight_bytes = 0; /* one row of the embeddings is read, not the whole */
    if (err == FTK_OK) err = find_layers(l);
    if (err == FTK_OK) err = find_vector(l, "output_norm.weight", hp->n_embd, &m->output_norm);
    if (err == FTK_OK) err = find_rope(l);
    if (err != FTK_OK) return err;
    ftk_tensor_info info;
    if (ftk_gguf_find_tensor(m->file, "output.weight", &info))
        return find_matrix(l, "output.weight", hp->n_embd, hp->n_vocab, &m->output);
    m->output = m->embd; /* tied */
    m->weight_bytes += ftk_type_bytes(m->embd.type, (size_t)hp->n_embd) * (size_t)hp->n_vocab;
    return FTK_OK;
}

/* ---- what drafters know the model by */

static uint64_t hash(uint64_t h, const void *p, size_t n)
{
    for (const unsigned char *b = p; n > 0; n--) h = (h ^ *b++) * 0x100000001b3u; /* FNV-1a */
    return h;
}

/* The sizes and the norms, which stay whole numbers of floats in every quantisation of a model. */
static void take_fingerprint(ftk_model *m)
{
    const ftk_hparams *hp = &m->hp;
    const size_t bytes = (size_t)hp->n_embd * sizeof(float);
    const uint32_t sizes[] = {(uint32_t)hp->n_layer, (uint32_t)hp->n_embd, (uint32_t)hp->n_vocab};
    uint64_t h = hash(0xcbf29ce484222325u, sizes, sizeof sizes);
    for (int i = 0; i < hp->n_layer; i++) {
        h = hash(h, m->layers[i].attn_norm, bytes);
        h = hash(h, m->layers[i].ffn_norm, bytes);
    }
    h = hash(h, m->output_norm, bytes);
    snprintf(m->fingerprint, sizeof m->fingerprint, "%016" PRIx64, h);
}

/* ---- tensors that are left over */

/* A bias or an extra norm that nothing has read would be left out of the pass in silence. */
static ftk_err check_unused(const loader *l)
{
    for (size_t i = 0; i < ftk_gguf_n_tensors(l->m->file); i++) {
        ftk_tensor_info info;
        ftk_gguf_tensor(l->m->file, i, &info);
        if (!l->used[i])
            return FTK_FAIL(l, UNSUPPORTED,
                            "tensor %s is no part of a %s model as this build knows it",
                            FTK_SHOW(info.name), l->m->hp.arch->name);
    }
    return FTK_OK;
}

/* ---- packing */

static ftk_mat *matrix_at(ftk_model *m, int i)
{
    if (i == 0) return &m->output;
    return ftk_layer_mat(&m->layers[(i - 1) / FTK_LAYER_MATS], (i - 1) % FTK_LAYER_MATS);
}

/* Another stage has the others. */
static bool is_own(const ftk_model *m, int i)
{
    const ftk_stage_range own = ftk_stage_layers(m->hp.n_layer, m->stage, m->n_stages);
    if (i == 0) return own.end == m->hp.n_layer;
    return (i - 1) / FTK_LAYER_MATS >= own.begin && (i - 1) / FTK_LAYER_MATS < own.end;
}

static uint64_t mat_bytes(const ftk_mat *w)
{
    return (uint64_t)ftk_type_bytes(w->type, (size_t)w->n_in) * (uint64_t)w->n_out;
}

static size_t packed_bytes(ftk_model *m, int i)
{
    return is_own(m, i) ? ftk_packed_bytes(&m->kernels, matrix_at(m, i)) : 0;
}

/* Whether src lies in the file, not in memory. */
static bool is_mapped(const ftk_model *m, const void *src)
{
    const uintptr_t at = (uintptr_t)src, from = (uintptr_t)m->adapted;
    return at < from || at - from >= m->adapted_bytes;
}

/* Packs matrix i and gives the pages it was read from back. */
static void pack_matrix(ftk_model *m, int i)
{
    ftk_mat *w = matrix_at(m, i);
    if (packed_bytes(m, i) == 0) return;
    size_t at = 0; /* recomputed per matrix: packing costs far more than these sums */
    for (int j = 0; j < i; j++) at += packed_bytes(m, j);
    const void *src = w->data;
    void *dst = (char *)m->packed + at;
    m->kernels.pack(w->type, w->n_out, w->n_in, src, dst);
    /* data is not read by pack_bytes, so other iterations never see this store */
    w->data = dst;
    if (src != m->embd.data && is_mapped(m, src)) /* a tied one's rows are read on as embeddings */
        ftk_gguf_forget(src, (size_t)mat_bytes(w));
}

/* Matrices are dealt out one by one: they differ in size. The host hears of it on its own
 * thread. */
typedef struct packing {
    loader *l;
    int n;
    atomic_int next;
    atomic_ullong done;
    atomic_bool cancelled;
} packing;

static bool is_wanted(const loader *l)
{
    return !l->m->wanted || l->m->wanted(l->m->host.ctx);
}

static ftk_err cancelled(const loader *l)
{
    return FTK_FAIL(l, CANCELLED, "loading was stopped");
}

static void tell(const loader *l, uint64_t done)
{
    if (l->cfg->progress && done < l->total) l->cfg->progress(l->m->host.ctx, done, l->total);
}

static void pack_some(void *ctx, int ith, int nth)
{
    packing *const p = ctx;
    (void)nth;
    ftk_model *const m = p->l->m;
    for (int i; (i = atomic_fetch_add(&p->next, 1)) < p->n;) {
        if (ith == 0 && !is_wanted(p->l)) atomic_store(&p->cancelled, true);
        if (atomic_load(&p->cancelled)) return;
        const uint64_t bytes = mat_bytes(matrix_at(m, i));
        pack_matrix(m, i);
        const uint64_t now = atomic_fetch_add(&p->done, bytes) + bytes;
        if (ith == 0) tell(p->l, now);
    }
}

static ftk_err take_packed(loader *l, int n)
{
    ftk_model *m = l->m;
    size_t packed = 0;
    for (int i = 0; i < n; i++) packed += packed_bytes(m, i);
    const bool cached = packed <= ftk_cache_bytes() / 2; /* the rest is for keys and values */
    for (int i = 0; i < n; i++) matrix_at(m, i)->cached = cached;
    if (packed == 0) return FTK_OK;
    for (int i = 0; i < n; i++) l->total += mat_bytes(matrix_at(m, i));
    m->packed = ftk_alloc_raw(&m->host, packed, 1);
    if (m->packed) return FTK_OK;
    return FTK_FAIL(l, NOMEM, "needs %zu MiB for the weights: use a smaller model or fewer bits",
                    packed >> 20);
}

static ftk_err apply_adapters(loader *l)
{
    ftk_err err = FTK_OK;
    for (size_t i = 0; i < ftk_lora_n_changes(l->lora) && err == FTK_OK; i++) {
        uint64_t bytes = 0;
        err = is_wanted(l) ? ftk_lora_apply(l->lora, i, &bytes) : cancelled(l);
        l->done += bytes;
        tell(l, l->done);
    }
    return err;
}

static ftk_err make_weights(loader *l)
{
    ftk_model *m = l->m;
    const int n = 1 + FTK_LAYER_MATS * m->hp.n_layer;
    l->total = m->adapted_bytes;
    ftk_err err = take_packed(l, n);
    if (err == FTK_OK) err = apply_adapters(l);
    if (err != FTK_OK) return err;
    packing p = {.l = l, .n = n, .done = l->done};
    p.cancelled = m->packed && !is_wanted(l); /* others may be done before this thread asks */
    if (m->packed) ftk_team_run_once(pack_some, &p, &m->host);
    if (atomic_load(&p.cancelled)) return cancelled(l);
    if (l->total > 0 && l->cfg->progress) l->cfg->progress(m->host.ctx, l->total, l->total);
    return FTK_OK;
}

/* ---- life */

static ftk_err copy_name(ftk_model *m)
{
    const ftk_str name = ftk_gguf_text(m->file, "general.name");
    m->name = ftk_alloc(&m->host, name.n + 1, 1);
    if (!m->name) return ftk_fail(&m->host, FTK_ERR_NOMEM, "no memory for the model's name");
    if (name.n > 0) memcpy(m->name, name.p, name.n);
    return FTK_OK;
}

/* It has the architecture of its model, and would be one without layers. */
static ftk_err refuse_adapter(const loader *l)
{
    if (!ftk_str_is(ftk_gguf_text(l->m->file, "general.type"), "adapter")) return FTK_OK;
    return FTK_FAIL(l, UNSUPPORTED,
                    "is an adapter, not a model: name the model that it was trained for with -m, "
                    "and give this file with --lora");
}

static ftk_err load(loader *l)
{
    ftk_model *m = l->m;
    ftk_err err = ftk_gguf_open(&m->file, l->path, &m->host);
    if (err == FTK_OK) err = refuse_adapter(l);
    if (err == FTK_OK) err = copy_name(m);
    if (err == FTK_OK && !l->cfg->vocabulary_only)
        err = ftk_hparams_read(&m->hp, m->file, l->path, &m->host);
    if (err == FTK_OK) err = ftk_tokenizer_open(&m->tokenizer, m->file, l->path, &m->host);
    if (err != FTK_OK) return err;
    m->hp.n_vocab = ftk_tokenizer_n_vocab(m->tokenizer);
    if (l->cfg->vocabulary_only) return FTK_OK;
    if (m->n_stages < 0 || m->stage < 0 || m->stage >= (m->n_stages ? m->n_stages : 1) ||
        m->n_stages > m->hp.n_layer)
        return FTK_FAIL(l, INVALID, "stage %d of %d: a model of %d layers can have 1 to %d stages",
                        m->stage, m->n_stages, m->hp.n_layer, m->hp.n_layer);
    if (l->cfg->n_adapters > 0)
        err = ftk_lora_open(&l->lora, m, l->cfg->adapters, l->cfg->n_adapters);
    if (err == FTK_OK) err = find_tensors(l);
    if (err == FTK_OK) err = check_unused(l);
    if (err == FTK_OK) take_fingerprint(m); /* before adapters change norms: it stays the base's */
    if (err != FTK_OK) return err;
    const ftk_mat *const down = &m->layers[0].down; /* a layer's longest sums */
    if (!l->cfg->kernels && down->n_in > 0)
        err = ftk_level_choose(&m->kernels, down->type, down->n_in, &m->host);
    return err == FTK_OK ? make_weights(l) : err;
}

void ftk_model_config_fill(ftk_model_config *cfg, size_t size)
{
    ftk_config_give(cfg, size, &(ftk_model_config){0}, sizeof *cfg);
}

static ftk_err load_model(ftk_model **out, const char *path, const ftk_model_config *cfg)
{
    const ftk_host *h = &cfg->host;
    if (!path) return ftk_fail(h, FTK_ERR_INVALID, "no path of a model was given");
    ftk_model *m = ftk_alloc(h, 1, sizeof *m);
    if (!m) return ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory", path);
    m->host = *h;
    m->wanted = cfg->wanted;
    m->stage = cfg->stage;
    m->n_stages = cfg->n_stages;
    loader l = {.m = m, .host = &m->host, .path = path, .cfg = cfg};
    ftk_err err;
    if (ftk_kernels_fill(&m->kernels, cfg->kernels))
        err = load(&l);
    else
        err = ftk_fail(h, FTK_ERR_INVALID, "kernels \"%s\" are unknown or not for this machine",
                       cfg->kernels);
    ftk_release(h, l.used);
    ftk_lora_close(l.lora);
    if (err != FTK_OK) {
        ftk_model_free(m);
        return err;
    }
    *out = m;
    return FTK_OK;
}

ftk_err ftk_model_load(ftk_model **out, const char *path, const ftk_model_config *cfg)
{
    *out = NULL;
    ftk_model_config own = {0};
    const size_t known = offsetof(ftk_model_config, host) + sizeof cfg->host;
    const bool has_host = cfg && cfg->size >= known && cfg->size <= FTK_CONFIG_MOST;
    ftk_err err = ftk_config_take(&own, sizeof own, cfg, "model", has_host ? &cfg->host : NULL);
    if (err != FTK_OK) return err;
    const ftk_floats floats = ftk_floats_enter();
    return ftk_floats_after(&floats, load_model(out, path, &own));
}

void ftk_model_free(ftk_model *m)
{
    if (!m) return;
    const ftk_host h = m->host;
    ftk_release(&h, m->packed);
    ftk_release(&h, m->adapted);
    ftk_release(&h, m->layers);
    ftk_release(&h, m->vectors);
    ftk_release(&h, m->name);
    ftk_tokenizer_free(m->tokenizer);
    ftk_gguf_free(m->file);
    ftk_release(&h, m);
}

void ftk_model_report(const ftk_model *m, ftk_model_info *info, size_t size)
{
    const ftk_hparams *hp = &m->hp;
    ftk_model_info own = {
        .name = m->name,
        .architecture = hp->arch ? hp->arch->name : "",
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
        .fingerprint = m->fingerprint,
        .adapted_bytes = m->adapted_bytes,
    };
    own.chat_template = ftk_tokenizer_chat_template(m->tokenizer, &own.has_chat_template);
    ftk_config_report(info, size, &own, sizeof own);
}

bool ftk_model_is_end(const ftk_model *m, int32_t token)
{
    return ftk_tokenizer_is_end(m->tokenizer, token);
}
