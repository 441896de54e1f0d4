/* SPDX-License-Identifier: Apache-2.0
 * Opens the file of a trained drafter. Nothing in it is trusted. */
#include "drafterfile.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "gguf.h"

#define PREFIX "foretoken.drafter."

static const char architecture[] = "foretoken-drafter";

/* ---- keys */

/* *family is empty until it is known. */
static ftk_err check_identity(const ftk_gguf *file, const char *path, const ftk_model *m,
                              ftk_str *family, const ftk_host *h)
{
    const ftk_str arch = ftk_gguf_text(file, "general.architecture");
    const ftk_str base = ftk_gguf_text(file, PREFIX "base");
    char shown[64];
    *family = (ftk_str){"", 0};
    const bool head = ftk_str_is(arch, "eagle3") || ftk_str_is(arch, "dflash");
    if (!head && !ftk_str_is(arch, architecture))
        return ftk_fail(h, FTK_ERR_INVALID,
                        "%s: is no drafter: its general.architecture is not %s; a model is named "
                        "with -m",
                        path, architecture);
    if (head && !base.p)
        return ftk_fail(h, FTK_ERR_INVALID,
                        "%s: does not say which model it is for: name it with --drafter-file",
                        path);
    const ftk_str name = ftk_gguf_text(file, PREFIX "family");
    if (!name.p) return ftk_fail(h, FTK_ERR_FORMAT, "%s: key " PREFIX "family is missing", path);
    *family = name;
    if (!base.p) return ftk_fail(h, FTK_ERR_FORMAT, "%s: key " PREFIX "base is missing", path);
    if (!ftk_str_is(base, m->fingerprint))
        return ftk_fail(
            h, FTK_ERR_INVALID,
            "%s: was trained for another model (fingerprint %s, this model's is %s): train "
            "one for this model, see drafters/train/README.md",
            path, ftk_gguf_show(shown, sizeof shown, base), m->fingerprint);
    return FTK_OK;
}

ftk_err ftk_drafterfile_identify(const char *path, const ftk_model *m, char *family, size_t cap,
                                 const ftk_host *host)
{
    ftk_gguf *file;
    ftk_str name = {"", 0};
    ftk_err err = ftk_gguf_open(&file, path, host);
    if (err == FTK_OK) err = check_identity(file, path, m, &name, host);
    const size_t n = name.n < cap ? name.n : cap - 1;
    memcpy(family, name.p, n);
    family[n] = 0;
    ftk_gguf_free(file);
    return err;
}

/* ---- tensors */

static ftk_err check_tensor(const ftk_drafterfile *d, const ftk_tensor_info *t, const ftk_host *h)
{
    char shown[96], why[64];
    ftk_gguf_show(shown, sizeof shown, t->name);
    if (t->dims[2] != 1 || t->dims[3] != 1 || t->dims[0] > 1 << 20 || t->dims[1] > 1 << 20)
        return ftk_fail(h, FTK_ERR_FORMAT,
                        "%s: tensor %s is no vector and no matrix of up to 2^20 a side", d->path,
                        shown);
    if (!ftk_type_supported(t->type))
        return ftk_fail(h, FTK_ERR_UNSUPPORTED, "%s: tensor %s has type %s", d->path, shown,
                        ftk_gguf_refuse_type(why, sizeof why, t->type));
    return FTK_OK;
}

/* Counts what the tensors need, and gives views of matrices still in the file. */
static ftk_err find_tensors(ftk_drafterfile *d, const ftk_host *h, size_t *n_floats)
{
    *n_floats = 0;
    for (int i = 0; i < d->weights.n; i++) {
        ftk_tensor_info t;
        ftk_gguf_tensor(d->file, (size_t)i, &t);
        const ftk_err err = check_tensor(d, &t, h);
        if (err != FTK_OK) return err;
        ftk_weight *w = &d->items[i];
        *w = (ftk_weight){.n_out = (int)t.dims[1], .n_in = (int)t.dims[0]};
        snprintf(w->name, sizeof w->name, "%.*s", (int)t.name.n, t.name.p); /* 63 bytes at most */
        d->mats[i] = (ftk_mat){.type = (ftk_type)t.type,
                               .n_out = w->n_out,
                               .n_in = w->n_in,
                               .data = t.data,
                               .file = t.data};
        if (t.n_dims < 2) {
            *n_floats += t.dims[0];
        } else {
            w->matrix = &d->mats[i];
            d->widest = w->n_in > d->widest ? w->n_in : d->widest;
        }
    }
    return FTK_OK;
}

