/* SPDX-License-Identifier: Apache-2.0
 *
 * The pass, top to bottom in the order of the computation. One run of the team serves the whole
 * of it. Rows of states belong to threads for good: where a layer computes nothing, and only
 * adds what was kept, no thread waits for another. Within a stage each thread takes a range of
 * rows, of outputs or of heads - never a part of a reduction. */
#include "dit_pass.h"

#include <math.h>
#include <string.h>

#include "dit_device.h"
#include "dit_error.h"

typedef struct worker {
    ftk_dit_pass *p;
    const ftk_dit_seq *seqs;
    int n_seqs;  /* and, with checks, as many of those follow */
    bool checks; /* some sample is verified */
    int layer;
    int ith, nth;
} worker;

static void barrier(const worker *w)
{
    if (w->nth > 1) ftk_team_wait(&w->p->team, w->nth);
}

static ftk_range share(const worker *w, int n, int grain)
{
    return ftk_team_share(w->ith, w->nth, n, grain);
}

static const ftk_dit_shape *shape_of(const worker *w)
{
    return &w->p->m->shape;
}

/* ---- who does what. Sequence i of the second n_seqs is the check of sequence i: it computes
 * the last layer on what its forecast begins with */

static bool is_check(const worker *w, int i)
{
    return i >= w->n_seqs;
}

static const ftk_dit_seq *seq_of(const worker *w, int i)
{
    return &w->seqs[is_check(w, i) ? i - w->n_seqs : i];
}

static bool runs(const worker *w, int i)
{
    const ftk_plan *plan = seq_of(w, i)->plan;
    if (is_check(w, i)) return plan->verify && w->layer == shape_of(w)->n_layer - 1;
    return w->layer < plan->layers;
}

static ftk_branch_action action_of(const worker *w, int i, int branch)
{
    if (is_check(w, i)) return FTK_COMPUTE;
    return (ftk_branch_action)seq_of(w, i)->plan->action[w->layer][branch];
}

/* Sequences to look at: with checks, or without. */
static int n_all(const worker *w)
{
    return w->checks && w->layer == shape_of(w)->n_layer - 1 ? 2 * w->n_seqs : w->n_seqs;
}

/* Tokens that a sequence computes in a branch. */
static int n_computed(const worker *w, int i, int branch)
{
    if (!runs(w, i)) return 0;
    switch (action_of(w, i, branch)) {
    case FTK_COMPUTE: return shape_of(w)->n_tokens;
    case FTK_TOKENS: return seq_of(w, i)->plan->n_tokens[w->layer];
    default: return 0;
    }
}

static const int32_t *tokens_of(const worker *w, const ftk_dit_seq *s)
{
    const size_t at = (size_t)w->layer * (size_t)w->p->halves + (size_t)s->half;
    return s->plan->tokens + at * (size_t)shape_of(w)->n_tokens;
}

static int all_computed(const worker *w, int branch)
{
    int n = 0;
    for (int i = 0; i < n_all(w); i++) n += n_computed(w, i, branch);
    return n;
}

/* Walks the rows that compute a branch: number `at` is token `token` of sequence `seq`. */
typedef struct walk {
    int branch, end;
    int seq, first; /* number of its first row */
    int at, token;
} walk;

static walk walk_rows(int branch, ftk_range r)
{
    return (walk){.branch = branch, .end = r.end, .at = r.begin - 1};
}

static bool next_row(const worker *w, walk *k)
{
    if (++k->at >= k->end) return false;
    int n;
    while (k->at - k->first >= (n = n_computed(w, k->seq, k->branch))) {
        k->first += n;
        k->seq++;
    }
    k->token = k->at - k->first;
    if (action_of(w, k->seq, k->branch) == FTK_TOKENS)
        k->token = tokens_of(w, seq_of(w, k->seq))[k->token];
    return true;
}

static float *state_of(const worker *w, int seq, int token)
{
    const size_t row = (size_t)seq * (size_t)shape_of(w)->n_tokens + (size_t)token;
    return w->p->x + row * (size_t)shape_of(w)->n_embd;
}

