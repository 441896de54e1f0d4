/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product for AMX, in tiles of bf16, for any number of rows; F32 stays with AVX-512.
 * Compiled with the flags of AVX-512 and of its half floats, which every processor with tiles
 * has.
 *
 * Weights are unpacked on the way, with their scales in them: to half floats, and these to bf16.
 * So a tile's sums need nothing done to them before the end, and one unpacking serves all rows
 * of a call.
 *
 *  - Block types: weights and activations are each one bf16, rounded to nearest.
 *  - F16: a weight is the exact sum of two bf16, an activation that of two to 16 bits; of their
 *    products that of the two lesser parts is left out.
 *  - BF16: a weight is one, an activation the exact sum of three.
 *
 * A row's bits cannot depend on the others: all are made by the same instructions in the same
 * order, and tiles keep rows apart; sums that leave a tile between chunks lose nothing.
 *
 * Tiles take numbers below 2^-126 for zeros. A half float's exponent, moved to where bf16 has
 * its own, means 2^112 times less; so each output row of weights is scaled by a power of two
 * that brings its largest near the largest half float, and each row of activations by one that
 * brings it near 2^100. Both are taken off at the end.
 *
 * Why whole numbers are not multiplied: tiles of int8 are as fast for blocks of 32, whose scales
 * change so soon, and then have to be stored, read and scaled block by block. Neither that nor
 * what tiles load and store goes on while the vector units work: it all adds up. docs/results
 * has the figures. */
#include <math.h>

#include "kernels/avx512_vector.h"

#include "kernels/amxsplit.h"
#include "kernels/amxtile.h"
#include "kernels/blocktile.h"
#include "kernels/levels.h"

enum {
    ROWS = 16,      /* of a tile, at most */
    DEPTH = 32,     /* elements that a tile product sums over */
    PARTS = 3,      /* of an activation that is no block type's */
    MOST_PARTS = 2, /* of a weight */
    RING = 8,       /* blocks of DEPTH that are unpacked in turn, for few rows */
    LAG = 4,        /* of them, between a block's unpacking and its product */
    CHUNK = 8,    /* blocks that are unpacked at once, for many rows, of one part of the weights */
    AHEAD = 10240,/* bytes of blocks that memory is asked for before they are unpacked */
};

/* ---- activations */

/* A row, as bf16 in blocks of DEPTH; the last one is filled up with zeros. In front of it, for
 * types that are no block types, come the floats. Elements are in the order in which weights are
 * unpacked: see place(). */
typedef struct split {
    float exponent; /* of the largest, less AMX_LIFT; NaN: of something that is not finite */
    float unused[15];
    uint16_t part[][DEPTH];
} split;

static size_t n_blocks(int n_in)
{
    return ((size_t)n_in + DEPTH - 1) / DEPTH;
}

INLINE bool in_blocks(ftk_type type)
{
    return ftk_type_form(type).bits > 0;
}

INLINE int parts_of(ftk_type type)
{
    return in_blocks(type) ? 1 : PARTS;
}

/* Of a row's split form, in bytes. */
static size_t split_at(ftk_type type, int n_in)
{
    return in_blocks(type) ? 0 : n_blocks(n_in) * DEPTH * sizeof(float);
}

static size_t act_bytes_amx(ftk_type type, int n_in)
{
    const size_t parts = n_blocks(n_in) * (size_t)parts_of(type);
    return split_at(type, n_in) + sizeof(split) + parts * DEPTH * sizeof(uint16_t);
}

/* Word 2 r + i of a block is element place(r) + 2 i: see unpack_block(). */
INLINE int place(int r)
{
    return r / 4 * 4 + r / 2 % 2 * 16 + r % 2;
}

/* 32 floats to bf16 in their places. */
INLINE void store_part(const vf v[2], bool nearest, vi order, uint16_t *to)
{
    const vi both = both_halves(float_to_bf16(v[0], nearest), float_to_bf16(v[1], nearest));
    _mm512_store_si512(to, _mm512_permutexvar_epi16(order, both));
}

