/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product of the vector levels: everything but the arithmetic, which the including
 * file defines before. A product of a panel and a few activation rows keeps one sum per
 * activation row in registers; the weights are loaded and unpacked once for all of them. How
 * many rows that are is a compile-time constant of the tile functions, as is the type; the
 * operations of one row do not depend on it. See blocktile.h for what that is; and here, too:
 * tile_rows(type), activation rows of a tile, at most 6; and tile_vectors(type, rows), vectors
 * of a panel that go through one together, 1 or 2, so that each broadcast of activations serves
 * both and memory has more to do at a time. */
#ifndef FTK_MATMULTILE_H
#define FTK_MATMULTILE_H

#include "kernels/blocktile.h"

enum { TILE = 6 };

/* One row asks for weights so few bytes ahead, more rows for those of the next panel: one is
 * done with a panel so soon that the memory could not keep up with asking for a whole one. */
enum { AHEAD = 2048 };

INLINE void store_sums(const tile *t, int rows, int vectors, vf acc[MOST_VECTORS][TILE])
{
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < vectors; p++)
        vf_store(t->y + (size_t)r * t->ldy + p * WIDTH, vectors > 1 ? WIDTH : t->n_out, acc[p][r]);
}

INLINE void block_tile(const tile *t, ftk_type type, int rows, int vectors)
{
    const ftk_form f = ftk_type_form(type);
    const int n_units = t->n_in / f.unit, per_unit = f.unit / FTK_QBLOCK;
    const size_t halves = LANES * sizeof(uint16_t), first = (size_t)t->first * WIDTH;
    const unsigned char *at = t->panel;
    const char *next = t->next;
    const ftk_qact *x[TILE];
    vf acc[MOST_VECTORS][TILE];
    UNROLL for (int r = 0; r < rows; r++)
    {
        x[r] = (const void *)(t->act + (size_t)r * t->act_stride);
        UNROLL for (int p = 0; p < vectors; p++) acc[p][r] = (vf){0};
    }
    size_t b = 0;
    for (int u = 0; u < n_units; u++) {
        const unsigned char *w = at + LANES * ftk_lane_unit_scales(f) + first * FTK_GROUP;
        vf d[MOST_VECTORS], dm[MOST_VECTORS];
        UNROLL for (int p = 0; p < vectors; p++)
        {
            const unsigned char *a = at + (first + (size_t)p * WIDTH) * sizeof(uint16_t);
            d[p] = vf_halves(a);
            dm[p] = f.min ? vf_halves(a + halves) : d[p];
        }
        at += (f.min ? 2 : 1) * halves + first;
        for (int i = 0; i < per_unit; i++, b++) {
            dots dot[MOST_VECTORS][TILE];
            next = prefetch(next, t->step);
            UNROLL for (int p = 0; p < vectors; p++) UNROLL for (int r = 0; r < rows; r++)
                dots_start(type, x[r] + b, &dot[p][r]);
            UNROLL for (int g = 0; g < 4; g++)
            {
                vi v[MOST_VECTORS][2];
                UNROLL for (int p = 0; p < vectors; p++)
                    unpack(type, w + p * WIDTH * FTK_GROUP, g, v[p]);
                UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < vectors; p++)
                    dots_add(type, g, v[p], x[r][b].q + g * FTK_GROUP, &dot[p][r]);
            }
            UNROLL for (int p = 0; p < vectors; p++)
            {
                const scales s = read_scales(type, d[p], dm[p], at + p * WIDTH);
                UNROLL for (int r = 0; r < rows; r++) acc[p][r] =
                    add_block(type, &s, &dot[p][r], x[r] + b, acc[p][r]);
            }
            at += LANES * ftk_lane_block_scales(f);
            w += LANES * ftk_lane_block_codes(f);
        }
        at = w - first * FTK_GROUP;
    }
    store_sums(t, rows, vectors, acc);
}

