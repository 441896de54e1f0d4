/* SPDX-License-Identifier: Apache-2.0
 * Tensor types: names, and sizes of those the passes can run. */
#include "kernels/blocks.h"

static const struct {
    uint32_t type;
    const char *name;
    size_t block, bytes; /* elements and bytes of a block; 0: known by name only */
} types[] = {
    {FTK_TYPE_F32, "F32", 1, sizeof(float)},
    {FTK_TYPE_F16, "F16", 1, sizeof(uint16_t)},
    {FTK_TYPE_Q4_0, "Q4_0", FTK_QBLOCK, sizeof(ftk_q4_0)},
    {FTK_TYPE_Q4_1, "Q4_1", FTK_QBLOCK, sizeof(ftk_q4_1)},
    {4, "Q4_2", 0, 0},
    {5, "Q4_3", 0, 0},
    {FTK_TYPE_Q5_0, "Q5_0", FTK_QBLOCK, sizeof(ftk_q5_0)},
    {FTK_TYPE_Q5_1, "Q5_1", FTK_QBLOCK, sizeof(ftk_q5_1)},
    {FTK_TYPE_Q8_0, "Q8_0", FTK_QBLOCK, sizeof(ftk_q8_0)},
    {9, "Q8_1", 0, 0},
    {FTK_TYPE_Q2_K, "Q2_K", FTK_QUNIT, sizeof(ftk_q2_k)},
    {FTK_TYPE_Q3_K, "Q3_K", FTK_QUNIT, sizeof(ftk_q3_k)},
    {FTK_TYPE_Q4_K, "Q4_K", FTK_QUNIT, sizeof(ftk_q4_k)},
    {FTK_TYPE_Q5_K, "Q5_K", FTK_QUNIT, sizeof(ftk_q5_k)},
    {FTK_TYPE_Q6_K, "Q6_K", FTK_QUNIT, sizeof(ftk_q6_k)},
    {15, "Q8_K", 0, 0},
    {16, "IQ2_XXS", 0, 0},
    {17, "IQ2_XS", 0, 0},
    {18, "IQ3_XXS", 0, 0},
    {19, "IQ1_S", 0, 0},
    {FTK_TYPE_IQ4_NL, "IQ4_NL", FTK_QBLOCK, sizeof(ftk_iq4_nl)},
    {21, "IQ3_S", 0, 0},
    {22, "IQ2_S", 0, 0},
    {FTK_TYPE_IQ4_XS, "IQ4_XS", FTK_QUNIT, sizeof(ftk_iq4_xs)},
    {24, "I8", 0, 0},
    {25, "I16", 0, 0},
    {26, "I32", 0, 0},
    {27, "I64", 0, 0},
    {28, "F64", 0, 0},
    {29, "IQ1_M", 0, 0},
    {FTK_TYPE_BF16, "BF16", 1, sizeof(uint16_t)},
    {31, "Q4_0_4_4", 0, 0},
    {32, "Q4_0_4_8", 0, 0},
    {33, "Q4_0_8_8", 0, 0},
    {34, "TQ1_0", 0, 0},
    {35, "TQ2_0", 0, 0},
    {36, "IQ4_NL_4_4", 0, 0},
    {37, "IQ4_NL_4_8", 0, 0},
    {38, "IQ4_NL_8_8", 0, 0},
    {39, "MXFP4", 0, 0},
    {40, "NVFP4", 0, 0},
    {41, "Q1_0", 0, 0},
    {42, "Q2_0", 0, 0},
};
enum { N_TYPES = sizeof types / sizeof types[0] };

/* The index in types[], or -1. */
static int find(uint32_t type)
{
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].type == type) return i;
    return -1;
}

const char *ftk_type_name(uint32_t type)
{
    const int i = find(type);
    return i < 0 ? NULL : types[i].name;
}

bool ftk_type_supported(uint32_t type)
{
    const int i = find(type);
    return i >= 0 && types[i].block != 0;
}

size_t ftk_type_block(ftk_type type)
{
    const int i = find((uint32_t)type);
    return i < 0 || types[i].block == 0 ? 1 : types[i].block;
}

size_t ftk_type_bytes(ftk_type type, size_t n)
{
    const int i = find((uint32_t)type);
    if (i < 0 || types[i].block == 0 || n % types[i].block != 0) return 0;
    const size_t blocks = n / types[i].block;
    return blocks > SIZE_MAX / types[i].bytes ? 0 : blocks * types[i].bytes;
}
