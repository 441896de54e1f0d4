/* SPDX-License-Identifier: Apache-2.0
 *
 * What the block types have in common. Each 32 elements of a row are codes, small unsigned numbers,
 * with one or two scales (and minima) that are whole multiples of a half float:
 *
 *     w[i] = (d * sc[s]) * value(q[i])  +  dm * mn[s]      s = i / form.sub
 *
 * where value(q) is q - form.offset or ftk_iq4_values[q], and the last term is there when form.min
 * says so. For types without scales in whole numbers sc and mn are 1. */
#ifndef FTK_CODES_H
#define FTK_CODES_H

#include "kernels/forms.h"
#include "kernels/kernels.h"

typedef struct ftk_form {
    int bits;   /* of a code: 2, 3, 4, 5, 6 or 8; 0: not a block type */
    int offset; /* of a code; 0 where there is a table or a minimum */
    int sub;    /* elements per scale: 16 or FTK_QBLOCK */
    int unit;   /* elements per half float: FTK_QBLOCK or FTK_QUNIT */
    bool min, table;
} ftk_form;

/* Folds into constants where the type is one. */
static inline ftk_form ftk_type_form(ftk_type type)
{
    switch (type) {
#define FTK_FORM_CASE(name, ...)                                                                   \
    case FTK_TYPE_##name: return (ftk_form){__VA_ARGS__};
        FTK_FORMS(FTK_FORM_CASE)
#undef FTK_FORM_CASE
    case FTK_TYPE_F32:
    case FTK_TYPE_F16:
    case FTK_TYPE_BF16: break;
    }
    return (ftk_form){0};
}

extern const int8_t ftk_iq4_values[16];

/* 32 elements. Types with one scale for all of them have it twice. */
typedef struct ftk_codes {
    uint8_t q[FTK_QBLOCK];
    uint16_t d, dm; /* f16; dm is 0 without minima */
    int8_t sc[2], mn[2];
} ftk_codes;

/* Elements [32 b, 32 b + 32) of a row in GGUF layout. */
void ftk_codes_read(ftk_type type, const void *row, size_t b, ftk_codes *c);

/* n floats, a multiple of FTK_QBLOCK, to blocks of Q8_0, for the KV cache of all levels. The
 * scale of a block with a number that is not finite is NaN. */
void ftk_q8_0_write(int n, const float *x, void *blocks);

#endif
