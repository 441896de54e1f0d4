/* SPDX-License-Identifier: Apache-2.0
 * Heads of EAGLE-3: the figures of the package speculators, in every layout; what comes is plain
 * decoding's. */
#define EAGLE_TEST "eagle"
#include "eagleheads.h"

#include <math.h>

#include "drafters/grown.h"
#include "eaglefigures.h"
#include "engine/session.h"
#include "testkit/costclock.h"
#include "testkit/statistics.h"

enum { N = 48, CTX = 220 };

/* ---- figures */

static ftk_net_seq *net_of(const ftk_session *s, const char *drafter)
{
    return s->nets[ftk_drafter_index(drafter, strlen(drafter))];
}

static ftk_session *open_head(ftk_engine *e, const char *drafter)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.n_ctx = CTX;
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    return s;
}

static void compare(const char *head, int row, const float *logits)
{
    for (size_t i = 0; i < sizeof eagle_figures / sizeof *eagle_figures; i++) {
        const struct eagle_figure *const f = &eagle_figures[i];
        if (strcmp(f->head, head) != 0 || f->row != row) continue;
        for (int j = 0; j < EAGLE_SHOWN; j++)
            if (!(fabsf(logits[j * EAGLE_EVERY] - f->logit[j]) <= 1e-4f))
                fail_msg("%s, row %d, logit %d: %f instead of %f", head, row, j * EAGLE_EVERY,
                         (double)logits[j * EAGLE_EVERY], (double)f->logit[j]);
        return;
    }
    fail_msg("there are no figures for %s, row %d", head, row);
}

static int32_t drafted(int depth, int branch)
{
    return (50 + depth * 13 + branch * 31) % EF_VOCAB;
}

/* States that no pass of the target has left. */
static void show_states(ftk_net_seq *s, const int32_t *text, size_t from, size_t n)
{
    float *states = ef_weights("states", (EAGLE_TEXT - 1) * 3 * EF_WIDTH, 3 * EF_WIDTH);
    for (size_t i = from; i < n; i++) {
        const ftk_forward f = {.max_rows = 1, .tapped = states + i * 3 * EF_WIDTH};
        ftk_net_seq_see(s, text, EAGLE_TEXT, i, &f, 0);
    }
    free(states);
}

static const float *run_one(const ftk_draft_model *m, int n, const int32_t *token,
                            const int16_t *parent)
{
    ftk_draft_rows ask = {.ctx = m->ctx, .n = (size_t)n, .token = token, .parent = parent};
    m->run(&ask, 1);
    return ask.logits;
}

static void check_figures(ftk_engine *e, const char *head)
{
    int32_t text[EAGLE_TEXT], token[2];
    for (int i = 0; i < EAGLE_TEXT; i++) text[i] = (i * 7 + 3) % EF_VOCAB;
    ftk_session *s = open_head(e, "eagle3");
    ftk_net_seq *const seq = net_of(s, "eagle3");
    const ftk_draft_model *const m = &seq->as_seen;
    show_states(seq, text, 0, EAGLE_TEXT - 1);
    for (int again = 0; again < 3; again++) {
        const float *logits = ftk_draft_read(m, text, EAGLE_TEXT);
        assert_non_null(logits);
        compare(head, 0, logits);
        int16_t parent[2] = {-1};
        for (int depth = 0; depth < EAGLE_STEPS; depth++) {
            const bool two =
                depth == 1; /* two rows in one pass: the chain's, and a branch beside it */
            token[0] = drafted(depth, 0);
            token[1] = drafted(1, 1);
            parent[0] = parent[1] = (int16_t)(depth < 2 ? depth - 1 : depth == 2 ? 1 : depth);
            logits = run_one(m, 1 + two, token, parent);
            assert_non_null(logits);
            compare(head, 1 + depth, logits);
            if (two) compare(head, 1 + EAGLE_STEPS, logits + m->stride);
        }
        parent[0] = 2; /* the branch's row */
        token[0] = drafted(2, 1);
        logits = run_one(m, 1, token, parent);
        compare(head, 2 + EAGLE_STEPS, logits);
        /* Cut and read again; the true states take the place of those that were drafted. */
        ftk_net_seq_truncate(seq, EAGLE_TEXT - 2 - (size_t)again);
        show_states(seq, text, EAGLE_TEXT - 3 - (size_t)again, EAGLE_TEXT - 1);
    }
    ftk_session_free(s);
}

