/* SPDX-License-Identifier: Apache-2.0
 * The kernels in plain C: what every other level is checked against. */
#include <math.h>

#include "kernels/blocks.h"
#include "kernels/codes.h"
#include "kernels/levels.h"
#include "kernels/rowloops.h"

static bool is_quant(ftk_type type)
{
    return ftk_type_form(type).bits != 0;
}

static size_t pack_bytes_ref(ftk_type type, int n_out, int n_in)
{
    (void)type;
    (void)n_out;
    (void)n_in;
    return 0;
}

static void pack_ref(ftk_type type, int n_out, int n_in, const void *src, void *dst)
{
    (void)type;
    (void)n_out;
    (void)n_in;
    (void)src;
    (void)dst;
}

size_t ftk_ref_act_bytes(ftk_type wtype, int n_in)
{
    const size_t n = (size_t)n_in;
    const size_t bytes = is_quant(wtype) ? n / FTK_QBLOCK * sizeof(ftk_qact) : n * sizeof(float);
    return (bytes + 63) & ~(size_t)63;
}

/* Magnitudes are compared as integers: the order is the same, and non-finite ones sort last. */
static void quantise_block(const float *x, ftk_qact *b)
{
    const float round_even = 0x1.8p23f; /* an addend after which the lowest bit is worth 1 */
    uint32_t amax_bits = 0;
    for (int i = 0; i < FTK_QBLOCK; i++) {
        const uint32_t bits = ftk_f32_bits(x[i]) & 0x7fffffffu;
        amax_bits = bits > amax_bits ? bits : amax_bits;
    }
    const float amax = ftk_bits_f32(amax_bits);
    const bool finite = amax_bits < 0x7f800000u;
    const float inv = finite && amax >= FTK_QACT_TINY ? 127.0f / amax : 0.0f;
    b->d = !finite ? NAN : inv > 0 ? amax / 127.0f : 0.0f;
    b->minus_half[0] = b->minus_half[1] = 0;
    for (int i = 0; i < FTK_QBLOCK; i++) {
        const float v = finite ? x[i] * inv : 0.0f;
        const int q = (int)(ftk_f32_bits(v + round_even) - ftk_f32_bits(round_even));
        b->q[i] = (int8_t)q;
        b->minus_half[i * 2 / FTK_QBLOCK] -= q;
    }
    b->minus = b->minus_half[0] + b->minus_half[1];
}

static void act_pack_ref(ftk_type wtype, int n_in, const float *x, void *dst)
{
    if (!is_quant(wtype)) {
        memcpy(dst, x, (size_t)n_in * sizeof(float));
        return;
    }
    ftk_qact *b = dst;
    for (int i = 0; i < n_in; i += FTK_QBLOCK) quantise_block(x + i, b++);
}

enum { LANES = 8 }; /* partial sums of a float dot product, so that it is not one long chain */

static float sum_lanes(const float *s)
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* Weights are read where they lie in their file, which may be anywhere: safetensors align
 * nothing. */
static inline float float_at(const void *w, int i)
{
    float x;
    memcpy(&x, (const char *)w + (size_t)i * sizeof x, sizeof x);
    return x;
}

static inline uint16_t half_at(const void *w, int i)
{
    uint16_t x;
    memcpy(&x, (const char *)w + (size_t)i * sizeof x, sizeof x);
    return x;
}

static float dot_f32(int n, const void *w, const float *a)
{
    float s[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) s[l] += float_at(w, i + l) * a[i + l];
    for (int l = 0; i + l < n; l++) s[l] += float_at(w, i + l) * a[i + l];
    return sum_lanes(s);
}

/* 16-bit floats, by the function that widens one. */
static inline float dot_half(int n, const void *w, const float *a, float (*widen)(uint16_t))
{
    float s[LANES] = {0};
    for (int i = 0; i < n; i++) s[i % LANES] += widen(half_at(w, i)) * a[i];
    return sum_lanes(s);
}

static float dot(ftk_type type, int n, const void *w, const void *a)
{
    switch (type) {
    case FTK_TYPE_F32: return dot_f32(n, w, a);
    case FTK_TYPE_F16: return dot_half(n, w, a, ftk_f16_f32);
    case FTK_TYPE_BF16: return dot_half(n, w, a, ftk_bf16_f32);
    default: return NAN;
    }
}

/* 32 weights as whole numbers, and the scale and minimum of each half. */
typedef struct block {
    int v[FTK_QBLOCK];
    float s[2], m[2];
} block;

static void read_block(ftk_type type, const void *row, size_t b, block *w)
{
    const ftk_form form = ftk_type_form(type);
    ftk_codes c;
    ftk_codes_read(type, row, b, &c);
    for (int i = 0; i < FTK_QBLOCK; i++)
        w->v[i] = form.table ? ftk_iq4_values[c.q[i]] : c.q[i] - form.offset;
    for (int h = 0; h < 2; h++) {
        w->s[h] = ftk_f16_f32(c.d) * (float)c.sc[h];
        w->m[h] = form.min ? ftk_f16_f32(c.dm) * (float)c.mn[h] : 0.0f;
    }
}

