/* SPDX-License-Identifier: Apache-2.0
 * What engines and sessions say that they take, beside what they asked their host for; and how full
 * the KV cache is. */
#include "support.h"

#include "engine/session.h"

enum { HEAD = 64 };

static uint64_t taken; /* bytes that the host has given and not got back */

static void *watched_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx, (void)align;
    char *const p = aligned_alloc(HEAD, (size + 2 * HEAD - 1) / HEAD * HEAD);
    if (!p) return NULL;
    memcpy(p, &size, sizeof size);
    taken += size;
    return p + HEAD;
}

static void watched_free(void *ctx, void *p)
{
    (void)ctx;
    size_t size;
    memcpy(&size, (char *)p - HEAD, sizeof size);
    taken -= size;
    free((char *)p - HEAD);
}

static ftk_model *load(void)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = (ftk_host){NULL, watched_alloc, watched_free, NULL};
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, DEMO, &cfg), FTK_OK);
    return m;
}

/* Within 1 %, and what allocations are rounded up by. */
static void assert_near(uint64_t said, uint64_t is)
{
    const uint64_t apart = said > is ? said - is : is - said;
    if (apart > is / 100 + 4096)
        fail_msg("%llu bytes are said to be taken, %llu are", (unsigned long long)said,
                 (unsigned long long)is);
}

static void test_engine_bytes(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    for (int i = 0; i < 4; i++) {
        ftk_engine_config cfg;
        ftk_engine_config_init(&cfg);
        cfg.threads = 1 + i % 2;
        cfg.kv_slots = i == 0 ? 0 : 1000 * i;
        cfg.kv_type = i == 2 ? FTK_TYPE_F32 : i == 3 ? FTK_TYPE_Q8_0 : FTK_TYPE_F16;
        cfg.max_rows = i < 2 ? 256 : 128;
        cfg.measure = false;
        ftk_engine_stats before, after;
        assert_int_equal(ftk_engine_estimate(m, &cfg, &before, sizeof before), FTK_OK);
        const uint64_t had = taken;
        ftk_engine *e;
        assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_OK);
        assert_near(before.kv_bytes + before.work_bytes, taken - had);
        ftk_engine_get_stats(e, &after);
        assert_memory_equal(&before, &after, sizeof before);
        assert_int_equal(after.kv_pages, ((i ? 1000 * i : e->kv_slots) + 63) / 64);
        ftk_engine_free(e);
        assert_int_equal(taken, had);
        cfg.max_rows = 1;
        assert_int_equal(ftk_engine_estimate(m, &cfg, &before, sizeof before), FTK_ERR_INVALID);
    }
    ftk_model_free(m);
}

/* Each with its drafter's state, and what it is asked later. */
static void test_session_bytes(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    ftk_engine *e = open_engine(m, 1, 2048, FTK_TYPE_F16);
    int found;
    assert_int_equal(ftk_engine_find_drafters(e, DEMO, &found), FTK_OK);
    for (const char *const *name = ftk_drafters(); *name; name++) {
        ftk_session_config cfg;
        ftk_session_config_init(&cfg);
        cfg.drafter = *name;
        uint64_t estimate;
        if (!ftk_engine_has_drafter(e, *name)) continue;
        assert_int_equal(ftk_session_estimate(e, &cfg, &estimate), FTK_OK);
        const uint64_t had = taken;
        ftk_session *s;
        ftk_stats stats;
        ftk_engine_stats all;
        assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
        ftk_session_get_stats(s, &stats);
        assert_int_equal(stats.bytes, estimate);
        assert_near(stats.bytes, taken - had);
        assert_int_equal(ftk_session_set_logprobs(s, 20, false), FTK_OK);
        assert_int_equal(ftk_session_set_drafter(s, "jacobi"), FTK_OK);
        ftk_session_get_stats(s, &stats);
        assert_near(stats.bytes, taken - had);
        ftk_engine_get_stats(e, &all);
        assert_int_equal(all.sessions, 1);
        assert_int_equal(all.session_bytes, stats.bytes);
        ftk_session_free(s);
        assert_int_equal(taken, had);
        cfg.n_ctx = -1;
        assert_int_equal(ftk_session_estimate(e, &cfg, &estimate), FTK_ERR_INVALID);
        assert_int_equal(estimate, 0);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Pages that two sessions hold, one of them alone, and what is said to a caller that knows fewer
 * fields. */
static void test_pages(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    ftk_engine *e = open_engine(m, 1, 640, FTK_TYPE_F16);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "none";
    cfg.ignore_end = true;
    cfg.n_ctx = 300;
    int32_t text[200], out[1];
    for (int i = 0; i < 200; i++) text[i] = 300 + i;
    ftk_session *s, *f;
    ftk_stats stats;
    ftk_engine_stats all;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    assert_int_equal(ftk_session_append(s, text, 200), FTK_OK);
    assert_int_equal(take(s, 0, out), 0);
    ftk_session_get_stats(s, &stats);
    assert_int_equal(stats.kv_pages, 4);
    assert_int_equal(stats.tokens, 200);
    assert_int_equal(stats.room, 100);
    assert_int_equal(ftk_session_fork(&f, s, NULL), FTK_OK);
    ftk_engine_get_stats(e, &all);
    assert_int_equal(all.page_tokens, 64);
    assert_int_equal(all.kv_pages, 10);
    assert_int_equal(all.kv_pages_free, 6);
    assert_int_equal(all.sessions, 2);
    assert_int_equal(take(f, 1, out), 1); /* the last page is its own from now on */
    ftk_engine_get_stats(e, &all);
    assert_int_equal(all.kv_pages_free, 5);
    assert_int_equal(ftk_session_truncate(s, 100), FTK_OK);
    assert_int_equal(ftk_session_truncate(f, 100), FTK_OK);
    all.kv_bytes = 1;
    ftk_engine_report(e, &all, offsetof(ftk_engine_stats, kv_bytes));
    assert_int_equal(all.kv_pages_free, 8);
    assert_int_equal(all.kv_bytes, 1);
    ftk_session_free(s);
    ftk_session_free(f);
    ftk_engine_get_stats(e, &all);
    assert_int_equal(all.kv_pages_free, 10);
    ftk_engine_free(e);
    ftk_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_engine_bytes),
                                       cmocka_unit_test(test_session_bytes),
                                       cmocka_unit_test(test_pages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
