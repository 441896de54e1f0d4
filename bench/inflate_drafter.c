/* SPDX-License-Identifier: Apache-2.0
 *
 * inflate, files of trained drafters: what they draft for the large model is what they draft for
 * the small one, at the cost of matrices of the large width.
 *
 * Features have zeros behind the small model's, so what makes features writes zeros there. The
 * stream before a norm holds copies: what reads states or embeddings reads the first, what makes
 * states writes all. S4C divides an embedding by its root mean square, which is sqrt(factor)
 * times the small model's: the weights behind it are multiplied by that, and so are those of
 * DASH's policy. FIRP divides one root mean square by another, and nothing changes. All add 1e-6
 * to a mean of squares that is `factor` times the small one: in S4C that moves an embedding's
 * scale by a part of 1e-6 over its mean of squares.
 *
 * DASH's policy chooses at a layer of the small model what it chose there, and at a new one as
 * at the last old one before it, so that about the same share of the layers is run, in full or
 * in few bits. What a new layer adds to the text is nothing either way; but it is one of the two
 * last actions that the policy sees. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drafters/drafter.h"
#include "inflate.h"
#include "model/drafterfile.h"
#include "run.h"
#include "weights.h"

#define PREFIX "foretoken.drafter."

/* Tensors FIRST.i.NAME. */
static const struct {
    const ftk_drafter_ops *family;
    const char *first;
    matrix m;
} parts[] = {
    {&ftk_drafter_s4c, "head", {"in", TOKEN_AND_FEATURE, STREAM_IN, NOISE, AT_NEW}},
    {&ftk_drafter_s4c, "head", {"in", STREAM_IN, STREAM_IN, NOISE, AT_NEW}}, /* sees no token */
    {&ftk_drafter_s4c, "head", {"body", STREAM_IN, STREAM_IN, NOISE, AT_NEW}},
    {&ftk_drafter_firp, "offset", {"weight", STREAM_RAW, STREAM_OUT, NOISE, AT_NEW}},
    {&ftk_drafter_firp, "offset", {"token", STREAM_RAW, STREAM_OUT, NOISE, AT_NEW}},
};
enum { N_PARTS = sizeof parts / sizeof parts[0] };

/* DASH's vectors, and what their numbers belong to. */
typedef enum spread { NOTHING, CHANNELS, LAYERS, LAYERS_AND_CHANNELS } spread;
static const struct {
    const char *name;
    spread by;
} vectors[] = {
    {"policy.in", CHANNELS}, {"policy.past", NOTHING},    {"policy.bias", LAYERS},
    {"policy.out", LAYERS},  {"policy.out_bias", LAYERS}, {"scale", LAYERS_AND_CHANNELS},
};
enum { N_VECTORS = sizeof vectors / sizeof vectors[0] };

typedef struct {
    ftk_drafterfile file;
    const ftk_drafter_ops *family;
} drafter;

/* The first copy of the stream is the small model's, the others are not zeros. */
static void place_raw(const job *j, axis *a)
{
    const int d = j->small->hp.n_embd;
    inflate_place(a, 0, 0, d);
    for (int i = d; i < j->copies * d; i++) a->from[i] = LIVE;
}

static void make_axes(job *j)
{
    const int d = j->small->hp.n_embd;
    inflate_axis(&j->axes[STREAM_RAW], j->s.dim);
    place_raw(j, &j->axes[STREAM_RAW]);
    inflate_axis(&j->axes[TOKEN_AND_FEATURE], 2 * j->s.dim);
    place_raw(j, &j->axes[TOKEN_AND_FEATURE]);
    inflate_place(&j->axes[TOKEN_AND_FEATURE], j->s.dim, d, d);
}

/* ---- the small file */

static const ftk_drafter_ops *find_family(const char *path, ftk_str name)
{
    for (int i = 0; i < N_PARTS; i++) {
        const char *known = parts[i].family->name;
        if (name.n == strlen(known) && memcmp(name.p, known, name.n) == 0) return parts[i].family;
    }
    if (name.n == 4 && memcmp(name.p, "dash", 4) == 0) return &ftk_drafter_dash;
    run_die("%s: drafters of the family %.*s cannot be inflated: only s4c, firp and dash can", path,
            (int)(name.n < 40 ? name.n : 40), name.p);
}

