/* SPDX-License-Identifier: Apache-2.0
 * Models in several files: good ones whole, by the path of any part; of bad ones each gets one
 * line, with the file it is about. */
#include "onebad.h"

static char dir[128];

/* "<dir>/<stem>-0000I-of-0000N.gguf", i from 1. */
static const char *path_of(const char *stem, int i, int n)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s-%05d-of-%05d.gguf", dir, stem, i, n);
    return path;
}

static void save(gw *w, const char *path)
{
    gw_bytes file = gw_finish(w);
    assert_true(gw_save(path, file.p, file.n));
    free(file.p);
    gw_free(w);
}

/* ------------------------------------------------------------------ a whole model */

enum { PARTS = 3 };

/* gw_tiny_llama() in one file, and in three. */
static void save_model(void)
{
    gw w;
    gw_init(&w);
    gw_tiny_llama(&w);
    char whole[160], stem[160];
    snprintf(whole, sizeof whole, "%s/whole.gguf", dir);
    snprintf(stem, sizeof stem, "%s/m", dir);
    save(&w, whole);
    assert_true(gw_save_parts(whole, stem, PARTS));
}

static double score(const char *path)
{
    ftk_model_config mc;
    ftk_model_config_init(&mc);
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, path, &mc), FTK_OK);
    ftk_engine_config ec;
    ftk_engine_config_init(&ec);
    ec.threads = 1;
    ec.measure = false;
    ftk_engine *e;
    assert_int_equal(ftk_engine_open(&e, m, &ec), FTK_OK);
    double sum;
    assert_int_equal(ftk_score(e, (const int32_t[]){1, 270, 280, 290, 261}, 5, &sum), FTK_OK);
    ftk_engine_free(e);
    ftk_model_free(m);
    return sum;
}

static void test_whole(void **state)
{
    (void)state;
    char whole[160];
    snprintf(whole, sizeof whole, "%s/whole.gguf", dir);
    ftk_gguf *one, *all;
    assert_int_equal(ftk_gguf_open(&one, whole, NULL), FTK_OK);
    assert_int_equal(ftk_gguf_n_shards(one), 1);
    const double want = score(whole);
    for (int part = 1; part <= PARTS; part++) {
        assert_int_equal(ftk_gguf_open(&all, path_of("m", part, PARTS), NULL), FTK_OK);
        assert_int_equal(ftk_gguf_n_shards(all), PARTS);
        assert_int_equal(ftk_gguf_n_tensors(all), ftk_gguf_n_tensors(one));
        assert_int_equal(ftk_gguf_n_keys(all), ftk_gguf_n_keys(one) + 4);
        for (size_t i = 0; i < ftk_gguf_n_tensors(one); i++) {
            ftk_tensor_info a, b;
            char name[80];
            ftk_gguf_tensor(one, i, &a);
            snprintf(name, sizeof name, "%.*s", (int)a.name.n, a.name.p);
            assert_true(ftk_gguf_find_tensor(all, name, &b));
            assert_int_equal(b.shard, i % PARTS);
            assert_int_equal(b.offset % (32u << b.shard), 0);
            assert_int_equal(a.size, b.size);
            assert_memory_equal(a.data, b.data, (size_t)a.size);
        }
        assert_true(ftk_gguf_file_size(all) > ftk_gguf_file_size(one));
        ftk_gguf_free(all);
        assert_true(score(path_of("m", part, PARTS)) == want);
    }
    ftk_gguf_free(one);
}

static ftk_err open_second(counting *c, void *with)
{
    (void)with;
    const ftk_err err = try_reader(path_of("m", 2, PARTS), c);
    assert_int_equal(c->errors, err != FTK_OK);
    return err;
}

static void test_every_allocation(void **state)
{
    (void)state;
    counting c = {0};
    fail_each(&c, "parts", open_second, NULL);
}

/* ------------------------------------------------------------------ bad parts */

/* One tensor in each of two files. What is NULL or 0 in a part is as it should be. */
typedef struct part {
    const char *tensor; /* "a", "b" */
    int no, count;      /* + 1; -1: the key is missing */
    int tensors;        /* likewise */
    const char *file;   /* name it is saved under; "": not at all */
} part;

