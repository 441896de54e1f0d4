/* SPDX-License-Identifier: Apache-2.0
 * Measured acceptance, and the heap that fits trees to it. */
#include "drafters/acceptance.h"

static const float rate_prior = 2;     /* observations the prior is worth */
static const float rate_decay = 0.99f; /* per observation of the rate */
static const float rate_fade = 0.999f; /* per step */

void ftk_rate_init(ftk_rate *r, float prior)
{
    *r = (ftk_rate){.prior = prior};
}

void ftk_rate_see_expected(ftk_rate *r, bool hit, float expected)
{
    r->hits = r->hits * rate_decay + (hit ? 1 : 0);
    r->tries = r->tries * rate_decay + expected;
}

void ftk_rate_see(ftk_rate *r, bool hit)
{
    ftk_rate_see_expected(r, hit, 1);
}

float ftk_rate_get(const ftk_rate *r)
{
    return (r->hits + rate_prior * r->prior) / (r->tries + rate_prior);
}

void ftk_rates_fade(ftk_rate *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        r[i].hits *= rate_fade;
        r[i].tries *= rate_fade;
    }
}

int ftk_match_class(int length)
{
    int class = 0;
    for (int top = 1; class < FTK_MATCH_CLASSES - 1 && length > top; top *= 2) class ++;
    return class;
}

float ftk_match_prior(int match_class)
{
    static const float prior[FTK_MATCH_CLASSES] = {0.1f, 0.25f, 0.45f, 0.6f, 0.75f, 0.85f};
    return prior[match_class];
}

static bool before(const ftk_candidate *a, const ftk_candidate *b)
{
    if (a->value != b->value) return a->value > b->value;
    return a->parent != b->parent ? a->parent < b->parent : a->slot < b->slot;
}

void ftk_heap_push(ftk_heap *h, ftk_candidate c)
{
    if (h->n == h->cap) return;
    int i = h->n++;
    for (int up; i > 0 && before(&c, &h->items[up = (i - 1) / 2]); i = up)
        h->items[i] = h->items[up];
    h->items[i] = c;
}

bool ftk_heap_pop(ftk_heap *h, ftk_candidate *c)
{
    if (h->n == 0) return false;
    *c = h->items[0];
    const ftk_candidate last = h->items[--h->n];
    int i = 0;
    for (int child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && before(&h->items[child + 1], &h->items[child])) child++;
        if (!before(&h->items[child], &last)) break;
        h->items[i] = h->items[child];
    }
    h->items[i] = last;
    return true;
}
