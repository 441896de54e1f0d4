/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF files, version 2 and 3: map, check every bound once, then hand out views.
 *
 * Layout: header | keys and values | tensor records | padding | tensor data. Opening walks the
 * first three once and keeps a record per key and per tensor; after that nothing is checked again.
 * Bounds are always compared as `n <= left`, never as `p + n <= end`, which could wrap.
 * Format: github.com/ggml-org/ggml, docs/gguf.md. */
#include "model/gguf.h"

#include "base/folder.h"
#include "base/mapped.h"
#include "base/mem.h"
#include "base/sort.h"
#include "base/str.h"
#include "base/utf8.h"
#include "kernels/kernels.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF files are little-endian and mapped as they are"
#endif

enum {
    HEADER_BYTES = 4 + 4 + 8 + 8,
    MIN_KEY_BYTES = 8 + 1 + 4 + 1,            /* a one-letter key with a one-byte value */
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* a one-letter name, one dimension */
    MAX_RECORDS = 1 << 18,                    /* far above any model; bounds the index */
    MAX_KEY = 65535,
    MAX_TENSOR_NAME = 64,
    DEFAULT_ALIGNMENT = 32,
    MIN_ALIGNMENT = 8,
    MAX_ALIGNMENT = 1 << 20,
};

typedef struct key_record {
    ftk_str name;
    ftk_gguf_type type, elem;
    uint64_t count;
    const unsigned char *data; /* of the value; for a string its first byte, count its length */
} key_record;

struct ftk_gguf {
    ftk_host host;
    ftk_mapped file;
    uint32_t version;
    uint64_t alignment;
    size_t n_keys, n_tensors;
    key_record *keys;          /* [n_keys], file order */
    ftk_tensor_info *tensors;  /* [n_tensors], file order */
    uint32_t *keys_by_name;    /* [n_keys] */
    uint32_t *tensors_by_name; /* [n_tensors] */
    struct ftk_gguf **others;  /* [n_others] the parts behind this one, in order */
    size_t n_others;
};

/* What only opening needs. */
typedef struct reader {
    ftk_gguf *g;
    const ftk_host *host;
    char path[256]; /* as shown in messages */
    const unsigned char *p, *end;
} reader;

/* ------------------------------------------------------------------ words for messages */

const char *ftk_gguf_refuse_type(char *buf, size_t cap, uint32_t type)
{
    const ftk_type_entry *const t = ftk_type_find(type);
    if (t->name)
        snprintf(buf, cap, "%s, which %s", t->name,
                 t->state == FTK_TYPE_REMOVED ? "was removed from the format" : "is not supported");
    else
        snprintf(buf, cap, "%" PRIu32 ", which is newer than this build", type);
    return buf;
}

/* Text without NUL or broken characters. */
static bool is_text(ftk_str s)
{
    for (size_t i = 0; i < s.n;) {
        const int n = ftk_utf8_step(s.p + i, s.n - i);
        if (n <= 0 || s.p[i] == 0) return false;
        i += (size_t)n;
    }
    return true;
}

const char *ftk_gguf_show(char *buf, size_t cap, ftk_str s)
{
    ftk_show(s.p, s.n, 0, buf, cap);
    return buf;
}

/* A long path keeps its end, which says more than its start. */
const char *ftk_gguf_show_path(char *buf, size_t cap, const char *path)
{
    const size_t n = strlen(path), keep = 200, dots = n > keep ? 3 : 0;
    const char *from = n > keep ? path + n - keep : path;
    while (dots && ((unsigned char)*from & 0xC0) == 0x80) from++;
    memcpy(buf, "...", dots);
    ftk_gguf_show(buf + dots, cap - dots, (ftk_str){from, strlen(from)});
    return buf;
}

const char *ftk_gguf_type_name(ftk_gguf_type type)
{
    static const char *const names[FTK_GGUF_N_TYPES] = {
        "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
        "bool", "string", "array", "u64", "i64", "f64",
    };
    return names[type];
}

/* ------------------------------------------------------------------ order, for look-ups */

