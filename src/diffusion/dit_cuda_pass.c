/* SPDX-License-Identifier: Apache-2.0
 *
 * Passes of a DiT on a GPU: patches go there, with what each row does in each branch, and come
 * back; one wait. The order of the computation is that of dit_pass.c. */
#include <math.h>
#include <string.h>

#include "dit_cuda.h"
#include "dit_error.h"

/* ---- products */

static void project(ftk_dit_gpu *c, const float *x, const ftk_cuda_mat *w, int n_rows,
                    const float *bias, bool add, float *y, size_t ldy)
{
    const ftk_tile_act form = ftk_tile_act_of(w->type);
    if (form != FTK_TILE_F32) ftk_cuda_act(&c->q, form, n_rows, w->n_in, x, c->act);
    ftk_cuda_matmul(&c->q, w, form == FTK_TILE_F32 ? (const void *)x : c->act, n_rows, bias, add, y,
                    ldy);
}

void ftk_dit_gpu_modulate(ftk_dit_device *d, const float *x, float *vectors)
{
    ftk_dit_gpu *const c = ftk_dit_gpu_of(d);
    const ftk_dit_shape *s = &c->m->shape;
    const size_t n = (size_t)s->n_embd, ada = FTK_ADA * n;
    const size_t row = (size_t)s->n_layer * ada + 2 * n;
    if (c->life.trouble[0]) return;
    ftk_cuda_upload(&c->q, c->condition, x, (size_t)c->cfg.steps * n * sizeof *x);
    for (int i = 0; i < s->n_layer; i++)
        project(c, c->condition, &c->layers[i].ada, c->cfg.steps, c->layers[i].ada_bias, false,
                vectors + (size_t)i * ada, row);
    project(c, c->condition, &c->output_ada, c->cfg.steps, c->output_ada_bias, false,
            vectors + (size_t)s->n_layer * ada, row);
    ftk_gpu_sync(&c->life); /* x is written again */
}

/* ---- a pass */

typedef struct run {
    ftk_dit_gpu *c;
    ftk_dit_pass *p;
    const ftk_dit_seq *seqs;
    int n_seqs; /* and, with checks, as many of those follow in the last layer */
    bool checks;
} run;

static const ftk_dit_shape *shape_of(const run *r)
{
    return &r->c->m->shape;
}

static bool is_last(const run *r, int layer)
{
    return layer == shape_of(r)->n_layer - 1;
}

/* Rows of states there are, and those that a layer looks at. */
static int all_rows(const run *r)
{
    return r->n_seqs * shape_of(r)->n_tokens * (r->checks ? 2 : 1);
}

static int rows_of(const run *r, int layer)
{
    return is_last(r, layer) ? all_rows(r) : r->n_seqs * shape_of(r)->n_tokens;
}

static size_t list_of(const run *r, int layer, int branch)
{
    return ((size_t)layer * FTK_BRANCHES + (size_t)branch) * (size_t)all_rows(r);
}

/* A token's place in a list that begins at `first`, or what it does instead. */
static void place_tokens(const run *r, int i, int layer, int branch, int first, int32_t *at)
{
    const ftk_dit_shape *s = shape_of(r);
    const ftk_plan *plan = r->seqs[i].plan;
    const ftk_branch_action action = (ftk_branch_action)plan->action[layer][branch];
    for (int t = 0; t < s->n_tokens; t++)
        at[t] = layer >= plan->layers    ? FTK_CUDA_RESTS
                : action == FTK_COMPUTE  ? first + t
                : action == FTK_FORECAST ? FTK_CUDA_FORECASTS
                                         : FTK_CUDA_REUSES;
    if (layer >= plan->layers || action != FTK_TOKENS) return;
    const size_t list = (size_t)layer * (size_t)r->p->halves + (size_t)r->seqs[i].half;
    const int32_t *const tokens = plan->tokens + list * (size_t)s->n_tokens;
    for (int k = 0; k < plan->n_tokens[layer]; k++) at[tokens[k]] = first + k;
}

