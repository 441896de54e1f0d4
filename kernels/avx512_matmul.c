/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product for AVX-512 with VNNI. Compiled with -mavx512f -mavx512bw -mavx512vl
 * -mavx512dq -mavx512vnni -mfma -mf16c. */
#include "kernels/avx512_vector.h"

#include "kernels/levels.h"

INLINE int tile_rows(ftk_type type)
{
    (void)type;
    return 6;
}

/* For one row of a K type too: it has one sum a vector, and waits for it where threads share a
 * core. */
INLINE int tile_vectors(ftk_type type, int rows)
{
    (void)type;
    (void)rows;
    return 2;
}

#include "kernels/matmultile.h"

static void pack_avx512(ftk_type type, int n_out, int n_in, const void *src, void *dst)
{
    ftk_panels_pack(type, LANES, 0, n_out, n_in, src, dst);
}

void ftk_avx512_matmul(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o0,
                       int o1, float *y, size_t ldy)
{
    matmul_tiles(w, act, act_stride, n_rows, o0, o1, y, ldy);
}

void ftk_kernels_avx512_matmul(ftk_kernels *k)
{
    k->pack_bytes = pack_bytes_tiles;
    k->pack = pack_avx512;
    k->matmul_grain = WIDTH;
    k->matmul = matmul_tiles;
}
