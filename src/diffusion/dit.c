/* SPDX-License-Identifier: Apache-2.0
 * Loads a diffusion transformer: shape, then tensors by name and shape, then packing. */
#include "dit.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/floats.h"
#include "base/mem.h"
#include "base/team.h"
#include "model/gguf.h"

typedef struct loader {
    ftk_dit *m;
    const char *path;
    size_t n_vectors; /* floats given out of m->vectors */
} loader;

/* ---- the tensors there are */

typedef enum side {
    ONE,
    EMBD,
    EMBD_2,
    EMBD_3,
    EMBD_6,
    FF,
    FREQ,
    PATCH_IN,
    PATCH_OUT,
    LABELS,
    N_SIDES
} side;

typedef struct part {
    const char *name;
    side n_in, n_out; /* n_out ONE: a vector */
    size_t field;     /* of ftk_dit_layer, or of ftk_dit */
} part;

#define OF_LAYER(field) offsetof(ftk_dit_layer, field)
#define OF_MODEL(field) offsetof(struct ftk_dit, field)

static const part layer_parts[] = {
    {"ada.weight", EMBD, EMBD_6, OF_LAYER(ada)},
    {"ada.bias", EMBD_6, ONE, OF_LAYER(ada_bias)},
    {"attn_qkv.weight", EMBD, EMBD_3, OF_LAYER(kv)}, /* split_qkv() takes q out of it */
    {"attn_qkv.bias", EMBD_3, ONE, OF_LAYER(qkv_bias)},
    {"attn_output.weight", EMBD, EMBD, OF_LAYER(o)},
    {"attn_output.bias", EMBD, ONE, OF_LAYER(o_bias)},
    {"ffn_up.weight", EMBD, FF, OF_LAYER(up)},
    {"ffn_up.bias", FF, ONE, OF_LAYER(up_bias)},
    {"ffn_down.weight", FF, EMBD, OF_LAYER(down)},
    {"ffn_down.bias", EMBD, ONE, OF_LAYER(down_bias)},
};
static const part model_parts[] = {
    {"patch_embd.weight", PATCH_IN, EMBD, OF_MODEL(patch_embd)},
    {"patch_embd.bias", EMBD, ONE, OF_MODEL(patch_bias)},
    {"time_embd.0.weight", FREQ, EMBD, OF_MODEL(time_0)},
    {"time_embd.0.bias", EMBD, ONE, OF_MODEL(time_0_bias)},
    {"time_embd.2.weight", EMBD, EMBD, OF_MODEL(time_2)},
    {"time_embd.2.bias", EMBD, ONE, OF_MODEL(time_2_bias)},
    {"class_embd.weight", EMBD, LABELS, OF_MODEL(class_embd)},
    {"output_ada.weight", EMBD, EMBD_2, OF_MODEL(output_ada)},
    {"output_ada.bias", EMBD_2, ONE, OF_MODEL(output_ada_bias)},
    {"output.weight", EMBD, PATCH_OUT, OF_MODEL(output)},
    {"output.bias", PATCH_OUT, ONE, OF_MODEL(output_bias)},
};
enum {
    N_LAYER_PARTS = sizeof layer_parts / sizeof layer_parts[0],
    N_MODEL_PARTS = sizeof model_parts / sizeof model_parts[0],
    LAYER_MATS = 6
};

static int length(const ftk_dit_shape *s, side which)
{
    const int c = s->n_embd, cells = s->patch * s->patch;
    const int of[N_SIDES] = {1,
                             c,
                             2 * c,
                             3 * c,
                             6 * c,
                             s->n_ff,
                             s->n_freq,
                             cells * s->channels,
                             cells * s->out_channels,
                             s->n_classes + 1};
    return of[which];
}

/* ---- reading */

static ftk_err find_tensor(const loader *l, const char *name, int n_in, int n_out,
                           ftk_tensor_info *info)
{
    const ftk_host *h = &l->m->host;
    char why[64];
    if (!ftk_gguf_find_tensor(l->m->file, name, info))
        return ftk_fail(h, FTK_ERR_FORMAT, "%s: tensor %s is missing", l->path, name);
    if (info->dims[0] != (uint64_t)n_in || info->dims[1] != (uint64_t)n_out || info->dims[2] != 1 ||
        info->dims[3] != 1)
        return ftk_fail(h, FTK_ERR_FORMAT,
                        "%s: tensor %s has shape [%" PRIu64 ", %" PRIu64 "%s] instead of [%d, %d]",
                        l->path, name, info->dims[0], info->dims[1],
                        info->n_dims > 2 ? ", ..." : "", n_in, n_out);
    if (!ftk_type_supported(info->type))
        return ftk_fail(h, FTK_ERR_UNSUPPORTED,
                        "%s: tensor %s has type %s: convert the model to Q8_0, F16, BF16 or F32",
                        l->path, name, ftk_gguf_refuse_type(why, sizeof why, info->type));
    l->m->n_params += (uint64_t)n_in * (uint64_t)n_out;
    return FTK_OK;
}

