/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product of the vector levels: everything but the arithmetic, which the including file
 * defines before. A product of a panel and a few activation rows keeps one sum per activation row
 * in registers; the weights are loaded and unpacked once for all of them. How many rows that are is
 * a compile-time constant of the tile functions, as is the type; the operations of one row do not
 * depend on it. See
 * blocktile.h for what that is. */
#ifndef FTK_MATMULTILE_H
#define FTK_MATMULTILE_H

#include "kernels/blocktile.h"

enum { MOST_PANELS = 2 };

/* Types of which one row alone goes through two neighbouring panels at once: memory then has more to
 * do at a time. The K types, with more arithmetic for the same bytes, do not gain. */
INLINE bool in_pairs(ftk_type type)
{
    return ftk_type_form(type).unit == FTK_QBLOCK;
}

INLINE void block_tile(const tile *t, ftk_type type, int rows, int panels)
{
    const ftk_form f = ftk_type_form(type);
    const int n_units = t->n_in / f.unit, per_unit = f.unit / FTK_QBLOCK;
    const size_t bytes = WIDTH * ftk_lane_block_codes(f), step = bytes / (size_t)t->share;
    const unsigned char *at = t->panel, *w = t->panel + t->scale_bytes;
    const char *next = t->next;
    const ftk_qact *x[TILE];
    vf acc[MOST_PANELS][TILE];
    UNROLL for (int r = 0; r < rows; r++)
    {
        x[r] = (const void *)(t->act + (size_t)r * t->act_stride);
        UNROLL for (int p = 0; p < panels; p++) acc[p][r] = vf_zero();
    }
    size_t b = 0;
    for (int u = 0; u < n_units; u++) {
        vf d[MOST_PANELS], dm[MOST_PANELS];
        UNROLL for (int p = 0; p < panels; p++)
        {
            const unsigned char *a = at + (size_t)p * t->panel_bytes;
            d[p] = vf_halves(a);
            dm[p] = f.min ? vf_halves(a + WIDTH * sizeof(uint16_t)) : d[p];
        }
        at += WIDTH * (f.min ? 2 : 1) * sizeof(uint16_t);
        for (int i = 0; i < per_unit; i++, b++, w += bytes, next += step) {
            UNROLL for (int p = 0; p < panels; p++)
            {
                const size_t off = (size_t)p * t->panel_bytes;
                const scales s = read_scales(type, d[p], dm[p], at + off);
                prefetch(t, at + off + (size_t)panels * t->panel_bytes, 1);
                prefetch(t, next + off, bytes);
                dots dot[TILE];
                UNROLL for (int r = 0; r < rows; r++) dots_start(type, x[r] + b, &dot[r]);
                UNROLL for (int g = 0; g < 4; g++)
                {
                    vi v[2];
                    unpack(type, w + off, g, v);
                    UNROLL for (int r = 0; r < rows; r++)
                        dots_add(type, g, v, x[r][b].q + g * FTK_GROUP, &dot[r]);
                }
                UNROLL for (int r = 0; r < rows; r++) acc[p][r] =
                    add_block(type, &s, &dot[r], x[r] + b, acc[p][r]);
            }
            at += WIDTH * ftk_lane_block_scales(f);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
    {
        UNROLL for (int p = 0; p < panels; p++) vf_store(t->y + (size_t)r * t->ldy + p * WIDTH,
                                                         panels > 1 ? WIDTH : t->n_out, acc[p][r]);
    }
}

/* Two sums per row, over even and odd elements, hide the latency of the multiply-add. */
INLINE void float_tile(const tile *t, ftk_type type, int rows)
{
    const size_t size = WIDTH * (type == FTK_TYPE_F32 ? sizeof(float) : sizeof(uint16_t));
    const char *next = t->next;
    const float *x[TILE];
    vf even[TILE], odd[TILE];
    UNROLL for (int r = 0; r < rows; r++)
    {
        x[r] = (const void *)(t->act + (size_t)r * t->act_stride);
        even[r] = odd[r] = vf_zero();
    }
    const size_t n = (size_t)t->n_in;
    const size_t step = 2 * size / (size_t)t->share;
    for (size_t k = 0; k + 1 < n; k += 2, next += step) {
        const vf w0 = vf_widen(type, t->panel, k), w1 = vf_widen(type, t->panel, k + 1);
        prefetch(t, next, 2 * size);
        UNROLL for (int r = 0; r < rows; r++)
        {
            even[r] = vf_fma(w0, vf_set1(x[r][k]), even[r]);
            odd[r] = vf_fma(w1, vf_set1(x[r][k + 1]), odd[r]);
        }
    }
    if (n % 2) {
        const vf w = vf_widen(type, t->panel, n - 1);
        UNROLL for (int r = 0; r < rows; r++) even[r] = vf_fma(w, vf_set1(x[r][n - 1]), even[r]);
    }
    UNROLL for (int r = 0; r < rows; r++)
        vf_store(t->y + (size_t)r * t->ldy, t->n_out, vf_add(even[r], odd[r]));
}

/* type and rows are constants where this is called, so that one branch remains. */
INLINE void any_tile(const tile *t, ftk_type type, int rows)
{
    if (ftk_type_form(type).bits)
        block_tile(t, type, rows, 1);
    else
        float_tile(t, type, rows);
}

#define TILE_ROWS(rows)                                                                            \
    case rows:                                                                                     \
        if (rows <= TILE) any_tile(t, type, rows <= TILE ? rows : TILE);                           \
        break;

INLINE void tile_rows(const tile *t, ftk_type type, int rows)
{
    if (in_pairs(type) && t->panels == MOST_PANELS) {
        block_tile(t, type, 1, MOST_PANELS);
        return;
    }
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

#define TILE_TYPES(X)                                                                              \
    X(F32)                                                                                         \
    X(F16)                                                                                         \
    X(BF16)                                                                                        \
    X(Q8_0)                                                                                        \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS)
#define TILE_FN(name)                                                                              \
    static __attribute__((noinline)) void tile_##name(const tile *t, int rows)                     \
    {                                                                                              \
        tile_rows(t, FTK_TYPE_##name, rows);                                                       \
    }
TILE_TYPES(TILE_FN)

static tile_fn tile_of(ftk_type type)
{
    switch (type) {
#define TILE_CASE(name)                                                                            \
    case FTK_TYPE_##name: return tile_##name;
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
    for (int o = o0; o < o1; o += WIDTH * t.panels) {
        t.panels =
            n_rows == 1 && in_pairs(w->type) && o1 - o >= WIDTH * MOST_PANELS ? MOST_PANELS : 1;
        t.panel = (const unsigned char *)w->data + (size_t)(o / WIDTH) * panel_bytes;
        t.next = (const char *)t.panel + (size_t)t.panels * panel_bytes + t.scale_bytes;
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
