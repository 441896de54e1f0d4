/* SPDX-License-Identifier: Apache-2.0
 * Small heads of EAGLE-3. */
#include "eaglefiles.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/folder.h"

const ef_head ef_heads[] = {
    {.name = "plain"},
    {.name = "whole",
     .whole = true,
     .bias = true,
     .rope = "\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
             "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 16"},
    {.name = "qwen3", .qwen3 = true, .norm_residual = true, .fc_norm = true},
    {.name = "before",
     .before_fc = true,
     .norm_residual = true,
     .rope = "\"rope_type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 32"},
    {.name = "fed", .fed = true, .fc_norm = true},
};
const int ef_n_heads = sizeof ef_heads / sizeof *ef_heads;

const ef_head *ef_find(const char *name)
{
    for (int i = 0; i < ef_n_heads; i++)
        if (strcmp(ef_heads[i].name, name) == 0) return &ef_heads[i];
    return NULL;
}

int32_t ef_target_id(int row)
{
    return 2 * row + row % 2;
}

/* ---- safetensors */

void st_tensor(st *s, const char *name, const char *dtype, int n_dims, const uint64_t *dims,
               const void *data, size_t bytes)
{
    char text[256];
    snprintf(text, sizeof text, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", s->header.n ? "," : "{",
             name, dtype);
    gw_put(&s->header, text, strlen(text));
    for (int i = 0; i < n_dims; i++) {
        snprintf(text, sizeof text, "%s%llu", i ? "," : "", (unsigned long long)dims[i]);
        gw_put(&s->header, text, strlen(text));
    }
    snprintf(text, sizeof text, "],\"data_offsets\":[%zu,%zu]}", s->data.n, s->data.n + bytes);
    gw_put(&s->header, text, strlen(text));
    gw_put(&s->data, data, bytes);
}

gw_bytes st_finish(st *s)
{
    gw_bytes out = {0};
    if (!s->header.n) gw_put(&s->header, "{", 1);
    gw_put(&s->header, "}", 1);
    gw_put_u64(&out, s->header.n);
    gw_put(&out, s->header.p, s->header.n);
    if (s->data.n) gw_put(&out, s->data.p, s->data.n);
    free(s->header.p);
    free(s->data.p);
    *s = (st){0};
    return out;
}

/* ---- the recipe of archmodels.h, by names in safetensors */

float *ef_weights(const char *name, size_t n, int row)
{
    const bool norm = strstr(name, "norm.") && ftk_ends_with(name, "weight");
    const bool wide = strcmp(name, "embed_tokens.weight") == 0 || strcmp(name, "states") == 0 ||
                      strcmp(name, "feature") == 0;
    float *x = malloc(n * sizeof *x);
    if (!x) abort();
    uint32_t s = 1;
    for (const char *c = name; *c; c++) s = s * 31 + (unsigned char)*c;
    for (size_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        const double u = (double)(s >> 8) / (1 << 24) - 0.5;
        x[i] = (float)(norm                           ? 1 + u / 2
                       : ftk_ends_with(name, ".bias") ? u / 2
                       : wide                         ? 2 * u
                                                      : 4 * u / sqrt(row));
    }
    return x;
}

/* ---- writing one */

typedef struct writer {
    const ef_how *how;
    bool pairs; /* rows of q and k are reordered in GGUF */
    st safe;
    gw gguf;
} writer;

/* Rows of q and k as llama.cpp's converter orders them: pairs that turn together side by side. */
static void permute(float *x, int heads, int n_in)
{
    const size_t row = (size_t)n_in;
    float *was = malloc((size_t)heads * EF_DIM * row * sizeof *was);
    if (!was) abort();
    memcpy(was, x, (size_t)heads * EF_DIM * row * sizeof *was);
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < EF_DIM / 2; i++)
            for (int k = 0; k < 2; k++)
                memcpy(x + (size_t)(h * EF_DIM + 2 * i + k) * row,
                       was + (size_t)(h * EF_DIM + i + k * EF_DIM / 2) * row, row * sizeof *x);
    free(was);
}

