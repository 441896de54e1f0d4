/* SPDX-License-Identifier: Apache-2.0
 * What the configuration of a head says: config.json of EAGLE, SpecForge and speculators, and
 * the keys of llama.cpp's converter.
 *
 * The layers: speculators and vLLM name those whose entering state is wanted, as we do.
 * SpecForge, in eagle_config, names those whose output is; that is the state entering the next
 * one. */
#include "model/headconfig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/gguf.h"

enum { LARGEST = 1 << 20, LARGEST_WHOLE = 1 << 24, MOST_LAYERS = 12 };

typedef const ftk_json_value value;

typedef struct reader {
    ftk_head_config *c;
    const ftk_source *s;
    value *root, *layer; /* the whole, and where the layer's sizes stand */
} reader;

static ftk_err wrong(const reader *r, const char *key, const char *want)
{
    return FTK_FAIL(r->s, FORMAT, "%s in its configuration is no %s", key, want);
}

/* ---- JSON */

static value *get(const reader *r, value *in, const char *key)
{
    value *v = ftk_json_get(&r->s->config, in, key);
    return v && v->kind != FTK_JSON_NULL ? v : NULL;
}

/* Of the layer's part, or else of the whole. */
static value *find(const reader *r, const char *key)
{
    value *v = get(r, r->layer, key);
    return v ? v : get(r, r->root, key);
}

/* ---- numbers and flags, in JSON of the part `in`, in a GGUF's keys */

static bool key_of(const reader *r, const char *key, ftk_gguf_value *v)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", r->c->kind == FTK_HEAD_EAGLE3 ? "eagle3" : "dflash", key);
    return ftk_gguf_find(r->s->gguf, name, v);
}

typedef struct answer {
    bool there, number, whole, truth; /* truth: x is whether it is true */
    double x;
} answer;

static answer ask(const reader *r, value *in, const char *key)
{
    answer a = {0};
    ftk_gguf_value v;
    int64_t i;
    value *const json = r->s->gguf ? NULL : get(r, in, key);
    if (json)
        return (answer){true, json->kind == FTK_JSON_NUMBER, json->whole,
                        json->kind == FTK_JSON_BOOL, json->number};
    if (!r->s->gguf || !key_of(r, key, &v)) return a;
    a.there = true;
    a.truth = v.type == FTK_GGUF_BOOL;
    a.whole = ftk_gguf_whole(&v, &i);
    a.number = ftk_gguf_number(&v, &a.x);
    if (a.truth) a.x = v.u != 0;
    return a;
}

/* The same key by its name in each. */
static const char *either(const reader *r, const char *json, const char *gguf)
{
    return r->s->gguf ? gguf : json;
}

static ftk_err whole(const reader *r, const char *key, int least, int otherwise, int *out)
{
    answer a = ask(r, r->layer, key);
    if (!a.there) a = ask(r, r->root, key);
    *out = otherwise;
    if (!a.there && otherwise >= 0) return FTK_OK;
    if (!a.number || !a.whole || a.x < least || a.x > LARGEST_WHOLE)
        return wrong(r, key, "whole number of a sane size");
    *out = (int)a.x;
    return FTK_OK;
}

static ftk_err real(const reader *r, value *in, const char *key, double least, double otherwise,
                    double *out)
{
    const answer a = ask(r, in, key);
    *out = otherwise;
    if (!a.there && !isnan(otherwise)) return FTK_OK;
    if (!a.number || !(a.x >= least) || !(a.x < 1e12))
        return wrong(r, key, "number of a sane size");
    *out = a.x;
    return FTK_OK;
}

static ftk_err flag(const reader *r, value *in, const char *key, bool *out)
{
    const answer a = ask(r, in, key);
    if (!a.there) return FTK_OK;
    if (!a.truth) return wrong(r, key, "true or false");
    *out = a.x != 0;
    return FTK_OK;
}

static ftk_err said(const reader *r, value *in, const char *key, ftk_said *out)
{
    bool b = false;
    const ftk_err err = flag(r, in, key, &b);
    *out = !ask(r, in, key).there ? FTK_SAID_NOT : b ? FTK_SAID_TRUE : FTK_SAID_FALSE;
    return err;
}

