/* SPDX-License-Identifier: Apache-2.0
 * Tensor types, every one that the format has or had, by its number. The passes run few of them,
 * but a file with others can still be inspected. */
#include "kernels/blocks.h"

static const ftk_type_entry types[] = {
    [FTK_TYPE_F32] = {"F32", 1, sizeof(float), FTK_TYPE_RUNS},
    [FTK_TYPE_F16] = {"F16", 1, sizeof(uint16_t), FTK_TYPE_RUNS},
    [FTK_TYPE_Q4_0] = {"Q4_0", FTK_QBLOCK, sizeof(ftk_q4_0), FTK_TYPE_RUNS},
    [FTK_TYPE_Q4_1] = {"Q4_1", FTK_QBLOCK, sizeof(ftk_q4_1), FTK_TYPE_RUNS},
    [4] = {"Q4_2", 0, 0, FTK_TYPE_REMOVED},
    [5] = {"Q4_3", 0, 0, FTK_TYPE_REMOVED},
    [FTK_TYPE_Q5_0] = {"Q5_0", FTK_QBLOCK, sizeof(ftk_q5_0), FTK_TYPE_RUNS},
    [FTK_TYPE_Q5_1] = {"Q5_1", FTK_QBLOCK, sizeof(ftk_q5_1), FTK_TYPE_RUNS},
    [FTK_TYPE_Q8_0] = {"Q8_0", FTK_QBLOCK, sizeof(ftk_q8_0), FTK_TYPE_RUNS},
    [9] = {"Q8_1", 32, 36, FTK_TYPE_KNOWN},
    [FTK_TYPE_Q2_K] = {"Q2_K", FTK_QUNIT, sizeof(ftk_q2_k), FTK_TYPE_RUNS},
    [FTK_TYPE_Q3_K] = {"Q3_K", FTK_QUNIT, sizeof(ftk_q3_k), FTK_TYPE_RUNS},
    [FTK_TYPE_Q4_K] = {"Q4_K", FTK_QUNIT, sizeof(ftk_q4_k), FTK_TYPE_RUNS},
    [FTK_TYPE_Q5_K] = {"Q5_K", FTK_QUNIT, sizeof(ftk_q5_k), FTK_TYPE_RUNS},
    [FTK_TYPE_Q6_K] = {"Q6_K", FTK_QUNIT, sizeof(ftk_q6_k), FTK_TYPE_RUNS},
    [15] = {"Q8_K", 256, 292, FTK_TYPE_KNOWN},
    [16] = {"IQ2_XXS", 256, 66, FTK_TYPE_KNOWN},
    [17] = {"IQ2_XS", 256, 74, FTK_TYPE_KNOWN},
    [18] = {"IQ3_XXS", 256, 98, FTK_TYPE_KNOWN},
    [19] = {"IQ1_S", 256, 50, FTK_TYPE_KNOWN},
    [FTK_TYPE_IQ4_NL] = {"IQ4_NL", FTK_QBLOCK, sizeof(ftk_q4_0), FTK_TYPE_RUNS},
    [21] = {"IQ3_S", 256, 110, FTK_TYPE_KNOWN},
    [22] = {"IQ2_S", 256, 82, FTK_TYPE_KNOWN},
    [FTK_TYPE_IQ4_XS] = {"IQ4_XS", FTK_QUNIT, sizeof(ftk_iq4_xs), FTK_TYPE_RUNS},
    [24] = {"I8", 1, 1, FTK_TYPE_KNOWN},
    [25] = {"I16", 1, 2, FTK_TYPE_KNOWN},
    [26] = {"I32", 1, 4, FTK_TYPE_KNOWN},
    [27] = {"I64", 1, 8, FTK_TYPE_KNOWN},
    [28] = {"F64", 1, 8, FTK_TYPE_KNOWN},
    [29] = {"IQ1_M", 256, 56, FTK_TYPE_KNOWN},
    [FTK_TYPE_BF16] = {"BF16", 1, sizeof(uint16_t), FTK_TYPE_RUNS},
    [31] = {"Q4_0_4_4", 32, 18, FTK_TYPE_REMOVED}, /* the blocks of Q4_0, rows interleaved */
    [32] = {"Q4_0_4_8", 32, 18, FTK_TYPE_REMOVED},
    [33] = {"Q4_0_8_8", 32, 18, FTK_TYPE_REMOVED},
    [34] = {"TQ1_0", 256, 54, FTK_TYPE_KNOWN},
    [35] = {"TQ2_0", 256, 66, FTK_TYPE_KNOWN},
    [36] = {"IQ4_NL_4_4", 32, 18, FTK_TYPE_REMOVED},
    [37] = {"IQ4_NL_4_8", 32, 18, FTK_TYPE_REMOVED},
    [38] = {"IQ4_NL_8_8", 32, 18, FTK_TYPE_REMOVED},
    [39] = {"MXFP4", 32, 17, FTK_TYPE_KNOWN},
    [40] = {"NVFP4", 64, 36, FTK_TYPE_KNOWN},
    [41] = {"Q1_0", 128, 18, FTK_TYPE_KNOWN},
    [42] = {"Q2_0", 64, 18, FTK_TYPE_KNOWN},
};

const ftk_type_entry *ftk_type_find(uint32_t type)
{
    static const ftk_type_entry newer = {0};
    return type < sizeof types / sizeof types[0] ? &types[type] : &newer;
}

const char *ftk_type_name(uint32_t type)
{
    return ftk_type_find(type)->name;
}

bool ftk_type_supported(uint32_t type)
{
    return ftk_type_find(type)->state == FTK_TYPE_RUNS;
}

size_t ftk_type_block(ftk_type type)
{
    return ftk_type_supported(type) ? ftk_type_find(type)->block : 1;
}

size_t ftk_type_bytes(ftk_type type, size_t n)
{
    const ftk_type_entry *const t = ftk_type_find(type);
    if (!ftk_type_supported(type) || n % t->block != 0) return 0;
    const size_t blocks = n / t->block;
    return blocks > SIZE_MAX / t->bytes ? 0 : blocks * t->bytes;
}
