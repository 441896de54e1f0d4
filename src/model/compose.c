/* SPDX-License-Identifier: Apache-2.0
 * Normal form C, by utf8proc's tables. Its own functions for whole texts take quadratic time where
 * many marks stand in a row. */
#include "model/compose.h"

#include "base/mem.h"
#include "base/sort.h"

#include <string.h>
#include <utf8proc.h>

enum {
    MOST_PARTS = 4, /* characters that one falls into */
    MOST_BYTES = 4,
    LEAST_LEAD = 0xCC /* first byte of U+0300: what is below it is composed already */
};

static const utf8proc_option_t options = (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE);

static bool may_change(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] >= LEAST_LEAD) return true;
    return false;
}

/* A mark with its class and place in front, so that numbers are in the marks' order. */
enum { CHAR_BITS = 21, PLACE_BITS = 35 };

static int compare_marks(const void *a, const void *b, const void *ctx)
{
    (void)ctx;
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t class_of(int32_t c)
{
    return (uint64_t)utf8proc_get_property(c)->combining_class;
}

/* Puts the marks behind each character into their order; room [n]. */
static void order_marks(int32_t *chars, size_t n, uint64_t *room)
{
    for (size_t i = 0, end; i < n; i = end + 1) {
        bool sorted = true;
        for (end = i; end < n && class_of(chars[end]) > 0; end++) {
            room[end - i] = class_of(chars[end]) << (CHAR_BITS + PLACE_BITS) |
                            (uint64_t)(end - i) << CHAR_BITS | (uint64_t)chars[end];
            sorted = sorted && (end == i || class_of(chars[end - 1]) <= class_of(chars[end]));
        }
        if (sorted) continue;
        ftk_sort(room, end - i, sizeof *room, compare_marks, NULL);
        for (size_t k = i; k < end; k++)
            chars[k] = (int32_t)(room[k - i] & ((UINT64_C(1) << CHAR_BITS) - 1));
    }
}

/* The characters that those of the text fall into; chars NULL: only how many. */
static size_t take_apart(const char *text, size_t n, int32_t *chars)
{
    size_t n_chars = 0;
    for (size_t at = 0; at < n;) {
        int32_t c = 0, parts[MOST_PARTS];
        int last = 0;
        at += (size_t)utf8proc_iterate((const uint8_t *)text + at, (utf8proc_ssize_t)(n - at), &c);
        const utf8proc_ssize_t got = utf8proc_decompose_char(c, parts, MOST_PARTS, options, &last);
        if (chars) memcpy(chars + n_chars, parts, (size_t)got * sizeof *parts);
        n_chars += (size_t)got;
    }
    return n_chars;
}

static size_t put_together(int32_t *chars, size_t n_chars, char *out)
{
    const utf8proc_ssize_t left =
        utf8proc_normalize_utf32(chars, (utf8proc_ssize_t)n_chars, options);
    size_t n = 0;
    for (utf8proc_ssize_t i = 0; i < left; i++)
        n += (size_t)utf8proc_encode_char(chars[i], (uint8_t *)out + n);
    return n;
}

ftk_err ftk_compose(const ftk_host *host, const char *text, size_t n, char **out, size_t *n_out)
{
    *out = NULL;
    *n_out = n;
    if (!may_change(text, n)) return FTK_OK;
    const size_t n_chars = take_apart(text, n, NULL);
    int32_t *chars = ftk_alloc_raw(host, n_chars, sizeof *chars);
    uint64_t *room = ftk_alloc_raw(host, n_chars, sizeof *room);
    char *composed = ftk_alloc_raw(host, n_chars, MOST_BYTES);
    ftk_err err = FTK_OK;
    if (chars && room && composed) {
        take_apart(text, n, chars);
        order_marks(chars, n_chars, room);
        *n_out = put_together(chars, n_chars, composed);
    } else {
        err = ftk_fail(host, FTK_ERR_NOMEM, "no memory for a text of %zu bytes", n);
    }
    if (err == FTK_OK && (*n_out != n || memcmp(composed, text, n) != 0))
        *out = composed;
    else
        ftk_release(host, composed);
    ftk_release(host, room);
    ftk_release(host, chars);
    return err;
}