static float dot_block(const block *w, const ftk_qact *a)
{
    const int n = FTK_QBLOCK / 2;
    float part[2];
    for (int h = 0; h < 2; h++) {
        int32_t dot = 0;
        for (int i = h * n; i < h * n + n; i++) dot += w->v[i] * a->q[i];
        part[h] = w->s[h] * (float)dot - w->m[h] * (float)a->minus_half[h];
    }
    return (part[0] + part[1]) * a->d;
}

/* Each block is read once for all rows. */
static void matmul_blocks(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o,
                          float *y, size_t ldy)
{
    const size_t row_bytes = ftk_type_bytes(w->type, (size_t)w->n_in);
    const void *row = (const char *)w->data + (size_t)o * row_bytes;
    for (int r = 0; r < n_rows; r++) y[(size_t)r * ldy + (size_t)o] = 0;
    for (size_t b = 0; b < (size_t)w->n_in / FTK_QBLOCK; b++) {
        block v;
        read_block(w->type, row, b, &v);
        for (int r = 0; r < n_rows; r++) {
            const ftk_qact *a = (const void *)((const char *)act + (size_t)r * act_stride);
            y[(size_t)r * ldy + (size_t)o] += dot_block(&v, a + b);
        }
    }
}

static void matmul_ref(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o0,
                       int o1, float *y, size_t ldy)
{
    const size_t row_bytes = ftk_type_bytes(w->type, (size_t)w->n_in);
    for (int o = o0; o < o1; o++) {
        if (is_quant(w->type)) {
            matmul_blocks(w, act, act_stride, n_rows, o, y, ldy);
            continue;
        }
        const char *row = (const char *)w->data + (size_t)o * row_bytes;
        for (int r = 0; r < n_rows; r++)
            y[(size_t)r * ldy + (size_t)o] =
                dot(w->type, w->n_in, row, (const char *)act + (size_t)r * act_stride);
    }
}

static void dequant_blocks(ftk_type type, int n, const void *row, float *y)
{
    const bool min = ftk_type_form(type).min;
    for (int i = 0; i < n; i += FTK_QBLOCK) {
        block w;
        read_block(type, row, (size_t)i / FTK_QBLOCK, &w);
        for (int j = 0; j < FTK_QBLOCK; j++) {
            const int h = j * 2 / FTK_QBLOCK;
            const float v = w.s[h] * (float)w.v[j];
            y[i + j] = min ? v + w.m[h] : v;
        }
    }
}

static void dequant_row_ref(ftk_type type, int n, const void *row, float *y)
{
    const uint16_t *half = row;
    switch (type) {
    case FTK_TYPE_F32: memcpy(y, row, (size_t)n * sizeof(float)); break;
    case FTK_TYPE_F16:
        for (int i = 0; i < n; i++) y[i] = ftk_f16_f32(half[i]);
        break;
    case FTK_TYPE_BF16:
        for (int i = 0; i < n; i++) y[i] = ftk_bf16_f32(half[i]);
        break;
    default: dequant_blocks(type, n, row, y);
    }
}

/* The sum is kept in double: the square of a float never overflows there, so a huge row is
 * normalised and not silently turned into zeros. */
static void rms_norm_ref(int n, const float *x, const float *w, float eps, float *y)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * x[i];
    const float scale = (float)(1.0 / sqrt(sum / n + (double)eps));
    for (int i = 0; i < n; i++) y[i] = x[i] * scale * w[i];
}

static void rope_ref(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i + 1 < n_rot; i += 2) {
            const float a = x[i], b = x[i + 1];
            x[i] = a * cs[i] - b * cs[i + 1];
            x[i + 1] = a * cs[i + 1] + b * cs[i];
        }
    }
}

static void rope_halves_ref(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    const int half = n_rot / 2;
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i < half; i++) {
            const float a = x[i], b = x[i + half];
            x[i] = a * cs[i] - b * cs[i + half];
            x[i + half] = a * cs[i + half] + b * cs[i];
        }
    }
}

