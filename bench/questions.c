/* SPDX-License-Identifier: Apache-2.0
 * Reads question files. */
#include "questions.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "foretoken.h"

static const char no_memory[] = "no memory";

static void question_free(question *q)
{
    for (size_t i = 0; i < q->n_turns; i++) free(q->turns[i]);
    free(q->turns);
    free(q->category);
    *q = (question){0};
}

/* The functions below return NULL, or why the line is no question. */

static const char *add_turn(question *q, const char *text)
{
    char **more = realloc(q->turns, (q->n_turns + 1) * sizeof *more);
    if (!more) return no_memory;
    q->turns = more;
    if (!(q->turns[q->n_turns] = strdup(text))) return no_memory;
    q->n_turns++;
    return NULL;
}

static const char *add_turns(question *q, const json_t *turns)
{
    const char *why = json_array_size(turns) > 0 ? NULL : "has \"turns\" that are no list of texts";
    for (size_t i = 0; i < json_array_size(turns) && !why; i++) {
        const char *text = json_string_value(json_array_get(turns, i));
        why = text ? add_turn(q, text) : "has \"turns\" that are no list of texts";
    }
    return why;
}

static const char *from_object(question *q, const json_t *root)
{
    const json_t *turns = json_object_get(root, "turns");
    const char *ask = json_string_value(json_object_get(root, "question"));
    const char *prompt = json_string_value(json_object_get(root, "prompt"));
    const char *why = turns    ? add_turns(q, turns)
                      : ask    ? add_turn(q, ask)
                      : prompt ? add_turn(q, prompt)
                               : "has no \"turns\", \"question\" or \"prompt\"";
    if (why) return why;
    const json_t *id = json_object_get(root, "question_id");
    if (id && !json_is_integer(id)) return "has a \"question_id\" that is no whole number";
    if (id) q->id = json_integer_value(id);
    const json_t *category = json_object_get(root, "category");
    if (category && !json_is_string(category)) return "has a \"category\" that is no text";
    const char *kind = category                                 ? json_string_value(category)
                       : ask && json_object_get(root, "answer") ? "math_reasoning"
                       : json_object_get(root, "task_id")       ? "humaneval"
                                                                : "prompt";
    return (q->category = strdup(kind)) ? NULL : no_memory;
}

static const char *from_line(question *q, const char *line, size_t n)
{
    if (line[0] == '{') {
        json_error_t e;
        json_t *root = json_loadb(line, n, 0, &e);
        const char *why = root ? from_object(q, root) : "is not JSON";
        json_decref(root);
        return why;
    }
    if (memchr(line, 0, n)) return "holds a zero byte";
    const char *why = add_turn(q, line);
    if (!why && !(q->category = strdup("prompt"))) why = no_memory;
    return why;
}

static const char *add(questions *all, const question *q)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->at[i].id == q->id) return "has the question_id of an earlier line";
    question *more = realloc(all->at, (all->n + 1) * sizeof *more);
    if (!more) return no_memory;
    all->at = more;
    all->at[all->n++] = *q;
    return NULL;
}

static int read_lines(questions *all, FILE *f, const char *path, size_t limit)
{
    char *line = NULL;
    size_t cap = 0, number = 0;
    const char *why = NULL;
    errno = 0;
    for (ssize_t n; (limit == 0 || all->n < limit) && (n = getline(&line, &cap, f)) >= 0;) {
        number++;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        if (n == 0) continue;
        question q = {.id = (long long)number, .line = number};
        why = from_line(&q, line, (size_t)n);
        if (!why) why = add(all, &q);
        if (!why) continue;
        question_free(&q);
        if (why == no_memory) break;
        all->bad++;
        fprintf(stderr, "%s: line %zu %s: left out\n", path, number, why);
        errno = 0;
    }
    const bool failed = ferror(f) || errno == ENOMEM;
    if (failed || why == no_memory)
        fprintf(stderr, "%s: line %zu could not be read: %s\n", path, number + (why != no_memory),
                why == no_memory ? no_memory : strerror(errno));
    free(line);
    return failed || why == no_memory ? -1 : 0;
}

int questions_read(questions *q, const char *file, size_t limit)
{
    char path[512]; /* as shown */
    *q = (questions){0};
    ftk_show(file, strlen(file), 0, path, sizeof path);
    FILE *f = fopen(file, "r");
    if (!f) {
        fprintf(stderr, "%s: %s: give a file of questions\n", path, strerror(errno));
        return -1;
    }
    const int err = read_lines(q, f, path, limit);
    fclose(f);
    if (err == 0 && q->n == 0) fprintf(stderr, "%s: holds no questions\n", path);
    if (err == 0 && q->n > 0) return 0;
    questions_free(q);
    return -1;
}

void questions_free(questions *q)
{
    for (size_t i = 0; i < q->n; i++) question_free(&q->at[i]);
    free(q->at);
    *q = (questions){0};
}
