/* SPDX-License-Identifier: Apache-2.0
 * What drafters may use of the model: features, states and upper layers, to the bit; and their
 * files. */
#include "support.h"

#include <math.h>

#include "base/mem.h"
#include "engine/session.h"
#include "onebad.h"

static counting count;
static ftk_model *model;

static int open_model(void **state)
{
    (void)state;
    if (access(DEMO, R_OK) != 0) return 0;
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = counting_host(&count);
    return ftk_model_load(&model, DEMO, &cfg) == FTK_OK ? 0 : -1;
}

static int close_model(void **state)
{
    (void)state;
    ftk_model_free(model);
    return count.live == 0 ? 0 : -1;
}

static ftk_session *start(ftk_engine *e, const ftk_drafter_ops *ops, void *test, const char *text)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.budget = 2;
    cfg.ignore_end = true;
    ftk_session *s;
    assert_int_equal(ftk_session_open_with(&s, e, &cfg, ops, test), FTK_OK);
    int32_t tokens[256];
    size_t n;
    assert_int_equal(ftk_tokenize(model, text, strlen(text), FTK_TOK_BOS, tokens, 256, &n), FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, n), FTK_OK);
    return s;
}

/* ---- rows that a drafter sees */

typedef struct probe {
    ftk_engine *engine;
    int roots, nodes;
    float y[3 * 8192];
} probe;

static ftk_err probe_init(void *state, const ftk_drafter_env *env)
{
    memcpy(state, &env->test, sizeof env->test);
    return FTK_OK;
}

static void probe_propose(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    (void)state, (void)history, (void)n;
    for (int i = 0; i < budget; i++) ftk_tree_add(tree, i / 2, 100 + i, 0.5f);
}

/* The output matrix on a row's features gives the row's logits, all bits of them. */
static void probe_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                        const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history, (void)n, (void)verdict;
    probe *p;
    memcpy(&p, state, sizeof p);
    const ftk_model *m = p->engine->model;
    ftk_session s = {.engine = p->engine};
    ftk_target t;
    ftk_target_init(&t, &s);
    t.multiply(t.ctx, &m->output, tree->n, rows->features, p->y);
    assert_memory_equal(p->y, rows->logits,
                        (size_t)tree->n * (size_t)m->hp.n_vocab * sizeof(float));
    assert_non_null(rows->states);
    p->roots += tree->n == 1;
    p->nodes += tree->n - 1;
}

static void probe_reset(void *state, const int32_t *history, size_t n)
{
    (void)state, (void)history, (void)n;
}

static void probe_free(void *state, const ftk_host *host)
{
    (void)state, (void)host;
}

static const ftk_drafter_ops probe_ops = {
    .name = "probe",
    .state_size = sizeof(void *),
    .wants = FTK_WANT_FEATURES | FTK_WANT_STATES,
    .init = probe_init,
    .propose = probe_propose,
    .learn = probe_learn,
    .reset = probe_reset,
    .free = probe_free,
};

static void test_features(void **state)
{
    (void)state;
    NEED(DEMO);
    for (int threads = 1; threads <= 2; threads++) {
        ftk_engine *e = open_engine(model, threads, 512, FTK_TYPE_F16);
        assert_int_equal(ftk_target_room(e, model->hp.n_embd), FTK_OK);
        assert_int_equal(ftk_forward_keep(&e->forward, 3), FTK_OK);
        probe p[2] = {{.engine = e}, {.engine = e}};
        ftk_session *s[2] = {start(e, &probe_ops, &p[0], "Once upon a time"),
                             start(e, &probe_ops, &p[1], "The king said that the cat")};
        for (int i = 0; i < 6; i++) {
            ftk_result r[2];
            assert_int_equal(ftk_step(s, 2, r), FTK_OK);
        }
        for (int i = 0; i < 2; i++) {
            assert_int_equal(p[i].roots, 1); /* the prompt */
            assert_int_equal(p[i].nodes, 5 * 2);
            ftk_session_free(s[i]);
        }
        ftk_engine_free(e);
    }
}

