/* SPDX-License-Identifier: Apache-2.0
 *
 * requantize IN OUT TYPE: copies a model with every matrix in another type, for tests and
 * benchmarks. MIXED deals all types out in turn, Q4_K_M is a mixture people use. Vectors become
 * F32, as do matrices whose rows are no multiple of the block. All keys are copied;
 * general.file_type is set. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "testkit/ggufwriter.h"
#include "testkit/quantise.h"

/* The numbers general.file_type has for them. The last two are mixtures. */
static const struct {
    const char *name;
    ftk_type type;
    uint32_t file_type;
} targets[] = {
    {"F32", FTK_TYPE_F32, 0},    {"F16", FTK_TYPE_F16, 1},        {"BF16", FTK_TYPE_BF16, 32},
    {"Q8_0", FTK_TYPE_Q8_0, 7},  {"Q4_0", FTK_TYPE_Q4_0, 2},      {"Q4_1", FTK_TYPE_Q4_1, 3},
    {"Q5_0", FTK_TYPE_Q5_0, 8},  {"Q5_1", FTK_TYPE_Q5_1, 9},      {"Q2_K", FTK_TYPE_Q2_K, 10},
    {"Q3_K", FTK_TYPE_Q3_K, 12}, {"Q4_K", FTK_TYPE_Q4_K, 14},     {"Q5_K", FTK_TYPE_Q5_K, 16},
    {"Q6_K", FTK_TYPE_Q6_K, 18}, {"IQ4_NL", FTK_TYPE_IQ4_NL, 25}, {"IQ4_XS", FTK_TYPE_IQ4_XS, 30},
    {"MIXED", FTK_TYPE_Q8_0, 7}, {"Q4_K_M", FTK_TYPE_Q4_K, 15},
};
enum { N_TARGETS = sizeof targets / sizeof targets[0], Q4_K_M = N_TARGETS - 1, MIXED = Q4_K_M - 1 };

static void put_row(const float *x, uint64_t n, ftk_type type, gw_bytes *out)
{
    const uint64_t step = ftk_type_block(type);
    _Alignas(8) unsigned char block[FTK_QUNIT * sizeof(float)];
    for (uint64_t i = 0; i < n; i += step) {
        quantise(type, x + i, block);
        gw_put(out, block, ftk_type_bytes(type, (size_t)step));
    }
}

/* Of tensor i. In Q4_K_M the tensors that matter most have six bits, as such files are made. */
static ftk_type choose(int target, size_t i, const char *name)
{
    if (target == MIXED) return targets[i % MIXED].type;
    if (target != Q4_K_M) return targets[target].type;
    const bool six =
        strstr(name, "attn_v") || strstr(name, "ffn_down") || strcmp(name, "output.weight") == 0;
    return six ? FTK_TYPE_Q6_K : FTK_TYPE_Q4_K;
}

static bool convert(gw *w, const ftk_kernels *k, const ftk_tensor_info *t, int target, size_t i)
{
    char name[80];
    snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
    if (!ftk_type_supported(t->type) || t->dims[0] > INT32_MAX) {
        run_say("tensor %s has type %u, which is not supported", name, (unsigned)t->type);
        return false;
    }
    ftk_type type = choose(target, i, name);
    if (t->n_dims < 2 || t->dims[0] % ftk_type_block(type) != 0) type = FTK_TYPE_F32;
    const uint64_t rows = t->dims[1] * t->dims[2] * t->dims[3];
    const size_t row_bytes = ftk_type_bytes((ftk_type)t->type, (size_t)t->dims[0]);
    float *x = malloc((size_t)t->dims[0] * sizeof *x);
    if (!x) return false;
    gw_bytes data = {0};
    for (uint64_t r = 0; r < rows; r++) {
        const char *row = (const char *)t->data + r * row_bytes;
        k->dequant_row((ftk_type)t->type, (int)t->dims[0], row, x);
        put_row(x, t->dims[0], type, &data);
    }
    gw_tensor(w, name, t->n_dims, t->dims, type, data.p, data.n);
    free(data.p);
    free(x);
    return true;
}

static bool copy(const ftk_gguf *g, gw *w, int target)
{
    const ftk_type type = targets[target].type;
    const uint32_t file_type = targets[target].file_type;
    ftk_kernels k;
    if (!ftk_kernels_fill(&k, "ref")) return false;
    ftk_gguf_value v;
    w->version = ftk_gguf_version(g);
    w->alignment = (uint32_t)ftk_gguf_alignment(g);
    static const char type_key[] = "general.file_type";
    for (size_t i = 0; i < ftk_gguf_n_keys(g); i++) {
        ftk_str key;
        ftk_gguf_key(g, i, &key, &v);
        if (key.n == strlen(type_key) && memcmp(key.p, type_key, key.n) == 0)
            gw_u32(w, type_key, file_type);
        else
            gw_copy(w, key, &v);
    }
    if (!ftk_gguf_find(g, type_key, &v)) gw_u32(w, type_key, file_type);
    if (ftk_type_block(type) > 1 && !ftk_gguf_find(g, "general.quantization_version", &v))
        gw_u32(w, "general.quantization_version", 2);
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_tensor_info t;
        ftk_gguf_tensor(g, i, &t);
        if (!convert(w, &k, &t, target, i)) return false;
    }
    return true;
}

static int find_target(const char *name)
{
    int i = 0;
    while (i < N_TARGETS && strcmp(targets[i].name, name) != 0) i++;
    return i;
}

int main(int argc, char **argv)
{
    char usage[512] = "usage: requantize IN.gguf OUT.gguf TYPE, where TYPE is one of";
    for (int i = 0; i < N_TARGETS; i++)
        snprintf(usage + strlen(usage), sizeof usage - strlen(usage), " %s", targets[i].name);
    run_help(argc, argv, usage);
    const int target = argc == 4 ? find_target(argv[3]) : N_TARGETS;
    if (target == N_TARGETS) run_refuse("%s", usage);
    const ftk_host host = {.log = run_log};
    ftk_gguf *g = NULL;
    if (ftk_gguf_open(&g, argv[1], &host) != FTK_OK) return 1;
    gw w;
    gw_init(&w);
    bool good = copy(g, &w, target);
    gw_bytes file = gw_finish(&w);
    if (good && !gw_save(argv[2], file.p, file.n)) {
        run_say("%s cannot be written", argv[2]);
        good = false;
    }
    free(file.p);
    gw_free(&w);
    ftk_gguf_free(g);
    return good ? 0 : 1;
}
