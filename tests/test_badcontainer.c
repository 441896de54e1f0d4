/* SPDX-License-Identifier: Apache-2.0
 * What the container of a bad model file can hold - header, keys, records of tensors, offsets,
 * data - or what may stand in a file's place, and the one line that each gets from the reader. See
 * test_badfiles.c. */
#include <sys/stat.h>

#include "badfile.h"
#include "model/safetensors.h"

/* ------------------------------------------------------------------ one bad thing at a time */

typedef struct bad {
    const char *what;
    const char *skip;         /* a key or tensor of the good file to leave out */
    void (*make)(gw *w);      /* what to put there */
    void (*edit)(gw_bytes *); /* or: how to spoil the bytes of the file */
    ftk_err err;
    const char *line; /* behind the path */
} bad;

static int run_bad(const bad *b, void (*base)(gw *w), attempt *try)
{
    gw w;
    gw_init(&w);
    w.skip = b->skip;
    base(&w);
    w.skip = NULL;
    if (b->make) b->make(&w);
    gw_bytes file = gw_finish(&w);
    if (b->edit) b->edit(&file);
    assert_true(gw_save(path, file.p, file.n));
    free(file.p);
    gw_free(&w);
    return refused(b->what, path, try, b->err, b->line);
}

/* ------------------------------------------------------------------ the container */

static void small_file(gw *w)
{
    gw_u32(w, "a", 1);
    gw_tensor(w, "t", 1, (uint64_t[]){8}, FTK_TYPE_F32, NULL, 32);
}

static void set_u32(gw_bytes *f, size_t at, uint32_t v)
{
    memcpy(f->p + at, &v, sizeof v);
}

static void set_u64(gw_bytes *f, size_t at, uint64_t v)
{
    memcpy(f->p + at, &v, sizeof v);
}

/* clang-format off */
static void cut_3(gw_bytes *f) { f->n = 3; }
static void cut_0(gw_bytes *f) { f->n = 0; }
static void cut_10(gw_bytes *f) { f->n = 10; }
static void cut_60(gw_bytes *f) { f->n = 60; }
static void cut_80(gw_bytes *f) { f->n = 80; }
static void cut_1(gw_bytes *f) { f->n -= 1; }
static void magic_zip(gw_bytes *f) { memcpy(f->p, "PK\3\4", 4); }
static void magic_escape(gw_bytes *f) { memcpy(f->p, "\x1b[2J", 4); }
static void version_0(gw_bytes *f) { set_u32(f, 4, 0); }
static void version_1(gw_bytes *f) { set_u32(f, 4, 1); }
static void version_4(gw_bytes *f) { set_u32(f, 4, 4); }
static void version_swapped(gw_bytes *f) { set_u32(f, 4, 0x03000000); }
static void version_max(gw_bytes *f) { set_u32(f, 4, UINT32_MAX); }
static void tensors_2_63(gw_bytes *f) { set_u64(f, 8, UINT64_C(1) << 63); }
static void tensors_5(gw_bytes *f) { set_u64(f, 8, 5); }
static void tensors_2(gw_bytes *f) { set_u64(f, 8, 2); }
static void keys_max(gw_bytes *f) { set_u64(f, 16, UINT64_MAX); }
static void keys_9(gw_bytes *f) { set_u64(f, 16, 9); }
static void keys_3(gw_bytes *f) { set_u64(f, 16, 3); }
static void too_many_tensors(gw_bytes *f)
{
    set_u64(f, 8, (1 << 18) + 1);
    gw_put(f, NULL, 9000000);
}
static void too_many_keys(gw_bytes *f)
{
    set_u64(f, 16, (1 << 18) + 1);
    gw_put(f, NULL, 9000000);
}