static const char *gguf_name(const char *name)
{
    static char buf[64];
    static const char *const names[][2] = {
        {"input_norm.weight", "enc.output_norm.weight"},
        {"hidden_norm.weight", "enc.output_norm.weight"},
        {"norm.weight", "output_norm.weight"},
        {"lm_head.weight", "output.weight"},
        {"embed_tokens.weight", "token_embd.weight"},
        {"markov_head.markov_w1.weight", "markov_w1.weight"},
        {"markov_head.markov_w2.weight", "markov_w2.weight"},
        {"confidence_head.proj.weight", "conf_proj.weight"},
    };
    static const char *const parts[][2] = {
        {"input_layernorm", "attn_norm"},
        {"hidden_norm", "attn_norm_2"},
        {"post_attention_layernorm", "ffn_norm"},
        {"self_attn.q_proj", "attn_q"},
        {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"},
        {"self_attn.o_proj", "attn_output"},
        {"self_attn.q_norm", "attn_q_norm"},
        {"self_attn.k_norm", "attn_k_norm"},
        {"mlp.gate_proj", "ffn_gate"},
        {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], name) == 0) return names[i][1];
    for (size_t i = 0; i < sizeof parts / sizeof *parts && strncmp(name, "layers.", 7) == 0; i++) {
        char safe[96];
        snprintf(safe, sizeof safe, "layers.%c.%s.weight", name[7], parts[i][0]);
        if (strcmp(safe, name) != 0) continue;
        snprintf(buf, sizeof buf, "blk.%c.%s.weight", name[7], parts[i][1]);
        return buf;
    }
    return name;
}

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* rows 0: a vector. */
static void put(writer *w, const char *name, int row, int rows)
{
    if (w->how->without && strcmp(w->how->without, name) == 0) return;
    const size_t n = (size_t)row * (size_t)(rows ? rows : 1);
    float *x = ef_weights(name, n, row);
    char as[128];
    snprintf(as, sizeof as, "%s", name);
    if (w->how->layout == EF_GGUF) {
        if (w->pairs && strstr(name, "q_proj.weight")) permute(x, EF_HEADS, row);
        if (w->pairs && strstr(name, "k_proj.weight")) permute(x, EF_HEADS_KV, row);
        gw_tensor(&w->gguf, gguf_name(name), rows ? 2 : 1,
                  (uint64_t[]){(uint64_t)row, (uint64_t)rows}, FTK_TYPE_F32, x, n * sizeof *x);
        free(x);
        return;
    }
    if (w->how->layout != EF_SPECULATORS && strncmp(name, "layers.0.", 9) == 0)
        snprintf(as, sizeof as, "midlayer.%s", name + 9);
    const uint64_t dims[] = {(uint64_t)(rows ? rows : row), (uint64_t)row};
    if (rows && w->how->type == FTK_TYPE_BF16) {
        uint16_t *const half = (uint16_t *)x;
        for (size_t i = 0; i < n; i++) half[i] = to_bf16(x[i]);
        st_tensor(&w->safe, as, "BF16", 2, dims, half, n * sizeof *half);
    } else {
        st_tensor(&w->safe, as, "F32", rows ? 2 : 1, dims, x, n * sizeof *x);
    }
    free(x);
}

static void put_vocab(writer *w)
{
    int64_t d2t[EF_DRAFT];
    unsigned char t2d[EF_VOCAB] = {0};
    const bool gguf = w->how->layout == EF_GGUF;
    for (int i = 0; i < EF_DRAFT; i++) {
        d2t[i] = ef_target_id(i) - (gguf ? 0 : i);
        t2d[ef_target_id(i)] = 1;
    }
    d2t[EF_DRAFT - 1] += w->how->d2t_more;
    const uint64_t n = EF_DRAFT - (uint64_t)w->how->d2t_less;
    if (gguf) {
        gw_tensor(&w->gguf, "d2t", 1, &n, 27, d2t, n * sizeof *d2t);
        return;
    }
    st_tensor(&w->safe, "d2t", "I64", 1, &n, d2t, n * sizeof *d2t);
    st_tensor(&w->safe, "t2d", "BOOL", 1, (uint64_t[]){EF_VOCAB}, t2d, sizeof t2d);
}

