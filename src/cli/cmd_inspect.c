/* SPDX-License-Identifier: Apache-2.0
 * foretoken inspect: metadata and tensors of a GGUF file; inspect_checkpoint.c: of safetensors. */
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "inspect.h"

enum {
    TEXT_ELEMENTS = 6, /* elements of an array that are shown, unless --full */
    TEXT_BYTES = 72,   /* bytes of a string */
    JSON_ELEMENTS = 64,
};

/* ---- values */

static const char *value_type(ftk_gguf_type type)
{
    static const char *const names[FTK_GGUF_N_TYPES] = {
        [FTK_GGUF_U8] = "u8",       [FTK_GGUF_I8] = "i8",     [FTK_GGUF_U16] = "u16",
        [FTK_GGUF_I16] = "i16",     [FTK_GGUF_U32] = "u32",   [FTK_GGUF_I32] = "i32",
        [FTK_GGUF_F32] = "f32",     [FTK_GGUF_BOOL] = "bool", [FTK_GGUF_STRING] = "string",
        [FTK_GGUF_ARRAY] = "array", [FTK_GGUF_U64] = "u64",   [FTK_GGUF_I64] = "i64",
        [FTK_GGUF_F64] = "f64",
    };
    return (unsigned)type < FTK_GGUF_N_TYPES ? names[type] : "unknown";
}

static const char *tensor_type(uint32_t type, char *buf, size_t cap)
{
    const char *name = ftk_type_name(type);
    if (name) return name;
    snprintf(buf, cap, "type %u", (unsigned)type);
    return buf;
}

/* Element i of an array of fixed-size elements, which lie packed and unaligned. */
static ftk_gguf_value element(const ftk_gguf_value *array, uint64_t i)
{
    static const unsigned char sizes[FTK_GGUF_N_TYPES] = {
        [FTK_GGUF_BOOL] = 1, [FTK_GGUF_U8] = 1,  [FTK_GGUF_I8] = 1,  [FTK_GGUF_U16] = 2,
        [FTK_GGUF_I16] = 2,  [FTK_GGUF_U32] = 4, [FTK_GGUF_I32] = 4, [FTK_GGUF_F32] = 4,
        [FTK_GGUF_U64] = 8,  [FTK_GGUF_I64] = 8, [FTK_GGUF_F64] = 8,
    };
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        float f32;
        double f64;
    } x = {0};
    const size_t size = sizes[array->elem];
    memcpy(&x, array->data + size * i, size);
    ftk_gguf_value v = {.type = array->elem};
    switch (array->elem) {
    case FTK_GGUF_BOOL:
    case FTK_GGUF_U8: v.u = x.u8; break;
    case FTK_GGUF_I8: v.i = x.i8; break;
    case FTK_GGUF_U16: v.u = x.u16; break;
    case FTK_GGUF_I16: v.i = x.i16; break;
    case FTK_GGUF_U32: v.u = x.u32; break;
    case FTK_GGUF_I32: v.i = x.i32; break;
    case FTK_GGUF_F32: v.f = (double)x.f32; break;
    case FTK_GGUF_U64: v.u = x.u64; break;
    case FTK_GGUF_I64: v.i = x.i64; break;
    case FTK_GGUF_F64: v.f = x.f64; break;
    default: break;
    }
    return v;
}

/* Calls see() for the first n elements. Nested arrays have none that can be shown. */
static void each(const ftk_gguf_value *array, uint64_t n,
                 void (*see)(void *ctx, const ftk_gguf_value *v), void *ctx)
{
    if (array->elem == FTK_GGUF_ARRAY) return;
    const unsigned char *cursor = array->data;
    for (uint64_t i = 0; i < n && i < array->count; i++) {
        ftk_gguf_value v = {.type = FTK_GGUF_STRING};
        if (array->elem == FTK_GGUF_STRING)
            v.s = ftk_gguf_next_str(&cursor);
        else
            v = element(array, i);
        see(ctx, &v);
    }
}

/* ---- LoRA adapters */

/* What kinds of tensors an adapter changes: attn_q of blk.3.attn_q.weight.lora_a. */
enum { KINDS = 32 };

typedef struct adapter {
    ftk_str arch;
    ftk_gguf_value alpha; /* where has_alpha */
    bool has_alpha;
    size_t n_pairs, n_kinds;
    uint64_t least, most; /* ranks */
    ftk_str kinds[KINDS]; /* in the order of the file */
} adapter;

static bool find_text(const ftk_gguf *g, const char *key, ftk_str *s)
{
    ftk_gguf_value v;
    if (!ftk_gguf_find(g, key, &v) || v.type != FTK_GGUF_STRING) return false;
    *s = v.s;
    return true;
}

