/* SPDX-License-Identifier: Apache-2.0
 * See quantise.h. The order of bits is written down a second time here, the other way round than in
 * kernels/codes.c; test_blocks holds that one to figures from elsewhere. */
#include "testkit/quantise.h"

#include <math.h>

#include "kernels/blocks.h"
#include "kernels/codes.h"

static int clamp(float x, int lo, int hi)
{
    const float r = rintf(x);
    return r < (float)lo ? lo : r > (float)hi ? hi : (int)r; /* NaN: hi */
}

static float ratio(float x, float d)
{
    return d != 0 ? x / d : 0;
}

/* The element of the largest magnitude, with its sign. */
static float top_of(const float *x, int n)
{
    float top = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    return top;
}

/* The code whose value comes nearest to x / d. */
static uint8_t nearest(ftk_form f, float x, float d)
{
    const float v = ratio(x, d);
    if (!f.table) return (uint8_t)clamp(v + (float)f.offset, 0, (1 << f.bits) - 1);
    int best = 0;
    for (int i = 1; i < 16; i++)
        if (fabsf(v - ftk_iq4_values[i]) < fabsf(v - ftk_iq4_values[best])) best = i;
    return (uint8_t)best;
}

/* What the largest magnitude becomes: the lower end of the range, which is the longer one. */
static float lowest(ftk_form f)
{
    return f.table ? -127.0f : (float)-f.offset;
}

/* A block or unit before its bits are put in order. */
typedef struct draft {
    uint8_t q[FTK_QUNIT];
    uint16_t d, dm;
    int sc[FTK_QSUBS], mn[FTK_QSUBS]; /* mn: of Q4_1 and Q5_1 none, else what is taken off */
} draft;

static void draft_block(ftk_form f, const float *x, draft *w)
{
    if (f.min) {
        float lo = x[0], hi = x[0];
        for (int i = 1; i < FTK_QBLOCK; i++) {
            lo = fminf(lo, x[i]);
            hi = fmaxf(hi, x[i]);
        }
        w->d = ftk_f32_f16((hi - lo) / (float)((1 << f.bits) - 1));
        w->dm = ftk_f32_f16(lo);
    } else {
        /* Q8_0 goes from -127 to 127 */
        w->d = ftk_f32_f16(top_of(x, FTK_QBLOCK) / (f.bits == 8 ? 127.0f : lowest(f)));
    }
    for (int i = 0; i < FTK_QBLOCK; i++)
        w->q[i] = nearest(f, x[i] - (f.min ? ftk_f16_f32(w->dm) : 0), ftk_f16_f32(w->d));
}

/* top: the largest scale of a sub-block; the same for minima, if the type has them. */
static void draft_unit(ftk_form f, int top, const float *x, draft *w)
{
    float scale[FTK_QSUBS], min[FTK_QSUBS];
    const int n_subs = FTK_QUNIT / f.sub;
    for (int s = 0; s < n_subs; s++) {
        const float *v = x + s * f.sub;
        float lo = 0, hi = 0;
        for (int i = 0; i < f.sub; i++) {
            lo = fminf(lo, v[i]);
            hi = fmaxf(hi, v[i]);
        }
        min[s] = -lo;
        scale[s] = f.min ? (hi - lo) / (float)((1 << f.bits) - 1) : top_of(v, f.sub) / lowest(f);
    }
    w->d = ftk_f32_f16(fabsf(top_of(scale, n_subs)) / (float)top);
    w->dm = f.min ? ftk_f32_f16(top_of(min, n_subs) / (float)top) : 0;
    const float d = ftk_f16_f32(w->d), dm = ftk_f16_f32(w->dm);
    for (int i = 0; i < FTK_QUNIT; i++) {
        const int s = i / f.sub;
        w->sc[s] = clamp(ratio(scale[s], d), -top, top);
        w->mn[s] = f.min ? clamp(ratio(min[s], dm), 0, top) : 0;
        w->q[i] = nearest(f, x[i] + dm * (float)w->mn[s], d * (float)w->sc[s]);
    }
}

/* ------------------------------------------------------------------ bits in order */

static void put_nibbles(const uint8_t *q, uint8_t *out)
{
    for (int i = 0; i < FTK_QBLOCK / 2; i++)
        out[i] = (uint8_t)((q[i] & 15) | (q[i + FTK_QBLOCK / 2] & 15) << 4);
}

static void put_fifth(const uint8_t *q, uint8_t *out)
{
    for (int i = 0; i < FTK_QBLOCK; i++) out[i / 8] |= (uint8_t)((q[i] >> 4 & 1) << i % 8);
}

/* From each code `mask`, from bit `from` on; 32 bytes take as many blocks as there is room. The
 * blocks i, i + step, ... share bytes. */
static void put_planes(const uint8_t *q, int from, int mask, int bits, uint8_t *out)
{
    const int per_byte = 8 / bits;
    for (int i = 0; i < FTK_QUNIT; i++) {
        const int b = i / FTK_QBLOCK, at = b / per_byte * FTK_QBLOCK + i % FTK_QBLOCK;
        out[at] |= (uint8_t)((q[i] >> from & mask) << b % per_byte * bits);
    }
}

