/* SPDX-License-Identifier: Apache-2.0
 * GGUF files that are right: every value type, look-ups, arrays, tensors, alignment, real files. */
#include <string.h>
#include <unistd.h>

#include "counting.h"
#include "kernels/kernels.h"
#include "testkit/ggufwriter.h"

#ifndef FTK_SHARED_DIR
#define FTK_SHARED_DIR "."
#endif

static char path[64];

static ftk_gguf *open_written(gw *w, const ftk_host *host)
{
    gw_bytes file = gw_finish(w);
    assert_true(gw_save(path, file.p, file.n));
    free(file.p);
    gw_free(w);
    ftk_gguf *g = NULL;
    assert_int_equal(ftk_gguf_open(&g, path, host), FTK_OK);
    return g;
}

static bool str_is(ftk_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static ftk_gguf_value get(const ftk_gguf *g, const char *key)
{
    ftk_gguf_value v;
    assert_true(ftk_gguf_find(g, key, &v));
    return v;
}

/* ------------------------------------------------------------------ values */

static void put_scalars(gw *w)
{
    gw_scalar(w, "u8", FTK_GGUF_U8, &(uint8_t){0xFE});
    gw_scalar(w, "i8", FTK_GGUF_I8, &(int8_t){-128});
    gw_scalar(w, "u16", FTK_GGUF_U16, &(uint16_t){0xFFFE});
    gw_scalar(w, "i16", FTK_GGUF_I16, &(int16_t){-32768});
    gw_u32(w, "u32", 0xFFFFFFFE);
    gw_scalar(w, "i32", FTK_GGUF_I32, &(int32_t){INT32_MIN});
    gw_f32(w, "f32", -1.5f);
    gw_bool(w, "yes", true);
    gw_bool(w, "no", false);
    gw_str(w, "string", "caf\xC3\xA9");
    gw_str(w, "empty", "");
    gw_scalar(w, "u64", FTK_GGUF_U64, &(uint64_t){UINT64_MAX - 1});
    gw_scalar(w, "i64", FTK_GGUF_I64, &(int64_t){INT64_MIN});
    gw_scalar(w, "i64 small", FTK_GGUF_I64, &(int64_t){-7});
    gw_scalar(w, "i8 positive", FTK_GGUF_I8, &(int8_t){127});
    gw_scalar(w, "f64", FTK_GGUF_F64, &(double){1e300});
}

static void test_scalars(void **state)
{
    const uint32_t version = *(const uint32_t *)*state;
    gw w;
    gw_init(&w);
    w.version = version;
    put_scalars(&w);
    ftk_gguf *g = open_written(&w, NULL);
    assert_int_equal(ftk_gguf_version(g), version);
    assert_int_equal(ftk_gguf_alignment(g), 32);
    assert_int_equal(ftk_gguf_n_keys(g), 16);
    assert_int_equal(ftk_gguf_n_tensors(g), 0);
    assert_int_equal(get(g, "u8").u, 0xFE);
    assert_int_equal(get(g, "u8").type, FTK_GGUF_U8);
    assert_int_equal(get(g, "i8").i, -128);
    assert_int_equal(get(g, "i8 positive").i, 127);
    assert_int_equal(get(g, "u16").u, 0xFFFE);
    assert_int_equal(get(g, "i16").i, -32768);
    assert_int_equal(get(g, "u32").u, 0xFFFFFFFE);
    assert_int_equal(get(g, "i32").i, INT32_MIN);
    assert_true(get(g, "f32").f == -1.5);
    assert_int_equal(get(g, "yes").u, 1);
    assert_int_equal(get(g, "no").u, 0);
    assert_true(str_is(get(g, "string").s, "caf\xC3\xA9"));
    assert_true(str_is(get(g, "empty").s, ""));
    assert_true(get(g, "u64").u == UINT64_MAX - 1);
    assert_true(get(g, "i64").i == INT64_MIN);
    assert_int_equal(get(g, "i64 small").i, -7);
    assert_true(get(g, "f64").f == 1e300);
    assert_int_equal(get(g, "f64").type, FTK_GGUF_F64);
    ftk_gguf_value v;
    assert_false(ftk_gguf_find(g, "u", &v));
    assert_false(ftk_gguf_find(g, "", &v));
    assert_false(ftk_gguf_find(g, "zzz", &v));
    ftk_gguf_free(g);
}

/* Every element type, so that a wrong size in the reader's table shifts what follows. */
static void test_arrays(void **state)
{
    (void)state;
    static const struct {
        ftk_gguf_type type;
        size_t size;
    } types[] = {
        {FTK_GGUF_U8, 1},  {FTK_GGUF_I8, 1},  {FTK_GGUF_U16, 2}, {FTK_GGUF_I16, 2},
        {FTK_GGUF_U32, 4}, {FTK_GGUF_I32, 4}, {FTK_GGUF_F32, 4}, {FTK_GGUF_BOOL, 1},
        {FTK_GGUF_U64, 8}, {FTK_GGUF_I64, 8}, {FTK_GGUF_F64, 8},
    };
    enum { N = sizeof types / sizeof types[0] };
    static const unsigned char bytes[3 * 8] = {1, 0, 1, 1, 0, 1};
    gw w;
    gw_init(&w);
    char key[16];
    for (size_t i = 0; i < N; i++) {
        snprintf(key, sizeof key, "a%zu", i);
        gw_array(&w, key, types[i].type, 3, bytes);
    }
    gw_array(&w, "none", FTK_GGUF_F32, 0, NULL);
    const ftk_str words[] = {{"one", 3}, {"", 0}, {"t\0o", 3}};
    gw_str_array(&w, "words", 3, words);
    gw_str_array(&w, "no words", 0, NULL);
    gw_u32(&w, "last", 77);
    ftk_gguf *g = open_written(&w, NULL);
    for (size_t i = 0; i < N; i++) {
        snprintf(key, sizeof key, "a%zu", i);
        const ftk_gguf_value v = get(g, key);
        assert_int_equal(v.type, FTK_GGUF_ARRAY);
        assert_int_equal(v.elem, types[i].type);
        assert_int_equal(v.count, 3);
        assert_memory_equal(v.data, bytes, 3 * types[i].size);
    }
    assert_int_equal(get(g, "none").count, 0);
    assert_int_equal(get(g, "none").elem, FTK_GGUF_F32);
    const ftk_gguf_value v = get(g, "words");
    assert_int_equal(v.elem, FTK_GGUF_STRING);
    assert_int_equal(v.count, 3);
    const unsigned char *cursor = v.data;
    for (size_t i = 0; i < 3; i++) {
        const ftk_str s = ftk_gguf_next_str(&cursor);
        assert_int_equal(s.n, words[i].n);
        assert_memory_equal(s.p, words[i].p, s.n);
    }
    assert_int_equal(get(g, "no words").count, 0);
    assert_int_equal(get(g, "last").u, 77);
    ftk_gguf_free(g);
}

/* Many keys in an order that is not sorted: found all, in file order by number. */
static void test_look_up(void **state)
{
    (void)state;
    enum { N = 2000 };
    gw w;
    gw_init(&w);
    char key[32];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(key, sizeof key, "key.%u", i * 7919u % N);
        gw_u32(&w, key, i * 7919u % N);
    }
    ftk_gguf *g = open_written(&w, NULL);
    assert_int_equal(ftk_gguf_n_keys(g), N);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(key, sizeof key, "key.%u", i);
        assert_int_equal(get(g, key).u, i);
        ftk_str name;
        ftk_gguf_value v;
        ftk_gguf_key(g, i, &name, &v);
        assert_int_equal(v.u, i * 7919u % N);
    }
    ftk_gguf_free(g);
}