static void put_all(writer *w, const ef_head *h)
{
    const int d = EF_WIDTH, q = EF_HEADS * EF_DIM, kv = EF_HEADS_KV * EF_DIM;
    put(w, "fc.weight", 3 * d, d);
    if (h->before_fc) put(w, "input_norm.weight", 3 * d, 0);
    for (int i = 0; i < 3 && h->fc_norm; i++) {
        char name[32];
        snprintf(name, sizeof name, "fc_norm.%d.weight", i);
        put(w, name, d, 0);
    }
    put(w, "layers.0.input_layernorm.weight", d, 0);
    put(w, "layers.0.hidden_norm.weight", d, 0);
    put(w, "layers.0.post_attention_layernorm.weight", d, 0);
    put(w, "layers.0.self_attn.q_proj.weight", 2 * d, q);
    put(w, "layers.0.self_attn.k_proj.weight", 2 * d, kv);
    put(w, "layers.0.self_attn.v_proj.weight", 2 * d, kv);
    put(w, "layers.0.self_attn.o_proj.weight", q, d);
    if (h->bias) {
        put(w, "layers.0.self_attn.q_proj.bias", q, 0);
        put(w, "layers.0.self_attn.k_proj.bias", kv, 0);
        put(w, "layers.0.self_attn.v_proj.bias", kv, 0);
        put(w, "layers.0.self_attn.o_proj.bias", d, 0);
    }
    if (h->qwen3) {
        put(w, "layers.0.self_attn.q_norm.weight", EF_DIM, 0);
        put(w, "layers.0.self_attn.k_norm.weight", EF_DIM, 0);
    }
    put(w, "layers.0.mlp.gate_proj.weight", d, EF_FF);
    put(w, "layers.0.mlp.up_proj.weight", d, EF_FF);
    put(w, "layers.0.mlp.down_proj.weight", EF_FF, d);
    put(w, "norm.weight", d, 0);
    if (!w->how->borrows) put(w, "lm_head.weight", d, h->whole ? EF_VOCAB : EF_DRAFT);
    if (!w->how->borrows) put(w, "embed_tokens.weight", d, EF_VOCAB);
    if (!h->whole) put_vocab(w);
}

static const char *truth(bool b)
{
    return b ? "true" : "false";
}