static bool equals(ftk_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static bool cut_end(ftk_str *s, const char *end)
{
    const size_t n = strlen(end);
    if (s->n < n || memcmp(s->p + s->n - n, end, n) != 0) return false;
    s->n -= n;
    return true;
}

/* Without "blk.3." and ".weight". */
static ftk_str kind_of(ftk_str name)
{
    cut_end(&name, ".weight");
    if (name.n < 4 || memcmp(name.p, "blk.", 4) != 0) return name;
    const char *dot = memchr(name.p + 4, '.', name.n - 4);
    return dot ? (ftk_str){dot + 1, name.n - (size_t)(dot + 1 - name.p)} : name;
}

static void add_kind(adapter *a, ftk_str kind)
{
    for (size_t i = 0; i < a->n_kinds; i++)
        if (a->kinds[i].n == kind.n && memcmp(a->kinds[i].p, kind.p, kind.n) == 0) return;
    if (a->n_kinds < KINDS) a->kinds[a->n_kinds++] = kind;
}

/* False where the file is no LoRA adapter. */
static bool read_adapter(const ftk_gguf *g, adapter *a)
{
    ftk_str type;
    *a = (adapter){.arch = {"", 0}};
    if (!find_text(g, "general.type", &type) || !equals(type, "adapter")) return false;
    if (!find_text(g, "adapter.type", &type) || !equals(type, "lora")) return false;
    find_text(g, "general.architecture", &a->arch);
    a->has_alpha = ftk_gguf_find(g, "adapter.lora.alpha", &a->alpha);
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_tensor_info t;
        ftk_gguf_tensor(g, i, &t);
        if (!cut_end(&t.name, ".lora_b")) continue;
        const uint64_t rank = t.dims[0];
        a->least = a->n_pairs == 0 || rank < a->least ? rank : a->least;
        a->most = rank > a->most ? rank : a->most;
        a->n_pairs++;
        add_kind(a, kind_of(t.name));
    }
    return true;
}

/* ---- JSON */

static json_t *json_scalar(const ftk_gguf_value *v)
{
    switch (v->type) {
    case FTK_GGUF_BOOL: return json_boolean(v->u != 0);
    case FTK_GGUF_U8:
    case FTK_GGUF_U16:
    case FTK_GGUF_U32:
    case FTK_GGUF_U64: return cli_json_unsigned(v->u);
    case FTK_GGUF_I8:
    case FTK_GGUF_I16:
    case FTK_GGUF_I32:
    case FTK_GGUF_I64: return json_integer((json_int_t)v->i);
    case FTK_GGUF_F32:
    case FTK_GGUF_F64: return cli_json_real(v->f);
    case FTK_GGUF_STRING: return cli_json_text(v->s.p, v->s.n);
    default: return json_null();
    }
}

static void json_add(void *ctx, const ftk_gguf_value *v)
{
    json_array_append_new(ctx, json_scalar(v));
}

/* {type, value}; of an array also elem, count and whether it was shortened. */
static json_t *json_value(const ftk_gguf_value *v, bool full)
{
    json_t *j = json_object();
    json_object_set_new(j, "type", json_string(value_type(v->type)));
    if (v->type != FTK_GGUF_ARRAY) {
        json_object_set_new(j, "value", json_scalar(v));
        return j;
    }
    const uint64_t most = full || v->count <= JSON_ELEMENTS ? v->count : JSON_ELEMENTS;
    json_t *list = json_array();
    each(v, most, json_add, list);
    json_object_set_new(j, "elem", json_string(value_type(v->elem)));
    json_object_set_new(j, "count", cli_json_unsigned(v->count));
    json_object_set_new(j, "shortened", json_boolean(json_array_size(list) < v->count));
    json_object_set_new(j, "value", list);
    return j;
}

static json_t *json_tensor(const ftk_tensor_info *t)
{
    char type[24];
    json_t *dims = json_array();
    for (uint32_t i = 0; i < t->n_dims; i++)
        json_array_append_new(dims, cli_json_unsigned(t->dims[i]));
    json_t *j = json_object();
    json_object_set_new(j, "name", cli_json_text(t->name.p, t->name.n));
    json_object_set_new(j, "type", json_string(tensor_type(t->type, type, sizeof type)));
    json_object_set_new(j, "dims", dims);
    json_object_set_new(j, "shard", cli_json_unsigned(t->shard));
    json_object_set_new(j, "offset", cli_json_unsigned(t->offset));
    json_object_set_new(j, "size", t->size ? cli_json_unsigned(t->size) : json_null());
    return j;
}

