/* SPDX-License-Identifier: Apache-2.0
 *
 * What comes behind a pass: judge -> learn -> commit -> emit. */
#include <string.h>

#include "session.h"

/* What neither the verdict nor a drafter reads of a pass, where a device picks the rows' tokens
 * and holds features and states. */
unsigned ftk_session_spare(const ftk_session *s)
{
    const bool picked =
        ftk_sampler_plain(&s->sampler) && s->verifier->judge_ranked && !s->logprobs.own;
    return (picked ? FTK_SPARE_LOGITS : 0) | FTK_SPARE_FEATURES | FTK_SPARE_STATES;
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

/* Heads see states of the n tokens from `place` on, which rows path[0..n) of this session's have
 * left; NULL: the first n. */
static void show_heads(ftk_session *s, const int16_t *path, int n, size_t place)
{
    for (int i = 0; i < FTK_MAX_DRAFTERS; i++)
        for (int j = 0; s->nets[i] && j < n; j++)
            ftk_net_seq_see(s->nets[i], s->tokens, s->n_tokens, place + (size_t)j,
                            &s->engine->forward, s->pass_row + (size_t)(path ? path[j] : j));
}

/* n_read: rows of prompt in this pass, or 0. The last token is always left uncached, as the root
 * of the next tree: of a path that was judged, the root and the accepted nodes before the last
 * emitted token stay. */
static void emit(ftk_session *s, int n_read, const ftk_rows *rows, ftk_result *r)
{
    const int n = emitted(s, &r->finish);
    const size_t cached = (size_t)s->kv.len;
    if (n_read > 0)
        ftk_kv_truncate(&s->kv, s->kv.len + (n > 0 ? n_read : n_read - 1));
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
    show_heads(s, n_read > 0 ? NULL : s->verdict.path, s->kv.len - (int)cached, cached);
    if (n_read == 0 && n > 1) s->lead += (size_t)n - 1;
    if (s->limit != SIZE_MAX) s->limit -= (size_t)n;

    const int verified = s->left.room > 0 ? s->left.room : r->drafted;
    if (n_read == 0 && s->family.ops && !s->forced) ftk_ledger_settle(s, verified, n);
    s->stats.steps++;
    s->stats.emitted += (uint64_t)n;
    s->stats.drafted += (uint64_t)r->drafted;
    s->stats.accepted += (uint64_t)r->accepted;
    for (int d = 0; d < r->accepted; d++) s->stats.accepted_at[d]++;
}

/* Some of the prompt stays unread. */
static bool reads_on(const ftk_session *s, const ftk_pass_seq *seq)
{
    return ftk_session_reads(s) && (size_t)s->kv.len + (size_t)seq->n_rows < s->n_tokens;
}

/* Rows of a prompt that have logits for their log-probabilities alone: but for the prompt's last,
 * all. */
static size_t n_unjudged(const ftk_session *s, const ftk_pass_seq *seq)
{
    const int n = seq->n_rows - seq->first_logits;
    return ftk_session_reads(s) ? (size_t)(n - !reads_on(s, seq)) : 0;
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
    ftk_kv_truncate(&s->kv, s->kv.len + (n_read > 0 ? n_read - 1 : 0));
}

static ftk_err conclude(ftk_session *s, const ftk_pass_seq *seq, const ftk_rows *rows,
                        ftk_result *r)
{
    const bool prompt = ftk_session_reads(s);
    r->tokens = s->tokens + s->n_tokens;
    if (prompt) s->stats.prompt += (uint64_t)seq->n_rows;
    if (reads_on(s, seq)) {
        ftk_kv_truncate(&s->kv, s->kv.len + seq->n_rows);
        show_heads(s, NULL, s->engine->device ? 0 : seq->n_rows, (size_t)(s->kv.len - seq->n_rows));
        return FTK_OK;
    }
    const double start = ftk_engine_now(s->engine);
    const ftk_err err = judge(s, rows);
    s->stats.judge_seconds += prompt ? 0 : ftk_engine_now(s->engine) - start;
    if (err != FTK_OK) return ftk_not_finite(s->engine);
    const int n = before_forbidden(s, rows);
    if (n == 0) {
        end_here(s, prompt ? seq->n_rows : 0, r);
        return FTK_OK;
    }
    s->verdict.n_path = n - 1;
    ftk_draft_learn(s, rows, prompt);
    emit(s, prompt ? seq->n_rows : 0, rows, r);
    return FTK_OK;
}

ftk_err ftk_conclude(ftk_session *s, const ftk_pass_seq *seq, size_t row, size_t with_logits,
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
