/* SPDX-License-Identifier: Apache-2.0
 * Random weights of any type. */
#include "weights.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "kernels/blocks.h"

/* A block of a quantised type is random bits, but for the size of its f16 scale and, where it has
 * one, its f16 offset: they follow from the deviation the bits have at scale 1. Without an offset
 * the scale's sign is random: integers from -8 to 7 alone would have a mean, and a model of them
 * says the same token again and again. */
struct weight_type {
    ftk_type type;
    uint32_t file_type;
    double spread;    /* deviation of random bits at scale 1; 0: plain numbers, not blocks */
    size_t scale;     /* where the scale stands in the block */
    size_t offset;    /* where the offset stands; 0: there is none */
    double per_scale; /* the offset that makes the mean 0, for scale 1 */
};

/* The deviation of an integer that takes n values in a row with equal chances is
 * sqrt((n * n - 1) / 12). */
static const weight_type types[] = {
    {FTK_TYPE_F32, 0, 0, 0, 0, 0},
    {FTK_TYPE_F16, 1, 0, 0, 0, 0},
    {FTK_TYPE_BF16, 32, 0, 0, 0, 0},
    {FTK_TYPE_Q8_0, 7, 73.9, offsetof(ftk_q8_0, d), 0, 0},
    {FTK_TYPE_Q4_0, 2, 4.61, offsetof(ftk_q4_0, d), 0, 0},
    {FTK_TYPE_Q4_K, 15, 258.3, offsetof(ftk_q4_k, d), offsetof(ftk_q4_k, dmin), 7.5},
    {FTK_TYPE_Q5_K, 17, 526.9, offsetof(ftk_q5_k, d), offsetof(ftk_q5_k, dmin), 15.5},
    {FTK_TYPE_Q6_K, 18, 1365.7, offsetof(ftk_q6_k, d), 0, 0},
};
enum { N_TYPES = sizeof types / sizeof types[0], CHUNK = 256 };

const weight_type *weights_named(const char *name)
{
    for (int i = 0; i < N_TYPES; i++)
        if (strcmp(ftk_type_name(types[i].type), name) == 0) return &types[i];
    return NULL;
}

const weight_type *weights_of(uint32_t type)
{
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].type == type) return &types[i];
    return NULL;
}

const char *weights_names(void)
{
    static char all[N_TYPES * 9];
    all[0] = 0;
    for (int i = 0; i < N_TYPES; i++) {
        strcat(all, i ? " " : "");
        strcat(all, ftk_type_name(types[i].type));
    }
    return all;
}

ftk_type weights_type(const weight_type *t)
{
    return t->type;
}

uint32_t weights_file_type(const weight_type *t)
{
    return t->file_type;
}

/* SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void random_bits(uint64_t *state, size_t n, void *out)
{
    char *p = out;
    for (; n >= sizeof(uint64_t); n -= sizeof(uint64_t), p += sizeof(uint64_t)) {
        const uint64_t z = next(state);
        memcpy(p, &z, sizeof z);
    }
    const uint64_t z = next(state);
    memcpy(p, &z, n);
}

static void random_numbers(ftk_type type, uint64_t *state, double deviation, size_t n, void *out)
{
    int32_t bits[CHUNK];
    float x[CHUNK];
    const float unit = (float)(deviation * sqrt(3.0) / 0x1p31);
    random_bits(state, n * sizeof *bits, bits);
    for (size_t i = 0; i < n; i++) x[i] = (float)bits[i] * unit;
    uint16_t *half = out;
    if (type == FTK_TYPE_F16)
        for (size_t i = 0; i < n; i++) half[i] = ftk_f32_f16(x[i]);
    else if (type == FTK_TYPE_BF16)
        for (size_t i = 0; i < n; i++) half[i] = ftk_f32_bf16(x[i]);
    else
        memcpy(out, x, n * sizeof *x);
}

static void random_blocks(const weight_type *t, uint64_t *state, double deviation, size_t n,
                          void *out)
{
    const uint16_t scale = ftk_f32_f16((float)(deviation / t->spread));
    const uint16_t offset = ftk_f32_f16((float)(deviation / t->spread * t->per_scale));
    const size_t block = ftk_type_block(t->type), bytes = ftk_type_bytes(t->type, block);
    random_bits(state, n / block * bytes, out);
    for (char *b = out; n > 0; n -= block, b += bytes) {
        uint16_t sign;
        memcpy(&sign, b + t->scale, sizeof sign);
        const uint16_t d = t->offset ? scale : (uint16_t)(scale | (sign & 0x8000u));
        memcpy(b + t->scale, &d, sizeof d);
        if (t->offset) memcpy(b + t->offset, &offset, sizeof offset);
    }
}

void weights_random(const weight_type *t, uint64_t *state, double deviation, size_t n, void *out)
{
    if (t->spread > 0) {
        random_blocks(t, state, deviation, n, out);
        return;
    }
    for (char *p = out; n > 0;) {
        const size_t now = n < CHUNK ? n : CHUNK;
        random_numbers(t->type, state, deviation, now, p);
        p += ftk_type_bytes(t->type, now);
        n -= now;
    }
}

static void scale_f16(char *at, double factor)
{
    uint16_t h;
    memcpy(&h, at, sizeof h);
    h = ftk_f32_f16((float)(ftk_f16_f32(h) * factor));
    memcpy(at, &h, sizeof h);
}

static void scale_bf16(char *at, double factor)
{
    uint16_t h;
    memcpy(&h, at, sizeof h);
    h = ftk_f32_bf16((float)(ftk_bf16_f32(h) * factor));
    memcpy(at, &h, sizeof h);
}

static void scale_f32(char *at, double factor)
{
    float x;
    memcpy(&x, at, sizeof x);
    x = (float)(x * factor);
    memcpy(at, &x, sizeof x);
}

void weights_scale(const weight_type *t, double factor, size_t n, void *weights)
{
    const size_t block = ftk_type_block(t->type), bytes = ftk_type_bytes(t->type, block);
    for (char *b = weights; n > 0; n -= block, b += bytes) {
        if (t->type == FTK_TYPE_F32)
            scale_f32(b, factor);
        else if (t->type == FTK_TYPE_BF16)
            scale_bf16(b, factor);
        else
            scale_f16(b + t->scale, factor); /* of a block; or F16, which begins with itself */
        if (t->offset) scale_f16(b + t->offset, factor);
    }
}
