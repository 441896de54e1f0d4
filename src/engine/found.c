/* SPDX-License-Identifier: Apache-2.0
 * Drafters' files that lie beside the model. Nobody named them, so that nothing that is odd
 * about one ends anything: it is left out, and why is kept for whoever asks for its family. */
#include <stdio.h>
#include <string.h>

#include "base/floats.h"
#include "base/folder.h"
#include "base/mem.h"
#include "model/gguf.h"
#include "session.h"

static const char suffix[] = ".drafter.gguf";

/* ---- a host that keeps the last line, and has the engine's memory */

static void *kept_alloc(void *ctx, size_t size, size_t align)
{
    const ftk_host *h = &((const ftk_engine *)ctx)->host;
    return h->alloc(h->ctx, size, align);
}

static void kept_free(void *ctx, void *p)
{
    const ftk_host *h = &((const ftk_engine *)ctx)->host;
    if (h->free) h->free(h->ctx, p);
}

static void keep_line(void *ctx, ftk_log_level level, const char *line)
{
    ftk_engine *e = ctx;
    if (level == FTK_LOG_ERROR) snprintf(e->found_line, sizeof e->found_line, "%s", line);
}

/* What is opened with it may outlive the call, not the engine. */
static ftk_host keeping_host(ftk_engine *e)
{
    ftk_host h = {.ctx = e, .log = keep_line};
    if (e->host.alloc) h.alloc = kept_alloc, h.free = kept_free;
    return h;
}

/* ---- what was left out */

static bool is_head(int family)
{
    return family >= 0 && ftk_drafter_list[family]->wants & FTK_WANT_MODEL &&
           ftk_drafter_list[family] != &ftk_drafter_draft_model;
}

static bool has_files(int family)
{
    return ftk_drafter_reads_files(family) || is_head(family);
}

/* Says why a file is left out. Nobody can ask for a family that is not built in. */
static void leave_out(ftk_engine *e, const char *stated, int family, ftk_log_level level)
{
    ftk_log(&e->host, level, "a drafter is left out: %s", e->found_line);
    if (e->n_left_out == FTK_MAX_LEFT_OUT || (stated[0] && !has_files(family))) return;
    ftk_left_out *l = &e->left_out[e->n_left_out++];
    l->family = family;
    memcpy(l->line, e->found_line, sizeof l->line);
}

const char *ftk_target_left_out(const ftk_engine *e, const ftk_drafter_ops *ops)
{
    const char *name = ops->family ? ops->family : ops->name;
    const int wanted = ftk_drafter_index(name, strlen(name));
    const char *unknown = NULL;
    for (int i = 0; i < e->n_left_out; i++) {
        const ftk_left_out *l = &e->left_out[i];
        if (l->family == wanted) return l->line;
        if (l->family < 0 && !unknown) unknown = l->line;
    }
    return unknown;
}

/* ---- looking for them */

/* The family that the file's name speaks of, where the file itself does not:
 * "model-s4c.drafter.gguf". */
static int family_by_name(const char *name)
{
    for (int i = 0; ftk_drafter_list[i]; i++)
        if (has_files(i) && strstr(name, ftk_drafter_list[i]->name)) return i;
    return -1;
}

/* The file that a family has already, or NULL. */
static const char *file_of(const ftk_engine *e, int family)
{
    if (is_head(family)) return e->nets[family] ? e->nets[family]->head->source.path : NULL;
    return ftk_drafter_reads_files(family) && e->files[family] ? e->files[family]->path : NULL;
}

/* What a model in stages has no use for. */
static bool is_useless(const ftk_engine *e, int family)
{
    return e->forward.below && family >= 0 && ftk_drafter_list[family]->policy;
}

/* One for another model is nothing to warn of: one folder may hold several models. */
static bool try_file(ftk_engine *e, const char *path, const char *name)
{
    const ftk_host host = keeping_host(e);
    char stated[32], shown[256];
    snprintf(e->found_line, sizeof e->found_line, "%s: cannot be used",
             ftk_gguf_show_path(shown, sizeof shown, path)); /* until there is a better reason */
    ftk_err err = ftk_drafterfile_identify(path, e->model, stated, sizeof stated, &host);
    const int family = stated[0] ? ftk_drafter_index(stated, strlen(stated)) : family_by_name(name);
    if (err == FTK_OK && file_of(e, family)) {
        ftk_log(&e->host, FTK_LOG_INFO, "%s: is left out, as there is a drafter %s already: %s",
                path, stated, file_of(e, family));
        return false;
    }
    const bool of_another = err == FTK_ERR_INVALID && stated[0];
    if (err == FTK_OK) err = ftk_target_add_file(e, path, NULL, &host);
    if (err != FTK_OK)
        leave_out(e, stated, family,
                  of_another || is_useless(e, family) ? FTK_LOG_INFO : FTK_LOG_WARN);
    else
        e->was_found[family] = true;
    return err == FTK_OK;
}

static ftk_err find(ftk_engine *e, const char *beside, int *n_found)
{
    char name[256] = "", after[256] = "", folder[4096], path[4096 + 256];
    *n_found = 0;
    e->n_left_out = 0;
    const char *slash = beside ? strrchr(beside, '/') : NULL;
    const size_t n_folder = slash ? (size_t)(slash - beside) : 0;
    if (n_folder >= sizeof folder) return FTK_OK;
    if (n_folder > 0) memcpy(folder, beside, n_folder);
    folder[n_folder] = 0;
    if (n_folder == 0) strcpy(folder, slash ? "/" : ".");
    while (ftk_folder_next(folder, after, suffix, name, sizeof name)) {
        strcpy(after, name);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        if (try_file(e, path, name)) ++*n_found;
    }
    return FTK_OK;
}

ftk_err ftk_engine_find_drafters(ftk_engine *e, const char *beside, int *n_found)
{
    const ftk_floats floats = ftk_floats_enter();
    return ftk_floats_after(&floats, find(e, beside, n_found));
}
