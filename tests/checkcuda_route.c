/* SPDX-License-Identifier: Apache-2.0
 * A policy on the device, and rows that go by it, against the CPU. */
#include "checkcuda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "model/lowbit.h"

static uint32_t dice;

static float roll(void)
{
    dice = dice * 1664525u + 1013904223u;
    return (float)(dice >> 8) * 0x1p-23f - 1;
}

enum { MOST_POLICY = 1 << 18 };

/* A policy of random numbers, which lie in `all` one after the other. */
static ftk_policy make_policy(int n_layer, int n_embd, int units, float *all)
{
    ftk_policy p = {.n_layer = n_layer,
                    .n_embd = n_embd,
                    .units = units,
                    .first = 1,
                    .partial = true,
                    .cost = {1, 0.6f, 0.1f}};
    const struct {
        const float **at;
        int n;
        float base, spread;
    } parts[] = {{&p.in, n_embd * units, 0, 2 / sqrtf((float)n_embd)},
                 {&p.past, FTK_POLICY_PAST * units, 0, 1},
                 {&p.bias, n_layer * units, 0.3f, 1},
                 {&p.out, n_layer * FTK_ACTIONS * units, 0, 2},
                 {&p.out_bias, n_layer * FTK_ACTIONS, 0, 0.3f},
                 {&p.scale, n_layer * n_embd, 1, 0.3f}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].at = all;
        for (int k = 0; k < parts[i].n; k++) *all++ = parts[i].base + parts[i].spread * roll();
    }
    return p;
}

/* By how much the best action at a layer is better than the second best, in double. */
static double margin_of(const ftk_policy *p, int layer, const float *x, const uint8_t *past)
{
    double square = 0, spent = 0, best = -INFINITY, second = -INFINITY;
    double h[FTK_POLICY_UNITS];
    for (int i = 0; i < p->n_embd; i++) square += (double)x[i] * x[i];
    for (int l = 0; l < layer; l++) spent += p->cost[past[l]];
    for (int k = 0; k < p->units; k++) {
        h[k] = p->bias[layer * p->units + k] + p->past[past[layer - 1] * p->units + k] +
               p->past[(FTK_ACTIONS + past[layer > 1 ? layer - 2 : 0]) * p->units + k] +
               p->past[2 * FTK_ACTIONS * p->units + k] * spent / p->n_layer;
        for (int i = 0; i < p->n_embd; i++)
            h[k] +=
                p->in[i * p->units + k] * x[i] / sqrt(square / p->n_embd + (double)FTK_POLICY_EPS);
    }
    for (int a = 0; a < FTK_ACTIONS; a++) {
        if (a == FTK_PARTIAL && !p->partial) continue;
        double v = p->out_bias[layer * FTK_ACTIONS + a];
        for (int k = 0; k < p->units; k++)
            if (h[k] > 0) v += h[k] * p->out[(layer * FTK_ACTIONS + a) * p->units + k];
        second = fmax(second, fmin(v, best));
        best = fmax(best, v);
    }
    return best - second;
}

/* Numbers of a policy on the device. */
static ftk_policy send_policy(ftk_queue *q, const ftk_policy *p, const float *all, char *at)
{
    ftk_policy to = *p;
    ftk_cuda_upload(q, at, all, MOST_POLICY * sizeof *all);
    const float **const parts[] = {&to.in, &to.past, &to.bias, &to.out, &to.out_bias, &to.scale};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        *parts[i] = (const float *)(void *)(at + ((const char *)*parts[i] - (const char *)all));
    return to;
}

