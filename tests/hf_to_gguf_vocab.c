/* SPDX-License-Identifier: Apache-2.0
 * Other formats of vocabularies to GGUF. It ends the program when memory runs out. */
#include "hf_to_gguf_vocab.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testkit/ggufwriter.h"

enum { NORMAL = 1, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5 };

typedef struct vocab {
    ftk_str *tokens; /* [n] owned; p is NULL where the file has none */
    int32_t *types;
    size_t n;
    ftk_str *merges;
    size_t n_merges;
} vocab;

static void *take(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    if (!p) abort();
    return p;
}

static ftk_str copy(const char *p, size_t n)
{
    char *s = take(n, 1);
    memcpy(s, p, n);
    return (ftk_str){s, n};
}

static void release(vocab *v)
{
    for (size_t i = 0; i < v->n; i++) free((char *)v->tokens[i].p);
    for (size_t i = 0; i < v->n_merges; i++) free((char *)v->merges[i].p);
    free(v->tokens);
    free(v->types);
    free(v->merges);
}

static bool write_vocab(vocab *v, const char *to, const char *pre)
{
    for (size_t i = 0; i < v->n; i++) {
        char pad[32];
        if (v->tokens[i].p) continue;
        v->tokens[i] = copy(pad, (size_t)snprintf(pad, sizeof pad, "[PAD%zu]", i));
        v->types[i] = UNUSED;
    }
    gw w;
    gw_init(&w);
    gw_str(&w, "tokenizer.ggml.model", "gpt2");
    gw_str(&w, "tokenizer.ggml.pre", pre);
    gw_str_array(&w, "tokenizer.ggml.tokens", v->n, v->tokens);
    gw_array(&w, "tokenizer.ggml.token_type", FTK_GGUF_I32, v->n, v->types);
    gw_str_array(&w, "tokenizer.ggml.merges", v->n_merges, v->merges);
    gw_bytes file = gw_finish(&w);
    const bool saved = gw_save(to, file.p, file.n);
    if (!saved) printf("%s cannot be written\n", to);
    free(file.p);
    gw_free(&w);
    return saved;
}

/* ------------------------------------------------------------------ tokenizer.json */

static json_t *read_json(const char *from)
{
    const size_t n = strlen(from);
    const bool packed = n > 3 && strcmp(from + n - 3, ".xz") == 0;
    char command[4096];
    snprintf(command, sizeof command, "xz -dc '%s'", from);
    FILE *f = packed ? popen(command, "r") : fopen(from, "rb");
    json_error_t why = {0};
    json_t *root = f ? json_loadf(f, JSON_ALLOW_NUL, &why) : NULL;
    if (!root) printf("%s: %s\n", from, f ? why.text : "cannot be opened");
    if (f && packed) pclose(f);
    if (f && !packed) fclose(f);
    return root;
}

static void set_token(vocab *v, size_t id, const char *text, size_t n, int type)
{
    if (id >= v->n) {
        const size_t cap = 2 * id + 16;
        vocab bigger = {take(cap, sizeof *v->tokens), take(cap, sizeof *v->types), 0, NULL, 0};
        if (v->n > 0) memcpy(bigger.tokens, v->tokens, v->n * sizeof *v->tokens);
        if (v->n > 0) memcpy(bigger.types, v->types, v->n * sizeof *v->types);
        free(v->tokens);
        free(v->types);
        v->tokens = bigger.tokens;
        v->types = bigger.types;
        v->n = cap;
    }
    free((char *)v->tokens[id].p);
    v->tokens[id] = copy(text, n);
    v->types[id] = type;
}

static ftk_str merge_of(const json_t *m)
{
    if (json_is_string(m)) return copy(json_string_value(m), json_string_length(m));
    const json_t *left = json_array_get(m, 0), *right = json_array_get(m, 1);
    const size_t n = json_string_length(left);
    char *p = take(n + 1 + json_string_length(right), 1);
    memcpy(p, json_string_value(left), n);
    p[n] = ' ';
    memcpy(p + n + 1, json_string_value(right), json_string_length(right));
    return (ftk_str){p, n + 1 + json_string_length(right)};
}

bool hf_json_to_gguf(const char *from, const char *to, const char *pre)
{
    json_t *root = read_json(from);
    if (!root) return false;
    const json_t *model = json_object_get(root, "model");
    const json_t *merges = json_object_get(model, "merges"), *item;
    json_t *id;
    const char *text;
    vocab v = {0};
    size_t n = 0, i;
    json_object_foreach(json_object_get(model, "vocab"), text, id)
    {
        const size_t at = (size_t)json_integer_value(id);
        set_token(&v, at, text, strlen(text), NORMAL);
        if (at >= n) n = at + 1;
    }
    json_array_foreach(json_object_get(root, "added_tokens"), i, item)
    {
        const json_t *content = json_object_get(item, "content");
        const size_t at = (size_t)json_integer_value(json_object_get(item, "id"));
        const bool special = json_is_true(json_object_get(item, "special"));
        set_token(&v, at, json_string_value(content), json_string_length(content),
                  special ? CONTROL : USER_DEFINED);
        if (at >= n) n = at + 1;
    }
    v.n = n;
    v.merges = take(json_array_size(merges), sizeof *v.merges);
    json_array_foreach(merges, i, item) v.merges[v.n_merges++] = merge_of(item);
    const bool written = n > 0 && write_vocab(&v, to, pre);
    release(&v);
    json_decref(root);
    return written;
}

