/* SPDX-License-Identifier: Apache-2.0
 * Opens a head of EAGLE-3. Nothing in its files is trusted. */
#include "model/headfile.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/headparts.h"

typedef ftk_head_loader loader;
typedef ftk_head_names names;

/* ---- which layers of the target */

/* Where nothing says which, in l->c.id: as EAGLE-3 has it, or as many as the head has layers, from
 * the second one's output to the last but two's, in z-lab's rounding. */
static void take_usual(loader *l)
{
    ftk_head_config *const c = &l->c;
    const int n = l->target->hp.n_layer, usual[] = {2, n / 2, n - 3};
    c->n_ids = c->spread_ids ? c->n_layer : 3;
    for (int i = 0; i < c->n_ids; i++)
        c->id[i] = !c->spread_ids  ? usual[i]
                   : c->n_ids == 1 ? n / 2 + 1
                                   : 2 + (int)nearbyint((double)i * (n - 4) / (c->n_ids - 1));
}

static ftk_err take_taps(loader *l, const int *layers, int n_layers)
{
    ftk_headfile *const f = l->f;
    const int n = l->target->hp.n_layer;
    if (l->c.n_target_layer && l->c.n_target_layer != n)
        return FTK_FAIL(&f->source, INVALID, "was made for a model of %d layers; this model has %d",
                        l->c.n_target_layer, n);
    if (l->c.n_ids == 0) take_usual(l);
    const int *from = n_layers > 0 ? layers : l->c.id;
    f->n_taps = n_layers > 0 ? n_layers : l->c.n_ids;
    f->tap_normed = l->c.no_states && n_layers == 0;
    if (f->tap_normed) {
        f->n_taps = 1;
        from = &n;
    }
    if (f->n_taps > FTK_HEAD_TAPS)
        return FTK_FAIL(&f->source, INVALID, "%d layers: give at most %d", f->n_taps,
                        FTK_HEAD_TAPS);
    for (int i = 0; i < f->n_taps; i++) {
        f->tap[i] = from[i];
        if (from[i] < 0 || from[i] > n)
            return FTK_FAIL(&f->source, INVALID,
                            "reads the state entering layer %d, and the model has %d layers: it is "
                            "for another one, or give the layers (--drafter-layers)",
                            from[i], n);
    }
    return FTK_OK;
}

/* ---- what becomes the first state */

/* A tensor that the configuration says is there, or is not. */
static ftk_err expect(const loader *l, ftk_said said, const char *key, bool there, const char *name)
{
    if (said == FTK_SAID_TRUE && !there) return ftk_head_missing(l, name);
    if (said != FTK_SAID_FALSE || !there) return FTK_OK;
    return FTK_FAIL(&l->f->source, FORMAT, "holds tensor %s, while its configuration says %s false",
                    name, key);
}

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
        return FTK_FAIL(&f->source, INVALID,
                        "was made for a model of width %" PRIu64
                        " or for another number of layers than %d; this model's width is %d",
                        t.dims[0] / (uint64_t)f->n_taps, f->n_taps, f->target_width);
    if (err == FTK_OK) err = ftk_head_matrix(l, &fc, n_in, d, &f->fc);
    if (err == FTK_OK && f->kind == FTK_HEAD_EAGLE3)
        err = ftk_head_vector(l, &all, n_in, false, &f->input_norm);
    for (int i = 0; i < f->n_taps && err == FTK_OK; i++) {
        char name[32];
        snprintf(name, sizeof name, "fc_norm.%d.weight", i);
        err =
            ftk_head_vector(l, &(names){name, name, false}, f->target_width, false, &f->fc_norm[i]);
        if (err == FTK_OK && i > 0 && !f->fc_norm[i] != !f->fc_norm[0])
            err = ftk_head_missing(l, name);
    }
    if (err == FTK_OK && f->kind == FTK_HEAD_EAGLE3)
        err = expect(l, l->c.input_norm, "norm_before_fc", f->input_norm != NULL,
                     f->source.gguf ? all.gguf : all.safe);
    if (err == FTK_OK && f->kind == FTK_HEAD_EAGLE3)
        err = expect(l, l->c.fc_norms, "fc_norm", f->fc_norm[0] != NULL, "fc_norm.0.weight");
    return err;
}

/* ---- the layer */