static vi places(void)
{
    int16_t at[DEPTH];
    for (int i = 0; i < DEPTH; i++) at[i] = (int16_t)(place(i / 2) + i % 2 * 2);
    return _mm512_loadu_si512(at);
}

/* All types that are no block types have one form, so that a conversion serves them all. */
static void act_pack_amx(ftk_type type, int n_in, const float *x, void *dst)
{
    const bool blocks = in_blocks(type);
    const int parts = parts_of(type);
    if (!blocks) ftk_avx512_act_pack(type, n_in, x, dst);
    split *s = (void *)((char *)dst + split_at(type, n_in));
    const int exponent = float_exponent(n_in, x);
    s->exponent = exponent == 255 ? NAN : (float)(exponent - 127 - AMX_LIFT);
    const vf down = vf_set1((float)(127 + AMX_LIFT - exponent));
    const vi order = places();
    uint16_t(*to)[DEPTH] = s->part;
    for (int i = 0; i < n_in; i += DEPTH) {
        vf v[2];
        for (int h = 0; h < 2; h++) {
            v[h] = vf_load(x + i + h * WIDTH, n_in - i - h * WIDTH);
            v[h] = _mm512_scalef_ps(v[h], down);
        }
        store_part(v, blocks, order, *to++);
        for (int p = 1; p < parts; p++) {
            for (int h = 0; h < 2; h++) v[h] = float_rest(v[h]);
            store_part(v, false, order, *to++);
        }
    }
}

/* ---- weights */

/* A panel's first bytes: what each output row's sums are to be multiplied by, two to the power
 * of it. */
#define HEAD_BYTES (LANES * sizeof(float))

static size_t words_bytes(int n_in)
{
    return n_blocks(n_in) * DEPTH * LANES * sizeof(uint16_t);
}

static size_t panel_bytes_amx(ftk_type type, int n_in)
{
    return HEAD_BYTES + (in_blocks(type) ? ftk_panel_bytes(type, LANES, n_in) : words_bytes(n_in));
}

static size_t pack_bytes_amx(ftk_type type, int n_out, int n_in)
{
    if (type == FTK_TYPE_F32) return ftk_panels_bytes(type, LANES, n_out, n_in);
    return ((size_t)n_out + LANES - 1) / LANES * panel_bytes_amx(type, n_in);
}

/* The largest magnitude among a row's weights, or more; infinite or NaN where a number is. */
static float row_bound(ftk_type type, int n_in, const void *row)
{
    const ftk_form f = ftk_type_form(type);
    float most = 0;
    if (!f.bits) {
        for (int i = 0; i < n_in; i++) {
            const uint16_t h = ((const uint16_t *)row)[i];
            const float w = fabsf(type == FTK_TYPE_F16 ? ftk_f16_f32(h) : ftk_bf16_f32(h));
            if (!(w <= most) && !isnan(most)) most = w;
        }
        return most;
    }
    const int code = f.table ? 127 : f.offset ? f.offset : (1 << f.bits) - 1;
    for (size_t b = 0; b < (size_t)n_in / FTK_QBLOCK; b++) {
        ftk_codes c;
        ftk_codes_read(type, row, b, &c);
        for (int h = 0; h < 2; h++) {
            const float w = fabsf(ftk_f16_f32(c.d) * (float)c.sc[h]) * (float)code +
                            fabsf(ftk_f16_f32(c.dm) * (float)c.mn[h]);
            if (!(w <= most) && !isnan(most)) most = w;
        }
    }
    return most;
}

/* Of a row whose weights are at most `bound`: what they are multiplied by, two to the power of
 * it; less for what would leave the range of floats. */
