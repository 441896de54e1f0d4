/* SPDX-License-Identifier: Apache-2.0
 * A model in stages says what it says in one process, to the bit: with every drafter, over
 * several sessions, forks and cuts; and what becomes of it where a stage is lost or is another
 * model's. */
#include <pthread.h>

#include "support.h"
#include "testkit/stagelinks.h"

enum { SLOTS = 640, CUT = 20 };

static ftk_model *model; /* in one process */
static ftk_engine *alone;

static const char prompt[] = "Once upon a time there was a king who had three sons, and";

typedef struct whole {
    stage_links links;
    stage_thread below[MOST_STAGES];
    stage_end last;
    ftk_model *model;
    ftk_engine *engine;
} whole;

static ftk_err open_whole(whole *w, int n)
{
    *w = (whole){.last = {&w->links, n - 1}};
    assert_true(stage_links_open(&w->links, n, 0));
    for (int i = 0; i < n - 1; i++) {
        w->below[i] = (stage_thread){.end = {&w->links, i}, .path = DEMO, .log = print_log};
        assert_int_equal(pthread_create(&w->below[i].thread, NULL, stage_main, &w->below[i]), 0);
    }
    assert_int_equal(stage_load(&w->model, DEMO, n - 1, n, print_log), FTK_OK);
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = 1;
    cfg.kv_slots = SLOTS;
    cfg.measure = false;
    const ftk_link link = stage_link_of(&w->last);
    cfg.link = &link;
    return ftk_engine_open(&w->engine, w->model, &cfg);
}

static void close_whole(whole *w, ftk_err wanted)
{
    ftk_engine_free(w->engine);
    ftk_model_free(w->model);
    for (int i = 0; i < w->links.n - 1; i++) {
        pthread_join(w->below[i].thread, NULL);
        assert_int_equal(w->below[i].err, wanted);
    }
    stage_links_close(&w->links);
}

static ftk_session *open_on(ftk_engine *e, const char *drafter, float temperature)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.budget = 8;
    cfg.ignore_end = true;
    cfg.sampling.temperature = temperature;
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    int32_t tokens[64];
    size_t n;
    assert_int_equal(ftk_tokenize(model, prompt, strlen(prompt), FTK_TOK_BOS, tokens, 64, &n),
                     FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, n), FTK_OK);
    return s;
}

/* Two sessions side by side, a fork that is cut and goes on another way, a second prompt. */
static void talk(ftk_engine *e, const char *drafter, int32_t *out)
{
    ftk_session *s[3] = {open_on(e, drafter, 0), open_on(e, drafter, 0.9f)};
    ftk_result r[3];
    for (int i = 0; i < 8; i++) assert_int_equal(ftk_step(s, 2, r), FTK_OK);
    assert_int_equal(ftk_session_fork(&s[2], s[0], NULL), FTK_OK);
    size_t n;
    ftk_session_tokens(s[2], &n);
    assert_true(n > CUT); /* how far it came depends on drafts, where it is cut must not */
    assert_int_equal(ftk_session_truncate(s[2], CUT), FTK_OK);
    static const int32_t other[] = {300, 411, 522};
    assert_int_equal(ftk_session_append(s[2], other, 3), FTK_OK);
    for (int i = 0; i < 3; i++) {
        ftk_session_tokens(s[i], &n);
        take(s[i], 90 - n, out + (size_t)i * 100);
        const int32_t *all = ftk_session_tokens(s[i], &n);
        assert_int_equal(n, 90);
        memcpy(out + (size_t)i * 100, all, n * sizeof *out);
    }
    for (int i = 0; i < 3; i++) ftk_session_free(s[i]);
}

static int open_alone(void **state)
{
    (void)state;
    model = load_model(DEMO);
    alone = open_engine(model, 1, SLOTS, FTK_TYPE_F16);
    int found;
    return ftk_engine_find_drafters(alone, DEMO, &found) != FTK_OK;
}

static int close_alone(void **state)
{
    (void)state;
    ftk_engine_free(alone);
    ftk_model_free(model);
    return 0;
}

static void same_in(int n)
{
    static const char *const drafters[] = {"none", "jacobi", "lookup", "recycle",
                                           "s4c",  "firp",   "auto"};
    whole w;
    assert_int_equal(open_whole(&w, n), FTK_OK);
    int found;
    assert_int_equal(ftk_engine_find_drafters(w.engine, DEMO, &found), FTK_OK);
    assert_int_equal(found, 2);
    for (size_t i = 0; i < sizeof drafters / sizeof drafters[0]; i++) {
        int32_t one[300] = {0}, many[300] = {0};
        talk(alone, drafters[i], one);
        talk(w.engine, drafters[i], many);
        assert_memory_equal(one, many, sizeof one);
    }
    /* logits over more than one piece, bit by bit */
    int32_t tokens[200];
    const size_t n_vocab = 4096;
    float *a = malloc(200 * n_vocab * sizeof *a), *b = malloc(200 * n_vocab * sizeof *b);
    for (int i = 0; i < 200; i++) tokens[i] = 3 + i * 7919 % 400;
    assert_int_equal(ftk_logits(alone, tokens, 200, 0, a), FTK_OK);
    assert_int_equal(ftk_logits(w.engine, tokens, 200, 0, b), FTK_OK);
    assert_memory_equal(a, b, 200 * n_vocab * sizeof *a);
    free(a);
    free(b);
    close_whole(&w, FTK_OK);
}

