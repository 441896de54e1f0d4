/* SPDX-License-Identifier: Apache-2.0
 * Heads that others have made, as they are found. */
#include "model/source.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/gguf.h"

static const char suffix[] = ".safetensors";

/* Whether a GGUF file is of one of the architectures that llama.cpp's converter gives heads. */
static bool is_head(const ftk_gguf *g)
{
    const ftk_str arch = ftk_gguf_text(g, "general.architecture");
    return ftk_str_is(arch, "eagle3") || ftk_str_is(arch, "dflash");
}

bool ftk_source_is_checkpoint(const char *path)
{
    return ftk_is_folder(path) || ftk_ends_with(path, suffix);
}

bool ftk_source_is(const char *path)
{
    static const ftk_host silent = {0};
    if (ftk_source_is_checkpoint(path)) return true;
    ftk_gguf *g;
    if (ftk_gguf_open(&g, path, &silent) != FTK_OK) return false;
    const bool head = is_head(g);
    ftk_gguf_free(g);
    return head;
}

/* ---- opening */

static ftk_err open_config(ftk_source *s, const char *path)
{
    ftk_err err = ftk_mapped_open(&s->config_file, path, path, s->host);
    if (err == FTK_OK)
        err = ftk_json_read(&s->config, s->config_file.p, s->config_file.n, path, s->host);
    if (err == FTK_OK && s->config.values[0].kind != FTK_JSON_OBJECT)
        err = ftk_fail(s->host, FTK_ERR_FORMAT, "%s: is no JSON object", path);
    return err;
}

/* Of how many files one is, by its name: model-00001-of-00002.safetensors; 0: it does not say. */
static int n_parts_by_name(const char *name)
{
    static const char of[] = "-of-";
    const size_t n_of = sizeof of - 1, n_digits = 5, n = strlen(name);
    const size_t tail = n_of + n_digits + sizeof suffix - 1;
    int parts = 0;
    if (n < tail || memcmp(name + n - tail, of, n_of) != 0) return 0;
    const char *const digits = name + n - tail + n_of;
    for (const char *c = digits; c < digits + n_digits; c++) {
        if (*c < '0' || *c > '9') return 0;
        parts = parts * 10 + *c - '0';
    }
    return parts;
}

static ftk_err open_folder(ftk_source *s, const char *path)
{
    char name[256] = "", after[256] = "", file[4096 + 256];
    int n_named = 0;
    snprintf(file, sizeof file, "%.4000s/config.json", path);
    ftk_err err = open_config(s, file);
    while (err == FTK_OK && ftk_folder_next(path, after, suffix, name, sizeof name)) {
        strcpy(after, name);
        if (s->n_parts == FTK_SOURCE_PARTS)
            return FTK_FAIL(s, UNSUPPORTED, "holds more than %d files", FTK_SOURCE_PARTS);
        snprintf(file, sizeof file, "%.4000s/%s", path, name);
        err = ftk_safetensors_open(&s->parts[s->n_parts], file, s->host);
        s->n_parts += err == FTK_OK;
        if (n_parts_by_name(name) > n_named) n_named = n_parts_by_name(name);
    }
    if (err == FTK_OK && s->n_parts > 0 && s->n_parts < n_named)
        err = FTK_FAIL(s, INVALID, "holds %d safetensors files of %d: get the others", s->n_parts,
                       n_named);
    if (err == FTK_OK && s->n_parts == 0)
        err = FTK_FAIL(s, INVALID,
                       "holds no safetensors file; pickles (.bin, .pt) are to be converted first");
    return err;
}

static ftk_err open_single(ftk_source *s, const char *path, bool needs_config)
{
    char file[4096 + 256];
    const char *slash = strrchr(path, '/');
    const int n = slash ? (int)(slash - path) + 1 : 0;
    const ftk_err err = ftk_safetensors_open(&s->parts[0], path, s->host);
    if (err != FTK_OK) return err;
    s->n_parts = 1;
    snprintf(file, sizeof file, "%.*sconfig.json", n < 4000 ? n : 4000, path);
    return needs_config || access(file, F_OK) == 0 ? open_config(s, file) : FTK_OK;
}

size_t ftk_source_n_tensors(const ftk_source *s)
{
    size_t n = s->gguf ? ftk_gguf_n_tensors(s->gguf) : 0;
    for (int i = 0; i < s->n_parts; i++) n += s->parts[i].n;
    return n;
}

ftk_err ftk_source_open(ftk_source *s, const char *path, const ftk_host *host)
{
    memset(s, 0, sizeof *s);
    s->host = host;
    ftk_gguf_show_path(s->path, sizeof s->path, path);
    ftk_err err = ftk_is_folder(path)           ? open_folder(s, path)
                  : ftk_ends_with(path, suffix) ? open_single(s, path, true)
                                                : ftk_gguf_open(&s->gguf, path, host);
    if (err == FTK_OK && !(s->used = ftk_alloc(host, ftk_source_n_tensors(s), sizeof *s->used)))
        err = ftk_fail(host, FTK_ERR_NOMEM, "%s: no memory for a drafter", s->path);
    if (err != FTK_OK) ftk_source_close(s);
    return err;
}

