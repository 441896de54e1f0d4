/* SPDX-License-Identifier: Apache-2.0
 * How large a draft is: what the cost model says of it, and what the account of drafts covers. */
#include "session.h"

enum {
    REST_AFTER = 16, /* steps without a paying draft before proposing is put off */
    REST = 16,       /* then every so many steps a draft is considered again */
    PROBE = 64,      /* and every so many a small one is verified, to see whether things changed */
    PROBE_NODES = 4,
    LONGEST_WITHOUT = 256, /* steps without a plain one */
    MOST_AT_ONCE = 16,     /* plain ones in a row, to see what they take */
};

static const double cheaper = 0.8; /* than believed: a plain step is timed again at once */

double ftk_session_pace(const ftk_session *s)
{
    return ftk_pace_of(&s->pace);
}

bool ftk_session_sizes_itself(const ftk_session *s)
{
    return s->cfg.budget < 0 && s->cfg.shape != FTK_TREE_PAPER;
}

int ftk_size_most(const ftk_session *s)
{
    int most = s->cfg.budget < 0 ? FTK_MAX_NODES - 1 : s->cfg.budget;
    const int room = s->n_ctx - (int)s->n_tokens;
    if (most > room) most = room;
    if (most > s->room - 1) most = s->room - 1;
    return s->limit > 1 ? most : 0;
}

int ftk_size_ceiling(const ftk_session *s, const ftk_family *f)
{
    const int most = ftk_size_most(s);
    return ftk_session_sizes_itself(s) && most > f->reach ? f->reach : most;
}

double ftk_size_price(const ftk_session *s, int nodes, double drafting)
{
    const ftk_cost *c = &s->engine->cost;
    const int depth = s->kv.len;
    return (ftk_cost_at(c, nodes + 1, depth) + drafting) / ftk_cost_at(c, 1, depth);
}

/* Steps without a paying draft, with one that is none. */
static bool probes(int idle)
{
    return idle > 0 && idle % PROBE == 0;
}

int ftk_size_probe(const ftk_family *f)
{
    return probes(f->measured.idle + 1) ? PROBE_NODES : 0;
}

int ftk_size_covered(const ftk_session *s, int nodes, double drafting)
{
    while (nodes > 0 && ftk_size_price(s, nodes, drafting) - 1 > s->engine->credit) nodes--;
    return nodes;
}

int ftk_size_wanted(ftk_family *f, int pay, int there)
{
    if (4 * pay > 3 * f->reach && f->reach < FTK_MAX_NODES)
        f->reach *= 2;
    else if (4 * pay < f->reach && f->reach > FTK_REACH)
        f->reach /= 2;
    int *const idle = &f->measured.idle;
    *idle = pay > 0 ? 0 : *idle + 1;
    f->saving = 0;
    if (pay > 0 || !probes(*idle)) return pay;
    return PROBE_NODES < there ? PROBE_NODES : there;
}

void ftk_size_draft(ftk_session *s, ftk_family *f)
{
    const int there = s->tree.n - 1;
    const int pay = ftk_cost_best(&s->engine->cost, s->tree.prob + 1, there, s->kv.len);
    const int wanted = ftk_size_wanted(f, pay, there);
    const int few = wanted < PROBE_NODES ? wanted : PROBE_NODES;
    const int n = ftk_size_covered(s, wanted, s->drafting);
    if (few > 0 && n == 0) f->saving = ftk_size_price(s, few, s->drafting) - 1;
    ftk_tree_cut(&s->tree, n + 1);
}

bool ftk_size_rests(const ftk_session *s, ftk_family *f)
{
    ftk_measured *const m = &f->measured;
    if (m->idle >= REST_AFTER && m->idle % REST != 0) {
        m->idle++;
        return true;
    }
    return s->engine->credit < f->saving;
}

/* All that drafts seem to gain is in plain steps. Where every step drafts, none is run, and one that was measured
 * too dear, as other programs had the cores, would make wide passes look cheap for good. */
bool ftk_size_plain_due(const ftk_session *s)
{
    return s->engine->since_plain >= s->engine->next_plain;
}

void ftk_size_saw_pass(ftk_session *s, int rows, double seconds)
{
    ftk_engine *const e = s->engine;
    const double believed = ftk_cost_at(&e->cost, rows, s->kv.len);
    ftk_team_review(&e->forward.team, seconds, believed);
    ftk_cost_update(&e->cost, rows, s->kv.len, seconds);
    if (rows > 1) return;
    int *const next = &e->next_plain;
    e->since_plain = 0;
    e->timed_again = seconds < cheaper * believed ? e->timed_again + 1 : 0;
    if (e->timed_again % MOST_AT_ONCE > 0)
        *next = 0;
    else if (*next < FTK_FIRST_PLAIN)
        *next = FTK_FIRST_PLAIN;
    else if (*next < LONGEST_WITHOUT)
        *next *= 2;
}

void ftk_size_took(ftk_session *s, ftk_family *f, double seconds)
{
    s->stats.draft_seconds += seconds;
    s->drafting += ftk_cost_of_draft(&f->measured.seconds, seconds,
                                     ftk_cost_at(&s->engine->cost, 1, s->kv.len));
}
