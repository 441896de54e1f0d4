/* SPDX-License-Identifier: Apache-2.0
 * Heads that others have made and small models draft on the CPU for a model on the emulated GPU:
 * they see the states that they see of a model on the CPU, and what comes is plain decoding's. */
#include "support.h"

#include <math.h>

#include "engine/session.h"
#include "everydrafter.h"

enum { N = 24, SESSIONS = 3 };

static int write_files(void **state)
{
    (void)state;
    return ed_write("headdevice");
}

static ftk_engine *open_on(const ftk_model *m, const char *device)
{
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = 1;
    cfg.kv_slots = SESSIONS * ED_CONTEXT;
    cfg.measure = false;
    cfg.device = device;
    ftk_engine *e;
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_OK);
    assert_int_equal(ed_add(e, ED_SMALL), FTK_OK);
    return e;
}

/* Sessions at prompts of their own, together; which are greedy, and which draw, ed_open() says. */
static void answer(ftk_engine *e, const char *drafter, int32_t (*out)[N], uint64_t *drafted)
{
    ftk_session *s[SESSIONS];
    size_t got[SESSIONS] = {0};
    for (int i = 0; i < SESSIONS; i++) {
        assert_int_equal(ed_open(&s[i], e, ED_SMALL, drafter, 6, i), FTK_OK);
        ftk_session_limit(s[i], N);
    }
    for (bool running = true; running;) {
        ftk_result r[SESSIONS];
        assert_int_equal(ftk_step(s, SESSIONS, r), FTK_OK);
        running = false;
        for (int i = 0; i < SESSIONS; i++) {
            memcpy(out[i] + got[i], r[i].tokens, r[i].n_tokens * sizeof(int32_t));
            got[i] += r[i].n_tokens;
            running |= r[i].finish == FTK_FINISH_NONE;
        }
    }
    *drafted = 0;
    for (int i = 0; i < SESSIONS; i++) {
        ftk_stats stats;
        ftk_session_get_stats(s[i], &stats);
        *drafted += stats.drafted;
        ftk_session_free(s[i]);
    }
}

static const char *const drafters[] = {"eagle3", "dflash", "dspark", "medusa", "draft-model"};

static void test_exact(void **state)
{
    (void)state;
    ftk_model *m = load_model(ed_path(ED_SMALL));
    ftk_engine *e = open_on(m, "cuda");
    assert_string_equal(ftk_engine_device(e), "cuda:0 emulated");
    int32_t plain[SESSIONS][N], got[SESSIONS][N];
    uint64_t drafted;
    answer(e, "none", plain, &drafted);
    for (size_t i = 0; i < sizeof drafters / sizeof *drafters; i++) {
        answer(e, drafters[i], got, &drafted);
        if (memcmp(plain, got, sizeof plain) != 0 || drafted < N)
            fail_msg("%s, %d drafted: not what plain decoding says", drafters[i], (int)drafted);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* What a drafter is told behind a text that was read in two passes, in to[n]; returns n. */
static int said(ftk_engine *e, const char *drafter, float *to, int most)
{
    enum { LENGTH = 40 };
    int32_t text[LENGTH + 1];
    ftk_session *s;
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.budget = 0;
    cfg.n_ctx = ED_CONTEXT;
    for (int i = 0; i <= LENGTH; i++) text[i] = 3 + i * 11 % 250;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    for (int part = 0; part < 2; part++) {
        ftk_result r;
        assert_int_equal(ftk_session_append(s, text + part * LENGTH / 2, LENGTH / 2), FTK_OK);
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        assert_int_equal(ftk_session_truncate(s, (size_t)(1 + part) * LENGTH / 2), FTK_OK);
    }
    assert_int_equal(ftk_session_append(s, text + LENGTH, 1), FTK_OK);
    const ftk_draft_model *const d = &s->nets[ftk_drafter_index(drafter, strlen(drafter))]->as_seen;
    const float *const logits = ftk_draft_read(d, text, LENGTH + 1);
    assert_non_null(logits);
    assert_true(d->n_out <= most);
    memcpy(to, logits, (size_t)d->n_out * sizeof *to);
    const int n = d->n_out;
    ftk_session_free(s);
    return n;
}

static void test_states(void **state)
{
    (void)state;
    enum { MOST = 512 };
    ftk_model *m = load_model(ed_path(ED_SMALL));
    ftk_engine *cpu = open_on(m, "cpu"), *gpu = open_on(m, "cuda");
    for (size_t i = 0; i < sizeof drafters / sizeof *drafters; i++) {
        float want[MOST], got[MOST];
        const int n = said(cpu, drafters[i], want, MOST);
        assert_int_equal(said(gpu, drafters[i], got, MOST), n);
        for (int k = 0; k < n; k++)
            if (!(fabsf(want[k] - got[k]) < 1e-2f))
                fail_msg("%s: logit %d is %f, with the model on the CPU %f", drafters[i], k,
                         (double)got[k], (double)want[k]);
    }
    ftk_engine_free(cpu);
    ftk_engine_free(gpu);
    ftk_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact), cmocka_unit_test(test_states)};
    return cmocka_run_group_tests(tests, write_files, NULL);
}