typedef struct bad {
    const char *what;
    part first, second;
    const char *opened, *at; /* file names; NULL: that of the first part */
    ftk_err err;
    const char *line;
} bad;

#define FIRST  "b-00001-of-00002.gguf"
#define SECOND "b-00002-of-00002.gguf"

static const bad cases[] = {
    {"good", {0}, {0}, NULL, NULL, FTK_OK, ""},
    {"good, by its second part", {0}, {0}, SECOND, NULL, FTK_OK, ""},
    {"the second part is missing",
     {0},
     {.file = ""},
     NULL,
     SECOND,
     FTK_ERR_IO,
     "part 2 of 2 of the model is missing: put it beside the others"},
    {"the first part is missing",
     {.file = ""},
     {0},
     SECOND,
     FIRST,
     FTK_ERR_IO,
     "part 1 of 2 of the model is missing: put it beside the others"},
    {"the second part is of three",
     {0},
     {.count = 4},
     NULL,
     SECOND,
     FTK_ERR_FORMAT,
     "split.count is 3, in another part of the model it is 2"},
    {"the second part is the only one",
     {0},
     {.count = 2},
     NULL,
     SECOND,
     FTK_ERR_FORMAT,
     "split.count is 1, in another part of the model it is 2"},
    {"the second part says first",
     {0},
     {.no = 1},
     NULL,
     SECOND,
     FTK_ERR_FORMAT,
     "it is part 1 of 2 (split.no 0), so its name must end in -00001-of-00002.gguf"},
    {"the first part says second",
     {.no = 2},
     {0},
     NULL,
     FIRST,
     FTK_ERR_FORMAT,
     "it is part 2 of 2 (split.no 1), so its name must end in -00002-of-00002.gguf"},
    {"the parts have each other's name",
     {.file = SECOND},
     {.file = FIRST},
     SECOND,
     FIRST,
     FTK_ERR_FORMAT,
     "it is part 2 of 2 (split.no 1), so its name must end in -00002-of-00002.gguf"},
    {"a part far beyond the last",
     {0},
     {.no = 901},
     NULL,
     SECOND,
     FTK_ERR_FORMAT,
     "it is part 901 of 2 (split.no 900), so its name must end in -00901-of-00002.gguf"},
    {"a number beyond all",
     {0},
     {.no = 60001},
     NULL,
     SECOND,
     FTK_ERR_FORMAT,
     "key split.no is out of range: it must be 0 to 1000"},
    {"no number", {0}, {.no = -1}, NULL, SECOND, FTK_ERR_FORMAT, "key split.no is missing"},
    {"no count in the second part",
     {0},
     {.count = -1},
     NULL,
     SECOND,
     FTK_ERR_FORMAT,
     "key split.count is missing"},
    {"a count beyond all",
     {.count = 2001},
     {0},
     NULL,
     FIRST,
     FTK_ERR_FORMAT,
     "key split.count is out of range: it must be 0 to 1000"},
    {"another name",
     {.file = "model.gguf"},
     {0},
     "model.gguf",
     "model.gguf",
     FTK_ERR_FORMAT,
     "it is one of 2 parts of a model, which are found by their names: they must end in "
     "-00001-of-00002.gguf and so on"},
    {"a short name",
     {.file = "m"},
     {0},
     "m",
     "m",
     FTK_ERR_FORMAT,
     "it is one of 2 parts of a model, which are found by their names: they must end in "
     "-00001-of-00002.gguf and so on"},
    {"a name with another count",
     {.file = "b-00001-of-00003.gguf"},
     {0},
     "b-00001-of-00003.gguf",
     "b-00001-of-00003.gguf",
     FTK_ERR_FORMAT,
     "it is one of 2 parts of a model, which are found by their names: they must end in "
     "-00001-of-00002.gguf and so on"},
    {"a tensor in both parts",
     {0},
     {.tensor = "a"},
     NULL,
     NULL,
     FTK_ERR_FORMAT,
     "tensor a: it is in part 1 and in part 2"},
    {"three tensors said",
     {.tensors = 4},
     {0},
     NULL,
     NULL,
     FTK_ERR_FORMAT,
     "its 2 parts hold 2 tensors, split.tensors.count is 3"},
    {"no number of tensors",
     {.tensors = -1},
     {0},
     NULL,
     NULL,
     FTK_ERR_FORMAT,
     "key split.tensors.count is missing"},
    {"-5 tensors said",
     {.tensors = -4},
     {0},
     NULL,
     NULL,
     FTK_ERR_FORMAT,
     "key split.tensors.count is out of range: it must be 0 to 1073741824"},
    {"not a number",
     {.no = -2},
     {0},
     NULL,
     FIRST,
     FTK_ERR_FORMAT,
     "key split.no is not an integer"},
};

