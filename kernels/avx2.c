/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels for AVX2 with FMA and F16C. Compiled with -mavx2 -mfma -mf16c. The same plan as
 * avx512.c with panels of 8 output rows; Q8_0 stays signed, for there is no instruction that
 * multiplies unsigned by signed bytes into 32 bits without saturating on the way. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>

#include "kernels/blocks.h"
#include "kernels/levels.h"
#include "kernels/panel.h"
#include "kernels/vector.h"


enum { WIDTH = 8 };

static size_t pack_bytes_avx2(ftk_type type, int n_out, int n_in)
{
    return ftk_panels_bytes(type, WIDTH, n_out, n_in);
}

static void pack_avx2(ftk_type type, int n_out, int n_in, const void *src, void *dst)
{
    ftk_panels_pack(type, WIDTH, 0, n_out, n_in, src, dst);
}

/* ------------------------------------------------------------------ tails */

/* All ones in the first `left` lanes. */
INLINE __m256i tail_mask(int left)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE __m256 load_tail(const float *x, int left)
{
    return left >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, tail_mask(left));
}

INLINE void store_tail(float *y, int left, __m256 v)
{
    if (left >= 8) _mm256_storeu_ps(y, v);
    else _mm256_maskstore_ps(y, tail_mask(left), v);
}

/* ------------------------------------------------------------------ matrix product */

typedef struct tile {
    const unsigned char *panel;
    size_t scale_bytes;
    int n_in;
    const char *act;
    size_t act_stride;
    float *y;
    size_t ldy;
    int n_out; /* of the panel's 8 rows, those to store */
} tile;

INLINE __m256i broadcast4(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, sizeof v);
    return _mm256_set1_epi32(v);
}

INLINE void add_block(int rows, const uint16_t *scales, const ftk_qact *const *x, int b,
                      const __m256i *dot, __m256 *acc)
{
    const __m256 ws = _mm256_cvtph_ps(_mm_loadu_si128((const void *)scales));
    UNROLL for (int r = 0; r < rows; r++) {
        const __m256 s = _mm256_mul_ps(ws, _mm256_set1_ps(x[r][b].d));
        acc[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r]), s, acc[r]);
    }
}

INLINE void store_tile(const tile *t, int rows, const __m256 *acc)
{
    UNROLL for (int r = 0; r < rows; r++) store_tail(t->y + (size_t)r * t->ldy, t->n_out, acc[r]);
}

INLINE void start_tile(const tile *t, int rows, const ftk_qact **x, __m256 *acc)
{
    UNROLL for (int r = 0; r < rows; r++) {
        x[r] = (const void *)(t->act + (size_t)r * t->act_stride);
        acc[r] = _mm256_setzero_ps();
    }
}

/* |w| times x with the sign of w: 128 * 127 * 2 fits 16 bits. */
INLINE void q8_0_tile(const tile *t, int rows)
{
    const uint16_t *scales = (const void *)t->panel;
    const unsigned char *w = t->panel + t->scale_bytes;
    const __m256i ones = _mm256_set1_epi16(1);
    const ftk_qact *x[4];
    __m256 acc[4];
    start_tile(t, rows, x, acc);
    for (int b = 0; b < t->n_in / FTK_QBLOCK; b++, scales += WIDTH, w += WIDTH * FTK_QBLOCK) {
        __m256i dot[4];
        UNROLL for (int r = 0; r < rows; r++) dot[r] = _mm256_setzero_si256();
        UNROLL for (int g = 0; g < FTK_QBLOCK / FTK_GROUP; g++) {
            const __m256i v = _mm256_load_si256((const void *)(w + g * 32));
            const __m256i mag = _mm256_abs_epi8(v);
            UNROLL for (int r = 0; r < rows; r++) {
                const __m256i q = _mm256_sign_epi8(broadcast4(x[r][b].q + g * FTK_GROUP), v);
                const __m256i pairs = _mm256_maddubs_epi16(mag, q);
                dot[r] = _mm256_add_epi32(dot[r], _mm256_madd_epi16(pairs, ones));
            }
        }
        add_block(rows, scales, x, b, dot, acc);
    }
    store_tile(t, rows, acc);
}

