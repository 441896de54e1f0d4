/* SPDX-License-Identifier: Apache-2.0
 * See cudalevel.h. Buffers of a call lie in one piece of device memory, each between two
 * canaries. */
#include "cudalevel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/blocks.h"
#include "kernels/codes.h"
#include "kernels/cuda/cuda.h"
#include "kernels/levels.h"

enum { GUARD = 256, CANARY = 0xa5, MOST = 64 };
static const size_t SPACE = (size_t)96 << 20;

static ftk_queue queue;
static ftk_kernels ref;
static char *space;
static size_t used;
static bool good = true;
static struct {
    char *at;
    size_t bytes;
} buffers[MOST];
static int n_buffers;

/* A buffer with a copy of src, or, without one, of nothing. */
static void *give(const void *src, size_t bytes)
{
    static unsigned char canaries[GUARD];
    memset(canaries, CANARY, sizeof canaries);
    const size_t room = (bytes + GUARD - 1) / GUARD * GUARD + (size_t)2 * GUARD;
    if (n_buffers == MOST || used + room > SPACE) {
        fprintf(stderr, "checkkernels: a case is too large for the device's buffers\n");
        exit(2);
    }
    char *at = space + used + GUARD;
    used += room;
    ftk_cuda_upload(&queue, at - GUARD, canaries, GUARD);
    ftk_cuda_upload(&queue, at + bytes, canaries, GUARD);
    if (src) ftk_cuda_upload(&queue, at, src, bytes);
    buffers[n_buffers].at = at;
    buffers[n_buffers++].bytes = bytes;
    return at;
}

static void take(void *dst, const void *from, size_t bytes)
{
    ftk_cuda_download(&queue, dst, from, bytes);
    good &= ftk_cuda_wait(&queue);
}

/* Ends a call: all canaries are still there. */
static void done(void)
{
    unsigned char seen[GUARD];
    for (int i = 0; i < n_buffers; i++)
        for (int side = 0; side < 2; side++) {
            take(seen, side ? buffers[i].at + buffers[i].bytes : buffers[i].at - GUARD, GUARD);
            for (int j = 0; j < GUARD; j++) good &= seen[j] == CANARY;
        }
    n_buffers = 0;
    used = 0;
}

/* ------------------------------------------------------------------ products */

static void pack(ftk_type type, int n_out, int n_in, const void *src, void *dst)
{
    const int n = (n_out + FTK_TILE_OUT - 1) / FTK_TILE_OUT;
    ftk_tiles_pack(type, n_out, n_in, src, 0, n, dst);
}

enum { ACT_BLOCK = FTK_TILE_ROWS * (FTK_QBLOCK + 3 * 4) };

/* Quantised activations of a row in a group, to or from the form of the table. */
static void move_act(char *block, int row, ftk_qact *a, bool to_tiles)
{
    for (int i = 0; i < FTK_QBLOCK; i++) {
        char *q = block + (row * 4 + i % 16 / 4) * 8 + i / 16 * 4 + i % 4;
        if (to_tiles)
            *q = (char)a->q[i];
        else
            a->q[i] = (int8_t)*q;
    }
    char *d = block + FTK_TILE_ROWS * FTK_QBLOCK + row * 4;
    char *minus = block + FTK_TILE_ROWS * (FTK_QBLOCK + 4) + row * 8;
    if (to_tiles) {
        memcpy(d, &a->d, 4);
        memcpy(minus, a->minus_half, 8);
        return;
    }
    memcpy(&a->d, d, 4);
    memcpy(a->minus_half, minus, 8);
    a->minus = a->minus_half[0] + a->minus_half[1];
}

static void act_pack(ftk_type type, int n_in, const float *x, void *dst)
{
    if (ftk_type_block(type) == 1) {
        memcpy(dst, x, (size_t)n_in * sizeof *x);
        return;
    }
    const size_t bytes = ftk_tile_act_bytes(FTK_TILE_I8, 1, n_in);
    const void *in = give(x, (size_t)n_in * sizeof *x);
    void *out = give(NULL, bytes);
    ftk_cuda_act(&queue, FTK_TILE_I8, 1, n_in, in, out);
    char *tiles = malloc(bytes);
    take(tiles, out, bytes);
    for (int b = 0; b < n_in / FTK_QBLOCK; b++)
        move_act(tiles + (size_t)b * ACT_BLOCK, 0, (ftk_qact *)dst + b, false);
    free(tiles);
    done();
}

