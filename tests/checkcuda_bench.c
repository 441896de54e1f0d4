/* SPDX-License-Identifier: Apache-2.0
 * Models, texts and trees for checkcuda. */
#include "checkcuda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int check_passed, check_failed;
const char *check_shape_name;
double check_worst;

bool expect(bool ok, const char *what, long a, long b)
{
    check_passed += ok;
    check_failed += !ok;
    if (!ok && check_failed <= 20) printf("FAIL %s: %s (%ld, %ld)\n", check_shape_name, what, a, b);
    return ok;
}

/* ------------------------------------------------------------------ benches */

void must(ftk_err err, const char *what)
{
    if (err == FTK_OK) return;
    fprintf(stderr, "checkcuda: %s: %s\n", what, ftk_strerror(err));
    exit(2);
}

void bench_open(bench *b, const ftk_model *m, int ordinal, ftk_type kv, bool wide)
{
    *b = (bench){0};
    if (ordinal >= 0) {
        char name[32], why[400];
        snprintf(name, sizeof name, "cuda:%d", ordinal);
        const ftk_device_config c = {.name = name,
                                     .max_rows = ROWS,
                                     .max_slots = SLOTS + FTK_MAX_NODES,
                                     .kv_bytes = ftk_kv_pool_bytes(m, SLOTS, kv),
                                     .wide = wide};
        must(ftk_device_open(&b->device, m, &c, why, sizeof why), why);
    }
    must(ftk_kv_pool_open(&b->pool, m, SLOTS, kv, b->device), "KV cache");
    must(ftk_forward_open(&b->f, m, 1, ROWS, SLOTS, SLOTS + FTK_MAX_NODES, kv), "pass");
    b->f.device = b->device;
}

void bench_close(bench *b)
{
    ftk_forward_close(&b->f);
    ftk_kv_pool_close(&b->pool);
    if (b->device) b->device->ops->free(b->device);
}

ftk_kv_seq seq_new(bench *b)
{
    ftk_kv_seq s;
    must(ftk_kv_seq_open(&s, &b->pool, SLOTS), "sequence");
    return s;
}

int32_t token_at(const bench *b, int i)
{
    return (int32_t)((unsigned)(i * 7919 + 13) % (unsigned)b->f.m->hp.n_vocab);
}

int16_t straight[FTK_MAX_NODES];

void read_to(bench *b, ftk_kv_seq *s, int n, int step)
{
    int32_t tokens[FTK_MAX_NODES];
    while (s->len < n) {
        const int rows = n - s->len < step ? n - s->len : step;
        for (int i = 0; i < rows; i++) tokens[i] = token_at(b, s->len + i);
        must(ftk_kv_reserve(s, rows), "reserve");
        const ftk_pass_seq p = {.kv = s, .n_rows = rows, .token = tokens, .first_logits = rows - 1};
        ftk_forward_run(&b->f, &p, 1);
        ftk_kv_commit(s, straight, rows);
    }
}

size_t row_bytes(const bench *b)
{
    return (size_t)b->f.m->hp.n_vocab * sizeof(float);
}

/* ------------------------------------------------------------------ trees */

tree grow(const bench *b)
{
    tree t = {0};
    uint32_t r = 7;
    for (int i = 0; i < NODES; i++) {
        r = r * 1664525u + 1013904223u;
        t.parent[i] = i == 0 ? -1 : i - 1 - (int)(r >> 16) % (i < 3 ? i : 3);
        t.token[i] = token_at(b, 1000 + i);
        if (i > 0) {
            t.depth[i] = (int16_t)(t.depth[t.parent[i]] + 1);
            memcpy(t.mask[i], t.mask[t.parent[i]], sizeof t.mask[i]);
        }
        t.mask[i][i / 64] |= (uint64_t)1 << i % 64;
    }
    return t;
}

void run_tree(bench *b, ftk_kv_seq *s, const tree *t)
{
    must(ftk_kv_reserve(s, NODES), "reserve");
    const ftk_pass_seq p = {.kv = s,
                            .n_rows = NODES,
                            .token = t->token,
                            .depth = t->depth,
                            .mask = (const uint64_t(*)[2])t->mask};
    ftk_forward_run(&b->f, &p, 1);
}

void path_to(const tree *t, int node, int16_t *path, int *n)
{
    *n = t->depth[node] + 1;
    for (int i = *n - 1, at = node; i >= 0; i--, at = t->parent[at]) path[i] = (int16_t)at;
}

/* ------------------------------------------------------------------ checks */

void check_close(const bench *cpu, const bench *dev, int rows, double tol)
{
    const int n = cpu->f.m->hp.n_vocab;
    double top = 0, off = 0;
    for (int i = 0; i < rows * n; i++) {
        const double d = fabs((double)cpu->f.logits[i] - (double)dev->f.logits[i]);
        top = fmax(top, fabs((double)cpu->f.logits[i]));
        off = d <= off ? off : d; /* NaN stays */
    }
    check_worst = off / top <= check_worst ? check_worst : off / top;
    expect(off <= tol * top, "logits are not the CPU's (rows, parts per million)", rows,
           (long)(1e6 * off / top));
}
