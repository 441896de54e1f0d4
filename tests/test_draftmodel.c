/* SPDX-License-Identifier: Apache-2.0
 * A small model drafts: what comes is plain decoding's, whoever drafts beside it, after cuts and
 * forks; drawn drafts have the model's distribution; vocabularies that are not the same are
 * refused. */
#include "support.h"

#include "archmodels.h"
#include "drafterlife.h"
#include "drafters/grown.h"
#include "engine/session.h"
#include "testkit/statistics.h"

enum { N = 48, CTX = 200 };

#define FOLDER FTK_BUILT_DIR "/"

static const char *const names[] = {"llama", "qwen3", "phi3", "gemma3", "noisy"};

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, FOLDER "draftmodel-%s.gguf", name);
    return path;
}

/* "llama" without a part of its last layer: mostly of the same opinion. */
static void write_noisy(gw *w)
{
    const am_model *const m = am_find("llama");
    const uint64_t dims[] = {(uint64_t)m->ff, (uint64_t)m->embd};
    w->skip = "blk.2.ffn_down.weight";
    am_write(w, m);
    w->skip = NULL;
    gw_tensor(w, "blk.2.ffn_down.weight", 2, dims, FTK_TYPE_F32, NULL, dims[0] * dims[1] * 4);
}

static int write_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        gw w;
        gw_init(&w);
        if (am_find(names[i]))
            am_write(&w, am_find(names[i]));
        else
            write_noisy(&w);
        if (!gw_end(&w, path_of(names[i]))) return -1;
    }
    return 0;
}

/* An engine on "llama" that the model `small` drafts for. */
static ftk_engine *open_with(const ftk_model *m, const char *small, int slots, int threads)
{
    ftk_engine *e = open_engine(m, threads, slots, FTK_TYPE_F16);
    assert_false(ftk_engine_has_drafter(e, "draft-model"));
    assert_int_equal(ftk_engine_add_draft_model(e, path_of(small)), FTK_OK);
    assert_true(ftk_engine_has_drafter(e, "draft-model"));
    ftk_engine_stats stats;
    ftk_engine_get_stats(e, &stats);
    assert_true(stats.draft_bytes > (uint64_t)slots * 2 * 2 * 16 * sizeof(uint16_t));
    return e;
}

enum {
    /* The draft model alone, in every step. */
    OWN = FTK_ROWS_ALWAYS | FTK_WITHOUT_RETRIEVAL | FTK_WITHOUT_SUCCESSORS
};

typedef struct how {
    const char *drafter, *verifier;
    int budget;
    ftk_tree_shape shape;
    float temperature;
    unsigned flags; /* of drafters/drafter.h */
} how;

static ftk_session *open_how(ftk_engine *e, const how *h, uint64_t seed)
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
    cfg.sampling.seed = seed;
    ftk_session *s;
    if (h->flags)
        assert_int_equal(ftk_session_open_with(&s, e, &cfg, &ftk_drafter_draft_model,
                                               (void *)(uintptr_t)&h->flags),
                         FTK_OK);
    else
        assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    return s;
}

static void start(ftk_session *s, int which)
{
    int32_t prompt[40];
    for (int i = 0; i < 40; i++) prompt[i] = 3 + (i * (7 + which) + which) % 250;
    assert_int_equal(ftk_session_append(s, prompt, (size_t)(3 + 12 * which)), FTK_OK);
}

static void plain(ftk_engine *e, float temperature, int which, int32_t *out)
{
    ftk_session *s = open_how(e, &(how){.drafter = "none", .temperature = temperature}, 5);
    start(s, which);
    assert_int_equal(take(s, N, out), N);
    ftk_session_free(s);
}

