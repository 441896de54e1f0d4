/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop: propose -> forward -> judge -> commit -> learn -> emit. This is the only place that
 * sequences it; plan() is what comes before the forward pass, conclude() what comes after.
 */
#include <string.h>

#include "base/clock.h"
#include "base/floats.h"
#include "base/mem.h"
#include "session.h"

static const double ALLOWANCE =
    0.015; /* of a plain step; what the costs do not see has room below 0.02 */
static const double MOST_CREDIT = 16; /* plain steps */
static const double MOST_DEBT =
    2; /* plain steps: a program that takes the core away is no draft's fault */
static const float LEAST = 0.02f; /* probability of a guess that successors are asked for */
static const double NEXT_TO_NOTHING = 0.005; /* of a plain step, to read one row */
/* In plain steps: credit below which it is kept for drafts; what reading may lose a step, and have saved. */
static const double COMFORT = 2, EARNED = 0.004, MOST_BALANCE = 2;
static const double MEMORY = 0.985; /* of what steps gave and cost, a step later */

/* The path of a chain. */
static const int16_t straight[FTK_MAX_NODES] = {
#define EIGHT(i) i, i + 1, i + 2, i + 3, i + 4, i + 5, i + 6, i + 7
    EIGHT(0),  EIGHT(8),  EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40),  EIGHT(48),  EIGHT(56),
    EIGHT(64), EIGHT(72), EIGHT(80), EIGHT(88), EIGHT(96), EIGHT(104), EIGHT(112), EIGHT(120)};
#undef EIGHT

static bool reading(const ftk_session *s)
{
    return s->n_tokens - (size_t)s->kv.len > 1;
}

/* More of a prompt is unread than the device takes at once in its wide way: such a piece has a pass of
 * its own. The last piece, which gets logits, is never one. */
static bool reading_wide(const ftk_session *s)
{
    const int wide = s->logprobs.prompt ? 0 : s->engine->wide;
    return wide > 0 && s->n_tokens - (size_t)s->kv.len > (size_t)wide;
}

static ftk_family *turn(ftk_session *s)
{
    return s->n_families > 0 ? &s->family[s->turn] : NULL;
}

static void keep_pace(ftk_pace *p, double memory, int emitted, double spent)
{
    p->tokens = p->tokens * memory + emitted;
    p->spent = p->spent * memory + spent;
}

/* What a step cost and gave. However wrong the estimates are, drafts lose no more than what they have
 * gained before, FTK_CREDIT, and ALLOWANCE of the time: plain steps earn a little credit, drafts what they
 * gained, and a draft, be it verified or not, must be covered by it. There is one account for an engine:
 * where luck is bad for a while, as at the start of many a text, a session of its own would have nothing
 * to go on with, and lose more by what it leaves undrafted than by what it drafts. */
static void settle(ftk_session *s, ftk_family *f, int nodes, int emitted)
{
    ftk_measured *const m = &f->measured;
    double *const credit = &s->engine->credit;
    const double spent = ftk_size_price(s, nodes, s->drafting);
    if (s->drafting > 0) ftk_choose_compare(s, m, spent, emitted);
    const bool plain = nodes == 0 && s->drafting == 0;
    m->tokens = m->tokens * MEMORY + emitted;
    m->spent = m->spent * MEMORY + spent;
    keep_pace(&s->pace, MEMORY, emitted, spent);
    keep_pace(&s->usual, FTK_LONG_MEMORY, emitted, spent);
    *credit += plain ? ALLOWANCE : emitted - spent;
    if (*credit > MOST_CREDIT) *credit = MOST_CREDIT;
    if (*credit < -MOST_DEBT) *credit = -MOST_DEBT;
    s->engine->since_plain++;
    f->steps++;
    f->emitted += (uint64_t)emitted;
}

/* What the rows that join the pass cost more than the pass without them. */
static double cost_of_joining(const ftk_session *s)
{
    const ftk_engine *e = s->engine;
    const int rows = s->tree.n;
    return ftk_cost_joined(&e->cost, rows, rows + s->n_joined, s->kv.len,
                           ftk_target_share(e->model, e->forward.keep + 1)) -
           ftk_cost_at(&e->cost, rows, s->kv.len);
}

