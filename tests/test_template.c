/* SPDX-License-Identifier: Apache-2.0
 * Tests of the chat template language: what jinja2 renders, bounds, a good guest. */
#include <locale.h>
#include <time.h>

#include "template/template.h"
#include "templatecases.h"
#include "vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static ftk_err render(const char *source, const char *vars, const ftk_host *host, ftk_rendered *out,
                      ftk_template_error *error)
{
    ftk_template *t = NULL;
    const ftk_template_input in = {.vars = vars, .now = 1700000000};
    *out = (ftk_rendered){0};
    ftk_err err = ftk_template_parse(&t, source, strlen(source), host, error);
    assert_int_equal(t != NULL, err == FTK_OK);
    if (err == FTK_OK) err = ftk_template_render(t, &in, host, out, error);
    ftk_template_free(t);
    return err;
}

static int check_case(size_t i)
{
    ftk_rendered out;
    ftk_template_error error;
    const char *want = template_cases[i].text;
    const ftk_err err = render(template_cases[i].source, case_variables, NULL, &out, &error);
    const bool same =
        want ? err == FTK_OK && out.n == strlen(want) && memcmp(out.text, want, out.n) == 0
             : err != FTK_OK && strcmp(error.message, template_cases[i].error) == 0;
    if (!same)
        print_error("%s\n  wanted %s\n  got    %.*s\n", template_cases[i].source,
                    want ? want : template_cases[i].error,
                    err == FTK_OK ? (int)out.n : FTK_TEMPLATE_MESSAGE,
                    err == FTK_OK ? out.text : error.message);
    ftk_rendered_free(&out, NULL);
    return !same;
}

static void test_cases(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof template_cases / sizeof *template_cases; i++)
        wrong += check_case(i);
    assert_int_equal(wrong, 0);
}

/* A comma for a point, should this machine know such a locale. */
static void test_locale(void **state)
{
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "tr_TR.UTF-8"};
    bool any = false;
    for (size_t i = 0; i < 3 && !any; i++) any = setlocale(LC_ALL, names[i]) != NULL;
    if (any) test_cases(state);
    setlocale(LC_ALL, "C");
    if (!any) skip();
}

static void refuse(const char *source, const char *message, int line)
{
    ftk_rendered out;
    ftk_template_error error;
    assert_int_equal(render(source, case_variables, NULL, &out, &error), FTK_ERR_INVALID);
    if (!strstr(error.message, message)) fail_msg("\"%s\" gave \"%s\"", source, error.message);
    if (line > 0) assert_int_equal(error.line, line);
}

static void test_messages(void **state)
{
    (void)state;
    refuse("\n\n{{ 'open }}", "a string without an end", 3);
    refuse("{% if yes %}", "Unexpected end of template", 0);
    refuse("a\nb {{ messages.x.y }}", "'list object' has no attribute 'x'", 2);
    refuse("{% break %}", "outside of a loop", 1);
    refuse("{{ 1", "unexpected end of template", 1);
    refuse("{{ raise_exception('a\x07\xC2\x80\xFF"
           "b') }}",
           "a\x07\xC2\x80\xFF"
           "b",
           1); /* as it is: the log makes it harmless */
}

/* Each would take for ever, or all memory, or all of the stack. */
static void test_bounds(void **state)
{
    (void)state;
    static const char *const endless[] = {
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(x) %}{{ caller() }}{% call f(1) %}{{ caller() }}{% endcall %}{% endmacro %}"
        "{% call f(1) %}{% endcall %}",
        "{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000000 }}",
        "{{ [1] * 9000000000000000000 }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(90000) %}{% set ns.x = ns.x + ns.x %}"
        "{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [ns.x, ns.x] %}"
        "{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=1) %}{% set ns.x = [ns] %}{{ ns }}",
        "{% set ns = namespace(x=1) %}{% set ns.x = [ns] %}{{ ns.x == [ns] }}{{ ns.x | tojson }}",
        "{{ '%1000000000d' % 1 }}{{ '{:1000000}'.format(1) * 1000 }}",
        "{{ 'x'.rjust(100000000000) }}",
        "{{ 'x' | center(100000000000) }}",
        "{{ 'x\n' | indent(100000000000, true) }}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% if s == s ~ '' %}{% endif %}"
        "{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% if 'b' in s %}{% endif %}"
        "{{ s.rfind('b') }}{% endfor %}",
        "{% set l = range(100000) | list %}{% for i in l %}{% if l.count(0) %}{% endif %}{% endfor "
        "%}",
        "{% set l = range(100000) | list %}{{ l | unique | list | length }}",
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ ['a'] | map('map', 'map') | list }}{{ 2 ** 9 ** 9 ** 9 }}{{ 10 ** 30 }}",
    };
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        counting c = {0};
        const ftk_host host = counting_host(&c);
        ftk_rendered out;
        ftk_template_error error;
        const clock_t start = clock();
        const ftk_err err = render(endless[i], "{}", &host, &out, &error);
        const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (err == FTK_OK || c.live != 0 || !error.message[0]) fail_msg("%s", endless[i]);
        if (seconds > 60) fail_msg("%s: %.1f s", endless[i], seconds);
    }
}