/* A block's sums of pairs, 8 * 2 * 15 * 127, fit 16 bits. */
INLINE void q4_0_tile(const tile *t, int rows)
{
    const uint16_t *scales = (const void *)t->panel;
    const unsigned char *w = t->panel + t->scale_bytes;
    const __m256i ones = _mm256_set1_epi16(1), nibble = _mm256_set1_epi8(15);
    const ftk_qact *x[4];
    __m256 acc[4];
    start_tile(t, rows, x, acc);
    for (int b = 0; b < t->n_in / FTK_QBLOCK; b++, scales += WIDTH, w += WIDTH * FTK_QBLOCK / 2) {
        __m256i sum[4];
        UNROLL for (int r = 0; r < rows; r++) sum[r] = _mm256_setzero_si256();
        UNROLL for (int g = 0; g < FTK_QBLOCK / FTK_GROUP / 2; g++) {
            const __m256i v = _mm256_load_si256((const void *)(w + g * 32));
            const __m256i lo = _mm256_and_si256(v, nibble);
            const __m256i hi = _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble);
            UNROLL for (int r = 0; r < rows; r++) {
                const int8_t *q = x[r][b].q + g * FTK_GROUP;
                const __m256i a = _mm256_maddubs_epi16(lo, broadcast4(q));
                const __m256i c = _mm256_maddubs_epi16(hi, broadcast4(q + FTK_QBLOCK / 2));
                sum[r] = _mm256_add_epi16(sum[r], _mm256_add_epi16(a, c));
            }
        }
        UNROLL for (int r = 0; r < rows; r++)
            sum[r] = _mm256_add_epi32(_mm256_madd_epi16(sum[r], ones),
                                      _mm256_set1_epi32(x[r][b].bias));
        add_block(rows, scales, x, b, sum, acc);
    }
    store_tile(t, rows, acc);
}

