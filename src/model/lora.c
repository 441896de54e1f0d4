/* SPDX-License-Identifier: Apache-2.0
 * Opens LoRA adapters and finds out what they change. Nothing in a file is trusted.
 *
 * The files are those of llama.cpp's convert_lora_to_gguf.py. Of the embeddings, whose rows are
 * looked up by a token, the pair is written the other way round: lora_a [n_vocab][rank], lora_b
 * [n_embd][rank]. */
#include "lora_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "gguf.h"
#include "kernels/codes.h"

enum { MAX_RANK = 1 << 16, NAME_BYTES = 80, PLACE_ALIGN = 64 };

static const char suffix_a[] = ".lora_a", suffix_b[] = ".lora_b", suffix_norm[] = "_norm.weight";

typedef ftk_lora_adapter adapter;
typedef ftk_lora_part part;
typedef ftk_lora_change change;

/* ---- keys */

static bool has_text(const ftk_gguf *file, const char *key, const char *text)
{
    return ftk_str_is(ftk_gguf_text(file, key), text);
}

/* What else people have, and where it belongs. */
static ftk_err refuse_kind(const adapter *a)
{
    static const char arch[] = "general.architecture";
    if (has_text(a->file, arch, "controlvector"))
        return FTK_FAIL(a, INVALID,
                        "is a control vector, which is not supported: give a LoRA adapter");
    if (has_text(a->file, arch, "foretoken-drafter"))
        return FTK_FAIL(a, INVALID,
                        "is a drafter, not a LoRA adapter: give it with --drafter-file");
    return FTK_FAIL(
        a, INVALID,
        "is no LoRA adapter: its general.type is not \"adapter\"; a model is named with -m");
}

static ftk_err check_kind(const adapter *a, const ftk_model *m)
{
    if (!has_text(a->file, "general.type", "adapter")) return refuse_kind(a);
    if (!has_text(a->file, "adapter.type", "lora"))
        return FTK_FAIL(a, UNSUPPORTED, "adapter.type is \"%s\": only \"lora\" is supported",
                        FTK_SHOW(ftk_gguf_text(a->file, "adapter.type")));
    if (!has_text(a->file, "general.architecture", m->hp.arch->name))
        return FTK_FAIL(a, INVALID,
                        "is an adapter for the architecture \"%s\", and the model is of \"%s\": "
                        "take one that was trained for this model",
                        FTK_SHOW(ftk_gguf_text(a->file, "general.architecture")), m->hp.arch->name);
    ftk_gguf_value v;
    if (ftk_gguf_find(a->file, "adapter.alora.invocation_tokens", &v))
        return FTK_FAIL(a, UNSUPPORTED,
                        "is an activated LoRA (adapter.alora.invocation_tokens), which counts only "
                        "behind those tokens: not supported, give a plain LoRA");
    return FTK_OK;
}

/* As llama.cpp has it, no alpha is one of 0. */
static ftk_err read_alpha(adapter *a)
{
    ftk_gguf_value v;
    if (!ftk_gguf_find(a->file, "adapter.lora.alpha", &v)) return FTK_OK;
    if (ftk_gguf_number(&v, &a->alpha) && isfinite(a->alpha)) return FTK_OK;
    return FTK_FAIL(a, FORMAT,
                    "key adapter.lora.alpha is no finite number: convert the adapter again");
}

/* ---- tensors */

/* The name without a suffix, if it has it. */
static bool cut_suffix(ftk_str name, const char *suffix, char out[NAME_BYTES])
{
    const size_t n = strlen(suffix);
    if (name.n <= n || memcmp(name.p + name.n - n, suffix, n) != 0) return false;
    snprintf(out, NAME_BYTES, "%.*s", (int)(name.n - n), name.p);
    return true;
}

static ftk_err check_type(const adapter *a, const ftk_tensor_info *t)
{
    char why[64];
    if (ftk_type_supported(t->type)) return FTK_OK;
    return FTK_FAIL(a, UNSUPPORTED,
                    "tensor %s has type %s: convert the adapter to F32, F16 or Q8_0",
                    FTK_SHOW(t->name), ftk_gguf_refuse_type(why, sizeof why, t->type));
}

static bool is_shape(const ftk_tensor_info *t, uint64_t n_in, uint64_t n_out)
{
    return t->dims[0] == n_in && t->dims[1] == n_out && t->dims[2] == 1 && t->dims[3] == 1;
}