static int compare_str(ftk_str a, ftk_str b)
{
    const int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* Keys or tensors: structs that begin with their names. */
typedef struct table {
    const void *items; /* [n] of `size` bytes */
    size_t size, n;
    uint32_t *by_name; /* [n] */
} table;

_Static_assert(offsetof(key_record, name) == 0 && offsetof(ftk_tensor_info, name) == 0,
               "names come first");

static table keys_of(const ftk_gguf *g)
{
    return (table){g->keys, sizeof *g->keys, g->n_keys, g->keys_by_name};
}

static table tensors_of(const ftk_gguf *g)
{
    return (table){g->tensors, sizeof *g->tensors, g->n_tensors, g->tensors_by_name};
}

static const void *item_at(const table *t, uint32_t i)
{
    return (const char *)t->items + i * t->size;
}

static int compare_names(const void *a, const void *b, const void *ctx)
{
    const ftk_str *const x = item_at(ctx, *(const uint32_t *)a);
    const ftk_str *const y = item_at(ctx, *(const uint32_t *)b);
    return compare_str(*x, *y);
}

static int compare_offsets(const void *a, const void *b, const void *ctx)
{
    const ftk_tensor_info *tensors = ((const ftk_gguf *)ctx)->tensors;
    const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    const uint64_t x = tensors[i].offset, y = tensors[j].offset;
    return x != y ? (x > y) - (x < y) : (i < j) - (i > j);
}

/* The numbers 0..n-1 in the order of compare. */
static void sort_index(const void *ctx, ftk_compare *compare, uint32_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++) v[i] = (uint32_t)i;
    ftk_sort(v, n, sizeof *v, compare, ctx);
}

/* Sorts by name; returns the first two numbers of a name that is there twice, or NULL. */
static const uint32_t *sort_names(const table *t)
{
    sort_index(t, compare_names, t->by_name, t->n);
    for (size_t i = 1; i < t->n; i++)
        if (compare_names(&t->by_name[i - 1], &t->by_name[i], t) == 0) return &t->by_name[i - 1];
    return NULL;
}

static const void *find_name(table t, const char *name)
{
    const ftk_str wanted = ftk_str_of(name);
    for (size_t lo = 0, hi = t.n; lo < hi;) {
        const size_t mid = lo + (hi - lo) / 2;
        const ftk_str *const item = item_at(&t, t.by_name[mid]);
        const int c = compare_str(wanted, *item);
        if (c == 0) return item;
        *(c < 0 ? &hi : &lo) = c < 0 ? mid : mid + 1;
    }
    return NULL;
}

/* ------------------------------------------------------------------ reading */

static size_t left(const reader *r)
{
    return (size_t)(r->end - r->p);
}

/* The caller has checked that the bytes are there. */
static uint32_t take_u32(reader *r)
{
    uint32_t v;
    memcpy(&v, r->p, sizeof v);
    r->p += sizeof v;
    return v;
}

static uint64_t take_u64(reader *r)
{
    uint64_t v;
    memcpy(&v, r->p, sizeof v);
    r->p += sizeof v;
    return v;
}

/* A length and as many bytes; false when the file ends before them. */
static bool take_str(reader *r, ftk_str *s)
{
    if (left(r) < 8) return false;
    const uint64_t n = take_u64(r);
    if (n > left(r)) return false;
    *s = (ftk_str){(const char *)r->p, (size_t)n};
    r->p += n;
    return true;
}

/* Large files were handed round in pieces: model.gguf-split-a, model.gguf.part1of3. */
static bool is_piece(const reader *r)
{
    const char *end = strstr(r->path, ".gguf");
    for (const char *next = end; next; next = strstr(next + 1, ".gguf")) end = next;
    return end && (strstr(end, "-split-") || strstr(end, ".part") || strstr(end, "-part"));
}

/* Goes behind what says that the file ends too early; damage looks the same. */
static const char *cut_short(const reader *r)
{
    return is_piece(r) ? ": is the file cut short? Join its pieces with cat"
                       : ": is the file cut short? Get it again";
}

static ftk_err cut_off(reader *r, const char *what, ftk_str name)
{
    return FTK_FAIL(r, FORMAT, "%s %s: it is cut off by the end of the file%s", what,
                    FTK_SHOW(name), cut_short(r));
}

/* Bytes of a value of fixed size; 0 for strings and arrays. */
static size_t value_size(ftk_gguf_type type)
{
    static const unsigned char sizes[FTK_GGUF_N_TYPES] = {
        [FTK_GGUF_U8] = 1,  [FTK_GGUF_I8] = 1,  [FTK_GGUF_U16] = 2, [FTK_GGUF_I16] = 2,
        [FTK_GGUF_U32] = 4, [FTK_GGUF_I32] = 4, [FTK_GGUF_F32] = 4, [FTK_GGUF_BOOL] = 1,
        [FTK_GGUF_U64] = 8, [FTK_GGUF_I64] = 8, [FTK_GGUF_F64] = 8,
    };
    return sizes[type];
}