/* n_out rows as floats in the arena. */
static ftk_err find_floats(loader *l, const char *name, int n_in, int n_out, const float **out)
{
    ftk_tensor_info info;
    const ftk_err err = find_tensor(l, name, n_in, n_out, &info);
    if (err != FTK_OK) return err;
    float *const v = l->m->vectors + l->n_vectors;
    const size_t n = (size_t)n_in, row = (size_t)(info.size / (uint64_t)n_out);
    l->n_vectors += n * (size_t)n_out;
    for (size_t i = 0; i < (size_t)n_out; i++)
        l->m->kernels.dequant_row((ftk_type)info.type, n_in, (const char *)info.data + i * row,
                                  v + i * n);
    for (size_t i = 0; i < n * (size_t)n_out; i++)
        if (!isfinite(v[i]))
            return ftk_fail(&l->m->host, FTK_ERR_FORMAT,
                            "%s: tensor %s holds values that are not finite", l->path, name);
    *out = v;
    return FTK_OK;
}

static ftk_err find_part(loader *l, const part *p, const char *name, void *object)
{
    const int n_in = length(&l->m->shape, p->n_in), n_out = length(&l->m->shape, p->n_out);
    void *const field = (char *)object + p->field;
    if (p->n_out == ONE) return find_floats(l, name, n_in, 1, field);
    ftk_tensor_info info;
    const ftk_err err = find_tensor(l, name, n_in, n_out, &info);
    if (err != FTK_OK) return err;
    *(ftk_mat *)field = (ftk_mat){.type = (ftk_type)info.type,
                                  .n_out = n_out,
                                  .n_in = n_in,
                                  .data = info.data,
                                  .file = info.data};
    l->m->weight_bytes += info.size;
    return FTK_OK;
}

/* Queries lie apart from keys and values in a pass, and so do the rows that make them. */
static void split_qkv(ftk_dit_layer *l)
{
    const int c = l->kv.n_in;
    const size_t row = ftk_type_bytes(l->kv.type, (size_t)c);
    l->q = l->kv;
    l->q.n_out = c;
    l->kv.n_out = 2 * c;
    l->kv.data = l->kv.file = (const char *)l->kv.data + row * (size_t)c;
}

static const char *part_name(char *buf, size_t cap, int layer, const part *p)
{
    snprintf(buf, cap, "blk.%d.%s", layer, p->name);
    return buf;
}

static size_t vectors_size(const ftk_dit *m)
{
    const ftk_dit_shape *s = &m->shape;
    size_t layer = 0, model = (size_t)s->n_tokens * (size_t)s->n_embd;
    for (int i = 0; i < N_LAYER_PARTS; i++)
        if (layer_parts[i].n_out == ONE) layer += (size_t)length(s, layer_parts[i].n_in);
    for (int i = 0; i < N_MODEL_PARTS; i++)
        if (model_parts[i].n_out == ONE) model += (size_t)length(s, model_parts[i].n_in);
    for (int i = 0; i < m->n_l2c; i++)
        model += (size_t)((m->l2c[i].steps + 1) / 2) * 2 * (size_t)s->n_layer;
    return model + layer * (size_t)s->n_layer;
}

/* ---- Learning-to-Cache */

static ftk_err read_l2c_keys(loader *l)
{
    ftk_dit *m = l->m;
    const ftk_host *h = &m->host;
    ftk_err err =
        ftk_dit_key_int(m->file, l->path, "dit.l2c.count", 0, FTK_MAX_L2C, 0, &m->n_l2c, h);
    for (int i = 0; i < m->n_l2c && err == FTK_OK; i++) {
        char key[64];
        snprintf(key, sizeof key, "dit.l2c.%d.steps", i);
        err = ftk_dit_key_int(m->file, l->path, key, 2, m->shape.train_steps, -1, &m->l2c[i].steps,
                              h);
        snprintf(key, sizeof key, "dit.l2c.%d.threshold", i);
        if (err == FTK_OK)
            err = ftk_dit_key_real(m->file, l->path, key, -1, 1, NAN, &m->l2c[i].threshold, h);
        for (int j = 0; j < i && err == FTK_OK; j++)
            if (m->l2c[j].steps == m->l2c[i].steps)
                err = ftk_fail(h, FTK_ERR_FORMAT, "%s: two tables of dit.l2c are for %d steps",
                               l->path, m->l2c[i].steps);
    }
    return err;
}

