/* SPDX-License-Identifier: Apache-2.0
 * Medusa's heads (arXiv 2401.10774), of the model's feature x: x += silu(W x + b), once for each
 * layer, then a matrix that names tokens. As Medusa itself writes them (H.I.linear.weight,
 * H.LAYERS.weight) and as vLLM does (blocks.H.layers.I.weight, lm_heads.H.weight or one
 * lm_head.weight; with original_lm_head lm_heads.0.weight is that one). How many heads and layers
 * there are, the tensors say: configurations that were published say otherwise. */
#include <limits.h>
#include <stdio.h>

#include "base/mem.h"
#include "model/headparts.h"

enum { NAME = FTK_HEAD_NAME };

typedef ftk_head_loader loader;

/* Under one of its names; name gets the one it is there by. */
static bool there(loader *l, const char *name, ftk_source_tensor *t, char as[NAME], ftk_err *err)
{
    static const char *const before[] = {"", "medusa_heads.", "medusa_head."};
    for (int i = 0; i < 3; i++) {
        snprintf(as, NAME, "%s%s", before[i], name);
        if (ftk_source_find(&l->f->source, as, t, err) || *err != FTK_OK) return *err == FTK_OK;
    }
    return false;
}

static bool find_two(loader *l, const char *a, const char *b, ftk_source_tensor *t, char as[NAME],
                     ftk_err *err)
{
    return there(l, a, t, as, err) || (*err == FTK_OK && there(l, b, t, as, err));
}

static ftk_err find_layer(loader *l, int head, int i, bool *found)
{
    ftk_headfile *const f = l->f;
    const int d = l->target->hp.n_embd;
    ftk_source_tensor t;
    char a[NAME / 2], b[NAME / 2], as[NAME];
    ftk_err err;
    snprintf(a, sizeof a, "%d.%d.linear.weight", head, i);
    snprintf(b, sizeof b, "blocks.%d.layers.%d.weight", head, i);
    *found = find_two(l, a, b, &t, as, &err);
    if (!*found) return err;
    err = ftk_head_matrix(l, &(ftk_head_names){as, as, false}, d, d, &f->residual[head][i]);
    snprintf(a, sizeof a, "%d.%d.linear.bias", head, i);
    snprintf(b, sizeof b, "blocks.%d.layers.%d.bias", head, i);
    if (err != FTK_OK || !find_two(l, a, b, &t, as, &err)) return err;
    return ftk_head_vector(l, &(ftk_head_names){as, as, false}, d, true, &f->bias[head][i]);
}

static ftk_err find_output(loader *l, int head, int n_out)
{
    ftk_headfile *const f = l->f;
    ftk_source_tensor t = {0};
    char a[NAME / 2], b[NAME / 2], as[NAME];
    ftk_err err;
    snprintf(a, sizeof a, "%d.%d.weight", head, f->n_layers);
    snprintf(b, sizeof b, "lm_heads.%d.weight", head);
    if (!find_two(l, a, b, &t, as, &err) && err == FTK_OK)
        find_two(l, "lm_head.weight", l->c.one_output ? "lm_heads.0.weight" : "lm_head.weight", &t,
                 as, &err);
    if (err != FTK_OK) return err;
    if (!t.data) return ftk_head_missing(l, a);
    if (!n_out) err = ftk_head_check_rows(l, as, t.dims[1]);
    if (err != FTK_OK) return err;
    const int rows = n_out ? n_out : (int)t.dims[1];
    if (head > 0 && rows != f->model.hp.n_vocab)
        return FTK_FAIL(&f->source, FORMAT, "tensor %s has other rows than the one before", as);
    f->model.hp.n_vocab = rows;
    return ftk_head_matrix(l, &(ftk_head_names){as, as, false}, l->target->hp.n_embd, rows,
                           &f->says[head]);
}

/* Of each head as many layers as the first one has. */
static ftk_err find_head(loader *l, int head, int n_out, bool *found)
{
    ftk_headfile *const f = l->f;
    int i = 0;
    ftk_err err = FTK_OK;
    for (*found = true; *found && i < FTK_MEDUSA_LAYERS && err == FTK_OK; i += *found)
        err = find_layer(l, head, i, found);
    *found = i > 0;
    if (err != FTK_OK || !*found) return err;
    if (head == 0) f->n_layers = i;
    if (i != f->n_layers)
        return FTK_FAIL(&f->source, FORMAT, "head %d has %d layers, the first one has %d", head, i,
                        f->n_layers);
    return find_output(l, head, n_out);
}

ftk_err ftk_medusa_load(ftk_head_loader *l)
{
    static const char *const spare[] = {NULL};
    ftk_headfile *const f = l->f;
    const ftk_model *const t = l->target;
    int n_out;
    bool found = true;
    f->kind = FTK_HEAD_MEDUSA;
    f->target_width = t->hp.n_embd;
    f->n_taps = 1;
    f->tap[0] = t->hp.n_layer;
    f->tap_normed = true;
    f->model.host = f->host;
    f->model.kernels = t->kernels;
    f->model.hp = (ftk_hparams){.n_embd = t->hp.n_embd};
    f->vectors =
        ftk_alloc(&f->host, (size_t)FTK_MEDUSA_HEADS * FTK_MEDUSA_LAYERS * (size_t)t->hp.n_embd,
                  sizeof(float));
    if (!f->vectors) return FTK_FAIL(&f->source, NOMEM, "no memory");
    ftk_err err = ftk_head_vocab(l, &n_out);
    while (found && f->n_heads < FTK_MEDUSA_HEADS && err == FTK_OK) {
        err = find_head(l, f->n_heads, n_out, &found);
        f->n_heads += found && err == FTK_OK;
    }
    if (err == FTK_OK && f->n_heads == 0) err = ftk_head_missing(l, "0.0.linear.weight");
    if (err == FTK_OK) err = ftk_source_check_used(&f->source, spare);
    return err == FTK_OK ? ftk_head_pack(l) : err;
}
