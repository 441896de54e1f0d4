/* SPDX-License-Identifier: Apache-2.0
 * A small GGUF writer for tests. */
#include "testkit/ggufwriter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t elem_bytes(ftk_gguf_type type)
{
    switch (type) {
    case FTK_GGUF_U8:
    case FTK_GGUF_I8:
    case FTK_GGUF_BOOL: return 1;
    case FTK_GGUF_U16:
    case FTK_GGUF_I16: return 2;
    case FTK_GGUF_U32:
    case FTK_GGUF_I32:
    case FTK_GGUF_F32: return 4;
    default: return 8;
    }
}

void gw_init(gw *w)
{
    *w = (gw){.version = 3, .alignment = 32};
}

void gw_free(gw *w)
{
    free(w->keys.p);
    free(w->tensors.p);
    free(w->data.p);
    *w = (gw){0};
}

void gw_put(gw_bytes *b, const void *p, size_t n)
{
    if (n > b->cap - b->n) {
        b->cap = (b->n + n) * 2;
        b->p = realloc(b->p, b->cap);
        if (!b->p) abort();
    }
    if (n > 0 && p) memcpy(b->p + b->n, p, n);
    if (n > 0 && !p) memset(b->p + b->n, 0, n);
    b->n += n;
}

void gw_put_u32(gw_bytes *b, uint32_t v)
{
    gw_put(b, &v, sizeof v);
}

void gw_put_u64(gw_bytes *b, uint64_t v)
{
    gw_put(b, &v, sizeof v);
}

static void put_str(gw_bytes *b, const char *p, size_t n)
{
    gw_put_u64(b, n);
    gw_put(b, p, n);
}

static bool skipped(const gw *w, const char *name, size_t n)
{
    return w->skip && strlen(w->skip) == n && memcmp(w->skip, name, n) == 0;
}

bool gw_key(gw *w, const char *name, size_t name_bytes, uint32_t type)
{
    if (skipped(w, name, name_bytes)) return false;
    put_str(&w->keys, name, name_bytes);
    gw_put_u32(&w->keys, type);
    w->n_keys++;
    return true;
}

void gw_scalar(gw *w, const char *key, ftk_gguf_type type, const void *value)
{
    if (gw_key(w, key, strlen(key), type)) gw_put(&w->keys, value, elem_bytes(type));
}

void gw_u32(gw *w, const char *key, uint32_t v)
{
    gw_scalar(w, key, FTK_GGUF_U32, &v);
}

void gw_f32(gw *w, const char *key, float v)
{
    gw_scalar(w, key, FTK_GGUF_F32, &v);
}

void gw_bool(gw *w, const char *key, bool v)
{
    gw_scalar(w, key, FTK_GGUF_BOOL, &(unsigned char){v});
}

void gw_str(gw *w, const char *key, const char *v)
{
    if (gw_key(w, key, strlen(key), FTK_GGUF_STRING)) put_str(&w->keys, v, strlen(v));
}

void gw_array(gw *w, const char *key, ftk_gguf_type elem, uint64_t count, const void *data)
{
    if (!gw_key(w, key, strlen(key), FTK_GGUF_ARRAY)) return;
    gw_put_u32(&w->keys, elem);
    gw_put_u64(&w->keys, count);
    gw_put(&w->keys, data, (size_t)count * elem_bytes(elem));
}

void gw_str_array(gw *w, const char *key, uint64_t count, const ftk_str *v)
{
    if (!gw_key(w, key, strlen(key), FTK_GGUF_ARRAY)) return;
    gw_put_u32(&w->keys, FTK_GGUF_STRING);
    gw_put_u64(&w->keys, count);
    for (uint64_t i = 0; i < count; i++) put_str(&w->keys, v[i].p, v[i].n);
}

void gw_copy(gw *w, ftk_str key, const ftk_gguf_value *v)
{
    if (!gw_key(w, key.p, key.n, v->type)) return;
    if (v->type == FTK_GGUF_STRING) {
        put_str(&w->keys, v->s.p, v->s.n);
    } else if (v->type != FTK_GGUF_ARRAY) {
        gw_put(&w->keys, v->data, elem_bytes(v->type));
    } else {
        const unsigned char *end = v->data;
        if (v->elem == FTK_GGUF_STRING)
            for (uint64_t i = 0; i < v->count; i++) ftk_gguf_next_str(&end);
        else
            end += v->count * elem_bytes(v->elem);
        gw_put_u32(&w->keys, v->elem);
        gw_put_u64(&w->keys, v->count);
        gw_put(&w->keys, v->data, (size_t)(end - v->data));
    }
}

