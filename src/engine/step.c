/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop: propose -> forward -> judge -> learn -> commit -> emit. This is the only place that
 * sequences it; batch.c is what comes before the forward pass, conclude.c what comes after. */
#include "base/floats.h"
#include "base/mem.h"
#include "session.h"

/* What the rows of a drafter that decodes directly leave in the cache is not exact. */
static void decode(ftk_session *s)
{
    s->decoding = true;
    s->family.ops->decode(s->family.state, s->tokens, s->n_tokens);
    s->decoding = false;
    if (s->kv.len < s->exact_kv) s->exact_kv = s->kv.len;
}

/* Rows of the drafter join the pass of the one session. */
static void run_joined(ftk_session *s, const ftk_pass_seq *seq)
{
    ftk_forward *const f = &s->engine->forward;
    const ftk_family *const family = &s->family;
    const bool maps = f->device && family->ops->append_maps;
    ftk_forward_run_appending(
        f, seq,
        &(ftk_pass_append){.n = s->n_joined,
                           .layer = f->keep + 1,
                           .node = s->joined,
                           .states = family->ops->appended,
                           .ctx = family->state,
                           .maps = maps ? family->ops->append_maps(family->state) : NULL});
}

/* Seconds of the pass, as far as it was the model's; 0: that is not known. */
static double run(ftk_batch *b)
{
    ftk_session *const s = b->session[0];
    const double start = ftk_engine_now(b->engine);
    if (ftk_session_decodes_directly(s)) {
        decode(s);
        return 0;
    }
    if (s->n_joined > 0)
        run_joined(s, b->seq);
    else
        ftk_forward_run(&b->engine->forward, b->seq, b->n);
    return ftk_engine_now(b->engine) - start;
}

/* One pass for sessions that are planned. */
static ftk_err run_pass(ftk_batch *b, ftk_result *r)
{
    const double start = ftk_engine_now(b->engine);
    double seconds = run(b), drafting = 0;
    ftk_err first = ftk_forward_check(&b->engine->forward);
    for (int i = 0; i < b->n && first != FTK_OK; i++) r[i].err = first;
    if (first != FTK_OK) return first;
    for (int i = 0; i < b->n; i++)
        if (b->session[i]->left.room > 0) drafting += ftk_finish_take(b->session[i]);
    if (seconds > 0) ftk_size_saw_batch(b, seconds - drafting);
    seconds = ftk_engine_now(b->engine) - start - drafting;
    size_t row = 0, with_logits = 0;
    for (int i = 0; i < b->n; i++) {
        ftk_session *const s = b->session[i];
        const ftk_pass_seq *const seq = &b->seq[i];
        if (!ftk_session_reads(s)) s->stats.forward_seconds += seconds;
        r[i].err = ftk_conclude(s, seq, row, with_logits, &r[i]);
        if (first == FTK_OK) first = r[i].err;
        row += (size_t)seq->n_rows;
        with_logits += (size_t)(seq->n_rows - seq->first_logits);
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
        ftk_batch b;
        bool was_reading[FTK_PASS_SEQS];
        ftk_result r[FTK_PASS_SEQS] = {0};
        const double start = ftk_engine_now(sessions[0]->engine);
        const size_t taken = ftk_batch_admit(&b, sessions + done, n - done, results + done);
        if (first == FTK_OK) first = b.err;
        for (int i = 0; i < b.n; i++) was_reading[i] = ftk_session_reads(b.session[i]);
        if (b.n > 0) {
            ftk_err err = ftk_batch_plan(&b, n == 1);
            for (int i = 0; i < b.n && err != FTK_OK; i++) r[i].err = err;
            if (err == FTK_OK) err = run_pass(&b, r);
            if (first == FTK_OK) first = err;
        }
        const double seconds = ftk_engine_now(sessions[0]->engine) - start;
        for (int i = 0; i < b.n; i++) {
            results[done + b.at[i]] = r[i];
            account(b.session[i], was_reading[i], seconds);
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
    const ftk_floats floats = ftk_floats_enter();
    err = step(sessions, n, results);
    ftk_floats_leave(&floats);
    return err;
}