/* The 8 weights of element k of a float panel. */
INLINE __m256 widen8(ftk_type type, const unsigned char *w, size_t k)
{
    if (type == FTK_TYPE_F32) return _mm256_load_ps((const void *)(w + k * WIDTH * sizeof(float)));
    const __m128i h = _mm_load_si128((const void *)(w + k * WIDTH * sizeof(uint16_t)));
    if (type == FTK_TYPE_F16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* Two sums per row, over even and odd elements, hide the latency of the multiply-add. */
INLINE void float_tile(const tile *t, int rows, ftk_type type)
{
    const float *x[4];
    __m256 even[4], odd[4];
    UNROLL for (int r = 0; r < rows; r++) {
        x[r] = (const void *)(t->act + (size_t)r * t->act_stride);
        even[r] = odd[r] = _mm256_setzero_ps();
    }
    const size_t n = (size_t)t->n_in;
    for (size_t k = 0; k + 1 < n; k += 2) {
        const __m256 w0 = widen8(type, t->panel, k), w1 = widen8(type, t->panel, k + 1);
        UNROLL for (int r = 0; r < rows; r++) {
            even[r] = _mm256_fmadd_ps(w0, _mm256_set1_ps(x[r][k]), even[r]);
            odd[r] = _mm256_fmadd_ps(w1, _mm256_set1_ps(x[r][k + 1]), odd[r]);
        }
    }
    if (n % 2) {
        const __m256 w = widen8(type, t->panel, n - 1);
        UNROLL for (int r = 0; r < rows; r++)
            even[r] = _mm256_fmadd_ps(w, _mm256_set1_ps(x[r][n - 1]), even[r]);
    }
    UNROLL for (int r = 0; r < rows; r++) even[r] = _mm256_add_ps(even[r], odd[r]);
    store_tile(t, rows, even);
}

/* type and rows are constants where this is called, so that one branch remains. */
INLINE void any_tile(const tile *t, ftk_type type, int rows)
{
    if (type == FTK_TYPE_Q8_0) q8_0_tile(t, rows);
    else if (type == FTK_TYPE_Q4_0) q4_0_tile(t, rows);
    else float_tile(t, rows, type);
}

INLINE void run_panel(tile t, ftk_type type, int n_rows)
{
    for (int rows; n_rows > 0; n_rows -= rows) {
        rows = n_rows >= 4 ? 4 : 1;
        if (rows == 4) any_tile(&t, type, 4);
        else any_tile(&t, type, 1);
        t.act += (size_t)rows * t.act_stride;
        t.y += (size_t)rows * t.ldy;
    }
}

static void matmul_avx2(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o0,
                        int o1, float *y, size_t ldy)
{
    const size_t panel_bytes = ftk_panel_bytes(w->type, WIDTH, w->n_in);
    tile t = {.n_in = w->n_in, .act = act, .act_stride = act_stride, .ldy = ldy};
    t.scale_bytes = ftk_panel_scale_bytes(w->type, WIDTH, w->n_in);
    for (int o = o0; o < o1; o += WIDTH) {
        t.panel = (const unsigned char *)w->data + (size_t)(o / WIDTH) * panel_bytes;
        t.y = y + o;
        t.n_out = o1 - o;
        switch (w->type) {
        case FTK_TYPE_Q8_0: run_panel(t, FTK_TYPE_Q8_0, n_rows); break;
        case FTK_TYPE_Q4_0: run_panel(t, FTK_TYPE_Q4_0, n_rows); break;
        case FTK_TYPE_F32: run_panel(t, FTK_TYPE_F32, n_rows); break;
        case FTK_TYPE_F16: run_panel(t, FTK_TYPE_F16, n_rows); break;
        case FTK_TYPE_BF16: run_panel(t, FTK_TYPE_BF16, n_rows); break;
        }
    }
}

/* ------------------------------------------------------------------ elementwise */

/* 2^n for whole n in [-126, 127]. */
INLINE __m256 pow2(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* As in avx512.c; the scaling by 2^n takes two steps, for n exceeds what one exponent holds. */
INLINE __m256 exp_ps(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(-110.0f), _mm256_min_ps(_mm256_set1_ps(110.0f), x));
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 p = _mm256_set1_ps(1.0f / 5040);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(p, pow2(half)), pow2(_mm256_sub_epi32(whole, half)));
}

INLINE float sum_ps(__m256 v)
{
    float s[8];
    _mm256_storeu_ps(s, v);
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

INLINE double sum_pd(__m256d v)
{
    double s[4];
    _mm256_storeu_pd(s, v);
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* In double for the reason given at the plain C entry. */
static void rms_norm_avx2(int n, const float *x, const float *w, float eps, float *y)
{
    __m256d lo = _mm256_setzero_pd(), hi = _mm256_setzero_pd();
    for (int i = 0; i < n; i += 8) {
        const __m256 v = load_tail(x + i, n - i);
        const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
        const __m256d b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
        lo = _mm256_fmadd_pd(a, a, lo);
        hi = _mm256_fmadd_pd(b, b, hi);
    }
    const double mean = sum_pd(_mm256_add_pd(lo, hi)) / n;
    const __m256 scale = _mm256_set1_ps((float)(1.0 / sqrt(mean + (double)eps)));
    for (int i = 0; i < n; i += 8) {
        const __m256 v = _mm256_mul_ps(load_tail(x + i, n - i), scale);
        store_tail(y + i, n - i, _mm256_mul_ps(v, load_tail(w + i, n - i)));
    }
}

static void rope_avx2(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i < n_rot; i += 8) {
            const __m256 v = load_tail(x + i, n_rot - i), t = load_tail(cs + i, n_rot - i);
            const __m256 part = _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), _mm256_movehdup_ps(t));
            store_tail(x + i, n_rot - i, _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(t), part));
        }
    }
}

