/* SPDX-License-Identifier: Apache-2.0
 * What a session asks of its tokens: how they are drawn, what is added to their logits, what ends
 * an answer. All of it may change between steps; the sampler reads it. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/sort.h"
#include "model/tokenizer.h"
#include "session.h"

_Static_assert(sizeof(ftk_sampling) == 64, "it lies within structs of callers");

/* ---- sampling */

static ftk_err check_penalties(const ftk_sampling *p, const ftk_host *h)
{
    if (!(p->repeat_penalty > 0) || !isfinite(p->repeat_penalty))
        return ftk_fail(h, FTK_ERR_INVALID, "repeat penalty %g: give more than 0",
                        p->repeat_penalty);
    if (p->repeat_last < 0)
        return ftk_fail(h, FTK_ERR_INVALID, "repeat range %d: give 0 or more", p->repeat_last);
    if (!isfinite(p->presence_penalty))
        return ftk_fail(h, FTK_ERR_INVALID, "presence penalty %g: give a finite number",
                        p->presence_penalty);
    if (!isfinite(p->frequency_penalty))
        return ftk_fail(h, FTK_ERR_INVALID, "frequency penalty %g: give a finite number",
                        p->frequency_penalty);
    return FTK_OK;
}

ftk_err ftk_sampling_check(const ftk_sampling *p, const ftk_host *h)
{
    if (!(p->temperature >= 0) || !isfinite(p->temperature))
        return ftk_fail(h, FTK_ERR_INVALID, "temperature %g: give 0 or more", p->temperature);
    if (p->top_k < 0)
        return ftk_fail(h, FTK_ERR_INVALID, "top-k %d: give 1 or more, or 0 for off", p->top_k);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return ftk_fail(h, FTK_ERR_INVALID, "top-p %g: give more than 0 and at most 1", p->top_p);
    if (!(p->min_p >= 0 && p->min_p < 1))
        return ftk_fail(h, FTK_ERR_INVALID, "min-p %g: give 0 or more and less than 1", p->min_p);
    const ftk_err err = check_penalties(p, h);
    if (err != FTK_OK) return err;
    for (size_t i = 0; i < sizeof p->reserved / sizeof *p->reserved; i++)
        if (p->reserved[i] != 0)
            return ftk_fail(h, FTK_ERR_UNSUPPORTED,
                            "the sampling sets something that foretoken %s does not know",
                            ftk_version());
    return FTK_OK;
}

ftk_err ftk_session_take_sampling(ftk_session *s, const ftk_sampling *p)
{
    const ftk_host *h = &s->host;
    ftk_sampler *const to = &s->sampler;
    if (ftk_sampling_counts(p) && !to->counts &&
        !(to->counts = ftk_alloc(h, (size_t)to->n_vocab, sizeof *to->counts)))
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory to count what was generated");
    ftk_ids *const ends = &to->ends[FTK_ENDS_MODEL];
    if (p->min_tokens > 0) ends->id = ftk_tokenizer_ends(s->engine->model->tokenizer, &ends->n);
    s->cfg.sampling = to->cfg = *p;
    return FTK_OK;
}

ftk_err ftk_session_set_sampling(ftk_session *s, const ftk_sampling *sampling)
{
    const ftk_host *h = &s->host;
    if (!sampling) return ftk_fail(h, FTK_ERR_INVALID, "no sampling was given");
    const ftk_err err = ftk_sampling_check(sampling, h);
    return err == FTK_OK ? ftk_session_take_sampling(s, sampling) : err;
}

ftk_err ftk_session_set_prompt(ftk_session *s, size_t n)
{
    if (n > s->n_tokens)
        return ftk_fail(&s->host, FTK_ERR_INVALID, "a prompt of %zu tokens: the session has %zu", n,
                        s->n_tokens);
    s->sampler.n_prompt = n;
    return FTK_OK;
}

/* ---- lists */