static ftk_err read_sizes(const reader *r)
{
    ftk_head_config *const c = r->c;
    ftk_err err = whole(r, either(r, "num_hidden_layers", "block_count"), 1, 1, &c->n_layer);
    if (err == FTK_OK)
        err = whole(r, either(r, "hidden_size", "embedding_length"), 1, -1, &c->width);
    if (err == FTK_OK) err = whole(r, "target_hidden_size", 1, 0, &c->target_width);
    if (err == FTK_OK)
        err = whole(r, either(r, "intermediate_size", "feed_forward_length"), 1, -1, &c->n_ff);
    if (err == FTK_OK)
        err = whole(r, either(r, "num_attention_heads", "attention.head_count"), 1, -1, &c->n_head);
    if (err == FTK_OK)
        err = whole(r, either(r, "num_key_value_heads", "attention.head_count_kv"), 1, c->n_head,
                    &c->n_head_kv);
    if (err == FTK_OK && c->n_head > 0)
        err = whole(r, either(r, "head_dim", "attention.key_length"), 2, c->width / c->n_head,
                    &c->head_dim);
    if (err != FTK_OK) return err;
    return real(r, r->layer, either(r, "rms_norm_eps", "attention.layer_norm_rms_epsilon"), 0, 1e-6,
                &c->eps);
}

/* ---- parts of config.json */

static bool says(value *v, const char *text)
{
    return v && v->kind == FTK_JSON_STRING && ftk_str_is(v->text, text);
}

static ftk_err no_scaling(const reader *r, const char *what)
{
    return FTK_FAIL(r->s, UNSUPPORTED, "RoPE scaling %s is not supported", what);
}

static ftk_err read_llama3(const reader *r, value *in)
{
    ftk_rope_config *const p = &r->c->rope;
    p->kind = FTK_ROPE_LLAMA3;
    ftk_err err = real(r, in, "factor", 1e-3, NAN, &p->factor);
    if (err == FTK_OK) err = real(r, in, "low_freq_factor", 1e-3, 1, &p->low);
    if (err == FTK_OK) err = real(r, in, "high_freq_factor", 1e-3, 4, &p->high);
    if (err == FTK_OK) err = real(r, in, "original_max_position_embeddings", 1, 8192, &p->original);
    return err == FTK_OK && p->low == p->high
               ? wrong(r, "high_freq_factor", "other than the low one")
               : err;
}

static ftk_err read_yarn(const reader *r, value *in)
{
    ftk_rope_config *const p = &r->c->rope;
    int context;
    p->kind = FTK_ROPE_YARN;
    ftk_err err = real(r, in, "factor", 1e-3, NAN, &p->factor);
    if (err == FTK_OK) err = real(r, in, "beta_slow", 1e-3, 1, &p->low);
    if (err == FTK_OK) err = real(r, in, "beta_fast", 1e-3, 32, &p->high);
    if (err == FTK_OK) err = real(r, in, "attention_factor", 0, 0, &p->gain);
    if (err == FTK_OK) err = whole(r, "max_position_embeddings", 1, 2048, &context);
    if (err == FTK_OK)
        err = real(r, in, "original_max_position_embeddings", 1, context, &p->original);
    bool truncates = true;
    if (err == FTK_OK) err = flag(r, in, "truncate", &truncates);
    if (err == FTK_OK && (get(r, in, "mscale") || get(r, in, "mscale_all_dim")))
        return no_scaling(r, "yarn with mscale");
    return err == FTK_OK && !truncates ? no_scaling(r, "yarn with truncate false") : err;
}

/* The part that has the key: that of RoPE, the layer's, the whole. */
static value *part_with(const reader *r, value *rope, const char *key)
{
    return get(r, rope, key) ? rope : get(r, r->layer, key) ? r->layer : r->root;
}

/* rope_theta and rope_scaling, or both in rope_parameters; speculators takes of those by kinds of
 * layers that of windows, for all layers. Others that have such, or whose base is scaled (alpha),
 * are refused. */
static ftk_err find_rope(const reader *r, value **in)
{
    static const char windows[] = "sliding_attention";
    value *all = find(r, "rope_parameters");
    *in = all ? all : find(r, "rope_scaling");
    if (get(r, r->root, "speculators_model_type") && get(r, *in, windows))
        *in = get(r, *in, windows);
    if (get(r, *in, "full_attention") || get(r, *in, windows))
        return no_scaling(r, "by kinds of layers");
    return get(r, *in, "alpha") ? no_scaling(r, "with alpha") : FTK_OK;
}

