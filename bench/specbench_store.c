/* SPDX-License-Identifier: Apache-2.0
 * The folder of answers: JSON lines that are only ever added to, so that a run that was ended in
 * any way goes on where it stopped. */
#include "specbench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"

enum { PATH = 4096 };

struct spec_store {
    const spec_options *o;
    const questions *q;
    int lock;   /* the folder, open as long as this process writes into it */
    bool *done; /* [repeat][n_methods][q->n] */
};

static void path_in(char *out, size_t n, const char *dir, const char *name)
{
    if ((size_t)snprintf(out, n, "%s/%s", dir, name) >= n) run_die("%s: the path is too long", dir);
}

void spec_answers_path(char *out, size_t n, const char *dir, int lap, const char *method)
{
    char name[128];
    snprintf(name, sizeof name, "run_%d/%s.jsonl", lap + 1, method);
    path_in(out, n, dir, name);
}

static bool *slot(const spec_store *s, int lap, int method, size_t i)
{
    return s->done + ((size_t)(lap * s->o->n_methods + method) * s->q->n + i);
}

/* ---- writing */

/* So that a new name in it outlives a loss of power. */
static void sync_folder(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

static void write_all(int fd, const char *path, const char *text, size_t n)
{
    const ssize_t wrote = fd < 0 ? -1 : write(fd, text, n);
    if (wrote != (ssize_t)n || fdatasync(fd) != 0)
        run_die("%s cannot be written: %s", path,
                wrote >= 0 && !errno ? "it is full" : strerror(errno));
    close(fd);
}

void spec_store_write(const char *dir, const char *name, const char *text, size_t n)
{
    char part[PATH + 8], path[PATH];
    path_in(path, sizeof path, dir, name);
    snprintf(part, sizeof part, "%s.part", path);
    errno = 0;
    write_all(open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), path, text, n);
    if (rename(part, path) != 0) run_die("%s cannot be written: %s", path, strerror(errno));
    sync_folder(dir);
}

void spec_store_add(spec_store *s, int lap, int method, size_t i, const json_t *answer)
{
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    if (!text) run_die("no memory for an answer");
    const size_t n = strlen(text);
    text[n] = '\n'; /* in place of the terminator: one write gives the whole line */
    char path[PATH];
    spec_answers_path(path, sizeof path, s->o->out, lap, s->o->methods[method].name);
    errno = 0;
    write_all(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666), path, text, n + 1);
    free(text);
    *slot(s, lap, method, i) = true;
}

/* ---- reading */

/* A whole file, or an empty one where there is none. */
static char *read_file(const char *path, size_t *n)
{
    *n = 0;
    FILE *f = fopen(path, "rb");
    if (!f && errno == ENOENT) return NULL;
    if (!f) run_die("%s cannot be read: %s", path, strerror(errno));
    char *text = NULL;
    for (size_t cap = 0; !feof(f);) {
        if (*n == cap) {
            cap = 2 * cap + 65536;
            char *more = realloc(text, cap);
            if (!more) run_die("no memory for %s", path);
            text = more;
        }
        *n += fread(text + *n, 1, cap - *n, f);
        if (ferror(f)) run_die("%s cannot be read: %s", path, strerror(errno));
    }
    fclose(f);
    return text;
}

size_t spec_answers_read(const char *path,
                         void (*each)(void *ctx, const json_t *answer, const char *path,
                                      size_t line),
                         void *ctx)
{
    size_t n, whole = 0;
    char *text = read_file(path, &n);
    for (size_t line = 1; whole < n; line++) {
        const char *end = memchr(text + whole, '\n', n - whole);
        if (!end) break;
        const size_t length = (size_t)(end - (text + whole));
        json_error_t e;
        json_t *answer = json_loadb(text + whole, length, 0, &e);
        if (!json_is_integer(json_object_get(answer, "question_id")))
            run_die("%s: line %zu is no answer: remove the line, it will be asked again", path,
                    line);
        each(ctx, answer, path, line);
        json_decref(answer);
        whole += length + 1;
    }
    free(text);
    return whole;
}

typedef struct known {
    spec_store *s;
    int lap, method;
} known;

