/* SPDX-License-Identifier: Apache-2.0
 * Models of every architecture: their logits against those of another program, and the same bits
 * for a row whatever the pass it is computed in. */
#include "support.h"

#include <math.h>

#include "archfigures.h"
#include "archmodels.h"
#include "base/tree.h"
#include "kernels/kernels.h"
#include "model/forward.h"

static char path[64];

static int32_t token_at(int i)
{
    return 3 + (i * 7919 + 13) % 297;
}

static ftk_model *load_arch(const am_model *am, const char *level)
{
    gw w;
    gw_init(&w);
    am_write(&w, am);
    gw_bytes file = gw_finish(&w);
    assert_true(gw_save(path, file.p, file.n));
    free(file.p);
    gw_free(&w);
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = print_log;
    cfg.kernels = level;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, path, &cfg), FTK_OK);
    return m;
}

/* ---- a pass, without an engine round it */

enum { MAX_ROWS = 2 * FTK_MAX_NODES };

typedef struct bench {
    const ftk_model *m;
    ftk_forward f;
    ftk_kv_pool pool;
    size_t row; /* bytes of a row of logits */
} bench;

static void open_bench(bench *b, const ftk_model *m, int threads, int context, ftk_type kv)
{
    *b = (bench){.m = m, .row = (size_t)m->hp.n_vocab * sizeof(float)};
    assert_int_equal(ftk_kv_pool_open(&b->pool, m, 1024, kv, NULL), FTK_OK);
    assert_int_equal(
        ftk_forward_open(&b->f, m, threads, MAX_ROWS, context, 1024 + FTK_MAX_NODES, kv), FTK_OK);
}

static void close_bench(bench *b)
{
    ftk_forward_close(&b->f);
    ftk_kv_pool_close(&b->pool);
}

static ftk_kv_seq open_seq(bench *b)
{
    ftk_kv_seq s;
    assert_int_equal(ftk_kv_seq_open(&s, &b->pool, 256), FTK_OK);
    return s;
}

/* Appends tokens as a chain, at most `step` a pass; out gets a row of logits each. */
static void run_chain(bench *b, ftk_kv_seq *s, const int32_t *tokens, int n, int step, float *out)
{
    for (int done = 0; done < n;) {
        const int rows = n - done < step ? n - done : step;
        assert_int_equal(ftk_kv_reserve(s, rows), FTK_OK);
        const ftk_pass_seq pass = {.kv = s, .n_rows = rows, .token = tokens + done};
        ftk_forward_run(&b->f, &pass, 1);
        memcpy((char *)out + (size_t)done * b->row, b->f.logits, (size_t)rows * b->row);
        s->len += rows;
        done += rows;
    }
}

static float *logits_of(const ftk_model *m, int threads, int step, ftk_type kv,
                        const int32_t *tokens, int n)
{
    bench b;
    open_bench(&b, m, threads, AM_CONTEXT, kv);
    ftk_kv_seq s = open_seq(&b);
    float *out = malloc((size_t)n * b.row);
    assert_non_null(out);
    run_chain(&b, &s, tokens, n, step, out);
    ftk_kv_seq_close(&s);
    close_bench(&b);
    return out;
}

/* ---- figures */

static double check_figures(const am_model *am, const ftk_model *m, int n)
{
    int32_t tokens[AM_TOKENS];
    for (int i = 0; i < n; i++) tokens[i] = token_at(i);
    bench b;
    open_bench(&b, m, 1, n, FTK_TYPE_F32);
    ftk_kv_seq s = open_seq(&b);
    float *logits = malloc((size_t)n * b.row);
    assert_non_null(logits);
    run_chain(&b, &s, tokens, n, 32, logits);
    double worst = 0;
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        const struct figure *f = &figures[i];
        if (strcmp(f->model, am->name) != 0 || f->n_tokens != n) continue;
        const float *row = logits + (size_t)f->position * (size_t)m->hp.n_vocab;
        for (int t = 0; t < FIGURE_TOP; t++) {
            const double error = fabs((double)row[f->token[t]] - (double)f->logit[t]);
            worst = !(error <= worst) ? error : worst;
            /* the other tokens' logits lie below */
            int above = 0;
            for (int v = 0; v < m->hp.n_vocab; v++)
                above += (double)row[v] > (double)f->logit[t] + 2e-3;
            if (above > t)
                fail_msg("%s, position %d: %d tokens are above the one of rank %d", am->name,
                         f->position, above, t);
        }
    }
    free(logits);
    ftk_kv_seq_close(&s);
    close_bench(&b);
    return worst;
}

