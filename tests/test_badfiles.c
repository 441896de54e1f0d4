/* SPDX-License-Identifier: Apache-2.0
 *
 * What a bad model file can hold, and the one line each gets.
 *
 * How the cases are handled:
 *  - Wrong bytes of the container (header, keys, tensor records, offsets, missing data) are refused
 *    by ftk_gguf_open(); wrong meaning (hyper-parameters, shapes, vocabulary) by ftk_model_load().
 *  - An empty array is a right one for the reader; the model refuses it where it needs elements.
 *  - Bytes behind the last tensor and merges, which SentencePiece has no use for, are ignored; a
 *    chat template of 10 MiB is no fault of the model.
 *  - Scales of quantized blocks and other matrix weights that are not finite are not looked for at
 *    load time, which would read the whole file twice; the pass gives FTK_ERR_NUMERIC then. Norms,
 *    which are copied anyway, are checked.
 *  - A file that shrinks while it is mapped cannot be handled: reading beyond its new end raises
 *    SIGBUS, and a library may not own a signal handler. foretoken.h forbids it; loading copies the
 *    vocabulary, the norms and all packed weights, so that little is read from the mapping later.
 *    There is no test of it.
 *
 * Then chance: every file cut at each 64th of its length, and 2,000 corrupted headers, must load or
 * give exactly one line. */
#include <math.h>
#include <sys/stat.h>

#include "onebad.h"

#ifndef FTK_SHARED_DIR
#define FTK_SHARED_DIR "."
#endif

static char path[64];

/* ------------------------------------------------------------------ one bad thing at a time */

typedef struct bad {
    const char *what;
    const char *skip;         /* a key or tensor of the good file to leave out */
    void (*make)(gw *w);      /* what to put there */
    void (*edit)(gw_bytes *); /* or: how to spoil the bytes of the file */
    ftk_err err;
    const char *line; /* behind the path */
} bad;

static int refused(const char *what, const char *p, attempt *try, ftk_err err, const char *line)
{
    return check(what, p, try, err, p, line);
}

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
     "cut short: it has 10 bytes, the header alone has 24"},
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
     "9223372036854775808 tensors do not fit into the 104 bytes behind the header"},
    {"5 tensors where 4 fit", NULL, NULL, tensors_5, FTK_ERR_FORMAT,
     "5 tensors do not fit into the 104 bytes behind the header"},
    {"a tensor too many", NULL, NULL, tensors_2, FTK_ERR_FORMAT,
     "tensor number 1 of 2: a name of 0 bytes, allowed are 1 to 64"},
    {"2^64 - 1 keys", NULL, NULL, keys_max, FTK_ERR_FORMAT,
     "18446744073709551615 keys do not fit into the 104 bytes behind the header"},
    {"9 keys where 8 fit", NULL, NULL, keys_9, FTK_ERR_FORMAT,
     "9 keys do not fit into the 104 bytes behind the header"},
    {"two keys too many", NULL, NULL, keys_3, FTK_ERR_FORMAT,
     "key number 2 of 3: a name of 0 bytes, allowed are 1 to 65535"},
    {"more tensors than any model", NULL, NULL, too_many_tensors, FTK_ERR_UNSUPPORTED,
     "262145 tensors, at most 262144 are read"},
    {"more keys than any model", NULL, NULL, too_many_keys, FTK_ERR_UNSUPPORTED,
     "262145 keys, at most 262144 are read"},

    {"ends in a key's name length", "t", cut_key_length, NULL, FTK_ERR_FORMAT,
     "key number 2 of 3: its name ends beyond the end of the file"},
    {"ends in a key's name", "t", cut_key_name, NULL, FTK_ERR_FORMAT,
     "key number 2 of 3: its name ends beyond the end of the file"},
    {"ends in a key's type", "t", cut_key_type, NULL, FTK_ERR_FORMAT,
     "key b: it is cut off by the end of the file"},
    {"ends in a key's value", "t", cut_key_value, NULL, FTK_ERR_FORMAT,
     "key b: it is cut off by the end of the file"},
    {"ends in a string's length", "t", cut_key_string, NULL, FTK_ERR_FORMAT,
     "key b: its string ends beyond the end of the file"},
    {"ends in an array's count", "t", cut_key_array, NULL, FTK_ERR_FORMAT,
     "key b: it is cut off by the end of the file"},
    {"key name of 0 bytes", NULL, key_empty, NULL, FTK_ERR_FORMAT,
     "key number 1 of 2: a name of 0 bytes, allowed are 1 to 65535"},
    {"key name of 65535 bytes", NULL, key_65535, NULL, FTK_OK, ""},
    {"key name of 65536 bytes", NULL, key_65536, NULL, FTK_ERR_FORMAT,
     "key number 1 of 2: a name of 65536 bytes, allowed are 1 to 65535"},
    {"key name of 2^63 bytes", NULL, key_2_63, NULL, FTK_ERR_FORMAT,
     "key number 1 of 2: its name ends beyond the end of the file"},
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
     "key b: its string ends beyond the end of the file"},
    {"array of arrays", NULL, array_of_arrays, NULL, FTK_ERR_UNSUPPORTED,
     "key b: an array of arrays is not supported"},
    {"array of an unknown type", NULL, array_type_99, NULL, FTK_ERR_FORMAT,
     "key b: an array of unknown value type 99"},
    {"array of 2^63 bytes", NULL, array_2_63, NULL, FTK_ERR_FORMAT,
     "key b: 9223372036854775808 values of type u8 do not fit into the 94 bytes left in the file"},
    {"array whose bytes pass 2^64", NULL, array_2_61, NULL, FTK_ERR_FORMAT,
     "key b: 2305843009213693952 values of type f64 do not fit into the 94 bytes left in the file"},
    {"array of no elements", NULL, array_empty, NULL, FTK_OK, ""},
    {"array of 2^60 strings", NULL, strings_2_60, NULL, FTK_ERR_FORMAT,
     "key b: 1152921504606846976 strings do not fit into the 94 bytes left in the file"},
    {"string of an array beyond the end", NULL, strings_beyond, NULL, FTK_ERR_FORMAT,
     "key b: string 1 of 3 ends beyond the end of the file"},

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
     "tensor number 1 of 2: its name ends beyond the end of the file"},
    {"ends in a tensor's dimensions", NULL, NULL, cut_60, FTK_ERR_FORMAT,
     "tensor t: it is cut off by the end of the file"},
    {"ends before the data", NULL, NULL, cut_80, FTK_ERR_FORMAT,
     "tensor t: 32 of its 32 bytes are missing: the file is cut short, get it again"},
    {"the last byte is missing", NULL, NULL, cut_1, FTK_ERR_FORMAT,
     "tensor t: 1 of its 32 bytes are missing: the file is cut short, get it again"},
    {"tensor name of 0 bytes", NULL, tensor_empty, NULL, FTK_ERR_FORMAT,
     "tensor number 1 of 2: a name of 0 bytes, allowed are 1 to 64"},
    {"tensor name of 65 bytes", NULL, tensor_65, NULL, FTK_ERR_FORMAT,
     "tensor number 1 of 2: a name of 65 bytes, allowed are 1 to 64"},
    {"tensor name of 2^63 bytes", NULL, tensor_2_63, NULL, FTK_ERR_FORMAT,
     "tensor number 1 of 2: its name ends beyond the end of the file"},
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

