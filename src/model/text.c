/* SPDX-License-Identifier: Apache-2.0
 * Public text functions, and streams: tokens to text as they come. */
#include "model/model.h"

#include "base/floats.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

ftk_err ftk_tokenize(const ftk_model *m, const char *text, size_t n, unsigned flags,
                     int32_t *tokens, size_t cap, size_t *n_out)
{
    const ftk_floats floats = ftk_floats_enter(); /* pieces have scores */
    return ftk_floats_after(&floats,
                            ftk_tokenizer_encode(m->tokenizer, text, n, flags, tokens, cap, n_out));
}

ftk_err ftk_detokenize(const ftk_model *m, const int32_t *tokens, size_t n, unsigned flags,
                       char *text, size_t cap, size_t *n_out)
{
    return ftk_tokenizer_decode(m->tokenizer, tokens, n, flags, text, cap, n_out);
}

ftk_err ftk_chat_tokenize_as(const ftk_model *m, const ftk_chat_config *cfg,
                             const ftk_message *msgs, size_t n_msgs, int32_t *tokens, size_t cap,
                             size_t *n_out)
{
    const ftk_floats floats = ftk_floats_enter();
    return ftk_floats_after(
        &floats, ftk_tokenizer_chat(m->tokenizer, cfg, msgs, n_msgs, tokens, cap, n_out));
}

ftk_err ftk_chat_tokenize(const ftk_model *m, const char *tmpl, const ftk_message *msgs,
                          size_t n_msgs, int32_t *tokens, size_t cap, size_t *n_out)
{
    ftk_chat_config cfg;
    ftk_chat_config_init(&cfg);
    cfg.tmpl = tmpl;
    return ftk_chat_tokenize_as(m, &cfg, msgs, n_msgs, tokens, cap, n_out);
}

ftk_err ftk_chat_text(const ftk_model *m, const ftk_chat_config *cfg, const ftk_message *msgs,
                      size_t n_msgs, char *text, size_t cap, size_t *n_out)
{
    const ftk_floats floats = ftk_floats_enter(); /* a template may reckon */
    return ftk_floats_after(
        &floats, ftk_tokenizer_chat_text(m->tokenizer, cfg, msgs, n_msgs, text, cap, n_out));
}

/* ------------------------------------------------------------------ streams */

struct ftk_stream {
    const ftk_tokenizer *t;
    const ftk_host *host;
    ftk_str *stops; /* [n_stops] */
    char *stop_text;
    size_t n_stops;
    char *text; /* text[0..given) was given by the last call, text[given..n) waits; whole UTF-8 */
    size_t n, cap, given;
    char tail[4]; /* the unfinished character behind it */
    size_t n_tail;
    bool start; /* no text yet, and the space in front is not wanted */
    bool stopped;
};

static ftk_err copy_stops(ftk_stream *s, const char *const *stops, size_t n_stops)
{
    size_t size = 0;
    for (size_t i = 0; i < n_stops; i++) {
        if (!stops[i] || !stops[i][0])
            return ftk_fail(s->host, FTK_ERR_INVALID, "stop string %zu is empty", i);
        size += strlen(stops[i]);
    }
    s->stops = ftk_alloc(s->host, n_stops, sizeof *s->stops);
    s->stop_text = ftk_alloc(s->host, size, 1);
    if (!s->stops || !s->stop_text)
        return ftk_fail(s->host, FTK_ERR_NOMEM, "no memory for %zu stop strings", n_stops);
    char *p = s->stop_text;
    for (size_t i = 0; i < n_stops; i++) {
        const size_t n = strlen(stops[i]);
        memcpy(p, stops[i], n);
        s->stops[i] = (ftk_str){p, n};
        p += n;
    }
    s->n_stops = n_stops;
    return FTK_OK;
}

ftk_err ftk_stream_open(ftk_stream **out, const ftk_model *m, bool continues,
                        const char *const *stops, size_t n_stops)
{
    *out = NULL;
    const ftk_host *host = &m->host;
    ftk_stream *s = ftk_alloc(host, 1, sizeof *s);
    if (!s) return ftk_fail(host, FTK_ERR_NOMEM, "no memory for a stream");
    s->t = m->tokenizer;
    s->host = host;
    s->start = !continues;
    const ftk_err err = copy_stops(s, stops, n_stops);
    if (err == FTK_OK)
        *out = s;
    else
        ftk_stream_free(s);
    return err;
}

