/* SPDX-License-Identifier: Apache-2.0
 * The folder of lessons. */
#include "lessons.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/run.h"

/* In the order of lessons.fd. */
enum { TOKENS, MINE, FEATURE, BEST, LOGP, STATE, STATES, DOCS, DONE, FILES };
static const char *const names[FILES] = {"tokens.i32", "mine.u8",  "feature.f16",
                                         "best.i32",   "logp.f16", "state.f16",
                                         "states.f16", "docs.i64", "done.i64"};

/* Bytes of a row, or of a text. */
static size_t unit(const lessons *l, int file)
{
    const size_t units[FILES] = {[TOKENS] = sizeof(int32_t),
                                 [MINE] = sizeof(uint8_t),
                                 [FEATURE] = l->n_embd * sizeof(uint16_t),
                                 [BEST] = l->top * sizeof(int32_t),
                                 [LOGP] = l->top * sizeof(uint16_t),
                                 [STATE] = l->state ? l->n_embd * sizeof(uint16_t) : 0,
                                 [STATES] = l->n_states * l->n_embd * sizeof(uint16_t),
                                 [DOCS] = sizeof(int64_t),
                                 [DONE] = 2 * sizeof(int64_t)};
    return units[file];
}

static void path_of(const lessons *l, const char *name, char *path, size_t cap)
{
    if ((size_t)snprintf(path, cap, "%s/%s", l->folder, name) >= cap)
        run_die("%s: the path is too long", l->folder);
}

static void fail(const lessons *l, const char *name)
{
    run_die("%s/%s: %s", l->folder, name, strerror(errno));
}

static void write_all(const lessons *l, int file, const void *p, size_t n)
{
    for (const char *at = p; n > 0;) {
        const ssize_t done = write(l->fd[file], at, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) fail(l, names[file]);
        at += done;
        n -= (size_t)done;
    }
}

/* Of a folder that is there: whether it says the same of itself. Else it is made, and says so. */
static void check_about(const lessons *l, const char *about)
{
    char path[4096], part[4096], was[4096];
    path_of(l, "lessons.json", path, sizeof path);
    path_of(l, "lessons.json.part", part, sizeof part);
    FILE *f = fopen(path, "r");
    if (f) {
        const size_t n = fread(was, 1, sizeof was - 1, f);
        was[n] = 0;
        fclose(f);
        if (strcmp(was, about) != 0)
            run_die("%s is of another model, other texts or other options: name another folder, or "
                    "delete it to start afresh",
                    l->folder);
        return;
    }
    if (mkdir(l->folder, 0777) != 0 && errno != EEXIST)
        run_die("cannot make the folder %s: %s", l->folder, strerror(errno));
    f = fopen(part, "w");
    if (!f || fputs(about, f) < 0 || fclose(f) != 0 || rename(part, path) != 0)
        fail(l, "lessons.json");
}

static void read_done(lessons *l)
{
    int64_t at[2];
    ssize_t got;
    while ((got = read(l->fd[DONE], at, sizeof at)) == (ssize_t)sizeof at) {
        if (at[0] < 0 || at[0] >= l->n_texts || at[1] < l->n_rows)
            run_die("%s/%s is damaged: delete the folder to start afresh", l->folder, names[DONE]);
        l->taken[at[0]] = 1;
        l->n_rows = at[1];
        l->n_docs++;
    }
    if (got < 0) fail(l, names[DONE]);
}

void lessons_open(lessons *l, const char *about)
{
    char path[4096];
    check_about(l, about);
    l->taken = calloc((size_t)l->n_texts + 1, 1);
    if (!l->taken) run_die("no memory");
    for (int i = FILES - 1; i >= 0; i--) {
        l->fd[i] = -1;
        if (unit(l, i) == 0) continue;
        path_of(l, names[i], path, sizeof path);
        l->fd[i] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (l->fd[i] < 0) fail(l, names[i]);
        if (i == DONE) read_done(l);
        const off_t end = (off_t)unit(l, i) * (i >= DOCS ? l->n_docs : l->n_rows);
        struct stat st;
        if (fstat(l->fd[i], &st) != 0) fail(l, names[i]);
        if (st.st_size < end)
            run_die("%s/%s is cut off: delete the folder to start afresh", l->folder, names[i]);
        if (ftruncate(l->fd[i], end) != 0 || lseek(l->fd[i], end, SEEK_SET) < 0) fail(l, names[i]);
    }
}

void lessons_add(lessons *l, const lesson *d)
{
    const void *const data[] = {d->tokens, d->mine,  d->feature, d->best,
                                d->logp,   d->state, d->states};
    for (int i = TOKENS; i <= STATES; i++)
        if (unit(l, i)) write_all(l, i, data[i], d->n_rows * unit(l, i));
    write_all(l, DOCS, &l->n_rows, sizeof l->n_rows);
    l->n_rows += (int64_t)d->n_rows;
    l->n_docs++;
    const int64_t done[2] = {d->source, l->n_rows};
    write_all(l, DONE, done, sizeof done);
    l->taken[d->source] = 1;
}

void lessons_close(lessons *l)
{
    for (int i = 0; i < FILES; i++)
        if (l->fd[i] >= 0 && close(l->fd[i]) != 0) fail(l, names[i]);
    free(l->taken);
}