static void test_figures(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        ef_layout layout;
    } files[] = {{"plain", EF_EAGLE},       {"plain", EF_SPECFORGE},    {"plain", EF_SPECULATORS},
                 {"plain", EF_GGUF},        {"whole", EF_EAGLE},        {"whole", EF_SPECULATORS},
                 {"qwen3", EF_SPECULATORS}, {"before", EF_SPECULATORS}, {"before", EF_EAGLE},
                 {"fed", EF_SPECULATORS}};
    ftk_model *m = load_model(TARGET);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        for (int threads = 1; threads < 3; threads++) {
            ftk_engine *e = open_engine(m, threads, 512, FTK_TYPE_F32);
            const ef_how how = {.layout = files[i].layout};
            assert_int_equal(ftk_engine_add_drafter(e, written(files[i].head, &how)), FTK_OK);
            check_figures(e, files[i].head);
            ftk_engine_free(e);
        }
    ftk_model_free(m);
}

/* Rows of a chain behind the text; what was there is read anew after a cut. */
static void check_block(ftk_engine *e, const char *drafter, int depths)
{
    int32_t text[EAGLE_TEXT];
    for (int i = 0; i < EAGLE_TEXT; i++) text[i] = (i * 7 + 3) % EF_VOCAB;
    ftk_session *s = open_head(e, drafter);
    ftk_net_seq *const seq = net_of(s, drafter);
    const ftk_draft_model *const m = &seq->as_seen;
    assert_int_equal(m->block, depths);
    show_states(seq, text, 0, EAGLE_TEXT - 1);
    for (int again = 0; again < 3; again++) {
        const float *logits = ftk_draft_read(m, text, EAGLE_TEXT);
        assert_non_null(logits);
        compare(drafter, 0, logits);
        for (int depth = 0; depth < depths; depth++) {
            logits =
                run_one(m, 1, (int32_t[]){drafted(depth, 0)}, (int16_t[]){(int16_t)(depth - 1)});
            if (depth + 1 < depths) compare(drafter, depth + 1, logits);
        }
        assert_null(logits);      /* it says nothing of what lies behind */
        if (again == 0) continue; /* asked a second time, of the same text */
        ftk_net_seq_truncate(seq, EAGLE_TEXT - 2);
        show_states(seq, text, EAGLE_TEXT - 3, EAGLE_TEXT - 1);
    }
    ftk_session_free(s);
}

