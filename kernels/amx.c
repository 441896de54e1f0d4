/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product of block types for AMX, for many activation rows at once; fewer rows and the
 * float types stay with AVX-512 (but see amx_bf16.c). Compiled with its flags. The tiles only form sums
 * of whole numbers, which are exact in any order, and what is done with them is done in the same order
 * as there: so the bits are those of AVX-512, and the number of rows may decide who computes. */
#if defined(__x86_64__)
#include "kernels/avx512_vector.h"

#include "kernels/amxtile.h"
#include "kernels/blocktile.h"
#include "kernels/levels.h"

enum {
    ROWS = 16,  /* of a tile */
    FEWEST = 8, /* activation rows for which tiles pay */
};

/* The tiles: sums and activations of 16 rows, of the rows left over, and the weights; each for
 * blocks of 32 and for halves of 16. */
enum {
    SUMS,
    CODES,
    LEFT_SUMS,
    LEFT_CODES,
    WEIGHTS,
    HALF_CODES,
    LEFT_HALF_CODES,
    HALF_WEIGHTS,
};

static amx_config configuration(int left)
{
    amx_config c = {.palette = 1};
    const uint8_t rest = (uint8_t)(left > 0 ? left : 1); /* a tile may not have no rows */
    const struct {
        uint8_t rows;
        uint16_t bytes;
    } shapes[8] = {[SUMS] = {ROWS, WIDTH * sizeof(int32_t)},
                   [CODES] = {ROWS, FTK_QBLOCK},
                   [LEFT_SUMS] = {rest, WIDTH * sizeof(int32_t)},
                   [LEFT_CODES] = {rest, FTK_QBLOCK},
                   [WEIGHTS] = {FTK_QBLOCK / FTK_GROUP, WIDTH * FTK_GROUP},
                   [HALF_CODES] = {ROWS, FTK_QBLOCK / 2},
                   [LEFT_HALF_CODES] = {rest, FTK_QBLOCK / 2},
                   [HALF_WEIGHTS] = {FTK_QBLOCK / FTK_GROUP / 2, WIDTH * FTK_GROUP}};
    for (int i = 0; i < 8; i++) {
        c.rows[i] = shapes[i].rows;
        c.row_bytes[i] = shapes[i].bytes;
    }
    return c;
}

#define MULTIPLY(sums, codes, weights, x, x_stride, w, to)                                         \
    do {                                                                                           \
        AMX_ZERO(sums);                                                                            \
        AMX_LOAD(codes, x, x_stride);                                                              \
        AMX_LOAD(weights, w, WIDTH *FTK_GROUP);                                                    \
        AMX_DOT(sums, codes, weights);                                                             \
        AMX_STORE(sums, to, WIDTH * sizeof(int32_t));                                              \
    } while (0)

/* A block's sums of codes by activations, of its whole or of its halves. */
typedef struct sums {
    int32_t part[2][ROWS][WIDTH] __attribute__((aligned(64)));
} sums;

INLINE void multiply(bool halves, bool left, const ftk_qact *x, size_t stride,
                     const unsigned char *w, sums *s)
{
    const unsigned char *w1 = w + FTK_QBLOCK / 2 * WIDTH;
    const int8_t *x1 = x->q + FTK_QBLOCK / 2;
    if (!halves && !left) {
        MULTIPLY(SUMS, CODES, WEIGHTS, x->q, stride, w, s->part[0]);
    } else if (!halves) {
        MULTIPLY(LEFT_SUMS, LEFT_CODES, WEIGHTS, x->q, stride, w, s->part[0]);
    } else if (!left) {
        MULTIPLY(SUMS, HALF_CODES, HALF_WEIGHTS, x->q, stride, w, s->part[0]);
        MULTIPLY(SUMS, HALF_CODES, HALF_WEIGHTS, x1, stride, w1, s->part[1]);
    } else {
        MULTIPLY(LEFT_SUMS, LEFT_HALF_CODES, HALF_WEIGHTS, x->q, stride, w, s->part[0]);
        MULTIPLY(LEFT_SUMS, LEFT_HALF_CODES, HALF_WEIGHTS, x1, stride, w1, s->part[1]);
    }
}

/* The codes of a block, their offset taken off, a byte each, in the order of a weight tile. */
INLINE void codes_of(ftk_type type, const unsigned char *w, unsigned char *codes)
{
    const ftk_form f = ftk_type_form(type);
    const int offset = f.table ? 128 : f.offset;
    for (int g = 0; g < 4; g++) {
        vi v[2];
        unpack(type, w, g, v);
        for (int h = 0; h < 2; h++) {
            if (offset) v[h] = _mm512_sub_epi8(v[h], _mm512_set1_epi8((char)offset));
            _mm512_store_si512(codes + (g + 4 * h) * WIDTH * FTK_GROUP, v[h]);
        }
    }
}