/* Scaling that only stretches beyond the context the layer was trained for (dynamic), and sections
 * for pictures (mrope), turn text as no scaling does. */
static ftk_err read_rope(const reader *r)
{
    static const char partial[] = "partial_rotary_factor";
    ftk_rope_config *const p = &r->c->rope;
    value *in;
    ftk_err err = find_rope(r, &in);
    if (err == FTK_OK)
        err = real(r, part_with(r, in, "rope_theta"), "rope_theta", 1e-3, 1e4, &p->base);
    if (err == FTK_OK) err = real(r, part_with(r, in, partial), partial, 0, 1, &r->c->partial);
    if (err != FTK_OK) return err;
    if (r->c->partial > 1 || r->c->partial * r->c->head_dim < 2)
        return wrong(r, partial, "part of a head");
    value *kind = get(r, in, "rope_type");
    if (!kind) kind = get(r, in, "type");
    if (!kind || says(kind, "default") || says(kind, "dynamic") || says(kind, "mrope"))
        return FTK_OK;
    if (says(kind, "llama3")) return read_llama3(r, in);
    if (says(kind, "yarn")) return read_yarn(r, in);
    if (!says(kind, "linear"))
        return FTK_FAIL(r->s, UNSUPPORTED,
                        "RoPE scaling %s is not supported: llama3, linear, yarn and dynamic are",
                        FTK_SHOW(kind->text));
    p->kind = FTK_ROPE_LINEAR;
    return real(r, in, "factor", 1e-3, NAN, &p->factor);
}

static ftk_err read_ids(const reader *r, value *v, const char *key, int more)
{
    ftk_head_config *const c = r->c;
    if (v->kind != FTK_JSON_ARRAY || v->count < 1 || v->count > FTK_CONFIG_LAYERS)
        return wrong(r, key, "list of 1 to 16 layers");
    for (value *i = ftk_json_first(&r->s->config, v); i; i = ftk_json_next(&r->s->config, i)) {
        if (i->kind != FTK_JSON_NUMBER || !i->whole || i->number + more < 0 || i->number > LARGEST)
            return wrong(r, key, "list of 1 to 16 layers");
        c->id[c->n_ids++] = (int)i->number + more;
    }
    return FTK_OK;
}

/* DFlash's keys: z-lab's, which name layers whose output is wanted (DeepSeek's -1: the
 * embeddings), and speculators'. */
static ftk_err read_block(const reader *r)
{
    static const char own[] = "aux_hidden_state_layer_ids", theirs[] = "target_layer_ids";
    ftk_head_config *const c = r->c;
    value *part = get(r, r->root, "dflash_config");
    reader inside = *r;
    if (part) inside.layer = part; /* or else in the whole */
    const bool speculators = get(r, r->root, "speculators_model_type") != NULL;
    value *ids = get(r, r->root, own), *list = find(&inside, theirs);
    c->from_anchor = c->kind == FTK_HEAD_DSPARK;
    ftk_err err = whole(&inside, "block_size", 2, -1, &c->block);
    if (err == FTK_OK) err = whole(&inside, "mask_token_id", 0, -1, &c->mask_token);
    if (err == FTK_OK) err = whole(r, "num_target_layers", 1, 0, &c->n_target_layer);
    if (err == FTK_OK) err = flag(r, r->root, "sample_from_anchor", &c->from_anchor);
    if (err == FTK_OK && part) err = flag(r, part, "sample_from_anchor", &c->from_anchor);
    if (err == FTK_OK) err = whole(&inside, "markov_rank", 0, 1, &c->markov);
    value *head = find(&inside, "markov_head_type");
    if (err == FTK_OK && head && !says(head, "vanilla"))
        err = FTK_FAIL(r->s, UNSUPPORTED,
                       "a Markov head of another type than vanilla is not supported");
    if (err != FTK_OK) return err;
    if (c->block > FTK_CONFIG_BLOCK) return wrong(r, "block_size", "number from 2 to 32");
    c->spread_ids = !speculators;
    c->writer = speculators ? "speculators" : "DFlash";
    return ids ? read_ids(r, ids, own, 0) : list ? read_ids(r, list, theirs, 1) : FTK_OK;
}

