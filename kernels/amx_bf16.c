/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product of BF16 for AMX, in tiles of bf16, for any number of rows. Compiled with the flags
 * of AVX-512.
 *
 * An activation is the sum of three bf16, to the last bit: so products are exact, and only their sums
 * are rounded. Tiles take numbers below 2^-126 for zeros; therefore activations are scaled by a power of
 * two that brings the largest of a row near 1.
 *
 * A row's bits cannot depend on the others: all are made by the same instructions, which keep rows
 * apart. One row goes through tiles as well, as AVX-512 would take longer over the same sums in the same
 * order. By Intel's figures a tile product takes 16 cycles, so the three of the 1 KiB of a weight tile
 * are done in less time than the weights take from memory.
 *
 * F16 stays with AVX-512: splitting its weights in two on the way makes one row slower by a fourth and
 * more. */
#if defined(__x86_64__)
#include "kernels/avx512_vector.h"

#include "kernels/amxtile.h"
#include "kernels/blocktile.h"
#include "kernels/levels.h"

enum {
    ROWS = 16,  /* of a tile, at most */
    DEPTH = 32, /* elements that a tile product sums over */
    PARTS = 3,  /* of an activation */
};

/* What follows the floats of a row of activations: their parts, filled up with zeros. */
typedef struct split {
    float exponent; /* of the largest: the parts are to be multiplied by 2 to the power of it */
    float unused[15];
    uint16_t block[][PARTS][DEPTH];
} split;

/* Blocks of DEPTH elements, the last one filled up with zeros. */
static size_t n_blocks(int n_in)
{
    return ((size_t)n_in + DEPTH - 1) / DEPTH;
}

static size_t floats_bytes(int n_in)
{
    return n_blocks(n_in) * DEPTH * sizeof(float);
}

static size_t act_bytes_bf16(ftk_type wtype, int n_in)
{
    if (ftk_type_block(wtype) > 1) return ftk_ref_act_bytes(wtype, n_in);
    return floats_bytes(n_in) + sizeof(split) + n_blocks(n_in) * PARTS * DEPTH * sizeof(uint16_t);
}

INLINE __mmask16 lanes(int left)
{
    return left >= WIDTH ? 0xffff : left > 0 ? (__mmask16)((1u << left) - 1) : 0;
}

/* The upper halves of floats: bf16, rounded towards zero. */
INLINE vf upper(vf v)
{
    const vi mask = _mm512_set1_epi32((int)0xffff0000);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), mask));
}

/* What is not finite stays so in one of the parts. */
INLINE void split_floats(vf v, uint16_t block[PARTS][DEPTH], int at)
{
    for (int p = 0; p < PARTS; p++) {
        const vi bits = _mm512_srli_epi32(_mm512_castps_si512(v), 16);
        _mm256_store_si256((void *)(block[p] + at), _mm512_cvtepi32_epi16(bits));
        v = _mm512_sub_ps(v, upper(v));
    }
}

/* All types that are no block types have one form, so that a conversion serves them all. */
static void act_pack_bf16(ftk_type wtype, int n_in, const float *x, void *dst)
{
    ftk_avx512_act_pack(wtype, n_in, x, dst);
    if (ftk_type_block(wtype) > 1) return;
    split *s = (void *)((char *)dst + floats_bytes(n_in));
    vi most = _mm512_setzero_si512();
    for (int i = 0; i < n_in; i += WIDTH) {
        const vi v = _mm512_maskz_loadu_epi32(lanes(n_in - i), x + i);
        most = _mm512_max_epu32(most, _mm512_slli_epi32(v, 1)); /* without signs */
    }
    s->exponent = (float)((int)(_mm512_reduce_max_epu32(most) >> 24) - 127);
    const vf down = vf_set1(-s->exponent);
    for (int i = 0; i < (int)n_blocks(n_in) * DEPTH; i += WIDTH) {
        const vf v = _mm512_maskz_loadu_ps(lanes(n_in - i), x + i);
        split_floats(_mm512_scalef_ps(v, down), s->block[i / DEPTH], i % DEPTH);
    }
}

#define BLOCK_BYTES (DEPTH * WIDTH * sizeof(uint16_t))

static size_t pack_bytes_bf16(ftk_type type, int n_out, int n_in)
{
    if (type != FTK_TYPE_BF16) return ftk_panels_bytes(type, LANES, n_out, n_in);
    return ((size_t)n_out + WIDTH - 1) / WIDTH * n_blocks(n_in) * BLOCK_BYTES;
}

/* Panels of 16 rows, as tiles want them: elements in pairs, [pair][row][2], filled up with zeros to
 * whole blocks. */