static ftk_err read_strings(reader *r, const key_record *k)
{
    for (uint64_t i = 0; i < k->count; i++) {
        ftk_str s;
        if (!take_str(r, &s))
            return FTK_FAIL(r, FORMAT,
                            "key %s: string %" PRIu64 " of %" PRIu64
                            " ends beyond the end of the file%s",
                            FTK_SHOW(k->name), i, k->count, cut_short(r));
    }
    return FTK_OK;
}

/* count values of a fixed size: a plain value is an array of one. */
static ftk_err read_fixed(reader *r, const key_record *k)
{
    const size_t size = value_size(k->elem);
    if (k->count > left(r) / size)
        return FTK_FAIL(r, FORMAT,
                        "key %s: %" PRIu64 " values of type %s do not fit into the %zu bytes"
                        " left in the file%s",
                        FTK_SHOW(k->name), k->count, ftk_gguf_type_name(k->elem), left(r),
                        cut_short(r));
    if (k->elem == FTK_GGUF_BOOL)
        for (uint64_t i = 0; i < k->count; i++)
            if (r->p[i] > 1)
                return FTK_FAIL(r, FORMAT, "key %s: %u is not a bool", FTK_SHOW(k->name),
                                (unsigned)r->p[i]);
    r->p += (size_t)k->count * size;
    return FTK_OK;
}

static ftk_err read_array(reader *r, key_record *k)
{
    if (left(r) < 4 + 8) return cut_off(r, "key", k->name);
    const uint32_t elem = take_u32(r);
    k->count = take_u64(r);
    k->data = r->p;
    if (elem == FTK_GGUF_ARRAY)
        return FTK_FAIL(r, UNSUPPORTED, "key %s: an array of arrays is not supported",
                        FTK_SHOW(k->name));
    if (elem >= FTK_GGUF_N_TYPES)
        return FTK_FAIL(r, FORMAT, "key %s: an array of unknown value type %" PRIu32,
                        FTK_SHOW(k->name), elem);
    k->elem = (ftk_gguf_type)elem;
    if (k->elem != FTK_GGUF_STRING) return read_fixed(r, k);
    if (k->count > left(r) / 8)
        return FTK_FAIL(r, FORMAT,
                        "key %s: %" PRIu64 " strings do not fit into the %zu bytes left in"
                        " the file%s",
                        FTK_SHOW(k->name), k->count, left(r), cut_short(r));
    return read_strings(r, k);
}

static ftk_err read_value(reader *r, key_record *k)
{
    if (left(r) < 4) return cut_off(r, "key", k->name);
    const uint32_t type = take_u32(r);
    if (type >= FTK_GGUF_N_TYPES)
        return FTK_FAIL(r, FORMAT, "key %s: unknown value type %" PRIu32, FTK_SHOW(k->name), type);
    k->type = k->elem = (ftk_gguf_type)type;
    if (k->type == FTK_GGUF_ARRAY) return read_array(r, k);
    if (k->type == FTK_GGUF_STRING) {
        ftk_str s;
        if (!take_str(r, &s))
            return FTK_FAIL(r, FORMAT, "key %s: its string ends beyond the end of the file%s",
                            FTK_SHOW(k->name), cut_short(r));
        k->data = (const unsigned char *)s.p;
        k->count = s.n;
        return FTK_OK;
    }
    k->data = r->p;
    k->count = 1;
    if (left(r) < value_size(k->type)) return cut_off(r, "key", k->name);
    return read_fixed(r, k);
}

static ftk_err read_key(reader *r, size_t i)
{
    key_record *k = &r->g->keys[i];
    if (!take_str(r, &k->name))
        return FTK_FAIL(r, FORMAT,
                        "key number %zu of %zu: its name ends beyond the end of the file%s", i,
                        r->g->n_keys, cut_short(r));
    if (k->name.n == 0 || k->name.n > MAX_KEY)
        return FTK_FAIL(r, FORMAT,
                        "key number %zu of %zu: a name of %zu bytes, allowed are 1 to %d", i,
                        r->g->n_keys, k->name.n, MAX_KEY);
    if (!is_text(k->name))
        return FTK_FAIL(r, FORMAT, "key %s: the name is not valid UTF-8 text", FTK_SHOW(k->name));
    return read_value(r, k);
}

