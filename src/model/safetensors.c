/* SPDX-License-Identifier: Apache-2.0
 * Safetensors files. Nothing in them is trusted. */
#include "model/safetensors.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/sort.h"
#include "base/str.h"
#include "model/gguf.h"
#include "model/json.h"

enum { LENGTH = 8, LONGEST = 100000000 /* the format's own bound of a header */ };

static const struct {
    const char *name;
    int bits;
    ftk_dtype dtype;
} types[] = {
    {"BOOL", 8, FTK_DTYPE_BOOL},     {"U8", 8, FTK_DTYPE_OTHER},
    {"I8", 8, FTK_DTYPE_OTHER},      {"F8_E5M2", 8, FTK_DTYPE_OTHER},
    {"F8_E4M3", 8, FTK_DTYPE_OTHER}, {"F8_E8M0", 8, FTK_DTYPE_OTHER},
    {"I16", 16, FTK_DTYPE_OTHER},    {"U16", 16, FTK_DTYPE_OTHER},
    {"F16", 16, FTK_DTYPE_F16},      {"BF16", 16, FTK_DTYPE_BF16},
    {"I32", 32, FTK_DTYPE_I32},      {"U32", 32, FTK_DTYPE_OTHER},
    {"F32", 32, FTK_DTYPE_F32},      {"F64", 64, FTK_DTYPE_F64},
    {"I64", 64, FTK_DTYPE_I64},      {"U64", 64, FTK_DTYPE_OTHER},
};

typedef struct reader {
    ftk_safetensors *s;
    const char *path;
    const ftk_host *host;
    ftk_json json;
    uint64_t size; /* of all tensors */
    const char *tensors;
} reader;

static ftk_err bad(const reader *r, ftk_str name, const char *why)
{
    return FTK_FAIL(r, FORMAT, "tensor %s %s", FTK_SHOW(name), why);
}

/* A whole number from 0 to 2^53. */
static bool whole(const ftk_json_value *v, uint64_t *out)
{
    if (!v || v->kind != FTK_JSON_NUMBER || !v->whole || v->number < 0) return false;
    *out = (uint64_t)v->number;
    return true;
}

static ftk_err read_type(const reader *r, const ftk_json_value *v, ftk_safetensor *t, int *bits)
{
    const ftk_json_value *type = ftk_json_get(&r->json, v, "dtype");
    if (!type || type->kind != FTK_JSON_STRING) return bad(r, t->name, "has no dtype");
    t->type = type->text;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!ftk_str_is(type->text, types[i].name)) continue;
        t->dtype = types[i].dtype;
        *bits = types[i].bits;
        return FTK_OK;
    }
    return bad(r, t->name, "has a dtype that is not known");
}

static ftk_err read_shape(const reader *r, const ftk_json_value *v, ftk_safetensor *t,
                          uint64_t *elements)
{
    const ftk_json_value *shape = ftk_json_get(&r->json, v, "shape");
    if (!shape || shape->kind != FTK_JSON_ARRAY || shape->count > 4)
        return bad(r, t->name, "has no shape of up to 4 sizes");
    *elements = 1;
    for (int i = 0; i < 4; i++) t->dims[i] = 1;
    const ftk_json_value *d = ftk_json_first(&r->json, shape);
    for (; d; d = ftk_json_next(&r->json, d)) {
        uint64_t *const size = &t->dims[t->n_dims++];
        if (!whole(d, size)) return bad(r, t->name, "has a size that is no whole number");
        if (__builtin_mul_overflow(*elements, *size, elements))
            return bad(r, t->name, "is larger than any file");
    }
    return FTK_OK;
}

static ftk_err read_place(const reader *r, const ftk_json_value *v, ftk_safetensor *t,
                          uint64_t bytes)
{
    const ftk_json_value *at = ftk_json_get(&r->json, v, "data_offsets");
    const ftk_json_value *from =
        at && at->kind == FTK_JSON_ARRAY && at->count == 2 ? ftk_json_first(&r->json, at) : NULL;
    uint64_t end;
    if (!from || !whole(from, &t->offset) || !whole(ftk_json_next(&r->json, from), &end))
        return bad(r, t->name, "has no two data_offsets");
    if (end < t->offset || end > r->size)
        return bad(r, t->name, "ends outside of the file: is it cut short? Get it again");
    t->size = end - t->offset;
    if (t->size != bytes) return bad(r, t->name, "has data_offsets that do not fit its shape");
    t->data = r->tensors + t->offset;
    return FTK_OK;
}

static ftk_err read_tensor(const reader *r, const ftk_json_value *v, ftk_safetensor *t)
{
    uint64_t elements = 0;
    int bits = 0;
    *t = (ftk_safetensor){.name = v->name};
    if (v->kind != FTK_JSON_OBJECT) return bad(r, t->name, "is no JSON object");
    ftk_err err = read_type(r, v, t, &bits);
    if (err == FTK_OK) err = read_shape(r, v, t, &elements);
    if (err != FTK_OK) return err;
    uint64_t bytes;
    if (__builtin_mul_overflow(elements, (uint64_t)bits / 8, &bytes))
        return bad(r, t->name, "is larger than any file");
    return read_place(r, v, t, bytes);
}

