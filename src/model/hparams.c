/* SPDX-License-Identifier: Apache-2.0
 * Reads and checks the hyper-parameters of a model. Nothing in a file is trusted: every number has
 * a range here, chosen so that no later product of two of them can overflow an int. */
#include "model.h"

#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"
#include "gguf.h"

enum {
    MAX_EMBD = 1 << 16,
    MAX_FF = 1 << 20,
    MAX_HEADS = 1 << 10,
    MAX_CTX = 1 << 27,
};

typedef struct {
    const ftk_gguf *file;
    const ftk_host *host;
    const char *path;
    const ftk_arch *arch;
    char key[96]; /* the last one looked for, with the architecture before it */
} reader;

static void name_key(reader *r, const char *key)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch->name, key);
}

static bool find(reader *r, const char *key, ftk_gguf_value *v)
{
    name_key(r, key);
    return ftk_gguf_find(r->file, r->key, v);
}

/* An integer key in [lo, hi]; absent: `absent` when that is not negative, else an error. */
static ftk_err read_int(reader *r, const char *key, int64_t lo, int64_t hi, int64_t absent,
                        int *out)
{
    name_key(r, key);
    return ftk_gguf_int(r->file, r->key, lo, hi, absent, out, r->path, r->host);
}

/* A float key that is finite and in (lo, hi]; absent as above, NAN for none. */
static ftk_err read_float(reader *r, const char *key, double lo, double hi, double absent,
                          double *out)
{
    ftk_gguf_value v;
    if (!find(r, key, &v)) {
        if (isnan(absent)) return FTK_FAIL(r, FORMAT, "key %s is missing", r->key);
        *out = absent;
        return FTK_OK;
    }
    if (v.type != FTK_GGUF_F32 && v.type != FTK_GGUF_F64)
        return FTK_FAIL(r, FORMAT, "key %s is not a float", r->key);
    if (!(v.f > lo && v.f <= hi))
        return FTK_FAIL(r, FORMAT, "key %s is out of range: it must be above %g and at most %g",
                        r->key, lo, hi);
    *out = v.f;
    return FTK_OK;
}

static ftk_err find_architecture(reader *r)
{
    ftk_gguf_value v;
    if (!ftk_gguf_find(r->file, "general.architecture", &v))
        return FTK_FAIL(r, FORMAT, "key general.architecture is missing");
    if (v.type != FTK_GGUF_STRING)
        return FTK_FAIL(r, FORMAT, "key general.architecture is not a string");
    r->arch = ftk_arch_find(v.s);
    if (r->arch) return FTK_OK;
    if (ftk_str_is(v.s, "dit"))
        return FTK_FAIL(
            r, UNSUPPORTED,
            "is a diffusion transformer, not a language model: foretoken image runs it");
    char known[128];
    return FTK_FAIL(r, UNSUPPORTED, "architecture \"%s\" is not supported, only %s are",
                    FTK_SHOW(v.s), ftk_arch_names(known, sizeof known));
}

/* What would load, but run as another model than the file's. */
static ftk_err check_whole(reader *r)
{
    static const struct {
        const char *key;
        double harmless; /* besides 0 */
    } changes[] = {
        {"logit_scale", 1},
        {"residual_scale", 1},
        {"embedding_scale", 1},
        {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0},
    };
    int n;
    ftk_err err = read_int(r, "expert_count", 0, 65535, 0, &n);
    if (err == FTK_OK && n > 0)
        err = FTK_FAIL(r, UNSUPPORTED, "a mixture of experts (%s %d) is not supported yet", r->key,
                       n);
    ftk_gguf_value v;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0] && err == FTK_OK; i++) {
        if (!find(r, changes[i].key, &v)) continue;
        const bool real = v.type == FTK_GGUF_F32 || v.type == FTK_GGUF_F64;
        if (!real || (v.f != 0 && v.f != changes[i].harmless))
            err = FTK_FAIL(r, UNSUPPORTED, "key %s is not supported yet", r->key);
    }
    if (err == FTK_OK && find(r, "attention.causal", &v) && (v.type != FTK_GGUF_BOOL || !v.u))
        err =
            FTK_FAIL(r, UNSUPPORTED, "attention that is not causal (%s) is not supported", r->key);
    return err;
}

