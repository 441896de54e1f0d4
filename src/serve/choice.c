/* SPDX-License-Identifier: Apache-2.0
 * One answer: the tokens of its session's steps, their text, and why it ended. */
#include <math.h>
#include <string.h>

#include "serve/serve.h"

static void grow(serve_choice *c, size_t n)
{
    if (n <= c->cap) return;
    const int n_best = c->request->n_best;
    c->cap = n + n / 2 + 64;
    c->tokens = cli_array(c->tokens, c->cap, sizeof *c->tokens);
    if (n_best >= 0) c->own = cli_array(c->own, c->cap, sizeof *c->own);
    if (n_best > 0) c->best = cli_array(c->best, c->cap * (size_t)n_best, sizeof *c->best);
}

static void add_token(serve_choice *c, int32_t token)
{
    grow(c, c->n_tokens + 1);
    if (c->own) c->own[c->n_tokens] = NAN;
    c->tokens[c->n_tokens++] = token;
}

ftk_err serve_choice_begin(const serve_server *s, serve_choice *c)
{
    if (c->begun) return FTK_OK; /* it was pushed out, and goes on */
    const serve_request *const r = c->request;
    const serve_prompt *const prompt = c->prompt;
    grow(c, prompt->n + 1);
    for (size_t i = 0; i < prompt->n; i++) add_token(c, prompt->tokens[i]);
    c->n_told = r->echo ? 0 : prompt->n;
    if (r->echo) cli_bytes_add(&c->text, prompt->text.p, prompt->text.n);
    c->begun = true;
    return ftk_stream_open(&c->stream, s->w.model, !r->chat && prompt->text.n > 0, r->stops,
                           r->n_stops);
}

static void keep_logprob(serve_choice *c, size_t place)
{
    const ftk_logprob *best;
    float own;
    if (!c->own || !ftk_session_logprobs(c->session, place, &own, &best)) return;
    const size_t n_best = (size_t)c->request->n_best;
    c->own[place] = own;
    if (n_best > 0) memcpy(c->best + place * n_best, best, n_best * sizeof *best);
}

/* Once the prompt is read: what was cached of it, and its log-probabilities. */
static void know_prompt(serve_choice *c)
{
    ftk_stats stats;
    ftk_session_get_stats(c->session, &stats);
    const uint64_t read = stats.prompt - c->read_before;
    const size_t n = c->prompt->n; /* the last token is part of the first step, cached or not */
    c->cached = read == 0 ? n - 1 : read < n ? n - (size_t)read : 0;
    if (c->request->echo)
        for (size_t i = 1; i < c->prompt->n; i++) keep_logprob(c, i);
    c->prompt_known = true;
}

static void mark(serve_choice *c, bool drafted)
{
    if (!c->request->include_tokens) return;
    if (c->n_marks == c->cap_marks) {
        c->cap_marks = 2 * c->cap_marks + 16;
        c->marks = cli_array(c->marks, c->cap_marks, sizeof *c->marks);
    }
    c->marks[c->n_marks++] = (serve_mark){c->text.n, drafted};
}

/* The text that a token brings; a control token that belongs to calls brings its own. */
static ftk_err text_of(const serve_server *s, serve_choice *c, int32_t token, cli_bytes *out,
                       bool *stopped)
{
    const bool reads_calls = c->calls.form || c->request->format;
    const char *const word = reads_calls ? serve_call_word_of(s, token) : NULL;
    const char *text;
    size_t n;
    *stopped = false;
    const ftk_err err = word ? ftk_stream_flush(c->stream, &text, &n)
                             : ftk_stream_push(c->stream, token, &text, &n, stopped);
    if (err != FTK_OK) return err;
    cli_bytes_add(out, text, n);
    if (word) cli_bytes_add(out, word, strlen(word));
    return FTK_OK;
}

static ftk_err take_token(const serve_server *s, serve_choice *c, int32_t token, bool drafted)
{
    bool stopped;
    cli_bytes text = {0};
    const ftk_err err = text_of(s, c, token, &text, &stopped);
    if (err != FTK_OK) return err;
    add_token(c, token);
    serve_settle_prediction(c);
    keep_logprob(c, c->n_tokens - 1);
    serve_calls_feed(&c->calls, text.p, text.n, false, &c->text);
    cli_bytes_free(&text);
    mark(c, drafted);
    if (stopped || serve_calls_full(&c->calls)) c->finish = "stop";
    return FTK_OK;
}

static ftk_err end(serve_choice *c, ftk_finish finish)
{
    const char *text;
    size_t n;
    if (!c->finish)
        c->finish = finish == FTK_FINISH_LIMIT || finish == FTK_FINISH_CONTEXT ? "length" : "stop";
    const ftk_err err = ftk_stream_flush(c->stream, &text, &n);
    if (err == FTK_OK) serve_calls_feed(&c->calls, text, n, true, &c->text);
    if (c->calls.list && strcmp(c->finish, "stop") == 0) c->finish = "tool_calls";
    return err;
}

ftk_err serve_choice_take(const serve_server *s, serve_choice *c, const ftk_result *r)
{
    if (r->n_tokens == 0 && r->finish == FTK_FINISH_NONE) return FTK_OK;
    if (!c->prompt_known) know_prompt(c);
    ftk_err err = FTK_OK;
    for (size_t i = 0; i < r->n_tokens && !c->finish && err == FTK_OK; i++) {
        const bool drafted = i < (size_t)r->accepted;
        err = take_token(s, c, r->tokens[i], drafted);
        c->accepted += drafted;
    }
    c->drafted += (uint64_t)r->drafted;
    if (err == FTK_OK && (c->finish || r->finish != FTK_FINISH_NONE)) err = end(c, r->finish);
    return err;
}

void serve_choice_free(serve_choice *c)
{
    ftk_stream_free(c->stream);
    grammar_walk_free(&c->walk);
    serve_calls_free(&c->calls);
    cli_bytes_free(&c->text);
    free(c->tokens);
    free(c->own);
    free(c->best);
    free(c->marks);
}
