/* SPDX-License-Identifier: Apache-2.0
 * What the tokenizer, the chat templates and the streams share. */
#ifndef FTK_TEXT_H
#define FTK_TEXT_H

#include "base/utf8.h"
#include "model/tokenizer.h"

/* A growing list of tokens; all zero but host is an empty one. */
typedef struct ftk_tokens {
    const ftk_host *host;
    int32_t *v;
    size_t n, cap;
} ftk_tokens;

/* Errors: NOMEM, and the list is as before. */
ftk_err ftk_tokens_push(ftk_tokens *list, const int32_t *tokens, size_t n);
/* Ends a list in the manner of ftk_tokenize(): *n_out is its length, the tokens are copied if they
 * fit, and the list is freed. err is what filling it returned and is passed on. */
ftk_err ftk_tokens_end(ftk_tokens *list, ftk_err err, int32_t *tokens, size_t cap, size_t *n_out);

const ftk_host *ftk_tokenizer_host(const ftk_tokenizer *t);
/* The control or user-defined token with this very text, or -1. */
int32_t ftk_tokenizer_special(const ftk_tokenizer *t, const char *text, size_t n);
/* As ftk_tokenizer_encode(), onto the end of a list. */
ftk_err ftk_tokenizer_append(const ftk_tokenizer *t, const char *text, size_t n, unsigned flags,
                             ftk_tokens *list);

/* The token of a byte that stands by itself; if there is none the unknown token, else nothing. */
ftk_err ftk_tokenizer_append_byte(const ftk_tokenizer *t, unsigned char byte, ftk_tokens *list);

/* Text of which input[i] is 1 for bytes that are no part of a control token. */
ftk_err ftk_tokenizer_append_marked(const ftk_tokenizer *t, const char *text,
                                    const unsigned char *input, size_t n, ftk_tokens *list);
/* The longest special token that the n bytes start with, and its length; -1 if there is none. */
int32_t ftk_tokenizer_special_at(const ftk_tokenizer *t, const char *text, size_t n, size_t *len);

/* The built-in form that the control tokens of a vocabulary speak for. */
const char *ftk_chat_by_vocabulary(const ftk_tokenizer *t);
/* True for the words by which the templates frame a turn, such as "<|im_start|>". A vocabulary may
 * call them user-defined; they are taken for control tokens all the same. */
bool ftk_chat_is_word(ftk_str text);

#endif
