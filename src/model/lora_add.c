/* SPDX-License-Identifier: Apache-2.0
 * Adds LoRA adapters to weights: in F32, a row at a time, rounded once. */
#include "lora_parts.h"

#include <math.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "base/team.h"
#include "gguf.h"
#include "kernels/blocks.h"
#include "kernels/codes.h"

typedef ftk_lora_part part;
typedef ftk_lora_change change;

/* One part as floats: W[o] gets scale * sum over r of up[o][r] * down[r]. */
typedef struct factors {
    float *down; /* [rank][n_in] */
    float *up;   /* [n_out][rank] */
    int rank;
    float scale;
} factors;

typedef struct adding {
    const ftk_lora *l;
    const change *c;
    const factors *f; /* [n_parts] */
    size_t n_parts;
    int n_in, n_out;
    atomic_bool bad; /* a value was not finite */
} adding;

static void dequantise(const ftk_lora *l, const ftk_tensor_info *t, float *out)
{
    const size_t n = (size_t)t->dims[0], row = ftk_type_bytes((ftk_type)t->type, n);
    for (uint64_t i = 0; i < t->dims[1]; i++)
        l->m->kernels.dequant_row((ftk_type)t->type, (int)n, (const char *)t->data + i * row,
                                  out + i * n);
}

/* work: room for b once more. */
static void read_factors(const ftk_lora *l, const part *p, bool flipped, factors *f, float *work)
{
    if (!flipped) {
        dequantise(l, &p->a, f->down);
        dequantise(l, &p->b, f->up);
        return;
    }
    const size_t n_in = (size_t)p->b.dims[1], rank = (size_t)f->rank;
    dequantise(l, &p->a, f->up);
    dequantise(l, &p->b, work);
    for (size_t i = 0; i < n_in; i++)
        for (size_t r = 0; r < rank; r++) f->down[r * n_in + i] = work[i * rank + r];
}

/* sum[0..n) = the sum over r of up[r] * down[r], in the order of the ranks, so that the bits are
 * the same on every machine. n is at most FTK_QBLOCK, and mostly that: then the sums stay in
 * registers. */
static inline void sum_ranks(const float *up, const float *down, int rank, int n_in, int n,
                             float *sum)
{
    for (int i = 0; i < n; i++) sum[i] = 0;
    for (int r = 0; r < rank; r++, down += n_in)
        for (int i = 0; i < n; i++) sum[i] += up[r] * down[i];
}

/* Elements [at, at + n) of row o. */
static void add_factors(const factors *f, int n_in, int o, int at, int n, float *x)
{
    const float *up = f->up + (size_t)o * (size_t)f->rank;
    for (int b = 0; b < n; b += FTK_QBLOCK) {
        float sum[FTK_QBLOCK];
        const int few = n - b < FTK_QBLOCK ? n - b : FTK_QBLOCK;
        if (few == FTK_QBLOCK)
            sum_ranks(up, f->down + at + b, f->rank, n_in, FTK_QBLOCK, sum);
        else
            sum_ranks(up, f->down + at + b, f->rank, n_in, few, sum);
        for (int i = 0; i < few; i++) x[b + i] += f->scale * sum[i];
    }
}

static void write_values(ftk_type type, int n, const float *x, void *out)
{
    uint16_t *half = out;
    switch (type) {
    case FTK_TYPE_F32: memcpy(out, x, (size_t)n * sizeof *x); break;
    case FTK_TYPE_F16:
        for (int i = 0; i < n; i++) half[i] = ftk_f32_f16(x[i]);
        break;
    case FTK_TYPE_BF16:
        for (int i = 0; i < n; i++) half[i] = ftk_f32_bf16(x[i]);
        break;
    default: ftk_q8_0_write(n, x, out);
    }
}

/* Elements [at, at + FTK_QUNIT) of row o, or what there is of them; false where what comes of it is
 * not finite. */
static bool add_unit(const adding *j, int o, int at)
{
    const ftk_type was = (ftk_type)j->c->base.type, is = (ftk_type)j->c->now.type;
    const ftk_kernels *k = &j->l->m->kernels;
    const int n = j->n_in - at < FTK_QUNIT ? j->n_in - at : FTK_QUNIT;
    const size_t before = (size_t)o * (size_t)j->n_in + (size_t)at; /* whole blocks */
    const char *from = (const char *)j->c->base.data + ftk_type_bytes(was, before);
    char *to = (char *)(uintptr_t)j->c->now.data + ftk_type_bytes(is, before);
    bool finite = true;
    float x[FTK_QUNIT];
    k->dequant_row(was, n, from, x);
    for (size_t i = 0; i < j->n_parts; i++) add_factors(&j->f[i], j->n_in, o, at, n, x);
    write_values(is, n, x, to);
    k->dequant_row(is, n, to, x); /* a type may hold less than a float */
    for (int i = 0; i < n; i++) finite &= isfinite(x[i]) != 0;
    return finite;
}

