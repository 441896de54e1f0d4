/* SPDX-License-Identifier: Apache-2.0
 * The tokenizer: opening and closing, encoding and decoding, for all kinds of vocabulary. */
#include "model/tokenizer.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "model/vocabulary.h"

#include <string.h>

enum {
    MAX_TEXT = 1 << 28
}; /* bytes of one text: libsentencepiece counts in int, and takes 40
                                times as much memory */

/* ------------------------------------------------------------------ opening */

ftk_err ftk_tokenizer_open(ftk_tokenizer **out, const ftk_gguf *g, const char *path,
                           const ftk_host *host)
{
    *out = NULL;
    ftk_tokenizer *t = ftk_alloc(host, 1, sizeof *t);
    if (!t) return ftk_fail(host, FTK_ERR_NOMEM, "%s: no memory for a tokenizer", path);
    if (host) t->host = *host;
    for (int b = 0; b < 256; b++) t->byte_ids[b] = -1;
    t->bos = t->eos = t->eot = t->unknown = t->padding = -1;
    ftk_vocab v = {.g = g, .path = path, .t = t};
    ftk_err err = ftk_vocab_read(&v);
    if (err == FTK_OK) {
        t->add_bos = t->kind->adds_bos;
        t->add_prefix = t->kind->adds_prefix;
        err = ftk_vocab_bool(&v, "tokenizer.ggml.add_space_prefix", &t->add_prefix);
    }
    if (err == FTK_OK) err = t->kind->open(&v);
    ftk_release(&t->host, v.keys.v);
    if (err == FTK_OK) err = ftk_vocab_settle(&v);
    if (err == FTK_OK)
        *out = t;
    else
        ftk_tokenizer_free(t);
    return err;
}

void ftk_tokenizer_free(ftk_tokenizer *t)
{
    if (!t) return;
    const ftk_host host = t->host;
    if (t->kind) t->kind->free(t);
    for (size_t i = 0; i < t->n_chats; i++) {
        ftk_template_free(t->chats[i].t);
        ftk_release(&host, t->chats[i].name);
    }
    ftk_release(&host, t->chats);
    ftk_release(&host, t->user.v);
    ftk_release(&host, t->specials.v);
    ftk_release(&host, t->text);
    ftk_release(&host, t->pieces);
    ftk_release(&host, t);
}

/* ------------------------------------------------------------------ what is known of it */

const ftk_host *ftk_tokenizer_host(const ftk_tokenizer *t)
{
    return &t->host;
}

int ftk_tokenizer_n_vocab(const ftk_tokenizer *t)
{
    return t->n_vocab;
}

int32_t ftk_tokenizer_bos(const ftk_tokenizer *t)
{
    return t->bos;
}

int32_t ftk_tokenizer_eos(const ftk_tokenizer *t)
{
    return t->eos;
}

int32_t ftk_tokenizer_eot(const ftk_tokenizer *t)
{
    return t->eot;
}

const int32_t *ftk_tokenizer_ends(const ftk_tokenizer *t, size_t *n)
{
    *n = t->n_ends;
    return t->ends;
}

bool ftk_tokenizer_add_bos(const ftk_tokenizer *t)
{
    return t->add_bos;
}

/* The built-in form that the control tokens of a vocabulary speak for. */
static const char *form_by_words(const ftk_tokenizer *t)
{
    static const struct {
        const char *words[2], *name;
    } signs[] = {
        {{"<|im_start|>", "<|im_end|>"}, "chatml"},
        {{"<|start_header_id|>", "<|eot_id|>"}, "llama3"},
        {{"<start_of_turn>", "<end_of_turn>"}, "gemma"},
        {{"[INST]", "[/INST]"}, "mistral"},
        {{"<|user|>", "<|end|>"}, "phi3"},
        {{"<|user|>", "<|assistant|>"}, "zephyr"},
    };
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        bool all = true;
        for (int k = 0; k < 2; k++)
            all &= ftk_tokenizer_special(t, signs[i].words[k], strlen(signs[i].words[k])) >= 0;
        if (all) return signs[i].name;
    }
    return "plain";
}

const char *ftk_tokenizer_chat_template(const ftk_tokenizer *t, bool *has)
{
    *has = t->n_chats > 0;
    for (size_t i = 0; i < t->n_chats; i++)
        if (strcmp(t->chats[i].name, "default") == 0) return "default";
    return *has ? t->chats[0].name : form_by_words(t);
}

