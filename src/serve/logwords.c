/* SPDX-License-Identifier: Apache-2.0
 * Log-probabilities in the two shapes of OpenAI's: of chats, and of completions. */
#include <math.h>
#include <string.h>

#include "serve/serve.h"

static void add_tokens(const serve_server *s, const int32_t *tokens, size_t n, unsigned flags,
                       cli_bytes *out)
{
    size_t len = 0;
    const ftk_model *const m = s->w.model;
    ftk_detokenize(m, tokens, n, flags, NULL, 0, &len);
    char *text = cli_array(NULL, len, 1);
    if (ftk_detokenize(m, tokens, n, flags, text, len, &len) == FTK_OK)
        cli_bytes_add(out, text, len);
    free(text);
}

/* A token's bytes, where it stands in a text. At the start of one it may lose a space; so within
 * one it is what comes with it behind itself. */
static void token_bytes(const serve_server *s, int32_t token, bool within, unsigned flags,
                        cli_bytes *out)
{
    const int32_t twice[2] = {token, token};
    cli_bytes one = {0}, two = {0};
    add_tokens(s, twice, 1, flags, &one);
    if (within) add_tokens(s, twice, 2, flags, &two);
    out->n = 0;
    cli_bytes_add(out, "", 0);
    if (!within)
        cli_bytes_add(out, one.p, one.n);
    else if (two.n > one.n)
        cli_bytes_add(out, two.p + one.n, two.n - one.n);
    cli_bytes_free(&one);
    cli_bytes_free(&two);
}

/* Whether text stands before a place: in chats and behind an empty prompt the answer's own. */
static bool is_within(const serve_server *s, const serve_choice *c, size_t place)
{
    const size_t n = c->prompt->n;
    const size_t start = place >= n && (c->request->chat || c->prompt->text.n == 0) ? n : 0;
    cli_bytes text = {0};
    while (place > start && text.n == 0) add_tokens(s, &c->tokens[--place], 1, 0, &text);
    const bool within = text.n > 0;
    cli_bytes_free(&text);
    return within;
}

/* JSON has no infinity. */
static json_t *real(float v)
{
    return json_real(isfinite(v) ? (double)v : -9999.0);
}

static json_t *word(const serve_server *s, int32_t token, float logprob, bool within)
{
    cli_bytes text = {0};
    token_bytes(s, token, within, FTK_TOK_SPECIAL, &text);
    json_t *bytes = json_array();
    for (size_t i = 0; i < text.n; i++)
        json_array_append_new(bytes, json_integer((unsigned char)text.p[i]));
    json_t *j = json_object();
    json_object_set_new(j, "token", cli_json_text(text.p, text.n));
    json_object_set_new(j, "logprob", real(logprob));
    json_object_set_new(j, "bytes", bytes);
    cli_bytes_free(&text);
    return j;
}

static json_t *of_chat(const serve_server *s, const serve_choice *c, size_t from, size_t to)
{
    json_t *content = json_array();
    for (size_t i = from; i < to; i++) {
        const size_t n_best = isnan(c->own[i]) ? 0 : (size_t)c->request->n_best;
        const bool within = is_within(s, c, i);
        json_t *top = json_array(), *j = word(s, c->tokens[i], c->own[i], within);
        for (size_t k = 0; k < n_best; k++) {
            const ftk_logprob *const b = &c->best[i * n_best + k];
            if (b->token >= 0) json_array_append_new(top, word(s, b->token, b->logprob, within));
        }
        json_object_set_new(j, "top_logprobs", top);
        json_array_append_new(content, j);
    }
    json_t *j = json_object();
    json_object_set_new(j, "content", content);
    json_object_set_new(j, "refusal", json_null());
    return j;
}

static void set_word(const serve_server *s, json_t *top, int32_t token, float logprob, bool within)
{
    cli_bytes text = {0}, clean = {0};
    token_bytes(s, token, within, FTK_TOK_SPECIAL, &text);
    cli_bytes_add(&clean, "", 0);
    cli_bytes_add_utf8(&clean, text.p, text.n);
    /* two tokens may look the same: the likelier one is there first, and stays */
    if (!json_object_getn(top, clean.p, clean.n))
        json_object_setn_new(top, clean.p, clean.n, real(logprob));
    cli_bytes_free(&text);
    cli_bytes_free(&clean);
}

static json_t *best_words(const serve_server *s, const serve_choice *c, size_t place, bool within)
{
    if (isnan(c->own[place])) return json_null();
    json_t *top = json_object();
    const int n_best = c->request->n_best;
    for (int b = 0; b < n_best; b++) {
        const ftk_logprob *const p = &c->best[place * (size_t)n_best + (size_t)b];
        if (p->token >= 0) set_word(s, top, p->token, p->logprob, within);
    }
    set_word(s, top, c->tokens[place], c->own[place], within);
    return top;
}

/* How many characters a token adds to the text. */
static size_t characters(const serve_server *s, int32_t token, bool within)
{
    cli_bytes text = {0};
    size_t n = 0;
    token_bytes(s, token, within, 0, &text);
    for (size_t i = 0; i < text.n; i++) n += ((unsigned char)text.p[i] & 0xc0) != 0x80;
    cli_bytes_free(&text);
    return n;
}

static json_t *of_completion(const serve_server *s, const serve_choice *c, size_t from, size_t to,
                             size_t *offset)
{
    json_t *tokens = json_array(), *own = json_array(), *best = json_array(), *at = json_array();
    cli_bytes text = {0};
    for (size_t i = from; i < to; i++) {
        const bool within = is_within(s, c, i);
        token_bytes(s, c->tokens[i], within, FTK_TOK_SPECIAL, &text);
        json_array_append_new(tokens, cli_json_text(text.p, text.n));
        json_array_append_new(own, isnan(c->own[i]) ? json_null() : real(c->own[i]));
        json_array_append_new(best, best_words(s, c, i, within));
        json_array_append_new(at, json_integer((json_int_t)*offset));
        *offset += characters(s, c->tokens[i], within);
    }
    cli_bytes_free(&text);
    json_t *j = json_object();
    json_object_set_new(j, "tokens", tokens);
    json_object_set_new(j, "token_logprobs", own);
    json_object_set_new(j, "top_logprobs", best);
    json_object_set_new(j, "text_offset", at);
    return j;
}

json_t *serve_logprobs(const serve_server *s, const serve_choice *c, size_t from, size_t to,
                       size_t *offset)
{
    if (c->request->n_best < 0) return json_null();
    return c->request->chat ? of_chat(s, c, from, to) : of_completion(s, c, from, to, offset);
}