static ftk_err find_layer(loader *l)
{
    const ftk_hparams *const hp = &l->f->model.hp;
    ftk_layer *const to = &l->f->model.layers[l->layer];
    const bool eagle = l->f->kind == FTK_HEAD_EAGLE3, biased = l->c.bias == FTK_SAID_TRUE;
    const int d = hp->n_embd, in = eagle ? 2 * d : d;
    const int dq = hp->n_head * hp->head_dim, dkv = hp->n_head_kv * hp->head_dim;
    const struct {
        names name;
        int len;
        bool needed;
        const float **out;
    } vectors[] = {
        {{"input_layernorm.weight", "attn_norm.weight", true}, d, true, &to->attn_norm},
        {{"hidden_norm.weight", "attn_norm_2.weight", true}, d, eagle, &to->hidden_norm},
        {{"post_attention_layernorm.weight", "ffn_norm.weight", true}, d, true, &to->ffn_norm},
        {{"self_attn.q_norm.weight", "attn_q_norm.weight", true}, hp->head_dim, false, &to->q_norm},
        {{"self_attn.k_norm.weight", "attn_k_norm.weight", true}, hp->head_dim, false, &to->k_norm},
        {{"self_attn.q_proj.bias", "attn_q.bias", true}, dq, biased, &to->q_bias},
        {{"self_attn.k_proj.bias", "attn_k.bias", true}, dkv, biased, &to->k_bias},
        {{"self_attn.v_proj.bias", "attn_v.bias", true}, dkv, biased, &to->v_bias},
        {{"self_attn.o_proj.bias", "attn_output.bias", true}, d, false, &to->o_bias}};
    const struct {
        names name;
        int n_in, n_out;
        ftk_mat *out;
    } matrices[] = {{{"self_attn.q_proj.weight", "attn_q.weight", true}, in, dq, &to->q},
                    {{"self_attn.k_proj.weight", "attn_k.weight", true}, in, dkv, &to->k},
                    {{"self_attn.v_proj.weight", "attn_v.weight", true}, in, dkv, &to->v},
                    {{"self_attn.o_proj.weight", "attn_output.weight", true}, dq, d, &to->o},
                    {{"mlp.gate_proj.weight", "ffn_gate.weight", true}, d, hp->n_ff, &to->gate},
                    {{"mlp.up_proj.weight", "ffn_up.weight", true}, d, hp->n_ff, &to->up},
                    {{"mlp.down_proj.weight", "ffn_down.weight", true}, hp->n_ff, d, &to->down}};
    ftk_err err = FTK_OK;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors && err == FTK_OK; i++)
        err =
            ftk_head_vector(l, &vectors[i].name, vectors[i].len, vectors[i].needed, vectors[i].out);
    if (err == FTK_OK && !to->q_norm != !to->k_norm)
        err =
            ftk_head_missing(l, to->q_norm ? "self_attn.k_norm.weight" : "self_attn.q_norm.weight");
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices && err == FTK_OK; i++)
        err = ftk_head_matrix(l, &matrices[i].name, matrices[i].n_in, matrices[i].n_out,
                              matrices[i].out);
    return err;
}

/* ---- what DFlash and DSpark have more */

static ftk_err find_markov(loader *l)
{
    static const names first = {"markov_head.markov_w1.weight", "markov_w1.weight", false};
    static const names second = {"markov_head.markov_w2.weight", "markov_w2.weight", false};
    ftk_headfile *const f = l->f;
    ftk_source_tensor t;
    char name[FTK_HEAD_NAME];
    ftk_err err;
    if (!ftk_head_find(l, &first, &t, name, &err))
        return err == FTK_OK ? ftk_head_missing(l, name) : err;
    if (t.is_ids || t.n_dims != 2 || t.dims[0] < 1 || t.dims[0] > 1 << 16)
        return FTK_FAIL(&f->source, FORMAT, "tensor %s is no matrix of up to 2^16 a row", name);
    err = ftk_head_check_rows(l, name, t.dims[1]);
    if (err != FTK_OK) return err;
    f->markov1 = (ftk_mat){.type = t.type,
                           .n_out = (int)t.dims[1],
                           .n_in = (int)t.dims[0],
                           .data = t.data,
                           .file = t.data};
    return ftk_head_matrix(l, &second, f->markov1.n_in, f->model.hp.n_vocab, &f->markov2);
}

static ftk_err find_block(loader *l)
{
    static const names norm = {"hidden_norm.weight", "enc.output_norm.weight", false};
    ftk_headfile *const f = l->f;
    f->block = l->c.block;
    f->mask_token = l->c.mask_token;
    f->from_anchor = l->c.from_anchor;
    if (f->mask_token >= l->target->hp.n_vocab)
        return FTK_FAIL(&f->source, INVALID, "its mask token, %d, is not one of this model's %d",
                        f->mask_token, l->target->hp.n_vocab);
    return ftk_head_vector(l, &norm, l->c.width, true, &f->context_norm);
}

static void take_sizes(loader *l)
{
    const ftk_head_config *const c = &l->c;
    ftk_headfile *const f = l->f;
    ftk_model *const m = &f->model;
    /* llama.cpp's converter reorders rows of q and k, of this kind alone. */
    const bool pairs = f->source.gguf && c->kind == FTK_HEAD_EAGLE3;
    f->arch = (ftk_arch){.name = "head",
                         .flags = (pairs ? 0 : (unsigned)FTK_ARCH_ROPE_HALVES) |
                                  (c->norm_residual ? (unsigned)FTK_ARCH_NORM_RESIDUAL : 0)};
    f->kind = c->kind;
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
    return FTK_FAIL(&f->source, NOMEM, "no memory for a drafter");
}