static json_t *json_adapter(const adapter *a)
{
    json_t *kinds = json_array(), *j = json_object();
    for (size_t i = 0; i < a->n_kinds; i++)
        json_array_append_new(kinds, cli_json_text(a->kinds[i].p, a->kinds[i].n));
    json_object_set_new(j, "architecture", cli_json_text(a->arch.p, a->arch.n));
    json_object_set_new(j, "alpha", a->has_alpha ? json_scalar(&a->alpha) : json_null());
    json_object_set_new(j, "pairs", cli_json_unsigned(a->n_pairs));
    json_object_set_new(j, "least_rank", cli_json_unsigned(a->least));
    json_object_set_new(j, "most_rank", cli_json_unsigned(a->most));
    json_object_set_new(j, "changes", kinds);
    return j;
}

static void print_json(const ftk_gguf *g, const cli_options *o)
{
    json_t *metadata = json_object();
    for (size_t i = 0; i < ftk_gguf_n_keys(g); i++) {
        ftk_str key;
        ftk_gguf_value v;
        ftk_gguf_key(g, i, &key, &v);
        cli_bytes name = {0};
        cli_bytes_add(&name, "", 0);
        cli_bytes_add_utf8(&name, key.p, key.n);
        json_object_set_new(metadata, name.p, json_value(&v, o->full));
        cli_bytes_free(&name);
    }
    json_t *tensors = json_array();
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_tensor_info t;
        ftk_gguf_tensor(g, i, &t);
        json_array_append_new(tensors, json_tensor(&t));
    }
    json_t *j = json_object();
    json_object_set_new(j, "file", cli_json_text(o->operand, strlen(o->operand)));
    json_object_set_new(j, "version", json_integer(ftk_gguf_version(g)));
    json_object_set_new(j, "alignment", cli_json_unsigned(ftk_gguf_alignment(g)));
    adapter a;
    if (read_adapter(g, &a)) json_object_set_new(j, "adapter", json_adapter(&a));
    json_object_set_new(j, "metadata", metadata);
    json_object_set_new(j, "tensors", tensors);
    json_object_set_new(j, "shards", cli_json_unsigned(ftk_gguf_n_shards(g)));
    cli_out_json(j);
}

/* ---- text */

typedef struct text {
    cli_bytes out;
    bool full;
    size_t n; /* elements of the array so far */
} text;

static void add(text *t, const char *s)
{
    cli_bytes_add(&t->out, s, strlen(s));
}

/* A string as one line that no terminal takes for a command, cut between characters. */
static void add_string(text *t, ftk_str s)
{
    size_t most = t->full || s.n <= TEXT_BYTES ? s.n : TEXT_BYTES;
    while (most > 0 && most < s.n && ((unsigned char)s.p[most] & 0xc0) == 0x80) most--;
    for (size_t i = 0; i < most;) {
        const char *newline = memchr(s.p + i, '\n', most - i);
        const size_t n = newline ? (size_t)(newline - s.p) - i : most - i;
        cli_bytes_add_shown(&t->out, s.p + i, n);
        if (newline) add(t, "\\n");
        i += n + (newline != NULL);
    }
    if (most < s.n) add(t, "...");
}

static void add_scalar(text *t, const ftk_gguf_value *v)
{
    char number[40] = "";
    switch (v->type) {
    case FTK_GGUF_BOOL: add(t, v->u ? "true" : "false"); return;
    case FTK_GGUF_STRING: add_string(t, v->s); return;
    case FTK_GGUF_F32: snprintf(number, sizeof number, "%.7g", v->f); break;
    case FTK_GGUF_F64: snprintf(number, sizeof number, "%.15g", v->f); break;
    case FTK_GGUF_I8:
    case FTK_GGUF_I16:
    case FTK_GGUF_I32:
    case FTK_GGUF_I64: snprintf(number, sizeof number, "%lld", (long long)v->i); break;
    default: snprintf(number, sizeof number, "%llu", (unsigned long long)v->u); break;
    }
    add(t, number);
}

static void add_element(void *ctx, const ftk_gguf_value *v)
{
    text *t = ctx;
    if (t->n++ > 0) add(t, ", ");
    if (v->type == FTK_GGUF_STRING) add(t, "\"");
    add_scalar(t, v);
    if (v->type == FTK_GGUF_STRING) add(t, "\"");
}

static void add_array(text *t, const ftk_gguf_value *v)
{
    char count[64];
    snprintf(count, sizeof count, "%llu %s: [", (unsigned long long)v->count, value_type(v->elem));
    add(t, count);
    t->n = 0;
    each(v, t->full ? v->count : TEXT_ELEMENTS, add_element, t);
    add(t, t->n == v->count ? "]" : t->n > 0 ? ", ...]" : "...]");
}

/* A name, and blanks up to `width` columns. */
static void add_name(text *t, ftk_str name, size_t width)
{
    const size_t before = t->out.n;
    add_string(t, name);
    do add(t, " ");
    while (t->out.n - before < width);
}

