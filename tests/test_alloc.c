/* SPDX-License-Identifier: Apache-2.0
 * Fails the N-th allocation, for every N, over a whole life: load, open, append, step, fork, free.
 * Each time: an error code, every object still free-able, and no memory left behind. */
#include "support.h"

typedef struct {
    long left; /* allocations until one fails; negative: none does */
    long live;
    long total;
    long in_step;
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

static void allow_all(void *ctx, const int32_t *tokens, size_t n, uint32_t *allowed)
{
    (void)ctx, (void)tokens, (void)n;
    memset(allowed, 0xff, 512 / 8);
}

/* All that may be asked of a session's tokens. */
static ftk_err ask_all(ftk_session *s)
{
    const ftk_bias bias = {300, 1};
    const int32_t end = 511;
    ftk_sampling p = {.temperature = 0.5f, .top_p = 1, .repeat_penalty = 1, .presence_penalty = 1};
    ftk_err err = ftk_session_set_sampling(s, &p);
    if (err == FTK_OK) err = ftk_session_set_bias(s, &bias, 1);
    if (err == FTK_OK) err = ftk_session_set_ends(s, &end, 1);
    if (err == FTK_OK) err = ftk_session_set_mask(s, allow_all, NULL);
    if (err == FTK_OK) err = ftk_session_set_logprobs(s, 3, true);
    return err;
}

static ftk_err whole_life(const char *path, counter *c)
{
    ftk_model_config mc;
    ftk_model_config_init(&mc);
    mc.host.ctx = c;
    mc.host.alloc = counted_alloc;
    mc.host.free = counted_free;
    ftk_model *m;
    ftk_engine *e = NULL;
    ftk_session *s = NULL, *f = NULL;
    ftk_stream *stream = NULL;
    int32_t tokens[64];
    size_t n = 0;
    ftk_err err = ftk_model_load(&m, path, &mc);
    if (err == FTK_OK) {
        ftk_engine_config ec;
        ftk_engine_config_init(&ec);
        ec.threads = 1;
        ec.kv_slots = 192;
        ec.max_rows = 128;
        err = ftk_engine_open(&e, m, &ec);
    }
    if (err == FTK_OK) {
        ftk_session_config sc;
        ftk_session_config_init(&sc);
        sc.drafter = "jacobi";
        sc.budget = 10;
        sc.ignore_end = true;
        err = ftk_session_open(&s, e, &sc);
    }
    if (err == FTK_OK) err = ftk_stream_open(&stream, m, false, NULL, 0);
    if (err == FTK_OK) err = ftk_tokenize(m, "Once upon a time", 16, FTK_TOK_BOS, tokens, 64, &n);
    if (err == FTK_OK) err = ftk_session_append(s, tokens, n);
    if (err == FTK_OK) err = ask_all(s);
    for (int i = 0; i < 12 && err == FTK_OK; i++) {
        ftk_result r;
        c->stepping = true;
        err = ftk_step(&s, 1, &r);
        c->stepping = false;
        const char *text;
        bool stopped;
        for (size_t j = 0; j < r.n_tokens && err == FTK_OK; j++)
            err = ftk_stream_push(stream, r.tokens[j], &text, &n, &stopped);
    }
    if (err == FTK_OK) err = ftk_session_fork(&f, s, NULL);
    if (err == FTK_OK) err = ftk_session_set_drafter(f, "lookup");
    double score;
    if (err == FTK_OK) err = ftk_score(e, tokens, 4, &score);
    ftk_stream_free(stream);
    ftk_session_free(f);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
    return err;
}

static void test_every_allocation(void **state)
{
    (void)state;
    const char *path = STORIES "stories260K-f32.gguf";
    if (access(path, R_OK) != 0) path = DEMO;
    NEED(path);
    counter c = {.left = -1};
    assert_int_equal(whole_life(path, &c), FTK_OK);
    assert_int_equal(c.live, 0);
    assert_int_equal(c.in_step, 0); /* a step allocates nothing */
    const long total = c.total;
    assert_true(total > 20);
    for (long i = 0; i < total; i++) {
        c = (counter){.left = i};
        const ftk_err err = whole_life(path, &c);
        if (err != FTK_ERR_NOMEM)
            fail_msg("allocation %ld of %ld failed, and the answer was: %s", i, total,
                     ftk_strerror(err));
        if (c.live != 0)
            fail_msg("allocation %ld of %ld failed: %ld blocks leaked", i, total, c.live);
    }
    printf("%ld allocations, each failed once\n", total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