/* ---- attention */

static ftk_err read_heads(reader *r, ftk_hparams *hp)
{
    int key_dim, value_dim;
    const char *arch = r->arch->name;
    ftk_err err = read_int(r, "attention.head_count", 1, MAX_HEADS, -1, &hp->n_head);
    if (err == FTK_OK)
        err = read_int(r, "attention.head_count_kv", 1, MAX_HEADS, hp->n_head, &hp->n_head_kv);
    if (err != FTK_OK) return err;
    if (hp->n_head % hp->n_head_kv != 0)
        return FTK_FAIL(r, FORMAT,
                        "%s.attention.head_count %d is not a multiple of head_count_kv %d", arch,
                        hp->n_head, hp->n_head_kv);
    ftk_gguf_value v;
    if (hp->n_embd % hp->n_head != 0 && !find(r, "attention.key_length", &v))
        return FTK_FAIL(r, FORMAT,
                        "%s.embedding_length %d is not a multiple of %s.attention.head_count %d",
                        arch, hp->n_embd, arch, hp->n_head);
    const int per_head = hp->n_embd / hp->n_head;
    err = read_int(r, "attention.key_length", 1, FTK_MAX_HEAD_DIM, per_head, &key_dim);
    if (err == FTK_OK)
        err = read_int(r, "attention.value_length", 1, FTK_MAX_HEAD_DIM, key_dim, &value_dim);
    if (err != FTK_OK) return err;
    hp->head_dim = key_dim;
    if (key_dim != value_dim)
        return FTK_FAIL(r, UNSUPPORTED,
                        "key length %d and value length %d differ: not supported yet", key_dim,
                        value_dim);
    if (key_dim % 2 != 0 || key_dim > FTK_MAX_HEAD_DIM)
        return FTK_FAIL(r, UNSUPPORTED,
                        "head size %d is not supported: it must be even and at most %d", key_dim,
                        FTK_MAX_HEAD_DIM);
    return FTK_OK;
}

static ftk_err read_scales(reader *r, ftk_hparams *hp)
{
    const bool wide = r->arch->wide_scale_layers == hp->n_layer;
    const int size = wide ? hp->n_embd / hp->n_head : hp->head_dim;
    double scale;
    const ftk_err err = read_float(r, "attention.scale", 0, 1e6, 0, &scale);
    hp->attn_scale = scale > 0 ? (float)scale : 1.0f / sqrtf((float)size);
    hp->embd_scale = r->arch->flags & FTK_ARCH_EMBD_SCALE ? sqrtf((float)hp->n_embd) : 1.0f;
    return err;
}

/* Which layers are windowed, one by one: an array of bools, or of integers for them. */
static ftk_err read_windowed(reader *r, ftk_hparams *hp, const ftk_gguf_value *v)
{
    const size_t size = v->elem == FTK_GGUF_BOOL                             ? 1
                        : v->elem == FTK_GGUF_I32 || v->elem == FTK_GGUF_U32 ? 4
                                                                             : 0;
    if (size == 0 || v->count != (uint64_t)hp->n_layer)
        return FTK_FAIL(
            r, FORMAT, "key %s is not a number, and not an array of one bool for each of %d layers",
            r->key, hp->n_layer);
    for (int i = 0; i < hp->n_layer; i++)
        for (size_t b = 0; b < size; b++) hp->windowed[i] |= v->data[(size_t)i * size + b] != 0;
    return FTK_OK;
}

static ftk_err read_window(reader *r, ftk_hparams *hp)
{
    static const char pattern[] = "attention.sliding_window_pattern";
    int period = r->arch->window_period;
    ftk_err err = read_int(r, "attention.sliding_window", 0, MAX_CTX, period ? -1 : 0, &hp->window);
    if (err != FTK_OK) return err;
    if (hp->window > 0 && !(r->arch->flags & FTK_ARCH_WINDOW)) {
        if (hp->window < hp->n_ctx_train)
            return FTK_FAIL(r, UNSUPPORTED,
                            "a window of %d tokens (%s) is not supported for this architecture",
                            hp->window, r->key);
        hp->window = 0;
    }
    if (hp->window == 0) return FTK_OK;
    ftk_gguf_value v;
    if (find(r, pattern, &v) && v.type == FTK_GGUF_ARRAY) return read_windowed(r, hp, &v);
    err = read_int(r, pattern, 0, FTK_MAX_LAYERS, period, &period);
    for (int i = 0; i < hp->n_layer; i++) hp->windowed[i] = period == 0 || i % period < period - 1;
    return err;
}

