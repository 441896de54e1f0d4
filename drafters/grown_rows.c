/* SPDX-License-Identifier: Apache-2.0
 * How drafts grow by a draft model. Those of sessions that share a pass grow together, so that
 * its weights are read once for the rows of all. */
#include <math.h>
#include <string.h>

#include "drafters/grown.h"
#include "drafters/took.h"

enum {
    WIDTH = FTK_GROWN_WIDTH,
    DEPTH = FTK_GROWN_DEPTH,
    CHOICES = FTK_LIKELY,
    ROWS = FTK_GROWN_TIMED, /* of a pass, of all sessions together */
    FIXED = 4,              /* rows that take no time of their own, about */
};

static const float floor_worth = 0.02f; /* of a node that gets children */

/* One of the sessions that are asked. */
typedef struct asked {
    ftk_grown *g;
    const ftk_ask *ask;
    bool drawn;        /* its nodes are a chain that is drawn */
    int taken;         /* nodes that rows are worth running for */
    int chosen[WIDTH]; /* their guesses, the best first */
    int unread;
    double saves; /* seconds that reading saves */
} asked;

/* Which rates those of a depth are. */
static int class_of(int depth)
{
    return depth < FTK_GROWN_CLASSES ? depth : FTK_GROWN_CLASSES - 1;
}

/* ---- time */

static void saw(const ftk_grown *g, int n, bool reads, double seconds)
{
    if (n <= ROWS) ftk_took_see(g->known->took[reads], g->target, n, seconds);
}

static double now(const ftk_grown *g)
{
    return g->target->now(g->target->ctx);
}

static double token_seconds(const ftk_grown *g)
{
    return ftk_target_token(g->target, g->guesses.flags);
}

/* ---- the model */

/* Reads the texts of n sessions, in one pass; said[i]: what follows. */
static void read_texts(const asked *all, int n, ftk_draft_rows *said)
{
    ftk_grown *const any = all[0].g;
    const double start = now(any);
    int rows = 0, good = 0;
    for (int i = 0; i < n; i++)
        said[i] = (ftk_draft_rows){
            .ctx = all[i].g->model->ctx, .history = all[i].ask->history, .n = all[i].ask->n};
    any->model->read(said, n);
    for (int i = 0; i < n; i++) {
        ftk_grown *const g = all[i].g;
        g->n_rows = 0;
        if (!said[i].logits) continue;
        g->grew = said[i].n;
        g->guesses.all[0].row = 0;
        rows += all[i].unread;
        good++;
    }
    if (good == n) saw(any, rows, true, now(any) - start);
}

/* Runs rows for the nodes that were taken. A guess's row is one more than the model's number for
 * it, and the root's 0. */
static void run_taken(const asked *all, int n, ftk_draft_rows *said)
{
    ftk_grown *const any = all[0].g;
    int32_t token[ROWS];
    int16_t parent[ROWS];
    int rows = 0;
    bool good = true;
    for (int i = 0; i < n; i++) {
        const ftk_guess *const guess = all[i].g->guesses.all;
        said[i] = (ftk_draft_rows){.ctx = all[i].g->model->ctx,
                                   .n = (size_t)all[i].taken,
                                   .token = token + rows,
                                   .parent = parent + rows};
        for (int k = 0; k < all[i].taken; k++, rows++) {
            token[rows] = guess[all[i].chosen[k]].token;
            parent[rows] = (int16_t)(guess[guess[all[i].chosen[k]].parent].row - 1);
        }
    }
    const double start = now(any);
    any->model->run(said, n);
    for (int i = 0; i < n; i++) {
        ftk_grown *const g = all[i].g;
        good &= said[i].logits != NULL;
        for (int k = 0; said[i].logits && k < all[i].taken; k++)
            g->guesses.all[all[i].chosen[k]].row = (int16_t)(++g->n_rows);
    }
    if (good) saw(any, rows, false, now(any) - start);
}