/* Every draft model, budget and shape, alone and one of several. */
static void test_exact(void **state)
{
    (void)state;
    static const int budgets[] = {-1, 1, 6, 40};
    ftk_model *m = load_model(path_of("llama"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ftk_engine *e = open_with(m, names[i], 512, 1 + (int)i % 2);
        for (int k = 0; k < 4 * 2 * 2 * 2; k++) {
            const how h = {.drafter = k & 1 ? "auto" : "draft-model",
                           .budget = budgets[k >> 3],
                           .shape = k & 2 ? FTK_TREE_CHAIN : FTK_TREE_FITTED,
                           .temperature = k & 4 ? 0.8f : 0};
            int32_t want[N], got[N];
            plain(e, h.temperature, 1, want);
            ftk_session *s = open_how(e, &h, 5);
            start(s, 1);
            assert_int_equal(take(s, N, got), N);
            assert_memory_equal(got, want, sizeof want);
            ftk_session_free(s);
        }
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* A model that drafts for itself is right: a chain of a budget's length is accepted in each
 * step. */
static void test_itself(void **state)
{
    (void)state;
    ftk_model *m = load_model(path_of("llama"));
    ftk_engine *e = open_with(m, "llama", 512, 1);
    for (int k = 0; k < 6; k++) {
        static const char *const verifiers[] = {"exact", "reject", "traversal"};
        const how h = {.drafter = "draft-model",
                       .verifier = verifiers[k % 3],
                       .budget = 4,
                       .shape = FTK_TREE_CHAIN,
                       .temperature = k < 3 ? 0 : 0.8f,
                       .flags = OWN};
        ftk_session *s = open_how(e, &h, 9);
        int32_t got[N];
        start(s, 2);
        assert_int_equal(take(s, N, got), N);
        ftk_stats stats;
        ftk_session_get_stats(s, &stats);
        const bool sure =
            k != 3; /* what is likeliest need not come, but what was drawn is accepted */
        if (sure) assert_true(stats.accepted + 4 >= stats.drafted && stats.steps < N / 3);
        ftk_session_free(s);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Cut, gone on from, forked, with the drafter changed and changed back: the small model's cache
 * follows. */
static void test_follows(void **state)
{
    (void)state;
    ftk_model *m = load_model(path_of("llama"));
    ftk_engine *e = open_with(m, "llama", 1024, 1);
    const how h = {.drafter = "draft-model", .budget = 4, .shape = FTK_TREE_CHAIN, .flags = OWN};
    for (size_t cut = 1; cut < 60; cut += 7) {
        static const int32_t more[] = {70, 71, 72, 73};
        ftk_session *s = open_how(e, &h, 1), *f, *p = open_how(e, &(how){.drafter = "none"}, 1);
        int32_t got[N], want[N];
        start(s, 1);
        take(s, N, got);
        assert_int_equal(ftk_session_set_drafter(s, cut % 2 ? "lookup" : "draft-model"), FTK_OK);
        size_t len;
        const int32_t *text = ftk_session_tokens(s, &len);
        assert_int_equal(ftk_session_append(p, text, cut), FTK_OK);
        assert_int_equal(ftk_session_truncate(s, cut), FTK_OK);
        for (size_t k = 0; k < cut / 7 % 3; k++) {
            assert_int_equal(ftk_session_append(s, more, 4), FTK_OK);
            assert_int_equal(ftk_session_append(p, more, 4), FTK_OK);
        }
        assert_int_equal(ftk_session_set_drafter(s, "draft-model"), FTK_OK);
        assert_int_equal(ftk_session_fork(&f, s, NULL), FTK_OK);
        ftk_stats before, after;
        ftk_session_get_stats(s, &before);
        assert_int_equal(take(p, N, want), N);
        assert_int_equal(take(s, N, got), N);
        assert_memory_equal(got, want, sizeof want);
        ftk_session_get_stats(s, &after);
        assert_true(after.accepted - before.accepted + 5 >= after.drafted - before.drafted);
        assert_true(after.accepted > before.accepted);
        assert_int_equal(take(f, N, got), N);
        assert_memory_equal(got, want, sizeof want);
        ftk_session_free(p);
        ftk_session_free(f);
        ftk_session_free(s);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Where there is no room for the small model's keys nothing is drafted, and nothing fails that
 * would not. */
static void test_no_room(void **state)
{
    (void)state;
    ftk_model *m = load_model(path_of("llama"));
    ftk_engine *e = open_with(m, "qwen3", 96, 1);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "draft-model";
    cfg.budget = 30;
    cfg.ignore_end = true;
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    start(s, 2);
    int32_t got[96], want[96];
    const size_t n = take(s, SIZE_MAX, got);
    assert_int_equal(n, 96 - 27);
    cfg.drafter = "none";
    ftk_session *p;
    ftk_session_free(s);
    assert_int_equal(ftk_session_open(&p, e, &cfg), FTK_OK);
    start(p, 2);
    assert_int_equal(take(p, SIZE_MAX, want), n);
    assert_memory_equal(got, want, n * sizeof *want);
    ftk_session_free(p);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* ---- drawn drafts */

enum { K = 4, SEEDS = 2000, TOGETHER = 5 };

/* What a mask allows, if there is one. */
static bool is_allowed(bool masked, int32_t token)
{
    return !masked || token % 3 != 0;
}

static void allow_some(void *ctx, const int32_t *tokens, size_t n, uint32_t *allowed)
{
    (void)ctx, (void)tokens, (void)n;
    for (int32_t i = 0; i < GW_VOCAB; i++)
        if (is_allowed(true, i)) allowed[i / 32] |= (uint32_t)1 << i % 32;
}

/* The K likeliest tokens behind a text, of those allowed, and their probabilities at temperature
 * 0.8 among them. */
static void likeliest(ftk_engine *e, const int32_t *text, size_t n, bool masked, int32_t *token,
                      double *p)
{
    ftk_session *s = open_how(e, &(how){.drafter = "none"}, 0);
    assert_int_equal(ftk_session_append(s, text, n), FTK_OK);
    assert_int_equal(ftk_session_set_logprobs(s, FTK_MAX_LOGPROBS, false), FTK_OK);
    ftk_result r;
    float own;
    const ftk_logprob *best;
    double sum = 0;
    int have = 0;
    assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
    assert_true(ftk_session_logprobs(s, n, &own, &best));
    for (int i = 0; i < FTK_MAX_LOGPROBS && have < K; i++) {
        if (!is_allowed(masked, best[i].token)) continue;
        token[have] = best[i].token;
        sum += p[have++] = exp(best[i].logprob / 0.8);
    }
    assert_int_equal(have, K);
    for (int i = 0; i < K; i++) p[i] /= sum;
    ftk_session_free(s);
}

static int find(const int32_t *list, int32_t token)
{
    for (int i = 0; i < K; i++)
        if (list[i] == token) return i;
    return -1;
}

/* n sessions that share their passes draw, and one beside them whose drafts are chosen. */
static void check_law(ftk_engine *e, const char *verifier, ftk_tree_shape shape, bool masked, int n)
{
    static const int32_t text[] = {9, 40, 77, 40};
    int32_t first[K], second[K][K], behind[5] = {9, 40, 77, 40};
    double p[K], q[K][K], all[K * K];
    size_t counts[K * K] = {0};
    likeliest(e, text, 4, masked, first, p);
    for (int i = 0; i < K; i++) {
        behind[4] = first[i];
        likeliest(e, behind, 5, masked, second[i], q[i]);
        for (int j = 0; j < K; j++) all[i * K + j] = p[i] * q[i][j];
    }
    how h = {.drafter = "draft-model", .budget = 6, .shape = shape, .flags = FTK_ROWS_ALWAYS};
    ftk_session *s[TOGETHER + 1];
    for (int k = 0; k < n + 1; k++) {
        h.verifier = k < n ? verifier : "exact";
        s[k] = open_how(e, &h, 0);
        if (masked) assert_int_equal(ftk_session_set_mask(s[k], allow_some, NULL), FTK_OK);
    }
    const size_t n_step = n > 1 ? (size_t)n + 1 : 1;
    ftk_sampling to = {.temperature = 0.8f, .top_k = K, .top_p = 1, .repeat_penalty = 1};
    for (uint64_t seed = 0; seed < SEEDS; seed += (uint64_t)n) {
        ftk_result r[TOGETHER + 1];
        for (int k = 0; k < n + 1; k++) {
            to.seed = seed + (uint64_t)k;
            assert_int_equal(ftk_session_set_sampling(s[k], &to), FTK_OK);
            assert_int_equal(ftk_session_truncate(s[k], 0), FTK_OK);
            assert_int_equal(ftk_session_append(s[k], text, 4), FTK_OK);
        }
        assert_int_equal(ftk_step(s, n_step, r), FTK_OK); /* reads: the next step drafts */
        for (int k = 0; k < n + 1; k++) assert_int_equal(ftk_session_truncate(s[k], 4), FTK_OK);
        for (int step = 0; step < 2; step++) assert_int_equal(ftk_step(s, n_step, r), FTK_OK);
        for (int k = 0; k < n; k++) {
            size_t len;
            const int32_t *const got = ftk_session_tokens(s[k], &len) + 4;
            assert_true(len >= 6);
            const int i = find(first, got[0]), j = i < 0 ? -1 : find(second[i], got[1]);
            assert_true(i >= 0 && j >= 0);
            counts[i * K + j]++;
        }
    }
    ftk_stats stats;
    ftk_session_get_stats(s[0], &stats);
    assert_true(stats.accepted > SEEDS / 8 / (uint64_t)n); /* else this would say nothing */
    if (!chi_square_fits(counts, all, K * K))
        fail_msg("%s draws from another law, of %d", verifier, n);
    for (int k = 0; k < n + 1; k++) ftk_session_free(s[k]);
}

static void test_law(void **state)
{
    (void)state;
    ftk_model *m = load_model(path_of("llama"));
    static const char *const small[] = {"llama", "noisy"};
    for (int i = 0; i < 2; i++) {
        ftk_engine *e = open_with(m, small[i], 512, 1);
        check_law(e, "reject", FTK_TREE_FITTED, false, 1);
        check_law(e, "traversal", FTK_TREE_FITTED, false, 1);
        check_law(e, "reject", FTK_TREE_CHAIN, true, 1);
        check_law(e, "traversal", FTK_TREE_FITTED, true, 1);
        check_law(e, "reject", FTK_TREE_FITTED, false, TOGETHER);
        check_law(e, "traversal", FTK_TREE_FITTED, false, TOGETHER);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* At temperature 0 they say what plain decoding says. */
static void test_greedy_verifiers(void **state)
{
    (void)state;
    ftk_model *m = load_model(path_of("llama"));
    ftk_engine *e = open_with(m, "phi3", 512, 1);
    int32_t want[N], got[N];
    plain(e, 0, 1, want);
    for (int k = 0; k < 2; k++) {
        const how h = {
            .drafter = "draft-model", .verifier = k ? "reject" : "traversal", .budget = 9};
        ftk_session *s = open_how(e, &h, 5);
        start(s, 1);
        assert_int_equal(take(s, N, got), N);
        assert_memory_equal(got, want, sizeof want);
        ftk_session_free(s);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* ---- vocabularies */

static char said[1024];

static void keep_log(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    if (level == FTK_LOG_ERROR) snprintf(said, sizeof said, "%s", line);
}

enum { MORE = 4, PADDED = GW_VOCAB + MORE };

/* A small llama with MORE tokens behind those of the others, of this name and type; or (type 0)
 * with as many tokens as the others, of which the last has this name. */
static const char *write_other(const char *name, int32_t type)
{
    static char path[512], names_of[PADDED][16];
    static float rows[PADDED * GW_EMBD];
    const int n = type ? PADDED : GW_VOCAB, first = type ? GW_VOCAB : GW_VOCAB - 1;
    gw_vocab v;
    ftk_str tokens[PADDED];
    float scores[PADDED] = {0};
    int32_t types[PADDED];
    gw_tiny_vocab(&v);
    for (int i = 0; i < n; i++) {
        snprintf(names_of[i], sizeof names_of[i], name, i);
        tokens[i] = i < first ? v.tokens[i] : (ftk_str){names_of[i], strlen(names_of[i])};
        types[i] = i < first ? v.types[i] : type ? type : 1;
        scores[i] = i < first ? v.scores[i] : -1000;
    }
    for (int i = 0; i < n * GW_EMBD; i++) rows[i] = (float)(i * 7919 % 1000) / 1000 - 0.5f;
    gw w;
    gw_init(&w);
    gw_str(&w, "tokenizer.ggml.model", "llama");
    gw_str_array(&w, "tokenizer.ggml.tokens", (uint64_t)n, tokens);
    gw_array(&w, "tokenizer.ggml.scores", FTK_GGUF_F32, (uint64_t)n, scores);
    gw_array(&w, "tokenizer.ggml.token_type", FTK_GGUF_I32, (uint64_t)n, types);
    w.skip = "token_embd.weight";
    gw_tiny_body(&w);
    w.skip = NULL;
    gw_tensor(&w, "token_embd.weight", 2, (uint64_t[]){GW_EMBD, (uint64_t)n}, FTK_TYPE_F32, rows,
              (size_t)n * GW_EMBD * sizeof *rows);
    snprintf(path, sizeof path, FOLDER "draftmodel-other.gguf");
    assert_true(gw_end(&w, path));
    return path;
}

static ftk_model *load_quietly(const char *path)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = keep_log;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, path, &cfg), FTK_OK);
    return m;
}

/* Padding, whichever of the two has it, changes nothing. */
static void test_padding(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int32_t type;
    } padding[] = {{"[PAD%d]", 1}, {"<extra%d>", 5}};
    for (size_t i = 0; i < 2; i++)
        for (int swapped = 0; swapped < 2; swapped++) {
            const char *const padded = write_other(padding[i].name, padding[i].type);
            ftk_model *m = load_model(swapped ? padded : path_of("llama"));
            ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
            const char *const small = swapped ? path_of("llama") : padded;
            assert_int_equal(ftk_engine_add_draft_model(e, small), FTK_OK);
            for (int k = 0; k < 3; k++) {
                const how h = {.drafter = "draft-model",
                               .verifier = k == 2 ? "reject" : "exact",
                               .budget = 8,
                               .temperature = k ? 0.8f : 0};
                int32_t want[N], got[N];
                plain(e, h.temperature, 1, want);
                ftk_session *s = open_how(e, &h, 5);
                start(s, 1);
                assert_int_equal(take(s, N, got), N);
                if (k < 2) assert_memory_equal(got, want, sizeof want);
                ftk_session_free(s);
            }
            ftk_engine_free(e);
            ftk_model_free(m);
        }
}

static void test_refused(void **state)
{
    (void)state;
    ftk_model *m = load_quietly(path_of("llama"));
    ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
    static const struct {
        const char *name, *says;
        int32_t type;
    } bad[] = {
        {"<tool%d>",
         "has 304 tokens, the model has 300, and token 300, \"<tool300>\", is no padding", 3},
        {"[PAD%dx]", "is no padding", 1},
        {"other%d", "its token 299 is \"other299\", the model's is \"", 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        said[0] = 0;
        assert_int_equal(ftk_engine_add_draft_model(e, write_other(bad[i].name, bad[i].type)),
                         FTK_ERR_INVALID);
        assert_non_null(strstr(said, bad[i].says));
        assert_non_null(strstr(said, "draftmodel-other.gguf: "));
        assert_false(ftk_engine_has_drafter(e, "draft-model"));
    }
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "draft-model";
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_ERR_INVALID);
    assert_non_null(strstr(said, "needs a small model of the same vocabulary"));
    assert_int_equal(ftk_engine_add_draft_model(e, NULL), FTK_ERR_INVALID);
    assert_int_equal(ftk_engine_add_draft_model(e, "/no/such"), FTK_ERR_IO);
    assert_int_equal(ftk_engine_add_draft_model(e, path_of("phi3")), FTK_OK);
    assert_int_equal(ftk_engine_add_draft_model(e, path_of("phi3")), FTK_ERR_INVALID);
    assert_non_null(strstr(said, "there is a draft model already"));
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* ---- memory */

static void test_every_allocation(void **state)
{
    (void)state;
    char small[512];
    snprintf(small, sizeof small, "%s", path_of("qwen3"));
    drafter_life l = {.model = path_of("llama"),
                      .path = small,
                      .drafter = "draft-model",
                      .verifier = "reject",
                      .add = ftk_engine_add_draft_model,
                      .temperature = 0.8f};
    counting c = {0};
    fail_each(&c, l.drafter, live_with_drafter, &l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_itself),
        cmocka_unit_test(test_follows),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_law),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_greedy_verifiers),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_every_allocation),
    };
    return cmocka_run_group_tests(tests, write_models, NULL);
}
