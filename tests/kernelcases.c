/* SPDX-License-Identifier: Apache-2.0
 * See kernelcases.h. */
#include "kernelcases.h"

bool expect(check *c, bool ok, const char *what, long a, long b)
{
    if (ok) {
        c->passed++;
        return true;
    }
    if (c->failed++ < 20)
        printf("FAIL %s %s: %s (%ld, %ld)\n"
               "  again: checkkernels --seed %llu --level %s --kernel %s\n",
               c->k->name, c->entry, what, a, b, (unsigned long long)c->seed, c->k->name, c->entry);
    return false;
}

uint64_t next_u64(check *c)
{
    uint64_t z = c->rng += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int below(check *c, int n)
{
    return (int)(next_u64(c) % (uint64_t)n);
}

float normal(check *c)
{
    const double u = ((double)(next_u64(c) >> 11) + 1) * 0x1p-53;
    const double v = (double)(next_u64(c) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static const float factors[] = {1.0f, 1e-20f, 1e30f, 1e-41f};

void fill(check *c, int kind, size_t n, float *x)
{
    for (size_t i = 0; i < n; i++) x[i] = normal(c) * factors[kind];
}

/* ------------------------------------------------------------------ guarded memory */

void *guarded(size_t bytes)
{
    const size_t total = (bytes + 63) / 64 * 64 + (size_t)2 * GUARD;
    unsigned char *p = aligned_alloc(64, total);
    if (!p) {
        fprintf(stderr, "checkkernels: out of memory\n");
        exit(2);
    }
    memset(p, CANARY, total);
    memset(p + GUARD, BLANK, bytes);
    return p + GUARD;
}

void unguard(void *p)
{
    free((unsigned char *)p - GUARD);
}

bool intact(const void *p, size_t bytes)
{
    const unsigned char *u = p;
    for (int i = 0; i < GUARD; i++)
        if (u[i - GUARD] != CANARY || u[bytes + (size_t)i] != CANARY) return false;
    return true;
}

bool is_blank(const void *p, size_t bytes)
{
    const unsigned char *u = p;
    for (size_t i = 0; i < bytes; i++)
        if (u[i] != BLANK) return false;
    return true;
}

bool same(const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0;
}

/* ------------------------------------------------------------------ matrices */

const ftk_type types[N_TYPES] = {
    FTK_TYPE_F32,  FTK_TYPE_F16,  FTK_TYPE_BF16, FTK_TYPE_Q8_0,   FTK_TYPE_Q4_0,
    FTK_TYPE_Q4_1, FTK_TYPE_Q5_0, FTK_TYPE_Q5_1, FTK_TYPE_Q2_K,   FTK_TYPE_Q3_K,
    FTK_TYPE_Q4_K, FTK_TYPE_Q5_K, FTK_TYPE_Q6_K, FTK_TYPE_IQ4_NL, FTK_TYPE_IQ4_XS,
};

/* The half floats of a block: how many, and where the first is. */
static size_t find_halves(ftk_type type, size_t *n)
{
    *n = 1;
    switch (type) {
    case FTK_TYPE_Q4_1:
    case FTK_TYPE_Q5_1:
    case FTK_TYPE_Q4_K:
    case FTK_TYPE_Q5_K: *n = 2; return 0;
    case FTK_TYPE_Q2_K: *n = 2; return offsetof(ftk_q2_k, d);
    case FTK_TYPE_Q3_K: return offsetof(ftk_q3_k, d);
    case FTK_TYPE_Q6_K: return offsetof(ftk_q6_k, d);
    default: return 0;
    }
}

static void random_blocks(check *c, ftk_type type, size_t n, unsigned char *w)
{
    const size_t block = ftk_type_bytes(type, ftk_type_block(type));
    size_t n_halves;
    const size_t at = find_halves(type, &n_halves);
    for (size_t i = 0; i < n / ftk_type_block(type); i++, w += block) {
        for (size_t j = 0; j < block; j++) w[j] = (unsigned char)next_u64(c);
        for (size_t h = 0; h < n_halves; h++) {
            const uint16_t d = ftk_f32_f16(normal(c) * 0.01f);
            memcpy(w + at + h * sizeof d, &d, sizeof d);
        }
    }
}

void *random_matrix(check *c, ftk_type type, size_t n)
{
    unsigned char *w = guarded(ftk_type_bytes(type, n));
    if (ftk_type_block(type) > 1) {
        random_blocks(c, type, n, w);
        return w;
    }
    for (size_t i = 0; i < n; i++) {
        const float f = normal(c);
        const uint16_t h = type == FTK_TYPE_F16 ? ftk_f32_f16(f) : ftk_f32_bf16(f);
        if (type == FTK_TYPE_F32)
            memcpy(w + i * sizeof f, &f, sizeof f);
        else
            memcpy(w + i * sizeof h, &h, sizeof h);
    }
    return w;
}

void pack_rows(check *c, product *p)
{
    /* check_act_pack holds them to the same bits */
    const ftk_kernels *k = c->emulated ? c->ref : c->k;
    for (int r = 0; r < MAX_ROWS; r++)
        k->act_pack(p->m.type, p->m.n_in, p->x + (size_t)r * (size_t)p->m.n_in,
                    p->act + (size_t)r * p->stride);
}

product product_new(check *c, ftk_type type, int n_out, int n_in, int kind)
{
    product p = {.m = {.type = type, .n_out = n_out, .n_in = n_in}, .ldy = (size_t)n_out + 5};
    const size_t cells = (size_t)n_out * (size_t)n_in;
    p.gguf = random_matrix(c, type, cells);
    p.m.data = p.gguf;
    const size_t bytes = c->k->pack_bytes(type, n_out, n_in);
    if (bytes) {
        p.packed = guarded(bytes);
        c->k->pack(type, n_out, n_in, p.gguf, p.packed);
        expect(c, intact(p.packed, bytes), "pack wrote outside its output", n_out, n_in);
        p.m.data = p.packed;
    }
    p.stride = c->k->act_bytes(type, n_in);
    expect(c, p.stride % 64 == 0, "act_bytes is no multiple of 64", n_out, n_in);
    p.act = guarded(MAX_ROWS * p.stride);
    p.x = guarded(MAX_ROWS * (size_t)n_in * sizeof(float));
    fill(c, kind, MAX_ROWS * (size_t)n_in, p.x);
    pack_rows(c, &p);
    expect(c, intact(p.act, MAX_ROWS * p.stride), "act_pack wrote outside", n_out, n_in);
    p.single = guarded(MAX_ROWS * p.ldy * sizeof(float));
    return p;
}

void product_free(product *p)
{
    unguard(p->gguf);
    if (p->packed) unguard(p->packed);
    unguard(p->act);
    unguard(p->x);
    unguard(p->single);
}

/* ------------------------------------------------------------------ attention */

size_t slot_at(const scene *s, int head_kv, int slot)
{
    return ((size_t)head_kv * FTK_PAGE + (size_t)(slot % FTK_PAGE)) * s->slot_bytes;
}

scene scene_new(const check *c, ftk_attn a, int n_nodes)
{
    scene s = {.a = a, .n_nodes = n_nodes};
    const int slots = a.prefix + n_nodes;
    s.slot_bytes = ftk_type_bytes(a.kv_type, (size_t)a.head_dim);
    s.n_pages = (slots + FTK_PAGE - 1) / FTK_PAGE;
    for (int p = 0; p < s.n_pages; p++) {
        s.k_pages[p] = guarded((size_t)a.n_head_kv * FTK_PAGE * s.slot_bytes);
        s.v_pages[p] = guarded((size_t)a.n_head_kv * FTK_PAGE * s.slot_bytes);
    }
    s.out_bytes = (size_t)a.n_rows * (size_t)(a.n_head * a.head_dim) * sizeof(float);
    s.q = guarded(s.out_bytes);
    s.a.out = guarded(s.out_bytes);
    s.scratch =
        guarded(c->k->attn_scratch(a.head_dim, a.n_head / a.n_head_kv, slots) * sizeof(float));
    return s;
}

void scene_free(scene *s)
{
    for (int p = 0; p < s->n_pages; p++) {
        unguard(s->k_pages[p]);
        unguard(s->v_pages[p]);
    }
    unguard(s->q);
    unguard(s->a.out);
    unguard(s->scratch);
}

void attend(check *c, scene *s, int tile)
{
    s->a.k_pages = (const void *const *)s->k_pages;
    s->a.v_pages = (const void *const *)s->v_pages;
    s->a.mask = (const uint64_t(*)[2])s->mask;
    s->a.q = s->q;
    memset(s->a.out, BLANK, s->out_bytes);
    for (int h = 0; h < s->a.n_head_kv; h++)
        for (int r = 0; r < s->a.n_rows; r += tile) {
            const int end = r + tile < s->a.n_rows ? r + tile : s->a.n_rows;
            c->k->attention(&s->a, h, r, end, s->scratch);
        }
    const int slots = s->a.prefix + s->n_nodes, group = s->a.n_head / s->a.n_head_kv;
    const size_t floats = c->k->attn_scratch(s->a.head_dim, group, slots);
    expect(c, intact(s->scratch, floats * sizeof(float)), "scratch is too small", slots, group);
    expect(c, intact(s->a.out, s->out_bytes), "wrote outside", slots, group);
}

void grow_tree(check *c, scene *s, int *parent)
{
    for (int i = 0; i < s->n_nodes; i++) {
        parent[i] = i == 0 ? -1 : i - 1 - below(c, i < 4 ? i : 4);
        if (i > 0) memcpy(s->mask[i], s->mask[parent[i]], sizeof s->mask[i]);
        s->mask[i][i / 64] |= (uint64_t)1 << (i % 64);
    }
}

void fill_scene(check *c, scene *s, int kind)
{
    float x[FTK_MAX_HEAD_DIM];
    const float sharp = kind == HUGE_VALUES ? 8.0f : 1.0f;
    for (int slot = 0; slot < s->a.prefix + s->n_nodes; slot++)
        for (int h = 0; h < s->a.n_head_kv; h++) {
            fill(c, kind == HUGE_VALUES ? NORMAL : kind, (size_t)s->a.head_dim, x);
            c->ref->kv_store(s->a.kv_type, s->a.head_dim, x,
                             (char *)s->k_pages[slot / FTK_PAGE] + slot_at(s, h, slot));
            const bool big = s->a.kv_type == FTK_TYPE_F32;
            fill(c, kind == HUGE_VALUES && !big ? NORMAL : kind, (size_t)s->a.head_dim, x);
            c->ref->kv_store(s->a.kv_type, s->a.head_dim, x,
                             (char *)s->v_pages[slot / FTK_PAGE] + slot_at(s, h, slot));
        }
    fill(c, NORMAL, s->out_bytes / sizeof(float), s->q);
    for (size_t i = 0; i < s->out_bytes / sizeof(float); i++) s->q[i] *= sharp;
}