void gw_record(gw *w, const char *name, size_t name_bytes, uint32_t n_dims, const uint64_t *dims,
               uint32_t type, uint64_t offset)
{
    if (skipped(w, name, name_bytes)) return;
    put_str(&w->tensors, name, name_bytes);
    gw_put_u32(&w->tensors, n_dims);
    gw_put(&w->tensors, dims, n_dims * sizeof *dims);
    gw_put_u32(&w->tensors, type);
    gw_put_u64(&w->tensors, offset);
    w->n_tensors++;
}

static void pad(gw_bytes *b, size_t alignment)
{
    if (alignment > 0) gw_put(b, NULL, (alignment - b->n % alignment) % alignment);
}

void gw_tensor(gw *w, const char *name, uint32_t n_dims, const uint64_t *dims, uint32_t type,
               const void *data, size_t bytes)
{
    if (skipped(w, name, strlen(name))) return;
    pad(&w->data, w->alignment);
    gw_record(w, name, strlen(name), n_dims, dims, type, w->data.n);
    gw_put(&w->data, data, bytes);
}

void gw_tiny_vocab(gw_vocab *v)
{
    static const char *const first[] = {"<unk>", "<s>", "</s>"};
    static const char *const last[] = {
        "\xE2\x96\x81t",
        "he",
        "in",
        "er",
        "an",
        "on",
        "re",
        "ou",
        "at",
        "en",
        "nd",
        "\xE2\x96\x81s",
        "\xE2\x96\x81the",
        "ing",
    };
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    enum { BYTES = 3, SPACE = BYTES + 256, LETTERS = SPACE + 1, LAST = LETTERS + 26 };
    for (int i = 0; i < GW_VOCAB; i++) {
        v->scores[i] = i < SPACE ? 0.0f : (float)(SPACE - i);
        v->types[i] = i == 0 ? 2 : i < BYTES ? 3 : i < SPACE ? 6 : 1;
    }
    for (int i = 0; i < BYTES; i++) v->tokens[i] = (ftk_str){first[i], strlen(first[i])};
    for (int i = 0; i < 256; i++) {
        snprintf(v->bytes[i], sizeof v->bytes[i], "<0x%02X>", (unsigned)i & 0xFF);
        v->tokens[BYTES + i] = (ftk_str){v->bytes[i], 6};
    }
    v->tokens[SPACE] = (ftk_str){"\xE2\x96\x81", 3};
    for (int i = 0; i < 26; i++) v->tokens[LETTERS + i] = (ftk_str){letters + i, 1};
    for (int i = LAST; i < GW_VOCAB; i++)
        v->tokens[i] = (ftk_str){last[i - LAST], strlen(last[i - LAST])};
}

/* ------------------------------------------------------------------ byte pairs */

static void add_token(gw_bpe *v, const char *text, int32_t type)
{
    char *p = v->text[v->n_tokens];
    snprintf(p, sizeof v->text[0], "%s", text);
    v->tokens[v->n_tokens] = (ftk_str){p, strlen(p)};
    v->types[v->n_tokens++] = type;
}

