/* SPDX-License-Identifier: Apache-2.0
 * Tests of the streams: the same text whatever the tokens, whole characters, stop strings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "vocab.h"

#define MARK  "\xE2\x96\x81"
#define EMOJI "\xF0\x9F\x98\x80"
#define FFFD  "\xEF\xBF\xBD"

static const char *const words[] = {"!<|im_end|>", MARK "hello", "hello", MARK "world",
                                    "STOP",        "ST",         "OP",    "\xC3\xA9",
                                    EMOJI,         MARK MARK,    NULL};

static struct vocab_file file;
static counting counts;
static ftk_model model;

static int open_model(void **state)
{
    (void)state;
    vocab_init(&file, words);
    model.host = counting_host(&counts);
    return vocab_open(&model.tokenizer, &file, &model.host) == FTK_OK ? 0 : -1;
}

static int close_model(void **state)
{
    (void)state;
    ftk_tokenizer_free(model.tokenizer);
    return counts.live == 0 ? 0 : -1;
}

static int32_t id(const char *text)
{
    const int32_t found = vocab_id(&file, text);
    assert_true(found >= 0);
    return found;
}

static int32_t byte(unsigned char b)
{
    return 3 + b;
}

static bool is_utf8(const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        const int step = ftk_utf8_step(p + i, n - i);
        if (step <= 0) return false;
        i += (size_t)step;
    }
    return true;
}

struct output {
    char text[4096];
    size_t n;
    bool stopped;
    size_t pushes_until_stop;
};

static void take(struct output *out, const char *text, size_t n)
{
    assert_non_null(text);
    assert_true(is_utf8(text, n));
    assert_true(out->n + n < sizeof out->text);
    memcpy(out->text + out->n, text, n);
    out->n += n;
    out->text[out->n] = '\0';
}

/* All tokens through one stream, and what was waiting. */
static void run(struct output *out, const int32_t *ids, size_t n_ids, bool continues,
                const char *const *stops, size_t n_stops)
{
    memset(out, 0, sizeof *out);
    ftk_stream *s = NULL;
    assert_int_equal(ftk_stream_open(&s, &model, continues, stops, n_stops), FTK_OK);
    const char *text;
    size_t n;
    for (size_t i = 0; i < n_ids; i++) {
        const bool before = out->stopped;
        assert_int_equal(ftk_stream_push(s, ids[i], &text, &n, &out->stopped), FTK_OK);
        if (before) assert_true(out->stopped && n == 0);
        if (!out->stopped) out->pushes_until_stop++;
        take(out, text, n);
    }
    assert_int_equal(ftk_stream_flush(s, &text, &n), FTK_OK);
    if (out->stopped) assert_int_equal(n, 0);
    take(out, text, n);
    assert_int_equal(ftk_stream_flush(s, &text, &n), FTK_OK);
    assert_int_equal(n, 0);
    ftk_stream_free(s);
}

#define IDS(...) (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4

/* What the stream says of broken text: the standard's own answer, worked out on the whole. */
static size_t repaired(const char *p, size_t n, char *out)
{
    size_t size = 0;
    for (size_t i = 0; i < n;) {
        const int step = ftk_utf8_step(p + i, n - i);
        const size_t len = step > 0 ? (size_t)step : step < 0 ? (size_t)-step : n - i;
        memcpy(out + size, step > 0 ? p + i : FFFD, step > 0 ? len : 3);
        size += step > 0 ? len : 3;
        i += len;
    }
    return size;
}

static uint64_t seed = 1;

static size_t below(size_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(seed >> 33) % n;
}