/* ------------------------------------------------------------------ tiktoken */

/* GPT-2's characters for bytes, in UTF-8. */
static ftk_str to_chars(const unsigned char *p, size_t n)
{
    int code[256], next = 256;
    for (int b = 0; b < 256; b++)
        code[b] = (b >= 33 && b <= 126) || (b >= 161 && b != 173) ? b : next++;
    char *out = take(2 * n, 1);
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        const int c = code[p[i]];
        if (c >= 0x80) out[size++] = (char)(0xC0 | c >> 6);
        out[size++] = (char)(c < 0x80 ? c : 0x80 | (c & 0x3F));
    }
    return (ftk_str){out, size};
}

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static size_t from_base64(const char *p, unsigned char *out)
{
    unsigned bits = 0;
    int n_bits = 0;
    size_t n = 0;
    for (int value; (value = base64_value(*p)) >= 0; p++) {
        bits = bits << 6 | (unsigned)value;
        if ((n_bits += 6) < 8) continue;
        out[n++] = (unsigned char)(bits >> (n_bits -= 8));
    }
    return n;
}

typedef struct ranked {
    unsigned char *p;
    size_t n;
    int rank;
} ranked;

static int compare_ranked(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    const int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

static int rank_of(const ranked *sorted, size_t n_sorted, unsigned char *p, size_t n)
{
    const ranked wanted = {p, n, -1};
    const ranked *found = bsearch(&wanted, sorted, n_sorted, sizeof *sorted, compare_ranked);
    return found ? found->rank : -1;
}

/* The place where a token falls into the two it is merged from: what is left when all merges of
 * lower rank were made. 0: it is none of two. */
static size_t find_cut(const ranked *sorted, size_t n_sorted, const ranked *token)
{
    size_t ends[1024], n = token->n;
    if (n > 1024) return 0;
    for (size_t i = 0; i < n; i++) ends[i] = i + 1;
    while (n > 2) {
        int best = token->rank;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const size_t start = i > 0 ? ends[i - 1] : 0;
            const int rank = rank_of(sorted, n_sorted, token->p + start, ends[i + 1] - start);
            if (rank < 0 || rank >= best) continue;
            best = rank;
            at = i + 1;
        }
        if (at == 0) return 0;
        memmove(ends + at - 1, ends + at, (n - at) * sizeof *ends);
        n--;
    }
    return n == 2 ? ends[0] : 0;
}

static ftk_str merge_at(const ranked *token, size_t cut)
{
    const ftk_str left = to_chars(token->p, cut), right = to_chars(token->p + cut, token->n - cut);
    char *p = take(left.n + right.n + 1, 1);
    memcpy(p, left.p, left.n);
    p[left.n] = ' ';
    memcpy(p + left.n + 1, right.p, right.n);
    free((char *)left.p);
    free((char *)right.p);
    return (ftk_str){p, left.n + right.n + 1};
}

bool hf_ranks_to_gguf(const char *from, const char *to, const char *pre,
                      const char *const *specials)
{
    FILE *f = fopen(from, "rb");
    if (!f) {
        printf("%s cannot be opened\n", from);
        return false;
    }
    enum { MOST = 1 << 20 };
    ranked *table = take(MOST, sizeof *table);
    vocab v = {0};
    char line[4096], text[4096];
    size_t n = 0;
    for (int rank; n < MOST && fgets(line, sizeof line, f);) {
        if (sscanf(line, "%4095s %d", text, &rank) != 2 || rank != (int)n) continue;
        table[n] = (ranked){take(strlen(text), 1), 0, rank};
        table[n].n = from_base64(text, table[n].p);
        n++;
    }
    fclose(f);
    size_t n_specials = 0;
    while (specials && specials[n_specials]) n_specials++;
    v.n = n + n_specials;
    v.tokens = take(v.n, sizeof *v.tokens);
    v.types = take(v.n, sizeof *v.types);
    v.merges = take(n, sizeof *v.merges);
    for (size_t i = 0; i < v.n; i++) {
        v.tokens[i] = i < n ? to_chars(table[i].p, table[i].n)
                            : copy(specials[i - n], strlen(specials[i - n]));
        v.types[i] = i < n ? NORMAL : CONTROL;
    }
    ranked *sorted = take(n, sizeof *sorted);
    memcpy(sorted, table, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_ranked);
    for (size_t i = 0; i < n; i++) {
        const size_t cut = table[i].n > 1 ? find_cut(sorted, n, &table[i]) : 0;
        if (cut > 0) v.merges[v.n_merges++] = merge_at(&table[i], cut);
    }
    const bool written = n > 0 && write_vocab(&v, to, pre);
    for (size_t i = 0; i < n; i++) free(table[i].p);
    free(table);
    free(sorted);
    release(&v);
    return written;
}

