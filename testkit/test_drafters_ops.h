/* SPDX-License-Identifier: Apache-2.0
 * Drafters for tests: one that is always right, one that is always wrong, one that draws. */
#ifndef FTK_TESTKIT_DRAFTERS_OPS_H
#define FTK_TESTKIT_DRAFTERS_OPS_H

#include "drafters/drafter.h"

/* What env->test points to: the whole sequence, prompt included. */
typedef struct ftk_test_reference {
    const int32_t *tokens;
    size_t n;
} ftk_test_reference;

/* A chain of the reference's next tokens, down to the budget or the end of the reference. */
extern const ftk_drafter_ops ftk_drafter_right;
/* A chain of as many tokens, each another than the reference's. Needs a vocabulary of 2. */
extern const ftk_drafter_ops ftk_drafter_wrong;
/* Draws two tokens, two below each and one below each of those, from weights half of which are on
 * the reference's next token. Needs a vocabulary of 2. */
extern const ftk_drafter_ops ftk_drafter_draws;

#endif