static int row_lift(float bound)
{
    enum { LEAST = AMX_BIAS - 126, MOST = 120 };
    int exponent = 0;
    if (!(bound > 0) || !isfinite(bound)) return 0;
    frexpf(bound, &exponent);
    const int lift = 15 - exponent;
    return lift < LEAST ? LEAST : lift > MOST ? MOST : lift;
}

static void pack_words(ftk_type type, int n_in, float factor, const uint16_t *row, size_t lane,
                       uint16_t *to)
{
    for (int k = 0; k < n_in; k++) {
        const int in = k % DEPTH, odd = in % 2, second = in % 4 / 2;
        const int r = in % 16 / 4 * 4 + in / 16 * 2 + odd; /* place(r) + 2 second is `in` */
        const size_t at = (size_t)(k / DEPTH * 2 + (int)lane / WIDTH) * DEPTH * WIDTH +
                          (size_t)(r * DEPTH + (int)lane % WIDTH * 2 + second);
        to[at] = type == FTK_TYPE_F16 ? ftk_f32_f16(ftk_f16_f32(row[k]) * factor)
                                      : ftk_f32_bf16(ftk_bf16_f32(row[k]) * factor);
    }
}

static void pack_amx(ftk_type type, int n_out, int n_in, const void *src, void *dst)
{
    if (type == FTK_TYPE_F32) {
        ftk_panels_pack(type, LANES, 0, n_out, n_in, src, dst);
        return;
    }
    const size_t row_bytes = ftk_type_bytes(type, (size_t)n_in);
    const ftk_form f = ftk_type_form(type);
    memset(dst, 0, pack_bytes_amx(type, n_out, n_in));
    for (size_t o = 0; o < (size_t)n_out; o++) {
        const unsigned char *row = (const unsigned char *)src + o * row_bytes;
        unsigned char *panel = (unsigned char *)dst + o / LANES * panel_bytes_amx(type, n_in);
        const float bound = row_bound(type, n_in, row);
        const int lift = row_lift(bound);
        const float factor = ldexpf(1, type == FTK_TYPE_BF16 ? lift - AMX_BIAS : lift);
        ((float *)panel)[o % LANES] = isfinite(bound) ? (float)(AMX_BIAS - lift) : NAN;
        if (f.bits)
            ftk_panel_pack_row(type, LANES, 0, f.unit > FTK_QBLOCK ? factor / 256 : factor, n_in,
                               row, o % LANES, panel + HEAD_BYTES);
        else
            pack_words(type, n_in, factor, (const uint16_t *)row, o % LANES,
                       (uint16_t *)(panel + HEAD_BYTES));
    }
}

/* ---- unpacking */

/* 16 half floats, each twice. */
INLINE vi twice(const unsigned char *p)
{
    const vi v = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
    return _mm512_or_si512(v, _mm512_slli_epi32(v, 16));
}

/* 16 bytes, each twice, as words that are 256 times as much: the scales' half floats are as much
 * less. */
INLINE vi bytes_twice(const unsigned char *p)
{
    const vi v = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    return _mm512_or_si512(_mm512_slli_epi32(v, 8), _mm512_slli_epi32(v, 24));
}

/* Scales and minima of a block's halves, as half floats. */
typedef struct half_scales {
    vi s[2], m[2];
} half_scales;

