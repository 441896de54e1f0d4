/* SPDX-License-Identifier: Apache-2.0
 * Opens a head of EAGLE-3. Nothing in its files is trusted. */
#include "model/headfile.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/headrope.h"

enum { NAME = 96, MATS = 9 };

typedef struct loader {
    ftk_headfile *f;
    const ftk_model *target;
    ftk_head_config c;
    ftk_mat *mats[MATS]; /* those that lie in the file, or are gathered: to be packed */
    int n_mats;
} loader;

/* Names of a tensor in safetensors and in GGUF; of a layer's, behind its prefix. */
typedef struct names {
    const char *safe, *gguf;
    bool of_layer;
} names;

/* ---- tensors */

/* Under whatever prefix it is there. name gets what it was last looked for as. */
static bool find(loader *l, const names *n, ftk_source_tensor *t, char name[NAME], ftk_err *err)
{
    static const char *const prefixes[] = {"midlayer.", "layers.0."};
    ftk_source *const s = &l->f->source;
    if (s->gguf || !n->of_layer) {
        snprintf(name, NAME, "%s%s", n->of_layer ? "blk.0." : "", s->gguf ? n->gguf : n->safe);
        return ftk_source_find(s, name, t, err);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(name, NAME, "%s%s", prefixes[i], n->safe);
        if (ftk_source_find(s, name, t, err) || *err != FTK_OK) return *err == FTK_OK;
    }
    return false;
}

static ftk_err missing(const loader *l, const char *name)
{
    return ftk_fail(&l->f->host, FTK_ERR_FORMAT, "%s: tensor %s is missing", l->f->source.path,
                    name);
}

static ftk_err check_shape(const loader *l, const char *name, const ftk_source_tensor *t, int n_in,
                           int n_out)
{
    if (!t->is_ids && t->dims[0] == (uint64_t)n_in && t->dims[1] == (uint64_t)n_out &&
        t->dims[2] == 1 && t->dims[3] == 1)
        return FTK_OK;
    return ftk_fail(&l->f->host, FTK_ERR_FORMAT,
                    "%s: tensor %s has shape [%" PRIu64 ", %" PRIu64 "] instead of [%d, %d]",
                    l->f->source.path, name, t->dims[0], t->dims[1], n_in, n_out);
}

/* A matrix as it lies in the file; one that may be missing leaves *mat with n_out 0. */
static ftk_err find_matrix(loader *l, const names *n, int n_in, int n_out, bool needed,
                           ftk_mat *mat)
{
    ftk_source_tensor t;
    char name[NAME];
    ftk_err err;
    if (!find(l, n, &t, name, &err)) return err == FTK_OK && needed ? missing(l, name) : err;
    err = check_shape(l, name, &t, n_in, n_out);
    if (err != FTK_OK) return err;
    *mat = (ftk_mat){.type = t.type, .n_out = n_out, .n_in = n_in, .data = t.data, .file = t.data};
    return FTK_OK;
}

static ftk_err to_pack(loader *l, const names *n, int n_in, int n_out, ftk_mat *mat)
{
    const ftk_err err = find_matrix(l, n, n_in, n_out, true, mat);
    if (err == FTK_OK) l->mats[l->n_mats++] = mat;
    return err;
}

/* Floats in the arena; one that may be missing leaves *out NULL. */
static ftk_err find_vector(loader *l, const names *n, int len, bool needed, const float **out)
{
    ftk_headfile *const f = l->f;
    ftk_source_tensor t;
    char name[NAME];
    ftk_err err;
    *out = NULL;
    if (!find(l, n, &t, name, &err)) return err == FTK_OK && needed ? missing(l, name) : err;
    err = check_shape(l, name, &t, len, 1);
    if (err != FTK_OK) return err;
    float *const v = f->vectors + f->n_vectors;
    f->n_vectors += (size_t)len;
    f->model.kernels.dequant_row(t.type, len, t.data, v);
    for (int i = 0; i < len; i++)
        if (!isfinite(v[i]))
            return ftk_fail(&f->host, FTK_ERR_FORMAT,
                            "%s: tensor %s holds values that are not finite", f->source.path, name);
    *out = v;
    return FTK_OK;
}

