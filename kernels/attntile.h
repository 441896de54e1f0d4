/* SPDX-License-Identifier: Apache-2.0
 *
 * The attention of the vector levels: everything but the arithmetic, which the including file
 * defines before as static functions. Keys and values of a page are widened to floats once and
 * then serve every pair of query row and head; sums over keys run in logical order.
 *
 * - widen(type, n, src, dst, next): n elements of a page to floats; asks meanwhile for the as many
 *   elements at `next`, where the page lies that is widened after this one.
 * - score_keys(n_pairs, q, k, dim, n, scale, p, p_stride): p[pair][i] = scale * (q[pair] . k[i]),
 *   i < n; n a multiple of 16. The bits of p[pair][i] depend on q[pair] and k[i] alone.
 * - softmax(n, p): p[i] = exp(p[i] - max p) for i < n; returns the sum, over lanes i mod 16.
 *   p has room for n rounded up to 16.
 * - add_values(n_pairs, n, p, p_stride, v, dim, acc): acc[pair] += p[pair][i] * v[i], i ascending.
 *
 * dim is the head dimension rounded up to 16; what was added is zero. */
#ifndef FTK_ATTNTILE_H
#define FTK_ATTNTILE_H

#include "kernels/attnmask.h"

enum { ATTN_ALIGN = 16 /* floats */ };

static inline size_t attn_round(size_t n)
{
    return (n + ATTN_ALIGN - 1) / ATTN_ALIGN * ATTN_ALIGN;
}

/* One call, laid out in the caller's scratch. A pair is a query row and a head of the group. */
typedef struct attn_tile {
    const ftk_attn *a;
    int head_kv, row0, n_pairs, group;
    int n_slots;  /* prefix and the provisional slots up to the last one any row sees */
    int n_shared; /* prefix and the provisional slots up to the first one that a row does not see */
    int first_page; /* pages before it lie outside every row's window */
    size_t dim;
    size_t stride;  /* floats between the scores of two pairs */
    float *page;    /* [FTK_PAGE][dim] */
    float *q, *acc; /* [n_pairs][dim] */
    float *scores;  /* [n_pairs][stride] */
} attn_tile;

static size_t attn_scratch_floats(int head_dim, int group, int max_slots)
{
    const size_t pairs = (size_t)group * FTK_ATTN_TILE;
    const size_t dim = attn_round((size_t)head_dim);
    return (FTK_PAGE + 2 * pairs) * dim + pairs * attn_round((size_t)max_slots);
}

static const uint64_t *attn_pair_mask(const attn_tile *t, int pair)
{
    return t->a->mask[t->row0 + pair / t->group];
}

static int attn_pair_first(const attn_tile *t, int pair)
{
    return attn_row_first(t->a, t->row0 + pair / t->group);
}

/* Offset of a pair in q and out, in floats. */
static size_t attn_pair_at(const attn_tile *t, int pair)
{
    const int head = t->head_kv * t->group + pair % t->group;
    const size_t row = (size_t)(t->row0 + pair / t->group);
    return (row * (size_t)t->a->n_head + (size_t)head) * (size_t)t->a->head_dim;
}

static attn_tile attn_plan(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch)
{
    attn_tile t = {.a = a, .head_kv = head_kv, .row0 = row0, .group = a->n_head / a->n_head_kv};
    t.n_pairs = (row1 - row0) * t.group;
    t.dim = attn_round((size_t)a->head_dim);
    int end = 0, first = a->prefix, lead = 128;
    for (int r = row0; r < row1; r++) {
        const int e = attn_mask_end(a->mask[r]), f = attn_row_first(a, r);
        const int l = attn_mask_lead(a->mask[r]);
        end = e > end ? e : end;
        lead = l < lead ? l : lead;
        first = f < first ? f : first;
    }
    t.n_slots = a->prefix + end;
    t.n_shared = a->prefix + lead;
    t.first_page = first / FTK_PAGE;
    t.stride = attn_round((size_t)t.n_slots);
    t.page = scratch;
    t.q = t.page + FTK_PAGE * t.dim;
    t.acc = t.q + (size_t)t.n_pairs * t.dim;
    t.scores = t.acc + (size_t)t.n_pairs * t.dim;
    return t;
}

