/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target of the GGUF reader: any bytes are opened, then everything is walked and read. */
#include "fuzzing.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

/* Reads every byte, so that the sanitizer sees a view that lies outside. */
static unsigned sum_bytes(const void *p, uint64_t n)
{
    unsigned sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += ((const unsigned char *)p)[i];
    return sum;
}

static unsigned walk_value(const ftk_gguf_value *v)
{
    static const unsigned char sizes[FTK_GGUF_N_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (v->type == FTK_GGUF_STRING) return sum_bytes(v->s.p, v->s.n);
    if (v->type != FTK_GGUF_ARRAY) return sum_bytes(v->data, sizes[v->type]);
    if (v->elem != FTK_GGUF_STRING) return sum_bytes(v->data, v->count * sizes[v->elem]);
    unsigned sum = 0;
    const unsigned char *cursor = v->data;
    for (uint64_t i = 0; i < v->count; i++) {
        const ftk_str s = ftk_gguf_next_str(&cursor);
        sum += sum_bytes(s.p, s.n);
    }
    return sum;
}

static unsigned walk_keys(const ftk_gguf *g)
{
    unsigned sum = 0;
    for (size_t i = 0; i < ftk_gguf_n_keys(g); i++) {
        ftk_str key;
        ftk_gguf_value v, again;
        ftk_gguf_key(g, i, &key, &v);
        sum += walk_value(&v);
        char *name = strndup(key.p, key.n);
        if (!name || !ftk_gguf_find(g, name, &again) || again.data != v.data) abort();
        free(name);
    }
    return sum;
}

static unsigned walk_tensors(const ftk_gguf *g)
{
    unsigned sum = 0;
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_tensor_info t, again;
        ftk_gguf_tensor(g, i, &t);
        if (t.offset > ftk_gguf_file_size(g) || t.size > ftk_gguf_file_size(g) - t.offset ||
            t.offset % ftk_gguf_alignment(g))
            abort();
        sum += sum_bytes(t.data, t.size);
        char *name = strndup(t.name.p, t.name.n);
        if (!name || !ftk_gguf_find_tensor(g, name, &again) || again.data != t.data) abort();
        free(name);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int n_errors;
    ftk_gguf *g = NULL;
    const ftk_err err = ftk_gguf_open(&g, fuzz_file(data, size), fuzz_host(&n_errors));
    if ((err == FTK_OK) != (g != NULL) || n_errors != (err != FTK_OK)) abort();
    if (g) {
        volatile unsigned sum = walk_keys(g) + walk_tensors(g);
        (void)sum;
    }
    ftk_gguf_free(g);
    return 0;
}

/* ------------------------------------------------------------------ seeds */

/* A key of every type, and an array of most. */
static void put_keys(gw *w)
{
    static const unsigned char zeros[64];
    static const ftk_str words[] = {{"a", 1}, {"", 0}, {"three", 5}};
    char name[] = "key.a";
    for (int type = 0; type < FTK_GGUF_N_TYPES; type++) {
        if (type == FTK_GGUF_STRING || type == FTK_GGUF_ARRAY) continue;
        name[4] = (char)('a' + type);
        gw_scalar(w, name, (ftk_gguf_type)type, zeros);
        name[4] = (char)('A' + type);
        gw_array(w, name, (ftk_gguf_type)type, 3, zeros);
    }
    gw_str(w, "general.architecture", "llama");
    gw_str_array(w, "words", 3, words);
}

/* A tensor of every type, removed and unknown ones among them. */
static void put_tensors(gw *w)
{
    enum { N = 256, MAX_TYPE = 45 };
    static const unsigned char zeros[8 * N];
    char name[] = "blk.0.A";
    for (uint32_t type = 0; type < MAX_TYPE; type++) {
        const size_t bytes = ftk_type_bytes((ftk_type)type, N);
        gw_tensor(w, name, 2, (uint64_t[]){N, 1}, type, zeros, bytes ? bytes : sizeof zeros);
        name[6]++;
    }
}

bool fuzz_seed(size_t i, gw_bytes *out)
{
    if (i > 3) return false;
    gw w;
    gw_init(&w);
    if (i == 3) w.alignment = 64;
    if (i == 3) gw_u32(&w, "general.alignment", 64);
    if (i == 2) gw_tiny_tokenizer(&w);
    if (i != 2) put_keys(&w);
    if (i != 0) put_tensors(&w);
    *out = gw_finish(&w);
    gw_free(&w);
    return true;
}
