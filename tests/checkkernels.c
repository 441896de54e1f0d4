/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks every entry of the kernel table, on every level this machine has.
 *
 *     checkkernels [--seed N] [--level NAME] [--kernel NAME] [--device N]
 *
 * Values are compared with a plain computation in double; what is promised to the bit (a row does
 * not depend on its company, a tree row equals its path as a chain) is compared to the bit. Level
 * "ref" is checked in full, of the others the entries that differ from it. Exit: 0 passed, 1
 * failed, 2 usage, 77 no level beyond ref here. */
#include "checkattention.h"
#include "checkelements.h"
#include "checkrows.h"
#include "cudalevel.h"
#include "kernelcases.h"
#include "kernels/levels.h"

/* ------------------------------------------------------------------ matrices */

static double activation(const check *c, const product *p, int r, size_t i)
{
    if (in_tiles(c)) return p->x[(size_t)r * (size_t)p->m.n_in + i];
    const void *const act = p->act + (size_t)r * p->stride;
    if (ftk_type_block(p->m.type) == 1) return ((const float *)act)[i];
    const ftk_qact *a = (const ftk_qact *)act + i / FTK_QBLOCK;
    return (double)a->d * a->q[i % FTK_QBLOCK];
}

static void one_by_one(check *c, product *p)
{
    for (int r = 0; r < MAX_ROWS; r++)
        c->k->matmul(&p->m, p->act + (size_t)r * p->stride, p->stride, 1, 0, p->m.n_out,
                     p->single + (size_t)r * p->ldy, p->ldy);
    expect(c, intact(p->single, MAX_ROWS * p->ldy * sizeof(float)), "matmul wrote outside",
           p->m.n_out, p->m.n_in);
}

/* What rounding both factors may add to a sum of terms whose magnitudes' sum and sum of squares
 * these are. Of a block type each is rounded to 8 bits: at most so much, and as the errors know
 * nothing of each other, six times their deviation. Of F16 activations are cut to 16 bits, and
 * the product of two parts of at most 2^-8 is left out. */
static double rounding(const check *c, ftk_type type, double size, double squares)
{
    if (!in_tiles(c)) return 0;
    if (type == FTK_TYPE_F16) return 0x1p-14 * size;
    if (ftk_type_block(type) == 1) return 0;
    const double most = 0x1.1p-8 * size, likely = 6 * 0x1p-9 * sqrt(squares);
    return most < likely ? most : likely;
}

/* w: the row of the matrix. */
static bool product_close(const check *c, const product *p, const float *w, int r, int o)
{
    const size_t n = (size_t)p->m.n_in;
    double sum = 0, size = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        const double t = w[i] * activation(c, p, r, i);
        sum += t;
        size += fabs(t);
        squares += t * t;
    }
    double tol = EPS * (16 + (double)n / 16) * size + (double)n * 0x1p-149;
    tol += rounding(c, p->m.type, size, squares);
    return close_to(p->single[(size_t)r * p->ldy + (size_t)o], sum, tol);
}

/* Against the rows as the plain C entry widens them, which test_blocks checks. */
static void check_values(check *c, const product *p)
{
    const size_t n = (size_t)p->m.n_in;
    float *w = guarded(n * sizeof *w);
    bool good = true;
    for (int o = 0; o < p->m.n_out && good; o++) {
        const size_t at = (size_t)o * ftk_type_bytes(p->m.type, n);
        c->ref->dequant_row(p->m.type, p->m.n_in, (const char *)p->gguf + at, w);
        for (int r = 0; r < 3 && good; r++)
            good = expect(c, product_close(c, p, w, r, o), "value is off (row, output)", r, o);
    }
    unguard(w);
}

/* The rows of a call equal those computed alone; columns behind n_out stay as they were. */
static void check_company(check *c, const product *p)
{
    float *y = guarded(MAX_ROWS * p->ldy * sizeof(float));
    for (int n = 1; n <= MAX_ROWS; n = n < 17 ? n + 1 : n == 17 ? 69 : n == 69 ? 128 : 129) {
        memset(y, BLANK, MAX_ROWS * p->ldy * sizeof(float));
        c->k->matmul(&p->m, p->act, p->stride, n, 0, p->m.n_out, y, p->ldy);
        for (size_t r = 0; r < MAX_ROWS; r++) {
            const float *row = y + r * p->ldy;
            const size_t n_out = (size_t)p->m.n_out;
            const size_t used = r < (size_t)n ? n_out : 0;
            if (!expect(c, same(row, p->single + r * p->ldy, used * sizeof(float)),
                        "row depends on its company (rows, row)", n, (long)r))
                break;
            if (!expect(c, is_blank(row + used, (p->ldy - used) * sizeof(float)),
                        "matmul wrote beside its rows (rows, row)", n, (long)r))
                break;
        }
    }
    expect(c, intact(y, MAX_ROWS * p->ldy * sizeof(float)), "matmul wrote outside", 0, 0);
    unguard(y);
}

