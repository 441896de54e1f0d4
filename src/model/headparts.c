/* SPDX-License-Identifier: Apache-2.0
 * What loaders of heads share. */
#include "model/headparts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/drafterfile.h"

enum { NAME = FTK_HEAD_NAME };

typedef ftk_head_loader loader;
typedef ftk_head_names names;

/* ---- tensors */

/* Under whatever prefix it is there. name gets what it was last looked for as. */
bool ftk_head_find(loader *l, const names *n, ftk_source_tensor *t, char name[NAME], ftk_err *err)
{
    ftk_source *const s = &l->f->source;
    if (!n->of_layer) {
        snprintf(name, NAME, "%s", s->gguf ? n->gguf : n->safe);
        return ftk_source_find(s, name, t, err);
    }
    if (!s->gguf && l->layer == 0) { /* EAGLE's and SpecForge's only one */
        snprintf(name, NAME, "midlayer.%s", n->safe);
        if (ftk_source_find(s, name, t, err) || *err != FTK_OK) return *err == FTK_OK;
    }
    snprintf(name, NAME, "%s.%d.%s", s->gguf ? "blk" : "layers", l->layer,
             s->gguf ? n->gguf : n->safe);
    return ftk_source_find(s, name, t, err);
}

ftk_err ftk_head_missing(const loader *l, const char *name)
{
    return FTK_FAIL(&l->f->source, FORMAT, "tensor %s is missing", name);
}

static ftk_err check_shape(const loader *l, const char *name, const ftk_source_tensor *t, int n_in,
                           int n_out)
{
    if (!t->is_ids && t->dims[0] == (uint64_t)n_in && t->dims[1] == (uint64_t)n_out &&
        t->dims[2] == 1 && t->dims[3] == 1)
        return FTK_OK;
    return FTK_FAIL(&l->f->source, FORMAT,
                    "tensor %s has shape [%" PRIu64 ", %" PRIu64 "] instead of [%d, %d]", name,
                    t->dims[0], t->dims[1], n_in, n_out);
}

/* A matrix as it lies in the file; one that may be missing leaves *mat with n_out 0. */
static ftk_err find_matrix(loader *l, const names *n, int n_in, int n_out, bool needed,
                           ftk_mat *mat)
{
    ftk_source_tensor t;
    char name[NAME];
    ftk_err err;
    if (!ftk_head_find(l, n, &t, name, &err))
        return err == FTK_OK && needed ? ftk_head_missing(l, name) : err;
    err = check_shape(l, name, &t, n_in, n_out);
    if (err != FTK_OK) return err;
    *mat = (ftk_mat){.type = t.type, .n_out = n_out, .n_in = n_in, .data = t.data, .file = t.data};
    return FTK_OK;
}

ftk_err ftk_head_matrix(loader *l, const names *n, int n_in, int n_out, ftk_mat *mat)
{
    const ftk_err err = find_matrix(l, n, n_in, n_out, true, mat);
    if (err == FTK_OK) l->mats[l->n_mats++] = mat;
    return err;
}

/* Floats in the arena; one that may be missing leaves *out NULL. */
ftk_err ftk_head_vector(loader *l, const names *n, int len, bool needed, const float **out)
{
    ftk_headfile *const f = l->f;
    ftk_source_tensor t;
    char name[NAME];
    ftk_err err;
    *out = NULL;
    if (!ftk_head_find(l, n, &t, name, &err))
        return err == FTK_OK && needed ? ftk_head_missing(l, name) : err;
    err = check_shape(l, name, &t, len, 1);
    if (err != FTK_OK) return err;
    float *const v = f->vectors + f->n_vectors;
    f->n_vectors += (size_t)len;
    f->model.kernels.dequant_row(t.type, len, t.data, v);
    if (!ftk_all_finite(len, v))
        return FTK_FAIL(&f->source, FORMAT, "tensor %s holds values that are not finite", name);
    *out = v;
    return FTK_OK;
}

/* ---- vocabulary */

/* d2t: in safetensors what is added to a row's number, in GGUF the token itself. */
ftk_err ftk_head_vocab(loader *l, int *n_out)
{
    ftk_headfile *const f = l->f;
    const ftk_host *const h = &f->host;
    const int64_t n_vocab = l->target->hp.n_vocab;
    ftk_source_tensor t;
    ftk_err err;
    *n_out = 0;
    bool offsets = !f->source.gguf;
    if (!ftk_source_find(&f->source, "d2t", &t, &err)) {
        if (err != FTK_OK || !ftk_source_find(&f->source, "token_map", &t, &err)) return err;
        offsets = false;
    }
    if (!t.is_ids || t.n_dims != 1 || t.dims[0] < 1 || t.dims[0] > (uint64_t)n_vocab)
        return FTK_FAIL(&f->source, FORMAT,
                        "tensor d2t is no list of 1 to %" PRId64 " numbers of 64 bits", n_vocab);
    const size_t n = (size_t)t.dims[0];
    f->vocab = ftk_alloc_raw(h, n, sizeof *f->vocab);
    bool *const seen = ftk_alloc(h, (size_t)n_vocab, sizeof *seen);
    for (size_t i = 0; i < n && f->vocab && seen && err == FTK_OK; i++) {
        int64_t id;
        memcpy(&id, (const char *)t.data + i * sizeof id, sizeof id);
        if (offsets && id >= -(int64_t)i && id < n_vocab) id += (int64_t)i;
        if (id < 0 || id >= n_vocab || seen[id])
            err = FTK_FAIL(&f->source, FORMAT,
                           "tensor d2t names token %" PRId64 " for row %zu: not one of %" PRId64
                           ", or twice",
                           id, i, n_vocab);
        else
            seen[f->vocab[i] = (int32_t)id] = true;
    }
    if (!f->vocab || !seen) err = FTK_FAIL(&f->source, NOMEM, "no memory");
    ftk_release(h, seen);
    *n_out = (int)n;
    return err;
}