/* ---- RoPE */

static bool is(const ftk_gguf_value *v, const char *s)
{
    return v->type == FTK_GGUF_STRING && ftk_str_is(v->s, s);
}

static ftk_err read_rope_scale(reader *r, ftk_hparams *hp)
{
    const bool freqs = r->arch->flags & FTK_ARCH_ROPE_FREQS;
    const bool factors = r->arch->flags & FTK_ARCH_ROPE_FACTORS;
    ftk_gguf_value type;
    ftk_err err = FTK_OK;
    double factor = 1.0;
    if (!find(r, "rope.scaling.type", &type))
        err = read_float(r, "rope.scale_linear", 0, 1e6, 1.0, &factor);
    else if (is(&type, "linear"))
        err = read_float(r, "rope.scaling.factor", 0, 1e6, NAN, &factor);
    else if (!is(&type, "none") && !(factors && is(&type, "longrope")))
        err = FTK_FAIL(r, UNSUPPORTED, "%s is not supported: only none%s are", r->key,
                       freqs     ? ", linear and the llama-3 tensor rope_freqs.weight"
                       : factors ? ", linear and longrope"
                                 : " and linear");
    hp->rope_scale = 1.0 / factor;
    return err;
}

static ftk_err read_rope(reader *r, ftk_hparams *hp)
{
    double gain = 1;
    ftk_err err = read_int(r, "rope.dimension_count", 2, hp->head_dim, hp->head_dim, &hp->n_rot);
    if (err == FTK_OK && hp->n_rot % 2 != 0)
        err = FTK_FAIL(r, FORMAT, "%s %d is odd", r->key, hp->n_rot);
    if (err == FTK_OK)
        err = read_float(r, "rope.freq_base", 0, 1e12, r->arch->rope_base, &hp->rope_base);
    hp->rope_base_window = r->arch->rope_base_window;
    if (err == FTK_OK && hp->rope_base_window > 0)
        err = read_float(r, "rope.freq_base_swa", 0, 1e12, hp->rope_base_window,
                         &hp->rope_base_window);
    if (err == FTK_OK) err = read_rope_scale(r, hp);
    if (err == FTK_OK) err = read_float(r, "rope.scaling.attn_factor", 0, 1e3, 1.0, &gain);
    if (err == FTK_OK)
        err = read_int(r, "rope.scaling.original_context_length", 1, MAX_CTX, hp->n_ctx_train,
                       &hp->n_ctx_short);
    hp->rope_gain = (float)gain;
    return err;
}

ftk_err ftk_hparams_read(ftk_hparams *hp, const ftk_gguf *file, const char *path,
                         const ftk_host *host)
{
    reader r = {.file = file, .host = host, .path = path};
    double eps = 0;
    *hp = (ftk_hparams){0};
    ftk_err err = find_architecture(&r);
    hp->arch = r.arch;
    if (err == FTK_OK) err = check_whole(&r);
    if (err == FTK_OK) err = read_int(&r, "block_count", 1, FTK_MAX_LAYERS, -1, &hp->n_layer);
    if (err == FTK_OK) err = read_int(&r, "embedding_length", 1, MAX_EMBD, -1, &hp->n_embd);
    if (err == FTK_OK) err = read_int(&r, "feed_forward_length", 1, MAX_FF, -1, &hp->n_ff);
    if (err == FTK_OK) err = read_int(&r, "context_length", 1, MAX_CTX, -1, &hp->n_ctx_train);
    if (err == FTK_OK) err = read_float(&r, "attention.layer_norm_rms_epsilon", 0, 1, NAN, &eps);
    hp->norm_eps = (float)eps;
    if (err == FTK_OK) err = read_heads(&r, hp);
    if (err == FTK_OK) err = read_scales(&r, hp);
    if (err == FTK_OK) err = read_window(&r, hp);
    return err == FTK_OK ? read_rope(&r, hp) : err;
}