/* The output range in random pieces, as threads would take it. */
static void check_cuts(check *c, const product *p)
{
    const int rows = 11, grain = c->k->matmul_grain;
    const size_t bytes = (size_t)rows * p->ldy * sizeof(float);
    float *y = guarded(bytes);
    for (int o = 0, end; o < p->m.n_out; o = end) {
        end = o + grain * (1 + below(c, 3));
        end = end < p->m.n_out ? end : p->m.n_out;
        c->k->matmul(&p->m, p->act, p->stride, rows, o, end, y, p->ldy);
    }
    expect(c, same(y, p->single, bytes), "result depends on the cuts", p->m.n_out, p->m.n_in);
    unguard(y);
}

/* A value that is not finite spoils its own row, all of it, and no other. */
static void check_not_finite(check *c, product *p, float bad)
{
    const int rows = 9, hit = 4;
    const size_t n_in = (size_t)p->m.n_in, n_out = (size_t)p->m.n_out;
    float *x = p->x + (size_t)hit * n_in;
    const size_t at = (size_t)below(c, p->m.n_in);
    const float kept = x[at];
    x[at] = bad;
    pack_rows(c, p);
    float *y = guarded((size_t)rows * p->ldy * sizeof(float));
    c->k->matmul(&p->m, p->act, p->stride, rows, 0, p->m.n_out, y, p->ldy);
    for (int r = 0; r < rows; r++) {
        const float *row = y + (size_t)r * p->ldy;
        if (r != hit) {
            expect(c, same(row, p->single + (size_t)r * p->ldy, n_out * sizeof(float)),
                   "a bad row changed another", r, 0);
            continue;
        }
        bool hidden = false;
        for (size_t o = 0; o < n_out; o++) hidden |= isfinite(row[o]);
        expect(c, !hidden, "a value that is not finite was hidden", (long)n_out, (long)n_in);
    }
    x[at] = kept;
    pack_rows(c, p);
    unguard(y);
}

/* A weight that is no number spoils its own output, of all rows, and no other. */
static void check_bad_weight(check *c, product *p)
{
    const int rows = 9, hit = below(c, p->m.n_out);
    const size_t n_in = (size_t)p->m.n_in, n_out = (size_t)p->m.n_out;
    unsigned char *at = (unsigned char *)p->gguf + (size_t)hit * ftk_type_bytes(p->m.type, n_in);
    const uint16_t half = p->m.type == FTK_TYPE_BF16 ? 0x7fc0 : 0x7e00;
    const float whole = NAN;
    if (p->m.type == FTK_TYPE_F32)
        at += (size_t)below(c, p->m.n_in) * sizeof whole;
    else if (p->m.type == FTK_TYPE_F16 || p->m.type == FTK_TYPE_BF16)
        at += (size_t)below(c, p->m.n_in) * sizeof half;
    else if (p->m.type == FTK_TYPE_Q8_0 || p->m.type == FTK_TYPE_Q4_0)
        at += (size_t)below(c, p->m.n_in / FTK_QBLOCK) * ftk_type_bytes(p->m.type, FTK_QBLOCK);
    else
        return; /* scales lie elsewhere */
    const size_t n = p->m.type == FTK_TYPE_F32 ? sizeof whole : sizeof half;
    unsigned char kept[sizeof whole];
    memcpy(kept, at, n);
    memcpy(at, p->m.type == FTK_TYPE_F32 ? (const void *)&whole : &half, n);
    if (p->packed) c->k->pack(p->m.type, p->m.n_out, p->m.n_in, p->gguf, p->packed);
    float *y = guarded((size_t)rows * p->ldy * sizeof(float));
    c->k->matmul(&p->m, p->act, p->stride, rows, 0, p->m.n_out, y, p->ldy);
    for (size_t i = 0; i < (size_t)rows * n_out; i++) {
        const size_t r = i / n_out, o = i % n_out, cell = r * p->ldy + o;
        if (o == (size_t)hit)
            expect(c, !isfinite(y[cell]), "a weight that is no number was hidden", (long)r, hit);
        else
            expect(c, same(y + cell, p->single + cell, sizeof *y),
                   "a bad weight changed another output", (long)r, (long)o);
    }
    memcpy(at, kept, n);
    if (p->packed) c->k->pack(p->m.type, p->m.n_out, p->m.n_in, p->gguf, p->packed);
    unguard(y);
}

