/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target of the tokenizers: text to ids and back, and vocabularies with changed bytes.
 * The first byte of the input chooses: bit 0 the kind of vocabulary, bit 1 whether it is changed,
 * bits 2 and 3 the flags, and the bits above the pre-tokenizer of a byte-pair one. Changes come
 * four bytes each: place, two bytes; value; a zero that ends them. The rest is text. */
#include "fuzzing.h"

#include <stdlib.h>
#include <string.h>

#include "model/pretokenizer.h"
#include "model/vocabulary.h"

enum { N_RULES = 16 };

static const char *const rules[N_RULES] = {
    "gpt-2",  "llama-bpe",    "qwen2",          "smollm",      "default", "tekken",
    "gpt-4o", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon",  "exaone-moe",
    "bloom",  "viking",       "chameleon",      "youtu"};

static gw_bytes make_file(int kind, int rule)
{
    static gw_bpe v;
    gw w;
    gw_init(&w);
    if (kind == 0) {
        gw_tiny_tokenizer(&w);
    } else {
        gw_tiny_bpe(&v);
        v.pre = rules[rule];
        gw_put_bpe(&w, &v);
    }
    const gw_bytes file = gw_finish(&w);
    gw_free(&w);
    return file;
}

static ftk_tokenizer *open_bytes(const gw_bytes *file)
{
    int n_errors;
    const ftk_host *host = fuzz_host(&n_errors);
    const char *path = fuzz_file(file->p, file->n);
    ftk_gguf *g = NULL;
    ftk_tokenizer *t = NULL;
    ftk_err err = ftk_gguf_open(&g, path, host);
    if (err == FTK_OK) err = ftk_tokenizer_open(&t, g, path, host);
    if ((err == FTK_OK) != (t != NULL) || n_errors != (err != FTK_OK)) abort();
    ftk_gguf_free(g);
    return t;
}

/* Made once: both take longer than most texts. */
static const gw_bytes *file_of(int kind, int rule)
{
    static gw_bytes files[2][N_RULES];
    gw_bytes *file = &files[kind][kind * rule];
    if (!file->p) *file = make_file(kind, rule);
    return file;
}

static const ftk_tokenizer *good_one(int kind, int rule)
{
    static ftk_tokenizer *good[2][N_RULES];
    ftk_tokenizer **t = &good[kind][kind * rule];
    if (!*t && !(*t = open_bytes(file_of(kind, rule)))) abort();
    return *t;
}

/* SentencePiece reads U+2581 as a space; that is the one thing it does not keep. */
static bool holds_mark(const uint8_t *text, size_t n)
{
    for (size_t i = 0; i + 3 <= n; i++)
        if (memcmp(text + i, "\xE2\x96\x81", 3) == 0) return true;
    return false;
}

/* The texts that have to come back as they were. */
static bool is_kept(int kind, int rule, const uint8_t *text, size_t n)
{
    if (kind == 0) return !holds_mark(text, n);
    return !ftk_pre_find((ftk_str){rules[rule], strlen(rules[rule])})->composes;
}

/* Text of a user never turns into a control token by its letters. */
static void check_ids(const ftk_tokenizer *t, const int32_t *ids, size_t n, unsigned flags)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->n_vocab) abort();
        const bool first = i == 0 && (flags & FTK_TOK_BOS) && t->add_bos;
        if (!(flags & FTK_TOK_SPECIAL) && !first && ids[i] != t->unknown &&
            t->pieces[ids[i]].type == FTK_TOKEN_CONTROL)
            abort();
    }
}

static void round_trip(const ftk_tokenizer *t, const uint8_t *text, size_t n, unsigned flags,
                       bool exact)
{
    size_t n_ids = 0, again = 0, n_out = 0, n_all = 0;
    const ftk_err sized = ftk_tokenizer_encode(t, (const char *)text, n, flags, NULL, 0, &n_ids);
    if (sized != (n_ids > 0 ? FTK_ERR_SPACE : FTK_OK)) abort();
    int32_t *ids = malloc(n_ids * sizeof *ids + 1);
    if (!ids || ftk_tokenizer_encode(t, (const char *)text, n, flags, ids, n_ids, &again) != FTK_OK)
        abort();
    if (again != n_ids) abort();
    check_ids(t, ids, n_ids, flags);
    const unsigned shown = flags & FTK_TOK_SPECIAL;
    const ftk_err all = ftk_tokenizer_decode(t, ids, n_ids, shown, NULL, 0, &n_all);
    if (all != (n_all > 0 ? FTK_ERR_SPACE : FTK_OK)) abort();
    char *out = malloc(n_all + 1);
    if (!out || ftk_tokenizer_decode(t, ids, n_ids, shown, out, n_all, &n_out) != FTK_OK) abort();
    if (exact && (n_out != n || (n > 0 && memcmp(out, text, n) != 0))) abort();
    free(out);
    free(ids);
}

enum { CHANGED = 2, SPECIAL = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const int kind = data[0] & 1, rule = data[0] >> 4;
    const unsigned flags = data[0] & SPECIAL ? FTK_TOK_SPECIAL : 0;
    const bool changed = data[0] & CHANGED;
    data++;
    size--;
    if (!changed) {
        round_trip(good_one(kind, rule), data, size, flags, is_kept(kind, rule, data, size));
        return 0;
    }
    gw_bytes file = {0};
    gw_put(&file, file_of(kind, rule)->p, file_of(kind, rule)->n);
    for (; size >= 4; data += 4, size -= 4) {
        if (data[3] == 0) break;
        file.p[(data[0] | (size_t)data[1] << 8) % file.n] = data[2];
    }
    ftk_tokenizer *t = open_bytes(&file);
    if (t) round_trip(t, data, size, flags | FTK_TOK_BOS, false);
    ftk_tokenizer_free(t);
    free(file.p);
    return 0;
}

/* A text for every rule with both kinds of flags, and once with bytes of the vocabulary changed. */
bool fuzz_seed(size_t i, gw_bytes *out)
{
    static const char text[] = "Hello the  World's 1234 <|im_start|>x<tool>\n\t\xE2\x96\x81\xFF "
                               "\xE4\xB8\xAD\xF0\x9F\x98\x80 don't";
    static const char changes[] = "\x40\x01\x31\x01\x80\x02\x05\x01\0\0\0\0";
    const size_t rule = i / 3, which = i % 3;
    if (rule >= N_RULES) return false;
    const unsigned kind = rule > 0, way = which == 2 ? CHANGED : which == 1 ? SPECIAL : 0;
    const unsigned char head = (unsigned char)(rule << 4 | way | kind);
    gw_put(out, &head, 1);
    if (which == 2) gw_put(out, changes, sizeof changes - 1);
    gw_put(out, text, sizeof text - 1);
    return true;
}
