/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights and activations in the order in which the lanes of a warp hand them to the tensor
 * cores. A tile is 16 output rows (the last one is padded with zeros) by blocks of 32 inputs, so
 * that every load of a warp is one run of memory, at the file's bits per weight.
 *
 * Fragments, as `mma` wants them. Lane l has g = l / 4 and t = l % 4. Of the weights' 16 x 32
 * bytes it holds four words a0..a3: rows g, g + 8, g, g + 8, inputs 4t..4t+3 of the first, of
 * the first, of the second and of the second half of the block. Of the activations, 32 x 8 rows,
 * it holds b0, b1: row g, inputs 4t..4t+3 of either half. For 16-bit floats a word is two
 * inputs, 2t and 2t + 1, and a block is two such steps of 16 inputs, the words standing for rows
 * g, g + 8, g, g + 8 and inputs from 0, 0, 8, 8 on. Of the 16 x 8 sums it gets c0..c3: rows g,
 * g, g + 8, g + 8 by activation rows 2t, 2t + 1, 2t, 2t + 1.
 *
 * Weights. All tiles one after the other; a tile of
 *  - block types: all units (see codes.h); a unit is its scales, then the codes of its blocks.
 *    Scales: d [8][2] f16, of the rows g and g + 8; dm the same if the type has minima; in units of
 *    256 for each block sc [8][2][32 / sub] bytes, and mn the same if there are minima.
 *    Codes of a block, as far as the type has the bits: [32 lanes] of
 *      8 bits  16 bytes: a0..a3;
 *      4 bits  8 bytes: byte j of the first word a0 in the low and a1 in the high nibble, of the
 *              second a2 and a3;
 *      2 bits  4 bytes: byte j holds a0, a1, a2, a3 from the lowest bits on;
 *      1 bit   2 bytes: bit 4 i + j is that of byte j of a_i.
 *  - F16, BF16: for each block two steps of [32 lanes] a0..a3.
 *  F32 stays in rows.
 *
 * Activations, in groups of 8 rows, a group's blocks one after the other; see ftk_tile_act. */
#ifndef FTK_TILES_H
#define FTK_TILES_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    FTK_TILE_OUT = 16, /* output rows of a tile */
    FTK_TILE_ROWS = 8, /* activation rows of a group */
    FTK_TILE_LANES = 32,
};

/* The forms of activations. */
typedef enum ftk_tile_act {
    FTK_TILE_I8,   /* [32 lanes] b0, b1; d [8] floats; minus_half [8][2]: see ftk_qact */
    FTK_TILE_F16,  /* 2 parts of [32 lanes] b0, b1 of either step; d [8] floats: x = d (p0 + p1) */
    FTK_TILE_BF16, /* the same with 3 parts */
    FTK_TILE_F32,  /* [n_in] floats a row, no groups */
} ftk_tile_act;

ftk_tile_act ftk_tile_act_of(ftk_type wtype);
/* Bytes of n_rows rows of activations. */
size_t ftk_tile_act_bytes(ftk_tile_act form, int n_rows, int n_in);

/* Bytes of a matrix, 0 for an unsupported type. */
size_t ftk_tiles_bytes(ftk_type type, int n_out, int n_in);
/* Tiles [first, first + n) of a matrix in GGUF layout, to where they lie in dst, which begins with
 * tile `first`. */
void ftk_tiles_pack(ftk_type type, int n_out, int n_in, const void *src, int first, int n,
                    void *dst);

#ifdef __cplusplus
}
#endif
#endif
