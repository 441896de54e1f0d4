/* SPDX-License-Identifier: Apache-2.0
 *
 * A session's draft before its pass, and what is learned from the pass. How large drafts become is
 * decided for all sessions of a pass together (size.c). */
#include <string.h>

#include "base/clock.h"
#include "session.h"

static const float LEAST = 0.02f; /* probability of a guess that successors are asked for */

/* ---- proposing */

/* Of every step, as every step shows what retrieval is worth; next to nothing, and no family's
 * cost. */
static void retrieve(ftk_session *s)
{
    const double start = ftk_engine_now(s->engine);
    ftk_retrieval_ask(&s->retrieval, s->tokens, s->n_tokens);
    s->stats.draft_seconds += ftk_engine_now(s->engine) - start;
}

/* What a row more adds to a pass that has some, in tokens: a guess that is less likely never
 * pays. */
static float price_of_row(const ftk_session *s)
{
    enum { FEW = 3, MORE = 11 };
    const double added = ftk_size_more(s, MORE) - ftk_size_more(s, FEW);
    return (float)(added / (MORE - FEW) / ftk_size_token(s));
}

/* Whether a family is to be asked for a draft in this step. */
static bool is_asked(ftk_session *s)
{
    ftk_family *const f = &s->family;
    const bool sized = ftk_session_sizes_itself(s);
    if (f->ops->decode || ftk_size_ceiling(s, f) == 0) return false;
    if (sized && ftk_size_rests(s, f)) return false;
    return !sized || !s->engine->timing_plain;
}

void ftk_draft_none(ftk_session *s)
{
    s->n_joined = s->left.room = 0;
    s->forced = s->open_draft = false;
    s->drafting = s->row_seconds = 0;
    ftk_tree_init(&s->tree, s->tokens[s->n_tokens - 1]);
}

bool ftk_draft_begin(ftk_session *s)
{
    ftk_draft_none(s);
    if (!s->family.ops) return false;
    retrieve(s);
    s->forced = ftk_session_force(s);
    if (s->forced) return false;
    const float least = ftk_session_sizes_itself(s) ? price_of_row(s) : 0;
    s->successors.least = least > LEAST ? least : LEAST;
    return is_asked(s);
}

static ftk_ask ask_of(ftk_session *s)
{
    return (ftk_ask){.state = s->family.state,
                     .history = s->tokens,
                     .n = s->n_tokens,
                     .budget = ftk_size_ceiling(s, &s->family),
                     .tree = &s->tree};
}

/* One took `seconds` for its draft. */
static void was_asked(ftk_session *s, double seconds)
{
    s->left.seconds = seconds;
    if (s->left.room > 0) return; /* the device goes on */
    ftk_size_took(s, &s->family, seconds);
    s->open_draft = ftk_session_sizes_itself(s);
}

/* Asks the family of the first of these sessions for its draft; one that drafts for several at
 * once for those of the others, too, that it drafts for. */
static void ask_family(ftk_session *const *s, int n)
{
    ftk_session *asked[FTK_PASS_SEQS];
    ftk_ask asks[FTK_PASS_SEQS];
    const ftk_drafter_ops *const ops = s[0]->family.ops;
    int n_asked = 0;
    for (int i = 0; i < (ops->propose_all ? n : 1); i++) {
        if (s[i]->family.ops != ops) continue;
        asks[n_asked] = ask_of(s[i]);
        asked[n_asked++] = s[i];
    }
    const double start = ftk_engine_now(s[0]->engine);
    if (ops->propose_all)
        ops->propose_all(asks, n_asked);
    else
        ops->propose(asks->state, asks->history, asks->n, asks->budget, asks->tree);
    const double seconds = (ftk_engine_now(s[0]->engine) - start) / n_asked;
    for (int i = 0; i < n_asked; i++) was_asked(asked[i], seconds);
}

/* Whether the family of the last of these sessions drafts for one before it, too. */
static bool was_met(ftk_session *const *s, int last)
{
    for (int i = 0; i < last; i++)
        if (s[i]->family.ops == s[last]->family.ops) return true;
    return false;
}

void ftk_draft_ask(ftk_session *const *s, int n)
{
    for (int i = 0; i < n; i++)
        if (!s[i]->family.ops->propose_all || !was_met(s, i)) ask_family(s + i, n - i);
}

/* What the rows that join the pass cost more than the pass without them. */
static double cost_of_joining(const ftk_session *s)
{
    const ftk_engine *e = s->engine;
    const int rows = s->tree.n;
    return ftk_target_share(e->model, e->forward.keep + 1) *
           (ftk_cost_at(&e->cost, rows + s->n_joined, s->kv.len) -
            ftk_cost_at(&e->cost, rows, s->kv.len));
}

void ftk_draft_append(ftk_session *s)
{
    const ftk_family *const f = &s->family;
    const int max_rows = s->engine->forward.max_rows;
    int most = FTK_MAX_NODES < max_rows ? FTK_MAX_NODES : max_rows;
    if (most > s->room) most = s->room;
    most -= s->tree.n;
    if (most <= 0 || !f->ops->append) return;
    s->n_joined = f->ops->append(f->state, &s->tree, most, s->joined);
    if (s->n_joined > 0) s->drafting += cost_of_joining(s);
}

/* ---- learning */

/* What is shared learns from every step, the family from those whose tree was its own, and, if it
 * wants to see all passes, from all. */
void ftk_draft_learn(ftk_session *s, const ftk_rows *rows, bool prompt)
{
    ftk_retrieval_settle(&s->retrieval, s->n_tokens, s->verdict.token,
                         (size_t)s->verdict.n_path + 1);
    const ftk_family *const f = &s->family;
    if (f->ops && f->ops->wants & FTK_WANT_SUCCESSORS) ftk_ledger_read_table(s, rows, prompt);
    const bool own = s->tree.n > 1 && !s->forced;
    if (!f->ops || (!own && !(f->ops->wants & ~(unsigned)FTK_WANT_SUCCESSORS))) return;
    const double start = ftk_engine_now(s->engine);
    f->ops->learn(f->state, s->tokens, s->n_tokens, &s->tree, &s->verdict, rows);
    const double seconds = ftk_engine_now(s->engine) - start;
    if (prompt) return;
    s->stats.draft_seconds += seconds;
    if (own || s->drafting > 0)
        s->drafting += seconds;
    else
        ftk_ledger_book(s, -seconds / ftk_size_token(s));
}