/* ------------------------------------------------------------------ hyper-parameters */

enum { MISSING = FTK_GGUF_N_TYPES };

/* A key of the good model, replaced by this value. */
typedef struct bad_key {
    const char *what, *key;
    int type; /* or MISSING */
    uint64_t u;
    double f;
    const char *s;
    ftk_err err;
    const char *line;
} bad_key;

#define NO_KEY(key)        "without " key, key, MISSING, 0, 0, NULL
#define UINT(what, key, v) what, key, FTK_GGUF_U32, v, 0, NULL
#define SINT(what, key, v) what, key, FTK_GGUF_I32, (uint64_t)(v), 0, NULL
#define LONG(what, key, v) what, key, FTK_GGUF_U64, v, 0, NULL
#define REAL(what, key, v) what, key, FTK_GGUF_F32, 0, v, NULL
#define TEXT(what, key, v) what, key, FTK_GGUF_STRING, 0, 0, v

static const bad_key keys[] = {
    {UINT("good: another key", "general.quantization_version", 2), FTK_OK, ""},
    {NO_KEY("general.architecture"), FTK_ERR_FORMAT, "key general.architecture is missing"},
    {UINT("architecture is a number", "general.architecture", 1), FTK_ERR_FORMAT,
     "key general.architecture is not a string"},
    {TEXT("architecture is empty", "general.architecture", ""), FTK_ERR_UNSUPPORTED,
     "architecture \"\" is not supported, only llama, qwen2, qwen3, phi3 and gemma3 are"},
    {TEXT("another architecture", "general.architecture", "mamba"), FTK_ERR_UNSUPPORTED,
     "architecture \"mamba\" is not supported, only llama, qwen2, qwen3, phi3 and gemma3 are"},
    {TEXT("architecture with an escape", "general.architecture", "\x1b[2Jx"), FTK_ERR_UNSUPPORTED,
     "architecture \"\\x1b[2Jx\" is not supported, only llama, qwen2, qwen3, phi3 and gemma3 are"},
    {NO_KEY("general.name"), FTK_OK, ""},
    {UINT("name is a number", "general.name", 1), FTK_OK, ""},
    {LONG("one of two files", "split.count", 2), FTK_ERR_FORMAT,
     "it is one of 2 parts of a model, which are found by their names: they must end in "
     "-00001-of-00002.gguf and so on"},

    {NO_KEY("llama.block_count"), FTK_ERR_FORMAT, "key llama.block_count is missing"},
    {UINT("0 layers", "llama.block_count", 0), FTK_ERR_FORMAT,
     "key llama.block_count is out of range: it must be 1 to 512"},
    {UINT("a layer too many", "llama.block_count", 3), FTK_ERR_FORMAT,
     "tensor blk.2.attn_q.weight is missing"},
    {UINT("513 layers", "llama.block_count", 513), FTK_ERR_FORMAT,
     "key llama.block_count is out of range: it must be 1 to 512"},
    {UINT("2^31 layers", "llama.block_count", UINT32_C(1) << 31), FTK_ERR_FORMAT,
     "key llama.block_count is out of range: it must be 1 to 512"},
    {SINT("-1 layers", "llama.block_count", -1), FTK_ERR_FORMAT,
     "key llama.block_count is out of range: it must be 1 to 512"},
    {LONG("2^32 + 2 layers", "llama.block_count", (UINT64_C(1) << 32) + 2), FTK_ERR_FORMAT,
     "key llama.block_count is out of range: it must be 1 to 512"},
    {REAL("layers as a float", "llama.block_count", 2), FTK_ERR_FORMAT,
     "key llama.block_count is not an integer"},
    {TEXT("layers as a string", "llama.block_count", "2"), FTK_ERR_FORMAT,
     "key llama.block_count is not an integer"},
    {NO_KEY("llama.embedding_length"), FTK_ERR_FORMAT, "key llama.embedding_length is missing"},
    {UINT("embedding of 0", "llama.embedding_length", 0), FTK_ERR_FORMAT,
     "key llama.embedding_length is out of range: it must be 1 to 65536"},
    {UINT("embedding of 66", "llama.embedding_length", 66), FTK_ERR_FORMAT,
     "llama.embedding_length 66 is not a multiple of llama.attention.head_count 4"},
    {UINT("embedding of 2^31", "llama.embedding_length", UINT32_C(1) << 31), FTK_ERR_FORMAT,
     "key llama.embedding_length is out of range: it must be 1 to 65536"},
    {UINT("feed-forward of 0", "llama.feed_forward_length", 0), FTK_ERR_FORMAT,
     "key llama.feed_forward_length is out of range: it must be 1 to 1048576"},
    {UINT("feed-forward of 97", "llama.feed_forward_length", 97), FTK_ERR_FORMAT,
     "tensor blk.0.ffn_gate.weight has shape [64, 96] instead of [64, 97]"},
    {UINT("context of 0", "llama.context_length", 0), FTK_ERR_FORMAT,
     "key llama.context_length is out of range: it must be 1 to 134217728"},
    {LONG("context of 2^32", "llama.context_length", UINT64_C(1) << 32), FTK_ERR_FORMAT,
     "key llama.context_length is out of range: it must be 1 to 134217728"},
    {UINT("experts", "llama.expert_count", 8), FTK_ERR_UNSUPPORTED,
     "a mixture of experts (llama.expert_count 8) is not supported yet"},
    {UINT("experts: none", "llama.expert_count", 0), FTK_OK, ""},

    {UINT("0 heads", "llama.attention.head_count", 0), FTK_ERR_FORMAT,
     "key llama.attention.head_count is out of range: it must be 1 to 1024"},
    {UINT("6 heads", "llama.attention.head_count", 6), FTK_ERR_FORMAT,
     "llama.embedding_length 64 is not a multiple of llama.attention.head_count 6"},
    {UINT("64 heads", "llama.attention.head_count", 64), FTK_ERR_UNSUPPORTED,
     "head size 1 is not supported: it must be even and at most 256"},
    {UINT("2^31 heads", "llama.attention.head_count", UINT32_C(1) << 31), FTK_ERR_FORMAT,
     "key llama.attention.head_count is out of range: it must be 1 to 1024"},
    {UINT("0 KV heads", "llama.attention.head_count_kv", 0), FTK_ERR_FORMAT,
     "key llama.attention.head_count_kv is out of range: it must be 1 to 1024"},
    {UINT("3 KV heads", "llama.attention.head_count_kv", 3), FTK_ERR_FORMAT,
     "llama.attention.head_count 4 is not a multiple of head_count_kv 3"},
    {UINT("8 KV heads", "llama.attention.head_count_kv", 8), FTK_ERR_FORMAT,
     "llama.attention.head_count 4 is not a multiple of head_count_kv 8"},
    {UINT("1 KV head, tensors of 2", "llama.attention.head_count_kv", 1), FTK_ERR_FORMAT,
     "tensor blk.0.attn_k.weight has shape [64, 32] instead of [64, 16]"},
    {UINT("head size 0", "llama.attention.key_length", 0), FTK_ERR_FORMAT,
     "key llama.attention.key_length is out of range: it must be 1 to 256"},
    {UINT("head size 15", "llama.attention.key_length", 15), FTK_ERR_UNSUPPORTED,
     "head size 15 is not supported: it must be even and at most 256"},
    {UINT("head size 8", "llama.attention.key_length", 8), FTK_ERR_FORMAT,
     "key llama.rope.dimension_count is out of range: it must be 2 to 8"},
    {UINT("head size 18", "llama.attention.key_length", 18), FTK_ERR_FORMAT,
     "tensor blk.0.attn_q.weight has shape [64, 64] instead of [64, 72]"},
    {UINT("head size 258", "llama.attention.key_length", 258), FTK_ERR_FORMAT,
     "key llama.attention.key_length is out of range: it must be 1 to 256"},
    {UINT("values of another size", "llama.attention.value_length", 32), FTK_ERR_UNSUPPORTED,
     "key length 16 and value length 32 differ: not supported yet"},

    {UINT("RoPE over 0", "llama.rope.dimension_count", 0), FTK_ERR_FORMAT,
     "key llama.rope.dimension_count is out of range: it must be 2 to 16"},
    {UINT("RoPE over 15", "llama.rope.dimension_count", 15), FTK_ERR_FORMAT,
     "llama.rope.dimension_count 15 is odd"},
    {UINT("RoPE over 18", "llama.rope.dimension_count", 18), FTK_ERR_FORMAT,
     "key llama.rope.dimension_count is out of range: it must be 2 to 16"},
    {REAL("RoPE base 0", "llama.rope.freq_base", 0), FTK_ERR_FORMAT,
     "key llama.rope.freq_base is out of range: it must be above 0 and at most 1e+12"},
    {REAL("RoPE base -1", "llama.rope.freq_base", -1), FTK_ERR_FORMAT,
     "key llama.rope.freq_base is out of range: it must be above 0 and at most 1e+12"},
    {REAL("RoPE base NaN", "llama.rope.freq_base", NAN), FTK_ERR_FORMAT,
     "key llama.rope.freq_base is out of range: it must be above 0 and at most 1e+12"},
    {REAL("RoPE base infinite", "llama.rope.freq_base", INFINITY), FTK_ERR_FORMAT,
     "key llama.rope.freq_base is out of range: it must be above 0 and at most 1e+12"},
    {UINT("RoPE base an integer", "llama.rope.freq_base", 10000), FTK_ERR_FORMAT,
     "key llama.rope.freq_base is not a float"},
    {TEXT("RoPE scaling yarn", "llama.rope.scaling.type", "yarn"), FTK_ERR_UNSUPPORTED,
     "llama.rope.scaling.type is not supported: only none, linear and the llama-3 tensor "
     "rope_freqs.weight are"},
    {TEXT("RoPE scaling none", "llama.rope.scaling.type", "none"), FTK_OK, ""},
    {TEXT("RoPE scaling without factor", "llama.rope.scaling.type", "linear"), FTK_ERR_FORMAT,
     "key llama.rope.scaling.factor is missing"},
    {REAL("RoPE scaling 0", "llama.rope.scale_linear", 0), FTK_ERR_FORMAT,
     "key llama.rope.scale_linear is out of range: it must be above 0 and at most 1e+06"},
    {REAL("RoPE scaling NaN", "llama.rope.scale_linear", NAN), FTK_ERR_FORMAT,
     "key llama.rope.scale_linear is out of range: it must be above 0 and at most 1e+06"},

    {NO_KEY("llama.attention.layer_norm_rms_epsilon"), FTK_ERR_FORMAT,
     "key llama.attention.layer_norm_rms_epsilon is missing"},
    {REAL("epsilon NaN", "llama.attention.layer_norm_rms_epsilon", NAN), FTK_ERR_FORMAT,
     "key llama.attention.layer_norm_rms_epsilon is out of range: it must be above 0 and at "
     "most 1"},
    {REAL("epsilon infinite", "llama.attention.layer_norm_rms_epsilon", INFINITY), FTK_ERR_FORMAT,
     "key llama.attention.layer_norm_rms_epsilon is out of range: it must be above 0 and at "
     "most 1"},
    {REAL("epsilon negative", "llama.attention.layer_norm_rms_epsilon", -1e-5), FTK_ERR_FORMAT,
     "key llama.attention.layer_norm_rms_epsilon is out of range: it must be above 0 and at "
     "most 1"},
    {REAL("epsilon 0", "llama.attention.layer_norm_rms_epsilon", 0), FTK_ERR_FORMAT,
     "key llama.attention.layer_norm_rms_epsilon is out of range: it must be above 0 and at "
     "most 1"},

    {NO_KEY("tokenizer.ggml.model"), FTK_ERR_FORMAT,
     "the vocabulary is missing: there is no key tokenizer.ggml.model"},
    {TEXT("vocabulary kind bert", "tokenizer.ggml.model", "bert"), FTK_ERR_UNSUPPORTED,
     "vocabulary kind 'bert' is not supported yet: only llama (SentencePiece) and gpt2 (byte "
     "pairs)"},
    {TEXT("vocabulary kind with an escape", "tokenizer.ggml.model", "\x1b[2J"), FTK_ERR_UNSUPPORTED,
     "vocabulary kind '\\x1b[2J' is not supported yet: only llama (SentencePiece) and gpt2 (byte "
     "pairs)"},
    {UINT("vocabulary kind a number", "tokenizer.ggml.model", 1), FTK_ERR_FORMAT,
     "tokenizer.ggml.model is not a string"},
    {NO_KEY("tokenizer.ggml.tokens"), FTK_ERR_FORMAT, "tokenizer.ggml.tokens is missing"},
    {NO_KEY("tokenizer.ggml.scores"), FTK_ERR_FORMAT, "tokenizer.ggml.scores is missing"},
    {NO_KEY("tokenizer.ggml.token_type"), FTK_OK, ""},
    {UINT("tokens are a number", "tokenizer.ggml.tokens", 300), FTK_ERR_FORMAT,
     "tokenizer.ggml.tokens is not an array"},
    {UINT("BOS beyond the vocabulary", "tokenizer.ggml.bos_token_id", 300), FTK_OK, ""},
    {UINT("EOS beyond the vocabulary", "tokenizer.ggml.eos_token_id", UINT32_MAX), FTK_OK, ""},
    {SINT("EOS -1", "tokenizer.ggml.eos_token_id", -1), FTK_OK, ""},
    {UINT("EOT beyond the vocabulary", "tokenizer.ggml.eot_token_id", 300), FTK_OK, ""},
    {TEXT("BOS is a string", "tokenizer.ggml.bos_token_id", "<s>"), FTK_ERR_FORMAT,
     "tokenizer.ggml.bos_token_id is not an integer"},
    {UINT("unknown token beyond the vocabulary", "tokenizer.ggml.unknown_token_id", 300), FTK_OK,
     ""},
    {UINT("add_bos is a number", "tokenizer.ggml.add_bos_token", 1), FTK_ERR_FORMAT,
     "tokenizer.ggml.add_bos_token is not a bool"},
    {NO_KEY("tokenizer.ggml.bos_token_id"), FTK_OK, ""},
    {UINT("chat template is a number", "tokenizer.chat_template", 1), FTK_ERR_FORMAT,
     "tokenizer.chat_template is not a string"},
    {TEXT("chat template nobody knows", "tokenizer.chat_template", "{{ boo }}"), FTK_OK, ""},
};

