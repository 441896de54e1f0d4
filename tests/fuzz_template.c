/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target of the template language: what stands up to the first NUL is a template, what
 * follows, up to the next one, JSON with variables, and the rest the text of a message. */
#include "fuzzing.h"

#include <stdlib.h>
#include <string.h>

#include "template/template.h"
#include "templatecases.h"

/* A character that only the message has. */
static const char mine[] = "\xEF\xA3\xBF";

static void check_error(const ftk_template_error *error)
{
    if (!error->message[0] ||
        strnlen(error->message, sizeof error->message) == sizeof error->message)
        abort();
}

/* The message's bytes are known for an input's wherever they have got to. */
static void check_marks(const ftk_rendered *out)
{
    for (size_t i = 0; i < out->n; i++)
        if (out->input[i] > 1) abort();
    for (size_t i = 0; i + 3 <= out->n; i++)
        if (memcmp(out->text + i, mine, 3) == 0 &&
            !(out->input[i] && out->input[i + 1] && out->input[i + 2]))
            abort();
}

static void run(const char *source, const char *vars, const char *content)
{
    ftk_template *t = NULL;
    ftk_template_error error;
    ftk_rendered out, again;
    char *text = malloc(2 * sizeof mine + strlen(content));
    if (!text) abort();
    stpcpy(stpcpy(stpcpy(text, mine), content), mine);
    const ftk_message messages[] = {{"system", "S"}, {"user", text}, {"assistant", content}};
    const ftk_template_input in = {.messages = messages, .n_messages = 3, .vars = vars, .now = 1e9};
    if (ftk_template_parse(&t, source, strlen(source), NULL, &error) != FTK_OK) {
        check_error(&error);
    } else {
        const ftk_err err = ftk_template_render(t, &in, NULL, &out, &error);
        if (err != FTK_OK) check_error(&error);
        if (ftk_template_render(t, &in, NULL, &again, &error) != err) abort();
        if (out.n != again.n || (out.n > 0 && memcmp(out.text, again.text, out.n) != 0)) abort();
        /* these make characters of numbers and names */
        if (!strstr(source, "%c") && !strchr(source, '\\') && !strstr(source, mine) &&
            !(vars && strpbrk(vars, "\\\xEF")))
            check_marks(&out);
        ftk_rendered_free(&out, NULL);
        ftk_rendered_free(&again, NULL);
    }
    ftk_template_free(t);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 3);
    if (!copy) abort();
    memcpy(copy, data, size);
    memset(copy + size, 0, 3);
    const char *vars = copy + strlen(copy) + 1;
    if (vars > copy + size) vars = copy + size;
    const char *content = vars + strlen(vars) + 1;
    if (content > copy + size) content = copy + size;
    run(copy, vars[0] ? vars : NULL, content);
    free(copy);
    return 0;
}

bool fuzz_seed(size_t i, gw_bytes *out)
{
    static const char vars[] =
        "{\"s\": \"Some Text, here\", \"l\": [3, 1, 2], \"d\": {\"b\": 1.5}}";
    if (i >= sizeof template_cases / sizeof *template_cases) return false;
    gw_put(out, template_cases[i].source, strlen(template_cases[i].source) + 1);
    gw_put(out, vars, sizeof vars);
    gw_put(out, "<|im_end|> x", 12);
    return true;
}