/* What is chosen layer after layer on made-up states is what the host chooses; ends are full. */
static void check_choices(ftk_queue *q, int n_embd, int units, int counts[FTK_ACTIONS])
{
    enum { LAYERS = 40, EMBD = 2051 };
    static float all[MOST_POLICY], x[LAYERS][EMBD], scaled[EMBD];
    static uint8_t want[LAYERS], got[LAYERS], fixed[LAYERS];
    ftk_policy p = make_policy(LAYERS, n_embd, units, all);
    char *numbers = ftk_cuda_alloc(q, sizeof all);
    float *dx = ftk_cuda_alloc(q, sizeof x);
    ftk_cuda_route *dr = ftk_cuda_alloc(q, sizeof *dr);
    uint8_t *da = ftk_cuda_alloc(q, sizeof got), *df = ftk_cuda_alloc(q, sizeof fixed);
    for (int round = 0; round < 8; round++) {
        const ftk_cuda_route r = {.scaled = round & 1, .fixed = round == 7};
        p.partial = round & 2;
        p.first = 1 + (round & 4) / 2;
        p.last = round & 3;
        ftk_policy on = send_policy(q, &p, all, numbers);
        on.fixed = df;
        for (int l = 0; l < LAYERS; l++) {
            for (int i = 0; i < n_embd; i++) x[l][i] = roll() * (float)(1 << l % 20);
            fixed[l] = (uint8_t)(l * 7 % FTK_ACTIONS);
        }
        ftk_cuda_upload(q, dx, x, sizeof x);
        ftk_cuda_upload(q, dr, &r, sizeof r);
        ftk_cuda_upload(q, df, fixed, sizeof fixed);
        memset(got, FTK_SKIP, sizeof got); /* what the last round left is no answer */
        ftk_cuda_upload(q, da, got, sizeof got);
        for (int l = 0; l < LAYERS; l++) ftk_cuda_choose(q, &on, dr, l, dx + l * EMBD, da);
        ftk_cuda_download(q, got, da, sizeof got);
        expect(ftk_cuda_wait(q), "the device failed", 0, 0);
        p.fixed = r.fixed ? fixed : NULL;
        for (int l = 0; l < LAYERS; l++) {
            want[l] = ftk_policy_choose(&p, l, x[l], got);
            counts[got[l]]++;
            if (want[l] != got[l] && !r.fixed && l >= p.first && l < LAYERS - p.last)
                expect(margin_of(&p, l, x[l], got) < 1e-3, "another action (layer, round)", l,
                       round);
            else
                expect(want[l] == got[l], "another action at an end (layer, round)", l, round);
        }
        p.fixed = NULL;
        /* the state of a layer that is left out */
        ftk_cuda_leave_out(q, &on, dr, 3, dx);
        ftk_cuda_download(q, scaled, dx, (size_t)n_embd * sizeof *scaled);
        expect(ftk_cuda_wait(q), "the device failed", 0, 0);
        for (int i = 0; i < n_embd; i++)
            expect(scaled[i] == (r.scaled ? x[0][i] * p.scale[3 * n_embd + i] : x[0][i]),
                   "scaled otherwise", i, round);
    }
    void *const memory[] = {numbers, dx, dr, da, df};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) ftk_cuda_free(q, memory[i]);
}

void check_policies(int ordinal)
{
    static const int sizes[][2] = {{7, 1}, {96, 5}, {2051, 16}, {1000, 33}, {300, 64}};
    int counts[FTK_ACTIONS] = {0};
    check_shape_name = "policies";
    ftk_queue q;
    if (!ftk_cuda_open(&q, ordinal)) exit(2);
    for (int i = 0; i < (int)(sizeof sizes / sizeof *sizes); i++)
        check_choices(&q, sizes[i][0], sizes[i][1], counts);
    for (int a = 0; a < FTK_ACTIONS; a++)
        expect(counts[a] > 200, "an action is rare", a, counts[a]);
    ftk_cuda_close(&q);
}

/* A row behind s and the rows of lower depths. */
static void run_route(bench *b, const ftk_kv_seq *s, int depth, const ftk_policy *p,
                      uint8_t *actions)
{
    const int32_t token = token_at(b, 3000 + depth);
    const ftk_route route = {.policy = p, .actions = actions};
    const ftk_pass_seq seq = {
        .kv = s, .n_rows = 1, .slot = depth, .token = &token, .route = &route};
    ftk_forward_run(&b->f, &seq, 1);
}

enum { DEPTHS = 5 };