/* Asks the drafter which rows are to join the pass. */
static void append(ftk_session *s, const ftk_family *f)
{
    if (!f->ops->append) return;
    const int max_rows = s->engine->forward.max_rows;
    int most = FTK_MAX_NODES < max_rows ? FTK_MAX_NODES : max_rows;
    if (most > s->room) most = s->room;
    most -= s->tree.n;
    if (most <= 0) return;
    s->n_joined = f->ops->append(f->state, &s->tree, most, s->joined);
    if (s->n_joined > 0) s->drafting += cost_of_joining(s);
}

/* Of every step, as every step shows what retrieval is worth; next to nothing, and no family's cost. Then
 * what retrieval alone would draft, where families are to be compared with it. */
static void retrieve(ftk_session *s)
{
    const ftk_retrieval *const r = &s->retrieval;
    const double start = ftk_now();
    ftk_retrieval_ask(&s->retrieval, s->tokens, s->n_tokens);
    if (s->n_families > 1) {
        float prob[FTK_REACH], so_far = 1;
        int n = 0;
        for (; n < r->n && n < FTK_REACH; n++) prob[n] = so_far *= ftk_retrieval_goes_on(r, n);
        s->retrieved = ftk_cost_best(&s->engine->cost, prob, n, s->kv.len);
        s->doubt = n > 0 ? 1 - prob[0] : 1;
    }
    s->stats.draft_seconds += ftk_now() - start;
}

/* What a row more adds to a pass that has some, in plain steps: a guess that is less likely never pays. */
static float price_of_row(const ftk_session *s)
{
    enum { FEW = 4, MORE = 12 };
    const ftk_cost *const c = &s->engine->cost;
    const int depth = s->kv.len;
    const double added = ftk_cost_at(c, MORE, depth) - ftk_cost_at(c, FEW, depth);
    return (float)(added / (MORE - FEW) / ftk_cost_at(c, 1, depth));
}

/* joined: rows joined the last pass for the sake of this draft. */
static void propose(ftk_session *s, bool alone, bool joined)
{
    ftk_tree_init(&s->tree, s->tokens[s->n_tokens - 1]);
    s->drafting = 0;
    if (s->n_families == 0) return;
    retrieve(s);
    s->forced = ftk_session_force(s);
    if (s->forced) return;
    const float least = ftk_session_sizes_itself(s) ? price_of_row(s) : 0;
    s->successors.least = least > LEAST ? least : LEAST;
    ftk_choose(s);
    ftk_family *const f = turn(s);
    const int most = ftk_size_ceiling(s, f);
    if (most == 0 || (ftk_session_sizes_itself(s) && !joined && ftk_size_rests(s, f))) return;
    if (ftk_session_sizes_itself(s) && alone && ftk_size_plain_due(s)) return;
    ftk_finish_allow(s, alone);
    const double start = ftk_now();
    f->ops->propose(f->state, s->tokens, s->n_tokens, most, &s->tree);
    s->left.seconds = ftk_now() - start;
    if (s->left.room > 0) return;
    ftk_size_took(s, f, s->left.seconds);
    if (ftk_session_sizes_itself(s)) ftk_size_draft(s, f);
    ftk_session_cut_forbidden(s);
    if (alone) append(s, f);
}

static bool wants(const ftk_session *s, unsigned what)
{
    for (int i = 0; i < s->n_families; i++)
        if (s->family[i].ops->wants & what) return true;
    return false;
}

/* What the table of successors gave in this step, in plain steps: the tokens that came thanks to it alone,
 * less what it took to verify all such nodes. */
static double given_by_table(const ftk_session *s)
{
    const ftk_tree *const t = &s->tree;
    const ftk_cost *const c = &s->engine->cost;
    const int depth = s->kv.len;
    int nodes = 0, tokens = 0;
    for (int i = 1; i < t->n; i++) nodes += t->recycled[i];
    for (int i = 1; i <= s->verdict.n_path; i++) tokens += t->recycled[s->verdict.path[i]];
    const double took = ftk_cost_at(c, t->n, depth) - ftk_cost_at(c, t->n - nodes, depth);
    return tokens / ftk_session_pace(s) - took / ftk_cost_at(c, 1, depth);
}

/* The table learns from every step, whoever drafted, and for nobody's account but drafts'. Where reading a
 * row costs something it is read as long as that pays. */