static ftk_err read_vectors(ftk_drafterfile *d, const ftk_model *m, size_t n_floats,
                            const ftk_host *h)
{
    d->vectors = ftk_alloc_raw(h, n_floats, sizeof(float));
    if (!d->vectors) return ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory for a drafter", d->path);
    float *at = d->vectors;
    for (int i = 0; i < d->weights.n; i++) {
        ftk_weight *w = &d->items[i];
        if (w->matrix) continue;
        m->kernels.dequant_row(d->mats[i].type, w->n_in, d->mats[i].data, at);
        for (int j = 0; j < w->n_in; j++)
            if (!isfinite(at[j]))
                return ftk_fail(h, FTK_ERR_FORMAT, "%s: tensor %s holds values that are not finite",
                                d->path, w->name);
        w->vector = at;
        at += w->n_in;
    }
    return FTK_OK;
}

/* ---- the head */

static ftk_err read_vocab(ftk_drafterfile *d, const ftk_model *m, bool *some, const ftk_host *h)
{
    ftk_gguf_value v;
    *some = ftk_gguf_find(d->file, PREFIX "vocab", &v);
    if (!*some) return FTK_OK;
    const uint64_t n_vocab = (uint64_t)m->hp.n_vocab;
    if (v.type != FTK_GGUF_ARRAY || (v.elem != FTK_GGUF_U32 && v.elem != FTK_GGUF_I32) ||
        v.count < 1 || v.count > n_vocab)
        return ftk_fail(h, FTK_ERR_FORMAT,
                        "%s: key " PREFIX "vocab is no array of 1 to %d token ids", d->path,
                        m->hp.n_vocab);
    d->vocab = ftk_alloc_raw(h, (size_t)v.count, sizeof *d->vocab);
    if (!d->vocab) return ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory for a drafter", d->path);
    for (uint64_t i = 0; i < v.count; i++) {
        uint32_t id;
        memcpy(&id, v.data + i * sizeof id, sizeof id);
        if (id >= n_vocab || (i > 0 && (int32_t)id <= d->vocab[i - 1]))
            return ftk_fail(h, FTK_ERR_FORMAT,
                            "%s: key " PREFIX "vocab is not a rising list of token ids", d->path);
        d->vocab[i] = (int32_t)id;
    }
    d->weights.vocab = d->vocab;
    d->weights.n_head = (int)v.count;
    return FTK_OK;
}

/* The listed rows of the output matrix, in its GGUF layout. */
static void *gather_rows(const ftk_drafterfile *d, const ftk_model *m, const ftk_host *h)
{
    const char *from = m->output.file;
    const size_t row = ftk_type_bytes(m->output.type, (size_t)m->output.n_in);
    char *rows = ftk_alloc_raw(h, (size_t)d->weights.n_head, row);
    for (int i = 0; rows && i < d->weights.n_head; i++)
        memcpy(rows + (size_t)i * row, from + (size_t)d->vocab[i] * row, row);
    return rows;
}

static ftk_err make_head(ftk_drafterfile *d, const ftk_model *m, bool some, const ftk_host *h)
{
    ftk_mat *head = &d->mats[d->weights.n];
    *head = m->output;
    d->weights.head = head;
    d->widest = m->hp.n_embd > d->widest ? m->hp.n_embd : d->widest;
    if (!some) return FTK_OK;
    d->rows = gather_rows(d, m, h);
    if (!d->rows) return ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory for a drafter", d->path);
    head->n_out = d->weights.n_head;
    head->data = head->file = d->rows;
    return FTK_OK;
}

