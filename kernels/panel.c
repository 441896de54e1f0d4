/* SPDX-License-Identifier: Apache-2.0
 * Rearranges GGUF weights into panels; runs once per tensor, at load. */
#include "kernels/panel.h"

#include "kernels/blocks.h"

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Of a unit's scales and codes. */
static size_t lane_unit(ftk_form f)
{
    return ftk_lane_unit_scales(f) + (size_t)f.unit / FTK_QBLOCK * ftk_lane_block_codes(f);
}

size_t ftk_panel_bytes(ftk_type type, int width, int n_in)
{
    const ftk_form f = ftk_type_form(type);
    const size_t n = (size_t)n_in;
    const size_t lane = f.bits ? n / (size_t)f.unit * lane_unit(f) : ftk_type_bytes(type, n);
    return round_up(lane * (size_t)width, 64);
}

size_t ftk_panels_bytes(ftk_type type, int width, int n_out, int n_in)
{
    const size_t n_panels = ((size_t)n_out + (size_t)width - 1) / (size_t)width;
    return n_panels * ftk_panel_bytes(type, width, n_in);
}

static uint16_t scaled(uint16_t half, float factor)
{
    return factor == 1 ? half : ftk_f32_f16(ftk_f16_f32(half) * factor);
}

/* Where one lane of a panel goes. */
typedef struct lane {
    size_t width, at;
    uint8_t flip;
} lane;

/* The lane's i-th element or group of `size` bytes. */
static void put(lane l, unsigned char *dst, size_t size, size_t i, const void *src)
{
    memcpy(dst + (i * l.width + l.at) * size, src, size);
}

static void pack_floats(lane l, size_t size, int n_in, const unsigned char *src, unsigned char *dst)
{
    for (size_t i = 0; i < (size_t)n_in; i++) put(l, dst, size, i, src + i * size);
}

/* Of a block of the unit at dst. */
static void put_scales(lane l, ftk_form f, size_t block, const ftk_codes *c, unsigned char *dst)
{
    if (block == 0) {
        put(l, dst, sizeof c->d, 0, &c->d);
        if (f.min) put(l, dst, sizeof c->dm, 1, &c->dm);
    }
    if (f.unit == FTK_QBLOCK) return;
    dst += l.width * (f.min ? 2 : 1) * sizeof c->d;
    dst += block * l.width * ftk_lane_block_scales(f);
    const bool two = f.sub < FTK_QBLOCK;
    for (size_t s = 0; s < (two ? 2 : 1); s++) {
        const uint8_t shared = (uint8_t)(c->sc[s] | -c->mn[s] << 4);
        put(l, dst, 1, s, two && f.min ? (const void *)&shared : &c->sc[s]);
    }
    if (f.min && !two) put(l, dst, 1, 1, &c->mn[0]);
}

static void put_nibbles(lane l, const uint8_t *q, unsigned char *dst)
{
    for (size_t g = 0; g < 4; g++) {
        uint8_t v[FTK_GROUP];
        for (size_t i = 0; i < FTK_GROUP; i++) {
            const uint8_t *at = q + g * FTK_GROUP + i;
            v[i] = (uint8_t)((at[0] & 15) | at[FTK_QBLOCK / 2] << 4);
        }
        put(l, dst, sizeof v, g, v);
    }
}

static void put_pairs(lane l, const uint8_t *q, int from, unsigned char *dst)
{
    for (size_t g = 0; g < 2; g++) {
        uint8_t v[FTK_GROUP];
        for (size_t i = 0; i < FTK_GROUP; i++) {
            const uint8_t *at = q + g * 2 * FTK_GROUP + i;
            const int a = at[0] >> from & 3, b = at[16] >> from & 3;
            const int c = at[4] >> from & 3, d = at[20] >> from & 3;
            v[i] = (uint8_t)(a | b << 2 | c << 4 | d << 6);
        }
        put(l, dst, sizeof v, g, v);
    }
}

static void put_singles(lane l, const uint8_t *q, int from, unsigned char *dst)
{
    uint8_t v[FTK_GROUP] = {0};
    for (size_t i = 0; i < FTK_GROUP; i++)
        for (size_t g = 0; g < 8; g++) v[i] |= (uint8_t)((q[g * FTK_GROUP + i] >> from & 1) << g);
    put(l, dst, sizeof v, 0, v);
}

static void put_codes(lane l, ftk_form f, size_t block, const uint8_t *q, unsigned char *dst)
{
    const int bits = f.bits;
    dst += l.width * (ftk_lane_unit_scales(f) + block * ftk_lane_block_codes(f));
    const size_t group = l.width * FTK_GROUP;
    if (bits == 8) {
        for (size_t g = 0; g < FTK_QBLOCK / FTK_GROUP; g++) {
            uint8_t v[FTK_GROUP];
            for (size_t i = 0; i < FTK_GROUP; i++) v[i] = q[g * FTK_GROUP + i] ^ l.flip;
            put(l, dst, sizeof v, g, v);
        }
        return;
    }
    const int nibble = bits >= 4 ? 4 : 0;
    if (nibble) {
        put_nibbles(l, q, dst);
        dst += 4 * group;
    }
    const int pair = bits - nibble >= 2 ? 2 : 0;
    if (pair) {
        put_pairs(l, q, nibble, dst);
        dst += 2 * group;
    }
    if (bits > nibble + pair) put_singles(l, q, nibble + pair, dst);
}

void ftk_panel_pack_row(ftk_type type, int width, uint8_t flip, float factor, int n_in,
                        const void *row, size_t at, void *panel)
{
    const ftk_form f = ftk_type_form(type);
    const lane l = {(size_t)width, at, flip};
    if (f.bits == 0) {
        pack_floats(l, ftk_type_bytes(type, 1), n_in, row, panel);
        return;
    }
    for (size_t b = 0; b < (size_t)n_in / FTK_QBLOCK; b++) {
        ftk_codes c;
        ftk_codes_read(type, row, b, &c);
        c.d = scaled(c.d, factor);
        c.dm = scaled(c.dm, factor);
        const size_t per_unit = (size_t)f.unit / FTK_QBLOCK, i = b % per_unit;
        unsigned char *unit = (unsigned char *)panel + b / per_unit * (size_t)width * lane_unit(f);
        put_scales(l, f, i, &c, unit);
        put_codes(l, f, i, c.q, unit);
    }
}

void ftk_panels_pack(ftk_type type, int width, uint8_t flip, int n_out, int n_in, const void *src,
                     void *dst)
{
    const size_t row_bytes = ftk_type_bytes(type, (size_t)n_in);
    const size_t panel_bytes = ftk_panel_bytes(type, width, n_in);
    memset(dst, 0, ftk_panels_bytes(type, width, n_out, n_in));
    for (int o = 0; o < n_out; o++)
        ftk_panel_pack_row(type, width, flip, 1, n_in, (const char *)src + (size_t)o * row_bytes,
                           (size_t)(o % width), (char *)dst + (size_t)(o / width) * panel_bytes);
}
