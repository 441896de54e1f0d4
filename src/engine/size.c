/* SPDX-License-Identifier: Apache-2.0
 * How large drafts are: what the cost model says of them, and what the account of drafts covers;
 * and what the cost model learns of each pass. */
#include "session.h"

enum {
    REST_AFTER = 16, /* steps without a paying draft before proposing is put off */
    REST = 16,       /* then every so many steps a draft is considered again */
    PROBE = 64,      /* and every so many a small one is verified, to see whether things changed */
    PROBE_NODES = 4,
    LONGEST_WITHOUT = 256, /* passes without a plain one */
    MOST_AT_ONCE = 16,     /* plain ones in a row, to see what they take */
    LONGEST_NARROW = 1024, /* passes without a wider one that drafts could fill */
};

static const double cheaper = 0.8; /* than believed: a plain pass is timed again at once */

double ftk_session_pace(const ftk_session *s)
{
    const ftk_pace *const p = &s->engine->pace;
    return p->tokens > p->spent ? p->tokens / p->spent : 1;
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

/* ---- prices */

double ftk_size_token(const ftk_session *s)
{
    const ftk_company *const with = &s->engine->company;
    return with->plain / with->n;
}

double ftk_size_more(const ftk_session *s, int rows)
{
    const ftk_engine *const e = s->engine;
    return ftk_cost_more(&e->cost, &e->company, rows, s->kv.len);
}

/* Whether the account of drafts covers so many seconds. */
static bool covered(const ftk_engine *e, double seconds)
{
    return seconds <= e->credit * e->company.alone;
}

int ftk_size_covered(const ftk_session *s, int nodes, double drafting)
{
    while (nodes > 0 && !covered(s->engine, ftk_size_more(s, nodes) + drafting)) nodes--;
    return nodes;
}

/* ---- probes and rests */

/* Steps without a paying draft, with one that is none. */
static bool probes(int idle)
{
    return idle > 0 && idle % PROBE == 0;
}

int ftk_size_probe(const ftk_family *f)
{
    return probes(f->idle + 1) ? PROBE_NODES : 0;
}

int ftk_size_wanted(ftk_family *f, int pay, int there)
{
    if (4 * pay > 3 * f->reach && f->reach < FTK_MAX_NODES)
        f->reach *= 2;
    else if (4 * pay < f->reach && f->reach > FTK_REACH)
        f->reach /= 2;
    int *const idle = &f->idle;
    *idle = pay > 0 ? 0 : *idle + 1;
    f->saving = 0;
    if (pay > 0 || !probes(*idle)) return pay;
    return PROBE_NODES < there ? PROBE_NODES : there;
}

bool ftk_size_rests(const ftk_session *s, ftk_family *f)
{
    if (f->idle >= REST_AFTER && f->idle % REST != 0) {
        f->idle++;
        return true;
    }
    return s->engine->credit < f->saving;
}

/* ---- the drafts of a pass */

/* A draft, as far as the pass takes it: leading nodes. */
typedef struct part {
    ftk_session *s;
    int there, taken;
} part;

/* The one whose next node is the likeliest; NULL: there is none. */
static part *likeliest(part *all, int n)
{
    part *best = NULL;
    float most = -1;
    for (int i = 0; i < n; i++) {
        if (all[i].taken == all[i].there) continue;
        const float prob = all[i].s->tree.prob[all[i].taken + 1];
        if (prob <= most) continue;
        best = &all[i];
        most = prob;
    }
    return best;
}

/* Takes the likeliest nodes of all drafts one after the other, up to `most`. */
static void take(part *all, int n, int most)
{
    for (int i = 0; i < n; i++) all[i].taken = 0;
    for (part *p; most > 0 && (p = likeliest(all, n)); most--) p->taken++;
}

/* How many of them give the most expected tokens a second of the whole pass; *paid_for: how many
 * of those are covered, with the drafts themselves, which took `drafting` seconds. */
static int best_of(const ftk_engine *e, part *all, int n, int most, double drafting, int *paid_for)
{
    const ftk_company *const with = &e->company;
    ftk_width w = with->rows;
    double tokens = with->n, best_rate = tokens / with->plain;
    int best = 0, n_covered = 0;
    for (int i = 0; i < n; i++) all[i].taken = 0;
    for (int k = 1; k <= most; k++) {
        part *const p = likeliest(all, n);
        if (!p) break;
        w = ftk_width_with(w, 1, p->s->kv.len);
        tokens += p->s->tree.prob[++p->taken];
        const double more = ftk_cost_of(&e->cost, w) - with->seconds;
        if (covered(e, more + drafting)) n_covered = k;
        if (tokens / (with->plain + more) <= best_rate) continue;
        best_rate = tokens / (with->plain + more);
        best = k;
    }
    *paid_for = n_covered < best ? n_covered : best;
    return best;
}

/* What of the draft is verified, where so many nodes pay and fewer of them may be covered; now and
 * then a small probe. */
static void settle_part(part *p, int covered_nodes, double drafting)
{
    ftk_session *const s = p->s;
    ftk_family *const f = &s->family;
    const int wanted = ftk_size_wanted(f, p->taken, p->there);
    const int few = wanted < PROBE_NODES ? wanted : PROBE_NODES;
    const int n = p->taken > 0 ? covered_nodes : ftk_size_covered(s, wanted, drafting);
    if (few > 0 && n == 0)
        f->saving = (ftk_size_more(s, few) + s->drafting) / s->engine->company.alone;
    ftk_tree_cut(&s->tree, n + 1);
}

/* Tokens that the pass is expected to give with so many nodes. */
static double expected(const ftk_engine *e, part *all, int n, int nodes)
{
    double tokens = e->company.n;
    take(all, n, nodes);
    for (int i = 0; i < n; i++)
        for (int k = 1; k <= all[i].taken; k++) tokens += all[i].s->tree.prob[k];
    return tokens;
}

/* How many nodes to verify where `best` pay. A width that was measured too dear, as other programs
 * had the cores, would never be run, and so be taken to be that dear for good: now and then a pass
 * is made as wide as the next point of the cost model, where that would pay, and be covered by the
 * account of drafts, if further rows cost what those below do. */
static int widened(ftk_engine *e, part *all, int n, int best, int most, double drafting)
{
    const ftk_company *const with = &e->company;
    const int rows = with->rows.rows, point = ftk_cost_point(rows + best) + 1;
    int there = 0;
    for (int i = 0; i < n; i++) there += all[i].there;
    const int nodes = (1 << point) - rows;
    if (best == 0 || point == FTK_COST_POINTS || nodes > there || nodes > most) return best;
    if (e->since_width[point] < e->next_width[point]) return best;
    const double *const s = e->cost.seconds + point;
    const ftk_width now = ftk_width_with(with->rows, best, all[0].s->kv.len);
    const double more = ftk_cost_of(&e->cost, now) - with->seconds;
    const double hoped = more + (nodes - best) * (s[-1] - s[-2]) / (1 << (point - 2));
    const double gain = expected(e, all, n, nodes) / expected(e, all, n, best);
    if (gain * (with->plain + more) <= with->plain + hoped) return best;
    if (!covered(e, hoped + drafting)) return best;
    e->widened = point;
    return nodes;
}

/* Drafts whose size is given belong to the pass as it is. */
static void take_as_given(ftk_engine *e, const ftk_session *s)
{
    const int nodes = s->left.room > 0 ? s->left.room : s->tree.n - 1;
    e->company.rows = ftk_width_with(e->company.rows, nodes, s->kv.len);
    e->company.seconds = ftk_cost_of(&e->cost, e->company.rows);
}

/* What each node of the pass adds to it. */
static double each_of(const ftk_engine *e, double bare, ftk_session *const *s, int n)
{
    ftk_width w = e->company.rows;
    int nodes = 0;
    for (int i = 0; i < n; i++) {
        const int own = s[i]->left.room > 0 ? s[i]->left.room : s[i]->tree.n - 1;
        if (s[i]->open_draft) w = ftk_width_with(w, own, s[i]->kv.len);
        nodes += own;
    }
    return nodes > 0 ? (ftk_cost_of(&e->cost, w) - bare) / nodes : 0;
}

void ftk_size_drafts(ftk_session *const *sessions, int n)
{
    ftk_engine *const e = sessions[0]->engine;
    part all[FTK_PASS_SEQS];
    int nodes[FTK_PASS_SEQS], n_parts = 0, n_covered;
    double drafting = 0;
    const double bare = e->company.seconds;
    for (int i = 0; i < n; i++) {
        ftk_session *const s = sessions[i];
        drafting += s->drafting;
        if (s->open_draft)
            all[n_parts++] = (part){.s = s, .there = s->tree.n - 1};
        else
            take_as_given(e, s);
    }
    const int room = e->forward.max_rows - e->company.rows.rows;
    int best = best_of(e, all, n_parts, room, drafting, &n_covered);
    const int wider = widened(e, all, n_parts, best, room, drafting);
    if (wider > best) best = n_covered = wider;
    take(all, n_parts, n_covered);
    for (int i = 0; i < n_parts; i++) nodes[i] = all[i].taken;
    take(all, n_parts, best);
    for (int i = 0; i < n_parts; i++) settle_part(&all[i], nodes[i], drafting);
    const double each = each_of(e, bare, sessions, n);
    for (int i = 0; i < n; i++) sessions[i]->row_seconds = each;
}

/* ---- what passes take */

/* All that drafts seem to gain is in plain passes. Where every pass drafts, none is run, and one
 * that was measured too dear, as other programs had the cores, would make wide passes look cheap
 * for good. */
bool ftk_size_plain_due(const ftk_engine *e)
{
    return e->since_plain >= e->next_plain;
}

static void saw_width(ftk_engine *e, int point, bool is_cheaper)
{
    for (int i = 0; i < FTK_COST_POINTS; i++)
        if (e->since_width[i] < LONGEST_NARROW) e->since_width[i]++;
    e->since_width[point] = 0;
    if (e->widened > 0) e->since_width[e->widened] = 0; /* a mask may have cut it narrower */
    int *const next = &e->next_width[point];
    if (e->widened == point && !is_cheaper && *next < LONGEST_NARROW) *next *= 2;
    if (is_cheaper) *next = FTK_FIRST_WIDER;
    e->widened = 0;
}

void ftk_size_saw_pass(ftk_engine *e, ftk_width w, bool plain, double seconds)
{
    const double believed = ftk_cost_of(&e->cost, w);
    ftk_team_review(&e->forward.team, seconds, believed);
    ftk_cost_update(&e->cost, w, seconds);
    saw_width(e, ftk_cost_point(w.rows), seconds < cheaper * believed);
    if (!plain) return;
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

void ftk_size_saw_batch(const ftk_batch *b, double seconds)
{
    ftk_width w = {0};
    bool reads = false;
    for (int i = 0; i < b->n; i++) {
        if (b->seq[i].n_rows > FTK_MAX_NODES) return;
        w = ftk_width_and(w, b->seq[i].n_rows, b->session[i]->kv.len);
        w.mute += b->seq[i].first_logits;
        reads = reads || ftk_session_reads(b->session[i]);
    }
    b->engine->since_plain++;
    if (b->session[0]->n_joined > 0) return;
    ftk_size_saw_pass(b->engine, w, !reads && w.rows == b->n, seconds);
}

void ftk_size_took(ftk_session *s, ftk_family *f, double seconds)
{
    s->stats.draft_seconds += seconds;
    s->drafting += ftk_cost_of_draft(&f->measured->seconds, seconds,
                                     ftk_cost_at(&s->engine->cost, 1, s->kv.len));
}
