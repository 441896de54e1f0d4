/* SPDX-License-Identifier: Apache-2.0
 * Log-probabilities of a session's tokens, by the model's own logits: kept place by place, of what
 * is emitted and, if asked for, of prompts. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/row.h"
#include "session.h"

ftk_softmax ftk_softmax_of(const float *x, int n)
{
    float max;
    if (!ftk_row_max(x, n, &max)) return (ftk_softmax){NAN, NAN};
    return (ftk_softmax){max, log(ftk_row_weigh(x, n, max, 1, NULL))};
}

void ftk_logprobs_keep(ftk_session *s, size_t place, const float *row)
{
    ftk_logprobs *const l = &s->logprobs;
    const int n_vocab = s->engine->model->hp.n_vocab;
    if (!l->own) return;
    int32_t id[FTK_MAX_LOGPROBS];
    ftk_logprob *const best = l->best + place * (size_t)l->n_best;
    const ftk_softmax all = ftk_softmax_of(row, n_vocab);
    const int n = ftk_top_k(row, n_vocab, l->n_best, id);
    l->own[place] = (float)ftk_softmax_log(&all, row[s->tokens[place]]);
    for (int i = 0; i < n; i++)
        best[i] = (ftk_logprob){id[i], (float)ftk_softmax_log(&all, row[id[i]])};
    for (int i = n; i < l->n_best; i++) best[i] = (ftk_logprob){-1, -INFINITY};
}

ftk_err ftk_logprobs_read(ftk_session *s, size_t n_rows, const float *rows)
{
    const size_t n_vocab = (size_t)s->engine->model->hp.n_vocab;
    for (size_t i = 0; i < n_rows; i++) {
        const size_t place = (size_t)s->kv.len + i + 1;
        if (!isnan(s->logprobs.own[place])) continue;
        ftk_logprobs_keep(s, place, rows + i * n_vocab);
        if (isnan(s->logprobs.own[place])) return ftk_not_finite(s->engine);
    }
    return FTK_OK;
}

void ftk_logprobs_forget(ftk_session *s, size_t from, size_t n)
{
    for (size_t i = 0; s->logprobs.own && i < n; i++) s->logprobs.own[from + i] = NAN;
}

/* Errors: NOMEM (what was stays). */
static ftk_err give_room(ftk_session *s, int n_best, bool prompt)
{
    const ftk_host *h = &s->host;
    const size_t n = (size_t)s->n_ctx;
    ftk_logprobs l = {.n_best = n_best, .prompt = prompt};
    l.own = ftk_alloc_raw(h, n, sizeof *l.own);
    l.best = ftk_alloc_raw(h, n * (size_t)n_best, sizeof *l.best);
    if (!l.own || !l.best) {
        ftk_release(h, l.best);
        ftk_release(h, l.own);
        return ftk_fail(h, FTK_ERR_NOMEM,
                        "no memory for log-probabilities of %d tokens: use a "
                        "smaller n_ctx",
                        s->n_ctx);
    }
    ftk_logprobs_close(s);
    s->logprobs = l;
    ftk_logprobs_forget(s, 0, n);
    return FTK_OK;
}

ftk_err ftk_session_set_logprobs(ftk_session *s, int n_best, bool prompt)
{
    if (n_best < -1 || n_best > FTK_MAX_LOGPROBS)
        return ftk_fail(&s->host, FTK_ERR_INVALID,
                        "%d log-probabilities of each token: give 0 to %d, or -1 for off", n_best,
                        FTK_MAX_LOGPROBS);
    if (n_best >= 0) return give_room(s, n_best, prompt);
    ftk_logprobs_close(s);
    return FTK_OK;
}

bool ftk_session_logprobs(const ftk_session *s, size_t place, float *own, const ftk_logprob **best)
{
    const ftk_logprobs *const l = &s->logprobs;
    if (!l->own || place >= s->n_tokens || isnan(l->own[place])) return false;
    *own = l->own[place];
    if (best) *best = l->best + place * (size_t)l->n_best;
    return true;
}

ftk_err ftk_logprobs_copy(ftk_session *to, const ftk_session *from)
{
    const ftk_logprobs *const l = &from->logprobs;
    if (!l->own) return FTK_OK;
    const ftk_err err = give_room(to, l->n_best, l->prompt);
    if (err != FTK_OK) return err;
    memcpy(to->logprobs.own, l->own, from->n_tokens * sizeof *l->own);
    memcpy(to->logprobs.best, l->best, from->n_tokens * (size_t)l->n_best * sizeof *l->best);
    return FTK_OK;
}

void ftk_logprobs_close(ftk_session *s)
{
    const ftk_host *h = &s->host;
    ftk_release(h, s->logprobs.best);
    ftk_release(h, s->logprobs.own);
    s->logprobs = (ftk_logprobs){.n_best = -1};
}