/* ---- which layers of the target */

static ftk_err take_taps(loader *l, const int *layers, int n_layers)
{
    ftk_headfile *const f = l->f;
    const int n = l->target->hp.n_layer, usual[] = {2, n / 2, n - 3};
    const int *from = n_layers > 0 ? layers : l->c.n_ids > 0 ? l->c.id : usual;
    f->n_taps = n_layers > 0 ? n_layers : l->c.n_ids > 0 ? l->c.n_ids : 3;
    f->tap_normed = l->c.no_states && n_layers == 0;
    if (f->tap_normed) {
        f->n_taps = 1;
        from = &n;
    }
    if (f->n_taps > FTK_HEAD_TAPS)
        return ftk_fail(&f->host, FTK_ERR_INVALID, "%s: %d layers: give at most %d", f->source.path,
                        f->n_taps, FTK_HEAD_TAPS);
    for (int i = 0; i < f->n_taps; i++) {
        f->tap[i] = from[i];
        if (from[i] < 0 || from[i] > n)
            return ftk_fail(
                &f->host, FTK_ERR_INVALID,
                "%s: reads the state entering layer %d, and the model has %d layers: it is "
                "for another one, or give the layers (--drafter-layers)",
                f->source.path, from[i], n);
    }
    return FTK_OK;
}

/* ---- what becomes the first state */

static ftk_err find_fc(loader *l)
{
    static const names fc = {"fc.weight", "fc.weight", false};
    static const names all = {"input_norm.weight", "enc.output_norm.weight", false};
    ftk_headfile *const f = l->f;
    const int n_in = f->n_taps * f->target_width, d = l->c.width;
    ftk_source_tensor t;
    ftk_err err = FTK_OK;
    if (f->tap_normed && d == f->target_width) return FTK_OK;
    if (ftk_source_find(&f->source, fc.safe, &t, &err) && t.dims[0] != (uint64_t)n_in &&
        t.dims[0] % (uint64_t)f->n_taps == 0)
        return ftk_fail(&f->host, FTK_ERR_INVALID,
                        "%s: was made for a model of width %" PRIu64
                        " or for another number of layers than %d; this model's width is %d",
                        f->source.path, t.dims[0] / (uint64_t)f->n_taps, f->n_taps,
                        f->target_width);
    if (err == FTK_OK) err = to_pack(l, &fc, n_in, d, &f->fc);
    if (err == FTK_OK) err = find_vector(l, &all, n_in, false, &f->input_norm);
    for (int i = 0; i < f->n_taps && err == FTK_OK; i++) {
        char name[32];
        snprintf(name, sizeof name, "fc_norm.%d.weight", i);
        err = find_vector(l, &(names){name, name, false}, f->target_width, false, &f->fc_norm[i]);
        if (err == FTK_OK && i > 0 && !f->fc_norm[i] != !f->fc_norm[0]) err = missing(l, name);
    }
    return err;
}

/* ---- the layer */

