/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product of the vector levels: everything but the arithmetic, which the including file
 * defines before. A product of a panel and a few activation rows keeps one sum per activation row
 * in registers; the weights are loaded and unpacked once for all of them. How many rows that are is
 * a compile-time constant of the tile functions, as is the type; the operations of one row do not
 * depend on it.
 *
 * - WIDTH: lanes, which are output rows; TILE: activation rows of a tile, at most 8.
 * - vi, vf: a vector of integers, of floats. vi_load(p), vi_bits(v, from, to, mask): in each byte
 *   the bits of `mask` come from v moved from bit `from` to bit `to`; vi_or_bits(base, ...): the
 *   same, or base. vi_lookup(v): the values of IQ4 codes, as dots_add() wants them.
 * - vi_bytes(p): signed bytes, widened; vf_of(vi); vf_halves(p): f16; vi_set1(i), vf_set1(f),
 *   vf_zero(), vf_mul(a, b), vf_add(a, b), vf_fma(a, b, c) = a b + c, vf_fnma(a, b, c) = c - a b;
 *   vf_widen(type, panel, k): the weights of element k of a float panel; vf_store(y, n, v): the
 *   first n lanes.
 * - vi_nibbles(p, half): bytes, widened; of each the low four bits (0) or the high ones (1).
 * - dots: sums of codes by activations, over the first and the second 16 elements of a block, with
 *   dots_start(type, a, d), dots_add(type, g, v, q, d): v[0] times the four bytes at q and v[1]
 *   times those at q + 16, g = 0..3; dots_half(type, d, i): a half's sum, offsets taken off,
 *   dots_both(type, d): that of both. */
#ifndef FTK_MATMULTILE_H
#define FTK_MATMULTILE_H

#include "kernels/blocks.h"
#include "kernels/panel.h"

/* A panel against `rows` activation rows: y[r][0..n_out). */
typedef struct tile {
    const unsigned char *panel;
    size_t scale_bytes, panel_bytes;
    const char *next; /* weights to prefetch: each tile its share of the next panel */
    int share;        /* of as many bytes as the tile reads, one in `share` */
    int n_in;
    const char *act;
    size_t act_stride;
    float *y;
    size_t ldy;
    int n_out;
} tile;

/* n bytes of the weights that come next. A tile alone is in a hurry, and the first-level cache has
 * few places for lines on their way; with more tiles there is time to bring them there. */
INLINE void prefetch(const tile *t, const void *at, size_t n)
{
    const char *p = at;
    if (t->share == 1)
        UNROLL for (size_t i = 0; i < n; i += 64) _mm_prefetch(p + i, _MM_HINT_T1);
    else
        UNROLL for (size_t i = 0; i < n; i += 64) _mm_prefetch(p + i, _MM_HINT_T0);
}

