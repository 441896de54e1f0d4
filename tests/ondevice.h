/* SPDX-License-Identifier: Apache-2.0
 * What tests of an engine on the emulated GPU share: the demo model on it, and drafters that are
 * watched. */
#ifndef FTK_TESTS_ONDEVICE_H
#define FTK_TESTS_ONDEVICE_H

#include "support.h"

#include "drafters/guesses.h"
#include "engine/session.h"
#include "model/device_cuda.h"

static char last_line[512];
static int n_lines;

static inline void keep_line(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    if (level > FTK_LOG_WARN) return;
    snprintf(last_line, sizeof last_line, "%s", line);
    n_lines++;
}

static inline ftk_model *load(void)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = keep_line;
    cfg.kernels = "ref";
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, DEMO, &cfg), FTK_OK);
    return m;
}

/* rows: of a pass */
static inline ftk_err open_wide(ftk_engine **e, const ftk_model *m, const char *device, ftk_type kv,
                                int rows)
{
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = 1;
    cfg.kv_slots = 256;
    cfg.kv_type = kv;
    cfg.max_rows = rows;
    cfg.measure = false;
    cfg.device = device;
    last_line[0] = 0;
    n_lines = 0;
    return ftk_engine_open(e, m, &cfg);
}

static inline ftk_err open_on(ftk_engine **e, const ftk_model *m, const char *device, ftk_type kv)
{
    return open_wide(e, m, device, kv, FTK_MAX_NODES);
}

static const char text[] = "Once upon a time there was a little girl who lived near a forest.";

/* Greedy tokens by a drafter. */
static inline void answer(ftk_engine *e, const ftk_model *m, const char *drafter, int32_t *out,
                          size_t n)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.budget = 12;
    cfg.ignore_end = true;
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    int32_t tokens[64];
    size_t n_text;
    assert_int_equal(ftk_tokenize(m, text, 24, FTK_TOK_BOS, tokens, 64, &n_text), FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, n_text), FTK_OK);
    assert_int_equal(take(s, n, out), n);
    ftk_session_free(s);
}

/* A drafter that is watched: it takes drafts to cost nothing, so that they do not depend on
 * time. */
typedef struct watched {
    ftk_target target;
    _Alignas(16) char state[];
} watched;

static const ftk_drafter_ops *watching;
static struct {
    int n, most_waits;
    bool failing;  /* the device fails while it drafts */
    bool finishes; /* of sessions opened from now on drafts may be left to the device */
    ftk_tree tree[64];
    int n_finished, n_verified;
    ftk_tree verified[64]; /* of more than the root */
} seen;

static int *waits_of(const ftk_target *t)
{
    ftk_device *const d = ((const ftk_session *)t->ctx)->engine->device;
    static int none;
    return d ? &ftk_gpu_of(d)->q.waits : &none;
}

static double no_seconds(void *ctx, int layer, int rows)
{
    (void)ctx, (void)rows;
    return layer > 0 ? 1e-9 : 1e6;
}

static ftk_err watched_init(void *state, const ftk_drafter_env *env)
{
    watched *const w = state;
    ftk_drafter_env own = *env;
    w->target = *env->target;
    w->target.seconds = no_seconds;
    own.target = &w->target;
    return watching->init(w->state, &own);
}

static void watched_propose(void *state, const int32_t *history, size_t n, int budget,
                            ftk_tree *tree)
{
    watched *const w = state;
    int *const waits = waits_of(&w->target), before = *waits;
    if (seen.failing) ftk_gpu_of(((ftk_session *)w->target.ctx)->engine->device)->q.error = 1;
    watching->propose(w->state, history, n, budget, tree);
    if (*waits - before > seen.most_waits) seen.most_waits = *waits - before;
    assert_in_range(seen.n, 0, 63);
    seen.tree[seen.n++] = *tree;
}

static void watched_finished(void *state, const ftk_finished *finished)
{
    seen.n_finished++;
    watching->finished(((watched *)state)->state, finished);
}

static int watched_append(void *state, const ftk_tree *tree, int most, int16_t *node)
{
    return watching->append(((watched *)state)->state, tree, most, node);
}