static ftk_err find_layer(loader *l)
{
    static const names attn_norm = {"input_layernorm.weight", "attn_norm.weight", true},
                       hidden_norm = {"hidden_norm.weight", "attn_norm_2.weight", true},
                       ffn_norm = {"post_attention_layernorm.weight", "ffn_norm.weight", true},
                       q_norm = {"self_attn.q_norm.weight", "attn_q_norm.weight", true},
                       k_norm = {"self_attn.k_norm.weight", "attn_k_norm.weight", true},
                       q_bias = {"self_attn.q_proj.bias", "attn_q.bias", true},
                       k_bias = {"self_attn.k_proj.bias", "attn_k.bias", true},
                       v_bias = {"self_attn.v_proj.bias", "attn_v.bias", true},
                       o_bias = {"self_attn.o_proj.bias", "attn_output.bias", true},
                       q = {"self_attn.q_proj.weight", "attn_q.weight", true},
                       k = {"self_attn.k_proj.weight", "attn_k.weight", true},
                       v = {"self_attn.v_proj.weight", "attn_v.weight", true},
                       o = {"self_attn.o_proj.weight", "attn_output.weight", true},
                       gate = {"mlp.gate_proj.weight", "ffn_gate.weight", true},
                       up = {"mlp.up_proj.weight", "ffn_up.weight", true},
                       down = {"mlp.down_proj.weight", "ffn_down.weight", true};
    const ftk_hparams *const hp = &l->f->model.hp;
    ftk_layer *const to = &l->f->model.layers[0];
    const int d = hp->n_embd, dq = hp->n_head * hp->head_dim, dkv = hp->n_head_kv * hp->head_dim;
    const struct {
        const names *name;
        int len;
        bool needed;
        const float **out;
    } vectors[] = {{&attn_norm, d, true, &to->attn_norm},
                   {&hidden_norm, d, true, &to->hidden_norm},
                   {&ffn_norm, d, true, &to->ffn_norm},
                   {&q_norm, hp->head_dim, false, &to->q_norm},
                   {&k_norm, hp->head_dim, false, &to->k_norm},
                   {&q_bias, dq, false, &to->q_bias},
                   {&k_bias, dkv, false, &to->k_bias},
                   {&v_bias, dkv, false, &to->v_bias},
                   {&o_bias, d, false, &to->o_bias}};
    const struct {
        const names *name;
        int n_in, n_out;
        ftk_mat *out;
    } matrices[] = {{&q, 2 * d, dq, &to->q},         {&k, 2 * d, dkv, &to->k},
                    {&v, 2 * d, dkv, &to->v},        {&o, dq, d, &to->o},
                    {&gate, d, hp->n_ff, &to->gate}, {&up, d, hp->n_ff, &to->up},
                    {&down, hp->n_ff, d, &to->down}};
    ftk_err err = FTK_OK;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors && err == FTK_OK; i++)
        err = find_vector(l, vectors[i].name, vectors[i].len, vectors[i].needed, vectors[i].out);
    if (err == FTK_OK && !to->q_norm != !to->k_norm)
        err = missing(l, to->q_norm ? k_norm.safe : q_norm.safe);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices && err == FTK_OK; i++)
        err = to_pack(l, matrices[i].name, matrices[i].n_in, matrices[i].n_out, matrices[i].out);
    return err;
}

/* ---- vocabulary */

/* d2t: in safetensors what is added to a row's number, in GGUF the token itself. */
static ftk_err read_vocab(loader *l, int *n_out)
{
    ftk_headfile *const f = l->f;
    const ftk_host *const h = &f->host;
    const int64_t n_vocab = l->target->hp.n_vocab;
    ftk_source_tensor t;
    ftk_err err;
    *n_out = 0;
    if (!ftk_source_find(&f->source, "d2t", &t, &err)) return err;
    if (!t.is_ids || t.n_dims != 1 || t.dims[0] < 1 || t.dims[0] > (uint64_t)n_vocab)
        return ftk_fail(h, FTK_ERR_FORMAT,
                        "%s: tensor d2t is no list of 1 to %" PRId64 " numbers of 64 bits",
                        f->source.path, n_vocab);
    const size_t n = (size_t)t.dims[0];
    f->vocab = ftk_alloc_raw(h, n, sizeof *f->vocab);
    bool *const seen = ftk_alloc(h, (size_t)n_vocab, sizeof *seen);
    for (size_t i = 0; i < n && f->vocab && seen && err == FTK_OK; i++) {
        int64_t id;
        memcpy(&id, (const char *)t.data + i * sizeof id, sizeof id);
        if (!f->source.gguf && id >= -(int64_t)i && id < n_vocab) id += (int64_t)i;
        if (id < 0 || id >= n_vocab || seen[id])
            err = ftk_fail(h, FTK_ERR_FORMAT,
                           "%s: tensor d2t names token %" PRId64 " for row %zu: not one of %" PRId64
                           ", or twice",
                           f->source.path, id, i, n_vocab);
        else
            seen[f->vocab[i] = (int32_t)id] = true;
    }
    if (!f->vocab || !seen) err = ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory", f->source.path);
    ftk_release(h, seen);
    *n_out = (int)n;
    return err;
}