/* Codes of elements 4g.. (v[0]) and 4g + 16.. (v[1]) of the block at w. */
INLINE void unpack(ftk_type type, const unsigned char *w, int g, vi *v)
{
    const ftk_form f = ftk_type_form(type);
    const int group = WIDTH * FTK_GROUP;
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

/* d, dm: of the unit; at: the block's bytes. */
INLINE scales read_scales(ftk_type type, vf d, vf dm, const unsigned char *at)
{
    const ftk_form f = ftk_type_form(type);
    scales s = {.s = {d, d}, .m = {dm, dm}};
    if (f.unit == FTK_QBLOCK) return s;
    if (type == FTK_TYPE_Q2_K) {
        for (int h = 0; h < 2; h++) {
            s.s[h] = vf_mul(d, vf_of(vi_nibbles(at + h * WIDTH, 0)));
            s.m[h] = vf_mul(dm, vf_of(vi_nibbles(at + h * WIDTH, 1)));
        }
        return s;
    }
    s.s[0] = vf_mul(d, vf_of(vi_bytes(at)));
    if (f.sub < FTK_QBLOCK) s.s[1] = vf_mul(d, vf_of(vi_bytes(at + WIDTH)));
    else if (f.min) s.m[0] = vf_mul(dm, vf_of(vi_bytes(at + WIDTH)));
    return s;
}

/* acc + the block's part of the product. Whole numbers up to here are exact. */
INLINE vf add_block(ftk_type type, const scales *s, const dots *d, const ftk_qact *a, vf acc)
{
    const ftk_form f = ftk_type_form(type);
    vf t;
    if (f.sub < FTK_QBLOCK) {
        t = vf_mul(vf_of(dots_half(type, d, 0)), s->s[0]);
        t = vf_fma(vf_of(dots_half(type, d, 1)), s->s[1], t);
    } else {
        t = vf_mul(vf_of(dots_both(type, d)), s->s[0]);
    }
    if (type == FTK_TYPE_Q2_K) { /* keeps its minima positive */
        t = vf_fma(vf_of(vi_set1(a->minus_half[0])), s->m[0], t);
        t = vf_fma(vf_of(vi_set1(a->minus_half[1])), s->m[1], t);
    } else if (f.min) {
        t = vf_fnma(vf_of(vi_set1(a->minus)), s->m[0], t);
    }
    return vf_fma(t, vf_set1(a->d), acc);
}

INLINE void block_tile(const tile *t, ftk_type type, int rows)
{
    const ftk_form f = ftk_type_form(type);
    const int n_units = t->n_in / f.unit, per_unit = f.unit / FTK_QBLOCK;
    const size_t bytes = WIDTH * ftk_lane_block_codes(f), step = bytes / (size_t)t->share;
    const unsigned char *at = t->panel, *w = t->panel + t->scale_bytes;
    const char *next = t->next;
    const ftk_qact *x[TILE];
    vf acc[TILE];
    UNROLL for (int r = 0; r < rows; r++) {
        x[r] = (const void *)(t->act + (size_t)r * t->act_stride);
        acc[r] = vf_zero();
    }
    size_t b = 0;
    for (int u = 0; u < n_units; u++) {
        const vf d = vf_halves(at), dm = f.min ? vf_halves(at + WIDTH * sizeof(uint16_t)) : d;
        at += WIDTH * (f.min ? 2 : 1) * sizeof(uint16_t);
        for (int i = 0; i < per_unit; i++, b++, w += bytes, next += step) {
            const scales s = read_scales(type, d, dm, at);
            prefetch(t, at + t->panel_bytes, 1);
            prefetch(t, next, bytes);
            at += WIDTH * ftk_lane_block_scales(f);
            dots dot[TILE];
            UNROLL for (int r = 0; r < rows; r++) dots_start(type, x[r] + b, &dot[r]);
            UNROLL for (int g = 0; g < 4; g++) {
                vi v[2];
                unpack(type, w, g, v);
                UNROLL for (int r = 0; r < rows; r++)
                    dots_add(type, g, v, x[r][b].q + g * FTK_GROUP, &dot[r]);
            }
            UNROLL for (int r = 0; r < rows; r++)
                acc[r] = add_block(type, &s, &dot[r], x[r] + b, acc[r]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        vf_store(t->y + (size_t)r * t->ldy, t->n_out, acc[r]);
}

/* Two sums per row, over even and odd elements, hide the latency of the multiply-add. */
INLINE void float_tile(const tile *t, ftk_type type, int rows)
{
    const size_t size = WIDTH * (type == FTK_TYPE_F32 ? sizeof(float) : sizeof(uint16_t));
    const char *next = t->next;
    const float *x[TILE];
    vf even[TILE], odd[TILE];
    UNROLL for (int r = 0; r < rows; r++) {
        x[r] = (const void *)(t->act + (size_t)r * t->act_stride);
        even[r] = odd[r] = vf_zero();
    }
    const size_t n = (size_t)t->n_in;
    const size_t step = 2 * size / (size_t)t->share;
    for (size_t k = 0; k + 1 < n; k += 2, next += step) {
        const vf w0 = vf_widen(type, t->panel, k), w1 = vf_widen(type, t->panel, k + 1);
        prefetch(t, next, 2 * size);
        UNROLL for (int r = 0; r < rows; r++) {
            even[r] = vf_fma(w0, vf_set1(x[r][k]), even[r]);
            odd[r] = vf_fma(w1, vf_set1(x[r][k + 1]), odd[r]);
        }
    }
    if (n % 2) {
        const vf w = vf_widen(type, t->panel, n - 1);
        UNROLL for (int r = 0; r < rows; r++)
            even[r] = vf_fma(w, vf_set1(x[r][n - 1]), even[r]);
    }
    UNROLL for (int r = 0; r < rows; r++)
        vf_store(t->y + (size_t)r * t->ldy, t->n_out, vf_add(even[r], odd[r]));
}

/* type and rows are constants where this is called, so that one branch remains. */
INLINE void any_tile(const tile *t, ftk_type type, int rows)
{
    if (ftk_type_form(type).bits) block_tile(t, type, rows);
    else float_tile(t, type, rows);
}

#define TILE_ROWS(rows) \
    case rows: if (rows <= TILE) any_tile(t, type, rows <= TILE ? rows : TILE); break;

INLINE void tile_rows(const tile *t, ftk_type type, int rows)
{
    switch (rows) {
        TILE_ROWS(1)
        TILE_ROWS(2)
        TILE_ROWS(3)
        TILE_ROWS(4)
        TILE_ROWS(5)
        TILE_ROWS(6)
        TILE_ROWS(7)
        TILE_ROWS(8)
    }
}

typedef void (*tile_fn)(const tile *t, int rows);

#define TILE_TYPES(X)                                                                          \
    X(F32) X(F16) X(BF16) X(Q8_0) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q2_K) X(Q3_K) X(Q4_K)      \
    X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS)
#define TILE_FN(name)                                                            \
    static __attribute__((noinline)) void tile_##name(const tile *t, int rows)   \
    {                                                                            \
        tile_rows(t, FTK_TYPE_##name, rows);                                     \
    }
TILE_TYPES(TILE_FN)

static tile_fn tile_of(ftk_type type)
{
    switch (type) {
#define TILE_CASE(name) case FTK_TYPE_##name: return tile_##name;
        TILE_TYPES(TILE_CASE)
    }
    return NULL;
}

/* The rows of a call are dealt out to as few tiles as will do, as evenly as they can be. */
static void matmul_tiles(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o0,
                         int o1, float *y, size_t ldy)
{
    const tile_fn run = tile_of(w->type);
    const size_t panel_bytes = ftk_panel_bytes(w->type, WIDTH, w->n_in);
    const int n_tiles = (n_rows + TILE - 1) / TILE;
    tile t = {.n_in = w->n_in, .act_stride = act_stride, .ldy = ldy, .share = n_tiles};
    t.panel_bytes = panel_bytes;
    t.scale_bytes = ftk_panel_scale_bytes(w->type, WIDTH, w->n_in);
    for (int o = o0; o < o1; o += WIDTH) {
        t.panel = (const unsigned char *)w->data + (size_t)(o / WIDTH) * panel_bytes;
        t.next = (const char *)t.panel + panel_bytes + t.scale_bytes;
        t.act = act;
        t.y = y + o;
        t.n_out = o1 - o < WIDTH ? o1 - o : WIDTH;
        for (int i = 0; i < n_tiles; i++) {
            const int rows = n_rows / n_tiles + (i < n_rows % n_tiles);
            run(&t, rows);
            t.next += panel_bytes / (size_t)n_tiles;
            t.act += (size_t)rows * act_stride;
            t.y += (size_t)rows * ldy;
        }
    }
}

#endif