static void rope_halves_avx2(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    const int half = n_rot / 2;
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i < half; i += 8) {
            const int left = half - i;
            const __m256 a = load_tail(x + i, left), b = load_tail(x + half + i, left);
            const __m256 c = load_tail(cs + i, left), s = load_tail(cs + half + i, left);
            store_tail(x + i, left, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
            store_tail(x + half + i, left, _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
        }
    }
}

static void silu_mul_avx2(int n, float *gate, const float *up)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    for (int i = 0; i < n; i += 8) {
        const __m256 g = load_tail(gate + i, n - i);
        const __m256 e = exp_ps(_mm256_sub_ps(_mm256_setzero_ps(), g));
        const __m256 s = _mm256_div_ps(g, _mm256_add_ps(one, e));
        store_tail(gate + i, n - i, _mm256_mul_ps(s, load_tail(up + i, n - i)));
    }
}

static void gelu_mul_avx2(int n, float *gate, const float *up)
{
    const __m256 one = _mm256_set1_ps(1.0f), c1 = _mm256_set1_ps(-FTK_GELU_1);
    const __m256 c3 = _mm256_set1_ps(-FTK_GELU_3);
    for (int i = 0; i < n; i += 8) {
        const __m256 g = load_tail(gate + i, n - i);
        const __m256 u = _mm256_mul_ps(g, _mm256_fmadd_ps(c3, _mm256_mul_ps(g, g), c1));
        const __m256 s = _mm256_div_ps(g, _mm256_add_ps(one, exp_ps(u)));
        store_tail(gate + i, n - i, _mm256_mul_ps(s, load_tail(up + i, n - i)));
    }
}

static void add_avx2(int n, const float *x, float *y)
{
    for (int i = 0; i < n; i += 8)
        store_tail(y + i, n - i, _mm256_add_ps(load_tail(y + i, n - i), load_tail(x + i, n - i)));
}

static void kv_store_avx2(ftk_type kv_type, int n, const float *x, void *dst)
{
    if (kv_type == FTK_TYPE_F32) {
        memcpy(dst, x, (size_t)n * sizeof(float));
        return;
    }
    uint16_t *y = dst;
    for (int i = 0; i < n; i += 8) {
        const __m128i h = _mm256_cvtps_ph(load_tail(x + i, n - i), _MM_FROUND_TO_NEAREST_INT);
        const size_t count = n - i >= 8 ? 8 : (size_t)(n - i);
        memcpy(y + i, &h, count * sizeof *y);
    }
}

/* ------------------------------------------------------------------ attention */

static void widen(ftk_type type, int n, const void *src, float *dst)
{
    if (type == FTK_TYPE_F32) {
        memcpy(dst, src, (size_t)n * sizeof(float));
        return;
    }
    const uint16_t *h = src;
    int i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(h + i))));
    for (; i < n; i++) dst[i] = ftk_f16_f32(h[i]);
}

/* Lane i of the result is the sum of v[i], each added in the same tree. */
INLINE __m128 sum_each(const __m256 *v)
{
    const __m256 s = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

static void score_keys(const float *q, const float *k, size_t dim, int n, float scale, float *p)
{
    for (int s = 0; s < n; s += 4, k += 4 * dim) {
        __m256 acc[4];
        UNROLL for (int i = 0; i < 4; i++) acc[i] = _mm256_setzero_ps();
        for (size_t d = 0; d < dim; d += 8) {
            const __m256 v = _mm256_load_ps(q + d);
            UNROLL for (int i = 0; i < 4; i++)
                acc[i] = _mm256_fmadd_ps(v, _mm256_load_ps(k + (size_t)i * dim + d), acc[i]);
        }
        _mm_store_ps(p + s, _mm_mul_ps(sum_each(acc), _mm_set1_ps(scale)));
    }
}

/* Lanes of the last step that are beyond n hold -infinity, whose exponential is 0. */
static float softmax(int n, float *p)
{
    __m256 top = _mm256_set1_ps(-INFINITY);
    const int padded = (n + 15) / 16 * 16;
    for (int i = n; i < padded; i++) p[i] = -INFINITY;
    for (int i = 0; i < padded; i += 8) top = _mm256_max_ps(top, _mm256_load_ps(p + i));
    float lanes[8];
    _mm256_storeu_ps(lanes, top);
    for (int i = 1; i < 8; i++) lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    top = _mm256_set1_ps(lanes[0]);
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = 0; i < padded; i += 16) {
        for (int h = 0; h < 2; h++) {
            const __m256 e = exp_ps(_mm256_sub_ps(_mm256_load_ps(p + i + 8 * h), top));
            sum[h] = _mm256_add_ps(sum[h], e);
            _mm256_store_ps(p + i + 8 * h, e);
        }
    }
    return sum_ps(_mm256_add_ps(sum[0], sum[1]));
}

