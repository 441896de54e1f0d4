/* SPDX-License-Identifier: Apache-2.0
 * What the commands share: output, and opening a model. */
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"

/* ---- output */

static int out_errno;

static bool out_check(bool ok)
{
    if (!ok && !out_errno) out_errno = errno ? errno : EIO;
    return ok;
}

bool cli_out(const char *text, size_t n)
{
    if (out_errno) return false;
    errno = 0;
    return out_check(fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0);
}

bool cli_out_model(const char *text, size_t n)
{
    if (n == 0 || !isatty(STDOUT_FILENO)) return cli_out(text, n);
    const size_t most = 4 * n + 8;
    char *shown = cli_array(NULL, most, 1);
    const bool ok = cli_out(shown, ftk_show(text, n, FTK_SHOW_TEXT, shown, most));
    free(shown);
    return ok;
}

/* What JSON leaves as it is and a terminal may not: DEL, U+0080 to U+009F, and marks that turn the
 * order of letters round. They stand in strings alone, so an escape means the same. */
static void escape_json(cli_bytes *out, const char *text)
{
    for (const char *p = text; *p;) {
        const unsigned char *u = (const unsigned char *)p;
        const size_t n = u[0] < 0xc0 ? 1 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
        char shown[24];
        if (ftk_show(p, n, 0, shown, sizeof shown) == n) {
            cli_bytes_add(out, p, n);
        } else {
            const unsigned code = n == 1 ? u[0]
                                  : n == 2
                                      ? (u[0] & 0x1fu) << 6 | (u[1] & 0x3fu)
                                      : (u[0] & 0xfu) << 12 | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu);
            snprintf(shown, sizeof shown, "\\u%04X", code);
            cli_bytes_add(out, shown, strlen(shown));
        }
        p += n;
    }
}

bool cli_out_json(json_t *object)
{
    char *text = json_dumps(object, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    json_decref(object);
    if (!text) {
        cli_say("out of memory");
        exit(CLI_FAILED);
    }
    cli_bytes out = {0};
    escape_json(&out, text);
    cli_bytes_add(&out, "\n", 1);
    free(text);
    const bool ok = cli_out(out.p, out.n);
    cli_bytes_free(&out);
    return ok;
}

int cli_out_status(void)
{
    errno = 0;
    out_check(fflush(stdout) == 0);
    if (!out_errno || out_errno == EPIPE) return CLI_DONE;
    cli_say("cannot write to standard output: %s", strerror(out_errno));
    return CLI_FAILED;
}

/* ---- the library's objects */

double cli_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cli_progress loading;

/* On a terminal a line that is kept up to date and goes away at the end, else one now and then. */
static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    const bool live = isatty(STDERR_FILENO), end = done == total;
    if (!cli_progress_due(&loading, cli_now(), live, end)) return;
    const unsigned long long mib = total >> 20;
    const int percent = (int)(100.0 * (double)done / (double)total);
    if (!live)
        cli_say("preparing %llu MiB of weights, %d %% done", mib, percent);
    else if (end)
        cli_progress_clear();
    else
        cli_progress_show("foretoken: preparing %llu MiB of weights: %d %%", mib, percent);
}

/* The adapters of the command line in list, their paths to be freed. */
static void copy_loras(const cli_options *o, ftk_adapter list[CLI_MAX_LORAS])
{
    for (size_t i = 0; i < o->n_loras; i++) {
        char *path = cli_array(NULL, o->loras[i].n + 1, 1);
        memcpy(path, o->loras[i].path, o->loras[i].n);
        path[o->loras[i].n] = 0;
        list[i] = (ftk_adapter){.path = path, .scale = (float)o->loras[i].scale};
    }
}