/* Rows that run every layer are those of a chain, to the bit, and so is the pass after others. */
static void check_full_routes(bench *b, const ftk_policy *p, int prefix)
{
    const size_t n_vocab = (size_t)b->f.m->hp.n_vocab;
    uint8_t actions[FTK_MAX_LAYERS], wild[FTK_MAX_LAYERS], full[FTK_MAX_LAYERS] = {0};
    ftk_policy all_full = *p, others = *p;
    all_full.fixed = full;
    others.fixed = wild;
    for (int l = 0; l < p->n_layer; l++) wild[l] = (uint8_t)(1 + l % 2);
    ftk_kv_seq s = seq_new(b);
    read_to(b, &s, prefix, 50);
    must(ftk_kv_reserve(&s, DEPTHS), "reserve");
    int32_t tokens[DEPTHS];
    for (int i = 0; i < DEPTHS; i++) tokens[i] = token_at(b, 3000 + i);
    const ftk_pass_seq chain = {.kv = &s, .n_rows = DEPTHS, .token = tokens};
    float *want = malloc(DEPTHS * row_bytes(b));
    ftk_forward_run(&b->f, &chain, 1);
    memcpy(want, b->f.logits, DEPTHS * row_bytes(b));
    for (int round = 0; round < 2; round++) {
        for (int d = 0; d < DEPTHS; d++) run_route(b, &s, d, &others, actions);
        for (int d = 0; d < DEPTHS; d++) {
            memset(actions, 9, sizeof actions);
            run_route(b, &s, d, &all_full, actions);
            expect(memcmp(actions, full, (size_t)p->n_layer) == 0, "not full", d, round);
            expect(memcmp(want + (size_t)d * n_vocab, b->f.logits, row_bytes(b)) == 0,
                   "a full route is not its row (depth, round)", d, round);
        }
        for (int d = 0; d < DEPTHS; d++) run_route(b, &s, d, &others, actions);
        expect(memcmp(actions, wild, (size_t)p->n_layer) == 0, "not what was fixed", round, 0);
        ftk_forward_run(&b->f, &chain, 1);
        expect(memcmp(want, b->f.logits, DEPTHS * row_bytes(b)) == 0,
               "routes are seen by the pass after them", round, 0);
    }
    free(want);
    ftk_kv_seq_close(&s);
}

/* Rows by a policy do what the CPU's do, up to rounding: which may turn a choice that is close.
 * Where an action was another, what follows is compared with the CPU's own by those actions. */
void check_routes(bench *cpu, bench *dev, double tol)
{
    static float all[MOST_POLICY];
    const ftk_model *m = dev->f.m;
    ftk_device *const d = dev->device;
    char why[400] = "";
    ftk_lowbit copy = {0};
    dice = 77;
    ftk_policy p = make_policy(m->hp.n_layer, m->hp.n_embd, 16, all);
    must(d->ops->add_policy(d, &p, why, sizeof why), why);
    must(ftk_lowbit_open(&copy, m), "layers in few bits");
    must(d->ops->add_low_bits(d, why, sizeof why), why);
    must(d->ops->add_low_bits(d, why, sizeof why), why);
    cpu->f.low = copy.layers;
    int counts[FTK_ACTIONS] = {0}, others = 0, rows = 0;
    for (int round = 0; round < 8; round++) {
        ftk_policy by = p;
        if (round & 1) by.scale = NULL;
        uint8_t actions[2][FTK_MAX_LAYERS], wild[FTK_MAX_LAYERS];
        for (int l = 0; l < m->hp.n_layer; l++) wild[l] = (uint8_t)((l + round) % FTK_ACTIONS);
        if (round > 5) by.fixed = wild;
        ftk_kv_seq a = seq_new(cpu), b = seq_new(dev);
        read_to(cpu, &a, 20 + round, 40);
        read_to(dev, &b, 20 + round, 40);
        must(ftk_kv_reserve(&a, DEPTHS), "reserve");
        must(ftk_kv_reserve(&b, DEPTHS), "reserve");
        for (int depth = 0; depth < DEPTHS; depth++, rows++) {
            run_route(dev, &b, depth, &by, actions[0]);
            run_route(cpu, &a, depth, &by, actions[1]);
            for (int l = 0; l < m->hp.n_layer; l++) counts[actions[0][l]]++;
            if (memcmp(actions[0], actions[1], (size_t)m->hp.n_layer) != 0) {
                ftk_policy same = by;
                same.fixed = actions[0];
                run_route(cpu, &a, depth, &same, actions[1]);
                others++;
            }
            check_close(cpu, dev, 1, tol);
        }
        ftk_kv_seq_close(&a);
        ftk_kv_seq_close(&b);
    }
    for (int i = 0; i < FTK_ACTIONS; i++)
        expect(counts[i] > 2, "an action was never taken", i, counts[i]);
    expect(others <= rows / 10, "other actions than on the CPU (rows, of)", others, rows);
    check_full_routes(dev, &p, 250); /* into another chunk of attention */
    expect(d->ops->kept(d) > 0, "no route was kept", 0, 0);
    cpu->f.low = NULL;
    ftk_lowbit_close(&copy, &m->host);
}
