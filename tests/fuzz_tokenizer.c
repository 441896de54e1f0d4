/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target of the tokenizers: text to ids and back, and vocabularies with changed bytes.
 * The first byte of the input chooses: bit 0 the kind of vocabulary, bit 1 whether it is changed,
 * bits 2 and 3 the flags, and the bits above the pre-tokenizer of a byte-pair one. Changes come
 * four bytes each: place, two bytes; value; a zero that ends them. The rest is text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ggufwriter.h"
#include "model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_RULES = 16 };

static int lines;

static void count_line(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    for (const char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) abort();
    lines += level == FTK_LOG_ERROR;
}

static const ftk_host host = {.log = count_line};

static gw_bytes make_file(int kind, int rule)
{
    static const char *const rules[N_RULES] = {
        "gpt-2",  "llama-bpe",    "qwen2",          "smollm",      "default", "tekken",
        "gpt-4o", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon",  "exaone-moe",
        "bloom",  "viking",       "chameleon",      "youtu"};
    static gw_bpe v;
    gw w;
    gw_init(&w);
    if (kind == 0) {
        gw_tiny_llama(&w);
        w.tensors.n = w.data.n = w.n_tensors = 0;
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
    char path[64];
    const int fd = memfd_create("vocab", MFD_CLOEXEC);
    if (fd < 0 || write(fd, file->p, file->n) != (ssize_t)file->n) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ftk_gguf *g = NULL;
    ftk_tokenizer *t = NULL;
    lines = 0;
    ftk_err err = ftk_gguf_open(&g, path, &host);
    if (err == FTK_OK) err = ftk_tokenizer_open(&t, g, path, &host);
    if ((err == FTK_OK) != (t != NULL) || lines != (err != FTK_OK)) abort();
    ftk_gguf_free(g);
    close(fd);
    return t;
}

/* SentencePiece reads U+2581 as a space; that is the one thing it does not keep. */
static bool holds_mark(const uint8_t *text, size_t n)
{
    for (size_t i = 0; i + 3 <= n; i++)
        if (memcmp(text + i, "\xE2\x96\x81", 3) == 0) return true;
    return false;
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
    const unsigned shown = flags & FTK_TOK_SPECIAL;
    const ftk_err all = ftk_tokenizer_decode(t, ids, n_ids, shown, NULL, 0, &n_all);
    if (all != (n_all > 0 ? FTK_ERR_SPACE : FTK_OK)) abort();
    char *out = malloc(n_all + 1);
    if (!out || ftk_tokenizer_decode(t, ids, n_ids, shown, out, n_all, &n_out) != FTK_OK) abort();
    if (exact && (n_out != n || (n > 0 && memcmp(out, text, n) != 0))) abort();
    free(out);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ftk_tokenizer *good[2][N_RULES]; /* kept: opening is far slower than a short text */
    if (size == 0) return 0;
    const int kind = data[0] & 1, rule = data[0] >> 4;
    const unsigned flags = (data[0] >> 2 & 1 ? FTK_TOK_SPECIAL : 0);
    const bool changed = data[0] & 2;
    data++;
    size--;
    if (!changed) {
        if (!good[kind][rule]) {
            gw_bytes file = make_file(kind, rule);
            good[kind][rule] = open_bytes(&file);
            if (!good[kind][rule]) abort();
            free(file.p);
        }
        round_trip(good[kind][rule], data, size, flags, kind == 1 || !holds_mark(data, size));
        return 0;
    }
    gw_bytes file = make_file(kind, rule);
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