static ftk_err read_taps(const reader *r)
{
    static const char key[] = "eagle_aux_hidden_state_layer_ids";
    value *own = get(r, r->root, key), *eagle = get(r, r->root, "eagle_config");
    value *nested = get(r, eagle, key);
    bool states = true;
    const ftk_err err = flag(r, eagle, "use_aux_hidden_state", &states);
    r->c->no_states = !states;
    if (err != FTK_OK) return err;
    return own ? read_ids(r, own, key, 0) : nested ? read_ids(r, nested, key, 1) : FTK_OK;
}

static value *first_architecture(const reader *r)
{
    value *list = get(r, r->root, "architectures");
    return list ? ftk_json_first(&r->s->config, list) : NULL;
}

/* norm_output means two things. speculators: what is fed to the next row is taken behind the
 * last norm. SpecForge: the last norm stands before the head, as it always does. */
static ftk_err read_norms(const reader *r)
{
    ftk_head_config *const c = r->c;
    bool output = false;
    const bool theirs = says(first_architecture(r), "LlamaForCausalLMEagle3");
    ftk_err err = flag(r, r->root, "norm_before_residual", &c->norm_residual);
    if (err == FTK_OK) err = flag(r, r->root, "norm_output", &output);
    if (err == FTK_OK) err = said(r, r->root, "norm_before_fc", &c->input_norm);
    if (err == FTK_OK) err = said(r, r->root, "fc_norm", &c->fc_norms);
    if (err != FTK_OK) return err;
    const bool speculators = get(r, r->root, "speculators_model_type") != NULL;
    c->writer = speculators ? "speculators" : theirs ? "SpecForge" : "EAGLE";
    if (speculators) c->feeds_normed = output;
    if (theirs && get(r, r->root, "norm_output") && !output)
        return FTK_FAIL(
            r->s, UNSUPPORTED,
            "norm_output false, SpecForge's way to leave the last norm out, is not supported");
    if (!speculators && !theirs && output)
        return FTK_FAIL(r->s, UNSUPPORTED,
                        "norm_output means one thing to speculators and another to SpecForge, and "
                        "the file does not say who wrote it: give \"speculators_model_type\" or "
                        "\"architectures\" in its config.json");
    return FTK_OK;
}

static ftk_err read_vocabularies(const reader *r)
{
    ftk_err err = whole(r, "vocab_size", 1, 0, &r->c->n_vocab);
    if (err == FTK_OK) err = whole(r, "draft_vocab_size", 1, 0, &r->c->n_draft_vocab);
    return err == FTK_OK ? said(r, r->layer, "attention_bias", &r->c->bias) : err;
}

/* Layers that see a window say so one by one, or those from max_window_layers on do, if
 * use_sliding_window is true. Of DFlash one is enough to be refused for. */
static ftk_err read_window(const reader *r)
{
    value *types = get(r, r->layer, "layer_types");
    bool sees = false;
    ftk_err err = flag(r, r->layer, "use_sliding_window", &sees);
    sees &= get(r, r->layer, "sliding_window") != NULL;
    int first;
    if (err == FTK_OK) err = whole(r, "max_window_layers", 0, 28, &first);
    if (err != FTK_OK) return err;
    sees &= first < r->c->n_layer;
    if (types && types->kind == FTK_JSON_ARRAY) {
        value *type = ftk_json_first(&r->s->config, types);
        sees = false;
        for (int i = 0; type && i < r->c->n_layer; type = ftk_json_next(&r->s->config, type), i++)
            if (says(type, "sliding_attention"))
                sees = true;
            else if (!says(type, "full_attention"))
                return FTK_FAIL(
                    r->s, UNSUPPORTED,
                    "its layer_types name one that is no full_attention and no sliding_attention");
    }
    return sees ? whole(r, "sliding_window", 1, -1, &r->c->window) : FTK_OK;
}

/* Whether this is a part of the name of the first of its architectures: DSparkDraftModel,
 * Qwen3DSparkModel. */
static bool is_of(const reader *r, const char *part)
{
    value *first = first_architecture(r);
    const size_t n = strlen(part);
    if (!first || first->kind != FTK_JSON_STRING) return false;
    for (size_t i = 0; i + n <= first->text.n; i++)
        if (memcmp(first->text.p + i, part, n) == 0) return true;
    return false;
}

