/* SPDX-License-Identifier: Apache-2.0
 * For tests: small vocabularies written as GGUF files. */
#ifndef FTK_TESTS_VOCAB_H
#define FTK_TESTS_VOCAB_H

#include "counting.h"
#include "model/model.h"

#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------ chats */

/* In the template of that name; NULL: the tokenizer's own. */
static inline ftk_err vocab_chat(const ftk_tokenizer *t, const char *tmpl, const ftk_message *msgs,
                                 size_t n_msgs, int32_t *tokens, size_t cap, size_t *n_out)
{
    ftk_chat_config cfg;
    ftk_chat_config_init(&cfg);
    cfg.tmpl = tmpl;
    return ftk_tokenizer_chat(t, &cfg, msgs, n_msgs, tokens, cap, n_out);
}

/* ------------------------------------------------------------------ a GGUF file in memory */

enum { VOCAB_NORMAL = 1, VOCAB_UNKNOWN, VOCAB_CONTROL, VOCAB_USER, VOCAB_UNUSED, VOCAB_BYTE };

struct vocab_token {
    char text[80];
    size_t n; /* 0: strlen(text), or see `empty` */
    float score;
    uint32_t type;
};

enum { VOCAB_MAX = 1024 };

/* A vocabulary and what may be wrong with it. */
struct vocab_file {
    struct vocab_token tokens[VOCAB_MAX];
    size_t n;
    const char *kind;          /* tokenizer.ggml.model; NULL: no such key */
    const char *chat_template; /* NULL: no such key */
    const char *arch;          /* general.architecture; NULL: no such key */
    size_t fewer_scores, fewer_types, more_scores;
    bool no_types;
    uint32_t score_type, types_type; /* GGUF element types; 6 (F32) and 5 (I32) are right */
    const char *extra_id;            /* one more key, with the value of extra */
    int32_t extra;
    const char *extra_bool;
    bool extra_true;
    int empty;    /* this token's text is empty; -1: none */
    int long_one; /* this token's text is 5000 bytes; -1: none */
};

static inline void vocab_add(struct vocab_file *v, const char *text, uint32_t type)
{
    struct vocab_token *t = &v->tokens[v->n];
    snprintf(t->text, sizeof t->text, "%s", text);
    t->score = type == VOCAB_NORMAL ? -(float)v->n : 0;
    t->type = type;
    v->n++;
}

static inline int32_t vocab_id(const struct vocab_file *v, const char *text)
{
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->tokens[i].text, text) == 0) return (int32_t)i;
    return -1;
}

/* <unk> <s> </s>, the bytes 3..258, the words, and then "▁" and the printable ASCII characters
 * that are not words. A word that starts with '!' is control, with '+' user-defined; neither sign
 * is part of it. */
static inline void vocab_init(struct vocab_file *v, const char *const *words)
{
    memset(v, 0, sizeof *v);
    v->kind = "llama";
    v->score_type = 6;
    v->types_type = 5;
    v->empty = v->long_one = -1;
    vocab_add(v, "<unk>", VOCAB_UNKNOWN);
    vocab_add(v, "<s>", VOCAB_CONTROL);
    vocab_add(v, "</s>", VOCAB_CONTROL);
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        vocab_add(v, name, VOCAB_BYTE);
    }
    for (; *words; words++) {
        const char sign = (*words)[0];
        vocab_add(v, *words + (sign == '!' || sign == '+'),
                  sign == '!'   ? VOCAB_CONTROL
                  : sign == '+' ? VOCAB_USER
                                : VOCAB_NORMAL);
    }
    vocab_add(v, "\xE2\x96\x81", VOCAB_NORMAL);
    for (char c = '!'; c <= '~'; c++)
        if (vocab_id(v, (char[]){c, '\0'}) < 0) vocab_add(v, (char[]){c, '\0'}, VOCAB_NORMAL);
}

static inline void vocab_put(FILE *f, uint64_t u, int bytes)
{
    for (int i = 0; i < bytes; i++) fputc((int)(u >> 8 * i & 0xFF), f);
}