static ftk_err find_l2c(loader *l)
{
    ftk_err err = FTK_OK;
    for (int i = 0; i < l->m->n_l2c && err == FTK_OK; i++) {
        char name[64];
        ftk_l2c_table *t = &l->m->l2c[i];
        snprintf(name, sizeof name, "l2c.%d.router", i);
        err = find_floats(l, name, 2 * l->m->shape.n_layer, (t->steps + 1) / 2, &t->value);
    }
    return err;
}

/* ---- positions: the first half of the numbers says the column, the second the row; of each
 * half, the first half are sines and the rest cosines */

static void make_positions(loader *l)
{
    const ftk_dit_shape *s = &l->m->shape;
    float *const all = l->m->vectors + l->n_vectors;
    const int quarter = s->n_embd / 4;
    l->n_vectors += (size_t)s->n_tokens * (size_t)s->n_embd;
    for (int t = 0; t < s->n_tokens; t++) {
        for (int i = 0; i < quarter; i++) {
            const double freq = pow(10000, -(double)i / quarter);
            const double column = t % s->grid * freq, row = t / s->grid * freq;
            float *const p = all + (size_t)t * (size_t)s->n_embd + i;
            p[0] = (float)sin(column);
            p[quarter] = (float)cos(column);
            p[2 * quarter] = (float)sin(row);
            p[3 * quarter] = (float)cos(row);
        }
    }
    l->m->positions = all;
}

/* ---- all tensors */

static ftk_err find_tensors(loader *l)
{
    ftk_dit *m = l->m;
    const int n_layer = m->shape.n_layer;
    m->vectors = ftk_alloc_raw(&m->host, vectors_size(m), sizeof(float));
    m->layers = ftk_alloc(&m->host, (size_t)n_layer, sizeof *m->layers);
    if (!m->vectors || !m->layers)
        return ftk_fail(&m->host, FTK_ERR_NOMEM, "%s: no memory for %d layers", l->path, n_layer);
    ftk_err err = FTK_OK;
    char name[80];
    for (int i = 0; i < n_layer; i++)
        for (int p = 0; p < N_LAYER_PARTS && err == FTK_OK; p++)
            err = find_part(l, &layer_parts[p], part_name(name, sizeof name, i, &layer_parts[p]),
                            &m->layers[i]);
    for (int i = 0; i < n_layer && err == FTK_OK; i++) split_qkv(&m->layers[i]);
    for (int p = 0; p < N_MODEL_PARTS && err == FTK_OK; p++)
        err = find_part(l, &model_parts[p], model_parts[p].name, m);
    if (err == FTK_OK) err = find_l2c(l);
    if (err == FTK_OK) make_positions(l);
    return err;
}

static bool is_known(const ftk_dit *m, const char *name)
{
    char good[80];
    for (int p = 0; p < N_MODEL_PARTS; p++)
        if (strcmp(name, model_parts[p].name) == 0) return true;
    for (int i = 0; i < m->n_l2c; i++) {
        snprintf(good, sizeof good, "l2c.%d.router", i);
        if (strcmp(name, good) == 0) return true;
    }
    if (strncmp(name, "blk.", 4) != 0) return false;
    const long layer = strtol(name + 4, NULL, 10);
    for (int p = 0; p < N_LAYER_PARTS && layer >= 0 && layer < m->shape.n_layer; p++)
        if (strcmp(name, part_name(good, sizeof good, (int)layer, &layer_parts[p])) == 0)
            return true;
    return false;
}

/* What the pass does not know would be left out of it in silence. */
static ftk_err check_unused(const loader *l)
{
    for (size_t i = 0; i < ftk_gguf_n_tensors(l->m->file); i++) {
        ftk_tensor_info info;
        char name[80], shown[96];
        ftk_gguf_tensor(l->m->file, i, &info);
        snprintf(name, sizeof name, "%.*s", (int)info.name.n, info.name.p);
        if (!is_known(l->m, name))
            return ftk_fail(&l->m->host, FTK_ERR_UNSUPPORTED,
                            "%s: tensor %s is no part of a dit model as this build knows it",
                            l->path, ftk_gguf_show(shown, sizeof shown, info.name));
    }
    return FTK_OK;
}