/* ------------------------------------------------------------------ SentencePiece */

/* One field of a protobuf message: a number, or the bytes at p. */
typedef struct field {
    unsigned tag;
    uint64_t number;
    const unsigned char *p;
} field;

static uint64_t read_varint(const unsigned char **p, const unsigned char *end)
{
    uint64_t u = 0;
    for (int shift = 0; *p < end && shift < 64; shift += 7) {
        const unsigned char c = *(*p)++;
        u |= (uint64_t)(c & 0x7F) << shift;
        if (c < 0x80) return u;
    }
    return u;
}

/* The next field, of 32 bits, of bytes (number: how many) or a varint; false at the end. */
static bool next_field(const unsigned char **p, const unsigned char *end, field *f)
{
    if (*p >= end) return false;
    const uint64_t key = read_varint(p, end);
    f->tag = (unsigned)(key >> 3);
    f->p = NULL;
    if ((key & 7) == 5) {
        f->number = 4;
        f->p = *p;
        *p += 4;
    } else {
        f->number = read_varint(p, end);
        if ((key & 7) == 2) {
            f->p = *p;
            *p += f->number;
        }
    }
    return *p <= end;
}

/* The pieces of a model, and whether it squeezes spaces. */
typedef struct spm_model {
    ftk_str *tokens;
    float *scores;
    int32_t *types;
    size_t n;
    bool squeezes;
} spm_model;

static ftk_str plain_spaces(const unsigned char *p, size_t n)
{
    char *s = take(n, 1);
    size_t size = 0;
    for (size_t i = 0; i < n; size++) {
        const bool mark = n - i >= 3 && memcmp(p + i, "\xE2\x96\x81", 3) == 0;
        s[size] = mark ? ' ' : (char)p[i];
        i += mark ? 3 : 1;
    }
    return (ftk_str){s, size};
}

static void add_piece(spm_model *m, const unsigned char *p, const unsigned char *end)
{
    ftk_str text = {"", 0};
    m->types[m->n] = NORMAL;
    for (field f; next_field(&p, end, &f);) {
        if (f.tag == 1) text = (ftk_str){(const char *)f.p, (size_t)f.number};
        if (f.tag == 2) memcpy(&m->scores[m->n], f.p, 4);
        if (f.tag == 3) m->types[m->n] = (int32_t)f.number;
    }
    m->tokens[m->n] = m->types[m->n] == USER_DEFINED
                          ? plain_spaces((const unsigned char *)text.p, text.n)
                          : copy(text.p, text.n);
    m->n++;
}

static void read_model(spm_model *m, const unsigned char *p, const unsigned char *end)
{
    m->squeezes = true; /* where the file does not say */
    for (field f; next_field(&p, end, &f);) {
        const unsigned char *inside = f.p;
        if (f.tag == 1) add_piece(m, f.p, f.p + f.number);
        if (f.tag != 3) continue;
        for (field g; next_field(&inside, f.p + f.number, &g);)
            if (g.tag == 4) m->squeezes = g.number != 0;
    }
}

bool hf_spm_to_gguf(const char *from, const char *to)
{
    enum { MOST = 1 << 19, MOST_BYTES = 1 << 24 };
    FILE *f = fopen(from, "rb");
    if (!f) {
        printf("%s cannot be opened\n", from);
        return false;
    }
    unsigned char *bytes = take(MOST_BYTES, 1);
    const size_t size = fread(bytes, 1, MOST_BYTES, f);
    fclose(f);
    spm_model m = {take(MOST, sizeof *m.tokens), take(MOST, sizeof *m.scores),
                   take(MOST, sizeof *m.types), 0, true};
    read_model(&m, bytes, bytes + size);
    gw w;
    gw_init(&w);
    gw_str(&w, "tokenizer.ggml.model", "llama");
    gw_str_array(&w, "tokenizer.ggml.tokens", m.n, m.tokens);
    gw_array(&w, "tokenizer.ggml.scores", FTK_GGUF_F32, m.n, m.scores);
    gw_array(&w, "tokenizer.ggml.token_type", FTK_GGUF_I32, m.n, m.types);
    gw_bool(&w, "tokenizer.ggml.remove_extra_whitespaces", m.squeezes);
    const bool written = m.n > 0 && gw_end(&w, to);
    for (size_t i = 0; i < m.n; i++) free((char *)m.tokens[i].p);
    free(m.tokens);
    free(m.scores);
    free(m.types);
    free(bytes);
    return written;
}