void ftk_stream_free(ftk_stream *s)
{
    if (!s) return;
    const ftk_host *host = s->host;
    ftk_release(host, s->text);
    ftk_release(host, s->stop_text);
    ftk_release(host, s->stops);
    ftk_release(host, s);
}

/* Drops what was given, and makes room for n more bytes of text. */
static ftk_err make_room(ftk_stream *s, size_t n)
{
    s->n -= s->given;
    if (s->given > 0 && s->n > 0) memmove(s->text, s->text + s->given, s->n);
    s->given = 0;
    if (ftk_grow(s->host, &s->text, s->n, n, &s->cap, 1)) return FTK_OK;
    return ftk_fail(s->host, FTK_ERR_NOMEM, "no memory for %zu more bytes of text", n);
}

/* Adds one whole character. Of several stop strings the one that ends first wins, and of those the
 * longest: so the outcome does not depend on how the text falls into tokens. */
static void add_char(ftk_stream *s, const char *p, size_t n)
{
    if (s->stopped) return;
    memcpy(s->text + s->n, p, n);
    s->n += n;
    size_t longest = 0;
    for (size_t i = 0; i < s->n_stops; i++) {
        const ftk_str stop = s->stops[i];
        if (stop.n > longest && stop.n <= s->n &&
            memcmp(s->text + s->n - stop.n, stop.p, stop.n) == 0)
            longest = stop.n;
    }
    s->n -= longest;
    s->stopped = longest > 0;
}

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

static void add_byte(ftk_stream *s, char byte)
{
    s->tail[s->n_tail++] = byte;
    while (s->n_tail > 0) {
        const int step = ftk_utf8_step(s->tail, s->n_tail);
        if (step == 0) return;
        const size_t n = step > 0 ? (size_t)step : (size_t)-step;
        add_char(s, step > 0 ? s->tail : replacement, step > 0 ? n : 3);
        s->n_tail -= n;
        memmove(s->tail, s->tail + n, s->n_tail);
    }
}

/* Bytes at the end of the text that may be the start of a stop string. */
static size_t held(const ftk_stream *s)
{
    size_t most = 0;
    for (size_t i = 0; i < s->n_stops && !s->stopped; i++) {
        const ftk_str stop = s->stops[i];
        size_t n = stop.n - 1 < s->n ? stop.n - 1 : s->n;
        while (n > most && memcmp(s->text + s->n - n, stop.p, n) != 0) n--;
        if (n > most) most = n;
    }
    return most;
}

static void give(ftk_stream *s, size_t n, const char **text, size_t *n_out)
{
    s->given = n;
    *text = s->text ? s->text : "";
    *n_out = n;
}

/* The bytes of a token; at the start of the text without the tokenizer's space. */
static ftk_str next_piece(ftk_stream *s, int32_t token)
{
    ftk_str piece = ftk_tokenizer_piece(s->t, token);
    if (!s->start || piece.n == 0) return piece;
    s->start = false;
    size_t n = 0; /* what the tokenizer itself would leave of a text of this one token */
    ftk_tokenizer_decode(s->t, &token, 1, 0, NULL, 0, &n);
    return (ftk_str){piece.p + (piece.n - n), n};
}

ftk_err ftk_stream_push(ftk_stream *s, int32_t token, const char **text, size_t *n, bool *stopped)
{
    *text = "";
    *n = 0;
    *stopped = s->stopped;
    if (token < 0 || token >= ftk_tokenizer_n_vocab(s->t))
        return ftk_fail(s->host, FTK_ERR_INVALID, "token id %d is outside 0 to %d", (int)token,
                        ftk_tokenizer_n_vocab(s->t) - 1);
    if (s->stopped) return FTK_OK;
    /* A byte becomes three at most: U+FFFD. */
    const ftk_err err = make_room(s, 3 * (s->n_tail + ftk_tokenizer_piece(s->t, token).n));
    if (err != FTK_OK) return err;
    const ftk_str piece = next_piece(s, token);
    for (size_t i = 0; i < piece.n; i++) add_byte(s, piece.p[i]);
    give(s, s->n - held(s), text, n);
    *stopped = s->stopped;
    return FTK_OK;
}

ftk_err ftk_stream_flush(ftk_stream *s, const char **text, size_t *n)
{
    *text = "";
    *n = 0;
    if (s->stopped) return FTK_OK;
    const ftk_err err = make_room(s, sizeof replacement);
    if (err != FTK_OK) return err;
    if (s->n_tail > 0) add_char(s, replacement, 3);
    s->n_tail = 0;
    give(s, s->n, text, n);
    return FTK_OK;
}