/* Some rows at a time, so that what they need of A is read from the cache. */
static void add_rows(void *ctx, int ith, int nth)
{
    enum { SOME = 32 };
    adding *const j = ctx;
    const ftk_range own = ftk_team_share(ith, nth, j->n_out, 1);
    for (int first = own.begin; first < own.end; first += SOME)
        for (int at = 0; at < j->n_in; at += FTK_QUNIT)
            for (int o = first; o < own.end && o < first + SOME; o++)
                if (!add_unit(j, o, at)) atomic_store(&j->bad, true);
}

static ftk_err not_finite(const ftk_lora *l, const change *c)
{
    return ftk_fail(&l->m->host, FTK_ERR_FORMAT,
                    "%s: with it, tensor %s holds values that are not finite, or too large for its "
                    "type: give a smaller scale, or get the adapter again",
                    c->last->from->path, FTK_SHOW(c->base.name));
}

/* Room for the factors of a change in one piece, and for the largest b; NULL: no memory. */
static float *take_room(const ftk_lora *l, const change *c, factors *f)
{
    const size_t n_in = (size_t)c->base.dims[0], n_out = (size_t)c->base.dims[1];
    size_t floats = 0, most = 0;
    for (const part *p = c->first; p; p = p->next) {
        const size_t rank = (size_t)p->b.dims[0];
        floats += rank * (n_in + n_out);
        most = rank > most ? rank : most;
    }
    float *room = ftk_alloc_raw(&l->m->host, floats + most * n_in, sizeof *room), *at = room;
    for (const part *p = c->first; room && p; p = p->next, f++) {
        *f = (factors){.down = at, .rank = (int)p->b.dims[0], .scale = p->scale};
        f->up = f->down + (size_t)f->rank * n_in;
        at = f->up + (size_t)f->rank * n_out;
    }
    return room;
}

static ftk_err add_matrix(const ftk_lora *l, const change *c)
{
    const ftk_host *h = &l->m->host;
    adding j = {.l = l, .c = c, .n_in = (int)c->base.dims[0], .n_out = (int)c->base.dims[1]};
    for (const part *p = c->first; p; p = p->next) j.n_parts++;
    factors *f = ftk_alloc(h, j.n_parts, sizeof *f);
    float *room = f ? take_room(l, c, f) : NULL;
    ftk_err err = FTK_ERR_NOMEM;
    if (room) {
        float *work = f[j.n_parts - 1].up + (size_t)f[j.n_parts - 1].rank * (size_t)j.n_out;
        size_t i = 0;
        for (const part *p = c->first; p; p = p->next, i++)
            read_factors(l, p, ftk_lora_is_embd(&c->base), &f[i], work);
        j.f = f;
        ftk_team_run_once(add_rows, &j, h);
        err = atomic_load(&j.bad) ? not_finite(l, c) : FTK_OK;
    } else {
        ftk_fail(h, err, "%s: no memory to add %s", c->last->from->path, FTK_SHOW(c->base.name));
    }
    ftk_release(h, room);
    ftk_release(h, f);
    ftk_gguf_forget(c->base.data, (size_t)c->base.size);
    return err;
}

/* The values that a part gives take the place of the model's; a scale other than 1 goes only so
 * far. */
static ftk_err change_norm(const ftk_lora *l, const change *c)
{
    const ftk_host *h = &l->m->host;
    const size_t n = (size_t)c->base.dims[0];
    float *room = ftk_alloc_raw(h, n, 2 * sizeof *room);
    if (!room)
        return ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory for %s", c->last->from->path,
                        FTK_SHOW(c->base.name));
    float *was = room, *is = room + n;
    bool finite = true;
    memcpy(was, c->vector, n * sizeof *was);
    for (const part *p = c->first; p; p = p->next) {
        dequantise(l, &p->a, is);
        for (size_t i = 0; i < n; i++) {
            c->vector[i] = (float)(c->vector[i] + (double)p->scale * ((double)is[i] - was[i]));
            finite &= isfinite(c->vector[i]) != 0;
        }
    }
    ftk_release(h, room);
    return finite ? FTK_OK : not_finite(l, c);
}

ftk_err ftk_lora_apply(ftk_lora *l, size_t i, uint64_t *bytes)
{
    const change *c = &l->changes[i];
    *bytes = c->now.size;
    return c->is_norm ? change_norm(l, c) : add_matrix(l, c);
}