static void test_figures(void **state)
{
    (void)state;
    const char *levels[8];
    ftk_kernels_levels(levels);
    for (int i = 0; i < am_n_models; i++) {
        const am_model *am = &am_models[i];
        for (int l = 0; levels[l]; l++) {
            ftk_model *m = load_arch(am, levels[l]);
            ftk_model_info info;
            ftk_model_get_info(m, &info);
            assert_string_equal(info.architecture, am->arch);
            assert_string_equal(info.name, am->name);
            assert_int_equal(info.n_params, am_n_params(am));
            double worst = check_figures(am, m, AM_TOKENS);
            if (am->longrope) worst = fmax(worst, check_figures(am, m, AM_ORIGINAL));
            printf("%-14s %-7s largest error of a logit %.2g\n", am->name, levels[l], worst);
            if (!(worst <= 1e-4)) fail_msg("%s, %s: off by %g", am->name, levels[l], worst);
            ftk_model_free(m);
        }
    }
}

/* ---- the same bits */

static void expect_rows(const am_model *am, const char *what, const void *got, const void *want,
                        size_t bytes, int row)
{
    if (memcmp(got, want, bytes) != 0) fail_msg("%s: %s changes row %d", am->name, what, row);
}

static void check_shapes(const am_model *am, const ftk_model *m, ftk_type kv)
{
    static const struct {
        const char *what;
        int threads, step;
    } shapes[] = {
        {"one row a pass", 1, 1},
        {"7 rows a pass", 1, 7},
        {"two threads", 2, AM_TOKENS},
        {"three threads, 13 rows a pass", 3, 13},
    };
    int32_t tokens[AM_TOKENS];
    for (int i = 0; i < AM_TOKENS; i++) tokens[i] = token_at(i);
    const size_t row = (size_t)m->hp.n_vocab * sizeof(float);
    float *want = logits_of(m, 1, AM_TOKENS, kv, tokens, AM_TOKENS);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        float *got = logits_of(m, shapes[i].threads, shapes[i].step, kv, tokens, AM_TOKENS);
        for (int r = 0; r < AM_TOKENS; r++)
            expect_rows(am, shapes[i].what, (char *)got + (size_t)r * row,
                        (char *)want + (size_t)r * row, row, r);
        free(got);
    }
    free(want);
}

/* A tree behind `prefix` tokens, beside another sequence; some nodes as chains from the start. */
static void check_tree(const am_model *am, const ftk_model *m, ftk_type kv, int prefix, int nodes,
                       uint32_t seed)
{
    bench b;
    open_bench(&b, m, 2, AM_CONTEXT, kv);
    ftk_kv_seq s = open_seq(&b), other = open_seq(&b);
    int32_t tokens[AM_TOKENS + FTK_MAX_NODES];
    float *logits = malloc(FTK_MAX_NODES * b.row);
    assert_non_null(logits);
    for (int i = 0; i < AM_TOKENS; i++) tokens[i] = token_at(i);
    run_chain(&b, &s, tokens, prefix, 50, logits);
    run_chain(&b, &other, tokens, 9, 50, logits);

    ftk_tree t;
    ftk_tree_init(&t, token_at(prefix));
    for (int tries = 0; t.n < nodes && tries < 1000; tries++) {
        seed = seed * 1664525u + 1013904223u;
        const int back = (int)(seed >> 24) % 4;
        ftk_tree_add(&t, t.n > back ? t.n - 1 - back : 0, 3 + (int)(seed >> 16 & 255), 0.5f);
    }
    const int32_t beside[3] = {5, 50, 250};
    assert_int_equal(ftk_kv_reserve(&s, t.n), FTK_OK);
    assert_int_equal(ftk_kv_reserve(&other, 3), FTK_OK);
    const ftk_pass_seq pass[2] = {
        {.kv = &other, .n_rows = 3, .token = beside},
        {.kv = &s,
         .n_rows = t.n,
         .token = t.token,
         .depth = t.depth,
         .mask = (const uint64_t(*)[2])t.mask},
    };
    ftk_forward_run(&b.f, pass, 2);
    memcpy(logits, (char *)b.f.logits + 3 * b.row, (size_t)t.n * b.row);
    for (int node = t.n - 1; node >= 0; node -= 1 + t.n / 12) {
        const int n = prefix + t.depth[node] + 1;
        for (int i = node; i >= 0; i = t.parent[i]) tokens[prefix + t.depth[i]] = t.token[i];
        float *chain = logits_of(m, 1, FTK_MAX_NODES, kv, tokens, n);
        expect_rows(am, "a tree", (char *)logits + (size_t)node * b.row,
                    (char *)chain + (size_t)(n - 1) * b.row, b.row, node);
        free(chain);
    }
    free(logits);
    ftk_kv_seq_close(&other);
    ftk_kv_seq_close(&s);
    close_bench(&b);
}

static void test_bits(void **state)
{
    (void)state;
    const char *levels[8];
    ftk_kernels_levels(levels);
    for (int i = 0; i < am_n_models; i++)
        for (int l = 0; levels[l]; l++) {
            const am_model *am = &am_models[i];
            ftk_model *m = load_arch(am, levels[l]);
            check_shapes(am, m, l % 2 ? FTK_TYPE_F32 : FTK_TYPE_F16);
            check_tree(am, m, FTK_TYPE_F16, 0, 40, 1);
            check_tree(am, m, FTK_TYPE_F16, 5, 30, 2);
            check_tree(am, m, FTK_TYPE_F32, 70, 60, 3);
            ftk_model_free(m);
        }
}