/* The first n slots of a page to t->page; rows up to a multiple of 16 are zero. next: the page that
 * will be widened after it. Pages lie apart, and neither the processor nor its prefetchers see by
 * themselves where it goes on. */
static void attn_widen_page(const attn_tile *t, const void *page, int n, const void *next)
{
    const size_t d = (size_t)t->a->head_dim;
    const size_t size = ftk_type_bytes(t->a->kv_type, d);
    const size_t at = (size_t)t->head_kv * FTK_PAGE * size;
    const char *src = (const char *)page + at, *ahead = (const char *)next + at;
    if (d == t->dim) {
        widen(t->a->kv_type, (int)(d * (size_t)n), src, t->page, ahead);
    } else {
        for (int s = 0; s < n; s++, src += size, ahead += size) {
            float *row = t->page + (size_t)s * t->dim;
            widen(t->a->kv_type, (int)d, src, row, ahead);
            memset(row + d, 0, (t->dim - d) * sizeof(float));
        }
    }
    const size_t rest = attn_round((size_t)n) - (size_t)n;
    memset(t->page + (size_t)n * t->dim, 0, rest * t->dim * sizeof(float));
}

static void attn_load_queries(const attn_tile *t)
{
    const size_t d = (size_t)t->a->head_dim;
    for (int p = 0; p < t->n_pairs; p++) {
        float *q = t->q + (size_t)p * t->dim;
        memcpy(q, t->a->q + attn_pair_at(t, p), d * sizeof(float));
        memset(q + d, 0, (t->dim - d) * sizeof(float));
    }
}

static int attn_page_slots(const attn_tile *t, int page)
{
    const int left = t->n_slots - page * FTK_PAGE;
    return left < FTK_PAGE ? left : FTK_PAGE;
}

static bool attn_last_page(const attn_tile *t, int page)
{
    return (page + 1) * FTK_PAGE >= t->n_slots;
}

/* Scores by slot, those of provisional slots a row does not see included. */
static void attn_score(const attn_tile *t)
{
    for (int page = t->first_page; page * FTK_PAGE < t->n_slots; page++) {
        const int n = attn_page_slots(t, page);
        const void *next =
            attn_last_page(t, page) ? t->a->v_pages[t->first_page] : t->a->k_pages[page + 1];
        attn_widen_page(t, t->a->k_pages[page], n, next);
        score_keys(t->n_pairs, t->q, t->page, t->dim, (int)attn_round((size_t)n), t->a->scale,
                   t->scores + page * FTK_PAGE, t->stride);
    }
}

/* Moves the scores of the visible provisional slots together; returns how many keys a pair has. */
static int attn_compact(const attn_tile *t, int pair)
{
    const uint64_t *mask = attn_pair_mask(t, pair);
    float *s = t->scores + (size_t)pair * t->stride + t->a->prefix;
    int n = attn_mask_count(mask);
    if (n == attn_mask_lead(mask)) return t->a->prefix + n; /* they are */
    n = 0;
    for (int w = 0; w < 2; w++)
        for (uint64_t bits = mask[w]; bits; bits &= bits - 1)
            s[n++] = s[w * 64 + __builtin_ctzll(bits)];
    return t->a->prefix + n;
}

/* Softmax of a pair's scores. Lanes count from a multiple of 16 in the logical order, so that the
 * sum does not depend on which slots hold the keys. */
static float attn_softmax(const attn_tile *t, int pair)
{
    const int n = attn_compact(t, pair), first = attn_pair_first(t, pair);
    const int from = first / ATTN_ALIGN * ATTN_ALIGN;
    float *p = t->scores + (size_t)pair * t->stride;
    for (int i = from; i < first; i++) p[i] = -INFINITY;
    return softmax(n - from, p + from);
}

