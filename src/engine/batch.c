/* SPDX-License-Identifier: Apache-2.0
 *
 * Who shares the next pass, and with which rows: sessions are admitted in their order while
 * their rows fit, those that decode are asked for drafts, the drafts are sized together, and
 * each gets the pages for its rows. */
#include "session.h"

/* More of a prompt is unread than the device takes at once in its wide way: such a piece has a
 * pass of its own. The last piece, which gets logits, is never one. Wide pieces leave no states
 * for heads. */
static bool reading_wide(const ftk_session *s)
{
    const ftk_engine *const e = s->engine;
    const int wide = s->logprobs.prompt || e->forward.n_taps > 0 ? 0 : e->wide;
    return wide > 0 && s->n_tokens - (size_t)s->kv.len > (size_t)wide;
}

bool ftk_session_decodes_directly(const ftk_session *s)
{
    return s->family.ops && s->family.ops->decode && !ftk_session_reads(s);
}

static bool has_room(const ftk_session *s, ftk_result *r)
{
    if (s->limit == 0 && !ftk_session_reads(s))
        r->finish = FTK_FINISH_LIMIT;
    else if (s->n_tokens == (size_t)s->n_ctx && !ftk_session_reads(s))
        r->finish = FTK_FINISH_CONTEXT;
    return r->finish == FTK_FINISH_NONE;
}

/* Whether it has to let others have the next page first. With no lead left it takes it, or
 * fails. */
static bool waits(ftk_session *s)
{
    s->room = ftk_session_room(s);
    if (ftk_session_reads(s)) return false;
    if (s->room < 1 && s->lead > 0) {
        s->lead--;
        return true;
    }
    if (s->room < 1) s->room = 1;
    return false;
}

/* Rows before drafts are sized: one, or the next piece of the prompt, cut to what `room` rows and
 * the free pages take, though not below one. A wide piece stays whole: it has other bits than
 * narrow ones. */
static int rows_of(const ftk_session *s, int room)
{
    const size_t left = s->n_tokens - (size_t)s->kv.len;
    if (!ftk_session_reads(s)) return 1;
    if (reading_wide(s)) return s->engine->wide;
    int rows = room < FTK_MAX_NODES ? room : FTK_MAX_NODES;
    if (left < (size_t)rows) rows = (int)left;
    while (rows > 1 && ftk_kv_lacks(&s->kv, s->kv.len + rows) > s->engine->pool.n_free)
        rows = rows > FTK_PAGE ? rows - FTK_PAGE : 1;
    return rows < 1 ? 1 : rows;
}

/* Rows of a draft of a given size, which it must find in a pass, too. */
static int rows_given(const ftk_session *s)
{
    const bool given = s->family.ops && !ftk_session_reads(s) && !ftk_session_sizes_itself(s);
    return given ? ftk_size_most(s) : 0;
}

/* Of rows of its prompt, those without logits. */
static int mute_rows(const ftk_session *s, int rows)
{
    if (s->logprobs.prompt) return 0;
    return (size_t)rows == s->n_tokens - (size_t)s->kv.len ? rows - 1 : rows;
}

size_t ftk_batch_admit(ftk_batch *b, ftk_session *const *s, size_t n, ftk_result *results)
{
    ftk_engine *const e = s[0]->engine;
    size_t i = 0;
    *b = (ftk_batch){.engine = e, .err = FTK_OK, .room = e->forward.max_rows};
    for (; i < n && b->n < FTK_PASS_SEQS; i++) {
        const bool wide = reading_wide(s[i]), direct = ftk_session_decodes_directly(s[i]);
        const int rows = rows_of(s[i], b->room), wanted = rows + rows_given(s[i]);
        if (b->n > 0 && (wide || direct || b->is_full || wanted > b->room)) break;
        if (!has_room(s[i], &results[i]) || waits(s[i])) continue;
        results[i].err = ftk_kv_reserve(&s[i]->kv, rows);
        if (results[i].err != FTK_OK) {
            if (b->err == FTK_OK) b->err = results[i].err;
            continue;
        }
        b->room -= wanted;
        b->is_full = wide || direct;
        b->rows[b->n] = rows;
        b->at[b->n] = i;
        b->session[b->n++] = s[i];
    }
    return i;
}

/* What plain decoding would take of the pass, which drafts are measured by. */
static void find_company(const ftk_batch *b)
{
    ftk_engine *const e = b->engine;
    ftk_width decoding = {0}, all = {0};
    int n = 0;
    for (int i = 0; i < b->n; i++) {
        const int depth = b->session[i]->kv.len;
        all = ftk_width_and(all, b->rows[i], depth);
        if (ftk_session_reads(b->session[i])) {
            all.mute += mute_rows(b->session[i], b->rows[i]);
            continue;
        }
        decoding = ftk_width_and(decoding, 1, depth);
        n++;
    }
    e->company = n > 0 ? ftk_company_of(&e->cost, n, decoding, all)
                       : ftk_company_of(&e->cost, 1, ftk_width_of(1, 0), all);
    e->timing_plain = n == b->n && ftk_size_plain_due(e);
}

/* Its rows, once their number is known. */
static ftk_err lay_out(ftk_batch *b, int i)
{
    ftk_session *const s = b->session[i];
    ftk_pass_seq *const seq = &b->seq[i];
    *seq =
        (ftk_pass_seq){.kv = &s->kv, .spare = ftk_session_spare(s), .sampling = &s->cfg.sampling};
    if (ftk_session_reads(s)) {
        seq->n_rows = b->rows[i];
        seq->token = s->tokens + s->kv.len;
        seq->first_logits = mute_rows(s, b->rows[i]);
        return FTK_OK;
    }
    if (s->left.room > 0) {
        seq->n_rows = 1 + s->left.room;
        seq->left = &s->left.finishing;
        return FTK_OK;
    }
    s->room = ftk_session_room(s); /* others have taken pages since, not its root's */
    ftk_tree_cut(&s->tree, s->room);
    seq->n_rows = s->tree.n;
    seq->token = s->tree.token;
    seq->depth = s->tree.depth;
    seq->mask = (const uint64_t(*)[2])s->tree.mask;
    return ftk_kv_reserve(&s->kv, s->tree.n);
}

ftk_err ftk_batch_plan(ftk_batch *b, bool alone)
{
    ftk_session *decoding[FTK_PASS_SEQS], *asked[FTK_PASS_SEQS];
    int n = 0, n_asked = 0;
    find_company(b);
    b->engine->rows_left = b->room;
    for (int i = 0; i < b->n; i++) {
        ftk_session *const s = b->session[i];
        if (ftk_session_reads(s)) {
            ftk_draft_none(s);
            continue;
        }
        decoding[n++] = s;
        if (ftk_draft_begin(s)) asked[n_asked++] = s;
    }
    ftk_draft_ask(asked, n_asked);
    if (n > 0) ftk_size_drafts(decoding, n);
    for (int i = 0; i < n_asked; i++)
        if (asked[i]->left.room == 0) ftk_session_cut_forbidden(asked[i]);
    ftk_err err = FTK_OK;
    for (int i = 0; i < b->n && err == FTK_OK; i++) err = lay_out(b, i);
    if (alone && n_asked == 1 && asked[0]->left.room == 0) {
        ftk_draft_append(asked[0]);
        if (err == FTK_OK)
            err = ftk_kv_reserve(&asked[0]->kv, asked[0]->tree.n + asked[0]->n_joined);
    }
    return err;
}