static inline void vocab_put_str(FILE *f, const char *s, size_t n)
{
    vocab_put(f, n, 8);
    fwrite(s, 1, n, f);
}

static inline void vocab_put_key(FILE *f, const char *key, uint32_t type)
{
    vocab_put_str(f, key, strlen(key));
    vocab_put(f, type, 4);
}

static inline void vocab_put_array(FILE *f, const char *key, uint32_t elem, size_t n)
{
    vocab_put_key(f, key, 9);
    vocab_put(f, elem, 4);
    vocab_put(f, n, 8);
}

static inline void vocab_put_token(FILE *f, const struct vocab_file *v, size_t i)
{
    static const char filler[5000];
    const struct vocab_token *t = &v->tokens[i];
    const size_t n = (int)i == v->empty ? 0 : t->n ? t->n : strlen(t->text);
    if ((int)i == v->long_one)
        vocab_put_str(f, filler, sizeof filler);
    else
        vocab_put_str(f, t->text, n);
}

/* Writes the file into a fresh temporary one and leaves its name in path. */
static inline void vocab_write(const struct vocab_file *v, char path[256])
{
    const char *dir = getenv("TMPDIR");
    snprintf(path, 256, "%s/ftk-vocab-XXXXXX", dir && *dir ? dir : P_tmpdir);
    const int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (!f) abort();
    fwrite("GGUF", 1, 4, f);
    vocab_put(f, 3, 4);
    vocab_put(f, 0, 8);
    vocab_put(f,
              3u - v->no_types + !!v->arch + !!v->kind + !!v->chat_template + !!v->extra_id +
                  !!v->extra_bool,
              8);
    if (v->arch) {
        vocab_put_key(f, "general.architecture", 8);
        vocab_put_str(f, v->arch, strlen(v->arch));
    }
    if (v->kind) {
        vocab_put_key(f, "tokenizer.ggml.model", 8);
        vocab_put_str(f, v->kind, strlen(v->kind));
    }
    vocab_put_array(f, "tokenizer.ggml.tokens", 8, v->n);
    for (size_t i = 0; i < v->n; i++) vocab_put_token(f, v, i);
    const size_t n_scores = v->n + v->more_scores - v->fewer_scores;
    vocab_put_array(f, "tokenizer.ggml.scores", v->score_type, n_scores);
    for (size_t i = 0; i < n_scores; i++) {
        uint32_t bits = 0;
        if (i < v->n) memcpy(&bits, &v->tokens[i].score, 4);
        vocab_put(f, bits, 4);
    }
    if (!v->no_types) {
        vocab_put_array(f, "tokenizer.ggml.token_type", v->types_type, v->n - v->fewer_types);
        for (size_t i = 0; i < v->n - v->fewer_types; i++) vocab_put(f, v->tokens[i].type, 4);
    }
    if (v->chat_template) {
        vocab_put_key(f, "tokenizer.chat_template", 8);
        vocab_put_str(f, v->chat_template, strlen(v->chat_template));
    }
    if (v->extra_id) {
        vocab_put_key(f, v->extra_id, 5);
        vocab_put(f, (uint32_t)v->extra, 4);
    }
    if (v->extra_bool) {
        vocab_put_key(f, v->extra_bool, 7);
        vocab_put(f, v->extra_true, 1);
    }
    if (fclose(f) != 0) abort();
}

static inline ftk_err vocab_open_file(ftk_tokenizer **out, const char *path, const ftk_host *host)
{
    ftk_gguf *g = NULL;
    *out = NULL;
    ftk_err err = ftk_gguf_open(&g, path, NULL);
    if (err == FTK_OK) err = ftk_tokenizer_open(out, g, path, host);
    ftk_gguf_free(g);
    return err;
}

static inline ftk_err vocab_open(ftk_tokenizer **out, const struct vocab_file *v,
                                 const ftk_host *host)
{
    char path[256];
    vocab_write(v, path);
    const ftk_err err = vocab_open_file(out, path, host);
    remove(path);
    return err;
}

#endif
