/* SPDX-License-Identifier: Apache-2.0
 * Reads the block types: the one place that knows the order of their bits. */
#include "kernels/codes.h"

#include <float.h>
#include <math.h>

#include "kernels/blocks.h"

const int8_t ftk_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

static void one_scale(ftk_codes *c, uint16_t d, int sc)
{
    c->d = d;
    c->sc[0] = c->sc[1] = (int8_t)sc;
}

static void one_min(ftk_codes *c, uint16_t dm, int mn)
{
    c->dm = dm;
    c->mn[0] = c->mn[1] = (int8_t)mn;
}

/* 16 bytes: the low nibbles are the first half. */
static void read_nibbles(ftk_codes *c, const uint8_t *q)
{
    for (int i = 0; i < FTK_QBLOCK / 2; i++) {
        c->q[i] = q[i] & 15;
        c->q[i + FTK_QBLOCK / 2] = q[i] >> 4;
    }
}

/* One byte per element, of which `mask` from bit `from` on goes to bit `to` of the code. */
static void add_bits(ftk_codes *c, const uint8_t *q, size_t from, int mask, int to)
{
    for (int i = 0; i < FTK_QBLOCK; i++) c->q[i] |= (uint8_t)((q[i] >> from & mask) << to);
}

/* Bit i of 32 is the fifth of element i. */
static void add_fifth(ftk_codes *c, const uint8_t *h)
{
    for (int i = 0; i < FTK_QBLOCK; i++) c->q[i] |= (uint8_t)((h[i / 8] >> i % 8 & 1) << 4);
}

static void read_q8_0(const ftk_q8_0 *w, ftk_codes *c)
{
    for (int i = 0; i < FTK_QBLOCK; i++) c->q[i] = (uint8_t)(w->q[i] + 128);
    one_scale(c, w->d, 1);
}

static void read_q5_0(const ftk_q5_0 *w, ftk_codes *c)
{
    read_nibbles(c, w->q);
    add_fifth(c, w->h);
    one_scale(c, w->d, 1);
}

static void read_q4_1(const ftk_q4_1 *w, ftk_codes *c)
{
    read_nibbles(c, w->q);
    one_scale(c, w->d, 1);
    one_min(c, w->m, 1);
}

static void read_q5_1(const ftk_q5_1 *w, ftk_codes *c)
{
    read_nibbles(c, w->q);
    add_fifth(c, w->h);
    one_scale(c, w->d, 1);
    one_min(c, w->m, 1);
}

static void read_q2_k(const ftk_q2_k *w, size_t b, ftk_codes *c)
{
    add_bits(c, w->q + b / 4 * FTK_QBLOCK, b % 4 * 2, 3, 0);
    c->d = w->d;
    c->dm = w->dmin;
    for (size_t s = 0; s < 2; s++) {
        c->sc[s] = w->sc[2 * b + s] & 15;
        c->mn[s] = (int8_t) - (w->sc[2 * b + s] >> 4);
    }
}

static void read_q3_k(const ftk_q3_k *w, size_t b, ftk_codes *c)
{
    add_bits(c, w->q + b / 4 * FTK_QBLOCK, b % 4 * 2, 3, 0);
    add_bits(c, w->h, b, 1, 2);
    c->d = w->d;
    for (size_t s = 0; s < 2; s++) {
        const size_t i = 2 * b + s;
        const int low = w->sc[i % 8] >> i / 8 * 4 & 15, high = w->sc[8 + i % 4] >> i / 4 * 2 & 3;
        c->sc[s] = (int8_t)((low | high << 4) - 32);
    }
}

/* Scale and minimum of block b of Q4_K and Q5_K: six bits each, of the last four blocks in two
 * places. */
static void read_scale_min(const uint8_t *sc, size_t b, int *scale, int *min)
{
    if (b < 4) {
        *scale = sc[b] & 63;
        *min = sc[b + 4] & 63;
        return;
    }
    *scale = (sc[b + 4] & 15) | sc[b - 4] >> 6 << 4;
    *min = sc[b + 4] >> 4 | sc[b] >> 6 << 4;
}

