/* SPDX-License-Identifier: Apache-2.0
 * Trees that a device makes: node for node those that guesses.c makes of the same guesses, cut
 * where the cost model cuts; and passes over them, which are those over trees that the host
 * knows. */
#include "checkcuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drafters/drafter.h"
#include "drafters/guesses.h"
#include "engine/cost.h"
#include "model/device_cuda.h"

enum {
    VOCAB = 60, /* so small that sources often name the same token */
    RETRIEVED = 16,
    COMES_AT = FTK_HEADS * FTK_HEAD_BINS,
    RATES = COMES_AT + FTK_GUESS_RATES,
};

/* What a family has, as the host knows it. */
typedef struct {
    uint32_t seed;
    ftk_rate rates[RATES];
    ftk_guesses g;
    ftk_retrieval retrieval;
    ftk_successors successors;
    ftk_retrieval_rates of_retrieval;
    ftk_successor_rates of_successors;
    ftk_cost cost;
    ftk_company company; /* others may decode in the pass */
} family;

static uint32_t next(family *f, uint32_t below)
{
    f->seed = f->seed * 1664525u + 1013904223u;
    return (f->seed >> 8) % below;
}

/* Few values, 1 among them: so products are often the same. */
static void coarse(family *f, ftk_rate *r, int n)
{
    for (int i = 0; i < n; i++) ftk_rate_init(&r[i], (float)(1 + next(f, 8)) / 8);
}

static int32_t any_token(family *f, int n_vocab)
{
    return (int32_t)next(f, (uint32_t)n_vocab);
}

static void family_open(family *f, uint32_t seed, int n_vocab)
{
    static const ftk_host host;
    *f = (family){.seed = seed};
    must(ftk_guesses_init(&f->g, &host, 1000, f->rates, RATES), "guesses");
    must(ftk_successors_init(&f->successors, &host, n_vocab, &f->of_successors), "successors");
    coarse(f, f->rates, RATES);
    for (int i = COMES_AT; i < RATES; i++) f->rates[i].prior *= (float)(1 + next(f, 2));
    f->retrieval.rates = &f->of_retrieval;
    coarse(f, f->of_retrieval.goes_on, FTK_MATCH_CLASSES);
    coarse(f, f->of_retrieval.forks, FTK_MATCH_CLASSES);
    coarse(f, f->of_successors.right[0], FTK_SUCCESSOR_DEPTHS * FTK_LIKELY_BINS);
    double seconds = 1;
    for (int i = 0; i < FTK_COST_POINTS; i++)
        f->cost.seconds[i] = seconds += (double)next(f, 100) / 100;
    f->cost.slot = 1e-4;
}

static ftk_company company_of(family *f, int depth)
{
    const int n = 1 + (int)next(f, 4);
    const ftk_width rows = ftk_width_and(ftk_width_of(1, depth), n - 1, 10);
    return ftk_company_of(&f->cost, n, rows, rows);
}

static void family_close(family *f)
{
    static const ftk_host host;
    ftk_guesses_free(&f->g, &host);
    ftk_successors_free(&f->successors, &host);
}

/* What is known before: chains and successors, of each more or fewer. */
static void guess_some(family *f, int32_t root, int n_vocab)
{
    ftk_guesses_begin(&f->g, root);
    f->retrieval.n = (int)next(f, RETRIEVED + 1);
    f->retrieval.length = (int)next(f, 20);
    for (int i = 0; i < f->retrieval.n; i++) {
        f->retrieval.recent[i] = any_token(f, n_vocab);
        f->retrieval.first[i] = next(f, 4) ? f->retrieval.recent[i] : any_token(f, n_vocab);
    }
    ftk_guesses_add_retrieved(&f->g, &f->retrieval);
    for (int t = 0; t < n_vocab; t++) {
        ftk_successor_set *const set = &f->successors.of[t];
        *set = (ftk_successor_set){.size = {0}};
        for (int k = (int)next(f, FTK_SUCCESSORS + 1) - 1; k >= 0; k--) {
            set->token[k] = (any_token(f, n_vocab / 4) * 4 + k) % n_vocab;
            set->size[k] = (int8_t)(1 + next(f, FTK_LIKELY_BINS));
        }
    }
    f->successors.least = next(f, 2) ? 0.02f : 0.3f;
    ftk_guesses_add_successors(&f->g, &f->successors);
}

