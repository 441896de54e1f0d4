/* SPDX-License-Identifier: Apache-2.0
 *
 * The account of drafts: what they gained and what they may lose. However wrong the estimates
 * are, drafts lose no more than what they have gained before, FTK_CREDIT, and ALLOWANCE of the
 * time: plain steps earn a little credit, drafts what they gained, and a draft, be it verified
 * or not, must be covered by it. There is one account for an engine: where luck is bad for a
 * while, as at the start of many a text, a session of its own would have nothing to go on with,
 * and lose more by what it leaves undrafted than by what it drafts.
 *
 * In a pass that several sessions share a token takes each of them its part of the plain pass
 * (ftk_size_token()); what drafts gain and cost is reckoned in such tokens, and credit in plain
 * steps of one session alone. */
#include "base/clock.h"
#include "session.h"

static const double ALLOWANCE =
    0.015; /* of a plain step; what the costs do not see has room below 0.02 */
static const double MOST_CREDIT = 4; /* plain steps */
static const double MOST_DEBT =
    2; /* plain steps: a program that takes the core away is no draft's fault */
static const double NEXT_TO_NOTHING = 0.005; /* of a token, to read one row */
/* Plain steps of credit below which it is kept for drafts; tokens that reading may lose a step,
 * and have saved. */
static const double COMFORT = 0.5, EARNED = 0.004, MOST_BALANCE = 2;
static const double MEMORY = 0.985; /* of what steps gave and cost, a step later */

static double between(double least, double x, double most)
{
    return x < least ? least : x > most ? most : x;
}

void ftk_ledger_book(ftk_session *s, double tokens)
{
    ftk_engine *const e = s->engine;
    const double credit = e->credit + tokens * ftk_size_token(s) / e->company.alone;
    e->credit = between(-MOST_DEBT, credit, MOST_CREDIT);
}

void ftk_ledger_settle(ftk_session *s, int nodes, int emitted)
{
    ftk_family *const f = ftk_session_family(s);
    ftk_measured *const m = f->measured;
    const double spent = 1 + (nodes * s->row_seconds + s->drafting) / ftk_size_token(s);
    const bool plain = nodes == 0 && s->drafting == 0;
    m->tokens = m->tokens * MEMORY + emitted;
    m->spent = m->spent * MEMORY + spent;
    s->pace.tokens = s->pace.tokens * MEMORY + emitted;
    s->pace.spent = s->pace.spent * MEMORY + spent;
    ftk_ledger_book(s, plain ? ALLOWANCE : emitted - spent);
    f->steps++;
    f->emitted += (uint64_t)emitted;
}

/* What the table of successors gave in this step, in tokens: those that came thanks to it alone,
 * less what it took to verify all such nodes. */
static double given_by_table(const ftk_session *s)
{
    const ftk_tree *const t = &s->tree;
    int nodes = 0, tokens = 0;
    for (int i = 1; i < t->n; i++) nodes += t->recycled[i];
    for (int i = 1; i <= s->verdict.n_path; i++) tokens += t->recycled[s->verdict.path[i]];
    return tokens / ftk_session_pace(s) - nodes * s->row_seconds / ftk_size_token(s);
}

/* The table learns from every step, whoever drafted, and for nobody's account but drafts'. Where
 * reading a row costs something it is read as long as that pays. */
void ftk_ledger_read_table(ftk_session *s, const ftk_rows *rows, bool prompt)
{
    ftk_successors *const table = &s->successors;
    ftk_successor_rates *const r = &table->rates;
    const ftk_verdict *const v = &s->verdict;
    const double start = ftk_engine_now(s->engine), token = ftk_size_token(s);
    int n_read = 0;
    const bool cheap = r->took <= NEXT_TO_NOTHING * token;
    if (!prompt) ftk_successors_settle(table, s->tree.token[0], v->token, (size_t)v->n_path + 1);
    if (cheap || (r->balance > 0 && s->engine->credit > COMFORT))
        n_read = ftk_successors_read(table, &s->tree, v, rows, cheap);
    if (prompt) return;
    s->stats.draft_seconds += ftk_engine_now(s->engine) - start;
    const double cost =
        n_read * r->took / token; /* as usual: another program may have had the core */
    ftk_ledger_book(s, -cost);
    r->balance =
        between(-MOST_BALANCE, r->balance + EARNED + given_by_table(s) - cost, MOST_BALANCE);
}