static const float *modulation_of(const worker *w, int seq, int which)
{
    const size_t at = (size_t)w->layer * FTK_ADA + (size_t)which;
    return seq_of(w, seq)->modulation + at * (size_t)shape_of(w)->n_embd;
}

/* What is kept of a token in a branch: [orders][n_embd]. */
static float *kept_of(const worker *w, const ftk_dit_seq *s, int branch, int token)
{
    const ftk_dit_shape *shape = shape_of(w);
    const size_t layer = (size_t)s->half * (size_t)shape->n_layer + (size_t)w->layer;
    const size_t at = (layer * FTK_BRANCHES + (size_t)branch) * (size_t)shape->n_tokens;
    return s->kept->features +
           (at + (size_t)token) * (size_t)s->kept->orders * (size_t)shape->n_embd;
}

/* ---- products */

static void pack_row(const worker *w, const ftk_mat *mat, const float *x, int at)
{
    w->p->m->kernels.act_pack(mat->type, mat->n_in, x, w->p->act + (size_t)at * w->p->act_stride);
}

/* This thread's outputs of y = W act + bias. */
static ftk_range multiply(const worker *w, const ftk_mat *mat, const float *bias, int n_rows,
                          float *y)
{
    const ftk_kernels *k = &w->p->m->kernels;
    const ftk_range o = share(w, mat->n_out, k->matmul_grain);
    const size_t ldy = (size_t)mat->n_out;
    if (o.begin < o.end)
        k->matmul(mat, w->p->act, w->p->act_stride, n_rows, o.begin, o.end, y, ldy);
    for (int r = 0; r < n_rows; r++)
        k->add(o.end - o.begin, bias + o.begin, y + (size_t)r * ldy + o.begin);
    return o;
}

static void count(const worker *w, double *sum, double n)
{
    if (w->ith == 0) *sum += n;
}

static void count_product(const worker *w, const ftk_mat *mat, int n_rows)
{
    count(w, &w->p->work, (double)n_rows * mat->n_in * mat->n_out);
}

/* The states that compute a branch, normed, shifted and scaled, as its first matrix reads them. */
static void norm_rows(const worker *w, int branch, const ftk_mat *mat, int n_rows)
{
    const ftk_dit_shape *s = shape_of(w);
    const int shift = branch == FTK_ATTENTION ? FTK_SHIFT_1 : FTK_SHIFT_2;
    const float eps = branch == FTK_ATTENTION ? s->norm_eps : s->ffn_norm_eps;
    float *const norm = w->p->norm + (size_t)w->ith * (size_t)s->n_embd;
    for (walk k = walk_rows(branch, share(w, n_rows, 1)); next_row(w, &k);) {
        w->p->m->kernels.layer_norm(s->n_embd, state_of(w, k.seq, k.token),
                                    modulation_of(w, k.seq, shift + 1),
                                    modulation_of(w, k.seq, shift), eps, norm);
        pack_row(w, mat, norm, k.at);
    }
}

/* ---- attention */

static float *page_of(const worker *w, int nth_seq, int value, int head, int slot)
{
    const ftk_dit_shape *s = shape_of(w);
    const size_t pages = ((size_t)s->n_tokens + FTK_PAGE - 1) / FTK_PAGE;
    const size_t page = ((size_t)nth_seq * 2 + (size_t)value) * pages + (size_t)(slot / FTK_PAGE);
    const size_t row = (size_t)head * FTK_PAGE + (size_t)(slot % FTK_PAGE);
    return w->p->pages + page * w->p->page_floats + row * (size_t)s->head_dim;
}

/* What the value-norm score of a token is made of. */
static float value_score(const ftk_dit_shape *s, const float *values)
{
    double sum = 0;
    for (int h = 0; h < s->n_head; h++) {
        double square = 0;
        for (int i = 0; i < s->head_dim; i++) {
            const double v = values[h * s->head_dim + i];
            square += v * v;
        }
        sum += 1 - sqrt(square);
    }
    return (float)sum;
}

static float *scores_of(const worker *w, const ftk_dit_seq *s)
{
    const size_t layer = (size_t)s->half * (size_t)shape_of(w)->n_layer + (size_t)w->layer;
    return s->kept->scores + layer * (size_t)shape_of(w)->n_tokens;
}

