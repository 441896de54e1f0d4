/* SPDX-License-Identifier: Apache-2.0
 * What tests of trained drafters share: a target that is small enough to compute again, with
 * matrices of floats and products in double; keys of a file; and the whole on the demo model. */
#ifndef FTK_TESTS_SMALLTARGET_H
#define FTK_TESTS_SMALLTARGET_H

#include "support.h"

#include "base/mem.h"
#include "drafters/drafter.h"
#include "engine/session.h"
#include "onebad.h"

enum { D = 8, V = 40, N_CTX = 200 };

static float embeddings[V][D];

static inline float noise(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / (1 << 24) - 0.5f;
}

static inline void embed(void *ctx, int n, const int32_t *tokens, float *x)
{
    (void)ctx;
    for (int i = 0; i < n; i++) memcpy(x + i * D, embeddings[tokens[i]], sizeof embeddings[0]);
}

static inline void multiply(void *ctx, const ftk_mat *w, int n, const float *x, float *y)
{
    (void)ctx;
    const float *m = w->data;
    for (int r = 0; r < n; r++)
        for (int o = 0; o < w->n_out; o++) {
            double sum = 0;
            for (int i = 0; i < w->n_in; i++)
                sum += (double)m[o * w->n_in + i] * x[r * w->n_in + i];
            y[r * w->n_out + o] = (float)sum;
        }
}

static double pace_of_late = 1; /* as if drafts brought nothing in */

static inline double pace(void *ctx)
{
    (void)ctx;
    return pace_of_late;
}

/* A file that holds nothing but whole numbers. */
static inline ftk_gguf *keys_only(int n, const char *const *keys, const uint32_t *values)
{
    char path[] = "drafter-keys-XXXXXX";
    gw w;
    gw_init(&w);
    for (int i = 0; i < n; i++) gw_u32(&w, keys[i], values[i]);
    const gw_bytes all = gw_finish(&w);
    const int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, all.p, all.n) == (ssize_t)all.n);
    close(fd);
    ftk_gguf *g;
    assert_int_equal(ftk_gguf_open(&g, path, NULL), FTK_OK);
    unlink(path);
    free(all.p);
    gw_free(&w);
    return g;
}

/* ftk_target.space */
static float space_floats[FTK_MAX_NODES * (6 * D + V)], *const small_space = space_floats;

/* Of the drafter that is open; all sessions of an engine have the same. */
static double rates_of_it[4096];

static inline void *fresh_rates(const ftk_drafter_ops *ops)
{
    assert_true(ops->rates_size <= sizeof rates_of_it);
    memset(rates_of_it, 0, sizeof rates_of_it);
    if (ops->rates_init) ops->rates_init(rates_of_it);
    return rates_of_it;
}

/* Of the drafter that is open: asked by those tests that want matches, read by those that want a
 * table. */
static ftk_retrieval retrieval;
static ftk_successors successors;

/* test: what benchmarks leave out */
static inline void *open_shaped(const ftk_drafter_ops *ops, const ftk_target *target,
                                const ftk_weights *w, ftk_tree_shape shape, const void *test)
{
    static const ftk_host none;
    static ftk_retrieval_rates of_retrieval;
    static ftk_successor_rates of_successors;
    ftk_retrieval_rates_init(&of_retrieval);
    ftk_successor_rates_init(&of_successors);
    assert_int_equal(ftk_retrieval_init(&retrieval, &none, N_CTX, &of_retrieval), FTK_OK);
    assert_int_equal(ftk_successors_init(&successors, &none, V, &of_successors), FTK_OK);
    successors.least = 0.02f;
    void *s = ftk_alloc(&none, 1, ops->state_size);
    const ftk_drafter_env env = {.host = &none,
                                 .n_vocab = V,
                                 .shape = shape,
                                 .test = (void *)test,
                                 .target = target,
                                 .retrieval = &retrieval,
                                 .successors = &successors,
                                 .weights = w,
                                 .rates = fresh_rates(ops)};
    assert_int_equal(ops->init(s, &env), FTK_OK);
    return s;
}

