/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for AMX, where keys and values are half floats and heads a multiple of 32 long; all
 * else stays with AVX-512. Compiled with the flags of amx.c, whose way of feeding tiles it
 * shares (amxsplit.h): a key or value is the exact sum of two bf16, a query that of two to 16
 * bits, whose lesser parts are not multiplied by each other; a softmax weight is rounded to one,
 * before weights are summed up.
 *
 * A pair is a query row and a head of the group; 16 of them are a group of lanes here. Scores
 * come out of the tiles as [key][lane]. Sums over keys, of weights as of values, go by blocks of
 * 32 as a lane's row counts its keys. Where rows see all slots before their last, that is the
 * order of slots, and blocks are shared; keys that a row does not see have the weight 0, which
 * changes no bits. Where they do not - trees - that holds for the whole blocks of the prefix;
 * the keys behind them are brought together row by row. So a row's sums have the same terms in
 * the same places in any company. */
#include "kernels/amxsplit.h"
#include "kernels/amxtile.h"
#include "kernels/attnmask.h"
#include "kernels/avx512_sum.h"

enum {
    LANES = 16,
    DEPTH = AMX_DEPTH,
    PARTS = 2,
    PAGE_TILES = FTK_PAGE / LANES,
    PAGE_BLOCKS = FTK_PAGE / DEPTH
};

/* Activations of a tile: 16 rows of 32; or what they are multiplied by: 16 pairs of depths, of
 * 16 columns. */
typedef uint16_t bf16_tile[16][DEPTH];

/* Of 32 keys first the scores, then the weights: as a tile, or where rows do not share them, as
 * floats. */
typedef union block {
    float score[DEPTH][LANES];
    bf16_tile weight;
    float own[LANES][DEPTH];
} block;

/* Of a group of lanes. */
typedef struct lane_group {
    float factor
        [LANES];      /* by which the tiles' scores are multiplied: powers of two are to come out */
    float top[LANES]; /* of them */
    __m512 sum[LANES];    /* of weights, by the key's place in its half of a block */
    int32_t first[LANES]; /* key of the window, as the row counts */
    uint16_t sees[128];   /* provisional slots: the lanes that do */
    int n;                /* lanes that there are */
} __attribute__((aligned(64))) lane_group;

/* One call, laid out in the caller's scratch. */
typedef struct call {
    const ftk_attn *a;
    int head_kv, row0, row1, heads; /* of the group */
    int n_pairs, n_groups, units;   /* of 32 elements, in a head */
    int n_slots, first_page, first_block;
    int shared;        /* blocks before it are the same for all rows */
    bool tree, finite; /* finite: all keys and values read so far */
    lane_group *group;
    bf16_tile *q; /* [n_groups][units][PARTS] */
    bf16_tile *
        kv; /* keys of a page: [units][PARTS][PAGE_TILES]; values: [PAGE_BLOCKS][units][PARTS][2] */
    float *sums;   /* [n_groups * LANES + LANES][head_dim], in the order of interleave() */
    size_t stride; /* blocks of a group */
    block *keys;   /* [n_groups][stride] */
} call;

/* ---- layout */

static size_t scratch_bytes(int head_dim, int heads, int max_slots)
{
    const size_t groups = (size_t)heads, units = (size_t)head_dim / DEPTH;
    const size_t blocks = ((size_t)max_slots + FTK_PAGE - 1) / FTK_PAGE * PAGE_BLOCKS;
    return groups * sizeof(lane_group) + (groups + PAGE_TILES) * units * PARTS * sizeof(bf16_tile) +
           (groups + 1) * LANES * (size_t)head_dim * sizeof(float) +
           groups * blocks * sizeof(block);
}