/* The three ways to write it down. */
static void write_config(char *out, size_t cap, const ef_head *h, const ef_how *how)
{
    char sizes[512], rope[512], flags[512];
    const char *const more = how->more ? how->more : "";
    snprintf(sizes, sizeof sizes,
             "\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": 1, "
             "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d, "
             "\"vocab_size\": %d, \"rms_norm_eps\": 1e-05, \"hidden_act\": \"silu\", "
             "\"max_position_embeddings\": 128",
             EF_WIDTH, EF_FF, EF_HEADS, EF_HEADS_KV, EF_DIM, EF_VOCAB);
    if (how->layout == EF_SPECULATORS)
        snprintf(rope, sizeof rope, "\"rope_parameters\": {\"rope_theta\": 10000.0, %s}",
                 h->rope ? h->rope : "\"rope_type\": \"default\"");
    else
        snprintf(rope, sizeof rope, "\"rope_theta\": 10000, \"rope_scaling\": %s%s%s",
                 h->rope ? "{" : "null", h->rope ? h->rope : "", h->rope ? "}" : "");
    snprintf(flags, sizeof flags,
             "\"draft_vocab_size\": %d, \"norm_before_residual\": %s, \"norm_before_fc\": %s, "
             "\"fc_norm\": %s",
             h->whole ? EF_VOCAB : EF_DRAFT, truth(h->norm_residual), truth(h->before_fc),
             truth(h->fc_norm));
    if (how->layout == EF_SPECULATORS)
        snprintf(out, cap,
                 "{%s\"speculators_model_type\": \"eagle3\", \"architectures\": "
                 "[\"Eagle3Speculator\"], \"eagle_aux_hidden_state_layer_ids\": null, "
                 "\"norm_output\": %s, %s, \"transformer_layer_config\": {%s, %s}}",
                 more, truth(h->fed), flags, sizes, rope);
    else if (how->layout == EF_SPECFORGE)
        snprintf(
            out, cap,
            "{%s\"architectures\": [\"LlamaForCausalLMEagle3\"], \"eagle_config\": "
            "{\"eagle_aux_hidden_state_layer_ids\": [1, 0, 2]}, \"norm_output\": true, %s, %s, "
            "%s}",
            more, flags, sizes, rope);
    else
        snprintf(out, cap, "{%s\"architectures\": [\"LlamaForCausalLM\"], %s, %s, %s}", more, flags,
                 sizes, rope);
}

/* What a GGUF has behind its keys: one that is wrong, and the target's tokenizer. */
static void put_rest(gw *w, const char *arch, const ef_how *how)
{
    char key[64];
    gw_vocab v;
    snprintf(key, sizeof key, "%s.%s", arch, how->key ? how->key : "");
    if (how->key) gw_f32(w, key, how->number);
    if (!how->word && !how->words_less) {
        gw_tiny_tokenizer(w);
        return;
    }
    gw_tiny_vocab(&v);
    if (how->word) v.tokens[GW_VOCAB - 1] = (ftk_str){how->word, strlen(how->word)};
    const uint64_t n = GW_VOCAB - (uint64_t)how->words_less;
    gw_str(w, "tokenizer.ggml.model", "llama");
    gw_str_array(w, "tokenizer.ggml.tokens", n, v.tokens);
    gw_array(w, "tokenizer.ggml.scores", FTK_GGUF_F32, n, v.scores);
    gw_array(w, "tokenizer.ggml.token_type", FTK_GGUF_I32, n, v.types);
    gw_u32(w, "tokenizer.ggml.unknown_token_id", 0);
}

static void put_keys(gw *w, const ef_head *h, const ef_how *how)
{
    static const int32_t layers[] = {2, 1, 0};
    gw_str(w, "general.architecture", "eagle3");
    gw_u32(w, "eagle3.block_count", 1);
    gw_u32(w, "eagle3.embedding_length", EF_WIDTH);
    gw_u32(w, "eagle3.target_hidden_size", EF_WIDTH);
    gw_u32(w, "eagle3.feed_forward_length", EF_FF);
    gw_u32(w, "eagle3.attention.head_count", EF_HEADS);
    gw_u32(w, "eagle3.attention.head_count_kv", EF_HEADS_KV);
    gw_f32(w, "eagle3.attention.layer_norm_rms_epsilon", 1e-5f);
    gw_f32(w, "eagle3.rope.freq_base", 1e4f);
    gw_array(w, "eagle3.target_layers", FTK_GGUF_I32, 3, layers);
    gw_bool(w, "eagle3.norm_before_residual", h->norm_residual);
    gw_bool(w, "eagle3.norm_before_fc", h->before_fc);
    put_rest(w, "eagle3", how);
}

/* Tensors and configuration into a folder. */
static bool end(writer *w, const char *path, const char *config)
{
    char file[512];
    const char *const text = w->how->config ? w->how->config : config;
    gw_bytes all = st_finish(&w->safe);
    mkdir(path, 0777);
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    bool good = gw_save(file, all.p, all.n);
    snprintf(file, sizeof file, "%s/config.json", path);
    good = good && gw_save(file, text, strlen(text));
    free(all.p);
    return good;
}