int cli_world_open_model(cli_world *w, const cli_options *o)
{
    const char *path = o->model;
    if (path) {
        snprintf(w->path, sizeof w->path, "%s", path);
    } else {
        const int status = cli_best_model(o, w->path, sizeof w->path);
        if (status != CLI_DONE) return status;
        path = w->path;
    }
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = cli_host();
    cfg.kernels = o->kernels;
    cfg.progress = show_progress;
    cfg.vocabulary_only = o->command == CLI_TOKENIZE;
    ftk_adapter adapters[CLI_MAX_LORAS];
    copy_loras(o, adapters);
    cfg.adapters = adapters;
    cfg.n_adapters = o->n_loras;
    if (o->link) {
        cfg.stage = o->link->rank;
        cfg.n_stages = o->link->size;
    }
    loading = (cli_progress){.began = cli_now()};
    const ftk_err err = ftk_model_load(&w->model, path, &cfg);
    cli_progress_clear();
    for (size_t i = 0; i < o->n_loras; i++) free((char *)(uintptr_t)adapters[i].path);
    if (err != FTK_OK) {
        cli_fail(err, path);
        const bool kernels = o->kernels && o->n_loras == 0; /* an adapter may be INVALID, too */
        return err == FTK_ERR_INVALID && kernels ? CLI_USAGE : CLI_FAILED;
    }
    ftk_model_get_info(w->model, &w->info);
    return CLI_DONE;
}

int cli_world_open_engine(cli_world *w, const cli_options *o, int kv_slots, bool measure)
{
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = (int)o->threads;
    cfg.kv_slots = kv_slots;
    cfg.measure = measure;
    cfg.device = o->device;
    cfg.wide_prefill = o->wide_prefill;
    cfg.link = o->link;
    cfg.kv_type = strcmp(o->kv, "q8_0") == 0  ? FTK_TYPE_Q8_0
                  : strcmp(o->kv, "f32") == 0 ? FTK_TYPE_F32
                                              : FTK_TYPE_F16;
    const int ctx = o->command == CLI_SERVE ? (int)o->ctx : kv_slots; /* of one text */
    if (ctx > w->info.n_ctx_train)
        cli_say("-c %d is more than the %d tokens this model was trained for; "
                "what lies beyond may turn out poor",
                ctx, w->info.n_ctx_train);
    const ftk_err err = ftk_engine_open(&w->engine, w->model, &cfg);
    if (err == FTK_OK) return CLI_DONE;
    cli_fail(err, "the engine could not be opened");
    return err == FTK_ERR_INVALID && o->device ? CLI_USAGE : CLI_FAILED;
}

int cli_world_add_drafters(cli_world *w, const cli_options *o)
{
    if (o->command != CLI_CHAT && strcmp(o->drafter, "none") == 0 && o->n_drafter_files == 0 &&
        !o->draft_model)
        return CLI_DONE;
    ftk_err err = FTK_OK;
    ftk_drafter_config cfg;
    ftk_drafter_config_init(&cfg);
    cfg.layers = o->layers;
    cfg.n_layers = o->n_layers;
    for (size_t i = 0; i < o->n_drafter_files && err == FTK_OK; i++)
        err = ftk_engine_add_drafter_as(w->engine, o->drafter_files[i], &cfg);
    if (err == FTK_OK && o->draft_model)
        err = ftk_engine_add_draft_model(w->engine, o->draft_model);
    int found;
    if (err == FTK_OK) err = ftk_engine_find_drafters(w->engine, w->path, &found);
    for (const char *const *name = ftk_drafters(); *name && err == FTK_OK; name++) {
        const char *about = ftk_engine_drafter_about(w->engine, *name);
        if (about) cli_say("drafter %s: %s", *name, about);
    }
    return err == FTK_OK ? CLI_DONE : cli_fail(err, "a drafter could not be opened");
}

