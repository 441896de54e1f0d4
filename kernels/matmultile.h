/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product of the vector levels: everything but the arithmetic, which the including file
 * defines before. A product of a panel and a few activation rows keeps one sum per activation row
 * in registers; the weights are loaded and unpacked once for all of them. How many rows that are is
 * a compile-time constant of the tile functions, as is the type; the operations of one row do not
 * depend on it. See blocktile.h for what that is; and here, too: tile_rows(type), activation rows of a
 * tile, at most 6; tile_panels(type, rows), neighbouring panels that go through one together, 1 or 2, so
 * that each broadcast of activations serves both and memory has more to do at a time; and
 * prefetches(type, rows), whether a tile asks for the weights that come next. */
#ifndef FTK_MATMULTILE_H
#define FTK_MATMULTILE_H

#include "kernels/blocktile.h"

enum { TILE = 6, MOST_PANELS = 2 };

INLINE void store_sums(const tile *t, int rows, int panels, vf acc[MOST_PANELS][TILE])
{
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < panels; p++)
        vf_store(t->y + (size_t)r * t->ldy + p * WIDTH, panels > 1 ? WIDTH : t->n_out, acc[p][r]);
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
            dots dot[MOST_PANELS][TILE];
            UNROLL for (int p = 0; p < panels; p++)
            {
                const size_t off = (size_t)p * t->panel_bytes;
                if (!t->cached && prefetches(type, rows)) {
                    prefetch((const char *)at + off + (size_t)panels * t->panel_bytes, 1);
                    prefetch(next + off, bytes);
                }
                UNROLL for (int r = 0; r < rows; r++) dots_start(type, x[r] + b, &dot[p][r]);
            }
            UNROLL for (int g = 0; g < 4; g++)
            {
                vi v[MOST_PANELS][2];
                UNROLL for (int p = 0; p < panels; p++)
                    unpack(type, w + (size_t)p * t->panel_bytes, g, v[p]);
                UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < panels; p++)
                    dots_add(type, g, v[p], x[r][b].q + g * FTK_GROUP, &dot[p][r]);
            }
            UNROLL for (int p = 0; p < panels; p++)
            {
                const scales s = read_scales(type, d[p], dm[p], at + (size_t)p * t->panel_bytes);
                UNROLL for (int r = 0; r < rows; r++) acc[p][r] =
                    add_block(type, &s, &dot[p][r], x[r] + b, acc[p][r]);
            }
            at += WIDTH * ftk_lane_block_scales(f);
        }
    }
    store_sums(t, rows, panels, acc);
}

/* acc += element k of the panels by that of each row. */
INLINE void add_element(const tile *t, ftk_type type, int rows, int panels, size_t k,
                        const float *const *x, vf acc[MOST_PANELS][TILE])
{
    vf w[MOST_PANELS];
    UNROLL for (int p = 0; p < panels; p++) w[p] =
        vf_widen(type, t->panel + (size_t)p * t->panel_bytes, k);
    UNROLL for (int r = 0; r < rows; r++)
    {
        const vf v = vf_set1(x[r][k]);
        UNROLL for (int p = 0; p < panels; p++) acc[p][r] = vf_fma(w[p], v, acc[p][r]);
    }
}

/* Two sums per row, over even and odd elements, hide the latency of the multiply-add. */
INLINE void float_tile(const tile *t, ftk_type type, int rows, int panels)
{
    const size_t size = WIDTH * (type == FTK_TYPE_F32 ? sizeof(float) : sizeof(uint16_t));
    const char *next = t->next;
    const float *x[TILE];
    vf even[MOST_PANELS][TILE], odd[MOST_PANELS][TILE];
    UNROLL for (int r = 0; r < rows; r++)
    {
        x[r] = (const void *)(t->act + (size_t)r * t->act_stride);
        UNROLL for (int p = 0; p < panels; p++) even[p][r] = odd[p][r] = vf_zero();
    }
    const size_t n = (size_t)t->n_in, step = 2 * size / (size_t)t->share;
    for (size_t k = 0; k + 1 < n; k += 2, next += step) {
        if (!t->cached)
            UNROLL for (int p = 0; p < panels; p++)
                prefetch(next + (size_t)p * t->panel_bytes, 2 * size);
        add_element(t, type, rows, panels, k, x, even);
        add_element(t, type, rows, panels, k + 1, x, odd);
    }
    if (n % 2) add_element(t, type, rows, panels, n - 1, x, even);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < panels; p++) even[p][r] =
        vf_add(even[p][r], odd[p][r]);
    store_sums(t, rows, panels, even);
}

/* type, rows and panels are constants where this is called, so that one branch remains. */
INLINE void any_tile(const tile *t, ftk_type type, int rows, int panels)
{
    if (ftk_type_form(type).bits)
        block_tile(t, type, rows, panels);
    else
        float_tile(t, type, rows, panels);
}

#define TILE_ROWS(rows)                                                                            \
    case rows:                                                                                     \
        if (rows > tile_rows(type)) break;                                                         \
        if (t->panels > 1 && (rows == 1 || tile_panels(type, rows) > 1))                           \
            any_tile(t, type, rows, MOST_PANELS);                                                  \
        else                                                                                       \
            any_tile(t, type, rows, 1);                                                            \
        break;

INLINE void run_tile(const tile *t, ftk_type type, int rows)
{
    switch (rows) {
        TILE_ROWS(1)
        TILE_ROWS(2)
        TILE_ROWS(3)
        TILE_ROWS(4)
        TILE_ROWS(5)
        TILE_ROWS(6)
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
        run_tile(t, FTK_TYPE_##name, rows);                                                        \
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
    const int panels = tile_panels(w->type, n_rows);
    const int most = tile_rows(w->type), n_tiles = (n_rows + most - 1) / most;
    tile t = {.n_in = w->n_in,
              .act_stride = act_stride,
              .ldy = ldy,
              .share = n_tiles,
              .cached = w->cached};
    t.panel_bytes = panel_bytes;
    t.scale_bytes = ftk_panel_scale_bytes(w->type, WIDTH, w->n_in);
    for (int o = o0; o < o1; o += WIDTH * t.panels) {
        t.panels = o1 - o >= WIDTH * panels ? panels : 1;
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
