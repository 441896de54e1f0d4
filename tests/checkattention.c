/* SPDX-License-Identifier: Apache-2.0 */
#include "checkattention.h"

#include <string.h>

static void copy_slot(const scene *from, int a, scene *to, int b)
{
    for (int h = 0; h < from->a.n_head_kv; h++) {
        memcpy((char *)to->k_pages[b / FTK_PAGE] + slot_at(to, h, b),
               (char *)from->k_pages[a / FTK_PAGE] + slot_at(from, h, a), from->slot_bytes);
        memcpy((char *)to->v_pages[b / FTK_PAGE] + slot_at(to, h, b),
               (char *)from->v_pages[a / FTK_PAGE] + slot_at(from, h, a), from->slot_bytes);
    }
}

static double kv_at(const scene *s, void *const *pages, int head_kv, int slot, int i)
{
    const void *p = (const char *)pages[slot / FTK_PAGE] + slot_at(s, head_kv, slot);
    if (s->a.kv_type == FTK_TYPE_F32) return ((const float *)p)[i];
    if (s->a.kv_type == FTK_TYPE_F16) return ftk_f16_f32(((const uint16_t *)p)[i]);
    const ftk_q8_0 *b = (const ftk_q8_0 *)p + i / FTK_QBLOCK;
    return ftk_f16_f32(b->d) * (float)b->q[i % FTK_QBLOCK];
}

static bool in_path(const scene *s, int row, int slot)
{
    const int j = slot - s->a.prefix;
    return j < 0 || (s->mask[row][j / 64] >> (j % 64) & 1);
}

static bool visible(const scene *s, int row, int slot)
{
    int behind = 0; /* keys of the row's path from this one on */
    for (int i = slot; s->a.window > 0 && i <= s->a.prefix + row; i++) behind += in_path(s, row, i);
    return in_path(s, row, slot) && behind <= s->a.window;
}

/* What a key or value may lose in tiles: below 2^-4 its lesser part, below 2^-14 all. */
static double lost(bool tiles, double x)
{
    const double size = fabs(x);
    return !tiles || size >= 0x1p-4 ? 0 : size >= 0x1p-14 ? size * 0x1p-8 : size;
}

/* One row and head by the textbook, in double. In tiles queries have 16 bits, and weights 8. */
static bool row_close(const check *c, const scene *s, int row, int head)
{
    const bool tiles =
        in_tiles(c) && s->a.kv_type == FTK_TYPE_F16 && s->a.head_dim % FTK_QBLOCK == 0;
    const int d = s->a.head_dim, slots = s->a.prefix + s->n_nodes;
    const int kv = head / (s->a.n_head / s->a.n_head_kv);
    const size_t at = ((size_t)row * (size_t)s->a.n_head + (size_t)head) * (size_t)d;
    double p[MAX_PAGES * FTK_PAGE], top = -INFINITY, sum = 0, score_err = 0;
    int n = 0;
    for (int i = 0; i < slots; i++) {
        if (!visible(s, row, i)) continue;
        double dot = 0, size = 0, short_by = 0;
        for (int e = 0; e < d; e++) {
            const double q = s->q[at + (size_t)e], key = kv_at(s, s->k_pages, kv, i, e);
            dot += q * key;
            size += fabs(q * key);
            short_by += fabs(q) * lost(tiles, key);
        }
        p[i] = dot * (double)s->a.scale;
        short_by += size * (EPS * (8 + d / 8.0) + (tiles ? 0x1p-14 : 0));
        score_err = fmax(score_err, short_by * (double)s->a.scale);
        top = fmax(top, p[i]);
        n++;
    }
    for (int i = 0; i < slots; i++)
        if (visible(s, row, i)) sum += p[i] = exp(p[i] - top);
    for (int e = 0; e < d; e++) {
        double want = 0, size = 0, short_by = n * 0x1p-147;
        for (int i = 0; i < slots; i++) {
            if (!visible(s, row, i)) continue;
            const double w = p[i] / sum, value = kv_at(s, s->v_pages, kv, i, e);
            want += w * value;
            size += fabs(w * value);
            short_by += w * lost(tiles, value);
        }
        const double rounding_of_weights = tiles ? 0x1p-8 : 0;
        const double tol =
            size * (4 * score_err + EPS * (24 + n / 8.0) + rounding_of_weights) + short_by;
        if (!close_to(s->a.out[at + (size_t)e], want, tol)) return false;
    }
    return true;
}