static void lay_out(call *c, float *scratch)
{
    const size_t groups = (size_t)c->n_groups, units = (size_t)c->units;
    c->stride = ((size_t)c->n_slots + FTK_PAGE - 1) / FTK_PAGE * PAGE_BLOCKS;
    c->group = (void *)scratch;
    c->q = (void *)(c->group + groups);
    c->kv = c->q + groups * units * PARTS;
    c->sums = (void *)(c->kv + PAGE_TILES * units * PARTS);
    c->keys = (void *)(c->sums + (groups + 1) * LANES * units * DEPTH);
}

static call plan(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch)
{
    call c = {.a = a, .head_kv = head_kv, .row0 = row0, .row1 = row1, .finite = true};
    c.heads = a->n_head / a->n_head_kv;
    c.n_pairs = (row1 - row0) * c.heads;
    c.n_groups = (c.n_pairs + LANES - 1) / LANES;
    c.units = a->head_dim / DEPTH;
    int end = 0, first = a->prefix;
    for (int r = row0; r < row1; r++) {
        const int e = attn_mask_end(a->mask[r]), f = attn_row_first(a, r);
        end = e > end ? e : end;
        first = f < first ? f : first;
        c.tree |= attn_mask_lead(a->mask[r]) != attn_mask_count(a->mask[r]);
    }
    c.n_slots = a->prefix + end;
    c.first_page = first / FTK_PAGE;
    c.first_block = first / DEPTH;
    c.shared = c.tree ? a->prefix / DEPTH : (c.n_slots + DEPTH - 1) / DEPTH;
    lay_out(&c, scratch);
    return c;
}

static int row_of(const call *c, int pair)
{
    return c->row0 + pair / c->heads;
}

/* Of a pair's elements in q and out. */
static size_t pair_at(const call *c, int pair)
{
    const size_t head = (size_t)(c->head_kv * c->heads + pair % c->heads);
    return ((size_t)row_of(c, pair) * (size_t)c->a->n_head + head) * (size_t)c->a->head_dim;
}

static amx_config configuration(void)
{
    amx_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.rows[i] = 16;
        c.row_bytes[i] = 64;
    }
    return c;
}