static ftk_err read_keys(reader *r)
{
    ftk_gguf *g = r->g;
    for (size_t i = 0; i < g->n_keys; i++) {
        const ftk_err err = read_key(r, i);
        if (err != FTK_OK) return err;
    }
    const table keys = keys_of(g);
    const uint32_t *const twice = sort_names(&keys);
    return twice ? FTK_FAIL(r, FORMAT, "key %s: it is there twice", FTK_SHOW(g->keys[*twice].name))
                 : FTK_OK;
}

static ftk_err read_alignment(reader *r)
{
    r->g->alignment = DEFAULT_ALIGNMENT;
    ftk_gguf_value v;
    if (!ftk_gguf_find(r->g, "general.alignment", &v)) return FTK_OK;
    if (v.type != FTK_GGUF_U32)
        return FTK_FAIL(r, FORMAT, "key general.alignment: its type is %s, it must be u32",
                        ftk_gguf_type_name(v.type));
    if (v.u < MIN_ALIGNMENT || v.u > MAX_ALIGNMENT || (v.u & (v.u - 1)))
        return FTK_FAIL(r, FORMAT,
                        "key general.alignment: %" PRIu64 " is not a power of two from %d to %d",
                        v.u, MIN_ALIGNMENT, MAX_ALIGNMENT);
    r->g->alignment = v.u;
    return FTK_OK;
}

/* Shape and type to bytes; 0 where the type's layout is not known. */
static ftk_err size_tensor(reader *r, ftk_tensor_info *t)
{
    uint64_t n = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        if (t->dims[d] == 0)
            return FTK_FAIL(r, FORMAT, "tensor %s: dimension %" PRIu32 " is 0", FTK_SHOW(t->name),
                            d);
        if (t->dims[d] > INT64_MAX / n)
            return FTK_FAIL(r, FORMAT, "tensor %s: the product of its dimensions passes 2^63",
                            FTK_SHOW(t->name));
        n *= t->dims[d];
    }
    const ftk_type_entry *const l = ftk_type_find(t->type);
    if (l->block == 0) return FTK_OK;
    if (t->dims[0] % l->block)
        return FTK_FAIL(r, FORMAT,
                        "tensor %s: its rows of %" PRIu64
                        " elements are no multiple of the type's block of %u",
                        FTK_SHOW(t->name), t->dims[0], (unsigned)l->block);
    if (n / l->block > INT64_MAX / l->bytes)
        return FTK_FAIL(r, FORMAT, "tensor %s: its size in bytes passes 2^63", FTK_SHOW(t->name));
    t->size = n / l->block * l->bytes;
    return FTK_OK;
}

static ftk_err read_tensor(reader *r, size_t i)
{
    ftk_tensor_info *t = &r->g->tensors[i];
    if (!take_str(r, &t->name))
        return FTK_FAIL(r, FORMAT,
                        "tensor number %zu of %zu: its name ends beyond the end of the file%s", i,
                        r->g->n_tensors, cut_short(r));
    if (t->name.n == 0 || t->name.n > MAX_TENSOR_NAME)
        return FTK_FAIL(r, FORMAT,
                        "tensor number %zu of %zu: a name of %zu bytes, allowed are 1 to %d", i,
                        r->g->n_tensors, t->name.n, MAX_TENSOR_NAME);
    if (!is_text(t->name))
        return FTK_FAIL(r, FORMAT, "tensor %s: the name is not valid UTF-8 text",
                        FTK_SHOW(t->name));
    if (left(r) < 4) return cut_off(r, "tensor", t->name);
    t->n_dims = take_u32(r);
    if (t->n_dims < 1 || t->n_dims > 4)
        return FTK_FAIL(r, FORMAT, "tensor %s: it has %" PRIu32 " dimensions, allowed are 1 to 4",
                        FTK_SHOW(t->name), t->n_dims);
    if (left(r) < t->n_dims * 8u + 4 + 8) return cut_off(r, "tensor", t->name);
    for (uint32_t d = 0; d < 4; d++) t->dims[d] = d < t->n_dims ? take_u64(r) : 1;
    t->type = take_u32(r);
    t->offset = take_u64(r); /* from the start of the data section, until place_tensors() */
    return size_tensor(r, t);
}

/* What a tensor has at least. */
static uint64_t least_size(const ftk_tensor_info *t)
{
    return t->size ? t->size : 1;
}

