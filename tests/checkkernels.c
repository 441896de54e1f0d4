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
#include "checkrows.h"
#include "cudalevel.h"
#include "kernelcases.h"
#include "kernels/levels.h"

static const double eps = 0x1p-24;

/* Written so that NaN is never close. */
static bool close_to(double got, double want, double tol)
{
    return fabs(got - want) <= tol;
}

/* ------------------------------------------------------------------ matrices */

/* AMX multiplies floats of fewer bits, where others multiply whole numbers. */
static bool in_tiles(const check *c)
{
    return strncmp(c->k->name, "amx", 3) == 0;
}

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
    double tol = eps * (16 + (double)n / 16) * size + (double)n * 0x1p-149;
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

/* ------------------------------------------------------------------ elementwise */

static const int sizes[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 257, 768};
enum { N_SIZES = sizeof sizes / sizeof sizes[0], MAX_SIZE = 768 };

static void check_rms_norm(check *c)
{
    float x[MAX_SIZE], w[MAX_SIZE];
    for (int i = 0; i < N_SIZES * N_KINDS; i++) {
        const int n = sizes[i / N_KINDS];
        const size_t bytes = (size_t)n * sizeof(float);
        fill(c, i % N_KINDS, (size_t)n, x);
        fill(c, NORMAL, (size_t)n, w);
        float *y = guarded(bytes), *in_place = guarded(bytes);
        c->k->rms_norm(n, x, w, 1e-5f, y);
        double sum = 0;
        for (int j = 0; j < n; j++) sum += (double)x[j] * x[j];
        const double scale = 1 / sqrt(sum / n + (double)1e-5f);
        for (int j = 0; j < n; j++) {
            const double want = x[j] * scale * w[j];
            if (!expect(c, close_to(y[j], want, 4 * eps * fabs(want) + 0x1p-147), "value (n, i)", n,
                        j))
                break;
        }
        memcpy(in_place, x, bytes);
        c->k->rms_norm(n, in_place, w, 1e-5f, in_place);
        expect(c, same(y, in_place, bytes), "in place differs", n, 0);
        expect(c, intact(y, bytes), "wrote outside", n, 0);
        x[n / 2] = NAN;
        c->k->rms_norm(n, x, w, 1e-5f, y);
        expect(c, isnan(y[0]) && isnan(y[n - 1]), "NaN was hidden", n, 0);
        unguard(y);
        unguard(in_place);
    }
}

static void check_rope(check *c)
{
    static const int dims[][2] = {{2, 2}, {8, 8}, {8, 4}, {64, 64}, {80, 20}, {48, 48}, {128, 128}};
    const int heads = 3;
    float cs[128], before[3 * 128];
    for (int i = 0; i < 7 * N_KINDS; i++) {
        const int d = dims[i / N_KINDS][0], n_rot = dims[i / N_KINDS][1];
        const size_t n = (size_t)(heads * d);
        float *x = guarded(n * sizeof *x);
        fill(c, i % N_KINDS, n, before);
        fill(c, NORMAL, (size_t)n_rot, cs);
        memcpy(x, before, n * sizeof *x);
        c->k->rope(heads, d, n_rot, cs, x);
        for (int j = 0; j < heads * d; j += 2) {
            const double a = before[j], b = before[j + 1];
            const bool turned = j % d < n_rot;
            const double co = turned ? cs[j % d] : 1, si = turned ? cs[j % d + 1] : 0;
            const double tol =
                turned ? 3 * eps * (fabs(a * co) + fabs(b * si) + fabs(a * si) + fabs(b * co)) +
                             0x1p-147
                       : 0;
            expect(c, close_to(x[j], a * co - b * si, tol), "value (head_dim, i)", d, j);
            expect(c, close_to(x[j + 1], a * si + b * co, tol), "value (head_dim, i)", d, j + 1);
        }
        expect(c, intact(x, n * sizeof *x), "wrote outside", d, n_rot);
        unguard(x);
    }
}