/* Rows of activations on the device, in the form the matrix reads. */
static const void *give_act(const ftk_mat *w, const char *act, size_t stride, int n_rows)
{
    const ftk_tile_act form = ftk_tile_act_of(w->type);
    const size_t bytes = ftk_tile_act_bytes(form, n_rows, w->n_in);
    char *host = calloc(1, bytes);
    if (form == FTK_TILE_I8) {
        const int n_blocks = w->n_in / FTK_QBLOCK;
        for (int r = 0; r < n_rows; r++)
            for (int b = 0; b < n_blocks; b++) {
                ftk_qact a;
                memcpy(&a, act + (size_t)r * stride + (size_t)b * sizeof a, sizeof a);
                char *at =
                    host + ((size_t)(r / FTK_TILE_ROWS) * (size_t)n_blocks + (size_t)b) * ACT_BLOCK;
                move_act(at, r % FTK_TILE_ROWS, &a, true);
            }
        const void *out = give(host, bytes);
        free(host);
        return out;
    }
    const size_t row = (size_t)w->n_in * sizeof(float);
    char *rows = malloc((size_t)n_rows * row);
    for (int r = 0; r < n_rows; r++) memcpy(rows + (size_t)r * row, act + (size_t)r * stride, row);
    void *x = give(rows, (size_t)n_rows * row), *out = x;
    if (form != FTK_TILE_F32) {
        out = give(NULL, bytes);
        ftk_cuda_act(&queue, form, n_rows, w->n_in, x, out);
    }
    free(rows);
    free(host);
    return out;
}

static void matmul(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o0, int o1,
                   float *y, size_t ldy)
{
    const char *data = (const char *)w->data + ftk_tiles_bytes(w->type, o0, w->n_in);
    const void *weights = give(data, ftk_tiles_bytes(w->type, o1 - o0, w->n_in));
    const ftk_cuda_mat m = {w->type, o1 - o0, w->n_in, weights};
    const void *x = give_act(w, act, act_stride, n_rows);
    const size_t bytes = ((size_t)(n_rows - 1) * ldy + (size_t)(o1 - o0)) * sizeof *y;
    float *out = give(y + o0, bytes);
    ftk_cuda_matmul(&queue, &m, x, n_rows, NULL, false, out, ldy);
    take(y + o0, out, bytes);
    done();
}

static void dequant_row(ftk_type type, int n, const void *row, float *y)
{
    const size_t bytes = ftk_tiles_bytes(type, 1, n);
    char *tiles = malloc(bytes);
    pack(type, 1, n, row, tiles);
    const int32_t token = 0;
    const ftk_cuda_mat m = {type, 1, n, give(tiles, bytes)};
    float *out = give(NULL, (size_t)n * sizeof *y);
    ftk_cuda_embed(&queue, &m, 1, give(&token, sizeof token), 1.0f, out);
    take(y, out, (size_t)n * sizeof *y);
    free(tiles);
    done();
}

/* ------------------------------------------------------------------ rows */

static void rms_norm(int n, const float *x, const float *w, float eps, float *y)
{
    const size_t bytes = (size_t)n * sizeof *x;
    float *in = give(x, bytes), *out = x == y ? in : give(NULL, bytes);
    ftk_cuda_rms_norm(&queue, 1, 1, n, in, (size_t)n, NULL, give(w, bytes), eps, out, (size_t)n);
    take(y, out, bytes);
    done();
}

static void turn(bool halves, int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    const size_t n = (size_t)n_heads * (size_t)head_dim;
    float *at = give(x, n * sizeof *x);
    const int32_t pos = 0;
    ftk_cuda_rope(&queue, halves, 1, n_heads, head_dim, n_rot, give(cs, (size_t)n_rot * sizeof *cs),
                  give(&pos, sizeof pos), at, n);
    take(x, at, n * sizeof *x);
    done();
}

static void rope(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    turn(false, n_heads, head_dim, n_rot, cs, x);
}

static void rope_halves(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    turn(true, n_heads, head_dim, n_rot, cs, x);
}

static void gate_by(bool gelu, int n, float *gate, const float *up)
{
    const size_t bytes = (size_t)n * sizeof *gate;
    float *x = give(gate, bytes);
    ftk_cuda_gate(&queue, gelu, (size_t)n, x, give(up, bytes));
    take(gate, x, bytes);
    done();
}

static void silu_mul(int n, float *gate, const float *up)
{
    gate_by(false, n, gate, up);
}

static void gelu_mul(int n, float *gate, const float *up)
{
    gate_by(true, n, gate, up);
}

static void add(int n, const float *x, float *y)
{
    const size_t bytes = (size_t)n * sizeof *x;
    float *to = give(y, bytes);
    ftk_cuda_add(&queue, (size_t)n, give(x, bytes), to);
    take(y, to, bytes);
    done();
}

/* ------------------------------------------------------------------ KV cache, attention */

/* Into the second of three slots of a page: the others, and what lies around, must stay. */
static void kv_store(ftk_type type, int n, const float *x, void *dst)
{
    const size_t row = ftk_type_bytes(type, (size_t)n), plane = FTK_PAGE * row;
    const int32_t page = 0;
    char *before = malloc(2 * plane), *after = malloc(2 * plane);
    memset(before, CANARY, 2 * plane);
    const ftk_cuda_kv kv = {.pool = give(before, 2 * plane),
                            .page_bytes = 2 * plane,
                            .values = plane,
                            .n_head_kv = 1,
                            .head_dim = n,
                            .type = type,
                            .page = give(&page, sizeof page)};
    const float *in = give(x, (size_t)n * sizeof *x);
    const ftk_cuda_span span = {.prefix = 1, .n_rows = 1, .n_slots = 2};
    ftk_cuda_kv_store(&queue, &kv, 3, give(&span, sizeof span), in, in, (size_t)n);
    take(after, kv.pool, 2 * plane);
    memcpy(dst, after + row, row);
    good &= memcmp(after + row, after + plane + row, row) == 0;
    memcpy(before + row, after + row, row);
    memcpy(before + plane + row, after + row, row);
    good &= memcmp(before, after, 2 * plane) == 0;
    free(before);
    free(after);
    done();
}