/* False: it is none that is known. */
static bool find_kind(const reader *r, value *said)
{
    ftk_head_kind *const kind = &r->c->kind;
    const bool markov = find(r, "markov_rank") || is_of(r, "DSpark") ||
                        get(r, get(r, r->root, "dflash_config"), "markov_rank");
    if (says(said, "eagle3"))
        *kind = FTK_HEAD_EAGLE3;
    else if (says(said, "dflash") || says(said, "dspark"))
        *kind = says(said, "dspark") ? FTK_HEAD_DSPARK : FTK_HEAD_DFLASH;
    else if (said)
        return false;
    else if (get(r, r->root, "medusa_num_heads") || says(get(r, r->root, "model_type"), "medusa"))
        *kind = FTK_HEAD_MEDUSA;
    else if (get(r, r->root, "dflash_config") || is_of(r, "DFlash") || markov)
        *kind = markov ? FTK_HEAD_DSPARK : FTK_HEAD_DFLASH;
    else
        return get(r, r->root, "draft_vocab_size") != NULL;
    return true;
}

static ftk_err read_json(reader *r)
{
    r->root = &r->s->config.values[0];
    value *layer = get(r, r->root, "transformer_layer_config");
    r->layer = layer ? layer : r->root;
    value *kind = get(r, r->root, "speculators_model_type");
    if (!find_kind(r, kind) && kind)
        return FTK_FAIL(r->s, UNSUPPORTED,
                        "is a head of the kind \"%s\": of speculators' this build knows eagle3, "
                        "dflash and dspark",
                        FTK_SHOW(kind->text));
    if (!find_kind(r, kind))
        return FTK_FAIL(
            r->s, INVALID,
            "is no head that this build knows: its config.json has none of draft_vocab_size "
            "(EAGLE-3), dflash_config, markov_rank (DSpark) and medusa_num_heads");
    if (r->c->kind == FTK_HEAD_MEDUSA) /* its tensors say the rest */
        return flag(r, r->root, "original_lm_head", &r->c->one_output);
    value *act = get(r, r->layer, "hidden_act");
    if (act && !says(act, "silu")) return FTK_FAIL(r->s, UNSUPPORTED, "its hidden_act is not silu");
    ftk_err err = read_sizes(r);
    if (err == FTK_OK) err = read_vocabularies(r);
    if (err == FTK_OK) err = read_norms(r);
    if (err == FTK_OK) err = read_rope(r);
    if (err == FTK_OK) err = r->c->kind == FTK_HEAD_EAGLE3 ? read_taps(r) : read_block(r);
    return err == FTK_OK ? read_window(r) : err;
}

/* ---- GGUF */

static ftk_err gguf_ids(const reader *r)
{
    ftk_head_config *const c = r->c;
    ftk_gguf_value v;
    const bool there = key_of(r, "target_layers", &v);
    if (!there && c->kind == FTK_HEAD_EAGLE3) return FTK_OK;
    if (!there || v.type != FTK_GGUF_ARRAY || (v.elem != FTK_GGUF_I32 && v.elem != FTK_GGUF_U32) ||
        v.count < 1 || v.count > FTK_CONFIG_LAYERS)
        return wrong(r, "target_layers", "list of 1 to 16 layers");
    for (; (uint64_t)c->n_ids < v.count; c->n_ids++) {
        int32_t id;
        memcpy(&id, v.data + (size_t)c->n_ids * sizeof id, sizeof id);
        if (id < 0 || id > LARGEST) return wrong(r, "target_layers", "list of 1 to 16 layers");
        c->id[c->n_ids] = id;
    }
    return FTK_OK;
}

static ftk_err gguf_rope(const reader *r)
{
    ftk_rope_config *const p = &r->c->rope;
    ftk_gguf_value type;
    int turned;
    ftk_err err = real(r, NULL, "rope.freq_base", 1e-3, 1e4, &p->base);
    if (err == FTK_OK) err = whole(r, "rope.dimension_count", 2, r->c->head_dim, &turned);
    if (err != FTK_OK) return err;
    r->c->partial = (double)turned / r->c->head_dim;
    const bool typed = key_of(r, "rope.scaling.type", &type) && type.type == FTK_GGUF_STRING;
    if (typed && ftk_str_is(type.s, "none")) return FTK_OK;
    if (typed && !ftk_str_is(type.s, "linear"))
        return FTK_FAIL(r->s, UNSUPPORTED,
                        "its RoPE scaling is not supported: linear and the llama-3 tensor "
                        "rope_freqs.weight are");
    err = real(r, NULL, "rope.scaling.factor", 0, 0, &p->factor);
    if (p->factor > 0) p->kind = FTK_ROPE_LINEAR;
    return err;
}

