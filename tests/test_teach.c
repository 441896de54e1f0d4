/* SPDX-License-Identifier: Apache-2.0
 * The program teach: what it keeps is what the model says, however often it is stopped.
 * test_teach TEACH */
#include "support.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "kernels/blocks.h"

enum { TEXTS = 6, TOP = 8, ANSWER = 12, MOST = 2048 };

static const char *teach; /* the program */
static char folder[] = "/tmp/foretoken-teach-XXXXXX";
static char texts[64], out[64], said[1 << 14];

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* Its exit status; what it said is in `said`. */
static int run(const char *options, const char *file)
{
    char command[512];
    snprintf(command, sizeof command,
             "'%s' -m '%s' -o %s --top %d --answer %d --sessions 3 -t 1 %s %s 2>&1", teach, DEMO,
             out, TOP, ANSWER, options, file);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    const size_t n = fread(said, 1, sizeof said - 1, p);
    said[n] = 0;
    const int status = pclose(p);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static size_t read_array(const char *name, void *p, size_t size, size_t cap)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", out, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t n = fread(p, size, cap, f);
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
    return n;
}

static void forget(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", out);
    assert_int_equal(system(command), 0);
}

static struct {
    size_t n, n_docs;
    int32_t tokens[MOST], best[MOST][TOP];
    uint8_t mine[MOST];
    uint16_t logp[MOST][TOP];
    int64_t docs[TEXTS], done[TEXTS][2];
} k;

static void read_lessons(void)
{
    k.n = read_array("tokens.i32", k.tokens, sizeof k.tokens[0], MOST);
    assert_int_equal(read_array("mine.u8", k.mine, 1, MOST), k.n);
    assert_int_equal(read_array("best.i32", k.best, sizeof k.best[0], MOST), k.n);
    assert_int_equal(read_array("logp.f16", k.logp, sizeof k.logp[0], MOST), k.n);
    k.n_docs = read_array("docs.i64", k.docs, sizeof k.docs[0], TEXTS);
    assert_int_equal(read_array("done.i64", k.done, sizeof k.done[0], TEXTS), k.n_docs);
    assert_int_equal(k.n_docs ? k.done[k.n_docs - 1][1] : 0, k.n);
}

/* A row's distribution: falling, and no more than there is. */
static void check_row(size_t row)
{
    double sum = 0;
    for (int i = 0; i < TOP; i++) {
        assert_true(i == 0 || ftk_f16_f32(k.logp[row][i]) <= ftk_f16_f32(k.logp[row][i - 1]));
        sum += exp(ftk_f16_f32(k.logp[row][i]));
    }
    assert_true(sum > 0.01 && sum < 1.01);
}

/* The answer is what the model says behind the prompt, as a session has it. */
static void check_answer(ftk_engine *e, const int32_t *tokens, const uint8_t *mine, size_t n)
{
    size_t prompt = 0;
    while (prompt < n && !mine[prompt]) prompt++;
    for (size_t i = prompt; i < n; i++) assert_true(mine[i]);
    assert_true(prompt > 0 && prompt < n && n - prompt <= ANSWER);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "none";
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, prompt), FTK_OK);
    for (size_t i = prompt; i < n; i++) {
        ftk_result r;
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        assert_int_equal(r.n_tokens, 1);
        assert_int_equal(r.tokens[0], tokens[i]);
        if (r.finish != FTK_FINISH_NONE) assert_int_equal(i, n - 1);
    }
    ftk_session_free(s);
}

