/* SPDX-License-Identifier: Apache-2.0
 *
 * test_inflate_drafters INFLATE SMALL FOLDER: inflates a model with its trained drafters, those
 * that are beside it, FIRP's of maps and DASH's of a policy made up here. The large ones must
 * draft what the small ones draft: the same text in as many steps, but for rounding. Time
 * decides nothing: whatever the drafters ask, a pass takes long and all else next to nothing. */
#include "support.h"

#include "dashfile.h"
#include "drafters/dash.h"
#include "drafters/drafter.h"
#include "engine/session.h"
#include "testkit/ggufwriter.h"
#include "testkit/quantise.h"

enum { TOKENS = 100, BUDGET = 16, MAX_PROMPT = 128, LAYER = 6, OFFSETS = 3 };

static const char *inflate, *folder;
static char *small_path;

/* ---- drafters that time does not touch */

static ftk_target timeless;
static const ftk_drafter_ops *real;

static double seconds(void *ctx, int layer, int rows)
{
    (void)ctx, (void)rows;
    return layer == 0 ? 1e9 : 1e-3;
}

static double pace(void *ctx)
{
    (void)ctx;
    return 1;
}

static ftk_err init(void *state, const ftk_drafter_env *env)
{
    ftk_drafter_env e = *env;
    timeless = *env->target;
    timeless.seconds = seconds;
    timeless.pace = pace;
    e.target = &timeless;
    return real->init(state, &e);
}

/* ---- what a model and a drafter say */

typedef struct {
    int32_t token[TOKENS];
    ftk_stats stats;
} answer;

static const char *const prompts[] = {
    "Tell me a story about a king and his dog.",
    "What is the capital of France?",
    "Tom has 5 apples and buys 7 more. How many apples does he have?",
    "Write a Python function that adds two numbers.",
};
enum { N_PROMPTS = sizeof prompts / sizeof prompts[0] };

static void answer_one(ftk_engine *e, const char *prompt, void *parts, answer *a)
{
    ftk_drafter_ops ops = *real;
    ops.init = init;
    int32_t token[MAX_PROMPT];
    size_t n;
    const ftk_message msg = {"user", prompt};
    assert_int_equal(ftk_chat_tokenize(e->model, NULL, &msg, 1, token, MAX_PROMPT, &n), FTK_OK);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.ignore_end = true;
    cfg.budget = BUDGET;
    ftk_session *s;
    assert_int_equal(ftk_session_open_with(&s, e, &cfg, &ops, parts), FTK_OK);
    assert_int_equal(ftk_session_append(s, token, n), FTK_OK);
    assert_int_equal(take(s, TOKENS, a->token), TOKENS);
    ftk_session_get_stats(s, &a->stats);
    ftk_session_free(s);
}

