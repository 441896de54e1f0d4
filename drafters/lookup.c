/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts what followed the longest end of the text that occurred before. Two occurrences are
 * followed, the most recent and the earliest, until they disagree and after: a chain with at most
 * one fork.
 */
#include <stddef.h>

#include "base/mem.h"
#include "drafters/acceptance.h"
#include "drafters/drafter.h"
#include "drafters/suffix.h"

enum { CHAIN = FTK_MAX_NODES - 1 };

/* By match class: of a token where its chain held so far; of the first token of the earliest
 * occurrence that differs, where the recent one was wrong. */
typedef struct rates {
    ftk_rate goes_on[FTK_MATCH_CLASSES], forks[FTK_MATCH_CLASSES];
} rates;

typedef struct lookup {
    ftk_suffix suffix;
    /* The open prediction: what follows text[0..asked). asked 0: none. */
    size_t asked;
    bool chain; /* no fork */
    int length; /* tokens that matched */
    int n;      /* of both chains */
    int32_t recent[CHAIN], first[CHAIN];
    rates rates;
} lookup;

static ftk_err lookup_init(void *state, const ftk_drafter_env *env)
{
    lookup *const s = state;
    s->chain = env->shape == FTK_TREE_CHAIN;
    for (int i = 0; i < FTK_MATCH_CLASSES; i++) {
        ftk_rate_init(&s->rates.goes_on[i], ftk_match_prior(i));
        ftk_rate_init(&s->rates.forks[i], 0.1f);
    }
    return ftk_suffix_init(&s->suffix, env->host, env->n_ctx);
}

static void lookup_free(void *state, const ftk_host *host)
{
    lookup *const s = state;
    ftk_suffix_free(&s->suffix, host);
}

static void lookup_reset(void *state, const int32_t *history, size_t n)
{
    lookup *const s = state;
    s->asked = 0;
    ftk_suffix_reset(&s->suffix);
    ftk_suffix_sync(&s->suffix, history, n);
}

/* The tokens that came in place of the open prediction. */
static void settle(lookup *s, const int32_t *truth, size_t n)
{
    ftk_rates_fade(s->rates.goes_on, FTK_MATCH_CLASSES);
    ftk_rates_fade(s->rates.forks, FTK_MATCH_CLASSES);
    bool on_recent = true, on_first = true;
    for (int d = 0; d < s->n && (size_t)d < n && (on_recent || on_first); d++) {
        const int class = ftk_match_class(s->length + d);
        const bool recent = s->recent[d] == truth[d], first = s->first[d] == truth[d];
        if (on_recent)
            ftk_rate_see(&s->rates.goes_on[class], recent);
        else
            ftk_rate_see(&s->rates.goes_on[class], first);
        if (on_recent && on_first && !recent && s->first[d] != s->recent[d])
            ftk_rate_see(&s->rates.forks[class], first);
        on_recent &= recent;
        on_first &= first;
    }
    s->asked = 0;
}

/* Adds both chains by falling probability. */
static void plant(const lookup *s, int budget, ftk_tree *tree)
{
    int fork = 0; /* where the chains part */
    while (fork < s->n && s->recent[fork] == s->first[fork]) fork++;
    int trunk = 0, twig = fork; /* tokens used of recent, of first */
    int trunk_end = 0, twig_end = -1;
    float so_far = 1, forks = 0; /* prob of trunk_end, of first[twig] */
    while (trunk < s->n && tree->n <= budget && tree->n < FTK_MAX_NODES) {
        const int class = ftk_match_class(s->length + trunk);
        const float next = so_far * ftk_rate_get(&s->rates.goes_on[class]);
        if (trunk == fork && twig_end < 0) {
            twig_end = trunk_end;
            forks = (so_far - next) * ftk_rate_get(&s->rates.forks[class]);
        }
        if (twig_end >= 0 && twig < s->n && forks > next) {
            twig_end = ftk_tree_add(tree, twig_end, s->first[twig++], forks);
            forks *= ftk_rate_get(&s->rates.goes_on[ftk_match_class(s->length + twig)]);
        } else {
            trunk_end = ftk_tree_add(tree, trunk_end, s->recent[trunk++], next);
            so_far = next;
        }
    }
}

static void lookup_propose(void *state, const int32_t *history, size_t n, int budget,
                           ftk_tree *tree)
{
    lookup *const s = state;
    if (s->asked > 0) settle(s, history + s->asked, n - s->asked);
    ftk_suffix_sync(&s->suffix, history, n);
    const ftk_match match = ftk_suffix_longest(&s->suffix);
    if (match.length == 0) return;
    s->asked = n;
    s->length = match.length;
    s->n = ftk_suffix_follow(history, n, match.recent, s->recent, CHAIN);
    ftk_suffix_follow(history, n, s->chain ? match.recent : match.first, s->first, CHAIN);
    plant(s, budget, tree);
}

static void lookup_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                         const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history, (void)tree, (void)rows;
    lookup *const s = state;
    if (s->asked == n) settle(s, verdict->token, (size_t)verdict->n_path + 1);
}

const ftk_drafter_ops ftk_drafter_lookup = {
    .name = "lookup",
    .state_size = sizeof(lookup),
    .rates_at = offsetof(lookup, rates),
    .rates_size = sizeof(rates),
    .init = lookup_init,
    .propose = lookup_propose,
    .learn = lookup_learn,
    .reset = lookup_reset,
    .free = lookup_free,
};