/* Weights at the ends of what their type holds, by activations that bring the products back. */
static void check_far_weights(check *c, float factor)
{
    product p = product_new(c, FTK_TYPE_BF16, 33, 96, NORMAL);
    for (size_t i = 0; i < 33 * 96; i++) {
        uint16_t *const w = (uint16_t *)p.gguf + i;
        *w = ftk_f32_bf16(ftk_bf16_f32(*w) * factor);
    }
    for (size_t i = 0; i < MAX_ROWS * 96; i++) p.x[i] /= factor;
    if (p.packed) c->k->pack(p.m.type, p.m.n_out, p.m.n_in, p.gguf, p.packed);
    pack_rows(c, &p);
    one_by_one(c, &p);
    check_values(c, &p);
    product_free(&p);
}

static void check_matmul(check *c)
{
    if (!c->device) {
        check_far_weights(c, 0x1p122f);
        check_far_weights(c, 0x1p-110f);
    }
    static const struct {
        int n_out, n_in;
    } shapes[] = {{1, 32},    {16, 32},  {17, 64}, {40, 96}, {7, 256}, {75, 288},
                  {130, 768}, {33, 512}, {1, 1},   {5, 3},   {33, 65}};
    for (int t = 0; t < N_TYPES; t++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            if (shapes[s].n_in % (int)ftk_type_block(types[t]) != 0) continue;
            for (int kind = 0; kind < N_KINDS; kind++) {
                if (c->emulated && (t + (int)s + kind) % N_KINDS != 0) continue;
                product p = product_new(c, types[t], shapes[s].n_out, shapes[s].n_in, kind);
                one_by_one(c, &p);
                check_values(c, &p);
                check_company(c, &p);
                check_cuts(c, &p);
                check_not_finite(c, &p, NAN);
                check_not_finite(c, &p, INFINITY);
                check_bad_weight(c, &p);
                product_free(&p);
            }
        }
    }
}

/* Quantised activations are within half a step, and the same bits on every level; but for AMX,
 * whose own form the products are held to. */
static void check_act_pack(check *c)
{
    enum { N = 96 };
    if (in_tiles(c)) return;
    float x[N];
    ftk_qact got[N / FTK_QBLOCK], want[N / FTK_QBLOCK];
    for (int i = 0; i < 400; i++) {
        const ftk_type type = types[3 + i % (N_TYPES - 3)]; /* one of the block types */
        const int kind = i / 2 % N_KINDS;
        fill(c, kind, N, x);
        if (i % 7 == 0) memset(x, 0, FTK_QBLOCK * sizeof *x);
        if (i % 11 == 0) x[33] = i % 2 ? NAN : -INFINITY;
        if (i % 13 == 0) x[5] = 0.5f * x[6];
        c->k->act_pack(type, N, x, got);
        c->ref->act_pack(type, N, x, want);
        for (int b = 0; b < N / FTK_QBLOCK; b++) {
            if (isnan(want[b].d) && isnan(got[b].d)) got[b].d = want[b].d;
            int32_t half[2] = {0};
            bool near = true;
            for (int j = 0; j < FTK_QBLOCK; j++) {
                const double step = got[b].d, v = x[b * FTK_QBLOCK + j];
                half[j * 2 / FTK_QBLOCK] += got[b].q[j];
                near &= close_to(step * got[b].q[j], v, step * 0.5001 + (double)FTK_QACT_TINY);
            }
            const bool spoilt = i % 11 == 0 && b == 1;
            expect(c, spoilt ? isnan(got[b].d) : near, "quantised wrongly (case, block)", i, b);
            const bool sums = got[b].minus_half[0] == -half[0] &&
                              got[b].minus_half[1] == -half[1] &&
                              got[b].minus == -half[0] - half[1];
            expect(c, sums, "sums (case, block)", i, b);
        }
        expect(c, same(got, want, sizeof got), "bits differ from ref", i, 0);
    }
}

/* The plain C entry is held to other people's figures by test_blocks. */
static void check_dequant_row(check *c)
{
    const int n = 2 * FTK_QUNIT;
    float want[2 * FTK_QUNIT];
    for (int t = 0; t < N_TYPES; t++) {
        void *w = random_matrix(c, types[t], (size_t)n);
        float *y = guarded((size_t)n * sizeof *y);
        c->k->dequant_row(types[t], n, w, y);
        c->ref->dequant_row(types[t], n, w, want);
        expect(c, same(y, want, sizeof want), "differs from ref (type)", types[t], n);
        expect(c, intact(y, (size_t)n * sizeof *y), "wrote outside", types[t], n);
        unguard(y);
        unguard(w);
    }
}

