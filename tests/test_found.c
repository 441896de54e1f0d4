/* SPDX-License-Identifier: Apache-2.0
 * Drafters' files beside a model that nobody named: what is odd about one is said once, as a
 * warning, ends nothing, and is said again to whoever asks for its family. */
#include "support.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "counting.h"
#include "testkit/ggufwriter.h"

#define S4C  FTK_MODELS_DIR "/foretoken-demo-s4c.drafter.gguf"
#define FIRP FTK_MODELS_DIR "/foretoken-demo-firp.drafter.gguf"

typedef struct heard {
    counting blocks; /* first: the host's context is both */
    int errors, warnings;
    char error[512], warning[512], info[512];
} heard;

static heard said;
static ftk_model *model;
static char folder[64], beside[96], name[] = "x.drafter.gguf", path[96];

static void host_log(void *ctx, ftk_log_level level, const char *line)
{
    heard *h = ctx;
    h->errors += level == FTK_LOG_ERROR;
    h->warnings += level == FTK_LOG_WARN;
    char *to = level == FTK_LOG_ERROR ? h->error : level == FTK_LOG_WARN ? h->warning : h->info;
    snprintf(to, 512, "%s", line);
}

static int open_all(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/ftk-found-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(beside, sizeof beside, "%s/model.gguf", folder);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (access(DEMO, R_OK) != 0 || access(S4C, R_OK) != 0) return 0;
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = (ftk_host){&said, count_alloc, count_free, host_log};
    return ftk_model_load(&model, DEMO, &cfg) == FTK_OK ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    ftk_model_free(model);
    rmdir(folder);
    return said.blocks.live == 0 ? 0 : -1;
}

static gw_bytes contents(const char *file)
{
    gw_bytes b = {0};
    static unsigned char part[1 << 16];
    FILE *f = fopen(file, "rb");
    assert_non_null(f);
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) gw_put(&b, part, n);
    fclose(f);
    return b;
}

/* A drafter of a family, with one key wrong. */
static void put(const char *family, const char *base, const char *key, uint32_t value)
{
    gw w;
    gw_init(&w);
    gw_str(&w, "general.architecture", "foretoken-drafter");
    if (family) gw_str(&w, "foretoken.drafter.family", family);
    if (base) gw_str(&w, "foretoken.drafter.base", base);
    if (key) gw_u32(&w, key, value);
    static const float zeros[8];
    gw_tensor(&w, "head.0.in", 2, (uint64_t[]){4, 2}, FTK_TYPE_F32, zeros, sizeof zeros);
    assert_true(gw_end(&w, path));
}

static const char *own_base(void)
{
    ftk_model_info info;
    ftk_model_get_info(model, &info);
    return info.fingerprint;
}

static const char ordinary[] = "drafter s4c needs weights trained for this model: give its file "
                               "(--drafter-file), or train one, see drafters/train/README.md";

/* Opens sessions beside what lies at `path`. kept: one with s4c is told the reason, too. */
static void expect(const char *what, const char *reason, bool warned, bool kept)
{
    said.errors = said.warnings = 0;
    said.warning[0] = said.info[0] = 0;
    ftk_engine *e = open_engine(model, 1, 256, FTK_TYPE_F16);
    int found = -1;
    char line[600];
    assert_int_equal(ftk_engine_find_drafters(e, beside, &found), FTK_OK);
    assert_int_equal(found, 0);
    assert_int_equal(said.errors, 0);
    assert_int_equal(said.warnings, warned);
    snprintf(line, sizeof line, "a drafter is left out: %s: %s", path, reason);
    if (strcmp(line, warned ? said.warning : said.info) != 0)
        fail_msg("%s\n  expected '%s'\n  got      '%s'", what, line,
                 warned ? said.warning : said.info);
    static const char *const others[] = {"none", "lookup", "recycle", "jacobi", "auto"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        ftk_session_config cfg;
        ftk_session_config_init(&cfg);
        cfg.drafter = others[i];
        ftk_session *s;
        assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
        assert_int_equal(ftk_session_set_drafter(s, "s4c"), FTK_ERR_INVALID);
        snprintf(line, sizeof line, "drafter s4c: there is a file, but it was left out: %s: %s",
                 path, reason);
        if (!kept) strcpy(line, ordinary);
        if (strncmp(line, said.error, 400) != 0)
            fail_msg("%s\n  expected '%s'\n  got      '%s'", what, line, said.error);
        ftk_session_free(s);
    }
    assert_int_equal(said.errors, 5);
    assert_int_equal(said.warnings, warned);
    ftk_engine_free(e);
    unlink(path);
}