static void pack_bf16(ftk_type type, int n_out, int n_in, const void *src, void *dst)
{
    if (type != FTK_TYPE_BF16) {
        ftk_panels_pack(type, LANES, 0, n_out, n_in, src, dst);
        return;
    }
    const unsigned char *from = src;
    memset(dst, 0, pack_bytes_bf16(type, n_out, n_in));
    for (size_t o = 0; o < (size_t)n_out; o++) {
        uint16_t *lane =
            (uint16_t *)dst + o / WIDTH * n_blocks(n_in) * DEPTH * WIDTH + o % WIDTH * 2;
        for (size_t k = 0; k < (size_t)n_in; k++, from += sizeof *lane)
            memcpy(lane + k / 2 * 2 * WIDTH + k % 2, from, sizeof *lane);
    }
}

/* The tiles: sums by each part of the activations; weights; activations. */
enum { SUMS_1, SUMS_2, SUMS_3, WEIGHTS, ACTS, N_TILES };

static amx_config configuration(int rows)
{
    amx_config c = {.palette = 1};
    for (int i = 0; i < N_TILES; i++) {
        c.rows[i] = (uint8_t)(i == WEIGHTS ? DEPTH / 2 : rows);
        c.row_bytes[i] = 64;
    }
    return c;
}

/* A panel by `rows` rows: y[r][0..n_out). */
static void bf16_tile(const tile *t, int rows)
{
    const size_t n = n_blocks(t->n_in);
    const split *s = (const void *)(t->act + floats_bytes(t->n_in));
    const unsigned char *w = t->panel;
    const char *next = t->next;
    float sums[PARTS][ROWS][WIDTH] __attribute__((aligned(64)));
    AMX_ZERO(SUMS_1);
    AMX_ZERO(SUMS_2);
    AMX_ZERO(SUMS_3);
    for (size_t b = 0; b < n; b++, w += BLOCK_BYTES) {
        next = prefetch(next, t->step);
        AMX_LOAD(WEIGHTS, w, 64);
        AMX_LOAD(ACTS, s->block[b][0], t->act_stride);
        AMX_DOT_BF16(SUMS_1, ACTS, WEIGHTS);
        AMX_LOAD(ACTS, s->block[b][1], t->act_stride);
        AMX_DOT_BF16(SUMS_2, ACTS, WEIGHTS);
        AMX_LOAD(ACTS, s->block[b][2], t->act_stride);
        AMX_DOT_BF16(SUMS_3, ACTS, WEIGHTS);
    }
    AMX_STORE(SUMS_1, sums[0], 64);
    AMX_STORE(SUMS_2, sums[1], 64);
    AMX_STORE(SUMS_3, sums[2], 64);
    for (int r = 0; r < rows; r++) {
        const split *row = (const void *)((const char *)s + (size_t)r * t->act_stride);
        vf v = vf_add(_mm512_load_ps(sums[2][r]), _mm512_load_ps(sums[1][r]));
        v = vf_add(v, _mm512_load_ps(sums[0][r]));
        v = _mm512_scalef_ps(v, vf_set1(row->exponent));
        vf_store(t->y + (size_t)r * t->ldy, t->n_out, v);
    }
}

/* All tiles have as many rows: of more than 16 the last one begins so early that some are computed
 * twice, to the same bits. */
static void matmul_bf16(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o0,
                        int o1, float *y, size_t ldy)
{
    if (w->type != FTK_TYPE_BF16) {
        FTK_AMX_NAME(ftk_amx_matmul)(w, act, act_stride, n_rows, o0, o1, y, ldy);
        return;
    }
    const int rows = n_rows < ROWS ? n_rows : ROWS, n_tiles = (n_rows + ROWS - 1) / ROWS;
    const size_t panel_bytes = n_blocks(w->n_in) * BLOCK_BYTES;
    const amx_config config = configuration(rows);
    AMX_CONFIGURE(config);
    tile t = {.n_in = w->n_in, .act_stride = act_stride, .ldy = ldy};
    if (!w->cached) t.step = prefetch_step(panel_bytes, n_blocks(w->n_in), n_tiles);
    for (int o = o0; o < o1; o += WIDTH) {
        t.panel = (const unsigned char *)w->data + (size_t)(o / WIDTH) * panel_bytes;
        t.next = (const char *)t.panel + panel_bytes;
        t.n_out = o1 - o < WIDTH ? o1 - o : WIDTH;
        for (int i = 0; i < n_tiles; i++) {
            const size_t row = (size_t)(i < n_tiles - 1 ? i * ROWS : n_rows - rows);
            t.act = (const char *)act + row * act_stride;
            t.y = y + row * ldy + o;
            bf16_tile(&t, rows);
            t.next += n_blocks(w->n_in) * t.step;
        }
    }
    AMX_RELEASE();
}

void FTK_AMX_NAME(ftk_kernels_amx_bf16)(ftk_kernels *k)
{
    k->act_bytes = act_bytes_bf16;
    k->act_pack = act_pack_bf16;
    k->pack_bytes = pack_bytes_bf16;
    k->pack = pack_bf16;
    k->matmul = matmul_bf16;
}
#else
typedef int ftk_amx_bf16_unused; /* a translation unit may not be empty */
#endif
