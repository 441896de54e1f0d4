/* SPDX-License-Identifier: Apache-2.0
 *
 * What is given in a GGUF file's place: told by its first bytes, with what to do about it.
 *
 * Pointers: git-lfs.com/spec, git-annex's "pointer file"; archives and others: their magic numbers,
 * as in file(1); safetensors: a length of 8 bytes, then JSON; the formats before GGUF: ggml.h and
 * llama.h of 2023, whose magic numbers are little-endian integers. */
#include <string.h>
#include <strings.h>

#include "model/gguf.h"

enum { HEAD = 512 }; /* bytes that are looked at */

/* ---- what needs more than a magic number */

static bool begins(ftk_str s, const char *with)
{
    const size_t n = strlen(with);
    return s.n >= n && strncasecmp(s.p, with, n) == 0;
}

static bool holds(ftk_str s, const char *text)
{
    return memmem(s.p, s.n, text, strlen(text)) != NULL;
}

/* Behind a byte order mark and white space. */
static ftk_str text_of(ftk_str s)
{
    size_t at = begins(s, "\xEF\xBB\xBF") ? 3 : 0;
    while (at < s.n && s.p[at] && strchr(" \t\r\n", s.p[at])) at++;
    return (ftk_str){s.p + at, s.n - at};
}

/* Whether it begins, as a text, with one of these, which stand a line each. */
static bool says(ftk_str s, const char *texts)
{
    const ftk_str t = text_of(s);
    for (size_t n; *texts; texts += n + (texts[n] == '\n')) {
        n = strcspn(texts, "\n");
        if (t.n >= n && strncasecmp(t.p, texts, n) == 0) return true;
    }
    return false;
}

static bool is_json(ftk_str s)
{
    const ftk_str t = text_of(s);
    if (t.n == 0 || (t.p[0] != '{' && t.p[0] != '[')) return false;
    const ftk_str inside = text_of((ftk_str){t.p + 1, t.n - 1});
    return inside.n == 0 || strchr(t.p[0] == '{' ? "\"}" : "\"{[]-0123456789tfn", inside.p[0]);
}

static bool is_safetensors(ftk_str s)
{
    uint64_t n;
    if (s.n < 10 || s.p[8] != '{' || (s.p[9] != '"' && s.p[9] != '}' && s.p[9] != ' '))
        return false;
    memcpy(&n, s.p, sizeof n);
    return n >= 2 && n <= 100000000; /* the format's own bound */
}

/* torch.save() since 2020: a zip archive whose first member is NAME/data.pkl. */
static bool is_torch(ftk_str s)
{
    return begins(s, "PK\3\4") && (holds(s, "/data.pkl") || holds(s, "/.format_version"));
}

static bool is_pickle(ftk_str s)
{
    return s.n > 2 && (unsigned char)s.p[0] == 0x80 && s.p[1] >= 2 && s.p[1] <= 5;
}

/* The version of the format as its first field, then the producer's name. */
static bool is_onnx(ftk_str s)
{
    return s.n > 4 && s.p[0] == 8 && s.p[1] >= 3 && s.p[1] <= 15 && s.p[2] == 0x12 &&
           (size_t)s.p[3] < s.n;
}

/* A first piece, which is named <unk> nearly everywhere. */
static bool is_sentencepiece(ftk_str s)
{
    const ftk_str start = {s.p, s.n < 16 ? s.n : 16};
    return s.n > 4 && s.p[0] == '\n' && holds(start, "<unk>");
}

static bool is_zeros(ftk_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i]) return false;
    return s.n >= 24;
}

/* ---- the table */

#define CONVERT "convert the folder it comes from with llama.cpp's convert_hf_to_gguf.py"
#define AGAIN   "get it again"
#define OLD     "a model in the format before GGUF: convert it anew, or get it as GGUF"
#define SERVER                                                                                     \
    "what a server sends when a download fails: log in if need be, and get the file again"