/* Keys and values of the rows to pages. Attention is computed by whole sequences: row `at`
 * belongs to the (at / n_tokens)-th of those that do. */
static void store_rows(const worker *w, int n_rows)
{
    const ftk_dit_shape *s = shape_of(w);
    const ftk_kernels *k = &w->p->m->kernels;
    const size_t c = (size_t)s->n_embd;
    for (walk r = walk_rows(FTK_ATTENTION, share(w, n_rows, 1)); next_row(w, &r);) {
        const float *const key = w->p->kv + (size_t)r.at * 2 * c, *const value = key + c;
        const int nth = r.at / s->n_tokens;
        for (int h = 0; h < s->n_head; h++) {
            const size_t at = (size_t)(h * s->head_dim);
            k->kv_store(FTK_TYPE_F32, s->head_dim, key + at, page_of(w, nth, 0, h, r.token));
            k->kv_store(FTK_TYPE_F32, s->head_dim, value + at, page_of(w, nth, 1, h, r.token));
        }
        if (w->p->scores == FTK_SCORES_VALUES && !is_check(w, r.seq))
            scores_of(w, seq_of(w, r.seq))[r.token] = value_score(s, value);
    }
}

static float *columns_of(const worker *w, int nth_seq)
{
    const ftk_dit_shape *s = shape_of(w);
    const size_t tiles = ((size_t)s->n_tokens + FTK_ATTN_TILE - 1) / FTK_ATTN_TILE;
    return w->p->columns + (size_t)nth_seq * tiles * (size_t)s->n_head * (size_t)s->n_tokens;
}

static void attend(const worker *w, int n_rows)
{
    const ftk_dit_shape *s = shape_of(w);
    const int pages = (s->n_tokens + FTK_PAGE - 1) / FTK_PAGE;
    float *const scratch = w->p->scratch + (size_t)w->ith * w->p->scratch_stride;
    int item = 0;
    for (int i = 0; i < n_rows / s->n_tokens; i++) {
        const size_t row = (size_t)i * (size_t)s->n_tokens;
        const void *const *const page = w->p->page + (size_t)i * 2 * (size_t)pages;
        const ftk_attn a = {
            .n_rows = s->n_tokens,
            .n_head = s->n_head,
            .n_head_kv = s->n_head,
            .head_dim = s->head_dim,
            .scale = 1.0f / sqrtf((float)s->head_dim),
            .kv_type = FTK_TYPE_F32,
            .q = w->p->q + row * (size_t)s->n_embd,
            .out = w->p->attn + row * (size_t)s->n_embd,
            .k_pages = page,
            .v_pages = page + pages,
            .prefix = s->n_tokens,
            .mask = (const uint64_t(*)[2])w->p->mask,
            .columns = w->p->columns ? columns_of(w, i) : NULL,
        };
        for (int r = 0; r < s->n_tokens; r += FTK_ATTN_TILE) {
            const int end = r + FTK_ATTN_TILE < s->n_tokens ? r + FTK_ATTN_TILE : s->n_tokens;
            for (int h = 0; h < s->n_head; h++)
                if (item++ % w->nth == w->ith) w->p->m->kernels.attention(&a, h, r, end, scratch);
        }
    }
    count(w, &w->p->work, 2.0 * n_rows * s->n_tokens * s->n_embd);
}

/* Attention that each token received, summed over rows, the mean of the heads. */
static void keep_received(const worker *w, int n_rows)
{
    const ftk_dit_shape *s = shape_of(w);
    const int n = s->n_tokens, parts = (n + FTK_ATTN_TILE - 1) / FTK_ATTN_TILE * s->n_head;
    for (walk k = walk_rows(FTK_ATTENTION, share(w, n_rows, 1)); next_row(w, &k);) {
        if (is_check(w, k.seq)) continue;
        const float *const columns = columns_of(w, k.at / n) + k.token;
        double sum = 0;
        for (int i = 0; i < parts; i++) sum += columns[(size_t)i * (size_t)n];
        scores_of(w, seq_of(w, k.seq))[k.token] = (float)(sum / s->n_head);
    }
}

