/* SPDX-License-Identifier: Apache-2.0
 * Vocabulary and tokenizer of a model file. */
#ifndef FTK_TOKENIZER_H
#define FTK_TOKENIZER_H

#include "model/tokens.h"

typedef struct ftk_tokenizer ftk_tokenizer;

/* Builds the tokenizer from tokenizer.ggml.* of an open file; path is for messages. Everything
 * needed is copied, so the file may be closed. A tokenizer.ggml.pre that is missing or not known is
 * said to the log, as a warning. Errors: FORMAT, UNSUPPORTED (vocabulary kind, by name), NOMEM. */
ftk_err ftk_tokenizer_open(ftk_tokenizer **out, const ftk_gguf *g, const char *path,
                           const ftk_host *host);
void ftk_tokenizer_free(ftk_tokenizer *t);

int ftk_tokenizer_n_vocab(const ftk_tokenizer *t);
/* -1 where there is none. */
int32_t ftk_tokenizer_bos(const ftk_tokenizer *t);
int32_t ftk_tokenizer_eos(const ftk_tokenizer *t);
int32_t ftk_tokenizer_eot(const ftk_tokenizer *t);
/* True for the tokens that end an answer: see ftk_model_is_end(). */
bool ftk_tokenizer_is_end(const ftk_tokenizer *t, int32_t token);
/* The list of them, n long. */
const int32_t *ftk_tokenizer_ends(const ftk_tokenizer *t, size_t *n);
bool ftk_tokenizer_add_bos(const ftk_tokenizer *t);
/* As ftk_model_info.chat_template; *has: the file carries one. */
const char *ftk_tokenizer_chat_template(const ftk_tokenizer *t, bool *has);
/* The bytes one token stands for (a byte token one byte, "▁" as a space, control tokens empty),
 * as a view that lives as long as the tokenizer. */
ftk_str ftk_tokenizer_piece(const ftk_tokenizer *t, int32_t token);

/* Tokens up to the last one that is no padding. */
int ftk_tokenizer_n_used(const ftk_tokenizer *t);
/* Whether every id means in `other` what it means in t, but for padding at the end of one of
 * them. path: the other's, for the message. Errors: INVALID, which names the first token that
 * does not. */
ftk_err ftk_tokenizer_same(const ftk_tokenizer *t, const ftk_tokenizer *other, const char *path,
                           const ftk_host *host);

/* The same of tokens that are words: those with a function, which makers rename, and padding may
 * differ, as may their number by padding. */
ftk_err ftk_tokenizer_same_words(const ftk_tokenizer *t, const ftk_tokenizer *other,
                                 const char *path, const ftk_host *host);

/* As ftk_tokenize(), ftk_detokenize(), ftk_chat_tokenize_as() and so on of the public header. */
ftk_err ftk_tokenizer_encode(const ftk_tokenizer *t, const char *text, size_t n, unsigned flags,
                             int32_t *tokens, size_t cap, size_t *n_out);
ftk_err ftk_tokenizer_decode(const ftk_tokenizer *t, const int32_t *tokens, size_t n,
                             unsigned flags, char *text, size_t cap, size_t *n_out);
ftk_err ftk_tokenizer_chat(const ftk_tokenizer *t, const ftk_chat_config *cfg,
                           const ftk_message *msgs, size_t n_msgs, int32_t *tokens, size_t cap,
                           size_t *n_out);
ftk_err ftk_tokenizer_chat_text(const ftk_tokenizer *t, const ftk_chat_config *cfg,
                                const ftk_message *msgs, size_t n_msgs, char *text, size_t cap,
                                size_t *n_out);

/* For the templates, and for what one kind of vocabulary brings. */

const ftk_host *ftk_tokenizer_host(const ftk_tokenizer *t);
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

#endif
