/* SPDX-License-Identifier: Apache-2.0
 * Heads of EAGLE-3: the figures of the package speculators, in every layout; what comes is plain
 * decoding's; what is wrong in a file is said. */
#include "support.h"

#include <math.h>
#include <unistd.h>

#include "archmodels.h"
#include "drafters/grown.h"
#include "eaglefigures.h"
#include "eaglefiles.h"
#include "engine/session.h"

enum { N = 48, SESSIONS = 16, CTX = 220 };

#define FOLDER FTK_BUILT_DIR "/"
#define TARGET FOLDER "eagle-target.gguf"

static char said[1024];

static void keep_log(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    if (level != FTK_LOG_WARN) snprintf(said, sizeof said, "%s", line);
}

static int write_target(void **state)
{
    (void)state;
    gw w;
    gw_init(&w);
    am_write(&w, am_find("llama"));
    return gw_end(&w, TARGET) ? 0 : -1;
}

static ftk_model *load_quietly(void)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = keep_log;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, TARGET, &cfg), FTK_OK);
    return m;
}

static const char *written(const char *name, const ef_how *how)
{
    static char path[512];
    snprintf(path, sizeof path, FOLDER "eagle-head%s", how->layout == EF_GGUF ? ".gguf" : "");
    assert_true(ef_write(path, ef_find(name), how));
    return path;
}

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

static void check_figures(ftk_engine *e, const char *head)
{
    int32_t text[EAGLE_TEXT], token[2];
    for (int i = 0; i < EAGLE_TEXT; i++) text[i] = (i * 7 + 3) % EF_VOCAB;
    ftk_session *s = open_head(e, "eagle3");
    ftk_net_seq *const seq = net_of(s, "eagle3");
    const ftk_draft_model *const m = &seq->as_seen;
    show_states(seq, text, 0, EAGLE_TEXT - 1);
    for (int again = 0; again < 3; again++) {
        const float *logits = m->read(m->ctx, text, EAGLE_TEXT);
        assert_non_null(logits);
        compare(head, 0, logits);
        int16_t parent[2] = {-1};
        for (int depth = 0; depth < EAGLE_STEPS; depth++) {
            const bool two =
                depth == 1; /* two rows in one pass: the chain's, and a branch beside it */
            token[0] = drafted(depth, 0);
            token[1] = drafted(1, 1);
            parent[0] = parent[1] = (int16_t)(depth < 2 ? depth - 1 : depth == 2 ? 1 : depth);
            logits = m->run(m->ctx, 1 + two, token, parent);
            assert_non_null(logits);
            compare(head, 1 + depth, logits);
            if (two) compare(head, 1 + EAGLE_STEPS, logits + m->stride);
        }
        parent[0] = 2; /* the branch's row */
        token[0] = drafted(2, 1);
        logits = m->run(m->ctx, 1, token, parent);
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
        const float *logits = m->read(m->ctx, text, EAGLE_TEXT);
        assert_non_null(logits);
        compare(drafter, 0, logits);
        for (int depth = 0; depth < depths; depth++) {
            logits = m->run(m->ctx, 1, (int32_t[]){drafted(depth, 0)},
                            (int16_t[]){(int16_t)(depth - 1)});
            if (depth + 1 < depths) compare(drafter, depth + 1, logits);
        }
        assert_null(logits);      /* it says nothing of what lies behind */
        if (again == 0) continue; /* asked a second time, of the same text */
        ftk_net_seq_truncate(seq, EAGLE_TEXT - 2);
        show_states(seq, text, EAGLE_TEXT - 3, EAGLE_TEXT - 1);
    }
    ftk_session_free(s);
}

