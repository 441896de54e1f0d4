/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts that a device finishes. The drafter leaves what it knows and what is to be run
 * (ftk_target.leave), the loop adds how large the tree may be; heads or maps, the tree and the
 * pass that verifies it follow each other on the device, and the host waits once, for as many
 * sessions as share the pass. Such drafts are those of sessions whose verdict needs no logits.
 *
 * A pass must be put on the queue before the tree is there. So it is laid out for the largest
 * tree that the account of drafts covers, and rows that the tree turns out too small for are run
 * all the same: they are what the step is charged. Which part of the tree pays is decided by the
 * usual costs, so that trees do not grow because rows are there. */
#include <assert.h>

#include "base/clock.h"
#include "session.h"

/* Places behind the root that a guess may be for. */
static int reach_of(const ftk_unfinished *draft)
{
    const int named = draft->maps ? draft->maps->n : draft->heads->n;
    return draft->ask->deepest > named ? draft->ask->deepest : named;
}

/* Nodes that there are slots and rows for, and, where the cost model decides, credit; then no
 * row is there for the sake of one node. */
static int room_for(const ftk_session *s, const ftk_unfinished *draft, int budget)
{
    const int slots = s->room, rows = s->engine->rows_left;
    int room = budget < rows ? budget : rows;
    if (draft->maps && draft->maps->n > slots) return 0;
    if (s->cfg.shape == FTK_TREE_CHAIN && room > reach_of(draft)) room = reach_of(draft);
    if (room > slots - 1) room = slots - 1;
    if (!ftk_session_sizes_itself(s)) return room;
    room = ftk_size_covered(s, room, draft->seconds);
    return room < FTK_DEVICE_ROWS ? room : (room + 1) / FTK_DEVICE_ROWS * FTK_DEVICE_ROWS - 1;
}

bool ftk_finish_leave(void *session, const ftk_unfinished *draft, int budget)
{
    ftk_session *const s = session;
    const ftk_family *const f = &s->family;
    if (!f->ops->finished || !(ftk_session_spare(s) & FTK_SPARE_LOGITS)) return false;
    const int room = room_for(s, draft, budget);
    const int made = draft->maps ? draft->maps->n : 0;
    if (room < 1 || ftk_kv_reserve(&s->kv, made > room ? made : room + 1) != FTK_OK) return false;
    ftk_finishing *const to = &s->left.finishing;
    *to = (ftk_finishing){.draft = *draft,
                          .held =
                              ftk_target_held(s, draft->heads ? FTK_HELD_FEATURE : FTK_HELD_STATE)};
    ftk_sizing *const size = &to->size;
    size->most = budget;
    size->room = s->left.room = room;
    s->engine->rows_left -= room;
    size->all = !ftk_session_sizes_itself(s);
    size->chain = s->cfg.shape == FTK_TREE_CHAIN;
    size->probe = size->all ? 0 : ftk_size_probe(f);
    size->others = s->engine->company.n - 1;
    for (int i = 0; i <= budget; i++)
        size->seconds[i] = s->engine->company.plain + ftk_size_more(s, i);
    return true;
}

static void take_tree(ftk_tree *t, const ftk_planted *from)
{
    ftk_tree_init(t, from->node[0].token);
    for (int i = 1; i < from->n; i++) {
        const ftk_planted_node *const node = &from->node[i];
        const int at = ftk_tree_add(t, node->parent, node->token, node->prob);
        assert(at == i && "the rows are those of the nodes");
    }
}

double ftk_finish_take(ftk_session *s)
{
    ftk_family *const f = &s->family;
    const ftk_finished *const done = &s->left.finishing.done;
    const double start = ftk_engine_now(s->engine);
    take_tree(&s->tree, done->tree);
    f->ops->finished(f->state, done);
    ftk_size_took(s, f, s->left.seconds + done->seconds + (ftk_engine_now(s->engine) - start));
    if (!s->left.finishing.size.all) ftk_size_wanted(f, done->tree->pay, done->tree->there - 1);
    return done->seconds;
}
