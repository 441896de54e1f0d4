/* SPDX-License-Identifier: Apache-2.0
 * Sorting in place. */
#include "base/sort.h"

#include <assert.h>
#include <string.h>

struct heap {
    char *v;
    size_t size;
    ftk_compare *compare;
    const void *ctx;
};

static char *at(const struct heap *h, size_t i)
{
    return h->v + i * h->size;
}

/* Puts the element into the heap of n whose root is free: the way down along the larger children,
 * then up again to its place, which is near the bottom most of the time. */
static void put(const struct heap *h, size_t root, size_t n, const char *element)
{
    size_t i = root;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && h->compare(at(h, child), at(h, child + 1), h->ctx) < 0) child++;
        memcpy(at(h, i), at(h, child), h->size);
    }
    for (size_t up; i > root; i = up) {
        up = (i - 1) / 2;
        if (h->compare(at(h, up), element, h->ctx) >= 0) break;
        memcpy(at(h, i), at(h, up), h->size);
    }
    memcpy(at(h, i), element, h->size);
}

void ftk_sort(void *v, size_t n, size_t size, ftk_compare *compare, const void *ctx)
{
    const struct heap h = {v, size, compare, ctx};
    char element[FTK_SORT_MAX];
    assert(size <= sizeof element);
    for (size_t i = n / 2; i-- > 0;) {
        memcpy(element, at(&h, i), size);
        put(&h, i, n, element);
    }
    for (size_t i = n; i-- > 1;) {
        memcpy(element, at(&h, i), size);
        memcpy(at(&h, i), at(&h, 0), size);
        put(&h, 0, i, element);
    }
}
