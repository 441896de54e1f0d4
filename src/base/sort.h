/* SPDX-License-Identifier: Apache-2.0
 * Sorting in place: qsort() may allocate behind the host's back. */
#ifndef FTK_SORT_H
#define FTK_SORT_H

#include <stdbool.h>
#include <stddef.h>

enum { FTK_SORT_MAX = 64 }; /* bytes of one element */

/* Below 0, 0 or above 0, as for qsort(). */
typedef int ftk_compare(const void *a, const void *b, const void *ctx);

/* Sorts the n elements of size bytes each at v, in time n log n whatever their order. Those that
 * compare equal end up in no certain order. */
void ftk_sort(void *v, size_t n, size_t size, ftk_compare *compare, const void *ctx);

#endif