/* Which of the two heads of architecture dflash it is, its tensors say. */
static ftk_err gguf_block(const reader *r)
{
    ftk_head_config *const c = r->c;
    ftk_gguf_value v;
    ftk_tensor_info t;
    int64_t mask = -1;
    c->markov = ftk_gguf_find_tensor(r->s->gguf, "markov_w1.weight", &t);
    c->kind = c->markov ? FTK_HEAD_DSPARK : FTK_HEAD_DFLASH;
    c->from_anchor = c->markov;
    if (!ftk_gguf_find(r->s->gguf, "tokenizer.ggml.mask_token_id", &v) ||
        !ftk_gguf_whole(&v, &mask) || mask < 0 || mask > LARGEST_WHOLE)
        return wrong(r, "tokenizer.ggml.mask_token_id", "token");
    c->mask_token = (int)mask;
    const ftk_err err = flag(r, NULL, "sample_from_anchor", &c->from_anchor);
    return err == FTK_OK ? whole(r, "block_size", 2, -1, &c->block) : err;
}

static ftk_err gguf_flags(const reader *r)
{
    r->c->writer = "llama.cpp";
    if (r->c->kind == FTK_HEAD_EAGLE3) {
        const ftk_err err = flag(r, NULL, "norm_before_residual", &r->c->norm_residual);
        return err == FTK_OK ? said(r, NULL, "norm_before_fc", &r->c->input_norm) : err;
    }
    const ftk_err err = gguf_block(r);
    if (err == FTK_OK && r->c->block > FTK_CONFIG_BLOCK)
        return wrong(r, "block_size", "number from 2 to 32");
    return err;
}

static ftk_err read_gguf(const reader *r)
{
    ftk_head_config *const c = r->c;
    if (ftk_str_is(ftk_gguf_text(r->s->gguf, "general.architecture"), "dflash"))
        c->kind = FTK_HEAD_DFLASH;
    ftk_err err = read_sizes(r);
    if (err == FTK_OK) err = gguf_rope(r);
    if (err == FTK_OK) err = gguf_flags(r);
    return err == FTK_OK ? gguf_ids(r) : err;
}

/* ---- */

static ftk_err check_sizes(const reader *r)
{
    const ftk_head_config *const c = r->c;
    if (c->width > LARGEST || c->n_ff > LARGEST || c->n_head > 1024 || c->head_dim > 256 ||
        c->head_dim % 2 || c->head_dim < 2 || c->n_head_kv < 1 || c->n_head % c->n_head_kv ||
        c->target_width > LARGEST)
        return FTK_FAIL(r->s, UNSUPPORTED,
                        "width %d, %d heads (%d for keys) of %d: heads are to be even, at most 256 "
                        "wide, and a whole number for each of those for keys",
                        c->width, c->n_head, c->n_head_kv, c->head_dim);
    if (c->n_layer > MOST_LAYERS)
        return FTK_FAIL(r->s, UNSUPPORTED, "has %d layers: 12 at most are supported", c->n_layer);
    if (c->kind != FTK_HEAD_EAGLE3 && c->window > 0)
        return FTK_FAIL(r->s, UNSUPPORTED,
                        "layers of DFlash with a sliding window are not supported");
    if (c->kind == FTK_HEAD_EAGLE3 && c->n_layer != 1)
        return FTK_FAIL(r->s, UNSUPPORTED, "has %d layers: EAGLE-3 heads have one", c->n_layer);
    return FTK_OK;
}

ftk_err ftk_head_config_read(ftk_head_config *c, const ftk_source *s)
{
    *c = (ftk_head_config){.partial = 1};
    reader r = {.c = c, .s = s};
    ftk_err err = s->gguf ? read_gguf(&r) : read_json(&r);
    if (err == FTK_OK) err = ftk_head_keys_check(s, c->kind);
    return err == FTK_OK && c->kind != FTK_HEAD_MEDUSA ? check_sizes(&r) : err;
}
