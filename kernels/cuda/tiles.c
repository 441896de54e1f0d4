/* SPDX-License-Identifier: Apache-2.0
 * Rearranges GGUF weights into tiles; runs once per matrix, on the host. */
#include "kernels/cuda/tiles.h"

#include <string.h>

#include "kernels/codes.h"

enum { OUT = FTK_TILE_OUT, LANES = FTK_TILE_LANES };

static size_t blocks_of(int n_in)
{
    return ((size_t)n_in + FTK_QBLOCK - 1) / FTK_QBLOCK;
}

ftk_tile_act ftk_tile_act_of(ftk_type wtype)
{
    switch (wtype) {
    case FTK_TYPE_F32: return FTK_TILE_F32;
    case FTK_TYPE_F16: return FTK_TILE_F16;
    case FTK_TYPE_BF16: return FTK_TILE_BF16;
    default: return FTK_TILE_I8;
    }
}

size_t ftk_tile_act_bytes(ftk_tile_act form, int n_rows, int n_in)
{
    if (form == FTK_TILE_F32) return (size_t)n_rows * (size_t)n_in * sizeof(float);
    const size_t cells = FTK_TILE_ROWS * FTK_QBLOCK;
    size_t block = FTK_TILE_ROWS * sizeof(float);
    if (form == FTK_TILE_I8)
        block += cells + FTK_TILE_ROWS * 2 * sizeof(int32_t);
    else
        block += (form == FTK_TILE_F16 ? 2 : 3) * cells * sizeof(uint16_t);
    const size_t groups = ((size_t)n_rows + FTK_TILE_ROWS - 1) / FTK_TILE_ROWS;
    return groups * blocks_of(n_in) * block;
}

/* Bytes of a unit's scales, and of a block's codes. */
static size_t unit_scales(ftk_form f)
{
    const size_t halves = (f.min ? 2 : 1) * OUT * sizeof(uint16_t);
    if (f.unit == FTK_QBLOCK) return halves;
    const size_t subs = (size_t)(FTK_QBLOCK / f.sub) * OUT * (f.min ? 2 : 1);
    return halves + FTK_QUNIT / FTK_QBLOCK * subs;
}

static size_t block_codes(ftk_form f)
{
    return (size_t)f.bits * OUT * FTK_QBLOCK / 8;
}

static size_t unit_bytes(ftk_form f)
{
    return unit_scales(f) + (size_t)(f.unit / FTK_QBLOCK) * block_codes(f);
}

static size_t tile_bytes(ftk_type type, int n_in)
{
    const ftk_form f = ftk_type_form(type);
    if (f.bits) return (size_t)(n_in / f.unit) * unit_bytes(f);
    if (type == FTK_TYPE_F32) return OUT * (size_t)n_in * sizeof(float);
    return blocks_of(n_in) * OUT * FTK_QBLOCK * sizeof(uint16_t);
}

size_t ftk_tiles_bytes(ftk_type type, int n_out, int n_in)
{
    if (!ftk_type_supported(type) || (size_t)n_in % ftk_type_block(type) != 0) return 0;
    if (type == FTK_TYPE_F32) return (size_t)n_out * (size_t)n_in * sizeof(float);
    const size_t n_tiles = ((size_t)n_out + OUT - 1) / OUT;
    return n_tiles * tile_bytes(type, n_in);
}

/* Word i of lane l: the output row, and the first of its inputs in the block. */
static int word_row(int lane, int i)
{
    return lane / 4 + i % 2 * 8;
}

static int word_input(int lane, int i)
{
    return i / 2 * 16 + lane % 4 * 4;
}

/* q[OUT][32]: the codes of a block. */
static void put_codes(int bits, const uint8_t (*q)[FTK_QBLOCK], unsigned char *dst)
{
    unsigned char *pairs = dst + (bits >= 4 ? 8 * LANES : 0);
    unsigned char *singles = pairs + ((bits & 2) ? 4 * LANES : 0);
    for (int l = 0; l < LANES; l++)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) {
                const int code = q[word_row(l, i)][word_input(l, i) + j];
                if (bits == 8) {
                    dst[l * 16 + i * 4 + j] = (unsigned char)code;
                    continue;
                }
                const int nibble = bits >= 4 ? 4 : 0;
                if (nibble) dst[l * 8 + i / 2 * 4 + j] |= (unsigned char)((code & 15) << i % 2 * 4);
                if (bits & 2) pairs[l * 4 + j] |= (unsigned char)((code >> nibble & 3) << 2 * i);
                const int bit = 4 * i + j;
                if (bits & 1)
                    singles[l * 2 + bit / 8] |=
                        (unsigned char)((code >> (bits - 1) & 1) << bit % 8);
            }
}

