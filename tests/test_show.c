/* SPDX-License-Identifier: Apache-2.0
 * Text from outside, made harmless: every byte alone, every control character, broken and cut
 * text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void expect(const char *text, size_t n, unsigned flags, const char *wanted)
{
    char *buf = malloc(4 * n + 8); /* exactly what the header promises to be enough */
    assert_non_null(buf);
    const size_t len = ftk_show(text, n, flags, buf, 4 * n + 8);
    assert_string_equal(buf, wanted);
    assert_int_equal(len, strlen(wanted));
    free(buf);
}

static void test_lines(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain, na\u00efve \u2581\u4e2d\U0001F600 \\x1b",
         "plain, na\u00efve \u2581\u4e2d\U0001F600 \\x1b"},
        {"\x1b]0;title\a", "\\x1b]0;title\\x07"},
        {"a\nb\r\tc\x7f", "a\\x0ab\\x0d\\x09c\\x7f"},
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b31m"},
        {"\xc2\xa0|", "\xc2\xa0|"},
        {"\x9b"
         "31m",
         "\\x9b31m"},
        {"caf\xe9", "caf\\xe9"},
        {"\xe2\x80", "\\xe2\\x80"},
        {"\xc0\x9b\xed\xa0\x80\xf4\x90\x80\x80", "\\xc0\\x9b\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80"},
        {"a\u2028b\u2029", "a\\xe2\\x80\\xa8b\\xe2\\x80\\xa9"},
        {"\u202egpj\u202c", "\\xe2\\x80\\xaegpj\\xe2\\x80\\xac"},
        {"\u2066\u2069\u200e\u200f\u061c",
         "\\xe2\\x81\\xa6\\xe2\\x81\\xa9\\xe2\\x80\\x8e\\xe2\\x80\\x8f\\xd8\\x9c"},
        {"\u200d\u2065\u206a\u2027\u202f", "\u200d\u2065\u206a\u2027\u202f"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect(cases[i][0], strlen(cases[i][0]), 0, cases[i][1]);
    expect("a\0b", 3, 0, "a\\x00b");
    expect("", 0, 0, "");
}

static void test_texts(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a\n\tb \u202e\u2028", "a\n\tb \u202e\u2028"},
        {"a\x1b[31mred\x1b[0m\a\r\n", "a[31mred[0m\n"},
        {"\xc2\x9b"
         "2J\xc2\x85\x7f",
         "2J"},
        {"\x9b"
         "2J",
         "\ufffd2J"},
        {"\xe2\x82", "\ufffd\ufffd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect(cases[i][0], strlen(cases[i][0]), FTK_SHOW_TEXT, cases[i][1]);
    expect("a\0b", 3, FTK_SHOW_TEXT, "ab");
}

/* Of any two bytes nothing comes out that a terminal takes for a command. */
static void test_all_pairs(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags <= FTK_SHOW_TEXT; flags++)
        for (unsigned pair = 0; pair < 65536; pair++) {
            const char text[2] = {(char)(pair >> 8), (char)pair};
            char buf[16];
            const size_t n = ftk_show(text, 2, flags, buf, sizeof buf);
            for (size_t i = 0; i < n; i++) {
                const unsigned char c = (unsigned char)buf[i];
                const bool stays = flags && (c == '\n' || c == '\t');
                assert_true((c >= 0x20 && c != 0x7f) || stays);
                if (c == 0xc2) assert_in_range((unsigned char)buf[i + 1], 0xa0, 0xbf);
            }
        }
}

/* At every size: terminated, within it, whole characters, and dots where something is missing. */
static void test_sizes(void **state)
{
    (void)state;
    const char text[] = "ab\u4e2d\x1b\U0001F600z";
    char whole[64];
    const size_t all = ftk_show(text, sizeof text - 1, 0, whole, sizeof whole);
    for (size_t cap = 8; cap < sizeof whole; cap++) {
        char buf[64];
        memset(buf, '#', sizeof buf);
        const size_t n = ftk_show(text, sizeof text - 1, 0, buf, cap);
        assert_in_range(n, 0, cap - 1);
        assert_int_equal(buf[n], 0);
        for (size_t i = cap; i < sizeof buf; i++) assert_int_equal(buf[i], '#');
        if (n == all) continue;
        assert_string_equal(buf + n - 3, "...");
        assert_memory_equal(buf, whole, n - 3);
        assert_true(((unsigned char)whole[n - 3] & 0xc0) != 0x80);
    }
}

static void take(void *ctx, ftk_log_level level, const char *line)
{
    (void)level;
    snprintf(ctx, 1024, "%s", line);
}

/* Whatever a message quotes, its line is harmless, and one. */
static void test_log_lines(void **state)
{
    (void)state;
    char line[1024], name[700];
    const ftk_host host = {.ctx = line, .log = take};
    assert_int_equal(
        ftk_fail(&host, FTK_ERR_IO, "%s: cannot be opened", "\x1b[2J\xc2\x9b\x9b.gguf"),
        FTK_ERR_IO);
    assert_string_equal(line, "\\x1b[2J\\xc2\\x9b\\x9b.gguf: cannot be opened");
    ftk_log(&host, FTK_LOG_WARN, "%s", "two\nlines");
    assert_string_equal(line, "two lines");
    memset(name, 0x1b, sizeof name - 1);
    name[sizeof name - 1] = 0;
    ftk_log(&host, FTK_LOG_WARN, "%s", name);
    assert_in_range(strlen(line), 500, 511);
    assert_string_equal(line + strlen(line) - 7, "\\x1b...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),     cmocka_unit_test(test_texts),
        cmocka_unit_test(test_all_pairs), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_log_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