static void recycle(ftk_session *s, const ftk_rows *rows, bool prompt)
{
    if (!wants(s, FTK_WANT_SUCCESSORS)) return;
    ftk_successors *const table = &s->successors;
    ftk_successor_rates *const r = &table->rates;
    const ftk_verdict *const v = &s->verdict;
    double *const credit = &s->engine->credit;
    const double start = ftk_now(), plain = ftk_cost_at(&s->engine->cost, 1, s->kv.len);
    int n_read = 0;
    const bool cheap = r->took <= NEXT_TO_NOTHING * plain;
    if (!prompt) ftk_successors_settle(table, s->tree.token[0], v->token, (size_t)v->n_path + 1);
    if (cheap || (r->balance > 0 && *credit > COMFORT))
        n_read = ftk_successors_read(table, &s->tree, v, rows, cheap);
    if (prompt) return;
    s->stats.draft_seconds += ftk_now() - start;
    const double cost =
        n_read * r->took / plain; /* as usual: another program may have had the core */
    *credit -= cost;
    r->balance += EARNED + given_by_table(s) - cost;
    if (r->balance > MOST_BALANCE) r->balance = MOST_BALANCE;
    if (r->balance < -MOST_BALANCE) r->balance = -MOST_BALANCE;
}

/* What is shared learns from every step. Every family that wants to see all passes sees this one, and the
 * one whose tree it was. */
static void learn(ftk_session *s, const ftk_rows *rows, bool prompt)
{
    ftk_retrieval_settle(&s->retrieval, s->n_tokens, s->verdict.token,
                         (size_t)s->verdict.n_path + 1);
    recycle(s, rows, prompt);
    for (int i = 0; i < s->n_families; i++) {
        const ftk_family *f = &s->family[i];
        const bool own = i == s->turn && s->tree.n > 1 && !s->forced;
        if (!own && !(f->ops->wants & ~(unsigned)FTK_WANT_SUCCESSORS)) continue;
        const double start = ftk_now();
        f->ops->learn(f->state, s->tokens, s->n_tokens, &s->tree, &s->verdict, rows);
        const double seconds = ftk_now() - start;
        if (prompt) continue;
        s->stats.draft_seconds += seconds;
        if (own || (i == s->turn && s->drafting > 0)) s->drafting += seconds;
    }
}

/* What neither the verdict nor a drafter reads of a pass, where a device picks the rows' tokens and holds
 * features and states. */
unsigned ftk_session_spare(const ftk_session *s)
{
    const bool picked =
        ftk_sampler_plain(&s->sampler) && s->verifier->judge_ranked && !s->logprobs.own;
    return (picked ? FTK_SPARE_LOGITS : 0) | FTK_SPARE_FEATURES | FTK_SPARE_STATES;
}

/* The rows of this session in the next pass, which it may have alone: a piece of its prompt, or a
 * tree. */
static ftk_err plan(ftk_session *s, bool alone, ftk_pass_seq *seq)
{
    const bool joined = s->n_joined > 0;
    s->n_joined = s->left.room = 0;
    s->forced = false;
    if (reading(s)) {
        const size_t left = s->n_tokens - (size_t)s->kv.len;
        const int most = reading_wide(s) ? s->engine->wide : FTK_MAX_NODES;
        const int rows = left < (size_t)most ? (int)left : most;
        const int first = (size_t)rows == left ? rows - 1 : rows;
        ftk_tree_init(&s->tree, s->tokens[s->n_tokens - 1]);
        *seq = (ftk_pass_seq){.kv = &s->kv,
                              .n_rows = rows,
                              .token = s->tokens + s->kv.len,
                              .first_logits = s->logprobs.prompt ? 0 : first};
    } else {
        propose(s, alone, joined);
        *seq = (ftk_pass_seq){.kv = &s->kv,
                              .n_rows = s->tree.n,
                              .token = s->tree.token,
                              .depth = s->tree.depth,
                              .mask = (const uint64_t(*)[2])s->tree.mask};
        if (s->left.room > 0)
            *seq = (ftk_pass_seq){
                .kv = &s->kv, .n_rows = 1 + s->left.room, .left = &s->left.finishing};
    }
    seq->spare = ftk_session_spare(s);
    seq->sampling = &s->cfg.sampling;
    return ftk_kv_reserve(&s->kv, seq->n_rows + s->n_joined);
}

