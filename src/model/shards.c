/* SPDX-License-Identifier: Apache-2.0
 *
 * Models in several files. Every part is a GGUF file with the keys split.no (from 0), split.count
 * and split.tensors.count; the first has the model's other keys too. Their names differ in the
 * number alone: NAME-00001-of-00003.gguf. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "model/gguf.h"

enum {
    MAX_SHARDS = 1000,
    MAX_TENSORS = 1 << 30, /* of split.tensors.count: what is there is counted and compared */
    SUFFIX = 20,           /* strlen("-00001-of-00003.gguf") */
};

typedef struct {
    const ftk_host *host;
    char *path;       /* of the part in hand */
    size_t n;         /* its length */
    int count;        /* of parts */
    ftk_gguf **parts; /* [count] NULL: not opened yet */
} set;

#define SHOW_PATH(s) ftk_gguf_show_path((char[256]){0}, 256, (s)->path)

/* An integer key of a part, in [0, max]. absent: what a missing one means; -1: an error. */
static ftk_err read_number(const set *s, const ftk_gguf *g, const char *key, int max, int absent,
                           int *out)
{
    return ftk_gguf_int(g, key, 0, max, absent, out, SHOW_PATH(s), s->host);
}

static void suffix_of(const set *s, int part, char *buf, size_t cap)
{
    snprintf(buf, cap, "-%05d-of-%05d.gguf", part + 1, s->count);
}

/* Whether a part's own keys put it in this place. */
static ftk_err check_place(const set *s, const ftk_gguf *g, int place)
{
    char suffix[40];
    int no, count;
    ftk_err err = read_number(s, g, "split.count", MAX_SHARDS, -1, &count);
    if (err == FTK_OK && count != s->count)
        return ftk_fail(s->host, FTK_ERR_FORMAT,
                        "%s: split.count is %d, in another part of the model it is %d",
                        SHOW_PATH(s), count, s->count);
    if (err == FTK_OK) err = read_number(s, g, "split.no", MAX_SHARDS, -1, &no);
    if (err != FTK_OK || no == place) return err;
    suffix_of(s, no, suffix, sizeof suffix);
    return ftk_fail(s->host, FTK_ERR_FORMAT,
                    "%s: it is part %d of %d (split.no %d), so its name must end in %s",
                    SHOW_PATH(s), no + 1, s->count, no, suffix);
}

/* The place the path's name gives the part, in *place. */
static ftk_err place_by_name(const set *s, int *place)
{
    char suffix[40];
    const char *end = s->n >= SUFFIX ? s->path + s->n - SUFFIX : "";
    for (*place = 0; *place < s->count; ++*place) {
        suffix_of(s, *place, suffix, sizeof suffix);
        if (strcmp(end, suffix) == 0) return FTK_OK;
    }
    suffix_of(s, 0, suffix, sizeof suffix);
    return ftk_fail(s->host, FTK_ERR_FORMAT,
                    "%s: it is one of %d parts of a model, which are found by their names: they "
                    "must end in %s and so on",
                    SHOW_PATH(s), s->count, suffix);
}

/* The path of a part becomes the one in hand. */
static void take_in_hand(set *s, int i)
{
    char suffix[40];
    suffix_of(s, i, suffix, sizeof suffix);
    memcpy(s->path + s->n - SUFFIX, suffix, SUFFIX);
}

static ftk_err open_part(set *s, int i)
{
    take_in_hand(s, i);
    if (!s->parts[i]) {
        if (access(s->path, F_OK) != 0 && errno == ENOENT)
            return ftk_fail(s->host, FTK_ERR_IO,
                            "%s: part %d of %d of the model is missing: put it beside the others",
                            SHOW_PATH(s), i + 1, s->count);
        const ftk_err err = ftk_gguf_open_file(&s->parts[i], s->path, s->host);
        if (err != FTK_OK) return err;
    }
    return check_place(s, s->parts[i], i);
}

/* Opens the other parts and joins all of them. */
static ftk_err open_others(set *s, const char *given)
{
    size_t tensors = 0;
    int wanted;
    for (int i = 0; i < s->count; i++) {
        const ftk_err err = open_part(s, i);
        if (err != FTK_OK) return err;
        tensors += ftk_gguf_n_tensors(s->parts[i]);
    }
    take_in_hand(s, 0);
    ftk_err err = read_number(s, s->parts[0], "split.tensors.count", MAX_TENSORS, -1, &wanted);
    if (err == FTK_OK && tensors != (size_t)wanted)
        return ftk_fail(s->host, FTK_ERR_FORMAT,
                        "%s: its %d parts hold %zu tensors, split.tensors.count is %d",
                        SHOW_PATH(s), s->count, tensors, wanted);
    return err == FTK_OK ? ftk_gguf_join(s->parts[0], s->parts + 1, (size_t)s->count - 1, given)
                         : err;
}

/* g: the part at `path`; it is the set's from here on. */
static ftk_err open_set(ftk_gguf **out, ftk_gguf *g, int count, const char *path,
                        const ftk_host *host)
{
    set s = {.host = host, .n = strlen(path), .count = count};
    s.path = ftk_alloc(host, s.n + 1, 1);
    s.parts = ftk_alloc(host, (size_t)count, sizeof *s.parts);
    int place;
    ftk_err err = FTK_OK;
    if (s.path && s.parts)
        memcpy(s.path, path, s.n);
    else
        err = ftk_fail(host, FTK_ERR_NOMEM, "no memory for %d parts of a model", count);
    if (err == FTK_OK) err = place_by_name(&s, &place);
    if (err == FTK_OK) {
        s.parts[place] = g;
        g = NULL;
        err = open_others(&s, path);
    }
    if (err == FTK_OK)
        *out = s.parts[0];
    else
        ftk_gguf_free(g);
    for (int i = 0; s.parts && i < count && err != FTK_OK; i++) ftk_gguf_free(s.parts[i]);
    ftk_release(host, s.parts);
    ftk_release(host, s.path);
    return err;
}

ftk_err ftk_gguf_open(ftk_gguf **out, const char *path, const ftk_host *host)
{
    *out = NULL;
    ftk_gguf *g;
    int count;
    ftk_err err = ftk_gguf_open_file(&g, path, host);
    if (err != FTK_OK) return err;
    const set alone = {.host = host, .path = (char *)(uintptr_t)path};
    err = read_number(&alone, g, "split.count", MAX_SHARDS, 1, &count);
    if (err != FTK_OK)
        ftk_gguf_free(g);
    else if (count > 1)
        err = open_set(out, g, count, path, host);
    else
        *out = g;
    return err;
}