static void put_key(gw *w, const bad_key *b)
{
    switch (b->type) {
    case FTK_GGUF_U32: gw_u32(w, b->key, (uint32_t)b->u); break;
    case FTK_GGUF_F32: gw_f32(w, b->key, (float)b->f); break;
    case FTK_GGUF_STRING: gw_str(w, b->key, b->s); break;
    case MISSING: break;
    default: gw_scalar(w, b->key, (ftk_gguf_type)b->type, &b->u);
    }
}

/* Saves what was written, and loads it. */
static int check_model(gw *w, const char *what, ftk_err err, const char *line)
{
    gw_bytes file = gw_finish(w);
    assert_true(gw_save(path, file.p, file.n));
    free(file.p);
    gw_free(w);
    return refused(what, path, try_model, err, line);
}

static void test_keys(void **state)
{
    (void)state;
    int failed = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        gw w;
        gw_init(&w);
        w.skip = keys[i].key;
        gw_tiny_llama(&w);
        w.skip = NULL;
        put_key(&w, &keys[i]);
        failed += check_model(&w, keys[i].what, keys[i].err, keys[i].line);
    }
    assert_int_equal(failed, 0);
}

/* ------------------------------------------------------------------ tensors of the model */

/* A tensor of the good model, replaced by this one; n_dims 0: missing. */
typedef struct bad_tensor {
    const char *what, *name;
    uint32_t type, n_dims;
    uint64_t dims[4];
    unsigned char fill;
    ftk_err err;
    const char *line;
} bad_tensor;