/* Nothing that is nested in the text overruns the stack. */
static void test_depth(void **state)
{
    (void)state;
    static const char *const nested[][3] = {
        {"{{ ", "(", ""},
        {"{{ ", "[", ""},
        {"{{ ", "{1:", ""},
        {"{{ ", "not ", "1 }}"},
        {"{{ ", "-", "1 }}"},
        {"", "{% if 1 %}", ""},
        {"", "{% for i in [1] %}", ""},
        {"{{ 1", " + 1", " }}"},
        {"{{ 1", " if 1 else 1", " }}"},
        {"{{ x", ".x", " }}"},
        {"{{ x", "[1]", " }}"},
        {"{{ x", "|list", " }}"},
        {"{{ x", "()", " }}"},
        {"{% filter list", "|list", "%}{% endfilter %}"},
        {"{{ 1", " and 1", " }}"},
        {"{{ 1", " is odd is odd", "}}"},
        {"{% set ", "(", ""},
    };
    enum { TIMES = 20000 };
    char *source = malloc((size_t)TIMES * 20 + 64);
    assert_non_null(source);
    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++) {
        char *at = stpcpy(source, nested[i][0]);
        for (int k = 0; k < TIMES; k++) at = stpcpy(at, nested[i][1]);
        strcpy(at, nested[i][2]);
        ftk_rendered out;
        ftk_template_error error;
        if (render(source, "{}", NULL, &out, &error) == FTK_OK) fail_msg("%s", nested[i][1]);
    }
    char *json = source;
    memset(json, '[', TIMES);
    json[TIMES] = '\0';
    ftk_rendered out;
    ftk_template_error error;
    assert_int_equal(render("x", json, NULL, &out, &error), FTK_ERR_INVALID);
    free(source);
}

/* Each allocation fails once, in parsing and in rendering. */
static void test_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof template_cases / sizeof *template_cases; i += 3) {
        for (long at = 1;; at++) {
            counting c = {.fail_at = at};
            const ftk_host host = counting_host(&c);
            ftk_rendered out;
            ftk_template_error error;
            const ftk_err err =
                render(template_cases[i].source, case_variables, &host, &out, &error);
            ftk_rendered_free(&out, &host);
            assert_int_equal(c.live, 0);
            if (c.calls < at) break;
            assert_int_equal(err, FTK_ERR_NOMEM);
            assert_non_null(strstr(error.message, "no memory"));
        }
    }
}

/* 100 messages of 2 KB take milliseconds. */
static void test_speed(void **state)
{
    (void)state;
    static const char source[] = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + "
                                 "m.content | trim + '<|im_end|>' }}"
                                 "{% if '</think>' in m.content %}{{ "
                                 "m.content.split('</think>')[-1] }}{% endif %}{% endfor %}";
    char content[2049];
    memset(content, 'x', sizeof content - 1);
    content[sizeof content - 1] = '\0';
    ftk_message messages[100];
    for (size_t i = 0; i < 100; i++)
        messages[i] = (ftk_message){i % 2 ? "assistant" : "user", content};
    ftk_template *t = NULL;
    ftk_template_error error;
    ftk_rendered out;
    assert_int_equal(ftk_template_parse(&t, source, sizeof source - 1, NULL, &error), FTK_OK);
    const ftk_template_input in = {.messages = messages, .n_messages = 100};
    const clock_t start = clock();
    assert_int_equal(ftk_template_render(t, &in, NULL, &out, &error), FTK_OK);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    print_message("100 messages of 2 KB: %.2f ms\n", 1e3 * seconds);
    assert_true(out.n > 200000 && seconds < 1);
    assert_int_equal(out.input[0], 0);
    assert_int_equal(out.input[12 + 5], 1);
    ftk_rendered_free(&out, NULL);
    ftk_template_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),    cmocka_unit_test(test_locale),
        cmocka_unit_test(test_messages), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_depth),    cmocka_unit_test(test_memory),
        cmocka_unit_test(test_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