/* How many of the verdict's tokens are emitted: up to an end token, the limit, the context. */
static int emitted(const ftk_session *s, ftk_finish *finish)
{
    const ftk_verdict *v = &s->verdict;
    const size_t room = (size_t)s->n_ctx - s->n_tokens;
    const size_t most = s->limit < room ? s->limit : room;
    *finish = FTK_FINISH_NONE;
    int n = 0;
    while (n <= v->n_path && (size_t)n < most && *finish == FTK_FINISH_NONE) {
        if (ftk_session_ends(s, v->token[n])) *finish = FTK_FINISH_END;
        n++;
    }
    if (*finish == FTK_FINISH_NONE && (size_t)n == most)
        *finish = s->limit <= room ? FTK_FINISH_LIMIT : FTK_FINISH_CONTEXT;
    if (*finish == FTK_FINISH_NONE && s->sampler.stuck) *finish = FTK_FINISH_FORBIDDEN;
    return n;
}

/* Heads see states of the n tokens from `place` on, which rows path[0..n) of this session's have left. */
static void show_heads(ftk_session *s, const int16_t *path, int n, size_t place)
{
    for (int i = 0; i < FTK_MAX_DRAFTERS; i++)
        for (int j = 0; s->nets[i] && j < n; j++)
            ftk_net_seq_see(s->nets[i], s->tokens, s->n_tokens, place + (size_t)j,
                            &s->engine->forward, s->pass_row + (size_t)path[j]);
}

/* n_read: rows of prompt in this pass, or 0. The last token is always left uncached, as the root
 * of the next tree: of a path that was judged, the root and the accepted nodes before the last
 * emitted token stay. */
static void emit(ftk_session *s, int n_read, const ftk_rows *rows, ftk_result *r)
{
    const int n = emitted(s, &r->finish);
    const size_t cached = (size_t)s->kv.len;
    if (n_read > 0)
        ftk_kv_commit(&s->kv, straight, n > 0 ? n_read : n_read - 1);
    else
        ftk_kv_commit(&s->kv, s->verdict.path, n);
    memcpy(s->tokens + s->n_tokens, s->verdict.token, (size_t)n * sizeof *s->tokens);
    for (int i = 0; i < n && s->logprobs.own; i++)
        ftk_logprobs_keep(s, s->n_tokens + (size_t)i,
                          rows->logits + (size_t)s->verdict.path[i] * (size_t)s->sampler.n_vocab);
    r->n_tokens = (size_t)n;
    r->drafted = s->tree.n - 1;
    r->accepted = s->verdict.n_path < n ? s->verdict.n_path : n;
    s->n_tokens += (size_t)n;
    show_heads(s, n_read > 0 ? straight : s->verdict.path, s->kv.len - (int)cached, cached);
    if (n_read == 0 && n > 1) s->lead += (size_t)n - 1;
    if (s->limit != SIZE_MAX) s->limit -= (size_t)n;

    const int verified = s->left.room > 0 ? s->left.room : r->drafted;
    if (n_read == 0 && turn(s) && !s->forced) settle(s, turn(s), verified, n);
    s->stats.steps++;
    s->stats.emitted += (uint64_t)n;
    s->stats.drafted += (uint64_t)r->drafted;
    s->stats.accepted += (uint64_t)r->accepted;
    for (int d = 0; d < r->accepted; d++) s->stats.accepted_at[d]++;
}

/* Some of the prompt stays unread. */
static bool reads_on(const ftk_session *s, const ftk_pass_seq *seq)
{
    return reading(s) && (size_t)s->kv.len + (size_t)seq->n_rows < s->n_tokens;
}

/* Rows of a prompt that have logits for their log-probabilities alone: but for the prompt's last,
 * all. */
static size_t n_unjudged(const ftk_session *s, const ftk_pass_seq *seq)
{
    const int n = seq->n_rows - seq->first_logits;
    return reading(s) ? (size_t)(n - !reads_on(s, seq)) : 0;
}

static ftk_err judge(ftk_session *s, const ftk_rows *rows)
{
    ftk_sampler *const sampler = &s->sampler;
    sampler->stuck = false;
    return rows->ranked ? s->verifier->judge_ranked(&s->tree, rows->ranked, &s->verdict)
                        : s->verifier->judge(&s->tree, rows->logits, sampler, s->tokens,
                                             s->n_tokens, &s->verdict);
}

