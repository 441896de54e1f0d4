/* SPDX-License-Identifier: Apache-2.0
 *
 * The block types against another implementation. The figures come from the Python package gguf
 * 0.19.0 and these lines; every value is the same few roundings there and here, so bits are equal.
 *
 *     for name, halves in {"Q8_0": [0], "Q4_1": [0, 2], ...}.items():   # as in cases[]
 *         t = gguf.GGMLQuantizationType[name]
 *         block, size = gguf.GGML_QUANT_SIZES[t]
 *         x, raw = int(t), np.zeros((1024 // block, size), np.uint8)
 *         for row in raw:
 *             for i in range(size):
 *                 x = (x * 1664525 + 1013904223) % 2**32
 *                 row[i] = x >> 24
 *             for h in halves:                                     # scales of a fair size
 *                 row[h + 1] = row[h + 1] & 0x83 | 0x28
 *         y = gguf.quants.dequantize(raw.reshape(-1), t) + np.float32(0)   # no negative zero
 *         bits = y.view(np.uint32)
 *         h = 0x811c9dc5
 *         for b in bits: h = ((h ^ int(b)) * 0x01000193) % 2**32
 *         print(name, bits[0], bits[17], bits[300], bits[1023], h)
 *
 * Then the quantisers of the test models, whose layouts these are: a value comes back nearly as
 * it was. */
#include "support.h"

#include <math.h>

#include "kernels/blocks.h"
#include "testkit/quantise.h"

enum { N = 1024 };

static const struct {
    ftk_type type;
    int halves[2]; /* where a block has its half floats; -1: no second one */
    uint32_t bits[4], hash;
    float step; /* the largest error, as a part of the block's largest magnitude */
} cases[] = {
    {FTK_TYPE_Q8_0, {0, -1}, {0x40470e00, 0xc02f7b80, 0xbfcce200, 0x3fc1c800}, 0x66d2a2c5, 0.006f},
    {FTK_TYPE_Q4_0, {0, -1}, {0xbea78000, 0x3dfb4000, 0x00000000, 0xbe5cf000}, 0xcc4919c5, 0.14f},
    {FTK_TYPE_Q4_1, {0, 2}, {0xbe02b800, 0xbefbac00, 0xbeeffc00, 0x3e93a800}, 0x779bb5c5, 0.08f},
    {FTK_TYPE_Q5_0, {0, -1}, {0xbf2eac00, 0xbdc7a000, 0xbeda4800, 0x3f086800}, 0x9f7903c5, 0.07f},
    {FTK_TYPE_Q5_1, {0, 2}, {0xbdad9000, 0xbf285e00, 0x3e21d000, 0x3d202000}, 0x6e0a3dc5, 0.04f},
    {FTK_TYPE_Q2_K, {80, 82}, {0x3f50ce00, 0x3dd56000, 0x40054a00, 0xbe853800}, 0x5e2e2fc5, 0.45f},
    {FTK_TYPE_Q3_K, {108, -1}, {0x40354d00, 0xbfff2a00, 0x3ebb9400, 0xc08d75c0}, 0x9a19a005, 0.3f},
    {FTK_TYPE_Q4_K, {0, 2}, {0x415f9060, 0x410921e0, 0x40d5b440, 0xc16252a0}, 0x782543bd, 0.1f},
    {FTK_TYPE_Q5_K, {0, 2}, {0x40558400, 0x3f617800, 0xc1de21b0, 0xc28cafc0}, 0xeda9ed2d, 0.05f},
    {FTK_TYPE_Q6_K, {208, -1}, {0x41c34d30, 0xc336b390, 0xc1d9dbe0, 0xc2d68b10}, 0x9c7560af, 0.04f},
    {FTK_TYPE_IQ4_NL, {0, -1}, {0xc06b5f00, 0xbf9f5400, 0x40cb9940, 0xbfbedc00}, 0xc53a0745, 0.15f},
    {FTK_TYPE_IQ4_XS, {0, -1}, {0x41655880, 0xc211cc60, 0x4089f080, 0xc2144dd0}, 0x035a2dc1, 0.16f},
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

static const int places[4] = {0, 17, 300, 1023};

static ftk_kernels plain(void)
{
    ftk_kernels k;
    assert_true(ftk_kernels_fill(&k, "ref"));
    return k;
}

static void test_values(void **state)
{
    (void)state;
    const ftk_kernels k = plain();
    static _Alignas(8) unsigned char raw[N * 2];
    static float y[N];
    for (int c = 0; c < N_CASES; c++) {
        const size_t block = ftk_type_block(cases[c].type);
        const size_t size = ftk_type_bytes(cases[c].type, block);
        uint32_t x = (uint32_t)cases[c].type, hash = 0x811c9dc5;
        for (size_t b = 0; b < N / block; b++) {
            unsigned char *row = raw + b * size;
            for (size_t i = 0; i < size; i++) {
                x = x * 1664525 + 1013904223;
                row[i] = (unsigned char)(x >> 24);
            }
            for (int h = 0; h < 2; h++)
                if (cases[c].halves[h] >= 0) {
                    unsigned char *high = row + cases[c].halves[h] + 1;
                    *high = (*high & 0x83) | 0x28;
                }
        }
        k.dequant_row(cases[c].type, N, raw, y);
        for (int i = 0; i < N; i++) hash = (hash ^ ftk_f32_bits(y[i] + 0.0f)) * 0x01000193;
        for (int p = 0; p < 4; p++) {
            const uint32_t got = ftk_f32_bits(y[places[p]] + 0.0f);
            if (got != cases[c].bits[p])
                fail_msg("%s: element %d is %08x, not %08x", ftk_type_name(cases[c].type),
                         places[p], got, cases[c].bits[p]);
        }
        if (hash != cases[c].hash)
            fail_msg("%s: some element is wrong", ftk_type_name(cases[c].type));
    }
}

/* Every block type of the library is among the cases. */
static void test_complete(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < 64; t++) {
        bool found = !ftk_type_supported(t) || ftk_type_block((ftk_type)t) == 1;
        for (int c = 0; c < N_CASES; c++) found |= cases[c].type == (ftk_type)t;
        if (!found) fail_msg("type %u has no case", t);
    }
}

static void test_quantise(void **state)
{
    (void)state;
    const ftk_kernels k = plain();
    static _Alignas(8) unsigned char raw[N * 2];
    static float x[N], y[N];
    uint32_t r = 1;
    for (int i = 0; i < N; i++) {
        r = r * 1664525 + 1013904223;
        x[i] = ((float)(r >> 8) * 0x1p-23f - 1) * (1 + (float)(i / 64));
    }
    for (int c = 0; c < N_CASES; c++) {
        const size_t block = ftk_type_block(cases[c].type);
        for (size_t i = 0; i < N; i += block)
            quantise(cases[c].type, x + i, raw + ftk_type_bytes(cases[c].type, i));
        k.dequant_row(cases[c].type, N, raw, y);
        for (int i = 0; i < N; i++) {
            const int unit = i / (int)block * (int)block;
            float top = 0;
            for (int j = unit; j < unit + (int)block; j++) top = fmaxf(top, fabsf(x[j]));
            if (!(fabsf(y[i] - x[i]) <= cases[c].step * top))
                fail_msg("%s: element %d comes back as %g, not %g", ftk_type_name(cases[c].type), i,
                         (double)y[i], (double)x[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_complete),
        cmocka_unit_test(test_quantise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