/* Tokens that differ, ever less likely, of a vocabulary that may have few; now and then a row
 * that is none. */
static void say(family *f, int n_vocab, ftk_ranked *r)
{
    const int first = (int)next(f, VOCAB);
    float p = 1;
    for (int k = 0; k < FTK_BEST; k++) {
        p *= (float)next(f, 100) / 100;
        r->best[k] = k < n_vocab ? (first + 7 * k) % n_vocab : -1;
        r->prob[k] = p;
    }
    r->token = next(f, 8) ? r->best[0] : -1;
}

/* The host's guesses, with all that was said: of the nodes that it chooses itself, which must be
 * those that the device chose. */
static void hear(family *f, const ftk_cuda_pick *how, int n_heads, const ftk_heads_said *said,
                 float least, int n_vocab)
{
    static int guess[FTK_HEAD_SLOTS];
    for (int i = 0; i < f->g.n; i++) guess[i] = i;
    for (int h = 0; h < n_heads; h++) {
        int chosen[FTK_HEAD_NODES];
        const int n =
            ftk_guesses_best(&f->g, h, least, how->chained && how->sees_token, how->width, chosen);
        if (!expect(n == said->n[h], "as many nodes get children (head, nodes)", h, n)) return;
        for (int i = 0; i < n; i++)
            if (!expect(guess[said->node[h][i]] == chosen[i],
                        "other nodes get children (head, node)", h, i))
                return;
        for (int i = 0; i < n; i++) {
            int32_t best[FTK_BEST];
            int8_t bin[FTK_BEST];
            const ftk_rows rows = {.ranked = (const ftk_ranked *)said->said + h * how->apart};
            const int named =
                ftk_rows_likely(&rows, how->sees_token ? i : 0, n_vocab, how->choices, best, bin);
            f->g.all[chosen[i]].row = (int16_t)i;
            for (int k = 0; k < named; k++)
                guess[FTK_HEAD_KNOWN + (h * FTK_HEAD_NODES + i) * FTK_BEST + k] =
                    ftk_guesses_add(&f->g, chosen[i], how->vocab ? how->vocab[best[k]] : best[k],
                                    h * FTK_HEAD_BINS + bin[k]);
        }
    }
}

/* What is cut is what the loop would cut. */
static void check_tree_of(family *f, const ftk_sizing *size, const ftk_planted *got, int depth)
{
    ftk_tree want;
    ftk_tree_init(&want, f->g.all[0].token);
    ftk_guesses_plant(&f->g, size->most, &want);
    const int there = want.n - 1;
    int n = size->all ? there : ftk_cost_best(&f->cost, &f->company, want.prob + 1, there, depth);
    if (!expect(got->there == want.n, "nodes before the cut (have, want)", got->there, want.n))
        return;
    expect(got->pay == n, "nodes that pay (have, want)", got->pay, n);
    if (n == 0) n = size->probe < there ? size->probe : there;
    if (n > size->room) n = size->room;
    expect(got->n == n + 1, "nodes behind the cut (have, want)", got->n, n + 1);
    for (int i = 0; i < want.n; i++)
        if (!expect(got->node[i].token == want.token[i] && got->node[i].parent == want.parent[i] &&
                        got->node[i].prob == want.prob[i],
                    "another node (node, of)", i, want.n))
            return;
}

enum { CANARIES = 8, LAID = FTK_MAX_NODES + CANARIES };

typedef struct {
    uint64_t mask[LAID][2];
    ftk_cuda_draw draw[LAID];
    int32_t token[LAID], pos[LAID];
    ftk_cuda_span span;
} laid_out;

/* Rows are those of the nodes; rows that are too many see nothing, and what lies behind them is
 * left alone. */