/* The likeliest tokens behind a node, by its row of logits. */
static void suggest_children(ftk_grown *g, int node, const float *logits)
{
    const ftk_draft_model *const m = g->model;
    const int class = class_of(g->guesses.all[node].depth);
    const int from = class * FTK_LIKELY_BINS, most = g->guesses.chain ? 1 : CHOICES;
    int32_t best[CHOICES];
    int8_t bin[CHOICES];
    const int n = ftk_likely(logits, m->n_out, most, best, bin);
    if (n > 0) ftk_confidence_see(&g->known->confidence[class], bin[0]);
    for (int i = 0; i < n; i++) {
        const int32_t token = m->vocab ? m->vocab[best[i]] : best[i];
        ftk_guesses_add(&g->guesses, node, token, FTK_GROWN_GUESS + from + bin[i]);
    }
}

/* ---- growing */

/* What a row's logits say of a node's children. */
static void follow(const asked *a, int node, const float *logits)
{
    if (a->drawn)
        ftk_drawn_grow(a->g, a->ask->n, logits);
    else
        suggest_children(a->g, node, logits);
}

/* Seconds that a row saves for a node that the text comes by with probability `reached`; at depth
 * 0, where the text is read, it may say what follows at several depths. */
static double saved_by_row(const ftk_grown *g, int depth, double reached)
{
    const int end = depth + (depth == 0 ? g->model->block : 1);
    const double token = token_seconds(g), verify = ftk_target_row(g->target);
    double sum = 0;
    for (int i = depth; i < end && i < DEPTH; i++) {
        const int class = class_of(i);
        const ftk_confidence *const c = &g->known->confidence[class];
        const ftk_rate *const right = g->known->rates + FTK_GROWN_GUESS + class * FTK_LIKELY_BINS;
        sum += ftk_confidence_saves(c, right, reached, token, verify);
        reached *= ftk_confidence_right(c, right);
    }
    return sum;
}

/* What verifying drawn tokens takes is not charged: the tree is cut by it. */
static double saved_by(const asked *a, int node, int depth)
{
    const ftk_grown *const g = a->g;
    if (!a->drawn) return saved_by_row(g, depth, ftk_guesses_open(&g->guesses, node));
    const double tokens = ftk_drawn_expected(g);
    return tokens > 0 ? tokens * token_seconds(g) : 0;
}

bool ftk_grown_late(const ftk_grown *g, size_t n)
{
    return g->model->unread(g->model->ctx, n) > FTK_GROWN_LATE;
}

void ftk_grown_read(const ftk_grown *g, const int32_t *history, size_t n)
{
    const size_t unread = g->model->unread(g->model->ctx, n);
    const int rows = unread < ROWS ? (int)unread : ROWS;
    const double start = now(g);
    ftk_draft_read(g->model, history, n);
    if (rows > 0) saw(g, rows, true, (now(g) - start) * rows / (double)unread);
}

bool ftk_grown_pays(ftk_grown *g)
{
    double *const took = g->known->took[true];
    const double takes = ftk_took_of(took, g->target, FIXED, FIXED, ROWS) / FIXED;
    if (saved_by_row(g, 0, 1) > takes) return true;
    ftk_took_doubt(took, g->target);
    return false;
}

/* Those that save most come first. */
static void sort_by_savings(asked *all, int n)
{
    for (int i = 1; i < n; i++) {
        const asked one = all[i];
        int at = i;
        for (; at > 0 && all[at - 1].saves < one.saves; at--) all[at] = all[at - 1];
        all[at] = one;
    }
}

/* Reads the texts that are worth it, which go to the front; returns how many those are. */
static int begin_with_texts(asked *all, int n)
{
    ftk_draft_rows said[FTK_ASKS];
    ftk_wish wish[FTK_ASKS];
    const ftk_work work = {all[0].g->known->took[true], NULL, FIXED, ROWS};
    int read = 0, left = 0;
    for (int i = 0; i < n; i++) all[i].saves = saved_by(&all[i], 0, 0);
    sort_by_savings(all, n);
    for (int i = 0; i < n; i++)
        wish[i] = (ftk_wish){all[0].g->target, 1, .first = all[i].unread, .saves = {all[i].saves}};
    if (ftk_took_choose(&work, wish, n) == 0) return 0;
    while (read < n && wish[read].taken) read++;
    read_texts(all, read, said);
    for (int i = 0; i < read; i++) {
        if (!said[i].logits) continue;
        follow(&all[i], 0, said[i].logits);
        all[left++] = all[i];
    }
    return left;
}