ftk_str ftk_tokenizer_piece(const ftk_tokenizer *t, int32_t token)
{
    static const char unknown[] = " \xE2\x81\x87 "; /* what SentencePiece shows for one */
    const ftk_piece *p = &t->pieces[token];
    if (p->type == FTK_TOKEN_CONTROL) return (ftk_str){p->p, 0};
    if (p->type == FTK_TOKEN_UNKNOWN) return (ftk_str){unknown, sizeof unknown - 1};
    return (ftk_str){p->p, p->n};
}

/* ------------------------------------------------------------------ encoding */

static ftk_err append_valid(const ftk_tokenizer *t, const char *text, size_t n, ftk_tokens *list)
{
    return n > 0 ? t->kind->encode(t, text, n, list) : FTK_OK;
}

ftk_err ftk_tokenizer_append_byte(const ftk_tokenizer *t, unsigned char byte, ftk_tokens *list)
{
    const int32_t id = t->byte_ids[byte] >= 0 ? t->byte_ids[byte] : t->unknown;
    return id >= 0 ? ftk_tokens_push(list, &id, 1) : FTK_OK;
}

/* Bytes that are no UTF-8 go straight to byte tokens, so that they survive. */
static ftk_err append_broken(const ftk_tokenizer *t, const char *bytes, size_t n, ftk_tokens *list)
{
    ftk_err err = FTK_OK;
    for (size_t i = 0; err == FTK_OK && i < n; i++)
        err = ftk_tokenizer_append_byte(t, (unsigned char)bytes[i], list);
    return err;
}

static ftk_err append_bytes(const ftk_tokenizer *t, const char *text, size_t n, ftk_tokens *list)
{
    ftk_err err = FTK_OK;
    size_t start = 0, at = 0;
    while (err == FTK_OK && at < n) {
        const int step = ftk_utf8_step(text + at, n - at);
        if (step > 0) {
            at += (size_t)step;
            continue;
        }
        const size_t broken = step < 0 ? (size_t)-step : n - at;
        err = append_valid(t, text + start, at - start, list);
        if (err == FTK_OK) err = append_broken(t, text + at, broken, list);
        start = at += broken;
    }
    return err == FTK_OK ? append_valid(t, text + start, n - start, list) : err;
}

