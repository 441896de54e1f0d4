/* SPDX-License-Identifier: Apache-2.0
 * Renders chat templates for tests/template_reference.py. Each line of standard input is a JSON
 * object: "template", and "vars" with the variables it is given; each line of standard output has
 * "text", or "error" with the message. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "template/template.h"

static json_t *render(const char *source, size_t n, const char *vars)
{
    ftk_template *t = NULL;
    ftk_template_error error;
    ftk_rendered out = {0};
    const ftk_template_input in = {.vars = vars, .now = 1700000000};
    ftk_err err = ftk_template_parse(&t, source, n, NULL, &error);
    if (err == FTK_OK) err = ftk_template_render(t, &in, NULL, &out, &error);
    ftk_template_free(t);
    if (err != FTK_OK) return json_pack("{s:s, s:i}", "error", error.message, "line", error.line);
    json_t *j = json_pack("{s:s%}", "text", out.text, out.n);
    ftk_rendered_free(&out, NULL);
    return j ? j : json_pack("{s:s}", "error", "the text is no UTF-8");
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0;) {
        json_t *job = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL);
        const json_t *source = json_object_get(job, "template");
        char *vars = json_dumps(json_object_get(job, "vars"), 0);
        if (!source || !vars) {
            fputs("a line is no job\n", stderr);
            return 2;
        }
        json_t *result = render(json_string_value(source), json_string_length(source), vars);
        json_dumpf(result, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(result);
        json_decref(job);
        free(vars);
    }
    free(line);
    return 0;
}
