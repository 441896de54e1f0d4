/* SPDX-License-Identifier: Apache-2.0
 * Opens the file of a trained drafter. Nothing in it is trusted. */
#include "drafterfile.h"

#include <inttypes.h>
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
            path, FTK_SHOW(base), m->fingerprint);
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

static ftk_err check_tensor(const ftk_drafterfile *d, const ftk_tensor_info *t)
{
    char why[64];
    if (t->dims[2] != 1 || t->dims[3] != 1 || t->dims[0] > 1 << 20 || t->dims[1] > 1 << 20)
        return FTK_FAIL(d, FORMAT, "tensor %s is no vector and no matrix of up to 2^20 a side",
                        FTK_SHOW(t->name));
    if (!ftk_type_supported(t->type))
        return FTK_FAIL(d, UNSUPPORTED, "tensor %s has type %s", FTK_SHOW(t->name),
                        ftk_gguf_refuse_type(why, sizeof why, t->type));
    return FTK_OK;
}

/* Counts what the tensors need, and gives views of matrices still in the file. */
static ftk_err find_tensors(ftk_drafterfile *d, size_t *n_floats)
{
    *n_floats = 0;
    for (int i = 0; i < d->weights.n; i++) {
        ftk_tensor_info t;
        ftk_gguf_tensor(d->file, (size_t)i, &t);
        const ftk_err err = check_tensor(d, &t);
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

static ftk_err read_vectors(ftk_drafterfile *d, const ftk_model *m, size_t n_floats)
{
    d->vectors = ftk_alloc_raw(d->host, n_floats, sizeof(float));
    if (!d->vectors) return FTK_FAIL(d, NOMEM, "no memory for a drafter");
    float *at = d->vectors;
    for (int i = 0; i < d->weights.n; i++) {
        ftk_weight *w = &d->items[i];
        if (w->matrix) continue;
        m->kernels.dequant_row(d->mats[i].type, w->n_in, d->mats[i].data, at);
        if (!ftk_all_finite(w->n_in, at))
            return FTK_FAIL(d, FORMAT, "tensor %s holds values that are not finite", w->name);
        w->vector = at;
        at += w->n_in;
    }
    return FTK_OK;
}

/* ---- the head */

static ftk_err read_vocab(ftk_drafterfile *d, const ftk_model *m, bool *some)
{
    ftk_gguf_value v;
    *some = ftk_gguf_find(d->file, PREFIX "vocab", &v);
    if (!*some) return FTK_OK;
    const uint64_t n_vocab = (uint64_t)m->hp.n_vocab;
    if (v.type != FTK_GGUF_ARRAY || (v.elem != FTK_GGUF_U32 && v.elem != FTK_GGUF_I32) ||
        v.count < 1 || v.count > n_vocab)
        return FTK_FAIL(d, FORMAT, "key " PREFIX "vocab is no array of 1 to %d token ids",
                        m->hp.n_vocab);
    d->vocab = ftk_alloc_raw(d->host, (size_t)v.count, sizeof *d->vocab);
    if (!d->vocab) return FTK_FAIL(d, NOMEM, "no memory for a drafter");
    for (uint64_t i = 0; i < v.count; i++) {
        uint32_t id;
        memcpy(&id, v.data + i * sizeof id, sizeof id);
        if (id >= n_vocab || (i > 0 && (int32_t)id <= d->vocab[i - 1]))
            return FTK_FAIL(d, FORMAT, "key " PREFIX "vocab is not a rising list of token ids");
        d->vocab[i] = (int32_t)id;
    }
    d->weights.vocab = d->vocab;
    d->weights.n_head = (int)v.count;
    return FTK_OK;
}

void *ftk_drafter_gather(const ftk_mat *w, const int32_t *ids, int n, const ftk_host *h)
{
    const size_t row = ftk_type_bytes(w->type, (size_t)w->n_in);
    char *const rows = ftk_alloc_raw(h, (size_t)n, row);
    for (int i = 0; rows && i < n; i++)
        memcpy(rows + (size_t)i * row, (const char *)w->file + (size_t)ids[i] * row, row);
    return rows;
}

static ftk_err make_head(ftk_drafterfile *d, const ftk_model *m, bool some)
{
    ftk_mat *head = &d->mats[d->weights.n];
    *head = m->output;
    d->weights.head = head;
    d->widest = m->hp.n_embd > d->widest ? m->hp.n_embd : d->widest;
    if (!some) return FTK_OK;
    d->rows = ftk_drafter_gather(head, d->vocab, d->weights.n_head, d->host);
    if (!d->rows) return FTK_FAIL(d, NOMEM, "no memory for a drafter");
    head->n_out = d->weights.n_head;
    head->data = head->file = d->rows;
    return FTK_OK;
}

/* ---- packing */

char *ftk_drafter_pack(const ftk_model *m, ftk_mat *w, char *at)
{
    const size_t n = ftk_packed_bytes(&m->kernels, w);
    w->cached = m->output.cached;
    if (n == 0) return at;
    m->kernels.pack(w->type, w->n_out, w->n_in, w->data, at);
    w->data = at;
    return at + n;
}

/* Where a level reads weights in place, the gathered rows stay as the head's; else they are packed
 * and let go. */
static ftk_err pack_all(ftk_drafterfile *d, const ftk_model *m)
{
    ftk_mat *const head = &d->mats[d->weights.n];
    const size_t head_bytes = d->rows ? ftk_packed_bytes(&m->kernels, head) : 0;
    size_t bytes = head_bytes;
    for (int i = 0; i < d->weights.n; i++)
        if (d->items[i].matrix) bytes += ftk_packed_bytes(&m->kernels, &d->mats[i]);
    d->packed = ftk_alloc_raw(d->host, bytes, 1);
    if (!d->packed) return FTK_FAIL(d, NOMEM, "needs %zu MiB for a drafter", bytes >> 20);
    char *at = d->packed;
    for (int i = 0; i < d->weights.n; i++)
        if (d->items[i].matrix) at = ftk_drafter_pack(m, &d->mats[i], at);
    if (head_bytes == 0) return FTK_OK;
    ftk_drafter_pack(m, head, at);
    head->file = NULL;
    ftk_release(d->host, d->rows);
    d->rows = NULL;
    return FTK_OK;
}

/* ---- life */

static ftk_err open_parts(ftk_drafterfile *d, const char *path, const ftk_model *m, bool packed,
                          ftk_str *family)
{
    d->path = ftk_alloc(d->host, strlen(path) + 1, 1);
    if (!d->path) return ftk_fail(d->host, FTK_ERR_NOMEM, "%s: no memory for a drafter", path);
    memcpy(d->path, path, strlen(path));
    ftk_err err = ftk_gguf_open(&d->file, path, d->host);
    if (err == FTK_OK) err = check_identity(d->file, path, m, family, d->host);
    if (err != FTK_OK) return err;
    const size_t n = ftk_gguf_n_tensors(d->file);
    if (n < 1 || n > 4096) return FTK_FAIL(d, FORMAT, "%zu tensors: a drafter has 1 to 4096", n);
    d->items = ftk_alloc(d->host, n, sizeof *d->items);
    d->mats = ftk_alloc(d->host, n + 1, sizeof *d->mats);
    if (!d->items || !d->mats) return FTK_FAIL(d, NOMEM, "no memory for a drafter");
    d->weights = (ftk_weights){
        .path = d->path, .file = d->file, .n = (int)n, .items = d->items, .n_head = m->hp.n_vocab};
    size_t n_floats;
    bool some = false;
    err = find_tensors(d, &n_floats);
    if (err == FTK_OK) err = read_vectors(d, m, n_floats);
    if (err == FTK_OK) err = read_vocab(d, m, &some);
    if (err == FTK_OK) err = make_head(d, m, some);
    return err == FTK_OK && packed ? pack_all(d, m) : err;
}

ftk_err ftk_drafterfile_open(ftk_drafterfile *d, const char *path, const ftk_model *m, bool packed,
                             ftk_str *family, const ftk_host *host)
{
    *d = (ftk_drafterfile){.host = host};
    const ftk_err err = open_parts(d, path, m, packed, family);
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