static size_t attn_scratch(int head_dim, int group, int max_slots)
{
    (void)head_dim;
    (void)group;
    (void)max_slots;
    return 16;
}

/* Where pages lie is turned round, so that a slot's page matters. */
static void attention(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch)
{
    (void)scratch;
    const int group = a->n_head / a->n_head_kv, n_rows = row1 - row0;
    int last = a->prefix - 1;
    for (int r = row0; r < row1; r++)
        for (int j = 0; j < 128; j++)
            if (a->mask[r][j / 64] >> j % 64 & 1 && a->prefix + j > last) last = a->prefix + j;
    const int n_pages = last / FTK_PAGE + 1;
    const size_t head = FTK_PAGE * ftk_type_bytes(a->kv_type, (size_t)a->head_dim);
    char *pool = malloc((size_t)n_pages * 2 * head);
    int32_t page[64];
    for (int i = 0; i < n_pages; i++) {
        page[i] = n_pages - 1 - i;
        char *at = pool + (size_t)page[i] * 2 * head;
        memcpy(at, (const char *)a->k_pages[i] + (size_t)head_kv * head, head);
        memcpy(at + head, (const char *)a->v_pages[i] + (size_t)head_kv * head, head);
    }
    const size_t row = (size_t)(group * a->head_dim), all = (size_t)a->n_head * (size_t)a->head_dim;
    float *rows = malloc((size_t)n_rows * row * sizeof *rows);
    const size_t first = (size_t)row0 * all + (size_t)head_kv * row;
    for (int r = 0; r < n_rows; r++)
        memcpy(rows + (size_t)r * row, a->q + first + (size_t)r * all, row * sizeof *rows);
    const ftk_cuda_kv kv = {.pool = give(pool, (size_t)n_pages * 2 * head),
                            .page_bytes = 2 * head,
                            .values = head,
                            .n_head_kv = 1,
                            .head_dim = a->head_dim,
                            .type = a->kv_type,
                            .page = give(page, (size_t)n_pages * sizeof *page)};
    /* room for three rows at a time, to see that taken apart */
    const size_t partial = ftk_cuda_attn_partial(3, group, a->head_dim, last + 1 + FTK_CUDA_CHUNK);
    /* laid out for more rows and slots than there are, as a pass that is kept is */
    const ftk_cuda_span span = {.prefix = a->prefix, .n_rows = n_rows, .n_slots = last + 1};
    const ftk_cuda_attn job = {.n_rows = n_rows + 2,
                               .n_slots = last + 1 + FTK_CUDA_CHUNK,
                               .span = give(&span, sizeof span),
                               .n_head = group,
                               .window = a->window,
                               .scale = a->scale,
                               .q = give(rows, (size_t)n_rows * row * sizeof *rows),
                               .out = give(NULL, (size_t)n_rows * row * sizeof *rows),
                               .mask = give(a->mask + row0, (size_t)n_rows * sizeof *a->mask),
                               .partial = give(NULL, partial),
                               .partial_bytes = partial};
    ftk_cuda_attention(&queue, &job, &kv);
    take(rows, job.out, (size_t)n_rows * row * sizeof *rows);
    for (int r = 0; r < n_rows; r++)
        memcpy(a->out + first + (size_t)r * all, rows + (size_t)r * row, row * sizeof *rows);
    free(rows);
    free(pool);
    done();
}

/* ------------------------------------------------------------------ life */

const char *ftk_kernels_cuda(ftk_kernels *k, int device)
{
    static ftk_cuda_info info;
    ftk_kernels_ref(&ref);
    *k = (ftk_kernels){
        .name = ftk_cuda_emulated() ? "cuda-emu" : "cuda",
        .pack_bytes = ftk_tiles_bytes,
        .pack = pack,
        .act_bytes = ref.act_bytes,
        .act_pack = act_pack,
        .matmul_grain = FTK_TILE_OUT,
        .matmul = matmul,
        .dequant_row = dequant_row,
        .rms_norm = rms_norm,
        .rope = rope,
        .rope_halves = rope_halves,
        .silu_mul = silu_mul,
        .gelu_mul = gelu_mul,
        .add = add,
        .kv_store = kv_store,
        .attn_scratch = attn_scratch,
        .attention = attention,
    };
    if (!ftk_cuda_probe(device, &info)) return info.problem;
    if (!ftk_cuda_open(&queue, device)) return "a queue cannot be opened";
    space = ftk_cuda_alloc(&queue, SPACE);
    return space ? NULL : "its memory is taken";
}

bool ftk_kernels_cuda_intact(void)
{
    return good;
}

void ftk_kernels_cuda_close(void)
{
    ftk_cuda_free(&queue, space);
    ftk_cuda_close(&queue);
}
