/* SPDX-License-Identifier: Apache-2.0
 *
 * A small GGUF writer for tests: the file is built in memory, and can be made wrong on purpose.
 * It ends the program when memory runs out; nothing here belongs in the library. */
#ifndef FTK_TESTKIT_GGUFWRITER_H
#define FTK_TESTKIT_GGUFWRITER_H

#include "foretoken.h"

typedef struct gw_bytes {
    unsigned char *p;
    size_t n, cap;
} gw_bytes;

/* version, alignment and the counts are what the header will say; change them before gw_finish().
 * Keys and tensors whose name is in skip are left out, so that a test can put a bad one there. */
typedef struct gw {
    uint32_t version;
    uint32_t alignment;
    uint64_t n_keys, n_tensors;
    gw_bytes keys, tensors, data;
    const char *skip;
} gw;

/* Zeroes the struct; version 3, alignment 32. Writing the key general.alignment is the caller's. */
void gw_init(gw *w);
void gw_free(gw *w);

void gw_put(gw_bytes *b, const void *p, size_t n);
void gw_put_u32(gw_bytes *b, uint32_t v);
void gw_put_u64(gw_bytes *b, uint64_t v);

/* The name and type of a key; the value's bytes are to follow in w->keys. False when skipped. */
bool gw_key(gw *w, const char *name, size_t name_bytes, uint32_t type);
void gw_scalar(gw *w, const char *key, ftk_gguf_type type, const void *value);
void gw_u32(gw *w, const char *key, uint32_t v);
void gw_f32(gw *w, const char *key, float v);
void gw_bool(gw *w, const char *key, bool v);
void gw_str(gw *w, const char *key, const char *v);
/* Fixed-size elements. */
void gw_array(gw *w, const char *key, ftk_gguf_type elem, uint64_t count, const void *data);
void gw_str_array(gw *w, const char *key, uint64_t count, const ftk_str *v);
/* A key as a reader gave it. */
void gw_copy(gw *w, ftk_str key, const ftk_gguf_value *v);

/* A record alone; offset from the start of the data section, dims [n_dims]. */
void gw_record(gw *w, const char *name, size_t name_bytes, uint32_t n_dims, const uint64_t *dims,
               uint32_t type, uint64_t offset);
/* A record, and its data at the next aligned offset. NULL: zeros. */
void gw_tensor(gw *w, const char *name, uint32_t n_dims, const uint64_t *dims, uint32_t type,
               const void *data, size_t bytes);

/* A vocabulary of 300: <unk> <s> </s>, the 256 bytes, the space, a..z, a few longer pieces. */
enum { GW_VOCAB = 300, GW_EMBD = 64, GW_FF = 96, GW_LAYERS = 2, GW_HEADS = 4, GW_HEADS_KV = 2 };

typedef struct gw_vocab {
    ftk_str tokens[GW_VOCAB];
    float scores[GW_VOCAB];
    int32_t types[GW_VOCAB];
    char bytes[256][8]; /* their names */
} gw_vocab;

void gw_tiny_vocab(gw_vocab *v);

/* A byte-pair vocabulary of as many: the 256 bytes as GPT-2 writes them, what the merges make, then
 * <|endoftext|> <|im_start|> <|im_end|>, a user-defined <tool>, and unused ones. */
enum { GW_MERGES = 24 };

typedef struct gw_bpe {
    ftk_str tokens[GW_VOCAB], merges[GW_MERGES];
    int32_t types[GW_VOCAB];
    size_t n_tokens, n_merges;
    const char *pre;
    char text[GW_VOCAB][32]; /* of the tokens */
} gw_bpe;

void gw_tiny_bpe(gw_bpe *v);
/* The id of a token by its text as in the file; -1 if there is none. */
int32_t gw_bpe_id(const gw_bpe *v, const char *text);
/* All of its keys: kind, pre, tokens, types, merges, <|endoftext|> as BOS and EOS. */
void gw_put_bpe(gw *w, const gw_bpe *v);
/* The keys of that vocabulary. */
void gw_tiny_tokenizer(gw *w);
/* A llama model that loads: all keys and tensors, small seeded F32 weights, tied output. */
void gw_tiny_llama(gw *w);
/* The same without the keys of a vocabulary. */
void gw_tiny_body(gw *w);

/* The whole file, to be freed by the caller. */
gw_bytes gw_finish(const gw *w);
/* Into a file; false when it cannot be written. */
bool gw_save(const char *path, const void *p, size_t n);
/* The whole file into one at path; then w is free. */
bool gw_end(gw *w, const char *path);
/* Deals the tensors of a model file out to n (at most 8) files, stem-00001-of-0000N.gguf and so on:
 * tensor i goes to part i mod n. Every part has an alignment of its own, from 32 up. False when a
 * file cannot be read or written. */
bool gw_save_parts(const char *whole, const char *stem, int n);

#endif