/* ---- upper layers */

/* From any layer on, the states of a text's last tokens give the logits that the whole pass
 * gave, and what comes next is not changed by it. */
static void test_run_above(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { LAST = 3 };
    const ftk_hparams *hp = &model->hp;
    const size_t d = (size_t)hp->n_embd, logits_bytes = (size_t)hp->n_vocab * sizeof(float);
    float *want = malloc(logits_bytes), *x = malloc(LAST * d * sizeof *x);
    int32_t plain[24], out[24];
    ftk_engine *e = open_engine(model, 2, 512, FTK_TYPE_F16);
    ftk_session *s = start(e, NULL, NULL, "Once upon a time there was a");
    assert_int_equal(take(s, 24, plain), 24);
    ftk_session_free(s);
    for (int layer = 0; layer < hp->n_layer; layer += 5) {
        if (layer > 0) assert_int_equal(ftk_forward_keep(&e->forward, layer - 1), FTK_OK);
        s = start(e, NULL, NULL, "Once upon a time there was a");
        size_t n;
        const int32_t *tokens = ftk_session_tokens(s, &n);
        ftk_result r;
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        memcpy(want, e->forward.logits, logits_bytes);
        if (layer > 0)
            memcpy(x, e->forward.states + (n - LAST) * d, LAST * d * sizeof *x);
        else
            s->target.embed(s->target.ctx, LAST, tokens + n - LAST, x);
        assert_int_equal(ftk_session_truncate(s, n - LAST + 1), FTK_OK);
        const ftk_rows *got = s->target.run_above(s->target.ctx, layer, LAST, x);
        assert_non_null(got);
        assert_memory_equal(got->logits + (LAST - 1) * (size_t)hp->n_vocab, want, logits_bytes);
        ftk_session_free(s);
        s = start(e, NULL, NULL, "Once upon a time there was a");
        for (size_t i = 0; i < 24; i++) {
            assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
            out[i] = r.tokens[0];
            assert_non_null(s->target.run_above(s->target.ctx, layer, LAST, x));
        }
        assert_memory_equal(out, plain, sizeof plain);
        ftk_session_free(s);
    }
    ftk_engine_free(e);
    free(x);
    free(want);
}

/* ---- rows that join a pass */

typedef struct pseudo {
    int n_rows, n; /* rows of the pass, rows that join */
    float *given;  /* [n][n_embd] */
    bool seen;
} pseudo;

static void give_states(void *ctx, const float *states, float *x)
{
    pseudo *const p = ctx;
    const size_t d = (size_t)model->hp.n_embd;
    assert_ptr_equal(x, states + (size_t)p->n_rows * d);
    memcpy(x, p->given, (size_t)p->n * d * sizeof *x);
    p->seen = true;
}

/* A tree's rows have the same logits with and without rows that join, and those the logits that
 * they have as a chain behind their node's path, all to the bit. */