/* Pairs (i, i + n_rot/2) of x are pairs (2i, 2i + 1) of another order: both entries agree. */
static void check_rope_halves(check *c)
{
    static const int dims[][2] = {{2, 2}, {8, 8}, {8, 4}, {64, 64}, {80, 20}, {48, 36}, {128, 96}};
    const int heads = 3;
    float cs[128], split[128], before[3 * 128], pairs[3 * 128];
    for (int i = 0; i < 7 * N_KINDS; i++) {
        const int d = dims[i / N_KINDS][0], n_rot = dims[i / N_KINDS][1], half = n_rot / 2;
        const size_t bytes = (size_t)(heads * d) * sizeof(float);
        float *x = guarded(bytes);
        fill(c, i % N_KINDS, (size_t)(heads * d), before);
        fill(c, NORMAL, (size_t)n_rot, cs);
        memcpy(x, before, bytes);
        memcpy(pairs, before, bytes);
        for (int j = 0; j < n_rot; j++) {
            split[j / 2 + j % 2 * half] = cs[j];
            for (int h = 0; h < heads; h++) pairs[h * d + j] = before[h * d + j / 2 + j % 2 * half];
        }
        c->ref->rope(heads, d, n_rot, cs, pairs);
        c->k->rope_halves(heads, d, n_rot, split, x);
        for (int j = 0; j < heads * d; j++) {
            const int h = j / d * d, e = j % d, p = e < half ? 2 * e : 2 * (e - half) + 1;
            const double want = e < n_rot ? pairs[h + p] : before[j];
            const double size =
                e < n_rot ? fabs(before[h + e % half]) + fabs(before[h + e % half + half]) : 0;
            expect(c, close_to(x[j], want, 24 * eps * size + (e < n_rot ? 0x1p-146 : 0)),
                   "value (head_dim, i)", d, j);
        }
        expect(c, intact(x, bytes), "wrote outside", d, n_rot);
        unguard(x);
    }
}

static void check_gelu_mul(check *c)
{
    float gate[MAX_SIZE], up[MAX_SIZE];
    for (int i = 0; i < N_SIZES * (N_KINDS + 1); i++) {
        const int n = sizes[i / (N_KINDS + 1)], kind = i % (N_KINDS + 1);
        const size_t bytes = (size_t)n * sizeof(float);
        fill(c, kind % N_KINDS, (size_t)n, gate);
        for (int j = 0; kind == N_KINDS && j < n; j++) gate[j] *= 5; /* where e^-2u leaves range */
        fill(c, NORMAL, (size_t)n, up);
        float *y = guarded(bytes);
        memcpy(y, gate, bytes);
        c->k->gelu_mul(n, y, up);
        for (int j = 0; j < n; j++) {
            const double g = gate[j], u = sqrt(2 / acos(-1)) * (g + 0.044715 * g * g * g);
            const double want = g / (1 + exp(-2 * u)) * up[j];
            const double tol = (10 + 8 * fabs(u)) * eps * fabs(want) + 1e-36;
            if (!expect(c, close_to(y[j], want, tol), "value (n, i)", n, j)) break;
        }
        for (int j = 0; j < n; j += 5) {
            float g = gate[j];
            c->k->gelu_mul(1, &g, up + j);
            expect(c, same(&g, y + j, sizeof g), "bits depend on the place (n, i)", n, j);
        }
        expect(c, intact(y, bytes), "wrote outside", n, 0);
        y[n / 2] = NAN;
        c->k->gelu_mul(n, y, up);
        expect(c, isnan(y[n / 2]), "NaN was hidden", n, 0);
        unguard(y);
    }
}

static void check_silu_mul(check *c)
{
    float gate[MAX_SIZE], up[MAX_SIZE];
    for (int i = 0; i < N_SIZES * (N_KINDS + 1); i++) {
        const int n = sizes[i / (N_KINDS + 1)], kind = i % (N_KINDS + 1);
        const size_t bytes = (size_t)n * sizeof(float);
        fill(c, kind % N_KINDS, (size_t)n, gate);
        for (int j = 0; kind == N_KINDS && j < n; j++) gate[j] *= 40; /* where e^x leaves range */
        fill(c, NORMAL, (size_t)n, up);
        float *y = guarded(bytes);
        memcpy(y, gate, bytes);
        c->k->silu_mul(n, y, up);
        for (int j = 0; j < n; j++) {
            const double g = gate[j], want = g / (1 + exp(-g)) * up[j];
            if (!expect(c, close_to(y[j], want, 10 * eps * fabs(want) + 1e-36), "value (n, i)", n,
                        j))
                break;
        }
        /* A value's bits do not depend on its lane. */
        for (int j = 0; j < n; j += 5) {
            float g = gate[j];
            c->k->silu_mul(1, &g, up + j);
            expect(c, same(&g, y + j, sizeof g), "bits depend on the place (n, i)", n, j);
        }
        expect(c, intact(y, bytes), "wrote outside", n, 0);
        y[n / 2] = NAN;
        c->k->silu_mul(n, y, up);
        expect(c, isnan(y[n / 2]), "NaN was hidden", n, 0);
        unguard(y);
    }
}