/* A name of n bytes 'k', u32 7. */
static void long_key(gw *w, size_t n)
{
    char *name = malloc(n);
    assert_non_null(name);
    memset(name, 'k', n);
    gw_key(w, name, n, FTK_GGUF_U32);
    gw_put_u32(&w->keys, 7);
    free(name);
}
static void key_empty(gw *w) { long_key(w, 0); }
static void key_65535(gw *w) { long_key(w, 65535); }
static void key_65536(gw *w) { long_key(w, 65536); }
static void key_2_63(gw *w) { w->n_keys++; gw_put_u64(&w->keys, UINT64_C(1) << 63); }
static void key_named(gw *w, const char *name, size_t n)
{
    gw_key(w, name, n, FTK_GGUF_U32);
    gw_put_u32(&w->keys, 7);
}
static void key_nul(gw *w) { key_named(w, "b\0c", 3); }
static void key_broken(gw *w) { key_named(w, "b\xC3(\x1b\n", 5); }
static void key_overlong(gw *w) { key_named(w, "\xC0\x80", 2); }
static void key_surrogate(gw *w) { key_named(w, "\xED\xA0\x80", 3); }
static void key_too_high(gw *w) { key_named(w, "\xF4\x90\x80\x80", 4); }
static void key_cut_char(gw *w) { key_named(w, "\xE2\x96", 2); }
static void key_twice(gw *w) { gw_f32(w, "b", 1); gw_u32(w, "a", 1); }
/* The beginning of a key that the end of the file cuts off: n bytes behind the key "filler". */
static void cut_key(gw *w, uint32_t type, size_t n)
{
    gw_str(w, "filler", "0123456789");
    const size_t start = w->keys.n;
    gw_key(w, "b", 1, type);
    gw_put(&w->keys, NULL, 16);
    w->keys.n = start + n;
}
static void cut_key_length(gw *w) { cut_key(w, FTK_GGUF_U64, 7); }
static void cut_key_name(gw *w) { cut_key(w, FTK_GGUF_U64, 8); }
static void cut_key_type(gw *w) { cut_key(w, FTK_GGUF_U64, 12); }
static void cut_key_value(gw *w) { cut_key(w, FTK_GGUF_U64, 20); }
static void cut_key_string(gw *w) { cut_key(w, FTK_GGUF_STRING, 20); }
static void cut_key_array(gw *w) { cut_key(w, FTK_GGUF_ARRAY, 24); }
static void type_13(gw *w) { gw_key(w, "b", 1, 13); gw_put(&w->keys, NULL, 64); }
static void bool_2(gw *w) { gw_scalar(w, "b", FTK_GGUF_BOOL, "\2"); }
static void bools_2(gw *w) { gw_array(w, "b", FTK_GGUF_BOOL, 4, "\0\1\1\xFF"); }
static void str_2_63(gw *w)
{
    gw_key(w, "b", 1, FTK_GGUF_STRING);
    gw_put_u64(&w->keys, UINT64_C(1) << 63);
}
static void array(gw *w, uint32_t elem, uint64_t count)
{
    gw_key(w, "b", 1, FTK_GGUF_ARRAY);
    gw_put_u32(&w->keys, elem);
    gw_put_u64(&w->keys, count);
}
static void array_of_arrays(gw *w) { array(w, FTK_GGUF_ARRAY, 1); gw_put(&w->keys, NULL, 64); }
static void array_type_99(gw *w) { array(w, 99, 1); gw_put(&w->keys, NULL, 64); }
static void array_2_63(gw *w) { array(w, FTK_GGUF_U8, UINT64_C(1) << 63); }
static void array_2_61(gw *w) { array(w, FTK_GGUF_F64, UINT64_C(1) << 61); }
static void array_empty(gw *w) { array(w, FTK_GGUF_F64, 0); }
static void strings_2_60(gw *w) { array(w, FTK_GGUF_STRING, UINT64_C(1) << 60); }
static void strings_beyond(gw *w)
{
    array(w, FTK_GGUF_STRING, 3);
    gw_put_u64(&w->keys, 1);
    gw_put(&w->keys, "x", 1);
    gw_put_u64(&w->keys, UINT64_MAX);
}
static void align_0(gw *w) { gw_u32(w, "general.alignment", 0); }
static void align_3(gw *w) { gw_u32(w, "general.alignment", 3); }
static void align_4(gw *w) { gw_u32(w, "general.alignment", 4); }
static void align_48(gw *w) { gw_u32(w, "general.alignment", 48); }
static void align_2_31(gw *w) { gw_u32(w, "general.alignment", UINT32_C(1) << 31); }
static void align_u64(gw *w)
{
    gw_scalar(w, "general.alignment", FTK_GGUF_U64, &(uint64_t){32});
}
static void align_str(gw *w) { gw_str(w, "general.alignment", "32"); }
static void align_64(gw *w)
{
    gw_u32(w, "general.alignment", 64);
    w->alignment = 64;
    gw_put(&w->data, NULL, 64);
    gw_record(w, "u", 1, 1, (uint64_t[]){1}, 24, 32);
}