static int computed_by(const run *r, int i, int layer, int branch)
{
    const ftk_plan *plan = r->seqs[i].plan;
    if (layer >= plan->layers) return 0;
    if (plan->action[layer][branch] == FTK_COMPUTE) return shape_of(r)->n_tokens;
    return plan->action[layer][branch] == FTK_TOKENS ? plan->n_tokens[layer] : 0;
}

static int all_computed(const run *r, int layer, int branch)
{
    int n = 0;
    for (int i = 0; i < r->n_seqs; i++) {
        n += computed_by(r, i, layer, branch);
        if (is_last(r, layer) && r->seqs[i].plan->verify) n += shape_of(r)->n_tokens;
    }
    return n;
}

/* Checks stand behind the sequences. */
static void place_rows(const run *r, int layer, int branch, int32_t *at)
{
    const int n = shape_of(r)->n_tokens;
    int first = 0;
    for (int i = 0; i < r->n_seqs; i++) {
        place_tokens(r, i, layer, branch, first, at + i * n);
        first += computed_by(r, i, layer, branch);
    }
    for (int i = r->n_seqs * n; i < rows_of(r, layer); i++)
        at[i] = r->seqs[i / n - r->n_seqs].plan->verify ? first++ : FTK_CUDA_RESTS;
}

/* What all rows do in all layers. */
static void send_lists(const run *r)
{
    ftk_dit_gpu *const c = r->c;
    const int n_layer = shape_of(r)->n_layer;
    for (int l = 0; l < n_layer; l++)
        for (int b = 0; b < FTK_BRANCHES; b++) place_rows(r, l, b, c->at_host + list_of(r, l, b));
    ftk_cuda_upload(&c->q, c->at, c->at_host, list_of(r, n_layer, 0) * sizeof *c->at);
}

static void describe(const run *r)
{
    const ftk_dit_shape *s = shape_of(r);
    const size_t planes = (size_t)s->n_layer * FTK_BRANCHES * (size_t)s->n_tokens;
    for (int i = 0; i < r->n_seqs; i++) {
        const ftk_dit_seq *seq = &r->seqs[i];
        ftk_cuda_dit *const to = &r->c->seq_host[i];
        const size_t orders = (size_t)seq->kept->orders;
        *to = (ftk_cuda_dit){.modulation = seq->modulation,
                             .orders = seq->kept->orders,
                             .keep = seq->plan->keep,
                             .order = seq->plan->order,
                             .step = seq->plan->step};
        if (orders > 0)
            to->kept =
                seq->kept->features + (size_t)seq->half * planes * orders * (size_t)s->n_embd;
        memcpy(to->coef, seq->plan->coef, sizeof to->coef);
        if (r->checks)
            r->c->seq_host[r->n_seqs + i] = (ftk_cuda_dit){.modulation = seq->modulation};
    }
    const size_t n = (size_t)r->n_seqs * (r->checks ? 2 : 1);
    ftk_cuda_upload(&r->c->q, r->c->seq, r->c->seq_host, n * sizeof *r->c->seq);
}

static ftk_cuda_states states_of(const run *r, int layer, int branch)
{
    const ftk_dit_shape *s = shape_of(r);
    return (ftk_cuda_states){.n_rows = rows_of(r, layer),
                             .n_tokens = s->n_tokens,
                             .n_embd = s->n_embd,
                             .seq = r->c->seq,
                             .x = r->c->x,
                             .at = r->c->at + list_of(r, layer, branch)};
}

static void count(double *sum, const ftk_cuda_mat *w, int n_rows)
{
    *sum += (double)n_rows * w->n_in * w->n_out;
}