static void answer_all(const char *model, const char *drafter, void *parts, answer *a)
{
    ftk_model *m = load_model(model);
    ftk_engine *e = open_engine(m, 1, 512, FTK_TYPE_F16);
    assert_int_equal(ftk_engine_add_drafter(e, drafter), FTK_OK);
    for (int i = 0; i < N_PROMPTS; i++) answer_one(e, prompts[i], parts, &a[i]);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Retrieval and successors are not among the parts: all that is drafted comes from the file.
 * percent: of all steps, by how many those of an answer may differ; activations in 8 bits round
 * what 1e-6 moves. */
static void check_same(const char *large, const char *drafter, const char *large_drafter,
                       void *parts, int percent)
{
    static answer was[N_PROMPTS], is[N_PROMPTS];
    answer_all(small_path, drafter, parts, was);
    answer_all(large, large_drafter, parts, is);
    int steps = 0, off = 0;
    for (int i = 0; i < N_PROMPTS; i++) {
        const ftk_stats *a = &was[i].stats, *b = &is[i].stats;
        printf("%s: steps %d and %d, drafted %d and %d, accepted %d and %d\n", real->name,
               (int)a->steps, (int)b->steps, (int)a->drafted, (int)b->drafted, (int)a->accepted,
               (int)b->accepted);
        assert_memory_equal(was[i].token, is[i].token, sizeof was[i].token);
        assert_true(a->accepted > 0);
        steps += (int)a->steps;
        off += abs((int)a->steps - (int)b->steps);
    }
    assert_true(100 * off <= percent * steps);
}

/* ---- inflating */

/* Large shapes: twice the stream as two copies; twice the root mean square, with layers between. */
static const char *const shapes[] = {
    "--dim 512 --layers 14 --heads 16 --kv-heads 4 --ffn 1024",
    "--dim 1024 --layers 18 --heads 8 --kv-heads 4 --ffn 800",
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

static void check_inflated(const ftk_drafter_ops *ops, const char *drafter, void *parts,
                           int percent)
{
    char large[512], large_drafter[512], command[4096];
    real = ops;
    for (int i = 0; i < N_SHAPES; i++) {
        snprintf(large, sizeof large, "%s/inflated-for-%s.gguf", folder, ops->name);
        snprintf(large_drafter, sizeof large_drafter, "%s/inflated-%s.drafter.gguf", folder,
                 ops->name);
        snprintf(command, sizeof command, "'%s' %s '%s' '%s' '%s' '%s' > /dev/null", inflate,
                 shapes[i], small_path, large, drafter, large_drafter);
        assert_int_equal(system(command), 0);
        check_same(large, drafter, large_drafter, parts, percent);
        unlink(large);
        unlink(large_drafter);
    }
}

static void check_beside(const ftk_drafter_ops *ops, void *parts)
{
    char path[512];
    snprintf(path, sizeof path, FTK_MODELS_DIR "/foretoken-demo-%s.drafter.gguf", ops->name);
    NEED(path);
    check_inflated(ops, path, parts, 5);
}

static void test_s4c(void **state)
{
    (void)state;
    check_beside(&ftk_drafter_s4c, &(unsigned){FTK_WITHOUT_RETRIEVAL | FTK_WITHOUT_SUCCESSORS});
}

static void test_firp(void **state)
{
    (void)state;
    check_beside(&ftk_drafter_firp, &(unsigned){FTK_WITHOUT_RETRIEVAL | FTK_WITHOUT_SUCCESSORS});
}

static ftk_dash_parts stack_alone = {.without = FTK_WITHOUT_RETRIEVAL | FTK_WITHOUT_SUCCESSORS |
                                                FTK_ROWS_ALWAYS};

static void test_dash(void **state)
{
    (void)state;
    check_beside(&ftk_drafter_dash, &stack_alone);
}

/* ---- maps made up: half of what they read, and something else */

static void put_map(gw *w, const char *part, int offset, ftk_type type, int d, uint32_t *noise)
{
    const size_t block = ftk_type_block(type);
    char name[32];
    float *x = calloc((size_t)d, sizeof *x);
    gw_bytes all = {0};
    for (int r = 0; r < d; r++) {
        for (int c = 0; c < d; c++) {
            *noise = *noise * 1664525u + 1013904223u;
            x[c] = (float)((int)(*noise >> 16) - 0x8000) * 1e-6f + (r == c ? 0.5f : 0);
        }
        for (size_t c = 0; c < (size_t)d; c += block) {
            _Alignas(8) unsigned char out[FTK_QUNIT * sizeof(float)];
            quantise(type, x + c, out);
            gw_put(&all, out, ftk_type_bytes(type, block));
        }
    }
    snprintf(name, sizeof name, "offset.%d.%s", offset, part);
    gw_tensor(w, name, 2, (const uint64_t[]){(uint64_t)d, (uint64_t)d}, type, all.p, all.n);
    free(all.p);
    free(x);
}

static void write_firp(const char *path, ftk_type type)
{
    ftk_model *m = load_model(small_path);
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    uint32_t noise = 7;
    gw w;
    gw_init(&w);
    gw_str(&w, "general.architecture", "foretoken-drafter");
    gw_str(&w, "foretoken.drafter.family", "firp");
    gw_str(&w, "foretoken.drafter.base", info.fingerprint);
    gw_u32(&w, "foretoken.drafter.layer", LAYER);
    gw_u32(&w, "foretoken.drafter.offsets", OFFSETS);
    for (int i = 0; i < OFFSETS; i++) {
        put_map(&w, "weight", i, type, info.n_embd, &noise);
        put_map(&w, "token", i, type, info.n_embd, &noise);
    }
    const gw_bytes all = gw_finish(&w);
    assert_true(gw_save(path, all.p, all.n));
    free(all.p);
    gw_free(&w);
    ftk_model_free(m);
}

static void test_made_up_firp(void **state)
{
    (void)state;
    NEED(small_path);
    static const unsigned flags[] = {0, FTK_ROWS_JOIN};
    static const ftk_type types[] = {FTK_TYPE_Q4_K, FTK_TYPE_F16};
    char path[512];
    snprintf(path, sizeof path, "%s/made-up-firp.drafter.gguf", folder);
    for (int i = 0; i < 2; i++) {
        write_firp(path, types[i]);
        check_inflated(&ftk_drafter_firp, path,
                       &(unsigned){flags[i] | FTK_WITHOUT_RETRIEVAL | FTK_WITHOUT_SUCCESSORS}, 1);
    }
    unlink(path);
}

/* ---- a policy made up, which goes by the state alone: a new layer is in the past */

static void test_made_up_dash(void **state)
{
    (void)state;
    NEED(small_path);
    uint64_t taken[FTK_ACTIONS] = {0};
    ftk_dash_parts parts = stack_alone;
    parts.taken = taken;
    char path[512];
    snprintf(path, sizeof path, "%s/made-up-dash.drafter.gguf", folder);
    ftk_model *m = load_model(small_path);
    write_dash(path, m, DASH_BY_STATE);
    ftk_model_free(m);
    check_inflated(&ftk_drafter_dash, path, &parts, 2);
    for (int a = 0; a < FTK_ACTIONS; a++) assert_true(taken[a] > 100);
    unlink(path);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: test_inflate_drafters INFLATE SMALL FOLDER\n");
        return 2;
    }
    inflate = argv[1];
    small_path = argv[2];
    folder = argv[3];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_s4c),          cmocka_unit_test(test_firp),
        cmocka_unit_test(test_dash),         cmocka_unit_test(test_made_up_firp),
        cmocka_unit_test(test_made_up_dash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