/* One fragment without control tokens, with the space in front that the model asks for. */
static ftk_err append_plain(const ftk_tokenizer *t, const char *text, size_t n, ftk_tokens *list)
{
    if (n == 0) return FTK_OK;
    if (n > MAX_TEXT)
        return ftk_fail(&t->host, FTK_ERR_INVALID, "a text of %zu bytes; give at most %d at a time",
                        n, MAX_TEXT);
    if (!t->add_prefix || t->squeezes) return append_bytes(t, text, n, list);
    char *copy = ftk_alloc(&t->host, n + 1, 1);
    if (!copy) return ftk_fail(&t->host, FTK_ERR_NOMEM, "no memory for a text of %zu bytes", n);
    copy[0] = ' ';
    memcpy(copy + 1, text, n);
    const ftk_err err = append_bytes(t, copy, n + 1, list);
    ftk_release(&t->host, copy);
    return err;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Where the text goes on behind a control token that ends at `at`. */
static size_t behind(const ftk_tokenizer *t, int32_t id, const char *text, size_t at, size_t n)
{
    while (t->pieces[id].strips && at < n && is_space(text[at])) at++;
    return at;
}

/* Text and the tokens of `keys` in it. input: NULL, or 1 for bytes that are no part of these;
 * between them the user's are looked for. */
static ftk_err append_with(const ftk_tokenizer *t, const ftk_keys *keys, const char *text,
                           const unsigned char *input, size_t n, ftk_tokens *list)
{
    ftk_err err = FTK_OK;
    size_t start = 0, run = input ? 0 : n; /* text[at..run) may hold a key */
    for (size_t at = 0, next; err == FTK_OK && start < n; at = next) {
        size_t len = 0;
        if (run <= at)
            for (run = at; run < n && !input[run];) run++;
        const int32_t id = run > at ? ftk_keys_longest(keys, text + at, run - at, &len) : -1;
        next = id >= 0 ? behind(t, id, text, at + len, n) : at + 1;
        if (id < 0 && at < n) continue;
        err = input ? append_with(t, &t->user, text + start, NULL, at - start, list)
                    : append_plain(t, text + start, at - start, list);
        if (err == FTK_OK && id >= 0) err = ftk_tokens_push(list, &id, 1);
        start = next;
    }
    return err;
}

ftk_err ftk_tokenizer_append(const ftk_tokenizer *t, const char *text, size_t n, unsigned flags,
                             ftk_tokens *list)
{
    const ftk_keys *keys = flags & FTK_TOK_SPECIAL ? &t->specials : &t->user;
    ftk_err err = FTK_OK;
    if ((flags & FTK_TOK_BOS) && t->add_bos) err = ftk_tokens_push(list, &t->bos, 1);
    if (err == FTK_OK) err = append_with(t, keys, text, NULL, n, list);
    if (err == FTK_OK && (flags & FTK_TOK_EOS) && t->add_eos)
        err = ftk_tokens_push(list, &t->eos, 1);
    return err;
}

int32_t ftk_tokenizer_special_at(const ftk_tokenizer *t, const char *text, size_t n, size_t *len)
{
    return ftk_keys_longest(&t->specials, text, n, len);
}

ftk_err ftk_tokenizer_append_marked(const ftk_tokenizer *t, const char *text,
                                    const unsigned char *input, size_t n, ftk_tokens *list)
{
    return append_with(t, &t->specials, text, input, n, list);
}

ftk_err ftk_tokenizer_encode(const ftk_tokenizer *t, const char *text, size_t n, unsigned flags,
                             int32_t *tokens, size_t cap, size_t *n_out)
{
    ftk_tokens list = {.host = &t->host};
    const ftk_err err = ftk_tokenizer_append(t, text, n, flags, &list);
    return ftk_tokens_end(&list, err, tokens, cap, n_out);
}

/* ------------------------------------------------------------------ decoding */

/* The text of a token where a fragment starts, or goes on: at a start without the space that the
 * tokenizer put there. */
static ftk_str shown(const ftk_tokenizer *t, int32_t token, unsigned flags, bool start)
{
    const ftk_piece *p = &t->pieces[token];
    const bool named = p->type == FTK_TOKEN_CONTROL || p->type == FTK_TOKEN_UNKNOWN;
    const ftk_str s =
        named && (flags & FTK_TOK_SPECIAL) ? (ftk_str){p->p, p->n} : ftk_tokenizer_piece(t, token);
    const bool word = p->type == FTK_TOKEN_NORMAL || p->type == FTK_TOKEN_USER_DEFINED ||
                      p->type == FTK_TOKEN_UNUSED;
    if (start && t->add_prefix && word && s.n > 0 && s.p[0] == ' ')
        return (ftk_str){s.p + 1, s.n - 1};
    return s;
}

/* Writes the text where to is not NULL; returns its length. */
static size_t write_text(const ftk_tokenizer *t, const int32_t *tokens, size_t n, unsigned flags,
                         char *to)
{
    size_t size = 0;
    bool start = true;
    for (size_t i = 0; i < n; i++) {
        const ftk_str s = shown(t, tokens[i], flags, start);
        if (to && s.n > 0) memcpy(to + size, s.p, s.n);
        size += s.n;
        const uint8_t type = t->pieces[tokens[i]].type;
        const bool read = flags & FTK_TOK_SPECIAL; /* by its name; what follows is a text then */
        start = type == FTK_TOKEN_CONTROL ? start || read : type == FTK_TOKEN_UNKNOWN && read;
    }
    return size;
}

ftk_err ftk_tokenizer_decode(const ftk_tokenizer *t, const int32_t *tokens, size_t n,
                             unsigned flags, char *text, size_t cap, size_t *n_out)
{
    *n_out = 0;
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= t->n_vocab)
            return ftk_fail(&t->host, FTK_ERR_INVALID, "token id %d is outside 0 to %d",
                            (int)tokens[i], t->n_vocab - 1);
    *n_out = write_text(t, tokens, n, flags, NULL);
    if (*n_out > cap) return FTK_ERR_SPACE;
    write_text(t, tokens, n, flags, text);
    return FTK_OK;
}
