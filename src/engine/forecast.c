/* SPDX-License-Identifier: Apache-2.0
 * What the host thinks will follow. It is drafted in place of a family's guesses as far as it
 * was right so far, and paid for as theirs. */
#include <string.h>

#include "session.h"

static const float least = 0.5f; /* share of guesses that are right, below which families draft */

ftk_err ftk_session_set_forecast(ftk_session *s, ftk_forecast *hook, void *ctx)
{
    s->forecasts = (ftk_forecasts){.hook = hook, .ctx = ctx};
    ftk_rate_init(&s->forecasts.right, 0.9f);
    return FTK_OK;
}

/* Of the last ones, as far as is known by now: they count whether or not they were drafted; what
 * was drafted is paid for. */
static void settle(ftk_session *s)
{
    ftk_forecasts *const g = &s->forecasts;
    int right = 0;
    bool held = true;
    for (; held && right < g->n && g->at + (size_t)right < s->n_tokens; right += held) {
        held = s->tokens[g->at + (size_t)right] == g->token[right];
        ftk_rate_see(&g->right, held);
    }
    if (g->drafted > 0 && ftk_session_sizes_itself(s)) {
        const int gained = right < g->drafted ? right : g->drafted;
        ftk_ledger_book(s, gained - ftk_size_more(s, g->drafted) / ftk_size_token(s));
    }
    g->n = g->drafted = 0;
}

void ftk_session_add_forecast(ftk_session *s, int32_t *path, int most)
{
    ftk_tree *const t = &s->tree;
    ftk_forecasts *const g = &s->forecasts;
    if (!g->hook) return;
    settle(s);
    const int n_path = t->n - 1;
    const size_t n = s->n_tokens + (size_t)n_path;
    if (n_path >= most || n >= (size_t)s->n_ctx) return;
    memcpy(s->tokens + s->n_tokens, path, (size_t)n_path * sizeof *path);
    const size_t room = (size_t)(most - n_path), cap = room < FTK_FORECAST ? room : FTK_FORECAST;
    const size_t said = g->hook(g->ctx, s->tokens, n, g->token, cap);
    g->at = n;
    g->n = (int)(said < cap ? said : cap);
    const float share = ftk_rate_get(&g->right);
    const bool sizes = ftk_session_sizes_itself(s);
    if (sizes && (share < least || s->engine->timing_plain)) return;
    float prob = 1;
    for (int i = 0; i < g->n && (uint32_t)g->token[i] < (uint32_t)s->sampler.n_vocab; i++)
        ftk_tree_add(t, t->n - 1, g->token[i], prob *= share);
}