/* Rows of the target's output matrix, in its GGUF layout. */
static ftk_err borrow_head(loader *l, int n_out)
{
    ftk_headfile *const f = l->f;
    ftk_mat *const head = &f->model.output;
    *head = l->target->output;
    if (n_out == 0) return FTK_OK;
    const size_t row = ftk_type_bytes(head->type, (size_t)head->n_in);
    char *const rows = f->rows = ftk_alloc_raw(&f->host, (size_t)n_out, row);
    if (!rows) return ftk_fail(&f->host, FTK_ERR_NOMEM, "%s: no memory", f->source.path);
    for (int i = 0; i < n_out; i++)
        memcpy(rows + (size_t)i * row, (const char *)head->file + (size_t)f->vocab[i] * row, row);
    head->n_out = n_out;
    head->data = head->file = rows;
    l->mats[l->n_mats++] = head;
    return FTK_OK;
}

static ftk_err check_vocab(const loader *l)
{
    enum { PADDING = 1024 }; /* tokens that a configuration may count more */
    const int said = l->c.n_vocab, n = l->target->hp.n_vocab;
    if (said == 0 || (said >= ftk_tokenizer_n_used(l->target->tokenizer) && said <= n + PADDING))
        return FTK_OK;
    return ftk_fail(&l->f->host, FTK_ERR_INVALID,
                    "%s: was made for a vocabulary of %d tokens; this model's has %d",
                    l->f->source.path, said, n);
}

static ftk_err find_head(loader *l)
{
    static const names head = {"lm_head.weight", "output.weight", false};
    static const names embedding = {"embed_tokens.weight", "token_embd.weight", false};
    ftk_headfile *const f = l->f;
    const int d = l->c.width, n_vocab = l->target->hp.n_vocab;
    ftk_source_tensor t;
    char name[NAME];
    int n_out;
    ftk_err err = check_vocab(l);
    if (err == FTK_OK) err = read_vocab(l, &n_out);
    if (err != FTK_OK) return err;
    const bool own = find(l, &head, &t, name, &err);
    if (err == FTK_OK && own) {
        const int rows = n_out ? n_out : (int)(t.dims[1] < 1 << 24 ? t.dims[1] : 0);
        if (!n_out && rows < n_vocab)
            return ftk_fail(&f->host, FTK_ERR_FORMAT,
                            "%s: tensor %s has %d rows and there is no d2t", f->source.path, name,
                            rows);
        err = to_pack(l, &head, d, rows, &f->model.output);
    }
    if (err == FTK_OK && find(l, &embedding, &t, name, &err))
        err = find_matrix(l, &embedding, d, (int)(t.dims[1] < 1 << 24 ? t.dims[1] : 0), true,
                          &f->model.embd);
    if (err != FTK_OK) return err;
    const bool embeds = f->model.embd.n_out > 0;
    if (embeds && f->model.embd.n_out < n_vocab)
        return ftk_fail(&f->host, FTK_ERR_INVALID, "%s: tensor %s has %d rows for %d tokens",
                        f->source.path, name, f->model.embd.n_out, n_vocab);
    if ((!own || !embeds) && d != l->target->hp.n_embd)
        return ftk_fail(&f->host, FTK_ERR_INVALID,
                        "%s: has no %s of its own, and its width, %d, is not the model's, %d",
                        f->source.path, own ? "embeddings" : "output matrix", d,
                        l->target->hp.n_embd);
    if (!embeds) f->model.embd = l->target->embd;
    if (!own) err = borrow_head(l, n_out);
    f->model.hp.n_vocab = f->model.output.n_out;
    return err;
}