/* Of block i of the unit, of one vector of its panel. */
INLINE half_scales unit_scales(ftk_type type, const unsigned char *unit, int i, int vector)
{
    const ftk_form f = ftk_type_form(type);
    const unsigned char *at = unit + vector * WIDTH * (int)sizeof(uint16_t);
    const vi d = twice(at), dm = f.min ? twice(at + LANES * sizeof(uint16_t)) : d;
    half_scales h = {.s = {d, d}, .m = {dm, dm}};
    if (f.unit == FTK_QBLOCK) return h;
    at = unit + LANES * (f.min ? 2 : 1) * sizeof(uint16_t);
    at += (size_t)i * LANES * ftk_lane_block_scales(f) + (size_t)vector * WIDTH;
    for (int half = 0; half < (f.sub < FTK_QBLOCK ? 2 : 1); half++) {
        vi sc = bytes_twice(at + half * LANES);
        if (f.sub < FTK_QBLOCK && f.min) { /* they share the byte; the minimum is negative */
            const vi mn =
                _mm512_srli_epi16(_mm512_and_si512(sc, _mm512_set1_epi16((int16_t)0xf000)), 4);
            h.m[half] = half_mul(dm, half_of(_mm512_sub_epi16(_mm512_setzero_si512(), mn)));
            sc = _mm512_and_si512(sc, _mm512_set1_epi16(0x0f00));
        }
        h.s[half] = half_mul(d, half_of(sc));
    }
    if (f.sub == FTK_QBLOCK) {
        if (f.min) h.m[0] = h.m[1] = half_mul(dm, half_of(bytes_twice(at + LANES)));
        h.s[1] = h.s[0];
    }
    return h;
}

/* What the codes of up to five bits stand for; the sixth bit and more of an index do not matter to
 * _mm512_permutexvar_epi16(), nor here the fifth of four bits. */
INLINE vi code_values(ftk_type type)
{
    const ftk_form f = ftk_type_form(type);
    int16_t value[32];
    for (int i = 0; i < 32; i++) {
        const int code = i & ((1 << f.bits) - 1);
        value[i] = (int16_t)(f.table ? ftk_iq4_values[code & 15] : code - f.offset);
    }
    return half_of(_mm512_loadu_si512(value));
}

/* Weights of a block's half; c: codes, in each word of which more bits may stand than the code. */
INLINE vi weights_of(ftk_type type, vi values, vi c, vi s, vi m)
{
    const ftk_form f = ftk_type_form(type);
    if (f.bits > 5) return half_fma(half_of(c), s, m);
    const vi v = _mm512_permutexvar_epi16(c, values);
    return f.min ? half_fma(v, s, m) : half_mul(v, s);
}

/* Codes of elements 4 g.. and 4 g + 16.. of the block at w, of one vector, in words: even ones,
 * odd ones of the first four, then of the others. */
INLINE void code_words(ftk_type type, const unsigned char *w, int g, vi c[4])
{
    const ftk_form f = ftk_type_form(type);
    if (f.bits == 4) {
        c[0] = vi_load(w + g * LANES * FTK_GROUP);
        c[1] = _mm512_srli_epi16(c[0], 8);
        c[2] = _mm512_srli_epi16(c[0], 4);
        c[3] = _mm512_srli_epi16(c[0], 12);
        return;
    }
    vi v[2];
    unpack(type, w, g, v);
    for (int h = 0; h < 2; h++) {
        c[2 * h] = f.bits > 5 ? _mm512_and_si512(v[h], _mm512_set1_epi16(0xff)) : v[h];
        c[2 * h + 1] = _mm512_srli_epi16(v[h], 8);
    }
}

/* Block i of a unit: of each vector the rows of a tile, each of two elements that are two apart. */
INLINE void unpack_codes(ftk_type type, vi values, const unsigned char *unit, int i,
                         uint16_t (*to)[ROWS][DEPTH])
{
    const ftk_form f = ftk_type_form(type);
    const unsigned char *w = unit + LANES * ftk_lane_unit_scales(f);
    w += (size_t)i * LANES * ftk_lane_block_codes(f);
    half_scales h[MOST_VECTORS];
    UNROLL for (int v = 0; v < MOST_VECTORS; v++)
    {
        h[v] = unit_scales(type, unit, i, v);
        const vi offset = half_of(_mm512_set1_epi16((int16_t)-f.offset));
        for (int half = 0; half < 2 && f.bits > 5; half++)
            h[v].m[half] = half_mul(h[v].s[half], offset);
    }
    UNROLL for (int g = 0; g < 4; g++) UNROLL for (int v = 0; v < MOST_VECTORS; v++)
    {
        vi c[4];
        code_words(type, w + v * WIDTH * FTK_GROUP, g, c);
        UNROLL for (int r = 0; r < 4; r++)
        {
            const vi x = weights_of(type, values, c[r], h[v].s[r / 2], h[v].m[r / 2]);
            _mm512_store_si512(to[v][4 * g + r], half_to_bf16(x));
        }
    }
}