static void test_two_stages(void **state)
{
    (void)state;
    same_in(2);
}

static void test_three_stages(void **state)
{
    (void)state;
    same_in(3);
}

static void test_a_stage_is_lost(void **state)
{
    (void)state;
    whole w;
    assert_int_equal(open_whole(&w, 3), FTK_OK);
    ftk_session *s = open_on(w.engine, "none", 0);
    ftk_result r;
    assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
    stage_links_cut(&w.links, 1);
    assert_int_equal(ftk_step(&s, 1, &r), FTK_ERR_DEVICE);
    assert_int_equal(ftk_step(&s, 1, &r), FTK_ERR_DEVICE);
    ftk_session_free(s);
    stage_links_cut(&w.links, 2);
    close_whole(&w, FTK_ERR_DEVICE);
}

static void test_what_does_not_fit(void **state)
{
    (void)state;
    ftk_model *m;
    assert_int_equal(stage_load(&m, DEMO, 2, 2, print_log), FTK_ERR_INVALID);
    assert_int_equal(stage_load(&m, DEMO, -1, 2, print_log), FTK_ERR_INVALID);
    assert_int_equal(stage_load(&m, DEMO, 0, 13, print_log), FTK_ERR_INVALID);
    assert_int_equal(stage_load(&m, DEMO, 1, 2, print_log), FTK_OK);
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    ftk_engine *e;
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_ERR_INVALID); /* without a link */
    stage_links links;
    assert_true(stage_links_open(&links, 2, 0));
    stage_end first = {&links, 0}, last = {&links, 1};
    ftk_link link = stage_link_of(&first);
    cfg.link = &link;
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_ERR_INVALID); /* not the last */
    assert_int_equal(ftk_engine_open(&e, model, &cfg), FTK_ERR_INVALID);
    assert_int_equal(ftk_stage_run(m, &link, 1), FTK_ERR_INVALID);
    link = stage_link_of(&last);
    assert_int_equal(ftk_engine_open(&e, model, &cfg), FTK_ERR_INVALID); /* loaded whole */
    cfg.device = "auto";
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_ERR_UNSUPPORTED);
    cfg.device = NULL;
    stage_links_cut(&links, 0);
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_ERR_DEVICE); /* nobody there */
    stage_links_close(&links);
    ftk_model_free(m);
}

/* Nonsense from a peer ends a stage, with a line, and reads and writes nothing outside. */
static void test_a_stage_is_sent_nonsense(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (int round = 0; round < 40; round++) {
        stage_links links;
        assert_true(stage_links_open(&links, 2, 0));
        stage_thread below = {.end = {&links, 0}, .path = DEMO};
        stage_end last = {&links, 1};
        ftk_link link = stage_link_of(&last);
        ftk_model *m;
        ftk_engine *e = NULL;
        assert_int_equal(stage_load(&m, DEMO, 1, 2, NULL), FTK_OK);
        assert_int_equal(pthread_create(&below.thread, NULL, stage_main, &below), 0);
        ftk_engine_config cfg;
        ftk_engine_config_init(&cfg);
        cfg.threads = 1;
        cfg.measure = false;
        cfg.kv_slots = 128;
        cfg.link = &link;
        if (round % 4 > 0) assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_OK);
        unsigned char bytes[40 + 256];
        for (size_t i = 0; i < sizeof bytes; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = round % 2 ? (unsigned char)(random >> 56) : (unsigned char)(random >> 63);
        }
        const uint64_t n = 256;
        const int32_t kind = round % 4; /* hello, a pass, a page, slots */
        memcpy(bytes, &n, sizeof n);
        memcpy(bytes + 8, &kind, sizeof kind);
        assert_true(link.send(link.ctx, 0, bytes, 40));
        assert_true(link.send(link.ctx, 0, bytes + 40, 256));
        stage_links_cut(&links, 1);
        pthread_join(below.thread, NULL);
        assert_int_not_equal(below.err, FTK_OK);
        ftk_engine_free(e);
        ftk_model_free(m);
        stage_links_close(&links);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_stages),
        cmocka_unit_test(test_three_stages),
        cmocka_unit_test(test_a_stage_is_lost),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_a_stage_is_sent_nonsense),
    };
    return cmocka_run_group_tests(tests, open_alone, close_alone);
}