/* ---- packing */

static void *pack(const ftk_model *m, ftk_mat *w, void *at)
{
    const size_t n = ftk_packed_bytes(&m->kernels, w);
    w->cached = m->output.cached; /* read with every draft, as its model is with every pass */
    if (n == 0) return at;
    m->kernels.pack(w->type, w->n_out, w->n_in, w->data, at);
    w->data = at;
    return (char *)at + n;
}

/* Where a level reads weights in place, the gathered rows stay as the head's; else they are packed
 * and let go. */
static ftk_err pack_all(ftk_drafterfile *d, const ftk_model *m, const ftk_host *h)
{
    ftk_mat *const head = &d->mats[d->weights.n];
    const size_t head_bytes = d->rows ? ftk_packed_bytes(&m->kernels, head) : 0;
    size_t bytes = head_bytes;
    for (int i = 0; i < d->weights.n; i++)
        if (d->items[i].matrix) bytes += ftk_packed_bytes(&m->kernels, &d->mats[i]);
    d->packed = ftk_alloc_raw(h, bytes, 1);
    if (!d->packed)
        return ftk_fail(h, FTK_ERR_NOMEM, "%s: needs %zu MiB for a drafter", d->path, bytes >> 20);
    void *at = d->packed;
    for (int i = 0; i < d->weights.n; i++)
        if (d->items[i].matrix) at = pack(m, &d->mats[i], at);
    if (head_bytes == 0) return FTK_OK;
    pack(m, head, at);
    head->file = NULL;
    ftk_release(h, d->rows);
    d->rows = NULL;
    return FTK_OK;
}

/* ---- life */

static ftk_err open_parts(ftk_drafterfile *d, const char *path, const ftk_model *m, bool packed,
                          ftk_str *family, const ftk_host *h)
{
    d->path = ftk_alloc(h, strlen(path) + 1, 1);
    if (!d->path) return ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory for a drafter", path);
    memcpy(d->path, path, strlen(path));
    ftk_err err = ftk_gguf_open(&d->file, path, h);
    if (err == FTK_OK) err = check_identity(d->file, path, m, family, h);
    if (err != FTK_OK) return err;
    const size_t n = ftk_gguf_n_tensors(d->file);
    if (n < 1 || n > 4096)
        return ftk_fail(h, FTK_ERR_FORMAT, "%s: %zu tensors: a drafter has 1 to 4096", path, n);
    d->items = ftk_alloc(h, n, sizeof *d->items);
    d->mats = ftk_alloc(h, n + 1, sizeof *d->mats);
    if (!d->items || !d->mats)
        return ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory for a drafter", path);
    d->weights = (ftk_weights){
        .path = d->path, .file = d->file, .n = (int)n, .items = d->items, .n_head = m->hp.n_vocab};
    size_t n_floats;
    bool some = false;
    err = find_tensors(d, h, &n_floats);
    if (err == FTK_OK) err = read_vectors(d, m, n_floats, h);
    if (err == FTK_OK) err = read_vocab(d, m, &some, h);
    if (err == FTK_OK) err = make_head(d, m, some, h);
    return err == FTK_OK && packed ? pack_all(d, m, h) : err;
}

ftk_err ftk_drafterfile_open(ftk_drafterfile *d, const char *path, const ftk_model *m, bool packed,
                             ftk_str *family, const ftk_host *host)
{
    *d = (ftk_drafterfile){0};
    const ftk_err err = open_parts(d, path, m, packed, family, host);
    if (err != FTK_OK) ftk_drafterfile_close(d, host);
    return err;
}

void ftk_drafterfile_close(ftk_drafterfile *d, const ftk_host *h)
{
    ftk_release(h, d->rows);
    ftk_release(h, d->packed);
    ftk_release(h, d->vocab);
    ftk_release(h, d->vectors);
    ftk_release(h, d->mats);
    ftk_release(h, d->items);
    ftk_gguf_free(d->file);
    ftk_release(h, d->path);
    *d = (ftk_drafterfile){0};
}