/* ------------------------------------------------------------------ tensors */

static void test_tensors(void **state)
{
    const uint32_t alignment = *(const uint32_t *)*state;
    gw w;
    gw_init(&w);
    w.alignment = alignment;
    gw_u32(&w, "general.alignment", alignment);
    float f32[6] = {1, 2, 3, 4, 5, 6};
    unsigned char q8[4 * 34];
    for (size_t i = 0; i < sizeof q8; i++) q8[i] = (unsigned char)i;
    gw_tensor(&w, "z", 2, (uint64_t[]){3, 2}, FTK_TYPE_F32, f32, sizeof f32);
    gw_tensor(&w, "a", 4, (uint64_t[]){32, 2, 1, 2}, FTK_TYPE_Q8_0, q8, sizeof q8);
    gw_tensor(&w, "one", 1, (uint64_t[]){1}, FTK_TYPE_BF16, q8, 2);
    char name[65];
    memset(name, 'n', 64);
    name[64] = '\0';
    gw_tensor(&w, name, 1, (uint64_t[]){4}, FTK_TYPE_F16, q8, 8);
    ftk_gguf *g = open_written(&w, NULL);
    assert_int_equal(ftk_gguf_alignment(g), alignment);
    assert_int_equal(ftk_gguf_n_tensors(g), 4);
    ftk_tensor_info t;
    ftk_gguf_tensor(g, 0, &t);
    assert_true(str_is(t.name, "z"));
    assert_int_equal(t.n_dims, 2);
    assert_int_equal(t.dims[0], 3);
    assert_int_equal(t.dims[1], 2);
    assert_int_equal(t.dims[2], 1);
    assert_int_equal(t.dims[3], 1);
    assert_int_equal(t.size, sizeof f32);
    assert_int_equal(t.offset % alignment, 0);
    assert_int_equal((uintptr_t)t.data % (alignment < 4096 ? alignment : 4096), 0);
    assert_memory_equal(t.data, f32, sizeof f32);
    assert_true(ftk_gguf_find_tensor(g, "a", &t));
    assert_int_equal(t.type, FTK_TYPE_Q8_0);
    assert_int_equal(t.size, sizeof q8);
    assert_memory_equal(t.data, q8, sizeof q8);
    assert_true(ftk_gguf_find_tensor(g, "one", &t));
    assert_int_equal(t.size, 2);
    assert_true(ftk_gguf_find_tensor(g, name, &t));
    assert_int_equal(t.offset + t.size, ftk_gguf_file_size(g));
    assert_false(ftk_gguf_find_tensor(g, "b", &t));
    ftk_gguf_free(g);
}