static void watched_appended(void *state, const float *states, float *x)
{
    assert_null(((watched *)state)->target.hold); /* where it is there, it makes them itself */
    watching->appended(((watched *)state)->state, states, x);
}

static const ftk_maps *watched_maps(void *state)
{
    return watching->append_maps(((watched *)state)->state);
}

static void watched_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                          const ftk_verdict *verdict, const ftk_rows *rows)
{
    if (tree->n > 1 && seen.n_verified < 64) seen.verified[seen.n_verified++] = *tree;
    watching->learn(((watched *)state)->state, history, n, tree, verdict, rows);
}

static void watched_reset(void *state, const int32_t *history, size_t n)
{
    watching->reset(((watched *)state)->state, history, n);
}

static void watched_free(void *state, const ftk_host *host)
{
    watching->free(((watched *)state)->state, host);
}

/* A session over the first tokens of the text of answer(), so many at most. */
static inline ftk_session *watch_as(ftk_engine *e, const ftk_drafter_ops *ops,
                                    const ftk_session_config *cfg, unsigned *flags, size_t most)
{
    static ftk_drafter_ops own;
    watching = ops;
    own = (ftk_drafter_ops){.name = "watched",
                            .family = ops->name,
                            .state_size = sizeof(watched) + ops->state_size,
                            .rates_size = ops->rates_size,
                            .rates_init = ops->rates_init,
                            .space = ops->space,
                            .wants = ops->wants,
                            .check = ops->check,
                            .state_layer = ops->state_layer,
                            .init = watched_init,
                            .propose = watched_propose,
                            .finished = seen.finishes ? watched_finished : NULL,
                            .append = ops->append ? watched_append : NULL,
                            .appended = watched_appended,
                            .append_maps = watched_maps,
                            .learn = watched_learn,
                            .reset = watched_reset,
                            .free = watched_free};
    ftk_session *s;
    assert_int_equal(ftk_session_open_with(&s, e, cfg, &own, flags), FTK_OK);
    int32_t tokens[64];
    size_t n;
    assert_int_equal(ftk_tokenize(e->model, text, 24, FTK_TOK_BOS, tokens, 64, &n), FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, n < most ? n : most), FTK_OK);
    seen.n = seen.most_waits = seen.n_finished = seen.n_verified = 0;
    return s;
}

static inline ftk_session *watch(ftk_engine *e, const ftk_drafter_ops *ops, ftk_tree_shape shape,
                                 unsigned *flags, size_t most)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.budget = 20;
    cfg.ignore_end = true;
    cfg.shape = shape;
    return watch_as(e, ops, &cfg, flags, most);
}

/* How many nodes of a tree are in another one. */
static inline int shared(const ftk_tree *a, const ftk_tree *b)
{
    int at[FTK_MAX_NODES] = {0}, n = 0;
    for (int i = 1; i < a->n; i++) {
        at[i] = at[a->parent[i]] < 0 ? -1 : ftk_tree_child(b, at[a->parent[i]], a->token[i]);
        n += at[i] > 0;
    }
    return n;
}

static const struct {
    const ftk_drafter_ops *ops;
    const char *file;
    ftk_tree_shape shape;
    unsigned flags;
    int least; /* guesses of a draft */
} whole[] = {
    {&ftk_drafter_s4c, FTK_MODELS_DIR "/foretoken-demo-s4c.drafter.gguf", FTK_TREE_FITTED,
     FTK_ROWS_ALWAYS, 8},
    {&ftk_drafter_s4c, FTK_MODELS_DIR "/foretoken-demo-s4c.drafter.gguf", FTK_TREE_CHAIN,
     FTK_ROWS_ALWAYS, 1},
    {&ftk_drafter_firp, FTK_MODELS_DIR "/foretoken-demo-firp.drafter.gguf", FTK_TREE_FITTED,
     FTK_ROWS_ALWAYS, 8},
    {&ftk_drafter_firp, FTK_MODELS_DIR "/foretoken-demo-firp.drafter.gguf", FTK_TREE_FITTED,
     FTK_ROWS_JOIN, 8},
};
enum { WHOLE = sizeof whole / sizeof *whole };

#endif
