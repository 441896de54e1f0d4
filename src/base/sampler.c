/* SPDX-License-Identifier: Apache-2.0
 *
 * From a row of logits to a token. The random numbers are Philox4x32-10: Salmon, Moraes, Dror and
 * Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
 */
#include "base/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/row.h"

double ftk_uniform_sub(uint64_t seed, uint64_t counter, uint32_t sub)
{
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), sub, 0};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = UINT64_C(0xD2511F53) * c[0];
        const uint64_t b = UINT64_C(0xCD9E8D57) * c[2];
        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k0;
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)b;
        c[3] = (uint32_t)a;
        k0 += UINT32_C(0x9E3779B9);
        k1 += UINT32_C(0xBB67AE85);
    }
    const uint64_t bits = (uint64_t)c[0] << 32 | c[1];
    return (double)(bits >> 11) * 0x1p-53;
}

double ftk_uniform(uint64_t seed, uint64_t counter)
{
    return ftk_uniform_sub(seed, counter, 0);
}

/* ------------------------------------------------------------------ selection */

static bool ranks_below(const float *x, int32_t a, int32_t b)
{
    return x[a] < x[b] || (x[a] == x[b] && a > b);
}

/* heap[0] is the lowest-ranking id; restores that from slot i downwards. */
static void sift(const float *x, int32_t *heap, int n, int i)
{
    const int32_t id = heap[i];
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && ranks_below(x, heap[child + 1], heap[child])) child++;
        if (!ranks_below(x, heap[child], id)) break;
        heap[i] = heap[child];
    }
    heap[i] = id;
}

int ftk_top_k(const float *x, int n, int k, int32_t *ids)
{
    if (k > n) k = n;
    if (k <= 0) return 0;
    for (int i = 0; i < k; i++) ids[i] = i;
    for (int i = k / 2 - 1; i >= 0; i--) sift(x, ids, k, i);
    /* Later ids lose ties, so only a larger value gets in, and few do. */
    for (int i = k; (i = ftk_row_above(x, n, i, x[ids[0]])) < n; i++) {
        ids[0] = i;
        sift(x, ids, k, 0);
    }
    for (int left = k - 1; left > 0; left--) { /* the lowest goes last */
        const int32_t lowest = ids[0];
        ids[0] = ids[left];
        ids[left] = lowest;
        sift(x, ids, left, 0);
    }
    return k;
}

static int32_t first_equal(const float *x, int n, float value)
{
    return ftk_row_above(x, n, 0, nextafterf(value, -INFINITY));
}

/* ------------------------------------------------------------------ the chain */

/* A logit that becomes x: one that is finite stays so, one that is not too. */
static float moved(float logit, float x)
{
    return logit < -FLT_MAX ? -INFINITY : x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x;
}

/* Reads from `logits` and writes to the work copy, so a token seen twice is penalised once. */
static void penalise_one(ftk_sampler *s, const float *logits, int32_t token)
{
    const float p = s->cfg.repeat_penalty, x = logits[token];
    s->logits[token] = moved(x, x > 0 ? x / p : x * p);
}

static void penalise(ftk_sampler *s, const float *logits, const int32_t *history, size_t n_history,
                     const int32_t *path, int n_path)
{
    size_t left = s->cfg.repeat_last > 0 ? (size_t)s->cfg.repeat_last : 0;
    for (int i = n_path - 1; i >= 0 && left > 0; i--, left--) penalise_one(s, logits, path[i]);
    for (size_t i = n_history; i > 0 && left > 0; i--, left--)
        penalise_one(s, logits, history[i - 1]);
}

bool ftk_sampling_counts(const ftk_sampling *p)
{
    return p->presence_penalty != 0 || p->frequency_penalty != 0;
}

static void take_count(ftk_sampler *s, int32_t token)
{
    const float n = (float)s->counts[token];
    if (n == 0) return;
    s->counts[token] = 0;
    const float x = s->logits[token];
    s->logits[token] = moved(x, x - (s->cfg.presence_penalty + n * s->cfg.frequency_penalty));
}

/* Leaves the counts at zero, as it found them. */
static void penalise_generated(ftk_sampler *s, const int32_t *history, size_t n_history,
                               const int32_t *path, int n_path)
{
    for (size_t i = s->n_prompt; i < n_history; i++) s->counts[history[i]]++;
    for (int i = 0; i < n_path; i++) s->counts[path[i]]++;
    for (size_t i = s->n_prompt; i < n_history; i++) take_count(s, history[i]);
    for (int i = 0; i < n_path; i++) take_count(s, path[i]);
}