/* The nth of the sequences that compute attention: keys and values to pages, and back. */
static void attend(const run *r, int nth)
{
    ftk_dit_gpu *const c = r->c;
    const ftk_dit_shape *s = shape_of(r);
    const size_t n = (size_t)s->n_embd, row = (size_t)nth * (size_t)s->n_tokens;
    const size_t plane = FTK_PAGE * n * sizeof(float);
    const ftk_cuda_kv kv = {.pool = (char *)c->pool,
                            .page_bytes = 2 * plane,
                            .values = plane,
                            .n_head_kv = s->n_head,
                            .head_dim = s->head_dim,
                            .type = FTK_TYPE_F32,
                            .page = c->page};
    const float *const keys = c->kv + row * 2 * n;
    ftk_cuda_kv_store(&c->q, &kv, s->n_tokens, c->span, keys, keys + n, 2 * n);
    const ftk_cuda_attn a = {.n_rows = s->n_tokens,
                             .n_slots = s->n_tokens,
                             .span = c->span + 1,
                             .n_head = s->n_head,
                             .scale = 1.0f / sqrtf((float)s->head_dim),
                             .q = c->queries + row * n,
                             .out = c->attn + row * n,
                             .mask = (const uint64_t(*)[2])c->mask,
                             .partial = c->partial,
                             .partial_bytes = c->partial_size};
    ftk_cuda_attention(&c->q, &a, &kv);
}

static float *scores_of(const run *r, float *scores, int seq, int layer)
{
    const ftk_dit_shape *s = shape_of(r);
    const size_t at = (size_t)seq * (size_t)s->n_layer + (size_t)layer;
    return scores + at * (size_t)s->n_tokens;
}

static void score(const run *r, int seq, int nth, int layer)
{
    ftk_dit_gpu *const c = r->c;
    const ftk_dit_shape *s = shape_of(r);
    const size_t row = (size_t)nth * (size_t)s->n_tokens, n = (size_t)s->n_embd;
    float *const to = scores_of(r, c->scores, seq, layer);
    if (c->cfg.scores == FTK_SCORES_RECEIVED)
        ftk_cuda_dit_received(&c->q, s->n_tokens, s->n_head, s->head_dim,
                              1.0f / sqrtf((float)s->head_dim), c->queries + row * n,
                              c->kv + row * 2 * n, c->ends, to);
    else if (c->cfg.scores == FTK_SCORES_VALUES)
        ftk_cuda_dit_values(&c->q, s->n_tokens, s->n_head, s->head_dim, c->kv + row * 2 * n, to);
}

static void compute_attention(const run *r, int layer, int n_rows)
{
    ftk_dit_gpu *const c = r->c;
    const ftk_dit_gpu_layer *l = &c->layers[layer];
    const ftk_dit_shape *s = shape_of(r);
    const size_t n = (size_t)s->n_embd;
    project(c, c->norm, &l->q, n_rows, l->qkv_bias, false, c->queries, n);
    project(c, c->norm, &l->kv, n_rows, l->qkv_bias + n, false, c->kv, 2 * n);
    for (int i = 0; i < n_rows / s->n_tokens; i++) attend(r, i);
    int nth = 0;
    for (int i = 0; i < r->n_seqs; i++)
        if (computed_by(r, i, layer, FTK_ATTENTION) > 0) score(r, i, nth++, layer);
    project(c, c->attn, &l->o, n_rows, l->o_bias, false, c->out, n);
    count(&r->p->work, &l->q, n_rows);
    count(&r->p->work, &l->kv, n_rows);
    count(&r->p->work, &l->o, n_rows);
    r->p->work += 2.0 * n_rows * s->n_tokens * s->n_embd;
}

static void compute_mlp(const run *r, int layer, int n_rows)
{
    ftk_dit_gpu *const c = r->c;
    const ftk_dit_gpu_layer *l = &c->layers[layer];
    const size_t ff = (size_t)shape_of(r)->n_ff;
    project(c, c->norm, &l->up, n_rows, l->up_bias, false, c->hidden, ff);
    ftk_cuda_gate(&c->q, true, (size_t)n_rows * ff, c->hidden, NULL);
    project(c, c->hidden, &l->down, n_rows, l->down_bias, false, c->out,
            (size_t)shape_of(r)->n_embd);
    count(&r->p->work, &l->up, n_rows);
    count(&r->p->work, &l->down, n_rows);
}