/* Records need not be in the order of their data; bytes behind the last tensor do no harm. */
static void test_any_order(void **state)
{
    (void)state;
    gw w;
    gw_init(&w);
    const unsigned char data[100] = {[0] = 1, [32] = 2, [64] = 3, [96] = 4};
    gw_put(&w.data, data, sizeof data);
    gw_record(&w, "third", 5, 1, (uint64_t[]){8}, 24, 64);
    gw_record(&w, "first", 5, 1, (uint64_t[]){32}, 24, 0);
    gw_record(&w, "second", 6, 1, (uint64_t[]){32}, 24, 32);
    ftk_gguf *g = open_written(&w, NULL);
    ftk_tensor_info t;
    assert_true(ftk_gguf_find_tensor(g, "first", &t));
    assert_int_equal(*(const unsigned char *)t.data, 1);
    assert_true(ftk_gguf_find_tensor(g, "second", &t));
    assert_int_equal(*(const unsigned char *)t.data, 2);
    assert_true(ftk_gguf_find_tensor(g, "third", &t));
    assert_int_equal(*(const unsigned char *)t.data, 3);
    ftk_gguf_free(g);
}

/* Types the passes cannot run are still measured, for a listing; of those that are newer than this
 * build the size is not known. */
static void test_all_types(void **state)
{
    (void)state;
    for (uint32_t type = 0; type < 100; type++) {
        const bool known = ftk_type_name(type) != NULL;
        gw w;
        gw_init(&w);
        gw_tensor(&w, "t", 1, (uint64_t[]){256}, type, NULL, 256 * 8);
        gw_bytes file = gw_finish(&w);
        assert_true(gw_save(path, file.p, file.n));
        ftk_gguf *g;
        assert_int_equal(ftk_gguf_open(&g, path, NULL), FTK_OK);
        ftk_tensor_info t;
        ftk_gguf_tensor(g, 0, &t);
        assert_int_equal(t.type, type);
        /* Q4_2 and Q4_3 are older than the format, so that no file can tell their size. */
        assert_true((t.size > 0) == (known && type != 4 && type != 5));
        if (ftk_type_supported(type)) assert_int_equal(t.size, ftk_type_bytes((ftk_type)type, 256));
        ftk_gguf_free(g);
        free(file.p);
        gw_free(&w);
    }
    static const struct {
        uint32_t type, bytes;
    } sizes[] = {{3, 160},  {6, 176},  {7, 192},   {9, 288},   {10, 84},   {11, 110},
                 {12, 144}, {13, 176}, {14, 210},  {15, 292},  {16, 66},   {17, 74},
                 {18, 98},  {19, 50},  {20, 144},  {21, 110},  {22, 82},   {23, 136},
                 {24, 256}, {25, 512}, {26, 1024}, {27, 2048}, {28, 2048}, {29, 56},
                 {31, 144}, {32, 144}, {33, 144},  {34, 54},   {35, 66},   {36, 144},
                 {37, 144}, {38, 144}, {39, 136},  {40, 144},  {41, 36},   {42, 72}};
    gw w;
    gw_init(&w);
    char name[8];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        snprintf(name, sizeof name, "%u", sizes[i].type);
        gw_tensor(&w, name, 1, (uint64_t[]){256}, sizes[i].type, NULL, sizes[i].bytes);
    }
    ftk_gguf *g = open_written(&w, NULL);
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_tensor_info t;
        ftk_gguf_tensor(g, i, &t);
        assert_int_equal(t.size, sizes[i].bytes);
    }
    ftk_gguf_free(g);
}

/* ------------------------------------------------------------------ memory */