bool ef_write(const char *path, const ef_head *h, const ef_how *how)
{
    writer w = {.how = how, .pairs = true};
    if (how->layout == EF_GGUF) {
        gw_init(&w.gguf);
        put_keys(&w.gguf, h, how);
        put_all(&w, h);
        return gw_end(&w.gguf, path);
    }
    char config[4096];
    put_all(&w, h);
    write_config(config, sizeof config, h, how);
    return end(&w, path, config);
}

/* ---- heads that say all places at once */

static void put_layer(writer *w, int layer)
{
    const int d = EF_WIDTH, q = EF_HEADS * EF_DIM, kv = EF_HEADS_KV * EF_DIM;
    const struct {
        const char *name;
        int row, rows;
    } parts[] = {{"input_layernorm", d, 0},       {"post_attention_layernorm", d, 0},
                 {"self_attn.q_norm", EF_DIM, 0}, {"self_attn.k_norm", EF_DIM, 0},
                 {"self_attn.q_proj", d, q},      {"self_attn.k_proj", d, kv},
                 {"self_attn.v_proj", d, kv},     {"self_attn.o_proj", q, d},
                 {"mlp.gate_proj", d, EF_FF},     {"mlp.up_proj", d, EF_FF},
                 {"mlp.down_proj", EF_FF, d}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[96];
        snprintf(name, sizeof name, "layers.%d.%s.weight", layer, parts[i].name);
        put(w, name, parts[i].row, parts[i].rows);
    }
}

static void put_block_keys(gw *w, const ef_how *how)
{
    static const int32_t layers[] = {2, 1, 0};
    gw_str(w, "general.architecture", "dflash");
    gw_u32(w, "dflash.block_count", 2);
    gw_u32(w, "dflash.embedding_length", EF_WIDTH);
    gw_u32(w, "dflash.feed_forward_length", EF_FF);
    gw_u32(w, "dflash.attention.head_count", EF_HEADS);
    gw_u32(w, "dflash.attention.head_count_kv", EF_HEADS_KV);
    gw_f32(w, "dflash.attention.layer_norm_rms_epsilon", 1e-5f);
    gw_f32(w, "dflash.rope.freq_base", 1e4f);
    gw_u32(w, "dflash.block_size", EF_BLOCK);
    gw_array(w, "dflash.target_layers", FTK_GGUF_I32, 3, layers);
    gw_u32(w, "tokenizer.ggml.mask_token_id", EF_MASK);
    put_rest(w, "dflash", how);
}