/* Values of n slots that are neighbours in the logical order of a row too, from its key `rank`
 * on, for the row's pairs; keys before its window are left out. page: the first slot's. */
static void attn_add_run(const attn_tile *t, int pair, int rank, int n, const float *page)
{
    const int first = attn_pair_first(t, pair), skip = first > rank ? first - rank : 0;
    if (skip < n)
        add_values(t->group, n - skip, t->scores + (size_t)pair * t->stride + rank + skip,
                   t->stride, page + (size_t)skip * t->dim, t->dim, t->acc + (size_t)pair * t->dim);
}

/* Values of those provisional slots in [j0, j1) that a row sees; page: slot j0's. */
static void attn_add_provisional(const attn_tile *t, int pair, int j0, int j1, const float *page)
{
    const uint64_t *mask = attn_pair_mask(t, pair);
    int rank = t->a->prefix;
    for (int j = 0; j < j0; j++) rank += attn_sees(mask, j);
    for (int j = j0, n; j < j1; j += n + 1) {
        for (n = 0; j + n < j1 && attn_sees(mask, j + n);) n++;
        attn_add_run(t, pair, rank, n, page + (size_t)(j - j0) * t->dim);
        rank += n;
    }
}

/* Values of n slots that all rows see, from `slot` on. Where windows begin among them each row
 * has its own first one; else all pairs share the reads. */
static void attn_add_shared(const attn_tile *t, int slot, int n)
{
    int last = 0;
    for (int p = 0; p < t->n_pairs; p += t->group) {
        const int first = attn_pair_first(t, p);
        last = first > last ? first : last;
    }
    if (last <= slot)
        add_values(t->n_pairs, n, t->scores + slot, t->stride, t->page, t->dim, t->acc);
    else
        for (int p = 0; p < t->n_pairs; p += t->group) attn_add_run(t, p, slot, n, t->page);
}

static void attn_mix(const attn_tile *t)
{
    memset(t->acc, 0, (size_t)t->n_pairs * t->dim * sizeof(float));
    for (int page = t->first_page; page * FTK_PAGE < t->n_slots; page++) {
        const int n = attn_page_slots(t, page), slot = page * FTK_PAGE;
        int shared = t->n_shared - slot;
        shared = shared < 0 ? 0 : shared < n ? shared : n;
        const void *next = t->a->v_pages[attn_last_page(t, page) ? page : page + 1];
        attn_widen_page(t, t->a->v_pages[page], n, next);
        if (shared > 0) attn_add_shared(t, slot, shared);
        const int j0 = slot + shared - t->a->prefix;
        for (int p = 0; shared < n && p < t->n_pairs; p += t->group)
            attn_add_provisional(t, p, j0, j0 + n - shared, t->page + (size_t)shared * t->dim);
    }
}

/* Pairs add in their order, so a tile's sums are one fixed sequence. */
static void attn_add_columns(const attn_tile *t, int pair, float inv)
{
    const int row = t->row0 + pair / t->group, head = t->head_kv * t->group + pair % t->group;
    float *columns = ftk_attn_columns(t->a, row, head);
    const float *p = t->scores + (size_t)pair * t->stride;
    for (int i = 0; columns && i < t->a->prefix; i++) columns[i] += p[i] * inv;
}

/* The sums of exponentials wait in q, which is no longer needed. */
static void attn_run(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch)
{
    const attn_tile t = attn_plan(a, head_kv, row0, row1, scratch);
    attn_load_queries(&t);
    attn_score(&t);
    for (int p = 0; p < t.n_pairs; p++) t.q[p] = attn_softmax(&t, p);
    attn_mix(&t);
    ftk_attn_clear_columns(a, row0, head_kv * t.group, t.group);
    for (int p = 0; p < t.n_pairs; p++) {
        const float inv = 1.0f / t.q[p];
        attn_add_columns(&t, p, inv);
        const float *acc = t.acc + (size_t)p * t.dim;
        float *out = a->out + attn_pair_at(&t, p);
        for (int i = 0; i < a->head_dim; i++) out[i] = acc[i] * inv;
    }
}

#endif