/* A copy of n things; NULL without any. Errors: NOMEM. */
static ftk_err copy_list(const ftk_session *s, const void *list, size_t n, size_t size,
                         const char *what, void **copy)
{
    *copy = NULL;
    if (n == 0) return FTK_OK;
    *copy = ftk_alloc_raw(&s->host, n, size);
    if (!*copy) return ftk_fail(&s->host, FTK_ERR_NOMEM, "no memory for %zu %s", n, what);
    memcpy(*copy, list, n * size);
    return FTK_OK;
}

static int by_token(const void *a, const void *b, const void *ctx)
{
    (void)ctx;
    const int32_t x = ((const ftk_bias *)a)->token, y = ((const ftk_bias *)b)->token;
    return x < y ? -1 : x > y;
}

static ftk_err check_bias(const ftk_session *s, const ftk_bias *b)
{
    if (!isfinite(b->bias))
        return ftk_fail(&s->host, FTK_ERR_INVALID,
                        "the bias of token %d is %g: give a finite number", b->token, b->bias);
    return ftk_check_tokens(s->engine, &b->token, 1);
}

/* sorted: by token */
static ftk_err check_once(const ftk_session *s, const ftk_bias *sorted, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (sorted[i].token == sorted[i - 1].token)
            return ftk_fail(&s->host, FTK_ERR_INVALID, "token %d has two biases: give one",
                            sorted[i].token);
    return FTK_OK;
}

ftk_err ftk_session_set_bias(ftk_session *s, const ftk_bias *biases, size_t n)
{
    const ftk_host *h = &s->host;
    void *copy;
    for (size_t i = 0; i < n; i++) {
        const ftk_err err = check_bias(s, &biases[i]);
        if (err != FTK_OK) return err;
    }
    ftk_err err = copy_list(s, biases, n, sizeof *biases, "biases", &copy);
    if (err != FTK_OK) return err;
    if (n > 0) ftk_sort(copy, n, sizeof *biases, by_token, NULL);
    err = check_once(s, copy, n);
    if (err != FTK_OK) {
        ftk_release(h, copy);
        return err;
    }
    ftk_release(h, (void *)s->sampler.bias);
    s->sampler.bias = copy;
    s->sampler.n_bias = n;
    return FTK_OK;
}

ftk_err ftk_session_set_ends(ftk_session *s, const int32_t *tokens, size_t n)
{
    ftk_ids *const ends = &s->sampler.ends[FTK_ENDS_OWN];
    void *copy;
    ftk_err err = ftk_check_tokens(s->engine, tokens, n);
    if (err == FTK_OK) err = copy_list(s, tokens, n, sizeof *tokens, "end tokens", &copy);
    if (err != FTK_OK) return err;
    ftk_release(&s->host, (void *)ends->id);
    *ends = (ftk_ids){copy, n};
    return FTK_OK;
}

bool ftk_session_ends(const ftk_session *s, int32_t token)
{
    const ftk_ids *const own = &s->sampler.ends[FTK_ENDS_OWN];
    for (size_t i = 0; i < own->n; i++)
        if (own->id[i] == token) return true;
    return !s->cfg.ignore_end && ftk_model_is_end(s->engine->model, token);
}

/* ---- life */

ftk_err ftk_settings_copy(ftk_session *to, const ftk_session *from)
{
    const ftk_sampler *const f = &from->sampler;
    const ftk_ids *const ends = &f->ends[FTK_ENDS_OWN];
    to->sampler.n_prompt = f->n_prompt;
    ftk_err err = ftk_session_set_bias(to, f->bias, f->n_bias);
    if (err == FTK_OK) err = ftk_session_set_ends(to, ends->id, ends->n);
    return err == FTK_OK ? ftk_session_set_mask(to, from->mask, from->mask_ctx) : err;
}

void ftk_settings_close(ftk_session *s)
{
    const ftk_host *h = &s->host;
    ftk_release(h, (void *)s->sampler.ends[FTK_ENDS_OWN].id);
    ftk_release(h, (void *)s->sampler.bias);
    ftk_release(h, s->sampler.counts);
    ftk_release(h, s->sampler.allowed);
}