ftk_err ftk_source_look(ftk_source *s, const char *path, const ftk_host *host)
{
    memset(s, 0, sizeof *s);
    s->host = host;
    ftk_gguf_show_path(s->path, sizeof s->path, path);
    const ftk_err err = ftk_is_folder(path) ? open_folder(s, path) : open_single(s, path, false);
    if (err != FTK_OK) ftk_source_close(s);
    return err;
}

void ftk_source_close(ftk_source *s)
{
    for (int i = 0; i < s->n_parts; i++) ftk_safetensors_close(&s->parts[i], s->host);
    ftk_json_free(&s->config, s->host);
    ftk_mapped_close(&s->config_file);
    ftk_gguf_free(s->gguf);
    ftk_release(s->host, s->used);
    s->used = NULL;
    s->gguf = NULL;
    s->n_parts = 0;
}

/* ---- tensors */

static bool take(const ftk_source *s, ftk_str name, ftk_str type, const ftk_safetensor *from,
                 ftk_source_tensor *t, ftk_err *err)
{
    *t = (ftk_source_tensor){.n_dims = from->n_dims, .data = from->data};
    for (int i = 0; i < 4; i++) t->dims[i] = i < t->n_dims ? from->dims[t->n_dims - 1 - i] : 1;
    switch (from->dtype) {
    case FTK_DTYPE_F32: t->type = FTK_TYPE_F32; return true;
    case FTK_DTYPE_F16: t->type = FTK_TYPE_F16; return true;
    case FTK_DTYPE_BF16: t->type = FTK_TYPE_BF16; return true;
    case FTK_DTYPE_I64: t->is_ids = true; return true;
    default: break;
    }
    *err = FTK_FAIL(s, UNSUPPORTED, "tensor %s has type %s: F32, F16 and BF16 are supported",
                    FTK_SHOW(name), FTK_SHOW(type));
    return false;
}

static bool find_in_parts(ftk_source *s, const char *name, ftk_source_tensor *t, ftk_err *err)
{
    const ftk_safetensor *found = NULL;
    size_t before = 0;
    for (int i = 0; i < s->n_parts; before += s->parts[i++].n) {
        const ftk_safetensor *const from = ftk_safetensors_find(&s->parts[i], name);
        if (!from) continue;
        if (found) {
            *err = FTK_FAIL(s, FORMAT, "tensor %s is in two of its files", name);
            return false;
        }
        s->used[before + (size_t)(from - s->parts[i].items)] = true;
        found = from;
    }
    return found && take(s, found->name, found->type, found, t, err);
}

static bool find_in_gguf(ftk_source *s, const char *name, ftk_source_tensor *t, ftk_err *err)
{
    enum { I64 = 27 }; /* GGML's number, of a type that no pass reads */
    const size_t i = ftk_gguf_place(s->gguf, name);
    ftk_tensor_info info;
    char why[64];
    if (i == ftk_gguf_n_tensors(s->gguf)) return false;
    ftk_gguf_tensor(s->gguf, i, &info);
    s->used[i] = true;
    *t = (ftk_source_tensor){.n_dims = (int)info.n_dims,
                             .type = (ftk_type)info.type,
                             .is_ids = info.type == I64 && info.size > 0,
                             .data = info.data};
    memcpy(t->dims, info.dims, sizeof t->dims);
    if (t->is_ids || ftk_type_supported(info.type)) return true;
    *err = FTK_FAIL(s, UNSUPPORTED, "tensor %s has type %s", name,
                    ftk_gguf_refuse_type(why, sizeof why, info.type));
    return false;
}

bool ftk_source_find(ftk_source *s, const char *name, ftk_source_tensor *t, ftk_err *err)
{
    char longer[128];
    *err = FTK_OK;
    if (s->gguf) return find_in_gguf(s, name, t, err);
    if (find_in_parts(s, name, t, err) || *err != FTK_OK) return *err == FTK_OK;
    snprintf(longer, sizeof longer, "model.%s", name);
    return find_in_parts(s, longer, t, err);
}

static bool is_spare(ftk_str name, const char *const *spare)
{
    static const char before[] = "model.";
    const size_t n = sizeof before - 1;
    if (name.n > n && memcmp(name.p, before, n) == 0) name = (ftk_str){name.p + n, name.n - n};
    for (; *spare; spare++)
        if (name.n >= strlen(*spare) && memcmp(name.p, *spare, strlen(*spare)) == 0) return true;
    return false;
}

const ftk_safetensor *ftk_source_at(const ftk_source *s, size_t i, int *part)
{
    *part = 0;
    while (i >= s->parts[*part].n) i -= s->parts[(*part)++].n;
    return &s->parts[*part].items[i];
}

static ftk_str name_of(const ftk_source *s, size_t i)
{
    ftk_tensor_info info;
    if (s->gguf) {
        ftk_gguf_tensor(s->gguf, i, &info);
        return info.name;
    }
    int part;
    return ftk_source_at(s, i, &part)->name;
}

ftk_err ftk_source_check_used(const ftk_source *s, const char *const *spare)
{
    for (size_t i = 0; i < ftk_source_n_tensors(s); i++)
        if (!s->used[i] && !is_spare(name_of(s, i), spare))
            return FTK_FAIL(s, UNSUPPORTED,
                            "tensor %s is no part of such a head as this build knows it",
                            FTK_SHOW(name_of(s, i)));
    return FTK_OK;
}
