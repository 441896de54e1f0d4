/* SPDX-License-Identifier: Apache-2.0
 * Retrieval. */
#include "drafters/retrieval.h"

void ftk_retrieval_rates_init(ftk_retrieval_rates *rates)
{
    for (int i = 0; i < FTK_MATCH_CLASSES; i++) {
        ftk_rate_init(&rates->goes_on[i], ftk_match_prior(i));
        ftk_rate_init(&rates->forks[i], 0.1f);
    }
}

ftk_err ftk_retrieval_init(ftk_retrieval *r, const ftk_host *host, int cap,
                           ftk_retrieval_rates *rates)
{
    r->asked = 0;
    r->n = r->length = 0;
    r->rates = rates;
    return ftk_suffix_init(&r->suffix, host, cap);
}

void ftk_retrieval_free(ftk_retrieval *r, const ftk_host *host)
{
    ftk_suffix_free(&r->suffix, host);
}

void ftk_retrieval_reset(ftk_retrieval *r, const int32_t *text, size_t n)
{
    r->asked = 0;
    r->n = 0;
    ftk_suffix_reset(&r->suffix);
    ftk_suffix_sync(&r->suffix, text, n);
}

void ftk_retrieval_ask(ftk_retrieval *r, const int32_t *text, size_t n)
{
    ftk_suffix_sync(&r->suffix, text, n);
    const ftk_match match = r->suffix.match;
    r->asked = n;
    r->length = match.length;
    r->n = 0;
    if (match.length == 0) return;
    r->n = ftk_suffix_follow(text, n, match.recent, r->recent, FTK_RETRIEVED);
    ftk_suffix_follow(text, n, match.first, r->first, FTK_RETRIEVED);
}

void ftk_retrieval_settle(ftk_retrieval *r, size_t at, const int32_t *truth, size_t n)
{
    if (r->asked != at) return;
    r->asked = 0;
    ftk_rates_fade(r->rates->goes_on, FTK_MATCH_CLASSES);
    ftk_rates_fade(r->rates->forks, FTK_MATCH_CLASSES);
    bool on_recent = true, on_first = true;
    for (int d = 0; d < r->n && (size_t)d < n && (on_recent || on_first); d++) {
        const int class = ftk_match_class(r->length + d);
        const bool recent = r->recent[d] == truth[d], first = r->first[d] == truth[d];
        ftk_rate_see(&r->rates->goes_on[class], on_recent ? recent : first);
        if (on_recent && on_first && !recent && r->first[d] != r->recent[d])
            ftk_rate_see(&r->rates->forks[class], first);
        on_recent &= recent;
        on_first &= first;
    }
}

float ftk_retrieval_goes_on(const ftk_retrieval *r, int at)
{
    return ftk_rate_get(&r->rates->goes_on[ftk_match_class(r->length + at)]);
}

float ftk_retrieval_forks(const ftk_retrieval *r, int at)
{
    return ftk_rate_get(&r->rates->forks[ftk_match_class(r->length + at)]);
}