/* Of F16 the two parts of each weight, of BF16 the weight itself. */
INLINE void unpack_words(ftk_type type, const unsigned char *w, uint16_t (*to)[DEPTH],
                         uint16_t (*second)[DEPTH])
{
    UNROLL for (int r = 0; r < ROWS; r++)
    {
        const vi v = vi_load(w + (size_t)r * DEPTH * sizeof(uint16_t));
        if (type == FTK_TYPE_BF16) {
            _mm512_store_si512(to[r], v);
            continue;
        }
        vi part[2];
        half_split(v, part);
        _mm512_store_si512(to[r], part[0]);
        _mm512_store_si512(second[r], part[1]);
    }
}

/* ---- products */

INLINE int weight_parts(ftk_type type)
{
    return type == FTK_TYPE_F16 ? 2 : 1;
}

/* Parts of an activation that a part of a weight is multiplied by. */
INLINE int act_parts(ftk_type type, int weight_part)
{
    if (type == FTK_TYPE_F16) return weight_part ? 1 : 2;
    return type == FTK_TYPE_BF16 ? 3 : 1;
}

typedef uint16_t weight_tile[ROWS][DEPTH];

/* Bytes of a unit, or of a block of types that have none. */
INLINE size_t unit_bytes(ftk_type type)
{
    const ftk_form f = ftk_type_form(type);
    if (!f.bits) return sizeof(weight_tile) * MOST_VECTORS;
    const size_t blocks = (size_t)f.unit / FTK_QBLOCK;
    return LANES * (ftk_lane_unit_scales(f) + blocks * ftk_lane_block_codes(f));
}

/* Block b of a panel: of each part both vectors. */
INLINE void unpack_block(ftk_type type, vi values, const unsigned char *panel, int b,
                         weight_tile *to)
{
    const ftk_form f = ftk_type_form(type);
    const int per_unit = f.unit > FTK_QBLOCK ? FTK_QUNIT / FTK_QBLOCK : 1;
    const size_t bytes = unit_bytes(type), step = (bytes / (size_t)per_unit + 63) / 64 * 64;
    const unsigned char *unit = panel + (size_t)(b / per_unit) * bytes;
    if (f.bits) {
        prefetch((const char *)unit + (size_t)(b % per_unit) * step + AHEAD, step);
        unpack_codes(type, values, unit, b % per_unit, to);
        return;
    }
    UNROLL for (int v = 0; v < MOST_VECTORS; v++)
        unpack_words(type, unit + (size_t)v * sizeof *to, to[v],
                     to[v + (weight_parts(type) > 1 ? MOST_VECTORS : 0)]);
}

enum { SUMS_0, SUMS_1, NEXT_SUMS_0, NEXT_SUMS_1, ACTS, NEXT_ACTS, WEIGHTS_0, WEIGHTS_1, N_TILES };

static amx_config configuration(int rows)
{
    amx_config c = {.palette = 1};
    for (int i = 0; i < N_TILES; i++) {
        c.rows[i] = (uint8_t)(i == WEIGHTS_0 || i == WEIGHTS_1 ? DEPTH / 2 : rows);
        c.row_bytes[i] = 64;
    }
    return c;
}

/* Rows of one call at most: they share the unpacked weights, and their sums wait on the stack. */
enum { MOST_GROUPS = 8, MOST_ROWS = MOST_GROUPS * ROWS };

/* Activations, in groups of as many rows each. */
typedef struct batch {
    const char *act;
    size_t stride;
    int n_rows, rows, n_groups;
} batch;