static void mark(void *ctx, const json_t *answer, const char *path, size_t line)
{
    known *k = ctx;
    const long long id = json_integer_value(json_object_get(answer, "question_id"));
    for (size_t i = 0; i < k->s->q->n; i++) {
        if (k->s->q->at[i].id != id) continue;
        bool *have = slot(k->s, k->lap, k->method, i);
        if (*have)
            run_die("%s: line %zu answers question %lld again: remove one of the two", path, line,
                    id);
        *have = true;
        return;
    }
    run_die("%s: line %zu answers question %lld, which is not asked: remove the line", path, line,
            id);
}

static void read_answers(spec_store *s)
{
    for (int lap = 0; lap < s->o->repeat; lap++)
        for (int method = 0; method < s->o->n_methods; method++) {
            char path[PATH];
            spec_answers_path(path, sizeof path, s->o->out, lap, s->o->methods[method].name);
            const size_t whole =
                spec_answers_read(path, mark, &(known){.s = s, .lap = lap, .method = method});
            struct stat st;
            if (stat(path, &st) != 0 || (size_t)st.st_size == whole) continue;
            if (truncate(path, (off_t)whole) != 0)
                run_die("%s cannot be written: %s", path, strerror(errno));
            run_say("%s: the last line is torn: cut off, its question is asked again", path);
        }
}

/* ---- settings */

static void print_value(char *out, size_t n, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    snprintf(out, n, "%s",
             json_is_string(value) ? json_string_value(value)
             : text                ? text
                                   : "nothing");
    free(text);
}

static void compare(const char *dir, const json_t *was, const json_t *is)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)is, key, value)
    {
        const json_t *old = json_object_get(was, key);
        if (json_equal(old, value)) continue;
        char a[256], b[256];
        print_value(a, sizeof a, old);
        print_value(b, sizeof b, value);
        run_die("%s was made with %s %s, not %s: give another --out, or the options it was made "
                "with",
                dir, key, a, b);
    }
}

static void refuse_strangers(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d) run_die("%s cannot be read: %s", dir, strerror(errno));
    for (const struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            strcmp(e->d_name, "settings.json.part") != 0)
            run_die("%s holds other files and no settings.json: give a new folder", dir);
    closedir(d);
}

static void write_settings(const char *dir, const json_t *settings)
{
    char *text = json_dumps(settings, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    if (!text) run_die("no memory for the settings");
    spec_store_write(dir, "settings.json", text, strlen(text));
    free(text);
}

static void open_settings(const char *dir, const json_t *settings)
{
    char path[PATH];
    path_in(path, sizeof path, dir, "settings.json");
    json_error_t e;
    json_t *was = json_load_file(path, 0, &e);
    if (was) {
        compare(dir, json_object_get(was, "settings"), json_object_get(settings, "settings"));
        json_decref(was);
        return;
    }
    if (access(path, F_OK) == 0)
        run_die("%s is no settings file of specbench: give another --out", path);
    refuse_strangers(dir);
    write_settings(dir, settings);
}

static void make_folder(const char *path)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        run_die("%s cannot be made: %s", path, strerror(errno));
}

spec_store *spec_store_open(const spec_options *o, const questions *q, const json_t *settings)
{
    spec_store *s = calloc(1, sizeof *s);
    if (s) s->done = calloc((size_t)(o->repeat * o->n_methods) * q->n, sizeof *s->done);
    if (!s || !s->done) run_die("no memory for %zu questions", q->n);
    s->o = o;
    s->q = q;
    make_folder(o->out);
    s->lock = open(o->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->lock < 0) run_die("%s cannot be opened: %s", o->out, strerror(errno));
    if (flock(s->lock, LOCK_EX | LOCK_NB) != 0)
        run_die("%s is in use by another specbench: wait for it, or give another --out", o->out);
    open_settings(o->out, settings);
    for (int lap = 0; lap < o->repeat; lap++) {
        char name[32], path[PATH];
        snprintf(name, sizeof name, "run_%d", lap + 1);
        path_in(path, sizeof path, o->out, name);
        make_folder(path);
    }
    sync_folder(o->out);
    read_answers(s);
    return s;
}

void spec_store_close(spec_store *s)
{
    if (!s) return;
    close(s->lock);
    free(s->done);
    free(s);
}

bool spec_store_has(const spec_store *s, int lap, int method, size_t i)
{
    return *slot(s, lap, method, i);
}