static void test_joining(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { TEXT = 70, ROWS = 5, JOIN = 5, LAYER = 7 };
    static const int16_t depth[ROWS] = {0, 1, 1, 2, 2}, node[JOIN] = {4, 4, 4, 0, 2};
    static const int16_t path[3] = {0, 1, 4};
    const uint64_t mask[ROWS][2] = {{1}, {1 + 2}, {1 + 4}, {1 + 2 + 8}, {1 + 2 + 16}};
    const size_t d = (size_t)model->hp.n_embd, row = (size_t)model->hp.n_vocab;
    int32_t text[TEXT + ROWS];
    for (int i = 0; i < TEXT + ROWS; i++) text[i] = 50 + 37 * i % 1000;
    float *const want = malloc(ROWS * row * sizeof *want), *const given = malloc(JOIN * d * 4),
                 *const joined = malloc(JOIN * row * sizeof *want);
    for (size_t i = 0; i < JOIN * d; i++) given[i] = (float)(i * 7919 % 101) - 50;
    for (int threads = 1; threads <= 2; threads++) {
        ftk_engine *e = open_engine(model, threads, 512, FTK_TYPE_F16);
        ftk_forward *const f = &e->forward;
        assert_int_equal(ftk_forward_keep(f, LAYER - 1), FTK_OK);
        ftk_kv_seq kv;
        assert_int_equal(ftk_kv_seq_open(&kv, &e->pool, 256), FTK_OK);
        assert_int_equal(ftk_kv_reserve(&kv, TEXT), FTK_OK);
        ftk_forward_run(f, &(ftk_pass_seq){.kv = &kv, .n_rows = TEXT, .token = text}, 1);
        int16_t all[TEXT];
        for (int i = 0; i < TEXT; i++) all[i] = (int16_t)i;
        ftk_kv_commit(&kv, all, TEXT);
        assert_int_equal(ftk_kv_reserve(&kv, ROWS + JOIN), FTK_OK);
        const ftk_pass_seq seq = {
            .kv = &kv, .n_rows = ROWS, .token = text + TEXT, .depth = depth, .mask = mask};
        ftk_forward_run(f, &seq, 1);
        memcpy(want, f->logits, ROWS * row * sizeof *want);
        pseudo p = {.n_rows = ROWS, .n = JOIN, .given = given};
        ftk_forward_run_appending(
            f, &seq,
            &(ftk_pass_append){
                .n = JOIN, .layer = LAYER, .node = node, .states = give_states, .ctx = &p});
        assert_true(p.seen);
        assert_memory_equal(f->logits, want, ROWS * row * sizeof *want);
        memcpy(joined, f->logits + ROWS * row, JOIN * row * sizeof *want);
        ftk_kv_commit(&kv, path, 3);
        assert_int_equal(ftk_kv_reserve(&kv, 3), FTK_OK);
        ftk_forward_run_above(f, &(ftk_pass_seq){.kv = &kv, .n_rows = 3, .states = given}, 1,
                              LAYER);
        assert_memory_equal(joined, f->logits, 3 * row * sizeof *want);
        ftk_kv_seq_close(&kv);
        ftk_engine_free(e);
    }
    free(want);
    free(given);
    free(joined);
}

static void test_last_norm(void **state)
{
    (void)state;
    NEED(DEMO);
    const size_t d = (size_t)model->hp.n_embd;
    float *x = malloc(d * sizeof *x);
    ftk_engine *e = open_engine(model, 1, 512, FTK_TYPE_F16);
    assert_int_equal(ftk_forward_keep(&e->forward, model->hp.n_layer - 1), FTK_OK);
    ftk_session *s = start(e, NULL, NULL, "The king");
    size_t n;
    ftk_session_tokens(s, &n);
    ftk_result r;
    assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
    s->target.last_norm(s->target.ctx, 1, e->forward.states + (n - 1) * d, x);
    assert_memory_equal(x, e->forward.features, d * sizeof *x);
    ftk_session_free(s);
    ftk_engine_free(e);
    free(x);
}

/* ---- files */

enum { IN = 64, OUT = 32 };

/* What a file has wrong; the rest of it is right. */
typedef enum fault {
    NOTHING,
    ARCH,
    FAMILY,
    BASE,
    OTHER_BASE,
    NO_TENSORS,
    TYPE,
    NAN_VECTOR,
    THREE_DIMS,
    VOCAB_TYPE,
    VOCAB_ORDER,
    VOCAB_ID,
    N_FAULTS
} fault;

