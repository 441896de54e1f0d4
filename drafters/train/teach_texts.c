/* SPDX-License-Identifier: Apache-2.0
 * Conversations and texts as tokens. */
#include "teach_texts.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/run.h"

enum { BEGINNING = 32 /* tokens of a plain text that is to be gone on with */, MOST_MESSAGES = 64 };

/* ---- files */

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *p = NULL;
    size_t cap = 0;
    *n = 0;
    if (!f) run_die("cannot open %s: %s", path, strerror(errno));
    for (size_t got = 1; got > 0; *n += got) {
        if (*n + 1 >= cap) p = realloc(p, cap = cap ? 2 * cap : 1 << 16);
        if (!p) run_die("no memory for %s", path);
        got = fread(p + *n, 1, cap - *n - 1, f);
    }
    if (ferror(f)) run_die("cannot read %s: %s", path, strerror(errno));
    fclose(f);
    p[*n] = 0;
    return p;
}

static void add(teach_texts *t, const char *p, size_t n, bool json)
{
    if (t->n % 1024 == 0) {
        t->at = realloc(t->at, (t->n + 1024) * sizeof *t->at);
        if (!t->at) run_die("no memory");
    }
    t->at[t->n++] = (teach_text){.p = p, .n = n, .json = json};
}

/* Up to a line's end behind TEACH_PIECE bytes. */
static size_t piece(const char *p, size_t n)
{
    if (n <= TEACH_PIECE) return n;
    const char *end = memchr(p + TEACH_PIECE, '\n', n - TEACH_PIECE);
    return end ? (size_t)(end - p) + 1 : n;
}

static void add_file(teach_texts *t, const char *p, size_t n)
{
    const size_t blank = strspn(p, " \t\r\n");
    const bool json = p[blank] == '{';
    for (size_t at = blank; at < n;) {
        const char *end = json ? memchr(p + at, '\n', n - at) : NULL;
        const size_t len = !json ? piece(p + at, n - at) : end ? (size_t)(end - p) - at : n - at;
        if (strspn(p + at, " \t\r\n") < len) add(t, p + at, len, json);
        at += len + (end != NULL);
    }
}

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

void texts_read(teach_texts *t, char **files, int n)
{
    *t = (teach_texts){.n_files = (size_t)n, .sum = 14695981039346656037u};
    t->files = calloc((size_t)n + 1, sizeof *t->files);
    if (!t->files) run_die("no memory");
    for (int i = 0; i < n; i++) {
        size_t size;
        t->files[i] = read_file(files[i], &size);
        for (size_t k = 0; k < size; k++)
            t->sum = (t->sum ^ (unsigned char)t->files[i][k]) * 1099511628211u;
        add_file(t, t->files[i], size);
    }
    uint64_t state = 1;
    for (size_t i = t->n; i > 1; i--) {
        const size_t k = next(&state) % i;
        const teach_text other = t->at[k];
        t->at[k] = t->at[i - 1];
        t->at[i - 1] = other;
    }
}

void texts_free(teach_texts *t)
{
    for (size_t i = 0; i < t->n_files; i++) free(t->files[i]);
    free(t->files);
    free(t->at);
}

/* ---- conversations */

/* The messages of a line, which they point into; 0: it has none that can be used. */
static size_t messages_of(const json_t *line, ftk_message *msgs)
{
    const json_t *list = json_object_get(line, "messages");
    const char *prompt = json_string_value(json_object_get(line, "prompt"));
    const char *response = json_string_value(json_object_get(line, "response"));
    size_t n = 0;
    if (prompt) msgs[n++] = (ftk_message){"user", prompt};
    if (prompt && response) msgs[n++] = (ftk_message){"assistant", response};
    if (prompt || json_array_size(list) > MOST_MESSAGES) return n;
    for (; n < json_array_size(list); n++) {
        const json_t *m = json_array_get(list, n);
        msgs[n] = (ftk_message){json_string_value(json_object_get(m, "role")),
                                json_string_value(json_object_get(m, "content"))};
        if (!msgs[n].role || !msgs[n].content) return 0;
    }
    return n;
}

static bool says(const ftk_message *m, const char *role)
{
    return strcmp(m->role, role) == 0;
}

/* Appends a conversation's tokens to none; 0: refused, or more than cap. */
static size_t chat(const ftk_model *m, const ftk_message *msgs, size_t n, bool asks,
                   int32_t *tokens, size_t cap)
{
    ftk_chat_config cfg;
    size_t n_out;
    ftk_chat_config_init(&cfg);
    cfg.add_generation_prompt = asks;
    cfg.now = 0;
    return ftk_chat_tokenize_as(m, &cfg, msgs, n, tokens, cap, &n_out) == FTK_OK ? n_out : 0;
}

/* Whose the tokens are: of each answer, those behind the prompt it answers. */
static bool read_written(const ftk_model *m, const ftk_message *msgs, size_t n, lesson *d,
                         size_t cap)
{
    bool any = false;
    int32_t *part = malloc(cap * sizeof *part);
    if (!part) run_die("no memory");
    d->n = chat(m, msgs, n, false, d->tokens, cap);
    for (size_t i = 1; i < n && d->n > 0; i++) {
        if (!says(&msgs[i], "assistant")) continue;
        const size_t from = chat(m, msgs, i, true, part, cap);
        if (from == 0 || from > d->n || memcmp(part, d->tokens, from * sizeof *part) != 0) continue;
        const size_t to = chat(m, msgs, i + 1, false, part, cap);
        if (to <= from || to > d->n || memcmp(part, d->tokens, to * sizeof *part) != 0) continue;
        memset(d->mine + from, 1, to - from);
        any = true;
    }
    free(part);
    return any;
}

static bool read_chat(const ftk_model *m, const ftk_message *msgs, size_t n, bool written,
                      lesson *d, size_t cap)
{
    if (written) return read_written(m, msgs, n, d, cap);
    size_t first = 0;
    while (first < n && !says(&msgs[first], "assistant")) first++;
    if (first == 0 || !says(&msgs[first - 1], "user")) return false;
    d->n = chat(m, msgs, first, true, d->tokens, cap);
    return d->n > 0;
}

static bool read_plain(const ftk_model *m, const char *p, size_t n, bool written, lesson *d,
                       size_t cap)
{
    if (ftk_tokenize(m, p, n, FTK_TOK_BOS, d->tokens, cap, &d->n) != FTK_OK) return false;
    if (d->n < 2 * BEGINNING) return false;
    if (written)
        memset(d->mine + 1, 1, d->n - 1);
    else
        d->n = BEGINNING;
    return true;
}

bool texts_lesson(const ftk_model *m, const teach_text *t, bool written, lesson *d, size_t cap)
{
    memset(d->mine, 0, cap);
    d->n = d->n_rows = 0;
    if (!t->json) return read_plain(m, t->p, t->n, written, d, cap);
    json_t *line = json_loadb(t->p, t->n, 0, NULL);
    const char *text = json_string_value(json_object_get(line, "text"));
    ftk_message msgs[MOST_MESSAGES];
    const size_t n = messages_of(line, msgs);
    const bool good = n > 0 ? read_chat(m, msgs, n, written, d, cap)
                            : text && read_plain(m, text, strlen(text), written, d, cap);
    json_decref(line);
    return good;
}
