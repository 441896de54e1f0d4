/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts whose tokens a draft model draws, from its own distribution as the session's sampling
 * would have it, for verifiers that make use of that (tree.h says what is promised them). A
 * chain, each token drawn behind the one before, and beside its first one up to
 * FTK_DRAWN_SIBLINGS - 1 more. How long it is and what its nodes are worth goes by how often
 * those of a depth were accepted, and by nothing that was drawn. What followed the same words
 * earlier joins it as a chain of chosen tokens, in front of what is drawn. */
#ifndef FTK_DRAWN_H
#define FTK_DRAWN_H

#include "drafters/drafter.h"
#include "drafters/guesses.h"

enum {
    FTK_DRAWN_DEPTH = 12,
    FTK_DRAWN_SIBLINGS = 4, /* of the first place */
};

typedef struct ftk_drawn_rates {
    ftk_rate first[FTK_DRAWN_DEPTH];         /* by depth: a drawn token is accepted */
    ftk_rate beside[FTK_DRAWN_SIBLINGS - 1]; /* and its siblings, where those before were not */
} ftk_drawn_rates;

typedef struct ftk_drawn_node {
    int32_t token;
    float prob;
} ftk_drawn_node;

typedef struct ftk_drawn {
    ftk_sampler sampler;
    float *q;     /* [FTK_DRAWN_DEPTH][n_vocab]; NULL: nothing is ever drawn */
    size_t asked; /* the tree that was proposed last is of text[0..asked); 0: none */
    bool chain;   /* one node a depth */
    int n_vocab;
    /* What the tree is made of: retrieval's chain, the drawn one, the siblings of its first
     * token. */
    int n_retrieved, n_chain, n_beside;
    ftk_drawn_node retrieved[FTK_CHAIN], first[FTK_DRAWN_DEPTH], beside[FTK_DRAWN_SIBLINGS - 1];
    int last; /* the guess that is the chain's last token */
} ftk_drawn;

struct ftk_grown;

void ftk_drawn_init_rates(ftk_drawn_rates *rates);
/* Errors: NOMEM; ftk_drawn_free() is due then, too. */
ftk_err ftk_drawn_init(ftk_drawn *d, const ftk_drafter_env *env);
void ftk_drawn_free(ftk_drawn *d, const ftk_host *host);
/* A draft begins, of what is retrieved; the guesses hold the root alone. */
void ftk_drawn_begin(struct ftk_grown *g, int32_t root);
/* Tokens that drawing from the next row is expected to bring, that behind the text if the chain
 * is empty; 0: it does not go on. */
double ftk_drawn_expected(const struct ftk_grown *g);
/* That row's logits, of a text of n tokens: the chain grows by a token. */
void ftk_drawn_grow(struct ftk_grown *g, size_t n, const float *logits);
/* The tree, of a text of n tokens. */
void ftk_drawn_plant(struct ftk_grown *g, size_t n, int budget, ftk_tree *tree);
void ftk_drawn_settle(struct ftk_grown *g, size_t n, const ftk_tree *tree,
                      const ftk_verdict *verdict);

#endif
