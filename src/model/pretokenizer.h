/* SPDX-License-Identifier: Apache-2.0
 * Text to words: what byte-pair vocabularies do before they merge bytes. */
#ifndef FTK_PRETOKENIZER_H
#define FTK_PRETOKENIZER_H

#include "foretoken.h"

/* What tokenizer.ggml.pre stands for. */
typedef struct ftk_pre_rule {
    const char *names;        /* with a space between two */
    const char *const *steps; /* PCRE2 patterns, NULL-terminated: see ftk_pre_split() */
    bool ignores_merges;      /* a word that is a token needs no merging */
    bool adds_bos;            /* where the file does not say */
    bool composes;            /* text is brought into Unicode's normal form C first */
} ftk_pre_rule;

/* NULL: the name is not known. "default" always is. */
const ftk_pre_rule *ftk_pre_find(ftk_str name);

typedef struct ftk_pre ftk_pre;

/* Compiles a rule's patterns; *out remembers a copy of host. Errors: NOMEM, UNSUPPORTED (a PCRE2
 * that was built without Unicode). */
ftk_err ftk_pre_open(ftk_pre **out, const ftk_pre_rule *rule, const ftk_host *host);
void ftk_pre_free(ftk_pre *p);

/* Cuts n bytes of valid UTF-8 into words, which together are the text (or its normal form C,
 * where the rule composes), and hands them to sink one by one; its error is passed on. The first
 * step's matches, and what lies between them, are texts of their own for the next step, and so
 * on. May be called from several threads at once. Errors: NOMEM, INVALID (the text takes PCRE2
 * more work than its length justifies; no rule here is known to let that happen). */
typedef ftk_err ftk_pre_sink(void *ctx, const char *word, size_t n);
ftk_err ftk_pre_split(const ftk_pre *p, const char *text, size_t n, ftk_pre_sink *sink, void *ctx);

#endif