static void add_biases(ftk_sampler *s)
{
    for (size_t i = 0; i < s->n_bias; i++) {
        float *const x = &s->logits[s->bias[i].token];
        *x = moved(*x, *x + s->bias[i].bias);
    }
}

/* Of a token behind n others. */
static bool too_early_to_end(const ftk_sampler *s, size_t n)
{
    return n - s->n_prompt < s->cfg.min_tokens;
}

static void forbid_ends(ftk_sampler *s)
{
    for (int i = 0; i < 2; i++)
        for (size_t j = 0; j < s->ends[i].n; j++) s->logits[s->ends[i].id[j]] = -INFINITY;
}

bool ftk_sampler_plain(const ftk_sampler *s)
{
    return s->cfg.repeat_penalty == 1 && !ftk_sampling_counts(&s->cfg) && s->n_bias == 0 &&
           s->cfg.min_tokens == 0 && !s->mask;
}

void ftk_sampler_mask(ftk_sampler *s, const int32_t *history, size_t n_history, const int32_t *path,
                      int n_path)
{
    memset(s->allowed, 0, ((size_t)s->n_vocab + 31) / 32 * sizeof *s->allowed);
    s->mask(s->mask_ctx, history, n_history, path, n_path, s->allowed);
}

static void forbid(ftk_sampler *s)
{
    for (int32_t i = 0; i < s->n_vocab; i++)
        if (s->allowed[i / 32] == UINT32_MAX)
            i |= 31; /* on to the next word */
        else if (!ftk_sampler_allows(s, i))
            s->logits[i] = -INFINITY;
}

/* The logits as ftk_sampling wants them before the temperature, in the work copy. */
static void change(ftk_sampler *s, const float *logits, const int32_t *history, size_t n_history,
                   const int32_t *path, int n_path)
{
    if (s->cfg.repeat_penalty != 1) penalise(s, logits, history, n_history, path, n_path);
    if (ftk_sampling_counts(&s->cfg)) penalise_generated(s, history, n_history, path, n_path);
    add_biases(s);
    if (too_early_to_end(s, n_history + (size_t)n_path)) forbid_ends(s);
    if (!s->mask) return;
    ftk_sampler_mask(s, history, n_history, path, n_path);
    forbid(s);
}

/* Some token has to be picked. */
static float leave_one(ftk_sampler *s)
{
    s->stuck = true;
    for (int i = 0; i < s->n_vocab; i++) s->logits[i] = -INFINITY;
    return s->logits[0] = 0;
}

/* Those that can be drawn: s->order[0..n), largest first, or, without order, the ids 0..n - 1.
 * Their weights stand in s->logits, at the id. */
typedef struct candidates {
    const int32_t *order;
    int n;
} candidates;

static int32_t id_of(const candidates *c, int i)
{
    return c->order ? c->order[i] : i;
}

/* Of logits x, which may be the work copy. */
static double weigh(ftk_sampler *s, const candidates *c, const float *x, float max)
{
    const float temperature = s->cfg.temperature;
    if (!c->order) return ftk_row_weigh(x, c->n, max, temperature, s->logits);
    double total = 0;
    for (int i = 0; i < c->n; i++) {
        const int32_t id = c->order[i];
        s->logits[id] = ftk_row_weight(x[id], max, temperature);
        total += s->logits[id];
    }
    return total;
}

/* Cuts to the fewest largest candidates that hold top_p of the weight. Not ordered yet, they are
 * ordered as far as needed: 64, then four times as many, and so on. */
static double cut_top_p(ftk_sampler *s, candidates *c, double total)
{
    const bool ordered = c->order != NULL;
    for (int n = ordered ? c->n : 64;; n = n > c->n / 4 ? c->n : 4 * n) {
        if (!ordered) n = ftk_top_k(s->logits, c->n, n, s->order);
        double sum = 0;
        for (int i = 0; i < n; i++) {
            sum += s->logits[s->order[i]];
            if (sum >= s->cfg.top_p * total || i == c->n - 1) {
                *c = (candidates){.order = s->order, .n = i + 1};
                return sum;
            }
        }
    }
}

/* Leaves out what is less likely than a share of the likeliest, whose weight is 1. */
static double cut_min_p(ftk_sampler *s, const candidates *c)
{
    double sum = 0;
    for (int i = 0; i < c->n; i++) {
        float *const w = &s->logits[id_of(c, i)];
        *w = *w < s->cfg.min_p ? 0 : *w;
        if (c->order) sum += *w;
    }
    return c->order ? sum : ftk_row_sum(s->logits, c->n);
}