/* data_left: bytes of the data section. */
static ftk_err check_place(reader *r, const ftk_tensor_info *t, uint64_t data_left)
{
    if (t->offset % r->g->alignment)
        return FTK_FAIL(r, FORMAT,
                        "tensor %s: offset %" PRIu64 " is not a multiple of the alignment %" PRIu64,
                        FTK_SHOW(t->name), t->offset, r->g->alignment);
    if (t->offset > data_left || (t->size == 0 && t->offset == data_left))
        return FTK_FAIL(r, FORMAT,
                        "tensor %s: offset %" PRIu64 " lies beyond the %" PRIu64 " bytes of data%s",
                        FTK_SHOW(t->name), t->offset, data_left, cut_short(r));
    const uint64_t there = data_left - t->offset;
    if (t->size > there)
        return FTK_FAIL(r, FORMAT,
                        "tensor %s: %" PRIu64 " of its %" PRIu64
                        " bytes are missing: the file is cut short, %s",
                        FTK_SHOW(t->name), t->size - there, t->size,
                        is_piece(r) ? "join its pieces with cat" : "get it again");
    return FTK_OK;
}

/* Offsets become those of the file. */
static ftk_err place_tensors(reader *r)
{
    ftk_gguf *g = r->g;
    const size_t header = g->file.n - left(r);
    const size_t pad = (size_t)(-(uint64_t)header & (g->alignment - 1));
    const uint64_t start = pad < left(r) ? header + pad : g->file.n;
    for (size_t i = 0; i < g->n_tensors; i++) {
        ftk_tensor_info *t = &g->tensors[i];
        const ftk_err err = check_place(r, t, g->file.n - start);
        if (err != FTK_OK) return err;
        t->offset += start;
        t->data = g->file.p + t->offset;
    }
    return FTK_OK;
}

/* No two tensors share a byte. order: room for their numbers. */
static ftk_err check_overlaps(reader *r, uint32_t *order)
{
    const ftk_gguf *g = r->g;
    sort_index(g, compare_offsets, order, g->n_tensors);
    for (size_t i = 1; i < g->n_tensors; i++) {
        const ftk_tensor_info *a = &g->tensors[order[i - 1]], *b = &g->tensors[order[i]];
        if (least_size(a) > b->offset - a->offset)
            return FTK_FAIL(r, FORMAT, "tensor %s: its data overlaps that of tensor %s",
                            FTK_SHOW(a->name), FTK_SHOW(b->name));
    }
    return FTK_OK;
}

static ftk_err sort_tensors(reader *r)
{
    const table tensors = tensors_of(r->g);
    const uint32_t *const twice = sort_names(&tensors);
    if (!twice) return FTK_OK;
    const ftk_tensor_info *const a = &r->g->tensors[twice[0]], *const b = &r->g->tensors[twice[1]];
    const uint32_t lo = a->shard < b->shard ? a->shard : b->shard;
    const uint32_t hi = a->shard < b->shard ? b->shard : a->shard;
    if (lo == hi) return FTK_FAIL(r, FORMAT, "tensor %s: it is there twice", FTK_SHOW(a->name));
    return FTK_FAIL(r, FORMAT, "tensor %s: it is in part %" PRIu32 " and in part %" PRIu32,
                    FTK_SHOW(a->name), lo + 1, hi + 1);
}

static ftk_err read_tensors(reader *r)
{
    const size_t n = r->g->n_tensors;
    ftk_err err = FTK_OK;
    for (size_t i = 0; err == FTK_OK && i < n; i++) err = read_tensor(r, i);
    if (err == FTK_OK) err = sort_tensors(r);
    if (err == FTK_OK) err = place_tensors(r);
    if (err != FTK_OK) return err;
    uint32_t *order = ftk_alloc(r->host, n, sizeof *order);
    err = order ? check_overlaps(r, order) : FTK_FAIL(r, NOMEM, "no memory to sort %zu tensors", n);
    ftk_release(r->host, order);
    return err;
}

static ftk_err read_version(reader *r)
{
    const uint32_t version = r->g->version = take_u32(r);
    if (version == 2 || version == 3) return FTK_OK;
    if (version == 0) return FTK_FAIL(r, FORMAT, "GGUF version 0 does not exist");
    if (version == 1)
        return FTK_FAIL(r, UNSUPPORTED, "GGUF version 1 is too old: convert the model again");
    const uint32_t swapped = __builtin_bswap32(version);
    if (swapped <= 0xFFFF)
        return FTK_FAIL(r, UNSUPPORTED,
                        "big-endian GGUF (version %" PRIu32 "): convert it to little-endian",
                        swapped);
    return FTK_FAIL(r, UNSUPPORTED, "GGUF version %" PRIu32 " is not known, only 2 and 3 are",
                    version);
}

