/* SPDX-License-Identifier: Apache-2.0
 *
 * How much of a KV cache that is too small for all a session may take, so that drafts end no
 * session earlier than plain decoding would.
 *
 * Think of the same sessions decoding plainly, a token a step. There a session has s->lead
 * tokens less than here, and pages go to whoever first comes to need one. So here a page is
 * taken ahead of that time only where the others could still have all that they would take until
 * then. Where they could not, a draft is cut, and a session that is ahead waits, a step for each
 * token of its lead at most; then it takes its page or finds none, as it would have. */
#include "session.h"

/* Stepped as often as this one, be it in the same call or in turn with it. Those that the host
 * has let rest for some rounds wait for nothing. */
static bool is_running(const ftk_session *s)
{
    const ftk_engine *const e = s->engine;
    return s->last_call > 0 && s->n_tokens > 0 && e->n_calls - s->last_call < 2 * e->n_open;
}

/* Slots that another session would have cached by now and `steps` later. Its last token never
 * is. */
static int slots_after(const ftk_session *s, size_t steps)
{
    const size_t cached = s->n_tokens - 1, left = (size_t)s->n_ctx - s->n_tokens;
    const size_t end = cached + (s->limit < left ? s->limit : left);
    const size_t then = cached + steps - (s->lead < cached ? s->lead : cached);
    return (int)(then < end ? then : end);
}

static int lacked_by_others(const ftk_session *s, size_t steps)
{
    int pages = 0;
    for (const ftk_session *other = s->engine->sessions; other; other = other->older)
        if (other != s && is_running(other))
            pages += ftk_kv_lacks(&other->kv, slots_after(other, steps));
    return pages;
}

int ftk_session_room(const ftk_session *s)
{
    const int most = s->kv.max_pages * FTK_PAGE - s->kv.len, n_free = s->engine->pool.n_free;
    int rows = 0;
    while (rows < most && rows < FTK_MAX_NODES) { /* a page is taken with its first row */
        const int lacks = ftk_kv_lacks(&s->kv, s->kv.len + rows + 1);
        if (lacks > n_free) break;
        if (lacks > 0 && lacks + lacked_by_others(s, s->lead + (size_t)rows + 1) > n_free) break;
        rows += FTK_PAGE - (s->kv.len + rows) % FTK_PAGE;
    }
    return rows < most ? rows : most;
}