static void check_rows(const laid_out *got, const laid_out *before, const ftk_planted *t, int room)
{
    ftk_tree as_tree;
    ftk_tree_init(&as_tree, t->node[0].token);
    for (int i = 1; i < t->n; i++)
        ftk_tree_add(&as_tree, t->node[i].parent, t->node[i].token, t->node[i].prob);
    static const uint64_t none[2];
    for (int i = 0; i < LAID; i++) {
        const bool node = i < as_tree.n, row = i <= room;
        const int as = node ? as_tree.depth[i] : i;
        const uint64_t *const mask = node ? as_tree.mask[i] : row ? none : before->mask[i];
        const int32_t token = node ? as_tree.token[i] : row ? 0 : before->token[i];
        if (!expect(memcmp(got->mask[i], mask, sizeof none) == 0 && got->token[i] == token &&
                        got->pos[i] == before->pos[as] &&
                        got->draw[i].uniform == before->draw[as].uniform,
                    "another row (row, of)", i, as_tree.n))
            return;
    }
    expect(got->span.prefix == before->span.prefix && got->span.n_rows == as_tree.n &&
               got->span.n_slots == before->span.prefix + as_tree.n,
           "rows of the sequence (have, want)", got->span.n_rows, as_tree.n);
}

static void plant_one(ftk_queue *q, ftk_cuda_draft *there, laid_out *rows, int seed)
{
    static ftk_cuda_draft d;
    static laid_out before, after;
    family f;
    const int n_vocab = VOCAB, depth = 40;
    family_open(&f, (uint32_t)seed * 2654435761u + 1, n_vocab);
    const bool maps = seed % 3 == 0;
    const ftk_cuda_pick how = {.width = FTK_HEAD_NODES,
                               .choices = FTK_BEST,
                               .chained = !maps && next(&f, 2),
                               .sees_token = !maps && next(&f, 4),
                               .apart = maps ? 1 : FTK_HEAD_NODES};
    const int n_said = next(&f, 8) ? VOCAB : FTK_BEST / 2;
    const int n_heads = 1 + (int)next(&f, FTK_HEADS);
    const float least = next(&f, 2) ? 0.05f : 0.01f;
    memset(&d, 0xff, sizeof d);
    guess_some(&f, any_token(&f, n_vocab), n_vocab);
    ftk_guesses_tell(&f.g, least, f.rates, FTK_HEADS, &d.ask);
    for (int i = 0; i < FTK_HEADS * FTK_HEAD_NODES; i++)
        say(&f, n_said, &d.said.said[i / FTK_HEAD_NODES][i % FTK_HEAD_NODES]);
    d.size = (ftk_sizing){.most = 1 + seed % (FTK_MAX_NODES - 1),
                          .probe = next(&f, 2) ? 4 : 0,
                          .all = next(&f, 4) == 0,
                          .chain = next(&f, 3) == 0};
    f.g.chain = d.size.chain;
    d.size.room = 1 + (int)next(&f, (uint32_t)d.size.most);
    f.company = company_of(&f, depth);
    d.size.others = f.company.n - 1;
    for (int i = 0; i <= d.size.most; i++)
        d.size.seconds[i] = f.company.plain + ftk_cost_more(&f.cost, &f.company, i, depth);
    for (int i = 0; i < LAID; i++) {
        before.pos[i] = depth + i;
        before.draw[i] = (ftk_cuda_draw){.uniform = (double)i / LAID, .temperature = 1};
        before.token[i] = -5;
        memset(before.mask[i], 0x55, sizeof before.mask[i]);
    }
    before.span = (ftk_cuda_span){depth, d.size.room + 1, depth + d.size.room + 1};
    ftk_cuda_upload(q, there, &d, sizeof d);
    ftk_cuda_upload(q, rows, &before, sizeof before);
    ftk_cuda_draft_plant(
        q, &how, n_heads,
        &(ftk_cuda_rows){rows->mask, rows->draw, rows->token, rows->pos, &rows->span}, there);
    ftk_cuda_download(q, &d, there, sizeof d);
    ftk_cuda_download(q, &after, rows, sizeof after);
    expect(ftk_cuda_wait(q), "the device failed", seed, 0);
    hear(&f, &how, n_heads, &d.said, least, n_said);
    check_tree_of(&f, &d.size, &d.tree, depth);
    check_rows(&after, &before, &d.tree, d.size.room);
    family_close(&f);
}