bool ef_write_block(const char *path, bool markov, const ef_how *how)
{
    ef_how as = *how;
    const bool gguf = how->layout == EF_GGUF;
    if (!gguf)
        as.layout = EF_SPECULATORS; /* layers have these names in all of safetensors' layouts */
    writer w = {.how = &as};
    if (gguf) gw_init(&w.gguf);
    if (gguf) put_block_keys(&w.gguf, how);
    char config[2048], sizes[512];
    const int d = EF_WIDTH;
    put(&w, "fc.weight", (how->narrow ? 2 : 3) * d, d);
    put(&w, "hidden_norm.weight", d, 0);
    for (int i = 0; i < 2; i++) put_layer(&w, i);
    put(&w, "norm.weight", d, 0);
    if (!how->borrows) put(&w, "lm_head.weight", d, EF_DRAFT);
    if (!how->borrows) put(&w, "embed_tokens.weight", d, EF_VOCAB);
    if (markov) put(&w, "markov_head.markov_w1.weight", EF_RANK, EF_VOCAB);
    if (markov) put(&w, "markov_head.markov_w2.weight", EF_RANK, EF_DRAFT);
    if (markov) put(&w, "confidence_head.proj.weight", d + EF_RANK, 1);
    put_vocab(&w);
    if (gguf) return gw_end(&w.gguf, path);
    snprintf(sizes, sizeof sizes,
             "\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": 2, "
             "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d, "
             "\"vocab_size\": %d, \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0",
             EF_WIDTH, EF_FF, EF_HEADS, EF_HEADS_KV, EF_DIM, EF_VOCAB);
    if (how->layout == EF_SPECULATORS)
        snprintf(config, sizeof config,
                 "{%s\"speculators_model_type\": \"%s\", \"draft_vocab_size\": %d, \"block_size\": "
                 "%d, \"mask_token_id\": %d, \"aux_hidden_state_layer_ids\": [2, 1, 0], "
                 "\"transformer_layer_config\": {%s}}",
                 how->more ? how->more : "", markov ? "dspark" : "dflash", EF_DRAFT, EF_BLOCK,
                 EF_MASK, sizes);
    else if (how->deepseek)
        snprintf(config, sizeof config,
                 "{%s\"architectures\": [\"Qwen3DSparkModel\"], \"block_size\": %d, "
                 "\"mask_token_id\": %d, \"target_layer_ids\": [-1, 0, 2], \"markov_rank\": %d, "
                 "\"markov_head_type\": \"vanilla\", \"num_anchors\": 512, "
                 "\"enable_confidence_head\": true, \"confidence_head_with_markov\": true, %s}",
                 how->more ? how->more : "", EF_BLOCK, EF_MASK, EF_RANK, sizes);
    else
        snprintf(config, sizeof config,
                 "{%s\"architectures\": [\"%s\"], \"block_size\": %d, \"dflash_config\": "
                 "{\"mask_token_id\": %d, \"target_layer_ids\": [0, 1, 2]%s}, %s}",
                 how->more ? how->more : "", markov ? "DSparkDraftModel" : "DFlashDraftModel",
                 EF_BLOCK, EF_MASK, markov ? ", \"markov_rank\": 8" : "", sizes);
    return end(&w, path, config);
}

/* By the recipe of one name, under another. */
static void put_as(writer *w, const char *recipe, const char *name, int row, int rows)
{
    const size_t n = (size_t)row * (size_t)(rows ? rows : 1);
    float *x = ef_weights(recipe, n, row);
    const uint64_t dims[] = {(uint64_t)(rows ? rows : row), (uint64_t)row};
    if (!w->how->without || strcmp(w->how->without, recipe) != 0)
        st_tensor(&w->safe, name, "F32", rows ? 2 : 1, dims, x, n * sizeof *x);
    free(x);
}

bool ef_write_medusa(const char *path, const ef_how *how)
{
    static const char *const formats[2][3] = {
        {"%d.%d.linear.weight", "%d.%d.linear.bias", "%d.2.weight"},
        {"medusa_heads.blocks.%d.layers.%d.weight", "medusa_heads.blocks.%d.layers.%d.bias",
         "medusa_heads.lm_heads.%d.weight"}};
    const char *const *const as = formats[how->layout != EF_EAGLE];
    writer w = {.how = how};
    char recipe[64], name[64];
    for (int h = 0; h < EF_MEDUSA; h++) {
        for (int i = 0; i < 2; i++)
            for (int k = 0; k < 2; k++) {
                snprintf(recipe, sizeof recipe, formats[0][k], h, i);
                snprintf(name, sizeof name, as[k], h, i);
                put_as(&w, recipe, name, EF_WIDTH, k ? 0 : EF_WIDTH);
            }
        snprintf(recipe, sizeof recipe, formats[0][2], h);
        snprintf(name, sizeof name, as[2], h);
        put_as(&w, recipe, name, EF_WIDTH, EF_VOCAB);
    }
    char config[512];
    snprintf(config, sizeof config, "{%s\"medusa_num_heads\": 2, \"medusa_num_layers\": 1}",
             how->more ? how->more : "");
    return end(&w, path, config);
}