static const char *write_drafter(fault f)
{
    static char path[64];
    strcpy(path, "drafter-XXXXXX");
    float vector[IN] = {1, 2};
    static float matrix[OUT][IN];
    for (int i = 0; i < OUT; i++)
        for (int j = 0; j < IN; j++) matrix[i][j] = (float)(i - j) / 8;
    if (f == NAN_VECTOR) vector[5] = NAN;
    gw w;
    gw_init(&w);
    gw_str(&w, "general.architecture", f == ARCH ? "llama" : "foretoken-drafter");
    if (f != FAMILY) gw_str(&w, "foretoken.drafter.family", "imagined");
    if (f != BASE)
        gw_str(&w, "foretoken.drafter.base",
               f == OTHER_BASE ? "0123456789abcdef" : model->fingerprint);
    gw_u32(&w, "foretoken.drafter.heads", 5);
    const uint32_t vocab[3] = {3, f == VOCAB_ORDER ? 3 : 7, f == VOCAB_ID ? 1u << 20 : 4000};
    gw_array(&w, "foretoken.drafter.vocab", f == VOCAB_TYPE ? FTK_GGUF_F32 : FTK_GGUF_U32, 3,
             vocab);
    const uint64_t dims[3] = {IN, OUT / 2, 2};
    const uint64_t flat[2] = {f == TYPE ? 256 : IN, f == TYPE ? 8 : OUT};
    if (f != NO_TENSORS) {
        gw_tensor(&w, "map", f == THREE_DIMS ? 3 : 2, f == THREE_DIMS ? dims : flat,
                  f == TYPE ? 16 /* IQ2_XXS */ : FTK_TYPE_F32, matrix, sizeof matrix);
        gw_tensor(&w, "bias", 1, &(uint64_t){IN}, FTK_TYPE_F32, vector, sizeof vector);
    }
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    gw_bytes all = gw_finish(&w);
    assert_int_equal(write(fd, all.p, all.n), (ssize_t)all.n);
    close(fd);
    free(all.p);
    gw_free(&w);
    return path;
}

static void test_good_file(void **state)
{
    (void)state;
    NEED(DEMO);
    const char *path = write_drafter(NOTHING);
    ftk_drafterfile d;
    ftk_str family;
    assert_int_equal(ftk_drafterfile_open(&d, path, model, true, &family, &model->host), FTK_OK);
    assert_int_equal(family.n, strlen("imagined"));
    const ftk_weight *map = ftk_weights_get(&d.weights, "map", OUT, IN, &model->host);
    const ftk_weight *bias = ftk_weights_get(&d.weights, "bias", 0, IN, &model->host);
    assert_true(map && bias);
    assert_true(bias->vector[1] == 2);
    int heads;
    assert_true(ftk_weights_int(&d.weights, "heads", 1, 8, &heads, &model->host));
    assert_int_equal(heads, 5);

    ftk_engine *e = open_engine(model, 1, 512, FTK_TYPE_F16);
    assert_int_equal(ftk_target_room(e, d.widest), FTK_OK);
    ftk_session *s = start(e, NULL, NULL, "The king");
    float x[IN] = {0}, y[OUT];
    x[2] = 4;
    s->target.multiply(s->target.ctx, map->matrix, 1, x, y);
    for (int i = 0; i < OUT; i++) assert_true(y[i] == (float)(i - 2) / 2);

    /* The head's rows are those of the listed tokens. */
    ftk_result r;
    assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
    float few[3];
    assert_int_equal(d.weights.n_head, 3);
    s->target.multiply(s->target.ctx, d.weights.head, 1, e->forward.features, few);
    for (int i = 0; i < 3; i++) assert_true(few[i] == e->forward.logits[d.weights.vocab[i]]);
    ftk_session_free(s);

    /* No family of that name is built in. */
    count.errors = 0;
    assert_int_equal(ftk_engine_add_drafter(e, path), FTK_ERR_UNSUPPORTED);
    char line[256];
    snprintf(line, sizeof line, "%s: family \"imagined\" is not one this build has a drafter for",
             path);
    assert_string_equal(count.line, line);
    ftk_engine_free(e);

    assert_null(ftk_weights_get(&d.weights, "gap", OUT, IN, &model->host));
    snprintf(line, sizeof line, "%s: tensor gap is missing", path);
    assert_string_equal(count.line, line);
    assert_null(ftk_weights_get(&d.weights, "map", OUT, 2 * IN, &model->host));
    snprintf(line, sizeof line, "%s: tensor map has shape [64, 32] instead of [128, 32]", path);
    assert_string_equal(count.line, line);
    assert_null(ftk_weights_get(&d.weights, "map", 0, IN, &model->host));
    assert_false(ftk_weights_int(&d.weights, "heads", 6, 8, &heads, &model->host));
    snprintf(line, sizeof line,
             "%s: key foretoken.drafter.heads is missing, or no whole number from 6 to 8", path);
    assert_string_equal(count.line, line);
    assert_false(ftk_weights_int(&d.weights, "tails", 0, 8, &heads, &model->host));
    ftk_drafterfile_close(&d, &model->host);
    unlink(path);
}