void check_planted(int ordinal)
{
    enum { CASES = 381 }; /* each size of a tree three times, one of them of maps */
    check_shape_name = "trees of guesses";
    ftk_queue q;
    if (!expect(ftk_cuda_open(&q, ordinal), "the device cannot be opened", 0, 0)) return;
    ftk_cuda_draft *const there = ftk_cuda_alloc(&q, sizeof *there);
    laid_out *const rows = ftk_cuda_alloc(&q, sizeof *rows);
    for (int i = 0; i < CASES && there && rows; i++) plant_one(&q, there, rows, i);
    expect(there && rows, "no memory", 0, 0);
    ftk_cuda_free(&q, there);
    ftk_cuda_free(&q, rows);
    ftk_cuda_close(&q);
}

/* ------------------------------------------------------------------ drafts that are finished */

enum { MOST_ROWS = 32, FEW = 10 };

/* What a pass leaves of its rows: what is likeliest, features, and, where a path of it is
 * committed, what the model says behind that. */
typedef struct {
    ftk_ranked ranked[MOST_ROWS];
    float *features; /* [MOST_ROWS][n_embd] */
    float behind[MOST_VOCAB];
} left;

/* at: of the rows with logits the tree's first. */
static void take_rows(const bench *b, const ftk_tree *t, int at, left *to)
{
    const size_t d = (size_t)b->f.m->hp.n_embd;
    memcpy(to->ranked, b->f.ranked + at, (size_t)t->n * sizeof *to->ranked);
    memcpy(to->features, b->f.features + (size_t)at * d, (size_t)t->n * d * sizeof *to->features);
}

static void take_behind(bench *b, ftk_kv_seq *s, const ftk_tree *t, left *to)
{
    const int len = s->len;
    int16_t path[FTK_MAX_NODES];
    const int n = t->depth[t->n - 1] + 1;
    for (int i = n - 1, at = t->n - 1; i >= 0; i--, at = t->parent[at]) path[i] = (int16_t)at;
    ftk_kv_commit(s, path, n);
    must(ftk_kv_reserve(s, 1), "reserve");
    const int32_t token = token_at(b, 3);
    ftk_forward_run(&b->f, &(ftk_pass_seq){.kv = s, .n_rows = 1, .token = &token}, 1);
    memcpy(to->behind, b->f.logits, row_bytes(b));
    ftk_kv_truncate(s, len);
    must(ftk_kv_reserve(s, MOST_ROWS), "reserve");
}

static void expect_left(const bench *b, const left *a, const left *c, int n, const char *what)
{
    const size_t row = (size_t)b->f.m->hp.n_embd * sizeof(float);
    expect(memcmp(a->ranked, c->ranked, (size_t)n * sizeof *a->ranked) == 0 &&
               memcmp(a->features, c->features, (size_t)n * row) == 0,
           what, n, 0);
    expect(memcmp(a->behind, c->behind, row_bytes(b)) == 0, "what lies behind its path differs", n,
           0);
}

static left left_new(const bench *b)
{
    return (left){.features = malloc(MOST_ROWS * (size_t)b->f.m->hp.n_embd * sizeof(float))};
}

static ftk_tree tree_of(const ftk_planted *from)
{
    ftk_tree t;
    ftk_tree_init(&t, from->node[0].token);
    for (int i = 1; i < from->n; i++)
        ftk_tree_add(&t, from->node[i].parent, from->node[i].token, 0.5f);
    return t;
}

/* One call and one wait give what a pass over the same tree gives that the host knows: as it
 * stands, to be kept, from what was kept, and that beside a fork that has the same draft, and
 * beside one and a sequence that is read. said: what heads or maps say of the draft by
 * themselves. */
