/* SPDX-License-Identifier: Apache-2.0
 * A small SentencePiece vocabulary. */
#ifndef FTK_TESTS_SMALLVOCAB_H
#define FTK_TESTS_SMALLVOCAB_H

#include "tokenchecks.h"

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
