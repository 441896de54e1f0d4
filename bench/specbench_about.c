/* SPDX-License-Identifier: Apache-2.0
 * Which numbers are measured on what. */
#include "specbench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "commit.h"
#include "run.h"

enum { TYPES = 64 };

uint64_t spec_hash(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A name, a type, a size and the ends of the data of each tensor: enough to tell models apart, and
 * they need not be read whole. */
static uint64_t hash_tensors(const ftk_gguf *g)
{
    uint64_t h = SPEC_HASH;
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_tensor_info t;
        ftk_gguf_tensor(g, i, &t);
        const size_t ends = t.size < 64 ? t.size : 64;
        h = spec_hash(h, t.name.p, t.name.n);
        h = spec_hash(h, &t.type, sizeof t.type);
        h = spec_hash(h, &t.size, sizeof t.size);
        h = spec_hash(h, t.data, ends);
        h = spec_hash(h, (const char *)t.data + t.size - ends, ends);
    }
    return h;
}

/* "Q8_0", or "Q4_0 81 %, F16 19 %": the types of the matrices by their bytes. */
static void name_types(const ftk_gguf *g, char *out, size_t n)
{
    uint64_t bytes[TYPES] = {0}, all = 0;
    for (size_t i = 0; i < ftk_gguf_n_tensors(g); i++) {
        ftk_tensor_info t;
        ftk_gguf_tensor(g, i, &t);
        if (t.n_dims < 2 || t.type >= TYPES) continue;
        bytes[t.type] += t.size;
        all += t.size;
    }
    size_t used = 0;
    out[0] = 0;
    for (uint32_t type = 0; type < TYPES && used < n; type++) {
        if (bytes[type] == 0) continue;
        used +=
            (size_t)snprintf(out + used, n - used, "%s%s", used ? ", " : "", ftk_type_name(type));
        if (bytes[type] < all && used < n)
            used += (size_t)snprintf(out + used, n - used, " %.0f %%",
                                     100.0 * (double)bytes[type] / (double)all);
    }
}

static json_t *hex(uint64_t h)
{
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)h);
    return json_string(text);
}

static uint64_t hash_questions(const questions *q)
{
    uint64_t h = SPEC_HASH;
    for (size_t i = 0; i < q->n; i++) {
        h = spec_hash(h, &q->at[i].id, sizeof q->at[i].id);
        h = spec_hash(h, q->at[i].category, strlen(q->at[i].category) + 1);
        for (size_t t = 0; t < q->at[i].n_turns; t++)
            h = spec_hash(h, q->at[i].turns[t], strlen(q->at[i].turns[t]) + 1);
    }
    return h;
}

static json_t *methods_json(const spec_options *o)
{
    json_t *all = json_array();
    for (int i = 0; i < o->n_methods; i++)
        json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:b}", "name", o->methods[i].name,
                                             "drafter", o->methods[i].drafter, "verifier",
                                             o->methods[i].verifier, "lossless",
                                             ftk_drafter_lossless(o->methods[i].drafter) &&
                                                 ftk_verifier_lossless(o->methods[i].verifier)));
    return all;
}

static json_t *names_json(const spec_options *o)
{
    char all[SPEC_MAX_METHODS * sizeof o->methods[0].name] = "";
    for (int i = 0; i < o->n_methods; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? "," : "",
                 o->methods[i].name);
    return json_string(all);
}

/* "small.gguf 0123456789abcdef", or "none". */
static json_t *draft_model_json(void)
{
    const char *path = run_draft_model();
    const ftk_host host = {.log = run_log};
    char all[512] = "none";
    ftk_gguf *g = NULL;
    if (path && ftk_gguf_open(&g, path, &host) != FTK_OK) exit(RUN_FAILED);
    if (g)
        snprintf(all, sizeof all, "%.256s %016llx", base_name(path),
                 (unsigned long long)hash_tensors(g));
    ftk_gguf_free(g);
    return json_string(all);
}

/* "style.gguf 0123456789abcdef", with commas between them, or "none". */
static json_t *adapters_json(void)
{
    const ftk_adapter *list;
    const size_t n = run_loras(&list);
    const ftk_host host = {.log = run_log};
    char all[4096] = "";
    for (size_t i = 0; i < n; i++) {
        ftk_gguf *g;
        if (ftk_gguf_open(&g, list[i].path, &host) != FTK_OK) exit(RUN_FAILED);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%.256s %016llx", i ? ", " : "",
                 base_name(list[i].path), (unsigned long long)hash_tensors(g));
        ftk_gguf_free(g);
    }
    return json_string(n ? all : "none");
}

/* "head.gguf, other, layers 2,15,27", or "none"; names alone, as a folder has no tensors of its
 * own to be hashed. */
static json_t *drafter_files_json(void)
{
    const char *const *paths, *layers;
    const size_t n = run_drafter_files(&paths, &layers);
    char all[4096] = "";
    for (size_t i = 0; i < n; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%.256s", i ? ", " : "",
                 base_name(paths[i]));
    if (n && layers)
        snprintf(all + strlen(all), sizeof all - strlen(all), ", layers %.128s", layers);
    return json_string(n ? all : "none");
}

json_t *spec_settings(const spec_options *o, const questions *q, const ftk_model *m, int threads,
                      size_t n_skipped)
{
    ftk_gguf *g;
    const ftk_host host = {.log = run_log};
    if (ftk_gguf_open(&g, o->model, &host) != FTK_OK) exit(RUN_FAILED);
    char types[128], cpu[128], date[32];
    name_types(g, types, sizeof types);
    const uint64_t contents = hash_tensors(g);
    ftk_gguf_free(g);
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    run_cpu_name(cpu, sizeof cpu);
    const time_t now = time(NULL);
    strftime(date, sizeof date, "%Y-%m-%d %H:%M", localtime(&now));
    json_t *settings = json_pack(
        "{s:s, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:i, s:i, s:i, s:f, s:I, s:i, s:i, s:i, s:s, "
        "s:s, s:s, s:s, s:s}",
        "model", base_name(o->model), "model contents", hex(contents), "adapters", adapters_json(),
        "draft model", draft_model_json(), "drafter files", drafter_files_json(), "questions",
        base_name(o->questions), "questions contents", hex(hash_questions(q)), "methods",
        names_json(o), "max-new", o->max_new, "repeat", o->repeat, "limit", o->limit, "temperature",
        o->temperature, "seed", (json_int_t)o->seed, "threads", threads, "context", o->ctx,
        "warm-up", o->warmup, "template", o->tmpl, "kernels", info.kernels, "CPU", cpu, "device",
        o->device, "commit", FTK_COMMIT);
    json_t *about =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:I, s:I, s:I, s:o}", "name", info.name,
                  "architecture", info.architecture, "weights", types, "parameters",
                  (json_int_t)info.n_params, "weight bytes", (json_int_t)info.weight_bytes, "date",
                  date, "questions", (json_int_t)q->n, "skipped", (json_int_t)n_skipped,
                  "bad lines", (json_int_t)q->bad, "methods", methods_json(o));
    json_t *both =
        settings && about ? json_pack("{s:o, s:o}", "settings", settings, "about", about) : NULL;
    if (!both) run_die("the settings cannot be written down: is the model's name UTF-8?");
    return both;
}