/* acc += the weights at w by element k of each row. */
INLINE void add_element(ftk_type type, int rows, int vectors, const unsigned char *w, size_t k,
                        const float *const *x, vf acc[MOST_VECTORS][TILE])
{
    const size_t size = type == FTK_TYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    vf v[MOST_VECTORS];
    UNROLL for (int p = 0; p < vectors; p++) v[p] = vf_widen(type, w + (size_t)p * WIDTH * size);
    UNROLL for (int r = 0; r < rows; r++)
    {
        const vf e = vf_set1(x[r][k]);
        UNROLL for (int p = 0; p < vectors; p++) acc[p][r] = vf_fma(v[p], e, acc[p][r]);
    }
}

/* Two sums per row, over even and odd elements, hide the latency of the multiply-add. */
INLINE void float_tile(const tile *t, ftk_type type, int rows, int vectors)
{
    const size_t size = type == FTK_TYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    const size_t n = (size_t)t->n_in, line = LANES * size;
    const unsigned char *w = t->panel + (size_t)t->first * WIDTH * size;
    const char *next = t->next;
    const float *x[TILE];
    vf even[MOST_VECTORS][TILE], odd[MOST_VECTORS][TILE];
    UNROLL for (int r = 0; r < rows; r++)
    {
        x[r] = (const void *)(t->act + (size_t)r * t->act_stride);
        UNROLL for (int p = 0; p < vectors; p++) even[p][r] = odd[p][r] = (vf){0};
    }
    for (size_t k = 0; k + 1 < n; k += 2, w += 2 * line) {
        next = prefetch(next, t->step);
        add_element(type, rows, vectors, w, k, x, even);
        add_element(type, rows, vectors, w + line, k + 1, x, odd);
    }
    if (n % 2) add_element(type, rows, vectors, w, n - 1, x, even);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < vectors; p++) even[p][r] +=
        odd[p][r];
    store_sums(t, rows, vectors, even);
}

/* type, rows and vectors are constants where this is called, so that one branch remains. */
INLINE void any_tile(const tile *t, ftk_type type, int rows, int vectors)
{
    if (ftk_type_form(type).bits)
        block_tile(t, type, rows, vectors);
    else
        float_tile(t, type, rows, vectors);
}

#define TILE_ROWS(rows)                                                                            \
    case rows:                                                                                     \
        if (rows > tile_rows(type)) break;                                                         \
        if (t->vectors > 1 && tile_vectors(type, rows) > 1)                                        \
            any_tile(t, type, rows, MOST_VECTORS);                                                 \
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

static size_t pack_bytes_tiles(ftk_type type, int n_out, int n_in)
{
    return ftk_panels_bytes(type, LANES, n_out, n_in);
}

/* The rows of a call are dealt out to as few tiles as will do, as evenly as they can be. */
static void matmul_tiles(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o0,
                         int o1, float *y, size_t ldy)
{
    const tile_fn run = tile_of(w->type);
    const int most = tile_rows(w->type), n_tiles = (n_rows + most - 1) / most;
    const size_t panel_bytes = ftk_panel_bytes(w->type, LANES, w->n_in);
    const int steps = w->n_in / (ftk_type_form(w->type).bits ? FTK_QBLOCK : 2);
    tile t = {.n_in = w->n_in, .act_stride = act_stride, .ldy = ldy};
    if (!w->cached && steps > 0) t.step = prefetch_step(panel_bytes, (size_t)steps, n_tiles);
    for (int o = o0; o < o1; o += WIDTH * t.vectors) {
        t.first = o / WIDTH % MOST_VECTORS;
        t.vectors = t.first == 0 && o1 - o >= LANES ? tile_vectors(w->type, n_rows) : 1;
        t.panel = (const unsigned char *)w->data + (size_t)(o / LANES) * panel_bytes;
        t.next = (const char *)t.panel + (n_rows == 1 && panel_bytes > AHEAD ? AHEAD : panel_bytes);
        t.act = act;
        t.y = y + o;
        t.n_out = o1 - o < WIDTH ? o1 - o : WIDTH;
        for (int i = 0; i < n_tiles; i++) {
            const int rows = n_rows / n_tiles + (i < n_rows % n_tiles);
            run(&t, rows);
            t.next += (size_t)steps * t.step;
            t.act += (size_t)rows * act_stride;
            t.y += (size_t)rows * ldy;
        }
    }
}

#endif