/* How many of the verdict's tokens stand before the first place where none may; stuck tells whether
 * there is such a place. Rows beside the path may have been judged, too. */
static int before_forbidden(ftk_session *s, const ftk_rows *rows)
{
    const ftk_verdict *const v = &s->verdict;
    ftk_sampler *const sampler = &s->sampler;
    const size_t n_vocab = (size_t)sampler->n_vocab;
    if (!sampler->stuck) return v->n_path + 1;
    sampler->stuck = false;
    for (int i = 0; i <= v->n_path; i++) {
        int32_t token;
        ftk_sampler_pick(sampler, rows->logits + (size_t)v->path[i] * n_vocab, s->tokens,
                         s->n_tokens, v->token, i, s->n_tokens + (size_t)i, &token);
        if (sampler->stuck) return i;
    }
    return v->n_path + 1;
}

/* Nothing may follow the last token. */
static void end_here(ftk_session *s, int n_read, ftk_result *r)
{
    r->finish = FTK_FINISH_FORBIDDEN;
    r->drafted = s->tree.n - 1;
    s->stats.steps++;
    s->stats.drafted += (uint64_t)r->drafted;
    ftk_kv_commit(&s->kv, straight, n_read > 0 ? n_read - 1 : 0);
}

static ftk_err conclude(ftk_session *s, const ftk_pass_seq *seq, const ftk_rows *rows,
                        ftk_result *r)
{
    const bool prompt = reading(s);
    r->tokens = s->tokens + s->n_tokens;
    if (prompt) s->stats.prompt += (uint64_t)seq->n_rows;
    if (reads_on(s, seq)) {
        ftk_kv_truncate(&s->kv, s->kv.len + seq->n_rows);
        show_heads(s, straight, s->engine->device ? 0 : seq->n_rows,
                   (size_t)(s->kv.len - seq->n_rows));
        return FTK_OK;
    }
    const double start = ftk_now();
    const ftk_err err = judge(s, rows);
    s->stats.judge_seconds += prompt ? 0 : ftk_now() - start;
    if (err != FTK_OK) return ftk_not_finite(s->engine);
    const int n = before_forbidden(s, rows);
    if (n == 0) {
        end_here(s, prompt ? seq->n_rows : 0, r);
        return FTK_OK;
    }
    s->verdict.n_path = n - 1;
    learn(s, rows, prompt);
    emit(s, prompt ? seq->n_rows : 0, rows, r);
    return FTK_OK;
}

/* The drafter's own way to the next token, LOSSY. What its rows leave in the cache is not exact. */
static bool direct(ftk_session *s)
{
    return turn(s) && turn(s)->ops->decode && !reading(s);
}

static void decode(ftk_session *s)
{
    s->decoding = true;
    turn(s)->ops->decode(turn(s)->state, s->tokens, s->n_tokens);
    s->decoding = false;
    if (s->kv.len < s->exact_kv) s->exact_kv = s->kv.len;
}

/* The rest of a pass that drafting has begun, if it has, and if nobody wants what was left behind. */
static bool resume(ftk_session *s, const ftk_pass_seq *seq)
{
    const ftk_family *f = turn(s);
    if (reading(s) || s->forced || !f || !f->ops->resume || wants(s, FTK_WANT_STATES) ||
        s->engine->forward.n_taps > 0)
        return false;
    float *states;
    int n_ready;
    const int first = f->ops->resume(f->state, &s->tree, &n_ready, &states);
    if (first == 0) return false;
    ftk_forward_resume(&s->engine->forward, seq, first, n_ready, states);
    s->stats.layers_saved += (uint64_t)first * (uint64_t)n_ready;
    return true;
}

static void run_forward(ftk_session *const *s, const ftk_pass_seq *seqs, int n)
{
    ftk_forward *f = &s[0]->engine->forward;
    if (n > 1 || s[0]->n_joined == 0) {
        ftk_forward_run(f, seqs, n);
        return;
    }
    const ftk_family *const family = turn(s[0]);
    const bool maps = f->device && family->ops->append_maps;
    ftk_forward_run_appending(
        f, seqs,
        &(ftk_pass_append){.n = s[0]->n_joined,
                           .layer = f->keep + 1,
                           .node = s[0]->joined,
                           .states = family->ops->appended,
                           .ctx = family->state,
                           .maps = maps ? family->ops->append_maps(family->state) : NULL});
}