static void run_branch(const run *r, int layer, int branch)
{
    ftk_dit_gpu *const c = r->c;
    const int computed = all_computed(r, layer, branch);
    const ftk_cuda_states states = states_of(r, layer, branch);
    const bool attention = branch == FTK_ATTENTION;
    const float eps = attention ? shape_of(r)->norm_eps : shape_of(r)->ffn_norm_eps;
    const int first = layer * FTK_ADA;
    if (computed > 0) {
        ftk_cuda_dit_norm(&c->q, &states, first + (attention ? FTK_SHIFT_1 : FTK_SHIFT_2), eps,
                          c->norm);
        (attention ? compute_attention : compute_mlp)(r, layer, computed);
    }
    ftk_cuda_dit_add(&c->q, &states, first + (attention ? FTK_GATE_1 : FTK_GATE_2),
                     layer * FTK_BRANCHES + branch, c->out);
}

/* ---- checks */

static size_t seq_floats(const run *r)
{
    return (size_t)shape_of(r)->n_tokens * (size_t)shape_of(r)->n_embd;
}

static void begin_checks(const run *r)
{
    ftk_dit_gpu *const c = r->c;
    const size_t n = seq_floats(r);
    for (int i = 0; i < r->n_seqs; i++) {
        if (!r->seqs[i].plan->verify) continue;
        const float *const from = c->x + (size_t)i * n;
        ftk_cuda_copy(&c->q, c->x + (size_t)(r->n_seqs + i) * n, from, n * sizeof *from);
        ftk_cuda_copy(&c->q, c->before + (size_t)i * n, from, n * sizeof *from);
    }
}

/* Both halves of a sample as one vector. */
static void end_checks(const run *r)
{
    ftk_dit_gpu *const c = r->c;
    const int halves = r->p->halves, samples = r->n_seqs / halves;
    const size_t n = seq_floats(r);
    for (int i = 0; i < samples; i++) {
        const size_t at = (size_t)(i * halves) * n;
        if (r->seqs[i * halves].plan->verify)
            ftk_cuda_dit_offby(&c->q, r->p->metric, (size_t)halves * n, c->x + at,
                               c->x + (size_t)r->n_seqs * n + at, c->before + at,
                               c->offby + i * FTK_CUDA_OFFBY_PARTS);
    }
    ftk_cuda_download(&c->q, c->offby_host, c->offby,
                      (size_t)samples * FTK_CUDA_OFFBY_PARTS * sizeof *c->offby);
}

static void judge(const run *r)
{
    const int halves = r->p->halves;
    for (int i = 0; i < r->n_seqs / halves; i++) {
        if (!r->seqs[i * halves].plan->verify) continue;
        ftk_offby all = {0, 0, 0};
        const ftk_offby *const part = r->c->offby_host + i * FTK_CUDA_OFFBY_PARTS;
        for (int k = 0; k < FTK_CUDA_OFFBY_PARTS; k++) {
            all.a += part[k].a;
            all.b += part[k].b;
            all.c += part[k].c;
        }
        r->p->errors[i] = ftk_offby_error(r->p->metric, (size_t)halves * seq_floats(r), &all);
    }
}

/* ---- ends */

/* States begin as positions, to which the patches are added. */
static void embed(const run *r)
{
    ftk_dit_gpu *const c = r->c;
    const ftk_dit_shape *s = shape_of(r);
    const int n_rows = r->n_seqs * s->n_tokens;
    const size_t n_in = (size_t)c->patch_embd.n_in, n = seq_floats(r);
    for (int i = 0; i < n_rows; i++)
        ftk_dit_patch(s, r->seqs[i / s->n_tokens].input, i % s->n_tokens,
                      c->patches_host + (size_t)i * n_in);
    for (int i = 0; i < r->n_seqs; i++)
        ftk_cuda_copy(&c->q, c->x + (size_t)i * n, c->positions, n * sizeof *c->x);
    ftk_cuda_upload(&c->q, c->patches, c->patches_host, (size_t)n_rows * n_in * sizeof *c->patches);
    project(c, c->patches, &c->patch_embd, n_rows, c->patch_bias, true, c->x, (size_t)s->n_embd);
    count(&r->p->other, &c->patch_embd, n_rows);
}