static drafter open_drafter(const job *j, const char *path)
{
    const ftk_hparams *hp = &j->small->hp;
    drafter d;
    ftk_str family;
    if (ftk_drafterfile_open(&d.file, path, j->small, true, &family, &j->small->host) != FTK_OK)
        exit(RUN_FAILED);
    d.family = find_family(path, family);
    const ftk_target sizes = {.n_vocab = hp->n_vocab, .n_embd = hp->n_embd, .n_layer = hp->n_layer};
    if (d.family->check(&d.file.weights, &sizes, &j->small->host) != FTK_OK) exit(RUN_FAILED);
    return d;
}

static bool named(const char *name, const char *first, const char *last)
{
    const size_t n = strlen(first);
    char wanted[64];
    if (strncmp(name, first, n) != 0 || name[n] != '.') return false;
    snprintf(wanted, sizeof wanted, "%s.%d.%s", first, atoi(name + n + 1), last);
    return strcmp(name, wanted) == 0;
}

static const matrix *find_part(const job *j, const drafter *d, const ftk_weight *w)
{
    const int n = j->small->hp.n_embd;
    for (int i = 0; i < N_PARTS; i++) {
        const matrix *m = &parts[i].m;
        const int n_in = m->in == TOKEN_AND_FEATURE ? 2 * n : n;
        if (parts[i].family == d->family && named(w->name, parts[i].first, m->name) && w->matrix &&
            w->n_in == n_in && w->n_out == n)
            return m;
    }
    run_die("%s: tensor %s is no part of a drafter of the family %s that can be inflated",
            d->file.path, w->name, d->family->name);
}

/* ---- tensors */

/* Of each row, the weights that read an embedding, times sqrt(factor). */
static void *scaled_for_tokens(const job *j, const ftk_tensor_info *t)
{
    char *all = malloc((size_t)t->size);
    if (!all) run_die("no memory for %llu bytes", (unsigned long long)t->size);
    memcpy(all, t->data, (size_t)t->size);
    const size_t row = ftk_type_bytes((ftk_type)t->type, (size_t)t->dims[0]);
    for (size_t r = 0; r < t->dims[1]; r++)
        weights_scale(weights_of(t->type), sqrt(j->factor), (size_t)j->small->hp.n_embd,
                      all + r * row);
    return all;
}

static spread find_vector(const drafter *d, const ftk_weight *w)
{
    for (int i = 0; i < N_VECTORS; i++)
        if (strcmp(w->name, vectors[i].name) == 0) return vectors[i].by;
    run_die("%s: tensor %s is no part of a drafter of the family %s that can be inflated",
            d->file.path, w->name, d->family->name);
}

static void put_floats(job *j, const float *x, size_t n, double scale)
{
    for (size_t i = 0; i < n; i++) {
        const float y = x ? (float)(x[i] * scale) : 0;
        modelfile_write(&j->m, &y, sizeof y);
    }
}

/* One factor for each channel of the stream; what is no copy of the small model's is 0 anyway. */
static void put_scale(job *j, const float *small)
{
    static const float one = 1;
    const axis *out = &j->axes[STREAM_OUT];
    for (int c = 0; c < out->n; c++)
        put_floats(j, small && out->from[c] >= 0 ? small + out->from[c] : &one, 1, 1);
}

static void put_vector(job *j, const drafter *d, const ftk_weight *w)
{
    const spread by = find_vector(d, w);
    const axis *in = &j->axes[STREAM_RAW];
    const bool by_layer = by == LAYERS || by == LAYERS_AND_CHANNELS;
    const int channels = j->small->hp.n_embd;
    const int parts_of = by_layer ? j->small->hp.n_layer : by == CHANNELS ? channels : 1;
    const int each = w->n_in / parts_of;
    if (j->planning) {
        const int large = by_layer ? j->s.layers : by == CHANNELS ? in->n : 1;
        const int wide = by == LAYERS_AND_CHANNELS ? j->s.dim : each;
        modelfile_plan(&j->m, w->name, large * wide, 0, FTK_TYPE_F32);
        return;
    }
    if (by == NOTHING) put_floats(j, w->vector, (size_t)each, 1);
    for (int c = 0; by == CHANNELS && c < in->n; c++)
        put_floats(j, in->from[c] >= 0 ? w->vector + (size_t)in->from[c] * (size_t)each : NULL,
                   (size_t)each, sqrt(j->factor));
    for (int i = 0; by_layer && i < j->s.layers; i++) {
        int near;
        const bool is_new = inflate_small_layer(j, i, &near) < 0;
        const float *old = w->vector + (size_t)near * (size_t)each;
        if (by == LAYERS)
            put_floats(j, old, (size_t)each, 1);
        else
            put_scale(j, is_new ? NULL : old);
    }
    modelfile_align(&j->m);
}

