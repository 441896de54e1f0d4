/* SPDX-License-Identifier: Apache-2.0
 * The table of modulation vectors. */
#include "modulation.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

/* Bytes of a table that need no asking. */
static const size_t cheap = (size_t)256 << 20;

/* One product of the team: y = W x + bias for all steps. */
typedef struct product {
    ftk_modulation *t;
    ftk_team *team;
    const ftk_mat *w;
    const float *x, *bias;
    float *y;
    size_t ldx, ldy;
} product;

static void multiply(void *ctx, int ith, int nth)
{
    const product *const p = ctx;
    const ftk_kernels *const k = &p->t->m->kernels;
    const int rows = p->t->n_steps;
    for (int r = ith; r < rows; r += nth)
        k->act_pack(p->w->type, p->w->n_in, p->x + (size_t)r * p->ldx,
                    p->t->act + (size_t)r * p->t->act_stride);
    if (nth > 1) ftk_team_wait(p->team, nth);
    const ftk_range o = ftk_team_share(ith, nth, p->w->n_out, k->matmul_grain);
    if (o.begin >= o.end) return;
    k->matmul(p->w, p->t->act, p->t->act_stride, rows, o.begin, o.end, p->y, p->ldy);
    for (int r = 0; r < rows; r++)
        k->add(o.end - o.begin, p->bias + o.begin, p->y + (size_t)r * p->ldy + o.begin);
}

static void project(ftk_modulation *t, ftk_team *team, const ftk_mat *w, const float *bias,
                    const float *x, float *y, size_t ldy)
{
    product p = {.t = t, .team = team, .w = w, .x = x, .bias = bias, .y = y, .ldy = ldy};
    p.ldx = (size_t)w->n_in;
    t->work += (double)t->n_steps * w->n_in * w->n_out;
    ftk_team_run(team, multiply, &p);
}

static void silu(const ftk_modulation *t, int n, float *x)
{
    for (int r = 0; r < t->n_steps; r++)
        t->m->kernels.silu_mul(n, x + (size_t)r * (size_t)n, t->ones);
}

/* Cosines of the timestep at all frequencies, then sines, through two layers. The angles are
 * floats, as they were where the model was trained: at a thousand steps the last bit of a
 * frequency shows. */
static void embed_times(ftk_modulation *t, const ftk_noise_step *steps, ftk_team *team)
{
    const ftk_dit *m = t->m;
    const int n = m->shape.n_freq, half = n / 2, c = m->shape.n_embd;
    const float decay = -9.21034037f, spread = (float)(half - m->shape.freq_shift); /* -ln 10000 */
    for (int r = 0; r < t->n_steps; r++) {
        float *const x = t->hidden + (size_t)r * (size_t)n;
        for (int i = 0; i < half; i++) {
            const float freq = (float)exp((double)(decay * (float)i / spread));
            const float angle = (float)steps[r].t * freq;
            x[i] = (float)cos((double)angle);
            x[half + i] = (float)sin((double)angle);
        }
    }
    project(t, team, &m->time_0, m->time_0_bias, t->hidden, t->times, (size_t)c);
    silu(t, c, t->times);
    project(t, team, &m->time_2, m->time_2_bias, t->times, t->hidden, (size_t)c);
    memcpy(t->times, t->hidden, (size_t)t->n_steps * (size_t)c * sizeof *t->times);
}

static void add_one(const ftk_modulation *t, float *vectors, size_t at)
{
    const int c = t->m->shape.n_embd;
    for (int r = 0; r < t->n_steps; r++)
        t->m->kernels.add(c, t->ones, vectors + (size_t)r * t->row + at * (size_t)c);
}

/* SiLU of the embeddings of timestep and label, in t->hidden. */
static void condition(ftk_modulation *t, int32_t label)
{
    const ftk_dit *m = t->m;
    const int c = m->shape.n_embd;
    const size_t row_bytes = ftk_type_bytes(m->class_embd.type, (size_t)c);
    float *const of_label = t->hidden + (size_t)t->n_steps * (size_t)c;
    m->kernels.dequant_row(m->class_embd.type, c,
                           (const char *)m->class_embd.data + (size_t)label * row_bytes, of_label);
    for (int r = 0; r < t->n_steps; r++) {
        float *const row = t->hidden + (size_t)r * (size_t)c;
        memcpy(row, t->times + (size_t)r * (size_t)c, (size_t)c * sizeof *row);
        m->kernels.add(c, of_label, row);
    }
    silu(t, c, t->hidden);
}