static void one_tensor(gw *w, uint32_t n_dims, const uint64_t *dims, uint32_t type)
{
    gw_tensor(w, "u", n_dims, dims, type, NULL, 4096);
}
static void at(gw *w, uint64_t offset)
{
    gw_record(w, "u", 1, 1, (uint64_t[]){32}, 24, offset);
}
static void tensor_named(gw *w, const char *name, size_t n)
{
    gw_record(w, name, n, 1, (uint64_t[]){32}, 24, 32);
    gw_put(&w->data, NULL, 64);
}
static void tensor_empty(gw *w) { tensor_named(w, "", 0); }
static void tensor_65(gw *w)
{
    tensor_named(w, "12345678901234567890123456789012345678901234567890123456789012345", 65);
}
static void tensor_nul(gw *w) { tensor_named(w, "u\0v", 3); }
static void tensor_broken(gw *w) { tensor_named(w, "u\x9B" "2J\x7F", 5); }
static void tensor_2_63(gw *w) { w->n_tensors++; gw_put_u64(&w->tensors, UINT64_C(1) << 63); }
static void tensor_cut(gw *w)
{
    gw_str(w, "filler", "0123456789");
    w->n_tensors++;
    w->data.n = 0;
    gw_put(&w->tensors, NULL, 7);
}
static void tensor_same(gw *w) { gw_record(w, "t", 1, 1, (uint64_t[]){8}, 0, 0); }
static void tensor_twice(gw *w) { tensor_named(w, "t", 1); }
static void dims_0(gw *w) { one_tensor(w, 0, NULL, 0); }
static void dims_5(gw *w) { one_tensor(w, 5, (uint64_t[]){1, 1, 1, 1, 1}, 0); }
static void dims_max(gw *w)
{
    w->n_tensors++;
    gw_put_u64(&w->tensors, 1);
    gw_put(&w->tensors, "u", 1);
    gw_put_u32(&w->tensors, UINT32_MAX);
}
static void dim_0(gw *w) { one_tensor(w, 2, (uint64_t[]){8, 0}, 0); }
static void dim_negative(gw *w) { one_tensor(w, 1, (uint64_t[]){UINT64_MAX}, 0); }
static void dims_2_63(gw *w) { one_tensor(w, 2, (uint64_t[]){UINT64_C(1) << 62, 2}, 0); }
static void dims_wrap(gw *w) { one_tensor(w, 4, (uint64_t[]){INT64_MAX, 2, 1, 1}, 0); }
static void dims_wrap_0(gw *w)
{
    one_tensor(w, 4, (uint64_t[]){1 << 16, 1 << 16, 1 << 16, 1 << 16}, 0);
}
static void bytes_2_63(gw *w) { one_tensor(w, 1, (uint64_t[]){UINT64_C(1) << 61}, 0); }
static void row_33(gw *w) { one_tensor(w, 2, (uint64_t[]){33, 32}, FTK_TYPE_Q8_0); }
static void row_16(gw *w) { one_tensor(w, 2, (uint64_t[]){16, 2}, FTK_TYPE_Q4_0); }
static void row_kquant(gw *w) { one_tensor(w, 2, (uint64_t[]){576, 1}, 12); }
static void types_removed(gw *w)
{
    static const uint32_t types[] = {4, 5, 31, 32, 33, 36, 37, 38};
    for (char i = 0; i < 8; i++)
        gw_tensor(w, (const char[]){(char)('a' + i), 0}, 1, (uint64_t[]){32}, types[(int)i], NULL,
                  18);
}
static void row_removed(gw *w) { one_tensor(w, 1, (uint64_t[]){33}, 31); }
static void row_nvfp4(gw *w) { one_tensor(w, 1, (uint64_t[]){32}, 40); }
static void types_unknown(gw *w)
{
    one_tensor(w, 1, (uint64_t[]){32}, 43);
    gw_tensor(w, "v", 1, (uint64_t[]){32}, 77, NULL, 5);
    gw_tensor(w, "w", 1, (uint64_t[]){32}, UINT32_MAX, NULL, 1);
}
static void row_unknown(gw *w) { one_tensor(w, 2, (uint64_t[]){33, 7}, 77); }
static void unknown_at(gw *w, const char *name, uint64_t offset)
{
    gw_record(w, name, 1, 1, (uint64_t[]){32}, 77, offset);
}
static void unknown_inside(gw *w) { unknown_at(w, "v", 0); }
static void unknown_same(gw *w)
{
    unknown_at(w, "u", 32);
    unknown_at(w, "v", 32);
    gw_put(&w->data, NULL, 32);
}
static void unknown_at_end(gw *w) { unknown_at(w, "u", 32); }
static void unknown_at_33(gw *w) { unknown_at(w, "u", 33); gw_put(&w->data, NULL, 64); }
static void unknown_wraps(gw *w) { unknown_at(w, "u", UINT64_MAX - 31); }
static void unknown_dim_0(gw *w) { one_tensor(w, 1, (uint64_t[]){0}, 77); }
static void unknown_2_63(gw *w) { one_tensor(w, 2, (uint64_t[]){UINT64_C(1) << 62, 2}, 77); }
static void at_33(gw *w) { at(w, 33); gw_put(&w->data, NULL, 4096); }
static void at_end(gw *w) { at(w, 32); }
static void at_past(gw *w) { at(w, 1 << 20); }
static void at_minus_32(gw *w) { at(w, UINT64_MAX - 31); }
static void at_same(gw *w) { at(w, 0); }
static void at_inside(gw *w)
{
    gw_put(&w->data, NULL, 4096);
    gw_record(w, "v", 1, 1, (uint64_t[]){100}, 24, 64);
    gw_record(w, "u", 1, 1, (uint64_t[]){8}, 24, 160);
}
static void odd_name(gw *w)
{
    gw_record(w, "\xC2\x9B" "31m\xE2\x96\x81%s%n", 12, 1, (uint64_t[]){0}, 77, 32);
}
/* clang-format on */

