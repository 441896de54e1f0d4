/* SPDX-License-Identifier: Apache-2.0
 * Sorting in place: quicksort, which becomes a heap sort where its parts stay too large. */
#include "base/sort.h"

#include <assert.h>
#include <string.h>

enum { FEW = 12 }; /* elements that insertion sorts fastest */

struct range {
    char *v;
    size_t size; /* of an element */
    ftk_compare *compare;
    const void *ctx;
};

static char *at(const struct range *r, size_t i)
{
    return r->v + i * r->size;
}

static bool less(const struct range *r, const void *a, const void *b)
{
    return r->compare(a, b, r->ctx) < 0;
}

static void swap(const struct range *r, size_t i, size_t j)
{
    char element[FTK_SORT_MAX];
    memcpy(element, at(r, i), r->size);
    memcpy(at(r, i), at(r, j), r->size);
    memcpy(at(r, j), element, r->size);
}

/* Lets the element at root sink into the heap of n. */
static void sink(const struct range *r, size_t root, size_t n)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && less(r, at(r, child), at(r, child + 1))) child++;
        if (!less(r, at(r, root), at(r, child))) return;
        swap(r, root, child);
    }
}

static void sort_heap(const struct range *r, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) sink(r, i, n);
    for (size_t i = n; i-- > 1;) {
        swap(r, 0, i);
        sink(r, 0, i);
    }
}

static void sort_few(const struct range *r, size_t n)
{
    char element[FTK_SORT_MAX];
    for (size_t i = 1; i < n; i++) {
        size_t to = i;
        while (to > 0 && less(r, at(r, i), at(r, to - 1))) to--;
        if (to == i) continue;
        memcpy(element, at(r, i), r->size);
        memmove(at(r, to + 1), at(r, to), (i - to) * r->size);
        memcpy(at(r, to), element, r->size);
    }
}

static size_t middle_of(const struct range *r, size_t i, size_t j, size_t k)
{
    if (less(r, at(r, j), at(r, i))) {
        const size_t t = i;
        i = j;
        j = t;
    }
    if (!less(r, at(r, k), at(r, j))) return j;
    return less(r, at(r, k), at(r, i)) ? i : k;
}

/* Puts no larger elements before no smaller ones; returns how many there are before, 1 to n - 1. */
static size_t part(const struct range *r, size_t n)
{
    char pivot[FTK_SORT_MAX];
    memcpy(pivot, at(r, middle_of(r, 0, n / 2, n - 1)), r->size);
    for (size_t i = 0, j = n - 1;; i++, j--) {
        while (less(r, at(r, i), pivot)) i++;
        while (less(r, pivot, at(r, j))) j--;
        if (i >= j) return i > 0 ? i : 1;
        swap(r, i, j);
    }
}

/* Only the smaller part is sorted by another call, so there are log n of them at most. */
static void sort_parts(struct range r, size_t n, int levels)
{
    while (n > FEW) {
        if (levels-- == 0) {
            sort_heap(&r, n);
            return;
        }
        const size_t before = part(&r, n);
        struct range rest = r;
        rest.v = at(&r, before);
        if (before < n - before) {
            sort_parts(r, before, levels);
            r = rest;
            n -= before;
        } else {
            sort_parts(rest, n - before, levels);
            n = before;
        }
    }
    sort_few(&r, n);
}

void ftk_sort(void *v, size_t n, size_t size, ftk_compare *compare, const void *ctx)
{
    int levels = 0;
    assert(size <= FTK_SORT_MAX);
    for (size_t k = n; k > 0; k /= 2) levels += 2;
    sort_parts((struct range){v, size, compare, ctx}, n, levels);
}