static void compute_attention(const worker *w, int n_rows)
{
    const ftk_dit_pass *p = w->p;
    const ftk_dit_layer *l = &p->m->layers[w->layer];
    const int c = shape_of(w)->n_embd;
    barrier(w);
    norm_rows(w, FTK_ATTENTION, &l->q, n_rows);
    barrier(w);
    multiply(w, &l->q, l->qkv_bias, n_rows, p->q);
    multiply(w, &l->kv, l->qkv_bias + c, n_rows, p->kv);
    barrier(w);
    store_rows(w, n_rows);
    barrier(w);
    attend(w, n_rows);
    barrier(w);
    if (p->columns) keep_received(w, n_rows);
    const ftk_range r = share(w, n_rows, 1);
    for (int i = r.begin; i < r.end; i++) pack_row(w, &l->o, p->attn + (size_t)i * (size_t)c, i);
    barrier(w);
    multiply(w, &l->o, l->o_bias, n_rows, p->out);
    count_product(w, &l->q, n_rows);
    count_product(w, &l->kv, n_rows);
    count_product(w, &l->o, n_rows);
    barrier(w);
}

/* ---- the feed-forward part */

static void compute_mlp(const worker *w, int n_rows)
{
    const ftk_dit_pass *p = w->p;
    const ftk_dit_layer *l = &p->m->layers[w->layer];
    const size_t ff = (size_t)shape_of(w)->n_ff;
    barrier(w);
    norm_rows(w, FTK_MLP, &l->up, n_rows);
    barrier(w);
    const ftk_range o = multiply(w, &l->up, l->up_bias, n_rows, p->hidden);
    for (int r = 0; r < n_rows; r++)
        p->m->kernels.gelu_mul(o.end - o.begin, p->hidden + (size_t)r * ff + o.begin, p->ones);
    barrier(w);
    const ftk_range r = share(w, n_rows, 1);
    for (int i = r.begin; i < r.end; i++) pack_row(w, &l->down, p->hidden + (size_t)i * ff, i);
    barrier(w);
    multiply(w, &l->down, l->down_bias, n_rows, p->out);
    count_product(w, &l->up, n_rows);
    count_product(w, &l->down, n_rows);
    barrier(w);
}

/* ---- what becomes of a branch's output */

/* A token's new output is kept, for a step to come or for this one. */
static void keep_row(const worker *w, int seq, int branch, int token, const float *out)
{
    const ftk_dit_seq *s = seq_of(w, seq);
    if (is_check(w, seq) || s->plan->keep < 0 || s->kept->orders == 0) return;
    w->p->m->kernels.differences(shape_of(w)->n_embd, s->plan->keep, out, s->plan->step,
                                 kept_of(w, s, branch, token));
}

/* x += gate * output, for this thread's rows of states. first: number of the sequence's first
 * row among those that were computed. */
static void add_branch(const worker *w, int branch, int seq, int first, ftk_range r)
{
    static const float one = 1;
    const ftk_dit_seq *s = seq_of(w, seq);
    const ftk_dit_shape *shape = shape_of(w);
    const ftk_kernels *k = &w->p->m->kernels;
    const int c = shape->n_embd;
    const ftk_branch_action action = action_of(w, seq, branch);
    const float *gate = modulation_of(w, seq, branch == FTK_ATTENTION ? FTK_GATE_1 : FTK_GATE_2);
    const float *out = w->p->out + (size_t)first * (size_t)c;
    if (action == FTK_TOKENS) {
        const int32_t *const tokens = tokens_of(w, s);
        for (int i = 0; i < s->plan->n_tokens[w->layer]; i++)
            if (tokens[i] >= r.begin && tokens[i] < r.end)
                keep_row(w, seq, branch, tokens[i], out + (size_t)i * (size_t)c);
    }
    for (int t = r.begin; t < r.end; t++) {
        float *const x = state_of(w, seq, t);
        if (action == FTK_COMPUTE) {
            const float *const row = out + (size_t)t * (size_t)c;
            k->gated_add(c, 0, row, &one, gate, x);
            keep_row(w, seq, branch, t, row);
        } else {
            const bool series = action == FTK_FORECAST;
            k->gated_add(c, series ? s->plan->order : 0, kept_of(w, s, branch, t), s->plan->coef,
                         gate, x);
        }
    }
}