static ftk_err read_count(reader *r, const char *what, size_t min_bytes, size_t *n)
{
    const uint64_t count = take_u64(r);
    /* Both counts are bounded by all that follows them, so that neither can ask for much memory. */
    const size_t rest = r->g->file.n - HEADER_BYTES;
    if (count > rest / min_bytes)
        return FTK_FAIL(r, FORMAT,
                        "%" PRIu64 " %s do not fit into the %zu bytes behind the header%s", count,
                        what, rest, cut_short(r));
    if (count > MAX_RECORDS)
        return FTK_FAIL(r, UNSUPPORTED, "%" PRIu64 " %s, at most %d are read", count, what,
                        MAX_RECORDS);
    *n = (size_t)count;
    return FTK_OK;
}

static ftk_err read_header(reader *r)
{
    if (left(r) < 4 || memcmp(r->p, "GGUF", 4) != 0) {
        const char *what = ftk_gguf_not(r->p, left(r));
        if (what) return FTK_FAIL(r, FORMAT, "not a GGUF file: it is %s", what);
        if (is_piece(r))
            return FTK_FAIL(r, FORMAT,
                            "not a GGUF file: it is a piece of one, join the pieces with cat");
        const ftk_str magic = {(const char *)r->p, left(r) < 4 ? left(r) : 4};
        return FTK_FAIL(r, FORMAT, "not a GGUF file: it starts with '%s' instead of 'GGUF'",
                        FTK_SHOW(magic));
    }
    if (left(r) < HEADER_BYTES)
        return FTK_FAIL(r, FORMAT, "cut short: it has %zu bytes, the header alone has %d: %s",
                        left(r), HEADER_BYTES,
                        is_piece(r) ? "join its pieces with cat" : "get it again");
    r->p += 4;
    ftk_err err = read_version(r);
    if (err == FTK_OK) err = read_count(r, "tensors", MIN_TENSOR_BYTES, &r->g->n_tensors);
    if (err == FTK_OK) err = read_count(r, "keys", MIN_KEY_BYTES, &r->g->n_keys);
    return err;
}

static ftk_err read_all(reader *r)
{
    ftk_gguf *g = r->g;
    r->p = (const unsigned char *)g->file.p;
    r->end = r->p + g->file.n;
    ftk_err err = read_header(r);
    if (err != FTK_OK) return err;
    g->keys = ftk_alloc(r->host, g->n_keys, sizeof *g->keys);
    g->keys_by_name = ftk_alloc(r->host, g->n_keys, sizeof *g->keys_by_name);
    g->tensors = ftk_alloc(r->host, g->n_tensors, sizeof *g->tensors);
    g->tensors_by_name = ftk_alloc(r->host, g->n_tensors, sizeof *g->tensors_by_name);
    if (!g->keys || !g->keys_by_name || !g->tensors || !g->tensors_by_name)
        return FTK_FAIL(r, NOMEM, "no memory for an index of %zu keys and %zu tensors", g->n_keys,
                        g->n_tensors);
    err = read_keys(r);
    if (err == FTK_OK) err = read_alignment(r);
    if (err == FTK_OK) err = read_tensors(r);
    return err;
}

/* ------------------------------------------------------------------ open, close */

/* A folder: is there something in it that may have been meant? */
static ftk_err is_folder(const reader *r, const char *path)
{
    char name[256];
    if (ftk_folder_next(path, "", ".gguf", name, sizeof name))
        return FTK_FAIL(r, IO,
                        "is a directory, not a GGUF file: give one of the .gguf files in it");
    if (ftk_folder_next(path, "", ".safetensors", name, sizeof name))
        return FTK_FAIL(r, IO,
                        "is a directory, not a GGUF file: it holds a model as safetensors, convert "
                        "it with llama.cpp's convert_hf_to_gguf.py");
    return FTK_FAIL(r, IO, "is a directory, not a GGUF file");
}

ftk_err ftk_gguf_open_file(ftk_gguf **out, const char *path, const ftk_host *host)
{
    *out = NULL;
    if (!path) return ftk_fail(host, FTK_ERR_INVALID, "ftk_gguf_open: path is NULL");
    if (!path[0])
        return ftk_fail(host, FTK_ERR_INVALID, "the path of a file is empty: give a GGUF file");
    reader r = {.host = host};
    ftk_gguf_show_path(r.path, sizeof r.path, path);
    r.g = ftk_alloc(host, 1, sizeof *r.g);
    if (!r.g) return FTK_FAIL(&r, NOMEM, "no memory to open it");
    if (host) r.g->host = *host;
    ftk_err err =
        ftk_is_folder(path) ? is_folder(&r, path) : ftk_mapped_open(&r.g->file, path, r.path, host);
    if (err == FTK_OK) err = read_all(&r);
    if (err == FTK_OK)
        *out = r.g;
    else
        ftk_gguf_free(r.g);
    return err;
}

