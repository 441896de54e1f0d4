/* SPDX-License-Identifier: Apache-2.0
 * Keys of a head's configuration that change what it computes, in ways that are not built in. A
 * head that is read as if they were not there drafts, only worse: so it is refused. */
#include "model/headconfig.h"

#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/gguf.h"

typedef const ftk_json_value value;

/* Of numbers those that change nothing; NAN: none. */
typedef struct number {
    const char *key;
    double spared[2];
} number;

static const number json_numbers[] = {
    {"logit_scale", {1, 1}},
    {"logits_scaling", {1, 1}},
    {"output_multiplier", {1, 1}},
    {"input_embedding_scale", {1, 1}},
    {"embedding_multiplier", {1, 1}},
    {"residual_multiplier", {1, 1}},
    {"attention_multiplier", {NAN, NAN}},
    {"scale_emb", {1, 1}},
    {"scale_depth", {NAN, NAN}},
    {"final_logit_softcapping", {0, 0}},
    {"attn_logit_softcapping", {0, 0}},
};

/* llama.cpp writes 0 for what there is not. */
static const number gguf_numbers[] = {
    {"logit_scale", {0, 1}},
    {"embedding_scale", {0, 1}},
    {"residual_scale", {0, 1}},
    {"attention.scale", {0, 0}},
    {"rope.scaling.attn_factor", {0, 1}},
    {"final_logit_softcapping", {0, 0}},
    {"attn_logit_softcapping", {0, 0}},
    {"attention.sliding_window", {0, 0}},
    {"hyper_connection.count", {0, 0}},
    {"expert_count", {0, 0}},
};

static ftk_err refuse(const ftk_source *s, const char *key, const char *what)
{
    return FTK_FAIL(s, UNSUPPORTED, "its configuration says %s %s, which is not supported", key,
                    what);
}

static ftk_err check_number(const ftk_source *s, const number *n, double x)
{
    char shown[32];
    if (x == n->spared[0] || x == n->spared[1]) return FTK_OK;
    snprintf(shown, sizeof shown, "%g", x);
    return refuse(s, n->key, shown);
}

/* ---- config.json */

static ftk_err check_numbers(const ftk_source *s, value *in)
{
    ftk_err err = FTK_OK;
    for (size_t i = 0; i < sizeof json_numbers / sizeof *json_numbers && err == FTK_OK; i++) {
        value *v = ftk_json_get(&s->config, in, json_numbers[i].key);
        if (v && v->kind == FTK_JSON_NUMBER) err = check_number(s, &json_numbers[i], v->number);
    }
    return err;
}

/* usual: what it is where it is not said. */
static ftk_err check_truth(const ftk_source *s, value *in, const char *key, bool usual)
{
    value *v = ftk_json_get(&s->config, in, key);
    if (!v || v->kind != FTK_JSON_BOOL || (v->number != 0) == usual) return FTK_OK;
    return refuse(s, key, usual ? "false" : "true");
}

/* A word, or words in a list, that are to be one of two. */
static ftk_err check_words(const ftk_source *s, value *in, const char *key, const char *one,
                           const char *other)
{
    value *v = ftk_json_get(&s->config, in, key);
    value *word = v && v->kind == FTK_JSON_ARRAY ? ftk_json_first(&s->config, v) : v;
    for (; word; word = word == v ? NULL : ftk_json_next(&s->config, word))
        if (word->kind == FTK_JSON_STRING && !ftk_str_is(word->text, one) &&
            !ftk_str_is(word->text, other))
            return refuse(s, key, FTK_SHOW(word->text));
    return FTK_OK;
}

/* is_causal: blocks see themselves in both directions, EAGLE-3's rows do not. */
static ftk_err check_part(const ftk_source *s, ftk_head_kind kind, value *in)
{
    ftk_err err = check_numbers(s, in);
    if (err == FTK_OK) err = check_truth(s, in, "is_causal", kind == FTK_HEAD_EAGLE3);
    if (err == FTK_OK) err = check_truth(s, in, "shift_label", false);
    if (err == FTK_OK) err = check_truth(s, in, "rope_interleave", false);
    if (err == FTK_OK) err = check_words(s, in, "projector_type", "dflash", "dspark");
    if (err == FTK_OK) err = check_words(s, in, "attention_mode", "gqa", "mha");
    return err == FTK_OK ? check_words(s, in, "attention_modes", "gqa", "mha") : err;
}

static ftk_err check_json(const ftk_source *s, ftk_head_kind kind)
{
    static const char *const parts[] = {"transformer_layer_config", "eagle_config",
                                        "dflash_config"};
    value *root = &s->config.values[0];
    ftk_err err = check_part(s, kind, root);
    for (int i = 0; i < 3 && err == FTK_OK; i++)
        err = check_part(s, kind, ftk_json_get(&s->config, root, parts[i]));
    return err;
}

/* ---- GGUF */

static bool find(const ftk_source *s, ftk_head_kind kind, const char *key, ftk_gguf_value *v)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", kind == FTK_HEAD_EAGLE3 ? "eagle3" : "dflash", key);
    return ftk_gguf_find(s->gguf, name, v);
}

static ftk_err check_gguf(const ftk_source *s, ftk_head_kind kind)
{
    const bool causal = kind == FTK_HEAD_EAGLE3;
    ftk_gguf_value v;
    ftk_err err = FTK_OK;
    double x;
    for (size_t i = 0; i < sizeof gguf_numbers / sizeof *gguf_numbers && err == FTK_OK; i++)
        if (find(s, kind, gguf_numbers[i].key, &v) && ftk_gguf_number(&v, &x))
            err = check_number(s, &gguf_numbers[i], x);
    if (err == FTK_OK && find(s, kind, "attention.causal", &v) && v.type == FTK_GGUF_BOOL &&
        (v.u != 0) != causal)
        err = refuse(s, "attention.causal", causal ? "false" : "true");
    return err;
}

ftk_err ftk_head_keys_check(const ftk_source *s, ftk_head_kind kind)
{
    return s->gguf ? check_gguf(s, kind) : check_json(s, kind);
}