/* ------------------------------------------------------------------ main */

/* Both tables hold the same function in a slot. */
typedef void (*any_fn)(void);
static bool differ(any_fn a, any_fn b)
{
    return a != b;
}

typedef struct entry {
    const char *name;
    void (*run)(check *c);
} entry;

static const entry entries[] = {
    {"act_pack", check_act_pack},
    {"matmul", check_matmul},
    {"dequant_row", check_dequant_row},
    {"rms_norm", check_rms_norm},
    {"rope", check_rope},
    {"silu_mul", check_silu_mul},
    {"add", check_add},
    {"kv_store", check_kv_store},
    {"attention", check_attention},
    {"rope_halves", check_rope_halves},
    {"gelu_mul", check_gelu_mul},
    {"layer_norm", check_layer_norm},
    {"gated_add", check_gated_add},
    {"differences", check_differences},
    {"columns", check_columns},
};
enum { N_ENTRIES = sizeof entries / sizeof entries[0] };

static bool replaced(const ftk_kernels *k, const ftk_kernels *ref, int i)
{
    switch (i) {
    case 0: return differ((any_fn)k->act_pack, (any_fn)ref->act_pack);
    case 1: return differ((any_fn)k->matmul, (any_fn)ref->matmul);
    case 2: return differ((any_fn)k->dequant_row, (any_fn)ref->dequant_row);
    case 3: return differ((any_fn)k->rms_norm, (any_fn)ref->rms_norm);
    case 4: return differ((any_fn)k->rope, (any_fn)ref->rope);
    case 5: return differ((any_fn)k->silu_mul, (any_fn)ref->silu_mul);
    case 6: return differ((any_fn)k->add, (any_fn)ref->add);
    case 7: return differ((any_fn)k->kv_store, (any_fn)ref->kv_store);
    case 8: return differ((any_fn)k->attention, (any_fn)ref->attention);
    case 9: return differ((any_fn)k->rope_halves, (any_fn)ref->rope_halves);
    case 10: return differ((any_fn)k->gelu_mul, (any_fn)ref->gelu_mul);
    default: break;
    }
    if (!k->layer_norm) return false; /* devices know nothing of these */
    switch (i) {
    case 11: return differ((any_fn)k->layer_norm, (any_fn)ref->layer_norm);
    case 12: return differ((any_fn)k->gated_add, (any_fn)ref->gated_add);
    case 13: return differ((any_fn)k->differences, (any_fn)ref->differences);
    default: return differ((any_fn)k->attention, (any_fn)ref->attention);
    }
}

typedef struct options {
    uint64_t seed;
    const char *level, *kernel;
    int device;
} options;

static void run_level(check *c, const options *o)
{
    for (int i = 0; i < N_ENTRIES; i++) {
        if (o->kernel && strcmp(o->kernel, entries[i].name) != 0) continue;
        if (c->k != c->ref && !replaced(c->k, c->ref, i)) continue;
        c->entry = entries[i].name;
        c->rng = o->seed + (uint64_t)i * 1000003; /* so that one entry alone gets the same inputs */
        const int failed = c->failed;
        entries[i].run(c);
        printf("%-7s %-11s %s\n", c->k->name, c->entry, c->failed == failed ? "ok" : "FAILED");
        fflush(stdout);
    }
}

#if defined(__x86_64__)
/* Where there are tiles, they give the bits of those in plain C: for every type, and for a tree
 * that attends. */