static ftk_err open_and_free(counting *c, void *with)
{
    (void)with;
    const ftk_host host = counting_host(c);
    ftk_gguf *g = (ftk_gguf *)c;
    const ftk_err err = ftk_gguf_open(&g, path, &host);
    assert_true((g != NULL) == (err == FTK_OK));
    assert_int_equal(c->errors, err != FTK_OK);
    if (err != FTK_OK) assert_memory_equal(c->line, path, strlen(path));
    ftk_gguf_free(g);
    return err;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    gw w;
    gw_init(&w);
    put_scalars(&w);
    gw_tensor(&w, "t", 1, (uint64_t[]){8}, FTK_TYPE_F32, NULL, 32);
    ftk_gguf_free(open_written(&w, NULL));
    counting c = {0};
    assert_in_range(fail_each(&c, "a file", open_and_free, NULL), 2, 100);
    assert_int_equal(c.warnings, 0);
    ftk_gguf_free(NULL);
}

static void test_errors(void **state)
{
    (void)state;
    assert_string_equal(ftk_strerror(FTK_OK), "success");
    assert_string_equal(ftk_strerror(FTK_ERR_NUMERIC),
                        "the model produced values that are not finite");
    assert_string_equal(ftk_strerror((ftk_err)-99), "unknown error");
    assert_string_equal(ftk_version(), "0.1.0");
}

/* ------------------------------------------------------------------ real files */

static ftk_gguf *open_shared(const char *name)
{
    char full[4096];
    snprintf(full, sizeof full, "%s/%s", FTK_SHARED_DIR, name);
    if (access(full, R_OK) != 0) {
        print_message("SKIPPED: %s is not there\n", full);
        skip();
    }
    ftk_gguf *g = NULL;
    assert_int_equal(ftk_gguf_open(&g, full, NULL), FTK_OK);
    return g;
}

static void test_stories(void **state)
{
    (void)state;
    ftk_gguf *g = open_shared("w-stories260k/stories260K-f32.gguf");
    assert_int_equal(ftk_gguf_version(g), 3);
    assert_int_equal(ftk_gguf_n_keys(g), 22);
    assert_int_equal(ftk_gguf_n_tensors(g), 47);
    assert_int_equal(ftk_gguf_file_size(g), 1054336);
    assert_true(str_is(get(g, "general.architecture").s, "llama"));
    assert_int_equal(get(g, "llama.block_count").u, 5);
    const ftk_gguf_value tokens = get(g, "tokenizer.ggml.tokens");
    assert_int_equal(tokens.count, 512);
    const unsigned char *cursor = tokens.data;
    assert_true(str_is(ftk_gguf_next_str(&cursor), "<unk>"));
    ftk_tensor_info t;
    assert_true(ftk_gguf_find_tensor(g, "token_embd.weight", &t));
    assert_int_equal(t.dims[0], 64);
    assert_int_equal(t.dims[1], 512);
    assert_int_equal(t.size, 64 * 512 * 4);
    assert_true(ftk_gguf_find_tensor(g, "blk.4.ffn_down.weight", &t));
    ftk_gguf_free(g);
}

static void test_random_llama(void **state)
{
    (void)state;
    ftk_gguf *g = open_shared("w-llama2-tiny-random/llama-2-tiny-random.gguf");
    assert_int_equal(ftk_gguf_n_keys(g), 18);
    assert_int_equal(ftk_gguf_n_tensors(g), 12);
    assert_int_equal(get(g, "tokenizer.ggml.tokens").count, 32000);
    assert_int_equal(get(g, "tokenizer.ggml.scores").elem, FTK_GGUF_F32);
    ftk_gguf_free(g);
}

static void test_vocabularies(void **state)
{
    (void)state;
    ftk_gguf *g = open_shared("tok-llamacpp-vocabs/ggml-vocab-llama-spm.gguf");
    assert_int_equal(ftk_gguf_n_tensors(g), 0);
    assert_int_equal(get(g, "tokenizer.ggml.tokens").count, 32000);
    ftk_gguf_free(g);
    g = open_shared("tok-llamacpp-vocabs/ggml-vocab-gpt-2.gguf");
    assert_int_equal(ftk_gguf_n_tensors(g), 0);
    assert_int_equal(get(g, "tokenizer.ggml.tokens").count, 50257);
    assert_int_equal(get(g, "tokenizer.ggml.merges").count, 50000);
    ftk_gguf_free(g);
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/ftk-test-gguf-%ld.gguf", (long)getpid());
    static uint32_t v2 = 2, v3 = 3, aligned[] = {8, 32, 1 << 20};
    const struct CMUnitTest tests[] = {
        {"scalars, version 2", test_scalars, NULL, NULL, &v2},
        {"scalars, version 3", test_scalars, NULL, NULL, &v3},
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_look_up),
        {"tensors, alignment 8", test_tensors, NULL, NULL, &aligned[0]},
        {"tensors, alignment 32", test_tensors, NULL, NULL, &aligned[1]},
        {"tensors, alignment 1 MiB", test_tensors, NULL, NULL, &aligned[2]},
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_all_types),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_random_llama),
        cmocka_unit_test(test_vocabularies),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