/* ---- packing */

static ftk_mat *matrix_at(ftk_dit *m, int i)
{
    if (i >= LAYER_MATS * m->shape.n_layer) {
        ftk_mat *const alone[] = {&m->patch_embd, &m->time_0, &m->time_2, &m->output_ada,
                                  &m->output};
        const int k = i - LAYER_MATS * m->shape.n_layer;
        return k < (int)(sizeof alone / sizeof alone[0]) ? alone[k] : NULL;
    }
    ftk_dit_layer *const l = &m->layers[i / LAYER_MATS];
    ftk_mat *const of[LAYER_MATS] = {&l->ada, &l->q, &l->kv, &l->o, &l->up, &l->down};
    return of[i % LAYER_MATS];
}

/* Matrices are dealt out one by one, as they differ in size. */
typedef struct packing {
    ftk_dit *m;
    const size_t *at; /* where each goes */
    int n;
    atomic_int next;
} packing;

static void pack_some(void *ctx, int ith, int nth)
{
    packing *const p = ctx;
    (void)ith;
    (void)nth;
    for (int i; (i = atomic_fetch_add(&p->next, 1)) < p->n;) {
        ftk_mat *const w = matrix_at(p->m, i);
        if (ftk_packed_bytes(&p->m->kernels, w) == 0) continue;
        void *const dst = (char *)p->m->packed + p->at[i];
        p->m->kernels.pack(w->type, w->n_out, w->n_in, w->data, dst);
        ftk_gguf_forget(w->data, ftk_type_bytes(w->type, (size_t)w->n_in) * (size_t)w->n_out);
        w->data = dst;
    }
}

static ftk_err pack(loader *l)
{
    ftk_dit *m = l->m;
    int n = 0;
    while (matrix_at(m, n)) n++;
    size_t *const at = ftk_alloc(&m->host, (size_t)n, sizeof *at), total = 0;
    if (!at) return ftk_fail(&m->host, FTK_ERR_NOMEM, "%s: no memory", l->path);
    for (int i = 0; i < n; i++) {
        at[i] = total;
        total += ftk_packed_bytes(&m->kernels, matrix_at(m, i));
    }
    const bool cached = total <= ftk_cache_bytes() / 2;
    for (int i = 0; i < n; i++) matrix_at(m, i)->cached = cached;
    if (total > 0) m->packed = ftk_alloc_raw(&m->host, total, 1);
    if (m->packed) {
        packing p = {.m = m, .at = at, .n = n};
        ftk_team_run_once(pack_some, &p, &m->host);
    }
    ftk_release(&m->host, at);
    if (total == 0 || m->packed) return FTK_OK;
    return ftk_fail(&m->host, FTK_ERR_NOMEM,
                    "%s: needs %zu MiB for the weights: use a smaller model or fewer bits", l->path,
                    total >> 20);
}

/* ---- names */

static ftk_err copy_name(loader *l)
{
    ftk_gguf_value v;
    const bool found = ftk_gguf_find(l->m->file, "general.name", &v) && v.type == FTK_GGUF_STRING;
    const size_t n = found ? v.s.n : 0;
    l->m->name = ftk_alloc(&l->m->host, n + 1, 1);
    if (!l->m->name) return ftk_fail(&l->m->host, FTK_ERR_NOMEM, "%s: no memory", l->path);
    if (n > 0) memcpy(l->m->name, v.s.p, n);
    return FTK_OK;
}

static ftk_err copy_class_names(loader *l)
{
    ftk_gguf_value v;
    ftk_dit *m = l->m;
    if (!ftk_gguf_find(m->file, "dit.class_names", &v)) return FTK_OK;
    if (v.type != FTK_GGUF_ARRAY || v.elem != FTK_GGUF_STRING ||
        v.count != (uint64_t)m->shape.n_classes)
        return ftk_fail(&m->host, FTK_ERR_FORMAT,
                        "%s: key dit.class_names is no array of %d strings", l->path,
                        m->shape.n_classes);
    size_t bytes = 0;
    const unsigned char *at = v.data;
    for (uint64_t i = 0; i < v.count; i++) bytes += ftk_gguf_next_str(&at).n + 1;
    m->class_names = ftk_alloc(&m->host, bytes, 1);
    m->class_name = ftk_alloc(&m->host, (size_t)m->shape.n_classes, sizeof *m->class_name);
    if (!m->class_names || !m->class_name)
        return ftk_fail(&m->host, FTK_ERR_NOMEM, "%s: no memory", l->path);
    char *to = m->class_names;
    at = v.data;
    for (uint64_t i = 0; i < v.count; i++) {
        const ftk_str s = ftk_gguf_next_str(&at);
        if (memchr(s.p, 0, s.n))
            return ftk_fail(&m->host, FTK_ERR_FORMAT,
                            "%s: string %d of dit.class_names holds a NUL byte", l->path, (int)i);
        m->class_name[i] = to;
        memcpy(to, s.p, s.n);
        to += s.n + 1;
    }
    return FTK_OK;
}

