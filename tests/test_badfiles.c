/* SPDX-License-Identifier: Apache-2.0
 *
 * What a bad model file can hold, and the one line each gets.
 *
 * How the cases are handled:
 *  - Wrong bytes of the container (header, keys, tensor records, offsets, missing data) are refused
 *    by ftk_gguf_open() (test_badcontainer.c); wrong meaning (hyper-parameters, vocabulary:
 *    test_badkeys.c; shapes: test_badweights.c) by ftk_model_load().
 *  - An empty array is a right one for the reader; the model refuses it where it needs elements.
 *  - Bytes behind the last tensor and merges, which SentencePiece has no use for, are ignored; a
 *    chat template of 10 MiB is no fault of the model.
 *  - Scales of quantized blocks and other matrix weights that are not finite are not looked for at
 *    load time, which would read the whole file twice; the pass gives FTK_ERR_NUMERIC then. Norms,
 *    which are copied anyway, are checked.
 *  - A file that shrinks while it is mapped cannot be handled: reading beyond its new end raises
 *    SIGBUS, and a library may not own a signal handler. foretoken.h forbids it; loading copies the
 *    vocabulary, the norms and all packed weights, so that little is read from the mapping later.
 *    There is no test of it.
 *
 * Here is chance: every file cut at each 64th of its length, and 2,000 corrupted headers, must load
 * or give exactly one line. */
#include "badfile.h"

#ifndef FTK_SHARED_DIR
#define FTK_SHARED_DIR "."
#endif

/* A result that is right: loaded, or one line. */
static void expect_clear(attempt *try)
{
    counting c = {0};
    const ftk_err err = try(path, &c);
    assert_int_equal(c.errors, err != FTK_OK);
    assert_int_equal(c.live, 0);
    assert_in_range(strlen(c.line), err != FTK_OK ? 10 : 0, 511);
    for (const char *p = c.line; *p; p++) assert_in_range((unsigned char)*p, 0x20, 0xFF);
}

static void cut_everywhere(const unsigned char *p, size_t n, attempt *try)
{
    for (size_t i = 0; i < 64; i++) {
        assert_true(gw_save(path, p, n * i / 64));
        counting c = {0};
        assert_int_not_equal(try(path, &c), FTK_OK);
        expect_clear(try);
    }
}

static gw_bytes tiny_model(size_t *header)
{
    gw w;
    gw_init(&w);
    gw_tiny_llama(&w);
    const gw_bytes file = gw_finish(&w);
    *header = file.n - w.data.n;
    gw_free(&w);
    return file;
}

static void test_cuts(void **state)
{
    (void)state;
    size_t header;
    gw_bytes file = tiny_model(&header);
    cut_everywhere(file.p, file.n, try_model);
    cut_everywhere(file.p, header, try_model);
    free(file.p);
}

static void test_cuts_shared(void **state)
{
    (void)state;
    const char *const names[] = {"w-stories260k/stories260K-f32.gguf",
                                 "w-llama2-tiny-random/llama-2-tiny-random.gguf",
                                 "tok-llamacpp-vocabs/ggml-vocab-gpt-2.gguf"};
    bool any = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char full[4096];
        snprintf(full, sizeof full, "%s/%s", FTK_SHARED_DIR, names[i]);
        FILE *f = fopen(full, "rb");
        if (!f) {
            print_message("SKIPPED: %s is not there\n", full);
            continue;
        }
        gw_bytes file = {0};
        static unsigned char chunk[1 << 16];
        for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;) gw_put(&file, chunk, n);
        fclose(f);
        cut_everywhere(file.p, file.n, try_reader);
        free(file.p);
        any = true;
    }
    if (!any) skip();
}

/* Up to four bytes of everything before the weights, changed in the ways that hurt most. */
static void test_corruption(void **state)
{
    (void)state;
    static const unsigned char worst[] = {0, 1, 0x7F, 0x80, 0xFF};
    size_t header;
    gw_bytes file = tiny_model(&header);
    unsigned char *good = malloc(header);
    assert_non_null(good);
    memcpy(good, file.p, header);
    uint64_t seed = 20240601;
    for (int round = 0; round < 2000; round++) {
        const uint32_t n = 1 + random_below(&seed, 4);
        for (uint32_t i = 0; i < n; i++) {
            const size_t where = random_below(&seed, header);
            const uint32_t how = random_below(&seed, 8);
            file.p[where] =
                how < sizeof worst ? worst[how] : (unsigned char)random_below(&seed, 256);
        }
        assert_true(gw_save(path, file.p, file.n));
        expect_clear(try_model);
        memcpy(file.p, good, header);
    }
    free(good);
    free(file.p);
}

int main(void)
{
    choose_path();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_cuts_shared),
        cmocka_unit_test(test_corruption),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