/* c: the same block of all rows of the tile. */
static void put_block(ftk_form f, size_t in_unit, const ftk_codes *c, unsigned char *unit)
{
    uint8_t q[OUT][FTK_QBLOCK];
    const size_t subs = (size_t)(FTK_QBLOCK / f.sub), sc_bytes = subs * OUT;
    unsigned char *sc =
        unit + (f.min ? 2 : 1) * OUT * sizeof(uint16_t) + in_unit * sc_bytes * (f.min ? 2 : 1);
    for (size_t r = 0; r < OUT; r++) {
        const size_t at = r % 8 * 2 + r / 8;
        memcpy(q[r], c[r].q, sizeof q[r]);
        if (in_unit == 0) {
            memcpy(unit + at * sizeof(uint16_t), &c[r].d, sizeof(uint16_t));
            if (f.min) memcpy(unit + (OUT + at) * sizeof(uint16_t), &c[r].dm, sizeof(uint16_t));
        }
        if (f.unit == FTK_QBLOCK) continue;
        memcpy(sc + at * subs, c[r].sc, subs);
        if (f.min) memcpy(sc + sc_bytes + at * subs, c[r].mn, subs);
    }
    put_codes(f.bits, (const uint8_t(*)[FTK_QBLOCK])q,
              unit + unit_scales(f) + in_unit * block_codes(f));
}

static void pack_blocks(ftk_type type, int n_out, int n_in, const char *src, int tile,
                        unsigned char *dst)
{
    const ftk_form f = ftk_type_form(type);
    const size_t row_bytes = ftk_type_bytes(type, (size_t)n_in);
    const size_t per_unit = (size_t)(f.unit / FTK_QBLOCK);
    for (size_t b = 0; b < (size_t)n_in / FTK_QBLOCK; b++) {
        ftk_codes c[OUT];
        memset(c, 0, sizeof c);
        for (int r = 0; r < OUT && tile * OUT + r < n_out; r++)
            ftk_codes_read(type, src + (size_t)(tile * OUT + r) * row_bytes, b, &c[r]);
        put_block(f, b % per_unit, c, dst + b / per_unit * unit_bytes(f));
    }
}

static void pack_halves(int n_out, int n_in, const char *src, int tile, unsigned char *dst)
{
    for (size_t b = 0; b < blocks_of(n_in); b++)
        for (int step = 0; step < 2; step++)
            for (int l = 0; l < LANES; l++)
                for (int i = 0; i < 8; i++, dst += sizeof(uint16_t)) {
                    const int o = tile * OUT + word_row(l, i / 2);
                    const int k = (int)b * FTK_QBLOCK + step * 16 + i / 4 * 8 + l % 4 * 2 + i % 2;
                    if (o < n_out && k < n_in)
                        memcpy(dst, src + ((size_t)o * (size_t)n_in + (size_t)k) * sizeof(uint16_t),
                               sizeof(uint16_t));
                }
}

void ftk_tiles_pack(ftk_type type, int n_out, int n_in, const void *src, int first, int n,
                    void *dst)
{
    const size_t bytes = tile_bytes(type, n_in);
    if (type == FTK_TYPE_F32) {
        const int rows = n_out - first * OUT < n * OUT ? n_out - first * OUT : n * OUT;
        memcpy(dst, (const char *)src + (size_t)first * bytes,
               (size_t)rows * (size_t)n_in * sizeof(float));
        return;
    }
    memset(dst, 0, (size_t)n * bytes);
    for (int i = 0; i < n; i++) {
        unsigned char *tile = (unsigned char *)dst + (size_t)i * bytes;
        if (ftk_type_form(type).bits)
            pack_blocks(type, n_out, n_in, src, first + i, tile);
        else
            pack_halves(n_out, n_in, src, first + i, tile);
    }
}
