/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows that have a route, on a GPU. The policy is asked there (ftk_cuda_choose) and leaves each
 * layer's action in device memory. The work of all actions is put on the queue, and what is
 * another action's does nothing when its turn comes; so the host waits once a row. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "device_cuda.h"
#include "lowbit.h"

/* ---- memory */

void ftk_gpu_free_routes(ftk_gpu *c)
{
    for (ftk_gpu_policy *p = c->policies, *next; p; p = next) {
        next = p->next;
        ftk_cuda_free(&c->q, p->arena);
        ftk_release(&c->host, p);
    }
    c->policies = NULL;
    ftk_cuda_free(&c->q, c->low_arena);
    ftk_release(&c->host, c->low);
    c->low = NULL;
    c->low_arena = NULL;
}

/* ---- policies */

/* Sends the numbers, or counts their bytes. */
static void put_policy(ftk_gpu_loading *l, const ftk_policy *p, ftk_policy *to)
{
    const int outputs = p->n_layer * FTK_ACTIONS;
    ftk_gpu_put_vector(l, p->in, p->n_embd * p->units, &to->in);
    ftk_gpu_put_vector(l, p->past, FTK_POLICY_PAST * p->units, &to->past);
    ftk_gpu_put_vector(l, p->bias, p->n_layer * p->units, &to->bias);
    ftk_gpu_put_vector(l, p->out, outputs * p->units, &to->out);
    ftk_gpu_put_vector(l, p->out_bias, outputs, &to->out_bias);
    ftk_gpu_put_vector(l, p->scale, p->n_layer * p->n_embd, &to->scale);
}

ftk_err ftk_gpu_add_policy(ftk_device *d, const ftk_policy *p, char *why, size_t cap)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    assert(p->n_layer == c->m->hp.n_layer && p->n_embd == c->m->hp.n_embd && p->first > 0);
    ftk_gpu_policy *const to = ftk_alloc(&c->host, 1, sizeof *to);
    if (!to) return ftk_why(why, cap, FTK_ERR_NOMEM, "no memory for a policy");
    *to = (ftk_gpu_policy){.next = c->policies, .key = p->in, .p = *p};
    ftk_gpu_loading l = ftk_gpu_load(c, NULL);
    put_policy(&l, p, &to->p);
    to->arena = ftk_gpu_take(&c->life, l.bytes, "a policy", why, cap);
    ftk_err err = to->arena ? FTK_OK : FTK_ERR_NOMEM;
    if (err == FTK_OK) {
        l = ftk_gpu_load(c, to->arena);
        put_policy(&l, p, &to->p);
        err = ftk_gpu_arrives(&c->life, why, cap);
    }
    if (err == FTK_OK) {
        c->policies = to;
        return FTK_OK;
    }
    ftk_cuda_free(&c->q, to->arena);
    ftk_release(&c->host, to);
    return err;
}

const ftk_gpu_policy *ftk_gpu_policy_of(const ftk_gpu *c, const ftk_policy *p)
{
    for (const ftk_gpu_policy *at = c->policies; at; at = at->next)
        if (at->key == p->in) return at;
    assert(!"a policy that was never added");
    return NULL;
}

/* ---- layers in few bits */

/* Sends the copies of those matrices that gain by it, each made in `room` on the host; or counts
 * their bytes. The others are the model's own. Returns the bytes of the largest. */
static size_t put_low(ftk_gpu_loading *l, const ftk_model *m, char *room, ftk_gpu_layer *to)
{
    size_t most = 0;
    for (int i = 0; i < m->hp.n_layer; i++)
        for (int j = 0; j < FTK_LAYER_MATS; j++) {
            const ftk_mat *from = ftk_layer_mat(&m->layers[i], j);
            if (!ftk_lowbit_gains(from)) continue;
            const ftk_mat copy = {
                .type = FTK_TYPE_Q4_0, .n_out = from->n_out, .n_in = from->n_in, .file = room};
            if (l->arena) ftk_lowbit_quantise(m, from, room);
            ftk_gpu_put_matrix(l, &copy, l->arena ? ftk_gpu_layer_mat(&to[i], j) : NULL);
            most = ftk_gpu_most(most, ftk_lowbit_bytes(from));
        }
    return most;
}

