/* SPDX-License-Identifier: Apache-2.0
 * Prompts as tokens: the first turns of a question file, or token ids that were made before. */
#ifndef FTK_BENCH_PROMPTS_H
#define FTK_BENCH_PROMPTS_H

#include "foretoken.h"

typedef struct prompts {
    struct prompt {
        char *category;
        int32_t *tokens;
        size_t n;
    } * at;
    size_t n;
} prompts;

/* At most `limit` prompts (0: all) of at most `cap` tokens; longer ones are left out. A file
 * whose name ends in .ids holds tokens of m's vocabulary: a category and ids a line, # before
 * what is no prompt. Any other is a file of questions (questions.h), asked in m's chat template.
 * Exits with a line. */
void prompts_read(prompts *p, const char *path, size_t limit, size_t cap, const ftk_model *m);
void prompts_free(prompts *p);

#endif