static void add_metadata(text *t, const ftk_gguf *g)
{
    ftk_str key;
    ftk_gguf_value v;
    size_t width = 0;
    for (size_t i = 0; i < ftk_gguf_n_keys(g); i++) {
        ftk_gguf_key(g, i, &key, &v);
        if (key.n > width && key.n <= TEXT_BYTES) width = key.n;
    }
    for (size_t i = 0; i < ftk_gguf_n_keys(g); i++) {
        ftk_gguf_key(g, i, &key, &v);
        char type[16];
        snprintf(type, sizeof type, "%-7s ", value_type(v.type));
        add_name(t, key, width + 2);
        add(t, type);
        if (v.type == FTK_GGUF_ARRAY)
            add_array(t, &v);
        else
            add_scalar(t, &v);
        add(t, "\n");
    }
}

static void add_tensors(text *t, const ftk_gguf *g)
{
    ftk_tensor_info info;
    size_t width = 0;
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_gguf_tensor(g, i, &info);
        if (info.name.n > width && info.name.n <= TEXT_BYTES) width = info.name.n;
    }
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_gguf_tensor(g, i, &info);
        char dims[128] = "", name[24], part[32] = "", size[40] = "size unknown", rest[256];
        for (uint32_t d = 0; d < info.n_dims; d++) {
            const size_t n = strlen(dims);
            snprintf(dims + n, sizeof dims - n, "%s%llu", d ? " x " : "",
                     (unsigned long long)info.dims[d]);
        }
        if (ftk_gguf_n_shards(g) > 1)
            snprintf(part, sizeof part, "part %u ", (unsigned)info.shard + 1);
        if (info.size > 0) snprintf(size, sizeof size, "%llu bytes", (unsigned long long)info.size);
        snprintf(rest, sizeof rest, "%-8s %-20s %sat %-12llu %s\n",
                 tensor_type(info.type, name, sizeof name), dims, part,
                 (unsigned long long)info.offset, size);
        add_name(t, info.name, width + 2);
        add(t, rest);
    }
}

/* "LoRA adapter for llama, alpha 16, rank 8: 60 pairs, of attn_q, attn_v" */
static void add_adapter(text *t, const adapter *a)
{
    char ranks[64], pairs[64];
    add(t, "LoRA adapter for ");
    add_string(t, a->arch);
    if (a->has_alpha && a->alpha.type != FTK_GGUF_ARRAY) {
        add(t, ", alpha ");
        add_scalar(t, &a->alpha);
    }
    if (a->least < a->most)
        snprintf(ranks, sizeof ranks, ", ranks %llu to %llu", (unsigned long long)a->least,
                 (unsigned long long)a->most);
    else
        snprintf(ranks, sizeof ranks, ", rank %llu", (unsigned long long)a->most);
    if (a->n_pairs > 0) add(t, ranks);
    snprintf(pairs, sizeof pairs, ": %zu pairs", a->n_pairs);
    add(t, pairs);
    for (size_t i = 0; i < a->n_kinds; i++) {
        add(t, i == 0 ? ", of " : ", ");
        add_string(t, a->kinds[i]);
    }
    add(t, "\n\n");
}

static void print_text(const ftk_gguf *g, const cli_options *o)
{
    text t = {.full = o->full};
    char line[160], files[32] = "";
    if (ftk_gguf_n_shards(g) > 1)
        snprintf(files, sizeof files, "%zu files, ", ftk_gguf_n_shards(g));
    add_string(&t, (ftk_str){o->operand, strlen(o->operand)});
    snprintf(line, sizeof line,
             "\nGGUF version %u, alignment %llu, %s%llu bytes, %zu keys, %zu tensors\n\n",
             (unsigned)ftk_gguf_version(g), (unsigned long long)ftk_gguf_alignment(g), files,
             (unsigned long long)ftk_gguf_file_size(g), ftk_gguf_n_keys(g), ftk_gguf_n_tensors(g));
    add(&t, line);
    adapter a;
    if (read_adapter(g, &a)) add_adapter(&t, &a);
    add_metadata(&t, g);
    if (ftk_gguf_n_tensors(g) > 0) add(&t, "\n");
    add_tensors(&t, g);
    cli_out(t.out.p, t.out.n);
    cli_bytes_free(&t.out);
}

int cmd_inspect(const cli_options *o)
{
    if (!o->operand || !o->operand[0])
        return cli_say_usage(o->command, "no file was named; give one, as in foretoken "
                                         "inspect model.gguf");
    if (ftk_checkpoint_is(o->operand)) return inspect_checkpoint(o);
    const ftk_host host = cli_host();
    ftk_gguf *g = NULL;
    const ftk_err err = ftk_gguf_open(&g, o->operand, &host);
    if (err != FTK_OK) return cli_fail(err, o->operand);
    if (o->json)
        print_json(g, o);
    else
        print_text(g, o);
    ftk_gguf_free(g);
    return cli_out_status();
}