static ftk_err make_low(ftk_gpu *c, size_t bytes, char *room, ftk_gpu_layer *to, char *why,
                        size_t cap)
{
    c->low_arena = ftk_gpu_take(&c->life, bytes, "the layers in few bits", why, cap);
    if (!c->low_arena) return FTK_ERR_NOMEM;
    memcpy(to, c->layers, (size_t)c->m->hp.n_layer * sizeof *to);
    ftk_gpu_loading l = ftk_gpu_load(c, c->low_arena);
    put_low(&l, c->m, room, to);
    return ftk_gpu_arrives(&c->life, why, cap);
}

ftk_err ftk_gpu_add_low_bits(ftk_device *d, char *why, size_t cap)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    const ftk_host *const h = &c->host;
    ftk_gpu_loading count = ftk_gpu_load(c, NULL);
    if (c->low) return FTK_OK;
    const size_t most = put_low(&count, c->m, NULL, NULL);
    if (count.bytes == 0) return FTK_OK; /* FTK_PARTIAL is FTK_FULL */
    ftk_gpu_layer *const to = ftk_alloc(h, (size_t)c->m->hp.n_layer, sizeof *to);
    char *const room = ftk_alloc_raw(h, most, 1);
    const ftk_err err =
        to && room ? make_low(c, count.bytes, room, to, why, cap)
                   : ftk_why(why, cap, FTK_ERR_NOMEM, "no memory to make the layers in few bits");
    ftk_release(h, room);
    if (err == FTK_OK) {
        ftk_gpu_drop_kept(c); /* routes among them */
        c->low = to;
        return FTK_OK;
    }
    ftk_cuda_free(&c->q, c->low_arena);
    c->low_arena = NULL;
    ftk_release(h, to);
    return err;
}

/* ---- rows */

void ftk_gpu_fill_route(const ftk_route *r, const ftk_gpu_inputs *in)
{
    const ftk_policy *p = r->policy;
    *in->route = (ftk_cuda_route){.scaled = p->scale != NULL, .fixed = p->fixed != NULL};
    if (p->fixed) memcpy(in->fixed, p->fixed, (size_t)p->n_layer);
}

void ftk_gpu_choose(ftk_gpu *c, const ftk_gpu_pass *p, int layer)
{
    if (!p->policy) return;
    ftk_policy policy = p->policy->p;
    policy.fixed = p->in.fixed;
    ftk_cuda_choose(&c->q, &policy, p->in.route, layer, c->x, c->actions);
}

void ftk_gpu_when(ftk_gpu *c, const ftk_gpu_pass *p, int layer, unsigned actions)
{
    c->q.when = (ftk_cuda_when){0};
    if (p->policy && actions != FTK_GPU_ALL)
        c->q.when = (ftk_cuda_when){c->actions + layer, actions};
}

void ftk_gpu_leave_out(ftk_gpu *c, const ftk_gpu_pass *p, int layer)
{
    if (!p->policy) return;
    ftk_gpu_when(c, p, layer, FTK_GPU_SKIP);
    ftk_cuda_leave_out(&c->q, &p->policy->p, p->in.route, layer, c->x);
    ftk_gpu_when(c, p, layer, FTK_GPU_ALL);
}

int ftk_gpu_versions(const ftk_gpu *c, const ftk_gpu_pass *p)
{
    return p->policy && c->low ? 2 : 1;
}

const ftk_gpu_layer *ftk_gpu_version(ftk_gpu *c, const ftk_gpu_pass *p, int layer, int version,
                                     unsigned also)
{
    const unsigned first = (c->low ? FTK_GPU_FULL : FTK_GPU_RUN) | also;
    ftk_gpu_when(c, p, layer, version == 0 ? first : (unsigned)FTK_GPU_PARTIAL);
    return version == 0 ? &c->layers[layer] : &c->low[layer];
}