static void test_equals_detokenize(void **state)
{
    (void)state;
    static struct output out;
    static const unsigned char some[] = {0xF0, 0x9F, 0x98, 0x80, 0xE2, 0x82, 0xAC, 0xC3, 0xA9, 'a'};
    for (int round = 0; round < 4000; round++) {
        int32_t ids[40];
        const size_t n = below(40);
        for (size_t i = 0; i < n; i++)
            ids[i] = round % 2 ? (int32_t)below(file.n) : byte(some[below(sizeof some)]);
        char text[4000], want[4096];
        size_t n_text;
        assert_int_equal(ftk_detokenize(&model, ids, n, 0, text, sizeof text, &n_text), FTK_OK);
        const size_t n_want = repaired(text, n_text, want);
        if (is_utf8(text, n_text)) assert_int_equal(n_want, n_text);
        run(&out, ids, n, false, NULL, 0);
        assert_int_equal(out.n, n_want);
        assert_memory_equal(out.text, want, n_want);
    }
}

/* Texts through the tokenizer, token by token, and back. */
static void test_texts(void **state)
{
    (void)state;
    static const char *const texts[] = {"hello world",
                                        " hello",
                                        "  hello",
                                        "",
                                        "\n",
                                        EMOJI EMOJI,
                                        "\xC3\xA9t\xC3\xA9 \xE2\x82\xAC 5",
                                        "hello<|im_end|>",
                                        "\xE6\x97\xA5\xE6\x9C\xAC"};
    static struct output out;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t ids[100];
        size_t n;
        assert_int_equal(
            ftk_tokenize(&model, texts[i], strlen(texts[i]), FTK_TOK_BOS, ids, 100, &n), FTK_OK);
        run(&out, ids, n, false, NULL, 0);
        assert_string_equal(out.text, texts[i]);
    }
}

static void test_leading_space(void **state)
{
    (void)state;
    static struct output out;
    run(&out, IDS(1, id(MARK "hello"), id(MARK "hello")), false, NULL, 0);
    assert_string_equal(out.text, "hello hello");
    run(&out, IDS(1, id(MARK "hello"), id(MARK "hello")), true, NULL, 0);
    assert_string_equal(out.text, " hello hello");
    run(&out, IDS(id(MARK), id(MARK "hello")), false, NULL, 0);
    assert_string_equal(out.text, " hello");
    run(&out, IDS(id(MARK MARK), id("hello")), false, NULL, 0);
    assert_string_equal(out.text, " hello");
    run(&out, IDS(byte(' '), id("hello")), false, NULL, 0);
    assert_string_equal(out.text, " hello");
}

static void test_waits_for_characters(void **state)
{
    (void)state;
    ftk_stream *s = NULL;
    const char *text;
    size_t n;
    bool stopped;
    assert_int_equal(ftk_stream_open(&s, &model, false, NULL, 0), FTK_OK);
    for (size_t i = 0; i < 4; i++) {
        const int32_t token = byte((unsigned char)EMOJI[i]);
        assert_int_equal(ftk_stream_push(s, token, &text, &n, &stopped), FTK_OK);
        assert_int_equal(n, i < 3 ? 0 : 4);
    }
    assert_memory_equal(text, EMOJI, 4);
    /* A start that comes to nothing, then a letter. */
    assert_int_equal(ftk_stream_push(s, byte(0xE2), &text, &n, &stopped), FTK_OK);
    assert_int_equal(n, 0);
    assert_int_equal(ftk_stream_push(s, byte('a'), &text, &n, &stopped), FTK_OK);
    assert_int_equal(n, 4);
    assert_memory_equal(text, FFFD "a", 4);
    ftk_stream_free(s);
}

/* Ill-formed sequences and what they come to, after table 3-8 of the Unicode standard. */
static void test_broken_utf8(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", FFFD FFFD FFFD FFFD FFFD "A" FFFD FFFD "B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", FFFD FFFD FFFD FFFD "A"},
        {"\xF4\x8F\xBF\xBF\xF4\x90", "\xF4\x8F\xBF\xBF" FFFD FFFD},
        {"\xE2\x82", FFFD},
        {"\xF0\x9F\x98", FFFD},
        {"\xF0\x9F\x98\xF0", FFFD FFFD},
        {"\xF8\x88\x80\x80\x80", FFFD FFFD FFFD FFFD FFFD},
    };
    static struct output out;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t ids[16];
        const size_t n = strlen(cases[i][0]);
        for (size_t k = 0; k < n; k++) ids[k] = byte((unsigned char)cases[i][0][k]);
        run(&out, ids, n, false, NULL, 0);
        assert_string_equal(out.text, cases[i][1]);
    }
}