void gw_tiny_bpe(gw_bpe *v)
{
    static const char *const merges[GW_MERGES] = {
        "\xC4\xA0 t",   "h e",
        "\xC4\xA0t he", "i n",
        "in g",         "e r",
        "a n",          "o n",
        "r e",          "o u",
        "a t",          "e n",
        "n d",          "\xC4\xA0 s",
        "l l",          "he ll",
        "hell o",       "\xC4\xA0 w",
        "o r",          "l d",
        "or ld",        "\xC4\xA0w orld",
        "a a",          "aa aa",
    };
    *v = (gw_bpe){.n_merges = GW_MERGES, .pre = "gpt-2"};
    for (int b = 0, next = 256; b < 256; b++) {
        const int c = (b >= 33 && b <= 126) || (b >= 161 && b != 173) ? b : next++;
        const char two[3] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F)), 0};
        const char one[2] = {(char)c, 0};
        add_token(v, c < 0x80 ? one : two, 1);
    }
    for (size_t i = 0; i < GW_MERGES; i++) {
        char joined[32];
        const char *space = strchr(merges[i], ' ');
        v->merges[i] = (ftk_str){merges[i], strlen(merges[i])};
        snprintf(joined, sizeof joined, "%.*s%s", (int)(space - merges[i]), merges[i], space + 1);
        add_token(v, joined, 1);
    }
    add_token(v, "<|endoftext|>", 3);
    add_token(v, "<|im_start|>", 3);
    add_token(v, "<|im_end|>", 3);
    add_token(v, "<tool>", 4);
    while (v->n_tokens < GW_VOCAB) {
        char pad[32];
        snprintf(pad, sizeof pad, "[PAD%zu]", v->n_tokens);
        add_token(v, pad, 5);
    }
}

int32_t gw_bpe_id(const gw_bpe *v, const char *text)
{
    for (size_t i = 0; i < v->n_tokens; i++)
        if (strcmp(v->text[i], text) == 0) return (int32_t)i;
    return -1;
}

void gw_put_bpe(gw *w, const gw_bpe *v)
{
    const uint32_t end = (uint32_t)gw_bpe_id(v, "<|endoftext|>");
    gw_str(w, "tokenizer.ggml.model", "gpt2");
    if (v->pre) gw_str(w, "tokenizer.ggml.pre", v->pre);
    gw_str_array(w, "tokenizer.ggml.tokens", v->n_tokens, v->tokens);
    gw_array(w, "tokenizer.ggml.token_type", FTK_GGUF_I32, v->n_tokens, v->types);
    gw_str_array(w, "tokenizer.ggml.merges", v->n_merges, v->merges);
    gw_u32(w, "tokenizer.ggml.bos_token_id", end);
    gw_u32(w, "tokenizer.ggml.eos_token_id", end);
}

/* ------------------------------------------------------------------ models */

static void put_llama_keys(gw *w)
{
    gw_str(w, "general.architecture", "llama");
    gw_str(w, "general.name", "tiny");
    gw_u32(w, "general.file_type", 0);
    gw_u32(w, "llama.block_count", GW_LAYERS);
    gw_u32(w, "llama.context_length", 256);
    gw_u32(w, "llama.embedding_length", GW_EMBD);
    gw_u32(w, "llama.feed_forward_length", GW_FF);
    gw_u32(w, "llama.attention.head_count", GW_HEADS);
    gw_u32(w, "llama.attention.head_count_kv", GW_HEADS_KV);
    gw_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gw_u32(w, "llama.rope.dimension_count", GW_EMBD / GW_HEADS);
    gw_f32(w, "llama.rope.freq_base", 10000.0f);
}

/* Ones for a vector, noise for a matrix. */
static void put_weights(gw *w, const char *name, uint64_t n_in, uint64_t n_out)
{
    const size_t n = (size_t)(n_in * n_out);
    float *x = malloc(n * sizeof *x);
    if (!x) abort();
    uint32_t seed = 1;
    for (const char *c = name; *c; c++) seed = seed * 31 + (unsigned char)*c;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = n_out == 1 ? 1.0f : ((float)(seed >> 8) / (1 << 24) - 0.5f) * 0.4f;
    }
    gw_tensor(w, name, n_out == 1 ? 1 : 2, (uint64_t[]){n_in, n_out}, FTK_TYPE_F32, x,
              n * sizeof *x);
    free(x);
}

void gw_tiny_tokenizer(gw *w)
{
    gw_vocab v;
    gw_tiny_vocab(&v);
    gw_str(w, "tokenizer.ggml.model", "llama");
    gw_str_array(w, "tokenizer.ggml.tokens", GW_VOCAB, v.tokens);
    gw_array(w, "tokenizer.ggml.scores", FTK_GGUF_F32, GW_VOCAB, v.scores);
    gw_array(w, "tokenizer.ggml.token_type", FTK_GGUF_I32, GW_VOCAB, v.types);
    gw_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    gw_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gw_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gw_bool(w, "tokenizer.ggml.add_bos_token", true);
}