static ftk_err check_shapes(const part *p, const ftk_tensor_info *base)
{
    const uint64_t n_in = base->dims[0], n_out = base->dims[1], rank = p->b.dims[0];
    const bool fits = ftk_lora_is_embd(base)
                          ? is_shape(&p->a, rank, n_out) && is_shape(&p->b, rank, n_in)
                          : is_shape(&p->a, n_in, rank) && is_shape(&p->b, rank, n_out);
    char want[96];
    if (ftk_lora_is_embd(base))
        snprintf(want, sizeof want, "[rank, %" PRIu64 "] and [rank, %" PRIu64 "]", n_out, n_in);
    else
        snprintf(want, sizeof want, "[%" PRIu64 ", rank] and [rank, %" PRIu64 "]", n_in, n_out);
    if (!fits)
        return FTK_FAIL(p->from, INVALID,
                        "tensors %s [%" PRIu64 ", %" PRIu64 "%s] and .lora_b [%" PRIu64 ", %" PRIu64
                        "%s] are not %s, as the model's %s wants: take an adapter that was trained "
                        "for this model",
                        FTK_SHOW(p->a.name), p->a.dims[0], p->a.dims[1],
                        p->a.n_dims > 2 ? ", ..." : "", p->b.dims[0], p->b.dims[1],
                        p->b.n_dims > 2 ? ", ..." : "", want, FTK_SHOW(base->name));
    if (rank > MAX_RANK)
        return FTK_FAIL(p->from, UNSUPPORTED,
                        "tensor %s: a rank of %" PRIu64 ", at most %d are supported",
                        FTK_SHOW(p->b.name), rank, MAX_RANK);
    return FTK_OK;
}

/* The change of a tensor, a new one where there is none yet. */
static change *change_of(ftk_lora *l, const ftk_tensor_info *base)
{
    for (size_t i = 0; i < l->n_changes; i++)
        if (l->changes[i].base.data == base->data) return &l->changes[i];
    change *c = &l->changes[l->n_changes++];
    *c = (change){.base = *base};
    return c;
}

static void add_part(ftk_lora *l, const part *p, const ftk_tensor_info *base, bool is_norm)
{
    change *c = change_of(l, base);
    part *own = &l->parts[l->n_parts++];
    *own = *p;
    c->is_norm = is_norm;
    if (c->last)
        c->last->next = own;
    else
        c->first = own;
    c->last = own;
}

static ftk_err find_base(const ftk_lora *l, const adapter *a, const char *name,
                         ftk_tensor_info *base)
{
    if (ftk_gguf_find_tensor(l->m->file, name, base)) return FTK_OK;
    const bool tied = strcmp(name, "output.weight") == 0;
    return FTK_FAIL(a, INVALID,
                    "changes tensor %s, which the model does not have%s: take an adapter that was "
                    "trained for this model",
                    FTK_SHOW(ftk_str_of(name)),
                    tied ? ", as its output is that of token_embd.weight" : "");
}

static ftk_err add_pair(ftk_lora *l, const adapter *a, const char *name,
                        const ftk_tensor_info *lora_a)
{
    char other[NAME_BYTES];
    part p = {.from = a, .a = *lora_a};
    ftk_tensor_info base;
    snprintf(other, sizeof other, "%.70s%s", name, suffix_b);
    if (!ftk_gguf_find_tensor(a->file, other, &p.b))
        return FTK_FAIL(a, FORMAT, "tensor %s is there without %s: convert the adapter again",
                        FTK_SHOW(lora_a->name), FTK_SHOW(ftk_str_of(other)));
    ftk_err err = find_base(l, a, name, &base);
    if (err != FTK_OK) return err;
    if (base.dims[1] == 1)
        return FTK_FAIL(a, INVALID,
                        "tensor %s: the model's %s is a vector, and LoRA changes matrices: take an "
                        "adapter that was trained for this model",
                        FTK_SHOW(lora_a->name), FTK_SHOW(base.name));
    err = check_shapes(&p, &base);
    if (err == FTK_OK) err = check_type(a, &p.a);
    if (err == FTK_OK) err = check_type(a, &p.b);
    if (err != FTK_OK) return err;
    p.scale = (float)(a->alpha != 0 ? a->scale * a->alpha / (double)p.b.dims[0] : a->scale);
    if (!isfinite(p.scale))
        return FTK_FAIL(a, FORMAT,
                        "tensor %s: its scale, alpha %g by rank %" PRIu64
                        " times %g, is not finite: give a smaller one",
                        FTK_SHOW(lora_a->name), a->alpha, p.b.dims[0], a->scale);
    add_part(l, &p, &base, false);
    return FTK_OK;
}

