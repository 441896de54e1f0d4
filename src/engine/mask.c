/* SPDX-License-Identifier: Apache-2.0
 * The host's mask of what may come next, and what drafts make of it: what is forbidden is cut
 * off, and what alone is allowed needs no drafter. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "session.h"

/* The host's hook gets one text: there is room for a draft's path behind the session's tokens, as
 * for the tokens themselves, once they are accepted. */
static void ask_hook(void *ctx, const int32_t *history, size_t n_history, const int32_t *path,
                     int n_path, uint32_t *allowed)
{
    ftk_session *const s = ctx;
    const size_t n = n_history + (size_t)n_path;
    assert(history == s->tokens && n <= (size_t)s->n_ctx && "drafts are no longer than that");
    if (n_path > 0) memcpy(s->tokens + n_history, path, (size_t)n_path * sizeof *path);
    s->mask(s->mask_ctx, history, n, allowed);
}

ftk_err ftk_session_set_mask(ftk_session *s, ftk_mask *mask, void *ctx)
{
    const ftk_host *h = &s->host;
    ftk_sampler *const to = &s->sampler;
    const size_t words = ((size_t)to->n_vocab + 31) / 32;
    if (mask && !to->allowed && !(to->allowed = ftk_alloc(h, words, sizeof *to->allowed)))
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory for a mask of tokens");
    s->mask = mask;
    s->mask_ctx = ctx;
    to->mask = mask ? ask_hook : NULL;
    to->mask_ctx = s;
    return FTK_OK;
}

/* The tokens on the way to a node; returns its depth. */
static int path_to(const ftk_tree *t, int node, int32_t *path)
{
    for (int i = node; i > 0; i = t->parent[i]) path[t->depth[i] - 1] = t->token[i];
    return t->depth[node];
}

void ftk_session_cut_forbidden(ftk_session *s)
{
    ftk_tree *const t = &s->tree;
    bool stays[FTK_MAX_NODES] = {true};
    int32_t path[FTK_MAX_NODES];
    int last = 0;
    for (int i = 1; i < t->n; i++)
        if (t->q[i]) return; /* what was drawn is not left out for what it is: see tree.h */
    for (int i = 0; s->mask && i < t->n; i++) {
        int child = stays[i] ? ftk_tree_next(t, i, 0) : -1;
        if (child < 0) continue;
        ftk_sampler_mask(&s->sampler, s->tokens, s->n_tokens, path, path_to(t, i, path));
        for (; child >= 0; child = ftk_tree_next(t, i, child + 1)) {
            stays[child] = ftk_sampler_allows(&s->sampler, t->token[child]);
            if (stays[child] && child > last) last = child;
        }
    }
    if (s->mask) ftk_tree_cut(t, last + 1);
}

/* The only token that is allowed; -1: there is another, or none. */
static int32_t only_allowed(const ftk_sampler *s)
{
    int32_t only = -1;
    for (int32_t i = 0; i < s->n_vocab; i++) {
        if (s->allowed[i / 32] == 0) i |= 31; /* on to the next word */
        if (i >= s->n_vocab || !ftk_sampler_allows(s, i)) continue;
        if (only >= 0) return -1;
        only = i;
    }
    return only;
}

bool ftk_session_force(ftk_session *s)
{
    ftk_tree *const t = &s->tree;
    int32_t path[FTK_MAX_NODES];
    const bool sizes = ftk_session_sizes_itself(s);
    ftk_engine *const e = s->engine;
    int *const left = &e->rows_left; /* of the pass; drafts of a given size have theirs */
    int most = ftk_size_most(s);
    if (sizes && most > *left) most = *left;
    while (s->mask && t->n <= most) {
        ftk_sampler_mask(&s->sampler, s->tokens, s->n_tokens, path, t->n - 1);
        const int32_t only = only_allowed(&s->sampler);
        if (only < 0) break;
        path[t->n - 1] = only;
        ftk_tree_add(t, t->n - 1, only, 1);
    }
    const int n_only = t->n;
    ftk_session_add_forecast(s, path, most);
    if (sizes) {
        int n = ftk_cost_best(&e->cost, &e->company, t->prob + 1, t->n - 1, s->kv.len);
        if (n >= n_only) n = ftk_size_covered(s, n, 0);
        ftk_tree_cut(t, 1 + n);
    }
    if (t->n > n_only) ftk_session_cut_forbidden(s);
    s->forecasts.drafted = t->n > n_only ? t->n - n_only : 0;
    if (sizes) *left -= t->n - 1;
    return t->n > 1;
}