static void make(ftk_modulation *t, int slot, int32_t label, ftk_team *team)
{
    const ftk_dit *m = t->m;
    const int c = m->shape.n_embd, n_layer = m->shape.n_layer;
    float *const vectors = t->vectors + (size_t)slot * (size_t)t->n_steps * t->row;
    const float *const x = t->hidden;
    condition(t, label);
    t->label[slot] = label;
    if (t->device) {
        t->device->ops->modulate(t->device, x, vectors);
        t->work += (double)t->n_steps * c * (double)t->row;
        return;
    }
    for (int l = 0; l < n_layer; l++) {
        project(t, team, &m->layers[l].ada, m->layers[l].ada_bias, x,
                vectors + (size_t)l * FTK_ADA * (size_t)c, t->row);
        add_one(t, vectors, (size_t)l * FTK_ADA + FTK_SCALE_1);
        add_one(t, vectors, (size_t)l * FTK_ADA + FTK_SCALE_2);
    }
    project(t, team, &m->output_ada, m->output_ada_bias, x,
            vectors + (size_t)n_layer * FTK_ADA * (size_t)c, t->row);
    add_one(t, vectors, (size_t)n_layer * FTK_ADA + 1);
}

static int find(const ftk_modulation *t, int32_t label)
{
    for (int i = 0; i < t->capacity; i++)
        if (t->label[i] == label) return i;
    return -1;
}

/* A free slot, or one whose label is not among those asked for. */
static int free_slot(const ftk_modulation *t, const int32_t *labels, int n)
{
    int slot = find(t, -1);
    for (int i = 0; slot < 0; i++) {
        bool wanted = false;
        for (int j = 0; j < n; j++) wanted |= labels[j] == t->label[i];
        if (!wanted) slot = i;
    }
    return slot;
}

void ftk_modulation_prepare(ftk_modulation *t, const int32_t *labels, int n, ftk_team *team)
{
    for (int i = 0; i < n; i++)
        if (find(t, labels[i]) < 0) make(t, free_slot(t, labels, n), labels[i], team);
}

const float *ftk_modulation_at(const ftk_modulation *t, int32_t label, int step)
{
    const size_t at = (size_t)find(t, label) * (size_t)t->n_steps + (size_t)step;
    return t->vectors + at * t->row;
}

ftk_err ftk_modulation_open(ftk_modulation *t, const ftk_dit *m, const ftk_host *h,
                            const ftk_noise_step *steps, int n_steps, int labels, ftk_team *team,
                            ftk_dit_device *device)
{
    const ftk_dit_shape *s = &m->shape;
    const size_t c = (size_t)s->n_embd, n = (size_t)n_steps;
    const int widest = s->n_embd > s->n_freq ? s->n_embd : s->n_freq;
    *t = (ftk_modulation){.m = m, .host = h, .device = device, .n_steps = n_steps};
    t->row = ((size_t)s->n_layer * FTK_ADA + 2) * c;
    const size_t fit = cheap / (n * t->row * sizeof(float)), all = (size_t)s->n_classes + 1;
    const size_t room = fit > (size_t)labels ? fit : (size_t)labels;
    t->capacity = (int)(room < all ? room : all);
    t->act_stride = m->kernels.act_bytes(FTK_TYPE_F32, widest);
    t->label = ftk_alloc(h, (size_t)t->capacity, sizeof *t->label);
    const size_t vectors = (size_t)t->capacity * n;
    t->vectors = device ? device->ops->mem_alloc(device, vectors * t->row * sizeof(float))
                        : ftk_alloc_raw(h, vectors, t->row * sizeof(float));
    t->times = ftk_alloc_raw(h, n, c * sizeof(float));
    t->hidden = ftk_alloc_raw(h, n + 1, (size_t)widest * sizeof(float));
    t->act = ftk_alloc_raw(h, n, t->act_stride);
    t->ones = ftk_alloc_raw(h, c, sizeof(float));
    if (!t->label || !t->vectors || !t->times || !t->hidden || !t->act || !t->ones)
        return ftk_fail(
            h, FTK_ERR_NOMEM,
            "no memory for the modulation of %d steps: use fewer steps or a smaller batch",
            n_steps);
    for (int i = 0; i < t->capacity; i++) t->label[i] = -1;
    for (size_t i = 0; i < c; i++) t->ones[i] = 1;
    embed_times(t, steps, team);
    return FTK_OK;
}

void ftk_modulation_close(ftk_modulation *t)
{
    if (!t->m) return;
    if (t->device) {
        t->device->ops->mem_free(t->device, t->vectors);
        t->vectors = NULL;
    }
    void *const all[] = {t->label, t->vectors, t->times, t->hidden, t->act, t->ones};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ftk_release(t->host, all[i]);
    *t = (ftk_modulation){0};
}
