/* SPDX-License-Identifier: Apache-2.0
 * For tests: other formats of vocabularies to GGUF files that hold nothing else. */
#ifndef FTK_TESTS_HF_TO_GGUF_VOCAB_H
#define FTK_TESTS_HF_TO_GGUF_VOCAB_H

#include "foretoken.h"

/* A Hugging Face tokenizer.json, plain or with a name that ends in .xz, whose model is BPE. Added
 * tokens become control tokens if they are special, else user-defined. False: it cannot be read or
 * written; what is wrong is printed. */
bool hf_json_to_gguf(const char *from, const char *to, const char *pre);

/* A rank table in tiktoken's format: lines of a token in base64 and its id, which is its rank. The
 * NULL-terminated specials get the ids behind them. */
bool hf_ranks_to_gguf(const char *from, const char *to, const char *pre,
                      const char *const *specials);

/* A model file of SentencePiece whose type is BPE. As the usual converters do, it writes the spaces
 * of user-defined pieces plainly. */
bool hf_spm_to_gguf(const char *from, const char *to);

#endif