static void test_blocks(void **state)
{
    (void)state;
    ftk_model *m = load_model(TARGET);
    static const ef_layout layouts[] = {EF_EAGLE, EF_SPECULATORS, EF_GGUF};
    for (int k = 0; k < 12; k++) {
        const ef_how how = {.layout = layouts[k >> 2]};
        const char *const drafter = k & 2 ? "dspark" : "dflash";
        ftk_engine *e = open_engine(m, 1 + k % 2, 512, FTK_TYPE_F32);
        assert_int_equal(ftk_engine_add_drafter(e, folder_of(drafter, &how)), FTK_OK);
        check_block(e, drafter, k & 2 ? EF_BLOCK : EF_BLOCK - 1);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* What the text's states take is told to a clock, as is what the block does. */

typedef struct heard {
    int n;
    double first; /* weights times rows */
} heard;

static void hear_product(void *ctx, int n_out, int n_in, int rows)
{
    heard *const h = ctx;
    if (h->n++ == 0) h->first = (double)n_out * n_in * rows;
}

static void test_clock(void **state)
{
    (void)state;
    heard h = {0};
    const ftk_clock clock = {.product = hear_product, .ctx = &h};
    int32_t text[EAGLE_TEXT];
    for (int i = 0; i < EAGLE_TEXT; i++) text[i] = (i * 7 + 3) % EF_VOCAB;
    ftk_model *m = load_model(TARGET);
    ftk_engine *e = open_engine(m, 1, 512, FTK_TYPE_F32);
    assert_int_equal(ftk_engine_add_drafter(e, folder_of("dflash", &(ef_how){0})), FTK_OK);
    ftk_session *s = open_head(e, "dflash");
    ftk_net_seq *const seq = net_of(s, "dflash");
    seq->net->clock = &clock;
    show_states(seq, text, 0, EAGLE_TEXT - 1);
    assert_non_null(ftk_draft_read(&seq->as_seen, text, EAGLE_TEXT));
    const double keys = seq->net->model->hp.n_layer * EF_WIDTH * EF_HEADS_KV * EF_DIM;
    assert_true(h.first == 2 * keys * (EAGLE_TEXT - 1));
    assert_int_equal(h.n, 3); /* then the layers and the output matrix, of the block */
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

static void test_medusa(void **state)
{
    (void)state;
    ftk_model *m = load_model(TARGET);
    for (int k = 0; k < 2; k++) {
        const ef_how how = {.layout = k ? EF_SPECULATORS : EF_EAGLE};
        ftk_engine *e = open_engine(m, 1, 512, FTK_TYPE_F32);
        assert_int_equal(ftk_engine_add_drafter(e, folder_of("medusa", &how)), FTK_OK);
        ftk_session *s = open_head(e, "medusa");
        ftk_net_seq *const seq = net_of(s, "medusa");
        /* The feature takes the place of the state that its norm would make it of. */
        float *const feature = ef_weights("feature", EF_WIDTH, EF_WIDTH);
        memcpy(seq->left, feature, EF_WIDTH * sizeof *feature);
        seq->left_of = 1;
        const ftk_draft_model *const d = &seq->as_seen;
        const float *logits = ftk_draft_read(d, (int32_t[]){4, 5}, 2);
        for (int depth = 0; depth < EF_MEDUSA; depth++) {
            assert_non_null(logits);
            compare("medusa", depth, logits);
            logits = run_one(d, 1, (int32_t[]){7}, (int16_t[]){(int16_t)(depth - 1)});
        }
        assert_null(logits);
        free(feature);
        ftk_session_free(s);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* ---- exactness */

typedef struct how {
    const char *drafter, *verifier;
    int budget;
    ftk_tree_shape shape;
    float temperature;
    unsigned flags;             /* of drafters/drafter.h */
    const ftk_drafter_ops *ops; /* with flags; NULL: eagle3 */
} how;

static ftk_session *open_how(ftk_engine *e, const how *h)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = h->drafter;
    if (h->verifier) cfg.verifier = h->verifier;
    cfg.budget = h->budget;
    cfg.shape = h->shape;
    cfg.n_ctx = CTX;
    cfg.ignore_end = true;
    cfg.sampling.temperature = h->temperature;
    cfg.sampling.seed = 5;
    ftk_session *s;
    if (h->flags)
        assert_int_equal(ftk_session_open_with(&s, e, &cfg, h->ops ? h->ops : &ftk_drafter_eagle3,
                                               (void *)(uintptr_t)&h->flags),
                         FTK_OK);
    else
        assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    return s;
}

/* Prompts of 3, 70, 137 and 15 tokens: shorter and longer than what waits at once, and than a
 * pass. */
static size_t start(ftk_session *s, int which)
{
    static const size_t lengths[] = {3, 70, 137, 15};
    int32_t prompt[160];
    for (int i = 0; i < 160; i++) prompt[i] = 3 + (i * (7 + which) + which) % 250;
    assert_int_equal(ftk_session_append(s, prompt, lengths[which]), FTK_OK);
    return lengths[which];
}

static void plain(ftk_engine *e, float temperature, int which, int32_t *out)
{
    ftk_session *s = open_how(e, &(how){.drafter = "none", .temperature = temperature});
    start(s, which);
    assert_int_equal(take(s, N, out), N);
    ftk_session_free(s);
}

static void test_exact(void **state)
{
    (void)state;
    static const int budgets[] = {-1, 5, 40};
    ftk_model *m = load_model(TARGET);
    for (int i = 0; i < ef_n_heads; i++) {
        ftk_engine *e = open_engine(m, 1 + i % 2, 512, FTK_TYPE_F16);
        const ef_how file = {.layout = EF_SPECULATORS,
                             .borrows = i % 2,
                             .type = i == 2 ? FTK_TYPE_BF16 : FTK_TYPE_F32};
        assert_false(ftk_engine_has_drafter(e, "eagle3"));
        assert_int_equal(ftk_engine_add_drafter(e, written(ef_heads[i].name, &file)), FTK_OK);
        assert_true(ftk_engine_has_drafter(e, "eagle3"));
        for (int k = 0; k < 3 * 2 * 2 * 2; k++) {
            const how h = {.drafter = k & 1 ? "auto" : "eagle3",
                           .budget = budgets[k >> 3],
                           .shape = k & 2 ? FTK_TREE_CHAIN : FTK_TREE_FITTED,
                           .temperature = k & 4 ? 0.8f : 0,
                           .flags = k & 1 ? 0 : FTK_ROWS_ALWAYS};
            int32_t want[N], got[N];
            plain(e, h.temperature, k % 3, want);
            ftk_session *s = open_how(e, &h);
            start(s, k % 3);
            assert_int_equal(take(s, N, got), N);
            assert_memory_equal(got, want, sizeof want);
            ftk_stats stats;
            ftk_session_get_stats(s, &stats);
            if (h.flags && h.budget > 0) assert_true(stats.drafted > N / 2);
            ftk_session_free(s);
        }
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* The same of heads that say all places at once. */
static void test_exact_blocks(void **state)
{
    (void)state;
    static const char *const drafters[] = {"dflash", "dspark", "medusa"};
    ftk_model *m = load_model(TARGET);
    for (int i = 0; i < 3; i++) {
        const ef_how file = {.layout = i ? EF_SPECULATORS : EF_EAGLE, .borrows = i == 1};
        ftk_engine *e = open_engine(m, 1 + i % 2, 1024, FTK_TYPE_F16);
        assert_int_equal(ftk_engine_add_drafter(e, folder_of(drafters[i], &file)), FTK_OK);
        assert_true(ftk_engine_has_drafter(e, drafters[i]));
        for (int k = 0; k < 2 * 2 * 2; k++) {
            const how h = {.drafter = k & 1 ? "auto" : drafters[i],
                           .budget = k & 2 ? 20 : -1,
                           .temperature = k & 4 ? 0.8f : 0};
            ftk_session *s[3], *f;
            ftk_result r[3];
            size_t from[3];
            int32_t want[N], got[2 * N];
            for (int j = 0; j < 3; j++) from[j] = start(s[j] = open_how(e, &h), j);
            for (int step = 0; step < N + 2; step++) assert_int_equal(ftk_step(s, 3, r), FTK_OK);
            for (int j = 0; j < 3; j++) {
                size_t len;
                const int32_t *text = ftk_session_tokens(s[j], &len);
                plain(e, h.temperature, j, want);
                assert_memory_equal(text + from[j], want, sizeof want);
            }
            assert_int_equal(ftk_session_truncate(s[1], from[1] + 9), FTK_OK);
            assert_int_equal(ftk_session_fork(&f, s[1], NULL), FTK_OK);
            plain(e, h.temperature, 1, want);
            assert_int_equal(take(f, N - 9, got), N - 9);
            assert_memory_equal(got, want + 9, (N - 9) * sizeof *want);
            ftk_session_free(f);
            for (int j = 0; j < 3; j++) ftk_session_free(s[j]);
        }
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* ---- drawn drafts */

enum { SEEDS = 6000 };

static const int32_t short_text[] = {9, 40, 77, 40};
static const float hot = 4; /* all tokens come now and then, those that a head does not name too */

/* The model's own probabilities behind the text. */
static void truth_of(ftk_engine *e, double *p)
{
    ftk_session *s = open_how(e, &(how){.drafter = "none"});
    ftk_result r;
    double sum = 0;
    assert_int_equal(ftk_session_append(s, short_text, 4), FTK_OK);
    assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
    const float *const logits = e->forward.logits;
    for (int i = 0; i < EF_VOCAB; i++) sum += p[i] = exp((double)logits[i] / (double)hot);
    for (int i = 0; i < EF_VOCAB; i++) p[i] /= sum;
    ftk_session_free(s);
}

/* What is drawn from a head's tokens, fewer than the model's, and judged has the model's law. */
static void check_law(ftk_engine *e, const ftk_drafter_ops *ops, const char *verifier)
{
    static size_t counts[EF_VOCAB];
    static double p[EF_VOCAB];
    truth_of(e, p);
    memset(counts, 0, sizeof counts);
    ftk_session *s = open_how(
        e, &(how){.verifier = verifier, .budget = 5, .flags = FTK_ROWS_ALWAYS, .ops = ops});
    ftk_sampling to = {.temperature = hot, .top_p = 1, .repeat_penalty = 1};
    for (to.seed = 0; to.seed < SEEDS; to.seed++) {
        ftk_result r;
        size_t len;
        assert_int_equal(ftk_session_set_sampling(s, &to), FTK_OK);
        assert_int_equal(ftk_session_truncate(s, 0), FTK_OK);
        assert_int_equal(ftk_session_append(s, short_text, 4), FTK_OK);
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK); /* reads: the next step drafts */
        assert_int_equal(ftk_session_truncate(s, 4), FTK_OK);
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        const int32_t *const text = ftk_session_tokens(s, &len);
        assert_true(len > 4);
        counts[text[4]]++;
    }
    ftk_stats stats;
    ftk_session_get_stats(s, &stats);
    if (stats.accepted < SEEDS / 10) /* else this would say nothing */
        fail_msg("%s, %s: only %llu accepted", ops->name, verifier,
                 (unsigned long long)stats.accepted);
    if (!chi_square_fits(counts, p, EF_VOCAB))
        fail_msg("%s, %s: draws from another law", ops->name, verifier);
    ftk_session_free(s);
}

static void test_law(void **state)
{
    (void)state;
    static const ftk_drafter_ops *const ops[] = {&ftk_drafter_eagle3, &ftk_drafter_dflash,
                                                 &ftk_drafter_dspark, &ftk_drafter_medusa};
    ftk_model *m = load_model(TARGET);
    for (int i = 0; i < 4; i++) {
        const ef_how file = {.layout = EF_EAGLE};
        ftk_engine *e = open_engine(m, 1, 512, FTK_TYPE_F16);
        const char *const path = i ? folder_of(ops[i]->name, &file) : written("plain", &file);
        assert_int_equal(ftk_engine_add_drafter(e, path), FTK_OK);
        check_law(e, ops[i], "reject");
        check_law(e, ops[i], "traversal");
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* ---- sessions that share a pass of the head */

enum { SHARE = 5 };

static const ftk_draft_model *model_of(const ftk_session *s, const char *drafter)
{
    return &net_of(s, drafter)->as_seen;
}

/* What was said of some sessions together has the bits of what is said of their twins, one by
 * one. */
static void compare_shared(ftk_session *const *twin, const char *drafter,
                           const ftk_draft_rows *asks, bool reads)
{
    float *together[SHARE];
    for (int i = 0; i < SHARE; i++) {
        const size_t n = (reads ? 1 : asks[i].n) * model_of(twin[i], drafter)->stride;
        assert_non_null(asks[i].logits);
        if (!(together[i] = malloc(n * sizeof(float)))) abort();
        memcpy(together[i], asks[i].logits, n * sizeof(float));
    }
    for (int i = 0; i < SHARE; i++) {
        const ftk_draft_model *const m = model_of(twin[i], drafter);
        const float *const logits = reads
                                        ? ftk_draft_read(m, asks[i].history, asks[i].n)
                                        : run_one(m, (int)asks[i].n, asks[i].token, asks[i].parent);
        assert_non_null(logits);
        assert_memory_equal(together[i], logits,
                            (reads ? 1 : asks[i].n) * m->stride * sizeof(float));
        free(together[i]);
    }
}

static void check_shared(ftk_engine *e, const char *drafter)
{
    static const int32_t token[] = {60, 61, 62, 63, 64};
    static const int16_t parents[2][SHARE] = {{-1, -1, -1, -1, -1}, {0, -1, 0, 0, -1}};
    const how h = {.drafter = drafter, .budget = 0};
    ftk_session *s[2 * SHARE];
    ftk_result r[2 * SHARE];
    ftk_draft_rows asks[SHARE];
    for (int i = 0; i < 2 * SHARE; i++) {
        s[i] = open_how(e, &h);
        start(s[i], i % SHARE % 4);
        ftk_session_limit(s[i], 8); /* prompts are not all read in the same step */
    }
    const ftk_draft_model *const m = model_of(s[0], drafter);
    for (int step = 0; step < 12; step++) {
        assert_int_equal(ftk_step(s, 2 * (size_t)SHARE, r), FTK_OK);
        for (int i = 0; step == 4 && i < 2 * SHARE; i++) { /* little is left for one pass */
            size_t n;
            const int32_t *const text = ftk_session_tokens(s[i], &n);
            assert_non_null(ftk_draft_read(model_of(s[i], drafter), text, n));
        }
    }
    for (int i = 0; i < SHARE; i++) {
        asks[i] = (ftk_draft_rows){.ctx = model_of(s[i], drafter)->ctx};
        asks[i].history = ftk_session_tokens(s[i], &asks[i].n);
    }
    m->read(asks, SHARE);
    compare_shared(s + SHARE, drafter, asks, true);
    for (int depth = 0; depth < 2; depth++) {
        for (int i = 0; i < SHARE; i++) {
            asks[i].n = 1 + (size_t)i;
            asks[i].token = token;
            asks[i].parent = parents[depth];
        }
        m->run(asks, SHARE);
        compare_shared(s + SHARE, drafter, asks, false);
    }
    for (int i = 0; i < 2 * SHARE; i++) ftk_session_free(s[i]);
}

static void test_shared(void **state)
{
    (void)state;
    ftk_model *m = load_model(TARGET);
    for (int i = 0; i < ef_n_heads; i++) {
        const ef_how file = {.layout = EF_SPECULATORS};
        ftk_engine *e = open_engine(m, 1 + i % 2, 4096, FTK_TYPE_F16);
        assert_int_equal(ftk_engine_add_drafter(e, written(ef_heads[i].name, &file)), FTK_OK);
        assert_int_equal(ftk_engine_add_draft_model(e, TARGET), FTK_OK);
        check_shared(e, "eagle3");
        check_shared(e, "draft-model");
        ftk_engine_free(e);
    }
    static const char *const blocks[] = {"dflash", "dspark", "medusa"};
    for (int i = 0; i < 3; i++) {
        const ef_how file = {.layout = EF_SPECULATORS, .borrows = i == 0};
        ftk_engine *e = open_engine(m, 1 + i % 2, 4096, FTK_TYPE_F16);
        assert_int_equal(ftk_engine_add_drafter(e, folder_of(blocks[i], &file)), FTK_OK);
        check_shared(e, blocks[i]);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* ---- what a head has read */

/* What it says behind a session's text; *n gets how much of it that is. */
static const float *said_behind(ftk_session *s, size_t *n)
{
    const int32_t *text = ftk_session_tokens(s, n);
    return ftk_draft_read(&net_of(s, "eagle3")->as_seen, text, *n);
}

/* The same as in a session that was never cut or forked, and read all at once; bit for bit. */
static void check_read(ftk_engine *e, ftk_session *s)
{
    size_t n, fresh;
    float *const was = malloc(EF_DRAFT * sizeof *was);
    const float *logits = said_behind(s, &n);
    if (!was) abort();
    assert_non_null(logits);
    memcpy(was, logits, EF_DRAFT * sizeof *was);
    ftk_session *f = open_how(e, &(how){.drafter = "eagle3", .flags = FTK_ROWS_ALWAYS});
    const int32_t *text = ftk_session_tokens(s, &n);
    ftk_result r;
    assert_int_equal(ftk_session_append(f, text, n - 1), FTK_OK);
    do assert_int_equal(ftk_step(&f, 1, &r), FTK_OK);
    while (r.n_tokens == 0);
    logits = said_behind(f, &fresh);
    assert_int_equal(fresh, n);
    assert_int_equal(r.tokens[0], text[n - 1]);
    assert_non_null(logits);
    assert_memory_equal(logits, was, EF_DRAFT * sizeof *was);
    ftk_session_free(f);
    free(was);
}

static void test_follows(void **state)
{
    (void)state;
    ftk_model *m = load_model(TARGET);
    ftk_engine *e = open_engine(m, 1, 2048, FTK_TYPE_F16);
    const ef_how file = {.layout = EF_EAGLE};
    assert_int_equal(ftk_engine_add_drafter(e, written("plain", &file)), FTK_OK);
    const how h = {.drafter = "eagle3", .budget = 6, .flags = FTK_ROWS_ALWAYS};
    for (size_t cut = 1; cut < 90; cut += 11) {
        static const int32_t more[] = {70, 71, 72, 73};
        ftk_session *s = open_how(e, &h), *f;
        ftk_result r;
        int32_t got[N];
        start(s, 1);
        take(s, N, got);
        ftk_session_limit(s, SIZE_MAX);
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        check_read(e, s);
        assert_int_equal(ftk_session_truncate(s, cut), FTK_OK);
        if (cut % 2) assert_int_equal(ftk_session_append(s, more, 4), FTK_OK);
        assert_int_equal(ftk_session_fork(&f, s, NULL), FTK_OK);
        for (int k = 0; k < 1 + (int)cut % 3; k++)
            assert_int_equal(ftk_step((ftk_session *[]){s, f}, 2, (ftk_result[2]){{0}}), FTK_OK);
        check_read(e, s);
        check_read(e, f);
        ftk_session *g;
        assert_int_equal(ftk_session_fork(&g, f, NULL), FTK_OK);
        assert_int_equal(ftk_step(&g, 1, &r), FTK_OK);
        check_read(e, g);
        ftk_session_free(g);
        ftk_session_free(f);
        ftk_session_free(s);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* A session that drafts otherwise at first gives the head no states: it begins in the middle of
 * the text. */
static void test_begins_late(void **state)
{
    (void)state;
    ftk_model *m = load_model(TARGET);
    ftk_engine *e = open_engine(m, 1, 512, FTK_TYPE_F16);
    const ef_how file = {.layout = EF_EAGLE};
    assert_int_equal(ftk_engine_add_drafter(e, written("plain", &file)), FTK_OK);
    int32_t want[N], got[N];
    plain(e, 0, 1, want);
    ftk_session *s = open_how(e, &(how){.drafter = "lookup", .budget = 6});
    start(s, 1);
    assert_int_equal(take(s, N / 2, got), N / 2);
    assert_int_equal(ftk_session_set_drafter(s, "eagle3"), FTK_OK);
    assert_int_equal(take(s, N - N / 2, got + N / 2), N - N / 2);
    assert_memory_equal(got, want, sizeof want);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Without auxiliary states rows begin with the model's feature, and there is no fc. */
static void test_no_states(void **state)
{
    (void)state;
    ftk_model *m = load_quietly();
    ftk_engine *e = open_engine(m, 1, 512, FTK_TYPE_F16);
    const ef_how layout = {.layout = EF_EAGLE,
                           .without = "fc.weight",
                           .more = "\"eagle_config\": {\"use_aux_hidden_state\": false}, "};
    said[0] = 0;
    assert_int_equal(ftk_engine_add_drafter(e, written("plain", &layout)), FTK_OK);
    assert_non_null(strstr(said, "states entering layers 3 of 3, normed;"));
    int32_t want[N], got[N];
    plain(e, 0, 1, want);
    ftk_session *s =
        open_how(e, &(how){.drafter = "eagle3", .budget = 8, .flags = FTK_ROWS_ALWAYS});
    start(s, 1);
    assert_int_equal(take(s, N, got), N);
    assert_memory_equal(got, want, sizeof want);
    ftk_stats stats;
    ftk_session_get_stats(s, &stats);
    assert_true(stats.drafted > N / 2);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Seconds of decoding by the engine's clock, of sessions that come one after the other. */
static double decoding(ftk_engine *e, const char *drafter)
{
    double seconds = 0;
    int32_t got[N];
    for (int i = 0; i < 4; i++) {
        ftk_session *s = open_how(e, &(how){.drafter = drafter, .budget = -1});
        ftk_stats stats;
        start(s, 1);
        assert_int_equal(take(s, N, got), N);
        ftk_session_get_stats(s, &stats);
        seconds += stats.decode_seconds;
        ftk_session_free(s);
    }
    return seconds;
}

/* Where rows take so long that no draft pays, a head does not read what comes. */
static void test_reads_where_it_pays(void **state)
{
    (void)state;
    static const char *const drafters[] = {"none", "eagle3"};
    double seconds[2];
    ftk_model *m = load_model(TARGET);
    for (int i = 0; i < 2; i++) {
        costclock c;
        ftk_engine *e;
        ftk_engine_config cfg;
        ftk_engine_config_init(&cfg);
        cfg.threads = 1;
        cfg.kv_slots = 512;
        assert_true(costclock_make(&c, m, "1:4 64:256"));
        assert_int_equal(ftk_engine_open_by(&e, m, &cfg, &c.clock), FTK_OK);
        const ef_how file = {.layout = EF_EAGLE};
        assert_int_equal(ftk_engine_add_drafter(e, written("plain", &file)), FTK_OK);
        seconds[i] = decoding(e, drafters[i]);
        ftk_engine_free(e);
    }
    if (seconds[1] > 1.01 * seconds[0]) fail_msg("%g times as long", seconds[1] / seconds[0]);
    ftk_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),     cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_clock),       cmocka_unit_test(test_medusa),
        cmocka_unit_test(test_no_states),   cmocka_unit_test(test_exact_blocks),
        cmocka_unit_test(test_exact),       cmocka_unit_test(test_law),
        cmocka_unit_test(test_shared),      cmocka_unit_test(test_follows),
        cmocka_unit_test(test_begins_late), cmocka_unit_test(test_reads_where_it_pays),
    };
    return cmocka_run_group_tests(tests, write_target, NULL);
}