static const bad containers[] = {
    {"good", NULL, NULL, NULL, FTK_OK, ""},
    {"empty file", NULL, NULL, cut_0, FTK_ERR_FORMAT, "is empty: get it again"},
    {"shorter than the magic", NULL, NULL, cut_3, FTK_ERR_FORMAT,
     "not a GGUF file: it starts with 'GGU' instead of 'GGUF'"},
    {"shorter than the header", NULL, NULL, cut_10, FTK_ERR_FORMAT,
     "cut short: it has 10 bytes, the header alone has 24: get it again"},
    {"wrong magic", NULL, NULL, magic_zip, FTK_ERR_FORMAT,
     "not a GGUF file: it is a zip archive: unpack it with unzip, and give the .gguf file in it"},
    {"magic that harms a terminal", NULL, NULL, magic_escape, FTK_ERR_FORMAT,
     "not a GGUF file: it starts with '\\x1b[2J' instead of 'GGUF'"},
    {"version 0", NULL, NULL, version_0, FTK_ERR_FORMAT, "GGUF version 0 does not exist"},
    {"version 1", NULL, NULL, version_1, FTK_ERR_UNSUPPORTED,
     "GGUF version 1 is too old: convert the model again"},
    {"version 4", NULL, NULL, version_4, FTK_ERR_UNSUPPORTED,
     "GGUF version 4 is not known, only 2 and 3 are"},
    {"version 3, byte-swapped", NULL, NULL, version_swapped, FTK_ERR_UNSUPPORTED,
     "big-endian GGUF (version 3): convert it to little-endian"},
    {"version 2^32 - 1", NULL, NULL, version_max, FTK_ERR_UNSUPPORTED,
     "GGUF version 4294967295 is not known, only 2 and 3 are"},
    {"2^63 tensors", NULL, NULL, tensors_2_63, FTK_ERR_FORMAT,
     "9223372036854775808 tensors do not fit into the 104 bytes behind the header: is the file cut "
     "short? Get it again"},
    {"5 tensors where 4 fit", NULL, NULL, tensors_5, FTK_ERR_FORMAT,
     "5 tensors do not fit into the 104 bytes behind the header: is the file cut short? Get it "
     "again"},
    {"a tensor too many", NULL, NULL, tensors_2, FTK_ERR_FORMAT,
     "tensor number 1 of 2: a name of 0 bytes, allowed are 1 to 64"},
    {"2^64 - 1 keys", NULL, NULL, keys_max, FTK_ERR_FORMAT,
     "18446744073709551615 keys do not fit into the 104 bytes behind the header: is the file cut "
     "short? Get it again"},
    {"9 keys where 8 fit", NULL, NULL, keys_9, FTK_ERR_FORMAT,
     "9 keys do not fit into the 104 bytes behind the header: is the file cut short? Get it again"},
    {"two keys too many", NULL, NULL, keys_3, FTK_ERR_FORMAT,
     "key number 2 of 3: a name of 0 bytes, allowed are 1 to 65535"},
    {"more tensors than any model", NULL, NULL, too_many_tensors, FTK_ERR_UNSUPPORTED,
     "262145 tensors, at most 262144 are read"},
    {"more keys than any model", NULL, NULL, too_many_keys, FTK_ERR_UNSUPPORTED,
     "262145 keys, at most 262144 are read"},

    {"ends in a key's name length", "t", cut_key_length, NULL, FTK_ERR_FORMAT,
     "key number 2 of 3: its name ends beyond the end of the file: is the file cut short? Get it "
     "again"},
    {"ends in a key's name", "t", cut_key_name, NULL, FTK_ERR_FORMAT,
     "key number 2 of 3: its name ends beyond the end of the file: is the file cut short? Get it "
     "again"},
    {"ends in a key's type", "t", cut_key_type, NULL, FTK_ERR_FORMAT,
     "key b: it is cut off by the end of the file: is the file cut short? Get it again"},
    {"ends in a key's value", "t", cut_key_value, NULL, FTK_ERR_FORMAT,
     "key b: it is cut off by the end of the file: is the file cut short? Get it again"},
    {"ends in a string's length", "t", cut_key_string, NULL, FTK_ERR_FORMAT,
     "key b: its string ends beyond the end of the file: is the file cut short? Get it again"},
    {"ends in an array's count", "t", cut_key_array, NULL, FTK_ERR_FORMAT,
     "key b: it is cut off by the end of the file: is the file cut short? Get it again"},
    {"key name of 0 bytes", NULL, key_empty, NULL, FTK_ERR_FORMAT,
     "key number 1 of 2: a name of 0 bytes, allowed are 1 to 65535"},
    {"key name of 65535 bytes", NULL, key_65535, NULL, FTK_OK, ""},
    {"key name of 65536 bytes", NULL, key_65536, NULL, FTK_ERR_FORMAT,
     "key number 1 of 2: a name of 65536 bytes, allowed are 1 to 65535"},
    {"key name of 2^63 bytes", NULL, key_2_63, NULL, FTK_ERR_FORMAT,
     "key number 1 of 2: its name ends beyond the end of the file: is the file cut short? Get it "
     "again"},
    {"key name with NUL", NULL, key_nul, NULL, FTK_ERR_FORMAT,
     "key b\\x00c: the name is not valid UTF-8 text"},
    {"key name that is broken UTF-8", NULL, key_broken, NULL, FTK_ERR_FORMAT,
     "key b\\xc3(\\x1b\\x0a: the name is not valid UTF-8 text"},
    {"key name: overlong UTF-8", NULL, key_overlong, NULL, FTK_ERR_FORMAT,
     "key \\xc0\\x80: the name is not valid UTF-8 text"},
    {"key name: surrogate", NULL, key_surrogate, NULL, FTK_ERR_FORMAT,
     "key \\xed\\xa0\\x80: the name is not valid UTF-8 text"},
    {"key name: above U+10FFFF", NULL, key_too_high, NULL, FTK_ERR_FORMAT,
     "key \\xf4\\x90\\x80\\x80: the name is not valid UTF-8 text"},
    {"key name: character cut short", NULL, key_cut_char, NULL, FTK_ERR_FORMAT,
     "key \\xe2\\x96: the name is not valid UTF-8 text"},
    {"key twice", NULL, key_twice, NULL, FTK_ERR_FORMAT, "key a: it is there twice"},
    {"unknown value type", NULL, type_13, NULL, FTK_ERR_FORMAT, "key b: unknown value type 13"},
    {"bool 2", NULL, bool_2, NULL, FTK_ERR_FORMAT, "key b: 2 is not a bool"},
    {"bool 255 in an array", NULL, bools_2, NULL, FTK_ERR_FORMAT, "key b: 255 is not a bool"},
    {"string of 2^63 bytes", NULL, str_2_63, NULL, FTK_ERR_FORMAT,
     "key b: its string ends beyond the end of the file: is the file cut short? Get it again"},
    {"array of arrays", NULL, array_of_arrays, NULL, FTK_ERR_UNSUPPORTED,
     "key b: an array of arrays is not supported"},
    {"array of an unknown type", NULL, array_type_99, NULL, FTK_ERR_FORMAT,
     "key b: an array of unknown value type 99"},
    {"array of 2^63 bytes", NULL, array_2_63, NULL, FTK_ERR_FORMAT,
     "key b: 9223372036854775808 values of type u8 do not fit into the 94 bytes left in the file: "
     "is the file cut short? Get it again"},
    {"array whose bytes pass 2^64", NULL, array_2_61, NULL, FTK_ERR_FORMAT,
     "key b: 2305843009213693952 values of type f64 do not fit into the 94 bytes left in the file: "
     "is the file cut short? Get it again"},
    {"array of no elements", NULL, array_empty, NULL, FTK_OK, ""},
    {"array of 2^60 strings", NULL, strings_2_60, NULL, FTK_ERR_FORMAT,
     "key b: 1152921504606846976 strings do not fit into the 94 bytes left in the file: is the "
     "file cut short? Get it again"},
    {"string of an array beyond the end", NULL, strings_beyond, NULL, FTK_ERR_FORMAT,
     "key b: string 1 of 3 ends beyond the end of the file: is the file cut short? Get it again"},

    {"alignment 0", NULL, align_0, NULL, FTK_ERR_FORMAT,
     "key general.alignment: 0 is not a power of two from 8 to 1048576"},
    {"alignment 3", NULL, align_3, NULL, FTK_ERR_FORMAT,
     "key general.alignment: 3 is not a power of two from 8 to 1048576"},
    {"alignment 4", NULL, align_4, NULL, FTK_ERR_FORMAT,
     "key general.alignment: 4 is not a power of two from 8 to 1048576"},
    {"alignment 48", NULL, align_48, NULL, FTK_ERR_FORMAT,
     "key general.alignment: 48 is not a power of two from 8 to 1048576"},
    {"alignment 2^31", NULL, align_2_31, NULL, FTK_ERR_FORMAT,
     "key general.alignment: 2147483648 is not a power of two from 8 to 1048576"},
    {"alignment of type u64", NULL, align_u64, NULL, FTK_ERR_FORMAT,
     "key general.alignment: its type is u64, it must be u32"},
    {"alignment that is a string", NULL, align_str, NULL, FTK_ERR_FORMAT,
     "key general.alignment: its type is string, it must be u32"},
    {"alignment 64, tensor at 32", NULL, align_64, NULL, FTK_ERR_FORMAT,
     "tensor u: offset 32 is not a multiple of the alignment 64"},

    {"ends in a tensor's name length", NULL, tensor_cut, NULL, FTK_ERR_FORMAT,
     "tensor number 1 of 2: its name ends beyond the end of the file: is the file cut short? Get "
     "it again"},
    {"ends in a tensor's dimensions", NULL, NULL, cut_60, FTK_ERR_FORMAT,
     "tensor t: it is cut off by the end of the file: is the file cut short? Get it again"},
    {"ends before the data", NULL, NULL, cut_80, FTK_ERR_FORMAT,
     "tensor t: 32 of its 32 bytes are missing: the file is cut short, get it again"},
    {"the last byte is missing", NULL, NULL, cut_1, FTK_ERR_FORMAT,
     "tensor t: 1 of its 32 bytes are missing: the file is cut short, get it again"},
    {"tensor name of 0 bytes", NULL, tensor_empty, NULL, FTK_ERR_FORMAT,
     "tensor number 1 of 2: a name of 0 bytes, allowed are 1 to 64"},
    {"tensor name of 65 bytes", NULL, tensor_65, NULL, FTK_ERR_FORMAT,
     "tensor number 1 of 2: a name of 65 bytes, allowed are 1 to 64"},
    {"tensor name of 2^63 bytes", NULL, tensor_2_63, NULL, FTK_ERR_FORMAT,
     "tensor number 1 of 2: its name ends beyond the end of the file: is the file cut short? Get "
     "it again"},
    {"tensor name with NUL", NULL, tensor_nul, NULL, FTK_ERR_FORMAT,
     "tensor u\\x00v: the name is not valid UTF-8 text"},
    {"tensor name that is broken UTF-8", NULL, tensor_broken, NULL, FTK_ERR_FORMAT,
     "tensor u\\x9b2J\\x7f: the name is not valid UTF-8 text"},
    {"tensor twice", NULL, tensor_twice, NULL, FTK_ERR_FORMAT, "tensor t: it is there twice"},
    {"tensor twice at one offset", NULL, tensor_same, NULL, FTK_ERR_FORMAT,
     "tensor t: it is there twice"},
    {"0 dimensions", NULL, dims_0, NULL, FTK_ERR_FORMAT,
     "tensor u: it has 0 dimensions, allowed are 1 to 4"},
    {"5 dimensions", NULL, dims_5, NULL, FTK_ERR_FORMAT,
     "tensor u: it has 5 dimensions, allowed are 1 to 4"},
    {"2^32 - 1 dimensions", NULL, dims_max, NULL, FTK_ERR_FORMAT,
     "tensor u: it has 4294967295 dimensions, allowed are 1 to 4"},
    {"dimension of 0", NULL, dim_0, NULL, FTK_ERR_FORMAT, "tensor u: dimension 1 is 0"},
    {"dimension of -1", NULL, dim_negative, NULL, FTK_ERR_FORMAT,
     "tensor u: the product of its dimensions passes 2^63"},
    {"2^63 elements", NULL, dims_2_63, NULL, FTK_ERR_FORMAT,
     "tensor u: the product of its dimensions passes 2^63"},
    {"elements that wrap to a negative number", NULL, dims_wrap, NULL, FTK_ERR_FORMAT,
     "tensor u: the product of its dimensions passes 2^63"},
    {"elements that wrap to 0", NULL, dims_wrap_0, NULL, FTK_ERR_FORMAT,
     "tensor u: the product of its dimensions passes 2^63"},
    {"2^63 bytes", NULL, bytes_2_63, NULL, FTK_ERR_FORMAT,
     "tensor u: its size in bytes passes 2^63"},
    {"row of 33 in Q8_0", NULL, row_33, NULL, FTK_ERR_FORMAT,
     "tensor u: its rows of 33 elements are no multiple of the type's block of 32"},
    {"two rows of 16 in Q4_0", NULL, row_16, NULL, FTK_ERR_FORMAT,
     "tensor u: its rows of 16 elements are no multiple of the type's block of 32"},
    {"row of 576 in Q4_K", NULL, row_kquant, NULL, FTK_ERR_FORMAT,
     "tensor u: its rows of 576 elements are no multiple of the type's block of 256"},
    {"types that were removed", NULL, types_removed, NULL, FTK_OK, ""},
    {"row of 33 in the removed Q4_0_4_4", NULL, row_removed, NULL, FTK_ERR_FORMAT,
     "tensor u: its rows of 33 elements are no multiple of the type's block of 32"},
    {"row of 32 in NVFP4", NULL, row_nvfp4, NULL, FTK_ERR_FORMAT,
     "tensor u: its rows of 32 elements are no multiple of the type's block of 64"},
    {"types nobody knows yet", NULL, types_unknown, NULL, FTK_OK, ""},
    {"unknown type, rows of any length", NULL, row_unknown, NULL, FTK_OK, ""},
    {"unknown type in the data of another", NULL, unknown_inside, NULL, FTK_ERR_FORMAT,
     "tensor v: its data overlaps that of tensor t"},
    {"two of an unknown type at one offset", NULL, unknown_same, NULL, FTK_ERR_FORMAT,
     "tensor v: its data overlaps that of tensor u"},
    {"unknown type at the end", NULL, unknown_at_end, NULL, FTK_ERR_FORMAT,
     "tensor u: offset 32 lies beyond the 32 bytes of data: is the file cut short? Get it again"},
    {"unknown type, offset 33", NULL, unknown_at_33, NULL, FTK_ERR_FORMAT,
     "tensor u: offset 33 is not a multiple of the alignment 32"},
    {"unknown type, offset that wraps", NULL, unknown_wraps, NULL, FTK_ERR_FORMAT,
     "tensor u: offset 18446744073709551584 lies beyond the 32 bytes of data: is the file cut "
     "short? Get it again"},
    {"unknown type, dimension of 0", NULL, unknown_dim_0, NULL, FTK_ERR_FORMAT,
     "tensor u: dimension 0 is 0"},
    {"unknown type, 2^63 elements", NULL, unknown_2_63, NULL, FTK_ERR_FORMAT,
     "tensor u: the product of its dimensions passes 2^63"},
    {"offset 33", NULL, at_33, NULL, FTK_ERR_FORMAT,
     "tensor u: offset 33 is not a multiple of the alignment 32"},
    {"offset at the end", NULL, at_end, NULL, FTK_ERR_FORMAT,
     "tensor u: 32 of its 32 bytes are missing: the file is cut short, get it again"},
    {"offset past the end", NULL, at_past, NULL, FTK_ERR_FORMAT,
     "tensor u: offset 1048576 lies beyond the 32 bytes of data: is the file cut short? Get "
     "it again"},
    {"offset that wraps into the header", NULL, at_minus_32, NULL, FTK_ERR_FORMAT,
     "tensor u: offset 18446744073709551584 lies beyond the 32 bytes of data: is the file cut "
     "short? Get it again"},
    {"two tensors at one offset", NULL, at_same, NULL, FTK_ERR_FORMAT,
     "tensor u: its data overlaps that of tensor t"},
    {"tensors that overlap in part", NULL, at_inside, NULL, FTK_ERR_FORMAT,
     "tensor v: its data overlaps that of tensor u"},
    {"name with control characters and conversions", NULL, odd_name, NULL, FTK_ERR_FORMAT,
     "tensor \\xc2\\x9b31m▁%s%n: dimension 0 is 0"},
};