/* ------------------------------------------------------------------ stop strings */

/* Text before the first stop string: of those that end first, the longest. */
static size_t before_stop(const char *text, const char *const *stops, size_t n_stops, bool *found)
{
    *found = false;
    for (size_t end = 1; end <= strlen(text); end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n_stops; i++) {
            const size_t n = strlen(stops[i]);
            if (n <= end && n > longest && memcmp(text + end - n, stops[i], n) == 0) longest = n;
        }
        *found = longest > 0;
        if (*found) return end - longest;
    }
    return strlen(text);
}

/* A vocabulary that can cut any text of a few letters into any parts up to three long. */
static void test_every_split(void **state)
{
    (void)state;
    static struct vocab_file small;
    static const char letters[] = "ab\n";
    static const char *const empty[] = {NULL};
    vocab_init(&small, empty);
    small.n -= '~' - '!' + 1;
    for (int len = 1; len <= 3; len++) {
        const int count = len == 1 ? 3 : len == 2 ? 9 : 27;
        for (int i = 0; i < count; i++) {
            const char text[4] = {letters[i % 3], len > 1 ? letters[i / 3 % 3] : '\0',
                                  len > 2 ? letters[i / 9] : '\0', '\0'};
            vocab_add(&small, text, VOCAB_NORMAL);
        }
    }
    ftk_tokenizer *const whole = model.tokenizer;
    assert_int_equal(vocab_open(&model.tokenizer, &small, &model.host), FTK_OK);
    static const char *const texts[] = {"aaabab\nabb", "aabaab\naab", "abababb\n", "\n\nbab\n\na"};
    static const char *const stops[][3] = {{"aab", NULL, NULL},         {"abab", "ba", NULL},
                                           {"b\n", "abab\n", "\na"},    {"bb", NULL, NULL},
                                           {"aaaa", "\n\n\n", NULL},    {"a", "ab", NULL},
                                           {"abaab\naab", "aaab", NULL}};
    static struct output out;
    size_t n_runs = 0;
    for (size_t a = 0; a < sizeof texts / sizeof *texts; a++) {
        const size_t n = strlen(texts[a]);
        for (size_t b = 0; b < sizeof stops / sizeof *stops; b++) {
            size_t n_stops = 0;
            while (n_stops < 3 && stops[b][n_stops]) n_stops++;
            bool stopped;
            const size_t want = before_stop(texts[a], stops[b], n_stops, &stopped);
            /* Bit i of cuts: the text is cut behind byte i. */
            for (unsigned cuts = 0; cuts < 1u << (n - 1); cuts++) {
                int32_t ids[16];
                size_t n_ids = 0;
                bool fits = true;
                for (size_t start = 0, end = 1; end <= n && fits; end++) {
                    if (end < n && !(cuts >> (end - 1) & 1)) continue;
                    char part[4] = "";
                    fits = end - start <= 3;
                    if (fits) memcpy(part, texts[a] + start, end - start);
                    if (fits) ids[n_ids++] = vocab_id(&small, part);
                    start = end;
                }
                if (!fits) continue;
                run(&out, ids, n_ids, true, stops[b], n_stops);
                assert_int_equal(out.stopped, stopped);
                assert_int_equal(out.n, want);
                assert_memory_equal(out.text, texts[a], want);
                n_runs++;
            }
        }
    }
    assert_true(n_runs > 4000);
    ftk_tokenizer_free(model.tokenizer);
    model.tokenizer = whole;
}