/* The last group begins so early that some rows may be computed twice, to the same bits. */
INLINE int group_row(const batch *b, int g)
{
    return g < b->n_groups - 1 ? g * ROWS : b->n_rows - b->rows;
}

/* A block of one group of rows, or of two, by both vectors of a panel. x: their activations. */
INLINE void multiply(ftk_type type, bool two, weight_tile *w, const char *const x[2], size_t stride)
{
    UNROLL for (int p = 0; p < weight_parts(type); p++, w += MOST_VECTORS)
    {
        AMX_LOAD(WEIGHTS_0, w[0], sizeof w[0][0]);
        AMX_LOAD(WEIGHTS_1, w[1], sizeof w[1][0]);
        UNROLL for (int a = 0; a < act_parts(type, p); a++)
        {
            const size_t at = (size_t)a * DEPTH * sizeof(uint16_t);
            AMX_LOAD(ACTS, x[0] + at, stride);
            if (two) AMX_LOAD(NEXT_ACTS, x[1] + at, stride);
            AMX_DOT_BF16(SUMS_0, ACTS, WEIGHTS_0);
            if (two) AMX_DOT_BF16(NEXT_SUMS_0, NEXT_ACTS, WEIGHTS_0);
            AMX_DOT_BF16(SUMS_1, ACTS, WEIGHTS_1);
            if (two) AMX_DOT_BF16(NEXT_SUMS_1, NEXT_ACTS, WEIGHTS_1);
        }
    }
}

/* Of a group by one vector. */
typedef float sum_tile[ROWS][WIDTH];

INLINE void load_sums(bool first, bool two, sum_tile *s)
{
    if (first) {
        AMX_ZERO(SUMS_0);
        AMX_ZERO(SUMS_1);
        if (two) AMX_ZERO(NEXT_SUMS_0);
        if (two) AMX_ZERO(NEXT_SUMS_1);
        return;
    }
    AMX_LOAD(SUMS_0, s[0], sizeof s[0][0]);
    AMX_LOAD(SUMS_1, s[1], sizeof s[1][0]);
    if (two) AMX_LOAD(NEXT_SUMS_0, s[2], sizeof s[2][0]);
    if (two) AMX_LOAD(NEXT_SUMS_1, s[3], sizeof s[3][0]);
}

INLINE void store_sums(bool two, sum_tile *s)
{
    AMX_STORE(SUMS_0, s[0], sizeof s[0][0]);
    AMX_STORE(SUMS_1, s[1], sizeof s[1][0]);
    if (two) AMX_STORE(NEXT_SUMS_0, s[2], sizeof s[2][0]);
    if (two) AMX_STORE(NEXT_SUMS_1, s[3], sizeof s[3][0]);
}

/* The sums of a panel to its outputs. full: LANES of them. */
INLINE void finish_rows(const batch *b, bool full, const float *lift, sum_tile *sums, int n_out,
                        float *y, size_t ldy)
{
    vf l[MOST_VECTORS];
    __mmask16 out[MOST_VECTORS];
    UNROLL for (int v = 0; v < MOST_VECTORS; v++)
    {
        l[v] = _mm512_load_ps(lift + v * WIDTH);
        out[v] = first_lanes(n_out - v * WIDTH);
    }
    for (int g = 0; g < b->n_groups; g++, sums += MOST_VECTORS) {
        const size_t row = (size_t)group_row(b, g);
        const char *act = b->act + row * b->stride;
        float *to = y + row * ldy;
        for (int r = 0; r < b->rows; r++, act += b->stride, to += ldy) {
            const vf exponent = vf_set1(((const split *)(const void *)act)->exponent);
            UNROLL for (int v = 0; v < MOST_VECTORS; v++)
            {
                const vf sum = _mm512_load_ps(sums[v][r]);
                const vf x = _mm512_scalef_ps(sum, exponent + l[v]);
                if (full)
                    _mm512_storeu_ps(to + v * WIDTH, x);
                else
                    _mm512_mask_storeu_ps(to + v * WIDTH, out[v], x);
            }
        }
    }
}