/* ---- making it ready */

static void take_sizes(loader *l)
{
    const ftk_head_config *const c = &l->c;
    ftk_headfile *const f = l->f;
    ftk_model *const m = &f->model;
    const bool pairs = f->source.gguf != NULL; /* llama.cpp's converter reorders rows of q and k */
    f->arch = (ftk_arch){.name = "eagle3",
                         .flags = (pairs ? 0 : (unsigned)FTK_ARCH_ROPE_HALVES) |
                                  (c->norm_residual ? (unsigned)FTK_ARCH_NORM_RESIDUAL : 0)};
    f->feeds_normed = c->feeds_normed;
    f->target_width = l->target->hp.n_embd;
    m->host = f->host;
    m->kernels = l->target->kernels;
    m->hp = (ftk_hparams){.arch = &f->arch,
                          .n_ctx_train = l->target->hp.n_ctx_train,
                          .n_layer = c->n_layer,
                          .n_embd = c->width,
                          .n_ff = c->n_ff,
                          .n_head = c->n_head,
                          .n_head_kv = c->n_head_kv,
                          .head_dim = c->head_dim,
                          .norm_eps = (float)c->eps,
                          .embd_scale = 1,
                          .attn_scale = (float)(1 / sqrt(c->head_dim)),
                          .window = c->window,
                          .windowed = {c->window > 0},
                          .n_rot = (int)(c->partial * c->head_dim) / 2 * 2,
                          .rope_gain = (float)ftk_head_rope_gain(&c->rope),
                          .n_ctx_short = INT_MAX};
}

static ftk_err take_memory(loader *l)
{
    ftk_headfile *const f = l->f;
    const ftk_hparams *const hp = &f->model.hp;
    const size_t d = (size_t)hp->n_embd, dt = (size_t)f->target_width, taps = (size_t)f->n_taps;
    const size_t heads = (size_t)(hp->n_head + 2 * hp->n_head_kv + 2) * (size_t)hp->head_dim;
    f->vectors =
        ftk_alloc(&f->host, 5 * d + 2 * taps * dt + heads + (size_t)hp->n_rot, sizeof(float));
    f->model.layers = ftk_alloc(&f->host, (size_t)hp->n_layer, sizeof *f->model.layers);
    if (f->vectors && f->model.layers) return FTK_OK;
    return ftk_fail(&f->host, FTK_ERR_NOMEM, "%s: no memory for a drafter", f->source.path);
}

static ftk_err find_rope(loader *l)
{
    static const names divisors = {"", "rope_freqs.weight", false};
    ftk_headfile *const f = l->f;
    const ftk_hparams *const hp = &f->model.hp;
    const float *factor = NULL;
    ftk_err err = FTK_OK;
    if (f->source.gguf) err = find_vector(l, &divisors, hp->n_rot / 2, false, &factor);
    float *const freq = f->vectors + f->n_vectors;
    f->n_vectors += (size_t)hp->n_rot / 2;
    ftk_head_rope(&l->c.rope, hp->n_rot, freq);
    for (int i = 0; factor && i < hp->n_rot / 2; i++) freq[i] /= factor[i];
    f->model.rope = (ftk_rope){.freq = freq, .freq_long = freq};
    return err;
}

static size_t packed_bytes(const ftk_headfile *f, const ftk_mat *w)
{
    return (f->model.kernels.pack_bytes(w->type, w->n_out, w->n_in) + 63) / 64 * 64;
}

static ftk_err pack_all(loader *l)
{
    ftk_headfile *const f = l->f;
    size_t bytes = 0;
    for (int i = 0; i < l->n_mats; i++) bytes += packed_bytes(f, l->mats[i]);
    char *at = f->packed = ftk_alloc_raw(&f->host, bytes, 1);
    if (!at)
        return ftk_fail(&f->host, FTK_ERR_NOMEM, "%s: needs %zu MiB for a drafter", f->source.path,
                        bytes >> 20);
    for (int i = 0; i < l->n_mats; i++) {
        ftk_mat *const w = l->mats[i];
        const size_t n = packed_bytes(f, w);
        w->cached = l->target->output.cached;
        if (n == 0) continue;
        f->model.kernels.pack(w->type, w->n_out, w->n_in, w->data, at);
        w->data = at;
        at += n;
    }
    return FTK_OK;
}