static inline void *open_small(const ftk_drafter_ops *ops, const ftk_target *target,
                               const ftk_weights *w, const void *test)
{
    return open_shaped(ops, target, w, FTK_TREE_FITTED, test);
}

static inline void close_small(const ftk_drafter_ops *ops, void *s)
{
    static const ftk_host none;
    ops->free(s, &none);
    ftk_retrieval_free(&retrieval, &none);
    ftk_successors_free(&successors, &none);
    ftk_release(&none, s);
}

typedef struct small_life {
    const ftk_drafter_ops *ops;
    const ftk_target *target;
    const ftk_weights *w;
} small_life;

static inline ftk_err init_and_free(counting *c, void *with)
{
    const small_life *const l = with;
    const ftk_host host = counting_host(c);
    const ftk_drafter_env env = {.host = &host,
                                 .n_vocab = V,
                                 .target = l->target,
                                 .weights = l->w,
                                 .rates = fresh_rates(l->ops)};
    void *const s = calloc(1, l->ops->state_size);
    const ftk_err err = l->ops->init(s, &env);
    l->ops->free(s, &host);
    free(s);
    return err;
}

/* init() with each allocation failing once; returns how many there are. */
static inline long fail_each_of_init(const ftk_drafter_ops *ops, const ftk_target *target,
                                     const ftk_weights *w)
{
    counting c = {0};
    return fail_each(&c, ops->name, init_and_free, &(small_life){ops, target, w});
}

/* A family's files: check() is asked of keys and tensors one of which is wrong. */
typedef struct small_file {
    const ftk_drafter_ops *ops;
    const ftk_target *target;
    int n_keys;
    const char *const *keys;
    ftk_weights (*weights)(ftk_gguf *file); /* right ones, with these keys */
    ftk_weight *items;                      /* of those weights */
} small_file;

typedef struct bad_file {
    uint32_t values[6]; /* of the keys */
    int gone;           /* an item whose name is changed, -1 */
    const char *line;
} bad_file;

static inline void refused(const small_file *f, const ftk_weights *w, const char *line)
{
    counting count = {0};
    const ftk_host host = counting_host(&count);
    assert_int_equal(f->ops->check(w, f->target, &host), FTK_ERR_FORMAT);
    assert_int_equal(count.errors, 1);
    assert_string_equal(count.line, line);
}

static inline void refuse_each(const small_file *f, const bad_file *bad, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ftk_gguf *file = keys_only(f->n_keys, f->keys, bad[i].values);
        const ftk_weights w = f->weights(file);
        if (bad[i].gone >= 0) f->items[bad[i].gone].name[0] = 'x';
        refused(f, &w, bad[i].line);
        ftk_gguf_free(file);
    }
}

/* With the drafter the text is that of plain decoding, hot and cold, with small and large
 * drafts. */
static inline void check_text(ftk_engine *e, const ftk_drafter_ops *ops, unsigned flags)
{
    enum { N = 60 };
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.sampling.seed = 3;
    cfg.ignore_end = true;
    for (int hot = 0; hot < 2; hot++)
        for (int round = 0; round < 3; round++) {
            cfg.budget = round == 0 ? 4 : 36;
            cfg.shape = round == 2 ? FTK_TREE_CHAIN : FTK_TREE_FITTED;
            int32_t want[N], got[N], prompt[64];
            size_t n;
            const char *text = "Tell me a story about a king and his dog.";
            assert_int_equal(
                ftk_tokenize(e->model, text, strlen(text), FTK_TOK_BOS, prompt, 64, &n), FTK_OK);
            cfg.sampling.temperature = hot ? 0.8f : 0;
            for (int which = 0; which < 2; which++) {
                ftk_session *s;
                assert_int_equal(
                    ftk_session_open_with(&s, e, &cfg, which ? ops : NULL, which ? &flags : NULL),
                    FTK_OK);
                assert_int_equal(ftk_session_append(s, prompt, n), FTK_OK);
                assert_int_equal(take(s, N, which ? got : want), N);
                ftk_stats st;
                ftk_session_get_stats(s, &st);
                if (which) assert_true(st.drafted > 0);
                ftk_session_free(s);
            }
            assert_memory_equal(got, want, sizeof want);
        }
}

#endif