/* A thread's rows of one sequence: its share is of all rows there can be, the same in all
 * layers. */
static ftk_range own_rows(const worker *w, int seq)
{
    const int n = shape_of(w)->n_tokens;
    const ftk_range all = share(w, n * w->n_seqs * (w->checks ? 2 : 1), 1);
    const int begin = all.begin - seq * n, end = all.end - seq * n;
    return (ftk_range){begin < 0 ? 0 : begin > n ? n : begin, end < 0 ? 0 : end > n ? n : end};
}

static void finish_branch(const worker *w, int branch)
{
    int first = 0;
    for (int i = 0; i < n_all(w); i++) {
        if (runs(w, i)) add_branch(w, branch, i, first, own_rows(w, i));
        first += n_computed(w, i, branch);
    }
}

static void run_branch(const worker *w, int branch)
{
    const int n_rows = all_computed(w, branch);
    if (n_rows > 0) (branch == FTK_ATTENTION ? compute_attention : compute_mlp)(w, n_rows);
    finish_branch(w, branch);
}

/* ---- checks */

/* Before the last layer: the check begins with the forecast's state. */
static void begin_checks(const worker *w)
{
    const size_t c = (size_t)shape_of(w)->n_embd;
    barrier(w);
    for (int i = 0; i < w->n_seqs; i++) {
        if (!w->seqs[i].plan->verify) continue;
        const ftk_range r = own_rows(w, w->n_seqs + i);
        const size_t n = (size_t)(r.end - r.begin) * c;
        const float *const from = state_of(w, i, r.begin);
        memcpy(state_of(w, w->n_seqs + i, r.begin), from, n * sizeof *from);
        memcpy(w->p->before + (from - w->p->x), from, n * sizeof *from);
    }
    barrier(w);
}

/* A sample by one thread, both halves as one vector. */
static void end_checks(const worker *w)
{
    const int halves = w->p->halves;
    const size_t n = (size_t)shape_of(w)->n_tokens * (size_t)shape_of(w)->n_embd;
    barrier(w);
    for (int i = 0, item = 0; i < w->n_seqs; i += halves) {
        if (!w->seqs[i].plan->verify || item++ % w->nth != w->ith) continue;
        const float *const forecast = state_of(w, i, 0);
        w->p->errors[i / halves] =
            ftk_forecast_error(w->p->metric, (size_t)halves * n, forecast,
                               state_of(w, w->n_seqs + i, 0), w->p->before + (forecast - w->p->x));
    }
}

/* ---- ends */

typedef struct corner {
    int row, column;
} corner;

/* Where token t begins in a sample. */
static corner corner_of(const ftk_dit_shape *s, int t)
{
    return (corner){t / s->grid * s->patch, t % s->grid * s->patch};
}

static size_t pixel(const ftk_dit_shape *s, int channel, int y, int x)
{
    return ((size_t)channel * (size_t)s->side + (size_t)y) * (size_t)s->side + (size_t)x;
}

void ftk_dit_patch(const ftk_dit_shape *s, const float *in, int t, float *patch)
{
    const corner at = corner_of(s, t);
    const int q = s->patch;
    for (int j = 0; j < q * q * s->channels; j++)
        patch[j] = in[pixel(s, j / (q * q), at.row + j / q % q, at.column + j % q)];
}

void ftk_dit_unpatch(const ftk_dit_shape *s, const float *patch, int t, float *out)
{
    const corner at = corner_of(s, t);
    const int q = s->patch, n = s->out_channels;
    for (int j = 0; j < q * q * n; j++)
        out[pixel(s, j % n, at.row + j / n / q, at.column + j / n % q)] = patch[j];
}