static void test_containers(void **state)
{
    (void)state;
    int failed = 0;
    for (size_t i = 0; i < sizeof containers / sizeof containers[0]; i++)
        failed += run_bad(&containers[i], small_file, try_reader);
    assert_int_equal(failed, 0);
}

/* ------------------------------------------------------------------ cut short */

/* Of a file of n bytes whatever part of at least `least` is there, the line asks whether that is
 * all. */
static void check_cuts(const void *file, size_t n, size_t least, attempt *try)
{
    for (size_t cut = least; cut < n; cut++) {
        counting c = {0};
        assert_true(gw_save(path, file, cut));
        assert_int_equal(try(path, &c), FTK_ERR_FORMAT);
        if (c.errors != 1 || !strstr(c.line, "cut ") || !strcasestr(c.line, "get it again"))
            fail_msg("%zu of %zu bytes: %s", cut, n, c.line);
    }
}

static void test_cuts(void **state)
{
    (void)state;
    gw w;
    gw_init(&w);
    gw_u32(&w, "a", 1);
    gw_str(&w, "b", "text");
    gw_array(&w, "c", FTK_GGUF_F32, 2, (float[]){1, 2});
    gw_str_array(&w, "d", 2, (ftk_str[]){{"x", 1}, {"yz", 2}});
    gw_tensor(&w, "t", 1, (uint64_t[]){8}, FTK_TYPE_F32, NULL, 32);
    gw_tensor(&w, "u", 2, (uint64_t[]){4, 2}, FTK_TYPE_F32, NULL, 32);
    gw_bytes file = gw_finish(&w);
    gw_free(&w);
    check_cuts(file.p, file.n, 4, try_reader);
    free(file.p);
}