/* The tensors of all parts in one table of g's. */
static ftk_err join_tensors(reader *r, ftk_gguf *const *others, size_t n_others, size_t n)
{
    ftk_gguf *g = r->g;
    ftk_tensor_info *tensors = ftk_alloc(r->host, n, sizeof *tensors);
    uint32_t *by_name = ftk_alloc(r->host, n, sizeof *by_name);
    if (!tensors || !by_name) {
        ftk_release(r->host, tensors);
        ftk_release(r->host, by_name);
        return FTK_FAIL(r, NOMEM, "no memory for an index of %zu tensors", n);
    }
    memcpy(tensors, g->tensors, g->n_tensors * sizeof *tensors);
    size_t at = g->n_tensors;
    for (size_t i = 0; i < n_others; i++)
        for (size_t j = 0; j < others[i]->n_tensors; j++, at++) {
            tensors[at] = others[i]->tensors[j];
            tensors[at].shard = (uint32_t)i + 1;
        }
    ftk_release(r->host, g->tensors);
    ftk_release(r->host, g->tensors_by_name);
    g->tensors = tensors;
    g->tensors_by_name = by_name;
    g->n_tensors = n;
    return sort_tensors(r);
}

ftk_err ftk_gguf_join(ftk_gguf *first, ftk_gguf *const *others, size_t n, const char *path)
{
    reader r = {.g = first, .host = &first->host};
    ftk_gguf_show_path(r.path, sizeof r.path, path);
    size_t n_tensors = first->n_tensors;
    for (size_t i = 0; i < n; i++) n_tensors += others[i]->n_tensors;
    if (n_tensors > MAX_RECORDS)
        return FTK_FAIL(&r, UNSUPPORTED, "%zu tensors, at most %d are read", n_tensors,
                        MAX_RECORDS);
    ftk_gguf **list = ftk_alloc(r.host, n, sizeof *list);
    if (!list) return FTK_FAIL(&r, NOMEM, "no memory for %zu parts", n);
    const ftk_err err = join_tensors(&r, others, n, n_tensors);
    if (err != FTK_OK) {
        ftk_release(r.host, list);
        return err;
    }
    memcpy(list, others, n * sizeof *list);
    first->others = list;
    first->n_others = n;
    return FTK_OK;
}

