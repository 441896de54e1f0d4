/* SPDX-License-Identifier: Apache-2.0
 *
 * A block of packed weights: its codes, its scales, and what it adds to a product. The
 * arithmetic is defined before by the including file.
 *
 * - WIDTH: lanes, which are output rows.
 * - vi, vf: a vector of integers, of floats. vi_load(p), vi_bits(v, from, to, mask): in each byte
 *   the bits of `mask` come from v moved from bit `from` to bit `to`; vi_or_bits(base, ...): the
 *   same, or base. vi_lookup(v): the values of IQ4 codes, as dots_add() wants them.
 * - vi_bytes(p): signed bytes, widened; vf_of(vi); vf_halves(p): f16; vi_set1(i), vf_set1(f),
 *   vf_fma(a, b, c) = a b + c, vf_fnma(a, b, c) = c - a b; vf_widen(type, at): floats or halves;
 *   vf_store(y, n, v): the first n lanes, or all.
 * - vi_nibbles(p, half): bytes, widened; of each the low four bits (0) or the high ones (1).
 * - dots: sums of codes by activations, over the first and the second 16 elements of a block, with
 *   dots_start(type, a, d), dots_add(type, g, v, q, d): v[0] times the four bytes at q and v[1]
 *   times those at q + 16, g = 0..3; dots_half(type, d, i): a half's sum, offsets taken off,
 *   dots_both(type, d): that of both. */
#ifndef FTK_BLOCKTILE_H
#define FTK_BLOCKTILE_H

#include "kernels/blocks.h"
#include "kernels/panel.h"

/* Output rows of a panel, in vectors of WIDTH. */
enum { MOST_VECTORS = 2, LANES = MOST_VECTORS * WIDTH };

/* A panel, or one vector of it, against activation rows: y[r][0..n_out). */
typedef struct tile {
    const unsigned char *panel;
    int first, vectors; /* of the panel: those that this tile multiplies */
    const char *next;   /* weights to prefetch: each tile its share of the next panel */
    size_t step; /* that share, of each block or each two floats; 0 for weights in the cache */
    int n_in;
    const char *act;
    size_t act_stride;
    float *y;
    size_t ldy;
    int n_out;
} tile;

/* Share of n_steps steps of a panel that each of n_tiles tiles asks for, in whole cache lines. */
INLINE size_t prefetch_step(size_t panel_bytes, size_t n_steps, int n_tiles)
{
    const size_t parts = n_steps * (size_t)n_tiles;
    return ((panel_bytes + parts - 1) / parts + 63) / 64 * 64;
}

/* The weights that come next, to the second-level cache: the first level has buffers for too few
 * lines on their way to keep the memory busy. */
INLINE const char *prefetch(const char *next, size_t step)
{
    const char *const end = next + step;
    for (; next < end; next += 64) _mm_prefetch(next, _MM_HINT_T1);
    return next;
}

/* Codes of elements 4g.. (v[0]) and 4g + 16.. (v[1]) of the block at w, of one vector. */
INLINE void unpack(ftk_type type, const unsigned char *w, int g, vi *v)
{
    const ftk_form f = ftk_type_form(type);
    const int group = LANES * FTK_GROUP;
    if (f.bits == 8) {
        v[0] = vi_load(w + g * group);
        v[1] = vi_load(w + (g + 4) * group);
        return;
    }
    const int pair = f.bits >= 4 ? 4 : 0, single = f.bits & ~1;
    if (f.bits >= 4) {
        const vi n = vi_load(w + g * group);
        for (int h = 0; h < 2; h++) {
            v[h] = vi_bits(n, 4 * h, 0, 15);
            if (f.table) v[h] = vi_lookup(v[h]);
        }
        w += 4 * group;
    }
    if (f.bits - pair >= 2) {
        const vi n = vi_load(w + g / 2 * group);
        for (int h = 0; h < 2; h++) {
            const int from = g % 2 * 4 + h * 2;
            v[h] = pair ? vi_or_bits(v[h], n, from, pair, 3 << pair) : vi_bits(n, from, 0, 3);
        }
        w += 2 * group;
    }
    if (f.bits % 2) {
        const vi n = vi_load(w);
        for (int h = 0; h < 2; h++) v[h] = vi_or_bits(v[h], n, g + 4 * h, single, 1 << single);
    }
}

/* Scales and minima of a block of 32. */
typedef struct scales {
    vf s[2], m[2];
} scales;

/* d, dm: of the unit; at: the block's bytes; all of one vector. */
INLINE scales read_scales(ftk_type type, vf d, vf dm, const unsigned char *at)
{
    const ftk_form f = ftk_type_form(type);
    scales s = {.s = {d, d}, .m = {dm, dm}};
    if (f.unit == FTK_QBLOCK) return s;
    if (type == FTK_TYPE_Q2_K) {
        for (int h = 0; h < 2; h++) {
            s.s[h] = d * vf_of(vi_nibbles(at + h * LANES, 0));
            s.m[h] = dm * vf_of(vi_nibbles(at + h * LANES, 1));
        }
        return s;
    }
    s.s[0] = d * vf_of(vi_bytes(at));
    if (f.sub < FTK_QBLOCK)
        s.s[1] = d * vf_of(vi_bytes(at + LANES));
    else if (f.min)
        s.m[0] = dm * vf_of(vi_bytes(at + LANES));
    return s;
}

/* acc + the block's part of the product. Whole numbers up to here are exact. */
INLINE vf add_block(ftk_type type, const scales *s, const dots *d, const ftk_qact *a, vf acc)
{
    const ftk_form f = ftk_type_form(type);
    vf t;
    if (f.sub < FTK_QBLOCK) {
        t = vf_of(dots_half(type, d, 0)) * s->s[0];
        t = vf_fma(vf_of(dots_half(type, d, 1)), s->s[1], t);
    } else {
        t = vf_of(dots_both(type, d)) * s->s[0];
    }
    if (type == FTK_TYPE_Q2_K) { /* keeps its minima positive */
        t = vf_fma(vf_of(vi_set1(a->minus_half[0])), s->m[0], t);
        t = vf_fma(vf_of(vi_set1(a->minus_half[1])), s->m[1], t);
    } else if (f.min) {
        t = vf_fnma(vf_of(vi_set1(a->minus)), s->m[0], t);
    }
    return vf_fma(t, vf_set1(a->d), acc);
}

#endif