static void embed(const worker *w)
{
    const ftk_dit_pass *p = w->p;
    const ftk_dit_shape *s = shape_of(w);
    const ftk_mat *mat = &p->m->patch_embd;
    const int n_rows = w->n_seqs * s->n_tokens;
    const ftk_range r = share(w, n_rows, 1);
    for (int i = r.begin; i < r.end; i++) {
        float *const patch = p->patches + (size_t)i * (size_t)mat->n_in;
        ftk_dit_patch(s, w->seqs[i / s->n_tokens].input, i % s->n_tokens, patch);
        pack_row(w, mat, patch, i);
    }
    barrier(w);
    multiply(w, mat, p->m->patch_bias, n_rows, p->x);
    count(w, &w->p->other, (double)n_rows * mat->n_in * mat->n_out);
    barrier(w);
}

/* Positions; or, where no layer is run, what the last one ended with. */
static void begin_states(const worker *w)
{
    const ftk_dit_shape *s = shape_of(w);
    for (int i = 0; i < w->n_seqs; i++) {
        const ftk_range r = own_rows(w, i);
        const size_t n = (size_t)(r.end - r.begin) * (size_t)s->n_embd;
        const size_t at = (size_t)r.begin * (size_t)s->n_embd;
        if (n > 0) w->p->m->kernels.add((int)n, w->p->m->positions + at, state_of(w, i, r.begin));
    }
}

static void end_states(const worker *w)
{
    const ftk_dit_shape *s = shape_of(w);
    for (int i = 0; i < w->n_seqs; i++) {
        const ftk_dit_seq *seq = &w->seqs[i];
        if (!seq->kept->end) continue;
        const ftk_range r = own_rows(w, i);
        const size_t c = (size_t)s->n_embd, n = (size_t)(r.end - r.begin) * c;
        const size_t row = (size_t)seq->half * (size_t)s->n_tokens + (size_t)r.begin;
        float *const end = seq->kept->end + row * c, *const x = state_of(w, i, r.begin);
        if (seq->plan->layers == s->n_layer)
            memcpy(end, x, n * sizeof *x);
        else
            memcpy(x, end, n * sizeof *x);
    }
}

/* The last norm and product. */
static void output(const worker *w)
{
    const ftk_dit_pass *p = w->p;
    const ftk_dit_shape *s = shape_of(w);
    const ftk_mat *mat = &p->m->output;
    const int n_rows = w->n_seqs * s->n_tokens;
    float *const norm = p->norm + (size_t)w->ith * (size_t)s->n_embd;
    const ftk_range r = share(w, n_rows, 1);
    barrier(w);
    for (int i = r.begin; i < r.end; i++) {
        const int seq = i / s->n_tokens;
        p->m->kernels.layer_norm(s->n_embd, state_of(w, seq, i % s->n_tokens),
                                 modulation_of(w, seq, 1), modulation_of(w, seq, 0), s->norm_eps,
                                 norm);
        pack_row(w, mat, norm, i);
    }
    barrier(w);
    multiply(w, mat, p->m->output_bias, n_rows, p->patches);
    count(w, &w->p->other, (double)n_rows * mat->n_in * mat->n_out);
    barrier(w);
    for (int i = r.begin; i < r.end; i++)
        ftk_dit_unpatch(s, p->patches + (size_t)i * (size_t)mat->n_out, i % s->n_tokens,
                        w->seqs[i / s->n_tokens].output);
}

static void run(void *ctx, int ith, int nth)
{
    worker own = *(const worker *)ctx;
    worker *const w = &own;
    const int n_layer = shape_of(w)->n_layer;
    w->ith = ith;
    w->nth = nth;
    embed(w);
    begin_states(w);
    for (w->layer = 0; w->layer < n_layer; w->layer++) {
        const bool checks = w->layer == n_layer - 1 && w->checks;
        if (checks) begin_checks(w);
        for (int b = 0; b < FTK_BRANCHES; b++) run_branch(w, b);
        if (checks) end_checks(w);
    }
    end_states(w);
    output(w); /* the modulation behind that of the layers is its own */
}

void ftk_dit_pass_run(ftk_dit_pass *p, const ftk_dit_seq *seqs, int n)
{
    if (p->device) {
        p->device->ops->run(p->device, p, seqs, n);
        return;
    }
    worker all = {.p = p, .seqs = seqs, .n_seqs = n};
    for (int i = 0; i < n; i++) all.checks |= seqs[i].plan->verify;
    ftk_team_run(&p->team, run, &all);
}