static void see_cost(ftk_session *s, int rows, double seconds)
{
    ftk_engine *e = s->engine;
    const int depth = s->kv.len;
    if (s->n_joined == 0) {
        ftk_size_saw_pass(s, rows, seconds);
        return;
    }
    const double share = ftk_target_share(e->model, e->forward.keep + 1);
    const int all = rows + s->n_joined;
    ftk_team_review(&e->forward.team, seconds, ftk_cost_joined(&e->cost, rows, all, depth, share));
    ftk_cost_update_joined(&e->cost, rows, all, depth, share, seconds);
}

/* What the pass has left of a session's rows, which begin at `row` of all rows and at `with_logits`
 * of those with logits. */
static ftk_err take_rows(ftk_session *s, const ftk_pass_seq *seq, size_t row, size_t with_logits,
                         ftk_result *r)
{
    const ftk_forward *f = &s->engine->forward;
    const size_t n_embd = (size_t)s->engine->model->hp.n_embd;
    const bool spared = seq->spare & FTK_SPARE_LOGITS;
    const size_t unjudged = n_unjudged(s, seq), judged = with_logits + unjudged;
    const size_t first_row = row + (size_t)seq->first_logits + unjudged;
    if (unjudged > 0) {
        const ftk_rows read = ftk_rows_of(f, spared, with_logits);
        const ftk_err err = ftk_logprobs_read(s, unjudged, read.logits);
        if (err != FTK_OK) return err;
    }
    const ftk_rows joined = ftk_rows_of(f, spared, (size_t)s->tree.n);
    const ftk_rows said = ftk_rows_of(f, spared, judged);
    const ftk_rows rows = {.logits = said.logits,
                           .ranked = said.ranked,
                           .features = f->device ? NULL : f->features + judged * n_embd,
                           .states =
                               f->device || f->keep < 0 ? NULL : f->states + first_row * n_embd,
                           .appended = s->n_joined ? &joined : NULL};
    s->pass_row = row;
    s->first_row[FTK_HELD_FEATURE] = (int)judged;
    s->first_row[FTK_HELD_STATE] = (int)first_row;
    return conclude(s, seq, &rows, r);
}

/* One pass for sessions [0, n), all planned. */
static ftk_err run_pass(ftk_session *const *s, const ftk_pass_seq *seqs, int n, ftk_result *r)
{
    ftk_engine *e = s[0]->engine;
    const double start = ftk_now();
    bool whole = false;
    if (direct(s[0]))
        decode(s[0]);
    else if (n == 1 && resume(s[0], seqs))
        s[0]->drafting += ftk_now() - start - ftk_cost_at(&e->cost, seqs[0].n_rows, s[0]->kv.len);
    else
        whole = true;
    if (whole) run_forward(s, seqs, n);
    double forward = ftk_now() - start;
    ftk_err first = ftk_forward_check(&e->forward);
    for (int i = 0; i < n && first != FTK_OK; i++) r[i].err = first;
    if (first != FTK_OK) return first;
    for (int i = 0; i < n; i++)
        if (s[i]->left.room > 0) forward -= ftk_finish_take(s[i]);
    if (whole && n == 1 && !reading(s[0])) see_cost(s[0], seqs[0].n_rows, forward);
    size_t row = 0, with_logits = 0;
    for (int i = 0; i < n; i++) {
        if (!reading(s[i])) s[i]->stats.forward_seconds += forward;
        r[i].err = take_rows(s[i], &seqs[i], row, with_logits, &r[i]);
        if (first == FTK_OK) first = r[i].err;
        row += (size_t)seqs[i].n_rows;
        with_logits += (size_t)(seqs[i].n_rows - seqs[i].first_logits);
    }
    return first;
}

static ftk_err check(ftk_session *const *s, size_t n, ftk_result *r)
{
    ftk_err err = FTK_OK;
    for (size_t i = 0; i < n; i++) {
        r[i] = (ftk_result){.tokens = s[i]->tokens + s[i]->n_tokens};
        const ftk_host *h = &s[i]->engine->host;
        if (s[i]->engine != s[0]->engine)
            r[i].err = ftk_fail(h, FTK_ERR_INVALID, "sessions of one step must share an engine");
        else if (s[i]->stepping)
            r[i].err = ftk_fail(h, FTK_ERR_INVALID, "a session was given twice in one step");
        else if (s[i]->n_tokens == 0)
            r[i].err = ftk_fail(h, FTK_ERR_INVALID, "the session is empty: append a token first");
        s[i]->stepping = true;
        if (err == FTK_OK) err = r[i].err;
    }
    for (size_t i = 0; i < n; i++) s[i]->stepping = false;
    return err;
}