#define EMBD       "token_embd.weight"
#define CONVERT_TO "convert the model to Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32"
static const bad_tensor tensors[] = {
    {"no embeddings", EMBD, 0, 0, {0}, 0, FTK_ERR_FORMAT, "tensor token_embd.weight is missing"},
    {"no ffn_up",
     "blk.1.ffn_up.weight",
     0,
     0,
     {0},
     0,
     FTK_ERR_FORMAT,
     "tensor blk.1.ffn_up.weight is missing"},
    {"no norm",
     "blk.0.attn_norm.weight",
     0,
     0,
     {0},
     0,
     FTK_ERR_FORMAT,
     "tensor blk.0.attn_norm.weight is missing"},
    {"no last norm",
     "output_norm.weight",
     0,
     0,
     {0},
     0,
     FTK_ERR_FORMAT,
     "tensor output_norm.weight is missing"},
    {"embeddings of a token less",
     EMBD,
     0,
     2,
     {64, 299},
     0,
     FTK_ERR_FORMAT,
     "tensor token_embd.weight has shape [64, 299] instead of [64, 300]"},
    {"embeddings of a token more",
     EMBD,
     0,
     2,
     {64, 301},
     0,
     FTK_ERR_FORMAT,
     "tensor token_embd.weight has shape [64, 301] instead of [64, 300]"},
    {"embeddings transposed",
     EMBD,
     0,
     2,
     {300, 64},
     0,
     FTK_ERR_FORMAT,
     "tensor token_embd.weight has shape [300, 64] instead of [64, 300]"},
    {"embeddings in F16", EMBD, 1, 2, {64, 300}, 0, FTK_OK, ""},
    {"embeddings in Q8_0", EMBD, 8, 2, {64, 300}, 0, FTK_OK, ""},
    {"output of another shape",
     "output.weight",
     0,
     2,
     {64, 64},
     0,
     FTK_ERR_FORMAT,
     "tensor output.weight has shape [64, 64] instead of [64, 300]"},
    {"ffn_down transposed",
     "blk.0.ffn_down.weight",
     0,
     2,
     {64, 96},
     0,
     FTK_ERR_FORMAT,
     "tensor blk.0.ffn_down.weight has shape [64, 96] instead of [96, 64]"},
    {"attn_q of three dimensions",
     "blk.0.attn_q.weight",
     0,
     3,
     {64, 64, 2},
     0,
     FTK_ERR_FORMAT,
     "tensor blk.0.attn_q.weight has shape [64, 64, ...] instead of [64, 64]"},
    {"attn_q of one dimension",
     "blk.0.attn_q.weight",
     0,
     1,
     {4096},
     0,
     FTK_ERR_FORMAT,
     "tensor blk.0.attn_q.weight has shape [4096, 1] instead of [64, 64]"},
    {"attn_q in Q5_0", "blk.0.attn_q.weight", 6, 2, {64, 64}, 0, FTK_OK, ""},
    {"attn_q in MXFP4",
     "blk.0.attn_q.weight",
     39,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type MXFP4, which is not supported: convert the model to "
     "Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32"},
    {"attn_q in NVFP4",
     "blk.0.attn_q.weight",
     40,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type NVFP4, which is not supported: " CONVERT_TO},
    {"embeddings in Q2_0",
     EMBD,
     42,
     2,
     {64, 300},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor token_embd.weight has type Q2_0, which is not supported: " CONVERT_TO},
    {"attn_q in Q4_3, which was removed",
     "blk.0.attn_q.weight",
     5,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type Q4_3, which was removed from the format: " CONVERT_TO},
    {"attn_q in Q4_0_8_8, which was removed",
     "blk.0.attn_q.weight",
     33,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type Q4_0_8_8, which was removed from the "
     "format: " CONVERT_TO},
    {"attn_q in IQ4_NL_4_4, which was removed",
     "blk.0.attn_q.weight",
     36,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type IQ4_NL_4_4, which was removed from the "
     "format: " CONVERT_TO},
    {"attn_q in a type nobody knows yet",
     "blk.0.attn_q.weight",
     43,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type 43, which is newer than this build: " CONVERT_TO},
    {"a norm in type -1",
     "output_norm.weight",
     UINT32_MAX,
     1,
     {64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor output_norm.weight has type 4294967295, which is newer than this build: " CONVERT_TO},
    {"attn_q in I32",
     "blk.0.attn_q.weight",
     26,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type I32, which is not supported: convert the model to "
     "Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32"},
    {"norm of 32",
     "output_norm.weight",
     0,
     1,
     {32},
     0,
     FTK_ERR_FORMAT,
     "tensor output_norm.weight has shape [32, 1] instead of [64, 1]"},
    {"norm in F64",
     "output_norm.weight",
     28,
     1,
     {64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor output_norm.weight has type F64, which is not supported: convert the model to "
     "Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32"},
    {"norm of NaN",
     "blk.1.ffn_norm.weight",
     0,
     1,
     {64},
     0xFF,
     FTK_ERR_FORMAT,
     "tensor blk.1.ffn_norm.weight holds values that are not finite"},
    {"RoPE factors of 0",
     "rope_freqs.weight",
     0,
     1,
     {8},
     0,
     FTK_ERR_FORMAT,
     "tensor rope_freqs.weight holds values that are not positive"},
    {"RoPE factors of NaN",
     "rope_freqs.weight",
     0,
     1,
     {8},
     0xFF,
     FTK_ERR_FORMAT,
     "tensor rope_freqs.weight holds values that are not finite"},
    {"RoPE factors: too few",
     "rope_freqs.weight",
     0,
     1,
     {7},
     0,
     FTK_ERR_FORMAT,
     "tensor rope_freqs.weight has shape [7, 1] instead of [8, 1]"},
    {"a bias the pass would leave out",
     "blk.0.ffn_up.bias",
     0,
     1,
     {96},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.ffn_up.bias is no part of a llama model as this build knows it"},
    {"a tensor of no known use",
     "blk.9.x\x1b",
     0,
     1,
     {64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.9.x\\x1b is no part of a llama model as this build knows it"},
};

static void test_tensors(void **state)
{
    (void)state;
    int failed = 0;
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        const bad_tensor *b = &tensors[i];
        gw w;
        gw_init(&w);
        w.skip = b->name;
        gw_tiny_llama(&w);
        w.skip = NULL;
        unsigned char data[64 * 301 * 4];
        memset(data, b->fill, sizeof data);
        if (b->n_dims > 0) gw_tensor(&w, b->name, b->n_dims, b->dims, b->type, data, sizeof data);
        failed += check_model(&w, b->what, b->err, b->line);
    }
    assert_int_equal(failed, 0);
}

/* ------------------------------------------------------------------ vocabulary */

/* One array of the vocabulary, changed by edit and cut to count elements. */
typedef struct bad_vocab {
    const char *what, *array;
    uint64_t count;
    ftk_gguf_type type;
    void (*edit)(gw_vocab *v);
    ftk_err err;
    const char *line;
} bad_vocab;

#define TOKENS "tokenizer.ggml.tokens"
#define SCORES "tokenizer.ggml.scores"
#define TYPES  "tokenizer.ggml.token_type"
static char long_piece[5000];

/* clang-format off */
static void score_nan(gw_vocab *v) { v->scores[270] = NAN; }
static void type_0(gw_vocab *v) { v->types[270] = 0; }
static void type_7(gw_vocab *v) { v->types[270] = 7; }
static void byte_missing(gw_vocab *v) { v->types[10] = 1; }
static void byte_twice(gw_vocab *v) { v->tokens[10] = v->tokens[11]; }
static void byte_zz(gw_vocab *v) { v->tokens[10] = (ftk_str){"<0xZZ>", 6}; }
static void byte_negative(gw_vocab *v) { v->tokens[10] = (ftk_str){"<0x-1>", 6}; }
static void byte_plain(gw_vocab *v) { v->types[270] = 6; }
static void unknown_twice(gw_vocab *v) { v->types[270] = 2; }
static void piece_empty(gw_vocab *v) { v->tokens[270].n = 0; }
static void piece_twice(gw_vocab *v) { v->tokens[270] = v->tokens[271]; }
static void piece_broken(gw_vocab *v) { v->tokens[270] = (ftk_str){"\xC3(", 2}; }
static void piece_nul(gw_vocab *v) { v->tokens[270] = (ftk_str){"a\0b", 3}; }
static void piece_long(gw_vocab *v) { v->tokens[270] = (ftk_str){long_piece, sizeof long_piece}; }
/* clang-format on */

static const bad_vocab vocabularies[] = {
    {"no tokens", TOKENS, 0, FTK_GGUF_STRING, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.tokens is empty"},
    {"a token less", TOKENS, 299, FTK_GGUF_STRING, NULL, FTK_ERR_FORMAT,
     "tensor token_embd.weight has shape [64, 300] instead of [64, 299]"},
    {"tokens that are numbers", TOKENS, 300, FTK_GGUF_F32, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.tokens holds elements of type f32, not string"},
    {"a score less", SCORES, 299, FTK_GGUF_F32, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.scores has 299 elements, but there are 300 tokens"},
    {"scores in one byte", SCORES, 300, FTK_GGUF_U8, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.scores holds elements of type u8, not f32"},
    {"scores in eight bytes", SCORES, 150, FTK_GGUF_F64, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.scores holds elements of type f64, not f32"},
    {"a type less", TYPES, 299, FTK_GGUF_I32, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.token_type has 299 elements, but there are 300 tokens"},
    {"types in one byte", TYPES, 300, FTK_GGUF_U8, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.token_type holds elements of type u8, not i32"},
    {"types without a sign", TYPES, 300, FTK_GGUF_U32, NULL, FTK_OK, ""},
    {"score NaN", SCORES, 300, FTK_GGUF_F32, score_nan, FTK_ERR_FORMAT,
     "token 270 has a score that is not a number"},
    {"type 0", TYPES, 300, FTK_GGUF_I32, type_0, FTK_ERR_FORMAT,
     "token 270 has type 0; known are 1 to 6"},
    {"type 7", TYPES, 300, FTK_GGUF_I32, type_7, FTK_ERR_FORMAT,
     "token 270 has type 7; known are 1 to 6"},
    {"a byte is missing", TYPES, 300, FTK_GGUF_I32, byte_missing, FTK_ERR_FORMAT,
     "the vocabulary has 255 of the 256 byte tokens"},
    {"a byte twice", TOKENS, 300, FTK_GGUF_STRING, byte_twice, FTK_ERR_FORMAT,
     "the vocabulary has 255 of the 256 byte tokens"},
    {"byte ZZ", TOKENS, 300, FTK_GGUF_STRING, byte_zz, FTK_ERR_FORMAT,
     "token 10 is a byte, but is not named <0x00> to <0xFF>"},
    {"byte -1", TOKENS, 300, FTK_GGUF_STRING, byte_negative, FTK_ERR_FORMAT,
     "token 10 is a byte, but is not named <0x00> to <0xFF>"},
    {"a letter as a byte", TYPES, 300, FTK_GGUF_I32, byte_plain, FTK_ERR_FORMAT,
     "token 270 is a byte, but is not named <0x00> to <0xFF>"},
    {"two unknown tokens", TYPES, 300, FTK_GGUF_I32, unknown_twice, FTK_OK, ""},
    {"empty piece", TOKENS, 300, FTK_GGUF_STRING, piece_empty, FTK_OK, ""},
    {"a piece twice", TOKENS, 300, FTK_GGUF_STRING, piece_twice, FTK_OK, ""},
    {"piece of broken UTF-8", TOKENS, 300, FTK_GGUF_STRING, piece_broken, FTK_OK, ""},
    {"piece with NUL", TOKENS, 300, FTK_GGUF_STRING, piece_nul, FTK_OK, ""},
    {"piece of 5000 bytes", TOKENS, 300, FTK_GGUF_STRING, piece_long, FTK_ERR_FORMAT,
     "token 270 has a text of 5000 bytes; at most 4096 are allowed"},
};

static void put_vocab(gw *w, const bad_vocab *b, const gw_vocab *v)
{
    if (b->type == FTK_GGUF_STRING)
        gw_str_array(w, b->array, b->count, v->tokens);
    else if (strcmp(b->array, TYPES) == 0)
        gw_array(w, b->array, b->type, b->count, v->types);
    else
        gw_array(w, b->array, b->type, b->count, v->scores);
}

static void test_vocabularies(void **state)
{
    (void)state;
    int failed = 0;
    memset(long_piece, 'x', sizeof long_piece);
    for (size_t i = 0; i < sizeof vocabularies / sizeof vocabularies[0]; i++) {
        const bad_vocab *b = &vocabularies[i];
        gw_vocab v;
        gw_tiny_vocab(&v);
        if (b->edit) b->edit(&v);
        gw w;
        gw_init(&w);
        w.skip = b->array;
        gw_tiny_llama(&w);
        w.skip = NULL;
        put_vocab(&w, b, &v);
        failed += check_model(&w, b->what, b->err, b->line);
    }
    assert_int_equal(failed, 0);
}

/* 10 MiB of template, and merges a SentencePiece vocabulary has no use for. */
static void test_ballast(void **state)
{
    (void)state;
    enum { SIZE = 10 << 20 };
    char *template = malloc(SIZE + 1);
    assert_non_null(template);
    memset(template, '{', SIZE);
    template[SIZE] = '\0';
    gw w;
    gw_init(&w);
    gw_tiny_llama(&w);
    gw_str(&w, "tokenizer.chat_template", template);
    gw_str_array(&w, "tokenizer.ggml.merges", 2, (const ftk_str[]){{"no such", 7}, {"", 0}});
    free(template);
    assert_int_equal(check_model(&w, "template of 10 MiB", FTK_OK, ""), 0);
}

static void expect_numeric(const char *what)
{
    counting c = {0};
    ftk_model_config mc;
    ftk_model_config_init(&mc);
    mc.host = (ftk_host){&c, count_alloc, count_free, count_log};
    ftk_model *model;
    assert_int_equal(ftk_model_load(&model, path, &mc), FTK_OK);
    ftk_engine_config ec;
    ftk_engine_config_init(&ec);
    ec.threads = 1;
    ec.measure = false;
    ftk_engine *engine;
    assert_int_equal(ftk_engine_open(&engine, model, &ec), FTK_OK);
    ftk_session_config sc;
    ftk_session_config_init(&sc);
    ftk_session *session;
    assert_int_equal(ftk_session_open(&session, engine, &sc), FTK_OK);
    assert_int_equal(ftk_session_append(session, (const int32_t[]){1, 270, 280}, 3), FTK_OK);
    ftk_result r;
    const ftk_err err = ftk_step(&session, 1, &r);
    if (err != FTK_ERR_NUMERIC) print_error("%s: step gave %d\n", what, (int)err);
    assert_int_equal(err, FTK_ERR_NUMERIC);
    assert_int_equal(r.err, FTK_ERR_NUMERIC);
    assert_int_equal(r.n_tokens, 0);
    assert_int_equal(ftk_session_set_logprobs(session, 2, true), FTK_OK);
    assert_int_equal(ftk_step(&session, 1, &r), FTK_ERR_NUMERIC); /* the prompt's rows, too */
    assert_int_equal(c.errors, 2);
    ftk_session_free(session);
    ftk_engine_free(engine);
    ftk_model_free(model);
    assert_int_equal(c.live, 0);
}

/* Values that are not finite: the model loads, its first step says so and emits nothing. */
static void test_not_finite(void **state)
{
    (void)state;
    static const struct {
        const char *tensor;
        uint32_t type;
        uint64_t n_in, n_out;
    } cases[] = {
        {"token_embd.weight", FTK_TYPE_Q8_0, GW_EMBD, GW_VOCAB},
        {"blk.1.attn_q.weight", FTK_TYPE_Q4_0, GW_EMBD, GW_EMBD},
        {"blk.0.attn_v.weight", FTK_TYPE_F16, GW_EMBD, GW_EMBD / GW_HEADS * GW_HEADS_KV},
        {"blk.1.ffn_down.weight", FTK_TYPE_F32, GW_FF, GW_EMBD},
        {"output.weight", FTK_TYPE_BF16, GW_EMBD, GW_VOCAB},
        {"blk.0.attn_q.weight", FTK_TYPE_Q5_1, GW_EMBD, GW_EMBD},
        {"blk.0.attn_output.weight", FTK_TYPE_IQ4_NL, GW_EMBD, GW_EMBD},
    };
    static unsigned char ones[GW_EMBD * GW_VOCAB * 4]; /* NaN as a float, and as a scale */
    memset(ones, 0xFF, sizeof ones);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gw w;
        gw_init(&w);
        w.skip = cases[i].tensor;
        gw_tiny_llama(&w);
        w.skip = NULL;
        gw_tensor(&w, cases[i].tensor, 2, (uint64_t[]){cases[i].n_in, cases[i].n_out},
                  cases[i].type, ones, sizeof ones);
        gw_bytes file = gw_finish(&w);
        assert_true(gw_save(path, file.p, file.n));
        free(file.p);
        gw_free(&w);
        expect_numeric(cases[i].tensor);
    }
}

/* ------------------------------------------------------------------ chance */

/* A result that is right: loaded, or one line. */
static void expect_clear(attempt *try)
{
    counting c = {0};
    const ftk_err err = try(path, &c);
    assert_int_equal(c.errors, err != FTK_OK);
    assert_int_equal(c.live, 0);
    assert_in_range(strlen(c.line), err != FTK_OK ? 10 : 0, 511);
    for (const char *p = c.line; *p; p++) assert_in_range((unsigned char)*p, 0x20, 0xFF);
}

static void cut_everywhere(const unsigned char *p, size_t n, attempt *try)
{
    for (size_t i = 0; i < 64; i++) {
        assert_true(gw_save(path, p, n * i / 64));
        counting c = {0};
        assert_int_not_equal(try(path, &c), FTK_OK);
        expect_clear(try);
    }
}

static gw_bytes tiny_model(size_t *header)
{
    gw w;
    gw_init(&w);
    gw_tiny_llama(&w);
    const gw_bytes file = gw_finish(&w);
    *header = file.n - w.data.n;
    gw_free(&w);
    return file;
}

static void test_cuts(void **state)
{
    (void)state;
    size_t header;
    gw_bytes file = tiny_model(&header);
    cut_everywhere(file.p, file.n, try_model);
    cut_everywhere(file.p, header, try_model);
    free(file.p);
}

static void test_cuts_shared(void **state)
{
    (void)state;
    const char *const names[] = {"w-stories260k/stories260K-f32.gguf",
                                 "w-llama2-tiny-random/llama-2-tiny-random.gguf",
                                 "tok-llamacpp-vocabs/ggml-vocab-gpt-2.gguf"};
    bool any = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char full[4096];
        snprintf(full, sizeof full, "%s/%s", FTK_SHARED_DIR, names[i]);
        FILE *f = fopen(full, "rb");
        if (!f) {
            print_message("SKIPPED: %s is not there\n", full);
            continue;
        }
        gw_bytes file = {0};
        static unsigned char chunk[1 << 16];
        for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;) gw_put(&file, chunk, n);
        fclose(f);
        cut_everywhere(file.p, file.n, try_reader);
        free(file.p);
        any = true;
    }
    if (!any) skip();
}

static uint32_t random_below(uint64_t *seed, size_t n)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*seed >> 33) % n);
}

/* Up to four bytes of everything before the weights, changed in the ways that hurt most. */
static void test_corruption(void **state)
{
    (void)state;
    static const unsigned char worst[] = {0, 1, 0x7F, 0x80, 0xFF};
    size_t header;
    gw_bytes file = tiny_model(&header);
    unsigned char *good = malloc(header);
    assert_non_null(good);
    memcpy(good, file.p, header);
    uint64_t seed = 20240601;
    for (int round = 0; round < 2000; round++) {
        const uint32_t n = 1 + random_below(&seed, 4);
        for (uint32_t i = 0; i < n; i++) {
            const size_t where = random_below(&seed, header);
            const uint32_t how = random_below(&seed, 8);
            file.p[where] =
                how < sizeof worst ? worst[how] : (unsigned char)random_below(&seed, 256);
        }
        assert_true(gw_save(path, file.p, file.n));
        expect_clear(try_model);
        memcpy(file.p, good, header);
    }
    free(good);
    free(file.p);
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/ftk-test-badfiles-%ld.gguf", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_files),    cmocka_unit_test(test_containers),
        cmocka_unit_test(test_keys),         cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_vocabularies), cmocka_unit_test(test_ballast),
        cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_cuts_shared),  cmocka_unit_test(test_corruption),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
