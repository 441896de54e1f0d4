/* SPDX-License-Identifier: Apache-2.0
 * The forms of the block types, for C and for CUDA: see ftk_form in codes.h for the columns.
 * X(name, bits, offset, sub, unit, min, table) */
#ifndef FTK_FORMS_H
#define FTK_FORMS_H

#define FTK_FORMS(X)                                                                               \
    X(Q8_0, 8, 128, FTK_QBLOCK, FTK_QBLOCK, false, false)                                          \
    X(Q4_0, 4, 8, FTK_QBLOCK, FTK_QBLOCK, false, false)                                            \
    X(Q4_1, 4, 0, FTK_QBLOCK, FTK_QBLOCK, true, false)                                             \
    X(Q5_0, 5, 16, FTK_QBLOCK, FTK_QBLOCK, false, false)                                           \
    X(Q5_1, 5, 0, FTK_QBLOCK, FTK_QBLOCK, true, false)                                             \
    X(IQ4_NL, 4, 0, FTK_QBLOCK, FTK_QBLOCK, false, true)                                           \
    X(Q2_K, 2, 0, 16, FTK_QUNIT, true, false)                                                      \
    X(Q3_K, 3, 4, 16, FTK_QUNIT, false, false)                                                     \
    X(Q4_K, 4, 0, FTK_QBLOCK, FTK_QUNIT, true, false)                                              \
    X(Q5_K, 5, 0, FTK_QBLOCK, FTK_QUNIT, true, false)                                              \
    X(Q6_K, 6, 32, 16, FTK_QUNIT, false, false)                                                    \
    X(IQ4_XS, 4, 0, FTK_QBLOCK, FTK_QUNIT, false, true)

#endif