static void expect_left_out(const char *what, const char *reason, bool warned)
{
    expect(what, reason, warned, true);
}

static void test_odd_files(void **state)
{
    (void)state;
    NEED(DEMO);
    gw_bytes s4c = contents(S4C);
    char line[256];
    assert_true(gw_save(path, s4c.p, 10));
    expect_left_out("cut in the header",
                    "cut short: it has 10 bytes, the header alone has 24: get it again", true);
    assert_true(gw_save(path, "", 0));
    expect_left_out("empty", "is empty: get it again", true);
    assert_true(gw_save(path, "version https://git-lfs.github.com/spec/v1\noid", 46));
    expect_left_out(
        "LFS pointer",
        "not a GGUF file: it is a Git LFS pointer, not the file itself: run git lfs pull, "
        "or download the file",
        true);
    gw w;
    gw_init(&w);
    gw_str(&w, "general.architecture", "llama");
    assert_true(gw_end(&w, path));
    expect_left_out("a model",
                    "is no drafter: its general.architecture is not foretoken-drafter; a model is "
                    "named with -m",
                    true);
    put(NULL, own_base(), NULL, 0);
    expect_left_out("no family", "key foretoken.drafter.family is missing", true);
    put("s4c", NULL, NULL, 0);
    expect_left_out("no base", "key foretoken.drafter.base is missing", true);
    put("imagined", own_base(), NULL, 0);
    expect("a family nobody knows", "family \"imagined\" is not one this build has a drafter for",
           true, false);
    put("dash-direct", own_base(), NULL, 0);
    expect("a family without files of its own",
           "family \"dash-direct\" is not one this build has a drafter for", true, false);
    put("s4c", own_base(), "foretoken.drafter.heads", 1000);
    expect_left_out("a number out of range",
                    "key foretoken.drafter.heads is missing, or no whole number from 1 to 8", true);
    snprintf(
        line, sizeof line,
        "was trained for another model (fingerprint 0123456789abcdef, this model's is %s): train "
        "one for this model, see drafters/train/README.md",
        own_base());
    put("s4c", "0123456789abcdef", NULL, 0);
    expect_left_out("for another model", line, false);
    free(s4c.p);
}

/* The last byte is missing: the family is not known, but what the file is called speaks of it. */
static void test_cut(void **state)
{
    (void)state;
    NEED(DEMO);
    gw_bytes s4c = contents(S4C);
    assert_true(gw_save(path, s4c.p, s4c.n - 1));
    said.warnings = 0;
    ftk_engine *e = open_engine(model, 1, 256, FTK_TYPE_F16);
    int found;
    assert_int_equal(ftk_engine_find_drafters(e, beside, &found), FTK_OK);
    assert_int_equal(found, 0);
    assert_int_equal(said.warnings, 1);
    assert_non_null(strstr(said.warning, "the file is cut short, get it again"));
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "s4c";
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_ERR_INVALID);
    assert_non_null(strstr(said.error, path));
    assert_non_null(strstr(said.error, "the file is cut short, get it again"));
    /* Named, the same file is an error. */
    said.errors = 0;
    assert_int_equal(ftk_engine_add_drafter(e, path), FTK_ERR_FORMAT);
    assert_int_equal(said.errors, 1);
    ftk_engine_free(e);
    unlink(path);
    free(s4c.p);
}