/* A norm is there as a whole, as mergekit's extraction of adapters writes it. */
static ftk_err add_norm(ftk_lora *l, const adapter *a, const ftk_tensor_info *norm)
{
    const part p = {.from = a, .a = *norm, .scale = (float)a->scale};
    char name[NAME_BYTES];
    ftk_tensor_info base;
    snprintf(name, sizeof name, "%.*s", (int)norm->name.n, norm->name.p);
    ftk_err err = find_base(l, a, name, &base);
    if (err == FTK_OK && memcmp(norm->dims, base.dims, sizeof base.dims) != 0)
        err = FTK_FAIL(a, INVALID,
                       "tensor %s has %" PRIu64 " values, and the model's has %" PRIu64
                       ": take an adapter that was trained for this model",
                       FTK_SHOW(norm->name), norm->dims[0], base.dims[0]);
    if (err == FTK_OK) err = check_type(a, norm);
    if (err == FTK_OK) add_part(l, &p, &base, true);
    return err;
}

static ftk_err add_tensor(ftk_lora *l, const adapter *a, const ftk_tensor_info *t)
{
    char name[NAME_BYTES], other[NAME_BYTES];
    ftk_tensor_info found;
    if (cut_suffix(t->name, suffix_a, name)) return add_pair(l, a, name, t);
    if (cut_suffix(t->name, suffix_norm, name)) return add_norm(l, a, t);
    if (!cut_suffix(t->name, suffix_b, name))
        return FTK_FAIL(
            a, UNSUPPORTED,
            "tensor %s is neither of a LoRA pair (.lora_a, .lora_b) nor a norm: not supported",
            FTK_SHOW(t->name));
    snprintf(other, sizeof other, "%.70s%s", name, suffix_a);
    if (ftk_gguf_find_tensor(a->file, other, &found)) return FTK_OK;
    return FTK_FAIL(a, FORMAT, "tensor %s is there without %s: convert the adapter again",
                    FTK_SHOW(t->name), FTK_SHOW(ftk_str_of(other)));
}

static ftk_err add_tensors(ftk_lora *l, const adapter *a)
{
    const size_t before = l->n_parts, n = ftk_gguf_n_tensors(a->file);
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        ftk_tensor_info t;
        ftk_gguf_tensor(a->file, i, &t);
        const ftk_err err = add_tensor(l, a, &t);
        if (err != FTK_OK) return err;
    }
    for (size_t i = before; i < l->n_parts; i++) any |= l->parts[i].b.data != NULL;
    if (any) return FTK_OK;
    return FTK_FAIL(a, FORMAT, "holds no pair of .lora_a and .lora_b: convert the adapter again");
}

/* ---- opening */

static ftk_err open_adapter(ftk_lora *l, adapter *a, const ftk_adapter *want)
{
    const ftk_host *h = &l->m->host;
    if (!want->path) return ftk_fail(h, FTK_ERR_INVALID, "no path of an adapter was given");
    *a = (adapter){.host = h, .path = want->path, .scale = (double)want->scale};
    if (!isfinite(want->scale))
        return FTK_FAIL(a, INVALID, "the scale of an adapter must be a finite number");
    ftk_err err = ftk_gguf_open(&a->file, a->path, h);
    if (err == FTK_OK) err = check_kind(a, l->m);
    return err == FTK_OK ? read_alpha(a) : err;
}

/* What adapters add must not be lost when it is rounded. */
static ftk_type type_with(ftk_type base)
{
    return ftk_type_form(base).bits == 0 ? base : FTK_TYPE_Q8_0;
}

/* What a matrix becomes. One of a type that no pass can run the loader refuses. */
static void choose_type(change *c)
{
    if (c->is_norm || !ftk_type_supported(c->base.type)) return;
    const ftk_type was = (ftk_type)c->base.type, is = type_with(was);
    const size_t n_in = (size_t)c->base.dims[0];
    c->now = c->base;
    c->now.type = is;
    c->now.size = c->base.size / ftk_type_bytes(was, n_in) * ftk_type_bytes(is, n_in);
}

static uint64_t place_bytes(const change *c)
{
    return (c->now.size + PLACE_ALIGN - 1) / PLACE_ALIGN * PLACE_ALIGN;
}