static void put_number(gw *w, const char *key, int given, int good)
{
    if (given == -2)
        gw_str(w, key, "0");
    else if (given < -2)
        gw_scalar(w, key, FTK_GGUF_I32, &(int32_t){given - 1});
    else if (given != -1)
        gw_u32(w, key, (uint32_t)(given ? given - 1 : good));
}

static void save_part(const part *p, int no)
{
    static const char *const names[] = {FIRST, SECOND}, *const tensors[] = {"a", "b"};
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, p->file ? p->file : names[no]);
    if (p->file && !p->file[0]) return;
    gw w;
    gw_init(&w);
    put_number(&w, "split.no", p->no, no);
    put_number(&w, "split.count", p->count, 2);
    put_number(&w, "split.tensors.count", p->tensors, 2);
    gw_tensor(&w, p->tensor ? p->tensor : tensors[no], 1, (uint64_t[]){8}, FTK_TYPE_F32, NULL, 32);
    save(&w, path);
}

static void remove_parts(const bad *b)
{
    const char *const files[] = {FIRST, SECOND, b->first.file, b->second.file};
    for (int i = 0; i < 4; i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/%s", dir, files[i] ? files[i] : FIRST);
        if (!files[i] || files[i][0]) unlink(path);
    }
}

static void test_bad_parts(void **state)
{
    (void)state;
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const bad *b = &cases[i];
        char opened[160], at[160];
        save_part(&b->first, 0);
        save_part(&b->second, 1);
        snprintf(opened, sizeof opened, "%s/%s", dir, b->opened ? b->opened : FIRST);
        snprintf(at, sizeof at, "%s/%s", dir, b->at ? b->at : FIRST);
        failed += check(b->what, opened, try_reader, b->err, at, b->line);
        remove_parts(b);
    }
    assert_int_equal(failed, 0);
}

/* A part that is no GGUF file, and one that is cut short: the reader's own lines. */
static void test_broken_part(void **state)
{
    (void)state;
    char second[160];
    snprintf(second, sizeof second, "%s/%s", dir, SECOND);
    save_part(&cases[0].first, 0);
    assert_true(gw_save(second, "PK\3\4 and so on, and so on", 24));
    char first[160];
    snprintf(first, sizeof first, "%s/%s", dir, FIRST);
    int failed = check("another format", first, try_reader, FTK_ERR_FORMAT, second,
                       "not a GGUF file: it is a zip archive: unpack it with unzip, and give the "
                       ".gguf file in it");
    assert_true(gw_save(second, "GGUF", 4));
    failed += check("cut short", first, try_reader, FTK_ERR_FORMAT, second,
                    "cut short: it has 4 bytes, the header alone has 24: get it again");
    remove_parts(&cases[0]);
    assert_int_equal(failed, 0);
}

static int open_dir(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/ftk-shards-XXXXXX", tmp && *tmp ? tmp : P_tmpdir);
    if (!mkdtemp(dir)) return 1;
    save_model();
    return 0;
}

static int close_dir(void **state)
{
    (void)state;
    for (int i = 1; i <= PARTS; i++) unlink(path_of("m", i, PARTS));
    char whole[160];
    snprintf(whole, sizeof whole, "%s/whole.gguf", dir);
    unlink(whole);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_bad_parts),
        cmocka_unit_test(test_broken_part),
    };
    return cmocka_run_group_tests(tests, open_dir, close_dir);
}