static void test_stop_details(void **state)
{
    (void)state;
    static struct output out;
    static const char *const stop[] = {"STOP", EMOJI};
    run(&out, IDS(id(MARK "hello"), id("ST"), id("OP"), id("hello")), false, stop, 2);
    assert_string_equal(out.text, "hello");
    assert_true(out.stopped);
    assert_int_equal(out.pushes_until_stop, 2);
    run(&out, IDS(id("hello"), id("STOP")), false, stop, 2);
    assert_string_equal(out.text, "hello");
    run(&out, IDS(id("hello"), id("ST")), false, stop, 2);
    assert_string_equal(out.text, "helloST");
    assert_false(out.stopped);
    run(&out, IDS(id("S"), id("ST"), id("OP")), false, stop, 2);
    assert_string_equal(out.text, "S");
    run(&out, IDS(byte(0xF0), byte(0x9F), byte(0x98), byte(0x80), id("a")), false, stop, 2);
    assert_string_equal(out.text, "");
    assert_true(out.stopped);
    /* The stop string's copy is the stream's own. */
    char mine[] = "ld";
    const char *const borrowed[] = {mine};
    ftk_stream *s = NULL;
    assert_int_equal(ftk_stream_open(&s, &model, false, borrowed, 1), FTK_OK);
    memset(mine, 'x', 2);
    const char *text;
    size_t n;
    bool stopped;
    assert_int_equal(ftk_stream_push(s, id(MARK "world"), &text, &n, &stopped), FTK_OK);
    assert_true(stopped);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "wor", 3);
    ftk_stream_free(s);
}

static void test_refusals(void **state)
{
    (void)state;
    ftk_stream *s = NULL;
    static const char *const empty[] = {"a", ""};
    assert_int_equal(ftk_stream_open(&s, &model, false, empty, 2), FTK_ERR_INVALID);
    assert_null(s);
    assert_int_equal(ftk_stream_open(&s, &model, false, NULL, 0), FTK_OK);
    const char *text;
    size_t n;
    bool stopped;
    assert_int_equal(ftk_stream_push(s, -1, &text, &n, &stopped), FTK_ERR_INVALID);
    assert_int_equal(ftk_stream_push(s, (int32_t)file.n, &text, &n, &stopped), FTK_ERR_INVALID);
    assert_int_equal(n, 0);
    ftk_stream_free(s);
    ftk_stream_free(NULL);
}

/* After a push that found no memory the stream goes on where it was. */
static void test_memory(void **state)
{
    (void)state;
    static const char *const stop[] = {"STOP"};
    for (long at = 1;; at++) {
        const long live = counts.live;
        counts.calls = 0;
        counts.fail_at = at;
        ftk_stream *s = NULL;
        ftk_err err = ftk_stream_open(&s, &model, false, stop, 1);
        char all[1000];
        size_t n_all = 0;
        for (int i = 0; s && i < 60; i++) {
            const char *text;
            size_t n;
            bool stopped;
            const int32_t token = i < 59 ? id(MARK "hello") : id("ST");
            ftk_err pushed = ftk_stream_push(s, token, &text, &n, &stopped);
            if (pushed != FTK_OK) {
                err = pushed;
                assert_int_equal(n, 0);
                pushed = ftk_stream_push(s, token, &text, &n, &stopped);
            }
            assert_int_equal(pushed, FTK_OK);
            memcpy(all + n_all, text, n);
            n_all += n;
        }
        if (s) assert_int_equal(n_all, 59 * 6 - 1);
        ftk_stream_free(s);
        counts.fail_at = 0;
        assert_int_equal(counts.live, live);
        if (counts.calls < at) {
            assert_int_equal(err, FTK_OK);
            assert_true(at > 4);
            break;
        }
        assert_int_equal(err, FTK_ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_detokenize),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_leading_space),
        cmocka_unit_test(test_waits_for_characters),
        cmocka_unit_test(test_broken_utf8),
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_stop_details),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