/* Gives every changed matrix its place. */
static ftk_err place_matrices(ftk_lora *l)
{
    ftk_model *m = l->m;
    for (size_t i = 0; i < l->n_changes; i++) {
        choose_type(&l->changes[i]);
        m->adapted_bytes += place_bytes(&l->changes[i]);
    }
    m->adapted = ftk_alloc_raw(&m->host, (size_t)m->adapted_bytes, 1);
    if (!m->adapted)
        return ftk_fail(&m->host, FTK_ERR_NOMEM,
                        "%s: needs %" PRIu64
                        " MiB for the weights that it changes: use a smaller model",
                        l->adapters[0].path, m->adapted_bytes >> 20);
    char *at = m->adapted;
    for (size_t i = 0; i < l->n_changes; i++) {
        change *c = &l->changes[i];
        if (c->now.size > 0) c->now.data = at;
        at += place_bytes(c);
    }
    return FTK_OK;
}

/* How much memory that takes, and why. */
static void tell_changes(const ftk_lora *l)
{
    size_t norms = 0, grown = 0;
    for (size_t i = 0; i < l->n_changes; i++) {
        norms += l->changes[i].is_norm;
        grown += !l->changes[i].is_norm && l->changes[i].now.type != l->changes[i].base.type;
    }
    ftk_log(&l->m->host, FTK_LOG_INFO,
            "%zu adapters change %zu matrices, of which %zu become Q8_0, and %zu norms: %" PRIu64
            " KiB",
            l->n_adapters, l->n_changes - norms, grown, norms, l->m->adapted_bytes >> 10);
}

static ftk_err open_all(ftk_lora *l, const ftk_adapter *adapters, size_t n)
{
    const ftk_host *h = &l->m->host;
    l->adapters = ftk_alloc(h, n, sizeof *l->adapters);
    if (!l->adapters) return ftk_fail(h, FTK_ERR_NOMEM, "no memory for %zu adapters", n);
    size_t n_tensors = 0;
    for (; l->n_adapters < n; l->n_adapters++) {
        adapter *a = &l->adapters[l->n_adapters];
        const ftk_err err = open_adapter(l, a, &adapters[l->n_adapters]);
        if (err != FTK_OK) {
            l->n_adapters++; /* its file may be open */
            return err;
        }
        n_tensors += ftk_gguf_n_tensors(a->file);
    }
    l->parts = ftk_alloc(h, n_tensors, sizeof *l->parts);
    l->changes = ftk_alloc(h, n_tensors, sizeof *l->changes);
    if (!l->parts || !l->changes)
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory for the %zu tensors of adapters", n_tensors);
    ftk_err err = FTK_OK;
    for (size_t i = 0; i < n && err == FTK_OK; i++) err = add_tensors(l, &l->adapters[i]);
    if (err == FTK_OK) err = place_matrices(l);
    if (err == FTK_OK) tell_changes(l);
    return err;
}

ftk_err ftk_lora_open(ftk_lora **out, ftk_model *m, const ftk_adapter *adapters, size_t n)
{
    *out = NULL;
    if (!adapters)
        return ftk_fail(&m->host, FTK_ERR_INVALID, "n_adapters is %zu, and there is no list", n);
    ftk_lora *l = ftk_alloc(&m->host, 1, sizeof *l);
    if (!l) return ftk_fail(&m->host, FTK_ERR_NOMEM, "no memory for %zu adapters", n);
    l->m = m;
    const ftk_err err = open_all(l, adapters, n);
    if (err == FTK_OK)
        *out = l;
    else
        ftk_lora_close(l);
    return err;
}

void ftk_lora_close(ftk_lora *l)
{
    if (!l) return;
    const ftk_host *h = &l->m->host;
    for (size_t i = 0; i < l->n_adapters; i++) ftk_gguf_free(l->adapters[i].file);
    ftk_release(h, l->changes);
    ftk_release(h, l->parts);
    ftk_release(h, l->adapters);
    ftk_release(h, l);
}

/* ---- for the loader */

static change *find_change(const ftk_lora *l, const ftk_tensor_info *base)
{
    for (size_t i = 0; l && i < l->n_changes; i++)
        if (l->changes[i].base.data == base->data) return &l->changes[i];
    return NULL;
}

void ftk_lora_replace(const ftk_lora *l, ftk_tensor_info *info)
{
    const change *c = find_change(l, info);
    if (c) *info = c->now;
}

void ftk_lora_see(ftk_lora *l, const ftk_tensor_info *info, float *v)
{
    change *c = find_change(l, info);
    if (c) c->vector = v;
}

size_t ftk_lora_n_changes(const ftk_lora *l)
{
    return l ? l->n_changes : 0;
}