static void finish(const batch *b, const unsigned char *panel, sum_tile *sums, int n_out, float *y,
                   size_t ldy)
{
    const float *lift = (const float *)(const void *)panel;
    if (n_out >= LANES)
        finish_rows(b, true, lift, sums, n_out, y, ldy);
    else
        finish_rows(b, false, lift, sums, n_out, y, ldy);
}

/* Where the activations of a pair of groups are, from a block on; of the last one, alone, twice. */
INLINE void act_of(ftk_type type, const batch *b, int g, int block, const char *x[2])
{
    const size_t at = sizeof(split) + (size_t)(block * parts_of(type)) * DEPTH * sizeof(uint16_t);
    for (int i = 0; i < 2; i++)
        x[i] = b->act + at + (size_t)group_row(b, g + i < b->n_groups ? g + i : g) * b->stride;
}

/* What a call is about, beside the type. */
typedef struct job {
    const unsigned char *data;
    size_t panel_bytes;
    int blocks; /* of a panel */
    const batch *b;
    int o0, o1;
    float *y;
    size_t ldy;
} job;

INLINE const unsigned char *panel_of(const job *j, int o)
{
    return j->data + (size_t)(o / LANES) * j->panel_bytes;
}

/* One group of rows, or two: tiles keep their sums. Blocks are unpacked LAG ahead, over the ends
 * of panels, so that a tile is not asked for what has just been stored; and each after tiles
 * have read another, as the processor takes addresses for the same whose last twelve bits are. */
INLINE void product_narrow(ftk_type type, bool two, const job *j)
{
    weight_tile ring[RING * MOST_PARTS * MOST_VECTORS] __attribute__((aligned(64)));
    sum_tile sums[2 * MOST_VECTORS] __attribute__((aligned(64)));
    const vi values = ftk_type_form(type).bits ? code_values(type) : _mm512_setzero_si512();
    const int tiles = weight_parts(type) * MOST_VECTORS;
    const int total = (j->o1 - j->o0 + LANES - 1) / LANES * j->blocks;
    const unsigned char *panel = panel_of(j, j->o0) + HEAD_BYTES;
    const size_t size = (size_t)parts_of(type) * DEPTH * sizeof(uint16_t);
    const char *x[2];
    int ahead = 0, block = 0, o = j->o0;
    for (int t = 0; t < total + LAG; t++) {
        if (t >= LAG) {
            if (block == 0) {
                load_sums(true, two, sums);
                act_of(type, j->b, 0, 0, x);
            }
            multiply(type, two, ring + (t - LAG) % RING * tiles, x, j->b->stride);
            x[0] += size;
            x[1] += size;
            if (++block == j->blocks) {
                store_sums(two, sums);
                finish(j->b, panel_of(j, o), sums, j->o1 - o, j->y + o, j->ldy);
                o += LANES;
                block = 0;
            }
        }
        if (t < total) {
            unpack_block(type, values, panel, ahead, ring + t % RING * tiles);
            if (++ahead == j->blocks) {
                ahead = 0;
                panel += j->panel_bytes;
            }
        }
    }
}

/* More groups: a chunk is unpacked, then multiplied by all of them; their sums wait between
 * chunks. */