static void put_scales_mins(const draft *w, uint8_t *out)
{
    for (int b = 0; b < 4; b++) {
        out[b] = (uint8_t)(w->sc[b] | w->sc[b + 4] >> 4 << 6);
        out[b + 4] = (uint8_t)(w->mn[b] | w->mn[b + 4] >> 4 << 6);
        out[b + 8] = (uint8_t)((w->sc[b + 4] & 15) | (w->mn[b + 4] & 15) << 4);
    }
}

static void put_q2_k(const draft *w, ftk_q2_k *b)
{
    b->d = w->d;
    b->dmin = w->dm;
    for (int s = 0; s < FTK_QSUBS; s++) b->sc[s] = (uint8_t)(w->sc[s] | w->mn[s] << 4);
    put_planes(w->q, 0, 3, 2, b->q);
}

static void put_q3_k(const draft *w, ftk_q3_k *b)
{
    b->d = w->d;
    for (int s = 0; s < FTK_QSUBS; s++) {
        const int v = w->sc[s] + 32;
        b->sc[s % 8] |= (uint8_t)((v & 15) << s / 8 * 4);
        b->sc[8 + s % 4] |= (uint8_t)(v >> 4 << s / 4 * 2);
    }
    put_planes(w->q, 0, 3, 2, b->q);
    put_planes(w->q, 2, 1, 1, b->h);
}

static void put_q4_k(const draft *w, ftk_q4_k *b)
{
    b->d = w->d;
    b->dmin = w->dm;
    put_scales_mins(w, b->sc);
    put_planes(w->q, 0, 15, 4, b->q);
}

static void put_q5_k(const draft *w, ftk_q5_k *b)
{
    b->d = w->d;
    b->dmin = w->dm;
    put_scales_mins(w, b->sc);
    put_planes(w->q, 0, 15, 4, b->q);
    put_planes(w->q, 4, 1, 1, b->h);
}

static void put_q6_k(const draft *w, ftk_q6_k *b)
{
    b->d = w->d;
    for (int s = 0; s < FTK_QSUBS; s++) b->sc[s] = (int8_t)w->sc[s];
    for (int i = 0; i < FTK_QUNIT; i++) {
        const int n = i / 128, j = i / 32 % 4, l = i % 32;
        b->q[64 * n + 32 * (j % 2) + l] |= (uint8_t)((w->q[i] & 15) << j / 2 * 4);
    }
    put_planes(w->q, 4, 3, 2, b->h);
}

static void put_iq4_xs(const draft *w, ftk_iq4_xs *b)
{
    b->d = w->d;
    for (int s = 0; s < FTK_QUNIT_BLOCKS; s++) {
        const int v = w->sc[s] + 32;
        b->sc_lo[s / 2] |= (uint8_t)((v & 15) << s % 2 * 4);
        b->sc_hi |= (uint16_t)(v >> 4 << 2 * s);
        put_nibbles(w->q + s * FTK_QBLOCK, b->q + s * FTK_QBLOCK / 2);
    }
}

/* d, then m if there is one, then the fifth bits, then the others: the order of all small types. */
static void put_small(ftk_form f, const draft *w, unsigned char *out)
{
    memcpy(out, &w->d, sizeof w->d);
    out += sizeof w->d;
    if (f.bits == 8) {
        for (int i = 0; i < FTK_QBLOCK; i++) out[i] = w->q[i] ^ 0x80;
        return;
    }
    if (f.min) {
        memcpy(out, &w->dm, sizeof w->dm);
        out += sizeof w->dm;
    }
    if (f.bits == 5) {
        put_fifth(w->q, out);
        out += FTK_QBLOCK / 8;
    }
    put_nibbles(w->q, out);
}

static void quantise_float(ftk_type type, float x, unsigned char *out)
{
    const uint16_t h = type == FTK_TYPE_F16 ? ftk_f32_f16(x) : ftk_f32_bf16(x);
    if (type == FTK_TYPE_F32)
        memcpy(out, &x, sizeof x);
    else
        memcpy(out, &h, sizeof h);
}

void quantise(ftk_type type, const float *x, unsigned char *out)
{
    const ftk_form f = ftk_type_form(type);
    draft w = {0};
    memset(out, 0, ftk_type_bytes(type, ftk_type_block(type)));
    if (f.unit == FTK_QBLOCK) draft_block(f, x, &w);
    switch (type) {
    case FTK_TYPE_F32:
    case FTK_TYPE_F16:
    case FTK_TYPE_BF16: quantise_float(type, *x, out); break;
    case FTK_TYPE_Q2_K:
        draft_unit(f, 15, x, &w);
        put_q2_k(&w, (void *)out);
        break;
    case FTK_TYPE_Q3_K:
        draft_unit(f, 31, x, &w);
        put_q3_k(&w, (void *)out);
        break;
    case FTK_TYPE_Q4_K:
        draft_unit(f, 63, x, &w);
        put_q4_k(&w, (void *)out);
        break;
    case FTK_TYPE_Q5_K:
        draft_unit(f, 63, x, &w);
        put_q5_k(&w, (void *)out);
        break;
    case FTK_TYPE_Q6_K:
        draft_unit(f, 127, x, &w);
        put_q6_k(&w, (void *)out);
        break;
    case FTK_TYPE_IQ4_XS:
        draft_unit(f, 31, x, &w);
        put_iq4_xs(&w, (void *)out);
        break;
    default: put_small(f, &w, out);
    }
}