/* ---- life */

static ftk_err load(loader *l)
{
    ftk_dit *m = l->m;
    ftk_err err = ftk_gguf_open(&m->file, l->path, &m->host);
    if (err == FTK_OK) err = ftk_dit_shape_read(&m->shape, m->file, l->path, &m->host);
    if (err == FTK_OK) err = copy_name(l);
    if (err == FTK_OK) err = copy_class_names(l);
    if (err == FTK_OK) err = read_l2c_keys(l);
    if (err == FTK_OK) err = find_tensors(l);
    if (err == FTK_OK) err = check_unused(l);
    return err == FTK_OK ? pack(l) : err;
}

void ftk_dit_config_fill(ftk_dit_config *cfg, size_t size)
{
    ftk_config_give(cfg, size, &(ftk_dit_config){0}, sizeof *cfg);
}

static ftk_err load_model(ftk_dit **out, const char *path, const ftk_dit_config *cfg)
{
    const ftk_host *h = &cfg->host;
    if (!path) return ftk_fail(h, FTK_ERR_INVALID, "no path of a model was given");
    ftk_dit *m = ftk_alloc(h, 1, sizeof *m);
    if (!m) return ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory", path);
    m->host = *h;
    loader l = {.m = m, .path = path};
    ftk_err err;
    if (ftk_kernels_fill(&m->kernels, cfg->kernels))
        err = load(&l);
    else
        err = ftk_fail(h, FTK_ERR_INVALID, "kernels \"%s\" are unknown or not for this machine",
                       cfg->kernels);
    if (err != FTK_OK) {
        ftk_dit_free(m);
        return err;
    }
    *out = m;
    return FTK_OK;
}

ftk_err ftk_dit_load(ftk_dit **out, const char *path, const ftk_dit_config *cfg)
{
    *out = NULL;
    ftk_dit_config own = {0};
    const size_t known = offsetof(ftk_dit_config, host) + sizeof cfg->host;
    const bool has_host = cfg && cfg->size >= known && cfg->size <= FTK_CONFIG_MOST;
    ftk_err err = ftk_config_take(&own, sizeof own, cfg, "dit", has_host ? &cfg->host : NULL);
    if (err != FTK_OK) return err;
    const ftk_floats floats = ftk_floats_enter();
    return ftk_floats_after(&floats, load_model(out, path, &own));
}

void ftk_dit_free(ftk_dit *m)
{
    if (!m) return;
    const ftk_host host = m->host;
    void *const all[] = {m->name,    m->class_names, (void *)m->class_name,
                         m->vectors, m->packed,      m->layers};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ftk_release(&host, all[i]);
    ftk_gguf_free(m->file);
    ftk_release(&host, m);
}

void ftk_dit_report(const ftk_dit *m, ftk_dit_info *info, size_t size)
{
    const ftk_dit_shape *s = &m->shape;
    const ftk_dit_info own = {
        .name = m->name,
        .kernels = m->kernels.name,
        .n_layer = s->n_layer,
        .n_embd = s->n_embd,
        .n_head = s->n_head,
        .n_ff = s->n_ff,
        .patch = s->patch,
        .side = s->side,
        .channels = s->channels,
        .n_tokens = s->n_tokens,
        .n_classes = s->n_classes,
        .train_steps = s->train_steps,
        .guided_channels = s->guided_channels,
        .learned_variance = s->learned_variance,
        .pixel = s->pixel,
        .n_l2c = m->n_l2c,
        .n_params = m->n_params,
        .weight_bytes = m->weight_bytes,
    };
    ftk_config_report(info, size, &own, sizeof own);
}

const char *ftk_dit_class_name(const ftk_dit *m, int32_t label)
{
    return m->class_name && label >= 0 && label < m->shape.n_classes ? m->class_name[label] : NULL;
}

int ftk_dit_l2c_steps(const ftk_dit *m, int i)
{
    return i >= 0 && i < m->n_l2c ? m->l2c[i].steps : 0;
}