static ftk_err load(loader *l, const int *layers, int n_layers)
{
    static const names last_norm = {"norm.weight", "output_norm.weight", false};
    static const char *const spare[] = {
        "t2d", "verifier_", "model.verifier_", "rotary_emb.", "midlayer.self_attn.rotary_emb.",
        NULL};
    ftk_headfile *const f = l->f;
    ftk_err err = ftk_head_config_read(&l->c, &f->source);
    if (err != FTK_OK) return err;
    take_sizes(l);
    if (l->c.target_width && l->c.target_width != f->target_width)
        return ftk_fail(&f->host, FTK_ERR_INVALID,
                        "%s: was made for a model of width %d; this model's width is %d",
                        f->source.path, l->c.target_width, f->target_width);
    err = take_taps(l, layers, n_layers);
    if (err == FTK_OK) err = take_memory(l);
    if (err == FTK_OK) err = find_fc(l);
    if (err == FTK_OK) err = find_layer(l);
    if (err == FTK_OK) err = find_vector(l, &last_norm, l->c.width, true, &f->model.output_norm);
    if (err == FTK_OK) err = find_rope(l);
    if (err == FTK_OK) err = find_head(l);
    if (err == FTK_OK) err = ftk_source_check_used(&f->source, spare);
    return err == FTK_OK ? pack_all(l) : err;
}

/* "states entering layers 2, 15, 27 of 30; 32000 of 49152 tokens; ..." */
static void describe(ftk_headfile *f, const ftk_model *target)
{
    char layers[128] = "";
    for (int i = 0; i < f->n_taps; i++) {
        const size_t n = strlen(layers);
        snprintf(layers + n, sizeof layers - n, "%s%d", i ? ", " : "", f->tap[i]);
    }
    snprintf(f->about, sizeof f->about,
             "states entering layers %s of %d%s; %d of %d tokens%s%s%s%s%s", layers,
             target->hp.n_layer, f->tap_normed ? ", normed" : "", f->model.hp.n_vocab,
             target->hp.n_vocab, f->model.layers[0].q_norm ? "; norms of queries and keys" : "",
             f->fc_norm[0] ? "; a norm of each state" : "",
             f->input_norm ? "; a norm of all states" : "",
             f->arch.flags & FTK_ARCH_NORM_RESIDUAL ? "; norm before the residual" : "",
             f->feeds_normed ? "; states are fed back behind the last norm" : "");
}

ftk_err ftk_headfile_open(ftk_headfile **out, const char *path, const ftk_model *target,
                          const int *layers, int n_layers, const ftk_host *host)
{
    *out = NULL;
    ftk_headfile *const f = ftk_alloc(host, 1, sizeof *f);
    if (!f) return ftk_fail(host, FTK_ERR_NOMEM, "%s: no memory for a drafter", path);
    f->host = *host;
    loader l = {.f = f, .target = target};
    ftk_err err = ftk_source_open(&f->source, path, &f->host);
    if (err == FTK_OK) err = load(&l, layers, n_layers);
    if (err == FTK_OK) describe(f, target);
    if (err == FTK_OK)
        *out = f;
    else
        ftk_headfile_close(f);
    return err;
}

void ftk_headfile_close(ftk_headfile *f)
{
    if (!f) return;
    const ftk_host h = f->host;
    ftk_release(&h, f->packed);
    ftk_release(&h, f->rows);
    ftk_release(&h, f->vocab);
    ftk_release(&h, f->model.layers);
    ftk_release(&h, f->vectors);
    ftk_source_close(&f->source);
    ftk_release(&h, f);
}