static void test_no_files(void **state)
{
    (void)state;
    NEED(DEMO);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_left_out("a folder", "is a directory, not a GGUF file", true);
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes to it: this must not wait */
    expect_left_out("a pipe", "is not a regular file, so it cannot be mapped", true);
    assert_int_equal(symlink("/nowhere/at/all", path), 0);
    expect_left_out("a link to nothing", "cannot be opened: No such file or directory", true);
    assert_int_equal(symlink(path, path), 0);
    expect_left_out("a link to itself", "cannot be opened: Too many levels of symbolic links",
                    true);
    assert_int_equal(symlink("/dev/null", path), 0);
    expect_left_out("a device", "is not a regular file, so it cannot be mapped", true);
    /* Root reads everything, so it becomes somebody else for a moment. */
    assert_true(gw_save(path, "GGUF", 4));
    chmod(path, 0);
    chmod(folder, 0755);
    const bool root = geteuid() == 0;
    if (root && seteuid(65534) != 0) {
        unlink(path);
        return;
    }
    said.warnings = 0;
    ftk_engine *e = open_engine(model, 1, 256, FTK_TYPE_F16);
    int found;
    const ftk_err err = ftk_engine_find_drafters(e, beside, &found);
    if (root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(err, FTK_OK);
    assert_int_equal(said.warnings, 1);
    assert_non_null(strstr(said.warning, "cannot be opened: Permission denied"));
    ftk_engine_free(e);
    unlink(path);
}

static void link_as(const char *target, const char *as, char *out, size_t cap)
{
    snprintf(out, cap, "%s/%s", folder, as);
    assert_int_equal(symlink(target, out), 0);
}

/* Good ones are used whatever lies beside them; of two of one family the first by name, in
 * silence. */
static void test_among_good_ones(void **state)
{
    (void)state;
    NEED(DEMO);
    char real[3][4096], files[5][96];
    assert_non_null(realpath(S4C, real[0]));
    assert_non_null(realpath(FIRP, real[1]));
    link_as("/nowhere", "a.drafter.gguf", files[0], sizeof files[0]);
    link_as(real[0], "b.drafter.gguf", files[1], sizeof files[1]);
    link_as(real[0], "c.drafter.gguf", files[2], sizeof files[2]);
    link_as(real[1], "d.drafter.gguf", files[3], sizeof files[3]);
    link_as("/nowhere", "e\x1b[2J.drafter.gguf", files[4], sizeof files[4]);
    said.errors = said.warnings = 0;
    ftk_engine *e = open_engine(model, 1, 256, FTK_TYPE_F16);
    int found;
    assert_int_equal(ftk_engine_find_drafters(e, beside, &found), FTK_OK);
    assert_int_equal(found, 2);
    assert_int_equal(said.errors, 0);
    assert_int_equal(said.warnings, 2);
    assert_non_null(strstr(said.warning, "e\\x1b[2J.drafter.gguf: cannot be opened"));
    assert_non_null(
        strstr(said.info, "c.drafter.gguf: is left out, as there is a drafter s4c already"));
    assert_true(ftk_engine_has_drafter(e, "s4c") && ftk_engine_has_drafter(e, "firp"));
    assert_false(ftk_engine_has_drafter(e, "dash"));
    /* Again: those that are there stay. */
    assert_int_equal(ftk_engine_find_drafters(e, beside, &found), FTK_OK);
    assert_int_equal(found, 0);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "s4c";
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    ftk_session_free(s);
    ftk_engine_free(e);
    for (int i = 0; i < 5; i++) unlink(files[i]);
}

/* The drafter of `auto` where FIRP's file is named, or not, and S4C's lies beside the model. */
static void expect_auto(bool named, const char *drafter)
{
    ftk_engine *e = open_engine(model, 1, 256, FTK_TYPE_F16);
    int found;
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    ftk_session *s;
    ftk_drafter_stats stats;
    if (named) assert_int_equal(ftk_engine_add_drafter(e, FIRP), FTK_OK);
    assert_int_equal(ftk_engine_find_drafters(e, beside, &found), FTK_OK);
    assert_int_equal(found, 1);
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    assert_int_equal(ftk_session_drafter_stats(s, &stats, 1), 1);
    assert_string_equal(stats.name, drafter);
    ftk_session_free(s);
    ftk_engine_free(e);
}

static void test_named_first(void **state)
{
    (void)state;
    NEED(DEMO);
    NEED(FIRP);
    char real[4096], file[96];
    assert_non_null(realpath(S4C, real));
    link_as(real, "b.drafter.gguf", file, sizeof file);
    expect_auto(true, "firp");
    expect_auto(false, "s4c");
    unlink(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_odd_files),   cmocka_unit_test(test_cut),
        cmocka_unit_test(test_no_files),    cmocka_unit_test(test_among_good_ones),
        cmocka_unit_test(test_named_first),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