static void end_states(const run *r)
{
    ftk_dit_gpu *const c = r->c;
    const size_t n = seq_floats(r);
    for (int i = 0; i < r->n_seqs; i++) {
        const ftk_dit_seq *seq = &r->seqs[i];
        if (!seq->kept->end) continue;
        float *const end = seq->kept->end + (size_t)seq->half * n, *const x = c->x + (size_t)i * n;
        const bool all = seq->plan->layers == shape_of(r)->n_layer;
        ftk_cuda_copy(&c->q, all ? end : x, all ? x : end, n * sizeof *x);
    }
}

static void output(const run *r)
{
    ftk_dit_gpu *const c = r->c;
    const ftk_dit_shape *s = shape_of(r);
    const int n_rows = r->n_seqs * s->n_tokens;
    const size_t n_out = (size_t)c->output.n_out;
    ftk_cuda_states states = states_of(r, 0, 0);
    states.n_rows = n_rows;
    states.at = NULL;
    ftk_cuda_dit_norm(&c->q, &states, s->n_layer * FTK_ADA, s->norm_eps, c->norm);
    project(c, c->norm, &c->output, n_rows, c->output_bias, false, c->patches, n_out);
    count(&r->p->other, &c->output, n_rows);
    ftk_cuda_download(&c->q, c->output_host, c->patches,
                      (size_t)n_rows * n_out * sizeof *c->patches);
}

/* Scores of those layers that computed attention. */
static void take_scores(const run *r)
{
    const ftk_dit_shape *s = shape_of(r);
    for (int i = 0; i < r->n_seqs; i++)
        for (int l = 0; l < s->n_layer; l++) {
            if (computed_by(r, i, l, FTK_ATTENTION) == 0) continue;
            const size_t at = (size_t)r->seqs[i].half * (size_t)s->n_layer + (size_t)l;
            memcpy(r->seqs[i].kept->scores + at * (size_t)s->n_tokens,
                   scores_of(r, r->c->scores_host, i, l), (size_t)s->n_tokens * sizeof(float));
        }
}

static void take_output(const run *r)
{
    ftk_dit_gpu *const c = r->c;
    const ftk_dit_shape *s = shape_of(r);
    const size_t n_out = (size_t)c->output.n_out;
    for (int i = 0; i < r->n_seqs * s->n_tokens; i++)
        ftk_dit_unpatch(s, c->output_host + (size_t)i * n_out, i % s->n_tokens,
                        r->seqs[i / s->n_tokens].output);
}

static void run_layers(const run *r)
{
    const int n_layer = shape_of(r)->n_layer;
    for (int l = 0; l < n_layer; l++) {
        const bool checks = r->checks && is_last(r, l);
        if (checks) begin_checks(r);
        for (int b = 0; b < FTK_BRANCHES; b++) run_branch(r, l, b);
        if (checks) end_checks(r);
    }
}

void ftk_dit_gpu_run(ftk_dit_device *d, ftk_dit_pass *p, const ftk_dit_seq *seqs, int n)
{
    ftk_dit_gpu *const c = ftk_dit_gpu_of(d);
    const ftk_dit_shape *s = &c->m->shape;
    run r = {.c = c, .p = p, .seqs = seqs, .n_seqs = n};
    if (c->life.trouble[0]) return;
    for (int i = 0; i < n; i++) r.checks |= seqs[i].plan->verify;
    describe(&r);
    send_lists(&r);
    embed(&r);
    run_layers(&r);
    end_states(&r);
    output(&r);
    if (c->cfg.scores)
        ftk_cuda_download(&c->q, c->scores_host, c->scores,
                          (size_t)(n * s->n_layer) * (size_t)s->n_tokens * sizeof *c->scores);
    ftk_gpu_sync(&c->life);
    if (c->life.trouble[0]) return;
    if (r.checks) judge(&r);
    if (c->cfg.scores) take_scores(&r);
    take_output(&r);
}
