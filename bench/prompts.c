/* SPDX-License-Identifier: Apache-2.0
 * Reads prompts as tokens. */
#include "prompts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef FTK_HAVE_JSON
#include "questions.h"
#endif
#include "run.h"

static void add(prompts *p, const char *category, const int32_t *tokens, size_t n)
{
    struct prompt *more = realloc(p->at, (p->n + 1) * sizeof *more);
    int32_t *copy = malloc(n * sizeof *copy);
    char *name = strdup(category);
    if (!more || !copy || !name) run_die("no memory for prompts");
    memcpy(copy, tokens, n * sizeof *copy);
    p->at = more;
    p->at[p->n++] = (struct prompt){.category = name, .tokens = copy, .n = n};
}

/* Ids of one line to tokens[cap]; their number, or one more than cap where they do not fit. */
static size_t take_ids(const char *text, int n_vocab, const char *path, int32_t *tokens, size_t cap)
{
    size_t n = 0;
    for (char *end; n <= cap; text = end) {
        const long id = strtol(text, &end, 10);
        if (end == text && text[strspn(text, " \r\n")] == 0) break;
        if (end == text || id < 0 || id >= n_vocab)
            run_die("%s: \"%.20s\" is no token of this model's %d", path, text, n_vocab);
        if (n < cap) tokens[n] = (int32_t)id;
        n++;
    }
    return n;
}

static void read_ids(prompts *p, const char *path, size_t limit, size_t cap, const ftk_model *m)
{
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    FILE *f = fopen(path, "r");
    if (!f) run_die("%s: %s", path, strerror(errno));
    int32_t *tokens = calloc(cap, sizeof *tokens);
    char *line = NULL;
    size_t size = 0;
    while (tokens && (limit == 0 || p->n < limit) && getline(&line, &size, f) > 0) {
        if (line[0] == '#' || line[0] == '\n') continue;
        char *ids = strchr(line, ' ');
        if (!ids) run_die("%s: a line holds no tokens", path);
        *ids++ = 0;
        const size_t n = take_ids(ids, info.n_vocab, path, tokens, cap);
        if (n > 0 && n <= cap) add(p, line, tokens, n);
    }
    free(line);
    free(tokens);
    fclose(f);
}

#ifdef FTK_HAVE_JSON
static void read_questions(prompts *p, const char *path, size_t limit, size_t cap,
                           const ftk_model *m)
{
    enum { MOST = 1 << 16 };
    questions q;
    int32_t *tokens = calloc(MOST, sizeof *tokens);
    if (!tokens) run_die("no memory for prompts");
    if (questions_read(&q, path, limit) != 0) exit(RUN_FAILED);
    for (size_t i = 0; i < q.n; i++) {
        const size_t n = run_prompt(m, q.at[i].turns[0], tokens, MOST);
        if (n <= cap) add(p, q.at[i].category, tokens, n);
    }
    questions_free(&q);
    free(tokens);
}
#else
static void read_questions(prompts *p, const char *path, size_t limit, size_t cap,
                           const ftk_model *m)
{
    (void)p, (void)limit, (void)cap, (void)m;
    run_die("%s: this build reads token ids alone: give a file that ends in .ids", path);
}
#endif

void prompts_read(prompts *p, const char *path, size_t limit, size_t cap, const ftk_model *m)
{
    const size_t n = strlen(path);
    *p = (prompts){0};
    (n > 4 && strcmp(path + n - 4, ".ids") == 0 ? read_ids : read_questions)(p, path, limit, cap,
                                                                             m);
    if (p->n == 0) run_die("%s: holds no prompt of at most %zu tokens", path, cap);
}

void prompts_free(prompts *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->at[i].category);
        free(p->at[i].tokens);
    }
    free(p->at);
    *p = (prompts){0};
}