static void silu_mul_ref(int n, float *gate, const float *up)
{
    for (int i = 0; i < n; i++) gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static void gelu_mul_ref(int n, float *gate, const float *up)
{
    for (int i = 0; i < n; i++) {
        const float x = gate[i], u2 = x * (FTK_GELU_1 + FTK_GELU_3 * (x * x));
        gate[i] = x / (1.0f + expf(-u2)) * up[i];
    }
}

static void add_ref(int n, const float *x, float *y)
{
    for (int i = 0; i < n; i++) y[i] += x[i];
}

static void kv_store_ref(ftk_type kv_type, int n, const float *x, void *dst)
{
    if (kv_type == FTK_TYPE_F32) {
        memcpy(dst, x, (size_t)n * sizeof(float));
        return;
    }
    if (kv_type == FTK_TYPE_Q8_0) {
        ftk_q8_0_write(n, x, dst);
        return;
    }
    uint16_t *h = dst;
    for (int i = 0; i < n; i++) h[i] = ftk_f32_f16(x[i]);
}

static size_t attn_scratch_ref(int head_dim, int group, int max_slots)
{
    (void)group;
    return (size_t)max_slots + (size_t)head_dim;
}

/* The key or value of one slot, as floats. */
static const float *load_slot(const ftk_attn *a, const void *const *pages, int head_kv, int slot,
                              float *buf)
{
    const size_t row = (size_t)head_kv * FTK_PAGE + (size_t)(slot % FTK_PAGE);
    const size_t at = row * ftk_type_bytes(a->kv_type, (size_t)a->head_dim);
    const char *src = (const char *)pages[slot / FTK_PAGE] + at;
    if (a->kv_type == FTK_TYPE_F32) return (const void *)src;
    dequant_row_ref(a->kv_type, a->head_dim, src, buf);
    return buf;
}

/* The next visible slot after `slot` (-1 to start), or -1. */
static int next_slot(const ftk_attn *a, int row, int slot)
{
    if (++slot < a->prefix) return slot;
    for (int j = slot - a->prefix; j < 128; j++)
        if (a->mask[row][j / 64] >> (j % 64) & 1) return a->prefix + j;
    return -1;
}

/* The first visible slot, or the first one inside the window. */
static int first_slot(const ftk_attn *a, int row)
{
    int skip = a->window > 0 ? a->prefix - a->window : 0;
    for (int w = 0; a->window > 0 && w < 2; w++) skip += __builtin_popcountll(a->mask[row][w]);
    if (skip <= a->prefix) return next_slot(a, row, skip > 0 ? skip - 1 : -1);
    int s = next_slot(a, row, a->prefix - 1);
    for (skip -= a->prefix; skip > 0; skip--) s = next_slot(a, row, s);
    return s;
}

/* p: [keys]; v: [head_dim], room for one key or value. */
static void attend_ref(const ftk_attn *a, int head_kv, int row, int head, float *p, float *v)
{
    const int d = a->head_dim;
    const size_t at = ((size_t)row * (size_t)a->n_head + (size_t)head) * (size_t)d;
    float *out = a->out + at;
    float top = -INFINITY, sum = 0;
    int n = 0;
    for (int s = first_slot(a, row); s >= 0; s = next_slot(a, row, s), n++) {
        p[n] = dot_f32(d, load_slot(a, a->k_pages, head_kv, s, v), a->q + at) * a->scale;
        top = p[n] > top ? p[n] : top;
    }
    for (int j = 0; j < n; j++) {
        p[j] = expf(p[j] - top);
        sum += p[j];
    }
    for (int i = 0; i < d; i++) out[i] = 0;
    n = 0;
    for (int s = first_slot(a, row); s >= 0; s = next_slot(a, row, s), n++) {
        const float *value = load_slot(a, a->v_pages, head_kv, s, v);
        for (int i = 0; i < d; i++) out[i] += p[n] * value[i];
    }
    for (int i = 0; i < d; i++) out[i] *= 1.0f / sum;
    float *columns = ftk_attn_columns(a, row, head);
    for (int j = 0; columns && j < a->prefix; j++) columns[j] += p[j] * (1.0f / sum);
}

static void attention_ref(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch)
{
    const int group = a->n_head / a->n_head_kv;
    ftk_attn_clear_columns(a, row0, head_kv * group, group);
    for (int r = row0; r < row1; r++)
        for (int g = 0; g < group; g++)
            attend_ref(a, head_kv, r, head_kv * group + g, scratch + a->head_dim, scratch);
}

void ftk_kernels_ref(ftk_kernels *k)
{
    *k = (ftk_kernels){
        .name = "ref",
        .pack_bytes = pack_bytes_ref,
        .pack = pack_ref,
        .act_bytes = ftk_ref_act_bytes,
        .act_pack = act_pack_ref,
        .matmul_grain = 1,
        .matmul = matmul_ref,
        .dequant_row = dequant_row_ref,
        .rms_norm = rms_norm_ref,
        .rope = rope_ref,
        .rope_halves = rope_halves_ref,
        .silu_mul = silu_mul_ref,
        .gelu_mul = gelu_mul_ref,
        .add = add_ref,
        .kv_store = kv_store_ref,
        .attn_scratch = attn_scratch_ref,
        .attention = attention_ref,
    };
    fill_rowloops(k);
}
