/* SPDX-License-Identifier: Apache-2.0
 * What will follow, for drafts: the text that a format leaves no choice of, and the text that a
 * client has predicted. */
#include <string.h>

#include "serve/fields.h"
#include "serve/prompts.h"

/* ---- prediction */

enum {
    NOWHERE = -1,
    LOOKED_AT = 32, /* tokens at the end of a text that are looked for in a prediction */
    AGREE = 3,      /* of them so many are enough */
    MOST_MISSED = 4 /* in a row, as if one token stood in another's place */
};

bool serve_read_prediction(const serve_server *s, const json_t *o, serve_request *r, serve_error *e)
{
    static const char field[] = "prediction";
    const json_t *const prediction = serve_field(o, field);
    if (!prediction) return true;
    const char *const type = json_string_value(json_object_get(prediction, "type"));
    const json_t *const content = serve_field(prediction, "content");
    if (!type || strcmp(type, "content") != 0 ||
        !(json_is_string(content) || json_is_array(content)))
        return serve_refuse(e, field,
                            "prediction must be {\"type\": \"content\", \"content\": ...}, with a "
                            "text or a list of text parts");
    cli_bytes text = {0};
    cli_bytes_add(&text, "", 0);
    if (json_is_string(content))
        cli_bytes_add(&text, json_string_value(content), json_string_length(content));
    bool ok = json_is_string(content) || serve_read_parts(content, field, &text, e);
    if (ok && cli_tokenize(&s->w, text.p, text.n, 0, &r->predicted, &r->n_predicted) != FTK_OK)
        ok = serve_fail(e, 500, "server_error", NULL, "the prediction could not be tokenized");
    cli_bytes_free(&text);
    return ok;
}

/* Where the prediction goes on behind n tokens of an answer: at its start; or behind the longest
 * end of the answer that stands in it, of several the first one behind `last`. */
static int place_in(const serve_request *r, const int32_t *answer, size_t n, int last)
{
    int best = NOWHERE;
    size_t longest = 0;
    if (n == 0) return 0;
    for (size_t i = 1; i <= r->n_predicted; i++) {
        size_t same = 0;
        while (same < i && same < n && same < LOOKED_AT &&
               r->predicted[i - 1 - same] == answer[n - 1 - same])
            same++;
        const bool nearer = same == longest && best <= last && (int)i > last;
        if (same > longest || (same > 0 && nearer)) {
            longest = same;
            best = (int)i;
        }
    }
    return longest >= AGREE || longest == n || (longest > 0 && best == last) ? best : NOWHERE;
}

void serve_settle_prediction(serve_choice *c)
{
    const serve_request *const r = c->request;
    const int at = c->place;
    if (r->n_predicted == 0) return;
    const bool right =
        at >= 0 && (size_t)at < r->n_predicted && r->predicted[at] == c->tokens[c->n_tokens - 1];
    c->n_right += right && c->n_right < r->n_predicted;
    c->n_missed = right ? 0 : c->n_missed + 1;
    c->place =
        right ? at + 1 : place_in(r, c->tokens + c->prompt->n, c->n_tokens - c->prompt->n, at);
    if (c->place == NOWHERE && at >= 0 && c->n_missed <= MOST_MISSED) c->place = at + 1;
}

static size_t predict(const serve_choice *c, const int32_t *answer, size_t n, int32_t *guesses,
                      size_t most)
{
    const serve_request *const r = c->request;
    const bool known = n == c->n_tokens - c->prompt->n;
    const int at = known ? c->place : place_in(r, answer, n, c->place);
    if (at < 0 || (size_t)at >= r->n_predicted) return 0;
    const size_t left = r->n_predicted - (size_t)at, said = left < most ? left : most;
    memcpy(guesses, r->predicted + at, said * sizeof *guesses);
    return said;
}

/* ---- formats */

/* As the tokenizer would write it behind the last token. What comes last may yet become one with
 * what follows, and is left out. */
static size_t force(serve_choice *c, const int32_t *tokens, size_t n, int32_t *guesses, size_t most)
{
    enum { MOST = 240, MOST_TOKENS = 256 };
    const ftk_model *const m = c->model;
    char text[MOST + 16];
    int32_t said[MOST_TOKENS];
    size_t before = 0, n_said;
    const bool within = n > c->prompt->n;
    if (within && ftk_detokenize(m, tokens + n - 1, 1, 0, text, 16, &before) != FTK_OK) return 0;
    const size_t forced = grammar_forced(&c->walk, tokens, n, text + before, MOST);
    if (forced == 0) return 0;
    if (ftk_tokenize(m, text, before + forced, 0, said, MOST_TOKENS, &n_said) != FTK_OK) return 0;
    if (n_said < 2 || (within && said[0] != tokens[n - 1])) return 0;
    n_said -= 1 + within;
    if (n_said > most) n_said = most;
    memcpy(guesses, said + within, n_said * sizeof *guesses);
    return n_said;
}

size_t serve_foresee(void *ctx, const int32_t *tokens, size_t n, int32_t *guesses, size_t most)
{
    serve_choice *const c = ctx;
    const size_t said = c->request->format ? force(c, tokens, n, guesses, most) : 0;
    if (said > 0 || c->request->n_predicted == 0) return said;
    return predict(c, tokens + c->prompt->n, n - c->prompt->n, guesses, most);
}