static ftk_err try_safetensors(const char *p, counting *c)
{
    const ftk_host host = counting_host(c);
    ftk_safetensors s;
    const ftk_err err = ftk_safetensors_open(&s, p, &host);
    if (err == FTK_OK) ftk_safetensors_close(&s, &host);
    return err;
}

static void test_cut_safetensors(void **state)
{
    (void)state;
    static const char header[] =
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}";
    char file[8 + sizeof header - 1 + 24] = {sizeof header - 1};
    memcpy(file + 8, header, sizeof header - 1);
    assert_true(gw_save(path, file, sizeof file));
    counting c = {0};
    assert_int_equal(try_safetensors(path, &c), FTK_OK);
    check_cuts(file, sizeof file, 10, try_safetensors); /* less could be anything */
}

/* ------------------------------------------------------------------ not files */

/* What may stand in a file's place. */
static void test_not_files(void **state)
{
    (void)state;
    int failed = 0;
    unlink(path);
    failed += refused("missing", path, try_reader, FTK_ERR_IO,
                      "cannot be opened: No such file or directory");
    assert_int_equal(mkdir(path, 0700), 0);
    failed += refused("directory", path, try_reader, FTK_ERR_IO, "is a directory, not a GGUF file");
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    failed += refused("pipe", path, try_reader, FTK_ERR_IO,
                      "is not a regular file, so it cannot be mapped");
    unlink(path);
    failed += refused("device", "/dev/null", try_reader, FTK_ERR_IO,
                      "is not a regular file, so it cannot be mapped");
    assert_true(gw_save(path, "GGUF", 4));
    chmod(path, 0);
    /* Root reads everything, so it becomes somebody else for a moment. */
    const bool root = geteuid() == 0;
    if (!root || seteuid(65534) == 0)
        failed += refused("unreadable", path, try_reader, FTK_ERR_IO,
                          "cannot be opened: Permission denied");
    else
        print_message("SKIPPED: unreadable file, as root cannot become another user\n");
    if (root && seteuid(0) != 0) failed++;
    unlink(path);
    assert_int_equal(failed, 0);
}

int main(void)
{
    choose_path();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_files),
        cmocka_unit_test(test_containers),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_cut_safetensors),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