static void check_add(check *c)
{
    float x[MAX_SIZE], before[MAX_SIZE];
    for (int i = 0; i < N_SIZES * N_KINDS; i++) {
        const int n = sizes[i / N_KINDS];
        const size_t bytes = (size_t)n * sizeof(float);
        float *y = guarded(bytes);
        fill(c, i % N_KINDS, (size_t)n, x);
        fill(c, i % N_KINDS, (size_t)n, before);
        memcpy(y, before, bytes);
        c->k->add(n, x, y);
        for (int j = 0; j < n; j++) expect(c, y[j] == before[j] + x[j], "value (n, i)", n, j);
        expect(c, intact(y, bytes), "wrote outside", n, 0);
        unguard(y);
    }
}

/* Halves: widening all 65536 and storing them gives them back; between two neighbours the nearer
 * one is chosen, the even one in the middle. */
static void check_halves(check *c)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = ftk_f16_f32((uint16_t)h);
        uint16_t back[3] = {0};
        float around[3] = {f, f, f};
        const bool finite = (h & 0x7fff) < 0x7bff;
        if (finite) {
            const float middle = f + (ftk_f16_f32((uint16_t)(h + 1)) - f) / 2;
            around[1] = middle;
            around[2] = nextafterf(middle, h & 0x8000 ? -INFINITY : INFINITY);
        }
        c->k->kv_store(FTK_TYPE_F16, 3, around, back);
        bool ok = isnan(f) ? (back[0] & 0x7fff) > 0x7c00 : back[0] == h;
        if (finite) ok &= back[1] == h + (h & 1) && back[2] == h + 1;
        expect(c, ok, "half float", (long)h, back[1]);
    }
    static const float large[] = {65504.0f, 65519.996f, 65520.0f, 1e30f};
    static const uint16_t stored[] = {0x7bff, 0x7bff, 0x7c00, 0x7c00};
    uint16_t got[4];
    c->k->kv_store(FTK_TYPE_F16, 4, large, got);
    expect(c, same(got, stored, sizeof got), "large half floats", got[1], got[2]);
}

/* Q8_0 as plain C writes it; a block that is not finite has a scale that is none, whichever. */
static void check_stored_blocks(check *c, int n, const float *x)
{
    ftk_q8_0 want[MAX_SIZE / FTK_QBLOCK];
    if (n == 0) return;
    ftk_q8_0 *got = guarded((size_t)n / FTK_QBLOCK * sizeof *got);
    c->k->kv_store(FTK_TYPE_Q8_0, n, x, got);
    c->ref->kv_store(FTK_TYPE_Q8_0, n, x, want);
    for (int i = 0; i < n / FTK_QBLOCK; i++) {
        const bool both = isnan(ftk_f16_f32(got[i].d)) && isnan(ftk_f16_f32(want[i].d));
        expect(c, both || got[i].d == want[i].d, "Q8_0 scale differs from ref", n, i);
        expect(c, same(got[i].q, want[i].q, sizeof want[i].q), "Q8_0 differs from ref", n, i);
    }
    expect(c, intact(got, (size_t)n / FTK_QBLOCK * sizeof *got), "wrote outside", n, 0);
    unguard(got);
}

static void check_kv_store(check *c)
{
    float x[MAX_SIZE];
    uint16_t want[MAX_SIZE];
    check_halves(c);
    for (int i = 0; i < N_SIZES * N_KINDS; i++) {
        const int n = sizes[i / N_KINDS];
        fill(c, i % N_KINDS, (size_t)n, x);
        uint16_t *half = guarded((size_t)n * sizeof *half);
        float *full = guarded((size_t)n * sizeof *full);
        c->k->kv_store(FTK_TYPE_F16, n, x, half);
        c->ref->kv_store(FTK_TYPE_F16, n, x, want);
        c->k->kv_store(FTK_TYPE_F32, n, x, full);
        expect(c, same(half, want, (size_t)n * sizeof *half), "F16 differs from ref", n, i);
        expect(c, same(full, x, (size_t)n * sizeof *full), "F32 is not a copy", n, i);
        check_stored_blocks(c, n / FTK_QBLOCK * FTK_QBLOCK, x);
        expect(c, intact(half, (size_t)n * sizeof *half), "wrote outside", n, i);
        expect(c, intact(full, (size_t)n * sizeof *full), "wrote outside", n, i);
        unguard(half);
        unguard(full);
    }
}

/* ------------------------------------------------------------------ attention */

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
        short_by += size * (eps * (8 + d / 8.0) + (tiles ? 0x1p-14 : 0));
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
            size * (4 * score_err + eps * (24 + n / 8.0) + rounding_of_weights) + short_by;
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

static void check_attention(check *c)
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