static const char *folder_of(const char *drafter, const ef_how *how)
{
    static char path[512];
    const bool medusa = strcmp(drafter, "medusa") == 0;
    snprintf(path, sizeof path, FOLDER "eagle-head%s", how->layout == EF_GGUF ? ".gguf" : "");
    assert_true(medusa ? ef_write_medusa(path, how)
                       : ef_write_block(path, strcmp(drafter, "dspark") == 0, how));
    return path;
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
        const float *logits = d->read(d->ctx, (int32_t[]){4, 5}, 2);
        for (int depth = 0; depth < EF_MEDUSA; depth++) {
            assert_non_null(logits);
            compare("medusa", depth, logits);
            logits = d->run(d->ctx, 1, (int32_t[]){7}, (int16_t[]){(int16_t)(depth - 1)});
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
    unsigned flags; /* FTK_GROWN_ */
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
        assert_int_equal(
            ftk_session_open_with(&s, e, &cfg, &ftk_drafter_eagle3, (void *)(uintptr_t)&h->flags),
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

static void test_batches(void **state)
{
    (void)state;
    ftk_model *m = load_model(TARGET);
    ftk_engine *e = open_engine(m, 2, 4096, FTK_TYPE_F16);
    const ef_how file = {.layout = EF_EAGLE};
    assert_int_equal(ftk_engine_add_drafter(e, written("plain", &file)), FTK_OK);
    static const int sizes[] = {1, 2, 7, 16};
    for (int k = 0; k < 4 * 2; k++) {
        const int n = sizes[k / 2];
        const how h = {.drafter = "eagle3",
                       .budget = 5,
                       .temperature = k & 1 ? 0.8f : 0,
                       .flags = FTK_ROWS_ALWAYS};
        ftk_session *s[SESSIONS];
        ftk_result r[SESSIONS];
        int32_t want[N];
        size_t from[SESSIONS];
        for (int i = 0; i < n; i++) {
            s[i] = open_how(e, &h);
            from[i] = start(s[i], i % 4);
        }
        for (int step = 0; step < N + 2 * n; step++)
            assert_int_equal(ftk_step(s, (size_t)n, r), FTK_OK);
        for (int i = 0; i < n; i++) {
            size_t len;
            const int32_t *text = ftk_session_tokens(s[i], &len);
            plain(e, h.temperature, i % 4, want);
            assert_true(len >= from[i] + N);
            assert_memory_equal(text + from[i], want, sizeof want);
            ftk_session_free(s[i]);
        }
    }
    ftk_engine_free(e);
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
        const float *const logits =
            reads ? m->read(m->ctx, asks[i].history, asks[i].n)
                  : m->run(m->ctx, (int)asks[i].n, asks[i].token, asks[i].parent);
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
    }
    const ftk_draft_model *const m = model_of(s[0], drafter);
    for (int step = 0; step < 8; step++) {
        assert_int_equal(ftk_step(s, 2 * (size_t)SHARE, r), FTK_OK);
        for (int i = 0; step == 4 && i < 2 * SHARE; i++) { /* little is left for one pass */
            size_t n;
            const int32_t *const text = ftk_session_tokens(s[i], &n);
            assert_non_null(m->read(model_of(s[i], drafter)->ctx, text, n));
        }
    }
    for (int i = 0; i < SHARE; i++) {
        asks[i] = (ftk_draft_rows){.ctx = model_of(s[i], drafter)->ctx};
        asks[i].history = ftk_session_tokens(s[i], &asks[i].n);
    }
    m->read_all(asks, SHARE);
    compare_shared(s + SHARE, drafter, asks, true);
    for (int depth = 0; depth < 2; depth++) {
        for (int i = 0; i < SHARE; i++) {
            asks[i].n = 1 + (size_t)i;
            asks[i].token = token;
            asks[i].parent = parents[depth];
        }
        m->run_all(asks, SHARE);
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
    const ftk_draft_model *const m = &net_of(s, "eagle3")->as_seen;
    return m->read(m->ctx, text, *n);
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

/* ---- files that are wrong */

static void expect_refused(ftk_engine *e, const char *path, const ftk_drafter_config *cfg,
                           ftk_err err, const char *says)
{
    said[0] = 0;
    const ftk_err got = ftk_engine_add_drafter_as(e, path, cfg);
    if (got != err || !strstr(said, says))
        fail_msg("%s instead of \"%s\" (%s)", said, says, ftk_strerror(got));
    assert_false(ftk_engine_has_drafter(e, "eagle3"));
}

static void test_refused(void **state)
{
    (void)state;
    ftk_model *m = load_quietly();
    ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
    static const struct {
        ef_how how;
        const char *head, *says;
        ftk_err err;
    } bad[] = {
        {{.without = "fc.weight"}, "plain", "tensor fc.weight is missing", FTK_ERR_FORMAT},
        {{.without = "layers.0.mlp.up_proj.weight"},
         "plain",
         "tensor layers.0.mlp.up_proj.weight is missing",
         FTK_ERR_FORMAT},
        {{.without = "layers.0.self_attn.k_norm.weight", .layout = EF_SPECULATORS},
         "qwen3",
         "self_attn.k_norm.weight is missing",
         FTK_ERR_FORMAT},
        {{.d2t_more = 1000}, "plain", "tensor d2t names token", FTK_ERR_FORMAT},
        {{.d2t_more = -3}, "plain", "for row 119: not one of 300, or twice", FTK_ERR_FORMAT},
        {{.d2t_more = 1000, .layout = EF_GGUF}, "plain", "tensor d2t names token", FTK_ERR_FORMAT},
        {{.config = "{"}, "plain", "is no JSON: a string is missing at byte 1", FTK_ERR_FORMAT},
        {{.config = "[]"}, "plain", "is no JSON object", FTK_ERR_FORMAT},
        {{.config = "{\"hidden_size\": 64}"},
         "plain",
         "has none of draft_vocab_size",
         FTK_ERR_INVALID},
        {{.more = "\"target_hidden_size\": 4096, "},
         "plain",
         "was made for a model of width 4096; this model's width is 64",
         FTK_ERR_INVALID},
        {{.more = "\"vocab_size\": 151936, "},
         "plain",
         "was made for a vocabulary of 151936 tokens; this model's has 300",
         FTK_ERR_INVALID},
        {{.more = "\"hidden_size\": 128, "}, "plain", "has shape", FTK_ERR_FORMAT},
        {{.more = "\"hidden_size\": 3.5, "},
         "plain",
         "hidden_size in its configuration is no",
         FTK_ERR_FORMAT},
        {{.more = "\"num_key_value_heads\": 3, "},
         "plain",
         "heads (3 for keys)",
         FTK_ERR_UNSUPPORTED},
        {{.more = "\"num_hidden_layers\": 4, "}, "plain", "has 4 layers", FTK_ERR_UNSUPPORTED},
        {{.more = "\"hidden_act\": \"gelu\", "},
         "plain",
         "hidden_act is not silu",
         FTK_ERR_UNSUPPORTED},
        {{.more = "\"norm_output\": true, "},
         "plain",
         "the file does not say who wrote it",
         FTK_ERR_UNSUPPORTED},
        {{.more = "\"rope_scaling\": {\"rope_type\": \"longrope\"}, "},
         "plain",
         "RoPE scaling longrope is not supported",
         FTK_ERR_UNSUPPORTED},
        {{.more = "\"eagle_aux_hidden_state_layer_ids\": [2, 4, 1], "},
         "plain",
         "reads the state entering layer 4, and the model has 3 layers",
         FTK_ERR_INVALID},
        {{.more = "\"eagle_aux_hidden_state_layer_ids\": \"all\", "},
         "plain",
         "no list of 1 to 16 layers",
         FTK_ERR_FORMAT},
        {{.more = "\"speculators_model_type\": \"mtp\", "},
         "plain",
         "is a head of the kind \"mtp\"",
         FTK_ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(e, written(bad[i].head, &bad[i].how), NULL, bad[i].err, bad[i].says);
    ftk_drafter_config cfg;
    ftk_drafter_config_init(&cfg);
    const ef_how good = {.layout = EF_EAGLE};
    cfg.layers = (int[]){2, 1, 4};
    cfg.n_layers = 3;
    expect_refused(e, written("plain", &good), &cfg, FTK_ERR_INVALID, "entering layer 4");
    cfg.n_layers = 2;
    expect_refused(e, written("plain", &good), &cfg, FTK_ERR_INVALID,
                   "another number of layers than 2");
    cfg.n_layers = 99;
    expect_refused(e, written("plain", &good), &cfg, FTK_ERR_INVALID, "99 layers: give 1 to 16");
    expect_refused(e, FTK_MODELS_DIR "/foretoken-demo-s4c.drafter.gguf", NULL, FTK_ERR_INVALID,
                   "was trained for another model");
    cfg.layers = (int[]){3, 1, 2};
    cfg.n_layers = 3;
    expect_refused(e, folder_of("medusa", &good), &cfg, FTK_ERR_INVALID,
                   "heads of Medusa read the last layer's state alone: leave --drafter-layers out");
    said[0] = 0;
    assert_int_equal(ftk_engine_add_drafter_as(e, written("plain", &good), &cfg), FTK_OK);
    assert_non_null(strstr(said, "states entering layers 3, 1, 2 of 3; 120 of 300 tokens"));
    assert_int_equal(ftk_engine_add_drafter(e, written("plain", &good)), FTK_ERR_INVALID);
    assert_non_null(strstr(said, "there is a drafter eagle3 already"));
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* One safetensors file may be named, too, and a folder that has none is no head. */
static void test_names(void **state)
{
    (void)state;
    ftk_model *m = load_quietly();
    ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
    const ef_how layout = {.layout = EF_SPECFORGE};
    char file[600];
    snprintf(file, sizeof file, "%s/model.safetensors", written("plain", &layout));
    expect_refused(e, FOLDER, NULL, FTK_ERR_IO, "config.json: cannot be opened");
    said[0] = 0;
    assert_int_equal(ftk_engine_add_drafter(e, file), FTK_OK);
    assert_non_null(
        strstr(said, "states entering layers 2, 1, 3 of 3")); /* one more than is written */
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Files of which some are missing, and tensors that are in two of them. */
static void test_parts(void **state)
{
    (void)state;
    ftk_model *m = load_quietly();
    ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
    const ef_how layout = {.layout = EF_EAGLE};
    char file[600], part[600], other[600];
    const char *const folder = written("plain", &layout);
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    snprintf(part, sizeof part, "%s/model-00001-of-00003.safetensors", folder);
    snprintf(other, sizeof other, "%s/other.safetensors", folder);
    assert_int_equal(rename(file, part), 0);
    expect_refused(e, folder, NULL, FTK_ERR_INVALID,
                   "holds 1 safetensors files of 3: get the others");
    assert_int_equal(rename(part, file), 0);
    assert_int_equal(link(file, other), 0);
    expect_refused(e, folder, NULL, FTK_ERR_FORMAT, "is in two of its files");
    assert_int_equal(unlink(other), 0);
    assert_int_equal(ftk_engine_add_drafter(e, folder), FTK_OK);
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

/* What `inspect` sees. */
static void test_looked_into(void **state)
{
    (void)state;
    const ef_how layout = {.layout = EF_SPECULATORS};
    const char *const folder = written("qwen3", &layout);
    ftk_checkpoint *c;
    ftk_checkpoint_tensor t = {0};
    assert_true(ftk_checkpoint_is(folder) && ftk_checkpoint_is("a.safetensors"));
    assert_false(ftk_checkpoint_is("a.gguf"));
    assert_int_equal(ftk_checkpoint_open(&c, folder, NULL), FTK_OK);
    assert_int_equal(ftk_checkpoint_n_files(c), 1);
    size_t found = 0;
    for (size_t i = 0; i < ftk_checkpoint_n_tensors(c); i++) {
        ftk_checkpoint_tensor_at(c, i, &t);
        if (t.name.n != 9 || memcmp(t.name.p, "fc.weight", 9) != 0) continue;
        found++;
        assert_true(t.n_dims == 2 && t.dims[0] == 64 && t.dims[1] == 192);
        assert_true(t.size == 4 * 64 * 192 && t.type.n == 3 && memcmp(t.type.p, "F32", 3) == 0);
    }
    assert_int_equal(found, 1);
    assert_int_equal(ftk_checkpoint_config(c).p[0], '{');
    ftk_checkpoint_free(c);
    assert_int_equal(ftk_checkpoint_open(&c, FOLDER, NULL), FTK_ERR_IO);
    assert_null(c);
    ftk_checkpoint_free(NULL);
}

/* A file that is cut anywhere, or in which a byte of the header is another one, opens or is
 * refused in one line. */
static void test_damaged(void **state)
{
    (void)state;
    ftk_model *m = load_quietly();
    const ef_how layout = {.layout = EF_EAGLE};
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", written("plain", &layout));
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    static unsigned char all[1 << 20], bad[1 << 20];
    const size_t n = fread(all, 1, sizeof all, f);
    fclose(f);
    uint64_t header;
    memcpy(&header, all, sizeof header);
    for (size_t i = 0; i < 60 + 120; i++) {
        const bool cuts = i < 60;
        size_t size = cuts ? i < 30 ? i * 5 : (size_t)header * (i - 29) / 15 : n;
        if (size > n) size = n - i;
        memcpy(bad, all, n);
        if (!cuts) bad[8 + (i - 60) * header / 120] ^= (unsigned char)(1 + i % 30);
        assert_true(gw_save(path, bad, size));
        ftk_engine *e = open_engine(m, 1, 128, FTK_TYPE_F16);
        said[0] = 0;
        const ftk_err err = ftk_engine_add_drafter(e, FOLDER "eagle-head");
        if (cuts) assert_true(err == FTK_ERR_FORMAT);
        assert_true(said[0]);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* ---- memory */

typedef struct counter {
    long left, live, total, in_step;
    bool stepping;
} counter;

static void *counted_alloc(void *ctx, size_t size, size_t align)
{
    counter *c = ctx;
    c->total++;
    c->in_step += c->stepping;
    if (c->left >= 0 && c->left-- == 0) return NULL;
    void *p = aligned_alloc(align, (size + align - 1) / align * align);
    if (p) c->live++;
    return p;
}

static void counted_free(void *ctx, void *p)
{
    ((counter *)ctx)->live--;
    free(p);
}

static ftk_err whole_life(counter *c, const char *drafter, const char *path)
{
    ftk_model_config mc;
    ftk_model_config_init(&mc);
    mc.host = (ftk_host){c, counted_alloc, counted_free, NULL};
    ftk_engine_config ec;
    ftk_engine_config_init(&ec);
    ec.threads = 1;
    ec.kv_slots = 128;
    ec.measure = false;
    ftk_session_config sc;
    ftk_session_config_init(&sc);
    sc.drafter = drafter;
    sc.budget = 8;
    ftk_model *m;
    ftk_engine *e = NULL;
    ftk_session *s = NULL, *f = NULL;
    ftk_err err = ftk_model_load(&m, TARGET, &mc);
    if (err == FTK_OK) err = ftk_engine_open(&e, m, &ec);
    if (err == FTK_OK) err = ftk_engine_add_drafter(e, path);
    if (err == FTK_OK) err = ftk_session_open(&s, e, &sc);
    if (err == FTK_OK) err = ftk_session_append(s, (int32_t[]){5, 6, 7}, 3);
    c->stepping = true;
    for (int i = 0; i < 8 && err == FTK_OK; i++) err = ftk_step(&s, 1, &(ftk_result){0});
    c->stepping = false;
    if (err == FTK_OK) err = ftk_session_fork(&f, s, NULL);
    ftk_session_free(f);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
    return err;
}

static void test_every_allocation(void **state)
{
    (void)state;
    const ef_how hows[] = {{.layout = EF_EAGLE, .borrows = true},
                           {.layout = EF_GGUF},
                           {.layout = EF_EAGLE},
                           {.layout = EF_SPECULATORS, .borrows = true},
                           {.layout = EF_EAGLE}};
    static const char *const drafters[] = {"eagle3", "eagle3", "dflash", "dspark", "medusa"};
    for (int k = 0; k < 5; k++) {
        const char *const path =
            k < 2 ? written("plain", &hows[k]) : folder_of(drafters[k], &hows[k]);
        counter c = {.left = -1};
        assert_int_equal(whole_life(&c, drafters[k], path), FTK_OK);
        assert_int_equal(c.live, 0);
        assert_int_equal(c.in_step, 0);
        const long total = c.total;
        for (long i = 0; i < total; i++) {
            c = (counter){.left = i};
            const ftk_err err = whole_life(&c, drafters[k], path);
            if (err != FTK_ERR_NOMEM || c.live != 0)
                fail_msg("allocation %ld of %ld failed: %s, %ld blocks leaked", i, total,
                         ftk_strerror(err), c.live);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),      cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_medusa),       cmocka_unit_test(test_no_states),
        cmocka_unit_test(test_exact_blocks), cmocka_unit_test(test_exact),
        cmocka_unit_test(test_batches),      cmocka_unit_test(test_shared),
        cmocka_unit_test(test_follows),      cmocka_unit_test(test_begins_late),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_names),
        cmocka_unit_test(test_damaged),      cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_looked_into),  cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, write_target, NULL);
}