/* v[i], lane j to v[j], lane i. */
INLINE void transpose(__m512i v[16])
{
    __m512i t[16];
    UNROLL for (int i = 0; i < 16; i += 2)
    {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4)
    {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        v[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        v[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* ---- queries */

#define LOG2_E 0x1.715476p+0f

/* Elements [32 unit, 32 unit + 32) of 16 pairs: both parts, pairs of elements in a row. */
static void load_unit(const call *c, int g, int unit, const float *down)
{
    __m512i words[PARTS][LANES];
    for (int l = 0; l < LANES; l++) {
        const int pair = g * LANES + l;
        if (pair >= c->n_pairs) {
            words[0][l] = words[1][l] = _mm512_setzero_si512();
            continue;
        }
        const float *x = c->a->q + pair_at(c, pair) + (size_t)unit * DEPTH;
        __m512 lo = _mm512_scalef_ps(_mm512_loadu_ps(x), _mm512_set1_ps(down[l]));
        __m512 hi = _mm512_scalef_ps(_mm512_loadu_ps(x + 16), _mm512_set1_ps(down[l]));
        words[0][l] = both_halves(float_to_bf16(lo, false), float_to_bf16(hi, false));
        lo = float_rest(lo);
        hi = float_rest(hi);
        words[1][l] = both_halves(float_to_bf16(lo, false), float_to_bf16(hi, false));
    }
    bf16_tile *to = c->q + (g * c->units + unit) * PARTS;
    for (int p = 0; p < PARTS; p++) {
        transpose(words[p]);
        for (int i = 0; i < 16; i++) _mm512_store_si512(to[p][i], words[p][i]);
    }
}

static void load_group(const call *c, int g)
{
    lane_group *group = &c->group[g];
    float down[LANES] = {0};
    memset(group, 0, sizeof *group);
    group->n = c->n_pairs - g * LANES < LANES ? c->n_pairs - g * LANES : LANES;
    for (int l = 0; l < group->n; l++) {
        const int pair = g * LANES + l, row = row_of(c, pair);
        const int exponent = float_exponent(c->a->head_dim, c->a->q + pair_at(c, pair));
        const int lift = 127 + AMX_LIFT - exponent;
        down[l] = (float)lift;
        group->factor[l] = exponent == 255 ? NAN : ldexpf(c->a->scale * LOG2_E, AMX_BIAS - lift);
        group->first[l] = attn_row_first(c->a, row);
        int rank = c->a->prefix;
        for (int j = 0; j < c->n_slots - c->a->prefix; j++)
            if (attn_sees(c->a->mask[row], j) && rank++ >= group->first[l])
                group->sees[j] |= (uint16_t)(1u << l);
    }
    for (int u = 0; u < c->units; u++) load_unit(c, g, u, down);
}

/* ---- scores */

/* Of a page of keys or values, those of this head: [FTK_PAGE][head_dim]. */
static const uint16_t *page_of(const call *c, const void *const *pages, int page)
{
    const size_t size = (size_t)FTK_PAGE * (size_t)c->a->head_dim;
    return (const uint16_t *)pages[page] + (size_t)c->head_kv * size;
}

INLINE __mmask32 not_finite(__m512i h)
{
    const __m512i exponent = _mm512_set1_epi16(0x7c00);
    return _mm512_cmpeq_epi16_mask(_mm512_and_si512(h, exponent), exponent);
}

/* The first n keys of a page, in parts, and what makes them up to whole tiles: nobody looks at
 * their scores. next: the page that is split after it. */
static void split_keys(call *c, int n, const uint16_t *page, const uint16_t *next)
{
    __mmask32 bad = 0;
    for (int s = 0; s < (n + LANES - 1) / LANES * LANES; s++)
        for (int u = 0; u < c->units; u++, page += DEPTH, next += DEPTH) {
            _mm_prefetch((const void *)next, _MM_HINT_T1);
            const __m512i key = _mm512_loadu_si512(page);
            __m512i part[PARTS];
            if (s < n) bad |= not_finite(key);
            half_split(key, part);
            for (int p = 0; p < PARTS; p++)
                _mm512_store_si512(c->kv[(u * PARTS + p) * PAGE_TILES + s / LANES][s % LANES],
                                   part[p]);
        }
    c->finite &= bad == 0;
}

enum { OUT_0, OUT_1, OUT_2, OUT_3, MAIN, REST, LEFT, LEFT_2 };

/* Scores of 16 keys: tile t of the page. MAIN and REST hold the queries. */
#define SCORE(out, k, t)                                                                           \
    do {                                                                                           \
        AMX_LOAD(LEFT, (k)[t], sizeof(k)[t][0]);                                                   \
        AMX_DOT_BF16(out, LEFT, MAIN);                                                             \
        AMX_DOT_BF16(out, LEFT, REST);                                                             \
        AMX_LOAD(LEFT_2, (k)[PAGE_TILES + t], sizeof(k)[t][0]);                                    \
        AMX_DOT_BF16(out, LEFT_2, MAIN);                                                           \
    } while (0)

static void score_page(call *c, int page)
{
    const int left = c->n_slots - page * FTK_PAGE;
    const bool last = left <= FTK_PAGE;
    split_keys(c, last ? left : FTK_PAGE, page_of(c, c->a->k_pages, page),
               last ? page_of(c, c->a->v_pages, c->first_page)
                    : page_of(c, c->a->k_pages, page + 1));
    for (int g = 0; g < c->n_groups; g++) {
        AMX_ZERO(OUT_0);
        AMX_ZERO(OUT_1);
        AMX_ZERO(OUT_2);
        AMX_ZERO(OUT_3);
        for (int u = 0; u < c->units; u++) {
            bf16_tile *const q = c->q + (g * c->units + u) * PARTS;
            bf16_tile *const k = c->kv + u * PARTS * PAGE_TILES;
            AMX_LOAD(MAIN, q[0], sizeof q[0][0]);
            AMX_LOAD(REST, q[1], sizeof q[1][0]);
            SCORE(OUT_0, k, 0);
            SCORE(OUT_1, k, 1);
            SCORE(OUT_2, k, 2);
            SCORE(OUT_3, k, 3);
        }
        block *to = c->keys + (size_t)g * c->stride + (size_t)page * PAGE_BLOCKS;
        AMX_STORE(OUT_0, to[0].score[0], sizeof to->score[0]);
        AMX_STORE(OUT_1, to[0].score[LANES], sizeof to->score[0]);
        AMX_STORE(OUT_2, to[1].score[0], sizeof to->score[0]);
        AMX_STORE(OUT_3, to[1].score[LANES], sizeof to->score[0]);
    }
}

/* ---- softmax */

/* Lanes that see a slot. */
INLINE __mmask16 seen(const call *c, const lane_group *group, int slot)
{
    const int j = slot - c->a->prefix;
    if (j >= 0) return group->sees[j];
    return _mm512_cmple_epi32_mask(_mm512_load_si512(group->first), _mm512_set1_epi32(slot));
}

/* All lanes see the slots from here up to the prefix. */
static int all_see(const lane_group *group)
{
    int from = 0;
    for (int l = 0; l < group->n; l++) from = group->first[l] > from ? group->first[l] : from;
    return from;
}

static void find_top(const call *c, lane_group *group, const block *keys)
{
    const int from = all_see(group);
    __m512 top = _mm512_set1_ps(-INFINITY);
    for (int s = c->first_block * DEPTH; s < c->n_slots; s++) {
        const __m512 v = _mm512_load_ps(keys[s / DEPTH].score[s % DEPTH]);
        if (s >= from && s < c->a->prefix)
            top = _mm512_max_ps(top, v);
        else
            top = _mm512_mask_max_ps(top, seen(c, group, s), top, v);
    }
    _mm512_store_ps(group->top, _mm512_mul_ps(top, _mm512_load_ps(group->factor)));
}

/* Keys of half a block that a lane sees, for each lane. */
static void seen_keys(const call *c, const lane_group *group, int slot, __mmask16 keys[LANES])
{
    for (int l = 0; l < LANES; l++) keys[l] = 0;
    for (int i = 0; i < 16 && slot + i < c->n_slots; i++) {
        const __mmask16 m = seen(c, group, slot + i);
        for (int l = 0; l < group->n; l++) keys[l] |= (__mmask16)((m >> l & 1) << i);
    }
}

/* 2 to the power of x + AMX_LIFT for x <= 0, to bf16, as floats. The series of 2^r to r^6, |r|
 * <= 1/2. */
INLINE __m512 power(__m512 x)
{
    x = _mm512_max_ps(x, _mm512_set1_ps(-1000));
    const __m512 n = _mm512_roundscale_ps(x, 0);
    const __m512 r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(0x1.430912p-13f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.5d87fep-10f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.3b2ab6p-7f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.c6b08ep-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.ebfbep-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62e43p-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
    p = _mm512_scalef_ps(p, _mm512_add_ps(n, _mm512_set1_ps(AMX_LIFT)));
    const __m512i up = _mm512_add_epi32(_mm512_castps_si512(p), _mm512_set1_epi32(0x8000));
    return _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32((int)0xffff0000)));
}

/* The upper words of 32 floats. */
INLINE __m512i upper_words(__m512 a, __m512 b)
{
    const __m512i odd =
        _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27,
                         25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_permutex2var_epi16(_mm512_castps_si512(a), odd, _mm512_castps_si512(b));
}

/* Scores to weights, 2 to the power of AMX_LIFT times as much, and their sums; of blocks that
 * rows do not share no sums yet. */
static void softmax(const call *c, int g)
{
    lane_group *const group = &c->group[g];
    block *keys = c->keys + (size_t)g * c->stride;
    find_top(c, group, keys);
    const int from = all_see(group);
    for (int b = c->first_block; b * DEPTH < c->n_slots; b++) {
        const int slot = b * DEPTH;
        const bool all = slot >= from && slot + DEPTH <= c->a->prefix;
        __mmask16 see[2][LANES];
        float score[LANES][2][16] __attribute__((aligned(64)));
        for (int half = 0; half < 2; half++) {
            __m512i v[16];
            UNROLL for (int i = 0; i < 16; i++) v[i] =
                _mm512_load_si512(keys[b].score[half * 16 + i]);
            transpose(v);
            UNROLL for (int l = 0; l < LANES; l++) _mm512_store_si512(score[l][half], v[l]);
            if (!all) seen_keys(c, group, slot + half * 16, see[half]);
        }
        for (int l = 0; l < group->n; l++) {
            const __m512 factor = _mm512_set1_ps(group->factor[l]);
            const __m512 top = _mm512_set1_ps(group->top[l]);
            __m512 w[2];
            UNROLL for (int half = 0; half < 2; half++)
            {
                w[half] = power(_mm512_fmsub_ps(_mm512_load_ps(score[l][half]), factor, top));
                if (!all) w[half] = _mm512_maskz_mov_ps(see[half][l], w[half]);
            }
            if (b < c->shared) {
                group->sum[l] = _mm512_add_ps(_mm512_add_ps(group->sum[l], w[0]), w[1]);
                _mm512_store_si512(keys[b].weight[l], upper_words(w[0], w[1]));
            } else {
                _mm512_store_ps(keys[b].own[l], w[0]);
                _mm512_store_ps(keys[b].own[l] + 16, w[1]);
            }
        }
    }
}

/* ---- values */

/* Where there are no more values. */
static const uint16_t no_value[FTK_MAX_HEAD_DIM];

/* 32 values, in parts, pairs of keys in a row: of each unit the columns 8 l + i of four l in one
 * tile, 8 l + 4 + i in the other, i = 0..3. */
static void interleave(call *c, const uint16_t *const value[DEPTH], bf16_tile *to)
{
    __mmask32 bad = 0;
    for (int k = 0; k < DEPTH; k += 2)
        for (int u = 0; u < c->units; u++) {
            const __m512i a = _mm512_loadu_si512(value[k] + (size_t)u * DEPTH);
            const __m512i b = _mm512_loadu_si512(value[k + 1] + (size_t)u * DEPTH);
            __m512i lo[PARTS], hi[PARTS];
            bad |= not_finite(a) | not_finite(b);
            half_split(_mm512_unpacklo_epi16(a, b), lo);
            half_split(_mm512_unpackhi_epi16(a, b), hi);
            bf16_tile *tile = to + u * PARTS * 2;
            for (int p = 0; p < PARTS; p++, tile += 2) {
                _mm512_store_si512(tile[0][k / 2], lo[p]);
                _mm512_store_si512(tile[1][k / 2], hi[p]);
            }
        }
    c->finite &= bad == 0;
}

/* Sums of 16 pairs += weights by n blocks of values. w: the first's; the others' follow. */
static void mix(const call *c, float *sums, block *w, int n, bf16_tile *values)
{
    const size_t stride = (size_t)c->a->head_dim * sizeof(float);
    for (int u = 0; u < c->units; u++, sums += DEPTH) {
        AMX_LOAD(OUT_0, sums, stride);
        AMX_LOAD(OUT_1, sums + 16, stride);
        for (int b = 0; b < n; b++) {
            bf16_tile *const v = values + (b * c->units + u) * PARTS * 2;
            AMX_LOAD(LEFT, w[b].weight[0], sizeof w[b].weight[0]);
            AMX_LOAD(MAIN, v[0], sizeof v[0][0]);
            AMX_LOAD(REST, v[1], sizeof v[1][0]);
            AMX_DOT_BF16(OUT_0, LEFT, MAIN);
            AMX_DOT_BF16(OUT_1, LEFT, REST);
            AMX_LOAD(MAIN, v[2], sizeof v[2][0]);
            AMX_LOAD(REST, v[3], sizeof v[3][0]);
            AMX_DOT_BF16(OUT_0, LEFT, MAIN);
            AMX_DOT_BF16(OUT_1, LEFT, REST);
        }
        AMX_STORE(OUT_0, sums, stride);
        AMX_STORE(OUT_1, sums + 16, stride);
    }
}

static void mix_page(call *c, int page)
{
    const int b0 = page * PAGE_BLOCKS;
    const int n = c->shared - b0 < PAGE_BLOCKS ? c->shared - b0 : PAGE_BLOCKS;
    const uint16_t *at = page_of(c, c->a->v_pages, page);
    const uint16_t *next = b0 + n < c->shared ? page_of(c, c->a->v_pages, page + 1) : at;
    const size_t dim = (size_t)c->a->head_dim;
    for (int b = 0; b < n; b++) {
        const uint16_t *value[DEPTH];
        for (int k = 0; k < DEPTH; k++) {
            const size_t row = (size_t)(b * DEPTH + k) * dim;
            value[k] = (b0 + b) * DEPTH + k < c->n_slots ? at + row : no_value;
            for (size_t i = 0; i < dim; i += 32)
                _mm_prefetch((const void *)(next + row + i), _MM_HINT_T1);
        }
        interleave(c, value, c->kv + b * c->units * PARTS * 2);
    }
    /* of blocks before the first one nobody knows weights */
    const int skip = c->first_block > b0 ? c->first_block - b0 : 0;
    for (int g = 0; g < c->n_groups && skip < n; g++)
        mix(c, c->sums + (size_t)(g * LANES) * dim, c->keys + (size_t)g * c->stride + b0 + skip,
            n - skip, c->kv + skip * c->units * PARTS * 2);
}

/* A block of keys of a row's own, as it counts them: the slots of those that there are. */
static void mix_own(call *c, int row, const int *slot, int n)
{
    const uint16_t *value[DEPTH];
    const size_t dim = (size_t)c->a->head_dim;
    for (int k = 0; k < DEPTH; k++)
        value[k] = k < n ? page_of(c, c->a->v_pages, slot[k] / FTK_PAGE) +
                               (size_t)(slot[k] % FTK_PAGE) * dim
                         : no_value;
    interleave(c, value, c->kv);
    for (int h0 = 0; h0 < c->heads; h0 += LANES) {
        block w;
        const int pair = (row - c->row0) * c->heads + h0;
        memset(&w, 0, sizeof w);
        for (int h = 0; h < c->heads - h0 && h < LANES; h++) {
            const int l = (pair + h) % LANES;
            const block *keys = c->keys + (size_t)((pair + h) / LANES) * c->stride;
            __m512 *sum = &c->group[(pair + h) / LANES].sum[l];
            float x[DEPTH] = {0};
            for (int k = 0; k < n; k++) {
                x[k] = keys[slot[k] / DEPTH].own[l][slot[k] % DEPTH];
                w.weight[h][k] = (uint16_t)(ftk_f32_bits(x[k]) >> 16);
            }
            *sum = _mm512_add_ps(_mm512_add_ps(*sum, _mm512_loadu_ps(x)), _mm512_loadu_ps(x + 16));
        }
        mix(c, c->sums + (size_t)pair * dim, &w, 1, c->kv); /* further rows get zeros added */
    }
}

/* What rows do not share: behind the whole blocks of the prefix. */
static void mix_tree(call *c)
{
    for (int r = c->row0; r < c->row1; r++) {
        int slot[DEPTH], n = 0;
        for (int s = c->shared * DEPTH; s < c->n_slots; s++) {
            const int j = s - c->a->prefix;
            if (j >= 0 && !attn_sees(c->a->mask[r], j)) continue;
            slot[n++] = s;
            if (n < DEPTH) continue;
            mix_own(c, r, slot, n);
            n = 0;
        }
        if (n > 0) mix_own(c, r, slot, n);
    }
}

static bool half_finite(const uint16_t *x, int n)
{
    bool finite = true;
    for (int i = 0; i < n; i++) finite &= (x[i] & 0x7c00) != 0x7c00;
    return finite;
}

/* Whether a pair sees a key or value that is not finite, which tiles would not tell. */
static bool spoilt(const call *c, int pair)
{
    const size_t dim = (size_t)c->a->head_dim;
    for (int s = c->first_page * FTK_PAGE; s < c->n_slots; s++) {
        if (!(seen(c, &c->group[pair / LANES], s) >> pair % LANES & 1)) continue;
        const size_t at = (size_t)(s % FTK_PAGE) * dim;
        if (!half_finite(page_of(c, c->a->k_pages, s / FTK_PAGE) + at, (int)dim) ||
            !half_finite(page_of(c, c->a->v_pages, s / FTK_PAGE) + at, (int)dim))
            return true;
    }
    return false;
}

static void finish(const call *c)
{
    const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i high =
        _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    const float one = ldexpf(1, AMX_BIAS);
    for (int p = 0; p < c->n_pairs; p++) {
        const float sum = sum_ps(c->group[p / LANES].sum[p % LANES]);
        const __m512 inverse = _mm512_set1_ps(!c->finite && spoilt(c, p) ? NAN : one / sum);
        const float *sums = c->sums + (size_t)p * (size_t)c->a->head_dim;
        float *out = c->a->out + pair_at(c, p);
        for (int i = 0; i < c->a->head_dim; i += DEPTH) {
            const __m512 a = _mm512_load_ps(sums + i), b = _mm512_load_ps(sums + i + 16);
            const __m512 x = _mm512_permutex2var_ps(a, low, b);
            const __m512 y = _mm512_permutex2var_ps(a, high, b);
            _mm512_storeu_ps(out + i, _mm512_mul_ps(x, inverse));
            _mm512_storeu_ps(out + i + 16, _mm512_mul_ps(y, inverse));
        }
    }
}

static bool in_tiles(const ftk_attn *a)
{
    return a->kv_type == FTK_TYPE_F16 && a->head_dim % DEPTH == 0 && !a->columns;
}

static void attention_amx(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch)
{
    if (!in_tiles(a)) {
        ftk_avx512_attention(a, head_kv, row0, row1, scratch);
        return;
    }
    call c = plan(a, head_kv, row0, row1, scratch);
    const amx_config config = configuration();
    AMX_CONFIGURE(config);
    for (int g = 0; g < c.n_groups; g++) load_group(&c, g);
    for (int p = c.first_page; p * FTK_PAGE < c.n_slots; p++) score_page(&c, p);
    for (int g = 0; g < c.n_groups; g++) softmax(&c, g);
    memset(c.sums, 0, (size_t)(c.n_groups + 1) * LANES * (size_t)a->head_dim * sizeof *c.sums);
    for (int p = c.first_page; p * PAGE_BLOCKS < c.shared; p++) mix_page(&c, p);
    if (c.tree) mix_tree(&c);
    AMX_RELEASE();
    finish(&c);
}

static size_t attn_scratch_amx(int head_dim, int group, int max_slots)
{
    const size_t other = ftk_avx512_attn_scratch(head_dim, group, max_slots);
    const size_t own = scratch_bytes((head_dim + DEPTH - 1) / DEPTH * DEPTH, group, max_slots);
    return own / sizeof(float) > other ? own / sizeof(float) : other;
}

void FTK_AMX_NAME(ftk_kernels_amx_attention)(ftk_kernels *k)
{
    k->attn_scratch = attn_scratch_amx;
    k->attention = attention_amx;
}