static void read_q4_k(const ftk_q4_k *w, size_t b, ftk_codes *c)
{
    int scale, min;
    read_scale_min(w->sc, b, &scale, &min);
    one_scale(c, w->d, scale);
    one_min(c, w->dmin, -min);
    add_bits(c, w->q + b / 2 * FTK_QBLOCK, b % 2 * 4, 15, 0);
}

static void read_q5_k(const ftk_q5_k *w, size_t b, ftk_codes *c)
{
    int scale, min;
    read_scale_min(w->sc, b, &scale, &min);
    one_scale(c, w->d, scale);
    one_min(c, w->dmin, -min);
    add_bits(c, w->q + b / 2 * FTK_QBLOCK, b % 2 * 4, 15, 0);
    add_bits(c, w->h, b, 1, 4);
}

static void read_q6_k(const ftk_q6_k *w, size_t b, ftk_codes *c)
{
    const size_t n = b / 4, j = b % 4;
    add_bits(c, w->q + (2 * n + j % 2) * FTK_QBLOCK, j / 2 * 4, 15, 0);
    add_bits(c, w->h + n * FTK_QBLOCK, j * 2, 3, 4);
    c->d = w->d;
    c->sc[0] = w->sc[2 * b];
    c->sc[1] = w->sc[2 * b + 1];
}

static void read_iq4_xs(const ftk_iq4_xs *w, size_t b, ftk_codes *c)
{
    const int low = w->sc_lo[b / 2] >> b % 2 * 4 & 15, high = w->sc_hi >> 2 * b & 3;
    read_nibbles(c, w->q + b * FTK_QBLOCK / 2);
    one_scale(c, w->d, (low | high << 4) - 32);
}

void ftk_codes_read(ftk_type type, const void *row, size_t b, ftk_codes *c)
{
    const size_t unit = b / FTK_QUNIT_BLOCKS, in = b % FTK_QUNIT_BLOCKS;
    const ftk_q4_0 *q4_0 = row;
    *c = (ftk_codes){0};
    switch (type) {
    case FTK_TYPE_Q8_0: read_q8_0((const ftk_q8_0 *)row + b, c); break;
    case FTK_TYPE_Q4_0:
    case FTK_TYPE_IQ4_NL:
        read_nibbles(c, q4_0[b].q);
        one_scale(c, q4_0[b].d, 1);
        break;
    case FTK_TYPE_Q4_1: read_q4_1((const ftk_q4_1 *)row + b, c); break;
    case FTK_TYPE_Q5_0: read_q5_0((const ftk_q5_0 *)row + b, c); break;
    case FTK_TYPE_Q5_1: read_q5_1((const ftk_q5_1 *)row + b, c); break;
    case FTK_TYPE_Q2_K: read_q2_k((const ftk_q2_k *)row + unit, in, c); break;
    case FTK_TYPE_Q3_K: read_q3_k((const ftk_q3_k *)row + unit, in, c); break;
    case FTK_TYPE_Q4_K: read_q4_k((const ftk_q4_k *)row + unit, in, c); break;
    case FTK_TYPE_Q5_K: read_q5_k((const ftk_q5_k *)row + unit, in, c); break;
    case FTK_TYPE_Q6_K: read_q6_k((const ftk_q6_k *)row + unit, in, c); break;
    case FTK_TYPE_IQ4_XS: read_iq4_xs((const ftk_iq4_xs *)row + unit, in, c); break;
    case FTK_TYPE_F32:
    case FTK_TYPE_F16:
    case FTK_TYPE_BF16: break;
    }
}

void ftk_q8_0_write(int n, const float *x, void *blocks)
{
    ftk_q8_0 *b = blocks;
    for (int at = 0; at < n; at += FTK_QBLOCK, x += FTK_QBLOCK, b++) {
        float most = 0;
        bool finite = true;
        for (int i = 0; i < FTK_QBLOCK; i++) {
            const float size = fabsf(x[i]);
            finite &= size <= FLT_MAX;
            most = size > most ? size : most;
        }
        const float inv = finite && most >= FTK_QACT_TINY ? 127.0f / most : 0.0f;
        b->d = ftk_f32_f16(finite ? most / 127.0f : NAN);
        for (int i = 0; i < FTK_QBLOCK; i++) b->q[i] = inv > 0 ? (int8_t)rintf(x[i] * inv) : 0;
    }
}
