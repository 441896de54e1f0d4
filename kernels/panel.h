/* SPDX-License-Identifier: Apache-2.0
 *
 * Packed weights of the vector levels. A panel holds `width` output rows (the last one is padded
 * with zero rows), so that one vector lane is one output row and no sum ever crosses lanes. It
 * is two vectors wide: what a tile reads of both lies together, and a row's product reads
 * weights from the first to the last, which is what the processor's own prefetchers are good at.
 *
 *  - F32, F16, BF16: [n_in][width] of the type.
 *  - Block types (see codes.h for d, dm, sc, mn): of each unit the scales, then the codes of its
 *    blocks of 32.
 *    A unit's scales: d [width] f16; dm [width] f16 if the type has minima; and in units of 256,
 *    for each block of 32, its sc as [32 / sub][width] bytes, and its mn as [width] bytes. Where
 *    there are two minima (Q2_K) they share the bytes: sc | -mn << 4.
 *    A block's codes: their low four bits, the next two, the last one, as far as they have them.
 *    In units of [width][4], where the last index runs over neighbouring elements, that is
 *      4 bits  [4]: of group g the low nibbles are elements 4g..4g+3, the high ones 16 behind;
 *      2 bits  [2]: of group v the bits 0, 2, 4, 6 are elements 8v.., 8v+16.., 8v+4.., 8v+20..;
 *      1 bit   [1]: the bits 0..7 are elements 0.., 4.., ... 28..;
 *      8 bits  [8]: whole bytes; levels that multiply signed ones have 128 taken from the codes.
 *
 * A panel is a multiple of 64 bytes. */
#ifndef FTK_PANEL_H
#define FTK_PANEL_H

#include "kernels/codes.h"

enum { FTK_GROUP = 4 /* bytes a lane multiplies and adds in one instruction */ };

/* Bytes per lane of what the blocks of 32 and the units have in scales, and of a block's codes. */
static inline size_t ftk_lane_block_scales(ftk_form f)
{
    if (f.unit == FTK_QBLOCK) return 0;
    return f.sub < FTK_QBLOCK || f.min ? 2 : 1;
}

static inline size_t ftk_lane_unit_scales(ftk_form f)
{
    const size_t blocks = (size_t)f.unit / FTK_QBLOCK;
    return (f.min ? 2 : 1) * sizeof(uint16_t) + blocks * ftk_lane_block_scales(f);
}

static inline size_t ftk_lane_block_codes(ftk_form f)
{
    return (size_t)f.bits * FTK_QBLOCK / 8;
}

size_t ftk_panel_bytes(ftk_type type, int width, int n_in);
/* All panels of a matrix, 0 for an unsupported type. */
size_t ftk_panels_bytes(ftk_type type, int width, int n_out, int n_in);
/* flip is xored to every code of 8 bits: 0x80 makes it a signed byte. */
void ftk_panels_pack(ftk_type type, int width, uint8_t flip, int n_out, int n_in, const void *src,
                     void *dst);
/* One row, lane `at` of a panel, whose half floats are multiplied by a power of two. */
void ftk_panel_pack_row(ftk_type type, int width, uint8_t flip, float factor, int n_in,
                        const void *row, size_t at, void *panel);

#endif