/* Rows of the target's output matrix, in its GGUF layout. */
static ftk_err borrow_head(loader *l, int n_out)
{
    ftk_headfile *const f = l->f;
    ftk_mat *const head = &f->model.output;
    *head = l->target->output;
    if (n_out == 0) return FTK_OK;
    f->rows = ftk_drafter_gather(head, f->vocab, n_out, &f->host);
    if (!f->rows) return FTK_FAIL(&f->source, NOMEM, "no memory");
    head->n_out = n_out;
    head->data = head->file = f->rows;
    l->mats[l->n_mats++] = head;
    return FTK_OK;
}

/* llama.cpp's file has a copy of the tokenizer. One that is left out, or is none that this build
 * knows, says nothing. */
static ftk_err check_words(const loader *l)
{
    const ftk_host *const h = &l->f->host;
    const ftk_gguf *const file = l->f->source.gguf;
    ftk_host quiet = *h;
    ftk_gguf_value v;
    ftk_tokenizer *own;
    quiet.log = NULL;
    if (!file || !ftk_gguf_find(file, "tokenizer.ggml.tokens", &v)) return FTK_OK;
    ftk_err err = ftk_tokenizer_open(&own, file, l->f->source.path, &quiet);
    if (err == FTK_ERR_NOMEM) return ftk_fail(h, err, "%s: no memory", l->f->source.path);
    if (err != FTK_OK) return FTK_OK;
    err = ftk_tokenizer_same_words(l->target->tokenizer, own, l->f->source.path, h);
    ftk_tokenizer_free(own);
    return err;
}

ftk_err ftk_head_check_rows(const loader *l, const char *name, uint64_t rows)
{
    enum { PADDING = 1024 }; /* rows that may be more than there are tokens */
    const int n = l->target->hp.n_vocab, used = ftk_tokenizer_n_used(l->target->tokenizer);
    if (rows >= (uint64_t)(name ? n : used) && rows <= (uint64_t)n + PADDING) return FTK_OK;
    if (name)
        return FTK_FAIL(&l->f->source, INVALID, "tensor %s has %" PRIu64 " rows for %d tokens",
                        name, rows, n);
    return FTK_FAIL(&l->f->source, INVALID,
                    "was made for a vocabulary of %" PRIu64 " tokens; this model's has %d", rows,
                    n);
}

/* n_out: of d2t. */
static ftk_err check_vocab(const loader *l, int n_out)
{
    const int own = l->c.n_draft_vocab;
    const ftk_err err =
        l->c.n_vocab ? ftk_head_check_rows(l, NULL, (uint64_t)l->c.n_vocab) : FTK_OK;
    if (err != FTK_OK) return err;
    if (own && n_out > 0 && n_out != own)
        return FTK_FAIL(&l->f->source, FORMAT, "d2t names %d tokens, its configuration says %d",
                        n_out, own);
    if (own && n_out == 0 && own < ftk_tokenizer_n_used(l->target->tokenizer))
        return FTK_FAIL(&l->f->source, FORMAT, "drafts %d of %d tokens and has no d2t", own,
                        l->target->hp.n_vocab);
    return check_words(l);
}

ftk_err ftk_head_output(loader *l)
{
    static const names head = {"lm_head.weight", "output.weight", false};
    static const names embedding = {"embed_tokens.weight", "token_embd.weight", false};
    ftk_headfile *const f = l->f;
    const int d = l->c.width;
    ftk_source_tensor t;
    char name[NAME];
    int n_out;
    ftk_err err = ftk_head_vocab(l, &n_out);
    if (err == FTK_OK) err = check_vocab(l, n_out);
    if (err != FTK_OK) return err;
    const bool own = ftk_head_find(l, &head, &t, name, &err);
    if (err == FTK_OK && own) {
        if (!n_out) err = ftk_head_check_rows(l, name, t.dims[1]);
        if (err == FTK_OK)
            err = ftk_head_matrix(l, &head, d, n_out ? n_out : (int)t.dims[1], &f->model.output);
    }
    if (err == FTK_OK && ftk_head_find(l, &embedding, &t, name, &err)) {
        err = ftk_head_check_rows(l, name, t.dims[1]);
        if (err == FTK_OK)
            err = find_matrix(l, &embedding, d, (int)t.dims[1], true, &f->model.embd);
    }
    if (err != FTK_OK) return err;
    const bool embeds = f->model.embd.n_out > 0;
    if ((!own || !embeds) && d != l->target->hp.n_embd)
        return FTK_FAIL(&f->source, INVALID,
                        "has no %s of its own, and its width, %d, is not the model's, %d",
                        own ? "embeddings" : "output matrix", d, l->target->hp.n_embd);
    if (!embeds) f->model.embd = l->target->embd;
    if (!own) err = borrow_head(l, n_out);
    f->model.hp.n_vocab = f->model.output.n_out;
    return err;
}

ftk_err ftk_head_pack(loader *l)
{
    ftk_headfile *const f = l->f;
    size_t bytes = 0;
    for (int i = 0; i < l->n_mats; i++) bytes += ftk_packed_bytes(&f->model.kernels, l->mats[i]);
    char *at = f->packed = ftk_alloc_raw(&f->host, bytes, 1);
    if (!at) return FTK_FAIL(&f->source, NOMEM, "needs %zu MiB for a drafter", bytes >> 20);
    for (int i = 0; i < l->n_mats; i++) at = ftk_drafter_pack(l->target, l->mats[i], at);
    return FTK_OK;
}