static bool has_room(const ftk_session *s, ftk_result *r)
{
    if (s->limit == 0 && !reading(s))
        r->finish = FTK_FINISH_LIMIT;
    else if (s->n_tokens == (size_t)s->n_ctx && !reading(s))
        r->finish = FTK_FINISH_CONTEXT;
    return r->finish == FTK_FINISH_NONE;
}

/* Whether it has to let others have the next page first. With no lead left it takes it, or fails. */
static bool waits(ftk_session *s)
{
    s->room = ftk_session_room(s);
    if (reading(s)) return false;
    if (s->room < 1 && s->lead > 0) {
        s->lead--;
        return true;
    }
    if (s->room < 1) s->room = 1;
    return false;
}

/* Plans sessions from `from` on until a pass is full; returns the number of sessions taken. One that is
 * decoded directly is alone in its pass. */
static size_t gather(ftk_session *const *s, size_t n, ftk_result *r, ftk_session **in_pass,
                     ftk_pass_seq *seqs, size_t *at, int *n_seqs, ftk_err *first)
{
    const int max_rows = s[0]->engine->forward.max_rows;
    size_t i = 0;
    int rows = 0;
    *n_seqs = 0;
    for (; i < n && *n_seqs < FTK_PASS_SEQS; i++) {
        if (rows + (reading_wide(s[i]) ? max_rows : FTK_MAX_NODES) > max_rows) break;
        if (!has_room(s[i], &r[i])) continue;
        if (*n_seqs > 0 && (direct(s[i]) || direct(in_pass[0]))) break;
        if (waits(s[i])) continue;
        r[i].err = plan(s[i], n == 1, &seqs[*n_seqs]);
        if (r[i].err != FTK_OK) {
            if (*first == FTK_OK) *first = r[i].err;
            continue;
        }
        rows += seqs[*n_seqs].n_rows > FTK_MAX_NODES ? max_rows : seqs[*n_seqs].n_rows;
        in_pass[*n_seqs] = s[i];
        at[(*n_seqs)++] = i;
    }
    return i;
}

static void account(ftk_session *s, bool was_reading, double seconds)
{
    if (was_reading)
        s->stats.prefill_seconds += seconds;
    else
        s->stats.decode_seconds += seconds;
}

static ftk_err step(ftk_session *const *sessions, size_t n, ftk_result *results)
{
    ftk_err first = FTK_OK;
    for (size_t done = 0; done < n;) {
        ftk_session *in_pass[FTK_PASS_SEQS];
        ftk_pass_seq seqs[FTK_PASS_SEQS];
        size_t at[FTK_PASS_SEQS];
        bool was_reading[FTK_PASS_SEQS];
        ftk_result r[FTK_PASS_SEQS] = {0};
        int n_seqs;
        const double start = ftk_now();
        const size_t taken =
            gather(sessions + done, n - done, results + done, in_pass, seqs, at, &n_seqs, &first);
        for (int i = 0; i < n_seqs; i++) was_reading[i] = reading(in_pass[i]);
        if (n_seqs > 0) {
            const ftk_err err = run_pass(in_pass, seqs, n_seqs, r);
            if (first == FTK_OK) first = err;
        }
        const double seconds = ftk_now() - start;
        for (int i = 0; i < n_seqs; i++) {
            results[done + at[i]] = r[i];
            account(in_pass[i], was_reading[i], seconds);
        }
        done += taken;
    }
    return first;
}

ftk_err ftk_step(ftk_session *const *sessions, size_t n, ftk_result *results)
{
    ftk_err err = check(sessions, n, results);
    if (err != FTK_OK || n == 0) return err;
    ftk_engine *const e = sessions[0]->engine;
    e->n_calls++;
    for (size_t i = 0; i < n; i++) sessions[i]->last_call = e->n_calls;
    ftk_floats floats;
    ftk_floats_enter(&floats);
    err = step(sessions, n, results);
    ftk_floats_leave(&floats);
    return err;
}