static void put_matrix(job *j, const drafter *d, int i)
{
    const ftk_weight *w = &d->file.weights.items[i];
    const matrix *m = find_part(j, d, w);
    ftk_tensor_info t;
    ftk_gguf_tensor(d->file.file, (size_t)i, &t);
    if (!weights_of(t.type))
        run_die("%s: tensor %s: weights of type %s cannot be inflated", d->file.path, w->name,
                ftk_type_name(t.type));
    void *scaled = NULL;
    if (!j->planning && m->in == TOKEN_AND_FEATURE) t.data = scaled = scaled_for_tokens(j, &t);
    inflate_matrix(j, w->name, m, &t, false);
    free(scaled);
}

static void put_tensors(job *j, const drafter *d, bool planning)
{
    j->planning = planning;
    j->noise = 1;
    for (int i = 0; i < d->file.weights.n; i++)
        if (d->family == &ftk_drafter_dash)
            put_vector(j, d, &d->file.weights.items[i]);
        else
            put_matrix(j, d, i);
}

/* ---- keys */

/* How many layers of the large model it takes to have run so many of the small one. */
static int large_layer(const job *j, int small)
{
    int i = 0, near;
    for (int seen = 0; seen < small; i++) seen += inflate_small_layer(j, i, &near) >= 0;
    return i;
}

/* Where a layer of the small model is in the large one. */
static int place_of(const job *j, int small)
{
    return large_layer(j, small + 1) - 1;
}

/* The layers that no policy decides about. */
static void put_ends(job *j, const drafter *d)
{
    const int n = j->small->hp.n_layer;
    int first, last;
    if (!ftk_weights_int(&d->file.weights, "first", 1, n, &first, &j->small->host) ||
        !ftk_weights_int(&d->file.weights, "last", 1, n, &last, &j->small->host))
        exit(RUN_FAILED);
    gw_u32(&j->m.head, PREFIX "first", (uint32_t)place_of(j, first));
    gw_u32(&j->m.head, PREFIX "last", (uint32_t)(j->s.layers - place_of(j, n - last)));
}

static void put_keys(job *j, const drafter *d, const char *base)
{
    static const char *const ours[] = {PREFIX "base", PREFIX "layer", PREFIX "first", PREFIX "last",
                                       "general.alignment"};
    gw *w = &j->m.head;
    for (size_t i = 0; i < ftk_gguf_n_keys(d->file.file); i++) {
        ftk_str key;
        ftk_gguf_value v;
        ftk_gguf_key(d->file.file, i, &key, &v);
        bool copied = true;
        for (size_t k = 0; k < sizeof ours / sizeof ours[0]; k++)
            copied &= key.n != strlen(ours[k]) || memcmp(key.p, ours[k], key.n) != 0;
        if (copied) gw_copy(w, key, &v);
    }
    gw_str(w, PREFIX "base", base);
    if (d->family->state_layer)
        gw_u32(w, PREFIX "layer",
               (uint32_t)large_layer(j, d->family->state_layer(&d->file.weights) + 1));
    if (d->family == &ftk_drafter_dash) put_ends(j, d);
}

/* ---- all of them */

void inflate_check_drafters(job *j, int n, char *const *pairs)
{
    make_axes(j);
    for (int i = 0; i < n; i++) {
        drafter d = open_drafter(j, pairs[2 * i]);
        modelfile_init(&j->m);
        put_tensors(j, &d, true);
        gw_free(&j->m.head);
        ftk_drafterfile_close(&d.file, &j->small->host);
    }
}

static void write_drafter(job *j, const char *base, const char *from, const char *to)
{
    drafter d = open_drafter(j, from);
    modelfile_init(&j->m);
    put_keys(j, &d, base);
    put_tensors(j, &d, true);
    modelfile_begin(&j->m, to);
    put_tensors(j, &d, false);
    const uint64_t bytes = modelfile_end(&j->m);
    char shown[256];
    printf("%s: %s, %d tensors; %llu KiB\n", run_shown(shown, sizeof shown, to), d.family->name,
           d.file.weights.n, (unsigned long long)(bytes >> 10));
    ftk_drafterfile_close(&d.file, &j->small->host);
}

void inflate_write_drafters(job *j, const char *large_model, int n, char *const *pairs)
{
    if (n == 0) return;
    ftk_model *large = inflate_load(large_model);
    for (int i = 0; i < n; i++)
        write_drafter(j, large->fingerprint, pairs[2 * i], pairs[2 * i + 1]);
    ftk_model_free(large);
}