static void test_bad_files(void **state)
{
    (void)state;
    NEED(DEMO);
    static const struct {
        ftk_err err;
        const char *line; /* behind "PATH: "; %s is the fingerprint */
    } want[N_FAULTS] = {
        [ARCH] = {FTK_ERR_INVALID,
                  "is no drafter: its general.architecture is not foretoken-drafter; a model is "
                  "named with -m"},
        [FAMILY] = {FTK_ERR_FORMAT, "key foretoken.drafter.family is missing"},
        [BASE] = {FTK_ERR_FORMAT, "key foretoken.drafter.base is missing"},
        [OTHER_BASE] = {FTK_ERR_INVALID,
                        "was trained for another model (fingerprint 0123456789abcdef, this model's "
                        "is %s): train one for this model, see drafters/train/README.md"},
        [NO_TENSORS] = {FTK_ERR_FORMAT, "0 tensors: a drafter has 1 to 4096"},
        [TYPE] = {FTK_ERR_UNSUPPORTED, "tensor map has type IQ2_XXS, which is not supported"},
        [NAN_VECTOR] = {FTK_ERR_FORMAT, "tensor bias holds values that are not finite"},
        [THREE_DIMS] = {FTK_ERR_FORMAT,
                        "tensor map is no vector and no matrix of up to 2^20 a side"},
        [VOCAB_TYPE] = {FTK_ERR_FORMAT,
                        "key foretoken.drafter.vocab is no array of 1 to 4096 token ids"},
        [VOCAB_ORDER] = {FTK_ERR_FORMAT,
                         "key foretoken.drafter.vocab is not a rising list of token ids"},
        [VOCAB_ID] = {FTK_ERR_FORMAT,
                      "key foretoken.drafter.vocab is not a rising list of token ids"},
    };
    for (fault f = ARCH; f < N_FAULTS; f++) {
        const char *path = write_drafter(f);
        const int live = count.live;
        count.errors = 0;
        ftk_drafterfile d;
        ftk_str family;
        assert_int_equal(ftk_drafterfile_open(&d, path, model, true, &family, &model->host),
                         want[f].err);
        assert_int_equal(count.live, live);
        assert_int_equal(count.errors, 1);
        char line[512], rest[384];
        snprintf(rest, sizeof rest, want[f].line, model->fingerprint);
        snprintf(line, sizeof line, "%s: %s", path, rest);
        assert_string_equal(count.line, line);
        unlink(path);
    }
}

static ftk_err open_and_close(counting *c, void *path)
{
    (void)c;
    ftk_drafterfile d;
    ftk_str family;
    const ftk_err err = ftk_drafterfile_open(&d, path, model, true, &family, &model->host);
    if (err == FTK_OK) ftk_drafterfile_close(&d, &model->host);
    return err;
}

static void test_no_memory(void **state)
{
    (void)state;
    NEED(DEMO);
    char path[512];
    snprintf(path, sizeof path, "%s", write_drafter(NOTHING));
    assert_true(fail_each(&count, "a file", open_and_close, path) > 6);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features),  cmocka_unit_test(test_run_above),
        cmocka_unit_test(test_joining),   cmocka_unit_test(test_last_norm),
        cmocka_unit_test(test_good_file), cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