INLINE void product_wide(ftk_type type, const job *j)
{
    weight_tile unpacked[CHUNK * MOST_VECTORS] __attribute__((aligned(64)));
    sum_tile sums[MOST_GROUPS * MOST_VECTORS] __attribute__((aligned(64)));
    const vi values = ftk_type_form(type).bits ? code_values(type) : _mm512_setzero_si512();
    const size_t size = (size_t)parts_of(type) * DEPTH * sizeof(uint16_t);
    const int tiles = weight_parts(type) * MOST_VECTORS, most = CHUNK / weight_parts(type);
    const int n_chunks = (j->blocks + most - 1) / most;
    for (int o = j->o0; o < j->o1; o += LANES) {
        for (int c = 0; c < n_chunks; c++) {
            const int block = j->blocks * c / n_chunks, n = j->blocks * (c + 1) / n_chunks - block;
            for (int i = 0; i < n; i++)
                unpack_block(type, values, panel_of(j, o) + HEAD_BYTES, block + i,
                             unpacked + i * tiles);
            for (int g = 0; g < j->b->n_groups; g += 2) {
                const bool two = g + 1 < j->b->n_groups;
                const char *x[2];
                act_of(type, j->b, g, block, x);
                load_sums(c == 0, two, sums + g * MOST_VECTORS);
                for (int i = 0; i < n; i++) {
                    if (two)
                        multiply(type, true, unpacked + i * tiles, x, j->b->stride);
                    else
                        multiply(type, false, unpacked + i * tiles, x, j->b->stride);
                    x[0] += size;
                    x[1] += size;
                }
                store_sums(two, sums + g * MOST_VECTORS);
            }
        }
        finish(j->b, panel_of(j, o), sums, j->o1 - o, j->y + o, j->ldy);
    }
}

INLINE void product(ftk_type type, const job *j)
{
    if (j->b->n_groups == 1)
        product_narrow(type, false, j);
    else if (j->b->n_groups == 2)
        product_narrow(type, true, j);
    else
        product_wide(type, j);
}

typedef void (*product_fn)(const job *j);

#define AMX_TYPES(X)                                                                               \
    X(F16)                                                                                         \
    X(BF16)                                                                                        \
    X(Q8_0)                                                                                        \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS)
#define AMX_FN(name)                                                                               \
    static __attribute__((noinline)) void product_##name(const job *j)                             \
    {                                                                                              \
        product(FTK_TYPE_##name, j);                                                               \
    }
AMX_TYPES(AMX_FN)

static product_fn product_of(ftk_type type)
{
    switch (type) {
#define AMX_CASE(name)                                                                             \
    case FTK_TYPE_##name: return product_##name;
        AMX_TYPES(AMX_CASE)
    default: return NULL;
    }
}

static void matmul_amx(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o0,
                       int o1, float *y, size_t ldy)
{
    const product_fn run = product_of(w->type);
    if (!run) {
        ftk_avx512_matmul(w, act, act_stride, n_rows, o0, o1, y, ldy);
        return;
    }
    const int n_batches = (n_rows + MOST_ROWS - 1) / MOST_ROWS;
    batch b = {.stride = act_stride};
    job j = {.data = w->data,
             .panel_bytes = panel_bytes_amx(w->type, w->n_in),
             .blocks = (int)n_blocks(w->n_in),
             .b = &b,
             .o0 = o0,
             .o1 = o1,
             .ldy = ldy};
    for (int i = 0, row = 0; i < n_batches; i++, row += b.n_rows) {
        b.n_rows = (n_rows - row) / (n_batches - i);
        b.rows = b.n_rows < ROWS ? b.n_rows : ROWS;
        b.n_groups = (b.n_rows + ROWS - 1) / ROWS;
        b.act = (const char *)act + (size_t)row * act_stride + split_at(w->type, w->n_in);
        const amx_config config = configuration(b.rows);
        AMX_CONFIGURE(config);
        j.y = y + (size_t)row * ldy;
        run(&j);
    }
    AMX_RELEASE();
}

void FTK_AMX_NAME(ftk_kernels_amx)(ftk_kernels *k)
{
    FTK_AMX_NAME(ftk_kernels_amx_attention)(k);
    k->act_bytes = act_bytes_amx;
    k->act_pack = act_pack_amx;
    k->pack_bytes = pack_bytes_amx;
    k->pack = pack_amx;
    k->matmul_grain = LANES;
    k->matmul = matmul_amx;
}