void gw_tiny_llama(gw *w)
{
    gw_tiny_tokenizer(w);
    gw_tiny_body(w);
}

void gw_tiny_body(gw *w)
{
    static const struct {
        const char *name;
        int n_in, n_out;
    } parts[] = {
        {"attn_norm", GW_EMBD, 1},
        {"attn_q", GW_EMBD, GW_EMBD},
        {"attn_k", GW_EMBD, GW_EMBD / GW_HEADS * GW_HEADS_KV},
        {"attn_v", GW_EMBD, GW_EMBD / GW_HEADS * GW_HEADS_KV},
        {"attn_output", GW_EMBD, GW_EMBD},
        {"ffn_norm", GW_EMBD, 1},
        {"ffn_gate", GW_EMBD, GW_FF},
        {"ffn_up", GW_EMBD, GW_FF},
        {"ffn_down", GW_FF, GW_EMBD},
    };
    put_llama_keys(w);
    put_weights(w, "token_embd.weight", GW_EMBD, GW_VOCAB);
    char name[64];
    for (int i = 0; i < GW_LAYERS; i++)
        for (size_t j = 0; j < sizeof parts / sizeof parts[0]; j++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", i, parts[j].name);
            put_weights(w, name, (uint64_t)parts[j].n_in, (uint64_t)parts[j].n_out);
        }
    put_weights(w, "output_norm.weight", GW_EMBD, 1);
}

gw_bytes gw_finish(const gw *w)
{
    gw_bytes out = {0};
    gw_put(&out, "GGUF", 4);
    gw_put_u32(&out, w->version);
    gw_put_u64(&out, w->n_tensors);
    gw_put_u64(&out, w->n_keys);
    gw_put(&out, w->keys.p, w->keys.n);
    gw_put(&out, w->tensors.p, w->tensors.n);
    if (w->data.n > 0) pad(&out, w->alignment);
    gw_put(&out, w->data.p, w->data.n);
    return out;
}

bool gw_save(const char *path, const void *p, size_t n)
{
    remove(path); /* a new file, as some file systems flush one that is cut to 0 and rewritten */
    FILE *f = fopen(path, "wb");
    if (!f) return false;
    const bool written = fwrite(p, 1, n, f) == n;
    return fclose(f) == 0 && written;
}

static void put_part(gw *w, const ftk_gguf *g, int part, int n)
{
    const uint16_t no = (uint16_t)part, count = (uint16_t)n;
    const int32_t tensors = (int32_t)ftk_gguf_n_tensors(g);
    gw_u32(w, "general.alignment", w->alignment);
    gw_scalar(w, "split.no", FTK_GGUF_U16, &no);
    gw_scalar(w, "split.count", FTK_GGUF_U16, &count);
    gw_scalar(w, "split.tensors.count", FTK_GGUF_I32, &tensors);
    for (size_t i = 0; part == 0 && i < ftk_gguf_n_keys(g); i++) {
        ftk_str key;
        ftk_gguf_value v;
        ftk_gguf_key(g, i, &key, &v);
        gw_copy(w, key, &v);
    }
    for (size_t i = (size_t)part; i < ftk_gguf_n_tensors(g); i += (size_t)n) {
        ftk_tensor_info t;
        char name[80];
        ftk_gguf_tensor(g, i, &t);
        snprintf(name, sizeof name, "%.*s", (int)t.name.n, t.name.p);
        gw_tensor(w, name, t.n_dims, t.dims, t.type, t.data, (size_t)t.size);
    }
}

bool gw_end(gw *w, const char *path)
{
    gw_bytes file = gw_finish(w);
    const bool ok = gw_save(path, file.p, file.n);
    free(file.p);
    gw_free(w);
    return ok;
}

bool gw_save_parts(const char *whole, const char *stem, int n)
{
    ftk_gguf *g;
    if (ftk_gguf_open(&g, whole, NULL) != FTK_OK) return false;
    bool ok = true;
    for (int part = 0; part < n; part++) {
        char path[512];
        gw w;
        gw_init(&w);
        w.alignment = 32u << part;
        put_part(&w, g, part, n);
        snprintf(path, sizeof path, "%s-%05d-of-%05d.gguf", stem, part + 1, n);
        ok &= gw_end(&w, path);
    }
    ftk_gguf_free(g);
    return ok;
}