/* The path to `node` decoded as a chain, `committed` of its nodes being prefix already. */
static void check_chain(check *c, scene *tree, const int *parent, int node, bool all_committed)
{
    int path[FTK_MAX_NODES], depth = 0;
    for (int i = node; i >= 0; i = parent[i]) path[depth++] = i;
    const int committed = all_committed ? depth - 1 : below(c, depth);
    ftk_attn a = tree->a;
    a.n_rows = 1;
    a.prefix += committed;
    scene s = scene_new(c, a, depth - committed);
    for (int i = 0; i < tree->a.prefix; i++) copy_slot(tree, i, &s, i);
    for (int i = 0; i < depth; i++)
        copy_slot(tree, tree->a.prefix + path[depth - 1 - i], &s, tree->a.prefix + i);
    for (int i = 0; i < s.n_nodes; i++) s.mask[0][i / 64] |= (uint64_t)1 << (i % 64);
    const size_t row = (size_t)(a.n_head * a.head_dim);
    memcpy(s.q, tree->q + (size_t)node * row, row * sizeof(float));
    attend(c, &s, 1);
    expect(c, same(s.a.out, tree->a.out + (size_t)node * row, row * sizeof(float)),
           "a tree row differs from its chain (node, committed)", node, committed);
    scene_free(&s);
}

/* NaN in a slot reaches the rows that see it, wholly, and leaves the others alone. node: counted
 * from the prefix's end, negative in the prefix. */
static void check_spoilt(check *c, scene *s, const float *clean, int node, bool in_key)
{
    void *const *pages = in_key ? s->k_pages : s->v_pages;
    const int slot = s->a.prefix + node, d = s->a.head_dim;
    char *at = (char *)pages[slot / FTK_PAGE] + slot_at(s, 0, slot);
    char kept[FTK_MAX_HEAD_DIM * sizeof(float)];
    memcpy(kept, at, s->slot_bytes);
    memset(at, BLANK, s->slot_bytes);
    attend(c, s, FTK_ATTN_TILE);
    const int group = s->a.n_head / s->a.n_head_kv;
    for (int r = 0; r < s->a.n_rows; r++) {
        const float *got = s->a.out + (size_t)r * (size_t)(s->a.n_head * d);
        if (!visible(s, r, slot)) {
            expect(c, same(got, clean + (got - s->a.out), (size_t)(s->a.n_head * d) * sizeof *got),
                   "an invisible slot changed a row (row, node)", r, node);
            continue;
        }
        bool all = true;
        for (int i = 0; i < group * d; i++) all &= isnan(got[i]) != 0;
        expect(c, all, "NaN was hidden (row, node)", r, node);
    }
    memcpy(at, kept, s->slot_bytes);
}

static void check_scene(check *c, ftk_attn a, int n_nodes, int kind)
{
    int parent[FTK_MAX_NODES];
    a.n_rows = n_nodes;
    scene s = scene_new(c, a, n_nodes);
    grow_tree(c, &s, parent);
    fill_scene(c, &s, kind);
    attend(c, &s, FTK_ATTN_TILE);
    for (int r = 0; r < n_nodes; r += 1 + n_nodes / 8)
        for (int h = 0; h < a.n_head; h++)
            expect(c, row_close(c, &s, r, h), "value is off (row, head)", r, h);
    float *clean = guarded(s.out_bytes);
    memcpy(clean, s.a.out, s.out_bytes);
    for (int tile = 1; tile < FTK_ATTN_TILE; tile += c->emulated ? 4 : 2) {
        attend(c, &s, tile);
        expect(c, same(s.a.out, clean, s.out_bytes), "rows depend on the tile (size, rows)", tile,
               n_nodes);
    }
    for (int i = 0; i < 4; i++) check_chain(c, &s, parent, below(c, n_nodes), i == 0);
    check_spoilt(c, &s, clean, below(c, n_nodes), true);
    check_spoilt(c, &s, clean, below(c, n_nodes), false);
    for (int i = 0; a.window > 0 && a.prefix > 0 && i < 4; i++)
        check_spoilt(c, &s, clean, -1 - below(c, a.prefix), i % 2);
    unguard(clean);
    scene_free(&s);
}

void check_attention(check *c)
{
    static const int dims[] = {2, 8, 16, 36, 48, 64, 80, 128, 256};
    static const int heads[][2] = {{1, 1}, {4, 2}, {8, 1}, {6, 2}, {3, 3}};
    static const int prefixes[] = {0, 1, 15, 63, 64, 65, 130, 300};
    static const int nodes[] = {1, 2, 7, 17, 64, 65, 128};
    static const int windows[] = {0, 0, 0, 1, 5, 16, 70, 200};
    for (int i = 0; i < (c->emulated ? 27 : 240); i++) {
        const int h = below(c, 5);
        ftk_attn a = {.head_dim = dims[i % 9], .n_head = heads[h][0], .n_head_kv = heads[h][1]};
        a.scale = (float)(1 / sqrt(a.head_dim));
        static const ftk_type kinds[] = {FTK_TYPE_F16, FTK_TYPE_F32, FTK_TYPE_Q8_0};
        a.kv_type = kinds[below(c, a.head_dim % FTK_QBLOCK == 0 ? 3 : 2)];
        a.prefix = prefixes[below(c, 8)];
        const int n_nodes = nodes[below(c, 7)];
        const int kind = below(c, 3) ? NORMAL : below(c, N_KINDS);
        a.window = windows[below(c, 8)];
        check_scene(c, a, n_nodes, kind);
    }
}