static ftk_err find_rope(loader *l)
{
    static const names divisors = {"", "rope_freqs.weight", false};
    ftk_headfile *const f = l->f;
    const ftk_hparams *const hp = &f->model.hp;
    const float *factor = NULL;
    ftk_err err = FTK_OK;
    if (f->source.gguf) err = ftk_head_vector(l, &divisors, hp->n_rot / 2, false, &factor);
    float *const freq = f->vectors + f->n_vectors;
    f->n_vectors += (size_t)hp->n_rot / 2;
    ftk_head_rope(&l->c.rope, hp->n_rot, freq);
    for (int i = 0; factor && i < hp->n_rot / 2; i++) freq[i] /= factor[i];
    f->model.rope = (ftk_rope){.freq = freq, .freq_long = freq};
    return err;
}

static ftk_err load(loader *l, const int *layers, int n_layers)
{
    static const names last_norm = {"norm.weight", "output_norm.weight", false};
    static const char *const spare[] = {"t2d",
                                        "verifier_",
                                        "rotary_emb.",
                                        "midlayer.self_attn.rotary_emb.",
                                        "confidence_head.",
                                        "conf_proj.",
                                        NULL}; /* DSpark's confidence: measured rates tell that */
    ftk_headfile *const f = l->f;
    ftk_err err = ftk_head_config_read(&l->c, &f->source);
    if (err != FTK_OK) return err;
    if (l->c.kind == FTK_HEAD_MEDUSA && n_layers > 0)
        return FTK_FAIL(
            &f->source, INVALID,
            "heads of Medusa read the last layer's state alone: leave --drafter-layers out");
    if (l->c.kind == FTK_HEAD_MEDUSA) return ftk_medusa_load(l);
    take_sizes(l);
    if (l->c.target_width && l->c.target_width != f->target_width)
        return FTK_FAIL(&f->source, INVALID,
                        "was made for a model of width %d; this model's width is %d",
                        l->c.target_width, f->target_width);
    err = take_taps(l, layers, n_layers);
    if (err == FTK_OK) err = take_memory(l);
    if (err == FTK_OK) err = find_fc(l);
    for (l->layer = 0; l->layer < l->c.n_layer && err == FTK_OK; l->layer++) err = find_layer(l);
    l->layer = 0;
    if (err == FTK_OK && f->kind != FTK_HEAD_EAGLE3) err = find_block(l);
    if (err == FTK_OK)
        err = ftk_head_vector(l, &last_norm, l->c.width, true, &f->model.output_norm);
    if (err == FTK_OK) err = find_rope(l);
    if (err == FTK_OK) err = ftk_head_output(l);
    if (err == FTK_OK && f->kind == FTK_HEAD_DSPARK && l->c.markov > 0) err = find_markov(l);
    if (err == FTK_OK) err = ftk_source_check_used(&f->source, spare);
    return err == FTK_OK ? ftk_head_pack(l) : err;
}

/* "states entering layers 2, 15, 27 of 30; 32000 of 49152 tokens; ..." */
static void describe(ftk_headfile *f, const ftk_model *target, const char *writer)
{
    char layers[128] = "";
    for (int i = 0; i < f->n_taps; i++) {
        const size_t n = strlen(layers);
        snprintf(layers + n, sizeof layers - n, "%s%d", i ? ", " : "", f->tap[i]);
    }
    if (f->kind == FTK_HEAD_MEDUSA) {
        snprintf(f->about, sizeof f->about, "%d heads of %d layers; %d of %d tokens", f->n_heads,
                 f->n_layers, f->model.hp.n_vocab, target->hp.n_vocab);
        return;
    }
    char block[96] = "";
    if (f->kind != FTK_HEAD_EAGLE3)
        snprintf(block, sizeof block, "; %d layers, blocks of %d%s%s", f->model.hp.n_layer,
                 f->block, f->from_anchor ? ", which say what follows the last token" : "",
                 f->markov1.n_out ? ", a Markov head" : "");
    snprintf(f->about, sizeof f->about,
             "states entering layers %s of %d%s; %d of %d tokens%s%s%s%s%s%s; as %s writes it",
             layers, target->hp.n_layer, f->tap_normed ? ", normed" : "", f->model.hp.n_vocab,
             target->hp.n_vocab, f->model.layers[0].q_norm ? "; norms of queries and keys" : "",
             f->fc_norm[0] ? "; a norm of each state" : "",
             f->input_norm ? "; a norm of all states" : "",
             f->arch.flags & FTK_ARCH_NORM_RESIDUAL ? "; norm before the residual" : "",
             f->feeds_normed ? "; states are fed back behind the last norm" : "", block, writer);
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
    if (err == FTK_OK) describe(f, target, l.c.writer);
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