static int32_t draw(const ftk_sampler *s, const candidates *c, double total, double u)
{
    if (!c->order) return ftk_row_find(s->logits, c->n, u * total);
    double sum = 0;
    int32_t last = c->order[0];
    for (int i = 0; i < c->n && sum <= u * total; i++) {
        const float w = s->logits[c->order[i]];
        if (w == 0) continue;
        last = c->order[i];
        sum += w;
    }
    return last;
}

/* The logits before the temperature, in the work copy where `copy` or what changes them asks for
 * it; *max is the largest of them. */
static ftk_err prepare(ftk_sampler *s, const float *logits, const int32_t *history,
                       size_t n_history, const int32_t *path, int n_path, bool copy,
                       const float **x, float *max)
{
    const bool plain = ftk_sampler_plain(s);
    *x = logits;
    if (!ftk_row_max(logits, s->n_vocab, max)) return FTK_ERR_NUMERIC;
    if (plain && !copy) return FTK_OK;
    memcpy(s->logits, logits, (size_t)s->n_vocab * sizeof *logits);
    *x = s->logits;
    if (plain) return FTK_OK;
    change(s, logits, history, n_history, path, n_path);
    if (!ftk_row_max(s->logits, s->n_vocab, max)) *max = leave_one(s);
    return FTK_OK;
}

static candidates cut_top_k(ftk_sampler *s, const float *x)
{
    const int k = s->cfg.top_k, n = s->n_vocab;
    if (k <= 0 || k >= n) return (candidates){.n = n};
    return (candidates){.order = s->order, .n = ftk_top_k(x, n, k, s->order)};
}

ftk_err ftk_sampler_pick(ftk_sampler *s, const float *logits, const int32_t *history,
                         size_t n_history, const int32_t *path, int n_path, uint64_t pos,
                         int32_t *token)
{
    const float *x;
    float max;
    const ftk_err err = prepare(s, logits, history, n_history, path, n_path, false, &x, &max);
    if (err != FTK_OK) return err;
    if (s->cfg.temperature <= 0) {
        *token = first_equal(x, s->n_vocab, max);
        return FTK_OK;
    }
    candidates c = cut_top_k(s, x);
    double total = weigh(s, &c, x, max);
    if (s->cfg.top_p < 1) total = cut_top_p(s, &c, total);
    if (s->cfg.min_p > 0) total = cut_min_p(s, &c);
    *token = draw(s, &c, total, ftk_uniform(s->cfg.seed, pos));
    return FTK_OK;
}

/* All that rank below the lowest candidate. */
static void set_below(ftk_sampler *s, const candidates *c, float value)
{
    const int32_t lowest = c->order[c->n - 1];
    const float limit = s->logits[lowest];
    for (int32_t i = 0; i < s->n_vocab; i++)
        if (s->logits[i] < limit || (s->logits[i] == limit && i > lowest)) s->logits[i] = value;
}

/* As pick() does it, with 0 for all that are no candidates. */
static double spread(ftk_sampler *s, float max)
{
    candidates c = cut_top_k(s, s->logits);
    const int n = c.n;
    const bool ordered = c.order != NULL;
    if (ordered) set_below(s, &c, -INFINITY);
    double total = weigh(s, &c, s->logits, max);
    if (ordered)
        for (int i = 0; i < s->n_vocab; i++)
            if (s->logits[i] < 0) s->logits[i] = 0;
    if (s->cfg.top_p < 1) {
        total = cut_top_p(s, &c, total);
        if (!ordered) set_below(s, &c, 0);
        for (int i = c.n; ordered && i < n; i++) s->logits[s->order[i]] = 0;
    }
    return s->cfg.min_p > 0 ? cut_min_p(s, &c) : total;
}

ftk_err ftk_sampler_weigh(ftk_sampler *s, const float *logits, const int32_t *history,
                          size_t n_history, const int32_t *path, int n_path, double *total)
{
    const float *x;
    float max;
    const ftk_err err = prepare(s, logits, history, n_history, path, n_path, true, &x, &max);
    if (err != FTK_OK) return err;
    if (s->cfg.temperature > 0) {
        *total = spread(s, max);
        return FTK_OK;
    }
    const int32_t first = first_equal(x, s->n_vocab, max);
    memset(s->logits, 0, (size_t)s->n_vocab * sizeof *s->logits);
    s->logits[first] = 1;
    *total = 1;
    return FTK_OK;
}