/* What block_tile() does, for 16 rows or, if left, for fewer. */
INLINE void amx_tile(const tile *t, ftk_type type, bool left, int rows)
{
    const ftk_form f = ftk_type_form(type);
    const bool halves = f.sub < FTK_QBLOCK;
    const int n_units = t->n_in / f.unit, per_unit = f.unit / FTK_QBLOCK;
    const size_t halves_bytes = LANES * sizeof(uint16_t), first = (size_t)t->first * WIDTH;
    const size_t stride = t->act_stride;
    const unsigned char *at = t->panel;
    const char *next = t->next;
    unsigned char codes[WIDTH * FTK_QBLOCK] __attribute__((aligned(64)));
    sums s;
    vf acc[ROWS];
    UNROLL for (int r = 0; r < ROWS; r++) acc[r] = vf_zero();
    const ftk_qact *x = (const void *)t->act;
    for (int u = 0; u < n_units; u++) {
        const unsigned char *w = at + LANES * ftk_lane_unit_scales(f) + first * FTK_GROUP;
        const unsigned char *a = at + first * sizeof(uint16_t);
        const vf d = vf_halves(a), dm = f.min ? vf_halves(a + halves_bytes) : d;
        at += (f.min ? 2 : 1) * halves_bytes + first;
        for (int i = 0; i < per_unit; i++, x++, w += LANES * ftk_lane_block_codes(f)) {
            const scales sc = read_scales(type, d, dm, at);
            at += LANES * ftk_lane_block_scales(f);
            next = prefetch(next, t->step);
            codes_of(type, w, codes);
            multiply(halves, left, x, stride, codes, &s);
            UNROLL for (int r = 0; r < ROWS; r++)
            {
                if (left && r >= rows) break;
                const ftk_qact *xr = (const void *)((const char *)x + (size_t)r * stride);
                const dots dot = {.lo = vi_load(s.part[0][r]), .hi = vi_load(s.part[halves][r])};
                acc[r] = add_block(type, &sc, &dot, xr, acc[r]);
            }
        }
        at = w - first * FTK_GROUP;
    }
    UNROLL for (int r = 0; r < ROWS; r++)
    {
        if (left && r >= rows) break;
        vf_store(t->y + (size_t)r * t->ldy, t->n_out, acc[r]);
    }
}

typedef void (*amx_fn)(const tile *t, int rows);

#define AMX_TYPES(X)                                                                               \
    X(Q8_0)                                                                                        \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS)
#define AMX_FN(name)                                                                               \
    static __attribute__((noinline)) void amx_##name(const tile *t, int rows)                      \
    {                                                                                              \
        if (rows == ROWS)                                                                          \
            amx_tile(t, FTK_TYPE_##name, false, ROWS);                                             \
        else                                                                                       \
            amx_tile(t, FTK_TYPE_##name, true, rows);                                              \
    }
AMX_TYPES(AMX_FN)

static amx_fn amx_of(ftk_type type)
{
    switch (type) {
#define AMX_CASE(name)                                                                             \
    case FTK_TYPE_##name: return amx_##name;
        AMX_TYPES(AMX_CASE)
    default: return NULL;
    }
}

void FTK_AMX_NAME(ftk_amx_matmul)(const ftk_mat *w, const void *act, size_t act_stride, int n_rows,
                                  int o0, int o1, float *y, size_t ldy)
{
    const amx_fn run = n_rows < FEWEST ? NULL : amx_of(w->type);
    if (!run) {
        ftk_avx512_matmul(w, act, act_stride, n_rows, o0, o1, y, ldy);
        return;
    }
    const amx_config config = configuration(n_rows % ROWS);
    AMX_CONFIGURE(config);
    const size_t panel_bytes = ftk_panel_bytes(w->type, LANES, w->n_in);
    const size_t steps = (size_t)w->n_in / FTK_QBLOCK;
    const int n_tiles = (n_rows + ROWS - 1) / ROWS;
    tile t = {.n_in = w->n_in, .act_stride = act_stride, .ldy = ldy};
    if (!w->cached) t.step = prefetch_step(panel_bytes, steps, MOST_VECTORS * n_tiles);
    for (int o = o0; o < o1; o += WIDTH) {
        t.first = o / WIDTH % MOST_VECTORS;
        t.panel = (const unsigned char *)w->data + (size_t)(o / LANES) * panel_bytes;
        t.next = (const char *)t.panel + panel_bytes + (size_t)(t.first * n_tiles) * steps * t.step;
        t.act = act;
        t.y = y + o;
        t.n_out = o1 - o < WIDTH ? o1 - o : WIDTH;
        for (int left = n_rows; left > 0; left -= ROWS) {
            run(&t, left < ROWS ? left : ROWS);
            t.next += steps * t.step;
            t.act += ROWS * act_stride;
            t.y += ROWS * ldy;
        }
    }
    AMX_RELEASE();
}

void FTK_AMX_NAME(ftk_kernels_amx)(ftk_kernels *k)
{
    k->matmul = FTK_AMX_NAME(ftk_amx_matmul);
}
#else
typedef int ftk_amx_unused; /* a translation unit may not be empty */
#endif