/* pairs and vectors are constants where this is called. */
INLINE void add_values_tile(int pairs, int vectors, int n, const float *p, size_t p_stride,
                            const float *v, size_t dim, float *acc)
{
    __m256 sum[2][4];
    UNROLL for (int i = 0; i < pairs; i++)
        UNROLL for (int c = 0; c < vectors; c++)
            sum[i][c] = _mm256_load_ps(acc + (size_t)i * dim + c * 8);
    for (int s = 0; s < n; s++, v += dim) {
        UNROLL for (int i = 0; i < pairs; i++) {
            const __m256 w = _mm256_set1_ps(p[(size_t)i * p_stride + (size_t)s]);
            UNROLL for (int c = 0; c < vectors; c++)
                sum[i][c] = _mm256_fmadd_ps(w, _mm256_load_ps(v + c * 8), sum[i][c]);
        }
    }
    UNROLL for (int i = 0; i < pairs; i++)
        UNROLL for (int c = 0; c < vectors; c++)
            _mm256_store_ps(acc + (size_t)i * dim + c * 8, sum[i][c]);
}

INLINE void add_values_pairs(int pairs, int n, const float *p, size_t p_stride, const float *v,
                             size_t dim, float *acc)
{
    size_t d = 0;
    for (; d + 32 <= dim; d += 32)
        add_values_tile(pairs, 4, n, p, p_stride, v + d, dim, acc + d);
    for (; d < dim; d += 16) add_values_tile(pairs, 2, n, p, p_stride, v + d, dim, acc + d);
}

static void add_values(int n_pairs, int n, const float *p, size_t p_stride, const float *v,
                       size_t dim, float *acc)
{
    int i = 0;
    for (; i + 2 <= n_pairs; i += 2)
        add_values_pairs(2, n, p + (size_t)i * p_stride, p_stride, v, dim, acc + (size_t)i * dim);
    for (; i < n_pairs; i++)
        add_values_pairs(1, n, p + (size_t)i * p_stride, p_stride, v, dim, acc + (size_t)i * dim);
}

#include "kernels/attntile.h"

static void attention_avx2(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch)
{
    attn_run(a, head_kv, row0, row1, scratch);
}

void ftk_kernels_avx2(ftk_kernels *k)
{
    k->pack_bytes = pack_bytes_avx2;
    k->pack = pack_avx2;
    k->matmul_grain = WIDTH; /* activations have the form and packing of the plain C level */
    k->matmul = matmul_avx2;
    k->rms_norm = rms_norm_avx2;
    k->rope = rope_avx2;
    k->rope_halves = rope_halves_avx2;
    k->silu_mul = silu_mul_avx2;
    k->gelu_mul = gelu_mul_avx2;
    k->add = add_avx2;
    k->kv_store = kv_store_avx2;
    k->attn_scratch = attn_scratch_floats;
    k->attention = attention_avx2;
}
#else
typedef int ftk_avx2_unused; /* a translation unit may not be empty */
#endif