int cli_world_open_session(cli_world *w, const cli_options *o)
{
    const int added = cli_world_add_drafters(w, o);
    if (added != CLI_DONE) return added;
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = o->drafter;
    cfg.verifier = o->verifier;
    cfg.budget = (int)o->budget;
    cfg.shape = strcmp(o->tree, "paper") == 0   ? FTK_TREE_PAPER
                : strcmp(o->tree, "chain") == 0 ? FTK_TREE_CHAIN
                                                : FTK_TREE_FITTED;
    cfg.ignore_end = o->ignore_eos;
    cfg.sampling.temperature = (float)o->temp;
    cfg.sampling.top_k = (int)o->top_k;
    cfg.sampling.top_p = (float)o->top_p;
    cfg.sampling.min_p = (float)o->min_p;
    cfg.sampling.repeat_penalty = (float)o->repeat_penalty;
    cfg.sampling.presence_penalty = (float)o->presence_penalty;
    cfg.sampling.frequency_penalty = (float)o->frequency_penalty;
    cfg.sampling.seed = o->seed;
    ftk_err err = ftk_session_open(&w->session, w->engine, &cfg);
    if (err == FTK_OK) err = ftk_session_set_bias(w->session, o->biases, o->n_biases);
    if (err == FTK_OK && !ftk_verifier_lossless(o->verifier))
        cli_say("verifier %s is lossy: above temperature 0 drafts change what the model says",
                o->verifier);
    if (err == FTK_OK) cli_warn_of_drafter(o->drafter);
    return err == FTK_OK ? CLI_DONE : cli_fail(err, "the session could not be opened");
}

void cli_warn_of_drafter(const char *drafter)
{
    if (!ftk_drafter_lossless(drafter))
        cli_say("drafter %s is lossy: it leaves out layers, which changes what the model says",
                drafter);
}

bool cli_lossless(const char *drafter, const char *verifier)
{
    return ftk_drafter_lossless(drafter) && ftk_verifier_lossless(verifier);
}

void cli_world_close(cli_world *w)
{
    ftk_session_free(w->session);
    ftk_engine_free(w->engine);
    ftk_model_free(w->model);
    cli_bytes_free(&w->chat_source);
    *w = (cli_world){0};
}

ftk_err cli_tokenize(const cli_world *w, const char *text, size_t n, unsigned flags,
                     int32_t **tokens, size_t *n_tokens)
{
    *tokens = NULL;
    ftk_err err = ftk_tokenize(w->model, text, n, flags, NULL, 0, n_tokens);
    if (err != FTK_OK && err != FTK_ERR_SPACE) return err;
    const size_t cap = *n_tokens;
    *tokens = cli_array(NULL, cap, sizeof **tokens);
    return ftk_tokenize(w->model, text, n, flags, *tokens, cap, n_tokens);
}

ftk_err cli_chat_tokenize(const cli_world *w, const ftk_message *msgs, size_t n_msgs,
                          int32_t **tokens, size_t *n_tokens)
{
    *tokens = NULL;
    ftk_err err = ftk_chat_tokenize_as(w->model, &w->chat, msgs, n_msgs, NULL, 0, n_tokens);
    if (err != FTK_OK && err != FTK_ERR_SPACE) return err;
    const size_t cap = *n_tokens;
    *tokens = cli_array(NULL, cap, sizeof **tokens);
    return ftk_chat_tokenize_as(w->model, &w->chat, msgs, n_msgs, *tokens, cap, n_tokens);
}

int64_t cli_local_now(void)
{
    const time_t t = time(NULL);
    struct tm local;
    return localtime_r(&t, &local) ? (int64_t)timegm(&local) : (int64_t)t;
}

static bool read_template(cli_world *w, const char *path)
{
    if (!cli_bytes_read(&w->chat_source, path)) return false;
    cli_bytes_add(&w->chat_source, "", 0);
    w->chat.source = w->chat_source.p;
    if (strlen(w->chat_source.p) == w->chat_source.n) return true;
    cli_say("%s holds a NUL byte; give a text file with a Jinja template", path);
    return false;
}

int cli_world_open_chat(cli_world *w, const cli_options *o)
{
    ftk_chat_config_init(&w->chat);
    w->chat.now = cli_local_now();
    w->chat.vars = o->template_vars;
    w->chat.tmpl = o->template_name ? o->template_name : w->info.chat_template;
    if (o->template_file) return read_template(w, o->template_file) ? CLI_DONE : CLI_FAILED;
    if (!o->template_name && !w->info.has_chat_template)
        cli_say("the model has no chat template; %s is used, which goes by its vocabulary; another "
                "one can be chosen with --template",
                w->chat.tmpl);
    return CLI_DONE;
}

const char *cli_chat_stop(const cli_world *w)
{
    return w->chat.source ? NULL : ftk_chat_stop(w->chat.tmpl);
}
