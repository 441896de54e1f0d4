/* SPDX-License-Identifier: Apache-2.0
 * What tests ask of tokenizers, whichever kind: tokens of a text, the text of these, cases of a
 * reference. */
#ifndef FTK_TESTS_TOKENCHECKS_H
#define FTK_TESTS_TOKENCHECKS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vocab.h"

/* A file as a string; the caller frees it. */
static inline char *read_all(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *p = NULL;
    *n = 0;
    for (size_t got = 1; got > 0; *n += got) {
        p = realloc(p, *n + 65537);
        assert_non_null(p);
        got = fread(p + *n, 1, 65536, f);
    }
    p[*n] = '\0';
    fclose(f);
    return p;
}

static inline void skip_without(const char *path)
{
    if (access(path, R_OK) == 0) return;
    print_message("[  SKIPPED ] *** %s is not there: THIS WAS NOT TESTED ***\n", path);
    skip();
}

/* The ids of a text; the caller frees them. */
static inline int32_t *encode(const ftk_tokenizer *t, const char *text, size_t n, unsigned flags,
                              size_t *n_ids)
{
    const ftk_err sized = ftk_tokenizer_encode(t, text, n, flags, NULL, 0, n_ids);
    assert_int_equal(sized, *n_ids > 0 ? FTK_ERR_SPACE : FTK_OK);
    int32_t *ids = malloc((*n_ids + 1) * sizeof *ids);
    assert_non_null(ids);
    ids[*n_ids] = -77;
    size_t again = 0;
    assert_int_equal(ftk_tokenizer_encode(t, text, n, flags, ids, *n_ids, &again), FTK_OK);
    assert_int_equal(again, *n_ids);
    assert_int_equal(ids[*n_ids], -77);
    return ids;
}

static inline void assert_decodes(const ftk_tokenizer *t, const int32_t *ids, size_t n_ids,
                                  unsigned flags, const char *text, size_t n)
{
    char *out = malloc(n + 1);
    size_t n_out = 0;
    out[n] = '#';
    if (n > 0) {
        assert_int_equal(ftk_tokenizer_decode(t, ids, n_ids, flags, out, n - 1, &n_out),
                         FTK_ERR_SPACE);
        assert_int_equal(n_out, n);
    }
    assert_int_equal(ftk_tokenizer_decode(t, ids, n_ids, flags, out, n, &n_out), FTK_OK);
    assert_int_equal(n_out, n);
    if (n > 0) assert_memory_equal(out, text, n);
    assert_int_equal(out[n], '#');
    free(out);
}

static inline void assert_round_trip(const ftk_tokenizer *t, const char *text, size_t n,
                                     unsigned flags)
{
    size_t n_ids;
    int32_t *ids = encode(t, text, n, flags, &n_ids);
    assert_decodes(t, ids, n_ids, flags & FTK_TOK_SPECIAL, text, n);
    free(ids);
}

static inline void assert_ids(const ftk_tokenizer *t, const char *text, unsigned flags,
                              const int32_t *want, size_t n_want)
{
    size_t n;
    int32_t *ids = encode(t, text, strlen(text), flags, &n);
    for (size_t i = 0; i < n || i < n_want; i++)
        if (i >= n || i >= n_want || ids[i] != want[i])
            fail_msg("\"%s\": token %zu is %d, not %d", text, i, i < n ? (int)ids[i] : -1,
                     i < n_want ? (int)want[i] : -1);
    free(ids);
}

#define ASSERT_IDS(t, text, flags, ...)                                                            \
    assert_ids(t, text, flags, (const int32_t[]){__VA_ARGS__},                                     \
               sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* Texts of llama.cpp's test files against lists of ids, one line each. */
static inline void check_cases(const char *vocab, const char *texts, const char *expected)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    ftk_tokenizer *t = NULL;
    assert_int_equal(vocab_open_file(&t, vocab, NULL), FTK_OK);
    size_t n_in, n_out;
    char *in = read_all(texts, &n_in), *out = read_all(expected, &n_out);
    int n_cases = 0;
    for (char *text = in, *line = out; text; n_cases++) {
        char *end = strstr(text, mark), *eol = strchr(line, '\n');
        const size_t n = end ? (size_t)(end - text) : strlen(text);
        size_t n_ids;
        int32_t *ids = encode(t, text, n, 0, &n_ids);
        assert_true(eol || !end);
        if (eol) *eol = '\0';
        for (size_t i = 0; i < n_ids; i++) {
            char *after;
            const long want = strtol(line, &after, 10);
            if (after == line || want != ids[i])
                fail_msg("%s: case %d, token %zu: %d, not %ld", expected, n_cases, i, (int)ids[i],
                         want);
            line = after;
        }
        while (*line == ' ') line++;
        if (*line) fail_msg("%s: case %d: %zu tokens are too few", expected, n_cases, n_ids);
        assert_decodes(t, ids, n_ids, 0, text, n);
        free(ids);
        line = eol ? eol + 1 : NULL;
        text = end ? end + strlen(mark) : NULL;
    }
    assert_int_equal(n_cases, 47);
    free(in);
    free(out);
    ftk_tokenizer_free(t);
}

#endif