/* Takes of each session the nodes, the best first, that rows are worth running for; returns how
 * many there are. Before a row was run, text was read, which takes about as long. */
static int take_nodes(asked *all, int n, int depth)
{
    ftk_grown_known *const known = all[0].g->known;
    const ftk_work work = {known->took[false], known->took[true], FIXED, ROWS};
    ftk_wish wish[FTK_ASKS];
    for (int i = 0; i < n; i++) {
        ftk_grown *const g = all[i].g;
        ftk_wish *const w = &wish[i];
        const int room = FTK_MAX_NODES - g->n_rows;
        *w = (ftk_wish){.target = g->target, .first = 1, .more = 1};
        if (all[i].drawn) {
            all[i].chosen[0] = g->drawn.last;
            w->n = g->drawn.n_chain == depth && depth < FTK_DRAWN_DEPTH;
        } else {
            w->n = ftk_guesses_best(&g->guesses, depth, floor_worth, true,
                                    g->guesses.chain ? 1 : WIDTH, all[i].chosen);
        }
        if (w->n > room) w->n = room;
        for (int k = 0; k < w->n; k++) w->saves[k] = saved_by(&all[i], all[i].chosen[k], depth);
    }
    const int rows = ftk_took_choose(&work, wish, n);
    for (int i = 0; i < n; i++) all[i].taken = wish[i].taken;
    return rows;
}

/* Children of the nodes of a depth, as far as that is worth it; returns how many sessions, at the
 * front, go on. */
static int grow(asked *all, int n, int depth)
{
    ftk_draft_rows said[FTK_ASKS];
    int left = 0;
    if (take_nodes(all, n, depth) == 0) return 0;
    for (int i = 0; i < n; i++)
        if (all[i].taken > 0) all[left++] = all[i];
    n = left;
    left = 0;
    run_taken(all, n, said);
    for (int i = 0; i < n; i++) {
        if (!said[i].logits) continue;
        for (int k = 0; k < all[i].taken; k++)
            follow(&all[i], all[i].chosen[k],
                   said[i].logits + (size_t)k * all[i].g->model->stride);
        all[left++] = all[i];
    }
    return left;
}

/* Those whose texts one pass can read grow together. */
static void grow_all(asked *all, int n)
{
    for (int from = 0, to = 0; from < n; from = to) {
        int rows = 0;
        while (to < n && (to == from || rows + all[to].unread <= ROWS)) rows += all[to++].unread;
        int left = begin_with_texts(all + from, to - from);
        for (int depth = 1; depth < DEPTH && left > 0; depth++)
            left = grow(all + from, left, depth);
    }
}

/* ---- the drafter */

/* True: the draft may grow. */
static bool begin(asked *a, const ftk_ask *ask)
{
    ftk_grown *const g = ask->state;
    ftk_grown_keep(g, ask->history, ask->n);
    const bool drawn = g->drawn.q && g->sampling->temperature > 0;
    if (drawn)
        ftk_drawn_begin(g, ask->history[ask->n - 1]);
    else
        ftk_guesses_ask(&g->guesses, ask->history, ask->n);
    const bool late = ftk_grown_late(g, ask->n);
    const size_t unread = late ? 0 : g->model->unread(g->model->ctx, ask->n);
    *a = (asked){.g = g, .ask = ask, .drawn = drawn, .unread = (int)unread};
    return !late;
}

void ftk_grown_propose_all(const ftk_ask *asks, int n)
{
    asked all[FTK_ASKS];
    int n_all = 0;
    for (int i = 0; i < n; i++) n_all += begin(&all[n_all], &asks[i]);
    grow_all(all, n_all);
    for (int i = 0; i < n; i++) {
        ftk_grown *const g = asks[i].state;
        if (g->guesses.asked > 0)
            ftk_guesses_plant(&g->guesses, asks[i].budget, asks[i].tree);
        else
            ftk_drawn_plant(g, asks[i].n, asks[i].budget, asks[i].tree);
    }
}

void ftk_grown_propose(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    const ftk_ask ask = {state, history, n, budget, tree};
    ftk_grown_propose_all(&ask, 1);
}
