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
static const double COMFORT = 0.5;           /* plain steps of credit that are kept for drafts */
static const double MEMORY = 0.985;          /* of what steps gave and cost, a step later */

void ftk_ledger_book(ftk_session *s, double tokens)
{
    ftk_engine *const e = s->engine;
    const double credit = e->credit + tokens * ftk_size_token(s) / e->company.alone;
    e->credit = ftk_between(-MOST_DEBT, credit, MOST_CREDIT);
}

void ftk_ledger_settle(ftk_session *s, int nodes, int emitted)
{
    ftk_family *const f = &s->family;
    ftk_measured *const m = f->measured;
    ftk_pace *const p = &s->engine->pace;
    const double spent = 1 + (nodes * s->row_seconds + s->drafting) / ftk_size_token(s);
    const bool plain = nodes == 0 && s->drafting == 0;
    m->tokens = m->tokens * MEMORY + emitted;
    m->spent = m->spent * MEMORY + spent;
    p->tokens = p->tokens * MEMORY + emitted;
    p->spent = p->spent * MEMORY + spent;
    ftk_ledger_book(s, plain ? ALLOWANCE : emitted - spent);
    f->steps++;
    f->emitted += (uint64_t)emitted;
}

/* Credit that is kept for drafts: what the next one needs, if that is known. */
static double kept_for_drafts(const ftk_session *s)
{
    return s->family.saving > COMFORT ? s->family.saving : COMFORT;
}

/* The table learns from every step, whoever drafted, and for drafts' account. Where reading a row
 * costs something, only rows behind which it was wrong are read, as far as there is credit that is
 * not kept. */
void ftk_ledger_read_table(ftk_session *s, const ftk_rows *rows, bool prompt)
{
    ftk_successors *const table = &s->successors;
    const ftk_verdict *const v = &s->verdict;
    const double start = ftk_engine_now(s->engine), token = ftk_size_token(s);
    const bool cheap = table->rates->took <= NEXT_TO_NOTHING * token;
    if (!prompt) ftk_successors_settle(table, s->tree.token[0], v->token, (size_t)v->n_path + 1);
    if (!cheap && s->engine->credit <= kept_for_drafts(s)) return;
    const int n_read = ftk_successors_read(table, &s->tree, v, rows, cheap);
    if (prompt) return;
    s->stats.draft_seconds += ftk_engine_now(s->engine) - start;
    /* as usual: another program may have had the core */
    ftk_ledger_book(s, -n_read * table->rates->took / token);
}