/* Told by n bytes at a place in the file, or by a function; n 0: by how its text begins. */
static const struct {
    const char *what; /* and how to mend it */
    bool (*is)(ftk_str head);
    size_t at, n;
    const char *bytes;
} table[] = {
#define BYTES(what, at, bytes)                                                                     \
    {                                                                                              \
        what, NULL, at, sizeof bytes - 1, bytes                                                    \
    }
#define SAYS(what, texts)                                                                          \
    {                                                                                              \
        what, NULL, 0, 0, texts                                                                    \
    }
#define LOOKS(what, is)                                                                            \
    {                                                                                              \
        what, is, 0, 0, NULL                                                                       \
    }
    BYTES("a Git LFS pointer, not the file itself: run git lfs pull, or download the file", 0,
          "version https://git-lfs.github.com/spec/"),
    BYTES("a git-annex pointer, not the file itself: run git annex get", 0, "/annex/objects/"),
    BYTES("GGUF with its bytes swapped, for big-endian machines: convert it to little-endian", 0,
          "FUGG"),
    BYTES(OLD, 0, "lmgg"),
    BYTES(OLD, 0, "fmgg"),
    BYTES(OLD, 0, "tjgg"),
    BYTES("a LoRA adapter in a format before GGUF: give a model", 0, "algg"),
    SAYS("an HTML page, " SERVER, "<!doctype html\n<html\n<head\n<!--\n<script"),
    SAYS("an XML text, " SERVER, "<?xml"),
    SAYS("a message, " SERVER,
         "Entry not found\nRepository not found\nRevision not found\nInvalid username or password\n"
         "Invalid credentials\nAccess to model\nNot Found\n404\n403\n401\nForbidden\nUnauthorized"),
    LOOKS("a safetensors file: " CONVERT, is_safetensors),
    LOOKS("a PyTorch checkpoint: " CONVERT, is_torch),
    BYTES("a zip archive: unpack it with unzip, and give the .gguf file in it", 0, "PK\3\4"),
    BYTES("an empty zip archive: " AGAIN, 0, "PK\5\6"),
    LOOKS("a Python pickle, such as an old PyTorch checkpoint: " CONVERT, is_pickle),
    BYTES("compressed with gzip: unpack it with gunzip", 0, "\x1f\x8b"),
    BYTES("compressed with xz: unpack it with unxz", 0, "\xFD\x37zXZ\0"),
    BYTES("compressed with zstd: unpack it with unzstd", 0, "\x28\xB5\x2F\xFD"),
    BYTES("compressed with bzip2: unpack it with bunzip2", 0, "BZh"),
    BYTES("compressed with lz4: unpack it with unlz4", 0, "\x04\x22\x4D\x18"),
    BYTES("compressed with lzip: unpack it with lunzip", 0, "LZIP"),
    BYTES("a 7z archive: unpack it with 7z x, and give the .gguf file in it", 0,
          "7z\xBC\xAF\x27\x1C"),
    BYTES("a RAR archive: unpack it, and give the .gguf file in it", 0, "Rar!\x1A\x07"),
    BYTES("a tar archive: unpack it with tar -xf, and give the .gguf file in it", 257, "ustar"),
    BYTES("an HDF5 file, as Keras writes them: " CONVERT, 0, "\x89HDF\r\n\x1A\n"),
    BYTES("a NumPy array: give a model", 0, "\x93NUMPY"),
    BYTES("a TensorFlow Lite model: get the model as GGUF", 4, "TFL3"),
    LOOKS("an ONNX model: " CONVERT ", or get the model as GGUF", is_onnx),
    LOOKS("a SentencePiece vocabulary, as tokenizer.model: " CONVERT, is_sentencepiece),
    BYTES("a llamafile, a program with a model in it: take the .gguf file out with unzip", 0,
          "MZqFpD="),
    BYTES("a program: give a model", 0,
          "\x7F"
          "ELF"),
    LOOKS("a JSON text, as config.json, or " SERVER, is_json),
    LOOKS("nothing but zeros where it begins, a download that was not finished: " AGAIN, is_zeros),
};

const char *ftk_gguf_not(const void *data, size_t n)
{
    const ftk_str head = {data, n < HEAD ? n : HEAD};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const size_t at = table[i].at, m = table[i].n;
        if (table[i].is ? table[i].is(head)
            : m == 0    ? says(head, table[i].bytes)
                        : head.n >= at + m && memcmp(head.p + at, table[i].bytes, m) == 0)
            return table[i].what;
    }
    return NULL;
}