/* ---- pages of the file */

/* Bytes of the file at `path` that are in this process's memory. */
static size_t resident(void)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    if (!f) return 0;
    char line[512];
    size_t kib = 0, sum = 0;
    for (bool ours = false; fgets(line, sizeof line, f);) {
        if (strchr(line, '-') && strchr(line, '-') < strchr(line, ' ')) ours = strstr(line, path);
        if (ours && sscanf(line, "Rss: %zu", &kib) == 1) sum += kib << 10;
    }
    fclose(f);
    return sum;
}

static uint64_t progressed, progress_total;
static int progress_calls;

static void see_progress(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    assert_true(done > progressed && done <= total);
    progressed = done;
    progress_total = total;
    progress_calls++;
}

static int still_wanted; /* times that the host says yes */

static bool ask_wanted(void *ctx)
{
    (void)ctx;
    return still_wanted-- > 0;
}

static ftk_err load_asking(ftk_model **m, const char *level, int times)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.kernels = level;
    cfg.wanted = ask_wanted;
    still_wanted = times;
    return ftk_model_load(m, path, &cfg);
}

/* A load that is stopped anywhere leaves nothing behind; asked once more than it asks, it ends. So
 * with a draft model's, of which the model's own host is asked. */
static void test_load_is_stopped(void **state)
{
    (void)state;
    const char *levels[8];
    ftk_kernels_levels(levels);
    int best = 0, times = 0;
    while (levels[best + 1]) best++;
    ftk_model *m = load_arch(&am_models[0], "ref");
    ftk_model_free(m);
    ftk_err err = FTK_ERR_CANCELLED;
    for (; err == FTK_ERR_CANCELLED; times++) {
        err = load_asking(&m, levels[best], times);
        assert_true(err == FTK_OK || m == NULL);
    }
    assert_int_equal(err, FTK_OK);
    assert_true(best == 0 || times > 1);
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.kv_slots = 256;
    cfg.measure = false;
    ftk_engine *e;
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_OK);
    ftk_engine_stats stats;
    err = FTK_ERR_CANCELLED;
    for (times = 0; err == FTK_ERR_CANCELLED; times++) {
        still_wanted = times;
        err = ftk_engine_add_draft_model(e, path);
        assert_true(ftk_engine_has_drafter(e, "draft-model") == (err == FTK_OK));
        ftk_engine_get_stats(e, &stats);
        assert_true((stats.draft_bytes > 0) == (err == FTK_OK));
    }
    assert_int_equal(err, FTK_OK);
    assert_true(best == 0 || times > 1);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* What was packed is given back; the passes still read embeddings from the file. */
static void test_pages_given_back(void **state)
{
    (void)state;
    const am_model big = {.name = "big",
                          .arch = "llama",
                          .layers = 2,
                          .embd = 512,
                          .heads = 8,
                          .heads_kv = 8,
                          .head_dim = 64,
                          .ff = 1024,
                          .rope_base = 1e4};
    const char *levels[8];
    ftk_kernels_levels(levels);
    int best = 0;
    while (levels[best + 1]) best++;
    ftk_model *m = load_arch(&big, "ref");
    int32_t tokens[20];
    for (int i = 0; i < 20; i++) tokens[i] = token_at(i);
    float *want = logits_of(m, 1, 20, FTK_TYPE_F32, tokens, 20);
    const size_t before = resident(); /* all of it has been read, and none given back */
    ftk_model_free(m);
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.kernels = levels[best];
    cfg.progress = see_progress;
    assert_int_equal(ftk_model_load(&m, path, &cfg), FTK_OK);
    if (best == 0 || before == 0) {
        free(want);
        ftk_model_free(m);
        print_message("SKIPPED: nothing is packed, or pages cannot be counted here\n");
        skip();
    }
    assert_true(progress_calls > 0 && progressed == progress_total);
    assert_int_equal(progress_total, m->weight_bytes);
    const size_t weights = (size_t)m->weight_bytes;
    assert_true(weights > (size_t)10 << 20);
    const size_t after = resident();
    print_message("%zu KiB of weights; %zu KiB of the file resident, %zu where nothing is packed\n",
                  weights >> 10, after >> 10, before >> 10);
    assert_true(before > weights && after < weights / 4);
    float *got = logits_of(m, 1, 20, FTK_TYPE_F32, tokens, 20);
    for (int i = 0; i < 20 * GW_VOCAB; i++)
        if (!(fabsf(got[i] - want[i]) < 1e-3f))
            fail_msg("logit %d: %g, ref says %g", i, got[i], want[i]);
    free(got);
    free(want);
    ftk_model_free(m);
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/ftk-test-arch-%ld.gguf", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_load_is_stopped),
        cmocka_unit_test(test_pages_given_back),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
