/* SPDX-License-Identifier: Apache-2.0
 * A small SentencePiece vocabulary, and what the tests of the tokenizer ask of it. */
#ifndef FTK_TESTS_SMALLVOCAB_H
#define FTK_TESTS_SMALLVOCAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vocab.h"

#define MARK "\xE2\x96\x81"

static const char *const words[] = {"!<|im_start|>",
                                    "!<|im_end|>",
                                    "!<|im",
                                    "!Q",
                                    "+<tool>",
                                    "+<tool>x",
                                    "he",
                                    "ll",
                                    "hell",
                                    "hello",
                                    MARK "hello",
                                    MARK "w",
                                    "or",
                                    "ld",
                                    "orld",
                                    MARK "world",
                                    MARK MARK,
                                    "<s",
                                    "im",
                                    "|>",
                                    NULL};

static inline char *read_all(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
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

static struct vocab_file file;

static inline ftk_tokenizer *open_small(void)
{
    ftk_tokenizer *t = NULL;
    vocab_init(&file, words);
    assert_int_equal(vocab_open(&t, &file, NULL), FTK_OK);
    return t;
}

static inline int32_t id(const char *text)
{
    const int32_t found = vocab_id(&file, text);
    assert_true(found >= 0);
    return found;
}

#endif