void check_finished(bench *b, ftk_kv_seq *s, const ftk_unfinished *draft, const float *held,
                    const ftk_ranked *said, int n_said)
{
    enum { TWO = 4, THREE = 7, RUNS = 9, READ = 5 };
    static const ftk_sampling how = {.temperature = 0.9f, .top_p = 0.9f, .seed = 5};
    const ftk_queue *const q = &((ftk_gpu *)(void *)b->device)->q;
    left got[2] = {left_new(b), left_new(b)}, want = left_new(b);
    ftk_kv_seq reading = seq_new(b), fork = seq_new(b);
    ftk_kv_fork(&fork, s);
    int32_t text[READ];
    for (int i = 0; i < READ; i++) text[i] = token_at(b, i);
    must(ftk_kv_reserve(&reading, READ), "reserve");
    must(ftk_kv_reserve(&fork, MOST_ROWS), "reserve");
    must(ftk_kv_reserve(s, MOST_ROWS), "reserve");
    for (int run = 0; run < RUNS; run++) {
        const bool alone = run < TWO, reads = run >= THREE, kept = run == 2 || run == 3 || run == 6;
        ftk_finishing own = {
            .draft = *draft,
            .size = {.most = MOST_ROWS - 1, .room = MOST_ROWS - 9, .all = run != 3},
            .held = held};
        for (int i = 0; i <= own.size.most; i++) own.size.seconds[i] = 1 + 0.15 * i;
        ftk_finishing same = own;
        ftk_pass_seq p = {.kv = s,
                          .n_rows = own.size.room + 1,
                          .spare = FTK_SPARE_LOGITS | FTK_SPARE_STATES,
                          .sampling = run % 2 ? &how : NULL,
                          .left = &own};
        const int at = reads ? run % 2 : 0; /* rows with logits before it */
        ftk_pass_seq all[] = {
            {.kv = &reading, .n_rows = READ, .token = text, .first_logits = READ - at}, p, p};
        all[2].kv = &fork;
        all[2].left = &same;
        const int waits = q->waits, launches = q->launches;
        ftk_forward_run(&b->f, all + !reads, alone ? 1 : reads ? 3 : 2);
        const ftk_finished *const f = &own.done;
        if (!expect(f->tree != NULL, "no draft was finished", run, 0)) break;
        expect(!ftk_cuda_emulated() || q->waits == waits + 1, "waits for a draft and its pass", run,
               q->waits - waits);
        /* what is held, the tree, what is likeliest: all else was kept */
        expect(!kept || q->launches - launches <= (alone ? FEW : 2 * FEW),
               "kernels beside what is kept (run, kernels)", run, q->launches - launches);
        expect(f->seconds > 0, "the draft took no time", run, 0);
        expect(memcmp(f->said->said, said, (size_t)n_said * sizeof *said) == 0,
               "heads or maps say something else (run)", run, 0);
        expect(run == 3 ? f->tree->n > 1 && f->tree->n < f->tree->there : f->tree->n == p.n_rows,
               "nodes (run, nodes)", run, f->tree->n);
        expect(alone || memcmp(f->tree, same.done.tree, sizeof *f->tree) == 0,
               "equal drafts have other trees (run)", run, 0);
        const ftk_tree t = tree_of(f->tree);
        take_rows(b, &t, at, &got[0]);
        if (!alone) take_rows(b, &t, at + p.n_rows, &got[1]);
        take_behind(b, s, &t, &got[0]);
        if (!alone) take_behind(b, &fork, &t, &got[1]);
        p.left = NULL;
        p.n_rows = t.n;
        p.token = t.token;
        p.depth = t.depth;
        p.mask = (const uint64_t(*)[2])t.mask;
        ftk_forward_run(&b->f, &p, 1);
        take_rows(b, &t, 0, &want);
        take_behind(b, s, &t, &want);
        for (int i = 0; i < (alone ? 1 : 2); i++)
            expect_left(b, &got[i], &want, t.n, "a finished draft's rows differ");
    }
    ftk_kv_seq_close(&reading);
    ftk_kv_seq_close(&fork);
    free(got[0].features);
    free(got[1].features);
    free(want.features);
}