void ftk_gguf_forget(const void *data, size_t n)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = ((uintptr_t)data + page - 1) / page * page;
    const uintptr_t to = ((uintptr_t)data + n) / page * page;
    /* The mapping is of a file and read-only, so nothing is lost; an error only costs memory. */
    if (from < to) (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

void ftk_gguf_free(ftk_gguf *g)
{
    if (!g) return;
    const ftk_host host = g->host;
    for (size_t i = 0; i < g->n_others; i++) ftk_gguf_free(g->others[i]);
    ftk_release(&host, g->others);
    ftk_mapped_close(&g->file);
    ftk_release(&host, g->keys);
    ftk_release(&host, g->keys_by_name);
    ftk_release(&host, g->tensors);
    ftk_release(&host, g->tensors_by_name);
    ftk_release(&host, g);
}

/* ------------------------------------------------------------------ views */

uint32_t ftk_gguf_version(const ftk_gguf *g)
{
    return g->version;
}

uint64_t ftk_gguf_alignment(const ftk_gguf *g)
{
    return g->alignment;
}

uint64_t ftk_gguf_file_size(const ftk_gguf *g)
{
    uint64_t size = g->file.n;
    for (size_t i = 0; i < g->n_others; i++) size += g->others[i]->file.n;
    return size;
}

size_t ftk_gguf_n_shards(const ftk_gguf *g)
{
    return 1 + g->n_others;
}

size_t ftk_gguf_n_keys(const ftk_gguf *g)
{
    return g->n_keys;
}

size_t ftk_gguf_n_tensors(const ftk_gguf *g)
{
    return g->n_tensors;
}

/* Little-endian bytes, sign- or zero-extended, to the union's member. */
static void fill_scalar(const key_record *k, ftk_gguf_value *v)
{
    const size_t size = value_size(k->type);
    uint64_t u = 0;
    memcpy(&u, k->data, size);
    float f;
    switch (k->type) {
    case FTK_GGUF_I8:
    case FTK_GGUF_I16:
    case FTK_GGUF_I32:
    case FTK_GGUF_I64: {
        const uint64_t sign = UINT64_C(1) << (8 * size - 1);
        v->i = (int64_t)((u ^ sign) - sign);
        break;
    }
    case FTK_GGUF_F32:
        memcpy(&f, k->data, sizeof f);
        v->f = f;
        break;
    case FTK_GGUF_F64: memcpy(&v->f, k->data, sizeof v->f); break;
    default: v->u = u;
    }
}

static void fill_value(const key_record *k, ftk_gguf_value *v)
{
    *v = (ftk_gguf_value){.type = k->type, .elem = k->elem, .count = k->count, .data = k->data};
    if (k->type == FTK_GGUF_STRING) {
        v->count = 1;
        v->s = (ftk_str){(const char *)k->data, (size_t)k->count};
    } else if (k->type != FTK_GGUF_ARRAY) {
        fill_scalar(k, v);
    }
}

void ftk_gguf_key(const ftk_gguf *g, size_t i, ftk_str *key, ftk_gguf_value *value)
{
    *key = g->keys[i].name;
    fill_value(&g->keys[i], value);
}

void ftk_gguf_tensor(const ftk_gguf *g, size_t i, ftk_tensor_info *info)
{
    *info = g->tensors[i];
}

bool ftk_gguf_find(const ftk_gguf *g, const char *key, ftk_gguf_value *value)
{
    const key_record *const k = find_name(keys_of(g), key);
    if (k) fill_value(k, value);
    return k != NULL;
}

size_t ftk_gguf_place(const ftk_gguf *g, const char *name)
{
    const ftk_tensor_info *const t = find_name(tensors_of(g), name);
    return t ? (size_t)(t - g->tensors) : g->n_tensors;
}

bool ftk_gguf_find_tensor(const ftk_gguf *g, const char *name, ftk_tensor_info *info)
{
    const size_t i = ftk_gguf_place(g, name);
    if (i < g->n_tensors) *info = g->tensors[i];
    return i < g->n_tensors;
}

ftk_str ftk_gguf_text(const ftk_gguf *g, const char *key)
{
    ftk_gguf_value v;
    return ftk_gguf_find(g, key, &v) && v.type == FTK_GGUF_STRING ? v.s : (ftk_str){0};
}

bool ftk_gguf_whole(const ftk_gguf_value *v, int64_t *i)
{
    switch (v->type) {
    case FTK_GGUF_U8:
    case FTK_GGUF_U16:
    case FTK_GGUF_U32:
    case FTK_GGUF_U64: *i = v->u < INT64_MAX ? (int64_t)v->u : INT64_MAX; return true;
    case FTK_GGUF_I8:
    case FTK_GGUF_I16:
    case FTK_GGUF_I32:
    case FTK_GGUF_I64: *i = v->i; return true;
    default: return false;
    }
}

bool ftk_gguf_number(const ftk_gguf_value *v, double *x)
{
    int64_t i = 0;
    const bool whole = ftk_gguf_whole(v, &i);
    *x = whole ? (double)i : v->f;
    return whole || v->type == FTK_GGUF_F32 || v->type == FTK_GGUF_F64;
}

ftk_err ftk_gguf_int(const ftk_gguf *g, const char *key, int64_t lo, int64_t hi, int64_t absent,
                     int *out, const char *path, const ftk_host *host)
{
    ftk_gguf_value v;
    int64_t i = absent;
    const bool there = ftk_gguf_find(g, key, &v);
    if (!there && absent < 0)
        return ftk_fail(host, FTK_ERR_FORMAT, "%s: key %s is missing", path, key);
    if (there && !ftk_gguf_whole(&v, &i))
        return ftk_fail(host, FTK_ERR_FORMAT, "%s: key %s is not an integer", path, key);
    if (there && (i < lo || i > hi))
        return ftk_fail(host, FTK_ERR_FORMAT,
                        "%s: key %s is out of range: it must be %" PRId64 " to %" PRId64, path, key,
                        lo, hi);
    *out = (int)i;
    return FTK_OK;
}

ftk_str ftk_gguf_next_str(const unsigned char **cursor)
{
    uint64_t n;
    memcpy(&n, *cursor, sizeof n);
    const ftk_str s = {(const char *)*cursor + sizeof n, (size_t)n};
    *cursor += sizeof n + n;
    return s;
}