static int by_name(const void *a, const void *b, const void *ctx)
{
    (void)ctx;
    const ftk_str x = (*(ftk_safetensor *const *)a)->name, y = (*(ftk_safetensor *const *)b)->name;
    const int c = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    return c ? c : (x.n > y.n) - (x.n < y.n);
}

static int by_place(const void *a, const void *b, const void *ctx)
{
    (void)ctx;
    const ftk_safetensor *const x = *(ftk_safetensor *const *)a, *const y =
                                                                     *(ftk_safetensor *const *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

/* Each begins where the one before it ends. */
static ftk_err check_places(const reader *r)
{
    ftk_safetensors *const s = r->s;
    uint64_t at = 0;
    ftk_sort(s->by_name, s->n, sizeof *s->by_name, by_place, NULL);
    for (size_t i = 0; i < s->n; i++) {
        if (s->by_name[i]->offset != at)
            return bad(r, s->by_name[i]->name, "does not begin where the one before it ends");
        at += s->by_name[i]->size;
    }
    if (at != r->size)
        return FTK_FAIL(r, FORMAT,
                        "holds %" PRIu64 " bytes of tensors, its header speaks of %" PRIu64
                        ": get it again",
                        r->size, at);
    ftk_sort(s->by_name, s->n, sizeof *s->by_name, by_name, NULL);
    for (size_t i = 1; i < s->n; i++)
        if (by_name(&s->by_name[i - 1], &s->by_name[i], NULL) == 0)
            return bad(r, s->by_name[i]->name, "is there twice");
    return FTK_OK;
}

static ftk_err read_all(reader *r)
{
    const ftk_json_value *const all = &r->json.values[0];
    ftk_safetensors *const s = r->s;
    if (all->kind != FTK_JSON_OBJECT) return FTK_FAIL(r, FORMAT, "its header is no JSON object");
    s->items = ftk_alloc(r->host, (size_t)all->count, sizeof *s->items);
    s->by_name = ftk_alloc(r->host, (size_t)all->count, sizeof *s->by_name);
    if (!s->items || !s->by_name) return FTK_FAIL(r, NOMEM, "no memory to open it");
    const ftk_json_value *v = ftk_json_first(&r->json, all);
    for (; v; v = ftk_json_next(&r->json, v)) {
        if (ftk_str_is(v->name, "__metadata__")) continue;
        s->by_name[s->n] = &s->items[s->n];
        const ftk_err err = read_tensor(r, v, &s->items[s->n++]);
        if (err != FTK_OK) return err;
    }
    return check_places(r);
}

/* The length that the first bytes state. */
static ftk_err read_length(const reader *r, uint64_t *n)
{
    const ftk_mapped *const f = &r->s->file;
    const char *const what = ftk_gguf_not(f->p, f->n);
    *n = 0;
    for (int i = 0; i < LENGTH && f->n >= LENGTH; i++)
        *n |= (uint64_t)(unsigned char)f->p[i] << 8 * i;
    if (f->n >= LENGTH && *n >= 2 && *n <= LONGEST && *n <= f->n - LENGTH && f->p[LENGTH] == '{')
        return FTK_OK;
    if (f->n >= LENGTH && *n <= LONGEST && *n > f->n - LENGTH && what &&
        strstr(what, "safetensors"))
        return FTK_FAIL(r, FORMAT, "is cut off in its header: get it again");
    return FTK_FAIL(r, FORMAT, "is no safetensors file%s%s",
                    what && !strstr(what, "safetensors") ? ": it is " : "",
                    what && !strstr(what, "safetensors") ? what : "");
}

ftk_err ftk_safetensors_open(ftk_safetensors *s, const char *path, const ftk_host *host)
{
    *s = (ftk_safetensors){0};
    reader r = {.s = s, .path = path, .host = host};
    uint64_t n;
    ftk_err err = ftk_mapped_open(&s->file, path, path, host);
    if (err == FTK_OK) err = read_length(&r, &n);
    if (err == FTK_OK) {
        r.tensors = s->file.p + LENGTH + n;
        r.size = s->file.n - LENGTH - n;
        err = ftk_json_read(&r.json, s->file.p + LENGTH, (size_t)n, path, host);
        if (err == FTK_OK) err = read_all(&r);
        ftk_json_free(&r.json, host);
    }
    if (err != FTK_OK) ftk_safetensors_close(s, host);
    return err;
}

void ftk_safetensors_close(ftk_safetensors *s, const ftk_host *host)
{
    ftk_release(host, s->by_name);
    ftk_release(host, s->items);
    ftk_mapped_close(&s->file);
    *s = (ftk_safetensors){0};
}

const ftk_safetensor *ftk_safetensors_find(const ftk_safetensors *s, const char *name)
{
    size_t from = 0, to = s->n;
    ftk_safetensor wanted = {.name = {name, strlen(name)}}, *const key = &wanted;
    while (from < to) {
        const size_t mid = (from + to) / 2;
        const int c = by_name(&key, &s->by_name[mid], NULL);
        if (c == 0) return s->by_name[mid];
        *(c < 0 ? &to : &from) = c < 0 ? mid : mid + 1;
    }
    return NULL;
}