static void compare_tiles(check *c, const ftk_kernels *emulated)
{
    ftk_kernels tiles;
    if (!ftk_kernels_fill(&tiles, "amx")) return;
    const ftk_kernels *const both[2] = {&tiles, emulated};
    c->entry = "tiles";
    for (int t = 0; t < N_TYPES; t++) {
        const uint64_t rng = c->rng;
        float *y[2];
        const size_t bytes = MAX_ROWS * (size_t)(75 + 5) * sizeof(float);
        for (int i = 0; i < 2; i++) {
            c->k = both[i];
            c->rng = rng;
            product p = product_new(c, types[t], 75, 768, NORMAL);
            y[i] = guarded(bytes);
            memset(y[i], 0, bytes);
            c->k->matmul(&p.m, p.act, p.stride, MAX_ROWS, 0, p.m.n_out, y[i], p.ldy);
            product_free(&p);
        }
        expect(c, same(y[0], y[1], bytes), "a product has other bits than in plain C (type)", t, 0);
        for (int i = 0; i < 2; i++) unguard(y[i]);
    }
    const uint64_t rng = c->rng;
    float *out[2];
    size_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        int parent[FTK_MAX_NODES];
        const ftk_attn a = {.n_rows = 40,
                            .n_head = 6,
                            .n_head_kv = 2,
                            .head_dim = 64,
                            .scale = 0.125f,
                            .kv_type = FTK_TYPE_F16,
                            .prefix = 200};
        c->k = both[i];
        c->rng = rng;
        scene s = scene_new(c, a, 40);
        grow_tree(c, &s, parent);
        fill_scene(c, &s, NORMAL);
        attend(c, &s, FTK_ATTN_TILE);
        bytes = s.out_bytes;
        out[i] = guarded(bytes);
        memcpy(out[i], s.a.out, bytes);
        scene_free(&s);
    }
    expect(c, same(out[0], out[1], bytes), "attention has other bits than in plain C", 0, 0);
    for (int i = 0; i < 2; i++) unguard(out[i]);
    printf("%-7s %-11s %s\n", "amx", "as emulated", c->failed ? "see above" : "ok");
}

/* What the AMX level has of its own, its tiles in plain C. */
static void run_emulated(check *c, const options *o)
{
    ftk_kernels k;
    if (!ftk_kernels_fill(&k, "avx512")) return;
    ftk_kernels_amx_emulated(&k);
    k.name = "amx-emu";
    compare_tiles(c, &k);
    c->k = &k;
    options own = *o;
    own.kernel = "matmul";
    run_level(c, &own);
    own.kernel = "attention";
    run_level(c, &own);
}
#endif

/* The CUDA level: on a device, or emulated. *ran: something was checked. False: it was asked for
 * by its name, and there is no device. */
static bool run_cuda(check *c, const options *o, bool *ran)
{
    ftk_kernels k;
    const char *problem = ftk_kernels_cuda(&k, o->device);
    if (o->level && strcmp(o->level, k.name) != 0) return true;
    if (problem) {
        printf("%-7s skipped: %s\n", k.name, problem);
        return !o->level;
    }
    c->k = &k;
    c->device = true;
    c->emulated = strcmp(k.name, "cuda") != 0;
    *ran = true;
    run_level(c, o);
    c->entry = "guards";
    expect(c, ftk_kernels_cuda_intact(), "device memory beside an output was written", 0, 0);
    ftk_kernels_cuda_close();
    return true;
}

static bool parse(options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value) return false;
        i++;
        if (strcmp(arg, "--seed") == 0)
            o->seed = strtoull(value, NULL, 10);
        else if (strcmp(arg, "--level") == 0)
            o->level = value;
        else if (strcmp(arg, "--kernel") == 0)
            o->kernel = value;
        else if (strcmp(arg, "--device") == 0)
            o->device = atoi(value);
        else
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    options o = {.seed = 1};
    if (!parse(&o, argc, argv)) {
        fprintf(stderr,
                "usage: checkkernels [--seed N] [--level NAME] [--kernel NAME] [--device N]\n");
        return 2;
    }
    const char *names[8];
    ftk_kernels_levels(names);
    ftk_kernels ref, k;
    ftk_kernels_fill(&ref, "ref");
    check c = {.ref = &ref, .seed = o.seed};
    bool found = false;
    for (int i = 0; i < 8 && names[i]; i++) {
        if (o.level && strcmp(o.level, names[i]) != 0) continue;
        if (!ftk_kernels_fill(&k, names[i])) return 2;
        c.k = i == 0 ? &ref : &k;
        found = true;
        run_level(&c, &o);
    }
#if defined(__x86_64__)
    if ((!o.level || strcmp(o.level, "amx-emu") == 0) &&
        (!o.kernel || strcmp(o.kernel, "matmul") == 0)) {
        run_emulated(&c, &o);
        found = true;
    }
#endif
    bool cuda = false;
    if (!run_cuda(&c, &o, &cuda)) return 77;
    found |= cuda;
    if (!found) {
        fprintf(stderr, "checkkernels: this machine has no level \"%s\"\n", o.level);
        return 2;
    }
    if (!names[1] && !cuda && !c.failed) {
        printf("skipped: this machine has no level beyond ref\n");
        return 77;
    }
    printf("%d passed, %d failed\n", c.passed, c.failed);
    return c.failed ? 1 : 0;
}