static void check_lessons(void)
{
    ftk_model *m = load_model(DEMO);
    ftk_engine *e = open_engine(m, 1, 512, FTK_TYPE_F16);
    bool seen[TEXTS] = {false};
    for (size_t d = 0; d < k.n_docs; d++) {
        const size_t from = (size_t)k.docs[d], to = (size_t)k.done[d][1];
        assert_true(k.done[d][0] >= 0 && k.done[d][0] < TEXTS && !seen[k.done[d][0]]);
        seen[k.done[d][0]] = true;
        check_answer(e, k.tokens + from, k.mine + from, to - from);
        for (size_t row = from; row < to; row++) {
            check_row(row);
            if (row + 1 < to && k.mine[row + 1])
                assert_int_equal(k.best[row][0], k.tokens[row + 1]);
        }
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

static const char prompts[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Who are you?\"}]}\n"
    "{\"prompt\": \"Name three colours.\", \"response\": \"Red, green and blue.\"}\n"
    "\n"
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", "
    "\"content\": "
    "\"What is a fox?\"}, {\"role\": \"assistant\", \"content\": \"An animal.\"}]}\n"
    "{\"prompt\": \"Tell me a story about a dragon and a mouse.\"}\n"
    "{\"prompt\": \"2 + 2?\"}\n"
    "{\"prompt\": \"Write a poem.\"}\n";

static void test_answers(void **state)
{
    (void)state;
    write_file(texts, prompts);
    assert_int_equal(run("", texts), 0);
    read_lessons();
    assert_int_equal(k.n_docs, TEXTS);
    check_lessons();
    /* Again: there is nothing left to do. */
    const size_t n = k.n;
    assert_int_equal(run("", texts), 0);
    read_lessons();
    assert_int_equal(k.n, n);
    forget();
}

static void append(const char *name, size_t n)
{
    char path[128], junk[64] = {1, 2, 3};
    snprintf(path, sizeof path, "%s/%s", out, name);
    const int fd = open(path, O_WRONLY | O_APPEND);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, junk, n), n);
    close(fd);
}

static void test_goes_on(void **state)
{
    (void)state;
    write_file(texts, prompts);
    assert_int_equal(run("--tokens 0.00001", texts), 0);
    read_lessons();
    assert_in_range(k.n_docs, 1, TEXTS - 1);
    /* Killed in the middle of a text. */
    append("tokens.i32", 6);
    append("feature.f16", 63);
    append("docs.i64", 8);
    append("done.i64", 9);
    assert_int_equal(run("", texts), 0);
    assert_non_null(strstr(said, "going on behind "));
    read_lessons();
    assert_int_equal(k.n_docs, TEXTS);
    check_lessons();
    forget();
}

static void test_written(void **state)
{
    (void)state;
    write_file(texts, prompts);
    assert_int_equal(run("--written --state 3 --states 12,3", texts), 0);
    read_lessons();
    assert_int_equal(k.n_docs, 2); /* that have an answer */
    ftk_model *m = load_model(DEMO);
    for (size_t d = 0; d < 2; d++) {
        const size_t from = (size_t)k.docs[d], to = (size_t)k.done[d][1];
        int32_t answer[64];
        size_t n = 0;
        char text[256];
        for (size_t i = from; i < to; i++)
            if (k.mine[i]) answer[n++] = k.tokens[i];
        assert_int_equal(ftk_detokenize(m, answer, n, 0, text, sizeof text, &n), FTK_OK);
        assert_true(memmem(text, n, "Red, green and blue.", 20) ||
                    memmem(text, n, "An animal.", 10));
    }
    ftk_model_free(m);
    static uint16_t states[MOST][256];
    assert_int_equal(read_array("state.f16", states, sizeof states[0], MOST), k.n);
    for (size_t i = 0; i < k.n; i++) assert_true(isfinite(ftk_f16_f32(states[i][7])));
    /* What enters layer 3 is what the first 3 layers leave. */
    static uint16_t two[MOST][2][256];
    assert_int_equal(read_array("states.f16", two, sizeof two[0], MOST), k.n);
    for (size_t i = 0; i < k.n; i++) {
        assert_memory_equal(two[i][1], states[i], sizeof states[i]);
        assert_memory_not_equal(two[i][0], states[i], sizeof states[i]);
    }
    forget();
}

/* It ends with this line, and status 2 where the options are wrong, else 1. */
static void ends(const char *options, const char *file, int status, const char *line)
{
    const int got = run(options, file);
    if (got != status || !strstr(said, line))
        fail_msg("wanted %d and \"%s\", it ended with %d and said \"%s\"", status, line, got, said);
}

static void refused(const char *options, const char *line)
{
    ends(options, texts, 2, line);
}

static void failed(const char *options, const char *line)
{
    ends(options, texts, 1, line);
}

static void test_refusals(void **state)
{
    (void)state;
    write_file(texts, prompts);
    ends("", "/no/such/file", 1, "cannot open /no/such/file: No such file or directory");
    refused("--answer 1024", "--answer 1024 leaves no room for a prompt within --longest 1024");
    refused("--longest 4000", "--longest 4000 is more than the model's context, 2048");
    refused("--state 13", "--state 13: this model has 12 layers");
    refused("--states 2,13", "--states: this model has 12 layers, so 13 is none");
    refused("--states 2,2", "--states: 2 is there twice");
    refused("--states 2,", "--states 2,: give layers with commas between them");
    refused("--minutes x", "--minutes x: give a number above 0");
    assert_int_equal(access(out, F_OK), -1);
    assert_int_equal(run("", texts), 0);
    failed("--longest 512", "is of another model, other texts or other options");
    append("done.i64", 16);
    failed("", "done.i64 is damaged: delete the folder to start afresh");
    forget();
    assert_int_equal(run("", texts), 0);
    char path[128];
    snprintf(path, sizeof path, "%s/best.i32", out);
    assert_int_equal(truncate(path, 5), 0);
    failed("", "best.i32 is cut off: delete the folder to start afresh");
    forget();
    write_file(texts, "{\"nothing\": 1}\n{\"messages\": [{\"role\": 3}]}\n{broken\n");
    failed("", "no text could be used: they are too long for --longest, or hold no conversation");
    forget();
    write_file(texts, " \n\n");
    failed("", "there is no text in the files given");
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    teach = argv[1];
    if (!mkdtemp(folder)) return 1;
    snprintf(texts, sizeof texts, "%s/texts.jsonl", folder);
    snprintf(out, sizeof out, "%s/out", folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_written),
        cmocka_unit_test(test_refusals),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(texts);
    rmdir(folder);
    return failed;
}
